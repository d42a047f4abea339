//! Drive links: what is written on each of several disks that are one after the other together. Ashlar's own format, version 1
//! (docs/formats/link.md, docs/adr/0011-drive-links.md). All numbers are little-endian.
//!
//! ```text
//! byte 0      4 KiB           36 KiB          68 KiB      1 MiB
//! ┌───────────┬───────────────┬───────────────┬───────────┬─────────────────────────────┐
//! │ untouched │ record        │ record, again │ untouched │ data                        │
//! └───────────┴───────────────┴───────────────┴───────────┴─────────────────────────────┘
//! ```
//!
//! A record describes the whole link: its children in order, each with its identity and how many blocks it gives. Records of one change differ
//! between the children only in `index`, the place of the child that carries it. Which of several records counts is the caller's decision.
use crc_fast::{CrcAlgorithm, checksum};
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of a record.
pub const MAGIC: [u8; 8] = *b"ASHLRLNK";
/// Where the two copies of a record begin, in bytes. Both lie in the part of a disk that discovery reads anyway.
pub const COPIES: [u64; 2] = [4 << 10, 36 << 10];
/// Room for one copy, in bytes.
pub const COPY: u64 = 32 << 10;
/// Where the data of a child begins, in bytes. Lengths of children are multiples of it too, so that alignment passes through.
pub const DATA: u64 = 1 << 20;
/// Children of one link.
pub const CHILDREN_MAX: usize = 256;
/// Bytes in a name.
pub const NAME_MAX: usize = 127;
/// Bytes of the name under which a child was last seen.
pub const SEEN_MAX: usize = 39;

const VERSION: u32 = 1;
const DELETED: u32 = 1;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    crc: U32,
    length: U32,
    block_size: U32,
    sequence: U64,
    link: [u8; 16],
    time: U64,
    data: U64,
    flags: U32,
    children: U16,
    index: U16,
    name: [u8; NAME_MAX + 1],
    reserved: [u8; 312],
}
const HEADER_LEN: usize = 512;
const _: () = assert!(size_of::<RawHeader>() == HEADER_LEN);
const _: () = assert!(std::mem::offset_of!(RawHeader, name) == 72);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawChild {
    id: [u8; 16],
    blocks: U64,
    seen: [u8; SEEN_MAX + 1],
}
const CHILD_LEN: usize = 64;
const _: () = assert!(size_of::<RawChild>() == CHILD_LEN);
const _: () = assert!((HEADER_LEN + CHILDREN_MAX * CHILD_LEN) as u64 <= COPY);

/// Why some bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `ASHLRLNK`.
    #[error("no record of a drive link")]
    Magic,
    /// Fewer bytes than it says it has.
    #[error("{0} bytes are too few for a record of a drive link")]
    Short(usize),
    /// Written by a later version, or with a flag nobody defined here.
    #[error("a record of a drive link of version {version} with flags {flags:#x}, which a later Ashlar has written")]
    Version {
        /// Its version.
        version: u32,
        /// Its flags.
        flags: u32,
    },
    /// The checksum is wrong.
    #[error("the record's checksum is {found:08x} and should be {wanted:08x}")]
    Crc {
        /// What it says.
        found: u32,
        /// What its bytes give.
        wanted: u32,
    },
    /// A field whose value nobody writes.
    #[error("the record's {0} makes no sense")]
    Field(&'static str),
}

/// One disk of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its identity.
    pub id: Uuid,
    /// How many blocks it gives, from [`DATA`] on.
    pub blocks: u64,
    /// The disk's name when the record was written. For people.
    pub seen: String,
}

/// What a child says of the whole link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Identity of the link.
    pub link: Uuid,
    /// Its name.
    pub name: String,
    /// Number of the change that has made it so; from 1.
    pub sequence: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Bytes in a block of every child.
    pub block_size: u32,
    /// The link is no more.
    pub deleted: bool,
    /// Place of the child that carries this record.
    pub index: u16,
    /// The children, in order of address.
    pub children: Vec<Child>,
}

/// Whether a link may be called so: letters, digits and `+ _ . -`, as volume groups.
pub fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"+_.-".contains(&b);
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(good)
        && !name.starts_with('-')
        && !matches!(name, "." | "..")
}

