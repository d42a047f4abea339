//! Makes the running target agree with a configuration: disks, then tables, then what hosts get.
//!
//! Applying twice is harmless: what is there as wished is left alone. What cannot be had yet (a file on a disk that comes later, a partition
//! of it, a volume on that) is waited for, and [`Applied::keep`] grants it when its time has come: once. What an administrator takes away or
//! changes later stays so, until the configuration is applied anew. What is there but different is an error, for a host may be using it.
use crate::{
    disks, lower,
    names::{iqn, nqn},
    offers::Ruled,
    paths,
    schema::{self, At, Config, Listener, Node, Subsystem},
};
use bdev::{KeyError, KeySource};
use lvol::{Create, EngineError, Handle};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use target::{
    iscsi::{
        Auth, InitiatorGroup, Iscsi, IscsiError, LunMap, PgIgMap, Portal, Redirect, TargetNode,
        auth::{AuthGroup, Credential, Source},
    },
    nvmf::{
        AnaState, DupHostPolicy, HostKeys, ListenAddress, NamespaceConfig, Nvmf, NvmfError, SubsystemConfig,
        TargetConfig, TransportOptions,
    },
};
use tokio::sync::{broadcast::error::RecvError, mpsc, oneshot};

/// How often [`Applied::keep`] looks for disks that come, grow or go without telling.
const RESCAN: Duration = Duration::from_secs(5);

/// How long a change waits for what rules offer because of it, where disks do not answer.
const SETTLE: Duration = Duration::from_secs(5);

/// Why a configuration could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A disk or table.
    #[error("{kind} {name:?}: {source}")]
    Disk {
        /// "disk" or "table".
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the engine said.
        source: EngineError,
    },
    /// The key of an encrypted table.
    #[error("table {name:?}: {source}")]
    TableKey {
        /// The table.
        name: String,
        /// Why.
        source: KeyError,
    },
    /// There is one of this name already, and it is another one.
    #[error("{name:?} is there already and is something else; delete it or give this one another name")]
    Different {
        /// The name.
        name: String,
    },
    /// A volume cannot be used as a whole.
    #[error("volume {name:?}: {source}")]
    Volume {
        /// The volume.
        name: String,
        /// What the engine said.
        source: EngineError,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The iSCSI front end.
    #[error("iSCSI {what}: {source}")]
    Iscsi {
        /// Which part of it.
        what: String,
        /// What it said.
        source: IscsiError,
    },
    /// A key of NVMe hosts.
    #[error("NVMe key {name:?}: {source}")]
    Key {
        /// Its name.
        name: String,
        /// Why.
        source: target::keyring::KeyError,
    },
    /// The NVMe front end.
    #[error("NVMe {what}: {source}")]
    Nvme {
        /// Which part of it.
        what: String,
        /// What it said.
        source: NvmfError,
    },
}

/// A configuration that has been applied, as far as that was possible so far.
pub struct Applied {
    config: Config,
    state: PathBuf,
    engine: Handle,
    iscsi: Iscsi,
    nvmf: Nvmf,
    /// What is waited for, by name, with the reason.
    waiting: BTreeMap<String, String>,
    /// What was there as wished at some time. It is not looked at again.
    granted: BTreeSet<Grant>,
    /// What hosts get by rule.
    ruled: Arc<Ruled>,
    /// Who waits for the next look, and how they ask.
    waiters: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    settling: Settling,
}

/// Waits until hosts are offered what follows from a change, so that whoever asked for a volume can attach it once told that it is made.
#[derive(Debug, Clone)]
pub struct Settling(mpsc::UnboundedSender<oneshot::Sender<()>>);

impl Settling {
    /// Returns when everything that happened before this call has been looked at, or nobody looks any more. False, and told, if that takes more than 5
    /// seconds.
    pub async fn settled(&self) -> bool {
        let (done, looked) = oneshot::channel();
        let in_time = self.0.send(done).is_err() || tokio::time::timeout(SETTLE, looked).await.is_ok();
        if !in_time {
            tracing::warn!("hosts may be offered later what this change makes: looking for disks takes its time");
        }
        in_time
    }
}

