//! A drawer of disks: a thousand of them with ten partitions each, and a group of ten thousand volumes. What is asserted leaves room for a
//! busy machine; what it takes is printed.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::serve::Start;
use blackbox::{Ports, Server, Tool, ashlar, needs, skip};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest that discovery may take on a machine that is slow or busy: on a quiet one it is 4 s, on one whose hypervisor gives it little it was 20.
const LIMIT: Duration = Duration::from_secs(55);

fn start(dir: &Path, config: &str) -> Server {
    let file = dir.join("ashlar.yaml");
    std::fs::write(&file, config).expect("write the configuration");
    // A tool that waits longer than the limit would hide what is too slow.
    Start::serve(dir, &file).serving().spawn()
}

fn told(server: &Server, what: &str) {
    let took = server.began.elapsed();
    let mib = server.rss() / 1024;
    println!("{what}: up and everything found in {took:?}, {mib} MiB resident");
    assert!(took < LIMIT, "{what} took {took:?}");
    assert!(mib < 1024, "{what}: {mib} MiB");
}

#[test]
fn alone_a_thousand_disks_of_ten_partitions() {
    if !needs("a thousand disks", &["sfdisk"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let script = "label: gpt\n".to_string() + &"size=1MiB\n".repeat(10);
    let mut config = Config::new(dir, Ports::free());
    for number in 0..1000 {
        let path = dir.join(format!("{number}.img"));
        image::sparse(&path, 16 * MIB);
        let mut sfdisk = Command::new("/usr/sbin/sfdisk");
        let sfdisk = sfdisk
            .args(["-q", "--no-reread", "--no-tell-kernel"])
            .arg(&path)
            .stdin(Stdio::piped());
        let mut child = sfdisk.spawn().expect("start sfdisk");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(script.as_bytes())
            .expect("tell sfdisk");
        assert!(child.wait().expect("wait for sfdisk").success());
        config = config.file(&format!("d{number}"), &path);
    }
    let server = start(dir, &config.volumes(&["d0p1"]).yaml());
    told(&server, "1,000 disks of 10 partitions");
    let began = Instant::now();
    let all: Value = serde_json::from_str(&ashlar(dir, &["disk", "ls", "--json"]).ok()).expect("JSON");
    println!("`ashlar disk ls --json` took {:?}", began.elapsed());
    let all = all.as_array().expect("a list");
    assert_eq!(all.len(), 11_000);
    assert_eq!(all.iter().filter(|disk| disk["partition"].is_object()).count(), 10_000);
    server.stop();
}

/// The text that `vgcfgbackup` would have written of this many volumes of one extent.
fn text(pv: &str, vg: &str, volumes: u64) -> String {
    let mut text = format!(
        "many {{\nid = \"{vg}\"\nseqno = 1\nformat = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []\nextent_size = 8\nmax_lv = 0\n\
         max_pv = 0\nmetadata_copies = 0\nphysical_volumes {{\npv0 {{\nid = \"{pv}\"\ndevice = \"x\"\nstatus = [\"ALLOCATABLE\"]\nflags = []\n\
         dev_size = 262144\npe_start = 65536\npe_count = 24576\n}}\n}}\nlogical_volumes {{\n"
    );
    for number in 0..volumes {
        let _ = write!(
            text,
            "v{number} {{\nid = \"{number:0>6}-0000-0000-0000-0000-0000-aaaaaa\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\n\
             creation_time = 1800000000\ncreation_host = \"here\"\nsegment_count = 1\nsegment1 {{\nstart_extent = 0\nextent_count = 1\ntype = \"striped\"\n\
             stripe_count = 1\nstripes = [\n\"pv0\", {number}\n]\n}}\n}}\n"
        );
    }
    text + "}\n}\ncontents = \"Text Format Volume Group\"\nversion = 1\ndescription = \"a test\"\ncreation_host = \"here\"\ncreation_time = 1800000000\n"
}

#[test]
fn alone_a_group_of_ten_thousand_volumes() {
    let story = "ten thousand volumes";
    if !needs(story, &["lvm", "losetup"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let path = dir.join("many.img");
    image::sparse(&path, 128 * MIB);
    let output = Tool::new("losetup").args(["--find", "--show"]).arg(&path).output();
    if !output.status.success() {
        return skip(story, "no loop device");
    }
    let device = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let lvm = |args: &[&str]| {
        let config = format!(
            "devices {{ filter=[\"a|^{device}$|\", \"r|.*|\"] use_devicesfile=0 hints=\"none\" obtain_device_list_from_udev=0 external_device_info_source=\"none\" }} \
             global {{ locking_dir=\"{0}/lock\" event_activation=0 system_id_source=\"none\" etc=\"{0}\" }} backup {{ backup=0 archive=0 }} \
             activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}",
            dir.display()
        );
        let tool = Tool::new("lvm")
            .arg(args[0])
            .args(["--driverloaded", "n", "--config", &config])
            .limit(Duration::from_secs(300));
        tool.args(&args[1..])
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .env("LVM_SYSTEM_DIR", dir)
            .ok()
    };
    let (pv, vg) = (
        "aaaaaa-0000-0000-0000-0000-0000-pppppp",
        "aaaaaa-0000-0000-0000-0000-0000-gggggg",
    );
    let file = dir.join("text");
    std::fs::write(&file, text(pv, vg, 10_000)).expect("write the text");
    let file = file.to_string_lossy().into_owned();
    lvm(&[
        "pvcreate",
        "-ff",
        "-y",
        "--metadatasize",
        "31m",
        "--dataalignment",
        "32m",
        "--uuid",
        pv,
        "--restorefile",
        &file,
        &device,
    ]);
    lvm(&["vgcfgrestore", "--force", "-f", &file, "many"]);

    let config = Config::new(dir, Ports::free())
        .file("disk", &path)
        .volumes(&["many/v7"]);
    let server = start(dir, &config.yaml());
    told(&server, "10,000 volumes");
    let began = Instant::now();
    let all: Value = serde_json::from_str(&ashlar(dir, &["lvm", "lvs", "--reportformat", "json"]).ok()).expect("JSON");
    println!("`ashlar lvm lvs` took {:?}", began.elapsed());
    assert_eq!(all["report"][0]["lv"].as_array().map(Vec::len), Some(10_000));
    let mut times = Vec::new();
    for number in 0..5 {
        let began = Instant::now();
        ashlar(
            dir,
            &[
                "lvm",
                "lvcreate",
                "-y",
                "-n",
                &format!("more{number}"),
                "-l",
                "3",
                "many",
            ],
        )
        .ok();
        times.push(began.elapsed());
    }
    times.sort();
    println!("one more volume took {times:?}");
    assert!(times[2] < Duration::from_secs(1), "{times:?}");
    server.stop();
    assert_eq!(lvm(&["vgs", "--noheadings", "-o", "lv_count", "many"]).trim(), "10005");
    Tool::new("losetup").args(["-d", &device]).output();
}
