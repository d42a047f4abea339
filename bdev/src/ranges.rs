//! Ranges of a node that somebody has to himself: what COMPARE AND WRITE and its like need, and nobody else pays for.
//!
//! Ordinary I/O looks at one flag. While it is down, no I/O is written down anywhere. Who wants a range to himself raises it:
//!
//! ```text
//!   1. raise the flag, take a place in the table      from now on ordinary I/O takes a place as well, and waits for its turn
//!   2. on every core: drain                           what looked at the flag before it was raised has been submitted by now
//!                                                     (nothing is awaited between the look and the submit), so it ends here
//!   3. wait for the places before one's own           all I/O there is now stands in the table
//! ```
//!
//! Step 2 is a message to each core, and that is why the flag can be read without any ordering: the message comes after the store, so a
//! core that has run it sees the flag raised ever after; and whatever a core sent down before it ran the message, the message waits for.
//! It is taken once: as long as the flag stays up (it comes down [`LINGER`] after it was last needed) the table knows everything.
//!
//! Places are served in the order they were taken, so neither side starves; ordinary I/O waits for nobody but the exclusive. The same
//! source is compiled against shuttle's primitives in `tests/ranges.rs`, with step 2 as messages between threads.
use crate::primitives::{Arc, AtomicBool, Mutex, MutexGuard, PoisonError, Relaxed};
use std::{
    future::poll_fn,
    ops::Range,
    task::{Context, Poll, Waker},
};

/// Nanoseconds the flag stays up after an exclusive range was last asked for. Long enough that a host's lock traffic drains the cores once.
pub const LINGER: u64 = 2_000_000_000;

/// The table of one node, for all cores.
#[derive(Default)]
pub struct Ranges {
    guarded: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// In the order in which they came. As many as there are I/Os under way, which command slots bound.
    places: Vec<Entry>,
    next: u64,
    exclusive: usize,
    /// All I/O under way stands in the table.
    settled: bool,
    /// When an exclusive range was last asked for.
    last: u64,
}

struct Entry {
    ticket: u64,
    range: Range<u64>,
    exclusive: bool,
    waker: Option<Waker>,
}

impl Entry {
    fn excludes(&self, other: &Entry) -> bool {
        (self.exclusive || other.exclusive) && self.range.start < other.range.end && other.range.start < self.range.end
    }
}

impl Table {
    fn take(&mut self, range: Range<u64>, exclusive: bool) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.exclusive += usize::from(exclusive);
        self.places.push(Entry {
            ticket,
            range,
            exclusive,
            waker: None,
        });
        ticket
    }

    /// Nobody who came before keeps the place at `at` from its turn.
    fn has_turn(&self, at: usize) -> bool {
        self.places[..at]
            .iter()
            .all(|earlier| !earlier.excludes(&self.places[at]))
    }
}

impl Ranges {
    /// Ordinary I/O has to take a place. One load; see the module for why it needs no ordering.
    #[inline]
    pub fn is_guarded(&self) -> bool {
        self.guarded.load(Relaxed)
    }

    /// A place for ordinary I/O that saw the flag up. `None`: nobody needs that any more, and the flag is down.
    /// What follows must be submitted before anything else is awaited.
    pub fn share(self: &Arc<Self>, range: Range<u64>, now: u64) -> Option<Place> {
        let mut table = self.table();
        if table.exclusive == 0 && now.saturating_sub(table.last) > LINGER {
            table.settled = false;
            self.guarded.store(false, Relaxed);
            return None;
        }
        let ticket = table.take(range, false);
        drop(table);
        Some(Place {
            ranges: self.clone(),
            ticket,
        })
    }

    /// A place for somebody who wants the range to himself; it is his at his [`turn`](Place::turn), and only if the second answer is
    /// true or all cores have been drained since.
    pub fn claim(self: &Arc<Self>, range: Range<u64>, now: u64) -> (Place, bool) {
        let mut table = self.table();
        table.last = table.last.max(now);
        self.guarded.store(true, Relaxed);
        let ticket = table.take(range, true);
        let settled = table.settled;
        drop(table);
        let place = Place {
            ranges: self.clone(),
            ticket,
        };
        (place, settled)
    }

    /// All cores have been drained since somebody who still holds a place claimed it.
    pub fn settle(&self) {
        self.table().settled = true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, ticket: u64) {
        let mut table = self.table();
        let Some(at) = table.places.iter().position(|place| place.ticket == ticket) else {
            return;
        };
        let gone = table.places.remove(at);
        table.exclusive -= usize::from(gone.exclusive);
        let mut wakers = Vec::new();
        for later in at..table.places.len() {
            let waits = table.places[later].waker.is_some() && gone.excludes(&table.places[later]);
            if waits && table.has_turn(later) {
                wakers.extend(table.places[later].waker.take())
            }
        }
        drop(table);
        wakers.into_iter().for_each(Waker::wake)
    }
}

/// A place in the table, until dropped.
#[must_use = "dropping a place gives it up"]
pub struct Place {
    ranges: Arc<Ranges>,
    ticket: u64,
}

impl Place {
    /// Waits for all that came before and is in the way.
    pub async fn turn(&self) {
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut table = self.ranges.table();
        let at = table.places.iter().position(|place| place.ticket == self.ticket);
        // A place is in the table as long as it exists.
        let Some(at) = at.filter(|at| !table.has_turn(*at)) else {
            return Poll::Ready(());
        };
        table.places[at].waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ranges.leave(self.ticket)
    }
}
