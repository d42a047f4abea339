//! One connection on its core: a reader, a writer, a timekeeper, an order taker, and one task for each command slot.
//!
//! ```text
//!   socket ─► reader ─► Session::input ─► slot tasks (one per slot, for as long as the session lives)
//!                                              │ scsi::execute_unless
//!   socket ◄─ writer ◄─ Session::output ◄──────┘ Session::complete
//! ```
//!
//! The session is behind a `RefCell` that nobody holds across an await. Everything ends by [`Link::close`]: tasks are
//! woken and see it; a slot whose command is still under way ends when that does (D6), and only then is the
//! connection gone.
use super::{
    server::{Order, Server, World},
    session::{Event, MAX_TRANSFER, Patience, Session, Sink},
};
use crate::scsi::{Nexus, Request, server::execute_unless, unit::Happening};
use reactor::{Buf, Inbox, Notify, Outbox, Stream, channel};
use spec::{
    iscsi::bhs::{Function, LogoutRequest, TaskOutcome, TaskRequest},
    scsi::Lun,
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use zerocopy::byteorder::big_endian::U32;

/// Bytes received at once besides payload, before and after login.
const INBOX: (usize, usize) = (8 << 10, 64 << 10);
/// Segments and bytes handed to the kernel at once.
const SEGMENTS: usize = 256;
const BYTES: usize = 512 << 10;
/// Payload up to this long is copied next to its header rather than given to the kernel as a segment of its own.
const SMALL: usize = 256;

/// Those whose place a connection takes, or that it logs out, have this long to end their commands.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// Task management functions that may wait for commands to end, for one connection.
const MANAGED: usize = 16;

/// What the tasks of one connection share.
struct Link {
    id: u64,
    server: Arc<Server>,
    stream: Stream,
    session: RefCell<Session>,
    world: RefCell<World>,
    nexus: OnceCell<Nexus>,
    slots: OnceCell<Box<[Notify]>>,
    /// The writer has something to do.
    output: Notify,
    /// The reader may go on.
    input: Notify,
    /// The timekeeper should look at its deadline.
    timer: Notify,
    tasks: Cell<usize>,
    /// The last task has ended.
    ended: Notify,
    closed: Cell<bool>,
    /// Nothing is sent: the login is not to be answered while those whose place it takes have commands under way.
    held: Cell<bool>,
    /// Task management functions under way.
    managing: Cell<usize>,
}

struct Gather<'a>(&'a mut Outbox);

impl Sink for Gather<'_> {
    fn is_full(&self) -> bool {
        self.0.is_full() || self.0.len() >= BYTES
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.push_bytes(bytes);
    }
    fn buf(&mut self, buf: Buf) {
        match buf.len() <= SMALL {
            true => buf.for_each_chunk(|chunk| self.0.push_bytes(chunk)),
            false => self.0.push_buf(buf),
        }
    }
}

/// Serves a host until one of the two has enough.
pub(super) async fn run(server: Arc<Server>, id: u64, stream: Stream, orders: channel::Receiver<Order>) {
    let options = server.options();
    let patience = Patience {
        ping_after: Duration::from_secs(options.nop_in_interval.into()),
        answer_within: Duration::from_secs(options.nop_timeout.into()),
    };
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let link = Rc::new(Link {
        id,
        stream,
        session: RefCell::new(Session::new(reactor::now(), patience)),
        world: RefCell::new(World {
            server: server.clone(),
            id,
            device: None,
            nexus: None,
            depth: 0,
            line: None,
            replaced: None,
            turns: None,
            news: None,
        }),
        nexus: OnceCell::new(),
        slots: OnceCell::new(),
        output: Notify::new(),
        input: Notify::new(),
        timer: Notify::new(),
        tasks: Cell::new(0),
        ended: Notify::new(),
        closed: Cell::new(false),
        held: Cell::new(false),
        managing: Cell::new(0),
        server,
    });
    link.start(write(link.clone()));
    link.start(keep_time(link.clone()));
    let task = link.clone();
    reactor::spawn_background(async move {
        // Ends when the server forgets the connection, which is the last this one does.
        while let Some(order) = orders.recv().await {
            task.obey(order);
        }
    });
    let task = link.clone();
    link.start(async move {
        // A stop of the reactors ends every connection; whichever comes first.
        let mut stopping = std::pin::pin!(reactor::stopping());
        let mut ended = std::pin::pin!(task.timer.wait());
        // Looked at before every wait: the connection may have closed before this task first ran.
        while !task.closed.get() {
            let stop = std::future::poll_fn(|cx| {
                use std::{future::Future, task::Poll};
                if stopping.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                ended.as_mut().poll(cx).map(|()| false)
            })
            .await;
            if stop {
                return task.close(Some("shutting down"));
            }
            ended.set(task.timer.wait());
        }
    });
    link.read().await;
    link.close(None);
    let lost = {
        let session = link.session.borrow();
        session.is_one_of_several() && !session.is_orderly()
    };
    if lost {
        link.server.lost(id);
    }
    while link.tasks.get() > 0 {
        link.ended.wait().await;
    }
    if let Some(cause) = link.session.borrow().cause() {
        tracing::debug!(id, cause, "connection ended");
    }
    link.server.gone(id);
}

