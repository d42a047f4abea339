//! The superblock of version 1, of which 1.0, 1.1 and 1.2 differ only in where it is (`struct mdp_superblock_1`).
//!
//! | bytes | what |
//! |---|---|
//! | 0 | what all members say alike: magic, version, features, identity, name, level, layout, size, members, bitmap or PPL |
//! | 84 | a reshape that is under way |
//! | 128 | this member: where its data are, how far it is recovered, its number and identity, bad-block log |
//! | 192 | state of the array: time, events, how far it is in sync, checksum, length of the table |
//! | 256 | the table: two bytes for each number a member can have, its role |
use super::{Level, SECTOR};
use std::fmt;
use uuid::Uuid;
use zerocopy::little_endian::{I16, I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First number of a superblock, of either version.
pub const MAGIC: u32 = 0xa92b_4efc;
/// Bytes before the table of roles.
pub const HEADER: usize = 256;
/// Most roles in the table: what the kernel reads is one page.
pub const ROLES_MAX: usize = (LEN_MAX - HEADER) / 2;
/// Bytes that are kept free for a superblock.
pub const LEN_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: U32,
    major_version: U32,
    feature_map: U32,
    pad0: U32,
    set_uuid: [u8; 16],
    set_name: [u8; 32],
    ctime: U64,
    level: I32,
    layout: U32,
    size: U64,
    chunksize: U32,
    raid_disks: U32,
    bitmap_offset: [u8; 4],
    reshape: RawReshape,
    data_offset: U64,
    data_size: U64,
    super_offset: U64,
    recovery_offset: U64,
    dev_number: U32,
    cnt_corrected_read: U32,
    device_uuid: [u8; 16],
    devflags: u8,
    bblog_shift: u8,
    bblog_size: U16,
    bblog_offset: I32,
    utime: U64,
    events: U64,
    resync_offset: U64,
    sb_csum: U32,
    max_dev: U32,
    pad3: [u8; 32],
}
const _: () = assert!(size_of::<Raw>() == HEADER);
const _: () = assert!(std::mem::offset_of!(Raw, bitmap_offset) == 96);
const _: () = assert!(std::mem::offset_of!(Raw, data_offset) == 128);
const _: () = assert!(std::mem::offset_of!(Raw, bblog_offset) == 188);
const _: () = assert!(std::mem::offset_of!(Raw, sb_csum) == CSUM);
const CSUM: usize = 216;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawReshape {
    new_level: I32,
    reshape_position: U64,
    delta_disks: I32,
    new_layout: U32,
    new_chunk: U32,
    new_offset: I32,
}

/// Where a superblock of version 1 is: the minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Minor {
    /// 1.0: near the end.
    V0,
    /// 1.1: at the start.
    V1,
    /// 1.2: 4 KiB from the start.
    V2,
}

impl Minor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V0, Self::V1, Self::V2];

    /// The sector at which it is on a device of so many sectors; nothing if that is too short.
    pub const fn sector(self, device: u64) -> Option<u64> {
        match self {
            // At least 8 KiB before the end, at a multiple of 4 KiB.
            Self::V0 => match device.checked_sub(16) {
                Some(at) => Some(at & !7),
                None => None,
            },
            Self::V1 if device >= 8 => Some(0),
            Self::V2 if device >= 16 => Some(8),
            _ => None,
        }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", *self as u8)
    }
}

/// Why some bytes are no superblock of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No magic number of MD.
    #[error("no MD superblock")]
    Magic,
    /// Fewer bytes than it says it has.
    #[error("{0} bytes are too few for an MD superblock")]
    Short(usize),
    /// Of another version.
    #[error("an MD superblock of version {0} where one of version 1 should be")]
    Version(u32),
    /// A table of roles that is longer than anybody writes.
    #[error("the MD superblock says that it has {0} roles, more than {ROLES_MAX}")]
    Roles(u32),
    /// The checksum is wrong.
    #[error("the MD superblock's checksum is {found:08x} and should be {wanted:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes give.
        wanted: u32,
    },
}

/// What must be understood to use an array (`feature_map`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features(pub u32);

