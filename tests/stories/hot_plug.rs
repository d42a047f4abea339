//! Disks that come late, grow and go while the target runs: only what they touch is looked at again, and hosts get what can be had.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::{Ports, Server, Tool, ashlar, needs, rpc, wait_for};
use serde_json::{Value, json};
use std::path::Path;

fn disk(dir: &Path, name: &str) -> Value {
    let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_disks", json!({ "name": name }));
    told.expect("an answer")[0].take()
}

/// Names of the volumes that hosts can reach.
fn served(dir: &Path) -> Vec<String> {
    let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_volumes", json!({})).expect("an answer");
    let volumes = told.as_array().expect("a list").iter();
    let reached = volumes.filter(|volume| volume["served"].as_array().is_some_and(|ways| !ways.is_empty()));
    reached
        .filter_map(|volume| volume["name"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_member_that_comes_late_completes_its_group_and_hosts_get_the_rest() {
    let story = "a disk that comes late";
    if !needs(story, &["qemu-io"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let path = |name: &str| dir.join(name).with_extension("img");
    for name in ["d0", "d1", "other", "spare"] {
        image::sparse(&path(name), 64 * MIB);
    }
    let mut config = Config::new(dir, ports);
    for name in ["d0", "d1", "other", "spare"] {
        config = config.file(name, &path(name));
    }
    let config = config.yaml() + "  - lvs_of: data\n  - name: other\n";
    let url = |name: &str| {
        let volume = rpc::volume(&dir.join("rpc.sock"), name);
        let (iqn, lun) = volume.iqn();
        format!("iscsi://127.0.0.1:{}/{iqn}/{lun}", ports.iscsi)
    };
    let io = |name: &str, what: &str| Tool::new("qemu-io").args(["-f", "raw", "-c", what]).arg(url(name)).ok();

    let server = Server::start(dir, &config);
    ashlar(dir, &["lvm", "vgcreate", "data", "d0", "d1"]).ok();
    ashlar(dir, &["lvm", "lvcreate", "-n", "near", "-L", "8m", "data", "d0"]).ok();
    ashlar(dir, &["lvm", "lvcreate", "-n", "wide", "-i", "2", "-L", "16m", "data"]).ok();
    wait_for("the offer", || served(dir) == ["data/near", "data/wide", "other"]);
    io("data/wide", "write -P 0x5a 0 16M");
    io("data/near", "write -P 0xa5 0 8M");
    server.stop();

    // Started without one of the two.
    let away = dir.join("pulled");
    std::fs::rename(path("d1"), &away).expect("pull it");
    let server = Server::start(dir, &config);
    assert_eq!(served(dir), ["data/near", "other"]);
    let wide = disk(dir, "data/wide");
    assert_eq!(wide["verdict"], "inactive", "{wide}");
    assert!(
        wide["reason"].as_str().is_some_and(|why| why.contains("missing")),
        "{wide}"
    );
    io("data/near", "read -P 0xa5 0 8M");
    let looked = |name: &str| disk(dir, name)["tasted"].as_u64().expect("a number");
    let before = [looked("d0"), looked("other"), looked("spare")];

    // Nobody asks for a rescan: the configuration waits for the disk.
    std::fs::rename(&away, path("d1")).expect("plug it in");
    wait_for("data/wide", || served(dir) == ["data/near", "data/wide", "other"]);
    io("data/wide", "read -P 0x5a 0 16M");
    assert_eq!(
        [looked("d0"), looked("other"), looked("spare")],
        before,
        "looked at again for nothing"
    );

    // One grows: it is told, and its host's next look sees it.
    let length = || disk(dir, "other")["node"]["geometry"]["blocks"].as_u64();
    assert_eq!(length(), Some(64 * MIB / 512));
    image::sparse(&path("other"), 80 * MIB);
    rpc::call(&dir.join("rpc.sock"), "ashlar_rescan", json!({})).expect("an answer");
    assert_eq!(length(), Some(80 * MIB / 512));
    let seen = Tool::new("qemu-img")
        .args(["info", "--output=json", "-f", "raw"])
        .arg(url("other"))
        .ok();
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!(seen["virtual-size"], 80 * MIB);
    let told = rpc::call(&dir.join("rpc.sock"), "notify_get_notifications", json!({"id": 0})).expect("notifications");
    let told = told.as_array().expect("a list");
    assert!(
        told.iter()
            .any(|one| one["type"] == "bdev_resize" && one["ctx"] == "other"),
        "{told:?}"
    );

    // One goes: not while somebody has it.
    let delete = |name: &str| rpc::call(&dir.join("rpc.sock"), "ashlar_delete_disk", json!({ "name": name }));
    let why = delete("d1").expect_err("its volumes are served").to_string();
    assert!(why.contains("data/wide"), "{why}");
    delete("spare").expect("nobody has it");
    assert!(rpc::call(&dir.join("rpc.sock"), "ashlar_get_disks", json!({"name": "spare"})).is_err());
    server.assert_no_panic();
    server.stop();
}
