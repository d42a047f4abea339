//! The executor: tasks, wakes, time, calls and stops.
use reactor::{Config, Elapsed, IoBackend, KeyLocks, Notify, Poll, Reactor, Reactors, Time, channel};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

const MS: Duration = Duration::from_millis(1);

fn two() -> Reactors {
    Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .unwrap()
}

#[test]
fn tasks_run_in_the_order_in_which_they_became_ready() {
    let order = Rc::new(RefCell::new(Vec::new()));
    reactor::sim::run(async {
        for name in ["a", "b", "c"] {
            let order = order.clone();
            reactor::spawn(async move {
                for step in 0..3 {
                    order.borrow_mut().push(format!("{name}{step}"));
                    reactor::yield_now().await
                }
            });
        }
        reactor::sleep(MS).await
    });
    assert_eq!(*order.borrow(), ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]);
}

/// An hour of timers takes no time, and they fire in order: by time, then in the order in which they were set.
#[test]
fn simulated_time_jumps_to_the_next_timer() {
    let started = Instant::now();
    let fired = Rc::new(RefCell::new(Vec::new()));
    reactor::sim::run(async {
        for (n, minutes) in [30u64, 10, 60, 10, 20].into_iter().enumerate() {
            let fired = fired.clone();
            reactor::spawn(async move {
                reactor::sleep(Duration::from_secs(60 * minutes)).await;
                fired.borrow_mut().push((n, reactor::now()))
            })
        }
        reactor::sleep(Duration::from_secs(3601)).await
    });
    let minutes = |m: u64| Time(m * 60_000_000_000);
    assert_eq!(
        *fired.borrow(),
        [
            (1, minutes(10)),
            (3, minutes(10)),
            (4, minutes(20)),
            (0, minutes(30)),
            (2, minutes(60))
        ]
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_timeout_ends_what_takes_too_long() {
    reactor::sim::run(async {
        assert_eq!(reactor::timeout(5 * MS, reactor::sleep(6 * MS)).await, Err(Elapsed));
        assert_eq!(reactor::now(), Time(5_000_000));
        assert_eq!(reactor::timeout(5 * MS, reactor::sleep(4 * MS)).await, Ok(()));
        assert_eq!(reactor::now(), Time(9_000_000));
    })
}

#[test]
fn real_sleeps_are_not_shorter_and_not_much_longer() {
    reactor::block_on(async {
        for us in [0, 10, 300, 3_000] {
            let started = Instant::now();
            reactor::sleep(Duration::from_micros(us)).await;
            let slept = started.elapsed();
            println!("asked for {us} us, slept {slept:?}");
            assert!(slept + Duration::from_micros(200) >= Duration::from_micros(us));
        }
    })
}

#[test]
fn a_call_runs_there_and_answers_here() {
    let reactors = two();
    for core in 0..2 {
        assert_eq!(reactors.call(core, async || reactor::core()).wait(), core);
    }
    // From one reactor to the other and back.
    let there = reactors.clone();
    let sum = reactors.call(0, move || async move {
        let mut sum = 0;
        for n in 0..100u64 {
            sum += there.call(1, move || async move { n * reactor::core() as u64 }).await
        }
        sum
    });
    assert_eq!(sum.wait(), 4950);
    reactors.stop();
    assert_eq!(reactors.call(0, async || 1).wait_checked(), Err(reactor::Gone));
}

/// Another thread wakes a sleeping reactor. Prints the latency; the bar is 50 us.
#[test]
fn a_sleeping_reactor_wakes_quickly() {
    let reactors = Reactors::start(Config {
        poll: Poll::Interrupt,
        ..Config::default()
    })
    .unwrap();
    let mut latencies = Vec::new();
    for _ in 0..50 {
        std::thread::sleep(2 * MS);
        let rung = Instant::now();
        latencies.push(reactors.call(0, move || async move { rung.elapsed() }).wait());
    }
    latencies.sort();
    println!("wake from sleep: median {:?}, worst {:?}", latencies[25], latencies[49]);
    let stats = reactors.stats()[0];
    assert!(
        stats.sleeps >= 50 && stats.rung >= 40,
        "it slept in between, and was rung: {stats:?}"
    );
    reactors.stop();
}

/// An adaptive reactor with nothing to do uses next to no CPU.
#[test]
fn an_idle_reactor_costs_nothing() {
    let cpu = || {
        // SAFETY: integers, for which zero is a value, and one writable rusage.
        let usage = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
            usage
        };
        let us = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
        us(usage.ru_utime) + us(usage.ru_stime)
    };
    let reactors = Reactors::start(Config::default()).unwrap();
    let before = reactors.call(0, move || async move { cpu() }).wait();
    std::thread::sleep(500 * MS);
    let used = reactors.call(0, move || async move { cpu() }).wait() - before;
    println!("idle for 500 ms: {used} us of CPU");
    assert!(used < 5_000, "{used} us in 500 ms is more than 1 %");
    reactors.stop();
}

#[test]
fn messages_from_many_threads_arrive_once_each_and_in_order() {
    const EACH: u64 = 5_000;
    let reactors = two();
    let (sender, receiver) = channel::bounded::<(u64, u64)>(64);
    let sums = reactors.call(0, move || async move {
        let mut next = [0u64; 4];
        while let Some((from, n)) = receiver.recv().await {
            assert_eq!(next[from as usize], n);
            next[from as usize] += 1;
        }
        next
    });
    let mut senders = Vec::new();
    for from in 0..2 {
        let sender = sender.clone();
        senders.push(reactors.call(1, move || async move {
            for n in 0..EACH {
                sender.send((from, n)).await.unwrap()
            }
        }));
    }
    let threads: Vec<_> = (2..4)
        .map(|from| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for n in 0..EACH {
                    let mut message = (from, n);
                    while let Err(back) = sender.try_send(message) {
                        message = back;
                        std::thread::yield_now()
                    }
                }
            })
        })
        .collect();
    drop(sender);
    senders.into_iter().for_each(|s| s.wait());
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(sums.wait(), [EACH; 4]);
    reactors.stop();
}

