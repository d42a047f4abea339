//! Raid: an array with redundancy as a device. What it does is in [`raid`](crate::raid); here is the way in.
//!
//! ```text
//!   read within a chunk of a member that holds what it should ─ map ─► member
//!   read or write of more than a chunk (a stripe) ──► its parts ──► each one a frame of the inner device
//! ```
use crate::{
    Allocation, BlockDevice, Disk, Geometry, Io, IoError, IoResult, Mapped, Op, fan,
    raid::{
        Intent, Log, Making, Member, MemberState, Partial, Parts, Place, Places, Progress, Record, Redo, Shape, State,
        Super, Work, split, zeros,
    },
};
use serde::{Deserialize, Serialize};
use spec::{
    BlockRange, Lba,
    md::{SECTOR, bitmap::Header, redo, superblock::Superblock, v1::Features},
};
use std::{ops::Range, rc::Rc};

/// Blocks of members whose zeroing is one operation.
const ZERO_STEP: u64 = 1 << 17;
/// Regions that are told apart in memory, where there is no bitmap.
const REGIONS: u64 = 1 << 14;
/// Regions a bitmap may have: what it takes in memory is bounded.
const REGIONS_MAX: u64 = 1 << 24;

/// What an array is built from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For the log.
    pub name: String,
    /// What it does.
    pub shape: Shape,
    /// Blocks that each member gives.
    pub used: u64,
    /// By their places.
    pub members: Vec<Option<Seat>>,
    /// The header of the bitmap, if members have one.
    pub bitmap: Option<Vec<u8>>,
    /// What may differ between members, as ranges of the space that is compared: the first block and how many.
    pub differs: Vec<(u64, u64)>,
    /// What the bitmap has noted besides.
    pub noted: Vec<(u64, u64)>,
    /// The log says what was being written when it was stopped: partial parity, or what was to be written.
    pub replay: bool,
    /// Nothing is written, not even metadata.
    pub read_only: bool,
}

impl Plan {
    /// Sectors that the bitmap takes on each member.
    fn bitmap_sectors(&self) -> u64 {
        let header = self.bitmap.as_ref().and_then(|bytes| Header::parse(bytes).ok());
        header.map_or(0, |header| header.len().div_ceil(SECTOR))
    }
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub struct Seat {
    /// How things stand with it.
    pub state: MemberState,
    /// Read only if no other can answer.
    pub write_mostly: bool,
    /// Blocks of its data that it does not have.
    pub bad: Vec<(u64, u64)>,
    /// Where its superblock is, in blocks of the member, and its bytes.
    pub superblock: Option<(u64, Vec<u8>)>,
}

/// What an array is like at the moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its members, by their places.
    pub members: Vec<MemberReport>,
    /// What is done to it.
    pub progress: Option<Progress>,
    /// Blocks that the last check or repair found different.
    pub mismatches: u64,
    /// Where, as blocks of the array and how many; only the first few.
    #[serde(default)]
    pub places: Vec<(u64, u64)>,
    /// Blocks that are compared after a crash now.
    pub noted: u64,
    /// Of so many blocks for each note.
    pub unit: u64,
    /// Count of changes of its state.
    pub events: u64,
    /// Stripes that were written, and how many of them without a read.
    pub stripes: u64,
    /// See `stripes`.
    pub full_stripes: u64,
}

/// A member as it is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// How things stand with it.
    pub state: MemberState,
    /// Read only if no other can answer.
    pub write_mostly: bool,
    /// Read errors that were mended.
    pub corrected: u32,
}

/// What may be asked of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Compares all members, and with `repair` makes them alike.
    Scrub {
        /// Make them alike.
        repair: bool,
    },
    /// Stands still, or goes on.
    Pause(bool),
    /// Ends what is done.
    Cancel,
    /// Blocks a second of each member at most; 0: no limit.
    Limit(u64),
    /// Gives up a member.
    Fail(u16),
}

