//! The one table of commands: operation codes, service actions, usage masks (SPC-4 6.34, SPC-5 6.35).
//!
//! [`TABLE`] decides three things at once, so that they cannot differ: which command descriptor blocks are decoded, which
//! of their bits may be set, and what REPORT SUPPORTED OPERATION CODES tells. To add a command is to add a row: keep the
//! table ordered by operation code and service action, and give each bit the decoder looks at in `usage`.
//!
//! ```text
//!   usage   2a   fa  ff ff ff ff  1f  ff ff  00      what a host may set; the first byte is the operation code, and
//!   block   2a   08  00 00 10 00  00  00 08  04      the service action (if any) stands as it must be
//!                                             ^^ a bit outside: INVALID FIELD IN CDB, field pointer byte 9 bit 2
//! ```
//!
//! NACA is such a bit (INQUIRY: NORMACA = 0), so the CONTROL byte of every row is 0. Bits that older standards defined and
//! newer ones ignore (`obsolete`) are neither refused nor reported.
use super::{
    Cdb, CdbError, Command, Sense, be32,
    cdb::{
        inquiry, log_select, log_sense, mode_select, mode_sense, prevent_allow, protected, read_capacity10,
        read_capacity16, request_sense, send_diagnostic, six, sixteen, start_stop, synchronize, ten, twelve, unmap,
        verify, write_same,
    },
    copy::{Results, extended_copy, receive_copy_results},
    medium::{
        Sanitize, compare_and_write, get_lba_status, pre_fetch, read_defect_data10, read_defect_data12, sanitize,
        write_and_verify, write_atomic,
    },
    reservation::{In, Out, in_cdb, out_cdb},
    target_port_groups,
};

/// What a unit must have for a command to exist on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Needs {
    /// Every unit has it.
    Nothing,
    /// Logical block provisioning management (LBPME = 1).
    Unmap,
    /// A removable medium (RMB = 1).
    Removable,
    /// Writes that are all or nothing.
    Atomic,
    /// Hosts may set the states of target port groups (explicit asymmetric access).
    ExplicitAccess,
    /// A medium that can be written, as far as the administrator and the volume say: what hosts set (SWP) only protects it.
    Writable,
    /// [`Writable`](Self::Writable) and [`Unmap`](Self::Unmap), and zeros that take no space.
    Erasable,
    /// [`Writable`](Self::Writable), and all there is on it is encrypted with a key that can be forgotten.
    Keyed,
}

/// One row of the table.
pub struct Entry {
    /// Operation code, byte 0.
    pub opcode: u8,
    /// Service action, where the operation code alone does not tell the command.
    pub action: Option<u8>,
    /// The standard's name.
    pub name: &'static str,
    /// CDB USAGE DATA: bits that are looked at, as long as the block.
    pub usage: &'static [u8],
    /// Which units have it.
    pub needs: Needs,
    /// Bits that may be set, as one big-endian number.
    known: u128,
    decode: fn(&[u8; 16]) -> Result<Command, CdbError>,
}

const fn row(
    opcode: u8,
    action: Option<u8>,
    name: &'static str,
    usage: &'static [u8],
    decode: fn(&[u8; 16]) -> Result<Command, CdbError>,
) -> Entry {
    // The operation code and service action are right already when the row is found, and what follows the block is not of it.
    let mut known = [0xff; 16];
    let mut i = 1;
    while i < usage.len() {
        known[i] = usage[i];
        i += 1;
    }
    known[1] |= obsolete(opcode);
    if action.is_some() {
        known[1] |= 0x1f;
    }
    Entry {
        opcode,
        action,
        name,
        usage,
        needs: Needs::Nothing,
        known: u128::from_be_bytes(known),
        decode,
    }
}

