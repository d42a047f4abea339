//! BSD disk label: on a disk of its own or inside of a slice of an MBR (types a5, a6, a9).
//!
//! Source: `sys/disklabel.h` of the BSDs (`struct disklabel`); Linux' `block/partitions/msdos.c`; parted's `bsd.c`. Little-endian here: the label of
//! x86 and Alpha. It lies in the second sector, or at byte 64 of the first. Addresses are sectors of the size the label says; in a slice they
//! may be the whole disk's, and then partition c says where the slice begins.
use crate::extent::{Extent, Sifted, sift};

/// Most partitions (`MAXPARTITIONS` of OpenBSD and NetBSD).
pub const PARTITIONS_MAX: usize = 16;
const MAGIC: u32 = 0x8256_4557;
const HEAD: usize = 148;
/// Bytes that a label may take.
pub const LEN: usize = HEAD + PARTITIONS_MAX * 16;
/// Bytes of the boot area, and of a superblock.
const AREA: u32 = 8192;
/// Partition c, the whole (`RAW_PART`).
const WHOLE: usize = 2;

/// Why it is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not enough bytes.
    #[error("{0} bytes are too few for a disk label")]
    Short(usize),
    /// No signature, or only one of two.
    #[error("no disk label")]
    Signature,
    /// Too many partitions.
    #[error("the label says {0} partitions")]
    Count(u16),
    /// A sector size nobody has.
    #[error("the label says sectors of {0} bytes")]
    SectorSize(u32),
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Sectors.
    pub size: u32,
    /// First sector.
    pub offset: u32,
    /// Type of its file system, see [`type_name`]; 0 if it is not used.
    pub kind: u8,
}

/// A disk label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Bytes in a sector.
    pub sector_size: u32,
    /// The checksum is right. parted's is wrong from the second change on (it sums up the old one as well), and Linux does not look; two
    /// signatures are enough to know a label.
    pub sound: bool,
    /// The partitions, used or not: a, b, …
    pub entries: Vec<Entry>,
    raw: Vec<u8>,
}

