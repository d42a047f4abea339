//! The SCSI device server: logical units, what hosts are told about them, and every command.
//!
//! | file | subject |
//! |---|---|
//! | [`mod@unit`] | what all sessions share: units, settings, news for hosts |
//! | [`nexus`] | one session's view: volumes open on its core, what its host has been told |
//! | [`server`] | from a command block to an [`Outcome`]: the checks every command shares, and who does it |
//! | [`outcome`] | how a command ended |
//! | `opcodes` | which commands and task management functions there are |
//! | `primary` | commands of every device: INQUIRY, MODE SENSE, REPORT LUNS … |
//! | `block` | READ, WRITE, VERIFY, SYNCHRONIZE CACHE |
//! | `exclusive` | COMPARE AND WRITE, ORWRITE, WRITE AND VERIFY, WRITE ATOMIC |
//! | `lba_status` | GET LBA STATUS, READ DEFECT DATA |
//! | `provisioning` | UNMAP, WRITE SAME |
//!
//! Nothing here knows iSCSI: a request has a logical unit number, a command block and data; an outcome has a status.
mod block;
mod exclusive;
mod lba_status;
pub mod nexus;
mod opcodes;
pub mod outcome;
mod primary;
mod provisioning;
pub mod server;
pub mod unit;

pub use nexus::Nexus;
pub use outcome::{Moved, Outcome};
pub use server::Request;
