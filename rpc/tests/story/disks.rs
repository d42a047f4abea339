//! Disks of every kind: what is made, shown, refused and taken away.

use std::fs::File;
use std::time::Duration;

use rpc::client::Client;
use serde_json::{Value, json};

use crate::harness::Process;

const BAD: &str = "spdk_json_decode_object failed";

fn malloc(p: &mut Process, name: &str, blocks: u64) {
    p.ok(
        "bdev_malloc_create",
        json!({"name": name, "num_blocks": blocks, "block_size": 512}),
    );
}

fn shown(p: &mut Process, name: &str) -> Value {
    p.ok("bdev_get_bdevs", json!({"name": name}))[0].take()
}

#[test]
fn a_malloc_disk_is_shown_exactly_like_this() {
    let mut p = Process::started();
    let uuid = "3f1d0b4c-98a7-4c8e-9f55-0b1c2d3e4f50";
    let made = p.ok(
        "bdev_malloc_create",
        json!({"name": "Malloc7", "num_blocks": 131_072, "block_size": 512, "physical_block_size": 4096, "uuid": uuid,
               "md_interleave": false, "dif_is_head_of_md": false}),
    );
    assert_eq!(made, "Malloc7");
    let expected = json!([{
        "name": "Malloc7", "aliases": [], "product_name": "Malloc disk", "block_size": 512, "num_blocks": 131_072,
        "preferred_write_alignment": 8, "preferred_write_granularity": 8, "optimal_write_size": 8,
        "preferred_unmap_alignment": 1, "preferred_unmap_granularity": 1, "uuid": uuid,
        "assigned_rate_limits": {"rw_ios_per_sec": 0, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0},
        "claimed": false, "zoned": false,
        "supported_io_types": {
            "read": true, "write": true, "unmap": true, "flush": true, "reset": true, "nvme_admin": false, "nvme_io": false,
            "nvme_io_md": false, "write_zeroes": true, "zcopy": false, "get_zone_info": false, "zone_management": false,
            "zone_append": false, "compare": false, "compare_and_write": false, "abort": false, "seek_hole": false,
            "seek_data": false, "copy": false, "nvme_iov_md": false, "nvme_nssr": false, "write_uncorrectable": false},
        "driver_specific": {},
    }]);
    let mut got = p.ok("bdev_get_bdevs", json!({"name": "Malloc7"}));
    // How finely memory gives space back is the memory disk's business.
    for hint in ["preferred_unmap_alignment", "preferred_unmap_granularity"] {
        assert!(got[0][hint].as_u64().is_some_and(|n| n >= 1));
        got[0][hint] = json!(1);
    }
    assert_eq!(
        serde_json::to_string(&got).expect("JSON"),
        serde_json::to_string(&expected).expect("JSON")
    );
    assert_eq!(
        p.ok("bdev_get_bdevs", json!({"name": uuid}))[0]["name"],
        "Malloc7",
        "a UUID is a name, too"
    );

    // Without a name it gets the first free one; twice the same name is refused with the number and text clients know.
    assert_eq!(
        p.ok("bdev_malloc_create", json!({"num_blocks": 8, "block_size": 4096.0})),
        "Malloc0"
    );
    let again = json!({"name": "Malloc7", "num_blocks": 8, "block_size": 512});
    assert_eq!(p.refused("bdev_malloc_create", again), (-17, "File exists".into()));
    for wrong in [
        json!({"num_blocks": 0, "block_size": 512}),
        json!({"num_blocks": 8, "block_size": 500}),
    ] {
        assert_eq!(p.refused("bdev_malloc_create", wrong), (-22, "Invalid argument".into()));
    }
    let metadata = json!({"num_blocks": 8, "block_size": 512, "md_size": 8});
    assert_eq!(
        p.refused("bdev_malloc_create", metadata),
        (-95, "Operation not supported".into())
    );
    for wrong in [
        json!({"block_size": 512}),
        json!({"num_blocks": 8, "block_size": 512, "nam": "x"}),
    ] {
        assert_eq!(p.refused("bdev_malloc_create", wrong), (-32603, BAD.into()));
    }
    assert_eq!(
        p.refused("bdev_null_delete", json!({"name": "Malloc7"})),
        (-19, "No such device".into())
    );
    p.ok("bdev_malloc_delete", json!({"name": "Malloc7"}));
    assert_eq!(
        p.refused("bdev_malloc_delete", json!({"name": "Malloc7"})),
        (-19, "No such device".into())
    );
    assert_eq!(
        p.refused("bdev_get_bdevs", json!({"name": "Malloc7"})),
        (-19, "No such device".into())
    );
}

