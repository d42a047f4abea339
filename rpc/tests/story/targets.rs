//! Both front ends, and what spdk-csi does to publish a volume.

use serde_json::{Value, json};

use crate::harness::Process;

const INVALID: (i64, &str) = (-32602, "Invalid parameters");
const NQN: &str = "nqn.2020-04.io.spdk.csi:uuid:7e2a4c3b-7b3c-4c5e-8f00-1234567890ab";

fn invalid(p: &mut Process, method: &str, params: Value) {
    let (code, text) = p.refused(method, params.clone());
    assert_eq!((code, text.as_str()), INVALID, "{method} {params}");
}

fn disks(p: &mut Process) {
    p.ok(
        "bdev_malloc_create",
        json!({"name": "vol", "num_blocks": 2048, "block_size": 512}),
    );
    p.ok(
        "bdev_null_create",
        json!({"name": "null", "num_blocks": 2048, "block_size": 4096}),
    );
}

/// A free port of this machine; the listener is gone when it is used.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port")
        .port()
}

#[test]
fn spdk_csi_publishes_and_unpublishes_over_nvme() {
    let mut p = Process::started();
    disks(&mut p);
    let address = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port().to_string()});
    // Not there yet: the driver knows it by this text.
    invalid(&mut p, "nvmf_subsystem_get_listeners", json!({"nqn": NQN}));
    assert_eq!(p.ok("nvmf_create_transport", json!({"trtype": "TCP"})), true);
    assert_eq!(
        p.refused("nvmf_create_transport", json!({"trtype": "TCP"})),
        (-32603, "Transport type 'TCP' already exists".into())
    );
    let uuid = "7e2a4c3b-7b3c-4c5e-8f00-1234567890ab";
    let subsystem = json!({"nqn": NQN, "allow_any_host": true, "serial_number": "spdkcsi-sn", "model_number": uuid});
    assert_eq!(p.ok("nvmf_create_subsystem", subsystem.clone()), true);
    assert_eq!(
        p.refused("nvmf_create_subsystem", subsystem),
        (-32603, format!("Unable to create subsystem {NQN}"))
    );
    assert_eq!(
        p.ok(
            "nvmf_subsystem_add_ns",
            json!({"nqn": NQN, "namespace": {"bdev_name": "vol"}})
        ),
        1
    );
    let listener = json!({"nqn": NQN, "listen_address": address});
    assert_eq!(p.ok("nvmf_subsystem_add_listener", listener.clone()), true);
    invalid(&mut p, "nvmf_subsystem_add_listener", listener);

    let listeners = p.ok("nvmf_subsystem_get_listeners", json!({"nqn": NQN}));
    assert_eq!(
        serde_json::to_string(&listeners[0]["address"]).ok(),
        serde_json::to_string(&address).ok()
    );
    assert!(
        listeners[0].get("ana_states").is_none(),
        "a subsystem without ana_reporting"
    );

    let shown = p.ok("nvmf_get_subsystems", json!({}));
    assert_eq!(shown[0]["nqn"], "nqn.2014-08.org.nvmexpress.discovery");
    let keys = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&shown[0]),
        ["nqn", "subtype", "listen_addresses", "allow_any_host", "hosts"]
    );
    assert_eq!(
        keys(&shown[1]),
        [
            "nqn",
            "subtype",
            "listen_addresses",
            "allow_any_host",
            "hosts",
            "serial_number",
            "model_number",
            "max_namespaces",
            "passthrough",
            "min_cntlid",
            "max_cntlid",
            "dmrsl",
            "wzsl",
            "namespaces"
        ]
    );
    assert_eq!(
        (&shown[1]["subtype"], &shown[1]["model_number"]),
        (&json!("NVMe"), &json!(uuid))
    );
    let ns = &shown[1]["namespaces"][0];
    let of_disk = p.ok("bdev_get_bdevs", json!({"name": "vol"}));
    assert_eq!(
        (&ns["nsid"], &ns["bdev_name"], &ns["name"], &ns["uuid"]),
        (&json!(1), &json!("vol"), &json!("vol"), &of_disk[0]["uuid"])
    );
    assert!(
        ns["nguid"]
            .as_str()
            .is_some_and(|n| n.len() == 32 && n.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()))
    );
    assert_eq!(of_disk[0]["claimed"], true);

    // Unpublish: found by looking through all subsystems.
    assert_eq!(p.ok("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 1})), true);
    assert_eq!(p.ok("nvmf_delete_subsystem", json!({"nqn": NQN})), true);
    invalid(&mut p, "nvmf_delete_subsystem", json!({"nqn": NQN}));
    invalid(&mut p, "nvmf_subsystem_get_listeners", json!({"nqn": NQN}));
    assert_eq!(p.ok("bdev_get_bdevs", json!({"name": "vol"}))[0]["claimed"], false);
}

#[test]
fn spdk_csi_publishes_and_unpublishes_over_iscsi() {
    let mut p = Process::started();
    disks(&mut p);
    let port = port().to_string();
    let group = json!({"tag": 1, "portals": [{"host": "127.0.0.1", "port": port}]});
    assert_eq!(p.ok("iscsi_create_portal_group", group.clone()), true);
    invalid(&mut p, "iscsi_create_portal_group", group);
    let initiators = json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]});
    assert_eq!(p.ok("iscsi_create_initiator_group", initiators.clone()), true);
    invalid(&mut p, "iscsi_create_initiator_group", initiators.clone());
    let node = json!({"name": "vol-1", "alias_name": "iscsi-vol-1", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
                      "luns": [{"bdev_name": "vol", "lun_id": 0}], "queue_depth": 64, "disable_chap": true});
    assert_eq!(p.ok("iscsi_create_target_node", node.clone()), true);
    invalid(&mut p, "iscsi_create_target_node", node);

    assert_eq!(
        p.ok("iscsi_get_portal_groups", json!({})),
        json!([{"tag": 1, "portals": [{"host": "127.0.0.1", "port": port}], "private": false}])
    );
    assert_eq!(p.ok("iscsi_get_initiator_groups", json!({})), json!([initiators]));
    let iqn = "iqn.2016-06.io.spdk:vol-1";
    assert_eq!(
        p.ok("iscsi_get_target_nodes", json!({})),
        json!([{"name": iqn, "alias_name": "iscsi-vol-1", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
                "luns": [{"bdev_name": "vol", "lun_id": 0}], "queue_depth": 64, "disable_chap": true, "require_chap": false,
                "mutual_chap": false, "chap_group": 0, "header_digest": false, "data_digest": false}])
    );
    assert_eq!(
        p.ok("scsi_get_devices", json!({})),
        json!([{"id": 0, "device_name": iqn}])
    );
    assert_eq!(
        p.ok("iscsi_target_node_add_lun", json!({"name": iqn, "bdev_name": "null"})),
        true
    );
    invalid(
        &mut p,
        "iscsi_target_node_add_lun",
        json!({"name": iqn, "bdev_name": "nowhere"}),
    );
    assert_eq!(p.ok("iscsi_get_connections", json!({})), json!([]));
    assert_eq!(p.ok("iscsi_get_stats", json!({}))["running"], 0);
    assert_eq!(p.ok("iscsi_target_node_request_logout", json!({"name": iqn})), true);
    assert_eq!(
        p.refused("iscsi_target_node_request_logout", json!({"name": "iqn.x:y"})),
        (-32602, "Target iqn.x:y is not found".into())
    );
    p.ok(
        "iscsi_initiator_group_add_initiators",
        json!({"tag": 1, "initiators": ["iqn.x:a"]}),
    );
    p.ok(
        "iscsi_initiator_group_remove_initiators",
        json!({"tag": 1, "initiators": ["iqn.x:a"]}),
    );
    p.ok(
        "iscsi_create_initiator_group",
        json!({"tag": 2, "initiators": ["iqn.x:b"], "netmasks": ["10.0.0.0/8"]}),
    );
    let map = json!({"name": iqn, "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 2}]});
    p.ok("iscsi_target_node_add_pg_ig_maps", map.clone());
    p.ok("iscsi_target_node_remove_pg_ig_maps", map);

    assert_eq!(p.ok("iscsi_delete_target_node", json!({"name": iqn})), true);
    assert_eq!(
        p.refused("iscsi_delete_target_node", json!({"name": iqn})),
        (-2, "No such file or directory".into())
    );
    assert_eq!(p.ok("iscsi_delete_initiator_group", json!({"tag": 1})), true);
    assert_eq!(p.ok("iscsi_delete_portal_group", json!({"tag": 1})), true);
    invalid(&mut p, "iscsi_delete_portal_group", json!({"tag": 1}));
}

#[test]
fn subsystems_have_hosts_namespaces_and_ways() {
    let mut p = Process::started();
    disks(&mut p);
    p.ok(
        "nvmf_create_transport",
        json!({"trtype": "tcp", "max_io_qpairs_per_ctrlr": 8, "num_shared_buffers": 4096, "zcopy": false,
                                          "no_srq": false, "io_unit_size": 131_072}),
    );
    let transport = p.ok("nvmf_get_transports", json!({"trtype": "TCP"}));
    assert_eq!(
        (&transport[0]["trtype"], &transport[0]["max_io_qpairs_per_ctrlr"]),
        (&json!("TCP"), &json!(8))
    );
    // Members that 26.05 has, and those that older clients read.
    for member in [
        "iobuf_small_cache_size",
        "kas",
        "min_kato",
        "io_unit_size",
        "num_shared_buffers",
        "buf_cache_size",
    ] {
        assert!(transport[0][member].is_u64(), "{member}: {transport}");
    }
    assert_eq!(
        p.refused("nvmf_get_transports", json!({"trtype": "RDMA"})),
        (-19, "No such device".into())
    );
    assert_eq!(
        p.refused("nvmf_create_transport", json!({"trtype": "RDMA"})),
        (-32603, "Transport type 'RDMA' create failed".into())
    );
    assert_eq!(
        p.refused("nvmf_create_transport", json!({"trtype": "SMOKE"})),
        (-32602, "Invalid transport type 'SMOKE'".into())
    );
    assert_eq!(p.ok("nvmf_get_targets", json!({})), json!(["nvmf_tgt"]));
    assert_eq!(
        p.refused("nvmf_create_target", json!({"name": "nvmf_tgt"})).1,
        "Target already exists."
    );
    assert_eq!(
        p.refused("nvmf_get_stats", json!({"tgt_name": "other"})),
        (-32603, "Unable to find a target.".into())
    );

    let nqn = "nqn.2016-06.io.spdk:cnode1";
    p.ok(
        "nvmf_create_subsystem",
        json!({"nqn": nqn, "max_discard_size_kib": 8, "ana_reporting": true, "tgt_name": null}),
    );
    assert_eq!(
        p.refused(
            "nvmf_create_subsystem",
            json!({"nqn": "nqn.2016-06.io.spdk:c2", "min_cntlid": 9, "max_cntlid": 3})
        ),
        (-32602, "Invalid cntlid range [9-3]".into())
    );
    invalid(
        &mut p,
        "nvmf_create_subsystem",
        json!({"nqn": "nqn.2016-06.io.spdk:c2", "serial_number": "x".repeat(21)}),
    );
    let namespace = json!({"bdev_name": "vol", "nsid": 4, "nguid": "00112233445566778899AABBCCDDEEFF", "eui64": "0011223344556677",
                           "anagrpid": 2, "no_auto_visible": true, "hide_metadata": false});
    assert_eq!(
        p.ok("nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": namespace})),
        4
    );
    assert_eq!(
        p.ok(
            "nvmf_subsystem_add_ns",
            json!({"nqn": nqn, "namespace": {"bdev_name": "null", "nsid": 0}})
        ),
        1
    );
    for wrong in [
        json!({"bdev_name": "nowhere"}),
        json!({"bdev_name": "null", "nsid": 4}),
        json!({"bdev_name": "null", "nguid": "12"}),
        json!({}),
    ] {
        invalid(&mut p, "nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": wrong}));
    }
    let shown = p.ok("nvmf_get_subsystems", json!({"nqn": nqn}));
    let four = shown[0]["namespaces"]
        .as_array()
        .and_then(|all| all.iter().find(|n| n["nsid"] == 4))
        .cloned()
        .expect("namespace 4");
    assert_eq!(
        (&four["nguid"], &four["eui64"], &four["anagrpid"]),
        (
            &json!("00112233445566778899AABBCCDDEEFF"),
            &json!("0011223344556677"),
            &json!(2)
        )
    );
    assert_eq!(
        p.refused("nvmf_get_subsystems", json!({"nqn": "nqn.2016-06.io.spdk:none"})),
        (-19, "No such device".into())
    );
    p.ok(
        "nvmf_subsystem_set_ns_ana_group",
        json!({"nqn": nqn, "nsid": 4, "anagrpid": 3}),
    );
    let host = "nqn.2014-08.org.example:host1";
    p.ok("nvmf_ns_add_host", json!({"nqn": nqn, "nsid": 4, "host": host}));
    p.ok("nvmf_ns_remove_host", json!({"nqn": nqn, "nsid": 4, "host": host}));
    p.ok("nvmf_ns_add_host", json!({"nqn": nqn, "nsid": 4, "host": host}));
    for visible in [false, true] {
        p.ok(
            "nvmf_ns_visible",
            json!({"nqn": nqn, "nsid": 4, "host": host, "visible": visible}),
        );
    }
    invalid(&mut p, "nvmf_ns_add_host", json!({"nqn": nqn, "nsid": 9, "host": host}));

    p.ok("nvmf_subsystem_add_host", json!({"nqn": nqn, "host": host}));
    for wrong in [
        json!({"nqn": nqn, "host": host}),
        json!({"nqn": nqn, "host": "nqn.2014-08.org.example:h2", "psk": "key0"}),
    ] {
        assert_eq!(
            p.refused("nvmf_subsystem_add_host", wrong),
            (-32603, "Internal error".into())
        );
    }
    assert_eq!(
        p.ok("nvmf_get_subsystems", json!({"nqn": nqn}))[0]["hosts"],
        json!([{"nqn": host}])
    );
    p.ok(
        "nvmf_subsystem_allow_any_host",
        json!({"nqn": nqn, "allow_any_host": true}),
    );
    p.ok("nvmf_subsystem_remove_host", json!({"nqn": nqn, "host": host}));
    assert_eq!(
        p.refused("nvmf_subsystem_remove_host", json!({"nqn": nqn, "host": host})),
        (-32603, "Internal error".into())
    );

    let address = json!({"trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": port().to_string()});
    p.ok(
        "nvmf_subsystem_add_listener",
        json!({"nqn": nqn, "listen_address": address, "ana_state": "non_optimized", "secure_channel": false}),
    );
    let listeners = p.ok("nvmf_subsystem_get_listeners", json!({"nqn": nqn}));
    assert_eq!(
        (&listeners[0]["address"]["trtype"], &listeners[0]["address"]["adrfam"]),
        (&json!("TCP"), &json!("IPv4"))
    );
    assert_eq!(
        listeners[0]["ana_states"][1],
        json!({"ana_group": 2, "ana_state": "non_optimized"})
    );
    assert_eq!(listeners[0]["ana_states"].as_array().map(Vec::len), Some(32));
    let state = json!({"nqn": nqn, "listen_address": address, "ana_state": "inaccessible", "anagrpid": 2});
    p.ok("nvmf_subsystem_listener_set_ana_state", state);
    assert_eq!(
        p.ok("nvmf_subsystem_get_listeners", json!({"nqn": nqn}))[0]["ana_states"][1]["ana_state"],
        "inaccessible"
    );
    for wrong in [
        json!({"trtype": "RDMA", "traddr": "127.0.0.1", "trsvcid": "4420"}),
        json!({"trtype": "TCP", "traddr": "somewhere", "trsvcid": "4420"}),
        json!({"trtype": "TCP", "traddr": "127.0.0.1"}),
        json!({"trtype": "TCP", "adrfam": "IPv6", "traddr": "127.0.0.1", "trsvcid": "4420"}),
    ] {
        invalid(
            &mut p,
            "nvmf_subsystem_add_listener",
            json!({"nqn": nqn, "listen_address": wrong}),
        );
    }
    assert_eq!(p.ok("nvmf_subsystem_get_controllers", json!({"nqn": nqn})), json!([]));
    assert_eq!(p.ok("nvmf_subsystem_get_qpairs", json!({"nqn": nqn})), json!([]));
    let stats = p.ok("nvmf_get_stats", json!({}));
    assert_eq!(
        (
            &stats["poll_groups"][1]["name"],
            &stats["poll_groups"][0]["current_io_qpairs"]
        ),
        (&json!("nvmf_tgt_poll_group_001"), &json!(0))
    );

    let referral = json!({"address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.1", "trsvcid": "8009"}, "secure_channel": false});
    p.ok("nvmf_discovery_add_referral", referral.clone());
    assert_eq!(
        p.ok("nvmf_discovery_get_referrals", json!({}))[0]["subnqn"],
        "nqn.2014-08.org.nvmexpress.discovery"
    );
    p.ok(
        "nvmf_discovery_remove_referral",
        json!({"address": referral["address"]}),
    );
    assert_eq!(
        p.refused(
            "nvmf_discovery_remove_referral",
            json!({"address": referral["address"]})
        )
        .1,
        "Unable to remove a referral."
    );
    p.ok(
        "nvmf_subsystem_remove_listener",
        json!({"nqn": nqn, "listen_address": address}),
    );
    invalid(
        &mut p,
        "nvmf_subsystem_remove_listener",
        json!({"nqn": nqn, "listen_address": address}),
    );
}

