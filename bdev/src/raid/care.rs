//! What is done to an array beside host I/O: making members alike after a crash, rebuilding a member, checking.
//!
//! Each step locks a stretch, so host writes there wait for it; how many are under way is the business of [`pace`](super::pace).
use super::{
    array::State,
    member::{Member, MemberState},
    pace::Pace,
    sequel::Sequel,
    shape::Places,
};
use crate::{IoError, IoResult};
use serde::{Deserialize, Serialize};
use spec::{BlockRange, Spans, md::parity::Parity};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    time::Duration,
};

/// Places that differed which are kept to be shown.
const PLACES: usize = 64;
/// How often a rebuild notes how far it is.
const NOTE: Duration = Duration::from_secs(10);

/// What is done to an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// What may differ after a crash is made alike.
    Resync,
    /// A member is made what it should be.
    Rebuild,
    /// Members are compared, and differences counted.
    Check,
    /// Members are compared, and made alike.
    Repair,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is done.
    pub work: Work,
    /// Blocks that are done.
    pub at: u64,
    /// Of so many.
    pub of: u64,
    /// Blocks that were different.
    pub differ: u64,
    /// It stands still until it is told to go on.
    pub paused: bool,
    /// Milliseconds since it began.
    pub for_ms: u64,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Care {
    pub sequel: Sequel,
    pub pace: Pace,
    running: Cell<Option<Progress>>,
    began: Cell<reactor::Time>,
    /// What the last check or repair found: how many blocks that differ, how many that nobody could read, and the first places.
    pub mismatches: Cell<u64>,
    pub unreadable: Cell<u64>,
    pub places: RefCell<Vec<(u64, u64)>>,
    /// From which block on the next scrub compares.
    pub from: Cell<u64>,
    wanted: RefCell<Vec<Work>>,
    paused: Cell<bool>,
    stop: Cell<bool>,
    alive: Cell<bool>,
    changed: reactor::Notify,
}

impl Care {
    pub fn progress(&self) -> Option<Progress> {
        self.running.get().map(|progress| Progress {
            paused: self.paused.get(),
            ..progress
        })
    }

    pub fn pause(&self, on: bool) {
        self.paused.set(on);
        self.changed.notify_all()
    }

    /// Ends what is done at the moment.
    pub fn cancel(&self) {
        self.stop.set(self.running.get().is_some());
        self.wanted.borrow_mut().clear();
        self.changed.notify_all()
    }

    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// It is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.get()
    }

    /// Waits for so long, or until something else is wanted.
    pub async fn doze(&self, at_most: Duration) {
        let _ = reactor::timeout(at_most, self.changed.wait()).await;
    }

    /// Blocks a second of each member at most, from now on; 0: no limit.
    pub fn limit(&self, blocks: u64) {
        self.pace.limit.set(blocks);
        self.changed.notify_all()
    }

    /// Returns when it may go on, or is to end.
    pub async fn unpaused(&self) {
        while self.paused.get() && !self.stop.get() {
            self.changed.wait().await
        }
    }

    /// So many more blocks are done, and so many of them were different.
    pub fn advance(&self, blocks: u64, differ: u64) {
        if let Some(mut progress) = self.running.get() {
            progress.at += blocks;
            progress.differ += differ;
            progress.for_ms = reactor::now().since(self.began.get()).as_millis() as u64;
            self.running.set(Some(progress))
        }
    }
}

impl State {
    /// Does this as soon as what is being done is done.
    pub(crate) fn ask(&self, work: Work) {
        let care = &self.care;
        if !care.wanted.borrow().contains(&work) {
            care.wanted.borrow_mut().push(work)
        }
        care.changed.notify_all();
        if care.alive.replace(true) {
            return;
        }
        let me = self.me();
        reactor::spawn_background(async move {
            loop {
                let Some(array) = me.upgrade() else { return };
                let Some(work) = array.next_work() else {
                    array.care.alive.set(false);
                    return;
                };
                array.work(work).await;
                array.care.running.set(None);
            }
        })
    }

