//! An array as it runs: its members and how things stand with them, what may differ between them, and what is done about it.
use super::{
    bands::Scratch,
    care::Care,
    each::each,
    gather::Gather,
    intent::Intent,
    locks::Locks,
    log::{Held, Log},
    member::{Member, MemberState, Parts},
    record::Record,
    shape::Places,
};
use crate::{Disk, Io, IoError, IoResult, Op};
use reactor::{Buf, Notify};
use spec::BlockRange;
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

/// Read errors of a member that are mended before it is given up, as in Linux MD (`max_corrected_read_errors`).
const CORRECTED_MAX: u32 = 20;
/// How long a region has to be idle before it is no longer noted, as mdadm has it.
const TIDY: Duration = Duration::from_secs(5);

/// Who is told that members were lost or rebuilt, and whether all are there now.
type Told = Rc<dyn Fn(bool)>;

/// What an array consists of, for all who work on it. One core's.
pub(crate) struct State {
    /// For the log.
    pub name: String,
    /// Where everything is: it may grow.
    places: Cell<Places>,
    /// Blocks that each member gives.
    pub used: Cell<u64>,
    block_shift: u32,
    /// By their places, and behind them, in the same order, those that replace them.
    pub members: Box<[Member]>,
    pub locks: Locks,
    pub gather: Gather,
    pub scratch: Scratch,
    pub intent: Intent,
    pub record: Option<Record>,
    pub log: Log,
    /// What its log says has been written, or there is nothing in it; an error if that cannot be done.
    ready: Cell<Option<IoResult>>,
    /// The first of these: what is asked for each I/O.
    is_ready: Cell<bool>,
    made_ready: Notify,
    /// Nothing is written, not even metadata.
    pub read_only: bool,
    pub care: Care,
    /// How many members are lost that were there.
    lost: Cell<u64>,
    /// And how many of them because others have their places.
    replaced: Cell<u64>,
    /// Something was written since it runs.
    pub touched: Cell<bool>,
    /// Host I/O so far.
    pub ios: Cell<u64>,
    /// Stripes that were written without a read, and all that were written.
    pub full_stripes: Cell<u64>,
    pub stripes: Cell<u64>,
    /// How many lost members the superblocks of the others know of.
    recorded: Cell<u64>,
    told: RefCell<Option<Told>>,
    me: Weak<State>,
}

/// What an array is made of.
pub(crate) struct Making {
    pub name: String,
    pub places: Places,
    /// Blocks that each member gives.
    pub used: u64,
    pub block_size: u32,
    pub members: Vec<Member>,
    pub intent: Intent,
    pub record: Option<Record>,
    pub log: Log,
    /// The log has to be replayed before anything is written or made from parity.
    pub replay: bool,
    pub read_only: bool,
}