/// One thing that is granted once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Grant {
    /// A disk or table, by name.
    Node(String),
    AuthGroup(u32),
    Key(String),
    PortalGroup(u32),
    Target(String),
    Lun(String, u16),
    Subsystem(String),
    Namespace(String, u32),
    /// The NQN may be the discovery subsystem's.
    Listener(String, SocketAddr),
    Mdns,
    DupHostPolicy,
}

/// Applies `config`. `state` is the state directory, see [`paths::state_dir`].
pub async fn apply(
    config: &Config,
    state: &Path,
    engine: &Handle,
    iscsi: &Iscsi,
    nvmf: &Nvmf,
) -> Result<Applied, ApplyError> {
    let (ask, waiters) = mpsc::unbounded_channel();
    let mut applied = Applied {
        config: config.clone(),
        state: state.to_owned(),
        engine: engine.clone(),
        iscsi: iscsi.clone(),
        nvmf: nvmf.clone(),
        waiting: BTreeMap::new(),
        granted: BTreeSet::new(),
        ruled: Arc::new(Ruled::new(iscsi.clone(), nvmf.clone())),
        waiters,
        settling: Settling(ask),
    };
    engine.offered_by(applied.ruled.clone());
    applied.iscsi_options()?;
    applied.again().await?;
    Ok(applied)
}

impl Applied {
    /// What is waited for: name and reason.
    pub fn waiting(&self) -> &BTreeMap<String, String> {
        &self.waiting
    }

    /// For whoever changes things while [`Applied::keep`] runs.
    pub fn settling(&self) -> Settling {
        self.settling.clone()
    }

    /// Follows what happens to disks: grants what was waited for when it can be had, offers partitions that appear. Runs until the engine ends;
    /// spawn it once. May be dropped at any time.
    pub async fn keep(mut self) {
        let mut changes = self.engine.subscribe();
        let mut waiters = Vec::new();
        loop {
            tokio::select! {
                change = changes.recv() => {
                    if let Err(RecvError::Closed) = change {
                        return;
                    }
                }
                // Never none: a sender is kept here.
                Some(waiter) = self.waiters.recv() => waiters.push(waiter),
                () = tokio::time::sleep(RESCAN) => {
                    if let Err(why) = self.engine.rescan().await {
                        tracing::warn!(%why, "disks that are missing could not be looked for");
                    }
                }
            }
            // Many things happen at once when a disk comes; one look is enough for all of them.
            while changes.try_recv().is_ok() {}
            waiters.extend(std::iter::from_fn(|| self.waiters.try_recv().ok()));
            if let Err(why) = self.again().await {
                tracing::error!(%why, "the configuration cannot be applied any more");
            }
            for waiter in waiters.drain(..) {
                // Whoever no longer waits need not hear it.
                let _ = waiter.send(());
            }
        }
    }

    /// Applies everything that is not as wished yet.
    async fn again(&mut self) -> Result<(), ApplyError> {
        let before = std::mem::take(&mut self.waiting);
        self.disks().await?;
        self.tables().await?;
        for name in self.ruled.withdrawn() {
            let (iqn, nqn) = (iqn(&name), nqn(&name));
            self.granted.retain(|grant| match grant {
                Grant::Target(target) | Grant::Lun(target, _) => *target != iqn,
                Grant::Subsystem(subsystem) | Grant::Namespace(subsystem, _) | Grant::Listener(subsystem, _) => {
                    *subsystem != nqn
                }
                _ => true,
            });
        }
        self.ruled.note(lower::ruled(&self.config, &self.engine).await?);
        let lowered = lower::lower(&self.config, &self.engine).await?;
        self.iscsi(&lowered.nodes).await?;
        self.nvme(&lowered.subsystems).await?;
        let clashes = lowered.clashes.into_iter();
        self.waiting
            .extend(clashes.map(|(volume, why)| (format!("volume {volume:?}"), why)));
        for (name, why) in self.waiting.iter().filter(|(name, _)| !before.contains_key(*name)) {
            tracing::warn!("{name} is waited for: {why}");
        }
        Ok(())
    }

