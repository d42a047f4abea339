//! What one core holds of a graph: for every node a device (or the way to it) and a gate.
//!
//! A node's device is built on the *devices* of the nodes below, never on their gates. So static tables collapse into one however
//! deep they are nested, and an I/O passes exactly one gate: that of the node which was opened. The price is paid by whoever
//! changes a node: all nodes above it are built anew ([`graph`](crate::graph) does that).
use crate::{
    Disk, Event, Geometry, Io, IoError,
    blueprint::{Kept, Kind},
    events::Events,
    forward::{Forward, Links, Order, Reply},
    gate::Gate,
    iostat,
    leaf::gone::Gone,
    module::{error::Errors, raid::Array, stats},
};
use reactor::{IoFuture, channel::Receiver};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Weak},
};

thread_local! { static LOCALS: RefCell<Vec<Rc<Local>>> = const { RefCell::new(Vec::new()) } }

/// What to build where. The same for every core.
#[derive(Clone)]
pub(crate) struct Placement {
    pub slot: u32,
    pub id: u64,
    /// Changes when the node gets another table, and then its device keeps nothing.
    pub version: u64,
    pub kind: Arc<Kind>,
    pub home: Option<usize>,
    pub geometry: Geometry,
    pub closed: bool,
}

/// One core's part of one graph.
pub(crate) struct Local {
    graph: u64,
    links: Rc<Links>,
    nodes: RefCell<Vec<Option<Rc<LocalNode>>>>,
    events: Weak<Events>,
}

/// One node on one core.
pub(crate) struct LocalNode {
    id: u64,
    version: Cell<u64>,
    gate: Gate,
    /// What users hold: through the gate.
    pub top: Disk,
    pub iostat: iostat::Counters,
    kept: RefCell<Kept>,
}

impl Local {
    /// Starts the core's part of a graph.
    pub fn start(graph: u64, links: Links, orders: Receiver<Order>, replies: Receiver<Reply>, events: Weak<Events>) {
        let links = Rc::new(links);
        let local = Rc::new(Self {
            graph,
            links: links.clone(),
            nodes: RefCell::default(),
            events,
        });
        reactor::spawn_background(links.clone().clerk(replies));
        // Weak, so that the end of the graph is the end of its devices, whatever the service still waits for.
        let weak = Rc::downgrade(&local);
        let submit = move |slot, id, io: Io| match weak.upgrade().and_then(|local| local.node(slot, id)) {
            Some(node) => node.gate.behind().submit(io),
            None => IoFuture::ready(Err(IoError::Gone)),
        };
        reactor::spawn_background(async move {
            links.service(orders, submit).await;
            Local::end(graph)
        });
        LOCALS.with_borrow_mut(|all| all.push(local))
    }

    /// Ends it. Disks that are still open stay good for what is under way.
    fn end(graph: u64) {
        let ended = LOCALS.with_borrow_mut(|all| {
            let at = all.iter().position(|local| local.graph == graph)?;
            Some(all.swap_remove(at))
        });
        // Outside the borrow: devices may look for their graph when dropped.
        drop(ended)
    }

    /// This core's part of a graph.
    pub fn of(graph: u64) -> Option<Rc<Local>> {
        LOCALS.with_borrow(|all| all.iter().find(|local| local.graph == graph).cloned())
    }

    /// A node, if it is (still) the one meant.
    pub fn node(&self, slot: u32, id: u64) -> Option<Rc<LocalNode>> {
        self.nodes
            .borrow()
            .get(slot as usize)?
            .as_ref()
            .filter(|node| node.id == id)
            .cloned()
    }

    fn device_at(&self, slot: u32) -> Option<Disk> {
        Some(self.nodes.borrow().get(slot as usize)?.as_ref()?.gate.behind())
    }

