//! Master boot record: four primary partitions, and logical ones in a chain of extended boot records.
//!
//! ```text
//! block 0              ext              ext + a             ext + b
//! ┌─────┬──────────────┬─────┬──────────┬─────┬─────────────┬─────┬──────┐
//! │ MBR │ primary      │ EBR │ logical 5│ EBR │ logical 6   │ EBR │ …    │
//! └─────┴──────────────┴─────┴──────────┴─────┴─────────────┴─────┴──────┘
//!   3: extended, at ext  0: starts at `here + start`         (a, b: relative to ext, the *first* EBR)
//!                        1: next EBR at `ext + start`
//! ```
//!
//! There is no document; this is what DOS did and Linux' `block/partitions/msdos.c` and util-linux agree on. Addresses are logical blocks
//! of whatever size the disk has, 32 bits wide. The record is always the first 512 bytes of its block. Nothing carries a checksum, so a table
//! is believed only if its status bytes make sense, and a chain only as far as it makes sense.
use crate::extent::{self, Extent, Refusal};
use std::fmt;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a record.
pub const LEN: usize = 512;
/// Type of the one entry a GPT protects itself with.
pub const PROTECTIVE: u8 = 0xee;
/// Logical partitions we follow: with the four primary ones that makes 256, the most Linux gives minors to.
pub const LOGICAL_MAX: usize = 252;

pub mod label;
pub use label::{Geometry, Label};

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    status: u8,
    chs_first: [u8; 3],
    kind: u8,
    chs_last: [u8; 3],
    start: U32,
    count: U32,
}
const _: () = assert!(size_of::<RawEntry>() == 16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    code: [u8; 440],
    disk_id: U32,
    protect: U16,
    entries: [RawEntry; 4],
    mark: [u8; 2],
}
const _: () = assert!(size_of::<RawRecord>() == LEN);

/// Why a block is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than a record.
    #[error("{0} bytes are too few for a boot record")]
    Short(usize),
    /// No 55 AA at its end.
    #[error("no boot record signature (55 aa)")]
    Signature,
    /// A status byte is neither 0x00 nor 0x80: it is some boot sector, but not a partition table.
    #[error("entry {entry} has status {status:#04x}: a boot sector, but no partition table")]
    Status {
        /// Which entry, from 1.
        entry: u8,
        /// Its first byte.
        status: u8,
    },
}

/// One used entry of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bit 7 of the status: the one to boot from.
    pub active: bool,
    /// Type, see [`type_name`].
    pub kind: u8,
    /// First block. Absolute in the MBR; in an EBR relative to something, see the picture.
    pub start: u32,
    /// Number of blocks.
    pub count: u32,
}

impl Entry {
    /// True if it holds a chain of EBRs instead of data.
    pub fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    /// The blocks, the start taken as absolute.
    pub fn extent(&self) -> Extent {
        Extent::new(self.start.into(), self.count.into())
    }
}

/// A boot record, master or extended, that makes sense as a partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    raw: RawRecord,
}

impl Record {
    /// Checks the first 512 bytes of `block`.
    pub fn parse(block: &[u8]) -> Result<Self, Error> {
        let (raw, _) = RawRecord::read_from_prefix(block).map_err(|_| Error::Short(block.len()))?;
        if raw.mark != [0x55, 0xaa] {
            return Err(Error::Signature);
        }
        for (entry, n) in raw.entries.iter().zip(1..) {
            if entry.status & 0x7f != 0 {
                return Err(Error::Status {
                    entry: n,
                    status: entry.status,
                });
            }
        }
        Ok(Self { raw })
    }

    /// A record with nothing in it.
    pub fn new(disk_id: u32) -> Self {
        let mut record = Self::blank();
        record.raw.disk_id = disk_id.into();
        record.raw.mark = [0x55, 0xaa];
        record
    }

    /// Nothing but zeroes: what a record becomes that is none any more.
    fn blank() -> Self {
        let raw = RawRecord::read_from_bytes(&[0; LEN]).unwrap_or_else(|_| unreachable!("LEN is its size"));
        Self { raw }
    }

    /// The 32-bit disk signature; 0 if nobody gave it one.
    pub fn disk_id(&self) -> u32 {
        self.raw.disk_id.get()
    }

