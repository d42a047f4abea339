//! Every device and module passes the same suite.
use bdev::{
    Disk, Geometry, Io, IoError,
    conformance::Subject,
    gate::Gate,
    leaf::{gap::Gap, memory::Memory, null::Null, sim::Sim},
    module::{
        crypt::Crypt,
        delay::{Delay, Latencies},
        error::{Error, Errors},
        linear::Linear,
        stats::{Counters, Stats},
        stripe::Stripe,
    },
    xts::Xts,
};
use reactor::Buf;
use spec::BlockRange;
use std::{sync::Arc, time::Duration};

fn check(name: &str, subject: Subject) {
    for seed in [1, 2, 77] {
        reactor::sim::run(subject.clone().check(name, seed))
    }
}

fn disks(sims: &[Sim]) -> Vec<Disk> {
    sims.iter().cloned().map(Disk::new).collect()
}

#[test]
fn a_gap_fails_what_would_move_data_and_nothing_else() {
    reactor::sim::run(async {
        let (left, right) = (memory(512, 8), memory(512, 8));
        let gap = Disk::new(Gap::new(Geometry::plain(512, 8)));
        let disk = Linear::build(&[left.clone(), gap, right.clone()]).unwrap();
        assert_eq!(disk.blocks(), 24);
        let write = |start, count: u32| {
            Io::write(
                BlockRange::new(start, count),
                Buf::from_slice(&[7; 512].repeat(count as usize)),
            )
        };
        let read = |start, count: u32| Io::read(BlockRange::new(start, count), Buf::alloc(count as usize * 512));
        for (start, count, done) in [
            (0, 8, Ok(())),
            (16, 8, Ok(())),
            (8, 1, Err(IoError::Medium)),
            (7, 2, Err(IoError::Medium)),
            (4, 16, Err(IoError::Medium)),
        ] {
            assert_eq!(disk.submit(write(start, count)).await, done, "write {count} at {start}");
            assert_eq!(disk.submit(read(start, count)).await, done, "read {count} at {start}");
        }
        let zeroes = Io::write_zeroes(BlockRange::new(10, 2), false);
        assert_eq!(disk.submit(zeroes).await, Err(IoError::Medium));
        assert_eq!(disk.submit(Io::flush()).await, Ok(()));
    })
}

fn memory(block_size: u32, blocks: u64) -> Disk {
    Disk::new(Memory::new(Memory::geometry_of(block_size, 4096, 0, blocks)))
}

#[test]
fn memory_of_512_byte_blocks() {
    check("memory 512", Subject::leaf(|| memory(512, 501)));
}

#[test]
fn memory_of_4_kib_blocks() {
    check("memory 4096", Subject::leaf(|| memory(4096, 123)));
}

#[test]
fn null_shows_zeros() {
    check(
        "null",
        Subject::leaf(|| Disk::new(Null::new(Null::geometry_of(512, 4096, 1000)))).forgets(),
    );
}

#[test]
fn the_simulated_disk_itself() {
    check("sim", Subject::over(1, |sims| Disk::new(sims[0].clone())));
}

#[test]
fn a_view() {
    check(
        "view",
        Subject::over(1, |sims| {
            Disk::new(sims[0].clone()).view(3, 400).unwrap().view(5, 390).unwrap()
        }),
    );
}

fn linear(disks: &[Disk]) -> Disk {
    let view = |at: usize, base, blocks| disks[at].view(base, blocks).unwrap();
    Linear::build(&[
        view(0, 10, 100),
        view(1, 0, 37),
        view(0, 200, 300),
        view(2, 511, 1),
        view(1, 37, 90),
    ])
    .unwrap()
}

#[test]
fn linear_of_many_segments() {
    check("linear", Subject::over(3, |sims| linear(&disks(sims))));
}

#[test]
fn stripe_of_three() {
    check(
        "stripe",
        Subject::over(3, |sims| Stripe::build(&disks(sims), 8).unwrap()),
    );
}

