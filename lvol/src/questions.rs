//! What there is, answered at once from what is known: disks, groups, volumes, wishes.
use crate::{
    Create, DiskInfo, Engine, Found, Group, Origin, Verdict,
    engine::{Known, State},
};
use bdev::{NodeInfo, NodeState};
use std::collections::{BTreeMap, BTreeSet};

impl Engine {
    /// Every disk, those that are missing too, by name.
    pub fn disks(&self) -> Vec<DiskInfo> {
        self.pump();
        let names: BTreeSet<String> = {
            let state = self.state();
            let all = state.known.keys().chain(state.missing.keys());
            all.chain(state.inactive.keys()).cloned().collect()
        };
        let list = self.inner.runtime.list();
        let mut nodes: BTreeMap<String, NodeInfo> = list.into_iter().map(|node| (node.name.clone(), node)).collect();
        names
            .iter()
            .filter_map(|name| self.told_of(name, nodes.remove(name), true))
            .collect()
    }

    /// One disk by name, alias or UUID.
    pub fn disk(&self, name: &str) -> Option<DiskInfo> {
        self.told_of(name, self.inner.runtime.info(name), true)
    }

    /// The same with what [`Runtime::brief`](crate::border::Runtime::brief) tells of the node, and without the volumes on it.
    pub(crate) fn brief(&self, name: &str) -> Option<DiskInfo> {
        self.told_of(name, self.inner.runtime.brief(name), false)
    }

    fn told_of(&self, name: &str, node: Option<NodeInfo>, volumes: bool) -> Option<DiskInfo> {
        let state = self.state();
        let Some(node) = node else {
            let Some((wish, why)) = state.missing.get(name) else {
                return inactive(&state, name);
            };
            return Some(DiskInfo {
                name: name.to_owned(),
                node: None,
                origin: wish.origin.clone(),
                verdict: Verdict::Missing,
                reason: format!("is missing: {why}"),
                format: None,
                signatures: Vec::new(),
                notes: Vec::new(),
                parts: Vec::new(),
                partition: None,
                volume: None,
                tasted: 0,
            });
        };
        let known = state.known.get(&node.name)?;
        let mut notes = known.findings.notes.clone();
        if let NodeState::Orphan { reason } = &node.state {
            notes.insert(0, format!("is gone: {reason}"));
        }
        // A member that could be read is what its group makes of it.
        let standing = known.standing.as_ref();
        let (verdict, reason) = match standing.filter(|_| known.findings.verdict == Verdict::Claimed) {
            Some(standing) => {
                notes.extend(standing.notes.iter().cloned());
                (standing.verdict, &standing.reason)
            }
            None => (known.findings.verdict, &known.findings.reason),
        };
        Some(DiskInfo {
            name: node.name.clone(),
            origin: known.origin.clone(),
            verdict,
            reason: reason.clone(),
            format: known.findings.format.map(str::to_owned),
            signatures: known.findings.signatures.clone(),
            notes,
            parts: {
                let volumes = known.volumes.iter().filter(|_| volumes);
                known.parts.iter().chain(volumes).cloned().collect()
            },
            partition: known.partition.clone(),
            volume: known.volume.clone(),
            tasted: known.tasted,
            node: Some(node),
        })
    }

    /// Every group of disks, by name.
    pub fn groups(&self) -> Vec<Group> {
        self.pump();
        self.state().groups.to_vec()
    }

    /// The volumes of the groups of this name that are disks.
    pub fn volumes_of(&self, group: &str) -> Vec<String> {
        let state = self.state();
        let groups = state.groups.iter().filter(|one| one.name == group);
        let there = |name: &&String| state.known.contains_key(*name);
        groups
            .flat_map(|one| one.volumes.iter().map(|volume| &volume.disk))
            .filter(there)
            .cloned()
            .collect()
    }

    /// What could be offered to hosts: disks that are there and on which nothing stands and no format sits.
    pub fn volumes(&self) -> Vec<DiskInfo> {
        let free = |disk: &DiskInfo| {
            disk.verdict != Verdict::Claimed && disk.node.as_ref().is_some_and(|node| node.above.is_empty())
        };
        self.disks().into_iter().filter(free).collect()
    }

    /// What metadata says of the nodes that discovery has made, or of this one, by name.
    pub fn found(&self, only: Option<&str>) -> BTreeMap<String, Found> {
        self.pump();
        let state = self.state();
        let found = |known: &Known| match (&known.partition, &known.volume) {
            (Some(partition), _) => Some(Found::Partition(partition.clone())),
            (None, Some(volume)) => Some(Found::Volume(volume.clone())),
            (None, None) => None,
        };
        let one = only.map(|name| state.known.get_key_value(name).into_iter().collect::<Vec<_>>());
        let all = one.unwrap_or_else(|| state.known.iter().collect());
        let each = all
            .into_iter()
            .filter_map(|(name, known)| Some((name.clone(), found(known)?)));
        each.collect()
    }

    /// Every wish that was not made by discovery, the missing ones too, lower nodes before those that stand on them.
    pub fn wishes(&self) -> Vec<Create> {
        self.pump();
        let state = self.state();
        let made = state.known.values().filter(|known| !known.origin.is_found());
        let mut left: Vec<Create> = made
            .map(|k| Create {
                spec: k.spec.clone(),
                origin: k.origin.clone(),
                examine: k.examine,
            })
            .chain(state.missing.values().map(|(wish, _)| wish.clone()))
            .collect();
        // A node on a partition waits for the disk the partition is on; one on a volume for all disks of it.
        let roots: BTreeMap<String, BTreeSet<String>> =
            state.known.keys().map(|n| (n.clone(), roots(&state, n))).collect();
        drop(state);
        let mut ordered: Vec<Create> = Vec::with_capacity(left.len());
        loop {
            let names: BTreeSet<String> = left.iter().map(|wish| wish.spec.name.clone()).collect();
            let waits = |wish: &Create| {
                let below = wish.spec.table.below();
                below.iter().any(|below| match roots.get(*below) {
                    Some(roots) => roots.iter().any(|root| names.contains(root)),
                    None => names.contains(*below),
                })
            };
            let (ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|wish| !waits(wish));
            let stuck = ready.is_empty();
            ordered.extend(ready);
            if stuck {
                // Nodes cannot stand on each other in a circle, but a missing wish may say so.
                ordered.extend(rest);
                return ordered;
            }
            left = rest;
        }
    }
}

/// The disks that were not found by discovery and on which, through however many partition tables and groups, `name` is.
fn roots(state: &State, name: &str) -> BTreeSet<String> {
    let (mut roots, mut seen, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![name]);
    while let Some(at) = todo.pop() {
        match state.known.get(at) {
            Some(known) if known.origin.is_found() => {
                todo.extend(known.spec.table.below().into_iter().filter(|on| seen.insert(*on)));
            }
            _ => {
                roots.insert(at.to_owned());
            }
        }
    }
    roots
}

/// A volume that is no disk, as one.
fn inactive(state: &State, name: &str) -> Option<DiskInfo> {
    let (group, volume) = state.inactive.get(name)?;
    let group = state.groups.get(*group)?;
    let volume = group.volumes.get(*volume)?;
    Some(DiskInfo {
        name: name.to_owned(),
        node: None,
        origin: Origin::Group {
            group: group.name.clone(),
            format: group.format.clone(),
        },
        verdict: Verdict::Inactive,
        reason: volume.inactive.clone().unwrap_or_default(),
        format: None,
        signatures: Vec::new(),
        notes: Vec::new(),
        parts: Vec::new(),
        partition: None,
        volume: Some(volume.what.clone()),
        tasted: 0,
    })
}
