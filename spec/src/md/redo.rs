//! The redo log of an array that lacks members. Ours, not Linux's: it lies in the room that mdadm leaves between a member's metadata and its data, where
//! Linux looks for nothing.
//!
//! While a member is missing, a row that is half written cannot be made right: what the missing member had follows from all the others. So what is about to be
//! written goes here first, data and sums, and after a crash it is written again.
//!
//! ```text
//!   0         4096                                                        length
//!   ├─────────┼──────────────────────────────────────────────────────────────┤
//!   │ anchor  │ header │ strips … │ header │ strips … │   round and round     │
//!   └─────────┴──────────────────────────────────────────────────────────────┘
//! ```
//!
//! The [anchor](Anchor) says with which superblock the log goes. If another system has run the array since, the superblock is another and the log counts for
//! nothing. Entries count if they are of the anchor's generation and whole, from the oldest on that one of them says may not be in its place; they are
//! written again in the order of their sequence.
use super::{superblock::Superblock, v1};
use crc_fast::{CrcAlgorithm, checksum};
use std::ops::Range;
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an anchor and of the header of an entry: what a disk writes whole or not at all.
pub const LEN: usize = 512;
/// Sectors from the start of the log to the first entry.
pub const ENTRIES: u64 = 8;
/// Most strips of an entry.
pub const STRIPS_MAX: usize = (LEN - 56) / 2;
/// Sectors of the longest log.
const ROOM_MAX: u64 = (8 << 20) / 512;
/// Sectors of the shortest one that is of use.
const ROOM_MIN: u64 = (32 << 10) / 512;

const ANCHOR: [u8; 8] = *b"ashlrRA1";
const ENTRY: [u8; 8] = *b"ashlrRE1";

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawAnchor {
    magic: [u8; 8],
    array: [u8; 16],
    generation: U64,
    now: U32,
    before: U32,
    checksum: U32,
    rest: [u8; LEN - 44],
}
const _: () = assert!(size_of::<RawAnchor>() == LEN);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    magic: [u8; 8],
    generation: U64,
    sequence: U64,
    oldest: U64,
    sector: U64,
    sectors: U32,
    strips: U32,
    payload: U32,
    checksum: U32,
    places: [U16; STRIPS_MAX],
}
const _: () = assert!(size_of::<RawEntry>() == LEN);

/// With which superblock a log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The array.
    pub array: Uuid,
    /// Which entries count.
    pub generation: u64,
    /// [`print()`] of the member's superblock, and of the one that it had before: a crash may leave either.
    pub superblocks: [u32; 2],
}

/// What tells one superblock of a member from another.
pub fn print(superblock: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, superblock) as u32
}

/// Where a member's log is, as sectors of the member; nothing if there is no room for one. `bitmap` says how many sectors a bitmap takes.
pub fn room(superblock: &Superblock, bitmap: u64) -> Option<Range<u64>> {
    let Superblock::V1(own) = superblock else { return None };
    use v1::Features;
    let others_use_it = [Features::RESHAPE, Features::NEW_OFFSET, Features::JOURNAL]
        .into_iter()
        .any(|feature| own.features.has(feature));
    if others_use_it || own.ppl().is_some() || own.super_offset >= own.data_offset {
        return None;
    }
    let behind = |offset: i64, sectors: u64| own.relative(offset)?.checked_add(sectors);
    let superblock = behind(0, v1::LEN_MAX as u64 / 512)?;
    let bitmap = match own.bitmap_offset() {
        Some(offset) => behind(offset.into(), bitmap)?,
        None => 0,
    };
    let log = own.bad_blocks;
    let bad_blocks = match log.size {
        0 => 0,
        size => behind(log.offset.into(), size.into())?,
    };
    let start = superblock.max(bitmap).max(bad_blocks).checked_next_multiple_of(8)?;
    let end = own.data_offset.min(start.checked_add(ROOM_MAX)?);
    (end.checked_sub(start)? >= ROOM_MIN).then_some(start..end)
}

impl Anchor {
    /// The anchor in these bytes, if there is one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let raw = RawAnchor::ref_from_bytes(bytes.get(..LEN)?).ok()?;
        let same = RawAnchor {
            checksum: 0.into(),
            ..*raw
        };
        (raw.magic == ANCHOR && print(same.as_bytes()) == raw.checksum.get()).then(|| Self {
            array: Uuid::from_bytes(raw.array),
            generation: raw.generation.get(),
            superblocks: [raw.now.get(), raw.before.get()],
        })
    }

    /// As it is written.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = RawAnchor {
            magic: ANCHOR,
            array: *self.array.as_bytes(),
            generation: self.generation.into(),
            now: self.superblocks[0].into(),
            before: self.superblocks[1].into(),
            checksum: 0.into(),
            rest: [0; LEN - 44],
        };
        raw.checksum = print(raw.as_bytes()).into();
        zerocopy::transmute!(raw)
    }

    /// True if it goes with this superblock of its member.
    pub fn goes_with(&self, superblock: &Superblock) -> bool {
        let print = superblock.to_bytes().map(|bytes| print(&bytes));
        self.array == superblock.array() && print.is_some_and(|print| self.superblocks.contains(&print))
    }
}

