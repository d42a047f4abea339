//! A member of an array, and how things stand with it.
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
    /// It failed, and is not used any more.
    Failed,
    /// There is none in this place.
    Missing,
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
    parts: RefCell<Option<Parts>>,
    state: Cell<MemberState>,
    /// While it is rebuilt: before this block what was rebuilt is not only in its cache.
    durable: Cell<u64>,
    pub write_mostly: Cell<bool>,
    /// Read errors that were mended by writing.
    pub corrected: Cell<u32>,
    /// Blocks of its data that it does not have.
    bad: Box<[Range<u64>]>,
    /// Where a sequential reader would go on: whoever read last from here.
    pub next: Cell<u64>,
}

impl Member {
    pub fn new(parts: Option<Parts>, state: MemberState, write_mostly: bool, bad: &[(u64, u64)]) -> Self {
        let state = match parts {
            Some(_) => state,
            None => MemberState::Missing,
        };
        Self {
            parts: RefCell::new(parts),
            state: Cell::new(state),
            durable: Cell::new(match state {
                MemberState::Rebuilding { to } => to,
                _ => 0,
            }),
            write_mostly: Cell::new(write_mostly),
            corrected: Cell::new(0),
            bad: bad
                .iter()
                .map(|(start, count)| *start..start.saturating_add(*count))
                .collect(),
            next: Cell::new(0),
        }
    }

    pub fn state(&self) -> MemberState {
        self.state.get()
    }

    pub fn set_state(&self, to: MemberState) {
        if let (MemberState::Rebuilding { to }, false) = (to, matches!(self.state(), MemberState::Rebuilding { .. })) {
            self.durable.set(to)
        }
        self.state.set(to)
    }

    /// The same as is to be said on disk: a member is rebuilt as far as it still is after a power cut.
    pub fn durable_state(&self) -> MemberState {
        match self.state() {
            MemberState::Rebuilding { .. } => MemberState::Rebuilding { to: self.durable.get() },
            other => other,
        }
    }

    /// Its cache was emptied when it was rebuilt up to here.
    pub fn set_durable(&self, to: u64) {
        self.durable.set(to)
    }

    /// The same member by other handles, because something below it was built anew.
    pub fn set_parts(&self, parts: Option<Parts>) {
        *self.parts.borrow_mut() = parts
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
        match self.state.get() {
            MemberState::InSync => !self.lacks(start, end),
            MemberState::Rebuilding { to } => end <= to && !self.lacks(start, end),
            MemberState::Failed | MemberState::Missing => false,
        }
    }

    #[inline]
    fn lacks(&self, start: u64, end: u64) -> bool {
        !self.bad.is_empty() && self.bad.iter().any(|bad| bad.start < end && start < bad.end)
    }

    /// True if it gets what is written.
    #[inline]
    pub fn writes(&self) -> bool {
        matches!(self.state.get(), MemberState::InSync | MemberState::Rebuilding { .. })
    }

    pub fn in_sync(&self) -> bool {
        self.state.get() == MemberState::InSync
    }
}
