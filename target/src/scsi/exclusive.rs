//! Commands that have their blocks to themselves while they look and write: COMPARE AND WRITE, ORWRITE, WRITE AND VERIFY and WRITE
//! ATOMIC (SBC-4 5.3, 5.18, 5.45, 5.48).
//!
//! Nobody else who uses the volume through a target, on whatever core or path, reads or writes these blocks meanwhile
//! ([`Opened::exclusive`](bdev::Opened::exclusive)). What a WRITE ATOMIC promises beyond that is the volume's promise
//! (`Geometry::atomic`): a volume that makes none does not have the command.
use super::{
    block::{check, writable},
    nexus::Open,
    primary::limits,
    server::sense_of,
};
use bdev::{Exclusive, Io};
use reactor::{Buf, PAGE};
use spec::{
    BlockRange,
    scsi::{Sense, Transfer, cdb::Check},
};

/// The range to itself, on the medium and writable.
async fn held(open: &Open, transfer: Transfer) -> Result<Exclusive, Sense> {
    check(open, transfer.range)?;
    writable(open)?;
    let start = transfer.range.start.0;
    Ok(open
        .disk
        .exclusive(start..start + u64::from(transfer.range.count))
        .await)
}

async fn read(held: &Exclusive, range: BlockRange, block: usize, fua: bool) -> Result<Buf, Sense> {
    let found = Buf::try_alloc(range.count as usize * block).ok_or(Sense::TIMEOUT)?;
    let io = Io {
        fua,
        ..Io::read(range, found.clone())
    };
    held.perform(io).await.map_err(|error| sense_of(error, false))?;
    Ok(found)
}

async fn write(held: &Exclusive, range: BlockRange, data: Buf, fua: bool) -> Result<(), Sense> {
    let io = Io {
        fua,
        ..Io::write(range, data)
    };
    held.perform(io).await.map_err(|error| sense_of(error, true))
}

pub(super) async fn compare_and_write(open: &Open, transfer: Transfer, data: &Buf) -> Result<(), Sense> {
    check(open, transfer.range)?;
    let (range, block) = (transfer.range, open.disk.block_size() as usize);
    let half = range.count as usize * block;
    // Half of what was sent is to compare: if it is not twice the blocks, there is no telling where that half ends.
    if range.count > limits(open).compare_and_write.into() || data.len() != 2 * half {
        return Err(Sense::cdb_field(13, 7));
    }
    writable(open)?;
    if half == 0 {
        return Ok(());
    }
    let held = held(open, transfer).await?;
    let found = read(&held, range, block, false).await?;
    let wanted = data.slice(0..half);
    if !found.eq_bytes(&wanted) {
        return Err(miscompare(&found, &wanted));
    }
    write(&held, range, data.slice(half..2 * half), transfer.fua).await
}

/// MISCOMPARE with the offset of the first byte that differs (SBC-4 5.3).
fn miscompare(found: &Buf, wanted: &Buf) -> Sense {
    let (found, wanted) = (found.to_vec(), wanted.to_vec());
    match found.iter().zip(&wanted).position(|(a, b)| a != b) {
        Some(at) => Sense::MISCOMPARE.with_information(at as u64),
        None => Sense::MISCOMPARE,
    }
}

pub(super) async fn or_write(open: &Open, transfer: Transfer, data: &Buf) -> Result<(), Sense> {
    let held = held(open, transfer).await?;
    let block = open.disk.block_size() as usize;
    // A host that sent less than its command says changes what it sent; the residual count tells.
    let len = data.len().min(transfer.range.count as usize * block);
    if len == 0 {
        return Ok(());
    }
    let range = BlockRange {
        count: len.div_ceil(block) as u32, // no more than it was
        ..transfer.range
    };
    let both = read(&held, range, block, false).await?;
    let (mut old, mut new) = ([0; PAGE], [0; PAGE]);
    for at in (0..len).step_by(PAGE) {
        let n = (len - at).min(PAGE);
        both.read_at(at, &mut old[..n]);
        data.read_at(at, &mut new[..n]);
        old.iter_mut().zip(&new).for_each(|(old, new)| *old |= new);
        both.write_at(at, &old[..n]);
    }
    write(&held, range, both, transfer.fua).await
}

pub(super) async fn write_and_verify(open: &Open, transfer: Transfer, how: Check, data: &Buf) -> Result<(), Sense> {
    let held = held(open, transfer).await?;
    let block = open.disk.block_size() as usize;
    let data = data.slice(0..data.len().min(transfer.range.count as usize * block));
    if data.is_empty() {
        return Ok(());
    }
    let range = BlockRange {
        count: data.len().div_ceil(block) as u32, // no more than it was
        ..transfer.range
    };
    store(&held, range, block, &data, true).await?;
    let found = read(&held, range, block, true).await?;
    match how == Check::Each && !found.slice(0..data.len()).eq_bytes(&data) {
        true => Err(Sense::MISCOMPARE),
        false => Ok(()),
    }
}

/// Writes `data` at the start of `range`, which it fills but for a part of the last block: that stays as it is.
async fn store(held: &Exclusive, range: BlockRange, block: usize, data: &Buf, fua: bool) -> Result<(), Sense> {
    if data.len().is_multiple_of(block) {
        return write(held, range, data.clone(), fua).await;
    }
    let whole = data.len() / block;
    let last = BlockRange::new(range.start.0 + whole as u64, 1);
    let tail = read(held, last, block, false).await?;
    tail.write_at(0, &data.slice(whole * block..data.len()).to_vec());
    if whole > 0 {
        let front = BlockRange {
            count: whole as u32, // no more than it was
            ..range
        };
        write(held, front, data.slice(0..whole * block), fua).await?;
    }
    write(held, last, tail, fua).await
}

/// The part of a block that a host sent whose data ended there. The rest of the block stays.
#[cold]
pub(super) async fn write_part(open: &Open, lba: u64, part: &Buf, fua: bool) -> Result<(), Sense> {
    let held = open.disk.exclusive(lba..lba + 1).await;
    store(
        &held,
        BlockRange::new(lba, 1),
        open.disk.block_size() as usize,
        part,
        fua,
    )
    .await
}

pub(super) async fn write_atomic(open: &Open, transfer: Transfer, boundary: u16, data: &Buf) -> Result<(), Sense> {
    check(open, transfer.range)?;
    let most = limits(open).atomic;
    if transfer.range.count > most {
        return Err(Sense::cdb_field(12, 7));
    }
    // Whole is more than atomic between boundaries; but no boundary beyond what the block limits page says.
    if u32::from(boundary) > most {
        return Err(Sense::cdb_field(10, 7));
    }
    if data.len() < transfer.range.count as usize * open.disk.block_size() as usize {
        return Err(Sense::INFORMATION_UNIT);
    }
    let held = held(open, transfer).await?;
    if transfer.range.count == 0 {
        return Ok(());
    }
    let len = transfer.range.count as usize * open.disk.block_size() as usize;
    write(&held, transfer.range, data.slice(0..len), transfer.fua).await
}
