//! How hosts come and go: discovery, connect, reset, shutdown, silence.
use super::bench::*;
use load::nvme::{Client, Options};
use spec::nvme::{
    DISCOVERY_NQN, Sgl, Sqe, Status,
    command::{admin, io},
    discovery::{Entry, SUBTYPE_CURRENT, SUBTYPE_NVM},
    feature::{self, fid},
    identify::{IdentifyController, cns},
    log::page,
    property::{self, Cc},
};
use std::{os::unix::fs::PermissionsExt, time::Duration};
use target::nvmf::{AnaState, DupHostPolicy, HostKeys, ListenAddress, TargetConfig, TransportOptions};
use zerocopy::FromBytes;

#[test]
fn discovery_names_what_a_host_may_use() {
    let bench = Bench::new(1);
    let mut discovery = Client::admin(bench.address, DISCOVERY_NQN, &Options::default()).unwrap();
    let id = discovery.identify(cns::CONTROLLER, 0).unwrap();
    assert_eq!(IdentifyController::ref_from_bytes(&id).unwrap().cntrltype, 2);
    let log = discovery.log_page(page::DISCOVERY, 0, 3072, false).unwrap().data;
    assert_eq!(log[8..16], 2u64.to_le_bytes());
    let entries: Vec<&Entry> = log[1024..]
        .chunks(1024)
        .map(|e| Entry::ref_from_bytes(e).unwrap())
        .collect();
    let port = bench.address.port().to_string();
    assert_eq!(
        (entries[0].subtype, entries[0].subnqn(), entries[0].address()),
        (SUBTYPE_CURRENT, Some(DISCOVERY_NQN), ("127.0.0.1", &port[..]))
    );
    assert_eq!(
        (entries[1].subtype, entries[1].subnqn(), entries[1].address()),
        (SUBTYPE_NVM, Some(NQN), ("127.0.0.1", &port[..]))
    );
    // A change is told to those who asked.
    discovery
        .set_feature(fid::ASYNC_EVENT_CONFIG, feature::AEN_DISCOVERY_LOG)
        .unwrap();
    discovery
        .submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[])
        .unwrap();
    discovery.flush().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    bench.nvmf.allow_any_host(NQN, false).unwrap();
    assert_eq!(
        discovery.completion().unwrap().cqe.result.get() as u32,
        feature::EVENT_DISCOVERY_CHANGED
    );
    let log = discovery.log_page(page::DISCOVERY, 0, 1024, false).unwrap().data;
    assert_eq!(
        log[8..16],
        1u64.to_le_bytes(),
        "a host that is not allowed does not see it"
    );
}

#[test]
fn connect_is_refused_with_the_parameter_that_is_wrong() {
    let bench = Bench::new(1);
    let options = Options::default();
    let refused = |nqn: &str, qid: u16, cntlid: u16, options: &Options| {
        let mut client = Client::open(bench.address, options).unwrap();
        let cqe = client.connect(nqn, qid, cntlid, options).unwrap();
        (plain(cqe.status()), cqe.result.get())
    };
    let invalid = Status::CONNECT_INVALID_PARAMETERS;
    assert_eq!(
        refused("nqn.2026-11.io.ashlar:other", 0, 0xffff, &options),
        (invalid, 1 << 16 | 256)
    );
    assert_eq!(refused(NQN, 0, 7, &options), (invalid, 1 << 16 | 16));
    assert_eq!(
        refused(
            NQN,
            0,
            0xffff,
            &Options {
                entries: 1,
                ..options.clone()
            }
        ),
        (invalid, 44)
    );
    assert_eq!(
        refused(
            NQN,
            0,
            0xffff,
            &Options {
                hostnqn: "me".into(),
                ..options.clone()
            }
        ),
        (invalid, 1 << 16 | 512)
    );
    assert_eq!(refused(NQN, 1, 77, &options), (invalid, 1 << 16 | 16));
    let mut admin = bench.admin();
    let cntlid = admin.cntlid;
    admin.request_queues(2).unwrap();
    assert_eq!(refused(NQN, 3, cntlid, &options), (invalid, 42));
    assert_eq!(
        refused(
            NQN,
            1,
            cntlid,
            &Options {
                entries: 200,
                ..options.clone()
            }
        ),
        (invalid, 44)
    );
    assert_eq!(
        refused(
            NQN,
            1,
            cntlid,
            &Options {
                host_id: [9; 16],
                ..options.clone()
            }
        ),
        (invalid, 1 << 16)
    );
    let _io = admin.io_queue(bench.address, NQN, 1, &options).unwrap();
    assert_eq!(refused(NQN, 1, cntlid, &options), (invalid, 42), "that queue exists");
    bench.nvmf.allow_any_host(NQN, false).unwrap();
    assert_eq!(refused(NQN, 0, 0xffff, &options).0, Status::CONNECT_INVALID_HOST);
    bench.nvmf.add_host(NQN, &options.hostnqn, Default::default()).unwrap();
    assert_eq!(refused(NQN, 0, 0xffff, &options).0, Status::SUCCESS);
    // Nothing but Connect comes first.
    let mut bare = Client::open(bench.address, &options).unwrap();
    assert_eq!(
        bare.call(Sqe::new(io::FLUSH, 0, 1), &[]).unwrap().cqe.status(),
        Status::COMMAND_SEQUENCE_ERROR
    );
}

