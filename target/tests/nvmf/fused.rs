//! Commands that are more than one: Compare and Write, Copy; and Verify.
use super::bench::*;
use bdev::NodeSpec;
use load::nvme::{Client, Options};
use spec::nvme::{
    Sgl, Sqe, Status,
    command::{CopyRange, admin, io},
    feature::fid,
};
use std::{thread, time::Duration};
use target::nvmf::NamespaceConfig;
use zerocopy::IntoBytes;

/// Compare and Write on block `lba`; how the two ended.
fn compare_and_write(queue: &mut Client, lba: u64, old: &[u8], new: &[u8]) -> [Status; 2] {
    let blocks = (old.len() / BLOCK) as u32;
    let half = |opcode, fuse: u8| Sqe {
        flags: 0x40 | fuse,
        ..Sqe::new(opcode, 0, 1).with_range(lba, blocks)
    };
    let first = queue.submit(half(io::COMPARE, 1), old).unwrap();
    queue.submit(half(io::WRITE, 2), new).unwrap();
    queue.flush().unwrap();
    let mut ends = [Status::SUCCESS; 2];
    for _ in 0..2 {
        let cqe = queue.completion().unwrap().cqe;
        ends[usize::from(cqe.cid.get() != first)] = plain(cqe.status());
    }
    ends
}

#[test]
fn compare_and_write_writes_where_the_blocks_are_as_expected() {
    let bench = Bench::new(2);
    let (_admin, mut io) = bench.queues(&Options::default());
    // In capsules, and long enough to be asked for with R2Ts.
    for blocks in [1, 100] {
        let (old, new) = (pattern(blocks * BLOCK, 1), pattern(blocks * BLOCK, 2));
        assert!(write(&mut io, 7, &old).is_success());
        assert_eq!(compare_and_write(&mut io, 7, &old, &new), [Status::SUCCESS; 2]);
        assert_eq!(read(&mut io, 7, blocks as u32).unwrap(), new);
        let failed = [Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED];
        assert_eq!(compare_and_write(&mut io, 7, &old, &new), failed);
        assert_eq!(read(&mut io, 7, blocks as u32).unwrap(), new);
    }
    let beyond = compare_and_write(&mut io, BLOCKS, &[0; BLOCK], &[0; BLOCK]);
    assert_eq!(beyond, [Status::LBA_OUT_OF_RANGE, Status::ABORTED_FAILED_FUSED]);
}

#[test]
fn half_a_fused_operation_is_refused_and_the_queue_goes_on() {
    let bench = Bench::new(1);
    let (_admin, mut io) = bench.queues(&Options::default());
    let half = |opcode, fuse: u8| Sqe {
        flags: 0x40 | fuse,
        ..Sqe::new(opcode, 0, 1).with_range(0, 1)
    };
    // A second without a first; a first that is followed by something else; two firsts.
    let second = io.call(half(io::WRITE, 2), &[1; BLOCK]).unwrap().cqe.status();
    assert_eq!(plain(second), Status::ABORTED_MISSING_FUSED);
    let lonely = io.submit(half(io::COMPARE, 1), &[0; BLOCK]).unwrap();
    let another = io.submit(half(io::COMPARE, 1), &[0; BLOCK]).unwrap();
    let flush = io.submit(Sqe::new(io::FLUSH, 0, 1), &[]).unwrap();
    io.flush().unwrap();
    for _ in 0..3 {
        let cqe = io.completion().unwrap().cqe;
        let wanted = match cqe.cid.get() {
            cid if cid == flush => Status::SUCCESS,
            cid if cid == lonely || cid == another => Status::ABORTED_MISSING_FUSED,
            cid => panic!("an answer to {cid}"),
        };
        assert_eq!(plain(cqe.status()), wanted);
    }
    assert_eq!(read(&mut io, 0, 1).unwrap(), [0; BLOCK], "nothing was written");
    // A first whose second never comes does not keep the connection from ending.
    io.submit(half(io::COMPARE, 1), &[0; BLOCK]).unwrap();
    io.flush().unwrap();
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn of_many_hosts_counting_with_compare_and_write_none_is_lost() {
    const EACH: u64 = 200;
    let bench = Bench::new(2);
    let counted: u64 = thread::scope(|scope| {
        let hosts: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (_admin, mut io) = bench.queues(&Options::default());
                    for _ in 0..EACH {
                        loop {
                            let old = read(&mut io, 3, 1).unwrap();
                            let n = u64::from_le_bytes(*old.first_chunk().unwrap());
                            let mut new = old.clone();
                            new[..8].copy_from_slice(&(n + 1).to_le_bytes());
                            if compare_and_write(&mut io, 3, &old, &new)[1].is_success() {
                                break;
                            }
                        }
                    }
                    EACH
                })
            })
            .collect();
        hosts.into_iter().map(|host| host.join().unwrap()).sum()
    });
    let (_admin, mut io) = bench.queues(&Options::default());
    let block = read(&mut io, 3, 1).unwrap();
    assert_eq!(u64::from_le_bytes(*block.first_chunk().unwrap()), counted);
}

