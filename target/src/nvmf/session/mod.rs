//! One connection's protocol, without its socket: bytes and time in, bytes and steps out (DESIGN D9).
//!
//! ```text
//!   inbox ──► step() ──► Buffer{slot}   make room for data that follows in the capsule
//!                        Payload{..}    the next bytes belong there: receive them in place, then `received`
//!                        Digest{..}     that payload is whole: what is its CRC32C?  then `digest`
//!                        Command{slot}  run it;   Data{slot}  what `ask` asked for is there
//!                        Full, More, Close
//!   respond(), ask(), abort() ──► Sink  PDUs and references into slot buffers
//! ```
//!
//! A command owns one slot from its capsule until its response has been handed to the kernel, so the number of slots
//! bounds commands, buffers and unsent bytes alike: queue depth is the line of credit (D7). The slot's number is the
//! transfer tag of its R2T, so data finds its command without a search.
//!
//! `input` is what arrives, `output` what is sent; here is the state both work on, and the life of a slot.
mod input;
mod output;

pub use output::Sink;

use spec::nvme::{Sgl, Sqe, Status, tcp::Digests};
use std::time::Duration;

/// Nanoseconds on the reactor's clock.
pub type Nanos = u64;

/// How long a new connection may take until its Connect command has been answered.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a host may keep us waiting for data we asked for.
pub const DATA_TIMEOUT: Duration = Duration::from_secs(30);
/// Admin capsules may carry this much, whatever I/O queues were told (Base 2.0d, 3.3.2.1.1 with TCP 1.0d, 3.3.2.2).
pub const ADMIN_CAPSULE_DATA: u32 = 8192;

/// What both sides of a connection agreed to beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Data bytes in an I/O command capsule.
    pub in_capsule: u32,
    /// Data bytes of one command, and of one H2CData.
    pub max_io: u32,
    /// Reads may be answered with the success flag.
    pub c2h_success: bool,
}

/// A run of payload bytes: `len` of them at `at` in the buffer of `slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The command's slot.
    pub slot: u16,
    /// Where in its buffer.
    pub at: u32,
    /// How many bytes.
    pub len: u32,
}

/// What [`Session::step`] needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes.
    More,
    /// A buffer of `len` bytes for `slot`, before the next step.
    Buffer {
        /// The command's slot.
        slot: u16,
        /// Bytes that follow in its capsule.
        len: u32,
    },
    /// Bytes for a slot; tell [`Session::received`] how many came.
    Payload(Payload),
    /// The CRC32C of that payload; tell [`Session::digest`].
    Digest(Payload),
    /// Somebody to run the command in this slot.
    Command {
        /// The command's slot.
        slot: u16,
    },
    /// The data that [`Session::ask`] asked for is there.
    Data {
        /// The command's slot.
        slot: u16,
    },
    /// A free slot; step again after [`Session::release`].
    Full,
    /// An end: send what is in the sink, then close.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for ICReq.
    Hello,
    /// Waiting for a Connect command that is answered with success.
    Connect,
    Live,
    Closed,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
enum Rx {
    Head,
    /// `at..end` of a slot's buffer; `from` is where this PDU's data began.
    Payload {
        slot: u16,
        from: u32,
        at: u32,
        end: u32,
        digest: bool,
    },
    Digest {
        slot: u16,
        from: u32,
        end: u32,
        got: Option<u32>,
    },
    /// Data of a command that has already failed.
    Skip {
        left: u32,
    },
    /// A command whose buffer was just asked for or whose data is whole.
    Hand {
        slot: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Free,
    /// Its in-capsule data is coming.
    Filling,
    /// With whoever runs it.
    Running,
    /// R2T is out.
    Asked,
    /// Answered as aborted while the device still works on it; `sent` when the answer has left.
    Aborted {
        sent: bool,
    },
    /// Answered; the bytes have not left yet.
    Sending,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    sqe: Sqe,
    used: Use,
    /// Found while receiving: the command must be answered with this.
    fault: Status,
    /// Bytes the host has for us, and how many are here.
    want: u32,
    got: u32,
}

const FREE: Slot = Slot {
    sqe: Sqe {
        opcode: 0,
        flags: 0,
        cid: zerocopy::little_endian::U16::ZERO,
        nsid: zerocopy::little_endian::U32::ZERO,
        cdw2: zerocopy::little_endian::U32::ZERO,
        cdw3: zerocopy::little_endian::U32::ZERO,
        metadata: zerocopy::little_endian::U64::ZERO,
        sgl: Sgl {
            address: zerocopy::little_endian::U64::ZERO,
            length: zerocopy::little_endian::U32::ZERO,
            reserved: [0; 3],
            kind: 0,
        },
        cdw: [zerocopy::little_endian::U32::ZERO; 6],
    },
    used: Use::Free,
    fault: Status::SUCCESS,
    want: 0,
    got: 0,
};

/// A command as whoever runs it sees it.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The submission entry.
    pub sqe: Sqe,
    /// Not success: answer with this and do nothing.
    pub fault: Status,
    /// Bytes the host wants to send and that are not here yet; [`Session::ask`] for them.
    pub missing: u32,
    /// Bytes from the host in all.
    pub data: u32,
}

