//! A place for one waker that one side sets and any thread wakes.
//!
//! Three states in two bits. Registering and waking each take their bit with a read-modify-write; whoever finds the
//! other's bit there leaves the work to the other. `tests/handshake.rs` runs this file under loom.
use crate::atomic::{AtomicU8, Ordering};
use std::{cell::UnsafeCell, task::Waker};

const REGISTERING: u8 = 1;
const WAKING: u8 = 2;

/// One waker, set by one owner, woken from anywhere.
pub(crate) struct AtomicWaker {
    state: AtomicU8,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: [WAKER-CELL] the cell is touched only by who changed `state` from 0 to its own bit, until it is back at 0;
// a `Waker` is itself Send and Sync.
unsafe impl Sync for AtomicWaker {}

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU8::new(0),
            waker: UnsafeCell::new(None),
        }
    }

    /// Leaves `waker` to be woken by the next [`Self::wake`]. To be called by one thread at a time; look at the awaited
    /// condition again afterwards.
    pub(crate) fn register(&self, waker: &Waker) {
        match self
            .state
            .compare_exchange(0, REGISTERING, Ordering::Acquire, Ordering::Acquire)
        {
            Ok(_) => {
                // SAFETY: [WAKER-CELL] we changed the state from 0.
                let cell = unsafe { &mut *self.waker.get() };
                match cell {
                    Some(old) => old.clone_from(waker),
                    None => *cell = Some(waker.clone()),
                }
                if self
                    .state
                    .compare_exchange(REGISTERING, 0, Ordering::AcqRel, Ordering::Acquire)
                    .is_err()
                {
                    // Somebody woke meanwhile and left the wake to us.
                    let taken = cell.take();
                    self.state.swap(0, Ordering::AcqRel);
                    if let Some(waker) = taken {
                        waker.wake()
                    }
                }
            }
            // A wake is under way with the old waker (or none): it may be over before the condition was looked at.
            Err(_) => waker.wake_by_ref(),
        }
    }

    /// Wakes the waker last registered, if it has not been woken yet.
    pub(crate) fn wake(&self) {
        if self.state.fetch_or(WAKING, Ordering::AcqRel) == 0 {
            // SAFETY: [WAKER-CELL] we changed the state from 0.
            let waker = unsafe { &mut *self.waker.get() }.take();
            self.state.fetch_and(!WAKING, Ordering::Release);
            if let Some(waker) = waker {
                waker.wake()
            }
        }
    }
}