/// Bits of byte 1 that a host of an older standard may still set and nobody has to look at: the logical unit number of
/// SCSI-2's six-byte blocks, FUA_NV (until SBC-3) and SYNC_NV (until SBC-3).
const fn obsolete(opcode: u8) -> u8 {
    match opcode {
        0x08 | 0x0a | 0x1d => 0, // part of the LBA there, or reserved; the code of a self-test
        0x00..=0x1f => 0xe0,
        0x28 | 0x2a | 0x88 | 0x8a | 0xa8 | 0xaa => 0x02,
        0x35 | 0x91 => 0x04,
        _ => 0,
    }
}

impl Entry {
    const fn only(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
}

/// Every command we know, by operation code and service action.
#[rustfmt::skip]
pub static TABLE: &[Entry] = &[
    row(0x00, None, "TEST UNIT READY",        &[0x00, 0, 0, 0, 0, 0], |_| Ok(Command::TestUnitReady)),
    row(0x03, None, "REQUEST SENSE",          &[0x03, 0x01, 0, 0, 0xff, 0], request_sense),
    row(0x08, None, "READ (6)",               &[0x08, 0x1f, 0xff, 0xff, 0xff, 0], |b| Ok(Command::Read(six(b)))),
    row(0x0a, None, "WRITE (6)",              &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0], |b| Ok(Command::Write(six(b)))),
    row(0x12, None, "INQUIRY",                &[0x12, 0x01, 0xff, 0xff, 0xff, 0], inquiry),
    row(0x15, None, "MODE SELECT (6)",        &[0x15, 0x11, 0, 0, 0xff, 0], |b| mode_select(b, false)),
    row(0x16, None, "RESERVE (6)",            &[0x16, 0, 0, 0, 0, 0], |_| Ok(Command::Reserve)),
    row(0x17, None, "RELEASE (6)",            &[0x17, 0, 0, 0, 0, 0], |_| Ok(Command::Release)),
    row(0x1a, None, "MODE SENSE (6)",         &[0x1a, 0x08, 0xff, 0xff, 0xff, 0], |b| Ok(mode_sense(b, false))),
    row(0x1b, None, "START STOP UNIT",        &[0x1b, 0x01, 0, 0x0f, 0xf7, 0], start_stop),
    row(0x1d, None, "SEND DIAGNOSTIC",        &[0x1d, 0xf7, 0, 0xff, 0xff, 0], send_diagnostic),
    row(0x1e, None, "PREVENT ALLOW MEDIUM REMOVAL", &[0x1e, 0, 0, 0, 0x03, 0], prevent_allow).only(Needs::Removable),
    row(0x25, None, "READ CAPACITY (10)",     &[0x25, 0, 0, 0, 0, 0, 0, 0, 0x01, 0], read_capacity10),
    row(0x28, None, "READ (10)",              &[0x28, 0xf8, 255, 255, 255, 255, 0x1f, 255, 255, 0], |b| Ok(Command::Read(protected(b, ten(b))?))),
    row(0x2a, None, "WRITE (10)",             &[0x2a, 0xf8, 255, 255, 255, 255, 0x1f, 255, 255, 0], |b| Ok(Command::Write(protected(b, ten(b))?))),
    row(0x2e, None, "WRITE AND VERIFY (10)",  &[0x2e, 0xf6, 255, 255, 255, 255, 0x1f, 255, 255, 0], |b| write_and_verify(b, ten(b))),
    row(0x2f, None, "VERIFY (10)",            &[0x2f, 0xf6, 255, 255, 255, 255, 0x1f, 255, 255, 0], |b| verify(b, ten(b))),
    row(0x34, None, "PRE-FETCH (10)",         &[0x34, 0x02, 255, 255, 255, 255, 0x1f, 255, 255, 0], |b| Ok(pre_fetch(b, ten(b).range))),
    row(0x35, None, "SYNCHRONIZE CACHE (10)", &[0x35, 0x02, 255, 255, 255, 255, 0x1f, 255, 255, 0], |b| Ok(synchronize(b, ten(b)))),
    row(0x37, None, "READ DEFECT DATA (10)",  &[0x37, 0, 0x1f, 0, 0, 0, 0, 255, 255, 0], read_defect_data10),
    row(0x41, None, "WRITE SAME (10)",        &[0x41, 0xf8, 255, 255, 255, 255, 0x1f, 255, 255, 0], |b| write_same(b, ten(b), false)),
    row(0x42, None, "UNMAP",                  &[0x42, 0x01, 0, 0, 0, 0, 0x1f, 255, 255, 0], unmap).only(Needs::Unmap),
    row(0x48, Some(0x01), "SANITIZE OVERWRITE", &[0x48, 0xa1, 0, 0, 0, 0, 0, 255, 255, 0], |b| sanitize(b, Sanitize::Overwrite)).only(Needs::Writable),
    row(0x48, Some(0x02), "SANITIZE BLOCK ERASE", &[0x48, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0], |b| sanitize(b, Sanitize::BlockErase)).only(Needs::Erasable),
    row(0x48, Some(0x03), "SANITIZE CRYPTOGRAPHIC ERASE", &[0x48, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0], |b| sanitize(b, Sanitize::CryptographicErase)).only(Needs::Keyed),
    row(0x48, Some(0x1f), "SANITIZE EXIT FAILURE MODE", &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0], |b| sanitize(b, Sanitize::ExitFailureMode)).only(Needs::Writable),
    row(0x4c, None, "LOG SELECT",             &[0x4c, 0x03, 0xff, 0xff, 0, 0, 0, 255, 255, 0], log_select),
    row(0x4d, None, "LOG SENSE",              &[0x4d, 0x01, 0xff, 0xff, 0, 255, 255, 255, 255, 0], log_sense),
    row(0x55, None, "MODE SELECT (10)",       &[0x55, 0x11, 0, 0, 0, 0, 0, 255, 255, 0], |b| mode_select(b, true)),
    row(0x56, None, "RESERVE (10)",           &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], |_| Ok(Command::Reserve)),
    row(0x57, None, "RELEASE (10)",           &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], |_| Ok(Command::Release)),
    row(0x5a, None, "MODE SENSE (10)",        &[0x5a, 0x18, 255, 255, 0, 0, 0, 255, 255, 0], |b| Ok(mode_sense(b, true))),
    row(0x5e, Some(0x00), "PERSISTENT RESERVE IN (READ KEYS)", &[0x5e, 0x00, 0, 0, 0, 0, 0, 255, 255, 0], |b| in_cdb(b, In::ReadKeys)),
    row(0x5e, Some(0x01), "PERSISTENT RESERVE IN (READ RESERVATION)", &[0x5e, 0x01, 0, 0, 0, 0, 0, 255, 255, 0], |b| in_cdb(b, In::ReadReservation)),
    row(0x5e, Some(0x02), "PERSISTENT RESERVE IN (REPORT CAPABILITIES)", &[0x5e, 0x02, 0, 0, 0, 0, 0, 255, 255, 0], |b| in_cdb(b, In::ReportCapabilities)),
    row(0x5e, Some(0x03), "PERSISTENT RESERVE IN (READ FULL STATUS)", &[0x5e, 0x03, 0, 0, 0, 0, 0, 255, 255, 0], |b| in_cdb(b, In::ReadFullStatus)),
    row(0x5f, Some(0x00), "PERSISTENT RESERVE OUT (REGISTER)", &[0x5f, 0x00, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::Register)),
    row(0x5f, Some(0x01), "PERSISTENT RESERVE OUT (RESERVE)", &[0x5f, 0x01, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::Reserve)),
    row(0x5f, Some(0x02), "PERSISTENT RESERVE OUT (RELEASE)", &[0x5f, 0x02, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::Release)),
    row(0x5f, Some(0x03), "PERSISTENT RESERVE OUT (CLEAR)", &[0x5f, 0x03, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::Clear)),
    row(0x5f, Some(0x04), "PERSISTENT RESERVE OUT (PREEMPT)", &[0x5f, 0x04, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::Preempt)),
    row(0x5f, Some(0x05), "PERSISTENT RESERVE OUT (PREEMPT AND ABORT)", &[0x5f, 0x05, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::PreemptAndAbort)),
    row(0x5f, Some(0x06), "PERSISTENT RESERVE OUT (REGISTER AND IGNORE EXISTING KEY)", &[0x5f, 0x06, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::RegisterAndIgnoreExistingKey)),
    row(0x5f, Some(0x07), "PERSISTENT RESERVE OUT (REGISTER AND MOVE)", &[0x5f, 0x07, 0xff, 0, 0, 255, 255, 255, 255, 0], |b| out_cdb(b, Out::RegisterAndMove)),
    row(0x83, Some(0x00), "EXTENDED COPY (LID1)", &[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], |b| extended_copy(b, false)),
    row(0x83, Some(0x01), "EXTENDED COPY (LID4)", &[0x83, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], |b| extended_copy(b, true)),
    row(0x84, Some(0x00), "RECEIVE COPY STATUS (LID1)", &[0x84, 0x00, 255, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], |b| receive_copy_results(b, Results::Status { lid4: false })),
    row(0x84, Some(0x03), "RECEIVE COPY OPERATING PARAMETERS", &[0x84, 0x03, 255, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], |b| receive_copy_results(b, Results::OperatingParameters)),
    row(0x84, Some(0x04), "RECEIVE COPY FAILURE DETAILS (LID1)", &[0x84, 0x04, 255, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], |b| receive_copy_results(b, Results::FailedSegment)),
    row(0x84, Some(0x05), "RECEIVE COPY STATUS (LID4)", &[0x84, 0x05, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], |b| receive_copy_results(b, Results::Status { lid4: true })),
    row(0x88, None, "READ (16)",              &[0x88, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| Ok(Command::Read(protected(b, sixteen(b))?))),
    row(0x89, None, "COMPARE AND WRITE",      &[0x89, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 255, 0x1f, 0], compare_and_write),
    row(0x8a, None, "WRITE (16)",             &[0x8a, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| Ok(Command::Write(protected(b, sixteen(b))?))),
    row(0x8b, None, "ORWRITE (16)",           &[0x8b, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| Ok(Command::OrWrite(protected(b, sixteen(b))?))),
    row(0x8e, None, "WRITE AND VERIFY (16)",  &[0x8e, 0xf6, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| write_and_verify(b, sixteen(b))),
    row(0x8f, None, "VERIFY (16)",            &[0x8f, 0xf6, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| verify(b, sixteen(b))),
    row(0x90, None, "PRE-FETCH (16)",         &[0x90, 0x02, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| Ok(pre_fetch(b, sixteen(b).range))),
    row(0x91, None, "SYNCHRONIZE CACHE (16)", &[0x91, 0x02, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| Ok(synchronize(b, sixteen(b)))),
    row(0x93, None, "WRITE SAME (16)",        &[0x93, 0xf9, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| write_same(b, sixteen(b), b[1] & 1 != 0)),
    row(0x9c, None, "WRITE ATOMIC (16)",      &[0x9c, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], write_atomic).only(Needs::Atomic),
    row(0x9e, Some(0x10), "READ CAPACITY (16)", &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], read_capacity16),
    row(0x9e, Some(0x12), "GET LBA STATUS (16)", &[0x9e, 0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0], get_lba_status),
    row(0xa0, None, "REPORT LUNS",            &[0xa0, 0, 0xff, 0, 0, 0, 255, 255, 255, 255, 0, 0], |b| Ok(Command::ReportLuns { select: b[2], room: be32(b, 6) })),
    row(0xa3, Some(0x0a), "REPORT TARGET PORT GROUPS", &[0xa3, 0xea, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], target_port_groups::report_cdb),
    row(0xa3, Some(0x0c), "REPORT SUPPORTED OPERATION CODES", &[0xa3, 0x0c, 0x87, 255, 255, 255, 255, 255, 255, 255, 0, 0], report_opcodes),
    row(0xa3, Some(0x0d), "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", &[0xa3, 0x0d, 0x80, 0, 0, 0, 255, 255, 255, 255, 0, 0], report_tmfs),
    row(0xa4, Some(0x0a), "SET TARGET PORT GROUPS", &[0xa4, 0x0a, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0], target_port_groups::set_cdb).only(Needs::ExplicitAccess),
    row(0xa8, None, "READ (12)",              &[0xa8, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| Ok(Command::Read(protected(b, twelve(b))?))),
    row(0xaa, None, "WRITE (12)",             &[0xaa, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| Ok(Command::Write(protected(b, twelve(b))?))),
    row(0xae, None, "WRITE AND VERIFY (12)",  &[0xae, 0xf6, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| write_and_verify(b, twelve(b))),
    row(0xaf, None, "VERIFY (12)",            &[0xaf, 0xf6, 255, 255, 255, 255, 255, 255, 255, 255, 0x1f, 0], |b| verify(b, twelve(b))),
    row(0xb7, None, "READ DEFECT DATA (12)",  &[0xb7, 0x1f, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0], read_defect_data12),
];

/// Operation code to first row + 1 (0: unknown); rows of one operation code stand together.
static INDEX: [u8; 256] = {
    let (mut index, mut i) = ([0; 256], TABLE.len());
    while i > 0 {
        i -= 1;
        index[TABLE[i].opcode as usize] = i as u8 + 1;
    }
    index
};

/// There is such a command, on some unit. For an operation code without service actions, `action` does not count.
pub fn exists(opcode: u8, action: u8) -> bool {
    rows(opcode)
        .iter()
        .any(|row| row.action.is_none_or(|own| own == action))
}

/// How a command is refused that a unit does not have: a service action of an operation code it has otherwise is a wrong field.
pub fn refusal(row: &Entry, has: impl Fn(Needs) -> bool) -> CdbError {
    match rows(row.opcode).iter().any(|other| has(other.needs)) {
        true => CdbError::Field { byte: 1, bit: 4 },
        false => CdbError::Opcode,
    }
}

/// The rows of one operation code.
fn rows(opcode: u8) -> &'static [Entry] {
    let Some(first) = usize::from(INDEX[usize::from(opcode)]).checked_sub(1) else {
        return &[];
    };
    let more = TABLE[first..].iter().take_while(|row| row.opcode == opcode);
    &TABLE[first..first + more.count()]
}

impl Cdb {
    /// Its row of the table, or how it is refused.
    pub fn entry(&self) -> Result<&'static Entry, CdbError> {
        let Some(first) = usize::from(INDEX[usize::from(self.0[0])]).checked_sub(1) else {
            return Err(CdbError::Opcode);
        };
        TABLE[first..]
            .iter()
            .take_while(|row| row.opcode == self.0[0])
            .find(|row| row.action.is_none_or(|action| action == self.0[1] & 0x1f))
            // A known operation code with an unknown service action is a wrong field, not an unknown command.
            .ok_or(CdbError::Field { byte: 1, bit: 4 })
    }

    /// Reads the block. Ranges are not checked against any medium here.
    pub fn command(&self) -> Result<Command, CdbError> {
        self.entry()?.command(self)
    }
}

impl Entry {
    /// Reads a block of this row.
    pub fn command(&self, cdb: &Cdb) -> Result<Command, CdbError> {
        let stray = u128::from_be_bytes(cdb.0) & !self.known;
        if stray != 0 {
            let at = stray.leading_zeros() as u8; // less than 128
            return Err(CdbError::Field {
                byte: at / 8,
                bit: 7 - at % 8,
            });
        }
        (self.decode)(&cdb.0)
    }
}

/// REPORTING OPTIONS of REPORT SUPPORTED OPERATION CODES.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// 000b: every command.
    All,
    /// 001b: this operation code, which must have no service actions.
    Opcode(u8),
    /// 010b: this service action, which its operation code must have.
    Action(u8, u16),
    /// 011b: this operation code and service action, or none and zero.
    Either(u8, u16),
}

/// No time-out is told: every field is zero, "not indicated" (SPC-4 6.34.4). What a command takes is the volume's affair.
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The parameter list of REPORT SUPPORTED OPERATION CODES, uncut, for a unit that has what `has` says.
pub fn report(what: Reporting, timeouts: bool, has: impl Fn(Needs) -> bool) -> Result<Vec<u8>, Sense> {
    let one = |opcode: u8, action: Option<u16>| {
        let row = rows(opcode).iter().find(|row| row.action.map(u16::from) == action);
        one_command(row.filter(|row| has(row.needs)), timeouts)
    };
    let acts = |opcode: u8| rows(opcode).iter().any(|row| row.action.is_some());
    match what {
        Reporting::All => Ok(all_commands(timeouts, has)),
        // REPORTING OPTIONS do not fit the operation code they ask for (SPC-4 table 273).
        Reporting::Opcode(opcode) if acts(opcode) => Err(Sense::cdb_field(2, 2)),
        Reporting::Opcode(opcode) => Ok(one(opcode, None)),
        Reporting::Action(opcode, _) if !rows(opcode).is_empty() && !acts(opcode) => Err(Sense::cdb_field(2, 2)),
        Reporting::Action(opcode, action) => Ok(one(opcode, Some(action))),
        Reporting::Either(opcode, action) if acts(opcode) => Ok(one(opcode, Some(action))),
        Reporting::Either(opcode, 0) => Ok(one(opcode, None)),
        Reporting::Either(..) => Ok(one_command(None, timeouts)),
    }
}

/// The all_commands format (SPC-4 6.34.2): eight bytes for each command, twelve more with its time-outs.
fn all_commands(timeouts: bool, has: impl Fn(Needs) -> bool) -> Vec<u8> {
    let mut out = vec![0; 4];
    for row in TABLE.iter().filter(|row| has(row.needs)) {
        let flags = u8::from(timeouts) << 1 | u8::from(row.action.is_some());
        out.extend_from_slice(&[
            row.opcode,
            0,
            0,
            row.action.unwrap_or(0),
            0,
            flags,
            0,
            row.usage.len() as u8,
        ]);
        if timeouts {
            out.extend_from_slice(&TIMEOUTS);
        }
    }
    let len = (out.len() - 4) as u32; // at most a few hundred rows
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

/// The one_command format (SPC-4 6.34.3): SUPPORT 001b without more, or 011b ("as the standard says") and the usage data.
fn one_command(row: Option<&Entry>, timeouts: bool) -> Vec<u8> {
    let Some(row) = row else {
        return vec![0, 0x01, 0, 0];
    };
    let mut out = vec![0, u8::from(timeouts) << 7 | 0x03, 0, row.usage.len() as u8];
    out.extend_from_slice(row.usage);
    if timeouts {
        out.extend_from_slice(&TIMEOUTS);
    }
    out
}

/// Task management functions, as REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS tells them (SPC-4 6.36).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own words")]
pub struct TaskManagement {
    pub abort_task: bool,
    pub abort_task_set: bool,
    pub clear_aca: bool,
    pub clear_task_set: bool,
    pub logical_unit_reset: bool,
    pub query_task: bool,
    pub query_task_set: bool,
    pub query_asynchronous_event: bool,
    pub i_t_nexus_reset: bool,
}

impl TaskManagement {
    /// The parameter data: 4 bytes, or 16 with REPD (no time-outs are told).
    pub fn encode(&self, extended: bool) -> Vec<u8> {
        let bits = |flags: [bool; 8]| flags.into_iter().fold(0, |byte, flag| byte << 1 | u8::from(flag));
        let mut out = vec![0; if extended { 16 } else { 4 }];
        // Bits 4 and 3 were TARGET RESET and WAKEUP.
        out[0] = bits([
            self.abort_task,
            self.abort_task_set,
            self.clear_aca,
            self.clear_task_set,
            self.logical_unit_reset,
            self.query_task,
            false,
            false,
        ]);
        out[1] = bits([
            false,
            false,
            false,
            false,
            false,
            self.query_asynchronous_event,
            self.query_task_set,
            self.i_t_nexus_reset,
        ]);
        if extended {
            out[3] = 12;
        }
        out
    }
}

fn report_opcodes(b: &[u8; 16]) -> Result<Command, CdbError> {
    let action = super::be16(b, 4);
    Ok(Command::ReportOpcodes {
        what: match b[2] & 7 {
            0 => Reporting::All,
            1 => Reporting::Opcode(b[3]),
            2 => Reporting::Action(b[3], action),
            3 => Reporting::Either(b[3], action),
            _ => return Err(CdbError::Field { byte: 2, bit: 2 }),
        },
        timeouts: b[2] & 0x80 != 0,
        room: be32(b, 6),
    })
}

fn report_tmfs(b: &[u8; 16]) -> Result<Command, CdbError> {
    // Less than the list is long without descriptors is an error here (SPC-4 6.36).
    match be32(b, 6) {
        0..4 => Err(CdbError::Field { byte: 6, bit: 7 }),
        room => Ok(Command::ReportTmfs {
            extended: b[2] & 0x80 != 0,
            room,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of this row with nothing asked for.
    fn plain(row: &Entry) -> Cdb {
        Cdb::new(&[row.opcode, row.action.unwrap_or(0)])
    }

    #[test]
    fn the_table_is_ordered_and_its_usage_data_fits_the_operation_codes() {
        assert!(TABLE.is_sorted_by_key(|row| (row.opcode, row.action)));
        for row in TABLE {
            let len = match row.opcode >> 5 {
                0 => 6,
                1 | 2 => 10,
                4 => 16,
                _ => 12,
            };
            assert_eq!((row.usage.len(), row.usage[0]), (len, row.opcode), "{}", row.name);
            assert_eq!(
                row.usage[len - 1],
                0,
                "{}: NACA and its neighbours are refused",
                row.name
            );
            if let Some(action) = row.action {
                assert_eq!(row.usage[1] & 0x1f, action, "{}", row.name);
            }
            let alone = rows(row.opcode).len() == 1;
            assert!(
                alone || row.action.is_some(),
                "{} and its neighbours need service actions",
                row.name
            );
        }
    }

    /// The first way: what is reported is decoded. A row may still find its plain block wanting, but never unknown.
    #[test]
    fn every_row_decodes() {
        for row in TABLE {
            let cdb = plain(row);
            assert!(std::ptr::eq(cdb.entry().unwrap(), row), "{}", row.name);
            let decoded = cdb.command();
            let unknown = [Err(CdbError::Opcode), Err(CdbError::Field { byte: 1, bit: 4 })];
            assert!(!unknown.contains(&decoded), "{}: {decoded:?}", row.name);
        }
    }

    /// The other way: every operation code and service action without a row is refused, and not reported.
    #[test]
    fn nothing_else_decodes() {
        for opcode in 0..=255u8 {
            for action in 0..32u8 {
                let cdb = Cdb::new(&[opcode, action]);
                let known = TABLE
                    .iter()
                    .any(|row| row.opcode == opcode && row.action.is_none_or(|known| known == action));
                let acts = TABLE.iter().any(|row| row.opcode == opcode);
                let refused = match cdb.command() {
                    Err(CdbError::Opcode) => !acts,
                    Err(CdbError::Field { byte: 1, bit: 4 }) => acts,
                    _ => false,
                };
                assert_eq!(cdb.entry().is_ok(), known, "{opcode:02x}/{action:02x}");
                assert!(known || refused, "{opcode:02x}/{action:02x}");
                let told = report(Reporting::Either(opcode, action.into()), false, |_| true).unwrap();
                let supported = rows(opcode).iter().any(|row| row.action.unwrap_or(0) == action);
                assert_eq!(told[1], if supported { 3 } else { 1 }, "{opcode:02x}/{action:02x}");
            }
        }
    }

    #[test]
    fn every_bit_outside_the_usage_data_is_pointed_at() {
        for row in TABLE {
            for at in 8..row.usage.len() * 8 {
                let (byte, bit) = (at / 8, 7 - (at % 8) as u8);
                let mut cdb = plain(row);
                cdb.0[byte] |= 1 << bit;
                let looked_at = row.usage[byte] >> bit & 1 == 1 || byte == 1 && bit < 5 && row.action.is_some();
                let ignored = byte == 1 && obsolete(row.opcode) >> bit & 1 == 1;
                if !looked_at && !ignored {
                    let byte = byte as u8;
                    assert_eq!(
                        cdb.command(),
                        Err(CdbError::Field { byte, bit }),
                        "{} {byte}:{bit}",
                        row.name
                    );
                }
            }
        }
        // What an old host sets and nobody reads: SCSI-2's LUN, FUA_NV.
        assert!(Cdb::new(&[0x00, 0x20, 0, 0, 0, 0]).command().is_ok());
        assert!(Cdb::new(&[0x2a, 0x02, 0, 0, 0, 0, 0, 0, 1, 0]).command().is_ok());
    }

    #[test]
    fn all_commands_come_with_and_without_timeouts() {
        let all = report(Reporting::All, false, |_| true).unwrap();
        assert_eq!(super::super::be32(&all, 0) as usize, all.len() - 4);
        assert_eq!(all.len(), 4 + 8 * TABLE.len());
        assert_eq!(all[4..12], [0x00, 0, 0, 0, 0, 0, 0, 6]);
        let at = 4 + 8 * TABLE
            .iter()
            .position(|row| row.action == Some(0x0c) && row.opcode == 0xa3)
            .unwrap();
        assert_eq!(all[at..at + 8], [0xa3, 0, 0, 0x0c, 0, 1, 0, 12]);
        let timed = report(Reporting::All, true, |_| true).unwrap();
        assert_eq!(timed.len(), 4 + 20 * TABLE.len());
        assert_eq!(
            timed[4..24],
            [0, 0, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        // A full unit has no UNMAP and does not claim to.
        let full = report(Reporting::All, false, |needs| needs == Needs::Nothing).unwrap();
        assert!(full.len() < all.len() && full[4..].chunks(8).all(|command| command[0] != 0x42));
    }

    #[test]
    fn one_command_shows_its_usage_data() {
        let ask = |what| report(what, false, |needs| needs == Needs::Nothing);
        let read = [0, 3, 0, 10, 0x28, 0xf8, 255, 255, 255, 255, 0x1f, 255, 255, 0];
        assert_eq!(ask(Reporting::Opcode(0x28)).unwrap(), read);
        assert_eq!(ask(Reporting::Either(0x28, 0)).unwrap(), read);
        assert_eq!(ask(Reporting::Either(0x28, 1)).unwrap(), [0, 1, 0, 0]);
        assert_eq!(ask(Reporting::Action(0x28, 0)), Err(Sense::cdb_field(2, 2)));
        let capacity = [
            0, 3, 0, 16, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0,
        ];
        assert_eq!(ask(Reporting::Action(0x9e, 0x10)).unwrap(), capacity);
        assert_eq!(ask(Reporting::Either(0x9e, 0x10)).unwrap(), capacity);
        assert_eq!(ask(Reporting::Action(0x9e, 0x1e)).unwrap(), [0, 1, 0, 0]);
        assert_eq!(ask(Reporting::Opcode(0x9e)), Err(Sense::cdb_field(2, 2)));
        assert_eq!(ask(Reporting::Opcode(0xff)).unwrap(), [0, 1, 0, 0]);
        assert_eq!(ask(Reporting::Opcode(0x42)).unwrap(), [0, 1, 0, 0], "this unit is full");
        let timed = report(Reporting::Opcode(0x00), true, |_| true).unwrap();
        assert_eq!(
            timed,
            [0, 0x83, 0, 6, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn task_management_functions_have_their_bits() {
        let ours = TaskManagement {
            abort_task: true,
            logical_unit_reset: true,
            query_task: true,
            i_t_nexus_reset: true,
            ..TaskManagement::default()
        };
        assert_eq!(ours.encode(false), [0x8c, 0x01, 0, 0]);
        assert_eq!(ours.encode(true)[..5], [0x8c, 0x01, 0, 12, 0]);
        assert_eq!(ours.encode(true).len(), 16);
    }
}
