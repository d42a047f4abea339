//! `ashlar disk`: what there is, what discovery made of it, and why.
use crate::{ask, cli, human};
use rpc::client::ClientError;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

/// The part of `ashlar_get_disks` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct Disk {
    name: String,
    node: Option<Node>,
    verdict: String,
    reason: String,
    #[serde(default)]
    signatures: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    parts: Vec<String>,
    partition: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct Node {
    uuid: String,
    aliases: Vec<String>,
    product: String,
    table: Value,
    geometry: Geometry,
    claimed_by: Option<String>,
    opens: u32,
    below: Vec<String>,
    above: Vec<String>,
    state: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Geometry {
    block_size: u32,
    physical_block_size: u32,
    blocks: u64,
    unmap: bool,
    read_only: bool,
    volatile_cache: bool,
}

impl Geometry {
    fn size(&self) -> String {
        human::size(self.blocks.saturating_mul(self.block_size.into()))
    }
}

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::DiskCommand) -> Result<(), Box<dyn Error>> {
    match command {
        cli::DiskCommand::Ls => Ok(told(ask, None)?),
        cli::DiskCommand::Show { name } => Ok(told(ask, Some(name))?),
        cli::DiskCommand::Key { file, bits } => key(file, *bits),
    }
}

fn told(ask: &cli::Ask, one: Option<&str>) -> Result<(), ClientError> {
    let mut client = ask::connect(ask)?;
    let params = one.map_or(json!({}), |name| json!({ "name": name }));
    if ask.json {
        let disks: Value = client.call("ashlar_get_disks", params)?;
        ask::print_json(if one.is_some() { &disks[0] } else { &disks });
        return Ok(());
    }
    let disks: Vec<Disk> = client.call("ashlar_get_disks", params)?;
    ask::print_text(&match one {
        None => list(&disks),
        Some(_) => disks.iter().map(show).collect(),
    });
    Ok(())
}

fn key(file: &Path, bits: u16) -> Result<(), Box<dyn Error>> {
    let digits = bdev::keys::random_digits(bits)?;
    target::keyring::create(file, &digits).map_err(|error| format!("{}: {error}", file.display()))?;
    ask::print_text(&format!("{}\n", file.display()));
    Ok(())
}

fn list(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "No disks. Name some in a configuration file, or create one: ashlar rpc bdev_malloc_create \
                '{\"name\":\"mem0\",\"block_size\":512,\"num_blocks\":131072}'\n"
            .into();
    }
    let rows = in_order(disks).into_iter().map(|(depth, disk)| {
        let (size, block, kind) = match &disk.node {
            Some(node) => (
                node.geometry.size(),
                node.geometry.block_size.to_string(),
                node.product.clone(),
            ),
            None => ("-".into(), "-".into(), "-".into()),
        };
        let name = format!("{}{}", "  ".repeat(depth), disk.name);
        vec![name, size, block, kind, disk.verdict.clone(), disk.reason.clone()]
    });
    human::table(&["NAME", ">SIZE", ">BLOCK", "KIND", "VERDICT", "WHY"], rows)
}

/// Each disk below what it stands on first; what stands on several things appears once, under the first of them.
fn in_order(disks: &[Disk]) -> Vec<(usize, &Disk)> {
    let by_name: BTreeMap<&str, &Disk> = disks.iter().map(|disk| (&*disk.name, disk)).collect();
    let first_below = |disk: &Disk| disk.node.as_ref().and_then(|node| node.below.first().cloned());
    let is_root = |disk: &&Disk| first_below(disk).is_none_or(|below| !by_name.contains_key(&*below));
    let mut todo: Vec<(usize, &Disk)> = disks.iter().filter(is_root).map(|disk| (0, disk)).rev().collect();
    let (mut seen, mut order) = (BTreeSet::new(), Vec::with_capacity(disks.len()));
    while let Some((depth, disk)) = todo.pop() {
        if seen.insert(&*disk.name) {
            order.push((depth, disk));
            let above = disks
                .iter()
                .filter(|above| first_below(above).as_deref() == Some(&*disk.name));
            todo.extend(above.rev().map(|above| (depth + 1, above)));
        }
    }
    order
}

fn show(disk: &Disk) -> String {
    let mut lines = vec![
        ("name", disk.name.clone()),
        ("verdict", format!("{}: {}", disk.verdict, disk.reason)),
    ];
    if let Some(node) = &disk.node {
        let g = &node.geometry;
        let mut traits = Vec::new();
        for (has, what) in [
            (g.read_only, "read-only"),
            (g.unmap, "unmap"),
            (g.volatile_cache, "volatile cache"),
        ] {
            if has {
                traits.push(what)
            }
        }
        let blocks = format!(
            "{} of {} bytes ({} physical)",
            g.blocks, g.block_size, g.physical_block_size
        );
        lines.extend([
            ("uuid", node.uuid.clone()),
            ("aliases", node.aliases.join(", ")),
            ("kind", node.product.clone()),
            ("size", g.size()),
            ("blocks", blocks),
            ("traits", traits.join(", ")),
            ("state", plain(&node.state)),
            ("claimed by", node.claimed_by.clone().unwrap_or_default()),
            ("opens", node.opens.to_string()),
            ("stands on", node.below.join(", ")),
            ("carries", node.above.join(", ")),
            ("table", node.table.to_string()),
        ]);
    }
    lines.extend([
        (
            "partition",
            disk.partition.as_ref().map(Value::to_string).unwrap_or_default(),
        ),
        ("partitions", disk.parts.join(", ")),
        ("signatures", disk.signatures.join("; ")),
        ("notes", disk.notes.join("; ")),
    ]);
    let shown = lines.into_iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(key, value)| format!("{key:<12}{value}\n")).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, below: &[&str]) -> Disk {
        let node = json!({
            "uuid": "u", "aliases": [], "product": "Split Disk", "table": {}, "claimed_by": null, "opens": 0,
            "below": below, "above": [], "state": "active",
            "geometry": {"block_size": 512, "physical_block_size": 4096, "blocks": 2048, "unmap": true,
                "read_only": false, "volatile_cache": true},
        });
        serde_json::from_value(json!({"name": name, "node": node, "verdict": "new", "reason": "is blank"})).unwrap()
    }

    #[test]
    fn partitions_stand_under_their_disk_and_a_stripe_once() {
        let disks = [
            disk("a", &[]),
            disk("ap1", &["a"]),
            disk("ap2", &["a"]),
            disk("b", &[]),
            disk("pair", &["ap2", "b"]),
        ];
        let order: Vec<_> = in_order(&disks)
            .into_iter()
            .map(|(depth, disk)| (depth, &*disk.name))
            .collect();
        assert_eq!(order, [(0, "a"), (1, "ap1"), (1, "ap2"), (2, "pair"), (0, "b")]);
    }

    #[test]
    fn a_disk_is_shown_with_what_is_known_and_without_empty_lines() {
        let text = show(&disk("a", &[]));
        assert!(
            text.contains("blocks      2048 of 512 bytes (4096 physical)\n"),
            "{text}"
        );
        assert!(
            text.contains("traits      unmap, volatile cache\n") && !text.contains("claimed"),
            "{text}"
        );
    }
}
