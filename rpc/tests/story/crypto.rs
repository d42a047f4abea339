//! Encrypted disks and their keys: what is made, refused, shown and saved; and that no key is ever told.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::harness::Process;

const ONE: &str = "00112233445566778899aabbccddeeff";
const OTHER: &str = "ffeeddccbbaa99887766554433221100";

fn key(name: &str) -> serde_json::Value {
    json!({"cipher": "AES_XTS", "name": name, "key": ONE, "key2": OTHER})
}

fn malloc(p: &mut Process, name: &str) {
    let disk = json!({"name": name, "num_blocks": 64, "block_size": 512});
    p.ok("bdev_malloc_create", disk);
}

#[test]
fn a_disk_is_encrypted_with_a_key_that_nobody_is_told() {
    let mut p = Process::started();
    malloc(&mut p, "M");
    assert_eq!(p.ok("accel_crypto_key_create", key("k")), true);
    let crypto = json!({"base_bdev_name": "M", "name": "C", "key_name": "k"});
    assert_eq!(p.ok("bdev_crypto_create", crypto.clone()), "C");
    let shown = p.ok("bdev_get_bdevs", json!({"name": "C"}))[0].take();
    assert_eq!(shown["product_name"], "crypto");
    assert_eq!(
        shown["driver_specific"],
        json!({"crypto": {"base_bdev_name": "M", "name": "C", "key_name": "k"}})
    );
    assert_eq!(p.ok("bdev_get_bdevs", json!({"name": "M"}))[0]["claimed"], true);
    let keys = p.ok("accel_crypto_keys_get", json!({}));
    assert_eq!(
        keys,
        json!([{"name": "k", "cipher": "AES_XTS", "tweak_mode": "SIMPLE_LBA", "bits": 128}])
    );
    assert_eq!(p.ok("accel_crypto_keys_get", json!({"key_name": "k"})), keys);
    for subsystem in ["accel", "bdev"] {
        let saved = p.ok("framework_get_config", json!({"name": subsystem})).to_string();
        assert!(!saved.contains(ONE) && !saved.contains(OTHER), "{saved}");
        assert_eq!(saved.contains("bdev_crypto_create"), subsystem == "bdev", "{saved}");
    }

    assert_eq!(p.refused("bdev_crypto_create", crypto), (-17, "File exists".into()));
    assert_eq!(
        p.refused("accel_crypto_key_destroy", json!({"key_name": "k"})),
        (-32602, "Failed to destroy key, rc -16".into())
    );
    malloc(&mut p, "N");
    assert_eq!(
        p.refused(
            "bdev_crypto_create",
            json!({"base_bdev_name": "N", "name": "D", "key_name": "none"})
        ),
        (-32602, "Key was not found".into())
    );
    assert_eq!(
        p.refused("bdev_crypto_delete", json!({"name": "N"})),
        (-19, "No such device".into())
    );
    assert_eq!(p.ok("bdev_crypto_delete", json!({"name": "C"})), true);
    assert_eq!(p.ok("accel_crypto_key_destroy", json!({"key_name": "k"})), true);
    assert_eq!(
        p.refused("accel_crypto_key_destroy", json!({"key_name": "k"})),
        (-32602, "No key object found".into())
    );
    assert_eq!(
        p.refused("accel_crypto_keys_get", json!({"key_name": "k"})),
        (-32602, "key was not found".into())
    );
}

