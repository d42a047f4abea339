//! A member's superblock of whichever version: what it says of the array, and how it is changed while the array runs.
use super::{
    Level,
    v0::{self, Descriptor},
    v1::{self, Features, Minor, Role, Time},
};
use std::fmt;
use uuid::Uuid;

/// Which version, and for 1 where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 0.90, or 0.91 during a reshape.
    V0,
    /// 1.0, 1.1 or 1.2.
    V1(Minor),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::V0 => f.write_str("0.90"),
            Version::V1(minor) => minor.fmt(f),
        }
    }
}

/// A superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Superblock {
    /// Of version 0.90.
    V0(v0::Superblock),
    /// Of version 1.
    V1(Box<v1::Superblock>),
}

/// Why some bytes are no superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Of version 0.90.
    #[error(transparent)]
    V0(v0::Error),
    /// Of version 1.
    #[error(transparent)]
    V1(v1::Error),
}

/// How things stand with a member, as superblocks have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds what it should.
    InSync,
    /// It is being rebuilt, and is right before this sector of its data.
    Rebuilding(u64),
    /// It was away, and is right before this sector of its data, and wherever the bitmap has noted nothing.
    Returning(u64),
    /// It failed, and comes back only if somebody asks for it.
    Failed,
    /// There is none: it has gone away and may come back.
    Missing,
}

/// How things stand with an array that runs.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Count of changes.
    pub events: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// Writes may be under way.
    pub dirty: bool,
    /// Members are alike before this sector; all ones if everywhere.
    pub in_sync_to: u64,
    /// By their places: the number of the member that has it, if that is known, and how it stands with it. Behind them, in the same order, those that replace
    /// them, if there are any; 0.90 has no word for these.
    pub members: &'a [(Option<u32>, Standing)],
    /// Where the member stands in that whose superblock this is.
    pub this: usize,
    /// Read errors of it that were mended.
    pub corrected: u32,
}

