//! What all sessions of a target share: its logical units, their settings, and what hosts have to be told.
//!
//! A unit attention must be told once to each nexus. For what every nexus is told nobody keeps lists: a [`Unit`] counts
//! what happened to it, a nexus remembers the counts it has told its host about, and one atomic load for each command sees
//! whether they differ. What concerns single nexuses is kept by [`Reservations`], which only stir the count of changes.
//!
//! ```text
//!   control thread: unit.happened(CAPACITY) ──► counts[CAPACITY] += 1, changes += 1
//!   each nexus, next command: changes != seen.changes ──► counts differ at CAPACITY ──► CHECK CONDITION 2a/09
//! ```
use super::{
    latencies::Latencies,
    log,
    options::LunOptions,
    ports::Ports,
    removable,
    reservation::{Notice, Reservations},
    sanitize::Sanitization,
    task_set::TaskSet,
};
use bdev::Geometry;
use spec::scsi::{Lun, Sense, mode::Settings};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering::*},
    },
};
use uuid::Uuid;

/// What can happen to a unit that every host has to be told, most important first (the order they are told in).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Happening {
    /// A LUN or target reset.
    Reset,
    /// Another host cleared the task set.
    Cleared,
    /// Another host loaded the medium.
    Medium,
    /// The state of a target port group changed.
    Access,
    /// Another host changed a mode page.
    Mode,
    /// Another host started the counters of a log page anew.
    Log,
    /// The volume grew or shrank.
    Capacity,
    /// LUNs came or went.
    Luns,
}

/// Every happening and the sense data that tells it.
const TOLD: [(Happening, Sense); 8] = [
    (Happening::Reset, Sense::RESET),
    (Happening::Cleared, Sense::CLEARED),
    (Happening::Medium, Sense::MEDIUM_CHANGED),
    (Happening::Access, Sense::ACCESS_CHANGED),
    (Happening::Mode, Sense::MODE_CHANGED),
    (Happening::Log, Sense::LOG_CHANGED),
    (Happening::Capacity, Sense::CAPACITY_CHANGED),
    (Happening::Luns, Sense::LUNS_CHANGED),
];

/// A volume at a number of a target.
#[derive(Debug)]
pub struct Unit {
    /// Where hosts find it.
    pub lun: Lun,
    /// The volume's name in the graph.
    pub volume: String,
    /// The volume's UUID.
    pub uuid: Uuid,
    /// What the administrator says.
    pub options: LunOptions,
    /// Who may do what to the volume.
    pub reservations: Arc<Reservations>,
    /// Commands under way.
    pub tasks: TaskSet,
    changes: AtomicU32,
    counts: [AtomicU32; TOLD.len()],
    settings: AtomicU8,
    initial: Settings,
    pub(super) medium: removable::Medium,
    pub(super) log: log::Log,
    pub(super) sanitization: Arc<Sanitization>,
    _pin: Option<bdev::graph::Pin>,
}

impl Unit {
    /// A unit nothing has happened to yet. The options must have been [checked](LunOptions::check_for) for the volume.
    pub fn new(lun: Lun, volume: String, uuid: Uuid, options: LunOptions, geometry: &Geometry) -> Self {
        let initial = Settings {
            write_cache: geometry.volatile_cache && options.write_cache != Some(false),
            ..Settings::default()
        };
        Self {
            lun,
            volume,
            uuid,
            options,
            reservations: Reservations::volatile(uuid),
            tasks: TaskSet::default(),
            changes: AtomicU32::new(0),
            counts: Default::default(),
            settings: AtomicU8::new(initial.to_bits()),
            initial,
            medium: removable::Medium::default(),
            log: log::Log::default(),
            sanitization: Sanitization::volatile(uuid),
            _pin: None,
        }
    }

    /// The same, keeping its volume in the graph for as long as somebody has the unit.
    pub fn pinned(self, pin: Option<bdev::graph::Pin>) -> Self {
        Self { _pin: pin, ..self }
    }

    /// The same, under these reservations.
    pub fn reserved(self, reservations: Arc<Reservations>) -> Self {
        Self { reservations, ..self }
    }

    /// The same, sanitized with its volume.
    pub fn sanitized(self, sanitization: Arc<Sanitization>) -> Self {
        Self { sanitization, ..self }
    }

    /// Every nexus will tell its host, once. Happenings of one kind between two commands are told as one.
    pub fn happened(&self, what: Happening) {
        self.counts[what as usize].fetch_add(1, Relaxed);
        self.changes.fetch_add(1, Release);
    }

    /// Every nexus will look again what it may do and what it is to be told.
    pub(super) fn stir(&self) {
        self.changes.fetch_add(1, Release);
    }

    /// To be asked for before one looks at what may have changed.
    pub(super) fn changes(&self) -> u32 {
        self.changes.load(Acquire)
    }

