//! Reservations: who may do what to a volume (SPC-5 5.14, SPC-2 5.5).
//!
//! | file | subject |
//! |---|---|
//! | this one | what the units of a volume share: the state, who is there, what each is to be told |
//! | [`state`] | the rules, as a function from state to state |
//! | [`keep`] | the file of what outlives a power loss |
//! | `command` | PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE |
//!
//! A change is made by one nexus at a time, and takes effect when what must be kept is on stable storage. It then stirs the
//! units, so that each nexus looks again before its next command. Nothing of this costs a command that finds nothing stirred.
mod command;
pub mod keep;
#[cfg(test)]
mod model_tests;
pub mod state;

pub(super) use command::{persistent_in, persistent_out, release, reserve};
pub use state::{Held, Notice, Refused, State, Verdict};

use super::{NexusId, unit::Unit};
use keep::Store;
use serde::Serialize;
use spec::scsi::{
    Sense,
    reservation::{Out, Parameters, Type},
};
use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};
use uuid::Uuid;

/// A nexus that has a unit of the volume open.
#[derive(Debug)]
struct Present {
    nexus: NexusId,
    session: u64,
    unit: Weak<Unit>,
    /// Connections of the session that have it open.
    opens: u32,
    /// What it is still to be told, as bits of [`Notice`].
    notices: u8,
}

#[derive(Debug, Default)]
struct Shared {
    state: State,
    /// RESERVE (6) or (10), which ends with the session.
    reserved: Option<(NexusId, u64)>,
    present: Vec<Present>,
    /// There is a file; `None` if that is not sure, since writing it failed.
    kept: Option<bool>,
}

impl Shared {
    /// Every nexus looks again.
    fn stir(&self) {
        let units = self.present.iter().filter_map(|present| present.unit.upgrade());
        units.for_each(|unit| unit.stir());
    }

    /// Access by a persistent reservation, which a RESERVE or RELEASE then leaves as it is.
    fn compatible(&self, nexus: &NexusId) -> Result<(), Refused> {
        let shares = |held: &Held| held.kind.admits_registrants() && self.state.registrants.contains_key(nexus);
        let may = self.state.holds(nexus) || self.state.held.as_ref().is_some_and(shares);
        if may { Ok(()) } else { Err(Refused::Conflict) }
    }
}

/// The reservations of one volume, through whichever targets it is reached.
#[derive(Debug)]
pub struct Reservations {
    volume: Uuid,
    store: Option<Arc<Store>>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
    shared: Mutex<Shared>,
}

impl Reservations {
    /// None yet, and none that outlive the process.
    pub fn volatile(volume: Uuid) -> Arc<Self> {
        Arc::new(Self {
            volume,
            store: None,
            turn: tokio::sync::Mutex::default(),
            shared: Mutex::new(Shared {
                kept: Some(false),
                ..Shared::default()
            }),
        })
    }

