//! Asymmetric access (Base 2.0d, 8.1): each listener has a state for each group of namespaces; hosts are told when one
//! changes, and commands are turned away where there is no way.
use super::{
    controller::{Controller, Queue},
    subsystem::{Inner, Subsystem},
};
use spec::nvme::ana::{self, AnaState, Group};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// Seconds a group may stay in [`AnaState::Change`] (ANATT) before hosts give the path up.
pub const TRANSITION_SECONDS: u8 = 10;

/// How good the way through one listener is.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// State of all groups but those in `groups`.
    state: AnaState,
    /// Groups that were set one by one.
    groups: BTreeMap<u32, AnaState>,
}

impl Ways {
    /// The same for every group.
    pub fn all(state: AnaState) -> Self {
        Self {
            state,
            groups: BTreeMap::new(),
        }
    }

    /// The state of `group`.
    pub fn of(&self, group: u32) -> AnaState {
        self.groups.get(&group).copied().unwrap_or(self.state)
    }

    /// Sets one group, or all.
    pub fn set(&mut self, group: Option<u32>, state: AnaState) {
        match group {
            Some(group) => drop(self.groups.insert(group, state)),
            None => *self = Self::all(state),
        }
    }
}

/// When what hosts are told of the groups has changed.
#[derive(Debug, Default)]
pub struct Changes {
    count: u64,
    /// The count at each group's last change.
    groups: BTreeMap<u32, u64>,
}

impl Changes {
    /// These groups have another state, or other namespaces.
    pub fn note(&mut self, groups: impl IntoIterator<Item = u32>) {
        self.count += 1;
        self.groups.extend(groups.into_iter().map(|group| (group, self.count)));
    }
}

impl Inner {
    /// The state of `group` for a controller whose host came to `local`. A listener that was taken away leads nowhere.
    pub fn ana_state(&self, local: SocketAddr, group: u32) -> AnaState {
        self.listener_at(local)
            .map_or(AnaState::Inaccessible, |listener| listener.ways.of(group))
    }

    /// Sets the guards of all namespaces: up where some listener has no way to them.
    pub fn guard_ways(&self) {
        for namespace in self.namespaces.values() {
            let group = namespace.info.anagrpid;
            let blocked = self
                .listeners
                .iter()
                .any(|listener| listener.ways.of(group).refusal().is_some());
            namespace.guard.set_ways(blocked);
        }
    }
}

impl Subsystem {
    /// Groups have changed: the guards follow, and the hosts that came to one of `listeners` are told. Returns the queues to wake.
    pub fn ana_changed(
        &self,
        inner: &mut Inner,
        groups: impl IntoIterator<Item = u32>,
        concerns: impl Fn(SocketAddr) -> bool,
    ) -> Vec<Queue> {
        inner.ana.note(groups);
        inner.guard_ways();
        if !self.config.ana_reporting {
            return Vec::new();
        }
        let concerned = inner.controllers.values().filter(|c| concerns(c.local));
        concerned.filter_map(|c| c.ana_changed()).collect()
    }
}

/// The log page (0Ch) of an I/O controller: the groups of the namespaces its host may see.
pub fn log(controller: &Controller, groups_only: bool) -> Vec<u8> {
    let Some(subsystem) = &controller.subsystem else {
        return ana::log(0, &[], true);
    };
    let inner = subsystem.inner();
    let visible = || inner.namespaces.values().filter(|n| n.visible_to(&controller.hostnqn));
    let ids: BTreeSet<u32> = visible().map(|n| n.info.anagrpid).collect();
    let groups: Vec<Group> = ids
        .into_iter()
        .map(|id| Group {
            id,
            changes: inner.ana.groups.get(&id).copied().unwrap_or_default(),
            state: inner.ana_state(controller.local, id),
            namespaces: visible()
                .filter(|n| n.info.anagrpid == id)
                .map(|n| n.info.nsid)
                .collect(),
        })
        .collect();
    ana::log(inner.ana.count, &groups, groups_only)
}
