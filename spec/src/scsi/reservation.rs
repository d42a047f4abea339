//! PERSISTENT RESERVE IN and OUT: commands and lists (SPC-5 6.15 and 6.16).
//!
//! ```text
//! out, 24 bytes      0  reservation key   8  service action key   20  SPEC_I_PT 8, ALL_TG_PT 4, APTPL 1
//!                    24  length of the TransportIDs that follow (with SPEC_I_PT)
//! register and move  0  reservation key   8  service action key   17  UNREG 2, APTPL 1   18  relative target port
//!                    20  length of the one TransportID that follows
//! in                 0  generation   4  bytes that follow   8  keys | reservation | full status descriptors
//! ```
use super::{CdbError, Command, Sense, TransportId, be16, be32, be64, transport_id};

/// Bytes of a parameter list without TransportIDs.
pub const LIST_LEN: usize = 24;
/// No list of PERSISTENT RESERVE OUT is longer: some hundred TransportIDs.
pub const LIST_MAX: usize = 64 << 10;

/// TYPE of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum Type {
    WriteExclusive = 0x1,
    ExclusiveAccess = 0x3,
    WriteExclusiveRegistrantsOnly = 0x5,
    ExclusiveAccessRegistrantsOnly = 0x6,
    WriteExclusiveAllRegistrants = 0x7,
    ExclusiveAccessAllRegistrants = 0x8,
}

impl Type {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// `None` for reserved and obsolete values.
    pub fn from_nibble(nibble: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == nibble)
    }

    /// Others may read.
    pub fn is_write_exclusive(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive | Self::WriteExclusiveRegistrantsOnly | Self::WriteExclusiveAllRegistrants
        )
    }

    /// Every registered nexus may what the holder may.
    pub fn admits_registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Every registered nexus is a holder.
    pub fn is_all_registrants(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }
}

/// SERVICE ACTION of PERSISTENT RESERVE IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum In {
    ReadKeys,
    ReadReservation,
    ReportCapabilities,
    ReadFullStatus,
}

/// SERVICE ACTION of PERSISTENT RESERVE OUT. REPLACE LOST RESERVATION is not here: nothing gets lost that it could replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum Out {
    Register,
    Reserve,
    Release,
    Clear,
    Preempt,
    PreemptAndAbort,
    RegisterAndIgnoreExistingKey,
    RegisterAndMove,
}

/// PERSISTENT RESERVE IN.
pub(super) fn in_cdb(b: &[u8; 16], action: In) -> Result<Command, CdbError> {
    let room = be16(b, 7);
    Ok(Command::PersistentReserveIn { action, room })
}

/// PERSISTENT RESERVE OUT. The scope can only be the whole unit; the type is looked at where the action has one.
pub(super) fn out_cdb(b: &[u8; 16], action: Out) -> Result<Command, CdbError> {
    let kind = Type::from_nibble(b[2] & 0xf);
    let typed = matches!(
        action,
        Out::Reserve | Out::Release | Out::Preempt | Out::PreemptAndAbort
    );
    if typed && b[2] >> 4 != 0 {
        return Err(CdbError::Field { byte: 2, bit: 7 });
    }
    if matches!(action, Out::Reserve | Out::Release) && kind.is_none() {
        return Err(CdbError::Field { byte: 2, bit: 3 });
    }
    let len = be32(b, 5);
    Ok(Command::PersistentReserveOut { action, kind, len })
}

/// What comes with PERSISTENT RESERVE OUT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// RESERVATION KEY: the one the nexus is registered with.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY: the one to register, or to preempt.
    pub service_key: u64,
    /// ALL_TG_PT: through every target port.
    pub all_target_ports: bool,
    /// APTPL: to be kept through a power loss.
    pub persist: bool,
    /// UNREG of REGISTER AND MOVE: the old holder is registered no more.
    pub unregister: bool,
    /// RELATIVE TARGET PORT IDENTIFIER of REGISTER AND MOVE.
    pub port: u16,
    /// Initiator ports: of SPEC_I_PT (`Some` if it is set), or the one of REGISTER AND MOVE.
    pub initiators: Option<Vec<TransportId>>,
}

