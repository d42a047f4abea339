//! The engine is killed, stopped and killed in the middle of its writes. Hosts do not notice, and what it knew it knows again.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::serve::binary;
use blackbox::{Guest, Helper, Ports, Result, Server, Tool, ashlar, needs, rpc};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The engine's process and how often one was started.
fn engine(dir: &Path) -> (u32, u64) {
    let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_engine", json!({})).expect("an answer");
    let process = told["process"].as_u64().unwrap_or_default();
    (process as u32, told["starts"].as_u64().expect("a number of starts"))
}

fn signal(process: u32, signal: &str) {
    Tool::new("kill").args([signal, &process.to_string()]).ok();
}

/// Kills the engine and waits until there is another.
fn kill(dir: &Path) {
    let (process, starts) = engine(dir);
    signal(process, "-KILL");
    let until = Instant::now() + Duration::from_secs(20);
    while engine(dir).1 == starts || engine(dir).0 == 0 {
        assert!(
            Instant::now() < until,
            "no engine took the place of the one that was killed"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything there is to know once discovery rests: disks, groups, volumes, and the configuration they make; how often a disk was looked at aside.
fn tree(dir: &Path) -> Value {
    let socket = dir.join("rpc.sock");
    rpc::call(&socket, "bdev_wait_for_examine", json!({})).expect("an answer");
    let all = [
        "ashlar_get_disks",
        "ashlar_get_groups",
        "ashlar_get_volumes",
        "ashlar_get_config",
        "bdev_get_bdevs",
    ];
    let mut all: Vec<Value> = all
        .iter()
        .map(|method| rpc::call(&socket, method, json!({})).expect("an answer"))
        .collect();
    for disk in all[0].as_array_mut().expect("disks") {
        disk["tasted"] = Value::Null;
        disk["node"]["opens"] = Value::Null;
    }
    for volume in all[2].as_array_mut().expect("volumes") {
        volume["opens"] = Value::Null;
    }
    Value::from(all)
}

/// I/O that hosts have had done so far.
fn done(dir: &Path) -> u64 {
    let told = rpc::call(&dir.join("rpc.sock"), "bdev_get_iostat", json!({})).expect("an answer");
    let disks = told["bdevs"].as_array().expect("disks");
    let count = |disk: &Value| disk["num_read_ops"].as_u64().unwrap_or(0) + disk["num_write_ops"].as_u64().unwrap_or(0);
    disks.iter().map(count).sum()
}

/// A disk with two partitions, three in a volume group with two volumes, one blank and one that is not there; all partitions and volumes are served.
fn house(dir: &Path, ports: Ports) -> Server {
    let path = |at: usize| dir.join(format!("d{at}.img"));
    let files: Vec<PathBuf> = (0..5).map(path).collect();
    files.iter().for_each(|file| image::sparse(file, 96 * MIB));
    let mut config = Config::new(dir, ports);
    for (at, file) in files.iter().enumerate() {
        config = config.file(&format!("d{at}"), file);
    }
    config = config.file("away", &dir.join("not-there.img"));
    let server = Server::start(dir, &(config.yaml() + "  - lvs_of: data\n  - partitions_of: d0\n"));
    ashlar(dir, &["label", "create", "d0"]).ok();
    ashlar(dir, &["partition", "create", "d0", "--size", "32m"]).ok();
    ashlar(dir, &["partition", "create", "d0", "--size", "16m"]).ok();
    ashlar(dir, &["lvm", "vgcreate", "data", "d1", "d2", "d3"]).ok();
    ashlar(dir, &["lvm", "lvcreate", "-n", "a", "-L", "64m", "-i", "2", "data"]).ok();
    ashlar(dir, &["lvm", "lvcreate", "-n", "b", "-L", "40m", "data"]).ok();
    // Made is served: what the rules of the configuration offer is there when the change is told to be done.
    let volumes = rpc::call(&dir.join("rpc.sock"), "ashlar_get_volumes", json!({})).expect("volumes");
    let served = |volume: &&Value| volume["served"].as_array().is_some_and(|by| by.len() == 2);
    let count = volumes.as_array().map_or(0, |all| all.iter().filter(served).count());
    assert_eq!(count, 4, "{volumes:?}");
    assert!(!server.log().contains("may be offered later"), "it was not waited for");
    server
}

/// Ends the load when the story ends, however it does.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Watches for the longest time in which no I/O was done, until told to stop.
fn longest_gap(dir: &Path, stop: &AtomicBool) -> Duration {
    let (mut longest, mut last, mut count) = (Duration::ZERO, Instant::now(), done(dir));
    while !stop.load(Ordering::Relaxed) {
        let now = done(dir);
        if now != count {
            (longest, last, count) = (longest.max(last.elapsed()), Instant::now(), now);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    longest.max(last.elapsed())
}

#[test]
fn hosts_do_not_notice_that_the_engine_is_killed_or_hangs() {
    let story = "the engine killed under verified I/O";
    if !needs(story, &["qemu-io"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let server = house(dir, ports);
    let before = tree(dir);
    let (iqn, lun) = {
        let volume = rpc::volume(&dir.join("rpc.sock"), "data/a");
        let (iqn, lun) = volume.iqn();
        (iqn.to_string(), lun)
    };
    let url = format!("iscsi://127.0.0.1:{}/{iqn}/{lun}", ports.iscsi);
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let gap = std::thread::scope(|scope| {
        // QEMU's initiator writes patterns, and reads them back and compares.
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let round = rounds.fetch_add(1, Ordering::Relaxed);
                let mut command = Command::new("qemu-io");
                command.args(["-f", "raw", "-t", "none"]);
                for at in 0..400u64 {
                    let (pattern, place) = ((round * 7 + at) % 255 + 1, (at * 37 % 400) * 128);
                    command.args(["-c", &format!("write -q -P {pattern} {place}k 16k")]);
                    command.args(["-c", &format!("read -q -P {pattern} {place}k 16k")]);
                }
                let output = command.arg(&url).output().expect("qemu-io runs");
                let said =
                    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && !said.contains("failed"), "{said}");
            }
        });
        let stopped = Stop(&stop);
        let until = Instant::now() + Duration::from_secs(30);
        while done(dir) < 100 {
            assert!(Instant::now() < until && !load.is_finished(), "no load");
            std::thread::sleep(Duration::from_millis(20));
        }
        let watch = scope.spawn(|| longest_gap(dir, &stop));
        for _ in 0..4 {
            kill(dir);
            assert_eq!(tree(dir), before);
            std::thread::sleep(Duration::from_millis(300));
        }
        // One that hangs: what does not need it is answered, and it goes on where it was.
        let (process, starts) = engine(dir);
        signal(process, "-STOP");
        let began = Instant::now();
        let disks =
            rpc::call(&dir.join("rpc.sock"), "bdev_get_bdevs", json!({})).expect("an answer without the engine");
        assert!(disks.as_array().is_some_and(|disks| disks.len() >= 9), "{disks}");
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        std::thread::sleep(Duration::from_secs(3));
        signal(process, "-CONT");
        assert_eq!(tree(dir), before);
        assert_eq!(engine(dir), (process, starts));
        drop(stopped);
        load.join().expect("every block was right");
        watch.join().expect("the watch")
    });
    assert!(gap < Duration::from_secs(1), "nothing was done for {gap:?}");
    println!("longest gap {gap:?} in {} rounds", rounds.load(Ordering::Relaxed));

    // It still does what it is for: a disk that was waited for comes, and a volume is made.
    image::sparse(&dir.join("not-there.img"), 8 * MIB);
    rpc::call(&dir.join("rpc.sock"), "ashlar_rescan", json!({})).expect("an answer");
    ashlar(dir, &["lvm", "vgextend", "data", "away"]).ok();
    ashlar(dir, &["lvm", "lvcreate", "-n", "c", "-L", "12m", "data"]).ok();
    let notes = rpc::call(&dir.join("rpc.sock"), "notify_get_notifications", json!({"id": 0})).expect("notifications");
    let ids: Vec<u64> = notes
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["id"].as_u64().expect("an id"))
        .collect();
    assert_eq!(
        ids,
        (0..ids.len() as u64).collect::<Vec<_>>(),
        "engines come and go, notifications are counted on"
    );
    server.stop();
}

#[test]
fn what_the_engine_was_writing_when_it_was_killed_is_finished_or_was_never_begun() {
    let story = "the engine killed while it writes";
    if !needs(story, &["lvm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let server = house(dir, ports);
    let socket = dir.join("rpc.sock");
    // Renaming a group changes each of its disks, one after the other: LVM2 has no rule of its own for it, so it is an intent.
    let mut names = ["data", "other"];
    let mut cut = 0;
    for round in 0..16u64 {
        let began = Instant::now();
        let rename = {
            let mut child = Command::new(binary())
                .arg("--socket")
                .arg(&socket)
                .args(["lvm", "vgrename", names[0], names[1]])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("ashlar runs");
            // Later each time, from before the first write to after the last.
            while began.elapsed() < Duration::from_millis(round * 3) {
                std::thread::yield_now();
            }
            kill(dir);
            let answered = child.wait().expect("it ends").success();
            // A call that an engine took with it is answered by whoever saw it end, and not by the client's patience (60 s).
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
            answered
        };
        let groups = rpc::call(&socket, "ashlar_get_groups", json!({"format": "lvm2"})).expect("groups");
        let there: Vec<&str> = groups
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|group| group["name"].as_str())
            .collect();
        assert_eq!(there.len(), 1, "a mix of old and new: {groups}");
        assert_eq!(groups[0]["state"], "complete", "{groups}");
        let renamed = there[0] == names[1];
        assert!(renamed || !rename, "a rename that was acknowledged is gone");
        assert!(renamed || there[0] == names[0], "{there:?}");
        let states = rpc::call(&socket, "ashlar_get_plans", json!({})).expect("plans");
        assert!(
            states
                .as_array()
                .is_some_and(|all| all.iter().all(|one| one["state"] != "open")),
            "{states}"
        );
        if !rename {
            cut += 1;
        }
        if renamed {
            names.reverse();
        }
    }
    assert!(
        cut >= 3,
        "the engine was killed {cut} times before it answered: the story tells nothing"
    );
    println!("{cut} of 16 renames were cut short");
    server.stop();
}

#[test]
fn guest_does_not_notice_that_the_engine_is_killed() {
    let story = "the engine killed under fio of a Linux host";
    if !Guest::possible(story) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_path_buf();
    let ports = Ports::free();
    let server = house(&dir, ports);
    let before = tree(&dir);
    let socket = dir.join("rpc.sock");
    let (over_nvme, over_iscsi) = (rpc::volume(&socket, "data/a"), rpc::volume(&socket, "data/b"));
    let troubled = dir.clone();
    let trouble = move || -> Result<Duration> {
        let stop = AtomicBool::new(false);
        let gap = std::thread::scope(|scope| {
            let watch = scope.spawn(|| longest_gap(&troubled, &stop));
            for _ in 0..3 {
                kill(&troubled);
                std::thread::sleep(Duration::from_millis(700));
            }
            let (process, _) = engine(&troubled);
            signal(process, "-STOP");
            std::thread::sleep(Duration::from_secs(2));
            signal(process, "-CONT");
            stop.store(true, Ordering::Relaxed);
            watch.join()
        });
        gap.map_err(|_| "the watch failed".into())
    };
    // An emulated host on a busy machine stands still by itself now and then; what the engine does to it, it does every time.
    let helper = Helper::new(move |_| {
        let mut gaps = Vec::new();
        for _ in 0..3 {
            let gap = trouble()?;
            gaps.push(gap);
            if gap < Duration::from_secs(1) {
                return Ok(format!("longest gap {gap:?} (of {gaps:?})"));
            }
        }
        Err(format!("nothing was done for {gaps:?}").into())
    });
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("ISCSI_PORT", ports.iscsi.to_string()),
        ("NQN", over_nvme.nqn().0.to_string()),
        ("NSID", over_nvme.nqn().1.to_string()),
        ("IQN", over_iscsi.iqn().0.to_string()),
        ("LUN", over_iscsi.iqn().1.to_string()),
        ("SECONDS_EACH", "35".to_string()),
        helper.variable(),
    ];
    let said = Guest::boot("engine.sh", Duration::from_secs(240), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    assert_eq!(tree(&dir), before);
    server.stop();
}
