//! A line of credit: rights lent to somebody else (FEATURES S21).
//!
//! ```text
//!   pool ──reserve──► granted ──the peer uses one──► spent ──work done──► granted again
//!     ▲                                                │
//!     └──────── unreserve: recalled, or somebody starves
//! ```
//!
//! A credit is a promise: whoever holds one may send, and finds an object. iSCSI's command window (MaxCmdSN = ExpCmdSN + granted − 1) and an
//! NVMe queue's depth are lines to a host. The window grows when the pool has rights to spare and shrinks when others starve, but a credit
//! in the peer's hands is never taken away: the line shrinks as credits are spent and come back. Never below its floor, so every peer makes
//! progress.
use super::{
    child::{Reservation, Rights},
    ledger::PoolError,
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
};

/// The provider's end of a line of credit. Cloning gives another handle.
#[derive(Clone)]
pub struct Line(Rc<State>);

struct State {
    /// As many as are granted and spent together.
    held: RefCell<Reservation>,
    granted: Cell<u32>,
    spent: Cell<u32>,
    floor: u32,
    limit: Cell<u32>,
}

impl Line {
    /// Lends `floor` credits at once, which stay for as long as the line does, and up to `limit` later ([`Line::grow`]). Fails if the pool
    /// cannot spare the floor now.
    pub fn open(pool: &Rights, floor: u32, limit: u32) -> Result<Line, PoolError> {
        let floor = floor.max(1);
        let refused = |wanted| PoolError::Exhausted {
            wanted,
            spare: pool.reserved_and_idle().1,
        };
        let held = RefCell::new(pool.try_reserve(floor).ok_or_else(|| refused(floor))?);
        let (granted, limit) = (Cell::new(floor), Cell::new(limit.max(floor)));
        Ok(Line(Rc::new(State {
            held,
            granted,
            spent: Cell::new(0),
            floor,
            limit,
        })))
    }
    /// Credits in the peer's hands.
    pub fn granted(&self) -> u32 {
        self.0.granted.get()
    }
    /// Credits the peer has spent on work that is under way.
    pub fn spent(&self) -> u32 {
        self.0.spent.get()
    }
    /// The most credits the line may have, granted and spent.
    pub fn limit(&self) -> u32 {
        self.0.limit.get()
    }

    /// Grants more, as far as limit and pool go and nobody starves. Gives the number of new credits.
    pub fn grow(&self) -> u32 {
        let mut new = 0;
        let mut held = self.0.held.borrow_mut();
        let rights = held.rights().clone();
        let most = rights.config().deadlock;
        while !rights.is_called() {
            let n = self.0.limit.get().saturating_sub(held.remaining()).min(most);
            let got = std::iter::successors(Some(n), |n| Some(n / 2))
                .take_while(|n| *n > 0)
                .find_map(|n| rights.try_reserve(n));
            let Some(got) = got else { break };
            new += got.remaining();
            if held.merge(got).is_err() {
                break; // both are of `rights`
            }
        }
        self.0.granted.set(self.0.granted.get() + new);
        new
    }
    /// The peer has used a credit. None if it had none: it broke the rules.
    #[inline]
    pub fn spend(&self) -> Option<Credit> {
        self.0.granted.set(self.0.granted.get().checked_sub(1)?);
        self.0.spent.set(self.0.spent.get() + 1);
        Some(Credit(self.clone()))
    }
    /// The peer gives up to `n` credits back unused, in protocols that can. Gives the number.
    pub fn give_back(&self, n: u32) -> u32 {
        let held = self.0.granted.get() + self.0.spent.get();
        let n = n.min(self.0.granted.get()).min(held - self.0.floor.min(held));
        self.0.granted.set(self.0.granted.get() - n);
        self.0.shrink(n);
        n
    }
    /// Sets a new limit, not below the floor. Credits beyond it are not granted again once they come back; gives their number.
    pub fn recall(&self, limit: u32) -> u32 {
        self.0.limit.set(limit.max(self.0.floor));
        (self.0.granted.get() + self.0.spent.get()).saturating_sub(self.0.limit.get())
    }
}

impl State {
    fn shrink(&self, n: u32) {
        if n == 0 {
            return;
        }
        // Out of the cell before it is given up: that may wake others, who may look at this line.
        let gone = self.held.borrow_mut().split(n);
        drop(gone)
    }
    #[inline]
    fn come_back(&self) {
        self.spent.set(self.spent.get() - 1);
        let all = self.granted.get() + self.spent.get() + 1;
        if all > self.limit.get() || (all > self.floor && self.held.borrow().rights().is_called()) {
            self.shrink(1)
        } else {
            self.granted.set(self.granted.get() + 1)
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Line({} granted, {} spent, at most {})",
            self.granted(),
            self.spent(),
            self.limit()
        )
    }
}

/// A spent credit: the peer's right to the work under way. Dropped when that is done, it is granted again, or goes back to the pool if the
/// line has to shrink.
#[derive(Debug)]
pub struct Credit(Line);

impl Credit {
    /// The line it belongs to.
    pub fn line(&self) -> &Line {
        &self.0
    }
}
impl Drop for Credit {
    #[inline]
    fn drop(&mut self) {
        self.0.0.come_back()
    }
}