#[test]
fn a_deleted_disk_disappears_from_its_targets() {
    let mut p = Process::started();
    disks(&mut p);
    p.ok("bdev_split_create", json!({"base_bdev": "vol", "split_count": 2}));
    p.ok("nvmf_create_transport", json!({"trtype": "TCP"}));
    p.ok("nvmf_create_subsystem", json!({"nqn": NQN, "allow_any_host": true}));
    p.ok(
        "nvmf_subsystem_add_ns",
        json!({"nqn": NQN, "namespace": {"bdev_name": "volp0"}}),
    );
    p.ok(
        "iscsi_create_portal_group",
        json!({"tag": 1, "portals": [{"host": "127.0.0.1", "port": port().to_string()}]}),
    );
    p.ok(
        "iscsi_create_initiator_group",
        json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}),
    );
    let luns = json!([{"bdev_name": "volp1", "lun_id": 0}, {"bdev_name": "null", "lun_id": 1}]);
    p.ok(
        "iscsi_create_target_node",
        json!({"name": "n", "alias_name": "n", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
                                             "luns": luns, "queue_depth": 8}),
    );
    let volumes = p.ok("ashlar_get_volumes", json!({}));
    let served: Vec<(&Value, &Value)> = volumes
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| (&v["name"], &v["served"][0]["protocol"]))
        .collect();
    assert_eq!(
        served,
        [
            (&json!("null"), &json!("iscsi")),
            (&json!("volp0"), &json!("nvmf")),
            (&json!("volp1"), &json!("iscsi"))
        ]
    );
    let targets = p.ok("ashlar_get_targets", json!({}));
    assert_eq!(
        targets["nvmf"][1]["namespaces"],
        json!([{"nsid": 1, "volume": "volp0"}])
    );
    assert_eq!(targets["iscsi"][0]["iqn"], "iqn.2016-06.io.spdk:n");

    let config = p.ok("ashlar_get_config", json!({}));
    assert!(config.to_string().contains("volp0"), "{config}");

    p.ok("bdev_malloc_delete", json!({"name": "vol"}));
    assert_eq!(p.disks(), ["null"]);
    assert_eq!(
        p.ok("nvmf_get_subsystems", json!({"nqn": NQN}))[0]["namespaces"],
        json!([])
    );
    assert_eq!(
        p.ok("iscsi_get_target_nodes", json!({}))[0]["luns"],
        json!([{"bdev_name": "null", "lun_id": 1}])
    );
}

