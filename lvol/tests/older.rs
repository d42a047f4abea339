//! Older partition tables made by parted and sfdisk, judged by us, compared with what those print. The table goes back to the disk bit for bit.
//! A tool that is missing skips its story by name.
use lvol::{
    Findings, Partition, Registry, Verdict, judge,
    probe::{Probe, Reading, Source},
};
use spec::{Extent, amiga, apple, atari, bsd, sgi, sun};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use uuid::Uuid;

const MIB: u64 = 1 << 20;

struct Bytes(Vec<u8>, u32);

impl Source for Bytes {
    fn read(&self, extent: Extent) -> Reading<'_> {
        Box::pin(async move {
            let size = self.1 as usize;
            let from = extent.start as usize * size;
            Ok(self.0[from..from + extent.count as usize * size].to_vec())
        })
    }
}

fn judge_as(bytes: &[u8], block_size: u32, being: Option<&Partition>) -> Findings {
    let source = Bytes(bytes.to_vec(), block_size);
    let blocks = bytes.len() as u64 / u64::from(block_size);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let probe = Probe::new("d", Uuid::from_u128(7), blocks, block_size, &source).await;
        judge::judge(Registry::builtin(), probe.being(being)).await
    })
}

fn tool(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|d| Path::new(d).join(name))
        .find(|p| p.exists())
}

fn have(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().filter(|t| tool(t).is_none()).collect();
    if !missing.is_empty() {
        reactor::testing::skip(
            "older labels written by real tools",
            &format!("{missing:?} not installed (Debian: parted fdisk)"),
        );
    }
    missing.is_empty()
}

