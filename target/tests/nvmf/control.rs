//! The control plane: what it refuses, and whom it hides namespaces from.
use super::{bench::*, reservations::Host};
use bdev::{NodeSpec, Table};
use load::nvme::Options;
use spec::nvme::{
    DISCOVERY_NQN, Sgl, Sqe, Status,
    command::{admin, io},
    identify::cns,
};
use std::{
    net::TcpStream,
    time::{Duration, Instant},
};
use target::nvmf::{AnaState, ListenAddress, NamespaceConfig, Nvmf, NvmfError, SubsystemConfig, TransportOptions};

#[test]
fn nobody_connects_to_a_listener_that_was_removed_and_a_taken_address_is_refused_at_once() {
    let bench = Bench::new(2);
    for round in 0..20 {
        // Long enough for reactors to fall asleep now and then.
        std::thread::sleep(Duration::from_millis(round % 3 * 20));
        let any = ListenAddress::parse("127.0.0.1", "0").unwrap();
        let socket = wait(bench.nvmf.add_listener(NQN, any, AnaState::Optimized)).unwrap();
        assert!(TcpStream::connect(socket).is_ok());
        wait(bench.nvmf.remove_listener(NQN, &ListenAddress { socket })).unwrap();
        assert!(TcpStream::connect(socket).is_err(), "round {round}");
        // The address is free again.
        wait(
            bench
                .nvmf
                .add_listener(NQN, ListenAddress { socket }, AnaState::Optimized),
        )
        .unwrap();
        wait(bench.nvmf.remove_listener(NQN, &ListenAddress { socket })).unwrap();
    }
    // Only a young process waits for an address that its predecessor may still hold.
    std::thread::sleep(Duration::from_secs(3));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = taken.local_addr().unwrap();
    let began = Instant::now();
    let refused = wait(
        bench
            .nvmf
            .add_listener(NQN, ListenAddress { socket }, AnaState::Optimized),
    );
    assert!(matches!(refused, Err(NvmfError::Bind { .. })));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[test]
fn a_host_that_comes_in_the_moment_a_listener_is_added_is_let_in() {
    let bench = Bench::new(2);
    let socket = wait(bench.nvmf.add_listener(
        NQN,
        ListenAddress::parse("127.0.0.1", "0").unwrap(),
        AnaState::Optimized,
    ));
    let address = ListenAddress {
        socket: socket.unwrap(),
    };
    for round in 0..40 {
        wait(bench.nvmf.remove_listener(NQN, &address)).unwrap();
        let socket = address.socket;
        let host = std::thread::spawn(move || {
            loop {
                match load::nvme::Client::admin(socket, NQN, &Options::default()) {
                    // Nobody listens yet.
                    Err(load::nvme::ClientError::Io(_)) => std::thread::yield_now(),
                    other => return other.map(drop),
                }
            }
        });
        wait(bench.nvmf.add_listener(NQN, address.clone(), AnaState::Optimized)).unwrap();
        host.join()
            .unwrap()
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[test]
fn reports_tell_what_queues_do_and_who_has_reserved() {
    let bench = Bench::new(2);
    let slow = Table::Delay {
        on: "disk2".into(),
        avg_read_us: 500_000,
        p99_read_us: 500_000,
        avg_write_us: 0,
        p99_write_us: 0,
    };
    wait(bench.graph.build(NodeSpec::new("disk2", memory(64)))).unwrap();
    wait(bench.graph.build(NodeSpec::new("slow", slow))).unwrap();
    let volume = NamespaceConfig {
        volume: "slow".into(),
        ..Default::default()
    };
    let nsid = wait(bench.nvmf.add_namespace(NQN, volume)).unwrap();
    let mut host = Host::new(&bench, 3, nsid);
    host.admin
        .submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[])
        .unwrap();
    host.admin.flush().unwrap();
    let read = Sqe::new(io::READ, 0, nsid)
        .with_range(0, 1)
        .with_sgl(Sgl::transport(512));
    host.io.submit(read, &[]).unwrap();
    host.io.flush().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let queues = wait(bench.nvmf.queues(NQN)).unwrap();
    let told: Vec<_> = queues
        .iter()
        .map(|q| (q.pair.qid, q.depth, q.in_flight, q.data_digest))
        .collect();
    assert_eq!(
        told,
        [(0, 32, 0, false), (1, 32, 1, false)],
        "a request for events is no command in flight"
    );
    assert!(host.io.completion().unwrap().cqe.status().is_success());

    let controllers = bench.nvmf.controllers(NQN).unwrap();
    let told: Vec<_> = controllers
        .iter()
        .map(|c| (c.ready, c.keep_alive_ms, c.num_io_qpairs))
        .collect();
    assert_eq!(told, [(true, 60_000, 1)]);

    let keys = [0u64.to_le_bytes(), 0xabc_u64.to_le_bytes()].concat();
    let register = Sqe::new(io::RESERVATION_REGISTER, 0, nsid);
    assert!(host.io.call(register, &keys).unwrap().cqe.status().is_success());
    let reservations = bench.nvmf.reservations(NQN).unwrap();
    assert!(reservations[&1].registrants.is_empty());
    let one = &reservations[&nsid].registrants[0];
    assert_eq!(
        (one.key, one.holder, one.hostnqn.as_deref(), *one.hostid.as_bytes()),
        (0xabc, false, Some("nqn.2026-11.io.ashlar:host-3"), [3; 16])
    );
}

#[test]
fn the_control_plane_is_refused_in_words() {
    let bench = Bench::new(1);
    let n = &bench.nvmf;
    assert_eq!(
        n.create_transport("TCP", TransportOptions::default())
            .unwrap_err()
            .to_string(),
        "Transport type 'TCP' already exists"
    );
    assert!(matches!(
        n.create_subsystem(SubsystemConfig::new(NQN)),
        Err(NvmfError::SubsystemExists(_))
    ));
    assert!(matches!(
        n.listeners("nqn.2026-11.io.ashlar:none"),
        Err(NvmfError::NoSubsystem(_))
    ));
    let volume = |v: &str| NamespaceConfig {
        volume: v.into(),
        ..Default::default()
    };
    assert!(matches!(
        wait(n.add_namespace(NQN, volume("none"))),
        Err(NvmfError::NoVolume(_))
    ));
    assert!(
        wait(n.add_namespace(
            NQN,
            NamespaceConfig {
                nsid: Some(1),
                ..volume("disk")
            }
        ))
        .is_err()
    );
    let listener = ListenAddress { socket: bench.address };
    assert!(matches!(
        wait(n.add_listener(NQN, listener.clone(), AnaState::Optimized)),
        Err(NvmfError::ListenerExists { .. })
    ));
    wait(n.remove_listener(NQN, &listener)).unwrap();
    assert!(TcpStream::connect(bench.address).is_err(), "the socket is closed");
    assert!(matches!(
        wait(n.remove_listener(NQN, &listener)),
        Err(NvmfError::NoListener { .. })
    ));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ListenAddress {
        socket: taken.local_addr().unwrap(),
    };
    assert!(matches!(
        wait(n.add_listener(NQN, address, AnaState::Optimized)),
        Err(NvmfError::Bind { .. })
    ));
    let info = n.subsystems();
    assert_eq!(
        (
            info[0].nqn.as_str(),
            info[1].nqn.as_str(),
            info[1].namespaces[0].volume.as_str()
        ),
        (DISCOVERY_NQN, NQN, "disk")
    );
}

#[test]
fn a_hidden_namespace_is_seen_by_its_hosts_only() {
    let bench = Bench::new(2);
    wait(bench.graph.build(NodeSpec::new("secret", memory(64)))).unwrap();
    let volume = NamespaceConfig {
        volume: "secret".into(),
        no_auto_visible: true,
        ..Default::default()
    };
    assert_eq!(wait(bench.nvmf.add_namespace(NQN, volume)).unwrap(), 2);
    let (mut admin, mut io) = bench.queues(&Options::default());
    let read2 = Sqe::new(io::READ, 0, 2).with_range(0, 1).with_sgl(Sgl::transport(512));
    assert_eq!(admin.identify(cns::ACTIVE_NAMESPACES, 1).unwrap(), [0; 4096]);
    assert_eq!(
        plain(io.call(read2, &[]).unwrap().cqe.status()),
        Status::INVALID_NAMESPACE
    );
    wait(bench.nvmf.add_namespace_host(NQN, 2, &Options::default().hostnqn)).unwrap();
    assert_eq!(admin.identify(cns::ACTIVE_NAMESPACES, 1).unwrap()[..4], [2, 0, 0, 0]);
    assert_eq!(io.call(read2, &[]).unwrap().cqe.status(), Status::SUCCESS);
    wait(bench.nvmf.remove_namespace_host(NQN, 2, &Options::default().hostnqn)).unwrap();
    assert_eq!(
        plain(io.call(read2, &[]).unwrap().cqe.status()),
        Status::INVALID_NAMESPACE
    );
}

#[allow(dead_code)]
fn futures_can_be_sent(nvmf: &Nvmf, address: ListenAddress) {
    fn send<T: Send>(_: T) {}
    send(nvmf.add_namespace(NQN, NamespaceConfig::default()));
    send(nvmf.remove_namespace(NQN, 1));
    send(nvmf.delete_subsystem(NQN));
    send(nvmf.add_namespace_host(NQN, 1, NQN));
    send(nvmf.remove_namespace_host(NQN, 1, NQN));
    send(nvmf.remove_listener(NQN, &address));
    send(nvmf.add_listener(NQN, address.clone(), AnaState::Optimized));
    send(nvmf.remove_host(NQN, NQN));
    send(nvmf.stats());
    send(nvmf.namespace_changed("disk"));
    send(nvmf.volume_gone("disk"));
    send(nvmf.stop());
}
