//! What iSCSI costs without a socket: one header in and one out (a ping), the device server alone, and a whole 4 KiB command. None
//! of it allocates (`tests/iscsi_warm.rs`).
#[path = "../rig/iscsi.rs"]
#[allow(dead_code)]
mod iscsi;

use bdev::Table;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use iscsi::{Host, transfer, volumes};
use spec::scsi::Cdb;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// What is measured.
#[derive(Clone, Copy)]
enum Work {
    Ping,
    TestUnitReady,
    DispatchRead,
    Io { write: bool },
}

/// How long `n` of it take on each of the cores, all at once.
fn time(cores: usize, name: &'static str, table: Table, work: Work, n: u64) -> Duration {
    let took = Host::tell_all(cores, name, table, move |mut host| async move {
        host.warm_up().await;
        let start = Instant::now();
        for i in 0..n {
            match work {
                Work::Ping => drop(black_box(host.ping())),
                Work::TestUnitReady => drop(black_box(host.execute(Cdb([0; 16])).await)),
                Work::DispatchRead => drop(black_box(host.execute(transfer(false, i as u32)).await)),
                Work::Io { write } => drop(black_box(host.io(write).await)),
            }
        }
        start.elapsed()
    });
    took.into_iter().max().unwrap_or_default()
}

fn all(c: &mut Criterion) {
    let mut group = c.benchmark_group("iscsi");
    group.throughput(Throughput::Elements(1));
    group
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1));
    let works = [
        ("ping", Work::Ping),
        ("test unit ready", Work::TestUnitReady),
        ("dispatch a read", Work::DispatchRead),
        ("read 4 KiB", Work::Io { write: false }),
        ("write 4 KiB", Work::Io { write: true }),
    ];
    for (what, work) in works {
        for (name, table) in volumes() {
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter_custom(|n| time(1, name, table.clone(), work, n))
            });
        }
    }
    // One unit, a session on each core: nothing is shared per command, so two cores do nearly twice as much as one.
    let [_, (name, table)] = volumes();
    for cores in [1, 2] {
        group.throughput(Throughput::Elements(cores as u64));
        group.bench_function(BenchmarkId::new("cores", cores), |b| {
            b.iter_custom(|n| time(cores, name, table.clone(), Work::Io { write: false }, n))
        });
    }
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
