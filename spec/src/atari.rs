//! Atari partition table (AHDI): four entries near the end of the first sector, and chains of further ones behind entries of type XGM.
//!
//! Source: Atari's AHDI 3.00 release notes; Linux' `block/partitions/atari.c`; parted's `atari.c`. Big-endian; sectors of 512 bytes. There is no
//! signature and no checksum, so a table is believed only if every entry in use makes sense and one has a type that is known.
use crate::extent::{Extent, Sifted, sift};

const LEN: usize = 512;
/// The most sectors of a disk that parted takes.
pub const SECTORS_MAX: u64 = (1 << 31) - 1;
/// Where a fresh table has its list of bad sectors, which is empty.
pub const BAD_SECTORS: u32 = 1;
/// The first byte of each of the eight further entries that ICD's driver has, and twelve bytes on.
const ICD: usize = 0x156;
/// Sum of the sector's 16-bit words in a fresh table: not 0x1234, which would make it one to boot from.
const SUM: u16 = 0x4321;
/// An entry that is not in use, as parted writes it: `PARTEDATARI`.
pub const UNUSED: Entry = Entry {
    flags: 0,
    kind: *b"PAR",
    start: u32::from_be_bytes(*b"TEDA"),
    count: u32::from_be_bytes(*b"TARI"),
};
/// Most partitions in a chain.
pub const CHAIN_MAX: usize = 64;
/// The types that are known.
pub const KNOWN: [&[u8; 3]; 9] = [b"GEM", b"BGM", b"XGM", b"LNX", b"SWP", b"RAW", b"MIX", b"UNX", b"F32"];

/// Why it is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not enough bytes.
    #[error("{0} bytes are too few for an Atari partition table")]
    Short(usize),
    /// An entry in use makes no sense, or none is in use.
    #[error("no Atari partition table")]
    Nonsense,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bit 0: in use; one of bits 3 to 7, by type: to boot from.
    pub flags: u8,
    /// Three characters.
    pub kind: [u8; 3],
    /// First sector.
    pub start: u32,
    /// Sectors.
    pub count: u32,
}

impl Entry {
    /// True if it is in use.
    pub fn is_used(&self) -> bool {
        self.flags & 1 != 0
    }

    /// True if it holds a chain of further tables.
    pub fn is_extended(&self) -> bool {
        self.is_used() && &self.kind == b"XGM"
    }

    /// True if it is one to boot from.
    pub fn is_bootable(&self) -> bool {
        self.is_used() && self.flags & !1 != 0
    }

    /// The flags of one in use, of this type: each kind of system looks for a bit of its own.
    pub fn flags_of(kind: [u8; 3], bootable: bool) -> u8 {
        let bit = match &kind {
            b"GEM" | b"BGM" => 0x80,
            b"UNX" => 0x40,
            b"LNX" => 0x10,
            _ => 0x08,
        };
        if bootable { 1 | bit } else { 1 }
    }

    fn is_sound(&self, disk: u64) -> bool {
        let extent = Extent::new(self.start.into(), self.count.into());
        self.flags & 0x06 == 0
            && (self.flags & 0xf8).count_ones() <= 1
            && self.kind.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            && self.start > 0
            && self.count > 0
            && extent.fits(disk)
    }

    /// Its type.
    pub fn type_name(&self) -> String {
        String::from_utf8_lossy(&self.kind).into_owned()
    }
}

/// A table: the first sector of the disk, or of a link of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Length of the disk in sectors, as it says.
    pub disk: u32,
    /// The four entries, used or not.
    pub entries: [Entry; 4],
    raw: [u8; LEN],
}

impl Table {
    /// An empty one for a disk of `sectors`, as parted makes it: its list of bad sectors is in sector [`BAD_SECTORS`]. Nothing if it cannot tell of so many.
    pub fn fresh(sectors: u64) -> Option<Self> {
        let disk = u32::try_from(sectors)
            .ok()
            .filter(|_| (4..=SECTORS_MAX).contains(&sectors))?;
        let mut raw = [0; LEN];
        raw[0x1f6..0x1fa].copy_from_slice(&BAD_SECTORS.to_be_bytes());
        raw[0x1fa..0x1fe].copy_from_slice(&1u32.to_be_bytes());
        // So that the sum is what it stays.
        let rest = sum(&raw);
        raw[0x1fe..].copy_from_slice(&SUM.wrapping_sub(rest).to_be_bytes());
        Some(Self {
            disk,
            entries: [UNUSED; 4],
            raw,
        })
    }

    /// Sectors of the list of bad ones.
    pub fn bad_sectors(&self) -> Extent {
        Extent::new(word(&self.raw, 0x1f6).into(), word(&self.raw, 0x1fa).into())
    }

    /// Those of ICD's eight further entries that are in use and make sense.
    pub fn further(&self) -> Vec<Entry> {
        let all = (0..8).map(|i| entry(&self.raw, ICD + i * 12));
        all.filter(|entry| entry.is_used() && entry.is_sound(self.disk.into()))
            .collect()
    }

