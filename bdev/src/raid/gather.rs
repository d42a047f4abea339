//! Writes that go to the same stripe, put together: whoever has the stripe's lock does all that have come by then.
use crate::{Io, IoResult};
use std::cell::{Cell, RefCell};

/// The writes that wait for their stripes.
#[derive(Default)]
pub(crate) struct Gather {
    all: RefCell<Vec<Waiting>>,
    next: Cell<u64>,
}

struct Waiting {
    ticket: u64,
    stripe: u64,
    /// None: somebody has taken it.
    io: Option<Io>,
    done: Option<IoResult>,
}

impl Gather {
    /// A write has come.
    pub fn add(&self, stripe: u64, io: Io) -> u64 {
        let ticket = self.next.get() + 1;
        self.next.set(ticket);
        self.all.borrow_mut().push(Waiting {
            ticket,
            stripe,
            io: Some(io),
            done: None,
        });
        ticket
    }

    /// Blocks of writes that wait for a stripe, as far as they do not overlap.
    pub fn blocks(&self, stripe: u64) -> u64 {
        let all = self.all.borrow();
        let here = all.iter().filter(|one| one.stripe == stripe);
        here.filter_map(|one| one.io.as_ref())
            .map(|io| u64::from(io.range.count))
            .sum()
    }

    /// All writes of a stripe that nobody does yet, in the order in which they came.
    pub fn take(&self, stripe: u64, into: &mut Vec<(u64, Io)>) {
        let mut all = self.all.borrow_mut();
        let here = all.iter_mut().filter(|one| one.stripe == stripe);
        into.extend(here.filter_map(|one| Some((one.ticket, one.io.take()?))))
    }

    /// What came of one that was taken.
    pub fn finish(&self, ticket: u64, done: IoResult) {
        let mut all = self.all.borrow_mut();
        if let Some(one) = all.iter_mut().find(|one| one.ticket == ticket) {
            one.done = Some(done)
        }
    }

    /// The result of one's own write, if somebody has done it; it is forgotten then.
    pub fn result(&self, ticket: u64) -> Option<IoResult> {
        let mut all = self.all.borrow_mut();
        let at = all.iter().position(|one| one.ticket == ticket)?;
        let done = all[at].done?;
        // In place: the order says which of two that overlap is the later.
        all.remove(at);
        Some(done)
    }
}
