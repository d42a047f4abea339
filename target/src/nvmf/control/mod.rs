//! The handle of the control plane: what the `nvmf_*` methods and the configuration are made of.
//!
//! Transport, subsystems, referrals and target-wide settings are here; `namespaces`, `listeners` and `hosts` are what a
//! subsystem has, `mdns` publishes where it is, `reports` tells what is going on.
mod hosts;
mod listeners;
mod mdns;
mod namespaces;
mod reports;

use super::{
    connection, controller::Controller, error::NvmfError, options::*, port::Port, shared::Shared, space::Spaces,
    subsystem::Subsystem,
};
use bdev::graph::Graph;
use reactor::Reactors;
use spec::nvme::{DISCOVERY_NQN, nqn_is_valid};
use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

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

    /// From now on reservations of namespaces that are added are kept below this folder if hosts ask for it.
    pub fn keep_reservations(&self, state_dir: &Path) -> std::io::Result<()> {
        self.shared.keeper.keep_in(state_dir)
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
        for (what, value) in [("kas", options.kas.into()), ("min_kato", options.min_kato)] {
            if value == 0 {
                return bad(what, "0 is no time".into());
            }
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

    // ---- sending hosts away ----

    /// Ends the controllers `which` says and waits until they are gone, at most a few seconds.
    async fn disconnect(&self, subsystem: &Subsystem, which: impl Fn(&Controller) -> bool) {
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
        let mut state = self.shared.state();
        if std::mem::replace(&mut state.max_subsystems_said, true) {
            return Err(NvmfError::Once);
        }
        state.max_subsystems = max;
        Ok(())
    }

    // ---- the end ----

    /// Stops: listeners close, hosts are disconnected, commands in flight finish, volumes are released.
    pub async fn stop(&self) {
        self.stop_mdns();
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
        enable_nssr: false,
        shared: false,
        namespaces: Vec::new(),
    }
}
