//! The write-intent bitmap: which parts of an array may differ between its members, because a write was under way or a member was missing.
//!
//! ```text
//!   0          256                                        sectors_reserved
//!   ├──────────┼──────────────────────────────────────────┤
//!   │ header   │ bits, the lowest of each byte first      │     each member has the same
//!   └──────────┴──────────────────────────────────────────┘
//! ```
//!
//! Bit n stands for `chunksize` bytes of each member (RAID-1, 4, 5, 6) or of the array (RAID-10), from n times so many on
//! (`drivers/md/md-bitmap.h`, `bitmap_super_t`).
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First number of the header: `bitm`.
pub const MAGIC: u32 = 0x6d74_6962;
/// Bytes of the header.
pub const HEADER: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: U32,
    version: U32,
    uuid: [u8; 16],
    events: U64,
    events_cleared: U64,
    sync_size: U64,
    state: U32,
    chunksize: U32,
    daemon_sleep: U32,
    write_behind: U32,
    sectors_reserved: U32,
    nodes: U32,
    cluster_name: [u8; 64],
    pad: [u8; 120],
}
const _: () = assert!(size_of::<Raw>() == HEADER);
const _: () = assert!(std::mem::offset_of!(Raw, cluster_name) == 72);

/// Why some bytes are no bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `bitm`.
    #[error("no bitmap")]
    Magic,
    /// Fewer bytes than a header has.
    #[error("{0} bytes are too few for the header of a bitmap")]
    Short(usize),
    /// Of a version whose bits are somewhere else.
    #[error("a bitmap of version {0}, of which 3 to 5 are known")]
    Version(u32),
    /// Chunks that are no power of two of at least 512 bytes.
    #[error("a bitmap with chunks of {0} bytes")]
    Chunk(u32),
}

/// How bits and numbers are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Bits in the order of the machine that wrote them (3).
    HostEndian,
    /// Little-endian (4).
    Plain,
    /// Little-endian, one for each node of a cluster (5).
    Clustered,
}

impl Version {
    /// MD's number.
    pub const fn number(self) -> u32 {
        match self {
            Self::HostEndian => 3,
            Self::Plain => 4,
            Self::Clustered => 5,
        }
    }
}

/// What stands before the bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How they are laid out.
    pub version: Version,
    /// Identity of the array. For 0.90 its words in the order of the machine, see [`v0`](super::v0).
    pub array: Uuid,
    /// The array's event count when this was written. Older than the array's: all of it may differ.
    pub events: u64,
    /// The event count when a bit was last cleared. A member with fewer events than these cannot be brought up to date by this bitmap.
    pub events_cleared: u64,
    /// Sectors that are kept track of.
    pub sync_size: u64,
    /// Bits: [`STALE`](Self::STALE), [`WRITE_ERROR`](Self::WRITE_ERROR), …
    pub state: u32,
    /// Bytes that a bit stands for.
    pub chunk: u32,
    /// Seconds between a write and the clearing of its bit.
    pub daemon_sleep: u32,
    /// Writes to write-mostly members that may be behind.
    pub write_behind: u32,
    /// Sectors kept for the bitmap, header included; 0 if written by an older Linux.
    pub sectors_reserved: u32,
    /// Nodes of a cluster.
    pub nodes: u32,
    /// Its name, zeros behind it.
    pub cluster_name: [u8; 64],
    pad: [u8; 120],
}

impl Header {
    /// State: the bitmap was not kept up to date: all of the array may differ.
    pub const STALE: u32 = 1 << 1;
    /// State: it could not be written.
    pub const WRITE_ERROR: u32 = 1 << 2;

    /// Checks what is at the place of a bitmap.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if !bytes.starts_with(&MAGIC.to_le_bytes()) {
            return Err(Error::Magic);
        }
        let (raw, _) = Raw::read_from_prefix(bytes).map_err(|_| Error::Short(bytes.len()))?;
        let chunk = raw.chunksize.get();
        if !chunk.is_power_of_two() || chunk < 512 {
            return Err(Error::Chunk(chunk));
        }
        Ok(Self {
            version: match raw.version.get() {
                3 => Version::HostEndian,
                4 => Version::Plain,
                5 => Version::Clustered,
                other => return Err(Error::Version(other)),
            },
            array: Uuid::from_bytes(raw.uuid),
            events: raw.events.get(),
            events_cleared: raw.events_cleared.get(),
            sync_size: raw.sync_size.get(),
            state: raw.state.get(),
            chunk,
            daemon_sleep: raw.daemon_sleep.get(),
            write_behind: raw.write_behind.get(),
            sectors_reserved: raw.sectors_reserved.get(),
            nodes: raw.nodes.get(),
            cluster_name: raw.cluster_name,
            pad: raw.pad,
        })
    }

    /// One for `sync_size` sectors with a bit for each `chunk` bytes, a power of two, with mdadm's usual five seconds.
    pub fn new(array: Uuid, sync_size: u64, chunk: u32, sectors_reserved: u32) -> Self {
        Self {
            version: Version::Plain,
            array,
            events: 0,
            events_cleared: 0,
            sync_size,
            state: 0,
            chunk,
            daemon_sleep: 5,
            write_behind: 0,
            sectors_reserved,
            nodes: 0,
            cluster_name: [0; 64],
            pad: [0; 120],
        }
    }

    /// The header as it is written.
    pub fn to_bytes(&self) -> [u8; HEADER] {
        let raw = Raw {
            magic: MAGIC.into(),
            version: self.version.number().into(),
            uuid: *self.array.as_bytes(),
            events: self.events.into(),
            events_cleared: self.events_cleared.into(),
            sync_size: self.sync_size.into(),
            state: self.state.into(),
            chunksize: self.chunk.into(),
            daemon_sleep: self.daemon_sleep.into(),
            write_behind: self.write_behind.into(),
            sectors_reserved: self.sectors_reserved.into(),
            nodes: self.nodes.into(),
            cluster_name: self.cluster_name,
            pad: self.pad,
        };
        zerocopy::transmute!(raw)
    }

    /// How many bits there are.
    pub fn bits(&self) -> u64 {
        self.sync_size.div_ceil(u64::from(self.chunk / 512))
    }

    /// Bytes of header and bits. In a cluster there are as many for each node, each at a multiple of 4 KiB.
    pub fn len(&self) -> u64 {
        HEADER as u64 + self.bits().div_ceil(8)
    }

    /// Never: the header is there.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The byte, from the start of the header, and the bit in it that a bit of the map is.
    pub const fn place(bit: u64) -> (u64, u8) {
        (HEADER as u64 + bit / 8, (bit % 8) as u8)
    }
}

/// Numbers of the bits that are set, of `count`, in bytes that begin with the first bit. What is not there counts as clear.
pub fn dirty(bytes: &[u8], count: u64) -> impl Iterator<Item = u64> + '_ {
    let set = |(at, byte): (usize, &u8)| {
        let byte = *byte;
        let bits = (0..8u64).filter(move |bit| byte >> bit & 1 == 1);
        bits.map(move |bit| at as u64 * 8 + bit)
    };
    let here = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
    here.flat_map(set).take_while(move |bit| *bit < count)
}
