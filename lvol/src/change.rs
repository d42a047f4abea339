//! Changes: plans made and carried out by the running engine. All of it happens in the engine's line of work, so a plan sees the outcome of the one
//! before, and nobody claims a disk between its comparison and its writes.
use crate::{
    Engine, EngineError, Group, Offers, assemble,
    border::{Claim, PLAN, Runtime},
    examine, hindrance,
    lvm2::Settings,
    part,
    plan::{
        self, Disks, Facts, Failure, Medium, Plan, Refusal, Request, Stamp, Step, Undo, Write,
        carry::{self, Doing, Progress, carry_out},
        disks::kinds_among,
        journal::{Entry, Journal, State},
        refusal::Code,
        verb::{Can, Kind},
    },
    plugin::Registry,
    probe::Reading,
};
use serde::{Deserialize, Serialize};
use spec::{BlockRange, Extent};
use std::{io, path::Path, sync::Arc};

/// How often a plan that nobody has seen is made, while disks change under it.
const TRIES: u32 = 3;

/// Why a change did not happen.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeError {
    /// It is not possible.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disks are no longer as they were when the plan was made.
    #[error("the disks have changed since the plan was made, and it would be another one now; plan again")]
    Stale,
    /// It was not carried out, or not whole.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// What it stands on could not be taken away.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It could not be written down, so nothing was written.
    #[error("the plan cannot be kept: {0}; nothing was written to any disk")]
    Kept(String),
}

/// A change that has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// Its number in the journal, by which it can be taken back. Nothing without a state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What was changed, in sentences.
    pub summary: Vec<String>,
    /// What to be aware of.
    pub warnings: Vec<String>,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Its number.
    pub number: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// What became of it.
    pub state: State,
    /// What was asked for.
    pub request: Request,
    /// What it changed, in sentences.
    pub summary: Vec<String>,
}

/// The graph and what discovery made of it, as plans see it.
pub(crate) struct View<'a>(pub &'a Engine);

impl Disks for View<'_> {
    fn registry(&self) -> &Registry {
        self.0.registry()
    }

    fn names(&self) -> Vec<String> {
        let list = self.0.runtime().list();
        list.into_iter().map(|node| node.name).collect()
    }

    fn facts(&self, name: &str) -> Option<Facts> {
        let disk = self.0.brief(name)?;
        let node = disk.node?;
        let stranger = node.above.first();
        let (ours, format, volumes) = {
            let state = self.0.state();
            let known = state.known.get(&node.name)?;
            (known.claim.is_some(), known.findings.format, known.volumes.clone())
        };
        let user = match (stranger, node.pinned_by.first(), &node.claimed_by) {
            (Some(above), _, _) => Some(format!("{above:?}, which stands on it")),
            (_, Some(who), _) => Some(who.clone()),
            (_, _, Some(by)) if !ours => Some(format!("{by}, which has claimed it")),
            _ if node.opens > 0 => Some("hosts that have it open".to_owned()),
            _ => None,
        };
        // An offer that follows from a rule is taken back when nobody makes use of it.
        let runtime = self.0.runtime();
        let user = match user.is_some() && stranger.is_none() && runtime.offers(&node.name) {
            true => runtime.host(&node.name),
            false => user,
        };
        let on_volume = assemble::on_volume(self.0.registry(), &self.0.state(), &node.name);
        Some(Facts {
            name: node.name,
            uuid: node.uuid,
            blocks: node.geometry.blocks,
            block_size: node.geometry.block_size,
            physical_block_size: node.geometry.physical_block_size,
            read_only: node.geometry.read_only,
            verdict: disk.verdict,
            reason: disk.reason,
            format,
            signatures: disk.signatures,
            parts: disk.parts,
            volumes,
            partition: disk.partition,
            on_volume,
            user,
        })
    }

    fn groups(&self) -> Vec<Group> {
        self.0.groups()
    }

    fn left_alone(&self, disk: &str) -> Option<String> {
        self.0.left_alone(disk)
    }

    fn groups_called(&self, name: &str) -> Vec<Group> {
        let state = self.0.state();
        let called = state
            .groups
            .iter()
            .filter(|group| group.name == name || group.id == name);
        called.cloned().collect()
    }

    fn other_kinds(&self, object: &str) -> Vec<Kind> {
        // Without a copy of ten thousand volumes.
        kinds_among(&self.0.state().groups, object)
    }

    fn read<'a>(&'a self, name: &'a str, extent: Extent) -> Reading<'a> {
        read(self.0.runtime(), name, extent)
    }

    fn lvm2(&self) -> Settings {
        self.0.lvm2()
    }

    fn archived(&self, group: &str, seqno: u64) -> Option<Vec<u8>> {
        self.0.journal()?.archived(group, seqno)
    }

    fn archive(&self, group: &str) -> Vec<u64> {
        self.0.archive(group)
    }
}

