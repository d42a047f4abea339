//! The host's side of an exchange, written down for tests and exercises.
pub use super::Names;
use super::*;

/// What a challenge says.
pub struct Challenge {
    /// The hash.
    pub hash: HashId,
    /// The group.
    pub group: GroupId,
    /// S1.
    pub sequence: u32,
    /// C1.
    pub challenge: Vec<u8>,
    /// The controller's value in the group.
    pub value: Vec<u8>,
}

impl Challenge {
    /// Reads DH-HMAC-CHAP_Challenge.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (hash, group) = (HashId::of(*bytes.get(8)?)?, GroupId::of(*bytes.get(9)?)?);
        let (challenge, value) = bytes.get(16..)?.split_at_checked(hash.size())?;
        Some(Self {
            hash,
            group,
            sequence: u32::from_le_bytes(*bytes.get(12..)?.first_chunk()?),
            challenge: challenge.to_vec(),
            value: value.to_vec(),
        })
    }
}

/// A host in an exchange.
pub struct Host<'a> {
    /// Who it says it is, and whom it talks to.
    pub names: &'a Names,
    /// Its secret.
    pub secret: &'a Secret,
    /// SC_C as it puts it into its response.
    pub channel: u8,
    /// T_ID.
    pub transaction: u16,
}

/// What a host says, and what it has in mind.
pub struct Answer {
    /// DH-HMAC-CHAP_Reply.
    pub message: Vec<u8>,
    hash: HashId,
    names: Names,
    channel: u8,
    transaction: u16,
    sequence: u32,
    shared: Option<Zeroizing<Vec<u8>>>,
    challenges: [Vec<u8>; 2],
}

impl Host<'_> {
    /// The answer to a challenge, with a challenge of its own and its sequence number if that is given.
    pub fn answer(&self, theirs: &Challenge, own: Option<(&[u8], u32)>) -> Option<Answer> {
        let hash = theirs.hash;
        let ephemeral = Ephemeral::new(theirs.group);
        let shared = match &ephemeral {
            Some(ephemeral) => Some(digest(hash, &ephemeral.shared(&theirs.value)?)),
            None => None,
        };
        let said = response(Asked {
            hash,
            shared: shared.as_deref().map(Vec::as_slice),
            key: &self.secret.transformed(&self.names.host),
            challenge: &theirs.challenge,
            sequence: theirs.sequence,
            transaction: self.transaction,
            channel: self.channel,
            role: "HostHost",
            parties: [&self.names.host, &self.names.subsystem],
        });
        let value = match &ephemeral {
            Some(ephemeral) => ephemeral.value()?,
            None => Vec::new(),
        };
        let (c2, sequence) = own.map_or((vec![0; hash.size()], 77), |(c2, sequence)| (c2.to_vec(), sequence));
        let [low, high] = self.transaction.to_le_bytes();
        let mut message = vec![1, 2, 0, 0, low, high, hash.size() as u8, 0, own.is_some().into(), 0];
        message.extend_from_slice(&(value.len() as u16).to_le_bytes());
        message.extend_from_slice(&sequence.to_le_bytes());
        [&said[..], &c2, &value]
            .into_iter()
            .for_each(|part| message.extend_from_slice(part));
        Some(Answer {
            message,
            hash,
            names: self.names.clone(),
            channel: self.channel,
            transaction: self.transaction,
            sequence,
            shared,
            challenges: [theirs.challenge.clone(), c2],
        })
    }
}

impl Answer {
    /// The response of a controller that has this secret.
    pub fn expected(&self, secret: &Secret) -> Zeroizing<Vec<u8>> {
        response(Asked {
            hash: self.hash,
            shared: self.shared.as_deref().map(Vec::as_slice),
            key: &secret.transformed(&self.names.subsystem),
            challenge: &self.challenges[1],
            sequence: self.sequence,
            transaction: self.transaction,
            channel: self.channel,
            role: "Controller",
            parties: [&self.names.subsystem, &self.names.host],
        })
    }

    /// The PSK for TLS, with any group but the null one.
    pub fn psk(&self) -> Option<Generated> {
        let [ours, theirs] = &self.challenges;
        let (host, subsystem) = (&self.names.host, &self.names.subsystem);
        Some(Generated::new(
            self.hash,
            self.shared.as_ref()?,
            [ours, theirs],
            host,
            subsystem,
        ))
    }
}
