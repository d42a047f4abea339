//! Blocks that members lack although they belong to the array: what nobody could read when they were rebuilt, and what their bad-block logs have.
//!
//! ```text
//!   rebuild ── nobody can read it ──► it is lacked ──► the log on disk ──► a superblock that says it is rebuilt
//!   write ──► the member has it again ──► its cache is emptied ──► the log on disk forgets it ──► the write is acknowledged
//! ```
//!
//! So a log has what is lacked for at least as long as it is lacked. Who has no log cannot lack anything: then a rebuild ends where something cannot be read.
use super::{State, intent, member::Member};
use crate::{Io, IoError, IoResult};
use reactor::Buf;
use spec::{
    BlockRange, Spans,
    md::{
        SECTOR,
        bad_blocks::Log,
        superblock::Superblock,
        v1::{self, Features},
    },
};
use std::ops::Range;

/// Bytes of a log that are used: a page.
const PAGE: u64 = 4096;

/// What a member lacks, in blocks of its data.
#[derive(Default)]
pub(crate) struct Lacking {
    /// Now.
    pub lost: Spans,
    /// What it has again, though perhaps only in its cache.
    again: Spans,
    /// Its log, as it lies on disk; nothing as long as nobody has looked.
    log: Option<Log>,
    /// The log says something else.
    stale: bool,
}

impl Lacking {
    pub fn of(bad: &[(u64, u64)]) -> Self {
        let ranges = bad.iter().map(|(start, count)| *start..start.saturating_add(*count));
        Self {
            lost: ranges.collect(),
            ..Self::default()
        }
    }

    /// What its log has to say, in sectors of the member, whose data are there and whose blocks have so many sectors.
    fn recorded(&self, log: &Log, data: Range<u64>, sectors: u64) -> Spans {
        let mut all = log.lost();
        all.remove(&data);
        for span in self.lost.iter().chain(self.again.iter()) {
            all.add(data.start + span.start * sectors..data.start + span.end * sectors)
        }
        all
    }

    /// What has to be written for its log, which somebody has looked at, to say what it should. An error if it has no room for that: then it must not be said that the member has the rest.
    fn pages(&mut self, data: Range<u64>, sectors: u64) -> Result<Vec<Vec<u8>>, IoError> {
        let mut log = self.log.take().ok_or(IoError::Device)?;
        let wanted = self.recorded(&log, data, sectors);
        let pages = log.change(&wanted).or_else(|_| {
            // What is left of a range may be more ranges: then it forgets nothing.
            let mut all = log.lost();
            wanted.iter().for_each(|span| all.add(span));
            log.change(&all)
        });
        self.stale = false;
        self.log = Some(log);
        pages.map_err(|_| IoError::NoSpace)
    }
}

/// Where a member's log is, in blocks of the member; nothing if it has none that could be written. `bitmap` says how many sectors a bitmap takes.
pub(super) fn log_at(own: &v1::Superblock, bitmap: u64, block_size: u32) -> Option<Range<u64>> {
    let (log, sectors) = (own.bad_blocks, u64::from(block_size) / SECTOR);
    // Units of several sectors are for one that is empty, and an empty one may have others.
    if log.size == 0 || own.features.has(Features::BAD_BLOCKS) && log.shift > 0 {
        return None;
    }
    let start = own.relative(log.offset.into())?;
    let end = start.checked_add(u64::from(log.size).min(PAGE / SECTOR))?;
    let behind = |start: u64, count: u64| Some(start..start.checked_add(count)?);
    let taken = [
        behind(own.super_offset, v1::LEN_MAX as u64 / SECTOR)?,
        behind(own.data_offset, own.data_size)?,
        match own.bitmap_offset() {
            Some(offset) => behind(own.relative(offset.into())?, bitmap)?,
            None => 0..0,
        },
        match own.ppl() {
            Some((offset, size)) => behind(own.relative(offset.into())?, size.into())?,
            None => 0..0,
        },
    ];
    let free = taken.iter().all(|taken| end <= taken.start || taken.end <= start);
    let whole = start.is_multiple_of(sectors) && end.is_multiple_of(sectors);
    (free && whole).then(|| start / sectors..end / sectors)
}

/// What a member's log is about and where it is: in sectors of its data, and blocks of all of it.
#[derive(Clone)]
pub(crate) struct Place {
    pub data: Range<u64>,
    pub at: Range<u64>,
    /// There is something in it.
    pub used: bool,
}

