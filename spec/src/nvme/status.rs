//! Completion status: which part of the protocol speaks, what it says, and whether trying again can help.
use std::fmt;

/// The status field of a completion (Base 2.0d, 3.3.3.2.1) without its phase bit: SC in bits 7:0, SCT in bits 10:8,
/// CRD in bits 12:11, More in bit 13, Do Not Retry in bit 14.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(pub u16);

const DNR: u16 = 1 << 14;
const MORE: u16 = 1 << 13;

const fn status(sct: u16, sc: u16) -> Status {
    Status(sct << 8 | sc)
}
const fn dnr(sct: u16, sc: u16) -> Status {
    Status(sct << 8 | sc | DNR)
}

/// Names are those of Base 2.0d, figures 94 to 100. A status that stays wrong however often it is tried carries DNR.
#[allow(missing_docs)]
impl Status {
    // Generic command status (SCT 0).
    pub const SUCCESS: Status = status(0, 0x00);
    pub const INVALID_OPCODE: Status = dnr(0, 0x01);
    pub const INVALID_FIELD: Status = dnr(0, 0x02);
    pub const COMMAND_ID_CONFLICT: Status = dnr(0, 0x03);
    pub const DATA_TRANSFER_ERROR: Status = status(0, 0x04);
    pub const ABORTED_POWER_LOSS: Status = status(0, 0x05);
    pub const INTERNAL_ERROR: Status = status(0, 0x06);
    pub const ABORTED_BY_REQUEST: Status = status(0, 0x07);
    pub const ABORTED_SQ_DELETION: Status = status(0, 0x08);
    pub const ABORTED_FAILED_FUSED: Status = status(0, 0x09);
    pub const ABORTED_MISSING_FUSED: Status = dnr(0, 0x0a);
    pub const INVALID_NAMESPACE: Status = dnr(0, 0x0b);
    pub const COMMAND_SEQUENCE_ERROR: Status = dnr(0, 0x0c);
    pub const INVALID_SGL_SEGMENT: Status = dnr(0, 0x0d);
    pub const INVALID_SGL_COUNT: Status = dnr(0, 0x0e);
    pub const DATA_SGL_LENGTH_INVALID: Status = dnr(0, 0x0f);
    pub const SGL_TYPE_INVALID: Status = dnr(0, 0x11);
    pub const INVALID_PRP_OFFSET: Status = dnr(0, 0x13);
    pub const SGL_OFFSET_INVALID: Status = dnr(0, 0x16);
    pub const HOST_ID_INCONSISTENT: Status = dnr(0, 0x18);
    pub const KEEP_ALIVE_TIMEOUT_INVALID: Status = dnr(0, 0x1a);
    pub const COMMAND_INTERRUPTED: Status = status(0, 0x21);
    pub const TRANSIENT_TRANSPORT_ERROR: Status = status(0, 0x22);
    pub const NAMESPACE_WRITE_PROTECTED: Status = dnr(0, 0x20);
    pub const LBA_OUT_OF_RANGE: Status = dnr(0, 0x80);
    pub const CAPACITY_EXCEEDED: Status = dnr(0, 0x81);
    pub const NAMESPACE_NOT_READY: Status = status(0, 0x82);
    pub const RESERVATION_CONFLICT: Status = dnr(0, 0x83);
    // Command specific status (SCT 1).
    pub const ABORT_LIMIT_EXCEEDED: Status = status(1, 0x03);
    pub const AER_LIMIT_EXCEEDED: Status = dnr(1, 0x05);
    pub const INVALID_LOG_PAGE: Status = dnr(1, 0x09);
    pub const FEATURE_NOT_SAVEABLE: Status = dnr(1, 0x0d);
    pub const FEATURE_NOT_CHANGEABLE: Status = dnr(1, 0x0e);
    pub const FEATURE_NOT_NAMESPACE_SPECIFIC: Status = dnr(1, 0x0f);
    pub const IO_COMMAND_SET_NOT_SUPPORTED: Status = dnr(1, 0x29);
    pub const INVALID_CONTROLLER_ID: Status = dnr(1, 0x1f);
    // Command specific status of NVM commands (SCT 1, 80h and up).
    pub const CONFLICTING_ATTRIBUTES: Status = dnr(1, 0x80);
    pub const INVALID_PROTECTION_INFO: Status = dnr(1, 0x81);
    pub const WRITE_TO_READ_ONLY: Status = dnr(1, 0x82);
    pub const COMMAND_SIZE_LIMIT: Status = dnr(1, 0x83);
    pub const INCOMPATIBLE_NAMESPACE: Status = dnr(1, 0x85);
    // Command specific status of Fabrics commands (SCT 1, 80h and up).
    pub const CONNECT_INCOMPATIBLE_FORMAT: Status = dnr(1, 0x80);
    pub const CONNECT_CONTROLLER_BUSY: Status = status(1, 0x81);
    pub const CONNECT_INVALID_PARAMETERS: Status = dnr(1, 0x82);
    pub const CONNECT_RESTART_DISCOVERY: Status = dnr(1, 0x83);
    pub const CONNECT_INVALID_HOST: Status = dnr(1, 0x84);
    pub const INVALID_QUEUE_TYPE: Status = dnr(1, 0x85);
    pub const DISCOVER_RESTART: Status = status(1, 0x90);
    pub const AUTHENTICATION_REQUIRED: Status = dnr(1, 0x91);
    // Media and data integrity errors (SCT 2).
    pub const WRITE_FAULT: Status = status(2, 0x80);
    pub const UNRECOVERED_READ_ERROR: Status = status(2, 0x81);
    pub const COMPARE_FAILURE: Status = dnr(2, 0x85);
    // Path related status (SCT 3).
    pub const INTERNAL_PATH_ERROR: Status = status(3, 0x00);
    pub const ANA_PERSISTENT_LOSS: Status = status(3, 0x01);
    pub const ANA_INACCESSIBLE: Status = status(3, 0x02);
    pub const ANA_TRANSITION: Status = status(3, 0x03);
    pub const HOST_PATHING_ERROR: Status = status(3, 0x70);
}

