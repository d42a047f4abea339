//! Wakers that are integers.
//!
//! A waker's data is not a pointer but three numbers packed into one word: core, slot and generation. It can be
//! cloned, sent, kept and woken anywhere and at any time, and dereferences nothing: a wake on its own core goes
//! to the ready queue, a wake from elsewhere through the core's mailbox, a wake of a task or a core that is gone goes
//! nowhere. [INTEGER-WAKER]
use crate::{cores, turn};
use std::{
    mem::ManuallyDrop,
    task::{RawWaker, RawWakerVTable, Waker},
};

const _: () = assert!(usize::BITS == 64, "a task's name is packed into one 64-bit word");

const SLOT_BITS: u32 = 18;
const GENERATION_BITS: u32 = 34;

/// Tasks a core can hold at a time.
pub(crate) const SLOTS: usize = 1 << SLOT_BITS;
/// Cores the process can have at a time (each `block_on` is one while it runs).
pub(crate) const CORES: usize = 1 << (64 - SLOT_BITS - GENERATION_BITS);

/// The name of a task: core (12 bits), slot (18), generation (34).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct TaskId(u64);

impl TaskId {
    #[inline]
    pub(crate) fn new(core: u16, slot: u32, generation: u64) -> Self {
        Self(
            (core as u64) << (SLOT_BITS + GENERATION_BITS)
                | (slot as u64) << GENERATION_BITS
                | generation & ((1 << GENERATION_BITS) - 1),
        )
    }
    #[inline]
    pub(crate) fn core(self) -> u16 {
        (self.0 >> (SLOT_BITS + GENERATION_BITS)) as u16
    }
    #[inline]
    pub(crate) fn slot(self) -> u32 {
        (self.0 >> GENERATION_BITS) as u32 & ((1 << SLOT_BITS) - 1)
    }
    #[inline]
    pub(crate) fn generation(self) -> u64 {
        self.0 & ((1 << GENERATION_BITS) - 1)
    }

    #[inline]
    pub(crate) fn waker(self) -> Waker {
        // SAFETY: [INTEGER-WAKER] no function of the vtable dereferences the data, all may run on any thread.
        unsafe { Waker::from_raw(raw(self)) }
    }

    /// The same for the length of a poll: nothing has to be done when it ends, not even to find that out.
    #[inline]
    pub(crate) fn waker_for_a_poll(self) -> ManuallyDrop<Waker> {
        ManuallyDrop::new(self.waker())
    }

    fn wake(self) {
        let elsewhere = turn::with_current(|core| match core {
            Some(core) if core.id == self.core() => {
                core.tasks.wake(self);
                false
            }
            _ => true,
        });
        if elsewhere {
            cores::wake(self)
        }
    }
}

#[inline]
fn raw(id: TaskId) -> RawWaker {
    RawWaker::new(std::ptr::without_provenance(id.0 as usize), &VTABLE)
}

fn id(data: *const ()) -> TaskId {
    TaskId(data.addr() as u64)
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| raw(id(data)),
    |data| id(data).wake(),
    |data| id(data).wake(),
    |_| (),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_keeps_its_three_numbers() {
        for (core, slot, generation) in [(0, 0, 0), (4095, 262_143, (1 << 34) - 1), (7, 12_345, 6_789_012_345)] {
            let id = TaskId::new(core, slot, generation);
            assert_eq!((id.core(), id.slot(), id.generation()), (core, slot, generation));
        }
    }

    #[test]
    fn waking_a_core_that_never_was_does_nothing() {
        TaskId::new(4095, 17, 3).waker().wake();
    }
}