impl Parameters {
    /// Reads the list that came with `action`.
    pub fn parse(action: Out, list: &[u8]) -> Result<Self, Sense> {
        let (head, rest) = list.split_at_checked(LIST_LEN).ok_or(Sense::PARAMETER_LENGTH)?;
        let keys = Self {
            key: be64(head, 0),
            service_key: be64(head, 8),
            ..Self::default()
        };
        if action == Out::RegisterAndMove {
            let initiators = transports(be32(head, 20), rest, 20)?;
            if initiators.len() != 1 {
                return Err(Sense::parameter_field(20));
            }
            return Ok(Self {
                persist: head[17] & 1 != 0,
                unregister: head[17] & 2 != 0,
                port: be16(head, 18),
                initiators: Some(initiators),
                ..keys
            });
        }
        let initiators = match head[20] & 0x08 != 0 {
            // Only a REGISTER may register others.
            true if action != Out::Register => return Err(Sense::parameter_field(20)),
            true => {
                let (len, rest) = rest.split_at_checked(4).ok_or(Sense::PARAMETER_LENGTH)?;
                Some(transports(be32(len, 0), rest, 24)?)
            }
            false if !rest.is_empty() => return Err(Sense::PARAMETER_LENGTH),
            false => None,
        };
        Ok(Self {
            all_target_ports: head[20] & 0x04 != 0,
            persist: head[20] & 0x01 != 0,
            initiators,
            ..keys
        })
    }

    /// The list that [`parse`](Self::parse) reads back.
    pub fn encode(&self, action: Out) -> Vec<u8> {
        let mut out = vec![0; LIST_LEN];
        out[..8].copy_from_slice(&self.key.to_be_bytes());
        out[8..16].copy_from_slice(&self.service_key.to_be_bytes());
        let initiators: Option<Vec<u8>> = self
            .initiators
            .as_ref()
            .map(|list| list.iter().flat_map(TransportId::encode).collect());
        let len = (initiators.as_ref().map_or(0, Vec::len) as u32).to_be_bytes();
        if action == Out::RegisterAndMove {
            out[17] = u8::from(self.unregister) << 1 | u8::from(self.persist);
            out[18..20].copy_from_slice(&self.port.to_be_bytes());
            out[20..24].copy_from_slice(&len);
        } else {
            out[20] =
                u8::from(initiators.is_some()) << 3 | u8::from(self.all_target_ports) << 2 | u8::from(self.persist);
            if initiators.is_some() {
                out.extend_from_slice(&len);
            }
        }
        out.extend_from_slice(&initiators.unwrap_or_default());
        out
    }
}

fn transports(len: u32, rest: &[u8], at: u16) -> Result<Vec<TransportId>, Sense> {
    // The list ends where its length says, and that is where the parameter list ends.
    if len as usize != rest.len() {
        return Err(Sense::PARAMETER_LENGTH);
    }
    transport_id::parse_list(rest).ok_or(Sense::parameter_field(at + 4))
}

fn list(generation: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + body.len());
    out.extend_from_slice(&generation.to_be_bytes());
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// READ KEYS, uncut.
pub fn read_keys(generation: u32, keys: impl Iterator<Item = u64>) -> Vec<u8> {
    let body: Vec<u8> = keys.flat_map(u64::to_be_bytes).collect();
    list(generation, &body)
}

/// READ RESERVATION: the holder's key (0 if all registrants hold it) and the type.
pub fn read_reservation(generation: u32, held: Option<(u64, Type)>) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some((key, kind)) = held {
        body.extend_from_slice(&key.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0, 0, kind as u8, 0, 0]);
    }
    list(generation, &body)
}

