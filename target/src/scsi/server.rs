//! From a command block to an outcome: the checks every command shares, and who does it.
use super::{
    Moved, Nexus, Outcome, block, copy, exclusive, lba_status, log, mode,
    nexus::Open,
    opcodes, ports, primary, provisioning, removable,
    reservation::{self, Refused},
    rules, sanitize,
    task_set::Task,
};
use bdev::IoError;
use reactor::Buf;
use spec::scsi::{Cdb, Command, Lun, Sense, Status, cdb::Data, opcodes::Needs};
use std::rc::Rc;

/// A command with everything that came with it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Logical unit number as on the wire.
    pub lun: [u8; 8],
    /// What to do.
    pub cdb: Cdb,
    /// Bytes the host takes.
    pub room: u32,
    /// Bytes the host sent.
    pub data: Buf,
}

/// What a command comes to inside the server: the data for the host, or why not.
pub(super) type Done = Result<Option<Buf>, Sense>;

/// The one place where a device's error becomes sense data.
pub(super) fn sense_of(error: IoError, changes: bool) -> Sense {
    match error {
        IoError::OutOfRange => Sense::OUT_OF_RANGE,
        IoError::Medium if changes => Sense::WRITE_ERROR,
        IoError::Medium => Sense::READ_ERROR,
        IoError::Unsupported => Sense::OPCODE,
        IoError::ReadOnly => Sense::WRITE_PROTECTED,
        IoError::NoSpace => Sense::NO_SPACE,
        IoError::Gone => Sense::NOT_READY,
        IoError::Aborted => Sense::TIMEOUT,
        IoError::Misaligned => Sense::INVALID_FIELD,
        IoError::Device => Sense::INTERNAL,
    }
}

/// Does a command. Runs to its end whatever happens to the host (D6).
pub async fn execute(nexus: &Nexus, request: Request) -> Outcome {
    execute_unless(nexus, request, &|| false).await
}

/// The same. A command that may take minutes ends early, in good order, when `unwanted` says that its host has aborted it.
pub async fn execute_unless(nexus: &Nexus, request: Request, unwanted: &dyn Fn() -> bool) -> Outcome {
    let unit = match Lun::from_wire(request.lun) {
        Some(lun) => nexus.open(lun).await,
        None => Err(Sense::NO_LUN),
    };
    let row = request.cdb.entry();
    let command = row.and_then(|row| row.command(&request.cdb));
    // These three answer where there is no unit, and in spite of unit attentions (SPC-4 5.14, SAM-5 5.14.5).
    match (&command, &unit) {
        (Ok(Command::Inquiry { page, room }), unit) => {
            return finish(
                unit.as_deref().ok(),
                primary::inquiry(unit.as_deref().ok(), *page, *room),
            );
        }
        (Ok(Command::ReportLuns { select, room }), unit) => {
            return finish(unit.as_deref().ok(), primary::report_luns(nexus, *select, *room));
        }
        (Ok(Command::RequestSense { descriptor, room }), unit) => {
            return finish(
                unit.as_deref().ok(),
                Ok(primary::request_sense(unit, *descriptor, *room)),
            );
        }
        _ => (),
    }
    let open = match unit {
        Ok(open) => open,
        Err(sense) => return Outcome::failed(sense),
    };
    if let Some(sense) = open.attention() {
        return finish(Some(&open), Err(sense));
    }
    if let Ok(row) = row
        && row.needs != Needs::Nothing
        && !opcodes::has(&open, row.needs)
    {
        return finish(Some(&open), Err(opcodes::refusal(&open, row)));
    }
    let command = match command {
        Ok(command) => command,
        Err(error) => return finish(Some(&open), Err(error.sense())),
    };
    if !open.free.get()
        && let Err(why) = rules::check(&open, &command)
    {
        return match why {
            Refused::Conflict => Outcome::status(Status::ReservationConflict),
            Refused::Sense(sense) => finish(Some(&open), Err(sense)),
        };
    }
    if let Some(sense) = open.unit.sanitization.sense()
        && !(sense == Sense::SANITIZE_FAILED && matches!(command, Command::Sanitize { .. }))
    {
        return finish(Some(&open), Err(sense));
    }
    let task = open.tasks.begin(unwanted);
    let outcome = perform(nexus, &open, command, &request, &task).await;
    // Another host aborted it (TAS = 1). What our own host aborts is the transport's affair.
    if task.is_aborted() {
        return Outcome::status(Status::TaskAborted);
    }
    finish(Some(&open), outcome)
}

