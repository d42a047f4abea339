//! What arrays read and write of their members is what the textbook says, block by block: no more, and no less.
//!
//! In each row of a stripe in which `w` of `d` chunks are written and `p` sums are kept, the cheapest of
//!
//! ```text
//!   modify    w + p reads, if the old data of what is written and the sums can be read
//!   rebuild   d - w reads, if the data that stay can be read
//!   recover   d reads, with sums in place of what is lost
//! ```
//!
//! and as many writes as there are members that hold what is written, and sums of it.
use bdev::{
    Disk, Io, Op,
    leaf::sim::Sim,
    module::raid::{self, Array, Command, Plan, Seat},
    raid::{MemberState, Parts, Places, Shape},
};
use reactor::{Buf, testing::Rng};
use spec::{BlockRange, md::parity::Parity};
use std::{cell::Cell, collections::BTreeSet, rc::Rc};

const CHUNK: u32 = 8;
const STRIPES: u64 = 6;

/// Blocks that members were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Blocks {
    read: u64,
    written: u64,
}

/// An array whose members count.
struct Counted {
    array: Array,
    disk: Disk,
    places: Places,
    seen: Rc<Cell<Blocks>>,
}

impl Counted {
    fn new(shape: Shape, members: usize) -> Counted {
        let used = u64::from(CHUNK) * STRIPES;
        let sims: Vec<Sim> = (0..members as u64).map(|seed| Sim::able(512, used, seed)).collect();
        let seen = Rc::new(Cell::new(Blocks::default()));
        for sim in &sims {
            sim.set_latency_us(0);
            let seen = seen.clone();
            sim.watch(move |io| {
                let (mut all, count) = (seen.get(), u64::from(io.range.count));
                match io.op {
                    Op::Read => all.read += count,
                    Op::Write | Op::Unmap | Op::WriteZeroes { .. } => all.written += count,
                    Op::Flush | Op::Allocation => (),
                }
                seen.set(all)
            })
        }
        let disks: Vec<Disk> = sims.into_iter().map(Disk::new).collect();
        let seat = Seat {
            state: MemberState::InSync,
            write_mostly: false,
            bad: Vec::new(),
            superblock: None,
        };
        let plan = Plan {
            name: "md0".into(),
            shape,
            used,
            members: vec![Some(seat); members],
            replacements: Vec::new(),
            bitmap: None,
            differs: Vec::new(),
            noted: Vec::new(),
            replay: false,
            read_only: false,
        };
        let geometries: Vec<_> = disks.iter().map(|disk| Some(disk.geometry())).collect();
        let geometry = raid::geometry(shape, &geometries, &[], used).expect("a shape");
        let whole = |disk: Disk| Parts {
            data: disk.clone(),
            whole: disk,
        };
        let parts: Vec<_> = disks.into_iter().map(|disk| Some(whole(disk))).collect();
        let array = Array::new(plan, parts.clone(), geometry.block_size).expect("an array");
        let disk = array.device(parts, geometry);
        let places = shape.places(members, used).expect("places");
        Counted {
            array,
            disk,
            places,
            seen,
        }
    }

    async fn cost(&self, io: Io) -> Blocks {
        self.seen.set(Blocks::default());
        assert_eq!(self.disk.perform(io).await, Ok(()));
        self.seen.get()
    }
}

fn write(range: BlockRange) -> Io {
    Io::write(range, Buf::zeroed(range.count as usize * 512))
}

fn read(range: BlockRange) -> Io {
    Io::read(range, Buf::alloc(range.count as usize * 512))
}

/// What a write may cost with these members lost.
fn textbook(parity: &Parity, range: BlockRange, lost: &[u16]) -> Blocks {
    let (chunk, data) = (u64::from(CHUNK), u64::from(parity.data()));
    let is_lost = |member: u16| lost.contains(&member);
    let mut all = Blocks::default();
    let end = range.start.0 + u64::from(range.count);
    for stripe in range.start.0 / (chunk * data)..end.div_ceil(chunk * data) {
        let row = parity.row(stripe);
        let sums = [Some(row.p), row.q]
            .into_iter()
            .flatten()
            .filter(|sum| !is_lost(*sum))
            .count() as u64;
        for within in 0..chunk {
            let block = |n: u64| (stripe * data + n) * chunk + within;
            let (written, stay): (Vec<u64>, Vec<u64>) =
                (0..data).partition(|n| (range.start.0..end).contains(&block(*n)));
            if written.is_empty() {
                continue;
            }
            let there = |all: &[u64]| all.iter().filter(|n| !is_lost(row.member(**n as u16))).count() as u64;
            all.written += there(&written) + sums;
            if sums == 0 {
                continue;
            }
            let (w, s) = (written.len() as u64, stay.len() as u64);
            let modify = (there(&written) == w).then_some(w + sums);
            let rebuild = (there(&stay) == s).then_some(s);
            let recover = (there(&written) + there(&stay) < data).then_some(data);
            all.read += [modify, rebuild, recover].into_iter().flatten().min().expect("a way")
        }
    }
    all
}

/// What a read costs.
fn cheapest_read(parity: &Parity, range: BlockRange, lost: &[u16]) -> Blocks {
    let mut read = 0;
    // In pieces of a chunk each: a piece that is lost is made of all others.
    for piece in range.chunks(CHUNK) {
        let place = parity.place(piece.start.0);
        let each = if lost.contains(&place.member) {
            u64::from(parity.data())
        } else {
            1
        };
        read += each * u64::from(piece.count)
    }
    Blocks { read, written: 0 }
}

