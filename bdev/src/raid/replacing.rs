//! A member that another replaces while the array goes on with both: nothing is lost meanwhile if either fails.
//!
//! ```text
//!   write ──► pair ─┬─► the member         read ──► the member, and if that cannot: what was copied already
//!                   └─► its replacement    copy ──► read the member (or make it from the others), write the replacement
//!
//!   all is copied ──► superblocks say so ──► nobody writes ──► it has the place, and the superblocks say that ──► go on
//!   the member fails ──► it has the place at once, and is rebuilt from where it was
//! ```
//!
//! The array writes to a place; that two disks are behind it only the pair knows. What may differ after a crash is copied again when it has been compared.
use super::{array::State, each::each, member::MemberState};
use crate::{BlockDevice, Disk, Geometry, Io, IoError, IoResult, Op};
use reactor::Buf;
use spec::BlockRange;
use std::rc::Weak;

/// A member and its replacement.
pub(super) struct Pair {
    state: Weak<State>,
    place: u16,
    geometry: Geometry,
}

impl BlockDevice for Pair {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, io: Io) -> IoResult {
        let state = self.state.upgrade().ok_or(IoError::Gone)?;
        match io.op {
            Op::Read | Op::Allocation => state.read_pair(self.place, io).await,
            _ => state.write_pair(self.place, io).await,
        }
    }
}

impl State {
    /// Where the replacement of a place stands in the list of members.
    pub fn behind(&self, place: u16) -> u16 {
        place + self.count()
    }

    /// Whether somebody who stands there replaces another, and whom.
    pub fn replaces(&self, member: u16) -> Option<u16> {
        member.checked_sub(self.count())
    }

    /// A place has a replacement from now on, or its handles have changed.
    pub(super) fn pair(&self, place: u16) {
        let this = &self.members[usize::from(place)];
        let replacement = self.replacement(place).and_then(|other| other.data());
        let pair = this.data().zip(replacement).map(|(old, new)| {
            let (old, new) = (old.geometry(), new.geometry());
            Disk::new(Pair {
                state: self.me(),
                place,
                geometry: Geometry {
                    volatile_cache: old.volatile_cache || new.volatile_cache,
                    atomic: 0,
                    ..old
                },
            })
        });
        this.set_pair(pair)
    }

    async fn read_pair(&self, place: u16, io: Io) -> IoResult {
        let old = self.members[usize::from(place)].data().ok_or(IoError::Gone)?;
        let done = old.submit(io.clone()).await;
        let (start, end) = (io.range.start.0, io.range.start.0 + u64::from(io.range.count));
        match (done, self.replacement(place)) {
            // It may lack something of what is copied.
            (Err(error), Some(new)) if error.is_mendable() && new.reads(start, end) => {
                new.data().ok_or(error)?.submit(io).await
            }
            (done, _) => done,
        }
    }

    /// Sends it to both. An error is one of whoever has the place when it is over.
    async fn write_pair(&self, place: u16, io: Io) -> IoResult {
        let this = &self.members[usize::from(place)];
        let slot = this.slot.get();
        let old = this.data().map(|disk| (0, disk.submit(io.clone())));
        let new = self.replacement(place).and_then(|other| other.data());
        let new = new.map(|disk| (1, disk.submit(io)));
        let mut done = [Ok(()); 2];
        if old.is_none() {
            done[0] = Err(IoError::Gone)
        }
        each(old.into_iter().chain(new), |which, error| done[which] = Err(error)).await;
        let [old, new] = done;
        if this.slot.get() != slot {
            // The member failed meanwhile, and the replacement has its place.
            return new;
        }
        if let Err(error) = new {
            // The caller records it, once nothing is held any more.
            self.fault(self.behind(place), error);
        }
        old
    }