#[test]
fn a_channel_says_when_the_other_side_is_gone() {
    reactor::block_on(async {
        let (sender, receiver) = channel::bounded(2);
        sender.try_send(1).unwrap();
        drop(sender);
        assert_eq!((receiver.recv().await, receiver.recv().await), (Some(1), None));
        let (sender, receiver) = channel::bounded(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(2), "full");
        drop(receiver);
        assert_eq!(sender.send(3).await, Err(3));
    })
}

/// Two tasks on two cores pass a token: the cost of a round trip, printed.
#[test]
fn a_round_trip_between_cores() {
    const TRIPS: u32 = 2_000;
    let reactors = Reactors::start(Config {
        count: 2,
        poll: Poll::Adaptive,
        ..Config::default()
    })
    .unwrap();
    let (there, inbox) = channel::bounded::<u32>(16);
    let (back, answers) = channel::bounded::<u32>(16);
    let echo = reactors.call(1, move || async move {
        while let Some(n) = inbox.recv().await {
            let _ = back.send(n).await;
        }
    });
    let trip = reactors.call(0, move || async move {
        let started = Instant::now();
        for n in 0..TRIPS {
            there.send(n).await.unwrap();
            assert_eq!(answers.recv().await, Some(n));
        }
        started.elapsed() / TRIPS
    });
    println!("round trip between two cores: {:?}", trip.wait());
    echo.wait();
    reactors.stop();
}