impl Features {
    /// There is a bitmap.
    pub const BITMAP: Self = Self(1);
    /// This member is recovered only up to `recovery_offset`.
    pub const RECOVERY: Self = Self(2);
    /// A reshape is under way.
    pub const RESHAPE: Self = Self(4);
    /// The bad-block log is not empty.
    pub const BAD_BLOCKS: Self = Self(8);
    /// This member replaces the one that has its role.
    pub const REPLACEMENT: Self = Self(16);
    /// The reshape goes backwards.
    pub const BACKWARDS: Self = Self(32);
    /// `new_offset` counts.
    pub const NEW_OFFSET: Self = Self(64);
    /// The recovery is guided by the bitmap.
    pub const RECOVERY_BITMAP: Self = Self(128);
    /// Of a cluster.
    pub const CLUSTERED: Self = Self(256);
    /// There is, or was, a journal.
    pub const JOURNAL: Self = Self(512);
    /// There is a partial parity log.
    pub const PPL: Self = Self(1024);
    /// There are several.
    pub const MULTIPLE_PPLS: Self = Self(2048);
    /// The layout of a RAID-0 counts.
    pub const RAID0_LAYOUT: Self = Self(4096);

    /// Names of all that are known, in order of their bits.
    pub const NAMES: [&'static str; 13] = [
        "bitmap",
        "recovery offset",
        "reshape",
        "bad blocks",
        "replacement",
        "reshape backwards",
        "new offset",
        "recovery by bitmap",
        "cluster",
        "journal",
        "partial parity log",
        "several partial parity logs",
        "RAID-0 layout",
    ];

    /// Those that a member has for itself.
    pub const OWN: Self = Self(
        Self::RECOVERY.0 | Self::BAD_BLOCKS.0 | Self::REPLACEMENT.0 | Self::NEW_OFFSET.0 | Self::RECOVERY_BITMAP.0,
    );

    /// True if it has all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets or clears.
    pub const fn set(&mut self, other: Self, on: bool) {
        self.0 = if on { self.0 | other.0 } else { self.0 & !other.0 }
    }

    /// Those nobody has defined here: such an array must not be used.
    pub const fn unknown(self) -> u32 {
        self.0 & !((1 << Self::NAMES.len()) - 1)
    }
}

/// What a member is (an entry of `dev_roles`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It has this place in the array.
    Active(u16),
    /// None yet.
    Spare,
    /// None any more, or the number is not in use.
    Faulty,
    /// It is the journal.
    Journal,
    /// A number nobody defined, above those of places.
    Other(u16),
}

impl Role {
    /// From MD's number.
    pub const fn from_number(number: u16) -> Self {
        match number {
            0xffff => Self::Spare,
            0xfffe => Self::Faulty,
            0xfffd => Self::Journal,
            other if other > super::MEMBERS_MAX => Self::Other(other),
            place => Self::Active(place),
        }
    }

    /// MD's number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Active(number) | Self::Other(number) => number,
            Self::Spare => 0xffff,
            Self::Faulty => 0xfffe,
            Self::Journal => 0xfffd,
        }
    }
}

/// A time as MD has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// So many seconds since 1970, of which 40 bits count.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds & ((1 << 40) - 1))
    }

    /// Seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0 & ((1 << 40) - 1)
    }

    /// Microseconds beside them.
    pub const fn micros(self) -> u32 {
        (self.0 >> 40) as u32
    }
}

/// What the array shall become. The numbers stay when it has, and only [`Features::RESHAPE`] makes them count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The new level.
    pub level: Level,
    /// How far it is, in sectors of the array.
    pub position: u64,
    /// How many members more, or fewer.
    pub delta_disks: i32,
    /// The new layout.
    pub layout: u32,
    /// The new chunk size in sectors.
    pub chunk: u32,
    /// What is added to this member's `data_offset`, in sectors. Counts with [`Features::NEW_OFFSET`].
    pub offset: i32,
}

/// Where the bad-block log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BadBlockLog {
    /// Where, in sectors from the superblock.
    pub offset: i32,
    /// Sectors kept for it; with 0 there is none.
    pub size: u16,
    /// Its entries count units of 2 to this power, in sectors.
    pub shift: u8,
}

