//! Disks labelled by the real tools, judged by us, compared with `sfdisk --json` and `blkid -p`. A tool that is missing skips its story with a
//! message. No test here writes through us, and one proves that judging writes nothing.
use lvol::{
    Findings, Partition, Registry, Verdict, judge,
    probe::{self, Probe, Reading, Source},
};
use serde_json::Value;
use spec::Extent;
use std::{
    fs::{self, File},
    future::Future,
    io::Write,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    pin::pin,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};
use uuid::Uuid;

const MIB: u64 = 1 << 20;

/// A file, opened so that the kernel refuses every write.
struct ReadOnly {
    file: File,
    block_size: u32,
}

impl Source for ReadOnly {
    fn read(&self, extent: Extent) -> Reading<'_> {
        Box::pin(async move {
            let mut bytes = vec![0; extent.count as usize * self.block_size as usize];
            let at = extent.start * u64::from(self.block_size);
            self.file.read_exact_at(&mut bytes, at).map_err(|e| e.to_string())?;
            Ok(bytes)
        })
    }
}

/// Nothing here ever waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a read from a file waited"),
    }
}

struct Image {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Image {
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        File::create(&path).unwrap().set_len(size).unwrap();
        Self { path, _dir: dir }
    }

    /// `program` with `args`, then the image's path. Its input is `script`.
    fn run(&self, program: &str, args: &[&str], script: &str) -> &Self {
        let mut child = Command::new(tool(program).unwrap())
            .args(args)
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(
            out.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        self
    }

    fn sfdisk(&self, script: &str) -> &Self {
        self.run(
            "sfdisk",
            &[
                "--quiet",
                "--no-reread",
                "--no-tell-kernel",
                "--wipe",
                "never",
                "--wipe-partitions",
                "never",
            ],
            script,
        )
    }

    fn put(&self, at: u64, bytes: &[u8]) -> &Self {
        File::options()
            .write(true)
            .open(&self.path)
            .unwrap()
            .write_all_at(bytes, at)
            .unwrap();
        self
    }

    /// The last 64 sectors.
    fn tail(&self) -> Vec<u8> {
        let mut bytes = vec![0; 64 * 512];
        File::open(&self.path)
            .unwrap()
            .read_exact_at(&mut bytes, self.size() - 64 * 512)
            .unwrap();
        bytes
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.path).unwrap().len()
    }

    fn resize(&self, size: u64) -> &Self {
        File::options()
            .write(true)
            .open(&self.path)
            .unwrap()
            .set_len(size)
            .unwrap();
        self
    }

    /// Puts what `mkfs` makes of a file of `size` bytes at `at` of this image.
    fn mkfs(&self, at: u64, size: u64, program: &str, args: &[&str]) -> &Self {
        let part = Image::new(size);
        part.run(program, args, "");
        self.put(at, &fs::read(&part.path).unwrap())
    }

    fn judge_with(&self, block_size: u32) -> Findings {
        let source = ReadOnly {
            file: File::open(&self.path).unwrap(),
            block_size,
        };
        let blocks = self.size() / u64::from(block_size);
        now(async {
            judge::judge(
                Registry::builtin(),
                Probe::new("d", Uuid::from_u128(7), blocks, block_size, &source).await,
            )
            .await
        })
    }

    fn judge(&self) -> Findings {
        self.judge_with(512)
    }

