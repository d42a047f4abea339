//! Time as tasks see it: read once a turn, and the same for everything that happens in that turn.
use crate::turn::{self, Core};
use std::{
    cell::Cell,
    fmt,
    future::Future,
    marker::PhantomData,
    ops::{Add, Sub},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

/// A moment, in nanoseconds: of the system's monotonic clock, or since the start of a simulation.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// How long ago `earlier` was; zero if it was not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

/// Where time comes from.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Clock {
    /// The system's monotonic clock.
    #[default]
    Real,
    /// Starts at zero and stands still while anything can run; then it jumps to the next timer.
    Simulated,
}

/// A core's clock with the time of this turn.
pub(crate) struct TurnClock {
    kind: Clock,
    now: Cell<u64>,
}

impl TurnClock {
    pub(crate) fn new(kind: Clock) -> Self {
        Self {
            kind,
            now: Cell::new(if kind == Clock::Real { monotonic() } else { 0 }),
        }
    }
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }
    pub(crate) fn refresh(&self) -> u64 {
        if self.kind == Clock::Real {
            self.now.set(monotonic())
        }
        self.now.get()
    }
    pub(crate) fn is_simulated(&self) -> bool {
        self.kind == Clock::Simulated
    }
    pub(crate) fn jump(&self, to: u64) {
        self.now.set(to.max(self.now.get()))
    }
}

/// The system's monotonic clock, about 20 ns through the vDSO.
pub(crate) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: [SYSCALL] one writable timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The time of this turn; on a thread that is no reactor, the time.
pub fn now() -> Time {
    Time(turn::with_current(|core| {
        core.map_or_else(monotonic, |core| core.clock.now())
    }))
}

/// Waits for `d`, on a reactor. Dropped, it forgets its timer.
pub fn sleep(d: Duration) -> Sleep {
    sleep_until(now() + d)
}

/// Waits until `due`, on a reactor; not at all if that has passed. Dropped, it forgets its timer.
pub fn sleep_until(due: Time) -> Sleep {
    Sleep {
        due,
        timer: None,
        one_core: PhantomData,
    }
}

/// See [`sleep`].
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    due: Time,
    timer: Option<u32>,
    one_core: PhantomData<*const ()>,
}

impl Sleep {
    /// When it ends.
    pub fn due(&self) -> Time {
        self.due
    }

    /// Ends at `due` instead, from the next poll on.
    pub fn reset(&mut self, due: Time) {
        self.forget();
        self.due = due
    }

    fn forget(&mut self) {
        if let Some(timer) = self.timer.take() {
            turn::with_current(|core| {
                if let Some(core) = core {
                    core.timers.borrow_mut().remove(timer)
                }
            })
        }
    }
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        turn::on_core(|core: &Core| {
            match self.timer {
                None if self.due.0 <= core.clock.now() => return Poll::Ready(()),
                None => self.timer = Some(core.timers.borrow_mut().set(self.due.0, cx.waker().clone())),
                Some(timer) => {
                    let mut timers = core.timers.borrow_mut();
                    if timers.poll(timer, cx.waker()) {
                        timers.remove(timer);
                        self.timer = None;
                        self.due = Time(0);
                        return Poll::Ready(());
                    }
                }
            }
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget()
    }
}

/// The time was up first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for Elapsed {}

/// Waits for `f`, but not longer than `d`; then `f` is dropped. Not for data-path futures, which run to completion (DESIGN D6).
pub async fn timeout<F: Future>(d: Duration, f: F) -> Result<F::Output, Elapsed> {
    let mut f = pin!(f);
    let mut time_is_up = pin!(sleep(d));
    std::future::poll_fn(|cx| match f.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => time_is_up.as_mut().poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}
