//! What every device and module has to pass. Test equipment: its verdict is a panic that names the device, the step and the seed.
//!
//! A [`Subject`] says how to build the device over some simulated disks (none for a leaf). Each check builds it anew, so all
//! of them start from the same state. Run it inside a reactor; with simulated time it takes no time.
//!
//! ```
//! use bdev::{Disk, conformance::Subject, leaf::sim::Sim, module::stripe::Stripe};
//! let stripe = Subject::over(3, |sims| {
//!     let members: Vec<Disk> = sims.iter().cloned().map(Disk::new).collect();
//!     Stripe::build(&members, 4).unwrap()
//! });
//! reactor::sim::run(stripe.check("stripe", 7));
//! ```
use crate::{Disk, Io, IoError, Op, gate::Gate, leaf::sim::Sim};
use reactor::{Buf, testing::Rng};
use spec::{BlockRange, Lba};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::Poll,
};

/// Builds the device over its disks.
type Build = dyn Fn(&[Sim]) -> Disk;

/// A device or module, and what may be expected of it.
#[derive(Clone)]
pub struct Subject {
    build: Rc<Build>,
    sims: usize,
    block_size: u32,
    blocks: u64,
    forgets: bool,
    mends: bool,
    alike: bool,
    zeroed: bool,
}

impl Subject {
    /// A leaf: nothing below.
    pub fn leaf(build: impl Fn() -> Disk + 'static) -> Self {
        Self::over(0, move |_| build())
    }

    /// A module over `sims` disks of 512 blocks of 512 bytes.
    pub fn over(sims: usize, build: impl Fn(&[Sim]) -> Disk + 'static) -> Self {
        Self {
            build: Rc::new(build),
            sims,
            block_size: 512,
            blocks: 512,
            forgets: false,
            mends: false,
            alike: false,
            zeroed: false,
        }
    }

    /// The disks below have blocks of this size.
    pub fn block_size(self, block_size: u32) -> Self {
        Self { block_size, ..self }
    }

    /// What is written is not kept: reads give zeros.
    pub fn forgets(self) -> Self {
        Self { forgets: true, ..self }
    }

    /// It can do without any one of its disks.
    pub fn mends(self) -> Self {
        Self { mends: true, ..self }
    }

    /// Its disks hold the same, as mirrors do: so they do from the start.
    pub fn alike(self) -> Self {
        Self { alike: true, ..self }
    }

    /// Its disks hold the same in other places than each other: they start as zeros.
    pub fn zeroed(self) -> Self {
        Self { zeroed: true, ..self }
    }

    fn rig(&self, seed: u64) -> (Vec<Sim>, Disk) {
        let sims: Vec<Sim> = (0..self.sims)
            .map(|at| Sim::able(self.block_size, self.blocks, seed + at as u64))
            .collect();
        let disk = (self.build)(&sims);
        (sims, disk)
    }

    /// All checks. Panics if the device fails one.
    pub async fn check(self, name: &str, seed: u64) {
        println!("conformance of {name}, seed {seed}");
        self.bounds(name, seed).await;
        if self.forgets {
            return self.zeros(name, seed).await;
        }
        self.map_is_submit(name, seed).await;
        self.model(name, seed).await;
        self.replaced_under_load(name, seed).await;
        if self.sims > 0 {
            self.durability(name, seed).await;
            self.errors(name, seed).await
        }
    }