impl Superblock {
    /// Of either version, as the bytes say.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        match v1::Superblock::parse(bytes) {
            Ok(superblock) => Ok(Self::V1(Box::new(superblock))),
            Err(v1::Error::Version(0) | v1::Error::Magic) => match v0::Superblock::parse(bytes) {
                Ok(superblock) => Ok(Self::V0(superblock)),
                Err(error) => Err(Error::V0(error)),
            },
            Err(error) => Err(Error::V1(error)),
        }
    }

    /// What is written at its place.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::V0(superblock) => Some(superblock.to_bytes()),
            Self::V1(superblock) => superblock.to_bytes(),
        }
    }

    /// Identity of the array.
    pub fn array(&self) -> Uuid {
        match self {
            Self::V0(superblock) => superblock.array(),
            Self::V1(superblock) => superblock.array,
        }
    }

    /// What it does with its members.
    pub fn level(&self) -> Level {
        match self {
            Self::V0(superblock) => superblock.level(),
            Self::V1(superblock) => superblock.level,
        }
    }

    /// MD's number of how it does that.
    pub fn layout(&self) -> u32 {
        match self {
            Self::V0(superblock) => superblock.layout(),
            Self::V1(superblock) => superblock.layout,
        }
    }

    /// Sectors in a chunk.
    pub fn chunk(&self) -> u32 {
        match self {
            Self::V0(superblock) => superblock.chunk_size() / 512,
            Self::V1(superblock) => superblock.chunk,
        }
    }

    /// Sectors of each member that are used; 0 for linear and RAID-0.
    pub fn size(&self) -> u64 {
        match self {
            Self::V0(superblock) => u64::from(superblock.size_kib()) * 2,
            Self::V1(superblock) => superblock.size,
        }
    }

    /// Places for members.
    pub fn raid_disks(&self) -> u32 {
        match self {
            Self::V0(superblock) => superblock.raid_disks(),
            Self::V1(superblock) => superblock.raid_disks,
        }
    }

    /// Count of changes.
    pub fn events(&self) -> u64 {
        match self {
            Self::V0(superblock) => superblock.events(),
            Self::V1(superblock) => superblock.events,
        }
    }

    /// When it was written, in seconds since 1970.
    pub fn utime(&self) -> u64 {
        match self {
            Self::V0(superblock) => superblock.utime().into(),
            Self::V1(superblock) => superblock.utime.seconds(),
        }
    }

    /// This member's number.
    pub fn number(&self) -> u32 {
        match self {
            Self::V0(superblock) => superblock.this().number,
            Self::V1(superblock) => superblock.number,
        }
    }

    /// Identity of this member; 0.90 has none.
    pub fn device(&self) -> Option<Uuid> {
        match self {
            Self::V0(_) => None,
            Self::V1(superblock) => Some(superblock.device),
        }
    }

    /// The name of the host it is at home on, and its name.
    pub fn name(&self) -> (Option<String>, String) {
        match self {
            Self::V0(superblock) => (None, superblock.md_minor().to_string()),
            Self::V1(superblock) => superblock.name(),
        }
    }

    /// What the member of a number is; nothing if there is no such number.
    pub fn role_of(&self, number: u32) -> Option<Role> {
        match self {
            Self::V0(superblock) => {
                let known = superblock.disk(number as usize)?;
                Some(match known.state {
                    state if state & (Descriptor::FAULTY | Descriptor::REMOVED) != 0 => Role::Faulty,
                    state if state & Descriptor::ACTIVE != 0 => Role::from_number(known.place.min(0xff00) as u16),
                    _ => Role::Spare,
                })
            }
            Self::V1(superblock) => superblock.roles.get(number as usize).copied(),
        }
    }

    /// Places that have a member, as far as this superblock knows.
    pub fn active(&self) -> Vec<u16> {
        let roles: Vec<Role> = match self {
            Self::V0(_) => (0..v0::DISKS as u32)
                .filter_map(|number| self.role_of(number))
                .collect(),
            Self::V1(superblock) => superblock.roles.clone(),
        };
        let place = |role| match role {
            Role::Active(place) => Some(place),
            _ => None,
        };
        roles.into_iter().filter_map(place).collect()
    }

    /// Where this member's data begin, in sectors.
    pub fn data_offset(&self) -> u64 {
        match self {
            Self::V0(_) => 0,
            Self::V1(superblock) => superblock.data_offset,
        }
    }

    /// Up to which sector of its data this member is right, if it is being rebuilt.
    pub fn recovered_to(&self) -> Option<u64> {
        match self {
            Self::V0(_) => None,
            Self::V1(superblock) => superblock
                .features
                .has(Features::RECOVERY)
                .then_some(superblock.recovery_offset),
        }
    }

    /// It is brought up to date where the bitmap says, and not from one end to the other.
    pub fn is_returning(&self) -> bool {
        matches!(self, Self::V1(superblock) if superblock.features.has(Features::RECOVERY_BITMAP))
    }

    /// It replaces the member that has its place, and has not all of what that holds.
    pub fn is_replacement(&self) -> bool {
        matches!(self, Self::V1(superblock) if superblock.features.has(Features::REPLACEMENT))
    }

    /// It asks to be taken back: it holds all that the array had at its event count. Linux takes no notice of it.
    pub fn asks(&self) -> bool {
        self.is_returning() && self.recovered_to().is_none()
    }

    /// Says for the member, after somebody has said that it is to come back, that it [`asks`](Self::asks). 0.90 has no word for it.
    pub fn ask(&mut self) {
        if let Self::V1(superblock) = self {
            superblock.features.set(Features::RECOVERY, false);
            superblock.features.set(Features::RECOVERY_BITMAP, true);
            superblock.recovery_offset = 0
        }
    }

    /// How it stands with a member of a place by its own account.
    pub fn standing(&self) -> Standing {
        match self.recovered_to() {
            None => Standing::InSync,
            Some(to) if self.is_returning() => Standing::Returning(to),
            Some(to) => Standing::Rebuilding(to),
        }
    }

    /// What all members say alike is taken from another; what is this member's own stays. For one that was away while it changed.
    pub fn adopt(&mut self, other: &Superblock) {
        match (self, other) {
            (Self::V1(own), Self::V1(other)) => own.adopt(other),
            (Self::V0(own), Self::V0(other)) => {
                let this = own.this();
                *own = other.clone();
                own.set_this(this)
            }
            // Members of one array are of one version.
            _ => (),
        }
    }

    /// Each member gives so many sectors from now on, and this one has room for so many. 0.90 is left as it is.
    pub fn grow(&mut self, size: u64, room: u64) {
        if let Self::V1(superblock) = self {
            superblock.size = size;
            superblock.data_size = room
        }
    }

    /// Members are alike before this sector; all ones if everywhere.
    pub fn in_sync_to(&self) -> u64 {
        match self {
            Self::V0(superblock) if superblock.state() & v0::Superblock::CLEAN != 0 => u64::MAX,
            Self::V0(superblock) if superblock.cp_events() == superblock.events() => match superblock.recovery_cp() {
                u32::MAX => u64::MAX,
                sector => sector.into(),
            },
            Self::V0(_) => 0,
            Self::V1(superblock) => superblock.resync_offset,
        }
    }

    /// Reads are asked of this member only if no other can answer.
    pub fn write_mostly(&self) -> bool {
        match self {
            Self::V0(superblock) => superblock.this().state & Descriptor::WRITE_MOSTLY != 0,
            Self::V1(superblock) => superblock.flags & v1::WRITE_MOSTLY != 0,
        }
    }

    /// Where the bitmap is, in sectors from the superblock.
    pub fn bitmap_offset(&self) -> Option<i32> {
        match self {
            Self::V0(superblock) => (superblock.state() & v0::Superblock::BITMAP != 0).then_some(8),
            Self::V1(superblock) => superblock.bitmap_offset(),
        }
    }

    /// Why such an array must not be used here, if so.
    pub fn hindrance(&self) -> Option<String> {
        match self {
            Self::V0(superblock) => superblock.reshape().map(|_| "a reshape is under way".to_owned()),
            Self::V1(superblock) => {
                let features = superblock.features;
                let unknown = features.unknown();
                if unknown != 0 {
                    return Some(format!("it has features that are not known here ({unknown:#x})"));
                }
                if features.has(Features::RESHAPE) {
                    return Some("a reshape is under way".to_owned());
                }
                if features.has(Features::CLUSTERED) {
                    return Some("it belongs to a cluster".to_owned());
                }
                features
                    .has(Features::JOURNAL)
                    .then(|| "it has a journal, which is not replayed here".to_owned())
            }
        }
    }

    /// Whether there is anything in its bad-block log, which counts sectors.
    pub fn set_bad_blocks(&mut self, any: bool) {
        if let Self::V1(own) = self {
            own.features.set(Features::BAD_BLOCKS, any);
            own.bad_blocks.shift = 0
        }
    }

    /// What changes while an array runs. The rest stays as it is.
    pub fn update(&mut self, update: &Update<'_>) {
        match self {
            Self::V0(superblock) => update_v0(superblock, update),
            Self::V1(superblock) => update_v1(superblock, update),
        }
    }
}

