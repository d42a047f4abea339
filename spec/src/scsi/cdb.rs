//! Command descriptor blocks: what each says (SPC-4 chapter 6, SBC-3 chapter 5).
//!
//! A command comes out as plain data with its range already typed. Which commands there are, and which of their bits may
//! be set, is said by the table in [`opcodes`](super::opcodes); the functions here read blocks that passed it.
use super::{
    Sense, be16, be32, be64, copy::Results, log::LogControl, medium::Sanitize, opcodes::Reporting, reservation,
};
use crate::{BlockRange, Lba};

/// A command descriptor block as the transport carries it, padded with zeros to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb(pub [u8; 16]);

/// What is wrong with a block, before any medium is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdbError {
    /// Nobody knows the operation code.
    Opcode,
    /// The field starting at this byte and (most significant) bit says something we do not do.
    Field {
        /// Byte in the block.
        byte: u8,
        /// Bit in the byte.
        bit: u8,
    },
}

impl CdbError {
    /// The sense data to answer with.
    pub const fn sense(self) -> Sense {
        match self {
            CdbError::Opcode => Sense::OPCODE,
            CdbError::Field { byte, bit } => Sense::cdb_field(byte as u16, bit),
        }
    }
}

/// A command that touches a run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Its footprint on the medium.
    pub range: BlockRange,
    /// Force unit access: the medium, not a volatile cache.
    pub fua: bool,
    /// Disable page out: the data is not worth caching.
    pub dpo: bool,
}

/// BYTCHK of the VERIFY commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Only see that the medium can be read; no data comes with the command.
    Medium,
    /// Compare with as many blocks as the range has.
    Each,
    /// Compare every block with the one block that comes.
    Repeated,
}

/// Which values of a mode page are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum PageControl {
    Current,
    Changeable,
    Default,
    Saved,
}

/// A decoded command. `room` is always the ALLOCATION LENGTH: how much of the answer the host takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as in the standards")]
pub enum Command {
    TestUnitReady,
    RequestSense {
        descriptor: bool,
        room: u16,
    },
    /// `page` is `None` for standard data, `Some` for vital product data.
    Inquiry {
        page: Option<u8>,
        room: u16,
    },
    ModeSense {
        page: u8,
        subpage: u8,
        control: PageControl,
        descriptors: bool,
        long_lba: bool,
        ten: bool,
        room: u16,
    },
    ModeSelect {
        page_format: bool,
        save: bool,
        ten: bool,
        len: u16,
    },
    LogSense {
        page: u8,
        subpage: u8,
        control: LogControl,
        pointer: u16,
        room: u16,
    },
    /// `reset` is PCR.
    LogSelect {
        reset: bool,
        page: u8,
        subpage: u8,
        len: u16,
    },
    ReadCapacity10,
    ReadCapacity16 {
        room: u32,
    },
    ReportLuns {
        select: u8,
        room: u32,
    },
    /// `load_eject` is LOEJ; what START says happens to the medium then. A POWER CONDITION makes both mean nothing.
    StartStop {
        condition: u8,
        no_flush: bool,
        load_eject: bool,
        start: bool,
    },
    PreventAllow {
        prevent: bool,
    },
    /// The default self-test, or nothing (SELFTEST = 0 without a list).
    SendDiagnostic {
        self_test: bool,
    },
    SynchronizeCache {
        range: BlockRange,
        immediate: bool,
    },
    Read(Transfer),
    Write(Transfer),
    Verify {
        transfer: Transfer,
        check: Check,
    },
    /// `no_data` is NDOB: write zeros, nothing comes with the command.
    WriteSame {
        transfer: Transfer,
        unmap: bool,
        anchor: bool,
        no_data: bool,
    },
    Unmap {
        anchor: bool,
        len: u16,
    },
    /// Half of the data is to compare, half to write.
    CompareAndWrite(Transfer),
    OrWrite(Transfer),
    WriteAndVerify {
        transfer: Transfer,
        check: Check,
    },
    /// `boundary`: the write need only be atomic between multiples of so many blocks; 0: as a whole.
    WriteAtomic {
        transfer: Transfer,
        boundary: u16,
    },
    PreFetch {
        range: BlockRange,
        immediate: bool,
    },
    GetLbaStatus {
        start: Lba,
        room: u32,
    },
    /// `lists` is REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT as they stand.
    ReadDefectData {
        ten: bool,
        lists: u8,
        room: u32,
    },
    ExtendedCopy {
        lid4: bool,
        len: u32,
    },
    ReceiveCopyResults {
        what: Results,
        list_id: u32,
        room: u32,
    },
    Sanitize {
        how: Sanitize,
        immediate: bool,
        unrestricted_exit: bool,
        len: u16,
    },
    PersistentReserveIn {
        action: reservation::In,
        room: u16,
    },
    /// `kind` is `None` where the TYPE field is none of the standard's.
    PersistentReserveOut {
        action: reservation::Out,
        kind: Option<reservation::Type>,
        len: u32,
    },
    /// RESERVE (6) and (10), of the whole unit.
    Reserve,
    /// RELEASE (6) and (10), of the whole unit.
    Release,
    ReportTargetPortGroups {
        extended: bool,
        room: u32,
    },
    SetTargetPortGroups {
        len: u32,
    },
    ReportOpcodes {
        what: Reporting,
        timeouts: bool,
        room: u32,
    },
    ReportTmfs {
        extended: bool,
        room: u32,
    },
}

