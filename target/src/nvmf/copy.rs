//! Copy (NVM 1.0d, 3.2.2): up to 128 source ranges into one destination, without the data leaving the target.
use super::{
    connection::{Connection, Reply},
    io::{Kind, status},
    session::Command,
    space::Space,
};
use bdev::Io;
use spec::{
    BlockRange,
    nvme::{
        Sqe, Status,
        command::{CopyRange, io},
    },
};
use std::rc::Rc;
use zerocopy::FromBytes;

/// Source ranges of one command (MSRC + 1).
pub const RANGES: usize = 128;

/// Blocks of one source range (MSSRL): what one command may move.
pub fn range_blocks(max_io: u32, block_size: u32) -> u16 {
    (max_io / block_size.max(1)).min(u16::MAX.into()) as u16
}

/// Blocks of all source ranges together (MCL).
pub fn total_blocks(max_io: u32, block_size: u32) -> u32 {
    u32::from(range_blocks(max_io, block_size)) * RANGES as u32
}

/// Where a range comes from.
struct Source {
    space: Rc<Space>,
    range: BlockRange,
}

/// Copy. What went wrong is answered with the number of the first range that was not copied.
pub async fn run(connection: &Rc<Connection>, slot: u16, command: &Command, space: &Rc<Space>) -> Reply {
    let sources = match sources(connection, slot, command, space) {
        Ok(sources) => sources,
        Err((status, at)) => return Reply::fail_with(status, at),
    };
    let longest = sources.iter().map(|s| s.range.count).max().unwrap_or(0);
    // The descriptors have been read: their room is given to the data.
    let scratch = connection.room(slot, (longest as usize) << space.shift).await;
    let mut to = command.sqe.slba();
    for (at, source) in (0..).zip(&sources) {
        let count = source.range.count;
        let Some(buf) = scratch.get(0..(count as usize) << space.shift) else {
            return Reply::fail_with(Status::INTERNAL_ERROR, at);
        };
        let read = Io::read(source.range, buf.clone());
        if let Err(error) = source.space.disk.perform(read).await {
            return Reply::fail_with(status(error, Kind::Read), at);
        }
        let write = Io::write(BlockRange::new(to, count), buf);
        let write = if command.sqe.fua() { write.fua() } else { write };
        if let Err(error) = space.disk.perform(write).await {
            return Reply::fail_with(status(error, Kind::Write), at);
        }
        connection.count_write((count as usize) << space.shift);
        to += u64::from(count);
    }
    Reply::done()
}

/// Reads and checks every range before the first is copied.
fn sources(
    connection: &Rc<Connection>,
    slot: u16,
    command: &Command,
    space: &Rc<Space>,
) -> Result<Vec<Source>, (Status, u32)> {
    let sqe = &command.sqe;
    let (count, format) = ((sqe.cdw1(2) & 0xff) as usize + 1, sqe.cdw1(2) >> 8 & 0xf);
    let data = connection.buffer_of(slot);
    let across = match format {
        0 => false,
        2 if connection
            .controller()
            .is_some_and(|c| c.state().features.copies_across()) =>
        {
            true
        }
        _ => return Err((Status::INVALID_FIELD, 0)),
    };
    if count > RANGES {
        return Err((Status::COMMAND_SIZE_LIMIT, 0));
    }
    if data.len() < count * size_of::<CopyRange>() {
        return Err((Status::DATA_SGL_LENGTH_INVALID, 0));
    }
    let block_size = 1 << space.shift;
    let most = u32::from(range_blocks(connection.max_io() as u32, block_size));
    let mut sources = Vec::with_capacity(count);
    let mut total = 0u64;
    for at in 0..count {
        let mut raw = [0; size_of::<CopyRange>()];
        data.read_at(at * raw.len(), &mut raw);
        let from = CopyRange::read_from_bytes(&raw).unwrap_or_default();
        let range = BlockRange::new(from.start.get(), u32::from(from.blocks.get()) + 1);
        let wrong = |status| (status, at as u32);
        let source = match across {
            true => source_of(connection, from.nsid.get(), space).map_err(wrong)?,
            false => space.clone(),
        };
        if range.count > most {
            return Err(wrong(Status::COMMAND_SIZE_LIMIT));
        }
        if !range.fits(source.disk.blocks()) {
            return Err(wrong(Status::LBA_OUT_OF_RANGE));
        }
        total += u64::from(range.count);
        sources.push(Source { space: source, range });
    }
    let fits = |end: u64| end <= space.disk.blocks();
    match sqe.slba().checked_add(total) {
        Some(end) if fits(end) => Ok(sources),
        _ => Err((Status::LBA_OUT_OF_RANGE, 0)),
    }
}

/// Another namespace that is read from: the host must be allowed to read it, and its blocks must be as long.
fn source_of(connection: &Rc<Connection>, nsid: u32, to: &Space) -> Result<Rc<Space>, Status> {
    let space = connection.space(nsid).ok_or(Status::INVALID_NAMESPACE)?;
    if space.shift != to.shift {
        return Err(Status::INCOMPATIBLE_NAMESPACE);
    }
    if space.guard.is_up() {
        space.guard.check(connection, nsid, &Sqe::new(io::READ, 0, nsid))?;
    }
    Ok(space)
}
