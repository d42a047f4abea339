//! The iSCSI front end (RFC 7143).
//!
//! | file | subject |
//! |---|---|
//! | [`options`] | what an administrator says: plain data |
//! | [`access`] | who may come |
//! | [`auth`], [`chap`] | who must prove it, and how |
//! | [`session`], [`slot`], [`login`] | one connection's protocol: bytes and time in, bytes and events out |
//! | [`sequencer`] | the order of commands in a session with several connections |
//! | `connection` | the tasks of one connection |
//! | `server` | listeners, and where connections live |
//! | [`control`] | the handle for RPC, configuration and the command line |
//! | `sessions` | which connection belongs to which session |
//! | `state` | what there is: groups, nodes, connections |
pub mod access;
pub mod auth;
mod auth_file;
pub mod chap;
mod connection;
pub mod control;
#[doc(hidden)]
pub mod exercise;
pub mod login;
#[cfg(test)]
mod login_tests;
pub mod options;
pub mod sequencer;
mod server;
pub mod session;
#[cfg(test)]
mod session_tests;
mod sessions;
pub mod slot;
mod state;

pub use control::Iscsi;
pub use options::*;
pub use spec::scsi::AccessState;
