//! From a bare connection to a queue: the Connect command (Base 2.0d, 6.3) and the properties that start a controller.
use super::{
    auth,
    connection::{self, Bound, Connection, Reply},
    controller::{Controller, Queue},
    features::Features,
    options::DupHostPolicy,
    session::Command,
    shared::Shared,
    subsystem::Subsystem,
};
use bdev::Io;
use spec::nvme::{
    DISCOVERY_NQN, Sqe, Status,
    auth::AUTH_REQUIRED,
    command,
    fabrics::{Connect, ConnectData, Property, fctype, invalid},
    nqn_is_valid,
    property::{self, Cc},
};
use std::{rc::Rc, sync::Arc};
use zerocopy::{FromZeros, IntoBytes};

/// A refused Connect that names the parameter.
fn wrong(parameter: u32) -> Reply {
    Reply::fail_with(Status::CONNECT_INVALID_PARAMETERS, parameter)
}

/// Runs a command on a connection that is no queue yet. Success gives the queue and the result: the controller id,
/// and whether the queue must be authenticated.
pub async fn run(connection: &Rc<Connection>, slot: u16, command: &Command) -> Result<((Bound, Connect), u32), Reply> {
    let sqe = &command.sqe;
    if !command.fault.is_success() {
        return Err(Reply::fail(command.fault));
    }
    if sqe.opcode != command::FABRICS || sqe.fctype() != fctype::CONNECT {
        return Err(Reply::fail(Status::COMMAND_SEQUENCE_ERROR));
    }
    let connect = Connect::of(sqe);
    let buf = connection.buffer_of(slot);
    if connect.format != 0 {
        return Err(Reply::fail(Status::CONNECT_INCOMPATIBLE_FORMAT));
    }
    if buf.len() != size_of::<ConnectData>() {
        return Err(Reply::fail(Status::DATA_SGL_LENGTH_INVALID));
    }
    let mut data = ConnectData::new_zeroed();
    buf.read_at(0, data.as_mut_bytes());
    let host = data
        .hostnqn()
        .filter(|nqn| nqn_is_valid(nqn))
        .ok_or(wrong(invalid::DATA_HOSTNQN))?;
    let nqn = data.subnqn().ok_or(wrong(invalid::DATA_SUBNQN))?;
    // Who has come by TLS is who its key says, and gets what its key is for.
    if let Some(proven) = connection.proven() {
        if proven.host != host {
            return Err(wrong(invalid::DATA_HOSTNQN));
        }
        if proven.subsystem != nqn {
            return Err(wrong(invalid::DATA_SUBNQN));
        }
    }
    let bound = match connect.qid {
        0 => admin_queue(connection, &connect, &data, nqn, host)?,
        qid => io_queue(connection, qid, &connect, &data, nqn, host)?,
    };
    let required = if bound.lock.is_open() {
        0
    } else {
        auth::publish(connection, &bound);
        AUTH_REQUIRED
    };
    let granted = u32::from(bound.controller.cntlid) | required;
    Ok(((bound, connect), granted))
}

fn queue_of(connection: &Connection) -> Queue {
    Queue {
        core: reactor::core(),
        connection: connection.id,
        local: connection.local,
        peer: connection.peer,
        suite: connection.suite(),
        psk: connection.made(),
        auth: None,
    }
}

/// A new controller.
fn admin_queue(
    connection: &Connection,
    connect: &Connect,
    data: &ConnectData,
    nqn: &str,
    host: &str,
) -> Result<Bound, Reply> {
    let shared = &connection.shared;
    let transport = shared.transport();
    if connect.sqsize == 0 || u32::from(connect.sqsize) >= transport.max_aq_depth {
        return Err(wrong(invalid::SQSIZE));
    }
    if data.cntlid.get() != 0xffff {
        // Controllers are made on connect; there are none to choose from.
        return Err(wrong(invalid::DATA_CNTLID));
    }
    let kato = transport.keep_alive_ms(connect.keep_alive_ms);
    let now = reactor::now().0;
    let features = Features::new(kato, transport.max_io_qpairs_per_ctrlr, now);
    let make = |cntlid, subsystem| {
        let queue = queue_of(connection);
        Arc::new(Controller::new(
            cntlid,
            subsystem,
            host.to_owned(),
            data.host_id,
            features,
            queue,
            now,
        ))
    };
    if nqn == DISCOVERY_NQN {
        let mut state = shared.state();
        let cntlid = state.next_discovery;
        state.next_discovery = if cntlid >= 0xffef { 1 } else { cntlid + 1 };
        let controller = make(cntlid, None);
        state.discoverers.push(controller.clone());
        return Ok(Bound::new(controller, 0, connection.made()));
    }
    let (subsystem, policy) = {
        let state = shared.state();
        (state.subsystems.get(nqn).cloned(), state.config.dup_host_policy)
    };
    let subsystem = subsystem.ok_or(wrong(invalid::DATA_SUBNQN))?;
    let mut inner = subsystem.inner();
    if inner.closing || !inner.listens_on(connection.local) {
        return Err(wrong(invalid::DATA_SUBNQN));
    }
    if !inner.allows(host) {
        return Err(Reply::fail_with(Status::CONNECT_INVALID_HOST, 0));
    }
    if policy == DupHostPolicy::RestrictPerListener {
        let way = |local| inner.listener_at(local).map(|listener| listener.port_id);
        let here = way(connection.local);
        let mut others = inner.controllers.values();
        if others.any(|c| c.hostid == data.host_id && c.hostnqn == host && way(c.local) == here) {
            // Without DNR: a host that lost its connection gets in when the old one has been missed.
            return Err(Reply::fail(Status::CONNECT_CONTROLLER_BUSY));
        }
    }
    let cntlid = inner
        .choose_cntlid(&subsystem.config)
        .ok_or(Reply::fail(Status::CONNECT_CONTROLLER_BUSY))?;
    let controller = make(cntlid, Some(subsystem.clone()));
    inner.controllers.insert(cntlid, controller.clone());
    drop(inner);
    Ok(Bound::new(controller, 0, connection.made()))
}

