//! Parity of stripes, in bytes of data read a second: XOR, P and Q, two members back from them. The bar is ISA-L's `xor_gen` and `pq_gen`.
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reactor::{
    Buf,
    parity::{Lost, Stripe},
};

fn parity(c: &mut Criterion) {
    for (members, len) in [(4, 4 << 10), (8, 4 << 10), (4, 64 << 10), (8, 64 << 10)] {
        let data: Vec<Buf> = (0..members as u8)
            .map(|n| Buf::from_slice(&vec![n * 7 + 1; len]))
            .collect();
        let (p, q) = (Buf::alloc(len), Buf::alloc(len));
        let both = Stripe {
            data: &data,
            p: Some(&p),
            q: Some(&q),
        };
        both.generate();
        let mut group = c.benchmark_group("parity");
        group.throughput(Throughput::Bytes((members * len) as u64));
        let shape = format!("{members}x{}K", len >> 10);
        let xor = Stripe { q: None, ..both };
        group.bench_function(BenchmarkId::new("xor", &shape), |b| b.iter(|| xor.generate()));
        group.bench_function(BenchmarkId::new("pq", &shape), |b| b.iter(|| both.generate()));
        group.bench_function(BenchmarkId::new("two_back", &shape), |b| {
            b.iter(|| both.recover(Lost::Two(0, 2)))
        });
        group.bench_function(BenchmarkId::new("check", &shape), |b| b.iter(|| both.check(0)));
        group.finish();
    }
}

criterion_group!(benches, parity);
criterion_main!(benches);