impl State {
    /// Does something with a range; with ever smaller parts of it, where some of it cannot be read. The blocks of which nothing comes even so are told.
    pub(crate) async fn piecewise(
        &self,
        range: BlockRange,
        step: impl AsyncFn(BlockRange) -> Result<u64, IoError>,
        unreadable: impl Fn(BlockRange) -> IoResult,
    ) -> Result<u64, IoError> {
        let (mut todo, mut sum) = (vec![range], 0);
        while let Some(part) = todo.pop() {
            match step(part).await {
                Ok(count) => sum += count,
                Err(IoError::Medium) if part.count <= 1 => unreadable(part)?,
                Err(IoError::Medium) => {
                    let half = part.count / 2;
                    todo.push(BlockRange::new(part.start.0 + u64::from(half), part.count - half));
                    todo.push(BlockRange::new(part.start.0, half))
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sum)
    }

    /// A member lacks this from now on, which the caller has locked: it is on disk with the next superblocks. An error if it has no log, or no room in it.
    pub(super) async fn lack(&self, member: u16, range: BlockRange) -> IoResult {
        let this = &self.members[usize::from(member)];
        let slot = this.slot.get();
        let place = self.record.as_ref().and_then(|record| record.bad_blocks(member));
        let place = place.ok_or(IoError::Medium)?;
        self.read_log(this, &place).await?;
        if this.slot.get() != slot {
            return Err(IoError::Gone);
        }
        let range = intent::range(range);
        let mut lacking = this.lacking.borrow_mut();
        let Lacking { lost, again, .. } = &*lacking;
        let goes_on = range.start > 0 && lost.contains(&(range.start - 1..range.start));
        let (mut lost, mut again) = (lost.clone(), again.clone());
        lost.add(range.clone());
        again.remove(&range);
        let next = Lacking {
            lost,
            again,
            log: None,
            stale: true,
        };
        let sectors = u64::from(self.block_size()) / SECTOR;
        let mut log = lacking.log.clone().ok_or(IoError::Medium)?;
        let wanted = next.recorded(&log, place.data, sectors);
        log.change(&wanted).map_err(|_| IoError::Medium)?;
        let log = lacking.log.take();
        *lacking = Lacking { log, ..next };
        drop(lacking);
        this.knows();
        // Once for what is in a row.
        if !goes_on {
            tracing::warn!(
                array = self.name,
                member,
                at = range.start,
                "nobody can read what the member should hold from here on: it is lost until it is written"
            )
        }
        Ok(())
    }

    /// True if a member lacks all of this, and its log says so or will.
    pub(super) fn lacks_all(&self, member: u16, range: BlockRange) -> bool {
        let lacking = self.members[usize::from(member)].lacking.borrow();
        lacking.lost.contains(&intent::range(range))
    }

    /// Members hold something there that was written to them. True if one of them has lacked it. What is replayed after a crash is as old as the log is, and something that it
    /// is made of may have been written since.
    pub(super) fn have_again(&self, member: u16, range: BlockRange) -> bool {
        let (range, mut again) = (intent::range(range), false);
        if !self.is_ready() {
            return false;
        }
        for member in [member, self.behind(member)] {
            let Some(this) = self.members.get(usize::from(member)).filter(|this| this.writes()) else {
                continue;
            };
            if !this.lacks(range.clone()) {
                continue;
            }
            let mut lacking = this.lacking.borrow_mut();
            let Lacking { lost, again: has, .. } = &mut *lacking;
            lost.within(range.clone()).for_each(|part| has.add(part));
            lost.remove(&range);
            drop(lacking);
            this.knows();
            again = true
        }
        again
    }

    /// What members have again, by their slots: to be told to [`settle`](Self::settle) once their caches are empty.
    pub(super) fn have_lately(&self) -> Vec<(u16, Spans)> {
        let some = self.members.iter();
        let some = some.filter(|this| !this.lacking.borrow().again.is_empty());
        some.map(|this| (this.slot.get(), this.lacking.borrow().again.clone()))
            .collect()
    }

    /// It is not only in their caches any more: their logs forget it. An error if they could not, which is told.
    pub(super) async fn settle(&self, have: Vec<(u16, Spans)>) -> IoResult {
        let mut some = false;
        for (slot, spans) in have {
            for this in self.members.iter().filter(|this| this.slot.get() == slot) {
                let mut lacking = this.lacking.borrow_mut();
                spans.iter().for_each(|span| lacking.again.remove(&span));
                lacking.stale = true;
                some = true
            }
        }
        let Some(record) = self.record.as_ref().filter(|_| some) else {
            return Ok(());
        };
        let done = record.update(self).await;
        if done.is_err() {
            tracing::warn!(
                array = self.name,
                "bad-block logs could not be written: what they have is more than is lost"
            )
        }
        done
    }

    async fn read_log(&self, this: &Member, place: &Place) -> IoResult {
        if this.lacking.borrow().log.is_some() {
            return Ok(());
        }
        let count = place.at.end - place.at.start;
        // A page at most.
        let len = self.bytes(count as u32);
        let log = match (place.used, this.whole()) {
            (false, _) => Log::new(len),
            (true, Some(whole)) => {
                let bytes = Buf::alloc(len);
                let range = BlockRange::new(place.at.start, count as u32);
                whole.submit(Io::read(range, bytes.clone()).careful()).await?;
                Log::parse(&bytes.to_vec()).map_err(|_| IoError::Medium)?
            }
            (true, None) => return Err(IoError::Gone),
        };
        this.lacking.borrow_mut().log.get_or_insert(log);
        Ok(())
    }

    /// Writes the logs that are to say something else, before superblocks that rely on it: what comes while one is written as well. Who fails is lost to the array, which the
    /// caller records; an error if the array cannot do without one of them.
    pub(super) async fn write_logs(&self, place: impl Fn(u16) -> Option<Place>) -> IoResult {
        while self.write_stale_logs(&place).await? {}
        Ok(())
    }

    /// True if there were some: then others may have become so meanwhile.
    async fn write_stale_logs(&self, place: impl Fn(u16) -> Option<Place>) -> Result<bool, IoError> {
        let mut some = false;
        let sectors = u64::from(self.block_size()) / SECTOR;
        for (at, this) in (0..).zip(&self.members) {
            if !this.lacking.borrow().stale || !this.writes() {
                continue;
            }
            let Some(place) = place(at) else { continue };
            let Some(whole) = this.whole() else { continue };
            let slot = this.slot.get();
            some = true;
            let mut done = self.read_log(this, &place).await;
            if this.slot.get() != slot {
                continue;
            }
            let pages = done.and_then(|()| this.lacking.borrow_mut().pages(place.data, sectors));
            done = pages.as_ref().map(|_| ()).map_err(|error| *error);
            for page in pages.unwrap_or_default() {
                // A page at most.
                let range = BlockRange::new(place.at.start, (place.at.end - place.at.start) as u32);
                if done.is_ok() {
                    done = whole.submit(Io::write(range, Buf::from_slice(&page)).fua()).await
                }
            }
            let Err(error) = done else { continue };
            let stays = !self.fault_of(slot, error);
            // Nobody knows what lies there now. It may have another place by now.
            for this in self.members.iter().filter(|this| this.slot.get() == slot) {
                let mut lacking = this.lacking.borrow_mut();
                lacking.log = None;
                lacking.stale = true
            }
            if stays {
                return Err(error);
            }
        }
        Ok(some)
    }
}

impl Member {
    /// Whether its log has anything; nothing if nobody has looked.
    pub(super) fn log_has_any(&self) -> Option<bool> {
        let lacking = self.lacking.borrow();
        lacking.log.as_ref().map(|log| !log.lost().is_empty())
    }
}

/// Where a superblock has its member's log.
pub(super) fn place(superblock: &Superblock, at: Option<Range<u64>>) -> Option<Place> {
    let Superblock::V1(own) = superblock else { return None };
    Some(Place {
        data: own.data_offset..own.data_offset.saturating_add(own.data_size),
        at: at?,
        used: own.features.has(Features::BAD_BLOCKS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a range may be two: a log without room for both keeps all of it, and what has come since.
    #[test]
    fn a_log_that_is_full_forgets_nothing_that_is_lost() {
        let (data, room) = (1000..2000, 8);
        let mut lacking = Lacking {
            log: Some(Log::new(room * 8)),
            ..Lacking::default()
        };
        let said = |lacking: &Lacking| lacking.log.as_ref().map(Log::lost).unwrap_or_default();
        for at in 0..room as u64 - 1 {
            lacking.lost.add(at * 10..at * 10 + 3)
        }
        assert_eq!(lacking.pages(data.clone(), 1).map(|pages| pages.len()), Ok(1));
        // In a member's sectors.
        assert!(said(&lacking).contains(&(1010..1013)));
        // Something more, and of two ranges the middle is there again.
        lacking.lost.add(90..93);
        lacking.lost.remove(&(11..12));
        lacking.lost.remove(&(21..22));
        assert_eq!(lacking.pages(data.clone(), 1).map(|pages| pages.len()), Ok(1));
        assert!(
            lacking
                .lost
                .iter()
                .all(|lost| said(&lacking).contains(&(lost.start + 1000..lost.end + 1000)))
        );
        assert!(said(&lacking).contains(&(1010..1013)), "there was no room to forget it");
        // And when there is room, it does.
        lacking.lost.remove(&(0..10));
        lacking.lost.remove(&(30..60));
        for _ in 0..2 {
            assert!(lacking.pages(data.clone(), 1).is_ok())
        }
        let exact: Spans = lacking
            .lost
            .iter()
            .map(|lost| lost.start + 1000..lost.end + 1000)
            .collect();
        assert_eq!(said(&lacking), exact);
        // More than it can hold must not pass for written.
        (0..20).for_each(|at| lacking.lost.add(500 + at * 10..501 + at * 10));
        assert_eq!(lacking.pages(data, 1), Err(IoError::NoSpace))
    }
}
