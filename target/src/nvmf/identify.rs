//! What the controller says about itself and its namespaces. Every field is true or zero.
use super::{
    ana,
    controller::{AER_LIMIT, Controller, ERROR_LOG},
    copy,
    options::{ONCS_RESERVATIONS, SubsystemConfig, TransportOptions},
    subsystem::{Namespace, Subsystem},
};
use bdev::Geometry;
use spec::nvme::{
    DISCOVERY_NQN, ascii_field,
    identify::{self, IdentifyController, IdentifyNamespace, IndependentNamespace, LbaFormat, NvmController},
    nqn_field, property,
};

/// Firmware revision: our version.
pub const FIRMWARE: &str = env!("CARGO_PKG_VERSION");

/// RESCAP: the six types, IEKEY as NVMe 1.3 and later define it, and persistence where there is a file for it.
fn rescap(n: &Namespace, masked_oncs: u16) -> u8 {
    if masked_oncs & ONCS_RESERVATIONS != 0 {
        return 0;
    }
    0x7e | 1 << 7 | u8::from(n.guard.kept().is_some())
}

/// Target-wide values that appear in Identify Controller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// CRDT1 to CRDT3 in 100 ms.
    pub crdt: [u16; 3],
}

/// Identify Controller (CNS 01h).
pub fn controller(c: &Controller, transport: &TransportOptions, delays: Delays) -> IdentifyController {
    let mut id = IdentifyController {
        firmware: ascii_field(FIRMWARE),
        cntlid: c.cntlid.into(),
        ver: property::VERSION_2_0.into(),
        ctratt: (identify::CTRATT_HOST_ID_128 | identify::CTRATT_TRAFFIC_KEEP_ALIVE).into(),
        aerl: (AER_LIMIT - 1) as u8,
        elpe: (ERROR_LOG - 1) as u8,
        kas: transport.kas.into(),
        mdts: mdts(transport.max_io_size),
        maxcmd: (transport.max_queue_depth.min(0xffff) as u16).into(),
        // SGLs, with offsets in capsules; bit 20: the address field is an offset; bit 21: transport data blocks.
        sgls: (1 | 1 << 20 | 1 << 21).into(),
        ..IdentifyController::default()
    };
    // Log pages may be read with an offset and more than 4 KiB at once (bit 2); command effects (1); supported pages (5).
    id.lpa = 1 << 1 | 1 << 2 | 1 << 5;
    match &c.subsystem {
        None => {
            id.cntrltype = 2;
            id.maxcmd = (transport.max_aq_depth.min(0xffff) as u16).into();
            id.oaes = identify::OAES_DISCOVERY_LOG.into();
            id.dctype = 1;
            id.subnqn = nqn_field(DISCOVERY_NQN);
            // A discovery controller keeps no error log and has no command effects page.
            id.elpe = 0;
            id.lpa = 1 << 2 | 1 << 5;
            id.serial = ascii_field("ASHLAR");
            id.model = ascii_field("Ashlar discovery controller");
        }
        Some(s) => io_controller(&mut id, s, transport, delays),
    }
    id
}

fn io_controller(id: &mut IdentifyController, s: &Subsystem, transport: &TransportOptions, delays: Delays) {
    id.serial = ascii_field(&s.serial);
    id.model = ascii_field(&s.model);
    id.cntrltype = 1;
    // Several ports and several controllers may lead to the same namespaces.
    id.cmic = 1 | 1 << 1;
    id.oaes = identify::OAES_NAMESPACE_ATTRIBUTE.into();
    if s.config.ana_reporting {
        id.cmic |= identify::CMIC_ANA;
        id.oaes = (identify::OAES_NAMESPACE_ATTRIBUTE | identify::OAES_ANA).into();
        id.anatt = ana::TRANSITION_SECONDS;
        id.anacap = identify::ANACAP_ALL_STATES;
        id.anagrpmax = s.config.max_namespaces.into();
        id.nanagrpid = s.config.max_namespaces.into();
    }
    id.crdt = delays.crdt.map(Into::into);
    // Four Abort commands at once.
    id.acl = 3;
    // One firmware slot, read-only.
    id.frmw = 1 | 1 << 1;
    // One power state, 0, about whose watts we know nothing.
    id.npss = 0;
    id.sqes = 0x66;
    id.cqes = 0x44;
    id.nn = s.config.max_namespaces.into();
    id.mnan = s.config.max_namespaces.into();
    let (masked_oncs, masked_fuses) = s.config.masked(transport);
    // Compare, Dataset Management, Write Zeroes, reservations, timestamp, Verify, Copy.
    let oncs = (1 | 1 << 2 | 1 << 3 | ONCS_RESERVATIONS | 1 << 6 | 1 << 7 | 1 << 8) & !masked_oncs;
    id.oncs = oncs.into();
    // Copy descriptor formats 0 and 2.
    id.ocfs = if oncs & 1 << 8 == 0 { 0 } else { 1 | 1 << 2 }.into();
    // Compare and Write; each namespace says how long (NACWU).
    id.fuses = (1 & !masked_fuses).into();
    // A cache may be there; Flush with NSID FFFFFFFFh flushes every namespace.
    id.vwc = 1 | 3 << 1;
    id.subnqn = nqn_field(s.nqn());
    id.ioccsz = ((64 + transport.in_capsule_data_size) / 16).into();
    id.iorcsz = 1.into();
    // One SGL descriptor a command.
    id.msdbd = 1;
}

