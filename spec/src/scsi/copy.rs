//! EXTENDED COPY and RECEIVE COPY RESULTS (SPC-4 6.4, 6.18 to 6.22): parameter lists, what is told about them, and the third-party copy
//! page (SPC-4 7.8.17).
//!
//! ```text
//!   LID1   0 list identifier   1 STR, LIST ID USAGE, PRIORITY   2 CSCD list length   8 segment list length   12 inline data   16 …
//!   LID4   0 01h   1 as above   15 G_SENSE, IMMED   20 list identifier   42 CSCD list   44 segment list   46 inline   48 …
//!   CSCD descriptor e4h (32 bytes)       0 e4   4 designator: code set, type, length   8 its bytes   28 disk block length (3)
//!   segment descriptor 02h (28 bytes)    0 02   1 DC, CAT   4 source   6 destination   10 blocks   12 source LBA   20 destination LBA
//! ```
//!
//! Source and destination are indices into the CSCD descriptors (copy source, copy destination), and `ffffh` is the unit that was sent
//! the command. Only identification descriptors and block to block segments exist: what VAAI, sg_xcopy and libiscsi use.
use super::{CdbError, Command, Sense, SenseKey, be16, be32, be64, sense};

/// Most CSCD descriptors in a list.
pub const CSCDS_MAX: u16 = 8;
/// Most segment descriptors in a list.
pub const SEGMENTS_MAX: u16 = 64;
/// Most bytes of descriptors in a list.
pub const LIST_MAX: u32 = CSCDS_MAX as u32 * CSCD_LEN as u32 + SEGMENTS_MAX as u32 * SEGMENT_LEN as u32;
/// The longest segment in bytes: 65,535 of the longest blocks we have.
pub const SEGMENT_BYTES_MAX: u32 = 0xffff << 16;
/// Most copies whose outcome is kept for one host, and most that may be under way for it.
pub const COPIES_MAX: u8 = 16;
/// The index that means the unit that was sent the command.
pub const THIS_UNIT: u16 = 0xffff;

const CSCD_LEN: usize = 32;
const SEGMENT_LEN: usize = 28;
const IDENTIFICATION: u8 = 0xe4;
const BLOCK_TO_BLOCK: u8 = 0x02;

impl Sense {
    /// OPERATION IN PROGRESS: the list identifier is another copy's.
    pub const LIST_ID_IN_USE: Self = Self::new(SenseKey::IllegalRequest, 0x00, 0x16);
    /// TOO MANY TARGET DESCRIPTORS.
    pub const TOO_MANY_CSCDS: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x06);
    /// UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    pub const CSCD_TYPE: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x07);
    /// TOO MANY SEGMENT DESCRIPTORS.
    pub const TOO_MANY_SEGMENTS: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x08);
    /// UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    pub const SEGMENT_TYPE: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x09);
    /// INLINE DATA LENGTH EXCEEDED.
    pub const INLINE_DATA: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0x0b);
    /// UNEXPECTED INEXACT SEGMENT: the blocks of one side do not fill those of the other.
    pub const INEXACT_SEGMENT: Self = Self::new(SenseKey::CopyAborted, 0x26, 0x0a);
    /// UNREACHABLE COPY TARGET: an index that names no descriptor.
    pub const UNREACHABLE_CSCD: Self = Self::new(SenseKey::CopyAborted, 0x08, 0x04);
    /// COPY TARGET DEVICE NOT REACHABLE: nobody here answers to the designator, or not now.
    pub const CSCD_NOT_REACHABLE: Self = Self::new(SenseKey::CopyAborted, 0x0d, 0x02);
    /// THIRD PARTY DEVICE FAILURE: reading or writing failed.
    pub const CSCD_FAILED: Self = Self::new(SenseKey::CopyAborted, 0x0d, 0x01);
    /// NO ADDITIONAL SENSE INFORMATION: a segment leaves its disk.
    pub const SEGMENT_ABORTED: Self = Self::new(SenseKey::CopyAborted, 0x00, 0x00);
}

/// LIST ID USAGE: what is kept of a copy that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// 00b: its status is kept until it is asked for.
    Hold,
    /// 10b: it may be discarded.
    Discard,
    /// 11b: it has no list identifier, and nobody can ask.
    Nothing,
}

