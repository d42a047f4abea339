//! What can go wrong in the engine, for people to read.
use bdev::GraphError;
use serde::{Deserialize, Serialize};

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineError {
    /// The graph refused.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// No such disk.
    #[error("there is no disk {0:?}")]
    NotFound(String),
    /// The name or alias is taken.
    #[error("the name {0:?} is taken")]
    Exists(String),
    /// It stands on something that discovery made or claimed; the way out is in the text.
    #[error("{name:?} is {what}; {way_out}")]
    Claimed {
        /// The disk.
        name: String,
        /// What was made of it.
        what: String,
        /// What can be done about it.
        way_out: String,
    },
    /// The engine's process has ended, or does not answer.
    #[error("the engine did not answer: {0}")]
    Lost(String),
    /// So do volumes of a group.
    #[error("{name:?} is a volume of the group {group:?} and goes when the group's metadata says so")]
    Volume {
        /// The volume.
        name: String,
        /// Its group.
        group: String,
    },
    /// Partitions come and go with their table.
    #[error("{name:?} is a partition on {disk:?} and goes when the partition table says so")]
    Partition {
        /// The partition.
        name: String,
        /// Its disk.
        disk: String,
    },
}