/// Reads are asked of this member only if no other can answer (`WriteMostly1`).
pub const WRITE_MOSTLY: u8 = 1;
/// Errors of this member are not waited for (`FailFast1`).
pub const FAIL_FAST: u8 = 2;

/// What a member says of itself and of the array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// What must be understood.
    pub features: Features,
    /// Identity of the array.
    pub array: Uuid,
    /// Its name as it is on disk: `HOST:NAME` or `NAME`, zeros behind it.
    pub set_name: [u8; 32],
    /// When it was made.
    pub ctime: Time,
    /// What it does with its members.
    pub level: Level,
    /// How; its meaning depends on the level.
    pub layout: u32,
    /// Sectors of each member that are used; 0 for linear and RAID-0, which use all of each.
    pub size: u64,
    /// Sectors in a chunk.
    pub chunk: u32,
    /// Places for members.
    pub raid_disks: u32,
    /// Where the bitmap or the PPL is, see [`bitmap_offset`](Self::bitmap_offset) and [`ppl`](Self::ppl).
    consistency: [u8; 4],
    /// What it shall become.
    pub reshape: Reshape,
    /// Where this member's data begin, in sectors of the device.
    pub data_offset: u64,
    /// So many sectors are there for data.
    pub data_size: u64,
    /// Where this superblock is, in sectors of the device.
    pub super_offset: u64,
    /// Up to here, in sectors from `data_offset`, the member is recovered ([`Features::RECOVERY`]); for a journal where its tail is.
    pub recovery_offset: u64,
    /// This member's place in the table of roles; it never changes.
    pub number: u32,
    /// Read errors that were mended by writing.
    pub corrected_reads: u32,
    /// Identity of this member.
    pub device: Uuid,
    /// [`WRITE_MOSTLY`], [`FAIL_FAST`] and others.
    pub flags: u8,
    /// Where the bad-block log is.
    pub bad_blocks: BadBlockLog,
    /// When the superblock was written.
    pub utime: Time,
    /// Counts changes of the array's state. Members that have fewer have missed some.
    pub events: u64,
    /// Up to here, in sectors, the array is in sync; all ones when it is as a whole.
    pub resync_offset: u64,
    /// What each number is.
    pub roles: Vec<Role>,
    pad0: U32,
    pad3: [u8; 32],
}

