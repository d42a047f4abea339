//! One connection's protocol, without socket, clock or disk (DESIGN D9).
//!
//! ```text
//!   bytes ──► input() ──► events: Command(slot), Task, … ──► slot tasks ──► complete(slot, outcome)
//!     ▲ payload(): "the next bytes belong here"                                      │
//!   bytes ◄── output(sink) ◄────────────────── queue of PDUs to be sent ◄────────────┘
//! ```
//!
//! Where MaxConnections = 1 was agreed on, commands arrive in order and a gap in CmdSN is the host's mistake; the CmdSN window
//! is a line of credit from the core's pool (D7): it offers what is lent and not spent. Otherwise this is one connection of
//! several, and a [`Sequencer`](super::sequencer) says whose turn it is. Sequence numbers are given to PDUs when they leave,
//! so answers may be queued in any order.
//!
//! | file | subject |
//! |---|---|
//! | this one | state, phases, time |
//! | `input` | bytes in: headers, write data, where a PDU goes |
//! | `requests` | login, ping, text, logout |
//! | `tasks` | task management |
//! | `turns` | CmdSN, and what came before its turn |
//! | `slots` | commands of the slots' tasks, and the window |
//! | `output` | bytes out: Data-In, R2T, responses |
mod input;
mod output;
mod requests;
mod slots;
mod tasks;
mod turns;

pub use output::Sink;

use super::{
    login::{Agreed, Login},
    slot::{Slot, State},
};
use reactor::{Buf, Time, channel::Sender, pool::Line};
use spec::{
    iscsi::{BHS_LEN, Bhs, Opcode, bhs::*, text},
    scsi::Cdb,
};
use std::{collections::VecDeque, time::Duration};
use turns::Seat;
use zerocopy::{IntoBytes, byteorder::big_endian::U32};

/// A host that is not logged in after this long is gone.
pub const LOGIN_TIME: Duration = Duration::from_secs(15);
/// Slots for commands marked immediate, which the window does not bound.
const EXTRA: u16 = 4;
/// The longest command we take data for. The block limits page says the same (in blocks).
pub const MAX_TRANSFER: u32 = 4 << 20;
/// Answers other than to commands that may wait before we stop listening.
const MISC_LIMIT: usize = 32;
/// A text request in full feature phase is short.
const TEXT_LIMIT: usize = 8 << 10;

/// What whoever drives a session must do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The login is done; [`Session::depth`] slots want tasks, and the host wants [credit](Session::lend).
    LoggedIn,
    /// This slot has a command for its task.
    Command(u16),
    /// A task management function; answer with [`Session::task_done`].
    Task(TaskRequest),
    /// The host of a session with several connections logs out; answer with [`Session::log_out`].
    Logout(LogoutRequest),
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
    /// It came before its turn.
    early: bool,
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

/// What waits for commands to end.
struct Waiting {
    slots: Vec<u16>,
    until: Time,
    then: Then,
}

