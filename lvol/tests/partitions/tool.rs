//! What the real tools say about an image.
use super::crash::{Lab, image::Image};
use lvol::Partition;
use serde_json::Value;
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub const MIB: u64 = 1 << 20;

fn tool(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|d| Path::new(d).join(name))
        .find(|p| p.exists())
}

/// True if every tool is there.
pub fn have(tools: &[&str]) -> bool {
    tools.iter().all(|name| tool(name).is_some())
}

/// True if a tool is missing, which it says.
pub fn skip_without(story: &str, tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().filter(|name| tool(name).is_none()).collect();
    if !missing.is_empty() {
        let why = format!("{missing:?} not installed (Debian: fdisk gdisk parted util-linux mount)");
        reactor::testing::skip(story, &why);
    }
    !missing.is_empty()
}

/// Runs a tool with a script on its input.
pub fn run(name: &str, args: &[&str], path: &Path, script: &str) -> Output {
    let mut child = Command::new(tool(name).unwrap())
        .args(args)
        .arg(path)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not want it may have gone.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs a tool.
pub fn call(name: &str, args: &[&str], script: &str) -> Output {
    let (last, args) = args.split_last().unwrap();
    run(name, args, Path::new(last), script)
}

/// What sfdisk prints of each partition and of the table is what we know of them.
pub fn same_facts(json: &Value, lab: &Lab, what: &str) {
    let table = &json["partitiontable"];
    for theirs in table["partitions"].as_array().cloned().unwrap_or_default() {
        let (start, size) = (theirs["start"].as_u64().unwrap(), theirs["size"].as_u64().unwrap());
        let ours = lab.found().nodes.values().filter_map(|node| node.partition.as_ref());
        let ours: Vec<_> = ours
            .filter(|p| (p.extent().start, p.extent().count) == (start, size))
            .collect();
        let upper = |uuid: &uuid::Uuid| uuid.to_string().to_uppercase();
        match ours.as_slice() {
            [
                Partition::Gpt {
                    table: id,
                    kind,
                    guid,
                    name,
                    attributes,
                    ..
                },
            ] => {
                assert_eq!(upper(id), table["id"], "{what}");
                assert_eq!(upper(kind), theirs["type"], "{what}");
                assert_eq!(upper(guid), theirs["uuid"], "{what}");
                assert_eq!(name.as_str(), theirs["name"].as_str().unwrap_or_default(), "{what}");
                let words = lvol::part::attribute_words(*attributes);
                assert_eq!(words, theirs["attrs"].as_str().unwrap_or_default(), "{what}");
            }
            [
                Partition::Mbr {
                    disk_id, kind, active, ..
                },
            ] => {
                assert_eq!(format!("{disk_id:#010x}"), table["id"], "{what}");
                assert_eq!(format!("{kind:x}"), theirs["type"], "{what}");
                assert_eq!(*active, theirs["bootable"] == true, "{what}");
            }
            [] => assert!(["5", "f", "85"].contains(&theirs["type"].as_str().unwrap()), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// Reads a table and writes it back: not a bit changes.
pub fn unchanged(image: &Image, what: &str) {
    use spec::{gpt, mbr};
    let size = u64::from(image.block_size);
    let block = |at: u64| image.read(at * size, size);
    let mut again = image.clone();
    let put = |again: &mut Image, at: u64, bytes: &[u8]| {
        let mut whole = again.read(at, (bytes.len() as u64).next_multiple_of(size));
        whole[..bytes.len()].copy_from_slice(bytes);
        again.write(at, &whole);
    };
    let record = mbr::Record::parse(&block(0)).unwrap();
    if record.is_protective() {
        let copy = |at: u64| {
            let header = gpt::Header::parse(&block(at), at, image.blocks).unwrap();
            let array = header.array();
            gpt::Table::parse(header, &image.read(array.start * size, array.count * size)).unwrap()
        };
        let (primary, backup) = (copy(1), copy(image.blocks - 1));
        let label = gpt::Label::new(Some(&primary), Some(&backup), image.blocks).unwrap();
        for copy in [label.primary(), label.backup()] {
            put(&mut again, copy.header_at * size, &copy.header);
            put(&mut again, copy.array_at * size, &copy.array);
        }
        // From one copy alone comes the other, to the bit.
        for (one, other) in [(Some(&primary), None), (None, Some(&backup))] {
            let alone = gpt::Label::new(one, other, image.blocks).unwrap();
            let usual = primary.header.array().start == 2;
            assert!(alone == label || (!usual && one.is_none()), "{what}");
        }
        put(&mut again, 0, &record.to_bytes());
    } else {
        let mut reader = mbr::Reader::new(record, image.blocks);
        while let Some(at) = reader.next() {
            reader.give(&block(at));
        }
        for (at, record) in reader.label().unwrap_or_else(|why| panic!("{what}: {why}")).records() {
            put(&mut again, at * size, &record.to_bytes());
        }
    }
    assert_eq!(again.differing(image), [0u64; 0], "{what}");
}

/// An image as a file.
pub struct Saved {
    pub path: PathBuf,
    _dir: tempfile::TempDir,
}

pub fn save(image: &Image) -> Saved {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    image.save(&path);
    Saved { path, _dir: dir }
}

/// `sfdisk --json`, or nothing if it sees no table.
pub fn sfdisk_json(path: &Path) -> Option<Value> {
    let out = run("sfdisk", &["--json"], path, "");
    out.status
        .success()
        .then(|| serde_json::from_slice(&out.stdout).unwrap())
}

/// The partitions of `sfdisk --json`, without the extended one: number, first block, blocks.
pub fn listed(json: &Value, prefix: &str) -> Vec<(u32, u64, u64)> {
    let table = &json["partitiontable"];
    let all = table["partitions"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<_> = all
        .iter()
        .filter(|p| {
            let kind = p["type"].as_str().unwrap();
            match table["label"].as_str().unwrap() {
                "gpt" => true,
                "sun" => kind != "5",
                "sgi" => !["0", "6"].contains(&kind),
                "bsd" => kind != "0",
                _ => !["5", "f", "85"].contains(&kind),
            }
        })
        .map(|p| {
            let node = p["node"].as_str().unwrap().strip_prefix(prefix).unwrap();
            let number = node.trim_start_matches('p').parse().unwrap();
            (number, p["start"].as_u64().unwrap(), p["size"].as_u64().unwrap())
        })
        .collect();
    all.sort_unstable();
    all
}

/// Partitions as sfdisk sees them.
pub fn sfdisk_sees(image: &Image) -> Vec<(u32, u64, u64)> {
    let saved = save(image);
    let json = sfdisk_json(&saved.path);
    json.map(|json| listed(&json, saved.path.to_str().unwrap()))
        .unwrap_or_default()
}

/// Loop devices, for blocks of 4096 bytes: tools take a file to have blocks of 512.
pub mod loops {
    use super::*;

    pub struct Loop {
        pub path: PathBuf,
    }

    /// Nothing where this cannot be done.
    pub fn attach(path: &Path, block_size: u32) -> Option<Loop> {
        if block_size == 512 {
            return None;
        }
        let size = block_size.to_string();
        let out = run("losetup", &["--find", "--show", "--sector-size", &size], path, "");
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            reactor::testing::skip(
                "partition tables in blocks of 4096 bytes",
                &format!("no loop device: {why}"),
            );
            return None;
        }
        let path = String::from_utf8(out.stdout).unwrap().trim().into();
        Some(Loop { path })
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            run("losetup", &["--detach"], &self.path, "");
        }
    }
}