    /// Reads any sector as a table.
    fn read(sector: &[u8]) -> Result<Self, Error> {
        let raw: [u8; LEN] = sector
            .get(..LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or(Error::Short(sector.len()))?;
        let word = |at: usize| word(&raw, at);
        let entries = std::array::from_fn(|i| entry(&raw, 0x1c6 + i * 12));
        Ok(Self {
            disk: word(0x1c2),
            entries,
            raw,
        })
    }

    /// Checks the first sector of a disk of `sectors`.
    pub fn parse(sector: &[u8], sectors: u64) -> Result<Self, Error> {
        let table = Self::read(sector)?;
        let disk = u64::from(table.disk);
        let mut used = table.entries.iter().filter(|entry| entry.is_used()).peekable();
        // One without partitions can be told only if parted, or we, have made it.
        let empty = table.entries.iter().all(|entry| *entry == UNUSED);
        let any = used.peek().is_some();
        let known = table.entries.iter().any(|e| e.is_used() && KNOWN.contains(&&e.kind));
        match ((any && known) || empty) && disk <= sectors && used.all(|entry| entry.is_sound(disk)) {
            true => Ok(table),
            false => Err(Error::Nonsense),
        }
    }

    /// A sector of a chain: a partition, with its start counted from this sector, and a link, counted from where the chain begins.
    pub fn link(sector: &[u8]) -> Result<(Option<Entry>, Option<Entry>), Error> {
        let table = Self::read(sector)?;
        let part = table.entries.into_iter().find(|e| e.is_used() && !e.is_extended());
        let next = table.entries.into_iter().find(Entry::is_extended);
        Ok((part, next))
    }

    /// The sector as it goes to the disk. The sum of its words stays what it was: one of them makes it a sector to boot from.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = self.raw;
        let wanted = sum(&raw);
        raw[0x1c2..0x1c6].copy_from_slice(&self.disk.to_be_bytes());
        for (i, entry) in self.entries.iter().enumerate() {
            let at = 0x1c6 + i * 12;
            raw[at] = entry.flags;
            raw[at + 1..at + 4].copy_from_slice(&entry.kind);
            raw[at + 4..at + 8].copy_from_slice(&entry.start.to_be_bytes());
            raw[at + 8..at + 12].copy_from_slice(&entry.count.to_be_bytes());
        }
        raw[0x1fe..].fill(0);
        let rest = sum(&raw);
        raw[0x1fe..].copy_from_slice(&wanted.wrapping_sub(rest).to_be_bytes());
        raw
    }
}

fn word(raw: &[u8; LEN], at: usize) -> u32 {
    u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

fn entry(raw: &[u8; LEN], at: usize) -> Entry {
    Entry {
        flags: raw[at],
        kind: [raw[at + 1], raw[at + 2], raw[at + 3]],
        start: word(raw, at + 4),
        count: word(raw, at + 8),
    }
}

fn sum(raw: &[u8; LEN]) -> u16 {
    raw.chunks_exact(2).fold(0, |sum: u16, half| {
        sum.wrapping_add(u16::from_be_bytes([half[0], half[1]]))
    })
}

/// An empty list of bad sectors, as parted writes it: its checksum, of bytes, comes out as 0xa5.
pub fn no_bad_sectors() -> [u8; LEN] {
    let mut raw = [0; LEN];
    raw[3] = 0xa5;
    raw
}

/// Partitions in order, with absolute starts, numbered from 1, on a disk of `sectors`.
pub fn partitions(entries: Vec<Entry>, sectors: u64) -> Sifted<Entry> {
    sift((1..).zip(entries), Extent::new(1, sectors.saturating_sub(1)), |e| {
        Some(Extent::new(e.start.into(), e.count.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // `parted mklabel atari mkpart primary 40MiB 64MiB` on 128 MiB.
    /// What the tool writes; all else is zero.
    const GOLDEN: &[(usize, &[u8])] = &[
        (451, b"\x04"),
        (454, b"\x01LNX\x00\x01@"),
        (464, b"\xc0"),
        (467, b"PARTEDATARI\x00PARTEDATARI\x00PARTEDATARI"),
        (505, b"\x01"),
        (509, b"\x01q`"),
    ];

    fn golden() -> [u8; 512] {
        let mut sector = [0; 512];
        for (at, bytes) in GOLDEN {
            sector[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        sector
    }

    #[test]
    fn a_fresh_one_is_that_of_parted() {
        let mut parted = [0; 512];
        parted[0x1c2..0x1c6].copy_from_slice(&262_144u32.to_be_bytes());
        parted[0x1c6..0x1f6].copy_from_slice(&b"\0PARTEDATARI".repeat(4));
        parted[0x1f9] = 1;
        parted[0x1fd] = 1;
        parted[0x1fe..].copy_from_slice(b"@S");
        let fresh = Table::fresh(262_144).unwrap();
        assert_eq!(fresh.to_bytes(), parted);
        let back = Table::parse(&parted, 262_144).unwrap();
        assert_eq!((back.bad_sectors(), back.further()), (Extent::new(1, 1), vec![]));
        assert_eq!(back.to_bytes(), parted);
        assert!(Table::fresh(1 << 31).is_none() && Table::fresh(3).is_none());
    }

    #[test]
    fn golden_bytes_are_read_and_given_back() {
        let table = Table::parse(&golden(), 262_144).unwrap();
        let used: Vec<_> = table.entries.into_iter().filter(Entry::is_used).collect();
        assert_eq!((used.len(), used[0].start, used[0].count), (1, 81_920, 49_152));
        assert_eq!(table.to_bytes(), golden());
        let mut boots = table.clone();
        boots.entries[0].flags = Entry::flags_of(*b"LNX", true);
        let back = Table::parse(&boots.to_bytes(), 262_144).unwrap();
        assert!(back.entries[0].is_bootable() && sum(&back.raw) == sum(&golden()));
        // On a shorter disk than it says it is no table, nor is one that is empty.
        assert_eq!(Table::parse(&golden(), 1000), Err(Error::Nonsense));
        assert_eq!(Table::parse(&[0; 512], 1000), Err(Error::Nonsense));
    }
}
