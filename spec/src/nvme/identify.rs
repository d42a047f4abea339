//! Identify data structures: who the controller is and what its namespaces look like (Base 2.0d, 5.17; NVM 1.0d, 4.1.5).
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// CNS values.
pub mod cns {
    #![allow(missing_docs)]
    pub const NAMESPACE: u8 = 0x00;
    pub const CONTROLLER: u8 = 0x01;
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
    pub const NAMESPACE_IN_COMMAND_SET: u8 = 0x05;
    pub const CONTROLLER_IN_COMMAND_SET: u8 = 0x06;
    pub const ACTIVE_NAMESPACES_IN_COMMAND_SET: u8 = 0x07;
    pub const NAMESPACE_ANY_COMMAND_SET: u8 = 0x08;
    pub const ALLOCATED_NAMESPACES: u8 = 0x10;
    pub const ALLOCATED_NAMESPACE: u8 = 0x11;
    pub const NAMESPACE_CONTROLLERS: u8 = 0x12;
    pub const CONTROLLERS: u8 = 0x13;
    pub const COMMAND_SETS: u8 = 0x1c;
}

/// Every Identify structure is this long.
pub const LEN: usize = 4096;

/// Identify Controller (Base 2.0d, figure 275). Field names are the document's, spelled out where that helps.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IdentifyController {
    pub vid: U16,
    pub ssvid: U16,
    pub serial: [u8; 20],
    pub model: [u8; 40],
    pub firmware: [u8; 8],
    pub rab: u8,
    pub ieee: [u8; 3],
    pub cmic: u8,
    /// Largest transfer is 2^mdts pages of 4 KiB; 0 is no limit.
    pub mdts: u8,
    pub cntlid: U16,
    pub ver: U32,
    pub rtd3r: U32,
    pub rtd3e: U32,
    pub oaes: U32,
    pub ctratt: U32,
    pub rrls: U16,
    pub reserved102: [u8; 9],
    /// 1 I/O controller, 2 discovery controller.
    pub cntrltype: u8,
    pub fguid: [u8; 16],
    /// Command retry delay times in 100 ms.
    pub crdt: [U16; 3],
    pub reserved134: [u8; 119],
    pub nvmsr: u8,
    pub vwci: u8,
    pub mec: u8,
    pub oacs: U16,
    /// Concurrent Abort commands, less one.
    pub acl: u8,
    /// Concurrent Asynchronous Event Requests, less one.
    pub aerl: u8,
    pub frmw: u8,
    pub lpa: u8,
    /// Error log entries, less one.
    pub elpe: u8,
    pub npss: u8,
    pub avscc: u8,
    pub apsta: u8,
    pub wctemp: U16,
    pub cctemp: U16,
    pub mtfa: U16,
    pub hmpre: U32,
    pub hmmin: U32,
    pub tnvmcap: [u8; 16],
    pub unvmcap: [u8; 16],
    pub rpmbs: U32,
    pub edstt: U16,
    pub dsto: u8,
    pub fwug: u8,
    /// Granularity of the keep-alive timer in 100 ms.
    pub kas: U16,
    pub hctma: U16,
    pub mntmt: U16,
    pub mxtmt: U16,
    pub sanicap: U32,
    pub hmminds: U32,
    pub hmmaxd: U16,
    pub nsetidmax: U16,
    pub endgidmax: U16,
    pub anatt: u8,
    pub anacap: u8,
    pub anagrpmax: U32,
    pub nanagrpid: U32,
    pub pels: U32,
    pub domain: U16,
    pub reserved358: [u8; 10],
    pub megcap: [u8; 16],
    pub reserved384: [u8; 128],
    /// Submission entry sizes as powers of two: required in 3:0, largest in 7:4.
    pub sqes: u8,
    pub cqes: u8,
    /// Commands a queue takes at once.
    pub maxcmd: U16,
    /// Largest namespace id.
    pub nn: U32,
    /// 0 compare, 1 write uncorrectable, 2 dataset management, 3 write zeroes, 4 save field, 5 reservations, 6 timestamp, 7 verify, 8 copy.
    pub oncs: U16,
    pub fuses: U16,
    pub fna: u8,
    /// Bit 0 cache present, bits 2:1 what Flush with NSID FFFFFFFFh does (3: flushes all).
    pub vwc: u8,
    pub awun: U16,
    pub awupf: U16,
    pub icsvscc: u8,
    pub nwpc: u8,
    pub acwu: U16,
    /// Copy descriptor formats: a bit for each.
    pub ocfs: U16,
    pub sgls: U32,
    pub mnan: U32,
    pub maxdna: [u8; 16],
    pub maxcna: U32,
    pub oaqd: U32,
    pub reserved568: [u8; 200],
    pub subnqn: [u8; 256],
    pub reserved1024: [u8; 768],
    /// Command capsule in 16-byte units.
    pub ioccsz: U32,
    /// Response capsule in 16-byte units.
    pub iorcsz: U32,
    pub icdoff: U16,
    pub fcatt: u8,
    pub msdbd: u8,
    pub ofcs: U16,
    /// 1 direct discovery controller; 0 when not reported.
    pub dctype: u8,
    pub reserved1807: [u8; 241],
    pub power_states: [PowerState; 32],
    pub vendor: [u8; 1024],
}

