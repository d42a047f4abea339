//! Arrays of Linux MD: what mdadm has made is served as it is.
use blackbox::config::Config;
use blackbox::image::{self, MIB, sha256};
use blackbox::{Guest, Ports, Server, Tool, needs, rpc};
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
    if !Guest::possible(story) || !needs(story, &["qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let big = dir.join("big.img");
    image::sparse(&big, 1200 * MIB);
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
        let iqn = format!("iqn.2026-11.io.ashlar:{}", made.disk().replace('/', ":"));
        let copy = dir.join("copy.img");
        let url = format!("iscsi://127.0.0.1:{}/{iqn}/0", ports.iscsi);
        Tool::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "raw", &url])
            .arg(&copy)
            .ok();
        assert_eq!(sha256(&copy), made.sha256, "{}", made.name);
        println!("{}: as it was", made.name)
    }
    let groups = rpc::call(&dir.join("rpc.sock"), "ashlar_get_groups", serde_json::json!({})).expect("groups");
    assert_eq!(groups.as_array().map(Vec::len), Some(all.len()), "{groups:#}");
    server.stop();
    // Nobody has written.
    for (file, was) in before {
        assert_eq!(sha256(&file), was, "{}", file.display())
    }
}