    async fn disks(&mut self) -> Result<(), ApplyError> {
        let wholes: BTreeSet<String> = disks::wholes(&self.config).into_iter().map(str::to_owned).collect();
        for disk in self.config.disks.clone() {
            let wish = disks::disk(&disk, &self.state, !wholes.contains(disk.name.as_str()));
            self.wish("disk", wish).await?;
        }
        Ok(())
    }

    async fn tables(&mut self) -> Result<(), ApplyError> {
        let wholes: BTreeSet<String> = disks::wholes(&self.config).into_iter().map(str::to_owned).collect();
        // In whatever order they stand in the file: as long as one can be built, another may be able to stand on it.
        let mut left = self.config.tables.clone();
        left.retain(|table| !self.granted.contains(&Grant::Node(table.name.to_string())));
        loop {
            let mut waiting = Vec::new();
            let before = left.len();
            for table in left {
                match disks::table(&table, self.engine.graph(), !wholes.contains(table.name.as_str())) {
                    Ok(wish) => {
                        self.table_key(&table)?;
                        self.wish("table", wish).await?
                    }
                    Err(why) => waiting.push((table, why)),
                }
            }
            if waiting.len() == before {
                self.waiting.extend(
                    waiting
                        .into_iter()
                        .map(|(table, why)| (format!("table {:?}", *table.name), why)),
                );
                return Ok(());
            }
            left = waiting.into_iter().map(|(table, _)| table).collect();
        }
    }

    /// The key of an encrypted table is called after it, and is there before it is.
    fn table_key(&self, table: &schema::Table) -> Result<(), ApplyError> {
        let Some(crypt) = &table.crypt else { return Ok(()) };
        let (name, keys) = (table.name.as_str(), self.engine.graph().keys());
        let source = match &crypt.key_file {
            Some(file) => {
                let file = self.state.join(file);
                KeySource::File(std::path::absolute(&file).unwrap_or(file))
            }
            None => KeySource::Random,
        };
        let made = match (keys.info(name), &source) {
            (Some(there), _) if there.source == source => Ok(()),
            (Some(_), _) => Err(KeyError::Exists(name.to_owned())),
            (None, KeySource::File(file)) => keys.read(name, file),
            // Checked: one of them is there.
            (None, _) => keys.draw(name, crypt.random_key.as_deref().copied().unwrap_or(256)),
        };
        made.map_err(|source| ApplyError::TableKey {
            name: name.to_owned(),
            source,
        })
    }

    async fn wish(&mut self, kind: &'static str, wish: Create) -> Result<(), ApplyError> {
        let name = wish.spec.name.clone();
        let grant = Grant::Node(name.clone());
        if self.granted.contains(&grant) {
            return Ok(());
        }
        if let Some(there) = self.engine.graph().info(&name) {
            // What a file created once need not be created again.
            let same = match (&there.table, &wish.spec.table) {
                (bdev::Table::File { path: a, .. }, bdev::Table::File { path: b, .. }) => a == b,
                (a, b) => a == b,
            };
            if !same {
                return Err(ApplyError::Different { name });
            }
            self.granted.insert(grant);
            return Ok(());
        }
        match self.engine.create_or_wait(wish).await {
            Ok(Some(_)) => {
                self.granted.insert(grant);
                Ok(())
            }
            Ok(None) => {
                let why = self
                    .engine
                    .disk(&name)
                    .await?
                    .map(|disk| disk.reason)
                    .unwrap_or_default();
                self.waiting.insert(format!("{kind} {name:?}"), why);
                Ok(())
            }
            Err(source) => Err(ApplyError::Disk { kind, name, source }),
        }
    }

    /// Whether a unit on this volume was offered already. One whose volume is gone is offered again when it comes back.
    fn offered(&mut self, grant: &Grant, volume: &str) -> bool {
        if self.engine.graph().info(volume).is_none() {
            self.granted.remove(grant);
        }
        self.granted.contains(grant)
    }

