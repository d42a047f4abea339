//! What the stories in `stories/` stand on: the binary under test, disk images, real tools, the Linux guest, and two
//! small hosts (iSCSI, NVMe/TCP) of their own.
//!
//! The hosts here share no code with the target: a wrong idea about the wire in `spec/` shows as a failure.
pub mod config;
pub mod guest;
pub mod image;
pub mod iscsi;
pub mod loops;
pub mod nvme;
pub mod pattern;
pub mod rpc;
pub mod serve;
pub mod soak;
pub mod tool;
pub mod visit;

pub use guest::{Guest, Helper};
pub use loops::Loops;
pub use serve::{Ports, Server, ashlar, wait_for};
pub use tool::{Tool, needs, skip};

/// An error of a host, a tool or the machine, told in words.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
