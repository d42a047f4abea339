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
mod arrays;
mod away;
mod build;
mod change;
mod exclusive;
mod figures;
mod rekey;
mod rights;
mod spread;
mod state;
mod transfer;
mod tune;

pub use exclusive::Exclusive;
pub use rights::{Claim, Opened, Pin};

use crate::{
    GraphError, Keys, NodeInfo, Subscription,
    events::Events,
    forward::{Links, Order, RING, Reply},
    local::Local,
    turnstile::Turnstile,
};
use reactor::{
    Reactors,
    channel::{Sender, bounded},
};
use state::State;
use std::{
    fmt,
    future::Future,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
/// A handle to the graph: cheap to clone, for any thread. Made from the reactors whose cores carry it; ends with its last handle.
#[derive(Clone)]
pub struct Graph(Arc<Inner>);

struct Inner {
    id: u64,
    reactors: Reactors,
    state: Mutex<State>,
    /// Changes of the graph come one at a time.
    turnstile: Turnstile,
    events: Arc<Events>,
    keys: Keys,
    orders: Vec<Sender<Order>>,
    replies: Vec<Sender<Reply>>,
}

impl Graph {
    /// An empty graph on these reactors. Blocks until every core has its part of it, so not to be called on a reactor.
    pub fn new(reactors: Reactors) -> Graph {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Relaxed);
        let events: Arc<Events> = Arc::default();
        let (orders, order_ends): (Vec<_>, Vec<_>) = (0..reactors.count()).map(|_| bounded(RING)).unzip();
        let (replies, reply_ends): (Vec<_>, Vec<_>) = (0..reactors.count()).map(|_| bounded(RING)).unzip();
        let started: Vec<_> = order_ends
            .into_iter()
            .zip(reply_ends)
            .enumerate()
            .map(|(core, (order_end, reply_end))| {
                let (orders, replies, events) = (orders.clone(), replies.clone(), Arc::downgrade(&events));
                reactors.call(core, move || async move {
                    Local::start(id, Links::new(core, orders, replies), order_end, reply_end, events)
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
            events,
            keys: Keys::default(),
            orders,
            replies,
        }))
    }

    /// The reactors it was made from.
    pub fn reactors(&self) -> &Reactors {
        &self.0.reactors
    }

    /// The keys of encrypted disks.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    fn state(&self) -> MutexGuard<'_, State> {
        reactor::counters::locked();
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

    fn release(&self, slots: &[u32], by: &str) {
        let mut state = self.state();
        for slot in slots {
            if let Some(node) = state.at_mut(*slot).filter(|node| node.claim.as_deref() == Some(by)) {
                node.claim = None
            }
        }
    }

    /// A node by name, alias or UUID.
    pub fn info(&self, name: &str) -> Option<NodeInfo> {
        let state = self.state();
        state.info(state.find(name).ok()?)
    }

    /// The same, but of what stands on it only what was not built by whoever has claimed it ([`build_under`](Self::build_under)): those may be
    /// ten thousand.
    pub fn brief(&self, name: &str) -> Option<NodeInfo> {
        let state = self.state();
        state.told(state.find(name).ok()?, |above| above.under.is_none())
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
