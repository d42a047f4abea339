//! In-band authentication messages (Base 2.0d, 8.13.5): DH-HMAC-CHAP as Authentication Send and Receive carry it.
//!
//! ```text
//!   host  ── Negotiate ──►  ◄── Challenge ──  ── Reply ──►  ◄── Success1 ──  [── Success2 ──►]  controller
//!                                either side instead: Failure
//! ```
use super::Sqe;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// SECP of both commands: NVMe in-band authentication.
pub const SECP: u8 = 0xe9;
/// ATR in the result of Connect: the queue must be authenticated before it is used (Base 2.0d, figure 389).
pub const AUTH_REQUIRED: u32 = 1 << 17;
/// Longest message: a Reply with two SHA-512 values and an ffdhe8192 one.
pub const MAX_LEN: usize = 16 + 2 * 64 + 1024;

/// True if an Authentication Send or Receive speaks of this protocol (SECP, and both SPSP bytes 1).
pub fn is_ours(sqe: &Sqe) -> bool {
    sqe.cdw1(0) & 0xffff_ff00 == u32::from(SECP) << 24 | 0x0001_0100
}

/// TL or AL: bytes to send or room to receive.
pub fn length(sqe: &Sqe) -> u32 {
    sqe.cdw1(1)
}

/// Hash functions by identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum HashId {
    Sha256 = 1,
    Sha384 = 2,
    Sha512 = 3,
}

impl HashId {
    /// All, the weakest first.
    pub const ALL: [HashId; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// From the wire.
    pub fn of(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| *hash as u8 == id)
    }

    /// Bytes of a value.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The name control planes use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

/// Diffie-Hellman groups by identifier: none, and those of RFC 7919.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum GroupId {
    Null = 0,
    Ffdhe2048 = 1,
    Ffdhe3072 = 2,
    Ffdhe4096 = 3,
    Ffdhe6144 = 4,
    Ffdhe8192 = 5,
}

impl GroupId {
    /// All, the weakest first.
    pub const ALL: [GroupId; 6] = [
        Self::Null,
        Self::Ffdhe2048,
        Self::Ffdhe3072,
        Self::Ffdhe4096,
        Self::Ffdhe6144,
        Self::Ffdhe8192,
    ];

    /// From the wire.
    pub fn of(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|group| *group as u8 == id)
    }

    /// Bits of the modulus; 0 for none.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Ffdhe2048 => 2048,
            Self::Ffdhe3072 => 3072,
            Self::Ffdhe4096 => 4096,
            Self::Ffdhe6144 => 6144,
            Self::Ffdhe8192 => 8192,
        }
    }

    /// The name control planes use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Ffdhe2048 => "ffdhe2048",
            Self::Ffdhe3072 => "ffdhe3072",
            Self::Ffdhe4096 => "ffdhe4096",
            Self::Ffdhe6144 => "ffdhe6144",
            Self::Ffdhe8192 => "ffdhe8192",
        }
    }
}

/// Why an authentication failed (reason code explanation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Reason {
    Failed = 1,
    ProtocolNotUsable = 2,
    SecureChannelMismatch = 3,
    HashNotUsable = 4,
    GroupNotUsable = 5,
    IncorrectPayload = 6,
    IncorrectMessage = 7,
}

mod id {
    pub const NEGOTIATE: u8 = 0x00;
    pub const CHALLENGE: u8 = 0x01;
    pub const REPLY: u8 = 0x02;
    pub const SUCCESS1: u8 = 0x03;
    pub const SUCCESS2: u8 = 0x04;
    pub const FAILURE2: u8 = 0xf0;
    pub const FAILURE1: u8 = 0xf1;
}
/// AUTH_TYPE: messages of every protocol, and those of DH-HMAC-CHAP.
const COMMON: u8 = 0;
const DHCHAP: u8 = 1;

/// What a host sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromHost {
    /// AUTH_Negotiate.
    Negotiate(Negotiate),
    /// DH-HMAC-CHAP_Reply.
    Reply(Reply),
    /// DH-HMAC-CHAP_Success2, of this transaction.
    Success2(u16),
    /// AUTH_Failure2, of this transaction.
    Failure(u16),
}

/// SC_C: what a host wants to come of an authentication (Base 2.0d, 8.13.5.2).
pub mod secure_channel {
    /// No secure channel.
    pub const NONE: u8 = 0;
    /// A first PSK for TLS.
    pub const NEW_TLS_PSK: u8 = 2;
    /// Another PSK for TLS in the place of the one that the connection came by.
    pub const REPLACE_TLS_PSK: u8 = 3;
}

