//! Every interleaving of two cores with small pools, by loom: no deadlock, no lost right, no quota exceeded.
//!
//! The pool's own source files, over loom's primitives instead of the standard library's. Needs no special flags.
// Each model uses a part of it.
#[allow(dead_code, missing_docs)]
#[path = "pool/over_loom.rs"]
mod pool;
use loom::{
    future::block_on,
    sync::{Arc, Notify},
    thread,
};
use pool::{Base, child::*, compound::Compound};
use std::{future::Future, future::poll_fn, pin::Pin, task::Poll};

/// All schedules with up to `preemptions` switches at a point where a core could have gone on, and any number elsewhere.
fn explore(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(f)
}

/// Polls once.
async fn glance(reserve: &mut Reserve) -> Option<Reservation> {
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *reserve).poll(cx) {
            Poll::Ready(got) => Some(got.unwrap()),
            Poll::Pending => None,
        })
    })
    .await
}

/// Holds one thing, would like a second one meanwhile, and waits for it if need be after the first is done.
fn stream(base: &Base, rights: Rights, n: u32) {
    block_on(async {
        let first = rights.reserve(n).await.unwrap();
        let mut next = rights.reserve(n);
        let second = glance(&mut next).await;
        base.check();
        drop(first);
        let second = match second {
            Some(second) => second,
            None => next.await.unwrap(),
        };
        base.check();
        drop(second);
    });
    base.check();
}

#[test]
fn two_streams_share_one_spare_right() {
    explore(3, || {
        let base = Base::new(0, 3);
        let (here, other) = (base.child(1, 2, 2), (base.child(1, 2, 2), base.clone()));
        let there = thread::spawn(move || stream(&other.1, other.0.take(), 1));
        stream(&base, here.take(), 1);
        there.join().unwrap();
        assert_eq!(base.free(), 3);
    })
}

#[test]
fn larger_reservations_than_there_is_to_spare() {
    explore(2, || {
        let base = Base::new(0, 5);
        let (here, other) = (base.child(2, 2, 4), (base.child(2, 3, 4), base.clone()));
        let there = thread::spawn(move || stream(&other.1, other.0.take(), 2));
        stream(&base, here.take(), 2);
        there.join().unwrap();
        assert_eq!(base.free(), 5);
    })
}

/// The other child has taken more than its guarantee, goes quiet and never comes back: its core sleeps. Its surplus has to be found.
#[test]
fn who_starves_is_served_by_a_child_that_is_merely_idle() {
    explore(3, || {
        let base = Base::new(0, 3);
        let (here, other) = (base.child(1, 1, 2), base.child(1, 2, 2));
        let end = Arc::new(Notify::new());
        let asleep = end.clone();
        let there = thread::spawn(move || {
            let rights = other.take();
            drop((rights.try_reserve(1), rights.try_reserve(1)));
            drop(rights.try_reserve(1));
            asleep.wait();
        });
        let rights = here.take();
        block_on(async {
            let first = rights.reserve(1).await.unwrap();
            let second = rights.reserve(1).await.unwrap();
            base.check();
            drop((first, second));
        });
        end.notify();
        there.join().unwrap();
        base.check();
    })
}

#[test]
fn giving_up_loses_nothing() {
    explore(3, || {
        let base = Base::new(0, 3);
        let (here, other) = (base.child(1, 2, 2), (base.child(1, 2, 2), base.clone()));
        let there = thread::spawn(move || stream(&other.1, other.0.take(), 1));
        let rights = here.take();
        block_on(async {
            let first = rights.reserve(1).await.unwrap();
            let mut never = rights.reserve(1);
            let got = glance(&mut never).await;
            drop(never); // granted or not
            drop((got, first));
        });
        drop(rights);
        base.check();
        there.join().unwrap();
        assert_eq!(base.free(), 3);
    })
}

#[test]
fn compounds_in_any_order_do_not_deadlock() {
    explore(3, || {
        let (one, two) = (Base::new(0, 3), Base::new(1, 2));
        let (x, y) = (one.child(1, 2, 2), two.child(1, 1, 1));
        let (a, b) = (one.child(1, 1, 2), two.child(1, 1, 1));
        let there = thread::spawn(move || {
            let (a, b) = (a.take(), b.take());
            let compound = Compound::new(&[(&b, 1), (&a, 1)]).unwrap();
            block_on(async { drop(compound.reserve().await.unwrap()) });
        });
        let (x, y) = (x.take(), y.take());
        let compound = Compound::new(&[(&x, 1), (&y, 1)]).unwrap();
        block_on(async {
            let more = x.reserve(1).await.unwrap();
            drop(more);
            drop(compound.reserve().await.unwrap());
        });
        drop((compound, x, y));
        there.join().unwrap();
        one.check();
        two.check();
        assert_eq!((one.free(), two.free()), (3, 2));
    })
}
