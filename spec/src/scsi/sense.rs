//! Status bytes and sense data (SAM-5 5.3, SPC-4 4.5).
//!
//! ```text
//! fixed, 18 bytes    70 00 KK iiiiiiii 0a ........ AA QQ 00 sksv
//! descriptor         72 KK AA QQ 00 00 00 ll  then descriptors: information (00), sense key specific (02)
//! ```
use super::be16;

/// The status byte of a completed command (SAM-5 table 33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Good = 0x00,
    /// Failed; sense data says why.
    CheckCondition = 0x02,
    /// The comparison of a COMPARE AND WRITE or similar found what was looked for (SAM-5).
    ConditionMet = 0x04,
    /// The logical unit cannot take the command now.
    Busy = 0x08,
    /// Held by another host's reservation.
    ReservationConflict = 0x18,
    /// No room in the task set.
    TaskSetFull = 0x28,
    /// Aborted by another host's task management function (control mode page, TAS = 1).
    TaskAborted = 0x40,
}

/// The sense key (SPC-4 table 48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum SenseKey {
    NoSense = 0x0,
    RecoveredError = 0x1,
    NotReady = 0x2,
    MediumError = 0x3,
    HardwareError = 0x4,
    IllegalRequest = 0x5,
    UnitAttention = 0x6,
    DataProtect = 0x7,
    BlankCheck = 0x8,
    VendorSpecific = 0x9,
    CopyAborted = 0xa,
    AbortedCommand = 0xb,
    VolumeOverflow = 0xd,
    Miscompare = 0xe,
    Completed = 0xf,
}

impl SenseKey {
    fn from_nibble(n: u8) -> Self {
        use SenseKey::*;
        match n & 0xf {
            0x1 => RecoveredError,
            0x2 => NotReady,
            0x3 => MediumError,
            0x4 => HardwareError,
            0x5 => IllegalRequest,
            0x6 => UnitAttention,
            0x7 => DataProtect,
            0x8 => BlankCheck,
            0x9 => VendorSpecific,
            0xa => CopyAborted,
            0xb => AbortedCommand,
            0xd => VolumeOverflow,
            0xe => Miscompare,
            0xf => Completed,
            _ => NoSense,
        }
    }
}

/// What the sense-key-specific field points at (SPC-4 4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    /// True if the field is in the CDB, false if it is in the parameter list.
    pub in_cdb: bool,
    /// Byte of the field's start.
    pub byte: u16,
    /// Its most significant bit, if that matters.
    pub bit: Option<u8>,
}

/// Why a command failed. `Copy`, made on the data path, encoded only when it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: SenseKey,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// The INFORMATION field: the LBA of the failure, or the offset of a miscompare.
    pub information: Option<u64>,
    /// For ILLEGAL REQUEST, the field that was wrong.
    pub field: Option<FieldPointer>,
    /// For NOT READY, how far the operation is that is in the way: 65,536ths.
    pub progress: Option<u16>,
}

/// Length of fixed-format sense data.
pub const FIXED_LEN: usize = 18;
/// No sense data of ours is longer: header, information and sense-key-specific descriptors.
pub const MAX_LEN: usize = 8 + 12 + 8;