/// What an array is to hosts. `members` are those of its data, as long as they are used.
pub fn geometry(shape: Shape, members: &[Option<Geometry>], used: u64) -> Result<Geometry, String> {
    let places = shape.places(members.len(), used)?;
    let there: Vec<Geometry> = members.iter().flatten().copied().collect();
    if there.iter().any(|member| member.blocks < used) {
        return Err(format!(
            "a member is shorter than the {used} blocks that are used of each"
        ));
    }
    let all = Geometry::combine(
        &there
            .iter()
            .map(|member| Geometry { blocks: 0, ..*member })
            .collect::<Vec<_>>(),
    )?;
    // Members that hold different things where they are unmapped would no longer be alike.
    let unmap = all.unmap && all.unmap_reads_zero;
    let whole = matches!(places, Places::Parity { .. });
    Ok(Geometry {
        blocks: places.blocks(),
        optimal_io: places.optimal(),
        unmap,
        unmap_granularity: if whole { places.optimal() } else { all.unmap_granularity },
        unmap_reads_zero: unmap && !whole,
        write_zeroes: all.write_zeroes,
        ..all
    })
}

/// See the [module](self).
pub struct Raid {
    array: Array,
    /// As the state has them, for those who map.
    members: Box<[Option<Disk>]>,
    geometry: Geometry,
    /// The same array, for parts of an I/O.
    parts: Disk,
}

/// The array itself, which outlives its devices: what is known of its members, and what is done to it. Clones are the same array.
#[derive(Clone)]
pub struct Array(Rc<State>);

impl Array {
    /// An array of these members. Says in words what does not fit together.
    pub fn new(plan: Plan, parts: Vec<Option<Parts>>, block_size: u32) -> Result<Self, String> {
        let places = plan.shape.places(plan.members.len(), plan.used)?;
        let sectors = u64::from(block_size) / SECTOR;
        let labels = labels(&plan.members, plan.bitmap_sectors(), block_size)?;
        let events: Vec<Option<u64>> = labels
            .iter()
            .map(|label| Some(label.as_ref()?.superblock.superblock.events()))
            .collect();
        let bitmaps = labels.iter().map(|label| label.as_ref()?.bitmap).collect::<Vec<_>>();
        let log = log(&plan, &places, &labels, block_size)?;
        if plan.replay && matches!(log, Log::None) {
            return Err("it has no log that could be replayed".into());
        }
        let supers: Vec<_> = labels.into_iter().map(|label| Some(label?.superblock)).collect();
        let record = supers.iter().any(Option::is_some).then(|| Record::new(supers));
        if let (Some(record), true) = (&record, plan.replay) {
            record.was_dirty()
        }
        let span = places.span();
        let (unit, place) = match &plan.bitmap {
            Some(bytes) => {
                let header = Header::parse(bytes).map_err(|error| error.to_string())?;
                let place = Place {
                    at: bitmaps.into(),
                    header: header.clone().into(),
                };
                (u64::from(header.chunk / 512).max(sectors) / sectors, Some(place))
            }
            None => (span.div_ceil(REGIONS).max(1), None),
        };
        if span.div_ceil(unit) > REGIONS_MAX {
            return Err(format!(
                "a bitmap of {} bits is longer than {REGIONS_MAX}",
                span.div_ceil(unit)
            ));
        }
        let intent = Intent::new(span, unit, place);
        for (start, count) in &plan.differs {
            intent.need(*start..start.saturating_add(*count))
        }
        for (start, count) in &plan.noted {
            intent.noted_before(*start..start.saturating_add(*count))
        }
        let state = |(seat, events): (&Option<Seat>, Option<u64>)| match seat {
            Some(seat) => seated(&plan.name, seat.state, events, &intent),
            None => MemberState::Missing,
        };
        let states: Vec<MemberState> = plan.members.iter().zip(events).map(state).collect();
        let member = |((seat, parts), state): ((&Option<Seat>, Option<Parts>), MemberState)| match seat {
            Some(seat) => Member::new(parts, state, seat.write_mostly, &seat.bad),
            None => Member::new(None, MemberState::Missing, false, &[]),
        };
        Ok(Self(State::new(Making {
            name: plan.name,
            places,
            block_size,
            members: plan.members.iter().zip(parts).zip(states).map(member).collect(),
            intent,
            record,
            log,
            replay: plan.replay,
            read_only: plan.read_only,
        })))
    }

