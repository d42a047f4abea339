//! The same stacks in instructions, under callgrind: what CI gates on, since wall time on a shared machine swings by a fifth and
//! instruction counts do not swing at all. Each limit is for the whole of `IOS` reads, set-up included, and stands a few per cent above what was
//! measured when it was set; when a change needs more, raise it in the same commit and say why.
//!
//! valgrind knows no AVX-512, so what is dispatched by CPU takes its AVX2 path here.
#![allow(missing_docs)] // gungraun's macros make modules and constants of their own

use bdev::{Disk, raid::Shape};
use benches::{AsyncLayer, MapLayer, array, drive, linears, null, stacked};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use std::hint::black_box;

const IOS: u64 = 20_000;

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
#[library_benchmark(config = limit(645))]
fn reads_of_a_raid_5() -> u64 {
    reads(|| array(Shape::Raid5 { layout: 2, chunk: 128 }, 4))
}

#[library_benchmark(config = limit(740))]
fn reads_of_a_mirror() -> u64 {
    reads(|| array(Shape::Raid1, 2))
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
        reads_of_a_mirror
    ]
);
main!(library_benchmark_groups = stack);
