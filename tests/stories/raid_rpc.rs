//! Arrays as SPDK's clients make, list, mend and delete them; the levels that SPDK has not, by the same methods; and what pollers are told.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::serve::ashlar;
use blackbox::tool::tree;
use blackbox::{Ports, Server, Tool, needs, rpc, skip, wait_for};
use serde_json::{Value, json};
use std::path::Path;

/// One command of SPDK's client, from PyPI and unmodified. What it printed, or what it complained of.
fn spdk(dir: &Path, args: &[&str]) -> Result<Value, String> {
    let client = std::env::var_os("ASHLAR_SPDK_PYTHON").map_or_else(
        || tree().join(".build/spdk-client/bin/python"),
        std::path::PathBuf::from,
    );
    let output = Tool::new(&client.to_string_lossy())
        .arg(client.with_file_name("spdk-rpc"))
        .arg("-s")
        .arg(dir.join("rpc.sock"))
        .args(args)
        .output();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(serde_json::from_str(said.trim()).unwrap_or(Value::Null)),
        false => Err(said + &String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn spdks_client_makes_mends_and_deletes_arrays() {
    let story = "arrays by SPDK's client";
    if !tree().join(".build/spdk-client/bin/spdk-rpc").exists() && std::env::var_os("ASHLAR_SPDK_PYTHON").is_none() {
        skip(story, "SPDK's client is not installed (ci/install-spdk-client)");
        return;
    }
    if !needs(story, &["mdadm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let file = |at: usize| dir.join(format!("d{at}.img"));
    let mut config = Config::new(dir, Ports::free());
    for at in 0..12 {
        image::sparse(&file(at), 32 * MIB);
        config = config.file(&format!("d{at}"), &file(at));
    }
    let server = Server::start(dir, &config.yaml().replace("volumes:\n", "volumes: []\n"));
    let call = |method: &str, params: Value| rpc::call(&dir.join("rpc.sock"), method, params);
    let shape = |name: &str| {
        let all = spdk(dir, &["bdev_raid_get_bdevs", "all"]).expect("a list");
        let mut all = all.as_array().expect("a list").iter();
        all.find(|one| one["name"] == name).cloned().unwrap_or_default()
    };
    let names = |shape: &Value| -> Vec<Value> {
        let list = shape["base_bdevs_list"].as_array().expect("a list").iter();
        list.map(|base| base["name"].clone()).collect()
    };

    // With superblocks: Linux's.
    let uuid = "6a1f7f0e-3a43-4d3c-8a7d-0a2a4f5b6c7d";
    let make = [
        "bdev_raid_create",
        "-n",
        "five",
        "-z",
        "64",
        "-r",
        "raid5f",
        "-b",
        "d0 d1 d2",
        "--uuid",
        uuid,
        "-s",
    ];
    spdk(dir, &make).expect("a raid5f");
    wait_for("md/five", || shape("md/five")["num_base_bdevs_operational"] == 3);
    let five = shape("md/five");
    let plain = [
        "uuid",
        "strip_size_kb",
        "state",
        "raid_level",
        "superblock",
        "num_base_bdevs",
        "num_base_bdevs_discovered",
    ];
    let told: Vec<&Value> = plain.iter().map(|key| &five[key]).collect();
    assert_eq!(json!(told), json!([uuid, 64, "online", "raid5", true, 3, 3]));
    assert_eq!(five["base_bdevs_list"][0]["data_offset"], 2048);
    let said = Tool::new("mdadm").arg("--examine").arg(file(0)).ok();
    let path = file(0).to_string_lossy().into_owned();
    assert_eq!(ashlar(dir, &["mdadm", "--examine", &path]).ok(), said);
    for line in [
        "Raid Level : raid5",
        "Layout : left-asymmetric",
        "Chunk Size : 64K",
        "Array UUID : 6a1f7f0e:3a434d3c:8a7d0a2a:4f5b6c7d",
    ] {
        assert!(said.contains(line), "{line}: {said}")
    }
    let why = spdk(
        dir,
        &[
            "bdev_raid_create",
            "-n",
            "joined",
            "-z",
            "64",
            "-r",
            "concat",
            "-b",
            "d3 d4",
            "-s",
        ],
    );
    assert!(why.is_err_and(|why| why.contains("volume group")));

    // Without, of a level of our own.
    let make =
        json!({"name": "six", "raid_level": "raid6", "strip_size_kb": 16, "base_bdevs": ["d3", "d4", "d5", "d6"]});
    call("bdev_raid_create", make).expect("a raid6");
    let make = json!({"name": "ten", "raid_level": "raid10", "strip_size_kb": 16, "base_bdevs": ["d7", "d8", "d9"]});
    call("bdev_raid_create", make).expect("a raid10");
    assert_eq!(shape("six")["raid_level"], "raid6");
    assert_eq!(shape("ten")["raid_level"], "raid10");
    let arrays = || call("ashlar_get_arrays", json!({"name": "six"})).expect("an array")[0].take();
    wait_for("an end of the comparison", || arrays()["state"] == "whole");

    // One goes, another comes, slowly enough to be looked at.
    spdk(dir, &["bdev_raid_remove_base_bdev", "d4"]).expect("it goes");
    let six = shape("six");
    let counts = |shape: &Value| {
        let count = |what: &str| shape[format!("num_base_bdevs{what}")].as_u64().expect("a number");
        (count(""), count("_discovered"), count("_operational"))
    };
    assert_eq!(
        (counts(&six), names(&six)),
        ((4, 3, 3), vec![json!("d3"), Value::Null, json!("d5"), json!("d6")])
    );
    assert_eq!(six["base_bdevs_list"][1]["is_configured"], false);
    spdk(dir, &["bdev_raid_set_options", "-w", "512", "-b", "8"]).expect("options");
    spdk(dir, &["bdev_raid_add_base_bdev", "six", "d10"]).expect("it comes");
    wait_for("a rebuild", || !shape("six")["process"].is_null());
    let six = shape("six");
    assert_eq!(
        (&six["process"]["type"], &six["process"]["target"]),
        (&json!("rebuild"), &json!("d10"))
    );
    assert!(
        six["process"]["progress"]["percent"]
            .as_u64()
            .is_some_and(|percent| percent < 100),
        "{six}"
    );
    assert_eq!((counts(&six), &names(&six)[1]), ((4, 4, 3), &json!("d10")));
    call("bdev_raid_set_options", json!({"process_max_bandwidth_mb_sec": 0})).expect("options");
    wait_for("the end of the rebuild", || counts(&shape("six")) == (4, 4, 4));
    assert_eq!(shape("six")["process"], Value::Null);
    // What is not used any more can be used for something else.
    let make = json!({"name": "other", "raid_level": "concat", "strip_size_kb": 16, "base_bdevs": ["d4", "d11"]});
    call("bdev_raid_create", make).expect("a concat");

    // One with superblocks: the disk that comes gets one as well.
    spdk(dir, &["bdev_raid_remove_base_bdev", "d1"]).expect("it goes");
    wait_for("a place", || names(&shape("md/five"))[1].is_null());
    spdk(dir, &["bdev_raid_delete", "other"]).expect("it goes");
    spdk(dir, &["bdev_raid_add_base_bdev", "five", "d11"]).expect("it comes");
    wait_for("the end of the rebuild", || counts(&shape("md/five")) == (3, 3, 3));
    assert_eq!(names(&shape("md/five"))[1], "d11");

    // Pollers were told, in order.
    let told = spdk(dir, &["notify_get_notifications", "-i", "0"]).expect("notifications");
    let of = |name: &str| -> Vec<Value> {
        let all = told.as_array().expect("a list").iter();
        let all =
            all.filter(|one| one["ctx"] == name && one["type"].as_str().is_some_and(|kind| kind.contains("array")));
        all.map(|one| one["type"].clone()).collect()
    };
    for name in ["six", "md/five"] {
        assert_eq!(of(name), ["ashlar_array_degraded", "ashlar_array_whole"], "{told:#}");
    }

    spdk(dir, &["bdev_raid_delete", "six"]).expect("it goes");
    spdk(dir, &["bdev_raid_delete", "ten"]).expect("it goes");
    assert!(spdk(dir, &["bdev_raid_delete", "five"]).is_err_and(|why| why.contains("clear_sb")));
    spdk(dir, &["bdev_raid_delete", "five", "-c"]).expect("it goes");
    wait_for("an end", || spdk(dir, &["bdev_raid_get_bdevs", "all"]) == Ok(json!([])));
    Tool::new("mdadm").arg("--examine").arg(file(2)).fails();
    server.stop();
}
