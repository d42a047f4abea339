//! The handle of the control plane: what the `nvmf_*` methods and the configuration are made of.
use super::{
    connection,
    error::NvmfError,
    options::*,
    port::Port,
    shared::Shared,
    space::Spaces,
    subsystem::{Listener, Namespace, Subsystem},
};
use bdev::graph::Graph;
use reactor::Reactors;
use spec::nvme::{DISCOVERY_NQN, nqn_is_valid};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use uuid::Uuid;

type Result<T> = std::result::Result<T, NvmfError>;

/// The NVMe-oF target. A handle: clones mean the same target. Methods are for control threads, never for a reactor.
///
/// Changes are seen by new connections at once and by connected hosts through asynchronous events.
#[derive(Clone)]
pub struct Nvmf {
    shared: Arc<Shared>,
}

impl Nvmf {
    /// A target without transport and subsystems, on all of `reactors`.
    pub fn new(reactors: Reactors, graph: Graph) -> Self {
        Self {
            shared: Arc::new(Shared::new(reactors, graph)),
        }
    }

    // ---- targets ----

    /// Fails unless `name` is absent or that of the one target.
    pub fn check_target(name: Option<&str>) -> Result<()> {
        match name {
            None | Some(TARGET_NAME) => Ok(()),
            Some(other) => Err(NvmfError::NoTarget(other.into())),
        }
    }

    /// Names of all targets.
    pub fn targets(&self) -> Vec<String> {
        vec![TARGET_NAME.into()]
    }

    /// A second target. There is none: hosts cannot tell targets apart, subsystems and listeners separate them as well.
    pub fn create_target(&self, name: &str) -> Result<()> {
        match name {
            TARGET_NAME => Err(NvmfError::TargetExists(name.into())),
            _ => Err(NvmfError::Unsupported("this process serves one target, 'nvmf_tgt'")),
        }
    }

    /// Deletes a target; the only one stays.
    pub fn delete_target(&self, name: &str) -> Result<()> {
        Self::check_target(Some(name))?;
        Err(NvmfError::Unsupported(
            "the target 'nvmf_tgt' lives as long as the process",
        ))
    }

    // ---- transport ----

    /// Creates the TCP transport. `trtype` in any case.
    pub fn create_transport(&self, trtype: &str, options: TransportOptions) -> Result<()> {
        if !trtype.eq_ignore_ascii_case("tcp") {
            return Err(NvmfError::UnknownTransport(trtype.into()));
        }
        let bad = |what, why| Err(NvmfError::Invalid { what, why });
        if !options.max_io_size.is_power_of_two() || !(8192..=4 << 20).contains(&options.max_io_size) {
            return bad(
                "max_io_size",
                format!("{} is not a power of two from 8192 to 4194304", options.max_io_size),
            );
        }
        let icd = options.in_capsule_data_size;
        if !icd.is_multiple_of(16) || icd > options.max_io_size || icd > 256 << 10 {
            return bad(
                "in_capsule_data_size",
                format!("{icd} is not a multiple of 16 up to max_io_size and 262144"),
            );
        }
        if !(2..=4096).contains(&options.max_queue_depth) {
            return bad(
                "max_queue_depth",
                format!("{} is not one of 2 to 4096", options.max_queue_depth),
            );
        }
        if !(32..=4096).contains(&options.max_aq_depth) {
            return bad(
                "max_aq_depth",
                format!("{} is not one of 32 to 4096", options.max_aq_depth),
            );
        }
        if !(1..=1024).contains(&options.max_io_qpairs_per_ctrlr) {
            return bad(
                "max_io_qpairs_per_ctrlr",
                format!("{} is not one of 1 to 1024", options.max_io_qpairs_per_ctrlr),
            );
        }
        let mut state = self.shared.state();
        if state.transport.is_some() {
            return Err(NvmfError::TransportExists("TCP".into()));
        }
        state.transport = Some(options);
        Ok(())
    }

    /// The TCP transport, if it has been created.
    pub fn transport(&self) -> Option<TransportOptions> {
        self.shared.state().transport.clone()
    }

    // ---- subsystems ----