/// What happens when they have.
enum Then {
    /// A task management function is answered.
    Task(U32),
    /// A logout is answered, and the connection ends.
    Logout(U32),
    /// Whoever holds the other end sees this one dropped.
    Tell(Sender<()>),
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
    /// With several connections: where this one sits.
    seat: Option<Seat>,
    /// The host said goodbye, or has another connection in this one's place.
    orderly: bool,
    next_tag: u32,
    text_in: text::Gather,
    text_out: Vec<u8>,
    patience: Patience,
    /// Login: when it must be done. Then: when the host was last heard.
    since: Time,
    pinged: Option<(u32, Time)>,
    /// The host was asked to log out by then.
    leave_by: Option<Time>,
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
            seat: None,
            orderly: false,
            next_tag: 0,
            text_in: text::Gather::new(TEXT_LIMIT),
            text_out: Vec::new(),
            patience,
            since: now,
            pinged: None,
            leave_by: None,
        }
    }

    // ---- for whoever drives it

    /// Slots there are, once logged in.
    pub fn depth(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Commands the host may have under way besides those marked immediate, over all connections of its session.
    pub fn queue_depth(&self) -> u16 {
        self.depth().saturating_sub(EXTRA)
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
            // What has not begun never will; what runs ends by itself.
            for id in 0..self.slots.len() as u16 {
                if !matches!(self.slots[usize::from(id)].state, State::Free | State::Running) {
                    self.release(id);
                    self.over(id);
                }
            }
            self.stand_up();
        }
    }

    /// It ended as the host wished, or was told to; the session's other connections may go on.
    pub fn is_orderly(&self) -> bool {
        self.orderly
    }

    /// The host has another connection in this one's place.
    pub fn replaced(&mut self) {
        self.orderly = true;
        self.close(Some("replaced"));
    }

    /// When [`tick`](Self::tick) wants to be called next.
    pub fn deadline(&self) -> Option<Time> {
        let after = |t: Time, d: Duration| Time(t.0.saturating_add(d.as_nanos() as u64));
        let abort = self.waiting.iter();
        let abort = abort
            .filter(|w| !matches!(w.then, Then::Tell(_)))
            .map(|w| w.until)
            .chain(self.gap_until())
            .min();
        let own = match (self.phase, self.pinged) {
            (Phase::Closed, _) => None,
            // A host that does not read cannot be waited for for ever.
            (Phase::Login | Phase::Closing, _) => Some(after(self.since, LOGIN_TIME)),
            _ if self.patience.ping_after.is_zero() || self.patience.answer_within.is_zero() => None,
            (_, Some((_, at))) => Some(after(at, self.patience.answer_within)),
            (_, None) => Some(after(self.since, self.patience.ping_after)),
        };
        let leave = self.leave_by.filter(|_| self.phase == Phase::Full);
        own.into_iter().chain(abort).chain(leave).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        // Others, who wait for our commands, have their own patience.
        let (late, in_time) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w| w.until <= now && !matches!(w.then, Then::Tell(_)));
        self.waiting = in_time;
        let late: Vec<Waiting> = late;
        late.into_iter().for_each(|one| self.waited(one.then, false));
        if self.phase == Phase::Full && self.gap_until().is_some_and(|until| until <= now) {
            return self.close(Some("a command of the session is missing"));
        }
        match self.phase {
            Phase::Login if now.since(self.since) >= LOGIN_TIME => self.close(Some("login took too long")),
            Phase::Full if self.leave_by.is_some_and(|by| by <= now) => {
                self.cause = Some("did not log out when asked to");
                self.drop_out(now, AsyncEvent::ConnectionDropped);
            }
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

    /// Tells the host that we would like it to leave (11.9.1, event 1): it has `seconds` to log out, then it is dropped.
    pub fn request_logout(&mut self, now: Time, seconds: u16) {
        if self.phase == Phase::Full {
            self.leave_by = Some(Time(now.0.saturating_add(u64::from(seconds) * 1_000_000_000)));
            self.announce(AsyncEvent::LogoutRequested, [0, 0, seconds]);
        }
    }

    /// Ends it, and tells the host so: this connection (event 2) or the whole session (event 3) is dropped. It may come
    /// back after `DefaultTime2Wait`.
    pub fn drop_out(&mut self, now: Time, event: AsyncEvent) {
        if self.phase == Phase::Full {
            let cid = match event {
                AsyncEvent::ConnectionDropped => self.login.hello().map_or(0, |hello| hello.cid),
                _ => 0,
            };
            self.announce(event, [cid, self.agreed.time2wait, self.agreed.time2retain]);
            self.since = now;
        }
        match self.phase {
            Phase::Full => self.finish(),
            Phase::Login => self.close(Some("dropped")),
            Phase::Closing | Phase::Closed => (),
        }
    }

    fn announce(&mut self, event: AsyncEvent, parameters: [u16; 3]) {
        let message = Async {
            opcode: Opcode::Async as u8,
            flags: FINAL,
            itt: U32::new(NO_TAG),
            event: event as u8,
            parameters: parameters.map(Into::into),
            ..Default::default()
        };
        self.answer(message.as_bytes(), Buf::empty());
    }
}
