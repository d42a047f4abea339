//! Disks that the configuration keeps discovery away from: visible, not looked into, not changed; and a configuration that is read again while hosts are served.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::{Ports, Server, Tool, ashlar, needs, rpc, wait_for};
use serde_json::{Value, json};
use std::path::Path;

/// Verdict and reason of a disk.
fn said(dir: &Path, name: &str) -> (String, String) {
    let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_disks", json!({ "name": name })).expect("an answer");
    let word = |key: &str| told[0][key].as_str().unwrap_or_default().to_owned();
    (word("verdict"), word("reason"))
}

fn names(dir: &Path) -> Vec<String> {
    let told = rpc::call(&dir.join("rpc.sock"), "ashlar_get_disks", json!({})).expect("an answer");
    let disks = told.as_array().expect("a list").iter();
    disks
        .filter_map(|disk| disk["name"].as_str().map(str::to_owned))
        .collect()
}

fn engine(dir: &Path) -> Value {
    rpc::call(&dir.join("rpc.sock"), "ashlar_get_engine", json!({})).expect("an answer")
}

#[test]
fn what_the_configuration_excludes_is_left_alone_until_it_is_read_again() {
    if !needs("disks that are left alone", &["sfdisk"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let path = |name: &str| dir.join(name).with_extension("img");
    for name in ["mine", "theirs", "scratch"] {
        image::sparse(&path(name), 16 * MIB);
    }
    for name in ["mine", "theirs"] {
        let table = "printf 'label: gpt\\nstart=2048, size=8192\\nstart=10240, size=8192\\n' | sfdisk -q \"$0\"";
        Tool::new("sh").args(["-c", table]).arg(path(name)).ok();
    }
    let before = std::fs::read(path("theirs")).expect("the image");
    let mut config = Config::new(dir, Ports::free());
    for name in ["mine", "theirs", "scratch"] {
        config = config.file(name, &path(name));
    }
    let config = config.partitions_of("mine").yaml();
    let with = |discovery: &str| format!("{config}discovery: {discovery}\n");
    // By the path of its file.
    let server = Server::start(dir, &with("{exclude: [\"**/their*.img\"]}"));
    assert_eq!(names(dir), ["mine", "minep1", "minep2", "scratch", "theirs"]);
    let why = "is left alone by discovery.exclude \"**/their*.img\"";
    assert_eq!(said(dir, "theirs"), ("unclaimed".into(), why.into()));
    let shown = ashlar(dir, &["disk", "ls"]).ok();
    assert!(
        shown.lines().any(|line| line.contains("theirs") && line.contains(why)),
        "{shown}"
    );
    for verb in [
        &["label", "create", "theirs", "--force"][..],
        &["partition", "create", "theirs", "--size", "1m"],
        &["lvm", "pvcreate", "-ff", "-y", "theirs"],
        &["partition", "ls", "theirs"],
    ] {
        let refused = ashlar(dir, verb).fails();
        assert!(refused.contains(why), "{verb:?}: {refused}");
    }
    assert_eq!(std::fs::read(path("theirs")).expect("the image"), before);

    // An engine that takes the place of another leaves it alone as well.
    let first = engine(dir);
    let process = first["process"].as_u64().expect("a process of its own").to_string();
    Tool::new("kill").args(["-KILL", &process]).ok();
    wait_for("another engine", || {
        let now = engine(dir);
        now["starts"] != first["starts"] && now["process"].is_u64()
    });
    assert_eq!(said(dir, "theirs").1, why);

    // A mistake changes nothing, and is told with its place.
    let file = dir.join("ashlar.yaml");
    std::fs::write(&file, with("{exclude: [\"[\"]}")).expect("write the configuration");
    let refused = ashlar(dir, &["config", "reload"]).fails();
    assert!(refused.contains("discovery.exclude[0]: \"[\" is no glob"), "{refused}");
    assert_eq!(said(dir, "theirs").1, why);

    // Nothing excluded any more; what is not taken over is told.
    std::fs::write(&file, config.clone() + "reactors: {poll: interrupt}\n").expect("write the configuration");
    let told = ashlar(dir, &["config", "reload"]).ok();
    assert_eq!(
        told,
        "Taken over: discovery.\nDifferent, but not before the next start: reactors.\n"
    );
    assert_eq!(said(dir, "theirs"), ("claimed".into(), "GPT with 2 partitions".into()));
    assert!(names(dir).contains(&"theirsp2".to_owned()));

    // By signal, this time; and what is served stays served.
    std::fs::write(&file, with("{include: [scratch], exclude: [s*]}")).expect("write the configuration");
    Tool::new("kill").args(["-HUP", &server.pid().to_string()]).ok();
    server.wait_for_log("configuration read again: taken over: discovery");
    let why = "is left alone: no glob of discovery.include matches it";
    assert_eq!(said(dir, "theirs"), ("unclaimed".into(), why.into()));
    assert_eq!(said(dir, "scratch").1, "is left alone by discovery.exclude \"s*\"");
    assert_eq!(names(dir), ["mine", "minep1", "minep2", "scratch", "theirs"]);
    assert_eq!(said(dir, "mine").1, why);
    let shown = ashlar(dir, &["config", "show"]).ok();
    assert!(shown.contains("discovery:") && shown.contains("scratch"), "{shown}");
    // Another engine begins with what was read last.
    let process = engine(dir)["process"].as_u64().expect("a process").to_string();
    let starts = engine(dir)["starts"].clone();
    Tool::new("kill").args(["-KILL", &process]).ok();
    wait_for("another engine", || {
        let now = engine(dir);
        now["starts"] != starts && now["process"].is_u64()
    });
    assert_eq!(said(dir, "theirs").1, why);
    assert!(!names(dir).contains(&"theirsp2".to_owned()));
    server.stop();
}