/// What travels with a command, as its CDB says (the transport may say otherwise; then there are residuals).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    None,
    /// To the host, at most this many bytes.
    In(u64),
    /// From the host, this many bytes.
    Out(u64),
}

impl Command {
    /// The medium blocks it touches, if it is one of those commands.
    pub fn transfer(&self) -> Option<Transfer> {
        match *self {
            Command::Read(t) | Command::Write(t) | Command::CompareAndWrite(t) | Command::OrWrite(t) => Some(t),
            Command::Verify { transfer, .. }
            | Command::WriteSame { transfer, .. }
            | Command::WriteAndVerify { transfer, .. }
            | Command::WriteAtomic { transfer, .. } => Some(transfer),
            Command::SynchronizeCache { range, .. } | Command::PreFetch { range, .. } => Some(Transfer {
                range,
                fua: false,
                dpo: false,
            }),
            _ => None,
        }
    }

    /// It changes the medium and leaves the change where the volume's write cache may hold it: neither a WRITE, which is
    /// done with FUA if it must be, nor a command that says nothing of the medium.
    pub fn leaves_cached(&self) -> bool {
        match self {
            Command::CompareAndWrite(t) | Command::OrWrite(t) | Command::WriteAtomic { transfer: t, .. } => !t.fua,
            Command::WriteSame { .. } | Command::Unmap { .. } | Command::Sanitize { .. } => true,
            _ => false,
        }
    }

    /// Direction and amount of data, for blocks of `block_size` bytes.
    pub fn data(&self, block_size: u32) -> Data {
        let bytes = |t: &Transfer| u64::from(t.range.count) * u64::from(block_size);
        let out = |n: u64| if n == 0 { Data::None } else { Data::Out(n) };
        match self {
            Command::Read(t) if t.range.count > 0 => Data::In(bytes(t)),
            Command::Write(t)
            | Command::OrWrite(t)
            | Command::WriteAndVerify { transfer: t, .. }
            | Command::WriteAtomic { transfer: t, .. } => out(bytes(t)),
            Command::CompareAndWrite(t) => out(2 * bytes(t)),
            Command::ExtendedCopy { len, .. } => out((*len).into()),
            Command::Verify { transfer, check } => match check {
                Check::Each => out(bytes(transfer)),
                Check::Repeated if transfer.range.count > 0 => out(block_size.into()),
                _ => Data::None,
            },
            Command::WriteSame { no_data: false, .. } => out(block_size.into()),
            Command::Unmap { len, .. }
            | Command::ModeSelect { len, .. }
            | Command::LogSelect { len, .. }
            | Command::Sanitize { len, .. } => out((*len).into()),
            Command::ReadCapacity10 => Data::In(8),
            Command::ReadCapacity16 { room }
            | Command::ReportLuns { room, .. }
            | Command::GetLbaStatus { room, .. }
            | Command::ReadDefectData { room, .. }
            | Command::ReceiveCopyResults { room, .. }
            | Command::ReportOpcodes { room, .. }
            | Command::ReportTmfs { room, .. }
            | Command::ReportTargetPortGroups { room, .. } => Data::In((*room).into()),
            Command::PersistentReserveOut { len, .. } | Command::SetTargetPortGroups { len } => out((*len).into()),
            Command::Inquiry { room, .. }
            | Command::ModeSense { room, .. }
            | Command::LogSense { room, .. }
            | Command::PersistentReserveIn { room, .. }
            | Command::RequestSense { room, .. } => Data::In((*room).into()),
            _ => Data::None,
        }
    }
}

