//! The whole front end over real sockets, with the host of the `load` crate: reactors, a graph, a target.
use bdev::{Graph, NodeSpec, Table};
use load::nvme::{Client, ClientError, Options, client::succeeded};
use reactor::{Config, Reactors};
use spec::nvme::{
    DISCOVERY_NQN, NSID_ALL, Sgl, Sqe, Status,
    command::{DsmRange, admin, io},
    discovery::{Entry, SUBTYPE_CURRENT, SUBTYPE_NVM},
    feature::{self, fid},
    identify::{IdentifyController, IdentifyNamespace, NamespaceIds, cns},
    log::{ErrorEntry, page},
    property::{self, Cap, Cc},
    tcp::Digests,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};
use target::nvmf::{AnaState, ListenAddress, NamespaceConfig, Nvmf, NvmfError, SubsystemConfig, TransportOptions};
use zerocopy::{FromBytes, IntoBytes};

const NQN: &str = "nqn.2026-11.io.ashlar:test";
const BLOCK: usize = 512;
const BLOCKS: u64 = 8192;

/// A target with one memory disk of 4 MiB as namespace 1.
struct Bench {
    reactors: Reactors,
    graph: Graph,
    nvmf: Nvmf,
    address: SocketAddr,
}

fn wait<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(f)
}

fn memory(blocks: u64) -> Table {
    Table::Memory {
        blocks,
        block_size: BLOCK as u32,
        physical_block_size: None,
        optimal_io: 0,
    }
}

impl Bench {
    fn new(cores: usize) -> Self {
        Self::with(cores, TransportOptions::default())
    }

    fn with(cores: usize, options: TransportOptions) -> Self {
        let reactors = Reactors::start(Config {
            count: cores,
            ..Config::default()
        })
        .unwrap();
        let graph = Graph::new(reactors.clone());
        let nvmf = Nvmf::new(reactors.clone(), graph.clone());
        let address = wait(async {
            graph.build(NodeSpec::new("disk", memory(BLOCKS))).await.unwrap();
            nvmf.create_transport("tcp", options).unwrap();
            nvmf.create_subsystem(SubsystemConfig {
                allow_any_host: true,
                ..SubsystemConfig::new(NQN)
            })
            .unwrap();
            let volume = NamespaceConfig {
                volume: "disk".into(),
                ..Default::default()
            };
            assert_eq!(nvmf.add_namespace(NQN, volume).await.unwrap(), 1);
            let any_port = ListenAddress::parse("127.0.0.1", "0").unwrap();
            nvmf.add_listener(NQN, any_port, AnaState::Optimized).await.unwrap()
        });
        Self {
            reactors,
            graph,
            nvmf,
            address,
        }
    }

    fn admin(&self) -> Client {
        Client::admin(self.address, NQN, &Options::default()).unwrap()
    }

    /// An admin queue and one I/O queue.
    fn queues(&self, options: &Options) -> (Client, Client) {
        let mut admin = Client::admin(self.address, NQN, options).unwrap();
        admin.request_queues(4).unwrap();
        let io = admin.io_queue(self.address, NQN, 1, options).unwrap();
        (admin, io)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        wait(self.nvmf.stop());
        self.reactors.stop();
    }
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 509 + seed * 131) as u8).collect()
}

fn write(queue: &mut Client, lba: u64, data: &[u8]) -> Status {
    let sqe = Sqe::new(io::WRITE, 0, 1).with_range(lba, (data.len() / BLOCK) as u32);
    queue.call(sqe, data).unwrap().cqe.status()
}

fn read(queue: &mut Client, lba: u64, blocks: u32) -> Result<Vec<u8>, Status> {
    let len = blocks * BLOCK as u32;
    let sqe = Sqe::new(io::READ, 0, 1)
        .with_range(lba, blocks)
        .with_sgl(Sgl::transport(len));
    let done = queue.call(sqe, &[]).unwrap();
    if done.cqe.status().is_success() {
        Ok(done.data)
    } else {
        Err(done.cqe.status())
    }
}

/// Status without the More bit.
fn plain(status: Status) -> Status {
    Status(status.0 & !(1 << 13))
}

