//! The connections of this core: found by number, watched, counted, ended.
use super::*;
use crate::nvmf::options::PollGroupStats;
use std::{collections::HashMap, sync::Weak, time::Duration};

thread_local! {
    pub(super) static CORE: Core = Core::default();
}

/// What this core serves.
#[derive(Default)]
pub(super) struct Core {
    pub(super) connections: RefCell<HashMap<u64, Rc<Connection>>>,
    pub(super) watched: Cell<bool>,
    /// Numbers of connections that are not bound yet, oldest first.
    pub(super) waiting: RefCell<VecDeque<u64>>,
    pub(super) admin_qpairs: Cell<u64>,
    pub(super) io_qpairs: Cell<u64>,
    pub(super) completed: Cell<u64>,
    /// The target of the last connection that came, whose cores are balanced.
    shared: RefCell<Weak<Shared>>,
    /// How often in a row this core had much more to do than another.
    uneven: Cell<u32>,
}

/// Writes a connection into this core's table. If too many wait for their Connect command, the one that has waited
/// longest goes: half-open connections never keep a real host out.
pub(super) fn enter(connection: &Rc<Connection>, most_waiting: usize) {
    admit(connection);
    CORE.with(|core| {
        let mut waiting = core.waiting.borrow_mut();
        waiting.push_back(connection.id);
        while waiting.len() > most_waiting.max(4) {
            if let Some(oldest) = waiting
                .pop_front()
                .and_then(|id| core.connections.borrow().get(&id).cloned())
            {
                oldest.shut();
            }
        }
    });
}

/// Writes a connection into this core's table, and watches over the table.
pub(super) fn admit(connection: &Rc<Connection>) {
    CORE.with(|core| {
        core.connections.borrow_mut().insert(connection.id, connection.clone());
        core.shared.replace(Arc::downgrade(&connection.shared));
        if !core.watched.replace(true) {
            reactor::spawn_background(watch());
            reactor::spawn_background(async {
                reactor::stopping().await;
                shut_all();
            });
        }
    });
}

/// Looks at every connection of this core once a second: a host that keeps us waiting, or whose
/// keep-alive timer has run out, is shut out.
async fn watch() {
    let mut all: Vec<Rc<Connection>> = Vec::with_capacity(64);
    loop {
        reactor::sleep(Duration::from_secs(1)).await;
        let now = reactor::now().0;
        CORE.with(|core| {
            all.extend(core.connections.borrow().values().cloned());
            if let Some(shared) = core.shared.borrow().upgrade() {
                moving::balance(&shared, &all, &core.uneven);
            }
        });
        for connection in all.drain(..) {
            if let Some(bound) = connection.bound.get() {
                connection.publish(bound);
            }
            let late =
                connection.session.borrow().expired(now) || connection.bound.get().is_some_and(|b| b.lock.is_late(now));
            let silent = connection
                .bound
                .get()
                .is_some_and(|b| b.qid == 0 && b.controller.is_silent(now));
            if silent {
                tracing::warn!(peer = %connection.peer, "keep-alive timer of a host has run out");
            }
            if late || silent {
                connection.shut();
            }
        }
    }
}

/// Ends connection `id` of this core.
pub fn close(id: u64) {
    if let Some(connection) = find(id) {
        connection.shut();
    }
}

/// Gives waiting events of connection `id` to its waiting requests.
pub fn tell(id: u64) {
    if let Some(connection) = find(id) {
        connection.tell_events();
    }
}

/// Ends the requests for events that wait on connection `id`.
pub fn forget_events(id: u64) {
    if let Some(connection) = find(id) {
        connection.forget_events();
    }
}

/// Aborts command `cid` of connection `id`; false if it is not there or too late.
pub fn abort(id: u64, cid: u16) -> bool {
    find(id).is_some_and(|connection| connection.abort(cid))
}

/// Aborts every command on namespace `nsid` of connection `id` and waits until the disk is done with them.
pub async fn abort_all(id: u64, nsid: u32) {
    if let Some(connection) = find(id) {
        connection.abort_all(nsid).await;
    }
}

/// Ends all connections of this core and waits for the last.
pub async fn close_all() {
    while shut_all() > 0 {
        reactor::sleep(Duration::from_millis(1)).await;
    }
}

/// Ends all connections of this core; returns how many there are still.
fn shut_all() -> usize {
    let all: Vec<_> = CORE.with(|core| core.connections.borrow().values().cloned().collect());
    all.iter().for_each(|connection| connection.shut());
    all.len()
}

/// What a bound connection is doing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doing {
    /// Its number.
    pub connection: u64,
    /// Entries of its queue.
    pub depth: u32,
    /// Commands that run, without requests for events.
    pub in_flight: usize,
    /// PDU headers have digests.
    pub header_digest: bool,
    /// PDU data has digests.
    pub data_digest: bool,
}

/// What the connections of this core are doing.
pub fn doing() -> Vec<Doing> {
    CORE.with(|core| {
        let connections = core.connections.borrow();
        let bound = connections.values().filter_map(|c| Some((c, &**c.slots.get()?)));
        let one = |(c, slots): (&Rc<Connection>, &[Slot])| {
            let session = c.session.borrow();
            let digests = session.digests();
            Doing {
                connection: c.id,
                depth: slots.len() as u32,
                in_flight: session.busy().saturating_sub(c.events.borrow().len()),
                header_digest: digests.header,
                data_digest: digests.data,
            }
        };
        bound.map(one).collect()
    })
}

/// This core's counters.
pub fn stats() -> PollGroupStats {
    CORE.with(|core| {
        let connections = core.connections.borrow();
        let bound = |admin| {
            connections
                .values()
                .filter(|c| c.bound.get().is_some_and(|b| (b.qid == 0) == admin))
                .count() as u64
        };
        let (admin, io) = (bound(true), bound(false));
        PollGroupStats {
            core: reactor::core(),
            admin_qpairs: core.admin_qpairs.get(),
            io_qpairs: core.io_qpairs.get(),
            current_admin_qpairs: admin,
            current_io_qpairs: io,
            current_unassociated_qpairs: connections.len() as u64 - admin - io,
            pending_bdev_io: connections.values().map(|c| c.wanting.get()).sum(),
            completed_nvme_io: core.completed.get(),
        }
    })
}

fn find(id: u64) -> Option<Rc<Connection>> {
    CORE.with(|core| core.connections.borrow().get(&id).cloned())
}