    /// Copies a stretch of a member to its replacement.
    pub(super) async fn copy_stretch(&self, place: u16, range: BlockRange) -> Result<u64, IoError> {
        let Some((lock, _)) = self.spot(place, range) else {
            return Ok(0);
        };
        let failed = {
            let _guard = self.locks.lock(lock).await;
            self.copy_locked(place, range).await.is_err()
        };
        if failed {
            // What the member cannot read it gets from the others, and so does the replacement.
            self.rebuild_stretch(place, range).await?;
        }
        match self.replacement(place) {
            Some(_) => Ok(0),
            None => Err(IoError::Gone),
        }
    }

    /// The same with the stretch locked by the caller. An error if the member cannot read it.
    async fn copy_locked(&self, place: u16, range: BlockRange) -> IoResult {
        let this = &self.members[usize::from(place)];
        let Some(new) = self.replacement(place) else {
            return Ok(());
        };
        let (slot, end) = (new.slot.get(), range.start.0 + u64::from(range.count));
        let (Some(from), Some(to), true) = (this.data(), new.data(), this.reads(range.start.0, end)) else {
            return Err(IoError::Medium);
        };
        let data = Buf::alloc(self.bytes(range.count));
        from.read(range, data.clone()).await?;
        match to.submit(Io::write(range, data)).await {
            // Whoever began it may have left something out.
            Ok(()) if new.slot.get() == slot => _ = self.have_again(self.behind(place), range),
            Ok(()) => (),
            Err(error) => {
                self.fault_of(slot, error);
                self.recorded().await?
            }
        }
        Ok(())
    }

    /// What was compared after a crash is copied again, with all of it locked by the caller: a replacement may have what was being written, and its member not, or the other way.
    pub(super) async fn copy_again(&self, range: BlockRange) -> IoResult {
        if (0..self.count()).all(|place| self.replacement(place).is_none()) {
            return Ok(());
        }
        let all: Vec<(u16, BlockRange)> = match self.parity() {
            Some(_) => (0..self.count()).map(|place| (place, range)).collect(),
            None => {
                let at = |(place, at)| (place, BlockRange::new(at, range.count));
                self.copies(range.start.0).map(at).collect()
            }
        };
        for (place, range) in all {
            let copied = |to: u64| range.start.0 < to;
            let has_it = self.replacement(place).and_then(|other| other.state().to());
            if has_it.is_some_and(copied) && self.copy_locked(place, range).await.is_err() {
                // It has to be made from the others, when its turn comes.
                self.members[usize::from(self.behind(place))].begin_again()
            }
        }
        Ok(())
    }

    /// All is copied: the replacement gets the place. Nobody writes while it does: what was logged on one disk is not looked for on the other.
    pub(super) async fn take_place(&self, place: u16) -> IoResult {
        let behind = &self.members[usize::from(self.behind(place))];
        behind.set_state(MemberState::InSync);
        if let Some(record) = &self.record {
            record.update(self).await?
        }
        let _guard = self.locks.lock(0..u64::MAX).await;
        let this = &self.members[usize::from(place)];
        if !behind.in_sync() || !this.in_sync() {
            return Err(IoError::Gone);
        }
        tracing::info!(
            array = self.name,
            member = place,
            "a member has been replaced, and is not used any more"
        );
        self.give_place(place);
        self.recorded().await
    }

    /// A member is not used any more: if another was to replace it, that has its place.
    pub(super) fn promote(&self, place: u16) {
        let Some(new) = self.replacement(place) else { return };
        if self.intent.next_needed(0).is_some() {
            // Nobody has compared with it what was being written when the power failed.
            new.begin_again()
        }
        let behind = self.behind(place);
        self.members[usize::from(place)].swap(new);
        if let Some(record) = &self.record {
            let (bitmap, log) = record.swap(place, behind);
            self.intent.seat(place, bitmap);
            self.intent.seat(behind, None);
            self.log.seat(place, log)
        }
        self.pair(place);
        if self.is_ready() && !self.read_only {
            self.tend()
        }
    }
}