/// Power State Descriptor (Base 2.0d, figure 276). A software controller has one and knows nothing about its watts.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PowerState {
    /// MP in centiwatts; 0 is "not reported".
    pub max_power: U16,
    rest: [u8; 30],
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<IdentifyController>() == LEN);
    assert!(offset_of!(IdentifyController, mdts) == 77);
    assert!(offset_of!(IdentifyController, oaes) == 92);
    assert!(offset_of!(IdentifyController, cntrltype) == 111);
    assert!(offset_of!(IdentifyController, crdt) == 128);
    assert!(offset_of!(IdentifyController, oacs) == 256);
    assert!(offset_of!(IdentifyController, kas) == 320);
    assert!(offset_of!(IdentifyController, anatt) == 342);
    assert!(offset_of!(IdentifyController, domain) == 356);
    assert!(offset_of!(IdentifyController, sqes) == 512);
    assert!(offset_of!(IdentifyController, sgls) == 536);
    assert!(offset_of!(IdentifyController, subnqn) == 768);
    assert!(offset_of!(IdentifyController, ioccsz) == 1792);
    assert!(offset_of!(IdentifyController, power_states) == 2048);
};

/// CTRATT bit 0: host identifiers are 16 bytes.
pub const CTRATT_HOST_ID_128: u32 = 1;
/// CTRATT bit 6: traffic on any queue counts as keep-alive.
pub const CTRATT_TRAFFIC_KEEP_ALIVE: u32 = 1 << 6;

/// CMIC bit 3: the controller reports asymmetric access.
pub const CMIC_ANA: u8 = 1 << 3;
/// ANACAP: all five states are reported.
pub const ANACAP_ALL_STATES: u8 = 0x1f;

/// OAES bit 8: namespace attribute notices are sent.
pub const OAES_NAMESPACE_ATTRIBUTE: u32 = 1 << 8;
/// OAES bit 11: ANA change notices are sent.
pub const OAES_ANA: u32 = 1 << 11;
/// OAES bit 31: discovery log change notices are sent.
pub const OAES_DISCOVERY_LOG: u32 = 1 << 31;

