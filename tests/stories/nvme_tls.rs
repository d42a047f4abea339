//! NVMe/TCP by TLS: a Linux host with the kernel's TLS, and OpenSSL's own client.
use blackbox::serve::binary;
use blackbox::{Guest, Helper, Ports, Result, Server, Tool, image, needs, rpc, skip};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:6f2d1a34-0000-4000-8000-0000000a51a2";
const NQN: &str = "nqn.2026-11.io.ashlar:tls";

/// A file, a subsystem that is reached by TLS and one that is not; keys that `ashlar target key` has made.
struct Bench {
    dir: tempfile::TempDir,
    yaml: String,
    plain: u16,
    secure: u16,
}

impl Bench {
    /// `None`: this `ashlar` was built without TLS, so the story is skipped by name.
    fn new(story: &str) -> Option<Bench> {
        let dir = tempfile::tempdir().expect("a folder");
        let ports = Ports::free();
        let (plain, secure) = (ports.nvme, ports.iscsi);
        for (name, kind, hash) in [
            ("256", "tls", "sha256"),
            ("384", "tls", "sha384"),
            ("other", "tls", "sha256"),
            ("chap", "dhchap", "sha256"),
        ] {
            let file = dir.path().join(name);
            Tool::new(&binary().display().to_string())
                .args(["target", "key", kind, "--hash", hash])
                .arg(&file)
                .ok();
        }
        image::sparse(&dir.path().join("first.img"), 64 * image::MIB);
        let yaml = format!(
            "state: {state}\ndisks:\n  - {{name: first, file: first.img}}\n  - {{name: ram, memory: 8MiB}}\n\
             targets:\n  nvme:\n    listeners: [127.0.0.1:{plain}]\n    keys:\n      - {{name: \"256\", file: \"256\"}}\n      \
             - {{name: \"384\", file: \"384\"}}\n      - {{name: other, file: other}}\n      - {{name: chap, file: chap}}\n    subsystems:\n      - nqn: {NQN}\n        \
             hosts: [{{nqn: {HOST}, psk: \"256\"}}]\n        namespaces: [{{nsid: 1, volume: first}}]\n        \
             listeners: [{{address: 127.0.0.1:{secure}, secure: true}}]\n      - nqn: nqn.2026-11.io.ashlar:plain\n        \
             namespaces: [{{nsid: 1, volume: ram}}]\n",
            state = dir.path().display()
        );
        let bench = Bench {
            dir,
            yaml,
            plain,
            secure,
        };
        let empty = format!("state: {}\n", bench.dir.path().display());
        let server = Server::start(bench.dir.path(), &empty);
        let call = |method: &str, params| rpc::call(&bench.socket(), method, params);
        call("nvmf_create_transport", serde_json::json!({"trtype": "TCP"})).expect("a transport");
        call("nvmf_create_subsystem", serde_json::json!({"nqn": NQN})).expect("a subsystem");
        let address = serde_json::json!({"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": secure.to_string()});
        let params = serde_json::json!({"nqn": NQN, "listen_address": address, "secure_channel": true});
        let built = call("nvmf_subsystem_add_listener", params);
        server.stop();
        match built {
            Err(error) if error.to_string().contains("built without TLS") => {
                skip(
                    story,
                    "this ashlar was built without TLS (cargo build --release -p ashlar --features tls)",
                );
                None
            }
            other => {
                other.expect("a secure listener");
                Some(bench)
            }
        }
    }

    fn start(&self) -> Server {
        Server::start(self.dir.path(), &self.yaml)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("rpc.sock")
    }

    fn key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir.path().join(name)).expect("a key file");
        text.trim_end().to_owned()
    }

    fn assert_no_key_in(&self, log: &str) {
        for name in ["256", "384", "other", "chap"] {
            assert!(!log.contains(&self.key(name)), "the key {name} is in the log");
        }
    }
}

/// `METHOD JSON` as a guest asks for it.
fn call(socket: &Path, request: &str) -> Result<String> {
    let (method, params) = request.split_once(' ').unwrap_or((request, "null"));
    Ok(rpc::call(socket, method, serde_json::from_str(params)?)?.to_string())
}

