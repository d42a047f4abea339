//! Commands of every device (SPC-4), and the ones that only tell: sizes, modes, names.
use super::{Nexus, Outcome, nexus::Open, opcodes};
use spec::scsi::{
    Sense,
    capacity::{self, Capacity16},
    inquiry::{self, Identity, Limits},
    medium,
    opcodes::Needs,
    sense,
};
use std::rc::Rc;

/// Product revision level: four characters.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
/// Most descriptors in an UNMAP: what fits a page.
pub(super) const UNMAP_DESCRIPTORS: u32 = 255;
/// The longest range of an UNMAP in blocks. Hosts send another one; nobody can interrupt a running one.
pub(super) const UNMAP_BLOCKS: u32 = 1 << 20;

pub(super) fn limits(open: &Open) -> Limits {
    let g = open.disk.geometry();
    let physical = (open.unit.options.physical(&g) / g.block_size).max(1);
    let thin = open.thin();
    Limits {
        transfer: open.limit,
        granularity: physical.min(u16::MAX.into()) as u16,
        optimal: match g.optimal_io {
            0 => 0,
            optimal => optimal.min(open.limit),
        },
        unmap: if thin { UNMAP_BLOCKS } else { 0 },
        unmap_descriptors: UNMAP_DESCRIPTORS,
        unmap_granularity: g.unmap_granularity.max(1),
        // Nobody should deallocate a whole disk by asking for nothing.
        write_same_non_zero: thin,
        // What is compared and what is written come together.
        compare_and_write: (open.limit / 2).min(medium::COMPARE_MAX.into()) as u8,
        atomic: if open.read_only() {
            0
        } else {
            g.atomic.min(open.limit).min(u16::MAX.into())
        },
        write_same: open.limit.into(),
        reads_zeros: thin && g.unmap_reads_zero,
        // Zeros over everything, which then take no space.
        block_erase: thin && !open.read_only(),
        crypto_erase: false,
        rotational: g.rotational,
    }
}

pub(super) fn identity(open: &Open) -> Identity {
    let (uuid, options) = (open.unit.uuid, &open.unit.options);
    let or = |said: &Option<String>, else_: &str| said.clone().unwrap_or_else(|| else_.into());
    Identity {
        vendor: or(&options.vendor, "ASHLAR"),
        product: or(&options.product, "Volume"),
        revision: or(&options.revision, VERSION),
        serial: or(&options.serial, &uuid.simple().to_string()),
        uuid: uuid.into_bytes(),
        target: open.device.name.clone(),
        portal_group: open.nexus.port,
        ports: open.ports(),
        removable: options.removable,
        explicit_access: open.device.ports().explicit,
        volatile_cache: open.disk.geometry().volatile_cache,
    }
}

pub(super) fn inquiry(open: Option<&Open>, page: Option<u8>, room: u16) -> Result<Outcome, Sense> {
    let list = match (open, page) {
        (None, None) => inquiry::absent().to_vec(),
        (None, Some(_)) => return Err(Sense::NO_LUN),
        (Some(open), None) => inquiry::standard(&identity(open)).to_vec(),
        (Some(open), Some(page)) => {
            // Asked for here alone: the control plane knows.
            let limits = Limits {
                crypto_erase: opcodes::has(open, Needs::Keyed),
                ..limits(open)
            };
            inquiry::vpd(page, &identity(open), &limits).ok_or(Sense::cdb_field(2, 7))?
        }
    };
    Ok(Outcome::list(&list, room.into()))
}

pub(super) fn report_luns(nexus: &Nexus, select: u8, room: u32) -> Result<Outcome, Sense> {
    // SPC-4 6.33: less room than for one entry is an error.
    if room < 16 {
        return Err(Sense::cdb_field(6, 7));
    }
    let luns = match select {
        0 | 2 => nexus.luns(),
        1 => Vec::new(), // well-known units: none
        _ => return Err(Sense::cdb_field(2, 7)),
    };
    nexus.told_luns();
    Ok(Outcome::list(&capacity::report_luns(luns.into_iter()), room as usize))
}

pub(super) fn request_sense(unit: &Result<Rc<Open>, Sense>, descriptor: bool, room: u16) -> Outcome {
    let sense = match unit {
        Ok(open) => open
            .attention()
            .or(open.unit.sanitization.sense())
            .unwrap_or_else(|| open.unit.medium().err().unwrap_or(Sense::NONE)),
        Err(sense) => *sense,
    };
    let mut bytes = [0; sense::MAX_LEN];
    let len = sense.encode(descriptor, &mut bytes);
    Outcome::list(&bytes[..len], room.into())
}

pub(super) fn read_capacity10(open: &Open) -> Vec<u8> {
    capacity::read_capacity10(open.disk.blocks(), open.disk.block_size()).to_vec()
}

pub(super) fn read_capacity16(open: &Open) -> Vec<u8> {
    let g = open.disk.geometry();
    let options = &open.unit.options;
    let thin = open.thin();
    let data = Capacity16 {
        blocks: g.blocks,
        block_size: g.block_size,
        physical_exponent: (options.physical(&g) / g.block_size).max(1).ilog2() as u8,
        lowest_aligned: options.lowest_aligned_lba,
        thin,
        reads_zeros: thin && g.unmap_reads_zero,
    };
    data.encode().to_vec()
}
