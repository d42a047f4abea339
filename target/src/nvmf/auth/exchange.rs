//! One queue's DH-HMAC-CHAP exchange, from the controller's side: messages in, messages out (Base 2.0d, 8.13.5).
//!
//! Powers of 8,192-bit numbers take milliseconds: whoever drives this does it where nobody waits.
use super::{group::Ephemeral, secret::Secret};
use spec::nvme::{
    auth::{FromHost, GroupId, HashId, Negotiate, Reason, Reply, challenge, failure1, success1},
    hash::{digest, hmac},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What a controller accepts: at least one of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Hash functions.
    pub hashes: Vec<HashId>,
    /// Groups.
    pub groups: Vec<GroupId>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            hashes: HashId::ALL.to_vec(),
            groups: GroupId::ALL.to_vec(),
        }
    }
}

/// The secrets of a host and of the controller it talks to.
#[derive(Debug)]
pub struct Secrets {
    /// The host proves that it has this one.
    pub host: Secret,
    /// The controller proves that it has this one, if it is asked.
    pub controller: Option<Secret>,
}

/// Who talks to whom.
#[derive(Clone, Debug)]
pub struct Names {
    /// Host NQN.
    pub host: String,
    /// Subsystem NQN.
    pub subsystem: String,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not there yet.
    Going,
    /// The host has proved who it is, and so has the controller if the host wanted that.
    Done,
    /// It ends once the host has been told why.
    Failed(Reason),
}

enum Step {
    Negotiate,
    /// The challenge waits to be fetched, or has been; the reply is to come.
    Reply {
        transaction: u16,
        hash: HashId,
        sequence: u32,
        challenge: [u8; 64],
        ephemeral: Option<Ephemeral>,
    },
    /// The host has yet to say that the controller's response was right.
    Success2 {
        transaction: u16,
    },
    Over,
}

/// See the module's description.
pub struct Exchange {
    names: Names,
    step: Step,
    message: Option<Vec<u8>>,
    progress: Progress,
}

