//! Secrets of DH-HMAC-CHAP as administrators keep them: `DHHC-1:hh:base64 of key and CRC-32:` (Base 2.0d, 8.13.5.7).
use base64::{Engine, engine::general_purpose::STANDARD};
use spec::nvme::{auth::HashId, hash::hmac};
use std::fmt;
use zeroize::Zeroizing;

/// A host's or a controller's secret. Wiped when dropped; never printed.
pub struct Secret {
    key: Zeroizing<Vec<u8>>,
    /// Transforms the key before use; `None`: it is used as it stands.
    transform: Option<HashId>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a text is no secret. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASecret {
    /// Not the four fields.
    #[error("it does not look like DHHC-1:hh:…:")]
    Form,
    /// An unknown `hh`.
    #[error("its transformation is none of 00, 01, 02, 03")]
    Transform,
    /// Not base64 of 32, 48 or 64 bytes and four more.
    #[error("its key is not base64 of 32, 48 or 64 bytes and their CRC-32")]
    Key,
    /// Mistyped.
    #[error("its CRC-32 does not fit its key")]
    Crc,
}

impl Secret {
    /// A secret of these bytes: 32, 48 or 64.
    pub fn new(key: Zeroizing<Vec<u8>>, transform: Option<HashId>) -> Self {
        Self { key, transform }
    }

    /// The text.
    pub fn text(&self) -> Zeroizing<String> {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &self.key) as u32;
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.key.len() + 4));
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(&*bytes));
        let hh = self.transform.map_or(0, |hash| hash as u8);
        Zeroizing::new(format!("DHHC-1:{hh:02}:{}:", *encoded))
    }

    /// Reads the text; white space around it does not count.
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let rest = text.trim().strip_prefix("DHHC-1:").ok_or(NotASecret::Form)?;
        let (hh, rest) = rest.split_once(':').ok_or(NotASecret::Form)?;
        let encoded = rest.strip_suffix(':').ok_or(NotASecret::Form)?;
        let transform = match hh {
            "00" => None,
            "01" => Some(HashId::Sha256),
            "02" => Some(HashId::Sha384),
            "03" => Some(HashId::Sha512),
            _ => return Err(NotASecret::Transform),
        };
        let mut key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| NotASecret::Key)?);
        if ![36, 52, 68].contains(&key.len()) {
            return Err(NotASecret::Key);
        }
        let end = key.len() - 4;
        let crc = key.split_off(end);
        let ours = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &key) as u32;
        match crc == ours.to_le_bytes() {
            true => Ok(Self { key, transform }),
            false => Err(NotASecret::Crc),
        }
    }

    /// The key that the host or subsystem `nqn` answers with.
    pub fn transformed(&self, nqn: &str) -> Zeroizing<Vec<u8>> {
        match self.transform {
            None => self.key.clone(),
            Some(hash) => hmac(hash, &self.key, &[nqn.as_bytes(), b"NVMe-over-Fabrics"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `nvme gen-dhchap-key` of nvme-cli made it of 32 bytes 01h to 20h.
    fn text(hh: &str, key: &[u8]) -> String {
        let mut bytes = key.to_vec();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, key) as u32;
        bytes.extend_from_slice(&crc.to_le_bytes());
        format!("DHHC-1:{hh}:{}:", STANDARD.encode(bytes))
    }

    #[test]
    fn secrets_are_read_and_mistakes_are_named() {
        let key: Vec<u8> = (1..=32).collect();
        let secret = Secret::parse(&format!(" {}\n", text("00", &key))).unwrap();
        assert_eq!(*secret.transformed("nqn.x"), key);
        let transformed = Secret::parse(&text("01", &key)).unwrap().transformed("nqn.x");
        assert_eq!(transformed.len(), 32);
        assert_ne!(*transformed, key);
        assert_eq!(Secret::parse(&text("03", &[7; 48])).unwrap().transformed("a").len(), 64);
        let error = |text: &str| Secret::parse(text).unwrap_err();
        assert_eq!(error("secret"), NotASecret::Form);
        assert_eq!(error(&text("00", &key).replace("DHHC-1", "DHHC-2")), NotASecret::Form);
        assert_eq!(error(&text("04", &key)), NotASecret::Transform);
        assert_eq!(error(&text("00", &key[1..])), NotASecret::Key);
        assert_eq!(error("DHHC-1:00:%:"), NotASecret::Key);
        let mut mistyped = text("00", &key);
        mistyped.replace_range(12..13, if &mistyped[12..13] == "A" { "B" } else { "A" });
        assert_eq!(error(&mistyped), NotASecret::Crc);
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn the_checksum_is_the_one_nvme_cli_prints() {
        // From its documentation of gen-dhchap-key: 32 zero bytes end in this CRC.
        assert_eq!(
            crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &[0; 32]),
            0x190a_55ad
        );
    }
}
