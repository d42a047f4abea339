//! Master boot records as a format, logical partitions included.
//!
//! There is no checksum, and the mark 55 AA is on every boot sector, so a record is claimed only if it has partitions and at least one of them
//! can be served. The extended partition itself is a container, not a disk, and is not shown as one.
use super::{Partition, SERVED_MAX, count, proposal};
use crate::{
    format::{Format, Mine, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::{gpt, mbr};
use uuid::Uuid;

/// The format.
pub struct Mbr;

impl Format for Mbr {
    fn name(&self) -> &'static str {
        "mbr"
    }

    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    if disk.blocks < 2 {
        return Ok(Taste::No);
    }
    let front = disk.block(0).await?;
    let Ok(master) = mbr::Record::parse(&front) else {
        return Ok(Taste::No);
    };
    if master.is_protective() {
        return Ok(Taste::No);
    }
    let mut notes = Vec::new();
    let mut reader = mbr::Reader::new(master, disk.blocks);
    while let Some(at) = reader.next() {
        match disk.block(at).await {
            Ok(block) => reader.give(&block),
            Err(why) => {
                notes.push(why.to_string());
                reader.give(&[]);
            }
        }
    }
    let table = reader.finish();
    notes.extend(table.broken.map(|why| why.to_string()));
    notes.extend(
        table
            .refused
            .iter()
            .map(|(number, why)| format!("partition {number} is not served: {why}")),
    );
    // Not read, for it is no part of an MBR.
    let second = disk
        .windows()
        .head
        .get((gpt::PRIMARY * u64::from(disk.block_size)) as usize..);
    if second.is_some_and(|block| block.starts_with(&gpt::SIGNATURE)) {
        notes.push("there is a GPT too, but the MBR does not protect it, so it is stale and the MBR counts".into());
    }
    let served = table.partitions.len();
    if served == 0 {
        return Ok(Taste::Traces(match notes.as_slice() {
            [] => "an MBR without partitions".into(),
            notes => format!("an MBR none of whose partitions can be served ({})", notes.join("; ")),
        }));
    }
    if served > SERVED_MAX {
        notes.push(format!("only the first {SERVED_MAX} of {served} partitions are served"));
    }
    let nodes = table.partitions.iter().take(SERVED_MAX).map(|(number, p)| {
        let partition = Partition::Mbr {
            disk: disk.name.to_owned(),
            number: *number,
            extent: p.extent,
            disk_id: table.disk_id,
            kind: p.kind,
            active: p.active,
        };
        proposal(
            disk,
            partition,
            Uuid::new_v5(&disk.uuid, format!("p{number}").as_bytes()),
            Vec::new(),
        )
    });
    Ok(Taste::Mine(Mine {
        what: format!("MBR with {}", count(served)),
        nodes: nodes.collect(),
        notes,
        member: None,
        covers: Vec::new(),
    }))
}
