//! UNMAP and WRITE SAME (SBC-3 5.28, 5.43).
use super::{
    block::writable,
    nexus::Open,
    primary::{UNMAP_DESCRIPTORS, limits},
    server::sense_of,
};
use bdev::{Io, IoError};
use reactor::Buf;
use spec::{
    BlockRange,
    scsi::{Sense, Transfer, unmap as list},
};

/// WRITE SAME of other than zeros writes this much at a time.
const SAME_STEP: u32 = 256 << 10;

pub(super) async fn unmap(open: &Open, data: &Buf) -> Result<(), Sense> {
    let limits = limits(open);
    if limits.unmap == 0 {
        return Err(Sense::OPCODE);
    }
    writable(open)?;
    let bytes = data.to_vec();
    let ranges = list::parse(&bytes)?;
    let blocks = open.disk.blocks();
    // All are checked before the first is done.
    if ranges.len() > UNMAP_DESCRIPTORS as usize {
        return Err(Sense::INVALID_PARAMETER);
    }
    let mut total = 0u64;
    for range in ranges.clone() {
        if !range.fits(blocks) {
            return Err(Sense::OUT_OF_RANGE);
        }
        total += u64::from(range.count);
    }
    if total > limits.unmap.into() {
        return Err(Sense::INVALID_PARAMETER);
    }
    for range in ranges.filter(|range| range.count > 0) {
        open.disk
            .perform(Io::unmap(range))
            .await
            .map_err(|error| sense_of(error, true))?;
    }
    Ok(())
}

pub(super) async fn write_same(
    open: &Open,
    transfer: Transfer,
    unmap: bool,
    no_data: bool,
    data: &Buf,
) -> Result<(), Sense> {
    let limits = limits(open);
    let blocks = open.disk.blocks();
    let mut range = transfer.range;
    if unmap && limits.unmap == 0 {
        return Err(Sense::cdb_field(1, 3));
    }
    let count = match u64::from(range.count) {
        0 if limits.write_same_non_zero => return Err(Sense::INVALID_FIELD),
        // All blocks to the end.
        0 if range.start.0 < blocks => blocks - range.start.0,
        0 => return Err(Sense::OUT_OF_RANGE),
        count => count,
    };
    if !range.fits(blocks) {
        return Err(Sense::OUT_OF_RANGE);
    }
    range.count = match u32::try_from(count) {
        Ok(fits) if count <= limits.write_same => fits,
        _ => return Err(Sense::INVALID_FIELD),
    };
    writable(open)?;
    let block = open.disk.block_size() as usize;
    if !no_data && data.len() != block {
        return Err(Sense::INVALID_FIELD);
    }
    if no_data || data.is_zero() {
        let zero = Io::write_zeroes(range, unmap);
        match open.disk.perform(zero).await {
            // A device without the operation gets the zeros as data, below.
            Err(IoError::Unsupported) => (),
            done => return done.map_err(|error| sense_of(error, true)),
        }
    }
    // Unmapped blocks would not read as this block, so they are written (SBC-3 5.43).
    let step = range.count.min((SAME_STEP / block as u32).max(1));
    let pattern = Buf::try_alloc(step as usize * block).ok_or(Sense::TIMEOUT)?;
    match no_data {
        true => pattern.fill(0),
        false => {
            let one = data.to_vec();
            (0..step as usize).for_each(|i| pattern.write_at(i * block, &one));
        }
    }
    let (mut at, end) = (range.start.0, range.start.0 + u64::from(range.count));
    while at < end {
        let count = (end - at).min(step.into()) as u32;
        let part = pattern.slice(0..count as usize * block);
        let io = Io::write(BlockRange::new(at, count), part);
        open.disk.perform(io).await.map_err(|error| sense_of(error, true))?;
        at += u64::from(count);
    }
    Ok(())
}
