//! Log pages (SPC-4 7.3): the parameter data of LOG SENSE, and the parameter list of LOG SELECT.
//!
//! ```text
//! page       [DS | SPF | page code] [subpage code] [length: 2]  then parameters
//! parameter  [parameter code: 2] [DU | TSD | ETC | TMC | format] [length] value
//!
//! 00, 00/ff  which pages there are
//! 02, 03     write and read error counters: bytes processed (0005h), uncorrected errors (0006h)
//! 06         non-medium errors (0000h)
//! 2f         informational exceptions: none, no temperature (0000h)
//! ```
//!
//! Only what is counted is told. TSD is set in every parameter and GLTSD in the control mode page: nothing is saved.
use super::{Sense, be16};

/// What a unit has counted, since it came to be or LOG SELECT last reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes written to the volume.
    pub written: u64,
    /// Bytes read from it.
    pub read: u64,
    /// Writes the medium did not take.
    pub write_errors: u64,
    /// Reads the medium did not give.
    pub read_errors: u64,
    /// Failures that were not the medium's.
    pub other_errors: u64,
}

/// PC of LOG SENSE: which values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum LogControl {
    Threshold,
    Cumulative,
    DefaultThreshold,
    DefaultCumulative,
}

const SUPPORTED: u8 = 0x00;
const WRITE_ERRORS: u8 = 0x02;
const READ_ERRORS: u8 = 0x03;
const OTHER_ERRORS: u8 = 0x06;
const EXCEPTIONS: u8 = 0x2f;

/// Page and subpage codes, in order. None but the list of pages has subpages.
const PAGES: [(u8, u8); 6] = [
    (SUPPORTED, 0),
    (SUPPORTED, 0xff),
    (WRITE_ERRORS, 0),
    (READ_ERRORS, 0),
    (OTHER_ERRORS, 0),
    (EXCEPTIONS, 0),
];

/// TSD, and the format "bounded data counter" (00b).
const COUNTER: u8 = 0x20;
/// TSD, and the format "binary list" (11b).
const LIST: u8 = 0x23;

/// The parameters of a page: code, control byte, value.
fn parameters(page: u8, counted: &Counters) -> Vec<(u16, u8, Vec<u8>)> {
    let count = |n: u64| n.to_be_bytes().to_vec();
    match page {
        WRITE_ERRORS => vec![
            (5, COUNTER, count(counted.written)),
            (6, COUNTER, count(counted.write_errors)),
        ],
        READ_ERRORS => vec![
            (5, COUNTER, count(counted.read)),
            (6, COUNTER, count(counted.read_errors)),
        ],
        OTHER_ERRORS => vec![(0, COUNTER, count(counted.other_errors))],
        // ASC and ASCQ of the latest exception: none. Temperature ffh: there is no sensor.
        EXCEPTIONS => vec![(0, LIST, vec![0, 0, 0xff, 0])],
        _ => Vec::new(),
    }
}

/// The page LOG SENSE answers with, uncut, from parameter `pointer` on.
pub fn sense(counted: &Counters, page: u8, subpage: u8, control: LogControl, pointer: u16) -> Result<Vec<u8>, Sense> {
    if !PAGES.iter().any(|known| known.0 == page) {
        return Err(Sense::cdb_field(2, 5));
    }
    if !PAGES.contains(&(page, subpage)) {
        return Err(Sense::cdb_field(3, 7));
    }
    let mut out = vec![page, subpage, 0, 0];
    match (page, subpage) {
        (SUPPORTED, 0) => out.extend(PAGES.iter().filter(|known| known.1 == 0).map(|known| known.0)),
        (SUPPORTED, _) => {
            out[0] |= 0x40; // SPF
            PAGES
                .iter()
                .for_each(|(page, subpage)| out.extend_from_slice(&[*page, *subpage]));
        }
        _ => {
            let values = match control {
                LogControl::Cumulative => *counted,
                LogControl::DefaultCumulative => Counters::default(),
                // There are no thresholds.
                LogControl::Threshold | LogControl::DefaultThreshold => return Err(Sense::cdb_field(2, 7)),
            };
            let all = parameters(page, &values);
            if all.iter().all(|(code, ..)| *code < pointer) {
                return Err(Sense::cdb_field(5, 7));
            }
            for (code, control, value) in all.into_iter().filter(|(code, ..)| *code >= pointer) {
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(&[control, value.len() as u8]); // at most eight
                out.extend_from_slice(&value);
            }
        }
    }
    let len = (out.len() - 4) as u16; // no page is longer than a few dozen bytes
    out[2..4].copy_from_slice(&len.to_be_bytes());
    Ok(out)
}

