//! A metadata area: one sector of header, and behind it a ring buffer of texts, one for each change of the group.
//!
//! | bytes | header (`mda_header`) |
//! |---|---|
//! | 0 | checksum of bytes 4 to 512 |
//! | 4 | ` LVM2 x[5A%r0N*>` |
//! | 20 | version, 1 |
//! | 24 | its own byte address on the disk |
//! | 32 | size of the area in bytes, the header's sector included |
//! | 40 | locations of 24 bytes (`raw_locn`): the committed text, then one that is prepared and not committed yet |
//!
//! A location has the offset from the start of the area, the size with the zero at the end of the text, the text's checksum, and flags. A
//! text that reaches the end of the area goes on behind the header.
use super::{Area, CRC_SEED, crc, le32, le64};

/// Bytes of the header (`MDA_HEADER_SIZE`); the ring follows.
pub const HEADER: u64 = 512;
/// Longest text that is read. A group of 10,000 volumes has about 5 MiB; LVM2 has no limit but the area's size.
pub const TEXT_MAX: u64 = 16 << 20;
/// Flag of a location: this area is not in use (`RAW_LOCN_IGNORED`).
pub const IGNORED: u32 = 1;
const LEN: usize = HEADER as usize;
const MAGIC: &[u8; 16] = b"\x20LVM2 x[5A%r0N*>";

/// Why an area cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a header's length.
    #[error("{0} bytes are too few for the header of a metadata area")]
    Short(usize),
    /// The checksum is wrong.
    #[error("the header's checksum is {found:08x} and should be {wanted:08x}")]
    Crc {
        /// What it says.
        wanted: u32,
        /// What its bytes give.
        found: u32,
    },
    /// Checksum right, and no metadata area.
    #[error("the header has no signature")]
    Signature,
    /// A version we do not know.
    #[error("the header has version {0}; only 1 is known")]
    Version(u32),
    /// It says that it belongs elsewhere.
    #[error("the header at byte {at} says that it belongs at {says}")]
    Misplaced {
        /// Where it is.
        at: u64,
        /// Where it should be.
        says: u64,
    },
    /// The area has no room for a text, or no end.
    #[error("an area of {0} bytes")]
    Size(u64),
    /// The text is not inside of the ring.
    #[error("the text is {size} bytes from byte {offset} of an area of {area}")]
    Text {
        /// From the start of the area.
        offset: u64,
        /// Its length.
        size: u64,
        /// The area's.
        area: u64,
    },
    /// Longer than we read.
    #[error("the text has {0} bytes, more than {TEXT_MAX}")]
    TooLong(u64),
    /// The text's checksum is wrong.
    #[error("the text's checksum is {found:08x} and should be {wanted:08x}")]
    TextCrc {
        /// What the header says.
        wanted: u32,
        /// What its bytes give.
        found: u32,
    },
}

/// Where a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// From the start of the area, in bytes; 0 if there is none.
    pub offset: u64,
    /// Bytes, the zero at the end included.
    pub size: u64,
    /// Checksum of these bytes.
    pub checksum: u32,
    /// See [`IGNORED`].
    pub flags: u32,
}

/// The header of an area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where it is and how long, header included.
    pub area: Area,
    /// The text that counts.
    pub committed: Location,
    /// One that was prepared; it counts only for who has prepared it.
    pub prepared: Location,
    raw: [u8; LEN],
}

