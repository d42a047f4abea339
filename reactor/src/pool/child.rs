//! A child's end of a ledger: reserving, waiting in line, giving back. One core's.
use super::{
    ledger::{Ledger, PoolConfig, PoolError, Share},
    sync::Arc,
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Unreservations between two looks at how much was idle all the time.
const WINDOW: u32 = 256;

/// Rights to one kind of object which one core or one stream holds: a child pool without the objects. Cloning gives another handle.
#[derive(Clone)]
pub struct Rights(Rc<Child>);

struct Child {
    ledger: Arc<Ledger>,
    share: Arc<Share>,
    id: u64,
    config: Cell<PoolConfig>,
    /// In order; those already granted come first.
    line: RefCell<VecDeque<Waiter>>,
    /// How many of them are not granted yet.
    waiting: Cell<u32>,
    next_ticket: Cell<u64>,
    /// The ledger has been asked on behalf of the first in line.
    asked: Cell<bool>,
    /// Unreservations in this window, and the least idle rights seen.
    window: Cell<u32>,
    least_idle: Cell<u32>,
}

struct Waiter {
    ticket: u64,
    n: u32,
    granted: bool,
    waker: Waker,
}

impl Rights {
    pub(super) fn open(ledger: &Arc<Ledger>, name: &str, config: PoolConfig) -> Result<Rights, PoolError> {
        Ok(Rights::of(ledger, ledger.open(name, config)?, config))
    }
    /// The owner of an account just opened; it may be on another core than who opened it.
    pub(super) fn of(ledger: &Arc<Ledger>, (id, share): (u64, Arc<Share>), config: PoolConfig) -> Rights {
        Rights(Rc::new(Child {
            ledger: ledger.clone(),
            share,
            id,
            config: Cell::new(config),
            line: RefCell::default(),
            waiting: Cell::new(0),
            next_ticket: Cell::new(0),
            asked: Cell::new(false),
            window: Cell::new(0),
            least_idle: Cell::new(u32::MAX),
        }))
    }
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.0.ledger
    }
    pub(super) fn same(&self, other: &Rights) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The thresholds in force.
    pub fn config(&self) -> PoolConfig {
        self.0.config.get()
    }
    /// Sets new thresholds, or changes nothing if the base cannot spare the new deadlock threshold.
    pub fn tune(&self, config: PoolConfig) -> Result<(), PoolError> {
        self.0.ledger.tune(self.0.id, config)?;
        self.0.config.set(config);
        Ok(())
    }
    /// Rights reserved, and rights held ready.
    pub fn reserved_and_idle(&self) -> (u32, u32) {
        let view = self.0.share.view();
        (view.reserved, view.idle)
    }
    /// True while some child of the same base starves: a good time to give back what one can do without.
    pub fn is_called(&self) -> bool {
        self.0.share.view().called
    }
    /// Gives all idle rights beyond the deadlock threshold back to the base: a stream that expects to be quiet.
    pub fn give_back(&self) {
        self.0.ledger.bleed(self.0.id, u32::MAX)
    }

    /// The right to `n` objects, once there is one and all who asked before have theirs. Fails only if `n` is beyond the deadlock threshold.
    ///
    /// Dropping the future gives up the place in line, and the rights if they have been granted.
    pub fn reserve(&self, n: u32) -> Reserve {
        Reserve {
            rights: self.clone(),
            n,
            ticket: None,
        }
    }
    /// The right to `n` objects if it can be had at once and nobody is in line.
    #[inline]
    pub fn try_reserve(&self, n: u32) -> Option<Reservation> {
        let child = &*self.0;
        let got = child.waiting.get() == 0 && (child.share.try_reserve(n) || child.ledger.reserve(child.id, n, None));
        got.then(|| Reservation {
            rights: self.clone(),
            n,
        })
    }
}

impl Child {
    #[inline]
    fn unreserve(&self, n: u32) {
        let before = self.share.unreserve(n);
        if before.called {
            self.ledger.settle(); // those who starve first, or a busy child would serve itself for ever
        }
        if self.waiting.get() > 0 {
            return self.serve();
        }
        self.least_idle.set(self.least_idle.get().min(before.idle));
        self.window.set(self.window.get() + 1);
        if self.window.get() >= WINDOW {
            let idle = self.least_idle.replace(u32::MAX);
            self.window.set(0);
            if idle > 0 && before.idle + before.reserved > self.config.get().deadlock {
                self.ledger.bleed(self.id, idle.div_ceil(8)); // an eighth of what nobody used in the whole window
            }
        }
    }

