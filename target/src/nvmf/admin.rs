//! Admin commands on queue 0.
use super::{
    connect,
    connection::{self, Bound, Connection, Reply},
    controller::Controller,
    discovery,
    features::{Answer, Features, Policy},
    identify, logs,
    reservation::{Effects, Reservations},
    session::Command,
    subsystem::Namespace,
};
use bdev::Geometry;
use spec::nvme::{
    NSID_ALL, Sqe, Status,
    command::{self, admin},
    feature::fid,
    identify::{LEN, cns, controller_list, namespace_list},
    log::{GetLogPage, page},
};
use std::rc::Rc;
use zerocopy::IntoBytes;

/// Runs one command. Data for the host is left in the slot's buffer.
pub async fn run(connection: &Rc<Connection>, bound: &Bound, slot: u16, command: &Command) -> Reply {
    let sqe = &command.sqe;
    if sqe.opcode == command::FABRICS {
        return connect::on_admin_queue(connection, bound, sqe).await;
    }
    if !bound.controller.state().is_ready() {
        // Everything but fabrics commands needs CC.EN (Base 2.0d, 3.5.1).
        return Reply::fail(Status::COMMAND_SEQUENCE_ERROR);
    }
    let discovery = bound.controller.is_discovery();
    let done = match sqe.opcode {
        admin::IDENTIFY => identify(connection, bound, slot, sqe).await,
        admin::GET_LOG_PAGE => log_page(connection, bound, slot, sqe).await,
        admin::GET_FEATURES => get_features(connection, bound, slot, sqe).await,
        admin::SET_FEATURES => set_features(connection, bound, slot, sqe).await,
        admin::ASYNC_EVENT_REQUEST => return event(connection, slot),
        admin::KEEP_ALIVE => {
            bound.controller.saw(reactor::now().0);
            Ok(Reply::done())
        }
        admin::ABORT if !discovery => Ok(abort(connection, bound, sqe).await),
        _ => Err(Status::INVALID_OPCODE),
    };
    done.unwrap_or_else(Reply::fail)
}

/// Puts `bytes` into the slot's buffer, as many as the host has room for.
async fn give(connection: &Rc<Connection>, slot: u16, sqe: &Sqe, bytes: &[u8]) -> Result<Reply, Status> {
    let room = sqe.sgl.length.get() as usize;
    if room < bytes.len() {
        return Err(Status::DATA_SGL_LENGTH_INVALID);
    }
    connection.room(slot, bytes.len()).await.write_at(0, bytes);
    Ok(Reply::data(bytes.len() as u32))
}

// ---- Identify ----

/// The namespace `nsid` if this controller's host may see it, with its geometry on this core.
fn namespace(connection: &Connection, controller: &Controller, nsid: u32) -> Option<(Namespace, Geometry)> {
    let namespace = controller.subsystem.as_ref()?.inner().namespaces.get(&nsid).cloned()?;
    let space = connection.space(nsid)?;
    namespace
        .visible_to(&controller.hostnqn)
        .then(|| (namespace, space.disk.geometry()))
}

/// Ids of the namespaces this controller's host may see.
fn visible(controller: &Controller) -> Vec<u32> {
    let Some(subsystem) = &controller.subsystem else {
        return Vec::new();
    };
    let inner = subsystem.inner();
    inner
        .namespaces
        .iter()
        .filter(|(_, n)| n.visible_to(&controller.hostnqn))
        .map(|(&nsid, _)| nsid)
        .collect()
}