    /// The used entries, numbered from 1. An entry without a type or without blocks is unused.
    pub fn entries(&self) -> impl Iterator<Item = (u32, Entry)> {
        self.raw
            .entries
            .iter()
            .zip(1..)
            .filter(|(e, _)| e.kind != 0 && e.count.get() != 0)
            .map(|(e, n)| {
                let entry = Entry {
                    active: e.status == 0x80,
                    kind: e.kind,
                    start: e.start.get(),
                    count: e.count.get(),
                };
                (n, entry)
            })
    }

    /// Puts `entry` into slot 1 to 4, or empties it. False if there is no such slot.
    pub fn set(&mut self, number: u32, entry: Option<Entry>) -> bool {
        self.put(number, entry, 0, Geometry::default())
    }

    /// The same for an entry that counts from block `base`. Cylinders, heads and sectors are those of the disk.
    pub fn put(&mut self, number: u32, entry: Option<Entry>, base: u64, geometry: Geometry) -> bool {
        let slot = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.raw.entries.get_mut(i));
        let Some(slot) = slot else { return false };
        *slot = match entry {
            None => RawEntry {
                status: 0,
                chs_first: [0; 3],
                kind: 0,
                chs_last: [0; 3],
                start: 0.into(),
                count: 0.into(),
            },
            Some(e) => {
                let first = base + u64::from(e.start);
                let last = (first + u64::from(e.count)).saturating_sub(1);
                RawEntry {
                    status: if e.active { 0x80 } else { 0 },
                    chs_first: geometry.chs(first),
                    kind: e.kind,
                    chs_last: geometry.chs(last),
                    start: e.start.into(),
                    count: e.count.into(),
                }
            }
        };
        true
    }

    /// The record that protects a GPT on a disk of `blocks` blocks (UEFI 2.10, section 5.2.3), with this one's boot code and signature.
    pub fn protective(&self, blocks: u64) -> Self {
        let mut record = self.clone();
        for number in 1..=4 {
            record.set(number, None);
        }
        record.raw.entries[0] = RawEntry {
            status: 0,
            chs_first: [0, 2, 0],
            kind: PROTECTIVE,
            chs_last: [0xff; 3],
            start: 1.into(),
            count: protected(blocks).into(),
        };
        record
    }

    /// A protective record whose entry covers all of a disk of `blocks` blocks; a hybrid one has its own reasons.
    pub fn covers(&self, blocks: u64) -> bool {
        let count = protected(blocks);
        self.is_hybrid() || self.entries().any(|(_, e)| e.kind == PROTECTIVE && e.count == count)
    }

    /// The record as it goes to the disk.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(self.raw.as_bytes());
        bytes
    }

    /// True if an entry of type 0xEE tells old tools that a GPT rules here.
    pub fn is_protective(&self) -> bool {
        self.entries().any(|(_, e)| e.kind == PROTECTIVE)
    }

    /// True if there are ordinary partitions beside the protective entry: a hybrid made for firmware that knows no GPT.
    pub fn is_hybrid(&self) -> bool {
        self.is_protective() && self.entries().any(|(_, e)| e.kind != PROTECTIVE)
    }

    /// The extended partition the chain of logical ones starts from: the first, as in Linux and util-linux.
    pub fn extended(&self) -> Option<(u32, Entry)> {
        self.entries().find(|(_, e)| e.is_extended())
    }
}

/// Blocks that a protective entry covers: all behind the record, or as many as it can tell.
fn protected(blocks: u64) -> u32 {
    u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX)
}

/// A partition, with its start made absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Where it is. Unit: blocks of the disk.
    pub extent: Extent,
    /// Type, see [`type_name`].
    pub kind: u8,
    /// Marked to boot from.
    pub active: bool,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match type_name(self.kind) {
            Some(name) => f.write_str(name),
            None => write!(f, "type {:02x}", self.kind),
        }
    }
}

/// Why a chain of EBRs was followed no further. What was found before counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It led back to a record it had been to.
    #[error("the chain of logical partitions returns to block {0}")]
    Loop(u64),
    /// It left the extended partition.
    #[error("the chain of logical partitions leaves the extended partition, to block {0}")]
    Astray(u64),
    /// It led to a block that is no record.
    #[error("block {0} should be an extended boot record and is not: {1}")]
    NotARecord(u64, Error),
    /// It went on past [`LOGICAL_MAX`].
    #[error("more than {LOGICAL_MAX} logical partitions")]
    TooMany,
}

