//! The reactors of a process: starting, calling and stopping them.
use crate::{
    arena,
    cores::{self, Post},
    stats::CoreStats,
    time::{Clock, monotonic},
    turn::{Core, Done, on_core},
};
use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, atomic::Ordering, mpsc},
    task::{Context, Poll as Polled, Waker},
    thread::JoinHandle,
    time::Duration,
};

/// What a reactor does when it has nothing to do.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Poll {
    /// Never sleeps.
    Busy,
    /// Spins for a short while ([`Config::spin`]), then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once.
    Interrupt,
}

/// How I/O reaches the kernel.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum IoBackend {
    /// io_uring if the kernel lets us, else epoll and a few threads. `ASHLAR_IO=epoll` in the environment decides for epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// Nonblocking sockets with epoll, files through a few threads.
    Epoll,
}

/// How to start reactors.
#[derive(Clone, Debug)]
pub struct Config {
    /// CPUs to pin them to, one each; empty: not pinned.
    pub cores: Vec<usize>,
    /// How many, if `cores` is empty.
    pub count: usize,
    /// What they do when idle.
    pub poll: Poll,
    /// How long an adaptive reactor spins before it sleeps.
    pub spin: Duration,
    /// How I/O reaches the kernel.
    pub io: IoBackend,
    /// Where time comes from.
    pub clock: Clock,
    /// How long a stop waits for tasks to end by themselves.
    pub grace: Duration,
    /// Settings of the page memory, which all reactors of the process share; none: as they are.
    pub arena: Option<arena::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cores: Vec::new(),
            count: 1,
            poll: Poll::Adaptive,
            // About what a sleep and a wake cost; a host's next command after an answer over loopback comes within it.
            spin: Duration::from_micros(50),
            io: IoBackend::Auto,
            clock: Clock::Real,
            grace: Duration::from_secs(2),
            arena: None,
        }
    }
}

/// A handle to all reactors, for any thread. They run until [`Self::stop`].
#[derive(Clone)]
pub struct Reactors(Arc<Inner>);

struct Inner {
    seats: Vec<Seat>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Copy, Clone)]
struct Seat {
    post: &'static Post,
    owner: u64,
    cpu: Option<usize>,
}

