//! GUID partition tables as a format: which copy counts, and what the MBR in front has to say about it.
//!
//! Rules, in this order (they follow Linux' `block/partitions/efi.c` and libblkid except where it says so):
//! 1. The primary counts if it passes every check; else the backup in the last block, with a note.
//! 2. An MBR with a 0xEE entry protects the GPT. Other entries beside it (a hybrid) are for old firmware and are ignored, with a note.
//! 3. An MBR with partitions and without 0xEE means that somebody has partitioned the disk again with a tool that knows no GPT: the
//!    GPT is stale and the MBR counts.
//! 4. Block 0 without any partition (wiped, or boot code only): the GPT counts, with a note. Linux would not look; with both checksums right
//!    there is nothing it could be mistaken for.
use super::{Partition, SERVED_MAX, count, proposal};
use crate::{
    format::{Format, Mine, Taste, Tasting},
    probe::{Probe, ReadError},
};
use spec::{
    gpt::{self, Header, PRIMARY, Table},
    mbr,
};
use uuid::Uuid;

/// The format.
pub struct Gpt;

impl Format for Gpt {
    fn name(&self) -> &'static str {
        "gpt"
    }

    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        Box::pin(taste(disk))
    }
}

/// Why a copy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Table(#[from] gpt::Error),
}

impl Problem {
    /// True if there is simply nothing, as opposed to something broken.
    fn is_absence(&self) -> bool {
        matches!(self, Problem::Table(gpt::Error::Signature))
    }
}

async fn load(disk: &Probe<'_>, at: u64) -> Result<Table, Problem> {
    let header = Header::parse(&disk.block(at).await?, at, disk.blocks)?;
    let array = disk.read(header.array()).await?;
    Ok(Table::parse(header, &array)?)
}

async fn taste(disk: &Probe<'_>) -> Result<Taste, ReadError> {
    if disk.blocks < 4 {
        return Ok(Taste::No);
    }
    let last = disk.blocks - 1;
    let front = disk.block(0).await?;
    let record = mbr::Record::parse(&front).ok();
    let primary = load(disk, PRIMARY).await;
    // The primary knows where its backup is; without one the last block is the place.
    let backup_at = primary.as_ref().map_or(last, |table| table.header.alternate());
    let backup = load(disk, backup_at).await;

    let mut notes = Vec::new();
    let table = match (primary, backup) {
        (Err(first), Err(second)) => return Ok(neither(disk, record.as_ref(), &first, &second)),
        (Ok(table), backup) => {
            match backup {
                Ok(other) if table.header.agrees_with(&other.header) => {}
                Ok(_) => notes.push("primary and backup GPT differ; the primary counts".into()),
                Err(why) => notes.push(format!("the backup GPT at block {backup_at} is unusable: {why}")),
            }
            if backup_at < last {
                let more = last - backup_at;
                notes.push(format!(
                    "the backup GPT is not at the end: the disk has {more} blocks more than when it was partitioned"
                ));
            }
            table
        }
        (Err(why), Ok(table)) => {
            notes.push(format!(
                "the primary GPT is unusable ({why}); the backup at block {last} counts"
            ));
            table
        }
    };
    match &record {
        Some(record) if record.is_hybrid() => {
            notes.push("the MBR is a hybrid; its own partitions are ignored".into());
        }
        Some(record) if record.is_protective() => {}
        // Rule 3; the MBR format says why when it claims the disk.
        Some(record) if record.entries().next().is_some() => return Ok(Taste::No),
        Some(_) => notes.push("the MBR does not protect the GPT".into()),
        None if front.iter().all(|&b| b == 0) => notes.push("the protective MBR is missing".into()),
        None => {
            return Ok(Taste::Traces(
                "a GPT, but block 0 holds something that is no MBR".into(),
            ));
        }
    }
    Ok(Taste::Mine(claim(disk, &table, notes)))
}

/// No usable copy: either nothing at all, or the remains of one.
fn neither(disk: &Probe<'_>, record: Option<&mbr::Record>, first: &Problem, second: &Problem) -> Taste {
    let protected = record.is_some_and(mbr::Record::is_protective);
    let head = disk.windows().head;
    let other = [512usize, 4096]
        .into_iter()
        .filter(|&size| size != disk.block_size as usize);
    for size in other {
        if protected && head.get(size..size + 8) == Some(&gpt::SIGNATURE) {
            return Taste::Traces(format!(
                "a GPT made for blocks of {size} bytes, but the disk has blocks of {}; set `block_size: {size}`",
                disk.block_size
            ));
        }
    }
    match (first.is_absence() && second.is_absence(), protected) {
        (true, false) => Taste::No,
        (true, true) => Taste::Traces("a protective MBR, but no GPT at the start or at the end".into()),
        (false, _) => Taste::Traces(format!(
            "a GPT of which no copy is usable (primary: {first}; backup: {second})"
        )),
    }
}

fn claim(disk: &Probe<'_>, table: &Table, mut notes: Vec<String>) -> Mine {
    let (good, bad) = table.partitions();
    notes.extend(
        bad.iter()
            .map(|(number, why)| format!("partition {number} is not served: {why}")),
    );
    if good.len() > SERVED_MAX {
        notes.push(format!(
            "only the first {SERVED_MAX} of {} partitions are served",
            good.len()
        ));
    }
    let nodes = good.into_iter().take(SERVED_MAX).map(|(number, entry)| {
        let (guid, extent) = (entry.guid, entry.extent().unwrap_or_default());
        let partition = Partition::Gpt {
            disk: disk.name.to_owned(),
            number,
            extent,
            table: table.header.disk_guid(),
            kind: entry.kind,
            guid,
            name: entry.name,
            attributes: entry.attributes,
        };
        // A nil GUID is no identity.
        let uuid = if guid.is_nil() {
            Uuid::new_v5(&disk.uuid, format!("p{number}").as_bytes())
        } else {
            guid
        };
        proposal(disk, partition, uuid, Vec::new())
    });
    let nodes: Vec<_> = nodes.collect();
    Mine {
        what: format!("GPT with {}", count(nodes.len())),
        nodes,
        notes,
        member: None,
        covers: Vec::new(),
    }
}