/// What was about to be written to rows of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which anchor it is.
    pub generation: u64,
    /// Rises with each entry.
    pub sequence: u64,
    /// The oldest that may not be in its place yet. What is older is, and must not be written again.
    pub oldest: u64,
    /// First sector of the rows, from where members' data begin.
    pub sector: u64,
    /// Sectors of each strip.
    pub sectors: u32,
    /// The places of the members whose strips follow, one behind the other.
    pub places: Vec<u16>,
    /// CRC-32C of all strips.
    pub payload: u32,
}

impl Entry {
    /// The header in these bytes, if there is one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let raw = RawEntry::ref_from_bytes(bytes.get(..LEN)?).ok()?;
        let same = RawEntry {
            checksum: 0.into(),
            ..*raw
        };
        if raw.magic != ENTRY || print(same.as_bytes()) != raw.checksum.get() {
            return None;
        }
        let places = raw.places.get(..raw.strips.get() as usize)?;
        Some(Self {
            generation: raw.generation.get(),
            sequence: raw.sequence.get(),
            oldest: raw.oldest.get(),
            sector: raw.sector.get(),
            sectors: raw.sectors.get(),
            places: places.iter().map(|place| place.get()).collect(),
            payload: raw.payload.get(),
        })
    }

    /// As it is written; nothing if it has more than [`STRIPS_MAX`] strips.
    pub fn to_bytes(&self) -> Option<[u8; LEN]> {
        let mut places = [U16::ZERO; STRIPS_MAX];
        for (raw, place) in places.get_mut(..self.places.len())?.iter_mut().zip(&self.places) {
            *raw = (*place).into()
        }
        let mut raw = RawEntry {
            magic: ENTRY,
            generation: self.generation.into(),
            sequence: self.sequence.into(),
            oldest: self.oldest.into(),
            sector: self.sector.into(),
            sectors: self.sectors.into(),
            // At most STRIPS_MAX.
            strips: (self.places.len() as u32).into(),
            payload: self.payload.into(),
            checksum: 0.into(),
            places,
        };
        raw.checksum = print(raw.as_bytes()).into();
        Some(zerocopy::transmute!(raw))
    }

    /// Sectors of all strips.
    pub fn payload_sectors(&self) -> u64 {
        u64::from(self.sectors) * self.places.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::md::Level;

    fn superblock() -> v1::Superblock {
        let mut new = v1::Superblock::new(Uuid::from_u128(3), Level::Raid6);
        new.super_offset = 8;
        new.data_offset = 2048;
        new.set_bitmap_offset(Some(8));
        new.bad_blocks.offset = 16;
        new.bad_blocks.size = 8;
        new.roles = vec![v1::Role::Active(0)];
        new
    }

    #[test]
    fn it_lies_between_metadata_and_data() {
        let mut own = superblock();
        let room_of = |own: &v1::Superblock, bitmap| room(&Superblock::V1(Box::new(own.clone())), bitmap);
        assert_eq!(room_of(&own, 8), Some(32..2048));
        assert_eq!(room_of(&own, 100), Some(120..2048));
        own.data_offset = 1 << 20;
        assert_eq!(room_of(&own, 8), Some(32..32 + ROOM_MAX));
        own.data_offset = 64;
        assert_eq!(room_of(&own, 8), None);
        own.data_offset = 2048;
        own.set_ppl(8, 256, true);
        assert_eq!(room_of(&own, 8), None, "it has a log of MD's");
    }

    #[test]
    fn an_anchor_goes_with_two_superblocks_and_no_third() {
        let mut own = superblock();
        let print_of = |own: &v1::Superblock| print(&own.to_bytes().unwrap());
        let mut anchor = Anchor {
            array: own.array,
            generation: 7,
            superblocks: [print_of(&own), 0],
        };
        assert_eq!(Anchor::parse(&anchor.to_bytes()), Some(anchor));
        let goes = |anchor: Anchor, own: &v1::Superblock| anchor.goes_with(&Superblock::V1(Box::new(own.clone())));
        assert!(goes(anchor, &own));
        let old = own.clone();
        own.events += 1;
        assert!(!goes(anchor, &own));
        anchor.superblocks = [print_of(&own), print_of(&old)];
        assert!(goes(anchor, &own) && goes(anchor, &old));
        for at in 0..44 {
            let mut bytes = anchor.to_bytes();
            bytes[at] ^= 4;
            assert_eq!(Anchor::parse(&bytes), None, "byte {at}")
        }
        assert_eq!(Anchor::parse(&[0; 100]), None);
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        let entry = Entry {
            generation: 1,
            sequence: 2,
            oldest: 1,
            sector: 3,
            sectors: 4,
            places: vec![5, 0, 2],
            payload: 6,
        };
        let bytes = entry.to_bytes().unwrap();
        assert_eq!(Entry::parse(&bytes), Some(entry.clone()));
        assert_eq!(entry.payload_sectors(), 12);
        for at in 0..LEN {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert_eq!(Entry::parse(&bytes), None, "byte {at}")
        }
        let many = Entry {
            places: vec![0; STRIPS_MAX + 1],
            ..entry
        };
        assert_eq!(many.to_bytes(), None);
    }
}