#[test]
fn null_disks_grow_and_never_shrink() {
    let mut p = Process::started();
    p.ok(
        "bdev_null_create",
        json!({"name": "Null0", "num_blocks": 2048, "block_size": 512}),
    );
    p.ok("bdev_null_resize", json!({"name": "Null0", "new_size": 2}));
    assert_eq!(shown(&mut p, "Null0")["num_blocks"], 4096);
    assert_eq!(
        p.refused("bdev_null_resize", json!({"name": "Null0", "new_size": 1})),
        (-22, "Invalid argument".into())
    );
    assert_eq!(
        p.refused("bdev_null_resize", json!({"name": "x", "new_size": 1})),
        (-19, "No such device".into())
    );
    assert_eq!(shown(&mut p, "Null0")["product_name"], "Null disk");
}

#[test]
fn files_come_under_two_names_and_their_growth_is_noticed() {
    let mut p = Process::started();
    let path = p.dir.path().join("disk.img");
    let file = File::create(&path).expect("a file");
    file.set_len(8 << 20).expect("a length");
    assert_eq!(
        p.ok(
            "bdev_aio_create",
            json!({"name": "A", "filename": path, "block_size": 512})
        ),
        "A"
    );
    let a = shown(&mut p, "A");
    assert_eq!(
        (&a["product_name"], &a["num_blocks"]),
        (&json!("AIO disk"), &json!(16384))
    );
    assert_eq!(
        a["driver_specific"],
        json!({"aio": {"filename": path, "block_size_override": true, "readonly": false, "fallocate": false, "nowait": false}})
    );
    file.set_len(9 << 20).expect("a length");
    p.ok("bdev_aio_rescan", json!({"name": "A"}));
    assert_eq!(shown(&mut p, "A")["num_blocks"], 18432);
    assert_eq!(p.refused("bdev_uring_rescan", json!({"name": "A"})).0, -19);
    p.ok("bdev_aio_delete", json!({"name": "A"}));

    p.ok("bdev_uring_create", json!({"name": "U", "filename": path}));
    let u = shown(&mut p, "U");
    assert_eq!(
        (&u["product_name"], &u["block_size"]),
        (&json!("URING bdev"), &json!(4096))
    );
    assert_eq!(u["driver_specific"], json!({"uring": {"filename": path}}));
    p.ok("bdev_uring_delete", json!({"name": "U"}));

    let gone = json!({"name": "B", "filename": "/nowhere/at/all", "block_size": 512});
    assert_eq!(
        p.refused("bdev_aio_create", gone),
        (-2, "No such file or directory".into())
    );
    for size in [256, 1000] {
        let odd = json!({"name": "B", "filename": path, "block_size": size});
        assert_eq!(p.refused("bdev_aio_create", odd), (-22, "Invalid argument".into()));
    }
    file.set_len((9 << 20) + 512).expect("a length");
    assert_eq!(
        p.refused("bdev_aio_create", json!({"name": "B", "filename": path})),
        (-22, "Invalid argument".into())
    );
    p.ok(
        "bdev_aio_create",
        json!({"name": "R", "filename": path, "block_size": 512, "readonly": true}),
    );
    assert_eq!(shown(&mut p, "R")["supported_io_types"]["write"], false);
}