    /// Mode parameters as they are. One load.
    pub fn settings(&self) -> Settings {
        Settings::from_bits(self.settings.load(Relaxed))
    }

    /// Mode parameters as a reset makes them.
    pub fn initial(&self) -> Settings {
        self.initial
    }

    /// MODE SELECT.
    pub fn set(&self, to: Settings) {
        self.settings.store(to.to_bits(), Relaxed);
    }

    /// A LUN or target reset: mode parameters are what they were, nobody prevents the removal of the
    /// medium, and RESERVE (6) has ended.
    pub fn reset(&self) {
        self.set(self.initial);
        self.medium.allow_all();
        self.reservations.reset();
    }

    /// The medium is there.
    pub fn medium(&self) -> Result<(), Sense> {
        match self.medium.present() {
            true => Ok(()),
            false => Err(Sense::NO_MEDIUM),
        }
    }
}

/// What one nexus has told its host about one unit.
#[derive(Clone, Debug)]
pub struct Told {
    power_on: bool,
    changes: u32,
    counts: [u32; TOLD.len()],
    /// Bits of [`Notice`], for this nexus alone.
    notices: u8,
    /// As of the last command.
    blocks: Option<u64>,
}

/// Every notice and the sense data that tells it.
const NOTICES: [(Notice, Sense); 3] = [
    (Notice::ReservationsPreempted, Sense::RESERVATIONS_PREEMPTED),
    (Notice::RegistrationsPreempted, Sense::REGISTRATIONS_PREEMPTED),
    (Notice::ReservationsReleased, Sense::RESERVATIONS_RELEASED),
];

impl Told {
    /// A new nexus: power on is to be told, older happenings are no news.
    pub fn new(unit: &Unit) -> Self {
        let mut told = Self {
            power_on: false,
            changes: 0,
            counts: [0; TOLD.len()],
            notices: 0,
            blocks: None,
        };
        told.skip(unit);
        told
    }

    /// Everything up to now counts as told.
    pub fn skip(&mut self, unit: &Unit) {
        self.changes = unit.changes.load(Acquire);
        for (mine, theirs) in self.counts.iter_mut().zip(&unit.counts) {
            *mine = theirs.load(Relaxed);
        }
    }

    /// One happening counts as told: this nexus caused it.
    pub fn skip_one(&mut self, unit: &Unit, what: Happening) {
        self.counts[what as usize] = unit.counts[what as usize].load(Relaxed);
    }

    /// One happening counts as not told, though nobody counted it.
    pub fn forget(&mut self, what: Happening) {
        self.counts[what as usize] = self.counts[what as usize].wrapping_sub(1);
        self.changes = self.changes.wrapping_sub(1);
    }

    /// True if [`next`](Self::next) may have something, given the unit's count of changes. This is asked for every command.
    pub fn pending(&self, changes: u32) -> bool {
        !self.power_on || self.changes != changes
    }

    /// The unit has this many blocks. If that is news, it has to be told, though nobody counted it.
    pub(super) fn size(&mut self, blocks: u64) {
        if self.blocks.replace(blocks).is_some_and(|before| before != blocks) {
            self.forget(Happening::Capacity);
        }
    }

    /// This nexus has something to tell that others have not.
    pub(super) fn notice(&mut self, notices: u8) {
        self.notices |= notices;
    }

    /// The next unit attention for the host, which counts as told by this. `changes` is from before anybody looked at what
    /// has changed.
    pub fn next(&mut self, unit: &Unit, changes: u32) -> Option<Sense> {
        if !self.power_on {
            self.power_on = true;
            return Some(Sense::POWER_ON);
        }
        let mut counted = |(what, sense): (Happening, Sense)| {
            let count = unit.counts[what as usize].load(Relaxed);
            (std::mem::replace(&mut self.counts[what as usize], count) != count).then_some(sense)
        };
        // A reset goes before everything (SAM-5 5.14.1).
        if let Some(sense) = counted(TOLD[0]) {
            return Some(sense);
        }
        for (notice, sense) in NOTICES {
            if self.notices & notice as u8 != 0 {
                self.notices &= !(notice as u8);
                return Some(sense);
            }
        }
        let next = TOLD[1..].iter().find_map(|one| counted(*one));
        if next.is_none() {
            self.changes = changes;
        }
        next
    }
}

/// The units of a target by number. Made anew for each change, so whoever holds one sees a consistent whole.
pub type Table = BTreeMap<Lun, Arc<Unit>>;

/// A SCSI target device: a name and its units.
#[derive(Debug)]
pub struct Device {
    /// iSCSI name.
    pub name: String,
    /// How long its commands took.
    pub latencies: Latencies,
    table: Mutex<Arc<Table>>,
    ports: Mutex<Ports>,
    version: AtomicU32,
}

