//! NVMe as it travels over fabrics: commands, completions, identify and log structures, and the TCP transport's PDUs.
//!
//! Sources: NVM Express Base Specification 2.0d ("Base"), NVM Command Set Specification 1.0d ("NVM"), NVMe over TCP
//! Transport Specification 1.0d ("TCP"). Everything on the wire is little-endian. Structures are views of the exact
//! bytes ([`zerocopy`]): a length check is the whole parse, and afterwards nothing can fail.
pub mod ana;
pub mod auth;
pub mod command;
pub mod discovery;
pub mod exercise;
pub mod fabrics;
pub mod feature;
pub mod hash;
pub mod identify;
pub mod log;
pub mod property;
pub mod reservation;
pub mod status;
pub mod tcp;
pub mod tls;

pub use command::{Cqe, Sgl, Sqe};
pub use status::Status;

/// The controller's NQN that every host may ask for the list of subsystems (Base 2.0d, 4.5).
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// Addresses all namespaces of a controller at once (Base 2.0d, 3.2.1.2).
pub const NSID_ALL: u32 = 0xffff_ffff;

/// Longest NQN in bytes, without the terminating zero (Base 2.0d, 4.5).
pub const NQN_MAX: usize = 223;

/// Checks the form of an NQN (Base 2.0d, 4.5): `nqn.YYYY-MM.<reverse domain>[:…]`, or the UUID form
/// `nqn.2014-08.org.nvmexpress:uuid:<uuid>`, at most [`NQN_MAX`] bytes of UTF-8 without control characters.
pub fn nqn_is_valid(nqn: &str) -> bool {
    let bytes = nqn.as_bytes();
    if bytes.len() > NQN_MAX || bytes.len() < "nqn.2014-08.a".len() || nqn.chars().any(char::is_control) {
        return false;
    }
    if let Some(uuid) = nqn.strip_prefix("nqn.2014-08.org.nvmexpress:uuid:") {
        return uuid.len() == 36 && uuid::Uuid::try_parse(uuid).is_ok();
    }
    let Some(rest) = nqn.strip_prefix("nqn.") else {
        return false;
    };
    let (date, rest) = rest.as_bytes().split_at(8);
    let digits = |range: std::ops::Range<usize>| date[range].iter().all(u8::is_ascii_digit);
    if !(digits(0..4) && date[4] == b'-' && digits(5..7) && date[7] == b'.') {
        return false;
    }
    // The reverse domain: labels of letters, digits and inner hyphens, separated by dots, up to an optional colon.
    let domain = rest.split(|&b| b == b':').next().unwrap_or_default();
    domain.split(|&b| b == b'.').all(|label| {
        (1..=63).contains(&label.len())
            && label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && label[0].is_ascii_alphanumeric()
            && label[label.len() - 1].is_ascii_alphanumeric()
    })
}

/// Copies `text` into a fixed field, padded with spaces and cut to fit (serial number, model number, TRADDR).
pub fn ascii_field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (to, from) in field.iter_mut().zip(text.bytes().filter(|b| (0x20..0x7f).contains(b))) {
        *to = from;
    }
    field
}

/// Copies `text` into a fixed field, padded with zeroes and cut to leave at least one (NQNs).
pub fn nqn_field(text: &str) -> [u8; 256] {
    let mut field = [0; 256];
    for (to, from) in field[..255].iter_mut().zip(text.bytes()) {
        *to = from;
    }
    field
}

/// Reads a zero-terminated NQN field; `None` if it is not terminated, empty or not UTF-8.
pub fn nqn_of(field: &[u8]) -> Option<&str> {
    let len = field.iter().position(|&b| b == 0)?;
    (len > 0).then(|| std::str::from_utf8(&field[..len]).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nqns_are_judged_by_their_form() {
        for good in [
            DISCOVERY_NQN,
            "nqn.2016-06.io.spdk:cnode1",
            "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111",
            "nqn.2020-04.io.spdk.csi:uuid:0b1b0d1e-0000-4000-8000-000000000000",
            "nqn.2026-11.io.ashlar:disk/a b",
        ] {
            assert!(nqn_is_valid(good), "{good}");
        }
        for bad in [
            "",
            "nqn",
            "nqn.",
            "iqn.2016-06.io.spdk:x",
            "nqn.2016-6.io.spdk:x",
            "nqn.2016-06-io.spdk:x",
            "nqn.2016-06.:x",
            "nqn.2016-06.io..spdk:x",
            "nqn.2016-06.-io:x",
            "nqn.2014-08.org.nvmexpress:uuid:11111111",
            "nqn.2016-06.io.a\n:x",
        ] {
            assert!(!nqn_is_valid(bad), "{bad}");
        }
        let long = format!("nqn.2016-06.io.spdk:{}", "x".repeat(204));
        assert!(!nqn_is_valid(&long) && nqn_is_valid(&long[..223]));
    }

    #[test]
    fn fields_round_trip() {
        assert_eq!(&ascii_field::<6>("ab\u{e9}c"), b"abc   ");
        assert_eq!(nqn_of(&nqn_field(DISCOVERY_NQN)), Some(DISCOVERY_NQN));
        assert_eq!(nqn_of(&[b'x'; 256]), None);
        assert_eq!(nqn_of(&[0; 256]), None);
    }
}
