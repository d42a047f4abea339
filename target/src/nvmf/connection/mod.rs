//! A connection on its core: a reader, a writer and one task for each command slot around a [`Session`].
//!
//! ```text
//!   socket ─recv─► reader ─ wakes ─► slot task ─► disk        All slots that finish in one turn put their PDUs into
//!      ▲             │  payload goes straight into                the outbox in front; the writer, woken once, takes it
//!      │             ▼  the slot's pages                          whole and sends it with one call. A slot is free for
//!      └── writer ◄─ outbox (front, back) ◄─ responses            the next command when its bytes have left.
//! ```
//!
//! | file | subject |
//! |---|---|
//! | this one | a connection: what it is, its beginning and its end |
//! | `secure` | TLS around all that |
//! | `reader` | bytes from the socket to the session, Connect, signs of life |
//! | `slots` | the life of a command slot |
//! | `writer` | answers, and bytes to the socket |
//! | `fused` | two commands done as one |
//! | `moving` | queues that go to another core |
//! | `events` | commands that wait for somebody else, and those that are aborted |
//! | `table` | the connections of this core |
//! | `reply` | what a command ends with |
mod events;
mod fused;
mod moving;
mod reader;
mod reply;
mod secure;
mod slots;
mod table;
mod writer;

pub use reply::Reply;
pub use table::{Doing, abort, abort_all, close, close_all, doing, forget_events, stats, tell};

use super::{
    auth::{Concatenation, Lock},
    connect,
    controller::Controller,
    memory,
    options::TransportOptions,
    session::{Command, Limits, Payload, Session},
    shared::Shared,
    space::{Space, Spaces},
};
use reactor::{
    Buf, Inbox, Notify, Stream,
    pool::{Pool, Reservation},
};
use secure::Secure;
use spec::nvme::{DISCOVERY_NQN, tls::Made};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use table::CORE;
use writer::{Batch, SEGMENTS};

/// What a queue is once it is connected.
pub struct Bound {
    /// Its controller.
    pub controller: Arc<Controller>,
    /// QID.
    pub qid: u16,
    /// Namespaces on this core; a discovery controller has an empty table.
    spaces: Rc<Spaces>,
    /// Whether it may be used.
    pub lock: Lock,
}

/// A command slot: its task sleeps on `wake`.
#[derive(Default)]
struct Slot {
    ready: Cell<bool>,
    wake: Notify,
    /// The command's buffer, and the right to its pages.
    held: RefCell<Option<(Buf, Reservation)>>,
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
    /// Empty without TLS.
    secure: OnceCell<Secure>,
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
    fused: fused::Fused,
    tasks: Cell<usize>,
    task_ended: Notify,
    limits: Limits,
    /// Bits of ONCS and FUSES that are not to be had.
    masked: Cell<(u16, u16)>,
    /// This core's payload memory.
    pool: Pool<()>,
    /// Commands that wait for some.
    wanting: Cell<u64>,
    /// Slots of Asynchronous Event Requests, oldest first.
    events: RefCell<VecDeque<u16>>,
    last_sign: Cell<u64>,
    served: [Cell<u64>; 4],
    /// Commands since the core was last looked at.
    commands: Cell<u64>,
    /// The core it is to move to.
    move_to: Cell<Option<usize>>,
}

/// Serves `stream` on this core until it ends.
pub async fn serve(shared: Arc<Shared>, stream: Stream, peer: SocketAddr, secure: bool) {
    let core = reactor::core();
    if let Ok(local) = stream.local_addr() {
        serve_from(shared.clone(), stream, local, peer, secure).await;
    }
    shared.ended(core);
}

async fn serve_from(shared: Arc<Shared>, stream: Stream, local: SocketAddr, peer: SocketAddr, secure_port: bool) {
    let transport = shared.transport();
    // Nagle would hold back a response until the host has acknowledged the last one. Not fatal if it fails.
    let _ = stream.set_nodelay(true);
    // A host without a keep-alive timer may vanish without a word.
    let _ = stream.set_keepalive(true);
    let session = Session::new(limits(&transport), reactor::now().0);
    let names = (shared.number(), local, peer);
    let Some(connection) = Connection::new(&shared, &transport, stream, names, session) else {
        tracing::warn!(%peer, "refused a connection: no memory for even one command");
        return;
    };
    table::enter(&connection, transport.max_unassociated / shared.reactors.count().max(1));
    connection.clone().start(Connection::write);
    let mut inbox = Inbox::with_capacity(reader::SMALL_INBOX);
    match Box::pin(connection.greet(&mut inbox, secure_port)).await {
        true => connection.go_on(inbox).await,
        false => connection.end().await,
    }
}

fn limits(transport: &TransportOptions) -> Limits {
    Limits {
        in_capsule: transport.in_capsule_data_size,
        max_io: transport.max_io_size,
        c2h_success: transport.c2h_success,
    }
}

