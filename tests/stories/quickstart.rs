//! What README promises: the example serves at once, the lines it prints work, without root and without io_uring too.
use blackbox::iscsi::Iscsi;
use blackbox::pattern;
use blackbox::serve::Start;
use blackbox::tool::tree;
use blackbox::{Guest, Ports, Server, Tool, needs, rpc, skip};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The example with ports that are free here; everything else is as shipped.
fn example(dir: &Path, ports: Ports) -> PathBuf {
    let shipped = std::fs::read_to_string(tree().join("config/examples/quickstart.yaml")).expect("the example");
    assert!(
        shipped.contains("3260") && shipped.contains("4420"),
        "the example names both ports"
    );
    let file = dir.join("quickstart.yaml");
    let text = shipped
        .replace("3260", &ports.iscsi.to_string())
        .replace("4420", &ports.nvme.to_string());
    std::fs::write(&file, text).expect("write the example");
    file
}

fn start(dir: &Path, ports: Ports, launcher: &[&str]) -> Start {
    let state = dir.join("state").to_string_lossy().into_owned();
    let start = Start::through(dir, launcher, &example(dir, ports)).env("XDG_STATE_HOME", &state);
    start.serving()
}

/// The commands among what it printed, by their first word.
fn commands(log: &str, program: &str) -> Vec<String> {
    let lines = log
        .lines()
        .map(|line| line.trim().trim_start_matches("$ ").trim_start_matches("# "));
    lines
        .filter(|l| l.starts_with(program) || l.starts_with(&format!("sudo {program}")))
        .map(|l| l.trim_start_matches("sudo ").to_string())
        .collect()
}

/// Two volumes of files, one of memory, each with a line for every way to reach it.
fn check_lines(server: &Server, dir: &Path) -> (Vec<String>, Vec<String>, Vec<String>) {
    server.wait_for_log("qemu-img info");
    let log = server.log();
    let found = (
        commands(&log, "qemu-img info"),
        commands(&log, "nvme connect"),
        commands(&log, "iscsiadm"),
    );
    let served = rpc::volumes(&dir.join("rpc.sock"));
    assert_eq!(served.len(), 3, "{served:?}");
    for volume in &served {
        assert!(
            log.contains(volume.iqn().0) && log.contains(volume.nqn().0),
            "{volume:?} is not in\n{log}"
        );
    }
    assert_eq!(found.0.len(), 3, "a qemu-img line for each volume:\n{log}");
    assert!(
        !found.1.is_empty() && !found.2.is_empty(),
        "nvme connect and iscsiadm lines:\n{log}"
    );
    found
}

fn qemu_img(lines: &[String]) {
    if !needs("the printed qemu-img lines", &["qemu-img"]) {
        return;
    }
    if !Tool::new("qemu-img").arg("--help").ok().contains(" iscsi ") {
        return skip(
            "the printed qemu-img lines",
            "QEMU has no iscsi driver (qemu-block-extra)",
        );
    }
    for line in lines {
        let said = Tool::new("sh").args(["-c", line]).ok();
        assert!(said.contains("virtual size"), "{line}: {said}");
    }
}

#[test]
fn printed_lines_work() {
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let server = start(dir.path(), ports, &[]).spawn();
    let (qemu, ..) = check_lines(&server, dir.path());
    qemu_img(&qemu);
    server.stop();
    // A second start finds what the first made.
    let server = start(dir.path(), ports, &[]).spawn();
    qemu_img(&qemu);
    server.stop();
}

#[test]
fn guest_executes_the_printed_lines() {
    if !Guest::possible("a Linux host executes the printed lines") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let server = start(dir.path(), ports, &[]).spawn();
    let (_, nvme, iscsi) = check_lines(&server, dir.path());
    let lines = dir.path().join("lines");
    std::fs::write(&lines, [nvme, iscsi].concat().join("\n") + "\n").expect("write the lines");
    // Three volumes, each over both protocols.
    let variables = [("DISKS", "6".to_string())];
    let said = Guest::boot("lines.sh", Duration::from_secs(400), &variables, &[&lines]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.stop();
}

/// Root becomes nobody; anybody else is nobody already.
fn as_nobody(dir: &Path) -> Option<Vec<String>> {
    if Tool::new("id").arg("-u").ok().trim() != "0" {
        return Some(Vec::new());
    }
    if !needs("the example as nobody", &["setpriv"]) {
        return None;
    }
    Tool::new("chown").arg("65534:65534").arg(dir).ok();
    let words = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs";
    Some(words.split(' ').map(str::to_string).collect())
}

/// The example started through `launcher` serves, is used by a host, and stops.
fn serves(dir: &Path, launcher: &[&str], io: &str) {
    let ports = Ports::free();
    let server = start(dir, ports, launcher)
        .env("ASHLAR_IO", io)
        .env("HOME", "/nonexistent")
        .spawn();
    let (qemu, ..) = check_lines(&server, dir);
    qemu_img(&qemu);
    for volume in rpc::volumes(&dir.join("rpc.sock")) {
        let mut host = Iscsi::login(ports.iscsi, volume.iqn().0, volume.iqn().1).expect("log in");
        let data = pattern::block(5, 6, 65536);
        host.write(64, &data).expect("write");
        host.flush().expect("flush");
        assert!(host.read(64, 65536 / host.block).expect("read") == data);
    }
    server.assert_no_panic();
    server.stop();
}

#[test]
fn nobody_can_serve() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(launcher) = as_nobody(dir.path()) else { return };
    let launcher: Vec<_> = launcher.iter().map(String::as_str).collect();
    for io in ["auto", "epoll"] {
        serves(dir.path(), &launcher, io);
    }
}

#[test]
fn a_container_that_forbids_io_uring_is_no_hindrance() {
    if !needs("io_uring forbidden", &["python3"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let launcher = tree().join("tests/launch/without-io-uring");
    serves(dir.path(), &[&launcher.to_string_lossy()], "auto");
    let log = std::fs::read_to_string(dir.path().join("log")).expect("the log");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(lines.len(), 1, "one clear line about io_uring, not {lines:?}");
}