impl Record {
    /// Checks what is at the place of a copy.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let short = || Error::Short(bytes.len());
        if !bytes.starts_with(&MAGIC) {
            return Err(Error::Magic);
        }
        let (raw, _) = RawHeader::read_from_prefix(bytes).map_err(|_| short())?;
        let (version, flags) = (raw.version.get(), raw.flags.get());
        if version != VERSION {
            return Err(Error::Version { version, flags });
        }
        let count = usize::from(raw.children.get());
        let length = HEADER_LEN + count * CHILD_LEN;
        if count == 0 || count > CHILDREN_MAX || raw.length.get() as usize != length {
            return Err(Error::Field("length"));
        }
        let bytes = bytes.get(..length).ok_or_else(short)?;
        let (found, wanted) = (raw.crc.get(), crc(bytes));
        if found != wanted {
            return Err(Error::Crc { found, wanted });
        }
        if flags & !DELETED != 0 {
            return Err(Error::Version { version, flags });
        }
        let block_size = raw.block_size.get();
        if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
            return Err(Error::Field("block size"));
        }
        if raw.sequence.get() == 0 || raw.link == [0; 16] || raw.data.get() != DATA || raw.reserved != [0; 312] {
            return Err(Error::Field("header"));
        }
        let name = text(&raw.name)
            .filter(|name| is_name(name))
            .ok_or(Error::Field("name"))?;
        let mut children = Vec::with_capacity(count);
        for raw in bytes[HEADER_LEN..].chunks_exact(CHILD_LEN) {
            let raw = RawChild::read_from_bytes(raw).map_err(|_| short())?;
            let seen = text(&raw.seen).filter(|seen| !seen.chars().any(char::is_control));
            children.push(Child {
                id: Uuid::from_bytes(raw.id),
                blocks: raw.blocks.get(),
                seen: seen.ok_or(Error::Field("last name of a child"))?.to_owned(),
            });
        }
        let record = Self {
            link: Uuid::from_bytes(raw.link),
            name: name.to_owned(),
            sequence: raw.sequence.get(),
            time: raw.time.get(),
            block_size,
            deleted: flags & DELETED != 0,
            index: raw.index.get(),
            children,
        };
        record.check().map(|()| record)
    }

    /// What must hold between the children.
    fn check(&self) -> Result<(), Error> {
        if usize::from(self.index) >= self.children.len() {
            return Err(Error::Field("index"));
        }
        let mut ids: Vec<Uuid> = self.children.iter().map(|child| child.id).collect();
        ids.sort_unstable();
        if ids.first().is_none_or(Uuid::is_nil) || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::Field("children's identities"));
        }
        let unit = DATA / u64::from(self.block_size.max(1));
        let sound = |child: &Child| child.blocks > 0 && child.blocks.is_multiple_of(unit.max(1));
        let bytes = self.bytes().filter(|bytes| *bytes < 1 << 63);
        match self.children.iter().all(sound) && bytes.is_some() {
            true => Ok(()),
            false => Err(Error::Field("children's lengths")),
        }
    }

    /// The child that carries this record.
    pub fn own(&self) -> Option<&Child> {
        self.children.get(usize::from(self.index))
    }

    /// Length of the link in blocks.
    pub fn blocks(&self) -> u64 {
        self.children
            .iter()
            .fold(0, |sum, child| sum.saturating_add(child.blocks))
    }

    fn bytes(&self) -> Option<u64> {
        let mut sum = 0u64;
        for child in &self.children {
            sum = sum.checked_add(child.blocks)?;
        }
        sum.checked_mul(u64::from(self.block_size))
    }

    /// True if both say the same of the link, whoever carries them.
    pub fn agrees(&self, other: &Self) -> bool {
        *self
            == Self {
                index: self.index,
                ..other.clone()
            }
    }

    /// The record as it is written: its own length. Nothing if it would be one that [`parse`](Self::parse) refuses.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let count = self.children.len();
        if !(1..=CHILDREN_MAX).contains(&count) || !is_name(&self.name) || self.sequence == 0 {
            return None;
        }
        let length = HEADER_LEN + count * CHILD_LEN;
        let mut header = RawHeader {
            magic: MAGIC,
            version: VERSION.into(),
            crc: 0.into(),
            length: u32::try_from(length).ok()?.into(),
            block_size: self.block_size.into(),
            sequence: self.sequence.into(),
            link: *self.link.as_bytes(),
            time: self.time.into(),
            data: DATA.into(),
            flags: if self.deleted { DELETED } else { 0 }.into(),
            children: u16::try_from(count).ok()?.into(),
            index: self.index.into(),
            name: field(&self.name),
            reserved: [0; 312],
        };
        let mut bytes = header.as_bytes().to_vec();
        for child in &self.children {
            let raw = RawChild {
                id: *child.id.as_bytes(),
                blocks: child.blocks.into(),
                seen: field(&child.seen),
            };
            bytes.extend(raw.as_bytes());
        }
        header.crc = crc(&bytes).into();
        bytes[..HEADER_LEN].copy_from_slice(header.as_bytes());
        Self::parse(&bytes).is_ok().then_some(bytes)
    }
}

