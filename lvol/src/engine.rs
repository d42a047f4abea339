//! The engine's handle: names, wishes, discovery to a fixed point.
//!
//! The graph says what there is and what happens to it; the engine keeps beside each node who asked for it and what was found on it. All
//! changes go through one line (`work`), so a wish sees the outcome of the one before and a disk is examined by one at a time; questions
//! are answered at once from what is known. Whatever happens to a node, by a wish or by itself, comes back as an event of the graph, so nodes
//! that somebody builds past the engine appear here too.
use crate::{
    EngineError, Patience, Settings,
    activation::Desires,
    assemble,
    border::{Claim, Events, Runtime},
    events::{Change, ChangeKind, Notification, Ring},
    examine,
    group::{Group, LogicalVolume, Shared, Standing},
    judge::{Findings, Verdict},
    lvm2,
    part::Partition,
    plan::journal::Journal,
    plugin::Registry,
    scope::Scope,
    stack,
};
use bdev::{Event, Graph, GraphError, NodeInfo, NodeSpec, Table};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};
use tokio::sync::broadcast;

/// Changes a slow subscriber may leave lying before it is told that it missed some.
const BACKLOG: usize = 4096;

/// Who wants a node to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Origin {
    /// The configuration file.
    Config,
    /// A call over JSON-RPC. Part of what `save_config` saves.
    Rpc,
    /// Discovery: it is on this disk.
    Discovery {
        /// The disk that was claimed.
        disk: String,
        /// The format that claimed it.
        format: String,
    },
    /// Discovery: it is a volume of this group.
    Group {
        /// The group.
        group: String,
        /// The format that knows it.
        format: String,
    },
    /// Somebody who built it past the engine.
    Other,
}

impl Origin {
    /// True if discovery has made it, and unmakes it.
    pub fn is_found(&self) -> bool {
        matches!(self, Origin::Discovery { .. } | Origin::Group { .. })
    }
}

/// A wish for a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    /// What to build.
    pub spec: NodeSpec,
    /// Who wants it.
    pub origin: Origin,
    /// Whether discovery may look for formats on it. Not for a disk that is served whole: what is on it is its host's business.
    pub examine: bool,
}

/// Everything there is to say about a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Its name.
    pub name: String,
    /// The node, unless the disk is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeInfo>,
    /// Who wants it.
    pub origin: Origin,
    /// What discovery made of it.
    pub verdict: Verdict,
    /// Why, in one sentence that goes on from the name: "is blank".
    pub reason: String,
    /// The format that claimed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Signatures on it, in plain words.
    pub signatures: Vec<String>,
    /// What else an administrator should know.
    pub notes: Vec<String>,
    /// The nodes its format made of it; the volumes on it, if it is a member of a group.
    pub parts: Vec<String>,
    /// If it is a partition: what its table says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// If it is a volume of a group: what the group's metadata says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Shared<LogicalVolume>>,
    /// How often it was tasted since it appeared.
    pub tasted: u64,
}

/// What metadata says of a node that discovery has made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// It is a partition.
    Partition(Partition),
    /// It is a volume of a group.
    Volume(Shared<LogicalVolume>),
}

/// What the engine keeps beside a node.
pub(crate) struct Known {
    pub origin: Origin,
    pub spec: NodeSpec,
    pub examine: bool,
    pub blocks: u64,
    pub block_size: u32,
    pub findings: Findings,
    pub claim: Option<Claim>,
    pub parts: Vec<String>,
    pub partition: Option<Partition>,
    /// Volumes of groups that stand on it.
    pub volumes: Arc<BTreeSet<String>>,
    /// If it is such a volume.
    pub volume: Option<Shared<LogicalVolume>>,
    /// If it is a member of a group: what assembly makes of it.
    pub standing: Option<Standing>,
    pub tasted: u64,
}

