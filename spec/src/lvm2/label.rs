//! The label and the header of a physical volume: who this disk is, and where its metadata and its data are. Both lie in one sector of the
//! first four.
//!
//! | bytes | label (`label_header`) | | bytes from `offset` | header (`pv_header`) |
//! |---|---|---|---|---|
//! | 0 | `LABELONE` | | 0 | identity, 32 characters |
//! | 8 | its own sector, 64 bits | | 32 | size of the device in bytes |
//! | 16 | checksum of bytes 20 to 512 | | 40 | data areas, then metadata areas: offset and size each; a zero offset ends a list |
//! | 20 | offset of the header | | | extension: version, flags, boot loader areas likewise |
//! | 24 | `LVM2 001` | | | |
use super::{Area, CRC_SEED, Id, SECTOR, crc, le32, le64};

/// Sectors in which a label may be (`LABEL_SCAN_SECTORS`).
pub const SCAN: u64 = 4;
/// Flag of the extension: some group uses this volume (`PV_EXT_USED`).
pub const USED: u32 = 1;
const LEN: usize = SECTOR as usize;
const MAGIC: &[u8; 8] = b"LABELONE";
const KIND: &[u8; 8] = b"LVM2 001";

/// Why a sector is not a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a sector.
    #[error("{0} bytes are too few for a label")]
    Short(usize),
    /// No `LABELONE`.
    #[error("no LVM2 label")]
    Signature,
    /// It says that it belongs elsewhere: a copy.
    #[error("the label in sector {at} says that it belongs in sector {says}")]
    Misplaced {
        /// Where it is.
        at: u64,
        /// Where it should be.
        says: u64,
    },
    /// The checksum is wrong.
    #[error("the label's checksum is {found:08x} and should be {wanted:08x}")]
    Crc {
        /// What it says.
        wanted: u32,
        /// What its bytes give.
        found: u32,
    },
    /// It labels something else.
    #[error("the label is not one of LVM2 001")]
    Kind,
    /// The header starts outside of the sector.
    #[error("the header of the physical volume starts at byte {0} of the label")]
    Layout(u32),
    /// No identity.
    #[error("the physical volume's identity is not one")]
    Id,
    /// A list of areas does not end before the sector does.
    #[error("a list of areas does not end")]
    Endless,
    /// An area that ends beyond 64 bits.
    #[error("the area at byte {0} does not fit on any disk")]
    Area(u64),
}

/// What came later: version and flags of a header's extension, and areas for boot loaders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// 1 or 2; 0 if there is none, as before LVM2 2.02.99.
    pub version: u32,
    /// See [`USED`].
    pub flags: u32,
    /// Kept free for boot loaders.
    pub boot: Vec<Area>,
}

/// A label with its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The sector it is in, from 0.
    pub sector: u64,
    /// The physical volume.
    pub id: Id,
    /// Size of the device when it was made, in bytes.
    pub device_size: u64,
    /// Where extents may be; one area in practice.
    pub data: Vec<Area>,
    /// Where metadata is; at most two in practice.
    pub metadata: Vec<Area>,
    /// What came later.
    pub extension: Extension,
    /// The sector as it was read: what we do not know in it is kept.
    raw: [u8; LEN],
}

impl Label {
    /// The first sound label of the first sectors of a disk. An error means that there is one, and it is damaged.
    pub fn find(head: &[u8]) -> Result<Option<Self>, Error> {
        let mut wrong = Ok(None);
        for (at, sector) in head.chunks_exact(LEN).take(SCAN as usize).enumerate() {
            match Self::parse(sector, at as u64) {
                Ok(label) => return Ok(Some(label)),
                Err(Error::Signature) => {}
                Err(why) if wrong.is_ok() => wrong = Err(why),
                Err(_) => {}
            }
        }
        wrong
    }

    /// Checks the sector of number `at`.
    pub fn parse(sector: &[u8], at: u64) -> Result<Self, Error> {
        let short = || Error::Short(sector.len());
        let raw: [u8; LEN] = sector.get(..LEN).and_then(|s| s.try_into().ok()).ok_or_else(short)?;
        if !raw.starts_with(MAGIC) {
            return Err(Error::Signature);
        }
        let (says, wanted, offset) = (
            le64(&raw, 8).ok_or_else(short)?,
            le32(&raw, 16).ok_or_else(short)?,
            le32(&raw, 20).ok_or_else(short)?,
        );
        if says != at {
            return Err(Error::Misplaced { at, says });
        }
        let found = crc(CRC_SEED, &raw[20..]);
        if found != wanted {
            return Err(Error::Crc { wanted, found });
        }
        if &raw[24..32] != KIND {
            return Err(Error::Kind);
        }
        let mut at = offset as usize;
        if at < 32 {
            return Err(Error::Layout(offset));
        }
        let id = raw.get(at..at.saturating_add(32)).ok_or(Error::Layout(offset))?;
        let id = Id::from_bytes(id).map_err(|_| Error::Id)?;
        let device_size = le64(&raw, at + 32).ok_or(Error::Layout(offset))?;
        at += 40;
        let data = areas(&raw, &mut at)?;
        let metadata = areas(&raw, &mut at)?;
        // A sector that is full of areas has no extension, nor has one written before there were any.
        let mut extension = Extension::default();
        if let (Some(version), Some(flags)) = (le32(&raw, at), le32(&raw, at + 4))
            && version > 0
        {
            at += 8;
            extension = Extension {
                version,
                flags,
                boot: areas(&raw, &mut at)?,
            };
        }
        Ok(Self {
            sector: says,
            id,
            device_size,
            data,
            metadata,
            extension,
            raw,
        })
    }

