//! What every method needs: the running process, and the few facts only RPC clients care about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bdev::graph::Graph;
use bdev::{GraphError, NodeInfo};
use lvol::{ChangeKind, Create, EngineError, Handle, Origin};
use reactor::Reactors;
use serde::Deserialize;
use target::iscsi::Iscsi;
use target::nvmf::Nvmf;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::caretaker::Caretaker;
use crate::error::{Errno, RpcError, RpcResult};
use crate::kept::Kept;
use crate::log::Logs;
use crate::method::{Catalogue, Process};

/// The signals `spdk_kill_instance` can send.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub enum Signal {
    #[serde(rename = "SIGINT", alias = "INT")]
    Int,
    #[serde(rename = "SIGTERM", alias = "TERM")]
    Term,
    #[serde(rename = "SIGQUIT", alias = "QUIT")]
    Quit,
    #[serde(rename = "SIGHUP", alias = "HUP")]
    Hup,
    #[serde(rename = "SIGKILL", alias = "KILL")]
    Kill,
    #[serde(rename = "SIGUSR1", alias = "USR1")]
    Usr1,
}

/// A wish that waits for its lower disks, because its table cannot be written down before they are there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Waiting {
    /// `bdev_split_create`.
    Split(Split),
    /// `bdev_raid_create`.
    Raid(Raid),
}

/// How a disk was split.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Split {
    pub base_bdev: String,
    pub split_count: u32,
    #[serde(default)]
    pub split_size_mb: u64,
}

/// SPDK's levels, and those that it has not.
#[derive(Copy, Clone, Debug, Eq, PartialEq, serde::Deserialize)]
pub(crate) enum RaidLevel {
    #[serde(rename = "raid0", alias = "0")]
    Raid0,
    #[serde(rename = "raid1", alias = "1")]
    Raid1,
    #[serde(rename = "raid5f", alias = "5f")]
    Raid5f,
    #[serde(rename = "raid4", alias = "4")]
    Raid4,
    #[serde(rename = "raid5", alias = "5")]
    Raid5,
    #[serde(rename = "raid6", alias = "6")]
    Raid6,
    #[serde(rename = "raid10", alias = "10")]
    Raid10,
    #[serde(rename = "concat")]
    Concat,
}

impl RaidLevel {
    pub const fn name(self) -> &'static str {
        match self {
            RaidLevel::Raid0 => "raid0",
            RaidLevel::Raid1 => "raid1",
            RaidLevel::Raid5f => "raid5f",
            RaidLevel::Raid4 => "raid4",
            RaidLevel::Raid5 => "raid5",
            RaidLevel::Raid6 => "raid6",
            RaidLevel::Raid10 => "raid10",
            RaidLevel::Concat => "concat",
        }
    }
}

/// A RAID volume as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Raid {
    pub name: String,
    pub uuid: Option<uuid::Uuid>,
    pub strip_size_kb: u32,
    pub level: RaidLevel,
    pub base_bdevs: Vec<String>,
}

/// How RAID volumes are rebuilt and compared.
#[derive(Copy, Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct RaidOptions {
    /// SPDK's size of a step. Here steps are as large as hosts leave room for.
    pub process_window_size_kb: u32,
    /// Of each member; 0: no limit.
    pub process_max_bandwidth_mb_sec: u32,
}

impl Default for RaidOptions {
    fn default() -> Self {
        Self {
            process_window_size_kb: 1024,
            process_max_bandwidth_mb_sec: 0,
        }
    }
}

/// What was said about an AIO disk that its table does not hold.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct Aio {
    pub fallocate: bool,
}

/// Facts that only RPC clients care about. Everything else is read from the graph, the engine and the targets.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Splits by base disk.
    pub splits: BTreeMap<String, Split>,
    /// RAID volumes by name.
    pub raids: BTreeMap<String, Raid>,
    /// What was said of all RAID volumes.
    pub raid_options: Option<RaidOptions>,
    /// AIO disks by name.
    pub aio: BTreeMap<String, Aio>,
    /// What waits for a lower disk.
    pub waiting: Vec<Waiting>,
    /// Names that were examined by wish (`bdev_examine`).
    pub examined: Vec<String>,
    /// Numbers for disks that were given no name.
    pub unnamed: u32,
}

