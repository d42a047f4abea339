//! Commands of every device (SPC-4), and the ones that only tell: sizes, modes, names.
use super::{Nexus, Outcome, nexus::Open, server::sense_of, unit::Happening};
use spec::scsi::{
    Command, Sense,
    capacity::{self, Capacity16},
    inquiry::{self, Identity, Limits},
    medium,
    mode::{self, ModeState},
    sense,
};
use std::rc::Rc;

/// Most descriptors in an UNMAP: what fits a page.
pub(super) const UNMAP_DESCRIPTORS: u32 = 255;
/// The longest range of an UNMAP in blocks. Hosts send another one; nobody can interrupt a running one.
pub(super) const UNMAP_BLOCKS: u32 = 1 << 20;

pub(super) fn limits(open: &Open) -> Limits {
    let g = open.disk.geometry();
    let physical = (g.physical_block_size / g.block_size).max(1);
    Limits {
        transfer: open.limit,
        granularity: physical.min(u16::MAX.into()) as u16,
        optimal: match g.optimal_io {
            0 => 0,
            optimal => optimal.min(open.limit),
        },
        unmap: if g.unmap && !g.read_only { UNMAP_BLOCKS } else { 0 },
        unmap_descriptors: UNMAP_DESCRIPTORS,
        unmap_granularity: g.unmap_granularity.max(1),
        // What is compared and what is written come together.
        compare_and_write: (open.limit / 2).min(medium::COMPARE_MAX.into()) as u8,
        atomic: if g.read_only {
            0
        } else {
            g.atomic.min(open.limit).min(u16::MAX.into())
        },
        write_same: open.limit.into(),
        reads_zeros: g.unmap && g.unmap_reads_zero,
        rotational: g.rotational,
    }
}

fn identity(open: &Open) -> Identity {
    let uuid = open.unit.uuid;
    Identity {
        vendor: "ASHLAR".into(),
        product: "Volume".into(),
        revision: env!("CARGO_PKG_VERSION").into(),
        serial: uuid.simple().to_string(),
        uuid: uuid.into_bytes(),
        target: open.target.to_string(),
        portal_group: open.portal_group,
    }
}

pub(super) fn inquiry(open: Option<&Open>, page: Option<u8>, room: u16) -> Result<Outcome, Sense> {
    let list = match (open, page) {
        (None, None) => inquiry::absent().to_vec(),
        (None, Some(_)) => return Err(Sense::NO_LUN),
        (Some(open), None) => inquiry::standard(&identity(open)).to_vec(),
        (Some(open), Some(page)) => inquiry::vpd(page, &identity(open), &limits(open)).ok_or(Sense::cdb_field(2, 7))?,
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
        Ok(open) => open.attention().unwrap_or(match open.unit.is_stopped() {
            true => Sense::STOPPED,
            false => Sense::NONE,
        }),
        Err(sense) => *sense,
    };
    let mut bytes = [0; sense::MAX_LEN];
    let len = sense.encode(descriptor, &mut bytes);
    Outcome::list(&bytes[..len], room.into())
}

fn mode_state(open: &Open) -> ModeState {
    let g = open.disk.geometry();
    ModeState {
        settings: open.unit.settings(),
        read_only: g.read_only,
        write_cache: g.volatile_cache,
        blocks: g.blocks,
        block_size: g.block_size,
    }
}

pub(super) fn mode_sense(open: &Open, command: &Command) -> Result<Vec<u8>, Sense> {
    let Command::ModeSense {
        page,
        subpage,
        control,
        descriptors,
        long_lba,
        ten,
        ..
    } = *command
    else {
        return Err(Sense::INTERNAL);
    };
    mode::sense(&mode_state(open), page, subpage, control, descriptors, long_lba, ten)
}

pub(super) fn mode_select(open: &Open, list: &[u8], ten: bool, page_format: bool, save: bool) -> Result<(), Sense> {
    if save {
        return Err(Sense::cdb_field(1, 0)); // nothing is saved
    }
    if !page_format {
        return Err(Sense::cdb_field(1, 4)); // no vendor-specific pages
    }
    let state = mode_state(open);
    let settings = mode::select(&state, list, ten)?;
    if settings != state.settings {
        open.unit.set(settings);
        open.caused(Happening::Mode);
    }
    Ok(())
}

pub(super) fn read_capacity10(open: &Open) -> Vec<u8> {
    capacity::read_capacity10(open.disk.blocks(), open.disk.block_size()).to_vec()
}

pub(super) fn read_capacity16(open: &Open) -> Vec<u8> {
    let g = open.disk.geometry();
    let data = Capacity16 {
        blocks: g.blocks,
        block_size: g.block_size,
        physical_exponent: (g.physical_block_size / g.block_size).max(1).ilog2() as u8,
        thin: g.unmap && !g.read_only,
        reads_zeros: g.unmap && g.unmap_reads_zero && !g.read_only,
    };
    data.encode().to_vec()
}

pub(super) async fn start_stop(open: &Open, start: bool, eject: bool, condition: u8) -> Result<(), Sense> {
    match (condition, eject, start) {
        // Nothing to eject; loading what is loaded is done.
        (0, true, false) => Err(Sense::cdb_field(4, 1)),
        (0, _, true) => {
            open.unit.set_stopped(false);
            Ok(())
        }
        (0, false, false) => {
            // What is in the cache goes to the medium first (SBC-3 5.25).
            open.disk
                .perform(bdev::Io::flush())
                .await
                .map_err(|error| sense_of(error, true))?;
            open.unit.set_stopped(true);
            Ok(())
        }
        // Active, idle, standby, control, and forcing them: all the same to us.
        (1..=3 | 7 | 0xa | 0xb, ..) => Ok(()),
        _ => Err(Sense::cdb_field(4, 7)),
    }
}
