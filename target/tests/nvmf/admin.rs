//! Admin commands: identify, logs, features, events.
use super::bench::*;
use bdev::NodeSpec;
use load::nvme::{Client, ClientError, Options, client::succeeded};
use spec::nvme::{
    Sgl, Sqe, Status,
    command::{admin, io},
    feature::{self, fid},
    identify::{IdentifyController, IdentifyNamespace, NamespaceIds, cns},
    log::{ErrorEntry, page},
    property::{self, Cap, Cc},
};
use target::nvmf::NamespaceConfig;
use zerocopy::FromBytes;

#[test]
fn the_controller_tells_the_truth_about_itself() {
    let bench = Bench::new(1);
    let mut admin = bench.admin();
    let cap = Cap::from_value(admin.property(property::CAP, true).unwrap());
    assert_eq!((cap.max_queue_entries, cap.command_sets), (128, true));
    assert_eq!(admin.property(property::VS, false).unwrap(), 0x20000);
    assert_eq!(admin.property(property::CC, false).unwrap(), u64::from(Cc::start().0));

    let id = admin.identify(cns::CONTROLLER, 0).unwrap();
    let id = IdentifyController::ref_from_bytes(&id).unwrap();
    assert_eq!(id.cntlid.get(), admin.cntlid);
    assert_eq!(
        (id.mdts, id.cntrltype, id.nn.get(), id.sqes, id.cqes),
        (5, 1, 32, 0x66, 0x44)
    );
    assert_eq!(
        (id.ioccsz.get(), id.iorcsz.get(), id.kas.get()),
        ((64 + 4096) / 16, 1, 100)
    );
    assert_eq!(spec::nvme::nqn_of(&id.subnqn), Some(NQN));

    let ns = admin.identify(cns::NAMESPACE, 1).unwrap();
    let ns = IdentifyNamespace::ref_from_bytes(&ns).unwrap();
    assert_eq!(
        (ns.nsze.get(), ns.lbaf[0].block_shift, ns.nlbaf, ns.nmic),
        (BLOCKS, 9, 0, 1)
    );
    let list = admin.identify(cns::ACTIVE_NAMESPACES, 0).unwrap();
    assert_eq!(list[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    let ids = NamespaceIds::from_descriptors(&admin.identify(cns::NAMESPACE_DESCRIPTORS, 1).unwrap());
    let uuid = 0x6f2d1a34u128.to_be_bytes();
    assert_eq!((ids.uuid, ids.nguid), (uuid, uuid));
    assert_eq!(
        admin.identify(cns::NAMESPACE, 2).unwrap(),
        [0; 4096],
        "valid and not active"
    );
    assert_eq!(admin.identify(cns::COMMAND_SETS, 0).unwrap()[..8], 1u64.to_le_bytes());
    for (what, nsid) in [
        (cns::NAMESPACE, 33),
        (cns::NAMESPACE, 0),
        (cns::NAMESPACE_DESCRIPTORS, 2),
        (0x44, 0),
    ] {
        assert!(
            matches!(admin.identify(what, nsid), Err(ClientError::Failed { .. })),
            "{what:x} of {nsid}"
        );
    }

    let supported = admin.log_page(page::SUPPORTED, 0, 1024, false).unwrap().data;
    let pages: Vec<usize> = (0..256).filter(|p| supported[p * 4] & 1 == 1).collect();
    assert_eq!(pages, [0, 1, 2, 3, 4, 5, 0x12, 0x80]);
    let effects = admin.log_page(page::COMMAND_EFFECTS, 0, 4096, false).unwrap().data;
    assert_eq!(
        (
            effects[0x06 * 4],
            effects[1024 + 4],
            effects[1024 + 8],
            effects[1024 + 4 * 4]
        ),
        (1, 3, 1, 0)
    );
    assert_eq!(
        admin.log_page(0x70, 0, 1024, false).unwrap().cqe.status().sc(),
        0x09,
        "no discovery log here"
    );
    assert_eq!(
        plain(admin.log_page(page::HEALTH, 513 * 4, 512, false).unwrap().cqe.status()),
        Status::INVALID_FIELD
    );
    assert_eq!(admin.log_page(page::FIRMWARE, 8, 8, false).unwrap().data, *b"0.1.0   ");
}

#[test]
fn bad_commands_get_the_right_status_and_a_line_in_the_error_log() {
    let bench = Bench::new(1);
    let (mut admin, mut io) = bench.queues(&Options::default());
    assert_eq!(plain(read(&mut io, BLOCKS, 1).unwrap_err()), Status::LBA_OUT_OF_RANGE);
    assert_eq!(plain(read(&mut io, u64::MAX, 1).unwrap_err()), Status::LBA_OUT_OF_RANGE);
    assert_eq!(
        plain(read(&mut io, 0, 257).unwrap_err()),
        Status::INVALID_FIELD,
        "more than MDTS"
    );
    let sqe = Sqe::new(io::READ, 0, 7).with_range(0, 1).with_sgl(Sgl::transport(512));
    assert_eq!(
        plain(io.call(sqe, &[]).unwrap().cqe.status()),
        Status::INVALID_NAMESPACE
    );
    assert_eq!(
        plain(io.call(Sqe::new(0x44, 0, 1), &[]).unwrap().cqe.status()),
        Status::INVALID_OPCODE
    );
    let fused = Sqe {
        flags: 0x41,
        ..Sqe::new(io::FLUSH, 0, 1)
    };
    assert_eq!(plain(io.call(fused, &[]).unwrap().cqe.status()), Status::INVALID_FIELD);
    assert_eq!(
        plain(admin.call(Sqe::new(0xc1, 0, 0), &[]).unwrap().cqe.status()),
        Status::INVALID_OPCODE
    );

    let log = admin.log_page(page::ERRORS, 0, 64 * 8, false).unwrap().data;
    let entries: Vec<ErrorEntry> = log
        .chunks(64)
        .map(|e| ErrorEntry::read_from_bytes(e).unwrap())
        .collect();
    let counts: Vec<u64> = entries.iter().map(|e| e.count.get()).collect();
    assert_eq!(counts, [7, 6, 5, 4, 3, 2, 1, 0]);
    let (newest, oldest) = (&entries[0], &entries[6]);
    assert_eq!((newest.sqid.get(), newest.status.get() & 0x1ff), (0, 0x01 << 1));
    assert_eq!(
        (oldest.sqid.get(), oldest.lba.get(), oldest.nsid.get(), oldest.transport),
        (1, BLOCKS, 1, 3)
    );
    let health = admin.log_page(page::HEALTH, 0, 512, false).unwrap().data;
    assert_eq!(health[176..184], 7u64.to_le_bytes());
}

#[test]
fn features_answer_as_hosts_expect() {
    let bench = Bench::new(1);
    let mut admin = bench.admin();
    assert_eq!(admin.request_queues(300).unwrap(), 127);
    assert_eq!(admin.request_queues(4).unwrap(), 4);
    let get = |admin: &mut Client, id: u8, len: u32| {
        let sqe = Sqe::new(admin::GET_FEATURES, 0, 0)
            .with_cdw1(0, id.into())
            .with_cdw1(1, 1)
            .with_sgl(Sgl::transport(len));
        admin.call(sqe, &[]).unwrap()
    };
    assert_eq!(get(&mut admin, fid::KEEP_ALIVE_TIMER, 0).cqe.result.get(), 60_000);
    assert_eq!(get(&mut admin, fid::HOST_IDENTIFIER, 16).data, *b"ashlar-load-host");
    assert_eq!(get(&mut admin, fid::VOLATILE_WRITE_CACHE, 0).cqe.result.get(), 1);
    let mut behavior = [0; 512];
    behavior[0] = 1;
    let sqe = Sqe::new(admin::SET_FEATURES, 0, 0).with_cdw1(0, fid::HOST_BEHAVIOR.into());
    succeeded("host behavior", &admin.call(sqe, &behavior).unwrap().cqe).unwrap();
    assert_eq!(get(&mut admin, fid::HOST_BEHAVIOR, 512).data, behavior);
    assert_eq!(plain(get(&mut admin, 0x0d, 0).cqe.status()), Status::INVALID_FIELD);
    let time = get(&mut admin, fid::TIMESTAMP, 8).data;
    let ms = u64::from_le_bytes(*time.first_chunk().unwrap());
    assert!(ms < 60_000, "{ms} ms since the controller began, by no host's clock");
    assert!(
        admin
            .call(Sqe::new(admin::KEEP_ALIVE, 0, 0), &[])
            .unwrap()
            .cqe
            .status()
            .is_success()
    );
}

#[test]
fn hosts_hear_of_namespaces_that_come_grow_and_go() {
    let bench = Bench::new(2);
    let mut admin = bench.admin();
    assert!(
        admin
            .set_feature(fid::ASYNC_EVENT_CONFIG, feature::AEN_NAMESPACE_ATTRIBUTE)
            .unwrap()
            .status()
            .is_success()
    );
    let expect = |admin: &mut Client, nsid: u32| {
        let aer = admin.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
        admin.flush().unwrap();
        let done = admin.completion().unwrap();
        assert_eq!(
            (done.cqe.cid.get(), done.cqe.result.get() as u32),
            (aer, feature::EVENT_NAMESPACE_CHANGED)
        );
        let list = admin.log_page(page::CHANGED_NAMESPACES, 0, 4096, false).unwrap().data;
        assert_eq!((&list[..4], &list[4..8]), (&nsid.to_le_bytes()[..], &[0; 4][..]));
    };
    wait(bench.graph.build(NodeSpec::new("second", memory(64)))).unwrap();
    let volume = NamespaceConfig {
        volume: "second".into(),
        nsid: Some(5),
        ..Default::default()
    };
    assert_eq!(wait(bench.nvmf.add_namespace(NQN, volume)).unwrap(), 5);
    expect(&mut admin, 5);
    assert_eq!(
        admin.identify(cns::ACTIVE_NAMESPACES, 0).unwrap()[..12],
        [1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
    );

    wait(bench.graph.resize("second", 128)).unwrap();
    wait(bench.nvmf.namespace_changed("second"));
    expect(&mut admin, 5);
    assert_eq!(admin.identify(cns::NAMESPACE, 5).unwrap()[..8], 128u64.to_le_bytes());

    wait(bench.nvmf.remove_namespace(NQN, 5)).unwrap();
    expect(&mut admin, 5);
    wait(bench.graph.remove("second")).unwrap();

    // Four requests may wait; a fifth may not.
    for _ in 0..4 {
        admin.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
    }
    let fifth = admin.call(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
    assert_eq!(plain(fifth.cqe.status()), Status::AER_LIMIT_EXCEEDED);
}

#[test]
fn a_waiting_event_request_can_be_aborted_and_an_unknown_command_cannot() {
    let bench = Bench::new(1);
    let mut admin = bench.admin();
    let aer = admin.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
    let abort = |cid: u16| Sqe::new(admin::ABORT, 0, 0).with_cdw1(0, u32::from(cid) << 16);
    let id = admin.submit(abort(aer), &[]).unwrap();
    admin.flush().unwrap();
    let (first, second) = (admin.completion().unwrap().cqe, admin.completion().unwrap().cqe);
    assert_eq!(
        (first.cid.get(), plain(first.status())),
        (aer, Status::ABORTED_BY_REQUEST)
    );
    assert_eq!(
        (second.cid.get(), second.status(), second.result.get()),
        (id, Status::SUCCESS, 0)
    );
    assert_eq!(admin.call(abort(999), &[]).unwrap().cqe.result.get(), 1, "not aborted");
}