impl Link {
    /// Runs a task that the connection waits for at its end.
    fn start(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.tasks.set(self.tasks.get() + 1);
        let link = self.clone();
        reactor::spawn(async move {
            task.await;
            link.tasks.set(link.tasks.get() - 1);
            link.ended.notify_one();
        });
    }

    /// Ends the connection, from whichever task.
    fn close(&self, cause: Option<&'static str>) {
        self.session.borrow_mut().close(cause);
        if self.closed.replace(true) {
            return;
        }
        self.server.set_state(self.id, "exiting");
        self.stream.shutdown();
        self.output.notify_one();
        self.input.notify_one();
        self.timer.notify_all();
        self.slots.get().into_iter().flatten().for_each(Notify::notify_one);
    }

    /// Something may have been queued, or ended.
    fn stir(&self) {
        let session = self.session.borrow();
        if session.has_output() || session.is_closed() {
            self.output.notify_one();
        }
    }

    async fn read(self: &Rc<Self>) {
        let mut inbox = Inbox::with_capacity(INBOX.0);
        let mut grown = false;
        while !self.closed.get() {
            // What was left because the session did not listen comes first.
            let used = self
                .session
                .borrow_mut()
                .input(inbox.unread(), reactor::now(), &mut *self.world.borrow_mut());
            inbox.consume(used);
            self.events();
            if self.held.get() {
                self.succeed().await;
            }
            self.stir();
            if !self.session.borrow().listens() {
                self.input.wait().await;
                continue;
            }
            if !grown && self.nexus.get().is_some() && inbox.is_empty() {
                grown = true;
                inbox = Inbox::with_capacity(INBOX.1);
            }
            let payload = self.session.borrow().payload();
            match self.stream.recv(&mut inbox, payload.as_ref()).await {
                Ok(received) if received.is_end() => return,
                Ok(received) => {
                    if received.payload > 0 {
                        self.session.borrow_mut().filled(received.payload);
                    }
                }
                Err(error) => {
                    tracing::debug!(id = self.id, %error, "receive");
                    return;
                }
            }
        }
    }

    fn events(self: &Rc<Self>) {
        loop {
            let event = self.session.borrow_mut().event();
            match event {
                None => return,
                Some(Event::Command(slot)) => {
                    if let Some(notify) = self.slots.get().and_then(|slots| slots.get(usize::from(slot))) {
                        notify.notify_one();
                    }
                }
                Some(Event::LoggedIn) => self.logged_in(),
                Some(Event::Task(request)) => self.task(request),
                Some(Event::Logout(request)) => {
                    let link = self.clone();
                    self.start(async move { link.logout(&request).await });
                }
            }
        }
    }

    /// Waits until those are gone whose place this connection takes: what their host wrote through them does not land after
    /// it has heard that it is in.
    async fn succeed(&self) {
        let replaced = self.world.borrow_mut().replaced.take();
        if let Some(gone) = replaced
            && reactor::timeout(DRAIN_PATIENCE, gone.recv()).await.is_err()
        {
            return self.close(Some("commands of the connection before do not end"));
        }
        self.held.set(false);
    }

