//! Pre-shared keys: as people keep them, and what is derived from them (TCP 1.1, 3.6.1.2 to 3.6.1.4).
use super::super::{auth::HashId, hash::hmac};
use super::{Identity, Made};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;
use zeroize::Zeroizing;

const PREFIX: &str = "NVMeTLSkey-1:";

/// A configured PSK in the interchange format: `NVMeTLSkey-1:hh:base64 of key and CRC-32:`. Wiped when dropped; never printed.
pub struct ConfiguredPsk {
    key: Zeroizing<Vec<u8>>,
    /// Makes the retained PSK; `None`: the key is that already.
    transform: Option<HashId>,
}

impl fmt::Debug for ConfiguredPsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfiguredPsk")
    }
}

/// Why a text is no PSK. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPsk {
    /// Not the four fields.
    #[error("it does not look like NVMeTLSkey-1:hh:…:")]
    Form,
    /// An unknown `hh`.
    #[error("its hash is none of 00, 01, 02")]
    Hash,
    /// Not base64 of as many bytes as the hash wants, and four more.
    #[error("its key is not base64 of 32 or 48 bytes, as its hash wants them, and their CRC-32")]
    Key,
    /// Mistyped.
    #[error("its CRC-32 does not fit its key")]
    Crc,
}

/// How labels and contexts are put into HKDF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As RFC 8446, 7.1 says.
    Standard,
    /// As libnvme did before its release 1.16 (Debian 13 has 1.13): the lengths of label and context are missing, and that
    /// of the output is little-endian.
    Libnvme,
    /// The same with OpenSSL before 3.3.1 (Ubuntu 24.04), where each part replaced the one before: only the context is left.
    LibnvmeLast,
}

impl Dialect {
    /// All, the right one first.
    pub const ALL: [Dialect; 3] = [Self::Standard, Self::Libnvme, Self::LibnvmeLast];
}

impl ConfiguredPsk {
    /// A PSK of these bytes: 32 of them for SHA-256, 48 for SHA-384, either for none.
    pub fn new(key: Zeroizing<Vec<u8>>, transform: Option<HashId>) -> Result<Self, NotAPsk> {
        let fits = match transform {
            None => [32, 48].contains(&key.len()),
            Some(HashId::Sha512) => return Err(NotAPsk::Hash),
            Some(hash) => key.len() == hash.size(),
        };
        match fits {
            true => Ok(Self { key, transform }),
            false => Err(NotAPsk::Key),
        }
    }

    /// Reads the text; white space around it does not count.
    pub fn parse(text: &str) -> Result<Self, NotAPsk> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(NotAPsk::Form)?;
        let (hh, rest) = rest.split_once(':').ok_or(NotAPsk::Form)?;
        let encoded = rest.strip_suffix(':').ok_or(NotAPsk::Form)?;
        let transform = match hh {
            "00" => None,
            "01" => Some(HashId::Sha256),
            "02" => Some(HashId::Sha384),
            _ => return Err(NotAPsk::Hash),
        };
        let mut key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| NotAPsk::Key)?);
        let end = key.len().checked_sub(4).ok_or(NotAPsk::Key)?;
        let crc = key.split_off(end);
        let psk = Self::new(key, transform)?;
        match crc == psk.crc() {
            true => Ok(psk),
            false => Err(NotAPsk::Crc),
        }
    }

    /// The text.
    pub fn text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.key.len() + 4));
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&self.crc());
        let encoded = Zeroizing::new(STANDARD.encode(&*bytes));
        let hh = self.transform.map_or(0, |hash| hash as u8);
        Zeroizing::new(format!("{PREFIX}{hh:02}:{}:", *encoded))
    }

    fn crc(&self) -> [u8; 4] {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &self.key) as u32;
        crc.to_le_bytes()
    }

    /// The hash of the suite that it is for.
    pub fn hash(&self) -> HashId {
        let by_length = if self.key.len() == 48 {
            HashId::Sha384
        } else {
            HashId::Sha256
        };
        self.transform.unwrap_or(by_length)
    }

    /// What a host calls it in version 1 of the identities, and the key for TLS.
    pub fn for_host(&self, host: &str, subsystem: &str) -> (Identity, Zeroizing<Vec<u8>>) {
        let hash = self.hash();
        let retained = self.retained(host, Dialect::Standard);
        let identity = Identity {
            made: Made::Retained,
            hash,
            host: host.into(),
            subsystem: subsystem.into(),
            digest: Some(digest(hash, &retained, host, subsystem)),
        };
        let key = tls_psk(&retained, &identity, Dialect::Standard);
        (identity, key)
    }

    /// The PSK that `host` keeps.
    pub fn retained(&self, host: &str, dialect: Dialect) -> Zeroizing<Vec<u8>> {
        match self.transform {
            None => self.key.clone(),
            Some(hash) => expand(hash, &extract(hash, &self.key), "HostNQN", host.as_bytes(), dialect),
        }
    }
}