    /// Builds a node, or builds it anew in its place; says in words what went wrong, and then nothing passes but errors.
    pub fn place(&self, what: &Placement) -> Result<(), String> {
        let known = self.node(what.slot, what.id);
        let old = known.as_ref().map(|node| node.kept.borrow().clone());
        let before = match &old {
            Some(Kept::Array(array)) => Some(array.clone()),
            _ => None,
        };
        let mut kept = match (&known, old) {
            (Some(node), Some(old)) if node.version.get() == what.version => old,
            // An array goes on with other members; it is the same array.
            (Some(_), Some(Kept::Array(array))) if what.kind.goes_on(&array) => Kept::Array(array),
            (Some(_), Some(Kept::Array(array))) if what.kind.is_array() && array.is_touched() => {
                return Err("it was written to as another array, which knows nothing of what these members say".into());
            }
            _ => Kept::Nothing,
        };
        let nothing = || Disk::new(Gone::new(Geometry::plain(what.geometry.block_size, 0)));
        let elsewhere = what.home.filter(|home| *home != self.links.core);
        let built = match elsewhere {
            Some(home) => {
                let forward = Forward::new(self.links.clone(), home, what.slot, what.id, what.geometry);
                Ok(Disk::new(forward))
            }
            None => what.kind.device(what.geometry, &mut kept, |slot| {
                self.device_at(slot).unwrap_or_else(nothing)
            }),
        };
        if let (Kept::Array(array), Some(before)) = (&kept, &before) {
            array.keep_pace_of(before)
        }
        if let (Kept::Array(array), Some(name)) = (&kept, what.kind.name()) {
            let (events, name) = (self.events.clone(), name.to_owned());
            array.on_change(move |whole| {
                if let Some(events) = events.upgrade() {
                    let name = name.clone();
                    events.tell(Event::Rearranged { name, whole })
                }
            })
        }
        let device = built
            .as_ref()
            .map_or_else(|_| Disk::new(Gone::new(what.geometry)), Disk::clone);
        match known {
            Some(node) => {
                node.version.set(what.version);
                *node.kept.borrow_mut() = kept;
                node.gate.swap(device);
            }
            None => {
                let gate = Gate::new(device);
                let node = LocalNode {
                    id: what.id,
                    version: Cell::new(what.version),
                    top: gate.disk(),
                    gate,
                    iostat: iostat::Counters::default(),
                    kept: RefCell::new(kept),
                };
                let mut nodes = self.nodes.borrow_mut();
                let slot = what.slot as usize;
                if nodes.len() <= slot {
                    nodes.resize_with(slot + 1, || None)
                }
                nodes[slot] = Some(Rc::new(node))
            }
        }
        self.set_closed(what.slot, what.id, what.closed);
        built.map(drop)
    }

    /// Closes or opens a node's gate.
    pub fn set_closed(&self, slot: u32, id: u64, closed: bool) {
        if let Some(node) = self.node(slot, id) {
            match closed {
                true => node.gate.close(),
                false if node.gate.is_closed() => node.gate.resume(),
                false => (),
            }
        }
    }

    /// Waits for what has passed a node's gate on this core.
    pub async fn drain(&self, slot: u32, id: u64) {
        if let Some(node) = self.node(slot, id) {
            node.gate.drain().await
        }
    }

    /// Forgets a node. Who still has it open gets `Gone`.
    pub fn remove(&self, slot: u32, id: u64) {
        let Some(node) = self.node(slot, id) else { return };
        self.nodes.borrow_mut()[slot as usize] = None;
        node.vanish()
    }
}

impl LocalNode {
    fn vanish(&self) {
        let was = self.gate.swap(Disk::new(Gone::new(self.gate.behind().geometry())));
        if let Kept::Errors(errors) = &*self.kept.borrow() {
            errors.end()
        }
        self.gate.resume();
        drop(was)
    }

    /// Lets go of what hangs here for ever, for the device is about to go away.
    pub fn let_go(&self) {
        if let Kept::Errors(errors) = &*self.kept.borrow() {
            errors.end()
        }
    }

    /// The array that lives here.
    pub fn array(&self) -> Option<Array> {
        match &*self.kept.borrow() {
            Kept::Array(array) => Some(array.clone()),
            _ => None,
        }
    }

    /// The injections of an error device that lives here.
    pub fn errors(&self) -> Option<Errors> {
        match &*self.kept.borrow() {
            Kept::Errors(errors) => Some(errors.clone()),
            _ => None,
        }
    }

    /// The counters of a stats device on this core.
    pub fn counters(&self) -> Option<stats::Counters> {
        match &*self.kept.borrow() {
            Kept::Counters(counters) => Some(counters.clone()),
            _ => None,
        }
    }
}
