//! The running state as calls: saved in one process, made in another, the same again.

use rpc::methods::TableOptions;
use serde_json::{Value, json};

use crate::harness::Process;

/// What `rpc.py save_config` writes.
fn save(p: &mut Process, batches: bool) -> Value {
    let subsystems = p.ok("framework_get_subsystems", json!({}));
    let names = subsystems
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| s["subsystem"].clone());
    let all = names.map(|name| {
        let config = p.ok("framework_get_config", json!({"name": name, "with_batches": batches}));
        json!({"subsystem": name, "config": config})
    });
    all.collect()
}

/// What `rpc.py load_config` does with it.
fn load(p: &mut Process, saved: &Value) {
    let mut left: Vec<Value> = saved
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|s| s["config"].as_array().cloned().unwrap_or_default())
        .collect();
    for _ in 0..2 {
        let now = p.ok("rpc_get_methods", json!({"current": true}));
        let allowed = |call: &Value| now.as_array().expect("a list").contains(&call["method"]);
        let (ready, later): (Vec<Value>, Vec<Value>) = left.into_iter().partition(allowed);
        for call in ready {
            p.ok(call["method"].as_str().expect("a name"), call["params"].clone());
        }
        if now.as_array().expect("a list").contains(&json!("framework_start_init")) {
            p.ok("framework_start_init", json!({}));
        }
        left = later;
    }
    assert_eq!(left, Vec::<Value>::new());
}

