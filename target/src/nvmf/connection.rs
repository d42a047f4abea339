//! A connection on its core: a reader, a writer and one task for each command slot around a [`Session`].
//!
//! ```text
//!   socket ─recv─► reader ─ wakes ─► slot task ─► disk        All slots that finish in one turn put their PDUs into
//!      ▲             │  payload goes straight into                the outbox in front; the writer, woken once, takes it
//!      │             ▼  the slot's pages                          whole and sends it with one call. A slot is free for
//!      └── writer ◄─ outbox (front, back) ◄─ responses            the next command when its bytes have left.
//! ```
use super::{
    admin, connect,
    controller::Controller,
    io, memory,
    session::{Command, Limits, Payload, Session, Sink, Step},
    shared::Shared,
    space::{Space, Spaces},
};
use reactor::{
    Buf, Inbox, Notify, Outbox, Stream,
    pool::{Pool, Reservation},
};
use spec::nvme::{Sqe, Status, command};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// Inbox until Connect: ICReq and a Connect capsule with digests and padding fit.
const SMALL_INBOX: usize = 4 << 10;
/// Inbox of a queue.
const INBOX: usize = 64 << 10;
/// Answers a batch has room for without growing.
const SEGMENTS: usize = 32;
/// A sign of life is written down this often, in nanoseconds.
const SIGN_EVERY: u64 = 100_000_000;

/// What a command ends with.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Status.
    pub status: Status,
    /// DW0 and DW1 of the completion.
    pub result: u64,
    /// Bytes of the slot's buffer that go to the host.
    pub data: u32,
    /// No answer yet: somebody else gives it (asynchronous events).
    pub parked: bool,
}

impl Reply {
    /// Success.
    pub fn done() -> Self {
        Self::word(0)
    }
    /// Success with a result.
    pub fn word(result: u64) -> Self {
        Self {
            status: Status::SUCCESS,
            result,
            data: 0,
            parked: false,
        }
    }
    /// Success with data.
    pub fn data(len: u32) -> Self {
        Self {
            data: len,
            ..Self::done()
        }
    }
    /// Failure.
    pub fn fail(status: Status) -> Self {
        Self { status, ..Self::done() }
    }
    /// Failure with a result that says more.
    pub fn fail_with(status: Status, result: u32) -> Self {
        Self {
            status,
            ..Self::word(result.into())
        }
    }
    /// Later.
    pub fn parked() -> Self {
        Self {
            parked: true,
            ..Self::done()
        }
    }
}

/// What a queue is once it is connected.
pub struct Bound {
    /// Its controller.
    pub controller: Arc<Controller>,
    /// QID.
    pub qid: u16,
    /// Namespaces on this core; a discovery controller has an empty table.
    spaces: Rc<Spaces>,
}

/// A command slot: its task sleeps on `wake`.
#[derive(Default)]
struct Slot {
    ready: Cell<bool>,
    wake: Notify,
    /// The command's buffer, and the right to its pages.
    held: RefCell<Option<(Buf, Reservation)>>,
}

/// Bytes to send, and the slots they free.
struct Batch {
    outbox: Outbox,
    slots: Vec<u16>,
}

/// See the module's description.
pub struct Connection {
    /// Its number, the same on no other connection of the process.
    pub id: u64,
    /// The target.
    pub shared: Arc<Shared>,
    /// This side's address.
    pub local: SocketAddr,
    /// The host's address.
    pub peer: SocketAddr,
    stream: Stream,
    session: RefCell<Session>,
    front: RefCell<Batch>,
    to_send: Notify,
    sent: Notify,
    /// The writer is sending a batch it has taken.
    sending: Cell<bool>,
    slots: OnceCell<Box<[Slot]>>,
    first: Slot,
    bound: OnceCell<Bound>,
    closing: Cell<bool>,
    tasks: Cell<usize>,
    task_ended: Notify,
    limits: Limits,
    /// This core's payload memory.
    pool: Pool<()>,
    /// Commands that wait for some.
    wanting: Cell<u64>,
    /// Slots of Asynchronous Event Requests, oldest first.
    events: RefCell<VecDeque<u16>>,
    last_sign: Cell<u64>,
    served: [Cell<u64>; 4],
}

thread_local! {
    static CORE: Core = Core::default();
}

/// What this core serves.
#[derive(Default)]
struct Core {
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    watched: Cell<bool>,
    /// Numbers of connections that are not bound yet, oldest first.
    waiting: RefCell<VecDeque<u64>>,
    admin_qpairs: Cell<u64>,
    io_qpairs: Cell<u64>,
    completed: Cell<u64>,
}

