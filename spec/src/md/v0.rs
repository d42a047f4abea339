//! The superblock of version 0.90: 4 KiB of words of 32 bits, in the byte order of the machine that wrote them (`struct mdp_superblock_s`). At most 27
//! members, sizes of at most 2 TiB (4 TiB since Linux 3.1), no names.
//!
//! | words | what |
//! |---|---|
//! | 0 | magic, version, identity (with 13 to 15), creation, level, size, members |
//! | 32 | time, state, counts, checksum, events, how far it is in sync, a reshape |
//! | 64 | layout, chunk size |
//! | 128 | 27 descriptors of 32 words: number, major, minor, place, state |
//! | 992 | the descriptor of this member |
use super::Level;
use uuid::Uuid;

/// Bytes of a superblock.
pub const LEN: usize = 4096;
/// Descriptors of members.
pub const DISKS: usize = 27;
const WORDS: usize = LEN / 4;
const DESCRIPTOR: usize = 32;
const THIS: usize = 992;
const CSUM: usize = 38;

/// The sector at which it is on a device of so many sectors; nothing if that is too short.
pub const fn sector(device: u64) -> Option<u64> {
    match (device & !127).checked_sub(128) {
        Some(at) if device >= 128 => Some(at),
        _ => None,
    }
}

/// Which end of a word comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// As on x86; the only one that Linux takes there, and that is written here.
    Little,
    /// As on older PowerPC, SPARC, S/390.
    Big,
}

/// Why some bytes are no superblock of version 0.90.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No magic number of MD.
    #[error("no MD superblock")]
    Magic,
    /// Not 4 KiB.
    #[error("{0} bytes are too few for an MD superblock of version 0.90")]
    Short(usize),
    /// Of another version.
    #[error("an MD superblock of version {major}.{minor} where one of 0.90 or 0.91 should be")]
    Version {
        /// Its version.
        major: u32,
        /// Its version.
        minor: u32,
    },
    /// The checksum is wrong.
    #[error("the MD superblock's checksum is {found:08x} and should be {wanted:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes give.
        wanted: u32,
    },
}

/// A member, in the table or of itself (`mdp_disk_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number; places first, spares behind.
    pub number: u32,
    /// The block device it was.
    pub major: u32,
    /// The block device it was.
    pub minor: u32,
    /// Its place in the array, for one that has one.
    pub place: u32,
    /// Bits, see the constants.
    pub state: u32,
}

impl Descriptor {
    /// It has failed.
    pub const FAULTY: u32 = 1;
    /// It is in use.
    pub const ACTIVE: u32 = 1 << 1;
    /// It has all the data.
    pub const SYNC: u32 = 1 << 2;
    /// It is no longer there.
    pub const REMOVED: u32 = 1 << 3;
    /// Reads are asked of it only if no other can answer.
    pub const WRITE_MOSTLY: u32 = 1 << 9;

    /// True if it has a place in the array and is whole.
    pub const fn is_active(&self) -> bool {
        let needed = Self::ACTIVE | Self::SYNC;
        self.state & needed == needed && self.state & (Self::FAULTY | Self::REMOVED) == 0
    }
}

/// A reshape that is under way, which makes it version 0.91.
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
    /// The new chunk size in bytes.
    pub chunk: u32,
}

/// What a member says of itself and of the array. It is kept as the words it is made of, so that all we do not know in it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// As it was found.
    pub order: Order,
    words: Box<[u32; WORDS]>,
}

/// Words by name: to read, and to write.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident, $set:ident = $at:expr;)*) => {
        impl Superblock {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> u32 {
                    self.words[$at]
                }
                /// Sets it.
                pub fn $set(&mut self, to: u32) {
                    self.words[$at] = to
                }
            )*
        }
    };
}

words! {
    /// When it was made, in seconds since 1970.
    ctime, set_ctime = 6;
    /// KiB of each member that are used; 0 for linear and RAID-0.
    size_kib, set_size_kib = 8;
    /// Members, spares included.
    nr_disks, set_nr_disks = 9;
    /// Places for members.
    raid_disks, set_raid_disks = 10;
    /// The number of the device it likes to be, `/dev/mdN`.
    md_minor, set_md_minor = 11;
    /// When it was written, in seconds since 1970.
    utime, set_utime = 32;
    /// Bits: [`CLEAN`](Self::CLEAN), [`BITMAP`](Self::BITMAP), …
    state, set_state = 33;
    /// Members that are in use and whole.
    active_disks, set_active_disks = 34;
    /// Members that work.
    working_disks, set_working_disks = 35;
    /// Members that have failed.
    failed_disks, set_failed_disks = 36;
    /// Spares.
    spare_disks, set_spare_disks = 37;
    /// Up to here, in sectors, the array is in sync if it is not clean; all ones for all of it.
    recovery_cp, set_recovery_cp = 43;
    /// How data are laid out; its meaning depends on the level.
    layout, set_layout = 64;
    /// Bytes in a chunk.
    chunk_size, set_chunk_size = 65;
}

impl Superblock {
    /// State: it was stopped with nothing under way.
    pub const CLEAN: u32 = 1;
    /// State: errors.
    pub const ERRORS: u32 = 1 << 1;
    /// State: there may be a bitmap, 4 KiB behind the start of the superblock.
    pub const BITMAP: u32 = 1 << 8;

    /// The order of the bytes, if this is a superblock at all.
    pub fn is_here(bytes: &[u8]) -> Option<Order> {
        let magic = super::v1::MAGIC;
        if bytes.starts_with(&magic.to_le_bytes()) {
            return Some(Order::Little);
        }
        bytes.starts_with(&magic.to_be_bytes()).then_some(Order::Big)
    }