fn read<'a>(runtime: &'a Runtime, name: &'a str, extent: Extent) -> Reading<'a> {
    Box::pin(async move {
        let count = u32::try_from(extent.count).map_err(|_| "too much at once".to_owned())?;
        let range = BlockRange::new(extent.start, count);
        runtime.read(name, range).await.map_err(|why| why.to_string())
    })
}

struct Blocks<'a>(&'a Runtime);

impl Medium for Blocks<'_> {
    fn read<'a>(&'a self, disk: &'a str, extent: Extent) -> Reading<'a> {
        read(self.0, disk, extent)
    }
    fn write<'a>(&'a self, disk: &'a str, block: u64, bytes: &'a [u8]) -> Doing<'a> {
        Box::pin(async move {
            let done = self.0.write(disk, block, bytes.to_vec()).await;
            done.map_err(|why| why.to_string())
        })
    }
    fn flush<'a>(&'a self, disk: &'a str) -> Doing<'a> {
        Box::pin(async move { self.0.flush(disk).await.map_err(|why| why.to_string()) })
    }
}

impl Engine {
    /// Keeps plans, and the texts they replace, below this folder. To be called before the first change; without it none is kept.
    pub fn keep_in(&self, state_dir: &Path) -> io::Result<()> {
        let journal = Journal::open(state_dir)?;
        // Twice is a mistake of the caller's, and the first place stays.
        let _ = self.inner.journal.set(Arc::new(journal));
        Ok(())
    }

    fn journal(&self) -> Option<&Arc<Journal>> {
        self.inner.journal.get()
    }

    /// What a request would write. Reads only.
    pub async fn plan(&self, request: &Request, stamp: &Stamp) -> Result<Plan, Refusal> {
        let _work = self.inner.work.lock().await;
        self.settle().await;
        plan::verb::plan(&View(self), request, stamp).await
    }

    /// Which verbs are possible on an object now; or whether this one is, and what its options may be. Reads only.
    pub async fn can(&self, verb: Option<&str>, object: &str) -> Result<Vec<Can>, Refusal> {
        let _work = self.inner.work.lock().await;
        self.settle().await;
        let (view, stamp) = (View(self), Stamp::now());
        if let Some(name) = verb {
            let verb = self.registry().verb(name)?;
            return Ok(vec![plan::verb::can_how(&view, verb, object, &stamp).await]);
        }
        let verbs = self.registry().verbs();
        let kinds = plan::verb::kinds(&view, object);
        let mut all = Vec::with_capacity(verbs.len());
        // One that is for objects of another kind says nothing about this one.
        for verb in verbs.into_iter().filter(|verb| kinds.contains(&verb.kind())) {
            all.push(plan::verb::can(&view, verb, object, &stamp).await);
        }
        Ok(all)
    }

    /// The partition table of a disk, in sfdisk's words. Reads only.
    pub async fn partition_table(&self, disk: &str) -> Result<part::edit::show::Shown, Refusal> {
        let _work = self.inner.work.lock().await;
        part::edit::show::table(&View(self), disk).await
    }

    /// Carries out a plan that was made before, if it would be the same today.
    pub async fn apply(&self, plan: &Plan) -> Result<Applied, ChangeError> {
        let _work = self.inner.work.lock().await;
        self.settle().await;
        let now = plan::verb::plan(&View(self), &plan.request, &plan.stamp).await?;
        match now == *plan {
            true => self.carry(&now).await,
            false => Err(ChangeError::Stale),
        }
    }

    /// Plans and carries out. An array that is taken away for it leaves its superblocks as they are at rest, which the plan did not see: it is made again then.
    pub async fn change(&self, request: &Request, stamp: &Stamp) -> Result<Applied, ChangeError> {
        let _work = self.inner.work.lock().await;
        let mut tries = 1..=TRIES;
        loop {
            self.settle().await;
            let plan = plan::verb::plan(&View(self), request, stamp).await?;
            match self.carry(&plan).await {
                Err(ChangeError::Failed(Failure::Changed { .. })) if tries.next().is_some_and(|n| n < TRIES) => (),
                done => return done,
            }
        }
    }

    /// The caller holds `work` and has just made the plan.
    async fn carry(&self, plan: &Plan) -> Result<Applied, ChangeError> {
        for name in &plan.releases {
            if self.runtime().info(name).is_some()
                && let Err(why) = self.release(name).await
            {
                // What was taken away already comes back.
                self.look_again(plan).await;
                return Err(why);
            }
        }
        let outcome = self.write(plan).await;
        self.look_again(plan).await;
        let number = outcome?;
        tracing::info!(
            plan = number,
            verb = plan.request.verb,
            object = plan.request.object,
            "{}",
            plan.summary.join(" ")
        );
        Ok(Applied {
            number,
            summary: plan.summary.clone(),
            warnings: plan.warnings.clone(),
        })
    }

