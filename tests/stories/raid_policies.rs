//! What the configuration wants of arrays: members are compared on a schedule, rebuilds are bounded, arrays wait so long for members and no longer, and give each other their spares.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::serve::ashlar;
use blackbox::{Ports, Server, Tool, needs, rpc, wait_for};
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A folder with disks `d0`, `d1` and so on.
struct House {
    folder: tempfile::TempDir,
    ports: Ports,
    disks: usize,
}

impl House {
    fn new(disks: usize, mib: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let house = House {
            folder,
            ports: Ports::free(),
            disks,
        };
        (0..disks).for_each(|at| image::sparse(&house.file(at), mib * MIB));
        house
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, at: usize) -> PathBuf {
        self.dir().join(format!("d{at}.img"))
    }

    /// A configuration with these lines of `arrays`, and what hosts get.
    fn config(&self, arrays: &[&str], volumes: &[&str]) -> String {
        let add = |config: Config, at: usize| config.file(&format!("d{at}"), &self.file(at));
        let config = (0..self.disks).fold(Config::new(self.dir(), self.ports), add);
        let mut text = config.volumes(volumes).yaml();
        if volumes.is_empty() {
            text = text.replace("volumes:\n", "volumes: []\n")
        }
        for (at, line) in arrays.iter().enumerate() {
            text += &format!("{}  - {line}\n", if at == 0 { "arrays:\n" } else { "" })
        }
        text
    }

    fn reload(&self, config: &str) {
        std::fs::write(self.dir().join("ashlar.yaml"), config).expect("written");
        let said = ashlar(self.dir(), &["config", "reload"]).ok();
        assert!(said.contains("arrays"), "{said}")
    }

    fn array(&self, name: &str) -> Option<Value> {
        let told = rpc::call(
            &self.dir().join("rpc.sock"),
            "ashlar_get_arrays",
            json!({ "name": name }),
        );
        told.ok().map(|mut all| all[0].take())
    }

    fn is(&self, name: &str, state: &str) -> bool {
        self.array(name).is_some_and(|array| array["state"] == state)
    }

    /// The last scrub that has ended: when it began, and how many bytes it found different.
    fn scrubbed(&self, name: &str) -> Option<(u64, u64)> {
        let array = self.array(name)?;
        let last = &array["last_scrub"];
        Some((last["time"].as_u64()?, last["mismatched_bytes"].as_u64()?))
    }
}

