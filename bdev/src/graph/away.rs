//! Nodes that go away: removed by somebody, or vanished by themselves.
use super::{Graph, spread::Change, state::Node};
use crate::{Event, GraphError, blueprint::Kind, local::Local};
use std::{rc::Rc, sync::Arc};

impl Graph {
    /// Takes a node away. Refused, with the name of who holds it, while anybody stands on it, has it open, pinned or claimed.
    pub async fn remove(&self, name: &str) -> Result<(), GraphError> {
        let _turn = self.0.turnstile.enter().await;
        let (slot, full_name) = {
            let state = self.state();
            let (slot, node) = state.get(name)?;
            let full_name = node.name().to_owned();
            if let Some(by) = state.in_use(slot) {
                return Err(GraphError::Busy { name: full_name, by });
            }
            if let Some(by) = node.claim.clone() {
                return Err(GraphError::Claimed { name: full_name, by });
            }
            (slot, full_name)
        };
        if matches!(
            self.state().at(slot).map(|node| node.placement.kind.clone()).as_deref(),
            Some(Kind::Raid { .. })
        ) {
            self.settle_array(&full_name).await?
        }
        self.unname(slot);
        self.sweep().await;
        self.0.events.tell(Event::Removed { name: full_name });
        Ok(())
    }

    /// Takes a node away at once, whoever uses it: it and all above it are orphaned first. Its name is free afterwards.
    pub async fn remove_now(&self, name: &str, reason: &str) -> Result<(), GraphError> {
        self.orphan(name, reason).await?;
        let _turn = self.0.turnstile.enter().await;
        let slot = self.state().find(name)?;
        self.unname(slot);
        self.sweep().await;
        self.0.events.tell(Event::Removed { name: name.into() });
        Ok(())
    }

    pub(super) fn unname(&self, slot: u32) {
        let mut state = self.state();
        state.names.retain(|_, at| *at != slot);
        if let Some(node) = state.at_mut(slot) {
            node.unnamed = true
        }
    }

    /// Forgets nodes without a name that nobody stands on any more, on all cores.
    pub(super) async fn sweep(&self) {
        loop {
            let gone = {
                let mut state = self.state();
                let free = |(slot, node): (u32, &Node)| {
                    (node.unnamed && state.above(slot).next().is_none()).then_some((slot, node.placement.id))
                };
                let Some((slot, id)) = state.all().find_map(free) else {
                    return;
                };
                let name = state.at(slot).map(|node| node.spec.name.clone());
                let below = state.at(slot).map(|node| node.below.clone()).unwrap_or_default();
                state.stand(slot, Vec::new());
                state.nodes[slot as usize] = None;
                for on in below {
                    if let Some(node) = state.at_mut(on).filter(|node| node.claim == name) {
                        node.claim = None
                    }
                }
                (slot, id)
            };
            let removed = self.on_all(move |local| async move { local.remove(gone.0, gone.1) });
            if removed.await.is_err() {
                // The reactors have stopped, and the devices with them.
                return;
            }
        }
    }

    /// The device of a node has vanished: its I/O, and that of all above it where it goes there, fails with `Gone` from now on.
    pub async fn orphan(&self, name: &str, reason: &str) -> Result<(), GraphError> {
        let _turn = self.0.turnstile.enter().await;
        let (order, change, id, home) = {
            let state = self.state();
            let (slot, node) = state.get(name)?;
            let was = &node.placement;
            let change = Change {
                kind: Arc::new(Kind::Gone),
                home: None,
                version: was.version,
                geometry: was.geometry,
            };
            (state.upwards(slot), change, was.id, was.home)
        };
        let Some(&slot) = order.first() else {
            return Err(GraphError::NotFound(name.into()));
        };
        if let Some(home) = home {
            let let_go = move |local: Rc<Local>| async move {
                if let Some(node) = local.node(slot, id) {
                    node.let_go()
                }
            };
            self.on_core(home, let_go).await?
        }
        // No drain: what is under way ends where it is.
        let placements = self.rebuilt(&order, change)?;
        self.place(placements.clone()).await?;
        self.note(placements);
        let gone = self.gone_with(&order).await;
        let told = {
            let mut state = self.state();
            let mut told = Vec::new();
            for (at, slot) in gone.iter().enumerate() {
                let Some(node) = state.at_mut(*slot) else { continue };
                let why = match at {
                    0 => reason.to_owned(),
                    _ => format!("{name:?} below is gone: {reason}"),
                };
                if node.orphan.is_none() {
                    node.orphan = Some(why.clone());
                    told.push(Event::Orphaned {
                        name: node.spec.name.clone(),
                        reason: why,
                    })
                }
            }
            told
        };
        told.into_iter().for_each(|event| self.0.events.tell(event));
        Ok(())
    }
}