    /// The device, over members that may have been built anew.
    pub fn device(&self, parts: Vec<Option<Parts>>, geometry: Geometry) -> Disk {
        self.0.set_parts(parts.clone());
        Disk::new(Raid {
            array: self.clone(),
            members: parts.into_iter().map(|parts| parts.map(|parts| parts.data)).collect(),
            geometry,
            parts: Disk::new(Inner {
                array: self.0.clone(),
                geometry,
            }),
        })
    }

    /// Whom to tell of members that were lost or rebuilt, once that is recorded, and whether all are there now.
    pub fn on_change(&self, told: impl Fn(bool) + 'static) {
        self.0.on_change(Rc::new(told))
    }

    /// Begins what has to be done by itself: to be called on its core once hosts may come.
    pub fn tend(&self) {
        if self.0.read_only {
            return;
        }
        if self.0.is_ready() {
            return self.0.tend();
        }
        let state = self.0.clone();
        reactor::spawn_background(async move {
            state.make_ready().await;
            if state.is_ready() {
                state.tend()
            }
        })
    }

    /// What it is like.
    pub fn report(&self) -> Report {
        let state = &self.0;
        Report {
            members: state
                .members
                .iter()
                .map(|member| MemberReport {
                    state: member.state(),
                    write_mostly: member.write_mostly.get(),
                    corrected: member.corrected.get(),
                })
                .collect(),
            progress: state.care.progress(),
            mismatches: state.care.mismatches.get(),
            places: state.care.places.borrow().clone(),
            noted: state.intent.noted(),
            unit: state.intent.unit(),
            events: state.record.as_ref().map_or(0, Record::events),
            stripes: state.stripes.get(),
            full_stripes: state.full_stripes.get(),
        }
    }

    /// Members in these places have vanished. False if the array cannot do without them.
    pub async fn lose(&self, places: &[u16]) -> bool {
        let state = &self.0;
        let mut alive = true;
        for place in places {
            alive &= state.fault(*place, IoError::Gone)
        }
        alive && state.recorded().await.is_ok()
    }

    /// Something was written since it runs: it cannot become another array.
    pub fn is_touched(&self) -> bool {
        self.0.touched.get()
    }

    /// Goes on with what another plan says of its members: those that are new to their places are rebuilt, those that come back are brought up to date, those that it has no more are given up. False, and nothing changes, if
    /// it is a plan of another array.
    pub fn change(&self, plan: &Plan) -> bool {
        let state = &self.0;
        let Ok(places) = plan.shape.places(plan.members.len(), plan.used) else {
            return false;
        };
        if places != state.places || plan.bitmap.is_some() != state.intent.is_on_disk() {
            return false;
        }
        let Ok(labels) = labels(&plan.members, plan.bitmap_sectors(), state.block_size()) else {
            return false;
        };
        // One that has come late and holds what it should: nothing was written without it. Any other knows of something that this array does not.
        let late = |label: &Option<Label>| match (&state.record, label) {
            (Some(record), Some(label)) => {
                !state.touched.get() && record.events() == label.superblock.superblock.events()
            }
            _ => false,
        };
        let strange = plan
            .members
            .iter()
            .zip(&labels)
            .zip(&state.members)
            .any(|((seat, label), known)| {
                let holds = seat.as_ref().is_some_and(|seat| seat.state == MemberState::InSync);
                holds && known.state() == MemberState::Missing && !late(label)
            });
        if strange {
            return false;
        }
        for ((place, (seat, label)), known) in (0..).zip(plan.members.iter().zip(labels)).zip(&state.members) {
            match seat {
                None if known.writes() => state.give_up(place),
                Some(seat) if !known.writes() && (seat.state.to().is_some() || late(&label)) => {
                    let events = label.as_ref().map(|label| label.superblock.superblock.events());
                    let to = seated(&state.name, seat.state, events, &state.intent);
                    if to == MemberState::Missing {
                        continue;
                    }
                    known.seat(to, seat.write_mostly);
                    if let (Some(record), Some(label)) = (&state.record, label) {
                        state.intent.seat(place, label.bitmap);
                        state.log.seat(place, label.log.clone());
                        record.seat(place, label.superblock)
                    }
                }
                _ => (),
            }
        }
        let array = self.clone();
        reactor::spawn_background(async move {
            if array.0.ready().await.is_err() {
                return;
            }
            if array.0.introduce().await.is_err() {
                tracing::error!(
                    array = array.0.name,
                    "its new members are not recorded: no metadata could be written"
                )
            }
            array.tend()
        });
        true
    }

