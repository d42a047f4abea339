//! `--detail`: how an array is, in the shape of mdadm's.
use super::examine;
use serde_json::Value;
use spec::md::{
    Level,
    superblock::{Superblock, Version},
    v0,
    v1::Role,
};
use std::fmt::Write;

/// As mdadm prints it, without the line that names the array: of what the target says, and a member's superblock if one could be read.
pub fn text(array: &Value, best: Option<&(Version, Superblock)>) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:>18} : {value}");
    };
    let number = |key: &str| array[key].as_u64().unwrap_or(0);
    let superblock = best.map(|(_, superblock)| superblock);
    let extras: Vec<&Value> = array["extras"].as_array().into_iter().flatten().collect();
    let members: Vec<&Value> = array["members"].as_array().into_iter().flatten().collect();
    let count = |states: &[&str]| {
        let is = |member: &&&Value| states.iter().any(|state| member["state"] == *state);
        members.iter().filter(is).count()
    };
    let (active, rebuilding) = (count(&["in_sync"]), count(&["rebuilding", "returning"]));
    let extra = |state: &str| extras.iter().filter(|extra| extra["state"] == state).count();
    // One whose place is empty already is among those without a place.
    let seated = |member: &&&Value| member["state"] == "failed" && member["disk"].is_string();
    let failed = members.iter().filter(seated).count() + extra("failed");
    let spares = extra("spare");
    if let Some((version, superblock)) = best {
        line("Version", version.to_string());
        let created = match superblock {
            Superblock::V0(superblock) => superblock.ctime().into(),
            Superblock::V1(superblock) => superblock.ctime.seconds(),
        };
        line("Creation Time", examine::time(created))
    }
    line("Raid Level", array["level"].as_str().unwrap_or_default().into());
    let bytes = number("bytes");
    line("Array Size", format!("{}{}", bytes / 1024, examine::size(bytes.into())));
    if let Some(superblock) = superblock.filter(|superblock| superblock.size() > 0) {
        let used = superblock.size() * 512;
        line(
            "Used Dev Size",
            format!("{}{}", used / 1024, examine::size(used.into())),
        )
    }
    line("Raid Devices", members.len().to_string());
    line("Total Devices", (active + rebuilding + spares + failed).to_string());
    if let Some(Superblock::V0(superblock)) = superblock {
        line("Preferred Minor", superblock.md_minor().to_string())
    }
    let persistent = array["superblocks"] == true;
    let persistence = if persistent {
        "Superblock is persistent\n"
    } else {
        "Superblock is not persistent\n"
    };
    line("Persistence", persistence.into());
    let bitmap = array["bitmap"] == true;
    if bitmap {
        line("Intent Bitmap", "Internal\n".into())
    }
    if let Some(superblock) = superblock {
        line("Update Time", examine::time(superblock.utime()))
    }
    let clean = superblock.is_none_or(|superblock| superblock.in_sync_to() == u64::MAX);
    let mut state = String::from(if clean { "clean" } else { "active" });
    if active < members.len() {
        state += ", degraded"
    }
    state += match array["progress"]["work"].as_str() {
        Some("resync") => ", resyncing",
        Some("rebuild") => ", recovering",
        Some("check" | "repair") => ", checking",
        _ => "",
    };
    line("State", state + " ");
    line("Active Devices", active.to_string());
    line("Working Devices", (active + rebuilding + spares).to_string());
    line("Failed Devices", failed.to_string());
    line("Spare Devices", (rebuilding + spares).to_string() + "\n");
    let layout = superblock
        .filter(|superblock| superblock.level() != Level::Raid0)
        .and_then(|superblock| examine::layout(superblock.level(), superblock.layout()));
    if let Some(layout) = layout {
        line("Layout", layout)
    }
    let chunk = number("chunk_bytes");
    if chunk > 0 {
        line("Chunk Size", format!("{}K\n", chunk / 1024))
    }
    line(
        "Consistency Policy",
        if bitmap { "bitmap\n" } else { "resync\n" }.into(),
    );
    let progress = &array["progress"];
    if let (Some(done), Some(of)) = (progress["done_bytes"].as_u64(), progress["of_bytes"].as_u64()) {
        let percent = (u128::from(done) * 100).checked_div(of.into()).unwrap_or(0);
        let key = match progress["work"].as_str() {
            Some("resync") => "Resync Status",
            Some("rebuild") => "Rebuild Status",
            _ => "Check Status",
        };
        line(key, format!("{percent}% complete\n"))
    }
    if let Some(superblock) = superblock {
        if let Superblock::V1(_) = superblock {
            let (host, name) = superblock.name();
            line("Name", host.map_or(name.clone(), |host| format!("{host}:{name}")))
        }
        line("UUID", examine::id(superblock.array()));
        line("Events", superblock.events().to_string() + "\n")
    }
    text += "    Number   Major   Minor   RaidDevice State\n";
    for member in members {
        let place = member["place"].as_u64().unwrap_or(0);
        let number = superblock.and_then(|superblock| {
            let has = |number: &u32| superblock.role_of(*number) == Some(Role::Active(place as u16));
            (0..numbers(superblock)).find(has)
        });
        let (number, state) = match member["state"].as_str() {
            Some("in_sync") => (number, "active sync"),
            Some("rebuilding") => (number, "spare rebuilding"),
            Some("failed") if member["disk"].is_string() => (number, "faulty"),
            _ => (None, "removed"),
        };
        let number = number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        // Devices have no numbers here.
        let disk = member["disk"].as_str().unwrap_or_default();
        let line = format!("{number:>8}        -        -   {place:>6}      {state}   {disk}");
        text += line.trim_end();
        text.push('\n')
    }
    for (at, extra) in extras.iter().enumerate() {
        let blank = if at == 0 { "\n" } else { "" };
        let state = if extra["state"] == "spare" { "spare" } else { "faulty" };
        let disk = extra["disk"].as_str().unwrap_or_default();
        let _ = writeln!(text, "{blank}       -        -        -        -      {state}   {disk}");
    }
    text
}

/// Numbers of members there may be.
fn numbers(superblock: &Superblock) -> u32 {
    match superblock {
        Superblock::V0(_) => v0::DISKS as u32,
        Superblock::V1(superblock) => superblock.roles.len() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_array_that_is_rebuilt_says_so() {
        let array = json!({
            "level": "raid5", "bytes": 18_874_368, "chunk_bytes": 65536, "superblocks": true, "bitmap": true,
            "members": [{"place": 0, "disk": "a", "state": "in_sync"}, {"place": 1, "state": "missing"},
                        {"place": 2, "disk": "c", "state": "rebuilding"}],
            "extras": [{"disk": "d", "state": "spare"}, {"disk": "e", "state": "failed"}],
            "progress": {"work": "rebuild", "done_bytes": 5, "of_bytes": 10},
        });
        let text = text(&array, None);
        for line in [
            "        Array Size : 18432 (18.00 MiB 18.87 MB)",
            "             State : clean, degraded, recovering ",
            "    Rebuild Status : 50% complete",
            "     Total Devices : 4",
            "   Working Devices : 3",
            "    Failed Devices : 1",
            "     Spare Devices : 2",
            "       -        -        -        1      removed",
            "       -        -        -        -      spare   d",
            "       -        -        -        -      faulty   e",
        ] {
            assert!(text.lines().any(|told| told == line), "{line:?} is not in\n{text}")
        }
    }
}
