//! Who a host that begins with TLS is: the keys that its ClientHello offers are looked up by their names, and tried.
//!
//! Reads key files, so it runs where nobody waits (`off_core`), and each time anew: another key in the file, or another
//! file for the host, counts from the next connection on.
use super::{auth::Generated, shared::Shared, subsystem::Subsystem};
use spec::nvme::{
    DISCOVERY_NQN,
    auth::HashId,
    tls::{Alert, ClientHello, ConfiguredPsk, Dialect, Identity, Made, NotAHello, Offer, digest, tls_psk},
};
use std::{net::SocketAddr, sync::Arc};
use subtle::ConstantTimeEq;
use tls::{Psk, Suite};

/// A host that is known and has its key.
pub struct Accepted {
    /// Who it is, and which subsystem it wants.
    pub who: Identity,
    /// The key, if an authentication has left it behind.
    pub generated: Option<Arc<Generated>>,
    /// What TLS goes on with.
    pub psk: Psk,
}

/// Why a host is sent away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// What it said first is not for us.
    #[error("{0}")]
    Hello(#[from] NotAHello),
    /// Not the names that NVMe gives keys.
    #[error("it calls its key '{0}', which is no NVMe PSK identity")]
    Name(String),
    /// A key that nobody here has.
    #[error("no key is configured for '{0}' here (nvmf_subsystem_add_host with psk)")]
    Unknown(Identity),
    /// A key that no authentication has left behind, or one long ago.
    #[error("there is no key '{0}' here: no authentication has made it, or nobody has used it since")]
    Forgotten(Identity),
    /// A host that TLS is not for on this port.
    #[error("the port is without TLS (nvmf_subsystem_add_listener with secure_channel)")]
    Plain,
    /// Another key than the one here.
    #[error("its key is not the one that is configured for '{0}'")]
    Key(Identity),
    /// Its key is for a suite that it does not know.
    #[error("it does not offer {0}, which its key is for")]
    Suite(&'static str),
}

impl Refused {
    /// What the host is told.
    pub fn alert(&self) -> Alert {
        match self {
            Self::Hello(NotAHello::Malformed) => Alert::DecodeError,
            Self::Hello(NotAHello::Other) => Alert::UnexpectedMessage,
            Self::Hello(_) | Self::Plain | Self::Suite(_) => Alert::HandshakeFailure,
            Self::Name(_) | Self::Unknown(_) | Self::Forgotten(_) => Alert::UnknownPskIdentity,
            Self::Key(_) => Alert::DecryptError,
        }
    }
}

fn suite(hash: HashId) -> Suite {
    match hash {
        HashId::Sha384 => Suite::Aes256GcmSha384,
        _ => Suite::Aes128GcmSha256,
    }
}

/// The first key that a host offers, we know and it has. `local` is where it came in.
pub fn find(shared: &Shared, local: SocketAddr, secure: bool, hello: &ClientHello) -> Result<Accepted, Refused> {
    let mut why = Refused::Hello(NotAHello::NoKey);
    for offer in &hello.offers {
        let Some(who) = Identity::parse(&offer.identity) else {
            // As much as is good for a log.
            let shown = &offer.identity[..offer.identity.len().min(100)];
            why = Refused::Name(shown.escape_ascii().to_string());
            continue;
        };
        let suite = suite(who.hash);
        if !hello.suites.contains(&suite.id()) {
            why = Refused::Suite(suite.name());
            continue;
        }
        if who.made == Made::Generated {
            // Not from a file, and on every port: a host comes again where it has authenticated itself.
            match generated(shared, local, &who) {
                None => why = Refused::Forgotten(who),
                Some(psk) if !hello.proves(offer, who.hash, &psk.key) => why = Refused::Key(who),
                Some(psk) => {
                    let (identity, key) = (offer.identity.clone(), psk.key.clone());
                    return Ok(Accepted {
                        who,
                        generated: Some(psk),
                        psk: Psk { identity, key, suite },
                    });
                }
            }
            continue;
        }
        if !secure {
            why = Refused::Plain;
            continue;
        }
        let names = keys(shared, local, &who);
        why = match names.is_empty() {
            true => Refused::Unknown(who.clone()),
            false => Refused::Key(who.clone()),
        };
        let found = names.iter().filter_map(|name| read(shared, name));
        if let Some(key) = found.into_iter().find_map(|psk| try_key(&psk, &who, hello, offer)) {
            let identity = offer.identity.clone();
            return Ok(Accepted {
                who,
                generated: None,
                psk: Psk { identity, key, suite },
            });
        }
    }
    Err(why)
}

/// The key that an authentication has left behind, if its host would still be authenticated.
fn generated(shared: &Shared, local: SocketAddr, who: &Identity) -> Option<Arc<Generated>> {
    let subsystem = shared.state().subsystems.get(&who.subsystem).cloned()?;
    let there = {
        let inner = subsystem.inner();
        inner.must_authenticate(&who.host) && inner.listens_on(local)
    };
    shared.generated.find(who, reactor::now().0).filter(|_| there)
}

/// Names of the keys that `who` may have: the host's at that subsystem. The discovery service has no hosts of its own, so
/// there it is any key that the host has for a subsystem of this port.
fn keys(shared: &Shared, local: SocketAddr, who: &Identity) -> Vec<String> {
    let subsystems: Vec<Arc<Subsystem>> = {
        let state = shared.state();
        match &*who.subsystem {
            DISCOVERY_NQN => state.subsystems.values().cloned().collect(),
            nqn => state.subsystems.get(nqn).cloned().into_iter().collect(),
        }
    };
    let key = |subsystem: &Arc<Subsystem>| {
        let inner = subsystem.inner();
        let keys = inner.hosts.get(&who.host).filter(|_| inner.listens_on(local))?;
        keys.psk.clone()
    };
    subsystems.iter().filter_map(key).collect()
}

fn read(shared: &Shared, name: &str) -> Option<ConfiguredPsk> {
    let text = shared.keyring.read(name).map_err(|error| error.to_string());
    let psk = text.and_then(|text| ConfiguredPsk::parse(&text).map_err(|error| error.to_string()));
    psk.inspect_err(|error| tracing::warn!(key = %name, %error, "a key cannot be used"))
        .ok()
}

/// The TLS key, if the host has made the same one: by the standard, or in one of the ways that libnvme used to.
fn try_key(
    psk: &ConfiguredPsk,
    who: &Identity,
    hello: &ClientHello,
    offer: &Offer,
) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    Dialect::ALL.into_iter().find_map(|dialect| {
        let retained = psk.retained(&who.host, dialect);
        if let Some(theirs) = &who.digest {
            let ours = digest(who.hash, &retained, &who.host, &who.subsystem);
            if !bool::from(ours.as_bytes().ct_eq(theirs.as_bytes())) {
                return None;
            }
        }
        let key = tls_psk(&retained, who, dialect);
        hello.proves(offer, who.hash, &key).then_some(key)
    })
}
