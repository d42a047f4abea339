//! Ten thousand NVMe/TCP hosts come and go while one works: memory stays flat, and nothing that was lent stays away.
use blackbox::config::Config;
use blackbox::nvme::Nvme;
use blackbox::soak::soak;
use blackbox::{Ports, Server, pattern, rpc};
use serde_json::json;
use std::time::{Duration, Instant};

/// Controllers at once, each with an admin and an I/O queue.
const AT_ONCE: usize = 200;

#[test]
fn ten_thousand_connects_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let config = Config::new(dir.path(), ports).memory("disk", 16).volumes(&["disk"]);
    // Little memory for data: a page that each visit lost would be missed long before the last one.
    let server = Server::start(dir.path(), &format!("reactors: {{memory: 64MiB}}\n{}", config.yaml()));
    let socket = dir.path().join("rpc.sock");
    let (nqn, nsid) = {
        let volume = rpc::volume(&socket, "disk");
        (volume.nqn().0.to_string(), volume.nqn().1)
    };
    let ask = |method, params| rpc::call(&socket, method, params).unwrap_or_else(|e| panic!("{e}"));
    let connect = || Nvme::connect(ports.nvme, &nqn, nsid);
    // The whole disk is touched first: its memory is not growth.
    let mut worker = connect().expect("connect");
    (0..128).for_each(|n| worker.write(n * 256, &vec![0x5a; 128 << 10]).expect("fill"));
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
        |n| {
            let mut host = connect()?;
            assert_eq!(host.read(n % 1000, 8)?.len(), 4096);
            match n % 3 {
                0 => host.shutdown(),
                1 => host.abandon(),
                _ => Ok(()),
            }
        },
    );
    drop(worker);

    // Nobody is left, and as many as may come at once are served as the first one was.
    let connected = || ask("nvmf_subsystem_get_controllers", json!({"nqn": nqn}));
    let until = Instant::now() + Duration::from_secs(10);
    while connected() != json!([]) {
        assert!(Instant::now() < until, "left over: {}", connected());
        std::thread::sleep(Duration::from_millis(20));
    }
    let stats = ask("nvmf_get_stats", json!({}));
    for group in stats["poll_groups"].as_array().expect("poll groups") {
        for what in [
            "current_admin_qpairs",
            "current_io_qpairs",
            "current_unassociated_qpairs",
            "pending_bdev_io",
        ] {
            assert_eq!(group[what], json!(0), "{what}: {stats}");
        }
    }
    let mut all: Vec<_> = (0..AT_ONCE)
        .map(|n| connect().unwrap_or_else(|e| panic!("controller {n} at once: {e}")))
        .collect();
    assert_eq!(connected().as_array().map(Vec::len), Some(AT_ONCE));
    for (n, host) in all.iter_mut().enumerate() {
        let data = pattern::block(n as u64, 1, 128 << 10);
        host.write(n as u64 % 128 * 256, &data)
            .unwrap_or_else(|e| panic!("host {n}: {e}"));
        assert!(host.read(n as u64 % 128 * 256, 256).expect("read") == data, "host {n}");
    }
    all.into_iter().for_each(|host| host.shutdown().expect("shut down"));
    server.assert_no_panic();
    server.stop();
}
