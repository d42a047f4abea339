//! Compare (NVM 1.0d, 3.2.1), alone and fused with a Write.
use super::{
    connection::{Connection, Reply},
    io::{Kind, bytes, status},
    session::Command,
    space::Space,
};
use bdev::{Io, IoResult};
use reactor::Buf;
use spec::{BlockRange, nvme::Status};
use std::rc::Rc;

/// Compare.
pub async fn run(connection: &Rc<Connection>, slot: u16, command: &Command, space: &Space) -> Reply {
    let range = BlockRange::new(command.sqe.slba(), command.sqe.blocks());
    let theirs = connection.buffer_of(slot);
    if theirs.len() != bytes(command, space) {
        return Reply::fail(Status::DATA_SGL_LENGTH_INVALID);
    }
    let (ours, read) = read(range, theirs.len());
    let done = space.disk.perform(read).await;
    let status = compared(done, &ours, &theirs);
    if status.is_success() {
        connection.count_read(theirs.len());
    }
    Reply::fail(status)
}

/// Compare and Write as one: nobody else's I/O on these blocks comes between, whatever core or protocol it comes from.
/// How each of the two slots ended.
pub async fn and_write(connection: &Rc<Connection>, slots: (u16, u16)) -> (Status, Status) {
    let commands = (connection.command(slots.0), connection.command(slots.1));
    let (compare, write) = (&commands.0.sqe, &commands.1.sqe);
    let both = |status| (status, Status::ABORTED_FAILED_FUSED);
    if (compare.nsid, compare.slba(), compare.blocks()) != (write.nsid, write.slba(), write.blocks()) {
        return both(Status::INVALID_FIELD);
    }
    let Some(space) = connection.space(compare.nsid.get()) else {
        return both(Status::INVALID_NAMESPACE);
    };
    if space.guard.is_up() {
        if let Err(refusal) = space.guard.check(connection, space.nsid, compare) {
            return both(refusal);
        }
        if let Err(refusal) = space.guard.check(connection, space.nsid, write) {
            return (Status::ABORTED_FAILED_FUSED, refusal);
        }
    }
    let range = BlockRange::new(compare.slba(), compare.blocks());
    let len = bytes(&commands.0, &space);
    let (theirs, new) = (connection.buffer_of(slots.0), connection.buffer_of(slots.1));
    if theirs.len() != len || new.len() != len {
        return both(Status::DATA_SGL_LENGTH_INVALID);
    }
    if !range.fits(space.disk.blocks()) {
        return both(Status::LBA_OUT_OF_RANGE);
    }
    let alone = space
        .disk
        .exclusive(range.start.0..range.start.0 + u64::from(range.count))
        .await;
    let (ours, read) = read(range, len);
    let compared = compared(alone.perform(read).await, &ours, &theirs);
    if !compared.is_success() {
        return both(compared);
    }
    let io = Io::write(range, new);
    match alone.perform(if write.fua() { io.fua() } else { io }).await {
        Ok(()) => {
            connection.count_read(len);
            connection.count_write(len);
            (Status::SUCCESS, Status::SUCCESS)
        }
        Err(error) => (Status::ABORTED_FAILED_FUSED, status(error, Kind::Write)),
    }
}

/// A read into memory that the command's right covers.
fn read(range: BlockRange, len: usize) -> (Buf, Io) {
    let buf = Buf::alloc(len);
    (buf.clone(), Io::read(range, buf))
}

fn compared(done: IoResult, ours: &Buf, theirs: &Buf) -> Status {
    match done {
        Ok(()) if ours.eq_bytes(theirs) => Status::SUCCESS,
        Ok(()) => Status::COMPARE_FAILURE,
        Err(error) => status(error, Kind::Read),
    }
}