#[test]
fn modules_stand_on_disks_claim_them_and_go_with_them() {
    let mut p = Process::started();
    malloc(&mut p, "M", 8192);
    assert_eq!(
        p.ok("bdev_split_create", json!({"base_bdev": "M", "split_count": 3})),
        json!(["Mp0", "Mp1", "Mp2"])
    );
    let m = shown(&mut p, "M");
    assert_eq!(
        (&m["claimed"], &m["claim_type"]),
        (&json!(true), &json!("exclusive_write"))
    );
    assert_eq!(
        shown(&mut p, "Mp1")["driver_specific"],
        json!({"split": {"base_bdev": "M", "offset_blocks": 2730}})
    );
    assert_eq!(shown(&mut p, "Mp1")["product_name"], "Split Disk");
    let (code, text) = p.refused("bdev_split_create", json!({"base_bdev": "M", "split_count": 2}));
    assert_eq!(
        (code, text.as_str()),
        (-32602, "Failed to create 2 split bdevs from 'M': File exists")
    );

    let delay = json!({"name": "D", "base_bdev_name": "Mp0", "avg_read_latency": 1, "p99_read_latency": 2,
                       "avg_write_latency": 3, "p99_write_latency": 4});
    assert_eq!(p.ok("bdev_delay_create", delay.clone()), "D");
    assert_eq!(
        p.refused("bdev_delay_create", delay),
        (-1, "Operation not permitted".into())
    );
    p.ok(
        "bdev_delay_update_latency",
        json!({"delay_bdev_name": "D", "latency_type": "p99_write", "latency_us": 44}),
    );
    let d = shown(&mut p, "D");
    assert_eq!(
        (&d["product_name"], &d["driver_specific"]["delay"]["p99_write_latency"]),
        (&json!("delay"), &json!(44))
    );
    assert_eq!(
        p.refused(
            "bdev_delay_update_latency",
            json!({"delay_bdev_name": "x", "latency_type": "avg_read", "latency_us": 1})
        ),
        (-32602, "The requested bdev does not exist.".into())
    );
    assert_eq!(
        p.refused(
            "bdev_delay_update_latency",
            json!({"delay_bdev_name": "M", "latency_type": "avg_read", "latency_us": 1})
        )
        .0,
        -32600
    );
    assert_eq!(
        p.ok("bdev_passthru_create", json!({"name": "P", "base_bdev_name": "Mp1"})),
        "P"
    );
    assert_eq!(
        shown(&mut p, "P")["driver_specific"],
        json!({"passthru": {"name": "P", "base_bdev_name": "Mp1"}})
    );
    assert_eq!(p.ok("bdev_error_create", json!({"base_name": "Mp2"})), true);
    assert_eq!(
        shown(&mut p, "EE_Mp2")["driver_specific"],
        json!({"error_disk": {"base_bdev": "Mp2"}})
    );
    let inject = |kind: &str, more: Value| {
        let mut params = json!({"name": "EE_Mp2", "io_type": "read", "error_type": kind});
        params
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        params
    };
    assert_eq!(
        p.ok("bdev_error_inject_error", inject("failure", json!({"num": 3}))),
        true
    );
    assert_eq!(
        p.ok(
            "bdev_error_inject_error",
            inject("nvme_failure", json!({"nvme_sct": 2, "nvme_sc": 0x81}))
        ),
        true
    );
    assert_eq!(
        p.refused("bdev_error_inject_error", inject("nvme_failure", json!({}))),
        (
            -22,
            "nvme_sct or nvme_sc should be specified for NVMe error injection".into()
        )
    );
    assert_eq!(
        p.refused("bdev_error_inject_error", inject("corrupt_data", json!({})))
            .0,
        -22
    );
    assert_eq!(
        p.refused("bdev_error_inject_error", inject("flood", json!({}))).0,
        -32603
    );
    assert_eq!(
        p.ok("bdev_error_inject_error", inject("nomem", json!({"num": 2}))),
        true
    );
    p.ok(
        "bdev_error_inject_error",
        json!({"name": "EE_Mp2", "io_type": "clear", "error_type": "failure"}),
    );
    p.ok("bdev_error_resume_pending", json!({"name": "EE_Mp2"}));

    // The disk goes, and everything on it with it.
    p.ok("bdev_malloc_delete", json!({"name": "M"}));
    assert_eq!(p.disks(), Vec::<String>::new());
    assert_eq!(
        p.refused("bdev_split_delete", json!({"base_bdev": "M"})),
        (-32602, "No such file or directory".into())
    );
}

#[test]
fn modules_may_be_asked_for_before_their_disks() {
    let mut p = Process::started();
    assert_eq!(
        p.ok("bdev_passthru_create", json!({"name": "P", "base_bdev_name": "M"})),
        "P"
    );
    assert_eq!(
        p.ok("bdev_split_create", json!({"base_bdev": "N", "split_count": 2})),
        json!([])
    );
    let raid = json!({"name": "R", "strip_size_kb": 4, "raid_level": "concat", "base_bdevs": ["Np0", "Np1"]});
    assert_eq!(p.ok("bdev_raid_create", raid), true);
    assert_eq!(
        p.ok("bdev_raid_get_bdevs", json!({"category": "configuring"}))[0]["num_base_bdevs_discovered"],
        0
    );
    assert_eq!(p.disks(), Vec::<String>::new());
    malloc(&mut p, "M", 64);
    malloc(&mut p, "N", 64);
    let mut names = p.disks();
    names.sort();
    assert_eq!(names, ["M", "N", "Np0", "Np1", "P", "R"]);
    assert_eq!(
        p.ok("bdev_raid_get_bdevs", json!({"category": "online"}))[0]["name"],
        "R"
    );
}

