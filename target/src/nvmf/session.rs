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
use reactor::crc32c;
use spec::nvme::{
    Cqe, Sgl, Sqe, Status, command,
    tcp::{self, CapsuleResp, DataHeader, Digests, Fatal, FatalError, Header, IcReq, IcResp, Kind, Layout},
};
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

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

/// Where the session's bytes go.
pub trait Sink {
    /// Copies a few bytes.
    fn bytes(&mut self, bytes: &[u8]);
    /// Takes part of a slot's buffer by reference.
    fn data(&mut self, payload: Payload);
    /// CRC32C of part of a slot's buffer.
    fn crc(&mut self, payload: Payload) -> u32;
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

    /// Looks at the unread bytes; returns how many of them are used up and what is needed next.
    pub fn step(&mut self, bytes: &[u8], now: Nanos, sink: &mut impl Sink) -> (usize, Step) {
        match self.rx {
            Rx::Head => match self.head(bytes, now, sink) {
                Ok(done) => done,
                Err(fatal) => {
                    self.terminate(fatal, bytes, sink);
                    (0, Step::Close)
                }
            },
            Rx::Payload { slot, at, end, .. } => (
                0,
                Step::Payload(Payload {
                    slot,
                    at,
                    len: end - at,
                }),
            ),
            Rx::Digest {
                slot,
                from,
                end,
                got: None,
            } => {
                let Some(digest) = bytes.first_chunk::<4>() else {
                    return (0, Step::More);
                };
                self.rx = Rx::Digest {
                    slot,
                    from,
                    end,
                    got: Some(u32::from_le_bytes(*digest)),
                };
                (
                    4,
                    Step::Digest(Payload {
                        slot,
                        at: from,
                        len: end - from,
                    }),
                )
            }
            Rx::Digest {
                slot,
                from,
                end,
                got: Some(_),
            } => (
                0,
                Step::Digest(Payload {
                    slot,
                    at: from,
                    len: end - from,
                }),
            ),
            Rx::Skip { left } => {
                let n = bytes.len().min(left as usize);
                let left = left - n as u32;
                self.rx = if left == 0 { Rx::Head } else { Rx::Skip { left } };
                (n, Step::More)
            }
            Rx::Hand { slot } => {
                self.rx = Rx::Head;
                (0, self.hand(slot))
            }
        }
    }

    /// `n` bytes of the payload that [`Step::Payload`] spoke of have been put where they belong.
    pub fn received(&mut self, n: usize, now: Nanos) {
        let Rx::Payload {
            slot,
            from,
            at,
            end,
            digest,
        } = self.rx
        else {
            return;
        };
        self.heard = now;
        let at = (at + n as u32).min(end);
        if at < end {
            self.rx = Rx::Payload {
                slot,
                from,
                at,
                end,
                digest,
            };
            return;
        }
        self.slots[usize::from(slot)].got = end;
        self.rx = if digest {
            Rx::Digest {
                slot,
                from,
                end,
                got: None,
            }
        } else {
            Rx::Hand { slot }
        };
    }

    /// The CRC32C that [`Step::Digest`] asked for.
    pub fn digest(&mut self, crc: u32) {
        let Rx::Digest {
            slot, got: Some(wire), ..
        } = self.rx
        else {
            return;
        };
        if crc != wire {
            // The transfer failed, not the connection (TCP 1.0d, 3.3.1.1.2): the command may be tried again.
            self.slots[usize::from(slot)].fault = Status::TRANSIENT_TRANSPORT_ERROR;
        }
        self.rx = Rx::Hand { slot };
    }

    /// A PDU's data is whole: is there something to do?
    fn hand(&mut self, slot: u16) -> Step {
        let s = &mut self.slots[usize::from(slot)];
        match s.used {
            Use::Filling => {
                s.used = Use::Running;
                Step::Command { slot }
            }
            Use::Asked if s.got == s.want => {
                s.used = Use::Running;
                self.asked -= 1;
                Step::Data { slot }
            }
            _ => Step::More,
        }
    }