/// One more queue of a controller.
fn io_queue(
    connection: &Connection,
    qid: u16,
    connect: &Connect,
    data: &ConnectData,
    nqn: &str,
    host: &str,
) -> Result<Bound, Reply> {
    let shared = &connection.shared;
    let transport = shared.transport();
    let subsystem = shared
        .state()
        .subsystems
        .get(nqn)
        .cloned()
        .ok_or(wrong(invalid::DATA_SUBNQN))?;
    let (controller, allowed) = {
        let inner = subsystem.inner();
        (inner.controllers.get(&data.cntlid.get()).cloned(), inner.allows(host))
    };
    let controller = controller.ok_or(wrong(invalid::DATA_CNTLID))?;
    if controller.hostnqn != host {
        return Err(wrong(invalid::DATA_HOSTNQN));
    }
    if controller.hostid != data.host_id {
        return Err(wrong(invalid::DATA_HOSTID));
    }
    if !allowed {
        return Err(Reply::fail_with(Status::CONNECT_INVALID_HOST, 0));
    }
    if connect.sqsize == 0 || u32::from(connect.sqsize) >= transport.max_queue_depth {
        return Err(wrong(invalid::SQSIZE));
    }
    {
        let mut state = controller.state();
        if !state.is_ready() {
            return Err(Reply::fail(Status::COMMAND_SEQUENCE_ERROR));
        }
        if qid > state.features.io_queues || state.queues.contains_key(&qid) {
            return Err(wrong(invalid::QID));
        }
        state.queues.insert(qid, queue_of(connection));
    }
    Ok(Bound::new(controller, qid, connection.made()))
}

/// A queue's connection is gone. With the admin queue goes the controller, and with it all its queues.
pub fn leave(connection: &Connection, bound: &Bound) {
    let controller = &bound.controller;
    let queues: Vec<Queue> = {
        let mut state = controller.state();
        match bound.qid {
            0 => std::mem::take(&mut state.queues).into_values().collect(),
            // A reset may have taken the queue out already, and a new one may have its number.
            qid if state.queues.get(&qid).is_some_and(|q| q.connection == connection.id) => {
                state.queues.remove(&qid);
                return;
            }
            _ => return,
        }
    };
    connection
        .shared
        .close(queues.into_iter().filter(|q| q.connection != connection.id));
    match &controller.subsystem {
        Some(subsystem) => {
            subsystem.inner().controllers.remove(&controller.cntlid);
        }
        None => connection
            .shared
            .state()
            .discoverers
            .retain(|c| !Arc::ptr_eq(c, controller)),
    }
}

/// Fabrics commands on an I/O queue: none that we know (Disconnect is optional, and we do not announce it).
pub fn on_io_queue(sqe: &Sqe) -> Reply {
    match sqe.fctype() {
        fctype::CONNECT => Reply::fail(Status::COMMAND_SEQUENCE_ERROR),
        _ => Reply::fail(Status::INVALID_FIELD),
    }
}

/// Fabrics commands on the admin queue.
pub async fn on_admin_queue(connection: &Rc<Connection>, bound: &Bound, sqe: &Sqe) -> Reply {
    let property = || Property::of(sqe).ok_or(Reply::fail(Status::INVALID_FIELD));
    match sqe.fctype() {
        fctype::PROPERTY_GET => match property() {
            Ok(p) => get(&connection.shared, &bound.controller, p),
            Err(reply) => reply,
        },
        fctype::PROPERTY_SET => match property() {
            Ok(p) => set(connection, &bound.controller, p).await,
            Err(reply) => reply,
        },
        fctype::CONNECT => Reply::fail(Status::COMMAND_SEQUENCE_ERROR),
        _ => Reply::fail(Status::INVALID_FIELD),
    }
}

/// CAP. Readiness needs no time of its own; hosts multiply the timeout, so it is not zero.
fn cap(shared: &Shared, controller: &Controller) -> property::Cap {
    property::Cap {
        subsystem_reset: resettable(controller).is_some(),
        max_queue_entries: shared.transport().max_queue_depth,
        timeout_500ms: 30,
        command_sets: true,
    }
}