impl Cdb {
    /// Pads a shorter block with zeros; bytes past the sixteenth are of no command we know.
    pub fn new(bytes: &[u8]) -> Self {
        let mut block = [0; 16];
        let n = bytes.len().min(16);
        block[..n].copy_from_slice(&bytes[..n]);
        Self(block)
    }

    /// The operation code.
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }
}

fn flags(b: &[u8; 16], range: BlockRange) -> Transfer {
    Transfer {
        range,
        fua: b[1] & 0x08 != 0,
        dpo: b[1] & 0x10 != 0,
    }
}

/// READ (6) and WRITE (6): 21 bits of LBA, and a length of 0 means 256.
pub(super) fn six(b: &[u8; 16]) -> Transfer {
    let count = if b[4] == 0 { 256 } else { b[4].into() };
    Transfer {
        range: BlockRange::new((be32(b, 0) & 0x1f_ffff).into(), count),
        fua: false,
        dpo: false,
    }
}

pub(super) fn ten(b: &[u8; 16]) -> Transfer {
    flags(b, BlockRange::new(be32(b, 2).into(), be16(b, 7).into()))
}

pub(super) fn twelve(b: &[u8; 16]) -> Transfer {
    flags(b, BlockRange::new(be32(b, 2).into(), be32(b, 6)))
}

pub(super) fn sixteen(b: &[u8; 16]) -> Transfer {
    flags(b, BlockRange::new(be64(b, 2), be32(b, 10)))
}

/// RDPROTECT, WRPROTECT, VRPROTECT: no unit of ours is formatted with protection information.
pub(super) fn protected(b: &[u8; 16], transfer: Transfer) -> Result<Transfer, CdbError> {
    if b[1] & 0xe0 != 0 {
        return Err(CdbError::Field { byte: 1, bit: 7 });
    }
    Ok(transfer)
}

pub(super) fn verify(b: &[u8; 16], transfer: Transfer) -> Result<Command, CdbError> {
    let transfer = Transfer {
        fua: false, // that bit is not FUA here
        ..protected(b, transfer)?
    };
    let check = match b[1] >> 1 & 3 {
        0 => Check::Medium,
        1 => Check::Each,
        3 => Check::Repeated,
        _ => return Err(CdbError::Field { byte: 1, bit: 2 }),
    };
    Ok(Command::Verify { transfer, check })
}

pub(super) fn synchronize(b: &[u8; 16], transfer: Transfer) -> Command {
    Command::SynchronizeCache {
        range: transfer.range,
        immediate: b[1] & 0x02 != 0,
    }
}

pub(super) fn write_same(b: &[u8; 16], transfer: Transfer, no_data: bool) -> Result<Command, CdbError> {
    let transfer = Transfer {
        fua: false, // that bit is UNMAP here, and the next one ANCHOR
        dpo: false,
        ..protected(b, transfer)?
    };
    let (unmap, anchor) = (b[1] & 0x08 != 0, b[1] & 0x10 != 0);
    // Anchored blocks do not exist here (ANC_SUP = 0), nor does ANCHOR without UNMAP.
    if anchor {
        return Err(CdbError::Field { byte: 1, bit: 4 });
    }
    Ok(Command::WriteSame {
        transfer,
        unmap,
        anchor,
        no_data,
    })
}

