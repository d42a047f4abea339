//! `key=value` text: reading it within bounds, and the negotiation rule of each key (RFC 7143 section 6 and 13).

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Longest key name (6.1).
pub const MAX_KEY: usize = 63;
/// Longest value we take. The RFC's largest is 8 KiB, for binary values; a name is at most 223 bytes.
pub const MAX_VALUE: usize = 8192;

/// What is wrong with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// A pair without `=`, without a key, or with a key or value that is too long or not text.
    Malformed,
    /// More text than anybody has business sending.
    TooLong,
}

/// The pairs of a whole text, checked: keys and values are within bounds and printable.
pub fn pairs(text: &[u8]) -> Result<impl Iterator<Item = (&str, &str)> + Clone, TextError> {
    for pair in split(text) {
        let Some((key, value)) = pair else {
            return Err(TextError::Malformed);
        };
        if key.is_empty() || key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(TextError::Malformed);
        }
        let known = |b: u8| b.is_ascii_alphanumeric() || b".-+@_#$".contains(&b);
        if !key.bytes().all(known) || value.chars().any(char::is_control) {
            return Err(TextError::Malformed);
        }
    }
    Ok(split(text).flatten())
}

fn split(text: &[u8]) -> impl Iterator<Item = Option<(&str, &str)>> + Clone {
    text.split(|b| *b == 0)
        .filter(|pair| !pair.is_empty()) // the terminator of the last pair, and padding
        .map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
}

/// A text that arrives in pieces (C bit), bounded.
#[derive(Debug, Default)]
pub struct Gather {
    text: Vec<u8>,
    limit: usize,
}

impl Gather {
    /// Takes at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            text: Vec::new(),
            limit,
        }
    }

    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TextError> {
        if self.text.len() + piece.len() > self.limit {
            return Err(TextError::TooLong);
        }
        self.text.extend_from_slice(piece);
        Ok(())
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Nothing so far.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The whole text; the next one starts from nothing.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }
}

/// Appends `key=value` and its terminator.
pub fn put(text: &mut Vec<u8>, key: &str, value: impl std::fmt::Display) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(text, "{key}={value}\0");
}

/// Decimal, or hexadecimal after `0x` (6.1); at most 64 bits.
pub fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        None if !value.starts_with('+') => value.parse().ok(),
        _ => None,
    }
}

/// A binary value (6.1): an even number of hexadecimal digits after `0x`, or base64 after `0b`, padded or not. Not empty,
/// and at most `limit` bytes.
pub fn binary(value: &str, limit: usize) -> Option<Vec<u8>> {
    let (kind, digits) = value.split_at_checked(2)?;
    let bytes = match kind {
        "0x" | "0X" => hex(digits, limit)?,
        "0b" | "0B" if digits.len() <= limit.div_ceil(3) * 4 => BASE64.decode(digits).ok()?,
        _ => return None,
    };
    (1..=limit).contains(&bytes.len()).then_some(bytes)
}

fn hex(digits: &str, limit: usize) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || digits.len() / 2 > limit {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let pair = |two: &[u8]| match two {
        [high, low] => Some((nibble(*high)? << 4 | nibble(*low)?) as u8),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

/// Appends `key=0x…` and its terminator.
pub fn put_binary(text: &mut Vec<u8>, key: &str, bytes: &[u8]) {
    use std::fmt::Write;
    let mut hex = String::with_capacity(2 + 2 * bytes.len());
    hex.push_str("0x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    put(text, key, hex);
}

/// `Yes` or `No`.
pub fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// The first of the offered values that we have too.
pub fn negotiate_list<'a>(offered: &str, ours: &[&'a str]) -> Option<&'a str> {
    offered
        .split(',')
        .find_map(|value| ours.iter().find(|our| **our == value).copied())
}

/// How a key's value is found (13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Told, not negotiated.
    Declare,
    /// A list in order of preference; the answer is the first both sides have.
    List,
    /// Yes only if both say yes.
    And,
    /// Yes if either says yes.
    Or,
    /// The smaller number, within these bounds.
    Min(u32, u32),
    /// The larger number, within these bounds.
    Max(u32, u32),
    /// A number told for one direction, within these bounds.
    DeclareNumber(u32, u32),
    /// Of an older RFC: answered so that it stays unused.
    Obsolete,
}