#[test]
fn notify_one_wakes_in_order_and_remembers_once() {
    reactor::sim::run(async {
        let notify = Rc::new(Notify::new());
        let woken = Rc::new(RefCell::new(Vec::new()));
        for n in 0..3 {
            let (notify, woken) = (notify.clone(), woken.clone());
            reactor::spawn(async move {
                notify.wait().await;
                woken.borrow_mut().push(n)
            });
        }
        reactor::yield_now().await;
        notify.notify_one();
        reactor::yield_now().await;
        assert_eq!(*woken.borrow(), [0]);
        notify.notify_all();
        reactor::yield_now().await;
        assert_eq!(*woken.borrow(), [0, 1, 2]);
        notify.notify_one();
        notify.notify_one();
        notify.wait().await;
        assert_eq!(
            reactor::timeout(MS, notify.wait()).await,
            Err(Elapsed),
            "remembered once"
        );
        // A wait that is dropped after it was chosen hands on.
        let mut first = Box::pin(notify.wait());
        let mut second = Box::pin(notify.wait());
        assert!(reactor::timeout(MS, &mut first).await.is_err() && reactor::timeout(MS, &mut second).await.is_err());
        notify.notify_one();
        drop(first);
        second.await;
    })
}

#[test]
fn key_locks_exclude_each_other_and_serve_in_order() {
    reactor::sim::run(async {
        let locks = Rc::new(KeyLocks::new(2));
        let log = Rc::new(RefCell::new(Vec::new()));
        for (n, key) in [(0, 7), (1, 7), (2, 8), (3, 9), (4, 7)] {
            let (locks, log) = (locks.clone(), log.clone());
            reactor::spawn(async move {
                let _held = locks.lock(key).await;
                log.borrow_mut().push((n, reactor::now().0 / 1_000_000));
                reactor::sleep(MS).await
            });
        }
        reactor::sleep(10 * MS).await;
        // Two keys at a time: 9 waits for room although nobody holds it.
        assert_eq!(*log.borrow(), [(0, 0), (2, 0), (1, 1), (3, 1), (4, 2)]);
        assert!(locks.try_lock(7).is_some());
    })
}

#[test]
fn join_waits_for_all_and_reports_the_first_error() {
    type Child = std::pin::Pin<Box<dyn Future<Output = Result<(), u32>>>>;
    reactor::sim::run(async {
        let child = |ms: u64, result: Result<(), u32>| -> Child {
            Box::pin(async move {
                reactor::sleep(Duration::from_millis(ms)).await;
                result
            })
        };
        let join: reactor::Join<Child, 4> = [child(3, Err(3)), child(1, Ok(())), child(2, Err(2))]
            .into_iter()
            .collect();
        assert_eq!((join.await, reactor::now()), (Err(2), Time(3_000_000)));
        assert_eq!(reactor::Join::<Child, 4>::new().await, Ok(()));
    })
}

#[test]
fn a_stop_waits_for_tasks_asks_them_and_drops_the_rest() {
    struct Tell(std::sync::mpsc::Sender<&'static str>, &'static str);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let (tell, told) = std::sync::mpsc::channel();
    let reactors = Reactors::start(Config {
        grace: 100 * MS,
        ..Config::default()
    })
    .unwrap();
    reactors
        .call(0, move || async move {
            let asked = Tell(tell.clone(), "asked");
            reactor::spawn(async move {
                reactor::stopping().await;
                drop(asked)
            });
            let slow = Tell(tell.clone(), "slow");
            reactor::spawn(async move {
                reactor::sleep(20 * MS).await;
                drop(slow)
            });
            let stuck = Tell(tell.clone(), "stuck");
            reactor::spawn(async move {
                std::future::pending::<()>().await;
                drop(stuck)
            });
        })
        .wait();
    let started = Instant::now();
    reactors.stop();
    assert!(started.elapsed() >= 100 * MS, "it waited for the one that is stuck");
    assert_eq!(told.iter().collect::<Vec<_>>(), ["asked", "slow", "stuck"]);
}

#[test]
fn a_panic_ends_its_task_and_nothing_else() {
    let reactors = Reactors::start(Config::default()).unwrap();
    assert_eq!(
        reactors
            .call(0, async || -> u32 { panic!("on purpose") })
            .wait_checked(),
        Err(reactor::Gone)
    );
    assert_eq!(reactors.call(0, async || 5).wait(), 5);
    reactors.stop();
}