/// Digest of a retained or generated PSK, for an identity of version 1.
pub fn digest(hash: HashId, psk: &[u8], host: &str, subsystem: &str) -> String {
    let parts = [host.as_bytes(), b" ", subsystem.as_bytes(), b" ", b"NVMe-over-Fabrics"];
    STANDARD.encode(hmac(hash, psk, &parts))
}

/// The key for TLS, of a retained or generated PSK.
pub fn tls_psk(psk: &[u8], identity: &Identity, dialect: Dialect) -> Zeroizing<Vec<u8>> {
    let hash = identity.hash;
    let context = match &identity.digest {
        None => identity.to_string(),
        Some(digest) => format!("{:02} {digest}", hash as u8),
    };
    expand(hash, &extract(hash, psk), "nvme-tls-psk", context.as_bytes(), dialect)
}

/// The PSK that an authentication leaves behind: its session key and both challenges (Base 2.1, 8.3.5.5.9).
pub fn generated(hash: HashId, session: &[u8], host_asked: &[u8], we_asked: &[u8]) -> Zeroizing<Vec<u8>> {
    hmac(hash, session, &[we_asked, host_asked])
}

/// HKDF-Extract without salt (RFC 5869, 2.2): as many zeros as the hash has bytes.
pub(super) fn extract(hash: HashId, key: &[u8]) -> Zeroizing<Vec<u8>> {
    hmac(hash, &[0; 64][..hash.size()], &[key])
}