    /// Does what is asked, or says why not.
    pub async fn command(&self, command: Command) -> Result<(), String> {
        let state = &self.0;
        match command {
            Command::Scrub { repair } => state.ask(if repair { Work::Repair } else { Work::Check }),
            Command::Pause(on) => state.care.pause(on),
            Command::Cancel => state.care.cancel(),
            Command::Limit(blocks) => state.care.pace.limit.set(blocks),
            Command::Fail(member) => {
                let known = state
                    .members
                    .get(usize::from(member))
                    .ok_or_else(|| format!("there is no place {member}"))?;
                if !known.writes() {
                    return Err(format!("the member in place {member} is not in use"));
                }
                // It has not gone away by itself, and comes back only by asking.
                if !state.fault(member, IoError::Device) {
                    return Err(format!("the array cannot do without the member in place {member}"));
                }
                state.recorded().await.map_err(|error| error.to_string())?
            }
        }
        Ok(())
    }

    /// Nothing is under way any more: empties the members' caches, forgets what was noted and says so on disk.
    pub async fn stop(&self) {
        self.0.care.cancel();
        if self.0.read_only || !self.0.is_ready() {
            return;
        }
        // The first look only sees that nothing is used any more; what has to stay noted stays.
        for _ in 0..2 {
            self.0.intent.tidy(&self.0).await;
        }
        if self.0.intent.is_idle() && self.0.flush_members().await.is_ok() {
            self.0.clean().await
        }
    }
}

/// The state in which a member begins. One that comes back, and of which nobody knows any more what it has missed, does not.
fn seated(array: &str, state: MemberState, events: Option<u64>, intent: &Intent) -> MemberState {
    let MemberState::Returning { .. } = state else {
        return state;
    };
    let known = match events {
        Some(events) => intent.may_return(events).map_err(|why| why.to_string()),
        None => Err("it has no superblock".to_owned()),
    };
    match known {
        Ok(()) => state,
        Err(why) => {
            tracing::warn!(array, why, "a member that was away is not taken back");
            MemberState::Missing
        }
    }
}

/// A member's metadata: its superblock, and where its bitmap is.
struct Label {
    superblock: Super,
    bitmap: Option<u64>,
    /// Where a partial parity log is, or where there is room for a redo log, in blocks.
    log: Option<Range<u64>>,
}

/// The log of an array: which one follows from its shape, and from what its members have room for.
fn log(plan: &Plan, places: &Places, labels: &[Option<Label>], block_size: u32) -> Result<Log, String> {
    let known = labels.iter().flatten().next().map(|label| &label.superblock.superblock);
    let (Some(Superblock::V1(known)), Places::Parity { .. }) = (known, places) else {
        return Ok(Log::None);
    };
    let at = labels.iter().map(|label| label.as_ref()?.log.clone()).collect();
    if known.ppl().is_some() {
        let several = known.features.has(Features::MULTIPLE_PPLS);
        return Partial::new(known.array, at, several, block_size).map(|log| Log::Partial(log.into()));
    }
    let in_sync = |seat: &Option<Seat>| seat.as_ref().is_some_and(|seat| seat.state == MemberState::InSync);
    let whole = plan.members.iter().all(in_sync);
    Ok(Redo::new(known.array, at, block_size, !whole).map_or(Log::None, |log| Log::Redo(log.into())))
}