#[test]
fn keys_that_cannot_be_are_refused_and_not_quoted() {
    let mut p = Process::started();
    p.ok("accel_crypto_key_create", key("k"));
    let dek = |errno: i32| (-32602, format!("failed to create DEK, rc -{errno}"));
    let with = |change: serde_json::Value| {
        let mut params = key("x");
        for (name, value) in change.as_object().expect("an object") {
            params[name] = value.clone();
        }
        params
    };
    assert_eq!(p.refused("accel_crypto_key_create", key("k")), dek(17));
    for (change, errno) in [
        (json!({"cipher": "AES_CBC"}), 95),
        (json!({"tweak_mode": "INCR_512_FULL_LBA"}), 95),
        (json!({"key2": ONE}), 22),
        (json!({"key2": null}), 22),
        (json!({"key": &ONE[1..], "key2": &OTHER[1..]}), 22),
        (json!({"key": format!("{ONE}{ONE}")}), 22),
        (json!({"key": ONE.replace('0', "x")}), 22),
        (json!({"random": 128}), 22),
    ] {
        assert_eq!(
            p.refused("accel_crypto_key_create", with(change.clone())),
            dek(errno),
            "{change}"
        );
    }
    let number = with(json!({"key": 1_234_567}));
    let said = p.refused("accel_crypto_key_create", number);
    assert_eq!(said, (-32700, "spdk_json_decode_object failed".into()));
    for params in [json!({"key_file": "relative"}), json!({"random": 64})] {
        let mut params = params;
        (params["name"], params["cipher"]) = ("x".into(), "AES_XTS".into());
        assert_eq!(p.refused("accel_crypto_key_create", params), dek(22));
    }
    assert_eq!(
        p.ok("accel_crypto_keys_get", json!({})).as_array().map(Vec::len),
        Some(1)
    );
}

/// Before SPDK 23.01 the key came with the disk; then it goes with it, too.
#[test]
fn a_key_may_come_with_its_disk() {
    let mut p = Process::started();
    let old = json!({"base_bdev_name": "M", "name": "C", "crypto_pmd": "crypto_aesni_mb", "cipher": "AES_XTS", "key": ONE, "key2": OTHER});
    assert_eq!(p.ok("bdev_crypto_create", old), "C");
    assert_eq!(p.ok("accel_crypto_keys_get", json!({}))[0]["name"], "C_AES_XTS");
    malloc(&mut p, "M");
    let late = json!({"name": "C", "timeout": 10_000});
    assert_eq!(p.ok("bdev_get_bdevs", late)[0]["num_blocks"], 64);
    p.ok("bdev_crypto_delete", json!({"name": "C"}));
    assert_eq!(p.ok("accel_crypto_keys_get", json!({})), json!([]));
    let none = json!({"base_bdev_name": "M", "name": "C"});
    assert_eq!(
        p.refused("bdev_crypto_create", none),
        (-32603, "No key was found".into())
    );
}

#[test]
fn keys_from_files_and_from_chance_are_saved_as_such() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("key");
    std::fs::write(&path, format!("{ONE}{OTHER}\n")).expect("a key file");
    let mut p = Process::started();
    let file = json!({"cipher": "AES_XTS", "name": "f", "key_file": path});
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("open to all");
    assert_eq!(
        p.refused("accel_crypto_key_create", file.clone()),
        (-32602, "failed to create DEK, rc -1".into())
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("private");
    p.ok("accel_crypto_key_create", file);
    p.ok(
        "accel_crypto_key_create",
        json!({"cipher": "AES_XTS", "name": "r", "random": 256}),
    );
    p.ok("accel_crypto_key_create", key("said"));
    let saved = p.ok("framework_get_config", json!({"name": "accel"}));
    let calls: Vec<_> = saved.as_array().expect("calls").clone();
    assert_eq!(
        calls,
        [
            json!({"method": "accel_crypto_key_create",
                   "params": {"name": "f", "cipher": "AES_XTS", "tweak_mode": "SIMPLE_LBA", "key_file": path}}),
            json!({"method": "accel_crypto_key_create",
                   "params": {"name": "r", "cipher": "AES_XTS", "tweak_mode": "SIMPLE_LBA", "random": 256}}),
        ]
    );
    let mut q = Process::started();
    for call in calls {
        q.ok("accel_crypto_key_create", call["params"].clone());
    }
    assert_eq!(q.ok("framework_get_config", json!({"name": "accel"})), saved);
}