/// A disk by the designator it has on page 83h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cscd {
    /// DESIGNATOR TYPE.
    pub kind: u8,
    designator: [u8; 20],
    len: u8,
    /// DISK BLOCK LENGTH: what the host believes; 0 if it does not say.
    pub block_size: u32,
}

impl Cscd {
    /// DESIGNATOR.
    pub fn designator(&self) -> &[u8] {
        &self.designator[..usize::from(self.len)]
    }
}

/// Blocks to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the copy source.
    pub source: u16,
    /// Index of the copy destination.
    pub destination: u16,
    /// DC: `blocks` are the destination's, else the source's.
    pub by_destination: bool,
    /// How many.
    pub blocks: u16,
    /// First block of the source.
    pub source_lba: u64,
    /// First block of the destination.
    pub destination_lba: u64,
}

/// A parameter list of EXTENDED COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyList {
    /// LIST IDENTIFIER, of one or four bytes.
    pub list_id: u32,
    /// What becomes of its status.
    pub usage: Usage,
    /// At most [`CSCDS_MAX`].
    pub cscds: Vec<Cscd>,
    /// At most [`SEGMENTS_MAX`].
    pub segments: Vec<Segment>,
}

/// Reads a parameter list. An empty one asks for nothing, which is no error.
pub fn parse(list: &[u8], lid4: bool) -> Result<Option<CopyList>, Sense> {
    if list.is_empty() {
        return Ok(None);
    }
    let header = if lid4 { 48 } else { 16 };
    if list.len() < header {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let (list_id, cscds, segments, inline): (u32, u32, u32, u32) = match lid4 {
        false => (list[0].into(), be16(list, 2).into(), be32(list, 8), be32(list, 12)),
        true => {
            // The parameter list format, and a header descriptor of type ffh and 32 bytes.
            for (at, wrong) in [
                (0, list[0] != 1),
                (2, be16(list, 2) != 32),
                (16, list[16] != 0xff),
                (15, list[15] & 3 != 0),
            ] {
                if wrong {
                    return Err(Sense::parameter_field(at));
                }
            }
            (
                be32(list, 20),
                be16(list, 42).into(),
                be16(list, 44).into(),
                be16(list, 46).into(),
            )
        }
    };
    let usage = match list[1] >> 3 & 3 {
        0 => Usage::Hold,
        2 => Usage::Discard,
        3 if list_id == 0 => Usage::Nothing,
        3 => return Err(Sense::parameter_field(if lid4 { 20 } else { 0 })),
        _ => return Err(Sense::parameter_field(1)),
    };
    let descriptors = u64::from(segments) + u64::from(cscds);
    let rest = &list[header..];
    if descriptors > LIST_MAX.into() || descriptors > rest.len() as u64 {
        return Err(Sense::PARAMETER_LENGTH);
    }
    if inline > 0 {
        return Err(Sense::INLINE_DATA);
    }
    let (cscds, segments) = rest[..descriptors as usize].split_at(cscds as usize);
    Ok(Some(CopyList {
        list_id,
        usage,
        cscds: parse_cscds(cscds, header)?,
        segments: parse_segments(segments)?,
    }))
}

fn parse_cscds(mut rest: &[u8], mut at: usize) -> Result<Vec<Cscd>, Sense> {
    let mut out = Vec::new();
    while let Some(kind) = rest.first() {
        if out.len() == usize::from(CSCDS_MAX) {
            return Err(Sense::TOO_MANY_CSCDS);
        }
        if *kind != IDENTIFICATION {
            return Err(Sense::CSCD_TYPE);
        }
        let Some((one, more)) = rest.split_first_chunk::<CSCD_LEN>() else {
            return Err(Sense::PARAMETER_LENGTH);
        };
        // A direct-access device; LU ID TYPE and NUL are of older standards, and ignored (SPC-4 6.4.5.1).
        if one[1] & 0x1f != 0 {
            return Err(Sense::parameter_field(at as u16 + 1));
        }
        // A designator of the logical unit, no longer than its field.
        let len = one[7];
        if one[5] & 0x30 != 0 || len > 20 {
            return Err(Sense::parameter_field(at as u16 + 5));
        }
        let mut designator = [0; 20];
        designator.copy_from_slice(&one[8..28]);
        out.push(Cscd {
            kind: one[5] & 0x0f,
            designator,
            len,
            block_size: be32(one, 28) & 0xff_ffff,
        });
        rest = more;
        at += CSCD_LEN;
    }
    Ok(out)
}

fn parse_segments(mut rest: &[u8]) -> Result<Vec<Segment>, Sense> {
    let mut out = Vec::new();
    while let Some(kind) = rest.first() {
        if out.len() == usize::from(SEGMENTS_MAX) {
            return Err(Sense::TOO_MANY_SEGMENTS);
        }
        if *kind != BLOCK_TO_BLOCK {
            return Err(Sense::SEGMENT_TYPE);
        }
        let Some((one, more)) = rest.split_first_chunk::<SEGMENT_LEN>() else {
            return Err(Sense::PARAMETER_LENGTH);
        };
        if usize::from(be16(one, 2)) != SEGMENT_LEN - 4 {
            return Err(Sense::INVALID_PARAMETER);
        }
        out.push(Segment {
            by_destination: one[1] & 0x02 != 0,
            source: be16(one, 4),
            destination: be16(one, 6),
            blocks: be16(one, 10),
            source_lba: be64(one, 12),
            destination_lba: be64(one, 20),
        });
        rest = more;
    }
    Ok(out)
}

/// What RECEIVE COPY RESULTS asks for, by service action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Results {
    /// 00h and, with four bytes of identifier, 05h.
    Status {
        /// COPY STATUS (LID4).
        lid4: bool,
    },
    /// 03h.
    OperatingParameters,
    /// 04h.
    FailedSegment,
}

