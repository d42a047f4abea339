//! Protocol front ends: command slots, SCSI, iSCSI, NVMe/TCP.
pub mod iscsi;
pub mod keyring;
pub mod nvmf;
pub mod scsi;
