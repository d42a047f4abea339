//! A partition scheme from outside the tree: `examples/toy-partitions` is copied to another place, built there, and dropped in. Its disk is claimed; with plain
//! `ashlar` it is unclaimed again, and nothing else is different.
use blackbox::config::Config;
use blackbox::serve::{Ports, Start, binary};
use blackbox::tool::tree;
use blackbox::{image, needs};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies the example out of the tree and builds it, as its README says. The crates of others are those that were built for the tree.
fn build(dir: &Path) -> PathBuf {
    let (from, to) = (
        tree().join("examples/toy-partitions"),
        dir.join("somewhere/toy-partitions"),
    );
    fs::create_dir_all(to.join("src")).expect("a folder");
    for file in fs::read_dir(from.join("src")).expect("the example") {
        let file = file.expect("a file").path();
        fs::copy(&file, to.join("src").join(file.file_name().expect("a name"))).expect("copy");
    }
    let manifest = fs::read_to_string(from.join("Cargo.toml")).expect("the manifest");
    let path = format!("\"{}\"", tree().join("ashlar").display());
    assert!(manifest.contains("\"../../ashlar\""), "{manifest}");
    fs::write(to.join("Cargo.toml"), manifest.replace("\"../../ashlar\"", &path)).expect("write the manifest");
    fs::copy(tree().join("Cargo.lock"), to.join("Cargo.lock")).expect("the tested versions");
    // What it has in common with the tree is built already; its own name keeps it apart.
    let target = tree().join(".build");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Ashlar's own crates are compiled once more for another workspace: quickly is better than well, for a few disks that are looked at.
    let own = ["ashlar", "bdev", "config", "lvol", "reactor", "rpc", "spec", "target"];
    let quickly = own.map(|name| format!("--config=profile.dev.package.{name}.opt-level=0"));
    for what in ["build", "test"] {
        let done = Command::new(&cargo)
            .args([what, "-q", "--offline", "--target-dir"])
            .arg(&target)
            .args(&quickly)
            .current_dir(&to)
            .output()
            .expect("run cargo");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "cargo {what} of the example: {said}");
        assert!(!said.contains("warning"), "cargo {what} of the example: {said}");
    }
    target.join("debug/toy-partitions")
}

/// What a command says, as JSON.
fn ask(program: &Path, socket: &Path, args: &[&str]) -> Value {
    let done = Command::new(program)
        .args(["--json", "--socket"])
        .arg(socket)
        .args(args)
        .output()
        .expect("ask");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    serde_json::from_str(&said).unwrap_or_else(|why| panic!("{args:?}: {why}: {said}"))
}

/// Everything that is said of disks, but of this one and what is on it; without what counts events and time.
fn others(disks: &Value, but: &str) -> Vec<Value> {
    let disks = disks.as_array().expect("a list").iter();
    let disks = disks.filter(|disk| !disk["name"].as_str().unwrap_or_default().starts_with(but));
    disks
        .map(|disk| {
            serde_json::json!([
                disk["name"],
                disk["verdict"],
                disk["reason"],
                disk["format"],
                disk["parts"]
            ])
        })
        .collect()
}

fn find<'a>(all: &'a Value, name: &str) -> &'a Value {
    let all = all.as_array().expect("a list");
    all.iter().find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn a_scheme_from_outside_the_tree_claims_its_disk_and_leaves_without_a_trace() {
    if !needs("a plug-in from outside the tree", &["sfdisk", "mkfs.ext4"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let toy = build(dir);
    image::gpt(dir, &dir.join("gpt.img"));
    let file = fs::File::create(dir.join("toy.img")).expect("a file");
    file.set_len(64 << 20).expect("64 MiB");
    let config = dir.join("disks.yaml");
    let lines = Config::new(dir, Ports::free())
        .file("gpt", &dir.join("gpt.img"))
        .file("toy0", &dir.join("toy.img"))
        .volumes(&["gptp1"]);
    fs::write(&config, lines.yaml()).expect("write the configuration");
    let socket = dir.join("rpc.sock");

    // With the plug-in: a verb of its own makes the table, discovery makes disks of it.
    let server = Start::of(&toy, dir).arg(&config.to_string_lossy()).serving().spawn();
    let can = ask(&toy, &socket, &["can", "toy0", "toy-create"]);
    assert_eq!(can[0]["possible"], true, "{can}");
    let options = ["do", "toy-create", "toy0", "partitions=boot:8192,data:65536"];
    let plan = ask(&toy, &socket, &[&options[..], &["--dry-run"]].concat());
    assert_eq!(plan["steps"].as_array().map(Vec::len), Some(1), "{plan}");
    ask(&toy, &socket, &options);
    let plugin = ask(&toy, &socket, &["plugin", "show", "toy"]);
    assert_eq!(plugin["claims"], serde_json::json!(["toy0"]), "{plugin}");
    assert_eq!(
        (&plugin["id"], &plugin["built_in"]),
        (&"0x80012001".into(), &false.into())
    );
    assert_eq!(plugin["verbs"], serde_json::json!(["toy-create"]));
    let with = ask(&toy, &socket, &["disk", "ls"]);
    assert_eq!(find(&with, "toy0")["format"], "toy");
    assert_eq!(find(&with, "toy0")["reason"], "toy table with 2 partitions");
    let data = find(&with, "toy0p2");
    assert_eq!(data["partition"]["scheme"], "toy", "{data}");
    assert_eq!(data["partition"]["name"], "data");
    assert_eq!(data["node"]["geometry"]["blocks"], 65_536, "{data}");
    server.stop();

    // Without it: the disk holds what nobody knows.
    let plain = binary();
    let server = Start::of(&plain, dir).arg(&config.to_string_lossy()).serving().spawn();
    let plugins = ask(&plain, &socket, &["plugin", "ls"]);
    assert_eq!(find(&plugins["plugins"], "toy"), &Value::Null);
    assert_eq!(find(&plugins["plugins"], "gpt")["claims"], serde_json::json!(["gpt"]));
    assert_eq!(find(&plugins["plugins"], "sun")["active"], false);
    let without = ask(&plain, &socket, &["disk", "ls"]);
    assert_eq!(find(&without, "toy0")["verdict"], "unclaimed");
    assert_eq!(find(&without, "toy0")["reason"], "holds data of no format known here");
    assert_eq!(find(&without, "toy0p1"), &Value::Null);
    assert_eq!(others(&with, "toy0"), others(&without, "toy0"));
    server.stop();
}
