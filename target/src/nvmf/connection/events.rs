//! Commands that wait for an event instead of a disk, and commands that are aborted.
use super::*;
use crate::nvmf::controller::AER_LIMIT;
use spec::nvme::Status;
use std::time::Duration;
use writer::Out;

impl Connection {
    /// Keeps an Asynchronous Event Request; false if there are too many.
    pub fn park_event(&self, slot: u16) -> bool {
        let mut events = self.events.borrow_mut();
        if events.len() >= AER_LIMIT {
            return false;
        }
        events.push_back(slot);
        true
    }

    /// Answers waiting requests with waiting events.
    pub fn tell_events(&self) {
        let Some(bound) = self.bound.get() else { return };
        loop {
            if self.events.borrow().is_empty() {
                return;
            }
            let Some(event) = bound.controller.state().take_event() else {
                return;
            };
            if let Some(slot) = self.events.borrow_mut().pop_front() {
                self.finish(slot, Reply::word(event.into()));
            }
        }
    }

    /// A controller reset: requests for events end now.
    pub fn forget_events(&self) {
        let slots: Vec<u16> = self.events.borrow_mut().drain(..).collect();
        for slot in slots {
            self.finish(slot, Reply::fail(Status::ABORTED_SQ_DELETION));
        }
    }

    /// Answers command `cid` as aborted, if it runs here and can still be.
    pub fn abort(&self, cid: u16) -> bool {
        let Some(slot) = self.session.borrow().running(cid) else {
            return false;
        };
        let parked = {
            let mut events = self.events.borrow_mut();
            let at = events.iter().position(|&s| s == slot);
            at.map(|at| events.remove(at)).is_some()
        };
        if parked {
            self.finish(slot, Reply::fail(Status::ABORTED_BY_REQUEST));
            return true;
        }
        self.abort_slot(slot);
        true
    }

    fn abort_slot(&self, slot: u16) {
        let mut front = self.front.borrow_mut();
        let batch = &mut *front;
        let mut out = Out {
            outbox: &mut batch.outbox,
            connection: self,
        };
        self.session.borrow_mut().abort(slot, &mut out);
        batch.slots.push(slot);
        drop(front);
        self.flush();
    }

    /// Answers every command on namespace `nsid` that runs here as aborted, and waits until the disk is done with them.
    pub async fn abort_all(&self, nsid: u32) {
        let running: Vec<u16> = self.session.borrow().running_on(nsid).collect();
        running.iter().for_each(|slot| self.abort_slot(*slot));
        while self.session.borrow().is_aborting(nsid) {
            reactor::sleep(Duration::from_millis(1)).await;
        }
    }
}