    /// What `blkid -p` says: (PTTYPE, TYPE).
    fn blkid(&self) -> (String, String) {
        let Some(blkid) = tool("blkid") else {
            return Default::default();
        };
        let out = Command::new(blkid)
            .args(["-p", "-o", "export"])
            .arg(&self.path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let field = |key: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        (field("PTTYPE"), field("TYPE"))
    }
}

fn tool(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"]
        .iter()
        .map(|d| Path::new(d).join(name))
        .find(|p| p.exists())
}

/// True if every tool is there; else says what is skipped.
fn have(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().filter(|t| tool(t).is_none()).collect();
    if !missing.is_empty() {
        reactor::testing::skip(
            "labels written by real tools",
            &format!("{missing:?} not installed (Debian: fdisk gdisk parted e2fsprogs dosfstools mdadm)"),
        );
    }
    missing.is_empty()
}

/// Compares our partitions with `sfdisk --json`, extended ones left out.
fn agrees_with_sfdisk(image: &Image, findings: &Findings) {
    let out = Command::new(tool("sfdisk").unwrap())
        .arg("--json")
        .arg(&image.path)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let table = &json["partitiontable"];
    let prefix = image.path.to_str().unwrap();
    let extended = ["5", "f", "85"];
    let theirs: Vec<_> = table["partitions"].as_array().cloned().unwrap_or_default();
    let theirs: Vec<_> = theirs
        .iter()
        .filter(|p| table["label"] == "gpt" || !extended.contains(&p["type"].as_str().unwrap()))
        .collect();
    assert_eq!(findings.nodes.len(), theirs.len(), "{findings:#?}\n{table:#}");
    for (node, their) in findings.nodes.iter().zip(theirs) {
        let ours = node.partition.as_ref().unwrap();
        let number: u32 = their["node"]
            .as_str()
            .unwrap()
            .strip_prefix(prefix)
            .unwrap()
            .trim_start_matches('p')
            .parse()
            .unwrap();
        assert_eq!(ours.number(), number);
        assert_eq!(node.name, format!("dp{number}"));
        assert_eq!(
            ours.extent(),
            Extent::new(their["start"].as_u64().unwrap(), their["size"].as_u64().unwrap())
        );
        let upper = |u: &Uuid| u.to_string().to_uppercase();
        match ours {
            Partition::Gpt {
                kind,
                guid,
                name,
                table: id,
                ..
            } => {
                assert_eq!(upper(kind), their["type"]);
                assert_eq!(upper(guid), their["uuid"]);
                assert_eq!(name.as_str(), their["name"].as_str().unwrap_or_default());
                assert_eq!(upper(id), table["id"]);
                assert_eq!(node.uuid, *guid);
            }
            Partition::Mbr {
                kind, active, disk_id, ..
            } => {
                assert_eq!(format!("{kind:x}"), their["type"]);
                assert_eq!(*active, their["bootable"] == true);
                assert_eq!(format!("{disk_id:#010x}"), table["id"]);
            }
            other => panic!("neither GPT nor MBR: {other:?}"),
        }
    }
}

const GPT: &str = "label: gpt\nlabel-id: 01234567-89AB-CDEF-0123-456789ABCDEF\n\
    size=8MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=\"efi\"\n\
    size=16MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name=\"root größe\", attrs=\"LegacyBIOSBootable\"\n\
    start=80MiB, size=4MiB, type=6527994E-2C5A-4EEC-9613-8F5944074E8B\n";

const NESTED: &str = "label: dos\nlabel-id: 0xcafe0001\nsize=4MiB, type=83, bootable\nsize=40MiB, type=5\n\
    start=32MiB, size=8MiB, type=c\nstart=6MiB, size=8MiB, type=83\nstart=16MiB, size=2MiB, type=8e\n";

fn gpt() -> Image {
    let image = Image::new(128 * MIB);
    image.sfdisk(GPT);
    image
}

fn nested() -> Image {
    let image = Image::new(64 * MIB);
    image.sfdisk(NESTED);
    image
}

#[test]
fn gpt_made_by_sfdisk_reads_as_sfdisk_reads_it() {
    if !have(&["sfdisk"]) {
        return;
    }
    let image = gpt();
    let found = image.judge();
    assert_eq!(
        (found.verdict, found.reason.as_str(), found.format),
        (Verdict::Claimed, "GPT with 3 partitions", Some("gpt"))
    );
    assert_eq!(found.notes, [""; 0]);
    agrees_with_sfdisk(&image, &found);
    assert_eq!(
        found.nodes[1].partition.as_ref().unwrap().purpose(),
        "Linux file system"
    );

    // And the way back: header and entries as sfdisk wrote them, bit for bit.
    let bytes = fs::read(&image.path).unwrap();
    let blocks = image.size() / 512;
    for at in [1, blocks - 1] {
        let block = &bytes[at as usize * 512..][..512];
        let header = spec::gpt::Header::parse(block, at, blocks).unwrap();
        let array = header.array();
        let raw = &bytes[array.start as usize * 512..][..array.count as usize * 512];
        let table = spec::gpt::Table::parse(header, raw).unwrap();
        assert_eq!(table.to_bytes(), (block.to_vec(), raw.to_vec()));
    }
    // A fresh table of ours is the empty one of sfdisk.
    let empty = Image::new(64 * MIB);
    empty.sfdisk("label: gpt\nlabel-id: 01234567-89AB-CDEF-0123-456789ABCDEF\n");
    let id = Uuid::parse_str("01234567-89ab-cdef-0123-456789abcdef").unwrap();
    let ours = spec::gpt::Table::new(131_072, 512, id, false).unwrap().to_bytes();
    let theirs = fs::read(&empty.path).unwrap();
    assert_eq!(ours.0, theirs[512..1024]);
    assert_eq!(ours.1, theirs[1024..1024 + 16_384]);
}

#[test]
fn nested_logical_partitions_read_as_sfdisk_reads_them() {
    if !have(&["sfdisk"]) {
        return;
    }
    let image = nested();
    let found = image.judge();
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (Verdict::Claimed, "MBR with 4 partitions")
    );
    let numbers: Vec<_> = found.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(numbers, ["dp1", "dp5", "dp6", "dp7"]);
    agrees_with_sfdisk(&image, &found);
    let front = &fs::read(&image.path).unwrap()[..512];
    assert_eq!(spec::mbr::Record::parse(front).unwrap().to_bytes(), *front);
}

