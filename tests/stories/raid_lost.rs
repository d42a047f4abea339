//! A member with sectors that cannot be read when another is rebuilt: everything else is rebuilt, mdadm sees what is lost, and a host that writes there has it back.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::serve::binary;
use blackbox::{Ports, Server, Tool, ashlar, needs, rpc, wait_for};
use serde_json::{Value, json};
use std::path::Path;

/// Bytes of a disk that cannot be read, and where: some MiB behind where its data begin.
const LOST: u64 = 64 << 10;
const AT: u64 = 10 * MIB;

fn tell(dir: &Path, method: &str, params: Value) -> Value {
    rpc::call(&dir.join("rpc.sock"), method, params).unwrap_or_default()
}

fn array(dir: &Path, name: &str) -> Value {
    tell(dir, "ashlar_get_arrays", json!({ "name": name }))[0].take()
}

fn lacking(dir: &Path, name: &str) -> u64 {
    let array = array(dir, name);
    let members = array["members"].as_array().expect("members");
    members
        .iter()
        .filter_map(|member| member["lacking_bytes"].as_u64())
        .sum()
}

fn url(dir: &Path, ports: Ports, name: &str) -> String {
    let volume = rpc::volume(&dir.join("rpc.sock"), name);
    let (iqn, lun) = volume.iqn();
    format!("iscsi://127.0.0.1:{}/{iqn}/{lun}", ports.iscsi)
}

/// What the bad-block log of a member lists. mdadm and we say the same.
fn bad_blocks(file: &Path) -> String {
    let listed = Tool::new("mdadm").arg("--examine-badblocks").arg(file).ok();
    let path = file.to_string_lossy();
    let ours = Tool::new(&binary().to_string_lossy())
        .args(["mdadm", "--examine-badblocks", &path])
        .ok();
    assert_eq!(ours, listed);
    listed
}

/// The bytes of an array that are in a stripe with what cannot be read: where they begin and where they end.
fn around(name: &str) -> (u64, u64) {
    let (wide, at) = if name == "md/five" {
        (2, 2 * (AT - MIB))
    } else {
        (1, AT - MIB)
    };
    (at, at + wide * LOST)
}

