//! Bytes out: the queue of answers, and the PDUs made of it (Data-In, R2T, responses).
//!
//! A PDU gets its numbers, padding and digests when it leaves, in `send` and nowhere else.
use super::*;
use crate::{
    iscsi::slot::{Burst, MAX_R2T},
    scsi::{Moved, Outcome},
};
use reactor::crc32c_append;
use spec::{
    iscsi::pad,
    scsi::{Status, sense},
};

/// The longest Data-In segment we send: more is better for nobody, and less is fairer.
const DATA_IN: u32 = 128 << 10;

/// Where bytes to be sent go.
pub trait Sink {
    /// No more PDUs for now.
    fn is_full(&self) -> bool;
    /// A few bytes, by value.
    fn bytes(&mut self, bytes: &[u8]);
    /// Payload, by reference.
    fn buf(&mut self, buf: Buf);
}

/// For tests: everything, in order.
impl Sink for Vec<u8> {
    fn is_full(&self) -> bool {
        false
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn buf(&mut self, buf: Buf) {
        buf.for_each_chunk(|chunk| self.extend_from_slice(chunk));
    }
}

impl Session {
    pub(super) fn tag(&mut self) -> u32 {
        // Tags only have to differ from NO_TAG and from what is outstanding, which is far fewer.
        self.next_tag = self.next_tag.wrapping_add(1) % NO_TAG;
        self.next_tag
    }

    pub(super) fn answer(&mut self, header: &[u8], data: Buf) {
        self.misc += 1;
        self.out.push_back(Out::Answer(fixed(header), data));
    }

    pub(super) fn message(&mut self, header: &[u8], data: Buf) {
        self.misc += 1;
        self.out.push_back(Out::Message(fixed(header), data));
    }

    pub(super) fn reject(&mut self, reason: RejectReason, bad: &Bhs) {
        let answer = Reject {
            opcode: Opcode::Reject as u8,
            flags: FINAL,
            reason: reason as u8,
            data_segment_len: len24(BHS_LEN),
            itt: U32::new(NO_TAG),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::from_slice(bad.as_bytes()));
    }

    /// Puts PDUs into `sink` until it is full or there are none. Large answers take turns.
    pub fn output(&mut self, sink: &mut impl Sink) {
        if self.phase == Phase::Closed {
            return;
        }
        while !sink.is_full()
            && let Some(next) = self.out.pop_front()
        {
            match next {
                Out::Answer(header, data) => {
                    self.misc -= 1;
                    self.send(sink, header, data, true);
                }
                Out::Message(header, data) => {
                    self.misc -= 1;
                    self.send(sink, header, data, false);
                }
                Out::R2t(id) => self.send_r2t(sink, id),
                Out::Slot(id) => self.send_slot(sink, id),
            }
        }
    }

    /// Queues as many R2Ts as may be outstanding.
    pub(super) fn ask(&mut self, id: u16) {
        let slot = &mut self.slots[usize::from(id)];
        let total = slot.data.len() as u32;
        let burst = self.agreed.max_burst.max(1);
        let most = u32::from(self.agreed.max_outstanding_r2t.clamp(1, MAX_R2T));
        // Sent and not answered, and queued but not sent.
        let mut outstanding =
            slot.sn.wrapping_sub(slot.served) + slot.asked.0.saturating_sub(slot.asked.1).div_ceil(burst);
        while outstanding < most && slot.asked.0 < total {
            slot.asked.0 = total.min(slot.asked.0.saturating_add(burst));
            self.out.push_back(Out::R2t(id));
            outstanding += 1;
        }
    }

    fn send_r2t(&mut self, sink: &mut impl Sink, id: u16) {
        let tag = self.tag();
        let slot = &mut self.slots[usize::from(id)];
        let at = slot.asked.1;
        let end = slot.asked.0.min(at.saturating_add(self.agreed.max_burst));
        if slot.state != State::Collecting || at >= end {
            return; // failed meanwhile
        }
        let r2t = R2t {
            opcode: Opcode::R2t as u8,
            flags: FINAL,
            lun: slot.lun,
            itt: slot.itt.into(),
            ttt: tag.into(),
            r2t_sn: slot.sn.into(),
            buffer_offset: at.into(),
            desired_len: (end - at).into(),
            ..Default::default()
        };
        slot.asked.1 = end;
        slot.tags[slot.sn as usize % slot.tags.len()] = tag;
        slot.sn = slot.sn.wrapping_add(1);
        // They are answered in the order we ask (DataSequenceInOrder).
        slot.burst.get_or_insert(Burst { tag, at, end, sn: 0 });
        self.send(sink, fixed(r2t.as_bytes()), Buf::empty(), false);
    }

