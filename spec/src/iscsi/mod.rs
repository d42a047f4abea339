//! iSCSI (RFC 7143): basic header segments, login, text.
//!
//! | file | subject |
//! |---|---|
//! | [`bhs`] | the 48 bytes every PDU begins with, one struct for each kind |
//! | [`chap`] | how a host proves who it is |
//! | [`login`] | stages, and the status a login ends with |
//! | [`text`] | `key=value` pairs and how each key is negotiated |
//!
//! Digests are CRC-32C, four bytes little-endian after what they cover (the one thing here that is not big-endian).
pub mod bhs;
pub mod chap;
pub mod login;
pub mod text;

pub use bhs::{BHS_LEN, Bhs, Opcode};
pub use login::{LoginStatus, Stage};

/// Serial number arithmetic (RFC 1982, 32 bits): `a` comes before `b`.
pub const fn sn_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Bytes of padding after `len` bytes of data, and after a text key or AHS.
pub const fn pad(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Any header. Must not panic, whatever the bytes are.
#[doc(hidden)]
pub fn fuzz_iscsi_bhs(data: &[u8]) {
    let Some((bhs, _)) = Bhs::split(data) else { return };
    assert!(bhs.data_len() <= 0xff_ffff && bhs.ahs_len() <= 1020);
    let _ = (bhs.opcode(), bhs.is_immediate(), bhs.is_final(), bhs.itt());
    if bhs.opcode() == Some(Opcode::ScsiCommand) {
        let command: &bhs::ScsiCommand = bhs.view();
        let _ = (command.direction(), command.attribute(), command.cdb());
    }
    let _ = format!("{bhs:?}");
}

/// Any text data segment, whole or split. Must not panic.
#[doc(hidden)]
pub fn fuzz_iscsi_text(data: &[u8]) {
    for pair in text::pairs(data).into_iter().flatten() {
        let (key, value) = pair;
        let _ = (text::number(value), text::boolean(value), text::Key::named(key));
        let _ = chap::Algorithm::choose(value, &chap::Algorithm::ALL);
        if let Some(bytes) = text::binary(value, chap::MAX_BINARY) {
            assert!(bytes.len() <= chap::MAX_BINARY);
            let mut again = Vec::new();
            text::put_binary(&mut again, "CHAP_C", &bytes);
            let (_, hex) = text::pairs(&again)
                .ok()
                .and_then(|mut pairs| pairs.next())
                .expect("a pair");
            assert_eq!(text::binary(hex, chap::MAX_BINARY), Some(bytes));
        }
        let _ = text::negotiate_list(value, &["CRC32C", "None"]);
    }
    let mut gathered = text::Gather::new(64);
    for piece in data.chunks(7) {
        if gathered.push(piece).is_err() {
            return;
        }
    }
    assert!(gathered.len() <= 64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_wrap() {
        assert!(sn_before(0xffff_ffff, 0));
        assert!(!sn_before(0, 0xffff_ffff));
        assert!(!sn_before(7, 7));
        assert_eq!([0, 1, 2, 3, 4].map(pad), [0, 3, 2, 1, 0]);
    }
}
