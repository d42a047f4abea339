//! What a warm I/O may cost: no allocation, no byte copied, no lock.
use bdev::{
    Disk, Graph, Io, NodeSpec, Table,
    conformance::costs_nothing,
    gate::Gate,
    leaf::{memory::Memory, null::Null},
    module::{
        crypt::Crypt,
        delay::{Delay, Latencies},
        linear::Linear,
        raid::{self, Array, Plan, Seat},
        stats::{Counters, Stats},
        stripe::Stripe,
    },
    raid::{MemberState, Parts, Shape},
    xts::Xts,
};
use reactor::{Buf, Config, Reactors, testing::CountingAlloc};
use spec::BlockRange;
use std::{sync::Arc, time::Duration};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

fn memory(block_size: u32, blocks: u64) -> Disk {
    Disk::new(Memory::new(Memory::geometry_of(block_size, 4096, 0, blocks)))
}

fn check(name: &'static str, blocks: u32, make: impl FnOnce() -> Disk) {
    let locks = reactor::sim::run(async { costs_nothing(name, &make(), blocks, 500).await });
    assert_eq!(locks, 0, "{name}: locks")
}

#[test]
fn memory_and_null_at_4_kib() {
    check("memory of 4 KiB blocks", 1, || memory(4096, 1000));
    check("memory of 512 byte blocks", 8, || memory(512, 8000));
    check("memory, 128 KiB", 256, || memory(512, 80000));
    check("null", 8, || Disk::new(Null::new(Null::geometry_of(512, 4096, 8000))));
}

#[test]
fn stacks_of_modules() {
    check("a view of a linear volume of a stripe of memory", 8, || {
        let stripe = Stripe::build(&[memory(512, 8000), memory(512, 8000)], 16).unwrap();
        let parts = [stripe.view(4000, 4000).unwrap(), stripe.view(0, 4000).unwrap()];
        Linear::build(&parts).unwrap().view(8, 7000).unwrap()
    });
    check("a fork over a stripe", 64, || {
        Stripe::build(&[memory(4096, 1000), memory(4096, 1000)], 4).unwrap()
    });
    check("stats and a gate", 8, || {
        let stats = Disk::new(Stats::new(memory(512, 8000), Counters::default()));
        Gate::new(stats).disk()
    });
    check("a delay", 8, || {
        let us = Duration::from_micros(5);
        Disk::new(Delay::new(memory(512, 8000), Latencies::new(us, us, us, us)))
    });
}

#[test]
fn encryption_takes_pages_and_no_memory() {
    let crypt = |disk: Disk| {
        let keys: Vec<u8> = (0..64).collect();
        Disk::new(Crypt::new(disk, Arc::new(Xts::new(&keys).unwrap())))
    };
    check("crypt of 512 byte blocks, 4 KiB", 8, || crypt(memory(512, 8000)));
    check("crypt of 4 KiB blocks, 128 KiB", 32, || crypt(memory(4096, 4000)));
    check("crypt over a stripe, behind a gate", 64, || {
        let stripe = Stripe::build(&[memory(4096, 1000), memory(4096, 1000)], 4).unwrap();
        Gate::new(crypt(stripe)).disk()
    });
}

/// An array of memory without metadata.
fn array(shape: Shape, members: usize) -> Disk {
    let used = 8000;
    let seat = Seat {
        state: MemberState::InSync,
        write_mostly: false,
        bad: Vec::new(),
        superblock: None,
    };
    let plan = Plan {
        name: "array".into(),
        shape,
        used,
        members: vec![Some(seat); members],
        replacements: Vec::new(),
        bitmap: None,
        differs: Vec::new(),
        noted: Vec::new(),
        replay: false,
        read_only: false,
    };
    let disks: Vec<Disk> = (0..members).map(|_| memory(512, used)).collect();
    let geometries: Vec<_> = disks.iter().map(|disk| Some(disk.geometry())).collect();
    let geometry = raid::geometry(shape, &geometries, &[], used).unwrap();
    let part = |data: Disk| {
        Some(Parts {
            whole: data.clone(),
            data,
        })
    };
    let parts: Vec<_> = disks.into_iter().map(part).collect();
    let array = Array::new(plan, parts.clone(), 512).unwrap();
    array.device(parts, geometry)
}

