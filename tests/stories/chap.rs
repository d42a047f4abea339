//! Secrets: libiscsi, QEMU and a Linux host prove who they are, and whoever does not is turned away.
use blackbox::image::MIB;
use blackbox::{Guest, Ports, Server, Tool, needs, rpc, skip};
use serde_json::json;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

const USER: &str = "ashlar-host";
const SECRET: &str = "s4vKq0mWzYt1LbXe";
const OURS: &str = "ashlar-target";
const OUR_SECRET: &str = "Jd81nRcP5uGhTqo7";
const ONE: &str = "iqn.2026-11.io.ashlar:one";
const BOTH: &str = "iqn.2026-11.io.ashlar:both";

struct Stage {
    dir: tempfile::TempDir,
    ports: Ports,
    second: u16,
    server: Server,
}

/// A target that wants a secret for everything: `one` from the host, `both` from both sides. A second, private portal.
fn stage() -> Stage {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, secret) in [("host", SECRET), ("target", OUR_SECRET)] {
        let file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.path().join(name));
        file.and_then(|mut file| writeln!(file, "{secret}"))
            .expect("a file for a secret");
    }
    let ports = Ports::free();
    let second = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port();
    let (state, iscsi, nvme) = (dir.path().display(), ports.iscsi, ports.nvme);
    let text = format!(
        "state: {state}\n\
         disks:\n  - {{name: one, memory: 8MiB}}\n  - {{name: both, memory: 8MiB}}\n\
         targets:\n  nvme: {{listeners: [127.0.0.1:{nvme}]}}\n  iscsi:\n    portals: [127.0.0.1:{iscsi}]\n\
         \x20   portal_groups: [{{tag: 2, portals: [127.0.0.1:{second}], private: true}}]\n\
         \x20   auth_groups:\n      - tag: 1\n        users:\n\
         \x20         - {{user: {USER}, secret_file: host, mutual: {{user: {OURS}, secret_file: target}}}}\n\
         \x20   discovery_auth: {{group: 1}}\n\
         \x20   nodes:\n\
         \x20     - name: \"{ONE}\"\n\
         \x20       luns: [{{lun: 0, volume: one}}]\n\x20       auth: {{group: 1}}\n\
         \x20       access: [{{portal_group: 1}}, {{portal_group: 2, netmasks: [127.0.0.0/8]}}]\n\
         \x20     - {{name: \"{BOTH}\", luns: [{{lun: 0, volume: both}}], auth: {{group: 1, mutual: true}}, access: [{{portal_group: 1}}]}}\n"
    );
    let server = Server::start(dir.path(), &text);
    Stage {
        dir,
        ports,
        second,
        server,
    }
}

impl Stage {
    fn end(self) {
        let log = self.server.log();
        assert!(
            !log.contains(SECRET) && !log.contains(OUR_SECRET),
            "a secret is in the log"
        );
        self.server.stop();
    }

    fn rpc(&self, method: &str, params: serde_json::Value) -> serde_json::Value {
        rpc::call(&self.socket(), method, params).unwrap_or_else(|e| panic!("{e}"))
    }

    fn socket(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("rpc.sock")
    }

    fn url(&self, user: &str, iqn: &str) -> String {
        format!("iscsi://{user}127.0.0.1:{}/{iqn}/0", self.ports.iscsi)
    }
}

/// libiscsi's way of saying who one is.
fn login(user: &str, secret: &str) -> String {
    format!("{user}%{secret}@")
}

fn mutual(tool: Tool, secret: &str) -> Tool {
    tool.env("LIBISCSI_CHAP_TARGET_USERNAME", OURS)
        .env("LIBISCSI_CHAP_TARGET_PASSWORD", secret)
}