impl State {
    pub fn new(making: Making) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            name: making.name,
            places: Cell::new(making.places),
            used: Cell::new(making.used),
            block_shift: making.block_size.trailing_zeros(),
            members: making.members.into(),
            locks: Locks::default(),
            gather: Gather::default(),
            scratch: Scratch::default(),
            intent: making.intent,
            record: making.record,
            log: making.log,
            ready: Cell::new((!making.replay).then_some(Ok(()))),
            is_ready: Cell::new(!making.replay),
            made_ready: Notify::new(),
            read_only: making.read_only,
            care: Care::default(),
            lost: Cell::new(0),
            replaced: Cell::new(0),
            touched: Cell::new(false),
            ios: Cell::new(0),
            full_stripes: Cell::new(0),
            stripes: Cell::new(0),
            recorded: Cell::new(0),
            told: RefCell::default(),
            me: me.clone(),
        })
    }

    /// Where everything is.
    #[inline]
    pub fn places(&self) -> Places {
        self.places.get()
    }

    pub(super) fn set_places(&self, places: Places) {
        self.places.set(places)
    }

    /// True if the log need not be replayed, or was.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.is_ready.get()
    }

    /// Returns when the log was replayed. An error if it could not be: what was being written when the power failed cannot be told from what was there.
    pub async fn ready(&self) -> IoResult {
        loop {
            match self.ready.get() {
                Some(done) => return done,
                None => self.made_ready.wait().await,
            }
        }
    }

    /// Replays the log.
    pub async fn make_ready(&self) {
        let done = self.log.replay(self).await;
        match done {
            Ok(()) => self.watch(),
            Err(error) => tracing::error!(
                array = self.name,
                %error,
                "what was being written when it was stopped cannot be made right: nothing is read or written"
            ),
        }
        self.ready.set(Some(done));
        self.is_ready.set(done.is_ok());
        self.made_ready.notify_all()
    }

    pub fn on_change(&self, told: Told) {
        *self.told.borrow_mut() = Some(told)
    }

    /// Tells that a member was lost or rebuilt, once that is recorded.
    pub fn tell(&self) {
        let told = self.told.borrow().clone();
        if let Some(told) = told {
            told(self.is_whole())
        }
    }

    pub fn me(&self) -> Weak<State> {
        self.me.clone()
    }

    pub fn block_size(&self) -> u32 {
        1 << self.block_shift
    }

    pub fn bytes(&self, blocks: u32) -> usize {
        (blocks as usize) << self.block_shift
    }

    /// The handles of members that were built anew.
    pub fn set_parts(&self, parts: Vec<Option<Parts>>) {
        for member in &self.members {
            member.set_parts(parts.get(usize::from(member.slot.get())).cloned().flatten())
        }
        self.lengthen();
        (0..self.count()).for_each(|place| self.pair(place))
    }

    /// By their places.
    pub fn seats(&self) -> &[Member] {
        &self.members[..usize::from(self.count())]
    }

    /// How many places there are.
    #[inline]
    pub fn count(&self) -> u16 {
        // Each may be replaced; places are u16 in every shape.
        (self.members.len() / 2) as u16
    }

    /// Who replaces the member in a place, and gets what is written there.
    #[inline]
    pub fn replacement(&self, place: u16) -> Option<&Member> {
        let behind = self.members.get(usize::from(self.behind(place)))?;
        behind.writes().then_some(behind)
    }

    /// Rises with each member that is lost.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// True if every place has a member that holds what it should.
    pub fn is_whole(&self) -> bool {
        self.seats().iter().all(Member::in_sync)
    }

    /// The members that get what is written.
    pub fn writable(&self) -> impl Iterator<Item = u16> + '_ {
        (0..self.count()).filter(|member| self.members[usize::from(*member)].writes())
    }

    /// The data of the member in a place, if it gets what is written: with those of its replacement, if there is one.
    pub fn data(&self, place: u16) -> Option<Disk> {
        let member = self.members.get(usize::from(place))?;
        if !member.writes() {
            return None;
        }
        match self.replacement(place) {
            Some(_) => member.pair(),
            None => member.data(),
        }
    }

    /// Whether a member holds what it should in these of its blocks.
    #[inline]
    pub fn reads(&self, member: u16, range: BlockRange) -> bool {
        let start = range.start.0;
        self.members[usize::from(member)].reads(start, start + u64::from(range.count))
    }

    /// A member did not do what it should. It is not used any more, unless there would be nothing left without it; whoever acknowledges something
    /// that this member lacks waits for [`recorded`](Self::recorded) first. False if it has to stay.
    pub fn fault(&self, member: u16, error: IoError) -> bool {
        let this = &self.members[usize::from(member)];
        if !this.writes() {
            return true;
        }
        if let Some(place) = self.replaces(member) {
            tracing::error!(array = self.name, member = place, %error, "the replacement of a member failed: the member goes on");
            self.lose(member, error == IoError::Gone);
            return true;
        }
        let lost = |other: u16| other == member || !self.members[usize::from(other)].in_sync();
        if this.in_sync() && !self.places().survives(lost) {
            tracing::error!(array = self.name, member, %error, "a member fails, and the array cannot do without it");
            return false;
        }
        tracing::error!(array = self.name, member, %error, "a member failed: it is not used any more");
        self.lose(member, error == IoError::Gone);
        true
    }

    /// The same for whoever has a slot of the plan by now.
    pub fn fault_of(&self, slot: u16, error: IoError) -> bool {
        let mut members = self.members.iter().zip(0..);
        let known = members.find(|(member, _)| member.slot.get() == slot);
        known.is_none_or(|(_, member)| self.fault(member, error))
    }

    fn lose(&self, member: u16, gone: bool) {
        let this = &self.members[usize::from(member)];
        this.set_state(MemberState::Failed);
        this.gone.set(gone);
        self.lost.set(self.lost.get() + 1);
        if self.replaces(member).is_none() {
            self.promote(member)
        }
    }

    /// One whose replacement holds all that it does is used no more.
    pub fn give_place(&self, member: u16) {
        self.replaced.set(self.replaced.get() + 1);
        self.lose(member, false)
    }

    /// A member is taken away. It is not asked whether the array can do without it.
    pub fn give_up(&self, member: u16) {
        self.lose(member, false)
    }

    /// Returns when the members that are left say who failed. Nothing is acknowledged before: not even what came after the failure and did not meet it.
    pub async fn recorded(&self) -> IoResult {
        while self.recorded.get() != self.lost.get() {
            let lost = self.lost.get();
            match &self.record {
                Some(record) if !self.read_only => record.update(self).await?,
                _ => (),
            }
            if self.recorded.replace(lost) != lost {
                self.tell()
            }
        }
        Ok(())
    }

    /// How many members more may be lost, whichever.
    pub fn spare(&self) -> usize {
        let lost = self.seats().iter().filter(|member| !member.in_sync()).count();
        let all = match &self.places() {
            Places::Parity { parity, .. } => usize::from(parity.layout.parities()),
            Places::Mirror { members, .. } => usize::from(*members) - 1,
            Places::Raid10(raid10) => usize::from(raid10.layout.copies()) - 1,
        };
        all.saturating_sub(lost)
    }

    /// Sends an I/O to each of some members. Those that fail are lost to the array, and that is recorded. An error if the array cannot do without one of them.
    pub async fn to_members(&self, parts: impl IntoIterator<Item = (u16, Io)>) -> IoResult {
        self.to_members_held(parts, Held::Nothing).await
    }

    /// The same for rows that are logged, which is over when they are written.
    pub async fn to_members_held(&self, parts: impl IntoIterator<Item = (u16, Io)>, held: Held<'_>) -> IoResult {
        let mut done = Ok(());
        // Mostly nobody lacks anything.
        let (lacks, mut written) = (self.members.iter().any(Member::lacks_any), Vec::new());
        let send = |(member, io): (u16, Io)| {
            let disk = self.data(member)?;
            if lacks && matches!(io.op, Op::Write | Op::WriteZeroes { .. }) {
                let slot = self.members[usize::from(member)].slot.get();
                written.push((member, slot, io.range))
            }
            Some((usize::from(member), disk.submit(io)))
        };
        let mut failed = Vec::new();
        each(parts.into_iter().filter_map(send), |member, error| {
            // It was a u16.
            let member = member as u16;
            failed.push(member);
            if !self.fault(member, error) {
                done = Err(error)
            }
        })
        .await;
        let mut again = false;
        for (member, slot, range) in written {
            if self.members[usize::from(member)].slot.get() == slot && !failed.contains(&member) {
                again |= self.have_again(member, range)
            }
        }
        drop(held);
        self.recorded().await?;
        done?;
        if again {
            // Before it is acknowledged: after a power cut the log would say that it is lost, even if it was flushed.
            let have = self.have_lately();
            self.flush_caches().await?;
            self.settle(have).await?;
            self.recorded().await?
        }
        Ok(())
    }

    /// What was acknowledged by members becomes durable, where they have caches.
    pub async fn empty_caches(&self) -> IoResult {
        let caches = |member: u16| self.data(member).is_some_and(|disk| disk.geometry().volatile_cache);
        match self.writable().any(caches) {
            true => self.flush_members().await,
            false => Ok(()),
        }
    }

    /// Writes metadata to each member that has a place for it, durable when it returns. Who fails is lost to the array. An error if nobody took it.
    pub async fn write_metadata<'a>(&self, what: impl Fn(u16) -> Option<(u64, &'a Buf)>) -> IoResult {
        let (mut last, mut asked, mut failed) = (None, 0, 0);
        let parts = (0..).zip(&self.members).filter(|(_, this)| this.writes());
        let parts = parts.filter_map(|(member, this)| {
            let (at, bytes) = what(member)?;
            let range = BlockRange::new(at, (bytes.len() >> self.block_shift) as u32);
            asked += 1;
            let done = this.whole()?.submit(Io::write(range, bytes.clone()).fua());
            Some((usize::from(this.slot.get()), done))
        });
        let parts: Vec<_> = parts.collect();
        each(parts, |slot, error| {
            failed += 1;
            last = Some(error);
            // It was a u16.
            self.fault_of(slot as u16, error);
        })
        .await;
        match last {
            Some(error) if failed == asked => Err(error),
            _ => Ok(()),
        }
    }

    /// Members' caches are emptied. Who fails is lost to the array, which the caller records. An error if the array cannot do without one of them.
    pub async fn flush_caches(&self) -> IoResult {
        let send = |member: u16| Some((usize::from(member), self.data(member)?.submit(Io::flush())));
        let all: Vec<_> = self.writable().filter_map(send).collect();
        let mut done = Ok(());
        each(all, |member, error| {
            // It was a u16.
            if !self.fault(member as u16, error) {
                done = Err(error)
            }
        })
        .await;
        done
    }

    /// What was acknowledged becomes durable on every member.
    pub async fn flush_members(&self) -> IoResult {
        let all: Vec<(u16, Io)> = self.writable().map(|member| (member, Io::flush())).collect();
        self.to_members(all).await
    }

    /// The same for a host: what was mended is not said to be lost after a power cut. An error if a member is lost meanwhile while others lack something: it may have been the only
    /// one who had what is to be durable.
    pub async fn flush(&self) -> IoResult {
        // One whose replacement has its place by now has left nothing behind.
        let failed = || self.lost.get() - self.replaced.get();
        let (have, before) = (self.have_lately(), failed());
        self.flush_members().await?;
        if !have.is_empty() {
            self.settle(have).await?
        }
        match failed() != before && self.members.iter().any(Member::lacks_any) {
            true => Err(IoError::Medium),
            false => Ok(()),
        }
    }

    /// New members get the bitmap, and all say who belongs to the array.
    pub async fn introduce(&self) -> IoResult {
        self.intent.write_whole(self).await?;
        match &self.record {
            Some(record) => record.update(self).await,
            None => Ok(()),
        }
    }

    /// Superblocks say already that something is under way, or there are none.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.record.as_ref().is_none_or(Record::is_dirty)
    }

    /// Something is under way: superblocks say so before anything is written.
    pub async fn dirty(&self) -> IoResult {
        match &self.record {
            Some(record) => record.set_dirty(self, true).await,
            None => Ok(()),
        }
    }

    /// Nothing is under way, and nothing differs: superblocks say so.
    pub async fn clean(&self) {
        if let Some(record) = &self.record
            && record.set_dirty(self, false).await.is_err()
        {
            tracing::warn!(
                array = self.name,
                "no superblock could be written: all that was noted is compared at the next start"
            )
        }
    }

    /// Forgets what was noted when it has been idle for a while.
    pub fn watch(&self) {
        if self.intent.watched(true) {
            return;
        }
        let me = self.me.clone();
        reactor::spawn_background(async move {
            loop {
                reactor::sleep(TIDY).await;
                let Some(array) = me.upgrade() else { return };
                let left = array.intent.tidy(&array).await;
                // What is noted stays noted while a member is away, but nothing is under way.
                let have = array.have_lately();
                if array.intent.is_idle() && array.flush_members().await.is_ok() && array.intent.is_idle() {
                    array.intent.watched(false);
                    let _ = array.settle(have).await;
                    array.clean().await;
                    if array.intent.is_idle() && (!left || !array.is_whole()) {
                        return;
                    }
                    if array.intent.watched(true) {
                        return;
                    }
                }
            }
        })
    }

    /// A member gave an error for a read that was answered otherwise: writes there what it should hold. Past a number of such errors, or if that fails,
    /// the member is lost.
    pub async fn mend(&self, member: u16, range: BlockRange, data: Buf, error: IoError) -> IoResult {
        let this = &self.members[usize::from(member)];
        if !this.writes() || self.read_only {
            return Ok(());
        }
        // Also one that has gone: another may have its place by now.
        let rewritten = match self.data(member) {
            Some(disk) => disk.submit(Io::write(range, data)).await,
            None => Err(error),
        };
        if rewritten.is_ok() {
            self.have_again(member, range);
        }
        self.mended(member, range, rewritten, error).await
    }

    /// What a member could not read was written there, or could not be.
    pub async fn mended(&self, member: u16, range: BlockRange, rewritten: IoResult, error: IoError) -> IoResult {
        let this = &self.members[usize::from(member)];
        let count = this.corrected.get().saturating_add(1);
        if rewritten.is_ok() && count <= CORRECTED_MAX {
            this.corrected.set(count);
            tracing::warn!(
                array = self.name,
                member,
                at = range.start.0,
                blocks = range.count,
                "a read error was mended by writing"
            );
            return Ok(());
        }
        self.fault(member, rewritten.err().unwrap_or(error));
        self.recorded().await
    }
}
