//! Sim: a simulated disk with everything that makes real ones hard, from one seed. A product for tests, ours and other people's.
//!
//! ```text
//!   write ──► volatile cache ── flush, FUA ──► medium
//!                  └ power cut: every block by itself is as it was on the medium, or any of its newer versions: lost, reordered, torn
//! ```
//!
//! Answers come after a while and in another order than asked for. What a power cut leaves of each block is drawn from the seed; an I/O
//! that was under way is answered with `Aborted`, and its blocks, too, are drawn one by one. Single blocks are never torn, as on
//! real disks. Unmapped blocks read as zeros, or as rubbish where the geometry does not promise zeros.
use crate::{Allocation, BlockDevice, Geometry, Io, IoError, IoResult, Op};
use reactor::testing::Rng;
use spec::BlockRange;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

/// What an unmapped block of a disk that promises nothing holds.
const RUBBISH: u8 = 0xdb;

/// The number of an I/O, and what it made of a block.
type Version = (u64, Box<[u8]>);

/// See the [module](self). Clones are the same disk.
#[derive(Clone)]
pub struct Sim(Rc<State>);

struct State {
    geometry: Geometry,
    rng: RefCell<Rng>,
    /// Answers take up to this many microseconds; 0: the same turn.
    latency_us: Cell<u64>,
    medium: RefCell<Vec<u8>>,
    /// For each block the versions that are not on the medium yet, oldest first, each with the number of its I/O.
    cache: RefCell<BTreeMap<u64, Vec<Version>>>,
    /// The number of the last I/O that was answered.
    answered: Cell<u64>,
    /// Rises with each power cut: what was under way before is aborted.
    lives: Cell<u64>,
    under_way: RefCell<BTreeMap<u64, Io>>,
    started: Cell<u64>,
    ios: Cell<u64>,
    broken: RefCell<Vec<BlockRange>>,
    /// Blocks that cannot be read until they are written.
    spoiled: RefCell<BTreeSet<u64>>,
    gone: Cell<bool>,
    watcher: RefCell<Option<Watcher>>,
}

/// What is told of each I/O.
type Watcher = Rc<dyn Fn(&Io)>;

impl Sim {
    /// A disk of zeros. Its length is memory in use, so keep it small.
    pub fn new(geometry: Geometry, seed: u64) -> Self {
        // A test's own geometry; it would not fit into memory otherwise.
        let bytes = geometry.bytes() as usize;
        Self(Rc::new(State {
            geometry,
            rng: RefCell::new(Rng::new(seed)),
            latency_us: Cell::new(50),
            medium: RefCell::new(vec![0; bytes]),
            cache: RefCell::default(),
            answered: Cell::new(0),
            lives: Cell::new(0),
            under_way: RefCell::default(),
            started: Cell::new(0),
            ios: Cell::new(0),
            broken: RefCell::default(),
            spoiled: RefCell::default(),
            gone: Cell::new(false),
            watcher: RefCell::default(),
        }))
    }

    /// A disk with a volatile cache that can do everything.
    pub fn able(block_size: u32, blocks: u64, seed: u64) -> Self {
        let geometry = Geometry {
            volatile_cache: true,
            unmap: true,
            unmap_reads_zero: true,
            write_zeroes: true,
            ..Geometry::plain(block_size, blocks)
        };
        Self::new(geometry, seed)
    }

    /// Answers take up to `us` microseconds from now on; 0: they come at once.
    pub fn set_latency_us(&self, us: u64) {
        self.0.latency_us.set(us)
    }

    /// Every I/O that touches `range` fails with a medium error from now on.
    pub fn break_blocks(&self, range: BlockRange) {
        self.0.broken.borrow_mut().push(range)
    }

    /// What lies there cannot be read any more; what is written there from now on can.
    pub fn spoil_blocks(&self, range: BlockRange) {
        let blocks = range.start.0..range.start.0 + u64::from(range.count);
        self.0.spoiled.borrow_mut().extend(blocks)
    }

    /// All is well again, but for what was spoiled.
    pub fn mend(&self) {
        self.0.broken.borrow_mut().clear();
        self.0.gone.set(false)
    }

    /// Every I/O fails with `Gone` from now on.
    pub fn vanish(&self) {
        self.0.gone.set(true)
    }

    /// Tells of each I/O when it has been carried out, before it is answered: a test may cut the power there.
    pub fn watch(&self, watcher: impl Fn(&Io) + 'static) {
        *self.0.watcher.borrow_mut() = Some(Rc::new(watcher))
    }

    /// I/Os that were carried out so far.
    pub fn ios(&self) -> u64 {
        self.0.ios.get()
    }