/// What every method needs.
pub struct Context {
    /// The reactors.
    pub reactors: Reactors,
    /// The runtime's disks.
    pub graph: Graph,
    /// Discovery, names, wishes.
    pub engine: Handle,
    /// The NVMe/TCP front end.
    pub nvmf: Nvmf,
    /// The iSCSI front end.
    pub iscsi: Iscsi,
    /// The log's settings.
    pub logs: Logs,
    /// Options that are kept and shown.
    pub kept: Kept,
    /// Where changes are written down.
    pub audit: Audit,
    /// Who looks after arrays.
    pub(crate) caretaker: Caretaker,
    /// What the process was started with: its settings, but for those that RPC changes.
    base: Mutex<config::Config>,
    /// The file that was, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The state directory, if there is one.
    state: Option<PathBuf>,
    pub(crate) iscsi_configured: AtomicBool,
    facts: Mutex<Facts>,
    catalogue: OnceLock<Catalogue>,
    started: watch::Sender<bool>,
    signal: watch::Sender<Option<Signal>>,
    scheduler_period: AtomicU64,
    granting: tokio::sync::Mutex<()>,
    settling: OnceLock<config::Settling>,
    born: Instant,
}

impl Process for Context {
    fn started(&self) -> bool {
        *self.started.borrow()
    }
    fn audit(&self) -> Option<&Audit> {
        Some(&self.audit)
    }
}

impl Context {
    /// A context in the start-up phase: only start-up methods work until [`Context::start`] or `framework_start_init`.
    pub fn new(reactors: Reactors, engine: Handle, nvmf: Nvmf, iscsi: Iscsi, logs: Logs) -> Self {
        Context {
            reactors,
            graph: engine.graph().clone(),
            engine,
            nvmf,
            iscsi,
            logs,
            kept: Kept::default(),
            audit: Audit::default(),
            caretaker: Caretaker::default(),
            base: Mutex::default(),
            file: None,
            state: None,
            iscsi_configured: AtomicBool::new(false),
            facts: Mutex::default(),
            catalogue: OnceLock::new(),
            started: watch::Sender::new(false),
            signal: watch::Sender::new(None),
            scheduler_period: AtomicU64::new(0),
            granting: tokio::sync::Mutex::new(()),
            settling: OnceLock::new(),
            born: Instant::now(),
        }
    }

    /// The same, started with this configuration.
    pub fn configured(self, base: config::Config) -> Self {
        let base = Mutex::new(base);
        Context { base, ..self }
    }

    /// The same, with what must outlive the process in this folder.
    pub fn kept_in(self, state: &Path) -> Self {
        let state = Some(state.to_owned());
        Context { state, ..self }
    }

    /// What the process was started with, and what has been taken over since.
    pub(crate) fn base(&self) -> MutexGuard<'_, config::Config> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state directory, if there is one.
    pub(crate) fn state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// The running state in the schema of the configuration file.
    pub(crate) async fn configuration(&self) -> RpcResult<config::Config> {
        let wishes = self.engine.wishes().await.map_err(engine_error)?;
        let base = self.base().clone();
        Ok(config::show(&base, &wishes, &self.graph, &self.iscsi, &self.nvmf))
    }

    /// Ends the start-up phase.
    pub fn start(&self) {
        self.started.send_replace(true);
    }

    /// Returns when the start-up phase is over.
    pub async fn wait_started(&self) {
        // The sender is ours, so the wait cannot fail.
        let _ = self.started.subscribe().wait_for(|started| *started).await;
    }

    /// Returns when a client has asked for the process to end (`spdk_kill_instance`), with the signal it named. SIGKILL does
    /// not come here: it ends the process at once.
    pub async fn killed(&self) -> Signal {
        loop {
            let mut signal = self.signal.subscribe();
            if let Ok(Some(signal)) = signal.wait_for(Option::is_some).await.map(|s| *s) {
                return signal;
            }
        }
    }

    pub(crate) fn kill(&self, signal: Signal) {
        match signal {
            // What a real SIGKILL does: no goodbye of any kind.
            Signal::Kill => std::process::abort(),
            // SPDK takes it and does nothing by itself.
            Signal::Usr1 => {}
            ends => {
                self.signal.send_replace(Some(ends));
            }
        }
    }

    pub(crate) fn set_catalogue(&self, catalogue: Catalogue) {
        // A second table over the same context keeps the first one's list.
        let _ = self.catalogue.set(catalogue);
    }