/// REPORT CAPABILITIES: reservations can be kept through a power loss (PTPL_C), and they are (PTPL_A).
pub fn capabilities(can_persist: bool, persist: bool) -> [u8; 8] {
    // CRH, SIP_C, ATP_C; TMV, and TEST UNIT READY passes every reservation (ALLOW COMMANDS 001b); all types.
    let (can, does) = (u8::from(can_persist), u8::from(persist));
    [0, 8, 0x1c | can, 0x90 | does, 0xea, 0x01, 0, 0]
}

/// A registered nexus, as READ FULL STATUS tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullStatus {
    /// Its key.
    pub key: u64,
    /// If it holds the reservation, what kind that is.
    pub holds: Option<Type>,
    /// RELATIVE TARGET PORT IDENTIFIER.
    pub port: u16,
    /// Initiator port.
    pub initiator: TransportId,
}

/// READ FULL STATUS, uncut.
pub fn read_full_status(generation: u32, nexuses: impl Iterator<Item = FullStatus>) -> Vec<u8> {
    let mut body = Vec::new();
    for one in nexuses {
        let id = one.initiator.encode();
        body.extend_from_slice(&one.key.to_be_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&[u8::from(one.holds.is_some()), one.holds.map_or(0, |kind| kind as u8)]);
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&one.port.to_be_bytes());
        body.extend_from_slice(&(id.len() as u32).to_be_bytes());
        body.extend_from_slice(&id);
    }
    list(generation, &body)
}

