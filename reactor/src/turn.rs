//! One core's loop: what a turn does, and when to sleep.
//!
//! ```text
//!   turn:  clock · mail · wakes from elsewhere · timers · ready tasks · pollers · tasks again · one I/O call
//!   idle for longer than `spin`:  block in the I/O call until a completion, the bell or the next timer
//! ```
use crate::{
    cores::{self, Post},
    io::Io,
    reactors::{Config, Poll, Reactors},
    sync::Notify,
    task::Tasks,
    time::{Time, TurnClock, monotonic},
    timer::Timers,
};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::Future,
    io,
    marker::PhantomData,
    os::fd::RawFd,
    pin::pin,
    rc::Rc,
    sync::atomic::Ordering::{Acquire, Relaxed},
    task,
    time::Duration,
};

/// A core that has pollers looks after them at least this often, even if they never have work.
const POLLER_NAP: u64 = 1_000_000;

/// Everything that belongs to one core. It is made, used and dropped by one thread. [ONE-CORE]
pub(crate) struct Core {
    pub(crate) id: u16,
    pub(crate) index: usize,
    pub(crate) post: &'static Post,
    /// Which of the post's owners this is.
    pub(crate) owner: u64,
    pub(crate) tasks: Tasks,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) clock: TurnClock,
    pub(crate) io: Io,
    pub(crate) reactors: Reactors,
    pub(crate) stopping: Cell<bool>,
    pub(crate) stop_asked: Rc<Notify>,
    pollers: RefCell<Vec<Poller>>,
    next_poller: Cell<u64>,
    poll: Poll,
    spin: u64,
    /// Something came from outside (I/O, mail, a wake) since the last sleep: more may follow soon, so spin a while before the next.
    stirred: Cell<bool>,
    turns: Cell<u64>,
    sleeps: Cell<u64>,
    busy: Cell<u64>,
    idle: Cell<u64>,
    counted_until: Cell<u64>,
    /// The first panic of a task, if whoever drives the core wants it.
    panic: RefCell<Option<Box<dyn Any + Send>>>,
    keep_panic: bool,
}

type Poller = (u64, Option<Box<dyn FnMut() -> bool>>);

thread_local! { static CURRENT: Cell<*const Core> = const { Cell::new(std::ptr::null()) }; }

/// This thread is inside `core` while this lives.
pub(crate) struct Entered {
    _core: Rc<Core>,
    before: *const Core,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before)
    }
}

/// The core this thread is inside of.
pub(crate) fn with_current<R>(f: impl FnOnce(Option<&Core>) -> R) -> R {
    // SAFETY: [CURRENT-CORE] the pointer is set by `Core::enter` only, whose guard keeps the core alive until it is unset.
    f(unsafe { CURRENT.get().as_ref() })
}

/// The core this thread is inside of, for what makes no sense elsewhere.
pub(crate) fn on_core<R>(f: impl FnOnce(&Core) -> R) -> R {
    with_current(|core| match core {
        Some(core) => f(core),
        // A mistake of the caller that no input can provoke.
        None => panic!("this works on a reactor only: reactor::block_on, or Reactors::call"),
    })
}

/// What a turn did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Something ran or completed: call again soon.
    pub work: bool,
    /// When the next timer is due.
    pub next_timer: Option<Time>,
}

