//! Where there is room for a partition.
use super::human;
use crate::plan::{Code, Refusal};
use spec::Extent;

/// Runs of `allowed` that nobody has, in order.
pub fn gaps(allowed: Extent, taken: impl IntoIterator<Item = Extent>) -> Vec<Extent> {
    let mut taken: Vec<Extent> = taken.into_iter().filter(|extent| extent.count > 0).collect();
    taken.sort_by_key(|extent| extent.start);
    let end = allowed.start.saturating_add(allowed.count);
    let (mut at, mut found) = (allowed.start, Vec::new());
    for extent in taken {
        let until = extent.start.min(end);
        if until > at {
            found.push(Extent::new(at, until - at));
        }
        at = at.max(extent.start.saturating_add(extent.count));
    }
    if end > at {
        found.push(Extent::new(at, end - at));
    }
    found
}

/// What is asked for, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// First block.
    pub start: Option<u64>,
    /// How many.
    pub count: Option<u64>,
    /// One past the last.
    pub end: Option<u64>,
}

/// How a scheme places partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Places where they start by themselves.
    pub grain: u64,
    /// They end at such a place, too, if nobody says where.
    pub align_end: bool,
    /// A logical partition has a record of its own in front: at most a grain before it, at least a block.
    pub record: bool,
    /// The record is there already, at this block, and has no partition.
    pub first: Option<u64>,
    /// Bytes in a block, for words.
    pub block_size: u32,
}

/// A place: where the record goes, and the partition. Without a record both start at the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record in front.
    pub record: u64,
    /// The partition.
    pub extent: Extent,
}

impl Manner {
    fn up(&self, block: u64) -> u64 {
        block.checked_next_multiple_of(self.grain).unwrap_or(u64::MAX)
    }

    /// The first place in a gap, and where it could end.
    fn start(&self, gap: Extent) -> Option<(u64, u64)> {
        let record = match self.first {
            Some(first) if first == gap.start => first,
            Some(_) => return None,
            None => self.up(gap.start),
        };
        let start = match self.record {
            true => self
                .up(record.saturating_add(1))
                .max(self.up(record).saturating_add(self.grain)),
            false => record,
        };
        Some((record, start))
    }

    fn finish(&self, start: u64, limit: u64) -> u64 {
        let down = limit / self.grain * self.grain;
        match self.align_end && down > start {
            true => down,
            false => limit,
        }
    }
}