async fn identify(connection: &Rc<Connection>, bound: &Bound, slot: u16, sqe: &Sqe) -> Result<Reply, Status> {
    let controller = &bound.controller;
    let (what, set, nsid) = (sqe.cdw1(0) as u8, (sqe.cdw1(1) >> 24) as u8, sqe.nsid.get());
    if controller.is_discovery() && what != cns::CONTROLLER {
        return Err(Status::INVALID_FIELD);
    }
    let nvm = |set| {
        if set == 0 {
            Ok(())
        } else {
            Err(Status::IO_COMMAND_SET_NOT_SUPPORTED)
        }
    };
    let in_range = || {
        let max = controller.subsystem.as_ref().map_or(0, |s| s.config.max_namespaces);
        if (1..=max).contains(&nsid) {
            Ok(())
        } else {
            Err(Status::INVALID_NAMESPACE)
        }
    };
    let bytes: [u8; LEN] = match what {
        cns::CONTROLLER => {
            let shared = &connection.shared;
            let delays = shared.state().delays;
            copy(identify::controller(controller, &shared.transport(), delays).as_bytes())
        }
        // What every namespace has in common: nothing worth telling but the shape of the list of formats.
        cns::NAMESPACE if nsid == NSID_ALL => [0; LEN],
        cns::NAMESPACE | cns::ALLOCATED_NAMESPACE => {
            in_range()?;
            // An id that is valid and has no namespace is all zeroes (Base 2.0d, 5.17.2.1).
            namespace(connection, controller, nsid).map_or([0; LEN], |(n, g)| {
                let (ana, most) = (reports_ana(controller), connection.max_io() as u32);
                copy(identify::namespace(&n, &g, ana, most, connection.masked().0).as_bytes())
            })
        }
        cns::NAMESPACE_IN_COMMAND_SET => {
            nvm(set)?;
            in_range()?;
            // No protection information, no extended formats: zeroes.
            [0; LEN]
        }
        cns::NAMESPACE_ANY_COMMAND_SET => {
            in_range()?;
            let (namespace, geometry) = namespace(connection, controller, nsid).ok_or(Status::INVALID_NAMESPACE)?;
            copy(
                identify::independent(&namespace, &geometry, reports_ana(controller), connection.masked().0).as_bytes(),
            )
        }
        cns::ACTIVE_NAMESPACES | cns::ACTIVE_NAMESPACES_IN_COMMAND_SET => {
            if what == cns::ACTIVE_NAMESPACES_IN_COMMAND_SET {
                nvm(set)?;
            }
            if nsid >= NSID_ALL - 1 {
                return Err(Status::INVALID_NAMESPACE);
            }
            namespace_list(visible(controller).into_iter(), nsid)
        }
        cns::NAMESPACE_DESCRIPTORS => {
            in_range()?;
            let (namespace, _) = namespace(connection, controller, nsid).ok_or(Status::INVALID_NAMESPACE)?;
            namespace.ids().descriptors()
        }
        cns::CONTROLLER_IN_COMMAND_SET => {
            nvm(set)?;
            let subsystem = controller.subsystem.as_ref().ok_or(Status::INVALID_FIELD)?;
            copy(identify::nvm_controller(&subsystem.config, connection.max_io() as u32).as_bytes())
        }
        // No namespace exists that is not attached: OACS knows no namespace management.
        cns::ALLOCATED_NAMESPACES => {
            if nsid >= NSID_ALL - 1 {
                return Err(Status::INVALID_NAMESPACE);
            }
            namespace_list(visible(controller).into_iter(), nsid)
        }
        cns::NAMESPACE_CONTROLLERS | cns::CONTROLLERS => {
            let first = (sqe.cdw1(0) >> 16) as u16;
            let subsystem = controller.subsystem.as_ref().ok_or(Status::INVALID_FIELD)?;
            let inner = subsystem.inner();
            let on_namespace = match what {
                cns::CONTROLLERS => None,
                _ => Some(inner.namespaces.get(&nsid).ok_or(Status::INVALID_FIELD)?),
            };
            let sees = |c: &Controller| on_namespace.is_none_or(|n| n.visible_to(&c.hostnqn));
            let all = inner.controllers.range(first..).filter(|(_, c)| sees(c));
            controller_list(all.map(|(&id, _)| id))
        }
        cns::COMMAND_SETS => {
            // One combination: the NVM command set alone.
            let mut sets = [0; LEN];
            sets[0] = 1;
            sets
        }
        _ => return Err(Status::INVALID_FIELD),
    };
    give(connection, slot, sqe, &bytes).await
}

fn reports_ana(controller: &Controller) -> bool {
    controller.subsystem.as_ref().is_some_and(|s| s.config.ana_reporting)
}

fn copy(bytes: &[u8]) -> [u8; LEN] {
    let mut page = [0; LEN];
    page[..bytes.len()].copy_from_slice(bytes);
    page
}

// ---- logs ----

async fn log_page(connection: &Rc<Connection>, bound: &Bound, slot: u16, sqe: &Sqe) -> Result<Reply, Status> {
    let ask = GetLogPage::of(sqe);
    if ask.index || !ask.offset.is_multiple_of(4) {
        return Err(Status::INVALID_FIELD);
    }
    if ask.len > connection.max_io() as u64 {
        return Err(Status::INVALID_FIELD);
    }
    let controller = &bound.controller;
    let log = match ask.page {
        page::DISCOVERY if controller.is_discovery() => {
            discovery::log(&connection.shared, &controller.hostnqn, controller.local)
        }
        _ => logs::page(controller, &ask, sqe.nsid.get(), connection.masked().0)?,
    };
    if ask.offset > log.len() as u64 {
        return Err(Status::INVALID_FIELD);
    }
    if !ask.retain {
        controller.state().looked_into(ask.page);
    }
    // Behind the end of a log are zeroes: both counts are bounded by what a command may move.
    let (from, len) = (ask.offset as usize, ask.len as usize);
    let mut bytes = log.get(from..log.len().min(from + len)).unwrap_or_default().to_vec();
    bytes.resize(len, 0);
    let done = give(connection, slot, sqe, &bytes).await;
    connection.tell_events();
    done
}