impl Device {
    /// Without units.
    pub fn new(name: String) -> Self {
        Self {
            name,
            latencies: Latencies::default(),
            table: Mutex::default(),
            ports: Mutex::default(),
            version: AtomicU32::new(0),
        }
    }

    /// Changes whenever the table or the ports do. One load: this is asked for every command.
    pub fn version(&self) -> u32 {
        self.version.load(Acquire)
    }

    /// The units there are now, and the version of that. Takes a lock: for whoever has seen the version change.
    pub fn table(&self) -> (u32, Arc<Table>) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        (self.version.load(Acquire), table.clone())
    }

    /// Changes the table; every unit that stays has news for its hosts. Control plane.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = (**table).clone();
        let before: Vec<Lun> = next.keys().copied().collect();
        let result = change(&mut next);
        if !next.keys().eq(before.iter()) {
            next.values().for_each(|unit| unit.happened(Happening::Luns));
        }
        *table = Arc::new(next);
        self.version.fetch_add(1, Release);
        result
    }
}

impl Device {
    /// The ports there are now. Takes a lock: for whoever has seen the version change.
    pub fn ports(&self) -> Ports {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the ports. If `change` says that a host would see it, every unit's hosts are told.
    pub fn edit_ports(&self, change: impl FnOnce(&mut Ports) -> bool) {
        let seen = change(&mut self.ports.lock().unwrap_or_else(PoisonError::into_inner));
        // Before hosts are told, so that whoever is told finds the new state.
        self.version.fetch_add(1, Release);
        if seen {
            let (_, table) = self.table();
            table.values().for_each(|unit| unit.happened(Happening::Access));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(lun: u16) -> Arc<Unit> {
        let geometry = Geometry::plain(512, 8);
        let options = LunOptions::default();
        Arc::new(Unit::new(
            Lun::new(lun).unwrap(),
            "quarry".into(),
            Uuid::nil(),
            options,
            &geometry,
        ))
    }

    fn next(told: &mut Told, unit: &Unit) -> Option<Sense> {
        told.next(unit, unit.changes())
    }

    #[test]
    fn each_nexus_is_told_once_and_in_order() {
        let unit = unit(0);
        unit.happened(Happening::Capacity); // before anybody came
        let (mut a, mut b) = (Told::new(&unit), Told::new(&unit));
        assert!(a.pending(unit.changes()));
        assert_eq!(next(&mut a, &unit), Some(Sense::POWER_ON));
        assert_eq!(next(&mut a, &unit), None);
        assert!(!a.pending(unit.changes()));
        unit.happened(Happening::Capacity);
        unit.happened(Happening::Capacity);
        unit.happened(Happening::Reset);
        assert!(a.pending(unit.changes()));
        assert_eq!(next(&mut a, &unit), Some(Sense::RESET));
        assert_eq!(next(&mut a, &unit), Some(Sense::CAPACITY_CHANGED));
        assert_eq!((next(&mut a, &unit), a.pending(unit.changes())), (None, false));
        let all: Vec<_> = std::iter::from_fn(|| next(&mut b, &unit)).collect();
        assert_eq!(all, [Sense::POWER_ON, Sense::RESET, Sense::CAPACITY_CHANGED]);
    }

    #[test]
    fn who_caused_it_is_not_told() {
        let unit = unit(0);
        let (mut a, mut b) = (Told::new(&unit), Told::new(&unit));
        assert_eq!(
            (next(&mut a, &unit), next(&mut b, &unit)),
            (Some(Sense::POWER_ON), Some(Sense::POWER_ON))
        );
        unit.happened(Happening::Mode);
        a.skip_one(&unit, Happening::Mode);
        assert_eq!(
            (next(&mut a, &unit), next(&mut b, &unit)),
            (None, Some(Sense::MODE_CHANGED))
        );
        b.forget(Happening::Capacity);
        assert!(b.pending(unit.changes()));
        assert_eq!(
            (next(&mut b, &unit), next(&mut b, &unit)),
            (Some(Sense::CAPACITY_CHANGED), None)
        );
    }

    #[test]
    fn a_new_unit_is_news_for_the_others() {
        let device = Device::new("iqn.x:a".into());
        device.edit(|table| table.insert(Lun::new(0).unwrap(), unit(0)));
        let (version, table) = device.table();
        let first = table.values().next().unwrap().clone();
        let mut told = Told::new(&first);
        next(&mut told, &first);
        device.edit(|table| table.insert(Lun::new(1).unwrap(), unit(1)));
        assert_ne!(device.version(), version);
        assert_eq!(next(&mut told, &first), Some(Sense::LUNS_CHANGED));
        assert_eq!(table.len(), 1, "an old table stays what it was");
    }
}
