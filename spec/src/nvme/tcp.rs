//! PDUs of the TCP transport (TCP 1.0d, 3.6): a common header, a type-specific header, optional digest, padding and data.
//!
//! ```text
//!   0 type | 1 flags | 2 HLEN | 3 PDO | 4..8 PLEN | specific header … HLEN | HDGST? | pad … PDO | data … | DDGST?
//! ```
//!
//! HLEN and PLEN are checked against the type before anything waits for or allocates bytes: see [`Header::check`].
use super::{Cqe, Sqe};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::*};

/// The common header's length.
pub const HEADER: usize = 8;
/// Length of a digest (CRC32C, little-endian).
pub const DIGEST: usize = 4;
/// ICReq and ICResp.
pub const IC_LEN: usize = 128;
/// Header of a command capsule.
pub const CAPSULE_CMD: usize = 72;
/// Header of a response capsule and of every data PDU and R2T.
pub const SHORT: usize = 24;
/// The longest header there is.
pub const HEADER_MAX: usize = IC_LEN;
/// A termination request quotes at most this much of the PDU it complains about (TCP 1.0d, 3.6.2.3).
pub const TERM_QUOTE: usize = 128;

/// PDU types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Kind {
    IcReq = 0x00,
    IcResp = 0x01,
    H2cTermReq = 0x02,
    C2hTermReq = 0x03,
    CapsuleCmd = 0x04,
    CapsuleResp = 0x05,
    H2cData = 0x06,
    C2hData = 0x07,
    R2t = 0x09,
}

impl Kind {
    /// The type with this number.
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0x00 => Self::IcReq,
            0x01 => Self::IcResp,
            0x02 => Self::H2cTermReq,
            0x03 => Self::C2hTermReq,
            0x04 => Self::CapsuleCmd,
            0x05 => Self::CapsuleResp,
            0x06 => Self::H2cData,
            0x07 => Self::C2hData,
            0x09 => Self::R2t,
            _ => return None,
        })
    }

    /// HLEN of this type.
    pub fn header_len(self) -> usize {
        match self {
            Self::IcReq | Self::IcResp => IC_LEN,
            Self::CapsuleCmd => CAPSULE_CMD,
            _ => SHORT,
        }
    }

    /// Only these carry digests when digests are negotiated; the connection's first and last PDUs never do.
    pub fn has_digests(self) -> bool {
        !matches!(self, Self::IcReq | Self::IcResp | Self::H2cTermReq | Self::C2hTermReq)
    }

    /// Data may follow the header.
    pub fn may_carry_data(self) -> bool {
        matches!(
            self,
            Self::H2cTermReq | Self::C2hTermReq | Self::CapsuleCmd | Self::H2cData | Self::C2hData
        )
    }
}

/// FLAGS bit 0: a header digest follows the header.
pub const FLAG_HDGST: u8 = 1;
/// FLAGS bit 1: a data digest follows the data.
pub const FLAG_DDGST: u8 = 2;
/// FLAGS bit 2 of data PDUs: the last one of this command or R2T.
pub const FLAG_LAST: u8 = 4;
/// FLAGS bit 3 of C2HData: the command succeeded, no response capsule follows.
pub const FLAG_SUCCESS: u8 = 8;

/// Why a connection is ended (FES; TCP 1.0d, figures 22 and 25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FatalError {
    /// A field of the header is wrong; FEI is its byte offset.
    InvalidHeader = 1,
    /// A PDU that must not come now.
    Sequence = 2,
    /// The header digest does not fit; FEI is the digest received.
    HeaderDigest = 3,
    /// Data outside of what was asked for.
    OutOfRange = 4,
    /// More data, or more requests for data, than agreed.
    LimitExceeded = 5,
    /// A parameter nobody agreed to; FEI is its byte offset.
    Unsupported = 6,
}

/// A fatal error with its information field (FEI).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// FES.
    pub error: FatalError,
    /// FEI.
    pub info: u32,
}

impl Fatal {
    /// Byte `offset` of the header is wrong.
    pub const fn header(offset: u32) -> Self {
        Self {
            error: FatalError::InvalidHeader,
            info: offset,
        }
    }
    /// An error without further information.
    pub const fn plain(error: FatalError) -> Self {
        Self { error, info: 0 }
    }
}

