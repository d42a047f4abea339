//! The redo log ([`spec::md::redo`]): while a member is missing, rows are written to it before they are written to their places.
//!
//! ```text
//!   a member is lost ──► from now on writes are logged ──► those under way without it are waited for ──► anchors ──► superblocks say who is lost
//!   write of rows    ──► room in the ring ──► data and sums into the log of several members ──► data and sums to their places
//!   no room          ──► the members' caches are emptied: what was done before need not be done again
//!   after a crash    ──► all entries that are whole, in their order, to their places
//!   all are there    ──► superblocks say so ──► no log any more
//! ```
//!
//! Anchors are written with every change of the superblocks, before them: what is logged counts as long as nobody else changes a superblock. That they are there
//! says that nothing is under way that was not logged.
use super::{
    array::State,
    bands::Band,
    each::each,
    log::{Eras, Held as Logged},
};
use crate::{Io, IoError, IoResult};
use reactor::{Buf, Notify};
use spec::{
    BlockRange,
    md::{
        SECTOR,
        parity::Row,
        redo::{self, Anchor, ENTRIES, Entry},
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    ops::Range,
    time::SystemTime,
};
use uuid::Uuid;

/// Blocks that are read at once when entries are looked for.
const LOOK: u64 = 512;
/// Blocks of the strips of an entry, at most.
const PAYLOAD_MAX: u64 = 1 << 11;

/// See the [module](self).
pub(crate) struct Redo {
    array: Uuid,
    /// Where each member has it, in blocks of the member.
    at: RefCell<Vec<Option<u64>>>,
    /// Blocks before the entries, and of all entries.
    head: u64,
    length: u64,
    block_size: u32,
    on: Cell<bool>,
    generation: Cell<u64>,
    sequence: Cell<u64>,
    ring: RefCell<Ring>,
    emptying: Cell<bool>,
    changed: Notify,
    pub eras: Eras,
    /// The era before which everything is durable.
    settled: Cell<usize>,
}

/// Where entries are, oldest first.
#[derive(Default)]
struct Ring {
    all: VecDeque<Place>,
    /// Where the next one goes, if there is room.
    next: u64,
}

struct Place {
    sequence: u64,
    at: u64,
    /// It is where it belongs, as far as caches go.
    done: bool,
}

impl Ring {
    /// Room for so many blocks behind the last entry.
    fn room(&self, blocks: u64, length: u64) -> Option<u64> {
        let Some(oldest) = self.all.front() else {
            return Some(if self.next + blocks <= length { self.next } else { 0 }).filter(|at| at + blocks <= length);
        };
        match (self.next > oldest.at, self.next + blocks <= length) {
            (true, true) => Some(self.next),
            (true, false) => (blocks < oldest.at).then_some(0),
            (false, _) => (self.next + blocks < oldest.at).then_some(self.next),
        }
    }
}

/// Entries, as long as their rows are not written.
pub(crate) struct Held<'a> {
    of: &'a Redo,
    /// The number of each, and where it is.
    places: Vec<(u64, u64)>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut ring = self.of.ring.borrow_mut();
        let mine = |place: &&mut Place| self.places.iter().any(|(sequence, _)| *sequence == place.sequence);
        ring.all.iter_mut().filter(mine).for_each(|place| place.done = true);
        self.of.changed.notify_all()
    }
}

impl Redo {
    /// Of the array with this identity whose members have room for it there, in blocks. Nothing if nobody has.
    pub fn new(array: Uuid, at: Vec<Option<Range<u64>>>, block_size: u32, on: bool) -> Option<Self> {
        let head = (ENTRIES * SECTOR).div_ceil(block_size.into());
        let length = at.iter().flatten().map(|room| room.end - room.start).min()?;
        let length = length.checked_sub(head)?;
        // One that could take hardly a row at a time is none.
        (length >= 32).then(|| Self {
            array,
            at: RefCell::new(at.into_iter().map(|room| room.map(|room| room.start)).collect()),
            head,
            length,
            block_size,
            on: Cell::new(on),
            generation: Cell::new(fresh()),
            sequence: Cell::new(0),
            ring: RefCell::default(),
            emptying: Cell::new(false),
            changed: Notify::new(),
            eras: Eras::default(),
            settled: Cell::new(0),
        })
    }

