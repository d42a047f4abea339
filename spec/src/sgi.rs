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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        Ok(Self { entries, raw })
    }

    /// The sector as it goes to the disk.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = self.raw;
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
}
