//! One queue's DH-HMAC-CHAP exchange, from the controller's side: messages in, messages out (Base 2.0d, 8.13.5).
//!
//! Powers of 8,192-bit numbers take milliseconds: whoever drives this does it where nobody waits.
use super::{generated::Generated, group::Ephemeral, secret::Secret};
use spec::nvme::{
    auth::{FromHost, GroupId, HashId, Negotiate, Reason, Reply, challenge, failure1, secure_channel, success1},
    hash::{digest, hmac},
    tls::{HASHES, Made},
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

/// The secure channel that may come of an exchange: secure channel concatenation (Base 2.0d, 8.13.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concatenation {
    /// None: an I/O queue, a connection by a configured key, or nothing here that does TLS.
    Never,
    /// The host may ask for a PSK, to come again by TLS.
    New,
    /// The connection came by such a PSK, which may be replaced.
    Replace,
}

impl Concatenation {
    /// For queue `qid`, whose connection came by such a key, if it is by TLS.
    pub fn of(qid: u16, by: Option<Made>) -> Self {
        match (qid, by) {
            (0, None) if ::tls::BUILT => Self::New,
            (0, Some(Made::Generated)) => Self::Replace,
            _ => Self::Never,
        }
    }

    /// The value of SC_C that asks for it.
    fn asked_by(self, wish: u8) -> bool {
        match self {
            Self::Never => false,
            Self::New => wish == secure_channel::NEW_TLS_PSK,
            Self::Replace => wish == secure_channel::REPLACE_TLS_PSK,
        }
    }
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
        /// SC_C.
        channel: u8,
        hash: HashId,
        sequence: u32,
        challenge: [u8; 64],
        ephemeral: Option<Ephemeral>,
    },
    /// The host has yet to say that the controller's response was right.
    Success2 {
        transaction: u16,
        psk: Option<Generated>,
    },
    Over,
}

/// See the module's description.
pub struct Exchange {
    names: Names,
    concatenation: Concatenation,
    step: Step,
    message: Option<Vec<u8>>,
    progress: Progress,
    chosen: Option<(HashId, GroupId)>,
    psk: Option<Generated>,
}

impl Exchange {
    /// Waits for the host to begin.
    pub fn new(names: Names, concatenation: Concatenation) -> Self {
        Self {
            names,
            concatenation,
            step: Step::Negotiate,
            message: None,
            progress: Progress::Going,
            chosen: None,
            psk: None,
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Hash and group, once they are agreed on.
    pub fn chosen(&self) -> Option<(HashId, GroupId)> {
        self.chosen
    }

    /// How far it has come, in SPDK's words.
    pub fn state(&self) -> &'static str {
        match (self.progress, &self.step, self.message.is_some()) {
            (Progress::Failed(_), _, true) => "failure1",
            (Progress::Failed(_), _, false) => "error",
            (Progress::Done, _, false) => "completed",
            (_, Step::Negotiate, _) => "negotiate",
            (_, Step::Reply { .. }, true) => "challenge",
            (_, Step::Reply { .. }, false) => "reply",
            (_, Step::Success2 { .. }, false) => "success2",
            (_, _, _) => "success1",
        }
    }

    /// The PSK that it has left behind, once, if the host asked for one and all is done.
    pub fn take_psk(&mut self) -> Option<Generated> {
        self.psk.take()
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
            (Ok(FromHost::Success2(of)), Step::Success2 { transaction, psk }) if of == transaction => {
                self.progress = Progress::Done;
                self.psk = psk;
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
        let channel = ask.secure_channel;
        let concatenates = channel != secure_channel::NONE;
        if concatenates && !self.concatenation.asked_by(channel) {
            return Err(Reason::SecureChannelMismatch);
        }
        // The strongest that both know. TLS has no suite with SHA-512.
        let fits = |hash: &&HashId| ask.hashes.contains(hash) && (!concatenates || HASHES.contains(hash));
        let hash = *offer.hashes.iter().filter(fits).max().ok_or(Reason::HashNotUsable)?;
        let group = offer.groups.iter().filter(|group| ask.groups.contains(group)).max();
        let group = *group.ok_or(Reason::GroupNotUsable)?;
        if concatenates && group == GroupId::Null {
            // Without a secret of Diffie-Hellman there is nothing to make a PSK of.
            return Err(Reason::SecureChannelMismatch);
        }
        self.chosen = Some((hash, group));
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
            channel,
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
            channel,
            hash,
            sequence,
            challenge,
            ephemeral,
        } = step
        else {
            return Err(Reason::IncorrectMessage);
        };
        let concatenates = channel != secure_channel::NONE;
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
        let key = secrets.host.transformed(&self.names.host);
        // Linux 6.15 to 6.17 asks for a PSK and responds as if it had not. Nobody gains by saying so in its place: what the host
        // did ask for is in its own mind, and without the PSK it goes no further.
        let channel = [channel, secure_channel::NONE].into_iter().find(|channel| {
            let wanted = response(Asked {
                hash,
                shared: shared.as_deref().map(Vec::as_slice),
                key: &key,
                challenge: &challenge[..hash.size()],
                sequence,
                transaction,
                channel: *channel,
                role: "HostHost",
                parties,
            });
            bool::from(wanted.ct_eq(&reply.response))
        });
        let channel = channel.ok_or(Reason::Failed)?;
        let Some(theirs) = &reply.challenge else {
            if concatenates {
                return Err(Reason::IncorrectPayload);
            }
            self.message = Some(success1(transaction, hash, None));
            self.progress = Progress::Done;
            return Ok(());
        };
        // Our own challenge sent back would have us compute the host's response for it.
        if theirs[..] == challenge[..hash.size()] || (reply.sequence == 0 && !concatenates) {
            return Err(Reason::IncorrectPayload);
        }
        let psk = match &shared {
            Some(session) if concatenates => {
                let [host, subsystem] = parties;
                Some(Generated::new(
                    hash,
                    session,
                    [&challenge[..hash.size()], theirs],
                    host,
                    subsystem,
                ))
            }
            _ => None,
        };
        if reply.sequence == 0 {
            // The challenge was for the PSK only.
            self.psk = psk;
            self.message = Some(success1(transaction, hash, None));
            self.progress = Progress::Done;
            return Ok(());
        }
        let secret = secrets.controller.ok_or(Reason::Failed)?;
        let ours = response(Asked {
            hash,
            shared: shared.as_deref().map(Vec::as_slice),
            key: &secret.transformed(&self.names.subsystem),
            challenge: theirs,
            sequence: reply.sequence,
            transaction,
            channel,
            role: "Controller",
            parties: [parties[1], parties[0]],
        });
        self.message = Some(success1(transaction, hash, Some(&ours)));
        self.step = Step::Success2 { transaction, psk };
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
    /// SC_C.
    channel: u8,
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
            &[asked.channel],
            asked.role.as_bytes(),
            asked.parties[0].as_bytes(),
            &[0],
            asked.parties[1].as_bytes(),
        ],
    )
}

pub mod exercise;
pub mod host;
#[cfg(test)]
mod tests;
