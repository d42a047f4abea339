//! GUID partition table (UEFI 2.10, section 5.3): header, entries, checks, and the way back to bytes.
//!
//! ```text
//! LBA 0        1        2 …                 first usable … last usable             … last
//! ┌────────┬────────┬───────────────────┬──────────────────────────────┬───────────┬────────┐
//! │ prot.  │primary │ entries (array,   │ partitions                   │ entries,  │ backup │
//! │ MBR    │ header │ CRC in header)    │                              │ again     │ header │
//! └────────┴────────┴───────────────────┴──────────────────────────────┴───────────┴────────┘
//! ```
//!
//! Reading takes two steps, because only a checked header says where its entries are: [`Header::parse`] checks one block and bounds
//! everything it points to; [`Table::parse`] checks the array against the header's CRC. The array is kept as it was, so that a table
//! nobody changed is written back bit for bit. Which of the two copies counts is the caller's decision.
use crate::extent::{self, Extent, Sifted};
use crc_fast::{CrcAlgorithm, checksum};
use std::fmt;
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a header (UEFI table 5-5, "Signature").
pub const SIGNATURE: [u8; 8] = *b"EFI PART";
/// Where the primary header is.
pub const PRIMARY: u64 = 1;
/// The largest array we read, in bytes. Linux draws its line at the largest kmalloc, 4 MiB; the usual size is 16 KiB.
pub const ARRAY_MAX: u64 = 4 << 20;
/// The largest entry we read, in bytes. The specification says 128·2ⁿ; everybody writes 128.
pub const ENTRY_MAX: u32 = 4096;

const REVISION: u32 = 0x0001_0000;

pub mod label;
pub use label::Label;

/// The header as it lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 8],
    revision: U32,
    header_size: U32,
    header_crc: U32,
    reserved: U32,
    my_lba: U64,
    alternate_lba: U64,
    first_usable: U64,
    last_usable: U64,
    disk_guid: [u8; 16],
    entries_lba: U64,
    entry_count: U32,
    entry_size: U32,
    entries_crc: U32,
}
const HEADER_LEN: usize = 92;
const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);

/// One entry as it lies on the disk (UEFI table 5-6). A larger entry has more bytes behind these, of unknown meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    kind: [u8; 16],
    guid: [u8; 16],
    first: U64,
    last: U64,
    attributes: U64,
    name: [zerocopy::little_endian::U16; 36],
}
const ENTRY_LEN: usize = 128;
const _: () = assert!(size_of::<RawEntry>() == ENTRY_LEN);

/// Why a block is not a header we can follow, or an array does not belong to its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No "EFI PART": there is no GPT here at all.
    #[error("no GPT signature")]
    Signature,
    /// Shorter than a header.
    #[error("{0} bytes are too few for a GPT header")]
    Short(usize),
    /// Revision, header size or entry size nobody defined.
    #[error("unknown GPT layout (revision {revision:#x}, header of {header} bytes, entries of {entry} bytes)")]
    Layout {
        /// Revision field; 1.0 is 0x10000.
        revision: u32,
        /// Header size field, bytes.
        header: u32,
        /// Entry size field, bytes.
        entry: u32,
    },
    /// The header's own CRC is wrong.
    #[error("header CRC is {found:08x}, should be {wanted:08x}")]
    HeaderCrc {
        /// What the header says.
        found: u32,
        /// What its bytes give.
        wanted: u32,
    },
    /// The header was written for another place.
    #[error("header at block {at} says it belongs at block {says}")]
    Misplaced {
        /// Where it was read.
        at: u64,
        /// Its MyLBA.
        says: u64,
    },
    /// Usable blocks or entries reach past the end: the disk was cut, or the image is incomplete.
    #[error("the table needs {needs} blocks, the disk has {has}")]
    Truncated {
        /// Blocks the table describes.
        needs: u64,
        /// Blocks there are.
        has: u64,
    },
    /// First usable after last usable, or entries inside the usable blocks.
    #[error("the header contradicts itself: usable blocks {first}..={last}, entries at {entries}")]
    Contradiction {
        /// FirstUsableLBA.
        first: u64,
        /// LastUsableLBA.
        last: u64,
        /// PartitionEntryLBA.
        entries: u64,
    },
    /// More entries than we are willing to read.
    #[error("{0} bytes of entries are more than {ARRAY_MAX}")]
    TooLarge(u64),
    /// The array's CRC is wrong.
    #[error("CRC of the entries is {found:08x}, should be {wanted:08x}")]
    EntriesCrc {
        /// What the array gives.
        found: u32,
        /// What the header says.
        wanted: u32,
    },
}