    /// What does not fit is refused before anybody sees it; what is empty is no error.
    async fn bounds(&self, name: &str, seed: u64) {
        let (sims, disk) = self.rig(seed);
        let (blocks, size) = (disk.blocks(), disk.block_size() as usize);
        disk.geometry()
            .check()
            .unwrap_or_else(|why| panic!("{name}: an impossible geometry: {why}"));
        let read = |start, count: u32| {
            disk.submit(Io::read(
                BlockRange::new(start, count),
                Buf::alloc(count as usize * size),
            ))
        };
        assert_eq!(read(blocks - 1, 1).await, Ok(()), "{name}: its last block");
        for (start, count) in [
            (blocks, 1),
            (blocks - 1, 2),
            (u64::MAX, 1),
            (u64::MAX - 1, 1),
            (blocks + 1, 0),
        ] {
            assert_eq!(
                read(start, count).await,
                Err(IoError::OutOfRange),
                "{name}: {count} blocks from {start}"
            );
        }
        assert_eq!(read(blocks, 0).await, Ok(()), "{name}: nothing, at the end");
        let before: u64 = sims.iter().map(Sim::ios).sum();
        let short = Io::write(BlockRange::new(0, 2), Buf::alloc(size));
        assert_eq!(
            disk.submit(short).await,
            Err(IoError::Misaligned),
            "{name}: data shorter than the range"
        );
        for op in [
            Io::unmap(BlockRange::new(blocks, 1)),
            Io::write_zeroes(BlockRange::new(blocks - 1, 2), false),
        ] {
            assert_eq!(disk.submit(op).await, Err(IoError::OutOfRange), "{name}");
        }
        assert_eq!(
            sims.iter().map(Sim::ios).sum::<u64>(),
            before,
            "{name}: a refused I/O reached a disk"
        );
        assert_eq!(
            disk.submit(Io::write_zeroes(BlockRange::new(0, 0), true)).await,
            Ok(()),
            "{name}"
        );
        assert_eq!(disk.flush().await, Ok(()), "{name}");
    }

    async fn zeros(&self, name: &str, seed: u64) {
        let (_, disk) = self.rig(seed);
        let mut rng = Rng::new(seed);
        for _ in 0..200 {
            let range = some_range(&mut rng, disk.blocks(), 40);
            let data = Buf::from_slice(&rng.bytes(range.count as usize * disk.block_size() as usize));
            let io = if rng.below(2) == 0 {
                Io::write(range, data.clone())
            } else {
                Io::read(range, data.clone())
            };
            let (op, careful) = (io.op, rng.below(2) == 0);
            assert_eq!(disk.submit(Io { careful, ..io }).await, Ok(()), "{name}");
            assert!(
                op != Op::Read || data.is_zero(),
                "{name}: a read of {range:?} shows what is not its business"
            );
        }
    }

    /// Two devices from one seed: one is asked as usual, in the other nobody may map. They must come to the same.
    async fn map_is_submit(&self, name: &str, seed: u64) {
        let ((fast_sims, fast), (slow_sims, slow)) = (self.rig(seed), self.rig(seed));
        let mut rng = Rng::new(seed);
        // No disk starts as zeros, or a mistake in an address of what is only ever read would not show.
        let mut rubbish = Vec::new();
        for (one, two) in fast_sims.iter().zip(&slow_sims) {
            if rubbish.is_empty() || !self.alike {
                rubbish = rng.bytes(one.bytes().len())
            }
            if self.zeroed {
                rubbish.fill(0)
            }
            one.store(0, &rubbish);
            two.store(0, &rubbish)
        }
        let whole = BlockRange::new(0, fast.blocks() as u32);
        let all = Buf::alloc(fast.geometry().bytes() as usize);
        assert_eq!(
            slow.submit(Io::read(whole, all.clone()).careful()).await,
            Ok(()),
            "{name}"
        );
        let mut model = Model::new(&slow, all.to_vec());
        for round in 0..600 {
            let op = model.draw(&mut rng, whole, 40);
            for (disk, careful) in [(&fast, false), (&slow, true)] {
                let io = model.io(&op);
                let data = io.data.clone();
                let done = disk.submit(Io { careful, ..io }).await;
                assert_eq!(
                    done,
                    Ok(()),
                    "{name}: round {round}, {op:?}, careful {careful}, seed {seed}"
                );
                if op.op == Op::Read {
                    let what = format!("{name}: round {round}, {op:?}, careful {careful}, seed {seed}");
                    model.compare(op.range, &data.to_vec(), &what)
                }
            }
            model.apply(&op)
        }
        for (at, (one, two)) in fast_sims.iter().zip(&slow_sims).enumerate() {
            assert!(one.bytes() == two.bytes(), "{name}: disk {at} differs, seed {seed}")
        }
    }

