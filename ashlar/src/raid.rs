//! `ashlar raid`: arrays with redundancy while they run.
use crate::{ask, cli, human};
use lvol::Desired;
use rpc::client::ClientError;
use serde::Deserialize;
use serde_json::{Value, json};

/// The part of `ashlar_get_arrays` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct Array {
    name: String,
    uuid: String,
    level: String,
    layout: Option<u32>,
    chunk_bytes: u64,
    bytes: u64,
    state: String,
    read_only: bool,
    superblocks: bool,
    bitmap: bool,
    members: Vec<Member>,
    #[serde(default)]
    extras: Vec<Extra>,
    progress: Option<Progress>,
    mismatched_bytes: u64,
    #[serde(default)]
    limit_bytes_per_second: u64,
    #[serde(default)]
    unreadable_bytes: u64,
    #[serde(default)]
    mismatches: Vec<(u64, u64)>,
    last_scrub: Option<LastScrub>,
    next_scrub: Option<u64>,
    noted_bytes: u64,
    noted_unit_bytes: u64,
    events: u64,
    stripes_written: u64,
    full_stripes_written: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Member {
    place: usize,
    disk: Option<String>,
    state: String,
    rebuilt_bytes: Option<u64>,
    write_mostly: bool,
    corrected_reads: u32,
    #[serde(default)]
    lacking_bytes: u64,
    replacement: Option<Replacement>,
}

#[derive(Clone, Debug, Deserialize)]
struct Replacement {
    disk: Option<String>,
    copied_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Extra {
    disk: String,
    state: String,
}

#[derive(Clone, Debug, Deserialize)]
struct LastScrub {
    time: u64,
    seconds: f64,
    repair: bool,
    mismatched_bytes: u64,
    #[serde(default)]
    unreadable_bytes: u64,
    cancelled: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Progress {
    work: String,
    done_bytes: u64,
    of_bytes: u64,
    mismatched_bytes: u64,
    paused: bool,
    seconds: f64,
    seconds_left: Option<f64>,
}

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::RaidCommand) -> Result<(), ClientError> {
    use cli::RaidCommand::*;
    let mut client = ask::connect(ask)?;
    let (method, params) = match command {
        Ls | Show { .. } => {
            let params = match command {
                Show { name } => json!({ "name": name }),
                _ => json!({}),
            };
            if ask.json {
                let all: Value = client.call("ashlar_get_arrays", params)?;
                let one = matches!(command, Show { .. });
                ask::print_json(if one { &all[0] } else { &all });
                return Ok(());
            }
            let all: Vec<Array> = client.call("ashlar_get_arrays", params)?;
            ask::print_text(&match command {
                Show { .. } => all.iter().map(show).collect(),
                _ => list(&all),
            });
            return Ok(());
        }
        Check { name, repair } => ("ashlar_scrub_array", json!({ "name": name, "repair": repair })),
        Pause { name } => ("ashlar_pause_array", json!({ "name": name, "paused": true })),
        Resume { name } => ("ashlar_pause_array", json!({ "name": name, "paused": false })),
        Cancel { name } => ("ashlar_cancel_array", json!({ "name": name })),
        Limit { name, mib } => ("ashlar_limit_array", json!({ "name": name, "mb_per_sec": mib })),
        Fail { name, member } => ("ashlar_fail_member", json!({ "name": name, "member": member })),
        Grow { name, per_member } => {
            let bytes = per_member.map(|mib| mib << 20);
            ("ashlar_grow_array", json!({ "name": name, "bytes_per_member": bytes }))
        }
        Stop { name } => ("ashlar_activate", json!({ "name": name, "desired": Desired::Inactive })),
        Assemble { name, degraded } => {
            let desired = if *degraded { Desired::Anyway } else { Desired::Active };
            ("ashlar_activate", json!({ "name": name, "desired": desired }))
        }
    };
    let done: Value = client.call(method, params)?;
    if ask.json {
        ask::print_json(&done)
    }
    Ok(())
}

fn list(arrays: &[Array]) -> String {
    if arrays.is_empty() {
        return "No arrays. Those of Linux MD (mdadm) are found on disks; `bdev_raid_create` makes one without metadata.\n".into();
    }
    let rows = arrays.iter().map(|array| {
        let good = array.members.iter().filter(|member| member.state == "in_sync").count();
        vec![
            array.name.clone(),
            array.level.clone(),
            human::size(array.bytes),
            format!("{good}/{}", array.members.len()),
            array.state.clone(),
            array.progress.as_ref().map(progress).unwrap_or_default(),
        ]
    });
    human::table(&["NAME", "LEVEL", ">SIZE", ">MEMBERS", "STATE", "PROGRESS"], rows)
}

fn progress(progress: &Progress) -> String {
    let done = progress.done_bytes as f64 / (progress.of_bytes as f64).max(1.0);
    let rate = progress.done_bytes as f64 / progress.seconds.max(0.001);
    let mut text = format!("{} {}", progress.work, human::percent(done));
    if progress.paused {
        return text + ", paused";
    }
    if let Some(left) = progress.seconds_left {
        text += &format!(", {}/s, {left:.0} s left", human::size(rate as u64))
    }
    if progress.mismatched_bytes > 0 {
        text += &format!(", {} different", human::size(progress.mismatched_bytes))
    }
    text
}

/// When it was, and what came of it.
fn last_scrub(last: &LastScrub) -> String {
    let work = if last.repair { "repair" } else { "check" };
    let mut found = match (last.cancelled, last.mismatched_bytes) {
        (true, _) => "ended before it was done".to_owned(),
        (false, 0) => "nothing different".to_owned(),
        (false, bytes) => format!("{} different", human::size(bytes)),
    };
    if last.unreadable_bytes > 0 {
        found += &format!(", {} unreadable", human::size(last.unreadable_bytes))
    }
    let seconds = last.seconds.ceil();
    format!("{} UTC, {work} of {seconds:.0} s, {found}", human::utc(last.time))
}

/// Nothing if it is nothing.
fn amount(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        some => human::size(some),
    }
}

