//! The SCSI device server: logical units, what hosts are told about them, and every command.
//!
//! | file | subject |
//! |---|---|
//! | [`mod@unit`] | what all sessions share: units, settings, news for hosts |
//! | [`options`] | what an administrator says about a unit: plain data |
//! | [`nexus`] | one session's view: volumes open on its core, what its host has been told |
//! | [`latencies`] | how long commands took |
//! | [`news`] | what a session with several connections has told its host |
//! | [`server`] | from a command block to an [`Outcome`]: the checks every command shares, and who does it |
//! | [`outcome`] | how a command ended |
//! | [`nexus_id`] | who talks to whom |
//! | [`rules`] | what each command needs: of reservations, of the state of the port |
//! | [`reservation`] | persistent reservations, RESERVE and RELEASE |
//! | [`ports`] | target port groups and their asymmetric access states |
//! | [`task_set`] | commands under way by nexus, and how to end them early |
//! | `opcodes` | which commands and task management functions there are |
//! | `primary` | commands of every device: INQUIRY, REPORT LUNS, READ CAPACITY … |
//! | `mode` | MODE SENSE, MODE SELECT |
//! | `log` | LOG SENSE, LOG SELECT |
//! | `removable` | START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL |
//! | `block` | READ, WRITE, VERIFY, SYNCHRONIZE CACHE |
//! | `exclusive` | COMPARE AND WRITE, ORWRITE, WRITE AND VERIFY, WRITE ATOMIC |
//! | `copy` | EXTENDED COPY, RECEIVE COPY RESULTS |
//! | [`sanitize`] | SANITIZE, and what of it outlives a restart |
//! | `lba_status` | GET LBA STATUS, READ DEFECT DATA |
//! | `provisioning` | UNMAP, WRITE SAME |
//!
//! Nothing here knows iSCSI: a request has a logical unit number, a command block and data; an outcome has a status.
mod block;
mod copy;
mod exclusive;
#[doc(hidden)]
pub mod exercise;
pub mod latencies;
mod lba_status;
mod log;
mod mode;
pub mod news;
pub mod nexus;
pub mod nexus_id;
mod opcodes;
pub mod options;
pub mod outcome;
pub mod ports;
mod primary;
mod provisioning;
mod removable;
pub mod reservation;
pub mod rules;
pub mod sanitize;
pub mod server;
pub mod task_set;
pub mod unit;

pub use nexus::Nexus;
pub use nexus_id::NexusId;
pub use outcome::{Moved, Outcome};
pub use server::Request;
