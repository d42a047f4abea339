//! Random operations of several nexuses against a model written from the standard's sentences (SPC-5 5.14), one sentence
//! after the other, without thought for how [`State`] does it.
use super::state::{Caller, Effects, Held, Notice, Refused, State, Verdict};
use crate::scsi::NexusId;
use spec::scsi::{
    Sense, TransportId,
    reservation::{Out, Parameters, Type},
};

/// xorshift64*: a failing seed is printed and can be put here.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len() as u64) as usize].clone()
    }
}

fn nexus(host: u8, isid: u8, port: u16) -> NexusId {
    NexusId {
        initiator: TransportId {
            name: format!("iqn.x:host{host}"),
            isid: Some([0, 0, 0, 0, 0, isid]),
        },
        target: "iqn.x:t".into(),
        port,
    }
}

#[derive(Default)]
struct Model {
    generation: u32,
    keys: Vec<(NexusId, u64)>,
    kind: Option<Type>,
    /// Unless all registrants hold it.
    holder: Option<NexusId>,
    notices: Vec<(NexusId, Notice)>,
}

impl Model {
    fn key(&self, who: &NexusId) -> Option<u64> {
        self.keys.iter().find(|(nexus, _)| nexus == who).map(|(_, key)| *key)
    }

    fn all_hold(&self) -> bool {
        matches!(
            self.kind,
            Some(Type::WriteExclusiveAllRegistrants | Type::ExclusiveAccessAllRegistrants)
        )
    }

    fn is_holder(&self, who: &NexusId) -> bool {
        self.kind.is_some() && (self.holder.as_ref() == Some(who) || self.all_hold() && self.key(who).is_some())
    }

    fn tell_registered_except(&mut self, who: &NexusId, notice: Notice) {
        for (nexus, _) in &self.keys {
            if nexus != who {
                self.notices.push((nexus.clone(), notice));
            }
        }
    }

    fn release(&mut self, by: &NexusId) {
        let plain = matches!(self.kind, Some(Type::WriteExclusive | Type::ExclusiveAccess));
        (self.kind, self.holder) = (None, None);
        if !plain {
            self.tell_registered_except(by, Notice::ReservationsReleased);
        }
    }

    fn remove(&mut self, who: &NexusId, by: &NexusId) {
        let only_holder = self.holder.as_ref() == Some(who) || self.all_hold() && self.keys.len() == 1;
        if self.key(who).is_none() {
            return;
        }
        self.keys.retain(|(nexus, _)| nexus != who);
        if only_holder {
            self.release(by);
        }
    }

    fn set(&mut self, who: NexusId, key: u64) {
        self.keys.retain(|(nexus, _)| *nexus != who);
        self.keys.push((who, key));
    }

    fn establish(&mut self, who: &NexusId, kind: Type) {
        self.kind = Some(kind);
        self.holder = if self.all_hold() { None } else { Some(who.clone()) };
    }