/// What a rebuild or check may take of each member, if that is bounded.
fn rate(bytes: u64) -> String {
    match bytes {
        0 => String::new(),
        some => format!("{}/s of each member are rebuilt or compared", human::size(some)),
    }
}

fn show(array: &Array) -> String {
    let kept = match (array.superblocks, array.bitmap) {
        (true, true) => "MD superblocks and write-intent bitmap",
        (true, false) => "MD superblocks",
        _ => "nothing: what it is was said by RPC, and members are compared at each start",
    };
    let share = match array.stripes_written {
        0 => String::new(),
        all => format!("{} of {all} without a read", array.full_stripes_written),
    };
    let lines = [
        ("name", array.name.clone()),
        ("level", array.level.clone()),
        (
            "layout",
            array.layout.map(|number| number.to_string()).unwrap_or_default(),
        ),
        ("chunk", amount(array.chunk_bytes)),
        ("size", human::size(array.bytes)),
        (
            "state",
            array.state.clone() + if array.read_only { ", read-only" } else { "" },
        ),
        ("progress", array.progress.as_ref().map(progress).unwrap_or_default()),
        ("at most", rate(array.limit_bytes_per_second)),
        ("different", amount(array.mismatched_bytes)),
        ("unreadable", amount(array.unreadable_bytes)),
        (
            "last check",
            array.last_scrub.as_ref().map(last_scrub).unwrap_or_default(),
        ),
        (
            "next check",
            array
                .next_scrub
                .map(|time| format!("{} UTC", human::utc(time)))
                .unwrap_or_default(),
        ),
        ("on members", kept.to_owned()),
        (
            "after a crash",
            format!(
                "{} would be compared, in units of {}",
                human::size(array.noted_bytes),
                human::size(array.noted_unit_bytes)
            ),
        ),
        ("stripes", share),
        (
            "events",
            if array.superblocks {
                array.events.to_string()
            } else {
                String::new()
            },
        ),
        ("identity", array.uuid.clone()),
    ];
    let shown = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let mut text: String = shown.map(|(key, value)| format!("{key:<15}{value}\n")).collect();
    let none = || "(none)".to_owned();
    let mut members = Vec::new();
    for member in &array.members {
        members.push(vec![
            member.place.to_string(),
            member.disk.clone().unwrap_or_else(none),
            member.state.clone(),
            member.rebuilt_bytes.map(human::size).unwrap_or_default(),
            if member.write_mostly {
                "write-mostly".into()
            } else {
                String::new()
            },
            member.corrected_reads.to_string(),
            amount(member.lacking_bytes),
        ]);
        if let Some(other) = &member.replacement {
            members.push(vec![
                member.place.to_string(),
                other.disk.clone().unwrap_or_else(none),
                "replaces it".into(),
                human::size(other.copied_bytes),
                String::new(),
                String::new(),
                String::new(),
            ])
        }
    }
    if !array.mismatches.is_empty() {
        let rows = array.mismatches.iter();
        let rows = rows.map(|(start, count)| vec![start.to_string(), human::size(*count)]);
        text.push('\n');
        text += &human::table(&[">DIFFERENT OR UNREADABLE AT BYTE", ">SIZE"], rows)
    }
    let extras = array.extras.iter().map(|extra| {
        let empty = String::new;
        vec![
            "-".into(),
            extra.disk.clone(),
            extra.state.clone(),
            empty(),
            empty(),
            empty(),
            empty(),
        ]
    });
    text.push('\n');
    text += &human::table(
        &["PLACE", "DISK", "STATE", ">REBUILT", "READS", ">MENDED", ">LACKING"],
        members.into_iter().chain(extras),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_says_who_is_missing_and_how_far_it_is() {
        let array: Array = serde_json::from_value(json!({
            "name": "md/data", "uuid": "u", "level": "raid5", "layout": 2, "chunk_bytes": 65536, "bytes": 2u64 << 30, "state": "rebuild",
            "read_only": false, "superblocks": true, "bitmap": true, "mismatched_bytes": 0, "limit_bytes_per_second": 20 << 20, "noted_bytes": 1 << 26, "noted_unit_bytes": 1 << 26,
            "events": 17, "mismatches": [[1048576, 196608]], "stripes_written": 10, "full_stripes_written": 9,
            "members": [
                {"place": 0, "disk": "a", "state": "in_sync", "write_mostly": false, "corrected_reads": 3, "lacking_bytes": 1536},
                {"place": 1, "state": "missing", "write_mostly": false, "corrected_reads": 0},
                {"place": 2, "disk": "c", "state": "rebuilding", "rebuilt_bytes": 1u64 << 29, "write_mostly": false, "corrected_reads": 0},
            ],
            "extras": [{"disk": "e", "state": "spare"}], "next_scrub": 86_400,
            "last_scrub": {"time": 0, "seconds": 1.2, "repair": false, "mismatched_bytes": 4096, "unreadable_bytes": 512, "cancelled": false},
            "progress": {"work": "rebuild", "done_bytes": 1u64 << 29, "of_bytes": 1u64 << 30, "mismatched_bytes": 0, "paused": false, "seconds": 5.0, "seconds_left": 5.0},
        }))
        .unwrap();
        let text = show(&array);
        assert!(
            text.contains("1048576") && text.contains("(none)") && text.contains("9 of 10 without a read"),
            "{text}"
        );
        for told in [
            "last check     1970-01-01 00:00:00 UTC, check of 2 s, 4 KiB different, 512 B unreadable",
            "next check     1970-01-02 00:00:00 UTC",
            "at most        20 MiB/s of each member are rebuilt or compared",
        ] {
            assert!(text.lines().any(|line| line == told), "{told}: {text}");
        }
        let first = text.lines().find(|line| line.starts_with("0 ")).unwrap();
        assert!(first.ends_with("1.5 KiB"), "{first}");
        let spare: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(spare, ["-", "e", "spare"]);
        let line = list(&[array]).lines().nth(1).unwrap().to_owned();
        assert!(
            line.contains("1/3") && line.contains("rebuild 50 %,") && line.contains("5 s left"),
            "{line}"
        );
    }
}
