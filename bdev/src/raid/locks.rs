//! Ranges of an array that one at a time has to himself: writes that overlap, and whatever compares or copies what they change.
//!
//! First come, first served; a range waits for all that overlap it and came before. There are as many as command slots, and few overlap, so they stand
//! in one list.
use std::{
    cell::RefCell,
    future::poll_fn,
    ops::Range,
    task::{Poll, Waker},
};

#[derive(Default)]
pub(crate) struct Locks(RefCell<Places>);

#[derive(Default)]
struct Places {
    /// In the order in which they came.
    all: Vec<Place>,
    next: u64,
}

struct Place {
    ticket: u64,
    range: Range<u64>,
    waker: Option<Waker>,
}

impl Places {
    fn has_turn(&self, at: usize) -> bool {
        let Range { start, end } = self.all[at].range;
        let before = &self.all[..at];
        before
            .iter()
            .all(|other| other.range.end <= start || end <= other.range.start)
    }
}

impl Locks {
    /// Waits for the range. May be dropped while waiting.
    pub async fn lock(&self, range: Range<u64>) -> Guard<'_> {
        let ticket = {
            let mut places = self.0.borrow_mut();
            places.next += 1;
            let ticket = places.next;
            places.all.push(Place {
                ticket,
                range,
                waker: None,
            });
            ticket
        };
        let guard = Guard { locks: self, ticket };
        poll_fn(|cx| {
            let mut places = self.0.borrow_mut();
            match places.all.binary_search_by_key(&ticket, |place| place.ticket) {
                Ok(at) if !places.has_turn(at) => {
                    places.all[at].waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
        guard
    }
}

/// A range that is taken until this is dropped.
#[must_use = "the range is free again when the guard is dropped"]
pub(crate) struct Guard<'a> {
    locks: &'a Locks,
    ticket: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut places = self.locks.0.borrow_mut();
        let Ok(at) = places.all.binary_search_by_key(&self.ticket, |place| place.ticket) else {
            return;
        };
        let gone = places.all.remove(at).range;
        for later in at..places.all.len() {
            let waits = &places.all[later];
            let touched = waits.range.start < gone.end && gone.start < waits.range.end;
            if touched && waits.waker.is_some() && places.has_turn(later) {
                // Waking runs nobody: it makes a note.
                if let Some(waker) = places.all[later].waker.take() {
                    waker.wake()
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    #[test]
    fn who_overlaps_waits_for_who_came_before() {
        let locks = Locks::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(locks.lock(0..10));
        let Poll::Ready(first) = first.as_mut().poll(&mut cx) else {
            panic!("nobody is before it")
        };
        let mut second = pin!(locks.lock(5..15));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        // It overlaps only one that waits, and waits for that.
        let mut third = pin!(locks.lock(12..20));
        assert!(third.as_mut().poll(&mut cx).is_pending());
        let mut elsewhere = pin!(locks.lock(20..21));
        assert!(elsewhere.as_mut().poll(&mut cx).is_ready());
        drop(first);
        let Poll::Ready(second) = second.as_mut().poll(&mut cx) else {
            panic!("its turn")
        };
        assert!(third.as_mut().poll(&mut cx).is_pending());
        drop(second);
        assert!(third.as_mut().poll(&mut cx).is_ready());
        assert_eq!(locks.0.borrow().all.len(), 0);
    }
}
