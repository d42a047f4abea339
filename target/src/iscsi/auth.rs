//! Who proves what: secrets, groups of them, and what a login demands.
//!
//! A [`Secret`] is wiped when it is dropped, and no `Debug`, answer or saved file shows it. What is kept of where it came
//! from is the file's name ([`Credential::files`]), and that is what is shown and saved instead.
use super::options::{Auth, IscsiError};
use crate::keyring;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};
use spec::iscsi::chap::{Algorithm, MAX_NAME};
use std::{
    fmt,
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Most bytes of a secret.
const MAX_SECRET: usize = 255;
/// Fewer than 96 bits can be guessed off line (RFC 7143 9.2.1).
const GOOD_SECRET: usize = 12;

/// What a host and we know, and nobody else.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// From its bytes: 1 to 255 of them.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, IscsiError> {
        match bytes.len() {
            1..=MAX_SECRET => Ok(Self(bytes)),
            n => Err(IscsiError::Invalid {
                what: "secret",
                why: format!("it has {n} bytes; expected 1 to {MAX_SECRET}, better 12 or more"),
            }),
        }
    }

    /// From a file that only its owner may read; a line end after the secret is not part of it.
    pub fn from_file(path: &Path) -> Result<Self, IscsiError> {
        let wrong = |why: String| IscsiError::Invalid {
            what: "secret file",
            why: format!("{}: {why}", path.display()),
        };
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let facts = file.metadata().map_err(|error| wrong(error.to_string()))?;
        if !facts.is_file() {
            return Err(wrong("is not a file".into()));
        }
        if facts.mode() & 0o077 != 0 {
            let mode = facts.mode() & 0o777;
            return Err(wrong(format!("others may read it (mode {mode:o}); chmod 600")));
        }
        // Room for all of it at once: a growing vector would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 3));
        file.take(MAX_SECRET as u64 + 3)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(error.to_string()))?;
        for end in [b'\n', b'\r'] {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        Self::new(bytes).map_err(|error| match error {
            IscsiError::Invalid { why, .. } => wrong(why),
            other => other,
        })
    }

    /// Its bytes, for hashing.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same secret? In constant time.
    pub fn is(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn is_short(&self) -> bool {
        self.0.len() < GOOD_SECRET
    }
}

/// Makes a file that only its owner may read, with a secret of `bytes` random bytes in letters, digits, `-` and `_`. It is
/// on stable storage when this returns.
pub fn generate(path: &Path, bytes: usize) -> Result<(), IscsiError> {
    let wrong = |why: String| IscsiError::Invalid {
        what: "secret file",
        why: format!("{}: {why}", path.display()),
    };
    let mut random = Zeroizing::new(vec![0; bytes]);
    getrandom::fill(&mut random).map_err(|error| wrong(format!("there are no random numbers: {error}")))?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*random) + "\n");
    keyring::create(path, &text).map_err(|error| wrong(error.to_string()))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret as a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                Secret::new(Zeroizing::new(text.as_bytes().to_vec())).map_err(E::custom)
            }
            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Secret, E> {
                Secret::new(Zeroizing::new(text.into_bytes())).map_err(E::custom)
            }
            // What serde would say of numbers has the number in it.
            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom("a secret is a string; put it in quotes"))
            }
            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
                self.visit_u64(0)
            }
            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
                self.visit_u64(0)
            }
        }
        deserializer.deserialize_string(Visitor)
    }
}

/// Where a secret is to be had from.
#[derive(Debug)]
pub enum Source {
    /// Here it is. It will not be saved.
    Said(Secret),
    /// It is in this file.
    File(PathBuf),
}

impl Source {
    fn read(self) -> Result<(Secret, Option<PathBuf>), IscsiError> {
        match self {
            Source::Said(secret) => Ok((secret, None)),
            Source::File(path) => Ok((Secret::from_file(&path)?, Some(path))),
        }
    }
}

/// A host's name and secret and, for the other direction, ours.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What the host calls itself (`CHAP_N`).
    pub user: String,
    /// What it knows.
    pub secret: Secret,
    /// What we call ourselves, and what we know: the target proves itself too.
    pub mutual: Option<(String, Secret)>,
    /// The files of both secrets, where they came from files.
    pub files: (Option<PathBuf>, Option<PathBuf>),
}

impl Credential {
    /// Fetches the secrets of a user and, if we are to prove ourselves too, of the name we have for that.
    pub fn read(user: String, secret: Source, mutual: Option<(String, Source)>) -> Result<Self, IscsiError> {
        let (secret, file) = secret.read()?;
        let (mutual, ours) = match mutual {
            None => (None, None),
            Some((name, source)) => {
                let (secret, file) = source.read()?;
                (Some((name, secret)), file)
            }
        };
        Ok(Self {
            user,
            secret,
            mutual,
            files: (file, ours),
        })
    }

