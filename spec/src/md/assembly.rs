//! Which of the devices that say they belong to an array do, and how far each can be believed.
//!
//! The rules are MD's (`analyze_sbs`, `super_1_validate`, and mdadm's `Assemble`): the highest event count knows best. Who is more than one event behind, or whom the
//! best has given up, has missed something and is left out. Where two sides have each given up the other, nobody knows which is right, and that is said and not
//! guessed.
use super::{
    MEMBERS_MAX,
    bitmap::Header,
    superblock::{Standing, Superblock},
    v1::Role,
};
use std::fmt;

/// An array as it can be put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// Whose superblock knows best.
    pub best: usize,
    /// By places: which device, and how it stands with it ([`Standing::InSync`], [`Standing::Rebuilding`] or [`Standing::Returning`]).
    pub places: Vec<Option<(usize, Standing)>>,
    /// Devices that were away, whose places are empty, and which may have them back if the bitmap still knows what they have missed
    /// ([`may_return`]).
    pub returning: Vec<(usize, u16)>,
    /// Devices that replace the member in a place, which is there and holds what it should: how far each is. One that has come back, or has only been told to, has nothing.
    pub replacing: Vec<(usize, u16, Standing)>,
    /// Devices that wait for a place.
    pub spares: Vec<usize>,
    /// Places whose members are not there, though the array last ran with them.
    pub awaited: Vec<u16>,
    /// Devices that cannot be used as they are, and why.
    pub left_out: Vec<(usize, Why)>,
    /// Members are alike before this sector of the space that is compared; all ones if everywhere.
    pub in_sync_to: u64,
}

/// Why a device is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has missed changes: so many events behind.
    Stale {
        /// Its events.
        events: u64,
        /// Those of the array.
        of: u64,
    },
    /// The others have given it up.
    Failed,
    /// Another device has its place.
    Twice {
        /// Which place.
        place: u16,
        /// Which device.
        with: usize,
    },
    /// It was to replace the member in this place, which does not hold what it should, or is being replaced by another.
    Replacement {
        /// Which place.
        place: u16,
    },
    /// It is the journal.
    Journal,
    /// What it says of itself makes no sense.
    Senseless,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Stale { events, of } => write!(
                f,
                "it has missed changes: its event count is {events}, the array's {of}"
            ),
            Why::Failed => f.write_str("the other members have given it up"),
            Why::Twice { place, .. } => write!(
                f,
                "another device has its place, number {place}: one is a copy of the other"
            ),
            Why::Replacement { place } => write!(
                f,
                "it was to replace the member in place {place}, which is being brought up to date itself, or replaced by another"
            ),
            Why::Journal => f.write_str("it is the array's journal, which is not replayed here"),
            Why::Senseless => f.write_str("it has no place in the array by its own account"),
        }
    }
}

/// Why an array cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing to put together.
    #[error("no device says that it belongs to it")]
    Nobody,
    /// It cannot be used here.
    #[error("{0}")]
    Unusable(String),
    /// Two sides have each gone on without the other.
    #[error(
        "two sides have each given up the other and gone on alone (split brain): decide which is right, and take the other away"
    )]
    SplitBrain {
        /// A device of one side.
        one: usize,
        /// A device of the other.
        other: usize,
    },
    /// More places than anybody has.
    #[error("it says that it has {0} places for members")]
    Places(u32),
}

