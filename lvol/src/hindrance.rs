//! What stands in the way of taking a plan back by its bytes: disks in use that would not be the same afterwards.
//!
//! Discovery is asked twice what it makes of each disk that would be written to: as the disk is, and with the old bytes on it. A partition in use is in
//! nobody's way if both answers have it, alike in name, identity and place, and if no byte of its own is written. Whatever else stands on the
//! disk and is in use, a volume of a group above all, follows from metadata that several disks have together: it has to be given up first.
use crate::{
    Engine,
    border::Runtime,
    examine,
    format::Proposal,
    judge,
    plan::{Code, Plan, Refusal, Write},
    probe::{Probe, Reading, Source},
};
use bdev::Table;
use spec::{BlockRange, Extent};

/// A disk with the bytes on it that a plan would write.
struct After<'a> {
    runtime: &'a Runtime,
    disk: &'a str,
    block_size: u32,
    writes: Vec<&'a Write>,
}

impl Source for After<'_> {
    fn read(&self, extent: Extent) -> Reading<'_> {
        Box::pin(async move {
            let count = u32::try_from(extent.count).map_err(|_| "too much at once".to_owned())?;
            let range = BlockRange::new(extent.start, count);
            let read = self.runtime.read(self.disk, range).await;
            let mut bytes = read.map_err(|why| why.to_string())?;
            let from = extent.start * u64::from(self.block_size);
            // In the order of the steps: a later one counts.
            for write in &self.writes {
                let (start, end) = (write.offset.max(from), write.offset + write.len());
                let end = end.min(from + bytes.len() as u64);
                if start < end {
                    let with = &write.after.0[(start - write.offset) as usize..(end - write.offset) as usize];
                    bytes[(start - from) as usize..(end - from) as usize].copy_from_slice(with);
                }
            }
            Ok(bytes)
        })
    }
}

/// Refuses if somebody uses what would be another thing, or nothing, when `plan`, which takes back plan `number`, has been carried out.
pub(crate) async fn check(engine: &Engine, plan: &Plan, number: u64) -> Result<(), Refusal> {
    for disk in plan.disks.keys() {
        let used = users(engine, disk);
        if used.is_empty() {
            continue;
        }
        let writes: Vec<&Write> = plan.steps.iter().flat_map(|step| &step.writes).collect();
        let mine: Vec<&Write> = writes.into_iter().filter(|write| write.disk == *disk).collect();
        let (now, then) = (
            look(engine, disk, Vec::new()).await,
            look(engine, disk, mine.clone()).await,
        );
        for (user, part) in used {
            let at = |nodes: &[Proposal]| {
                let node = nodes.iter().find(|node| Some(&node.name) == part.as_ref());
                node.map(|node| (node.uuid, node.table.clone()))
            };
            let why = match (at(&now), at(&then)) {
                (Some(now), Some(then)) if now == then => match touches(engine, disk, &now.1, &mine) {
                    false => continue,
                    true => "and plan {number} has written to it",
                },
                (Some(_), Some(_)) => "and would be of another size, at another place or with another identity",
                (Some(_), None) => "and would be gone",
                (None, _) => "and lies on a group whose metadata would be changed",
            };
            let why = why.replace("{number}", &number.to_string());
            return Err(
                Refusal::new(Code::InUse, format!("{user:?} is in use, {why}")).but(format!(
                    "stop serving it before plan {number} is taken back; partitions that stay as they are may be in use"
                )),
            );
        }
    }
    Ok(())
}

/// What stands on a disk and is in use, with the partition of the disk that it is or lies on; without one it lies on the disk as a member of a group.
fn users(engine: &Engine, disk: &str) -> Vec<(String, Option<String>)> {
    let tree = examine::tree(engine, disk);
    let parts = engine
        .state()
        .known
        .get(disk)
        .map(|known| known.parts.clone())
        .unwrap_or_default();
    let below: Vec<(String, Vec<String>)> = parts
        .into_iter()
        .map(|part| {
            let above = examine::tree(engine, &part);
            (part, above)
        })
        .collect();
    let used = tree.iter().skip(1).filter(|node| examine::in_use(engine, node));
    used.flat_map(|node| {
        let on = below.iter().filter(|(_, above)| above.contains(node));
        let mut list: Vec<_> = on.map(|(part, _)| (node.clone(), Some(part.clone()))).collect();
        if list.is_empty() {
            list.push((node.clone(), None));
        }
        list
    })
    .collect()
}

/// What discovery makes of a disk with `writes` on it.
async fn look(engine: &Engine, disk: &str, writes: Vec<&Write>) -> Vec<Proposal> {
    let Some(info) = engine.runtime().brief(disk) else {
        return Vec::new();
    };
    let partition = engine.state().known.get(disk).and_then(|known| known.partition.clone());
    let source = After {
        runtime: engine.runtime(),
        disk,
        block_size: info.geometry.block_size,
        writes,
    };
    let probe = Probe::new(disk, info.uuid, info.geometry.blocks, info.geometry.block_size, &source).await;
    judge::judge(engine.registry(), probe.being(partition.as_ref()))
        .await
        .nodes
}

/// True if a byte of a partition is written.
fn touches(engine: &Engine, disk: &str, table: &Table, writes: &[&Write]) -> bool {
    let size = engine
        .runtime()
        .info(disk)
        .map_or(1, |info| u64::from(info.geometry.block_size.max(1)));
    let Table::Linear { segments } = table else {
        return true;
    };
    segments.iter().filter(|segment| segment.on == disk).any(|segment| {
        let own = Extent::new(segment.start * size, segment.blocks * size);
        writes
            .iter()
            .any(|write| own.overlaps(Extent::new(write.offset, write.len())))
    })
}
