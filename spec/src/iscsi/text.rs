//! `key=value` text: reading it within bounds, and the negotiation rule of each key (RFC 7143 section 6 and 13).

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

macro_rules! keys {
    ($($name:ident: $rule:expr,)*) => {
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
        }
    };
}

keys! {
    AuthMethod: Rule::List,
    HeaderDigest: Rule::List,
    DataDigest: Rule::List,
    MaxConnections: Rule::Min(1, 65535),
    SendTargets: Rule::Declare,
    TargetName: Rule::Declare,
    InitiatorName: Rule::Declare,
    TargetAlias: Rule::Declare,
    InitiatorAlias: Rule::Declare,
    TargetAddress: Rule::Declare,
    TargetPortalGroupTag: Rule::Declare,
    InitialR2T: Rule::Or,
    ImmediateData: Rule::And,
    MaxRecvDataSegmentLength: Rule::DeclareNumber(512, 0xff_ffff),
    MaxBurstLength: Rule::Min(512, 0xff_ffff),
    FirstBurstLength: Rule::Min(512, 0xff_ffff),
    DefaultTime2Wait: Rule::Max(0, 3600),
    DefaultTime2Retain: Rule::Min(0, 3600),
    MaxOutstandingR2T: Rule::Min(1, 65535),
    DataPDUInOrder: Rule::Or,
    DataSequenceInOrder: Rule::Or,
    ErrorRecoveryLevel: Rule::Min(0, 2),
    SessionType: Rule::Declare,
    TaskReporting: Rule::List,
    IscsiProtocolLevel: Rule::Min(0, 31),
    IFMarker: Rule::Obsolete,
    OFMarker: Rule::Obsolete,
    IFMarkInt: Rule::Obsolete,
    OFMarkInt: Rule::Obsolete,
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
