//! Changing nodes that are in use: replace, suspend, resume, resize.
use super::{
    Graph,
    spread::Change,
    state::{Node, State, once_each},
};
use crate::{Event, Geometry, GraphError, NodeInfo, Table, blueprint::Kind, local::Placement};
use std::sync::Arc;

impl Graph {
    /// Gives a node another table while hosts use it: suspends it and all above it on every core, builds, resumes. What it held
    /// itself is dropped; whoever wants the data in the new place copies it while suspended. Also brings an orphan back.
    pub async fn replace(&self, name: &str, table: Table) -> Result<NodeInfo, GraphError> {
        let _turn = self.0.turnstile.enter().await;
        let (slot, order, full_name) = {
            let state = self.state();
            let (slot, node) = state.get(name)?;
            (slot, state.upwards(slot), node.name().to_owned())
        };
        let invalid = |reason: String| GraphError::Invalid {
            name: full_name.clone(),
            reason,
        };
        let kind = Kind::new(&full_name, &table, &self.0.keys, |on| self.lower(on))?;
        if kind.below().iter().any(|on| order.contains(on)) {
            return Err(invalid("it would stand on itself".into()));
        }
        let (change, below, taken, old_below) = {
            let mut state = self.state();
            let under = state.at(slot).and_then(|node| node.under.clone());
            let taken = state.claim_below(&kind, &full_name, under.as_deref())?;
            let geometry = kind.geometry(&table, |slot| state.geometry_of(slot)).map_err(invalid)?;
            let below = once_each(kind.below());
            let lower_home = below.iter().find_map(|slot| state.at(*slot)?.placement.home);
            let Some(node) = state.at(slot) else {
                return Err(GraphError::NotFound(name.into()));
            };
            let old_below = node.below.clone();
            let home = kind.has_home().then(|| node.placement.home.or(lower_home).unwrap_or(0));
            state.next_id += 1;
            let version = state.next_id;
            for slot in &taken {
                if let Some(node) = state.at_mut(*slot) {
                    node.claim = Some(full_name.clone())
                }
            }
            (
                Change {
                    kind: Arc::new(kind),
                    home,
                    version,
                    geometry,
                },
                below,
                taken,
                old_below,
            )
        };
        let changed = async {
            let placements = self.rebuilt(&order, change)?;
            self.quiet(&order, &full_name).await?;
            let closed = placements
                .iter()
                .map(|one| Placement {
                    closed: true,
                    ..one.clone()
                })
                .collect();
            let placed = self.place(closed).await;
            if placed.is_err() {
                let old: Vec<Placement> = {
                    let state = self.state();
                    order
                        .iter()
                        .filter_map(|slot| Some(state.at(*slot)?.placement.clone()))
                        .collect()
                };
                self.place(old).await?;
                self.set_gates(&order).await?;
            }
            placed.map(|()| placements)
        };
        let placements = match changed.await {
            Ok(placements) => placements,
            Err(error) => {
                self.release(&taken, &full_name);
                return Err(error);
            }
        };
        self.note(placements);
        let restored = {
            let mut state = self.state();
            let still: Vec<u32> = old_below.into_iter().filter(|slot| !below.contains(slot)).collect();
            for slot in still {
                if let Some(node) = state
                    .at_mut(slot)
                    .filter(|node| node.claim.as_deref() == Some(&full_name))
                {
                    node.claim = None
                }
            }
            state.stand(slot, below);
            if let Some(node) = state.at_mut(slot) {
                node.spec.table = table;
                node.orphan = None
            }
            self.restore(&mut state, &order)
        };
        self.set_gates(&order).await?;
        self.0.events.tell(Event::Replaced {
            name: full_name.clone(),
        });
        restored
            .into_iter()
            .for_each(|name| self.0.events.tell(Event::Restored { name }));
        self.sweep().await;
        self.info(&full_name).ok_or(GraphError::NotFound(full_name))
    }

    /// After the first of `order` came back: who is no orphan any more.
    pub(super) fn restore(&self, state: &mut State, order: &[u32]) -> Vec<String> {
        let mut restored = Vec::new();
        for (at, slot) in order.iter().enumerate() {
            let healthy = state.at(*slot).is_some_and(|node| {
                node.below
                    .iter()
                    .all(|on| state.at(*on).is_some_and(|node| node.orphan.is_none()))
            });
            if let Some(node) = state.at_mut(*slot)
                && healthy
                && (node.orphan.take().is_some() || at == 0)
            {
                restored.push(node.spec.name.clone())
            }
        }
        restored
    }

    /// Lets nothing through to a node any more, and returns when nothing is under way in it. What comes waits.
    pub async fn suspend(&self, name: &str) -> Result<(), GraphError> {
        let _turn = self.0.turnstile.enter().await;
        let (order, was) = {
            let mut state = self.state();
            let slot = state.find(name)?;
            let was = state
                .get_mut(name)
                .map(|node| std::mem::replace(&mut node.suspended, true))?;
            (state.upwards(slot), was)
        };
        let quiet = self.quiet(&order, name).await;
        if quiet.is_err()
            && let Ok(node) = self.state().get_mut(name)
        {
            node.suspended = was
        }
        self.set_gates(&order).await?;
        quiet
    }

