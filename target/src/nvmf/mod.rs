//! NVMe over TCP: subsystems, controllers and queues on top of volumes.
//!
//! ```text
//!   control thread                        reactors, one for each core
//!   Nvmf ── Shared { Subsystem { Controller } }     Port ─ accept ─► the least loaded core
//!             set-up, one lock                       Connection = Session + slots + Spaces
//!                                                    I/O path: this core only, no lock
//! ```
//!
//! `session` is the transport's protocol without a socket; `connection` gives it one, and a task for each command
//! slot; `connect`, `admin` and `io` are the commands; `control` is the handle everything else uses.
mod admin;
mod ana;
mod auth;
mod compare;
mod connect;
mod connection;
mod control;
mod controller;
mod copy;
mod discovery;
mod error;
pub mod exercise;
mod features;
mod guard;
mod identify;
mod io;
mod key_file;
mod logs;
mod mdns;
mod memory;
mod off_core;
mod options;
mod persist;
mod port;
mod reservation;
mod reserve;
mod secure;
pub mod session;
mod shared;
mod space;
mod subsystem;

pub use auth::{AuthReport, NotASecret, Offer, Secret};
pub use control::Nvmf;
pub use error::NvmfError;
pub use key_file::{KeyKind, make_key};
pub use options::*;
pub use spec::nvme::{
    ana::AnaState,
    auth::{GroupId, HashId},
};
pub use subsystem::HostKeys;