    /// Takes a disk away, and what discovery made on it.
    pub(crate) async fn release(&self, name: &str) -> Result<(), ChangeError> {
        let runtime = self.runtime();
        for node in examine::tree(self, name).iter().filter(|node| runtime.offers(node)) {
            if let Some(host) = runtime.host(node) {
                return Err(Refusal::new(Code::InUse, format!("{node:?} is in use by {host}")).into());
            }
            let withdrawn = runtime.withdraw(node).await;
            withdrawn
                .map_err(|why| Refusal::new(Code::InUse, format!("{node:?} cannot be taken from its hosts: {why}")))?;
        }
        Ok(examine::remove_tree(self, name).await?)
    }

    /// Lets somebody offer volumes by rule. To be called once.
    pub fn offered_by(&self, offers: Arc<dyn Offers>) {
        self.inner.runtime.offered_by(offers);
    }

    async fn write(&self, plan: &Plan) -> Result<Option<u64>, ChangeError> {
        let _claims = self.claim(plan)?;
        let entry = self.journal().map(|journal| journal.begin(plan)).transpose();
        let entry = entry.map_err(|why| ChangeError::Kept(why.to_string()))?;
        let number = entry.as_ref().map(|entry| entry.number);
        let done = carry_out(plan, &Blocks(self.runtime())).await;
        if let (Some(journal), Some(entry)) = (self.journal(), entry) {
            let state = match &done {
                Ok(()) => Some(State::Done),
                // It stays open, and is finished as soon as its disks are well again.
                Err(Failure::Disk { written: true, .. }) if plan.intent => None,
                Err(why) => Some(State::Failed(why.to_string())),
            };
            if let Some(state) = state
                && let Err(why) = journal.end(entry, state)
            {
                tracing::warn!(plan = number, %why, "what became of a plan cannot be written down");
            }
        }
        done?;
        Ok(number)
    }

    /// Claims the disks that discovery has not claimed, so that nobody else does meanwhile.
    fn claim(&self, plan: &Plan) -> Result<Vec<Claim>, Refusal> {
        let mut claims = Vec::new();
        for name in plan.disks.keys() {
            if let Some(why) = self.left_alone(name) {
                return Err(plan::draft::left_alone(name, &why));
            }
            let ours = self.state().known.get(name).is_some_and(|known| known.claim.is_some());
            if !ours {
                let claim = self.runtime().claim(name, PLAN);
                claims.push(claim.map_err(|why| Refusal::new(Code::InUse, why.to_string()))?);
            }
        }
        Ok(claims)
    }

    /// Examines what was written to, and what lost its place.
    async fn look_again(&self, plan: &Plan) {
        self.pump();
        {
            let mut state = self.state();
            for name in plan.disks.keys() {
                if let Some(known) = state.known.get_mut(name) {
                    known.examine = true;
                    state.pending.insert(name.clone());
                }
            }
            state.reassemble = true;
        }
        self.settle().await;
        self.build_missing().await;
    }

    /// Takes back what a plan has changed, as long as nothing else has changed it since.
    pub async fn undo(&self, number: u64, stamp: &Stamp) -> Result<Applied, ChangeError> {
        let _work = self.inner.work.lock().await;
        self.settle().await;
        let journal = self.journal().cloned();
        let missing =
            || Refusal::new(Code::NotFound, format!("no plan {number} is kept")).but("`ashlar plan ls` lists them");
        let entry = journal
            .as_ref()
            .and_then(|journal| journal.entry(number).ok())
            .ok_or_else(missing)?;
        if entry.state != State::Done {
            let why = format!("plan {number} was not carried out, or was taken back already");
            return Err(Refusal::new(Code::Nothing, why).into());
        }
        let plan = match &entry.plan.undo {
            Undo::Request(request) => plan::verb::plan(&View(self), request, stamp).await?,
            Undo::No(why) => return Err(Refusal::new(Code::Unsupported, format!("plan {number} {why}")).into()),
            Undo::Bytes if entry.abridged => {
                let why = format!("plan {number} wrote too much to keep what was there before");
                return Err(Refusal::new(Code::Unsupported, why).into());
            }
            Undo::Bytes => reversed(&entry, stamp),
        };
        hindrance::check(self, &plan, number).await?;
        let applied = self.carry(&plan).await?;
        if let Some(journal) = journal {
            let kept = journal.end(entry, State::Undone);
            kept.map_err(|why| ChangeError::Kept(why.to_string()))?;
        }
        Ok(applied)
    }

