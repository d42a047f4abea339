//! The runtime: devices, disks, modules, tables and the graph they form.
//!
//! A [`BlockDevice`] is anything with blocks that answers `submit`; a [`Disk`] is a handle to a window of one, and the only way to reach it;
//! an [`Io`] is what is sent there. Leaf devices ([`leaf`]) talk to the world, modules ([`module`]) stand on other devices. A
//! [`Table`] says as plain data what to build, and the [`graph`] builds it on every core, changes it under I/O, and keeps the books.
mod blueprint;
pub mod conformance;
pub mod device;
pub mod disk;
pub mod events;
pub mod fan;
mod forward;
mod frames;
pub mod gate;
pub mod geometry;
pub mod graph;
pub mod histogram;
pub mod io;
pub mod iostat;
pub mod keys;
pub mod leaf;
mod local;
pub mod module;
pub mod node;
mod primitives;
pub mod raid;
mod ranges;
pub mod table;
mod turnstile;
pub mod xts;

pub use device::{BlockDevice, Mapped};
pub use disk::{Disk, Perform};
pub use events::{Event, Subscription};
pub use geometry::Geometry;
pub use graph::{Claim, Exclusive, Graph, Opened, Pin};
pub use io::{Allocation, Io, IoError, IoResult, Op};
pub use iostat::{Iostat, Reset};
pub use keys::{KeyError, KeySource, Keys};
pub use node::{GraphError, NodeInfo, NodeSpec, NodeState};
pub use table::Table;