    /// A place has another member, with room there.
    pub fn seat(&self, place: u16, room: Option<Range<u64>>) {
        let long = |room: &Range<u64>| room.end - room.start >= self.head + self.length;
        if let Some(known) = self.at.borrow_mut().get_mut(usize::from(place)) {
            *known = room.filter(long).map(|room| room.start)
        }
    }

    /// Whether rows that are written from now on have to be logged.
    pub fn is_on(&self, array: &State) -> bool {
        if !self.on.get() && !array.is_whole() {
            self.eras.turn();
            self.generation.set(fresh());
            self.on.set(true)
        }
        self.on.get()
    }

    /// How many rows a step may have, if each goes to so many members.
    pub fn rows(&self, members: u16) -> u32 {
        let payload = (self.length / 4).saturating_sub(1).min(PAYLOAD_MAX);
        (payload / u64::from(members)).max(1) as u32
    }

    /// Superblocks are about to say who is lost: returns when nothing is under way that is not logged, not even in a cache.
    pub async fn settled(&self, array: &State) -> IoResult {
        while self.is_on(array) && self.settled.get() != self.eras.now() {
            let era = self.eras.now();
            self.eras.drained().await;
            array.flush_caches().await?;
            self.settled.set(era)
        }
        Ok(())
    }

    /// Superblocks say that all are there.
    pub fn end(&self) {
        self.on.set(false)
    }

    /// What is written before a superblock of a member takes the place of another: where, and what.
    pub fn anchor(&self, place: u16, superblocks: [&[u8]; 2]) -> Option<(u64, Buf)> {
        let at = self.of(place).filter(|_| self.on.get())?;
        let anchor = Anchor {
            array: self.array,
            generation: self.generation.get(),
            superblocks: superblocks.map(redo::print),
        };
        let mut bytes = anchor.to_bytes().to_vec();
        bytes.resize(self.block_size as usize, 0);
        Some((at, Buf::from_slice(&bytes)))
    }

    fn of(&self, place: u16) -> Option<u64> {
        self.at.borrow().get(usize::from(place)).copied().flatten()
    }

