//! Bare metal: a target is backed up, its state is wiped, then the metadata of its disks too, and `ashlar config restore` makes it the target it was.
use blackbox::config::Config;
use blackbox::image::{self, MIB, sha256};
use blackbox::iscsi::Iscsi;
use blackbox::pattern::Random;
use blackbox::{Loops, Ports, Server, Tool, ashlar, needs, rpc, skip};
use serde_json::{Value, json};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn ask(dir: &Path, method: &str) -> Value {
    rpc::call(&dir.join("rpc.sock"), method, json!({})).unwrap_or_else(|why| panic!("{why}"))
}

/// Everything there is to know once discovery rests, without what counts how often somebody has looked.
fn tree(dir: &Path) -> Value {
    ask(dir, "bdev_wait_for_examine");
    let mut all: Vec<Value> = [
        "ashlar_get_disks",
        "ashlar_get_groups",
        "ashlar_get_volumes",
        "ashlar_get_config",
        "bdev_get_bdevs",
    ]
    .iter()
    .map(|method| ask(dir, method))
    .collect();
    for disk in all[0].as_array_mut().expect("disks") {
        disk["tasted"] = Value::Null;
        disk["node"]["id"] = Value::Null;
        disk["node"]["opens"] = Value::Null;
        // In the order in which they came, which is another one when labels are put back one by one.
        for key in ["above", "below", "aliases"] {
            if let Some(names) = disk["node"][key].as_array_mut() {
                names.sort_by_key(Value::to_string);
            }
        }
    }
    for volume in all[2].as_array_mut().expect("volumes") {
        volume["opens"] = Value::Null;
    }
    let bdevs = all[4].as_array_mut().expect("disks");
    bdevs.sort_by_key(|bdev| bdev["name"].to_string());
    Value::from(all)
}

