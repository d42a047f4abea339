//! Apple partition map: a driver descriptor in block 0, and from block 1 on one block for each entry, of which the first describes the map itself.
//!
//! Source: Inside Macintosh: Devices, chapter 3 (`Block0`, `Partition`); Linux' `block/partitions/mac.c`. Big-endian. The descriptor says how
//! long a block is, whatever the disk's own blocks are. Nothing has a checksum: an entry is believed if it has its signature and agrees with the
//! first on how many there are.
pub mod map;

use crate::extent::{Extent, Sifted, sift};

pub use map::Map;

/// Most entries that are read; Linux has the same bound.
pub const ENTRIES_MAX: u32 = 255;
/// Bytes of an entry, whatever a block has.
pub const ENTRY_LEN: usize = 512;

/// Why it is no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not enough bytes.
    #[error("{0} bytes are too few for a partition map")]
    Short(usize),
    /// No driver descriptor.
    #[error("block 0 is no driver descriptor (ER)")]
    Signature,
    /// A block size nobody has.
    #[error("the driver descriptor says blocks of {0} bytes")]
    BlockSize(u16),
    /// No entry where one should be.
    #[error("entry {0} of the partition map has no signature (PM)")]
    Entry(u32),
    /// Entries disagree, or there are none or too many.
    #[error("entry {entry} says that the map has {count} entries")]
    Count {
        /// Which entry.
        entry: u32,
        /// What it says.
        count: u32,
    },
}

/// The first 512 bytes of the disk: where the entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes in a block of the map.
    pub block_size: u16,
}

impl Descriptor {
    /// Block 0 of a disk of `blocks` blocks of this size, without drivers.
    pub fn to_bytes(self, blocks: u64) -> [u8; ENTRY_LEN] {
        let mut raw = [0; ENTRY_LEN];
        raw[..2].copy_from_slice(b"ER");
        raw[2..4].copy_from_slice(&self.block_size.to_be_bytes());
        raw[4..8].copy_from_slice(&u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
        raw
    }

    /// Checks block 0.
    pub fn parse(block: &[u8]) -> Result<Self, Error> {
        match block.get(..8) {
            None => Err(Error::Short(block.len())),
            Some(raw) if raw.starts_with(b"ER") => match u16::from_be_bytes([raw[2], raw[3]]) {
                block_size @ (512 | 1024 | 2048 | 4096) => Ok(Self { block_size }),
                other => Err(Error::BlockSize(other)),
            },
            Some(_) => Err(Error::Signature),
        }
    }
}

/// An entry of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Entries in the map, as each of them says.
    pub count: u32,
    /// First block, of the map's block size.
    pub start: u32,
    /// Blocks.
    pub blocks: u32,
    /// Its name.
    pub name: String,
    /// Its type: `Apple_HFS`, `Apple_UNIX_SVR2`, …
    pub kind: String,
    raw: [u8; ENTRY_LEN],
}

impl Entry {
    fn word(&self, at: usize) -> u32 {
        let raw = &self.raw[at..at + 4];
        u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]])
    }

    /// Writes a field of 32 bytes, unless it says the same already: what stands behind the first zero is kept then.
    fn put_text(&mut self, at: usize, to: &str) {
        let field = &mut self.raw[at..at + 32];
        if text(field) != to {
            field.fill(0);
            let len = to.len().min(map::TEXT_MAX);
            field[..len].copy_from_slice(&to.as_bytes()[..len]);
        }
    }
}

/// A field of 32 bytes that ends with the first zero.
fn text(raw: &[u8]) -> String {
    let end = raw.iter().position(|b| *b == 0).unwrap_or(raw.len());
    // MacRoman; the half that is ASCII is all that tools write.
    String::from_utf8_lossy(&raw[..end]).into_owned()
}

impl Entry {
    /// Checks entry `number`, from 1.
    pub fn parse(block: &[u8], number: u32) -> Result<Self, Error> {
        let raw: [u8; ENTRY_LEN] = block
            .get(..ENTRY_LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or(Error::Short(block.len()))?;
        if !raw.starts_with(b"PM") {
            return Err(Error::Entry(number));
        }
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let count = word(4);
        if count == 0 || count > ENTRIES_MAX || number > count {
            return Err(Error::Count { entry: number, count });
        }
        Ok(Self {
            count,
            start: word(8),
            blocks: word(12),
            name: text(&raw[16..48]),
            kind: text(&raw[48..80]),
            raw,
        })
    }

    /// The entry as it goes to the disk. Name and type stay as they are written.
    pub fn to_bytes(&self) -> [u8; ENTRY_LEN] {
        let mut raw = self.raw;
        raw[4..8].copy_from_slice(&self.count.to_be_bytes());
        raw[8..12].copy_from_slice(&self.start.to_be_bytes());
        raw[12..16].copy_from_slice(&self.blocks.to_be_bytes());
        raw
    }

    /// True for what is no partition: the map itself, free space, and what is void.
    pub fn is_filler(&self) -> bool {
        is_filler(&self.kind)
    }
}

/// True for a type of what is no partition.
pub fn is_filler(kind: &str) -> bool {
    matches!(
        kind,
        "Apple_partition_map" | "Apple_Free" | "Apple_Void" | "Apple_Scratch" | "Apple_Extra" | ""
    )
}

/// The partitions among `entries`, numbered from 1 as they stand in the map, on a disk of `bytes` bytes. Extents are in blocks of the map.
pub fn partitions(entries: Vec<Entry>, block_size: u16, bytes: u64) -> Sifted<Entry> {
    let used = (1..).zip(entries).filter(|(_, entry)| !entry.is_filler());
    // Block 0 and the map's first entry belong to nobody.
    let room = Extent::new(2, (bytes / u64::from(block_size.max(1))).saturating_sub(2));
    sift(used, room, |entry| {
        Some(Extent::new(entry.start.into(), entry.blocks.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The second entry that parted writes for `mklabel mac mkpart ext2 1MiB 33MiB`.
    /// What the tool writes; all else is zero.
    const GOLDEN: &[(usize, &[u8])] = &[
        (0, b"PM"),
        (7, b"\x06"),
        (10, b"\x08"),
        (13, b"\x01"),
        (16, b"ext2"),
        (48, b"Apple_UNIX_SVR2"),
        (85, b"\x01"),
        (91, b"3"),
    ];

    fn golden() -> [u8; 512] {
        let mut sector = [0; 512];
        for (at, bytes) in GOLDEN {
            sector[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        sector
    }

    #[test]
    fn golden_bytes_are_read_and_given_back() {
        let entry = Entry::parse(&golden(), 2).unwrap();
        assert_eq!((entry.name.as_str(), entry.start, entry.blocks), ("ext2", 2048, 65_536));
        assert!(!entry.is_filler() && entry.kind.starts_with("Apple_"), "{}", entry.kind);
        assert_eq!(entry.to_bytes(), golden());
        assert_eq!(
            Entry::parse(&golden(), 200),
            Err(Error::Count {
                entry: 200,
                count: entry.count
            })
        );
        assert_eq!(
            Descriptor::parse(b"ER\x02\0\0\0\0\0"),
            Ok(Descriptor { block_size: 512 })
        );
        assert_eq!(Descriptor::parse(b"ER\x02\x01\0\0\0\0"), Err(Error::BlockSize(513)));
    }
}
