//! The medium of a unit: START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL (SBC-3 5.25, SPC-4 6.15).
//!
//! ```text
//!                 eject (LOEJ = 1, START = 0)
//!   ┌─────────┐ ─────────────────────────────► ┌────────┐  MEDIUM NOT PRESENT for whoever wants it
//!   │ present │   refused while any nexus      │ absent │
//!   └─────────┘   prevents removal             └────────┘
//!        ▲                                          │
//!        └──── load (LOEJ = 1, START = 1): the other nexuses hear "medium may have changed"
//! ```
//!
//! A medium that is out is out for every nexus, and stays out through resets; the next start of Ashlar finds it loaded.
//! A nexus prevents removal until it allows it or ends, or the unit is reset; how often it has said so does not count.
//!
//! Stopping a unit without ejecting puts what is cached on the medium and stops nothing: there is no motor, and the unit is
//! there for other hosts too, which a stopped one would not be. A host that has stopped its disk before it goes away finds
//! everything written, and the next host finds a ready unit.
use super::{nexus::Open, unit::Happening};
use spec::scsi::Sense;
use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// The POWER CONDITION in which a unit is ready.
const ACTIVE: u8 = 1;

/// The state of a medium, for all nexuses.
#[derive(Debug, Default)]
pub(super) struct Medium {
    absent: AtomicBool,
    /// Sessions of the nexuses that prevent its removal.
    preventing: Mutex<BTreeSet<u64>>,
}

impl Medium {
    /// It is there. One load: this is asked for every command that needs it.
    pub(super) fn present(&self) -> bool {
        !self.absent.load(Relaxed)
    }

    fn preventing(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.preventing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PREVENT ALLOW MEDIUM REMOVAL by this nexus. The end of a nexus allows.
    pub(super) fn prevent(&self, session: u64, prevent: bool) {
        match prevent {
            true => self.preventing().insert(session),
            false => self.preventing().remove(&session),
        };
    }

    /// A reset: nobody prevents any more. What is out stays out.
    pub(super) fn allow_all(&self) {
        self.preventing().clear();
    }

    /// Takes it out or puts it back; true if that changed anything. Both are refused while somebody prevents removal.
    fn set(&self, present: bool) -> Result<bool, Sense> {
        let preventing = self.preventing();
        match preventing.is_empty() {
            true => Ok(self.absent.swap(!present, Relaxed) == present),
            false => Err(Sense::REMOVAL_PREVENTED),
        }
    }
}

/// START STOP UNIT. Ends before its status whatever IMMED says.
pub(super) async fn start_stop(
    open: &Open,
    condition: u8,
    no_flush: bool,
    load_eject: bool,
    start: bool,
) -> Result<(), Sense> {
    // Power conditions: page 1Ah has no timers and there is nothing to save, so every condition is like every other; but a host
    // that lets its disk rest finds everything written (SBC-4 5.31: NO_FLUSH).
    if condition != 0 {
        if condition != ACTIVE && !no_flush && open.unit.medium().is_ok() {
            open.settle().await?;
        }
        return Ok(());
    }
    if load_eject && !open.unit.options.removable {
        return match start {
            true => Ok(()), // what cannot be taken out is loaded
            false => Err(Sense::cdb_field(4, 1)),
        };
    }
    if !start && !no_flush && open.unit.medium().is_ok() {
        open.settle().await?;
    }
    match (load_eject, start) {
        (true, _) => {
            if open.unit.medium.set(start)? && start {
                open.caused(Happening::Medium);
            }
            Ok(())
        }
        (false, true) => open.unit.medium(),
        (false, false) => Ok(()),
    }
}

/// PREVENT ALLOW MEDIUM REMOVAL.
pub(super) fn prevent_allow(open: &Open, prevent: bool) {
    open.unit.medium.prevent(open.session, prevent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_stays_while_anybody_prevents() {
        let medium = Medium::default();
        medium.prevent(1, true);
        medium.prevent(1, true);
        medium.prevent(2, true);
        medium.prevent(1, false);
        assert_eq!(medium.set(false), Err(Sense::REMOVAL_PREVENTED));
        assert_eq!(medium.set(true), Err(Sense::REMOVAL_PREVENTED));
        assert!(medium.present());
        medium.prevent(2, false);
        assert_eq!((medium.set(false), medium.set(false)), (Ok(true), Ok(false)));
        assert!(!medium.present());
        medium.prevent(3, true);
        medium.allow_all();
        assert_eq!((medium.set(true), medium.present()), (Ok(true), true));
    }
}
