//! One namespace's registrations and reservation (Base 2.0d, 8.19): who has registered which key, who holds it, and
//! what follows from each command. Plain state: it knows hosts by their identifiers and nothing of connections.
use spec::nvme::{
    Status,
    reservation::{Acquire, AcquireAction, Keys, Notice, Register, RegisterAction, Release, ReservationType},
};
use std::collections::BTreeMap;

/// Host identifier.
pub type HostId = [u8; 16];

/// Registrants a namespace has at most. Beyond it, hosts get a resource error instead of our memory.
pub const REGISTRANTS: usize = 4096;

/// See the module's description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations {
    /// Counts changes of registrations; starts anew with the process.
    pub generation: u32,
    /// Key of each registrant.
    pub registrants: BTreeMap<HostId, u64>,
    /// What is held and by whom; with an all-registrants type the host is the one that acquired it.
    pub held: Option<(ReservationType, HostId)>,
    /// It all survives a power loss.
    pub persists: bool,
}

/// What follows from a command besides its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Hosts to be told, and what.
    pub notices: Vec<(HostId, Notice)>,
    /// Hosts whose commands on the namespace are to be aborted.
    pub abort: Vec<HostId>,
}

/// What a command does to the namespace's data, for a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads, compares and verifies.
    Read,
    /// Writes, zeroes, deallocates, flushes.
    Write,
}

type Done = Result<Effects, Status>;

impl Reservations {
    /// May `host` do that?
    pub fn allows(&self, host: &HostId, access: Access) -> bool {
        let Some((kind, holder)) = &self.held else { return true };
        let privileged = match kind.registrants_may() {
            true => self.registrants.contains_key(host),
            false => holder == host,
        };
        privileged || access == Access::Read && kind.others_may_read()
    }

    /// True if `host` holds the reservation.
    pub fn holds(&self, host: &HostId) -> bool {
        match &self.held {
            Some((kind, _)) if kind.all_registrants() => self.registrants.contains_key(host),
            Some((_, holder)) => holder == host,
            None => false,
        }
    }

    /// Reservation Register.
    pub fn register(&mut self, host: HostId, ask: Register, keys: Keys) -> Done {
        let (current, new) = (keys.current.get(), keys.other.get());
        let registered = self.registrants.get(&host).copied();
        let mut effects = Effects::default();
        match ask.action {
            RegisterAction::Register | RegisterAction::Replace if new == 0 => return Err(Status::INVALID_FIELD),
            RegisterAction::Register => match registered {
                Some(key) if key == new => {}
                Some(_) => return Err(Status::RESERVATION_CONFLICT),
                None => self.add(host, new)?,
            },
            RegisterAction::Replace => match registered {
                Some(key) if key != current && !ask.ignore_key => return Err(Status::RESERVATION_CONFLICT),
                None if !ask.ignore_key => return Err(Status::RESERVATION_CONFLICT),
                _ => self.add(host, new)?,
            },
            RegisterAction::Unregister => match registered {
                Some(key) if key == current || ask.ignore_key => effects = self.leave(host),
                _ => return Err(Status::RESERVATION_CONFLICT),
            },
        }
        if let Some(persist) = ask.persist {
            self.persists = persist;
        }
        Ok(effects)
    }