    /// Every secret of it is in a file, so it can be saved without one.
    pub fn is_in_files(&self) -> bool {
        self.files.0.is_some() && (self.mutual.is_none() || self.files.1.is_some())
    }

    /// Checks what can be checked without knowing the others.
    pub(super) fn check(&self) -> Result<(), IscsiError> {
        let invalid = |what, why: String| Err(IscsiError::Invalid { what, why });
        for (what, name) in [
            ("user", Some(&self.user)),
            ("muser", self.mutual.as_ref().map(|m| &m.0)),
        ] {
            let Some(name) = name else { continue };
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return invalid(what, format!("expected 1 to {MAX_NAME} bytes of text"));
            }
        }
        Ok(())
    }

    /// One secret in both directions, in this one or between the two: who is authenticated by a secret must not
    /// authenticate by it (RFC 7143 9.2.1).
    pub(super) fn crosses(&self, other: &Credential) -> bool {
        let crosses = |a: &Credential, b: &Credential| a.mutual.as_ref().is_some_and(|(_, ours)| ours.is(&b.secret));
        crosses(self, self) || crosses(self, other) || crosses(other, self)
    }

    /// A secret of it is shorter than the RFC wants it without IPsec.
    pub(super) fn is_weak(&self) -> bool {
        self.secret.is_short() || self.mutual.as_ref().is_some_and(|(_, ours)| ours.is_short())
    }
}

/// A group of credentials.
#[derive(Clone, Debug, Default)]
pub struct AuthGroup {
    /// Its number, from 1.
    pub tag: u32,
    /// One for each user.
    pub credentials: Vec<Credential>,
    /// It is of the file that the options name ([`Options::auth_file`](super::Options::auth_file)).
    pub of_auth_file: bool,
}

impl AuthGroup {
    /// What is known of a user.
    pub fn find(&self, user: &str) -> Option<&Credential> {
        self.credentials.iter().find(|one| one.user == user)
    }
}

/// What a login demands of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// It may come in without proof.
    pub none: bool,
    /// It may prove itself by CHAP.
    pub chap: bool,
    /// We prove ourselves to it too, and it must ask for that.
    pub mutual: bool,
    /// Where its secret is.
    pub group: u32,
    /// Allowed hashes.
    pub algorithms: Vec<Algorithm>,
}

impl Default for Demand {
    /// Nothing.
    fn default() -> Self {
        Demand::new(&Auth::default(), &[])
    }
}

impl Demand {
    /// SPDK's flags: `disable_chap` is nothing but None, `require_chap` nothing but CHAP. With neither the host chooses,
    /// if there is a group to look its secret up in.
    pub fn new(auth: &Auth, algorithms: &[Algorithm]) -> Self {
        Self {
            none: !auth.require_chap,
            chap: auth.require_chap || (!auth.disable_chap && auth.chap_group != 0),
            mutual: auth.mutual_chap,
            group: auth.chap_group,
            algorithms: algorithms.to_vec(),
        }
    }

    /// The values of `AuthMethod` that are allowed.
    pub fn methods(&self) -> &'static [&'static str] {
        match (self.none, self.chap) {
            (true, true) => &["CHAP", "None"],
            (true, false) => &["None"],
            (false, true) => &["CHAP"],
            (false, false) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_secrets_are_long_random_and_private() {
        let dir = std::env::temp_dir().join(format!("ashlar-secrets-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let made = ["a", "b"].map(|name| {
            generate(&dir.join(name), 12).unwrap();
            Secret::from_file(&dir.join(name)).unwrap()
        });
        assert_eq!(made[0].bytes().len(), 16, "as long as Windows takes it");
        assert!(!made[0].is(&made[1]) && !made[0].is_short());
        let said = generate(&dir.join("a"), 12).unwrap_err().to_string();
        assert!(said.ends_with("/a: File exists (os error 17)"), "{said}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn flags_say_what_is_demanded() {
        let auth = |disable_chap, require_chap, chap_group| Auth {
            disable_chap,
            require_chap,
            mutual_chap: false,
            chap_group,
        };
        for (auth, methods) in [
            (auth(false, false, 0), &["None"][..]),
            (auth(false, false, 1), &["CHAP", "None"]),
            (auth(true, false, 1), &["None"]),
            (auth(false, true, 1), &["CHAP"]),
            // Nobody gets in where there are no secrets.
            (auth(false, true, 0), &["CHAP"]),
        ] {
            assert_eq!(Demand::new(&auth, &Algorithm::ALL).methods(), methods, "{auth:?}");
        }
    }
}
