//! Forgetting the key of an encrypted node: what was written with it is gone.
use super::{Graph, spread::Change, state::State};
use crate::{GraphError, blueprint::Kind, keys::Key, local::Placement};
use reactor::channel;
use std::sync::Arc;

impl State {
    /// The key of a node, if everything there is on the node, and nothing else, is encrypted with it, and another can take its place.
    fn own_key(&self, name: &str) -> Result<(u32, Arc<Key>), GraphError> {
        let (slot, node) = self.get(name)?;
        let Kind::Crypt { key, .. } = &*node.placement.kind else {
            return Err(GraphError::Unsupported {
                name: name.into(),
                kind: node.spec.table.kind().into(),
                what: "be given another key".into(),
            });
        };
        let refused = |reason: &str| GraphError::Key {
            name: name.into(),
            reason: reason.into(),
        };
        let shares = |kind: &Kind| matches!(kind, Kind::Crypt { key: other, .. } if Arc::ptr_eq(key, other));
        if self
            .all()
            .any(|(at, other)| at != slot && shares(&other.placement.kind))
        {
            return Err(refused("another disk is encrypted with it"));
        }
        if self.above(slot).next().is_some() {
            return Err(refused("something else stands on the disk"));
        }
        if !key.is_replaceable() {
            return Err(refused("it was given in a call, or its file cannot be replaced"));
        }
        Ok((slot, key.clone()))
    }
}

impl Graph {
    /// True if [`rekey`](Self::rekey) would be tried. Looks at the control plane's state: not for every I/O.
    pub fn can_rekey(&self, name: &str) -> bool {
        self.state().own_key(name).is_ok()
    }

    /// Gives an encrypted node a random key in place of the one it has, which is forgotten: on stable storage if it has a file, and in the memory
    /// of every core. I/O waits meanwhile; afterwards all blocks read as noise. On an error the node goes on, and if the old key is in its file
    /// still, it goes on with that.
    pub async fn rekey(&self, name: &str) -> Result<(), GraphError> {
        let _turn = self.0.turnstile.enter().await;
        let (order, key, change, name) = {
            let state = self.state();
            let (slot, key) = state.own_key(name)?;
            let node = state.at(slot).ok_or_else(|| GraphError::NotFound(name.into()))?;
            let was = &node.placement;
            let change = Change {
                kind: was.kind.clone(),
                home: was.home,
                version: was.version,
                geometry: was.geometry,
            };
            (state.upwards(slot), key, change, node.name().to_owned())
        };
        let placements = self.rebuilt(&order, change)?;
        self.quiet(&order, &name).await?;
        let renewed = renew(key).await;
        // Even if that has failed: the file may hold the new key.
        let closed = |one: &Placement| Placement {
            closed: true,
            ..one.clone()
        };
        let placed = self.place(placements.iter().map(closed).collect()).await;
        self.set_gates(&order).await?;
        renewed.map_err(|reason| GraphError::Key { name, reason })?;
        placed
    }
}

/// On a thread of its own, for files block and reactors must not. Rare.
async fn renew(key: Arc<Key>) -> Result<(), String> {
    let (done, answer) = channel::bounded(1);
    let work = move || drop(done.try_send(key.renew().map_err(|error| error.to_string())));
    let started = std::thread::Builder::new().name("key".into()).spawn(work);
    started.map_err(|error| format!("no thread for it: {error}"))?;
    let ended = || Err("its thread has ended".into());
    answer.recv().await.unwrap_or_else(ended)
}
