//! Mirrors and RAID-10: each block on several members.
//!
//! ```text
//!   read    ──► the copy that answers soonest ── error ──► another copy, which is then written over the bad one
//!   write   ──► note it ──► all copies at once ── one fails ──► its member is lost; the others say so; then it is answered
//! ```
//!
//! Two writes that overlap go one after the other, or copies could end up different. While it is not known whether copies are alike (after a power cut), all
//! reads of such a region go to the same one.
use super::{array::State, intent, shape::Places};
use crate::{Io, IoError, IoResult};
use reactor::Buf;
use spec::{BlockRange, Lba};

/// I/Os fewer under way that a member is credited with if a read goes on where its last one ended.
const SEQUENTIAL: u32 = 8;
/// How little a copy is wanted: I/Os under way, then how far it is from where it was read last. In one number, for it is asked for each read: 2^40 blocks are more than a
/// disk has.
#[inline(always)]
pub(crate) fn cost(busy: u32, next: u64, at: u64) -> u64 {
    let far = next.abs_diff(at);
    let credit = if far == 0 { SEQUENTIAL } else { 0 };
    u64::from(busy.saturating_sub(credit)) << 40 | far
}
/// More than any other.
const WRITE_MOSTLY: u64 = 1 << 63;

/// A member, and where on it.
type Spot = (u16, u64);

