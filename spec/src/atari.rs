//! Atari partition table (AHDI): four entries near the end of the first sector, and chains of further ones behind entries of type XGM.
//!
//! Source: Atari's AHDI 3.00 release notes; Linux' `block/partitions/atari.c`; parted's `atari.c`. Big-endian; sectors of 512 bytes. There is no
//! signature and no checksum, so a table is believed only if every entry in use makes sense and one has a type that is known.
use crate::extent::{Extent, Sifted, sift};

const LEN: usize = 512;
/// Most partitions in a chain.
pub const CHAIN_MAX: usize = 64;
const KNOWN: [&[u8; 3]; 9] = [b"GEM", b"BGM", b"XGM", b"LNX", b"SWP", b"RAW", b"MIX", b"UNX", b"F32"];

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
    /// Bit 0: in use; bit 7: to boot from.
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
    /// Reads any sector as a table.
    fn read(sector: &[u8]) -> Result<Self, Error> {
        let raw: [u8; LEN] = sector
            .get(..LEN)
            .and_then(|b| b.try_into().ok())
            .ok_or(Error::Short(sector.len()))?;
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let entries = std::array::from_fn(|i| {
            let at = 0x1c6 + i * 12;
            Entry {
                flags: raw[at],
                kind: [raw[at + 1], raw[at + 2], raw[at + 3]],
                start: word(at + 4),
                count: word(at + 8),
            }
        });
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
        let sound = |entry: &Entry| {
            let extent = Extent::new(entry.start.into(), entry.count.into());
            entry.flags & 0x7e == 0
                && entry.kind.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                && entry.start > 0
                && entry.count > 0
                && extent.fits(disk)
        };
        let any = used.peek().is_some();
        let known = table.entries.iter().any(|e| e.is_used() && KNOWN.contains(&&e.kind));
        match any && known && disk <= sectors && used.all(sound) {
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

    /// The sector as it goes to the disk.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = self.raw;
        raw[0x1c2..0x1c6].copy_from_slice(&self.disk.to_be_bytes());
        for (i, entry) in self.entries.iter().enumerate() {
            let at = 0x1c6 + i * 12;
            raw[at] = entry.flags;
            raw[at + 1..at + 4].copy_from_slice(&entry.kind);
            raw[at + 4..at + 8].copy_from_slice(&entry.start.to_be_bytes());
            raw[at + 8..at + 12].copy_from_slice(&entry.count.to_be_bytes());
        }
        raw
    }
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
    fn golden_bytes_are_read_and_given_back() {
        let table = Table::parse(&golden(), 262_144).unwrap();
        let used: Vec<_> = table.entries.into_iter().filter(Entry::is_used).collect();
        assert_eq!((used.len(), used[0].start, used[0].count), (1, 81_920, 49_152));
        assert_eq!(table.to_bytes(), golden());
        // On a shorter disk than it says it is no table, nor is one that is empty.
        assert_eq!(Table::parse(&golden(), 1000), Err(Error::Nonsense));
        assert_eq!(Table::parse(&[0; 512], 1000), Err(Error::Nonsense));
    }
}
