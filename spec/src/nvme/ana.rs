//! Asymmetric namespace access: how good the way through a controller is to each group of namespaces
//! (Base 2.0d, 8.1), and the log page that says so (Base 2.0d, 5.16.1.13).
use super::Status;
use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// The state of a group as seen through one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum AnaState {
    /// The best way.
    #[default]
    Optimized = 0x01,
    /// A way.
    NonOptimized = 0x02,
    /// No way for now.
    Inaccessible = 0x03,
    /// No way ever again.
    PersistentLoss = 0x04,
    /// About to be another state; hosts wait up to ANATT for it.
    Change = 0x0f,
}

impl AnaState {
    /// Every state.
    pub const ALL: [AnaState; 5] = [
        Self::Optimized,
        Self::NonOptimized,
        Self::Inaccessible,
        Self::PersistentLoss,
        Self::Change,
    ];

    /// The name control planes use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non_optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent_loss",
            Self::Change => "change",
        }
    }

    /// From that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// From the wire.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == byte & 0xf)
    }

    /// What commands that need the namespace are answered in this state.
    pub fn refusal(self) -> Option<Status> {
        match self {
            Self::Optimized | Self::NonOptimized => None,
            Self::Inaccessible => Some(Status::ANA_INACCESSIBLE),
            Self::PersistentLoss => Some(Status::ANA_PERSISTENT_LOSS),
            Self::Change => Some(Status::ANA_TRANSITION),
        }
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One group in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// ANAGRPID.
    pub id: u32,
    /// The log's change count when this group changed last.
    pub changes: u64,
    /// How good the way is.
    pub state: AnaState,
    /// Its namespaces, ascending; not written if the host asks for groups only.
    pub namespaces: Vec<u32>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    changes: U64,
    groups: U16,
    reserved: [u8; 6],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Descriptor {
    id: U32,
    namespaces: U32,
    changes: U64,
    state: u8,
    reserved: [u8; 15],
}

const _: () = assert!(size_of::<Header>() == 16 && size_of::<Descriptor>() == 32);

/// RGO, bit 0 of the log specific field: no namespace ids, please.
pub const GROUPS_ONLY: u8 = 1;

/// The log page. More than 65,535 groups are not told.
pub fn log(changes: u64, groups: &[Group], groups_only: bool) -> Vec<u8> {
    let groups = &groups[..groups.len().min(u16::MAX.into())];
    let header = Header {
        changes: changes.into(),
        groups: (groups.len() as u16).into(),
        reserved: [0; 6],
    };
    let mut log = header.as_bytes().to_vec();
    for group in groups {
        let namespaces: &[u32] = if groups_only { &[] } else { &group.namespaces };
        let descriptor = Descriptor {
            id: group.id.into(),
            namespaces: (namespaces.len() as u32).into(),
            changes: group.changes.into(),
            state: group.state as u8,
            reserved: [0; 15],
        };
        log.extend_from_slice(descriptor.as_bytes());
        for nsid in namespaces {
            log.extend_from_slice(&nsid.to_le_bytes());
        }
    }
    log
}

/// Reads a log page: its change count and its groups; `None` if it is cut short or names an unknown state.
pub fn parse(log: &[u8]) -> Option<(u64, Vec<Group>)> {
    let (header, mut rest) = Header::ref_from_prefix(log).ok()?;
    let mut groups = Vec::new();
    for _ in 0..header.groups.get() {
        let (descriptor, after) = Descriptor::ref_from_prefix(rest).ok()?;
        let len = (descriptor.namespaces.get() as usize).checked_mul(4)?;
        let (ids, after) = after.split_at_checked(len)?;
        groups.push(Group {
            id: descriptor.id.get(),
            changes: descriptor.changes.get(),
            state: AnaState::of(descriptor.state)?,
            namespaces: ids.as_chunks().0.iter().map(|id| u32::from_le_bytes(*id)).collect(),
        });
        rest = after;
    }
    Some((header.changes.get(), groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_these_bytes_and_comes_back() {
        let groups = [
            Group {
                id: 1,
                changes: 3,
                state: AnaState::Optimized,
                namespaces: vec![1, 7],
            },
            Group {
                id: 2,
                changes: 5,
                state: AnaState::Change,
                namespaces: vec![2],
            },
        ];
        let whole = log(5, &groups, false);
        #[rustfmt::skip]
        assert_eq!(whole[..56], [
            5, 0, 0, 0, 0, 0, 0, 0,  2, 0, 0, 0, 0, 0, 0, 0,
            1, 0, 0, 0,  2, 0, 0, 0,  3, 0, 0, 0, 0, 0, 0, 0,  1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            1, 0, 0, 0,  7, 0, 0, 0,
        ]);
        assert_eq!((whole.len(), whole[72]), (16 + 32 + 8 + 32 + 4, 0x0f));
        assert_eq!(parse(&whole), Some((5, groups.to_vec())));
        let short = log(5, &groups, true);
        assert_eq!(short.len(), 16 + 64);
        assert!(parse(&short).is_some_and(|(_, groups)| groups.iter().all(|g| g.namespaces.is_empty())));
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), None);
        }
    }

    #[test]
    fn every_state_has_a_name_and_a_code() {
        for state in AnaState::ALL {
            assert_eq!(AnaState::parse(state.name()), Some(state));
            assert_eq!(AnaState::of(state as u8), Some(state));
        }
        assert_eq!((AnaState::of(5), AnaState::parse("good")), (None, None));
    }
}