/// See the module's description.
pub struct Session {
    limits: Limits,
    phase: Phase,
    rx: Rx,
    digests: Digests,
    /// Alignment of data in PDUs to the host, as HPDA.
    hpda: u8,
    /// Queue 0: capsules may carry more.
    admin: bool,
    flow_control: bool,
    entries: u32,
    head: u32,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Commands whose R2T is out.
    asked: u32,
    /// When the host was last heard of.
    heard: Nanos,
}

impl Session {
    /// A session on a connection accepted at `now`. It has one slot until [`Session::connected`].
    pub fn new(limits: Limits, now: Nanos) -> Self {
        Self {
            limits,
            phase: Phase::Hello,
            rx: Rx::Head,
            digests: Digests::default(),
            hpda: 0,
            admin: true,
            flow_control: true,
            entries: 1,
            head: 0,
            slots: vec![FREE],
            free: vec![0],
            asked: 0,
            heard: now,
        }
    }

    /// The command in `slot`.
    pub fn command(&self, slot: u16) -> Command {
        let s = &self.slots[usize::from(slot)];
        Command {
            sqe: s.sqe,
            fault: s.fault,
            missing: s.want - s.got,
            data: s.want,
        }
    }

    /// FUSE of the command in `slot`; a command that is answered with a fault is half of nothing.
    pub fn fuse(&self, slot: u16) -> u8 {
        let s = &self.slots[usize::from(slot)];
        if s.fault.is_success() { s.sqe.fuse() } else { 0 }
    }

    /// Digests in force.
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// True once the Connect command has succeeded.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The Connect command has succeeded: from now on this is queue `qid` with `entries` entries and as many slots.
    /// The Connect command itself stays in slot 0.
    pub fn connected(&mut self, qid: u16, entries: u32, flow_control: bool) {
        self.phase = Phase::Live;
        self.admin = qid == 0;
        self.entries = entries.max(2);
        self.flow_control = flow_control;
        // The Connect command took the first entry of the queue.
        self.head = 1 % self.entries;
        let slots = self.entries.min(1 << 16) as usize;
        self.slots.resize(slots.max(self.slots.len()), FREE);
        self.free = (1..slots).rev().map(|s| s as u16).collect();
        self.free.reserve(1);
    }

    /// When [`Session::expired`] should be asked next, if ever.
    pub fn deadline(&self) -> Option<Nanos> {
        match self.phase {
            Phase::Hello | Phase::Connect => Some(self.heard + CONNECT_TIMEOUT.as_nanos() as u64),
            Phase::Live if self.asked > 0 => Some(self.heard + DATA_TIMEOUT.as_nanos() as u64),
            _ => None,
        }
    }

    /// The host has kept us waiting too long: close.
    pub fn expired(&self, now: Nanos) -> bool {
        self.deadline().is_some_and(|at| now >= at)
    }

    /// Finds the slot of a running command. Commands that wait for data from the host cannot be aborted: their data
    /// would come to nobody.
    pub fn running(&self, cid: u16) -> Option<u16> {
        let found = self
            .slots
            .iter()
            .position(|s| s.used == Use::Running && s.sqe.cid.get() == cid && s.want == s.got);
        found.map(|slot| slot as u16)
    }

    /// Slots of running commands on namespace `nsid`.
    pub fn running_on(&self, nsid: u32) -> impl Iterator<Item = u16> {
        let hit = move |s: &Slot| s.used == Use::Running && s.sqe.nsid.get() == nsid && s.want == s.got;
        let slots = self.slots.iter().enumerate();
        slots.filter(move |(_, s)| hit(s)).map(|(slot, _)| slot as u16)
    }

    /// The device still works on an aborted command on namespace `nsid`.
    pub fn is_aborting(&self, nsid: u32) -> bool {
        let hit = |s: &Slot| matches!(s.used, Use::Aborted { .. }) && s.sqe.nsid.get() == nsid;
        self.slots.iter().any(hit)
    }

    /// Answers a running command as aborted; the slot stays taken until the device is done with it (D6).
    pub fn abort(&mut self, slot: u16, sink: &mut impl Sink) {
        let s = &mut self.slots[usize::from(slot)];
        if s.used == Use::Running {
            s.used = Use::Aborted { sent: false };
            let cid = s.sqe.cid.get();
            self.response(cid, Status::ABORTED_BY_REQUEST, 0, sink);
        }
    }

    /// The response of `slot` has left. Returns true if its buffer may go too.
    pub fn release(&mut self, slot: u16) -> bool {
        let s = &mut self.slots[usize::from(slot)];
        match s.used {
            Use::Sending => {
                s.used = Use::Free;
                self.free.push(slot);
                true
            }
            Use::Aborted { .. } => {
                s.used = Use::Aborted { sent: true };
                false
            }
            _ => false,
        }
    }

    /// The host still has to send data, asked for or within a capsule.
    pub fn waits_for_data(&self) -> bool {
        self.asked > 0 || !matches!(self.rx, Rx::Head)
    }

    /// Commands between their capsule and the end of their response.
    pub fn busy(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