/// Volumes that hosts can reach, once there are so many.
fn served(dir: &Path, count: usize) -> Vec<rpc::Volume> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let volumes = rpc::volumes(&dir.join("rpc.sock"));
        if volumes
            .iter()
            .filter(|volume| volume.iscsi.is_some() && volume.nvme.is_some())
            .count()
            == count
        {
            return volumes;
        }
        assert!(Instant::now() < until, "{count} volumes should be served: {volumes:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes that follow from the volume's name.
fn data(volume: &str) -> Vec<u8> {
    let seed = volume
        .bytes()
        .fold(7u64, |seed, byte| seed.wrapping_mul(131) + u64::from(byte));
    Random::new(seed).bytes(64 * 1024)
}

/// A host's writes in several places of each volume, or what it reads there.
fn host(dir: &Path, ports: Ports, write: bool) {
    for volume in served(dir, VOLUMES.len()) {
        let (iqn, lun) = volume.iqn();
        let mut host = Iscsi::login(ports.iscsi, iqn, lun).expect("log in");
        let data = data(&volume.name);
        for lba in [0, 4096, 16_000] {
            match write {
                true => host.write(lba, &data).expect("write"),
                false => assert!(host.read(lba, 128).expect("read") == data, "{} at {lba}", volume.name),
            }
        }
        host.flush().expect("flush");
    }
}

const VOLUMES: [&str; 4] = ["d0p1", "data/a", "data/b", "link/big"];

/// Two partitions, a group on one of them and on two disks, a link of two disks.
struct House {
    dir: PathBuf,
    files: Vec<PathBuf>,
    config: String,
    ports: Ports,
}

impl House {
    fn build(dir: &Path) -> (House, Server) {
        let ports = Ports::free();
        let files: Vec<PathBuf> = (0..5).map(|at| dir.join(format!("d{at}.img"))).collect();
        files.iter().for_each(|file| image::sparse(file, 64 * MIB));
        let mut config = Config::new(&dir.join("state"), ports);
        for (at, file) in files.iter().enumerate() {
            config = config.file(&format!("d{at}"), file);
        }
        let config = config.volumes(&VOLUMES).yaml();
        let server = Server::start(dir, &config);
        ashlar(dir, &["label", "create", "d0"]).ok();
        ashlar(dir, &["partition", "create", "d0", "--size", "20m", "--name", "first"]).ok();
        ashlar(dir, &["partition", "create", "d0", "--size", "36m", "--type", "lvm"]).ok();
        ashlar(dir, &["lvm", "vgcreate", "data", "d1", "d2", "d0p2"]).ok();
        ashlar(dir, &["lvm", "lvcreate", "-n", "a", "-L", "40m", "-i", "2", "data"]).ok();
        ashlar(dir, &["lvm", "lvcreate", "-n", "b", "-L", "70m", "data"]).ok();
        ashlar(dir, &["do", "link-create", "big", "disks=d3,d4"]).ok();
        let house = House {
            dir: dir.to_path_buf(),
            files,
            config,
            ports,
        };
        host(dir, ports, true);
        (house, server)
    }

    /// What stock tools make of the disks.
    fn strangers(&self) -> Vec<String> {
        let mut said = vec![
            Tool::new("sfdisk")
                .arg("--dump")
                .arg(&self.files[0])
                .env("PATH", image::path())
                .ok(),
        ];
        let loops: Vec<String> = self.files[1..3].iter().map(|file| file.display().to_string()).collect();
        for file in loops {
            said.push(
                Tool::new("pvck")
                    .args(["--dump", "metadata", &file])
                    .env("PATH", image::path())
                    .ok(),
            );
        }
        said.extend(self.lvm());
        said
    }

    /// What the real LVM2 says of the group, its volumes and members; nothing where there are no loop devices.
    fn lvm(&self) -> Vec<String> {
        const REPORTS: [&[&str]; 3] = [
            &[
                "vgs",
                "-o",
                "vg_name,vg_uuid,vg_attr,pv_count,lv_count,vg_seqno,vg_size,vg_free",
            ],
            &[
                "lvs",
                "--segments",
                "-o",
                "lv_name,lv_uuid,lv_attr,lv_size,segtype,stripes,stripe_size,seg_start",
            ],
            &["pvs", "-o", "pv_uuid,vg_name,pv_attr,pv_size,pv_free", "-O", "pv_uuid"],
        ];
        let story = "LVM2's view of what was restored";
        if !needs(story, &["lvm", "losetup"]) {
            return Vec::new();
        }
        let Some(mut loops) = Loops::over(story, &self.files[1..3]) else {
            return Vec::new();
        };
        // The third member is the second partition of the first disk.
        if !loops.add_window(story, &self.files[0], 21 * MIB, 36 * MIB) {
            return Vec::new();
        }
        let report = |args: &&[&str]| loops.lvm(&[args, &["--units", "b", "--noheadings"][..]].concat());
        let said: Vec<String> = REPORTS.iter().map(report).collect();
        assert!(said[0].contains("data") && said[1].contains("striped"), "{said:?}");
        said
    }

    fn sums(&self) -> Vec<String> {
        self.files.iter().map(|file| sha256(file)).collect()
    }

    /// Runs of bytes of each disk that hold labels, texts and records, and room for what these were before.
    fn metadata(&self) -> [Vec<(u64, u64)>; 5] {
        let front = || vec![(0, MIB)];
        // The second partition begins where the first ends; the backup of the GPT is at the end.
        let first = vec![(0, MIB), (21 * MIB, MIB), (63 * MIB, MIB)];
        [first, front(), front(), front(), front()]
    }

    /// Zeros there; the data stays.
    fn wipe(&self) {
        for (file, runs) in self.files.iter().zip(self.metadata()) {
            let file = fs::File::options().write(true).open(file).expect("open a disk");
            for (at, len) in runs {
                file.write_all_at(&vec![0; len as usize], at).expect("wipe");
            }
        }
    }

    /// A sum of everything else on each disk: a group's older texts, which nobody reads any more, do not come back.
    fn data(&self) -> Vec<u64> {
        let sum = |(file, runs): (&PathBuf, Vec<(u64, u64)>)| {
            let mut bytes = fs::read(file).expect("read a disk");
            for (at, len) in runs {
                bytes[at as usize..(at + len) as usize].fill(0);
            }
            let mut sum = DefaultHasher::new();
            sum.write(&bytes);
            sum.finish()
        };
        self.files.iter().zip(self.metadata()).map(sum).collect()
    }
}

#[test]
fn a_target_that_was_wiped_is_the_one_it_was() {
    let story = "backup and bare metal";
    if !needs(story, &["sfdisk"]) {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let (house, server) = House::build(home.path());
    let dir = house.dir.as_path();
    let pvck = Tool::new("sh")
        .args(["-c", "command -v pvck"])
        .env("PATH", image::path())
        .output();
    if !pvck.status.success() {
        skip(story, "pvck is missing");
        return;
    }
    let (before, sums_live) = (tree(dir), ask(dir, "ashlar_get_plans"));
    let file = dir.join("ashlar.backup");
    let path = file.to_str().expect("a path");
    let said = ashlar(dir, &["config", "backup", path]).ok();
    assert!(said.contains("1 volume groups"), "{said}");
    assert_eq!(
        fs::metadata(&file).expect("the backup").permissions().mode() & 0o777,
        0o600
    );
    // All is as it was: nothing to do, and it says so.
    let said = ashlar(dir, &["config", "restore", path]).ok();
    assert_eq!(said.matches("left alone").count(), 6, "{said}");
    server.stop();
    let (strangers, sums, data) = (house.strangers(), house.sums(), house.data());
    assert!(strangers[0].contains("first"), "{}", strangers[0]);
    let read_back = |wiped: bool| {
        fs::remove_dir_all(dir.join("state")).expect("wipe the state");
        if wiped {
            house.wipe();
            assert_ne!(house.sums(), sums);
        }
        let (state, yaml) = (dir.join("state"), dir.join(format!("again-{wiped}.yaml")));
        let words = [
            "config",
            "restore",
            path,
            "--state",
            state.to_str().expect("a path"),
            "--config",
            yaml.to_str().expect("a path"),
        ];
        let said = ashlar(dir, &words).ok();
        assert!(said.contains("the configuration"), "{said}");
        // Twice is once too often: a target may have been at work there since.
        let why = ashlar(dir, &words).fails();
        assert!(why.contains("is not empty"), "{why}");
        let server = Server::start(dir, &house.config);
        if wiped {
            let said = ashlar(dir, &["--json", "disk", "ls"]).ok();
            assert!(!said.contains("data/a"), "{said}");
            let plan = ashlar(dir, &["config", "restore", path, "--dry-run"]).ok();
            assert!(
                plan.contains("start of the gpt metadata") && plan.contains("when what it lies on is there"),
                "{plan}"
            );
            let said = ashlar(dir, &["config", "restore", path]).ok();
            assert_eq!(said.matches("restored").count(), 6, "{said}");
        } else {
            // What was planned before is known again.
            assert_eq!(ask(dir, "ashlar_get_plans"), sums_live);
        }
        host(dir, house.ports, false);
        let said = ashlar(dir, &["config", "restore", path]).ok();
        assert_eq!(said.matches("left alone").count(), 6, "{said}");
        assert_eq!(tree(dir), before);
        server.stop();
        assert_eq!(house.strangers(), strangers);
        assert_eq!(house.data(), data);
        // Where there was nothing older, every byte is what it was.
        assert_eq!(house.sums()[3..], sums[3..]);
        assert!(wiped || house.sums() == sums);
        // The configuration that was kept is one.
        ashlar(dir, &["config", "check", yaml.to_str().expect("a path")]).ok();
    };
    read_back(false);
    read_back(true);
}

#[test]
fn a_backup_that_is_not_whole_is_refused_and_says_why() {
    let home = tempfile::tempdir().expect("a folder");
    let (house, server) = House::build(home.path());
    let dir = house.dir.as_path();
    let file = dir.join("ashlar.backup");
    let path = file.to_str().expect("a path");
    ashlar(dir, &["config", "backup", path]).ok();
    let good = fs::read(&file).expect("the backup");
    let before = tree(dir);
    let refused = |bytes: &[u8], says: &str| {
        fs::write(&file, bytes).expect("damage it");
        for words in [
            &["config", "restore", path][..],
            &["config", "restore", path, "--state", "new"],
        ] {
            let why = ashlar(dir, words).fails();
            assert!(why.contains(says) && why.contains("ashlar.backup"), "{why}");
        }
    };
    refused(&good[..good.len() / 2], "cut short");
    refused(&good[..good.len() - 1], "cut short");
    refused(&good[..10], "no backup");
    let mut flipped = good.clone();
    flipped[good.len() / 3] ^= 0x04;
    refused(&flipped, "checksum");
    // What is in the place of the file and is no backup stays.
    fs::write(&file, "dear diary").expect("write");
    let why = ashlar(dir, &["config", "backup", path]).fails();
    assert!(why.contains("no backup"), "{why}");
    assert_eq!(fs::read(&file).expect("read"), b"dear diary");
    // What is on a disk and is somebody else's stays, and then nothing is written anywhere.
    fs::write(&file, &good).expect("the good one");
    server.stop();
    house.wipe();
    let other = Config::new(&dir.join("other"), house.ports)
        .file("d0", &house.files[0])
        .file("d1", &house.files[1]);
    let server = Server::start(dir, &other.yaml().replace("volumes:\n", "volumes: []\n"));
    ashlar(dir, &["label", "create", "d1", "--scheme", "dos"]).ok();
    ashlar(dir, &["partition", "create", "d1", "--size", "4m"]).ok();
    let sums = house.sums();
    let why = ashlar(dir, &["config", "restore", path]).fails();
    assert!(why.contains("\"d1\" is refused"), "{why}");
    assert_eq!(house.sums(), sums);
    let answer = rpc::call(&dir.join("rpc.sock"), "ashlar_restore_config", json!({ "file": file })).expect("a report");
    let codes: Vec<(&str, &str)> = answer["disks"]
        .as_array()
        .expect("disks")
        .iter()
        .map(|disk| {
            (
                disk["disk"].as_str().unwrap_or_default(),
                disk["code"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert!(
        codes.contains(&("d1", "not_blank")) && codes.contains(&("d2", "not_found")),
        "{codes:?}"
    );
    let said = ashlar(dir, &["config", "restore", path, "--only", "d0"]).ok();
    assert!(said.contains("d0: restored"), "{said}");
    let disks = ask(dir, "ashlar_get_disks").to_string();
    assert!(disks.contains("d0p1") && before.to_string().contains("d0p1"), "{disks}");
    server.stop();
}

#[test]
fn disks_that_were_lost_are_replaced_by_ones_of_another_size() {
    let story = "restored onto replacements";
    if !needs(story, &["sfdisk"]) {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let (house, server) = House::build(home.path());
    let dir = house.dir.as_path();
    let file = dir.join("ashlar.backup");
    let path = file.to_str().expect("a path");
    ashlar(dir, &["config", "backup", path]).ok();
    let groups = |dir: &Path| {
        let mut groups = ask(dir, "ashlar_get_groups");
        for group in groups.as_array_mut().expect("groups") {
            group["notes"] = Value::Null;
        }
        groups
    };
    let before = groups(dir);
    server.stop();
    let others = [house.sums()[2].clone(), house.sums()[3].clone()];

    // One that is smaller does not do, and then none is written.
    image::sparse(&house.files[0], 80 * MIB);
    image::sparse(&house.files[1], 48 * MIB);
    let server = Server::start(dir, &house.config);
    let blank = [house.sums()[0].clone(), house.sums()[1].clone()];
    let why = ashlar(dir, &["config", "restore", path]).fails();
    assert!(why.contains("\"d1\" is refused") && why.contains("too small"), "{why}");
    assert_eq!(house.sums()[..2], blank);
    server.stop();

    // Larger ones do: partitions, group and link are what they were.
    image::sparse(&house.files[1], 96 * MIB);
    let server = Server::start(dir, &house.config);
    let plan = ashlar(dir, &["config", "restore", path, "--dry-run"]).ok();
    assert!(plan.contains("blocks more"), "{plan}");
    let said = ashlar(dir, &["config", "restore", path]).ok();
    assert_eq!(said.matches("restored").count(), 3, "{said}");
    assert_eq!(said.matches("left alone").count(), 3, "{said}");
    served(dir, VOLUMES.len());
    assert_eq!(groups(dir), before);
    let said = ashlar(dir, &["config", "restore", path]).ok();
    assert_eq!(said.matches("left alone").count(), 6, "{said}");

    // What is more of them is there to be used.
    ashlar(dir, &["label", "repair", "d0"]).ok();
    ashlar(dir, &["partition", "create", "d0", "--size", "12m", "--name", "more"]).ok();
    ashlar(dir, &["lvm", "pvresize", "d1"]).ok();
    ashlar(dir, &["lvm", "lvcreate", "-n", "more", "-L", "28m", "data", "d1"]).ok();
    server.stop();
    let table = Tool::new("sfdisk")
        .arg("--dump")
        .arg(&house.files[0])
        .env("PATH", image::path())
        .ok();
    assert!(table.contains("\"first\"") && table.contains("\"more\""), "{table}");
    if let Some(said) = house.lvm().get(1) {
        assert!(said.contains("more") && said.contains("a "), "{said}");
    }
    assert_eq!(house.sums()[3], others[1]);
    assert_ne!(house.sums()[2], others[0], "its text is the newer one");
}
