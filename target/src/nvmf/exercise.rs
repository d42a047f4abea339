//! A session with a disk of plain bytes behind it instead of sockets, slots and reactors: what the session's tests, the
//! corpus replay and the fuzz target drive.
use super::auth::exercise::Gate;
pub use super::auth::{Generated, exercise::session as auth_session, host as auth_host};
use super::session::{Limits, Nanos, Payload, Session, Sink, Step};
use spec::nvme::{
    Status, command,
    fabrics::{Connect, fctype},
    tcp,
};

/// Block size of the disk.
pub const BLOCK: usize = 512;
/// Entries of the queue that any Connect gets.
pub const ENTRIES: u32 = 8;
/// What the session is told.
pub const LIMITS: Limits = Limits {
    in_capsule: 4096,
    max_io: 64 << 10,
    c2h_success: true,
};

/// A target in memory. Commands run at once, answers leave at once, unless [`Model::hold`] is set.
pub struct Model {
    session: Session,
    slots: Vec<Vec<u8>>,
    /// Bytes for the host.
    pub out: Vec<u8>,
    /// The disk.
    pub disk: Vec<u8>,
    /// The session wants to close.
    pub closed: bool,
    /// Commands stay in their slots instead of running.
    pub hold: bool,
    /// Slots of commands that were held.
    pub held: Vec<u16>,
    /// The queue must be authenticated.
    pub gate: Option<Gate>,
    unread: Vec<u8>,
    now: Nanos,
}

struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    slots: &'a [Vec<u8>],
}

impl Out<'_> {
    fn part(&self, p: Payload) -> &[u8] {
        &self.slots[usize::from(p.slot)][p.at as usize..(p.at + p.len) as usize]
    }
}

impl Sink for Out<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    fn data(&mut self, p: Payload) {
        let part = self.part(p).to_vec();
        self.bytes.extend(part);
    }
    fn crc(&mut self, p: Payload) -> u32 {
        reactor::crc32c(self.part(p))
    }
}

impl Model {
    /// A target with `blocks` blocks of zeroes.
    pub fn new(blocks: usize) -> Self {
        Self {
            session: Session::new(LIMITS, 0),
            slots: vec![Vec::new(); ENTRIES as usize],
            out: Vec::new(),
            disk: vec![0; blocks * BLOCK],
            closed: false,
            hold: false,
            held: Vec::new(),
            gate: None,
            unread: Vec::new(),
            now: 0,
        }
    }

