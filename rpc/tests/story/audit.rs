//! The audit log over the socket: every change, who made it and what came of it; and never a secret, whatever method it was given to and however wrongly.

use std::fs;

use serde_json::{Value, json};

use crate::harness::Process;

fn lines(p: &Process) -> Vec<Value> {
    let text = fs::read_to_string(p.dir.path().join("audit")).expect("the log");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn changes_are_written_down_with_who_and_what_came_of_it_and_looks_are_not() {
    let mut p = Process::audited();
    p.ok(
        "bdev_null_create",
        json!({"name": "n", "num_blocks": 64, "block_size": 512}),
    );
    p.ok("bdev_get_bdevs", json!({}));
    p.ok("ashlar_get_disks", json!({}));
    let refused = p.refused("bdev_null_delete", json!({"name": "none"}));
    p.ok("log_set_flag", json!({"flag": "nvmf"}));
    p.refused("no_such_method", json!({}));
    let all = lines(&p);
    let methods: Vec<&str> = all.iter().filter_map(|line| line["method"].as_str()).collect();
    assert_eq!(methods, ["bdev_null_create", "bdev_null_delete", "log_set_flag"]);
    assert_eq!(
        all[0]["params"],
        json!({"name": "n", "num_blocks": 64, "block_size": 512})
    );
    assert_eq!(all[0]["result"], "done");
    assert_eq!(all[1]["result"], json!({"code": refused.0, "message": refused.1}));
    let peer = &all[0]["peer"];
    assert_eq!(peer["pid"], std::process::id());
    assert!(peer["uid"].is_u64() && peer["gid"].is_u64());
    let time = all[0]["time"].as_str().expect("a time");
    assert!(
        time.starts_with("20") && time.ends_with('Z') && time.len() == 27,
        "{time}"
    );
}

/// Methods that look, of those whose name does not say so.
const LOOK: [&str; 8] = [
    "ashlar_can",
    "ashlar_plan",
    "ashlar_plan_stack",
    "ashlar_show_targets",
    "bdev_wait_for_examine",
    "framework_wait_init",
    "nvmf_get_stats",
    "scsi_get_devices",
];

#[test]
fn every_method_that_does_not_look_is_written_down() {
    let mut p = Process::audited();
    let all = p.ok("rpc_get_methods", json!({"include_aliases": true}));
    let names: Vec<&str> = all
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let changes: Vec<&str> = names
        .into_iter()
        .filter(|name| !name.contains("_get_") && !name.ends_with("_get") && !LOOK.contains(name))
        // That would end it.
        .filter(|name| *name != "spdk_kill_instance")
        .collect();
    assert!(changes.len() > 90, "{}", changes.len());
    for name in &changes {
        // Refused, nearly all of them, for what they do not know.
        let _ = p.client.call::<Value>(name, json!({"no_such_parameter": "x"}));
    }
    let noted: Vec<String> = lines(&p)
        .iter()
        .map(|line| line["method"].as_str().expect("a method").to_owned())
        .collect();
    assert_eq!(noted, changes);
}

#[test]
fn no_secret_is_written_down_whatever_it_was_given_to() {
    const SECRET: &str = "5ec4e75ec4e75ec4e75ec4e75ec4e700";
    let mut p = Process::audited();
    p.ok(
        "bdev_malloc_create",
        json!({"name": "M", "num_blocks": 64, "block_size": 512}),
    );
    let tls = format!("NVMeTLSkey-1:01:{SECRET}:");
    let dhchap = format!("DHHC-1:00:{SECRET}:");
    let calls = [
        // As they should be.
        (
            "accel_crypto_key_create",
            json!({"cipher": "AES_XTS", "name": "k", "key": SECRET, "key2": SECRET.replace('0', "1")}),
        ),
        (
            "bdev_crypto_create",
            json!({"base_bdev_name": "M", "name": "C", "cipher": "AES_XTS", "key": SECRET, "key2": SECRET.replace('0', "2")}),
        ),
        (
            "iscsi_create_auth_group",
            json!({"tag": 1, "secrets": [{"user": "u", "secret": SECRET, "muser": "m", "msecret": SECRET.replace('0', "3")}]}),
        ),
        (
            "iscsi_auth_group_add_secret",
            json!({"tag": 1, "user": "v", "secret": SECRET}),
        ),
        // And as they should not: another type, another place, another name.
        (
            "accel_crypto_key_create",
            json!({"cipher": "AES_XTS", "name": "l", "keey": SECRET, "key2": {"is": SECRET}, "random": [SECRET]}),
        ),
        ("accel_crypto_key_create", json!([SECRET])),
        (
            "iscsi_create_auth_group",
            json!({"tag": 2, "secrets": [SECRET, [SECRET]], "secret": SECRET}),
        ),
        (
            "iscsi_create_auth_group",
            json!({"tag": [SECRET], "secrets": {"user": [SECRET], "msecret": SECRET}}),
        ),
        (
            "iscsi_auth_group_add_secret",
            json!({"tag": 1, "user": "w", "pass": SECRET}),
        ),
        ("keyring_file_add_key", json!({"name": "t", "path": tls})),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": "nqn.2016-06.io.spdk:c", "host": "nqn.2014-08.org.nvmexpress:x", "psk": tls, "dhchap_key": dhchap}),
        ),
        (
            "nvmf_subsystem_set_keys",
            json!({"nqn": "nqn.2016-06.io.spdk:c", "host": "nqn.2014-08.org.nvmexpress:x", "dhchap_ctrlr_key": dhchap}),
        ),
        ("sock_impl_set_options", json!({"impl_name": "ssl", "psk_key": SECRET})),
        (
            "ashlar_create_disk",
            json!({"name": "D", "table": {"crypt": {"on": "M", "key": SECRET}}, "passphrase": SECRET}),
        ),
    ];
    let count = calls.len();
    for (method, params) in calls {
        let _ = p.client.call::<Value>(method, params);
    }
    let text = fs::read_to_string(p.dir.path().join("audit")).expect("the log");
    assert_eq!(text.lines().count(), count + 1);
    for part in [
        SECRET,
        &SECRET.replace('0', "1"),
        &SECRET.replace('0', "2"),
        &SECRET.replace('0', "3"),
        "5ec4e7",
    ] {
        assert!(!text.contains(part), "{text}");
    }
    let done = lines(&p).iter().filter(|line| line["result"] == "done").count();
    assert!(done >= 5, "they are real calls: {text}");
    assert!(
        text.contains("\"user\":\"u\"") && text.contains("\"name\":\"k\""),
        "{text}"
    );
}
