//! Reservations on the wire: what the four commands ask, and the status data structure (Base 2.0d, 7.5 to 7.8, 8.19).
use super::Sqe;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// Who may do what while a host holds a namespace (RTYPE; Base 2.0d, figure 429).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum ReservationType {
    WriteExclusive = 1,
    ExclusiveAccess = 2,
    WriteExclusiveRegistrantsOnly = 3,
    ExclusiveAccessRegistrantsOnly = 4,
    WriteExclusiveAllRegistrants = 5,
    ExclusiveAccessAllRegistrants = 6,
}

impl ReservationType {
    /// Every type.
    pub const ALL: [ReservationType; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// From the wire.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteExclusive => "write_exclusive",
            Self::ExclusiveAccess => "exclusive_access",
            Self::WriteExclusiveRegistrantsOnly => "write_exclusive_registrants_only",
            Self::ExclusiveAccessRegistrantsOnly => "exclusive_access_registrants_only",
            Self::WriteExclusiveAllRegistrants => "write_exclusive_all_registrants",
            Self::ExclusiveAccessAllRegistrants => "exclusive_access_all_registrants",
        }
    }

    /// Every registrant is a holder.
    pub fn all_registrants(self) -> bool {
        self as u8 >= 5
    }

    /// Registrants may do what the holder may.
    pub fn registrants_may(self) -> bool {
        self as u8 >= 3
    }

    /// Others may read.
    pub fn others_may_read(self) -> bool {
        self as u8 % 2 == 1
    }
}

/// What a Reservation Register asks (RREGA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RegisterAction {
    Register,
    Unregister,
    Replace,
}

/// Reservation Register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// RREGA.
    pub action: RegisterAction,
    /// IEKEY: the current key is not looked at.
    pub ignore_key: bool,
    /// CPTPL: whether reservations survive a power loss from now on; `None` leaves it.
    pub persist: Option<bool>,
}

impl Register {
    /// Reads CDW10; `None` for reserved values.
    pub fn of(sqe: &Sqe) -> Option<Self> {
        let word = sqe.cdw1(0);
        Some(Self {
            action: match word & 7 {
                0 => RegisterAction::Register,
                1 => RegisterAction::Unregister,
                2 => RegisterAction::Replace,
                _ => return None,
            },
            ignore_key: word & 8 != 0,
            persist: match word >> 30 {
                0 => None,
                2 => Some(false),
                3 => Some(true),
                _ => return None,
            },
        })
    }
}

/// What a Reservation Acquire asks (RACQA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AcquireAction {
    Acquire,
    Preempt,
    PreemptAndAbort,
}

/// Reservation Acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// RACQA.
    pub action: AcquireAction,
    /// RTYPE.
    pub kind: ReservationType,
}

impl Acquire {
    /// Reads CDW10; `None` for reserved values, and for IEKEY, which must be zero here.
    pub fn of(sqe: &Sqe) -> Option<Self> {
        let word = sqe.cdw1(0);
        let action = match word & 0xf {
            0 => AcquireAction::Acquire,
            1 => AcquireAction::Preempt,
            2 => AcquireAction::PreemptAndAbort,
            _ => return None,
        };
        let kind = ReservationType::of((word >> 8) as u8)?;
        Some(Self { action, kind })
    }
}

/// Reservation Release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Gives the reservation of this type up.
    Release(Option<ReservationType>),
    /// Removes the reservation and every registration.
    Clear,
}

impl Release {
    /// Reads CDW10; `None` for reserved values, and for IEKEY, which must be zero here.
    pub fn of(sqe: &Sqe) -> Option<Self> {
        let word = sqe.cdw1(0);
        match word & 0xf {
            0 => Some(Self::Release(ReservationType::of((word >> 8) as u8))),
            1 => Some(Self::Clear),
            _ => None,
        }
    }
}

/// The data of Register and Acquire: CRKEY, then NRKEY or PRKEY. Release sends the first only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Keys {
    /// CRKEY: the host's key.
    pub current: U64,
    /// NRKEY: its new one; or PRKEY: the one to be preempted.
    pub other: U64,
}

/// EDS of Reservation Report: registrants are told with 16-byte host identifiers, which fabrics hosts have.
pub fn wants_extended(sqe: &Sqe) -> bool {
    sqe.cdw1(1) & 1 != 0
}

/// Bytes a Reservation Report has room for.
pub fn report_room(sqe: &Sqe) -> u64 {
    (u64::from(sqe.cdw1(0)) + 1) * 4
}

/// One registered controller of the extended status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Registered {
    /// CNTLID; FFFFh if the host has no controller now.
    pub cntlid: U16,
    /// RCSTS bit 0: its host holds the reservation.
    pub holds: u8,
    reserved3: [u8; 5],
    /// RKEY.
    pub key: U64,
    /// Host identifier.
    pub hostid: [u8; 16],
    reserved32: [u8; 32],
}

