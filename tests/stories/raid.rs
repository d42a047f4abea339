//! Arrays of Linux MD: what mdadm has made is served as it is, and Linux takes back what was written to it here; arrays that RPC makes.
use blackbox::config::Config;
use blackbox::image::{self, MIB, sha256};
use blackbox::{Guest, Ports, Server, Tool, ashlar, needs, rpc, wait_for};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// An array that the guest made: its name, what it held, and its members as parts of the disk.
struct Made {
    name: String,
    sha256: String,
    members: Vec<u64>,
    mib: u64,
}

impl Made {
    /// Of a line of md_arrays.sh.
    fn parse(line: &str) -> Option<Made> {
        let (offsets, mib) = line.strip_prefix("array ")?.split_once(" | ")?;
        let mut words = offsets.split(' ');
        Some(Made {
            name: words.next()?.to_owned(),
            sha256: words.next()?.to_owned(),
            members: words.map(|word| word.parse().expect("a number")).collect(),
            mib: mib.trim().parse().expect("a number"),
        })
    }

    /// The disk it is here. Version 0.90 has no names but numbers.
    fn disk(&self) -> String {
        match self.name.as_str() {
            "raid5-0.90" => "md/0".into(),
            name => format!("md/{name}"),
        }
    }

    /// What a host reads of it.
    fn read(&self, dir: &Path, ports: Ports) -> String {
        let copy = dir.join("copy.img");
        Tool::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "raw", &url(self, ports)])
            .arg(&copy)
            .ok();
        sha256(&copy)
    }

    /// For md_judge.sh, if nobody is missing.
    fn line(&self, sum: &str) -> String {
        let offsets: Vec<String> = self.members.iter().map(u64::to_string).collect();
        format!("array {} {sum} {} | {} | 0\n", self.name, offsets.join(" "), self.mib)
    }

    /// Its members back into the disk they are parts of.
    fn put_back(&self, dir: &Path, to: &Path) {
        for (at, offset) in self.members.iter().enumerate() {
            Tool::new("dd")
                .args(["bs=1M", "conv=notrunc", "status=none"])
                .arg(format!("if={}", dir.join(format!("{}-{at}.img", self.name)).display()))
                .arg(format!("of={}", to.display()))
                .arg(format!("seek={offset}"))
                .ok();
        }
    }

    /// Its members as files of their own.
    fn cut(&self, from: &Path, dir: &Path) -> Vec<String> {
        let cut = |(at, offset): (usize, &u64)| {
            let name = format!("{}-{at}", self.name);
            Tool::new("dd")
                .args(["bs=1M", "conv=sparse", "status=none"])
                .arg(format!("if={}", from.display()))
                .arg(format!("of={}", dir.join(format!("{name}.img")).display()))
                .arg(format!("skip={offset}"))
                .arg(format!("count={}", self.mib))
                .ok();
            name
        };
        self.members.iter().enumerate().map(cut).collect()
    }
}

