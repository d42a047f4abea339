//! Bytes out: responses, data, R2T and the last words, sealed with the digests that were agreed to.
use super::*;
use reactor::crc32c;
use spec::nvme::{
    Cqe,
    tcp::{self, CapsuleResp, DataHeader, Fatal, Kind},
};
use zerocopy::IntoBytes;

/// Where the session's bytes go.
pub trait Sink {
    /// Copies a few bytes.
    fn bytes(&mut self, bytes: &[u8]);
    /// Takes part of a slot's buffer by reference.
    fn data(&mut self, payload: Payload);
    /// CRC32C of part of a slot's buffer.
    fn crc(&mut self, payload: Payload) -> u32;
}

impl Session {
    /// Says why and closes.
    pub(super) fn terminate(&mut self, fatal: Fatal, bytes: &[u8], sink: &mut impl Sink) {
        self.phase = Phase::Closed;
        // The header at fault, as much of it as came.
        let hlen = bytes.get(2).map_or(tcp::HEADER, |&n| usize::from(n)).max(tcp::HEADER);
        let (pdu, len) = tcp::term_req(Kind::C2hTermReq, fatal, &bytes[..bytes.len().min(hlen)]);
        sink.bytes(&pdu[..len]);
    }

    /// Asks the host for the data of `slot`, all of it with one R2T. The slot has its buffer.
    pub fn ask(&mut self, slot: u16, now: Nanos, sink: &mut impl Sink) {
        let s = &mut self.slots[usize::from(slot)];
        s.used = Use::Asked;
        if self.asked == 0 {
            self.heard = now;
        }
        self.asked += 1;
        let pdu = DataHeader::new(Kind::R2t, 0, s.sqe.cid.get(), slot, 0, s.want);
        self.put(pdu.as_bytes(), 0, 0, sink);
    }

    /// Answers the command in `slot`; on success with `data` bytes of its buffer. The slot is free after
    /// [`Session::release`]. Returns false if the command has been answered as aborted and the slot is free already.
    pub fn respond(&mut self, slot: u16, status: Status, result: u64, data: u32, sink: &mut impl Sink) -> bool {
        let s = &mut self.slots[usize::from(slot)];
        let cid = s.sqe.cid.get();
        match s.used {
            Use::Aborted { sent: true } => {
                s.used = Use::Free;
                self.free.push(slot);
                return false;
            }
            Use::Aborted { sent: false } => {
                s.used = Use::Sending;
                return false;
            }
            _ => s.used = Use::Sending,
        }
        if data > 0 && status.is_success() {
            let silent = self.limits.c2h_success && !self.flow_control && result == 0;
            let flags = tcp::FLAG_LAST | if silent { tcp::FLAG_SUCCESS } else { 0 };
            let pdu = DataHeader::new(Kind::C2hData, flags, cid, 0, 0, data);
            self.put(pdu.as_bytes(), data, slot, sink);
            if silent {
                return true;
            }
        }
        self.response(cid, status, result, sink);
        true
    }

    pub(super) fn response(&mut self, cid: u16, status: Status, result: u64, sink: &mut impl Sink) {
        let head = if self.flow_control { self.head as u16 } else { 0 };
        let pdu = CapsuleResp::new(Cqe::new(cid, head, status, result));
        self.put(pdu.as_bytes(), 0, 0, sink);
    }

    /// One PDU with `data` bytes of `slot`.
    fn put(&mut self, pdu: &[u8], data: u32, slot: u16, sink: &mut impl Sink) {
        if self.digests == Digests::default() && self.hpda <= 1 {
            // The plain case: 24 bytes, data right behind (24 is a multiple of 4 and of 8).
            let mut head = [0; tcp::SHORT];
            head.copy_from_slice(&pdu[..tcp::SHORT]);
            if data > 0 {
                head[3] = tcp::SHORT as u8;
                head[4..8].copy_from_slice(&(tcp::SHORT as u32 + data).to_le_bytes());
            }
            sink.bytes(&head);
        } else {
            let mut head = [0; tcp::HEAD_MAX];
            let n = tcp::seal(&mut head, pdu, data, self.digests, self.hpda, crc32c);
            sink.bytes(&head[..n]);
        }
        if data > 0 {
            let payload = Payload { slot, at: 0, len: data };
            sink.data(payload);
            if self.digests.data {
                let crc = sink.crc(payload);
                sink.bytes(&crc.to_le_bytes());
            }
        }
    }
}