#[test]
fn what_is_written_is_read_with_every_digest_and_size() {
    let bench = Bench::new(2);
    for (i, bits) in (0..4).enumerate() {
        for no_flow_control in [false, true] {
            let options = Options {
                digests: Digests::of(bits),
                no_flow_control,
                ..Options::default()
            };
            let (_admin, mut io) = bench.queues(&options);
            for (n, blocks) in [1usize, 7, 8, 9, 64, 255, 256].into_iter().enumerate() {
                let data = pattern(blocks * BLOCK, i * 10 + n);
                let lba = (n * 300) as u64;
                assert_eq!(write(&mut io, lba, &data), Status::SUCCESS, "{blocks} blocks");
                assert_eq!(
                    read(&mut io, lba, blocks as u32).unwrap(),
                    data,
                    "{blocks} blocks, digests {bits}"
                );
            }
        }
    }
}

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

    let node = bench.graph.info("disk").unwrap();
    let ns = admin.identify(cns::NAMESPACE, 1).unwrap();
    let ns = IdentifyNamespace::ref_from_bytes(&ns).unwrap();
    assert_eq!(
        (ns.nsze.get(), ns.lbaf[0].block_shift, ns.nlbaf, ns.nmic),
        (BLOCKS, 9, 0, 1)
    );
    let list = admin.identify(cns::ACTIVE_NAMESPACES, 0).unwrap();
    assert_eq!(list[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    let ids = NamespaceIds::from_descriptors(&admin.identify(cns::NAMESPACE_DESCRIPTORS, 1).unwrap());
    assert_eq!((ids.uuid, ids.nguid), (*node.uuid.as_bytes(), *node.uuid.as_bytes()));
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
    assert_eq!(pages, [0, 1, 2, 3, 4, 5, 0x12]);
    let effects = admin.log_page(page::COMMAND_EFFECTS, 0, 4096, false).unwrap().data;
    assert_eq!(
        (
            effects[0x06 * 4],
            effects[1024 + 4],
            effects[1024 + 8],
            effects[1024 + 0x0d * 4]
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
fn flush_zeroes_discard_and_compare_do_what_they_say() {
    let bench = Bench::new(1);
    let (_admin, mut io) = bench.queues(&Options::default());
    let data = pattern(64 * BLOCK, 1);
    assert_eq!(write(&mut io, 0, &data), Status::SUCCESS);
    let call = |io: &mut Client, sqe: Sqe, data: &[u8]| plain(io.call(sqe, data).unwrap().cqe.status());
    assert_eq!(call(&mut io, Sqe::new(io::FLUSH, 0, 1), &[]), Status::SUCCESS);
    assert_eq!(call(&mut io, Sqe::new(io::FLUSH, 0, NSID_ALL), &[]), Status::SUCCESS);

    let compare = Sqe::new(io::COMPARE, 0, 1).with_range(4, 4);
    assert_eq!(call(&mut io, compare, &data[4 * BLOCK..8 * BLOCK]), Status::SUCCESS);
    assert_eq!(
        call(&mut io, compare, &data[5 * BLOCK..9 * BLOCK]),
        Status::COMPARE_FAILURE
    );
    let large = Sqe::new(io::COMPARE, 0, 1).with_range(0, 64);
    assert_eq!(call(&mut io, large, &data), Status::SUCCESS, "by R2T");

    for (deac, at) in [(0, 8), (1 << 25, 16)] {
        let zeroes = Sqe::new(io::WRITE_ZEROES, 0, 1).with_cdw1(2, deac).with_range(at, 8);
        assert_eq!(call(&mut io, zeroes, &[]), Status::SUCCESS);
        assert_eq!(read(&mut io, at, 8).unwrap(), [0; 8 * BLOCK]);
    }
    let ranges = [
        DsmRange {
            blocks: 4.into(),
            start: 32.into(),
            ..Default::default()
        },
        DsmRange {
            blocks: 4.into(),
            start: 40.into(),
            ..Default::default()
        },
    ];
    let dsm = Sqe::new(io::DATASET_MANAGEMENT, 0, 1).with_cdw1(0, 1).with_cdw1(1, 4);
    assert_eq!(call(&mut io, dsm, ranges.as_bytes()), Status::SUCCESS);
    let mut expected = data.clone();
    expected[8 * BLOCK..24 * BLOCK].fill(0);
    expected[32 * BLOCK..36 * BLOCK].fill(0);
    expected[40 * BLOCK..44 * BLOCK].fill(0);
    assert_eq!(read(&mut io, 0, 64).unwrap(), expected);
    let beyond = [
        ranges[0],
        DsmRange {
            blocks: 2.into(),
            start: (BLOCKS - 1).into(),
            ..Default::default()
        },
    ];
    assert_eq!(call(&mut io, dsm, beyond.as_bytes()), Status::LBA_OUT_OF_RANGE);
    assert_eq!(
        call(&mut io, dsm, &ranges.as_bytes()[..16]),
        Status::DATA_SGL_LENGTH_INVALID
    );
    let fua = Sqe::new(io::WRITE, 0, 1).with_cdw1(2, 1 << 30).with_range(0, 1);
    assert_eq!(call(&mut io, fua, &data[..BLOCK]), Status::SUCCESS);
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
    assert_eq!(plain(get(&mut admin, 0x0e, 0).cqe.status()), Status::INVALID_FIELD);
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

#[test]
fn a_command_that_hangs_in_the_device_can_be_aborted() {
    let bench = Bench::new(2);
    let slow = Table::Delay {
        on: "disk2".into(),
        avg_read_us: 400_000,
        p99_read_us: 400_000,
        avg_write_us: 0,
        p99_write_us: 0,
    };
    wait(bench.graph.build(NodeSpec::new("disk2", memory(64)))).unwrap();
    wait(bench.graph.build(NodeSpec::new("slow", slow))).unwrap();
    wait(bench.nvmf.add_namespace(
        NQN,
        NamespaceConfig {
            volume: "slow".into(),
            ..Default::default()
        },
    ))
    .unwrap();
    let (mut admin, mut io) = bench.queues(&Options::default());
    let sqe = Sqe::new(io::READ, 0, 2).with_range(0, 1).with_sgl(Sgl::transport(512));
    let cid = io.submit(sqe, &[]).unwrap();
    io.flush().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let abort = Sqe::new(admin::ABORT, 0, 0).with_cdw1(0, u32::from(cid) << 16 | 1);
    assert_eq!(admin.call(abort, &[]).unwrap().cqe.result.get(), 0, "aborted");
    let done = io.completion().unwrap().cqe;
    assert_eq!((done.cid.get(), done.status()), (cid, Status::ABORTED_BY_REQUEST));
    // The queue goes on, and the late answer of the device reaches nobody.
    assert_eq!(read(&mut io, 0, 1).unwrap().len(), 512);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(read(&mut io, 0, 1).unwrap().len(), 512);
}

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
    bench.nvmf.add_host(NQN, &options.hostnqn).unwrap();
    assert_eq!(refused(NQN, 0, 0xffff, &options).0, Status::SUCCESS);
    // Nothing but Connect comes first.
    let mut bare = Client::open(bench.address, &options).unwrap();
    assert_eq!(
        bare.call(Sqe::new(io::FLUSH, 0, 1), &[]).unwrap().cqe.status(),
        Status::COMMAND_SEQUENCE_ERROR
    );
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
fn many_queues_work_at_once_on_all_cores() {
    let bench = Bench::new(2);
    let options = Options {
        entries: 16,
        ..Options::default()
    };
    let mut admin = Client::admin(bench.address, NQN, &options).unwrap();
    assert_eq!(admin.request_queues(127).unwrap(), 127);
    let mut queues: Vec<Client> = (1..=127)
        .map(|qid| admin.io_queue(bench.address, NQN, qid, &options).unwrap())
        .collect();
    for (n, queue) in queues.iter_mut().enumerate() {
        for i in 0..8 {
            let sqe = Sqe::new(io::WRITE, 0, 1).with_range((n * 8 + i) as u64, 1);
            queue.submit(sqe, &pattern(BLOCK, n * 8 + i)).unwrap();
        }
        queue.flush().unwrap();
    }
    for queue in &mut queues {
        for _ in 0..8 {
            assert_eq!(queue.completion().unwrap().cqe.status(), Status::SUCCESS);
        }
    }
    let first = &mut queues[0];
    for n in 0..127 * 8 {
        assert_eq!(read(first, n as u64, 1).unwrap(), pattern(BLOCK, n), "block {n}");
    }
    let qpairs = bench.nvmf.qpairs(NQN).unwrap();
    assert_eq!(qpairs.len(), 128);
    let on_first = qpairs.iter().filter(|q| q.core == 0).count();
    assert_eq!(on_first, 64, "spread evenly");
    let stats = wait(bench.nvmf.stats());
    assert_eq!(stats.iter().map(|s| s.completed_nvme_io).sum::<u64>(), 127 * 8 * 2);
}

#[test]
fn strangers_never_disturb_a_live_host() {
    let options = TransportOptions {
        max_unassociated: 64,
        ..TransportOptions::default()
    };
    let bench = Bench::with(2, options);
    let (_admin, mut io) = bench.queues(&Options::default());
    let data = pattern(16 * BLOCK, 9);
    assert_eq!(write(&mut io, 100, &data), Status::SUCCESS);
    let mut half_open = Vec::new();
    let mut seed = 0x1234_5678_9abc_def1u64;
    for round in 0..200 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut stranger = TcpStream::connect(bench.address).unwrap();
        let garbage: Vec<u8> = (0..seed % 600).map(|i| (seed >> (i % 57)) as u8).collect();
        match round % 4 {
            // Nothing at all; noise; a true beginning and then noise; a hello and half a capsule.
            0 => half_open.push(stranger),
            1 => drop(stranger.write_all(&garbage)),
            2 => {
                let mut hello = vec![0, 0, 128, 0, 128, 0, 0, 0];
                hello.resize(128, 0);
                hello.extend(garbage);
                drop(stranger.write_all(&hello));
            }
            _ => {
                let mut hello = vec![0, 0, 128, 0, 128, 0, 0, 0];
                hello.resize(128, 0);
                hello.extend([4, 0, 72, 72, 0x48, 4, 0, 0, 0x7f, 0x40]);
                drop(stranger.write_all(&hello));
                half_open.push(stranger);
            }
        }
        if round % 10 == 0 {
            assert_eq!(read(&mut io, 100, 16).unwrap(), data, "round {round}");
        }
    }
    // A slow reader: asks for much and reads nothing. What it asked for is bounded by its queue.
    let (_slow_admin, mut slow) = bench.queues(&Options::default());
    for _ in 0..31 {
        let sqe = Sqe::new(io::READ, 0, 1)
            .with_range(0, 256)
            .with_sgl(Sgl::transport(256 * BLOCK as u32));
        slow.submit(sqe, &[]).unwrap();
    }
    slow.flush().unwrap();
    for _ in 0..50 {
        assert_eq!(read(&mut io, 100, 16).unwrap(), data);
    }
    let waiting: u64 = wait(bench.nvmf.stats())
        .iter()
        .map(|s| s.current_unassociated_qpairs)
        .sum();
    assert!(waiting <= 66, "{waiting} half-open connections are kept");
    // And a host that comes now is served at once.
    let mut late = bench.admin();
    assert!(
        late.call(Sqe::new(admin::KEEP_ALIVE, 0, 0), &[])
            .unwrap()
            .cqe
            .status()
            .is_success()
    );
}

#[test]
fn a_lying_pdu_is_answered_with_a_termination_request() {
    let bench = Bench::new(1);
    let mut stranger = TcpStream::connect(bench.address).unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stranger.write_all(&[4, 0, 72, 0, 72, 0, 0, 0]).unwrap();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[..16], [3, 0, 24, 0, 32, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answer[24..], [4, 0, 72, 0, 72, 0, 0, 0]);
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
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ListenAddress {
        socket: taken.local_addr().unwrap(),
    };
    assert!(matches!(
        wait(n.add_listener(NQN, address, AnaState::Optimized)),
        Err(NvmfError::Bind { .. })
    ));
    wait(n.remove_listener(NQN, &listener)).unwrap();
    assert!(TcpStream::connect(bench.address).is_err(), "the socket is closed");
    assert!(matches!(
        wait(n.remove_listener(NQN, &listener)),
        Err(NvmfError::NoListener { .. })
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

#[test]
fn a_silent_host_is_shut_out_when_its_timer_runs_out() {
    let bench = Bench::with(
        1,
        TransportOptions {
            min_kato: 500,
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

/// The control plane's futures go through any executor.
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