/// A header that passed every check: its entries lie on the disk and are few enough to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    raw: RawHeader,
    /// Bytes of the header past the 92 that are defined; covered by the CRC, kept for the way back.
    rest: Vec<u8>,
    block_size: u32,
}

impl Header {
    /// Checks the block read at `at` of a disk of `blocks` blocks. `block` is one whole block; its length is the block size.
    pub fn parse(block: &[u8], at: u64, blocks: u64) -> Result<Self, Error> {
        let (raw, _) = RawHeader::read_from_prefix(block).map_err(|_| Error::Short(block.len()))?;
        if raw.signature != SIGNATURE {
            return Err(Error::Signature);
        }
        let size = raw.header_size.get() as usize;
        let entry = raw.entry_size.get();
        // Revision 1.x of the future may add fields, but a new major number may mean anything.
        if raw.revision.get() >> 16 != REVISION >> 16
            || !(HEADER_LEN..=block.len()).contains(&size)
            || !(ENTRY_LEN as u32..=ENTRY_MAX).contains(&entry)
            || !entry.is_power_of_two()
        {
            return Err(Error::Layout {
                revision: raw.revision.get(),
                header: raw.header_size.get(),
                entry,
            });
        }
        let header = Self {
            raw,
            rest: block[HEADER_LEN..size].to_vec(),
            block_size: block.len() as u32,
        };
        let (found, wanted) = (raw.header_crc.get(), header.own_crc());
        if found != wanted {
            return Err(Error::HeaderCrc { found, wanted });
        }
        if raw.my_lba.get() != at {
            return Err(Error::Misplaced {
                at,
                says: raw.my_lba.get(),
            });
        }
        if header.array_bytes() > ARRAY_MAX {
            return Err(Error::TooLarge(header.array_bytes()));
        }
        let (first, last) = (raw.first_usable.get(), raw.last_usable.get());
        let array = header.array();
        let Some(array_end) = array.end() else {
            return Err(Error::Truncated {
                needs: u64::MAX,
                has: blocks,
            });
        };
        let needs = array_end.max(last.saturating_add(1));
        if needs > blocks || last == u64::MAX {
            return Err(Error::Truncated { needs, has: blocks });
        }
        // An empty usable region (first = last + 1) is legal on a tiny disk.
        let usable = Extent::new(first, (last + 1).saturating_sub(first));
        if first > last + 1 || first <= PRIMARY || array.start <= PRIMARY || array.overlaps(usable) {
            return Err(Error::Contradiction {
                first,
                last,
                entries: array.start,
            });
        }
        Ok(header)
    }

    fn own_crc(&self) -> u32 {
        let mut bytes = RawHeader {
            header_crc: 0.into(),
            ..self.raw
        }
        .as_bytes()
        .to_vec();
        bytes.extend_from_slice(&self.rest);
        crc32(&bytes)
    }

    fn array_bytes(&self) -> u64 {
        u64::from(self.raw.entry_count.get()) * u64::from(self.raw.entry_size.get())
    }

    /// The blocks that hold the entries. Read these for [`Table::parse`].
    pub fn array(&self) -> Extent {
        Extent::new(
            self.raw.entries_lba.get(),
            self.array_bytes().div_ceil(self.block_size.into()),
        )
    }

    /// The disk's own GUID.
    pub fn disk_guid(&self) -> Uuid {
        Uuid::from_bytes_le(self.raw.disk_guid)
    }

    /// Where the other copy of the header is said to be.
    pub fn alternate(&self) -> u64 {
        self.raw.alternate_lba.get()
    }

    /// The blocks partitions may use.
    pub fn usable(&self) -> Extent {
        let first = self.raw.first_usable.get();
        Extent::new(first, self.raw.last_usable.get() + 1 - first)
    }

    /// Slots in the array, used or not.
    pub fn slots(&self) -> u32 {
        self.raw.entry_count.get()
    }