    /// Plans that are kept, oldest first.
    pub fn history(&self) -> Vec<Past> {
        let entries = self.journal().map(|journal| journal.entries()).unwrap_or_default();
        let past = |entry: Entry| Past {
            number: entry.number,
            time: entry.plan.stamp.time,
            state: entry.state,
            request: entry.plan.request,
            summary: entry.plan.summary,
        };
        entries.into_iter().map(past).collect()
    }

    /// The changes of a group whose texts are archived, oldest first.
    pub fn archive(&self, group: &str) -> Vec<u64> {
        let journal = self.journal();
        journal
            .and_then(|journal| journal.archived_of(group).ok())
            .unwrap_or_default()
    }

    /// A text that was archived.
    pub fn archived(&self, group: &str, change: u64) -> Option<String> {
        let text = self.journal()?.archived(group, change)?;
        Some(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
    }

    /// A plan that is kept.
    pub fn past(&self, number: u64) -> Option<Plan> {
        self.journal()?.entry(number).ok().map(|entry| entry.plan)
    }

    /// Finishes what a crash has interrupted, as soon as the disks it needs are there. The caller holds `work` and has settled.
    pub(crate) async fn resume(&self) {
        let Some(journal) = self.journal().filter(|journal| journal.has_open()).cloned() else {
            return;
        };
        for mut entry in journal.entries() {
            if entry.state != State::Open {
                continue;
            }
            let number = entry.number;
            if !entry.plan.intent {
                // The format's own rule has decided: discovery found the old state or the new one.
                let state =
                    State::Failed("the process ended while it was carried out; what is on the disks counts".into());
                if let Err(why) = journal.end(entry, state) {
                    tracing::warn!(plan = number, %why, "what became of a plan cannot be written down");
                }
                continue;
            }
            match self.finish(&mut entry.plan).await {
                Ok(state) => {
                    tracing::info!(
                        plan = number,
                        ?state,
                        "a plan that was interrupted: {}",
                        entry.plan.summary.join(" ")
                    );
                    let plan = entry.plan.clone();
                    if let Err(why) = journal.end(entry, state) {
                        tracing::warn!(plan = number, %why, "what became of a plan cannot be written down");
                    }
                    self.look_again(&plan).await;
                }
                Err(why) => tracing::warn!(plan = number, %why, "a plan was interrupted and cannot be finished yet"),
            }
        }
    }

    /// Goes on with a plan that was begun.
    async fn finish(&self, plan: &mut Plan) -> Result<State, ChangeError> {
        // Disks may have got other names since.
        let mut names = std::collections::BTreeMap::new();
        for (name, target) in &plan.disks {
            let info = self
                .runtime()
                .info(&target.uuid.to_string())
                .or_else(|| self.runtime().info(name));
            let info = info
                .filter(|info| info.geometry.block_size == target.block_size && info.geometry.blocks >= target.blocks);
            let info = info.ok_or_else(|| EngineError::NotFound(name.clone()))?;
            if let Some(why) = self.left_alone(&info.name) {
                return Err(plan::draft::left_alone(&info.name, &why).into());
            }
            names.insert(name.clone(), info.name);
        }
        plan.disks = std::mem::take(&mut plan.disks)
            .into_iter()
            .filter_map(|(name, target)| Some((names.get(&name)?.clone(), target)))
            .collect();
        for write in plan.steps.iter_mut().flat_map(|step| &mut step.writes) {
            if let Some(now) = names.get(&write.disk) {
                write.disk = now.clone();
            }
        }
        let medium = Blocks(self.runtime());
        match carry::progress(plan, &medium).await? {
            Progress::Done => Ok(State::Done),
            Progress::Untouched => Ok(State::Failed("the process ended before anything was written".into())),
            Progress::Foreign => Ok(State::Failed(
                "somebody else has written where it was to write; what is on the disks counts".into(),
            )),
            Progress::Midway => {
                let _claims = self.claim(plan)?;
                carry::write_all(plan, &medium).await?;
                Ok(State::Done)
            }
        }
    }
}

/// What takes a plan back by its bytes: the last step first.
fn reversed(entry: &Entry, stamp: &Stamp) -> Plan {
    let back = |write: &Write| Write {
        before: write.after.clone(),
        after: write.before.clone(),
        ..write.clone()
    };
    let step = |step: &Step| Step {
        title: format!("take back: {}", step.title),
        writes: step.writes.iter().map(back).collect(),
    };
    Plan {
        request: Request::new("undo", &entry.number.to_string()),
        stamp: stamp.clone(),
        summary: entry
            .plan
            .summary
            .iter()
            .map(|line| format!("Taken back: {line}"))
            .collect(),
        warnings: Vec::new(),
        disks: entry.plan.disks.clone(),
        releases: Vec::new(),
        steps: entry.plan.steps.iter().rev().map(step).collect(),
        intent: entry.plan.intent,
        undo: Undo::No("took another one back; ask for that again instead".into()),
        archive: Vec::new(),
    }
}