#[test]
fn guest_nvme_host_comes_by_tls() {
    let story = "an NVMe host by TLS";
    if !Guest::possible(story) {
        return;
    }
    if !Guest::has("tls") {
        skip(story, "the guest has no ktls-utils (tests/guest/make says why)");
        return;
    }
    let Some(bench) = Bench::new(story) else { return };
    let server = Arc::new(Mutex::new(Some(bench.start())));
    let (held, socket, yaml, dir) = (
        server.clone(),
        bench.socket(),
        bench.yaml.clone(),
        bench.dir.path().to_owned(),
    );
    let helper = Helper::new(move |line| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "rpc" => call(&socket, rest),
            "restart" => {
                let mut server = held.lock().expect("the server");
                if let Some(running) = server.take() {
                    running.stop();
                }
                *server = Some(Server::start(&dir, &yaml));
                Ok("ok".into())
            }
            _ => Err(format!("nobody knows how to '{word}'").into()),
        }
    });
    let variables = [
        ("TLS_PORT", bench.secure.to_string()),
        ("PLAIN_PORT", bench.plain.to_string()),
        ("KEY_256", bench.key("256")),
        ("KEY_OTHER", bench.key("other")),
        ("KEY_CHAP", bench.key("chap")),
        helper.variable(),
    ];
    let said = Guest::boot("nvme_tls.sh", Duration::from_secs(500), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    let server = server.lock().expect("the server").take().expect("it runs");
    let log = server.log();
    for text in [
        "its key is not the one that is configured",
        "refused a host without TLS",
        "the port is without TLS",
    ] {
        assert!(log.contains(text), "nobody said {text:?}:\n{log}");
    }
    bench.assert_no_key_in(&log);
    server.assert_no_panic();
    server.stop();
}

/// OpenSSL's command line as a host: keys derived by its own HKDF, ICReq and ICResp inside, a key update in between.
#[test]
fn openssl_client_is_let_in_by_its_key() {
    let story = "openssl s_client by TLS";
    if !needs(story, &["openssl"]) {
        return;
    }
    let Some(bench) = Bench::new(story) else { return };
    let server = bench.start();
    let dir = bench.dir.path();
    let configured = {
        let text = bench.key("256");
        let encoded = text.split(':').nth(2).expect("a key").to_owned() + "\n";
        std::fs::write(dir.join("encoded"), encoded).expect("write");
        let decoded = Tool::new("openssl")
            .args(["base64", "-d", "-in"])
            .arg(dir.join("encoded"));
        let bytes = decoded.output().stdout;
        hex(&bytes[..32])
    };
    let retained = expand(&configured, b"tls13 HostNQN", HOST.as_bytes());
    let identity = format!("NVMe0R01 {HOST} {NQN}");
    let psk = expand(&retained, b"tls13 nvme-tls-psk", identity.as_bytes());
    let mut icreq = vec![0, 0, 128, 0, 128, 0, 0, 0];
    icreq.resize(128, 0);
    // A PDU of no known type: what comes back was encrypted after the update that the K asked for.
    let said = talk(&bench, &psk, &identity, &[&icreq, b"K\n", &[0x55, 0, 8, 0, 8, 0, 0, 0]]);
    assert!(
        said.windows(8).any(|w| w == [1, 0, 128, 0, 128, 0, 0, 0]),
        "no ICResp in {said:?}"
    );
    assert!(said.windows(3).any(|w| w == [3, 0, 24]), "no C2HTermReq in {said:?}");

    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let wrong = text(&talk(&bench, &"00".repeat(32), &identity, &[]));
    assert!(wrong.contains("alert decrypt error"), "{wrong}");
    let unknown = text(&talk(&bench, &psk, &identity.replace(":tls", ":plain"), &[]));
    assert!(unknown.contains("unknown psk identity"), "{unknown}");
    let nobody = text(&talk(&bench, &psk, "Client_identity", &[]));
    assert!(nobody.contains("unknown psk identity"), "{nobody}");
    // A new key in the file counts for the next connection.
    std::fs::copy(dir.join("other"), dir.join("256")).expect("replace the key");
    let old = text(&talk(&bench, &psk, &identity, &[]));
    assert!(old.contains("alert decrypt error"), "{old}");
    bench.assert_no_key_in(&server.log());
    server.assert_no_panic();
    server.stop();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// HKDF-Expand-Label of HKDF-Extract without salt, 32 bytes of SHA-256, by `openssl kdf`.
fn expand(key: &str, label: &[u8], context: &[u8]) -> String {
    let info = [&[0, 32, label.len() as u8][..], label, &[context.len() as u8], context].concat();
    let made = Tool::new("openssl")
        .args(["kdf", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt"])
        .arg(format!("hexkey:{key}"))
        .arg("-kdfopt")
        .arg(format!("hexinfo:{}", hex(&info)))
        .arg("HKDF")
        .ok();
    made.chars()
        .filter(char::is_ascii_hexdigit)
        .collect::<String>()
        .to_lowercase()
}

/// Connects, says each of `words` in turn, and returns all that was printed, errors included.
fn talk(bench: &Bench, psk: &str, identity: &str, words: &[&[u8]]) -> Vec<u8> {
    let address = format!("127.0.0.1:{}", bench.secure);
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &address,
            "-tls1_3",
            "-psk",
            psk,
            "-psk_identity",
            identity,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    let mut stdin = client.stdin.take().expect("its input");
    for word in words {
        std::thread::sleep(Duration::from_millis(500));
        // One that was refused listens no more.
        let _ = stdin.write_all(word);
    }
    std::thread::sleep(Duration::from_millis(500));
    drop(stdin);
    let output = client.wait_with_output().expect("its output");
    [output.stdout, output.stderr].concat()
}
