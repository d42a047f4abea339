//! Examination of one disk: judge it, then make the graph agree with the findings. Only what changed is touched, so examining again is cheap and
//! a partition in use stays in use as long as its table says so. The caller holds the engine's line of work.
use crate::{
    Engine, EngineError, Origin,
    border::{End, Look, Reads, Runtime},
    engine::Create,
    events::ChangeKind,
    format::Proposal,
    judge::{self, Findings, Verdict},
    probe::{Probe, Reading, Source},
    stack::rules::DEPTH_MAX,
};
use bdev::{GraphError, NodeInfo, NodeSpec, NodeState};
use spec::{BlockRange, Extent};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};
use uuid::Uuid;

/// A node of the graph as something to read from, of which both ends were read when it was looked up.
struct Node<'a> {
    runtime: &'a Runtime,
    name: &'a str,
    /// Each is taken once.
    ends: Mutex<Vec<End>>,
}

impl Source for Node<'_> {
    fn read(&self, extent: Extent) -> Reading<'_> {
        Box::pin(async move {
            let taken = {
                let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                let at = ends.iter().position(|(end, _)| *end == extent);
                at.map(|at| ends.swap_remove(at))
            };
            if let Some((_, bytes)) = taken {
                return bytes;
            }
            let count = u32::try_from(extent.count).map_err(|_| "too much at once".to_owned())?;
            self.runtime
                .read(self.name, BlockRange::new(extent.start, count))
                .await
                .map_err(|e| e.to_string())
        })
    }
}

/// Looks at `name` and makes of it what is found.
pub(crate) async fn examine(engine: &Engine, name: &str) {
    let left = engine.left_alone(name);
    let (may, ours, look) = {
        let state = engine.state();
        let Some(known) = state.known.get(name) else { return };
        let allowed = known.examine && left.is_none() && !state.suspects.contains(name);
        let look = match (allowed, known.claim.is_some()) {
            (false, _) => Reads::Nothing,
            (true, false) => Reads::Unused,
            (true, true) => Reads::Ours,
        };
        (known.examine, known.claim.is_some(), look)
    };
    // What it is and what is at its ends, in one go: there may be thousands.
    let Some(Look { info, ends }) = engine.runtime().look(name, look).await else {
        return;
    };
    let findings = match excuse(engine, &info, (may, ours), left) {
        Some(findings) => findings,
        None => {
            let partition = engine.state().known.get_mut(name).and_then(|known| {
                known.tasted += 1;
                known.partition.clone()
            });
            let (geometry, runtime) = (&info.geometry, engine.runtime());
            let ends = Mutex::new(ends);
            let source = Node { runtime, name, ends };
            let probe = Probe::new(name, info.uuid, geometry.blocks, geometry.block_size, &source).await;
            let findings = judge::judge(engine.registry(), probe.being(partition.as_ref())).await;
            runtime.looked();
            findings
        }
    };
    apply(engine, &info, findings).await;
}

/// Why a disk is not looked at, if so.
fn excuse(engine: &Engine, info: &NodeInfo, (may, ours): (bool, bool), left: Option<String>) -> Option<Findings> {
    let not = |reason: String| {
        Some(Findings {
            reason,
            ..Findings::default()
        })
    };
    if let NodeState::Orphan { reason } = &info.state {
        return Some(Findings {
            verdict: Verdict::Unreadable,
            reason: format!("is gone: {reason}"),
            ..Findings::default()
        });
    }
    if !may {
        return not("is used as a whole".into());
    }
    if let Some(reason) = left {
        return Some(Findings {
            verdict: Verdict::Unclaimed,
            reason,
            ..Findings::default()
        });
    }
    if engine.state().suspects.contains(&info.name) {
        return not(
            "is not looked at any more: the engine has ended twice while it was. `ashlar rpc bdev_examine` tries again"
                .into(),
        );
    }
    if let Some(above) = info.above.first() {
        return not(format!("carries {above:?}"));
    }
    if !ours {
        if let Some(by) = &info.claimed_by {
            return not(format!("is claimed by {by}"));
        }
        if let Some(by) = info.pinned_by.first() {
            return not(format!("is used by {by}"));
        }
        if info.opens > 0 {
            return not("is open".into());
        }
    }
    if depth(engine, &info.name) > DEPTH_MAX {
        return not(format!("lies more than {DEPTH_MAX} partition tables deep"));
    }
    None
}