#[test]
fn guest_made_arrays_are_served_as_they_are() {
    let story = "arrays that mdadm made";
    if !Guest::possible(story) || !needs(story, &["qemu-img", "qemu-io"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let big = dir.join("big.img");
    image::sparse(&big, 820 * MIB);
    let ports = Ports::free();
    let config = Config::new(dir, ports).file("big", &big).volumes(&["big"]);
    let server = Server::start(dir, &config.yaml());
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("NQN", "nqn.2026-11.io.ashlar:big".to_owned()),
    ];
    let said = Guest::boot("md_arrays.sh", Duration::from_secs(560), &variables, &[]).finish();
    server.stop();
    let all: Vec<Made> = said.lines().filter_map(Made::parse).collect();
    assert!(all.len() > 30, "{said}");

    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    let mut before = Vec::new();
    for made in &all {
        for name in made.cut(&big, dir) {
            let file = dir.join(format!("{name}.img"));
            before.push((file.clone(), sha256(&file)));
            config = config.file(&name, &file)
        }
    }
    let disks: Vec<String> = all.iter().map(Made::disk).collect();
    let config = config.volumes(&disks.iter().map(String::as_str).collect::<Vec<_>>());
    let server = Server::start(dir, &config.yaml());
    for made in &all {
        assert_eq!(made.read(dir, ports), made.sha256, "{}", made.name);
        println!("{}: as it was", made.name)
    }
    let groups = rpc::call(&dir.join("rpc.sock"), "ashlar_get_groups", serde_json::json!({})).expect("groups");
    assert_eq!(groups.as_array().map(Vec::len), Some(all.len()), "{groups:#}");
    // Nobody has written, but where a member is being replaced that goes on.
    for (file, was) in before {
        if !file.to_string_lossy().contains("swap-linux") {
            assert_eq!(sha256(&file), was, "{}", file.display())
        }
    }
    let array = |name: &str| {
        let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_arrays", json!({ "name": name })).expect("an array");
        told[0].clone()
    };
    wait_for("the end of what Linux has begun", || {
        let now = array("md/swap-linux");
        now["state"] == "whole" && now["members"][1]["disk"] == "swap-linux-3"
    });

    // Now somebody does, and members fail meanwhile.
    let mut list = String::new();
    for made in &all {
        let Some(plan) = WRITTEN.iter().find(|plan| plan.0 == made.name) else {
            continue;
        };
        let url = url(made, ports);
        let write = |what: &[&str]| {
            let mut tool = Tool::new("qemu-io").args(["-f", "raw"]);
            for command in what {
                tool = tool.args(["-c", command]);
            }
            tool.arg(&url).ok()
        };
        if made.name == "swap-here" {
            // Begun here, and gone on with by Linux.
            ashlar(dir, &["raid", "pause", &made.disk()]).ok();
            let asked = [
                "do",
                "raid-replace",
                &made.disk(),
                "disk=swap-here-0",
                "with=swap-here-2",
            ];
            ashlar(dir, &asked).ok();
            wait_for("the replacement", || {
                !array(&made.disk())["members"][0]["replacement"].is_null()
            });
        }
        write(&[
            "write -P 0x51 3k 1k",
            "write -P 0x52 100k 777k",
            "write -P 0x53 1500k 512",
        ]);
        for member in plan.1 {
            ashlar(dir, &["raid", "fail", &made.disk(), &format!("{}-{member}", made.name)]).ok();
            write(&["write -P 0x54 900k 300k", "write -P 0x55 61k 9k", "write -z 1200k 128k"]);
        }
        let shown = ashlar(dir, &["raid", "show", &made.disk()]);
        if made.name.starts_with("raid0") {
            shown.fails();
        } else {
            let failed = shown.ok().matches(" failed ").count();
            assert_eq!(failed, plan.1.len(), "{}", made.name);
        }
        let offsets: Vec<String> = made.members.iter().map(u64::to_string).collect();
        let sum = made.read(dir, ports);
        list += &format!(
            "array {} {sum} {} | {} | {}\n",
            made.name,
            offsets.join(" "),
            made.mib,
            plan.2
        );
    }
    server.stop();
    let grown = grow_here(dir, 784);
    let killed: Vec<&Made> = all.iter().filter(|made| made.name.starts_with("ppl-")).collect();
    let killed: Vec<&Made> = killed.into_iter().chain([&grown]).collect();
    for (made, sum) in killed.iter().zip(die_while_they_are_written(dir, &killed)) {
        if made.name == grown.name {
            list += &made.line(&sum)
        }
        let lines = list
            .lines()
            .map(|line| match Made::parse(line.rsplit_once(" | ").expect("a line").0) {
                Some(known) if known.name == made.name => line.replace(&known.sha256, &sum),
                _ => line.to_owned(),
            });
        list = lines.map(|line| line + "\n").collect()
    }
    let mut ours = make_here(dir, 520);
    ours.extend(lose_here(dir, 720));
    for (made, sum) in &ours {
        list += &made.line(sum);
        made.put_back(dir, &big)
    }
    grown.put_back(dir, &big);
    for made in all.iter().filter(|made| WRITTEN.iter().any(|plan| plan.0 == made.name)) {
        made.put_back(dir, &big)
    }
    let file = dir.join("arrays");
    std::fs::write(&file, &list).expect("a file");
    let ports = Ports::free();
    let config = Config::new(dir, ports).file("big", &big).volumes(&["big"]);
    let server = Server::start(dir, &config.yaml());
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("NQN", "nqn.2026-11.io.ashlar:big".to_owned()),
    ];
    Guest::boot("md_judge.sh", Duration::from_secs(560), &variables, &[&file]).finish();
    server.stop();
}