impl Core {
    pub(crate) fn new(
        seat: (u16, &'static Post, u64),
        index: usize,
        config: &Config,
        reactors: Reactors,
        keep_panic: bool,
    ) -> io::Result<Rc<Self>> {
        let (id, post, owner) = seat;
        let io = Io::new(config.io, post)?;
        post.counters.uring.store(io.is_uring(), Relaxed);
        post.counters.interrupt.store(config.poll == Poll::Interrupt, Relaxed);
        Ok(Rc::new(Self {
            id,
            index,
            post,
            owner,
            tasks: Tasks::new(id),
            timers: RefCell::default(),
            clock: TurnClock::new(config.clock),
            io,
            reactors,
            stopping: Cell::new(false),
            stop_asked: Rc::default(),
            pollers: RefCell::default(),
            next_poller: Cell::new(0),
            poll: config.poll,
            spin: config.spin.as_nanos() as u64,
            stirred: Cell::new(false),
            turns: Cell::new(0),
            sleeps: Cell::new(0),
            busy: Cell::new(0),
            idle: Cell::new(0),
            counted_until: Cell::new(monotonic()),
            panic: RefCell::new(None),
            keep_panic,
        }))
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered {
            _core: self.clone(),
            before: CURRENT.replace(Rc::as_ptr(self)),
        }
    }

    /// One pass of the loop, without waiting for anything. To be called inside the core.
    pub(crate) fn turn(self: &Rc<Self>) -> Progress {
        let now = self.clock.refresh();
        self.turns.set(self.turns.get() + 1);
        self.tasks.begin_turn();
        let mut work = false;
        if self.post.has_mail() {
            work = true;
            self.post.mail().into_iter().for_each(|mail| mail(self));
        }
        if self.post.stop.load(Relaxed) && !self.stopping.replace(true) {
            work = true;
            self.stop_asked.notify_all();
        }
        if !self.post.wakes.is_empty() {
            work = true;
            self.post.wakes.take(|slot| self.tasks.wake_slot(slot));
        }
        let mut stirred = work;
        loop {
            // Not in the loop's head, where the borrow would last while the waker runs.
            let fired = self.timers.borrow_mut().fire(now);
            match fired {
                Some(waker) => {
                    work = true;
                    waker.wake()
                }
                None => break,
            }
        }
        work |= self.tasks.run(|panic| self.panicked(panic));
        if !self.pollers.borrow().is_empty() && self.run_pollers() {
            stirred = true;
            self.tasks.run(|panic| self.panicked(panic));
        }
        stirred |= self.io.turn();
        if stirred {
            work = true;
            self.stirred.set(true)
        }
        self.count(work);
        Progress {
            work: work || !self.tasks.idle(),
            next_timer: self.timers.borrow().next().map(Time),
        }
    }

    fn panicked(&self, panic: Box<dyn Any + Send>) {
        if self.keep_panic {
            self.panic.borrow_mut().get_or_insert(panic);
        } else {
            let what = panic.downcast_ref::<&str>().map(|s| s.to_string());
            let what = what
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(reactor = self.index, "a task panicked and was ended: {what}");
        }
    }

    fn run_pollers(&self) -> bool {
        let mut work = false;
        let mut i = 0;
        loop {
            // Taken out while it runs: it may add and remove pollers, itself included.
            let taken = match self.pollers.borrow_mut().get_mut(i) {
                Some((id, poller)) => (*id, poller.take()),
                None => return work,
            };
            if let (id, Some(mut poller)) = taken {
                work |= poller();
                if let Some(place) = self.pollers.borrow_mut().iter_mut().find(|(other, _)| *other == id) {
                    place.1 = Some(poller)
                }
            }
            i += 1;
        }
    }

    /// Books the time since the last turn, and shows the figures.
    fn count(&self, work: bool) {
        // The clock of the turn's beginning, so a turn costs one reading: the time of a turn is booked by the next.
        let now = if self.clock.is_simulated() {
            self.counted_until.get()
        } else {
            self.clock.now()
        };
        let passed = now.saturating_sub(self.counted_until.replace(now));
        let account = if work { &self.busy } else { &self.idle };
        account.set(account.get() + passed);
        let c = &self.post.counters;
        c.busy.store(self.busy.get(), Relaxed);
        c.idle.store(self.idle.get(), Relaxed);
        c.turns.store(self.turns.get(), Relaxed);
        c.polls.store(self.tasks.polls(), Relaxed);
        c.tasks.store(self.tasks.live() as u64, Relaxed);
        c.sleeps.store(self.sleeps.get(), Relaxed);
        self.io.show(c);
    }

    /// Runs turns until `done`, spinning and sleeping as the mode says. `done` is asked after every turn and may itself do work.
    pub(crate) fn run(self: &Rc<Self>, mut done: impl FnMut(&Progress) -> Done) {
        let mut idle_since = None;
        loop {
            let progress = self.turn();
            if let Some(panic) = self.panic.borrow_mut().take() {
                std::panic::resume_unwind(panic)
            }
            match done(&progress) {
                Done::Yes => return,
                Done::Worked => idle_since = None,
                Done::No if progress.work => idle_since = None,
                Done::No => self.rest(&progress, &mut idle_since),
            }
        }
    }

    /// Nothing was to do: spin, sleep, or let a simulated clock jump.
    fn rest(&self, progress: &Progress, idle_since: &mut Option<u64>) {
        if self.clock.is_simulated()
            && self.io.in_flight() == 0
            && let Some(next) = progress.next_timer
        {
            return self.clock.jump(next.0);
        }
        let now = self.clock.now();
        let spun = now.saturating_sub(*idle_since.get_or_insert(now));
        match self.poll {
            Poll::Busy => std::hint::spin_loop(),
            // A timer alone does not stir: a thousand connections that look at their watch once a second shall not keep us awake.
            Poll::Adaptive if self.stirred.get() && spun < self.spin && !self.clock.is_simulated() => {
                std::hint::spin_loop()
            }
            Poll::Adaptive | Poll::Interrupt => {
                self.sleep();
                *idle_since = None
            }
        }
    }

    /// Blocks until something happens.
    fn sleep(&self) {
        if !self.prepare_to_sleep() {
            return;
        }
        self.sleeps.set(self.sleeps.get() + 1);
        self.stirred.set(false);
        self.post.counters.asleep.store(true, Relaxed);
        self.post.counters.sleeps.store(self.sleeps.get(), Relaxed);
        self.io.wait(self.nap());
        self.post.counters.asleep.store(false, Relaxed);
        self.post.wakes.awake();
        if !self.clock.is_simulated() {
            // Asleep is idle, whatever comes next.
            let now = monotonic();
            let passed = now.saturating_sub(self.counted_until.replace(now));
            self.idle.set(self.idle.get() + passed);
        }
    }

    /// After this, others ring. False: something came already, do not sleep.
    fn prepare_to_sleep(&self) -> bool {
        self.post.wakes.asleep();
        let quiet = self.post.wakes.is_empty()
            && !self.post.has_mail()
            && self.tasks.idle()
            && (self.stopping.get() || !self.post.stop.load(Acquire));
        if !quiet {
            self.post.wakes.awake()
        }
        quiet
    }

    /// How long to sleep at most.
    fn nap(&self) -> Option<Duration> {
        let timer = match self.clock.is_simulated() {
            true => None,
            false => self.timers.borrow().next().map(|due| due.saturating_sub(monotonic())),
        };
        let poller = (!self.pollers.borrow().is_empty()).then_some(POLLER_NAP);
        let nap = timer.into_iter().chain(poller).min();
        // A stop that waits for tasks looks at its deadline now and then.
        let nap = if self.stopping.get() {
            Some(nap.map_or(10_000_000, |nap| nap.min(10_000_000)))
        } else {
            nap
        };
        nap.map(Duration::from_nanos)
    }

    /// Ends what is left: tasks are dropped where they stand, I/O is cancelled and waited for, the post is given back.
    pub(crate) fn end(self: &Rc<Self>) {
        let entered = self.enter();
        self.tasks.clear();
        self.pollers.borrow_mut().clear();
        self.post.mail();
        self.io.end();
        drop(entered);
        cores::give_back(self.id);
    }
}

/// What the driver of [`Core::run`] found.
pub(crate) enum Done {
    Yes,
    No,
    Worked,
}

/// Calls `f` once a turn until the guard is dropped; `f` tells whether it found work. A core with pollers sleeps for a millisecond at
/// most, so a poller is for what cannot ring, such as hardware queues.
pub fn poller(f: impl FnMut() -> bool + 'static) -> PollerGuard {
    on_core(|core| {
        let id = core.next_poller.get();
        core.next_poller.set(id + 1);
        core.pollers.borrow_mut().push((id, Some(Box::new(f))));
        PollerGuard {
            id,
            one_core: PhantomData,
        }
    })
}

/// Ends its [`poller`] when dropped.
#[must_use = "the poller ends when its guard is dropped"]
pub struct PollerGuard {
    id: u64,
    one_core: PhantomData<*const ()>,
}

impl Drop for PollerGuard {
    fn drop(&mut self) {
        with_current(|core| {
            let Some(core) = core else { return };
            let gone = {
                let mut pollers = core.pollers.borrow_mut();
                pollers
                    .iter()
                    .position(|(id, _)| *id == self.id)
                    .map(|i| pollers.remove(i))
            };
            drop(gone)
        })
    }
}

/// A reactor without a loop of its own: somebody else's loop calls [`Self::turn`] (DESIGN D12).
///
/// ```
/// let reactor = reactor::Reactor::new(reactor::Config::default()).unwrap();
/// let done = std::rc::Rc::new(std::cell::Cell::new(false));
/// let seen = done.clone();
/// reactor.spawn(async move {
///     reactor::sleep(std::time::Duration::from_millis(1)).await;
///     seen.set(true)
/// });
/// while !done.get() {
///     reactor.turn();
/// }
/// ```
pub struct Reactor {
    core: Rc<Core>,
}

impl Reactor {
    /// A reactor on this thread. Of the configuration, `count`, `cores`, `poll` and `spin` mean nothing here: the outer loop decides.
    pub fn new(config: Config) -> io::Result<Self> {
        let (id, post, owner) = cores::take()?;
        let reactors = Reactors::single(post, owner);
        match Core::new((id, post, owner), 0, &config, reactors, true) {
            Ok(core) => Ok(Self { core }),
            Err(error) => {
                cores::give_back(id);
                Err(error)
            }
        }
    }