    /// Checks what is at the place of a superblock.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let order = Self::is_here(bytes).ok_or(Error::Magic)?;
        let bytes = bytes.get(..LEN).ok_or(Error::Short(bytes.len()))?;
        let mut words = Box::new([0; WORDS]);
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = match order {
                Order::Little => u32::from_le_bytes(*bytes),
                Order::Big => u32::from_be_bytes(*bytes),
            }
        }
        let new = Self { order, words };
        let (major, minor) = (new.words[1], new.words[2]);
        if major != 0 || !(90..=91).contains(&minor) {
            return Err(Error::Version { major, minor });
        }
        let (found, wanted) = (new.words[CSUM], new.checksum());
        if found != wanted {
            return Err(Error::Checksum { found, wanted });
        }
        Ok(new)
    }

    /// One with nothing in it but an identity and a level, for the caller to fill.
    pub fn new(array: Uuid, level: Level) -> Self {
        let mut new = Self {
            order: Order::Little,
            words: Box::new([0; WORDS]),
        };
        new.words[0] = super::v1::MAGIC;
        new.words[2] = 90;
        new.words[7] = level.number().cast_unsigned();
        new.set_array(array);
        new
    }

    /// What is written at the place of the superblock, with the checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut words = self.words.clone();
        words[CSUM] = self.checksum();
        let bytes = |word: &u32| match self.order {
            Order::Little => word.to_le_bytes(),
            Order::Big => word.to_be_bytes(),
        };
        words.iter().flat_map(bytes).collect()
    }

    /// The sum of all words with the carry added, the field for it taken as zero (`calc_sb_csum`).
    fn checksum(&self) -> u32 {
        let sum: u64 = self.words.iter().map(|word| u64::from(*word)).sum();
        let sum = sum - u64::from(self.words[CSUM]);
        (sum as u32).wrapping_add((sum >> 32) as u32)
    }

    /// The minor version: 90, or 91 while a reshape is under way.
    pub fn minor(&self) -> u32 {
        self.words[2]
    }

    /// Identity of the array, as mdadm shows it: words as numbers, the highest digit first.
    pub fn array(&self) -> Uuid {
        let [a, b, c, d] = [5, 13, 14, 15].map(|at| u128::from(self.words[at]));
        Uuid::from_u128(a << 96 | b << 64 | c << 32 | d)
    }

    /// Sets the identity.
    pub fn set_array(&mut self, array: Uuid) {
        for (at, shift) in [(5, 96), (13, 64), (14, 32), (15, 0)] {
            self.words[at] = (array.as_u128() >> shift) as u32
        }
    }

    /// What it does with its members.
    pub fn level(&self) -> Level {
        Level::from_number(self.words[7].cast_signed())
    }

    /// Numbers of 64 bits lie in the order of the machine too.
    fn wide(&self, at: usize) -> u64 {
        let (low, high) = self.halves(at);
        u64::from(self.words[high]) << 32 | u64::from(self.words[low])
    }

    fn set_wide(&mut self, at: usize, to: u64) {
        let (low, high) = self.halves(at);
        self.words[low] = to as u32;
        self.words[high] = (to >> 32) as u32
    }

    const fn halves(&self, at: usize) -> (usize, usize) {
        match self.order {
            Order::Little => (at, at + 1),
            Order::Big => (at + 1, at),
        }
    }

    /// Counts changes of the array's state. Members that have fewer have missed some.
    pub fn events(&self) -> u64 {
        self.wide(39)
    }

    /// Sets it.
    pub fn set_events(&mut self, to: u64) {
        self.set_wide(39, to)
    }

    /// Events when `recovery_cp` was set: it counts only if these are those.
    pub fn cp_events(&self) -> u64 {
        self.wide(41)
    }

    /// Sets it.
    pub fn set_cp_events(&mut self, to: u64) {
        self.set_wide(41, to)
    }

    /// The reshape that is under way.
    pub fn reshape(&self) -> Option<Reshape> {
        (self.minor() >= 91).then(|| Reshape {
            level: Level::from_number(self.words[46].cast_signed()),
            position: self.wide(44),
            delta_disks: self.words[47].cast_signed(),
            layout: self.words[48],
            chunk: self.words[49],
        })
    }

    fn descriptor(&self, at: usize) -> Descriptor {
        let word = |n| self.words[at + n];
        Descriptor {
            number: word(0),
            major: word(1),
            minor: word(2),
            place: word(3),
            state: word(4),
        }
    }

    fn set_descriptor(&mut self, at: usize, to: Descriptor) {
        self.words[at..at + 5].copy_from_slice(&[to.number, to.major, to.minor, to.place, to.state])
    }

    /// A member of the table; there are [`DISKS`].
    pub fn disk(&self, number: usize) -> Option<Descriptor> {
        (number < DISKS).then(|| self.descriptor(128 + number * DESCRIPTOR))
    }

    /// Sets a member of the table, if there is such a number.
    pub fn set_disk(&mut self, number: usize, to: Descriptor) -> Option<()> {
        (number < DISKS).then(|| self.set_descriptor(128 + number * DESCRIPTOR, to))
    }

    /// This member.
    pub fn this(&self) -> Descriptor {
        self.descriptor(THIS)
    }

    /// Sets this member.
    pub fn set_this(&mut self, to: Descriptor) {
        self.set_descriptor(THIS, to)
    }
}