async fn parity_costs(name: &str, shape: Shape, members: usize, lost: &[u16]) {
    let counted = Counted::new(shape, members);
    for member in lost {
        counted
            .array
            .command(Command::Fail(*member))
            .await
            .expect("it can do without")
    }
    let Places::Parity { parity, .. } = counted.places else {
        panic!("no parity")
    };
    let wide = u64::from(CHUNK) * u64::from(parity.data());
    let mut rng = Rng::new(7);
    let check = async |range: BlockRange| {
        let what = format!("{name} without {lost:?}, {range:?}");
        assert_eq!(
            counted.cost(write(range)).await,
            textbook(&parity, range, lost),
            "{what}: a write"
        );
        let once = counted.cost(write(range).fua()).await;
        assert_eq!(
            once,
            textbook(&parity, range, lost),
            "{what}: a write through the caches"
        );
        assert_eq!(
            counted.cost(read(range)).await,
            cheapest_read(&parity, range, lost),
            "{what}: a read"
        );
    };
    // Whole chunks and halves in every row of parity, and whatever comes.
    for stripe in 0..STRIPES {
        for start in (0..wide).step_by(4) {
            for count in (4..=wide - start).step_by(4) {
                check(BlockRange::new(stripe * wide + start, count as u32)).await
            }
        }
    }
    for _ in 0..300 {
        let start = rng.below(STRIPES * wide);
        let count = 1 + rng.below((STRIPES * wide - start).min(3 * wide));
        check(BlockRange::new(start, count as u32)).await
    }
    // Zeroes: whole stripes without a look at what is there, the rest as writes.
    for _ in 0..100 {
        let start = rng.below(STRIPES * wide);
        let count = 1 + rng.below(STRIPES * wide - start);
        let range = BlockRange::new(start, count as u32);
        let seen = counted.cost(Io::write_zeroes(range, false)).await;
        let most = textbook(&parity, range, lost);
        assert_eq!(seen, most, "{name} without {lost:?}, {range:?}: zeroes")
    }
}

/// Members to lose: none, each, and each pair if it can be borne.
fn losses(members: u16, most: usize) -> BTreeSet<Vec<u16>> {
    let mut all = BTreeSet::from([vec![]]);
    for one in 0..members {
        all.insert(vec![one]);
        all.extend((one + 1..members).filter(|_| most > 1).map(|two| vec![one, two]))
    }
    all
}

fn check_parity(name: &str, shape: Shape, members: usize, sums: usize) {
    for lost in losses(members as u16, sums) {
        reactor::sim::run(async { parity_costs(name, shape, members, &lost).await })
    }
}

#[test]
fn raid_4_reads_and_writes_by_the_textbook() {
    check_parity("raid4", Shape::Raid4 { chunk: CHUNK }, 5, 1)
}

#[test]
fn raid_5_reads_and_writes_by_the_textbook() {
    let shape = Shape::Raid5 {
        layout: 2,
        chunk: CHUNK,
    };
    check_parity("raid5 of 3", shape, 3, 1);
    check_parity("raid5 of 5", shape, 5, 1)
}

#[test]
fn raid_6_reads_and_writes_by_the_textbook() {
    for (layout, members) in [(2, 4), (2, 6), (10, 5), (18, 5)] {
        let shape = Shape::Raid6 { layout, chunk: CHUNK };
        check_parity(&format!("raid6 {layout} of {members}"), shape, members, 2)
    }
}

#[test]
fn mirrors_write_each_copy_once_and_read_one() {
    let shapes = [
        ("raid1", Shape::Raid1, 3, 3),
        (
            "near 2",
            Shape::Raid10 {
                layout: 0x102,
                chunk: CHUNK,
            },
            4,
            2,
        ),
        (
            "far 2",
            Shape::Raid10 {
                layout: 0x201,
                chunk: CHUNK,
            },
            4,
            2,
        ),
        (
            "offset 2",
            Shape::Raid10 {
                layout: 0x1_0201,
                chunk: CHUNK,
            },
            3,
            2,
        ),
    ];
    for (name, shape, members, copies) in shapes {
        reactor::sim::run(async {
            let counted = Counted::new(shape, members);
            let mut rng = Rng::new(3);
            for lost in [None, Some(1)] {
                if let Some(lost) = lost {
                    counted
                        .array
                        .command(Command::Fail(lost))
                        .await
                        .expect("a copy is left")
                }
                for _ in 0..200 {
                    let start = rng.below(counted.disk.blocks());
                    let count = 1 + rng.below(counted.disk.blocks() - start);
                    let range = BlockRange::new(start, count as u32);
                    let held = |block: u64| match &counted.places {
                        Places::Raid10(raid10) => {
                            raid10.places(block).filter(|place| Some(place.member) != lost).count()
                        }
                        _ => copies - usize::from(lost.is_some()),
                    };
                    let written: usize = (start..start + count).map(held).sum();
                    let all = Blocks {
                        read: 0,
                        written: written as u64,
                    };
                    let what = format!("{name} without {lost:?}, {range:?}");
                    for io in [
                        write(range),
                        write(range).fua(),
                        Io::write_zeroes(range, false),
                        Io::unmap(range),
                    ] {
                        assert_eq!(counted.cost(io.clone()).await, all, "{what}: {:?}", io.op)
                    }
                    let once = Blocks {
                        read: count,
                        written: 0,
                    };
                    assert_eq!(counted.cost(read(range)).await, once, "{what}: a read")
                }
            }
        })
    }
}