    fn send_slot(&mut self, sink: &mut impl Sink, id: u16) {
        let slot = &mut self.slots[usize::from(id)];
        let Some(outcome) = &slot.outcome else { return };
        let (flag, residual) = residual(slot, outcome);
        let reads = slot.direction == Direction::Read;
        let all = match &outcome.data {
            Some(data) if reads => slot.expected.min(data.len() as u32),
            _ => 0,
        };
        if let Some(data) = outcome.data.as_ref().filter(|_| slot.sent < all) {
            let burst_left = self.agreed.max_burst - slot.sent % self.agreed.max_burst;
            let len = (all - slot.sent)
                .min(self.agreed.their_segment)
                .min(DATA_IN)
                .min(burst_left);
            let end = slot.sent + len == all;
            let good = end && outcome.status == Status::Good;
            let part = data.slice(slot.sent as usize..(slot.sent + len) as usize);
            let pdu = DataIn {
                opcode: Opcode::DataIn as u8,
                flags: if end || len == burst_left { FINAL } else { 0 } | if good { STATUS | flag } else { 0 },
                data_segment_len: len24(len as usize),
                lun: slot.lun,
                itt: slot.itt.into(),
                ttt: NO_TAG.into(),
                data_sn: slot.sn.into(),
                buffer_offset: slot.sent.into(),
                residual: if good { residual } else { 0 }.into(),
                ..Default::default()
            };
            slot.sn = slot.sn.wrapping_add(1);
            slot.sent += len;
            match good {
                true => self.release(id),
                false if !end => self.out.push_back(Out::Slot(id)),
                false => self.out.push_front(Out::Slot(id)),
            }
            return self.send(sink, fixed(pdu.as_bytes()), part, good);
        }
        let mut bytes = [0; 2 + sense::MAX_LEN];
        let mut len = 0;
        if let Some(sense) = &outcome.sense {
            let mut encoded = [0; sense::MAX_LEN];
            let n = sense.encode(outcome.descriptor_sense, &mut encoded);
            bytes[..2].copy_from_slice(&(n as u16).to_be_bytes());
            bytes[2..2 + n].copy_from_slice(&encoded[..n]);
            len = 2 + n;
        }
        let pdu = ScsiResponse {
            opcode: Opcode::ScsiResponse as u8,
            flags: FINAL | flag,
            status: outcome.status as u8,
            data_segment_len: len24(len),
            itt: slot.itt.into(),
            exp_data_sn: if reads { slot.sn } else { 0 }.into(),
            residual: residual.into(),
            ..Default::default()
        };
        self.release(id);
        let sense = if len > 0 {
            Buf::from_slice(&bytes[..len])
        } else {
            Buf::empty()
        };
        self.send(sink, fixed(pdu.as_bytes()), sense, true);
    }

    /// Fills in the numbers every PDU of ours has at the same places, and sends it with digests and padding.
    fn send(&mut self, sink: &mut impl Sink, mut header: [u8; BHS_LEN], data: Buf, takes_status: bool) {
        let data_in = header[0] == Opcode::DataIn as u8;
        if takes_status || !data_in {
            header[24..28].copy_from_slice(&self.stat_sn.to_be_bytes());
        }
        if takes_status {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        let (expected, max) = self.window();
        header[28..32].copy_from_slice(&expected.to_be_bytes());
        header[32..36].copy_from_slice(&max.to_be_bytes());
        // The last login response is still of the login phase: it has no digests.
        let full = header[0] != Opcode::LoginResponse as u8;
        let padding = pad(data.len());
        let mut tail = [0; 8];
        let mut tail_len = padding;
        if self.agreed.data_digest && full && !data.is_empty() {
            let crc = crc32c_append(data.crc32c(0), &tail[..padding]);
            tail[padding..padding + 4].copy_from_slice(&crc.to_le_bytes());
            tail_len += 4;
        }
        if self.agreed.header_digest && full {
            let mut both = [0; BHS_LEN + 4];
            both[..BHS_LEN].copy_from_slice(&header);
            both[BHS_LEN..].copy_from_slice(&crc32c_append(0, &header).to_le_bytes());
            sink.bytes(&both);
        } else {
            sink.bytes(&header);
        }
        if !data.is_empty() {
            sink.buf(data);
            if tail_len > 0 {
                sink.bytes(&tail[..tail_len]);
            }
        }
    }
}

fn fixed(header: &[u8]) -> [u8; BHS_LEN] {
    let mut out = [0; BHS_LEN];
    out.copy_from_slice(header);
    out
}

/// Residual count and its flag (11.4.5): what the host expected against what the command came to.
fn residual(slot: &Slot, outcome: &Outcome) -> (u8, u32) {
    let expected = match (outcome.moved, slot.direction) {
        (Moved::Nothing, Direction::Read | Direction::Write) => slot.expected,
        (Moved::In, Direction::Read) | (Moved::Out, Direction::Write) => slot.expected,
        _ => 0,
    };
    let wanted = outcome.wanted;
    match u64::from(expected) {
        expected if wanted > expected => (OVERFLOW, u32::try_from(wanted - expected).unwrap_or(u32::MAX)),
        expected if wanted < expected => (UNDERFLOW, (expected - wanted) as u32),
        _ => (0, 0),
    }
}
