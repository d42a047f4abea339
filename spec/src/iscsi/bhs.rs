//! The basic header segment of every PDU (RFC 7143 section 11), as structs laid over its 48 bytes.
//!
//! ```text
//!  0 opcode (I bit 0x40)   1 flags (F bit 0x80)   4 AHS length (words)   5..8 data length
//!  8 LUN or opcode-specific (8)                  16 initiator task tag
//! 20 target transfer tag or opcode-specific      24 CmdSN / StatSN  28 ExpStatSN / ExpCmdSN  32 … / MaxCmdSN
//! ```
//! Every bit pattern is a valid value of every struct, so laying one over the bytes cannot fail; what the bits mean is
//! for the session to judge.
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::big_endian::{U16, U32},
};

/// Bytes in a basic header segment.
pub const BHS_LEN: usize = 48;
/// The tag that stands for no tag.
pub const NO_TAG: u32 = 0xffff_ffff;

/// Operation codes, both directions (RFC 7143 11.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum Opcode {
    NopOut = 0x00,
    ScsiCommand = 0x01,
    TaskRequest = 0x02,
    LoginRequest = 0x03,
    TextRequest = 0x04,
    DataOut = 0x05,
    LogoutRequest = 0x06,
    Snack = 0x10,
    NopIn = 0x20,
    ScsiResponse = 0x21,
    TaskResponse = 0x22,
    LoginResponse = 0x23,
    TextResponse = 0x24,
    DataIn = 0x25,
    LogoutResponse = 0x26,
    R2t = 0x31,
    Async = 0x32,
    Reject = 0x3f,
}

/// The F bit: last PDU of its sequence.
pub const FINAL: u8 = 0x80;
/// The I bit: for immediate delivery.
pub const IMMEDIATE: u8 = 0x40;

/// Any header, before it is known which one.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Bhs {
    /// Operation code and I bit.
    pub opcode: u8,
    /// F bit and flags.
    pub flags: u8,
    /// Depends on the operation code.
    pub specific: [u8; 2],
    /// Additional header segments, in words.
    pub total_ahs_len: u8,
    /// Data segment, in bytes without padding.
    pub data_segment_len: [u8; 3],
    /// LUN, or depends on the operation code.
    pub lun: [u8; 8],
    /// Initiator task tag.
    pub itt: U32,
    /// Depends on the operation code.
    pub rest: [u8; 28],
}

/// A struct that lies over the 48 bytes.
pub trait Pdu: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {}

impl Bhs {
    /// The header at the start of `bytes`, and what follows it.
    pub fn split(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// Without the I bit. `None` if nobody uses the code.
    pub fn opcode(&self) -> Option<Opcode> {
        use Opcode::*;
        Some(match self.opcode & 0x3f {
            0x00 => NopOut,
            0x01 => ScsiCommand,
            0x02 => TaskRequest,
            0x03 => LoginRequest,
            0x04 => TextRequest,
            0x05 => DataOut,
            0x06 => LogoutRequest,
            0x10 => Snack,
            0x20 => NopIn,
            0x21 => ScsiResponse,
            0x22 => TaskResponse,
            0x23 => LoginResponse,
            0x24 => TextResponse,
            0x25 => DataIn,
            0x26 => LogoutResponse,
            0x31 => R2t,
            0x32 => Async,
            0x3f => Reject,
            _ => return None,
        })
    }

    /// For immediate delivery: outside the CmdSN window.
    pub fn is_immediate(&self) -> bool {
        self.opcode & IMMEDIATE != 0
    }

    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// Bytes of additional header segments.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.total_ahs_len) * 4
    }

    /// Bytes of data segment, without padding.
    pub fn data_len(&self) -> usize {
        let [a, b, c] = self.data_segment_len;
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    /// Initiator task tag.
    pub fn itt(&self) -> u32 {
        self.itt.get()
    }

    /// CmdSN, where the request has one: in every initiator PDU except Data-Out and SNACK.
    pub fn cmd_sn(&self) -> u32 {
        u32::from_be_bytes([self.rest[4], self.rest[5], self.rest[6], self.rest[7]])
    }

    /// ExpStatSN: in every initiator PDU.
    pub fn exp_stat_sn(&self) -> u32 {
        u32::from_be_bytes([self.rest[8], self.rest[9], self.rest[10], self.rest[11]])
    }

    /// The same bytes as one particular PDU.
    pub fn view<T: Pdu>(&self) -> &T {
        const { assert!(size_of::<T>() == BHS_LEN) };
        match T::ref_from_bytes(self.as_bytes()) {
            Ok(view) => view,
            // Same size, no alignment, no invalid bit pattern: asserted above and by the trait's bounds.
            Err(_) => unreachable!("a PDU is 48 unaligned bytes"),
        }
    }
}

impl std::fmt::Debug for Bhs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.opcode();
        write!(
            f,
            "{name:?} ({:#04x}) itt {:#x} data {}",
            self.opcode,
            self.itt(),
            self.data_len()
        )
    }
}

