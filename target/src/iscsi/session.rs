//! One connection's protocol, without socket, clock or disk (DESIGN D9).
//!
//! ```text
//!   bytes ──► input() ──► events: Command(slot), Task, … ──► slot tasks ──► complete(slot, outcome)
//!     ▲ payload(): "the next bytes belong here"                                      │
//!   bytes ◄── output(sink) ◄────────────────── queue of PDUs to be sent ◄────────────┘
//! ```
//!
//! A session has one connection (MaxConnections = 1), so commands arrive in order and a gap in CmdSN is the host's
//! mistake. The CmdSN window is a line of credit from the core's pool (D7): it offers what is lent and not spent. Sequence numbers are given
//! to PDUs when they leave, so answers may be queued in any order.
use super::{
    login::{Agreed, Directory, LOGIN_SEGMENT, Login, OUR_SEGMENT, Then},
    slot::{Burst, Slot, State},
};
use crate::scsi::Outcome;
use reactor::{Buf, Time, crc32c_append, pool::Line};
use spec::{
    iscsi::{
        BHS_LEN, Bhs, Opcode,
        bhs::{self, *},
        pad, sn_before, text,
    },
    scsi::{Cdb, Sense, Status, sense},
};
use std::{collections::VecDeque, time::Duration};
use zerocopy::{IntoBytes, byteorder::big_endian::U32};

/// A host that is not logged in after this long is gone.
pub const LOGIN_TIME: Duration = Duration::from_secs(15);
/// Slots for commands marked immediate, which the window does not bound.
const EXTRA: u16 = 4;
/// The longest command we take data for. The block limits page says the same (in blocks).
pub const MAX_TRANSFER: u32 = 4 << 20;
/// Answers other than to commands that may wait before we stop listening.
const MISC_LIMIT: usize = 32;
/// The longest Data-In segment we send: more is better for nobody, and less is fairer.
const DATA_IN: u32 = 128 << 10;
/// An abort is answered when what it aborted is over, or given up after this long.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);
/// A text request in full feature phase is short.
const TEXT_LIMIT: usize = 8 << 10;

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

/// What whoever drives a session must do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The login is done; [`Session::depth`] slots want tasks, and the host wants [credit](Session::lend).
    LoggedIn,
    /// This slot has a command for its task.
    Command(u16),
    /// A task management function; answer with [`Session::task_done`].
    Task(TaskRequest),
}

/// What a slot's task needs of a command.
#[derive(Clone, Debug)]
pub struct Taken {
    /// As on the wire.
    pub lun: [u8; 8],
    /// The command.
    pub cdb: Cdb,
    /// Bytes the host expects to get; 0 if it expects none.
    pub room: u32,
    /// What it sent.
    pub data: Buf,
}

/// Times a session keeps.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A silent host is pinged after this long; zero: never.
    pub ping_after: Duration,
    /// A ping not answered after this long ends the connection; zero: no pings.
    pub answer_within: Duration,
}

/// A PDU that is coming in.
struct Incoming {
    bhs: Bhs,
    data: Buf,
    got: usize,
    /// The slot the data is for.
    slot: Option<u16>,
    /// Known to be worth nothing when the header came; read and forgotten.
    drop: bool,
}

enum Rx {
    Header,
    Payload(Incoming),
    Trailer(Incoming),
}

enum Out {
    /// An answer that takes a StatSN.
    Answer([u8; BHS_LEN], Buf),
    /// A message that only tells the current one.
    Message([u8; BHS_LEN], Buf),
    /// The rest of a slot's answer.
    Slot(u16),
    /// The next R2T of a slot.
    R2t(u16),
}

struct Waiting {
    itt: U32,
    slots: Vec<u16>,
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Login,
    Full,
    /// Send what is queued, then close.
    Closing,
    Closed,
}

/// Why a connection ended; for the log.
pub type Cause = &'static str;

