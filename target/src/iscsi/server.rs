//! What is behind the control handle: state, listeners, and where connections live.
//!
//! ```text
//!   control thread ── Server ──┬─ Mutex<State>      groups, nodes, connections as people see them
//!                              ├─ Mutex<Links>      one mailbox for each connection, by id
//!        acceptor (one core) ──┴─► least loaded core: connection::run
//! ```
use super::{
    auth::{Credential, Demand},
    connection,
    login::{Agreed, Directory, Entry, Hello, Refusal, Welcome},
    options::{ConnectionInfo, IscsiError, LunMap, Negotiated, Options, Portal},
    sequencer::Sequencer,
    sessions::{Session, Sessions},
    slot::{Aborted, MAX_R2T},
    state::{State, new_unit, not_found},
};
use crate::scsi::{
    NexusId,
    news::SharedNews,
    reservation::Registry,
    sanitize,
    unit::{Device, Unit},
};
use bdev::graph::Graph;
use reactor::{
    Closer, Listener, Reactors, Stream, channel,
    pool::{Base, Line, Pool, PoolConfig},
};
use spec::{
    iscsi::{LoginStatus, bhs::AsyncEvent},
    scsi::{Lun, TransportId},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::{SocketAddr, ToSocketAddrs},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

/// Connections that have not logged in; one more, and the oldest of them goes.
const STRANGERS: usize = 256;
/// Commands of all hosts at once. Each connection has a few for sure and borrows more from its core's pool (D7).
const COMMANDS: usize = 16 << 10;
/// What a connection has for sure; and what a core takes at once when it runs short.
const FLOOR: u32 = 4;
const BUSY: u32 = 256;
/// Most connections to a session.
const MAX_CONNECTIONS: u32 = 16;
/// Commands that are aborted have this long to end.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);
/// Seconds a host has when it is asked to log out.
const LOGOUT_SECONDS: u16 = 10;

/// What the control plane and other connections say to a connection.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// End.
    Close,
    /// End, and tell the host why: the connection or its session is dropped.
    Drop(AsyncEvent),
    /// End: another connection is in your place, or your host has said goodbye on another one.
    Replaced,
    /// Abort your commands to a unit (`None`: all), and drop `over` when they are over.
    Abort {
        whom: Aborted,
        lun: Option<Lun>,
        over: channel::Sender<()>,
    },
    /// Look at the target's units again.
    Refresh,
    /// Ask the host to leave within so many seconds.
    RequestLogout(u16),
}

/// How the control plane reaches a connection.
struct Link {
    orders: channel::Sender<Order>,
    core: usize,
    /// Dropped with this, which is when the connection is gone.
    mourners: Vec<channel::Sender<()>>,
}

#[derive(Default)]
struct Links {
    next: u64,
    by_id: BTreeMap<u64, Link>,
    sessions: Sessions,
}

impl Links {
    fn replace(&mut self, ids: &[u64]) -> channel::Receiver<()> {
        let (mourner, gone) = channel::bounded(1);
        for id in ids {
            if let Some(link) = self.by_id.get_mut(id) {
                link.mourners.push(mourner.clone());
                let _ = link.orders.try_send(Order::Replaced);
            }
        }
        gone
    }
}

/// What ends an acceptor, and closes its socket.
type Acceptor = (channel::Sender<()>, Closer);

/// Everything behind the control handle.
pub(super) struct Server {
    reactors: Reactors,
    graph: Graph,
    state: Mutex<State>,
    links: Mutex<Links>,
    /// Credits for commands; each core has a child pool, made at its first login.
    commands: Base<()>,
    pub(super) reservations: Registry,
    pub(super) sanitizations: sanitize::Registry,
    /// Connections on each core.
    load: Vec<AtomicUsize>,
    /// The acceptors of each portal group.
    acceptors: Mutex<BTreeMap<u32, Vec<Acceptor>>>,
}

