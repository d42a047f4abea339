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
    login::{Agreed, Directory, Hello, Refusal, Welcome},
    options::{ConnectionInfo, IscsiError, LunMap, Negotiated, Options, Portal},
    state::{State, new_unit, not_found},
};
use crate::scsi::{
    NexusId,
    reservation::Registry,
    unit::{Device, Unit},
};
use bdev::graph::Graph;
use reactor::{
    Listener, Reactors, Stream, channel,
    pool::{Base, Line, Pool, PoolConfig},
};
use spec::{
    iscsi::{LoginStatus, bhs::AsyncEvent},
    scsi::{Lun, TransportId},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
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
/// Seconds a host has when it is asked to log out.
const LOGOUT_SECONDS: u16 = 10;

/// What the control plane says to a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// End.
    Close,
    /// End, and tell the host why: the connection or its session is dropped.
    Drop(AsyncEvent),
    /// Look at the target's units again.
    Refresh,
    /// Ask the host to leave within so many seconds.
    RequestLogout(u16),
}

/// How the control plane reaches a connection.
struct Link {
    orders: channel::Sender<Order>,
    core: usize,
    isid: [u8; 6],
}

#[derive(Default)]
struct Links {
    next: u64,
    next_tsih: u16,
    by_id: BTreeMap<u64, Link>,
}

/// Everything behind the control handle.
pub(super) struct Server {
    reactors: Reactors,
    graph: Graph,
    state: Mutex<State>,
    links: Mutex<Links>,
    /// Credits for commands; each core has a child pool, made at its first login.
    commands: Base<()>,
    pub(super) reservations: Registry,
    /// Connections on each core.
    load: Vec<AtomicUsize>,
    /// Dropping a sender ends the acceptor that has the other end.
    acceptors: Mutex<BTreeMap<u32, Vec<channel::Sender<()>>>>,
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
        Ok(unit.pinned(pin).reserved(reservations))
    }

    /// A line of up to `depth` credits from this core's pool. `None`: there is not even the floor.
    fn credit(self: &Arc<Self>, depth: u32) -> Option<Line> {
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
            Line::open(pools[own].1.rights(), FLOOR.min(depth), depth).ok()
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
            stops.push(stop);
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
        self.acceptors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tag);
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
            links.by_id.insert(
                id,
                Link {
                    orders,
                    core,
                    isid: [0; 6],
                },
            );
            id
        };
        let info = ConnectionInfo {
            id,
            cid: 0,
            tsih: 0,
            lcore_id: core,
            initiator_addr: peer,
            initiator_name: String::new(),
            target_addr: local,
            target_node_name: String::new(),
            portal_group: tag,
            state: "login",
            negotiated: None,
        };
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
        ids.into_iter().for_each(|id| self.order(id, order));
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
        {
            let mut state = self.state();
            state.connections.remove(&id);
            state.exited = state.exited.wrapping_add(1);
        }
        if let Some(link) = self.links().by_id.remove(&id) {
            self.load[link.core].fetch_sub(1, Relaxed);
        }
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
            max_connections: 1,
            max_outstanding_r2t: 1,
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

    fn enter(&mut self, hello: &Hello, _: &Agreed) -> Result<u16, Refusal> {
        let refused = |status| Err(Refusal::Status(status));
        let mut state = self.server.state();
        let Some(me) = state.connections.get(&self.id).cloned() else {
            return refused(LoginStatus::TargetError);
        };
        let tag = me.portal_group;
        // It may have gone while the host proved who it is.
        if hello
            .target
            .as_ref()
            .is_some_and(|target| !state.nodes.contains_key(target))
        {
            return refused(LoginStatus::TargetRemoved);
        }
        let others = || state.connections.values().filter(|c| c.id != self.id && c.tsih != 0);
        if hello.tsih != 0 {
            // Sessions have one connection (MaxConnections = 1).
            let known = others().any(|c| c.tsih == hello.tsih && c.initiator_name == hello.initiator);
            return refused(if known {
                LoginStatus::TooManyConnections
            } else {
                LoginStatus::NoSession
            });
        }
        // The same initiator port again: the old session is over (6.3.5).
        let mut links = self.server.links();
        let target = hello.target.clone().unwrap_or_default();
        let old: Vec<u64> = others()
            .filter(|c| hello.target.is_some() && c.target_node_name == target && c.initiator_name == hello.initiator)
            .filter(|c| c.portal_group == tag && links.by_id.get(&c.id).is_some_and(|link| link.isid == hello.isid))
            .map(|c| c.id)
            .collect();
        let staying = others().filter(|c| c.state != "exiting" && !old.contains(&c.id));
        if staying.count() >= state.options.max_sessions as usize {
            return refused(LoginStatus::OutOfResources);
        }
        self.line = self.server.credit(self.depth.into());
        if self.line.is_none() {
            return refused(LoginStatus::OutOfResources);
        }
        let tsih = loop {
            links.next_tsih = links.next_tsih.wrapping_add(1);
            // There are 65,535 handles and at most that many sessions; the limit above keeps one free.
            if links.next_tsih != 0 && !others().any(|c| c.tsih == links.next_tsih) {
                break links.next_tsih;
            }
        };
        for id in &old {
            if let Some(link) = links.by_id.get(id) {
                let _ = link.orders.try_send(Order::Close);
            }
        }
        if let Some(link) = links.by_id.get_mut(&self.id) {
            link.isid = hello.isid;
        }
        drop(links);
        if let Some(me) = state.connections.get_mut(&self.id) {
            me.cid = hello.cid;
            me.tsih = tsih;
            me.initiator_name = hello.initiator.clone();
            me.target_node_name = target;
        }
        Ok(tsih)
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