    fn logged_in(self: &Rc<Self>) {
        let negotiated = {
            let session = self.session.borrow();
            session.agreed().told(session.queue_depth())
        };
        self.server.set_running(self.id, negotiated);
        self.timer.notify_all();
        let (device, id, line, turns, news) = {
            let mut world = self.world.borrow_mut();
            self.held.set(world.replaced.is_some());
            (
                world.device.clone(),
                world.nexus.clone(),
                world.line.take(),
                world.turns.take(),
                world.news.take(),
            )
        };
        if let Some(turns) = turns {
            let link = self.clone();
            // Ends when the connection has left the sequencer.
            reactor::spawn_background(async move {
                while turns.recv().await.is_some() {
                    link.session.borrow_mut().turn(&mut *link.world.borrow_mut());
                    link.events();
                    link.stir();
                }
            });
        }
        if let Some(line) = line {
            self.session.borrow_mut().lend(line);
        }
        // A discovery session has no device and no commands.
        let (Some(device), Some(id)) = (device, id) else {
            return;
        };
        let tsih = u64::from(self.session.borrow().login().tsih());
        let nexus = Nexus::new(self.server.graph().clone(), device, id, tsih, MAX_TRANSFER).sharing(news);
        let depth = self.session.borrow().depth();
        let slots = (0..depth).map(|_| Notify::new()).collect();
        if self.nexus.set(nexus).is_err() || self.slots.set(slots).is_err() {
            return; // a session logs in once
        }
        (0..depth).for_each(|slot| self.start(serve(self.clone(), slot)));
    }

    fn task(self: &Rc<Self>, request: TaskRequest) {
        let mut session = self.session.borrow_mut();
        let (Some(nexus), Some(function)) = (self.nexus.get(), request.function()) else {
            return session.task_done(request.itt, TaskOutcome::NotSupported);
        };
        let all = matches!(function, Function::WarmReset | Function::ColdReset);
        let scope = Lun::from_wire(request.lun).filter(|lun| !all && nexus.has(*lun));
        if !all && scope.is_none() {
            return session.task_done(request.itt, TaskOutcome::NoLun);
        }
        match function {
            Function::AbortTask => {
                session.abort_task(&request);
                // It has a deadline.
                return self.timer.notify_all();
            }
            Function::AbortTaskSet => (),
            Function::ClearTaskSet => {
                nexus.happened(scope, Happening::Cleared);
            }
            Function::LunReset | Function::WarmReset | Function::ColdReset => {
                nexus.happened(scope, Happening::Reset);
            }
            Function::ClearAca | Function::Reassign => {
                return session.task_done(request.itt, TaskOutcome::NotSupported);
            }
        }
        if self.managing.get() >= MANAGED {
            return session.task_done(request.itt, TaskOutcome::Rejected);
        }
        drop(session);
        self.managing.set(self.managing.get() + 1);
        let link = self.clone();
        self.start(async move {
            link.abort(request.itt, function, scope).await;
            link.managing.set(link.managing.get() - 1);
        });
    }

    /// Ends the commands a function is about, wherever they run, and answers it when they have ended (RFC 7143 4.2.3.3).
    async fn abort(&self, itt: U32, function: Function, scope: Option<Lun>) {
        let others = function != Function::AbortTaskSet;
        let outcome = match self.server.abort(self.id, scope, others).await {
            true => TaskOutcome::Complete,
            false => TaskOutcome::Rejected,
        };
        self.session.borrow_mut().task_done(itt, outcome);
        if function == Function::ColdReset {
            // Every session of the target ends (11.5.1); ours when the answer is out.
            self.session.borrow_mut().finish();
            if let Some(nexus) = self.nexus.get() {
                let target = &nexus.device().name;
                self.server
                    .drop_connections(|c| c.id != self.id && c.target_node_name == *target);
            }
        }
        self.stir();
    }

