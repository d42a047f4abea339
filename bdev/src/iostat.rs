//! What passed through the opens of one node on one core, in SPDK's terms: bytes, operations and latencies of reads, writes and
//! unmaps, and errors by kind.
//!
//! Counted where a slot performs an I/O on an open disk ([`Opened::perform`](crate::graph::Opened::perform)); what a node above sends to a
//! node below is counted at the top only, for it goes straight through (DESIGN D3). The stats module counts in the middle. A write of
//! zeroes counts as an unmap if it may deallocate, else as a write. A tick is a nanosecond.
use crate::{IoError, IoResult, Op};
use serde::{Deserialize, Serialize};
use std::{cell::Cell, collections::BTreeMap};

/// Ticks in a second.
pub const TICK_RATE: u64 = 1_000_000_000;

/// The counters of one node on one core.
#[derive(Default)]
pub struct Counters {
    sides: [Side; 3],
    errors: [Cell<u64>; IoError::ALL.len()],
    under_way: Cell<u64>,
}

struct Side {
    bytes: Cell<u64>,
    ops: Cell<u64>,
    ticks: Cell<u64>,
    max: Cell<u64>,
    min: Cell<u64>,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            bytes: Cell::new(0),
            ops: Cell::new(0),
            ticks: Cell::new(0),
            max: Cell::new(0),
            min: Cell::new(u64::MAX),
        }
    }
}

const READ: usize = 0;
const WRITE: usize = 1;
const UNMAP: usize = 2;

impl Counters {
    /// One more is under way.
    #[inline]
    pub fn begin(&self) {
        self.under_way.set(self.under_way.get() + 1)
    }

    /// One is done, with this result, after so many ticks.
    #[inline]
    pub fn end(&self, op: Op, bytes: u64, ticks: u64, done: IoResult) {
        self.under_way.set(self.under_way.get() - 1);
        let side = match op {
            Op::Read => READ,
            Op::Write | Op::WriteZeroes { unmap: false } => WRITE,
            Op::Unmap | Op::WriteZeroes { unmap: true } => UNMAP,
            Op::Flush | Op::Allocation => usize::MAX,
        };
        match (done, self.sides.get(side)) {
            (Ok(()), Some(side)) => {
                side.bytes.set(side.bytes.get() + bytes);
                side.ops.set(side.ops.get() + 1);
                side.ticks.set(side.ticks.get() + ticks);
                side.max.set(side.max.get().max(ticks));
                side.min.set(side.min.get().min(ticks))
            }
            (Ok(()), None) => (),
            (Err(error), _) => {
                let count = &self.errors[error.index()];
                count.set(count.get() + 1)
            }
        }
    }

    /// The figures as they are now.
    pub fn read(&self) -> Iostat {
        let [read, write, unmap] = [READ, WRITE, UNMAP].map(|side| &self.sides[side]);
        Iostat {
            bytes_read: read.bytes.get(),
            num_read_ops: read.ops.get(),
            bytes_written: write.bytes.get(),
            num_write_ops: write.ops.get(),
            bytes_unmapped: unmap.bytes.get(),
            num_unmap_ops: unmap.ops.get(),
            read_latency_ticks: read.ticks.get(),
            max_read_latency_ticks: read.max.get(),
            min_read_latency_ticks: read.min.get(),
            write_latency_ticks: write.ticks.get(),
            max_write_latency_ticks: write.max.get(),
            min_write_latency_ticks: write.min.get(),
            unmap_latency_ticks: unmap.ticks.get(),
            max_unmap_latency_ticks: unmap.max.get(),
            min_unmap_latency_ticks: unmap.min.get(),
            queue_depth: self.under_way.get(),
            io_error: IoError::ALL
                .into_iter()
                .filter(|error| self.errors[error.index()].get() > 0)
                .map(|error| (error.name().to_owned(), self.errors[error.index()].get()))
                .collect(),
        }
    }

    /// Starts some of them anew.
    pub fn reset(&self, what: Reset) {
        let all = what == Reset::All;
        for side in &self.sides {
            if all {
                [&side.bytes, &side.ops, &side.ticks]
                    .iter()
                    .for_each(|count| count.set(0));
            }
            if all || what == Reset::MaxMin {
                side.max.set(0);
                side.min.set(u64::MAX)
            }
        }
        if all || what == Reset::Error {
            self.errors.iter().for_each(|count| count.set(0))
        }
    }
}

/// What to start anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    /// Everything.
    All,
    /// The longest and shortest latencies.
    MaxMin,
    /// The counts of errors.
    Error,
    /// Nothing.
    #[default]
    None,
}

/// The figures of a node, of one core or of all. `min` figures are `u64::MAX` where nothing was counted; see [`Iostat::shown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // each field is what SPDK's `bdev_get_iostat` calls by this name
pub struct Iostat {
    pub bytes_read: u64,
    pub num_read_ops: u64,
    pub bytes_written: u64,
    pub num_write_ops: u64,
    pub bytes_unmapped: u64,
    pub num_unmap_ops: u64,
    pub read_latency_ticks: u64,
    pub max_read_latency_ticks: u64,
    pub min_read_latency_ticks: u64,
    pub write_latency_ticks: u64,
    pub max_write_latency_ticks: u64,
    pub min_write_latency_ticks: u64,
    pub unmap_latency_ticks: u64,
    pub max_unmap_latency_ticks: u64,
    pub min_unmap_latency_ticks: u64,
    pub queue_depth: u64,
    pub io_error: BTreeMap<String, u64>,
}

impl Default for Iostat {
    fn default() -> Self {
        Counters::default().read()
    }
}

impl Iostat {
    /// Adds the figures of another core.
    pub fn merge(&mut self, other: &Iostat) {
        self.bytes_read += other.bytes_read;
        self.num_read_ops += other.num_read_ops;
        self.bytes_written += other.bytes_written;
        self.num_write_ops += other.num_write_ops;
        self.bytes_unmapped += other.bytes_unmapped;
        self.num_unmap_ops += other.num_unmap_ops;
        self.read_latency_ticks += other.read_latency_ticks;
        self.write_latency_ticks += other.write_latency_ticks;
        self.unmap_latency_ticks += other.unmap_latency_ticks;
        self.queue_depth += other.queue_depth;
        let max = |mine: &mut u64, theirs: u64| *mine = (*mine).max(theirs);
        max(&mut self.max_read_latency_ticks, other.max_read_latency_ticks);
        max(&mut self.max_write_latency_ticks, other.max_write_latency_ticks);
        max(&mut self.max_unmap_latency_ticks, other.max_unmap_latency_ticks);
        let min = |mine: &mut u64, theirs: u64| *mine = (*mine).min(theirs);
        min(&mut self.min_read_latency_ticks, other.min_read_latency_ticks);
        min(&mut self.min_write_latency_ticks, other.min_write_latency_ticks);
        min(&mut self.min_unmap_latency_ticks, other.min_unmap_latency_ticks);
        for (error, count) in &other.io_error {
            *self.io_error.entry(error.clone()).or_default() += count
        }
    }

    /// As SPDK shows it: a shortest latency of nothing is 0.
    pub fn shown(mut self) -> Self {
        for min in [
            &mut self.min_read_latency_ticks,
            &mut self.min_write_latency_ticks,
            &mut self.min_unmap_latency_ticks,
        ] {
            *min = if *min == u64::MAX { 0 } else { *min }
        }
        self
    }
}
