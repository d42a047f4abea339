//! Where a linear array puts what: members one behind the other. With a chunk size (rounding) only whole chunks of each member count
//! (`drivers/md/md-linear.c`).
use super::{Level, Place, ShapeError, check_chunk};

/// The shape of a linear array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// One past the last sector of each member, in the array.
    ends: Vec<u64>,
}

impl Linear {
    /// Of members with so many sectors; `chunk` is 0 or what their lengths are rounded down to.
    pub fn new(sizes: &[u64], chunk: u32) -> Result<Self, ShapeError> {
        check_chunk(chunk.max(1), sizes)?;
        if sizes.is_empty() || sizes.len() > usize::from(super::MEMBERS_MAX) {
            return Err(ShapeError::Members {
                level: Level::Linear,
                members: sizes.len(),
            });
        }
        let whole = sizes.iter().map(|size| size - size % u64::from(chunk.max(1)));
        let sum = |end: &mut u64, size| {
            *end += size;
            Some(*end)
        };
        Ok(Self {
            ends: whole.scan(0, sum).collect(),
        })
    }

    /// Length of the array in sectors.
    pub fn sectors(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn start(&self, member: usize) -> u64 {
        member.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Where a sector of the array is. It lies below [`sectors`](Self::sectors).
    pub fn place(&self, sector: u64) -> Place {
        debug_assert!(sector < self.sectors());
        let member = self.ends.partition_point(|end| *end <= sector).min(self.ends.len() - 1);
        Place {
            member: member as u16,
            sector: sector - self.start(member),
        }
    }

    /// Which sector of the array is there; nothing past the member's end.
    pub fn find(&self, place: Place) -> Option<u64> {
        let end = *self.ends.get(usize::from(place.member))?;
        let sector = self.start(place.member.into()).checked_add(place.sector)?;
        (sector < end).then_some(sector)
    }
}