/// The common header (TCP 1.0d, figure 18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// PDU-Type.
    pub kind: u8,
    /// FLAGS.
    pub flags: u8,
    /// HLEN.
    pub hlen: u8,
    /// PDO: where data starts, 0 when there is none.
    pub pdo: u8,
    /// PLEN: all of the PDU.
    pub plen: U32,
}

/// Which digests a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// HDGST.
    pub header: bool,
    /// DDGST.
    pub data: bool,
}

/// The measured parts of one PDU after [`Header::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Type.
    pub kind: Kind,
    /// Bytes of header with its digest and padding, up to the first data byte (or the end of the PDU).
    pub head: usize,
    /// The header digest is there.
    pub header_digest: bool,
    /// Bytes of data.
    pub data: u32,
    /// The data digest is there.
    pub data_digest: bool,
}

impl Header {
    /// Checks HLEN, PDO, PLEN and the digest flags against the type. `pda` is the alignment the receiver asked for
    /// (CPDA or HPDA: data starts at a multiple of `4 * (pda + 1)`), `max_data` what it is ready to take in one PDU.
    pub fn check(&self, digests: Digests, pda: u8, max_data: u32) -> Result<Layout, Fatal> {
        let kind = Kind::of(self.kind).ok_or(Fatal::header(0))?;
        let hlen = kind.header_len();
        if usize::from(self.hlen) != hlen {
            return Err(Fatal::header(2));
        }
        let plen = self.plen.get();
        if !kind.has_digests() {
            // ICReq and ICResp are exactly their header; a termination request quotes up to 128 bytes.
            let extra = if kind.may_carry_data() { TERM_QUOTE as u32 } else { 0 };
            if plen < hlen as u32 || plen > hlen as u32 + extra {
                return Err(Fatal::header(4));
            }
            return Ok(Layout {
                kind,
                head: hlen,
                header_digest: false,
                data: plen - hlen as u32,
                data_digest: false,
            });
        }
        let header_digest = self.flags & FLAG_HDGST != 0;
        if header_digest != digests.header {
            return Err(Fatal::header(1));
        }
        let head = hlen + if header_digest { DIGEST } else { 0 };
        let data_digest = self.flags & FLAG_DDGST != 0;
        if plen as usize == head {
            // No data: PDO is reserved then, and so is the data digest.
            return Ok(Layout {
                kind,
                head,
                header_digest,
                data: 0,
                data_digest: false,
            });
        }
        if !kind.may_carry_data() || (plen as usize) < head {
            return Err(Fatal::header(4));
        }
        if data_digest != digests.data {
            return Err(Fatal::header(1));
        }
        let pdo = usize::from(self.pdo);
        if pdo < head || pdo % (4 * (usize::from(pda) + 1)) != 0 {
            return Err(Fatal::header(3));
        }
        let rest = (plen as usize)
            .checked_sub(pdo + if data_digest { DIGEST } else { 0 })
            .ok_or(Fatal::header(4))?;
        if rest == 0 || rest > max_data as usize {
            return Err(Fatal::header(4));
        }
        // `rest` came out of a u32.
        Ok(Layout {
            kind,
            head: pdo,
            header_digest,
            data: rest as u32,
            data_digest,
        })
    }
}

/// ICReq: the host opens the connection (TCP 1.0d, 3.6.2.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IcReq {
    /// Common header.
    pub header: Header,
    /// PFV, 0.
    pub version: U16,
    /// HPDA: alignment of data the host receives, 0 to 31.
    pub hpda: u8,
    /// DGST: bit 0 header, bit 1 data.
    pub digests: u8,
    /// MAXR2T, less one.
    pub max_r2t: U32,
    reserved: [u8; 112],
}

/// ICResp: the controller's answer (TCP 1.0d, 3.6.2.3).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IcResp {
    /// Common header.
    pub header: Header,
    /// PFV, 0.
    pub version: U16,
    /// CPDA: alignment of data the controller receives, 0 to 31.
    pub cpda: u8,
    /// DGST in force.
    pub digests: u8,
    /// MAXH2CDATA: largest H2CData in bytes, at least 4,096.
    pub max_h2c_data: U32,
    reserved: [u8; 112],
}