pub(super) fn unmap(b: &[u8; 16]) -> Result<Command, CdbError> {
    if b[1] & 1 != 0 {
        return Err(CdbError::Field { byte: 1, bit: 0 });
    }
    Ok(Command::Unmap {
        anchor: false,
        len: be16(b, 7),
    })
}

pub(super) fn request_sense(b: &[u8; 16]) -> Result<Command, CdbError> {
    Ok(Command::RequestSense {
        descriptor: b[1] & 1 != 0,
        room: b[4].into(),
    })
}

pub(super) fn inquiry(b: &[u8; 16]) -> Result<Command, CdbError> {
    let vpd = b[1] & 1 != 0;
    // A page without EVPD is an error (SPC-4 6.4.1); so is the obsolete CMDDT bit.
    if b[1] & 0x02 != 0 {
        return Err(CdbError::Field { byte: 1, bit: 1 });
    }
    if !vpd && b[2] != 0 {
        return Err(CdbError::Field { byte: 2, bit: 7 });
    }
    Ok(Command::Inquiry {
        page: vpd.then_some(b[2]),
        room: be16(b, 3),
    })
}

pub(super) fn mode_sense(b: &[u8; 16], ten: bool) -> Command {
    Command::ModeSense {
        page: b[2] & 0x3f,
        subpage: b[3],
        control: match b[2] >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => PageControl::Saved,
        },
        descriptors: b[1] & 0x08 == 0,
        long_lba: ten && b[1] & 0x10 != 0,
        ten,
        room: if ten { be16(b, 7) } else { b[4].into() },
    }
}

pub(super) fn mode_select(b: &[u8; 16], ten: bool) -> Result<Command, CdbError> {
    Ok(Command::ModeSelect {
        page_format: b[1] & 0x10 != 0,
        save: b[1] & 0x01 != 0,
        ten,
        len: if ten { be16(b, 7) } else { b[4].into() },
    })
}

pub(super) fn log_sense(b: &[u8; 16]) -> Result<Command, CdbError> {
    // SP: nothing is saved.
    if b[1] & 1 != 0 {
        return Err(CdbError::Field { byte: 1, bit: 0 });
    }
    Ok(Command::LogSense {
        page: b[2] & 0x3f,
        subpage: b[3],
        control: match b[2] >> 6 {
            0 => LogControl::Threshold,
            1 => LogControl::Cumulative,
            2 => LogControl::DefaultThreshold,
            _ => LogControl::DefaultCumulative,
        },
        pointer: be16(b, 5),
        room: be16(b, 7),
    })
}

pub(super) fn log_select(b: &[u8; 16]) -> Result<Command, CdbError> {
    if b[1] & 1 != 0 {
        return Err(CdbError::Field { byte: 1, bit: 0 });
    }
    let (reset, len) = (b[1] & 2 != 0, be16(b, 7));
    // A reset comes without a list (SPC-4 6.7).
    if reset && len != 0 {
        return Err(CdbError::Field { byte: 1, bit: 1 });
    }
    Ok(Command::LogSelect {
        reset,
        page: b[2] & 0x3f,
        subpage: b[3],
        len,
    })
}

pub(super) fn start_stop(b: &[u8; 16]) -> Result<Command, CdbError> {
    // IMMED: everything is done before the status anyway.
    Ok(Command::StartStop {
        condition: b[4] >> 4,
        no_flush: b[4] & 4 != 0,
        load_eject: b[4] & 2 != 0,
        start: b[4] & 1 != 0,
    })
}

pub(super) fn prevent_allow(b: &[u8; 16]) -> Result<Command, CdbError> {
    // 10b and 11b were for medium changers (SPC-2).
    match b[4] & 3 {
        prevent @ (0 | 1) => Ok(Command::PreventAllow { prevent: prevent == 1 }),
        _ => Err(CdbError::Field { byte: 4, bit: 1 }),
    }
}