/// Three bytes of data segment length. Whoever builds a PDU keeps its data under 16 MiB.
pub fn len24(len: usize) -> [u8; 3] {
    debug_assert!(len < 1 << 24);
    let [_, a, b, c] = (len as u32).to_be_bytes();
    [a, b, c]
}

macro_rules! pdus {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        #[expect(missing_docs, reason = "fields are named and ordered as in the RFC's picture")]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        const _: () = assert!(size_of::<$name>() == BHS_LEN);
        impl Pdu for $name {}
    )* };
}

pdus! {
    /// SCSI Command (11.3). Flags: F, R 0x40, W 0x20, attribute 0x07.
    ScsiCommand {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        expected_len: U32, cmd_sn: U32, exp_stat_sn: U32, cdb: [u8; 16],
    }
    /// SCSI Response (11.4). Flags: o 0x10, u 0x08, O 0x04, U 0x02.
    ScsiResponse {
        opcode: u8, flags: u8, response: u8, status: u8, total_ahs_len: u8, data_segment_len: [u8; 3], reserved: [u8; 8],
        itt: U32, snack_tag: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, exp_data_sn: U32,
        bidi_residual: U32, residual: U32,
    }
    /// Task Management Function Request (11.5). Flags: F, function.
    TaskRequest {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        referenced_tag: U32, cmd_sn: U32, exp_stat_sn: U32, ref_cmd_sn: U32, exp_data_sn: U32, reserved2: [u8; 8],
    }
    /// Task Management Function Response (11.6).
    TaskResponse {
        opcode: u8, flags: u8, response: u8, reserved: u8, total_ahs_len: u8, data_segment_len: [u8; 3],
        reserved2: [u8; 8], itt: U32, reserved3: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32,
        reserved4: [u8; 12],
    }
    /// Data-Out (11.7).
    DataOut {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        ttt: U32, reserved2: U32, exp_stat_sn: U32, reserved3: U32, data_sn: U32, buffer_offset: U32, reserved4: U32,
    }
    /// Data-In (11.7). Flags: F, A 0x40, O 0x04, U 0x02, S 0x01.
    DataIn {
        opcode: u8, flags: u8, reserved: u8, status: u8, total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8],
        itt: U32, ttt: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, data_sn: U32, buffer_offset: U32,
        residual: U32,
    }
    /// Ready To Transfer (11.8).
    R2t {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        ttt: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, r2t_sn: U32, buffer_offset: U32, desired_len: U32,
    }
    /// Asynchronous Message (11.9). The tag field is all ones.
    Async {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        reserved2: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, event: u8, vendor_code: u8,
        parameters: [U16; 3], reserved3: U32,
    }
    /// Text Request (11.10). Flags: F, C 0x40.
    TextRequest {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        ttt: U32, cmd_sn: U32, exp_stat_sn: U32, reserved2: [u8; 16],
    }
    /// Text Response (11.11). Flags: F, C 0x40.
    TextResponse {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        ttt: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, reserved2: [u8; 12],
    }
    /// Login Request (11.12). Flags: T 0x80, C 0x40, CSG 0x0c, NSG 0x03.
    LoginRequest {
        opcode: u8, flags: u8, version_max: u8, version_min: u8, total_ahs_len: u8, data_segment_len: [u8; 3],
        isid: [u8; 6], tsih: U16, itt: U32, cid: U16, reserved: U16, cmd_sn: U32, exp_stat_sn: U32,
        reserved2: [u8; 16],
    }
    /// Login Response (11.13). Flags as in the request.
    LoginResponse {
        opcode: u8, flags: u8, version_max: u8, version_active: u8, total_ahs_len: u8, data_segment_len: [u8; 3],
        isid: [u8; 6], tsih: U16, itt: U32, reserved: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32,
        status_class: u8, status_detail: u8, reserved2: [u8; 10],
    }
    /// Logout Request (11.14). Flags: F, reason code.
    LogoutRequest {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], reserved2: [u8; 8],
        itt: U32, cid: U16, reserved3: U16, cmd_sn: U32, exp_stat_sn: U32, reserved4: [u8; 16],
    }
    /// Logout Response (11.15).
    LogoutResponse {
        opcode: u8, flags: u8, response: u8, reserved: u8, total_ahs_len: u8, data_segment_len: [u8; 3],
        reserved2: [u8; 8], itt: U32, reserved3: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, reserved4: U32,
        time2wait: U16, time2retain: U16, reserved5: U32,
    }
    /// Reject (11.17). The data segment is the header of what was rejected.
    Reject {
        opcode: u8, flags: u8, reason: u8, reserved: u8, total_ahs_len: u8, data_segment_len: [u8; 3],
        reserved2: [u8; 8], itt: U32, reserved3: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, data_sn: U32,
        reserved4: [u8; 8],
    }
    /// NOP-Out (11.18).
    NopOut {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        ttt: U32, cmd_sn: U32, exp_stat_sn: U32, reserved2: [u8; 16],
    }
    /// NOP-In (11.19).
    NopIn {
        opcode: u8, flags: u8, reserved: [u8; 2], total_ahs_len: u8, data_segment_len: [u8; 3], lun: [u8; 8], itt: U32,
        ttt: U32, stat_sn: U32, exp_cmd_sn: U32, max_cmd_sn: U32, reserved2: [u8; 12],
    }
}

