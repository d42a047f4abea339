//! SANITIZE (SBC-4 4.11, 5.34): the whole medium overwritten, deallocated, or made unreadable, in the background of the unit.
//!
//! ```text
//!   idle ── SANITIZE ──► running (progress) ──► idle
//!     ▲                      │ an I/O fails
//!     └── EXIT FAILURE MODE, if AUSE allowed it; or another SANITIZE that ends well ◄── failed
//! ```
//!
//! While it runs, every unit of the volume answers INQUIRY, REPORT LUNS and REQUEST SENSE and refuses all else, whoever asks. It belongs to
//! the volume and to no host: resets, logouts and the end of the session that began it leave it alone. It outlives the process, too: what
//! was under way is begun again at the pass it was in, and what has failed has still failed ([`keep`]). It has the volume
//! [to itself](bdev::Opened::exclusive), so no write that was under way before comes after it.
//!
//! CRYPTOGRAPHIC ERASE is for volumes that are a [crypt](bdev::module::crypt) device with a key of their own ([`Graph::can_rekey`]): the key is
//! replaced by a random one, in its file and in memory, before the host has its status. All blocks read as noise then.
pub mod keep;
mod state;

pub use state::{Registry, Sanitization};

use super::{block::writable, nexus::Open, server::sense_of, task_set::Task};
use bdev::{Exclusive, Io, IoError, IoResult, Opened, graph::Graph};
use keep::Kept;
use reactor::Buf;
use serde::{Deserialize, Serialize};
use spec::{
    BlockRange,
    scsi::{
        Sense,
        medium::{self, Overwrite, Sanitize},
    },
};
use std::{sync::Arc, time::Duration};

/// Bytes that are written at a time.
const STEP: u32 = 1 << 20;
/// Blocks that are deallocated at a time.
const ERASE_STEP: u32 = 1 << 20;
/// How often a host that did not set IMMED is thought of.
const LOOK: Duration = Duration::from_millis(5);

/// What is to be done to all blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Job {
    /// Write a pattern everywhere, some times.
    #[expect(missing_docs, reason = "see `Overwrite`")]
    Overwrite {
        passes: u8,
        invert: bool,
        pattern: Vec<u8>,
        /// Passes that are over and flushed.
        #[serde(default)]
        done: u8,
    },
    /// Deallocate everything.
    BlockErase,
    /// Forget the key.
    CryptographicErase,
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
    let state = &open.unit.sanitization;
    let job = match order.how {
        Sanitize::ExitFailureMode => return exit(state).await,
        Sanitize::BlockErase => Job::BlockErase,
        Sanitize::CryptographicErase => Job::CryptographicErase,
        Sanitize::Overwrite => parse(open, order.len, data)?,
    };
    let kept = Kept::running(job, order.unrestricted_exit);
    {
        let _turn = state.turn.lock().await;
        let Some(before) = state.begin() else {
            return Err(state.sense().unwrap_or(Sense::SANITIZING));
        };
        if state.keep(Some(&kept)).await.is_err() {
            state.restore(before);
            return Err(Sense::NO_RESOURCES);
        }
    }
    let (volume, disk, graph) = (open.unit.volume.clone(), open.disk.clone(), open.graph.clone());
    reactor::spawn_background(run(state.clone(), volume, disk, graph, kept));
    if order.immediate {
        return Ok(());
    }
    while state.is_running() {
        // Who aborts the command does not end the operation, and must not have to wait for it.
        if task.is_unwanted() {
            return Ok(());
        }
        reactor::sleep(LOOK).await
    }
    match state.sense() {
        None => Ok(()),
        Some(sense) => Err(sense),
    }
}

/// EXIT FAILURE MODE.
async fn exit(state: &Sanitization) -> Result<(), Sense> {
    let _turn = state.turn.lock().await;
    if !state.may_exit() {
        return Err(Sense::cdb_field(1, 4));
    }
    if state.keep(None).await.is_err() {
        return Err(Sense::NO_RESOURCES);
    }
    state.end(true, false);
    Ok(())
}

