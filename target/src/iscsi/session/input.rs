//! Bytes in: headers, where their data goes, and the whole PDU to whom it concerns.
//!
//! ```text
//!   Header ─► begin(): a slot? where does the data go? ─► Payload ─► Trailer ─► whole(): commands advance() here,
//!      ▲      (no data: straight to the trailer)           (padding, digest)    the rest goes to `requests`, `tasks`
//!      └──────────────────────────────────────────────────────────────────────────┘
//! ```
use super::*;
use crate::{
    iscsi::{
        login::{Directory, LOGIN_SEGMENT, OUR_SEGMENT},
        sequencer::Arrival,
        slot::Burst,
    },
    scsi::Outcome,
};
use reactor::crc32c_append;
use spec::{
    iscsi::pad,
    scsi::{Sense, Status},
};

impl Session {
    /// Where the next bytes belong, if they belong in a buffer: receive straight into it and call
    /// [`filled`](Self::filled). What comes after that goes to [`input`](Self::input).
    pub fn payload(&self) -> Option<Buf> {
        match &self.rx {
            Rx::Payload(pdu) => Some(pdu.data.slice(pdu.got..pdu.data.len())),
            _ => None,
        }
    }

    /// `n` bytes were received into [`payload`](Self::payload).
    pub fn filled(&mut self, n: usize) {
        if let Rx::Payload(pdu) = &mut self.rx {
            pdu.got += n;
            self.payload_done();
        }
    }

    fn payload_done(&mut self) {
        self.rx = match std::mem::replace(&mut self.rx, Rx::Header) {
            Rx::Payload(pdu) if pdu.got == pdu.data.len() => Rx::Trailer(pdu),
            other => other,
        };
    }

    /// Takes bytes; says how many it used. What it leaves is the start of something incomplete, or the session does
    /// not [listen](Self::listens) any more.
    pub fn input(&mut self, mut bytes: &[u8], now: Time, directory: &mut dyn Directory) -> usize {
        let before = bytes.len();
        while self.listens() {
            let used = match &mut self.rx {
                Rx::Header => self.header(bytes),
                Rx::Payload(pdu) => {
                    let n = bytes.len().min(pdu.data.len() - pdu.got);
                    pdu.data.write_at(pdu.got, &bytes[..n]);
                    pdu.got += n;
                    let more = n > 0;
                    self.payload_done();
                    more.then_some(n)
                }
                Rx::Trailer(_) => self.trailer(bytes, now, directory),
            };
            match used {
                Some(used) => bytes = &bytes[used..],
                None => break,
            }
        }
        before - bytes.len()
    }

    /// A whole header with its AHS and digest, or nothing yet.
    fn header(&mut self, bytes: &[u8]) -> Option<usize> {
        let (bhs, _) = Bhs::split(bytes)?;
        let bhs = *bhs;
        let covered = BHS_LEN + bhs.ahs_len();
        let digest = if self.agreed.header_digest && self.phase == Phase::Full {
            4
        } else {
            0
        };
        let whole = bytes.get(..covered + digest)?;
        if digest > 0 && crc32c_append(0, &whole[..covered]).to_le_bytes() != whole[covered..] {
            self.close(Some("header digest error"));
            return None;
        }
        let limit = if self.phase == Phase::Login {
            LOGIN_SEGMENT
        } else {
            OUR_SEGMENT
        };
        if bhs.data_len() > limit {
            self.close(Some("data segment longer than declared"));
            return None;
        }
        if self.phase == Phase::Login && (bhs.opcode() != Some(Opcode::LoginRequest) || bhs.ahs_len() > 0) {
            self.close(Some("not a login request"));
            return None;
        }
        self.begin(bhs);
        Some(covered + digest)
    }

    /// A header is known: decides where its data goes.
    fn begin(&mut self, bhs: Bhs) {
        let len = bhs.data_len();
        let mut early = false;
        let (slot, drop) = match (self.phase, bhs.opcode()) {
            (Phase::Full, Some(Opcode::DataOut)) => match self.begin_data_out(&bhs) {
                Some(slot) => (Some(slot), false),
                None => (None, true),
            },
            (Phase::Full, Some(opcode)) => {
                let arrival = self.admit(&bhs);
                early = arrival == Arrival::Early;
                let slot = match (arrival, opcode) {
                    (Arrival::Now | Arrival::Early, Opcode::ScsiCommand) => self.begin_command(&bhs, early),
                    _ => None,
                };
                (
                    slot,
                    arrival == Arrival::Never || (opcode == Opcode::ScsiCommand && slot.is_none()),
                )
            }
            _ => (None, false),
        };
        if self.phase == Phase::Closed {
            return;
        }
        let data = match slot.and_then(|slot| self.place(slot, &bhs)) {
            Some(place) => place,
            None if len == 0 => Buf::empty(),
            None => match Buf::try_alloc(len) {
                Some(buf) => buf,
                None => return self.close(Some("no memory")),
            },
        };
        let pdu = Incoming {
            bhs,
            data,
            got: 0,
            slot,
            drop,
            early,
        };
        self.rx = if len == 0 { Rx::Trailer(pdu) } else { Rx::Payload(pdu) };
    }

