//! Where RAID-0 puts what. Members may differ in length: where the shortest end the others go on, each such stretch a *zone*.
//!
//! ```text
//!   member   0    1    2
//!            0    1    2   ┐
//!            3    4    5   ┘ zone of three
//!            6         7   ┐
//!            8         9   ┘ zone of two      "alternate" (Linux since 3.14): chunks of a zone begin with its first member
//!                     10   ─ zone of one      "original": chunk c is on the member c mod n, counted from the start of the array
//! ```
//!
//! (`drivers/md/raid0.c`.) The two differ only in arrays with several zones, and nobody can tell which it is but from the superblock, or who made it.
use super::{Level, Place, ShapeError, check_chunk};

/// Which of the two ways chunks are counted in zones after the first (`enum r0layout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counting {
    /// From the start of the array.
    Original,
    /// From the start of the zone.
    Alternate,
}

impl Counting {
    /// From MD's number, which an older array does not have (0).
    pub const fn from_number(layout: u32) -> Option<Self> {
        match layout {
            1 => Some(Self::Original),
            2 => Some(Self::Alternate),
            _ => None,
        }
    }

    /// MD's number.
    pub const fn number(self) -> u32 {
        match self {
            Self::Original => 1,
            Self::Alternate => 2,
        }
    }
}

/// Rows in which the same members have chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Zone {
    /// First sector in the array.
    start: u64,
    /// One past its last sector in the array.
    end: u64,
    /// First sector in each of its members.
    member_start: u64,
    members: Vec<u16>,
}

/// The shape of a RAID-0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    chunk: u32,
    counting: Counting,
    zones: Vec<Zone>,
}

impl Zones {
    /// Of members with so many sectors, of which whole chunks of `chunk` sectors count. Where the counting is unknown (`None`) arrays with one zone
    /// are the same either way, and others are refused.
    pub fn new(sizes: &[u64], chunk: u32, counting: Option<Counting>) -> Result<Self, ShapeError> {
        check_chunk(chunk, sizes)?;
        let level = Level::Raid0;
        let number = u16::try_from(sizes.len()).map_err(|_| ShapeError::Members {
            level,
            members: sizes.len(),
        })?;
        let whole: Vec<u64> = sizes.iter().map(|size| size - size % u64::from(chunk)).collect();
        let mut ends = whole.clone();
        ends.sort_unstable();
        ends.dedup();
        let (mut zones, mut start, mut member_start) = (Vec::new(), 0, 0);
        for member_end in ends.into_iter().filter(|end| *end > 0) {
            let members: Vec<u16> = (0..number).filter(|n| whole[usize::from(*n)] >= member_end).collect();
            let end = start + (member_end - member_start) * members.len() as u64;
            zones.push(Zone {
                start,
                end,
                member_start,
                members,
            });
            (start, member_start) = (end, member_end)
        }
        if zones.is_empty() {
            return Err(ShapeError::Members { level, members: 0 });
        }
        let counting = match counting {
            Some(counting) => counting,
            None if zones.len() == 1 => Counting::Alternate,
            None => return Err(ShapeError::Layout { level, layout: 0 }),
        };
        Ok(Self { chunk, counting, zones })
    }

    /// Sectors in a chunk.
    pub const fn chunk(&self) -> u32 {
        self.chunk
    }

    /// How many zones there are.
    pub fn zones(&self) -> usize {
        self.zones.len()
    }

    /// Length of the array in sectors.
    pub fn sectors(&self) -> u64 {
        self.zones.last().map_or(0, |zone| zone.end)
    }

    /// The zones, as stripes: length of the array before each, where it begins on each of its members, their rows of chunks, and the members in the order
    /// in which its chunks go round.
    pub fn stripes(&self) -> impl Iterator<Item = (u64, u64, u64, Vec<u16>)> + '_ {
        self.zones.iter().map(|zone| {
            let width = zone.members.len();
            // Less than the number of members.
            let ahead = self.ahead(zone) as usize;
            let members = (0..width).map(|n| zone.members[(n + ahead) % width]).collect();
            let rows = (zone.end - zone.start) / width as u64 / u64::from(self.chunk);
            (zone.start, zone.member_start, rows, members)
        })
    }

    /// How far the number of the member is ahead of what the zone's own counting gives.
    fn ahead(&self, zone: &Zone) -> u64 {
        match self.counting {
            Counting::Alternate => 0,
            Counting::Original => zone.start / u64::from(self.chunk) % zone.members.len() as u64,
        }
    }

    /// Where a sector of the array is. It lies below [`sectors`](Self::sectors).
    #[inline]
    pub fn place(&self, sector: u64) -> Place {
        debug_assert!(sector < self.sectors());
        let at = self.zones.partition_point(|zone| zone.end <= sector);
        let zone = &self.zones[at.min(self.zones.len() - 1)];
        let (chunk, members) = (u64::from(self.chunk), zone.members.len() as u64);
        let (number, within) = ((sector - zone.start) / chunk, sector % chunk);
        let member = (number + self.ahead(zone)) % members;
        Place {
            member: zone.members[member as usize],
            sector: zone.member_start + number / members * chunk + within,
        }
    }

    /// Which sector of the array is there; nothing past the member's last whole chunk.
    pub fn find(&self, place: Place) -> Option<u64> {
        let zone = self.zones.iter().rev().find(|zone| zone.member_start <= place.sector)?;
        let index = zone.members.iter().position(|member| *member == place.member)? as u64;
        let (chunk, members) = (u64::from(self.chunk), zone.members.len() as u64);
        let beyond = place.sector - zone.member_start;
        if beyond >= (zone.end - zone.start) / members {
            return None;
        }
        let (row, within) = (beyond / chunk, place.sector % chunk);
        let number = row * members + (index + members - self.ahead(zone)) % members;
        Some(zone.start + number * chunk + within)
    }
}
