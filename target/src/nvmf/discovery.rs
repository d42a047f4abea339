//! The discovery log: what a host that asks may connect to.
use super::{
    options::DiscoveryFilter,
    shared::{Shared, State},
};
use spec::nvme::{
    DISCOVERY_NQN,
    discovery::{Entry, Header, SUBTYPE_CURRENT, SUBTYPE_NVM, SUBTYPE_REFERRAL},
};
use std::net::{IpAddr, SocketAddr};
use zerocopy::IntoBytes;

/// The log as `host`, which asks through `local`, may see it.
pub fn log(shared: &Shared, host: &str, local: SocketAddr) -> Vec<u8> {
    let state = shared.state();
    let entries = entries(&state, host, local);
    let mut log = Vec::with_capacity(1024 * (entries.len() + 1));
    log.extend_from_slice(Header::new(state.generation, entries.len() as u64).as_bytes());
    for entry in &entries {
        log.extend_from_slice(entry.as_bytes());
    }
    log
}

fn entries(state: &State, host: &str, local: SocketAddr) -> Vec<Entry> {
    let mut entries = Vec::new();
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let make = |subtype, at: SocketAddr, nqn: &str, port| {
        let address = at.ip().to_string();
        Entry::tcp(subtype, at.is_ipv6(), &address, &at.port().to_string(), nqn, port)
    };
    let secured = |entry: Entry, secure| if secure { entry.secure() } else { entry };
    // The service itself, where the host found it.
    let (own_port, own_secure) = state
        .ports
        .iter()
        .find(|(at, _)| at.port() == local.port())
        .map_or((0, false), |(_, port)| (port.id, port.secure));
    entries.push(secured(
        make(SUBTYPE_CURRENT, local, DISCOVERY_NQN, own_port),
        own_secure,
    ));
    for subsystem in state.subsystems.values() {
        let inner = subsystem.inner();
        if inner.closing || !inner.allows(host) {
            continue;
        }
        for listener in &inner.listeners {
            let at = reachable(listener.address.socket, local.ip());
            if matches(state.config.discovery_filter, at, local) {
                let entry = make(SUBTYPE_NVM, at, subsystem.nqn(), listener.port_id);
                entries.push(secured(entry, listener.secure));
            }
        }
    }
    for referral in &state.referrals {
        let entry = make(SUBTYPE_REFERRAL, referral.address.socket, &referral.subnqn, 0);
        entries.push(secured(entry, referral.secure_channel));
    }
    entries
}

/// A listener on "any address" is told to the host as the address it already reaches us by.
fn reachable(at: SocketAddr, local: IpAddr) -> SocketAddr {
    if at.ip().is_unspecified() {
        SocketAddr::new(local, at.port())
    } else {
        at
    }
}

fn matches(filter: DiscoveryFilter, at: SocketAddr, local: SocketAddr) -> bool {
    (!filter.address || at.ip() == local.ip()) && (!filter.svcid || at.port() == local.port())
}