fn get(shared: &Shared, controller: &Controller, p: Property) -> Reply {
    let value = match (p.offset, p.wide) {
        (property::CAP, true) => cap(shared, controller).value(),
        (property::VS, false) => property::VERSION_2_0.into(),
        (property::CC, false) => controller.state().cc.0.into(),
        (property::CSTS, false) => controller.state().csts.into(),
        // Reads as zero (Base 2.0d, 3.1.3.9).
        (property::NSSR, false) => 0,
        // CRWMT: the same 15 seconds as CAP.TO.
        (property::CRTO, false) => 30,
        _ => return Reply::fail(Status::INVALID_FIELD),
    };
    Reply::word(value)
}

/// The subsystem, if its hosts may reset it.
fn resettable(controller: &Controller) -> Option<&Arc<Subsystem>> {
    controller.subsystem.as_ref().filter(|s| s.config.enable_nssr)
}

/// CSTS: only NSSRO can be written, and that clears it.
fn take_note(controller: &Controller, value: u32) -> Reply {
    if resettable(controller).is_none() {
        return Reply::fail(Status::INVALID_FIELD);
    }
    controller.state().csts &= !(value & property::CSTS_SUBSYSTEM_RESET);
    Reply::done()
}

/// NSSR (Base 2.0d, 3.7.1): every controller of the subsystem is disabled and loses its I/O queues; their admin queues stay,
/// so that hosts find out (CSTS.NSSRO) and start again. What was acknowledged stays acknowledged.
async fn subsystem_reset(connection: &Rc<Connection>, controller: &Controller, value: u32) -> Reply {
    let Some(subsystem) = resettable(controller) else {
        return Reply::fail(Status::INVALID_FIELD);
    };
    if value != property::NSSR_RESET {
        return Reply::done();
    }
    tracing::warn!(
        nqn = subsystem.nqn(),
        host = controller.hostnqn,
        "a host resets the NVM subsystem"
    );
    let shared = &connection.shared;
    let granted = shared.transport().max_io_qpairs_per_ctrlr;
    let controllers: Vec<Arc<Controller>> = subsystem.inner().controllers.values().cloned().collect();
    for controller in controllers {
        let (admin, io) = {
            let mut state = controller.state();
            state.subsystem_reset(Features::new(0, granted, reactor::now().0));
            (state.queues.get(&0).copied(), state.take_io_queues())
        };
        shared.close(io);
        if let Some(admin) = admin {
            let end = shared.reactors.call(admin.core, move || async move {
                connection::forget_events(admin.connection);
            });
            end.await;
        }
    }
    Reply::done()
}

async fn set(connection: &Rc<Connection>, controller: &Arc<Controller>, p: Property) -> Reply {
    match (p.offset, p.wide) {
        (property::CC, false) => {}
        (property::CSTS, false) => return take_note(controller, p.value as u32),
        (property::NSSR, false) => return subsystem_reset(connection, controller, p.value as u32).await,
        _ => return Reply::fail(Status::INVALID_FIELD),
    }
    let cc = Cc(p.value as u32);
    let old = controller.state().cc;
    if cc.enabled() && !old.enabled() {
        let entries_fit = controller.is_discovery() || (cc.sqes(), cc.cqes()) == (6, 4);
        let set_known = matches!(cc.command_set(), 0 | 6 | 7);
        let mut state = controller.state();
        state.cc = cc;
        if entries_fit && set_known && cc.page_shift() == 0 && cc.arbitration() == 0 {
            state.csts = property::CSTS_READY;
        } else {
            // A value CAP does not offer: the controller does not become ready (Base 2.0d, 3.1.3.5).
            state.csts = property::CSTS_FATAL;
        }
        return Reply::done();
    }
    if cc.shutdown() != 0 && old.shutdown() == 0 {
        controller.state().csts |= property::CSTS_SHUTDOWN_BUSY;
        // What the host's last writes left in caches goes to the media before shutdown is complete.
        let mut clean = true;
        for space in connection.visible_spaces() {
            clean &= space.disk.perform(Io::flush()).await.is_ok() || space.disk.geometry().read_only;
        }
        if !clean {
            tracing::warn!(
                host = controller.hostnqn,
                "a namespace could not be flushed at shutdown"
            );
        }
        let mut state = controller.state();
        state.csts = state.csts & !property::CSTS_SHUTDOWN_BUSY | property::CSTS_SHUTDOWN_DONE;
    }
    let queues = {
        let mut state = controller.state();
        state.cc = cc;
        if old.enabled() && !cc.enabled() {
            let granted = connection.shared.transport().max_io_qpairs_per_ctrlr;
            state.reset(Features::new(0, granted, reactor::now().0));
            state.take_io_queues()
        } else {
            Vec::new()
        }
    };
    connection.shared.close(queues);
    if old.enabled() && !cc.enabled() {
        connection.forget_events();
    }
    Reply::done()
}
