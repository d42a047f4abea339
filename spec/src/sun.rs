//! Sun disk label with its VTOC, in the first sector: eight partitions that start on cylinders.
//!
//! Source: Linux' `block/partitions/sun.c` and `sun.h`, util-linux' `libfdisk/include/pt-sun.h`. Big-endian; sectors of 512 bytes. Partition 3 is by
//! custom the whole disk (tag 5) and overlaps all others.
use crate::extent::{Extent, Sifted, sift};

const LEN: usize = 512;
const SANITY: u32 = 0x600d_deee;
/// The tag of the entry that covers the disk.
pub const WHOLE: u16 = 5;

/// Why it is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not enough bytes.
    #[error("{0} bytes are too few for a Sun label")]
    Short(usize),
    /// No signature.
    #[error("no Sun label (da be)")]
    Signature,
    /// The checksum is wrong.
    #[error("the label's checksum does not come out")]
    Checksum,
    /// No cylinders.
    #[error("the label says that a cylinder has no sectors")]
    Geometry,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// First cylinder.
    pub cylinder: u32,
    /// Sectors.
    pub sectors: u32,
    /// What it is for, see [`type_name`]. 0 without a VTOC.
    pub tag: u16,
    /// [`UNMOUNTABLE`] and [`READ_ONLY`]. 0 without a VTOC.
    pub flags: u16,
}

/// Flag: not to be mounted.
pub const UNMOUNTABLE: u16 = 1;
/// Flag: not to be written to.
pub const READ_ONLY: u16 = 1 << 4;
/// The most cylinders that a label can tell of.
const CYLINDERS_MAX: u64 = u16::MAX as u64;
/// What fdisk makes cylinders of when it is given no other numbers than these.
const SECTORS: u16 = 32;
const HEADS: u16 = 64;

/// A label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Sectors in a cylinder.
    pub cylinder: u64,
    /// The eight partitions, used or not.
    pub entries: [Entry; 8],
    vtoc: bool,
    raw: [u8; LEN],
}