impl Header {
    /// Checks the first sector of the area at byte `at` of the disk.
    pub fn parse(sector: &[u8], at: u64) -> Result<Self, Error> {
        let short = || Error::Short(sector.len());
        let raw: [u8; LEN] = sector.get(..LEN).and_then(|s| s.try_into().ok()).ok_or_else(short)?;
        let wanted = le32(&raw, 0).ok_or_else(short)?;
        let found = crc(CRC_SEED, &raw[4..]);
        if found != wanted {
            return Err(Error::Crc { wanted, found });
        }
        if &raw[4..20] != MAGIC {
            return Err(Error::Signature);
        }
        let version = le32(&raw, 20).ok_or_else(short)?;
        if version != 1 {
            return Err(Error::Version(version));
        }
        let (says, size) = (le64(&raw, 24).ok_or_else(short)?, le64(&raw, 32).ok_or_else(short)?);
        if says != at {
            return Err(Error::Misplaced { at, says });
        }
        let area = Area { offset: at, size };
        if size <= HEADER || area.end().is_none() {
            return Err(Error::Size(size));
        }
        let slot = |at: usize| {
            Some(Location {
                offset: le64(&raw, at)?,
                size: le64(&raw, at + 8)?,
                checksum: le32(&raw, at + 16)?,
                flags: le32(&raw, at + 20)?,
            })
        };
        Ok(Self {
            area,
            committed: slot(40).ok_or_else(short)?,
            prepared: slot(64).ok_or_else(short)?,
            raw,
        })
    }

    /// The header of an empty area.
    pub fn new(area: Area) -> Self {
        let mut raw = [0; LEN];
        raw[4..20].copy_from_slice(MAGIC);
        raw[20..24].copy_from_slice(&1u32.to_le_bytes());
        Self {
            area,
            committed: Location::default(),
            prepared: Location::default(),
            raw,
        }
    }

    /// The sector as it goes to the disk.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = self.raw;
        raw[24..32].copy_from_slice(&self.area.offset.to_le_bytes());
        raw[32..40].copy_from_slice(&self.area.size.to_le_bytes());
        for (at, slot) in [(40, &self.committed), (64, &self.prepared)] {
            raw[at..at + 8].copy_from_slice(&slot.offset.to_le_bytes());
            raw[at + 8..at + 16].copy_from_slice(&slot.size.to_le_bytes());
            raw[at + 16..at + 20].copy_from_slice(&slot.checksum.to_le_bytes());
            raw[at + 20..at + 24].copy_from_slice(&slot.flags.to_le_bytes());
        }
        let sum = crc(CRC_SEED, &raw[4..]);
        raw[..4].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    /// True if the area is kept, but not used (`pvchange --metadataignore y`).
    pub fn is_ignored(&self) -> bool {
        self.committed.flags & IGNORED != 0
    }

    /// The bytes of a text on the disk, in one piece or in two; the second piece is empty then. Nothing if there is no text.
    pub fn pieces(&self, text: Location) -> Result<Option<[Area; 2]>, Error> {
        if text.offset == 0 {
            return Ok(None);
        }
        let (offset, size, area) = (text.offset, text.size, self.area.size);
        if size > TEXT_MAX {
            return Err(Error::TooLong(size));
        }
        if offset < HEADER || offset >= area || size == 0 || size > area - HEADER {
            return Err(Error::Text { offset, size, area });
        }
        // No overflow: both are less than the area's size, which ends on some disk.
        let first = size.min(area - offset);
        let rest = size - first;
        if rest > offset - HEADER {
            return Err(Error::Text { offset, size, area });
        }
        let at = |from: u64, size: u64| Area {
            offset: self.area.offset + from,
            size,
        };
        Ok(Some([at(offset, first), at(HEADER, rest)]))
    }

    /// True if `text`, put together from its pieces, is what `location` promises.
    pub fn check(location: Location, text: &[u8]) -> Result<(), Error> {
        let found = crc(CRC_SEED, text);
        match found == location.checksum {
            true => Ok(()),
            false => Err(Error::TextCrc {
                wanted: location.checksum,
                found,
            }),
        }
    }

