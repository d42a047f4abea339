//! CHAP in a login's text (RFC 7143 12.1.3, RFC 1994): its keys, its algorithms, and nothing about secrets.
//!
//! ```text
//!   host    AuthMethod=CHAP          target  AuthMethod=CHAP
//!           CHAP_A=8,7,6,5                   CHAP_A=7 CHAP_I=201 CHAP_C=0x…
//!           CHAP_N=user CHAP_R=0x…           (the target proves itself only when asked)
//!           [CHAP_I=3 CHAP_C=0x…]            [CHAP_N=me CHAP_R=0x…]
//! ```

/// Most bytes of a challenge or response (12.1.3).
pub const MAX_BINARY: usize = 1024;
/// Most bytes of a name. The RFC has no limit below that of a value; nobody has longer ones.
pub const MAX_NAME: usize = 255;

/// A hash, by its number in IANA's "PPP Authentication Algorithms".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Algorithm {
    /// MD5 (RFC 1994): the one everybody must have.
    Md5 = 5,
    /// SHA-1.
    Sha1 = 6,
    /// SHA-256.
    Sha256 = 7,
    /// SHA3-256.
    #[serde(rename = "sha3-256")]
    Sha3_256 = 8,
}

impl Algorithm {
    /// Strongest first.
    pub const ALL: [Algorithm; 4] = [Algorithm::Sha3_256, Algorithm::Sha256, Algorithm::Sha1, Algorithm::Md5];

    /// Bytes of a response.
    pub const fn size(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sha3_256 => 32,
        }
    }

    /// The first of a `CHAP_A` list that is allowed here (6.2.1: the order is the host's). `None`: there is none, or the
    /// list is not one of numbers.
    pub fn choose(offered: &str, allowed: &[Algorithm]) -> Option<Self> {
        let mut chosen = None;
        for number in offered.split(',') {
            let number = super::text::number(number)?;
            let known = allowed.iter().find(|one| u64::from(**one as u8) == number);
            chosen = chosen.or(known.copied());
        }
        chosen
    }
}

/// What one text says about CHAP, by the last letter of the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// `CHAP_A`: algorithms, numbers separated by commas.
    pub algorithm: Option<&'a str>,
    /// `CHAP_I`: identifier, a number of one byte.
    pub identifier: Option<&'a str>,
    /// `CHAP_C`: challenge, binary.
    pub challenge: Option<&'a str>,
    /// `CHAP_N`: name.
    pub name: Option<&'a str>,
    /// `CHAP_R`: response, binary.
    pub response: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Notes a pair. False: it is no key of CHAP's. `Err`: it is there already.
    pub fn note(&mut self, key: &str, value: &'a str) -> Result<bool, Twice> {
        let place = match key {
            "CHAP_A" => &mut self.algorithm,
            "CHAP_I" => &mut self.identifier,
            "CHAP_C" => &mut self.challenge,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            _ => return Ok(false),
        };
        match place.replace(value) {
            None => Ok(true),
            Some(_) => Err(Twice),
        }
    }
}

/// A key came twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_orders_and_we_allow() {
        let all = &Algorithm::ALL;
        assert_eq!(Algorithm::choose("7,5", all), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("5,6,7,8", all), Some(Algorithm::Md5));
        assert_eq!(Algorithm::choose("5,6,0x7,8", &all[..2]), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("9,200,8", all), Some(Algorithm::Sha3_256));
        for bad in ["", "56", "MD5", "5,", "5,x", "5 ,6", "5", "6,5"] {
            assert_eq!(Algorithm::choose(bad, &all[..2]), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_come_once() {
        let mut said = Said::default();
        assert!(said.is_empty());
        assert_eq!(said.note("CHAP_A", "5"), Ok(true));
        assert_eq!(said.note("CHAP_N", "me"), Ok(true));
        assert_eq!(said.note("CHAP_a", "5"), Ok(false));
        assert_eq!(said.note("HeaderDigest", "None"), Ok(false));
        assert_eq!(said.note("CHAP_A", "5"), Err(Twice));
        assert!(!said.is_empty());
    }
}
