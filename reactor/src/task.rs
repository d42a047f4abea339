//! The tasks of one core: numbered slots, and a queue of those that want to run.
//!
//! A task is a boxed future in a slot. Its waker is the slot's number, so the ready queue is a ring of integers that is never
//! longer than there are slots: waking never allocates, and a task woken twice is queued once.
//!
//! ```text
//!   free ──spawn──► queued ──poll──► waiting ──wake──► queued …
//!                     ▲  └──yield──► later (the next turn)
//!                     └────────────────┘
//! ```
use crate::waker::{SLOTS, TaskId};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Rounds of the ready queue in one turn: enough for a chain (reader, slot, device, writer) to reach the socket in the same turn,
/// few enough that tasks that wake each other for ever do not keep the core from its I/O.
const ROUNDS: usize = 8;

struct Slot {
    task: Option<Task>,
    generation: u64,
    queued: bool,
    background: bool,
}

/// The slots and the ready queue of a core. [ONE-CORE]
pub(crate) struct Tasks {
    core: u16,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<VecDeque<u32>>,
    /// Tasks that yielded: ready in the next turn.
    later: RefCell<Vec<u32>>,
    /// Spawned while every slot was taken.
    waiting: RefCell<VecDeque<(Task, bool)>>,
    running: Cell<Option<u32>>,
    live: Cell<usize>,
    background: Cell<usize>,
    polls: Cell<u64>,
}

impl Tasks {
    pub(crate) fn new(core: u16) -> Self {
        Self {
            core,
            slots: RefCell::default(),
            free: RefCell::default(),
            ready: RefCell::default(),
            later: RefCell::default(),
            waiting: RefCell::default(),
            running: Cell::new(None),
            live: Cell::new(0),
            background: Cell::new(0),
            polls: Cell::new(0),
        }
    }

