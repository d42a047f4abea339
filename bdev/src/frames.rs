//! Counts the frames that stand on one device on this core, by epoch.
//!
//! A drain starts a new epoch and waits for the old one, while new I/O (from other stacks over the same device) keeps
//! coming. A mapped I/O passes many devices and leaves a frame on one only; it is counted there and not where it
//! entered, for an I/O that is parked *above* a suspended device (a RAID write whose member is being moved, a thin write
//! that waits for space) must not hold up the drain it is itself waiting for.
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// See the [module](self).
pub struct Frames {
    epoch: Cell<u64>,
    drained: Cell<u64>,
    standing: [Cell<u32>; 2],
    waiters: RefCell<Vec<Waker>>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            epoch: Cell::new(1),
            drained: Cell::new(0),
            standing: Default::default(),
            waiters: Default::default(),
        }
    }
}

impl Frames {
    fn count(&self, epoch: u64) -> &Cell<u32> {
        &self.standing[(epoch & 1) as usize]
    }

    /// One more; the answer must be given back to [`leave`](Self::leave).
    #[inline]
    pub fn enter(&self) -> u64 {
        let epoch = self.epoch.get();
        self.count(epoch).set(self.count(epoch).get() + 1);
        epoch
    }

    /// One less.
    #[inline]
    pub fn leave(&self, epoch: u64) {
        self.count(epoch).set(self.count(epoch).get() - 1);
        if epoch != self.epoch.get() && self.count(epoch).get() == 0 {
            self.drained.set(epoch);
            self.wake()
        }
    }

    /// How many stand here now.
    #[inline]
    pub fn standing(&self) -> u32 {
        self.standing[0].get() + self.standing[1].get()
    }

    /// Waits until all that entered before this call have left. May be dropped at any time: a started epoch ends by itself.
    pub async fn drain(&self) {
        // Two counters, so two live epochs: a second drain waits for the first before it starts its own.
        self.until(|| self.drained.get() + 1 == self.epoch.get()).await;
        let old = self.epoch.get();
        self.epoch.set(old + 1);
        if self.count(old).get() == 0 {
            self.drained.set(old);
            self.wake()
        }
        self.until(|| self.drained.get() >= old).await
    }

    fn wake(&self) {
        self.waiters.borrow_mut().drain(..).for_each(Waker::wake)
    }

    async fn until(&self, done: impl Fn() -> bool) {
        poll_fn(|cx| {
            if done() {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
