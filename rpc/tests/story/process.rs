//! Start-up, what the process tells of itself, its end.

use rpc::context::Signal;
use rpc::methods::TableOptions;
use serde_json::{Value, json};

use crate::harness::Process;

#[test]
fn before_start_init_only_start_up_methods_work() {
    let mut p = Process::waiting(TableOptions::default());
    assert_eq!(
        p.refused("bdev_get_bdevs", json!({})),
        (
            -1,
            "Method may only be called after framework is initialized using framework_start_init RPC.".into()
        )
    );
    let now = p.ok("rpc_get_methods", json!({"current": true}));
    let names: Vec<&str> = now
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(names.contains(&"framework_start_init") && names.contains(&"iobuf_set_options"));
    assert!(!names.contains(&"bdev_get_bdevs"));
    p.ok("iobuf_set_options", json!({"small_pool_count": 16384}));
    p.ok(
        "iscsi_set_options",
        json!({"node_base": "iqn.2024-01.org.example", "max_sessions": 7}),
    );
    assert_eq!(
        p.refused("iscsi_set_options", json!({})),
        (-32603, "Must not call more than once".into())
    );
    p.ok("nvmf_set_max_subsystems", json!({"max_subsystems": 5}));
    assert_eq!(
        p.refused("nvmf_set_max_subsystems", json!({"max_subsystems": 6})),
        (-32603, "Must not call more than once".into())
    );
    p.ok("nvmf_set_crdt", json!({"crdt1": 1, "crdt2": 2, "crdt3": 3}));
    p.ok(
        "nvmf_set_config",
        json!({"discovery_filter": "address", "admin_cmd_passthru": {"identify_ctrlr": false},
                                    "dhchap_digests": ["sha256"]}),
    );
    p.ok("framework_start_init", json!({}));
    assert_eq!(p.ok("framework_wait_init", json!({})), true);
    let (code, text) = p.refused("framework_start_init", json!({}));
    assert_eq!(code, -1);
    assert!(
        text.starts_with("Method may only be called before framework is initialized."),
        "{text}"
    );
    assert_eq!(p.ok("bdev_get_bdevs", json!({})), json!([]));

    // What was said at start-up is shown again.
    let options = p.ok("iscsi_get_options", json!({}));
    assert_eq!(
        (&options["node_base"], &options["max_sessions"]),
        (&json!("iqn.2024-01.org.example"), &json!(7))
    );
    assert_eq!(options["first_burst_length"], 8192);
    let iobuf = p.ok("framework_get_config", json!({"name": "iobuf"}));
    assert_eq!(iobuf[0]["params"]["small_pool_count"], 16384);
    let nvmf = p.ok("framework_get_config", json!({"name": "nvmf"}));
    assert_eq!(nvmf[0]["params"]["discovery_filter"], "address");
    assert_eq!(
        nvmf[1],
        json!({"method": "nvmf_set_max_subsystems", "params": {"max_subsystems": 5}})
    );
    assert_eq!(nvmf[2]["params"], json!({"crdt1": 1, "crdt2": 2, "crdt3": 3}));
}