    /// True if a volume is there to be offered.
    async fn ready(&mut self, volume: &str) -> Result<bool, ApplyError> {
        let Some(info) = self.engine.graph().info(volume) else {
            self.waiting.insert(
                format!("volume {volume:?}"),
                "there is no such disk or partition yet".into(),
            );
            return Ok(false);
        };
        // Offered already by another target: whole it is.
        if info.pinned_by.is_empty() {
            let taken = self.engine.take_whole(&info.name).await;
            taken.map_err(|source| ApplyError::Volume {
                name: volume.to_owned(),
                source,
            })?;
        }
        Ok(true)
    }

    // ---- iSCSI

    async fn iscsi(&mut self, nodes: &[Node]) -> Result<(), ApplyError> {
        let said = self.config.targets.iscsi.portals.is_some();
        if nodes.is_empty() && !said {
            return Ok(());
        }
        self.auth_groups()?;
        self.portals()?;
        let all = self.iscsi.target_nodes().into_iter();
        let all: BTreeMap<String, TargetNode> = all.map(|there| (there.name.clone(), there)).collect();
        for (i, node) in nodes.iter().enumerate() {
            let failed = |source| ApplyError::Iscsi {
                what: format!("target {:?}", *node.name),
                source,
            };
            let target = Grant::Target(node.name.to_string());
            let there = all.get(node.name.as_str());
            if there.is_none() && self.granted.contains(&target) {
                continue;
            }
            let unit = |lun: u16| Grant::Lun(node.name.to_string(), lun);
            let mut luns = Vec::new();
            for lun in &node.luns {
                if !self.offered(&unit(*lun.lun), &lun.volume) && self.ready(&lun.volume).await? {
                    luns.push(LunMap {
                        bdev_name: lun.volume.to_string(),
                        lun_id: *lun.lun,
                        options: lun.options.clone(),
                    });
                }
            }
            let granted: Vec<Grant> = luns.iter().map(|lun| unit(lun.lun_id)).collect();
            match there {
                Some(there) => {
                    for lun in luns
                        .iter()
                        .filter(|lun| !there.luns.iter().any(|have| have.lun_id == lun.lun_id))
                    {
                        self.iscsi
                            .add_lun(&node.name, &lun.bdev_name, Some(lun.lun_id), lun.options.clone())
                            .map_err(failed)?;
                    }
                    self.granted.insert(target);
                }
                None if luns.is_empty() => {}
                None => {
                    let wanted = TargetNode {
                        name: node.name.to_string(),
                        alias_name: node.alias.clone().unwrap_or_default(),
                        pg_ig_maps: self.maps(node, i)?,
                        luns,
                        queue_depth: self.iscsi.options().max_queue_depth,
                        auth: node.auth.as_ref().map(auth).unwrap_or_default(),
                        header_digest: false,
                        data_digest: false,
                    };
                    self.iscsi.create_target_node(&wanted).map_err(failed)?;
                    if node.explicit_alua {
                        self.iscsi.set_explicit_alua(&node.name, true).map_err(failed)?;
                    }
                    for alua in &node.alua {
                        let tag = *alua.portal_group;
                        self.iscsi
                            .set_alua_state(&node.name, tag, alua.state, Some(alua.preferred))
                            .map_err(failed)?;
                    }
                    for redirect in &node.redirect {
                        let to = Redirect {
                            to: *redirect.to,
                            permanent: redirect.permanent,
                        };
                        self.iscsi
                            .set_redirect(&node.name, *redirect.portal_group, Some(to))
                            .map_err(failed)?;
                    }
                    self.granted.insert(target);
                }
            }
            self.granted.extend(granted);
        }
        Ok(())
    }

