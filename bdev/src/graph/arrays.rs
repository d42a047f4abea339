//! Arrays while they run: how they are, what is asked of them, what becomes of them when a member goes.
use super::{Graph, state::State};
use crate::{
    GraphError,
    blueprint::Kind,
    module::raid::{Array, Command, Report},
};
use std::collections::BTreeSet;

impl Graph {
    async fn with_array<T: Send + 'static>(
        &self,
        name: &str,
        what: impl AsyncFnOnce(Array) -> T + Send + 'static,
    ) -> Result<T, GraphError> {
        let (slot, id, core) = self.whereabouts(name)?;
        let done = self.on_core(core, move |local| async move {
            match local.node(slot, id).and_then(|node| node.array()) {
                Some(array) => Some(what(array).await),
                None => None,
            }
        });
        let kind = self.info(name).map_or("node", |node| node.table.kind());
        done.await?.ok_or(GraphError::Unsupported {
            name: name.into(),
            kind: kind.into(),
            what: "do what arrays do".into(),
        })
    }

    /// How an array is: its members, what is done to it.
    pub async fn array(&self, name: &str) -> Result<Report, GraphError> {
        self.with_array(name, async |array| array.report()).await
    }

    /// Asks an array to do something.
    pub async fn command_array(&self, name: &str, command: Command) -> Result<(), GraphError> {
        let done = self
            .with_array(name, async move |array| array.command(command).await)
            .await?;
        done.map_err(|reason| GraphError::Invalid {
            name: name.into(),
            reason,
        })
    }

    /// Leaves nothing for the next start to compare, if hosts are idle: notes are forgotten and superblocks say that all is well.
    pub async fn settle_array(&self, name: &str) -> Result<(), GraphError> {
        self.with_array(name, async |array| array.stop().await).await
    }

    /// [`settle_array`](Self::settle_array) for all there are, before the end.
    pub async fn settle_arrays(&self) {
        let all: Vec<String> = {
            let state = self.state();
            let arrays = state
                .all()
                .filter(|(_, node)| matches!(*node.placement.kind, Kind::Raid { .. }));
            arrays.map(|(_, node)| node.spec.name.clone()).collect()
        };
        for name in all {
            if let Err(error) = self.settle_array(&name).await {
                tracing::warn!(%error, "an array is not settled")
            }
        }
    }

    /// Of a node that has gone and all above it: those that have gone with it. Arrays that can do without it have not, nor has what stands on them.
    pub(super) async fn gone_with(&self, order: &[u32]) -> Vec<u32> {
        let mut gone: BTreeSet<u32> = order.iter().take(1).copied().collect();
        for slot in order.iter().skip(1) {
            let (name, lost) = {
                let state = self.state();
                let Some((name, lost)) = loses(&state, *slot, &gone) else {
                    continue;
                };
                (name, lost)
            };
            let alive = match lost {
                Some(places) => self
                    .with_array(&name, async move |array| array.lose(&places).await)
                    .await
                    .unwrap_or(false),
                None => false,
            };
            if !alive {
                gone.insert(*slot);
            }
        }
        order.iter().copied().filter(|slot| gone.contains(slot)).collect()
    }
}

/// Whether a node stands on something that has gone: its name, and for arrays in which places.
fn loses(state: &State, slot: u32, gone: &BTreeSet<u32>) -> Option<(String, Option<Vec<u16>>)> {
    let node = state.at(slot)?;
    if !node.below.iter().any(|on| gone.contains(on)) {
        return None;
    }
    let places = match &*node.placement.kind {
        Kind::Raid { on, .. } => {
            let lost = on
                .iter()
                .zip(0..)
                .filter(|(seat, _)| seat.is_some_and(|(on, _)| gone.contains(&on)));
            Some(lost.map(|(_, place)| place).collect())
        }
        _ => None,
    };
    Some((node.spec.name.clone(), places))
}