    /// Lets everything through again.
    pub async fn resume(&self, name: &str) -> Result<(), GraphError> {
        let _turn = self.0.turnstile.enter().await;
        let order = {
            let mut state = self.state();
            state.get_mut(name)?.suspended = false;
            let slot = state.find(name)?;
            state.upwards(slot)
        };
        self.set_gates(&order).await
    }

    /// Gives a memory or null node another length; looks at a file again and takes the length it has. Those above see it where they stand
    /// on the whole. Nobody's disk shrinks while it is open.
    pub async fn resize(&self, name: &str, blocks: u64) -> Result<NodeInfo, GraphError> {
        let file = match self.info(name).ok_or_else(|| GraphError::NotFound(name.into()))?.table {
            Table::File { .. } => true,
            Table::Memory { .. } | Table::Null { .. } => false,
            other => {
                let what = "be resized: resize what is below it";
                return Err(GraphError::Unsupported {
                    name: name.into(),
                    kind: other.kind().into(),
                    what: what.into(),
                });
            }
        };
        if file {
            self.rescan(name).await?;
        } else {
            let _turn = self.0.turnstile.enter().await;
            self.set_blocks(name, blocks).await?
        }
        self.info(name).ok_or_else(|| GraphError::NotFound(name.into()))
    }

    pub(super) async fn set_blocks(&self, name: &str, blocks: u64) -> Result<(), GraphError> {
        let (order, change, shrinks) = {
            let state = self.state();
            let (slot, node) = state.get(name)?;
            let was = node.placement.clone();
            let geometry = Geometry { blocks, ..was.geometry };
            let sound = geometry.check().and_then(|()| {
                if blocks == 0 {
                    Err("a disk of 0 blocks".into())
                } else {
                    Ok(())
                }
            });
            sound.map_err(|reason| GraphError::Invalid {
                name: name.into(),
                reason,
            })?;
            let change = Change {
                kind: was.kind,
                home: was.home,
                version: was.version,
                geometry,
            };
            (state.upwards(slot), change, blocks < was.geometry.blocks)
        };
        let placements = self.rebuilt(&order, change)?;
        if shrinks {
            self.quiet(&order, name).await?
        }
        let placed = self.place(placements.clone()).await;
        if placed.is_ok() {
            self.note(placements);
            let mut state = self.state();
            if let Table::Memory { blocks: length, .. } | Table::Null { blocks: length, .. } =
                &mut state.get_mut(name)?.spec.table
            {
                *length = blocks
            }
        }
        self.set_gates(&order).await?;
        placed
    }

    /// Looks at the file of a file node again: has it grown, or gone? Answers true if something changed. Others are as they are.
    pub async fn rescan(&self, name: &str) -> Result<bool, GraphError> {
        let turn = self.0.turnstile.enter().await;
        let (file, now) = {
            let state = self.state();
            let (_, node) = state.get(name)?;
            match &*node.placement.kind {
                Kind::File(file) => (file.clone(), node.placement.geometry.blocks),
                _ => return Ok(false),
            }
        };
        match file.size() {
            Ok(blocks) if blocks == now => Ok(false),
            Ok(blocks) if blocks > now => self.set_blocks(name, blocks).await.map(|()| true),
            Ok(0) => {
                drop(turn);
                self.orphan(name, "it has no blocks any more").await.map(|()| true)
            }
            Ok(blocks) => match self.set_blocks(name, blocks).await {
                // In use: it keeps its length, and what is missing reads as a medium error.
                Err(GraphError::Busy { .. } | GraphError::Invalid { .. }) => {
                    tracing::warn!(name, was = now, is = blocks, "a file in use was cut short");
                    Ok(false)
                }
                done => done.map(|()| true),
            },
            Err(error) => {
                drop(turn);
                self.orphan(name, &format!("its size cannot be read: {error}"))
                    .await
                    .map(|()| true)
            }
        }
    }

    /// [`rescan`](Self::rescan) for every node. To be called now and then, for files grow without telling us.
    pub async fn rescan_all(&self) {
        let files: Vec<String> = {
            let state = self.state();
            let is_file = |node: &&Node| matches!(*node.placement.kind, Kind::File(_)) && !node.unnamed;
            state
                .all()
                .map(|(_, node)| node)
                .filter(is_file)
                .map(|node| node.spec.name.clone())
                .collect()
        };
        for name in files {
            match self.rescan(&name).await {
                Ok(_) | Err(GraphError::NotFound(_)) => (),
                Err(error) => tracing::warn!(%error, "rescan"),
            }
        }
    }
}