/// Reading of a whole table, a block at a time: ask [`next`](Self::next), read that block, [`give`](Self::give) it, until there is none.
#[derive(Clone, Debug)]
pub struct Reader {
    master: Record,
    blocks: u64,
    /// The extended partition; every EBR and logical partition must be inside.
    extended: Option<Extent>,
    next: Option<u64>,
    seen: Vec<u64>,
    /// Records of the chain, as they were read.
    chain: Vec<(u64, Record)>,
    logical: Vec<Partition>,
    broken: Option<Broken>,
}

impl Reader {
    /// Starts from the master record of a disk of `blocks` blocks.
    pub fn new(master: Record, blocks: u64) -> Self {
        let extended = master.extended().map(|(_, e)| e.extent());
        let mut reader = Self {
            master,
            blocks,
            extended,
            next: None,
            seen: Vec::new(),
            chain: Vec::new(),
            logical: Vec::new(),
            broken: None,
        };
        if let Some(extent) = extended {
            reader.follow(extent.start);
        }
        reader
    }

    /// The block to read next.
    #[allow(clippy::should_implement_trait)] // It is not an iterator: `give` stands between two calls.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    fn follow(&mut self, to: u64) {
        let inside = self.extended.is_some_and(|e| Extent::new(to, 1).inside(e)) && to != 0 && to < self.blocks;
        self.next = None;
        if !inside {
            self.broken = Some(Broken::Astray(to));
        } else if self.seen.contains(&to) {
            self.broken = Some(Broken::Loop(to));
        } else if self.seen.len() > LOGICAL_MAX {
            self.broken = Some(Broken::TooMany);
        } else {
            self.seen.push(to);
            self.next = Some(to);
        }
    }

    /// The block that was asked for. Without one this does nothing.
    pub fn give(&mut self, block: &[u8]) {
        let (Some(here), Some(extended)) = (self.next.take(), self.extended) else {
            return;
        };
        let record = match Record::parse(block) {
            Ok(record) => record,
            // A fresh extended partition may have no EBR at all yet; that is an empty chain, not a broken one.
            Err(_) if here == extended.start && block.iter().all(|&b| b == 0) => return,
            Err(why) => {
                self.broken = Some(Broken::NotARecord(here, why));
                return;
            }
        };
        self.chain.push((here, record.clone()));
        let mut link = None;
        for (slot, entry) in record.entries() {
            if entry.is_extended() {
                link = link.or(Some(extended.start + u64::from(entry.start)));
                continue;
            }
            let extent = Extent::new(here + u64::from(entry.start), entry.count.into());
            // DOS uses the first two entries. Linux reads all four, for the sake of OS/2, but believes the others only if they stay inside.
            if slot > 2 && !extent.inside(extended) {
                continue;
            }
            if self.logical.len() == LOGICAL_MAX {
                self.broken = Some(Broken::TooMany);
                return;
            }
            self.logical.push(Partition {
                extent,
                kind: entry.kind,
                active: entry.active,
            });
        }
        if let Some(to) = link {
            self.follow(to);
        }
    }

    /// What was read, logical partitions numbered from 5 in order of the chain.
    pub fn finish(self) -> Table {
        let id = self.master.disk_id();
        let primary = self.master.entries().filter(|(_, e)| !e.is_extended()).map(|(n, e)| {
            let partition = Partition {
                extent: e.extent(),
                kind: e.kind,
                active: e.active,
            };
            (n, partition)
        });
        // Block 0 is the table itself.
        let (good, mut refused) = extent::sift(
            primary.chain((5..).zip(self.logical.iter().copied())),
            Extent::new(1, self.blocks.saturating_sub(1)),
            |p| Some(p.extent),
        );
        let mut partitions = Vec::with_capacity(good.len());
        for (number, partition) in good {
            // A logical partition stays inside the extended one and spares every record; a primary one stays clear of the extended one.
            let extent = partition.extent;
            let wrong = match self.extended {
                Some(ext) if number >= 5 => {
                    !extent.inside(ext) || self.seen.iter().any(|&r| extent.overlaps(Extent::new(r, 1)))
                }
                Some(ext) => extent.overlaps(ext),
                None => false,
            };
            match wrong {
                true => refused.push((number, Refusal::Outside(extent))),
                false => partitions.push((number, partition)),
            }
        }
        refused.sort_by_key(|(number, _)| *number);
        Table {
            disk_id: id,
            extended: self.master.extended(),
            partitions,
            refused,
            broken: self.broken,
        }
    }
}

