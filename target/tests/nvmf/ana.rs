//! Asymmetric access: what hosts are told of two ways to one namespace, and what happens on the one that is shut.
use super::bench::*;
use load::nvme::{Client, Options};
use spec::nvme::{
    Sqe, Status,
    ana::{AnaState, Group, parse},
    command::admin,
    feature::{self, fid},
    identify::{IdentifyController, IdentifyNamespace, cns},
    log::page,
};
use std::net::SocketAddr;
use target::nvmf::{ListenAddress, NamespaceConfig, SubsystemConfig};
use zerocopy::FromBytes;

const TWO_WAYS: &str = "nqn.2026-11.io.ashlar:two-ways";

/// A subsystem that reports asymmetric access, with the disk as namespace 3 and two listeners.
fn two_ways(bench: &Bench) -> [SocketAddr; 2] {
    let nvmf = &bench.nvmf;
    let config = SubsystemConfig {
        allow_any_host: true,
        ana_reporting: true,
        ..SubsystemConfig::new(TWO_WAYS)
    };
    nvmf.create_subsystem(config).unwrap();
    wait(async {
        let volume = NamespaceConfig {
            volume: "disk".into(),
            nsid: Some(3),
            anagrpid: Some(7),
            ..Default::default()
        };
        nvmf.add_namespace(TWO_WAYS, volume).await.unwrap();
        let any = || ListenAddress::parse("127.0.0.1", "0").unwrap();
        [
            nvmf.add_listener(TWO_WAYS, any(), AnaState::Optimized).await.unwrap(),
            nvmf.add_listener(TWO_WAYS, any(), AnaState::NonOptimized)
                .await
                .unwrap(),
        ]
    })
}

fn queues(address: SocketAddr) -> (Client, Client) {
    let options = Options::default();
    let mut admin = Client::admin(address, TWO_WAYS, &options).unwrap();
    admin.request_queues(1).unwrap();
    let io = admin.io_queue(address, TWO_WAYS, 1, &options).unwrap();
    (admin, io)
}

fn groups(admin: &mut Client) -> Vec<Group> {
    let log = admin.log_page(page::ANA, 0, 1024, false).unwrap().data;
    parse(&log).unwrap().1
}

fn flush(io: &mut Client, nsid: u32) -> Status {
    let sqe = Sqe::new(spec::nvme::command::io::FLUSH, 0, nsid);
    plain(io.call(sqe, &[]).unwrap().cqe.status())
}

#[test]
fn each_listener_tells_its_own_state_and_a_shut_way_says_so() {
    let bench = Bench::new(2);
    let at = two_ways(&bench);
    let [(mut admin_a, mut a), (mut admin_b, mut b)] = at.map(queues);

    let id = admin_a.identify(cns::CONTROLLER, 0).unwrap();
    let id = IdentifyController::ref_from_bytes(&id).unwrap();
    assert_eq!((id.cmic & 8, id.anacap & 0x1f, id.anagrpmax.get()), (8, 0x1f, 32));
    assert!(id.anatt > 0 && id.oaes.get() & 1 << 11 != 0);
    let ns = admin_a.identify(cns::NAMESPACE, 3).unwrap();
    assert_eq!(IdentifyNamespace::ref_from_bytes(&ns).unwrap().anagrpid.get(), 7);

    let state = |admin: &mut Client| {
        let all = groups(admin);
        assert_eq!((all.len(), all[0].id, &all[0].namespaces[..]), (1, 7, &[3][..]));
        all[0].state
    };
    assert_eq!(
        (state(&mut admin_a), state(&mut admin_b)),
        (AnaState::Optimized, AnaState::NonOptimized)
    );
    assert_eq!((flush(&mut a, 3), flush(&mut b, 3)), (Status::SUCCESS, Status::SUCCESS));

    // Both hosts want to know; only the one that came through the changed listener is told.
    for admin in [&mut admin_a, &mut admin_b] {
        admin.set_feature(fid::ASYNC_EVENT_CONFIG, feature::AEN_ANA).unwrap();
        admin.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
        admin.flush().unwrap();
    }
    let first = ListenAddress { socket: at[0] };
    let set = |group, state| bench.nvmf.set_listener_ana_state(TWO_WAYS, &first, group, state);
    for (state_set, refusal) in [
        (AnaState::Inaccessible, Status::ANA_INACCESSIBLE),
        (AnaState::Change, Status::ANA_TRANSITION),
        (AnaState::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
    ] {
        set(Some(7), state_set).unwrap();
        let told = admin_a.completion().unwrap();
        assert_eq!(told.cqe.result.get() as u32, feature::EVENT_ANA_CHANGED);
        assert_eq!(state(&mut admin_a), state_set);
        assert_eq!(flush(&mut a, 3), refusal);
        assert_eq!(flush(&mut a, u32::MAX), refusal);
        assert_eq!(
            (flush(&mut b, 3), state(&mut admin_b)),
            (Status::SUCCESS, AnaState::NonOptimized)
        );
        admin_a.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
        admin_a.flush().unwrap();
    }
    set(None, AnaState::Optimized).unwrap();
    assert_eq!(
        admin_a.completion().unwrap().cqe.result.get() as u32,
        feature::EVENT_ANA_CHANGED
    );
    assert_eq!(flush(&mut a, 3), Status::SUCCESS);

    // Moved to a group that is shut on the first way.
    set(Some(2), AnaState::Inaccessible).unwrap();
    assert_eq!(flush(&mut a, 3), Status::SUCCESS);
    bench.nvmf.set_namespace_ana_group(TWO_WAYS, 3, 2).unwrap();
    assert_eq!(
        (flush(&mut a, 3), flush(&mut b, 3)),
        (Status::ANA_INACCESSIBLE, Status::SUCCESS)
    );
    assert_eq!(groups(&mut admin_b)[0].id, 2);
    let whole = admin_b.log_page(page::ANA, 0, 1024, false).unwrap().data;
    let (changes, all) = parse(&whole).unwrap();
    assert_eq!(changes, all[0].changes, "the group changed last");
}

#[test]
fn where_hosts_would_not_hear_of_it_no_way_is_shut() {
    let bench = Bench::new(1);
    let listener = ListenAddress { socket: bench.address };
    let refused = bench
        .nvmf
        .set_listener_ana_state(NQN, &listener, None, AnaState::Inaccessible)
        .unwrap_err();
    assert!(refused.to_string().contains("ana_reporting"), "{refused}");
    let mut admin = bench.admin();
    let refused = admin.log_page(page::ANA, 0, 64, false).unwrap();
    assert_eq!(plain(refused.cqe.status()), Status::INVALID_LOG_PAGE);
}