    /// Those that were kept for the volume. Blocks; for control threads.
    fn kept(volume: Uuid, store: &Arc<Store>) -> Arc<Self> {
        let found = store.load(volume);
        if let Err(why) = &found {
            tracing::error!(
                "volume {volume}: its reservations in {} cannot be read: {why}. Until hosts register, nobody has access: \
                 register (sg_persist --register-ignore), then --clear; or remove the file and restart",
                store.path(volume).display()
            );
        }
        let state = found.unwrap_or_else(|_| Some(keep::closed()));
        Arc::new(Self {
            volume,
            store: Some(store.clone()),
            turn: tokio::sync::Mutex::default(),
            shared: Mutex::new(Shared {
                kept: Some(state.is_some()),
                state: state.unwrap_or_default(),
                ..Shared::default()
            }),
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- who is there

    /// A nexus has opened a unit. An earlier session of the same nexus is over by this, and its RESERVE with it.
    pub(super) fn enter(&self, unit: &Arc<Unit>, nexus: &NexusId, session: u64) {
        let mut shared = self.shared();
        let other = |who: &NexusId, theirs: u64| who == nexus && theirs != session;
        if shared
            .reserved
            .as_ref()
            .is_some_and(|(who, theirs)| other(who, *theirs))
        {
            shared.reserved = None;
            shared.stir();
        }
        let same = |present: &&mut Present| {
            present.nexus == *nexus
                && present.session == session
                && std::ptr::eq(present.unit.as_ptr(), &raw const **unit)
        };
        match shared.present.iter_mut().find(same) {
            Some(present) => present.opens += 1,
            None => shared.present.push(Present {
                nexus: nexus.clone(),
                session,
                unit: Arc::downgrade(unit),
                opens: 1,
                notices: 0,
            }),
        }
    }

    /// A nexus has closed a unit; with its session, its RESERVE is over (I_T nexus loss).
    pub(super) fn leave(&self, unit: &Unit, nexus: &NexusId, session: u64) {
        let mut shared = self.shared();
        shared.present.retain_mut(|present| {
            let same =
                present.nexus == *nexus && present.session == session && std::ptr::eq(present.unit.as_ptr(), unit);
            present.opens -= u32::from(same);
            present.opens > 0
        });
        let gone = |(who, theirs): &(NexusId, u64)| {
            let here = |present: &Present| present.nexus == *who && present.session == *theirs;
            !shared.present.iter().any(here)
        };
        if shared.reserved.as_ref().is_some_and(gone) {
            shared.reserved = None;
            shared.stir();
        }
    }

    /// What a nexus may do now, and what it is to be told (which counts as told by this).
    pub(super) fn look(&self, unit: &Unit, nexus: &NexusId, session: u64) -> (Verdict, u8) {
        let mut shared = self.shared();
        let verdict = match &shared.reserved {
            Some((who, theirs)) if who != nexus || *theirs != session => Verdict::Reserved,
            _ => shared.state.verdict(nexus),
        };
        let same = |present: &&mut Present| {
            present.nexus == *nexus && present.session == session && std::ptr::eq(present.unit.as_ptr(), unit)
        };
        let mine = shared.present.iter_mut().find(same);
        (verdict, mine.map_or(0, |present| std::mem::take(&mut present.notices)))
    }

    // ---- changes

    /// PERSISTENT RESERVE OUT. When it returns, what was to be kept is kept. The nexuses whose commands are to end.
    pub(super) async fn out(
        &self,
        who: &NexusId,
        ports: &[u16],
        action: Out,
        kind: Option<Type>,
        list: &Parameters,
    ) -> Result<Vec<NexusId>, Refused> {
        if list.persist && self.store.is_none() && matches!(action, Out::Register | Out::RegisterAndIgnoreExistingKey) {
            return Err(Sense::parameter_field(20).into());
        }
        let _turn = self.turn.lock().await;
        let (before, mut next, present, kept) = {
            let shared = self.shared();
            if shared.reserved.is_some() {
                return Err(Refused::Conflict);
            }
            let present: Vec<NexusId> = shared.present.iter().map(|present| present.nexus.clone()).collect();
            (shared.state.clone(), shared.state.clone(), present, shared.kept)
        };
        let caller = state::Caller {
            who,
            ports,
            present: &present,
        };
        let effects = next.out(&caller, action, kind, list)?;
        let keep = next.persist && !next.registrants.is_empty();
        let same = (&before.registrants, &before.held) == (&next.registrants, &next.held);
        if let Some(store) = &self.store
            && (kept != Some(keep) || keep && !same)
            && let Err(error) = store.save(self.volume, keep.then_some(&next)).await
        {
            let path = store.path(self.volume);
            tracing::error!("reservations cannot be kept in {}: {error}", path.display());
            self.shared().kept = None;
            return Err(Sense::REGISTRATION_RESOURCES.into());
        }
        let mut shared = self.shared();
        shared.state = next;
        shared.kept = Some(keep);
        for (nexus, notice) in effects.notices {
            for present in shared.present.iter_mut().filter(|present| present.nexus == nexus) {
                present.notices |= notice as u8;
            }
        }
        shared.stir();
        Ok(effects.aborted)
    }

    /// RESERVE (6) and (10). A nexus that has access by a persistent reservation gets GOOD and no more (CRH, SPC-5 5.14.3).
    pub(super) async fn reserve(&self, nexus: &NexusId, session: u64) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        let mut shared = self.shared();
        if !shared.state.registrants.is_empty() || shared.state.held.is_some() {
            return shared.compatible(nexus);
        }
        match &shared.reserved {
            Some((who, theirs)) if who == nexus && *theirs == session => return Ok(()),
            Some(_) => return Err(Refused::Conflict),
            None => shared.reserved = Some((nexus.clone(), session)),
        }
        shared.stir();
        Ok(())
    }

    /// RELEASE (6) and (10). Of what another holds it is no error, and no release.
    pub(super) async fn release(&self, nexus: &NexusId, session: u64) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        let mut shared = self.shared();
        if !shared.state.registrants.is_empty() || shared.state.held.is_some() {
            return shared.compatible(nexus);
        }
        if shared
            .reserved
            .as_ref()
            .is_some_and(|(who, theirs)| who == nexus && *theirs == session)
        {
            shared.reserved = None;
            shared.stir();
        }
        Ok(())
    }

    /// A reset of the unit: RESERVE ends, persistent reservations stay.
    pub fn reset(&self) {
        let mut shared = self.shared();
        if shared.reserved.take().is_some() {
            shared.stir();
        }
    }

    // ---- reports

    /// The state, unless a RESERVE keeps it from being told (SPC-2 7.12).
    pub(super) fn read<T>(&self, of: impl FnOnce(&State) -> T) -> Result<T, Refused> {
        let shared = self.shared();
        match shared.reserved {
            Some(_) => Err(Refused::Conflict),
            None => Ok(of(&shared.state)),
        }
    }

    /// Every unit of the volume that somebody has open.
    pub(super) fn units(&self) -> Vec<Arc<Unit>> {
        let mut units: Vec<Arc<Unit>> = Vec::new();
        for unit in self
            .shared()
            .present
            .iter()
            .filter_map(|present| present.unit.upgrade())
        {
            if !units.iter().any(|known| Arc::ptr_eq(known, &unit)) {
                units.push(unit);
            }
        }
        units
    }

    /// They can outlive a power loss (PTPL_C).
    pub(super) fn can_persist(&self) -> bool {
        self.store.is_some()
    }

    /// For people.
    pub fn snapshot(&self) -> Snapshot {
        let shared = self.shared();
        let state = &shared.state;
        let registrants = state.registrants.iter().map(|(nexus, key)| RegistrantInfo {
            initiator: nexus.initiator.to_string(),
            target: nexus.target.clone(),
            portal_group: nexus.port,
            key: *key,
            holder: state.holds(nexus),
            connected: shared.present.iter().any(|present| present.nexus == *nexus),
        });
        Snapshot {
            generation: state.generation,
            persist: state.persist,
            kind: state.held.as_ref().map(|held| name(held.kind)),
            registrants: registrants.collect(),
            reserved_by: shared.reserved.as_ref().map(|(nexus, _)| nexus.initiator.to_string()),
        }
    }
}

/// The type as people know it from `sg_persist`.
fn name(kind: Type) -> &'static str {
    match kind {
        Type::WriteExclusive => "write_exclusive",
        Type::ExclusiveAccess => "exclusive_access",
        Type::WriteExclusiveRegistrantsOnly => "write_exclusive_registrants_only",
        Type::ExclusiveAccessRegistrantsOnly => "exclusive_access_registrants_only",
        Type::WriteExclusiveAllRegistrants => "write_exclusive_all_registrants",
        Type::ExclusiveAccessAllRegistrants => "exclusive_access_all_registrants",
    }
}