/// A whole partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The 32-bit disk signature.
    pub disk_id: u32,
    /// The extended partition and its number.
    pub extended: Option<(u32, Entry)>,
    /// What can be served: on the disk, overlapping nothing. In order of number; logical ones from 5.
    pub partitions: Vec<(u32, Partition)>,
    /// What cannot, and why.
    pub refused: Vec<(u32, Refusal)>,
    /// Why the chain of logical partitions ended early, if it did.
    pub broken: Option<Broken>,
}

/// A readable name for the common types.
pub fn type_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x05 | 0x0f | 0x85 => "extended",
        0x07 => "NTFS or exFAT",
        0x0b | 0x0c => "FAT32",
        0x27 => "Windows recovery",
        0x42 => "Windows dynamic disk",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xa5 => "FreeBSD",
        0xa6 => "OpenBSD",
        0xa8 | 0xaf => "Apple",
        0xbf => "Solaris",
        0xda => "data without file system",
        0xe8 => "LUKS",
        0xea => "Linux extended boot",
        0xee => "GPT",
        0xef => "EFI system",
        0xfd => "Linux RAID",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Image = BTreeMap<u64, [u8; LEN]>;

    fn entry(kind: u8, start: u32, count: u32) -> Option<Entry> {
        Some(Entry {
            active: false,
            kind,
            start,
            count,
        })
    }

    fn record(entries: &[Option<Entry>]) -> [u8; LEN] {
        let mut record = Record::new(0xdead_beef);
        for (e, n) in entries.iter().zip(1..) {
            assert!(record.set(n, *e));
        }
        record.to_bytes()
    }

    fn read(image: &Image, blocks: u64) -> Result<Table, Error> {
        let zero = [0; LEN];
        let mut reader = Reader::new(Record::parse(&image[&0])?, blocks);
        while let Some(at) = reader.next() {
            assert!(at < blocks, "asked for block {at} of {blocks}");
            reader.give(image.get(&at).unwrap_or(&zero));
        }
        Ok(reader.finish())
    }

    fn extents(table: &Table) -> Vec<(u32, u64, u64)> {
        table
            .partitions
            .iter()
            .map(|(n, p)| (*n, p.extent.start, p.extent.count))
            .collect()
    }

    /// Primary 1 and extended 2 with logical 5, 6, 7; the chain goes 5 → 7th place → 6th place, as after a deletion and an insertion.
    fn nested() -> Image {
        Image::from([
            (0, record(&[entry(0x83, 2048, 2048), entry(0x05, 4096, 20_000)])),
            (4096, record(&[entry(0x83, 2048, 1000), entry(0x05, 12_000, 4000)])),
            (16_096, record(&[entry(0x82, 2048, 1500), entry(0x05, 6000, 4000)])),
            (10_096, record(&[entry(0x8e, 2048, 1700)])),
        ])
    }

    #[test]
    fn golden_bytes_of_an_entry() {
        let mut master = Record::new(0x1234_5678);
        assert!(master.set(
            2,
            Some(Entry {
                active: true,
                kind: 0x83,
                start: 2048,
                count: 0x0102_0304
            })
        ));
        let bytes = master.to_bytes();
        assert_eq!(bytes[440..446], [0x78, 0x56, 0x34, 0x12, 0, 0]);
        assert_eq!(
            bytes[462..478],
            // Head 32, sector 33 of cylinder 0; and beyond the last cylinder.
            [0x80, 0x20, 0x21, 0, 0x83, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 4, 3, 2, 1]
        );
        assert_eq!(bytes[510..], [0x55, 0xaa]);
        let again = Record::parse(&bytes).unwrap();
        assert_eq!(again, master);
        assert_eq!(again.to_bytes(), bytes);
        assert!(!master.set(0, None) && !master.set(5, None));
    }

    #[test]
    fn logical_partitions_are_numbered_along_the_chain_relative_to_the_first_record() {
        let table = read(&nested(), 30_000).unwrap();
        assert_eq!(
            extents(&table),
            [(1, 2048, 2048), (5, 6144, 1000), (6, 18_144, 1500), (7, 12_144, 1700)]
        );
        assert_eq!((table.refused, table.broken), (vec![], None));
        assert_eq!(table.extended, entry(0x05, 4096, 20_000).map(|e| (2, e)));
        assert_eq!(table.partitions[3].1.to_string(), "Linux LVM");
    }

    #[test]
    fn a_chain_that_bites_its_tail_strays_or_breaks_keeps_what_came_before() {
        let mut image = nested();
        image.insert(10_096, record(&[entry(0x8e, 2048, 1700), entry(0x05, 12_000, 4000)]));
        let table = read(&image, 30_000).unwrap();
        assert_eq!((extents(&table).len(), table.broken), (4, Some(Broken::Loop(16_096))));

        image.insert(10_096, record(&[entry(0x8e, 2048, 1700), entry(0x0f, 20_000, 4000)]));
        assert_eq!(read(&image, 30_000).unwrap().broken, Some(Broken::Astray(24_096)));

        image.insert(10_096, [7; LEN]);
        let table = read(&image, 30_000).unwrap();
        assert_eq!(
            (extents(&table).len(), table.broken),
            (3, Some(Broken::NotARecord(10_096, Error::Signature)))
        );

        // The extended partition itself leaves the disk: it is followed as far as there are blocks.
        assert_eq!(read(&nested(), 12_000).unwrap().broken, Some(Broken::Astray(16_096)));
    }

    #[test]
    fn endless_chains_end() {
        let mut image = Image::from([(0, record(&[entry(0x05, 1, 100_000)]))]);
        for i in 0..300u32 {
            image.insert(
                u64::from(1 + i * 10),
                record(&[entry(0x83, 1, 9), entry(0x05, (i + 1) * 10, 10)]),
            );
        }
        let table = read(&image, 200_000).unwrap();
        assert_eq!(
            (table.partitions.len(), table.broken),
            (LOGICAL_MAX, Some(Broken::TooMany))
        );
        assert_eq!(table.partitions[LOGICAL_MAX - 1].0, 256);
    }

    #[test]
    fn a_partition_over_the_table_a_record_or_another_partition_is_refused() {
        let image = Image::from([
            (
                0,
                record(&[
                    entry(0x83, 0, 100),
                    entry(0x83, 200, 900),
                    entry(0x05, 1000, 5000),
                    entry(0x83, 8000, 4000),
                ]),
            ),
            (1000, record(&[entry(0x83, 100, 1000), entry(0x05, 500, 900)])),
            (1500, record(&[entry(0x83, 2000, 5000)])),
        ]);
        let table = read(&image, 10_000).unwrap();
        assert_eq!(extents(&table), []);
        assert_eq!(
            table.refused,
            [
                (1, Refusal::Outside(Extent::new(0, 100))),
                (2, Refusal::Outside(Extent::new(200, 900))),
                (4, Refusal::Outside(Extent::new(8000, 4000))),
                (5, Refusal::Outside(Extent::new(1100, 1000))),
                (6, Refusal::Outside(Extent::new(3500, 5000))),
            ]
        );
    }

    #[test]
    fn protective_and_hybrid_records_and_boot_sectors_are_told_apart() {
        let parse = |entries: &[_]| Record::parse(&record(entries)).unwrap();
        let protective = parse(&[entry(0xee, 1, u32::MAX)]);
        assert!(protective.is_protective() && !protective.is_hybrid());
        assert!(parse(&[entry(0xee, 1, 2047), entry(0x0c, 2048, 4096)]).is_hybrid());
        assert!(!parse(&[entry(0x0c, 2048, 4096)]).is_protective());
        let mut boot = record(&[]);
        boot[446 + 32] = 0x33;
        assert_eq!(Record::parse(&boot), Err(Error::Status { entry: 3, status: 0x33 }));
        assert_eq!(Record::parse(&boot[..511]), Err(Error::Short(511)));
        // On 4096-byte blocks the record is still the first 512 bytes.
        let mut block = record(&[entry(0x83, 256, 512)]).to_vec();
        block.resize(4096, 0xff);
        assert_eq!(Record::parse(&block).unwrap().entries().count(), 1);
    }

    proptest! {
        #[test]
        fn no_mutation_panics_loops_or_yields_an_extent_out_of_range(
            hits in prop::collection::vec((0usize..4, 440usize..510, any::<u8>()), 0..24),
            blocks in prop_oneof![Just(30_000u64), 0u64..40_000, any::<u64>()],
        ) {
            let mut image = nested();
            for (which, at, value) in hits {
                if let Some(record) = image.values_mut().nth(which) { record[at] = value; }
            }
            if let Ok(table) = read(&image, blocks) {
                prop_assert!(table.partitions.len() <= 4 + LOGICAL_MAX);
                for (i, (_, p)) in table.partitions.iter().enumerate() {
                    prop_assert!(p.extent.fits(blocks) && p.extent.start > 0 && p.extent.count > 0);
                    prop_assert!(table.partitions[..i].iter().all(|(_, o)| !o.extent.overlaps(p.extent)));
                }
            }
        }
    }
}