#[test]
fn members_are_compared_when_it_is_due_and_a_restart_forgets_nothing() {
    let house = House::new(3, 24);
    let dir = house.dir();
    let often = house.config(&["{name: \"md/*\", scrub: {every: 2s}}"], &[]);
    let server = Server::start(dir, &often);
    ashlar(dir, &["do", "raid-create", "data", "disks=d0,d1,d2", "level=raid5"]).ok();
    wait_for("a first run", || house.scrubbed("md/data").is_some());
    let first = house.scrubbed("md/data").expect("a run");
    wait_for("a second run", || {
        house.scrubbed("md/data").is_some_and(|last| last.0 > first.0)
    });
    assert_eq!((first.1, house.scrubbed("md/data").expect("a run").1), (0, 0));

    // Somebody writes to a member past everything, and the next run sees it.
    let spoil = |byte: u8| {
        let file = File::options().write(true).open(house.file(1)).expect("a member");
        file.write_all_at(&[byte; 4096], 20 << 20).expect("written");
    };
    spoil(0x5a);
    wait_for("a run that finds something", || {
        house.scrubbed("md/data").is_some_and(|last| last.1 > 0)
    });

    // None begins while a member is missing.
    ashlar(dir, &["raid", "fail", "md/data", "d2"]).ok();
    wait_for("an array without a member", || house.is("md/data", "degraded"));
    std::thread::sleep(Duration::from_millis(1500));
    let before = house.scrubbed("md/data").expect("a run");
    std::thread::sleep(Duration::from_secs(5));
    let array = house.array("md/data").expect("an array");
    assert_eq!(
        (house.scrubbed("md/data"), &array["progress"]),
        (Some(before), &Value::Null)
    );
    let due = array["next_scrub"].as_u64().expect("a time");
    assert_eq!(due, before.0 + 2);
    ashlar(dir, &["do", "raid-readd", "md/data", "disks=d2"]).ok();
    wait_for("a run once it is whole", || {
        house.scrubbed("md/data").is_some_and(|last| last.0 > before.0)
    });
    ashlar(dir, &["raid", "check", "md/data", "--repair"]).ok();
    wait_for("a run that finds nothing", || {
        let repaired = house
            .array("md/data")
            .is_some_and(|array| array["last_scrub"]["repair"] == true);
        !repaired && house.scrubbed("md/data").is_some_and(|last| last.1 == 0)
    });

    spoil(0xa5);
    wait_for("another run that finds something", || {
        house.scrubbed("md/data").is_some_and(|last| last.1 > 0)
    });

    // Seldom, now: and the last one is known, and makes the next.
    house.reload(&house.config(&["{name: md/data, scrub: {every: 3d}}"], &[]));
    wait_for("an end", || house.is("md/data", "whole"));
    std::thread::sleep(Duration::from_millis(1500));
    let last = house.scrubbed("md/data").expect("a run");
    assert!(last.1 > 0, "it differs as before");
    server.stop();
    let server = Server::start(dir, &house.config(&["{name: md/data, scrub: {every: 3d}}"], &[]));
    wait_for("the array", || house.is("md/data", "whole"));
    let array = house.array("md/data").expect("an array");
    assert_eq!(house.scrubbed("md/data"), Some(last));
    assert_eq!(array["next_scrub"], last.0 + 3 * 86_400);
    let shown = ashlar(dir, &["raid", "show", "md/data"]).ok();
    assert!(
        shown.contains("last check") && shown.contains("next check") && shown.contains("different"),
        "{shown}"
    );

    // Whoever asks for one by hand is heard, and that one counts.
    ashlar(dir, &["raid", "check", "md/data", "--repair"]).ok();
    wait_for("a repair", || {
        house
            .array("md/data")
            .is_some_and(|array| array["last_scrub"]["repair"] == true)
    });
    house.reload(&house.config(&["{name: md/data, scrub: {every: 2s}}"], &[]));
    wait_for("a run after the restart that finds nothing", || {
        house
            .array("md/data")
            .is_some_and(|array| array["last_scrub"]["repair"] == false && array["last_scrub"]["mismatched_bytes"] == 0)
    });
    server.assert_no_panic();
    server.stop();
}

#[test]
fn a_check_that_a_crash_cuts_off_goes_on_where_it_was() {
    let house = House::new(2, 24);
    let dir = house.dir();
    // So slowly that it is not done before the crash.
    let slow = house.config(&["{name: md/data, scrub: {every: 1s}, rebuild_limit: 1MiB}"], &[]);
    let server = Server::start(dir, &slow);
    let create = ["do", "raid-create", "data", "disks=d0,d1", "level=raid1", "clean=true"];
    ashlar(dir, &create).ok();
    wait_for("a check", || house.is("md/data", "check"));
    let done = || {
        let array = house.array("md/data");
        array.map_or(0, |array| array["progress"]["done_bytes"].as_u64().unwrap_or(0))
    };
    // How far it is is written down every five seconds.
    wait_for("some of it", || done() > 7 << 20);
    server.kill();
    let server = Server::start(dir, &slow);
    wait_for("the same check", || house.is("md/data", "check"));
    assert!(done() >= 4 << 20, "{} bytes", done());
    assert_eq!(house.scrubbed("md/data"), None);
    // It is stopped and started so fast that nobody may have looked meanwhile: what ran did not come to its end, and the limit counts again.
    ashlar(dir, &["raid", "stop", "md/data"]).ok();
    ashlar(dir, &["raid", "assemble", "md/data"]).ok();
    wait_for("the same check", || house.is("md/data", "check"));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(house.is("md/data", "check"));
    assert_eq!(house.scrubbed("md/data"), None);
    // Somebody has enough of it: that counts.
    ashlar(dir, &["raid", "cancel", "md/data"]).ok();
    wait_for("an end", || house.scrubbed("md/data").is_some());
    let array = house.array("md/data").expect("an array");
    assert_eq!(array["last_scrub"]["cancelled"], true);
    server.assert_no_panic();
    server.stop();
}

