//! An array as others have it: how it is, what is asked of it, who belongs to it from now on.
use super::{
    Intent, Label, Log, Making, Member, MemberState, Parts, Place, Plan, Progress, Record, Seat, State, Work,
    intent::REGIONS_MAX,
    plan::{labels, log},
};
use crate::IoError;
use serde::{Deserialize, Serialize};
use spec::md::{SECTOR, bitmap::Header};
use std::rc::Rc;

/// Regions that are told apart in memory, where there is no bitmap.
const REGIONS: u64 = 1 << 14;

/// What an array is like at the moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its members, by their places.
    pub members: Vec<MemberReport>,
    /// What is done to it.
    pub progress: Option<Progress>,
    /// Blocks a second of each member at most that this may take; 0: no limit.
    #[serde(default)]
    pub limit: u64,
    /// Blocks that the last check or repair found different.
    pub mismatches: u64,
    /// Blocks that it could read from nobody: they are lost until they are written.
    #[serde(default)]
    pub unreadable: u64,
    /// Where both were, as blocks of the array and how many; only the first few.
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
    /// Which of those it is that the array was built from: its place, or that of the one it has replaced and as many as there are places.
    #[serde(default)]
    pub slot: u16,
    /// How things stand with it.
    pub state: MemberState,
    /// How things stand with the one that replaces it, if one does.
    #[serde(default)]
    pub replacement: Option<MemberState>,
    /// Read only if no other can answer.
    pub write_mostly: bool,
    /// Read errors that were mended.
    pub corrected: u32,
    /// Blocks of its data that it lacks: its bad-block log has them.
    #[serde(default)]
    pub lacking: u64,
}

/// What may be asked of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Compares all members, and with `repair` makes them alike.
    Scrub {
        /// Make them alike.
        repair: bool,
        /// From this block of the space that is compared on: another time has seen what is before it.
        #[serde(default)]
        from: u64,
    },
    /// Stands still, or goes on.
    Pause(bool),
    /// Ends what is done.
    Cancel,
    /// Blocks a second of each member at most; 0: no limit.
    Limit(u64),
    /// Gives up a member.
    Fail(u16),
    /// Lets each member give so many blocks, or as many as all have: the array is longer then.
    Grow(Option<u64>),
    /// Gives up the one that replaces the member in a place.
    FailReplacement(u16),
}

/// The array itself, which outlives its devices: what is known of its members, and what is done to it. Clones are the same array.
#[derive(Clone)]
pub struct Array(pub(crate) Rc<State>);

