//! What all sessions of a target share: its logical units, their settings, and what hosts have to be told.
//!
//! A unit attention must be told once to each nexus. Nobody keeps lists of nexuses for that: a [`Unit`] counts what
//! happened to it, a nexus remembers the counts it has told its host about, and one atomic load for each command sees
//! whether they differ.
//!
//! ```text
//!   control thread: unit.happened(CAPACITY) ──► counts[CAPACITY] += 1, changes += 1
//!   each nexus, next command: changes != seen.changes ──► counts differ at CAPACITY ──► CHECK CONDITION 2a/09
//! ```
use super::{options::LunOptions, removable};
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
    /// Another host changed a mode page.
    Mode,
    /// The volume grew or shrank.
    Capacity,
    /// LUNs came or went.
    Luns,
}

/// Every happening and the sense data that tells it.
const TOLD: [(Happening, Sense); 6] = [
    (Happening::Reset, Sense::RESET),
    (Happening::Cleared, Sense::CLEARED),
    (Happening::Medium, Sense::MEDIUM_CHANGED),
    (Happening::Mode, Sense::MODE_CHANGED),
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
    changes: AtomicU32,
    counts: [AtomicU32; TOLD.len()],
    settings: AtomicU8,
    initial: Settings,
    pub(super) medium: removable::Medium,
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
            changes: AtomicU32::new(0),
            counts: Default::default(),
            settings: AtomicU8::new(initial.to_bits()),
            initial,
            medium: removable::Medium::default(),
            _pin: None,
        }
    }

    /// The same, keeping its volume in the graph for as long as somebody has the unit.
    pub fn pinned(self, pin: Option<bdev::graph::Pin>) -> Self {
        Self { _pin: pin, ..self }
    }

    /// Every nexus will tell its host, once. Happenings of one kind between two commands are told as one.
    pub fn happened(&self, what: Happening) {
        self.counts[what as usize].fetch_add(1, Relaxed);
        self.changes.fetch_add(1, Release);
    }

    /// How many resets and clearings there have been: commands taken under another count are aborted.
    pub fn generation(&self) -> u32 {
        let of = |what: Happening| self.counts[what as usize].load(Relaxed);
        of(Happening::Reset).wrapping_add(of(Happening::Cleared))
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

    /// A LUN or target reset: mode parameters are what they were, and nobody prevents the removal of the medium.
    pub fn reset(&self) {
        self.set(self.initial);
        self.medium.allow_all();
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
}

impl Told {
    /// A new nexus: power on is to be told, older happenings are no news.
    pub fn new(unit: &Unit) -> Self {
        let mut told = Self {
            power_on: false,
            changes: 0,
            counts: [0; TOLD.len()],
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

    /// True if [`next`](Self::next) may have something. One load: this is asked for every command.
    pub fn pending(&self, unit: &Unit) -> bool {
        !self.power_on || self.changes != unit.changes.load(Acquire)
    }

    /// The next unit attention for the host, which counts as told by this.
    pub fn next(&mut self, unit: &Unit) -> Option<Sense> {
        if !self.power_on {
            self.power_on = true;
            return Some(Sense::POWER_ON);
        }
        let changes = unit.changes.load(Acquire);
        for (what, sense) in TOLD {
            let count = unit.counts[what as usize].load(Relaxed);
            if self.counts[what as usize] != count {
                self.counts[what as usize] = count;
                return Some(sense);
            }
        }
        self.changes = changes;
        None
    }
}

/// The units of a target by number. Made anew for each change, so whoever holds one sees a consistent whole.
pub type Table = BTreeMap<Lun, Arc<Unit>>;

/// A SCSI target device: a name and its units.
#[derive(Debug)]
pub struct Device {
    /// iSCSI name.
    pub name: String,
    table: Mutex<Arc<Table>>,
    version: AtomicU32,
}

impl Device {
    /// Without units.
    pub fn new(name: String) -> Self {
        Self {
            name,
            table: Mutex::default(),
            version: AtomicU32::new(0),
        }
    }

    /// Changes whenever the table does. One load: this is asked for every command.
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

    #[test]
    fn each_nexus_is_told_once_and_in_order() {
        let unit = unit(0);
        unit.happened(Happening::Capacity); // before anybody came
        let (mut a, mut b) = (Told::new(&unit), Told::new(&unit));
        assert!(a.pending(&unit));
        assert_eq!(a.next(&unit), Some(Sense::POWER_ON));
        assert_eq!(a.next(&unit), None);
        assert!(!a.pending(&unit));
        unit.happened(Happening::Capacity);
        unit.happened(Happening::Capacity);
        unit.happened(Happening::Reset);
        assert!(a.pending(&unit));
        assert_eq!(a.next(&unit), Some(Sense::RESET));
        assert_eq!(a.next(&unit), Some(Sense::CAPACITY_CHANGED));
        assert_eq!((a.next(&unit), a.pending(&unit)), (None, false));
        let all: Vec<_> = std::iter::from_fn(|| b.next(&unit)).collect();
        assert_eq!(all, [Sense::POWER_ON, Sense::RESET, Sense::CAPACITY_CHANGED]);
    }

    #[test]
    fn who_caused_it_is_not_told() {
        let unit = unit(0);
        let (mut a, mut b) = (Told::new(&unit), Told::new(&unit));
        assert_eq!(
            (a.next(&unit), b.next(&unit)),
            (Some(Sense::POWER_ON), Some(Sense::POWER_ON))
        );
        unit.happened(Happening::Mode);
        a.skip_one(&unit, Happening::Mode);
        assert_eq!((a.next(&unit), b.next(&unit)), (None, Some(Sense::MODE_CHANGED)));
        b.forget(Happening::Capacity);
        assert!(b.pending(&unit));
        assert_eq!((b.next(&unit), b.next(&unit)), (Some(Sense::CAPACITY_CHANGED), None));
    }

    #[test]
    fn a_new_unit_is_news_for_the_others() {
        let device = Device::new("iqn.x:a".into());
        device.edit(|table| table.insert(Lun::new(0).unwrap(), unit(0)));
        let (version, table) = device.table();
        let first = table.values().next().unwrap().clone();
        let mut told = Told::new(&first);
        told.next(&first);
        device.edit(|table| table.insert(Lun::new(1).unwrap(), unit(1)));
        assert_ne!(device.version(), version);
        assert_eq!(told.next(&first), Some(Sense::LUNS_CHANGED));
        assert_eq!(table.len(), 1, "an old table stays what it was");
    }
}
