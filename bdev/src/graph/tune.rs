//! What single modules can do while they run: delays, injected errors.
use super::Graph;
use crate::{
    GraphError, Table,
    blueprint::Kind,
    module::{
        delay::Latency,
        error::{Errors, Injection},
    },
};
use std::time::Duration;

impl Graph {
    /// Changes one latency of a delay node, from the next answer on.
    pub fn set_latency(&self, name: &str, which: Latency, to: Duration) -> Result<(), GraphError> {
        let mut state = self.state();
        let node = state.get_mut(name)?;
        let (kind, us) = (
            node.placement.kind.clone(),
            u64::try_from(to.as_micros()).unwrap_or(u64::MAX),
        );
        match (&*kind, &mut node.spec.table) {
            (
                Kind::Delay { latencies, .. },
                Table::Delay {
                    avg_read_us,
                    p99_read_us,
                    avg_write_us,
                    p99_write_us,
                    ..
                },
            ) => {
                latencies.set(which, to);
                *match which {
                    Latency::AvgRead => avg_read_us,
                    Latency::P99Read => p99_read_us,
                    Latency::AvgWrite => avg_write_us,
                    Latency::P99Write => p99_write_us,
                } = us;
                Ok(())
            }
            (_, table) => Err(GraphError::Unsupported {
                name: name.into(),
                kind: table.kind().into(),
                what: "be delayed".into(),
            }),
        }
    }

    pub(super) async fn with_errors<T: Send + 'static>(
        &self,
        name: &str,
        what: impl FnOnce(&Errors) -> T + Send + 'static,
    ) -> Result<T, GraphError> {
        let (slot, id, core) = self.whereabouts(name)?;
        let done = self.on_core(core, move |local| async move {
            local
                .node(slot, id)
                .and_then(|node| node.errors())
                .map(|errors| what(&errors))
        });
        let kind = self.info(name).map_or("node", |node| node.table.kind());
        done.await?.ok_or(GraphError::Unsupported {
            name: name.into(),
            kind: kind.into(),
            what: "inject errors".into(),
        })
    }

    /// Adds an injection to an error node.
    pub async fn inject(&self, name: &str, injection: Injection) -> Result<(), GraphError> {
        self.with_errors(name, |errors| errors.inject(injection)).await
    }

    /// Forgets the injections of an error node.
    pub async fn clear_injections(&self, name: &str) -> Result<(), GraphError> {
        self.with_errors(name, |errors| errors.clear()).await
    }

    /// Lets go of what hangs in an error node.
    pub async fn release_pending(&self, name: &str) -> Result<(), GraphError> {
        self.with_errors(name, |errors| errors.release()).await
    }

    /// The injections of an error node that are not over, and how many I/Os hang there.
    pub async fn injections(&self, name: &str) -> Result<(Vec<Injection>, usize), GraphError> {
        self.with_errors(name, |errors| (errors.injections(), errors.hanging()))
            .await
    }
}