/// Arrays that we make, with a file system on each that was written while a member failed and a spare was rebuilt where there is one. Their members are to be parts of a disk from
/// this MiB on. What each holds.
fn make_here(dir: &Path, mut at: u64) -> Vec<(Made, String)> {
    const MIB_EACH: u64 = 12;
    let kinds = [("raid1", 2, 1), ("raid5", 3, 1), ("raid6", 4, 0), ("raid10", 4, 0)];
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    let mut all = Vec::new();
    for (level, members, spares) in kinds {
        let made = Made {
            name: format!("made-{level}"),
            sha256: String::new(),
            members: (0..members + spares).map(|n| at + n * MIB_EACH).collect(),
            mib: MIB_EACH,
        };
        at += (members + spares) * MIB_EACH;
        for n in 0..members + spares {
            let name = format!("{}-{n}", made.name);
            let file = dir.join(format!("{name}.img"));
            image::sparse(&file, MIB_EACH * MIB);
            config = config.file(&name, &file)
        }
        config = config.volumes(&[&made.disk()]);
        all.push((made, level, members, spares))
    }
    let tree = dir.join("tree");
    std::fs::create_dir(&tree).expect("a folder");
    let bytes: Vec<u8> = (0..3u64 << 20)
        .map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8)
        .collect();
    std::fs::write(tree.join("file"), bytes).expect("a file");
    let server = Server::start(dir, &config.yaml());
    let array = |made: &Made| {
        let told = rpc::call(
            &dir.join("rpc.sock"),
            "ashlar_get_arrays",
            json!({ "name": made.disk() }),
        );
        told.map_or(Value::Null, |all| all[0].clone())
    };
    let made = all.into_iter().map(|(made, level, members, spares)| {
        let list = |numbers: std::ops::Range<u64>| {
            let names: Vec<String> = numbers.map(|n| format!("{}-{n}", made.name)).collect();
            names.join(",")
        };
        let (disks, more) = (list(0..members), list(members..members + spares));
        let (disks, level) = (format!("disks={disks}"), format!("level={level}"));
        let spares = format!("spares={more}");
        let mut words = vec!["do", "raid-create", &made.name, &disks, &level, "chunk=16k"];
        words.extend((!more.is_empty()).then_some(spares.as_str()));
        ashlar(dir, &words).ok();
        wait_for("the array", || array(&made)["state"] == "whole");
        let bytes = array(&made)["bytes"].as_u64().expect("a length");
        let image = dir.join("files.img");
        image::sparse(&image, bytes);
        Tool::new("mkfs.ext4")
            .args(["-q", "-F", "-d"])
            .arg(&tree)
            .arg(&image)
            .env("PATH", image::path())
            .ok();
        wait_for("a target", || {
            let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_volumes", json!({}));
            told.is_ok_and(|all| all.to_string().contains(&made.disk().replace('/', ":")))
        });
        if !more.is_empty() {
            ashlar(dir, &["raid", "fail", &made.disk(), &format!("{}-0", made.name)]).ok();
        }
        let convert = ["convert", "-n", "-f", "raw", "-O", "raw"];
        Tool::new("qemu-img")
            .args(convert)
            .arg(&image)
            .arg(url(&made, ports))
            .ok();
        wait_for("a rebuild", || array(&made)["state"] == "whole");
        let sum = made.read(dir, ports);
        (made, sum)
    });
    let made = made.collect();
    server.stop();
    made
}

