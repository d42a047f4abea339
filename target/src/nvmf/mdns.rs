//! The discovery service on multicast DNS (TP 8009, DNS-SD of RFC 6763): each address it listens on is an instance of
//! `_nvme-disc._tcp`, so that hosts on the link find it without being told where it is.
//!
//! The records name the address that is listened on and no other. Loopback addresses are not published: nobody could use them.
use mdns_sd::{ServiceDaemon, ServiceInfo};
use spec::nvme::DISCOVERY_NQN;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

const SERVICE: &str = "_nvme-disc._tcp.local.";
/// For the words of farewell, when the process ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is published, and the thread that answers for it.
pub struct Publisher {
    daemon: ServiceDaemon,
    /// Full names of the instances by address.
    published: BTreeMap<SocketAddr, String>,
}

impl Publisher {
    /// Nothing published yet.
    pub fn start() -> Result<Self, String> {
        let daemon = ServiceDaemon::new().map_err(|error| error.to_string())?;
        let published = BTreeMap::new();
        Ok(Self { daemon, published })
    }

    /// Publishes these addresses and withdraws all others.
    pub fn update(&mut self, listening: &[SocketAddr]) {
        let stale = |at: &SocketAddr| !listening.contains(at);
        let gone: Vec<SocketAddr> = self.published.keys().copied().filter(stale).collect();
        for at in gone {
            if let Some(name) = self.published.remove(&at)
                && let Err(error) = self.daemon.unregister(&name)
            {
                tracing::warn!(%error, "{at} cannot be withdrawn from multicast DNS");
            }
        }
        for at in listening.iter().filter(|at| !at.ip().to_canonical().is_loopback()) {
            if self.published.contains_key(at) {
                continue;
            }
            let registered = instance(*at).and_then(|instance| {
                let name = instance.get_fullname().to_owned();
                self.daemon.register(instance).map(|()| name)
            });
            match registered {
                Ok(name) => drop(self.published.insert(*at, name)),
                Err(error) => tracing::warn!(%error, "{at} cannot be published by multicast DNS"),
            }
        }
    }

    /// Withdraws everything; returns when the link has been told.
    pub fn stop(self) {
        // The thread says goodbye for whatever is still published before it ends.
        if let Ok(ended) = self.daemon.shutdown() {
            let _ = ended.recv_timeout(PATIENCE);
        }
    }
}

fn instance(at: SocketAddr) -> Result<ServiceInfo, mdns_sd::Error> {
    let (name, host) = names(at, &machine());
    let text = [("p", "tcp"), ("nqn", DISCOVERY_NQN)];
    let new = |addresses: &[IpAddr]| ServiceInfo::new(SERVICE, &name, &host, addresses, at.port(), &text[..]);
    match at.ip() {
        any if any.is_unspecified() => new(&[]).map(ServiceInfo::enable_addr_auto),
        one => new(&[one.to_canonical()]),
    }
}

/// Names of the instance and of the host that its address record belongs to. Not the machine's own name: that has all of its
/// addresses, and may have a responder of its own.
fn names(at: SocketAddr, machine: &str) -> (String, String) {
    let host = match at.ip().to_canonical() {
        any if any.is_unspecified() => machine.to_owned(),
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        IpAddr::V6(ip) => ip.to_string().replace(':', "-"),
    };
    let of = at.port();
    (
        format!("ashlar {machine} {host} {of}"),
        format!("ashlar-{host}-{of}.local."),
    )
}

/// The machine's name, fit to be one label.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let first = name.trim().split('.').next().unwrap_or_default();
    let label: String = first
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(32)
        .collect();
    if label.is_empty() { "storage".into() } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_names_the_address_that_is_listened_on() {
        let one = instance("10.1.2.3:4420".parse().unwrap()).unwrap();
        assert_eq!(one.get_type(), SERVICE);
        assert_eq!((one.get_port(), one.is_addr_auto()), (4420, false));
        assert_eq!(one.get_hostname(), "ashlar-10-1-2-3-4420.local.");
        assert_eq!(
            one.get_addresses().iter().collect::<Vec<_>>(),
            [&"10.1.2.3".parse::<IpAddr>().unwrap()]
        );
        assert_eq!(one.get_property_val_str("p"), Some("tcp"));
        assert_eq!(one.get_property_val_str("nqn"), Some(DISCOVERY_NQN));
        let any = instance("[::]:8009".parse().unwrap()).unwrap();
        assert!(any.is_addr_auto() && any.get_addresses().is_empty());
    }

    #[test]
    fn names_differ_by_address_and_port_and_are_one_label() {
        let all = [
            "10.1.2.3:1",
            "10.1.2.3:2",
            "0.0.0.0:1",
            "[2001:db8::1]:1",
            "[2001:db8::2]:1",
        ];
        let hosts: std::collections::BTreeSet<String> =
            all.iter().map(|at| names(at.parse().unwrap(), "web").1).collect();
        assert_eq!(hosts.len(), all.len());
        assert!(
            hosts
                .iter()
                .all(|host| host.trim_end_matches(".local.").len() < 63 && host.matches('.').count() == 2)
        );
        let (name, host) = names("0.0.0.0:1".parse().unwrap(), "web");
        assert_eq!((&*name, &*host), ("ashlar web web 1", "ashlar-web-1.local."));
        assert!(machine().len() <= 32 && !machine().contains('.'));
    }
}
