//! mdadm's options for our arrays: what is asked is done, and what is printed is what mdadm prints.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::serve::ashlar;
use blackbox::tool::tree;
use blackbox::{Ports, Server, Tool, needs, rpc, wait_for};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The words before the colons.
fn keys(text: &str) -> Vec<String> {
    let key = |line: &str| Some(line.split_once(" : ")?.0.trim().to_owned());
    text.lines().filter_map(key).collect()
}

/// The same of both, for a file.
fn examined_alike(dir: &Path, file: &Path) {
    let wanted = Tool::new("mdadm").arg("--examine").arg(file).env("TZ", "UTC").ok();
    let told = ashlar(dir, &["mdadm", "--examine", &file.to_string_lossy()]).ok();
    assert_eq!(told, wanted, "{}", file.display());
}

#[test]
fn mdadms_options_do_what_they_do_there() {
    let story = "mdadm's options";
    if !needs(story, &["mdadm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let file = |at: usize| -> PathBuf { dir.join(format!("d{at}.img")) };
    let mut config = Config::new(dir, Ports::free());
    for at in 0..6 {
        image::sparse(&file(at), 24 * MIB);
        config = config.file(&format!("d{at}"), &file(at));
    }
    let server = Server::start(dir, &config.yaml().replace("volumes:\n", "volumes: []\n"));
    let mdadm = |line: &str| {
        let words: Vec<&str> = ["mdadm"].into_iter().chain(line.split(' ')).collect();
        ashlar(dir, &words)
    };
    let array = || {
        let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_arrays", json!({"name": "md/data"}));
        told.map(|mut all| all[0].take()).unwrap_or_default()
    };
    let is = |state: &str| array()["state"] == state;
    let extras = || array()["extras"].clone();

    let said = mdadm("--create /dev/md/data --level=5 --raid-devices=3 --spare-devices=1 d0 d1 d2 d3").ok();
    assert_eq!(said, "mdadm: array /dev/md/data started.\n");
    mdadm("/dev/md/data --wait").ok();
    wait_for("the array", || is("whole"));
    assert_eq!(extras(), json!([{"disk": "d3", "state": "spare"}]));
    (0..4).for_each(|at| examined_alike(dir, &file(at)));

    // Every field of --detail is one of mdadm's.
    let program = ["/sbin/mdadm", "/usr/sbin/mdadm"]
        .into_iter()
        .find_map(|path| fs::read(path).ok());
    let program = String::from_utf8_lossy(&program.expect("mdadm is installed")).into_owned();
    let detail = mdadm("--detail /dev/md/data").ok();
    let told = keys(&detail);
    assert!(told.len() >= 18, "{detail}");
    for key in &told {
        assert!(
            program.contains(&format!("{key} : ")),
            "{key:?} is no field of mdadm's:\n{detail}"
        );
    }
    for line in [
        "     Total Devices : 4",
        "     Spare Devices : 1",
        "       -        -        -        -      spare   d3",
    ] {
        assert!(detail.lines().any(|told| told == line), "{line:?} is not in\n{detail}");
    }

    // Spares go and come; a member fails, is taken out, and another is rebuilt.
    assert_eq!(
        mdadm("/dev/md/data --remove d3").ok(),
        "mdadm: hot removed d3 from md/data\n"
    );
    assert_eq!(extras(), json!([]));
    mdadm("/dev/md/data --remove d0").fails();
    assert_eq!(
        mdadm("/dev/md/data --fail d1").ok(),
        "mdadm: set d1 faulty in md/data\n"
    );
    wait_for("a failure", || extras() == json!([{"disk": "d1", "state": "failed"}]));
    let detail = mdadm("--detail md/data").ok();
    assert!(
        detail.contains("    Failed Devices : 1\n") && detail.contains("faulty   d1"),
        "{detail}"
    );
    assert_eq!(mdadm("md/data --re-add d1").ok(), "mdadm: re-added d1\n");
    wait_for("its return", || is("whole"));
    let said = mdadm("md/data --fail d1 --remove failed detached --add d3").ok();
    assert_eq!(
        said,
        "mdadm: set d1 faulty in md/data\nmdadm: hot removed d1 from md/data\nmdadm: added d3\n"
    );
    wait_for("a rebuild", || is("whole"));
    assert_eq!(array()["members"][1]["disk"], "d3");
    Tool::new("mdadm").arg("--examine").arg(file(1)).fails();

    // One is replaced while it serves.
    assert_eq!(
        mdadm("md/data --replace d2 --with d4").ok(),
        "mdadm: Marked d2 in md/data for replacement by d4\n"
    );
    wait_for("the replacement", || {
        is("whole") && array()["members"][2]["disk"] == "d4"
    });
    // Its members have no more to give.
    let why = mdadm("--grow md/data --size=max").fails();
    assert!(why.len() > "ashlar: Invalid argument\n".len(), "{why}");

    // Out of service and back, by each of its names.
    assert_eq!(mdadm("--stop /dev/md/data").ok(), "mdadm: stopped /dev/md/data\n");
    assert_eq!(array(), Value::Null);
    let started = "mdadm: /dev/md/data has been started with 3 drives.\n";
    assert_eq!(mdadm("--assemble /dev/md/data").ok(), started);
    let line = detail.lines().find(|line| line.contains("UUID : ")).unwrap_or_default();
    let id = line.rsplit(' ').next().unwrap_or_default();
    mdadm("--stop --scan").ok();
    assert_eq!(mdadm(&format!("--assemble --uuid={id}")).ok(), started);
    mdadm("--stop md/data").ok();
    assert_eq!(mdadm("--assemble --scan").ok(), started);
    mdadm("--stop md/data").ok();
    rpc::call(&dir.join("rpc.sock"), "ashlar_delete_disk", json!({"name": "d0"})).expect("nobody has it");
    let why = mdadm("--assemble md/data").fails();
    assert!(why.contains("waits for 1 of its 3 members"), "{why}");
    assert_eq!(
        mdadm("--assemble --run md/data").ok(),
        "mdadm: /dev/md/data has been started with 2 drives (out of 3).\n"
    );

    // What cannot be is refused, with the way out.
    for (line, why) in [
        ("--assemble md/data /dev/sda", "found by themselves"),
        ("--stop md/other", "ashlar raid ls"),
        ("md/data", "nothing is asked"),
        ("md/data --replace d1 d2 --with d4", "each needs one"),
        ("--grow md/data --size=3.5", "expected max"),
        ("--detail --scan", "--scan goes with"),
    ] {
        let said = mdadm(line).fails();
        assert!(said.contains(why), "{line}: {said}");
    }
    let help = mdadm("--help").ok();
    assert!(
        help.contains("--re-add") && help.contains("ashlar mdadm --stop"),
        "{help}"
    );
    server.assert_no_panic();
    server.stop();
}

/// Superblocks of version 0.90 that Linux made: the same lines, also for a disk without any.
#[test]
fn metadata_0_90_is_examined_as_mdadm_does() {
    let story = "metadata 0.90";
    if !needs(story, &["mdadm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let mut seen = 0;
    for entry in fs::read_dir(tree().join("spec/tests/md/samples")).expect("samples") {
        let path = entry.expect("a sample").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".sb") || !name.contains("-0.90") {
            continue;
        }
        let member = dir.join(&name);
        image::sparse(&member, 12 * MIB);
        let superblock = fs::read(&path).expect("a superblock");
        // 64 KiB before the end, at a multiple of that.
        let file = File::options().write(true).open(&member).expect("a member");
        let at = 12 * MIB - (64 << 10);
        file.write_all_at(&superblock, at).expect("written");
        if let Ok(bitmap) = fs::read(path.with_extension("bitmap")) {
            file.write_all_at(&bitmap, at + 4096).expect("written")
        }
        examined_alike(dir, &member);
        seen += 1
    }
    assert!(seen >= 6, "only {seen}");
    let blank = dir.join("blank.img");
    image::sparse(&blank, MIB);
    let why = ashlar(dir, &["mdadm", "--examine", &blank.to_string_lossy()]).fails();
    assert!(why.contains("No md superblock detected"), "{why}");
}
