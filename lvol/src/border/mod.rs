//! The border between the engine and the runtime: what one may ask of the other, as data.
//!
//! ```text
//!   the process that serves hosts                      the engine, in it or in a process of its own
//!     Handle ── Call ──────────────────────────────────► Engine        (RPC and configuration ask; answers come back)
//!     Side ◄── Command, Question ─────────────────────── Runtime       (build, remove, read, write …; who is there, who has claimed it)
//!     Side ─── Event ──────────────────────────────────► Runtime       (added, removed, resized …)
//! ```
//!
//! [`Side`] is the runtime's end. It carries commands out on the graph, and keeps what has to outlive the engine: who wished for which node, what is
//! waited for, which disks are claimed. [`Runtime`] is the engine's end: the same methods whether the graph is in this process or behind a pair of
//! sockets ([`Line`]). An engine that is born over a graph with nodes asks for what was kept ([`Runtime::recall`]) and goes on from there, so one
//! that was killed is replaced without a host, or a disk, noticing.
pub mod line;
mod side;
pub(crate) mod waiting;
pub mod wire;

pub(crate) use side::PLAN;
pub use side::{Recalled, Side};

use crate::{Offers, activation::Desires, engine::Create, plan::carry::Doing};
use bdev::{Event, Graph, GraphError, NodeInfo, Subscription, Table};
use line::Line;
use serde::{Deserialize, Serialize};
use spec::{BlockRange, Extent};
use std::{fmt, sync::Arc};
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};
use wire::{Command, Question, Up};

/// One end of a disk, and what was read there, or why nothing.
pub type End = (Extent, Result<Vec<u8>, String>);

/// A node, and what is at its ends.
#[derive(Debug)]
pub struct Look {
    /// The node, as [`Runtime::brief`] tells of it.
    pub info: NodeInfo,
    /// What was read, or why not.
    pub ends: Vec<End>,
}

/// What is read of a node that is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// Nothing.
    Nothing,
    /// Both ends, unless somebody uses it.
    Unused,
    /// Both ends: who uses it is the engine.
    Ours,
}

/// The engine's way to the runtime. Clones are the same way.
#[derive(Clone)]
pub struct Runtime(Way);

#[derive(Clone)]
enum Way {
    Here(Arc<Side>),
    There(Arc<Line>),
}

impl From<Graph> for Runtime {
    fn from(graph: Graph) -> Self {
        Arc::new(Side::new(graph)).into()
    }
}

impl From<Arc<Side>> for Runtime {
    fn from(side: Arc<Side>) -> Self {
        Self(Way::Here(side))
    }
}

impl From<Arc<Line>> for Runtime {
    fn from(line: Arc<Line>) -> Self {
        Self(Way::There(line))
    }
}

impl Runtime {
    /// The graph, if it is in this process.
    pub fn graph(&self) -> Option<&Graph> {
        match &self.0 {
            Way::Here(side) => Some(side.graph()),
            Way::There(_) => None,
        }
    }

    /// A node by name, alias or UUID.
    pub fn info(&self, name: &str) -> Option<NodeInfo> {
        match &self.0 {
            Way::Here(side) => side.graph().info(name),
            Way::There(line) => line.ask(&Question::Info { name: name.into() }).ok().flatten(),
        }
    }

    /// The same, but of what stands on it only what discovery has not made ([`Graph::brief`]): ten thousand volumes may stand on a disk, and each
    /// name would be sent.
    pub fn brief(&self, name: &str) -> Option<NodeInfo> {
        match &self.0 {
            Way::Here(side) => side.graph().brief(name),
            Way::There(line) => line.ask(&Question::Brief { name: name.into() }).ok().flatten(),
        }
    }

    /// The name of a node, by name, alias or UUID.
    pub fn find(&self, name: &str) -> Option<String> {
        match &self.0 {
            Way::Here(side) => side.graph().info(name).map(|info| info.name),
            Way::There(line) => line.find(name),
        }
    }

    /// A node that has just been added, as it was then.
    pub fn fresh(&self, name: &str) -> Option<NodeInfo> {
        match &self.0 {
            Way::Here(side) => side.graph().info(name),
            Way::There(line) => line.fresh(name),
        }
    }

    /// A node and what is at its ends, which is then being looked at.
    pub async fn look(&self, name: &str, reads: Reads) -> Option<Look> {
        match &self.0 {
            Way::Here(side) => side.look(name, reads).await,
            Way::There(line) => line.look(name, reads).await,
        }
    }

