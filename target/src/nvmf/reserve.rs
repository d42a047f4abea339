//! The reservation commands of an I/O queue, and what follows from them for other hosts.
use super::{
    connection::{self, Connection, Reply},
    controller::{Controller, Queue},
    reservation::{Effects, HostId, Reservations},
    session::Command,
    shared::Shared,
    space::Space,
    subsystem::Subsystem,
};
use spec::nvme::{
    Status,
    command::io,
    reservation::{Acquire, Keys, Register, Registered, Release, Report, report_room, wants_extended},
};
use std::{rc::Rc, sync::Arc};
use zerocopy::{FromZeros, IntoBytes};

/// Runs one of the four commands.
pub async fn run(connection: &Rc<Connection>, slot: u16, command: &Command, space: &Rc<Space>) -> Reply {
    let Some(controller) = connection.controller() else {
        return Reply::fail(Status::COMMAND_SEQUENCE_ERROR);
    };
    let Some(subsystem) = &controller.subsystem else {
        return Reply::fail(Status::INVALID_OPCODE);
    };
    if command.sqe.opcode == io::RESERVATION_REPORT {
        return report(connection, slot, command, space, subsystem).await;
    }
    match change(connection, slot, command, space, controller).await {
        Ok(effects) => {
            follow(&connection.shared, subsystem, space.nsid, effects).await;
            Reply::done()
        }
        Err(status) => Reply::fail(status),
    }
}

async fn change(
    connection: &Connection,
    slot: u16,
    command: &Command,
    space: &Space,
    controller: &Controller,
) -> Result<Effects, Status> {
    let (sqe, host) = (&command.sqe, controller.hostid);
    let data = connection.buffer_of(slot);
    let mut keys = Keys::new_zeroed();
    // Release sends one key, the others two.
    let len = if sqe.opcode == io::RESERVATION_RELEASE { 8 } else { 16 };
    if data.len() < len {
        return Err(Status::DATA_SGL_LENGTH_INVALID);
    }
    data.slice(0..len).read_at(0, &mut keys.as_mut_bytes()[..len]);
    let change = |reservations: &mut Reservations| match sqe.opcode {
        io::RESERVATION_REGISTER => {
            let ask = Register::of(sqe).ok_or(Status::INVALID_FIELD)?;
            reservations.register(host, ask, keys)
        }
        io::RESERVATION_ACQUIRE => {
            let ask = Acquire::of(sqe).ok_or(Status::INVALID_FIELD)?;
            reservations.acquire(host, ask, keys)
        }
        _ => {
            let ask = Release::of(sqe).ok_or(Status::INVALID_FIELD)?;
            reservations.release(host, ask, keys.current.get())
        }
    };
    // A namespace without a file refuses to let anything outlive a power loss (RESCAP bit 0 is zero).
    space.guard.reserve(change).await
}

/// Tells the hosts that lost something, and ends their commands on the namespace if that was asked for.
async fn follow(shared: &Arc<Shared>, subsystem: &Subsystem, nsid: u32, effects: Effects) {
    if effects == Effects::default() {
        return;
    }
    let controllers: Vec<Arc<Controller>> = subsystem.inner().controllers.values().cloned().collect();
    let of = |host: HostId| controllers.iter().filter(move |c| c.hostid == host);
    let wake = effects
        .notices
        .iter()
        .flat_map(|&(host, notice)| of(host).filter_map(move |c| c.reservation_changed(nsid, notice)))
        .collect();
    shared.wake_all(wake);
    let queues: Vec<Queue> = effects
        .abort
        .iter()
        .flat_map(|&host| of(host).flat_map(|c| c.state().io_queues()))
        .collect();
    for queue in queues {
        let end = shared
            .reactors
            .call(queue.core, move || connection::abort_all(queue.connection, nsid));
        end.await;
    }
}

async fn report(
    connection: &Rc<Connection>,
    slot: u16,
    command: &Command,
    space: &Space,
    subsystem: &Subsystem,
) -> Reply {
    let sqe = &command.sqe;
    if !wants_extended(sqe) {
        // Fabrics hosts have 16-byte identifiers, which the short form has no room for (Base 2.0d, 7.7).
        return Reply::fail(Status::HOST_ID_INCONSISTENT);
    }
    let room = report_room(sqe);
    if room > connection.max_io() as u64 {
        return Reply::fail(Status::INVALID_FIELD);
    }
    if u64::from(sqe.sgl.length.get()) < room {
        return Reply::fail(Status::DATA_SGL_LENGTH_INVALID);
    }
    let controllers: Vec<(HostId, u16)> = {
        let inner = subsystem.inner();
        inner.controllers.values().map(|c| (c.hostid, c.cntlid)).collect()
    };
    let bytes = space.guard.look(|r| {
        let mut registered = Vec::new();
        for (host, &key) in &r.registrants {
            let mut ids: Vec<u16> = controllers.iter().filter(|(id, _)| id == host).map(|c| c.1).collect();
            if ids.is_empty() {
                ids.push(0xffff);
            }
            let holds = r.holds(host);
            registered.extend(ids.into_iter().map(|id| Registered::new(id, holds, key, *host)));
        }
        let report = Report {
            generation: r.generation,
            kind: r.held.map(|(kind, _)| kind),
            persists: r.persists,
            registered,
        };
        report.encode()
    });
    let len = bytes.len().min(room as usize);
    let buf = connection.room(slot, room as usize).await;
    let mut whole = vec![0; room as usize];
    whole[..len].copy_from_slice(&bytes[..len]);
    buf.write_at(0, &whole);
    Reply::data(room as u32)
}
