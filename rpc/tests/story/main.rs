//! Whole stories over the socket, with a real process behind it.

mod audit;
mod crypto;
mod disks;
mod harness;
mod iscsi_auth;
mod nvmf_texts;
mod plugins;
mod process;
mod pypi;
mod saved;
mod targets;