const _: () = assert!(size_of::<IcReq>() == IC_LEN && size_of::<IcResp>() == IC_LEN);

impl IcReq {
    /// A request.
    pub fn new(digests: Digests, hpda: u8, max_r2t: u32) -> Self {
        Self {
            header: header(Kind::IcReq, 0, 0, 0),
            version: U16::ZERO,
            hpda,
            digests: digests.bits(),
            max_r2t: max_r2t.saturating_sub(1).into(),
            reserved: [0; 112],
        }
    }
}

impl IcResp {
    /// An answer.
    pub fn new(digests: Digests, cpda: u8, max_h2c_data: u32) -> Self {
        Self {
            header: header(Kind::IcResp, 0, 0, 0),
            version: U16::ZERO,
            cpda,
            digests: digests.bits(),
            max_h2c_data: max_h2c_data.into(),
            reserved: [0; 112],
        }
    }
}

impl Digests {
    /// From a DGST field.
    pub fn of(bits: u8) -> Self {
        Self {
            header: bits & 1 != 0,
            data: bits & 2 != 0,
        }
    }
    /// As a DGST field.
    pub fn bits(self) -> u8 {
        u8::from(self.header) | u8::from(self.data) << 1
    }
}

/// A command capsule's header (TCP 1.0d, 3.6.2.5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CapsuleCmd {
    /// Common header.
    pub header: Header,
    /// The command.
    pub sqe: Sqe,
}

/// A response capsule (TCP 1.0d, 3.6.2.6).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CapsuleResp {
    /// Common header.
    pub header: Header,
    /// The completion.
    pub cqe: Cqe,
}

/// H2CData, C2HData and R2T share their shape (TCP 1.0d, 3.6.2.7 to 3.6.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DataHeader {
    /// Common header.
    pub header: Header,
    /// CCCID: the command.
    pub cid: U16,
    /// TTAG: names the R2T; reserved in C2HData.
    pub ttag: U16,
    /// DATAO or R2TO.
    pub offset: U32,
    /// DATAL or R2TL.
    pub length: U32,
    reserved: [u8; 4],
}

/// H2CTermReq and C2HTermReq (TCP 1.0d, 3.6.2.4), without the quoted header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TermReq {
    /// Common header.
    pub header: Header,
    /// FES.
    pub error: U16,
    /// FEI.
    pub info: U32,
    reserved: [u8; 10],
}

const _: () = assert!(
    size_of::<CapsuleCmd>() == CAPSULE_CMD
        && size_of::<CapsuleResp>() == SHORT
        && size_of::<DataHeader>() == SHORT
        && size_of::<TermReq>() == SHORT
);

/// A header for `data` bytes that start at `pdo`; 0 and 0 when there are none. PLEN leaves out digests: see [`seal`].
fn header(kind: Kind, flags: u8, pdo: u8, data: u32) -> Header {
    let hlen = kind.header_len() as u8;
    let plen = if data > 0 {
        u32::from(pdo) + data
    } else {
        u32::from(hlen)
    };
    Header {
        kind: kind as u8,
        flags,
        hlen,
        pdo: if data > 0 { pdo } else { 0 },
        plen: plen.into(),
    }
}

impl CapsuleCmd {
    /// A command without data in the capsule.
    pub fn new(sqe: Sqe) -> Self {
        Self {
            header: header(Kind::CapsuleCmd, 0, 0, 0),
            sqe,
        }
    }
}

impl CapsuleResp {
    /// A response.
    pub fn new(cqe: Cqe) -> Self {
        Self {
            header: header(Kind::CapsuleResp, 0, 0, 0),
            cqe,
        }
    }
}

impl DataHeader {
    /// A data PDU or R2T; PLEN, PDO and digest flags come from [`seal`].
    pub fn new(kind: Kind, flags: u8, cid: u16, ttag: u16, offset: u32, length: u32) -> Self {
        Self {
            header: header(kind, flags, 0, 0),
            cid: cid.into(),
            ttag: ttag.into(),
            offset: offset.into(),
            length: length.into(),
            reserved: [0; 4],
        }
    }
}

