//! A range of an open disk to oneself, against everybody on every core who has the same node open.
use super::{Graph, rights::Opened};
use crate::{
    Io, IoResult,
    ranges::{Place, Ranges},
};
use std::{ops::Range, sync::Arc};

/// Blocks nobody else reads or writes until this is dropped.
#[must_use = "dropping it lets the others in"]
pub struct Exclusive {
    disk: Opened,
    _place: Place,
}

impl Exclusive {
    /// What [`Opened::perform`] is for the others, who wait meanwhile. Inside the range.
    pub async fn perform(&self, io: Io) -> IoResult {
        self.disk.counted(io).await
    }
}

impl Opened {
    /// Waits until these blocks are under nobody's I/O, and keeps them so. I/O that others [perform](Opened::perform) on the node there
    /// waits; what goes to the devices below in other ways (a module that stands on the node, [`Disk::submit`](crate::Disk::submit))
    /// is not held up. Do not perform ordinary I/O on the range while holding it. Cancelling gives the place up.
    pub async fn exclusive(&self, blocks: Range<u64>) -> Exclusive {
        let (place, settled) = self.ranges().claim(blocks, nanos());
        if !settled {
            self.drain_everywhere().await;
            self.ranges().settle();
        }
        place.turn().await;
        Exclusive {
            disk: self.clone(),
            _place: place,
        }
    }

    /// A place for ordinary I/O, when its turn has come; none if it needs none.
    #[cold]
    pub(super) async fn shared(&self, blocks: Range<u64>) -> Option<Place> {
        let place = self.ranges().share(blocks, nanos())?;
        place.turn().await;
        Some(place)
    }

    /// Waits on every core for what is under way on the node there.
    async fn drain_everywhere(&self) {
        let (graph, slot, id): (&Graph, u32, u64) = self.node();
        let drained = graph.on_all(move |local| async move {
            if let Some(node) = local.node(slot, id) {
                node.top.drain().await
            }
        });
        // A core that has stopped has nothing under way.
        let _ = drained.await;
    }
}

/// The table of a node.
pub(super) type Shared = Arc<Ranges>;

fn nanos() -> u64 {
    reactor::now().0
}
