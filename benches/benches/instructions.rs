//! The same stacks in instructions, under callgrind: what CI gates on, since wall time on a shared machine swings by a fifth and
//! instruction counts do not swing at all. Each limit is for the whole of `IOS` reads, set-up included, and stands a few per cent above what was
//! measured when it was set; when a change needs more, raise it in the same commit and say why.
//!
//! valgrind knows no AVX-512, so what is dispatched by CPU takes its AVX2 path here.
use bdev::{Disk, leaf::null::Null, module::linear::Linear};
use benches::{AsyncLayer, MapLayer, drive, stacked};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use std::hint::black_box;

const IOS: u64 = 20_000;

fn null() -> Disk {
    Disk::new(Null::new(Null::geometry_of(512, 512, 1 << 30)))
}

fn linears(layers: usize) -> Disk {
    (0..layers).fold(null(), |below, _| {
        let half = below.blocks() / 2 / 8 * 8;
        let parts: Vec<_> = [below.view(half, half), below.view(0, half)]
            .into_iter()
            .flatten()
            .collect();
        Linear::build(&parts).expect("two halves of one disk make a linear")
    })
}

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

#[library_benchmark(config = limit(400))]
fn null_depth_32() -> u64 {
    reads(null)
}

#[library_benchmark(config = limit(450))]
fn one_map_layer() -> u64 {
    reads(|| stacked(null(), 1, MapLayer))
}

#[library_benchmark(config = limit(700))]
fn eight_map_layers() -> u64 {
    reads(|| stacked(null(), 8, MapLayer))
}

#[library_benchmark(config = limit(600))]
fn one_async_layer() -> u64 {
    reads(|| stacked(null(), 1, AsyncLayer))
}

#[library_benchmark(config = limit(2400))]
fn eight_async_layers() -> u64 {
    reads(|| stacked(null(), 8, AsyncLayer))
}

#[library_benchmark(config = limit(500))]
fn one_static_layer() -> u64 {
    reads(|| linears(1))
}

#[library_benchmark(config = limit(500))]
fn eight_static_layers() -> u64 {
    reads(|| linears(8))
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
        eight_static_layers
    ]
);
main!(library_benchmark_groups = stack);
