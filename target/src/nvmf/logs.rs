//! Log pages (Base 2.0d, 5.16): what happened, what is there, what changed.
use super::{ana, controller::Controller, features, identify::FIRMWARE, subsystem::Subsystem};
use spec::nvme::{
    NSID_ALL, Status,
    ana::GROUPS_ONLY,
    ascii_field,
    command::{admin, io},
    feature::{self, fid},
    log::{self, GetLogPage, Health, page},
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use zerocopy::IntoBytes;

/// Log pages of an I/O controller.
const IO_PAGES: [u8; 8] = [
    page::SUPPORTED,
    page::ERRORS,
    page::HEALTH,
    page::FIRMWARE,
    page::CHANGED_NAMESPACES,
    page::COMMAND_EFFECTS,
    page::FEATURE_EFFECTS,
    page::RESERVATION,
];
/// Log pages of a discovery controller.
const DISCOVERY_PAGES: [u8; 3] = [page::SUPPORTED, page::FEATURE_EFFECTS, page::DISCOVERY];

/// Admin commands of an I/O controller. Fabrics commands have no row: their opcode is one for many.
pub const ADMIN: [u8; 7] = [
    admin::GET_LOG_PAGE,
    admin::IDENTIFY,
    admin::ABORT,
    admin::SET_FEATURES,
    admin::GET_FEATURES,
    admin::ASYNC_EVENT_REQUEST,
    admin::KEEP_ALIVE,
];

/// I/O commands, and whether they change data.
pub const IO: [(u8, bool); 12] = [
    (io::FLUSH, false),
    (io::WRITE, true),
    (io::READ, false),
    (io::COMPARE, false),
    (io::WRITE_ZEROES, true),
    (io::DATASET_MANAGEMENT, true),
    (io::RESERVATION_REGISTER, false),
    (io::RESERVATION_REPORT, false),
    (io::RESERVATION_ACQUIRE, false),
    (io::RESERVATION_RELEASE, false),
    (io::VERIFY, false),
    (io::COPY, true),
];

/// The log pages of controller `c`.
fn pages(c: &Controller) -> Vec<u8> {
    let Some(subsystem) = &c.subsystem else {
        return DISCOVERY_PAGES.to_vec();
    };
    let ana = subsystem.config.ana_reporting.then_some(page::ANA);
    IO_PAGES.into_iter().chain(ana).collect()
}

/// The whole of a page of controller `c`, all but the discovery log.
pub fn page(c: &Controller, ask: &GetLogPage, nsid: u32, masked_oncs: u16) -> Result<Vec<u8>, Status> {
    let pages = pages(c);
    if !pages.contains(&ask.page) {
        return Err(Status::INVALID_LOG_PAGE);
    }
    let misfit = match ask.page {
        // LPA bit 0: there is no health of single namespaces.
        page::HEALTH => !matches!(nsid, 0 | NSID_ALL),
        // Of the NVM command set, the only one.
        page::COMMAND_EFFECTS => ask.command_set != 0,
        _ => false,
    };
    if misfit {
        return Err(Status::INVALID_FIELD);
    }
    Ok(match ask.page {
        page::SUPPORTED => log::by_identifier(&pages.iter().map(|&p| (p, 1)).collect::<Vec<_>>()).to_vec(),
        page::ERRORS => {
            let mut entries = vec![0; super::controller::ERROR_LOG * 64];
            for (to, entry) in entries.chunks_exact_mut(64).zip(c.state().errors()) {
                to.copy_from_slice(entry.as_bytes());
            }
            entries
        }
        page::HEALTH => {
            let subsystem = c.subsystem.as_ref().ok_or(Status::INVALID_LOG_PAGE)?;
            health(c, subsystem).as_bytes().to_vec()
        }
        page::FIRMWARE => log::firmware_slot(ascii_field(FIRMWARE)).to_vec(),
        page::CHANGED_NAMESPACES => c.state().take_changed(ask.retain).to_vec(),
        page::RESERVATION => c.state().take_notice(ask.retain).to_vec(),
        page::ANA => ana::log(c, ask.specific & GROUPS_ONLY != 0),
        page::COMMAND_EFFECTS => {
            let admin = ADMIN.map(|opcode| (opcode, log::EFFECT_SUPPORTED));
            let there = IO
                .into_iter()
                .filter(|(opcode, _)| masked_oncs & super::io::oncs(*opcode) == 0);
            let io = there.map(|(opcode, changes)| {
                (
                    opcode,
                    log::EFFECT_SUPPORTED | if changes { log::EFFECT_CHANGES_DATA } else { 0 },
                )
            });
            log::command_effects(&admin, &io.collect::<Vec<_>>()).to_vec()
        }
        page::FEATURE_EFFECTS => {
            let discovery = c.is_discovery();
            let known = |id| {
                !discovery
                    || matches!(
                        id,
                        fid::ASYNC_EVENT_CONFIG | fid::KEEP_ALIVE_TIMER | fid::HOST_IDENTIFIER
                    )
            };
            let rows: Vec<_> = features::SUPPORTED
                .iter()
                .filter(|(id, _)| known(*id))
                .map(
                    |&(id, capabilities)| match capabilities & feature::CAPABILITY_PER_NAMESPACE {
                        0 => (id, log::FEATURE_SUPPORTED),
                        _ => (id, log::FEATURE_OF_NAMESPACE),
                    },
                )
                .collect();
            log::by_identifier(&rows).to_vec()
        }
        _ => return Err(Status::INVALID_LOG_PAGE),
    })
}

/// SMART / Health: of the subsystem, since the process started; without a sensor or a wearing medium. Errors are the controller's.
fn health(c: &Controller, subsystem: &Subsystem) -> Health {
    let served = &subsystem.served;
    let count = |counter: &AtomicU64| u128::from(counter.load(Relaxed));
    let thousands = |counter: &AtomicU64| count(counter).div_ceil(1000).into();
    Health {
        spare: 100,
        units_read: thousands(&served.units_read),
        units_written: thousands(&served.units_written),
        host_reads: count(&served.reads).into(),
        host_writes: count(&served.writes).into(),
        power_on_hours: u128::from(subsystem.born.elapsed().as_secs() / 3600).into(),
        media_errors: count(&served.media_errors).into(),
        error_entries: u128::from(c.state().error_count()).into(),
        ..Health::default()
    }
}