impl Rule {
    /// A value of a key that is a number, if it is one within the key's bounds.
    pub fn number(self, value: &str) -> Option<u32> {
        let (Rule::Min(low, high) | Rule::Max(low, high) | Rule::DeclareNumber(low, high)) = self else {
            return None;
        };
        let number = number(value).and_then(|n| u32::try_from(n).ok());
        number.filter(|n| (low..=high).contains(n))
    }
}

/// When a host may say a key (the "Use" and "Senders" of section 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// In either stage of the login.
    Login,
    /// In the security stage.
    Security,
    /// In the operational stage of every connection.
    Operational,
    /// In the operational stage of a session's first connection.
    Leading,
    /// From the operational stage on, also in full feature phase.
    Always,
    /// In full feature phase.
    Full,
    /// Never: only targets say it.
    Target,
}

macro_rules! keys {
    ($($name:ident: $use:ident, $rule:expr,)*) => {
        /// The keys of RFC 7143 (and 7144), spelled as on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the standard's own words")]
        pub enum Key { $($name,)* }

        impl Key {
            /// All keys.
            pub const ALL: &[Key] = &[$(Key::$name,)*];

            /// The name on the wire, if it differs by case the key is another one (6.1: keys are case sensitive).
            pub fn named(name: &str) -> Option<Key> {
                let wire = if name == "iSCSIProtocolLevel" { "IscsiProtocolLevel" } else { name };
                match wire { $(stringify!($name) => Some(Key::$name),)* _ => None }
            }

            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    Key::IscsiProtocolLevel => "iSCSIProtocolLevel",
                    $(#[allow(unreachable_patterns)] Key::$name => stringify!($name),)*
                }
            }

            /// How its value is found.
            pub fn rule(self) -> Rule {
                match self { $(Key::$name => $rule,)* }
            }

            /// When a host may say it.
            pub fn usage(self) -> Use {
                match self { $(Key::$name => Use::$use,)* }
            }
        }
    };
}

keys! {
    AuthMethod: Security, Rule::List,
    HeaderDigest: Operational, Rule::List,
    DataDigest: Operational, Rule::List,
    MaxConnections: Leading, Rule::Min(1, 65535),
    SendTargets: Full, Rule::Declare,
    TargetName: Login, Rule::Declare,
    InitiatorName: Login, Rule::Declare,
    TargetAlias: Target, Rule::Declare,
    InitiatorAlias: Login, Rule::Declare,
    TargetAddress: Target, Rule::Declare,
    TargetPortalGroupTag: Target, Rule::Declare,
    InitialR2T: Leading, Rule::Or,
    ImmediateData: Leading, Rule::And,
    MaxRecvDataSegmentLength: Always, Rule::DeclareNumber(512, 0xff_ffff),
    MaxBurstLength: Leading, Rule::Min(512, 0xff_ffff),
    FirstBurstLength: Leading, Rule::Min(512, 0xff_ffff),
    DefaultTime2Wait: Leading, Rule::Max(0, 3600),
    DefaultTime2Retain: Leading, Rule::Min(0, 3600),
    MaxOutstandingR2T: Leading, Rule::Min(1, 65535),
    DataPDUInOrder: Leading, Rule::Or,
    DataSequenceInOrder: Leading, Rule::Or,
    ErrorRecoveryLevel: Leading, Rule::Min(0, 2),
    SessionType: Login, Rule::Declare,
    TaskReporting: Leading, Rule::List,
    IscsiProtocolLevel: Leading, Rule::Min(0, 31),
    IFMarker: Operational, Rule::Obsolete,
    OFMarker: Operational, Rule::Obsolete,
    IFMarkInt: Operational, Rule::Obsolete,
    OFMarkInt: Operational, Rule::Obsolete,
}