impl Label {
    /// Checks the label at the start of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let head = bytes.get(..HEAD).ok_or(Error::Short(bytes.len()))?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if word(0) != MAGIC || word(132) != MAGIC {
            return Err(Error::Signature);
        }
        let count = u16::from_le_bytes([head[138], head[139]]);
        if usize::from(count) > PARTITIONS_MAX || count == 0 {
            return Err(Error::Count(count));
        }
        let raw = bytes
            .get(..HEAD + usize::from(count) * 16)
            .ok_or(Error::Short(bytes.len()))?
            .to_vec();
        let sector_size = word(40);
        if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
            return Err(Error::SectorSize(sector_size));
        }
        let entry = |raw: &[u8]| Entry {
            size: u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]),
            offset: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
            kind: raw[12],
        };
        let entries = raw[HEAD..].chunks_exact(16).map(entry).collect();
        Ok(Self {
            sector_size,
            sound: sum(&raw) == 0,
            entries,
            raw,
        })
    }

    /// A fresh one for a disk, or a slice, of `sectors` that begins at `base` in the label's addresses: partition c, which is all of it, and seven more
    /// that are not used. Cylinders are those that fdisk counts in: 255 heads of 63 sectors. Nothing if it has less than 32 sectors, or more
    /// than the label can tell of.
    pub fn fresh(sector_size: u32, sectors: u64, base: u64) -> Option<Self> {
        const HEADS: u32 = 255;
        const SECTORS: u32 = 63;
        let size = u32::try_from(sectors).ok().filter(|size| *size >= 32)?;
        let offset = u32::try_from(base).ok()?;
        offset.checked_add(size)?;
        let mut raw = vec![0; HEAD + 8 * 16];
        for (at, word) in [
            (0, MAGIC),
            // A SCSI disk.
            (4, 4),
            (40, sector_size),
            (44, SECTORS),
            (48, HEADS),
            (52, size / (HEADS * SECTORS)),
            (56, HEADS * SECTORS),
            (60, size),
            // 3,600 turns a minute, no interleave.
            (72, 3600 | 1 << 16),
            (132, MAGIC),
            (140, AREA),
            (144, AREA),
        ] {
            raw[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        raw[138..140].copy_from_slice(&8u16.to_le_bytes());
        let whole = HEAD + WHOLE * 16;
        raw[whole..whole + 4].copy_from_slice(&size.to_le_bytes());
        raw[whole + 4..whole + 8].copy_from_slice(&offset.to_le_bytes());
        let sum = sum(&raw);
        raw[136..138].copy_from_slice(&sum.to_le_bytes());
        Self::parse(&raw).ok()
    }

    /// The label as it goes to the disk; a wrong checksum is mended when anything has changed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut raw = self.raw.clone();
        // Counted are those that were, and those that came behind them.
        let count = self.entries.len().min(PARTITIONS_MAX) as u16;
        raw.resize(HEAD + usize::from(count) * 16, 0);
        raw[138..140].copy_from_slice(&count.to_le_bytes());
        for (place, entry) in raw[HEAD..].chunks_exact_mut(16).zip(&self.entries) {
            // What a file system said of itself goes with its partition; of one that was not there nothing is touched.
            let had = place[..8].iter().any(|byte| *byte != 0) || place[12] != 0;
            if had && *entry == Entry::default() {
                place.fill(0);
            }
            place[..4].copy_from_slice(&entry.size.to_le_bytes());
            place[4..8].copy_from_slice(&entry.offset.to_le_bytes());
            place[12] = entry.kind;
        }
        if raw == self.raw {
            return raw;
        }
        raw[136..138].fill(0);
        let sum = sum(&raw);
        raw[136..138].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    /// Where the disk or slice of the label begins in the label's own addresses, if partition c says so.
    pub fn base(&self) -> u32 {
        self.entries.get(WHOLE).map_or(0, |whole| whole.offset)
    }

    /// The partitions, numbered from 1 for a, on a disk or slice of `sectors` that begins at `base` in the label's addresses. Those that cover all
    /// of it are left out. The extents of the answer count from `base`.
    pub fn partitions(&self, sectors: u64, base: u64) -> Sifted<(Entry, Extent)> {
        let used = (1..).zip(self.entries.iter().copied()).filter_map(|(number, entry)| {
            let extent = Extent::new(
                u64::from(entry.offset).checked_sub(base).unwrap_or(u64::MAX),
                entry.size.into(),
            );
            let whole = extent.start == 0 && extent.count >= sectors;
            let is_c = number as usize == WHOLE + 1 && entry.kind == 0;
            (entry.size > 0 && !whole && !is_c).then_some((number, (entry, extent)))
        });
        sift(
            used.filter(|(_, (entry, _))| entry.kind != 0),
            Extent::new(0, sectors),
            |(_, extent)| Some(*extent),
        )
    }
}

/// All 16-bit words, exclusive-or; 0 with the checksum in its place.
fn sum(raw: &[u8]) -> u16 {
    raw.chunks_exact(2)
        .fold(0, |sum, pair| sum ^ u16::from_le_bytes([pair[0], pair[1]]))
}

/// A readable name for the common types (`FSTYPENAMES`).
pub fn type_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "swap",
        7 => "4.2BSD",
        8 => "MSDOS",
        9 => "4.4LFS",
        11 => "HPFS",
        12 => "ISO 9660",
        13 => "boot",
        17 => "ext2",
        18 => "NTFS",
        19 => "RAIDframe",
        20 => "ccd",
        27 => "ZFS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Byte 64 of what `parted mklabel bsd mkpart ext2 1MiB 33MiB` writes.
    /// What the tool writes; all else is zero.
    const GOLDEN: &[(usize, &[u8])] = &[
        (0, b"WEV\x82\x04"),
        (41, b"\x02"),
        (44, b" "),
        (48, b"\x04"),
        (53, b"\x08"),
        (56, b"\x80"),
        (62, b"\x04"),
        (72, b"\x10\x0e\x01"),
        (132, b"WEV\x82\xb4\xc3\x02"),
        (141, b" "),
        (145, b" "),
        (150, b"\x01"),
        (153, b"\x08"),
        (160, b"\x08"),
        (440, b"\xa7AZ\x82{m[\x82"),
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
        let (good, bad) = label.partitions(262_144, 0);
        assert_eq!(bad, []);
        let extents: Vec<_> = good.iter().map(|(number, (_, extent))| (*number, *extent)).collect();
        assert_eq!(extents, [(1, Extent::new(2048, 65_536))]);
        let back = label.to_bytes();
        assert_eq!(back[..], golden()[..back.len()]);
        let mut moved = label.clone();
        moved.entries[0].offset = 4096;
        let again = Label::parse(&moved.to_bytes()).unwrap();
        assert!(again.sound && again.entries == moved.entries);
        let mut bad = golden();
        bad[132] = 1;
        assert_eq!(Label::parse(&bad), Err(Error::Signature));
        bad = golden();
        bad[138] = 17;
        assert_eq!(Label::parse(&bad), Err(Error::Count(17)));
    }

    #[test]
    fn a_fresh_one_is_sound_and_has_nothing_but_the_whole() {
        for (size, base) in [(512, 0), (4096, 2048)] {
            let label = Label::fresh(size, 100_000, base).unwrap();
            let again = Label::parse(&label.to_bytes()).unwrap();
            assert!(again.sound && again == label && again.entries.len() == 8);
            assert_eq!((again.sector_size, u64::from(again.base())), (size, base));
            assert_eq!(again.partitions(100_000, base), (vec![], vec![]));
        }
        assert_eq!(Label::fresh(512, 31, 0), None);
        assert_eq!(Label::fresh(512, 1 << 32, 0), None);
        assert_eq!(Label::fresh(512, 100, u32::MAX.into()), None);
    }
}
