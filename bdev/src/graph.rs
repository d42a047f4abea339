//! The graph of nodes: the runtime's side of the border between deciding and doing (DESIGN section 2).
//!
//! [`Graph`] is a handle for the control plane. It keeps what there is to know about nodes (names, tables, who stands on whom, claims, opens)
//! behind a mutex that no I/O ever takes, and sends every core what to build there.
//!
//! ## How a change happens under I/O
//!
//! On each core a node has a device (or the way to it, `Forward`) and a gate. Devices stand directly on devices; a gate stands only
//! on top, for those who open the node. So a stack of any depth of static tables is one table, an I/O passes one gate, and
//! a change of a node is a change of all nodes above it as well. It goes, on all cores:
//!
//! ```text
//!   1. close the gates of the node and of all above it        what comes now waits there, above everything
//!   2. drain what has passed them                             nothing below is closed: so it ends, even if it forks or holds locks
//!   3. build the node anew, then those above it, in order     what they hold (memory, injections, counters) they keep
//!   4. open the gates                                         what waited goes where they now lead
//! ```
//!
//! All gates of a step are moved before the next step begins, and no gate is ever below a device, so nothing can wait for a gate
//! while it is being waited for. If a drain takes too long (an I/O hangs in an error device) the gates are opened again
//! and nothing has changed. Growth and orphaning need no drain: old devices stay good for what is under way.
//!
//! A node keeps its block size for ever, and its length as long as somebody could notice that it shrank.
use crate::{
    Disk, Event, Geometry, GraphError, Io, IoError, IoResult, NodeInfo, NodeSpec, NodeState, Subscription, Table,
    blueprint::{Kind, Maker},
    events::Events,
    forward::{Links, Order, RING, Reply},
    iostat::{Iostat, Reset},
    local::{Local, LocalNode, Placement},
    module::{delay::Latency, error::Injection, stats},
    turnstile::Turnstile,
};
use reactor::{
    Buf, Reactors,
    channel::{Sender, bounded},
};
use spec::BlockRange;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    future::Future,
    ops::Deref,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

/// How long a change waits for I/O under way. Less than hosts wait (30 s) before they give up on us.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most the control plane reads or writes at once.
const TRANSFER_MAX: usize = 64 << 20;

/// A handle to the graph: cheap to clone, for any thread. Made from the reactors whose cores carry it; ends with its last handle.
#[derive(Clone)]
pub struct Graph(Arc<Inner>);

struct Inner {
    id: u64,
    reactors: Reactors,
    state: Mutex<State>,
    /// Changes of the graph come one at a time.
    turnstile: Turnstile,
    events: Events,
    orders: Vec<Sender<Order>>,
    replies: Vec<Sender<Reply>>,
}

#[derive(Default)]
struct State {
    nodes: Vec<Option<Node>>,
    /// Names, aliases and UUIDs.
    names: HashMap<String, u32>,
    next_id: u64,
    next_home: usize,
}

/// A node as the control plane keeps it.
struct Node {
    spec: NodeSpec,
    uuid: uuid::Uuid,
    placement: Placement,
    below: Vec<u32>,
    claim: Option<String>,
    pins: Vec<(u64, String)>,
    opens: Arc<AtomicU32>,
    suspended: bool,
    orphan: Option<String>,
    /// Removed while others stood on it: it has no name any more and goes with the last of them.
    unnamed: bool,
}

impl Node {
    fn name(&self) -> &str {
        &self.spec.name
    }
}

