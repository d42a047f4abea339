//! What stands before a namespace: asymmetric access and reservations. One load for each command while nobody is
//! restricted.
use super::{
    connection::Connection,
    controller::Controller,
    persist::Kept,
    reservation::{Access, Effects, Reservations},
    subsystem::Subsystem,
};
use spec::nvme::{Sqe, Status, command::io};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// Some listener has no way to the namespace.
const WAYS: u32 = 1;
/// A host holds a reservation.
const RESERVED: u32 = 2;

/// One namespace's guard, shared by all cores.
#[derive(Debug, Default)]
pub struct Guard {
    up: AtomicU32,
    reservations: Mutex<Reservations>,
    /// One change of them at a time.
    turn: tokio::sync::Mutex<()>,
    /// Where they outlive a power loss.
    kept: Option<Kept>,
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

    /// Reads the reservations.
    pub fn look<T>(&self, f: impl FnOnce(&Reservations) -> T) -> T {
        f(&self.reservations())
    }

    /// A guard with the reservations of a namespace, and the file where they are kept.
    pub fn new(reservations: Reservations, kept: Option<Kept>) -> Self {
        let guard = Self {
            kept,
            ..Self::default()
        };
        guard.take(reservations);
        guard
    }

    /// The file where reservations are kept.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Changes the reservations. What is to be kept is on stable storage when it returns; if it cannot be, nothing has changed.
    pub async fn reserve(
        &self,
        change: impl FnOnce(&mut Reservations) -> Result<Effects, Status>,
    ) -> Result<Effects, Status> {
        let _turn = self.turn.lock().await;
        let before = self.look(Clone::clone);
        let mut next = before.clone();
        let effects = change(&mut next)?;
        match &self.kept {
            None if next.persists => return Err(Status::INVALID_FIELD),
            None => (),
            Some(kept) => {
                if let Err(error) = kept.save(&before, &next).await {
                    tracing::error!("reservations cannot be kept in {}: {error}", kept.path().display());
                    return Err(Status::INTERNAL_ERROR);
                }
            }
        }
        self.take(next);
        Ok(effects)
    }

    fn take(&self, next: Reservations) {
        let mut reservations = self.reservations();
        self.set(RESERVED, next.held.is_some());
        *reservations = next;
    }

    /// Every change is made whole before the lock is let go, so a poisoned lock is still a good one.
    fn reservations(&self) -> MutexGuard<'_, Reservations> {
        self.reservations.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// May this command of an I/O queue, which needs namespace `nsid`, go on?
    pub fn check(&self, connection: &Connection, nsid: u32, sqe: &Sqe) -> Result<(), Status> {
        let Some((controller, subsystem)) = of(connection) else {
            return Err(Status::INVALID_NAMESPACE);
        };
        {
            let inner = subsystem.inner();
            let group = inner.namespaces.get(&nsid).map(|n| n.info.anagrpid);
            if let Some(refusal) = group.and_then(|group| inner.ana_state(controller.local, group).refusal()) {
                return Err(refusal);
            }
        }
        match access(sqe.opcode) {
            Some(access) if !self.reservations().allows(&controller.hostid, access) => {
                Err(Status::RESERVATION_CONFLICT)
            }
            _ => Ok(()),
        }
    }
}

/// What a reservation makes of a command (Base 2.0d, figure 425). `None`: it is not its affair.
fn access(opcode: u8) -> Option<Access> {
    match opcode {
        io::READ | io::COMPARE | io::VERIFY => Some(Access::Read),
        io::RESERVATION_REGISTER | io::RESERVATION_REPORT | io::RESERVATION_ACQUIRE | io::RESERVATION_RELEASE => None,
        // Flush and everything that changes data; an opcode nobody knows changes nothing and is refused later.
        _ => Some(Access::Write),
    }
}

fn of(connection: &Connection) -> Option<(&Arc<Controller>, &Arc<Subsystem>)> {
    let controller = connection.controller()?;
    Some((controller, controller.subsystem.as_ref()?))
}
