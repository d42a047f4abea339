//! What Linux does with an NVMe/TCP target beyond reading and writing: several ways, reservations, authentication.
use blackbox::config::Config;
use blackbox::image::MIB;
use blackbox::tool::tree;
use blackbox::{Guest, Helper, Ports, Result, Server, image, rpc};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// A server with two disks and nothing exported, and whoever does what the guest asks for.
fn bench(dir: &Path) -> (Server, Helper, [(&'static str, String); 2]) {
    let (one, two) = (Ports::free(), Ports::free());
    let file = dir.join("first.img");
    image::sparse(&file, 64 * MIB);
    let config = Config::new(dir, one)
        .file("first", &file)
        .memory("ram", 8)
        .volumes(&["ram"]);
    let server = Server::start(dir, &config.yaml());
    let socket = dir.join("rpc.sock");
    let transports = rpc::call(&socket, "nvmf_get_transports", serde_json::Value::Null).expect("transports");
    if transports.as_array().is_none_or(Vec::is_empty) {
        rpc::call(&socket, "nvmf_create_transport", serde_json::json!({"trtype": "TCP"})).expect("a transport");
    }
    // A null disk that a call can resize.
    rpc::call(
        &socket,
        "bdev_null_create",
        serde_json::json!({"name": "second", "num_blocks": 65536, "block_size": 512}),
    )
    .expect("a null disk");
    let helper = Helper::new(move |line| {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "rpc" => call(&socket, rest),
            "key" => key(&socket, rest),
            _ => Err(format!("nobody knows how to '{word}'").into()),
        }
    });
    let ports = [
        ("FIRST_PORT", two.nvme.to_string()),
        ("SECOND_PORT", two.iscsi.to_string()),
    ];
    (server, helper, ports)
}

/// `METHOD JSON` as a guest asks for it.
fn call(socket: &Path, request: &str) -> Result<String> {
    let (method, params) = request.split_once(' ').unwrap_or((request, "null"));
    Ok(rpc::call(socket, method, serde_json::from_str(params)?)?.to_string())
}

/// `NAME KEY`: a key that the guest has made.
fn key(socket: &Path, request: &str) -> Result<String> {
    let (name, key) = request.split_once(' ').ok_or("a name and a key")?;
    let path = socket.with_file_name(format!("{name}.key"));
    std::fs::write(&path, key)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(rpc::call(
        socket,
        "keyring_file_add_key",
        serde_json::json!({"name": name, "path": path}),
    )?
    .to_string())
}

#[test]
fn guest_nvme_host_uses_two_ways_reservations_and_every_command() {
    if !Guest::possible("a Linux NVMe host") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (server, helper, [one, two]) = bench(dir.path());
    let variables = [one, two, helper.variable()];
    let said = Guest::boot("nvme.sh", Duration::from_secs(560), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.assert_no_panic();
    server.stop();
    // What nvme-cli made of us, field by field.
    let (_, rest) = said.split_once("@@ begin\n").expect("@@ begin");
    let (shown, _) = rest.split_once("@@ end\n").expect("@@ end");
    let file = tree().join("tests/expected/nvme-cli.txt");
    if std::env::var_os("ASHLAR_BLESS").is_some() {
        std::fs::write(&file, shown).expect("write what is expected");
    }
    let wanted = std::fs::read_to_string(&file).expect("tests/expected/nvme-cli.txt");
    let differs = wanted
        .lines()
        .zip(shown.lines())
        .enumerate()
        .find(|(_, (wanted, shown))| wanted != shown);
    assert!(
        wanted == shown,
        "nvme-cli says something else from line {:?} on. If it is right:\n\
         ASHLAR_BLESS=1 cargo nextest run -p blackbox guest_nvme_host_uses\n\n{shown}",
        differs.map(|(n, lines)| (n + 1, lines))
    );
}

#[test]
fn guest_nvme_host_authenticates() {
    if !Guest::possible("in-band authentication") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (server, helper, [one, _]) = bench(dir.path());
    // Keys of 32, 48 and 64 bytes; the second digit pair says how the key is transformed.
    const KEYS: [(&str, &str, &str); 4] = [
        (
            "one",
            "KEY_1",
            "DHHC-1:01:HyYtNDtCSVBXXmVsc3qBiI+WnaSrsrnAx87V3OPq8fiW2ACC:",
        ),
        (
            "two",
            "KEY_2",
            "DHHC-1:00:Fx4lLDM6QUhPVl1ka3J5gIeOlZyjqrG4v8bN1Nvi6fA6mMhL:",
        ),
        (
            "three",
            "KEY_3",
            "DHHC-1:03:XWRrcnmAh46VnKOqsbi/xs3U2+Lp8Pf+BQwTGiEoLzY9REtSWWBnbnV8g4qRmJ+mrbS7wsnQ197l7PP6AQgPFmz6l40=:",
        ),
        (
            "controller",
            "KEY_C",
            "DHHC-1:02:2eDn7vX8AwoRGB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5wMfO1dzj6vH4/wYNFBsiRYs1tQ==:",
        ),
    ];
    let mut variables = vec![one, helper.variable()];
    for (name, variable, key) in KEYS {
        let path = dir.path().join(format!("{name}.key"));
        std::fs::write(&path, key).expect("write a key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("keep it private");
        let params = serde_json::json!({"name": name, "path": path});
        rpc::call(&dir.path().join("rpc.sock"), "keyring_file_add_key", params).expect("name a key");
        variables.push((variable, key.to_string()));
    }
    let said = Guest::boot("nvme_auth.sh", Duration::from_secs(560), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    let log = server.log();
    assert!(!KEYS.iter().any(|(.., key)| log.contains(key)), "a key is in the log");
    server.assert_no_panic();
    server.stop();
}
