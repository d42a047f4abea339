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
/// The block in which parted puts the first, out of an MBR's way.
pub const FIRST: u32 = 2;
/// A partition to boot from (`PBFF_BOOTABLE`).
pub const BOOTABLE: u32 = 1;
/// A partition that is not mounted by itself (`PBFF_NOMOUNT`).
pub const NO_MOUNT: u32 = 2;
/// The longest name, in bytes.
pub const NAME_MAX: usize = 31;
/// Surfaces and sectors of a track in a fresh table, as parted has them of a disk that says nothing else.
const HEADS: u32 = 4;
const SECTORS: u32 = 32;
/// Cylinders at the start of a fresh table that are for its own blocks.
const RESERVED: u32 = 3;
/// 32-bit words that a checksum covers.
const LONGS: u32 = 64;

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

    /// All zero but for the start, and these words.
    fn fresh(signature: &[u8; 4], words: &[(usize, u32)]) -> Self {
        let mut block = Self {
            raw: vec![0; LONGS as usize * 4],
        };
        block.raw[..4].copy_from_slice(signature);
        block.set(4, LONGS);
        words.iter().for_each(|(at, word)| block.set(*at, *word));
        block
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

    /// A fresh one for a disk of `sectors` of 512 bytes, as parted makes it. Nothing if the disk has no room, or more cylinders than can be told.
    pub fn fresh(sectors: u64) -> Option<Self> {
        let cylinder = HEADS * SECTORS;
        let cylinders = u32::try_from(sectors / u64::from(cylinder)).ok()?;
        let last = cylinders.checked_sub(1).filter(|last| *last >= RESERVED)?;
        let words = [
            // Bad blocks, file systems, the drive's initialisation and boot blocks: none.
            (24, END),
            (32, END),
            (36, END),
            (40, END),
            (64, cylinders),
            (68, SECTORS),
            (72, HEADS),
            // Where heads are parked, precompensation and reduced write current begin: at the end.
            (80, cylinders),
            (96, cylinders),
            (100, cylinders),
            (132, RESERVED * cylinder - 1),
            (136, RESERVED),
            (140, last),
            (144, cylinder),
            (152, FIRST + 1),
        ];
        Some(Self {
            block_size: 512,
            partitions: END,
            block: Block::fresh(b"RDSK", &words),
        })
    }

    /// Blocks that it and its chains may have.
    pub fn reserved(&self) -> Extent {
        let (low, high) = (u64::from(self.block.word(128)), u64::from(self.block.word(132)));
        Extent::new(low, (high + 1).saturating_sub(low))
    }

    /// Surfaces, and sectors of a track.
    pub fn geometry(&self) -> (u32, u32) {
        (self.block.word(72), self.block.word(68))
    }

    /// Blocks that partitions may have: whole cylinders.
    pub fn room(&self) -> Extent {
        let cylinder = u64::from(self.block.word(144));
        let (low, high) = (u64::from(self.block.word(136)), u64::from(self.block.word(140)));
        let start = low.saturating_mul(cylinder);
        Extent::new(start, (high + 1).saturating_mul(cylinder).saturating_sub(start))
    }

    /// The same with other partitions.
    pub fn leading_to(&self, partitions: u32) -> Self {
        Self {
            partitions,
            ..self.clone()
        }
    }

    /// The last of its blocks that is in use.
    pub fn highest(&self) -> u32 {
        self.block.word(152)
    }

    /// Says so.
    pub fn set_highest(&mut self, block: u32) {
        self.block.set(152, block);
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

    /// One that is nowhere yet, in a table of this geometry (surfaces, sectors of a track), as parted makes it.
    pub fn fresh((heads, sectors): (u32, u32)) -> Self {
        let words = [
            (16, END),
            // The environment has 19 words; a block has 128.
            (128, 19),
            (132, 128),
            (140, heads),
            // One sector in a block; blocks of a track; two blocks in front for booting.
            (144, 1),
            (148, sectors),
            (152, 2),
            // Buffers; the most that is moved at once, and where to.
            (172, 30),
            (180, 0x7fff_ffff),
            (184, u32::MAX),
        ];
        Self {
            next: END,
            name: String::new(),
            cylinder: u64::from(heads) * u64::from(sectors),
            low: 0,
            high: 0,
            kind: *b"LNX\0",
            block: Block::fresh(b"PART", &words),
        }
    }

    /// [`BOOTABLE`], [`NO_MOUNT`] and what parted has beside them.
    pub fn flags(&self) -> u32 {
        self.block.word(20)
    }

    /// Sets them.
    pub fn set_flags(&mut self, flags: u32) {
        self.block.set(20, flags);
    }

    /// Gives it another name, of at most [`NAME_MAX`] bytes.
    pub fn set_name(&mut self, name: &str) {
        let len = name.len().min(NAME_MAX);
        self.block.raw[36..68].fill(0);
        self.block.raw[36] = len as u8;
        self.block.raw[37..37 + len].copy_from_slice(&name.as_bytes()[..len]);
        self.name = name.to_owned();
    }

    /// The block as it goes to the disk, as far as its checksum covers it. Geometry, and what was not set here, stay as they are written.
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

/// A type from what people write: four characters, each itself or a number behind a backslash.
pub fn kind(text: &str) -> Option<[u8; 4]> {
    let mut bytes = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        let byte = match letter {
            '\\' => {
                let mut number = String::new();
                while number.len() < 3
                    && let Some(digit) = rest.next_if(char::is_ascii_digit)
                {
                    number.push(digit);
                }
                number.parse().ok()?
            }
            ' '..='~' => letter as u8,
            _ => return None,
        };
        bytes.push(byte);
    }
    bytes.try_into().ok()
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

    /// The first block of `parted mklabel amiga` on 128 MiB.
    const RIGID: &[(usize, &[u8])] = &[
        (0, b"RDSK"),
        (7, b"@\xad\xbb\x80R"),
        (18, b"\x02"),
        (24, &[0xff; 20]),
        (66, b"\x08"),
        (71, b" "),
        (75, b"\x04"),
        (82, b"\x08"),
        (98, b"\x08"),
        (102, b"\x08"),
        (134, b"\x01\x7f"),
        (139, b"\x03"),
        (142, b"\x07\xff"),
        (147, b"\x80"),
        (155, b"\x03"),
    ];

    #[test]
    fn fresh_ones_are_those_of_parted() {
        let mut rigid = [0; 256];
        for (at, bytes) in RIGID {
            rigid[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        let fresh = Rigid::fresh(262_144).unwrap();
        assert_eq!(fresh.to_bytes(), rigid);
        assert_eq!(Rigid::parse(&rigid).unwrap().to_bytes(), rigid);
        assert_eq!((fresh.reserved(), fresh.geometry()), (Extent::new(0, 384), (4, 32)));
        assert_eq!(fresh.room(), Extent::new(384, 262_144 - 384));
        assert_eq!(Rigid::fresh(511), None);
        assert!(Rigid::fresh(512).is_some() && Rigid::fresh(1 << 40).is_none());
        let mut part = Partition::fresh(fresh.geometry());
        part.set_name("ext2");
        (part.low, part.high, part.next) = (16, 527, 4);
        assert_eq!(part.to_bytes()[..], golden()[..256]);
        part.set_flags(BOOTABLE);
        let back = Partition::parse(&part.to_bytes()).unwrap();
        assert_eq!((back.flags(), back.name.as_str()), (BOOTABLE, "ext2"));
    }

    #[test]
    fn types_are_read_as_they_are_written() {
        for (text, bytes) in [("DOS\\3", b"DOS\x03"), ("LNX\\0", b"LNX\0"), ("a b\\255", b"a b\xff")] {
            assert_eq!(kind(text), Some(*bytes), "{text}");
            let mut part = Partition::parse(&golden()).unwrap();
            part.kind = *bytes;
            assert_eq!(part.type_name(), text);
        }
        for text in ["", "DOS", "DOS\\3x", "DOS\\256", "DOS\\", "äbc"] {
            assert_eq!(kind(text), None, "{text}");
        }
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