/// How many partition tables and groups a node lies below: on the longest way down, if there are several.
fn depth(engine: &Engine, name: &str) -> usize {
    let state = engine.state();
    let mut at: BTreeSet<&str> = BTreeSet::from([name]);
    for depth in 0..=DEPTH_MAX {
        let found = at
            .iter()
            .filter_map(|name| state.known.get(*name))
            .filter(|known| known.origin.is_found());
        at = found.flat_map(|known| known.spec.table.below()).collect();
        if at.is_empty() {
            return depth;
        }
    }
    DEPTH_MAX + 1
}

async fn apply(engine: &Engine, info: &NodeInfo, mut findings: Findings) {
    let name = &info.name;
    // A member is claimed when it is known what it is a member of.
    if findings.verdict == Verdict::Claimed
        && findings.member.is_none()
        && let Some(format) = findings.format
    {
        let had = engine
            .state()
            .known
            .get(name)
            .is_some_and(|known| known.claim.is_some());
        if !had {
            match engine.runtime().claim(name, format) {
                Ok(claim) => {
                    if let Some(known) = engine.state().known.get_mut(name) {
                        known.claim = Some(claim);
                    }
                }
                Err(why) => {
                    findings.verdict = Verdict::Unclaimed;
                    findings.reason = format!("has {}, but {why}", findings.reason);
                    findings.format = None;
                    findings.nodes.clear();
                }
            }
        }
    }
    drop_unwanted(engine, info, &mut findings).await;
    let wanted = std::mem::take(&mut findings.nodes);
    let format = findings.format.unwrap_or_default();
    for node in wanted {
        let partition = node.partition.clone();
        let part = node.name.clone();
        let origin = Origin::Discovery {
            disk: name.clone(),
            format: format.to_owned(),
        };
        match place(engine, origin, info.uuid, node, &mut findings.notes).await {
            Ok(()) => {
                let mut state = engine.state();
                if let Some(known) = state.known.get_mut(&part) {
                    known.partition = partition;
                }
                if let Some(known) = state.known.get_mut(name)
                    && !known.parts.contains(&part)
                {
                    known.parts.push(part);
                }
            }
            Err(why) => findings.notes.push(format!("{part} is not served: {why}")),
        }
    }
    let changed = {
        let mut state = engine.state();
        let Some(known) = state.known.get_mut(name) else { return };
        if matches!(info.state, NodeState::Orphan { .. }) {
            // Its volumes are orphans as it is, and come back with it.
            findings.member = known.findings.member.clone();
        }
        let changed = known.findings != findings;
        let member = known.findings.member.is_some() || findings.member.is_some();
        if known.parts.is_empty() && known.volumes.is_empty() && findings.verdict != Verdict::Claimed {
            known.claim = None;
        }
        if findings.member.is_none() {
            known.standing = None;
        }
        known.findings = findings;
        state.reassemble |= member;
        changed
    };
    if changed {
        if let Some(disk) = engine.brief(name) {
            tracing::info!(disk = name, verdict = ?disk.verdict, notes = ?disk.notes, "{name} {}", disk.reason);
        }
        engine.tell(name, ChangeKind::Examined);
    }
}

/// Removes parts the findings no longer want. One that is in use stays, with a note: pulling it from under a host helps nobody. The parts of a disk
/// that is gone stay as they are, orphans, for the disk may come back.
async fn drop_unwanted(engine: &Engine, info: &NodeInfo, findings: &mut Findings) {
    if findings.verdict == Verdict::Unreadable {
        return;
    }
    let parts = engine
        .state()
        .known
        .get(&info.name)
        .map(|known| known.parts.clone())
        .unwrap_or_default();
    for part in parts {
        if findings.nodes.iter().any(|node| node.name == part) {
            continue;
        }
        if let Err(why) = remove_tree(engine, &part).await {
            findings.notes.push(match engine.left_alone(&info.name) {
                Some(reason) => format!("{} {reason}, but {part} stays because {why}", info.name),
                None => format!("the partition table no longer has {part}, but it stays because {why}"),
            });
        }
    }
}