/// One connection's protocol.
pub struct Session {
    phase: Phase,
    cause: Option<Cause>,
    login: Login,
    agreed: Agreed,
    rx: Rx,
    slots: Vec<Slot>,
    /// Initiator task tags of the slots, close together: every PDU with a tag is looked up here.
    tags: Vec<u32>,
    free: Vec<u16>,
    /// Credits lent to the host: the window.
    line: Option<Line>,
    /// Slots taken by commands outside of the window.
    immediate: u16,
    stat_sn: u32,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    out: VecDeque<Out>,
    misc: usize,
    events: VecDeque<Event>,
    waiting: Vec<Waiting>,
    next_tag: u32,
    text_in: text::Gather,
    text_out: Vec<u8>,
    patience: Patience,
    /// Login: when it must be done. Then: when the host was last heard.
    since: Time,
    pinged: Option<(u32, Time)>,
}

impl Session {
    /// A connection that was just accepted.
    pub fn new(now: Time, patience: Patience) -> Self {
        Self {
            phase: Phase::Login,
            cause: None,
            login: Login::default(),
            agreed: Agreed::default(),
            rx: Rx::Header,
            slots: Vec::new(),
            tags: Vec::new(),
            free: Vec::new(),
            line: None,
            immediate: 0,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            out: VecDeque::new(),
            misc: 0,
            events: VecDeque::new(),
            waiting: Vec::new(),
            next_tag: 0,
            text_in: text::Gather::new(TEXT_LIMIT),
            text_out: Vec::new(),
            patience,
            since: now,
            pinged: None,
        }
    }

    // ---- for whoever drives it

    /// Slots there are, once logged in.
    pub fn depth(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Lends the host credits for commands, up to [`depth`](Self::depth) and a few more. Until then its window is closed.
    pub fn lend(&mut self, line: Line) {
        self.line = Some(line);
    }

    /// What was said and agreed at login.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// What both sides agreed on.
    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// The next thing to be done.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes still come in: not when the host lets its answers pile up, nor when this is over.
    pub fn listens(&self) -> bool {
        matches!(self.phase, Phase::Login | Phase::Full) && self.misc < MISC_LIMIT
    }

    /// Over: nothing more is sent or taken.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed || (self.phase == Phase::Closing && self.out.is_empty() && self.waiting.is_empty())
    }

