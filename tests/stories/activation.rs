//! Volumes of a group are taken out of service and brought back while the target runs, by LVM2's own commands.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::iscsi::Iscsi;
use blackbox::{Ports, Server, Tool, ashlar, rpc, wait_for};
use serde_json::{Value, json};
use std::path::Path;

/// Every volume with those letters of its `lv_attr` that say whether it runs, and whether it is left out.
fn attributes(dir: &Path) -> Vec<String> {
    let said = ashlar(dir, &["lvm", "lvs", "--noheadings", "-o", "lv_name,lv_attr"]).ok();
    let letters = |line: &str| {
        let (name, letters) = line.trim().split_once(' ')?;
        let letters: Vec<char> = letters.trim().chars().collect();
        Some(format!("{name} {}{}", letters[4], letters[9]))
    };
    said.lines().filter_map(letters).collect()
}

fn engine(dir: &Path) -> Value {
    rpc::call(&dir.join("rpc.sock"), "ashlar_get_engine", json!({})).expect("an answer")
}

/// True if hosts are offered this volume.
fn served(dir: &Path, name: &str) -> bool {
    let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_volumes", json!({})).expect("an answer");
    let mut volumes = told.as_array().expect("a list").iter();
    volumes.any(|volume| volume["name"] == name && volume["served"].as_array().is_some_and(|ways| ways.len() == 2))
}

#[test]
fn a_volume_is_taken_out_of_service_and_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let file = dir.join("d.img");
    image::sparse(&file, 96 * MIB);
    let config = Config::new(dir, ports).file("d", &file).yaml() + "  - lvs_of: vg\n";
    let server = Server::start(dir, &config);
    ashlar(dir, &["lvm", "vgcreate", "vg", "d"]).ok();
    for name in ["a", "b"] {
        ashlar(dir, &["lvm", "lvcreate", "-n", name, "-L", "8m", "vg"]).ok();
    }
    wait_for("the offers", || served(dir, "vg/a") && served(dir, "vg/b"));
    assert_eq!(attributes(dir), ["a a-", "b a-"]);

    // Not while a host is there.
    let (iqn, lun) = {
        let volume = rpc::volume(&dir.join("rpc.sock"), "vg/b");
        let (iqn, lun) = volume.iqn();
        (iqn.to_string(), lun)
    };
    let mut host = Iscsi::login(ports.iscsi, &iqn, lun).expect("log in");
    host.write(0, &[0xa5; 4096]).expect("write");
    let refused = ashlar(dir, &["lvm", "lvchange", "-an", "vg/b"]).fails();
    assert!(refused.contains("\"vg/b\" is in use by"), "{refused}");
    let refused = ashlar(dir, &["lvm", "vgchange", "-an", "vg"]).fails();
    assert!(refused.contains("\"vg/b\" is in use by"), "{refused}");
    assert_eq!(attributes(dir), ["a a-", "b a-"]);
    ashlar(dir, &["lvm", "lvchange", "-an", "vg/a"]).ok();
    assert_eq!(attributes(dir), ["a --", "b a-"]);
    assert!(!served(dir, "vg/a"));
    host.write(8, &[0x5a; 4096]).expect("write");
    drop(host);
    // It has left once nobody is in the way any more.
    let mut said = String::new();
    wait_for("the host's leave", || {
        let done = ashlar(dir, &["lvm", "vgchange", "-an", "vg"]).output();
        said = String::from_utf8_lossy(&done.stdout).into_owned();
        done.status.success()
    });
    assert_eq!(said, "  0 logical volume(s) in volume group \"vg\" now active\n");

    // An engine that takes the place of another goes on from there.
    let first = engine(dir);
    Tool::new("kill").args(["-KILL", &first["process"].to_string()]).ok();
    wait_for("another engine", || {
        let now = engine(dir);
        now["starts"] != first["starts"] && now["process"].is_u64()
    });
    assert_eq!(attributes(dir), ["a --", "b --"]);
    ashlar(dir, &["lv", "activate", "vg/b"]).ok();
    wait_for("the offer", || served(dir, "vg/b"));
    let said = ashlar(dir, &["lv", "deactivate", "vg/b"]).ok();
    assert_eq!(said, "vg/b is inactive.\n");

    // One that is marked to be left out runs if one insists; `lv_attr` says k.
    ashlar(dir, &["lvm", "lvchange", "-ky", "vg/a"]).ok();
    assert_eq!(attributes(dir), ["a -k", "b --"]);
    let refused = ashlar(dir, &["lvm", "lvchange", "-ay", "vg/a"]).fails();
    assert!(refused.contains("marked to be left out"), "{refused}");
    ashlar(dir, &["lvm", "lvchange", "-ay", "-K", "vg/a"]).ok();
    assert_eq!(attributes(dir), ["a ak", "b --"]);
    server.stop();

    // At the next start it is as the metadata says.
    let server = Server::start(dir, &config);
    assert_eq!(attributes(dir), ["a -k", "b a-"]);
    let mut host = Iscsi::login(ports.iscsi, &iqn, lun).expect("log in");
    assert!(host.read(0, 8).expect("read") == [0xa5; 4096] && host.read(8, 8).expect("read") == [0x5a; 4096]);
    drop(host);
    server.stop();
}