impl Exchange {
    /// Waits for the host to begin.
    pub fn new(names: Names) -> Self {
        Self {
            names,
            step: Step::Negotiate,
            message: None,
            progress: Progress::Going,
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The message for the host, if there is one. It is told once.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        self.message.take()
    }

    /// A message from the host. `secrets` are looked up when they are needed, so that new ones count at once.
    pub fn send(&mut self, bytes: &[u8], offer: &Offer, secrets: impl FnOnce() -> Option<Secrets>) {
        let transaction = match bytes {
            [_, _, _, _, low, high, ..] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        let done = match (FromHost::parse(bytes), std::mem::replace(&mut self.step, Step::Over)) {
            (Err(reason), _) => Err(reason),
            (Ok(FromHost::Negotiate(ask)), Step::Negotiate) => self.challenge(&ask, offer),
            (Ok(FromHost::Reply(reply)), step @ Step::Reply { .. }) => self.judge(&reply, step, secrets),
            (Ok(FromHost::Success2(of)), Step::Success2 { transaction }) if of == transaction => {
                self.progress = Progress::Done;
                Ok(())
            }
            // The host has found us wanting: there is nobody to be told.
            (Ok(FromHost::Failure(_)), _) => {
                self.progress = Progress::Failed(Reason::Failed);
                self.message = None;
                Ok(())
            }
            _ => Err(Reason::IncorrectMessage),
        };
        if let Err(reason) = done {
            self.progress = Progress::Failed(reason);
            self.message = Some(failure1(transaction, reason));
        }
    }

    fn challenge(&mut self, ask: &Negotiate, offer: &Offer) -> Result<(), Reason> {
        if ask.secure_channel != 0 {
            return Err(Reason::SecureChannelMismatch);
        }
        // The strongest that both know.
        let hash = offer.hashes.iter().filter(|hash| ask.hashes.contains(hash)).max();
        let hash = *hash.ok_or(Reason::HashNotUsable)?;
        let group = offer.groups.iter().filter(|group| ask.groups.contains(group)).max();
        let group = *group.ok_or(Reason::GroupNotUsable)?;
        let ephemeral = match group {
            GroupId::Null => None,
            group => Some(Ephemeral::new(group).ok_or(Reason::Failed)?),
        };
        let value = match &ephemeral {
            None => Vec::new(),
            Some(ephemeral) => ephemeral.value().ok_or(Reason::Failed)?,
        };
        let mut random = [0; 64];
        let mut sequence = [0; 4];
        getrandom::fill(&mut random).map_err(|_| Reason::Failed)?;
        getrandom::fill(&mut sequence).map_err(|_| Reason::Failed)?;
        // Zero has a meaning of its own (Base 2.0d, 8.13.5.3).
        let sequence = u32::from_le_bytes(sequence).max(1);
        let transaction = ask.transaction;
        self.message = Some(challenge(
            transaction,
            hash,
            group,
            sequence,
            &random[..hash.size()],
            &value,
        ));
        self.step = Step::Reply {
            transaction,
            hash,
            sequence,
            challenge: random,
            ephemeral,
        };
        Ok(())
    }

    fn judge(&mut self, reply: &Reply, step: Step, secrets: impl FnOnce() -> Option<Secrets>) -> Result<(), Reason> {
        let Step::Reply {
            transaction,
            hash,
            sequence,
            challenge,
            ephemeral,
        } = step
        else {
            return Err(Reason::IncorrectMessage);
        };
        if reply.transaction != transaction || reply.response.len() != hash.size() {
            return Err(Reason::IncorrectPayload);
        }
        let shared = match &ephemeral {
            None if reply.value.is_empty() => None,
            None => return Err(Reason::IncorrectPayload),
            Some(ephemeral) => {
                let secret = ephemeral.shared(&reply.value).ok_or(Reason::IncorrectPayload)?;
                Some(digest(hash, &secret))
            }
        };
        let secrets = secrets().ok_or(Reason::Failed)?;
        let parties = [&*self.names.host, &*self.names.subsystem];
        let wanted = response(Asked {
            hash,
            shared: shared.as_deref().map(Vec::as_slice),
            key: &secrets.host.transformed(&self.names.host),
            challenge: &challenge[..hash.size()],
            sequence,
            transaction,
            role: "HostHost",
            parties,
        });
        if !bool::from(wanted.ct_eq(&reply.response)) {
            return Err(Reason::Failed);
        }
        let Some(theirs) = &reply.challenge else {
            self.message = Some(success1(transaction, hash, None));
            self.progress = Progress::Done;
            return Ok(());
        };
        // Our own challenge sent back would have us compute the host's response for it.
        if theirs[..] == challenge[..hash.size()] || reply.sequence == 0 {
            return Err(Reason::IncorrectPayload);
        }
        let secret = secrets.controller.ok_or(Reason::Failed)?;
        let ours = response(Asked {
            hash,
            shared: shared.as_deref().map(Vec::as_slice),
            key: &secret.transformed(&self.names.subsystem),
            challenge: theirs,
            sequence: reply.sequence,
            transaction,
            role: "Controller",
            parties: [parties[1], parties[0]],
        });
        self.message = Some(success1(transaction, hash, Some(&ours)));
        self.step = Step::Success2 { transaction };
        Ok(())
    }
}

/// What a response answers.
struct Asked<'a> {
    hash: HashId,
    /// Hash of the Diffie-Hellman secret.
    shared: Option<&'a [u8]>,
    key: &'a [u8],
    challenge: &'a [u8],
    sequence: u32,
    transaction: u16,
    role: &'static str,
    /// Who answers, and whom.
    parties: [&'a str; 2],
}

/// HMAC(key, augmented challenge || sequence || T_ID || SC_C || role || NQN || 00h || NQN) (Base 2.0d, 8.13.5.4).
fn response(asked: Asked<'_>) -> Zeroizing<Vec<u8>> {
    let augmented = match asked.shared {
        None => Zeroizing::new(asked.challenge.to_vec()),
        Some(shared) => hmac(asked.hash, shared, &[asked.challenge]),
    };
    hmac(
        asked.hash,
        asked.key,
        &[
            &augmented,
            &asked.sequence.to_le_bytes(),
            &asked.transaction.to_le_bytes(),
            &[0],
            asked.role.as_bytes(),
            asked.parties[0].as_bytes(),
            &[0],
            asked.parties[1].as_bytes(),
        ],
    )
}

pub mod exercise;
#[cfg(test)]
mod tests;