/// Puts devices together that name one array.
pub fn assemble(devices: &[&Superblock]) -> Result<Assembly, Refusal> {
    let spare = |device: &Superblock| matches!(device.role_of(device.number()), Some(Role::Spare | Role::Journal));
    // A spare may know of the last change and of nothing before it, and one that has been told to replace another as well: whoever looks may have read the others
    // before they changed.
    let freshest = |(_, device): &(usize, &&Superblock)| {
        (
            !spare(device) && !device.is_replacement(),
            device.events(),
            device.utime(),
        )
    };
    let Some((best, knows)) = devices.iter().enumerate().rev().max_by_key(freshest) else {
        return Err(Refusal::Nobody);
    };
    if let Some(why) = devices.iter().find_map(|device| device.hindrance()) {
        return Err(Refusal::Unusable(why));
    }
    let count = knows.raid_disks();
    if count == 0 || count > u32::from(MEMBERS_MAX) {
        return Err(Refusal::Places(count));
    }
    let mut assembly = Assembly {
        best,
        places: vec![None; count as usize],
        returning: Vec::new(),
        replacing: Vec::new(),
        spares: Vec::new(),
        awaited: Vec::new(),
        left_out: Vec::new(),
        in_sync_to: knows.in_sync_to(),
    };
    // The best first, so that a copy of it is the one that is left out; and those that are to replace others last: they have the place if nobody else has.
    let order = std::iter::once(best).chain((0..devices.len()).filter(|at| *at != best));
    let (replacing, members): (Vec<usize>, Vec<usize>) = order.partition(|at| devices[*at].is_replacement());
    let order = members.into_iter().chain(replacing);
    for at in order {
        let device = devices[at];
        let number = device.number();
        let why = match knows.role_of(number) {
            Some(Role::Active(place)) if u32::from(place) < count => {
                let (events, of) = (device.events(), knows.events());
                match assembly.places[usize::from(place)] {
                    _ if events.saturating_add(1) < of => Why::Stale { events, of },
                    Some((_, with)) if device.is_replacement() => {
                        match assembly.replace(at, place, with, device.standing()) {
                            Ok(()) => continue,
                            Err(why) => why,
                        }
                    }
                    Some((with, _)) => Why::Twice { place, with },
                    None => {
                        assembly.places[usize::from(place)] = Some((at, device.standing()));
                        continue;
                    }
                }
            }
            Some(Role::Spare) if device.role_of(number) == Some(Role::Spare) => {
                assembly.spares.push(at);
                continue;
            }
            // Somebody has told it to, or it has been away: whatever it has may be old.
            Some(Role::Spare) if device.is_replacement() => match device.role_of(number) {
                Some(Role::Active(place)) if u32::from(place) < count => match assembly.places[usize::from(place)] {
                    Some((_, with)) => match assembly.replace(at, place, with, Standing::Rebuilding(0)) {
                        Ok(()) => continue,
                        Err(why) => why,
                    },
                    None => {
                        assembly.spares.push(at);
                        continue;
                    }
                },
                _ => Why::Senseless,
            },
            Some(Role::Journal) => Why::Journal,
            Some(Role::Faulty | Role::Spare) => Why::Failed,
            _ => Why::Senseless,
        };
        if why == Why::Failed && went_on_alone(device, knows, devices) {
            return Err(Refusal::SplitBrain { one: best, other: at });
        }
        assembly.left_out.push((at, why))
    }
    let mut back: Vec<(usize, u16)> = Vec::new();
    for (at, why) in &assembly.left_out {
        let device = devices[*at];
        let place = match (why, device.role_of(device.number())) {
            (Why::Failed | Why::Stale { .. }, Some(Role::Active(place))) => place,
            _ => continue,
        };
        let empty = assembly.places.get(usize::from(place)) == Some(&None);
        if empty && comes_back(device, knows) && back.iter().all(|(_, other)| *other != place) {
            back.push((*at, place))
        }
    }
    assembly
        .left_out
        .retain(|(at, _)| back.iter().all(|(other, _)| other != at));
    assembly.returning = back;
    let active = knows.active();
    let awaited = |place: &u16| assembly.places[usize::from(*place)].is_none() && active.contains(place);
    // There are at most MEMBERS_MAX.
    assembly.awaited = (0..count as u16).filter(awaited).collect();
    Ok(assembly)
}

