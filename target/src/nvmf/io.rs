//! The NVM command set on an I/O queue: from a submission entry to a disk and back.
use super::{
    compare,
    connection::{Connection, Reply},
    copy, reserve,
    session::Command,
    space::Space,
};
use bdev::{Io, IoError};
use spec::{
    BlockRange,
    nvme::{
        NSID_ALL, Sqe, Status,
        command::{DsmRange, io},
    },
};
use std::rc::Rc;
use zerocopy::FromBytes;

/// Runs one command. The data a host sent is in the slot's buffer; data for the host is left there.
pub async fn run(connection: &Rc<Connection>, slot: u16, command: &Command) -> Reply {
    let sqe = &command.sqe;
    let nsid = sqe.nsid.get();
    if sqe.opcode == io::FLUSH && nsid == NSID_ALL {
        return flush_all(connection, sqe).await;
    }
    let Some(space) = connection.space(nsid) else {
        return Reply::fail(Status::INVALID_NAMESPACE);
    };
    if space.guard.is_up()
        && let Err(status) = space.guard.check(connection, nsid, sqe)
    {
        return Reply::fail(status);
    }
    if connection.masked().0 & oncs(sqe.opcode) != 0 {
        return Reply::fail(Status::INVALID_OPCODE);
    }
    match sqe.opcode {
        io::READ => read(connection, slot, command, &space).await,
        io::WRITE => write(connection, slot, command, &space).await,
        io::FLUSH => reply(space.disk.perform(Io::flush()).await, Kind::Write),
        io::WRITE_ZEROES => {
            if bytes(command, &space) as u64 > connection.most_zeroes() {
                return Reply::fail(Status::INVALID_FIELD);
            }
            let io = Io::write_zeroes(BlockRange::new(sqe.slba(), sqe.blocks()), sqe.deac());
            let io = if sqe.fua() { io.fua() } else { io };
            reply(space.disk.perform(io).await, Kind::Write)
        }
        io::COMPARE => compare::run(connection, slot, command, &space).await,
        io::VERIFY => verify(connection, slot, command, &space).await,
        io::COPY => Box::pin(copy::run(connection, slot, command, &space)).await,
        io::DATASET_MANAGEMENT => dataset(connection, slot, command, &space).await,
        io::RESERVATION_REGISTER | io::RESERVATION_REPORT | io::RESERVATION_ACQUIRE | io::RESERVATION_RELEASE => {
            Box::pin(reserve::run(connection, slot, command, &space)).await
        }
        _ => Reply::fail(Status::INVALID_OPCODE),
    }
}

/// The bit of ONCS that announces a command; none for those that every controller has.
pub fn oncs(opcode: u8) -> u16 {
    match opcode {
        io::COMPARE => 1,
        io::DATASET_MANAGEMENT => 1 << 2,
        io::WRITE_ZEROES => 1 << 3,
        io::RESERVATION_REGISTER | io::RESERVATION_REPORT | io::RESERVATION_ACQUIRE | io::RESERVATION_RELEASE => 1 << 5,
        io::VERIFY => 1 << 7,
        io::COPY => 1 << 8,
        _ => 0,
    }
}

/// Length in bytes of the command's range.
pub fn bytes(command: &Command, space: &Space) -> usize {
    (command.sqe.blocks() as usize) << space.shift
}

async fn read(connection: &Rc<Connection>, slot: u16, command: &Command, space: &Space) -> Reply {
    let len = bytes(command, space);
    if let Err(status) = fits(connection, command, len) {
        return Reply::fail(status);
    }
    if command.sqe.fua() && space.volatile.get() {
        // FUA reads what is on stable media (NVM 1.0d, 3.2.4): put it there first.
        if let Err(error) = space.disk.perform(Io::flush()).await {
            return Reply::fail(status(error, Kind::Write));
        }
    }
    let buf = connection.room(slot, len).await;
    let io = Io::read(BlockRange::new(command.sqe.slba(), command.sqe.blocks()), buf);
    match space.disk.perform(io).await {
        Ok(()) => {
            connection.count_read(len);
            Reply::data(len as u32)
        }
        Err(error) => Reply::fail(status(error, Kind::Read)),
    }
}

async fn write(connection: &Rc<Connection>, slot: u16, command: &Command, space: &Space) -> Reply {
    let len = bytes(command, space);
    let buf = connection.buffer_of(slot);
    if buf.len() != len {
        return Reply::fail(Status::DATA_SGL_LENGTH_INVALID);
    }
    let io = Io::write(BlockRange::new(command.sqe.slba(), command.sqe.blocks()), buf);
    let io = if command.sqe.fua() { io.fua() } else { io };
    let done = space.disk.perform(io).await;
    if done.is_ok() {
        connection.count_write(len);
    }
    reply(done, Kind::Write)
}