#[test]
fn the_process_describes_itself_in_spdks_shapes() {
    let mut p = Process::started();
    let version = p.ok("spdk_get_version", json!({}));
    assert!(
        version["version"]
            .as_str()
            .is_some_and(|v| v.contains("Ashlar") && v.contains("SPDK v26.05"))
    );
    assert_eq!(
        (&version["fields"]["major"], &version["fields"]["minor"]),
        (&json!(26), &json!(5))
    );
    assert!(version["fields"]["suffix"].is_string() && version["fields"]["patch"].is_u64());

    let reactors = p.ok("framework_get_reactors", json!({}));
    assert_eq!(
        (reactors["reactors"].as_array().map(Vec::len), &reactors["tick_rate"]),
        (Some(2), &json!(1_000_000_000u64))
    );
    assert_eq!(reactors["pid"], std::process::id());
    assert_eq!(reactors["reactors"][1]["lw_threads"][0]["name"], "reactor_1");
    let threads = p.ok("thread_get_stats", json!({}));
    assert!(threads["threads"][0]["busy"].is_u64() && threads["threads"][0]["active_pollers_count"] == 1);
    assert_eq!(
        p.ok("thread_get_pollers", json!({}))["threads"][0]["active_pollers"][0]["name"],
        "turn"
    );
    assert_eq!(
        p.ok("thread_get_io_channels", json!({}))["threads"][0]["io_channels"],
        json!([])
    );

    let subsystems = p.ok("framework_get_subsystems", json!({}));
    let order: Vec<&str> = subsystems
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|s| s["subsystem"].as_str())
        .collect();
    for (at, subsystem) in subsystems.as_array().expect("a list").iter().enumerate() {
        for needed in subsystem["depends_on"].as_array().expect("a list") {
            assert!(
                order[..at].iter().any(|s| s == needed),
                "{subsystem} comes before {needed}"
            );
        }
    }
    assert_eq!(p.ok("framework_get_config", json!({"name": "scsi"})), Value::Null);
    assert_eq!(
        p.refused("framework_get_config", json!({"name": "no"})),
        (-32602, "Subsystem 'no' not found".into())
    );

    assert_eq!(p.ok("framework_get_scheduler", json!({}))["scheduler_name"], "static");
    assert_eq!(
        p.ok("framework_set_scheduler", json!({"name": "static", "period": 1000})),
        true
    );
    assert_eq!(p.ok("framework_get_scheduler", json!({}))["scheduler_period"], 1000);
    assert_eq!(
        p.refused("framework_set_scheduler", json!({"name": "dynamic"})),
        (-32603, "Invalid argument".into())
    );

    p.ok("log_set_print_level", json!({"level": "DEBUG"}));
    assert_eq!(p.ok("log_get_print_level", json!({})), "DEBUG");
    assert_eq!(p.ok("log_get_level", json!({})), "NOTICE");
    p.ok("log_set_flag", json!({"flag": "nvmf"}));
    assert_eq!(p.ok("log_get_flags", json!({}))["nvmf"], true);
    assert_eq!(
        p.refused("log_set_flag", json!({"flag": "x"})),
        (-32602, "invalid log flag".into())
    );
    assert_eq!(
        p.refused("log_set_level", json!({"level": "LOUD"})),
        (-32603, "spdk_json_decode_object failed".into())
    );

    assert_eq!(
        p.ok("sock_impl_get_options", json!({"impl_name": "posix"}))["enable_recv_pipe"],
        true
    );
    assert_eq!(
        p.refused("sock_impl_get_options", json!({"impl_name": "pigeon"})).0,
        -32602
    );
    assert_eq!(
        p.refused("bdev_lvol_create", json!({})),
        (-32601, "Method not found".into())
    );
}

#[test]
fn an_allow_list_and_a_strict_table_take_less() {
    let allowed = [
        "framework_start_init",
        "rpc_get_methods",
        "bdev_get_iostat",
        "bdev_null_create",
    ];
    let options = TableOptions {
        allowed: Some(allowed.map(str::to_owned).to_vec()),
        strict: true,
    };
    let mut p = Process::waiting(options);
    p.ok("framework_start_init", json!({}));
    assert_eq!(
        p.refused("bdev_get_bdevs", json!({})),
        (-32601, "Method not found".into())
    );
    assert_eq!(
        p.ok("rpc_get_methods", json!({})),
        json!([
            "bdev_get_iostat",
            "bdev_null_create",
            "framework_start_init",
            "rpc_get_methods"
        ])
    );
    p.ok(
        "bdev_null_create",
        json!({"name": "n", "num_blocks": 8, "block_size": 512}),
    );
    p.ok("bdev_get_iostat", json!({"names": ["n"]}));
    assert_eq!(p.refused("bdev_get_iostat", json!({"name": "n"})).0, -32603);
}

#[test]
fn a_client_can_end_the_process() {
    let mut p = Process::started();
    assert_eq!(
        p.refused("spdk_kill_instance", json!({"sig_name": "SIGSTOP"})),
        (-32602, "Invalid parameters".into())
    );
    p.ok("spdk_kill_instance", json!({"sig_name": "SIGUSR1"}));
    p.ok("spdk_kill_instance", json!({"sig_name": "SIGTERM"}));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    assert_eq!(runtime.block_on(p.context.killed()), Signal::Term);
}