/// The reservations of a volume as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// PRGENERATION.
    pub generation: u32,
    /// Kept through a power loss.
    pub persist: bool,
    /// The persistent reservation's type, if there is one.
    pub kind: Option<&'static str>,
    /// Who is registered.
    pub registrants: Vec<RegistrantInfo>,
    /// The initiator port that holds a RESERVE (6) or (10).
    pub reserved_by: Option<String>,
}

/// A registered nexus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegistrantInfo {
    /// Initiator port: name and ISID.
    pub initiator: String,
    /// The target it registered through.
    pub target: String,
    /// The portal group it registered through.
    pub portal_group: u16,
    /// Reservation key.
    pub key: u64,
    /// It holds the reservation, alone or with others.
    pub holder: bool,
    /// It has a session now.
    pub connected: bool,
}

/// The reservations of all volumes, by UUID.
#[derive(Debug, Default)]
pub struct Registry {
    store: OnceLock<Arc<Store>>,
    volumes: Mutex<BTreeMap<Uuid, Weak<Reservations>>>,
}

impl Registry {
    /// From now on reservations are kept below this folder if hosts ask for it. Those of volumes that are in use already are not.
    pub fn keep_in(&self, state_dir: &Path) -> io::Result<()> {
        let store = Arc::new(Store::open(state_dir)?);
        // The first folder counts.
        let _ = self.store.set(store);
        Ok(())
    }

    /// Those of a volume: the ones in use, or the ones that were kept. Blocks; for control threads.
    pub fn of(&self, volume: Uuid) -> Arc<Reservations> {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        volumes.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = volumes.get(&volume).and_then(Weak::upgrade) {
            return known;
        }
        let new = match self.store.get() {
            Some(store) => Reservations::kept(volume, store),
            None => Reservations::volatile(volume),
        };
        volumes.insert(volume, Arc::downgrade(&new));
        new
    }
}