    fn portals(&mut self) -> Result<(), ApplyError> {
        let there: BTreeSet<u32> = self.iscsi.portal_groups().iter().map(|group| group.tag).collect();
        let said = &self.config.targets.iscsi;
        let first: Vec<SocketAddr> = match &said.portals {
            Some(portals) => portals.iter().map(|p| **p).collect(),
            None => vec![SocketAddr::from(([127, 0, 0, 1], 3260))],
        };
        let rest = said
            .portal_groups
            .iter()
            .map(|g| (*g.tag, g.portals.iter().map(|p| **p).collect(), Some(g)));
        for (tag, portals, group) in [(1, first, None)].into_iter().chain(rest) {
            let grant = Grant::PortalGroup(tag);
            if there.contains(&tag) || portals.is_empty() || self.granted.contains(&grant) {
                self.granted.insert(grant);
                continue;
            }
            let portals: Vec<Portal> = portals
                .iter()
                .map(|p: &SocketAddr| Portal {
                    host: p.ip().to_string(),
                    port: p.port(),
                })
                .collect();
            let failed = |source| ApplyError::Iscsi {
                what: format!("portal group {tag}"),
                source,
            };
            // Before it listens, for a host may come at once.
            let private = group.is_some_and(|group| group.private);
            self.iscsi
                .create_portal_group(tag, &portals, private, true)
                .map_err(failed)?;
            if let Some(demand) = group.and_then(|group| group.discovery_auth.as_ref()) {
                self.iscsi.set_portal_group_auth(tag, auth(demand)).map_err(failed)?;
            }
            if let Err(source) = self.iscsi.start_portal_group(tag) {
                // It was made a moment ago; the next attempt starts anew.
                let _ = self.iscsi.delete_portal_group(tag);
                return Err(failed(source));
            }
            self.granted.insert(grant);
        }
        Ok(())
    }

    /// What concerns the whole front end. Once: what an administrator changes later stays changed.
    fn iscsi_options(&self) -> Result<(), ApplyError> {
        let said = &self.config.targets.iscsi;
        let mut options = self.iscsi.options();
        if let Some(demand) = &said.discovery_auth {
            let demand = auth(demand);
            options.disable_chap = demand.disable_chap;
            options.require_chap = demand.require_chap;
            options.mutual_chap = demand.mutual_chap;
            options.chap_group = demand.chap_group;
        }
        if let Some(list) = &said.chap_algorithms {
            options.chap_algorithms = list.to_vec();
        }
        if let Some(most) = &said.max_sessions {
            options.max_sessions = **most;
        }
        if options == self.iscsi.options() {
            return Ok(());
        }
        let failed = |source| ApplyError::Iscsi {
            what: "options".into(),
            source,
        };
        self.iscsi.set_options(options).map_err(failed)
    }

    /// Groups of secrets, each read from its file when the group is made.
    fn auth_groups(&mut self) -> Result<(), ApplyError> {
        let there: BTreeSet<u32> = self.iscsi.auth_groups().iter().map(|group| group.tag).collect();
        for group in &self.config.targets.iscsi.auth_groups {
            let grant = Grant::AuthGroup(*group.tag);
            if there.contains(&*group.tag) || self.granted.contains(&grant) {
                self.granted.insert(grant);
                continue;
            }
            let failed = |source| ApplyError::Iscsi {
                what: format!("auth group {}", *group.tag),
                source,
            };
            let user = |user: &schema::User| {
                let file = |path: &Path| Source::File(self.state.join(path));
                let mutual = user.mutual.as_ref();
                let mutual = mutual.map(|mutual| (mutual.user.to_string(), file(&mutual.secret_file)));
                Credential::read(user.user.to_string(), file(&user.secret_file), mutual)
            };
            let made = AuthGroup {
                tag: *group.tag,
                credentials: group.users.iter().map(user).collect::<Result<_, _>>().map_err(failed)?,
                of_auth_file: false,
            };
            self.iscsi.create_auth_group(made).map_err(failed)?;
            self.granted.insert(grant);
        }
        Ok(())
    }

