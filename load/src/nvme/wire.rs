//! The host's end of one connection as bytes in and events out: the mirror image of the target's session.
use super::crc32c;
use spec::nvme::{
    Cqe, Sqe,
    tcp::{self, CapsuleCmd, CapsuleResp, DataHeader, Digests, Header, IcReq, IcResp, Kind, TermReq},
};
use std::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// What the controller sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// ICResp: the connection is open.
    Open {
        /// Digests in force.
        digests: Digests,
        /// Largest H2CData.
        max_h2c_data: u32,
    },
    /// A response capsule.
    Response(Cqe),
    /// Data of command `cid`, which stands at `bytes` of the input.
    Data {
        /// The command.
        cid: u16,
        /// Where in the command's data it belongs.
        offset: u32,
        /// Where in the input it stands.
        bytes: Range<usize>,
        /// The command has succeeded, no response follows.
        success: bool,
    },
    /// The controller wants data of a command.
    Wanted {
        /// The command.
        cid: u16,
        /// To be returned with the data.
        tag: u16,
        /// From where.
        offset: u32,
        /// How much.
        len: u32,
    },
    /// The controller ends the connection.
    Terminated {
        /// FES.
        error: u16,
        /// FEI.
        info: u32,
    },
    /// The controller sent what it must not.
    Nonsense(&'static str),
}

/// Codec of one connection.
#[derive(Debug, Default)]
pub struct Wire {
    digests: Digests,
    max_h2c_data: u32,
}

impl Wire {
    /// Digests in force.
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// ICReq.
    pub fn hello(&self, digests: Digests, out: &mut Vec<u8>) {
        out.extend_from_slice(IcReq::new(digests, 0, 1).as_bytes());
    }

    fn put(&self, pdu: &[u8], data: &[u8], out: &mut Vec<u8>) {
        let mut head = [0; tcp::HEAD_MAX];
        let n = tcp::seal(&mut head, pdu, data.len() as u32, self.digests, 0, crc32c);
        out.extend_from_slice(&head[..n]);
        out.extend_from_slice(data);
        if self.digests.data && !data.is_empty() {
            out.extend_from_slice(&crc32c(data).to_le_bytes());
        }
    }

    /// A command capsule with `data` in it (which the SGL must say).
    pub fn command(&self, sqe: &Sqe, data: &[u8], out: &mut Vec<u8>) {
        self.put(CapsuleCmd::new(*sqe).as_bytes(), data, out);
    }

    /// The answer to [`Event::Wanted`]: `data` is what was wanted, split as the controller likes it.
    pub fn data(&self, cid: u16, tag: u16, offset: u32, data: &[u8], out: &mut Vec<u8>) {
        let step = self.max_h2c_data.max(4096) as usize;
        let pieces = data.len().div_ceil(step);
        for (i, piece) in data.chunks(step).enumerate() {
            let flags = if i + 1 == pieces { tcp::FLAG_LAST } else { 0 };
            let at = offset + (i * step) as u32;
            let pdu = DataHeader::new(Kind::H2cData, flags, cid, tag, at, piece.len() as u32);
            self.put(pdu.as_bytes(), piece, out);
        }
    }

    /// Takes one PDU off the front of `bytes`; `None` if it is not whole yet.
    pub fn input(&mut self, bytes: &[u8]) -> Option<(usize, Event)> {
        let (header, _) = Header::ref_from_prefix(bytes).ok()?;
        let total = header.plen.get() as usize;
        let layout = match header.check(self.digests, 0, u32::MAX) {
            Ok(layout) => layout,
            Err(_) => return Some((bytes.len(), Event::Nonsense("a malformed header"))),
        };
        let pdu = bytes.get(..total)?;
        Some((total, self.event(pdu, layout)))
    }

    fn event(&mut self, pdu: &[u8], layout: tcp::Layout) -> Event {
        let hlen = layout.kind.header_len();
        let word = |at: usize| {
            pdu.get(at..at + 4)
                .and_then(|b| b.first_chunk())
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        if layout.header_digest && crc32c(&pdu[..hlen]) != word(hlen) {
            return Event::Nonsense("a wrong header digest");
        }
        let data = layout.head..layout.head + layout.data as usize;
        if layout.data_digest && crc32c(&pdu[data.clone()]) != word(data.end) {
            return Event::Nonsense("a wrong data digest");
        }
        let head = &pdu[..hlen];
        match layout.kind {
            Kind::IcResp => match IcResp::ref_from_bytes(head) {
                Ok(resp) => {
                    self.digests = Digests::of(resp.digests);
                    self.max_h2c_data = resp.max_h2c_data.get();
                    Event::Open {
                        digests: self.digests,
                        max_h2c_data: self.max_h2c_data,
                    }
                }
                Err(_) => Event::Nonsense("a malformed ICResp"),
            },
            Kind::CapsuleResp => match CapsuleResp::ref_from_bytes(head) {
                Ok(resp) => Event::Response(resp.cqe),
                Err(_) => Event::Nonsense("a malformed response"),
            },
            Kind::C2hData | Kind::R2t => match DataHeader::ref_from_bytes(head) {
                Ok(h) if layout.kind == Kind::R2t => Event::Wanted {
                    cid: h.cid.get(),
                    tag: h.ttag.get(),
                    offset: h.offset.get(),
                    len: h.length.get(),
                },
                Ok(h) => Event::Data {
                    cid: h.cid.get(),
                    offset: h.offset.get(),
                    bytes: data,
                    success: h.header.flags & tcp::FLAG_SUCCESS != 0,
                },
                Err(_) => Event::Nonsense("a malformed data PDU"),
            },
            Kind::C2hTermReq => match TermReq::ref_from_bytes(head) {
                Ok(term) => Event::Terminated {
                    error: term.error.get(),
                    info: term.info.get(),
                },
                Err(_) => Event::Nonsense("a malformed termination"),
            },
            _ => Event::Nonsense("a PDU that only hosts send"),
        }
    }
}
