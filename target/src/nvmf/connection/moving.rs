//! A queue that moves to another core, when one core has had much more to do than another for a while.
//!
//! It happens between two commands: the reader takes nothing more from the socket, what runs is answered, and then the socket and
//! the session go; the tasks end here and begin anew there. The host sees one command take a little longer. Queues that something
//! else hangs on stay: admin queues, those of hosts that authenticate, and those with TLS, whose state is not moved.
use super::*;
use reactor::Inbox;

/// How long a queue may take to come to rest before it stays where it is.
const REST: Duration = Duration::from_millis(50);
/// Commands a second that must lie between two cores, and how often in a row, before anything moves.
const MARGIN: u64 = 1000;
const TIMES: u32 = 3;

/// A queue on its way.
pub(super) struct Moving {
    id: u64,
    local: SocketAddr,
    peer: SocketAddr,
    stream: Stream,
    session: Session,
    /// What was received and not yet looked at.
    unread: Vec<u8>,
    controller: Arc<Controller>,
    qid: u16,
    entries: usize,
}

impl Connection {
    /// The queue is to move to `core` when it comes to rest.
    pub(super) fn wish_to_move(&self, core: usize) {
        self.move_to.set(Some(core));
    }

    /// May this queue be anywhere else?
    pub(super) fn can_move(&self) -> bool {
        let free = |b: &Bound| {
            let subsystem = b.controller.subsystem.as_ref();
            b.qid > 0 && subsystem.is_some_and(|s| !s.inner().must_authenticate(&b.controller.hostnqn))
        };
        !self.closing.get() && self.secure.get().is_none() && self.bound.get().is_some_and(free)
    }

    /// The core it goes to now, if it is to go and everything is answered. Nothing may be read meanwhile.
    pub(super) async fn at_rest(&self) -> Option<usize> {
        let core = self.move_to.take()?;
        let until = reactor::now().0 + REST.as_nanos() as u64;
        loop {
            let quiet =
                self.session.borrow().busy() == 0 && !self.sending.get() && self.front.borrow().outbox.is_empty();
            if quiet {
                return self.can_move().then_some(core);
            }
            // Data that was asked for, or the second half of something, is still to be read.
            let blocked = self.session.borrow().waits_for_data() || self.fused.is_waiting();
            let left = until.saturating_sub(reactor::now().0);
            if blocked || left == 0 || self.closing.get() {
                return None;
            }
            // Answers that have left say so; a device that is slow does not.
            let _ = reactor::timeout(Duration::from_nanos(left), self.sent.wait()).await;
        }
    }

    /// Ends the tasks here and goes on at `core`.
    pub(super) async fn depart(self: Rc<Self>, core: usize, unread: Vec<u8>) {
        let shared = self.shared.clone();
        let Some(bound) = self.bound.get() else {
            return self.end().await;
        };
        let (controller, qid) = (bound.controller.clone(), bound.qid);
        let entries = self.slots.get().map_or(0, |all| all.len());
        self.publish(bound);
        self.closing.set(true);
        self.end_tasks().await;
        CORE.with(|core| core.connections.borrow_mut().remove(&self.id));
        // Whoever looks through all connections has it in hand for a moment.
        let mut connection = self;
        let connection = loop {
            match Rc::try_unwrap(connection) {
                Ok(alone) => break alone,
                Err(shared) => {
                    connection = shared;
                    reactor::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let moving = Moving {
            id: connection.id,
            local: connection.local,
            peer: connection.peer,
            stream: connection.stream,
            session: connection.session.into_inner(),
            unread,
            controller,
            qid,
            entries,
        };
        tracing::debug!(from = reactor::core(), to = core, qid, "a queue moves");
        shared.expect(core);
        let target = shared.clone();
        drop(shared.reactors.call(core, move || arrive(target, moving)));
    }
}

/// Goes on with a queue that was on another core.
async fn arrive(shared: Arc<Shared>, moving: Moving) {
    let here = reactor::core();
    let Moving {
        id,
        local,
        peer,
        stream,
        session,
        unread,
        controller,
        qid,
        entries,
    } = moving;
    let transport = shared.transport();
    let Some(connection) = Connection::new(&shared, &transport, stream, (id, local, peer), session) else {
        // No memory for even one command here: the host makes another queue.
        controller.state().queues.retain(|_, queue| queue.connection != id);
        shared.ended(here);
        return;
    };
    table::admit(&connection);
    connection.furnish(Bound::new(controller.clone(), qid, None), entries);
    // Who closed the queue meanwhile asked the core it had left.
    let still_there = match controller.state().queues.get_mut(&qid) {
        Some(queue) if queue.connection == id => {
            queue.core = here;
            true
        }
        _ => false,
    };
    if !still_there {
        connection.shut();
    }
    let mut inbox = Inbox::with_capacity(reader::INBOX);
    inbox.push(&unread);
    connection.clone().start(Connection::write);
    connection.go_on(inbox).await;
    shared.ended(here);
}

/// Once a second on each core: tells what it had to do, and if that is much more than another core had, sends a queue there.
pub(super) fn balance(shared: &Arc<Shared>, all: &[Rc<Connection>], uneven: &Cell<u32>) {
    let ours: Vec<(u64, &Rc<Connection>)> = all
        .iter()
        .filter(|c| Arc::ptr_eq(&c.shared, shared))
        .map(|c| (c.commands.take(), c))
        .collect();
    let own: u64 = ours.iter().map(|(commands, _)| commands).sum();
    shared.worked(reactor::core(), own);
    let (least, there) = shared.least_worked();
    let gap = own.saturating_sub(least);
    if gap < MARGIN || own < 2 * least {
        return uneven.set(0);
    }
    uneven.set(uneven.get() + 1);
    if uneven.get() < TIMES {
        return;
    }
    uneven.set(0);
    // What brings both closest together; a queue that has as much to do as the gap is wide would only turn it round.
    let movable = ours
        .iter()
        .filter(|(commands, c)| *commands > 0 && *commands < gap && c.can_move());
    if let Some((_, queue)) = movable.min_by_key(|(commands, _)| commands.abs_diff(gap / 2)) {
        queue.wish_to_move(there);
    }
}
