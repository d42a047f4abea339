//! What a core counts about itself, for people and for schedulers.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The figures of one core. Each is written by that core only (but `rung`), once a turn, and read by anybody.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) busy: AtomicU64,
    pub(crate) idle: AtomicU64,
    pub(crate) turns: AtomicU64,
    pub(crate) polls: AtomicU64,
    pub(crate) tasks: AtomicU64,
    pub(crate) sleeps: AtomicU64,
    pub(crate) enters: AtomicU64,
    pub(crate) ios: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) asleep: AtomicBool,
    pub(crate) uring: AtomicBool,
    pub(crate) interrupt: AtomicBool,
    /// Bells rung by others: they share a line that the core does not write.
    pub(crate) rung: Rung,
}

/// A counter on a line of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Rung(AtomicU64);

impl Rung {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Counters {
    pub(crate) fn reset(&self) {
        for counter in [
            &self.busy,
            &self.idle,
            &self.turns,
            &self.polls,
            &self.tasks,
            &self.sleeps,
            &self.enters,
            &self.ios,
        ] {
            counter.store(0, Relaxed)
        }
        self.in_flight.store(0, Relaxed);
        self.rung.0.store(0, Relaxed);
    }

    pub(crate) fn read(&self, core: usize, cpu: Option<usize>) -> CoreStats {
        CoreStats {
            core,
            cpu,
            busy_ns: self.busy.load(Relaxed),
            idle_ns: self.idle.load(Relaxed),
            turns: self.turns.load(Relaxed),
            polls: self.polls.load(Relaxed),
            tasks: self.tasks.load(Relaxed),
            sleeps: self.sleeps.load(Relaxed),
            rung: self.rung.0.load(Relaxed),
            syscalls: self.enters.load(Relaxed),
            ios: self.ios.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            asleep: self.asleep.load(Relaxed),
            in_interrupt: self.interrupt.load(Relaxed),
            io_uring: self.uring.load(Relaxed),
        }
    }
}

/// What a core has done since it started.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct CoreStats {
    /// Index of the reactor.
    pub core: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Nanoseconds in turns that did something.
    pub busy_ns: u64,
    /// Nanoseconds in turns that did nothing, and asleep.
    pub idle_ns: u64,
    /// Passes of the loop.
    pub turns: u64,
    /// Times a task was polled.
    pub polls: u64,
    /// Tasks alive now.
    pub tasks: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Times another thread rang its bell.
    pub rung: u64,
    /// System calls for I/O: `io_uring_enter`, or `epoll_wait` and the calls on sockets of the fallback.
    pub syscalls: u64,
    /// I/O operations finished.
    pub ios: u64,
    /// I/O operations under way.
    pub in_flight: u64,
    /// It sleeps at this moment.
    pub asleep: bool,
    /// It runs in interrupt mode ([`crate::Poll::Interrupt`]).
    pub in_interrupt: bool,
    /// It uses io_uring (and not the fallback).
    pub io_uring: bool,
}