    /// One pass: runs what is ready, submits and reaps I/O; never waits. A panic of a task passes through.
    pub fn turn(&self) -> Progress {
        let _entered = self.core.enter();
        self.core.post.wakes.awake();
        let progress = self.core.turn();
        if let Some(panic) = self.core.panic.borrow_mut().take() {
            std::panic::resume_unwind(panic)
        }
        progress
    }

    /// Spawns a task on this reactor.
    pub fn spawn(&self, f: impl Future<Output = ()> + 'static) {
        self.core.tasks.spawn(f, false)
    }

    /// Runs `f` inside this reactor, so that it may use `spawn`, `now` and the like.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.core.enter();
        f()
    }

    /// A handle for other threads to call into this reactor.
    pub fn reactors(&self) -> Reactors {
        self.core.reactors.clone()
    }

    /// Becomes readable when there is something to do, if [`Self::prepare_to_wait`] was called before waiting.
    pub fn fd(&self) -> io::Result<RawFd> {
        self.core.io.fd()
    }

    /// To be called before waiting for [`Self::fd`]. False: do not wait, there is something to do already. After
    /// waiting, [`Self::turn`].
    pub fn prepare_to_wait(&self) -> bool {
        let _entered = self.core.enter();
        self.core.io.prepare_to_wait() && self.core.prepare_to_sleep()
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.core.end()
    }
}