#[derive(Default)]
pub(crate) struct State {
    pub known: BTreeMap<String, Known>,
    /// Wishes that cannot be granted yet, with the reason: the file is not there, a disk below is not there.
    pub missing: BTreeMap<String, (Create, String)>,
    /// To be examined.
    pub pending: BTreeSet<String>,
    /// What members add up to, as of the last assembly.
    pub groups: Arc<Vec<Group>>,
    /// Volumes that are not disks: their place in `groups`.
    pub inactive: BTreeMap<String, (usize, usize)>,
    /// A member has come, changed or gone since, or other settings count.
    pub reassemble: bool,
    /// The volumes that are there are those that `groups` has as active, each as it is there.
    pub agree: bool,
    /// Groups that wait for members, by their identities, and since when; those that have waited long enough stay.
    pub waiting: BTreeMap<String, Instant>,
    pub patient: BTreeSet<String>,
    /// How long that is.
    pub patience: Patience,
    /// What the administrator wants of volume groups.
    pub lvm2: lvm2::Settings,
    /// What discovery may look into.
    pub scope: Scope,
    /// Which volumes somebody has asked to run, or not to.
    pub desires: Desires,
    /// Who wanted a node that is being built, so that its event finds it.
    building: BTreeMap<String, Create>,
    /// Disks that two engines have ended over.
    pub suspects: BTreeSet<String>,
    ring: Ring,
}

pub(crate) struct Inner {
    pub runtime: Runtime,
    /// Who knows what is on disks, and what can be done to it.
    registry: Registry,
    state: Mutex<State>,
    events: Mutex<Events>,
    changes: broadcast::Sender<Change>,
    /// Held by whoever changes something. An async lock: it is held across waits.
    pub work: tokio::sync::Mutex<()>,
    /// Where plans are kept, if they are.
    pub journal: OnceLock<Arc<Journal>>,
}

/// The engine. Clones are the same engine; any control thread may hold one.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

impl Engine {
    /// An engine over `graph`, which may have nodes already. Nothing is examined before the first wish or [`watch`](Self::watch).
    pub fn new(graph: Graph) -> Self {
        Self::with(graph, Registry::default())
    }

    /// The same with other plug-ins than those that are built in.
    pub fn with(graph: Graph, registry: Registry) -> Self {
        Self::over(graph.into(), registry)
    }

    /// The same over a runtime that may be elsewhere, and in which another engine may have been at work.
    pub fn over(runtime: Runtime, registry: Registry) -> Self {
        let events = runtime.events();
        let inner = Inner {
            state: Mutex::default(),
            events: Mutex::new(events),
            changes: broadcast::Sender::new(BACKLOG),
            work: tokio::sync::Mutex::default(),
            journal: OnceLock::new(),
            registry,
            runtime,
        };
        let engine = Self { inner: Arc::new(inner) };
        engine.recall();
        engine
    }

    /// The runtime below.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// Goes on from where an engine before this one has ended.
    fn recall(&self) {
        let recalled = self.inner.runtime.recall();
        let list = self.inner.runtime.list();
        let mut state = self.state();
        state.suspects = recalled.suspects;
        state.desires = recalled.desires;
        for wish in recalled.missing {
            let why = "the engine has not looked yet".to_owned();
            state.missing.insert(wish.spec.name.clone(), (wish, why));
        }
        // As if they were being built.
        let wishes = recalled.wishes.into_iter().map(|wish| (wish.spec.name.clone(), wish));
        state.building.extend(wishes);
        drop(state);
        for node in list {
            self.appeared(node);
        }
        let mut state = self.state();
        state.building.clear();
        // What discovery made of a disk stands on it.
        let found: Vec<(String, Origin, Vec<String>)> = {
            let known = state.known.iter().filter(|(_, known)| known.origin.is_found());
            let below = |known: &Known| known.spec.table.below().into_iter().map(str::to_owned).collect();
            known
                .map(|(name, known)| (name.clone(), known.origin.clone(), below(known)))
                .collect()
        };
        for (name, origin, below) in found {
            match origin {
                Origin::Discovery { disk, .. } => {
                    if let Some(known) = state.known.get_mut(&disk) {
                        known.parts.push(name);
                    }
                }
                _ => {
                    for on in below {
                        if let Some(known) = state.known.get_mut(&on) {
                            Arc::make_mut(&mut known.volumes).insert(name.clone());
                        }
                    }
                }
            }
        }
        for (number, disk) in recalled.claims {
            let claim = self.inner.runtime.held(number);
            if let Some(known) = state.known.get_mut(&disk) {
                known.claim = Some(claim);
            }
        }
    }

    /// Who knows what is on disks, and what can be done to it.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- wishes

    /// Builds a node and, if it may be examined, everything that is found on it.
    pub async fn create(&self, wish: Create) -> Result<NodeInfo, EngineError> {
        let _work = self.inner.work.lock().await;
        let name = wish.spec.name.clone();
        self.build(wish).await?;
        // Only now: until it is there it is still waited for, also by an engine that takes the place of this one meanwhile.
        self.wait_no_more(&name);
        self.settle().await;
        self.resume().await;
        self.inner.runtime.info(&name).ok_or(EngineError::NotFound(name))
    }

