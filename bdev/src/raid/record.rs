//! The members' superblocks: who belongs to the array, who failed, whether anything is under way.
//!
//! Whatever changes there is written to all members that are left before anybody is told of it: a write that a member did not get is acknowledged when the
//! others say that this member is not to be trusted any more. Changes that come while others are being written go together.
use super::{
    array::State,
    lacking,
    log::Log,
    member::{Member, MemberState},
};
use crate::IoResult;
use reactor::{Buf, Notify};
use spec::md::{
    SECTOR,
    superblock::{Standing, Superblock, Update},
};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    time::SystemTime,
};
use uuid::Uuid;

/// A member's superblock, and where it and what goes with it are, in blocks of the member.
pub(crate) struct Label {
    pub at: u64,
    /// What it says.
    pub superblock: Superblock,
    pub bitmap: Option<u64>,
    /// Where a partial parity log is, or where there is room for a redo log.
    pub log: Option<Range<u64>>,
    /// The bad-block log, if there is one that can be written.
    pub bad_blocks: Option<Range<u64>>,
}

/// A superblock as it is to be written, in blocks of the member, and what goes before it into the redo log.
struct Made {
    at: u64,
    bytes: Buf,
    anchor: Option<(u64, Buf)>,
}

/// See the [module](self).
pub(crate) struct Record {
    /// By the places of the members, and behind them those of their replacements.
    supers: RefCell<Vec<Option<Label>>>,
    events: Cell<u64>,
    dirty: Cell<bool>,
    /// Members that were lost, as of the last write.
    lost: Cell<u64>,
    /// Changes that are wanted, and those that are on disk.
    wanted: Cell<u64>,
    done: Cell<u64>,
    writing: Cell<bool>,
    written: Notify,
}

impl Record {
    /// Of superblocks as they were read.
    pub fn new(mut supers: Vec<Option<Label>>) -> Self {
        let newest = supers.iter().flatten().map(|one| &one.superblock);
        let newest = newest.max_by_key(|superblock| superblock.events()).cloned();
        let events = newest.as_ref().map_or(0, Superblock::events);
        for one in supers.iter_mut().flatten() {
            // One that was away does not know of what has changed since.
            if let Some(newest) = newest.as_ref().filter(|_| one.superblock.events() < events) {
                one.superblock.adopt(newest)
            }
        }
        Self {
            supers: RefCell::new(supers),
            events: Cell::new(events),
            dirty: Cell::new(false),
            lost: Cell::new(0),
            wanted: Cell::new(0),
            done: Cell::new(0),
            writing: Cell::new(false),
            written: Notify::new(),
        }
    }

    pub fn events(&self) -> u64 {
        self.events.get()
    }

    /// What is on disk says already that something is under way.
    pub fn was_dirty(&self) {
        self.dirty.set(true)
    }

    /// Whether this is so of a member's superblock.
    pub fn is(&self, place: u16, so: impl Fn(&Superblock) -> bool) -> bool {
        let supers = self.supers.borrow();
        let one = supers.get(usize::from(place)).and_then(Option::as_ref);
        one.is_some_and(|one| so(&one.superblock))
    }