impl Superblock {
    /// True if there is something of MD's at a place of version 1, whatever its state.
    pub fn is_here(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC.to_le_bytes())
    }

    /// Checks what is at the place of a superblock, up to [`LEN_MAX`] bytes. Whether it says that it belongs there is the caller's to compare
    /// (`super_offset`): an image that was cut or grown has one in a wrong place.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let short = || Error::Short(bytes.len());
        if !Self::is_here(bytes) {
            return Err(Error::Magic);
        }
        let (raw, table) = Raw::read_from_prefix(bytes).map_err(|_| short())?;
        if raw.major_version.get() != 1 {
            return Err(Error::Version(raw.major_version.get()));
        }
        let count = raw.max_dev.get();
        if count as usize > ROLES_MAX {
            return Err(Error::Roles(count));
        }
        let table = table.get(..2 * count as usize).ok_or_else(short)?;
        let (found, wanted) = (raw.sb_csum.get(), checksum(&bytes[..HEADER + table.len()]));
        if found != wanted {
            return Err(Error::Checksum { found, wanted });
        }
        let roles = table.as_chunks::<2>().0.iter();
        let reshape = raw.reshape;
        Ok(Self {
            features: Features(raw.feature_map.get()),
            array: Uuid::from_bytes(raw.set_uuid),
            set_name: raw.set_name,
            ctime: Time(raw.ctime.get()),
            level: Level::from_number(raw.level.get()),
            layout: raw.layout.get(),
            size: raw.size.get(),
            chunk: raw.chunksize.get(),
            raid_disks: raw.raid_disks.get(),
            consistency: raw.bitmap_offset,
            reshape: Reshape {
                level: Level::from_number(reshape.new_level.get()),
                position: reshape.reshape_position.get(),
                delta_disks: reshape.delta_disks.get(),
                layout: reshape.new_layout.get(),
                chunk: reshape.new_chunk.get(),
                offset: reshape.new_offset.get(),
            },
            data_offset: raw.data_offset.get(),
            data_size: raw.data_size.get(),
            super_offset: raw.super_offset.get(),
            recovery_offset: raw.recovery_offset.get(),
            number: raw.dev_number.get(),
            corrected_reads: raw.cnt_corrected_read.get(),
            device: Uuid::from_bytes(raw.device_uuid),
            flags: raw.devflags,
            bad_blocks: BadBlockLog {
                offset: raw.bblog_offset.get(),
                size: raw.bblog_size.get(),
                shift: raw.bblog_shift,
            },
            utime: Time(raw.utime.get()),
            events: raw.events.get(),
            resync_offset: raw.resync_offset.get(),
            roles: roles.map(|role| Role::from_number(u16::from_le_bytes(*role))).collect(),
            pad0: raw.pad0,
            pad3: raw.pad3,
        })
    }

    /// One with nothing in it but an identity and a level, for the caller to fill.
    pub fn new(array: Uuid, level: Level) -> Self {
        Self {
            features: Features(0),
            array,
            set_name: [0; 32],
            ctime: Time(0),
            level,
            layout: 0,
            size: 0,
            chunk: 0,
            raid_disks: 0,
            consistency: [0; 4],
            reshape: Reshape {
                level: Level::Raid0,
                position: 0,
                delta_disks: 0,
                layout: 0,
                chunk: 0,
                offset: 0,
            },
            data_offset: 0,
            data_size: 0,
            super_offset: 0,
            recovery_offset: 0,
            number: 0,
            corrected_reads: 0,
            device: Uuid::nil(),
            flags: 0,
            bad_blocks: BadBlockLog::default(),
            utime: Time(0),
            events: 0,
            resync_offset: 0,
            roles: Vec::new(),
            pad0: U32::new(0),
            pad3: [0; 32],
        }
    }

    /// What is written at the place of the superblock: its own bytes, with the checksum. What lies behind them in their last sector counts for
    /// nothing and is best left. Nothing if there are more roles than [`ROLES_MAX`].
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if self.roles.len() > ROLES_MAX {
            return None;
        }
        let reshape = self.reshape;
        let raw = Raw {
            magic: MAGIC.into(),
            major_version: 1.into(),
            feature_map: self.features.0.into(),
            pad0: self.pad0,
            set_uuid: *self.array.as_bytes(),
            set_name: self.set_name,
            ctime: self.ctime.0.into(),
            level: self.level.number().into(),
            layout: self.layout.into(),
            size: self.size.into(),
            chunksize: self.chunk.into(),
            raid_disks: self.raid_disks.into(),
            bitmap_offset: self.consistency,
            reshape: RawReshape {
                new_level: reshape.level.number().into(),
                reshape_position: reshape.position.into(),
                delta_disks: reshape.delta_disks.into(),
                new_layout: reshape.layout.into(),
                new_chunk: reshape.chunk.into(),
                new_offset: reshape.offset.into(),
            },
            data_offset: self.data_offset.into(),
            data_size: self.data_size.into(),
            super_offset: self.super_offset.into(),
            recovery_offset: self.recovery_offset.into(),
            dev_number: self.number.into(),
            cnt_corrected_read: self.corrected_reads.into(),
            device_uuid: *self.device.as_bytes(),
            devflags: self.flags,
            bblog_shift: self.bad_blocks.shift,
            bblog_size: self.bad_blocks.size.into(),
            bblog_offset: self.bad_blocks.offset.into(),
            utime: self.utime.0.into(),
            events: self.events.into(),
            resync_offset: self.resync_offset.into(),
            sb_csum: 0.into(),
            // At most ROLES_MAX.
            max_dev: (self.roles.len() as u32).into(),
            pad3: self.pad3,
        };
        let mut bytes = raw.as_bytes().to_vec();
        bytes.extend(self.roles.iter().flat_map(|role| role.number().to_le_bytes()));
        let sum = checksum(&bytes).to_le_bytes();
        bytes[CSUM..CSUM + 4].copy_from_slice(&sum);
        Some(bytes)
    }

    /// What all members say alike is taken from another; what is this member's own stays.
    pub fn adopt(&mut self, other: &Self) {
        let own = Features::OWN.0;
        *self = Self {
            features: Features(other.features.0 & !own | self.features.0 & own),
            data_offset: self.data_offset,
            // It may have missed that the array has grown.
            data_size: self.data_size.max(other.size),
            super_offset: self.super_offset,
            recovery_offset: self.recovery_offset,
            number: self.number,
            corrected_reads: self.corrected_reads,
            device: self.device,
            flags: self.flags,
            bad_blocks: self.bad_blocks,
            ..other.clone()
        }
    }

    /// The name of the host the array is at home on, if it has one, and the name of the array. Bytes that are no text are shown as `�`.
    pub fn name(&self) -> (Option<String>, String) {
        let end = self.set_name.iter().position(|byte| *byte == 0).unwrap_or(32);
        let name = String::from_utf8_lossy(&self.set_name[..end]);
        match name.split_once(':') {
            Some((host, name)) => (Some(host.to_owned()), name.to_owned()),
            None => (None, name.into_owned()),
        }
    }

    /// Sets the name as mdadm does: without the host where both are more than 32 bytes. Nothing if the name alone is.
    pub fn set_name(&mut self, host: Option<&str>, name: &str) -> Option<()> {
        let full = host
            .map(|host| format!("{host}:{name}"))
            .filter(|full| full.len() <= 32);
        let text = full.as_deref().unwrap_or(name);
        let mut field = [0; 32];
        field.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        self.set_name = field;
        Some(())
    }

    /// What this member is; nothing if the table has no such number.
    pub fn role(&self) -> Option<Role> {
        self.roles.get(self.number as usize).copied()
    }

    /// Where the bitmap is, in sectors from the superblock.
    pub fn bitmap_offset(&self) -> Option<i32> {
        (self.features.has(Features::BITMAP)).then(|| i32::from_le_bytes(self.consistency))
    }

    /// There is a bitmap at so many sectors from the superblock, or none. Takes the place of a PPL.
    pub fn set_bitmap_offset(&mut self, offset: Option<i32>) {
        self.features.set(Features::PPL, false);
        self.features.set(Features::MULTIPLE_PPLS, false);
        self.features.set(Features::BITMAP, offset.is_some());
        self.consistency = offset.unwrap_or(0).to_le_bytes()
    }

    /// Where the partial parity log is, in sectors from the superblock, and how long it is, in sectors.
    pub fn ppl(&self) -> Option<(i16, u16)> {
        let [a, b, c, d] = self.consistency;
        let here = self.features.has(Features::PPL) || self.features.has(Features::MULTIPLE_PPLS);
        here.then(|| (I16::from_bytes([a, b]).get(), U16::from_bytes([c, d]).get()))
    }

    /// There is a partial parity log, or `several` one behind the other, as Linux since 4.16 makes them. Takes the place of a bitmap.
    pub fn set_ppl(&mut self, offset: i16, size: u16, several: bool) {
        let ([a, b], [c, d]) = (offset.to_le_bytes(), size.to_le_bytes());
        self.features.set(Features::BITMAP, false);
        self.features.set(Features::PPL, !several);
        self.features.set(Features::MULTIPLE_PPLS, several);
        self.consistency = [a, b, c, d]
    }

    /// A place relative to the superblock, in sectors of the device; nothing if it is before its start.
    pub fn relative(&self, offset: i64) -> Option<u64> {
        self.super_offset.checked_add_signed(offset)
    }

    /// Bytes that the sectors of the superblock take.
    pub fn footprint(&self) -> usize {
        (HEADER + 2 * self.roles.len()).next_multiple_of(SECTOR as usize)
    }
}

/// The sum of all words with the carry added, the field for it taken as zero (`calc_sb_1_csum`).
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum = 0u64;
    for (at, word) in words.iter().enumerate() {
        if at != CSUM / 4 {
            sum += u64::from(u32::from_le_bytes(*word))
        }
    }
    if let [a, b, ..] = rest {
        sum += u64::from(u16::from_le_bytes([*a, *b]))
    }
    (sum as u32).wrapping_add((sum >> 32) as u32)
}
