//! What was counted.
use super::{Graph, state::Node};
use crate::{
    GraphError,
    iostat::{Iostat, Reset},
    module::stats,
};
use std::sync::Arc;

impl Graph {
    /// The I/O statistics of one node or all, over all cores, by name.
    pub async fn iostat(&self, name: Option<&str>) -> Result<Vec<(String, Iostat)>, GraphError> {
        let mut all = Vec::new();
        for (name, cores) in self.iostat_per_core(name).await? {
            let mut sum = Iostat::default();
            cores.iter().for_each(|core| sum.merge(core));
            all.push((name, sum.shown()))
        }
        Ok(all)
    }

    /// The same for each core apart.
    pub async fn iostat_per_core(&self, name: Option<&str>) -> Result<Vec<(String, Vec<Iostat>)>, GraphError> {
        let wanted = self.wanted(name)?;
        let places: Arc<Vec<(u32, u64)>> = Arc::new(wanted.iter().map(|(_, slot, id)| (*slot, *id)).collect());
        let figures = self.on_all(move |local| {
            let figure = |(slot, id): &(u32, u64)| {
                local
                    .node(*slot, *id)
                    .map(|node| node.iostat.read())
                    .unwrap_or_default()
            };
            let all: Vec<Iostat> = places.iter().map(figure).collect();
            async { all }
        });
        let cores = figures.await?;
        let of = |at: usize| cores.iter().map(|core| core[at].clone()).collect();
        Ok(wanted
            .into_iter()
            .enumerate()
            .map(|(at, (name, ..))| (name, of(at)))
            .collect())
    }

    /// Starts the I/O statistics of one node or all anew, in part or whole.
    pub async fn reset_iostat(&self, name: Option<&str>, what: Reset) -> Result<(), GraphError> {
        let wanted = Arc::new(self.wanted(name)?);
        self.on_all(move |local| {
            let nodes = wanted.iter().filter_map(|(_, slot, id)| local.node(*slot, *id));
            nodes.for_each(|node| node.iostat.reset(what));
            async {}
        })
        .await
        .map(drop)
    }

    pub(super) fn wanted(&self, name: Option<&str>) -> Result<Vec<(String, u32, u64)>, GraphError> {
        let state = self.state();
        let one = |(slot, node): (u32, &Node)| (node.name().to_owned(), slot, node.placement.id);
        match name {
            Some(name) => Ok(vec![one(state.get(name)?)]),
            None => {
                let mut all: Vec<_> = state.all().filter(|(_, node)| !node.unnamed).map(one).collect();
                all.sort_by_key(|(_, _, id)| *id);
                Ok(all)
            }
        }
    }

    /// What a stats node has counted, over all cores; starts anew if `reset`.
    pub async fn stats(&self, name: &str, reset: bool) -> Result<stats::Report, GraphError> {
        let (slot, id, _) = self.whereabouts(name)?;
        let reports = self.on_all(move |local| {
            let report = local.node(slot, id).and_then(|node| node.counters()).map(|counters| {
                let report = counters.report();
                if reset {
                    counters.reset()
                }
                report
            });
            async { report }
        });
        let mut sum: Option<stats::Report> = None;
        for report in reports.await?.into_iter().flatten() {
            sum.get_or_insert_default().merge(&report)
        }
        let kind = self.info(name).map_or("node", |node| node.table.kind());
        sum.ok_or(GraphError::Unsupported {
            name: name.into(),
            kind: kind.into(),
            what: "count: put a stats node above it".into(),
        })
    }
}
