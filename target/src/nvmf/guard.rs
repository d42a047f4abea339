//! What stands before a namespace: asymmetric access and reservations. One load for each command while nobody is
//! restricted.
use super::{connection::Connection, controller::Controller, subsystem::Subsystem};
use spec::nvme::{Sqe, Status};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// Some listener has no way to the namespace.
const WAYS: u32 = 1;

/// One namespace's guard, shared by all cores.
#[derive(Debug, Default)]
pub struct Guard {
    up: AtomicU32,
}

impl Guard {
    /// Some command may have to be turned away.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed) != 0
    }

    /// Whether some listener has no way.
    pub fn set_ways(&self, blocked: bool) {
        self.set(WAYS, blocked);
    }

    fn set(&self, bit: u32, to: bool) {
        match to {
            true => self.up.fetch_or(bit, Relaxed),
            false => self.up.fetch_and(!bit, Relaxed),
        };
    }

    /// May this command of an I/O queue, which needs namespace `nsid`, go on?
    pub fn check(&self, connection: &Connection, nsid: u32, _sqe: &Sqe) -> Result<(), Status> {
        let Some((controller, subsystem)) = of(connection) else {
            return Err(Status::INVALID_NAMESPACE);
        };
        let inner = subsystem.inner();
        let group = inner.namespaces.get(&nsid).map(|n| n.info.anagrpid);
        let refusal = group.and_then(|group| inner.ana_state(controller.local, group).refusal());
        refusal.map_or(Ok(()), Err)
    }
}

fn of(connection: &Connection) -> Option<(&Arc<Controller>, &Arc<Subsystem>)> {
    let controller = connection.controller()?;
    Some((controller, controller.subsystem.as_ref()?))
}
