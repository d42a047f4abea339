//! SGI disk volume header (DVH), in the first sector: sixteen partitions, of which 9 is by custom the header itself and 11 the whole disk.
//!
//! Source: IRIX' `sys/dvh.h`; Linux' `block/partitions/sgi.c`; util-linux' `libfdisk/include/pt-sgi.h`. Big-endian; sectors of 512 bytes.
use crate::extent::{Extent, Sifted, sift};

const LEN: usize = 512;
const MAGIC: u32 = 0x0be5_a941;
/// Type of the volume header.
pub const HEADER: u32 = 0;
/// Type of the entry that covers the disk.
pub const WHOLE: u32 = 6;
/// Sectors that the volume header of a fresh label has.
const HEADER_BLOCKS: u32 = 4096;
const SECTORS: u16 = 32;
const HEADS: u16 = 64;

/// Why it is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not enough bytes.
    #[error("{0} bytes are too few for an SGI volume header")]
    Short(usize),
    /// No signature.
    #[error("no SGI volume header")]
    Signature,
    /// The checksum is wrong.
    #[error("the header's checksum does not come out")]
    Checksum,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Sectors.
    pub blocks: u32,
    /// First sector.
    pub first: u32,
    /// What it is for, see [`type_name`].
    pub kind: u32,
}

/// A volume header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sixteen partitions, used or not.
    pub entries: [Entry; 16],
    /// The partition that is booted from, counted from 0; it need not be there.
    pub root: u16,
    /// The partition to swap on, counted from 0; it need not be there.
    pub swap: u16,
    raw: [u8; LEN],
}

impl Header {
    /// Checks the first sector.
    pub fn parse(sector: &[u8]) -> Result<Self, Error> {
        let raw: [u8; LEN] = sector
            .get(..LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or(Error::Short(sector.len()))?;
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        if word(0) != MAGIC {
            return Err(Error::Signature);
        }
        if sum(&raw) != 0 {
            return Err(Error::Checksum);
        }
        let entries = std::array::from_fn(|i| Entry {
            blocks: word(312 + i * 12),
            first: word(316 + i * 12),
            kind: word(320 + i * 12),
        });
        let half = |at: usize| u16::from_be_bytes([raw[at], raw[at + 1]]);
        Ok(Self {
            entries,
            root: half(4),
            swap: half(6),
            raw,
        })
    }

    /// A fresh one for a disk of `sectors`: the volume header (9), which has 2 MiB, and the whole disk (11), in whole cylinders of 1 MiB or more, as
    /// fdisk makes them. Nothing if the disk has no room for a cylinder more, or more sectors than the header can tell.
    pub fn fresh(sectors: u64) -> Option<Self> {
        let mut heads = HEADS;
        let cylinder = |heads: u16| u64::from(heads) * u64::from(SECTORS);
        while sectors / cylinder(heads) > u64::from(u16::MAX) {
            heads = heads.checked_mul(2)?;
        }
        let cylinders = u16::try_from(sectors / cylinder(heads)).ok()?;
        let whole = u64::from(cylinders) * cylinder(heads);
        let whole = u32::try_from(whole).ok().filter(|whole| *whole > HEADER_BLOCKS)?;
        let mut raw = [0; LEN];
        raw[..4].copy_from_slice(&MAGIC.to_be_bytes());
        raw[8..13].copy_from_slice(b"/unix");
        for (at, half) in [
            (28, cylinders),
            (32, heads),
            (38, SECTORS),
            // Bytes of a sector, the interleave, and parameters that fdisk has from IRIX.
            (40, LEN as u16),
            (42, 1),
            (46, 0x34),
            (54, 1),
        ] {
            raw[at..at + 2].copy_from_slice(&half.to_be_bytes());
        }
        let mut entries = [Entry::default(); 16];
        entries[8].blocks = HEADER_BLOCKS;
        entries[10] = Entry {
            blocks: whole,
            first: 0,
            kind: WHOLE,
        };
        Some(Self {
            entries,
            root: 0,
            swap: 1,
            raw,
        })
    }

    /// Sectors in a cylinder, or 0.
    pub fn cylinder(&self) -> u64 {
        let half = |at: usize| u64::from(u16::from_be_bytes([self.raw[at], self.raw[at + 1]]));
        half(32) * half(38)
    }

    /// The sector as it goes to the disk.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = self.raw;
        raw[4..6].copy_from_slice(&self.root.to_be_bytes());
        raw[6..8].copy_from_slice(&self.swap.to_be_bytes());
        for (i, entry) in self.entries.iter().enumerate() {
            let at = 312 + i * 12;
            raw[at..at + 4].copy_from_slice(&entry.blocks.to_be_bytes());
            raw[at + 4..at + 8].copy_from_slice(&entry.first.to_be_bytes());
            raw[at + 8..at + 12].copy_from_slice(&entry.kind.to_be_bytes());
        }
        raw[504..508].fill(0);
        let sum = sum(&raw).wrapping_neg();
        raw[504..508].copy_from_slice(&sum.to_be_bytes());
        raw
    }