#[test]
fn sgdisk_and_parted_labels_read_as_sfdisk_reads_them() {
    if !have(&["sfdisk", "sgdisk", "parted"]) {
        return;
    }
    let image = Image::new(64 * MIB);
    image.run(
        "sgdisk",
        &["-n1:2048:+4M", "-c1:first", "-n5:0:+8M", "-t5:8e00", "-n2:0:0"],
        "",
    );
    let found = image.judge();
    assert_eq!(found.reason, "GPT with 3 partitions");
    agrees_with_sfdisk(&image, &found);
    // A larger array than the usual one.
    image
        .run("sgdisk", &["-Z"], "")
        .run("sgdisk", &["-o", "-S", "256", "-n200:4096:+1M"], "");
    let found = image.judge();
    assert_eq!(found.nodes[0].name, "dp200");
    agrees_with_sfdisk(&image, &found);

    let image = Image::new(64 * MIB);
    let parted = |args: &[&str]| {
        let out = Command::new(tool("parted").unwrap())
            .arg("-s")
            .arg(&image.path)
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    parted(&[
        "mklabel", "msdos", "mkpart", "primary", "1MiB", "9MiB", "mkpart", "extended", "10MiB", "60MiB",
    ]);
    parted(&[
        "mkpart", "logical", "11MiB", "20MiB", "mkpart", "logical", "21MiB", "30MiB", "mkpart", "logical", "31MiB",
        "59MiB",
    ]);
    parted(&["rm", "6"]);
    let found = image.judge();
    assert_eq!(found.nodes.len(), 3);
    agrees_with_sfdisk(&image, &found);
}

#[test]
fn blocks_of_4096_bytes_have_their_own_addresses() {
    if !have(&["sfdisk"]) {
        return;
    }
    // sfdisk takes a file for 512-byte blocks, so the table is ours; that the two agree byte for byte is shown above.
    let image = Image::new(64 * MIB);
    let (blocks, id) = (64 * MIB / 4096, Uuid::from_u128(1));
    let entry = spec::gpt::Entry {
        kind: spec::gpt::types::LINUX,
        guid: id,
        first: 256,
        last: 511,
        attributes: 0,
        name: "p".into(),
    };
    for backup in [false, true] {
        let mut table = spec::gpt::Table::new(blocks, 4096, id, backup).unwrap();
        assert!(table.set(1, Some(&entry)));
        let (block, array) = table.to_bytes();
        image
            .put(if backup { blocks - 1 } else { 1 } * 4096, &block)
            .put(table.header.array().start * 4096, &array);
    }
    let mut record = spec::mbr::Record::new(0);
    record.set(
        1,
        Some(spec::mbr::Entry {
            active: false,
            kind: 0xee,
            start: 1,
            count: u32::MAX,
        }),
    );
    image.put(0, &record.to_bytes());
    let found = image.judge_with(4096);
    assert_eq!((found.verdict, &found.notes[..]), (Verdict::Claimed, &[][..]));
    assert_eq!(
        found.nodes[0].partition.as_ref().unwrap().extent(),
        Extent::new(256, 256)
    );
    let wrong = image.judge_with(512);
    assert_eq!(
        (wrong.verdict, wrong.reason.as_str()),
        (
            Verdict::Unclaimed,
            "has a GPT made for blocks of 4096 bytes, but the disk has blocks of 512; set `block_size: 4096`"
        )
    );
    assert!(gpt().judge_with(4096).reason.ends_with("set `block_size: 512`"));
}

/// One image of the gallery: how it is made, what we say, and whether `blkid -p` says the same.
struct Case {
    name: &'static str,
    needs: &'static [&'static str],
    make: fn() -> Image,
    verdict: Verdict,
    reason: &'static str,
    note: &'static str,
    /// PTTYPE and TYPE of `blkid -p`.
    blkid: (&'static str, &'static str),
}