/// MDTS for transfers of `max` bytes, in 4 KiB pages.
pub fn mdts(max: u32) -> u8 {
    (max / 4096).checked_ilog2().unwrap_or(0) as u8
}

/// Identify Namespace (CNS 00h).
pub fn namespace(n: &Namespace, g: &Geometry, ana_reporting: bool, max_io: u32, masked_oncs: u16) -> IdentifyNamespace {
    let ids = n.ids();
    let less_one = |blocks: u32| (blocks.clamp(1, 1 << 16) - 1) as u16;
    let mut id = IdentifyNamespace {
        nsze: g.blocks.into(),
        ncap: g.blocks.into(),
        nuse: g.blocks.into(),
        // Shared between controllers.
        nmic: 1,
        rescap: rescap(n, masked_oncs),
        nsattr: u8::from(g.read_only),
        anagrpid: group_of(n, ana_reporting).into(),
        nguid: ids.nguid,
        mssrl: copy::range_blocks(max_io, g.block_size).into(),
        mcl: copy::total_blocks(max_io, g.block_size).into(),
        msrc: (copy::RANGES - 1) as u8,
        // NSABP below says that this and its like are valid.
        nacwu: less_one(max_io / g.block_size).into(),
        eui64: ids.eui64,
        ..IdentifyNamespace::default()
    };
    id.lbaf[0] = LbaFormat {
        block_shift: g.block_shift() as u8,
        ..LbaFormat::default()
    };
    if g.unmap_reads_zero {
        // Deallocated blocks read as zeroes; Write Zeroes may deallocate.
        id.dlfeat = 1 | 1 << 3;
    }
    // NSABP: atomicity fields of this namespace; a single block is always whole.
    id.nsfeat = 1 << 1;
    let physical = g.physical_block_size / g.block_size;
    if physical > 1 || g.optimal_io > 0 || g.unmap_granularity > 1 {
        // OPTPERF: the fields below are valid.
        id.nsfeat |= 1 << 4;
        id.npwg = less_one(physical).into();
        id.npwa = less_one(physical).into();
        id.npdg = less_one(g.unmap_granularity).into();
        id.npda = less_one(g.unmap_granularity).into();
        id.nows = less_one(g.optimal_io.max(physical)).into();
    }
    let bytes = u128::from(g.bytes());
    id.nvmcap = bytes.to_le_bytes();
    id
}

fn group_of(n: &Namespace, ana_reporting: bool) -> u32 {
    if ana_reporting { n.info.anagrpid } else { 0 }
}

/// Identify Namespace for any command set (CNS 08h).
pub fn independent(n: &Namespace, g: &Geometry, ana_reporting: bool, masked_oncs: u16) -> IndependentNamespace {
    IndependentNamespace {
        nmic: 1,
        rescap: rescap(n, masked_oncs),
        anagrpid: group_of(n, ana_reporting).into(),
        nsattr: u8::from(g.read_only),
        nstat: 1,
        ..IndependentNamespace::default()
    }
}

/// Identify Controller of the NVM command set (CNS 06h).
pub fn nvm_controller(config: &SubsystemConfig, max_io: u32) -> NvmController {
    NvmController {
        vsl: mdts(max_io),
        wzsl: config.wzsl,
        dmrl: if config.dmrsl > 0 { u8::MAX } else { 0 },
        dmrsl: config.dmrsl.into(),
        dmsl: (u64::from(config.dmrsl) * 255).into(),
        ..NvmController::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mdts_is_a_power_of_two_of_pages() {
        assert_eq!([mdts(4096), mdts(8192), mdts(128 << 10), mdts(1 << 20)], [0, 1, 5, 8]);
    }
}