/// One parameter of a LOG SELECT parameter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Page code.
    pub page: u8,
    /// Subpage code.
    pub subpage: u8,
    /// Parameter code.
    pub code: u16,
    /// Control byte.
    pub control: u8,
    /// Value.
    pub value: &'a [u8],
    /// Where its code stands in the list.
    pub at: usize,
}

/// Reads a LOG SELECT parameter list: whole pages of whole parameters, pages in ascending order (SPC-4 6.7).
/// PARAMETER LIST LENGTH ERROR if something is cut off.
pub fn parse_select(list: &[u8]) -> Result<Vec<Parameter<'_>>, Sense> {
    let mut parameters = Vec::new();
    let (mut at, mut before) = (0, None);
    while at < list.len() {
        let header = list.get(at..at + 4).ok_or(Sense::PARAMETER_LENGTH)?;
        let (page, subpage) = (header[0] & 0x3f, if header[0] & 0x40 == 0 { 0 } else { header[1] });
        let end = at + 4 + usize::from(be16(header, 2));
        if end > list.len() {
            return Err(Sense::PARAMETER_LENGTH);
        }
        if before >= Some((page, subpage)) {
            return Err(Sense::parameter_field(at as u16)); // a list is at most 64 KiB long
        }
        before = Some((page, subpage));
        at += 4;
        while at < end {
            let header = list[..end].get(at..at + 4).ok_or(Sense::PARAMETER_LENGTH)?;
            let value = list[..end].get(at + 4..at + 4 + usize::from(header[3]));
            let value = value.ok_or(Sense::PARAMETER_LENGTH)?;
            parameters.push(Parameter {
                page,
                subpage,
                code: be16(header, 0),
                control: header[2],
                value,
                at,
            });
            at += 4 + value.len();
        }
    }
    Ok(parameters)
}

/// What LOG SELECT may do with a list: nothing, since no parameter can be set. A list that changes nothing is no error.
pub fn select(list: &[u8]) -> Result<(), Sense> {
    let refused = parse_select(list)?
        .first()
        .map(|parameter| Sense::parameter_field(parameter.at as u16));
    refused.map_or(Ok(()), Err)
}

/// The page codes LOG SELECT may reset (PCR = 1): one of ours, or 00h for all.
pub fn can_reset(page: u8, subpage: u8) -> Result<(), Sense> {
    match PAGES.iter().any(|known| known.0 == page) {
        false => Err(Sense::cdb_field(2, 5)),
        true if !PAGES.contains(&(page, subpage)) => Err(Sense::cdb_field(3, 7)),
        true => Ok(()),
    }
}

impl Counters {
    /// What has been counted since `then`, which is what they were at the last reset.
    pub fn since(&self, then: &Self) -> Self {
        Self {
            written: self.written.saturating_sub(then.written),
            read: self.read.saturating_sub(then.read),
            write_errors: self.write_errors.saturating_sub(then.write_errors),
            read_errors: self.read_errors.saturating_sub(then.read_errors),
            other_errors: self.other_errors.saturating_sub(then.other_errors),
        }
    }

    /// The counters of one page as in `other`; of every page for 00h. For a reset.
    pub fn take_page(&mut self, page: u8, other: &Self) {
        if matches!(page, SUPPORTED | WRITE_ERRORS) {
            (self.written, self.write_errors) = (other.written, other.write_errors);
        }
        if matches!(page, SUPPORTED | READ_ERRORS) {
            (self.read, self.read_errors) = (other.read, other.read_errors);
        }
        if matches!(page, SUPPORTED | OTHER_ERRORS) {
            self.other_errors = other.other_errors;
        }
    }
}