#[test]
fn stripe_of_an_odd_chunk() {
    check(
        "stripe 7",
        Subject::over(2, |sims| Stripe::build(&disks(sims), 7).unwrap()).block_size(4096),
    );
}

#[test]
fn stripes_on_stripes_are_one_stripe() {
    let build = |sims: &[Sim]| {
        let pairs: Vec<Disk> = disks(sims)
            .chunks(2)
            .map(|pair| Stripe::build(pair, 4).unwrap())
            .collect();
        Stripe::build(&pairs, 4).unwrap()
    };
    check("stripe on stripes", Subject::over(6, build));
}

#[test]
fn delay_and_error_and_stats_change_nothing_by_themselves() {
    let us = Duration::from_micros;
    let delay = move |sims: &[Sim]| {
        let latencies = Latencies::new(us(3), us(40), us(5), us(90));
        Disk::new(Delay::new(Disk::new(sims[0].clone()), latencies))
    };
    check("delay", Subject::over(1, delay));
    check(
        "error",
        Subject::over(1, |sims| {
            Disk::new(Error::new(Disk::new(sims[0].clone()), Errors::default()))
        }),
    );
    check(
        "stats",
        Subject::over(1, |sims| {
            Disk::new(Stats::new(Disk::new(sims[0].clone()), Counters::default()))
        }),
    );
}

fn crypt(disk: Disk) -> Disk {
    let keys: Vec<u8> = (0..64).collect();
    Disk::new(Crypt::new(disk, Arc::new(Xts::new(&keys).unwrap())))
}

#[test]
fn crypt_of_512_byte_blocks() {
    check("crypt", Subject::over(1, |sims| crypt(Disk::new(sims[0].clone()))));
}

#[test]
fn crypt_of_4_kib_blocks_over_a_stripe() {
    let build = |sims: &[Sim]| crypt(Stripe::build(&disks(sims), 4).unwrap());
    check("crypt over a stripe", Subject::over(2, build).block_size(4096));
}

/// A partition of stats of a linear volume of stripes of gates of disks.
#[test]
fn a_tower() {
    let build = |sims: &[Sim]| {
        let gates: Vec<Disk> = disks(sims).into_iter().map(|disk| Gate::new(disk).disk()).collect();
        let (one, two) = gates.split_at(2);
        let stripes = [Stripe::build(one, 8).unwrap(), Stripe::build(two, 16).unwrap()];
        let pieces = [stripes[0].view(5, 200).unwrap(), stripes[1].view(0, 300).unwrap()];
        let stats = Disk::new(Stats::new(Linear::build(&pieces).unwrap(), Counters::default()));
        stats.view(7, 450).unwrap()
    };
    check("tower", Subject::over(4, build));
}

#[test]
fn nested_linear_is_one_table() {
    let build = |sims: &[Sim]| {
        let mut disk = linear(&disks(sims));
        for level in 1..8 {
            let (blocks, cut) = (disk.blocks(), 40 + level);
            let parts = [disk.view(cut, blocks - cut).unwrap(), disk.view(0, cut).unwrap()];
            disk = Linear::build(&parts).unwrap()
        }
        disk
    };
    check("8 levels of linear", Subject::over(3, build));
}

#[test]
fn impossible_tables_are_refused_in_words() {
    let plain = |block_size, blocks| Disk::new(Null::new(Geometry::plain(block_size, blocks)));
    let refused = |made: Result<Disk, String>| made.expect_err("refused");
    assert!(refused(Stripe::build(&[plain(512, 8), plain(4096, 8)], 4)).contains("must be equal"));
    assert!(refused(Stripe::build(&[plain(512, 8), plain(512, 3)], 4)).contains("less than one chunk"));
    assert!(refused(Stripe::build(&[plain(512, 8)], 0)).contains("chunk of 0"));
    assert!(refused(Stripe::build(&vec![plain(512, 8); 256], 4)).contains("more than 255"));
    assert!(refused(Linear::build(&[])).contains("at least one"));
}