/// Builds one part, or mends it if it is there with another table. `seed` is what its identity follows from if its own is taken.
pub(crate) async fn place(
    engine: &Engine,
    origin: Origin,
    seed: Uuid,
    node: Proposal,
    notes: &mut Vec<String>,
) -> Result<(), GraphError> {
    let runtime = engine.runtime();
    let mine = engine
        .state()
        .known
        .get(&node.name)
        .is_some_and(|known| known.origin == origin);
    if mine && let Some(there) = runtime.info(&node.name) {
        if let Some(twin) = runtime.find(&node.uuid.to_string()).filter(|twin| *twin != node.name) {
            notes.push(twin_note(&node.name, &twin));
        }
        if there.table.suits(&node.table) {
            return Ok(());
        }
        runtime.replace(&node.name, node.table.clone()).await?;
        if let Some(known) = engine.state().known.get_mut(&node.name) {
            known.spec.table = node.table;
        }
        return Ok(());
    }
    let mut uuid = node.uuid;
    if let Some(twin) = runtime.find(&uuid.to_string()) {
        // A cloned disk. Two volumes with one identity would be one volume with two paths to a host.
        notes.push(twin_note(&node.name, &twin));
        uuid = Uuid::new_v5(&seed, node.name.as_bytes());
    }
    let spec = NodeSpec {
        name: node.name,
        uuid: Some(uuid),
        aliases: node.aliases,
        table: node.table,
        product: node.product.to_owned(),
    };
    engine
        .build(Create {
            spec,
            origin,
            examine: true,
        })
        .await
}

fn twin_note(name: &str, twin: &str) -> String {
    format!("{name} has the identity of {twin}; it got another one")
}

/// `name` and every node discovery made on it, each after all it stands on.
pub(crate) fn tree(engine: &Engine, name: &str) -> Vec<String> {
    let state = engine.state();
    // How far up each lies, on the longest way: a volume may stand on the disk and on a partition of it, too.
    let mut height: BTreeMap<&str, usize> = BTreeMap::from([(name, 0)]);
    let mut todo = vec![name];
    while let Some(at) = todo.pop() {
        let above = height.get(at).map_or(1, |h| h + 1);
        let Some(known) = state.known.get(at) else { continue };
        for part in known.parts.iter().chain(&*known.volumes) {
            // Nodes do not stand on each other in a circle, so this ends.
            if height.get(part.as_str()).is_none_or(|h| *h < above) {
                height.insert(part, above);
                todo.push(part);
            }
        }
    }
    let mut all: Vec<(usize, &str)> = height.into_iter().map(|(name, h)| (h, name)).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// A node that discovery made on `name` and that somebody uses.
pub(crate) fn user_of_parts(engine: &Engine, name: &str) -> Option<String> {
    let tree = tree(engine, name);
    tree.iter().skip(1).find(|part| in_use(engine, part)).cloned()
}

/// True if somebody uses a node: not what discovery has made on it.
pub(crate) fn in_use(engine: &Engine, name: &str) -> bool {
    let Some(info) = engine.runtime().brief(name) else {
        return false;
    };
    info.opens > 0 || !info.pinned_by.is_empty() || !info.above.is_empty()
}

/// Removes `name` and what discovery made on it, if nobody uses any of it.
pub(crate) async fn remove_tree(engine: &Engine, name: &str) -> Result<(), EngineError> {
    let tree = tree(engine, name);
    if let Some(user) = tree.iter().find(|node| in_use(engine, node)) {
        return Err(GraphError::Busy {
            name: user.clone(),
            by: "somebody".into(),
        }
        .into());
    }
    for node in tree.iter().rev() {
        if let Some(known) = engine.state().known.get_mut(node) {
            known.claim = None;
        }
        engine.runtime().remove(node, None).await?;
        engine.pump();
    }
    Ok(())
}

/// Undoes what discovery made of `name`, as far as nobody uses it.
pub(crate) async fn release(engine: &Engine, name: &str) {
    let parts: Vec<String> = engine
        .state()
        .known
        .get(name)
        .map(|known| known.parts.iter().chain(&*known.volumes).cloned().collect())
        .unwrap_or_default();
    for part in parts {
        if let Err(why) = remove_tree(engine, &part).await {
            tracing::warn!(%part, %why, "it stays");
        }
    }
    let mut state = engine.state();
    state.reassemble = true;
    if let Some(known) = state.known.get_mut(name)
        && known.parts.is_empty()
        && known.volumes.is_empty()
    {
        known.claim = None;
        known.standing = None;
    }
}