/// CRC-32C of a record, its own field taken as zero.
fn crc(record: &[u8]) -> u32 {
    let mut copy = record.to_vec();
    if let Some(field) = copy.get_mut(12..16) {
        field.fill(0);
    }
    checksum(CrcAlgorithm::Crc32Iscsi, &copy) as u32
}

/// Text that ends with a zero, and zeroes behind it.
fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|&b| b == 0)?;
    let (text, rest) = field.split_at(end);
    rest.iter().all(|&b| b == 0).then(|| std::str::from_utf8(text).ok())?
}

/// As much of a text as there is room for, whole characters.
fn field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    let end = (0..=text.len().min(N - 1))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    let bytes = &text.as_bytes()[..end.unwrap_or_default()];
    field[..bytes.len()].copy_from_slice(bytes);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let child = |n: u128, blocks, seen: &str| Child {
            id: Uuid::from_u128(n),
            blocks,
            seen: seen.into(),
        };
        Record {
            link: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            name: "big".into(),
            sequence: 7,
            time: 1_800_000_000,
            block_size: 512,
            deleted: false,
            index: 1,
            children: vec![child(0xa0, 2048, "d0"), child(0xa1, 4096, "sdß")],
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = record().to_bytes().unwrap();
        assert_eq!(bytes.len(), 640);
        let mut wanted = vec![0u8; 640];
        let mut put = |at: usize, with: &[u8]| wanted[at..at + with.len()].copy_from_slice(with);
        put(0, b"ASHLRLNK\x01\0\0\0");
        put(16, &[0x80, 2, 0, 0, 0, 2, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        put(32, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        put(48, &1_800_000_000u64.to_le_bytes());
        put(56, &[0, 0, 0x10, 0, 0, 0, 0, 0]);
        put(68, &[2, 0, 1, 0]);
        put(72, b"big");
        put(527, &[0xa0, 0, 8, 0, 0, 0, 0, 0, 0]);
        put(536, b"d0");
        put(591, &[0xa1, 0, 0x10, 0, 0, 0, 0, 0, 0]);
        put(600, "sdß".as_bytes());
        // Bit by bit, so that it owes nothing to the one under test.
        let crc = !wanted.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
            })
        });
        wanted[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(bytes, wanted);
        assert_eq!(Record::parse(&bytes), Ok(record()));
        // What lies behind it is somebody else's.
        assert_eq!(Record::parse(&[bytes, vec![0xff; 100]].concat()), Ok(record()));
    }

    #[test]
    fn every_bit_counts() {
        let bytes = record().to_bytes().unwrap();
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(Record::parse(&bad).is_err(), "bit {at}");
        }
        for len in 0..bytes.len() {
            assert!(Record::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn what_makes_no_sense_is_neither_read_nor_written() {
        type Spoil = fn(&mut Record);
        let bad: [(&str, Spoil); 9] = [
            ("index", |r| r.index = 2),
            ("no child", |r| r.children.clear()),
            ("twice", |r| r.children[1].id = r.children[0].id),
            ("nil", |r| r.children[0].id = Uuid::nil()),
            ("length", |r| r.children[0].blocks = 2049),
            ("overflow", |r| r.children[0].blocks = u64::MAX / 2048 * 2048),
            ("name", |r| r.name = "a/b".into()),
            ("blocks", |r| r.block_size = 520),
            ("sequence", |r| r.sequence = 0),
        ];
        for (what, spoil) in bad {
            let mut record = record();
            spoil(&mut record);
            assert_eq!(record.to_bytes(), None, "{what}");
        }
        assert!(!is_name("-a") && !is_name("") && !is_name("..") && is_name("a-b_c+d.e"));
    }

    #[test]
    fn a_full_link_fits_and_long_names_are_cut_between_characters() {
        let mut full = record();
        full.children = (1..=CHILDREN_MAX as u128)
            .map(|n| Child {
                id: Uuid::from_u128(n),
                blocks: 2048,
                seen: "ß".repeat(30),
            })
            .collect();
        let bytes = full.to_bytes().unwrap();
        assert!(bytes.len() as u64 <= COPY);
        let read = Record::parse(&bytes).unwrap();
        assert_eq!(read.children[255].seen, "ß".repeat(19));
        assert!(read.agrees(&Record {
            index: 9,
            ..read.clone()
        }));
    }
}