    /// The head of a PDU: everything before its data.
    fn head(&mut self, bytes: &[u8], now: Nanos, sink: &mut impl Sink) -> Result<(usize, Step), Fatal> {
        if self.phase == Phase::Closed {
            return Ok((bytes.len(), Step::Close));
        }
        let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
            return Ok((0, Step::More));
        };
        let max_data = if self.admin {
            ADMIN_CAPSULE_DATA.max(self.limits.in_capsule)
        } else {
            self.limits.in_capsule
        };
        let max_data = if header.kind == Kind::H2cData as u8 {
            self.limits.max_io
        } else {
            max_data
        };
        let layout = header.check(self.digests, 0, max_data)?;
        match (self.phase, layout.kind) {
            (_, Kind::H2cTermReq) => {
                self.phase = Phase::Closed;
                return Ok((bytes.len(), Step::Close));
            }
            (Phase::Hello, Kind::IcReq)
            | (Phase::Connect | Phase::Live, Kind::CapsuleCmd)
            | (Phase::Live, Kind::H2cData) => {}
            _ => return Err(Fatal::plain(FatalError::Sequence)),
        }
        let Some(head) = bytes.get(..layout.head) else {
            return Ok((0, Step::More));
        };
        if layout.header_digest {
            let hlen = layout.kind.header_len();
            let wire = u32::from_le_bytes([head[hlen], head[hlen + 1], head[hlen + 2], head[hlen + 3]]);
            if crc32c(&head[..hlen]) != wire {
                return Err(Fatal {
                    error: FatalError::HeaderDigest,
                    info: wire,
                });
            }
        }
        let step = match layout.kind {
            Kind::IcReq => self.hello(head, sink)?,
            Kind::CapsuleCmd => match self.capsule(head, layout) {
                Step::Full => return Ok((0, Step::Full)),
                step => step,
            },
            _ => self.data(head, layout)?,
        };
        self.heard = now;
        Ok((layout.head, step))
    }

    /// ICReq (TCP 1.0d, 3.3.1): agree on digests and alignments.
    fn hello(&mut self, head: &[u8], sink: &mut impl Sink) -> Result<Step, Fatal> {
        let Ok(req) = IcReq::ref_from_bytes(head) else {
            return Err(Fatal::header(4));
        };
        if req.version.get() != 0 {
            return Err(Fatal {
                error: FatalError::Unsupported,
                info: 8,
            });
        }
        if req.hpda > 31 {
            return Err(Fatal::header(10));
        }
        self.hpda = req.hpda;
        // One R2T a command, so any MAXR2T will do.
        let digests = Digests::of(req.digests);
        sink.bytes(IcResp::new(digests, 0, self.limits.max_io).as_bytes());
        self.digests = digests;
        self.phase = Phase::Connect;
        Ok(Step::More)
    }

    /// A command capsule: takes a slot, finds out where its data comes from.
    fn capsule(&mut self, head: &[u8], layout: Layout) -> Step {
        let Some(&slot) = self.free.last() else {
            return Step::Full;
        };
        let Ok((sqe, _)) = Sqe::read_from_prefix(&head[tcp::HEADER..]) else {
            return Step::Full;
        };
        self.free.pop();
        if self.phase == Phase::Live {
            self.head += 1;
            if self.head >= self.entries {
                self.head = 0;
            }
        }
        let (fault, want) = match data_of(&sqe, layout.data, self.limits.max_io) {
            Ok(want) => (Status::SUCCESS, want),
            Err(fault) => (fault, 0),
        };
        self.slots[usize::from(slot)] = Slot {
            sqe,
            used: Use::Running,
            fault,
            want,
            got: 0,
        };
        if layout.data == 0 {
            return Step::Command { slot };
        }
        if !fault.is_success() {
            self.rx = Rx::Skip {
                left: layout.data + if layout.data_digest { tcp::DIGEST as u32 } else { 0 },
            };
            return Step::Command { slot };
        }
        self.slots[usize::from(slot)].used = Use::Filling;
        self.rx = Rx::Payload {
            slot,
            from: 0,
            at: 0,
            end: layout.data,
            digest: layout.data_digest,
        };
        Step::Buffer { slot, len: layout.data }
    }

    /// H2CData: must continue, without gap, what an R2T asked for.
    fn data(&mut self, head: &[u8], layout: Layout) -> Result<Step, Fatal> {
        let Ok((pdu, _)) = DataHeader::read_from_prefix(head) else {
            return Err(Fatal::header(4));
        };
        let tag = pdu.ttag.get();
        let Some(s) = self.slots.get(usize::from(tag)).filter(|s| s.used == Use::Asked) else {
            return Err(Fatal::header(10));
        };
        if s.sqe.cid != pdu.cid {
            return Err(Fatal::header(8));
        }
        let (offset, length) = (pdu.offset.get(), pdu.length.get());
        if length != layout.data || length == 0 {
            return Err(Fatal::header(16));
        }
        if offset != s.got || length > s.want - s.got {
            return Err(Fatal::plain(FatalError::OutOfRange));
        }
        let last = pdu.header.flags & tcp::FLAG_LAST != 0;
        if last != (offset + length == s.want) {
            return Err(Fatal::header(1));
        }
        self.rx = Rx::Payload {
            slot: tag,
            from: offset,
            at: offset,
            end: offset + length,
            digest: layout.data_digest,
        };
        Ok(Step::Payload(Payload {
            slot: tag,
            at: offset,
            len: length,
        }))
    }

    /// Says why and closes.
    fn terminate(&mut self, fatal: Fatal, bytes: &[u8], sink: &mut impl Sink) {
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

    fn response(&mut self, cid: u16, status: Status, result: u64, sink: &mut impl Sink) {
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

    /// Finds the slot of a running command. Commands that wait for data from the host cannot be aborted: their data
    /// would come to nobody.
    pub fn running(&self, cid: u16) -> Option<u16> {
        let found = self
            .slots
            .iter()
            .position(|s| s.used == Use::Running && s.sqe.cid.get() == cid && s.want == s.got);
        found.map(|slot| slot as u16)
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

    /// Commands between their capsule and the end of their response.
    pub fn busy(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// What the SGL and the capsule say about data from the host: how many bytes, or why that cannot be.
fn data_of(sqe: &Sqe, in_capsule: u32, max_io: u32) -> Result<u32, Status> {
    let fabrics = sqe.opcode == command::FABRICS;
    // Bits 1:0 of an opcode, or of a fabrics command's type: 1 host to controller, 2 controller to host.
    let direction = if fabrics { sqe.fctype() & 3 } else { sqe.opcode & 3 };
    if sqe.fuse() != 0 || sqe.psdt() != 1 {
        return Err(Status::INVALID_FIELD);
    }
    let length = sqe.sgl.length.get();
    match sqe.sgl.kind {
        Sgl::IN_CAPSULE if length == 0 && in_capsule == 0 => Ok(0),
        Sgl::IN_CAPSULE if direction != 1 => Err(Status::SGL_TYPE_INVALID),
        Sgl::IN_CAPSULE if sqe.sgl.address.get() != 0 => Err(Status::SGL_OFFSET_INVALID),
        Sgl::IN_CAPSULE if length != in_capsule => Err(Status::DATA_SGL_LENGTH_INVALID),
        Sgl::IN_CAPSULE => Ok(length),
        Sgl::TRANSPORT if in_capsule != 0 => Err(Status::INVALID_FIELD),
        Sgl::TRANSPORT if length > max_io && direction != 0 => Err(Status::INVALID_FIELD),
        Sgl::TRANSPORT if direction == 1 => Ok(length),
        Sgl::TRANSPORT => Ok(0),
        _ => Err(Status::SGL_TYPE_INVALID),
    }
}