/// What [`Label::log`] is.
fn log_at(
    superblock: &Superblock,
    at: u64,
    bitmap_sectors: u64,
    block_size: u32,
) -> Result<Option<Range<u64>>, String> {
    let sectors = u64::from(block_size) / SECTOR;
    let own = match superblock {
        Superblock::V1(own) => own,
        Superblock::V0(_) => return Ok(None),
    };
    let in_blocks = |room: Range<u64>| {
        let whole = room.start.is_multiple_of(sectors);
        whole.then(|| room.start / sectors..room.end / sectors)
    };
    let Some((offset, size)) = own.ppl() else {
        return Ok(redo::room(superblock, bitmap_sectors).and_then(in_blocks));
    };
    let at = at.saturating_mul(sectors);
    let (label, data) = (
        at..at.saturating_add(8),
        own.data_offset..own.data_offset.saturating_add(own.size),
    );
    let room = at
        .checked_add_signed(offset.into())
        .map(|start| start..start.saturating_add(size.into()));
    let apart = |a: &Range<u64>, b: &Range<u64>| a.end <= b.start || b.end <= a.start;
    room.filter(|room| apart(room, &label) && apart(room, &data))
        .and_then(in_blocks)
        .map(Some)
        .ok_or_else(|| "a member's partial parity log lies where something else is".to_owned())
}

fn labels(members: &[Option<Seat>], bitmap_sectors: u64, block_size: u32) -> Result<Vec<Option<Label>>, String> {
    let sectors = u64::from(block_size) / SECTOR;
    let label = |seat: &Option<Seat>| {
        let Some((at, bytes)) = seat.as_ref().and_then(|seat| seat.superblock.as_ref()) else {
            return Ok(None);
        };
        let superblock = Superblock::parse(bytes).map_err(|error| error.to_string())?;
        let sector = |offset: i32| at.checked_mul(sectors)?.checked_add_signed(offset.into());
        let bitmap = superblock.bitmap_offset().and_then(sector);
        if bitmap.is_some_and(|at| !at.is_multiple_of(sectors)) {
            return Err("the bitmap does not begin with a block".to_owned());
        }
        let log = log_at(&superblock, *at, bitmap_sectors, block_size)?;
        let superblock = Super { at: *at, superblock };
        Ok(Some(Label {
            superblock,
            log,
            bitmap: bitmap.map(|at| at / sectors),
        }))
    };
    members.iter().map(label).collect()
}