/// A RAID-5 with partial parity logs whose smallest member was replaced, after which it has grown.
fn grow_here(dir: &Path, at: u64) -> Made {
    let made = Made {
        name: "ppl-grown".into(),
        sha256: String::new(),
        members: (0..3).map(|n| at + n * 12).collect(),
        mib: 12,
    };
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    for (name, mib) in [("0", 12), ("1", 12), ("2", 12), ("small", 8)] {
        let name = format!("{}-{name}", made.name);
        let file = dir.join(format!("{name}.img"));
        // Rubbish where it will grow.
        let bytes: Vec<u8> = (0..mib * MIB)
            .map(|n| (n.wrapping_mul(0x9e37_79b9) >> 13) as u8)
            .collect();
        std::fs::write(&file, bytes).expect("a file");
        config = config.file(&name, &file)
    }
    let server = Server::start(dir, &config.volumes(&[&made.disk()]).yaml());
    let array = || {
        let params = json!({ "name": made.disk() });
        let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_arrays", params);
        told.map_or(Value::Null, |all| all[0].clone())
    };
    let name = |n: &str| format!("{}-{n}", made.name);
    let disks = format!("disks={},{},{}", name("0"), name("1"), name("small"));
    let create = [
        "do",
        "raid-create",
        &made.name,
        &disks,
        "level=raid5",
        "chunk=16k",
        "ppl=true",
        "force=true",
    ];
    ashlar(dir, &create).ok();
    wait_for("the array", || array()["state"] == "whole");
    let (old, new) = (format!("disk={}", name("small")), format!("with={}", name("2")));
    ashlar(dir, &["do", "raid-replace", &made.disk(), &old, &new, "force=true"]).ok();
    wait_for("another in its place", || {
        array()["state"] == "whole" && array()["members"][2]["disk"] == name("2")
    });
    ashlar(
        dir,
        &["do", "raid-remove", &made.disk(), &format!("disks={}", name("small"))],
    )
    .ok();
    let before = array()["bytes"].as_u64();
    ashlar(dir, &["raid", "grow", &made.disk()]).ok();
    wait_for("a longer array", || {
        array()["bytes"].as_u64() > before && array()["state"] == "whole"
    });
    server.stop();
    made
}

/// Arrays that we make, and of which a member was rebuilt while another had sectors that could not be read: its bad-block log has them, and they hold something else there.
/// What can be read of each by somebody who can read them, and heeds the log.
fn lose_here(dir: &Path, mut at: u64) -> Vec<(Made, String)> {
    const MIB_EACH: u64 = 12;
    let ports = Ports::free();
    let (mut config, mut tables) = (Config::new(dir, ports), "tables:\n".to_owned());
    let all = [("raid1", 2), ("raid5", 3)].map(|(level, members)| {
        let made = Made {
            name: format!("bad-{level}"),
            sha256: String::new(),
            // The last one is rebuilt in the place of the one before it.
            members: (0..members).map(|n| at + n * MIB_EACH).collect(),
            mib: MIB_EACH,
        };
        at += members * MIB_EACH;
        (made, level, members)
    });
    for (made, _, members) in &all {
        let disks = (0..*members)
            .map(|n| format!("{}-{n}", made.name))
            .chain([format!("{}-old", made.name)]);
        for name in disks {
            let file = dir.join(format!("{name}.img"));
            image::sparse(&file, MIB_EACH * MIB);
            config = config.file(&name, &file)
        }
        let inject = "{on: read, range: {start: 9000, count: 72}, effect: {fail: {error: medium}}}";
        tables += &format!(
            "  - {{name: {0}-worn, error: {{on: {0}-0, inject: [{inject}]}}}}\n",
            made.name
        );
        config = config.volumes(&[&made.disk()])
    }
    let server = Server::start(dir, &(config.yaml() + &tables));
    let array = |made: &Made| {
        let params = json!({ "name": made.disk() });
        let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_arrays", params);
        told.map_or(Value::Null, |all| all[0].clone())
    };
    let made = all.into_iter().map(|(made, level, members)| {
        let name = |n: u64| format!("{}-{n}", made.name);
        let between: String = (1..members - 1).map(|n| name(n) + ",").collect();
        let disks = format!("disks={0}-worn,{between}{0}-old", made.name);
        let level = format!("level={level}");
        ashlar(
            dir,
            &[
                "do",
                "raid-create",
                &made.name,
                &disks,
                &level,
                "chunk=16k",
                "clean=true",
            ],
        )
        .ok();
        wait_for("the array", || array(&made)["state"] == "whole");
        wait_for("a target", || {
            let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_volumes", json!({}));
            told.is_ok_and(|all| all.to_string().contains(&made.disk().replace('/', ":")))
        });
        let bytes = array(&made)["bytes"].as_u64().expect("a length");
        let whole = format!("write -P 0x61 0 {bytes}");
        Tool::new("qemu-io")
            .args(["-f", "raw", "-c", &whole])
            .arg(url(&made, ports))
            .ok();
        ashlar(dir, &["raid", "fail", &made.disk(), &format!("{}-old", made.name)]).ok();
        let spare = format!("disks={}", name(members - 1));
        ashlar(dir, &["do", "raid-add", &made.disk(), &spare]).ok();
        wait_for("a rebuild", || array(&made)["state"] == "whole");
        assert_eq!(array(&made)["members"][members as usize - 1]["lacking_bytes"], 72 * 512);
        let copy = dir.join("copy.img");
        std::fs::write(&copy, vec![0x61; bytes as usize]).expect("a file");
        let sum = sha256(&copy);
        (made, sum)
    });
    let made = made.collect();
    server.stop();
    made
}