/// Verify (NVM 1.0d, 3.2.7): reads the blocks and gives them to nobody.
async fn verify(connection: &Rc<Connection>, slot: u16, command: &Command, space: &Space) -> Reply {
    let len = bytes(command, space);
    if len > connection.max_io() {
        // VSL says the same.
        return Reply::fail(Status::INVALID_FIELD);
    }
    let buf = connection.room(slot, len).await;
    let io = Io::read(BlockRange::new(command.sqe.slba(), command.sqe.blocks()), buf);
    let done = space.disk.perform(io).await;
    if done.is_ok() {
        connection.count_read(len);
    }
    reply(done, Kind::Read)
}

async fn dataset(connection: &Rc<Connection>, slot: u16, command: &Command, space: &Space) -> Reply {
    let ranges = (command.sqe.cdw1(0) & 0xff) as usize + 1;
    let data = connection.buffer_of(slot);
    if data.len() < ranges * size_of::<DsmRange>() {
        return Reply::fail(Status::DATA_SGL_LENGTH_INVALID);
    }
    let range = |i: usize| {
        let mut raw = [0; size_of::<DsmRange>()];
        data.read_at(i * raw.len(), &mut raw);
        DsmRange::read_from_bytes(&raw).unwrap_or_default()
    };
    let blocks = space.disk.blocks();
    // Every range is looked at before the first is acted upon.
    if (0..ranges)
        .map(range)
        .any(|r| !BlockRange::new(r.start.get(), r.blocks.get()).fits(blocks))
    {
        return Reply::fail(Status::LBA_OUT_OF_RANGE);
    }
    const DEALLOCATE: u32 = 1 << 2;
    if command.sqe.cdw1(1) & DEALLOCATE == 0 {
        // The other attributes are hints about what the host will do next.
        return Reply::done();
    }
    for r in (0..ranges).map(range).filter(|r| r.blocks.get() > 0) {
        match space
            .disk
            .perform(Io::unmap(BlockRange::new(r.start.get(), r.blocks.get())))
            .await
        {
            // Deallocation is advice (NVM 1.0d, 3.2.3.1.1): a disk that cannot is right to leave the data.
            Ok(()) | Err(IoError::Unsupported) => {}
            Err(error) => return Reply::fail(status(error, Kind::Write)),
        }
    }
    Reply::done()
}

async fn flush_all(connection: &Rc<Connection>, sqe: &Sqe) -> Reply {
    for space in connection.visible_spaces() {
        if space.guard.is_up()
            && let Err(status) = space.guard.check(connection, space.nsid, sqe)
        {
            return Reply::fail(status);
        }
        if let Err(error) = space.disk.perform(Io::flush()).await {
            return Reply::fail(status(error, Kind::Write));
        }
    }
    Reply::done()
}

/// A read must fit what a command may move and what the host has room for.
fn fits(connection: &Connection, command: &Command, len: usize) -> Result<(), Status> {
    if len > connection.max_io() {
        return Err(Status::INVALID_FIELD);
    }
    match command.sqe.sgl.length.get() as usize {
        room if room < len => Err(Status::DATA_SGL_LENGTH_INVALID),
        _ => Ok(()),
    }
}

/// Which way data moved when it failed.
#[derive(Clone, Copy)]
pub enum Kind {
    /// From the medium.
    Read,
    /// To the medium, or to stable media.
    Write,
}

fn reply(done: Result<(), IoError>, kind: Kind) -> Reply {
    match done {
        Ok(()) => Reply::done(),
        Err(error) => Reply::fail(status(error, kind)),
    }
}

/// The one place where a disk's error becomes an NVMe status.
pub fn status(error: IoError, kind: Kind) -> Status {
    match (error, kind) {
        (IoError::OutOfRange, _) => Status::LBA_OUT_OF_RANGE,
        (IoError::Medium, Kind::Read) => Status::UNRECOVERED_READ_ERROR,
        (IoError::Medium, Kind::Write) => Status::WRITE_FAULT,
        (IoError::Unsupported, _) => Status::INVALID_OPCODE,
        (IoError::ReadOnly, _) => Status::NAMESPACE_WRITE_PROTECTED,
        (IoError::NoSpace, _) => Status::CAPACITY_EXCEEDED,
        // The disk is gone for good; another path would lead to the same one.
        (IoError::Gone, _) => Status::NAMESPACE_NOT_READY.with_do_not_retry(true),
        (IoError::Aborted, _) => Status::ABORTED_BY_REQUEST,
        (IoError::Misaligned, _) => Status::INVALID_FIELD,
        (IoError::Device, _) => Status::INTERNAL_ERROR,
    }
}