#[test]
fn what_cannot_be_read_is_lost_and_nothing_else() {
    let story = "members with sectors that cannot be read";
    if !needs(story, &["qemu-io", "mdadm", "losetup"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let file = |name: &str| dir.join(format!("{name}.img"));
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    for name in ["m0", "m1", "m2", "p0", "p1", "p2", "p3", "q0", "q1", "q2"] {
        image::sparse(&file(name), 24 * MIB);
        config = config.file(name, &file(name))
    }
    let mut config = config.volumes(&["md/mirror", "md/five"]).yaml() + "tables:\n";
    for name in ["m0", "p0", "q0"] {
        let (start, count) = (AT / 512, LOST / 512);
        let inject =
            format!("{{on: read, range: {{start: {start}, count: {count}}}, effect: {{fail: {{error: medium}}}}}}");
        config += &format!("  - {{name: {name}-worn, error: {{on: {name}, inject: [{inject}]}}}}\n")
    }
    let server = Server::start(dir, &config);
    for (name, disks, level) in [
        ("mirror", "disks=m0-worn,m1", "level=raid1"),
        ("five", "disks=p0-worn,p1,p2", "level=raid5"),
    ] {
        ashlar(
            dir,
            &["do", "raid-create", name, disks, level, "chunk=64k", "clean=true"],
        )
        .ok();
        wait_for("the array", || array(dir, &format!("md/{name}"))["state"] == "whole");
    }
    wait_for("targets", || {
        let all = tell(dir, "ashlar_get_volumes", json!({})).to_string();
        all.contains("md:mirror") && all.contains("md:five")
    });
    let io = |name: &str, what: &str| {
        let tool = Tool::new("qemu-io").args(["-f", "raw", "-c", what]);
        tool.arg(url(dir, ports, name))
    };
    for (name, failed, spare) in [("md/mirror", "m1", "m2"), ("md/five", "p1", "p3")] {
        let bytes = array(dir, name)["bytes"].as_u64().expect("a length");
        io(name, &format!("write -P 0x61 0 {bytes}")).ok();
        ashlar(dir, &["raid", "fail", name, failed]).ok();
        ashlar(dir, &["do", "raid-add", name, &format!("disks={spare}")]).ok();
        wait_for("a rebuild around it", || {
            let now = array(dir, name);
            now["state"] == "whole" && now["members"].to_string().contains(spare)
        });
        let lost = lacking(dir, name);
        assert!(
            (1..=LOST).contains(&lost),
            "{lost} bytes are lost: {:#}",
            array(dir, name)
        );
        let shown = ashlar(dir, &["raid", "show", name]).ok();
        assert!(shown.contains("LACKING") && shown.contains("KiB"), "{shown}");
        let examined = || Tool::new("mdadm").arg("--examine").arg(file(spare)).ok();
        assert!(examined().contains("bad blocks present"), "{}", examined());
        let listed = bad_blocks(&file(spare));
        assert!(listed.contains(" for "), "{listed}");
        println!("{shown}{listed}");
        // What is before it and behind it can be read.
        let (at, behind) = around(name);
        io(name, &format!("read -P 0x61 0 {at}")).ok();
        io(name, &format!("read {at} {}", behind - at)).fails();
        io(name, &format!("read -P 0x61 {behind} {}", bytes - behind)).ok();
        // A check sees all of it, and says what it could not see.
        ashlar(dir, &["raid", "check", name]).ok();
        wait_for("an end of the check", || {
            let now = array(dir, name);
            now["progress"].is_null() && now["last_scrub"].is_object()
        });
        let told = array(dir, name);
        assert!(
            told["unreadable_bytes"].as_u64() >= Some(1) && told["mismatched_bytes"] == 0,
            "{told:#}"
        );
        assert_eq!(told["last_scrub"]["unreadable_bytes"], told["unreadable_bytes"]);
    }
    // One that is stopped is put together from what its members say by then, and not from what was found before.
    ashlar(
        dir,
        &[
            "do",
            "raid-create",
            "quiet",
            "disks=q0-worn,q1",
            "level=raid1",
            "clean=true",
        ],
    )
    .ok();
    wait_for("the array", || array(dir, "md/quiet")["state"] == "whole");
    ashlar(dir, &["raid", "fail", "md/quiet", "q1"]).ok();
    ashlar(dir, &["do", "raid-add", "md/quiet", "disks=q2"]).ok();
    wait_for("a rebuild around it", || array(dir, "md/quiet")["state"] == "whole");
    assert_eq!(lacking(dir, "md/quiet"), LOST);
    ashlar(dir, &["raid", "stop", "md/quiet"]).ok();
    ashlar(dir, &["raid", "assemble", "md/quiet"]).ok();
    wait_for("the array", || array(dir, "md/quiet")["state"] == "whole");
    assert_eq!(lacking(dir, "md/quiet"), LOST);

    // Another life knows of it.
    let known = ["md/mirror", "md/five"].map(|name| lacking(dir, name));
    server.stop();
    let server = Server::start(dir, &config);
    for (name, lost) in ["md/mirror", "md/five"].into_iter().zip(known) {
        wait_for("the array", || array(dir, name)["state"] == "whole");
        assert_eq!(lacking(dir, name), lost, "{name}");
    }
    wait_for("targets", || {
        let all = tell(dir, "ashlar_get_volumes", json!({})).to_string();
        all.contains("md:mirror") && all.contains("md:five")
    });
    for (name, spare) in [("md/mirror", "m2"), ("md/five", "p3")] {
        let (at, behind) = around(name);
        io(name, &format!("write -P 0x62 {at} {}", behind - at)).ok();
        io(name, &format!("read -P 0x62 {at} {}", behind - at)).ok();
        io(name, &format!("read -P 0x61 0 {at}")).ok();
        ashlar(dir, &["raid", "check", name, "--repair"]).ok();
        wait_for("an end of the repair", || {
            let now = array(dir, name);
            now["progress"].is_null() && now["last_scrub"]["repair"] == true
        });
        wait_for("its log to forget it", || {
            lacking(dir, name) == 0
                && !Tool::new("mdadm")
                    .arg("--examine")
                    .arg(file(spare))
                    .ok()
                    .contains("bad blocks present")
        });
        assert_eq!(array(dir, name)["unreadable_bytes"], 0);
        assert!(bad_blocks(&file(spare)).contains(" is empty "));
    }
    server.assert_no_panic();
    server.stop();
}