/// Writes a PDU's head into `out`: the header with flags, PDO and PLEN for `data` bytes and `digests`, its digest and the
/// padding up to the first data byte. Returns how many bytes of `out` are used. `crc` is CRC32C.
///
/// `out` must hold [`HEAD_MAX`] bytes.
pub fn seal(
    out: &mut [u8; HEAD_MAX],
    pdu: &[u8],
    data: u32,
    digests: Digests,
    pda: u8,
    crc: impl Fn(&[u8]) -> u32,
) -> usize {
    let hlen = pdu.len().min(HEADER_MAX);
    out[..hlen].copy_from_slice(&pdu[..hlen]);
    let mut head = hlen;
    if digests.header {
        out[1] |= FLAG_HDGST;
        head += DIGEST;
    }
    let mut plen = head as u32;
    if data > 0 {
        let align = 4 * (usize::from(pda) + 1);
        let pdo = head.next_multiple_of(align);
        out[head..pdo].fill(0);
        head = pdo;
        out[3] = pdo as u8;
        plen = pdo as u32 + data;
        if digests.data {
            out[1] |= FLAG_DDGST;
            plen += DIGEST as u32;
        }
    }
    out[4..8].copy_from_slice(&plen.to_le_bytes());
    if digests.header {
        let digest = crc(&out[..hlen]);
        out[hlen..hlen + DIGEST].copy_from_slice(&digest.to_le_bytes());
    }
    head
}

/// The longest head: a header with digest, padded to the largest alignment (128 bytes).
pub const HEAD_MAX: usize = 256;

