//! Commands on I/O queues: data, flush, zeroes, discard, compare, aborts.
use super::bench::*;
use bdev::{NodeSpec, Table};
use load::nvme::{Client, Options};
use spec::nvme::{
    NSID_ALL, Sgl, Sqe, Status,
    command::{DsmRange, admin, io},
    tcp::Digests,
};
use std::time::Duration;
use target::nvmf::NamespaceConfig;
use zerocopy::IntoBytes;

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
