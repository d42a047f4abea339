//! An NVMe subsystem for people: ways, hosts, namespaces with their reservations, controllers with their queues.
use super::{digests, indented, joined, reservation};
use crate::human;
use serde::Deserialize;
use std::fmt::Write;

/// The part of a subsystem in `ashlar_show_targets` that is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Subsystem {
    nqn: String,
    serial_number: String,
    allow_any_host: bool,
    /// Other processes serve it, too.
    #[serde(default)]
    shared: bool,
    hosts: Vec<Host>,
    listeners: Vec<Listener>,
    namespaces: Vec<Namespace>,
    controllers: Vec<Controller>,
}

#[derive(Debug, Deserialize)]
struct Host {
    nqn: String,
    authenticates: bool,
    is_shown_proof: bool,
}

#[derive(Debug, Deserialize)]
struct Listener {
    adrfam: String,
    traddr: String,
    trsvcid: String,
    /// By TLS only.
    #[serde(default)]
    secure_channel: bool,
    /// Of the groups that have namespaces; none without ANA.
    #[serde(default)]
    ana_states: Vec<Ana>,
}

#[derive(Debug, Deserialize)]
struct Ana {
    ana_group: u32,
    ana_state: String,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    nsid: u32,
    volume: String,
    bytes: Option<u64>,
    block_size: Option<u32>,
    read_only: bool,
    anagrpid: u32,
    only_for: Option<Vec<String>>,
    in_flight: Option<u64>,
    reservations: Reservations,
}

#[derive(Debug, Deserialize)]
struct Reservations {
    generation: u32,
    persist: bool,
    kind: Option<String>,
    registrants: Vec<Registrant>,
}

#[derive(Debug, Deserialize)]
struct Registrant {
    hostid: String,
    hostnqn: Option<String>,
    key: u64,
    holder: bool,
}

#[derive(Debug, Deserialize)]
struct Controller {
    cntlid: u16,
    hostnqn: String,
    ready: bool,
    keep_alive_ms: u32,
    queues: Vec<Queue>,
}

#[derive(Debug, Deserialize)]
struct Queue {
    qid: u16,
    reactor: usize,
    depth: u32,
    in_flight: u64,
    from: String,
    to: String,
    header_digest: bool,
    data_digest: bool,
    tls: Option<Tls>,
    auth: Option<Auth>,
}

#[derive(Debug, Deserialize)]
struct Tls {
    cipher: String,
    psk: String,
}

#[derive(Debug, Deserialize)]
struct Auth {
    state: String,
    digest: String,
    dhgroup: String,
}

impl Subsystem {
    /// What people see.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}  (NVMe/TCP, serial number {})\n", self.nqn, self.serial_number);
        let listeners: Vec<String> = self.listeners.iter().map(Listener::text).collect();
        let _ = writeln!(out, "  listeners: {}", joined(&listeners));
        let hosts: Vec<String> = self.hosts.iter().map(Host::text).collect();
        let everybody = if self.allow_any_host { "any" } else { "" };
        let hosts = [everybody.to_owned()]
            .into_iter()
            .filter(|text| !text.is_empty())
            .chain(hosts);
        let _ = writeln!(out, "  hosts: {}", joined(&hosts.collect::<Vec<_>>()));
        if self.shared {
            out += "  served by other processes, too: no reservations, no fused commands\n";
        }
        let rows = self.namespaces.iter().map(|n| {
            vec![
                n.nsid.to_string(),
                n.volume.clone(),
                n.bytes.map_or("-".into(), human::size),
                n.block_size.map_or("-".into(), |size| size.to_string()),
                n.anagrpid.to_string(),
                n.in_flight.map_or("-".into(), |n| n.to_string()),
                n.remarks(),
            ]
        });
        let headings = [
            ">NSID",
            "VOLUME",
            ">SIZE",
            ">BLOCK",
            ">ANA GROUP",
            ">IN FLIGHT",
            "REMARKS",
        ];
        out += &indented(&human::table(&headings, rows));
        self.namespaces
            .iter()
            .for_each(|n| out += &indented(&n.reservations.text(n.nsid)));
        if self.controllers.is_empty() {
            out += "  nobody is connected\n";
        }
        self.controllers.iter().for_each(|c| out += &indented(&c.text()));
        out
    }
}

impl Host {
    fn text(&self) -> String {
        let proof = match (self.authenticates, self.is_shown_proof) {
            (false, _) => "",
            (true, false) => " (authenticates)",
            (true, true) => " (authenticates, both ways)",
        };
        format!("{}{proof}", self.nqn)
    }
}

impl Listener {
    fn text(&self) -> String {
        let at = match self.adrfam.as_str() {
            "IPv6" => format!("[{}]:{}", self.traddr, self.trsvcid),
            _ => format!("{}:{}", self.traddr, self.trsvcid),
        };
        let at = if self.secure_channel {
            format!("{at} by TLS")
        } else {
            at
        };
        let Some(first) = self.ana_states.first() else {
            return at;
        };
        if self.ana_states.iter().all(|ana| ana.ana_state == first.ana_state) {
            return format!("{at} ({})", first.ana_state);
        }
        let states: Vec<String> = self
            .ana_states
            .iter()
            .map(|ana| format!("group {} {}", ana.ana_group, ana.ana_state))
            .collect();
        format!("{at} ({})", states.join(", "))
    }
}