impl Label {
    /// Checks the first sector.
    pub fn parse(sector: &[u8]) -> Result<Self, Error> {
        let raw: [u8; LEN] = sector
            .get(..LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or(Error::Short(sector.len()))?;
        let half = |at: usize| u16::from_be_bytes([raw[at], raw[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        if half(508) != 0xdabe {
            return Err(Error::Signature);
        }
        if sum(&raw) != 0 {
            return Err(Error::Checksum);
        }
        let cylinder = u64::from(half(436)) * u64::from(half(438));
        if cylinder == 0 {
            return Err(Error::Geometry);
        }
        let vtoc = word(188) == SANITY;
        let entries = std::array::from_fn(|i| Entry {
            cylinder: word(444 + i * 8),
            sectors: word(448 + i * 8),
            tag: if vtoc { half(142 + i * 4) } else { 0 },
            flags: if vtoc { half(144 + i * 4) } else { 0 },
        });
        Ok(Self {
            cylinder,
            entries,
            vtoc,
            raw,
        })
    }

    /// A fresh one for a disk of `sectors`, with nothing but the entry of the whole disk. A cylinder has 1 MiB, or as many of them as it takes to
    /// count the cylinders. Nothing if the disk has no room for a cylinder behind the label's own, or more sectors than the label can tell.
    pub fn fresh(sectors: u64) -> Option<Self> {
        let mut heads = HEADS;
        let cylinder = |heads: u16| u64::from(heads) * u64::from(SECTORS);
        while sectors / cylinder(heads) > CYLINDERS_MAX {
            heads = heads.checked_mul(2)?;
        }
        let cylinder = cylinder(heads);
        let cylinders = u16::try_from(sectors / cylinder).ok().filter(|count| *count > 1)?;
        let whole = u32::try_from(u64::from(cylinders) * cylinder).ok()?;
        let mut raw = [0; LEN];
        let name = format!("Linux cyl {cylinders} alt 0 hd {heads} sec {SECTORS}");
        raw[..name.len()].copy_from_slice(name.as_bytes());
        raw[128..132].copy_from_slice(&1u32.to_be_bytes());
        raw[188..192].copy_from_slice(&SANITY.to_be_bytes());
        for (at, half) in [
            (140, 8),
            (420, 5400),
            (422, cylinders),
            (430, 1),
            (432, cylinders),
            (436, heads),
            (438, SECTORS),
            (508, 0xdabe),
        ] {
            raw[at..at + 2].copy_from_slice(&half.to_be_bytes());
        }
        let mut entries = [Entry::default(); 8];
        entries[2] = Entry {
            cylinder: 0,
            sectors: whole,
            tag: WHOLE,
            flags: 0,
        };
        Some(Self {
            cylinder,
            entries,
            vtoc: true,
            raw,
        })
    }

    /// Cylinders that partitions may have.
    pub fn cylinders(&self) -> u64 {
        u16::from_be_bytes([self.raw[432], self.raw[433]]).into()
    }

    /// True if it says what partitions are for.
    pub fn has_vtoc(&self) -> bool {
        self.vtoc
    }

    /// The sector as it goes to the disk.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = self.raw;
        for (i, entry) in self.entries.iter().enumerate() {
            raw[444 + i * 8..448 + i * 8].copy_from_slice(&entry.cylinder.to_be_bytes());
            raw[448 + i * 8..452 + i * 8].copy_from_slice(&entry.sectors.to_be_bytes());
            if self.vtoc {
                raw[142 + i * 4..144 + i * 4].copy_from_slice(&entry.tag.to_be_bytes());
                raw[144 + i * 4..146 + i * 4].copy_from_slice(&entry.flags.to_be_bytes());
            }
        }
        raw[510..].fill(0);
        let sum = sum(&raw);
        raw[510..].copy_from_slice(&sum.to_be_bytes());
        raw
    }

    /// The partitions, numbered from 1, on a disk of `sectors`; what covers the whole disk is left out.
    pub fn partitions(&self, sectors: u64) -> Sifted<(Entry, Extent)> {
        let used = (1..).zip(self.entries).filter_map(|(number, entry)| {
            // 32 bits of cylinders, each of at most 32 bits of sectors.
            let extent = Extent::new(u64::from(entry.cylinder) * self.cylinder, entry.sectors.into());
            (entry.sectors > 0 && entry.tag != WHOLE).then_some((number, (entry, extent)))
        });
        // The label's own sector may lie in the first partition: a file system leaves it alone.
        sift(used, Extent::new(0, sectors), |(_, extent)| Some(*extent))
    }
}

fn sum(raw: &[u8; LEN]) -> u16 {
    raw.chunks_exact(2)
        .fold(0, |sum, pair| sum ^ u16::from_be_bytes([pair[0], pair[1]]))
}

/// A readable name for a tag.
pub fn type_name(tag: u16) -> Option<&'static str> {
    Some(match tag {
        1 => "boot",
        2 => "root",
        3 => "swap",
        4 => "usr",
        5 => "whole disk",
        6 => "stand",
        7 => "var",
        8 => "home",
        9 => "alternate sectors",
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

    // `parted mklabel sun mkpart ext2 1MiB 33MiB` on 128 MiB.
    /// What the tool writes; all else is zero.
    const GOLDEN: &[(usize, &[u8])] = &[
        (0, b"GNU Parted Custom cyl 2048 alt 0 hd 4 sec 32"),
        (131, b"\x01"),
        (141, b"\x08\x00\x83"),
        (151, b"\x05"),
        (188, b"`\x0d\xde\xee"),
        (420, b"\x15\x18\x08"),
        (431, b"\x01\x08"),
        (437, b"\x04\x00 "),
        (447, b"\x10\x00\x01"),
        (465, b"\x04"),
        (508, b"\xda\xbe^\xf1"),
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
        let label = Label::parse(&golden()).unwrap();
        let (good, bad) = label.partitions(262_144);
        assert_eq!(bad, []);
        let extents: Vec<_> = good.iter().map(|(number, (_, extent))| (*number, *extent)).collect();
        assert_eq!(extents, [(1, Extent::new(2048, 65_536))]);
        assert_eq!(label.to_bytes(), golden());
        let mut moved = label.clone();
        moved.entries[0].sectors = 1;
        let again = Label::parse(&moved.to_bytes()).unwrap();
        assert_eq!(again.entries, moved.entries);
        let mut bad = golden();
        bad[300] = 1;
        assert_eq!(Label::parse(&bad), Err(Error::Checksum));
        assert_eq!(Label::parse(&[0; 512]), Err(Error::Signature));
    }

    #[test]
    fn a_fresh_one_tells_all_but_less_than_a_cylinder() {
        for sectors in [4096, 131_072, 131_075, 65_535 * 2048, 65_536 * 2048, (1 << 32) - 1] {
            let label = Label::fresh(sectors).unwrap();
            assert_eq!(Label::parse(&label.to_bytes()).unwrap().entries, label.entries);
            assert!(label.cylinder.is_multiple_of(2048) && label.cylinders() <= 65_535);
            let whole = label.cylinders() * label.cylinder;
            assert!(whole <= sectors && sectors - whole < label.cylinder, "{sectors}");
            assert_eq!(label.partitions(sectors), (vec![], vec![]));
        }
        assert_eq!(Label::fresh(4095), None);
        assert_eq!(Label::fresh(1 << 40), None);
    }
}
