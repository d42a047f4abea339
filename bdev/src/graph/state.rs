//! What the control plane knows about nodes.
use crate::{Geometry, GraphError, NodeInfo, NodeSpec, NodeState, blueprint::Kind, local::Placement};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Acquire},
    },
};

#[derive(Default)]
pub(super) struct State {
    pub nodes: Vec<Option<Node>>,
    /// Names, aliases and UUIDs.
    pub names: HashMap<String, u32>,
    pub next_id: u64,
    pub next_home: usize,
}

/// A node as the control plane keeps it.
pub(super) struct Node {
    pub spec: NodeSpec,
    pub uuid: uuid::Uuid,
    pub placement: Placement,
    pub below: Vec<u32>,
    /// Nodes that stand on it: the way back of their `below`, for `State::stand`.
    pub above: BTreeSet<u32>,
    pub claim: Option<String>,
    pub pins: Vec<(u64, String)>,
    pub opens: Arc<AtomicU32>,
    pub ranges: super::exclusive::Shared,
    pub suspended: bool,
    pub orphan: Option<String>,
    /// Removed while others stood on it: it has no name any more and goes with the last of them.
    pub unnamed: bool,
    /// It was built by whoever has claimed what it stands on, under this word.
    pub under: Option<Arc<str>>,
}

