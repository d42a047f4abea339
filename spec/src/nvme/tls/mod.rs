//! TLS of the TCP transport ("TCP" 1.1, 3.6.1): pre-shared keys, their names, and what a client says first.
//!
//! ```text
//!   key file          configured PSK      NVMeTLSkey-1:01:base64 of key and CRC-32:
//!   + host NQN     ►  retained PSK        (DH-HMAC-CHAP makes a generated PSK instead)
//!   + both NQNs    ►  PSK identity        NVMe1R01 <host NQN> <subsystem NQN> <digest of the retained PSK>
//!   + identity     ►  TLS PSK             what TLS 1.3 calls an external PSK (RFC 8446, 4.2.11)
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `psk` | keys and their derivation |
//! | `identity` | what a key is called |
//! | `hello` | ClientHello: which keys are offered, and whether the client has them |
mod hello;
mod identity;
mod psk;

pub use hello::{ClientHello, NotAHello, Offer, begins_tls};
pub use identity::{Identity, Made};
pub use psk::{ConfiguredPsk, Dialect, NotAPsk, digest, generated, tls_psk};

use super::auth::HashId;

/// Why a handshake is ended (RFC 8446, 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Alert {
    UnexpectedMessage = 10,
    HandshakeFailure = 40,
    DecodeError = 50,
    DecryptError = 51,
    InternalError = 80,
    UnknownPskIdentity = 115,
}

/// The record that says so before there are keys: fatal.
pub fn alert(why: Alert) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, why as u8]
}

/// Hashes that PSK identities name: that of TLS_AES_128_GCM_SHA256 and that of TLS_AES_256_GCM_SHA384.
pub const HASHES: [HashId; 2] = [HashId::Sha256, HashId::Sha384];
