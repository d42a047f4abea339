//! Exclusive ranges under shuttle: thousands of schedules of cores and of hosts that want a block to themselves, on the same source.
//!
//! A core is a lock here: what a core does without awaiting (look at the flag, submit) is done under it, and so is the message that asks
//! what is under way. Shuttle's atomics are sequentially consistent; what the flag needs of memory order is the message's, see `ranges.rs`.
#![allow(dead_code)]
mod primitives {
    pub(crate) use shuttle::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    };
    pub(crate) use std::sync::PoisonError;
}
#[path = "../src/ranges.rs"]
mod ranges;

use ranges::Ranges;
use shuttle::{
    future::block_on,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

const CORES: usize = 2;

#[derive(Default)]
struct House {
    ranges: Arc<Ranges>,
    /// Numbers of the I/Os under way, by core.
    cores: [Mutex<Vec<usize>>; CORES],
    next: AtomicUsize,
    /// Who is at the block.
    writers: AtomicUsize,
    owners: AtomicUsize,
}

impl House {
    /// An ordinary write on a core.
    fn write(&self, core: usize, now: u64) {
        let number = self.next.fetch_add(1, SeqCst);
        let submit = |under_way: &mut Vec<usize>| {
            under_way.push(number);
            self.writers.fetch_add(1, SeqCst);
        };
        let place = {
            let mut under_way = self.cores[core].lock().unwrap();
            let place = match self.ranges.is_guarded() {
                true => self.ranges.share(0..8, now),
                false => None,
            };
            if place.is_none() {
                submit(&mut under_way)
            }
            place
        };
        if let Some(place) = &place {
            block_on(place.turn());
            submit(&mut self.cores[core].lock().unwrap())
        }
        thread::yield_now();
        assert_eq!(self.owners.load(SeqCst), 0, "a write came in between");
        self.writers.fetch_sub(1, SeqCst);
        self.cores[core].lock().unwrap().retain(|one| *one != number);
        drop(place)
    }

    /// What was under way on each core is over.
    fn drain(&self) {
        let seen: Vec<Vec<usize>> = self.cores.iter().map(|core| core.lock().unwrap().clone()).collect();
        for (core, seen) in self.cores.iter().zip(seen) {
            while core.lock().unwrap().iter().any(|number| seen.contains(number)) {
                thread::yield_now()
            }
        }
    }

    fn own(&self, now: u64) {
        let (place, settled) = self.ranges.claim(4..5, now);
        if !settled {
            self.drain();
            self.ranges.settle()
        }
        block_on(place.turn());
        assert_eq!(self.owners.fetch_add(1, SeqCst), 0, "two have it to themselves");
        assert_eq!(self.writers.load(SeqCst), 0, "a write is still under way");
        thread::yield_now();
        assert_eq!(self.writers.load(SeqCst), 0, "a write came in between");
        self.owners.fetch_sub(1, SeqCst);
        drop(place)
    }
}

#[test]
fn nobody_writes_to_a_block_that_somebody_has_to_himself() {
    let story = || {
        let house = Arc::new(House::default());
        let (a, b, c, d) = (house.clone(), house.clone(), house.clone(), house.clone());
        let hosts = [
            thread::spawn(move || (0..3).for_each(|_| a.write(0, 1))),
            thread::spawn(move || (0..3).for_each(|_| b.write(1, 1))),
            thread::spawn(move || (0..2).for_each(|_| c.own(1))),
            thread::spawn(move || d.own(1)),
        ];
        hosts.into_iter().for_each(|host| host.join().unwrap())
    };
    shuttle::check_random(story, 3000);
    shuttle::check_pct(story, 1000, 3);
}

#[test]
fn the_flag_comes_down_and_goes_up_again() {
    let story = || {
        let house = Arc::new(House::default());
        house.own(1);
        assert!(house.ranges.is_guarded());
        let late = ranges::LINGER + 2;
        let (a, b, c) = (house.clone(), house.clone(), house.clone());
        let hosts = [
            thread::spawn(move || (0..3).for_each(|_| a.write(0, late))),
            thread::spawn(move || (0..3).for_each(|_| b.write(1, late))),
            // The clocks of two cores need not agree: the flag may come down while another has just asked.
            thread::spawn(move || (0..2).for_each(|_| c.own(1))),
        ];
        hosts.into_iter().for_each(|host| host.join().unwrap());
        house.write(0, late);
        assert!(!house.ranges.is_guarded(), "nobody has needed it for long");
    };
    shuttle::check_random(story, 3000);
}

#[test]
fn places_are_served_in_order_and_only_what_overlaps_waits() {
    shuttle::check_random(
        || {
            let ranges = Arc::new(Ranges::default());
            let (first, _) = ranges.claim(0..4, 1);
            ranges.settle();
            block_on(first.turn());
            let beside = ranges.share(4..8, 1).unwrap();
            block_on(beside.turn());
            let behind = ranges.share(3..5, 1).unwrap();
            let order = Arc::new(Mutex::new(Vec::new()));
            let waiting = {
                let order = order.clone();
                thread::spawn(move || {
                    block_on(behind.turn());
                    order.lock().unwrap().push("behind")
                })
            };
            thread::yield_now();
            order.lock().unwrap().push("first");
            drop(first);
            waiting.join().unwrap();
            assert_eq!(*order.lock().unwrap(), ["first", "behind"]);
        },
        500,
    );
}
