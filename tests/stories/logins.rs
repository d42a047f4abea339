//! Ten thousand logins and logouts while a session works: memory stays flat, and nothing that was lent stays away.
use blackbox::config::Config;
use blackbox::iscsi::Iscsi;
use blackbox::pattern;
use blackbox::soak::{VISITS, soak};
use blackbox::visit::Visit;
use blackbox::{Ports, Server, rpc};
use serde_json::json;
use std::time::{Duration, Instant};

/// Sessions at once, of the 128 there may be.
const AT_ONCE: usize = 120;

#[test]
fn ten_thousand_logins_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let config = Config::new(dir.path(), ports).memory("disk", 16).volumes(&["disk"]);
    let server = Server::start(dir.path(), &config.yaml());
    let socket = dir.path().join("rpc.sock");
    let (iqn, lun) = {
        let volume = rpc::volume(&socket, "disk");
        (volume.iqn().0.to_string(), volume.iqn().1)
    };
    let ask = |method| rpc::call(&socket, method, json!({})).unwrap_or_else(|e| panic!("{e}"));
    // The whole disk is touched first: its memory is not growth.
    let mut host = Iscsi::login(ports.iscsi, &iqn, lun).expect("log in");
    (0..16).for_each(|n| host.write(n * 2048, &vec![0x5a; 1 << 20]).expect("fill"));
    drop(host);
    let first = Visit::begin(ports.iscsi, &iqn).expect("log in");
    let window = first.window;
    first.end().expect("log out");
    assert!(window > 0, "no window");

    let mut worker = Iscsi::login(ports.iscsi, &iqn, lun).expect("log in");
    soak(
        &server,
        |round| {
            let (lba, data) = (round % 1024 * 16, pattern::block(round, round, 8192));
            worker.write(lba, &data).expect("write meanwhile");
            assert!(
                worker.read(lba, 16).expect("read meanwhile") == data,
                "block {lba} came back different"
            );
        },
        |_| Visit::begin(ports.iscsi, &iqn)?.end(),
    );
    drop(worker);

    // Nobody is left, and as many as may come at once get what the very first one got.
    let until = Instant::now() + Duration::from_secs(10);
    while ask("iscsi_get_connections") != json!([]) {
        assert!(Instant::now() < until, "left over: {}", ask("iscsi_get_connections"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let stats = ask("iscsi_get_stats");
    assert_eq!(
        (&stats["running"], &stats["invalid"], &stats["exiting"]),
        (&json!(0), &json!(0), &json!(0))
    );
    assert!(stats["exited"].as_u64() >= Some(VISITS), "{stats}");
    let all: Vec<_> = (0..AT_ONCE)
        .map(|n| Visit::begin(ports.iscsi, &iqn).unwrap_or_else(|e| panic!("session {n} at once: {e}")))
        .collect();
    for (n, visit) in all.iter().enumerate() {
        assert_eq!(
            visit.window, window,
            "session {n} of {AT_ONCE} has another window than the first had"
        );
    }
    all.into_iter().for_each(|visit| visit.end().expect("log out"));
    server.assert_no_panic();
    server.stop();
}