fn parted(image: &Path, args: &[&str]) -> String {
    let out = Command::new(tool("parted").unwrap())
        .args(["-m", "-s"])
        .arg(image)
        .args(args)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// Number, first sector, sectors, name, as parted prints them; without entries that are no partitions.
fn printed(image: &Path, fillers: &[&str]) -> Vec<(u32, u64, u64, String)> {
    let said = parted(image, &["unit", "s", "print"]);
    let number = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    said.lines()
        .skip(2)
        .map(|line| line.trim_end_matches(';').split(':').collect::<Vec<_>>())
        .filter(|f| !fillers.contains(&f[5]) && !fillers.contains(&f[0]))
        .map(|f| (f[0].parse().unwrap(), number(f[1]), number(f[3]), f[5].to_owned()))
        .collect()
}

fn ours(found: &Findings, names: bool) -> Vec<(u32, u64, u64, String)> {
    let one = |node: &lvol::format::Proposal| {
        let partition = node.partition.as_ref().unwrap();
        let (_, plain) = partition.plain().unwrap();
        assert_eq!(node.name, format!("dp{}", plain.number));
        let name = if names { plain.name.clone() } else { String::new() };
        (plain.number, plain.extent.start, plain.extent.count, name)
    };
    let mut all: Vec<_> = found.nodes.iter().map(one).collect();
    all.sort();
    all
}

fn image(dir: &Path, label: &str, parts: &[&[&str]]) -> PathBuf {
    let path = dir.join(format!("{label}.img"));
    File::create(&path).unwrap().set_len(128 * MIB).unwrap();
    parted(&path, &["mklabel", label]);
    for part in parts {
        parted(&path, &[&["mkpart"], *part].concat());
    }
    path
}

/// The same bytes with every byte of the first 16 KiB damaged in turn, a bit at a time: nothing panics, nothing lies outside.
fn survives_damage(bytes: &[u8]) {
    let mut small = bytes[..16 << 10].to_vec();
    small.resize(MIB as usize, 0);
    let used: Vec<usize> = (0..16 << 10).filter(|at| small[*at] != 0).collect();
    for at in used.into_iter().step_by(3) {
        for bit in [0, 7] {
            small[at] ^= 1 << bit;
            let found = judge_as(&small, 512, None);
            for node in &found.nodes {
                assert!(node.partition.as_ref().unwrap().extent().fits(2048), "{at} {bit}");
            }
            small[at] ^= 1 << bit;
        }
    }
}

#[test]
fn tables_made_by_parted_read_as_parted_prints_them() {
    if !have(&["parted"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Label, its partitions in parted's words, ours, whether names are kept, what is no partition.
    type Case = (
        &'static str,
        &'static [&'static [&'static str]],
        &'static str,
        &'static str,
        bool,
        &'static [&'static str],
    );
    let cases: [Case; 6] = [
        (
            "mac",
            &[&["first", "ext2", "1MiB", "33MiB"], &["second", "40MiB", "64MiB"]],
            "Apple partition map",
            "apple",
            true,
            &["Apple"],
        ),
        (
            "bsd",
            &[&["ext2", "1MiB", "33MiB"], &["ext2", "40MiB", "64MiB"]],
            "BSD disk label",
            "bsd",
            false,
            &[],
        ),
        (
            "sun",
            &[&["ext2", "8MiB", "33MiB"], &["ext2", "40MiB", "64MiB"]],
            "Sun label",
            "sun",
            false,
            &["3"],
        ),
        (
            "dvh",
            &[&["primary", "ext2", "8MiB", "33MiB"], &["primary", "40MiB", "64MiB"]],
            "SGI volume header",
            "sgi",
            false,
            &["9", "11"],
        ),
        (
            "amiga",
            &[&["DH0", "ext2", "1MiB", "33MiB"], &["Work", "40MiB", "64MiB"]],
            "Amiga rigid disk block",
            "amiga",
            true,
            &[],
        ),
        (
            "atari",
            &[&["primary", "1MiB", "33MiB"], &["primary", "40MiB", "64MiB"]],
            "Atari partition table",
            "atari",
            false,
            &[],
        ),
    ];
    for (label, parts, what, format, names, fillers) in cases {
        let path = image(dir.path(), label, parts);
        let bytes = fs::read(&path).unwrap();
        let found = judge_as(&bytes, 512, None);
        assert_eq!(
            (found.verdict, found.reason.as_str(), found.format),
            (
                Verdict::Claimed,
                format!("{what} with 2 partitions").as_str(),
                Some(format)
            ),
            "{label}: {found:#?}"
        );
        // parted's checksum of a BSD label is wrong from the second change on.
        assert_eq!(found.notes.len(), usize::from(label == "bsd"), "{:?}", found.notes);
        let mut theirs = printed(&path, fillers);
        if !names {
            theirs.iter_mut().for_each(|one| one.3.clear());
        }
        assert_eq!(ours(&found, names), theirs, "{label}");
        // Bit for bit on the way back.
        match label {
            "mac" => {
                for number in 1..=4u32 {
                    let block = &bytes[number as usize * 512..][..512];
                    assert_eq!(apple::Entry::parse(block, number).unwrap().to_bytes()[..], *block);
                }
            }
            "bsd" => {
                let back = bsd::Label::parse(&bytes[64..]).unwrap().to_bytes();
                assert_eq!(back[..], bytes[64..64 + back.len()]);
            }
            "sun" => assert_eq!(sun::Label::parse(&bytes).unwrap().to_bytes()[..], bytes[..512]),
            "dvh" => assert_eq!(sgi::Header::parse(&bytes).unwrap().to_bytes()[..], bytes[..512]),
            "amiga" => {
                let mut blocks = 0;
                for block in bytes.chunks(512).take(64) {
                    let rigid = amiga::Rigid::parse(block).map(|one| one.to_bytes());
                    let part = amiga::Partition::parse(block).map(|one| one.to_bytes());
                    if let Ok(back) = rigid.or(part) {
                        assert_eq!(back[..], block[..back.len()]);
                        blocks += 1;
                    }
                }
                assert_eq!(blocks, 3);
            }
            _ => assert_eq!(
                atari::Table::parse(&bytes, 128 * 2048).unwrap().to_bytes()[..],
                bytes[..512]
            ),
        }
        survives_damage(&bytes);
    }
}

#[test]
fn sun_and_sgi_made_by_sfdisk_read_as_sfdisk_reads_them() {
    if !have(&["sfdisk"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (label, script, whole) in [
        (
            "sun",
            "label: sun\nsize=20MiB, type=83\nsize=30MiB, type=82\n",
            vec!["5"],
        ),
        (
            "sgi",
            "label: sgi\nstart=20480, size=40960, type=a\nstart=81920, size=20480, type=83\n",
            vec!["6", "0"],
        ),
    ] {
        let path = dir.path().join(label);
        File::create(&path).unwrap().set_len(128 * MIB).unwrap();
        let mut child = Command::new(tool("sfdisk").unwrap())
            .args(["--quiet", "--no-reread", "--no-tell-kernel"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let out = Command::new(tool("sfdisk").unwrap())
            .arg("--json")
            .arg(&path)
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let prefix = path.to_str().unwrap();
        let theirs: Vec<_> = json["partitiontable"]["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| !whole.contains(&p["type"].as_str().unwrap()))
            .map(|p| {
                let number = p["node"].as_str().unwrap().strip_prefix(prefix).unwrap();
                let number = number.trim_start_matches('p').parse().unwrap();
                (
                    number,
                    p["start"].as_u64().unwrap(),
                    p["size"].as_u64().unwrap(),
                    String::new(),
                )
            })
            .collect();
        let bytes = fs::read(&path).unwrap();
        let found = judge_as(&bytes, 512, None);
        assert_eq!(found.verdict, Verdict::Claimed, "{found:#?}");
        assert_eq!(ours(&found, false), theirs);
        assert!(theirs.len() >= 2);
        let back = if label == "sun" {
            sun::Label::parse(&bytes).unwrap().to_bytes()
        } else {
            sgi::Header::parse(&bytes).unwrap().to_bytes()
        };
        assert_eq!(back[..], bytes[..512]);
    }
}

#[test]
fn a_bsd_label_in_a_slice_counts_from_where_its_owner_counts() {
    if !have(&["parted"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = image(
        dir.path(),
        "bsd",
        &[&["ext2", "1MiB", "33MiB"], &["ext2", "40MiB", "64MiB"]],
    );
    let bytes = fs::read(&path).unwrap();
    let slice = |kind| Partition::Mbr {
        disk: "m".into(),
        number: 1,
        extent: Extent::new(4096, bytes.len() as u64 / 512),
        disk_id: 1,
        kind,
        active: false,
    };
    let wanted = ours(&judge_as(&bytes, 512, None), false);
    assert_eq!(wanted.len(), 2);
    // FreeBSD: from the start of the slice, or, where partition c says so, of the disk.
    assert_eq!(ours(&judge_as(&bytes, 512, Some(&slice(0xa5))), false), wanted);
    let mut label = bsd::Label::parse(&bytes[64..]).unwrap();
    for entry in label.entries.iter_mut().filter(|entry| entry.size > 0) {
        entry.offset += 4096;
    }
    let mut absolute = bytes.clone();
    let put = |bytes: &mut Vec<u8>, label: &bsd::Label| {
        let back = label.to_bytes();
        bytes[64..64 + back.len()].copy_from_slice(&back);
    };
    put(&mut absolute, &label);
    for kind in [0xa6, 0xa9] {
        assert_eq!(
            ours(&judge_as(&absolute, 512, Some(&slice(kind))), false),
            wanted,
            "{kind:x}"
        );
    }
    if let Some(whole) = label.entries.get_mut(2) {
        (whole.offset, whole.size) = (4096, bytes.len() as u32 / 512);
    }
    put(&mut absolute, &label);
    assert_eq!(ours(&judge_as(&absolute, 512, Some(&slice(0xa5))), false), wanted);
}

#[test]
fn damage_and_other_blocks_are_told() {
    if !have(&["parted"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (label, part, at, said) in [
        (
            "sun",
            &["ext2", "8MiB", "33MiB"][..],
            300,
            "has a Sun label that cannot be used: the label's checksum does not come out",
        ),
        (
            "dvh",
            &["primary", "8MiB", "33MiB"][..],
            300,
            "has an SGI volume header that cannot be used: the header's checksum does not come out",
        ),
        (
            "mac",
            &["first", "1MiB", "33MiB"][..],
            1024,
            "has an Apple partition map that cannot be used: entry 2 of the partition map has no signature (PM)",
        ),
    ] {
        let mut bytes = fs::read(image(dir.path(), label, &[part])).unwrap();
        bytes[at] ^= 0x10;
        let found = judge_as(&bytes, 512, None);
        assert_eq!(
            (found.verdict, found.reason.as_str()),
            (Verdict::Unclaimed, said),
            "{label}"
        );
    }
    // A map made for blocks of 512 bytes on a disk of 4096: what falls on its blocks is served.
    let bytes = fs::read(image(dir.path(), "mac", &[&["first", "1MiB", "33MiB"]])).unwrap();
    let found = judge_as(&bytes, 4096, None);
    assert_eq!(ours(&found, true), [(2, 256, 8192, "first".to_owned())]);
    let file = File::options().write(true).open(dir.path().join("mac.img")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
}