impl BlockDevice for Raid {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// A read of one chunk that is where it should be.
    #[inline]
    fn map(&self, io: &mut Io) -> Mapped<'_> {
        let state = &*self.array.0;
        if io.op != Op::Read || io.range.count == 0 || !state.is_ready() {
            return Mapped::Stay;
        }
        let (member, at) = match &state.places {
            Places::Parity { parity, .. } => {
                if !within(io.range, parity.chunk()) {
                    return Mapped::Stay;
                }
                let place = parity.place(io.range.start.0);
                if !state.reads(place.member, BlockRange::new(place.sector, io.range.count)) {
                    return Mapped::Stay;
                }
                (place.member, place.sector)
            }
            places => {
                if places.chunk().is_some_and(|chunk| !within(io.range, chunk)) {
                    return Mapped::Stay;
                }
                let Some((member, at)) = state.copy_to_read(io.range, |_| false) else {
                    return Mapped::Stay;
                };
                state.was_read(member, at, io.range.count);
                (member, at)
            }
        };
        match &self.members[usize::from(member)] {
            Some(disk) => {
                state.ios.set(state.ios.get() + 1);
                io.range.start = Lba(at);
                Mapped::To(disk)
            }
            None => Mapped::Stay,
        }
    }

    async fn submit(&self, io: Io) -> IoResult {
        let state = &*self.array.0;
        state.ios.set(state.ios.get() + 1);
        let chunk = state.places.chunk();
        match io.op {
            Op::Flush => state.flush_members().await,
            Op::Allocation => Allocation::all(io.range).tell(&io),
            _ if io.range.count == 0 => Ok(()),
            Op::Read => match chunk {
                Some(chunk) if !within(io.range, chunk) => self.in_parts(&io, chunk).await,
                _ => self.parts.submit(io).await,
            },
            Op::Write | Op::Unmap | Op::WriteZeroes { .. } => match &state.places {
                Places::Mirror { .. } => self.parts.submit(io).await,
                Places::Raid10(raid10) => self.in_parts(&io, raid10.chunk()).await,
                Places::Parity { parity, .. } => {
                    let wide = parity.chunk() * u32::from(parity.data());
                    match io.op {
                        Op::Write => self.in_parts(&io, wide).await,
                        _ => self.zero(&io, wide).await,
                    }
                }
            },
        }
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        self.members.iter().flatten().for_each(visit)
    }
}

impl Raid {
    async fn in_parts(&self, io: &Io, size: u32) -> IoResult {
        fan::all(io.range.chunks(size).map(|part| self.parts.submit(io.part(part)))).await
    }

    /// Whole stripes at once, and the rest by writing zeros; what is only unmapped may stay.
    async fn zero(&self, io: &Io, wide: u32) -> IoResult {
        let state = &*self.array.0;
        let Some(parity) = state.parity() else { return Ok(()) };
        let (whole, rest) = split(io.range, wide.into());
        if let Some(whole) = whole {
            let step = (ZERO_STEP / u64::from(parity.chunk())).max(1);
            let mut at = whole.start;
            while at < whole.end {
                let next = (at + step).min(whole.end);
                if !state.whole_stripes(parity, at..next, io).await? && io.op != Op::Unmap {
                    // At most the range of the I/O.
                    let part = BlockRange::new(at * u64::from(wide), ((next - at) * u64::from(wide)) as u32);
                    self.in_parts(&zeros(io, part, state.bytes(part.count)), wide).await?
                }
                at = next
            }
        }
        if io.op == Op::Unmap {
            return Ok(());
        }
        for part in rest.into_iter().filter(|part| part.count > 0) {
            let zeros = zeros(io, part, state.bytes(part.count));
            self.in_parts(&zeros, wide).await?
        }
        Ok(())
    }
}

/// True if it lies within one chunk.
#[inline]
fn within(range: BlockRange, chunk: u32) -> bool {
    let chunk = u64::from(chunk);
    let at = match chunk.is_power_of_two() {
        true => range.start.0 & (chunk - 1),
        false => range.start.0 % chunk,
    };
    at + u64::from(range.count) <= chunk
}

/// The array for I/O that lies within a chunk, or a stripe: one frame each.
struct Inner {
    array: Rc<State>,
    geometry: Geometry,
}

impl BlockDevice for Inner {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    async fn submit(&self, io: Io) -> IoResult {
        let state = &*self.array;
        if !state.is_ready() {
            state.ready().await?
        }
        match (&state.places, io.op) {
            (Places::Parity { parity, .. }, Op::Read) => state.read_chunk(parity, io).await,
            (Places::Parity { parity, .. }, Op::Write) => state.write_stripe(parity, io).await,
            (Places::Mirror { .. } | Places::Raid10(_), Op::Read) => state.read_copy(io).await,
            (Places::Mirror { .. } | Places::Raid10(_), op) if op.changes() => state.write_copies(io).await,
            // Nothing else is sent here.
            _ => Err(IoError::Unsupported),
        }
    }
}
