//! CHAP, one login of it (RFC 1994, RFC 7143 9.2.1 and 12.1.3).
//!
//! ```text
//!   Algorithm ──CHAP_A──► Response ──CHAP_N, CHAP_R [, CHAP_I, CHAP_C]──► Proved
//!             ◄─A, I, C──          ◄─[CHAP_N, CHAP_R]──
//! ```
//!
//! Whatever is wrong ends the login, and the host is not told what: unknown user, wrong response and reflected challenge
//! have the same status and take the same time. Keys out of order or twice are the host's mistake and have another status.
use super::{
    auth::{Credential, Demand, Secret},
    login::Directory,
};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;
use spec::iscsi::{
    LoginStatus,
    chap::{Algorithm, MAX_BINARY, Said},
    text,
};
use subtle::ConstantTimeEq;

/// Bytes of our challenges: as many as the longest response.
pub const CHALLENGE: usize = 32;

/// CHAP under way.
#[derive(Debug)]
pub struct Chap {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The host is to say which hashes it has.
    Algorithm,
    /// It is to answer this challenge.
    Response {
        algorithm: Algorithm,
        identifier: u8,
        challenge: [u8; CHALLENGE],
    },
    /// It has.
    Proved { user: String },
}

/// The hash of identifier, secret and challenge (RFC 1994 4.1).
pub fn response(algorithm: Algorithm, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
    fn hash<D: Digest>(identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        D::new()
            .chain_update([identifier])
            .chain_update(secret)
            .chain_update(challenge)
            .finalize()
            .to_vec()
    }
    let how = match algorithm {
        Algorithm::Md5 => hash::<Md5>,
        Algorithm::Sha1 => hash::<Sha1>,
        Algorithm::Sha256 => hash::<Sha256>,
        Algorithm::Sha3_256 => hash::<Sha3_256>,
    };
    how(identifier, secret.bytes(), challenge)
}

impl Chap {
    /// The host has chosen CHAP.
    pub fn new() -> Self {
        Self {
            stage: Stage::Algorithm,
        }
    }

    /// Who has proved to be who it says.
    pub fn user(&self) -> Option<&str> {
        match &self.stage {
            Stage::Proved { user } => Some(user),
            _ => None,
        }
    }

    /// What a text says of CHAP; the answer is appended to `reply`.
    pub fn step(
        &mut self,
        said: &Said<'_>,
        demand: &Demand,
        directory: &mut dyn Directory,
        reply: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        const WRONG: LoginStatus = LoginStatus::AuthenticationFailure;
        const ORDER: LoginStatus = LoginStatus::InitiatorError;
        if said.is_empty() {
            return Ok(()); // the host wants to go on; it cannot, and is told by what is left out
        }
        match &self.stage {
            Stage::Algorithm => {
                let Said {
                    algorithm: Some(offered),
                    identifier: None,
                    challenge: None,
                    name: None,
                    response: None,
                } = *said
                else {
                    return Err(ORDER);
                };
                let algorithm = Algorithm::choose(offered, &demand.algorithms).ok_or(WRONG)?;
                let mut fresh = [0; CHALLENGE + 1];
                if !directory.random(&mut fresh) {
                    return Err(LoginStatus::TargetError);
                }
                let [identifier, challenge @ ..] = fresh;
                text::put(reply, "CHAP_A", algorithm as u8);
                text::put(reply, "CHAP_I", identifier);
                text::put_binary(reply, "CHAP_C", &challenge);
                self.stage = Stage::Response {
                    algorithm,
                    identifier,
                    challenge,
                };
            }
            Stage::Response {
                algorithm,
                identifier,
                challenge,
            } => {
                let Said {
                    algorithm: None,
                    name: Some(user),
                    response: Some(theirs),
                    identifier: theirs_identifier,
                    challenge: theirs_challenge,
                } = *said
                else {
                    return Err(ORDER);
                };
                let theirs = text::binary(theirs, MAX_BINARY).ok_or(WRONG)?;
                let known = directory.credential(demand.group, user);
                let credential = verify(*algorithm, *identifier, challenge, known, &theirs).ok_or(WRONG)?;
                match (theirs_identifier, theirs_challenge) {
                    (None, None) if demand.mutual => return Err(WRONG),
                    (None, None) => (),
                    (Some(identifier), Some(theirs)) => {
                        let identifier = text::number(identifier)
                            .and_then(|n| u8::try_from(n).ok())
                            .ok_or(WRONG)?;
                        let theirs = text::binary(theirs, MAX_BINARY).ok_or(WRONG)?;
                        // Ours sent back: somebody wants us to answer it (9.2.1).
                        if theirs == challenge {
                            return Err(WRONG);
                        }
                        let (name, secret) = credential.mutual.as_ref().filter(|_| demand.mutual).ok_or(WRONG)?;
                        text::put(reply, "CHAP_N", name);
                        text::put_binary(reply, "CHAP_R", &response(*algorithm, identifier, secret, &theirs));
                    }
                    _ => return Err(ORDER),
                }
                self.stage = Stage::Proved { user: credential.user };
            }
            Stage::Proved { .. } => return Err(ORDER),
        }
        Ok(())
    }
}

impl Default for Chap {
    fn default() -> Self {
        Self::new()
    }
}

/// The credential if the response is right. An unknown user costs as much as a known one.
fn verify(
    algorithm: Algorithm,
    identifier: u8,
    challenge: &[u8],
    known: Option<Credential>,
    theirs: &[u8],
) -> Option<Credential> {
    let nobody = Secret::new(vec![0; CHALLENGE].into()).ok()?;
    let secret = known.as_ref().map_or(&nobody, |credential| &credential.secret);
    let right = response(algorithm, identifier, secret, challenge).ct_eq(theirs);
    // What we would answer ourselves proves nothing about the host (9.2.1).
    let mutual = known.as_ref().and_then(|credential| credential.mutual.as_ref());
    let ours = response(
        algorithm,
        identifier,
        mutual.map_or(&nobody, |(_, secret)| secret),
        challenge,
    )
    .ct_eq(theirs);
    known.filter(|_| bool::from(right & !ours))
}
