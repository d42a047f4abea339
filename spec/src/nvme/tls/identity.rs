//! PSK identities (TCP 1.1, 3.6.1.3): `NVMe`, a version, how the PSK was made, its hash, and who shares it.
use super::{super::nqn_is_valid, HASHES, HashId};
use std::fmt;

/// How a PSK came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// From a key that somebody configured (`R`).
    Retained,
    /// By DH-HMAC-CHAP (`G`).
    Generated,
}

/// What a key is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How its PSK was made.
    pub made: Made,
    /// Its hash.
    pub hash: HashId,
    /// The host's NQN.
    pub host: String,
    /// The subsystem's NQN.
    pub subsystem: String,
    /// Digest of the PSK in base64: version 1 has it, version 0 has not.
    pub digest: Option<String>,
}

impl Identity {
    /// Reads it. Anything else than two NQNs is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.split(' ');
        let [version, made, zero, hash] = parts.next()?.strip_prefix("NVMe")?.as_bytes() else {
            return None;
        };
        let made = match made {
            b'R' => Made::Retained,
            b'G' => Made::Generated,
            _ => return None,
        };
        let hash = HASHES.into_iter().find(|h| b'0' + *h as u8 == *hash && *zero == b'0')?;
        let (host, subsystem, digest) = (parts.next()?, parts.next()?, parts.next());
        let fits = match version {
            b'0' => digest.is_none(),
            b'1' => digest.is_some_and(|digest| !digest.is_empty()),
            _ => false,
        };
        if !fits || parts.next().is_some() || !nqn_is_valid(host) || !nqn_is_valid(subsystem) {
            return None;
        }
        Some(Self {
            made,
            hash,
            host: host.into(),
            subsystem: subsystem.into(),
            digest: digest.map(Into::into),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = u8::from(self.digest.is_some());
        let made = match self.made {
            Made::Retained => 'R',
            Made::Generated => 'G',
        };
        let hash = self.hash as u8;
        write!(f, "NVMe{version}{made}{hash:02} {} {}", self.host, self.subsystem)?;
        match &self.digest {
            Some(digest) => write!(f, " {digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_of_both_versions_are_read_and_written() {
        let retained =
            "NVMe0R01 nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111 nqn.2026-11.io.ashlar:a";
        let identity = Identity::parse(retained.as_bytes()).unwrap();
        assert_eq!((identity.made, identity.hash), (Made::Retained, HashId::Sha256));
        assert_eq!(identity.subsystem, "nqn.2026-11.io.ashlar:a");
        assert_eq!(identity.to_string(), retained);
        let generated = "NVMe1G02 nqn.2026-11.io.ashlar:h nqn.2026-11.io.ashlar:a abc=";
        let identity = Identity::parse(generated.as_bytes()).unwrap();
        assert_eq!((identity.made, identity.hash), (Made::Generated, HashId::Sha384));
        assert_eq!(identity.digest.as_deref(), Some("abc="));
        assert_eq!(identity.to_string(), generated);
    }

    #[test]
    fn anything_else_is_none() {
        let (host, subsystem) = ("nqn.2026-11.io.ashlar:h", "nqn.2026-11.io.ashlar:a");
        for wrong in [
            String::new(),
            "Client_identity".into(),
            format!("NVMe0R03 {host} {subsystem}"),
            format!("NVMe0R1 {host} {subsystem}"),
            format!("NVMe0X01 {host} {subsystem}"),
            format!("NVMe2R01 {host} {subsystem}"),
            format!("NVMe0R01 {host} {subsystem} digest"),
            format!("NVMe1R01 {host} {subsystem}"),
            format!("NVMe1R01 {host} {subsystem} "),
            format!("NVMe1R01 {host} {subsystem} digest more"),
            format!("NVMe0R01 {host} nqn"),
            format!("NVMe0R01 {host}  {subsystem}"),
        ] {
            assert_eq!(Identity::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Identity::parse(b"NVMe0R01 nqn.2026-11.io.ashlar:\xff x"), None);
    }
}
