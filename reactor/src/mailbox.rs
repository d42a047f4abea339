//! How a wake reaches a core from elsewhere, and how that core sleeps without missing one.
//!
//! Every core has one `WakeList`: a lock-free stack of the slots to wake, linked through an array of integers, so it
//! can neither overflow nor allocate, and a slot woken twice is on it once. The core takes the whole stack at once.
//!
//! ```text
//!   any thread                         the core, about to sleep
//!   mark and push the slot             asleep = true
//!   fence                              fence
//!   asleep? then ring                  list empty? then sleep
//! ```
//!
//! One of the two fences comes first, so either the core sees the slot or the other thread sees that it has to ring.
//! `tests/handshake.rs` runs this file under loom.
use crate::atomic::{AtomicU8, AtomicU32, Ordering, fence};

const EMPTY: u32 = u32::MAX;

/// The slots that other threads want woken, and whether the core has to be rung for it.
pub(crate) struct WakeList {
    marked: Box<[AtomicU8]>,
    next: Box<[AtomicU32]>,
    head: AtomicU32,
    asleep: AtomicU32,
}

impl WakeList {
    /// A list over as many slots as the arrays are long. Every `marked` has to be 0.
    pub(crate) fn new(marked: Box<[AtomicU8]>, next: Box<[AtomicU32]>) -> Self {
        assert!(marked.len() == next.len() && marked.len() < EMPTY as usize);
        Self {
            marked,
            next,
            head: AtomicU32::new(EMPTY),
            asleep: AtomicU32::new(0),
        }
    }

    /// Any thread: puts `slot` on the list. True: the core sleeps and the caller has to ring its bell.
    #[must_use]
    pub(crate) fn push(&self, slot: u32) -> bool {
        // A read-modify-write even if the mark is already there: the core's clearing swap then reads from us or from
        // who came later, and sees what we did before this wake.
        if self.marked[slot as usize].swap(1, Ordering::AcqRel) == 0 {
            let mut head = self.head.load(Ordering::Relaxed);
            loop {
                self.next[slot as usize].store(head, Ordering::Relaxed);
                match self
                    .head
                    .compare_exchange_weak(head, slot, Ordering::Release, Ordering::Relaxed)
                {
                    Ok(_) => break,
                    Err(now) => head = now,
                }
            }
        }
        self.must_ring()
    }

    /// Any thread, after it made something visible for the core: does the core have to be rung? Answers true to one
    /// caller for each sleep.
    #[must_use]
    pub(crate) fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) == 1 && self.asleep.swap(0, Ordering::AcqRel) == 1
    }

    /// The core: is there nothing on the list?
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == EMPTY
    }

    /// The core: takes all slots, the latest first. A slot pushed while this runs is taken now or by the next call.
    pub(crate) fn take(&self, mut each: impl FnMut(u32)) {
        if self.is_empty() {
            return;
        }
        let mut slot = self.head.swap(EMPTY, Ordering::Acquire);
        while slot != EMPTY {
            let next = self.next[slot as usize].load(Ordering::Relaxed);
            // From here on the slot can be pushed again.
            self.marked[slot as usize].swap(0, Ordering::AcqRel);
            each(slot);
            slot = next;
        }
    }

    /// The core: announces that it goes to sleep. What was made visible before another thread's `must_ring` said
    /// "false" is visible after this, so look once more, and `awake` if there is something.
    pub(crate) fn asleep(&self) {
        self.asleep.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The core: back, for whatever reason.
    pub(crate) fn awake(&self) {
        self.asleep.store(0, Ordering::Relaxed);
    }
}