    fn next_work(&self) -> Option<Work> {
        let mut wanted = self.care.wanted.borrow_mut();
        // Asked for again while it was being done.
        if !self.is_rebuilding() {
            wanted.retain(|work| *work != Work::Rebuild)
        }
        match wanted.is_empty() {
            true => None,
            false => Some(wanted.remove(0)),
        }
    }

    /// What has to be done by itself: members that are to be rebuilt, regions that may differ.
    pub(crate) fn tend(&self) {
        if self.intent.next_needed(0).is_some() {
            self.ask(Work::Resync)
        }
        if self.is_rebuilding() {
            self.ask(Work::Rebuild)
        }
    }

    fn is_rebuilding(&self) -> bool {
        self.members.iter().any(|member| member.state().to().is_some())
    }

    async fn work(&self, work: Work) {
        let of = match work {
            Work::Resync => self.intent.needed(),
            Work::Rebuild => self.member_blocks(),
            Work::Check | Work::Repair => self.places().span(),
        };
        let done = |member: &Member| member.state().to();
        let at = match work {
            Work::Rebuild => self.members.iter().find_map(done).unwrap_or(0),
            Work::Check | Work::Repair => self.scrub_from(),
            Work::Resync => 0,
        };
        self.care.stop.set(false);
        self.care.running.set(Some(Progress {
            work,
            at,
            of,
            differ: 0,
            paused: false,
            for_ms: 0,
        }));
        tracing::info!(array = self.name, ?work, blocks = of, "begins");
        let began = reactor::now();
        self.care.began.set(began);
        let done = match work {
            Work::Resync => self.resync().await,
            Work::Rebuild => self.rebuild().await,
            Work::Check => self.scrub(at, false).await,
            Work::Repair => self.scrub(at, true).await,
        };
        let took = reactor::now().since(began);
        match done {
            Ok(()) => tracing::info!(array = self.name, ?work, ?took, "is done"),
            Err(IoError::Medium) if work == Work::Rebuild => tracing::error!(
                array = self.name,
                "the rebuild ended before it was done: nobody can read some of what the member should hold, and its bad-block log, if it has one, has no room for that. It goes on when \
                 that was written and the array is started again"
            ),
            Err(error) => tracing::warn!(array = self.name, ?work, %error, "ended before it was done"),
        }
    }

    fn member_blocks(&self) -> u64 {
        match &self.places() {
            Places::Mirror { blocks, .. } => *blocks,
            Places::Raid10(raid10) => {
                let copies = u64::from(raid10.layout.copies());
                (self.places().blocks() * copies).div_ceil(u64::from(raid10.members()))
            }
            Places::Parity { used, .. } => *used,
        }
    }

    /// What of the span is in use: whole chunks.
    fn whole_span(&self) -> u64 {
        match &self.places() {
            Places::Parity { parity, used } => used - used % u64::from(parity.chunk()),
            _ => self.places().span(),
        }
    }

    async fn compare(&self, range: BlockRange, repair: bool) -> Result<u64, IoError> {
        let stripe = |parity: &Parity| range.start.0 / u64::from(parity.chunk());
        let parity = self.parity().map(|parity| (parity, stripe(&parity)));
        let lock = match parity {
            Some((_, stripe)) => stripe..stripe + 1,
            None => super::intent::range(range),
        };
        let _guard = self.locks.lock(lock).await;
        let differ = match &parity {
            Some((parity, stripe)) => self.compare_rows(parity, *stripe, range, repair).await?,
            None => self.compare_copies(range, repair).await?,
        };
        if repair {
            self.copy_again(range).await?
        }
        Ok(differ)
    }