    /// Grants to those in line, in order, as far as rights go.
    fn serve(&self) {
        loop {
            let first = self
                .line
                .borrow()
                .iter()
                .find(|w| !w.granted)
                .map(|w| (w.ticket, w.n, w.waker.clone()));
            let Some((ticket, n, waker)) = first else { break };
            if !self.share.try_reserve(n) {
                if !self.ledger.reserve(self.id, n, Some(&waker)) {
                    self.asked.set(true);
                    return;
                }
                self.asked.set(false); // granted through the ledger, which has crossed us off
            }
            self.waiting.set(self.waiting.get() - 1);
            let mut line = self.line.borrow_mut();
            if let Some(waiter) = line.iter_mut().find(|w| w.ticket == ticket) {
                waiter.granted = true;
            }
            drop(line);
            waker.wake();
        }
        if self.asked.replace(false) {
            self.ledger.calm(self.id);
        }
    }
    /// Takes a waiter out of line; true if it had been granted.
    fn leave(&self, ticket: u64) -> bool {
        let mut line = self.line.borrow_mut();
        let waiter = line
            .iter()
            .position(|w| w.ticket == ticket)
            .and_then(|at| line.remove(at));
        let granted = waiter.is_some_and(|w| w.granted);
        if !granted {
            self.waiting.set(self.waiting.get() - 1);
        }
        granted
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.ledger.close(self.id) // reservations hold us, so all have come back
    }
}

/// See [`Rights::reserve`].
#[must_use = "reserves nothing unless awaited"]
pub struct Reserve {
    rights: Rights,
    n: u32,
    ticket: Option<u64>,
}

impl Future for Reserve {
    type Output = Result<Reservation, PoolError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { rights, n, ticket } = &mut *self;
        let (child, n) = (&*rights.0, *n);
        let of = |rights: &Rights| {
            Poll::Ready(Ok(Reservation {
                rights: rights.clone(),
                n,
            }))
        };
        let mine = match *ticket {
            Some(mine) => {
                let mut line = child.line.borrow_mut();
                if let Some(waiter) = line.iter_mut().find(|w| w.ticket == mine) {
                    waiter.waker.clone_from(cx.waker());
                }
                mine
            }
            None => {
                let deadlock = child.config.get().deadlock;
                if n > deadlock {
                    return Poll::Ready(Err(PoolError::TooLarge { wanted: n, deadlock }));
                }
                if child.waiting.get() == 0 && child.share.try_reserve(n) {
                    return of(rights);
                }
                let mine = child.next_ticket.get();
                child.next_ticket.set(mine + 1);
                *ticket = Some(mine);
                let waiter = Waiter {
                    ticket: mine,
                    n,
                    granted: false,
                    waker: cx.waker().clone(),
                };
                child.line.borrow_mut().push_back(waiter);
                child.waiting.set(child.waiting.get() + 1);
                mine
            }
        };
        child.serve();
        let granted = child.line.borrow().iter().any(|w| w.ticket == mine && w.granted);
        if !granted {
            return Poll::Pending;
        }
        child.leave(mine);
        *ticket = None;
        of(rights)
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            if self.rights.0.leave(ticket) {
                self.rights.0.unreserve(self.n)
            }
            self.rights.0.serve() // who stood behind may be first now
        }
    }
}

/// The right to some objects. Dropping it unreserves.
#[must_use = "dropping a reservation gives it up"]
pub struct Reservation {
    rights: Rights,
    n: u32,
}

impl Reservation {
    /// Objects it is good for.
    pub fn remaining(&self) -> u32 {
        self.n
    }
    /// The pool whose rights these are.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }
    /// Takes `n` rights out, or none if there are not as many.
    pub fn split(&mut self, n: u32) -> Option<Reservation> {
        self.n = self.n.checked_sub(n)?;
        Some(Reservation {
            rights: self.rights.clone(),
            n,
        })
    }
    /// Adds the rights of `other`, which must be of the same pool; otherwise gives it back.
    pub fn merge(&mut self, mut other: Reservation) -> Result<(), Reservation> {
        if !self.rights.same(&other.rights) {
            return Err(other);
        }
        self.n += std::mem::take(&mut other.n);
        Ok(())
    }
    /// Gives up to `n` rights back and keeps the rest.
    pub fn shrink(&mut self, n: u32) {
        let n = n.min(self.n);
        self.n -= n;
        self.rights.0.unreserve(n)
    }
}
impl Drop for Reservation {
    #[inline]
    fn drop(&mut self) {
        if self.n > 0 {
            self.rights.0.unreserve(self.n)
        }
    }
}
impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({})", self.n)
    }
}