    /// Nothing is being looked at any more.
    pub fn looked(&self) {
        match &self.0 {
            // Who ends here takes everything with him.
            Way::Here(_) => {}
            Way::There(line) => line.say(&Up::Looked, Vec::new()),
        }
    }

    /// All nodes, in the order in which they were built.
    pub fn list(&self) -> Vec<NodeInfo> {
        match &self.0 {
            Way::Here(side) => side.graph().list(),
            Way::There(line) => line.list(),
        }
    }

    /// The exclusive right to write to a node, until the answer is dropped.
    pub fn claim(&self, name: &str, by: &str) -> Result<Claim, GraphError> {
        let number = match &self.0 {
            Way::Here(side) => side.claim(name, by)?,
            Way::There(line) => line.ask(&Question::Claim {
                name: name.into(),
                by: by.into(),
            })?,
        };
        Ok(self.held(number))
    }

    /// A claim that an engine before this one has made.
    pub(crate) fn held(&self, number: u64) -> Claim {
        Claim {
            runtime: self.clone(),
            number,
        }
    }

    /// Builds a node, on behalf of who has claimed what is below it if `under` says so, and remembers who wished for it.
    pub async fn build(&self, wish: Create, under: Option<&str>) -> Result<(), GraphError> {
        match &self.0 {
            Way::Here(side) => side.build(wish, under).await,
            Way::There(line) => {
                let under = under.map(str::to_owned);
                line.command(Command::Build { wish, under }, Vec::new()).await.map(drop)
            }
        }
    }

    /// Builds a node from another table.
    pub async fn replace(&self, name: &str, table: Table) -> Result<(), GraphError> {
        match &self.0 {
            Way::Here(side) => side.replace(name, table).await,
            Way::There(line) => {
                let name = name.to_owned();
                line.command(Command::Replace { name, table }, Vec::new())
                    .await
                    .map(drop)
            }
        }
    }

    /// Removes a node that nobody uses; with a reason, one that is in use too.
    pub async fn remove(&self, name: &str, now: Option<&str>) -> Result<(), GraphError> {
        match &self.0 {
            Way::Here(side) => side.remove(name, now).await,
            Way::There(line) => {
                let (name, now) = (name.to_owned(), now.map(str::to_owned));
                line.command(Command::Remove { name, now }, Vec::new()).await.map(drop)
            }
        }
    }

    /// Gives a node another length, or looks how long it is now.
    pub async fn resize(&self, name: &str, blocks: u64) -> Result<(), GraphError> {
        match &self.0 {
            Way::Here(side) => side.graph().resize(name, blocks).await.map(drop),
            Way::There(line) => {
                let name = name.to_owned();
                line.command(Command::Resize { name, blocks }, Vec::new())
                    .await
                    .map(drop)
            }
        }
    }

    /// Looks whether any node has grown, gone or come back.
    pub async fn rescan_all(&self) {
        match &self.0 {
            Way::Here(side) => side.graph().rescan_all().await,
            Way::There(line) => drop(line.command(Command::Rescan, Vec::new()).await),
        }
    }

    /// Reads metadata.
    pub async fn read(&self, name: &str, range: BlockRange) -> Result<Vec<u8>, GraphError> {
        match &self.0 {
            Way::Here(side) => side.graph().read(name, range).await,
            Way::There(line) => {
                let command = Command::Read {
                    name: name.into(),
                    start: range.start.0,
                    blocks: range.count,
                };
                line.command(command, Vec::new()).await
            }
        }
    }

    /// Writes metadata. The caller has claimed the node, or knows that nobody has.
    pub async fn write(&self, name: &str, start: u64, bytes: Vec<u8>) -> Result<(), GraphError> {
        match &self.0 {
            Way::Here(side) => side.graph().write(name, start, bytes, false).await,
            Way::There(line) => {
                let name = name.to_owned();
                line.command(Command::Write { name, start }, bytes).await.map(drop)
            }
        }
    }

    /// Makes durable what was written to a node.
    pub async fn flush(&self, name: &str) -> Result<(), GraphError> {
        match &self.0 {
            Way::Here(side) => side.graph().flush(name).await,
            Way::There(line) => {
                let name = name.to_owned();
                line.command(Command::Flush { name }, Vec::new()).await.map(drop)
            }
        }
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events(match &self.0 {
            Way::Here(side) => Stream::Here(side.graph().events()),
            Way::There(line) => Stream::There(line.events()),
        })
    }