impl Default for IdentifyController {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Identify Namespace of the NVM command set (NVM 1.0d, figure 97).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IdentifyNamespace {
    pub nsze: U64,
    pub ncap: U64,
    pub nuse: U64,
    /// 0 thin, 2 deallocated error, 4 the optimal I/O fields below are valid.
    pub nsfeat: u8,
    pub nlbaf: u8,
    pub flbas: u8,
    pub mc: u8,
    pub dpc: u8,
    pub dps: u8,
    pub nmic: u8,
    pub rescap: u8,
    pub fpi: u8,
    /// Bits 2:0 what deallocated blocks read (1: zeroes), bit 3 write zeroes may deallocate.
    pub dlfeat: u8,
    pub nawun: U16,
    pub nawupf: U16,
    pub nacwu: U16,
    pub nabsn: U16,
    pub nabo: U16,
    pub nabspf: U16,
    pub noiob: U16,
    pub nvmcap: [u8; 16],
    pub npwg: U16,
    pub npwa: U16,
    pub npdg: U16,
    pub npda: U16,
    pub nows: U16,
    pub mssrl: U16,
    pub mcl: U32,
    pub msrc: u8,
    pub reserved81: [u8; 11],
    pub anagrpid: U32,
    pub reserved96: [u8; 3],
    /// Bit 0: write protected.
    pub nsattr: u8,
    pub nvmsetid: U16,
    pub endgid: U16,
    pub nguid: [u8; 16],
    pub eui64: [u8; 8],
    pub lbaf: [LbaFormat; 64],
    pub vendor: [u8; 3712],
}

/// LBA format (NVM 1.0d, figure 98).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LbaFormat {
    /// MS: metadata bytes.
    pub metadata: U16,
    /// LBADS: log2 of the block size.
    pub block_shift: u8,
    /// RP: relative performance, 0 best.
    pub performance: u8,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<IdentifyNamespace>() == LEN);
    assert!(offset_of!(IdentifyNamespace, noiob) == 46);
    assert!(offset_of!(IdentifyNamespace, anagrpid) == 92);
    assert!(offset_of!(IdentifyNamespace, nguid) == 104);
    assert!(offset_of!(IdentifyNamespace, lbaf) == 128);
};

impl Default for IdentifyNamespace {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Identify for any I/O command set (Base 2.0d, figure 280).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct IndependentNamespace {
    pub nsfeat: u8,
    pub nmic: u8,
    pub rescap: u8,
    pub fpi: u8,
    pub anagrpid: U32,
    pub nsattr: u8,
    pub reserved9: u8,
    pub nvmsetid: U16,
    pub endgid: U16,
    /// Bit 0: ready.
    pub nstat: u8,
    pub reserved15: [u8; 4081],
}

const _: () = assert!(size_of::<IndependentNamespace>() == LEN);

impl Default for IndependentNamespace {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// Identify Controller of the NVM command set (NVM 1.0d, figure 102): limits that MDTS does not cover.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct NvmController {
    pub vsl: u8,
    /// Largest Write Zeroes is 2^wzsl pages of 4 KiB; 0 is no limit.
    pub wzsl: u8,
    pub wusl: u8,
    /// Ranges of one Dataset Management; 0 is not reported.
    pub dmrl: u8,
    /// Blocks of one range.
    pub dmrsl: U32,
    /// Blocks of all ranges together.
    pub dmsl: U64,
    pub reserved16: [u8; 4080],
}

const _: () = assert!(size_of::<NvmController>() == LEN);

impl Default for NvmController {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// What identifies a namespace beyond its number (Base 2.0d, figure 278). Zeroes mean "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamespaceIds {
    /// IEEE extended unique identifier.
    pub eui64: [u8; 8],
    /// Namespace globally unique identifier.
    pub nguid: [u8; 16],
    /// UUID, RFC 4122 byte order.
    pub uuid: [u8; 16],
}

impl NamespaceIds {
    /// The descriptor list (CNS 03h): those ids that are there, then the command set (NVM).
    pub fn descriptors(&self) -> [u8; LEN] {
        let mut list = [0; LEN];
        let mut at = 0;
        let mut put = |kind: u8, value: &[u8]| {
            list[at] = kind;
            list[at + 1] = value.len() as u8;
            list[at + 4..at + 4 + value.len()].copy_from_slice(value);
            at += 4 + value.len();
        };
        if self.eui64 != [0; 8] {
            put(1, &self.eui64);
        }
        if self.nguid != [0; 16] {
            put(2, &self.nguid);
        }
        if self.uuid != [0; 16] {
            put(3, &self.uuid);
        }
        put(4, &[0]);
        list
    }

