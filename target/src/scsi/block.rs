//! READ, WRITE, VERIFY, PRE-FETCH and SYNCHRONIZE CACHE (SBC-4), and the self-test of SEND DIAGNOSTIC (SPC-5).
use super::{exclusive::write_part, nexus::Open, server::sense_of};
use bdev::Io;
use reactor::Buf;
use spec::{
    BlockRange,
    scsi::{Sense, Transfer, cdb::Check},
};

/// VERIFY reads this much at a time.
const VERIFY_STEP: u32 = 256 << 10;

/// Why a read gives nothing.
pub(super) enum Failure {
    Sense(Sense),
    /// No memory for the data just now.
    Busy,
}

impl From<Sense> for Failure {
    fn from(sense: Sense) -> Self {
        Failure::Sense(sense)
    }
}

/// The range lies on the medium, and is no longer than the block limits page allows.
pub(super) fn check(open: &Open, range: BlockRange) -> Result<(), Sense> {
    if !range.fits(open.disk.blocks()) {
        return Err(Sense::OUT_OF_RANGE);
    }
    if range.count > open.limit {
        return Err(Sense::INVALID_FIELD);
    }
    Ok(())
}

/// Writes are possible at all.
pub(super) fn writable(open: &Open) -> Result<(), Sense> {
    match open.unit.settings().write_protect || open.read_only() {
        true => Err(Sense::WRITE_PROTECTED),
        false => Ok(()),
    }
}

pub(super) async fn read(open: &Open, transfer: Transfer, room: u32) -> Result<Option<Buf>, Failure> {
    check(open, transfer.range)?;
    let block = open.disk.block_size();
    // Not more than the host takes: the rest would only be thrown away.
    let count = transfer.range.count.min(room.div_ceil(block));
    if count == 0 {
        return Ok(None);
    }
    let into = Buf::try_alloc(count as usize * block as usize).ok_or(Failure::Busy)?;
    let range = BlockRange {
        count,
        ..transfer.range
    };
    if transfer.fua {
        open.reach_medium().await?
    }
    let mut io = Io::read(range, into.clone());
    io.fua = transfer.fua;
    open.disk.perform(io).await.map_err(|error| sense_of(error, false))?;
    Ok(Some(into))
}

pub(super) async fn write(open: &Open, transfer: Transfer, data: &Buf) -> Result<(), Sense> {
    check(open, transfer.range)?;
    writable(open)?;
    let fua = transfer.fua || open.write_through();
    let block = open.disk.block_size() as usize;
    let len = data.len().min(transfer.range.count as usize * block);
    let whole = len / block;
    let mut range = transfer.range;
    range.count = whole as u32; // no more than it was
    if whole > 0 {
        let mut io = Io::write(range, data.slice(0..whole * block));
        io.fua = fua;
        open.disk.perform(io).await.map_err(|error| sense_of(error, true))?;
    }
    match len % block {
        0 => Ok(()),
        // The host sent less than its command says (EDTL below the transfer length), and not even whole blocks. What it sent is
        // written, and the residual count says how much that was.
        _ => write_part(open, range.start.0 + whole as u64, &data.slice(whole * block..len), fua).await,
    }
}

pub(super) async fn verify(open: &Open, transfer: Transfer, how: Check, data: &Buf) -> Result<(), Sense> {
    check(open, transfer.range)?;
    let block = open.disk.block_size();
    let wanted = match how {
        Check::Medium => 0,
        Check::Each => transfer.range.count as usize * block as usize,
        Check::Repeated if transfer.range.count == 0 => 0,
        Check::Repeated => block as usize,
    };
    if data.len() < wanted {
        return Err(Sense::INFORMATION_UNIT);
    }
    if transfer.range.count > 0 {
        open.reach_medium().await?
    }
    let step = (VERIFY_STEP / block).max(1);
    let (mut at, end) = (
        transfer.range.start.0,
        transfer.range.start.0 + u64::from(transfer.range.count),
    );
    while at < end {
        let count = (end - at).min(step.into()) as u32;
        let len = count as usize * block as usize;
        let found = Buf::try_alloc(len).ok_or(Sense::TIMEOUT)?;
        let io = Io {
            fua: true,
            ..Io::read(BlockRange::new(at, count), found.clone())
        };
        open.disk.perform(io).await.map_err(|error| sense_of(error, false))?;
        let offset = (at - transfer.range.start.0) as usize * block as usize;
        let same = match how {
            Check::Medium => true,
            Check::Each => found.eq_bytes(&data.slice(offset..offset + len)),
            Check::Repeated => {
                let one = data.slice(0..block as usize);
                (0..count as usize).all(|i| {
                    let from = i * block as usize;
                    found.slice(from..from + block as usize).eq_bytes(&one)
                })
            }
        };
        if !same {
            return Err(Sense::MISCOMPARE);
        }
        at += u64::from(count);
    }
    Ok(())
}

/// There is no cache to fetch into that a later read would look at, so the answer is GOOD and not CONDITION MET: "not all of it
/// fits" (SBC-4 5.19). What is out of range is told all the same.
pub(super) fn pre_fetch(open: &Open, range: BlockRange) -> Result<(), Sense> {
    match range.fits(open.disk.blocks()) {
        true => Ok(()),
        false => Err(Sense::OUT_OF_RANGE),
    }
}

/// The default self-test: the first and the last block can be read.
pub(super) async fn self_test(open: &Open) -> Result<(), Sense> {
    let Some(last) = open.disk.blocks().checked_sub(1) else {
        return Ok(());
    };
    for lba in [0, last] {
        let into = Buf::try_alloc(open.disk.block_size() as usize).ok_or(Sense::TIMEOUT)?;
        let done = open.disk.perform(Io::read(BlockRange::new(lba, 1), into)).await;
        done.map_err(|_| Sense::SELF_TEST_FAILED)?
    }
    Ok(())
}

pub(super) async fn synchronize(open: &Open, range: BlockRange) -> Result<(), Sense> {
    // No blocks means all that follow (SBC-3 5.22); a flush is of everything anyway.
    if !range.fits(open.disk.blocks()) {
        return Err(Sense::OUT_OF_RANGE);
    }
    open.settle().await
}