    /// Why it ended, if it did not end well.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Something waits to be sent.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() && self.phase != Phase::Closed
    }

    /// Ends it at once.
    pub fn close(&mut self, cause: Option<Cause>) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.cause = cause;
            self.out.clear();
            self.events.clear();
        }
    }

    /// When [`tick`](Self::tick) wants to be called next.
    pub fn deadline(&self) -> Option<Time> {
        let after = |t: Time, d: Duration| Time(t.0.saturating_add(d.as_nanos() as u64));
        let abort = self.waiting.iter().map(|w| w.until).min();
        let own = match (self.phase, self.pinged) {
            (Phase::Closed, _) => None,
            // A host that does not read cannot be waited for for ever.
            (Phase::Login | Phase::Closing, _) => Some(after(self.since, LOGIN_TIME)),
            _ if self.patience.ping_after.is_zero() || self.patience.answer_within.is_zero() => None,
            (_, Some((_, at))) => Some(after(at, self.patience.answer_within)),
            (_, None) => Some(after(self.since, self.patience.ping_after)),
        };
        own.into_iter().chain(abort).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        let (late, in_time) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w| w.until <= now);
        self.waiting = in_time;
        let late: Vec<Waiting> = late;
        for waiting in late {
            self.answer_task(waiting.itt, TaskOutcome::Rejected);
        }
        match self.phase {
            Phase::Login if now.since(self.since) >= LOGIN_TIME => self.close(Some("login took too long")),
            Phase::Closing if now.since(self.since) >= LOGIN_TIME => self.close(Some("last words not taken")),
            Phase::Full if self.deadline().is_some_and(|due| due <= now) => match self.pinged {
                Some(_) => self.close(Some("ping not answered")),
                None => self.ping(now),
            },
            _ => (),
        }
    }

    fn ping(&mut self, now: Time) {
        let tag = self.tag();
        self.pinged = Some((tag, now));
        let ping = NopIn {
            opcode: Opcode::NopIn as u8,
            flags: FINAL,
            itt: U32::new(NO_TAG),
            ttt: U32::new(tag),
            ..Default::default()
        };
        self.message(ping.as_bytes(), Buf::empty());
    }

    /// Ends it when everything queued is sent.
    pub fn finish(&mut self) {
        if self.phase == Phase::Full {
            self.phase = Phase::Closing;
        }
    }

    /// Tells the host that we would like it to leave (11.9.1): it has `seconds` to log out.
    pub fn request_logout(&mut self, seconds: u16) {
        if self.phase == Phase::Full {
            let message = Async {
                opcode: Opcode::Async as u8,
                flags: FINAL,
                itt: U32::new(NO_TAG),
                event: AsyncEvent::LogoutRequested as u8,
                parameters: [0.into(), 0.into(), seconds.into()],
                ..Default::default()
            };
            self.answer(message.as_bytes(), Buf::empty());
        }
    }

    // ---- bytes in

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
        let (slot, drop) = match (self.phase, bhs.opcode()) {
            (Phase::Full, Some(Opcode::ScsiCommand)) => match self.admit(&bhs) {
                true => match self.begin_command(&bhs) {
                    Some(slot) => (Some(slot), false),
                    None => (None, true),
                },
                false => (None, true),
            },
            (Phase::Full, Some(Opcode::DataOut)) => match self.begin_data_out(&bhs) {
                Some(slot) => (Some(slot), false),
                None => (None, true),
            },
            (Phase::Full, Some(_)) => (None, !self.admit(&bhs)),
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
        };
        self.rx = if len == 0 { Rx::Trailer(pdu) } else { Rx::Payload(pdu) };
    }

    /// CmdSN (4.2.2.1): false if the PDU is to be ignored. Takes the number if it is the expected one.
    fn admit(&mut self, bhs: &Bhs) -> bool {
        if bhs.opcode() == Some(Opcode::Snack) || bhs.is_immediate() {
            return true;
        }
        let sn = bhs.cmd_sn();
        if sn_before(sn, self.exp_cmd_sn) || sn_before(self.max_cmd_sn, sn) {
            return false;
        }
        if sn != self.exp_cmd_sn {
            self.close(Some("gap in CmdSN"));
            return false;
        }
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        true
    }

    /// Takes a slot. `None`: rejected, ignored or closed.
    fn begin_command(&mut self, bhs: &Bhs) -> Option<u16> {
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
        if self.find(bhs.itt(), |s| !s.aborted).is_some() {
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
        Some(id)
    }

    /// Finds the slot a Data-Out belongs to. `None`: it is of a command that is gone.
    fn begin_data_out(&mut self, bhs: &Bhs) -> Option<u16> {
        let data: &DataOut = bhs.view();
        let (itt, tag) = (bhs.itt(), data.ttt.get());
        let wanted = |s: &Slot| s.state == State::Collecting && s.burst.is_some_and(|b| b.tag == tag);
        let id = usize::from(self.find(itt, wanted)?);
        let slot = &mut self.slots[id];
        let burst = slot.burst.as_mut()?;
        let (at, len) = (data.buffer_offset.get(), bhs.data_len() as u32);
        if slot.failed.is_none() {
            // Out of sequence is what a lost PDU looks like, so it is told as one (7.8).
            if data.data_sn.get() != burst.sn || at != burst.at {
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

    fn login_step(&mut self, pdu: &Incoming, now: Time, directory: &mut dyn Directory) {
        let Some(mut step) = self.login.step(&pdu.bhs, &pdu.data.to_vec(), directory) else {
            return self.close(Some("not a login request"));
        };
        if self.stat_sn == 0 {
            // The first request: its numbers are where both sides start.
            self.stat_sn = pdu.bhs.exp_stat_sn();
        }
        self.exp_cmd_sn = pdu.bhs.cmd_sn();
        self.max_cmd_sn = self.exp_cmd_sn;
        match step.then {
            Then::Continue => (),
            Then::Close => {
                self.phase = Phase::Closing;
                self.cause = Some("login refused");
            }
            Then::Done => {
                self.phase = Phase::Full;
                self.since = now;
                self.agreed = self.login.agreed;
                let welcome = self.login.welcome();
                let (depth, tsih) = (welcome.depth.clamp(1, 1024), welcome.tsih);
                step.response.tsih = tsih.into();
                self.slots = (0..depth + EXTRA).map(|_| Slot::new()).collect();
                self.tags = vec![NO_TAG; self.slots.len()];
                self.free = (0..depth + EXTRA).rev().collect();
                self.events.push_back(Event::LoggedIn);
            }
        }
        let text = Buf::from_slice(&step.text);
        self.answer(step.response.as_bytes(), text);
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
            Some(burst) => burst.at,
            None => pdu.bhs.data_len() as u32,
        };
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
        if at < total {
            let end = total.min(at.saturating_add(self.agreed.max_burst));
            slot.burst = Some(Burst { tag: 0, at, end, sn: 0 });
            self.out.push_back(Out::R2t(id));
        } else {
            slot.state = State::Ready;
            self.events.push_back(Event::Command(id));
        }
    }

    fn nop_out(&mut self, pdu: Incoming) {
        let nop: &NopOut = pdu.bhs.view();
        if nop.itt.get() == NO_TAG {
            return; // the answer to a ping, and hearing it was all we wanted
        }
        let len = pdu.data.len().min(self.agreed.their_segment as usize);
        let answer = NopIn {
            opcode: Opcode::NopIn as u8,
            flags: FINAL,
            lun: nop.lun,
            itt: nop.itt,
            ttt: U32::new(NO_TAG),
            data_segment_len: len24(len),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), pdu.data.slice(0..len));
    }

    fn logout(&mut self, request: &LogoutRequest) {
        let response = match request.flags & 0x7f {
            0 => 0,
            1 if request.cid.get() == self.login.hello().map_or(0, |hello| hello.cid) => 0,
            1 => 1, // no such connection
            _ => 2, // recovery is not for level 0
        };
        let answer = LogoutResponse {
            opcode: Opcode::LogoutResponse as u8,
            flags: FINAL,
            response,
            itt: request.itt,
            time2wait: (self.login.welcome().time2wait as u16).into(),
            time2retain: 0.into(),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::empty());
        if response == 0 {
            // What was asked before is answered before, as far as it is done; the rest ends with the session.
            self.phase = Phase::Closing;
        }
    }

    fn text(&mut self, pdu: &Incoming, directory: &mut dyn Directory) {
        let request: &TextRequest = pdu.bhs.view();
        if self.text_in.push(&pdu.data.to_vec()).is_err() {
            self.text_in.take();
            return self.reject(RejectReason::OutOfResources, &pdu.bhs);
        }
        if request.flags & CONTINUE != 0 {
            return self.text_answer(request, Vec::new(), false);
        }
        let said = self.text_in.take();
        if request.ttt.get() == NO_TAG {
            self.text_out.clear();
            let Ok(pairs) = text::pairs(&said) else {
                return self.reject(RejectReason::Protocol, &pdu.bhs);
            };
            for (name, value) in pairs {
                match name {
                    "SendTargets" => self.send_targets(value, directory),
                    // Values of the running session are not up for negotiation.
                    _ if text::Key::named(name).is_some() => text::put(&mut self.text_out, name, "Reject"),
                    _ => text::put(&mut self.text_out, name, "NotUnderstood"),
                }
            }
        }
        let most = (self.agreed.their_segment as usize).min(64 << 10);
        let rest = self.text_out.split_off(self.text_out.len().min(most));
        let now = std::mem::replace(&mut self.text_out, rest);
        let done = self.text_out.is_empty();
        self.text_answer(request, now, done);
    }

    fn send_targets(&mut self, value: &str, directory: &mut dyn Directory) {
        let Some(hello) = self.login.hello() else { return };
        let only = match (value, &hello.target) {
            ("All", None) => None,
            // "All" belongs to discovery; in a normal session a host may ask about its own target only (appendix C).
            ("All", Some(_)) => return text::put(&mut self.text_out, "SendTargets", "Reject"),
            ("", Some(own)) => Some(own.clone()),
            ("", None) => return,
            (name, own) if own.as_ref().is_none_or(|own| own == name) => Some(name.to_ascii_lowercase()),
            _ => return,
        };
        for (name, addresses) in directory.targets(&hello.initiator, only.as_deref()) {
            text::put(&mut self.text_out, "TargetName", name);
            for (address, tag) in addresses {
                text::put(&mut self.text_out, "TargetAddress", format_args!("{address},{tag}"));
            }
        }
    }

    fn text_answer(&mut self, request: &TextRequest, text: Vec<u8>, done: bool) {
        // While there is more, the tag is how the host asks for it.
        let (flags, tag) = match (done, text.is_empty()) {
            (true, _) => (FINAL, NO_TAG),
            (false, true) => (0, self.tag()),
            (false, false) => (CONTINUE, self.tag()),
        };
        let answer = TextResponse {
            opcode: Opcode::TextResponse as u8,
            flags,
            lun: request.lun,
            itt: request.itt,
            ttt: U32::new(tag),
            data_segment_len: len24(text.len()),
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::from_slice(&text));
    }

    // ---- task management

    fn task(&mut self, request: &TaskRequest) {
        match request.function() {
            None | Some(Function::ClearAca) => self.answer_task(request.itt, TaskOutcome::NotSupported),
            // Reassignment needs error recovery level 2.
            Some(Function::Reassign) => self.answer_task(request.itt, TaskOutcome::NoReassign),
            Some(_) => self.events.push_back(Event::Task(*request)),
        }
    }

    /// Aborts one command of this session: the one a host's ABORT TASK names. What the answer to it is, unless commands
    /// have to be waited for.
    pub fn abort_task(&mut self, request: &TaskRequest) {
        let (itt, lun) = (request.referenced_tag.get(), request.lun);
        match self.find(itt, |s| !s.aborted && s.lun == lun) {
            Some(id) => self.abort(request.itt, vec![id]),
            None => {
                // One that can still come counts as aborted before it came (11.5.1); all others are over.
                let sn = request.ref_cmd_sn.get();
                let may_come = !sn_before(sn, self.exp_cmd_sn) && !sn_before(self.max_cmd_sn, sn);
                let outcome = if may_come {
                    TaskOutcome::Complete
                } else {
                    TaskOutcome::NoTask
                };
                self.answer_task(request.itt, outcome);
            }
        }
    }

    /// Aborts every command of this session to `lun` (`None`: to any), and answers when they are over.
    pub fn abort_all(&mut self, itt: U32, lun: Option<[u8; 8]>) {
        let hit = |s: &Slot| s.state != State::Free && !s.aborted && lun.is_none_or(|lun| lun == s.lun);
        let slots = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, s)| hit(s))
            .map(|(id, _)| id as u16)
            .collect();
        self.abort(itt, slots);
    }

    /// Ends a task management function.
    pub fn task_done(&mut self, itt: U32, outcome: TaskOutcome) {
        self.answer_task(itt, outcome);
    }

    fn abort(&mut self, itt: U32, slots: Vec<u16>) {
        let mut running = Vec::new();
        for id in slots {
            let slot = &mut self.slots[usize::from(id)];
            slot.aborted = true;
            match slot.state {
                // Nothing of ours is under way for it.
                State::Collecting | State::Answering => {
                    self.out
                        .retain(|out| !matches!(out, Out::Slot(s) | Out::R2t(s) if *s == id));
                    self.release(id);
                }
                // D6: it runs to its end; the host is told then (11.5.1: after the task is gone).
                _ => running.push(id),
            }
        }
        match running.is_empty() {
            true => self.answer_task(itt, TaskOutcome::Complete),
            false => {
                let until = Time(self.since.0 + ABORT_PATIENCE.as_nanos() as u64);
                self.waiting.push(Waiting {
                    itt,
                    slots: running,
                    until,
                });
            }
        }
    }

    fn answer_task(&mut self, itt: U32, outcome: TaskOutcome) {
        let answer = TaskResponse {
            opcode: Opcode::TaskResponse as u8,
            flags: FINAL,
            response: outcome as u8,
            itt,
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::empty());
    }

    // ---- slots

    /// The command of a slot whose event said so. `None`: it was aborted meanwhile (and is over by this call).
    pub fn take(&mut self, id: u16) -> Option<Taken> {
        let slot = &mut self.slots[usize::from(id)];
        if slot.state != State::Ready {
            return None;
        }
        slot.state = State::Running;
        if slot.aborted {
            self.complete(id, Outcome::good());
            return None;
        }
        Some(Taken {
            lun: slot.lun,
            cdb: slot.cdb,
            room: if slot.direction == Direction::Read {
                slot.expected
            } else {
                0
            },
            data: std::mem::take(&mut slot.data),
        })
    }

    /// A slot's command is over.
    pub fn complete(&mut self, id: u16, outcome: Outcome) {
        let slot = &mut self.slots[usize::from(id)];
        debug_assert_eq!(slot.state, State::Running);
        if slot.aborted || self.phase == Phase::Closed {
            self.release(id);
            let waiting = std::mem::take(&mut self.waiting);
            for mut one in waiting {
                one.slots.retain(|s| *s != id);
                match one.slots.is_empty() {
                    true => self.answer_task(one.itt, TaskOutcome::Complete),
                    false => self.waiting.push(one),
                }
            }
            return;
        }
        slot.state = State::Answering;
        slot.outcome = Some(outcome);
        slot.sn = 0;
        self.out.push_back(Out::Slot(id));
    }

    /// The slot with this tag that `wanted` wants.
    fn find(&self, itt: u32, wanted: impl Fn(&Slot) -> bool) -> Option<u16> {
        let tagged = self.tags.iter().enumerate().filter(|(_, tag)| **tag == itt);
        tagged
            .map(|(id, _)| id as u16)
            .find(|id| wanted(&self.slots[usize::from(*id)]))
    }

    /// The slot is free, and its credit the host's again.
    fn release(&mut self, id: u16) {
        let slot = &mut self.slots[usize::from(id)];
        self.immediate -= u16::from(slot.immediate);
        *slot = Slot::new();
        self.tags[usize::from(id)] = NO_TAG;
        self.free.push(id);
    }

    /// The window we offer: never backwards (4.2.2.1), never more than slots.
    fn window(&mut self) -> u32 {
        if let Some(line) = &self.line {
            if line.granted() + line.spent() < line.limit() {
                line.grow();
            }
            let offer = self.exp_cmd_sn.wrapping_add(line.granted()).wrapping_sub(1);
            if sn_before(self.max_cmd_sn, offer) {
                self.max_cmd_sn = offer;
            }
        }
        self.max_cmd_sn
    }

    // ---- bytes out

    fn tag(&mut self) -> u32 {
        // Tags only have to differ from NO_TAG and from what is outstanding, which is far fewer.
        self.next_tag = self.next_tag.wrapping_add(1) % NO_TAG;
        self.next_tag
    }

    fn answer(&mut self, header: &[u8], data: Buf) {
        self.misc += 1;
        self.out.push_back(Out::Answer(fixed(header), data));
    }

    fn message(&mut self, header: &[u8], data: Buf) {
        self.misc += 1;
        self.out.push_back(Out::Message(fixed(header), data));
    }

    fn reject(&mut self, reason: RejectReason, bad: &Bhs) {
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

    fn send_r2t(&mut self, sink: &mut impl Sink, id: u16) {
        let tag = self.tag();
        let slot = &mut self.slots[usize::from(id)];
        let Some(burst) = &mut slot.burst else { return };
        burst.tag = tag;
        let r2t = R2t {
            opcode: Opcode::R2t as u8,
            flags: FINAL,
            lun: slot.lun,
            itt: slot.itt.into(),
            ttt: tag.into(),
            r2t_sn: slot.sn.into(),
            buffer_offset: burst.at.into(),
            desired_len: (burst.end - burst.at).into(),
            ..Default::default()
        };
        slot.sn = slot.sn.wrapping_add(1);
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
        let max = self.window();
        header[28..32].copy_from_slice(&self.exp_cmd_sn.to_be_bytes());
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
    use crate::scsi::Moved;
    let expected = match (outcome.moved, slot.direction) {
        (Moved::Nothing, Direction::Read | Direction::Write) => slot.expected,
        (Moved::In, Direction::Read) | (Moved::Out, Direction::Write) => slot.expected,
        _ => 0,
    };
    let wanted = outcome.wanted;
    match u64::from(expected) {
        expected if wanted > expected => (bhs::OVERFLOW, u32::try_from(wanted - expected).unwrap_or(u32::MAX)),
        expected if wanted < expected => (bhs::UNDERFLOW, (expected - wanted) as u32),
        _ => (0, 0),
    }
}
