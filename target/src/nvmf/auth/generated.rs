//! PSKs that authentications have left behind: secure channel concatenation (Base 2.0d, 8.13.5.9).
//!
//! ```text
//!   admin queue, plain    DH-HMAC-CHAP with SC_C "new"       ► a PSK on both sides; the queue has done its duty
//!   admin queue by TLS    under the PSK's name, NVMe1G…      ► no further authentication: the PSK is the proof
//!   I/O queues by TLS     under the same name
//!   admin queue by TLS    DH-HMAC-CHAP with SC_C "replace"   ► another PSK; new connections come by that one
//! ```
//!
//! A PSK is kept as long as a connection lives that came by it, and a while after it was made, for the host to come. It
//! is never on a medium: after a restart hosts begin anew with a plain queue.
use spec::nvme::{
    auth::HashId,
    tls::{self, Dialect, Identity, Made},
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};
use zeroize::Zeroizing;

/// Nanoseconds that a host has to come by its PSK.
const WAIT: u64 = 60_000_000_000;
/// PSKs of one host for one subsystem: a host makes one for each way.
const MOST: usize = 32;

/// A PSK and what it is called. Wiped when dropped, never printed.
pub struct Generated {
    /// Its name.
    pub identity: Identity,
    /// The key for TLS.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generated({})", self.identity)
    }
}

impl Generated {
    /// Of a session key and both challenges, the controller's first.
    pub fn new(hash: HashId, session: &[u8], [ours, theirs]: [&[u8]; 2], host: &str, subsystem: &str) -> Self {
        let psk = tls::generated(hash, session, theirs, ours);
        let identity = Identity {
            made: Made::Generated,
            hash,
            host: host.into(),
            subsystem: subsystem.into(),
            digest: Some(tls::digest(hash, &psk, host, subsystem)),
        };
        let key = tls::tls_psk(&psk, &identity, Dialect::Standard);
        Self { identity, key }
    }
}

/// All that may be used, oldest first, each with the time it was made. A connection that came by one has it in hand.
#[derive(Default)]
pub struct GeneratedPsks(Mutex<Vec<(u64, Arc<Generated>)>>);

impl GeneratedPsks {
    fn all(&self, now: u64) -> MutexGuard<'_, Vec<(u64, Arc<Generated>)>> {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.retain(|(made, psk)| Arc::strong_count(psk) > 1 || now.saturating_sub(*made) < WAIT);
        all
    }

    /// Keeps one, in the place of `old` if that is given. `now` is the reactor's clock.
    pub fn keep(&self, psk: Generated, old: Option<&Arc<Generated>>, now: u64) {
        let mut all = self.all(now);
        all.retain(|(_, one)| old.is_none_or(|old| !Arc::ptr_eq(one, old)));
        let same = |one: &Generated| {
            (&one.identity.host, &one.identity.subsystem) == (&psk.identity.host, &psk.identity.subsystem)
        };
        if all.iter().filter(|(_, one)| same(one)).count() >= MOST
            && let Some(oldest) = all.iter().position(|(_, one)| same(one))
        {
            all.remove(oldest);
        }
        all.push((now, Arc::new(psk)));
    }

    /// The one that is called so.
    pub fn find(&self, identity: &Identity, now: u64) -> Option<Arc<Generated>> {
        let all = self.all(now);
        let (_, psk) = all.iter().find(|(_, psk)| psk.identity == *identity)?;
        Some(psk.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psk(n: u8, host: &str) -> Generated {
        Generated::new(
            HashId::Sha256,
            &[n; 32],
            [&[1; 32], &[2; 32]],
            host,
            "nqn.2026-11.io.ashlar:a",
        )
    }

    #[test]
    fn a_psk_is_kept_while_it_is_used_and_a_minute_after_it_was_made() {
        let (psks, host) = (GeneratedPsks::default(), "nqn.2026-11.io.ashlar:h");
        let names = [1, 2, 3].map(|n| psk(n, host).identity);
        psks.keep(psk(1, host), None, 0);
        psks.keep(psk(2, host), None, 10);
        let used = psks.find(&names[0], WAIT - 1).unwrap();
        assert_eq!(*used.key, *psk(1, host).key);
        assert!(psks.find(&names[1], WAIT + 9).is_some() && psks.find(&names[1], WAIT + 10).is_none());
        assert!(psks.find(&names[0], 9 * WAIT).is_some(), "a connection has it in hand");
        psks.keep(psk(3, host), Some(&used), 9 * WAIT);
        assert!(psks.find(&names[0], 9 * WAIT).is_none(), "it has been replaced");
        assert!(psks.find(&names[2], 9 * WAIT).is_some());
        assert!(!format!("{used:?}").contains("key"));
    }

    #[test]
    fn one_host_has_no_more_than_its_share() {
        let psks = GeneratedPsks::default();
        psks.keep(psk(0, "nqn.2026-11.io.ashlar:other"), None, 0);
        for n in 0..=MOST as u8 {
            psks.keep(psk(n, "nqn.2026-11.io.ashlar:h"), None, 1);
        }
        let there = |n, host| psks.find(&psk(n, host).identity, 1).is_some();
        assert!(!there(0, "nqn.2026-11.io.ashlar:h") && there(1, "nqn.2026-11.io.ashlar:h"));
        assert!(there(MOST as u8, "nqn.2026-11.io.ashlar:h") && there(0, "nqn.2026-11.io.ashlar:other"));
    }
}