impl Namespace {
    fn remarks(&self) -> String {
        let mut remarks = Vec::new();
        if self.read_only {
            remarks.push("read-only".to_owned());
        }
        if let Some(hosts) = &self.only_for {
            remarks.push(match hosts.is_empty() {
                true => "hidden from everybody".into(),
                false => format!("only for {}", hosts.join(", ")),
            });
        }
        super::remarks(&remarks, "; ")
    }
}

impl Reservations {
    /// Nothing where nobody has registered.
    fn text(&self, nsid: u32) -> String {
        let mut out = String::new();
        if self.kind.is_none() && self.registrants.is_empty() {
            return out;
        }
        let what = reservation(self.kind.as_deref(), self.persist, self.generation);
        let _ = writeln!(out, "namespace {nsid} reservation: {what}");
        for r in &self.registrants {
            let who = r.hostnqn.clone().unwrap_or_else(|| format!("host {}, away", r.hostid));
            let holder = if r.holder { ", holder" } else { "" };
            let _ = writeln!(out, "  {who}, key {:#018x}{holder}", r.key);
        }
        out
    }
}

impl Queue {
    /// What is not as plain as can be: digests, TLS, authentication.
    fn more(&self) -> String {
        let digests = digests(self.header_digest, self.data_digest).map(str::to_owned);
        let tls = self
            .tls
            .as_ref()
            .map(|tls| format!("{} by a {} key", tls.cipher, tls.psk));
        let auth = self.auth.as_ref().map(|auth| match auth.state.as_str() {
            "completed" => format!("authenticated ({}, {})", auth.digest, auth.dhgroup),
            state => format!("authentication: {state}"),
        });
        [digests, tls, auth]
            .into_iter()
            .flatten()
            .map(|text| format!(", {text}"))
            .collect()
    }
}

impl Controller {
    fn text(&self) -> String {
        let state = if self.ready { "" } else { ", not ready" };
        let alive = match self.keep_alive_ms {
            0 => "no keep-alive".to_owned(),
            ms => format!("keep-alive {} s", ms.div_ceil(1000)),
        };
        let mut out = format!("{} (controller {}, {alive}{state})\n", self.hostnqn, self.cntlid);
        for q in &self.queues {
            let more = q.more();
            let name = if q.qid == 0 {
                "admin queue".to_owned()
            } else {
                format!("queue {}", q.qid)
            };
            let _ = writeln!(
                out,
                "  {name}: {} → {}, reactor {}, depth {}, {} in flight{more}",
                q.from, q.to, q.reactor, q.depth, q.in_flight
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subsystem_tells_its_ways_its_hosts_and_who_is_there() {
        let subsystem: Subsystem = serde_json::from_value(json!({
            "nqn": "nqn.a", "serial_number": "S1", "allow_any_host": false,
            "hosts": [{"nqn": "nqn.host", "authenticates": true, "is_shown_proof": false}],
            "listeners": [
                {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420", "ana_states": [
                    {"ana_group": 1, "ana_state": "optimized"}, {"ana_group": 2, "ana_state": "inaccessible"}]},
                {"trtype": "TCP", "adrfam": "IPv6", "traddr": "::1", "trsvcid": "4421", "secure_channel": true},
            ],
            "namespaces": [{
                "nsid": 2, "volume": "mem", "bytes": 1 << 20, "block_size": 512, "read_only": true, "anagrpid": 2,
                "only_for": ["nqn.host"], "in_flight": 3,
                "reservations": {"generation": 4, "persist": true, "kind": "exclusive_access", "registrants": [
                    {"hostid": "1-2", "hostnqn": null, "key": 0xabc, "holder": true}]},
            }],
            "controllers": [{
                "cntlid": 7, "hostnqn": "nqn.host", "ready": true, "keep_alive_ms": 10000, "queues": [
                    {"qid": 0, "reactor": 0, "depth": 32, "in_flight": 0, "from": "127.0.0.1:5000", "to": "127.0.0.1:4420",
                     "header_digest": false, "data_digest": false},
                    {"qid": 1, "reactor": 1, "depth": 128, "in_flight": 5, "from": "127.0.0.1:5001", "to": "127.0.0.1:4420",
                     "header_digest": true, "data_digest": true, "tls": {"cipher": "TLS_AES_128_GCM_SHA256", "psk": "configured"},
                     "auth": {"state": "completed", "digest": "sha256", "dhgroup": "null"}},
                ],
            }],
        }))
        .unwrap();
        let text = subsystem.text();
        for line in [
            "nqn.a  (NVMe/TCP, serial number S1)\n",
            "  listeners: 127.0.0.1:4420 (group 1 optimized, group 2 inaccessible), [::1]:4421 by TLS\n",
            "  hosts: nqn.host (authenticates)\n",
            "read-only; only for nqn.host\n",
            "  namespace 2 reservation: exclusive_access, kept through a power loss, generation 4\n",
            "    host 1-2, away, key 0x0000000000000abc, holder\n",
            "  nqn.host (controller 7, keep-alive 10 s)\n",
            "    admin queue: 127.0.0.1:5000 → 127.0.0.1:4420, reactor 0, depth 32, 0 in flight\n",
            "    queue 1: 127.0.0.1:5001 → 127.0.0.1:4420, reactor 1, depth 128, 5 in flight, header and data digests, \
             TLS_AES_128_GCM_SHA256 by a configured key, authenticated (sha256, null)\n",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }
}