    /// Several at once, each in an area of its own, against a flat model of it.
    async fn model(&self, name: &str, seed: u64) {
        let (_, disk) = self.rig(seed);
        let workers = areas(&disk).into_iter().zip(0..).map(|(area, id)| {
            let (disk, name) = (disk.clone(), name.to_owned());
            Box::pin(async move {
                let mut rng = Rng::new(seed * 100 + id);
                let mut model = Model::zeros(&disk);
                model.clear(&disk, area).await;
                for round in 0..150 {
                    model
                        .step(
                            &disk,
                            &mut rng,
                            area,
                            &format!("{name}: worker {id}, round {round}, seed {seed}"),
                        )
                        .await
                }
            })
        });
        all(workers.collect()).await
    }

    /// The device is suspended, built anew and resumed under load; nothing is lost and nothing passes meanwhile.
    async fn replaced_under_load(&self, name: &str, seed: u64) {
        let (sims, disk) = self.rig(seed);
        let gate = Gate::new(disk.clone());
        let top = gate.disk();
        let left = Rc::new(Cell::new(0));
        let workers = areas(&disk).into_iter().zip(0..).map(|(area, id)| {
            let (disk, name, left) = (top.clone(), name.to_owned(), left.clone());
            left.set(left.get() + 1);
            Box::pin(async move {
                let mut rng = Rng::new(seed * 1000 + id);
                let mut model = Model::zeros(&disk);
                model.clear(&disk, area).await;
                for round in 0..150 {
                    let what = format!("{name}: replaced, worker {id}, round {round}, seed {seed}");
                    model.step(&disk, &mut rng, area, &what).await
                }
                left.set(left.get() - 1)
            })
        });
        let everybody = all(workers.collect());
        let mover = async {
            while left.get() > 0 {
                reactor::sleep(std::time::Duration::from_micros(300)).await;
                gate.suspend().await;
                let quiet: u64 = sims.iter().map(Sim::ios).sum();
                reactor::sleep(std::time::Duration::from_micros(300)).await;
                let now: u64 = sims.iter().map(Sim::ios).sum();
                assert_eq!(now, quiet, "{name}: I/O under a closed gate, seed {seed}");
                if self.sims > 0 {
                    gate.swap((self.build)(&sims));
                }
                gate.resume()
            }
        };
        let (mut everybody, mut mover) = (Box::pin(everybody), Box::pin(mover));
        let (mut worked, mut moved) = (false, false);
        poll_fn(|cx| {
            worked = worked || everybody.as_mut().poll(cx).is_ready();
            moved = moved || mover.as_mut().poll(cx).is_ready();
            if worked && moved {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// After a power cut every block is as new as the last flush or FUA write that was answered, or newer.
    async fn durability(&self, name: &str, seed: u64) {
        for cut in 0..12 {
            let seed = seed * 1000 + cut;
            let (sims, disk) = self.rig(seed);
            let history = Rc::new(RefCell::new(History::new(&disk).await));
            let workers = areas(&disk).into_iter().zip(0..).map(|(area, id)| {
                let (disk, name, history) = (disk.clone(), name.to_owned(), history.clone());
                Box::pin(async move {
                    let mut rng = Rng::new(seed * 100 + id);
                    loop {
                        let what = format!("{name}: power cut, worker {id}, seed {seed}");
                        if !History::step(&history, &disk, &mut rng, area, &what).await {
                            return;
                        }
                    }
                })
            });
            let mut everybody = Box::pin(all(workers.collect()));
            let wait = 200 + 150 * cut;
            let mut power = Box::pin(async {
                reactor::sleep(std::time::Duration::from_micros(wait)).await;
                history.borrow_mut().over = true;
                // Whoever ran on that power does nothing any more.
                sims.iter().for_each(|sim| {
                    sim.power_cut();
                    sim.vanish()
                })
            });
            let mut cut = false;
            poll_fn(|cx| {
                cut = cut || power.as_mut().poll(cx).is_ready();
                everybody.as_mut().poll(cx)
            })
            .await;
            drop((everybody, power, disk));
            sims.iter().for_each(Sim::mend);
            let disk = (self.build)(&sims);
            let size = disk.block_size() as usize;
            let data = Buf::alloc(disk.geometry().bytes() as usize);
            let whole = BlockRange::new(0, disk.blocks() as u32);
            assert_eq!(
                disk.perform(Io::read(whole, data.clone())).await,
                Ok(()),
                "{name}: after a power cut"
            );
            for (block, bytes) in data.to_vec().chunks(size).enumerate() {
                let history = history.borrow();
                let may_be = &history.versions[block];
                let is = |version: &Version| version.as_ref().is_none_or(|version| version[..] == *bytes);
                assert!(
                    may_be.iter().any(is),
                    "{name}: block {block} is older than promised, seed {seed}: starts with {:?}, of {} possible",
                    &bytes[..8],
                    may_be.len(),
                )
            }
        }
    }

    /// A disk with bad blocks: what touches them fails and says so, or is mended; everything else is right.
    async fn errors(&self, name: &str, seed: u64) {
        let (sims, disk) = self.rig(seed);
        let mut rng = Rng::new(seed);
        let size = disk.block_size() as usize;
        let data = rng.bytes(disk.geometry().bytes() as usize);
        let whole = BlockRange::new(0, disk.blocks() as u32);
        assert_eq!(disk.write(whole, Buf::from_slice(&data)).await, Ok(()), "{name}");
        sims[0].break_blocks(BlockRange::new(0, self.blocks as u32 / 2));
        let mut failed = 0;
        for block in 0..disk.blocks() {
            let into = Buf::alloc(size);
            match disk.perform(Io::read(BlockRange::new(block, 1), into.clone())).await {
                Ok(()) => assert!(
                    into.to_vec() == data[block as usize * size..][..size],
                    "{name}: block {block} reads wrong beside bad ones, seed {seed}"
                ),
                Err(error) => {
                    assert_eq!(error, IoError::Medium, "{name}: block {block}");
                    failed += 1
                }
            }
        }
        match self.mends {
            true => assert_eq!(failed, 0, "{name}: it can do without one disk"),
            false => {
                assert!(failed > 0, "{name}: nobody heard of the bad blocks");
                let all = disk.perform(Io::read(whole, Buf::alloc(data.len()))).await;
                assert_eq!(all, Err(IoError::Medium), "{name}: a read over bad blocks");
                let all = disk.perform(Io::write(whole, Buf::from_slice(&data))).await;
                assert_eq!(all, Err(IoError::Medium), "{name}: a write over bad blocks");
                sims[0].mend();
                sims[0].vanish();
                assert_eq!(
                    disk.flush().await,
                    Err(IoError::Gone),
                    "{name}: a flush of a vanished disk"
                );
            }
        }
    }
}

/// That a warm device allocates nothing and copies nothing: `rounds` writes and reads of `blocks` blocks each, after as many to warm up.
/// The buffer goes through what a command slot's does: a socket fills private pages before each write. Gives the number of locks taken, which
/// is 0 unless pages change cores.
///
/// The test binary must count allocations (`reactor::testing::CountingAlloc`), or the first half means nothing.
pub async fn costs_nothing(name: &str, disk: &Disk, blocks: u32, rounds: u32) -> u64 {
    let data = Buf::alloc(blocks as usize * disk.block_size() as usize);
    let span = disk.blocks() / u64::from(blocks);
    let so_far = || {
        let copied = reactor::counters::bytes_copied();
        (
            reactor::testing::allocations(),
            copied,
            reactor::counters::locks_taken(),
        )
    };
    let mut before = so_far();
    for round in 0..4 * rounds {
        if round == 2 * rounds {
            before = so_far()
        }
        let range = BlockRange::new(u64::from(round / 2) % span.min(64) * u64::from(blocks), blocks);
        let io = if round % 2 == 0 {
            data.make_writable();
            Io::write(range, data.clone())
        } else {
            Io::read(range, data.clone())
        };
        assert_eq!(disk.perform(io).await, Ok(()), "{name}")
    }
    let after = so_far();
    let ios = 2 * rounds;
    assert_eq!(after.0 - before.0, 0, "{name}: allocator calls in {ios} warm I/Os");
    assert_eq!(after.1 - before.1, 0, "{name}: bytes copied in {ios} warm I/Os");
    after.2 - before.2
}

/// Areas of several workers: as good as equal, and no multiple of anything.
fn areas(disk: &Disk) -> Vec<BlockRange> {
    let count = if disk.blocks() < 60 { 1 } else { 5 };
    let each = (disk.blocks() / count) as u32;
    (0..count)
        .map(|at| BlockRange::new(at * u64::from(each), each))
        .collect()
}

fn some_range(rng: &mut Rng, blocks: u64, most: u64) -> BlockRange {
    let start = rng.below(blocks);
    BlockRange::new(start, 1 + rng.below((blocks - start).min(most)) as u32)
}

/// Polls all of them until all are done.
async fn all<F: Future<Output = ()>>(futures: Vec<std::pin::Pin<Box<F>>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    poll_fn(|cx| {
        for slot in &mut futures {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(cx).is_ready()) {
                *slot = None
            }
        }
        if futures.iter().all(Option::is_none) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await
}

/// An I/O yet to be made.
#[derive(Clone)]
struct Plan {
    op: Op,
    range: BlockRange,
    fua: bool,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {:?}, fua {}", self.op, self.range, self.fua)
    }
}

/// Draws any operation; the operations that change something carry random bytes.
fn draw(rng: &mut Rng, area: BlockRange, most: u64, size: usize) -> Plan {
    let inside = some_range(rng, area.count.into(), most);
    let range = BlockRange {
        start: Lba(area.start.0 + inside.start.0),
        ..inside
    };
    let op = match rng.below(16) {
        0..7 => Op::Read,
        7..13 => Op::Write,
        13 => Op::Unmap,
        14 => Op::WriteZeroes {
            unmap: rng.below(2) == 0,
        },
        _ => Op::Flush,
    };
    match op {
        Op::Flush => Plan {
            op,
            range: BlockRange::default(),
            fua: false,
            bytes: Vec::new(),
        },
        Op::Write => Plan {
            op,
            range,
            fua: rng.below(6) == 0,
            bytes: rng.bytes(range.count as usize * size),
        },
        _ => Plan {
            op,
            range,
            fua: false,
            bytes: Vec::new(),
        },
    }
}

/// What a disk should hold.
struct Model {
    size: usize,
    zeroes_unmapped: bool,
    bytes: Vec<u8>,
    /// Blocks about which nothing is known, after an unmap.
    unknown: Vec<bool>,
}

impl Model {
    fn new(disk: &Disk, bytes: Vec<u8>) -> Self {
        let unknown = vec![false; disk.blocks() as usize];
        let zeroes_unmapped = disk.geometry().unmap_reads_zero;
        Self {
            size: disk.block_size() as usize,
            zeroes_unmapped,
            bytes,
            unknown,
        }
    }

    fn zeros(disk: &Disk) -> Self {
        Self::new(disk, vec![0; disk.geometry().bytes() as usize])
    }

    /// Makes the area what the model takes it for.
    async fn clear(&self, disk: &Disk, area: BlockRange) {
        assert_eq!(disk.submit(Io::write_zeroes(area, false)).await, Ok(()))
    }

    fn draw(&self, rng: &mut Rng, area: BlockRange, most: u64) -> Plan {
        draw(rng, area, most, self.size)
    }

    fn io(&self, plan: &Plan) -> Io {
        let data = match plan.op {
            Op::Read => Buf::alloc(plan.range.count as usize * self.size),
            Op::Write => Buf::from_slice(&plan.bytes),
            _ => Buf::empty(),
        };
        Io {
            op: plan.op,
            range: plan.range,
            data,
            fua: plan.fua,
            careful: false,
        }
    }

    fn apply(&mut self, plan: &Plan) {
        let blocks = plan.range.start.0 as usize..plan.range.start.0 as usize + plan.range.count as usize;
        let bytes = &mut self.bytes[blocks.start * self.size..blocks.end * self.size];
        match plan.op {
            Op::Write => bytes.copy_from_slice(&plan.bytes),
            Op::WriteZeroes { .. } => bytes.fill(0),
            Op::Unmap if self.zeroes_unmapped => bytes.fill(0),
            Op::Unmap | Op::Read | Op::Flush | Op::Allocation => (),
        }
        match plan.op {
            Op::Write | Op::WriteZeroes { .. } => self.unknown[blocks].fill(false),
            Op::Unmap => self.unknown[blocks].fill(!self.zeroes_unmapped),
            Op::Read | Op::Flush | Op::Allocation => (),
        }
    }

    fn compare(&self, range: BlockRange, read: &[u8], what: &str) {
        for (at, bytes) in read.chunks(self.size).enumerate() {
            let block = range.start.0 as usize + at;
            let expected = &self.bytes[block * self.size..][..self.size];
            assert!(
                self.unknown[block] || bytes == expected,
                "{what}: block {block} of {range:?} reads {:?}…, not {:?}…",
                &bytes[..8],
                &expected[..8]
            )
        }
    }

    async fn step(&mut self, disk: &Disk, rng: &mut Rng, area: BlockRange, what: &str) {
        let plan = self.draw(rng, area, 20);
        let io = self.io(&plan);
        let data = io.data.clone();
        assert_eq!(disk.perform(io).await, Ok(()), "{what}: {plan:?}");
        match plan.op {
            Op::Read => self.compare(plan.range, &data.to_vec(), what),
            _ => self.apply(&plan),
        }
    }
}

/// What a block may hold; anything, after an unmap that promises nothing.
type Version = Option<Box<[u8]>>;

/// For each block what it may be after a power cut now: the last durable version and all that came later.
struct History {
    size: usize,
    zeroes_unmapped: bool,
    versions: Vec<Vec<Version>>,
    over: bool,
}

impl History {
    /// Begins with what is there: not zeros, where a disk of zeros is taken for something else.
    async fn new(disk: &Disk) -> Self {
        let geometry = disk.geometry();
        let (size, all) = (geometry.block_size as usize, Buf::alloc(geometry.bytes() as usize));
        let whole = BlockRange::new(0, geometry.blocks as u32);
        assert_eq!(disk.perform(Io::read(whole, all.clone())).await, Ok(()));
        Self {
            size,
            zeroes_unmapped: geometry.unmap_reads_zero,
            versions: all
                .to_vec()
                .chunks(size)
                .map(|block| vec![Some(block.into())])
                .collect(),
            over: false,
        }
    }

    /// One I/O; false when the power has failed.
    async fn step(this: &RefCell<Self>, disk: &Disk, rng: &mut Rng, area: BlockRange, what: &str) -> bool {
        let size = this.borrow().size;
        let plan = draw(rng, area, 20, size);
        let blocks = plan.range.start.0 as usize..plan.range.start.0 as usize + plan.range.count as usize;
        let model = Model {
            size,
            zeroes_unmapped: true,
            bytes: Vec::new(),
            unknown: Vec::new(),
        };
        // What a flush promises is what was answered before it was sent: as many versions as there are now, in the own area.
        let area_blocks = area.start.0 as usize..area.start.0 as usize + area.count as usize;
        let before: Vec<usize> = this.borrow().versions[area_blocks.clone()]
            .iter()
            .map(Vec::len)
            .collect();
        if plan.op.changes() {
            let mut history = this.borrow_mut();
            for (at, block) in blocks.clone().enumerate() {
                let version = match plan.op {
                    Op::Write => Some(plan.bytes[at * size..][..size].into()),
                    Op::Unmap if !history.zeroes_unmapped => None,
                    _ => Some(vec![0; size].into()),
                };
                history.versions[block].push(version)
            }
        }
        let done = disk.perform(model.io(&plan)).await;
        let mut history = this.borrow_mut();
        if history.over {
            return false;
        }
        assert_eq!(done, Ok(()), "{what}: {plan:?}");
        // The worker waits for each I/O, so the newest version is the one just answered.
        if plan.fua {
            for versions in &mut history.versions[blocks] {
                versions.drain(..versions.len() - 1);
            }
        }
        if plan.op == Op::Flush {
            for (versions, before) in history.versions[area_blocks].iter_mut().zip(before) {
                versions.drain(..before - 1);
            }
        }
        true
    }
}