    /// Like [`create`](Self::create), but a disk that is not there yet is waited for: `None` means that it will be built by a later
    /// [`rescan`](Self::rescan), or as soon as the nodes it stands on appear. Until then it is shown as missing.
    pub async fn create_or_wait(&self, wish: Create) -> Result<Option<NodeInfo>, EngineError> {
        match self.create(wish.clone()).await {
            Ok(info) => Ok(Some(info)),
            Err(EngineError::Graph(why)) if may_come(&wish, &why) => {
                self.inner.runtime.wait_for(wish.clone());
                let (name, reason) = (wish.spec.name.clone(), why.to_string());
                let before = self.state().missing.insert(name.clone(), (wish, reason));
                if before.is_none() {
                    tracing::warn!(disk = name, %why, "disk is missing; waiting for it");
                }
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    pub(crate) async fn build(&self, wish: Create) -> Result<(), GraphError> {
        let name = wish.spec.name.clone();
        if !wish.origin.is_found() {
            let runtime = &self.inner.runtime;
            let look = |on: &str| runtime.brief(on).map(|info| (info.table, info.geometry.blocks));
            let distinct = stack::distinct(&wish.spec.table, &look);
            distinct.map_err(|reason| GraphError::Invalid {
                name: name.clone(),
                reason,
            })?;
        }
        self.state().building.insert(name.clone(), wish.clone());
        let under = match &wish.origin {
            Origin::Discovery { format, .. } | Origin::Group { format, .. } => Some(format.clone()),
            _ => None,
        };
        let built = self.inner.runtime.build(wish, under.as_deref()).await;
        self.pump();
        self.state().building.remove(&name);
        built
    }

    /// A node is no longer waited for.
    fn wait_no_more(&self, name: &str) -> bool {
        let was = self.state().missing.remove(name).is_some();
        if was {
            self.inner.runtime.wait_no_more(name);
        }
        was
    }

    /// Removes a node and what discovery made of it. A partition cannot be removed this way, nor a node somebody else stands on. With
    /// `force` hosts that have it open see errors from now on; without it they keep it here.
    pub async fn delete(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let _work = self.inner.work.lock().await;
        let name = match self.inner.runtime.info(name) {
            Some(info) => info.name,
            None if self.wait_no_more(name) => return Ok(()),
            None => return Err(EngineError::NotFound(name.to_owned())),
        };
        match self.state().known.get(&name).map(|k| k.origin.clone()) {
            Some(Origin::Discovery { disk, .. }) => return Err(EngineError::Partition { name, disk }),
            Some(Origin::Group { group, .. }) => return Err(EngineError::Volume { name, group }),
            _ => {}
        }
        let tree = examine::tree(self, &name);
        // All or nothing: look for users before anything goes.
        for node in &tree {
            let Some(info) = self.inner.runtime.brief(node) else {
                continue;
            };
            let by = match (info.above.first(), info.pinned_by.first()) {
                (Some(stranger), _) => format!("{stranger:?}, which stands on it"),
                (None, Some(who)) if !force => who.clone(),
                (None, None) if info.opens > 0 && !force => "hosts that have it open".to_owned(),
                _ => continue,
            };
            return Err(GraphError::Busy { name: node.clone(), by }.into());
        }
        for node in tree.iter().rev() {
            if let Some(known) = self.state().known.get_mut(node) {
                known.claim = None;
            }
            self.inner
                .runtime
                .remove(node, force.then_some("it was deleted"))
                .await?;
        }
        self.settle().await;
        Ok(())
    }

    /// Gives a disk another length (memory, null), or looks how long it is now (files).
    pub async fn resize(&self, name: &str, blocks: u64) -> Result<(), EngineError> {
        let _work = self.inner.work.lock().await;
        self.inner.runtime.resize(name, blocks).await?;
        self.settle().await;
        Ok(())
    }

    /// Makes a disk free to be used as a whole: what discovery made of it goes, and it is not examined again. For whoever serves a disk to a
    /// host or builds on it: explicit wishes count more than findings. Refused while one of its partitions is in use.
    pub async fn take_whole(&self, name: &str) -> Result<NodeInfo, EngineError> {
        let _work = self.inner.work.lock().await;
        let info = self
            .inner
            .runtime
            .info(name)
            .ok_or_else(|| EngineError::NotFound(name.to_owned()))?;
        self.pump();
        if let Some(user) = examine::user_of_parts(self, &info.name) {
            let member = self
                .state()
                .known
                .get(&info.name)
                .is_some_and(|known| !known.volumes.is_empty());
            return Err(match member {
                true => EngineError::Claimed {
                    name: info.name,
                    what: format!("a member of a volume group, and {user:?} is in use"),
                    way_out: "stop using the volumes on it first, or use those".into(),
                },
                false => EngineError::Claimed {
                    name: info.name,
                    what: format!("partitioned, and {user:?} is in use"),
                    way_out: "stop using its partitions first, or use those".into(),
                },
            });
        }
        examine::release(self, &info.name).await;
        if let Some(known) = self.state().known.get_mut(&info.name) {
            known.examine = false;
            known.findings = Findings {
                reason: "is used as a whole".into(),
                ..Findings::default()
            };
        }
        self.remember(&info.name);
        self.settle().await;
        self.inner
            .runtime
            .info(&info.name)
            .ok_or(EngineError::NotFound(info.name))
    }

    /// What is known of a node's wish outlives the engine.
    pub(crate) fn remember(&self, name: &str) {
        let wish = self.state().known.get(name).map(|known| Create {
            spec: known.spec.clone(),
            origin: known.origin.clone(),
            examine: known.examine,
        });
        if let Some(wish) = wish {
            self.inner.runtime.remember(wish);
        }
    }

    // ---- discovery

    /// Looks at a disk (again), allowed or not so far, and at everything that comes of it.
    pub async fn examine(&self, name: &str) -> Result<DiskInfo, EngineError> {
        let _work = self.inner.work.lock().await;
        self.pump();
        let info = self
            .inner
            .runtime
            .info(name)
            .ok_or_else(|| EngineError::NotFound(name.to_owned()))?;
        {
            let mut state = self.state();
            if let Some(known) = state.known.get_mut(&info.name) {
                known.examine = true;
            }
            state.suspects.remove(&info.name);
            state.pending.insert(info.name.clone());
        }
        self.remember(&info.name);
        self.settle().await;
        self.disk(&info.name).ok_or(EngineError::NotFound(info.name))
    }

    /// Returns when nothing is left to examine.
    pub async fn wait_for_examine(&self) {
        let _work = self.inner.work.lock().await;
        self.settle().await;
    }

    /// The same engine, with what the administrator wants of volume groups. For before it has seen any.
    pub fn with_lvm2(self, settings: lvm2::Settings) -> Self {
        self.state().lvm2 = settings;
        self
    }

    /// From now on this is what the administrator wants of volume groups; groups are put together anew if it is something else.
    pub async fn set_lvm2(&self, settings: lvm2::Settings) {
        let _work = self.inner.work.lock().await;
        let changed = {
            let mut state = self.state();
            let changed = state.lvm2 != settings;
            state.reassemble |= changed;
            state.lvm2 = settings;
            changed
        };
        if changed {
            self.settle().await;
        }
    }

    /// The same engine, looking into these disks only. For before it has seen any.
    pub fn with_scope(self, scope: Scope) -> Self {
        self.state().scope = scope;
        self
    }

    /// From now on these are the disks to look into: those of which that is news are looked at, or let go of as far as nobody uses what is on them.
    pub async fn set_scope(&self, scope: Scope) {
        let _work = self.inner.work.lock().await;
        self.pump();
        {
            let mut guard = self.state();
            let state = &mut *guard;
            let before = std::mem::replace(&mut state.scope, scope);
            for (name, known) in &state.known {
                let found = known.origin.is_found();
                if before.leaves(&known.spec, found) != state.scope.leaves(&known.spec, found) {
                    state.pending.insert(name.clone());
                }
            }
        }
        self.settle().await;
        self.resume().await;
    }

    /// Why a disk is not to be looked into, in a sentence that goes on from its name.
    pub(crate) fn left_alone(&self, name: &str) -> Option<String> {
        let state = self.state();
        let known = state.known.get(name)?;
        state.scope.leaves(&known.spec, known.origin.is_found())
    }

    /// The same engine, in which groups wait so long for members. For before it has seen any.
    pub fn with_patience(self, patience: Patience) -> Self {
        self.state().patience = patience;
        self
    }

    /// From now on this is what the administrator wants. What is logged is the business of whoever has the log.
    pub async fn adopt(&self, settings: Settings) {
        // Those that wait are looked at whenever disks are.
        self.state().patience = settings.patience;
        self.set_lvm2(settings.lvm2).await;
        self.set_scope(settings.discovery).await;
    }

    /// What the administrator wants of volume groups.
    pub fn lvm2(&self) -> lvm2::Settings {
        self.state().lvm2.clone()
    }

    /// Tries again to build what is missing, and examines what has changed meanwhile. Cheap when nothing has.
    pub async fn rescan(&self) {
        let _work = self.inner.work.lock().await;
        self.inner.runtime.rescan_all().await;
        self.lose_patience();
        self.settle().await;
        self.build_missing().await;
        self.resume().await;
    }

    /// Groups that have waited long enough are used without the members that have not come.
    fn lose_patience(&self) {
        let mut state = self.state();
        let over = |group: &&Group| {
            let since = state.waiting.get(&group.id);
            since.is_some_and(|since| since.elapsed() >= state.patience.of_group(group))
        };
        let over: Vec<String> = state.groups.iter().filter(over).map(|group| group.id.clone()).collect();
        if !over.is_empty() {
            state.waiting.retain(|id, _| !over.contains(id));
            state.patient.extend(over);
            state.reassemble = true
        }
    }

    pub(crate) async fn build_missing(&self) {
        // One that is built may be what another waits for.
        loop {
            let waiting: Vec<Create> = self.state().missing.values().map(|(wish, _)| wish.clone()).collect();
            let mut built = false;
            for wish in waiting {
                let name = wish.spec.name.clone();
                match self.build(wish).await {
                    Ok(()) => {
                        tracing::info!(disk = name, "a missing disk has come");
                        self.wait_no_more(&name);
                        built = true;
                    }
                    Err(why) => {
                        if let Some((_, reason)) = self.state().missing.get_mut(&name) {
                            *reason = why.to_string();
                        }
                    }
                }
            }
            self.settle().await;
            if !built {
                return;
            }
        }
    }

    /// Follows what happens to disks by itself, for as long as the engine lives: grown, vanished and new ones. Spawn it once.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        let (weak, mut wake) = (Arc::downgrade(&self.inner), self.inner.runtime.events());
        async move {
            // This subscription only wakes; what happened is read from the engine's own, in order with its wishes.
            while wake.recv().await.is_some() {
                while wake.try_recv().is_some() {}
                let Some(inner) = weak.upgrade() else { return };
                let engine = Engine { inner };
                let _work = engine.inner.work.lock().await;
                engine.settle().await;
                if !engine.state().missing.is_empty() {
                    engine.build_missing().await;
                }
                engine.resume().await;
            }
        }
    }

    /// Examines until nothing is pending: the fixed point. The caller holds `work`.
    pub(crate) async fn settle(&self) {
        self.pump();
        loop {
            let next = self.state().pending.pop_first();
            match next {
                Some(name) => examine::examine(self, &name).await,
                // Members first: with all of them known, each group is put together once.
                None if std::mem::take(&mut self.state().reassemble) => assemble::assemble(self).await,
                None => return,
            }
            self.pump();
        }
    }

    // ---- what happens

    /// Takes note of everything that has happened.
    pub(crate) fn pump(&self) {
        // One at a time, so that changes are told in order.
        let mut events = self.inner.events.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(event) = events.try_recv() {
            match event {
                Event::Added { name } => {
                    if let Some(node) = self.inner.runtime.fresh(&name) {
                        self.appeared(node);
                    }
                }
                Event::Removed { name } => self.vanished(&name),
                Event::Resized { name, blocks } => self.resized(&name, blocks),
                Event::Orphaned { name, reason } if self.state().known.contains_key(&name) => {
                    self.state().pending.insert(name.clone());
                    self.tell(&name, ChangeKind::Orphaned { reason });
                }
                Event::Restored { name } | Event::Replaced { name } => {
                    self.state().pending.insert(name);
                }
                // What its members say has changed.
                Event::Rearranged { name, whole } => {
                    self.tell(&name, ChangeKind::Rearranged { whole });
                    let mut state = self.state();
                    let below = state.known.get(&name).map(|known| known.spec.table.clone());
                    let below = below.iter().flat_map(|table| table.below()).map(str::to_owned);
                    state.pending.extend(below);
                }
                Event::Missed { .. } => self.resync(),
                _ => {}
            }
        }
    }

    /// Compares everything with the graph, when events were lost or there were none yet.
    fn resync(&self) {
        let list = self.inner.runtime.list();
        let gone: Vec<String> = {
            let state = self.state();
            state
                .known
                .keys()
                .filter(|name| !list.iter().any(|node| node.name == **name))
                .cloned()
                .collect()
        };
        gone.iter().for_each(|name| self.vanished(name));
        for node in list {
            match self.state().known.contains_key(&node.name) {
                true => self.resized(&node.name, node.geometry.blocks),
                false => self.appeared(node),
            }
        }
    }

    fn appeared(&self, info: NodeInfo) {
        let name = info.name.as_str();
        let mut state = self.state();
        if state.known.contains_key(name) {
            return;
        }
        let wish = state.building.get(name).cloned().unwrap_or_else(|| Create {
            spec: NodeSpec {
                name: info.name.clone(),
                uuid: Some(info.uuid),
                aliases: info.aliases.clone(),
                table: info.table.clone(),
                product: info.product.clone(),
            },
            origin: Origin::Other,
            examine: true,
        });
        let findings = Findings {
            reason: "has not been examined".into(),
            ..Findings::default()
        };
        let known = Known {
            origin: wish.origin,
            spec: wish.spec,
            examine: wish.examine,
            blocks: info.geometry.blocks,
            block_size: info.geometry.block_size,
            findings,
            claim: None,
            parts: Vec::new(),
            partition: None,
            volumes: Arc::default(),
            volume: None,
            standing: None,
            tasted: 0,
        };
        state.known.insert(name.to_owned(), known);
        state.pending.insert(name.to_owned());
        drop(state);
        self.tell(name, ChangeKind::Registered);
    }

    fn vanished(&self, name: &str) {
        let gone = {
            let mut state = self.state();
            state.pending.remove(name);
            let gone = state.known.remove(name);
            // Who carries it is what it stands on; looking through everything would cost the square of that.
            let below: Vec<String> = match &gone {
                Some(known) => known.spec.table.below().into_iter().map(str::to_owned).collect(),
                None => Vec::new(),
            };
            for on in below {
                if let Some(known) = state.known.get_mut(&on) {
                    known.parts.retain(|part| part != name);
                    Arc::make_mut(&mut known.volumes).remove(name);
                }
            }
            // What an array kept by itself was written after its members were looked at.
            if let Some(table @ Table::Raid { .. }) = gone.as_ref().map(|known| &known.spec.table) {
                let below: Vec<String> = table.below().into_iter().map(str::to_owned).collect();
                let known = |name: &String| state.known.contains_key(name);
                let again: Vec<String> = below.into_iter().filter(known).collect();
                state.pending.extend(again)
            }
            let volume = gone.as_ref().is_some_and(|known| known.volume.is_some());
            if volume || gone.as_ref().is_some_and(|known| known.findings.member.is_some()) {
                state.reassemble = true;
            }
            state.agree &= !volume;
            gone
        };
        if gone.is_some() {
            self.tell(name, ChangeKind::Unregistered);
        }
    }

    fn resized(&self, name: &str, blocks: u64) {
        let changed = {
            let mut state = self.state();
            match state.known.get_mut(name) {
                Some(known) if known.blocks != blocks => {
                    known.blocks = blocks;
                    state.pending.insert(name.to_owned());
                    true
                }
                _ => false,
            }
        };
        if changed {
            self.tell(name, ChangeKind::Resized { blocks });
        }
    }

    pub(crate) fn tell(&self, name: &str, kind: ChangeKind) {
        let change = Change {
            name: name.to_owned(),
            kind,
        };
        self.state().ring.push(&change);
        // Nobody may be listening.
        let _ = self.inner.changes.send(change);
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// At most `max` notifications from `id` on, oldest first, of the last [`KEPT`](crate::events::KEPT).
    pub fn notifications(&self, id: u64, max: usize) -> Vec<Notification> {
        self.pump();
        self.state().ring.since(id, max)
    }
}

/// True if time may heal it: a file or a lower disk that is not there.
fn may_come(wish: &Create, why: &GraphError) -> bool {
    match why {
        GraphError::File { .. } => true,
        GraphError::NotFound(name) => *name != wish.spec.name,
        _ => false,
    }
}
