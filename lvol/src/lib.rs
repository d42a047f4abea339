//! The engine: what disks there are, what is on them, who may use them, and what everything is called.
//!
//! ```text
//!   file, device, memory …            (created by configuration or RPC)
//!        │ examine
//!        ▼
//!   Probe ── signatures ──┐
//!        │                ├─► Findings: new · claimed · unclaimed · ambiguous, always with the reason
//!        └── formats taste┘        │ claimed
//!                                  ▼
//!                      tables for the graph (partitions as disks) ── examined in turn, until nothing new appears
//!                                 ▲
//!   members of groups ── assemble ┘        (what several disks are together: volumes as disks)
//! ```
//!
//! The engine decides and never stands in the way of an I/O. It runs on the control plane's threads; what it needs from a disk it reads
//! through the graph, and discovery writes nothing, ever.
pub mod activation;
mod assemble;
pub mod backup;
pub mod border;
pub mod change;
pub mod engine;
mod error;
pub mod events;
mod examine;
pub mod extras;
pub mod format;
pub mod group;
mod handle;
mod hindrance;
pub mod judge;
pub mod keeper;
pub mod link;
pub mod lvm2;
pub mod md;
mod offers;
pub mod part;
mod patience;
pub mod plan;
pub mod plugin;
pub mod probe;
pub mod process;
mod questions;
pub mod scope;
mod settings;
pub mod stack;

pub use activation::{Activated, Desired};
pub use change::{Applied, ChangeError, Past};
pub use engine::{Create, DiskInfo, Engine, Found, Origin};
pub use error::EngineError;
pub use events::{Change, ChangeKind, Notification};
pub use extras::{Extra, ExtraKind};
pub use group::{Group, GroupState, LogicalVolume};
pub use handle::Handle;
pub use judge::{Findings, Verdict};
pub use offers::Offers;
pub use part::Partition;
pub use patience::Patience;
pub use plan::{Plan, Refusal, Request, Stamp};
pub use plugin::{Plugin, PluginError, Registry};
pub use scope::Scope;
pub use settings::Settings;
