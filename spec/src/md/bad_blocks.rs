//! The bad-block log of a member: sectors whose content is lost there, because they could not be written or rebuilt. Up to 512 entries of 64 bits:
//! 54 for where and 10 for how many, in units of a power of two of sectors (`drivers/md/md.c`, `super_1_load`).

/// Most sectors of one entry, before the shift.
pub const COUNT_MAX: u64 = (1 << 10) - 1;
/// Most entries the kernel takes: a page.
pub const ENTRIES_MAX: usize = 512;
/// Marks an entry that is not in use, and the end.
const END: u64 = u64::MAX;

/// Some sectors of the device, from its start and not from where its data begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BadRange {
    /// First sector.
    pub start: u64,
    /// Number of sectors.
    pub count: u64,
}

/// The log does not make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No sectors, sectors beyond any disk, or not behind the one before it.
    #[error("entry {0} of the bad-block log makes no sense")]
    Entry(usize),
    /// An unknown unit.
    #[error("a bad-block log in units of 2^{0} sectors")]
    Shift(u8),
    /// More than there is room for.
    #[error("{0} ranges are too many for a bad-block log with room for {1}")]
    Room(usize, usize),
}

/// What is in the sectors of a log whose units are 2^`shift` sectors, up to its end.
pub fn parse(bytes: &[u8], shift: u8) -> Result<Vec<BadRange>, Error> {
    if shift > 9 {
        return Err(Error::Shift(shift));
    }
    let mut all: Vec<BadRange> = Vec::new();
    let entries = bytes.as_chunks::<8>().0.iter().take(ENTRIES_MAX);
    for (at, entry) in entries.map(|entry| u64::from_le_bytes(*entry)).enumerate() {
        if entry == END {
            break;
        }
        let (start, count) = (entry >> 10, (entry & COUNT_MAX) << shift);
        let start = start.checked_mul(1 << shift).ok_or(Error::Entry(at))?;
        let behind = all.last().is_none_or(|last| last.start + last.count <= start);
        if count == 0 || start.saturating_add(count) > super::SECTORS_MAX || !behind {
            return Err(Error::Entry(at));
        }
        all.push(BadRange { start, count })
    }
    Ok(all)
}

/// The log with these ranges, which are in order and apart, in units of one sector: `len` bytes, unused entries all ones. Longer ranges take several
/// entries.
pub fn to_bytes(ranges: &[BadRange], len: usize) -> Result<Vec<u8>, Error> {
    let room = (len / 8).min(ENTRIES_MAX);
    let mut bytes = Vec::with_capacity(len);
    let mut end = 0;
    for (at, range) in ranges.iter().enumerate() {
        let last = range
            .start
            .checked_add(range.count)
            .filter(|last| *last <= super::SECTORS_MAX);
        let Some(last) = last.filter(|_| range.count > 0 && range.start >= end) else {
            return Err(Error::Entry(at));
        };
        end = last;
        let mut start = range.start;
        while start < last {
            let count = (last - start).min(COUNT_MAX);
            if bytes.len() / 8 == room {
                return Err(Error::Room(ranges.len(), room));
            }
            bytes.extend((start << 10 | count).to_le_bytes());
            start += count
        }
    }
    bytes.resize(len, 0xff);
    Ok(bytes)
}