    /// Who may come from where to a node: a group of hosts for each way in, made here. Group 1 is everybody.
    fn maps(&self, node: &Node, number: usize) -> Result<Vec<PgIgMap>, ApplyError> {
        let make = |tag: u32, initiators: Vec<String>, netmasks: Vec<String>| {
            // Everybody's group may have been made for another way in a moment ago.
            if self.iscsi.initiator_groups().iter().any(|group| group.tag == tag) {
                return Ok(tag);
            }
            let group = InitiatorGroup {
                tag,
                initiators,
                netmasks,
            };
            let failed = |source| ApplyError::Iscsi {
                what: format!("initiators of {:?}", *node.name),
                source,
            };
            self.iscsi.create_initiator_group(group).map(|()| tag).map_err(failed)
        };
        let any = || vec!["ANY".to_owned()];
        let mut maps = Vec::new();
        match &node.access {
            None => {
                for group in self.iscsi.portal_groups() {
                    maps.push(PgIgMap {
                        pg_tag: group.tag,
                        ig_tag: make(1, any(), any())?,
                    });
                }
            }
            Some(ways) => {
                for (i, way) in ways.iter().enumerate() {
                    // 1,000 ways to a node are more than anybody has, and tags have 32 bits.
                    let tag = if way.initiators == any() && way.netmasks == any() {
                        make(1, any(), any())?
                    } else {
                        make(
                            1000 * (number as u32 + 1) + i as u32,
                            way.initiators.clone(),
                            way.netmasks.clone(),
                        )?
                    };
                    maps.push(PgIgMap {
                        pg_tag: *way.portal_group,
                        ig_tag: tag,
                    });
                }
            }
        }
        Ok(maps)
    }

    // ---- NVMe

