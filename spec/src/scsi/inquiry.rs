//! Standard INQUIRY data (SPC-4 6.4.2) and vital product data pages (SPC-4 7.8, SBC-3 6.6).
use super::{opcodes, vpd};

/// PERIPHERAL QUALIFIER 011b, type 1fh: no unit at this number.
pub const NO_UNIT: u8 = 0x7f;

/// Who answers, in the shapes INQUIRY wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// T10 vendor identification, padded to eight bytes when encoded.
    pub vendor: String,
    /// Product identification, sixteen bytes.
    pub product: String,
    /// Product revision level, four bytes.
    pub revision: String,
    /// Unit serial number, printable ASCII.
    pub serial: String,
    /// The volume's UUID; its name for ever.
    pub uuid: [u8; 16],
    /// The target's iSCSI name, for the device and port designators.
    pub target: String,
    /// Target portal group tag, which is the relative target port identifier.
    pub portal_group: u16,
    /// Tags of all portal groups the target can be reached through.
    pub ports: Vec<u16>,
    /// The medium can be taken out (RMB).
    pub removable: bool,
    /// Hosts may set the states of target port groups.
    pub explicit_access: bool,
    /// There is a volatile cache (V_SUP).
    pub volatile_cache: bool,
}

/// What the block pages tell (SBC-3 6.6.3 to 6.6.5). Counts are in logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest READ, WRITE or VERIFY.
    pub transfer: u32,
    /// Granularity that suits the unit.
    pub granularity: u16,
    /// Length that suits the unit.
    pub optimal: u32,
    /// Longest range of blocks in an UNMAP; 0: no UNMAP.
    pub unmap: u32,
    /// Most descriptors in an UNMAP.
    pub unmap_descriptors: u32,
    /// What UNMAP works in.
    pub unmap_granularity: u32,
    /// A WRITE SAME of no blocks is an error (WSNZ) and not one to the end.
    pub write_same_non_zero: bool,
    /// Most blocks a COMPARE AND WRITE compares.
    pub compare_and_write: u8,
    /// Longest WRITE ATOMIC, at any address; 0: there is none.
    pub atomic: u32,
    /// Longest WRITE SAME.
    pub write_same: u64,
    /// Unmapped blocks read as zeros.
    pub reads_zeros: bool,
    /// SANITIZE BLOCK ERASE is there.
    pub block_erase: bool,
    /// SANITIZE has CRYPTOGRAPHIC ERASE, after which blocks can be read, whatever is in them.
    pub crypto_erase: bool,
    /// It turns.
    pub rotational: bool,
}

pub(super) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [b' '; N];
    for (to, from) in out.iter_mut().zip(text.bytes()) {
        // SPC-4 4.4.1: left-aligned printable ASCII.
        *to = if from.is_ascii_graphic() || from == b' ' {
            from
        } else {
            b'_'
        };
    }
    out
}

/// Standard data: a direct-access block device over iSCSI. VERSION says SPC-4, the newest that every host has heard of; what
/// is done of SPC-5 and SBC-4 is said by version descriptors.
pub fn standard(id: &Identity) -> [u8; 96] {
    let mut out = [0; 96];
    out[1] = u8::from(id.removable) << 7;
    out[2] = 0x06; // SPC-4
    out[3] = 0x12; // HISUP, response data format 2
    out[4] = 91;
    // TPGS and 3PC: what the table of commands has.
    let implicit = u8::from(opcodes::exists(0xa3, 0x0a));
    let explicit = u8::from(id.explicit_access && opcodes::exists(0xa4, 0x0a));
    out[5] = explicit << 5 | implicit << 4 | u8::from(opcodes::exists(0x83, 0x00)) << 3;
    out[6] = u8::from(id.ports.len() > 1) << 4; // MULTIP
    out[7] = 0x02; // CMDQUE
    out[8..16].copy_from_slice(&padded::<8>(&id.vendor));
    out[16..32].copy_from_slice(&padded::<16>(&id.product));
    out[32..36].copy_from_slice(&padded::<4>(&id.revision));
    // Version descriptors: SAM-5, iSCSI, SPC-5, SPC-4, SBC-4, SBC-3, no particular revision.
    let versions = [0x00a0u16, 0x0960, 0x05c0, 0x0460, 0x0600, 0x04c0];
    for (i, version) in versions.into_iter().enumerate() {
        out[58 + 2 * i..60 + 2 * i].copy_from_slice(&version.to_be_bytes());
    }
    out
}

/// Standard data for a number nobody has.
pub fn absent() -> [u8; 96] {
    let mut out = [0; 96];
    (out[0], out[2], out[3], out[4]) = (NO_UNIT, 0x06, 0x12, 91);
    out
}

/// Supported vital product data pages.
pub const PAGES: [u8; 11] = [0x00, 0x80, 0x83, 0x85, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2];