impl Connection {
    /// One that does nothing yet: number, this side's address and the host's. `None`: there is no memory for even one command.
    fn new(
        shared: &Arc<Shared>,
        transport: &TransportOptions,
        stream: Stream,
        (id, local, peer): (u64, SocketAddr, SocketAddr),
        session: Session,
    ) -> Option<Rc<Self>> {
        Some(Rc::new(Self {
            id,
            local,
            peer,
            stream,
            secure: OnceCell::new(),
            session: RefCell::new(session),
            front: RefCell::new(Batch::new(SEGMENTS)),
            to_send: Notify::new(),
            sent: Notify::new(),
            sending: Cell::new(false),
            slots: OnceCell::new(),
            first: Slot::default(),
            bound: OnceCell::new(),
            closing: Cell::new(false),
            fused: fused::Fused::default(),
            tasks: Cell::new(0),
            task_ended: Notify::new(),
            limits: limits(transport),
            masked: Cell::new((transport.masked_oncs, transport.masked_fuses)),
            pool: memory::core(transport.max_io_size)?,
            wanting: Cell::new(0),
            events: RefCell::default(),
            last_sign: Cell::new(0),
            served: Default::default(),
            commands: Cell::new(0),
            move_to: Cell::new(None),
            shared: shared.clone(),
        }))
    }

    /// Reads and serves until the connection ends, or goes to another core.
    async fn go_on(self: Rc<Self>, inbox: Inbox) {
        match self.read(inbox).await {
            Some((core, unread)) => self.depart(core, unread).await,
            None => self.end().await,
        }
    }

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

    /// Ends the connection when the host has had time, five seconds, to read what is on its way and to say farewell.
    pub fn shut_soon(self: &Rc<Self>) {
        // Linux has a last word of its own, and waits two minutes for the answer if it finds the door shut.
        self.clone().start(|connection| async move {
            for _ in 0..25 {
                reactor::sleep(Duration::from_millis(200)).await;
                if connection.closing.get() {
                    return;
                }
            }
            connection.shut();
        });
    }

    // ---- what commands need ----

    /// The controller this queue belongs to; `None` before Connect.
    pub fn controller(&self) -> Option<&Arc<Controller>> {
        self.bound.get().map(|bound| &bound.controller)
    }

    /// The command in `slot`.
    pub fn command(&self, slot: u16) -> Command {
        self.session.borrow().command(slot)
    }

    /// Bits of ONCS and FUSES that are not to be had.
    pub fn masked(&self) -> (u16, u16) {
        self.masked.get()
    }

    /// Bytes one command may move.
    pub fn max_io(&self) -> usize {
        self.limits.max_io as usize
    }

    /// Bytes that one Write Zeroes may zero (WZSL).
    pub fn most_zeroes(&self) -> u64 {
        let wzsl = self
            .controller()
            .and_then(|c| c.subsystem.as_ref())
            .map_or(0, |s| s.config.wzsl);
        match wzsl {
            0 => u64::MAX,
            wzsl => 4096u64.checked_shl(wzsl.into()).unwrap_or(u64::MAX),
        }
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

    // ---- the end ----

    /// Wakes every task, which sees that the connection is closing, and waits for the last.
    async fn end_tasks(&self) {
        self.to_send.notify_one();
        for slot in self.slots.get().into_iter().flat_map(|all| all.iter()) {
            slot.wake.notify_one();
        }
        while self.tasks.get() > 0 {
            self.task_ended.wait().await;
        }
    }

    /// Takes leave: controller, tasks, table. Commands in the device run to their end first (D6).
    async fn end(self: &Rc<Self>) {
        self.stream.shutdown();
        self.closing.set(true);
        if let Some(bound) = self.bound.get() {
            self.publish(bound);
            connect::leave(self, bound);
        }
        self.end_tasks().await;
        CORE.with(|core| {
            core.connections.borrow_mut().remove(&self.id);
            core.waiting.borrow_mut().retain(|id| *id != self.id);
        });
    }
}

impl Bound {
    /// Queue `qid` of `controller`. `by` is the kind of key its connection came by, if it is by TLS.
    pub fn new(controller: Arc<Controller>, qid: u16, by: Option<Made>) -> Self {
        let (locked, nqn) = match &controller.subsystem {
            Some(s) => (s.inner().must_authenticate(&controller.hostnqn), s.nqn()),
            None => (false, DISCOVERY_NQN),
        };
        // A PSK that an authentication has left behind proves as much as that did.
        let locked = locked && by != Some(Made::Generated);
        let concatenation = Concatenation::of(qid, by);
        let lock = Lock::new(locked, concatenation, &controller.hostnqn, nqn, reactor::now().0);
        let spaces = controller
            .subsystem
            .as_ref()
            .map(|s| Spaces::of(s.id))
            .unwrap_or_default();
        Self {
            controller,
            qid,
            spaces,
            lock,
        }
    }
}