pub(super) fn extended_copy(b: &[u8; 16], lid4: bool) -> Result<Command, CdbError> {
    Ok(Command::ExtendedCopy { lid4, len: be32(b, 10) })
}

pub(super) fn receive_copy_results(b: &[u8; 16], what: Results) -> Result<Command, CdbError> {
    Ok(Command::ReceiveCopyResults {
        what,
        list_id: match what {
            Results::Status { lid4: true } => be32(b, 2),
            _ => b[2].into(),
        },
        room: be32(b, 10),
    })
}

/// How a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Ended with this.
    Failed(Sense),
}

/// What is known of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How it stands.
    pub state: State,
    /// Segments that are done.
    pub segments: u16,
    /// Bytes that were written.
    pub bytes: u64,
}

impl Progress {
    /// COPY STATUS, and EXTENDED COPY COMPLETION STATUS as a status byte.
    fn status(&self) -> (u8, u8) {
        match self.state {
            State::Running => (0, 0),
            State::Done => (1, 0),
            State::Failed(_) => (2, 2),
        }
    }

    /// TRANSFER COUNT UNITS and TRANSFER COUNT: bytes, or KiB if those are too many for four bytes.
    fn count(&self) -> (u8, u32) {
        match u32::try_from(self.bytes) {
            Ok(bytes) => (0, bytes),
            Err(_) => (1, u32::try_from(self.bytes >> 10).unwrap_or(u32::MAX)),
        }
    }