async fn perform(
    nexus: &Nexus,
    open: &Rc<Open>,
    command: Command,
    request: &Request,
    task: &Task<'_>,
) -> Result<Outcome, Sense> {
    let block_size = open.disk.block_size();
    let parameter = |list: Vec<u8>, room: u32| Ok(Outcome::list(&list, room as usize));
    let data = &request.data;
    let medium = || open.unit.medium();
    let done: Done = match command {
        Command::TestUnitReady => medium().map(|()| None),
        Command::ModeSense { room, .. } => return parameter(mode::sense(open, &command)?, room.into()),
        Command::ModeSelect {
            ten, page_format, save, ..
        } => {
            let list = request.data.to_vec();
            mode::select(open, &list, ten, page_format, save).await.map(|()| None)
        }
        Command::LogSense { room, .. } => return parameter(log::sense(open, &command).await?, room.into()),
        Command::LogSelect {
            reset, page, subpage, ..
        } => {
            let list = request.data.to_vec();
            log::select(open, reset, page, subpage, &list).await.map(|()| None)
        }
        Command::ReadCapacity10 => return medium().and_then(|()| parameter(primary::read_capacity10(open), 8)),
        Command::ReadCapacity16 { room } => {
            return medium().and_then(|()| parameter(primary::read_capacity16(open), room));
        }
        Command::ReportOpcodes { what, timeouts, room } => {
            return parameter(opcodes::report_opcodes(open, what, timeouts)?, room);
        }
        Command::PersistentReserveIn { action, room } => return reservation::persistent_in(open, action, room),
        Command::PersistentReserveOut { action, kind, len } => {
            return taken(
                len,
                reservation::persistent_out(open, action, kind, len, &request.data).await,
            );
        }
        Command::Reserve => return reservation::reserve(open).await,
        Command::Release => return reservation::release(open).await,
        Command::ReportTargetPortGroups { extended, room } => return parameter(ports::report(open, extended), room),
        Command::SetTargetPortGroups { len } => return taken(len, ports::set(open, len, &request.data)),
        Command::ReportTmfs { extended, room } => return parameter(opcodes::report_tmfs(extended), room),
        Command::StartStop {
            condition,
            no_flush,
            load_eject,
            start,
        } => {
            let done = removable::start_stop(open, condition, no_flush, load_eject, start).await;
            done.map(|()| None)
        }
        Command::PreventAllow { prevent } => {
            removable::prevent_allow(open, prevent);
            Ok(None)
        }
        Command::SendDiagnostic { self_test: false } => Ok(None),
        Command::SendDiagnostic { self_test: true } => {
            medium()?;
            block::self_test(open).await.map(|()| None)
        }
        Command::SynchronizeCache { range, .. } => {
            medium()?;
            block::synchronize(open, range).await.map(|()| None)
        }
        Command::Read(transfer) => {
            medium()?;
            match block::read(open, transfer, request.room).await {
                Ok(data) => Ok(data),
                Err(block::Failure::Sense(sense)) => Err(sense),
                Err(block::Failure::Busy) => return Ok(Outcome::status(Status::Busy)),
            }
        }
        Command::Write(transfer) => {
            medium()?;
            block::write(open, transfer, &request.data).await.map(|()| None)
        }
        Command::Verify { transfer, check } => {
            medium()?;
            block::verify(open, transfer, check, &request.data).await.map(|()| None)
        }
        Command::PreFetch { range, .. } => medium().and_then(|()| block::pre_fetch(open, range)).map(|()| None),
        Command::CompareAndWrite(transfer) => {
            medium()?;
            exclusive::compare_and_write(open, transfer, data).await.map(|()| None)
        }
        Command::OrWrite(transfer) => {
            medium()?;
            exclusive::or_write(open, transfer, data).await.map(|()| None)
        }
        Command::WriteAndVerify { transfer, check } => {
            medium()?;
            exclusive::write_and_verify(open, transfer, check, data)
                .await
                .map(|()| None)
        }
        Command::WriteAtomic { transfer, boundary } => {
            medium()?;
            exclusive::write_atomic(open, transfer, boundary, data)
                .await
                .map(|()| None)
        }
        Command::GetLbaStatus { start, room } => {
            medium()?;
            return parameter(lba_status::get_lba_status(open, start, room).await?, room);
        }
        Command::ReadDefectData { ten, lists, room } => {
            medium()?;
            return parameter(lba_status::read_defect_data(ten, lists), room);
        }
        Command::ExtendedCopy { lid4, .. } => {
            medium()?;
            copy::extended_copy(nexus, open, lid4, data, task).await.map(|()| None)
        }
        Command::ReceiveCopyResults { what, list_id, room } => {
            return parameter(copy::receive_copy_results(nexus, what, list_id)?, room);
        }
        Command::Sanitize {
            how,
            immediate,
            unrestricted_exit,
            len,
        } => {
            medium()?;
            let order = sanitize::Order {
                how,
                immediate,
                unrestricted_exit,
                len,
            };
            sanitize::sanitize(open, order, data, task).await.map(|()| None)
        }
        Command::WriteSame {
            transfer,
            unmap,
            no_data,
            ..
        } => {
            medium()?;
            provisioning::write_same(open, transfer, unmap, no_data, &request.data)
                .await
                .map(|()| None)
        }
        Command::Unmap { .. } => {
            medium()?;
            provisioning::unmap(open, &request.data).await.map(|()| None)
        }
        // Answered before there had to be a unit.
        Command::Inquiry { .. } | Command::ReportLuns { .. } | Command::RequestSense { .. } => Err(Sense::INTERNAL),
    };
    let (moved, wanted) = match command.data(block_size) {
        Data::None => (Moved::Nothing, 0),
        Data::In(n) => (Moved::In, n),
        Data::Out(n) => (Moved::Out, n),
    };
    // WCE = 0: what has changed the medium without FUA of its own is made to last before its status goes out.
    let done = match done {
        Ok(None) if command.leaves_cached() && open.write_through() => open.settle().await.map(|()| None),
        done => done,
    };
    match done {
        Ok(data) => Ok(Outcome {
            data,
            moved,
            wanted,
            ..Outcome::good()
        }),
        // What came was taken, whatever became of it; what was not read is missing.
        Err(sense) if moved == Moved::Out => Ok(Outcome {
            moved,
            wanted,
            ..Outcome::failed(sense)
        }),
        Err(sense) => Err(sense),
    }
}

/// A command that took a list of `len` bytes, whatever became of it.
fn taken(len: u32, done: Result<Outcome, Sense>) -> Result<Outcome, Sense> {
    Ok(Outcome {
        moved: Moved::Out,
        wanted: len.into(),
        ..done.unwrap_or_else(Outcome::failed)
    })
}

fn finish(open: Option<&Open>, done: Result<Outcome, Sense>) -> Outcome {
    let outcome = done.unwrap_or_else(Outcome::failed);
    if let (Some(open), Some(sense)) = (open, &outcome.sense) {
        open.unit.log.failed(sense);
    }
    Outcome {
        descriptor_sense: open.is_some_and(|open| open.unit.settings().descriptor_sense),
        ..outcome
    }
}
