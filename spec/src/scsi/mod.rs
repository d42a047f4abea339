//! SCSI: what a command descriptor block says and what a device server answers.
//!
//! Sources: SPC-4 (r37), SBC-3 (r36), SAM-5. Everything is big-endian. One file per subject:
//!
//! | file | subject |
//! |---|---|
//! | [`opcodes`] | the table of commands: what is decoded, what is reported |
//! | [`cdb`] | command descriptor blocks |
//! | [`medium`] | blocks and lists of the rarer medium commands |
//! | [`copy`] | EXTENDED COPY and what is told about it |
//! | [`sense`] | status bytes and sense data |
//! | [`inquiry`] | standard INQUIRY data and vital product data pages |
//! | [`mode`] | mode pages and parameter lists |
//! | [`capacity`] | READ CAPACITY, REPORT LUNS, logical unit numbers |
//! | [`log`] | log pages and parameter lists |
//! | `vpd` | vital product data pages about the device |
//! | [`unmap`] | the UNMAP parameter list |
//! | [`reservation`] | PERSISTENT RESERVE IN and OUT |
//! | [`target_port_groups`] | REPORT and SET TARGET PORT GROUPS: asymmetric access |
//! | [`transport_id`] | TransportIDs: initiator ports in parameter lists |
pub mod capacity;
pub mod cdb;
pub mod copy;
pub mod inquiry;
pub mod log;
pub mod medium;
pub mod mode;
pub mod opcodes;
pub mod reservation;
pub mod sense;
pub mod target_port_groups;
pub mod transport_id;
pub mod unmap;
mod vpd;

pub use capacity::Lun;
pub use cdb::{Cdb, CdbError, Command, Transfer};
pub use sense::{Sense, SenseKey, Status};
pub use target_port_groups::AccessState;
pub use transport_id::TransportId;

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

/// Parameter lists of PERSISTENT RESERVE OUT: the first byte says of which action. What is read comes out of the encoder
/// as what it was.
#[doc(hidden)]
pub fn fuzz_scsi_reservation(data: &[u8]) {
    use reservation::{Out, Parameters};
    let [how, list @ ..] = data else { return };
    let action = match how % 3 {
        0 => Out::Register,
        1 => Out::Preempt,
        _ => Out::RegisterAndMove,
    };
    if let Ok(parameters) = Parameters::parse(action, list) {
        let again = Parameters::parse(action, &parameters.encode(action));
        assert_eq!(again, Ok(parameters));
    }
    if let Some((generation, nexuses)) = reservation::parse_full_status(list) {
        let again = reservation::read_full_status(generation, nexuses.iter().cloned());
        assert_eq!(reservation::parse_full_status(&again), Some((generation, nexuses)));
    }
}

/// Lists of target port groups, and TransportIDs.
#[doc(hidden)]
pub fn fuzz_scsi_ports(data: &[u8]) {
    if let Some(groups) = target_port_groups::parse_report(data) {
        let again = target_port_groups::report(&groups, data.first().is_some_and(|b| b & 1 == 1), 0);
        assert_eq!(target_port_groups::parse_report(&again), Some(groups));
    }
    let _ = target_port_groups::parse_set(data);
    if let Some((id, used)) = TransportId::parse(data) {
        assert!(used <= data.len());
        let bytes = id.encode();
        assert_eq!(TransportId::parse(&bytes), Some((id, bytes.len())));
    }
}