    /// A label for sector 1, where `pvcreate` puts it.
    pub fn new(id: Id, device_size: u64, data: Vec<Area>, metadata: Vec<Area>) -> Self {
        let mut raw = [0; LEN];
        raw[..8].copy_from_slice(MAGIC);
        raw[20..24].copy_from_slice(&32u32.to_le_bytes());
        raw[24..32].copy_from_slice(KIND);
        Self {
            sector: 1,
            id,
            device_size,
            data,
            metadata,
            extension: Extension {
                version: 2,
                ..Extension::default()
            },
            raw,
        }
    }

    /// The sector as it goes to the disk, unless there are more areas than it has room for.
    pub fn to_bytes(&self) -> Option<[u8; LEN]> {
        let mut raw = self.raw;
        raw[8..16].copy_from_slice(&self.sector.to_le_bytes());
        let mut header = self.id.as_str().as_bytes().to_vec();
        header.extend(self.device_size.to_le_bytes());
        let list = |header: &mut Vec<u8>, areas: &[Area]| {
            for area in areas.iter().chain([&Area::default()]) {
                header.extend(area.offset.to_le_bytes());
                header.extend(area.size.to_le_bytes());
            }
        };
        list(&mut header, &self.data);
        list(&mut header, &self.metadata);
        if self.extension.version > 0 {
            header.extend(self.extension.version.to_le_bytes());
            header.extend(self.extension.flags.to_le_bytes());
            list(&mut header, &self.extension.boot);
        }
        let at = le32(&raw, 20)? as usize;
        raw.get_mut(at..at.checked_add(header.len())?)?.copy_from_slice(&header);
        let sum = crc(CRC_SEED, &raw[20..]);
        raw[16..20].copy_from_slice(&sum.to_le_bytes());
        Some(raw)
    }
}

/// Areas up to the zero that ends them; `at` moves behind it.
fn areas(raw: &[u8], at: &mut usize) -> Result<Vec<Area>, Error> {
    let mut areas = Vec::new();
    // Each step goes 16 bytes on in a sector of 512.
    loop {
        let (Some(offset), Some(size)) = (le64(raw, *at), le64(raw, *at + 8)) else {
            return Err(Error::Endless);
        };
        // Kept as it is: a size beside a zero offset would be lost on the way back.
        if offset == 0 && size != 0 {
            return Err(Error::Area(0));
        }
        *at += 16;
        if offset == 0 {
            return Ok(areas);
        }
        let area = Area { offset, size };
        if area.end().is_none() {
            return Err(Error::Area(offset));
        }
        areas.push(area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Label {
        let id = "2Kt1bc-jLQe-9bMf-Zf0l-3Ww2-Yd3V-0aXkQm".parse().unwrap();
        let area = |offset, size| Area { offset, size };
        Label::new(id, 64 << 20, vec![area(1 << 20, 0)], vec![area(4096, 1_044_480)])
    }

    #[test]
    fn golden_bytes() {
        // What `pvcreate` writes to sector 1 of a 64 MiB device, but for identity and checksum; lvol/tests/lvm2.rs compares with the tool.
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(&bytes[..16], b"LABELONE\x01\0\0\0\0\0\0\0");
        assert_eq!(&bytes[20..32], b"\x20\0\0\0LVM2 001");
        assert_eq!(&bytes[32..64], b"2Kt1bcjLQe9bMfZf0l3Ww2Yd3V0aXkQm");
        let words: Vec<u64> = bytes[64..160]
            .chunks(8)
            .map(|b| u64::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(words, [64 << 20, 1 << 20, 0, 0, 0, 4096, 1_044_480, 0, 0, 2, 0, 0]);
        assert!(bytes[160..].iter().all(|b| *b == 0));
        let mut head = vec![0; 2048];
        head[512..1024].copy_from_slice(&bytes);
        let found = Label::find(&head).unwrap().unwrap();
        assert_eq!((found.to_bytes().unwrap(), found.id), (bytes, sample().id));
    }

    #[test]
    fn each_lie_is_refused_with_its_name() {
        let good = sample().to_bytes().unwrap();
        let with = |at: usize, bytes: &[u8], mend: bool| {
            let mut bad = good;
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            if mend {
                let sum = crc(CRC_SEED, &bad[20..]);
                bad[16..20].copy_from_slice(&sum.to_le_bytes());
            }
            Label::parse(&bad, 1).unwrap_err()
        };
        assert_eq!(with(0, b"l", false), Error::Signature);
        assert_eq!(with(8, &[3], false), Error::Misplaced { at: 1, says: 3 });
        assert!(matches!(with(40, b"x", false), Error::Crc { .. }));
        assert_eq!(with(24, b"LVM1", true), Error::Kind);
        assert_eq!(with(20, &[8], true), Error::Layout(8));
        assert_eq!(with(20, &[0, 2], true), Error::Layout(512));
        assert_eq!(with(32, b" ", true), Error::Id);
        assert_eq!(with(72, &[0xff; 440], true), Error::Area(u64::MAX));
        assert_eq!(with(72, &[1; 440], true), Error::Endless);
        assert_eq!(Label::parse(&good[..100], 1), Err(Error::Short(100)));
        // Damage in one sector does not hide a sound label in another.
        let mut head = vec![0; 2048];
        head[..512].copy_from_slice(&good);
        assert_eq!(Label::find(&head), Err(Error::Misplaced { at: 0, says: 1 }));
        head[512..1024].copy_from_slice(&good);
        assert_eq!(Label::find(&head).unwrap().unwrap().sector, 1);
    }
}