#[test]
fn a_lun_has_options_of_ours_that_are_shown_and_saved() {
    let mut p = Process::started();
    disks(&mut p);
    p.ok(
        "iscsi_create_portal_group",
        json!({"tag": 1, "portals": [{"host": "127.0.0.1", "port": port().to_string()}]}),
    );
    p.ok(
        "iscsi_create_initiator_group",
        json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}),
    );
    let node = |lun: Value| json!({"name": "n", "alias_name": "n", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": [lun], "queue_depth": 8});
    let first = json!({"bdev_name": "vol", "lun_id": 0, "read_only": true, "serial": "S1"});
    for bad in [
        json!({"bdev_name": "vol", "lun_id": 0, "readonly": true}),
        json!({"bdev_name": "vol", "lun_id": 0, "vendor": "TOO LONG A NAME"}),
    ] {
        invalid(&mut p, "iscsi_create_target_node", node(bad));
    }
    p.ok("iscsi_create_target_node", node(first.clone()));
    p.ok(
        "iscsi_target_node_add_lun",
        json!({"name": "n", "bdev_name": "null", "removable": true, "thin": false}),
    );
    let second = json!({"bdev_name": "null", "lun_id": 1, "removable": true, "thin": false});
    assert_eq!(
        p.ok("iscsi_get_target_nodes", json!({}))[0]["luns"],
        json!([first, second])
    );
    let saved = p.ok("framework_get_config", json!({"name": "iscsi"})).to_string();
    assert!(
        saved.contains("\"serial\":\"S1\"") && saved.contains("\"removable\":true"),
        "{saved}"
    );
    let shown = p.ok("ashlar_show_targets", json!({"name": "n"}));
    let luns = &shown["iscsi"][0]["luns"];
    assert_eq!(
        (&luns[0]["options"]["serial"], &luns[0]["read_only"]),
        (&json!("S1"), &json!(true))
    );
    assert_eq!(
        (&luns[1]["medium_present"], &luns[1]["in_flight"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(shown["iscsi"][0]["sessions"], json!([]));
    let (_, text) = p.refused("ashlar_show_targets", json!({"name": "nobody"}));
    assert!(text.contains("no target is called \"nobody\""), "{text}");
}

#[test]
fn latencies_of_a_target_are_counted_while_they_are_asked_for() {
    let mut p = Process::started();
    disks(&mut p);
    let iqn = "iqn.2016-06.io.spdk:counted";
    let name = json!({"name": iqn});
    p.ok(
        "iscsi_create_target_node",
        json!({"name": iqn, "alias_name": "", "pg_ig_maps": [], "luns": [{"bdev_name": "vol", "lun_id": 0}], "queue_depth": 64}),
    );
    let off = (-32602, "target's histogram function is not enabled".to_string());
    assert_eq!(p.refused("iscsi_get_histogram", name.clone()), off);
    let nobody = json!({"name": "iqn.2016-06.io.spdk:nobody", "enable": true});
    assert_eq!(
        p.refused("iscsi_enable_histogram", nobody),
        (-32602, "Invalid parameters".into())
    );
    let nobody = json!({"name": "iqn.2016-06.io.spdk:nobody"});
    assert_eq!(
        p.refused("iscsi_get_histogram", nobody),
        (-32602, "target not found".into())
    );
    assert_eq!(p.refused("iscsi_enable_histogram", name.clone()).0, -32603);
    assert_eq!(
        p.ok("iscsi_enable_histogram", json!({"name": iqn, "enable": true})),
        true
    );
    let found = p.ok("iscsi_get_histogram", name.clone());
    // 7,424 counts of eight bytes.
    assert_eq!(
        found["histogram"].as_str().map(str::len),
        Some((7424 * 8_usize).div_ceil(3) * 4)
    );
    assert_eq!(
        (
            &found["granularity"],
            &found["min_range"],
            &found["max_range"],
            &found["tsc_rate"]
        ),
        (&json!(7), &json!(0), &json!(57), &json!(1_000_000_000))
    );
    assert_eq!(
        p.ok("iscsi_enable_histogram", json!({"name": iqn, "enable": false})),
        true
    );
    assert_eq!(p.refused("iscsi_get_histogram", name), off);
}