#[test]
fn a_fresh_process_that_loads_what_was_saved_is_the_same() {
    let mut p = Process::started();
    let image = p.dir.path().join("a.img");
    std::fs::File::create(&image)
        .and_then(|f| f.set_len(4 << 20))
        .expect("an image");
    let port = |n: u16| (u32::from(49152 + n) + std::process::id() % 8000).to_string();
    for (method, params) in [
        (
            "bdev_malloc_create",
            json!({"name": "z", "num_blocks": 4096, "block_size": 512, "physical_block_size": 4096}),
        ),
        (
            "bdev_split_create",
            json!({"base_bdev": "z", "split_count": 2, "split_size_mb": 0}),
        ),
        (
            "bdev_delay_create",
            json!({"name": "a", "base_bdev_name": "zp0", "avg_read_latency": 1, "p99_read_latency": 2,
                                     "avg_write_latency": 3, "p99_write_latency": 4}),
        ),
        (
            "bdev_delay_update_latency",
            json!({"delay_bdev_name": "a", "latency_type": "avg_read", "latency_us": 9}),
        ),
        (
            "bdev_null_create",
            json!({"name": "n", "num_blocks": 2048, "block_size": 512}),
        ),
        ("bdev_null_resize", json!({"name": "n", "new_size": 5})),
        (
            "bdev_aio_create",
            json!({"name": "f", "filename": image, "block_size": 512, "fallocate": true}),
        ),
        ("bdev_error_create", json!({"base_name": "n"})),
        ("bdev_passthru_create", json!({"name": "p", "base_bdev_name": "EE_n"})),
        (
            "bdev_malloc_create",
            json!({"name": "m1", "num_blocks": 64, "block_size": 512}),
        ),
        (
            "bdev_malloc_create",
            json!({"name": "m2", "num_blocks": 64, "block_size": 512}),
        ),
        (
            "accel_crypto_key_create",
            json!({"name": "k", "cipher": "AES_XTS", "random": 128}),
        ),
        (
            "bdev_crypto_create",
            json!({"name": "secret", "base_bdev_name": "p", "key_name": "k"}),
        ),
        (
            "bdev_raid_create",
            json!({"name": "r", "strip_size_kb": 4, "raid_level": "raid0", "base_bdevs": ["m1", "m2"]}),
        ),
        (
            "bdev_raid_create",
            json!({"name": "c", "strip_size_kb": 8, "raid_level": "concat", "base_bdevs": ["later"]}),
        ),
        (
            "ashlar_create_disk",
            json!({"name": "lin", "aliases": ["other-name"], "table":
            {"kind": "linear", "segments": [{"on": "zp1", "start": 8, "blocks": 8}, {"on": "zp1", "start": 0, "blocks": 8}]}}),
        ),
        ("bdev_examine", json!({"name": "f"})),
        ("framework_set_scheduler", json!({"name": "static", "period": 500})),
        ("bdev_nvme_set_options", json!({"transport_retry_count": 9})),
        (
            "nvmf_create_transport",
            json!({"trtype": "TCP", "in_capsule_data_size": 8192}),
        ),
        (
            "nvmf_create_subsystem",
            json!({"nqn": "nqn.2016-06.io.spdk:s1", "serial_number": "S1", "ana_reporting": true}),
        ),
        (
            "nvmf_create_subsystem",
            json!({"nqn": "nqn.2016-06.io.spdk:s2", "allow_any_host": true, "max_namespaces": 4}),
        ),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": "nqn.2016-06.io.spdk:s1", "host": "nqn.2014-08.org.example:h"}),
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({"nqn": "nqn.2016-06.io.spdk:s1", "namespace":
            {"bdev_name": "a", "nsid": 3, "eui64": "0011223344556677", "anagrpid": 2, "no_auto_visible": true}}),
        ),
        (
            "nvmf_ns_add_host",
            json!({"nqn": "nqn.2016-06.io.spdk:s1", "nsid": 3, "host": "nqn.2014-08.org.example:h"}),
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": "nqn.2016-06.io.spdk:s2", "ana_state": "non_optimized", "listen_address":
            {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port(1)}}),
        ),
        (
            "nvmf_discovery_add_referral",
            json!({"address": {"trtype": "TCP", "traddr": "192.0.2.7", "trsvcid": "8009"}}),
        ),
        (
            "iscsi_create_portal_group",
            json!({"tag": 2, "portals": [{"host": "127.0.0.1", "port": port(2)}], "private": true}),
        ),
        (
            "iscsi_create_portal_group",
            json!({"tag": 3, "portals": [{"host": "127.0.0.1", "port": port(3)}], "wait": true}),
        ),
        (
            "iscsi_create_initiator_group",
            json!({"tag": 7, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]}),
        ),
        (
            "iscsi_create_target_node",
            json!({"name": "t", "alias_name": "T", "pg_ig_maps": [{"pg_tag": 2, "ig_tag": 7}],
            "luns": [{"bdev_name": "f", "lun_id": 0}, {"bdev_name": "p", "lun_id": 5}], "queue_depth": 32, "header_digest": true}),
        ),
    ] {
        p.ok(method, params);
    }
    let saved = save(&mut p, false);
    let disks = p.ok("bdev_get_bdevs", json!({}));
    let batches = save(&mut p, true);
    let nvmf = batches
        .as_array()
        .expect("a list")
        .iter()
        .find(|s| s["subsystem"] == "nvmf")
        .expect("nvmf");
    let groups = nvmf["config"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|c| c.is_array())
        .count();
    assert_eq!(
        groups, 5,
        "subsystems, hosts, namespaces, visible namespaces, listeners"
    );
    // The image must outlive the process that served it.
    let dir = std::mem::replace(&mut p.dir, tempfile::tempdir().expect("a folder"));
    drop(p);

    let mut q = Process::waiting(TableOptions::default());
    load(&mut q, &saved);
    assert_eq!(save(&mut q, false), saved);
    let by_name = |all: &Value| {
        let mut all = all.as_array().expect("a list").clone();
        all.sort_by_key(|d| d["name"].to_string());
        all
    };
    let again = q.ok("bdev_get_bdevs", json!({}));
    assert_eq!(by_name(&again), by_name(&disks));
    assert_eq!(q.ok("bdev_get_bdevs", json!({"name": "other-name"}))[0]["name"], "lin");
    assert_eq!(
        q.ok("bdev_raid_get_bdevs", json!({"category": "configuring"}))[0]["name"],
        "c"
    );
    drop(dir);
}

