//! Fused operations (Base 2.0d, 3.4.2): a Compare and the Write that follows it in the queue, done as one or not at all.
//!
//! The two arrive in order, but their data may not, so each has its slot's task. The first waits until the second has
//! done both.
use super::*;
use crate::nvmf::compare;
use spec::nvme::Status;

/// Compare and Write.
pub(super) struct Pair {
    first: u16,
    second: u16,
    /// The first has all its data.
    ready: Cell<Option<()>>,
    /// How the first ended.
    outcome: Cell<Option<Status>>,
}

/// The fused operations of a connection.
#[derive(Default)]
pub(super) struct Fused {
    /// A first command whose second has not come yet.
    waiting: Cell<Option<u16>>,
    pairs: RefCell<Vec<Rc<Pair>>>,
}

impl Fused {
    /// A first half has come without its second.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.get().is_some()
    }
}

impl Connection {
    /// A command has arrived: wakes its slot, unless it is the first half of something.
    pub(super) fn take(&self, slot: u16) {
        match (self.fused.waiting.take(), self.session.borrow().fuse(slot)) {
            (None, 0) => self.wake(slot),
            (None, 1) => self.fused.waiting.set(Some(slot)),
            (Some(first), 2) => {
                self.fused.pairs.borrow_mut().push(Rc::new(Pair {
                    first,
                    second: slot,
                    ready: Cell::new(None),
                    outcome: Cell::new(None),
                }));
                self.wake(first);
                self.wake(slot);
            }
            // A half without its other one; its task will find no pair.
            (Some(lonely), fuse) => {
                self.wake(lonely);
                match fuse {
                    1 => self.fused.waiting.set(Some(slot)),
                    _ => self.wake(slot),
                }
            }
            (None, _) => self.wake(slot),
        }
    }

    /// Runs one half.
    pub(super) async fn run_fused(self: &Rc<Self>, slot: u16) -> Reply {
        if self.masked.get().1 & 1 != 0 {
            return Reply::fail(Status::INVALID_FIELD);
        }
        let pair = {
            let pairs = self.fused.pairs.borrow();
            pairs.iter().find(|p| p.first == slot || p.second == slot).cloned()
        };
        let Some(pair) = pair else {
            return Reply::fail(Status::ABORTED_MISSING_FUSED);
        };
        if pair.first == slot {
            pair.ready.set(Some(()));
            self.slot(pair.second).wake.notify_one();
            let outcome = self.said(slot, &pair.outcome).await;
            return Reply::fail(outcome.unwrap_or(Status::ABORTED_SQ_DELETION));
        }
        let (first, second) = match self.said(slot, &pair.ready).await {
            Some(()) => compare::and_write(self, (pair.first, slot)).await,
            None => (Status::ABORTED_SQ_DELETION, Status::ABORTED_SQ_DELETION),
        };
        self.fused.pairs.borrow_mut().retain(|p| !Rc::ptr_eq(p, &pair));
        pair.outcome.set(Some(first));
        self.slot(pair.first).wake.notify_one();
        Reply::fail(second)
    }

    /// Waits until the other half has said something. `None`: the connection closes, it may never.
    async fn said<T: Copy>(&self, slot: u16, cell: &Cell<Option<T>>) -> Option<T> {
        while cell.get().is_none() && !self.closing.get() {
            self.slot(slot).wake.wait().await;
        }
        cell.get()
    }
}