impl State {
    fn find(&self, name: &str) -> Result<u32, GraphError> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| GraphError::NotFound(name.into()))
    }
    fn at(&self, slot: u32) -> Option<&Node> {
        self.nodes.get(slot as usize)?.as_ref()
    }
    fn at_mut(&mut self, slot: u32) -> Option<&mut Node> {
        self.nodes.get_mut(slot as usize)?.as_mut()
    }
    fn get(&self, name: &str) -> Result<(u32, &Node), GraphError> {
        let slot = self.find(name)?;
        self.at(slot)
            .map(|node| (slot, node))
            .ok_or_else(|| GraphError::NotFound(name.into()))
    }
    fn get_mut(&mut self, name: &str) -> Result<&mut Node, GraphError> {
        let slot = self.find(name)?;
        self.at_mut(slot).ok_or_else(|| GraphError::NotFound(name.into()))
    }
    fn all(&self) -> impl Iterator<Item = (u32, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(slot, node)| Some((slot as u32, node.as_ref()?)))
    }
    fn above(&self, slot: u32) -> impl Iterator<Item = (u32, &Node)> {
        self.all().filter(move |(_, node)| node.below.contains(&slot))
    }
    fn lower(&self, name: &str) -> Result<u32, GraphError> {
        let (slot, node) = self.get(name)?;
        if let Some(reason) = &node.orphan {
            return Err(GraphError::Orphan {
                name: name.into(),
                reason: reason.clone(),
            });
        }
        Ok(slot)
    }
    fn geometry_of(&self, slot: u32) -> (Geometry, String) {
        self.at(slot).map_or((Geometry::plain(512, 0), String::new()), |node| {
            (node.placement.geometry, node.name().to_owned())
        })
    }
    /// The node and all that stand on it, each after everything it stands on.
    fn upwards(&self, slot: u32) -> Vec<u32> {
        let mut reached = BTreeSet::from([slot]);
        let mut todo = vec![slot];
        while let Some(at) = todo.pop() {
            todo.extend(
                self.above(at)
                    .map(|(slot, _)| slot)
                    .filter(|slot| reached.insert(*slot)),
            )
        }
        let mut order = Vec::with_capacity(reached.len());
        while order.len() < reached.len() {
            let ready = |slot: &u32| {
                let below = self.at(*slot).map_or(&[][..], |node| &node.below);
                !order.contains(slot) && below.iter().all(|on| !reached.contains(on) || order.contains(on))
            };
            match reached.iter().copied().find(ready) {
                Some(slot) => order.push(slot),
                // Impossible: a circle is refused before it is made.
                None => break,
            }
        }
        order
    }
    /// Suspended by itself or by something below it.
    fn closed(&self, slot: u32) -> bool {
        self.at(slot)
            .is_some_and(|node| node.suspended || node.below.iter().any(|on| self.closed(*on)))
    }
    /// Why it cannot be taken away or claimed, if it cannot.
    fn in_use(&self, slot: u32) -> Option<String> {
        let node = self.at(slot)?;
        let above: Vec<String> = self.above(slot).map(|(_, node)| format!("{:?}", node.name())).collect();
        if !above.is_empty() {
            return Some(above.join(", "));
        }
        if let Some((_, by)) = node.pins.first() {
            return Some(by.clone());
        }
        match node.opens.load(Acquire) {
            0 => None,
            1 => Some("1 open".into()),
            opens => Some(format!("{opens} opens")),
        }
    }
    fn info(&self, slot: u32) -> Option<NodeInfo> {
        let node = self.at(slot)?;
        let name = |slot: &u32| self.at(*slot).map_or_else(String::new, |node| node.name().to_owned());
        Some(NodeInfo {
            id: node.placement.id,
            name: node.spec.name.clone(),
            uuid: node.uuid,
            aliases: node.spec.aliases.clone(),
            product: node.spec.product.clone(),
            table: node.spec.table.clone(),
            geometry: node.placement.geometry,
            home: node.placement.home,
            claimed_by: node.claim.clone(),
            pinned_by: node.pins.iter().map(|(_, by)| by.clone()).collect(),
            opens: node.opens.load(Acquire),
            below: node.below.iter().map(name).collect(),
            above: self.above(slot).map(|(_, node)| node.name().to_owned()).collect(),
            state: match &node.orphan {
                Some(reason) => NodeState::Orphan { reason: reason.clone() },
                None if self.closed(slot) => NodeState::Suspended,
                None => NodeState::Active,
            },
        })
    }
    /// Which nodes below a module takes for itself, and whether it may.
    fn claim_below(&self, kind: &Kind, name: &str, under: Option<&str>) -> Result<Vec<u32>, GraphError> {
        let below: BTreeSet<u32> = kind.below().into_iter().collect();
        let mut taken = Vec::new();
        for slot in below {
            let Some(node) = self.at(slot) else { continue };
            match &node.claim {
                Some(by) if by == name || Some(by.as_str()) == under => (),
                // Segments are cut by whoever has claimed the disk: partitions.
                Some(_) if !kind.takes_whole() && under.is_none() => (),
                Some(by) => {
                    return Err(GraphError::Claimed {
                        name: node.name().into(),
                        by: by.clone(),
                    });
                }
                None if kind.takes_whole() => {
                    if let Some(by) = self
                        .in_use(slot)
                        .filter(|_| !self.above(slot).any(|(_, on)| on.name() == name))
                    {
                        return Err(GraphError::Busy {
                            name: node.name().into(),
                            by,
                        });
                    }
                    taken.push(slot)
                }
                None => (),
            }
        }
        Ok(taken)
    }
}

