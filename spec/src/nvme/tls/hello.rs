//! ClientHello (RFC 8446, 4.1.2): which keys a client offers, and whether it has them (4.2.11.2).
//!
//! A TLS library chooses among keys it is given. Which ones to give it is ours to find out, and reading key files must
//! not happen inside its callbacks: so the first message is read here, too.
use super::{
    super::{auth::HashId, hash},
    Dialect,
    psk::{expand, extract},
};
use subtle::ConstantTimeEq;

/// Most bytes of a first message, records' headers included. With all extensions that there are, hosts send less than one kilobyte.
const LONGEST: usize = 16 << 10;
/// Most keys that are looked at.
const MOST_OFFERS: usize = 16;

/// True if this is how TLS begins, and not the transport's ICReq: a handshake record of TLS 1.x.
pub fn begins_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&22) && bytes.get(1).is_none_or(|major| *major == 3)
}

/// Why bytes are no ClientHello of a client with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAHello {
    /// Not a handshake record, or another message first.
    #[error("it did not begin with a ClientHello")]
    Other,
    /// Longer than anybody's.
    #[error("its ClientHello is longer than {LONGEST} bytes")]
    TooLong,
    /// Lengths that lead nowhere.
    #[error("its ClientHello is malformed")]
    Malformed,
    /// A client that wants a certificate.
    #[error("it offers no pre-shared key")]
    NoKey,
}

/// A key that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What the client calls it.
    pub identity: Vec<u8>,
    binder: Vec<u8>,
}

/// A first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    message: Vec<u8>,
    /// Where the binders begin: what is before is what they bind.
    bound: usize,
    /// The keys, best first as the client sees it.
    pub offers: Vec<Offer>,
    /// The cipher suites.
    pub suites: Vec<[u8; 2]>,
}

/// Bytes that are taken from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], NotAHello> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(NotAHello::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
    fn short(&mut self) -> Result<usize, NotAHello> {
        Ok(self.take(1)?.iter().fold(0, |_, b| usize::from(*b)))
    }
    fn long(&mut self) -> Result<usize, NotAHello> {
        Ok(self.take(2)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }
    fn short_list(&mut self) -> Result<&'a [u8], NotAHello> {
        let n = self.short()?;
        self.take(n)
    }
    fn long_list(&mut self) -> Result<&'a [u8], NotAHello> {
        let n = self.long()?;
        self.take(n)
    }
}

impl ClientHello {
    /// Reads the first bytes of a connection; `None`: there must be more of them.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, NotAHello> {
        match message(bytes)? {
            None => Ok(None),
            Some(message) => Self::of(message).map(Some),
        }
    }

    fn of(message: Vec<u8>) -> Result<Self, NotAHello> {
        let mut hello = Cursor(&message);
        // Type, length; version, random, session.
        hello.take(4)?;
        hello.take(2 + 32)?;
        hello.short_list()?;
        let suites = hello.long_list()?.chunks_exact(2).map(|id| [id[0], id[1]]).collect();
        hello.short_list()?;
        let mut extensions = Cursor(hello.long_list()?);
        while !extensions.0.is_empty() {
            let kind = extensions.long()?;
            let extension = extensions.long_list()?;
            // pre_shared_key, the last one of all.
            if kind != 41 {
                continue;
            }
            if !extensions.0.is_empty() || !hello.0.is_empty() {
                return Err(NotAHello::Malformed);
            }
            let mut keys = Cursor(extension);
            let mut identities = Cursor(keys.long_list()?);
            let bound = message.len() - keys.0.len();
            let mut binders = Cursor(keys.long_list()?);
            let mut offers = Vec::new();
            while !identities.0.is_empty() && offers.len() < MOST_OFFERS {
                let identity = identities.long_list()?.to_vec();
                // Its age: tickets have one.
                identities.take(4)?;
                let binder = binders.short_list()?.to_vec();
                offers.push(Offer { identity, binder });
            }
            return Ok(Self {
                bound,
                offers,
                suites,
                message,
            });
        }
        Err(NotAHello::NoKey)
    }

    /// True if the client has `psk`, which it offers as `offer`.
    pub fn proves(&self, offer: &Offer, hash: HashId, psk: &[u8]) -> bool {
        let early = extract(hash, psk);
        let nothing = hash::digest(hash, b"");
        let binder_key = expand(hash, &early, "ext binder", &nothing, Dialect::Standard);
        let finished = expand(hash, &binder_key, "finished", b"", Dialect::Standard);
        let heard = hash::digest(hash, &self.message[..self.bound]);
        let binder = hash::hmac(hash, &finished, &[&heard]);
        binder.ct_eq(&offer.binder).into()
    }
}