    fn out(&mut self, who: &NexusId, ports: &[u16], action: Out, kind: Type, list: &Parameters) -> Result<(), Refused> {
        self.notices.clear();
        let mine = self.key(who);
        let sense = |sense: Sense| Err(Refused::Sense(sense));
        match action {
            Out::Register | Out::RegisterAndIgnoreExistingKey => {
                if action == Out::Register && list.key != mine.unwrap_or(0) {
                    return Err(Refused::Conflict);
                }
                if mine.is_some() && list.initiators.is_some() {
                    return sense(Sense::parameter_field(20));
                }
                if mine.is_none() && list.service_key == 0 {
                    return Ok(());
                }
                let mut initiators = vec![who.initiator.clone()];
                initiators.extend(list.initiators.clone().unwrap_or_default());
                let ports = if list.all_target_ports {
                    ports.to_vec()
                } else {
                    vec![who.port]
                };
                for initiator in &initiators {
                    for port in &ports {
                        let one = NexusId {
                            initiator: initiator.clone(),
                            port: *port,
                            target: who.target.clone(),
                        };
                        match list.service_key {
                            0 => self.remove(&one, who),
                            key => self.set(one, key),
                        }
                    }
                }
                self.generation += 1;
                return Ok(());
            }
            _ if mine.is_none() || mine != Some(list.key) => return Err(Refused::Conflict),
            Out::Reserve => {
                if self.kind.is_none() {
                    self.establish(who, kind);
                } else if !self.is_holder(who) || self.kind != Some(kind) {
                    return Err(Refused::Conflict);
                }
            }
            Out::Release => {
                if self.is_holder(who) {
                    if self.kind != Some(kind) {
                        return sense(Sense::INVALID_RELEASE);
                    }
                    self.release(who);
                }
            }
            Out::Clear => {
                self.tell_registered_except(who, Notice::ReservationsPreempted);
                (self.kind, self.holder) = (None, None);
                self.keys.clear();
                self.generation += 1;
            }
            Out::Preempt | Out::PreemptAndAbort => {
                let holder_key = self.holder.as_ref().and_then(|holder| self.key(holder));
                let preempts = self.kind.is_some()
                    && if self.all_hold() {
                        list.service_key == 0
                    } else {
                        Some(list.service_key) == holder_key
                    };
                if preempts {
                    let before = self.kind;
                    let gone: Vec<NexusId> = self
                        .keys
                        .iter()
                        .filter(|(nexus, key)| nexus != who && (list.service_key == 0 || *key == list.service_key))
                        .map(|(nexus, _)| nexus.clone())
                        .collect();
                    self.keys.retain(|(nexus, _)| !gone.contains(nexus));
                    self.establish(who, kind);
                    if before != Some(kind) {
                        self.tell_registered_except(who, Notice::ReservationsReleased);
                    }
                    let told = gone.into_iter().map(|nexus| (nexus, Notice::RegistrationsPreempted));
                    self.notices.extend(told);
                } else if list.service_key == 0 {
                    return sense(Sense::parameter_field(8));
                } else {
                    let hit = |(_, key): &&(NexusId, u64)| *key == list.service_key;
                    let gone: Vec<NexusId> = self.keys.iter().filter(hit).map(|(nexus, _)| nexus.clone()).collect();
                    if gone.is_empty() {
                        return Err(Refused::Conflict);
                    }
                    for nexus in gone {
                        self.remove(&nexus, who);
                        if nexus != *who {
                            self.notices.push((nexus, Notice::RegistrationsPreempted));
                        }
                    }
                }
                self.generation += 1;
            }
            Out::RegisterAndMove => {
                if self.all_hold() {
                    return Err(Refused::Conflict);
                }
                if !self.is_holder(who) {
                    return sense(Sense::cdb_field(1, 4));
                }
                if list.service_key == 0 {
                    return sense(Sense::parameter_field(8));
                }
                if !ports.contains(&list.port) {
                    return sense(Sense::parameter_field(18));
                }
                let to = NexusId {
                    initiator: list.initiators.as_ref().unwrap()[0].clone(),
                    port: list.port,
                    target: who.target.clone(),
                };
                if to == *who {
                    return sense(Sense::parameter_field(24));
                }
                if list.unregister {
                    self.keys.retain(|(nexus, _)| nexus != who);
                }
                self.set(to.clone(), list.service_key);
                self.holder = Some(to);
                self.generation += 1;
            }
        }
        Ok(())
    }

    fn verdict(&self, who: &NexusId) -> Verdict {
        use Type::*;
        let Some(kind) = self.kind else { return Verdict::All };
        let open_to_registered = !matches!(kind, WriteExclusive | ExclusiveAccess);
        if self.is_holder(who) || open_to_registered && self.key(who).is_some() {
            return Verdict::All;
        }
        match kind {
            WriteExclusive | WriteExclusiveRegistrantsOnly | WriteExclusiveAllRegistrants => Verdict::Reads,
            _ => Verdict::Nothing,
        }
    }
}

fn sorted(mut notices: Vec<(NexusId, Notice)>) -> Vec<(NexusId, Notice)> {
    notices.sort_by_key(|(nexus, notice)| (nexus.clone(), *notice as u8));
    notices
}

const ACTIONS: [Out; 12] = [
    Out::Register,
    Out::Register,
    Out::Register,
    Out::RegisterAndIgnoreExistingKey,
    Out::RegisterAndIgnoreExistingKey,
    Out::Reserve,
    Out::Reserve,
    Out::Release,
    Out::Clear,
    Out::Preempt,
    Out::PreemptAndAbort,
    Out::RegisterAndMove,
];

