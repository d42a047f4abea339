//! A run of blocks as partition tables know it: 64-bit length, where an I/O's [`BlockRange`](crate::BlockRange) has 32.
//! With it the one rule every table shares: an entry is served only if it lies where it may and shares no block with another.
use serde::{Deserialize, Serialize};
use std::fmt;

/// `count` blocks from `start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// First block.
    pub start: u64,
    /// Number of blocks.
    pub count: u64,
}

impl Extent {
    /// `count` blocks from `start`.
    pub const fn new(start: u64, count: u64) -> Self {
        Self { start, count }
    }

    /// One past the last block, or nothing if that does not fit in 64 bits.
    pub const fn end(self) -> Option<u64> {
        self.start.checked_add(self.count)
    }

    /// True if all of it lies on a disk of `blocks` blocks.
    pub fn fits(self, blocks: u64) -> bool {
        self.end().is_some_and(|end| end <= blocks)
    }

    /// True if all of it lies inside `outer`.
    pub fn inside(self, outer: Self) -> bool {
        match (self.end(), outer.end()) {
            (Some(end), Some(limit)) => self.start >= outer.start && end <= limit,
            _ => false,
        }
    }

    /// True if the two share a block.
    pub fn overlaps(self, other: Self) -> bool {
        match (self.end(), other.end()) {
            (Some(a), Some(b)) => self.start.max(other.start) < a.min(b),
            _ => false,
        }
    }
}

impl fmt::Display for Extent {
    /// As `start..end`, the end not included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end() {
            Some(end) => write!(f, "{}..{end}", self.start),
            None => write!(f, "{}..(beyond 64 bits)", self.start),
        }
    }
}

/// Why an entry of a table is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no blocks, or ends before it starts.
    #[error("it ends before it starts")]
    Empty,
    /// It reaches outside the disk, or outside what the table lets partitions use.
    #[error("blocks {0} are outside what the table may use")]
    Outside(Extent),
    /// It shares blocks with the entry of this number.
    #[error("it overlaps partition {0}")]
    Overlaps(u32),
}

/// Entries that may be served, and those that may not with the reason for each, by number.
pub type Sifted<T> = (Vec<(u32, T)>, Vec<(u32, Refusal)>);

/// Divides `entries` into those that lie inside `allowed` and overlap no other, and the rest with the reasons. Both lists keep the
/// order of numbers. Of two that overlap neither is served: nothing tells which one is right.
pub fn sift<T>(
    entries: impl Iterator<Item = (u32, T)>,
    allowed: Extent,
    extent: impl Fn(&T) -> Option<Extent>,
) -> Sifted<T> {
    let mut bad = Vec::new();
    let mut good: Vec<(u32, Extent, T)> = Vec::new();
    for (number, entry) in entries {
        match extent(&entry).filter(|e| e.count > 0) {
            None => bad.push((number, Refusal::Empty)),
            Some(e) if !e.inside(allowed) => bad.push((number, Refusal::Outside(e))),
            Some(e) => good.push((number, e, entry)),
        }
    }
    // By start; whoever overlaps anything before it overlaps the one that has reached furthest so far, and if that one was not the
    // only such, the others overlap it too and are marked already.
    let mut order: Vec<usize> = (0..good.len()).collect();
    order.sort_by_key(|&i| (good[i].1.start, good[i].0));
    let mut clash = vec![None; good.len()];
    let mut furthest: Option<usize> = None;
    for i in order {
        if let Some(f) = furthest
            && good[f].1.overlaps(good[i].1)
        {
            clash[i] = clash[i].or(Some(good[f].0));
            clash[f] = clash[f].or(Some(good[i].0));
        }
        if furthest.is_none_or(|f| good[i].1.end() > good[f].1.end()) {
            furthest = Some(i);
        }
    }
    let mut kept = Vec::with_capacity(good.len());
    for ((number, _, entry), clash) in good.into_iter().zip(clash) {
        match clash {
            Some(other) => bad.push((number, Refusal::Overlaps(other))),
            None => kept.push((number, entry)),
        }
    }
    kept.sort_by_key(|(number, _)| *number);
    bad.sort_by_key(|(number, _)| *number);
    (kept, bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extents_know_their_neighbours() {
        let a = Extent::new(10, 10);
        assert!(a.overlaps(Extent::new(19, 1)) && !a.overlaps(Extent::new(20, 1)));
        assert!(!a.overlaps(Extent::new(12, 0)));
        assert!(Extent::new(12, 8).inside(a) && !Extent::new(12, 9).inside(a));
        assert!(!Extent::new(u64::MAX, 2).fits(u64::MAX));
        assert_eq!(a.to_string(), "10..20");
    }

    proptest! {
        #[test]
        fn sifting_agrees_with_comparing_every_pair(
            list in prop::collection::vec((0u64..60, 0u64..12), 0..14),
        ) {
            let allowed = Extent::new(4, 50);
            let all: Vec<(u32, Extent)> = list.iter().zip(1..).map(|(&(s, c), n)| (n, Extent::new(s, c))).collect();
            let inside: Vec<_> = all.iter().filter(|(_, e)| e.count > 0 && e.inside(allowed)).collect();
            let wanted: Vec<_> = inside
                .iter()
                .filter(|(n, e)| inside.iter().all(|(m, o)| m == n || !e.overlaps(*o)))
                .map(|&&(n, e)| (n, e))
                .collect();
            let (good, bad) = sift(all.iter().copied(), allowed, |e| Some(*e));
            prop_assert_eq!(&good, &wanted);
            prop_assert_eq!(good.len() + bad.len(), all.len());
            for (n, why) in bad {
                let e = all[n as usize - 1].1;
                match why {
                    Refusal::Empty => prop_assert_eq!(e.count, 0),
                    Refusal::Outside(o) => prop_assert!(o == e && !e.inside(allowed)),
                    Refusal::Overlaps(m) => prop_assert!(e.overlaps(all[m as usize - 1].1)),
                }
            }
        }
    }
}