#[test]
fn libiscsi_proves_who_it_is() {
    if !needs("CHAP with libiscsi", &["iscsi-inq", "iscsi-ls"]) {
        return;
    }
    let stage = stage();
    let inq = |user: &str, iqn: &str| Tool::new("iscsi-inq").arg(stage.url(user, iqn));
    let right = login(USER, SECRET);
    assert!(inq(&right, ONE).ok().contains("DIRECT_ACCESS"));
    for wrong in [
        "".to_string(),
        login(USER, "wrong-wrong-wrong"),
        login("nobody", SECRET),
    ] {
        let said = inq(&wrong, ONE).fails();
        assert!(said.contains("Authentication failure"), "{wrong}: {said}");
    }
    // Both ways: the host must ask, and notices a wrong answer.
    assert!(mutual(inq(&right, BOTH), OUR_SECRET).ok().contains("DIRECT_ACCESS"));
    assert!(inq(&right, BOTH).fails().contains("Authentication failure"));
    assert!(
        mutual(inq(&right, BOTH), "something else")
            .fails()
            .contains("Invalid CHAP_R")
    );
    assert!(
        mutual(inq(&right, ONE), OUR_SECRET)
            .fails()
            .contains("Authentication failure"),
        "not set up for it"
    );
    // Discovery.
    let ls = |user: &str| Tool::new("iscsi-ls").arg(format!("iscsi://{user}127.0.0.1:{}", stage.ports.iscsi));
    let found = ls(&right).ok();
    assert!(found.contains(ONE) && found.contains(BOTH), "{found}");
    assert!(!found.contains(&stage.second.to_string()), "a private portal is told");
    let said = ls("").output();
    assert!(
        !String::from_utf8_lossy(&said.stdout).contains(ONE),
        "discovery without a secret"
    );
    // What is shown has the file's name where the secret would be.
    let groups = stage.rpc("iscsi_get_auth_groups", json!({}));
    assert_eq!(
        groups[0]["secrets"][0]["secret_file"],
        json!(stage.dir.path().join("host"))
    );
    for method in ["iscsi_get_auth_groups", "ashlar_get_config", "iscsi_get_connections"] {
        let said = stage.rpc(method, json!({})).to_string();
        assert!(!said.contains(SECRET) && !said.contains(OUR_SECRET), "{method}: {said}");
    }
    stage.end();
}

#[test]
fn libiscsis_suite_for_chap() {
    if !needs("libiscsi's suite for CHAP", &["iscsi-test-cu"]) {
        return;
    }
    let known = Tool::new("iscsi-test-cu").arg("--list").output();
    if !String::from_utf8_lossy(&known.stdout).contains("iSCSICHAP") {
        return skip("libiscsi's suite for CHAP", "this iscsi-test-cu has none");
    }
    let stage = stage();
    let url = stage.url(&login(USER, SECRET), ONE);
    let said = Tool::new("iscsi-test-cu")
        .args(["-d", "--test=ALL.iSCSICHAP", &url])
        .ok();
    assert!(
        said.contains("passed") && !said.contains("FAILED") && !said.contains("[SKIPPED]"),
        "{said}"
    );
    stage.end();
}

#[test]
fn qemu_proves_who_it_is() {
    if !needs("CHAP with QEMU", &["qemu-img"]) {
        return;
    }
    if !Tool::new("qemu-img").arg("--help").ok().contains(" iscsi ") {
        return skip("CHAP with QEMU", "QEMU has no iscsi driver (qemu-block-extra)");
    }
    let stage = stage();
    let info = |user: &str| Tool::new("qemu-img").args(["info", &stage.url(user, ONE)]);
    let said = info(&login(USER, SECRET)).ok();
    assert!(said.contains(&format!("({} bytes)", 8 * MIB)), "{said}");
    assert!(
        info(&login(USER, "wrong-wrong-wrong"))
            .fails()
            .contains("Authentication failure")
    );
    assert!(info("").fails().contains("Authentication failure"));
    stage.end();
}

#[test]
fn guest_chap() {
    if !Guest::possible("CHAP with a Linux host") {
        return;
    }
    let stage = stage();
    let variables = [
        ("ISCSI_PORT", stage.ports.iscsi.to_string()),
        ("PORT2", stage.second.to_string()),
        ("ONE", ONE.into()),
        ("BOTH", BOTH.into()),
        ("USER", USER.into()),
        ("SECRET", SECRET.into()),
        ("OURS", OURS.into()),
        ("OUR_SECRET", OUR_SECRET.into()),
    ];
    let mut guest = Guest::boot("chap.sh", Duration::from_secs(900), &variables, &[]);
    guest.wait_for("MOVE");
    let second = stage.second.to_string();
    stage.rpc(
        "iscsi_target_node_set_redirect",
        json!({"name": ONE, "pg_tag": 1, "redirect_host": "127.0.0.1", "redirect_port": second}),
    );
    stage.rpc("iscsi_target_node_request_logout", json!({"name": ONE, "pg_tag": 1}));
    let said = guest.finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    stage.end();
}
