//! Where RAID-10 puts what: each chunk several times, on as many members, which need not be a multiple of the copies.
//!
//! ```text
//!   near 2, 3 members    far 2, 3 members       offset 2, 3 members
//!     0   0   1            0   1   2              0   1   2
//!     1   2   2            3   4   5              2   0   1
//!     3   3   4            …                      3   4   5
//!     4   5   5            2   0   1              5   3   4
//!                          5   3   4
//! ```
//!
//! Near copies stand beside each other. Far copies are in another part of the members, or with `offset` in the next row, each time shifted by the
//! near copies. Both may be combined. (`drivers/md/raid10.c`, `__raid10_find_phys`.)
use super::{Level, Place, ShapeError, check_chunk};

/// Bit of MD's number that says that far copies are in the next row.
const OFFSET: u32 = 1 << 16;

/// How often a chunk is written, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Copies beside each other.
    pub near: u8,
    /// Copies of those elsewhere.
    pub far: u8,
    /// Elsewhere is the next row.
    pub offset: bool,
}

impl Layout {
    /// From MD's number. Those with sets of far members (bits 17 and 18), which mdadm does not make, are not known.
    pub fn from_number(layout: u32) -> Result<Self, ShapeError> {
        let [near, far, ..] = layout.to_le_bytes();
        match near == 0 || far == 0 || layout & !(OFFSET | 0xffff) != 0 {
            true => Err(ShapeError::Layout {
                level: Level::Raid10,
                layout,
            }),
            false => Ok(Self {
                near,
                far,
                offset: layout & OFFSET != 0,
            }),
        }
    }

    /// MD's number.
    pub const fn number(self) -> u32 {
        self.near as u32 | (self.far as u32) << 8 | if self.offset { OFFSET } else { 0 }
    }

    /// All copies of a chunk.
    pub const fn copies(self) -> u16 {
        self.near as u16 * self.far as u16
    }
}

/// The shape of a RAID-10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raid10 {
    /// Where copies are.
    pub layout: Layout,
    members: u16,
    chunk: u32,
    /// Chunks in the array.
    chunks: u64,
    /// Chunks of a member from one far copy to the next.
    stride: u64,
}

impl Raid10 {
    /// Of members that use `member` sectors each, of which whole chunks of `chunk` sectors count.
    pub fn new(layout: Layout, members: u16, chunk: u32, member: u64) -> Result<Self, ShapeError> {
        if members < layout.copies() || members > super::MEMBERS_MAX || layout.copies() == 0 {
            return Err(ShapeError::Members {
                level: Level::Raid10,
                members: members.into(),
            });
        }
        check_chunk(chunk, &[member.saturating_mul(members.into())])?;
        let (near, far) = (u64::from(layout.near), u64::from(layout.far));
        // As `calc_sectors` and `raid10_size`: an array has what is left when rows of copies are whole.
        let chunks = member / u64::from(chunk) / far * u64::from(members) / near;
        let used = (chunks * near * far).div_ceil(members.into());
        Ok(Self {
            layout,
            members,
            chunk,
            chunks,
            stride: if layout.offset { 1 } else { used / far },
        })
    }

    /// All members.
    pub const fn members(&self) -> u16 {
        self.members
    }

    /// Sectors in a chunk.
    pub const fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Length of the array in sectors.
    pub fn sectors(&self) -> u64 {
        self.chunks * u64::from(self.chunk)
    }

    /// Where the copies of a sector of the array are, in MD's order. It lies below [`sectors`](Self::sectors).
    #[inline]
    pub fn places(&self, sector: u64) -> impl Iterator<Item = Place> + Clone + use<> {
        debug_assert!(sector < self.sectors());
        let (members, chunk, shape) = (u64::from(self.members), u64::from(self.chunk), *self);
        let (number, within) = (sector / chunk, sector % chunk);
        (0..self.layout.copies()).map(move |copy| {
            let (far, near) = (u64::from(shape.layout.far), u64::from(shape.layout.near));
            let (beside, elsewhere) = (u64::from(copy) / far, u64::from(copy) % far);
            let slot = number * near + beside;
            let (row, member) = (slot / members, slot % members);
            let row = if shape.layout.offset { row * far } else { row };
            Place {
                // Less than the number of members.
                member: ((member + elsewhere * near) % members) as u16,
                sector: (row + elsewhere * shape.stride) * chunk + within,
            }
        })
    }

    /// Which sector of the array is there, and which of its copies in the order of [`places`](Self::places); nothing where no chunk is.
    pub fn find(&self, place: Place) -> Option<(u64, u16)> {
        let (members, chunk, member) = (u64::from(self.members), u64::from(self.chunk), u64::from(place.member));
        let (far, near) = (u64::from(self.layout.far), u64::from(self.layout.near));
        let (line, within) = (place.sector / chunk, place.sector % chunk);
        let (row, elsewhere) = match self.layout.offset {
            true => (line / far, line % far),
            false => (line.checked_rem(self.stride)?, line.checked_div(self.stride)?),
        };
        if elsewhere >= far || member >= members {
            return None;
        }
        let first = (member + members * far - elsewhere * near % members) % members;
        let slot = row.checked_mul(members)?.checked_add(first)?;
        let (number, beside) = (slot / near, slot % near);
        (number < self.chunks).then(|| (number * chunk + within, (beside * far + elsewhere) as u16))
    }
}