    /// Returns when the bands are logged, if they have to be. Nothing if that is not as it was `planned`.
    pub async fn enter(
        &self,
        array: &State,
        row: &Row,
        bands: &[Band],
        planned: bool,
    ) -> Result<Option<Logged<'_>>, IoError> {
        if self.is_on(array) != planned {
            return Ok(None);
        }
        if !planned {
            return Ok(Some(Logged::Era(self.eras.enter())));
        }
        let era = self.eras.now();
        let lands = |(member, _): &(u16, &Buf)| array.members[usize::from(*member)].writes();
        let strips: Vec<Vec<(u16, &Buf)>> = bands
            .iter()
            .map(|band| band.strips(row).filter(lands).collect())
            .collect();
        let of = |(band, strips): (&Band, &Vec<(u16, &Buf)>)| 1 + u64::from(band.range.count) * strips.len() as u64;
        let blocks: Vec<u64> = bands.iter().zip(&strips).map(of).collect();
        let held = self.reserve(array, &blocks).await?;
        for ((band, strips), (sequence, at)) in bands.iter().zip(&strips).zip(&held.places) {
            self.log(array, band.range, strips, (*sequence, *at)).await?
        }
        Ok((self.is_on(array) && self.eras.now() == era).then(|| Logged::Redo(self.eras.enter(), held)))
    }

    /// Logs strips of some rows, on as many members as may be lost and one more.
    async fn log(
        &self,
        array: &State,
        range: BlockRange,
        strips: &[(u16, &Buf)],
        (sequence, at): (u64, u64),
    ) -> IoResult {
        let payload: u64 = u64::from(range.count) * strips.len() as u64;
        let sectors = u64::from(self.block_size) / SECTOR;
        let header = Entry {
            generation: self.generation.get(),
            sequence,
            oldest: self
                .ring
                .borrow()
                .all
                .front()
                .map_or(sequence, |oldest| oldest.sequence),
            sector: range.start.0 * sectors,
            // A step is much smaller than that.
            sectors: range.count * sectors as u32,
            places: strips.iter().map(|(member, _)| *member).collect(),
            payload: strips.iter().fold(0, |sum, (_, strip)| strip.crc32c(sum)),
        };
        let header = header.to_bytes().ok_or(IoError::Unsupported)?;
        let block = self.block_size as usize;
        let entry = Buf::zeroed((1 + payload as usize) * block);
        entry.write_at(0, &header);
        let mut to = block;
        for (_, strip) in strips {
            entry.slice(to..to + strip.len()).adopt(strip);
            to += strip.len()
        }
        loop {
            let has = |place: &u16| self.of(*place).is_some() && array.members[usize::from(*place)].writes();
            let all: Vec<u16> = (0..array.places().members()).filter(has).collect();
            // Nobody has room for it any more: then no anchor says that there is a log.
            let first = (sequence % all.len().max(1) as u64) as usize;
            let some = all.iter().cycle().skip(first).take(all.len().min(array.spare() + 1));
            let mut failed = None;
            let send = |place: &u16| {
                let start = self.of(*place)? + self.head + at;
                let member = &array.members[usize::from(*place)];
                let io = Io::write(BlockRange::new(start, (1 + payload) as u32), entry.clone()).fua();
                Some((usize::from(member.slot.get()), member.whole()?.submit(io)))
            };
            each(some.filter_map(send).collect::<Vec<_>>(), |slot, error| {
                // It was a u16.
                failed = Some((array.fault_of(slot as u16, error), error))
            })
            .await;
            match failed {
                None => return Ok(()),
                Some((false, error)) => return Err(error),
                // Others take its place.
                Some((true, _)) => (),
            }
        }
    }

    /// Room for entries of so many blocks each. For all at once: who waits for room has none.
    async fn reserve(&self, array: &State, blocks: &[u64]) -> Result<Held<'_>, IoError> {
        let all: u64 = blocks.iter().sum();
        if all > self.length {
            return Err(IoError::Unsupported);
        }
        loop {
            let done = {
                let mut ring = self.ring.borrow_mut();
                if let Some(mut at) = ring.room(all, self.length) {
                    let mut places = Vec::with_capacity(blocks.len());
                    for blocks in blocks {
                        let sequence = self.sequence.get() + 1;
                        self.sequence.set(sequence);
                        ring.all.push_back(Place {
                            sequence,
                            at,
                            done: false,
                        });
                        places.push((sequence, at));
                        at += blocks
                    }
                    ring.next = at;
                    return Ok(Held { of: self, places });
                }
                ring.all.iter().take_while(|place| place.done).count()
            };
            if done == 0 || self.emptying.replace(true) {
                self.changed.wait().await;
                continue;
            }
            let emptied = array.flush_members().await;
            if emptied.is_ok() {
                self.ring.borrow_mut().all.drain(..done);
            }
            self.emptying.set(false);
            self.changed.notify_all();
            emptied?
        }
    }

    /// Writes once more what was being written when the power failed.
    pub async fn replay(&self, array: &State) -> IoResult {
        let block = u64::from(self.block_size);
        let mut generation = None;
        for place in 0..array.places().members() {
            let member = &array.members[usize::from(place)];
            let (Some(at), Some(whole), true) = (self.of(place), member.whole(), member.writes()) else {
                continue;
            };
            let bytes = Buf::alloc(self.block_size as usize);
            whole
                .submit(Io::read(BlockRange::new(at, 1), bytes.clone()).careful())
                .await?;
            let anchor = Anchor::parse(&bytes.to_vec());
            let goes = |anchor: &Anchor| {
                array
                    .record
                    .as_ref()
                    .is_some_and(|record| record.is(place, |own| anchor.goes_with(own)))
            };
            if let Some(anchor) = anchor.filter(goes) {
                generation = generation.max(Some(anchor.generation))
            }
        }
        let generation = generation.ok_or(IoError::Medium)?;
        self.generation.set(generation);
        let mut all: BTreeMap<u64, (u16, u64, Entry)> = BTreeMap::new();
        for place in 0..array.places().members() {
            if array.members[usize::from(place)].writes() {
                self.look(array, place, generation, &mut all).await?
            }
        }
        let oldest = all.values().map(|(_, _, entry)| entry.oldest).max();
        all.retain(|sequence, _| Some(*sequence) >= oldest);
        tracing::info!(array = array.name, entries = all.len(), "its redo log is replayed");
        for (place, at, entry) in all.values() {
            let payload = self.payload(array, *place, *at, entry).await?;
            let sectors = block / SECTOR;
            let range = BlockRange::new(entry.sector / sectors, (u64::from(entry.sectors) / sectors) as u32);
            let strip = array.bytes(range.count);
            let strips = entry.places.iter().enumerate().map(|(n, member)| {
                let data = payload.slice(n * strip..(n + 1) * strip);
                (*member, Io::write(range, data))
            });
            array.to_members(strips.collect::<Vec<_>>()).await?
        }
        array.flush_members().await?;
        if let Some((sequence, (_, at, entry))) = all.last_key_value() {
            self.sequence.set(*sequence);
            self.ring.borrow_mut().next = at + 1 + entry.payload_sectors() * SECTOR / block
        }
        Ok(())
    }

    /// Finds the entries of a generation in the log of a member.
    async fn look(
        &self,
        array: &State,
        place: u16,
        generation: u64,
        all: &mut BTreeMap<u64, (u16, u64, Entry)>,
    ) -> IoResult {
        let (Some(start), Some(whole)) = (self.of(place), array.members[usize::from(place)].whole()) else {
            return Ok(());
        };
        let mut from = 0;
        while from < self.length {
            let count = LOOK.min(self.length - from);
            let bytes = Buf::alloc(array.bytes(count as u32));
            let here = BlockRange::new(start + self.head + from, count as u32);
            whole.submit(Io::read(here, bytes.clone()).careful()).await?;
            for n in 0..count {
                let mut head = [0; redo::LEN];
                bytes.read_at(array.bytes(n as u32), &mut head);
                let Some(entry) = Entry::parse(&head) else { continue };
                let known = all.contains_key(&entry.sequence);
                if entry.generation != generation || known || !self.makes_sense(array, from + n, &entry) {
                    continue;
                }
                let payload = self.payload(array, place, from + n, &entry).await?;
                if payload.crc32c(0) == entry.payload {
                    all.insert(entry.sequence, (place, from + n, entry));
                }
            }
            from += count
        }
        Ok(())
    }

    fn makes_sense(&self, array: &State, at: u64, entry: &Entry) -> bool {
        let sectors = u64::from(self.block_size) / SECTOR;
        let (start, count) = (entry.sector, u64::from(entry.sectors));
        let in_blocks = start.is_multiple_of(sectors) && count.is_multiple_of(sectors) && count > 0;
        let end = start.checked_add(count).map(|end| end / sectors);
        let inside = end.is_some_and(|end| end <= array.places().span());
        let known = entry.places.iter().all(|place| *place < array.places().members());
        in_blocks && inside && known && at + 1 + entry.payload_sectors() / sectors <= self.length
    }

    /// The strips of an entry.
    async fn payload(&self, array: &State, place: u16, at: u64, entry: &Entry) -> Result<Buf, IoError> {
        let (Some(start), Some(whole)) = (self.of(place), array.members[usize::from(place)].whole()) else {
            return Err(IoError::Gone);
        };
        // No longer than the log, which the caller saw to.
        let count = (entry.payload_sectors() * SECTOR / u64::from(self.block_size)) as u32;
        let bytes = Buf::alloc(array.bytes(count));
        let here = BlockRange::new(start + self.head + at + 1, count);
        whole.submit(Io::read(here, bytes.clone()).careful()).await?;
        Ok(bytes)
    }
}

/// A generation that nobody had before.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Nanoseconds fit for five hundred years.
    since.map_or(1, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_round_and_never_over_each_other() {
        let mut rng = reactor::testing::Rng::new(5);
        let (mut ring, length) = (Ring::default(), 100);
        let mut lengths: VecDeque<u64> = VecDeque::new();
        for sequence in 0..10_000 {
            let blocks = 1 + rng.below(40);
            match ring.room(blocks, length) {
                Some(at) => {
                    assert!(at + blocks <= length);
                    for (other, other_blocks) in ring.all.iter().zip(&lengths) {
                        assert!(at + blocks <= other.at || other.at + other_blocks <= at, "{sequence}")
                    }
                    ring.next = at + blocks;
                    ring.all.push_back(Place {
                        sequence,
                        at,
                        done: true,
                    });
                    lengths.push_back(blocks)
                }
                None => {
                    assert!(ring.all.pop_front().is_some(), "an empty ring has room");
                    lengths.pop_front();
                }
            }
        }
    }
}
