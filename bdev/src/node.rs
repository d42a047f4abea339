//! Nodes as the control plane sees them: what to build, what there is, what can go wrong.
use crate::{Geometry, IoError, Table};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// What to build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Unique among all names, aliases and UUIDs.
    pub name: String,
    /// Its identity for hosts. If absent, one that follows from the name.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// Other names it answers to.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it is built from.
    pub table: Table,
    /// What it is in a word or two, for people.
    #[serde(default)]
    pub product: String,
}

impl NodeSpec {
    /// With an identity that follows from the name, no aliases and the table's usual product.
    pub fn new(name: impl Into<String>, table: Table) -> Self {
        let product = table.product().to_owned();
        Self {
            name: name.into(),
            uuid: None,
            aliases: Vec::new(),
            table,
            product,
        }
    }

    /// The UUID of a node that is given none: it follows from the name, so a host that meets it again knows it again.
    pub fn uuid_of(name: &str) -> Uuid {
        // Our own name space, drawn once by chance.
        const NODES: Uuid = Uuid::from_u128(0x6f1d_8f0b_52a9_4c1e_9d37_b0c4_7f7a_e215);
        Uuid::new_v5(&NODES, name.as_bytes())
    }
}

/// Whether a node takes I/O.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum NodeState {
    /// It does.
    Active,
    /// It keeps what comes until it is resumed, or a node below is.
    Suspended,
    /// It, or something below it, is gone. Its I/O fails where it would have gone there.
    Orphan {
        /// What happened, in words.
        reason: String,
    },
}

/// A node as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// A number never used again.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its identity for hosts.
    pub uuid: Uuid,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// What it is in a word or two.
    pub product: String,
    /// What it is built from.
    pub table: Table,
    /// What it can do and likes.
    pub geometry: Geometry,
    /// The core a stateful device lives on; none if it is native on each.
    pub home: Option<usize>,
    /// Who has the exclusive right to write to it, if anybody.
    pub claimed_by: Option<String>,
    /// Who keeps it from being removed or claimed.
    pub pinned_by: Vec<String>,
    /// How often it is open at the moment.
    pub opens: u32,
    /// The nodes it stands on.
    pub below: Vec<String>,
    /// The nodes that stand on it.
    pub above: Vec<String>,
    /// Whether it takes I/O.
    pub state: NodeState,
}

/// Why the control plane's wish was not granted. Says which thing, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GraphError {
    /// There is no such node.
    #[error("no node is called {0:?}")]
    NotFound(String),
    /// A name, alias or UUID is taken.
    #[error("{0:?} is the name of a node already")]
    Exists(String),
    /// Somebody uses it.
    #[error("{name:?} is in use by {by}")]
    Busy {
        /// The node.
        name: String,
        /// Who, in words.
        by: String,
    },
    /// Somebody else has claimed it.
    #[error("{name:?} is claimed by {by:?}")]
    Claimed {
        /// The node.
        name: String,
        /// By whom.
        by: String,
    },
    /// The table makes no sense.
    #[error("{name:?}: {reason}")]
    Invalid {
        /// The node.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The file of a leaf cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// The system's words.
        reason: String,
        /// The system's number, if it gave one.
        os: Option<i32>,
    },
    /// The node is gone.
    #[error("{name:?} is gone: {reason}")]
    Orphan {
        /// The node.
        name: String,
        /// What happened.
        reason: String,
    },
    /// The node's kind cannot do that.
    #[error("{name:?} is a {kind}: it cannot {what}")]
    Unsupported {
        /// The node.
        name: String,
        /// Its kind.
        kind: Cow<'static, str>,
        /// What was asked for.
        what: Cow<'static, str>,
    },
    /// I/O that was under way did not end in time; nothing was changed.
    #[error("{name:?}: I/O under way did not end within {seconds} s; nothing was changed")]
    TimedOut {
        /// The node.
        name: String,
        /// How long we waited.
        seconds: u64,
    },
    /// An I/O of the control plane failed.
    #[error("{name:?}: {error}")]
    Io {
        /// The node.
        name: String,
        /// How.
        error: IoError,
    },
    /// An encrypted node has the key it had, or another one of which too much may be left.
    #[error("{name:?}: its key cannot be replaced: {reason}")]
    Key {
        /// The node.
        name: String,
        /// Why.
        reason: String,
    },
    /// A disk can be opened on the reactors of its graph only.
    #[error("not a reactor of this graph")]
    NotHere,
    /// The reactors have stopped.
    #[error("the reactors have stopped")]
    Stopped,
}
