//! Fabrics commands: connect a queue, read and write properties, disconnect (Base 2.0d, 6).
use super::{Sgl, Sqe, command::FABRICS, nqn_field, nqn_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// FCTYPE values.
pub mod fctype {
    #![allow(missing_docs)]
    pub const PROPERTY_SET: u8 = 0x00;
    pub const CONNECT: u8 = 0x01;
    pub const PROPERTY_GET: u8 = 0x04;
    pub const AUTH_SEND: u8 = 0x05;
    pub const AUTH_RECEIVE: u8 = 0x06;
    pub const DISCONNECT: u8 = 0x08;
}

/// What a Connect command says besides its data (Base 2.0d, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// RECFMT: only 0 is defined.
    pub format: u16,
    /// QID: 0 is the admin queue.
    pub qid: u16,
    /// SQSIZE as it stands on the wire: entries less one.
    pub sqsize: u16,
    /// CATTR bit 2: the host does not want submission queue flow control.
    pub no_flow_control: bool,
    /// KATO in milliseconds; 0 turns the timer off.
    pub keep_alive_ms: u32,
}

impl Connect {
    /// Reads the command's own fields.
    pub fn of(sqe: &Sqe) -> Self {
        let (d10, d11) = (sqe.cdw1(0), sqe.cdw1(1));
        Self {
            format: d10 as u16,
            qid: (d10 >> 16) as u16,
            sqsize: d11 as u16,
            no_flow_control: d11 >> 16 & 4 != 0,
            keep_alive_ms: sqe.cdw1(2),
        }
    }

    /// The command, with its 1,024 bytes of data in the capsule.
    pub fn sqe(self, cid: u16) -> Sqe {
        Sqe::new(FABRICS, cid, fctype::CONNECT.into())
            .with_sgl(Sgl::in_capsule(size_of::<ConnectData>() as u32))
            .with_cdw1(0, u32::from(self.format) | u32::from(self.qid) << 16)
            .with_cdw1(1, u32::from(self.sqsize) | u32::from(self.no_flow_control) << 18)
            .with_cdw1(2, self.keep_alive_ms)
    }
}

/// The data of a Connect command (Base 2.0d, figure 387).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ConnectData {
    /// HOSTID.
    pub host_id: [u8; 16],
    /// CNTLID: FFFFh asks for any controller.
    pub cntlid: U16,
    reserved18: [u8; 238],
    /// SUBNQN, zero-terminated.
    pub subnqn: [u8; 256],
    /// HOSTNQN, zero-terminated.
    pub hostnqn: [u8; 256],
    reserved768: [u8; 256],
}

const _: () = assert!(size_of::<ConnectData>() == 1024 && std::mem::offset_of!(ConnectData, subnqn) == 256);

impl ConnectData {
    /// A host asking for a controller of `subnqn`.
    pub fn new(host_id: [u8; 16], cntlid: u16, subnqn: &str, hostnqn: &str) -> Self {
        Self {
            host_id,
            cntlid: cntlid.into(),
            reserved18: [0; 238],
            subnqn: nqn_field(subnqn),
            hostnqn: nqn_field(hostnqn),
            reserved768: [0; 256],
        }
    }

    /// The subsystem's NQN, if the field holds one.
    pub fn subnqn(&self) -> Option<&str> {
        nqn_of(&self.subnqn)
    }

    /// The host's NQN, if the field holds one.
    pub fn hostnqn(&self) -> Option<&str> {
        nqn_of(&self.hostnqn)
    }
}

/// Byte offsets for "invalid parameter" answers to Connect: IPO in bits 15:0, IATTR bit 16 when it is in the data.
pub mod invalid {
    #![allow(missing_docs)]
    pub const QID: u32 = 42;
    pub const SQSIZE: u32 = 44;
    pub const DATA_HOSTID: u32 = 1 << 16;
    pub const DATA_CNTLID: u32 = 1 << 16 | 16;
    pub const DATA_SUBNQN: u32 = 1 << 16 | 256;
    pub const DATA_HOSTNQN: u32 = 1 << 16 | 512;
}

/// Property Get or Set (Base 2.0d, 6.4 and 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// ATTRIB.SIZE: the property is 8 bytes instead of 4.
    pub wide: bool,
    /// OFST.
    pub offset: u32,
    /// Value to set; Get has none.
    pub value: u64,
}

impl Property {
    /// Reads the command's fields; `None` for a reserved size.
    pub fn of(sqe: &Sqe) -> Option<Self> {
        let wide = match sqe.cdw1(0) & 7 {
            0 => false,
            1 => true,
            _ => return None,
        };
        let value = u64::from(sqe.cdw1(2)) | u64::from(sqe.cdw1(3)) << 32;
        Some(Self {
            wide,
            offset: sqe.cdw1(1),
            value,
        })
    }

    /// Property Get.
    pub fn get(cid: u16, offset: u32, wide: bool) -> Sqe {
        Sqe::new(FABRICS, cid, fctype::PROPERTY_GET.into())
            .with_cdw1(0, wide.into())
            .with_cdw1(1, offset)
    }

    /// Property Set of a 4-byte property.
    pub fn set(cid: u16, offset: u32, value: u32) -> Sqe {
        Sqe::new(FABRICS, cid, fctype::PROPERTY_SET.into())
            .with_cdw1(1, offset)
            .with_cdw1(2, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_has_these_bytes() {
        let connect = Connect {
            format: 0,
            qid: 3,
            sqsize: 127,
            no_flow_control: true,
            keep_alive_ms: 15_000,
        };
        let sqe = connect.sqe(9);
        let b = sqe.as_bytes();
        assert_eq!(b[..5], [0x7f, 0x40, 9, 0, 1]);
        assert_eq!(b[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1]);
        assert_eq!(b[40..52], [0, 0, 3, 0, 127, 0, 4, 0, 0x98, 0x3a, 0, 0]);
        assert_eq!(Connect::of(&sqe), connect);
    }

    #[test]
    fn connect_data_keeps_its_names() {
        let data = ConnectData::new([7; 16], 0xffff, "nqn.2016-06.io.spdk:a", "nqn.2016-06.io.spdk:h");
        let b = data.as_bytes();
        assert_eq!(
            (&b[..18], &b[256..277], &b[512..516]),
            (
                &[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 255, 255][..],
                &b"nqn.2016-06.io.spdk:a"[..],
                &b"nqn."[..]
            )
        );
        let back = ConnectData::ref_from_bytes(b).unwrap();
        assert_eq!(
            (back.subnqn(), back.hostnqn()),
            (Some("nqn.2016-06.io.spdk:a"), Some("nqn.2016-06.io.spdk:h"))
        );
    }

    #[test]
    fn properties_round_trip() {
        let get = Property::get(1, 0x1c, false);
        assert_eq!(
            Property::of(&get),
            Some(Property {
                wide: false,
                offset: 0x1c,
                value: 0
            })
        );
        let set = Property::set(1, 0x14, 0x460001);
        assert_eq!(set.as_bytes()[40..52], [0, 0, 0, 0, 0x14, 0, 0, 0, 1, 0, 0x46, 0]);
        assert_eq!(Property::of(&set).unwrap().value, 0x460001);
        assert_eq!(Property::of(&get.with_cdw1(0, 2)), None);
    }
}