impl Assembly {
    /// A device replaces the member in a place with which it stands so, unless that cannot be.
    fn replace(&mut self, at: usize, place: u16, with: Standing, standing: Standing) -> Result<(), Why> {
        let taken = self.replacing.iter().any(|(_, other, _)| *other == place);
        match taken || with != Standing::InSync {
            true => Err(Why::Replacement { place }),
            false => {
                self.replacing.push((at, place, standing));
                Ok(())
            }
        }
    }
}

/// It went on, and without the best: neither has what the other wrote. What it says of the others is as it was when it was last written.
fn went_on_alone(device: &Superblock, knows: &Superblock, devices: &[&Superblock]) -> bool {
    if !matches!(device.role_of(device.number()), Some(Role::Active(_))) {
        return false;
    }
    let place_of = |superblock: &Superblock, of: &Superblock| match superblock.role_of(of.number()) {
        Some(Role::Active(place)) => Some(place),
        _ => None,
    };
    // Somebody has gone on whom it knew; or the best has come since, to a place that somebody had.
    let stayed = devices
        .iter()
        .any(|other| place_of(knows, other).is_some() && place_of(knows, other) == place_of(device, other));
    let known = place_of(knows, knows).is_none_or(|place| device.active().contains(&place));
    !stayed && (!known || device.role_of(knows.number()) == Some(Role::Faulty))
}

/// Whether one that was left out may come back by itself, or because somebody has asked for it, as far as superblocks tell.
fn comes_back(device: &Superblock, knows: &Superblock) -> bool {
    let shape = |superblock: &Superblock| {
        (
            superblock.level(),
            superblock.layout(),
            superblock.chunk(),
            superblock.size(),
            superblock.raid_disks(),
            superblock.bitmap_offset(),
        )
    };
    // One that was being rebuilt lacks more than the bitmap knows.
    let half = device.recovered_to().is_some() && !device.is_returning() || device.is_replacement();
    let wanted = match knows.role_of(device.number()) {
        // It failed.
        Some(Role::Faulty) => device.asks(),
        _ => true,
    };
    wanted && !half && shape(device) == shape(knows)
}

/// Whether the bitmap knows all that a device has missed which was last written at `events`: nothing was forgotten since. The reason if not.
pub fn may_return(events: u64, bitmap: Option<&Header>) -> Result<(), Forgotten> {
    match bitmap {
        None => Err(Forgotten::NoBitmap),
        Some(header) if header.events_cleared > events => Err(Forgotten::Since {
            events,
            cleared: header.events_cleared,
        }),
        Some(_) => Ok(()),
    }
}