impl Status {
    /// Status code type.
    pub const fn sct(self) -> u8 {
        (self.0 >> 8 & 7) as u8
    }

    /// Status code within its type.
    pub const fn sc(self) -> u8 {
        self.0 as u8
    }

    /// Trying the same command again will fail again.
    pub const fn do_not_retry(self) -> bool {
        self.0 & DNR != 0
    }

    /// The medium could not be read or written.
    pub const fn is_of_medium(self) -> bool {
        matches!((self.sct(), self.sc()), (2, 0x80 | 0x81))
    }

    /// Everything went well.
    pub const fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// The same status with the More bit: the error log holds an entry about this command.
    pub const fn with_more(self) -> Self {
        Self(self.0 | MORE)
    }

    /// The same status with Do Not Retry set or cleared.
    pub const fn with_do_not_retry(self, dnr: bool) -> Self {
        Self(if dnr { self.0 | DNR } else { self.0 & !DNR })
    }

    /// As it stands in a completion: shifted left of the phase bit, which fabrics leave zero.
    pub const fn wire(self) -> u16 {
        self.0 << 1
    }

    /// From a completion's status field.
    pub const fn from_wire(field: u16) -> Self {
        Self(field >> 1)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retry = if self.do_not_retry() { ", do not retry" } else { "" };
        write!(f, "Status(sct {:x}, sc {:02x}{retry})", self.sct(), self.sc())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NVMe status {:x}/{:02x}", self.sct(), self.sc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_keeps_its_parts() {
        assert_eq!(Status::LBA_OUT_OF_RANGE.wire(), 0x8100);
        assert_eq!(Status::CONNECT_INVALID_PARAMETERS.wire(), 0x8304);
        assert_eq!(Status::UNRECOVERED_READ_ERROR.wire(), 0x0502);
        let s = Status::from_wire(0x8100);
        assert_eq!((s.sct(), s.sc(), s.do_not_retry()), (0, 0x80, true));
        assert!(Status::SUCCESS.is_success() && !Status::INTERNAL_PATH_ERROR.is_success());
        assert_eq!(Status::INVALID_FIELD.with_do_not_retry(false).wire(), 4);
        assert_eq!(format!("{s:?}"), "Status(sct 0, sc 80, do not retry)");
    }
}