    /// What is on disk says that something is under way, or will before anything is.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.dirty.get() && self.done.get() == self.wanted.get()
    }

    /// A place has another member, or the same one again.
    pub fn seat(&self, place: u16, mut with: Label) {
        let mut supers = self.supers.borrow_mut();
        let others = supers.iter().zip(0..).filter(|(_, other)| *other != place);
        let newest = others.filter_map(|(one, _)| Some(&one.as_ref()?.superblock));
        if let Some(newest) = newest.max_by_key(|superblock| superblock.events()) {
            with.superblock.adopt(newest)
        }
        if let Some(known) = supers.get_mut(usize::from(place)) {
            *known = Some(with)
        }
    }

    /// The identity of a member; 0.90 has none.
    pub fn device(&self, place: u16) -> Option<Uuid> {
        self.supers
            .borrow()
            .get(usize::from(place))?
            .as_ref()?
            .superblock
            .device()
    }

    /// Where a member's data begin and, if its superblock lies behind them, where they must end: in sectors.
    pub fn room(&self, place: u16) -> Option<(u64, Option<u64>)> {
        let supers = self.supers.borrow();
        match &supers.get(usize::from(place))?.as_ref()?.superblock {
            Superblock::V1(own) if own.super_offset < own.data_offset => Some((own.data_offset, None)),
            Superblock::V1(own) => Some((own.data_offset, Some(own.data_offset + own.data_size))),
            Superblock::V0(_) => None,
        }
    }

    /// What a member's bad-block log is about, and where it is.
    pub fn bad_blocks(&self, place: u16) -> Option<lacking::Place> {
        let supers = self.supers.borrow();
        let label = supers.get(usize::from(place))?.as_ref()?;
        lacking::place(&label.superblock, label.bad_blocks.clone())
    }

    /// Members give so many sectors from now on, of as many as each has. To be written by the caller.
    pub fn grow(&self, size: u64, rooms: &[u64]) {
        for (one, room) in self.supers.borrow_mut().iter_mut().zip(rooms) {
            if let Some(label) = one {
                label.superblock.grow(size, *room)
            }
        }
    }

    /// Each has what the other had. Where the first finds its bitmap and its log now.
    pub fn swap(&self, place: u16, other: u16) -> (Option<u64>, Option<Range<u64>>) {
        let mut supers = self.supers.borrow_mut();
        supers.swap(place.into(), other.into());
        let now = supers[usize::from(place)].as_ref();
        now.map_or((None, None), |label| (label.bitmap, label.log.clone()))
    }

    /// Something is under way from now on, or nothing. Durable when it returns.
    pub async fn set_dirty(&self, array: &State, dirty: bool) -> IoResult {
        match self.dirty.replace(dirty) == dirty {
            // Who set it may still be writing it.
            true if dirty => self.settled(array, self.wanted.get()).await,
            true => Ok(()),
            false => self.update(array).await,
        }
    }

    /// Writes how things stand.
    pub async fn update(&self, array: &State) -> IoResult {
        self.wanted.set(self.wanted.get() + 1);
        self.settled(array, self.wanted.get()).await
    }

    async fn settled(&self, array: &State, mine: u64) -> IoResult {
        while self.done.get() < mine {
            if self.writing.replace(true) {
                self.written.wait().await;
                continue;
            }
            let target = self.wanted.get();
            let done = self.write(array).await;
            if done.is_ok() {
                self.done.set(target)
            }
            self.writing.set(false);
            self.written.notify_all();
            done?
        }
        Ok(())
    }

    /// To all who are left; again if that left somebody behind.
    async fn write(&self, array: &State) -> IoResult {
        loop {
            if let Log::Redo(log) = &array.log {
                log.settled(array).await?
            }
            let before = array.lost();
            let events = self.events.get() + 1;
            self.events.set(events);
            array.intent.write_header(array, events).await?;
            array.write_logs(|member| self.bad_blocks(member)).await?;
            let whole = array.is_whole();
            let all = self.made(array, events);
            if all.iter().flatten().any(|one| one.anchor.is_some()) {
                let anchor = |member: u16| all.get(usize::from(member))?.as_ref()?.anchor.as_ref();
                array
                    .write_metadata(|member| anchor(member).map(|(at, bytes)| (*at, bytes)))
                    .await?
            }
            array
                .write_metadata(|member| {
                    let one = all.get(usize::from(member))?.as_ref()?;
                    Some((one.at, &one.bytes))
                })
                .await?;
            if let Log::Redo(log) = &array.log
                && whole
                && array.is_whole()
            {
                log.end()
            }
            // Twice if somebody is lost: mdadm takes a member that is one event behind for one that missed nothing, and a crash between two members leaves one of them
            // one behind.
            if array.lost() == before && self.lost.replace(before) == before {
                return Ok(());
            }
        }
    }

    /// The superblocks as they are to be written.
    fn made(&self, array: &State, events: u64) -> Vec<Option<Made>> {
        let mut supers = self.supers.borrow_mut();
        let sectors = u64::from(array.block_size()) / SECTOR;
        let numbers: Vec<Option<u32>> = supers
            .iter()
            .map(|one| Some(one.as_ref()?.superblock.number()))
            .collect();
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let in_sync = match array.intent.next_needed(0) {
            Some(region) => region.start * sectors,
            None => u64::MAX,
        };
        let stands = |(member, number): (&Member, Option<u32>)| {
            let standing = match member.durable_state() {
                MemberState::InSync => Standing::InSync,
                MemberState::Rebuilding { to } => Standing::Rebuilding(to * sectors),
                MemberState::Returning { to } => Standing::Returning(to * sectors),
                MemberState::Failed if member.gone.get() => Standing::Missing,
                MemberState::Failed => Standing::Failed,
                MemberState::Missing => Standing::Missing,
            };
            (number, standing)
        };
        let members: Vec<_> = array.members.iter().zip(numbers).map(stands).collect();
        let block = array.block_size() as usize;
        let make = |(this, one): (usize, &mut Option<Label>)| {
            let Label {
                at,
                superblock,
                bad_blocks,
                ..
            } = one.as_mut()?;
            let old = superblock.to_bytes()?;
            superblock.update(&Update {
                events,
                time: now,
                dirty: self.dirty.get(),
                in_sync_to: in_sync,
                members: &members,
                this,
                corrected: array.members[this].corrected.get(),
            });
            if let (Some(any), true) = (array.members[this].log_has_any(), bad_blocks.is_some()) {
                superblock.set_bad_blocks(any)
            }
            let mut bytes = superblock.to_bytes()?;
            let anchor = match &array.log {
                // Places are u16 in every shape.
                Log::Redo(log) => log.anchor(this as u16, [&bytes, &old]),
                _ => None,
            };
            bytes.resize(bytes.len().next_multiple_of(block), 0);
            Some(Made {
                at: *at,
                bytes: Buf::from_slice(&bytes),
                anchor,
            })
        };
        supers.iter_mut().enumerate().map(make).collect()
    }
}
