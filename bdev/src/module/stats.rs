//! Stats: counts operations, bytes and errors, and keeps a histogram of latencies for each kind of operation.
//!
//! It has to see completions, so it does not map: one frame per I/O. Each core counts for itself; a report adds the cores up. Latencies
//! are measured with the clock of the reactor's turn.
use crate::{
    BlockDevice, Disk, Geometry, Io, IoResult, Op,
    histogram::{Counts, Histogram},
};
use serde::{Deserialize, Serialize};
use std::{cell::Cell, rc::Rc};

/// The kinds of operations that are counted apart.
pub const KINDS: [&str; 6] = ["read", "write", "flush", "unmap", "write_zeroes", "allocation"];

const fn kind(op: Op) -> usize {
    match op {
        Op::Read => 0,
        Op::Write => 1,
        Op::Flush => 2,
        Op::Unmap => 3,
        Op::WriteZeroes { .. } => 4,
        Op::Allocation => 5,
    }
}

/// One core's counters. Clones are the same ones.
#[derive(Clone, Default)]
pub struct Counters(Rc<[Kind; KINDS.len()]>);

#[derive(Default)]
struct Kind {
    ops: Cell<u64>,
    bytes: Cell<u64>,
    errors: Cell<u64>,
    latencies: Histogram,
}

/// What was counted, for each of [`KINDS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report(pub [KindReport; KINDS.len()]);

/// What was counted for one kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindReport {
    /// Answered well.
    pub ops: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Answered with an error.
    pub errors: u64,
    /// Nanoseconds from submission to answer, of both.
    pub latencies: Counts,
}

impl Counters {
    /// What was counted so far.
    pub fn report(&self) -> Report {
        let one = |kind: &Kind| KindReport {
            ops: kind.ops.get(),
            bytes: kind.bytes.get(),
            errors: kind.errors.get(),
            latencies: kind.latencies.counts(),
        };
        Report(std::array::from_fn(|at| one(&self.0[at])))
    }

    /// Starts anew.
    pub fn reset(&self) {
        for kind in self.0.iter() {
            [&kind.ops, &kind.bytes, &kind.errors]
                .iter()
                .for_each(|count| count.set(0));
            kind.latencies.reset()
        }
    }
}

impl Report {
    /// What was counted for one operation.
    pub fn of(&self, op: Op) -> &KindReport {
        &self.0[kind(op)]
    }

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Report) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.ops += theirs.ops;
            mine.bytes += theirs.bytes;
            mine.errors += theirs.errors;
            mine.latencies.merge(&theirs.latencies)
        }
    }
}

/// See the [module](self).
pub struct Stats {
    below: Disk,
    counters: Counters,
}

impl Stats {
    /// Counts what goes to `below`.
    pub fn new(below: Disk, counters: Counters) -> Self {
        Self { below, counters }
    }
}

impl BlockDevice for Stats {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    async fn submit(&self, io: Io) -> IoResult {
        let counters = &self.counters.0[kind(io.op)];
        let (start, bytes) = (
            reactor::now(),
            u64::from(io.range.count) * u64::from(self.below.block_size()),
        );
        let done = self.below.submit(io).await;
        // Saturates after 584 years.
        let took = u64::try_from(reactor::now().since(start).as_nanos()).unwrap_or(u64::MAX);
        counters.latencies.add(took);
        match done {
            Ok(()) => {
                counters.ops.set(counters.ops.get() + 1);
                counters.bytes.set(counters.bytes.get() + bytes)
            }
            Err(_) => counters.errors.set(counters.errors.get() + 1),
        }
        done
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.below)
    }
}