    /// Creates a subsystem.
    pub fn create_subsystem(&self, config: SubsystemConfig) -> Result<()> {
        let nqn = config.nqn.clone();
        let subsystem = Arc::new(Subsystem::new(self.shared.number(), config)?);
        let mut state = self.shared.state();
        if state.subsystems.contains_key(&nqn) {
            return Err(NvmfError::SubsystemExists(nqn));
        }
        if state.subsystems.len() >= state.max_subsystems {
            return Err(NvmfError::TooManySubsystems(state.max_subsystems));
        }
        state.subsystems.insert(nqn, subsystem);
        Ok(())
    }

    /// Deletes a subsystem: its listeners close, its hosts are disconnected, its volumes are released.
    pub async fn delete_subsystem(&self, nqn: &str) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let addresses: Vec<_> = {
            let mut inner = subsystem.inner();
            inner.closing = true;
            inner.listeners.iter().map(|l| l.address.clone()).collect()
        };
        for address in addresses {
            // Somebody else may be taking it away at the same time.
            let _ = self.remove_listener(nqn, &address).await;
        }
        self.disconnect(&subsystem, |_| true).await;
        let nsids: Vec<u32> = subsystem.inner().namespaces.keys().copied().collect();
        for nsid in nsids {
            let _ = self.remove_namespace(nqn, nsid).await;
        }
        let id = subsystem.id;
        self.on_all_cores(move || async move { Spaces::forget(id) }).await;
        self.shared.state().subsystems.remove(nqn);
        self.shared.discovery_changed();
        Ok(())
    }

    /// All subsystems; the discovery subsystem first.
    pub fn subsystems(&self) -> Vec<SubsystemInfo> {
        let state = self.shared.state();
        let mut all = vec![discovery_info(&state.ports)];
        all.extend(state.subsystems.values().map(|s| s.info()));
        all
    }

    /// One subsystem.
    pub fn subsystem(&self, nqn: &str) -> Result<SubsystemInfo> {
        if nqn == DISCOVERY_NQN {
            return Ok(discovery_info(&self.shared.state().ports));
        }
        Ok(self.find(nqn)?.info())
    }

    fn find(&self, nqn: &str) -> Result<Arc<Subsystem>> {
        self.shared
            .state()
            .subsystems
            .get(nqn)
            .cloned()
            .ok_or_else(|| NvmfError::NoSubsystem(nqn.into()))
    }

    // ---- namespaces ----

    /// Offers a volume as a namespace; returns its id. The volume is opened on every core first.
    pub async fn add_namespace(&self, nqn: &str, config: NamespaceConfig) -> Result<u32> {
        let subsystem = self.find(nqn)?;
        let node = self
            .shared
            .graph
            .info(&config.volume)
            .ok_or_else(|| NvmfError::NoVolume(config.volume.clone()))?;
        let nsid = subsystem.choose_nsid(config.nsid)?;
        let uuid = config.uuid.unwrap_or(node.uuid);
        let info = NamespaceInfo {
            nsid,
            volume: node.name.clone(),
            nguid: config.nguid.unwrap_or(*uuid.as_bytes()),
            eui64: config.eui64.filter(|id| *id != [0; 8]),
            uuid,
            anagrpid: config.anagrpid.unwrap_or(nsid),
            no_auto_visible: config.no_auto_visible,
            hosts: Vec::new(),
            ptpl_file: config.ptpl_file,
        };
        {
            // Taken before the first await, so that two requests cannot get one id.
            let mut inner = subsystem.inner();
            if inner.namespaces.contains_key(&nsid) {
                return Err(NvmfError::NamespaceExists { nqn: nqn.into(), nsid });
            }
            let same_id = |n: &Namespace| n.info.uuid == uuid && !uuid.is_nil() || n.info.nguid == info.nguid;
            if inner.namespaces.values().any(same_id) {
                let why = format!("a namespace of '{nqn}' has this uuid or nguid already");
                return Err(NvmfError::Invalid { what: "uuid", why });
            }
            inner.namespaces.insert(nsid, Namespace { info });
        }
        if let Err(error) = self
            .open_everywhere(&subsystem, nsid, &node.name, config.no_auto_visible)
            .await
        {
            subsystem.inner().namespaces.remove(&nsid);
            self.close_everywhere(&subsystem, nsid).await;
            return Err(error);
        }
        self.shared
            .namespace_changed(&subsystem, nsid, |_| !config.no_auto_visible);
        Ok(nsid)
    }

    async fn open_everywhere(&self, subsystem: &Subsystem, nsid: u32, volume: &str, hidden: bool) -> Result<()> {
        for core in 0..self.shared.reactors.count() {
            let (id, graph, volume) = (subsystem.id, self.shared.graph.clone(), volume.to_owned());
            let open = self
                .shared
                .reactors
                .call(core, move || Spaces::of(id).add(graph, nsid, volume, hidden));
            open.await?;
        }
        Ok(())
    }

    async fn close_everywhere(&self, subsystem: &Subsystem, nsid: u32) {
        let id = subsystem.id;
        self.on_all_cores(move || Spaces::of(id).remove(nsid)).await;
    }

    /// Takes a namespace away. Returns when the last command on it is done and its volume is released.
    pub async fn remove_namespace(&self, nqn: &str, nsid: u32) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let removed = subsystem.inner().namespaces.remove(&nsid);
        let namespace = removed.ok_or_else(|| NvmfError::NoNamespace { nqn: nqn.into(), nsid })?;
        self.close_everywhere(&subsystem, nsid).await;
        self.shared
            .namespace_changed(&subsystem, nsid, |host| namespace.visible_to(host));
        Ok(())
    }

    /// Moves a namespace to an ANA group.
    pub fn set_namespace_ana_group(&self, nqn: &str, nsid: u32, anagrpid: u32) -> Result<()> {
        let subsystem = self.find(nqn)?;
        if anagrpid == 0 || anagrpid > subsystem.config.max_namespaces {
            let why = format!("{anagrpid} is not one of 1 to {}", subsystem.config.max_namespaces);
            return Err(NvmfError::Invalid { what: "anagrpid", why });
        }
        let mut inner = subsystem.inner();
        let namespace = inner
            .namespaces
            .get_mut(&nsid)
            .ok_or_else(|| NvmfError::NoNamespace { nqn: nqn.into(), nsid })?;
        namespace.info.anagrpid = anagrpid;
        Ok(())
    }

    /// Shows a hidden namespace to `host`.
    pub async fn add_namespace_host(&self, nqn: &str, nsid: u32, host: &str) -> Result<()> {
        if !nqn_is_valid(host) {
            return Err(NvmfError::BadNqn(host.into()));
        }
        self.change_namespace_hosts(nqn, nsid, host, |hosts| {
            if hosts.iter().any(|h| h == host) {
                return Err(NvmfError::HostExists {
                    nqn: nqn.into(),
                    host: host.into(),
                });
            }
            hosts.push(host.into());
            Ok(())
        })
        .await
    }

    /// Hides a namespace from `host` again.
    pub async fn remove_namespace_host(&self, nqn: &str, nsid: u32, host: &str) -> Result<()> {
        self.change_namespace_hosts(nqn, nsid, host, |hosts| {
            let at = hosts.iter().position(|h| h == host);
            let at = at.ok_or_else(|| NvmfError::NoHost {
                nqn: nqn.into(),
                host: host.into(),
            })?;
            hosts.remove(at);
            Ok(())
        })
        .await
    }

    async fn change_namespace_hosts(
        &self,
        nqn: &str,
        nsid: u32,
        host: &str,
        change: impl FnOnce(&mut Vec<String>) -> Result<()>,
    ) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let hosts = {
            let mut inner = subsystem.inner();
            let namespace = inner
                .namespaces
                .get_mut(&nsid)
                .ok_or_else(|| NvmfError::NoNamespace { nqn: nqn.into(), nsid })?;
            if !namespace.info.no_auto_visible {
                let why = format!("namespace {nsid} is visible to every host");
                return Err(NvmfError::Invalid { what: "nsid", why });
            }
            change(&mut namespace.info.hosts)?;
            namespace.info.hosts.clone()
        };
        let id = subsystem.id;
        for core in 0..self.shared.reactors.count() {
            let hosts = hosts.clone();
            self.shared
                .reactors
                .call(core, move || async move { Spaces::of(id).set_hosts(nsid, hosts) })
                .await;
        }
        self.shared.namespace_changed(&subsystem, nsid, |h| h == host);
        Ok(())
    }

    /// A volume has another size or another property: hosts are told to look again.
    pub async fn namespace_changed(&self, volume: &str) {
        for (subsystem, nsid) in self.namespaces_on(volume) {
            let hidden = subsystem.inner().namespaces.get(&nsid).cloned();
            self.shared.namespace_changed(&subsystem, nsid, |host| {
                hidden.as_ref().is_some_and(|n| n.visible_to(host))
            });
        }
    }

    /// A volume is gone for good: its namespaces go, too.
    pub async fn volume_gone(&self, volume: &str) {
        for (subsystem, nsid) in self.namespaces_on(volume) {
            // It may have gone in the meantime.
            let _ = self.remove_namespace(subsystem.nqn(), nsid).await;
        }
    }

    fn namespaces_on(&self, volume: &str) -> Vec<(Arc<Subsystem>, u32)> {
        let state = self.shared.state();
        let mut found = Vec::new();
        for subsystem in state.subsystems.values() {
            let inner = subsystem.inner();
            let on_it = inner.namespaces.values().filter(|n| n.info.volume == volume);
            found.extend(on_it.map(|n| (subsystem.clone(), n.info.nsid)));
        }
        found
    }

    // ---- listeners ----

    /// Listens at `address`; returns the address with the port that was bound.
    pub async fn add_listener(&self, nqn: &str, address: ListenAddress, ana: AnaState) -> Result<SocketAddr> {
        let bound = if nqn == DISCOVERY_NQN {
            self.open_port(address.socket)?.0
        } else {
            let subsystem = self.find(nqn)?;
            subsystem.check_listener(&address)?;
            let (socket, port_id) = self.open_port(address.socket)?;
            let listener = Listener {
                address: ListenAddress { socket },
                port_id,
                ana,
                groups: BTreeMap::new(),
            };
            subsystem.inner().listeners.push(listener);
            socket
        };
        self.shared.discovery_changed();
        Ok(bound)
    }

    fn open_port(&self, address: SocketAddr) -> Result<(SocketAddr, u16)> {
        let mut state = self.shared.state();
        if state.transport.is_none() {
            return Err(NvmfError::NoTransport("TCP".into()));
        }
        if let Some(port) = state.ports.get_mut(&address) {
            port.users += 1;
            return Ok((address, port.id));
        }
        let id = state.next_port;
        let (port, bound) = Port::open(&self.shared, id, address)?;
        state.next_port = id.wrapping_add(1).max(1);
        state.ports.insert(bound, port);
        Ok((bound, id))
    }

    /// Stops listening at `address` for this subsystem and disconnects the hosts that came through it.
    pub async fn remove_listener(&self, nqn: &str, address: &ListenAddress) -> Result<()> {
        let socket = address.socket;
        let no_listener = || NvmfError::NoListener {
            nqn: nqn.into(),
            address: socket,
        };
        if nqn != DISCOVERY_NQN {
            let subsystem = self.find(nqn)?;
            {
                let mut inner = subsystem.inner();
                let at = inner
                    .listeners
                    .iter()
                    .position(|l| l.address == *address)
                    .ok_or_else(no_listener)?;
                inner.listeners.remove(at);
            }
            let gone = |local: SocketAddr| !subsystem.inner().listens_on(local);
            let queues: Vec<SocketAddr> = subsystem.inner().controllers.values().map(|c| c.local).collect();
            let cut: Vec<SocketAddr> = queues.into_iter().filter(|local| gone(*local)).collect();
            self.disconnect(&subsystem, |c| cut.contains(&c.local)).await;
        }
        let port = {
            let mut state = self.shared.state();
            let port = state.ports.get_mut(&socket).ok_or_else(no_listener)?;
            port.users -= 1;
            if port.users == 0 {
                state.ports.remove(&socket)
            } else {
                None
            }
        };
        if let Some(port) = port {
            port.close().await;
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// Listeners of a subsystem.
    pub fn listeners(&self, nqn: &str) -> Result<Vec<ListenerInfo>> {
        if nqn == DISCOVERY_NQN {
            let all = discovery_info(&self.shared.state().ports).listen_addresses;
            return Ok(all
                .into_iter()
                .map(|address| ListenerInfo {
                    address,
                    ana_states: Vec::new(),
                })
                .collect());
        }
        Ok(self.find(nqn)?.listeners())
    }

    /// Sets the state of one ANA group, or of all, as seen through a listener. Kept for control planes; hosts are not told
    /// yet, because the controller does not report asymmetric access.
    pub fn set_listener_ana_state(
        &self,
        nqn: &str,
        address: &ListenAddress,
        anagrpid: Option<u32>,
        state: AnaState,
    ) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let max = subsystem.config.max_namespaces;
        if let Some(group) = anagrpid.filter(|g| *g == 0 || *g > max) {
            return Err(NvmfError::Invalid {
                what: "anagrpid",
                why: format!("{group} is not one of 1 to {max}"),
            });
        }
        let mut inner = subsystem.inner();
        let listener = inner.listeners.iter_mut().find(|l| l.address == *address);
        let listener = listener.ok_or_else(|| NvmfError::NoListener {
            nqn: nqn.into(),
            address: address.socket,
        })?;
        match anagrpid {
            Some(group) => {
                listener.groups.insert(group, state);
            }
            None => {
                listener.ana = state;
                listener.groups.clear();
            }
        }
        Ok(())
    }

    // ---- hosts ----

    /// Allows `host` to connect.
    pub fn add_host(&self, nqn: &str, host: &str) -> Result<()> {
        if !nqn_is_valid(host) {
            return Err(NvmfError::BadNqn(host.into()));
        }
        let subsystem = self.find(nqn)?;
        if !subsystem.inner().hosts.insert(host.into()) {
            return Err(NvmfError::HostExists {
                nqn: nqn.into(),
                host: host.into(),
            });
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// No longer allows `host`, and disconnects it unless any host is allowed.
    pub async fn remove_host(&self, nqn: &str, host: &str) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let any = {
            let mut inner = subsystem.inner();
            if !inner.hosts.remove(host) {
                return Err(NvmfError::NoHost {
                    nqn: nqn.into(),
                    host: host.into(),
                });
            }
            inner.allow_any_host
        };
        if !any {
            self.disconnect(&subsystem, |c| c.hostnqn == host).await;
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// Allows every host, or only those that were added. Connected hosts stay.
    pub fn allow_any_host(&self, nqn: &str, allow: bool) -> Result<()> {
        self.find(nqn)?.inner().allow_any_host = allow;
        self.shared.discovery_changed();
        Ok(())
    }

    /// Ends the controllers `which` says and waits until they are gone, at most a few seconds.
    async fn disconnect(&self, subsystem: &Subsystem, which: impl Fn(&super::controller::Controller) -> bool) {
        for _ in 0..200 {
            let chosen: Vec<_> = subsystem
                .inner()
                .controllers
                .values()
                .filter(|c| which(c))
                .cloned()
                .collect();
            if chosen.is_empty() {
                return;
            }
            for controller in &chosen {
                let queues: Vec<_> = controller.state().queues.values().copied().collect();
                self.shared.close(queues);
            }
            // The cores do it in their own time; asking each in turn is a wait for those already told.
            self.on_all_cores(|| reactor::sleep(std::time::Duration::from_millis(10)))
                .await;
        }
    }

    // ---- what is going on ----

    /// Controllers of a subsystem.
    pub fn controllers(&self, nqn: &str) -> Result<Vec<ControllerInfo>> {
        let (controllers, cntrltype) = if nqn == DISCOVERY_NQN {
            (self.shared.state().discoverers.clone(), "discovery")
        } else {
            (self.find(nqn)?.inner().controllers.values().cloned().collect(), "io")
        };
        let info = |c: &Arc<super::controller::Controller>| ControllerInfo {
            cntlid: c.cntlid,
            cntrltype,
            hostnqn: c.hostnqn.clone(),
            hostid: Uuid::from_bytes(c.hostid),
            num_io_qpairs: c.state().queues.keys().filter(|&&qid| qid > 0).count(),
        };
        Ok(controllers.iter().map(info).collect())
    }

    /// Queue pairs of a subsystem.
    pub fn qpairs(&self, nqn: &str) -> Result<Vec<QpairInfo>> {
        let controllers: Vec<_> = self.find(nqn)?.inner().controllers.values().cloned().collect();
        let mut all = Vec::new();
        for c in controllers {
            let state = c.state();
            all.extend(state.queues.iter().map(|(&qid, queue)| QpairInfo {
                cntlid: c.cntlid,
                qid,
                state: "enabled",
                core: queue.core,
                hostnqn: c.hostnqn.clone(),
                listen_address: queue.local,
                peer_address: queue.peer,
            }));
        }
        Ok(all)
    }

    /// What each core serves and has served.
    pub async fn stats(&self) -> Vec<PollGroupStats> {
        let mut all = Vec::new();
        for core in 0..self.shared.reactors.count() {
            all.push(self.shared.reactors.call(core, || async { connection::stats() }).await);
        }
        all
    }

    // ---- discovery and target-wide settings ----

    /// Points hosts to another discovery service.
    pub fn add_referral(&self, referral: Referral) -> Result<()> {
        if !nqn_is_valid(&referral.subnqn) {
            return Err(NvmfError::BadNqn(referral.subnqn));
        }
        {
            let mut state = self.shared.state();
            let same = |r: &Referral| r.address == referral.address && r.subnqn == referral.subnqn;
            if state.referrals.iter().any(same) {
                return Err(NvmfError::ReferralExists(referral.address.socket));
            }
            state.referrals.push(referral);
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// Takes a referral back. Without an NQN it is the one to a well-known discovery service.
    pub fn remove_referral(&self, address: &ListenAddress, subnqn: Option<&str>) -> Result<()> {
        let nqn = subnqn.unwrap_or(DISCOVERY_NQN);
        {
            let mut state = self.shared.state();
            let at = state
                .referrals
                .iter()
                .position(|r| r.address == *address && r.subnqn == nqn);
            let at = at.ok_or(NvmfError::NoReferral(address.socket))?;
            state.referrals.remove(at);
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// All referrals.
    pub fn referrals(&self) -> Vec<Referral> {
        self.shared.state().referrals.clone()
    }

    /// Target-wide settings.
    pub fn config(&self) -> TargetConfig {
        self.shared.state().config.clone()
    }

    /// Changes target-wide settings.
    pub fn set_config(&self, config: TargetConfig) {
        self.shared.state().config = config;
        self.shared.discovery_changed();
    }

    /// Command retry delay times 1 to 3 in 100 ms.
    pub fn crdt(&self) -> [u16; 3] {
        self.shared.state().delays.crdt
    }

    /// Sets the command retry delay times.
    pub fn set_crdt(&self, crdt: [u16; 3]) {
        self.shared.state().delays.crdt = crdt;
    }

    /// Most subsystems.
    pub fn max_subsystems(&self) -> usize {
        self.shared.state().max_subsystems
    }

    /// Sets the most subsystems; those that exist stay.
    pub fn set_max_subsystems(&self, max: usize) -> Result<()> {
        if max == 0 {
            return Err(NvmfError::Invalid {
                what: "max_subsystems",
                why: "0 leaves no room for any".into(),
            });
        }
        self.shared.state().max_subsystems = max;
        Ok(())
    }

    // ---- the end ----

    /// Stops: listeners close, hosts are disconnected, commands in flight finish, volumes are released.
    pub async fn stop(&self) {
        let (ports, nqns): (Vec<_>, Vec<_>) = {
            let mut state = self.shared.state();
            (
                std::mem::take(&mut state.ports).into_values().collect(),
                state.subsystems.keys().cloned().collect(),
            )
        };
        for port in ports {
            port.close().await;
        }
        self.on_all_cores(connection::close_all).await;
        for nqn in nqns {
            // Its listeners are gone already; nobody else deletes it now.
            let _ = self.delete_subsystem(&nqn).await;
        }
    }

    async fn on_all_cores<F: Future<Output = ()> + 'static>(&self, f: impl Fn() -> F + Clone + Send + 'static) {
        for core in 0..self.shared.reactors.count() {
            self.shared.reactors.call(core, f.clone()).await;
        }
    }
}

fn discovery_info(ports: &BTreeMap<SocketAddr, Port>) -> SubsystemInfo {
    SubsystemInfo {
        nqn: DISCOVERY_NQN.into(),
        discovery: true,
        listen_addresses: ports.keys().map(|&socket| ListenAddress { socket }).collect(),
        allow_any_host: true,
        hosts: Vec::new(),
        serial_number: String::new(),
        model_number: String::new(),
        max_namespaces: 0,
        ana_reporting: false,
        min_cntlid: 1,
        max_cntlid: 0xffef,
        dmrsl: 0,
        wzsl: 0,
        namespaces: Vec::new(),
    }
}
