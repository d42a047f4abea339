//! Asymmetric logical unit access: the lists of REPORT and SET TARGET PORT GROUPS (SPC-5 6.41, 6.53).
//!
//! ```text
//! report   0  bytes that follow     [ 4  format (bits 6-4), transition time, 0, 0 ]     groups, each:
//!          0  PREF, state   1  supported states   2  group   5  status code   7  ports   8  { 0, 0, relative port }
//! set      0  0, 0, 0, 0                            groups, each:   0  state   1  0   2  group
//! ```
use super::{CdbError, Command, Sense, be16, be32};

/// ASYMMETRIC ACCESS STATE of the ports of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum AccessState {
    #[default]
    ActiveOptimized = 0x0,
    ActiveNonOptimized = 0x1,
    Standby = 0x2,
    Unavailable = 0x3,
    Offline = 0xe,
    Transitioning = 0xf,
}

impl AccessState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ActiveOptimized,
        Self::ActiveNonOptimized,
        Self::Standby,
        Self::Unavailable,
        Self::Offline,
        Self::Transitioning,
    ];

    /// `None` for the values nobody defined and for the one we do not have (logical block dependent).
    pub fn from_nibble(nibble: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == nibble)
    }

    /// The medium can be reached.
    pub fn is_active(self) -> bool {
        matches!(self, Self::ActiveOptimized | Self::ActiveNonOptimized)
    }
}

/// T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP: what [`AccessState`] has.
const SUPPORTED: u8 = 0xcf;

/// Why a group is in its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// It was so from the start.
    #[default]
    Unknown = 0,
    /// A host said so.
    SetTargetPortGroups = 1,
    /// The administrator or the target itself.
    Implicit = 2,
}

/// A target port group with its one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// TARGET PORT GROUP, and the port's RELATIVE TARGET PORT IDENTIFIER.
    pub tag: u16,
    /// Its state.
    pub state: AccessState,
    /// PREF: hosts should rather use this one.
    pub preferred: bool,
    /// STATUS CODE.
    pub cause: Cause,
}

/// REPORT TARGET PORT GROUPS.
pub(super) fn report_cdb(b: &[u8; 16]) -> Result<Command, CdbError> {
    match b[1] >> 5 {
        format @ 0..=1 => Ok(Command::ReportTargetPortGroups {
            extended: format == 1,
            room: be32(b, 6),
        }),
        _ => Err(CdbError::Field { byte: 1, bit: 7 }),
    }
}

/// SET TARGET PORT GROUPS.
pub(super) fn set_cdb(b: &[u8; 16]) -> Result<Command, CdbError> {
    Ok(Command::SetTargetPortGroups { len: be32(b, 6) })
}

/// The list of REPORT TARGET PORT GROUPS, uncut. `extended` has a header with the IMPLICIT TRANSITION TIME, in seconds.
pub fn report(groups: &[Group], extended: bool, transition_time: u8) -> Vec<u8> {
    let mut out = vec![0; 4];
    if extended {
        out.extend_from_slice(&[0x10, transition_time, 0, 0]);
    }
    for group in groups {
        let [hi, lo] = group.tag.to_be_bytes();
        out.push(u8::from(group.preferred) << 7 | group.state as u8);
        out.extend_from_slice(&[SUPPORTED, hi, lo, 0, group.cause as u8, 0, 1, 0, 0, hi, lo]);
    }
    let len = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

/// Reads what [`report`] makes, for our own initiator and tests: groups with any number of ports. `None`: it is cut or of a
/// format nobody knows.
pub fn parse_report(list: &[u8]) -> Option<Vec<Group>> {
    let (head, rest) = list.split_at_checked(4)?;
    let mut rest = rest.get(..be32(head, 0) as usize)?;
    // The first byte of a group never has bit 4 set; that of the extended header always has.
    if rest.first().is_some_and(|first| first & 0x70 == 0x10) {
        rest = rest.get(4..)?;
    }
    let mut groups = Vec::new();
    while !rest.is_empty() {
        let group = rest.get(..8)?;
        groups.push(Group {
            tag: be16(group, 2),
            state: AccessState::from_nibble(group[0] & 0xf)?,
            preferred: group[0] & 0x80 != 0,
            cause: match group[5] {
                1 => Cause::SetTargetPortGroups,
                2 => Cause::Implicit,
                _ => Cause::Unknown,
            },
        });
        rest = rest.get(8 + 4 * usize::from(group[7])..)?;
    }
    Some(groups)
}

/// The list of SET TARGET PORT GROUPS: groups with the states they are to have. States a host cannot set (offline,
/// transitioning; SPC-5 table 366) are refused with everything else that is wrong.
pub fn parse_set(list: &[u8]) -> Result<Vec<(u16, AccessState)>, Sense> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let groups = list.get(4..).ok_or(Sense::PARAMETER_LENGTH)?;
    if !groups.len().is_multiple_of(4) {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let one = |(i, group): (usize, &[u8])| {
        let state = AccessState::from_nibble(group[0] & 0xf)
            .filter(|state| !matches!(state, AccessState::Offline | AccessState::Transitioning));
        let at = u16::try_from(4 + 4 * i).unwrap_or(u16::MAX);
        state
            .map(|state| (be16(group, 2), state))
            .ok_or(Sense::parameter_field(at))
    };
    groups.chunks_exact(4).enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [Group; 2] = [
        Group {
            tag: 1,
            state: AccessState::ActiveOptimized,
            preferred: true,
            cause: Cause::Unknown,
        },
        Group {
            tag: 0x1234,
            state: AccessState::Standby,
            preferred: false,
            cause: Cause::Implicit,
        },
    ];

    #[test]
    fn both_formats_have_their_golden_bytes_and_read_back() {
        let plain = report(&GROUPS, false, 7);
        assert_eq!(
            plain,
            [
                0, 0, 0, 24, 0x80, 0xcf, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x02, 0xcf, 0x12, 0x34, 0, 2, 0, 1, 0, 0, 0x12,
                0x34
            ]
        );
        let extended = report(&GROUPS, true, 7);
        assert_eq!(extended[..8], [0, 0, 0, 28, 0x10, 7, 0, 0]);
        assert_eq!(extended[8..], plain[4..]);
        assert_eq!(parse_report(&plain).unwrap(), GROUPS);
        assert_eq!(parse_report(&extended).unwrap(), GROUPS);
        for cut in 0..plain.len() {
            assert_eq!(parse_report(&plain[..cut]), None);
        }
    }

    #[test]
    fn a_host_sets_what_it_may() {
        let set = |list: &[u8]| parse_set(list);
        assert_eq!(set(&[]), Ok(vec![]));
        assert_eq!(
            set(&[0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0x12, 0x34]),
            Ok(vec![(1, AccessState::Standby), (0x1234, AccessState::ActiveOptimized)])
        );
        assert_eq!(set(&[0, 0, 0, 0, 2, 0, 0]), Err(Sense::PARAMETER_LENGTH));
        assert_eq!(set(&[0, 0, 0]), Err(Sense::PARAMETER_LENGTH));
        assert_eq!(set(&[0, 0, 0, 0, 0xe, 0, 0, 1]), Err(Sense::parameter_field(4)));
        assert_eq!(
            set(&[0, 0, 0, 0, 1, 0, 0, 1, 4, 0, 0, 1]),
            Err(Sense::parameter_field(8)),
            "logical block dependent"
        );
    }
}
