//! The bad-block log of a member: sectors whose content is lost there, because they could not be written or rebuilt. Up to 512 entries of 64 bits:
//! 54 for where and 10 for how many, in units of a power of two of sectors, up to one that is all ones (`drivers/md/md.c`, `super_1_load`). In which order does not
//! matter, nor whether they overlap.
//!
//! A page is torn at any sector when the power fails. So a [`Log`] is changed entry by entry, and none moves: what is lost before and after is so in every mix.
use crate::Spans;
use std::ops::Range;

/// Most sectors of one entry, before the shift.
pub const COUNT_MAX: u64 = (1 << 10) - 1;
/// Most entries the kernel takes: a page.
pub const ENTRIES_MAX: usize = 512;
/// Marks an entry that is not in use, and the end.
const END: u64 = u64::MAX;

/// The log does not make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No sectors, or sectors beyond any disk.
    #[error("entry {0} of the bad-block log makes no sense")]
    Entry(usize),
    /// An unknown unit.
    #[error("a bad-block log in units of 2^{0} sectors")]
    Shift(u8),
    /// More than there is room for.
    #[error("the bad-block log has room for {0} ranges")]
    Room(usize),
}

/// The entries in the sectors of a log whose units are 2^`shift` sectors, up to its end, as they lie there: sectors of the device, from its start and not from where
/// its data begin.
pub fn parse(bytes: &[u8], shift: u8) -> Result<Vec<Range<u64>>, Error> {
    if shift > 9 {
        return Err(Error::Shift(shift));
    }
    let mut all = Vec::new();
    let entries = bytes.as_chunks::<8>().0.iter().take(ENTRIES_MAX);
    for (at, entry) in entries.map(|entry| u64::from_le_bytes(*entry)).enumerate() {
        if entry == END {
            break;
        }
        let (start, count) = (entry >> 10, (entry & COUNT_MAX) << shift);
        let start = start.checked_mul(1 << shift).ok_or(Error::Entry(at))?;
        let end = start
            .checked_add(count)
            .filter(|end| count > 0 && *end <= super::SECTORS_MAX);
        all.push(start..end.ok_or(Error::Entry(at))?)
    }
    Ok(all)
}

/// A log in units of one sector, as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    entries: Vec<Range<u64>>,
    len: usize,
}

impl Log {
    /// An empty one of so many bytes.
    pub fn new(len: usize) -> Self {
        Self {
            entries: Vec::new(),
            len,
        }
    }

