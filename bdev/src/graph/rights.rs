//! Who may do what with a node: claims, pins, opens.
use super::{Graph, exclusive::Shared};
use crate::{
    Disk, GraphError, Io, IoResult, NodeInfo,
    local::{Local, LocalNode},
};
use std::{
    fmt,
    ops::Deref,
    rc::Rc,
    sync::{
        Arc,
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, Release},
        },
    },
};

impl Graph {
    /// The exclusive right to write to a node, until the answer is dropped. Refused while anybody has it open, pinned or claimed,
    /// or a module stands on it.
    pub fn claim(&self, name: &str, by: &str) -> Result<Claim, GraphError> {
        let mut state = self.state();
        let (slot, node) = state.get(name)?;
        if let Some(by) = node.claim.clone() {
            return Err(GraphError::Claimed { name: name.into(), by });
        }
        if let Some(by) = state.in_use(slot) {
            return Err(GraphError::Busy { name: name.into(), by });
        }
        let id = node.placement.id;
        if let Some(node) = state.at_mut(slot) {
            node.claim = Some(by.to_owned())
        }
        Ok(Claim {
            graph: self.clone(),
            slot,
            id,
            by: by.to_owned(),
        })
    }

    /// Keeps a node from being removed or claimed until the answer is dropped: what a target does for as long as it offers the node,
    /// whether or not a host is connected. Any number may; refused if the node is claimed.
    pub fn pin(&self, name: &str, by: &str) -> Result<Pin, GraphError> {
        let mut state = self.state();
        state.next_id += 1;
        let pin = state.next_id;
        let slot = state.find(name)?;
        let node = state.get_mut(name)?;
        if let Some(by) = node.claim.clone() {
            return Err(GraphError::Claimed { name: name.into(), by });
        }
        node.pins.push((pin, by.to_owned()));
        let id = node.placement.id;
        Ok(Pin {
            graph: self.clone(),
            slot,
            id,
            pin,
        })
    }

    /// Opens a node on this core, to send I/O to it. On reactors of this graph only. Refused if the node is gone, or claimed by
    /// somebody.
    pub async fn open(&self, name: &str) -> Result<Opened, GraphError> {
        self.open_as(name, None)
    }

    /// [`open`](Self::open), for who has claimed the node as `by`, and without waiting for anything.
    pub fn open_as(&self, name: &str, by: Option<&str>) -> Result<Opened, GraphError> {
        let local = Local::of(self.0.id).ok_or(GraphError::NotHere)?;
        let (slot, id, opens, ranges) = {
            let state = self.state();
            let (slot, node) = state.get(name)?;
            if let Some(reason) = &node.orphan {
                return Err(GraphError::Orphan {
                    name: name.into(),
                    reason: reason.clone(),
                });
            }
            match &node.claim {
                Some(claim) if by != Some(claim) => {
                    return Err(GraphError::Claimed {
                        name: name.into(),
                        by: claim.clone(),
                    });
                }
                _ => (),
            }
            // Under the lock, so that whoever takes the node away sees it.
            node.opens.fetch_add(1, Relaxed);
            (slot, node.placement.id, node.opens.clone(), node.ranges.clone())
        };
        match local.node(slot, id) {
            Some(node) => Ok(Opened(Rc::new(Open {
                disk: node.top.clone(),
                node,
                opens,
                ranges,
                graph: self.clone(),
                slot,
                id,
            }))),
            None => {
                opens.fetch_sub(1, Release);
                Err(GraphError::NotFound(name.into()))
            }
        }
    }
}

/// The exclusive right to write to a node, until dropped.
#[must_use = "dropping a claim gives it back"]
pub struct Claim {
    graph: Graph,
    slot: u32,
    id: u64,
    by: String,
}

impl Claim {
    /// The node, as it is called now.
    pub fn node(&self) -> Option<NodeInfo> {
        let state = self.graph.state();
        state.info(self.slot).filter(|info| info.id == self.id)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim(by {:?})", self.by)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.graph.state();
        if let Some(node) = state.at_mut(self.slot).filter(|node| node.placement.id == self.id) {
            node.claim = None
        }
    }
}

/// Keeps a node from being removed or claimed, until dropped.
#[must_use = "dropping a pin gives it back"]
pub struct Pin {
    graph: Graph,
    slot: u32,
    id: u64,
    pin: u64,
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({})", self.pin)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.graph.state();
        if let Some(node) = state.at_mut(self.slot).filter(|node| node.placement.id == self.id) {
            node.pins.retain(|(pin, _)| *pin != self.pin)
        }
    }
}

impl Opened {
    /// The node as it is now, unless it was removed. Looks at the control plane's state: not for every I/O.
    pub fn info(&self) -> Option<NodeInfo> {
        let state = self.0.graph.state();
        state.info(self.0.slot).filter(|info| info.id == self.0.id)
    }

    /// What a command slot calls: [`Disk::perform`], counted in the node's statistics. Waits while somebody else has the range
    /// [to himself](Self::exclusive).
    pub async fn perform(&self, io: Io) -> IoResult {
        let _place = match self.0.ranges.is_guarded() && io.range.count > 0 {
            // In a box: rare, and a slot's frame is no larger for it.
            true => {
                let start = io.range.start.0;
                Box::pin(self.shared(start..start.saturating_add(io.range.count.into()))).await
            }
            false => None,
        };
        self.counted(io).await
    }

    pub(super) async fn counted(&self, io: Io) -> IoResult {
        let (op, bytes) = (
            io.op,
            u64::from(io.range.count) << self.0.disk.block_size().trailing_zeros(),
        );
        let (iostat, start) = (&self.0.node.iostat, reactor::now());
        iostat.begin();
        let done = self.0.disk.perform(io).await;
        // Saturates after 584 years.
        let ticks = u64::try_from(reactor::now().since(start).as_nanos()).unwrap_or(u64::MAX);
        iostat.end(op, bytes, ticks, done);
        done
    }

    pub(super) fn ranges(&self) -> &Shared {
        &self.0.ranges
    }

    pub(super) fn node(&self) -> (&Graph, u32, u64) {
        (&self.0.graph, self.0.slot, self.0.id)
    }
}

impl Deref for Opened {
    type Target = Disk;
    fn deref(&self) -> &Disk {
        &self.0.disk
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({:?})", self.0.disk)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.opens.fetch_sub(1, Release);
    }
}

/// A node opened on this core: a [`Disk`] through the node's gate, that counts as an open until the last clone is dropped.
#[derive(Clone)]
pub struct Opened(Rc<Open>);

struct Open {
    disk: Disk,
    node: Rc<LocalNode>,
    opens: Arc<AtomicU32>,
    ranges: Shared,
    graph: Graph,
    slot: u32,
    id: u64,
}
