//! The SCSI device server: logical units, what hosts are told about them, and every command.
pub mod unit;