    /// The one in these bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            entries: parse(bytes, 0)?,
            len: bytes.len(),
        })
    }

    /// What it says is lost.
    pub fn lost(&self) -> Spans {
        self.entries.iter().cloned().collect()
    }

    /// As it is written: unused entries are all ones.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entry = |range: &Range<u64>| (range.start << 10 | (range.end - range.start)).to_le_bytes();
        let mut bytes: Vec<u8> = self.entries.iter().flat_map(entry).collect();
        bytes.resize(self.len, 0xff);
        bytes
    }

    /// Makes it say that this is lost. What is to be written for it, one after the other, each durable before the next.
    pub fn change(&mut self, lost: &Spans) -> Result<Vec<Vec<u8>>, Error> {
        let (mut steps, mut next) = (Vec::new(), self.clone());
        if next.grow(lost).is_err() {
            // What is not lost at all any more makes room.
            next = self.clone();
            next.forget(|entry| !lost.meets(entry));
            steps.push(next.clone());
            next.grow(lost)?
        }
        steps.push(next.clone());
        // What has all of that may lose the rest.
        next.forget(|entry| !lost.contains(entry));
        steps.push(next);
        let mut pages = Vec::new();
        for step in steps {
            if step != *self {
                pages.push(step.to_bytes());
                *self = step
            }
        }
        Ok(pages)
    }

    /// More is lost: in entries of its own.
    fn grow(&mut self, lost: &Spans) -> Result<(), Error> {
        let stays = |entry: &Range<u64>| lost.contains(entry);
        let mut new = lost.clone();
        let known = self.entries.iter().filter(|entry| stays(entry));
        known.for_each(|known| new.remove(known));
        let (mut free, room) = (self.needless(stays).into_iter(), (self.len / 8).min(ENTRIES_MAX));
        for range in new.iter().flat_map(pieces) {
            match free.next() {
                Some(at) => self.entries[at] = range,
                None if self.entries.len() < room => self.entries.push(range),
                None => return Err(Error::Room(room)),
            }
        }
        Ok(())
    }

    /// Some entries say no more what they say.
    fn forget(&mut self, gone: impl Fn(&Range<u64>) -> bool) {
        while self.entries.last().is_some_and(&gone) {
            self.entries.pop();
        }
        if let Some(some) = self.entries.last().cloned() {
            let gone = self.entries.iter_mut().filter(|entry| gone(entry));
            gone.for_each(|entry| *entry = some.clone())
        }
    }

    /// Entries that say nothing which another does not say, which stays if they do.
    fn needless(&self, stays: impl Fn(&Range<u64>) -> bool) -> Vec<usize> {
        let mut gone = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let says = |(other, range): (usize, &Range<u64>)| {
                let covers = range.start <= entry.start && range.end >= entry.end;
                other != at && covers && !gone.contains(&other) && (stays(range) || !stays(entry))
            };
            if self.entries.iter().enumerate().any(says) {
                gone.push(at)
            }
        }
        gone
    }
}

/// What Linux keeps as one in memory, where it has room for no more than a page of them (`BB_MAX_LEN` of its badblocks.h).
const PIECE: u64 = 512;

/// A range as entries: longer ones take several.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range
        .step_by(PIECE as usize)
        .map(move |start| start..end.min(start + PIECE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What two logs are, where some of the sectors are of one and the others of the other.
    fn torn(old: &[u8], new: &[u8], sector: usize, mix: u32) -> Vec<u8> {
        let chunks = old.chunks(sector).zip(new.chunks(sector)).enumerate();
        let of = |(at, (old, new))| if mix >> at & 1 == 1 { new } else { old };
        chunks.flat_map(of).copied().collect()
    }

    proptest! {
        #[test]
        fn a_torn_write_forgets_nothing_that_is_lost_before_and_after(
            steps in prop::collection::vec((any::<bool>(), 0_u64..60, 1_u64..12), 1..40),
        ) {
            const SECTOR: usize = 16;
            let (mut log, mut lost) = (Log::new(6 * SECTOR), Spans::default());
            for (put, start, count) in steps {
                let before = (lost.clone(), log.clone());
                match put {
                    true => lost.add(start..start + count),
                    false => lost.remove(&(start..start + count)),
                }
                let pages = match log.change(&lost) {
                    Ok(pages) => pages,
                    Err(why) => {
                        // Nothing has changed.
                        prop_assert_eq!((why, &log), (Error::Room(12), &before.1));
                        lost = before.0;
                        continue;
                    }
                };
                prop_assert_eq!(pages.is_empty(), log == before.1);
                let mut was = before.1.to_bytes();
                for page in pages {
                    for mix in 0..1 << 6 {
                        let found = Log::parse(&torn(&was, &page, SECTOR, mix)).expect("entries").lost();
                        for at in 0..80 {
                            let (one, two) = (before.0.contains(&(at..at + 1)), lost.contains(&(at..at + 1)));
                            let here = found.contains(&(at..at + 1));
                            prop_assert!(here || !(one && two), "{} is forgotten", at);
                            prop_assert!(!here || one || two, "{} was never lost", at);
                        }
                    }
                    was = page
                }
                prop_assert_eq!(&was, &log.to_bytes());
                prop_assert_eq!(log.lost(), lost.clone());
                prop_assert_eq!(Log::parse(&was), Ok(log.clone()));
            }
        }
    }
}
