//! Thousands of random schedules of more cores and larger pools than loom can enumerate, by shuttle: no deadlock, every stream finishes,
//! no right is lost, quotas hold. A failing schedule is printed and can be replayed.
//!
//! The pool's own source files, over shuttle's primitives instead of the standard library's. Needs no special flags.
// Each model uses a part of it.
#[allow(dead_code, missing_docs)]
#[path = "pool/over_shuttle.rs"]
mod pool;
use pool::{Base, compound::Compound, line::Line};
use shuttle::{
    future::block_on,
    rand::{Rng, thread_rng},
    thread,
};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

fn below(n: u32) -> u32 {
    thread_rng().gen_range(0..n)
}

/// Lets other tasks of this core, and other cores, go on.
async fn pause() {
    let mut once = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut once, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The tasks of one core, polled in turn until all are done.
fn core(mut tasks: Vec<Task<'_>>) {
    block_on(poll_fn(|cx| {
        tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        if tasks.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }))
}

#[test]
fn three_cores_with_more_work_than_rights() {
    shuttle::check_random(
        || {
            let base = Base::new(0, 9);
            let seats: Vec<_> = (0..3).map(|_| (base.clone(), base.child(2, 3, 6))).collect();
            let cores: Vec<_> = seats
                .into_iter()
                .map(|(base, seat)| {
                    thread::spawn(move || {
                        let rights = seat.take();
                        let task = |_| {
                            let (rights, base) = (rights.clone(), base.clone());
                            Box::pin(async move {
                                for _ in 0..2 {
                                    let mut some = rights.reserve(1 + below(2)).await.unwrap();
                                    if below(2) == 0 {
                                        pause().await
                                    }
                                    base.check();
                                    if below(3) == 0 {
                                        some.shrink(1)
                                    }
                                }
                                let mut given_up = rights.reserve(2);
                                let got = poll_fn(|cx| Poll::Ready(Pin::new(&mut given_up).poll(cx).is_ready())).await;
                                if got || below(2) == 0 {
                                    return;
                                }
                                drop(given_up.await.unwrap())
                            }) as Task
                        };
                        core((0..4).map(task).collect())
                    })
                })
                .collect();
            cores.into_iter().for_each(|core| core.join().unwrap());
            base.check();
            assert_eq!(base.free(), 9);
        },
        2000,
    )
}

#[test]
fn compounds_and_lines_of_several_cores() {
    shuttle::check_pct(
        || {
            let (slots, pages) = (Base::new(0, 6), Base::new(1, 8));
            let seats: Vec<_> = (0..3)
                .map(|i| (i, slots.child(1, 2, 3), pages.child(2, 3, 5)))
                .collect();
            let cores: Vec<_> = seats
                .into_iter()
                .map(|(i, s, p)| {
                    thread::spawn(move || {
                        let (s, p) = (s.take(), p.take());
                        let needs = if i == 1 { [(&p, 2), (&s, 1)] } else { [(&s, 1), (&p, 2)] };
                        let compound = &Compound::new(&needs).unwrap();
                        let line = &Line::open(&p, 1, 3);
                        let mut tasks: Vec<Task> = Vec::new();
                        for _ in 0..3 {
                            tasks.push(Box::pin(async move {
                                for _ in 0..2 {
                                    let held = compound.reserve().await.unwrap();
                                    pause().await;
                                    drop(held);
                                }
                            }));
                        }
                        if let Ok(line) = line {
                            tasks.push(Box::pin(async move {
                                for _ in 0..4 {
                                    line.grow();
                                    let work = (line.spend(), line.spend());
                                    assert!(work.0.is_some(), "the floor is always there");
                                    pause().await;
                                    if below(4) == 0 {
                                        line.recall(1 + below(3));
                                    }
                                    assert!(line.granted() + line.spent() >= 1);
                                }
                                // A line holds its floor as long as it lives; the compound of this core must not need it.
                                line.give_back(3);
                            }));
                        }
                        core(tasks)
                    })
                })
                .collect();
            cores.into_iter().for_each(|core| core.join().unwrap());
            slots.check();
            pages.check();
            assert_eq!((slots.free(), pages.free()), (6, 8));
        },
        1000,
        3,
    )
}