impl Reactors {
    /// Starts them, each on a thread of its own, and returns when all of them run.
    pub fn start(config: Config) -> io::Result<Reactors> {
        crate::io::net::began();
        let count = if config.cores.is_empty() {
            config.count
        } else {
            config.cores.len()
        };
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no reactors: give a count or a list of CPUs",
            ));
        }
        if let Some(settings) = config.arena {
            arena::configure(settings)
        }
        let mut taken = Vec::with_capacity(count);
        for index in 0..count {
            match cores::take() {
                Ok((id, post, owner)) => taken.push((
                    id,
                    Seat {
                        post,
                        owner,
                        cpu: config.cores.get(index).copied(),
                    },
                )),
                Err(error) => {
                    taken.into_iter().for_each(|(id, _)| cores::give_back(id));
                    return Err(error);
                }
            }
        }
        let seats = taken.iter().map(|(_, seat)| *seat).collect();
        let reactors = Reactors(Arc::new(Inner {
            seats,
            threads: Mutex::default(),
        }));
        let (started, all_started) = mpsc::channel();
        let mut failed = None;
        for (index, (id, seat)) in taken.into_iter().enumerate() {
            let (config, here, started) = (config.clone(), reactors.clone(), started.clone());
            let thread = std::thread::Builder::new()
                .name(format!("reactor-{index}"))
                .spawn(move || run(id, seat, index, config, here, started));
            match thread {
                Ok(thread) => lock(&reactors.0.threads).push(thread),
                Err(error) => {
                    cores::give_back(id);
                    failed = Some(error)
                }
            }
        }
        drop(started);
        for result in all_started {
            if let Err(error) = result {
                failed = Some(error)
            }
        }
        match failed {
            None => Ok(reactors),
            Some(error) => {
                reactors.stop();
                Err(error)
            }
        }
    }

    /// A handle to one core that somebody else drives.
    pub(crate) fn single(post: &'static Post, owner: u64) -> Reactors {
        Reactors(Arc::new(Inner {
            seats: vec![Seat { post, owner, cpu: None }],
            threads: Mutex::default(),
        }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.seats.len()
    }

    /// Runs `f` on `core` (modulo their number) and its future to completion there; the answer may be awaited from any thread.
    /// Dropping the [`Call`] does not stop what it started. This is the control plane's path: it allocates. For data, see [`crate::channel`].
    pub fn call<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        core: usize,
        f: impl FnOnce() -> F + Send + 'static,
    ) -> Call<T> {
        let answer = Arc::new(Answer {
            state: Mutex::new(State::Waiting(None)),
            answered: Condvar::new(),
        });
        let promise = Promise(answer.clone());
        let seat = &self.0.seats[core % self.0.seats.len()];
        // If the reactor has ended, the closure is dropped, and the promise in it says so.
        seat.post.send(
            seat.owner,
            Box::new(move |core| {
                core.tasks.spawn(
                    async move {
                        let value = f().await;
                        promise.keep(value)
                    },
                    false,
                )
            }),
        );
        Call(answer)
    }

    /// The figures of every core.
    pub fn stats(&self) -> Vec<CoreStats> {
        self.0
            .seats
            .iter()
            .enumerate()
            .map(|(core, seat)| seat.post.counters.read(core, seat.cpu))
            .collect()
    }

    /// Stops them and waits until they have stopped. Each asks its tasks to end ([`stopping`]), runs until all but background tasks
    /// ([`spawn_background`]) have ended or [`Config::grace`] has passed, drops what is left, and waits for the kernel to be done
    /// with its memory. Never to be called on a reactor.
    pub fn stop(&self) {
        for seat in &self.0.seats {
            if seat.post.is_open(seat.owner) {
                seat.post.stop.store(true, Ordering::Release);
                seat.post.knock()
            }
        }
        let threads = std::mem::take(&mut *lock(&self.0.threads));
        for thread in threads {
            // Its panic, if any, was reported by its own thread.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Reactors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reactors({})", self.count())
    }
}

/// The life of a reactor's thread.
fn run(id: u16, seat: Seat, index: usize, config: Config, reactors: Reactors, started: mpsc::Sender<io::Result<()>>) {
    let core = pin(seat.cpu).and_then(|()| Core::new((id, seat.post, seat.owner), index, &config, reactors, false));
    let core = match core {
        Ok(core) => core,
        Err(error) => {
            cores::give_back(id);
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    drop(started);
    let _dies_together = DiesTogether;
    {
        let _entered = core.enter();
        let mut deadline = None;
        core.run(|_| {
            if !core.stopping.get() {
                return Done::No;
            }
            let now = monotonic();
            let deadline = *deadline.get_or_insert(now.saturating_add(config.grace.as_nanos() as u64));
            let left = core.tasks.foreground();
            if left > 0 && now >= deadline {
                tracing::warn!(reactor = index, "{left} tasks did not end in time and are dropped");
            }
            if left == 0 || now >= deadline {
                Done::Yes
            } else {
                Done::No
            }
        });
    }
    core.end()
}

/// A panic of a task is caught; one of the loop itself (of a poller, say) would leave a core dead and its hosts hanging. Then the process
/// ends, and the hosts reconnect to the next.
struct DiesTogether;

impl Drop for DiesTogether {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a reactor's loop has panicked: the process ends");
            std::process::abort()
        }
    }
}

fn pin(cpu: Option<usize>) -> io::Result<()> {
    // SAFETY: [SYSCALL] no memory is passed. Sleeps end when they should and not up to 50 us later, as is the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let Some(cpu) = cpu else { return Ok(()) };
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there is no CPU {cpu}"),
        ));
    }
    // SAFETY: [SYSCALL] a zeroed set is an empty set, `cpu` is inside it, and the kernel reads only its size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    match result {
        0 => Ok(()),
        _ => {
            let error = io::Error::last_os_error();
            Err(io::Error::new(
                error.kind(),
                format!("cannot pin a reactor to CPU {cpu}: {error}"),
            ))
        }
    }
}

/// The CPUs of the process's first thread, which nobody pins.
pub(crate) fn process_cpus() -> Option<libc::cpu_set_t> {
    // SAFETY: [PLAIN-DATA] a zeroed set is an empty set. [SYSCALL] the kernel writes no more than its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        (libc::sched_getaffinity(libc::getpid(), size, &raw mut set) == 0).then_some(set)
    }
}

