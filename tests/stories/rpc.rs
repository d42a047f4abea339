//! SPDK's own Python client, from PyPI and unmodified, drives the whole set-up; then hosts use it.
use blackbox::image;
use blackbox::iscsi::Iscsi;
use blackbox::nvme::Nvme;
use blackbox::pattern;
use blackbox::serve::Start;
use blackbox::tool::tree;
use blackbox::{Ports, Server, Tool, rpc, skip};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const IQN: &str = "iqn.2016-06.io.spdk:disk1";

/// The Python that has the client, or a skip.
fn python(story: &str) -> Option<PathBuf> {
    let python = std::env::var_os("ASHLAR_SPDK_PYTHON")
        .map_or_else(|| tree().join(".build/spdk-client/bin/python"), PathBuf::from);
    if !python.exists() {
        skip(story, "SPDK's client is not installed (ci/install-spdk-client)");
        return None;
    }
    Some(python)
}

fn empty(dir: &Path, arguments: &[&str]) -> Server {
    let start = arguments
        .iter()
        .fold(Start::unconfigured(dir), |start, arg| start.arg(arg));
    start.answering().spawn()
}

fn provision(python: &Path, dir: &Path, ports: Ports) {
    let said = Tool::new(&python.to_string_lossy())
        .arg(tree().join("tests/rpc/provision.py"))
        .arg(dir.join("rpc.sock"))
        .arg(dir)
        .args([ports.iscsi.to_string(), ports.nvme.to_string()])
        .ok();
    assert!(said.ends_with("PASS\n"), "{said}");
}

/// Writes through every path and reads back; the same bytes must lie in the file below.
fn use_it(dir: &Path, ports: Ports) {
    let data = pattern::block(3, 9, 96 * 1024);
    let mut split = Nvme::connect(ports.nvme, NQN, 1).expect("connect to namespace 1");
    assert_eq!((split.block, split.blocks), (512, 65536));
    split.write(8, &data).expect("write");
    split.flush().expect("flush");
    assert!(split.read(8, 192).expect("read") == data);
    let mut aio = Nvme::connect(ports.nvme, NQN, 5).expect("connect to namespace 5");
    aio.write(2048, &data).expect("write");
    aio.flush().expect("flush");
    let file = std::fs::read(dir.join("aio.img")).expect("read the file");
    assert!(file[1 << 20..][..data.len()] == data, "the bytes are not in the file");
    let mut delay = Iscsi::login(ports.iscsi, IQN, 0).expect("log in to LUN 0");
    delay.write(100, &data).expect("write");
    assert!(delay.read(100, 192).expect("read") == data);
    let mut null = Iscsi::login(ports.iscsi, IQN, 2).expect("log in to LUN 2");
    assert_eq!((null.block, null.blocks), (4096, 262144));
    assert_eq!(null.read(5, 2).expect("read").len(), 8192);
}

#[test]
fn the_spdk_client_sets_up_both_targets() {
    let Some(python) = python("SPDK's client") else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let server = empty(dir.path(), &[]);
    provision(&python, dir.path(), ports);
    use_it(dir.path(), ports);

    // Errors are injected by RPC and reach the host as errors, as many as asked for.
    let socket = dir.path().join("rpc.sock");
    let inject = json!({"name": "EE_Malloc1", "io_type": "write", "error_type": "failure", "num": 2});
    rpc::call(&socket, "bdev_error_inject_error", inject).expect("inject");
    let mut faulty = Iscsi::login(ports.iscsi, IQN, 1).expect("log in to LUN 1");
    for _ in 0..2 {
        let error = faulty.write(0, &[1; 4096]).expect_err("the injected error").to_string();
        assert!(error.contains("status 0x2"), "CHECK CONDITION expected: {error}");
    }
    faulty.write(0, &[2; 4096]).expect("only two errors were asked for");
    assert!(faulty.read(0, 8).expect("read") == [2; 4096]);
    // One failed read is one failed read, although a read that failed is tried once more below the session.
    let inject = json!({"name": "EE_Malloc1", "io_type": "read", "error_type": "failure", "num": 1});
    rpc::call(&socket, "bdev_error_inject_error", inject).expect("inject");
    assert!(faulty.read(0, 8).is_err(), "the injected error");
    assert!(faulty.read(0, 8).expect("read") == [2; 4096]);

    // The statistics counted what our hosts did.
    let stat = rpc::call(&socket, "bdev_get_iostat", json!({"name": "Aio0"})).expect("bdev_get_iostat");
    assert_eq!(stat["bdevs"][0]["bytes_written"], Value::from(96 * 1024), "{stat}");

    // Taking it apart again: the hosts lose the disk, the next set-up starts from nothing.
    rpc::call(&socket, "iscsi_delete_target_node", json!({"name": IQN})).expect("delete the node");
    assert!(faulty.write(0, &[3; 512]).is_err(), "a deleted node still answers");
    rpc::call(&socket, "nvmf_delete_subsystem", json!({"nqn": NQN})).expect("delete the subsystem");
    assert!(
        Nvme::connect(ports.nvme, NQN, 1).is_err(),
        "a deleted subsystem still accepts"
    );
    rpc::call(&socket, "bdev_aio_delete", json!({"name": "Aio0"})).expect("delete the bdev");
    server.assert_no_panic();
    server.stop();
}

#[test]
fn what_was_set_up_is_saved_and_loaded_as_rpc_py_does() {
    let Some(python) = python("save_config and load_config") else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let tool = |arguments: &str| {
        let spdk_rpc = python.with_file_name("spdk-rpc");
        let line = format!(
            "exec '{}' -s '{}' {arguments}",
            spdk_rpc.display(),
            dir.path().join("rpc.sock").display()
        );
        Tool::new("sh").args(["-c", &line]).ok()
    };
    let saved = dir.path().join("saved.json");
    let server = empty(dir.path(), &[]);
    provision(&python, dir.path(), ports);
    let first = tool("save_config");
    std::fs::write(&saved, &first).expect("keep what was saved");
    server.stop();

    let server = empty(dir.path(), &["--wait-for-rpc"]);
    tool(&format!("load_config < '{}'", saved.display()));
    use_it(dir.path(), ports);
    let second = tool("save_config");
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("save_config prints JSON");
    assert_eq!(
        parse(&first),
        parse(&second),
        "loading and saving again changed something"
    );
    server.stop();
    // The image is left as it was used.
    assert_eq!(
        std::fs::metadata(dir.path().join("aio.img")).map(|m| m.len()).ok(),
        Some(64 * image::MIB)
    );
}