    /// True if the two headers describe the same table: a primary and its backup.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let common = |h: &Self| {
            let r = h.raw;
            (
                r.disk_guid,
                r.first_usable,
                r.last_usable,
                r.entry_count,
                r.entry_size,
                r.entries_crc,
            )
        };
        common(self) == common(other)
    }
}

/// A partition as the table has it. Not yet checked against the disk; see [`Table::partitions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is for, e.g. [`types`].
    pub kind: Uuid,
    /// This partition's own GUID.
    pub guid: Uuid,
    /// First block.
    pub first: u64,
    /// Last block, inclusive as on the disk.
    pub last: u64,
    /// Attribute bits (UEFI table 5-8): 0 required, 1 no block I/O protocol, 2 legacy bootable, 48–63 the type's own.
    pub attributes: u64,
    /// Name, at most 36 UTF-16 units. Lone surrogates become U+FFFD here and are written back as such only if the entry is set.
    pub name: String,
}

impl Entry {
    fn from_raw(raw: &RawEntry) -> Self {
        let units = raw.name.iter().map(|u| u.get()).take_while(|&u| u != 0);
        Self {
            kind: Uuid::from_bytes_le(raw.kind),
            guid: Uuid::from_bytes_le(raw.guid),
            first: raw.first.get(),
            last: raw.last.get(),
            attributes: raw.attributes.get(),
            name: char::decode_utf16(units)
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        }
    }

    fn to_raw(&self) -> RawEntry {
        let mut name = [zerocopy::little_endian::U16::ZERO; 36];
        for (slot, unit) in name.iter_mut().zip(self.name.encode_utf16()) {
            *slot = unit.into();
        }
        RawEntry {
            kind: self.kind.to_bytes_le(),
            guid: self.guid.to_bytes_le(),
            first: self.first.into(),
            last: self.last.into(),
            attributes: self.attributes.into(),
            name,
        }
    }

    /// The blocks it covers; nothing if the entry ends before it starts or wraps.
    pub fn extent(&self) -> Option<Extent> {
        let count = self.last.checked_sub(self.first)?.checked_add(1)?;
        Some(Extent::new(self.first, count))
    }
}

/// A header and its checked entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The header this table hangs on.
    pub header: Header,
    array: Vec<u8>,
}

impl Table {
    /// Checks `array`, the bytes of [`Header::array`], against the header.
    pub fn parse(header: Header, array: &[u8]) -> Result<Self, Error> {
        let len = header.array_bytes() as usize;
        let Some(array) = array.get(..len) else {
            return Err(Error::Short(array.len()));
        };
        let (found, wanted) = (crc32(array), header.raw.entries_crc.get());
        if found != wanted {
            return Err(Error::EntriesCrc { found, wanted });
        }
        let array = array.to_vec();
        Ok(Self { header, array })
    }

    /// Every used slot, numbered from 1, as written.
    pub fn entries(&self) -> impl Iterator<Item = (u32, Entry)> {
        let step = self.header.raw.entry_size.get() as usize;
        self.array.chunks_exact(step).enumerate().filter_map(|(i, bytes)| {
            let (raw, _) = RawEntry::ref_from_prefix(bytes).ok()?;
            // Slots are bounded by ARRAY_MAX / 128, far below u32::MAX.
            (raw.kind != [0; 16]).then(|| (i as u32 + 1, Entry::from_raw(raw)))
        })
    }

    /// The partitions that can be served, in order of number, and those that cannot, each with the reason. An accepted one lies
    /// inside the usable blocks and shares no block with any other entry.
    pub fn partitions(&self) -> Sifted<Entry> {
        extent::sift(self.entries(), self.header.usable(), Entry::extent)
    }

