//! Vital product data pages about the device as a whole (SPC-4 7.8): what names it has, what it can do, where its ports are.
//! The pages about blocks are in [`inquiry`](super::inquiry).
//!
//! ```text
//! 83  device identification   the unit (NAA, UUID, T10 vendor), this port, its group, the device (iSCSI name)
//! 85  management addresses    none: the management socket is no network service
//! 86  extended INQUIRY data   which task attributes, caches and lengths there are
//! 87  mode page policy        every page is shared by all nexuses
//! 88  SCSI ports              every portal group the target can be reached through
//! ```
use super::{
    inquiry::{Identity, padded, serial},
    sense,
};

/// Page 85h: descriptors of network services. There are none.
pub(super) fn management() -> Vec<u8> {
    Vec::new()
}

/// Page 86h, less its four bytes of header.
pub(super) fn extended(id: &Identity) -> Vec<u8> {
    let mut body = vec![0; 60];
    body[1] = 0x01; // SIMPSUP: simple tasks; the host that wants order waits
    body[2] = u8::from(id.volatile_cache); // V_SUP
    body[3] = 0x01; // LUICLR: one REPORT LUNS clears "LUNs have changed" at all units of the nexus
    body[9] = sense::MAX_LEN as u8; // MAXIMUM SUPPORTED SENSE DATA LENGTH
    body
}

/// Page 87h: one descriptor for all pages and subpages, shared (00b).
pub(super) fn policy() -> Vec<u8> {
    vec![0x3f, 0xff, 0x00, 0]
}

/// Page 88h: a descriptor for each port, with its SCSI name string. Initiator ports have no place here.
pub(super) fn ports(id: &Identity) -> Vec<u8> {
    let mut out = Vec::new();
    for port in &id.ports {
        let [hi, lo] = port.to_be_bytes();
        let mut designators = Vec::new();
        designator(&mut designators, 0x53, 0x98, &name(&port_name(id, *port)));
        let [len_hi, len_lo] = (designators.len() as u16).to_be_bytes(); // one designator: at most 256 bytes
        out.extend_from_slice(&[0, 0, hi, lo, 0, 0, 0, 0, 0, 0, len_hi, len_lo]);
        out.extend_from_slice(&designators);
    }
    out
}

/// Page 83h, less its header.
pub(super) fn identification(id: &Identity) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    // NAA 3h, locally assigned: 60 bits of the UUID's random part.
    let mut naa = [0; 8];
    naa.copy_from_slice(&id.uuid[8..]);
    naa[0] = 0x30 | naa[0] & 0x0f;
    designator(&mut out, 0x01, 0x03, &naa);
    let mut uuid = [0; 18];
    uuid[0] = 0x10;
    uuid[2..].copy_from_slice(&id.uuid);
    designator(&mut out, 0x01, 0x0a, &uuid);
    let mut t10 = padded::<8>(&id.vendor).to_vec();
    t10.extend_from_slice(&serial(&id.serial));
    designator(&mut out, 0x02, 0x01, &t10);
    // iSCSI protocol (5), PIV. A portal group is a target port, and a target port group by itself.
    let [hi, lo] = id.portal_group.to_be_bytes();
    designator(&mut out, 0x51, 0x94, &[0, 0, hi, lo]);
    designator(&mut out, 0x51, 0x95, &[0, 0, hi, lo]);
    designator(&mut out, 0x53, 0x98, &name(&port_name(id, id.portal_group)));
    designator(&mut out, 0x53, 0xa8, &name(&id.target));
    out
}

/// A designation descriptor: protocol and code set, association and type, value.
fn designator(out: &mut Vec<u8>, protocol: u8, association_type: u8, value: &[u8]) {
    // None of ours comes near 252 bytes (a name is at most 223, RFC 7143 4.2.7.1; a serial number 64).
    let len = value.len().min(252);
    out.extend_from_slice(&[protocol, association_type, 0, len as u8]);
    out.extend_from_slice(&value[..len]);
}

/// The name of a target port (RFC 7143 4.4.2).
fn port_name(id: &Identity, port: u16) -> String {
    format!("{},t,0x{port:04x}", id.target)
}

/// A SCSI name string: UTF-8, NUL-terminated, a multiple of four long (SPC-4 7.8.6.11).
fn name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.truncate(248);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            vendor: "ASHLAR".into(),
            serial: "5eed".into(),
            uuid: *b"\x01\x02\x03\x04\x05\x06\x47\x08\x89\x0a\x0b\x0c\x0d\x0e\x0f\x10",
            target: "iqn.x:a".into(),
            portal_group: 2,
            ports: vec![2, 0x103],
            volatile_cache: true,
            ..Identity::default()
        }
    }

    #[test]
    fn page_83_has_every_designator_whole() {
        let page = identification(&identity());
        let naa = [0x01, 0x03, 0, 8, 0x39, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10];
        assert_eq!(page[..12], naa);
        let mut found = Vec::new();
        let mut rest = &page[..];
        while !rest.is_empty() {
            let len = 4 + usize::from(rest[3]);
            found.push((rest[1] >> 4 & 3, rest[1] & 0xf, &rest[4..len]));
            rest = &rest[len..];
        }
        let kinds: Vec<_> = found
            .iter()
            .map(|(association, kind, _)| (*association, *kind))
            .collect();
        assert_eq!(kinds, [(0, 3), (0, 10), (0, 1), (1, 4), (1, 5), (1, 8), (2, 8)]);
        assert_eq!(found[2].2, b"ASHLAR  5eed");
        assert_eq!((found[3].2, found[4].2), (&[0, 0, 0, 2][..], &[0, 0, 0, 2][..]));
        assert_eq!(found[5].2, b"iqn.x:a,t,0x0002\0\0\0\0");
        assert_eq!(found[6].2, b"iqn.x:a\0");
    }

    #[test]
    fn page_88_lists_every_port_with_its_name() {
        let page = ports(&identity());
        assert_eq!(page.len(), 2 * (12 + 4 + 20));
        assert_eq!(page[..16], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 24, 0x53, 0x98, 0, 20]);
        assert_eq!(&page[16..36], b"iqn.x:a,t,0x0002\0\0\0\0");
        assert_eq!(page[36..48], [0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 24]);
    }

    #[test]
    fn pages_85_to_87_have_their_golden_bytes() {
        assert_eq!(management(), []);
        assert_eq!(policy(), [0x3f, 0xff, 0, 0]);
        let page = extended(&identity());
        assert_eq!(
            (page.len(), &page[..10]),
            (60, &[0, 0x01, 0x01, 0x01, 0, 0, 0, 0, 0, 28][..])
        );
    }
}
