//! A warm 4 KiB read and write over NVMe/TCP, from a real socket to the medium and back: no call to the allocator and no
//! lock on the whole way, and below the session no byte copied by the CPU.
//!
//! What is copied above: bytes that arrive together with their header pass through the connection's inbox, because the
//! header must be read before it is known where they belong.
#[path = "nvmf/bench.rs"]
#[allow(dead_code)]
mod bench;

use bdev::{NodeSpec, Table};
use bench::*;
use load::nvme::{
    Client, Event, Options,
    client::{Completion, succeeded},
};
use reactor::{
    counters::{bytes_copied, locks_taken, pages_taken_here},
    testing::{CountingAlloc, allocations},
};
use spec::nvme::{Sgl, Sqe, command::io};
use std::{io::Write, time::Duration};
use target::nvmf::{NamespaceConfig, TransportOptions};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

const LEN: usize = 4096;
const IO_BLOCKS: u32 = (LEN / BLOCK) as u32;
/// Places that are written and read: few, so that every one is warm.
const PLACES: u64 = 16;

/// What core 0 has done so far, page balance last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Done {
    allocations: u64,
    locks: u64,
    copied: u64,
    pages: i64,
}

fn done(bench: &Bench) -> Done {
    let counts = || async {
        Done {
            allocations: allocations(),
            locks: locks_taken(),
            copied: bytes_copied(),
            pages: pages_taken_here(),
        }
    };
    bench.reactors.call(0, counts).wait()
}

fn at(sqe: Sqe, i: u64) -> Sqe {
    sqe.with_range(i % PLACES * u64::from(IO_BLOCKS), IO_BLOCKS)
}

fn writing(nsid: u32, i: u64) -> Sqe {
    at(Sqe::new(io::WRITE, 0, nsid), i)
}

fn reading(nsid: u32, i: u64) -> Sqe {
    at(Sqe::new(io::READ, 0, nsid), i).with_sgl(Sgl::transport(LEN as u32))
}

fn good(done: &Completion) {
    succeeded("a warm command", &done.cqe).unwrap();
}

/// `rounds` of `depth` writes and then `depth` reads, each lot in flight at once.
fn run(queue: &mut Client, nsid: u32, rounds: u64, depth: u64, data: &[u8]) {
    for round in 0..rounds {
        for i in 0..depth {
            queue.submit(writing(nsid, round + i), data).unwrap();
        }
        queue.flush().unwrap();
        (0..depth).for_each(|_| good(&queue.completion().unwrap()));
        for i in 0..depth {
            queue.submit(reading(nsid, round + i), &[]).unwrap();
        }
        queue.flush().unwrap();
        for _ in 0..depth {
            let done = queue.completion().unwrap();
            good(&done);
            assert_eq!(done.data.len(), LEN);
        }
    }
}

/// What `work` costs core 0 beyond what asking costs.
fn cost(bench: &Bench, work: impl FnOnce()) -> Done {
    let asked = [done(bench), done(bench)];
    work();
    let after = done(bench);
    Done {
        allocations: (after.allocations - asked[1].allocations) - (asked[1].allocations - asked[0].allocations),
        locks: (after.locks - asked[1].locks) - (asked[1].locks - asked[0].locks),
        copied: after.copied - asked[1].copied,
        pages: after.pages - asked[1].pages,
    }
}

/// A write in two sends: its data leaves when the target has read the header and has got a page for it.
fn write_apart(bench: &Bench, queue: &mut Client, nsid: u32, i: u64, data: &[u8]) {
    let before = done(bench).pages;
    let sqe = Sqe {
        cid: 7.into(),
        ..writing(nsid, i).with_sgl(Sgl::in_capsule(LEN as u32))
    };
    let (wire, stream) = queue.parts();
    let mut capsule = Vec::new();
    wire.command(&sqe, data, &mut capsule);
    let (header, payload) = capsule.split_at(capsule.len() - LEN);
    stream.write_all(header).unwrap();
    while done(bench).pages == before {
        std::thread::sleep(Duration::from_micros(50));
    }
    stream.write_all(payload).unwrap();
    let (event, _) = queue.event().unwrap();
    assert!(
        matches!(&event, Event::Response(cqe) if cqe.status().is_success()),
        "{event:?}"
    );
    // The answer is here a moment before the slot has let its page go.
    while done(bench).pages != before {
        std::thread::sleep(Duration::from_micros(50));
    }
}

#[test]
fn warm_reads_and_writes_cost_no_allocation_no_lock_and_no_copy() {
    let bench = Bench::with(1, TransportOptions::default());
    let null = Table::Null {
        blocks: BLOCKS,
        block_size: BLOCK as u32,
        physical_block_size: None,
    };
    wait(async {
        bench.graph.build(NodeSpec::new("null", null)).await.unwrap();
        let volume = NamespaceConfig {
            volume: "null".into(),
            ..Default::default()
        };
        assert_eq!(bench.nvmf.add_namespace(NQN, volume).await.unwrap(), 2);
    });
    let mut queues = None;
    let connecting = cost(&bench, || queues = Some(bench.queues(&Options::default())));
    assert!(
        connecting.allocations > 0 && connecting.locks > 0 && connecting.copied > 0,
        "nothing is counted: {connecting:?}"
    );
    let (_admin, mut queue) = queues.expect("connected");
    let data = pattern(LEN, 1);
    for (nsid, name) in [(1, "memory"), (2, "null")] {
        for depth in [1, 16] {
            run(&mut queue, nsid, 200, depth, &data);
            let cost = cost(&bench, || run(&mut queue, nsid, 1000 / depth, depth, &data));
            assert_eq!(
                (cost.allocations, cost.locks),
                (0, 0),
                "allocations and locks in 2000 I/Os on {name}, {depth} at a time"
            );
        }
        // Reads alone: no byte passes the CPU, at the session or below.
        let cost_of_reads = cost(&bench, || {
            (0..500).for_each(|i| good(&queue.call(reading(nsid, i), &[]).unwrap()));
        });
        assert_eq!(cost_of_reads.copied, 0, "bytes copied in 500 reads on {name}");
        // Data that comes by itself lies where the disk takes it from.
        let cost_of_writes = cost(&bench, || {
            (0..50).for_each(|i| write_apart(&bench, &mut queue, nsid, i, &data));
        });
        assert_eq!(cost_of_writes.copied, 0, "bytes copied in 50 writes on {name}");
        assert_eq!(cost_of_writes.pages, 0, "pages kept by 50 writes on {name}");
        // Data that comes behind its header is copied once, by the connection, and not again below.
        let cost_of_capsules = cost(&bench, || {
            (0..500).for_each(|i| good(&queue.call(writing(nsid, i), &data).unwrap()));
        });
        assert!(
            cost_of_capsules.copied <= 500 * LEN as u64,
            "{} bytes copied in 500 writes of {LEN} on {name}",
            cost_of_capsules.copied
        );
    }
    let read = read(&mut queue, 0, IO_BLOCKS).unwrap();
    assert_eq!(read, data, "what was written warm is there");
}