impl Registered {
    /// A registrant's controller.
    pub fn new(cntlid: u16, holds: bool, key: u64, hostid: [u8; 16]) -> Self {
        Self {
            cntlid: cntlid.into(),
            holds: holds.into(),
            reserved3: [0; 5],
            key: key.into(),
            hostid,
            reserved32: [0; 32],
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    generation: U32,
    kind: u8,
    registered: U16,
    reserved7: [u8; 2],
    persists: u8,
    reserved10: [u8; 54],
}

const _: () = assert!(size_of::<Header>() == 64 && size_of::<Registered>() == 64);

/// The extended Reservation Status (Base 2.0d, figure 432).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// GEN: counts changes of registrations.
    pub generation: u32,
    /// RTYPE; `None` while nobody holds it.
    pub kind: Option<ReservationType>,
    /// PTPLS.
    pub persists: bool,
    /// Registered controllers; more than 65,535 are not told.
    pub registered: Vec<Registered>,
}

impl Report {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let told = &self.registered[..self.registered.len().min(u16::MAX.into())];
        let header = Header {
            generation: self.generation.into(),
            kind: self.kind.map_or(0, |kind| kind as u8),
            registered: (told.len() as u16).into(),
            reserved7: [0; 2],
            persists: self.persists.into(),
            reserved10: [0; 54],
        };
        let mut bytes = header.as_bytes().to_vec();
        told.iter().for_each(|r| bytes.extend_from_slice(r.as_bytes()));
        bytes
    }

    /// Reads them back; `None` if they are cut short.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = Header::ref_from_prefix(bytes).ok()?;
        let count = usize::from(header.registered.get());
        let (registered, _) = <[Registered]>::ref_from_prefix_with_elems(rest, count).ok()?;
        Some(Self {
            generation: header.generation.get(),
            kind: ReservationType::of(header.kind),
            persists: header.persists != 0,
            registered: registered.to_vec(),
        })
    }
}

/// What a host that lost something is told (Base 2.0d, 5.16.1.24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Notice {
    RegistrationPreempted = 1,
    ReservationReleased = 2,
    ReservationPreempted = 3,
}

impl Notice {
    /// Its bit in the Reservation Notification Mask feature: set, the host does not want it.
    pub fn mask(self) -> u32 {
        1 << self as u8
    }
}

/// The Reservation Notification log page: the oldest notice; `left` more wait behind it. `None` says there is none.
pub fn notification(count: u64, notice: Option<(Notice, u32)>, left: usize) -> [u8; 64] {
    let mut log = [0; 64];
    log[..8].copy_from_slice(&count.to_le_bytes());
    if let Some((notice, nsid)) = notice {
        log[8] = notice as u8;
        log[9] = left.min(255) as u8;
        log[12..16].copy_from_slice(&nsid.to_le_bytes());
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::command::io;

    fn sqe(word: u32) -> Sqe {
        Sqe::new(io::RESERVATION_ACQUIRE, 1, 1).with_cdw1(0, word)
    }

    #[test]
    fn commands_are_read_and_reserved_values_are_not() {
        assert_eq!(
            Register::of(&sqe(0xc000_000a)),
            Some(Register {
                action: RegisterAction::Replace,
                ignore_key: true,
                persist: Some(true)
            })
        );
        assert_eq!((Register::of(&sqe(3)), Register::of(&sqe(0x4000_0000))), (None, None));
        assert_eq!(
            Acquire::of(&sqe(0x0602)),
            Some(Acquire {
                action: AcquireAction::PreemptAndAbort,
                kind: ReservationType::ExclusiveAccessAllRegistrants
            })
        );
        for bad in [0x0003, 0x0108, 0x0000, 0x0700] {
            assert_eq!(Acquire::of(&sqe(bad)), None, "{bad:x}");
        }
        assert_eq!(Release::of(&sqe(1)), Some(Release::Clear));
        assert_eq!(
            Release::of(&sqe(0x0100)),
            Some(Release::Release(Some(ReservationType::WriteExclusive)))
        );
        assert_eq!(Release::of(&sqe(2)), None);
    }

    #[test]
    fn a_report_has_these_bytes_and_comes_back() {
        let report = Report {
            generation: 0x0102,
            kind: Some(ReservationType::WriteExclusiveRegistrantsOnly),
            persists: true,
            registered: vec![Registered::new(0x1234, true, 0xabcd, [7; 16])],
        };
        let bytes = report.encode();
        assert_eq!(bytes.len(), 128);
        assert_eq!(bytes[..10], [2, 1, 0, 0, 3, 1, 0, 0, 0, 1]);
        assert_eq!(bytes[64..76], [0x34, 0x12, 1, 0, 0, 0, 0, 0, 0xcd, 0xab, 0, 0]);
        assert_eq!(bytes[80..96], [7; 16]);
        assert_eq!(Report::parse(&bytes), Some(report));
        assert_eq!(Report::parse(&bytes[..127]), None);
    }

    #[test]
    fn a_notification_has_these_bytes() {
        let log = notification(9, Some((Notice::ReservationReleased, 0x0506)), 300);
        assert_eq!(log[..16], [9, 0, 0, 0, 0, 0, 0, 0, 2, 255, 0, 0, 6, 5, 0, 0]);
        assert_eq!(notification(9, None, 0)[8..], [0; 56]);
        assert_eq!(Notice::ReservationPreempted.mask(), 8);
    }
}