impl Sense {
    pub(super) const fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self {
            key,
            asc,
            ascq,
            information: None,
            field: None,
            progress: None,
        }
    }

    /// NO SENSE: REQUEST SENSE when nothing is pending.
    pub const NONE: Self = Self::new(SenseKey::NoSense, 0x00, 0x00);
    /// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE: the volume is away.
    pub const NOT_READY: Self = Self::new(SenseKey::NotReady, 0x04, 0x00);
    /// MEDIUM NOT PRESENT: ejected by START STOP UNIT.
    pub const NO_MEDIUM: Self = Self::new(SenseKey::NotReady, 0x3a, 0x00);
    /// LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION.
    pub const PORT_TRANSITION: Self = Self::new(SenseKey::NotReady, 0x04, 0x0a);
    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN STANDBY STATE.
    pub const PORT_STANDBY: Self = Self::new(SenseKey::NotReady, 0x04, 0x0b);
    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE.
    pub const PORT_UNAVAILABLE: Self = Self::new(SenseKey::NotReady, 0x04, 0x0c);
    /// LOGICAL UNIT NOT READY, OFFLINE.
    pub const PORT_OFFLINE: Self = Self::new(SenseKey::NotReady, 0x04, 0x12);
    /// UNRECOVERED READ ERROR.
    pub const READ_ERROR: Self = Self::new(SenseKey::MediumError, 0x11, 0x00);
    /// WRITE ERROR.
    pub const WRITE_ERROR: Self = Self::new(SenseKey::MediumError, 0x0c, 0x00);
    /// INTERNAL TARGET FAILURE.
    pub const INTERNAL: Self = Self::new(SenseKey::HardwareError, 0x44, 0x00);
    /// LOGICAL UNIT FAILED SELF-TEST.
    pub const SELF_TEST_FAILED: Self = Self::new(SenseKey::HardwareError, 0x3e, 0x03);
    /// INVALID COMMAND OPERATION CODE.
    pub const OPCODE: Self = Self::new(SenseKey::IllegalRequest, 0x20, 0x00);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const OUT_OF_RANGE: Self = Self::new(SenseKey::IllegalRequest, 0x21, 0x00);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD: Self = Self::new(SenseKey::IllegalRequest, 0x24, 0x00);
    /// LOGICAL UNIT NOT SUPPORTED.
    pub const NO_LUN: Self = Self::new(SenseKey::IllegalRequest, 0x25, 0x00);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_PARAMETER: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x00);
    /// INVALID RELEASE OF PERSISTENT RESERVATION: of another type than the one held.
    pub const INVALID_RELEASE: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x04);
    /// INSUFFICIENT REGISTRATION RESOURCES.
    pub const REGISTRATION_RESOURCES: Self = Self::new(SenseKey::IllegalRequest, 0x55, 0x04);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LENGTH: Self = Self::new(SenseKey::IllegalRequest, 0x1a, 0x00);
    /// SAVING PARAMETERS NOT SUPPORTED.
    pub const SAVING: Self = Self::new(SenseKey::IllegalRequest, 0x39, 0x00);
    /// MEDIUM REMOVAL PREVENTED: some host has said PREVENT ALLOW MEDIUM REMOVAL.
    pub const REMOVAL_PREVENTED: Self = Self::new(SenseKey::IllegalRequest, 0x53, 0x02);
    /// INVALID FIELD IN COMMAND INFORMATION UNIT: EDTL and CDB disagree where they must not.
    pub const INFORMATION_UNIT: Self = Self::new(SenseKey::IllegalRequest, 0x0e, 0x03);
    /// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED: loaded by START STOP UNIT.
    pub const MEDIUM_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x28, 0x00);
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub const POWER_ON: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x00);
    /// BUS DEVICE RESET FUNCTION OCCURRED: a LUN or target reset.
    pub const RESET: Self = Self::new(SenseKey::UnitAttention, 0x29, 0x03);
    /// RESERVATIONS PREEMPTED: a CLEAR took the nexus's registration.
    pub const RESERVATIONS_PREEMPTED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x03);
    /// RESERVATIONS RELEASED.
    pub const RESERVATIONS_RELEASED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x04);
    /// REGISTRATIONS PREEMPTED: a PREEMPT took the nexus's registration.
    pub const REGISTRATIONS_PREEMPTED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x05);
    /// ASYMMETRIC ACCESS STATE CHANGED.
    pub const ACCESS_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x06);
    /// MODE PARAMETERS CHANGED.
    pub const MODE_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x01);
    /// LOG PARAMETERS CHANGED.
    pub const LOG_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x02);
    /// CAPACITY DATA HAS CHANGED.
    pub const CAPACITY_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x09);
    /// COMMANDS CLEARED BY ANOTHER INITIATOR.
    pub const CLEARED: Self = Self::new(SenseKey::UnitAttention, 0x2f, 0x00);
    /// REPORTED LUNS DATA HAS CHANGED.
    pub const LUNS_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x3f, 0x0e);
    /// WRITE PROTECTED.
    pub const WRITE_PROTECTED: Self = Self::new(SenseKey::DataProtect, 0x27, 0x00);
    /// SPACE ALLOCATION FAILED WRITE PROTECT: a thin volume's pool is full.
    pub const NO_SPACE: Self = Self::new(SenseKey::DataProtect, 0x27, 0x07);
    /// UNEXPECTED UNSOLICITED DATA (RFC 7143 11.4.7.2).
    pub const UNSOLICITED: Self = Self::new(SenseKey::AbortedCommand, 0x0c, 0x0c);
    /// INCORRECT AMOUNT OF DATA (RFC 7143 11.4.7.2).
    pub const DATA_AMOUNT: Self = Self::new(SenseKey::AbortedCommand, 0x0c, 0x0d);
    /// PROTOCOL SERVICE CRC ERROR (RFC 7143 11.4.7.2).
    pub const CRC: Self = Self::new(SenseKey::AbortedCommand, 0x47, 0x05);
    /// COMMAND TIMEOUT DURING PROCESSING.
    pub const TIMEOUT: Self = Self::new(SenseKey::AbortedCommand, 0x2e, 0x02);
    /// MISCOMPARE DURING VERIFY OPERATION.
    pub const MISCOMPARE: Self = Self::new(SenseKey::Miscompare, 0x1d, 0x00);

    /// LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS.
    pub const SANITIZING: Self = Self::new(SenseKey::NotReady, 0x04, 0x1b);
    /// SANITIZE COMMAND FAILED.
    pub const SANITIZE_FAILED: Self = Self::new(SenseKey::MediumError, 0x31, 0x03);
    /// INSUFFICIENT RESOURCES.
    pub const NO_RESOURCES: Self = Self::new(SenseKey::IllegalRequest, 0x55, 0x03);

    /// The same with a PROGRESS INDICATION.
    pub const fn with_progress(self, progress: u16) -> Self {
        Self {
            progress: Some(progress),
            ..self
        }
    }

    /// The three sense-key-specific bytes, if there are any (SPC-4 4.5.2.4).
    fn key_specific(&self) -> Option<[u8; 3]> {
        let progress = |progress: u16| {
            let [hi, lo] = progress.to_be_bytes();
            [0x80, hi, lo]
        };
        self.field.map(FieldPointer::encode).or(self.progress.map(progress))
    }

    /// What [`key_specific`](Self::key_specific) made of it; which of the two it is, the sense key says.
    fn with_key_specific(self, bytes: &[u8]) -> Self {
        match self.key {
            SenseKey::NotReady | SenseKey::NoSense if bytes[0] & 0x80 != 0 => self.with_progress(be16(bytes, 1)),
            SenseKey::NotReady | SenseKey::NoSense => self,
            _ => Self {
                field: FieldPointer::decode(bytes),
                ..self
            },
        }
    }

    /// The same with an INFORMATION field.
    pub const fn with_information(self, information: u64) -> Self {
        Self {
            information: Some(information),
            ..self
        }
    }

    /// INVALID FIELD IN CDB, pointing at `byte` and `bit`.
    pub const fn cdb_field(byte: u16, bit: u8) -> Self {
        Self {
            field: Some(FieldPointer {
                in_cdb: true,
                byte,
                bit: Some(bit),
            }),
            ..Self::INVALID_FIELD
        }
    }

    /// INVALID FIELD IN PARAMETER LIST, pointing at `byte`.
    pub const fn parameter_field(byte: u16) -> Self {
        Self {
            field: Some(FieldPointer {
                in_cdb: false,
                byte,
                bit: None,
            }),
            ..Self::INVALID_PARAMETER
        }
    }

    /// Encodes current sense data, fixed or descriptor format; the number of bytes used.
    pub fn encode(&self, descriptor: bool, out: &mut [u8; MAX_LEN]) -> usize {
        *out = [0; MAX_LEN];
        if descriptor {
            out[..4].copy_from_slice(&[0x72, self.key as u8, self.asc, self.ascq]);
            let mut at = 8;
            if let Some(information) = self.information {
                out[at..at + 4].copy_from_slice(&[0x00, 0x0a, 0x80, 0]);
                out[at + 4..at + 12].copy_from_slice(&information.to_be_bytes());
                at += 12;
            }
            if let Some(specific) = self.key_specific() {
                out[at..at + 2].copy_from_slice(&[0x02, 0x06]);
                out[at + 4..at + 7].copy_from_slice(&specific);
                at += 8;
            }
            out[7] = (at - 8) as u8;
            return at;
        }
        out[0] = 0x70;
        out[2] = self.key as u8;
        // The field is four bytes wide; a wider value is left out with VALID clear (SPC-4 4.5.3).
        if let Some(Ok(information)) = self.information.map(u32::try_from) {
            out[0] |= 0x80;
            out[3..7].copy_from_slice(&information.to_be_bytes());
        }
        out[7] = (FIXED_LEN - 8) as u8;
        out[12] = self.asc;
        out[13] = self.ascq;
        if let Some(specific) = self.key_specific() {
            out[15..18].copy_from_slice(&specific);
        }
        FIXED_LEN
    }

    /// Reads sense data of either format. `None` if it is too short or of a format nobody knows.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7f {
            0x70 | 0x71 if bytes.len() >= 14 => {
                let mut sense = Self::new(SenseKey::from_nibble(bytes[2]), bytes[12], bytes[13]);
                if bytes[0] & 0x80 != 0 {
                    sense.information = Some(super::be32(bytes, 3).into());
                }
                if bytes.len() >= 18 {
                    sense = sense.with_key_specific(&bytes[15..18]);
                }
                Some(sense)
            }
            0x72 | 0x73 if bytes.len() >= 8 => {
                let mut sense = Self::new(SenseKey::from_nibble(bytes[1]), bytes[2], bytes[3]);
                let mut rest = &bytes[8..bytes.len().min(8 + usize::from(bytes[7]))];
                while rest.len() >= 2 {
                    let len = 2 + usize::from(rest[1]);
                    let Some(descriptor) = rest.get(..len) else { break };
                    match descriptor[0] {
                        0x00 if len >= 12 && descriptor[2] & 0x80 != 0 => {
                            sense.information = Some(super::be64(descriptor, 4));
                        }
                        0x02 if len >= 8 => sense = sense.with_key_specific(&descriptor[4..7]),
                        _ => (),
                    }
                    rest = &rest[len..];
                }
                Some(sense)
            }
            _ => None,
        }
    }
}