    // ---- what outlives the engine

    /// What an engine before this one has left.
    pub fn recall(&self) -> Recalled {
        match &self.0 {
            Way::Here(side) => side.recall(),
            Way::There(line) => line.ask(&Question::Recall).unwrap_or_default(),
        }
    }

    /// Notes that the wish for a node that is there is another one now.
    pub fn remember(&self, wish: Create) {
        match &self.0 {
            Way::Here(side) => side.remember(wish),
            Way::There(line) => drop(line.ask::<()>(&Question::Remember { wish })),
        }
    }

    /// Notes that a node is waited for.
    pub fn wait_for(&self, wish: Create) {
        match &self.0 {
            Way::Here(side) => side.wait_for(wish),
            Way::There(line) => drop(line.ask::<()>(&Question::WaitFor { wish })),
        }
    }

    /// Notes which volumes somebody has asked to run, or not to.
    pub fn desire(&self, desires: Desires) {
        match &self.0 {
            Way::Here(side) => side.desire(desires),
            Way::There(line) => drop(line.ask::<()>(&Question::Desire { desires })),
        }
    }

    /// Notes that a node is no longer waited for.
    pub fn wait_no_more(&self, name: &str) {
        match &self.0 {
            Way::Here(side) => side.wait_no_more(name),
            Way::There(line) => drop(line.ask::<()>(&Question::WaitNoMore { name: name.into() })),
        }
    }

    // ---- offers by rule

    /// True if a rule offers this volume to hosts.
    pub fn offers(&self, volume: &str) -> bool {
        match &self.0 {
            Way::Here(side) => side.offers().is_some_and(|offers| offers.offers(volume)),
            Way::There(line) => line.ask(&Question::Offers { volume: volume.into() }).unwrap_or(false),
        }
    }

    /// A host that is connected to a volume which a rule offers, in words.
    pub fn host(&self, volume: &str) -> Option<String> {
        match &self.0 {
            Way::Here(side) => side.offers()?.host(volume),
            Way::There(line) => line.ask(&Question::Host { volume: volume.into() }).ok().flatten(),
        }
    }

    /// Takes an offer by rule back.
    pub fn withdraw<'a>(&'a self, volume: &'a str) -> Doing<'a> {
        Box::pin(async move {
            match &self.0 {
                Way::Here(side) => side.withdraw(volume).await,
                Way::There(line) => {
                    let volume = volume.to_owned();
                    let done = line.command(Command::Withdraw { volume }, Vec::new()).await;
                    done.map(drop).map_err(|why| why.to_string())
                }
            }
        })
    }

    /// Lets somebody offer volumes by rule; heard only where the graph is.
    pub fn offered_by(&self, offers: Arc<dyn Offers>) {
        if let Way::Here(side) = &self.0 {
            side.offered_by(offers);
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Here(side) => write!(f, "Runtime({:?})", side.graph()),
            Way::There(_) => f.write_str("Runtime(another process)"),
        }
    }
}

/// The exclusive right to write to a node, until dropped.
#[must_use = "dropping a claim gives it back"]
#[derive(Debug)]
pub struct Claim {
    runtime: Runtime,
    number: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        match &self.runtime.0 {
            Way::Here(side) => side.unclaim(self.number),
            Way::There(line) => drop(line.ask::<()>(&Question::Unclaim { number: self.number })),
        }
    }
}

/// Events of the graph, in order.
pub struct Events(Stream);

enum Stream {
    Here(Subscription),
    There(broadcast::Receiver<Event>),
}

impl Events {
    /// The next, if there is one already.
    pub fn try_recv(&mut self) -> Option<Event> {
        match &mut self.0 {
            Stream::Here(events) => events.try_recv(),
            Stream::There(events) => match events.try_recv() {
                Ok(event) => Some(event),
                Err(TryRecvError::Lagged(count)) => Some(Event::Missed { count }),
                Err(TryRecvError::Empty | TryRecvError::Closed) => None,
            },
        }
    }

    /// The next; nothing when the graph has ended.
    pub async fn recv(&mut self) -> Option<Event> {
        match &mut self.0 {
            Stream::Here(events) => events.recv().await,
            Stream::There(events) => match events.recv().await {
                Ok(event) => Some(event),
                Err(RecvError::Lagged(count)) => Some(Event::Missed { count }),
                Err(RecvError::Closed) => None,
            },
        }
    }
}