/// Why nobody knows what a device has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forgotten {
    /// Nobody wrote it down.
    #[error("the array has no write-intent bitmap that tells what it has missed")]
    NoBitmap,
    /// It is too old.
    #[error("it left at event {events}, and what the bitmap had noted was forgotten at event {cleared}")]
    Since {
        /// Its events.
        events: u64,
        /// Events when notes were last forgotten.
        cleared: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::md::{
        Level,
        superblock::Update,
        v1::{self, Features},
    };
    use uuid::Uuid;

    fn mirror(members: u32) -> Vec<Superblock> {
        let make = |number: u32| {
            let mut new = v1::Superblock::new(Uuid::from_u128(7), Level::Raid1);
            new.raid_disks = members;
            new.number = number;
            new.events = 10;
            new.resync_offset = u64::MAX;
            new.device = Uuid::from_u128(100 + u128::from(number));
            new.roles = (0..members as u16).map(Role::Active).collect();
            Superblock::V1(Box::new(new))
        };
        (0..members).map(make).collect()
    }

    /// The members of `alive` go on without the others, which failed.
    fn go_on(all: &mut [Superblock], alive: &[usize], changes: u64) {
        go_on_as(all, alive, changes, Standing::Failed)
    }

    fn go_on_as(all: &mut [Superblock], alive: &[usize], changes: u64, others: Standing) {
        let members: Vec<_> = (0..all.len())
            .map(|at| {
                (
                    Some(at as u32),
                    if alive.contains(&at) { Standing::InSync } else { others },
                )
            })
            .collect();
        for at in alive {
            let events = all[*at].events() + changes;
            all[*at].update(&Update {
                events,
                time: 1,
                dirty: true,
                in_sync_to: u64::MAX,
                members: &members,
                this: *at,
                corrected: 0,
            })
        }
    }

    fn assembled(all: &[Superblock]) -> Result<Assembly, Refusal> {
        assemble(&all.iter().collect::<Vec<_>>())
    }

    #[test]
    fn who_was_given_up_is_left_out_even_if_it_is_only_one_event_behind() {
        let mut all = mirror(3);
        let whole = assembled(&all).unwrap();
        assert_eq!((whole.left_out.len(), whole.in_sync_to), (0, u64::MAX));
        go_on(&mut all, &[0, 2], 1);
        let two = assembled(&all).unwrap();
        assert_eq!((&two.left_out, &two.returning), (&vec![(1, Why::Failed)], &Vec::new()));
        assert_eq!(
            two.places,
            [Some((0, Standing::InSync)), None, Some((2, Standing::InSync))]
        );
        assert_eq!((two.in_sync_to, two.awaited), (0, Vec::new()));
        let alone = assembled(&mirror(3)[..1]).unwrap();
        assert_eq!(alone.awaited, [1, 2], "they were there when it last ran");
    }

    #[test]
    fn two_sides_that_each_went_on_are_not_guessed() {
        let mut all = mirror(2);
        let mut other = all.clone();
        go_on(&mut all, &[0], 1);
        go_on(&mut other, &[1], 5);
        all[1] = other[1].clone();
        assert!(matches!(assembled(&all), Err(Refusal::SplitBrain { one: 1, other: 0 })));
    }

    #[test]
    fn a_copy_of_a_member_is_left_out() {
        let mut all = mirror(2);
        all.push(all[1].clone());
        let made = assembled(&all).unwrap();
        assert_eq!(made.left_out, [(2, Why::Twice { place: 1, with: 1 })]);
    }

    #[test]
    fn who_was_to_replace_a_member_has_its_place_when_that_is_gone() {
        let mut all = mirror(2);
        let Superblock::V1(mut new) = all[0].clone() else {
            panic!("version 1")
        };
        new.number = 2;
        new.device = Uuid::from_u128(102);
        new.features.set(Features::REPLACEMENT, true);
        new.features.set(Features::RECOVERY, true);
        new.recovery_offset = 64;
        for one in &mut all {
            let Superblock::V1(one) = one else { panic!("version 1") };
            one.roles.push(Role::Active(0))
        }
        new.roles.push(Role::Active(0));
        // Wherever it stands in the list.
        all.insert(0, Superblock::V1(new));
        let made = assembled(&all).unwrap();
        assert_eq!(made.replacing, [(0, 0, Standing::Rebuilding(64))]);
        assert_eq!(made.places, [Some((1, Standing::InSync)), Some((2, Standing::InSync))]);
        // One that has been away has missed who knows what.
        let mut away = all.clone();
        for one in &mut away[1..] {
            let Superblock::V1(one) = one else { panic!("version 1") };
            one.roles[2] = Role::Spare
        }
        let made = assembled(&away).unwrap();
        assert_eq!(made.replacing, [(0, 0, Standing::Rebuilding(0))]);
        // It was told by one who has read the others later than we have.
        let Superblock::V1(told) = &mut away[0] else {
            panic!("version 1")
        };
        told.events = 13;
        let made = assembled(&away).unwrap();
        assert_eq!(made.replacing, [(0, 0, Standing::Rebuilding(0))]);
        assert_eq!(made.places, [Some((1, Standing::InSync)), Some((2, Standing::InSync))]);
        // While it goes on, both have the place.
        let members = [
            (Some(0), Standing::InSync),
            (Some(1), Standing::InSync),
            (Some(2), Standing::Rebuilding(128)),
            (None, Standing::Missing),
        ];
        let mut goes_on = all.clone();
        for (at, this) in [(0, 2), (1, 0), (2, 1)] {
            goes_on[at].update(&Update {
                events: 12,
                time: 1,
                dirty: false,
                in_sync_to: u64::MAX,
                members: &members,
                this,
                corrected: 0,
            })
        }
        let made = assembled(&goes_on).unwrap();
        assert_eq!(made.replacing, [(0, 0, Standing::Rebuilding(128))]);
        assert_eq!(made.places, [Some((1, Standing::InSync)), Some((2, Standing::InSync))]);
        assert!(goes_on[0].is_replacement() && !goes_on[1].is_replacement());
        all.remove(1);
        let made = assembled(&all).unwrap();
        assert_eq!(
            made.places,
            [Some((0, Standing::Rebuilding(64))), Some((1, Standing::InSync))]
        );
        // The place is its own from then on.
        all[0].update(&Update {
            events: 11,
            time: 1,
            dirty: false,
            in_sync_to: u64::MAX,
            members: &[(Some(2), Standing::Rebuilding(64)), (Some(1), Standing::InSync)],
            this: 0,
            corrected: 0,
        });
        assert!(!all[0].is_replacement() && all[0].role_of(0) == Some(Role::Faulty))
    }

    #[test]
    fn who_missed_changes_is_left_out_unless_its_place_is_still_empty() {
        let mut all = mirror(2);
        let Superblock::V1(old) = &mut all[1] else {
            panic!("version 1")
        };
        old.events = 8;
        let made = assembled(&all).unwrap();
        assert_eq!((made.left_out, made.returning), (Vec::new(), vec![(1, 1)]));
        // One that was on its way has nothing that anybody could tell.
        let Superblock::V1(old) = &mut all[1] else {
            panic!("version 1")
        };
        old.features.set(Features::RECOVERY, true);
        let made = assembled(&all).unwrap();
        assert_eq!(made.left_out, [(1, Why::Stale { events: 8, of: 10 })]);
        assert_eq!(assembled(&[]), Err(Refusal::Nobody));
    }

    #[test]
    fn who_has_gone_away_comes_back_and_who_failed_if_it_asks() {
        let mut all = mirror(3);
        go_on_as(&mut all, &[0, 2], 2, Standing::Missing);
        let made = assembled(&all).unwrap();
        assert_eq!((made.returning, made.places[1]), (vec![(1, 1)], None));
        go_on_as(&mut all, &[0, 2], 2, Standing::Failed);
        let made = assembled(&all).unwrap();
        assert_eq!((made.returning, made.left_out), (Vec::new(), vec![(1, Why::Failed)]));
        all[1].ask();
        assert!(all[1].asks() && all[1].recovered_to().is_none());
        assert_eq!(assembled(&all).unwrap().returning, [(1, 1)]);
        // A third side of a mirror knows who has gone on.
        let mut all = mirror(2);
        let mut other = all.clone();
        go_on_as(&mut all, &[0], 1, Standing::Missing);
        go_on_as(&mut other, &[1], 5, Standing::Missing);
        all[1] = other[1].clone();
        assert!(matches!(assembled(&all), Err(Refusal::SplitBrain { one: 1, other: 0 })));
    }

    #[test]
    fn what_the_bitmap_has_forgotten_nobody_gets_back() {
        let mut header = Header::new(Uuid::from_u128(7), 1000, 4096, 8);
        header.events_cleared = 10;
        assert_eq!(may_return(10, Some(&header)), Ok(()));
        let since = Forgotten::Since { events: 9, cleared: 10 };
        assert_eq!(may_return(9, Some(&header)), Err(since));
        assert_eq!(may_return(9, None), Err(Forgotten::NoBitmap));
    }
}
