//! An iSCSI target for people: portals, LUNs with their reservations, sessions with their connections.
use super::{digests, indented, joined, reservation};
use crate::human;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt::Write;

/// The part of a target in `ashlar_show_targets` that is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    iqn: String,
    alias: String,
    queue_depth: u32,
    portals: Vec<Portal>,
    luns: Vec<Lun>,
    sessions: Vec<Session>,
}

#[derive(Debug, Deserialize)]
struct Portal {
    tag: u32,
    host: String,
    port: u16,
}

#[derive(Debug, Deserialize)]
struct Lun {
    lun: u16,
    volume: String,
    bytes: Option<u64>,
    block_size: Option<u32>,
    options: Map<String, Value>,
    read_only: bool,
    write_cache: bool,
    medium_present: bool,
    errors: Errors,
    in_flight: Option<u64>,
    reservations: Reservations,
}

#[derive(Debug, Deserialize)]
struct Reservations {
    generation: u32,
    persist: bool,
    kind: Option<String>,
    registrants: Vec<Registrant>,
    reserved_by: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Registrant {
    initiator: String,
    target: String,
    portal_group: u16,
    key: u64,
    holder: bool,
    connected: bool,
}

#[derive(Debug, Deserialize)]
struct Errors {
    write: u64,
    read: u64,
    other: u64,
}

#[derive(Debug, Deserialize)]
struct Session {
    initiator: String,
    tsih: u16,
    connections: Vec<Connection>,
}

#[derive(Debug, Deserialize)]
struct Connection {
    cid: u16,
    from: String,
    to: String,
    portal_group: u32,
    reactor: usize,
    state: String,
    negotiated: Option<Negotiated>,
}

#[derive(Debug, Deserialize)]
struct Negotiated {
    header_digest: bool,
    data_digest: bool,
    initial_r2t: bool,
    immediate_data: bool,
    max_burst_length: u64,
    first_burst_length: u64,
    max_send_segment: u64,
    max_connections: u16,
    max_outstanding_r2t: u16,
    queue_depth: u16,
}

impl Node {
    /// What people see.
    pub(super) fn text(&self) -> String {
        let node = self;
        let mut out = format!("{}  (iSCSI", node.iqn);
        if !node.alias.is_empty() {
            let _ = write!(out, ", {}", node.alias);
        }
        let _ = writeln!(out, ", {} commands a connection)", node.queue_depth);
        let at: Vec<String> = node
            .portals
            .iter()
            .map(|p| format!("{}:{} (group {})", p.host, p.port, p.tag))
            .collect();
        let _ = writeln!(out, "  portals: {}", joined(&at));
        let luns = node.luns.iter().map(|lun| {
            vec![
                lun.lun.to_string(),
                lun.volume.clone(),
                lun.bytes.map_or("-".into(), human::size),
                lun.block_size.map_or("-".into(), |size| size.to_string()),
                if lun.write_cache { "on" } else { "off" }.into(),
                lun.in_flight.map_or("-".into(), |n| n.to_string()),
                format!("{}/{}/{}", lun.errors.read, lun.errors.write, lun.errors.other),
                lun.remarks(),
            ]
        });
        let headings = [
            ">LUN",
            "VOLUME",
            ">SIZE",
            ">BLOCK",
            "CACHE",
            ">IN FLIGHT",
            "ERRORS R/W/O",
            "OPTIONS",
        ];
        out += &indented(&human::table(&headings, luns));
        node.luns
            .iter()
            .for_each(|lun| out += &indented(&lun.reservations.text(lun.lun)));
        if node.sessions.is_empty() {
            out += "  nobody is connected\n";
        }
        for session in &node.sessions {
            let who = if session.initiator.is_empty() {
                "not logged in yet"
            } else {
                &session.initiator
            };
            let _ = writeln!(out, "  {who} (session {})", session.tsih);
            for c in &session.connections {
                let _ = writeln!(
                    out,
                    "    connection {}: {} → {} (group {}), reactor {}, {}",
                    c.cid, c.from, c.to, c.portal_group, c.reactor, c.state
                );
                if let Some(agreed) = &c.negotiated {
                    let _ = writeln!(out, "      {}", agreed.text());
                }
            }
        }
        out
    }
}

impl Lun {
    /// What is not as usual about a unit.
    fn remarks(&self) -> String {
        let lun = self;
        let mut remarks: Vec<String> = Vec::new();
        if lun.read_only {
            remarks.push("read-only".into());
        }
        if !lun.medium_present {
            remarks.push("medium ejected".into());
        }
        for (key, value) in lun.options.iter().filter(|(key, _)| key.as_str() != "read_only") {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            remarks.push(format!("{key}={value}"));
        }
        super::remarks(&remarks, " ")
    }
}

impl Reservations {
    /// Nothing where nobody has reserved or registered anything.
    fn text(&self, lun: u16) -> String {
        let mut out = String::new();
        if let Some(holder) = &self.reserved_by {
            let _ = writeln!(out, "LUN {lun} is reserved by {holder}");
        }
        if self.kind.is_some() || !self.registrants.is_empty() {
            let _ = writeln!(
                out,
                "LUN {lun} persistent reservation: {}",
                reservation(self.kind.as_deref(), self.persist, self.generation)
            );
        }
        for r in &self.registrants {
            let _ = writeln!(
                out,
                "  {} through {} group {}, key {:#018x}{}{}",
                r.initiator,
                r.target,
                r.portal_group,
                r.key,
                if r.holder { ", holder" } else { "" },
                if r.connected { "" } else { ", away" },
            );
        }
        out
    }
}

impl Negotiated {
    fn text(&self) -> String {
        let digests = digests(self.header_digest, self.data_digest).unwrap_or("no digests");
        let yes = |on: bool| if on { "Yes" } else { "No" };
        format!(
            "{digests}, MaxBurstLength {}, FirstBurstLength {}, segments to the host {}, InitialR2T {}, ImmediateData {}, \
             MaxOutstandingR2T {}, MaxConnections {}, queue depth {}",
            human::size(self.max_burst_length),
            human::size(self.first_burst_length),
            human::size(self.max_send_segment),
            yes(self.initial_r2t),
            yes(self.immediate_data),
            self.max_outstanding_r2t,
            self.max_connections,
            self.queue_depth
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_target_tells_who_is_there_and_what_was_agreed() {
        let node: Result<Node, _> = serde_json::from_value(json!({
                "iqn": "iqn.x:a", "alias": "", "queue_depth": 64,
                "portals": [{"tag": 1, "host": "127.0.0.1", "port": 3260}],
                "luns": [{
                    "lun": 3, "volume": "mem", "bytes": 1 << 20, "block_size": 512,
                    "options": {"read_only": true, "removable": true, "serial": "S1"}, "read_only": true, "write_cache": false,
                    "medium_present": false, "errors": {"write": 0, "read": 2, "other": 0}, "in_flight": 7,
                    "reservations": {
                        "generation": 2, "persist": true, "kind": "write_exclusive", "reserved_by": null,
                        "registrants": [{
                            "initiator": "iqn.x:host,i,0x1", "target": "iqn.x:a", "portal_group": 1, "key": 0xabc, "holder": true,
                            "connected": false,
                        }],
                    },
                }],
                "sessions": [{"initiator": "iqn.x:host", "tsih": 5, "connections": [{
                    "id": 1, "cid": 0, "from": "127.0.0.1:5000", "to": "127.0.0.1:3260", "portal_group": 1, "reactor": 0,
                    "state": "running",
                    "negotiated": {
                        "header_digest": true, "data_digest": false, "initial_r2t": false, "immediate_data": true,
                        "max_burst_length": 262144, "first_burst_length": 65536, "max_send_segment": 262144,
                        "max_connections": 1, "max_outstanding_r2t": 1, "queue_depth": 64,
                    },
                }]}],
        }));
        let text = node.unwrap().text();
        for line in [
            "iqn.x:a  (iSCSI, 64 commands a connection)",
            "  portals: 127.0.0.1:3260 (group 1)",
            "read-only medium ejected removable=true serial=S1",
            "  LUN 3 persistent reservation: write_exclusive, kept through a power loss, generation 2",
            "    iqn.x:host,i,0x1 through iqn.x:a group 1, key 0x0000000000000abc, holder, away",
            "  iqn.x:host (session 5)",
            "    connection 0: 127.0.0.1:5000 → 127.0.0.1:3260 (group 1), reactor 0, running",
            "      header digests, MaxBurstLength 256 KiB, FirstBurstLength 64 KiB",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }
}