#[test]
fn a_wish_to_see_a_disk_waits_for_it() {
    let mut p = Process::started();
    let socket = p.socket();
    let waiter = std::thread::spawn(move || {
        let mut client = Client::connect(&socket, Duration::from_secs(30)).expect("connects");
        client
            .call::<Value>("bdev_get_bdevs", json!({"name": "late", "timeout": 20_000}))
            .expect("it comes")
    });
    std::thread::sleep(Duration::from_millis(50));
    malloc(&mut p, "late", 8);
    assert_eq!(waiter.join().expect("no panic")[0]["name"], "late");
    assert_eq!(
        p.refused("bdev_get_bdevs", json!({"name": "never", "timeout": 30})),
        (-19, "No such device".into())
    );
}

#[test]
fn raid_volumes_are_stripes_and_concatenations() {
    let mut p = Process::started();
    for (name, blocks) in [("a", 1000), ("b", 2000), ("c", 64)] {
        malloc(&mut p, name, blocks);
    }
    p.ok(
        "bdev_raid_create",
        json!({"name": "R0", "strip_size_kb": 16, "raid_level": "0", "base_bdevs": ["a", "b"]}),
    );
    let r0 = shown(&mut p, "R0");
    // 16 KiB are 32 blocks; 31 whole strips of the smaller member count.
    assert_eq!(
        (&r0["num_blocks"], &r0["product_name"]),
        (&json!(31 * 32 * 2), &json!("Raid Volume"))
    );
    let raid = &r0["driver_specific"]["raid"];
    assert_eq!(
        (&raid["raid_level"], &raid["state"], &raid["strip_size_kb"]),
        (&json!("raid0"), &json!("online"), &json!(16))
    );
    assert_eq!(raid["base_bdevs_list"][1]["name"], "b");
    assert_eq!(raid["base_bdevs_list"][1]["data_size"], 31 * 32);
    let listed = p.ok("bdev_raid_get_bdevs", json!({"category": "all"}));
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&listed[0]["name"], &listed[0]["num_base_bdevs_operational"]),
        (&json!("R0"), &json!(2))
    );
    assert_eq!(p.ok("bdev_raid_get_bdevs", json!({"category": "offline"})), json!([]));

    let again = json!({"name": "R0", "strip_size_kb": 16, "raid_level": "raid0", "base_bdevs": ["c"]});
    assert_eq!(
        p.refused("bdev_raid_create", again),
        (-17, "Failed to create RAID bdev R0: File exists".into())
    );
    let taken = json!({"name": "R1", "strip_size_kb": 16, "raid_level": "raid0", "base_bdevs": ["a", "c"]});
    assert_eq!(
        p.refused("bdev_raid_create", taken),
        (-1, "Failed to create RAID bdev R1: Operation not permitted".into())
    );
    for (level, strip) in [("raid1", 0), ("raid5f", 16), ("raid0", 3), ("concat", 0)] {
        let params = json!({"name": "X", "strip_size_kb": strip, "raid_level": level, "base_bdevs": ["c"]});
        assert_eq!(
            p.refused("bdev_raid_create", params),
            (-22, "Failed to create RAID bdev X: Invalid argument".into()),
            "{level}"
        );
    }
    assert_eq!(
        p.refused(
            "bdev_raid_create",
            json!({"name": "X", "raid_level": "raid9", "base_bdevs": []})
        ),
        (-32700, BAD.into())
    );
    assert_eq!(
        p.refused("bdev_raid_delete", json!({"name": "a"})),
        (-19, "raid bdev a not found".into())
    );
    p.ok("bdev_raid_delete", json!({"name": "R0"}));
    assert_eq!(shown(&mut p, "a")["claimed"], false);

    p.ok(
        "bdev_raid_create",
        json!({"name": "C", "strip_size_kb": 16, "raid_level": "concat", "base_bdevs": ["c", "a"]}),
    );
    let c = shown(&mut p, "C");
    assert_eq!(c["num_blocks"], 64 + 31 * 32);
    assert_eq!(c["driver_specific"]["raid"]["raid_level"], "concat");
    assert_eq!(c["driver_specific"]["raid"]["strip_size_kb"], 16);
}