    /// Reads a descriptor list back; stops at its end or at the first malformed entry.
    pub fn from_descriptors(mut list: &[u8]) -> Self {
        let mut ids = Self::default();
        while let [kind @ 1..=255, len, _, _, rest @ ..] = list {
            let Some((value, after)) = rest.split_at_checked((*len).into()) else {
                break;
            };
            match (kind, value.len()) {
                (1, 8) => ids.eui64.copy_from_slice(value),
                (2, 16) => ids.nguid.copy_from_slice(value),
                (3, 16) => ids.uuid.copy_from_slice(value),
                _ => {}
            }
            list = after;
        }
        ids
    }
}

/// A namespace list (CNS 02h): those of `ids` (ascending) greater than `after`, at most 1,024.
pub fn namespace_list(ids: impl Iterator<Item = u32>, after: u32) -> [u8; LEN] {
    let mut list = [0; LEN];
    for (entry, id) in list.chunks_exact_mut(4).zip(ids.filter(|&id| id > after)) {
        entry.copy_from_slice(&id.to_le_bytes());
    }
    list
}

/// A controller list (Base 2.0d, 4.4.1): how many, then their ids (ascending), at most 2,047.
pub fn controller_list(ids: impl Iterator<Item = u16>) -> [u8; LEN] {
    let mut list = [0; LEN];
    let mut count = 0u16;
    for (entry, id) in list[2..].chunks_exact_mut(2).zip(ids) {
        entry.copy_from_slice(&id.to_le_bytes());
        count += 1;
    }
    list[..2].copy_from_slice(&count.to_le_bytes());
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_these_bytes_and_come_back() {
        let ids = NamespaceIds {
            eui64: [1; 8],
            nguid: [2; 16],
            uuid: [3; 16],
        };
        let list = ids.descriptors();
        assert_eq!(list[..12], [1, 8, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(list[12..18], [2, 16, 0, 0, 2, 2]);
        assert_eq!(list[32..38], [3, 16, 0, 0, 3, 3]);
        assert_eq!(list[52..58], [4, 1, 0, 0, 0, 0]);
        assert_eq!(NamespaceIds::from_descriptors(&list), ids);
        let none = NamespaceIds::default();
        assert_eq!(none.descriptors()[..6], [4, 1, 0, 0, 0, 0]);
        assert_eq!(NamespaceIds::from_descriptors(&[3, 16, 0, 0, 1]), none);
        assert_eq!(NamespaceIds::from_descriptors(&[3]), none);
    }

    #[test]
    fn lists_start_behind_the_given_id() {
        let list = namespace_list([1, 2, 5, 9].into_iter(), 2);
        assert_eq!(list[..12], [5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(controller_list([3, 0x102].into_iter())[..8], [2, 0, 3, 0, 2, 1, 0, 0]);
        assert_eq!(controller_list(1..=3000)[..2], 2047u16.to_le_bytes());
        let many = namespace_list(1..=2000, 0);
        assert_eq!(many[4092..], 1024u32.to_le_bytes());
    }

    #[test]
    fn controller_fields_stand_where_the_book_says() {
        let mut id = IdentifyController {
            cntlid: 0x0102.into(),
            ver: super::super::property::VERSION_2_0.into(),
            ..Default::default()
        };
        id.serial = super::super::ascii_field("S1");
        id.nn = 32.into();
        let b = id.as_bytes();
        assert_eq!(
            (&b[4..7], &b[78..84], &b[516..520]),
            (&b"S1 "[..], &[2, 1, 0, 0, 2, 0][..], &[32, 0, 0, 0][..])
        );
        assert!(IdentifyController::ref_from_bytes(b).is_ok() && IdentifyController::ref_from_bytes(&b[1..]).is_err());
    }
}
