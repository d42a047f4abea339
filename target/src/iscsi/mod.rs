//! The iSCSI front end (RFC 7143).
//!
//! | file | subject |
//! |---|---|
//! | [`options`] | what an administrator says: plain data |
//! | [`access`] | who may come |
//! | `state` | what there is: groups, nodes, connections |
pub mod access;
pub mod options;
mod state;

pub use options::*;
