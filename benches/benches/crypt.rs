//! AES-XTS of blocks: one page in blocks of 512 bytes and of 4 KiB, and a burst.
use bdev::xts::Xts;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn xts(c: &mut Criterion) {
    let mut group = c.benchmark_group("xts");
    let from: Vec<u8> = (0..128 * 1024u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut to = vec![0; from.len()];
    for bits in [128, 256] {
        let xts = Xts::new(&(0..bits / 4).map(|i| i as u8).collect::<Vec<u8>>()).expect("a key");
        for (len, block_size) in [(512, 512), (4096, 512), (4096, 4096), (128 * 1024, 4096)] {
            group.throughput(Throughput::Bytes(len as u64));
            let name =
                |what: &str| BenchmarkId::new(format!("{what}/aes-{bits}"), format!("{len} in blocks of {block_size}"));
            group.bench_function(name("encrypt"), |b| {
                b.iter(|| {
                    xts.from(black_box(7), block_size)
                        .encrypt_into(black_box(&from[..len]), &mut to[..len])
                })
            });
            group.bench_function(name("decrypt"), |b| {
                b.iter(|| {
                    xts.from(black_box(7), block_size)
                        .decrypt_into(black_box(&from[..len]), &mut to[..len])
                })
            });
        }
    }
    group.finish();
}

criterion_group!(benches, xts);
criterion_main!(benches);