    fn add(&mut self, host: HostId, key: u64) -> Result<(), Status> {
        if self.registrants.len() >= REGISTRANTS && !self.registrants.contains_key(&host) {
            return Err(Status::INTERNAL_ERROR.with_do_not_retry(true));
        }
        self.registrants.insert(host, key);
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    /// `host` unregisters; what it alone held is released.
    fn leave(&mut self, host: HostId) -> Effects {
        let lost = self.holds(&host);
        self.registrants.remove(&host);
        self.generation = self.generation.wrapping_add(1);
        let Some((kind, _)) = self.held.filter(|_| lost) else {
            return Effects::default();
        };
        match kind.all_registrants() {
            // The others hold it as well as it did.
            true if !self.registrants.is_empty() => Effects::default(),
            _ => {
                self.held = None;
                self.tell_others(host, released(kind))
            }
        }
    }

    /// Reservation Acquire.
    pub fn acquire(&mut self, host: HostId, ask: Acquire, keys: Keys) -> Done {
        self.check_key(&host, keys.current.get())?;
        match ask.action {
            AcquireAction::Acquire => match self.held {
                None => self.held = Some((ask.kind, host)),
                Some((kind, _)) if self.holds(&host) && kind == ask.kind => {}
                Some(_) => return Err(Status::RESERVATION_CONFLICT),
            },
            AcquireAction::Preempt => {
                return self.preempt(host, ask.kind, keys.other.get()).map(|effects| Effects {
                    abort: Vec::new(),
                    ..effects
                });
            }
            AcquireAction::PreemptAndAbort => return self.preempt(host, ask.kind, keys.other.get()),
        }
        Ok(Effects::default())
    }

    /// Takes the registrations with `key` away, and the reservation if one of them (or, for zero, everybody) holds it.
    fn preempt(&mut self, host: HostId, kind: ReservationType, key: u64) -> Done {
        let before = self.held;
        let everybody = matches!(before, Some((kind, _)) if kind.all_registrants()) && key == 0;
        if key == 0 && !everybody {
            return Err(Status::INVALID_FIELD);
        }
        let hit = |other: &HostId, theirs: u64| *other != host && (everybody || theirs == key);
        let victims: Vec<HostId> = self
            .registrants
            .iter()
            .filter(|&(other, &theirs)| hit(other, theirs))
            .map(|(other, _)| *other)
            .collect();
        let takes = match before {
            None => false,
            Some((kind, _)) if kind.all_registrants() => everybody,
            Some((_, holder)) => self.registrants.get(&holder) == Some(&key),
        };
        if victims.is_empty() && !takes {
            return Err(Status::RESERVATION_CONFLICT);
        }
        let mut effects = Effects {
            abort: victims.clone(),
            ..Effects::default()
        };
        for victim in &victims {
            self.registrants.remove(victim);
            let notice = match before {
                Some((kind, holder)) if takes && (kind.all_registrants() || holder == *victim) => {
                    Notice::ReservationPreempted
                }
                _ => Notice::RegistrationPreempted,
            };
            effects.notices.push((*victim, notice));
        }
        if !victims.is_empty() {
            self.generation = self.generation.wrapping_add(1);
        }
        if takes {
            self.held = Some((kind, host));
            // Those that stay and could write under the old type learn that it is another one now.
            if let Some((old, _)) = before.filter(|(old, _)| *old != kind) {
                effects.notices.extend(self.tell_others(host, released(old)).notices);
            }
        }
        Ok(effects)
    }

    /// Reservation Release.
    pub fn release(&mut self, host: HostId, ask: Release, key: u64) -> Done {
        self.check_key(&host, key)?;
        match ask {
            Release::Release(wanted) => match self.held {
                Some((kind, _)) if self.holds(&host) => {
                    if wanted != Some(kind) {
                        return Err(Status::INVALID_FIELD);
                    }
                    self.held = None;
                    Ok(self.tell_others(host, released(kind)))
                }
                // Releasing what one does not hold is done.
                _ => Ok(Effects::default()),
            },
            Release::Clear => {
                let effects = self.tell_others(host, Some(Notice::ReservationPreempted));
                self.held = None;
                self.registrants.clear();
                self.generation = self.generation.wrapping_add(1);
                Ok(effects)
            }
        }
    }

    fn check_key(&self, host: &HostId, key: u64) -> Result<(), Status> {
        match self.registrants.get(host) {
            Some(theirs) if *theirs == key => Ok(()),
            _ => Err(Status::RESERVATION_CONFLICT),
        }
    }

    fn tell_others(&self, host: HostId, notice: Option<Notice>) -> Effects {
        let others = self.registrants.keys().filter(|other| **other != host);
        Effects {
            notices: others.filter_map(|other| Some((*other, notice?))).collect(),
            abort: Vec::new(),
        }
    }
}

/// Who is told when a reservation ends: registrants, where they could do something under it that may now change.
fn released(kind: ReservationType) -> Option<Notice> {
    kind.registrants_may().then_some(Notice::ReservationReleased)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReservationType::*;

    const A: HostId = [0xa; 16];
    const B: HostId = [0xb; 16];
    const C: HostId = [0xc; 16];

    fn keys(current: u64, other: u64) -> Keys {
        Keys {
            current: current.into(),
            other: other.into(),
        }
    }

    fn ask(action: RegisterAction, ignore_key: bool) -> Register {
        Register {
            action,
            ignore_key,
            persist: None,
        }
    }

    fn three() -> Reservations {
        let mut r = Reservations::default();
        for (host, key) in [(A, 1), (B, 2), (C, 3)] {
            r.register(host, ask(RegisterAction::Register, false), keys(0, key))
                .unwrap();
        }
        r
    }

    fn acquire(r: &mut Reservations, host: HostId, key: u64, kind: ReservationType) -> Done {
        let action = AcquireAction::Acquire;
        r.acquire(host, Acquire { action, kind }, keys(key, 0))
    }

    fn preempt(r: &mut Reservations, host: HostId, key: u64, other: u64, kind: ReservationType) -> Done {
        let action = AcquireAction::PreemptAndAbort;
        r.acquire(host, Acquire { action, kind }, keys(key, other))
    }

    #[test]
    fn registrations_follow_their_keys() {
        let mut r = three();
        let register = ask(RegisterAction::Register, false);
        assert_eq!(r.register(A, register, keys(0, 1)), Ok(Effects::default()));
        assert_eq!(r.register(A, register, keys(0, 9)), Err(Status::RESERVATION_CONFLICT));
        assert_eq!(r.register([1; 16], register, keys(0, 0)), Err(Status::INVALID_FIELD));
        let replace = ask(RegisterAction::Replace, false);
        assert_eq!(r.register(A, replace, keys(7, 9)), Err(Status::RESERVATION_CONFLICT));
        assert!(r.register(A, replace, keys(1, 9)).is_ok());
        assert!(r.register(A, ask(RegisterAction::Replace, true), keys(0, 10)).is_ok());
        assert_eq!(r.registrants[&A], 10);
        assert_eq!(r.generation, 5);
        let leave = ask(RegisterAction::Unregister, false);
        assert_eq!(r.register(A, leave, keys(1, 0)), Err(Status::RESERVATION_CONFLICT));
        assert!(r.register(A, leave, keys(10, 0)).is_ok());
        assert_eq!(r.register(A, leave, keys(10, 0)), Err(Status::RESERVATION_CONFLICT));
    }

    #[test]
    fn each_type_lets_in_whom_it_should() {
        const D: HostId = [0xd; 16];
        for kind in ReservationType::ALL {
            let mut r = three();
            acquire(&mut r, A, 1, kind).unwrap();
            let may = |host| (r.allows(host, Access::Read), r.allows(host, Access::Write));
            let stranger = (kind.others_may_read(), false);
            assert_eq!(may(&A), (true, true), "{kind:?}");
            assert_eq!(
                may(&B),
                if kind.registrants_may() { (true, true) } else { stranger },
                "{kind:?}"
            );
            assert_eq!(may(&D), stranger, "{kind:?}");
        }
    }

    #[test]
    fn a_holder_that_leaves_releases_and_says_so_where_it_matters() {
        let leave = ask(RegisterAction::Unregister, false);
        for (kind, told, still) in [
            (WriteExclusive, false, false),
            (ExclusiveAccess, false, false),
            (WriteExclusiveRegistrantsOnly, true, false),
            (ExclusiveAccessRegistrantsOnly, true, false),
            (WriteExclusiveAllRegistrants, false, true),
            (ExclusiveAccessAllRegistrants, false, true),
        ] {
            let mut r = three();
            acquire(&mut r, A, 1, kind).unwrap();
            let effects = r.register(A, leave, keys(1, 0)).unwrap();
            assert_eq!(
                (effects.notices.len() == 2, r.held.is_some()),
                (told, still),
                "{kind:?}"
            );
        }
        let mut r = three();
        acquire(&mut r, A, 1, WriteExclusiveAllRegistrants).unwrap();
        for (host, key) in [(A, 1), (B, 2), (C, 3)] {
            r.register(host, leave, keys(key, 0)).unwrap();
        }
        assert_eq!(r.held, None, "the last registrant takes it along");
    }

    #[test]
    fn preempting_the_holder_takes_the_reservation_and_others_only_their_registration() {
        let mut r = three();
        acquire(&mut r, A, 1, WriteExclusiveRegistrantsOnly).unwrap();
        let effects = preempt(&mut r, B, 2, 3, ExclusiveAccess).unwrap();
        assert_eq!(effects.notices, [(C, Notice::RegistrationPreempted)]);
        assert_eq!(
            (effects.abort, r.held),
            (vec![C], Some((WriteExclusiveRegistrantsOnly, A)))
        );
        assert_eq!(
            preempt(&mut r, B, 2, 77, ExclusiveAccess),
            Err(Status::RESERVATION_CONFLICT)
        );
        assert_eq!(preempt(&mut r, B, 2, 0, ExclusiveAccess), Err(Status::INVALID_FIELD));
        let effects = preempt(&mut r, B, 2, 1, ExclusiveAccess).unwrap();
        assert_eq!(effects.notices, [(A, Notice::ReservationPreempted)]);
        assert_eq!(r.held, Some((ExclusiveAccess, B)));
        // The holder may preempt itself to change the type.
        assert!(preempt(&mut r, B, 2, 2, WriteExclusive).unwrap().abort.is_empty());
        assert_eq!(r.held, Some((WriteExclusive, B)));
    }

    #[test]
    fn preempting_all_registrants_takes_a_zero_key() {
        let mut r = three();
        acquire(&mut r, A, 1, WriteExclusiveAllRegistrants).unwrap();
        let effects = preempt(&mut r, B, 2, 3, ExclusiveAccess).unwrap();
        assert_eq!(effects.notices, [(C, Notice::RegistrationPreempted)]);
        assert_eq!(r.held, Some((WriteExclusiveAllRegistrants, A)));
        let effects = preempt(&mut r, B, 2, 0, ExclusiveAccess).unwrap();
        assert_eq!(effects.notices, [(A, Notice::ReservationPreempted)]);
        assert_eq!((r.held, r.registrants.len()), (Some((ExclusiveAccess, B)), 1));
    }

    #[test]
    fn release_and_clear_need_the_key_and_the_type() {
        let mut r = three();
        acquire(&mut r, A, 1, ExclusiveAccessRegistrantsOnly).unwrap();
        assert_eq!(acquire(&mut r, A, 1, WriteExclusive), Err(Status::RESERVATION_CONFLICT));
        assert_eq!(
            acquire(&mut r, B, 2, ExclusiveAccessRegistrantsOnly),
            Err(Status::RESERVATION_CONFLICT)
        );
        let wrong = Release::Release(Some(WriteExclusive));
        assert_eq!(r.release(A, wrong, 1), Err(Status::INVALID_FIELD));
        assert_eq!(r.release(A, wrong, 5), Err(Status::RESERVATION_CONFLICT));
        assert_eq!(r.release(B, wrong, 2), Ok(Effects::default()));
        let right = Release::Release(Some(ExclusiveAccessRegistrantsOnly));
        assert_eq!(r.release(A, right, 1).unwrap().notices.len(), 2);
        let effects = r.release(B, Release::Clear, 2).unwrap();
        assert_eq!(
            effects.notices,
            [(A, Notice::ReservationPreempted), (C, Notice::ReservationPreempted)]
        );
        assert!(r.registrants.is_empty() && r.held.is_none());
    }

    #[test]
    fn registrants_are_bounded() {
        let mut r = Reservations::default();
        for n in 0..REGISTRANTS as u128 {
            r.add(n.to_le_bytes(), 1).unwrap();
        }
        assert!(r.add([0xff; 16], 1).is_err());
        assert!(r.add([0; 16], 2).is_ok(), "one of them changes its key");
    }
}