    /// Puts `entry` into slot `number` (from 1), or empties it, and renews the CRC. False if there is no such slot.
    pub fn set(&mut self, number: u32, entry: Option<&Entry>) -> bool {
        let step = self.header.raw.entry_size.get() as usize;
        let Some(slot) = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.array.chunks_exact_mut(step).nth(i))
        else {
            return false;
        };
        slot.fill(0);
        if let Some(entry) = entry {
            slot[..ENTRY_LEN].copy_from_slice(entry.to_raw().as_bytes());
        }
        self.header.raw.entries_crc = crc32(&self.array).into();
        self.header.raw.header_crc = self.header.own_crc().into();
        true
    }

    /// The header's block, padded with zeroes, and the blocks of the array.
    pub fn to_bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let mut block = self.header.raw.as_bytes().to_vec();
        block.extend_from_slice(&self.header.rest);
        block.resize(self.header.block_size as usize, 0);
        let mut array = self.array.clone();
        array.resize(self.array.len().next_multiple_of(self.header.block_size as usize), 0);
        (block, array)
    }

    /// A fresh, empty table with 128 slots for a disk of `blocks` blocks, as primary or as backup, with 1 MiB left free at the start
    /// as every tool does. Nothing if the disk has no room for it.
    pub fn new(blocks: u64, block_size: u32, disk_guid: Uuid, backup: bool) -> Option<Self> {
        let array = vec![0; 128 * ENTRY_LEN];
        let span = (array.len() as u64).div_ceil(block_size.into());
        let first = ((1 << 20) / u64::from(block_size)).max(2 + span);
        let last = blocks.checked_sub(2 + span)?;
        let raw = RawHeader {
            signature: SIGNATURE,
            revision: REVISION.into(),
            header_size: (HEADER_LEN as u32).into(),
            header_crc: 0.into(),
            reserved: 0.into(),
            my_lba: if backup { blocks - 1 } else { PRIMARY }.into(),
            alternate_lba: if backup { PRIMARY } else { blocks - 1 }.into(),
            first_usable: first.into(),
            last_usable: last.into(),
            disk_guid: disk_guid.to_bytes_le(),
            entries_lba: if backup { last + 1 } else { 2 }.into(),
            entry_count: 128.into(),
            entry_size: (ENTRY_LEN as u32).into(),
            entries_crc: crc32(&array).into(),
        };
        let mut header = Header {
            raw,
            rest: Vec::new(),
            block_size,
        };
        header.raw.header_crc = header.own_crc().into();
        (first <= last).then_some(Self { header, array })
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    // The 32-bit result comes widened.
    checksum(CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

/// Well-known partition types: UEFI table 5-7, the Discoverable Partitions Specification, and SPDK's own.
pub mod types {
    use uuid::{Uuid, uuid};

    /// EFI system partition.
    pub const EFI_SYSTEM: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    /// Linux file system data.
    pub const LINUX: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");
    /// SPDK's type; its gpt module exposes only these.
    pub const SPDK: Uuid = uuid!("6527994e-2c5a-4eec-9613-8f5944074e8b");

    const NAMES: [(Uuid, &str); 20] = [
        (EFI_SYSTEM, "EFI system"),
        (LINUX, "Linux file system"),
        (SPDK, "SPDK block device"),
        (uuid!("7c5222bd-8f5d-4087-9c00-bf9843c7b58c"), "SPDK block device (old)"),
        (uuid!("21686148-6449-6e6f-744e-656564454649"), "BIOS boot"),
        (uuid!("024dee41-33e7-11d3-9d69-0008c781f39f"), "MBR partition scheme"),
        (uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"), "Linux swap"),
        (uuid!("e6d6d379-f507-44c2-a23c-238f2a3df928"), "Linux LVM"),
        (uuid!("a19d880f-05fc-4d3b-a006-743f0f84911e"), "Linux RAID"),
        (uuid!("933ac7e1-2eb4-4f13-b844-0e14e2aef915"), "Linux home"),
        (uuid!("bc13c2ff-59e6-4262-a352-b275fd6f7172"), "Linux extended boot"),
        (uuid!("44479540-f297-41b2-9af7-d131d5f0458a"), "Linux root (x86)"),
        (uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"), "Linux root (x86-64)"),
        (uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"), "Linux root (ARM64)"),
        (uuid!("ca7d7ccb-63ed-4c53-861c-1742536059cc"), "Linux LUKS"),
        (uuid!("8da63339-0007-60c0-c436-083ac8230908"), "Linux reserved"),
        (uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"), "Microsoft basic data"),
        (uuid!("e3c9e316-0b5c-4db8-817d-f92df00215ae"), "Microsoft reserved"),
        (uuid!("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"), "LDM metadata"),
        (uuid!("af9b60a0-1431-4f62-bc68-3311714a69ad"), "LDM data"),
    ];

    /// A readable name for a type, if it is one we know.
    pub fn name(kind: Uuid) -> Option<&'static str> {
        NAMES.iter().find(|(k, _)| *k == kind).map(|(_, name)| *name)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match types::name(self.kind) {
            Some(name) => write!(f, "{name}")?,
            None => write!(f, "type {}", self.kind)?,
        }
        match self.name.as_str() {
            "" => Ok(()),
            name => write!(f, " \"{}\"", name.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::Refusal;
    use proptest::prelude::*;
    use uuid::uuid;

    const DISK: Uuid = uuid!("01234567-89ab-cdef-0123-456789abcdef");

    fn entry(first: u64, last: u64) -> Entry {
        Entry {
            kind: types::LINUX,
            guid: DISK,
            first,
            last,
            attributes: 4,
            name: "größe 💾".into(),
        }
    }

    fn sample(block_size: u32) -> Table {
        let mut table = Table::new(20_000, block_size, DISK, false).unwrap();
        assert!(table.set(1, Some(&entry(2048, 4095))));
        assert!(table.set(3, Some(&entry(4096, 9999))));
        table
    }

    fn reread(table: &Table, blocks: u64) -> Result<Table, Error> {
        let (block, array) = table.to_bytes();
        Table::parse(Header::parse(&block, PRIMARY, blocks)?, &array)
    }

    #[test]
    fn a_table_survives_the_way_to_bytes_and_back_with_both_block_sizes() {
        for block_size in [512, 4096] {
            let table = sample(block_size);
            let again = reread(&table, 20_000).unwrap();
            assert_eq!(again, table);
            assert_eq!(again.to_bytes(), table.to_bytes());
            let (good, bad) = again.partitions();
            assert_eq!(good, [(1, entry(2048, 4095)), (3, entry(4096, 9999))]);
            assert_eq!(bad, []);
            assert_eq!(good[0].1.to_string(), "Linux file system \"größe 💾\"");
        }
    }

    #[test]
    fn golden_header_bytes() {
        // What sfdisk writes at block 1 of a 64 MiB file for "label: gpt", "label-id: 01234567-89AB-CDEF-0123-456789ABCDEF"; lvol/tests/labels.rs
        // checks against the real tool, this one sees to it that a change of layout cannot hide.
        let table = Table::new(131_072, 512, DISK, false).unwrap();
        let (block, _) = table.to_bytes();
        assert_eq!(&block[..16], b"EFI PART\0\0\x01\0\x5c\0\0\0");
        assert_eq!(block[24..40], [1u64.to_le_bytes(), 131_071u64.to_le_bytes()].concat());
        assert_eq!(
            block[40..56],
            [2048u64.to_le_bytes(), 131_038u64.to_le_bytes()].concat()
        );
        assert_eq!(
            block[56..72],
            [
                0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef
            ]
        );
        // CRC-32 of 16 KiB of zeroes.
        assert_eq!(
            block[72..92],
            [
                &2u64.to_le_bytes()[..],
                &[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0x86, 0xd2, 0x54, 0xab]
            ]
            .concat()
        );
        assert!(block[92..].iter().all(|&b| b == 0));
    }

    #[test]
    fn entries_of_256_bytes_keep_what_they_carry_behind() {
        let small = sample(512);
        let mut header = small.header.clone();
        let mut array = vec![0; 16 * 256];
        array[256..256 + ENTRY_LEN].copy_from_slice(entry(3000, 3999).to_raw().as_bytes());
        array[256 + ENTRY_LEN..512].fill(0x5a);
        header.raw.entry_count = 16.into();
        header.raw.entry_size = 256.into();
        header.raw.entries_crc = crc32(&array).into();
        header.raw.header_crc = header.own_crc().into();
        let table = Table {
            header,
            array: array.clone(),
        };
        let again = reread(&table, 20_000).unwrap();
        assert_eq!(again.partitions().0, [(2, entry(3000, 3999))]);
        assert_eq!(again.to_bytes().1, array);
    }

    #[test]
    fn each_lie_is_refused_with_its_name() {
        let with = |change: fn(&mut RawHeader)| {
            let mut table = sample(512);
            change(&mut table.header.raw);
            table.header.raw.header_crc = table.header.own_crc().into();
            reread(&table, 20_000).unwrap_err()
        };
        assert_eq!(with(|h| h.signature[0] = b'e'), Error::Signature);
        assert!(matches!(
            with(|h| h.header_size = 513.into()),
            Error::Layout { header: 513, .. }
        ));
        assert!(matches!(
            with(|h| h.header_size = 91.into()),
            Error::Layout { header: 91, .. }
        ));
        assert!(matches!(
            with(|h| h.entry_size = 384.into()),
            Error::Layout { entry: 384, .. }
        ));
        assert!(matches!(
            with(|h| h.entry_size = 64.into()),
            Error::Layout { entry: 64, .. }
        ));
        assert!(matches!(with(|h| h.revision = 0x20000.into()), Error::Layout { .. }));
        assert_eq!(with(|h| h.my_lba = 7.into()), Error::Misplaced { at: 1, says: 7 });
        assert_eq!(
            with(|h| h.entry_count = u32::MAX.into()),
            Error::TooLarge(u64::from(u32::MAX) * 128)
        );
        assert!(matches!(
            with(|h| h.last_usable = u64::MAX.into()),
            Error::Truncated { .. }
        ));
        assert!(matches!(
            with(|h| h.entries_lba = u64::MAX.into()),
            Error::Truncated { .. }
        ));
        assert!(matches!(
            with(|h| h.entries_lba = 1.into()),
            Error::Contradiction { entries: 1, .. }
        ));
        assert!(matches!(
            with(|h| h.entries_lba = 3000.into()),
            Error::Contradiction { entries: 3000, .. }
        ));
        assert!(matches!(
            with(|h| h.first_usable = 19_990.into()),
            Error::Contradiction { first: 19_990, .. }
        ));
        assert!(matches!(
            with(|h| h.entries_crc = 1.into()),
            Error::EntriesCrc { wanted: 1, .. }
        ));
        assert!(matches!(
            reread(&sample(512), 10_000),
            Err(Error::Truncated {
                needs: 19_967,
                has: 10_000
            })
        ));
    }

    #[test]
    fn overlapping_reversed_and_stray_entries_are_refused_one_by_one() {
        let mut table = sample(512);
        assert!(table.set(2, Some(&entry(9999, 12_000))));
        assert!(table.set(4, Some(&entry(15_000, 14_000))));
        assert!(table.set(5, Some(&entry(19_000, 19_999))));
        assert!(table.set(6, Some(&entry(0, u64::MAX))));
        assert!(!table.set(129, None) && !table.set(0, None));
        let (good, bad) = reread(&table, 20_000).unwrap().partitions();
        assert_eq!(good, [(1, entry(2048, 4095))]);
        assert_eq!(
            bad,
            [
                (2, Refusal::Overlaps(3)),
                (3, Refusal::Overlaps(2)),
                (4, Refusal::Empty),
                (5, Refusal::Outside(Extent::new(19_000, 1000))),
                (6, Refusal::Empty),
            ]
        );
    }

    proptest! {
        /// Random damage with the checksums mended afterwards, so that it reaches the checks behind them.
        #[test]
        fn no_mutation_panics_or_yields_an_extent_out_of_range(
            hits in prop::collection::vec((0usize..92, any::<u8>()), 0..6),
            marks in prop::collection::vec((0usize..128 * 8, any::<u8>()), 0..40),
            blocks in prop_oneof![Just(20_000u64), 0u64..40_000, any::<u64>()],
            mend in any::<bool>(),
        ) {
            let mut table = sample(512);
            for (at, value) in marks { table.array[at] = value; }
            let mut bytes = table.header.raw.as_bytes().to_vec();
            for (at, value) in hits { bytes[at] = value; }
            table.header.raw = RawHeader::read_from_bytes(&bytes).unwrap();
            if mend {
                table.header.raw.entries_crc = crc32(&table.array).into();
                table.header.raw.header_crc = table.header.own_crc().into();
            }
            let (block, _) = table.to_bytes();
            if let Ok(header) = Header::parse(&block, PRIMARY, blocks) {
                prop_assert!(header.array().count * 512 <= ARRAY_MAX + 511);
                if let Ok(table) = Table::parse(header, &table.array) {
                    for (_, entry) in table.partitions().0 {
                        prop_assert!(entry.extent().unwrap().fits(blocks));
                    }
                }
            }
        }
    }
}