#[test]
fn statistics_are_shown_by_old_and_new_parameters_and_reset() {
    let mut p = Process::started();
    malloc(&mut p, "M", 64);
    malloc(&mut p, "N", 64);
    let all = p.ok("bdev_get_iostat", json!({}));
    assert_eq!(all["bdevs"].as_array().map(Vec::len), Some(2));
    assert!(all["tick_rate"] == 1_000_000_000u64 && all["ticks"].as_u64().is_some_and(|t| t > 0));
    let keys: Vec<&String> = all["bdevs"][0].as_object().expect("an object").keys().collect();
    assert_eq!(
        keys,
        [
            "name",
            "bytes_read",
            "num_read_ops",
            "bytes_written",
            "num_write_ops",
            "bytes_unmapped",
            "num_unmap_ops",
            "bytes_copied",
            "num_copy_ops",
            "read_latency_ticks",
            "max_read_latency_ticks",
            "min_read_latency_ticks",
            "write_latency_ticks",
            "max_write_latency_ticks",
            "min_write_latency_ticks",
            "unmap_latency_ticks",
            "max_unmap_latency_ticks",
            "min_unmap_latency_ticks",
            "copy_latency_ticks",
            "max_copy_latency_ticks",
            "min_copy_latency_ticks",
            "io_error"
        ]
    );
    assert_eq!(p.ok("bdev_get_iostat", json!({"name": "N"}))["bdevs"][0]["name"], "N");
    assert_eq!(
        p.ok("bdev_get_iostat", json!({"names": ["N", "M"]}))["bdevs"][1]["name"],
        "M"
    );
    let each = p.ok(
        "bdev_get_iostat",
        json!({"names": ["N"], "per_channel": true, "reset_mode": "maxmin"}),
    );
    assert_eq!(
        (&each["name"], each["channels"].as_array().map(Vec::len)),
        (&json!("N"), Some(2))
    );
    assert_eq!(
        p.refused("bdev_get_iostat", json!({"per_channel": true})),
        (-22, "Invalid argument".into())
    );
    assert_eq!(
        p.refused("bdev_get_iostat", json!({"names": ["x"]})),
        (-19, "No such device".into())
    );
    assert_eq!(
        p.refused("bdev_get_iostat", json!({"reset_mode": "some"})),
        (-32603, BAD.into())
    );
    assert_eq!(p.ok("bdev_reset_iostat", json!({})), true);
    assert_eq!(p.ok("bdev_reset_iostat", json!({"name": "M", "mode": "error"})), true);
    assert_eq!(
        p.refused("bdev_reset_iostat", json!({"name": "x"})),
        (-19, "No such device".into())
    );
}

#[test]
fn what_happens_to_disks_can_be_polled() {
    let mut p = Process::started();
    assert_eq!(
        p.ok("notify_get_types", json!({})),
        json!([
            "bdev_register",
            "bdev_unregister",
            "bdev_resize",
            "ashlar_array_degraded",
            "ashlar_array_whole"
        ])
    );
    p.ok(
        "bdev_null_create",
        json!({"name": "n", "num_blocks": 2048, "block_size": 512}),
    );
    p.ok("bdev_null_resize", json!({"name": "n", "new_size": 3}));
    p.ok("bdev_null_delete", json!({"name": "n"}));
    assert_eq!(
        p.ok("notify_get_notifications", json!({})),
        json!([{"type": "bdev_register", "ctx": "n", "id": 0}, {"type": "bdev_resize", "ctx": "n", "id": 1},
               {"type": "bdev_unregister", "ctx": "n", "id": 2}])
    );
    assert_eq!(
        p.ok("notify_get_notifications", json!({"id": 1, "max": 1}))[0]["type"],
        "bdev_resize"
    );
}

#[test]
fn a_disk_goes_after_everything_that_stands_on_it_by_whatever_way() {
    let mut p = Process::started();
    malloc(&mut p, "m", 64);
    let segment = |on: &str, start: u64| json!({"on": on, "start": start, "blocks": 8});
    for (name, segments) in [
        ("b", json!([segment("m", 0)])),
        ("a", json!([segment("m", 8), segment("b", 0)])),
        ("c", json!([segment("a", 0), segment("m", 16)])),
        ("d", json!([segment("c", 0)])),
    ] {
        p.ok(
            "ashlar_create_disk",
            json!({"name": name, "table": {"kind": "linear", "segments": segments}}),
        );
    }
    assert_eq!(
        p.refused("ashlar_delete_disk", json!({"name": "m"})),
        (-16, "Device or resource busy".into())
    );
    p.ok("bdev_malloc_delete", json!({"name": "m"}));
    assert_eq!(p.disks(), Vec::<String>::new());
}

