//! What a session has told its host about a unit, where several connections on several cores tell for it. A session with one
//! connection keeps its own [`Told`], which costs no lock.
use super::unit::{Told, Unit};
use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// One session's, for all of its units.
#[derive(Clone, Debug, Default)]
pub struct SharedNews(Arc<Mutex<Vec<One>>>);

#[derive(Debug)]
struct One {
    unit: Weak<Unit>,
    told: Arc<Mutex<Told>>,
}

impl SharedNews {
    fn of(&self, unit: &Arc<Unit>) -> Arc<Mutex<Told>> {
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        units.retain(|one| one.unit.strong_count() > 0);
        if let Some(one) = units
            .iter()
            .find(|one| std::ptr::eq(one.unit.as_ptr(), &raw const **unit))
        {
            return one.told.clone();
        }
        let told = Arc::new(Mutex::new(Told::new(unit)));
        units.push(One {
            unit: Arc::downgrade(unit),
            told: told.clone(),
        });
        told
    }
}

/// One unit's, as a connection sees it.
#[derive(Debug)]
pub(super) enum News {
    /// The session's only connection.
    Own(RefCell<Told>),
    /// One of several, and the unit's count of changes when it last looked itself.
    Shared(Arc<Mutex<Told>>, Cell<Option<u32>>),
}

impl News {
    pub(super) fn new(unit: &Arc<Unit>, shared: Option<&SharedNews>) -> Self {
        match shared {
            None => News::Own(RefCell::new(Told::new(unit))),
            Some(shared) => News::Shared(shared.of(unit), Cell::new(None)),
        }
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Told) -> T) -> T {
        match self {
            News::Own(told) => change(&mut told.borrow_mut()),
            News::Shared(told, _) => change(&mut lock(told)),
        }
    }

    /// True if this connection has to look for itself what has changed: another one may have told all there was to tell.
    pub(super) fn is_behind(&self, changes: u32) -> bool {
        match self {
            News::Own(_) => false,
            News::Shared(_, seen) => seen.replace(Some(changes)) != Some(changes),
        }
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scsi::{options::LunOptions, unit::Happening};
    use spec::scsi::{Lun, Sense};
    use uuid::Uuid;

    #[test]
    fn connections_of_a_session_tell_their_host_once_but_look_each() {
        let geometry = bdev::Geometry::plain(512, 8);
        let lun = Lun::new(0).unwrap();
        let unit = Arc::new(Unit::new(
            lun,
            "quarry".into(),
            Uuid::nil(),
            LunOptions::default(),
            &geometry,
        ));
        let session = SharedNews::default();
        let (a, b) = (News::new(&unit, Some(&session)), News::new(&unit, Some(&session)));
        let next = |news: &News| news.with(|told| told.next(&unit, unit.changes()));
        assert_eq!((next(&a), next(&b)), (Some(Sense::POWER_ON), None));
        unit.happened(Happening::Capacity);
        let changes = unit.changes();
        assert!(a.is_behind(changes) && !a.is_behind(changes));
        assert_eq!(next(&a), Some(Sense::CAPACITY_CHANGED));
        assert!(b.is_behind(changes), "it has not looked, though the host knows");
        assert_eq!(next(&b), None);
        assert_eq!(next(&News::new(&unit, None)), Some(Sense::POWER_ON), "another session");
    }
}