/// HKDF-Expand-Label (RFC 8446, 7.1) of as many bytes as the hash has: one block.
pub(super) fn expand(hash: HashId, key: &[u8], label: &str, context: &[u8], dialect: Dialect) -> Zeroizing<Vec<u8>> {
    let size = hash.size() as u16;
    match dialect {
        Dialect::Standard => {
            // Labels are ours and short. A context may be longer than its length can say, an identity of version 0 with two
            // long NQNs: hosts let the length wrap.
            let label_len = ["tls13 ".len() + label.len()].map(|n| n as u8);
            let context_len = [context.len() as u8];
            let parts = [
                &size.to_be_bytes()[..],
                &label_len,
                b"tls13 ",
                label.as_bytes(),
                &context_len,
                context,
                &[1],
            ];
            hmac(hash, key, &parts)
        }
        Dialect::Libnvme => {
            let parts = [&size.to_le_bytes()[..], b"tls13 ", label.as_bytes(), context, &[1]];
            hmac(hash, key, &parts)
        }
        Dialect::LibnvmeLast => hmac(hash, key, &[context, &[1]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "nqn.psk-test-host";
    const SUBSYSTEM: &str = "nqn.psk-test-subsys";
    const SHA256: &str = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
    const SHA384: &str = "NVMeTLSkey-1:02:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwP/w0S89ELi3W2LxIcLXVsDn8kXZQ==:";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn derive(key: &str, dialect: Dialect, version: u8) -> (String, String) {
        let configured = ConfiguredPsk::parse(key).unwrap();
        let hash = configured.transform.unwrap();
        let retained = configured.retained(HOST, dialect);
        let identity = Identity {
            made: Made::Retained,
            hash,
            host: HOST.into(),
            subsystem: SUBSYSTEM.into(),
            digest: (version == 1).then(|| digest(hash, &retained, HOST, SUBSYSTEM)),
        };
        (
            identity.digest.clone().unwrap_or_default(),
            hex(&tls_psk(&retained, &identity, dialect)),
        )
    }

    /// What `nvme check-tls-key --insert` of nvme-cli 2.16 and 2.13 put into the keyring for the keys of libnvme's own test.
    #[test]
    fn digests_and_tls_keys_are_those_of_nvme_cli() {
        let standard = [
            (
                SHA256,
                0,
                "",
                "05c6503551ad136e6ee32e6eeb3f6d500b69701d84ec71e328f65c7f51566f68",
            ),
            (
                SHA256,
                1,
                "iSbjiStwJ/1TrTvDlt2fjFmzvsytOJelidNnA+X5lEU=",
                "8fc3c0badfd4c0c66fa3ca33aadd0314f85536cc9bc47338b60f3e6e563786ca",
            ),
            (
                SHA384,
                0,
                "",
                "f42ba63824cdfe421914c582921f85b5b5b7e2d4df084caeedc9be20b212e8bb0fe8a23e9d59a1c8fc6449da4970a78d",
            ),
            (
                SHA384,
                1,
                "QhW2+Rp6RzHlNtCslyRxMnwJ11tKKhz8JCAQpQ+XUD8f9td1VeH5h53yz2wKJG1a",
                "a2b2f943f479fc682555cec89857c80ed004ce92f32a973d5764155bb7e36b17a85368a0666d250afac9282dda2e62ca",
            ),
        ];
        let old = [
            (
                SHA256,
                0,
                "",
                "09fb1983ac6d6d0353e7cae4f23daddd651c367fa347c59d9cf6936f5a83eafb",
            ),
            (
                SHA256,
                1,
                "66GuqV08TsAGII39teWUfwQwizjv06Jy8jOcX3NAAzM=",
                "b9f5ab2a41ba6e72a23a12066302a2f775fa6c0942c8e0b18ca8ac07edf305e2",
            ),
            (
                SHA384,
                0,
                "",
                "2ee4754186a625b28a3936ef4a40d839c3ad958b2e017562ee07e2501f172ce999dc9c29033ea7ee33f814f192c13f47",
            ),
            (
                SHA384,
                1,
                "RsKmYJ3nAn1ApjjMloJFbAkLPivONDAX/xW327YBUsn2eGShXSjCZvBaOxscLqmz",
                "fcefe2e2a2e682b1447dcabf1ec268f78f08c63cd075753abcc8bda2c5c34d48d3014aa8d76ad80107e4f5c9f27e2149",
            ),
        ];
        for (dialect, vectors) in [(Dialect::Standard, standard), (Dialect::Libnvme, old)] {
            for (key, version, digest, tls) in vectors {
                assert_eq!(
                    derive(key, dialect, version),
                    (digest.into(), tls.into()),
                    "{dialect:?}"
                );
            }
        }
        // libnvme's test has only the digest for this one.
        let (digest, _) = derive(SHA256, Dialect::LibnvmeLast, 1);
        assert_eq!(digest, "mJUDthe4jhFVFSnaBaydV/EHJK6OvIuw8xap5IkTnG0=");
    }

    /// The vectors of Linux's test of secure channel concatenation (auth_kunit).
    #[test]
    fn generated_keys_are_those_of_linux() {
        let bytes = |f: fn(u8) -> u8, n: u8| (0..n).map(f).collect::<Vec<u8>>();
        let vectors = [
            (
                HashId::Sha256,
                "1733c59fa7f48fcf37f5f26fc4ff0268ad4f78e030f4f3b0bfd1d47e7bb1447a",
                "OldoKuTfKddMuyCznAZojkWD7P4D9/AtzDzLimtOxqI=",
                "3c17da628474a04d2247c4cab47968c915388193f7c071bd9489cc3666cd7cc8",
            ),
            (
                HashId::Sha384,
                "f14b2dd3234c459694d3bc63f8968bd6b37c2c6de849e22e11874900 1ce4bbe8640b9e3a748cb11ce4b1d71d359cce39",
                "cffMWk8TSS7HOQebjgYEIkrPrjWPV4JE5cdPB8WhEvY4JBW5YynKyv66XscN4A9n",
                "2774753233537b3fa50eb7d16a8e43457d85f4906c005b2236616c5d80939d0898fff15bb8b77119d2be0aac423e7590",
            ),
        ];
        for (hash, psk, digest_text, tls) in vectors {
            let size = hash.size() as u8;
            let session = bytes(|i| b'A' + i, size);
            let (c1, c2) = (bytes(|i| i, size), bytes(|i| 0xff - i, size));
            let made = generated(hash, &session, &c2, &c1);
            assert_eq!(hex(&made), psk.replace(' ', ""));
            let identity = Identity {
                made: Made::Generated,
                hash,
                host: "hostnqn".into(),
                subsystem: "subsysnqn".into(),
                digest: Some(digest(hash, &made, "hostnqn", "subsysnqn")),
            };
            assert_eq!(identity.digest.as_deref(), Some(digest_text));
            assert_eq!(hex(&tls_psk(&made, &identity, Dialect::Standard)), tls);
        }
    }

    #[test]
    fn keys_are_read_and_mistakes_are_named() {
        for text in [SHA256, SHA384] {
            assert_eq!(*ConfiguredPsk::parse(&format!(" {text}\n")).unwrap().text(), text);
        }
        let error = |text: &str| ConfiguredPsk::parse(text).unwrap_err();
        let key: Vec<u8> = (1..=32).collect();
        let plain = ConfiguredPsk::new(key.clone().into(), None).unwrap();
        assert_eq!(*plain.retained(HOST, Dialect::Standard), key);
        assert_eq!(plain.hash(), HashId::Sha256);
        let (identity, tls) = ConfiguredPsk::parse(SHA384).unwrap().for_host(HOST, SUBSYSTEM);
        assert_eq!(
            (identity.digest.unwrap(), hex(&tls)),
            derive(SHA384, Dialect::Standard, 1)
        );
        assert!(plain.text().starts_with("NVMeTLSkey-1:00:"));
        assert_eq!(error("key"), NotAPsk::Form);
        assert_eq!(error(&SHA256.replace("-1:", "-2:")), NotAPsk::Form);
        assert_eq!(error(&SHA256.replace(":01:", ":03:")), NotAPsk::Hash);
        assert_eq!(error(&SHA256.replace(":01:", ":02:")), NotAPsk::Key);
        assert_eq!(error("NVMeTLSkey-1:00:%:"), NotAPsk::Key);
        assert_eq!(error("NVMeTLSkey-1:00::"), NotAPsk::Key);
        assert_eq!(error(&SHA256.replace("VRL", "VRM")), NotAPsk::Crc);
        assert_eq!(format!("{plain:?}"), "ConfiguredPsk");
    }
}
