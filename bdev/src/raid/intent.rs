//! What may differ between members: noted before it is written, and forgotten when it has been the same for a while.
//!
//! ```text
//!   write ──► its bits are set on disk? ── yes ─────────────────────────────────────► data
//!                └ no: one of those who wait writes all bits that are wanted, to every member, through its cache
//!   every few seconds: bits that nobody has used since ──► flush the members ──► clear them
//! ```
//!
//! A bit stays set as long as a member's cache may hold something of its region, so after a power cut only these regions have to be compared. While a
//! member is missing no bit is cleared: they say what it has missed. Without a bitmap on disk all this is kept in memory alone.
//!
//! On disk it is Linux MD's bitmap ([`spec::md::bitmap`]).
use super::{array::State, locks::Locks};
use crate::IoResult;
use reactor::{Buf, Notify};
use spec::{
    BlockRange,
    md::{
        SECTOR,
        assembly::{self, Forgotten},
        bitmap::{HEADER, Header},
    },
};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
};

/// Regions a bitmap may have: what it takes in memory is bounded.
pub(super) const REGIONS_MAX: u64 = 1 << 24;

/// Where the bitmap is on disk.
pub(crate) struct Place {
    /// Its header, whose event counts follow those of the array.
    pub header: RefCell<Header>,
    /// Where each member has it, in blocks of the member.
    pub at: RefCell<Vec<Option<u64>>>,
}

impl Place {
    fn of(&self, member: u16) -> Option<u64> {
        self.at.borrow().get(usize::from(member)).copied().flatten()
    }
}

/// Flags of a region.
const SET: u8 = 1;
const NEEDED: u8 = 2;
const USED: u8 = 4;
/// Somebody waits for it to be set.
const WANTED: u8 = 16;
/// It is being written as set.
const MARKED: u8 = 8;

#[derive(Clone, Copy, Default)]
struct Region {
    writes: u32,
    flags: u8,
}

/// See the [module](self).
pub(crate) struct Intent {
    /// Blocks of a region.
    unit: u64,
    regions: RefCell<Box<[Region]>>,
    /// How many are [`NEEDED`]; mostly none.
    needed: Cell<u64>,
    /// No region before this one is.
    needed_from: Cell<usize>,
    /// How many are [`SET`].
    set: Cell<u64>,
    /// Writes that are under way, once for each region that they are about.
    writes: Cell<u64>,
    /// Those that are [`USED`]: there may be millions of regions, and nobody looks through all of them.
    recent: RefCell<Vec<usize>>,
    /// Those that were until the last look: they are cleared if nobody uses them again.
    aging: RefCell<Vec<usize>>,
    place: Option<Place>,
    /// Those that are [`WANTED`].
    wanted: RefCell<Vec<usize>>,
    /// All of it was written since the array runs.
    begun: Cell<bool>,
    /// Blocks of the bitmap are written one at a time, each as everything stands then.
    blocks: Locks,
    writing: Cell<bool>,
    written: Notify,
    /// Somebody looks now and then what may be cleared.
    clearing: Cell<bool>,
}

impl Intent {
    pub fn new(span: u64, unit: u64, place: Option<Place>) -> Self {
        let unit = unit.max(1);
        let count = span.div_ceil(unit);
        Self {
            unit,
            // One for each bit of a bitmap, which its reader bounded.
            regions: RefCell::new(vec![Region::default(); count as usize].into()),
            needed: Cell::new(0),
            needed_from: Cell::new(0),
            set: Cell::new(0),
            writes: Cell::new(0),
            recent: RefCell::default(),
            aging: RefCell::default(),
            place,
            wanted: RefCell::default(),
            begun: Cell::new(false),
            blocks: Locks::default(),
            writing: Cell::new(false),
            written: Notify::new(),
            clearing: Cell::new(false),
        }
    }

    pub fn is_on_disk(&self) -> bool {
        self.place.is_some()
    }

    fn bits(&self, blocks: &Range<u64>) -> Range<usize> {
        let count = self.regions.borrow().len();
        let (first, last) = (blocks.start / self.unit, blocks.end.div_ceil(self.unit));
        (first as usize).min(count)..(last as usize).min(count)
    }

