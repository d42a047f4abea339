//! The journal of RAID-4, 5 and 6 on a device of its own, as far as it takes to know what it is and that it is not empty. It is not replayed here.
//!
//! The journal is a ring of blocks of 4 KiB: *meta blocks*, each followed by the data and parity it describes (`struct r5l_meta_block`,
//! `drivers/md/raid5-cache.c`). The member's superblock says where the tail is.
use crc_fast::{CrcAlgorithm, Digest};
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First number of a meta block.
pub const MAGIC: u32 = 0x6433_c509;
/// Bytes of a block.
pub const LEN: usize = 4096;
const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: U32,
    checksum: U32,
    version: u8,
    pad1: u8,
    pad2: U16,
    meta_size: U32,
    seq: U64,
    position: U64,
}
/// Bytes of a meta block before what it describes.
pub const HEADER: usize = 32;
const _: () = assert!(size_of::<Raw>() == HEADER);

/// Why some bytes are no meta block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No magic number.
    #[error("no block of an MD journal")]
    Magic,
    /// Not 4 KiB.
    #[error("{0} bytes are too few for a block of an MD journal")]
    Short(usize),
    /// Of another version.
    #[error("a block of an MD journal of version {0}")]
    Version(u8),
    /// The checksum is wrong: of another array, or damaged.
    #[error("the checksum of the journal's block is {found:08x} and should be {wanted:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes give.
        wanted: u32,
    },
    /// It is longer than a block, or shorter than its header.
    #[error("a block of an MD journal that says it has {0} bytes")]
    Size(u32),
}

/// A meta block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaBlock {
    /// Number of the block, rising.
    pub sequence: u64,
    /// Where it is, in sectors from where the journal's data begin.
    pub position: u64,
    /// Bytes in use, header included.
    pub size: u32,
}

impl MetaBlock {
    /// Checks a block of the journal of this array.
    pub fn parse(bytes: &[u8], array: Uuid) -> Result<Self, Error> {
        if !bytes.starts_with(&MAGIC.to_le_bytes()) {
            return Err(Error::Magic);
        }
        let short = || Error::Short(bytes.len());
        let block: &[u8; LEN] = bytes.first_chunk().ok_or_else(short)?;
        let (raw, rest) = Raw::read_from_prefix(block).map_err(|_| short())?;
        if raw.version != VERSION {
            return Err(Error::Version(raw.version));
        }
        let zeroed = Raw {
            checksum: 0.into(),
            ..raw
        };
        // Seeded with the array's identity, neither inverted at its end.
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(array.as_bytes());
        digest.update(zeroed.as_bytes());
        digest.update(rest);
        let (found, wanted) = (raw.checksum.get(), !(digest.finalize() as u32));
        if found != wanted {
            return Err(Error::Checksum { found, wanted });
        }
        let size = raw.meta_size.get();
        if size as usize > LEN || (size as usize) < HEADER {
            return Err(Error::Size(size));
        }
        Ok(Self {
            sequence: raw.seq.get(),
            position: raw.position.get(),
            size,
        })
    }

    /// True if it describes nothing.
    pub const fn is_empty(&self) -> bool {
        self.size as usize == HEADER
    }
}