    /// Where a text of `size` bytes goes that shall not touch the committed one: behind it, on the next sector, around the end if need be.
    /// Nothing if the ring has no room for both.
    pub fn next(&self, size: u64) -> Option<u64> {
        let ring = self.area.size - HEADER;
        let now = &self.committed;
        if now.offset == 0 {
            return (size <= ring).then_some(HEADER);
        }
        // Both take whole sectors.
        let (used, wanted) = (
            now.size.checked_next_multiple_of(512)?,
            size.checked_next_multiple_of(512)?,
        );
        if used.checked_add(wanted)? > ring {
            return None;
        }
        let end = now.offset.checked_add(used)?;
        Some(if end >= self.area.size { end - ring } else { end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        let mut header = Header::new(Area {
            offset: 4096,
            size: 1_044_480,
        });
        header.committed = Location {
            offset: 3072,
            size: 1161,
            checksum: 0x1234_5678,
            flags: 0,
        };
        header
    }

    #[test]
    fn golden_bytes() {
        let bytes = sample().to_bytes();
        assert_eq!(&bytes[4..24], b"\x20LVM2 x[5A%r0N*>\x01\0\0\0");
        let words: Vec<u64> = bytes[24..64]
            .chunks(8)
            .map(|b| u64::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(words, [4096, 1_044_480, 3072, 1161, 0x1234_5678]);
        assert!(bytes[64..].iter().all(|b| *b == 0));
        assert_eq!(Header::parse(&bytes, 4096).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn each_lie_is_refused_with_its_name() {
        let with = |change: fn(&mut Header)| {
            let mut header = sample();
            change(&mut header);
            Header::parse(&header.to_bytes(), 4096)
        };
        let text = |change: fn(&mut Header)| {
            let header = with(change).unwrap();
            header.pieces(header.committed)
        };
        assert_eq!(with(|h| h.raw[5] = b'l'), Err(Error::Signature));
        assert_eq!(with(|h| h.raw[20] = 2), Err(Error::Version(2)));
        assert_eq!(with(|h| h.area.offset = 0), Err(Error::Misplaced { at: 4096, says: 0 }));
        assert_eq!(with(|h| h.area.size = 512), Err(Error::Size(512)));
        assert_eq!(with(|h| h.area.size = u64::MAX), Err(Error::Size(u64::MAX)));
        assert!(matches!(text(|h| h.committed.offset = 511), Err(Error::Text { .. })));
        assert!(matches!(
            text(|h| h.committed.offset = 1_044_480),
            Err(Error::Text { .. })
        ));
        assert!(matches!(text(|h| h.committed.size = 0), Err(Error::Text { .. })));
        assert!(matches!(
            text(|h| h.committed.size = 1_044_000),
            Err(Error::Text { .. })
        ));
        assert_eq!(text(|h| h.committed.size = 1 << 30), Err(Error::TooLong(1 << 30)));
        assert_eq!(text(|h| h.committed.offset = 0), Ok(None));
        let mut bytes = sample().to_bytes();
        bytes[100] = 1;
        assert!(matches!(Header::parse(&bytes, 4096), Err(Error::Crc { .. })));
        assert_eq!(Header::parse(&bytes[..99], 4096), Err(Error::Short(99)));
    }

    #[test]
    fn a_text_goes_on_behind_the_header() {
        let mut header = sample();
        header.committed.offset = 1_044_480 - 512;
        let pieces = header.pieces(header.committed).unwrap().unwrap();
        let area = |offset, size| Area { offset, size };
        assert_eq!(
            pieces,
            [area(4096 + 1_044_480 - 512, 512), area(4096 + 512, 1161 - 512)]
        );
    }

    proptest! {
        #[test]
        fn the_next_text_never_touches_the_committed_one(
            area in 2u64..40, offset in 0u64..40, size in 1u64..20_000, wanted in 1u64..20_000,
        ) {
            let mut header = Header::new(Area { offset: 4096, size: area * 512 });
            header.committed = Location { offset: offset * 512, size, ..Location::default() };
            let Ok(now) = header.pieces(header.committed) else { return Ok(()) };
            let Some(next) = header.next(wanted) else { return Ok(()) };
            let there = Location { offset: next, size: wanted, ..Location::default() };
            let next = header.pieces(there).unwrap().unwrap();
            for a in now.iter().flatten() {
                for b in &next {
                    let apart = a.size == 0 || b.size == 0 || a.end() <= Some(b.offset) || b.end() <= Some(a.offset);
                    prop_assert!(apart, "{a:?} {b:?}");
                }
            }
        }
    }
}
