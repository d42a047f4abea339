//! Delay: answers late, to see how everything above takes it.
//!
//! ```text
//!   submit ──► device below ──► answer ──► wait ──► answer
//!                                          avg; for one I/O in a hundred p99
//! ```
//!
//! Four latencies, as SPDK's delay device has them: average and 99th percentile, of reads and of everything else. They may be changed
//! while I/O is under way, from any thread, and count from the next answer on.
//!
//! docs/writing-a-module.md goes through this file line by line.
use crate::{BlockDevice, Disk, Geometry, Io, IoResult, Mapped, Op};
use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The four latencies. Clones are the same four, on whatever core.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Arc<[AtomicU64; 4]>);

/// One of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Of nearly every read.
    AvgRead,
    /// Of one read in a hundred.
    P99Read,
    /// Of nearly everything else.
    AvgWrite,
    /// Of one write, flush, unmap or write zeroes in a hundred.
    P99Write,
}

impl Latencies {
    /// Average and 99th percentile of reads, then of writes.
    pub fn new(avg_read: Duration, p99_read: Duration, avg_write: Duration, p99_write: Duration) -> Self {
        let all = Self::default();
        all.set(Latency::AvgRead, avg_read);
        all.set(Latency::P99Read, p99_read);
        all.set(Latency::AvgWrite, avg_write);
        all.set(Latency::P99Write, p99_write);
        all
    }

    /// Changes one of them.
    pub fn set(&self, which: Latency, to: Duration) {
        // Saturates after 584 years.
        self.0[which as usize].store(u64::try_from(to.as_nanos()).unwrap_or(u64::MAX), Relaxed)
    }

    /// One of them.
    pub fn get(&self, which: Latency) -> Duration {
        Duration::from_nanos(self.0[which as usize].load(Relaxed))
    }

    /// True if nothing is delayed.
    fn are_zero(&self) -> bool {
        self.0.iter().all(|one| one.load(Relaxed) == 0)
    }
}

/// See the [module](self).
pub struct Delay {
    below: Disk,
    latencies: Latencies,
    /// Operations so far, reads and others: each hundredth is a slow one.
    seen: [Cell<u32>; 2],
}

impl Delay {
    /// Delays what goes to `below`.
    pub fn new(below: Disk, latencies: Latencies) -> Self {
        Self {
            below,
            latencies,
            seen: Default::default(),
        }
    }

    fn latency(&self, op: Op) -> Duration {
        let (seen, avg, p99) = match op {
            Op::Read => (&self.seen[0], Latency::AvgRead, Latency::P99Read),
            Op::Write | Op::Flush | Op::Unmap | Op::WriteZeroes { .. } | Op::Allocation => {
                (&self.seen[1], Latency::AvgWrite, Latency::P99Write)
            }
        };
        seen.set((seen.get() + 1) % 100);
        self.latencies.get(if seen.get() == 0 { p99 } else { avg })
    }
}

impl BlockDevice for Delay {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    /// Only a delay of nothing can be had without waiting.
    fn map(&self, _io: &mut Io) -> Mapped<'_> {
        match self.latencies.are_zero() {
            true => Mapped::To(&self.below),
            false => Mapped::Stay,
        }
    }

    async fn submit(&self, io: Io) -> IoResult {
        let op = io.op;
        let done = self.below.submit(io).await;
        let latency = self.latency(op);
        if !latency.is_zero() {
            reactor::sleep(latency).await
        }
        done
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::null::Null;
    use reactor::Buf;
    use spec::BlockRange;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn ninety_nine_reads_are_average_and_one_is_not() {
        reactor::sim::run(async {
            let latencies = Latencies::new(micros(10), micros(500), micros(20), micros(900));
            let disk = Disk::new(Delay::new(
                Disk::new(Null::new(Geometry::plain(512, 8))),
                latencies.clone(),
            ));
            let took = async |io: Io| {
                let start = reactor::now();
                disk.submit(io).await.unwrap();
                reactor::now().since(start)
            };
            let one = BlockRange::new(0, 1);
            let mut reads = Vec::new();
            for _ in 0..100 {
                reads.push(took(Io::read(one, Buf::alloc(512))).await)
            }
            assert_eq!(reads[..99], vec![micros(10); 99]);
            assert_eq!(reads[99], micros(500));
            assert_eq!(took(Io::write(one, Buf::alloc(512))).await, micros(20));
            assert_eq!(
                took(Io::flush()).await,
                micros(20),
                "everything that is no read counts as a write"
            );

            latencies.set(Latency::AvgRead, micros(70));
            assert_eq!(
                took(Io::read(one, Buf::alloc(512))).await,
                micros(70),
                "changed from one I/O to the next"
            );
        })
    }
}