/// Reads what [`read_full_status`] makes: generation and nexuses. `None`: it is cut or wrong.
pub fn parse_full_status(bytes: &[u8]) -> Option<(u32, Vec<FullStatus>)> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let mut rest = rest.get(..be32(head, 4) as usize)?;
    let mut nexuses = Vec::new();
    while !rest.is_empty() {
        let (head, more) = rest.split_at_checked(24)?;
        let (initiator, used) = TransportId::parse(more)?;
        let len = be32(head, 20) as usize;
        if used > len {
            return None;
        }
        nexuses.push(FullStatus {
            key: be64(head, 0),
            holds: match head[12] & 1 != 0 {
                true => Some(Type::from_nibble(head[13] & 0xf)?),
                false => None,
            },
            port: be16(head, 18),
            initiator,
        });
        rest = more.get(len..)?;
    }
    Some((be32(head, 0), nexuses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::Cdb;

    fn port(n: u8) -> TransportId {
        TransportId {
            name: "iqn.x:a".into(),
            isid: Some([0, 0, 0, 0, 0, n]),
        }
    }

    #[test]
    fn a_register_has_its_golden_bytes_and_reads_back() {
        let plain = Parameters {
            key: 0x0102_0304_0506_0708,
            service_key: 0xab_c123,
            all_target_ports: true,
            persist: true,
            ..Parameters::default()
        };
        let bytes = plain.encode(Out::Register);
        assert_eq!(
            bytes,
            [
                1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0xab, 0xc1, 0x23, 0, 0, 0, 0, 5, 0, 0, 0
            ]
        );
        assert_eq!(Parameters::parse(Out::Register, &bytes), Ok(plain.clone()));
        let others = Parameters {
            initiators: Some(vec![port(1), port(2)]),
            ..plain
        };
        let bytes = others.encode(Out::Register);
        assert_eq!((bytes[20], &bytes[24..28], bytes.len()), (0x0d, &[0, 0, 0, 64][..], 92));
        assert_eq!(Parameters::parse(Out::Register, &bytes), Ok(others));
        let parse = |bytes: &[u8]| Parameters::parse(Out::Register, bytes).unwrap_err();
        assert_eq!(parse(&bytes[..91]), Sense::PARAMETER_LENGTH);
        assert_eq!(parse(&bytes[..27]), Sense::PARAMETER_LENGTH);
        assert_eq!(parse(&bytes[..23]), Sense::PARAMETER_LENGTH);
        assert_eq!(
            Parameters::parse(Out::Preempt, &bytes),
            Err(Sense::parameter_field(20)),
            "only REGISTER has SPEC_I_PT"
        );
        let mut sas = bytes.clone();
        sas[28] = 0x46;
        assert_eq!(parse(&sas), Sense::parameter_field(28));
    }

    #[test]
    fn register_and_move_has_its_own_shape() {
        let moved = Parameters {
            key: 1,
            service_key: 2,
            persist: true,
            unregister: true,
            port: 0x0203,
            initiators: Some(vec![port(9)]),
            ..Parameters::default()
        };
        let bytes = moved.encode(Out::RegisterAndMove);
        assert_eq!(bytes[16..24], [0, 3, 2, 3, 0, 0, 0, 32]);
        assert_eq!(Parameters::parse(Out::RegisterAndMove, &bytes), Ok(moved.clone()));
        let none = Parameters {
            initiators: Some(Vec::new()),
            ..moved
        };
        let bytes = none.encode(Out::RegisterAndMove);
        assert_eq!(
            Parameters::parse(Out::RegisterAndMove, &bytes),
            Err(Sense::parameter_field(20))
        );
    }

    #[test]
    fn what_is_read_stands_where_spc_puts_it() {
        assert_eq!(
            read_keys(7, [0x11, 0x22].into_iter()),
            [
                0, 0, 0, 7, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0, 0x22
            ]
        );
        assert_eq!(read_reservation(1, None), [0, 0, 0, 1, 0, 0, 0, 0]);
        let held = read_reservation(1, Some((5, Type::ExclusiveAccessRegistrantsOnly)));
        assert_eq!(held[7..], [16, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 6, 0, 0]);
        assert_eq!(capabilities(true, true), [0, 8, 0x1d, 0x91, 0xea, 1, 0, 0]);
        assert_eq!(capabilities(false, false)[2..4], [0x1c, 0x90]);
        let status = vec![
            FullStatus {
                key: 1,
                holds: Some(Type::WriteExclusive),
                port: 2,
                initiator: port(1),
            },
            FullStatus {
                key: 3,
                holds: None,
                port: 4,
                initiator: TransportId { isid: None, ..port(1) },
            },
        ];
        let bytes = read_full_status(9, status.iter().cloned());
        assert_eq!(
            bytes[..32],
            [
                0, 0, 0, 9, 0, 0, 0, 104, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 32
            ]
        );
        assert_eq!(parse_full_status(&bytes), Some((9, status)));
        for cut in 0..bytes.len() {
            assert_eq!(parse_full_status(&bytes[..cut]), None);
        }
    }

    #[test]
    fn blocks_say_what_they_may() {
        let out = |action: u8, scope_type: u8| Cdb::new(&[0x5f, action, scope_type, 0, 0, 0, 0, 0, 24, 0]).command();
        let command = |action, kind| Ok(Command::PersistentReserveOut { action, kind, len: 24 });
        assert_eq!(
            out(1, 8),
            command(Out::Reserve, Some(Type::ExclusiveAccessAllRegistrants))
        );
        assert_eq!(out(0, 0xff), command(Out::Register, None), "scope and type are ignored");
        assert_eq!(out(1, 2), Err(CdbError::Field { byte: 2, bit: 3 }));
        assert_eq!(out(1, 0x21), Err(CdbError::Field { byte: 2, bit: 7 }));
        assert_eq!(out(4, 0), command(Out::Preempt, None), "the type may not matter");
        assert_eq!(out(8, 1), Err(CdbError::Field { byte: 1, bit: 4 }), "nothing gets lost");
        let read = |action: u8| Cdb::new(&[0x5e, action, 0, 0, 0, 0, 0, 1, 2, 0]).command();
        let action = In::ReadFullStatus;
        assert_eq!(read(3), Ok(Command::PersistentReserveIn { action, room: 0x102 }));
        assert_eq!(read(4), Err(CdbError::Field { byte: 1, bit: 4 }));
    }
}
