//! New keys, in the formats that nvme-cli's `gen-tls-key` and `gen-dhchap-key` make them in.
use super::auth::Secret;
use crate::keyring;
use spec::nvme::{auth::HashId, tls::ConfiguredPsk};
use std::{io, path::Path};
use zeroize::Zeroizing;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// TLS: `NVMeTLSkey-1:…`.
    Tls,
    /// In-band authentication: `DHHC-1:…`.
    Dhchap,
}

/// Makes a file with a fresh random key, as long as `hash` is and to be transformed by it; none: 32 bytes, used as they are.
/// Nobody but its owner may read it, and it must not be there.
pub fn make_key(path: &Path, kind: KeyKind, hash: Option<HashId>) -> io::Result<()> {
    let mut key = Zeroizing::new(vec![0; hash.map_or(32, HashId::size)]);
    getrandom::fill(&mut key).map_err(|error| io::Error::other(format!("there are no random numbers: {error}")))?;
    let mut text = match kind {
        KeyKind::Tls => ConfiguredPsk::new(key, hash).map_err(io::Error::other)?.text(),
        KeyKind::Dhchap => Secret::new(key, hash).text(),
    };
    text.push('\n');
    keyring::create(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_read_and_is_never_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut all = std::collections::BTreeSet::new();
        for hash in [None, Some(HashId::Sha256), Some(HashId::Sha384), Some(HashId::Sha512)] {
            for kind in [KeyKind::Tls, KeyKind::Dhchap] {
                if (kind, hash) == (KeyKind::Tls, Some(HashId::Sha512)) {
                    assert!(make_key(&path, kind, hash).is_err());
                    continue;
                }
                make_key(&path, kind, hash).unwrap();
                assert!(make_key(&path, kind, hash).is_err(), "it is there already");
                let text = std::fs::read_to_string(&path).unwrap();
                match kind {
                    KeyKind::Tls => assert_eq!(*ConfiguredPsk::parse(&text).unwrap().text(), text.trim_end()),
                    KeyKind::Dhchap => assert_eq!(*Secret::parse(&text).unwrap().text(), text.trim_end()),
                }
                assert!(all.insert(text));
                std::fs::remove_file(&path).unwrap();
            }
        }
    }
}