    pub(crate) fn catalogue(&self) -> Catalogue {
        self.catalogue.get().cloned().unwrap_or_default()
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scheduler_period(&self) -> u64 {
        self.scheduler_period.load(Ordering::Relaxed)
    }

    pub(crate) fn set_scheduler_period(&self, period: u64) {
        self.scheduler_period.store(period, Ordering::Relaxed);
    }

    /// Nanoseconds since the process made its context: the clock of the statistics' differences.
    pub(crate) fn ticks(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Tells hosts what happens to the disks they use, for as long as the engine lives: another size, or gone. Spawn it once.
    pub fn follow(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let (context, mut changes) = (self.clone(), self.engine.subscribe());
        async move {
            loop {
                let change = match changes.recv().await {
                    Ok(change) => change,
                    // What was missed are changes of size; hosts ask again when they meet the new end.
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                match change.kind {
                    ChangeKind::Resized { .. } => {
                        context.iscsi.lun_changed(&change.name);
                        context.nvmf.namespace_changed(&change.name).await;
                    }
                    ChangeKind::Unregistered => {
                        context.iscsi.volume_gone(&change.name);
                        context.nvmf.volume_gone(&change.name).await;
                    }
                    ChangeKind::Registered => context.grant_waiting().await,
                    _ => {}
                }
            }
        }
    }

    /// A name for a disk that was given none: "Malloc0", "Malloc1" and so on.
    pub(crate) fn unnamed(&self, kind: &str) -> String {
        loop {
            let number = {
                let mut facts = self.facts();
                facts.unnamed += 1;
                facts.unnamed - 1
            };
            let name = format!("{kind}{number}");
            if self.graph.info(&name).is_none() {
                return name;
            }
        }
    }

    // ---- disks

    /// A disk by name, alias or UUID; −19 "No such device" if there is none.
    pub(crate) fn disk(&self, name: &str) -> RpcResult<NodeInfo> {
        self.graph.info(name).ok_or_else(|| no_disk(name))
    }

    /// A disk with this product name, so that `bdev_null_delete` does not delete a malloc disk.
    pub(crate) fn disk_of(&self, name: &str, product: &str) -> RpcResult<NodeInfo> {
        let info = self.disk(name)?;
        if info.product == product {
            Ok(info)
        } else {
            Err(RpcError::errno(Errno::NoDev).because(format!("{name:?} is a {}, not a {product}", info.product)))
        }
    }

    /// Builds a disk for a client.
    pub(crate) async fn create(&self, spec: bdev::NodeSpec) -> RpcResult<NodeInfo> {
        let examine = self.auto_examine();
        let wish = Create {
            spec,
            origin: Origin::Rpc,
            examine,
        };
        let info = self.engine.create(wish).await.map_err(engine_error)?;
        self.settle().await;
        Ok(info)
    }

    /// Frees a disk of the partitions discovery made of it, for a target that is about to offer it whole: a wish counts more than a
    /// finding. Refused while one of them is in use: two hosts would write to the same blocks.
    pub(crate) async fn offer_whole(&self, volume: &str) -> RpcResult<()> {
        let disk = self.engine.disk(volume).await.map_err(engine_error)?;
        let claimed = disk.is_some_and(|disk| disk.verdict == lvol::Verdict::Claimed);
        if claimed {
            let taken = self.engine.take_whole(volume).await;
            taken.map_err(|why| RpcError::invalid().because(why.to_string()))?;
        }
        Ok(())
    }

    /// The same for a module, which may be asked for before the disk below is there.
    pub(crate) async fn create_or_wait(&self, spec: bdev::NodeSpec) -> RpcResult<()> {
        for below in spec.table.below() {
            self.check_unused(below)?;
        }
        let wish = Create {
            spec,
            origin: Origin::Rpc,
            examine: self.auto_examine(),
        };
        self.engine.create_or_wait(wish).await.map_err(engine_error)?;
        self.settle().await;
        Ok(())
    }

    fn auto_examine(&self) -> bool {
        self.kept.get("bdev_set_options")["bdev_auto_examine"] != false
    }

    /// −1 "Operation not permitted" for a disk something stands on already: SPDK's modules claim what they stand on.
    pub(crate) fn check_unused(&self, name: &str) -> RpcResult<()> {
        let Some(info) = self.graph.info(name) else {
            return Ok(());
        };
        match (info.claimed_by, info.above.first()) {
            (Some(by), _) => Err(RpcError::errno(Errno::Perm).because(format!("{name:?} is claimed by {by:?}"))),
            (None, Some(above)) => Err(RpcError::errno(Errno::Perm).because(format!("{above:?} stands on {name:?}"))),
            (None, None) => Ok(()),
        }
    }

    /// Removes a disk, and before it everything that stands on it and every namespace and unit that shows one of these: SPDK calls
    /// this hot-removal, and clients take disks away in that order.
    pub(crate) async fn delete(&self, name: &str) -> RpcResult<()> {
        let mut order = Vec::new();
        self.tops_first(&self.disk(name)?.name, &mut order);
        for name in &order {
            self.iscsi.volume_gone(name);
            self.nvmf.volume_gone(name).await;
        }
        for name in &order {
            match self.engine.delete(name, true).await {
                Ok(()) => self.forget(name),
                // A partition: it goes with its disk, which is further down the list.
                Err(EngineError::Partition { .. } | EngineError::NotFound(_)) => {}
                Err(error) => return Err(engine_error(error)),
            }
        }
        Ok(())
    }

    /// What stands on a disk, then the disk: each before what it stands on.
    fn tops_first(&self, name: &str, order: &mut Vec<String>) {
        if order.iter().any(|seen| seen == name) {
            return;
        }
        for above in self.graph.info(name).map(|info| info.above).unwrap_or_default() {
            self.tops_first(&above, order);
        }
        order.push(name.to_owned());
    }

    /// Drops the facts about a disk that is gone.
    pub(crate) fn forget(&self, name: &str) {
        let mut facts = self.facts();
        facts.aio.remove(name);
        facts.raids.remove(name);
        facts.splits.remove(name);
    }

    /// From now on a change is done when hosts are offered what follows from it by rule.
    pub fn settle_by(&self, settling: config::Settling) {
        // It is there once: a configuration is applied once.
        let _ = self.settling.set(settling);
    }

    /// Gives what follows from a change the time to follow, so that whoever asked for it finds it: what waited for a lower disk, and what hosts
    /// are offered by rule.
    pub(crate) async fn settle(&self) {
        self.grant_waiting().await;
        if let Some(settling) = self.settling.get() {
            settling.settled().await;
        }
    }

    /// Tries what waits for a lower disk again.
    async fn grant_waiting(&self) {
        let _one = self.granting.lock().await;
        let waiting = std::mem::take(&mut self.facts().waiting);
        for wish in waiting {
            let granted = match &wish {
                Waiting::Split(split) => crate::split::build(self, split).await.map(drop),
                Waiting::Raid(raid) => crate::raid::build(self, raid).await.map(drop),
            };
            match granted {
                Ok(()) => {}
                Err(error) if error.code == -(Errno::NoDev as i64) => self.facts().waiting.push(wish),
                Err(error) => tracing::warn!(?wish, %error, "what waited for a disk cannot be built on it"),
            }
        }
    }
}

/// −19 "No such device".
pub(crate) fn no_disk(name: &str) -> RpcError {
    RpcError::errno(Errno::NoDev).because(format!("there is no disk {name:?}"))
}

/// The engine's refusals as SPDK's error numbers.
pub(crate) fn engine_error(error: EngineError) -> RpcError {
    let errno = match &error {
        EngineError::Graph(graph) => return graph_error(graph),
        EngineError::NotFound(_) => Errno::NoDev,
        EngineError::Exists(_) => Errno::Exist,
        EngineError::Lost(_) => Errno::Again,
        EngineError::Claimed { .. } => Errno::Perm,
        EngineError::Partition { .. } | EngineError::Volume { .. } => Errno::Busy,
    };
    RpcError::errno(errno).because(error.to_string())
}

/// The graph's refusals as SPDK's error numbers.
pub(crate) fn graph_error(error: &GraphError) -> RpcError {
    let errno = match error {
        GraphError::NotFound(_) | GraphError::Orphan { .. } => Errno::NoDev,
        GraphError::Exists(_) => Errno::Exist,
        GraphError::Busy { .. } => Errno::Busy,
        GraphError::Claimed { .. } => Errno::Perm,
        GraphError::Invalid { .. } => Errno::Inval,
        GraphError::File { os: Some(number), .. } => return RpcError::os(*number).because(error.to_string()),
        GraphError::File { os: None, .. } => Errno::Inval,
        GraphError::Unsupported { .. } => Errno::NotSup,
        GraphError::TimedOut { .. } => Errno::TimedOut,
        _ => Errno::Io,
    };
    RpcError::errno(errno).because(error.to_string())
}