/// The target is killed while a host writes to these arrays. Their members stay as they are then: Linux is to replay what was logged, and to find what we find, of which the sums are.
fn die_while_they_are_written(dir: &Path, arrays: &[&Made]) -> Vec<String> {
    let serve = |dir: &Path| {
        let ports = Ports::free();
        let mut config = Config::new(dir, ports);
        for made in arrays {
            for at in 0..made.members.len() {
                let name = format!("{}-{at}", made.name);
                config = config.file(&name, &dir.join(format!("{name}.img")))
            }
        }
        let disks: Vec<String> = arrays.iter().map(|made| made.disk()).collect();
        let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
        (Server::start(dir, &config.volumes(&disks).yaml()), ports)
    };
    let (server, ports) = serve(dir);
    let write = |made: &&Made| {
        let mut tool = std::process::Command::new("qemu-io");
        tool.args(["-f", "raw", &url(made, ports)]);
        // Where it has grown.
        let from = if made.name == "ppl-grown" { 12_300 } else { 0 };
        for n in 0..2000u32 {
            tool.args(["-c", &format!("write -P {} {}k 20k", n % 250 + 1, from + n * 37 % 8000)]);
        }
        tool.stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        tool.spawn().expect("qemu-io")
    };
    let writers: Vec<_> = arrays.iter().map(write).collect();
    std::thread::sleep(Duration::from_millis(600));
    server.kill();
    for mut writer in writers {
        assert!(
            writer.try_wait().expect("a child").is_none(),
            "it was written before the target died"
        );
        writer.kill().expect("a child");
        writer.wait().expect("a child");
    }
    let copies = dir.join("copies");
    std::fs::create_dir(&copies).expect("a folder");
    for made in arrays {
        for at in 0..made.members.len() {
            let name = format!("{}-{at}.img", made.name);
            std::fs::copy(dir.join(&name), copies.join(&name)).expect("a copy");
        }
    }
    let (server, ports) = serve(&copies);
    for made in arrays {
        let examined = Tool::new("mdadm")
            .arg("--examine")
            .arg(dir.join(format!("{}-0.img", made.name)))
            .ok();
        assert!(examined.contains("State : active"), "nothing was under way: {examined}");
    }
    let sums = arrays.iter().map(|made| made.read(&copies, ports)).collect();
    server.stop();
    sums
}

/// What is written to, members that fail while it is, and how many it lacks in the end.
const WRITTEN: [(&str, &[u16], u16); 16] = [
    ("raid5-left-symmetric", &[], 0),
    ("raid5-parity-first", &[], 0),
    ("raid5-wide", &[3], 1),
    ("raid4", &[], 0),
    ("raid6-left-symmetric", &[], 0),
    ("raid6-ddf-N-continue", &[4, 1], 2),
    ("raid10-n2", &[2], 1),
    ("raid10-o2", &[], 0),
    ("raid1", &[1], 1),
    ("raid0-alternate", &[], 0),
    ("raid5-0.90", &[], 0),
    ("lost-raid5", &[], 1),
    ("ppl-raid5", &[], 0),
    ("ppl-lost", &[2], 1),
    ("swap-linux", &[], 0),
    ("swap-here", &[], 0),
];

fn url(made: &Made, ports: Ports) -> String {
    let iqn = format!("iqn.2026-11.io.ashlar:{}", made.disk().replace('/', ":"));
    format!("iscsi://127.0.0.1:{}/{iqn}/0", ports.iscsi)
}