    /// RECEIVE COPY STATUS (LID1) parameter data.
    pub fn encode(&self) -> Vec<u8> {
        let (units, count) = self.count();
        let mut out = vec![0, 0, 0, 8, self.status().0, 0, 0, units];
        out[5..7].copy_from_slice(&self.segments.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        out
    }

    /// RECEIVE COPY STATUS (LID4) parameter data.
    pub fn encode4(&self) -> Vec<u8> {
        let sense = self.sense();
        let (units, count) = self.count();
        let (status, completion) = self.status();
        let mut out = vec![0; 32];
        // 01h: what EXTENDED COPY (LID4) has for a service action.
        out[4..6].copy_from_slice(&[0x01, status]);
        // OPERATION COUNTER, and no delay to tell.
        out[6..8].copy_from_slice(&self.segments.to_be_bytes());
        out[12..16].copy_from_slice(&[completion, sense.len() as u8, sense.len() as u8, units]);
        out[20..24].copy_from_slice(&count.to_be_bytes());
        out[24..26].copy_from_slice(&self.segments.to_be_bytes());
        out.extend_from_slice(&sense);
        let available = (out.len() - 4) as u32; // less than 64
        out[..4].copy_from_slice(&available.to_be_bytes());
        out
    }

    /// RECEIVE COPY FAILURE DETAILS (LID1) parameter data; nothing is available of a copy that did not fail.
    pub fn encode_failure(&self) -> Vec<u8> {
        let State::Failed(_) = self.state else {
            return vec![0; 4];
        };
        let sense = self.sense();
        let mut out = vec![0; 60];
        out[56] = 0x02; // CHECK CONDITION
        out[59] = sense.len() as u8;
        out.extend_from_slice(&sense);
        let available = (out.len() - 4) as u32; // less than 128
        out[..4].copy_from_slice(&available.to_be_bytes());
        out
    }

    fn sense(&self) -> Vec<u8> {
        let State::Failed(sense) = self.state else {
            return Vec::new();
        };
        let mut bytes = [0; sense::MAX_LEN];
        let len = sense.encode(false, &mut bytes);
        bytes[..len].to_vec()
    }
}

/// RECEIVE COPY OPERATING PARAMETERS parameter data.
pub fn operating_parameters() -> Vec<u8> {
    let mut out = vec![0; 44];
    out[4] = 1; // SNLID: a list needs no identifier
    out[8..10].copy_from_slice(&CSCDS_MAX.to_be_bytes());
    out[10..12].copy_from_slice(&SEGMENTS_MAX.to_be_bytes());
    out[12..16].copy_from_slice(&LIST_MAX.to_be_bytes());
    out[16..20].copy_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
    // No inline data, no held data, no streams. Then concurrent copies, in two widths.
    out[34..37].copy_from_slice(&[0, COPIES_MAX, COPIES_MAX]);
    out[37] = 9; // DATA SEGMENT GRANULARITY: log2 of 512 bytes
    out[43] = IMPLEMENTED.len() as u8;
    out.extend_from_slice(&IMPLEMENTED);
    let available = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&available.to_be_bytes());
    out
}

/// Descriptor type codes, in order.
const IMPLEMENTED: [u8; 2] = [BLOCK_TO_BLOCK, IDENTIFICATION];

/// The third-party copy page (8fh) without its header.
pub(super) fn page() -> Vec<u8> {
    let mut out = Vec::new();
    let mut descriptor = |kind: u16, body: &[u8]| {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&(body.len() as u16).to_be_bytes());
        out.extend_from_slice(&body);
    };
    // Supported commands: for each operation code the number of its service actions, and those.
    descriptor(0x0001, &[10, 0x83, 2, 0x00, 0x01, 0x84, 4, 0x00, 0x03, 0x04, 0x05]);
    let mut parameters = [0; 28];
    parameters[4..6].copy_from_slice(&CSCDS_MAX.to_be_bytes());
    parameters[6..8].copy_from_slice(&SEGMENTS_MAX.to_be_bytes());
    parameters[8..12].copy_from_slice(&LIST_MAX.to_be_bytes());
    descriptor(0x0004, &parameters);
    descriptor(0x0008, &[IMPLEMENTED.len() as u8, IMPLEMENTED[0], IMPLEMENTED[1]]);
    descriptor(0x000c, &[0, 2, 0xff, 0xff]); // supported CSCD IDs: this unit
    let mut general = [0; 32];
    general[3] = COPIES_MAX;
    general[7] = COPIES_MAX;
    general[8..12].copy_from_slice(&SEGMENT_BYTES_MAX.to_be_bytes());
    general[12] = 9;
    descriptor(0x8001, &general);
    out
}