pub(super) fn send_diagnostic(b: &[u8; 16]) -> Result<Command, CdbError> {
    // There are no other self-tests and no diagnostic pages, so neither a code nor a list (SPC-5 6.42).
    let (code, len) = (b[1] >> 5, be16(b, 3));
    match (code, len) {
        (0, 0) => Ok(Command::SendDiagnostic {
            self_test: b[1] & 0x04 != 0,
        }),
        (0, _) => Err(CdbError::Field { byte: 3, bit: 7 }),
        _ => Err(CdbError::Field { byte: 1, bit: 7 }),
    }
}

pub(super) fn read_capacity10(b: &[u8; 16]) -> Result<Command, CdbError> {
    // PMI and its LBA are obsolete; a set PMI is refused rather than misunderstood.
    match b[8] & 1 {
        0 => Ok(Command::ReadCapacity10),
        _ => Err(CdbError::Field { byte: 8, bit: 0 }),
    }
}

pub(super) fn read_capacity16(b: &[u8; 16]) -> Result<Command, CdbError> {
    Ok(Command::ReadCapacity16 { room: be32(b, 10) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_read_lengths_say_the_same_range() {
        let read = |bytes: &[u8]| Cdb::new(bytes).command().unwrap().transfer().unwrap().range;
        assert_eq!(read(&[0x08, 0x1f, 0x12, 0x34, 8, 0]), BlockRange::new(0x1f_1234, 8));
        assert_eq!(read(&[0x08, 0, 0, 1, 0, 0]), BlockRange::new(1, 256));
        let range = BlockRange::new(0x0102_0304, 0x0506);
        assert_eq!(read(&[0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0]), range);
        assert_eq!(read(&[0xa8, 0, 1, 2, 3, 4, 0, 0, 5, 6, 0, 0]), range);
        assert_eq!(read(&[0x88, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 0, 0]), range);
    }

    #[test]
    fn flags_mean_what_their_command_says() {
        let write = Cdb::new(&[0x2a, 0x18, 0, 0, 0, 0, 0, 0, 1, 0]).command().unwrap();
        assert!(matches!(
            write,
            Command::Write(Transfer {
                fua: true,
                dpo: true,
                ..
            })
        ));
        let same = Cdb::new(&[0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0]).command().unwrap();
        assert!(matches!(
            same,
            Command::WriteSame {
                unmap: true,
                no_data: false,
                ..
            }
        ));
        assert_eq!(same.data(512), Data::Out(512));
        let ndob = Cdb::new(&[0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0])
            .command()
            .unwrap();
        assert_eq!(ndob.data(512), Data::None);
        let verify = |b1| Cdb::new(&[0x2f, b1, 0, 0, 0, 0, 0, 0, 3, 0]).command();
        assert_eq!(verify(0).unwrap().data(512), Data::None);
        assert_eq!(verify(2).unwrap().data(512), Data::Out(1536));
        assert_eq!(verify(6).unwrap().data(512), Data::Out(512));
        assert_eq!(verify(4), Err(CdbError::Field { byte: 1, bit: 2 }));
    }

    #[test]
    fn what_we_do_not_do_is_refused_by_name() {
        assert_eq!(Cdb::new(&[0xff]).command(), Err(CdbError::Opcode));
        assert_eq!(
            Cdb::new(&[0x9e, 0x1f]).command(),
            Err(CdbError::Field { byte: 1, bit: 4 })
        );
        let protect = Cdb::new(&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0]).command();
        assert_eq!(protect, Err(CdbError::Field { byte: 1, bit: 7 }));
        let naca = Cdb::new(&[0x00, 0, 0, 0, 0, 4]).command();
        assert_eq!(naca, Err(CdbError::Field { byte: 5, bit: 2 }));
        assert_eq!(
            Cdb::new(&[0x12, 0, 0x80, 0, 36, 0]).command(),
            Err(CdbError::Field { byte: 2, bit: 7 })
        );
    }

    proptest! {
        #[test]
        fn no_block_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            crate::scsi::fuzz_scsi_cdb(&bytes);
        }
    }
}
