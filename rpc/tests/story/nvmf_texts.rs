//! What `nvmf_*` and `keyring_*` answer, member by member and refusal by refusal, as SPDK 26.05 does (`lib/nvmf/nvmf_rpc.c`,
//! `module/event/subsystems/nvmf/nvmf_rpc.c`, `module/keyring/file/keyring_rpc.c`).
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::Process;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const NOBODY: &str = "nqn.2016-06.io.spdk:none";
const HOST: &str = "nqn.2014-08.org.example:host1";
const KEY: &str = "DHHC-1:00:Fx4lLDM6QUhPVl1ka3J5gIeOlZyjqrG4v8bN1Nvi6fA6mMhL:";

/// A process with a subsystem, a namespace, a host with a key, a listener and a referral.
fn furnished() -> (Process, Value) {
    let mut p = Process::started();
    let file = p.dir.path().join("key");
    std::fs::write(&file, KEY).expect("a key");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port")
        .port();
    let address = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port.to_string()});
    for (method, params) in [
        (
            "bdev_malloc_create",
            json!({"name": "vol", "num_blocks": 2048, "block_size": 512}),
        ),
        ("keyring_file_add_key", json!({"name": "key0", "path": file})),
        ("nvmf_create_transport", json!({"trtype": "TCP"})),
        ("nvmf_create_subsystem", json!({"nqn": NQN, "ana_reporting": true})),
        (
            "nvmf_subsystem_add_ns",
            json!({"nqn": NQN, "namespace": {"bdev_name": "vol", "eui64": "0011223344556677"}}),
        ),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": NQN, "host": HOST, "dhchap_key": "key0"}),
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": NQN, "listen_address": address}),
        ),
        (
            "nvmf_discovery_add_referral",
            json!({"address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.1", "trsvcid": "8009"}}),
        ),
    ] {
        p.ok(method, params);
    }
    (p, address)
}