/// The first handshake message, put together from its records.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, NotAHello> {
    let mut records = Cursor(bytes);
    let mut message = Vec::new();
    loop {
        if bytes.len() - records.0.len() > LONGEST {
            return Err(NotAHello::TooLong);
        }
        if !begins_tls(records.0) && !records.0.is_empty() {
            return Err(NotAHello::Other);
        }
        let Ok(head) = records.take(5) else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if len == 0 || len > LONGEST {
            return Err(NotAHello::Malformed);
        }
        let Ok(part) = records.take(len) else {
            return Ok(None);
        };
        message.extend_from_slice(part);
        if let [kind, a, b, c, rest @ ..] = &message[..] {
            let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if *kind != 1 {
                return Err(NotAHello::Other);
            }
            if len > LONGEST {
                return Err(NotAHello::TooLong);
            }
            if rest.len() >= len {
                // A second message at once would be an offence that the library finds.
                message.truncate(4 + len);
                return Ok(Some(message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenSSL 3.0 says first with one key of 32 bytes 07h.
    const HELLO: &str = "160301013b0100013703038181e1de2094164863b59b2a9e2d65aa4ae876c6cce4bce94887eeb3aa33151e20a8f835c6ee1d \
                         6e3348a30aff719d1fabbf8650f8267765f9eacde19e10828cb10004130100ff010000ea000b000403000102000a00160014 \
                         001d0017001e00190018010001010102010301040016000000170000000d001e001c040305030603080708080809080a080b \
                         080408050806040105010601002b0003020304002d00020101003300260024001d0020b8e934a1c9b9854154ad355e5aab96 \
                         75cdd6babdac15b54df673989a61c5a26800290063003e00384e564d6530523031206e716e2e323032362d31312e696f2e61 \
                         73686c61723a68206e716e2e323032362d31312e696f2e6173686c61723a61000000000021207da653c20091bc3d357c9aa1 \
                         9b62a32597aa7bca89cffd53af00b63d9c9b16b8";
    const IDENTITY: &[u8] = b"NVMe0R01 nqn.2026-11.io.ashlar:h nqn.2026-11.io.ashlar:a";

    fn hello() -> Vec<u8> {
        let digits: Vec<u8> = HELLO.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let digit = |d: u8| (d as char).to_digit(16).unwrap() as u8;
        digits.chunks(2).map(|d| digit(d[0]) << 4 | digit(d[1])).collect()
    }

    #[test]
    fn a_client_is_taken_at_its_word_and_its_binder() {
        let hello = ClientHello::parse(&hello()).unwrap().unwrap();
        assert_eq!((hello.offers.len(), &*hello.offers[0].identity), (1, IDENTITY));
        assert!(hello.suites.contains(&[0x13, 1]));
        assert!(hello.proves(&hello.offers[0], HashId::Sha256, &[7; 32]));
        assert!(!hello.proves(&hello.offers[0], HashId::Sha256, &[8; 32]));
        assert!(!hello.proves(&hello.offers[0], HashId::Sha384, &[7; 32]));
    }

    #[test]
    fn bytes_may_come_one_by_one_and_in_any_records() {
        let whole = hello();
        for len in 0..whole.len() {
            assert_eq!(ClientHello::parse(&whole[..len]), Ok(None), "{len}");
        }
        let mut records = Vec::new();
        for part in whole[5..].chunks(11) {
            records.extend_from_slice(&[22, 3, 3, 0, part.len() as u8]);
            records.extend_from_slice(part);
        }
        assert_eq!(ClientHello::parse(&records), ClientHello::parse(&whole));
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = hello();
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            ClientHello::parse(&bytes)
        };
        assert_eq!(with(0, 0), Err(NotAHello::Other), "an ICReq");
        assert_eq!(with(5, 2), Err(NotAHello::Other), "a ServerHello");
        assert_eq!(with(6, 1), Err(NotAHello::TooLong));
        assert_eq!(with(3, 0xff), Err(NotAHello::Malformed));
        let last = whole.len() - 33;
        assert_eq!(with(last, 40), Err(NotAHello::Malformed), "a binder beyond the end");
        assert_eq!(
            with(last - 1, 0xff),
            Err(NotAHello::Malformed),
            "binders beyond the end"
        );
        let at = whole.windows(2).position(|w| w == [0, 41]).unwrap();
        assert_eq!(with(at + 1, 99), Err(NotAHello::NoKey));
        // Whatever a byte is changed to, it is an answer and no panic.
        for (at, was) in whole.iter().enumerate() {
            for byte in [0, 1, 0x7f, 0xff, was ^ 1] {
                let _ = with(at, byte);
            }
        }
        assert!(
            begins_tls(&[22])
                && begins_tls(&[22, 3, 1])
                && !begins_tls(&[0])
                && !begins_tls(&[22, 2])
                && !begins_tls(&[])
        );
    }
}
