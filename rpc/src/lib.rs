//! JSON-RPC server with the wire conventions and methods of SPDK, and a client.
//!
//! ```text
//!   client ══ Unix socket ══► server ─ frames (wire) ─ requests (envelope) ─► Table::call ─► methods/* ─► engine, graph, targets
//!                                                                               │ phases, manners, older forms
//!                                                                               └ Context: the running process
//! ```
//!
//! Control planes written for SPDK match on its codes, texts and spellings, so these are API here (`error`, `shapes`). Where SPDK's
//! one-size answer hides the cause, it stands beside it in the error's `data`. Nothing here runs on a reactor.
//!
//! A process makes a [`Context`], a [`methods::table`] over it, and a [`Server`](server::Server); it spawns [`Context::follow`], which
//! tells hosts about disks that grow and go, and ends when [`Context::killed`] says so.

pub mod audit;
pub mod backup;
mod caretaker;
pub mod client;
pub mod context;
pub mod envelope;
pub mod error;
pub mod kept;
pub mod log;
pub mod method;
pub mod methods;
mod raid;
pub mod reload;
mod saved;
pub mod server;
mod shapes;
mod split;
pub mod wire;

pub use context::Context;