#[test]
fn copies_gather_ranges_and_cross_namespaces_when_the_host_asked_to() {
    let bench = Bench::new(1);
    wait(bench.graph.build(NodeSpec::new("second", memory(64)))).unwrap();
    let volume = NamespaceConfig {
        volume: "second".into(),
        ..Default::default()
    };
    let other = wait(bench.nvmf.add_namespace(NQN, volume)).unwrap();
    let (mut admin, mut io) = bench.queues(&Options::default());
    let data = pattern(8 * BLOCK, 3);
    assert!(write(&mut io, 100, &data).is_success());
    let mut copy = |nsid, to: u64, format: u32, ranges: &[CopyRange]| {
        let sqe = Sqe::new(io::COPY, 0, nsid)
            .with_range(to, 1)
            .with_cdw1(2, format << 8 | (ranges.len() as u32 - 1));
        let cqe = io.call(sqe, ranges.as_bytes()).unwrap().cqe;
        (plain(cqe.status()), cqe.result.get() as u32)
    };
    let ranges = [CopyRange::new(0, 104, 4), CopyRange::new(0, 100, 4)];
    assert_eq!(copy(1, 200, 0, &ranges), (Status::SUCCESS, 0));
    let wrong = [ranges[0], CopyRange::new(0, BLOCKS, 1)];
    assert_eq!(copy(1, 300, 0, &wrong), (Status::LBA_OUT_OF_RANGE, 1));
    assert_eq!(copy(1, BLOCKS - 4, 0, &ranges), (Status::LBA_OUT_OF_RANGE, 0));
    let long = [CopyRange::new(0, 0, 4096)];
    assert_eq!(copy(1, 0, 0, &long), (Status::COMMAND_SIZE_LIMIT, 0));
    let across = [CopyRange::new(1, 100, 8)];
    assert_eq!(
        copy(other, 0, 2, &across),
        (Status::INVALID_FIELD, 0),
        "format 2 must be asked for"
    );
    let behavior = Sqe::new(admin::SET_FEATURES, 0, 0).with_cdw1(0, fid::HOST_BEHAVIOR.into());
    let mut wish = [0; 512];
    wish[4] = 1 << 2;
    assert!(admin.call(behavior, &wish).unwrap().cqe.status().is_success());
    assert_eq!(copy(other, 0, 2, &across), (Status::SUCCESS, 0));
    assert_eq!(
        copy(other, 0, 2, &[CopyRange::new(9, 0, 1)]),
        (Status::INVALID_NAMESPACE, 0)
    );

    let gathered = read(&mut io, 200, 8).unwrap();
    assert_eq!(
        (&gathered[..4 * BLOCK], &gathered[4 * BLOCK..]),
        (&data[4 * BLOCK..], &data[..4 * BLOCK])
    );
    let sqe = Sqe::new(io::READ, 0, other)
        .with_range(0, 8)
        .with_sgl(Sgl::transport(8 * BLOCK as u32));
    assert_eq!(io.call(sqe, &[]).unwrap().data, data);
    for (lba, wanted) in [(100, Status::SUCCESS), (BLOCKS - 3, Status::LBA_OUT_OF_RANGE)] {
        let verify = Sqe::new(io::VERIFY, 0, 1).with_range(lba, 8);
        assert_eq!(plain(io.call(verify, &[]).unwrap().cqe.status()), wanted);
    }
}