    async fn nvme(&mut self, subsystems: &[Subsystem]) -> Result<(), ApplyError> {
        let said = self.config.targets.nvme.listeners.clone();
        for key in &self.config.targets.nvme.keys {
            if self.granted.insert(Grant::Key(key.name.to_string())) && !self.nvmf.keyring().has(&key.name) {
                let file = std::path::absolute(self.state.join(&key.file));
                let file = file.unwrap_or_else(|_| self.state.join(&key.file));
                let failed = |source| ApplyError::Key {
                    name: key.name.to_string(),
                    source,
                };
                self.nvmf.keyring().add(&key.name, &file).map_err(failed)?;
            }
        }
        if subsystems.is_empty() && said.is_none() {
            return Ok(());
        }
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| ApplyError::Nvme { what, source }
        };
        if self.nvmf.transport().is_none() {
            self.nvmf
                .create_transport("TCP", TransportOptions::default())
                .map_err(failed("transport"))?;
        }
        if let Some(name) = &self.config.targets.nvme.dup_host_policy {
            let policy = DupHostPolicy::ALL
                .into_iter()
                .find(|policy| policy.name() == name.as_str());
            // Said once, so that a later call of nvmf_set_config stays. The name has been checked.
            if let Some(dup_host_policy) = policy.filter(|_| self.granted.insert(Grant::DupHostPolicy)) {
                self.nvmf.set_config(TargetConfig {
                    dup_host_policy,
                    ..self.nvmf.config()
                });
            }
        }
        let everywhere: Vec<Listener> = match said {
            Some(listeners) => listeners.iter().map(|l| **l).collect(),
            None => vec![SocketAddr::from(([127, 0, 0, 1], 4420)).into()],
        };
        self.discovery(&everywhere).await?;
        for subsystem in subsystems {
            let nqn = subsystem.nqn.as_str();
            let failed = failed(&format!("subsystem {nqn:?}"));
            let grant = Grant::Subsystem(nqn.to_owned());
            if self.nvmf.subsystem(nqn).is_err() {
                if self.granted.contains(&grant) {
                    continue;
                }
                let largest = subsystem.namespaces.iter().map(|n| *n.nsid).max().unwrap_or(1);
                let usual = SubsystemConfig::new(nqn);
                let wanted = SubsystemConfig {
                    serial_number: subsystem.serial.as_ref().map(|s| s.to_string()),
                    model_number: subsystem.model.as_ref().map(|s| s.to_string()),
                    allow_any_host: subsystem.hosts.is_none(),
                    max_namespaces: usual.max_namespaces.max(largest),
                    min_cntlid: subsystem.min_cntlid.as_ref().map_or(usual.min_cntlid, |id| **id),
                    max_cntlid: subsystem.max_cntlid.as_ref().map_or(usual.max_cntlid, |id| **id),
                    shared: subsystem.is_shared(),
                    enable_nssr: subsystem.enable_nssr,
                    ..usual
                };
                self.nvmf.create_subsystem(wanted).map_err(failed.clone())?;
                for host in subsystem.hosts.iter().flatten() {
                    let name = |key: &Option<At<String>>| key.as_ref().map(|key| key.to_string());
                    let keys = HostKeys {
                        psk: name(&host.keys.psk),
                        dhchap_key: name(&host.keys.dhchap_key),
                        dhchap_ctrlr_key: name(&host.keys.dhchap_ctrlr_key),
                    };
                    self.nvmf.add_host(nqn, &host.nqn, keys).map_err(failed.clone())?;
                }
            }
            self.granted.insert(grant);
            let there = self.nvmf.subsystem(nqn).map_err(failed.clone())?;
            for namespace in &subsystem.namespaces {
                let grant = Grant::Namespace(nqn.to_owned(), *namespace.nsid);
                if self.offered(&grant, &namespace.volume) {
                    continue;
                }
                if there.namespaces.iter().any(|have| have.nsid == *namespace.nsid) {
                    self.granted.insert(grant);
                    continue;
                }
                if !self.ready(&namespace.volume).await? {
                    continue;
                }
                let wanted = NamespaceConfig {
                    volume: namespace.volume.to_string(),
                    nsid: Some(*namespace.nsid),
                    no_auto_visible: namespace.hosts.is_some(),
                    ..NamespaceConfig::default()
                };
                let nsid = self.nvmf.add_namespace(nqn, wanted).await.map_err(failed.clone())?;
                for host in namespace.hosts.iter().flatten() {
                    let shown = self.nvmf.add_namespace_host(nqn, nsid, host).await;
                    shown.map_err(failed.clone())?;
                }
                self.granted.insert(grant);
            }
            // Last, so that a host that comes at once finds everything.
            let own: Option<Vec<Listener>> = subsystem
                .listeners
                .as_ref()
                .map(|all| all.iter().map(|l| **l).collect());
            for listener in own.as_ref().unwrap_or(&everywhere) {
                let socket = &listener.address;
                let address = ListenAddress { socket: *socket };
                let grant = Grant::Listener(nqn.to_owned(), *socket);
                if !there.listen_addresses.contains(&address) && !self.granted.contains(&grant) {
                    self.listen(nqn, address, listener.secure)
                        .await
                        .map_err(failed.clone())?;
                }
                self.granted.insert(grant);
            }
        }
        if self.config.targets.nvme.mdns && self.granted.insert(Grant::Mdns) && !self.nvmf.publishes_mdns() {
            self.nvmf.publish_mdns().map_err(failed("mdns"))?;
        }
        Ok(())
    }

    async fn listen(&self, nqn: &str, address: ListenAddress, secure: bool) -> Result<SocketAddr, NvmfError> {
        match secure {
            true => self.nvmf.add_secure_listener(nqn, address, AnaState::Optimized).await,
            false => self.nvmf.add_listener(nqn, address, AnaState::Optimized).await,
        }
    }

    /// Hosts ask the discovery subsystem what there is, at the same addresses.
    async fn discovery(&mut self, everywhere: &[Listener]) -> Result<(), ApplyError> {
        let nqn = spec::nvme::DISCOVERY_NQN;
        let there = self
            .nvmf
            .subsystem(nqn)
            .map(|info| info.listen_addresses)
            .unwrap_or_default();
        for listener in everywhere {
            let socket = &listener.address;
            let address = ListenAddress { socket: *socket };
            let grant = Grant::Listener(nqn.to_owned(), *socket);
            if !there.contains(&address) && !self.granted.contains(&grant) {
                let failed = |source| ApplyError::Nvme {
                    what: format!("listener {socket}"),
                    source,
                };
                self.listen(nqn, address, listener.secure).await.map_err(failed)?;
            }
            self.granted.insert(grant);
        }
        Ok(())
    }
}

/// What a host must prove, as the front end has it.
fn auth(said: &schema::Auth) -> Auth {
    Auth {
        disable_chap: false,
        require_chap: said.require,
        mutual_chap: said.mutual,
        chap_group: *said.group,
    }
}

/// [`apply`] with the state directory of the configuration.
pub async fn apply_here(
    config: &Config,
    engine: &Handle,
    iscsi: &Iscsi,
    nvmf: &Nvmf,
) -> Result<Applied, Box<dyn std::error::Error>> {
    let state = paths::state_dir(config)?;
    Ok(apply(config, &state, engine, iscsi, nvmf).await?)
}
