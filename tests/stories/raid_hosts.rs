//! Arrays under a Linux host: members fail and vanish beneath a verified load, the target dies beneath file systems, and arrays that a dying host left are taken over.
use blackbox::config::Config;
use blackbox::image::{self, MIB, sha256};
use blackbox::serve::ashlar;
use blackbox::{Guest, Helper, Loops, Ports, Result, Server, Tool, needs, rpc, wait_for};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What `ashlar raid show` would say of an array.
fn array(dir: &Path, name: &str) -> Result<Value> {
    Ok(rpc::call(&dir.join("rpc.sock"), "ashlar_get_arrays", json!({ "name": name }))?[0].take())
}

fn state(dir: &Path, name: &str) -> Result<String> {
    Ok(array(dir, name)?["state"]
        .as_str()
        .ok_or("an array without a state")?
        .to_owned())
}

/// Has all of an array compared, and says how many bytes differ.
fn differs(dir: &Path, name: &str) -> Result<u64> {
    rpc::call(&dir.join("rpc.sock"), "ashlar_scrub_array", json!({ "name": name }))?;
    loop {
        let told = array(dir, name)?;
        if told["progress"].is_null() {
            return Ok(told["mismatched_bytes"].as_u64().ok_or("no number")?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The subsystem by which hosts reach an array, once there is one.
fn nqn(dir: &Path, name: &str) -> String {
    let served = || rpc::call(&dir.join("rpc.sock"), "ashlar_get_volumes", json!({}));
    wait_for(name, || {
        served().is_ok_and(|all| {
            let mut all = all.as_array().into_iter().flatten();
            all.any(|one| one["name"] == name && one["served"].as_array().is_some_and(|ways| ways.len() == 2))
        })
    });
    rpc::volume(&dir.join("rpc.sock"), name).nqn().0.to_owned()
}

fn make(dir: &Path, name: &str, level: &str, disks: &str, more: &[&str]) {
    let (disks, level) = (format!("disks={disks}"), format!("level={level}"));
    ashlar(dir, &["do", "raid-create", name, &disks, &level])
        .args(more)
        .ok();
    let disk = format!("md/{name}");
    wait_for(&disk, || state(dir, &disk).is_ok_and(|state| state == "whole"))
}

#[test]
fn guest_sees_no_error_while_members_fail_and_vanish() {
    let story = "members that fail under a Linux host";
    if !Guest::possible(story) || !needs(story, &["losetup"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_path_buf();
    let names = "f0 f1 f2 f3 f4 s0 s1 s2 s3 s4 t0 t1 m0 m1 m2 n0 n1";
    let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
    // Those that vanish are block devices; a file has nowhere to go while it is open.
    let vanishing = ["f0", "s1", "m0", "m2"];
    let file = |name: &str| dir.join(format!("{name}.img"));
    names.iter().for_each(|name| image::sparse(&file(name), 64 * MIB));
    let files: Vec<PathBuf> = vanishing.iter().map(|name| file(name)).collect();
    let Some(loops) = Loops::over(story, &files) else {
        return;
    };
    let ports = Ports::free();
    let mut config = Config::new(&dir, ports);
    for name in &names {
        let at = vanishing.iter().position(|other| other == name);
        let path = at.map_or_else(|| file(name), |at| PathBuf::from(&loops.devices[at]));
        config = config.file(name, &path)
    }
    let config = config.volumes(&["md/five", "md/six", "md/three"]);
    let server = Server::start(&dir, &config.yaml());
    make(&dir, "five", "raid5", "f0,f1,f2", &["chunk=64k", "spares=f3"]);
    make(&dir, "six", "raid6", "s0,s1,s2,s3,s4", &["chunk=16k"]);
    make(&dir, "three", "raid1", "m0,m1,m2", &[]);
    let devices = loops.devices.clone();
    let (home, process) = (dir.clone(), server.pid());
    let helper = Helper::new(move |line| {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["ashlar", rest @ ..] => Ok(ashlar(&home, rest).ok()),
            ["vanish", disks @ ..] => {
                // A device whose file has become shorter reads as zeros until it knows: nobody may look meanwhile.
                let signal = |signal: &str| Tool::new("kill").args([signal, &process.to_string()]).ok();
                signal("-STOP");
                std::thread::sleep(Duration::from_millis(200));
                for disk in disks {
                    let at = vanishing
                        .iter()
                        .position(|name| name == disk)
                        .ok_or("it cannot vanish")?;
                    std::fs::File::options().write(true).open(&files[at])?.set_len(0)?;
                    Tool::new("losetup").args(["-c", &devices[at]]).ok();
                }
                signal("-CONT");
                Ok("gone".into())
            }
            ["state", name] => state(&home, name),
            ["differs", name] => Ok(differs(&home, name)?.to_string()),
            _ => Err("nobody knows how to".into()),
        }
    });
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("FIVE", nqn(&dir, "md/five")),
        ("SIX", nqn(&dir, "md/six")),
        ("THREE", nqn(&dir, "md/three")),
        helper.variable(),
    ];
    let said = Guest::boot("raid_fails.sh", Duration::from_secs(560), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    for name in ["md/five", "md/six", "md/three"] {
        println!("{}", ashlar(&dir, &["raid", "show", name]).ok())
    }
    server.stop();
}

#[test]
fn guest_file_systems_on_arrays_survive_sigkill() {
    let story = "the target killed under file systems on arrays";
    if !Guest::possible(story) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_path_buf();
    let ports = Ports::free();
    let mut config = Config::new(&dir, ports);
    for at in 0..7 {
        let file = dir.join(format!("d{at}.img"));
        image::sparse(&file, 96 * MIB);
        config = config.file(&format!("d{at}"), &file)
    }
    let config = config.volumes(&["md/five", "md/six"]).yaml();
    let server = Server::start(&dir, &config);
    make(&dir, "five", "raid5", "d0,d1,d2", &["chunk=64k"]);
    make(&dir, "six", "raid6", "d3,d4,d5,d6", &["chunk=16k"]);
    let nqns = ["md/five", "md/six"].map(|name| nqn(&dir, name));
    let home = dir.clone();
    // Ours as well, so that it ends with the story.
    let server = Arc::new(Mutex::new(Some(server)));
    let running = server.clone();
    let all = ["md/five", "md/six"];
    let helper = Helper::new(move |line| match line {
        "crash" => {
            let mut running = running.lock().map_err(|_| "it failed before")?;
            running.take().ok_or("it does not run")?.kill();
            *running = Some(Server::start(&home, &config));
            Ok("killed and started".into())
        }
        "whole" => {
            wait_for("an end of the resync", || {
                all.iter()
                    .all(|name| state(&home, name).is_ok_and(|state| state == "whole"))
            });
            Ok("whole".into())
        }
        "differs" => Ok(all
            .iter()
            .map(|name| differs(&home, name))
            .sum::<Result<u64>>()?
            .to_string()),
        _ => Err("nobody knows how to".into()),
    });
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("NQNS", nqns.join(" ")),
        helper.variable(),
    ];
    let said = Guest::boot("raid_crash.sh", Duration::from_secs(560), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    let server = server.lock().expect("nobody has it").take();
    server.expect("it runs").stop();
}

/// An array that the guest left: its name, the sum of its second half, and its members as files.
struct Left {
    name: String,
    sum: String,
    members: Vec<PathBuf>,
}

impl Left {
    /// Of a line of md_dirty.sh.
    fn cut(line: &str, big: &Path, dir: &Path) -> Option<Left> {
        let (offsets, mib) = line.strip_prefix("array ")?.split_once(" | ")?;
        let mut words = offsets.split(' ');
        let (name, sum) = (words.next()?.to_owned(), words.next()?.to_owned());
        let cut = |(at, offset): (usize, &str)| {
            let file = dir.join(format!("{name}-{at}.img"));
            Tool::new("dd")
                .args(["bs=1M", "status=none"])
                .arg(format!("if={}", big.display()))
                .arg(format!("of={}", file.display()))
                .arg(format!("skip={offset}"))
                .arg(format!("count={}", mib.trim()))
                .ok();
            file
        };
        let members = words.enumerate().map(cut).collect();
        Some(Left { name, sum, members })
    }
}

/// What mdadm says of a disk in answer to a question, and a value in that.
fn mdadm(question: &str, device: &Path) -> String {
    let said = Tool::new("mdadm").arg(question).arg(device).output();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn value<'a>(said: &'a str, key: &str) -> Option<&'a str> {
    said.lines()
        .find_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix(": "))
}

/// Bytes that the bitmap on a device says may differ, by mdadm's account; nothing if it has none, or if the host died between bitmap and superblocks: one that is older than they are
/// counts for nothing.
fn noted(device: &str, members: &[PathBuf]) -> Option<u64> {
    let said = mdadm("--examine-bitmap", Path::new(device));
    let value = |key: &str| value(&said, key);
    let events = |file: &PathBuf| self::value(&mdadm("--examine", file), "Events")?.parse::<u64>().ok();
    let known: u64 = value("Events")?.parse().ok()?;
    if members.iter().filter_map(events).any(|events| known < events) {
        println!("the bitmap on {device} is older than its array");
        return None;
    }
    let kib: u64 = value("Chunksize")?.split(' ').next()?.parse().ok()?;
    let dirty: u64 = value("Bitmap")?.split(", ").nth(1)?.split(' ').next()?.parse().ok()?;
    Some(dirty * kib * 1024)
}

#[test]
fn guest_that_dies_leaves_arrays_that_are_taken_over() {
    let story = "arrays of mdadm whose host died";
    if !Guest::possible(story) || !needs(story, &["qemu-img", "mdadm", "losetup"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let big = dir.join("big.img");
    image::sparse(&big, 230 * MIB);
    let ports = Ports::free();
    let config = Config::new(dir, ports).file("big", &big).volumes(&["big"]);
    let server = Server::start(dir, &config.yaml());
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("NQN", "nqn.2026-11.io.ashlar:big".to_owned()),
    ];
    let mut guest = Guest::boot("md_dirty.sh", Duration::from_secs(400), &variables, &[]);
    let mut lines = Vec::new();
    loop {
        let line = guest.wait_for("");
        if line == "LOAD" {
            break;
        }
        lines.push(line)
    }
    drop(guest);
    server.stop();
    let all: Vec<Left> = lines.iter().filter_map(|line| Left::cut(line, &big, dir)).collect();
    assert_eq!(all.len(), 7, "{lines:?}");

    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    for (left, (at, file)) in all
        .iter()
        .flat_map(|left| left.members.iter().enumerate().map(move |one| (left, one)))
    {
        config = config.file(&format!("{}-{at}", left.name), file)
    }
    // mdadm looks for a bitmap on devices only.
    let firsts: Vec<PathBuf> = all.iter().map(|left| left.members[0].clone()).collect();
    let Some(loops) = Loops::over(story, &firsts) else {
        return;
    };
    let each = loops.devices.iter().zip(&all);
    let noted: Vec<Option<u64>> = each.map(|(device, left)| noted(device, &left.members)).collect();
    drop(loops);
    assert!(noted.iter().flatten().count() > 0, "{noted:?}");
    let disks: Vec<String> = all.iter().map(|left| format!("md/{}", left.name)).collect();
    let config = config.volumes(&disks.iter().map(String::as_str).collect::<Vec<_>>());
    let server = Server::start(dir, &config.yaml());
    for ((left, disk), noted) in all.iter().zip(&disks).zip(noted) {
        let as_it_was = if left.name == "lacks" { "degraded" } else { "whole" };
        wait_for(disk, || state(dir, disk).is_ok_and(|state| state == as_it_was));
        // What was compared, in the words of the log.
        let log = server.log();
        let said = |what: [&str; 2]| {
            let mut lines = log.lines().filter(|line| line.contains(disk.as_str()));
            lines.find(|line| what.iter().all(|what| line.contains(what)))
        };
        let logged = matches!(left.name.as_str(), "logged" | "lacks");
        assert_eq!(
            said(["partial parity log", "replayed"]).is_some(),
            logged,
            "{disk}: {log}"
        );
        let resync = said(["Resync", "begins"]);
        let bytes = resync.map_or(0, |line| {
            let blocks = line.split("blocks=").nth(1);
            let blocks = blocks.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            blocks.expect("a number of blocks") * 512
        });
        match noted {
            // What was under way its log said.
            None if logged => assert_eq!(resync, None),
            Some(noted) => {
                assert_eq!(bytes, noted, "{disk}: {log}");
                assert!(bytes > 0 && bytes <= 2 * MIB, "{disk}: {bytes} bytes")
            }
            None => assert!(bytes > 8 * MIB, "{disk}: {log}"),
        }
        let copy = dir.join("copy.img");
        let iqn = rpc::volume(&dir.join("rpc.sock"), disk).iqn().0.to_owned();
        let url = format!("iscsi://127.0.0.1:{}/{iqn}/0", ports.iscsi);
        Tool::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "raw", &url])
            .arg(&copy)
            .ok();
        let half = std::fs::metadata(&copy).expect("a copy").len() / 2 / 65536;
        let tail = dir.join("tail.img");
        Tool::new("dd")
            .args(["bs=64k", "status=none"])
            .arg(format!("skip={half}"))
            .arg(format!("if={}", copy.display()))
            .arg(format!("of={}", tail.display()))
            .ok();
        assert_eq!(sha256(&tail), left.sum, "{disk}");
        assert_eq!(differs(dir, disk).expect("a check"), 0, "{disk}");
        println!("{disk}: {bytes} bytes were compared");
    }
    server.stop();
}