/// A termination request quoting the header of the PDU at fault: at most [`SHORT`] + [`TERM_QUOTE`] bytes.
pub fn term_req(kind: Kind, fatal: Fatal, quoted: &[u8]) -> ([u8; SHORT + TERM_QUOTE], usize) {
    let quoted = &quoted[..quoted.len().min(TERM_QUOTE)];
    let len = SHORT + quoted.len();
    let mut out = [0; SHORT + TERM_QUOTE];
    let head = TermReq {
        header: Header {
            kind: kind as u8,
            flags: 0,
            hlen: SHORT as u8,
            pdo: 0,
            plen: (len as u32).into(),
        },
        error: (fatal.error as u16).into(),
        info: fatal.info.into(),
        reserved: [0; 10],
    };
    out[..SHORT].copy_from_slice(head.as_bytes());
    out[SHORT..len].copy_from_slice(quoted);
    (out, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::{Sgl, Status, command::io};

    const BOTH: Digests = Digests {
        header: true,
        data: true,
    };
    const NONE: Digests = Digests {
        header: false,
        data: false,
    };

    /// Stands in for CRC32C: layout does not depend on the polynomial.
    fn sum(bytes: &[u8]) -> u32 {
        bytes.iter().fold(0x1000_0000, |a, &b| a + u32::from(b))
    }

    #[test]
    fn the_handshake_has_these_bytes() {
        let req = IcReq::new(BOTH, 3, 16);
        assert_eq!(
            req.as_bytes()[..16],
            [0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 3, 3, 15, 0, 0, 0]
        );
        assert!(req.as_bytes()[16..].iter().all(|&b| b == 0));
        let resp = IcResp::new(NONE, 0, 131_072);
        assert_eq!(
            resp.as_bytes()[..16],
            [1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]
        );
        let back = IcReq::ref_from_bytes(req.as_bytes()).unwrap();
        assert_eq!(
            (back.hpda, Digests::of(back.digests), back.max_r2t.get()),
            (3, BOTH, 15)
        );
    }

    #[test]
    fn a_capsule_without_digests_has_these_bytes() {
        let sqe = Sqe::new(io::WRITE, 7, 1)
            .with_range(8, 1)
            .with_sgl(Sgl::in_capsule(512));
        let mut out = [0xee; HEAD_MAX];
        let n = seal(&mut out, CapsuleCmd::new(sqe).as_bytes(), 512, NONE, 0, sum);
        assert_eq!((n, &out[..12]), (72, &[4, 0, 72, 72, 0x48, 2, 0, 0, 1, 0x40, 7, 0][..]));
        let layout = Header::ref_from_bytes(&out[..8]).unwrap().check(NONE, 0, 4096).unwrap();
        assert_eq!(
            layout,
            Layout {
                kind: Kind::CapsuleCmd,
                head: 72,
                header_digest: false,
                data: 512,
                data_digest: false
            }
        );
    }

    #[test]
    fn digests_and_padding_stand_between_header_and_data() {
        let pdu = DataHeader::new(Kind::C2hData, FLAG_LAST | FLAG_SUCCESS, 3, 0, 0, 4096);
        let mut out = [0xee; HEAD_MAX];
        // HPDA 7: data starts at a multiple of 32.
        let n = seal(&mut out, pdu.as_bytes(), 4096, BOTH, 7, sum);
        assert_eq!(n, 32);
        assert_eq!(
            out[..24],
            [
                7, 15, 24, 32, 0x24, 0x10, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(out[24..28], sum(&out[..24]).to_le_bytes());
        assert_eq!(out[28..32], [0; 4]);
        let layout = Header::ref_from_bytes(&out[..8]).unwrap().check(BOTH, 7, 8192).unwrap();
        assert_eq!(
            layout,
            Layout {
                kind: Kind::C2hData,
                head: 32,
                header_digest: true,
                data: 4096,
                data_digest: true
            }
        );
    }

    #[test]
    fn a_response_has_these_bytes() {
        let mut out = [0; HEAD_MAX];
        let pdu = CapsuleResp::new(Cqe::new(5, 1, Status::SUCCESS, 0));
        assert_eq!(seal(&mut out, pdu.as_bytes(), 0, NONE, 0, sum), 24);
        assert_eq!(
            out[..24],
            [5, 0, 24, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0]
        );
        assert_eq!(seal(&mut out, pdu.as_bytes(), 0, BOTH, 0, sum), 28);
        assert_eq!(out[..8], [5, 1, 24, 0, 28, 0, 0, 0]);
    }

    #[test]
    fn lying_headers_are_named_by_the_byte_that_lies() {
        let good = Header {
            kind: 4,
            flags: 0,
            hlen: 72,
            pdo: 72,
            plen: 584.into(),
        };
        let fei = |h: Header| h.check(NONE, 0, 4096).map_err(|f| (f.error, f.info));
        use FatalError::InvalidHeader;
        assert!(fei(good).is_ok());
        assert_eq!(fei(Header { kind: 8, ..good }), Err((InvalidHeader, 0)));
        assert_eq!(fei(Header { flags: 1, ..good }), Err((InvalidHeader, 1)));
        assert_eq!(fei(Header { flags: 2, ..good }), Err((InvalidHeader, 1)));
        assert_eq!(fei(Header { hlen: 24, ..good }), Err((InvalidHeader, 2)));
        assert_eq!(fei(Header { pdo: 71, ..good }), Err((InvalidHeader, 3)));
        assert_eq!(fei(Header { pdo: 74, ..good }), Err((InvalidHeader, 3)));
        assert_eq!(
            fei(Header {
                plen: 71.into(),
                ..good
            }),
            Err((InvalidHeader, 4))
        );
        assert_eq!(
            fei(Header {
                plen: u32::MAX.into(),
                ..good
            }),
            Err((InvalidHeader, 4))
        );
        assert_eq!(
            fei(Header {
                pdo: 76,
                plen: 74.into(),
                ..good
            }),
            Err((InvalidHeader, 4))
        );
        assert_eq!(
            fei(Header {
                kind: 9,
                hlen: 24,
                plen: 25.into(),
                ..good
            }),
            Err((InvalidHeader, 4))
        );
        assert_eq!(
            fei(Header {
                kind: 0,
                hlen: 128,
                plen: 129.into(),
                ..good
            }),
            Err((InvalidHeader, 4))
        );
    }

    #[test]
    fn a_termination_quotes_what_it_complains_about() {
        let (bytes, n) = term_req(Kind::C2hTermReq, Fatal::header(4), &[0xaa; 8]);
        assert_eq!(n, 32);
        assert_eq!(bytes[..16], [3, 0, 24, 0, 32, 0, 0, 0, 1, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..32], [0xaa; 8]);
        assert_eq!(term_req(Kind::C2hTermReq, Fatal::header(4), &[0; 999]).1, 152);
    }
}