    /// Takes a slot. `None`: rejected, ignored or closed.
    fn begin_command(&mut self, bhs: &Bhs, early: bool) -> Option<u16> {
        let command: &ScsiCommand = bhs.view();
        let immediate = bhs.is_immediate();
        if self.login.hello().is_none_or(|hello| hello.target.is_none()) {
            self.reject(RejectReason::Protocol, bhs); // a discovery session has no commands
            return None;
        }
        if bhs.itt() == NO_TAG {
            self.reject(RejectReason::InvalidField, bhs);
            return None;
        }
        if self.find(bhs.itt(), |s| s.aborted.is_none()).is_some() {
            self.reject(RejectReason::TaskInProgress, bhs);
            return None;
        }
        // Commands marked immediate have slots of their own, since the window does not bound them.
        let credit = match (&self.line, immediate) {
            (Some(line), false) => line.spend(),
            _ => None,
        };
        let room = if immediate {
            self.immediate < EXTRA
        } else {
            credit.is_some()
        };
        let id = if room { self.free.pop() } else { None };
        let Some(id) = id else {
            self.reject(RejectReason::TooManyImmediate, bhs);
            return None;
        };
        self.immediate += u16::from(immediate);
        self.tags[usize::from(id)] = bhs.itt();
        let slot = &mut self.slots[usize::from(id)];
        let direction = command.direction();
        *slot = Slot {
            state: State::Collecting,
            itt: bhs.itt(),
            immediate,
            credit,
            early,
            lun: command.lun,
            cdb: command.cdb(),
            direction,
            expected: command.expected_len.get(),
            ..Slot::new()
        };
        let len = bhs.data_len() as u32;
        let writes = direction == Direction::Write;
        let take = slot.expected.min(MAX_TRANSFER);
        if direction == Direction::Both || bhs.ahs_len() > 0 {
            slot.failed = Some(Sense::INVALID_FIELD); // no command of ours is that long or goes both ways
        } else if len > 0 && (!writes || !self.agreed.immediate_data || len > self.agreed.first_burst || len > take) {
            slot.failed = Some(Sense::UNSOLICITED);
        } else if writes && slot.expected > MAX_TRANSFER {
            slot.failed = Some(Sense::INFORMATION_UNIT);
        }
        // Unsolicited Data-Out PDUs follow unless the command is final.
        if writes && !bhs.is_final() {
            if self.agreed.initial_r2t {
                slot.failed = Some(Sense::UNSOLICITED);
            }
            let end = take.min(self.agreed.first_burst).max(len.min(take));
            slot.burst = Some(Burst {
                tag: NO_TAG,
                at: len,
                end,
                sn: 0,
            });
        }
        if writes && slot.failed.is_none() {
            match Buf::try_alloc(take as usize) {
                Some(data) => slot.data = data,
                None => slot.failed = Some(Sense::TIMEOUT),
            }
        }
        if let Some(seat) = self.seat.as_mut().filter(|_| !immediate) {
            seat.took(id, bhs.cmd_sn(), early, self.since);
        }
        Some(id)
    }

    /// Finds the slot a Data-Out belongs to. `None`: it is of a command that is gone.
    fn begin_data_out(&mut self, bhs: &Bhs) -> Option<u16> {
        let data: &DataOut = bhs.view();
        let (itt, tag) = (bhs.itt(), data.ttt.get());
        let asked = |s: &Slot| s.served != s.sn && s.tags.contains(&tag) && tag != NO_TAG;
        let wanted = |s: &Slot| s.state == State::Collecting && s.burst.is_some_and(|b| b.tag == tag || asked(s));
        let id = usize::from(self.find(itt, wanted)?);
        let slot = &mut self.slots[id];
        let burst = slot.burst.as_mut()?;
        let (at, len) = (data.buffer_offset.get(), bhs.data_len() as u32);
        if slot.failed.is_none() {
            // Out of sequence is what a lost PDU looks like, so it is told as one (7.8).
            if data.data_sn.get() != burst.sn || at != burst.at || tag != burst.tag {
                slot.failed = Some(Sense::CRC);
            } else if at.checked_add(len).is_none_or(|end| end > burst.end) {
                slot.failed = Some(Sense::DATA_AMOUNT);
            }
        }
        burst.sn = burst.sn.wrapping_add(1);
        Some(id as u16)
    }

    /// The part of a slot's buffer that a PDU's data belongs in; `None` if it goes to waste.
    fn place(&self, id: u16, bhs: &Bhs) -> Option<Buf> {
        let slot = &self.slots[usize::from(id)];
        if slot.failed.is_some() {
            return None;
        }
        let at = match bhs.opcode() {
            Some(Opcode::DataOut) => bhs.view::<DataOut>().buffer_offset.get() as usize,
            _ => 0,
        };
        slot.data.get(at..at + bhs.data_len())
    }

