//! Typed block addresses. Nothing outside this file multiplies, shifts or adds raw block numbers without saying so.
use serde::{Deserialize, Serialize};
use std::fmt;

/// The address of a logical block, counted from the start of the disk it is used with. Unit: that disk's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lba(pub u64);

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of logical blocks: `start`, then `count` of them. Empty ranges are legal (a flush has one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockRange {
    /// First block.
    pub start: Lba,
    /// Number of blocks.
    pub count: u32,
}

impl BlockRange {
    /// `count` blocks from `start`.
    pub const fn new(start: u64, count: u32) -> Self {
        Self {
            start: Lba(start),
            count,
        }
    }

    /// One past the last block, or `None` when that does not fit in 64 bits.
    pub fn end(self) -> Option<u64> {
        self.start.0.checked_add(self.count.into())
    }

    /// True if the whole range lies on a disk of `blocks` blocks.
    pub fn fits(self, blocks: u64) -> bool {
        self.end().is_some_and(|end| end <= blocks)
    }

    /// True if the two ranges share a block.
    pub fn overlaps(self, other: Self) -> bool {
        match (self.end(), other.end()) {
            (Some(a), Some(b)) => self.start.0 < b && other.start.0 < a,
            _ => false,
        }
    }

    /// Not empty, and crosses no multiple of `chunk` blocks.
    pub fn within_one(self, chunk: u32) -> bool {
        let offset = self.start.0 % u64::from(chunk);
        self.count > 0 && offset + u64::from(self.count) <= u64::from(chunk)
    }

    /// Cuts the range at every multiple of `chunk` blocks, front to back. The range must have an [`end`](Self::end).
    pub fn chunks(self, chunk: u32) -> impl Iterator<Item = BlockRange> + Clone {
        let (mut at, end) = (self.start.0, self.start.0 + u64::from(self.count));
        std::iter::from_fn(move || {
            let stop = end.min((at / u64::from(chunk)).saturating_add(1).saturating_mul(chunk.into()));
            (at < end).then(|| {
                // A piece is no longer than the range it is cut from, whose count is a u32.
                let piece = BlockRange::new(at, (stop - at) as u32);
                at = stop;
                piece
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cut_at_multiples_and_lose_nothing() {
        let pieces: Vec<_> = BlockRange::new(5, 12).chunks(8).collect();
        assert_eq!(
            pieces,
            [BlockRange::new(5, 3), BlockRange::new(8, 8), BlockRange::new(16, 1)]
        );
        assert_eq!(BlockRange::new(9, 0).chunks(8).count(), 0);
    }

    #[test]
    fn a_range_that_wraps_fits_nowhere() {
        assert!(!BlockRange::new(u64::MAX, 1).fits(u64::MAX));
        assert!(BlockRange::new(u64::MAX, 0).fits(u64::MAX));
        assert!(!BlockRange::new(7, 2).within_one(8));
        assert!(BlockRange::new(7, 1).within_one(8));
    }

    #[test]
    fn overlap_is_about_shared_blocks() {
        assert!(BlockRange::new(0, 8).overlaps(BlockRange::new(7, 1)));
        assert!(!BlockRange::new(0, 8).overlaps(BlockRange::new(8, 1)));
        assert!(!BlockRange::new(3, 0).overlaps(BlockRange::new(3, 0)));
    }
}
