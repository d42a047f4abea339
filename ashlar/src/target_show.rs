//! `ashlar target show`: one target or all of them, with the hosts that are there and what was agreed with them.
//!
//! `node` is an iSCSI target, `subsystem` an NVMe one; here is what they have in common.
mod node;
mod subsystem;

use crate::{ask, cli};
use node::Node;
use rpc::client::ClientError;
use serde::Deserialize;
use serde_json::{Value, json};
use subsystem::Subsystem;

/// The part of `ashlar_show_targets` that is shown.
#[derive(Debug, Deserialize)]
struct Targets {
    iscsi: Vec<Node>,
    nvmf: Vec<Subsystem>,
}

/// Runs the command.
pub fn run(ask: &cli::Ask, name: Option<&str>) -> Result<(), ClientError> {
    let mut client = ask::connect(ask)?;
    let params = name.map_or(json!({}), |name| json!({"name": name}));
    if ask.json {
        let targets: Value = client.call("ashlar_show_targets", params)?;
        ask::print_json(&targets);
        return Ok(());
    }
    let targets: Targets = client.call("ashlar_show_targets", params)?;
    ask::print_text(&shown(&targets));
    Ok(())
}

fn shown(targets: &Targets) -> String {
    let nodes = targets.iscsi.iter().map(Node::text);
    let subsystems = targets.nvmf.iter().map(Subsystem::text);
    nodes.chain(subsystems).collect::<Vec<_>>().join("\n")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// A list, or that there is nothing in it.
fn joined(all: &[String]) -> String {
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

/// The last column of a table: what is not as usual.
fn remarks(all: &[String], between: &str) -> String {
    if all.is_empty() { "-".into() } else { all.join(between) }
}

/// Digests that a host and we have agreed on.
fn digests(header: bool, data: bool) -> Option<&'static str> {
    match (header, data) {
        (false, false) => None,
        (true, false) => Some("header digests"),
        (false, true) => Some("data digests"),
        (true, true) => Some("header and data digests"),
    }
}

/// What a reservation is, for the end of a line.
fn reservation(kind: Option<&str>, persist: bool, generation: u32) -> String {
    let persist = if persist { ", kept through a power loss" } else { "" };
    format!("{}{persist}, generation {generation}", kind.unwrap_or("none"))
}