/// Runs `f` to completion with a reactor on this thread: for tests and tools. Tasks that are left then are dropped. A panic of any
/// task passes through.
pub fn block_on<T>(f: impl Future<Output = T>) -> T {
    run_here(Config::default(), f)
}

/// As [`block_on`], as `config` says (`count` and `cores` mean nothing here).
pub fn block_on_with<T>(config: Config, f: impl Future<Output = T>) -> T {
    run_here(config, f)
}

fn run_here<T>(config: Config, f: impl Future<Output = T>) -> T {
    with_current(|core| assert!(core.is_none(), "block_on inside a reactor would block that reactor"));
    // Tests and tools: there is nobody to give the error to who could do anything about it.
    let reactor = Reactor::new(config).unwrap_or_else(|error| panic!("cannot start a reactor: {error}"));
    let core = &reactor.core;
    let _entered = core.enter();
    // The future stays on this stack; a task stands in for it in the ready queue.
    const ROOT: u32 = 0;
    let ready = Rc::new(Cell::new(false));
    let woken = ready.clone();
    let stand_in = std::future::poll_fn(move |_| {
        woken.set(true);
        task::Poll::Pending
    });
    core.tasks.spawn(stand_in, true);
    let mut f = pin!(f);
    let mut result = None;
    core.run(|_| {
        if !ready.replace(false) {
            return Done::No;
        }
        match core.tasks.run_as(ROOT, |cx| f.as_mut().poll(cx)) {
            task::Poll::Ready(value) => {
                result = Some(value);
                Done::Yes
            }
            task::Poll::Pending => Done::Worked,
        }
    });
    match result {
        Some(value) => value,
        None => unreachable!("the loop ends when the result is there"),
    }
}

/// Runs on a simulated clock.
pub mod sim {
    use super::*;
    use crate::time::Clock;

    /// As [`block_on`](super::block_on), but time stands still while anything can run and jumps to the next timer when nothing can. Given that
    /// nothing comes from other threads or from real I/O, a run is the same every time.
    pub fn run<T>(f: impl Future<Output = T>) -> T {
        run_here(
            Config {
                clock: Clock::Simulated,
                ..Config::default()
            },
            f,
        )
    }
}