#[test]
fn arrays_that_rpc_makes_bear_the_loss_of_a_member() {
    let story = "arrays made by RPC";
    if !needs(story, &["qemu-io"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    for at in 0..5 {
        let file = dir.join(format!("d{at}.img"));
        image::sparse(&file, 16 * MIB);
        config = config.file(&format!("d{at}"), &file);
    }
    let server = Server::start(dir, &config.yaml().replace("volumes:\n", "volumes: []\n"));
    let call = |method: &str, params: Value| rpc::call(&dir.join("rpc.sock"), method, params);
    let everybody = json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]});
    call("iscsi_create_initiator_group", everybody).expect("a group");
    let make = json!({"name": "five", "raid_level": "raid5f", "strip_size_kb": 64, "base_bdevs": ["d0", "d1", "d2"]});
    call("bdev_raid_create", make).expect("a raid5f");
    let make = json!({"name": "one", "raid_level": "raid1", "base_bdevs": ["d3", "d4"]});
    call("bdev_raid_create", make).expect("a raid1");
    let told = call("bdev_raid_get_bdevs", json!({"category": "online"})).expect("a list");
    let levels: Vec<&str> = told
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|raid| raid["raid_level"].as_str())
        .collect();
    assert_eq!(levels, ["raid5f", "raid1"]);
    let state = |name: &str| call("ashlar_get_arrays", json!({ "name": name })).expect("an array")[0]["state"].take();
    for (name, member) in [("five", "d1"), ("one", "d3")] {
        let iqn = format!("iqn.2026-11.io.ashlar:{name}");
        // What was there before is compared first.
        wait_for("an end of the comparison", || state(name) == "whole");
        call(
            "iscsi_create_target_node",
            json!({"name": iqn, "alias_name": name, "luns": [{"bdev_name": name, "lun_id": 0}],
            "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "queue_depth": 64, "disable_chap": true}),
        )
        .expect("a target");
        let url = format!("iscsi://127.0.0.1:{}/{iqn}/0", ports.iscsi);
        let io = |what: &str| Tool::new("qemu-io").args(["-f", "raw", "-c", what]).arg(&url).ok();
        io("write -P 0x11 0 3M");
        io("write -P 0x22 1000k 77k");
        ashlar(dir, &["raid", "fail", name, member]).ok();
        assert_eq!(state(name), "degraded");
        io("read -P 0x22 1000k 77k");
        io("write -P 0x33 64k 200k");
        io("read -P 0x33 64k 200k");
        io("read -P 0x11 264k 736k");
        ashlar(dir, &["raid", "check", name]).ok();
        wait_for("an end of the check", || state(name) == "degraded");
        let shown = ashlar(dir, &["raid", "show", name]).ok();
        assert!(shown.contains("failed") && !shown.contains("different"), "{shown}");
        let other = if name == "five" { "d0" } else { "d4" };
        ashlar(dir, &["raid", "fail", name, other]).fails();
    }
    println!("{}", ashlar(dir, &["raid", "ls"]).ok());
    server.stop();
}

#[test]
fn an_array_made_here_is_rebuilt_on_its_spare_and_mdadm_knows_it() {
    let story = "an array made here";
    if !needs(story, &["qemu-io", "mdadm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    let file = |at: usize| dir.join(format!("d{at}.img"));
    for at in 0..6 {
        image::sparse(&file(at), 24 * MIB);
        config = config.file(&format!("d{at}"), &file(at));
    }
    let config = config.yaml() + "  - on: md/data\n";
    let server = Server::start(dir, &config);
    let call = |method: &str, params: Value| rpc::call(&dir.join("rpc.sock"), method, params);
    let array = || call("ashlar_get_arrays", json!({"name": "md/data"})).map(|mut all| all[0].take());
    ashlar(
        dir,
        &[
            "do",
            "raid-create",
            "data",
            "disks=d0,d1,d2,d3",
            "level=raid6",
            "chunk=64k",
            "--dry-run",
        ],
    )
    .ok();
    ashlar(dir, &["do", "raid-create", "data", "disks=d0,d1", "level=raid5"]).fails();
    ashlar(
        dir,
        &[
            "do",
            "raid-create",
            "data",
            "disks=d0,d1,d2,d3",
            "level=raid6",
            "chunk=64k",
            "spares=d4",
        ],
    )
    .ok();
    wait_for("the array", || array().is_ok_and(|array| array["state"] == "whole"));
    let url = || {
        let volume = rpc::volume(&dir.join("rpc.sock"), "md/data");
        let (iqn, lun) = volume.iqn();
        format!("iscsi://127.0.0.1:{}/{iqn}/{lun}", ports.iscsi)
    };
    wait_for("a target", || {
        call("ashlar_get_volumes", json!({})).is_ok_and(|all| all.to_string().contains("md:data"))
    });
    let io = |what: &str| Tool::new("qemu-io").args(["-f", "raw", "-c", what]).arg(url()).ok();
    io("write -P 0x41 0 30M");
    io("write -P 0x42 5000k 123k");
    ashlar(dir, &["raid", "fail", "md/data", "d1"]).ok();
    io("write -P 0x43 20000k 777k");
    wait_for("a rebuild on the spare", || {
        array().is_ok_and(|array| array["state"] == "whole" && array["members"][1]["disk"] == "d4")
    });
    // Two more may go now, and another comes.
    ashlar(dir, &["raid", "fail", "md/data", "d0"]).ok();
    ashlar(dir, &["raid", "fail", "md/data", "d3"]).ok();
    io("read -P 0x42 5000k 123k");
    io("read -P 0x43 20000k 777k");
    ashlar(dir, &["do", "raid-add", "md/data", "disks=d5"]).ok();
    wait_for("a rebuild on the disk that was added", || {
        array().is_ok_and(|array| array["members"].to_string().matches("in_sync").count() == 3)
    });
    io("read -P 0x41 0 5000k");
    ashlar(dir, &["raid", "check", "md/data"]).ok();
    wait_for("an end of the check", || {
        array().is_ok_and(|array| array["progress"].is_null())
    });
    assert_eq!(array().expect("an array")["mismatched_bytes"], 0);
    println!("{}", ashlar(dir, &["raid", "show", "md/data"]).ok());
    server.stop();
    // What mdadm says of the members that are left.
    for at in [2, 4, 5] {
        let said = Tool::new("mdadm").arg("--examine").arg(file(at)).ok();
        let has = |key: &str, value: &str| {
            let line = said
                .lines()
                .find(|line| line.trim_start().starts_with(key))
                .unwrap_or_default();
            assert!(line.ends_with(value), "d{at}: {key} {value}: {said}");
        };
        has("Version :", "1.2");
        has("Raid Level :", "raid6");
        has("Raid Devices :", "4");
        has("Layout :", "left-symmetric");
        has("Chunk Size :", "64K");
        has("State :", "clean");
        has("Internal Bitmap :", "8 sectors from superblock");
        assert!(said.contains("Checksum :") && said.contains("- correct"), "{said}");
        let state = said
            .lines()
            .find(|line| line.contains("Array State :"))
            .expect("a state");
        assert_eq!(state.matches('A').count(), 3 + 2, "{state}");
    }
    // And again, from what is on the disks.
    let server = Server::start(dir, &config);
    wait_for("the array", || array().is_ok_and(|array| array["state"] == "degraded"));
    io("read -P 0x42 5000k 123k");
    io("read -P 0x43 20000k 777k");
    ashlar(dir, &["do", "raid-delete", "md/data", "force=true"]).fails();
    server.stop();
}

#[test]
fn who_comes_back_gets_what_it_has_missed_and_nothing_else() {
    let story = "members that come back";
    if !needs(story, &["qemu-io", "mdadm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    let file = |at: usize| dir.join(format!("d{at}.img"));
    for at in 0..4 {
        image::sparse(&file(at), 600 * MIB);
        config = config.file(&format!("d{at}"), &file(at));
    }
    let config = config.yaml() + "  - on: md/data\n";
    let server = Server::start(dir, &config);
    let call = |method: &str, params: Value| rpc::call(&dir.join("rpc.sock"), method, params);
    let array = || call("ashlar_get_arrays", json!({"name": "md/data"})).map(|mut all| all[0].take());
    let whole = || array().is_ok_and(|array| array["state"] == "whole");
    let create = [
        "do",
        "raid-create",
        "data",
        "disks=d0,d1,d2",
        "level=raid5",
        "chunk=64k",
        "clean=true",
    ];
    ashlar(dir, &create).ok();
    wait_for("the array", whole);
    wait_for("a target", || {
        call("ashlar_get_volumes", json!({})).is_ok_and(|all| all.to_string().contains("md:data"))
    });
    let io = |what: &str| {
        let volume = rpc::volume(&dir.join("rpc.sock"), "md/data");
        let (iqn, lun) = volume.iqn();
        let url = format!("iscsi://127.0.0.1:{}/{iqn}/{lun}", ports.iscsi);
        Tool::new("qemu-io").args(["-f", "raw", "-c", what]).arg(url).ok()
    };
    io("write -P 0x41 0 30M");
    // Until it is forgotten that this was written.
    wait_for("rest", || array().is_ok_and(|array| array["noted_bytes"] == 0));
    ashlar(dir, &["raid", "fail", "md/data", "d1"]).ok();
    io("write -P 0x42 700M 1M");
    ashlar(dir, &["do", "raid-remove", "md/data", "disks=d0"]).fails();
    ashlar(dir, &["do", "raid-readd", "md/data", "disks=d3"]).fails();
    ashlar(dir, &["do", "raid-readd", "md/data", "disks=d1", "--dry-run"]).ok();
    assert!(!whole());
    // What is written to it is one region and not all of it: its file is sparse elsewhere.
    let written = || std::fs::metadata(file(1)).expect("a file").blocks() * 512;
    let before = written();
    ashlar(dir, &["do", "raid-readd", "md/data", "disks=d1"]).ok();
    wait_for("what it has missed", whole);
    let copied = written() - before;
    let unit = array().expect("an array")["noted_unit_bytes"]
        .as_u64()
        .expect("a number");
    println!("{copied} bytes were copied, in units of {unit}");
    assert!(
        (1 << 20..=unit + (1 << 20)).contains(&copied),
        "{copied} bytes of units of {unit}"
    );
    ashlar(dir, &["raid", "check", "md/data"]).ok();
    wait_for("an end of the check", || {
        array().is_ok_and(|array| array["progress"].is_null())
    });
    assert_eq!(array().expect("an array")["mismatched_bytes"], 0);
    ashlar(dir, &["raid", "fail", "md/data", "d2"]).ok();
    io("read -P 0x42 700M 1M");
    io("read -P 0x41 0 30M");
    // It is taken out, and is as any other disk then.
    ashlar(dir, &["do", "raid-remove", "md/data", "disks=d2"]).ok();
    Tool::new("mdadm").arg("--examine").arg(file(2)).fails();
    ashlar(dir, &["do", "raid-readd", "md/data", "disks=d2"]).fails();
    ashlar(dir, &["do", "raid-add", "md/data", "disks=d2"]).ok();
    wait_for("a rebuild", whole);
    println!("{}", ashlar(dir, &["raid", "show", "md/data"]).ok());
    server.assert_no_panic();
    server.stop();
}

#[test]
fn an_array_is_stopped_and_runs_without_a_member_if_somebody_says_so() {
    let story = "arrays that are stopped";
    if !needs(story, &["mdadm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    let file = |at: usize| dir.join(format!("d{at}.img"));
    for at in 0..3 {
        image::sparse(&file(at), 24 * MIB);
        config = config.file(&format!("d{at}"), &file(at));
    }
    let server = Server::start(dir, &config.yaml().replace("volumes:\n", "volumes: []\n"));
    let call = |method: &str, params: Value| rpc::call(&dir.join("rpc.sock"), method, params);
    let array = || call("ashlar_get_arrays", json!({"name": "md/data"})).map(|mut all| all[0].take());
    let is = |state: &str| array().is_ok_and(|array| array["state"] == state);
    ashlar(dir, &["do", "raid-create", "data", "disks=d0,d1,d2", "level=raid5"]).ok();
    wait_for("the array", || is("whole"));
    ashlar(dir, &["raid", "stop", "md/data"]).ok();
    assert!(array().is_err(), "it still runs");
    let said = Tool::new("mdadm").arg("--examine").arg(file(0)).ok();
    assert!(said.contains("State : clean"), "{said}");
    ashlar(dir, &["raid", "assemble", "md/data"]).ok();
    assert!(is("whole"));
    // One is pulled while it is stopped. It is waited for, unless somebody says that it will not come.
    ashlar(dir, &["raid", "stop", "md/data"]).ok();
    call("ashlar_delete_disk", json!({"name": "d1"})).expect("nobody has it");
    ashlar(dir, &["raid", "assemble", "md/data"]).fails();
    assert!(array().is_err(), "it does not wait");
    ashlar(dir, &["raid", "assemble", "md/data", "--degraded"]).ok();
    assert!(is("degraded"), "{:?}", array());
    let back = json!({"name": "d1", "filename": file(1), "block_size": 512});
    call("bdev_aio_create", back).expect("it is back");
    wait_for("the member", || is("whole"));
    server.assert_no_panic();
    server.stop();
}
