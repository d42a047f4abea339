//! TLS 1.3 with an external pre-shared key, without a socket: bytes from the wire in, bytes for the wire out.
//!
//! ```text
//!   wire ──► feed() ──► handshake(), read() ──► plain bytes
//!   wire ◄── unsent() ◄── handshake(), write(), close() ◄── plain bytes
//! ```
//!
//! Nothing but TLS 1.3 with one key that both sides have, a fresh Diffie-Hellman exchange on top, and one cipher suite
//! that the key's hash names: no certificates, no tickets, no resumption, no early data. The library is OpenSSL
//! (docs/adr/0007-tls.md says why), and only with the feature `openssl`; without it [`Channel`] says that it is missing.
//!
//! # Invariants of the unsafe blocks
//!
//! - **`[SIGNATURE]`** The declarations are those of OpenSSL's `ssl.h`, unchanged since 1.1.1.
//! - **`[LIVE-SSL]`** The pointers that OpenSSL gives a callback are valid until the callback returns, or null where `ssl.h` says so.
//! - **`[OWN-SESSION]`** A session made here belongs to us until it is handed over, once; what is not handed over is freed.
#[cfg(not(feature = "openssl"))]
mod absent;
#[cfg(feature = "openssl")]
mod library;
#[cfg(feature = "openssl")]
mod wire;

#[cfg(not(feature = "openssl"))]
pub use absent::Channel;
#[cfg(feature = "openssl")]
pub use library::Channel;

use std::fmt;
use zeroize::Zeroizing;

/// Whether there is a library.
pub const BUILT: bool = cfg!(feature = "openssl");

/// Bytes that a record has more than what is in it, and more than enough of them.
pub const OVERHEAD: usize = 22;

/// Cipher suites, each with the hash that a key must be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Suite {
    Aes128GcmSha256,
    Aes256GcmSha384,
}

impl Suite {
    /// Its name in RFC 8446, B.4.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Self::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
        }
    }

    /// Its number on the wire.
    pub fn id(self) -> [u8; 2] {
        match self {
            Self::Aes128GcmSha256 => [0x13, 0x01],
            Self::Aes256GcmSha384 => [0x13, 0x02],
        }
    }
}

/// A key that both sides have, and its name. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct Psk {
    /// What the client calls it.
    pub identity: Vec<u8>,
    /// The key.
    pub key: Zeroizing<Vec<u8>>,
    /// The suite that it is for.
    pub suite: Suite,
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Psk({}, {})", self.identity.escape_ascii(), self.suite.name())
    }
}

/// What [`Channel::read`] comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// It needs more from the wire first.
    Wait,
    /// The peer has ended its side in good order.
    End,
}

/// Why a channel is over, or never was.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The feature is missing.
    #[error("this program was built without TLS (cargo build --release --features tls)")]
    NotBuilt,
    /// What the library says.
    #[error("{0}")]
    Library(String),
}