    async fn resync(&self) -> IoResult {
        let mut from = 0;
        // What nobody can read cannot be compared, and stays noted.
        let left = RefCell::new(Spans::default());
        let unreadable = |range: BlockRange| {
            left.borrow_mut().add(super::intent::range(range));
            Ok(())
        };
        while let Some(mut run) = self.intent.next_needed(from) {
            while let Some(next) = self.intent.next_needed(run.end).filter(|next| next.start == run.end) {
                run.end = next.end
            }
            from = run.end;
            let mut settled = run.start;
            let compare = |range| {
                let compare = async |range| self.compare(range, true).await;
                self.piecewise(range, compare, unreadable)
            };
            self.steps(run.start..run.end.min(self.whole_span()), compare, async |range, _| {
                // Whole regions.
                let unit = self.intent.unit();
                let done = (range.start.0 + u64::from(range.count)) / unit * unit;
                if done > settled {
                    self.settle_but(settled..done, &left.borrow());
                    settled = done
                }
                Ok(())
            })
            .await?;
            self.settle_but(settled..run.end, &left.borrow())
        }
        self.flush_members().await?;
        self.log.begin_anew(self).await?;
        self.watch();
        if let Some(record) = &self.record {
            record.update(self).await?
        }
        let left = left.into_inner();
        if !left.is_empty() {
            tracing::warn!(
                array = self.name,
                blocks = left.count(),
                "nobody can read what should be compared after a crash: that is done after the next check, or at the next start"
            );
            // It would be no better now.
            if self.is_rebuilding() {
                self.ask(Work::Rebuild)
            }
            return Ok(());
        }
        self.tend();
        Ok(())
    }

    /// Members are alike in these regions, but for those of which something was left out.
    fn settle_but(&self, blocks: Range<u64>, left: &Spans) {
        if !left.meets(&blocks) {
            return self.intent.settle(blocks);
        }
        let unit = self.intent.unit();
        let mut at = blocks.start;
        while at < blocks.end {
            let next = (at / unit + 1).saturating_mul(unit).min(blocks.end);
            if !left.meets(&(at..next)) {
                self.intent.settle(at..next)
            }
            at = next
        }
    }

    /// Where the next scrub begins: with a whole chunk.
    fn scrub_from(&self) -> u64 {
        let from = self.care.from.take().min(self.whole_span());
        from - from % u64::from(self.places().chunk().unwrap_or(1))
    }

    async fn scrub(&self, from: u64, repair: bool) -> IoResult {
        let compare = |range| {
            let compare = async |range| self.compare(range, repair).await;
            self.piecewise(range, compare, |range| {
                let care = &self.care;
                care.unreadable.set(care.unreadable.get() + u64::from(range.count));
                self.note_place(range);
                Ok(())
            })
        };
        self.care.places.borrow_mut().clear();
        self.care.unreadable.set(0);
        let differs = async |range: BlockRange, differ| {
            if differ > 0 {
                self.note_place(range)
            }
            Ok(())
        };
        self.steps(from..self.whole_span(), compare, differs).await?;
        let found = self.care.running.get().map_or(0, |progress| progress.differ);
        self.care.mismatches.set(found);
        // Members may have again what they lacked, and what could not be compared after a crash.
        self.watch();
        if self.intent.next_needed(0).is_some() {
            self.ask(Work::Resync)
        }
        Ok(())
    }

    /// Keeps where members differed, as addresses of the array: with parity the whole stripe, for nobody knows which of its members is wrong.
    fn note_place(&self, range: BlockRange) {
        let (start, count) = match self.parity() {
            Some(parity) => {
                let wide = u64::from(parity.chunk()) * u64::from(parity.data());
                (range.start.0 / u64::from(parity.chunk()) * wide, wide)
            }
            None => (range.start.0, range.count.into()),
        };
        let mut places = self.care.places.borrow_mut();
        let full = places.len() >= PLACES;
        match places.last_mut() {
            // What cannot be read is told before the rest of its step.
            Some((at, known)) if *at <= start && *at + *known >= start => *known = (*known).max(start + count - *at),
            _ if full => (),
            _ => places.push((start, count)),
        }
    }