#[test]
fn reads_of_arrays_and_writes_of_mirrors_take_nothing() {
    const CHUNK: u32 = 16;
    check("a mirror of three", 8, || array(Shape::Raid1, 3));
    for (name, layout) in [("near", 0x102), ("far", 0x201), ("offset", 0x1_0201)] {
        let shape = Shape::Raid10 { layout, chunk: CHUNK };
        check(name, 8, || array(shape, 4));
        check(name, 40, || array(shape, 4))
    }
    let parity = [
        Shape::Raid4 { chunk: CHUNK },
        Shape::Raid5 {
            layout: 2,
            chunk: CHUNK,
        },
        Shape::Raid6 {
            layout: 2,
            chunk: CHUNK,
        },
    ];
    for (shape, blocks) in parity.into_iter().flat_map(|shape| [(shape, 8), (shape, 40)]) {
        reactor::sim::run(async {
            let (disk, data) = (array(shape, 5), Buf::alloc(blocks as usize * 512));
            let mut before = 0;
            for round in 0..2000 {
                if round == 1000 {
                    before = reactor::testing::allocations()
                }
                let range = BlockRange::new(round % 200 * 8, blocks);
                assert_eq!(disk.perform(Io::read(range, data.clone())).await, Ok(()))
            }
            let calls = reactor::testing::allocations() - before;
            assert_eq!(
                calls, 0,
                "{shape:?}: allocator calls in 1,000 warm reads of {blocks} blocks"
            )
        })
    }
}

/// Parity changed in place, made of what stays, and of whole stripes.
#[test]
fn writes_of_parity_take_nothing() {
    let (layout, chunk) = (2, 16);
    let shapes = [
        Shape::Raid4 { chunk },
        Shape::Raid5 { layout, chunk },
        Shape::Raid6 { layout, chunk },
    ];
    let of = |shape| if matches!(shape, Shape::Raid6 { .. }) { 3 } else { 4 };
    for (shape, blocks) in shapes
        .into_iter()
        .flat_map(|shape| [8, 40, 16 * of(shape)].map(|blocks| (shape, blocks)))
    {
        reactor::sim::run(async {
            let disk = array(shape, 5);
            let (data, wide) = (
                Buf::from_slice(&vec![7; blocks as usize * 512]),
                u64::from(16 * of(shape)),
            );
            let mut before = 0;
            for round in 0..2000 {
                if round == 1000 {
                    before = reactor::testing::allocations()
                }
                let at = if u64::from(blocks) == wide {
                    round * 7 % 50 * wide
                } else {
                    round * 7 % 200 * 8
                };
                let range = BlockRange::new(at, blocks);
                assert_eq!(disk.perform(Io::write(range, data.clone())).await, Ok(()))
            }
            let calls = reactor::testing::allocations() - before;
            assert_eq!(
                calls, 0,
                "{shape:?}: allocator calls in 1,000 warm writes of {blocks} blocks"
            )
        })
    }
}

#[test]
fn opened_in_a_graph_at_home_and_elsewhere() {
    let reactors = Reactors::start(Config {
        count: 2,
        ..Config::default()
    })
    .unwrap();
    let graph = Graph::new(reactors.clone());
    let table = |table: Table| NodeSpec::new(table.kind(), table);
    let memory = Table::Memory {
        blocks: 8000,
        block_size: 512,
        physical_block_size: None,
        optimal_io: 0,
    };
    let specs = [
        memory,
        Table::Passthru { on: "memory".into() },
        Table::Stats { on: "passthru".into() },
    ]
    .map(table);
    let (here, built) = (graph.clone(), graph.reactors().clone());
    reactor::block_on(async move {
        for spec in specs {
            here.build(spec).await.unwrap();
        }
    });
    let home = graph
        .info("memory")
        .and_then(|node| node.home)
        .expect("memory has a home");
    let at_home = || built.call(home, || async { reactor::testing::allocations() }).wait();
    for core in 0..2 {
        let (graph, before) = (graph.clone(), at_home());
        let measured = built.call(core, move || async move {
            let opened = graph.open("stats").await.unwrap();
            costs_nothing(&format!("opened on core {core}"), &opened, 8, 2000).await
        });
        // Pages of a write from elsewhere end at the disk's core and come back in batches of 512: a lock for each.
        let most = [0, 16][core];
        let locks = measured.wait();
        assert!(locks <= most, "{locks} locks in 4,000 warm I/Os from core {core}");
        // What starting the run and these calls themselves take; 8,000 I/Os from the other core add nothing once warm.
        let calls = at_home() - before;
        assert!(core == home || calls < 100, "{calls} allocator calls at home")
    }
    reactors.stop()
}
