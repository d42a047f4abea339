//! Arrays that change while hosts use them: a member is replaced by another disk and is missed at no time; larger members make the array longer.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::{Ports, Server, Tool, ashlar, needs, rpc, wait_for};
use serde_json::{Value, json};

#[test]
fn members_are_replaced_by_larger_ones_and_the_array_grows() {
    let story = "members that are replaced";
    if !needs(story, &["qemu-io", "qemu-img", "mdadm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let ports = Ports::free();
    let mut config = Config::new(dir, ports);
    let file = |name: &str| dir.join(format!("{name}.img"));
    for (name, mib) in [("a0", 24), ("a1", 24), ("a2", 24), ("b0", 48), ("b1", 40), ("b2", 64)] {
        image::sparse(&file(name), mib * MIB);
        config = config.file(name, &file(name));
    }
    let config = config.yaml() + "  - on: md/data\n";
    let server = Server::start(dir, &config);
    let call = |method: &str, params: Value| rpc::call(&dir.join("rpc.sock"), method, params);
    let array = || call("ashlar_get_arrays", json!({"name": "md/data"})).map(|mut all| all[0].take());
    let whole = || array().is_ok_and(|array| array["state"] == "whole");
    let url = || {
        let volume = rpc::volume(&dir.join("rpc.sock"), "md/data");
        let (iqn, lun) = volume.iqn();
        format!("iscsi://127.0.0.1:{}/{iqn}/{lun}", ports.iscsi)
    };
    let io = |what: &str| Tool::new("qemu-io").args(["-f", "raw", "-c", what]).arg(url()).ok();
    let size = || {
        let told = Tool::new("qemu-img")
            .args(["info", "--output=json", "-f", "raw"])
            .arg(url())
            .ok();
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["virtual-size"].as_u64().expect("a number")
    };
    let create = [
        "do",
        "raid-create",
        "data",
        "disks=a0,a1,a2",
        "level=raid5",
        "chunk=64k",
    ];
    ashlar(dir, &create).ok();
    wait_for("the array", whole);
    wait_for("a target", || {
        call("ashlar_get_volumes", json!({})).is_ok_and(|all| all.to_string().contains("md:data"))
    });
    io("write -P 0x61 0 40M");
    io("write -P 0x62 7001k 123k");
    let replace = |old: &str, new: &str| {
        let (old, new) = (format!("disk={old}"), format!("with={new}"));
        ashlar(dir, &["do", "raid-replace", "md/data", &old, &new])
    };
    // Who is no member, who is one already, who is too small.
    replace("b0", "b1").fails();
    replace("a0", "a1").fails();
    let dry = ["do", "raid-replace", "md/data", "disk=a0", "with=b0", "--dry-run"];
    ashlar(dir, &dry).ok();
    // One that is given up on the way leaves everything as it was.
    ashlar(dir, &["raid", "limit", "md/data", "1"]).ok();
    replace("a0", "b0").ok();
    let replaced_by = |place: usize| array().expect("an array")["members"][place]["replacement"]["disk"].take();
    wait_for("the replacement", || replaced_by(0) == "b0");
    let shown = ashlar(dir, &["raid", "show", "md/data"]).ok();
    assert!(shown.contains("replaces it"), "{shown}");
    replace("a0", "b1").fails();
    let examined = Tool::new("mdadm").arg("--examine").arg(file("b0")).ok();
    assert!(examined.contains("Replacement device 0"), "{examined}");
    ashlar(dir, &["do", "raid-remove", "md/data", "disks=b0"]).fails();
    ashlar(dir, &["raid", "fail", "md/data", "b0"]).ok();
    wait_for("the end of it", || replaced_by(0).is_null());
    assert!(array().expect("an array")["members"][0]["disk"] == "a0");
    ashlar(dir, &["do", "raid-remove", "md/data", "disks=b0"]).ok();
    ashlar(dir, &["raid", "limit", "md/data", "0"]).ok();
    // And now all of them, one by a spare. Another may fail meanwhile.
    ashlar(dir, &["do", "raid-add", "md/data", "disks=b0"]).ok();
    for (place, (old, new)) in [("a0", "b0"), ("a1", "b1"), ("a2", "b2")].into_iter().enumerate() {
        ashlar(dir, &["raid", "grow", "md/data"]).fails();
        replace(old, new).ok();
        wait_for("another in its place", || {
            array().is_ok_and(|array| array["members"][place]["disk"] == new && array["state"] == "whole")
        });
        ashlar(dir, &["do", "raid-remove", "md/data", &format!("disks={old}")]).ok();
        io("write -P 0x63 30000k 64k");
    }
    println!("{}", ashlar(dir, &["raid", "show", "md/data"]).ok());
    let before = size();
    ashlar(dir, &["raid", "grow", "md/data", "--per-member", "50"]).fails();
    ashlar(dir, &["raid", "grow", "md/data"]).ok();
    assert!(size() > before + 30 * MIB, "{} is as long as {before}", size());
    let last = size() - 65536;
    io(&format!("write -P 0x64 {last} 64k"));
    wait_for("what is new to be made alike", whole);
    ashlar(dir, &["raid", "check", "md/data"]).ok();
    wait_for("an end of the check", || {
        array().is_ok_and(|array| array["progress"].is_null())
    });
    assert_eq!(array().expect("an array")["mismatched_bytes"], 0);
    ashlar(dir, &["raid", "fail", "md/data", "b1"]).ok();
    io("read -P 0x62 7001k 123k");
    io(&format!("read -P 0x64 {last} 64k"));
    server.assert_no_panic();
    server.stop();
    let examined = Tool::new("mdadm").arg("--examine").arg(file("b2")).ok();
    let value = |key: &str| {
        let line = examined.lines().find(|line| line.trim_start().starts_with(key));
        line.unwrap_or_else(|| panic!("{key}: {examined}")).to_owned()
    };
    assert!(
        value("State :").ends_with("clean") && value("Checksum :").contains("correct"),
        "{examined}"
    );
    // The smallest of them has 40 MiB, and its data begin at the second.
    assert!(
        value("Used Dev Size :").contains(&format!("{} sectors", (40 - 1) * 2048 / 128 * 128)),
        "{examined}"
    );
    let server = Server::start(dir, &config);
    wait_for("the array", || array().is_ok_and(|array| array["state"] == "degraded"));
    io("read -P 0x63 30000k 64k");
    io(&format!("read -P 0x64 {last} 64k"));
    server.stop();
}