#[test]
fn a_host_that_connects_twice_is_let_in_once_a_listener_if_that_is_the_policy() {
    let bench = Bench::new(2);
    let any = ListenAddress::parse("127.0.0.1", "0").unwrap();
    let other = wait(bench.nvmf.add_listener(NQN, any, AnaState::Optimized)).unwrap();
    bench.nvmf.set_config(TargetConfig {
        dup_host_policy: DupHostPolicy::RestrictPerListener,
        ..TargetConfig::default()
    });
    let options = Options::default();
    let first = bench.admin();
    let mut second = Client::open(bench.address, &options).unwrap();
    let refused = second.connect(NQN, 0, 0xffff, &options).unwrap().status();
    assert_eq!(plain(refused), Status::CONNECT_CONTROLLER_BUSY);
    let _other_way = Client::admin(other, NQN, &options).unwrap();
    let another = Options {
        host_id: [7; 16],
        ..options.clone()
    };
    let _another_host = Client::admin(bench.address, NQN, &another).unwrap();
    drop(first);
    let again = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        Client::admin(bench.address, NQN, &options).ok()
    });
    assert!(again.is_some(), "not let in after it had gone");
}

#[test]
fn a_reset_ends_the_io_queues_and_a_shutdown_completes() {
    let bench = Bench::new(2);
    let (mut admin, mut io) = bench.queues(&Options::default());
    assert_eq!(write(&mut io, 0, &pattern(BLOCK, 3)), Status::SUCCESS);
    let cc = |admin: &mut Client, value: u32| {
        admin
            .call(spec::nvme::fabrics::Property::set(0, property::CC, value), &[])
            .unwrap();
    };
    cc(&mut admin, Cc::start().0 | 1 << 14);
    assert_eq!(admin.property(property::CSTS, false).unwrap(), 1 | 2 << 2);
    cc(&mut admin, Cc::start().0 & !1);
    assert_eq!(admin.property(property::CSTS, false).unwrap(), 0);
    assert!(
        io.call(Sqe::new(io::FLUSH, 0, 1), &[]).is_err(),
        "the I/O queue went with the reset"
    );
    cc(&mut admin, Cc::start().0);
    assert_eq!(admin.property(property::CSTS, false).unwrap(), 1);
    let mut io = admin.io_queue(bench.address, NQN, 1, &Options::default()).unwrap();
    assert_eq!(read(&mut io, 0, 1).unwrap(), pattern(BLOCK, 3));
    assert_eq!(bench.nvmf.controllers(NQN).unwrap()[0].num_io_qpairs, 1);
    // With the admin queue goes the controller and all that hangs on it.
    drop(admin);
    assert!(io.completion().is_err());
    for _ in 0..200 {
        if bench.nvmf.controllers(NQN).unwrap().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the controller is still there");
}

#[test]
fn a_silent_host_is_shut_out_when_its_timer_runs_out() {
    let bench = Bench::with(
        1,
        TransportOptions {
            min_kato: 500,
            kas: 1,
            ..TransportOptions::default()
        },
    );
    let options = Options {
        keep_alive_ms: 500,
        patience: Duration::from_secs(10),
        ..Options::default()
    };
    let (mut admin, mut io) = bench.queues(&options);
    // Traffic on any queue is a sign of life.
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(200));
        read(&mut io, 0, 1).unwrap();
    }
    assert!(admin.call(Sqe::new(admin::KEEP_ALIVE, 0, 0), &[]).is_ok());
    assert!(admin.completion().is_err(), "ends when nothing comes");
    assert!(io.completion().is_err(), "and so do the others");
}

#[test]
fn a_host_that_could_not_prove_who_it_is_may_take_its_leave() {
    let bench = Bench::new(1);
    let options = Options::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "DHHC-1:00:Fx4lLDM6QUhPVl1ka3J5gIeOlZyjqrG4v8bN1Nvi6fA6mMhL:").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    bench.nvmf.keyring().add("key", &file).unwrap();
    let keys = HostKeys {
        psk: None,
        dhchap_key: Some("key".into()),
        dhchap_ctrlr_key: None,
    };
    bench.nvmf.add_host(NQN, &options.hostnqn, keys).unwrap();
    let mut host = Client::open(bench.address, &options).unwrap();
    let granted = host.connect(NQN, 0, 0xffff, &options).unwrap();
    assert_ne!(granted.result.get() & 1 << 17, 0, "must authenticate");
    let auth = |fctype: u32, len: u32| Sqe::new(0x7f, 0, fctype).with_cdw1(0, 0xe901_0100).with_cdw1(1, len);
    // A reply to nothing; the controller's last message says so.
    let reply = [1, 2, 0, 0, 5, 0, 32, 0];
    host.call(auth(5, 8), &reply).unwrap();
    let failure = host.call(auth(6, 64).with_sgl(Sgl::transport(64)), &[]).unwrap();
    assert_eq!(failure.data[..2], [0, 0xf1]);
    // A slow host's own last message is answered, too; the queue is of no use all the while.
    std::thread::sleep(Duration::from_millis(900));
    let farewell = host.call(auth(5, 8), &[0, 0xf0, 0, 0, 5, 0, 1, 1]).unwrap();
    assert!(farewell.cqe.status().is_success(), "{:?}", farewell.cqe.status());
    let refused = host.call(Sqe::new(0x18, 0, 0), &[]).unwrap().cqe.status();
    assert_eq!(plain(refused), Status::AUTHENTICATION_REQUIRED);
}
