//! Amiga rigid disk blocks: a block somewhere in the first sixteen, and from it a chain of blocks, each a partition.
//!
//! Source: `devices/hardblocks.h` of the Amiga's developer kit (`RigidDiskBlock`, `PartitionBlock`); Linux' `block/partitions/amiga.c`.
//! Big-endian. Addresses in the chain are blocks of the size the first block says; partitions start on cylinders of their own geometry.
use crate::extent::{Extent, Sifted, sift};

/// Blocks in which the first may be (`RDB_LOCATION_LIMIT`).
pub const SCAN: u64 = 16;
/// Most partitions that are followed.
pub const PARTITIONS_MAX: usize = 128;
/// Ends a chain.
pub const END: u32 = u32::MAX;

/// Why a block is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not enough bytes.
    #[error("{0} bytes are too few for a rigid disk block")]
    Short(usize),
    /// Another signature.
    #[error("no rigid disk block of this kind")]
    Signature,
    /// The checksum is wrong.
    #[error("the block's checksum does not come out")]
    Checksum,
    /// A block size nobody has.
    #[error("the rigid disk block says blocks of {0} bytes")]
    BlockSize(u32),
}

/// Any of the blocks: signature and checksum are right.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    raw: Vec<u8>,
}

impl Block {
    fn parse(block: &[u8], signature: &[u8; 4]) -> Result<Self, Error> {
        // The fields in use end at 256 bytes; a checksum may cover more, up to the block.
        let raw = block.get(..256).ok_or(Error::Short(block.len()))?;
        if !raw.starts_with(signature) {
            return Err(Error::Signature);
        }
        let longs = u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]) as usize;
        let summed = longs
            .checked_mul(4)
            .and_then(|len| block.get(..len))
            .ok_or(Error::Checksum)?;
        if longs < 5 || sum(summed) != 0 {
            return Err(Error::Checksum);
        }
        Ok(Self {
            raw: block[..summed.len().max(256)].to_vec(),
        })
    }

    fn word(&self, at: usize) -> u32 {
        let raw = &self.raw;
        u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
    }

    fn set(&mut self, at: usize, value: u32) {
        self.raw[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut block = self.clone();
        let longs = block.word(4) as usize * 4;
        block.set(8, 0);
        let sum = sum(block.raw.get(..longs).unwrap_or_default()).wrapping_neg();
        block.set(8, sum);
        block.raw
    }
}

fn sum(raw: &[u8]) -> u32 {
    raw.chunks_exact(4).fold(0, |sum: u32, word| {
        sum.wrapping_add(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    })
}

/// The first block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rigid {
    /// Bytes in a block.
    pub block_size: u32,
    /// The first partition's block, or [`END`].
    pub partitions: u32,
    block: Block,
}

impl Rigid {
    /// Checks a block that may be it.
    pub fn parse(block: &[u8]) -> Result<Self, Error> {
        let block = Block::parse(block, b"RDSK")?;
        match block.word(16) {
            block_size @ (512 | 1024 | 2048 | 4096) => Ok(Self {
                block_size,
                partitions: block.word(28),
                block,
            }),
            other => Err(Error::BlockSize(other)),
        }
    }

    /// The block as it goes to the disk, as far as its checksum covers it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut block = self.block.clone();
        block.set(16, self.block_size);
        block.set(28, self.partitions);
        block.to_bytes()
    }
}

/// A partition's block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The next one's block, or [`END`].
    pub next: u32,
    /// Its name: `DH0`.
    pub name: String,
    /// Surfaces times sectors of a track.
    pub cylinder: u64,
    /// First cylinder.
    pub low: u32,
    /// Last cylinder.
    pub high: u32,
    /// Its type, four characters: `DOS\3`, `PFS\1`, …
    pub kind: [u8; 4],
    block: Block,
}

impl Partition {
    /// Checks a block of the chain.
    pub fn parse(block: &[u8]) -> Result<Self, Error> {
        let block = Block::parse(block, b"PART")?;
        // A string with its length in front, in 32 bytes.
        let len = usize::from(block.raw[36]).min(31);
        Ok(Self {
            next: block.word(16),
            name: String::from_utf8_lossy(&block.raw[37..37 + len]).into_owned(),
            cylinder: u64::from(block.word(140)) * u64::from(block.word(148)),
            low: block.word(164),
            high: block.word(168),
            kind: block.word(192).to_be_bytes(),
            block,
        })
    }

    /// The block as it goes to the disk, as far as its checksum covers it. Name and geometry stay as they are written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut block = self.block.clone();
        block.set(16, self.next);
        block.set(164, self.low);
        block.set(168, self.high);
        block.set(192, u32::from_be_bytes(self.kind));
        block.to_bytes()
    }

    /// Its blocks, if that makes sense.
    pub fn extent(&self) -> Option<Extent> {
        let cylinders = u64::from(self.high).checked_sub(self.low.into())?.checked_add(1)?;
        Some(Extent::new(
            u64::from(self.low).checked_mul(self.cylinder)?,
            cylinders.checked_mul(self.cylinder)?,
        ))
    }

    /// Its type as people write it: `DOS\3`.
    pub fn type_name(&self) -> String {
        let one = |b: &u8| match b {
            b' '..=b'~' => char::from(*b).to_string(),
            other => format!("\\{other}"),
        };
        self.kind.iter().map(one).collect()
    }
}

/// The partitions of a chain, numbered from 1, on a disk of `blocks`.
pub fn partitions(chain: Vec<Partition>, blocks: u64) -> Sifted<Partition> {
    sift(
        (1..).zip(chain),
        Extent::new(1, blocks.saturating_sub(1)),
        Partition::extent,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // A partition that `parted mklabel amiga mkpart ext2 1MiB 33MiB` writes.
    /// What the tool writes; all else is zero.
    const GOLDEN: &[(usize, &[u8])] = &[
        (0, b"PART"),
        (7, b"@\xad\x0a\xd9\xff"),
        (19, b"\x04"),
        (36, b"\x04ext2"),
        (131, b"\x13"),
        (135, b"\x80"),
        (143, b"\x04"),
        (147, b"\x01"),
        (151, b" "),
        (155, b"\x02"),
        (167, b"\x10"),
        (170, b"\x02\x0f"),
        (175, b"\x1e"),
        (180, b"\x7f\xff\xff\xff\xff\xff\xff\xff"),
        (192, b"LNX"),
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
        let part = Partition::parse(&golden()).unwrap();
        assert_eq!(
            (part.name.as_str(), part.extent()),
            ("ext2", Some(Extent::new(2048, 65_536)))
        );
        let back = part.to_bytes();
        assert_eq!(back[..], golden()[..back.len()]);
        let mut moved = part.clone();
        moved.high = part.low;
        assert_eq!(Partition::parse(&moved.to_bytes()).unwrap().high, part.low);
        moved.high = 0;
        assert_eq!(moved.extent(), None);
        let mut bad = golden();
        bad[100] = 1;
        assert_eq!(Partition::parse(&bad), Err(Error::Checksum));
        assert_eq!(Rigid::parse(&golden()), Err(Error::Signature));
    }
}