/// Lets the calling thread run on all of them.
pub(crate) fn use_process_cpus() {
    if let Some(set) = process_cpus() {
        // SAFETY: [SYSCALL] the kernel reads one set. If it refuses, the thread stays where it is.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    }
}

/// The index of the current reactor.
pub fn core() -> usize {
    on_core(|core| core.index)
}

/// The index of the current reactor, or none on other threads.
pub fn try_core() -> Option<usize> {
    crate::turn::with_current(|core| core.map(|core| core.index))
}

/// The reactors the current one belongs to.
pub fn reactors() -> Reactors {
    on_core(|core| core.reactors.clone())
}

/// Runs `f` as a task on this core. A stop waits for it.
pub fn spawn(f: impl Future<Output = ()> + 'static) {
    on_core(|core| core.tasks.spawn(f, false))
}

/// As [`spawn`], for service tasks that never end by themselves: a stop does not wait for it.
pub fn spawn_background(f: impl Future<Output = ()> + 'static) {
    on_core(|core| core.tasks.spawn(f, true))
}

/// Has this reactor been asked to stop?
pub fn is_stopping() -> bool {
    on_core(|core| core.stopping.get())
}

/// Waits until this reactor is asked to stop. May be dropped.
pub async fn stopping() {
    // Nothing can come between the look and the first poll of the wait: both happen in one poll of this task.
    let asked = on_core(|core| (!core.stopping.get()).then(|| core.stop_asked.clone()));
    if let Some(asked) = asked {
        asked.wait().await
    }
}

/// Gives way to everything else that is ready, and to I/O: continues in the next turn.
#[inline]
pub fn yield_now() -> Yield {
    Yield { yielded: false }
}

/// See [`yield_now`].
#[must_use = "gives way when it is awaited"]
pub struct Yield {
    yielded: bool,
}

impl Future for Yield {
    type Output = ();
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Polled::Ready(());
        }
        if !crate::turn::with_current(|core| core.is_some_and(|core| core.tasks.run_again_next_turn())) {
            cx.waker().wake_by_ref()
        }
        Polled::Pending
    }
}

/// The reactor ended (or the task that was called panicked) before there was an answer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor ended before it answered")
    }
}

impl std::error::Error for Gone {}

/// The answer of a [`Reactors::call`]: a future for any executor. Await it after the reactors have stopped, or after the called task
/// panicked, and it panics; where that can happen, use [`Self::checked`].
#[must_use = "the call runs, but nobody waits for its answer"]
pub struct Call<T>(Arc<Answer<T>>);

struct Answer<T> {
    state: Mutex<State<T>>,
    answered: Condvar,
}

enum State<T> {
    Waiting(Option<Waker>),
    Answered(T),
    Gone,
}

impl<T> Call<T> {
    /// Blocks until there is an answer. For control threads and tests; on a reactor it would block that reactor.
    pub fn wait(self) -> T {
        match self.wait_checked() {
            Ok(value) => value,
            Err(gone) => panic!("{gone}"),
        }
    }

    /// As [`Self::wait`], with the end of the reactor as an error.
    pub fn wait_checked(self) -> Result<T, Gone> {
        let mut state = lock(&self.0.state);
        loop {
            match std::mem::replace(&mut *state, State::Gone) {
                State::Answered(value) => return Ok(value),
                State::Gone => return Err(Gone),
                waiting => *state = waiting,
            }
            state = self
                .0
                .answered
                .wait(state)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// The answer, with the end of the reactor as an error.
    pub async fn checked(mut self) -> Result<T, Gone> {
        std::future::poll_fn(|cx| self.poll_checked(cx)).await
    }

    fn poll_checked(&mut self, cx: &mut Context<'_>) -> Polled<Result<T, Gone>> {
        let mut state = lock(&self.0.state);
        match std::mem::replace(&mut *state, State::Gone) {
            State::Answered(value) => Polled::Ready(Ok(value)),
            State::Gone => Polled::Ready(Err(Gone)),
            State::Waiting(_) => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Polled::Pending
            }
        }
    }
}

impl<T> Future for Call<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<T> {
        self.poll_checked(cx).map(|answer| match answer {
            Ok(value) => value,
            Err(gone) => panic!("{gone}"),
        })
    }
}

/// The side that answers. Dropped without an answer, it says so.
struct Promise<T>(Arc<Answer<T>>);

impl<T> Promise<T> {
    fn keep(self, value: T) {
        self.set(State::Answered(value))
    }

    fn set(&self, new: State<T>) {
        let mut state = lock(&self.0.state);
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = new;
            drop(state);
            self.0.answered.notify_all();
            if let Some(waker) = waker {
                waker.wake()
            }
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.set(State::Gone)
    }
}

/// A lock on a cold path. Nothing panics while it is held, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    crate::counters::locked();
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