impl Graph {
    /// An empty graph on these reactors. Blocks until every core has its part of it, so not to be called on a reactor.
    pub fn new(reactors: Reactors) -> Graph {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let (orders, order_ends): (Vec<_>, Vec<_>) = (0..reactors.count()).map(|_| bounded(RING)).unzip();
        let (replies, reply_ends): (Vec<_>, Vec<_>) = (0..reactors.count()).map(|_| bounded(RING)).unzip();
        let started: Vec<_> = order_ends
            .into_iter()
            .zip(reply_ends)
            .enumerate()
            .map(|(core, (order_end, reply_end))| {
                let (orders, replies) = (orders.clone(), replies.clone());
                reactors.call(core, move || async move {
                    Local::start(id, Links::new(core, orders, replies), order_end, reply_end)
                })
            })
            .collect();
        // A reactor that has ended already will say so at the first use.
        for call in started {
            let _ = call.wait_checked();
        }
        Graph(Arc::new(Inner {
            id,
            reactors,
            state: Mutex::default(),
            turnstile: Turnstile::default(),
            events: Events::default(),
            orders,
            replies,
        }))
    }

    /// The reactors it was made from.
    pub fn reactors(&self) -> &Reactors {
        &self.0.reactors
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lower(&self, name: &str) -> Result<u32, GraphError> {
        self.state().lower(name)
    }

    /// Does the same on every core, and waits until all have done it.
    async fn on_all<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        what: impl Fn(Rc<Local>) -> F + Clone + Send + 'static,
    ) -> Result<Vec<T>, GraphError> {
        let calls: Vec<_> = (0..self.0.reactors.count())
            .map(|core| self.on_core(core, what.clone()))
            .collect();
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            answers.push(call.await)
        }
        answers.into_iter().collect()
    }

    /// Starts something on one core at once; the answer is awaited.
    fn on_core<T: Send + 'static, F: Future<Output = T> + 'static, W: FnOnce(Rc<Local>) -> F + Send + 'static>(
        &self,
        core: usize,
        what: W,
    ) -> impl Future<Output = Result<T, GraphError>> + Send + use<T, F, W> {
        let id = self.0.id;
        let call = self.0.reactors.call(core, move || async move {
            match Local::of(id) {
                Some(local) => Some(what(local).await),
                None => None,
            }
        });
        async move { call.checked().await.ok().flatten().ok_or(GraphError::Stopped) }
    }

    // ---- building and changing ----

    /// Builds a node. Modules that stand on the whole of a disk (all but linear) claim it by their own name.
    pub async fn build(&self, spec: NodeSpec) -> Result<NodeInfo, GraphError> {
        self.build_with(spec, None, None, None).await
    }

    /// Builds a node on disks which the caller has claimed as `claimed_by`.
    pub async fn build_under(&self, claimed_by: &str, spec: NodeSpec) -> Result<NodeInfo, GraphError> {
        self.build_with(spec, Some(claimed_by), None, None).await
    }

    /// Builds a node from a device of the caller's: `spec.table` is a [`Table::Custom`], `make` makes the device from the disks
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

    async fn build_with(
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
            None => Kind::new(&name, &spec.table, |on| self.lower(on))?,
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
                below,
                claim: None,
                pins: Vec::new(),
                opens: Arc::default(),
                suspended: false,
                orphan: None,
                unnamed: false,
            });
            state.info(slot)
        };
        self.0.events.tell(Event::Added { name: name.clone() });
        info.ok_or(GraphError::NotFound(name))
    }

    fn free_names(&self, names: &[String]) -> Result<(), GraphError> {
        let state = self.state();
        match names.iter().find(|name| state.names.contains_key(*name)) {
            Some(taken) => Err(GraphError::Exists(taken.clone())),
            None => Ok(()),
        }
    }

    fn release(&self, slots: &[u32], by: &str) {
        let mut state = self.state();
        for slot in slots {
            if let Some(node) = state.at_mut(*slot).filter(|node| node.claim.as_deref() == Some(by)) {
                node.claim = None
            }
        }
    }

    /// Builds (anew) on all cores, in this order. The first thing that went wrong is the answer; all were tried.
    async fn place(&self, what: Vec<Placement>) -> Result<(), GraphError> {
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
    async fn quiet(&self, slots: &[u32], name: &str) -> Result<(), GraphError> {
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

    fn ids(&self, slots: &[u32]) -> Vec<(u32, u64)> {
        let state = self.state();
        slots
            .iter()
            .filter_map(|slot| Some((*slot, state.at(*slot)?.placement.id)))
            .collect()
    }

    /// Opens or closes gates on all cores, as the state says.
    async fn set_gates(&self, slots: &[u32]) -> Result<(), GraphError> {
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
    fn rebuilt(&self, order: &[u32], first: Change) -> Result<Vec<Placement>, GraphError> {
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
    fn note(&self, placed: Vec<Placement>) {
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
        let kind = Kind::new(&full_name, &table, |on| self.lower(on))?;
        if kind.below().iter().any(|on| order.contains(on)) {
            return Err(invalid("it would stand on itself".into()));
        }
        let (change, below, taken, old_below) = {
            let mut state = self.state();
            let taken = state.claim_below(&kind, &full_name, None)?;
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
            if let Some(node) = state.at_mut(slot) {
                node.spec.table = table;
                node.below = below;
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
    fn restore(&self, state: &mut State, order: &[u32]) -> Vec<String> {
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
        if quiet.is_err() {
            if let Ok(node) = self.state().get_mut(name) {
                node.suspended = was
            }
            self.set_gates(&order).await?
        } else {
            self.set_gates(&order).await?
        }
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

    fn unname(&self, slot: u32) {
        let mut state = self.state();
        state.names.retain(|_, at| *at != slot);
        if let Some(node) = state.at_mut(slot) {
            node.unnamed = true
        }
    }

    /// Forgets nodes without a name that nobody stands on any more, on all cores.
    async fn sweep(&self) {
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
                let below = state.nodes[slot as usize]
                    .take()
                    .map(|node| node.below)
                    .unwrap_or_default();
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
        let told = {
            let mut state = self.state();
            let mut told = Vec::new();
            for (at, slot) in order.iter().enumerate() {
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
                    kind: other.kind(),
                    what,
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

    async fn set_blocks(&self, name: &str, blocks: u64) -> Result<(), GraphError> {
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

    // ---- looking ----

    /// A node by name, alias or UUID.
    pub fn info(&self, name: &str) -> Option<NodeInfo> {
        let state = self.state();
        state.info(state.find(name).ok()?)
    }

    /// All nodes, in the order in which they were built.
    pub fn list(&self) -> Vec<NodeInfo> {
        let state = self.state();
        let named = state.all().filter(|(_, node)| !node.unnamed);
        let mut all: Vec<NodeInfo> = named.filter_map(|(slot, _)| state.info(slot)).collect();
        all.sort_by_key(|node| node.id);
        all
    }

    /// What happens from now on.
    pub fn events(&self) -> Subscription {
        self.0.events.subscribe()
    }

    // ---- rights ----

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

    // ---- using ----

    /// Opens a node on this core, to send I/O to it. On reactors of this graph only. Refused if the node is gone, or claimed by
    /// somebody.
    pub async fn open(&self, name: &str) -> Result<Opened, GraphError> {
        self.open_as(name, None)
    }

    /// [`open`](Self::open), for who has claimed the node as `by`, and without waiting for anything.
    pub fn open_as(&self, name: &str, by: Option<&str>) -> Result<Opened, GraphError> {
        let local = Local::of(self.0.id).ok_or(GraphError::NotHere)?;
        let (slot, id, opens) = {
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
            (slot, node.placement.id, node.opens.clone())
        };
        match local.node(slot, id) {
            Some(node) => Ok(Opened(Rc::new(Open {
                disk: node.top.clone(),
                node,
                opens,
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

    fn whereabouts(&self, name: &str) -> Result<(u32, u64, usize), GraphError> {
        let state = self.state();
        let (slot, node) = state.get(name)?;
        Ok((
            slot,
            node.placement.id,
            node.placement.home.unwrap_or(slot as usize % self.0.reactors.count()),
        ))
    }

    /// Sends one I/O of the control plane, made on the core that carries it out.
    async fn perform<T: Send + 'static>(
        &self,
        name: &str,
        make: impl FnOnce(&Disk) -> Result<(Io, Box<dyn FnOnce() -> T>), IoError> + Send + 'static,
    ) -> Result<T, GraphError> {
        let (slot, id, core) = self.whereabouts(name)?;
        let done = self.on_core(core, move |local| async move {
            let node = local.node(slot, id).ok_or(IoError::Gone)?;
            let (io, then) = make(&node.top)?;
            node.top.perform(io).await.map(|()| then())
        });
        done.await?.map_err(|error| GraphError::Io {
            name: name.into(),
            error,
        })
    }

    /// Reads for the control plane: metadata, at most 64 MiB at once. Goes through the node's gate, whoever has claimed it.
    pub async fn read(&self, name: &str, range: BlockRange) -> Result<Vec<u8>, GraphError> {
        let make = move |disk: &Disk| {
            let len = transfer(disk, range)?;
            let data = Buf::try_alloc(len).ok_or(IoError::NoSpace)?;
            let io = Io::read(range, data.clone());
            Ok((io, Box::new(move || data.to_vec()) as Box<dyn FnOnce() -> Vec<u8>>))
        };
        self.perform(name, make).await
    }

    /// Writes for the control plane, from block `start` on; as long as `bytes`, whole blocks, at most 64 MiB. With `durable` it is on the
    /// medium when this returns. The caller has claimed the node, or knows that nobody has.
    pub async fn write(&self, name: &str, start: u64, bytes: Vec<u8>, durable: bool) -> Result<(), GraphError> {
        let make = move |disk: &Disk| {
            let blocks = bytes.len() / disk.block_size() as usize;
            let count = u32::try_from(blocks).map_err(|_| IoError::OutOfRange)?;
            let range = BlockRange::new(start, count);
            if transfer(disk, range)? != bytes.len() {
                return Err(IoError::Misaligned);
            }
            let data = Buf::try_alloc(bytes.len()).ok_or(IoError::NoSpace)?;
            data.write_at(0, &bytes);
            let io = Io::write(range, data);
            Ok((
                if durable { io.fua() } else { io },
                Box::new(|| ()) as Box<dyn FnOnce()>,
            ))
        };
        self.perform(name, make).await
    }

    /// Makes durable what was written to a node.
    pub async fn flush(&self, name: &str) -> Result<(), GraphError> {
        self.perform(name, |_| Ok((Io::flush(), Box::new(|| ()) as Box<dyn FnOnce()>)))
            .await
    }

    // ---- figures ----

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

    fn wanted(&self, name: Option<&str>) -> Result<Vec<(String, u32, u64)>, GraphError> {
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

    // ---- what single modules can do ----

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
                kind: table.kind(),
                what: "be delayed",
            }),
        }
    }

    async fn with_errors<T: Send + 'static>(
        &self,
        name: &str,
        what: impl FnOnce(&crate::module::error::Errors) -> T + Send + 'static,
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
            kind,
            what: "inject errors",
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
            kind,
            what: "count: put a stats node above it",
        })
    }
}

/// How the first node of a change is to be.
struct Change {
    kind: Arc<Kind>,
    home: Option<usize>,
    version: u64,
    geometry: Geometry,
}

fn once_each(mut slots: Vec<u32>) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    slots.retain(|slot| seen.insert(*slot));
    slots
}

/// The bytes of a transfer of the control plane, if it is one.
fn transfer(disk: &Disk, range: BlockRange) -> Result<usize, IoError> {
    let bytes = u64::from(range.count) * u64::from(disk.block_size());
    let len = usize::try_from(bytes).ok().filter(|len| *len <= TRANSFER_MAX);
    match range.fits(disk.blocks()) {
        true => len.ok_or(IoError::OutOfRange),
        false => Err(IoError::OutOfRange),
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph({} nodes)", self.state().all().count())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody has anything open, so nothing is under way and the rings have room.
        self.orders.iter().for_each(|core| drop(core.try_send(Order::End)));
        self.replies.iter().for_each(|core| drop(core.try_send(Reply::End)))
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

/// A node opened on this core: a [`Disk`] through the node's gate, that counts as an open until the last clone is dropped.
#[derive(Clone)]
pub struct Opened(Rc<Open>);

struct Open {
    disk: Disk,
    node: Rc<LocalNode>,
    opens: Arc<AtomicU32>,
    graph: Graph,
    slot: u32,
    id: u64,
}

impl Opened {
    /// The node as it is now, unless it was removed. Looks at the control plane's state: not for every I/O.
    pub fn info(&self) -> Option<NodeInfo> {
        let state = self.0.graph.state();
        state.info(self.0.slot).filter(|info| info.id == self.0.id)
    }

    /// What a command slot calls: [`Disk::perform`], counted in the node's statistics.
    pub async fn perform(&self, io: Io) -> IoResult {
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
