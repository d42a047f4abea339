//! Log pages (Base 2.0d, 5.16).
use super::{Sqe, Status};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// Log identifiers.
pub mod page {
    #![allow(missing_docs)]
    pub const SUPPORTED: u8 = 0x00;
    pub const ERRORS: u8 = 0x01;
    pub const HEALTH: u8 = 0x02;
    pub const FIRMWARE: u8 = 0x03;
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    pub const COMMAND_EFFECTS: u8 = 0x05;
    pub const ANA: u8 = 0x0c;
    pub const FEATURE_EFFECTS: u8 = 0x12;
    pub const DISCOVERY: u8 = 0x70;
    pub const RESERVATION: u8 = 0x80;
}

/// What a Get Log Page asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLogPage {
    /// LID.
    pub page: u8,
    /// LSP.
    pub specific: u8,
    /// RAE: reading does not clear the event.
    pub retain: bool,
    /// NUMD as a byte count.
    pub len: u64,
    /// LPO.
    pub offset: u64,
    /// OT: the offset counts entries instead of bytes.
    pub index: bool,
    /// CSI.
    pub command_set: u8,
}

impl GetLogPage {
    /// Reads the command.
    pub fn of(sqe: &Sqe) -> Self {
        let (d10, d11) = (sqe.cdw1(0), sqe.cdw1(1));
        let dwords = u64::from(d10 >> 16 | (d11 & 0xffff) << 16) + 1;
        Self {
            page: d10 as u8,
            specific: (d10 >> 8 & 0x7f) as u8,
            retain: d10 >> 15 & 1 != 0,
            len: dwords * 4,
            offset: u64::from(sqe.cdw1(2)) | u64::from(sqe.cdw1(3)) << 32,
            index: sqe.cdw1(4) >> 23 & 1 != 0,
            command_set: (sqe.cdw1(4) >> 24) as u8,
        }
    }

    /// Fills CDW10 to CDW14 of `sqe`. `len` must be a multiple of four.
    pub fn put(self, sqe: Sqe) -> Sqe {
        let numd = (self.len / 4).wrapping_sub(1) as u32;
        sqe.with_cdw1(
            0,
            u32::from(self.page) | u32::from(self.specific & 0x7f) << 8 | u32::from(self.retain) << 15 | numd << 16,
        )
        .with_cdw1(1, numd >> 16)
        .with_cdw1(2, self.offset as u32)
        .with_cdw1(3, (self.offset >> 32) as u32)
        .with_cdw1(4, u32::from(self.index) << 23 | u32::from(self.command_set) << 24)
    }
}

/// One entry of the error log (Base 2.0d, figure 206).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ErrorEntry {
    /// Counts errors since the controller came to be; 0 marks an unused entry.
    pub count: U64,
    /// SQID.
    pub sqid: U16,
    /// CID; FFFFh if no command is to blame.
    pub cid: U16,
    /// Status as in the completion, phase bit and all.
    pub status: U16,
    /// Byte and bit of the offending parameter; FFFFh when unknown.
    pub parameter: U16,
    /// First LBA that failed.
    pub lba: U64,
    /// NSID.
    pub nsid: U32,
    /// Vendor specific information available; always 0.
    pub vendor: u8,
    /// TRTYPE: 3 for TCP.
    pub transport: u8,
    reserved30: [u8; 2],
    /// Command specific information.
    pub specific: U64,
    reserved40: [u8; 24],
}

const _: () = assert!(size_of::<ErrorEntry>() == 64);

impl ErrorEntry {
    /// An entry about a command that failed on queue `sqid`.
    pub fn new(count: u64, sqid: u16, sqe: &Sqe, status: Status, lba: u64) -> Self {
        Self {
            count: count.into(),
            sqid: sqid.into(),
            cid: sqe.cid,
            status: status.wire().into(),
            parameter: 0xffff.into(),
            lba: lba.into(),
            nsid: sqe.nsid,
            transport: 3,
            ..Self::default()
        }
    }
}

