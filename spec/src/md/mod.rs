//! Linux MD (software RAID): what `mdadm` writes on the members of an array, and where MD puts which sector.
//!
//! ```text
//!   1.2   0     4 KiB                                         data_offset
//!   ├─────┬────────────┬────────┬─────────────────┬───────────┬──────────────────────────────┐
//!   │     │ superblock │ bitmap │ bad-block log   │ (PPL)     │ data                         │
//!   └─────┴────────────┴────────┴─────────────────┴───────────┴──────────────────────────────┘
//!   1.1 has it at 0, 1.0 at 8 KiB or a little more before the end, and 0.90 between 64 and 128 KiB before the end, with data from 0.
//! ```
//!
//! There is no standard; the sources are the kernel's `include/uapi/linux/raid/md_p.h` for the structures and what `mdadm --examine` prints.
//! `docs/formats/md.md` is our account of them. MD counts in sectors of 512 bytes, whatever the block size of the disk. Numbers are little-endian,
//! but for 0.90, whose numbers are in the order of the machine that wrote them.
pub mod assembly;
pub mod bad_blocks;
pub mod bitmap;
pub mod journal;
pub mod linear;
pub mod parity;
pub mod ppl;
pub mod raid10;
pub mod redo;
pub mod superblock;
pub mod v0;
pub mod v1;
pub mod zones;

use std::fmt;

/// Bytes of a sector, the unit of all of MD's numbers.
pub const SECTOR: u64 = 512;
/// Sectors that no array reaches: 2^63 bytes.
pub const SECTORS_MAX: u64 = 1 << 54;
/// Members an array may have room for (roles above are special, `MD_DISK_ROLE_MAX`).
pub const MEMBERS_MAX: u16 = 0xff00;

/// What an array does with its members (`level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// One behind the other.
    Linear,
    /// Striped.
    Raid0,
    /// Mirrored.
    Raid1,
    /// Striped, the last member has the parity.
    Raid4,
    /// Striped, parity goes round.
    Raid5,
    /// Striped, two parities go round.
    Raid6,
    /// Striped, each chunk several times.
    Raid10,
    /// A number nobody defined here: multipath (-4), faulty (-5), container (-100), …
    Other(i32),
}

impl Level {
    /// From MD's number.
    pub const fn from_number(number: i32) -> Self {
        match number {
            -1 => Self::Linear,
            0 => Self::Raid0,
            1 => Self::Raid1,
            4 => Self::Raid4,
            5 => Self::Raid5,
            6 => Self::Raid6,
            10 => Self::Raid10,
            other => Self::Other(other),
        }
    }

    /// MD's number.
    pub const fn number(self) -> i32 {
        match self {
            Self::Linear => -1,
            Self::Raid0 => 0,
            Self::Raid1 => 1,
            Self::Raid4 => 4,
            Self::Raid5 => 5,
            Self::Raid6 => 6,
            Self::Raid10 => 10,
            Self::Other(other) => other,
        }
    }
}

impl fmt::Display for Level {
    /// As mdadm says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear => f.write_str("linear"),
            Self::Other(number) => write!(f, "level {number}"),
            raid => write!(f, "raid{}", raid.number()),
        }
    }
}

/// A sector of a member, counted from where its data begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The member, by its role in the array.
    pub member: u16,
    /// The sector.
    pub sector: u64,
}

/// Why an array of such a shape is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No such layout of this level.
    #[error("{level} has no layout {layout:#x} that is known here")]
    Layout {
        /// Of what.
        level: Level,
        /// MD's number.
        layout: u32,
    },
    /// Too few or too many members for it.
    #[error("{level} is not made of {members} members")]
    Members {
        /// What.
        level: Level,
        /// So many.
        members: usize,
    },
    /// Chunks of no sectors, or of more than there are.
    #[error("chunks of {0} sectors make no sense")]
    Chunk(u32),
    /// Members larger than anything.
    #[error("a member of {0} sectors is larger than any disk")]
    Size(u64),
}

/// Checks what all striped levels have.
fn check_chunk(chunk: u32, sizes: &[u64]) -> Result<(), ShapeError> {
    if chunk == 0 || chunk > 1 << 30 {
        return Err(ShapeError::Chunk(chunk));
    }
    let mut sum = 0u64;
    for size in sizes {
        sum = sum.saturating_add(*size);
        if sum > SECTORS_MAX {
            return Err(ShapeError::Size(*size));
        }
    }
    Ok(())
}
