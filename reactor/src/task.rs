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
    ready: RefCell<Vec<u32>>,
    /// Tasks that yielded: ready in the next turn.
    later: RefCell<Vec<u32>>,
    /// The room for a round that [`run`](Self::run) takes from `ready`, while there is none.
    spare: Cell<Vec<u32>>,
    /// Spawned while every slot was taken.
    waiting: RefCell<VecDeque<(Task, bool)>>,
    running: Cell<Option<u32>>,
    /// The running task has yielded.
    yielded: Cell<bool>,
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
            spare: Cell::default(),
            waiting: RefCell::default(),
            running: Cell::new(None),
            yielded: Cell::new(false),
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
                for queue in [&self.ready, &self.later, &self.free] {
                    let mut queue = queue.borrow_mut();
                    if queue.capacity() < n {
                        let more = n.next_power_of_two() - queue.len();
                        queue.reserve(more)
                    }
                }
                (n - 1) as u32
            }
            None => return self.waiting.borrow_mut().push_back((task, background)),
        };
        let place = &mut slots[slot as usize];
        place.task = Some(task);
        place.background = background;
        if !std::mem::replace(&mut place.queued, true) {
            self.ready.borrow_mut().push(slot)
        }
        self.live.set(self.live.get() + 1);
        self.background.set(self.background.get() + background as usize);
    }

    /// A wake on this core.
    pub(crate) fn wake(&self, id: TaskId) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(id.slot() as usize)
            && slot.generation == id.generation()
        {
            self.queue(slot, id.slot())
        }
    }

    /// To the ready queue, unless it is in one already; a task that has just yielded waits for the next turn.
    fn queue(&self, slot: &mut Slot, number: u32) {
        let yielding = self.yielded.get() && self.running.get() == Some(number);
        if !slot.queued && !yielding {
            slot.queued = true;
            self.ready.borrow_mut().push(number)
        }
    }

    /// A wake from elsewhere: it lost the generation on the way, so it may wake a successor once too often.
    pub(crate) fn wake_slot(&self, number: u32) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(number as usize) {
            self.queue(slot, number)
        }
    }

    /// Queues the running task for the next turn, once it has been polled. False: no task is running.
    #[inline]
    pub(crate) fn run_again_next_turn(&self) -> bool {
        let running = self.running.get().is_some();
        self.yielded.set(running);
        running
    }

    /// The turn begins: who yielded in the last one is ready.
    pub(crate) fn begin_turn(&self) {
        let (mut ready, mut later) = (self.ready.borrow_mut(), self.later.borrow_mut());
        match ready.is_empty() {
            true => std::mem::swap(&mut *ready, &mut *later),
            false => ready.append(&mut later),
        }
    }

    /// Polls what is ready, and what that makes ready, up to a bound. True: something ran. A panic of a task ends that task and is
    /// given to `on_panic`.
    pub(crate) fn run(&self, mut on_panic: impl FnMut(Box<dyn Any + Send>)) -> bool {
        let mut round = self.spare.take();
        let mut worked = false;
        for _ in 0..ROUNDS {
            {
                let mut ready = self.ready.borrow_mut();
                if ready.is_empty() {
                    break;
                }
                std::mem::swap(&mut round, &mut *ready);
                // Who is woken meanwhile finds room, as `place` made it.
                ready.reserve(round.capacity())
            }
            worked = true;
            self.polls.set(self.polls.get() + round.len() as u64);
            let mut left = round.iter();
            // One net under the whole round: most rounds catch nothing.
            let mut polled = None;
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
                for &number in left.by_ref() {
                    self.poll(number, &mut polled)
                }
            })) {
                self.broken(polled.take());
                on_panic(panic)
            }
            self.running.set(None);
            round.clear()
        }
        self.spare.set(round);
        worked
    }

    /// Polls a task, which lies in `polled` meanwhile.
    #[inline]
    fn poll(&self, number: u32, polled: &mut Option<Task>) {
        let generation = {
            let slot = &mut self.slots.borrow_mut()[number as usize];
            slot.queued = false;
            *polled = slot.task.take();
            slot.generation
        };
        let Some(task) = polled else { return };
        self.running.set(Some(number));
        let waker = TaskId::new(self.core, number, generation).waker_for_a_poll();
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                let slot = &mut self.slots.borrow_mut()[number as usize];
                slot.task = polled.take();
                self.again(slot, number)
            }
            Poll::Ready(()) => {
                self.yielded.set(false);
                let ended = polled.take();
                self.release(number);
                drop(ended)
            }
        }
    }

    /// Queues a task that has yielded.
    #[inline]
    fn again(&self, slot: &mut Slot, number: u32) {
        if self.yielded.replace(false) && !std::mem::replace(&mut slot.queued, true) {
            self.later.borrow_mut().push(number)
        }
    }

    /// The running task has panicked, in its poll or while it was dropped at its end.
    #[cold]
    fn broken(&self, task: Option<Task>) {
        self.yielded.set(false);
        if let (Some(number), Some(task)) = (self.running.take(), task) {
            self.release(number);
            // What a broken task leaves behind may break again while it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        }
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
        let waker = TaskId::new(self.core, number, 0).waker_for_a_poll();
        let before = self.running.replace(Some(number));
        let result = f(&mut Context::from_waker(&waker));
        self.running.set(before);
        self.again(&mut self.slots.borrow_mut()[number as usize], number);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, rc::Rc};

    /// Polled again and again; `each` is told which time it is.
    fn tasks(each: impl Fn(&Tasks, u32) -> Poll<()> + 'static) -> Rc<Tasks> {
        let tasks = Rc::new(Tasks::new(0));
        let (inside, times) = (Rc::downgrade(&tasks), Cell::new(0));
        let task = poll_fn(move |_| {
            times.set(times.get() + 1);
            each(&inside.upgrade().expect("it runs inside"), times.get())
        });
        tasks.spawn(task, false);
        tasks
    }
    fn turn(tasks: &Tasks) -> (u64, usize) {
        let (before, mut panics) = (tasks.polls(), 0);
        tasks.begin_turn();
        tasks.run(|_| panics += 1);
        (tasks.polls() - before, panics)
    }

    #[test]
    fn who_yields_runs_once_in_the_next_turn_even_if_woken_meanwhile() {
        let myself = TaskId::new(0, 0, 0);
        let tasks = tasks(move |tasks, time| {
            assert!(tasks.run_again_next_turn());
            if time % 2 == 0 {
                tasks.wake(myself)
            }
            Poll::Pending
        });
        for _ in 0..4 {
            assert_eq!(turn(&tasks), (1, 0));
            tasks.wake(myself);
            tasks.wake_slot(0);
        }
        assert!(!tasks.run_again_next_turn(), "nobody runs");
    }

    #[test]
    fn a_panic_ends_its_task_and_nothing_of_the_round() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("while dropped")
            }
        }
        let tasks = tasks(|tasks, _| {
            for what in 0..5 {
                let bomb = (what % 2 == 1).then(|| Bomb);
                // 1 and 2 break where they are polled, 1 once more when it is dropped; 3 breaks when it has ended.
                let task = poll_fn(move |_| {
                    let _held = &bomb;
                    assert!(what != 1 && what != 2, "while polled");
                    Poll::Ready(())
                });
                tasks.spawn(task, false)
            }
            Poll::Ready(())
        });
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let (polls, panics) = turn(&tasks);
        std::panic::set_hook(quiet);
        assert_eq!((polls, panics), (6, 3));
        assert_eq!((tasks.live(), tasks.idle()), (0, true));
        tasks.spawn(async {}, false);
        assert_eq!(turn(&tasks), (1, 0), "and their slots are used again");
    }
}