    /// The partitions, numbered from 1, on a disk of `sectors`; the header and what covers the whole disk are left out.
    pub fn partitions(&self, sectors: u64) -> Sifted<(Entry, Extent)> {
        let used = (1..).zip(self.entries).filter_map(|(number, entry)| {
            let extent = Extent::new(entry.first.into(), entry.blocks.into());
            (entry.blocks > 0 && !matches!(entry.kind, HEADER | WHOLE)).then_some((number, (entry, extent)))
        });
        sift(used, Extent::new(1, sectors.saturating_sub(1)), |(_, extent)| {
            Some(*extent)
        })
    }
}

fn sum(raw: &[u8; LEN]) -> u32 {
    raw.chunks_exact(4).fold(0, |sum: u32, word| {
        sum.wrapping_add(u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
    })
}

/// A readable name for a type.
pub fn type_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0 => "volume header",
        1 => "replaced tracks",
        2 => "replaced sectors",
        3 => "raw",
        4 => "BSD",
        5 => "System V",
        6 => "whole disk",
        7 => "EFS",
        8 => "logical volume",
        9 => "raw logical volume",
        10 => "XFS",
        11 => "XFS log",
        12 => "XLV",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xfd => "Linux RAID",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // `parted mklabel dvh mkpart primary ext2 40MiB 64MiB` on 128 MiB.
    /// What the tool writes; all else is zero.
    const GOLDEN: &[(usize, &[u8])] = &[
        (0, b"\x0b\xe5\xa9A\xff\xff\xff\xff"),
        (28, b"\x08"),
        (33, b"\x04"),
        (39, b" \x02"),
        (314, b"\xc0"),
        (317, b"\x01@"),
        (323, b"\x03"),
        (410, b"\x10"),
        (433, b"\x04"),
        (443, b"\x06"),
        (504, b"\xea\x10F\x97"),
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
        let header = Header::parse(&golden()).unwrap();
        let (good, bad) = header.partitions(262_144);
        assert_eq!(bad, []);
        let extents: Vec<_> = good.iter().map(|(number, (_, extent))| (*number, *extent)).collect();
        assert_eq!(extents, [(1, Extent::new(81_920, 49_152))]);
        assert_eq!(header.to_bytes(), golden());
        let mut moved = header.clone();
        moved.entries[3].blocks = 7;
        assert_eq!(Header::parse(&moved.to_bytes()).unwrap().entries, moved.entries);
        let mut bad = golden();
        bad[300] = 1;
        assert_eq!(Header::parse(&bad), Err(Error::Checksum));
    }

    #[test]
    fn a_fresh_one_has_the_header_and_the_whole_disk() {
        for sectors in [6144, 131_072, 65_536 * 2048, (1 << 32) - 1] {
            let header = Header::fresh(sectors).unwrap();
            assert_eq!(Header::parse(&header.to_bytes()).unwrap().entries, header.entries);
            let whole = u64::from(header.entries[10].blocks);
            assert!(whole <= sectors && whole.is_multiple_of(2048));
            assert_eq!(header.partitions(sectors), (vec![], vec![]));
        }
        assert_eq!(Header::fresh(6143), None);
        assert_eq!(Header::fresh(1 << 40), None);
    }
}