#[test]
fn pollers_run_every_turn_until_dropped() {
    reactor::block_on(async {
        let calls = Rc::new(Cell::new(0));
        let seen = calls.clone();
        let guard = reactor::poller(move || {
            seen.set(seen.get() + 1);
            false
        });
        // Nothing else happens, and it is called again and again; how often in a second is the scheduler's affair here.
        let (before, mut naps) = (calls.get(), 0);
        while calls.get() < before + 10 {
            reactor::sleep(20 * MS).await;
            naps += 1;
            assert!(naps < 100, "{} calls in {naps} naps", calls.get() - before);
        }
        drop(guard);
        let after = calls.get();
        reactor::sleep(5 * MS).await;
        assert_eq!(calls.get(), after);
    })
}

/// DESIGN D12: the loop is ours here. It turns until nothing is left to do, then waits with poll(2) on the reactor's descriptor, which
/// messages from another thread make readable.
#[test]
fn an_outer_loop_drives_the_turns() {
    for io in [IoBackend::IoUring, IoBackend::Epoll] {
        let Ok(reactor) = Reactor::new(Config {
            io,
            ..Config::default()
        }) else {
            continue;
        };
        let fd = reactor.fd().unwrap();
        let (sender, receiver) = channel::bounded::<u32>(4);
        let got = Rc::new(Cell::new(0));
        let seen = got.clone();
        reactor.spawn(async move {
            while let Some(n) = receiver.recv().await {
                seen.set(seen.get() + n)
            }
            seen.set(seen.get() + 100)
        });
        let thread = std::thread::spawn(move || {
            for n in 1..=3 {
                std::thread::sleep(20 * MS);
                sender.try_send(n).unwrap()
            }
        });
        let mut waits = 0;
        while got.get() < 106 {
            if reactor.turn().work || !reactor.prepare_to_wait() {
                continue;
            }
            waits += 1;
            let mut poll = libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            let started = Instant::now();
            // SAFETY: one pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, 60_000) };
            assert!(
                ready == 1 && started.elapsed() < 50_000 * MS,
                "woken by the descriptor, not by the time"
            );
        }
        println!("{io:?}: waited {waits} times");
        assert!((1..100).contains(&waits));
        thread.join().unwrap();
    }
}

#[test]
fn many_tasks_find_room() {
    reactor::block_on(async {
        let done = Rc::new(Cell::new(0));
        for _ in 0..300_000 {
            let done = done.clone();
            reactor::spawn(async move {
                reactor::yield_now().await;
                done.set(done.get() + 1)
            });
        }
        while done.get() < 300_000 {
            reactor::yield_now().await
        }
    })
}

/// Pinned to a CPU, and its helpers are not.
#[test]
fn a_reactor_stays_on_its_cpu() {
    let here = || {
        // SAFETY: no memory is passed.
        unsafe { libc::sched_getcpu() as usize }
    };
    let cpu = here();
    let reactors = Reactors::start(Config {
        cores: vec![cpu],
        ..Config::default()
    })
    .unwrap();
    for _ in 0..20 {
        assert_eq!(reactors.call(0, move || async move { here() }).wait(), cpu);
        std::thread::sleep(MS);
    }
    assert_eq!(reactors.stats()[0].cpu, Some(cpu));
    reactors.stop();
    let error = Reactors::start(Config {
        cores: vec![100_000],
        ..Config::default()
    })
    .unwrap_err();
    assert!(error.to_string().contains("100000"), "{error}");
}

/// A message that comes too late is dropped, so that whoever waits for its answer learns of it.
#[test]
fn a_message_to_nobody_is_dropped() {
    for _ in 0..200 {
        let (sender, receiver) = channel::bounded::<std::sync::Arc<()>>(8);
        let witness = std::sync::Arc::new(());
        let message = witness.clone();
        let thread = std::thread::spawn(move || {
            let _ = sender.try_send(message);
            sender
        });
        drop(receiver);
        let _sender = thread.join().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&witness), 1);
    }
}
