//! What is known about blocks: GET LBA STATUS and READ DEFECT DATA (SBC-4 5.7, 5.20).
use super::{nexus::Open, primary::limits, server::sense_of};
use bdev::{Allocation, Io, IoError};
use reactor::Buf;
use spec::{
    BlockRange, Lba,
    scsi::{
        Sense,
        medium::{self, Provisioning},
    },
};

/// Most runs in an answer: 4 KiB of descriptors. A host asks on where it ends.
const RUNS: usize = 256;
/// Most questions to the volume for one answer: a striped volume answers chunk by chunk.
const QUESTIONS: usize = 1024;

pub(super) fn read_defect_data(ten: bool, lists: u8) -> Vec<u8> {
    // Defects are the business of the disks below; the volume has none of its own.
    medium::no_defects(ten, lists)
}

pub(super) async fn get_lba_status(open: &Open, start: Lba, room: u32) -> Result<Vec<u8>, Sense> {
    let blocks = open.disk.blocks();
    if start.0 >= blocks {
        return Err(Sense::OUT_OF_RANGE);
    }
    let most = ((room as usize).saturating_sub(8) / 16).clamp(1, RUNS);
    let thin = limits(open).unmap > 0;
    let mut runs: Vec<(u32, Provisioning)> = Vec::new();
    let mut at = start.0;
    for _ in 0..QUESTIONS {
        // All that is left, as far as a descriptor can tell.
        let left = u32::try_from(blocks.saturating_sub(at)).unwrap_or(u32::MAX);
        if left == 0 {
            break;
        }
        let range = BlockRange::new(at, left);
        // The blocks of a fully provisioned unit are always mapped, whatever the volume saves.
        let found = if thin {
            ask(open, range).await?
        } else {
            Allocation::all(range)
        };
        let status = match found.allocated {
            true => Provisioning::Mapped,
            false => Provisioning::Deallocated,
        };
        let count = found.blocks.clamp(1, left);
        let full = runs.len() == most;
        match runs.last_mut() {
            Some((run, last)) if *last == status && run.checked_add(count).is_some() => *run += count,
            _ if full => break,
            _ => runs.push((count, status)),
        }
        at += u64::from(count);
    }
    Ok(medium::lba_status(start, &runs))
}

async fn ask(open: &Open, range: BlockRange) -> Result<Allocation, Sense> {
    let answer = Buf::try_alloc(Allocation::LEN).ok_or(Sense::TIMEOUT)?;
    match open.disk.perform(Io::allocation(range, answer.clone())).await {
        Ok(()) => Ok(Allocation::of(&answer)),
        Err(IoError::Unsupported) => Ok(Allocation::all(range)),
        Err(error) => Err(sense_of(error, false)),
    }
}
