//! The rules of persistent reservations (SPC-5 5.14), without time, locks or files.
//!
//! ```text
//!   State::out(who, action, parameters)  ──►  Ok(Effects)   the state has changed; who is to be told, whose commands end
//!                                        └─►  Err(Refused)  nothing has changed
//! ```
use crate::scsi::nexus_id::NexusId;
use serde::Serialize;
use spec::scsi::{
    Sense, TransportId,
    reservation::{Out, Parameters, Type},
};
use std::collections::BTreeMap;

/// Most registered nexuses of a volume.
pub const REGISTRANTS: usize = 4096;

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its holder; `None`: every registered nexus holds it.
    pub by: Option<NexusId>,
    /// What it keeps others from.
    pub kind: Type,
}

/// What a nexus is told by a unit attention of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[repr(u8)]
pub enum Notice {
    /// RESERVATIONS PREEMPTED.
    ReservationsPreempted = 1,
    /// RESERVATIONS RELEASED.
    ReservationsReleased = 2,
    /// REGISTRATIONS PREEMPTED.
    RegistrationsPreempted = 4,
}

/// What a nexus may do, as far as reservations go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Everything.
    #[default]
    All,
    /// What does not change the medium (write exclusive).
    Reads,
    /// What does not touch the medium (exclusive access).
    Nothing,
    /// What another nexus's RESERVE (6) or (10) leaves.
    Reserved,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// RESERVATION CONFLICT status.
    Conflict,
    /// CHECK CONDITION status.
    Sense(Sense),
}

impl From<Sense> for Refused {
    fn from(sense: Sense) -> Self {
        Self::Sense(sense)
    }
}

/// What follows from a PERSISTENT RESERVE OUT that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Who is told what.
    pub notices: Vec<(NexusId, Notice)>,
    /// Whose commands end (PREEMPT AND ABORT).
    pub aborted: Vec<NexusId>,
}

/// Where a PERSISTENT RESERVE OUT came from, and what it may name.
pub struct Caller<'a> {
    /// Its nexus.
    pub who: &'a NexusId,
    /// Every target port of the target, by relative identifier.
    pub ports: &'a [u16],
    /// Every nexus that is there now: a TransportID without ISID means those of its device.
    pub present: &'a [NexusId],
}

/// Registrations and reservation of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// PRGENERATION.
    pub generation: u32,
    /// APTPL: kept through a power loss.
    pub persist: bool,
    /// Keys by nexus.
    pub registrants: BTreeMap<NexusId, u64>,
    /// The reservation.
    pub held: Option<Held>,
}

impl State {
    /// What `who` may do.
    pub fn verdict(&self, who: &NexusId) -> Verdict {
        let Some(held) = &self.held else { return Verdict::All };
        let registered = self.registrants.contains_key(who);
        match held.kind {
            _ if held.by.as_ref() == Some(who) => Verdict::All,
            kind if kind.admits_registrants() && registered => Verdict::All,
            kind if kind.is_write_exclusive() => Verdict::Reads,
            _ => Verdict::Nothing,
        }
    }

    /// True if `who` holds the reservation, alone or with all registrants.
    pub fn holds(&self, who: &NexusId) -> bool {
        self.held.as_ref().is_some_and(|held| match &held.by {
            Some(holder) => holder == who,
            None => self.registrants.contains_key(who),
        })
    }

    /// The key that READ RESERVATION shows: 0 if all registrants hold it.
    pub fn holding_key(&self) -> Option<(u64, Type)> {
        let held = self.held.as_ref()?;
        let key = held.by.as_ref().and_then(|holder| self.registrants.get(holder));
        Some((key.copied().unwrap_or(0), held.kind))
    }