    /// What a read of the whole disk would give now.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.0.medium.borrow().clone();
        for (block, versions) in self.0.cache.borrow().iter() {
            if let Some((_, newest)) = versions.last() {
                let at = *block as usize * newest.len();
                all[at..at + newest.len()].copy_from_slice(newest)
            }
        }
        all
    }

    /// Puts bytes on the medium directly, without anybody's doing.
    pub fn store(&self, block: u64, bytes: &[u8]) {
        let at = (block << self.0.geometry.block_shift()) as usize;
        self.0.medium.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        let blocks = bytes.len().div_ceil(self.0.geometry.block_size as usize) as u64;
        self.0
            .spoiled
            .borrow_mut()
            .retain(|at| !(block..block + blocks).contains(at))
    }

    /// The power fails and comes back: of everything that was not flushed, chance decides block by block what is there now.
    pub fn power_cut(&self) {
        self.0.lives.set(self.0.lives.get() + 1);
        let under_way = std::mem::take(&mut *self.0.under_way.borrow_mut());
        for (number, io) in under_way {
            self.change(number, &io)
        }
        let mut rng = self.0.rng.borrow_mut();
        for (block, versions) in std::mem::take(&mut *self.0.cache.borrow_mut()) {
            // One more than there are versions: none of them.
            let survivor = rng.below(versions.len() as u64 + 1) as usize;
            if let Some((_, bytes)) = versions.get(survivor) {
                self.store(block, bytes)
            }
        }
    }

    /// New versions of the blocks of a write, unmap or write zeroes, in the cache.
    fn change(&self, number: u64, io: &Io) {
        let size = self.0.geometry.block_size as usize;
        let mut cache = self.0.cache.borrow_mut();
        for at in 0..io.range.count as usize {
            let mut bytes = match io.op {
                Op::Unmap if !self.0.geometry.unmap_reads_zero => vec![RUBBISH; size],
                _ => vec![0; size],
            };
            match io.op {
                Op::Write => io.data.read_at(at * size, &mut bytes),
                Op::Unmap | Op::WriteZeroes { .. } => (),
                Op::Read | Op::Flush | Op::Allocation => return,
            }
            cache
                .entry(io.range.start.0 + at as u64)
                .or_default()
                .push((number, bytes.into()))
        }
    }

    /// What was answered up to `number` goes to the medium, of these blocks or of all.
    fn harden(&self, number: u64, range: Option<BlockRange>) {
        let mut cache = self.0.cache.borrow_mut();
        let hardened = |block: u64, versions: &mut Vec<Version>| {
            let done = versions.iter().take_while(|(version, _)| *version <= number).count();
            if let Some((_, bytes)) = versions.drain(..done).next_back() {
                self.store(block, &bytes)
            }
            !versions.is_empty()
        };
        match range {
            None => cache.retain(|block, versions| hardened(*block, versions)),
            Some(range) => {
                for block in range.start.0..range.start.0 + u64::from(range.count) {
                    if let Some(versions) = cache.get_mut(&block)
                        && !hardened(block, versions)
                    {
                        cache.remove(&block);
                    }
                }
            }
        }
    }

    fn carry_out(&self, io: &Io, flush_up_to: u64) -> IoResult {
        self.0.ios.set(self.0.ios.get() + 1);
        if self.0.gone.get() {
            return Err(IoError::Gone);
        }
        if self.0.broken.borrow().iter().any(|broken| broken.overlaps(io.range)) {
            return Err(IoError::Medium);
        }
        if self.0.geometry.read_only && io.op.changes() {
            return Err(IoError::ReadOnly);
        }
        match io.op {
            Op::Read => {
                let size = self.0.geometry.block_size as usize;
                let (medium, cache) = (self.0.medium.borrow(), self.0.cache.borrow());
                for at in 0..io.range.count as usize {
                    let block = io.range.start.0 + at as u64;
                    match cache.get(&block).and_then(|versions| versions.last()) {
                        Some((_, bytes)) => io.data.write_at(at * size, bytes),
                        None if self.0.spoiled.borrow().contains(&block) => return Err(IoError::Medium),
                        None => io.data.write_at(at * size, &medium[block as usize * size..][..size]),
                    }
                }
            }
            Op::Flush => self.harden(flush_up_to, None),
            Op::Allocation => return Allocation::all(io.range).tell(io),
            Op::Write | Op::Unmap | Op::WriteZeroes { .. } => {
                let number = self.0.answered.get() + 1;
                self.0.answered.set(number);
                self.change(number, io);
                if io.fua || !self.0.geometry.volatile_cache {
                    self.harden(number, Some(io.range))
                }
            }
        }
        Ok(())
    }
}

impl BlockDevice for Sim {
    fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    async fn submit(&self, io: Io) -> IoResult {
        let (life, key, flush_up_to) = (self.0.lives.get(), self.0.started.get(), self.0.answered.get());
        self.0.started.set(key + 1);
        let most = self.0.latency_us.get();
        if most > 0 {
            if io.op.changes() {
                // Past all that was answered, so that no flush takes it for acknowledged.
                self.0.under_way.borrow_mut().insert(u64::MAX / 2 + key, io.clone());
            }
            let us = self.0.rng.borrow_mut().below(most + 1);
            reactor::sleep(Duration::from_micros(us)).await;
            if self.0.lives.get() != life {
                return Err(IoError::Aborted);
            }
            self.0.under_way.borrow_mut().remove(&(u64::MAX / 2 + key));
        }
        let done = self.carry_out(&io, flush_up_to);
        let watcher = self.0.watcher.borrow().clone();
        if let Some(watcher) = watcher {
            watcher(&io)
        }
        match self.0.lives.get() == life {
            true => done,
            false => Err(IoError::Aborted),
        }
    }
}
