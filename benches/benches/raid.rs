//! Arrays: whole stripes written, beside nothing but their sums; small reads through every level, beside a bare member that is a real leaf; members compared.
//!
//! The bar for reads: 10 % over a bare member. The file lies in memory, so that nothing but the processor's time counts: no real leaf is faster, and slower
//! ones hide the array's share better.
use bdev::{
    Disk, Io,
    leaf::{file::File, memory::Memory, null::Null},
    module::{raid::Command, stripe::Stripe},
    raid::Shape,
    table::Direct,
};
use benches::{array_of, drive};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reactor::{Buf, parity};
use spec::BlockRange;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const CHUNK: u32 = 128;
const MIB: u64 = 1 << 20;

fn nulls(count: usize) -> Vec<Disk> {
    let null = || Disk::new(Null::new(Null::geometry_of(512, 512, 1 << 20)));
    (0..count).map(|_| null()).collect()
}

fn memories(count: usize) -> Vec<Disk> {
    let memory = || Disk::new(Memory::new(Memory::geometry_of(512, 4096, 0, 128 * MIB / 512)));
    (0..count).map(|_| memory()).collect()
}

/// Files in memory that are gone when this is dropped.
struct Files(Vec<PathBuf>);

impl Files {
    fn new(count: usize) -> Self {
        let path = |at| PathBuf::from(format!("/dev/shm/ashlar-bench-{}-{at}", std::process::id()));
        let files: Vec<_> = (0..count).map(path).collect();
        for file in &files {
            std::fs::write(file, vec![1; 64 * MIB as usize]).expect("room in /dev/shm");
        }
        Self(files)
    }

    fn disks(&self) -> Vec<Disk> {
        let open =
            |path: &PathBuf| Disk::new(File::open(path, Some(512), false, None, Direct::Auto).expect("our file"));
        self.0.iter().map(open).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.0.iter().for_each(|file| {
            let _ = std::fs::remove_file(file);
        })
    }
}

fn raid_5() -> Shape {
    Shape::Raid5 {
        layout: 2,
        chunk: CHUNK,
    }
}

fn raid_6() -> Shape {
    Shape::Raid6 {
        layout: 2,
        chunk: CHUNK,
    }
}

/// Whole stripes of four chunks of 64 KiB, one after the other.
fn full_stripes(c: &mut Criterion) {
    let (data, len) = (4, CHUNK as usize * 512);
    let mut group = c.benchmark_group("raid/full_stripe");
    group.throughput(Throughput::Bytes((data * len) as u64));
    let strips: Vec<Buf> = (0..data as u8)
        .map(|n| Buf::from_slice(&vec![n * 7 + 1; len]))
        .collect();
    let (p, q) = (Buf::alloc(len), Buf::alloc(len));
    let both = parity::Stripe {
        data: &strips,
        p: Some(&p),
        q: Some(&q),
    };
    let xor = parity::Stripe { q: None, ..both };
    group.bench_function("sums/xor", |b| b.iter(|| xor.generate()));
    group.bench_function("sums/pq", |b| b.iter(|| both.generate()));
    for (name, shape, members) in [("raid5", raid_5(), 5), ("raid6", raid_6(), 6)] {
        for (kind, make) in [("null", nulls as fn(usize) -> Vec<Disk>), ("memory", memories)] {
            group.bench_function(BenchmarkId::new(name, kind), |b| {
                b.iter_custom(|stripes| {
                    reactor::block_on(async {
                        let (_, disk) = array_of(shape, make(members));
                        let wide = CHUNK * data as u32;
                        let all = disk.blocks() / u64::from(wide);
                        let buf = Buf::from_slice(&vec![7; data * len]);
                        let write = async |at: u64| {
                            let range = BlockRange::new(at % all * u64::from(wide), wide);
                            disk.perform(Io::write(range, buf.clone()))
                                .await
                                .expect("within the array")
                        };
                        for at in 0..all.min(200) {
                            write(at).await
                        }
                        let start = Instant::now();
                        for at in 0..stripes {
                            write(at).await
                        }
                        start.elapsed()
                    })
                })
            });
        }
    }
    group.finish()
}

/// 4 KiB at random addresses, 32 at a time.
fn reads(c: &mut Criterion) {
    let files = Files::new(5);
    let mut group = c.benchmark_group("raid/read_4k");
    group.throughput(Throughput::Elements(1));
    type Make = fn(Vec<Disk>) -> Disk;
    let makes: [(&str, usize, Make); 5] = [
        ("bare", 1, |mut disks| disks.remove(0)),
        ("raid0", 4, |disks| Stripe::build(&disks, CHUNK).expect("a stripe")),
        ("raid1", 2, |disks| array_of(Shape::Raid1, disks).1),
        ("raid5", 4, |disks| array_of(raid_5(), disks).1),
        ("raid6", 5, |disks| array_of(raid_6(), disks).1),
    ];
    for (name, members, make) in makes {
        group.bench_function(name, |b| {
            b.iter_custom(|ios| {
                reactor::block_on(async {
                    let mut disks = files.disks();
                    disks.truncate(members);
                    let disk = make(disks);
                    drive(&disk, 32, 4096).await;
                    let ios = ios.next_multiple_of(32);
                    let start = Instant::now();
                    drive(&disk, 32, ios).await;
                    start.elapsed()
                })
            })
        });
    }
    group.finish()
}

/// A check of all members, in bytes of data.
fn checks(c: &mut Criterion) {
    let mut group = c.benchmark_group("raid/check");
    group.sample_size(10);
    for (name, shape, members) in [
        ("raid1", Shape::Raid1, 2),
        ("raid5", raid_5(), 5),
        ("raid6", raid_6(), 6),
    ] {
        let bytes = |disk: &Disk| disk.blocks() * 512;
        let length = reactor::block_on(async { bytes(&array_of(shape, memories(members)).1) });
        group.throughput(Throughput::Bytes(length));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                reactor::block_on(async {
                    let (array, disk) = array_of(shape, memories(members));
                    let mut took = Duration::ZERO;
                    for _ in 0..rounds {
                        let start = Instant::now();
                        array
                            .command(Command::Scrub { repair: false, from: 0 })
                            .await
                            .expect("a check");
                        for begun in [false, true] {
                            while array.report().progress.is_some() == begun {
                                reactor::yield_now().await
                            }
                        }
                        took += start.elapsed()
                    }
                    drop(disk);
                    took
                })
            })
        });
    }
    group.finish()
}

criterion_group!(benches, full_stripes, reads, checks);
criterion_main!(benches);