impl FieldPointer {
    fn encode(self) -> [u8; 3] {
        let bit = self.bit.map_or(0, |bit| 0x08 | bit & 7);
        let [hi, lo] = self.byte.to_be_bytes();
        [0x80 | u8::from(self.in_cdb) << 6 | bit, hi, lo]
    }

    fn decode(b: &[u8]) -> Option<Self> {
        (b[0] & 0x80 != 0).then(|| Self {
            in_cdb: b[0] & 0x40 != 0,
            byte: be16(b, 1),
            bit: (b[0] & 0x08 != 0).then_some(b[0] & 7),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_sense_has_its_bytes_where_spc_puts_them() {
        let mut out = [0xaa; MAX_LEN];
        let n = Sense::cdb_field(1, 7).encode(false, &mut out);
        assert_eq!(
            out[..n],
            [
                0x70, 0, 0x05, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0x24, 0x00, 0, 0xcf, 0x00, 0x01
            ]
        );
        assert_eq!(Sense::parse(&out[..n]), Some(Sense::cdb_field(1, 7)));
    }

    #[test]
    fn descriptor_sense_carries_a_wide_lba() {
        let mut out = [0; MAX_LEN];
        let sense = Sense::READ_ERROR.with_information(0x1_0000_0002);
        let n = sense.encode(true, &mut out);
        assert_eq!(
            out[..n],
            [
                0x72, 0x03, 0x11, 0x00, 0, 0, 0, 12, 0x00, 0x0a, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2
            ]
        );
        assert_eq!(Sense::parse(&out[..n]), Some(sense));
        // In fixed format there is no room for it, so it is not claimed to be valid.
        let n = sense.encode(false, &mut out);
        assert_eq!((n, out[0], &out[3..7]), (18, 0x70, &[0; 4][..]));
    }

    #[test]
    fn progress_stands_where_a_field_pointer_would() {
        let mut out = [0; MAX_LEN];
        let sense = Sense::SANITIZING.with_progress(0x1234);
        let n = sense.encode(false, &mut out);
        assert_eq!((n, &out[12..18]), (18, &[0x04, 0x1b, 0, 0x80, 0x12, 0x34][..]));
        assert_eq!(Sense::parse(&out[..n]), Some(sense));
        let n = sense.encode(true, &mut out);
        assert_eq!(
            out[..n],
            [0x72, 2, 0x04, 0x1b, 0, 0, 0, 8, 0x02, 0x06, 0, 0, 0x80, 0x12, 0x34, 0]
        );
        assert_eq!(Sense::parse(&out[..n]), Some(sense));
    }

    #[test]
    fn truncated_and_foreign_sense_is_refused_not_guessed() {
        let mut out = [0; MAX_LEN];
        let n = Sense::cdb_field(2, 0).with_information(9).encode(true, &mut out);
        for cut in 0..n {
            let _ = Sense::parse(&out[..cut]);
        }
        assert_eq!(Sense::parse(&[0x7f; 18]), None);
        assert_eq!(Sense::parse(&[]), None);
    }
}