    /// Makes a task of `future` and queues it. Beyond [`SLOTS`] tasks it waits until another has ended.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static, background: bool) {
        self.place(Box::pin(future), background)
    }

    fn place(&self, task: Task, background: bool) {
        let mut slots = self.slots.borrow_mut();
        let recycled = self.free.borrow_mut().pop();
        let slot = match recycled {
            Some(slot) => slot,
            None if slots.len() < SLOTS => {
                slots.push(Slot {
                    task: None,
                    generation: 0,
                    queued: false,
                    background: false,
                });
                // Room for every slot at once, here and not when waking.
                let n = slots.len();
                let mut ready = self.ready.borrow_mut();
                let mut later = self.later.borrow_mut();
                if ready.capacity() < n {
                    let (queued, yielded) = (ready.len(), later.len());
                    ready.reserve(n.next_power_of_two() - queued);
                    later.reserve(n.next_power_of_two() - yielded);
                    self.free.borrow_mut().reserve(n.next_power_of_two());
                }
                (n - 1) as u32
            }
            None => return self.waiting.borrow_mut().push_back((task, background)),
        };
        let place = &mut slots[slot as usize];
        place.task = Some(task);
        place.background = background;
        if !std::mem::replace(&mut place.queued, true) {
            self.ready.borrow_mut().push_back(slot)
        }
        self.live.set(self.live.get() + 1);
        self.background.set(self.background.get() + background as usize);
    }

    /// A wake on this core.
    pub(crate) fn wake(&self, id: TaskId) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(id.slot() as usize)
            && slot.generation == id.generation()
            && !slot.queued
        {
            slot.queued = true;
            self.ready.borrow_mut().push_back(id.slot())
        }
    }

    /// A wake from elsewhere: it lost the generation on the way, so it may wake a successor once too often.
    pub(crate) fn wake_slot(&self, number: u32) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(number as usize)
            && !slot.queued
        {
            slot.queued = true;
            self.ready.borrow_mut().push_back(number)
        }
    }

    /// Queues the running task for the next turn. False: no task is running.
    pub(crate) fn run_again_next_turn(&self) -> bool {
        let Some(number) = self.running.get() else { return false };
        let slot = &mut self.slots.borrow_mut()[number as usize];
        if !slot.queued {
            slot.queued = true;
            self.later.borrow_mut().push(number)
        }
        true
    }

    /// The turn begins: who yielded in the last one is ready.
    pub(crate) fn begin_turn(&self) {
        let mut later = self.later.borrow_mut();
        if !later.is_empty() {
            self.ready.borrow_mut().extend(later.drain(..))
        }
    }

    /// Polls what is ready, and what that makes ready, up to a bound. True: something ran. A panic of a task ends that task and is
    /// given to `on_panic`.
    pub(crate) fn run(&self, mut on_panic: impl FnMut(Box<dyn Any + Send>)) -> bool {
        let mut worked = false;
        for _ in 0..ROUNDS {
            let round = self.ready.borrow().len();
            if round == 0 {
                break;
            }
            worked = true;
            for _ in 0..round {
                let Some(number) = self.ready.borrow_mut().pop_front() else {
                    break;
                };
                if let Err(panic) = self.poll(number) {
                    on_panic(panic)
                }
            }
        }
        worked
    }

    fn poll(&self, number: u32) -> Result<(), Box<dyn Any + Send>> {
        let (taken, generation) = {
            let slot = &mut self.slots.borrow_mut()[number as usize];
            slot.queued = false;
            (slot.task.take(), slot.generation)
        };
        let Some(mut task) = taken else { return Ok(()) };
        self.polls.set(self.polls.get() + 1);
        let waker = TaskId::new(self.core, number, generation).waker();
        let before = self.running.replace(Some(number));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            task.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        self.running.set(before);
        match polled {
            Ok(Poll::Pending) => self.slots.borrow_mut()[number as usize].task = Some(task),
            Ok(Poll::Ready(())) => {
                self.release(number);
                drop(task)
            }
            Err(panic) => {
                self.release(number);
                // What a broken task leaves behind may break again while it is dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
                return Err(panic);
            }
        }
        Ok(())
    }

    fn release(&self, number: u32) {
        {
            let slot = &mut self.slots.borrow_mut()[number as usize];
            slot.generation += 1;
            self.background.set(self.background.get() - slot.background as usize);
            // It may have woken itself in its last breath; the number then stays queued and finds an empty slot.
        }
        self.live.set(self.live.get() - 1);
        self.free.borrow_mut().push(number);
        let next = self.waiting.borrow_mut().pop_front();
        if let Some((task, background)) = next {
            self.place(task, background)
        }
    }

    /// Runs `f` as if it were the task in slot `number`: the future of a `block_on` lives on its caller's stack.
    pub(crate) fn run_as<R>(&self, number: u32, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let waker = TaskId::new(self.core, number, 0).waker();
        let before = self.running.replace(Some(number));
        let result = f(&mut Context::from_waker(&waker));
        self.running.set(before);
        result
    }

    /// Is there nothing to run, now or in the next turn?
    pub(crate) fn idle(&self) -> bool {
        self.ready.borrow().is_empty() && self.later.borrow().is_empty()
    }

    /// Tasks that have not ended.
    pub(crate) fn live(&self) -> usize {
        self.live.get() + self.waiting.borrow().len()
    }

    /// Tasks that a stop has to wait for.
    pub(crate) fn foreground(&self) -> usize {
        self.live() - self.background.get()
    }

    /// Polls since the start.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Drops all tasks where they stand. What they spawn meanwhile is dropped as well.
    pub(crate) fn clear(&self) {
        loop {
            let task = {
                let mut slots = self.slots.borrow_mut();
                slots
                    .iter_mut()
                    .enumerate()
                    .find_map(|(i, slot)| slot.task.take().map(|task| (i as u32, task)))
            };
            match task {
                Some((number, task)) => {
                    self.release(number);
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
                }
                None => break,
            }
        }
    }
}