impl Array {
    /// An array of these members. Says in words what does not fit together.
    pub fn new(plan: Plan, parts: Vec<Option<Parts>>, block_size: u32) -> Result<Self, String> {
        let places = plan.shape.places(plan.members.len(), plan.used)?;
        let sectors = u64::from(block_size) / SECTOR;
        let seats = plan.all();
        let labels = labels(&seats, plan.bitmap_sectors(), block_size)?;
        let events: Vec<Option<u64>> = labels
            .iter()
            .map(|label| Some(label.as_ref()?.superblock.events()))
            .collect();
        let bitmaps = labels.iter().map(|label| label.as_ref()?.bitmap).collect::<Vec<_>>();
        let log = log(&plan, &places, &labels, block_size)?;
        if plan.replay && matches!(log, Log::None) {
            return Err("it has no log that could be replayed".into());
        }
        let record = labels.iter().any(Option::is_some).then(|| Record::new(labels));
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
        let states: Vec<MemberState> = seats.iter().zip(events).map(state).collect();
        let mut parts = parts.into_iter();
        let member = |((seat, state), slot): ((&Option<Seat>, MemberState), u16)| match (seat, parts.next().flatten()) {
            (Some(seat), parts) => Member::new(slot, parts, state, seat.write_mostly, &seat.bad),
            (None, _) => Member::new(slot, None, MemberState::Missing, false, &[]),
        };
        let members = seats.iter().zip(states).zip(0..).map(member).collect();
        Ok(Self(State::new(Making {
            name: plan.name,
            places,
            used: plan.used,
            block_size,
            members,
            intent,
            record,
            log,
            replay: plan.replay,
            read_only: plan.read_only,
        })))
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
                .seats()
                .iter()
                .zip(0..)
                .map(|(member, place)| MemberReport {
                    slot: member.slot.get(),
                    state: member.state(),
                    replacement: state.replacement(place).map(Member::state),
                    write_mostly: member.write_mostly.get(),
                    corrected: member.corrected.get(),
                    lacking: member.lacking.borrow().lost.count(),
                })
                .collect(),
            progress: state.care.progress(),
            limit: state.care.pace.limit.get(),
            mismatches: state.care.mismatches.get(),
            unreadable: state.care.unreadable.get(),
            places: state.care.places.borrow().clone(),
            noted: state.intent.noted(),
            unit: state.intent.unit(),
            events: state.record.as_ref().map_or(0, Record::events),
            stripes: state.stripes.get(),
            full_stripes: state.full_stripes.get(),
        }
    }

    /// These of the plan's members have vanished. False if the array cannot do without them.
    pub async fn lose(&self, slots: &[u16]) -> bool {
        let state = &self.0;
        let mut alive = true;
        for slot in slots {
            alive &= state.fault_of(*slot, IoError::Gone)
        }
        alive && state.recorded().await.is_ok()
    }

    /// What was said of how fast it may work counts for the array that takes its place, too.
    pub fn keep_pace_of(&self, before: &Array) {
        self.0.care.limit(before.0.care.pace.limit.get())
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
        // It may be from before the array has grown.
        let grown = plan.used <= state.used.get() && places.with_used(state.used.get()) == Ok(state.places());
        if !(grown || places == state.places()) || plan.bitmap.is_some() != state.intent.is_on_disk() {
            return false;
        }
        let seats = plan.all();
        let Ok(labels) = labels(&seats, plan.bitmap_sectors(), state.block_size()) else {
            return false;
        };
        // Whether it says that somebody has a place who has not, or had it until another took it.
        let slots = |place: u16| {
            let device = |at: u16| labels.get(usize::from(at))?.as_ref()?.superblock.device();
            let (now, behind) = (state.record.as_ref()?.device(place)?, state.behind(place));
            match (device(place)?, device(behind)) {
                (known, _) if known == now => Some(Ok((place, behind))),
                (_, Some(known)) if known == now => Some(Ok((behind, place))),
                _ => Some(Err(())),
            }
        };
        let slots: Vec<Option<Result<(u16, u16), ()>>> = (0..places.members())
            .map(|place| slots(place).filter(|_| state.members[usize::from(place)].writes()))
            .collect();
        if slots.contains(&Some(Err(()))) {
            return false;
        }
        // One that has come late and holds what it should: nothing was written without it. Any other knows of something that this array does not.
        let late = |label: &Option<Label>| match (&state.record, label) {
            (Some(record), Some(label)) => !state.touched.get() && record.events() == label.superblock.events(),
            _ => false,
        };
        let strange = plan
            .members
            .iter()
            .zip(&labels)
            .zip(state.seats())
            .any(|((seat, label), known)| {
                let holds = seat.as_ref().is_some_and(|seat| seat.state == MemberState::InSync);
                holds && known.state() == MemberState::Missing && !late(label)
            });
        if strange {
            return false;
        }
        for (place, slots) in (0..).zip(slots) {
            let (own, other) = match slots {
                Some(Ok(slots)) => slots,
                _ => (place, state.behind(place)),
            };
            state.members[usize::from(place)].slot.set(own);
            state.members[usize::from(state.behind(place))].slot.set(other)
        }
        for ((at, (seat, label)), known) in (0..).zip(seats.iter().zip(labels)).zip(&state.members) {
            // One that has a place by now was its replacement when this was planned.
            if known.slot.get() != at {
                continue;
            }
            match seat {
                None if known.writes() => state.give_up(at),
                Some(seat) if !known.writes() && (seat.state.to().is_some() || late(&label)) => {
                    let events = label.as_ref().map(|label| label.superblock.events());
                    // What it held it may have missed since: whoever is only on his way was not waited for.
                    let known_to = if late(&label) { seat.state } else { seat.state.up_to(0) };
                    let to = seated(&state.name, known_to, events, &state.intent);
                    if to == MemberState::Missing {
                        continue;
                    }
                    known.seat(to, seat.write_mostly, &seat.bad);
                    if let (Some(record), Some(label)) = (&state.record, label) {
                        state.intent.seat(at, label.bitmap);
                        if state.replaces(at).is_none() {
                            state.log.seat(at, label.log.clone())
                        }
                        record.seat(at, label)
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
            Command::Scrub { repair, from } => {
                state.care.from.set(from);
                state.ask(if repair { Work::Repair } else { Work::Check })
            }
            Command::Pause(on) => state.care.pause(on),
            Command::Cancel => state.care.cancel(),
            Command::Limit(blocks) => state.care.limit(blocks),
            Command::Grow(used) => state.grow(used).await?,
            Command::FailReplacement(place) => {
                if state.seats().get(usize::from(place)).is_none() || state.replacement(place).is_none() {
                    return Err(format!("nobody replaces the member in place {place}"));
                }
                state.fault(state.behind(place), IoError::Device);
                state.recorded().await.map_err(|error| error.to_string())?
            }
            Command::Fail(member) => {
                let known = state
                    .seats()
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
        let have = self.0.have_lately();
        if self.0.intent.is_idle() && self.0.flush_members().await.is_ok() {
            // If not, its logs have more than is lost, and that was told.
            let _ = self.0.settle(have).await;
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
