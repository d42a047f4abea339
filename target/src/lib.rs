//! Protocol front ends: command slots, SCSI, iSCSI, NVMe/TCP.
