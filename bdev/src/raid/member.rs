//! A member of an array, and how things stand with it.
use super::lacking::Lacking;
use crate::Disk;
use serde::{Deserialize, Serialize};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
};

/// How things stand with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It holds what it should.
    InSync,
    /// It gets every write, and holds what it should before this block of its data.
    Rebuilding {
        /// Blocks that are done.
        to: u64,
    },
    /// The same for one that was away: what it lacks behind there is only what the bitmap has noted.
    Returning {
        /// Blocks that are done.
        to: u64,
    },
    /// It failed, and is not used any more.
    Failed,
    /// There is none in this place.
    Missing,
}

impl MemberState {
    /// How far one is that does not hold all that it should yet.
    pub fn to(self) -> Option<u64> {
        match self {
            Self::Rebuilding { to } | Self::Returning { to } => Some(to),
            Self::InSync | Self::Failed | Self::Missing => None,
        }
    }

    /// The same state, with so much done.
    pub(crate) fn up_to(self, to: u64) -> Self {
        match self {
            Self::Rebuilding { .. } => Self::Rebuilding { to },
            Self::Returning { .. } => Self::Returning { to },
            other => other,
        }
    }
}

/// A member's disks.
#[derive(Clone)]
pub struct Parts {
    /// Its data.
    pub data: Disk,
    /// All of it, where its metadata are.
    pub whole: Disk,
}

/// A place in an array.
pub(crate) struct Member {
    /// Which of the plan's members it is.
    pub slot: Cell<u16>,
    parts: RefCell<Option<Parts>>,
    /// It and the one that replaces it, as long as one does.
    pair: RefCell<Option<Disk>>,
    state: Cell<MemberState>,
    /// It holds everything everywhere: what is asked for each read.
    is_sound: Cell<bool>,
    /// And it is not write-mostly.
    is_plain: Cell<bool>,
    /// While it is brought up to date: before this block what was done is not only in its cache.
    durable: Cell<u64>,
    /// It has gone away by itself: it may come back by itself.
    pub gone: Cell<bool>,
    pub write_mostly: Cell<bool>,
    /// Read errors that were mended by writing.
    pub corrected: Cell<u32>,
    /// Blocks of its data that it does not have.
    pub lacking: RefCell<Lacking>,
    /// There are some.
    lacks: Cell<bool>,
    /// Where a sequential reader would go on: whoever read last from here.
    pub next: Cell<u64>,
}

impl Member {
    pub fn new(slot: u16, parts: Option<Parts>, state: MemberState, write_mostly: bool, bad: &[(u64, u64)]) -> Self {
        let state = match parts {
            Some(_) => state,
            None => MemberState::Missing,
        };
        let new = Self {
            slot: Cell::new(slot),
            parts: RefCell::new(parts),
            pair: RefCell::default(),
            state: Cell::new(state),
            is_sound: Cell::new(false),
            is_plain: Cell::new(false),
            durable: Cell::new(state.to().unwrap_or(0)),
            gone: Cell::new(state == MemberState::Missing),
            write_mostly: Cell::new(write_mostly),
            corrected: Cell::new(0),
            lacking: RefCell::new(Lacking::of(bad)),
            lacks: Cell::new(false),
            next: Cell::new(0),
        };
        new.knows();
        new
    }

    pub fn state(&self) -> MemberState {
        self.state.get()
    }

    pub fn set_state(&self, to: MemberState) {
        self.state.set(to);
        self.knows()
    }

    /// Something else is known of it: what is asked for each I/O follows from that.
    pub fn knows(&self) {
        let lacks = !self.lacking.borrow().lost.is_empty();
        let sound = self.in_sync() && !lacks;
        self.lacks.set(lacks);
        self.is_sound.set(sound);
        self.is_plain.set(sound && !self.write_mostly.get())
    }

    /// Nobody knows any more what of it is right.
    pub fn begin_again(&self) {
        self.set_state(MemberState::Rebuilding { to: 0 });
        self.durable.set(0)
    }

    /// Another has the place from now on, or the same one again.
    pub fn seat(&self, state: MemberState, write_mostly: bool, bad: &[(u64, u64)]) {
        *self.lacking.borrow_mut() = Lacking::of(bad);
        self.write_mostly.set(write_mostly);
        self.set_state(state);
        self.durable.set(state.to().unwrap_or(0));
        self.corrected.set(0);
        self.gone.set(false)
    }

    /// Each is what the other was.
    pub fn swap(&self, other: &Self) {
        self.slot.swap(&other.slot);
        self.parts.swap(&other.parts);
        self.state.swap(&other.state);
        self.durable.swap(&other.durable);
        self.gone.swap(&other.gone);
        self.write_mostly.swap(&other.write_mostly);
        self.corrected.swap(&other.corrected);
        self.lacking.swap(&other.lacking);
        self.knows();
        other.knows()
    }

    /// The same as is to be said on disk: a member is up to date as far as it still is after a power cut.
    pub fn durable_state(&self) -> MemberState {
        self.state().up_to(self.durable.get())
    }

    /// Its cache was emptied when it was up to date up to here.
    pub fn set_durable(&self, to: u64) {
        self.durable.set(to)
    }

    /// The same member by other handles, because something below it was built anew.
    pub fn set_parts(&self, parts: Option<Parts>) {
        *self.parts.borrow_mut() = parts
    }

    pub fn set_pair(&self, pair: Option<Disk>) {
        *self.pair.borrow_mut() = pair
    }

    /// It and the one that replaces it, if one does.
    pub fn pair(&self) -> Option<Disk> {
        self.pair.borrow().clone()
    }

    pub fn data(&self) -> Option<Disk> {
        self.parts.borrow().as_ref().map(|parts| parts.data.clone())
    }

    pub fn whole(&self) -> Option<Disk> {
        self.parts.borrow().as_ref().map(|parts| parts.whole.clone())
    }

    /// I/Os that are under way on the device below it.
    #[inline]
    pub fn standing(&self) -> u32 {
        self.parts.borrow().as_ref().map_or(0, |parts| parts.data.standing())
    }

    /// True if it has there what it should.
    #[inline]
    pub fn reads(&self, start: u64, end: u64) -> bool {
        self.is_sound.get() || self.reads_here(start, end)
    }

    /// True if it holds all that it should, and is meant to be read.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.is_plain.get()
    }

    fn reads_here(&self, start: u64, end: u64) -> bool {
        match self.state.get() {
            MemberState::InSync => !self.lacks(start..end),
            MemberState::Rebuilding { to } | MemberState::Returning { to } => end <= to && !self.lacks(start..end),
            MemberState::Failed | MemberState::Missing => false,
        }
    }

    /// There is something in these of its blocks that it does not have.
    pub fn lacks(&self, range: Range<u64>) -> bool {
        self.lacks.get() && self.lacking.borrow().lost.meets(&range)
    }

    /// There is something that it does not have.
    #[inline]
    pub fn lacks_any(&self) -> bool {
        self.lacks.get()
    }

    /// True if it gets what is written.
    #[inline]
    pub fn writes(&self) -> bool {
        !matches!(self.state.get(), MemberState::Failed | MemberState::Missing)
    }

    pub fn in_sync(&self) -> bool {
        self.state.get() == MemberState::InSync
    }
}