/// What a member with a place is called.
fn role(place: usize, standing: Standing) -> Role {
    match standing {
        // Places are u16 in every shape.
        Standing::InSync | Standing::Rebuilding(_) | Standing::Returning(_) => Role::Active(place as u16),
        Standing::Failed => Role::Faulty,
        Standing::Missing => Role::Spare,
    }
}

fn update_v1(superblock: &mut v1::Superblock, update: &Update<'_>) {
    superblock.events = update.events;
    superblock.utime = Time::from_seconds(update.time);
    superblock.resync_offset = if update.dirty { 0 } else { update.in_sync_to };
    let places = update.members.len().min(superblock.raid_disks as usize);
    let (members, replacements) = update.members.split_at(places);
    for (place, (number, standing)) in members.iter().enumerate() {
        // Whoever had the place before has it no more. MD calls those that have gone away what it calls spares, and those that failed faulty.
        let before = match standing {
            Standing::Missing => Role::Spare,
            _ => Role::Faulty,
        };
        for (other, role) in superblock.roles.iter_mut().enumerate() {
            if Some(other as u32) != *number && *role == Role::Active(place as u16) {
                *role = before
            }
        }
        let Some(known) = number.and_then(|number| superblock.roles.get_mut(number as usize)) else {
            continue;
        };
        *known = role(place, *standing)
    }
    // They have the role of those whom they replace.
    for (place, (number, standing)) in replacements.iter().enumerate() {
        if let Some(known) = number.and_then(|number| superblock.roles.get_mut(number as usize)) {
            *known = role(place, *standing)
        }
    }
    let this = update.members.get(update.this).map(|(_, standing)| *standing);
    let rebuilt = match this {
        Some(Standing::Rebuilding(to) | Standing::Returning(to)) => Some(to),
        _ => None,
    };
    let returns = matches!(this, Some(Standing::Returning(_)));
    superblock.features.set(Features::RECOVERY, rebuilt.is_some());
    superblock.features.set(Features::RECOVERY_BITMAP, returns);
    // Whoever has a place has it for itself.
    superblock.features.set(Features::REPLACEMENT, update.this >= places);
    superblock.recovery_offset = rebuilt.unwrap_or(0);
    superblock.corrected_reads = superblock.corrected_reads.max(update.corrected)
}

