//! What is written before rows are: with it they can be made right after a crash, though a member is missing.
//!
//! ```text
//!   partial   MD's partial parity log of RAID-5: always, on the member that has the row's parity
//!   redo      ours, for all others with parity: while a member is missing, on as many members as may still be lost, and one more
//! ```
//!
//! A log bounds what is written at once: writes go in steps that it has room for.
use super::{array::State, bands::Band, partial::Partial, redo::Redo};
use crate::{IoError, IoResult};
use spec::md::parity::{Parity, Row};
use std::cell::Cell;

/// Which log an array keeps.
pub(crate) enum Log {
    /// None: it needs none, or there is no room for one.
    None,
    Partial(Box<Partial>),
    Redo(Box<Redo>),
}

/// What one step of a write of rows may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// So many rows, in blocks.
    pub rows: u32,
    /// Only chunks beside each other, and one whose member is missing by itself: what is there of the others then says what it is.
    pub runs: bool,
}

/// Bands that are about to be written, as long as this is held. When it is dropped they are written.
pub(crate) enum Held<'a> {
    Nothing,
    Era(#[expect(dead_code, reason = "for its drop")] Era<'a>),
    Partial(#[expect(dead_code, reason = "for its drop")] super::partial::Held<'a>),
    Redo(
        #[expect(dead_code, reason = "for its drop")] Era<'a>,
        #[expect(dead_code, reason = "for its drop")] super::redo::Held<'a>,
    ),
}

impl Log {
    /// What bounds a step at the moment; nothing if all may be written at once.
    pub fn bound(&self, array: &State, parity: &Parity, row: &Row) -> Option<Bound> {
        match self {
            Log::None => None,
            // Who has no parity has nothing that could be wrong.
            Log::Partial(_) if !array.members[usize::from(row.p)].writes() => None,
            Log::Partial(log) => Some(Bound {
                rows: log.rows(),
                runs: true,
            }),
            Log::Redo(log) if log.is_on(array) => Some(Bound {
                rows: log.rows(parity.members()),
                runs: false,
            }),
            Log::Redo(_) => None,
        }
    }

    /// Before bands of a row are written that were planned with such a bound: returns when they are in the log. Nothing if they have to be planned anew.
    pub async fn enter(
        &self,
        array: &State,
        parity: &Parity,
        row: &Row,
        bands: &[Band],
        bound: Option<Bound>,
    ) -> Result<Option<Held<'_>>, IoError> {
        match (self, bound) {
            (Log::None, _) => Ok(Some(Held::Nothing)),
            (Log::Partial(log), Some(_)) => log.enter(array, parity, row, bands).await.map(Some),
            // The parity was lost meanwhile, or came back.
            (Log::Partial(_), None) => Ok((!array.members[usize::from(row.p)].writes()).then_some(Held::Nothing)),
            (Log::Redo(log), bound) => log.enter(array, row, bands, bound.is_some()).await,
        }
    }

    /// Before sums of rows are made right: what a partial parity log says of these rows is older than that. Each is one member's, so there is nothing to redo.
    pub async fn enter_sums(&self, array: &State, parity: &Parity, row: &Row, band: Band) -> Result<Held<'_>, IoError> {
        match self {
            Log::Partial(log) => log.enter(array, parity, row, &[band]).await,
            Log::None | Log::Redo(_) => Ok(Held::Nothing),
        }
    }

    /// Rows that somebody zeroes without a log; nothing if they have to be written.
    pub fn enter_plain(&self, array: &State) -> Option<Held<'_>> {
        match self {
            Log::None => Some(Held::Nothing),
            Log::Partial(_) => None,
            Log::Redo(log) => (!log.is_on(array)).then(|| Held::Era(log.eras.enter())),
        }
    }

    /// A place has another member.
    pub fn seat(&self, place: u16, at: Option<std::ops::Range<u64>>) {
        match self {
            Log::None => (),
            Log::Partial(log) => log.seat(place, at),
            Log::Redo(log) => log.seat(place, at),
        }
    }

    /// Members have become alike, or there is something where they may not be: what is logged from now on says so.
    pub async fn begin_anew(&self, array: &State) -> IoResult {
        match self {
            Log::Partial(log) => log.begin_anew(array).await,
            Log::None | Log::Redo(_) => Ok(()),
        }
    }

    /// Makes right what was being written when the power failed. An error if it cannot be told.
    pub async fn replay(&self, array: &State) -> IoResult {
        match (self, array.parity()) {
            (Log::Partial(log), Some(parity)) => log.replay(array, &parity).await,
            (Log::Redo(log), Some(_)) => log.replay(array).await,
            _ => Err(IoError::Unsupported),
        }
    }
}

/// Writes that are under way, told apart by whether they began before a certain moment or after it.
#[derive(Default)]
pub(crate) struct Eras {
    now: Cell<usize>,
    under_way: [Cell<u32>; 2],
    drained: reactor::Notify,
}

/// A write that is under way.
pub(crate) struct Era<'a> {
    of: &'a Eras,
    slot: usize,
}

impl Eras {
    pub fn enter(&self) -> Era<'_> {
        let slot = self.now.get() % 2;
        self.under_way[slot].set(self.under_way[slot].get() + 1);
        Era { of: self, slot }
    }

    /// Which it is.
    pub fn now(&self) -> usize {
        self.now.get()
    }

    /// Another begins.
    pub fn turn(&self) {
        self.now.set(self.now.get() + 1)
    }

    /// Returns when nothing is under way that began before the last turn.
    pub async fn drained(&self) {
        while self.under_way[(self.now.get() + 1) % 2].get() > 0 {
            self.drained.wait().await
        }
    }
}

impl Drop for Era<'_> {
    fn drop(&mut self) {
        let count = &self.of.under_way[self.slot];
        count.set(count.get() - 1);
        if count.get() == 0 {
            self.of.drained.notify_all()
        }
    }
}