/// What a host can do, best first as it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiate {
    /// T_ID.
    pub transaction: u16,
    /// SC_C, see [`secure_channel`].
    pub secure_channel: u8,
    /// Hashes that it and we know.
    pub hashes: Vec<HashId>,
    /// Groups that it and we know.
    pub groups: Vec<GroupId>,
}

/// What a host answers to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// T_ID.
    pub transaction: u16,
    /// Its response: as long as the hash.
    pub response: Vec<u8>,
    /// Its own challenge, if it wants the controller authenticated; as long.
    pub challenge: Option<Vec<u8>>,
    /// S2, the sequence number of its challenge; 0: the challenge is there for a PSK only, and is not answered.
    pub sequence: u32,
    /// Its Diffie-Hellman value; empty with the null group.
    pub value: Vec<u8>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    kind: u8,
    id: u8,
    reserved: [u8; 2],
    transaction: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Descriptor {
    protocol: u8,
    reserved: u8,
    hashes: u8,
    groups: u8,
    hash_ids: [u8; 30],
    group_ids: [u8; 30],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ReplyHead {
    head: Head,
    len: u8,
    reserved: u8,
    challenge_valid: u8,
    reserved9: u8,
    value_len: U16,
    sequence: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ChallengeHead {
    head: Head,
    len: u8,
    reserved: u8,
    hash: u8,
    group: u8,
    value_len: U16,
    sequence: U32,
}

const _: () =
    assert!(size_of::<Descriptor>() == 64 && size_of::<ReplyHead>() == 16 && size_of::<ChallengeHead>() == 16);

impl FromHost {
    /// Reads a message. What is wrong with it is the reason that goes back.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let (head, rest) = Head::ref_from_prefix(bytes).map_err(|_| Reason::IncorrectPayload)?;
        let transaction = head.transaction.get();
        match (head.kind, head.id) {
            (COMMON, id::NEGOTIATE) => negotiate(transaction, rest).map(Self::Negotiate),
            (DHCHAP, id::REPLY) => reply(bytes).map(Self::Reply),
            (DHCHAP, id::SUCCESS2) => Ok(Self::Success2(transaction)),
            (COMMON, id::FAILURE2) => Ok(Self::Failure(transaction)),
            _ => Err(Reason::IncorrectMessage),
        }
    }
}

fn negotiate(transaction: u16, rest: &[u8]) -> Result<Negotiate, Reason> {
    let [secure_channel, count, list @ ..] = rest else {
        return Err(Reason::IncorrectPayload);
    };
    let (descriptors, _) =
        <[Descriptor]>::ref_from_prefix_with_elems(list, usize::from(*count)).map_err(|_| Reason::IncorrectPayload)?;
    let ours = descriptors.iter().find(|d| d.protocol == DHCHAP);
    let ours = ours.ok_or(Reason::ProtocolNotUsable)?;
    let hashes = ours
        .hash_ids
        .get(..ours.hashes.into())
        .ok_or(Reason::IncorrectPayload)?;
    let groups = ours
        .group_ids
        .get(..ours.groups.into())
        .ok_or(Reason::IncorrectPayload)?;
    Ok(Negotiate {
        transaction,
        secure_channel: *secure_channel,
        hashes: hashes.iter().filter_map(|id| HashId::of(*id)).collect(),
        groups: groups.iter().filter_map(|id| GroupId::of(*id)).collect(),
    })
}

fn reply(bytes: &[u8]) -> Result<Reply, Reason> {
    let (head, rest) = ReplyHead::ref_from_prefix(bytes).map_err(|_| Reason::IncorrectPayload)?;
    let len = usize::from(head.len);
    let (response, rest) = rest.split_at_checked(len).ok_or(Reason::IncorrectPayload)?;
    // The challenge has its place whether or not it is valid.
    let (challenge, rest) = rest.split_at_checked(len).ok_or(Reason::IncorrectPayload)?;
    let value = rest
        .get(..head.value_len.get().into())
        .ok_or(Reason::IncorrectPayload)?;
    Ok(Reply {
        transaction: head.head.transaction.get(),
        response: response.to_vec(),
        challenge: (head.challenge_valid & 1 != 0).then(|| challenge.to_vec()),
        sequence: head.sequence.get(),
        value: value.to_vec(),
    })
}

fn head(kind: u8, id: u8, transaction: u16) -> Head {
    Head {
        kind,
        id,
        reserved: [0; 2],
        transaction: transaction.into(),
    }
}

/// DH-HMAC-CHAP_Challenge. `challenge` is as long as the hash, `value` is empty with the null group.
pub fn challenge(
    transaction: u16,
    hash: HashId,
    group: GroupId,
    sequence: u32,
    challenge: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let head = ChallengeHead {
        head: head(DHCHAP, id::CHALLENGE, transaction),
        len: hash.size() as u8,
        reserved: 0,
        hash: hash as u8,
        group: group as u8,
        value_len: (value.len() as u16).into(),
        sequence: sequence.into(),
    };
    [head.as_bytes(), challenge, value].concat()
}

/// DH-HMAC-CHAP_Success1, with the controller's response if the host has challenged it.
pub fn success1(transaction: u16, hash: HashId, response: Option<&[u8]>) -> Vec<u8> {
    let mut message = head(DHCHAP, id::SUCCESS1, transaction).as_bytes().to_vec();
    message.extend_from_slice(&[hash.size() as u8, 0, response.is_some().into(), 0, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(response.unwrap_or_default());
    message
}

/// AUTH_Failure1.
pub fn failure1(transaction: u16, reason: Reason) -> Vec<u8> {
    let mut message = head(COMMON, id::FAILURE1, transaction).as_bytes().to_vec();
    // Reason code 1: authentication failure.
    message.extend_from_slice(&[1, reason as u8]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_can_everything_negotiates_with_these_bytes() {
        let mut bytes = vec![0, 0, 0, 0, 0x34, 0x12, 0, 1, 1, 0, 3, 6];
        let mut ids = [0; 60];
        ids[..3].copy_from_slice(&[1, 9, 3]);
        ids[30..36].copy_from_slice(&[0, 1, 2, 3, 4, 5]);
        bytes.extend_from_slice(&ids);
        let wanted = Negotiate {
            transaction: 0x1234,
            secure_channel: 0,
            hashes: vec![HashId::Sha256, HashId::Sha512],
            groups: GroupId::ALL.to_vec(),
        };
        assert_eq!(FromHost::parse(&bytes), Ok(FromHost::Negotiate(wanted)));
        for len in 0..bytes.len() {
            assert_eq!(FromHost::parse(&bytes[..len]), Err(Reason::IncorrectPayload), "{len}");
        }
        bytes[8] = 2;
        assert_eq!(FromHost::parse(&bytes), Err(Reason::ProtocolNotUsable));
        (bytes[8], bytes[10]) = (1, 31);
        assert_eq!(FromHost::parse(&bytes), Err(Reason::IncorrectPayload));
        bytes[1] = 0x55;
        assert_eq!(FromHost::parse(&bytes), Err(Reason::IncorrectMessage));
    }

    #[test]
    fn a_reply_has_room_for_a_challenge_in_any_case() {
        let mut bytes = vec![1, 2, 0, 0, 7, 0, 2, 0, 1, 0, 3, 0, 9, 0, 0, 0];
        bytes.extend_from_slice(&[0xa, 0xb, 0xc, 0xd, 1, 2, 3]);
        let mut wanted = Reply {
            transaction: 7,
            response: vec![0xa, 0xb],
            challenge: Some(vec![0xc, 0xd]),
            sequence: 9,
            value: vec![1, 2, 3],
        };
        assert_eq!(FromHost::parse(&bytes), Ok(FromHost::Reply(wanted.clone())));
        bytes[8] = 0;
        wanted.challenge = None;
        assert_eq!(FromHost::parse(&bytes), Ok(FromHost::Reply(wanted)));
        assert_eq!(FromHost::parse(&bytes[..22]), Err(Reason::IncorrectPayload));
    }

    #[test]
    fn what_we_say_has_these_bytes() {
        let said = challenge(0x0102, HashId::Sha256, GroupId::Ffdhe2048, 5, &[0xcc; 32], &[0xdd; 256]);
        assert_eq!(said[..16], [1, 1, 0, 0, 2, 1, 32, 0, 1, 1, 0, 1, 5, 0, 0, 0]);
        assert_eq!((said.len(), said[47], said[48]), (16 + 32 + 256, 0xcc, 0xdd));
        assert_eq!(
            success1(3, HashId::Sha384, None),
            [1, 3, 0, 0, 3, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(success1(3, HashId::Sha384, Some(&[9; 48]))[14..18], [0, 0, 9, 9]);
        assert_eq!(failure1(3, Reason::Failed), [0, 0xf1, 0, 0, 3, 0, 1, 1]);
        let sqe = Sqe::new(0x7f, 1, 5).with_cdw1(0, 0xe901_0100).with_cdw1(1, 8);
        assert!(is_ours(&sqe) && length(&sqe) == 8 && !is_ours(&sqe.with_cdw1(0, 0xe900_0100)));
    }
}