#[test]
fn rebuilds_are_bounded_and_arrays_wait_no_longer_than_they_are_told() {
    let house = House::new(3, 48);
    let dir = house.dir();
    let server = Server::start(dir, &house.config(&["{name: md/data, rebuild_limit: 1MiB}"], &[]));
    let create = [
        "do",
        "raid-create",
        "data",
        "disks=d0,d1,d2",
        "level=raid5",
        "clean=true",
    ];
    ashlar(dir, &create).ok();
    wait_for("the array", || house.is("md/data", "whole"));
    ashlar(dir, &["raid", "check", "md/data"]).ok();
    std::thread::sleep(Duration::from_secs(2));
    let array = house.array("md/data").expect("an array");
    let done = array["progress"]["done_bytes"].as_u64();
    assert!(done.is_some_and(|done| done < 8 << 20), "{array:#}");
    assert_eq!(array["limit_bytes_per_second"], 1 << 20);
    house.reload(&house.config(&["{name: md/data, degraded_wait: 1s}"], &[]));
    let began = Instant::now();
    wait_for("an end of the check", || house.is("md/data", "whole"));
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "it took {:?}",
        began.elapsed()
    );
    server.stop();

    // One of its members does not come any more.
    std::fs::rename(house.file(1), dir.join("elsewhere")).expect("moved");
    let began = Instant::now();
    let server = Server::start(dir, &house.config(&["{name: md/data, degraded_wait: 1s}"], &[]));
    wait_for("the array without it", || house.is("md/data", "degraded"));
    let took = began.elapsed();
    println!("it ran without the member after {took:?}");
    // Disks are looked at every five seconds; without the setting it would be thirty.
    assert!(took < Duration::from_secs(20), "{took:?}");
    server.assert_no_panic();
    server.stop();
}