    /// Padding and data digest, and then the PDU is whole.
    fn trailer(&mut self, bytes: &[u8], now: Time, directory: &mut dyn Directory) -> Option<usize> {
        let Rx::Trailer(pdu) = &self.rx else { return None };
        let padding = pad(pdu.data.len());
        let digest = if self.agreed.data_digest && self.phase == Phase::Full && !pdu.data.is_empty() {
            4
        } else {
            0
        };
        let tail = bytes.get(..padding + digest)?;
        let good = digest == 0 || {
            let crc = crc32c_append(pdu.data.crc32c(0), &tail[..padding]);
            crc.to_le_bytes() == tail[padding..]
        };
        let Rx::Trailer(pdu) = std::mem::replace(&mut self.rx, Rx::Header) else {
            return None;
        };
        if self.phase == Phase::Full {
            self.since = now;
            // Any sign of life will do, not only the answer to the ping.
            self.pinged = None;
        }
        match good {
            true => self.whole(pdu, now, directory),
            false => self.corrupt(pdu),
        }
        Some(padding + digest)
    }

    /// A data segment whose digest is wrong (7.7).
    fn corrupt(&mut self, pdu: Incoming) {
        self.reject(RejectReason::DataDigest, &pdu.bhs);
        if let Some(id) = pdu.slot {
            let slot = &mut self.slots[usize::from(id)];
            slot.failed.get_or_insert(Sense::CRC);
            self.advance(id, &pdu);
        }
    }

    fn whole(&mut self, pdu: Incoming, now: Time, directory: &mut dyn Directory) {
        if self.phase == Phase::Login {
            return self.login_step(&pdu, now, directory);
        }
        if pdu.drop {
            return;
        }
        match pdu.early && pdu.slot.is_none() {
            true => self.keep(pdu),
            false => self.deliver(pdu, directory),
        }
        if self.seat.is_some() {
            self.turn(directory);
        }
    }

    /// A PDU whose turn it is.
    pub(super) fn deliver(&mut self, pdu: Incoming, directory: &mut dyn Directory) {
        match pdu.bhs.opcode() {
            Some(Opcode::ScsiCommand | Opcode::DataOut) => {
                if let Some(id) = pdu.slot {
                    self.advance(id, &pdu);
                }
            }
            Some(Opcode::NopOut) => self.nop_out(pdu),
            Some(Opcode::TaskRequest) => self.task(pdu.bhs.view()),
            Some(Opcode::TextRequest) => self.text(&pdu, directory),
            Some(Opcode::LogoutRequest) => self.logout(pdu.bhs.view()),
            Some(Opcode::Snack) => self.reject(RejectReason::Snack, &pdu.bhs),
            Some(Opcode::LoginRequest) => self.reject(RejectReason::Protocol, &pdu.bhs),
            _ => self.reject(RejectReason::NotSupported, &pdu.bhs),
        }
    }

    /// A PDU of a command has arrived whole, good or bad: what is next for the command?
    fn advance(&mut self, id: u16, pdu: &Incoming) {
        let slot = &mut self.slots[usize::from(id)];
        if slot.state != State::Collecting {
            return; // aborted while its data was coming
        }
        if let Some(burst) = &mut slot.burst {
            if pdu.bhs.opcode() == Some(Opcode::DataOut) {
                burst.at = burst.at.saturating_add(pdu.bhs.data_len() as u32);
                if !pdu.bhs.is_final() {
                    return;
                }
                // A solicited burst is as long as we asked for (11.7.1); an unsolicited one may be shorter.
                if burst.tag != NO_TAG && burst.at != burst.end {
                    slot.failed.get_or_insert(Sense::DATA_AMOUNT);
                }
            } else {
                return; // unsolicited Data-Out PDUs follow the command
            }
        }
        let at = match slot.burst.take() {
            Some(burst) if burst.tag != NO_TAG => {
                slot.served = slot.served.wrapping_add(1);
                burst.at
            }
            Some(burst) => burst.at,
            None => pdu.bhs.data_len() as u32,
        };
        if slot.asked.0 == 0 {
            slot.asked = (at, at);
        }
        slot.gathered = true;
        if !slot.early {
            self.proceed(id, at);
        }
    }

    /// A command has what was sent unasked, or what one R2T asked for: up to `at`.
    pub(super) fn proceed(&mut self, id: u16, at: u32) {
        let slot = &mut self.slots[usize::from(id)];
        if let Some(sense) = slot.failed {
            let outcome = if sense == Sense::TIMEOUT {
                Outcome::status(Status::Busy)
            } else {
                Outcome::failed(sense)
            };
            slot.state = State::Running;
            return self.complete(id, outcome);
        }
        let total = slot.data.len() as u32;
        if at >= total {
            slot.state = State::Ready;
            return self.events.push_back(Event::Command(id));
        }
        // The next one asked for, if it has been.
        if slot.served != slot.sn {
            let tag = slot.tags[slot.served as usize % slot.tags.len()];
            let end = total.min(at.saturating_add(self.agreed.max_burst));
            slot.burst = Some(Burst { tag, at, end, sn: 0 });
        }
        self.ask(id);
    }
}
