//! The lock-free parts under loom: every interleaving of two or three threads, on the same source files.
//! Loom's atomics work only inside a model, so the files are compiled here a second time, against them.
#![allow(dead_code)]
use loom::sync::{Arc, Condvar, Mutex};
use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize as Plain, Ordering::SeqCst},
    task::{Wake, Waker},
};

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};
}
#[path = "../src/atomic_waker.rs"]
mod atomic_waker;
#[path = "../src/mailbox.rs"]
mod mailbox;

/// Every interleaving with at most two preemptions: what finds bugs, in seconds.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f)
}

use atomic_waker::AtomicWaker;
use mailbox::WakeList;

fn list(slots: usize) -> WakeList {
    WakeList::new(
        (0..slots).map(|_| atomic::AtomicU8::new(0)).collect(),
        (0..slots).map(|_| atomic::AtomicU32::new(0)).collect(),
    )
}

/// A bell that really puts the core to sleep: if a wake-up is missed, nobody runs any more, and loom reports a deadlock.
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn new() -> Self {
        Self {
            rung: Mutex::new(false),
            changed: Condvar::new(),
        }
    }
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one()
    }
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap()
        }
        *rung = false
    }
}

/// Two threads wake two slots while the core goes to sleep whenever it finds nothing: it gets both, and sees
/// what the wakers wrote before.
#[test]
fn a_sleeping_core_misses_no_wake() {
    model(|| {
        let shared = Arc::new((list(2), Bell::new()));
        let data = Arc::new([atomic::AtomicU32::new(0), atomic::AtomicU32::new(0)]);
        let wakers: Vec<_> = (0..2u32)
            .map(|slot| {
                let (shared, data) = (shared.clone(), data.clone());
                loom::thread::spawn(move || {
                    data[slot as usize].store(7, atomic::Ordering::Relaxed);
                    if shared.0.push(slot) {
                        shared.1.ring()
                    }
                })
            })
            .collect();
        let (list, bell) = &*shared;
        let got = Cell::new(0);
        while got.get() != 0b11 {
            list.asleep();
            if list.is_empty() {
                bell.wait()
            }
            list.awake();
            list.take(|slot| {
                assert_eq!(got.get() >> slot & 1, 0, "woken once, so taken once");
                assert_eq!(data[slot as usize].load(atomic::Ordering::Relaxed), 7);
                got.set(got.get() | 1 << slot)
            });
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

/// Two threads wake the same slot: at least one of the takes sees what each of them wrote.
#[test]
fn a_wake_of_a_slot_that_is_woken_already_is_not_lost() {
    model(|| {
        let shared = Arc::new(list(1));
        let written = Arc::new(atomic::AtomicU32::new(0));
        let wakers: Vec<_> = (0..2u32)
            .map(|bit| {
                let (list, written) = (shared.clone(), written.clone());
                loom::thread::spawn(move || {
                    written.fetch_add(1 << bit, atomic::Ordering::Relaxed);
                    let _ = list.push(0);
                })
            })
            .collect();
        let seen = Cell::new(0);
        shared.take(|_| seen.set(written.load(atomic::Ordering::Relaxed)));
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        shared.take(|_| seen.set(written.load(atomic::Ordering::Relaxed)));
        assert_eq!(seen.get(), 0b11);
    });
}

struct Count(Plain);

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A receiver registers, then looks; a sender sends, then wakes: the receiver sees the message or is woken.
#[test]
fn register_then_look_meets_send_then_wake() {
    model(|| {
        let shared = Arc::new((AtomicWaker::new(), atomic::AtomicU32::new(0)));
        let sender = {
            let shared = shared.clone();
            loom::thread::spawn(move || {
                shared.1.store(1, atomic::Ordering::Relaxed);
                shared.0.wake()
            })
        };
        let count = std::sync::Arc::new(Count(Plain::new(0)));
        shared.0.register(&Waker::from(count.clone()));
        let seen = shared.1.load(atomic::Ordering::Relaxed) == 1;
        sender.join().unwrap();
        assert!(seen || count.0.load(SeqCst) > 0, "neither seen nor woken");
    });
}

/// Two wakers at once: the registered waker is woken, and not twice.
#[test]
fn two_wakes_wake_once() {
    model(|| {
        let shared = Arc::new(AtomicWaker::new());
        let count = std::sync::Arc::new(Count(Plain::new(0)));
        shared.register(&Waker::from(count.clone()));
        let other = {
            let shared = shared.clone();
            loom::thread::spawn(move || shared.wake())
        };
        shared.wake();
        other.join().unwrap();
        assert_eq!(count.0.load(SeqCst), 1);
    });
}