    /// A logout in a session with several connections: first those end that it is about.
    async fn logout(&self, request: &LogoutRequest) {
        let (cid, whole) = (request.cid.get(), request.flags & 0x7f == 0);
        let own = self.session.borrow().login().hello().map(|hello| hello.cid) == Some(cid);
        let about = match (whole, own) {
            (true, _) => self.server.siblings(self.id, |_| true),
            (false, true) => Vec::new(),
            (false, false) => self.server.siblings(self.id, |c| c.cid == cid),
        };
        if !whole && !own && about.is_empty() {
            self.session.borrow_mut().no_connection(request.itt);
        } else {
            if !about.is_empty() {
                let gone = self.server.replace(&about);
                let _ = reactor::timeout(DRAIN_PATIENCE, gone.recv()).await;
            }
            self.session.borrow_mut().log_out(request.itt, whole || own);
        }
        self.timer.notify_all();
        self.stir();
    }

    fn obey(&self, order: Order) {
        match order {
            Order::Close => self.close(Some("asked to")),
            Order::Drop(event) => {
                self.session.borrow_mut().drop_out(reactor::now(), event);
                self.timer.notify_all();
                self.stir();
            }
            Order::Replaced => {
                self.session.borrow_mut().replaced();
                self.close(None);
            }
            Order::Abort { whom, lun, over } => {
                self.session.borrow_mut().abort_all(whom, lun, over);
                self.stir();
            }
            Order::Refresh => {
                if let Some(nexus) = self.nexus.get() {
                    nexus.refresh();
                }
            }
            Order::RequestLogout(seconds) => {
                self.session.borrow_mut().request_logout(reactor::now(), seconds);
                self.timer.notify_all();
                self.stir();
            }
        }
    }
}

/// One command after another, for as long as the session lives (D5).
async fn serve(link: Rc<Link>, slot: u16) {
    let (Some(nexus), Some(notify)) = (
        link.nexus.get(),
        link.slots.get().and_then(|s| s.get(usize::from(slot))),
    ) else {
        return; // both are set before this is started
    };
    while !link.closed.get() {
        let taken = link.session.borrow_mut().take(slot);
        if let Some(taken) = taken {
            let request = Request {
                lun: taken.lun,
                cdb: taken.cdb,
                room: taken.room,
                data: taken.data,
            };
            let unwanted = || link.session.borrow().is_unwanted(slot);
            let latencies = &nexus.device().latencies;
            let began = latencies.is_on().then(reactor::now);
            let outcome = execute_unless(nexus, request, &unwanted).await;
            if let Some(began) = began {
                let took = reactor::now().since(began).as_nanos();
                latencies.add(u64::try_from(took).unwrap_or(u64::MAX));
            }
            link.session.borrow_mut().complete(slot, outcome);
            link.output.notify_one();
        } else {
            link.stir();
            notify.wait().await;
        }
    }
}

/// Sends what there is, all of it that fits in one call.
async fn write(link: Rc<Link>) {
    let mut outbox = Outbox::with_capacity(SEGMENTS);
    while !link.closed.get() {
        if link.held.get() {
            link.output.wait().await;
            continue;
        }
        {
            let mut session = link.session.borrow_mut();
            let listened = session.listens();
            session.output(&mut Gather(&mut outbox));
            if !listened && session.listens() {
                link.input.notify_one();
            }
        }
        if outbox.is_empty() {
            if link.session.borrow().is_closed() {
                link.close(None);
                return;
            }
            link.output.wait().await;
            continue;
        }
        if let Err(error) = link.stream.send(&mut outbox).await {
            tracing::debug!(id = link.id, %error, "send");
            link.close(None);
            return;
        }
    }
}

/// Calls the session when its time has come.
async fn keep_time(link: Rc<Link>) {
    while !link.closed.get() {
        let deadline = link.session.borrow().deadline();
        let wait = deadline.map_or(Duration::from_secs(3600), |due| due.since(reactor::now()));
        let _ = reactor::timeout(wait, link.timer.wait()).await;
        link.session.borrow_mut().tick(reactor::now());
        link.stir();
    }
}