/// Any bytes as both kinds of list: bounded, and never a panic.
#[doc(hidden)]
pub fn fuzz_scsi_copy(data: &[u8]) {
    for lid4 in [false, true] {
        if let Ok(Some(list)) = parse(data, lid4) {
            assert!(list.cscds.len() <= CSCDS_MAX.into() && list.segments.len() <= SEGMENTS_MAX.into());
            assert!(list.cscds.iter().all(|cscd| cscd.designator().len() <= 20));
            assert!(list.usage != Usage::Nothing || list.list_id == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::{Cdb, cdb::Data};
    use proptest::prelude::*;

    /// One descriptor of each kind, as sg_xcopy sends them.
    fn descriptors() -> Vec<u8> {
        let mut out = vec![0xe4, 0, 0, 0, 1, 3, 0, 8, 0x39, 1, 2, 3, 4, 5, 6, 7];
        out.resize(28, 0);
        out.extend_from_slice(&[0, 0, 2, 0]);
        out.extend_from_slice(&[0x02, 0x02, 0, 24, 0, 0, 0xff, 0xff, 0, 0, 8, 0]);
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0]);
        out
    }

    fn list() -> Vec<u8> {
        let header = [7, 0x10, 0, 32, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
        [&header[..], &descriptors()].concat()
    }

    fn wanted() -> CopyList {
        let mut designator = [0; 20];
        designator[..8].copy_from_slice(&[0x39, 1, 2, 3, 4, 5, 6, 7]);
        CopyList {
            list_id: 7,
            usage: Usage::Discard,
            cscds: vec![Cscd {
                kind: 3,
                designator,
                len: 8,
                block_size: 512,
            }],
            segments: vec![Segment {
                source: 0,
                destination: THIS_UNIT,
                by_destination: true,
                blocks: 2048,
                source_lba: 9,
                destination_lba: 1 << 32,
            }],
        }
    }

    #[test]
    fn a_list_reads_back_in_both_formats() {
        assert_eq!(parse(&list(), false), Ok(Some(wanted())));
        assert_eq!(wanted().cscds[0].designator(), [0x39, 1, 2, 3, 4, 5, 6, 7]);
        let mut header = vec![0; 48];
        (header[0], header[1], header[3], header[16]) = (1, 0x10, 32, 0xff);
        header[20..24].copy_from_slice(&[1, 2, 3, 4]);
        (header[43], header[45]) = (32, 28);
        let long = [header.clone(), descriptors()].concat();
        let mut wanted = wanted();
        wanted.list_id = 0x0102_0304;
        assert_eq!(parse(&long, true), Ok(Some(wanted)));
        let mut immediate = long;
        immediate[15] = 1;
        assert_eq!(parse(&immediate, true), Err(Sense::parameter_field(15)));
        assert_eq!(parse(&[], false), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_told_in_the_standards_order() {
        let whole = list();
        for cut in [1, 15, 16 + 31, whole.len() - 1] {
            assert_eq!(parse(&whole[..cut], false), Err(Sense::PARAMETER_LENGTH), "{cut}");
        }
        let with = |change: fn(&mut Vec<u8>)| {
            let mut list = list();
            change(&mut list);
            parse(&list, false)
        };
        assert_eq!(with(|l| l[16] = 0xe0), Err(Sense::CSCD_TYPE));
        assert_eq!(with(|l| l[48] = 0x03), Err(Sense::SEGMENT_TYPE));
        assert_eq!(with(|l| l[17] = 0x01), Err(Sense::parameter_field(17)), "a tape");
        assert_eq!(with(|l| l[23] = 21), Err(Sense::parameter_field(21)));
        assert_eq!(with(|l| l[51] = 23), Err(Sense::INVALID_PARAMETER));
        assert_eq!(with(|l| l[1] = 0x08), Err(Sense::parameter_field(1)));
        assert_eq!(
            with(|l| l[1] = 0x18),
            Err(Sense::parameter_field(0)),
            "an identifier that nobody can use"
        );
        assert_eq!(with(|l| l[15] = 1), Err(Sense::INLINE_DATA));
        assert!(
            with(|l| l[17] = 0xc0).is_ok(),
            "LU ID TYPE is nobody's concern any more"
        );
    }

    #[test]
    fn too_much_is_refused_by_its_name() {
        let many = |cscds: usize, segments: usize| {
            let one = descriptors();
            let mut list = vec![0; 16];
            list[2..4].copy_from_slice(&((cscds * 32) as u16).to_be_bytes());
            list[8..12].copy_from_slice(&((segments * 28) as u32).to_be_bytes());
            (0..cscds).for_each(|_| list.extend_from_slice(&one[..32]));
            (0..segments).for_each(|_| list.extend_from_slice(&one[32..]));
            parse(&list, false)
        };
        let (cscds, segments) = (usize::from(CSCDS_MAX), usize::from(SEGMENTS_MAX));
        let all = many(cscds, segments).unwrap().unwrap();
        assert_eq!((all.cscds.len(), all.segments.len()), (cscds, segments));
        assert_eq!(many(cscds + 1, 1), Err(Sense::TOO_MANY_CSCDS));
        assert_eq!(many(1, segments + 1), Err(Sense::TOO_MANY_SEGMENTS));
        assert_eq!(many(cscds + 1, segments + 1), Err(Sense::PARAMETER_LENGTH));
    }

    #[test]
    fn results_have_their_golden_bytes() {
        let running = Progress {
            state: State::Running,
            segments: 1,
            bytes: 0x10_0000,
        };
        assert_eq!(running.encode(), [0, 0, 0, 8, 0, 0, 1, 0, 0, 0x10, 0, 0]);
        let long = Progress {
            state: State::Done,
            bytes: 1 << 40,
            ..running
        };
        assert_eq!(long.encode(), [0, 0, 0, 8, 1, 0, 1, 1, 0x40, 0, 0, 0]);
        let failed = Progress {
            state: State::Failed(Sense::UNREACHABLE_CSCD),
            ..running
        };
        assert_eq!(failed.encode()[4], 2);
        let status = failed.encode4();
        assert_eq!(status[..16], [0, 0, 0, 46, 1, 2, 0, 1, 0, 0, 0, 0, 2, 18, 18, 0]);
        assert_eq!(Sense::parse(&status[32..]), Some(Sense::UNREACHABLE_CSCD));
        let details = failed.encode_failure();
        assert_eq!((details[3], details[56], details[59]), (74, 2, 18));
        assert_eq!(running.encode_failure(), [0; 4]);
        let parameters = operating_parameters();
        assert_eq!(
            parameters[..20],
            [0, 0, 0, 42, 1, 0, 0, 0, 0, 8, 0, 64, 0, 0, 8, 0, 0xff, 0xff, 0, 0]
        );
        assert_eq!(parameters[32..], [0, 0, 0, 16, 16, 9, 0, 0, 0, 0, 0, 2, 0x02, 0xe4]);
    }

    #[test]
    fn the_page_is_made_of_whole_descriptors() {
        let page = page();
        let (mut rest, mut kinds) = (&page[..], Vec::new());
        while !rest.is_empty() {
            kinds.push(be16(rest, 0));
            let len = usize::from(be16(rest, 2));
            assert!(len.is_multiple_of(4));
            rest = &rest[4 + len..];
        }
        assert_eq!(kinds, [1, 4, 8, 0x0c, 0x8001]);
        assert_eq!(page[..16], [0, 1, 0, 12, 10, 0x83, 2, 0, 1, 0x84, 4, 0, 3, 4, 5, 0]);
    }

    #[test]
    fn the_blocks_name_their_list() {
        let copy = Cdb::new(&[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).command();
        assert_eq!(copy, Ok(Command::ExtendedCopy { lid4: false, len: 256 }));
        assert_eq!(copy.unwrap().data(512), Data::Out(256));
        let (list_id, room) = (5, 1024);
        let results = |action: u8, id: [u8; 4]| {
            Cdb::new(&[0x84, action, id[0], id[1], id[2], id[3], 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]).command()
        };
        let ask = |what, list_id| Ok(Command::ReceiveCopyResults { what, list_id, room });
        assert_eq!(results(0, [5, 0, 0, 0]), ask(Results::Status { lid4: false }, list_id));
        assert_eq!(
            results(5, [1, 2, 3, 4]),
            ask(Results::Status { lid4: true }, 0x0102_0304)
        );
        assert_eq!(results(3, [0; 4]), ask(Results::OperatingParameters, 0));
        assert_eq!(
            results(1, [0; 4]),
            Err(CdbError::Field { byte: 1, bit: 4 }),
            "no data is held"
        );
    }

    proptest! {
        #[test]
        fn no_list_panics(data in proptest::collection::vec(any::<u8>(), 0..200), at in 0..64usize) {
            fuzz_scsi_copy(&data);
            let mut near = list();
            near[at] = data.first().copied().unwrap_or(0);
            fuzz_scsi_copy(&near);
        }
    }
}
