//! Who has changed what is written down, and a level of the log that is set by RPC is that of the engine's process as well.
use blackbox::config::Config;
use blackbox::serve::{Start, binary};
use blackbox::{Ports, Tool, rpc, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the audit log");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn changes_are_written_down_and_the_engine_logs_at_the_level_that_was_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let socket = dir.join("rpc.sock");
    let ask = |method: &str, params: Value| rpc::call(&socket, method, params).expect("an answer");
    let config = Config::new(dir, Ports::free()).memory("ram", 16).yaml() + "  []\n";
    let file = dir.join("ashlar.yaml");
    fs::write(&file, config + "audit: {file: audit.log}\nlog: error\n").expect("write the configuration");
    let server = Start::serve(dir, &file).serving().spawn();
    let log = dir.join("audit.log");
    assert_eq!(fs::metadata(&log).expect("the log").permissions().mode() & 0o777, 0o600);
    assert_eq!(lines(&log), [json!(null); 0]);

    // By the command line, and a refusal.
    let ashlar = |args: &[&str]| {
        let tool = Tool::new(&binary().to_string_lossy());
        tool.arg("--socket").arg(&socket).args(args)
    };
    ashlar(&["label", "create", "ram"]).ok();
    ashlar(&["label", "create", "ram"]).fails();
    ashlar(&["disk", "ls"]).ok();
    let all = lines(&log);
    assert_eq!(all.len(), 2, "{all:?}");
    for line in &all {
        assert_eq!(line["method"], "ashlar_change");
        assert_eq!(line["params"]["verb"], "label-create");
        assert_eq!(line["params"]["object"], "ram");
        assert_eq!(
            line["peer"]["uid"],
            fs::metadata("/proc/self")
                .map(|m| std::os::unix::fs::MetadataExt::uid(&m))
                .expect("me")
        );
        assert!(
            line["peer"]["pid"]
                .as_u64()
                .is_some_and(|pid| pid != u64::from(server.pid()))
        );
    }
    assert_eq!(
        (&all[0]["result"], all[1]["result"]["code"].is_i64()),
        (&json!("done"), true)
    );

    // What happens in the engine is logged at the level `info`, which is not its level yet.
    const SAID: &str = "ram GPT with 1 partition";
    assert!(!server.log().contains("INFO"), "{}", server.log());
    ask("log_set_print_level", json!({"level": "INFO"}));
    ashlar(&["partition", "create", "ram", "--size", "1m"]).ok();
    server.wait_for_log(SAID);
    // Another engine begins with it.
    let told = ask("ashlar_get_engine", json!({}));
    Tool::new("kill").args(["-KILL", &told["process"].to_string()]).ok();
    wait_for("another engine", || {
        let now = ask("ashlar_get_engine", json!({}));
        now["starts"] != told["starts"] && now["process"].is_u64()
    });
    ask("bdev_wait_for_examine", json!({}));
    let before = server.log().matches(" INFO ").count();
    ashlar(&["partition", "delete", "ramp1"]).ok();
    wait_for("a line of the new engine", || {
        server.log().matches(" INFO ").count() > before
    });
    ask("log_set_print_level", json!({"level": "ERROR"}));
    let before = server.log().matches(" INFO ").count();
    ashlar(&["label", "remove", "ram"]).ok();
    assert_eq!(server.log().matches(" INFO ").count(), before, "{}", server.log());

    // Moved away, as logrotate does it.
    let count = lines(&log).len();
    let moved = dir.join("audit.old");
    fs::rename(&log, &moved).expect("move it");
    ask(
        "bdev_null_create",
        json!({"name": "n", "num_blocks": 64, "block_size": 512}),
    );
    assert_eq!(lines(&moved).len(), count + 1);
    Tool::new("kill").args(["-HUP", &server.pid().to_string()]).ok();
    wait_for("a new file", || log.exists());
    ask("bdev_null_delete", json!({"name": "n"}));
    let all = lines(&log);
    assert_eq!((all.len(), &all[0]["method"]), (1, &json!("bdev_null_delete")));
    server.stop();
}
