//! Protocol front ends: command slots, SCSI, iSCSI, NVMe/TCP.
pub mod iscsi;
pub mod keep;
pub mod keyring;
pub mod nvmf;
pub mod scsi;