/// Chooses a place: at `start` if that is given; else in the first gap with room; without a length, all of the largest one.
pub fn choose(gaps: &[Extent], wish: Wish, manner: &Manner) -> Result<Place, Refusal> {
    let bytes = |blocks: u64| human(blocks.saturating_mul(manner.block_size.into()));
    let end_of = |gap: &Extent| gap.start + gap.count;
    if let Some(start) = wish.start {
        let at = start.saturating_sub(u64::from(manner.record));
        let gap = gaps.iter().find(|gap| (gap.start..end_of(gap)).contains(&at));
        let gap = gap.filter(|_| !manner.record || start > 0).ok_or_else(|| {
            let list: Vec<String> = gaps.iter().map(Extent::to_string).collect();
            let why = format!("block {start} is not free");
            Refusal::new(Code::NoSpace, why).but(match list.is_empty() {
                true => "there is no room left".into(),
                false => format!("free blocks are {}", list.join(", ")),
            })
        })?;
        let record = match (manner.record, manner.first) {
            (false, _) => start,
            (true, Some(first)) if gap.start == first => first,
            (true, Some(first)) => {
                let why = format!("the first logical partition must lie behind block {first}");
                return Err(Refusal::new(Code::NoSpace, why));
            }
            (true, None) => start.saturating_sub(manner.grain).max(gap.start),
        };
        let limit = end_of(gap);
        let end = match (wish.count, wish.end) {
            (Some(count), _) => start.checked_add(count),
            (None, Some(end)) => Some(end),
            (None, None) => Some(manner.finish(start, limit)),
        };
        return match end {
            Some(end) if end > start && end <= limit => Ok(Place {
                record,
                extent: Extent::new(start, end - start),
            }),
            Some(end) if end <= start => Err(Refusal::new(Code::BadOption, "it would end before it starts")),
            _ => {
                let why = format!("from block {start} there are only {} free", bytes(limit - start));
                Err(Refusal::new(Code::NoSpace, why))
            }
        };
    }
    let places = gaps.iter().filter_map(|gap| {
        let (record, start) = manner.start(*gap)?;
        let limit = end_of(gap);
        let end = match (wish.count, wish.end) {
            (Some(count), _) => start.checked_add(count)?,
            (None, Some(end)) => end,
            (None, None) => manner.finish(start, limit),
        };
        (start < end && end <= limit).then(|| Place {
            record,
            extent: Extent::new(start, end - start),
        })
    });
    let found = match (wish.count, wish.end) {
        (None, None) => places.rev().max_by_key(|place| place.extent.count),
        _ => places.into_iter().next(),
    };
    found.ok_or_else(|| {
        let largest = gaps.iter().filter_map(|gap| Some((manner.start(*gap)?.1, end_of(gap))));
        let largest = largest
            .map(|(start, end)| end.saturating_sub(start))
            .max()
            .unwrap_or_default();
        let why = match largest {
            0 => "there is no room left".to_owned(),
            blocks => format!("the largest run of free blocks has {}", bytes(blocks)),
        };
        Refusal::new(Code::NoSpace, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPT: Manner = Manner {
        grain: 2048,
        align_end: true,
        record: false,
        first: None,
        block_size: 512,
    };
    const LOGICAL: Manner = Manner {
        align_end: false,
        record: true,
        ..GPT
    };

    fn at(record: u64, start: u64, end: u64) -> Result<Place, Refusal> {
        Ok(Place {
            record,
            extent: Extent::new(start, end - start),
        })
    }

    #[test]
    fn gaps_are_what_is_left() {
        let taken = [
            Extent::new(30, 10),
            Extent::new(10, 5),
            Extent::new(35, 20),
            Extent::new(90, 100),
        ];
        assert_eq!(
            gaps(Extent::new(5, 95), taken),
            [Extent::new(5, 5), Extent::new(15, 15), Extent::new(55, 35)]
        );
        assert_eq!(gaps(Extent::new(5, 5), []), [Extent::new(5, 5)]);
        assert_eq!(gaps(Extent::new(5, 5), [Extent::new(0, 50)]), []);
    }

    #[test]
    fn the_largest_gap_or_the_first_with_room() {
        let gaps = [
            Extent::new(34, 6000),
            Extent::new(9000, 20_000),
            Extent::new(40_000, 5000),
        ];
        assert_eq!(choose(&gaps, Wish::default(), &GPT), at(10_240, 10_240, 28_672));
        let wish = |count| Wish {
            count: Some(count),
            ..Wish::default()
        };
        assert_eq!(choose(&gaps, wish(100), &GPT), at(2048, 2048, 2148));
        assert_eq!(choose(&gaps, wish(5000), &GPT), at(10_240, 10_240, 15_240));
        assert_eq!(choose(&gaps, wish(50_000), &GPT).unwrap_err().code, Code::NoSpace);
        let from = |start, count, end| Wish {
            start: Some(start),
            count,
            end,
        };
        assert_eq!(choose(&gaps, from(35, Some(1), None), &GPT), at(35, 35, 36));
        assert_eq!(choose(&gaps, from(100, None, None), &GPT), at(100, 100, 4096));
        assert_eq!(choose(&gaps, from(100, None, Some(200)), &GPT), at(100, 100, 200));
        assert_eq!(
            choose(&gaps, from(100, None, Some(90)), &GPT).unwrap_err().code,
            Code::BadOption
        );
        assert!(
            choose(&gaps, from(7000, None, None), &GPT)
                .unwrap_err()
                .to_string()
                .contains("free blocks are 34..6034")
        );
        assert_eq!(
            choose(&gaps, from(40_000, Some(u64::MAX), None), &GPT)
                .unwrap_err()
                .code,
            Code::NoSpace
        );
    }

    #[test]
    fn a_logical_partition_has_its_record_in_front() {
        let gaps = [Extent::new(4096, 10_000), Extent::new(20_001, 9000)];
        let first = Manner {
            first: Some(4096),
            ..LOGICAL
        };
        assert_eq!(choose(&gaps, Wish::default(), &first), at(4096, 6144, 14_096));
        assert_eq!(
            choose(&gaps[1..], Wish::default(), &LOGICAL),
            at(20_480, 22_528, 29_001)
        );
        let from = |start| Wish {
            start: Some(start),
            ..Wish::default()
        };
        assert_eq!(choose(&gaps[1..], from(20_003), &LOGICAL), at(20_001, 20_003, 29_001));
        assert_eq!(choose(&gaps[1..], from(25_000), &LOGICAL), at(22_952, 25_000, 29_001));
        assert!(
            choose(&gaps[1..], from(20_001), &LOGICAL).is_err(),
            "no room for the record"
        );
        assert!(choose(&gaps, from(25_000), &first).is_err());
        assert_eq!(choose(&gaps, from(4097), &first), at(4096, 4097, 14_096));
    }
}
