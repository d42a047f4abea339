//! A message to another core and its answer: the price of `Forward` without the device behind it. Both reactors spin, so this is
//! the ring and the wake, not the scheduler. And the wake of a reactor that sleeps, which is the kernel's doing: the bar is 50 µs.
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use reactor::{Config, Poll, Reactors, channel};
use std::time::{Duration, Instant};

/// `rounds` there and back, `depth` at a time.
fn round_trips(reactors: &Reactors, rounds: u64, depth: usize) -> Duration {
    let (to, from_here) = channel::bounded::<u64>(depth);
    let (back, from_there) = channel::bounded::<u64>(depth);
    let echo = reactors.call(1, move || async move {
        for _ in 0..rounds {
            let Some(n) = from_here.recv().await else { return };
            let _ = back.send(n).await;
        }
    });
    let took = reactors.call(0, move || async move {
        let start = Instant::now();
        let (mut sent, mut got) = (0, 0);
        while got < rounds {
            while sent < rounds && sent - got < depth as u64 {
                let _ = to.send(sent).await;
                sent += 1;
            }
            from_there.recv().await;
            got += 1;
        }
        start.elapsed()
    });
    let took = took.wait();
    echo.wait();
    took
}

/// From the ring of the bell to the task that was sent, of a reactor that has gone to sleep each time. As often the median: where others
/// want the CPU too, the mean is their doing.
fn wakes(reactors: &Reactors, rounds: u64) -> Duration {
    let one = |_| {
        std::thread::sleep(Duration::from_millis(1));
        let rung = Instant::now();
        reactors.call(0, move || async move { rung.elapsed() }).wait()
    };
    let mut all: Vec<_> = (0..rounds).map(one).collect();
    all.sort();
    all[all.len() / 2] * rounds as u32
}

fn wake(c: &mut Criterion) {
    // An adaptive reactor that sleeps wakes the same way; this one does not spin before it sleeps.
    let config = Config {
        poll: Poll::Interrupt,
        ..Config::default()
    };
    let reactors = Reactors::start(config).expect("a reactor");
    let mut group = c.benchmark_group("wake");
    group
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    group.bench_function("from_sleep", |b| b.iter_custom(|rounds| wakes(&reactors, rounds)));
    group.finish();
    reactors.stop();
}

fn cross_core(c: &mut Criterion) {
    let config = Config {
        count: 2,
        poll: Poll::Busy,
        ..Config::default()
    };
    let reactors = Reactors::start(config).expect("two reactors");
    let mut group = c.benchmark_group("cross_core");
    group
        .throughput(Throughput::Elements(1))
        .measurement_time(Duration::from_secs(3));
    for depth in [1, 32] {
        group.bench_function(format!("round_trip/depth/{depth}"), |b| {
            b.iter_custom(|rounds| round_trips(&reactors, rounds.max(depth as u64), depth))
        });
    }
    group.finish();
    reactors.stop();
}

criterion_group!(benches, cross_core, wake);
criterion_main!(benches);