#[test]
fn a_spare_of_another_array_of_the_group_takes_over_by_itself() {
    let story = "spares that arrays share";
    if !needs(story, &["qemu-io", "mdadm"]) {
        return;
    }
    let house = House::new(7, 24);
    let dir = house.dir();
    let audit = "audit: {file: audit.log}\n";
    let shared = ["{name: \"md/*\", spare_group: pool}"];
    let config = house.config(&shared, &["md/one"]) + audit;
    let server = Server::start(dir, &config);
    ashlar(dir, &["do", "raid-create", "one", "disks=d0,d1,d2", "level=raid5"]).ok();
    let create = ["do", "raid-create", "two", "disks=d3,d4,d5", "spares=d6", "level=raid5"];
    ashlar(dir, &create).ok();
    for name in ["md/one", "md/two"] {
        wait_for(name, || house.is(name, "whole"))
    }
    assert_eq!(
        house.array("md/two").expect("an array")["extras"],
        json!([{"disk": "d6", "state": "spare"}])
    );
    let socket = dir.join("rpc.sock");
    wait_for("a target", || {
        rpc::call(&socket, "ashlar_get_volumes", json!({})).is_ok_and(|all| all.to_string().contains("md:one"))
    });
    let io = |what: &str| {
        let volume = rpc::volume(&socket, "md/one");
        let (iqn, lun) = volume.iqn();
        let url = format!("iscsi://127.0.0.1:{}/{iqn}/{lun}", house.ports.iscsi);
        Tool::new("qemu-io").args(["-f", "raw", "-c", what]).arg(url).ok()
    };
    io("write -P 0x41 0 40M");
    ashlar(dir, &["raid", "fail", "md/one", "d1"]).ok();
    io("write -P 0x42 10M 1M");
    wait_for("the spare, and what it was rebuilt from", || {
        let array = house.array("md/one").unwrap_or_default();
        let has = array["members"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|member| member["disk"] == "d6");
        has && array["state"] == "whole"
    });
    // What was rebuilt is what was written: without another of the old members.
    ashlar(dir, &["raid", "fail", "md/one", "d0"]).ok();
    io("read -P 0x41 0 10M");
    io("read -P 0x42 10M 1M");
    io("read -P 0x41 11M 29M");
    let two = house.array("md/two").expect("an array");
    assert_eq!((&two["state"], &two["extras"]), (&json!("whole"), &json!([])));
    let one = house.array("md/one").expect("an array");
    assert!(one["extras"].to_string().contains("failed"), "{one:#}");
    let said = Tool::new("mdadm").arg("--examine").arg(house.file(6)).ok();
    assert!(said.contains(":one") || said.contains("one"), "{said}");
    // It is written down, with the reason, and that nobody has called for it.
    let lines = std::fs::read_to_string(dir.join("audit.log")).expect("a log");
    let mut moved = lines.lines().filter(|line| line.contains("\"reason\""));
    for verb in ["raid-remove", "raid-add"] {
        let line = moved.next().unwrap_or_default();
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        assert_eq!(
            (
                &line["params"]["verb"],
                &line["params"]["options"]["disks"][0],
                &line["peer"]
            ),
            (&json!(verb), &json!("d6"), &Value::Null),
            "{lines}"
        );
        assert_eq!(line["params"]["reason"], "md/one lacks a member and has no spare");
    }
    assert_eq!(moved.next(), None);
    server.assert_no_panic();
    server.stop();
}

#[test]
fn a_spare_that_was_on_its_way_when_the_power_failed_arrives() {
    // The last one is larger, so it goes last.
    let house = House::new(8, 24);
    image::sparse(&house.file(7), 32 * MIB);
    let dir = house.dir();
    let shared = ["{name: \"md/*\", spare_group: pool}"];
    let config = house.config(&shared, &[]) + "tables:\n  - {name: slow, delay: {on: d6, write: 1ms}}\n";
    let server = Server::start(dir, &config);
    ashlar(dir, &["do", "raid-create", "one", "disks=d0,d1,d2", "level=raid5"]).ok();
    let create = [
        "do",
        "raid-create",
        "two",
        "disks=d3,d4,d5",
        "spares=slow,d7",
        "level=raid5",
    ];
    ashlar(dir, &create).ok();
    for name in ["md/one", "md/two"] {
        wait_for(name, || house.is(name, "whole"))
    }
    let is_spare = || {
        let mut magic = [0; 4];
        let file = File::open(house.file(6)).expect("a disk");
        file.read_exact_at(&mut magic, 4096).expect("a superblock");
        magic == 0xa92b_4efc_u32.to_le_bytes()
    };
    assert!(is_spare());
    // From now on writes to the spare are done at once and answered late.
    let late = json!({"delay_bdev_name": "slow", "latency_type": "avg_write", "latency_us": 60_000_000});
    rpc::call(&dir.join("rpc.sock"), "bdev_delay_update_latency", late).expect("a latency");
    ashlar(dir, &["raid", "fail", "md/one", "d1"]).ok();
    wait_for("a blank disk", || !is_spare());
    server.kill();

    let server = Server::start(dir, &config);
    wait_for("the array with its spare", || {
        let array = house.array("md/one").unwrap_or_default();
        array["state"] == "whole" && array["members"].to_string().contains("\"slow\"")
    });
    server.wait_for_log("was to get this spare when the target ended");
    // Only that one: the array has what it lacked.
    assert_eq!(
        house.array("md/two").expect("an array")["extras"],
        json!([{"disk": "d7", "state": "spare"}])
    );
    server.assert_no_panic();
    server.stop();
}