/// Serves `stream` on this core until it ends.
pub async fn serve(shared: Arc<Shared>, stream: Stream, peer: SocketAddr) {
    let core = reactor::core();
    if let Ok(local) = stream.local_addr() {
        serve_from(shared.clone(), stream, local, peer).await;
    }
    shared.ended(core);
}

async fn serve_from(shared: Arc<Shared>, stream: Stream, local: SocketAddr, peer: SocketAddr) {
    let transport = shared.transport();
    let limits = Limits {
        in_capsule: transport.in_capsule_data_size,
        max_io: transport.max_io_size,
        c2h_success: transport.c2h_success,
    };
    let Some(pool) = memory::core(transport.max_io_size) else {
        tracing::warn!(%peer, "refused a connection: no memory for even one command");
        return;
    };
    // Nagle would hold back a response until the host has acknowledged the last one. Not fatal if it fails.
    let _ = stream.set_nodelay(true);
    // A host without a keep-alive timer may vanish without a word.
    let _ = stream.set_keepalive(true);
    let connection = Rc::new(Connection {
        id: shared.number(),
        local,
        peer,
        stream,
        session: RefCell::new(Session::new(limits, reactor::now().0)),
        front: RefCell::new(Batch::new(SEGMENTS)),
        to_send: Notify::new(),
        sent: Notify::new(),
        sending: Cell::new(false),
        slots: OnceCell::new(),
        first: Slot::default(),
        bound: OnceCell::new(),
        closing: Cell::new(false),
        tasks: Cell::new(0),
        task_ended: Notify::new(),
        limits,
        pool,
        wanting: Cell::new(0),
        events: RefCell::default(),
        last_sign: Cell::new(0),
        served: Default::default(),
        shared: shared.clone(),
    });
    enter(&connection, transport.max_unassociated / shared.reactors.count().max(1));
    connection.clone().start(Connection::write);
    connection.read().await;
    connection.end().await;
}

/// Writes a connection into this core's table. If too many wait for their Connect command, the one that has waited
/// longest goes: half-open connections never keep a real host out.
fn enter(connection: &Rc<Connection>, most_waiting: usize) {
    CORE.with(|core| {
        core.connections.borrow_mut().insert(connection.id, connection.clone());
        let mut waiting = core.waiting.borrow_mut();
        waiting.push_back(connection.id);
        while waiting.len() > most_waiting.max(4) {
            if let Some(oldest) = waiting
                .pop_front()
                .and_then(|id| core.connections.borrow().get(&id).cloned())
            {
                oldest.shut();
            }
        }
        if !core.watched.replace(true) {
            reactor::spawn_background(watch());
            reactor::spawn_background(async {
                reactor::stopping().await;
                shut_all();
            });
        }
    });
}

/// Looks at every connection of this core once a second: a host that keeps us waiting, or whose
/// keep-alive timer has run out, is shut out.
async fn watch() {
    loop {
        reactor::sleep(Duration::from_secs(1)).await;
        let now = reactor::now().0;
        let all: Vec<_> = CORE.with(|core| core.connections.borrow().values().cloned().collect());
        for connection in all {
            if let Some(bound) = connection.bound.get() {
                connection.publish(bound);
            }
            let late = connection.session.borrow().expired(now);
            let silent = connection
                .bound
                .get()
                .is_some_and(|b| b.qid == 0 && b.controller.is_silent(now));
            if silent {
                tracing::warn!(peer = %connection.peer, "keep-alive timer of a host has run out");
            }
            if late || silent {
                connection.shut();
            }
        }
    }
}

/// Ends connection `id` of this core.
pub fn close(id: u64) {
    if let Some(connection) = find(id) {
        connection.shut();
    }
}

/// Gives waiting events of connection `id` to its waiting requests.
pub fn tell(id: u64) {
    if let Some(connection) = find(id) {
        connection.tell_events();
    }
}

/// Aborts command `cid` of connection `id`; false if it is not there or too late.
pub fn abort(id: u64, cid: u16) -> bool {
    find(id).is_some_and(|connection| connection.abort(cid))
}

/// Ends all connections of this core and waits for the last.
pub async fn close_all() {
    while shut_all() > 0 {
        reactor::sleep(Duration::from_millis(1)).await;
    }
}

