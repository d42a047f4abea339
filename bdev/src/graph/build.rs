//! Building nodes.
use super::{
    Graph,
    state::{Node, once_each},
};
use crate::{
    Disk, Event, Geometry, GraphError, NodeInfo, NodeSpec,
    blueprint::{Kind, Maker},
    local::Placement,
};
use std::{collections::BTreeSet, sync::Arc};

impl Graph {
    /// Builds a node. Modules that stand on the whole of a disk (all but linear) claim it by their own name.
    pub async fn build(&self, spec: NodeSpec) -> Result<NodeInfo, GraphError> {
        self.build_with(spec, None, None, None).await
    }

    /// Builds a node on disks which the caller has claimed as `claimed_by`.
    pub async fn build_under(&self, claimed_by: &str, spec: NodeSpec) -> Result<NodeInfo, GraphError> {
        self.build_with(spec, Some(claimed_by), None, None).await
    }

    /// Builds a node from a device of the caller's: `spec.table` is a [`Table::Custom`](crate::Table::Custom), `make` makes the device from the disks
    /// it names, on core `home` or, without a home, on every core. The geometry is what `make` will make.
    pub async fn build_custom(
        &self,
        spec: NodeSpec,
        geometry: Geometry,
        home: Option<usize>,
        make: impl Fn(&[Disk]) -> Result<Disk, String> + Send + Sync + 'static,
    ) -> Result<NodeInfo, GraphError> {
        self.build_with(spec, None, Some((Arc::new(make), geometry)), home)
            .await
    }

    pub(super) async fn build_with(
        &self,
        mut spec: NodeSpec,
        under: Option<&str>,
        custom: Option<(Maker, Geometry)>,
        home: Option<usize>,
    ) -> Result<NodeInfo, GraphError> {
        let _turn = self.0.turnstile.enter().await;
        if spec.product.is_empty() {
            spec.product = spec.table.product().to_owned()
        }
        let name = spec.name.clone();
        let uuid = spec.uuid.unwrap_or_else(|| NodeSpec::uuid_of(&name));
        let names: Vec<String> = [name.clone(), uuid.to_string()]
            .into_iter()
            .chain(spec.aliases.clone())
            .collect();
        let invalid = |reason: String| GraphError::Invalid {
            name: name.clone(),
            reason,
        };
        if name.is_empty() || names.iter().any(|name| name.len() > 255) {
            return Err(invalid("a name has from 1 to 255 bytes".into()));
        }
        self.free_names(&names)?;
        // Opening a file may take its time, so the state is not locked for it.
        let kind = match custom {
            None => Kind::new(&name, &spec.table, &self.0.keys, |on| self.lower(on))?,
            Some((make, geometry)) => {
                let on = spec
                    .table
                    .below()
                    .into_iter()
                    .map(|on| self.lower(on))
                    .collect::<Result<_, _>>()?;
                Kind::Custom { on, make, geometry }
            }
        };
        let (placement, below, taken) = {
            let mut state = self.state();
            let taken = state.claim_below(&kind, &name, under)?;
            let geometry = kind
                .geometry(&spec.table, |slot| state.geometry_of(slot))
                .map_err(invalid)?;
            let below = once_each(kind.below());
            let lower_home = below.iter().find_map(|slot| state.at(*slot)?.placement.home);
            let home = match home {
                Some(home) => Some(home % self.0.reactors.count()),
                None if !kind.has_home() => None,
                None => Some(lower_home.unwrap_or_else(|| {
                    state.next_home += 1;
                    (state.next_home - 1) % self.0.reactors.count()
                })),
            };
            let slot = match state.nodes.iter().position(Option::is_none) {
                Some(free) => free as u32,
                None => {
                    state.nodes.push(None);
                    // Far fewer than 2^32: each takes memory on every core.
                    (state.nodes.len() - 1) as u32
                }
            };
            state.next_id += 1;
            let closed = below.iter().any(|on| state.closed(*on));
            let id = state.next_id;
            for slot in &taken {
                if let Some(node) = state.at_mut(*slot) {
                    node.claim = Some(name.clone())
                }
            }
            (
                Placement {
                    slot,
                    id,
                    version: id,
                    kind: Arc::new(kind),
                    home,
                    geometry,
                    closed,
                },
                below,
                taken,
            )
        };
        let placed = self.place(vec![placement.clone()]).await;
        if let Err(error) = placed {
            let (slot, id) = (placement.slot, placement.id);
            let _ = self.on_all(move |local| async move { local.remove(slot, id) }).await;
            self.release(&taken, &name);
            return Err(error);
        }
        let info = {
            let mut state = self.state();
            let slot = placement.slot;
            state.names.extend(names.into_iter().map(|name| (name, slot)));
            state.nodes[slot as usize] = Some(Node {
                spec,
                uuid,
                placement,
                below: Vec::new(),
                above: BTreeSet::new(),
                claim: None,
                pins: Vec::new(),
                opens: Arc::default(),
                ranges: Arc::default(),
                suspended: false,
                orphan: None,
                unnamed: false,
                under: under.map(Arc::from),
            });
            state.stand(slot, below);
            state.info(slot)
        };
        self.0.events.tell(Event::Added { name: name.clone() });
        info.ok_or(GraphError::NotFound(name))
    }

    pub(super) fn free_names(&self, names: &[String]) -> Result<(), GraphError> {
        let state = self.state();
        match names.iter().find(|name| state.names.contains_key(*name)) {
            Some(taken) => Err(GraphError::Exists(taken.clone())),
            None => Ok(()),
        }
    }
}
