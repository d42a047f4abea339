//! What a layer costs. The bars: a null device at depth 32 ≤ 60 ns an I/O, a layer that answers by `map` ≤ 8 ns, an async layer
//! ≤ 35 ns, and 1 and 8 layers of static mapping within 3 % of each other. Compare within one run: machines drift.
use bdev::Disk;
use benches::{AsyncLayer, MapLayer, drive, linears, null, stacked};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};

fn at_depth(depth: usize, make: impl Fn() -> Disk + Copy) -> impl FnMut(u64) -> Duration {
    move |ios| {
        reactor::block_on(async {
            let disk = make();
            drive(&disk, depth, 4096).await;
            let ios = ios.next_multiple_of(depth as u64);
            let start = Instant::now();
            drive(&disk, depth, ios).await;
            start.elapsed()
        })
    }
}

fn stack(c: &mut Criterion) {
    let mut group = c.benchmark_group("stack");
    group.throughput(Throughput::Elements(1));
    group
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1));
    for depth in [1, 32, 128] {
        group.bench_function(BenchmarkId::new("null/depth", depth), |b| {
            b.iter_custom(at_depth(depth, null))
        });
    }
    for layers in [1, 4, 8] {
        let map = move || stacked(null(), layers, MapLayer);
        group.bench_function(BenchmarkId::new("map/layers", layers), |b| {
            b.iter_custom(at_depth(32, map))
        });
        let wait = move || stacked(null(), layers, AsyncLayer);
        group.bench_function(BenchmarkId::new("async/layers", layers), |b| {
            b.iter_custom(at_depth(32, wait))
        });
    }
    for layers in [1, 8] {
        let fixed = move || linears(layers);
        group.bench_function(BenchmarkId::new("static/layers", layers), |b| {
            b.iter_custom(at_depth(32, fixed))
        });
    }
    group.finish();
}

criterion_group!(benches, stack);
criterion_main!(benches);
