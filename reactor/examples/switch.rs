//! What the executor costs: two tasks that wake each other, turns with nothing to do, timers. `valgrind --tool=callgrind` counts the instructions.
use reactor::{Config, Notify, Reactor};
use std::{rc::Rc, time::Instant};

fn main() {
    let rounds: u64 = std::env::args()
        .nth(1)
        .map_or(1_000_000, |n| n.parse().expect("a number"));
    let reactor = Reactor::new(Config::default()).expect("a reactor");
    let (ping, pong) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
    let done = Rc::new(std::cell::Cell::new(0u64));
    for (mine, other) in [(ping.clone(), pong.clone()), (pong, ping.clone())] {
        let done = done.clone();
        reactor.spawn(async move {
            loop {
                mine.wait().await;
                done.set(done.get() + 1);
                other.notify_one()
            }
        });
    }
    reactor.turn();
    let started = Instant::now();
    reactor.enter(|| ping.notify_one());
    while done.get() < rounds {
        reactor.turn();
    }
    println!(
        "wake and poll: {:.1} ns",
        started.elapsed().as_nanos() as f64 / rounds as f64
    );
    let idle = Reactor::new(Config::default()).expect("a reactor");
    idle.turn();
    let started = Instant::now();
    for _ in 0..rounds {
        idle.turn();
    }
    println!(
        "idle turn: {:.1} ns",
        started.elapsed().as_nanos() as f64 / rounds as f64
    );
}