    /// The session.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut Session, &mut Out) -> T) -> T {
        f(
            &mut self.session,
            &mut Out {
                bytes: &mut self.out,
                slots: &self.slots,
            },
        )
    }

    /// Takes what a host sent; what is not a whole PDU yet is kept.
    pub fn input(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let mut at = 0;
        while !self.closed {
            self.now += 1;
            let unread = std::mem::take(&mut self.unread);
            let now = self.now;
            let (used, step) = self.with(|session, out| session.step(&unread[at..], now, out));
            self.unread = unread;
            assert!(used <= self.unread.len() - at, "used more than there was");
            at += used;
            match step {
                Step::More if used == 0 => break,
                Step::More => {}
                Step::Buffer { slot, len } => {
                    assert!(
                        len <= super::session::ADMIN_CAPSULE_DATA.max(LIMITS.in_capsule),
                        "a capsule of {len} bytes"
                    );
                    self.slots[usize::from(slot)] = vec![0; len as usize];
                }
                Step::Payload(p) => {
                    let n = (self.unread.len() - at).min(p.len as usize);
                    assert!(p.len > 0, "an empty payload would never end");
                    if n == 0 {
                        break;
                    }
                    let to = &mut self.slots[usize::from(p.slot)][p.at as usize..p.at as usize + n];
                    to.copy_from_slice(&self.unread[at..at + n]);
                    at += n;
                    self.session.received(n, now);
                }
                Step::Digest(p) => {
                    let crc = reactor::crc32c(&self.slots[usize::from(p.slot)][p.at as usize..(p.at + p.len) as usize]);
                    self.session.digest(crc);
                }
                Step::Command { slot } | Step::Data { slot } => self.command(slot),
                Step::Full => {
                    assert!(self.session.busy() > 0, "full of nothing");
                    break;
                }
                Step::Close => self.closed = true,
            }
        }
        self.unread.drain(..at);
        assert!(self.unread.len() <= tcp::HEAD_MAX || self.hold || self.closed || bytes.len() > tcp::HEAD_MAX);
    }

    fn command(&mut self, slot: u16) {
        let command = self.session.command(slot);
        if command.missing > 0 && command.fault.is_success() {
            assert!(command.data <= LIMITS.max_io, "asks for {} bytes", command.data);
            self.slots[usize::from(slot)] = vec![0; command.data as usize];
            let now = self.now;
            self.with(|session, out| session.ask(slot, now, out));
        } else if self.hold && self.session.is_connected() {
            self.held.push(slot);
        } else {
            self.run(slot);
        }
    }

    /// Runs the command in `slot` and sends its answer.
    pub fn run(&mut self, slot: u16) {
        let command = self.session.command(slot);
        let sqe = command.sqe;
        let (from, len) = (
            (sqe.slba() as usize).saturating_mul(BLOCK),
            sqe.blocks() as usize * BLOCK,
        );
        let range = from..from.saturating_add(len);
        let (mut status, mut data) = (command.fault, 0);
        if status.is_success() {
            match sqe.opcode {
                command::FABRICS if !self.session.is_connected() && sqe.fctype() == 1 => {
                    let connect = Connect::of(&sqe);
                    self.session.connected(connect.qid, ENTRIES, !connect.no_flow_control);
                }
                _ if !self.session.is_connected() => status = Status::COMMAND_SEQUENCE_ERROR,
                command::FABRICS if self.gate.is_some() && sqe.fctype() == fctype::AUTH_SEND => {
                    let gate = self
                        .gate
                        .as_ref()
                        .map(|gate| gate.send(&sqe, &self.slots[usize::from(slot)]));
                    status = gate.unwrap_or(status);
                }
                command::FABRICS if self.gate.is_some() && sqe.fctype() == fctype::AUTH_RECEIVE => {
                    match self.gate.as_ref().map(|gate| gate.receive(&sqe)) {
                        Some(Ok(message)) => {
                            data = message.len() as u32;
                            self.slots[usize::from(slot)] = message;
                        }
                        Some(Err(error)) => status = error,
                        None => {}
                    }
                }
                _ if self.gate.as_ref().is_some_and(|gate| !gate.is_open()) => status = Status::AUTHENTICATION_REQUIRED,
                command::io::READ if len > sqe.sgl.length.get() as usize => status = Status::DATA_SGL_LENGTH_INVALID,
                command::io::READ => match self.disk.get(range) {
                    Some(bytes) => {
                        self.slots[usize::from(slot)] = bytes.to_vec();
                        data = len as u32;
                    }
                    None => status = Status::LBA_OUT_OF_RANGE,
                },
                command::io::WRITE if command.data as usize != len => status = Status::DATA_SGL_LENGTH_INVALID,
                command::io::WRITE => match self.disk.get_mut(range) {
                    Some(bytes) => bytes.copy_from_slice(&self.slots[usize::from(slot)]),
                    None => status = Status::LBA_OUT_OF_RANGE,
                },
                command::io::FLUSH => {}
                _ => status = Status::INVALID_OPCODE,
            }
        }
        if self.with(|session, out| session.respond(slot, status, 0, data, out)) {
            self.session.release(slot);
        }
    }
}

/// Whatever a stranger sends: no panic, no unbounded memory, and the end of a connection is an end. The first byte says
/// where to begin: with the stranger's own ICReq, or behind a good handshake with the digests its low bits name.
pub fn session(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else {
        return;
    };
    let mut model = Model::new(64);
    if how & 0x80 != 0 {
        let digests = tcp::Digests::of(how & 3);
        model.input(zerocopy::IntoBytes::as_bytes(&tcp::IcReq::new(
            digests,
            how >> 2 & 7,
            1,
        )));
        // A stranger that got past Connect, which needs no digests to be believed here.
        model.session().connected(1, ENTRIES, how & 0x20 == 0);
    }
    // In pieces of changing size, as a socket would bring them.
    let mut rest = bytes;
    let mut size = 1 + usize::from(how) * 3;
    while !rest.is_empty() && !model.closed {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        model.input(piece);
        rest = after;
        size = size * 2 % 509 + 1;
        // A host that never reads: what we would send is forgotten, and must not have been much.
        assert!(model.out.len() <= (piece.len() / 8 + 64) * (LIMITS.max_io as usize + tcp::HEAD_MAX));
        model.out.clear();
    }
    assert!(model.session().busy() <= ENTRIES as usize);
}