    /// PERSISTENT RESERVE OUT. Unless it is refused the state is another one.
    pub fn out(
        &mut self,
        caller: &Caller,
        action: Out,
        kind: Option<Type>,
        list: &Parameters,
    ) -> Result<Effects, Refused> {
        let mut effects = Effects::default();
        let registered = self.registrants.get(caller.who).copied();
        match action {
            Out::Register if registered.unwrap_or(0) != list.key => return Err(Refused::Conflict),
            Out::Register | Out::RegisterAndIgnoreExistingKey => {
                return self.register(caller, registered.is_some(), list, effects);
            }
            _ if registered != Some(list.key) => return Err(Refused::Conflict),
            Out::Reserve => self.reserve(caller.who, kind.ok_or(Sense::cdb_field(2, 3))?)?,
            Out::Release => self.release(caller.who, kind.ok_or(Sense::cdb_field(2, 3))?, &mut effects)?,
            Out::Clear => {
                let others = self.registrants.keys().filter(|nexus| *nexus != caller.who);
                let told = others.map(|nexus| (nexus.clone(), Notice::ReservationsPreempted));
                effects.notices.extend(told);
                self.registrants.clear();
                self.held = None;
                self.count();
            }
            Out::Preempt | Out::PreemptAndAbort => {
                let gone = self.preempt(caller.who, kind, list.service_key, &mut effects)?;
                if action == Out::PreemptAndAbort {
                    effects.aborted = gone;
                }
                self.count();
            }
            Out::RegisterAndMove => {
                self.hand_over(caller, list)?;
                self.persist = list.persist;
                self.count();
            }
        }
        Ok(effects)
    }

    fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    // ---- registering

    fn register(
        &mut self,
        caller: &Caller,
        registered: bool,
        list: &Parameters,
        mut effects: Effects,
    ) -> Result<Effects, Refused> {
        // Others are registered together with oneself for the first time only (SPC-5 table 80).
        if registered && list.initiators.is_some() {
            return Err(Sense::parameter_field(20).into());
        }
        if list.service_key == 0 && !registered {
            return Ok(effects);
        }
        let ports = match list.all_target_ports {
            true => caller.ports,
            false => &[caller.who.port][..],
        };
        let mut named = vec![caller.who.initiator.clone()];
        for id in list.initiators.iter().flatten() {
            named.extend(ports_of(id, caller.present).ok_or(Sense::parameter_field(28))?);
        }
        let nexuses = named.iter().flat_map(|initiator| {
            ports.iter().map(|port| NexusId {
                initiator: initiator.clone(),
                port: *port,
                ..caller.who.clone()
            })
        });
        if list.service_key == 0 {
            for nexus in nexuses {
                self.unregister(&nexus, caller.who, &mut effects);
            }
        } else {
            let mut next = self.registrants.clone();
            for nexus in nexuses {
                next.insert(nexus, list.service_key);
                if next.len() > REGISTRANTS {
                    return Err(Sense::REGISTRATION_RESOURCES.into());
                }
            }
            self.registrants = next;
        }
        self.persist = list.persist;
        self.count();
        Ok(effects)
    }

    /// Ends a registration, and the reservation if that was its last holder (SPC-5 5.14.11.2.1).
    fn unregister(&mut self, nexus: &NexusId, cause: &NexusId, effects: &mut Effects) {
        if self.registrants.remove(nexus).is_none() {
            return;
        }
        let Some(held) = &self.held else { return };
        let over = match &held.by {
            Some(holder) => holder == nexus,
            None => self.registrants.is_empty(),
        };
        if over {
            self.end(cause, effects);
        }
    }

    /// The reservation is over. Where registrants had a share in it, they are told.
    fn end(&mut self, cause: &NexusId, effects: &mut Effects) {
        if self.held.take().is_some_and(|held| held.kind.admits_registrants()) {
            self.tell_rest(cause, effects);
        }
    }

    /// RESERVATIONS RELEASED to every registered nexus but `cause`.
    fn tell_rest(&self, cause: &NexusId, effects: &mut Effects) {
        let others = self.registrants.keys().filter(|nexus| *nexus != cause);
        let told = others.map(|nexus| (nexus.clone(), Notice::ReservationsReleased));
        effects.notices.extend(told);
    }

    // ---- reserving

    fn held(&self, who: &NexusId, kind: Type) -> Held {
        let by = (!kind.is_all_registrants()).then(|| who.clone());
        Held { by, kind }
    }

    fn reserve(&mut self, who: &NexusId, kind: Type) -> Result<(), Refused> {
        match &self.held {
            None => self.held = Some(self.held(who, kind)),
            // Asking again for what one holds is no error, another type is.
            Some(held) if held.kind == kind && self.holds(who) => (),
            Some(_) => return Err(Refused::Conflict),
        }
        Ok(())
    }