    /// Every member that is to be rebuilt, from where it is.
    async fn rebuild(&self) -> IoResult {
        let is_due = |member: &u16| self.members[usize::from(*member)].state().to().is_some();
        let all: Vec<u16> = (0..self.members.len() as u16).filter(is_due).collect();
        for member in all {
            // What may differ is compared first, and then copied again: who does that asks for the rest.
            if self.replaces(member).is_some() && self.intent.next_needed(0).is_some() {
                return Ok(());
            }
            self.rebuild_member(member).await?
        }
        self.tend();
        Ok(())
    }

    async fn rebuild_member(&self, member: u16) -> IoResult {
        let this = &self.members[usize::from(member)];
        let slot = this.slot.get();
        let from = this.state().to().ok_or(IoError::Gone)?;
        let replaces = self.replaces(member);
        let returns = matches!(this.state(), MemberState::Returning { .. });
        if returns {
            // From now on all say that it is being brought up to date, and it says so as well.
            self.introduce().await?
        }
        let end = match &self.places() {
            Places::Parity { .. } => self.whole_span(),
            Places::Mirror { blocks, .. } => *blocks,
            Places::Raid10(_) => self
                .member_blocks()
                .next_multiple_of(u64::from(self.places().chunk().unwrap_or(1))),
        };
        let mut noted = reactor::now();
        let rebuild = |range| {
            let rebuild = async |range| match (returns, replaces) {
                (true, _) => self.return_stretch(member, range).await,
                (false, Some(place)) => self.copy_stretch(place, range).await,
                (false, None) => self.rebuild_stretch(member, range).await,
            };
            self.piecewise(range, rebuild, |_| Err(IoError::Medium))
        };
        self.steps(from..end, rebuild, async |range, _| {
            let to = range.start.0 + u64::from(range.count);
            if this.state().to().is_none() || this.slot.get() != slot {
                return Err(IoError::Gone);
            }
            this.set_state(this.state().up_to(to));
            if reactor::now().since(noted) > NOTE
                && let Some(record) = &self.record
            {
                // What it says is rebuilt must be there after a crash.
                self.flush_members().await?;
                this.set_durable(to);
                record.update(self).await?;
                noted = reactor::now()
            }
            Ok(())
        })
        .await?;
        self.flush_members().await?;
        if !this.writes() || this.slot.get() != slot {
            return Err(IoError::Gone);
        }
        let lost = this.lacking.borrow().lost.count();
        if lost > 0 {
            tracing::warn!(
                array = self.name,
                member,
                blocks = lost,
                "was rebuilt without what nobody could read"
            )
        }
        if let Some(place) = replaces {
            return self.take_place(place).await;
        }
        this.set_state(MemberState::InSync);
        if let Some(record) = &self.record {
            record.update(self).await?
        }
        self.tell();
        self.watch();
        Ok(())
    }

    /// Makes one stretch of a member what it should be. What is written there from the moment the lock is free is written to this member as well. A block that
    /// nobody can read it lacks then, or whoever replaces it.
    pub(super) async fn rebuild_stretch(&self, member: u16, range: BlockRange) -> Result<u64, IoError> {
        let Some((lock, _)) = self.spot(member, range) else {
            return Ok(0);
        };
        let _guard = self.locks.lock(lock).await;
        let done = match &self.places() {
            Places::Parity { parity, .. } => {
                let stripe = range.start.0 / u64::from(parity.chunk());
                self.rebuild_rows(parity, stripe, member, range).await
            }
            Places::Mirror { .. } => self.copy_to(member, range).await,
            Places::Raid10(raid10) => {
                let sector = range.start.0;
                match raid10.find(spec::md::Place { member, sector }) {
                    Some((at, _)) => self.copy_to(member, BlockRange::new(at, range.count)).await,
                    None => Ok(()),
                }
            }
        };
        match done {
            Err(IoError::Medium) if range.count == 1 => match self.members[usize::from(member)].in_sync() {
                true => self.lack(self.behind(member), range).await?,
                false => self.lack(member, range).await?,
            },
            done => done?,
        }
        match self.members[usize::from(member)].writes() {
            true => Ok(0),
            false => Err(IoError::Gone),
        }
    }
}