#[test]
fn a_disk_that_is_offered_whole_is_not_looked_into() {
    let mut p = Process::started();
    // A master boot record with one Linux partition of 1,000 blocks at block 2,048.
    let mut image = vec![0; 4 << 20];
    image[446 + 4] = 0x83;
    image[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    image[446 + 12..446 + 16].copy_from_slice(&1000u32.to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    for name in ["a", "b"] {
        let path = p.dir.path().join(name);
        std::fs::write(&path, &image).expect("write the image");
        p.ok(
            "bdev_aio_create",
            json!({"name": name, "filename": path, "block_size": 512}),
        );
    }
    p.ok("bdev_wait_for_examine", json!({}));
    assert_eq!(p.disks(), ["a", "ap1", "b", "bp1"]);

    let nqn = "nqn.2026-11.io.ashlar:whole";
    p.ok("nvmf_create_transport", json!({"trtype": "TCP"}));
    p.ok("nvmf_create_subsystem", json!({"nqn": nqn, "allow_any_host": true}));
    let namespace = |volume: &str| json!({"nqn": nqn, "namespace": {"bdev_name": volume}});
    p.ok("nvmf_subsystem_add_ns", namespace("a"));
    assert_eq!(
        p.disks(),
        ["a", "b", "bp1"],
        "what a host writes there is the host's business"
    );
    p.ok("bdev_examine", json!({"name": "a"}));
    p.ok("bdev_wait_for_examine", json!({}));
    assert_eq!(p.disks(), ["a", "b", "bp1"], "nor is it when asked to look again");

    // A partition in use keeps its disk from being offered whole.
    p.ok("nvmf_subsystem_add_ns", namespace("bp1"));
    let node = json!({
        "name": "iqn.2026-11.io.ashlar:whole", "alias_name": "whole", "pg_ig_maps": [],
        "luns": [{"bdev_name": "b", "lun_id": 0}], "queue_depth": 16, "disable_chap": true,
    });
    assert_eq!(
        p.refused("iscsi_create_target_node", node.clone()),
        (-32602, "Invalid parameters".into())
    );
    assert_eq!(p.disks(), ["a", "b", "bp1"]);
    p.ok("nvmf_subsystem_remove_ns", json!({"nqn": nqn, "nsid": 2}));
    p.ok("iscsi_create_target_node", node);
    assert_eq!(p.disks(), ["a", "b"]);
}

#[test]
fn a_stats_table_shows_what_passes_in_the_middle() {
    let mut p = Process::started();
    malloc(&mut p, "M", 64);
    let graph = p.context.graph.clone();
    let above = |name: &str, table: bdev::Table| reactor::block_on(graph.build(bdev::NodeSpec::new(name, table)));
    above("S", bdev::Table::Stats { on: "M".into() }).expect("a stats table");
    above("P", bdev::Table::Passthru { on: "S".into() }).expect("a disk above");
    let here = graph.clone();
    let write = move || async move {
        let disk = here.open("P").await.expect("opens");
        for _ in 0..3 {
            // Writes: discovery reads, too.
            let io = bdev::Io::write(spec::BlockRange::new(0, 8), reactor::Buf::zeroed(4096));
            disk.perform(io).await.expect("writes");
        }
    };
    graph.reactors().call(0, write).wait();
    let all = p.ok("bdev_get_iostat", json!({"names": ["P", "S", "M"]}));
    let ops: Vec<_> = (0..3).map(|at| all["bdevs"][at]["num_write_ops"].as_u64()).collect();
    assert_eq!(ops, [Some(3), Some(0), Some(0)], "counted where hosts come in");
    let counted = &all["bdevs"][1]["driver_specific"]["stats"];
    assert_eq!(
        (
            &counted["write"]["ops"],
            &counted["write"]["bytes"],
            &counted["unmap"]["ops"]
        ),
        (&json!(3), &json!(3 * 4096), &json!(0))
    );
    assert!(all["bdevs"][2].get("driver_specific").is_none());
}
