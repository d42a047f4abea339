//! MODE SENSE and MODE SELECT (SPC-4 6.11 to 6.14): which parameters a unit has, and what changing them does.
//!
//! Mode parameters are of the unit, not of a nexus (page 87h says so): whoever changes one, everybody else hears of it.
//! Nothing is saved: PC = 11b and SP = 1 are refused, PS is 0, and a reset or restart brings the initial values back.
use super::{nexus::Open, unit::Happening};
use spec::scsi::{
    Command, Sense,
    mode::{self, ModeState},
};

fn state(open: &Open) -> ModeState {
    let g = open.disk.geometry();
    ModeState {
        settings: open.unit.settings(),
        initial: open.unit.initial(),
        read_only: open.read_only(),
        volatile_cache: g.volatile_cache,
        thin: open.thin(),
        blocks: if open.unit.medium().is_ok() { g.blocks } else { 0 },
        block_size: g.block_size,
    }
}

pub(super) fn sense(open: &Open, command: &Command) -> Result<Vec<u8>, Sense> {
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
    mode::sense(&state(open), page, subpage, control, descriptors, long_lba, ten)
}

pub(super) async fn select(open: &Open, list: &[u8], ten: bool, page_format: bool, save: bool) -> Result<(), Sense> {
    if save {
        return Err(Sense::cdb_field(1, 0)); // nothing is saved
    }
    if !page_format {
        return Err(Sense::cdb_field(1, 4)); // no vendor-specific pages
    }
    let state = state(open);
    let settings = mode::select(&state, list, ten)?;
    if settings == state.settings {
        return Ok(());
    }
    open.unit.set(settings);
    open.caused(Happening::Mode);
    // What went into the cache while there was one: from now on every status means stable storage.
    if state.settings.write_cache && !settings.write_cache {
        open.settle().await?;
    }
    Ok(())
}
