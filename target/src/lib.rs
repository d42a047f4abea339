//! Protocol front ends: command slots, SCSI, iSCSI, NVMe/TCP.
pub mod iscsi;
mod keep;
pub mod keyring;
pub mod nvmf;
pub mod scsi;
