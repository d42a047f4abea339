//! The same stacks in instructions, under callgrind: what CI gates on, since wall time on a shared machine swings by a fifth and
//! instruction counts do not swing at all. Each limit is for the whole of `IOS` reads, set-up included, and stands a few per cent above what was
//! measured when it was set; when a change needs more, raise it in the same commit and say why.
//!
//! valgrind knows no AVX-512, so what is dispatched by CPU takes its AVX2 path here.
#![allow(missing_docs)] // gungraun's macros make modules and constants of their own

use bdev::{Disk, leaf::file::File, module::stripe::Stripe, raid::Shape, table::Direct};
use benches::{AsyncLayer, MapLayer, array, array_of, drive, linears, null, stacked};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use std::hint::black_box;

const IOS: u64 = 20_000;
/// Instructions for a read of a file.
const BARE: u64 = 1_600;

fn reads(make: impl FnOnce() -> Disk) -> u64 {
    reactor::block_on(async {
        drive(&make(), 32, black_box(IOS)).await;
        IOS
    })
}

fn limit(instructions_each: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, IOS * instructions_each)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

#[library_benchmark(config = limit(425))]
fn null_depth_32() -> u64 {
    reads(null)
}

#[library_benchmark(config = limit(449))]
fn one_map_layer() -> u64 {
    reads(|| stacked(null(), 1, MapLayer))
}

#[library_benchmark(config = limit(617))]
fn eight_map_layers() -> u64 {
    reads(|| stacked(null(), 8, MapLayer))
}

#[library_benchmark(config = limit(634))]
fn one_async_layer() -> u64 {
    reads(|| stacked(null(), 1, AsyncLayer))
}

#[library_benchmark(config = limit(2033))]
fn eight_async_layers() -> u64 {
    reads(|| stacked(null(), 8, AsyncLayer))
}

#[library_benchmark(config = limit(538))]
fn one_static_layer() -> u64 {
    reads(|| linears(1))
}

#[library_benchmark(config = limit(551))]
fn eight_static_layers() -> u64 {
    reads(|| linears(8))
}

// A healthy array maps: what it costs is to know where the block is.
#[library_benchmark(config = limit(565))]
fn reads_of_a_raid_5() -> u64 {
    reads(|| array(Shape::Raid5 { layout: 2, chunk: 128 }, 4))
}

#[library_benchmark(config = limit(570))]
fn reads_of_a_mirror() -> u64 {
    reads(|| array(Shape::Raid1, 2))
}

/// Files that are gone when the bench is over: whoever has them open keeps them.
fn files(count: usize) -> Vec<Disk> {
    let open = |at: usize| {
        let path = std::env::temp_dir().join(format!("ashlar-instructions-{}-{at}", std::process::id()));
        let file = File::open(&path, Some(512), false, Some(64 << 20), Direct::Never).expect("a file");
        std::fs::remove_file(&path).expect("our file");
        Disk::new(file)
    };
    (0..count).map(open).collect()
}

// What a member costs that is a real disk, and then what arrays of such members cost: a tenth more at most.
#[library_benchmark(config = limit(BARE))]
fn reads_of_a_file() -> u64 {
    reads(|| files(1).remove(0))
}

#[library_benchmark(config = limit(BARE * 11 / 10))]
fn reads_of_a_stripe_of_files() -> u64 {
    reads(|| Stripe::build(&files(4), 128).expect("a stripe"))
}

#[library_benchmark(config = limit(BARE * 11 / 10))]
fn reads_of_a_mirror_of_files() -> u64 {
    reads(|| array_of(Shape::Raid1, files(2)).1)
}

#[library_benchmark(config = limit(BARE * 11 / 10))]
fn reads_of_a_raid_5_of_files() -> u64 {
    reads(|| array_of(Shape::Raid5 { layout: 2, chunk: 128 }, files(4)).1)
}

library_benchmark_group!(
    name = stack,
    benchmarks = [
        null_depth_32,
        one_map_layer,
        eight_map_layers,
        one_async_layer,
        eight_async_layers,
        one_static_layer,
        eight_static_layers,
        reads_of_a_raid_5,
        reads_of_a_mirror,
        reads_of_a_file,
        reads_of_a_stripe_of_files,
        reads_of_a_mirror_of_files,
        reads_of_a_raid_5_of_files
    ]
);
main!(library_benchmark_groups = stack);