    fn release(&mut self, who: &NexusId, kind: Type, effects: &mut Effects) -> Result<(), Refused> {
        let Some(held) = self.held.as_ref().filter(|_| self.holds(who)) else {
            return Ok(());
        };
        if held.kind != kind {
            return Err(Sense::INVALID_RELEASE.into());
        }
        self.end(who, effects);
        Ok(())
    }

    /// The nexuses that lost their registrations (SPC-5 5.14.11.2.4 and table 73).
    fn preempt(
        &mut self,
        who: &NexusId,
        kind: Option<Type>,
        key: u64,
        effects: &mut Effects,
    ) -> Result<Vec<NexusId>, Refused> {
        let takes_over = match (&self.held, self.holding_key()) {
            // All registrants hold it: only 0 means all of them.
            (Some(Held { by: None, .. }), _) => key == 0,
            (Some(_), Some((holding, _))) => key == holding,
            _ => false,
        };
        if key == 0 && !takes_over {
            return Err(Sense::parameter_field(8).into());
        }
        let everybody = takes_over && key == 0;
        let gone: Vec<NexusId> = self
            .registrants
            .iter()
            .filter(|(nexus, theirs)| (everybody || **theirs == key) && !(takes_over && *nexus == who))
            .map(|(nexus, _)| nexus.clone())
            .collect();
        if takes_over {
            let kind = kind.ok_or(Sense::cdb_field(2, 3))?;
            self.registrants.retain(|nexus, _| gone.binary_search(nexus).is_err());
            let before = self.held.replace(self.held(who, kind));
            if before.is_some_and(|before| before.kind != kind) {
                self.tell_rest(who, effects);
            }
        } else {
            if gone.is_empty() {
                return Err(Refused::Conflict);
            }
            for nexus in &gone {
                self.unregister(nexus, who, effects);
            }
        }
        let others = gone.iter().filter(|nexus| *nexus != who);
        let told = others.map(|nexus| (nexus.clone(), Notice::RegistrationsPreempted));
        effects.notices.extend(told);
        Ok(gone)
    }

    /// REGISTER AND MOVE (SPC-5 5.14.8).
    fn hand_over(&mut self, caller: &Caller, list: &Parameters) -> Result<(), Refused> {
        let kind = match &self.held {
            Some(held) if held.by.is_none() => return Err(Refused::Conflict),
            Some(held) if self.holds(caller.who) => held.kind,
            // There is nothing to move.
            _ => return Err(Sense::cdb_field(1, 4).into()),
        };
        if list.service_key == 0 {
            return Err(Sense::parameter_field(8).into());
        }
        if !caller.ports.contains(&list.port) {
            return Err(Sense::parameter_field(18).into());
        }
        let named = list.initiators.as_deref().and_then(|list| list.first());
        let ports = named.and_then(|id| ports_of(id, caller.present));
        let Some([initiator]) = ports.as_deref() else {
            return Err(Sense::parameter_field(24).into());
        };
        let to = NexusId {
            initiator: initiator.clone(),
            port: list.port,
            ..caller.who.clone()
        };
        if to == *caller.who {
            return Err(Sense::parameter_field(24).into());
        }
        if self.registrants.len() >= REGISTRANTS && !self.registrants.contains_key(&to) && !list.unregister {
            return Err(Sense::REGISTRATION_RESOURCES.into());
        }
        if list.unregister {
            self.registrants.remove(caller.who);
        }
        self.registrants.insert(to.clone(), list.service_key);
        self.held = Some(Held { by: Some(to), kind });
        Ok(())
    }
}

/// The ports a TransportID means: itself, or those of the device that are there. `None`: there are none.
fn ports_of(id: &TransportId, present: &[NexusId]) -> Option<Vec<TransportId>> {
    if id.isid.is_some() {
        return Some(vec![id.clone()]);
    }
    let mut ports: Vec<TransportId> = present
        .iter()
        .map(|nexus| &nexus.initiator)
        .filter(|initiator| initiator.name == id.name)
        .cloned()
        .collect();
    ports.sort();
    ports.dedup();
    (!ports.is_empty()).then_some(ports)
}