fn story(seed: u64) {
    let mut dice = Dice(seed);
    let ports = [1, 2];
    let hosts: Vec<NexusId> = [(1, 0, 1), (1, 1, 1), (1, 0, 2), (2, 0, 1), (2, 0, 2), (3, 0, 1)]
        .map(|(host, isid, port)| nexus(host, isid, port))
        .to_vec();
    let (mut state, mut model) = (State::default(), Model::default());
    for step in 0..200 {
        let who = dice.of(&hosts);
        let mut action = dice.of(&ACTIONS);
        // CLEAR comes seldom, or nothing ever grows.
        if action == Out::Clear && dice.roll(3) > 0 {
            action = Out::Reserve;
        }
        let own = state.registrants.get(&who).copied().unwrap_or(0);
        let others = dice.of(&hosts);
        let list = Parameters {
            key: if dice.roll(10) == 0 { dice.roll(4) } else { own },
            service_key: dice.roll(4),
            all_target_ports: dice.roll(5) == 0,
            persist: dice.roll(2) == 0,
            unregister: dice.roll(2) == 0,
            port: dice.roll(3) as u16 + 1,
            initiators: match action {
                Out::RegisterAndMove => Some(vec![others.initiator]),
                Out::Register if dice.roll(6) == 0 => Some(vec![others.initiator]),
                _ => None,
            },
        };
        let kind = dice.of(&Type::ALL);
        let at = || format!("seed {seed:#x}, step {step}: {who} {action:?} {kind:?} {list:?}");
        let caller = Caller {
            who: &who,
            ports: &ports,
            present: &hosts,
        };
        let before = state.clone();
        let found = state.out(&caller, action, Some(kind), &list);
        let expected = model.out(&who, &ports, action, kind, &list);
        match (&found, &expected) {
            (Ok(Effects { notices, aborted }), Ok(())) => {
                assert_eq!(sorted(notices.clone()), sorted(model.notices.clone()), "{}", at());
                let gone: Vec<&NexusId> = before
                    .registrants
                    .keys()
                    .filter(|nexus| !state.registrants.contains_key(nexus))
                    .collect();
                match action {
                    Out::PreemptAndAbort => assert_eq!(aborted.iter().collect::<Vec<_>>(), gone, "{}", at()),
                    _ => assert!(aborted.is_empty(), "{}", at()),
                }
            }
            (Err(found), Err(expected)) => {
                assert_eq!(found, expected, "{}", at());
                assert_eq!(state, before, "{}: refused, and yet changed", at());
            }
            _ => panic!("{}: {found:?}, expected {expected:?}", at()),
        }
        let mut keys = model.keys.clone();
        keys.sort();
        assert_eq!(
            state.registrants.clone().into_iter().collect::<Vec<_>>(),
            keys,
            "{}",
            at()
        );
        assert_eq!(state.generation, model.generation, "{}", at());
        let held = model.kind.map(|kind| Held {
            by: model.holder.clone(),
            kind,
        });
        assert_eq!(state.held, held, "{}", at());
        for host in &hosts {
            assert_eq!(state.verdict(host), model.verdict(host), "{}: {host}", at());
            assert_eq!(state.holds(host), model.is_holder(host), "{}: {host}", at());
        }
        if state.persist && !state.registrants.is_empty() {
            let mut read = super::keep::decode(&super::keep::encode(&state)).expect("what was written is read");
            read.generation = state.generation;
            assert_eq!(read, state, "{}", at());
        }
    }
}

#[test]
fn the_rules_agree_with_the_model() {
    for n in 1..=500u64 {
        story(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

#[test]
fn registrants_are_bounded_and_the_whole_register_fails() {
    use super::state::REGISTRANTS;
    let mut state = State::default();
    for n in 0..REGISTRANTS as u32 - 1 {
        let [.., a, b, c, d] = u64::from(n).to_be_bytes();
        let mut one = nexus(1, 0, 1);
        one.initiator.isid = Some([0, 0, a, b, c, d]);
        state.registrants.insert(one, 1);
    }
    let who = nexus(2, 0, 1);
    let caller = Caller {
        who: &who,
        ports: &[1, 2],
        present: &[],
    };
    let mut list = Parameters {
        service_key: 7,
        all_target_ports: true,
        ..Parameters::default()
    };
    let before = state.clone();
    let full = Err(Refused::Sense(Sense::REGISTRATION_RESOURCES));
    assert_eq!(state.out(&caller, Out::Register, None, &list), full);
    assert_eq!(state, before, "not one of the two");
    list.all_target_ports = false;
    assert!(state.out(&caller, Out::Register, None, &list).is_ok());
    assert_eq!(state.registrants.len(), REGISTRANTS);
}

#[test]
fn a_transport_id_without_isid_means_the_ports_that_are_there() {
    let present = [nexus(2, 1, 1), nexus(2, 2, 1), nexus(3, 1, 1)];
    let who = nexus(1, 0, 1);
    let caller = Caller {
        who: &who,
        ports: &[1],
        present: &present,
    };
    let device = |host: u8| TransportId {
        isid: None,
        ..nexus(host, 0, 1).initiator
    };
    let mut state = State::default();
    let mut list = Parameters {
        service_key: 7,
        initiators: Some(vec![device(2)]),
        ..Parameters::default()
    };
    assert!(state.out(&caller, Out::Register, None, &list).is_ok());
    let registered: Vec<&NexusId> = state.registrants.keys().collect();
    assert_eq!(registered, [&who, &present[0], &present[1]]);
    let mut state = State::default();
    list.initiators = Some(vec![device(9)]);
    let nobody = Err(Refused::Sense(Sense::parameter_field(28)));
    assert_eq!(state.out(&caller, Out::Register, None, &list), nobody);
    assert_eq!(state, State::default());
}