/// Ends all connections of this core; returns how many there are still.
fn shut_all() -> usize {
    let all: Vec<_> = CORE.with(|core| core.connections.borrow().values().cloned().collect());
    all.iter().for_each(|connection| connection.shut());
    all.len()
}

/// This core's counters.
pub fn stats() -> super::options::PollGroupStats {
    CORE.with(|core| {
        let connections = core.connections.borrow();
        let bound = |admin| {
            connections
                .values()
                .filter(|c| c.bound.get().is_some_and(|b| (b.qid == 0) == admin))
                .count() as u64
        };
        let (admin, io) = (bound(true), bound(false));
        super::options::PollGroupStats {
            core: reactor::core(),
            admin_qpairs: core.admin_qpairs.get(),
            io_qpairs: core.io_qpairs.get(),
            current_admin_qpairs: admin,
            current_io_qpairs: io,
            current_unassociated_qpairs: connections.len() as u64 - admin - io,
            pending_bdev_io: connections.values().map(|c| c.wanting.get()).sum(),
            completed_nvme_io: core.completed.get(),
        }
    })
}

fn find(id: u64) -> Option<Rc<Connection>> {
    CORE.with(|core| core.connections.borrow().get(&id).cloned())
}

impl Batch {
    fn new(slots: usize) -> Self {
        Self {
            outbox: Outbox::with_capacity(2 * slots),
            slots: Vec::with_capacity(slots),
        }
    }
}

/// The session's bytes go to the batch in front, its payload by reference.
struct Out<'a> {
    outbox: &'a mut Outbox,
    connection: &'a Connection,
}

impl Sink for Out<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.outbox.push_bytes(bytes);
    }
    fn data(&mut self, p: Payload) {
        if let Some(part) = self.connection.part(p) {
            self.outbox.push_buf(part);
        }
    }
    fn crc(&mut self, p: Payload) -> u32 {
        self.connection.part(p).map_or(0, |part| part.crc32c(0))
    }
}

impl Connection {
    fn slot(&self, slot: u16) -> &Slot {
        self.slots
            .get()
            .and_then(|all| all.get(usize::from(slot)))
            .unwrap_or(&self.first)
    }

    fn part(&self, p: Payload) -> Option<Buf> {
        let held = self.slot(p.slot).held.borrow();
        let (buf, _) = held.as_ref()?;
        let (at, len) = (p.at as usize, p.len as usize);
        match buf.len() {
            whole if whole == len => Some(buf.clone()),
            _ => buf.get(at..at + len),
        }
    }

    /// Runs `f` on the session with a sink that leads to the batch in front.
    fn with_session<T>(&self, f: impl FnOnce(&mut Session, &mut Out) -> T) -> T {
        let mut front = self.front.borrow_mut();
        f(
            &mut self.session.borrow_mut(),
            &mut Out {
                outbox: &mut front.outbox,
                connection: self,
            },
        )
    }

