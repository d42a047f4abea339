//! `ashlar link`: drive links, as discovery has put them together.
use crate::{ask, cli, human};
use rpc::client::ClientError;
use serde::Deserialize;
use serde_json::{Value, json};

/// The part of `ashlar_get_groups` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct Link {
    name: String,
    id: String,
    state: String,
    reason: String,
    seqno: u64,
    extent_bytes: u64,
    members: Vec<Child>,
    volumes: Vec<Volume>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Child {
    name: String,
    id: String,
    disk: Option<String>,
    last_seen: Option<String>,
    extents: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Volume {
    disk: String,
    bytes: u64,
    inactive: Option<String>,
}

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::LinkCommand) -> Result<(), ClientError> {
    let mut client = ask::connect(ask)?;
    let params = match command {
        cli::LinkCommand::Ls => json!({ "format": "link" }),
        cli::LinkCommand::Show { name } => json!({ "name": name, "format": "link" }),
    };
    if ask.json {
        let links: Value = client.call("ashlar_get_groups", params)?;
        let one = matches!(command, cli::LinkCommand::Show { .. });
        ask::print_json(if one { &links[0] } else { &links });
        return Ok(());
    }
    let links: Vec<Link> = client.call("ashlar_get_groups", params)?;
    ask::print_text(&match command {
        cli::LinkCommand::Ls => list(&links),
        cli::LinkCommand::Show { .. } => links.iter().map(show).collect(),
    });
    Ok(())
}

fn size(link: &Link) -> String {
    human::size(link.volumes.iter().map(|volume| volume.bytes).sum())
}

fn list(links: &[Link]) -> String {
    if links.is_empty() {
        return "No drive links. `ashlar do link-create NAME disks=DISK,DISK` makes one.\n".into();
    }
    let rows = links.iter().map(|link| {
        let there = link.members.iter().filter(|child| child.disk.is_some()).count();
        vec![
            link.name.clone(),
            link.volumes
                .first()
                .map(|volume| volume.disk.clone())
                .unwrap_or_default(),
            size(link),
            format!("{there}/{}", link.members.len()),
            link.state.clone(),
            link.reason.clone(),
        ]
    });
    human::table(&["NAME", "DISK", ">SIZE", ">CHILDREN", "STATE", "WHY"], rows)
}

fn show(link: &Link) -> String {
    let inactive = link.volumes.iter().find_map(|volume| volume.inactive.clone());
    let lines = [
        ("name", link.name.clone()),
        (
            "disk",
            link.volumes
                .first()
                .map(|volume| volume.disk.clone())
                .unwrap_or_default(),
        ),
        ("state", format!("{}: {}", link.state, link.reason)),
        ("inactive", inactive.unwrap_or_default()),
        ("size", size(link)),
        ("identity", link.id.clone()),
        ("change", link.seqno.to_string()),
        ("notes", link.notes.join("; ")),
    ];
    let shown = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let mut text: String = shown.map(|(key, value)| format!("{key:<12}{value}\n")).collect();
    let mut first = 0u64;
    let children = link.members.iter().map(|child| {
        let bytes = child.extents.saturating_mul(link.extent_bytes);
        let row = vec![
            child.name.clone(),
            child.disk.clone().unwrap_or_else(|| "(missing)".into()),
            first.to_string(),
            human::size(bytes),
            child.last_seen.clone().unwrap_or_default(),
            child.id.clone(),
        ];
        first = first.saturating_add(bytes);
        row
    });
    text.push('\n');
    text += &human::table(
        &["CHILD", "DISK", ">FIRST BYTE", ">SIZE", "LAST SEEN AS", "IDENTITY"],
        children,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_with_a_gap_says_which_bytes_are_missing() {
        let link: Link = serde_json::from_value(json!({
            "name": "big", "format": "link", "id": "i", "state": "partial", "reason": "lacks 1 of its 2 children and is read-only, with gaps",
            "seqno": 4, "extent_bytes": 1 << 20, "tags": [], "notes": ["child 1 is missing; bytes 3145728 to 6291455 cannot be read"],
            "members": [
                {"name": "0", "id": "a", "disk": "d0", "last_seen": "d0", "extents": 3, "used": 3, "tags": []},
                {"name": "1", "id": "b", "disk": null, "last_seen": "sdb", "extents": 3, "used": 3, "tags": []},
            ],
            "volumes": [{"disk": "link/big", "kinds": ["link"], "bytes": 6 << 20}],
        }))
        .unwrap();
        let text = show(&link);
        assert!(
            text.contains("bytes 3145728 to 6291455") && text.contains("(missing)"),
            "{text}"
        );
        assert!(text.contains("3145728  ") && text.contains("sdb"), "{text}");
        let line = list(&[link]).lines().nth(1).unwrap().to_owned();
        assert!(line.contains("1/2") && line.contains("link/big"), "{line}");
    }
}
