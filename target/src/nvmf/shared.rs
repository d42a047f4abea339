//! What the control plane and all cores share: one lock for set-up, atomics for counting connections.
use super::{
    auth::GeneratedPsks,
    controller::Queue,
    identify::Delays,
    mdns::Publisher,
    options::{Referral, TargetConfig, TransportOptions},
    persist::Keeper,
    port::Port,
    subsystem::Subsystem,
};
use crate::keyring::Keyring;
use bdev::graph::Graph;
use reactor::Reactors;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// One target. The lock is never taken for an I/O command.
pub struct Shared {
    /// Where it runs.
    pub reactors: Reactors,
    /// Where its volumes are.
    pub graph: Graph,
    /// Keys by name.
    pub keyring: Keyring,
    /// Keys for TLS that authentications have left behind.
    pub generated: GeneratedPsks,
    /// Where reservations outlive a power loss.
    pub keeper: Keeper,
    state: Mutex<State>,
    /// Taken before `state`, never after it.
    publisher: Mutex<Option<Publisher>>,
    /// Connections on each core.
    load: Vec<AtomicUsize>,
    /// Commands each core has carried out in the last second.
    work: Vec<AtomicU64>,
    next: AtomicU64,
}

/// Set-up.
pub struct State {
    /// The TCP transport, once created.
    pub transport: Option<TransportOptions>,
    /// Subsystems by NQN.
    pub subsystems: BTreeMap<String, Arc<Subsystem>>,
    /// Sockets we listen on.
    pub ports: BTreeMap<SocketAddr, Port>,
    /// Discovery services elsewhere.
    pub referrals: Vec<Referral>,
    /// Target-wide settings.
    pub config: TargetConfig,
    /// Retry delays.
    pub delays: Delays,
    /// Most subsystems.
    pub max_subsystems: usize,
    /// Somebody has said so.
    pub max_subsystems_said: bool,
    /// GENCTR of the discovery log.
    pub generation: u64,
    /// CNTLIDs of discovery controllers.
    pub next_discovery: u16,
    /// Admin queues of discovery controllers that wait for events.
    pub discoverers: Vec<Arc<super::controller::Controller>>,
    /// PORTID of the next port.
    pub next_port: u16,
}

impl Shared {
    /// A target without anything.
    pub fn new(reactors: Reactors, graph: Graph) -> Self {
        let load = (0..reactors.count()).map(|_| AtomicUsize::new(0)).collect();
        let work = (0..reactors.count()).map(|_| AtomicU64::new(0)).collect();
        let state = State {
            transport: None,
            subsystems: BTreeMap::new(),
            ports: BTreeMap::new(),
            referrals: Vec::new(),
            config: TargetConfig::default(),
            delays: Delays::default(),
            max_subsystems: 1024,
            max_subsystems_said: false,
            generation: 0,
            next_discovery: 1,
            discoverers: Vec::new(),
            next_port: 1,
        };
        Self {
            reactors,
            graph,
            keyring: Keyring::default(),
            generated: GeneratedPsks::default(),
            keeper: Keeper::default(),
            state: Mutex::new(state),
            publisher: Mutex::new(None),
            load,
            work,
            next: AtomicU64::new(1),
        }
    }

    /// The set-up. Each statement leaves it whole, so a poisoned lock is still a good one.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Who publishes the discovery service, if anybody does.
    pub fn publisher(&self) -> MutexGuard<'_, Option<Publisher>> {
        self.publisher.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Where the discovery service answers.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.state().ports.keys().copied().collect()
    }

    /// A number nobody else has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// The transport's settings, or the defaults if it has not been created.
    pub fn transport(&self) -> TransportOptions {
        self.state().transport.clone().unwrap_or_default()
    }

    /// Connections in all.
    pub fn connections(&self) -> usize {
        self.load.iter().map(|n| n.load(Relaxed)).sum()
    }

    /// A connection is on its way to `core`.
    pub fn expect(&self, core: usize) {
        self.load[core].fetch_add(1, Relaxed);
    }

    /// A connection of `core` has ended.
    pub fn ended(&self, core: usize) {
        self.load[core].fetch_sub(1, Relaxed);
    }

    /// The core with the fewest connections.
    pub fn least_loaded(&self) -> usize {
        let loads = self.load.iter().enumerate().map(|(core, n)| (n.load(Relaxed), core));
        loads.min().map_or(0, |(_, core)| core)
    }

    /// `core` has carried out so many commands in the last second.
    pub fn worked(&self, core: usize, commands: u64) {
        self.work[core].store(commands, Relaxed);
    }

    /// The least a core had to do in the last second, and which.
    pub fn least_worked(&self) -> (u64, usize) {
        let work = self.work.iter().enumerate().map(|(core, n)| (n.load(Relaxed), core));
        work.min().unwrap_or_default()
    }

    /// Ends the connections of these queues, wherever they live. Does not wait.
    pub fn close(&self, queues: impl IntoIterator<Item = Queue>) {
        for queue in queues {
            let call = self.reactors.call(
                queue.core,
                move || async move { super::connection::close(queue.connection) },
            );
            drop(call);
        }
    }

    /// Lets an admin queue look whether a request waits for the events its controller has. Does not wait.
    pub fn wake(&self, queue: Option<Queue>) {
        if let Some(queue) = queue {
            let call = self.reactors.call(
                queue.core,
                move || async move { super::connection::tell(queue.connection) },
            );
            drop(call);
        }
    }

    /// The same for several.
    pub fn wake_all(&self, queues: Vec<Queue>) {
        queues.into_iter().for_each(|queue| self.wake(Some(queue)));
    }

    /// The discovery log has changed: count it and tell the hosts that asked.
    pub fn discovery_changed(&self) {
        if let Some(publisher) = &mut *self.publisher() {
            publisher.update(&self.listening());
        }
        let discoverers = {
            let mut state = self.state();
            state.generation += 1;
            state.discoverers.clone()
        };
        for controller in discoverers {
            self.wake(controller.discovery_changed());
        }
    }

    /// Namespace `nsid` of `subsystem` has come, gone or changed: tell the hosts that may know.
    pub fn namespace_changed(&self, subsystem: &Subsystem, nsid: u32, concerns: impl Fn(&str) -> bool) {
        let controllers: Vec<_> = subsystem
            .inner()
            .controllers
            .values()
            .filter(|c| concerns(&c.hostnqn))
            .cloned()
            .collect();
        for controller in controllers {
            self.wake(controller.namespace_changed(nsid));
        }
    }
}
