//! Examination of one disk: judge it, then make the graph agree with the findings. Only what changed is touched, so examining again is cheap and
//! a partition in use stays in use as long as its table says so. The caller holds the engine's line of work.
use crate::{
    Engine, EngineError, Origin,
    engine::Create,
    events::ChangeKind,
    format::Proposal,
    judge::{self, Findings, Verdict},
    probe::{Probe, Reading, Source},
};
use bdev::{Graph, GraphError, NodeInfo, NodeSpec, NodeState};
use spec::{BlockRange, Extent};
use uuid::Uuid;

/// Partitions in partitions in …: how deep we go. Nobody who means well nests deeper.
const DEPTH_MAX: usize = 8;

/// A node of the graph as something to read from.
struct Node<'a> {
    graph: &'a Graph,
    name: &'a str,
}

impl Source for Node<'_> {
    fn read(&self, extent: Extent) -> Reading<'_> {
        Box::pin(async move {
            let count = u32::try_from(extent.count).map_err(|_| "too much at once".to_owned())?;
            self.graph
                .read(self.name, BlockRange::new(extent.start, count))
                .await
                .map_err(|e| e.to_string())
        })
    }
}

/// Looks at `name` and makes of it what is found.
pub(crate) async fn examine(engine: &Engine, name: &str) {
    let Some(info) = engine.graph().info(name) else { return };
    let (may, parts, ours) = {
        let state = engine.state();
        let Some(known) = state.known.get(name) else { return };
        (known.examine, known.parts.clone(), known.claim.is_some())
    };
    let findings = match excuse(engine, &info, may, &parts, ours) {
        Some(findings) => findings,
        None => {
            if let Some(known) = engine.state().known.get_mut(name) {
                known.tasted += 1;
            }
            let (geometry, graph) = (&info.geometry, engine.graph());
            let source = Node { graph, name };
            let probe = Probe::new(name, info.uuid, geometry.blocks, geometry.block_size, &source).await;
            judge::judge(probe).await
        }
    };
    apply(engine, &info, findings).await;
}

/// Why a disk is not looked at, if so.
fn excuse(engine: &Engine, info: &NodeInfo, may: bool, parts: &[String], ours: bool) -> Option<Findings> {
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
    if let Some(above) = info.above.iter().find(|above| !parts.contains(above)) {
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

/// How many partition tables a node lies below.
fn depth(engine: &Engine, name: &str) -> usize {
    let state = engine.state();
    let mut at = name.to_owned();
    for depth in 0..=DEPTH_MAX + 1 {
        match state.known.get(&at).map(|known| &known.origin) {
            Some(Origin::Discovery { disk, .. }) => at = disk.clone(),
            _ => return depth,
        }
    }
    DEPTH_MAX + 1
}

async fn apply(engine: &Engine, info: &NodeInfo, mut findings: Findings) {
    let name = &info.name;
    if findings.verdict == Verdict::Claimed
        && let Some(format) = findings.format
    {
        let had = engine
            .state()
            .known
            .get(name)
            .is_some_and(|known| known.claim.is_some());
        if !had {
            match engine.graph().claim(name, format) {
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
        match place(engine, info, node, format, &mut findings.notes).await {
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
        let changed = known.findings != findings;
        if known.parts.is_empty() && findings.verdict != Verdict::Claimed {
            known.claim = None;
        }
        known.findings = findings;
        changed
    };
    if changed {
        if let Some(disk) = engine.disk(name) {
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
            findings.notes.push(format!(
                "the partition table no longer has {part}, but it stays because {why}"
            ));
        }
    }
}

/// Builds one part, or mends it if it is there with another table.
async fn place(
    engine: &Engine,
    disk: &NodeInfo,
    node: Proposal,
    format: &str,
    notes: &mut Vec<String>,
) -> Result<(), GraphError> {
    let graph = engine.graph();
    let origin = Origin::Discovery {
        disk: disk.name.clone(),
        format: format.to_owned(),
    };
    let mine = engine
        .state()
        .known
        .get(&node.name)
        .is_some_and(|known| known.origin == origin);
    if let Some(there) = graph.info(&node.name)
        && mine
    {
        if there.table == node.table {
            return Ok(());
        }
        graph.replace(&node.name, node.table.clone()).await?;
        if let Some(known) = engine.state().known.get_mut(&node.name) {
            known.spec.table = node.table;
        }
        return Ok(());
    }
    let mut uuid = node.uuid;
    if let Some(twin) = graph.info(&uuid.to_string()) {
        // A cloned disk. Two volumes with one identity would be one volume with two paths to a host.
        notes.push(format!(
            "{} has the identity of {}; it got another one",
            node.name, twin.name
        ));
        uuid = Uuid::new_v5(&disk.uuid, node.name.as_bytes());
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

/// `name` and every node discovery made on it, lower ones first.
pub(crate) fn tree(engine: &Engine, name: &str) -> Vec<String> {
    let state = engine.state();
    let mut all = vec![name.to_owned()];
    let mut at = 0;
    while at < all.len() {
        if let Some(known) = state.known.get(&all[at]) {
            let more: Vec<String> = known.parts.iter().filter(|part| !all.contains(part)).cloned().collect();
            all.extend(more);
        }
        at += 1;
    }
    all
}

/// A node that discovery made on `name` and that somebody uses.
pub(crate) fn user_of_parts(engine: &Engine, name: &str) -> Option<String> {
    let tree = tree(engine, name);
    tree.iter().skip(1).find(|part| in_use(engine, part, &tree)).cloned()
}

fn in_use(engine: &Engine, name: &str, tree: &[String]) -> bool {
    let Some(info) = engine.graph().info(name) else {
        return false;
    };
    info.opens > 0 || !info.pinned_by.is_empty() || info.above.iter().any(|above| !tree.contains(above))
}

/// Removes `name` and what discovery made on it, if nobody uses any of it.
async fn remove_tree(engine: &Engine, name: &str) -> Result<(), EngineError> {
    let tree = tree(engine, name);
    if let Some(user) = tree.iter().find(|node| in_use(engine, node, &tree)) {
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
        engine.graph().remove(node).await?;
        engine.pump();
    }
    Ok(())
}

/// Undoes what discovery made of `name`, as far as nobody uses it.
pub(crate) async fn release(engine: &Engine, name: &str) {
    let parts = engine
        .state()
        .known
        .get(name)
        .map(|known| known.parts.clone())
        .unwrap_or_default();
    for part in parts {
        if let Err(why) = remove_tree(engine, &part).await {
            tracing::warn!(%part, %why, "partition stays");
        }
    }
    let mut state = engine.state();
    if let Some(known) = state.known.get_mut(name)
        && known.parts.is_empty()
    {
        known.claim = None;
    }
}