/// As `super_90_sync`: members that are whole are numbered by their places, those that are rebuilt come behind as spares.
fn update_v0(superblock: &mut v0::Superblock, update: &Update<'_>) {
    superblock.set_events(update.events);
    superblock.set_utime(update.time as u32);
    let in_sync = !update.dirty && update.in_sync_to == u64::MAX;
    let kept = superblock.state() & !v0::Superblock::CLEAN;
    superblock.set_state(if in_sync { kept | v0::Superblock::CLEAN } else { kept });
    superblock.set_cp_events(update.events);
    superblock.set_recovery_cp(match update.dirty {
        true => 0,
        false => u32::try_from(update.in_sync_to).unwrap_or(u32::MAX),
    });
    let places = update.members.len().min(superblock.raid_disks() as usize);
    let old: Vec<Descriptor> = (0..v0::DISKS).filter_map(|number| superblock.disk(number)).collect();
    let device = |number: Option<u32>| {
        number
            .and_then(|number| old.get(number as usize))
            .copied()
            .unwrap_or_default()
    };
    let (mut active, mut failed, mut spares) = (0, 0, 0);
    let mut this = superblock.this();
    for (place, (number, standing)) in update.members.iter().take(places).enumerate() {
        let known = device(*number);
        let here = |number: usize, state: u32| Descriptor {
            number: number as u32,
            place: place as u32,
            state: state | known.state & Descriptor::WRITE_MOSTLY,
            ..known
        };
        let gone = Descriptor {
            number: place as u32,
            place: place as u32,
            state: Descriptor::REMOVED | Descriptor::FAULTY,
            ..Descriptor::default()
        };
        let (at, new) = match standing {
            Standing::InSync => {
                active += 1;
                (place, here(place, Descriptor::ACTIVE | Descriptor::SYNC))
            }
            Standing::Rebuilding(_) | Standing::Returning(_) => {
                superblock.set_disk(place, gone);
                let at = places + spares;
                spares += 1;
                (at, here(at, 0))
            }
            Standing::Failed | Standing::Missing => {
                failed += 1;
                (place, gone)
            }
        };
        superblock.set_disk(at, new);
        if place == update.this {
            this = new
        }
    }
    superblock.set_this(this);
    superblock.set_active_disks(active);
    superblock.set_working_disks(active + spares as u32);
    superblock.set_failed_disks(failed);
    superblock.set_spare_disks(spares as u32);
    superblock.set_nr_disks(active + spares as u32)
}