impl Server {
    pub(super) fn new(reactors: Reactors, graph: Graph) -> Arc<Self> {
        let load = (0..reactors.count()).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self {
            reactors,
            graph,
            state: Mutex::default(),
            links: Mutex::default(),
            commands: Base::credits("iSCSI commands", COMMANDS),
            reservations: Registry::default(),
            sanitizations: sanitize::Registry::default(),
            load,
            acceptors: Mutex::default(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A unit on a volume of the graph, which cannot be removed while it is offered.
    pub(super) fn unit(&self, lun: Lun, map: &LunMap) -> Result<Unit, IscsiError> {
        let volume = &map.bdev_name;
        let info = self.graph.info(volume).ok_or_else(|| not_found("volume", volume))?;
        let unit = new_unit(lun, map, info.name, info.uuid, &info.geometry)?;
        let pin = self.graph.pin(&unit.volume, "iscsi").ok();
        let reservations = self.reservations.of(unit.uuid);
        let sanitization = self.sanitizations.of(unit.uuid);
        let (state, graph, volume) = (sanitization.clone(), self.graph.clone(), unit.volume.clone());
        drop(self.reactors.call(0, move || sanitize::resume(state, graph, volume)));
        Ok(unit.pinned(pin).reserved(reservations).sanitized(sanitization))
    }

    /// A line of up to `depth` credits from this core's pool, `floor` for sure. `None`: there is not even the floor.
    fn credit(self: &Arc<Self>, floor: u32, depth: u32) -> Option<Line> {
        thread_local! { static POOLS: RefCell<Vec<(Weak<Server>, Pool<()>)>> = const { RefCell::new(Vec::new()) } }
        POOLS.with_borrow_mut(|pools| {
            pools.retain(|(server, _)| server.strong_count() > 0);
            let own = pools
                .iter()
                .position(|(server, _)| std::ptr::eq(server.as_ptr(), Arc::as_ptr(self)));
            let own = match own {
                Some(own) => own,
                None => {
                    let config = PoolConfig {
                        deadlock: FLOOR,
                        bottleneck: BUSY,
                        quota: None,
                    };
                    let pool = self.commands.child(&format!("core {}", reactor::core()), config).ok()?;
                    pools.push((Arc::downgrade(self), pool));
                    pools.len() - 1
                }
            };
            Line::open(pools[own].1.rights(), floor.min(depth), depth).ok()
        })
    }

    // ---- listening

    pub(super) fn listen(self: &Arc<Self>, tag: u32) -> Result<(), IscsiError> {
        let portals: Vec<Portal> = {
            let mut state = self.state();
            let group = state.group(tag)?;
            if !group.bound.is_empty() {
                return Ok(());
            }
            group.portals.clone()
        };
        let mut listeners = Vec::with_capacity(portals.len());
        for portal in &portals {
            listeners.push(bind(portal)?);
        }
        let bound = listeners.iter().map(Listener::local_addr).collect();
        self.state().group(tag)?.bound = bound;
        let mut stops = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let (stop, stopped) = channel::bounded::<()>(1);
            stops.push((stop, listener.closer()));
            let server = Arc::downgrade(self);
            drop(self.reactors.call(tag as usize, move || async move {
                reactor::spawn_background(accept(server, tag, listener, stopped));
            }));
        }
        self.acceptors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(tag, stops);
        Ok(())
    }

    pub(super) fn unlisten(&self, tag: u32) {
        let acceptors = self
            .acceptors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tag);
        for (stop, closer) in acceptors.into_iter().flatten() {
            // Told first: an acceptor that wakes because its socket is closed must know why.
            drop(stop);
            closer.close();
        }
        if let Ok(group) = self.state().group(tag) {
            group.bound.clear();
        }
    }

    /// A host has come: it gets a place on the core that has the fewest.
    fn welcome(self: &Arc<Self>, tag: u32, stream: Stream, peer: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let quietest = self.load.iter().enumerate().min_by_key(|(_, load)| load.load(Relaxed));
        let core = quietest.map_or(0, |(core, _)| core);
        let (orders, inbox) = channel::bounded(8);
        let id = {
            let mut links = self.links();
            links.next += 1;
            let id = links.next;
            let link = Link {
                orders,
                core,
                mourners: Vec::new(),
            };
            links.by_id.insert(id, link);
            id
        };
        let info = ConnectionInfo::arrived(id, core, tag, peer, local);
        let too_many = {
            let mut state = self.state();
            state.connections.insert(id, info);
            let mut strangers = state.connections.values().filter(|c| c.state == "login").map(|c| c.id);
            let oldest = strangers.next();
            let oldest = if strangers.count() >= STRANGERS { oldest } else { None };
            // It is chosen once, however long its end takes.
            if let Some(leaving) = oldest.and_then(|id| state.connections.get_mut(&id)) {
                leaving.state = "exiting";
            }
            oldest
        };
        if let Some(oldest) = too_many {
            self.order(oldest, Order::Close);
        }
        self.load[core].fetch_add(1, Relaxed);
        let server = self.clone();
        drop(self.reactors.call(core, move || async move {
            reactor::spawn(connection::run(server, id, stream, inbox));
        }));
    }

    // ---- connections

    fn order(&self, id: u64, order: Order) {
        if let Some(link) = self.links().by_id.get(&id) {
            // A full mailbox holds orders of the same kind already, or a close.
            let _ = link.orders.try_send(order);
        }
    }

    fn order_all(&self, order: Order, which: impl Fn(&ConnectionInfo) -> bool) {
        let ids: Vec<u64> = self
            .state()
            .connections
            .values()
            .filter(|c| which(c))
            .map(|c| c.id)
            .collect();
        ids.into_iter().for_each(|id| self.order(id, order.clone()));
    }

    pub(super) fn drop_connections(&self, which: impl Fn(&ConnectionInfo) -> bool) {
        self.order_all(Order::Close, which);
    }

    /// Ends connections, and tells their hosts so.
    pub(super) fn drop_out(&self, event: AsyncEvent, which: impl Fn(&ConnectionInfo) -> bool) {
        self.order_all(Order::Drop(event), which);
    }

    pub(super) fn refresh(&self, which: impl Fn(&ConnectionInfo) -> bool) {
        self.order_all(Order::Refresh, which);
    }

    pub(super) fn request_logout(&self, which: impl Fn(&ConnectionInfo) -> bool) {
        self.order_all(Order::RequestLogout(LOGOUT_SECONDS), which);
    }

    pub(super) fn set_state(&self, id: u64, now: &'static str) {
        if let Some(connection) = self.state().connections.get_mut(&id) {
            connection.state = now;
        }
    }

    /// A login is done.
    pub(super) fn set_running(&self, id: u64, negotiated: Negotiated) {
        if let Some(connection) = self.state().connections.get_mut(&id) {
            connection.state = "running";
            connection.negotiated = Some(negotiated);
        }
    }

    /// The last a connection does.
    pub(super) fn gone(&self, id: u64) {
        let mut state = self.state();
        let mut links = self.links();
        state.exited = state.exited.wrapping_add(1);
        if let Some(was) = state.connections.remove(&id).filter(|was| was.tsih != 0) {
            let left = state.connections.values_mut().filter(|c| c.tsih == was.tsih);
            let left = left.map(|c| c.session_connections -= 1).count();
            if left == 0 {
                links.sessions.by_tsih.remove(&was.tsih);
            }
        }
        if let Some(link) = links.by_id.remove(&id) {
            self.load[link.core].fetch_sub(1, Relaxed);
        }
    }

    /// The other connections of one's session, and those of them that `which` wants.
    pub(super) fn siblings(&self, id: u64, which: impl Fn(&ConnectionInfo) -> bool) -> Vec<u64> {
        let state = self.state();
        let Some(tsih) = state.connections.get(&id).map(|c| c.tsih).filter(|tsih| *tsih != 0) else {
            return Vec::new();
        };
        let siblings = state.connections.values().filter(|c| c.tsih == tsih && c.id != id);
        siblings.filter(|c| which(c)).map(|c| c.id).collect()
    }

    /// A connection is lost, and at level 0 its session is (7.1.5).
    pub(super) fn lost(&self, id: u64) {
        for sibling in self.siblings(id, |_| true) {
            self.order(sibling, Order::Drop(AsyncEvent::SessionDropped));
        }
    }

    /// Ends connections in favour of another; what is returned closes when the last one is gone.
    pub(super) fn replace(&self, ids: &[u64]) -> channel::Receiver<()> {
        self.links().replace(ids)
    }

    /// Aborts commands to a unit of this connection's target (`None`: all units) wherever they run: those of its own session,
    /// and with `others` those of other sessions, too. Returns when they are over; false if that takes too long.
    pub(super) async fn abort(&self, id: u64, lun: Option<Lun>, others: bool) -> bool {
        let (over, ended) = channel::bounded(1);
        let orders: Vec<_> = {
            let state = self.state();
            let links = self.links();
            let Some(own) = state.connections.get(&id) else {
                return true;
            };
            let same = |c: &&ConnectionInfo| c.tsih != 0 && c.target_node_name == own.target_node_name;
            let hit = state.connections.values().filter(same);
            let hit = hit.filter_map(|c| {
                let whom = match c.tsih == own.tsih {
                    true => Aborted::Host,
                    false => Aborted::Other,
                };
                let link = links.by_id.get(&c.id)?;
                (others || whom == Aborted::Host).then(|| (link.orders.clone(), whom))
            });
            hit.collect()
        };
        for (orders, whom) in orders {
            let over = over.clone();
            // Who is gone has no commands.
            let _ = orders.send(Order::Abort { whom, lun, over }).await;
        }
        drop(over);
        reactor::timeout(ABORT_PATIENCE, ended.recv()).await.is_ok()
    }

    pub(super) fn options(&self) -> Options {
        self.state().options.clone()
    }
}

fn bind(portal: &Portal) -> Result<Listener, IscsiError> {
    let fail = |source| IscsiError::Listen {
        host: portal.host.clone(),
        port: portal.port,
        source,
    };
    // SPDK's way of saying everywhere: `*` and, for IPv6, `[*]`.
    let host = match portal.host.as_str() {
        "*" => "0.0.0.0",
        "[*]" => "::",
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    let none = || {
        fail(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "the name has no address",
        ))
    };
    let address = (host, portal.port)
        .to_socket_addrs()
        .map_err(fail)?
        .next()
        .ok_or_else(none)?;
    Listener::bind(address).map_err(fail)
}

/// Accepts until the other end of `stopped` is dropped.
async fn accept(server: Weak<Server>, tag: u32, listener: Listener, stopped: channel::Receiver<()>) {
    let mut stop = pin!(stopped.recv());
    loop {
        let next = {
            let mut accept = pin!(listener.accept());
            std::future::poll_fn(|cx| match stop.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => accept.as_mut().poll(cx).map(Some),
            })
            .await
        };
        let Some(next) = next else { return };
        let Some(server) = server.upgrade() else { return };
        match next {
            Ok((stream, peer)) => server.welcome(tag, stream, peer),
            Err(error) => {
                // Out of descriptors, or the host was gone before we looked: neither is helped by trying at once.
                tracing::warn!(tag, %error, "cannot accept a connection");
                reactor::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// What a session asks of the rest of the world, for one connection.
pub(super) struct World {
    pub(super) server: Arc<Server>,
    pub(super) id: u64,
    /// The device it logged in to.
    pub(super) device: Option<Arc<Device>>,
    /// As whom.
    pub(super) nexus: Option<NexusId>,
    /// Commands at once, as it was told.
    pub(super) depth: u16,
    /// The credits its host will have.
    pub(super) line: Option<Line>,
    /// Closes when those are gone whose place it takes.
    pub(super) replaced: Option<channel::Receiver<()>>,
    /// With several connections: says that it may be this one's turn.
    pub(super) turns: Option<channel::Receiver<()>>,
    /// With several connections: what their host has been told by any of them.
    pub(super) news: Option<SharedNews>,
}

impl Directory for World {
    fn greet(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        let refused = |status| Err(Refusal::Status(status));
        let state = self.server.state();
        let Some(me) = state.connections.get(&self.id) else {
            return refused(LoginStatus::TargetError);
        };
        let tag = me.portal_group;
        let options = &state.options;
        let mut welcome = Welcome {
            portal_group: tag as u16, // checked when the group was made
            depth: 1,
            first_burst: options.first_burst_length,
            immediate_data: options.immediate_data,
            time2wait: options.default_time2wait,
            time2retain: options.default_time2retain,
            max_connections: options.max_connections_per_session.min(MAX_CONNECTIONS) as u16,
            max_outstanding_r2t: (options.max_r2t_per_connection as u16).min(MAX_R2T),
            ..Welcome::default()
        };
        let auth = match &hello.target {
            None => state.discovery_auth(tag),
            Some(target) => {
                let Some(node) = state.nodes.get(target) else {
                    return refused(LoginStatus::NotFound);
                };
                if !state.allows(node, tag, &hello.initiator, me.initiator_addr.ip()) {
                    return refused(LoginStatus::AuthorizationFailure);
                }
                if let Some(redirect) = node.redirect.get(&tag) {
                    return Err(Refusal::Moved {
                        to: redirect.to.to_string(),
                        permanent: redirect.permanent,
                    });
                }
                welcome.alias = node.alias.clone();
                welcome.depth = node.queue_depth.min(options.max_queue_depth) as u16;
                welcome.digests = (node.header_digest, node.data_digest);
                self.device = Some(node.device.clone());
                self.nexus = Some(NexusId {
                    initiator: TransportId {
                        name: hello.initiator.to_ascii_lowercase(),
                        isid: Some(hello.isid),
                    },
                    target: node.device.name.clone(),
                    port: tag as u16,
                });
                node.auth
            }
        };
        self.depth = welcome.depth;
        welcome.demand = Demand::new(&auth, &options.chap_algorithms());
        Ok(welcome)
    }

    fn enter(&mut self, hello: &Hello, agreed: &Agreed) -> Result<Entry, Refusal> {
        let refused = |status| Refusal::Status(status);
        let mut state = self.server.state();
        let me = state.connections.get(&self.id).cloned();
        let tag = me.ok_or(refused(LoginStatus::TargetError))?.portal_group;
        // It may have gone while the host proved who it is.
        if hello
            .target
            .as_ref()
            .is_some_and(|target| !state.nodes.contains_key(target))
        {
            return Err(refused(LoginStatus::TargetRemoved));
        }
        let others = || state.connections.values().filter(|c| c.id != self.id && c.tsih != 0);
        let mut links = self.server.links();
        let way = links.sessions.way(hello, tag, others()).map_err(refused)?;
        let staying = others().filter(|c| c.state != "exiting" && !way.replaces.contains(&c.id));
        let staying: BTreeSet<u16> = staying.map(|c| c.tsih).collect();
        if way.joins.is_none() && staying.len() >= state.options.max_sessions as usize {
            return Err(refused(LoginStatus::OutOfResources));
        }
        let (tsih, session) = match way.joins {
            Some(tsih) => (tsih, links.sessions.by_tsih.get(&tsih).cloned()),
            None => {
                let tsih = links.sessions.fresh();
                (tsih.ok_or(refused(LoginStatus::OutOfResources))?, None)
            }
        };
        let joins = session.is_some();
        let session = session.unwrap_or_else(|| Session {
            hello: hello.clone(),
            portal_group: tag,
            agreed: *agreed,
            order: (agreed.max_connections > 1 && hello.target.is_some())
                .then(|| Arc::new(Sequencer::new(hello.cmd_sn, self.depth.into()))),
            news: SharedNews::default(),
        });
        // The window of several connections may be used on any of them, so each has all credits for sure.
        let depth = session.order.as_ref().map_or(self.depth.into(), |order| order.depth());
        let floor = if session.order.is_some() { depth } else { FLOOR };
        self.line = self.server.credit(floor, depth);
        if self.line.is_none() {
            return Err(refused(LoginStatus::OutOfResources));
        }
        let entry = Entry {
            tsih,
            order: session.order.clone().map(|order| (order, self.id)),
            agreed: joins.then_some(session.agreed),
        };
        if let Some(order) = &session.order {
            let (turn, turns) = channel::bounded(1);
            order.join(self.id, turn);
            self.turns = Some(turns);
            self.news = Some(session.news.clone());
        }
        links.sessions.by_tsih.insert(tsih, session);
        self.replaced = (!way.replaces.is_empty()).then(|| links.replace(&way.replaces));
        drop(links);
        let target = hello.target.clone().unwrap_or_default();
        let siblings = state.connections.values_mut().filter(|c| c.tsih == tsih);
        let siblings = siblings.map(|c| c.session_connections += 1).count();
        if let Some(me) = state.connections.get_mut(&self.id) {
            me.cid = hello.cid;
            me.tsih = tsih;
            me.initiator_name = hello.initiator.clone();
            me.target_node_name = target;
            me.session_connections = siblings as u16 + 1;
        }
        Ok(entry)
    }

    fn credential(&mut self, group: u32, user: &str) -> Option<Credential> {
        self.server.state().auth_groups.get(&group)?.find(user).cloned()
    }

    fn random(&mut self, bytes: &mut [u8]) -> bool {
        getrandom::fill(bytes).is_ok()
    }

    fn targets(&mut self, initiator: &str, only: Option<&str>) -> Vec<(String, Vec<(SocketAddr, u32)>)> {
        let state = self.server.state();
        match state.connections.get(&self.id) {
            Some(me) => {
                let came_to = (me.portal_group, me.target_addr);
                state.targets_for(came_to, initiator, me.initiator_addr.ip(), only)
            }
            None => Vec::new(),
        }
    }
}