    /// The members may differ here, since before this array was started.
    pub fn need(&self, blocks: Range<u64>) {
        let mut regions = self.regions.borrow_mut();
        let count = regions.len();
        let last = (blocks.end.div_ceil(self.unit) as usize).min(count);
        let first = ((blocks.start / self.unit) as usize).min(last);
        for region in &mut regions[first..last] {
            if region.flags & NEEDED == 0 {
                self.mark_set(region);
                region.flags |= NEEDED;
                self.needed.set(self.needed.get() + 1)
            }
        }
        self.needed_from.set(self.needed_from.get().min(first))
    }

    fn mark_set(&self, region: &mut Region) {
        if region.flags & SET == 0 {
            region.flags |= SET;
            self.set.set(self.set.get() + 1)
        }
    }

    fn mark_used(&self, at: usize, region: &mut Region) {
        if region.flags & USED == 0 {
            region.flags |= USED;
            self.recent.borrow_mut().push(at)
        }
    }

    /// The bitmap says so from before: a member that is away has missed something there, or nobody has cleared it yet.
    pub fn noted_before(&self, blocks: Range<u64>) {
        let bits = self.bits(&blocks);
        self.regions.borrow_mut()[bits]
            .iter_mut()
            .for_each(|region| self.mark_set(region))
    }

    /// True if members may differ somewhere there, from before.
    #[inline]
    pub fn is_needed(&self, blocks: &Range<u64>) -> bool {
        self.is_any_needed() && {
            let bits = self.bits(blocks);
            self.regions.borrow()[bits]
                .iter()
                .any(|region| region.flags & NEEDED != 0)
        }
    }

    /// True if members may differ anywhere, from before.
    #[inline]
    pub fn is_any_needed(&self) -> bool {
        self.needed.get() > 0
    }

    /// How many blocks may differ, from before.
    pub fn needed(&self) -> u64 {
        self.needed.get() * self.unit
    }

    /// The first region from a block on that has to be compared.
    pub fn next_needed(&self, from: u64) -> Option<Range<u64>> {
        if self.needed.get() == 0 {
            return None;
        }
        let regions = self.regions.borrow();
        let (from, none_before) = ((from / self.unit) as usize, self.needed_from.get());
        let first = from.max(none_before);
        let at = first
            + regions
                .get(first..)?
                .iter()
                .position(|region| region.flags & NEEDED != 0)?;
        if from <= none_before {
            self.needed_from.set(at)
        }
        Some(at as u64 * self.unit..(at as u64 + 1) * self.unit)
    }

    /// The region was compared and is alike.
    pub fn settle(&self, region: Range<u64>) {
        let bits = self.bits(&region);
        for (at, region) in (bits.start..).zip(&mut self.regions.borrow_mut()[bits]) {
            if region.flags & NEEDED != 0 {
                region.flags &= !NEEDED;
                self.mark_used(at, region);
                self.needed.set(self.needed.get() - 1)
            }
        }
    }

    /// The space is so long from now on, and what is new of it may differ. Says in words why not, if there are no bits for it.
    pub fn grow(&self, from: u64, span: u64, sectors: u64) -> Result<(), String> {
        let count = span.div_ceil(self.unit);
        if count > REGIONS_MAX {
            return Err(format!("a bitmap of {count} bits is longer than {REGIONS_MAX}"));
        }
        if let Some(place) = &self.place {
            let mut header = place.header.borrow_mut();
            let room = (u64::from(header.sectors_reserved) * SECTOR).saturating_sub(HEADER as u64) * 8;
            if count > room {
                return Err(format!(
                    "its bitmap has room for {room} bits, and {count} would be needed"
                ));
            }
            header.sync_size = span * sectors
        }
        let mut all = self.regions.take().into_vec();
        // It was bounded above.
        all.resize(count as usize, Region::default());
        *self.regions.borrow_mut() = all.into();
        self.need(from..span);
        Ok(())
    }

    /// Before a write: returns when it is noted for good that members may differ there.
    pub async fn begin(&self, array: &State, blocks: Range<u64>) -> IoResult {
        array.touched.set(true);
        let bits = self.bits(&blocks);
        let mut noted = true;
        for (at, region) in (bits.start..).zip(&mut self.regions.borrow_mut()[bits.clone()]) {
            region.writes += 1;
            self.mark_used(at, region);
            if region.flags & SET == 0 {
                noted = false;
                if region.flags & (WANTED | MARKED) == 0 {
                    region.flags |= WANTED;
                    self.wanted.borrow_mut().push(at)
                }
            }
        }
        self.writes.set(self.writes.get() + bits.len() as u64);
        if noted && array.is_dirty() {
            return Ok(());
        }
        let done = match array.dirty().await {
            Ok(()) => self.note(array, bits).await,
            failed => failed,
        };
        if done.is_err() {
            self.end(&blocks)
        }
        array.watch();
        done
    }

