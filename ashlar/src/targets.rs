//! `ashlar target`: the front ends, what they show, and who is there.
use crate::{ask, cli, human, target_show};
use rpc::client::ClientError;
use serde::Deserialize;
use serde_json::{Value, json};
use std::error::Error;
use target::nvmf::{HashId, KeyKind, make_key};

/// The part of `ashlar_get_targets` that is shown.
#[derive(Debug, Deserialize)]
struct Targets {
    nvmf: Vec<Subsystem>,
    iscsi: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Subsystem {
    nqn: String,
    discovery: bool,
    allow_any_host: bool,
    allowed_hosts: Vec<String>,
    listeners: Vec<Listener>,
    namespaces: Vec<Namespace>,
    controllers: usize,
}

#[derive(Debug, Deserialize)]
struct Listener {
    traddr: String,
    trsvcid: String,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    nsid: u32,
    volume: String,
}

#[derive(Debug, Deserialize)]
struct Node {
    iqn: String,
    portals: Vec<Portal>,
    luns: Vec<Lun>,
    connections: usize,
}

#[derive(Debug, Deserialize)]
struct Portal {
    host: String,
    port: u16,
}

#[derive(Debug, Deserialize)]
struct Lun {
    lun: u16,
    volume: String,
}

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::TargetCommand) -> Result<(), Box<dyn Error>> {
    match command {
        cli::TargetCommand::Ls => Ok(ls(ask)?),
        cli::TargetCommand::Show { name } => Ok(target_show::run(ask, name.as_deref())?),
        cli::TargetCommand::SetAlua(set) => Ok(set_alua(ask, set)?),
        cli::TargetCommand::Secret { file, bits } => {
            target::iscsi::auth::generate(file, usize::from(*bits).div_ceil(8))?;
            ask::print_text(&format!("{}\n", file.display()));
            Ok(())
        }
        cli::TargetCommand::Key { kind, file, hash } => {
            let kind = match kind {
                cli::KeyKind::Tls => KeyKind::Tls,
                cli::KeyKind::Dhchap => KeyKind::Dhchap,
            };
            let hash = match hash {
                cli::KeyHash::None => None,
                cli::KeyHash::Sha256 => Some(HashId::Sha256),
                cli::KeyHash::Sha384 => Some(HashId::Sha384),
                cli::KeyHash::Sha512 if kind == KeyKind::Tls => {
                    return Err("TLS has suites for SHA-256 and SHA-384 only: choose --hash sha256 or sha384".into());
                }
                cli::KeyHash::Sha512 => Some(HashId::Sha512),
            };
            make_key(file, kind, hash).map_err(|error| format!("{}: {error}", file.display()))?;
            ask::print_text(&format!("{}\n", file.display()));
            Ok(())
        }
    }
}

fn set_alua(ask: &cli::Ask, set: &cli::SetAlua) -> Result<(), ClientError> {
    let mut params = json!({"name": set.name, "pg_tag": set.portal_group, "alua_state": set.state});
    if let Some(preferred) = set.preferred {
        params["preferred"] = preferred.into();
    }
    let done: bool = ask::connect(ask)?.call("iscsi_target_node_set_alua_state", params)?;
    if ask.json {
        ask::print_json(&done);
    }
    Ok(())
}

fn ls(ask: &cli::Ask) -> Result<(), ClientError> {
    let mut client = ask::connect(ask)?;
    if ask.json {
        let targets: Value = client.call("ashlar_get_targets", ())?;
        ask::print_json(&targets);
        return Ok(());
    }
    let targets: Targets = client.call("ashlar_get_targets", ())?;
    ask::print_text(&list(&targets));
    Ok(())
}

fn list(targets: &Targets) -> String {
    let join = |parts: Vec<String>| parts.join(" ");
    let nodes = targets.iscsi.iter().map(|node| {
        vec![
            "iSCSI".into(),
            node.iqn.clone(),
            join(node.portals.iter().map(|p| format!("{}:{}", p.host, p.port)).collect()),
            join(node.luns.iter().map(|l| format!("{}={}", l.lun, l.volume)).collect()),
            "by portal group".into(),
            node.connections.to_string(),
        ]
    });
    let subsystems = targets.nvmf.iter().map(|s| {
        let shows = join(
            s.namespaces
                .iter()
                .map(|n| format!("{}={}", n.nsid, n.volume))
                .collect(),
        );
        vec![
            "NVMe/TCP".into(),
            s.nqn.clone(),
            join(
                s.listeners
                    .iter()
                    .map(|l| format!("{}:{}", l.traddr, l.trsvcid))
                    .collect(),
            ),
            if s.discovery { "discovery".into() } else { shows },
            if s.allow_any_host {
                "any".into()
            } else {
                join(s.allowed_hosts.clone())
            },
            s.controllers.to_string(),
        ]
    });
    human::table(
        &["PROTOCOL", "NAME", "AT", "SHOWS", "HOSTS ALLOWED", ">CONNECTED"],
        nodes.chain(subsystems),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_share_one_table() {
        let targets = serde_json::from_value(serde_json::json!({
            "nvmf": [{"nqn": "nqn.a", "discovery": false, "allow_any_host": true, "allowed_hosts": [],
                "listeners": [{"traddr": "127.0.0.1", "trsvcid": "4420"}], "namespaces": [{"nsid": 1, "volume": "mem"}],
                "controllers": 2}],
            "iscsi": [{"iqn": "iqn.a", "alias": "", "portals": [{"host": "127.0.0.1", "port": 3260}],
                "luns": [{"lun": 0, "volume": "mem"}], "connections": 1}],
        }));
        let text = list(&targets.unwrap());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("iSCSI     iqn.a  127.0.0.1:3260  0=mem"), "{text}");
        assert!(lines[2].ends_with("any                      2"), "{text}");
    }
}