/// Residual overflow: the command had more data than the host expected. SCSI Response and Data-In flags.
pub const OVERFLOW: u8 = 0x04;
/// Residual underflow: less.
pub const UNDERFLOW: u8 = 0x02;
/// Data-In carries the status.
pub const STATUS: u8 = 0x01;
/// Text and login: more of this text follows.
pub const CONTINUE: u8 = 0x40;

/// What the R and W bits of a SCSI Command say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No data.
    None,
    /// To the host.
    Read,
    /// From the host.
    Write,
    /// Both; the AHS tells the read length.
    Both,
}

impl ScsiCommand {
    /// Where data goes.
    pub fn direction(&self) -> Direction {
        match self.flags >> 5 & 3 {
            0 => Direction::None,
            1 => Direction::Write,
            2 => Direction::Read,
            _ => Direction::Both,
        }
    }

    /// Task attribute: 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA.
    pub fn attribute(&self) -> u8 {
        self.flags & 7
    }

    /// The command descriptor block.
    pub fn cdb(&self) -> crate::scsi::Cdb {
        crate::scsi::Cdb(self.cdb)
    }
}

/// Task management functions (11.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum Function {
    AbortTask = 1,
    AbortTaskSet = 2,
    ClearAca = 3,
    ClearTaskSet = 4,
    LunReset = 5,
    WarmReset = 6,
    ColdReset = 7,
    Reassign = 8,
}

impl TaskRequest {
    /// What is asked for; `None` if nobody knows.
    pub fn function(&self) -> Option<Function> {
        use Function::*;
        [
            AbortTask,
            AbortTaskSet,
            ClearAca,
            ClearTaskSet,
            LunReset,
            WarmReset,
            ColdReset,
            Reassign,
        ]
        .into_iter()
        .find(|f| *f as u8 == self.flags & 0x7f)
    }
}

/// How a task management function ended (11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum TaskOutcome {
    Complete = 0,
    NoTask = 1,
    NoLun = 2,
    TaskAllegiant = 3,
    NoReassign = 4,
    NotSupported = 5,
    NotAuthorized = 6,
    Rejected = 255,
}

/// Why a PDU was rejected (11.17.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum RejectReason {
    DataDigest = 0x02,
    Snack = 0x03,
    Protocol = 0x04,
    NotSupported = 0x05,
    TooManyImmediate = 0x06,
    TaskInProgress = 0x07,
    InvalidDataAck = 0x08,
    InvalidField = 0x09,
    OutOfResources = 0x0a,
    WaitingForLogout = 0x0c,
}

