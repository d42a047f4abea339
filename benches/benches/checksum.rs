//! CRC-32C of headers, blocks and bursts: iSCSI and NVMe/TCP digests. The bar is 10 GB/s where the CPU can.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn crc32c(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..128 * 1024u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut group = c.benchmark_group("crc32c");
    for len in [48, 72, 512, 4096, 128 * 1024] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &bytes[..len], |b, bytes| {
            b.iter(|| reactor::crc32c(black_box(bytes)))
        });
    }
    group.finish();
}

criterion_group!(benches, crc32c);
criterion_main!(benches);