/// A LOG SELECT parameter list: parameters lie in it one after the other, and none is taken.
#[doc(hidden)]
pub fn fuzz_log_select(data: &[u8]) {
    if let Ok(parameters) = parse_select(data) {
        let mut end = 0;
        for parameter in &parameters {
            assert!(parameter.at >= end);
            end = parameter.at + 4 + parameter.value.len();
        }
        assert!(end <= data.len());
        assert_eq!(select(data).is_ok(), parameters.is_empty());
    }
    if let [page, subpage, hi, lo, ..] = data {
        let pointer = u16::from_be_bytes([*hi, *lo]);
        if let Ok(page) = sense(&Counters::default(), *page, *subpage, LogControl::Cumulative, pointer) {
            assert_eq!(usize::from(be16(&page, 2)), page.len() - 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COUNTED: Counters = Counters {
        written: 0x0102_0304_0506,
        read: 512,
        write_errors: 3,
        read_errors: 2,
        other_errors: 1,
    };

    fn page(code: u8, subpage: u8) -> Vec<u8> {
        sense(&COUNTED, code, subpage, LogControl::Cumulative, 0).unwrap()
    }

    #[test]
    fn each_page_has_its_golden_bytes() {
        assert_eq!(page(0x00, 0), [0x00, 0, 0, 5, 0x00, 0x02, 0x03, 0x06, 0x2f]);
        let all = [
            0x40, 0xff, 0, 12, 0x00, 0, 0x00, 0xff, 0x02, 0, 0x03, 0, 0x06, 0, 0x2f, 0,
        ];
        assert_eq!(page(0x00, 0xff), all);
        let write = [
            0x02, 0, 0, 24, 0, 5, 0x20, 8, 0, 0, 1, 2, 3, 4, 5, 6, 0, 6, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 3,
        ];
        assert_eq!(page(0x02, 0), write);
        assert_eq!(
            page(0x03, 0)[..16],
            [0x03, 0, 0, 24, 0, 5, 0x20, 8, 0, 0, 0, 0, 0, 0, 2, 0]
        );
        assert_eq!(page(0x06, 0), [0x06, 0, 0, 12, 0, 0, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(page(0x2f, 0), [0x2f, 0, 0, 8, 0, 0, 0x23, 4, 0, 0, 0xff, 0]);
    }

    #[test]
    fn what_there_is_not_is_refused() {
        let ask = |page, subpage, control, pointer| sense(&COUNTED, page, subpage, control, pointer);
        use LogControl::*;
        assert_eq!(ask(0x0d, 0, Cumulative, 0), Err(Sense::cdb_field(2, 5))); // no temperature
        assert_eq!(ask(0x02, 1, Cumulative, 0), Err(Sense::cdb_field(3, 7)));
        assert_eq!(ask(0x02, 0, Threshold, 0), Err(Sense::cdb_field(2, 7)));
        assert_eq!(ask(0x02, 0, Cumulative, 7), Err(Sense::cdb_field(5, 7)));
        assert_eq!(ask(0x02, 0, Cumulative, 6).unwrap()[..6], [0x02, 0, 0, 12, 0, 6]);
        let fresh = ask(0x02, 0, DefaultCumulative, 5).unwrap();
        assert_eq!(fresh[8..16], [0; 8]);
    }

    #[test]
    fn a_reset_counts_from_then_on() {
        let (mut then, more) = (
            Counters::default(),
            Counters {
                written: COUNTED.written + 9,
                ..COUNTED
            },
        );
        then.take_page(0x02, &COUNTED);
        let since = more.since(&then);
        assert_eq!((since.written, since.write_errors, since.read), (9, 0, 512));
        then.take_page(0, &more);
        assert_eq!(more.since(&then), Counters::default());
        assert_eq!(can_reset(0x02, 0).and(can_reset(0, 0)), Ok(()));
        assert_eq!(can_reset(0x0d, 0), Err(Sense::cdb_field(2, 5)));
    }

    #[test]
    fn select_takes_no_parameter_and_no_torn_list() {
        assert_eq!(select(&[]), Ok(()));
        assert_eq!(select(&[0x02, 0, 0, 0]), Ok(()));
        assert_eq!(select(&page(0x02, 0)), Err(Sense::parameter_field(4)));
        assert_eq!(select(&page(0x02, 0)[..20]), Err(Sense::PARAMETER_LENGTH));
        assert_eq!(select(&[0x02, 0, 0, 5, 0, 5, 0x20, 8, 0]), Err(Sense::PARAMETER_LENGTH));
        // Pages ascend (SPC-4 6.7).
        assert_eq!(select(&[3, 0, 0, 0, 2, 0, 0, 0]), Err(Sense::parameter_field(4)));
        let list = page(0x03, 0);
        let parsed = parse_select(&list).unwrap();
        assert_eq!((parsed.len(), parsed[1].code, parsed[1].at), (2, 6, 16));
        assert_eq!(parsed[1].value, [0, 0, 0, 0, 0, 0, 0, 2]);
    }

    proptest! {
        #[test]
        fn no_list_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            fuzz_log_select(&bytes);
        }
    }
}
