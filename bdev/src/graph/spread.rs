//! The steps of a change, on all cores.
use super::Graph;
use crate::{
    Event, Geometry, GraphError,
    blueprint::Kind,
    local::{Local, Placement},
};
use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Acquire},
    time::Duration,
};

/// How long a change waits for I/O under way. Less than hosts wait (30 s) before they give up on us.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the first node of a change is to be.
pub(super) struct Change {
    pub kind: Arc<Kind>,
    pub home: Option<usize>,
    pub version: u64,
    pub geometry: Geometry,
}

impl Graph {
    /// Builds (anew) on all cores, in this order. The first thing that went wrong is the answer; all were tried.
    pub(super) async fn place(&self, what: Vec<Placement>) -> Result<(), GraphError> {
        let what = Arc::new(what);
        let names: BTreeMap<u32, String> = {
            let state = self.state();
            what.iter()
                .map(|one| (one.slot, state.geometry_of(one.slot).1))
                .collect()
        };
        let placed = self.on_all(move |local| {
            let what = what.clone();
            async move {
                // Lower ones first, for the upper ones are built from them; and all of them, whatever fails.
                let mut failed = None;
                for one in what.iter() {
                    failed = local.place(one).err().map(|reason| (one.slot, reason)).or(failed)
                }
                failed
            }
        });
        match placed.await?.into_iter().flatten().next() {
            Some((slot, reason)) => {
                let name = names.get(&slot).cloned().unwrap_or_default();
                Err(GraphError::Invalid { name, reason })
            }
            None => Ok(()),
        }
    }

    /// Closes the gates of these nodes on all cores and waits until nothing that has passed is under way. If that takes too long,
    /// they are as they were.
    pub(super) async fn quiet(&self, slots: &[u32], name: &str) -> Result<(), GraphError> {
        let those: Arc<Vec<(u32, u64)>> = Arc::new(self.ids(slots));
        let all = those.clone();
        let close = move |local: Rc<Local>| {
            all.iter().for_each(|(slot, id)| local.set_closed(*slot, *id, true));
            async {}
        };
        self.on_all(close).await?;
        let drain = move |local: Rc<Local>| {
            let those = those.clone();
            async move {
                let drained = async {
                    for (slot, id) in those.iter() {
                        local.drain(*slot, *id).await
                    }
                };
                reactor::timeout(PATIENCE, drained).await.is_ok()
            }
        };
        if self.on_all(drain).await?.into_iter().all(|done| done) {
            return Ok(());
        }
        self.set_gates(slots).await?;
        Err(GraphError::TimedOut {
            name: name.into(),
            seconds: PATIENCE.as_secs(),
        })
    }

    pub(super) fn ids(&self, slots: &[u32]) -> Vec<(u32, u64)> {
        let state = self.state();
        slots
            .iter()
            .filter_map(|slot| Some((*slot, state.at(*slot)?.placement.id)))
            .collect()
    }

    /// Opens or closes gates on all cores, as the state says.
    pub(super) async fn set_gates(&self, slots: &[u32]) -> Result<(), GraphError> {
        let gates: Arc<Vec<(u32, u64, bool)>> = {
            let mut state = self.state();
            let closed: Vec<_> = slots.iter().map(|slot| (*slot, state.closed(*slot))).collect();
            let mut gates = Vec::with_capacity(slots.len());
            for (slot, closed) in closed {
                if let Some(node) = state.at_mut(slot) {
                    node.placement.closed = closed;
                    gates.push((slot, node.placement.id, closed))
                }
            }
            Arc::new(gates)
        };
        self.on_all(move |local| {
            gates
                .iter()
                .for_each(|(slot, id, closed)| local.set_closed(*slot, *id, *closed));
            async {}
        })
        .await
        .map(drop)
    }

    /// What all nodes of `order` become if the first becomes `(kind, table, geometry)`: their placements, from below upwards.
    pub(super) fn rebuilt(&self, order: &[u32], first: Change) -> Result<Vec<Placement>, GraphError> {
        let state = self.state();
        let mut geometries: BTreeMap<u32, Geometry> = BTreeMap::new();
        let mut all = Vec::with_capacity(order.len());
        let mut first = Some(first);
        for slot in order {
            let Some(node) = state.at(*slot) else { continue };
            let was = &node.placement;
            let next = match first.take() {
                Some(Change {
                    kind,
                    home,
                    version,
                    geometry,
                }) => Placement {
                    kind,
                    home,
                    version,
                    geometry,
                    ..was.clone()
                },
                None => {
                    let of = |slot: u32| {
                        let (now, name) = state.geometry_of(slot);
                        (geometries.get(&slot).copied().unwrap_or(now), name)
                    };
                    let geometry = match &*was.kind {
                        Kind::Gone => Ok(was.geometry),
                        kind => kind.geometry(&node.spec.table, of),
                    };
                    let geometry = geometry.map_err(|reason| GraphError::Invalid {
                        name: node.name().into(),
                        reason,
                    })?;
                    Placement {
                        geometry,
                        ..was.clone()
                    }
                }
            };
            if next.geometry.block_size != was.geometry.block_size {
                let reason = format!(
                    "a node keeps its block size: {} bytes, not {}",
                    was.geometry.block_size, next.geometry.block_size
                );
                return Err(GraphError::Invalid {
                    name: node.name().into(),
                    reason,
                });
            }
            if next.geometry.blocks < was.geometry.blocks {
                let users = node.opens.load(Acquire) > 0 || !node.pins.is_empty();
                if users && node.orphan.is_none() {
                    let by = format!("{}, and would shrink", state.in_use(*slot).unwrap_or_default());
                    return Err(GraphError::Busy {
                        name: node.name().into(),
                        by,
                    });
                }
            }
            geometries.insert(*slot, next.geometry);
            all.push(next)
        }
        Ok(all)
    }

    /// Notes what was built anew, and tells of new lengths.
    pub(super) fn note(&self, placed: Vec<Placement>) {
        let mut told = Vec::new();
        {
            let mut state = self.state();
            for new in placed {
                let Some(node) = state.at_mut(new.slot) else { continue };
                if new.geometry.blocks != node.placement.geometry.blocks {
                    told.push(Event::Resized {
                        name: node.name().to_owned(),
                        blocks: new.geometry.blocks,
                    })
                }
                node.placement = new
            }
        }
        told.into_iter().for_each(|event| self.0.events.tell(event))
    }
}