impl State {
    /// The copies of what begins at a block and lies within a chunk: members, and where on them.
    pub(crate) fn copies(&self, start: u64) -> impl Iterator<Item = (u16, u64)> + '_ {
        let (mirror, raid10) = match &self.places() {
            Places::Mirror { members, .. } => (Some((0..*members).map(move |member| (member, start))), None),
            Places::Raid10(raid10) => (
                None,
                Some(raid10.places(start).map(|place| (place.member, place.sector))),
            ),
            Places::Parity { .. } => (None, None),
        };
        mirror.into_iter().flatten().chain(raid10.into_iter().flatten())
    }

    /// The copy to read, of those that hold what they should and that `unless` does not rule out.
    #[inline]
    pub(crate) fn copy_to_read(&self, range: BlockRange, unless: impl Fn(u16) -> bool) -> Option<(u16, u64)> {
        if self.intent.is_needed(&intent::range(range)) {
            return self.first_copy(range, unless);
        }
        let start = range.start.0;
        match self.places() {
            Places::Mirror { members, .. } => {
                self.cheapest((0..members).map(|member| (member, start)), range.count, unless)
            }
            Places::Raid10(raid10) => {
                let copies = raid10.places(start).map(|place| (place.member, place.sector));
                self.cheapest(copies, range.count, unless)
            }
            Places::Parity { .. } => None,
        }
    }

    /// Which of these it costs least to read.
    #[inline(always)]
    fn cheapest(&self, copies: impl Iterator<Item = Spot>, count: u32, unless: impl Fn(u16) -> bool) -> Option<Spot> {
        let (mut least, mut best) = (u64::MAX, None);
        for (member, at) in copies {
            let this = &self.members[usize::from(member)];
            if unless(member) || !this.reads(at, at + u64::from(count)) {
                continue;
            }
            let mostly = if this.write_mostly.get() { WRITE_MOSTLY } else { 0 };
            let cost = cost(this.standing(), this.next.get(), at) | mostly;
            if cost < least {
                (least, best) = (cost, Some((member, at)))
            }
        }
        best
    }

    /// The copy that counts as long as copies may differ: the first whose member holds all that it should, whatever part of it is asked for. One that is only on its
    /// way has something of the range and not the rest, and would be the first for one read and not for another.
    fn first_copy(&self, range: BlockRange, unless: impl Fn(u16) -> bool) -> Option<(u16, u64)> {
        let of = |member: u16| &self.members[usize::from(member)];
        // So has one that lacks a part of it.
        let lacks = |(member, at): (u16, u64)| {
            let member = of(member);
            member.in_sync() && member.lacks(at..at + u64::from(range.count))
        };
        if range.count > 1 && self.copies(range.start.0).any(lacks) {
            return None;
        }
        let usable =
            |(member, at): &(u16, u64)| !unless(*member) && of(*member).reads(*at, *at + u64::from(range.count));
        let copies = || self.copies(range.start.0).filter(usable);
        copies()
            .find(|(member, _)| of(*member).in_sync())
            .or_else(|| copies().next())
    }

    /// Notes that a member was read.
    #[inline]
    pub(crate) fn was_read(&self, member: u16, at: u64, count: u32) {
        self.members[usize::from(member)].next.set(at + u64::from(count))
    }

    /// A read that lies within a chunk.
    pub(crate) async fn read_copy(&self, io: Io) -> IoResult {
        let mut bad: Option<(u16, u64, IoError)> = None;
        // Mostly nobody.
        let mut tried: Vec<u16> = Vec::new();
        let mut last = IoError::Medium;
        loop {
            let Some((member, at)) = self.copy_to_read(io.range, |member| tried.contains(&member)) else {
                return Err(last);
            };
            let Some(disk) = self.data(member) else {
                tried.push(member);
                continue;
            };
            self.was_read(member, at, io.range.count);
            match disk.submit(io.clone().at(Lba(at))).await {
                Ok(()) => break,
                Err(error) if !error.is_mendable() => return Err(error),
                Err(error) => {
                    last = error;
                    bad = bad.or(Some((member, at, error)));
                    tried.push(member)
                }
            }
        }
        let Some((member, at, error)) = bad else { return Ok(()) };
        // What was read may be older than what is there by now.
        let _guard = self.locks.lock(intent::range(io.range)).await;
        let Some((good, from)) = self.copy_to_read(io.range, |other| other == member) else {
            return Ok(());
        };
        let (Some(disk), fresh) = (self.data(good), Buf::alloc(io.data.len())) else {
            return Ok(());
        };
        if disk
            .read(BlockRange::new(from, io.range.count), fresh.clone())
            .await
            .is_ok()
        {
            self.mend(member, BlockRange::new(at, io.range.count), fresh, error)
                .await?
        }
        Ok(())
    }

    /// Anything that changes what a chunk holds.
    pub(crate) async fn write_copies(&self, io: Io) -> IoResult {
        let range = intent::range(io.range);
        let _guard = self.locks.lock(range.clone()).await;
        if !self
            .copies(io.range.start.0)
            .any(|(member, _)| self.members[usize::from(member)].in_sync())
        {
            return Err(IoError::Gone);
        }
        self.intent.begin(self, range.clone()).await?;
        let copies = self.copies(io.range.start.0);
        let done = self
            .to_members(copies.map(|(member, at)| (member, io.clone().at(Lba(at)))))
            .await;
        self.intent.end(&range);
        done
    }

    /// Compares the copies of a range that lies within a chunk, with the range locked by the caller. Blocks that differ; with `repair` all become like the first.
    pub(crate) async fn compare_copies(&self, range: BlockRange, repair: bool) -> Result<u64, IoError> {
        let (mut first, mut differ): (Option<Buf>, u64) = (None, 0);
        let mut copies: Vec<(u16, u64)> = self.copies(range.start.0).collect();
        // As they are read while it is not known whether they are alike.
        copies.sort_by_key(|(member, _)| !self.members[usize::from(*member)].in_sync());
        let bytes = self.bytes(range.count);
        let (mut lacking, mut bad) = (Vec::<(u16, BlockRange)>::new(), Vec::new());
        for (member, at) in copies {
            let here = BlockRange::new(at, range.count);
            let Some(disk) = self.data(member).filter(|_| self.reads(member, here)) else {
                match self.members[usize::from(member)].in_sync() {
                    // Perhaps not all of it: it is compared block by block.
                    true if range.count > 1 => return Err(IoError::Medium),
                    true if repair => lacking.push((member, here)),
                    _ => (),
                }
                continue;
            };
            let data = Buf::alloc(bytes);
            if let Err(error) = disk.read(here, data.clone()).await {
                bad.push((member, here, error));
                continue;
            }
            let Some(good) = &first else {
                first = Some(data);
                continue;
            };
            if !good.eq_bytes(&data) {
                differ += u64::from(range.count);
                if repair {
                    self.to_members([(member, Io::write(here, good.clone()))]).await?
                }
            }
        }
        let good = first.ok_or(IoError::Medium)?;
        for (member, here, error) in bad {
            self.mend(member, here, good.clone(), error).await?
        }
        let again = lacking
            .into_iter()
            .map(|(member, here)| (member, Io::write(here, good.clone())));
        self.to_members(again).await?;
        Ok(differ)
    }

    /// Copies what a member should hold in a range within a chunk, which the caller has locked.
    pub(crate) async fn copy_to(&self, target: u16, range: BlockRange) -> IoResult {
        let copies: Vec<(u16, u64)> = self.copies(range.start.0).collect();
        let targets: Vec<u64> = copies
            .iter()
            .filter(|(member, _)| *member == target)
            .map(|(_, at)| *at)
            .collect();
        if targets.is_empty() {
            return Ok(());
        }
        let data = Buf::alloc(self.bytes(range.count));
        let mut read = Err(IoError::Medium);
        for (member, at) in copies.iter().filter(|(member, _)| *member != target) {
            let here = BlockRange::new(*at, range.count);
            if let Some(disk) = self.data(*member).filter(|_| self.reads(*member, here)) {
                read = disk.submit(Io::read(here, data.clone()).careful()).await;
                if read.is_ok() {
                    break;
                }
            }
        }
        read?;
        let to = |at: u64| (target, Io::write(BlockRange::new(at, range.count), data.clone()));
        self.to_members(targets.into_iter().map(to)).await
    }
}