/// Thirty disks somebody might hand us. Where `blkid`'s words differ in substance the comment says why ours do.
const GALLERY: &[Case] = &[
    Case {
        name: "blank",
        needs: &[],
        make: || Image::new(4 * MIB),
        verdict: Verdict::New,
        reason: "is blank",
        note: "",
        blkid: ("", ""),
    },
    Case {
        name: "gpt",
        needs: &["sfdisk"],
        make: gpt,
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "",
        blkid: ("gpt", ""),
    },
    Case {
        name: "mbr",
        needs: &["sfdisk"],
        make: nested,
        verdict: Verdict::Claimed,
        reason: "MBR with 4 partitions",
        note: "",
        blkid: ("dos", ""),
    },
    Case {
        name: "primary header damaged",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.put(512 + 60, b"x");
            i
        },
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "the primary GPT is unusable (header CRC",
        blkid: ("gpt", ""),
    },
    Case {
        name: "primary entries damaged",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.put(1024 + 40, b"x");
            i
        },
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "the primary GPT is unusable (CRC of the entries",
        blkid: ("gpt", ""),
    },
    Case {
        name: "backup damaged",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.put(128 * MIB - 512, &[0; 512]);
            i
        },
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "the backup GPT at block 262143 is unusable: no GPT signature",
        blkid: ("gpt", ""),
    },
    Case {
        name: "grown",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.resize(130 * MIB);
            i
        },
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "the disk has 4096 blocks more than when it was partitioned",
        blkid: ("gpt", ""),
    },
    Case {
        name: "cut off",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.resize(100 * MIB);
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "has a GPT of which no copy is usable (primary: the table needs 262111 blocks, the disk has 204800; backup: no GPT signature)",
        note: "",
        // libblkid falls back to the PMBR and calls it a dos table with one partition of type ee.
        blkid: ("*", ""),
    },
    Case {
        name: "both copies wiped, protective MBR left",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.put(512, &[0; 512]).put(128 * MIB - 512, &[0; 512]);
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "has a protective MBR, but no GPT at the start or at the end",
        note: "",
        blkid: ("*", ""),
    },
    Case {
        name: "first MiB wiped",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.put(0, &vec![0; MIB as usize]);
            i
        },
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "the protective MBR is missing",
        // blkid does not look for a GPT without a protective MBR; sgdisk does, as we do (rule 4 in part/gpt.rs).
        blkid: ("", ""),
    },
    Case {
        name: "GPT, then an MBR over it",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.put(0, &fs::read(&nested().path).unwrap()[..512]);
            i
        },
        verdict: Verdict::Claimed,
        reason: "MBR with 1 partition",
        note: "the MBR does not protect it, so it is stale",
        blkid: ("dos", ""),
    },
    Case {
        name: "hybrid MBR",
        needs: &["sfdisk", "sgdisk"],
        make: || {
            let i = gpt();
            i.run("sgdisk", &["-h", "1:2"], "");
            i
        },
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "the MBR is a hybrid",
        blkid: ("gpt", ""),
    },
    Case {
        name: "ext4 on the whole disk",
        needs: &["mkfs.ext4"],
        make: || {
            let i = Image::new(8 * MIB);
            i.run("mkfs.ext4", &["-q", "-F", "-L", "data"], "");
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "holds an ext4 file system \"data\"",
        note: "",
        blkid: ("", "ext4"),
    },
    Case {
        name: "ext4 over a GPT whose backup survives",
        needs: &["sfdisk", "mkfs.ext4"],
        // mke2fs of today wipes the end too; that of ten years ago did not.
        make: || {
            let i = gpt();
            let end = i.tail();
            i.run("mkfs.ext4", &["-q", "-F"], "").put(128 * MIB - 64 * 512, &end);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds both a GPT with 3 partitions and an ext4 file system; wipe the stale one",
        note: "the primary GPT is unusable",
        // The backup means that data may still be wanted; blkid does not look at it because mkfs zeroed the MBR.
        blkid: ("", "ext4"),
    },
    Case {
        name: "MBR over a whole-disk ext4",
        needs: &["sfdisk", "mkfs.ext4"],
        make: || {
            let i = Image::new(64 * MIB);
            i.run("mkfs.ext4", &["-q", "-F"], "").sfdisk(NESTED);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds both an MBR with 4 partitions and an ext4 file system; wipe the stale one",
        note: "",
        // blkid names both and leaves it to the reader; that is what ambiguous means.
        blkid: ("dos", "ext4"),
    },
    Case {
        name: "FAT on the whole disk",
        needs: &["mkfs.vfat"],
        make: || {
            let i = Image::new(16 * MIB);
            i.run("mkfs.vfat", &["-n", "STICK"], "");
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "holds a FAT file system \"STICK\"",
        note: "",
        blkid: ("", "vfat"),
    },
    Case {
        name: "swap",
        needs: &["mkswap"],
        make: || {
            let i = Image::new(4 * MIB);
            i.run("mkswap", &["-q"], "");
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "holds a Linux swap area",
        note: "",
        blkid: ("", "swap"),
    },
    Case {
        name: "file systems inside of partitions are the partitions'",
        needs: &["sfdisk", "mkfs.ext4"],
        make: || {
            let i = gpt();
            i.mkfs(9 * MIB, 16 * MIB, "mkfs.ext4", &["-q", "-F"]);
            i
        },
        verdict: Verdict::Claimed,
        reason: "GPT with 3 partitions",
        note: "",
        blkid: ("gpt", ""),
    },
    Case {
        name: "MD 1.0 at the end, the array's GPT at the start",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            i.resize(129 * MIB);
            i.put(129 * MIB - 8192, &md1((129 * MIB - 8192) / 512));
            i
        },
        verdict: Verdict::Claimed,
        reason: "member of the MD array \"0\"",
        note: "",
        blkid: ("*", "linux_raid_member"),
    },
    Case {
        name: "MD 1.2",
        needs: &[],
        make: || {
            let i = Image::new(8 * MIB);
            i.put(4096, &md1(8));
            i
        },
        verdict: Verdict::Claimed,
        reason: "member of the MD array \"0\"",
        note: "",
        blkid: ("", "linux_raid_member"),
    },
    Case {
        name: "a volume group's member, and an MBR over its first sector",
        needs: &["sfdisk"],
        make: || {
            let i = nested();
            i.put(512, &pv(64 * MIB));
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "is an LVM2 physical volume, and has an MBR with 4 partitions in front of it, which is none of its; wipe the stale one",
        note: "",
        // LVM2 does not take a disk with partitions, and blkid names the MBR alone; nobody but the owner knows, so nothing is served.
        blkid: ("dos", ""),
    },
    Case {
        name: "an ISO image that also boots from a stick",
        needs: &[],
        make: || {
            let i = Image::new(16 * MIB);
            i.put(0, &one_partition(0x17, 0, 32_768)).put(32_768, &iso());
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "holds an ISO 9660 file system",
        note: "",
        // The partition begins with the image, at block 0, and is the same again: the image is data.
        blkid: ("dos", "iso9660"),
    },
    Case {
        name: "MD 0.90 at the end, the array's MBR at the start",
        needs: &["sfdisk"],
        make: || {
            let i = nested();
            i.put(64 * MIB - (64 << 10), &md0());
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "is an MD RAID member (metadata 0.90, at its end); the MBR with 4 partitions on it belongs to the array",
        note: "",
        blkid: ("*", "linux_raid_member"),
    },
    Case {
        name: "LUKS over a GPT whose backup survives",
        needs: &["sfdisk"],
        make: || {
            let i = gpt();
            let mut head = vec![0; 1 << 20];
            head[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
            i.put(0, &head);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds a LUKS1 encrypted volume",
        note: "it also has a GPT, but block 0 holds something that is no MBR",
        blkid: ("", "crypto_LUKS"),
    },
    Case {
        name: "swap under an MBR",
        needs: &["sfdisk", "mkswap"],
        make: || {
            let i = Image::new(64 * MIB);
            i.run("mkswap", &["-q"], "").sfdisk(NESTED);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds both an MBR with 4 partitions and a Linux swap area; wipe the stale one",
        note: "",
        blkid: ("dos", "swap"),
    },
    Case {
        name: "btrfs, and an MBR in the room that it leaves",
        needs: &["sfdisk"],
        make: || {
            let i = nested();
            let mut sb = [0; 4096];
            sb[48..56].copy_from_slice(&65_536u64.to_le_bytes());
            sb[64..72].copy_from_slice(b"_BHRfS_M");
            i.put(65_536, &sb);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds both an MBR with 4 partitions and a btrfs file system; wipe the stale one",
        note: "",
        blkid: ("dos", "*"),
    },
    Case {
        name: "an Apple map and an MBR in one block 0",
        needs: &["parted"],
        make: || {
            let i = Image::new(64 * MIB);
            for args in [&["mklabel", "mac"][..], &["mkpart", "x", "hfs", "2MiB", "8MiB"]] {
                let out = Command::new(tool("parted").unwrap())
                    .arg("-s")
                    .arg(&i.path)
                    .args(args)
                    .output()
                    .unwrap();
                assert!(out.status.success());
            }
            let mut front = one_partition(0xaf, 4096, 12_288);
            front[..8].copy_from_slice(&fs::read(&i.path).unwrap()[..8]);
            i.put(0, &front);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds both an MBR with 1 partition and an Apple partition map; wipe the stale one",
        note: "",
        // blkid follows the MBR. Which of the two a machine boots by depends on the machine.
        blkid: ("dos", ""),
    },
    Case {
        name: "a BSD label behind an MBR that has its own partitions",
        needs: &["sfdisk", "parted"],
        make: || {
            let i = nested();
            let other = Image::new(64 * MIB);
            for args in [&["mklabel", "bsd"][..], &["mkpart", "ext2", "2MiB", "8MiB"]] {
                let out = Command::new(tool("parted").unwrap())
                    .arg("-s")
                    .arg(&other.path)
                    .args(args)
                    .output()
                    .unwrap();
                assert!(out.status.success());
            }
            i.put(512, &fs::read(&other.path).unwrap()[64..64 + 276]);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds both an MBR with 4 partitions and a BSD disk label; wipe the stale one",
        note: "",
        // blkid follows the MBR, and does not look behind it.
        blkid: ("dos", ""),
    },
    Case {
        name: "ext4 and the swap area that was there before",
        needs: &["mkfs.ext4", "mkswap"],
        make: || {
            let i = Image::new(8 * MIB);
            i.run("mkswap", &["-q"], "");
            let old = fs::read(&i.path).unwrap()[4086..4096].to_vec();
            i.run("mkfs.ext4", &["-q", "-F"], "").put(4086, &old);
            i
        },
        verdict: Verdict::Ambiguous,
        reason: "holds an ext4 file system and a Linux swap area",
        note: "",
        // blkid stops at ext4, whose superblock it meets first.
        blkid: ("", "ext4"),
    },
    Case {
        name: "noise",
        needs: &[],
        make: || {
            let i = Image::new(4 * MIB);
            i.put(0, &[0xa7; 8192]);
            i
        },
        verdict: Verdict::Unclaimed,
        reason: "holds data of no format known here",
        note: "",
        blkid: ("", ""),
    },
];

/// Block 0 with one partition.
fn one_partition(kind: u8, start: u32, count: u32) -> Vec<u8> {
    let mut record = spec::mbr::Record::new(1);
    assert!(record.set(
        1,
        Some(spec::mbr::Entry {
            active: true,
            kind,
            start,
            count
        })
    ));
    record.to_bytes().to_vec()
}

/// The primary volume descriptor of an ISO image.
fn iso() -> Vec<u8> {
    let mut block = vec![0; 4096];
    block[..7].copy_from_slice(b"\x01CD001\x01");
    block[40..72].fill(b' ');
    block[2048..2055].copy_from_slice(b"\xffCD001\x01");
    block
}

/// The label of a physical volume, in sector 1.
fn pv(size: u64) -> Vec<u8> {
    let mut label = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| label[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"LABELONE");
    put(8, &1u64.to_le_bytes());
    put(20, &32u32.to_le_bytes());
    put(24, b"LVM2 001");
    put(32, b"abcdefghijklmnopqrstuvwxyz012345");
    put(64, &size.to_le_bytes());
    put(72, &MIB.to_le_bytes());
    put(104, &4096u64.to_le_bytes());
    put(112, &(MIB - 4096).to_le_bytes());
    let crc = spec::lvm2::crc(0xf597_a6cf, &label[20..]);
    label[16..20].copy_from_slice(&crc.to_le_bytes());
    label
}

/// An MD superblock of version 0.90.
fn md0() -> Vec<u8> {
    let mut sb = vec![0u8; 4096];
    sb[..4].copy_from_slice(&0xa92b_4efcu32.to_le_bytes());
    sb[8..12].copy_from_slice(&90u32.to_le_bytes());
    sb
}

/// An MD superblock of version 1.x that says it is at sector `at`, with the checksum md(4) wants.
fn md1(at: u64) -> Vec<u8> {
    md1_of(at, 0..0)
}

/// The same of a member with its data there.
fn md1_of(at: u64, data: Range<u64>) -> Vec<u8> {
    let mut sb = vec![0u8; 256 + 4];
    let mut put = |at: usize, bytes: &[u8]| sb[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efcu32.to_le_bytes());
    put(4, &1u32.to_le_bytes());
    put(16, &[0x11; 16]);
    put(32, b"host:0");
    put(72, &1u32.to_le_bytes());
    put(92, &2u32.to_le_bytes());
    put(128, &data.start.to_le_bytes());
    put(136, &(data.end - data.start).to_le_bytes());
    put(144, &at.to_le_bytes());
    put(220, &2u32.to_le_bytes());
    let sum: u64 = sb
        .chunks_exact(4)
        .map(|w| u64::from(u32::from_le_bytes(w.try_into().unwrap())))
        .sum();
    let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
    sb[216..220].copy_from_slice(&sum.to_le_bytes());
    sb
}

#[test]
fn the_gallery_gets_the_verdicts_it_should_and_blkid_agrees_where_we_say_so() {
    let mut failed = Vec::new();
    for case in GALLERY {
        if !have(case.needs) {
            continue;
        }
        let image = (case.make)();
        let found = image.judge();
        let notes = found.notes.join("\n");
        let note_ok = if case.note.is_empty() {
            true
        } else {
            notes.contains(case.note)
        };
        if found.verdict != case.verdict || found.reason != case.reason || !note_ok {
            failed.push(format!(
                "{}: {:?}, {:?}, notes {notes:?}",
                case.name, found.verdict, found.reason
            ));
        }
        assert_eq!(
            found.nodes.is_empty() && found.member.is_none(),
            found.verdict != Verdict::Claimed,
            "{}",
            case.name
        );
        if tool("blkid").is_some() {
            let (table, kind) = image.blkid();
            let same = |theirs: &str, wanted: &str| wanted == "*" || theirs == wanted;
            if !same(&table, case.blkid.0) || !same(&kind, case.blkid.1) {
                failed.push(format!("{}: blkid says {table:?} and {kind:?}", case.name));
            }
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn other_owners_are_named() {
    type Make = (&'static str, &'static [&'static str], u64, &'static str);
    const MAKERS: [Make; 6] = [
        (
            "mkfs.xfs",
            &["-q", "-L", "x"],
            320 * MIB,
            "holds an XFS file system \"x\"",
        ),
        (
            "mkfs.btrfs",
            &["-q", "-L", "b"],
            128 * MIB,
            "holds a btrfs file system \"b\"",
        ),
        ("mkfs.ntfs", &["-q", "-F", "-f"], 8 * MIB, "holds an NTFS file system"),
        ("mkfs.ext2", &["-q", "-F"], 4 * MIB, "holds an ext2 file system"),
        ("mkfs.ext3", &["-q", "-F"], 16 * MIB, "holds an ext3 file system"),
        (
            "pvcreate",
            &["-q", "--devicesfile", "", "--config", "devices{scan_lvs=0}"],
            16 * MIB,
            "holds an LVM2 physical volume",
        ),
    ];
    for (program, args, size, reason) in MAKERS {
        // LVM takes files only through loop devices, so its label is put there by hand below.
        if program == "pvcreate" || !have(&[program]) {
            continue;
        }
        let image = Image::new(size);
        image.run(program, args, "");
        let found = image.judge();
        assert_eq!(
            (found.verdict, found.reason.as_str()),
            (Verdict::Unclaimed, reason),
            "{program}"
        );
    }
    let image = Image::new(4 * MIB);
    let mut label = b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001".to_vec();
    label.resize(512, 0);
    image.put(512, &label);
    let said = image.judge();
    assert_eq!(said.verdict, Verdict::Unclaimed);
    assert!(
        said.reason
            .starts_with("has an LVM2 label that cannot be used: the label's checksum is"),
        "{said:?}"
    );
    if have(&["cryptsetup"]) {
        for (kind, reason) in [
            ("luks1", "holds a LUKS1 encrypted volume"),
            ("luks2", "holds a LUKS2 encrypted volume"),
        ] {
            let image = Image::new(32 * MIB);
            let out = Command::new(tool("cryptsetup").unwrap())
                .args([
                    "luksFormat",
                    "-q",
                    "--type",
                    kind,
                    "--pbkdf",
                    "pbkdf2",
                    "--pbkdf-force-iterations",
                    "1000",
                    "--key-file",
                    "-",
                ])
                .arg(&image.path)
                .stdin(Stdio::from(File::open(&image.path).unwrap()))
                .output()
                .unwrap();
            if !out.status.success() {
                reactor::testing::skip(
                    &format!("a disk of {kind}"),
                    String::from_utf8_lossy(&out.stderr).trim(),
                );
                continue;
            }
            assert_eq!(image.judge().reason, reason);
        }
    }
}

#[test]
fn judging_writes_nothing() {
    if !have(&["sfdisk"]) {
        return;
    }
    for image in [gpt(), nested()] {
        let before = (fs::read(&image.path).unwrap(), fs::metadata(&image.path).unwrap());
        assert_eq!(image.judge().verdict, Verdict::Claimed);
        let after = (fs::read(&image.path).unwrap(), fs::metadata(&image.path).unwrap());
        assert!(before.0 == after.0, "the image changed");
        let times = |m: &fs::Metadata| (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.blocks());
        assert_eq!(times(&before.1), times(&after.1));
    }
}

/// A disk that refuses to read these blocks, and counts how often.
struct Worn<'a> {
    disk: ReadOnly,
    lost: &'a [Extent],
    refused: AtomicUsize,
}

impl Source for Worn<'_> {
    fn read(&self, extent: Extent) -> Reading<'_> {
        if self.lost.iter().any(|lost| lost.overlaps(extent)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Box::pin(async { Err("medium error".into()) });
        }
        self.disk.read(extent)
    }
}

impl Image {
    fn judge_without(&self, lost: &[Extent]) -> (Findings, usize) {
        let source = Worn {
            disk: ReadOnly {
                file: File::open(&self.path).unwrap(),
                block_size: 512,
            },
            lost,
            refused: AtomicUsize::new(0),
        };
        let found = now(async {
            let probe = Probe::new("d", Uuid::from_u128(7), self.size() / 512, 512, &source).await;
            judge::judge(Registry::builtin(), probe).await
        });
        (found, source.refused.into_inner())
    }
}

#[test]
fn a_disk_that_cannot_be_read_says_where() {
    let image = Image::new(4 * MIB);
    let (found, _) = image.judge_without(&[Extent::new(8001, 1)]);
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (Verdict::Unreadable, "blocks 8000..8008 cannot be read: medium error")
    );
    // One that answers nothing is not asked for each of its blocks.
    let (found, refused) = image.judge_without(&[Extent::new(0, 8192)]);
    assert_eq!(
        (found.verdict, found.reason.as_str()),
        (Verdict::Unreadable, "blocks 0..144 cannot be read: medium error")
    );
    assert!(refused <= 32, "{refused} reads");
}

#[test]
fn bad_sectors_in_what_is_in_an_array_are_the_arrays() {
    let (blocks, data) = (8192, 2048);
    let image = Image::new(blocks * 512);
    image.put(8 * 512, &md1_of(8, data..blocks));
    let (whole, _) = image.judge_without(&[]);
    assert_eq!(whole.verdict, Verdict::Claimed, "{whole:?}");
    let bad = [Extent::new(blocks - 1, 1), Extent::new(blocks - 200, 3)];
    let (worn, _) = image.judge_without(&bad);
    let notes = [
        "blocks 7992..8000 cannot be read: medium error",
        "blocks 8184..8192 cannot be read: medium error",
    ];
    assert_eq!(
        (worn.verdict, &worn.reason, &worn.member),
        (Verdict::Claimed, &whole.reason, &whole.member)
    );
    assert!(worn.notes.ends_with(&notes.map(String::from)), "{:?}", worn.notes);
    // The one in its superblock is its own.
    let (worn, _) = image.judge_without(&[Extent::new(9, 1)]);
    assert_eq!(worn.verdict, Verdict::Unreadable, "{worn:?}");
}

#[test]
fn whatever_is_lost_of_a_disk_it_is_what_it_was_or_nobody_knows() {
    let gallery = GALLERY.iter().filter(|case| have(case.needs));
    let mut images: Vec<(&str, Image)> = gallery.map(|case| (case.name, (case.make)())).collect();
    let member = Image::new(8 * MIB);
    member.put(8 * 512, &md1_of(8, 64..16384));
    images.push(("a member of an array", member));
    if have(&["sfdisk"]) {
        for label in ["gpt", "dos"] {
            let filled = Image::new(8 * MIB);
            filled.run("sfdisk", &["-q"], &format!("label: {label}\nfirst-lba: 64\nstart=64\n"));
            images.push((label, filled));
        }
    }
    let (mut failed, mut same, mut unknown) = (Vec::new(), 0, 0);
    for (name, image) in images {
        let (whole, _) = image.judge_without(&[]);
        let ends = probe::ends(image.size() / 512, 512);
        for at in ends
            .iter()
            .flat_map(|end| (end.start..end.start + end.count).step_by(8))
        {
            let (worn, _) = image.judge_without(&[Extent::new(at, 1)]);
            let is_same = (worn.verdict, &worn.reason, &worn.nodes) == (whole.verdict, &whole.reason, &whole.nodes);
            match worn.verdict {
                Verdict::Unreadable => unknown += 1,
                _ if is_same => same += 1,
                _ => failed.push(format!("{name} without {at}: {worn:?}")),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Otherwise nothing was looked at.
    assert!(same >= 40 && unknown > 100, "{same} as before, {unknown} unknown");
}
