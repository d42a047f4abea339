//! The timers of one core: a binary heap of indices into a slab.
//!
//! Every timer knows its place in the heap, so it can be taken out when its future is dropped. Slab and heap keep their
//! capacity: a warm core sets and fires timers without allocating. Timers due at the same time fire in the order
//! in which they were set.
use std::task::Waker;

const NOWHERE: u32 = u32::MAX;

struct Timer {
    due: u64,
    order: u64,
    waker: Option<Waker>,
    place: u32,
}

/// All timers of a core.
#[derive(Default)]
pub(crate) struct Timers {
    slab: Vec<Timer>,
    free: Vec<u32>,
    heap: Vec<u32>,
    set: u64,
}

impl Timers {
    /// Sets a timer for `due` (nanoseconds) and names it.
    pub(crate) fn set(&mut self, due: u64, waker: Waker) -> u32 {
        self.set += 1;
        let place = self.heap.len() as u32;
        let timer = Timer {
            due,
            order: self.set,
            waker: Some(waker),
            place,
        };
        let name = match self.free.pop() {
            Some(name) => {
                self.slab[name as usize] = timer;
                name
            }
            None => {
                self.slab.push(timer);
                self.free.reserve(self.slab.len());
                (self.slab.len() - 1) as u32
            }
        };
        self.heap.push(name);
        self.up(place as usize);
        name
    }

    /// Has it fired? If not, `waker` is the one to wake.
    pub(crate) fn poll(&mut self, name: u32, waker: &Waker) -> bool {
        let timer = &mut self.slab[name as usize];
        if timer.place == NOWHERE {
            return true;
        }
        match &mut timer.waker {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        false
    }

    /// Forgets a timer, fired or not.
    pub(crate) fn remove(&mut self, name: u32) {
        let place = std::mem::replace(&mut self.slab[name as usize].place, NOWHERE);
        self.slab[name as usize].waker = None;
        if place != NOWHERE {
            self.take(place as usize);
        }
        self.free.push(name);
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.first().map(|&name| self.slab[name as usize].due)
    }

    /// Takes the first timer that is due at `now`.
    pub(crate) fn fire(&mut self, now: u64) -> Option<Waker> {
        let &first = self.heap.first()?;
        let timer = &mut self.slab[first as usize];
        if timer.due > now {
            return None;
        }
        timer.place = NOWHERE;
        let waker = timer.waker.take();
        self.take(0);
        waker
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.slab[self.heap[a] as usize], &self.slab[self.heap[b] as usize]);
        (a.due, a.order) < (b.due, b.order)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.slab[self.heap[a] as usize].place = a as u32;
        self.slab[self.heap[b] as usize].place = b as u32;
    }

    fn take(&mut self, place: usize) {
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.slab[self.heap[place] as usize].place = place as u32;
            self.up(place);
            self.down(place);
        }
    }

    fn up(&mut self, mut place: usize) {
        while place > 0 && self.before(place, (place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn down(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.before(child, least) {
                    least = child
                }
            }
            if least == place {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a sorted list: random sets, removals and firings in the same order, whatever the heap does inside.
    #[test]
    fn fires_in_order_of_time_and_then_of_setting() {
        let seed = 0x5eed_u64;
        println!("seed {seed:#x}");
        let mut random = seed;
        let mut below = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let mut timers = Timers::default();
        let mut model: Vec<(u64, u64, u32)> = Vec::new();
        let mut now = 0;
        for order in 0..20_000u64 {
            match below(4) {
                0 | 1 => {
                    let due = now + below(50);
                    model.push((due, order, timers.set(due, Waker::noop().clone())));
                }
                2 if !model.is_empty() => {
                    let (_, _, name) = model.swap_remove(below(model.len() as u64) as usize);
                    timers.remove(name);
                }
                _ => {
                    now += below(20);
                    model.sort();
                    while let Some(&(due, _, name)) = model.first().filter(|(due, ..)| *due <= now) {
                        assert_eq!(timers.next(), Some(due));
                        assert!(!timers.poll(name, Waker::noop()));
                        assert!(timers.fire(now).is_some());
                        assert!(
                            timers.poll(name, Waker::noop()),
                            "the timer that fired is the first of the model"
                        );
                        timers.remove(name);
                        model.remove(0);
                    }
                    assert!(timers.fire(now).is_none());
                }
            }
        }
    }
}
