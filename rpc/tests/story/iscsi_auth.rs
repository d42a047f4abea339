//! CHAP's secrets over the socket: SPDK's calls and texts, and nowhere a secret in what comes back.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rpc::methods::TableOptions;
use serde_json::{Value, json};

use crate::harness::Process;

/// A file only its owner may read.
fn private(path: &Path, text: &str) {
    use std::io::Write;
    let file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("a file");
}

fn saved(p: &mut Process) -> Value {
    p.ok("framework_get_config", json!({"name": "iscsi"}))
}

fn calls<'a>(saved: &'a Value, method: &str) -> Vec<&'a Value> {
    let all = saved.as_array().expect("a list").iter();
    all.filter(|call| call["method"] == method)
        .map(|call| &call["params"])
        .collect()
}

#[test]
fn groups_have_spdks_answers() {
    let mut p = Process::started();
    let invalid = |text: &str| (-32602, text.to_owned());
    assert_eq!(p.ok("iscsi_get_auth_groups", json!({})), json!([]));
    let secrets = json!([{"user": "u1", "secret": "s1s1s1s1s1s1"}, {"user": "u2", "secret": "s2s2s2s2s2s2", "muser": "me", "msecret": "m2m2m2m2m2m2"}]);
    assert_eq!(
        p.ok("iscsi_create_auth_group", json!({"tag": 1, "secrets": secrets})),
        true
    );
    assert_eq!(p.ok("iscsi_create_auth_group", json!({"tag": 2})), true);
    assert_eq!(
        p.refused("iscsi_create_auth_group", json!({"tag": 1})),
        invalid("Could not add auth group (1), File exists")
    );
    assert_eq!(
        p.refused("iscsi_create_auth_group", json!({"tag": 0})),
        invalid("Could not add auth group (0), Invalid argument")
    );
    let twice = json!([{"user": "a", "secret": "first one here"}, {"user": "a", "secret": "second one here"}]);
    assert_eq!(
        p.refused("iscsi_create_auth_group", json!({"tag": 3, "secrets": twice})),
        invalid("Could not add secret to auth group (3), File exists")
    );
    assert_eq!(
        p.ok(
            "iscsi_auth_group_add_secret",
            json!({"tag": 2, "user": "x", "secret": "xyzxyzxyzxyz"})
        ),
        true
    );
    for (params, text) in [
        (
            json!({"tag": 9, "user": "x", "secret": "abc"}),
            "Could not find auth group (9)",
        ),
        (
            json!({"tag": 2, "user": "x", "secret": "abc"}),
            "Could not add secret to auth group (2), File exists",
        ),
        (
            json!({"tag": 2, "user": "y"}),
            "Could not add secret to auth group (2), Invalid argument",
        ),
        (
            json!({"tag": 2, "user": "y", "secret": "abc", "muser": "z"}),
            "Could not add secret to auth group (2), Invalid argument",
        ),
        (
            json!({"tag": 2, "user": "y", "secret": "same", "muser": "z", "msecret": "same"}),
            "Could not add secret to auth group (2), Invalid argument",
        ),
        (
            json!({"tag": 2, "user": "y", "secret_file": "/nowhere"}),
            "Could not add secret to auth group (2), Invalid argument",
        ),
        (json!({"tag": 2, "user": "y", "secret": 12345}), "Invalid parameters"),
    ] {
        assert_eq!(
            p.refused("iscsi_auth_group_add_secret", params.clone()),
            invalid(text),
            "{params}"
        );
    }
    assert_eq!(
        p.ok("iscsi_get_auth_groups", json!({})),
        json!([{"tag": 1, "secrets": [{"user": "u1"}, {"user": "u2", "muser": "me"}]}, {"tag": 2, "secrets": [{"user": "x"}]}])
    );
    assert_eq!(
        p.ok("iscsi_auth_group_remove_secret", json!({"tag": 2, "user": "x"})),
        true
    );
    assert_eq!(
        p.refused("iscsi_auth_group_remove_secret", json!({"tag": 2, "user": "x"})),
        invalid("Could not delete secret from CHAP group (2), No such device")
    );
    assert_eq!(
        p.refused("iscsi_auth_group_remove_secret", json!({"tag": 8, "user": "x"})),
        invalid("Could not find auth group (8)")
    );
    assert_eq!(p.ok("iscsi_delete_auth_group", json!({"tag": 2})), true);
    assert_eq!(
        p.refused("iscsi_delete_auth_group", json!({"tag": 2})),
        invalid("Could not find auth group (2)")
    );
    // Who must prove it, where.
    assert_eq!(
        p.ok(
            "iscsi_set_discovery_auth",
            json!({"require_chap": true, "mutual_chap": true, "chap_group": 1})
        ),
        true
    );
    let options = p.ok("iscsi_get_options", json!({}));
    assert_eq!(
        (&options["require_chap"], &options["chap_group"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(
        p.refused("iscsi_set_discovery_auth", json!({"mutual_chap": true})),
        invalid("Invalid combination of CHAP params")
    );
    assert_eq!(
        p.refused("iscsi_portal_group_set_auth", json!({"tag": 5})),
        invalid("Could not find portal group 5")
    );
    assert_eq!(
        p.refused(
            "iscsi_target_node_set_auth",
            json!({"name": "iqn.x:y", "require_chap": true})
        ),
        invalid("Could not find target iqn.x:y")
    );
}

#[test]
fn what_is_saved_names_files_and_holds_no_secret() {
    let mut p = Process::started();
    let (one, two) = (p.dir.path().join("one"), p.dir.path().join("two"));
    private(&one, "secret of the host\n");
    private(&two, "secret of the target");
    let secrets = json!([{"user": "kept", "secret_file": one, "muser": "me", "msecret_file": two}, {"user": "said", "secret": "secret of the call"}]);
    p.ok("iscsi_create_auth_group", json!({"tag": 4, "secrets": secrets}));
    p.ok(
        "iscsi_set_discovery_auth",
        json!({"require_chap": true, "chap_group": 4}),
    );
    let port = (41000 + std::process::id() % 8000).to_string();
    p.ok(
        "iscsi_create_portal_group",
        json!({"tag": 1, "portals": [{"host": "127.0.0.1", "port": port}], "wait": true}),
    );
    p.ok("iscsi_portal_group_set_auth", json!({"tag": 1, "disable_chap": true}));
    p.ok(
        "iscsi_create_initiator_group",
        json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["[fe80::]/10", "10.0.0.0/8"]}),
    );
    p.ok(
        "bdev_null_create",
        json!({"name": "null", "num_blocks": 2048, "block_size": 512}),
    );
    p.ok(
        "iscsi_create_target_node",
        json!({"name": "t", "alias_name": "", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": [{"bdev_name": "null", "lun_id": 0}],
               "queue_depth": 8, "require_chap": true, "mutual_chap": true, "chap_group": 4}),
    );
    let moved = |host: &str| json!({"name": "t", "pg_tag": 1, "redirect_host": host, "redirect_port": "3261", "permanent": true});
    p.ok("iscsi_target_node_set_redirect", moved("[fd00::2]"));
    let failed = (
        -32602,
        "Failed to redirect target t, (-22): Invalid argument".to_owned(),
    );
    assert_eq!(p.refused("iscsi_target_node_set_redirect", moved("a.name")), failed);
    assert_eq!(
        p.refused("iscsi_target_node_set_redirect", json!({"name": "t", "pg_tag": 7})),
        failed
    );
    assert_eq!(
        p.refused(
            "iscsi_target_node_set_redirect",
            json!({"name": "iqn.x:y", "pg_tag": 1})
        ),
        (-32602, "Target iqn.x:y is not found".to_owned())
    );

    let first = saved(&mut p);
    assert_eq!(
        calls(&first, "iscsi_create_auth_group"),
        [&json!({"tag": 4, "secrets": [{"user": "kept", "secret_file": one, "muser": "me", "msecret_file": two}]})]
    );
    let text = first.to_string() + &p.ok("iscsi_get_auth_groups", json!({})).to_string();
    let config = p.ok("ashlar_get_config", json!({}));
    assert_eq!(config["targets"]["iscsi"]["discovery_auth"], json!({"group": 4}));
    assert_eq!(
        config["targets"]["iscsi"]["nodes"][0]["auth"],
        json!({"group": 4, "mutual": true})
    );
    assert!(!(text + &config.to_string()).contains("secret of"), "{first}");

    // Another process makes it the same again.
    let dir = std::mem::replace(&mut p.dir, tempfile::tempdir().expect("a folder"));
    drop(p);
    let mut q = Process::waiting(TableOptions::default());
    let all = first.as_array().expect("a list").clone();
    let (early, late): (Vec<_>, Vec<_>) = all.into_iter().partition(|call| call["method"] == "iscsi_set_options");
    for call in early {
        q.ok("iscsi_set_options", call["params"].clone());
    }
    q.ok("framework_start_init", json!({}));
    q.ok(
        "bdev_null_create",
        json!({"name": "null", "num_blocks": 2048, "block_size": 512}),
    );
    for call in late {
        q.ok(call["method"].as_str().expect("a name"), call["params"].clone());
    }
    assert_eq!(saved(&mut q), first);
    drop(dir);
}

#[test]
fn spdks_file_of_secrets_is_read_and_named() {
    let mut p = Process::waiting(TableOptions::default());
    let file = p.dir.path().join("auth.conf");
    private(
        &file,
        "[AuthGroup3]\n  Comment \"x\"\n  Auth \"user\" \"an old secret\" \"me\" \"an older one\"\n",
    );
    assert_eq!(
        p.ok(
            "iscsi_set_options",
            json!({"auth_file": file, "chap_algorithms": ["sha3-256", "sha256"]})
        ),
        true
    );
    p.ok("framework_start_init", json!({}));
    assert_eq!(
        p.ok("iscsi_get_auth_groups", json!({})),
        json!([{"tag": 3, "secrets": [{"user": "user", "muser": "me"}]}])
    );
    let saved = saved(&mut p);
    assert_eq!(calls(&saved, "iscsi_set_options")[0]["auth_file"], json!(file));
    assert_eq!(
        calls(&saved, "iscsi_set_options")[0]["chap_algorithms"],
        json!(["sha3-256", "sha256"])
    );
    assert!(
        calls(&saved, "iscsi_create_auth_group").is_empty(),
        "the file makes it again"
    );
}