/// Goes on with what the last process left unfinished on a volume, if there is such a thing. On a reactor.
pub async fn resume(state: Arc<Sanitization>, graph: Graph, volume: String) {
    let Some(kept) = state.take_unfinished() else { return };
    match graph.open(&volume).await {
        Ok(disk) => {
            tracing::warn!(volume, "goes on with a sanitize that was under way when Ashlar ended");
            reactor::spawn_background(run(state, volume, disk, graph, kept))
        }
        Err(error) => {
            tracing::error!(volume, %error, "cannot go on with a sanitize; the unit stays unusable until it is sanitized again");
            state.end(false, kept.unrestricted_exit)
        }
    }
}

/// The parameter list of OVERWRITE.
fn parse(open: &Open, len: u16, data: &Buf) -> Result<Job, Sense> {
    let (len, block) = (usize::from(len), open.disk.block_size());
    // A header and something of a pattern, no more than a block.
    if !(5..=4 + block as usize).contains(&len) || data.len() < len {
        return Err(Sense::cdb_field(7, 7));
    }
    let how = medium::parse_overwrite(&data.slice(0..len).to_vec(), block).ok_or(Sense::INVALID_PARAMETER)?;
    Ok(Job::Overwrite {
        passes: how.passes,
        invert: how.invert,
        pattern: how.pattern,
        done: 0,
    })
}

async fn run(state: Arc<Sanitization>, volume: String, disk: Opened, graph: Graph, mut kept: Kept) {
    let blocks = disk.blocks();
    let held = disk.exclusive(0..blocks).await;
    let work = Work {
        held,
        state: &state,
        blocks,
        block_size: disk.block_size(),
        zeros_are_written: !disk.geometry().write_zeroes,
    };
    let done = match &kept.job {
        Job::Overwrite { .. } => work.overwrite(&mut kept).await,
        Job::BlockErase => work.erase().await,
        Job::CryptographicErase => forget(&graph, &volume).await,
    };
    if let Err(error) = done {
        let sense = sense_of(error, true);
        tracing::error!(volume, %error, asc = sense.asc, "sanitize failed; the unit stays unusable until it is sanitized again");
        kept.failed = true;
    }
    drop(work);
    // If the file cannot go, the next start would sanitize what is written from now on: then this has not ended well.
    let told = state.keep(kept.failed.then_some(&kept)).await;
    state.end(done.is_ok() && told.is_ok(), kept.unrestricted_exit)
}

/// Nobody is at the volume meanwhile, and what is below any cache of its is encrypted: there is nothing to flush.
async fn forget(graph: &Graph, volume: &str) -> IoResult {
    graph.rekey(volume).await.map_err(|error| {
        tracing::error!(volume, %error, "cryptographic erase");
        IoError::Device
    })
}

struct Work<'a> {
    held: Exclusive,
    state: &'a Sanitization,
    blocks: u64,
    block_size: u32,
    /// Zeros are written out here, and take space.
    zeros_are_written: bool,
}

impl Work<'_> {
    async fn overwrite(&self, kept: &mut Kept) -> IoResult {
        while let Job::Overwrite {
            passes,
            invert,
            pattern,
            done: pass,
        } = &kept.job
            && pass < passes
        {
            let (pass, how) = (
                *pass,
                Overwrite {
                    passes: *passes,
                    invert: *invert,
                    pattern: pattern.clone(),
                },
            );
            let (before, all) = [pass, how.passes].map(|n| self.blocks.saturating_mul(n.into())).into();
            self.fill(&how.block(pass, self.block_size), before, all).await?;
            // A pass that stays in a cache is no pass.
            self.held.perform(Io::flush()).await?;
            if let Job::Overwrite { done, .. } = &mut kept.job {
                *done = pass + 1
            }
            // If this is lost, the next start does one pass more.
            let _ = self.state.keep(Some(kept)).await;
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
            // Not an unmap alone, which is a hint: what was there is gone.
            let range = BlockRange::new(at, count);
            self.held.perform(Io::write_zeroes(range, true)).await?;
            // Behind a barrier the space is given back, too.
            if self.zeros_are_written {
                self.held.perform(Io::flush()).await?;
                self.held.perform(Io::unmap(range)).await?;
            }
            at += u64::from(count);
            self.state.progress(at, self.blocks);
            reactor::yield_now().await
        }
        self.held.perform(Io::flush()).await
    }
}
