//! SCSI: what a command descriptor block says and what a device server answers.
//!
//! Sources: SPC-4 (r37), SBC-3 (r36), SAM-5. Everything is big-endian. One file per subject:
//!
//! | file | subject |
//! |---|---|
//! | [`opcodes`] | the table of commands: what is decoded, what is reported |
//! | [`cdb`] | command descriptor blocks |
//! | [`medium`] | blocks and lists of the rarer medium commands |
//! | [`sense`] | status bytes and sense data |
//! | [`inquiry`] | standard INQUIRY data and vital product data pages |
//! | [`mode`] | mode pages and parameter lists |
//! | [`capacity`] | READ CAPACITY, REPORT LUNS, logical unit numbers |
//! | [`unmap`] | the UNMAP parameter list |
pub mod capacity;
pub mod cdb;
pub mod inquiry;
pub mod medium;
pub mod mode;
pub mod opcodes;
pub mod sense;
pub mod unmap;

pub use capacity::Lun;
pub use cdb::{Cdb, CdbError, Command, Transfer};
pub use sense::{Sense, SenseKey, Status};

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// Every parser of this folder over one input. None of them may panic, whatever the bytes are.
#[doc(hidden)]
pub fn fuzz_scsi_cdb(data: &[u8]) {
    let mut bytes = [0; 16];
    let n = data.len().min(16);
    bytes[..n].copy_from_slice(&data[..n]);
    let cdb = Cdb(bytes);
    if let Ok(command) = cdb.command() {
        let known = cdb.entry().expect("a command that decodes stands in the table");
        assert!(!known.name.is_empty());
        if let Some(transfer) = command.transfer() {
            // At most 2^32 - 1 blocks, so the end only overflows at the top of the address space.
            assert!(transfer.range.end().is_some() || transfer.range.start.0 > u64::MAX - u64::from(u32::MAX));
        }
    }
    if let Some(overwrite) = medium::parse_overwrite(data, 512) {
        assert_eq!(overwrite.block(0, 512).len(), 512);
    }
    let _ = unmap::parse(data).map(|list| list.count());
    let _ = Lun::from_wire(bytes[..8].try_into().unwrap_or_default());
    let _ = sense::Sense::parse(data);
}