    /// Starts a task that keeps the connection alive until it ends.
    fn start<F: Future<Output = ()> + 'static>(self: Rc<Self>, task: impl FnOnce(Rc<Self>) -> F) {
        self.tasks.set(self.tasks.get() + 1);
        let body = task(self.clone());
        reactor::spawn(async move {
            body.await;
            self.tasks.set(self.tasks.get() - 1);
            self.task_ended.notify_one();
        });
    }

    /// Ends the connection: reader, writer and slots notice.
    pub fn shut(&self) {
        self.stream.shutdown();
    }

    // ---- the reader ----

    async fn read(self: &Rc<Self>) {
        let mut inbox = Inbox::with_capacity(SMALL_INBOX);
        loop {
            let payload = match self.parse(&mut inbox).await {
                Ok(payload) => payload,
                Err(End) => break,
            };
            if inbox.capacity() < INBOX && self.bound.get().is_some() {
                let mut large = Inbox::with_capacity(INBOX);
                // It holds more than the small one ever did.
                large.push(inbox.unread());
                inbox = large;
            }
            let part = payload.and_then(|p| self.part(p));
            match self.stream.recv(&mut inbox, part.as_ref()).await {
                Ok(got) if got.payload + got.inbox > 0 => {
                    let now = reactor::now().0;
                    if got.payload > 0 {
                        self.session.borrow_mut().received(got.payload, now);
                    }
                    self.sign_of_life(now);
                }
                _ => break,
            }
        }
        // A termination request may still be in the outbox; a host that does not read it is not waited for.
        let drained = async {
            while self.sending.get() || !self.front.borrow().outbox.is_empty() {
                self.sent.wait().await;
            }
        };
        let _ = reactor::timeout(Duration::from_secs(1), drained).await;
    }

    /// Takes everything out of the inbox that can be taken; returns where the next bytes belong, if they are payload.
    async fn parse(self: &Rc<Self>, inbox: &mut Inbox) -> Result<Option<Payload>, End> {
        loop {
            let now = reactor::now().0;
            let (used, step) = self.with_session(|session, out| session.step(inbox.unread(), now, out));
            inbox.consume(used);
            match step {
                Step::More if used == 0 => {
                    self.flush();
                    return Ok(None);
                }
                Step::More => {}
                Step::Buffer { slot, len } => {
                    self.room(slot, len as usize).await;
                }
                Step::Payload(p) => {
                    let n = inbox.unread().len().min(p.len as usize);
                    if n == 0 {
                        self.flush();
                        return Ok(Some(p));
                    }
                    if let Some(part) = self.part(p) {
                        part.write_at(0, &inbox.unread()[..n]);
                    }
                    inbox.consume(n);
                    self.session.borrow_mut().received(n, now);
                }
                Step::Digest(p) => {
                    let crc = self.part(p).map_or(0, |part| part.crc32c(0));
                    self.session.borrow_mut().digest(crc);
                }
                Step::Command { slot } if self.bound.get().is_none() => self.unbound(slot).await,
                Step::Command { slot } | Step::Data { slot } => self.wake(slot),
                Step::Full => {
                    self.flush();
                    if !self.sending.get() && self.front.borrow().outbox.is_empty() {
                        // Every slot runs a command and no answer is on its way: the host has sent more than its queue holds.
                        tracing::warn!(peer = %self.peer, "a host overran its queue");
                        return Err(End);
                    }
                    self.sent.wait().await;
                }
                Step::Close => {
                    self.flush();
                    return Err(End);
                }
            }
            if self.closing.get() {
                return Err(End);
            }
        }
    }

    /// A command before Connect has succeeded.
    async fn unbound(self: &Rc<Self>, slot: u16) {
        let command = self.session.borrow().command(slot);
        let (reply, bound) = match connect::run(self, slot, &command).await {
            Ok((bound, granted)) => (Reply::word(granted.into()), Some(bound)),
            Err(reply) => (reply, None),
        };
        if let Some((bound, connect)) = bound {
            let entries = u32::from(connect.sqsize) + 1;
            self.bind(bound, entries, !connect.no_flow_control);
        }
        self.finish(slot, reply);
    }

    fn bind(self: &Rc<Self>, bound: Bound, entries: u32, flow_control: bool) {
        let admin = bound.qid == 0;
        self.session.borrow_mut().connected(bound.qid, entries, flow_control);
        let slots: Box<[Slot]> = (0..entries.max(2)).map(|_| Slot::default()).collect();
        let count = slots.len();
        self.front.borrow_mut().slots.reserve(count);
        // Neither was set: a connection is bound once.
        let _ = self.slots.set(slots);
        let _ = self.bound.set(bound);
        for slot in 0..count {
            self.clone().start(move |connection| connection.serve_slot(slot as u16));
        }
        CORE.with(|core| {
            core.waiting.borrow_mut().retain(|id| *id != self.id);
            let counter = if admin { &core.admin_qpairs } else { &core.io_qpairs };
            counter.set(counter.get() + 1);
        });
    }

    fn sign_of_life(&self, now: u64) {
        if now - self.last_sign.get() > SIGN_EVERY {
            self.last_sign.set(now);
            if let Some(bound) = self.bound.get() {
                bound.controller.saw(now);
                self.publish(bound);
            }
        }
    }

    /// Adds what this queue has served to the controller's counters.
    fn publish(&self, bound: &Bound) {
        let served = &bound.controller.served;
        let all = [&served.units_read, &served.units_written, &served.reads, &served.writes];
        for (sum, here) in all.into_iter().zip(&self.served) {
            sum.fetch_add(here.take(), Relaxed);
        }
    }

    // ---- the slots ----

    fn wake(&self, slot: u16) {
        let slot = self.slot(slot);
        slot.ready.set(true);
        slot.wake.notify_one();
    }

    /// Waits until the reader has something for this slot; false when the connection is closing.
    async fn woken(&self, slot: u16) -> bool {
        let slot = self.slot(slot);
        while !slot.ready.get() {
            if self.closing.get() {
                return false;
            }
            slot.wake.wait().await;
        }
        slot.ready.set(false);
        true
    }

    /// One command slot: take, run, answer, repeat (D5).
    async fn serve_slot(self: Rc<Self>, slot: u16) {
        while self.woken(slot).await {
            let mut command = self.session.borrow().command(slot);
            if command.missing > 0 && command.fault.is_success() {
                self.room(slot, command.data as usize).await;
                let now = reactor::now().0;
                self.with_session(|session, out| session.ask(slot, now, out));
                self.flush();
                if !self.woken(slot).await {
                    return;
                }
                command = self.session.borrow().command(slot);
            }
            let reply = self.run(slot, &command).await;
            if !reply.parked {
                self.finish(slot, reply);
            }
        }
    }

    async fn run(self: &Rc<Self>, slot: u16, command: &Command) -> Reply {
        let Some(bound) = self.bound.get() else {
            return Reply::fail(Status::COMMAND_SEQUENCE_ERROR);
        };
        if !command.fault.is_success() {
            return self.failed(bound, &command.sqe, Reply::fail(command.fault));
        }
        let reply = match (bound.qid, command.sqe.opcode) {
            (0, _) => admin::run(self, bound, slot, command).await,
            (_, command::FABRICS) => connect::on_io_queue(&command.sqe),
            _ => {
                CORE.with(|core| core.completed.set(core.completed.get() + 1));
                io::run(self, slot, command).await
            }
        };
        if reply.status.is_success() {
            reply
        } else {
            self.failed(bound, &command.sqe, reply)
        }
    }

    /// Puts a failure into the error log; the status says so.
    fn failed(&self, bound: &Bound, sqe: &Sqe, reply: Reply) -> Reply {
        if bound.controller.is_discovery() {
            return reply;
        }
        let lba = if bound.qid > 0 && sqe.opcode != command::FABRICS {
            sqe.slba()
        } else {
            0
        };
        bound.controller.log_error(bound.qid, sqe, reply.status, lba);
        Reply {
            status: reply.status.with_more(),
            ..reply
        }
    }

    /// Answers the command in `slot`.
    fn finish(&self, slot: u16, reply: Reply) {
        let mut front = self.front.borrow_mut();
        let batch = &mut *front;
        let mut out = Out {
            outbox: &mut batch.outbox,
            connection: self,
        };
        let answered = self
            .session
            .borrow_mut()
            .respond(slot, reply.status, reply.result, reply.data, &mut out);
        if answered {
            batch.slots.push(slot);
            drop(front);
            self.flush();
        } else {
            drop(front);
            self.slot(slot).held.take();
        }
    }

    /// Wakes the writer if there is something to send.
    fn flush(&self) {
        if !self.sending.get() && !self.front.borrow().outbox.is_empty() {
            self.to_send.notify_one();
        }
    }

    /// A buffer of `len` bytes for `slot`; waits while memory is short.
    pub async fn room(&self, slot: u16, len: usize) -> Buf {
        let compare = self.session.borrow().command(slot).sqe.opcode == command::io::COMPARE;
        // Dropped first: a command must not hold what it waits for.
        self.slot(slot).held.take();
        self.wanting.set(self.wanting.get() + 1);
        let (buf, right) = memory::buffer(&self.pool, len, if compare { len } else { 0 }).await;
        self.wanting.set(self.wanting.get() - 1);
        self.slot(slot).held.replace(Some((buf.clone(), right)));
        buf
    }

    /// The slot's buffer; empty if the command brought no data.
    pub fn buffer_of(&self, slot: u16) -> Buf {
        self.slot(slot)
            .held
            .borrow()
            .as_ref()
            .map_or_else(Buf::empty, |(buf, _)| buf.clone())
    }

    // ---- the writer ----

    async fn write(self: Rc<Self>) {
        let mut back = Batch::new(SEGMENTS);
        loop {
            while self.front.borrow().outbox.is_empty() {
                if self.closing.get() {
                    return;
                }
                self.to_send.wait().await;
            }
            std::mem::swap(&mut *self.front.borrow_mut(), &mut back);
            self.sending.set(true);
            while !back.outbox.is_empty() {
                if self.stream.send(&mut back.outbox).await.is_err() {
                    // The reader will find out, too; what is queued has no destination.
                    self.shut();
                    back.outbox.clear();
                }
            }
            {
                let mut session = self.session.borrow_mut();
                for slot in back.slots.drain(..) {
                    if session.release(slot) {
                        self.slot(slot).held.take();
                    }
                }
            }
            self.sending.set(false);
            self.sent.notify_all();
        }
    }

    // ---- what commands need ----

    /// Bytes one command may move.
    pub fn max_io(&self) -> usize {
        self.limits.max_io as usize
    }

    /// The namespace `nsid`, if it is there and this host may use it.
    pub fn space(&self, nsid: u32) -> Option<Rc<Space>> {
        let bound = self.bound.get()?;
        bound
            .spaces
            .get(nsid)
            .filter(|space| space.visible_to(&bound.controller.hostnqn))
    }

    /// All namespaces this host may use.
    pub fn visible_spaces(&self) -> Vec<Rc<Space>> {
        let Some(bound) = self.bound.get() else {
            return Vec::new();
        };
        let host = &bound.controller.hostnqn;
        bound
            .spaces
            .all()
            .into_iter()
            .map(|(_, space)| space)
            .filter(|space| space.visible_to(host))
            .collect()
    }

    /// A read command moved `len` bytes.
    pub fn count_read(&self, len: usize) {
        self.served[0].set(self.served[0].get() + len as u64 / 512);
        self.served[2].set(self.served[2].get() + 1);
    }

    /// A write command moved `len` bytes.
    pub fn count_write(&self, len: usize) {
        self.served[1].set(self.served[1].get() + len as u64 / 512);
        self.served[3].set(self.served[3].get() + 1);
    }

    // ---- asynchronous events and aborts ----

    /// Keeps an Asynchronous Event Request; false if there are too many.
    pub fn park_event(&self, slot: u16) -> bool {
        let mut events = self.events.borrow_mut();
        if events.len() >= super::controller::AER_LIMIT {
            return false;
        }
        events.push_back(slot);
        true
    }

    /// Answers waiting requests with waiting events.
    pub fn tell_events(&self) {
        let Some(bound) = self.bound.get() else { return };
        loop {
            if self.events.borrow().is_empty() {
                return;
            }
            let Some(event) = bound.controller.state().take_event() else {
                return;
            };
            if let Some(slot) = self.events.borrow_mut().pop_front() {
                self.finish(slot, Reply::word(event.into()));
            }
        }
    }

    /// A controller reset: requests for events end now.
    pub fn forget_events(&self) {
        let slots: Vec<u16> = self.events.borrow_mut().drain(..).collect();
        for slot in slots {
            self.finish(slot, Reply::fail(Status::ABORTED_SQ_DELETION));
        }
    }

    /// Answers command `cid` as aborted, if it runs here and can still be.
    pub fn abort(&self, cid: u16) -> bool {
        let Some(slot) = self.session.borrow().running(cid) else {
            return false;
        };
        let parked = {
            let mut events = self.events.borrow_mut();
            let at = events.iter().position(|&s| s == slot);
            at.map(|at| events.remove(at)).is_some()
        };
        if parked {
            self.finish(slot, Reply::fail(Status::ABORTED_BY_REQUEST));
            return true;
        }
        let mut front = self.front.borrow_mut();
        let batch = &mut *front;
        let mut out = Out {
            outbox: &mut batch.outbox,
            connection: self,
        };
        self.session.borrow_mut().abort(slot, &mut out);
        batch.slots.push(slot);
        drop(front);
        self.flush();
        true
    }

    // ---- the end ----

    /// Takes leave: controller, tasks, table. Commands in the device run to their end first (D6).
    async fn end(self: &Rc<Self>) {
        self.stream.shutdown();
        self.closing.set(true);
        if let Some(bound) = self.bound.get() {
            self.publish(bound);
            connect::leave(self, bound);
        }
        self.to_send.notify_one();
        for slot in self.slots.get().into_iter().flat_map(|all| all.iter()) {
            slot.wake.notify_one();
        }
        while self.tasks.get() > 0 {
            self.task_ended.wait().await;
        }
        CORE.with(|core| {
            core.connections.borrow_mut().remove(&self.id);
            core.waiting.borrow_mut().retain(|id| *id != self.id);
        });
    }
}

impl Bound {
    /// Queue `qid` of `controller`.
    pub fn new(controller: Arc<Controller>, qid: u16) -> Self {
        let spaces = controller
            .subsystem
            .as_ref()
            .map(|s| Spaces::of(s.id))
            .unwrap_or_default();
        Self {
            controller,
            qid,
            spaces,
        }
    }
}

/// The connection is over.
struct End;