/// A vital product data page, uncut; `None` if there is no such page.
pub fn vpd(page: u8, id: &Identity, limits: &Limits) -> Option<Vec<u8>> {
    let body = match page {
        0x00 => PAGES.to_vec(),
        0x80 => serial(&id.serial),
        0x83 => vpd::identification(id),
        0x85 => vpd::management(),
        0x86 => vpd::extended(id),
        0x87 => vpd::policy(),
        0x88 => vpd::ports(id),
        0x8f => super::copy::page(),
        0xb0 => block_limits(limits).to_vec(),
        0xb1 => {
            let mut body = vec![0; 60];
            // 0 tells nothing, 1 is "does not turn".
            body[1] = u8::from(!limits.rotational);
            // WABEREQ and WACEREQ 01b: after a block erase or a cryptographic one, reads succeed.
            body[3] = u8::from(limits.block_erase) << 6 | u8::from(limits.crypto_erase) << 4;
            body
        }
        0xb2 => {
            let unmap = limits.unmap > 0;
            // LBPU, LBPWS, LBPWS10, LBPRZ (001b: zeros); provisioning type 2 is thin.
            let bits = if unmap { 0xe0 } else { 0 } | u8::from(limits.reads_zeros) << 2;
            vec![0, bits, if unmap { 2 } else { 0 }, 0]
        }
        _ => return None,
    };
    let mut out = vec![0, page];
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(&body);
    Some(out)
}

pub(super) fn serial(serial: &str) -> Vec<u8> {
    serial.bytes().filter(u8::is_ascii_graphic).take(252).collect()
}

fn block_limits(limits: &Limits) -> [u8; 60] {
    let mut out = [0; 60];
    // Offsets are those of the page less its four bytes of header.
    out[0] = u8::from(limits.write_same_non_zero);
    out[1] = limits.compare_and_write;
    out[2..4].copy_from_slice(&limits.granularity.to_be_bytes());
    out[4..8].copy_from_slice(&limits.transfer.to_be_bytes());
    out[8..12].copy_from_slice(&limits.optimal.to_be_bytes());
    if limits.unmap > 0 {
        out[16..20].copy_from_slice(&limits.unmap.to_be_bytes());
        out[20..24].copy_from_slice(&limits.unmap_descriptors.to_be_bytes());
        out[24..28].copy_from_slice(&limits.unmap_granularity.to_be_bytes());
        out[28] = 0x80; // UGAVALID, alignment 0
    }
    out[32..40].copy_from_slice(&limits.write_same.to_be_bytes());
    // MAXIMUM ATOMIC TRANSFER LENGTH; no alignment and no granularity are asked for; the same with an ATOMIC BOUNDARY, and
    // MAXIMUM ATOMIC BOUNDARY SIZE.
    for at in [40, 52, 56] {
        out[at..at + 4].copy_from_slice(&limits.atomic.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            vendor: "ASHLAR".into(),
            product: "quarry".into(),
            revision: "0.1".into(),
            serial: "5eed".into(),
            uuid: *b"\x01\x02\x03\x04\x05\x06\x47\x08\x89\x0a\x0b\x0c\x0d\x0e\x0f\x10",
            target: "iqn.2016-06.io.spdk:a".into(),
            portal_group: 1,
            ports: vec![1],
            ..Identity::default()
        }
    }

    #[test]
    fn standard_data_is_padded_and_names_its_standards() {
        let data = standard(&identity());
        assert_eq!(data[..5], [0, 0, 6, 0x12, 91]);
        assert_eq!((data[5] & 0xcf, data[6..8].to_vec()), (8, vec![0, 2]));
        let two = Identity {
            ports: vec![1, 2],
            removable: true,
            ..identity()
        };
        assert_eq!((standard(&two)[1], standard(&two)[6]), (0x80, 0x10));
        assert_eq!(&data[8..36], b"ASHLAR  quarry          0.1 ");
        assert_eq!(data[58..72], [0, 0xa0, 9, 0x60, 5, 0xc0, 4, 0x60, 6, 0, 4, 0xc0, 0, 0]);
        assert_eq!(absent()[0], 0x7f);
    }

    #[test]
    fn the_block_pages_stand_at_their_offsets() {
        let limits = Limits {
            transfer: 0x4000,
            granularity: 8,
            optimal: 0x80,
            unmap: 0x10_0000,
            unmap_descriptors: 256,
            unmap_granularity: 8,
            write_same_non_zero: true,
            compare_and_write: 0xff,
            atomic: 0x4000,
            write_same: 0x20_0000,
            reads_zeros: true,
            block_erase: true,
            crypto_erase: true,
            rotational: false,
        };
        let page = vpd(0xb0, &identity(), &limits).unwrap();
        assert_eq!((page.len(), &page[..4]), (64, &[0, 0xb0, 0, 60][..]));
        assert_eq!(page[4..6], [1, 0xff]);
        let atomic = [0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0x40, 0];
        assert_eq!(page[44..64], atomic);
        assert_eq!(page[6..16], [0, 8, 0, 0, 0x40, 0, 0, 0, 0, 0x80]);
        assert_eq!(page[20..33], [0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80]);
        assert_eq!(page[36..44], [0, 0, 0, 0, 0, 0x20, 0, 0]);
        assert_eq!(vpd(0xb2, &identity(), &limits).unwrap()[4..], [0, 0xe4, 2, 0]);
        assert_eq!(vpd(0xb1, &identity(), &limits).unwrap()[4..8], [0, 1, 0, 0x50]);
        assert_eq!(
            vpd(0x00, &identity(), &limits).unwrap(),
            [
                0, 0, 0, 11, 0, 0x80, 0x83, 0x85, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2
            ]
        );
        assert_eq!(vpd(0x80, &identity(), &limits).unwrap(), *b"\0\x80\0\x045eed");
        assert_eq!(vpd(0x81, &identity(), &limits), None);
        for code in PAGES {
            let page = vpd(code, &identity(), &limits).unwrap();
            assert_eq!(
                (page[1], usize::from(super::super::be16(&page, 2))),
                (code, page.len() - 4)
            );
        }
    }
}
