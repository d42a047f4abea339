//! iSCSI TransportIDs: how a parameter list names an initiator port (SPC-5 7.6.4.6).
//!
//! ```text
//! 0  TPID FORMAT (bits 7-6), protocol 5h     2  additional length, at least 20, a multiple of four     4  name
//! format 00b    iqn.2020-01.org.x:a                      the device: every port of it
//! format 01b    iqn.2020-01.org.x:a,i,0x400001370000     one port: name and ISID
//! ```
//!
//! Names are UTF-8, NUL-terminated and padded with NULs; letters are small (RFC 3722).
use super::be16;
use std::fmt;

/// PROTOCOL IDENTIFIER of iSCSI.
const PROTOCOL: u8 = 0x05;
/// The longest iSCSI name (RFC 7143 4.2.7.1).
const NAME_MAX: usize = 223;
/// Between the name and the ISID.
const SEPARATOR: &str = ",i,0x";

/// An initiator port, or all ports of an initiator device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId {
    /// iSCSI name, in lower case.
    pub name: String,
    /// Initiator session identifier; without it every port of the device is meant.
    pub isid: Option<[u8; 6]>,
}

impl TransportId {
    /// Reads one TransportID at the start of `bytes`; also how many bytes it takes. `None`: it is not one of iSCSI, or
    /// does not follow its rules.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_at_checked(4)?;
        let len = usize::from(be16(head, 2));
        let value = rest.get(..len)?;
        if head[0] & 0x3f != PROTOCOL || len < 20 || !len.is_multiple_of(4) {
            return None;
        }
        let end = value.iter().position(|b| *b == 0)?;
        // Before the separator is looked for: a name that becomes one only then would read differently the next time.
        let text = std::str::from_utf8(&value[..end]).ok()?.to_ascii_lowercase();
        let (name, isid) = match head[0] >> 6 {
            0 => (text.as_str(), None),
            1 => {
                let at = text.find(SEPARATOR)?;
                (&text[..at], Some(isid(&text[at + SEPARATOR.len()..])?))
            }
            _ => return None,
        };
        if name.is_empty() || name.len() > NAME_MAX {
            return None;
        }
        let name = name.to_owned();
        Some((Self { name, isid }, 4 + len))
    }

    /// The bytes that [`parse`](Self::parse) reads back.
    pub fn encode(&self) -> Vec<u8> {
        let text = self.to_string();
        let len = (text.len() + 1).next_multiple_of(4).max(20);
        let mut out = Vec::with_capacity(4 + len);
        out.extend_from_slice(&[u8::from(self.isid.is_some()) << 6 | PROTOCOL, 0]);
        out.extend_from_slice(&(len as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
        out.resize(4 + len, 0);
        out
    }
}

/// The SCSI name of the port (RFC 7143 3.4.2), as people know it too.
impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some([a, b, c, d, e, g]) = self.isid {
            write!(f, "{SEPARATOR}{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{g:02x}")?;
        }
        Ok(())
    }
}

/// One to twelve hexadecimal digits.
fn isid(digits: &str) -> Option<[u8; 6]> {
    if digits.is_empty() || digits.len() > 12 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let [_, _, isid @ ..] = u64::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(isid)
}

/// A list of TransportIDs that fills `bytes` exactly. `None`: one of them is wrong.
pub fn parse_list(mut bytes: &[u8]) -> Option<Vec<TransportId>> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let (one, used) = TransportId::parse(bytes)?;
        list.push(one);
        bytes = &bytes[used..];
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_its_golden_bytes_and_reads_back() {
        let port = TransportId {
            name: "iqn.1993-08.org.debian:01".into(),
            isid: Some([0x00, 0x02, 0x3d, 0, 0, 0x01]),
        };
        let bytes = port.encode();
        assert_eq!(bytes[..4], [0x45, 0, 0, 44]);
        assert_eq!(&bytes[4..47], b"iqn.1993-08.org.debian:01,i,0x00023d000001\0");
        assert_eq!(bytes.len(), 48);
        assert_eq!(TransportId::parse(&bytes), Some((port, 48)));
    }

    #[test]
    fn a_device_is_short_but_never_under_twenty() {
        let device = TransportId {
            name: "iqn.x:a".into(),
            isid: None,
        };
        let bytes = device.encode();
        assert_eq!(bytes[..12], *b"\x05\0\0\x14iqn.x:a\0");
        assert_eq!(bytes.len(), 24);
        assert_eq!(TransportId::parse(&bytes), Some((device.clone(), 24)));
        let two = [bytes.clone(), bytes].concat();
        assert_eq!(parse_list(&two), Some(vec![device.clone(), device]));
        assert_eq!(parse_list(&two[..47]), None, "the second is cut");
    }

    #[test]
    fn upper_case_is_folded_and_short_isids_are_padded() {
        let twice = b"\x45\0\0\x14a,i,0X6\x080.xza,i,0x6\0\0\0\0";
        assert_eq!(
            TransportId::parse(twice),
            None,
            "two separators, one of them in capitals"
        );
        let mut bytes = vec![0x45, 0, 0, 20];
        bytes.extend_from_slice(b"IQN.X:A,i,0x3D\0\0\0\0\0\0");
        let (port, _) = TransportId::parse(&bytes).unwrap();
        assert_eq!(port.to_string(), "iqn.x:a,i,0x00000000003d");
    }

    #[test]
    fn what_is_not_one_is_refused() {
        let good = TransportId {
            name: "iqn.x:a".into(),
            isid: Some([1; 6]),
        }
        .encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            TransportId::parse(&bytes)
        };
        assert!(with(1, 0).is_some());
        assert_eq!(with(0, 0x46), None, "SAS");
        assert_eq!(with(0, 0x85), None, "no such format");
        assert_eq!(with(3, 16), None, "too short");
        assert_eq!(with(3, 23), None, "not a multiple of four");
        assert_eq!(with(3, 32), None, "longer than what came");
        assert_eq!(with(11, b'-'), None, "no separator");
        assert_eq!(with(17, b'g'), None, "no hexadecimal digit");
        assert_eq!(with(5, 0xff), None, "no UTF-8");
        assert_eq!(TransportId::parse(&[]), None);
    }
}