    async fn note(&self, array: &State, bits: Range<usize>) -> IoResult {
        loop {
            let set = |region: &Region| region.flags & SET != 0;
            if self.regions.borrow()[bits.clone()].iter().all(set) {
                return Ok(());
            }
            if self.writing.replace(true) {
                self.written.wait().await;
                continue;
            }
            let done = self.write_wanted(array).await;
            self.writing.set(false);
            self.written.notify_all();
            done?
        }
    }

    /// Sets on disk whatever anybody waits for.
    async fn write_wanted(&self, array: &State) -> IoResult {
        let mut all = std::mem::take(&mut *self.wanted.borrow_mut());
        // Block by block.
        all.sort_unstable();
        {
            let mut regions = self.regions.borrow_mut();
            for at in &all {
                regions[*at].flags &= !WANTED;
                regions[*at].flags |= MARKED
            }
        }
        let done = match self.write(array, &all).await {
            Ok(()) => array.recorded().await,
            failed => failed,
        };
        let mut regions = self.regions.borrow_mut();
        for at in all {
            regions[at].flags &= !MARKED;
            match done {
                Ok(()) => self.mark_set(&mut regions[at]),
                // Others may wait for it.
                Err(_) => {
                    regions[at].flags |= WANTED;
                    self.wanted.borrow_mut().push(at)
                }
            }
        }
        done
    }

    /// Writes the blocks of the bitmap in which these bits are.
    async fn write(&self, array: &State, bits: &[usize]) -> IoResult {
        let size = array.block_size() as usize;
        let mut last = None;
        for bit in bits {
            let block = Header::place(*bit as u64).0 as usize / size;
            if last.replace(block) != Some(block) {
                self.write_block(array, block).await?
            }
        }
        Ok(())
    }

    async fn write_block(&self, array: &State, block: usize) -> IoResult {
        let Some(place) = &self.place else { return Ok(()) };
        let at = block as u64;
        let _guard = self.blocks.lock(at..at + 1).await;
        let bytes = self.block(place, block, array.block_size() as usize);
        array
            .write_metadata(|member| Some((place.of(member)? + at, &bytes)))
            .await
    }

    /// A block of the bitmap as it should be.
    fn block(&self, place: &Place, block: usize, size: usize) -> Buf {
        let mut bytes = vec![0; size];
        let header = place.header.borrow().to_bytes();
        let regions = self.regions.borrow();
        let start = block * size;
        for (at, byte) in bytes.iter_mut().enumerate() {
            let at = start + at;
            if let Some(of_header) = header.get(at) {
                *byte = *of_header;
                continue;
            }
            for shift in 0..8 {
                let Some(region) = regions.get((at - header.len()) * 8 + shift) else {
                    break;
                };
                *byte |= u8::from(region.flags & (SET | MARKED) != 0) << shift
            }
        }
        Buf::from_slice(&bytes)
    }

    /// A place has another member, which has its bitmap there.
    pub fn seat(&self, member: u16, at: Option<u64>) {
        let Some(place) = &self.place else { return };
        if let Some(known) = place.at.borrow_mut().get_mut(usize::from(member)) {
            *known = at
        }
    }

    /// Writes all of it, for members that do not have it yet.
    pub async fn write_whole(&self, array: &State) -> IoResult {
        for block in (0..=self.last_block(array)).rev() {
            self.write_block(array, block).await?
        }
        Ok(())
    }

    fn last_block(&self, array: &State) -> usize {
        let bits = self.regions.borrow().len();
        Header::place(bits.saturating_sub(1) as u64).0 as usize / array.block_size() as usize
    }

    /// Writes the header, and the bits beside it, when the array's events have changed.
    pub async fn write_header(&self, array: &State, events: u64) -> IoResult {
        let Some(place) = &self.place else { return Ok(()) };
        // One that was made anew or was out of date has to say all of it first.
        if !self.begun.replace(true) {
            for block in (1..=self.last_block(array)).rev() {
                self.write_block(array, block).await?
            }
        }
        place.header.borrow_mut().events = events;
        self.write_block(array, 0).await
    }