impl Key {
    /// Says nothing where there are no commands (13: "irrelevant when SessionType=Discovery").
    pub fn irrelevant_in_discovery(self) -> bool {
        use Key::*;
        matches!(
            self,
            MaxConnections
                | InitialR2T
                | ImmediateData
                | MaxBurstLength
                | FirstBurstLength
                | MaxOutstandingR2T
                | DataPDUInOrder
                | DataSequenceInOrder
                | TaskReporting
                | IscsiProtocolLevel
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_come_out_in_order_and_padding_is_nothing() {
        let text = b"InitiatorName=iqn.1994-05.com:a\0HeaderDigest=CRC32C,None\0\0\0";
        let all: Vec<_> = pairs(text).unwrap().collect();
        assert_eq!(
            all,
            [("InitiatorName", "iqn.1994-05.com:a"), ("HeaderDigest", "CRC32C,None")]
        );
        // A value may hold an equals sign; a key may not be missing.
        assert_eq!(pairs(b"X-a=b=c\0").unwrap().next(), Some(("X-a", "b=c")));
        for bad in [&b"=x\0"[..], b"novalue\0", b"A\x01=x\0", b"A=\x07\0", b"A=\xff\0"] {
            assert_eq!(pairs(bad).err(), Some(TextError::Malformed), "{bad:?}");
        }
        let long = [b"K".repeat(64), b"=1\0".to_vec()].concat();
        assert_eq!(pairs(&long).err(), Some(TextError::Malformed));
    }

    #[test]
    fn put_is_the_inverse_of_pairs() {
        let mut text = Vec::new();
        put(&mut text, "MaxBurstLength", 262144);
        put(&mut text, "ImmediateData", "Yes");
        assert_eq!(text, b"MaxBurstLength=262144\0ImmediateData=Yes\0");
    }

    #[test]
    fn values() {
        assert_eq!((number("262144"), number("0x40000")), (Some(262144), Some(262144)));
        assert_eq!(
            [number(""), number("+1"), number("-1"), number("0x"), number("1k")],
            [None; 5]
        );
        assert_eq!(
            (boolean("Yes"), boolean("No"), boolean("yes")),
            (Some(true), Some(false), None)
        );
        assert_eq!(negotiate_list("CHAP,None", &["None"]), Some("None"));
        assert_eq!(negotiate_list("CHAP", &["None"]), None);
        assert_eq!(
            Key::named("iSCSIProtocolLevel").map(Key::name),
            Some("iSCSIProtocolLevel")
        );
        assert_eq!(Key::named("initialr2t"), None);
        for key in Key::ALL {
            assert_eq!(Key::named(key.name()), Some(*key));
        }
    }

    #[test]
    fn binary_values_are_hexadecimal_or_base64() {
        assert_eq!(binary("0x00fFa5", 16), Some(vec![0, 0xff, 0xa5]));
        assert_eq!(binary("0X01", 1), Some(vec![1]));
        for same in ["0bAQID", "0BAQID"] {
            assert_eq!(binary(same, 16), Some(vec![1, 2, 3]));
        }
        // With and without padding.
        assert_eq!(binary("0bAQIDBA==", 16), Some(vec![1, 2, 3, 4]));
        assert_eq!(binary("0bAQIDBA", 16), Some(vec![1, 2, 3, 4]));
        for bad in [
            "", "0", "0x", "0b", "0x1", "0x12g4", "1234", "0bA", "0bAQ!D", "0xé1", "é", "0bAQID\n", "0x+1",
        ] {
            assert_eq!(binary(bad, 16), None, "{bad:?}");
        }
        assert_eq!(binary("0x010203", 2), None, "too long");
        assert_eq!(binary("0bAQID", 2), None, "too long");
        let mut text = Vec::new();
        put_binary(&mut text, "CHAP_C", &[0x0a, 0xff]);
        assert_eq!(text, b"CHAP_C=0x0aff\0");
    }

    #[test]
    fn a_text_in_pieces_is_bounded() {
        let mut text = Gather::new(8);
        text.push(b"A=12").unwrap();
        text.push(b"34\0").unwrap();
        assert_eq!(text.push(b"xx"), Err(TextError::TooLong));
        assert_eq!(text.take(), b"A=1234\0");
        assert!(text.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            crate::iscsi::fuzz_iscsi_text(&bytes);
            crate::iscsi::fuzz_iscsi_bhs(&bytes);
        }
    }
}
