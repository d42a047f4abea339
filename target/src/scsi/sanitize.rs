//! SANITIZE (SBC-4 4.11, 5.34): the whole medium overwritten or deallocated, in the background of the unit.
//!
//! ```text
//!   idle ── SANITIZE ──► running (progress) ──► idle
//!     ▲                      │ an I/O fails
//!     └── EXIT FAILURE MODE, if AUSE allowed it; or another SANITIZE that ends well ◄── failed
//! ```
//!
//! While it runs, the unit answers INQUIRY, REPORT LUNS and REQUEST SENSE and refuses all else, whoever asks. It belongs to the unit and to
//! no host: resets, logouts and the end of the session that began it leave it alone. The end of the process ends it, and nothing is
//! remembered of it then. It has the volume [to itself](bdev::Opened::exclusive), so no write that was under way before comes after it.
//! There is no CRYPTOGRAPHIC ERASE: nothing here is encrypted, so no key could be forgotten.
use super::{block::writable, nexus::Open, server::sense_of, task_set::Task, unit::Unit};
use bdev::{Exclusive, Io, IoError, IoResult, Opened};
use reactor::Buf;
use spec::{
    BlockRange,
    scsi::{
        Sense,
        medium::{self, Overwrite, Sanitize},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

/// Bytes that are written at a time.
const STEP: u32 = 1 << 20;
/// Blocks that are deallocated at a time.
const ERASE_STEP: u32 = 1 << 20;
/// How often a host that did not set IMMED is thought of.
const LOOK: Duration = Duration::from_millis(5);

/// Whether an operation is under way, or has failed. One word that every command looks at.
#[derive(Debug, Default)]
pub struct Sanitization(AtomicU32);

const IDLE: u32 = 0;
/// With the progress in the lower half: 65,536ths.
const RUNNING: u32 = 1 << 16;
const FAILED: u32 = 2 << 16;
/// Failed, and EXIT FAILURE MODE will do.
const FAILED_UNRESTRICTED: u32 = 3 << 16;
const KIND: u32 = 0xffff_0000;

impl Sanitization {
    /// Why the unit does nothing else just now.
    pub fn sense(&self) -> Option<Sense> {
        let now = self.0.load(Relaxed);
        match now & KIND {
            IDLE => None,
            RUNNING => Some(Sense::SANITIZING.with_progress(now as u16)),
            _ => Some(Sense::SANITIZE_FAILED),
        }
    }

    fn is_running(&self) -> bool {
        self.0.load(Relaxed) & KIND == RUNNING
    }

    /// From idle or failed to running. False if it runs already.
    fn begin(&self) -> bool {
        let start = |now| (now & KIND != RUNNING).then_some(RUNNING);
        self.0.fetch_update(Relaxed, Relaxed, start).is_ok()
    }

    fn progress(&self, done: u64, all: u64) {
        let part = u128::from(done) * 0xffff / u128::from(all.max(1));
        self.0.store(RUNNING | part.min(0xffff) as u32, Relaxed)
    }

    fn end(&self, done: IoResult, unrestricted_exit: bool) {
        let state = match (done, unrestricted_exit) {
            (Ok(()), _) => IDLE,
            (Err(_), true) => FAILED_UNRESTRICTED,
            (Err(_), false) => FAILED,
        };
        self.0.store(state, Relaxed)
    }

    /// EXIT FAILURE MODE. False if the operation that failed did not allow it.
    fn exit(&self) -> bool {
        let leave = |now| (now != FAILED).then_some(IDLE);
        self.0.fetch_update(Relaxed, Relaxed, leave).is_ok()
    }
}

/// What is to be done to all blocks.
enum Job {
    Overwrite(Overwrite),
    Erase,
}

/// The fields of the command block.
pub(super) struct Order {
    pub how: Sanitize,
    pub immediate: bool,
    pub unrestricted_exit: bool,
    pub len: u16,
}

pub(super) async fn sanitize(open: &Open, order: Order, data: &Buf, task: &Task<'_>) -> Result<(), Sense> {
    writable(open)?;
    let job = match order.how {
        Sanitize::ExitFailureMode => {
            return match open.unit.sanitization.exit() {
                true => Ok(()),
                false => Err(Sense::cdb_field(1, 4)),
            };
        }
        Sanitize::BlockErase => Job::Erase,
        Sanitize::Overwrite => Job::Overwrite(parse(open, order.len, data)?),
    };
    if !open.unit.sanitization.begin() {
        return Err(open.unit.sanitization.sense().unwrap_or(Sense::SANITIZING));
    }
    let (unit, disk) = (open.unit.clone(), open.disk.clone());
    reactor::spawn_background(run(unit, disk, job, order.unrestricted_exit));
    if order.immediate {
        return Ok(());
    }
    while open.unit.sanitization.is_running() {
        // Who aborts the command does not end the operation, and must not have to wait for it.
        if task.is_aborted() {
            return Ok(());
        }
        reactor::sleep(LOOK).await
    }
    match open.unit.sanitization.sense() {
        None => Ok(()),
        Some(sense) => Err(sense),
    }
}

/// The parameter list of OVERWRITE.
fn parse(open: &Open, len: u16, data: &Buf) -> Result<Overwrite, Sense> {
    let (len, block) = (usize::from(len), open.disk.block_size());
    // A header and something of a pattern, no more than a block.
    if !(5..=4 + block as usize).contains(&len) || data.len() < len {
        return Err(Sense::cdb_field(7, 7));
    }
    medium::parse_overwrite(&data.slice(0..len).to_vec(), block).ok_or(Sense::INVALID_PARAMETER)
}

async fn run(unit: Arc<Unit>, disk: Opened, job: Job, unrestricted_exit: bool) {
    let blocks = disk.blocks();
    let held = disk.exclusive(0..blocks).await;
    let work = Work {
        held,
        state: &unit.sanitization,
        blocks,
        block_size: disk.block_size(),
    };
    let done = match job {
        Job::Overwrite(how) => work.overwrite(&how).await,
        Job::Erase => work.erase().await,
    };
    if let Err(error) = done {
        let sense = sense_of(error, true);
        tracing::error!(volume = %unit.volume, lun = unit.lun.number(), %error, asc = sense.asc, "sanitize failed; the unit stays unusable until it is sanitized again");
    }
    drop(work);
    unit.sanitization.end(done, unrestricted_exit)
}

struct Work<'a> {
    held: Exclusive,
    state: &'a Sanitization,
    blocks: u64,
    block_size: u32,
}

impl Work<'_> {
    async fn overwrite(&self, how: &Overwrite) -> IoResult {
        let all = self.blocks.saturating_mul(how.passes.into());
        for pass in 0..how.passes {
            let before = self.blocks * u64::from(pass);
            self.fill(&how.block(pass, self.block_size), before, all).await?;
            // A pass that stays in a cache is no pass.
            self.held.perform(Io::flush()).await?
        }
        Ok(())
    }

    /// Writes `block` everywhere.
    async fn fill(&self, block: &[u8], before: u64, all: u64) -> IoResult {
        let step = (STEP / self.block_size).max(1);
        let pattern = Buf::try_alloc(step as usize * block.len()).ok_or(IoError::NoSpace)?;
        (0..step as usize).for_each(|i| pattern.write_at(i * block.len(), block));
        let mut at = 0;
        while at < self.blocks {
            let count = (self.blocks - at).min(step.into()) as u32;
            let data = pattern.slice(0..count as usize * block.len());
            self.held.perform(Io::write(BlockRange::new(at, count), data)).await?;
            at += u64::from(count);
            self.state.progress(before + at, all);
            // A disk that answers at once leaves nobody else a turn.
            reactor::yield_now().await
        }
        Ok(())
    }

    async fn erase(&self) -> IoResult {
        let mut at = 0;
        while at < self.blocks {
            let count = (self.blocks - at).min(ERASE_STEP.into()) as u32;
            // Not an unmap, which is a hint: afterwards these are zeros.
            self.held
                .perform(Io::write_zeroes(BlockRange::new(at, count), true))
                .await?;
            at += u64::from(count);
            self.state.progress(at, self.blocks);
            reactor::yield_now().await
        }
        self.held.perform(Io::flush()).await
    }
}