impl Node {
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

impl State {
    pub fn find(&self, name: &str) -> Result<u32, GraphError> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| GraphError::NotFound(name.into()))
    }
    pub fn at(&self, slot: u32) -> Option<&Node> {
        self.nodes.get(slot as usize)?.as_ref()
    }
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut Node> {
        self.nodes.get_mut(slot as usize)?.as_mut()
    }
    pub fn get(&self, name: &str) -> Result<(u32, &Node), GraphError> {
        let slot = self.find(name)?;
        self.at(slot)
            .map(|node| (slot, node))
            .ok_or_else(|| GraphError::NotFound(name.into()))
    }
    pub fn get_mut(&mut self, name: &str) -> Result<&mut Node, GraphError> {
        let slot = self.find(name)?;
        self.at_mut(slot).ok_or_else(|| GraphError::NotFound(name.into()))
    }
    pub fn all(&self) -> impl Iterator<Item = (u32, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(slot, node)| Some((slot as u32, node.as_ref()?)))
    }
    pub fn above(&self, slot: u32) -> impl Iterator<Item = (u32, &Node)> {
        let above = self.at(slot).into_iter().flat_map(|node| &node.above);
        above.filter_map(|slot| Some((*slot, self.at(*slot)?)))
    }
    /// Lets a node stand on others than before, or on nothing any more.
    pub fn stand(&mut self, slot: u32, below: Vec<u32>) {
        let old = self
            .at_mut(slot)
            .map(|node| std::mem::replace(&mut node.below, below.clone()));
        for on in old.unwrap_or_default() {
            if let Some(node) = self.at_mut(on) {
                node.above.remove(&slot);
            }
        }
        for on in below {
            if let Some(node) = self.at_mut(on) {
                node.above.insert(slot);
            }
        }
    }
    pub fn lower(&self, name: &str) -> Result<u32, GraphError> {
        let (slot, node) = self.get(name)?;
        if let Some(reason) = &node.orphan {
            return Err(GraphError::Orphan {
                name: name.into(),
                reason: reason.clone(),
            });
        }
        Ok(slot)
    }
    pub fn geometry_of(&self, slot: u32) -> (Geometry, String) {
        self.at(slot).map_or((Geometry::plain(512, 0), String::new()), |node| {
            (node.placement.geometry, node.name().to_owned())
        })
    }
    /// The node and all that stand on it, each after everything it stands on.
    pub fn upwards(&self, slot: u32) -> Vec<u32> {
        let mut reached = BTreeSet::from([slot]);
        let mut todo = vec![slot];
        while let Some(at) = todo.pop() {
            todo.extend(
                self.above(at)
                    .map(|(slot, _)| slot)
                    .filter(|slot| reached.insert(*slot)),
            )
        }
        // How many of those below each still waits for. A disk may carry ten thousand: this is done under the lock.
        let waits = |slot: &u32| {
            let below = self.at(*slot).map_or(&[][..], |node| &node.below);
            (*slot, below.iter().filter(|on| reached.contains(on)).count())
        };
        let mut waits: BTreeMap<u32, usize> = reached.iter().map(waits).collect();
        let ready = waits.iter().filter(|(_, left)| **left == 0);
        let mut ready: BTreeSet<u32> = ready.map(|(slot, _)| *slot).collect();
        let mut order = Vec::with_capacity(reached.len());
        // A circle is refused before it is made, so everybody's turn comes.
        while let Some(slot) = ready.pop_first() {
            order.push(slot);
            for (above, _) in self.above(slot) {
                if let Some(left) = waits.get_mut(&above) {
                    *left -= 1;
                    if *left == 0 {
                        ready.insert(above);
                    }
                }
            }
        }
        order
    }
    /// Suspended by itself or by something below it.
    pub fn closed(&self, slot: u32) -> bool {
        self.at(slot)
            .is_some_and(|node| node.suspended || node.below.iter().any(|on| self.closed(*on)))
    }
    /// Why it cannot be taken away or claimed, if it cannot.
    pub fn in_use(&self, slot: u32) -> Option<String> {
        let node = self.at(slot)?;
        let above: Vec<String> = self.above(slot).map(|(_, node)| format!("{:?}", node.name())).collect();
        if !above.is_empty() {
            return Some(above.join(", "));
        }
        if let Some((_, by)) = node.pins.first() {
            return Some(by.clone());
        }
        match node.opens.load(Acquire) {
            0 => None,
            1 => Some("1 open".into()),
            opens => Some(format!("{opens} opens")),
        }
    }
    pub fn info(&self, slot: u32) -> Option<NodeInfo> {
        self.told(slot, |_| true)
    }
    /// What there is to know of a node; of those that stand on it, who `tells` is true of.
    pub fn told(&self, slot: u32, tells: impl Fn(&Node) -> bool) -> Option<NodeInfo> {
        let node = self.at(slot)?;
        let name = |slot: &u32| self.at(*slot).map_or_else(String::new, |node| node.name().to_owned());
        Some(NodeInfo {
            id: node.placement.id,
            name: node.spec.name.clone(),
            uuid: node.uuid,
            aliases: node.spec.aliases.clone(),
            product: node.spec.product.clone(),
            table: node.spec.table.clone(),
            geometry: node.placement.geometry,
            home: node.placement.home,
            claimed_by: node.claim.clone(),
            pinned_by: node.pins.iter().map(|(_, by)| by.clone()).collect(),
            opens: node.opens.load(Acquire),
            below: node.below.iter().map(name).collect(),
            above: {
                let above = self.above(slot).filter(|(_, node)| tells(node));
                above.map(|(_, node)| node.name().to_owned()).collect()
            },
            state: match &node.orphan {
                Some(reason) => NodeState::Orphan { reason: reason.clone() },
                None if self.closed(slot) => NodeState::Suspended,
                None => NodeState::Active,
            },
        })
    }
    /// Which nodes below a module takes for itself, and whether it may.
    pub fn claim_below(&self, kind: &Kind, name: &str, under: Option<&str>) -> Result<Vec<u32>, GraphError> {
        let below: BTreeSet<u32> = kind.below().into_iter().collect();
        let mut taken = Vec::new();
        for slot in below {
            let Some(node) = self.at(slot) else { continue };
            match &node.claim {
                Some(by) if by == name || Some(by.as_str()) == under => (),
                // Segments are cut by whoever has claimed the disk: partitions.
                Some(_) if !kind.takes_whole() && under.is_none() => (),
                Some(by) => {
                    return Err(GraphError::Claimed {
                        name: node.name().into(),
                        by: by.clone(),
                    });
                }
                None if kind.takes_whole() => {
                    if let Some(by) = self
                        .in_use(slot)
                        .filter(|_| !self.above(slot).any(|(_, on)| on.name() == name))
                    {
                        return Err(GraphError::Busy {
                            name: node.name().into(),
                            by,
                        });
                    }
                    taken.push(slot)
                }
                None => (),
            }
        }
        Ok(taken)
    }
}

pub(super) fn once_each(mut slots: Vec<u32>) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    slots.retain(|slot| seen.insert(*slot));
    slots
}
