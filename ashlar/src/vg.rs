//! `ashlar vg`: volume groups, as discovery has put them together.
use crate::{ask, cli, human};
use rpc::client::{Client, ClientError};
use serde::Deserialize;
use serde_json::{Value, json};

/// The part of `ashlar_get_groups` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct Group {
    name: String,
    format: String,
    id: String,
    state: String,
    reason: String,
    seqno: u64,
    extent_bytes: u64,
    tags: Vec<String>,
    members: Vec<Member>,
    volumes: Vec<Volume>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Member {
    name: String,
    id: String,
    disk: Option<String>,
    extents: u64,
    used: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Volume {
    disk: String,
    kinds: Vec<String>,
    bytes: u64,
    #[serde(default)]
    hidden: bool,
    inactive: Option<String>,
}

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::VgCommand) -> Result<(), ClientError> {
    let mut client = ask::connect(ask)?;
    let params = match command {
        cli::VgCommand::Ls => json!({ "format": "lvm2" }),
        cli::VgCommand::Show { name } => json!({ "name": name, "format": "lvm2" }),
        cli::VgCommand::Archive { name, change } => return archive(&mut client, ask, name, *change),
    };
    if ask.json {
        let groups: Value = client.call("ashlar_get_groups", params)?;
        let one = matches!(command, cli::VgCommand::Show { .. });
        ask::print_json(if one { &groups[0] } else { &groups });
        return Ok(());
    }
    let groups: Vec<Group> = client.call("ashlar_get_groups", params)?;
    ask::print_text(&match command {
        cli::VgCommand::Ls => list(&groups),
        _ => groups.iter().map(show).collect(),
    });
    Ok(())
}

fn archive(client: &mut Client, ask: &cli::Ask, name: &str, change: Option<u64>) -> Result<(), ClientError> {
    let mut params = json!({ "group": name });
    if let Some(change) = change {
        params["change"] = json!(change);
    }
    let answer: Value = client.call("ashlar_get_archive", params)?;
    match (&answer, ask.json) {
        (_, true) => ask::print_json(&answer),
        (Value::String(text), false) => ask::print_text(text),
        (Value::Array(changes), false) if changes.is_empty() => {
            ask::print_text(&format!("No text of {name:?} is archived: it was not changed here.\n"));
        }
        (_, false) => {
            let changes = answer.as_array().into_iter().flatten();
            let lines: String = changes.map(|change| format!("{change}\n")).collect();
            ask::print_text(&lines);
        }
    }
    Ok(())
}

fn list(groups: &[Group]) -> String {
    if groups.is_empty() {
        return "No volume groups. They are found on disks by themselves; `ashlar disk ls` tells what was found on each.\n".into();
    }
    let rows = groups.iter().map(|group| {
        let size: u64 = group.members.iter().map(|m| m.extents).sum();
        let used: u64 = group.members.iter().map(|m| m.used).sum();
        let active = group.volumes.iter().filter(|v| v.inactive.is_none()).count();
        let shown = group.volumes.iter().filter(|v| !v.hidden).count();
        vec![
            group.name.clone(),
            human::size(size.saturating_mul(group.extent_bytes)),
            human::size(size.saturating_sub(used).saturating_mul(group.extent_bytes)),
            group.members.len().to_string(),
            format!("{active}/{shown}"),
            group.state.clone(),
            group.reason.clone(),
        ]
    });
    human::table(&["NAME", ">SIZE", ">FREE", ">DISKS", ">ACTIVE", "STATE", "WHY"], rows)
}

fn show(group: &Group) -> String {
    let lines = [
        ("name", group.name.clone()),
        ("state", format!("{}: {}", group.state, group.reason)),
        ("format", group.format.clone()),
        ("identity", group.id.clone()),
        ("change", group.seqno.to_string()),
        ("extent", human::size(group.extent_bytes)),
        ("tags", group.tags.join(", ")),
        ("notes", group.notes.join("; ")),
    ];
    let shown = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let mut text: String = shown.map(|(key, value)| format!("{key:<12}{value}\n")).collect();
    let members = group.members.iter().map(|m| {
        vec![
            m.name.clone(),
            m.disk.clone().unwrap_or_else(|| "(missing)".into()),
            human::size(m.extents.saturating_mul(group.extent_bytes)),
            human::size(m.used.saturating_mul(group.extent_bytes)),
            m.id.clone(),
        ]
    });
    text.push('\n');
    text += &human::table(&["MEMBER", "DISK", ">SIZE", ">USED", "IDENTITY"], members);
    let volumes = group.volumes.iter().filter(|v| !v.hidden).map(|v| {
        vec![
            v.disk.clone(),
            human::size(v.bytes),
            v.kinds.join(", "),
            v.inactive
                .as_ref()
                .map_or("active".to_owned(), |why| format!("inactive: {why}")),
        ]
    });
    text.push('\n');
    text += &human::table(&["VOLUME", ">SIZE", "SEGMENTS", "STATE"], volumes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_shown_with_the_reason_for_what_is_not_active() {
        let group: Group = serde_json::from_value(json!({
            "name": "vg", "format": "lvm2", "id": "i", "state": "partial", "reason": "lacks 1 of its 2 physical volumes", "seqno": 4,
            "extent_bytes": 1 << 20, "tags": [], "notes": [],
            "members": [
                {"name": "pv0", "id": "a", "disk": "d0", "extents": 31, "used": 10},
                {"name": "pv1", "id": "b", "disk": null, "extents": 31, "used": 0},
            ],
            "volumes": [
                {"disk": "vg/a", "kinds": ["linear"], "bytes": 10 << 20},
                {"disk": "vg/b", "kinds": ["raid1"], "bytes": 1 << 20, "inactive": "has segments of type raid1"},
                {"disk": "vg/b_rimage_0", "kinds": ["linear"], "bytes": 1 << 20, "hidden": true, "inactive": "is a part"},
            ],
        }))
        .unwrap();
        let text = show(&group);
        assert!(
            text.contains("state       partial: lacks 1 of its 2 physical volumes\n"),
            "{text}"
        );
        assert!(
            text.contains("(missing)") && text.contains("inactive: has segments of type raid1"),
            "{text}"
        );
        assert!(!text.contains("rimage"), "{text}");
        let line = list(&[group]).lines().nth(1).unwrap().to_owned();
        assert!(line.contains("1/2") && line.contains("partial"), "{line}");
    }
}
