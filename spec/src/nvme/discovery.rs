//! The discovery log page: which subsystems are where (Base 2.0d, 5.16.1.23).
use super::{ascii_field, nqn_field, nqn_of};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// TRTYPE of TCP.
pub const TRTYPE_TCP: u8 = 3;
/// ADRFAM of IPv4.
pub const ADRFAM_IPV4: u8 = 1;
/// ADRFAM of IPv6.
pub const ADRFAM_IPV6: u8 = 2;
/// SUBTYPE: a referral to another discovery service.
pub const SUBTYPE_REFERRAL: u8 = 1;
/// SUBTYPE: a subsystem with namespaces.
pub const SUBTYPE_NVM: u8 = 2;
/// SUBTYPE: the discovery subsystem that answers.
pub const SUBTYPE_CURRENT: u8 = 3;

/// SECTYPE of TLS 1.3.
pub const SECTYPE_TLS13: u8 = 2;

/// The 1,024 bytes before the entries.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// GENCTR: changes whenever the log does.
    pub generation: U64,
    /// NUMREC.
    pub records: U64,
    /// RECFMT, 0.
    pub format: U16,
    reserved18: [u8; 1006],
}

impl Header {
    /// The header of `records` entries.
    pub fn new(generation: u64, records: u64) -> Self {
        Self {
            generation: generation.into(),
            records: records.into(),
            ..Self::new_zeroed()
        }
    }
}

/// One entry.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Entry {
    pub trtype: u8,
    pub adrfam: u8,
    pub subtype: u8,
    /// TREQ: bits 1:0 secure channel (0 not specified, 1 required, 2 not required), bit 2 SQ flow control may be off.
    pub treq: u8,
    pub portid: U16,
    /// FFFFh: controllers are made on connect.
    pub cntlid: U16,
    /// ASQSZ: entries of the admin queue.
    pub admin_queue: U16,
    pub eflags: U16,
    reserved12: [u8; 20],
    pub trsvcid: [u8; 32],
    reserved64: [u8; 192],
    pub subnqn: [u8; 256],
    pub traddr: [u8; 256],
    /// TSAS: for TCP byte 0 is SECTYPE, 0 none, 2 TLS 1.3.
    pub tsas: [u8; 256],
}

const _: () =
    assert!(size_of::<Header>() == 1024 && size_of::<Entry>() == 1024 && std::mem::offset_of!(Entry, traddr) == 512);

impl Entry {
    /// A TCP entry with dynamic controllers.
    pub fn tcp(subtype: u8, ipv6: bool, address: &str, service: &str, nqn: &str, port: u16) -> Self {
        Self {
            trtype: TRTYPE_TCP,
            adrfam: if ipv6 { ADRFAM_IPV6 } else { ADRFAM_IPV4 },
            subtype,
            // Bit 2: SQ flow control can be given up. Bits 1:0, TLS "not specified": told "not required", libnvme wants a key.
            treq: 4,
            portid: port.into(),
            cntlid: 0xffff.into(),
            admin_queue: 32.into(),
            trsvcid: ascii_field(service),
            subnqn: nqn_field(nqn),
            traddr: ascii_field(address),
            ..Self::new_zeroed()
        }
    }

    /// The same by TLS 1.3 only.
    pub fn secure(mut self) -> Self {
        self.treq = self.treq & !3 | 1;
        self.tsas[0] = SECTYPE_TLS13;
        self
    }

    /// The subsystem's NQN.
    pub fn subnqn(&self) -> Option<&str> {
        nqn_of(&self.subnqn)
    }

    /// Address and service without their padding.
    pub fn address(&self) -> (&str, &str) {
        let text = |field| {
            std::str::from_utf8(field)
                .unwrap_or_default()
                .trim_end_matches([' ', '\0'])
        };
        (text(&self.traddr[..]), text(&self.trsvcid[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_these_bytes() {
        let entry = Entry::tcp(SUBTYPE_NVM, false, "127.0.0.1", "4420", "nqn.2016-06.io.spdk:a", 1);
        let b = entry.as_bytes();
        assert_eq!(b[..12], [3, 1, 2, 4, 1, 0, 255, 255, 32, 0, 0, 0]);
        assert_eq!(
            (&b[32..38], &b[256..260], &b[512..522]),
            (&b"4420  "[..], &b"nqn."[..], &b"127.0.0.1 "[..])
        );
        assert_eq!(entry.address(), ("127.0.0.1", "4420"));
        assert_eq!(entry.subnqn(), Some("nqn.2016-06.io.spdk:a"));
        let secure = entry.secure();
        assert_eq!((secure.treq, secure.tsas[0], secure.tsas[1]), (5, 2, 0));
        assert_eq!(
            Header::new(3, 2).as_bytes()[..18],
            [3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}
