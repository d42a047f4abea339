//! Hashes and HMACs by identifier.
use super::auth::HashId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

/// HMAC of the parts, one after the other. The key may have any length.
pub fn hmac(hash: HashId, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    macro_rules! with {
        ($hash:ty) => {{
            // Any length is fine for HMAC (RFC 2104): the error cannot be.
            let mut mac = match <Hmac<$hash>>::new_from_slice(key) {
                Ok(mac) => mac,
                Err(_) => return Zeroizing::new(Vec::new()),
            };
            parts.iter().for_each(|part| mac.update(part));
            Zeroizing::new(mac.finalize().into_bytes().to_vec())
        }};
    }
    match hash {
        HashId::Sha256 => with!(Sha256),
        HashId::Sha384 => with!(Sha384),
        HashId::Sha512 => with!(Sha512),
    }
}

/// The hash of `bytes`.
pub fn digest(hash: HashId, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match hash {
        HashId::Sha256 => Sha256::digest(bytes).to_vec(),
        HashId::Sha384 => Sha384::digest(bytes).to_vec(),
        HashId::Sha512 => Sha512::digest(bytes).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmacs_are_those_of_rfc_4231() {
        // Test case 2.
        let mac = hmac(HashId::Sha256, b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
        let mac = hmac(HashId::Sha512, b"Jefe", &[b"what do ya want for nothing?"]);
        assert_eq!((mac.len(), &mac[..4]), (64, &[0x16, 0x4b, 0x7a, 0x7b][..]));
        assert_eq!(digest(HashId::Sha384, b"").len(), 48);
    }
}