#[test]
fn a_configuration_that_spdk_saved_can_be_loaded() {
    // Modules before leaves, subsystems we do not have, tuning we do not need: the order and contents of SPDK's own file.
    let saved = json!([
        {"subsystem": "iobuf", "config": [{"method": "iobuf_set_options", "params": {"small_pool_count": 8192, "large_pool_count": 1024,
            "small_bufsize": 8192, "large_bufsize": 135_168, "enable_numa": false}}]},
        {"subsystem": "sock", "config": [{"method": "sock_set_default_impl", "params": {"impl_name": "posix"}},
            {"method": "sock_impl_set_options", "params": {"impl_name": "ssl", "recv_buf_size": 4096, "send_buf_size": 4096,
             "enable_recv_pipe": true, "enable_quickack": false, "enable_placement_id": 0, "enable_zerocopy_send_server": true,
             "enable_zerocopy_send_client": false, "zerocopy_threshold": 0, "tls_version": 0, "enable_ktls": false}}]},
        {"subsystem": "vmd", "config": []},
        {"subsystem": "accel", "config": [{"method": "accel_set_options", "params": {"small_cache_size": 128, "large_cache_size": 16,
            "task_count": 2048, "sequence_count": 2048, "buf_count": 2048}}]},
        {"subsystem": "bdev", "config": [
            {"method": "bdev_set_options", "params": {"bdev_io_pool_size": 65535, "bdev_io_cache_size": 256, "bdev_auto_examine": true,
             "iobuf_small_cache_size": 128, "iobuf_large_cache_size": 16}},
            {"method": "bdev_raid_set_options", "params": {"process_window_size_kb": 1024, "process_max_bandwidth_mb_sec": 0}},
            {"method": "bdev_iscsi_set_options", "params": {"timeout_sec": 30}},
            {"method": "bdev_nvme_set_options", "params": {"action_on_timeout": "none", "timeout_us": 0, "bdev_retry_count": 3}},
            {"method": "bdev_nvme_set_hotplug", "params": {"period_us": 100_000, "enable": false}},
            {"method": "bdev_passthru_create", "params": {"base_bdev_name": "Malloc1", "name": "PT0", "uuid": "00000000-0000-0000-0000-000000000000"}},
            {"method": "bdev_split_create", "params": {"base_bdev": "Malloc0", "split_count": 2, "split_size_mb": 0}},
            {"method": "bdev_malloc_create", "params": {"name": "Malloc0", "num_blocks": 8192, "block_size": 512, "physical_block_size": 0,
             "uuid": "b9b6e4e0-6d3f-4f6e-9c58-9c7a0e3f0a01", "optimal_io_boundary": 0, "md_size": 0, "dif_type": 0,
             "dif_is_head_of_md": false, "dif_pi_format": 0, "numa_id": -1}},
            {"method": "bdev_malloc_create", "params": {"name": "Malloc1", "num_blocks": 8192, "block_size": 512}},
            {"method": "bdev_wait_for_examine"}]},
        {"subsystem": "scsi", "config": null},
        {"subsystem": "scheduler", "config": [{"method": "framework_set_scheduler", "params": {"name": "static"}}]},
        {"subsystem": "nvmf", "config": [
            {"method": "nvmf_set_config", "params": {"discovery_filter": "match_any", "admin_cmd_passthru": {"identify_ctrlr": false},
             "dhchap_digests": ["sha256", "sha384", "sha512"], "dhchap_dhgroups": ["null", "ffdhe2048"], "dup_host_policy": "allow"}},
            {"method": "nvmf_set_max_subsystems", "params": {"max_subsystems": 1024}},
            {"method": "nvmf_set_crdt", "params": {"crdt1": 0, "crdt2": 0, "crdt3": 0}}]},
        {"subsystem": "iscsi", "config": [{"method": "iscsi_set_options", "params": {"node_base": "iqn.2016-06.io.spdk", "max_sessions": 128,
            "max_connections_per_session": 2, "max_queue_depth": 64, "default_time2wait": 2, "default_time2retain": 20,
            "first_burst_length": 8192, "immediate_data": true, "allow_duplicated_isid": false, "error_recovery_level": 0,
            "nop_timeout": 60, "nop_in_interval": 30, "disable_chap": false, "require_chap": false, "mutual_chap": false,
            "chap_group": 0, "max_large_datain_per_connection": 64, "max_r2t_per_connection": 4, "pdu_pool_size": 36864,
            "immediate_data_pool_size": 16384, "data_out_pool_size": 2048}}]},
    ]);
    let mut p = Process::waiting(TableOptions::default());
    load(&mut p, &saved);
    let mut names = p.disks();
    names.sort();
    assert_eq!(names, ["Malloc0", "Malloc0p0", "Malloc0p1", "Malloc1", "PT0"]);
    assert_eq!(
        p.ok("bdev_get_bdevs", json!({"name": "Malloc0"}))[0]["uuid"],
        "b9b6e4e0-6d3f-4f6e-9c58-9c7a0e3f0a01"
    );
}