/// Asynchronous events (11.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum AsyncEvent {
    Scsi = 0,
    LogoutRequested = 1,
    ConnectionDropped = 2,
    SessionDropped = 3,
    Renegotiate = 4,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A READ (10) as open-iscsi sends it.
    const READ: [u8; 48] = [
        0x01, 0xc1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x2a, 0, 0, 0x10, 0, 0, 0, 0, 7, 0, 0, 0, 9,
        0x28, 0, 0, 0, 0, 8, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn a_scsi_command_lies_over_its_bytes() {
        let (bhs, rest) = Bhs::split(&READ).unwrap();
        assert!(rest.is_empty());
        assert_eq!(bhs.opcode(), Some(Opcode::ScsiCommand));
        assert!(bhs.is_final() && !bhs.is_immediate());
        assert_eq!((bhs.data_len(), bhs.ahs_len(), bhs.itt()), (0, 0, 0x1000_002a));
        assert_eq!((bhs.cmd_sn(), bhs.exp_stat_sn()), (7, 9));
        let command: &ScsiCommand = bhs.view();
        assert_eq!(command.direction(), Direction::Read);
        assert_eq!((command.attribute(), command.expected_len.get()), (1, 4096));
        assert_eq!(command.cdb().opcode(), 0x28);
        let built = ScsiCommand {
            opcode: Opcode::ScsiCommand as u8,
            flags: FINAL | 0x40 | 1,
            lun: [0, 1, 0, 0, 0, 0, 0, 0],
            itt: U32::new(0x1000_002a),
            expected_len: U32::new(4096),
            cmd_sn: U32::new(7),
            exp_stat_sn: U32::new(9),
            cdb: command.cdb,
            ..Default::default()
        };
        assert_eq!(built.as_bytes(), READ);
    }

    #[test]
    fn answers_have_their_golden_bytes() {
        let response = ScsiResponse {
            opcode: Opcode::ScsiResponse as u8,
            flags: FINAL | UNDERFLOW,
            status: 2,
            data_segment_len: len24(20),
            itt: U32::new(0x2a),
            stat_sn: U32::new(9),
            exp_cmd_sn: U32::new(8),
            max_cmd_sn: U32::new(71),
            exp_data_sn: U32::new(3),
            residual: U32::new(512),
            ..Default::default()
        };
        let golden = [
            0x21, 0x82, 0, 2, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8,
            0, 0, 0, 71, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 2, 0,
        ];
        assert_eq!(response.as_bytes(), golden);
        let data = DataIn {
            opcode: Opcode::DataIn as u8,
            flags: FINAL | STATUS,
            data_segment_len: len24(0x2000),
            itt: U32::new(0x2a),
            ttt: U32::new(NO_TAG),
            stat_sn: U32::new(9),
            exp_cmd_sn: U32::new(8),
            max_cmd_sn: U32::new(71),
            data_sn: U32::new(1),
            buffer_offset: U32::new(0x4000),
            ..Default::default()
        };
        let golden = [
            0x25, 0x81, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2a, 255, 255, 255, 255, 0, 0, 0, 9, 0,
            0, 0, 8, 0, 0, 0, 71, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0, 0,
        ];
        assert_eq!(data.as_bytes(), golden);
        let r2t = R2t {
            opcode: Opcode::R2t as u8,
            flags: FINAL,
            itt: U32::new(0x2a),
            ttt: U32::new(5),
            r2t_sn: U32::new(2),
            buffer_offset: U32::new(0x1_0000),
            desired_len: U32::new(0x4_0000),
            ..Default::default()
        };
        assert_eq!(r2t.as_bytes()[20..24], [0, 0, 0, 5]);
        assert_eq!(r2t.as_bytes()[36..], [0, 0, 0, 2, 0, 1, 0, 0, 0, 4, 0, 0]);
    }

    #[test]
    fn fields_stand_where_the_rfc_draws_them() {
        use std::mem::offset_of;
        assert_eq!(offset_of!(LoginRequest, tsih), 14);
        assert_eq!(offset_of!(LoginRequest, cid), 20);
        assert_eq!(offset_of!(LoginResponse, status_class), 36);
        assert_eq!(offset_of!(LogoutResponse, time2wait), 40);
        assert_eq!(offset_of!(Async, event), 36);
        assert_eq!(offset_of!(Async, parameters), 38);
        assert_eq!(offset_of!(TaskRequest, ref_cmd_sn), 32);
        assert_eq!(offset_of!(DataOut, data_sn), 36);
        assert_eq!(offset_of!(Reject, data_sn), 36);
        assert_eq!(offset_of!(NopIn, stat_sn), 24);
    }

    #[test]
    fn short_headers_are_no_headers() {
        assert!(Bhs::split(&READ[..47]).is_none());
        let mut unknown = READ;
        unknown[0] = 0x1f;
        assert_eq!(Bhs::split(&unknown).unwrap().0.opcode(), None);
    }
}
