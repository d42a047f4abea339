//! Carrying a plan out: compare, write, flush, step by step. Nothing is written unless every byte is as the plan found it.
use super::{Plan, Write};
use crate::probe::{READ_MAX, Reading};
use spec::Extent;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
};

/// An answer that is on its way.
pub type Doing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// What a plan is carried out on.
pub trait Medium: Send + Sync {
    /// Blocks of a disk.
    fn read<'a>(&'a self, disk: &'a str, extent: Extent) -> Reading<'a>;
    /// Writes whole blocks from `block` on. May be in a volatile cache when it returns.
    fn write<'a>(&'a self, disk: &'a str, block: u64, bytes: &'a [u8]) -> Doing<'a>;
    /// Makes lasting what was written to a disk.
    fn flush<'a>(&'a self, disk: &'a str) -> Doing<'a>;
}

/// Why a plan was not carried out, or not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The disks are not as the plan found them. Nothing was written.
    #[error("{disk:?} has changed since the plan was made (byte {offset}); nothing was written, plan again")]
    Changed {
        /// The disk.
        disk: String,
        /// First byte that differs.
        offset: u64,
    },
    /// A disk of the plan has gone or is another one. Nothing was written.
    #[error("{disk:?} {why}; nothing was written")]
    Gone {
        /// The disk.
        disk: String,
        /// In words.
        why: String,
    },
    /// Reading, writing or flushing failed. `written` says whether something had been written before.
    #[error("{disk:?}, in step {step} ({title}): {why}")]
    Disk {
        /// The disk.
        disk: String,
        /// Number of the step, from 1; 0 is the comparison.
        step: usize,
        /// What the step would have achieved.
        title: String,
        /// In words.
        why: String,
        /// Something may have been written.
        written: bool,
    },
}

/// Compares, then writes every step and waits for it to last.
pub async fn carry_out(plan: &Plan, medium: &dyn Medium) -> Result<(), Failure> {
    // What a block is before its first write.
    let mut seen: BTreeSet<(&str, u64)> = BTreeSet::new();
    for write in plan.steps.iter().flat_map(|step| &step.writes) {
        let size = block_size(plan, write)?;
        let there = read(plan, medium, write).await?;
        for ((there, wanted), at) in there.chunks(size).zip(write.before.0.chunks(size)).zip(0u64..) {
            let offset = write.offset + at * size as u64;
            if seen.insert((&write.disk, offset)) && there != wanted {
                let inside = there.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or_default();
                return Err(Failure::Changed {
                    disk: write.disk.clone(),
                    offset: offset + inside as u64,
                });
            }
        }
    }
    write_all(plan, medium).await
}

/// Writes every step without comparing. For plans that were begun.
pub async fn write_all(plan: &Plan, medium: &dyn Medium) -> Result<(), Failure> {
    for (step, number) in plan.steps.iter().zip(1..) {
        let failed = |disk: &str, why| Failure::Disk {
            disk: disk.to_owned(),
            step: number,
            title: step.title.clone(),
            why,
            written: true,
        };
        for write in &step.writes {
            let size = block_size(plan, write)?;
            // As much at once as the control plane writes.
            for (piece, at) in write
                .after
                .0
                .chunks((READ_MAX as usize / size).max(1) * size)
                .zip(0u64..)
            {
                let block = write.offset / size as u64 + at * (READ_MAX / size as u64).max(1);
                let done = medium.write(&write.disk, block, piece).await;
                done.map_err(|why| failed(&write.disk, why))?;
            }
        }
        let disks: BTreeSet<&str> = step.writes.iter().map(|write| write.disk.as_str()).collect();
        for disk in disks {
            medium.flush(disk).await.map_err(|why| failed(disk, why))?;
        }
    }
    Ok(())
}

/// How far a plan that was begun has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it is on the disks.
    Untouched,
    /// Every block is as before or as after, and some of either.
    Midway,
    /// All of it is.
    Done,
    /// Some block is neither: somebody else has written there.
    Foreign,
}

/// What a block is during a plan.
#[derive(Default)]
struct Values<'a> {
    last: &'a [u8],
    earlier: Vec<&'a [u8]>,
}

/// Looks how far it has come. Reads only.
pub async fn progress(plan: &Plan, medium: &dyn Medium) -> Result<Progress, Failure> {
    let (mut old, mut new) = (false, false);
    // Of a block that is written twice any of the values may be there, but the last one makes it done.
    let mut last: BTreeMap<(&str, u64), Values<'_>> = BTreeMap::new();
    for write in plan.steps.iter().flat_map(|step| &step.writes) {
        let size = sector(plan, write)?;
        for ((before, after), at) in write.before.0.chunks(size).zip(write.after.0.chunks(size)).zip(0u64..) {
            let values = last.entry((&write.disk, write.offset + at * size as u64)).or_default();
            values.last = after;
            values.earlier.push(before);
        }
    }
    for write in plan.steps.iter().flat_map(|step| &step.writes) {
        let size = sector(plan, write)?;
        let there = read(plan, medium, write).await?;
        for (there, at) in there.chunks(size).zip(0u64..) {
            match last.get(&(write.disk.as_str(), write.offset + at * size as u64)) {
                // One that is written as it was tells nothing.
                Some(values) if values.last == there && values.earlier.iter().all(|value| *value == there) => {}
                Some(values) if values.last == there => new = true,
                Some(values) if values.earlier.first() == Some(&there) => old = true,
                // Between two writes of the same block.
                Some(values) if values.earlier.contains(&there) => (old, new) = (true, true),
                _ => return Ok(Progress::Foreign),
            }
        }
    }
    Ok(match (old, new) {
        (true, true) => Progress::Midway,
        (true, false) => Progress::Untouched,
        _ => Progress::Done,
    })
}

/// What a device writes whole: a file with blocks of 4096 bytes may lie on one that is cut off in the middle of them.
fn sector(plan: &Plan, write: &Write) -> Result<usize, Failure> {
    block_size(plan, write).map(|size| if size.is_multiple_of(512) { 512 } else { size })
}

fn block_size(plan: &Plan, write: &Write) -> Result<usize, Failure> {
    let size = plan.disks.get(&write.disk).map(|disk| disk.block_size as usize);
    let whole = |size: &usize| {
        *size > 0
            && write.offset.is_multiple_of(*size as u64)
            && write.after.0.len().is_multiple_of(*size)
            && write.before.0.len() == write.after.0.len()
    };
    size.filter(whole).ok_or_else(|| Failure::Gone {
        disk: write.disk.clone(),
        why: "is not described by the plan".into(),
    })
}

async fn read(plan: &Plan, medium: &dyn Medium, write: &Write) -> Result<Vec<u8>, Failure> {
    let size = block_size(plan, write)? as u64;
    let (mut at, end) = (write.offset / size, (write.offset + write.len()) / size);
    let mut bytes = Vec::with_capacity(write.after.0.len());
    while at < end {
        let count = (end - at).min((READ_MAX / size).max(1));
        let read = medium.read(&write.disk, Extent::new(at, count)).await;
        let failed = |why| Failure::Disk {
            disk: write.disk.clone(),
            step: 0,
            title: "compare".into(),
            why,
            written: false,
        };
        bytes.extend(read.map_err(failed)?);
        at += count;
    }
    Ok(bytes)
}
