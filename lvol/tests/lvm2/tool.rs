//! The real LVM2 over files by way of loop devices, and what it says of its volumes.
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt,
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

/// True if every tool is there; else says what is skipped.
pub fn have(story: &str, tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().filter(|t| tool(t).is_none()).collect();
    if !missing.is_empty() {
        reactor::testing::skip(story, &format!("{missing:?} not installed (Debian: lvm2 fdisk mount)"));
    }
    missing.is_empty()
}

/// Partitions `image` by an sfdisk script.
pub fn sfdisk(image: &Path, script: &str) {
    let mut child = Command::new(tool("sfdisk").unwrap())
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Files as loop devices, and LVM2 that sees nothing else.
pub struct Lvm {
    dir: tempfile::TempDir,
    /// The files.
    pub images: Vec<PathBuf>,
    loops: Vec<String>,
    config: String,
    starts: BTreeMap<String, (usize, u64)>,
    /// Where the extents of each end.
    ends: BTreeMap<usize, u64>,
}

impl Lvm {
    /// Nothing, and a word why, where this cannot be done.
    pub fn new(story: &str, sizes: &[u64], sector: u32) -> Option<Self> {
        if !have(story, &["lvm", "losetup"]) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut lvm = Self {
            images: Vec::new(),
            loops: Vec::new(),
            config: String::new(),
            starts: BTreeMap::new(),
            ends: BTreeMap::new(),
            dir,
        };
        for (at, size) in sizes.iter().enumerate() {
            let path = lvm.dir.path().join(format!("d{at}.img"));
            File::create(&path).unwrap().set_len(*size).unwrap();
            let out = Command::new(tool("losetup").unwrap())
                .args(["--find", "--show", "--sector-size", &sector.to_string()])
                .arg(&path)
                .output()
                .unwrap();
            if !out.status.success() {
                let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
                reactor::testing::skip(story, &format!("no loop device: {why}"));
                return None;
            }
            lvm.loops.push(String::from_utf8(out.stdout).unwrap().trim().to_owned());
            lvm.images.push(path);
        }
        let ours: Vec<String> = lvm.loops.iter().map(|dev| format!("\"a|^{dev}$|\"")).collect();
        let here = lvm.dir.path().display();
        lvm.config = format!(
            "devices {{ filter=[{}, \"r|.*|\"] use_devicesfile=0 hints=\"none\" obtain_device_list_from_udev=0 external_device_info_source=\"none\" }} \
             global {{ locking_dir=\"{here}/lock\" use_lvmpolld=0 event_activation=0 system_id_source=\"none\" etc=\"{here}\" }} \
             backup {{ backup=0 archive=0 backup_dir=\"{here}\" archive_dir=\"{here}\" }} \
             activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}",
            ours.join(", ")
        );
        Some(lvm)
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One of LVM2's commands. `@0` is the first device.
    pub fn run(&self, command: &str, args: &[&str]) -> String {
        let out = self.output(command, args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{command} {args:?}: {said}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// Whether LVM2 does it.
    pub fn attempt(&self, command: &str, args: &[&str]) -> bool {
        self.output(command, args).status.success()
    }

    fn output(&self, command: &str, args: &[&str]) -> Output {
        let device = |arg: &&str| match arg.strip_prefix('@').and_then(|n| n.parse::<usize>().ok()) {
            Some(n) => self.loops[n].clone(),
            None => (*arg).to_owned(),
        };
        let args: Vec<String> = args.iter().map(device).collect();
        Command::new(tool("lvm").unwrap())
            .arg(command)
            .args(["--driverloaded", "n", "--config", &self.config])
            .args(&args)
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .env("LVM_SYSTEM_DIR", self.dir.path())
            .env("LC_ALL", "C")
            .output()
            .unwrap()
    }

    /// A volume that nobody activates.
    pub fn lvcreate(&self, group: &str, args: &[&str], on: &[&str]) {
        let all = [&["-an", "-Zn", "-Wn", "-y"], args, &[group], on].concat();
        self.run("lvcreate", &all);
    }

    /// Rows of `lvs`, `vgs` or `pvs`.
    pub fn report(&self, command: &str, fields: &str, more: &[&str]) -> Vec<BTreeMap<String, String>> {
        let args = [
            &["--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields],
            more,
        ]
        .concat();
        let said = self.run(command, &args);
        let json: Value = serde_json::from_str(&said).unwrap_or_else(|why| panic!("{command}: {why}: {said}"));
        let rows = &json["report"][0][command.trim_end_matches('s')];
        let rows = rows.as_array().or(json["report"][0]["seg"].as_array()).unwrap();
        rows.iter()
            .map(|row| {
                let row = row.as_object().unwrap().iter();
                row.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect()
            })
            .collect()
    }

    /// A group `mix` on the first two devices, with volumes of all kinds beside a linear one: RAID, snapshot, thin pool, one that is left out.
    pub fn mixed(&self) {
        self.run("vgcreate", &["-s", "1m", "mix", "@0", "@1"]);
        self.lvcreate("mix", &["-n", "plain", "-l", "2"], &[]);
        let backup = self.dir().join("mix.txt");
        let file = backup.to_str().unwrap();
        self.run("vgcfgbackup", &["-f", file, "mix"]);
        let text = std::fs::read_to_string(&backup).unwrap();
        let mut id = 0;
        let mut volume = |name: &str, visible: bool, flags: &str, segment: &str| {
            id += 1;
            let visible = if visible { ", \"VISIBLE\"" } else { "" };
            format!(
                "{name} {{\nid = \"zyxwvu-0000-0000-0000-0000-0000-{id:06}\"\nstatus = [\"READ\", \"WRITE\"{visible}]\nflags = [{flags}]\n\
                 segment_count = 1\nsegment1 {{\nstart_extent = 0\n{segment}\n}}\n}}\n"
            )
        };
        let at = |pv: u32, extent: u32| {
            format!("extent_count = 2\ntype = \"striped\"\nstripe_count = 1\nstripes = [\"pv{pv}\", {extent}]")
        };
        let more = [
            volume("r1", true, "", "extent_count = 2\ntype = \"raid1\"\ndevice_count = 2\nregion_size = 1024\nraids = [\"r1_rmeta_0\", \"r1_rimage_0\", \"r1_rmeta_1\", \"r1_rimage_1\"]"),
            volume("r1_rmeta_0", false, "", &at(0, 10).replace("count = 2", "count = 1")),
            volume("r1_rimage_0", false, "", &at(0, 11)),
            volume("r1_rmeta_1", false, "", &at(1, 10).replace("count = 2", "count = 1")),
            volume("r1_rimage_1", false, "", &at(1, 11)),
            volume("origin", true, "", &at(0, 20)),
            volume("cow", true, "", &at(0, 24)),
            volume("snapshot0", false, "", "extent_count = 2\ntype = \"snapshot\"\nchunk_size = 8\norigin = \"origin\"\ncow_store = \"cow\""),
            volume("skipped", true, "\"ACTIVATION_SKIP\"", &at(0, 28)),
            volume("pool", true, "", "extent_count = 2\ntype = \"thin-pool\"\nmetadata = \"pool_tmeta\"\npool = \"pool_tdata\"\ntransaction_id = 1\nchunk_size = 128\ndiscards = \"passdown\"\nzero_new_blocks = 1"),
            volume("pool_tmeta", false, "", &at(1, 20)),
            volume("pool_tdata", false, "", &at(1, 22)),
            volume("thin", true, "", "extent_count = 9\ntype = \"thin\"\nthin_pool = \"pool\"\ntransaction_id = 0\ndevice_id = 1"),
        ]
        .concat();
        let text = text.replacen("logical_volumes {\n", &format!("logical_volumes {{\n{more}"), 1);
        std::fs::write(&backup, text).unwrap();
        self.run("vgcfgrestore", &["--force", "-f", file, "mix"]);
    }

    /// `lvs` by segment.
    pub fn segments(&self) -> Vec<Segment> {
        let rows = self.report(
            "lvs",
            "lv_name,seg_start,seg_size,stripes,stripe_size,seg_pe_ranges",
            &[],
        );
        let mut all: Vec<Segment> = rows
            .iter()
            .map(|row| {
                let number = |key: &str| row[key].parse::<u64>().unwrap();
                let range = |text: &str| {
                    let (dev, range) = text.rsplit_once(':').unwrap();
                    let (first, _) = range.split_once('-').unwrap();
                    (dev.to_owned(), first.parse().unwrap())
                };
                Segment {
                    lv: row["lv_name"].clone(),
                    start: number("seg_start"),
                    size: number("seg_size"),
                    chunk: number("stripe_size"),
                    ranges: row["seg_pe_ranges"].split_whitespace().map(range).collect(),
                }
            })
            .collect();
        all.sort_by(|a, b| (&a.lv, a.start).cmp(&(&b.lv, b.start)));
        all
    }

    /// Device: which file it is, and where extent 0 begins.
    pub fn data_starts(&mut self) -> BTreeMap<String, (usize, u64)> {
        for row in self.report("pvs", "pv_name,pe_start,pv_pe_count,vg_extent_size", &[]) {
            let at = self.loops.iter().position(|dev| *dev == row["pv_name"]).unwrap();
            let number = |key: &str| row[key].parse::<u64>().unwrap();
            let start = number("pe_start");
            self.starts.insert(row["pv_name"].clone(), (at, start));
            self.ends
                .insert(at, start + number("pv_pe_count") * number("vg_extent_size"));
        }
        self.starts.clone()
    }

    /// Lets go of the devices; what was written is in the files then.
    pub fn detach(&mut self) {
        for dev in self.loops.drain(..) {
            let _ = Command::new("losetup").args(["-d", &dev]).status();
        }
    }

    /// Fills all extents with what tells where they are.
    pub fn fill(&self) {
        for (at, from) in self.starts.values() {
            let file = File::options().write(true).open(&self.images[*at]).unwrap();
            let end = self.ends[at];
            file.write_all_at(&pattern(*at, *from, end - from), *from).unwrap();
        }
    }
}

impl Drop for Lvm {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A line of `lvs --segments`; sizes in bytes.
#[derive(Clone, Debug)]
pub struct Segment {
    pub lv: String,
    pub start: u64,
    pub size: u64,
    pub chunk: u64,
    /// Device and first extent of each stripe.
    pub ranges: Vec<(String, u64)>,
}

/// Words that tell file and address.
fn pattern(file: usize, from: u64, len: u64) -> Vec<u8> {
    (0..len / 8)
        .flat_map(|word| ((file as u64 + 1) << 48 | (from + word * 8)).to_le_bytes())
        .collect()
}

/// File and address of byte `at` of a volume, by the book.
pub fn place(
    segments: &[Segment],
    lv: &str,
    starts: &BTreeMap<String, (usize, u64)>,
    extent: u64,
    at: u64,
) -> (usize, u64) {
    let mut of = segments.iter().filter(|s| s.lv == lv);
    let segment = of.find(|s| (s.start..s.start + s.size).contains(&at)).unwrap();
    let (offset, width) = (at - segment.start, segment.ranges.len() as u64);
    let (member, within) = match width {
        1 => (0, offset),
        _ => {
            let chunk = offset / segment.chunk;
            (chunk % width, chunk / width * segment.chunk + offset % segment.chunk)
        }
    };
    let (dev, first) = &segment.ranges[member as usize];
    let (file, start) = starts[dev];
    (file, start + first * extent + within)
}

/// What a volume must hold after `fill`.
pub fn content(segments: &[Segment], lv: &str, starts: &BTreeMap<String, (usize, u64)>, extent: u64) -> Vec<u8> {
    let len: u64 = segments.iter().filter(|s| s.lv == lv).map(|s| s.size).sum();
    assert!(len > 0, "LVM2 has no volume {lv}");
    // No chunk is shorter than 4 KiB.
    (0..len / 4096)
        .flat_map(|page| {
            let (file, at) = place(segments, lv, starts, extent, page * 4096);
            pattern(file, at, 4096)
        })
        .collect()
}