// ---- features ----

async fn get_features(connection: &Rc<Connection>, bound: &Bound, slot: u16, sqe: &Sqe) -> Result<Reply, Status> {
    let controller = &bound.controller;
    if sqe.cdw1(0) & 0x7ff == u32::from(fid::RESERVATION_PERSISTENCE) && !controller.is_discovery() {
        let space = connection.space(sqe.nsid.get()).ok_or(Status::INVALID_NAMESPACE)?;
        return Ok(Reply::word(space.guard.look(|r| r.persists).into()));
    }
    let answer = controller
        .state()
        .features
        .get(sqe, controller.is_discovery(), reactor::now().0)?;
    match answer {
        Answer::Word(word) => Ok(Reply::word(word.into())),
        Answer::HostIdentifier => give(connection, slot, sqe, &controller.hostid).await,
        Answer::Bytes(data) => give(connection, slot, sqe, &data).await,
    }
}

async fn set_features(connection: &Rc<Connection>, bound: &Bound, slot: u16, sqe: &Sqe) -> Result<Reply, Status> {
    let transport = connection.shared.transport();
    let buf = connection.buffer_of(slot);
    let mut data = [0; 512];
    let len = buf.len().min(data.len());
    buf.slice(0..len).read_at(0, &mut data[..len]);
    let namespaces = visible(&bound.controller);
    let word = {
        let mut state = bound.controller.state();
        let policy = Policy {
            now: reactor::now().0,
            namespaces: &namespaces,
            transport: &transport,
            io_queues: transport.max_io_qpairs_per_ctrlr,
            has_io: state.queues.keys().any(|&qid| qid > 0),
        };
        let features: &mut Features = &mut state.features;
        features.set(sqe, &data[..len], bound.controller.is_discovery(), policy)?
    };
    if sqe.cdw1(0) as u8 == fid::RESERVATION_PERSISTENCE {
        set_persistence(connection, sqe).await?;
    }
    connection.tell_events();
    Ok(Reply::word(word.into()))
}

/// Reservation Persistence (Base 2.0d, 5.27.1.28): of one namespace, or of all that can.
async fn set_persistence(connection: &Rc<Connection>, sqe: &Sqe) -> Result<(), Status> {
    let (nsid, persists) = (sqe.nsid.get(), sqe.cdw1(1) & 1 != 0);
    let spaces = match nsid {
        NSID_ALL => {
            let mut able = connection.visible_spaces();
            able.retain(|space| !persists || space.guard.kept().is_some());
            if able.is_empty() && persists {
                return Err(Status::INVALID_FIELD);
            }
            able
        }
        _ => vec![connection.space(nsid).ok_or(Status::INVALID_NAMESPACE)?],
    };
    for space in spaces {
        let change = |reservations: &mut Reservations| {
            reservations.persists = persists;
            Ok(Effects::default())
        };
        space.guard.reserve(change).await?;
    }
    Ok(())
}

// ---- events and aborts ----

fn event(connection: &Rc<Connection>, slot: u16) -> Reply {
    if !connection.park_event(slot) {
        return Reply::fail(Status::AER_LIMIT_EXCEEDED);
    }
    connection.tell_events();
    Reply::parked()
}

/// Bit 0 of the answer is set when the command was not aborted (Base 2.0d, 5.1).
async fn abort(connection: &Rc<Connection>, bound: &Bound, sqe: &Sqe) -> Reply {
    let (sqid, cid) = (sqe.cdw1(0) as u16, (sqe.cdw1(0) >> 16) as u16);
    let queue = bound.controller.state().queues.get(&sqid).copied();
    let Some(queue) = queue else {
        return Reply::fail(Status::INVALID_FIELD);
    };
    if queue.connection == connection.id && cid == sqe.cid.get() {
        return Reply::word(1);
    }
    let aborted = if queue.core == reactor::core() {
        connection::abort(queue.connection, cid)
    } else {
        let call =
            connection.shared.reactors.call(
                queue.core,
                move || async move { connection::abort(queue.connection, cid) },
            );
        call.await
    };
    Reply::word((!aborted).into())
}