#[test]
fn refusals_have_spdks_codes_and_texts() {
    let (mut p, address) = furnished();
    const INVALID: (i64, &str) = (-32602, "Invalid parameters");
    const NO_TARGET: (i64, &str) = (-32603, "Unable to find a target.");
    const INTERNAL: (i64, &str) = (-32603, "Internal error");
    let missing = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.9", "trsvcid": "1"});
    // Another target than the only one.
    let of = |more: Value| {
        let mut params = json!({"tgt_name": "other"});
        if let (Some(all), Some(more)) = (params.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        params
    };
    let mut table = vec![
        ("nvmf_get_subsystems", of(json!({})), NO_TARGET),
        (
            "nvmf_create_subsystem",
            of(json!({"nqn": NOBODY})),
            (-32603, "Unable to find target other"),
        ),
        ("nvmf_delete_subsystem", of(json!({"nqn": NQN})), NO_TARGET),
        (
            "nvmf_subsystem_add_listener",
            of(json!({"nqn": NQN, "listen_address": address})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_remove_listener",
            of(json!({"nqn": NQN, "listen_address": address})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_listener_set_ana_state",
            of(json!({"nqn": NQN, "listen_address": address, "ana_state": "optimized"})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_add_ns",
            of(json!({"nqn": NQN, "namespace": {"bdev_name": "vol"}})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_remove_ns",
            of(json!({"nqn": NQN, "nsid": 1})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_set_ns_ana_group",
            of(json!({"nqn": NQN, "nsid": 1, "anagrpid": 1})),
            NO_TARGET,
        ),
        (
            "nvmf_ns_add_host",
            of(json!({"nqn": NQN, "nsid": 1, "host": HOST})),
            NO_TARGET,
        ),
        (
            "nvmf_ns_remove_host",
            of(json!({"nqn": NQN, "nsid": 1, "host": HOST})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_add_host",
            of(json!({"nqn": NQN, "host": HOST})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_remove_host",
            of(json!({"nqn": NQN, "host": HOST})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_allow_any_host",
            of(json!({"nqn": NQN, "allow_any_host": true})),
            NO_TARGET,
        ),
        (
            "nvmf_subsystem_set_keys",
            of(json!({"nqn": NQN, "host": HOST})),
            (-32603, "Invalid parameters"),
        ),
        ("nvmf_create_transport", of(json!({"trtype": "TCP"})), NO_TARGET),
        ("nvmf_get_transports", of(json!({})), NO_TARGET),
        ("nvmf_get_stats", of(json!({})), NO_TARGET),
        (
            "nvmf_discovery_add_referral",
            of(json!({"address": missing})),
            NO_TARGET,
        ),
        (
            "nvmf_discovery_remove_referral",
            of(json!({"address": missing})),
            NO_TARGET,
        ),
        ("nvmf_publish_mdns_prr", of(json!({})), NO_TARGET),
        ("nvmf_stop_mdns_prr", of(json!({})), NO_TARGET),
    ];
    for method in [
        "nvmf_subsystem_get_listeners",
        "nvmf_subsystem_get_controllers",
        "nvmf_subsystem_get_qpairs",
    ] {
        table.push((method, of(json!({"nqn": NQN})), (-32603, "Unable to find a target")));
        table.push((method, json!({"nqn": NOBODY}), INVALID));
        table.push((method, json!({}), INVALID));
    }
    table.extend([
        (
            "nvmf_discovery_get_referrals",
            of(json!({})),
            (-32603, "Unable to find a target"),
        ),
        // Subsystems.
        ("nvmf_get_subsystems", json!({"nqn": NOBODY}), (-19, "No such device")),
        ("nvmf_get_subsystems", json!({"nqn": 7}), INVALID),
        (
            "nvmf_create_subsystem",
            json!({"nqn": NQN}),
            (-32603, "Unable to create subsystem nqn.2016-06.io.spdk:cnode1"),
        ),
        (
            "nvmf_create_subsystem",
            json!({"nqn": "me"}),
            (-32603, "Unable to create subsystem me"),
        ),
        (
            "nvmf_create_subsystem",
            json!({"nqn": NOBODY, "max_namespaces": 1 << 30}),
            (-32603, "Unable to create subsystem nqn.2016-06.io.spdk:none"),
        ),
        (
            "nvmf_create_subsystem",
            json!({"nqn": NOBODY, "min_cntlid": 0}),
            (-32602, "Invalid cntlid range [0-65519]"),
        ),
        ("nvmf_create_subsystem", json!({"nqn": NOBODY, "unknown": 1}), INVALID),
        ("nvmf_delete_subsystem", json!({"nqn": NOBODY}), INVALID),
        // Listeners.
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": NQN, "listen_address": address}),
            INVALID,
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": NOBODY, "listen_address": address}),
            INVALID,
        ),
        (
            "nvmf_subsystem_remove_listener",
            json!({"nqn": NQN, "listen_address": missing}),
            INVALID,
        ),
        (
            "nvmf_subsystem_listener_set_ana_state",
            json!({"nqn": NOBODY, "listen_address": address, "ana_state": "optimized"}),
            (-32602, "Unable to find subsystem with NQN nqn.2016-06.io.spdk:none"),
        ),
        (
            "nvmf_subsystem_listener_set_ana_state",
            json!({"nqn": NQN, "listen_address": missing, "ana_state": "optimized"}),
            (-32603, "error setting ANA state: -22"),
        ),
        (
            "nvmf_subsystem_listener_set_ana_state",
            json!({"nqn": NQN, "listen_address": address, "ana_state": "optimized", "anagrpid": 33}),
            (-32603, "error setting ANA state: -22"),
        ),
        (
            "nvmf_subsystem_listener_set_ana_state",
            json!({"nqn": NQN, "listen_address": address, "ana_state": "splendid"}),
            INVALID,
        ),
        // Namespaces.
        (
            "nvmf_subsystem_add_ns",
            json!({"nqn": NOBODY, "namespace": {"bdev_name": "vol"}}),
            INVALID,
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({"nqn": NQN, "namespace": {"bdev_name": "nowhere"}}),
            INVALID,
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({"nqn": NQN, "namespace": {"bdev_name": "vol", "nsid": 1}}),
            INVALID,
        ),
        ("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 9}), INVALID),
        (
            "nvmf_subsystem_set_ns_ana_group",
            json!({"nqn": NQN, "nsid": 9, "anagrpid": 1}),
            INVALID,
        ),
        (
            "nvmf_subsystem_set_ns_ana_group",
            json!({"nqn": NQN, "nsid": 1, "anagrpid": 0}),
            INVALID,
        ),
        (
            "nvmf_ns_add_host",
            json!({"nqn": NQN, "nsid": 9, "host": HOST}),
            INVALID,
        ),
        (
            "nvmf_ns_add_host",
            json!({"nqn": NQN, "nsid": 1, "host": HOST}),
            INVALID,
        ),
        (
            "nvmf_ns_remove_host",
            json!({"nqn": NOBODY, "nsid": 1, "host": HOST}),
            INVALID,
        ),
        // Hosts and keys.
        ("nvmf_subsystem_add_host", json!({"nqn": NOBODY, "host": HOST}), INVALID),
        ("nvmf_subsystem_add_host", json!({"nqn": NQN, "host": HOST}), INTERNAL),
        ("nvmf_subsystem_add_host", json!({"nqn": NQN, "host": "me"}), INTERNAL),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": NQN, "host": NOBODY, "dhchap_key": "none"}),
            INVALID,
        ),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": NQN, "host": NOBODY, "dhchap_ctrlr_key": "key0"}),
            INTERNAL,
        ),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": NQN, "host": NOBODY, "psk": "none"}),
            INTERNAL,
        ),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": NQN, "host": NOBODY, "psk": "key0"}),
            INTERNAL,
        ),
        ("nvmf_subsystem_set_keys", json!({"nqn": NOBODY, "host": HOST}), INVALID),
        (
            "nvmf_subsystem_set_keys",
            json!({"nqn": NQN, "host": HOST, "dhchap_key": "none"}),
            INVALID,
        ),
        (
            "nvmf_subsystem_set_keys",
            json!({"nqn": NQN, "host": NOBODY, "dhchap_key": "key0"}),
            (-22, "Invalid argument"),
        ),
        (
            "nvmf_subsystem_set_keys",
            json!({"nqn": NQN, "host": HOST, "dhchap_ctrlr_key": "key0"}),
            (-22, "Invalid argument"),
        ),
        (
            "nvmf_subsystem_remove_host",
            json!({"nqn": NOBODY, "host": HOST}),
            INVALID,
        ),
        (
            "nvmf_subsystem_remove_host",
            json!({"nqn": NQN, "host": NOBODY}),
            INTERNAL,
        ),
        (
            "nvmf_subsystem_allow_any_host",
            json!({"nqn": NOBODY, "allow_any_host": true}),
            INVALID,
        ),
        (
            "keyring_file_add_key",
            json!({"name": "key0", "path": p.dir.path().join("key")}),
            (-17, "File exists"),
        ),
        (
            "keyring_file_add_key",
            json!({"name": "key1", "path": "key"}),
            (-22, "Invalid argument"),
        ),
        (
            "keyring_file_add_key",
            json!({"name": "key1", "path": p.dir.path().join("none")}),
            (-2, "No such file or directory"),
        ),
        (
            "keyring_file_add_key",
            json!({"name": "key1"}),
            (-32602, "Invalid argument"),
        ),
        (
            "keyring_file_remove_key",
            json!({"name": "key1"}),
            (-2, "No such file or directory"),
        ),
        ("keyring_file_remove_key", json!({}), (-32602, "Invalid argument")),
        // The target and the transport.
        (
            "nvmf_create_transport",
            json!({"trtype": "TCP"}),
            (-32603, "Transport type 'TCP' already exists"),
        ),
        (
            "nvmf_create_transport",
            json!({"trtype": "RDMA"}),
            (-32603, "Transport type 'RDMA' create failed"),
        ),
        (
            "nvmf_create_transport",
            json!({"trtype": "SMOKE"}),
            (-32602, "Invalid transport type 'SMOKE'"),
        ),
        (
            "nvmf_get_transports",
            json!({"trtype": "RDMA"}),
            (-19, "No such device"),
        ),
        (
            "nvmf_create_target",
            json!({"name": "nvmf_tgt"}),
            (-32602, "Target already exists."),
        ),
        (
            "nvmf_create_target",
            json!({"name": "other"}),
            (-32603, "Unable to create the requested target."),
        ),
        (
            "nvmf_delete_target",
            json!({"name": "other"}),
            (-32602, "The specified target doesn't exist, cannot delete it."),
        ),
        (
            "nvmf_get_targets",
            json!({"a": 1}),
            (-32602, "nvmf_get_targets has no parameters."),
        ),
        // Referrals.
        (
            "nvmf_discovery_add_referral",
            json!({"address": {"trtype": "TCP", "traddr": "192.0.2.1"}}),
            (-32603, "Service ID is required."),
        ),
        (
            "nvmf_discovery_add_referral",
            json!({"address": missing, "subnqn": format!("nqn.{}", "x".repeat(220))}),
            (-32602, "Invalid subsystem NQN"),
        ),
        (
            "nvmf_discovery_remove_referral",
            json!({"address": missing}),
            (-32603, "Unable to remove a referral."),
        ),
    ]);
    let mut wrong = Vec::new();
    for (method, params, (code, text)) in table {
        let answer = p.refused(method, params.clone());
        if (answer.0, answer.1.as_str()) != (code, text) {
            wrong.push(format!("{method} {params}: {answer:?}, not {:?}", (code, text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // With values that no transport can have, before there is one.
    let mut p = Process::started();
    for wrong in [
        json!({"trtype": "TCP", "kas": 0}),
        json!({"trtype": "TCP", "max_io_size": 4096}),
    ] {
        let answer = p.refused("nvmf_create_transport", wrong);
        assert_eq!(answer, (-32603, "Transport type 'TCP' create failed".into()));
    }
}

#[test]
fn answers_have_spdks_members_and_those_of_ours_are_known() {
    let (mut p, _) = furnished();
    let subsystems = p.ok("nvmf_get_subsystems", json!({}));
    let stats = p.ok("nvmf_get_stats", json!({}));
    let listeners = p.ok("nvmf_subsystem_get_listeners", json!({"nqn": NQN}));
    let basic = ["allow_any_host", "hosts", "listen_addresses", "nqn", "subtype"];
    let full = [
        "dmrsl",
        "max_cntlid",
        "max_namespaces",
        "min_cntlid",
        "model_number",
        "namespaces",
        "passthrough",
        "serial_number",
        "wzsl",
    ];
    let referrals = p.ok("nvmf_discovery_get_referrals", json!({}));
    for (what, answer, members) in [
        ("the discovery subsystem", &subsystems[0], basic.to_vec()),
        ("a subsystem", &subsystems[1], [&basic[..], &full].concat()),
        ("its host", &subsystems[1]["hosts"][0], vec!["dhchap_key", "nqn"]),
        (
            "its namespace",
            &subsystems[1]["namespaces"][0],
            vec!["anagrpid", "bdev_name", "eui64", "name", "nguid", "nsid", "uuid"],
        ),
        (
            "its address",
            &subsystems[1]["listen_addresses"][0],
            vec!["adrfam", "traddr", "trsvcid", "trtype"],
        ),
        ("a listener", &listeners[0], vec!["address", "ana_states"]),
        (
            "a state",
            &listeners[0]["ana_states"][0],
            vec!["ana_group", "ana_state"],
        ),
        ("a referral", &referrals[0], vec!["address", "secure_channel", "subnqn"]),
        ("statistics", &stats, vec!["poll_groups", "tick_rate"]),
        (
            "a poll group",
            &stats["poll_groups"][0],
            vec![
                "admin_qpairs",
                "completed_nvme_io",
                "current_admin_qpairs",
                "current_io_qpairs",
                "current_unassociated_qpairs",
                "io_qpairs",
                "name",
                "pending_bdev_io",
                "transports",
            ],
        ),
        (
            "a key",
            &p.ok("keyring_get_keys", json!({}))[0],
            vec!["module", "name", "path", "probed", "refcnt", "removed"],
        ),
    ] {
        let mut found: Vec<&str> = answer.as_object().expect(what).keys().map(String::as_str).collect();
        found.sort_unstable();
        let mut wanted = members;
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{what}");
    }
}

#[test]
fn a_host_that_must_authenticate_is_shown_as_such() {
    use load::nvme::{Client, Options};
    let (mut p, address) = furnished();
    let port = address["trsvcid"].as_str().expect("a port").parse().expect("a number");
    let options = Options {
        hostnqn: HOST.into(),
        ..Options::default()
    };
    let mut client = Client::open(([127, 0, 0, 1], port).into(), &options).expect("a connection");
    let cqe = client.connect(NQN, 0, 0xffff, &options).expect("Connect");
    assert!(cqe.status().is_success());
    let pairs = p.ok("nvmf_subsystem_get_qpairs", json!({"nqn": NQN}));
    let mut members: Vec<&str> = pairs[0]
        .as_object()
        .expect("a queue")
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    let wanted = [
        "auth",
        "cntlid",
        "hostnqn",
        "listen_address",
        "peer_address",
        "qid",
        "state",
        "thread",
    ];
    assert_eq!(members, wanted);
    assert_eq!(pairs[0]["state"], "authenticating");
    assert_eq!(
        pairs[0]["auth"],
        json!({"state": "negotiate", "digest": "unknown", "dhgroup": "unknown"})
    );
    let controllers = p.ok("nvmf_subsystem_get_controllers", json!({"nqn": NQN}));
    let mut members: Vec<&str> = controllers[0]
        .as_object()
        .expect("one")
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    assert_eq!(members, ["cntlid", "cntrltype", "hostid", "hostnqn", "num_io_qpairs"]);
}
