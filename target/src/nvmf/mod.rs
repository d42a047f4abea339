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
mod error;
mod options;
pub mod session;

pub use error::NvmfError;
pub use options::*;