/// SMART / Health Information (Base 2.0d, figure 207).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Health {
    pub critical_warning: u8,
    /// Kelvin; 0 where nothing measures it.
    pub temperature: U16,
    pub spare: u8,
    pub spare_threshold: u8,
    pub percentage_used: u8,
    pub endurance: u8,
    pub reserved7: [u8; 25],
    /// Thousands of 512-byte units, rounded up.
    pub units_read: U128,
    pub units_written: U128,
    pub host_reads: U128,
    pub host_writes: U128,
    /// Minutes.
    pub busy_time: U128,
    pub power_cycles: U128,
    pub power_on_hours: U128,
    pub unsafe_shutdowns: U128,
    pub media_errors: U128,
    pub error_entries: U128,
    pub warning_minutes: U32,
    pub critical_minutes: U32,
    pub reserved200: [u8; 312],
}

const _: () = assert!(size_of::<Health>() == 512);

impl Default for Health {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Firmware Slot Information (Base 2.0d, figure 208): one slot, active.
pub fn firmware_slot(revision: [u8; 8]) -> [u8; 512] {
    let mut log = [0; 512];
    log[0] = 1;
    log[8..16].copy_from_slice(&revision);
    log
}

/// Command effects (Base 2.0d, figure 210): the command is there.
pub const EFFECT_SUPPORTED: u32 = 1;
/// Command effects: the command changes user data.
pub const EFFECT_CHANGES_DATA: u32 = 1 << 1;

/// Commands Supported and Effects: 4,096 bytes, a word for each admin opcode, then one for each I/O opcode.
pub fn command_effects(admin: &[(u8, u32)], io: &[(u8, u32)]) -> [u8; 4096] {
    let mut log = [0; 4096];
    for (base, commands) in [(0, admin), (1024, io)] {
        for &(opcode, effects) in commands {
            let at = base + usize::from(opcode) * 4;
            log[at..at + 4].copy_from_slice(&effects.to_le_bytes());
        }
    }
    log
}

/// Supported Log Pages and Feature Identifiers Effects have one shape: 256 words indexed by identifier.
pub fn by_identifier(entries: &[(u8, u32)]) -> [u8; 1024] {
    let mut log = [0; 1024];
    for &(id, word) in entries {
        let at = usize::from(id) * 4;
        log[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    log
}

/// Feature effects (Base 2.0d, figure 258): supported, scope is the controller.
pub const FEATURE_SUPPORTED: u32 = 1 | 1 << 21;
/// Feature effects: supported, scope is the namespace.
pub const FEATURE_OF_NAMESPACE: u32 = 1 | 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::command::admin;

    #[test]
    fn a_request_round_trips_with_its_upper_half() {
        let ask = GetLogPage {
            page: 0x70,
            specific: 1,
            retain: true,
            len: 0x4_0008,
            offset: 0x1_0000_0400,
            index: false,
            command_set: 0,
        };
        let sqe = ask.put(Sqe::new(admin::GET_LOG_PAGE, 1, 0));
        assert_eq!(
            sqe.as_bytes()[40..56],
            [0x70, 0x81, 1, 0, 1, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0]
        );
        assert_eq!(GetLogPage::of(&sqe), ask);
    }

    #[test]
    fn an_error_entry_has_these_bytes() {
        let entry = ErrorEntry::new(5, 2, &Sqe::new(2, 0x0a0b, 7), Status::LBA_OUT_OF_RANGE, 0x99);
        assert_eq!(
            entry.as_bytes()[..32],
            [
                5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x0b, 0x0a, 0, 0x81, 255, 255, 0x99, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0,
                3, 0, 0
            ]
        );
    }

    #[test]
    fn tables_are_indexed_by_identifier() {
        let log = command_effects(&[(6, 1)], &[(1, 3)]);
        assert_eq!((log[24], log[1028]), (1, 3));
        assert_eq!(by_identifier(&[(0x12, 1)])[72], 1);
        assert_eq!(firmware_slot(*b"0.1.0   ")[..10], [1, 0, 0, 0, 0, 0, 0, 0, b'0', b'.']);
    }
}