    /// Before bits are cleared: who has left before this cannot be brought up to date by them any more.
    async fn forget(&self, array: &State) -> IoResult {
        let Some(place) = &self.place else { return Ok(()) };
        let (events, cleared) = {
            let header = place.header.borrow();
            (header.events, header.events_cleared)
        };
        if events == cleared {
            return Ok(());
        }
        place.header.borrow_mut().events_cleared = events;
        self.write_block(array, 0).await
    }

    /// Whether all is noted that a member has missed which was last written at this count of events.
    pub fn may_return(&self, events: u64) -> Result<(), Forgotten> {
        let header = self.place.as_ref().map(|place| place.header.borrow());
        assembly::may_return(events, header.as_deref())
    }

    /// Something was written there that a member which is away lacks, or may have been.
    pub fn is_noted(&self, blocks: &Range<u64>) -> bool {
        let bits = self.bits(blocks);
        self.regions.borrow()[bits]
            .iter()
            .any(|region| region.flags & (SET | WANTED | MARKED) != 0)
    }

    /// After a write. Where a member did not get it, the region has to be brought up to date there: its bit stays as long as one is away.
    pub fn end(&self, blocks: &Range<u64>) {
        let bits = self.bits(blocks);
        self.writes.set(self.writes.get().saturating_sub(bits.len() as u64));
        for region in &mut self.regions.borrow_mut()[bits] {
            region.writes = region.writes.saturating_sub(1)
        }
    }

    /// Clears what has not been used since the last time, if all members are there; the members' caches are emptied first. True if bits are left.
    pub async fn tidy(&self, array: &State) -> bool {
        let idle = |region: &Region| region.flags == SET && region.writes == 0;
        let mut all: Vec<usize> = {
            let mut regions = self.regions.borrow_mut();
            let (mut recent, mut aging) = (self.recent.borrow_mut(), self.aging.borrow_mut());
            // Bits from before, or that were kept while a member was away: they are looked for once.
            let known = (recent.len() + aging.len()) as u64 + self.needed.get();
            if self.set.get() > known && array.is_whole() {
                let all = regions.iter().enumerate();
                *aging = all.filter(|(_, region)| idle(region)).map(|(at, _)| at).collect()
            }
            let all = aging.drain(..).filter(|at| idle(&regions[*at])).collect();
            for at in &*recent {
                regions[*at].flags &= !USED
            }
            std::mem::swap(&mut *recent, &mut *aging);
            // One that is still written to is as if it had been used since: nobody will say so again.
            aging.retain(|at| {
                let busy = regions[*at].writes > 0;
                if busy {
                    regions[*at].flags |= USED;
                    recent.push(*at)
                }
                !busy
            });
            all
        };
        let any = self.set.get() > 0;
        if all.is_empty() || !array.is_whole() {
            return any;
        }
        if array.flush_members().await.is_err() || !array.is_whole() {
            return true;
        }
        // Nobody may set a bit in a block that is being written without it.
        while self.writing.replace(true) {
            self.written.wait().await
        }
        let forgotten = self.forget(array).await;
        let cleared: Vec<usize> = {
            let mut regions = self.regions.borrow_mut();
            if forgotten.is_err() {
                // Nobody would know that they are no longer there.
                all.clear()
            }
            let still: Vec<usize> = all.into_iter().filter(|at| idle(&regions[*at])).collect();
            still.iter().for_each(|at| regions[*at].flags = 0);
            self.set.set(self.set.get().saturating_sub(still.len() as u64));
            still
        };
        if self.write(array, &cleared).await.is_err() || array.recorded().await.is_err() {
            tracing::warn!("the bitmap of an array could not be written: more is compared after a crash than need be");
        }
        self.writing.set(false);
        self.written.notify_all();
        self.set.get() > 0
    }

    /// Nobody writes, and nobody has since the last look.
    pub fn is_idle(&self) -> bool {
        self.writes.get() == 0 && self.recent.borrow().is_empty()
    }

    /// Notes whether somebody looks what may be cleared; answers whether somebody did.
    pub fn watched(&self, on: bool) -> bool {
        self.clearing.replace(on)
    }

    /// Blocks that are noted, as runs of regions: what the next start has to compare.
    pub fn noted(&self) -> u64 {
        self.set.get() * self.unit
    }

    /// Blocks of a region.
    pub fn unit(&self) -> u64 {
        self.unit
    }
}

/// The blocks of an I/O.
pub(crate) fn range(blocks: BlockRange) -> Range<u64> {
    blocks.start.0..blocks.start.0 + u64::from(blocks.count)
}
