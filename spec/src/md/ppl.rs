//! The partial parity log of RAID-5: before a stripe is written in part, the sum of the data that stay goes here, so that after a crash parity can be
//! made right even if a member is missing. It lies on the member that has the stripe's parity.
//!
//! ```text
//!   0           512        544                       4096
//!   ├───────────┼──────────┼─────────────────────────┼──────────────────┬──────────────────┐
//!   │ ff ff ff… │ header   │ up to 148 entries       │ sums of entry 0  │ sums of entry 1  │ …
//!   └───────────┴──────────┴─────────────────────────┴──────────────────┴──────────────────┘
//! ```
//!
//! (`struct ppl_header`, `drivers/md/raid5-ppl.c`.) In a log that has room for several such units each begins where the one before it ends, and at the start again where it would not fit; the
//! newest is found by going from one to the next as long as generations rise (`ppl_load_distributed`).
use crc_fast::{CrcAlgorithm, checksum};
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a header.
pub const LEN: usize = 4096;
/// Most entries of a header.
pub const ENTRIES_MAX: usize = (LEN - RESERVED - 24) / size_of::<RawEntry>();
/// Bytes that units are made no longer than where there are several: a header and 124 KiB of sums. Linux takes 128 KiB of sums (`PPL_SPACE_SIZE`).
pub const LOG: u64 = 128 << 10;
const RESERVED: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    data_sector: U64,
    pp_size: U32,
    data_size: U32,
    parity_disk: U32,
    checksum: U32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    reserved: [u8; RESERVED],
    signature: U32,
    padding: U32,
    generation: U64,
    entries_count: U32,
    checksum: U32,
    entries: [RawEntry; ENTRIES_MAX],
    rest: [u8; LEN - RESERVED - 24 - ENTRIES_MAX * 24],
}
const _: () = assert!(size_of::<Raw>() == LEN && ENTRIES_MAX == 148);
const CHECKSUM: usize = RESERVED + 20;
const UNSETTLED: u32 = 1;

/// Why some bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not 4 KiB.
    #[error("{0} bytes are too few for the header of a partial parity log")]
    Short(usize),
    /// The checksum is wrong: there has never been a header, or it is damaged.
    #[error("the checksum of the partial parity log is {found:08x} and should be {wanted:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes give.
        wanted: u32,
    },
    /// More entries than there is room for.
    #[error("a partial parity log with {0} entries")]
    Entries(u32),
}

/// A write whose stripes may be half done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// First sector of the new data, in the array.
    pub data_sector: u64,
    /// Bytes of new data.
    pub data_size: u32,
    /// Bytes of sums; none if all data of the stripes were written.
    pub sums_size: u32,
    /// The member that has their parity.
    pub parity: u32,
    /// CRC-32C of the sums.
    pub checksum: u32,
}

/// What a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose log it is: [`signature`] of the array.
    pub signature: u32,
    /// Number of the header, rising.
    pub generation: u64,
    /// What was under way.
    pub entries: Vec<Entry>,
    /// Parity may be wrong elsewhere as well: the array had not been resynchronised. Ours, in a field that Linux leaves zero and does not look at.
    pub unsettled: bool,
    /// All bytes as they were read: what is unknown is kept.
    raw: Box<[u8; LEN]>,
}

/// What tells that a log belongs to an array.
pub fn signature(array: Uuid) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, array.as_bytes()) as u32
}

impl Header {
    /// Checks what is at the start of a log. Whether it is this array's log the signature tells.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let short = || Error::Short(bytes.len());
        let bytes: &[u8; LEN] = bytes.first_chunk().ok_or_else(short)?;
        let raw = Raw::ref_from_bytes(bytes).map_err(|_| short())?;
        let (found, wanted) = (raw.checksum.get(), crc(bytes));
        if found != wanted {
            return Err(Error::Checksum { found, wanted });
        }
        let count = raw.entries_count.get();
        let entries = raw.entries.get(..count as usize).ok_or(Error::Entries(count))?;
        let entry = |raw: &RawEntry| Entry {
            data_sector: raw.data_sector.get(),
            data_size: raw.data_size.get(),
            sums_size: raw.pp_size.get(),
            parity: raw.parity_disk.get(),
            checksum: raw.checksum.get(),
        };
        Ok(Self {
            signature: raw.signature.get(),
            generation: raw.generation.get(),
            entries: entries.iter().map(entry).collect(),
            unsettled: raw.padding.get() & UNSETTLED != 0,
            raw: Box::new(*bytes),
        })
    }

    /// An empty one.
    pub fn new(array: Uuid, generation: u64) -> Self {
        let mut raw = Box::new([0; LEN]);
        raw[..RESERVED].fill(0xff);
        Self {
            signature: signature(array),
            generation,
            entries: Vec::new(),
            unsettled: false,
            raw,
        }
    }

    /// The header as it is written, unless there are more than [`ENTRIES_MAX`] entries.
    pub fn to_bytes(&self) -> Option<Box<[u8; LEN]>> {
        let mut bytes = self.raw.clone();
        let raw = Raw::mut_from_bytes(bytes.as_mut_slice()).ok()?;
        for (raw, entry) in raw.entries.get_mut(..self.entries.len())?.iter_mut().zip(&self.entries) {
            *raw = RawEntry {
                data_sector: entry.data_sector.into(),
                pp_size: entry.sums_size.into(),
                data_size: entry.data_size.into(),
                parity_disk: entry.parity.into(),
                checksum: entry.checksum.into(),
            }
        }
        raw.signature = self.signature.into();
        let padding = raw.padding.get() & !UNSETTLED;
        raw.padding = (padding | if self.unsettled { UNSETTLED } else { 0 }).into();
        raw.generation = self.generation.into();
        // At most ENTRIES_MAX.
        raw.entries_count = (self.entries.len() as u32).into();
        let sum = crc(&bytes);
        bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
        Some(bytes)
    }
}

/// CRC-32C of a header, its own field taken as zero.
fn crc(header: &[u8; LEN]) -> u32 {
    let mut copy = *header;
    copy[CHECKSUM..CHECKSUM + 4].fill(0);
    checksum(CrcAlgorithm::Crc32Iscsi, &copy) as u32
}
