//! How fast an array is cared for: several steps at a time while hosts are quiet, and one small step after the other, with as long a pause behind it as it took, while they
//! are not.
//!
//! Steps end in any order and are told of in the order of their addresses, so whoever notes how far the work is notes what is really done.
use super::array::State;
use crate::{IoError, IoResult};
use reactor::Time;
use spec::BlockRange;
use std::{
    cell::Cell,
    collections::VecDeque,
    future::{Future, poll_fn},
    ops::Range,
    pin::Pin,
    task::Poll,
    time::Duration,
};

/// Bytes of each member that a step is about, and while hosts are busy.
const STEP: u64 = 512 << 10;
const SMALL: u64 = 128 << 10;
/// Bytes of each member that all steps under way are about.
const WINDOW: u64 = 4 << 20;
/// Steps under way, however small they are.
const DEPTH: usize = 32;
/// Hosts are quiet when nothing has come of them for so long.
const QUIET: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Pace {
    /// Blocks a second at most, of each member; 0: no limit.
    pub limit: Cell<u64>,
    /// When the next step may begin, for that.
    due: Cell<Time>,
    /// Blocks that were counted, and then had not to be touched.
    spared: Cell<u64>,
    /// I/Os of hosts that were seen, and when the last of them was.
    seen: Cell<u64>,
    last: Cell<Option<Time>>,
    /// Steps that may be under way: more each time that all went well.
    depth: Cell<usize>,
}

impl Pace {
    /// Whether hosts, who have sent so many I/Os by now, want the members.
    fn is_busy(&self, ios: u64) -> bool {
        let now = reactor::now();
        if self.seen.replace(ios) != ios {
            self.last.set(Some(now))
        }
        let busy = self.last.get().is_some_and(|last| now.since(last) < QUIET);
        if busy {
            self.depth.set(1)
        }
        busy
    }

    /// How long the next step has to wait for its turn under the limit.
    fn wait(&self) -> Duration {
        match self.limit.get() {
            0 => Duration::ZERO,
            _ => self.due.get().since(reactor::now()),
        }
    }

    /// So many blocks of a step need not be touched: the next steps may have them.
    pub fn spare(&self, blocks: u64) {
        if self.limit.get() > 0 {
            self.spared.set(self.spared.get() + blocks)
        }
    }

    fn spend(&self, blocks: u64) {
        let spared = self.spared.get().min(blocks);
        self.spared.set(self.spared.get() - spared);
        let blocks = blocks - spared;
        let limit = self.limit.get();
        if limit > 0 {
            let takes = Duration::from_secs_f64(blocks as f64 / limit as f64);
            self.due.set(self.due.get().max(reactor::now()) + takes)
        }
    }
}

/// What a step is about, when it began, and how many blocks it found different.
type Done = (BlockRange, Time, Result<u64, IoError>);

/// Steps that are under way, in the order of their addresses.
struct Window<F>(VecDeque<(BlockRange, Time, Step<F>)>);

enum Step<F> {
    Runs(Pin<Box<F>>),
    Ended(Result<u64, IoError>),
}

impl<F: Future<Output = Result<u64, IoError>>> Window<F> {
    /// Waits for the first; nothing if there is none.
    async fn next(&mut self) -> Option<Done> {
        poll_fn(|cx| {
            for (_, _, step) in &mut self.0 {
                if let Step::Runs(future) = step
                    && let Poll::Ready(done) = future.as_mut().poll(cx)
                {
                    *step = Step::Ended(done)
                }
            }
            match self.0.front() {
                Some((_, _, Step::Runs(_))) => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
        match self.0.pop_front()? {
            (range, began, Step::Ended(done)) => Some((range, began, done)),
            // It waited for that.
            (_, _, Step::Runs(_)) => None,
        }
    }
}

impl State {
    /// Does a step for each stretch of a range, and tells of each what it found, in order. An error: one failed or could not be told of, or all is to end.
    pub(super) async fn steps<F: Future<Output = Result<u64, IoError>>>(
        &self,
        range: Range<u64>,
        step: impl Fn(BlockRange) -> F,
        mut told: impl AsyncFnMut(BlockRange, u64) -> IoResult,
    ) -> IoResult {
        let pace = &self.care.pace;
        pace.depth.set(1);
        let (mut window, mut at, mut result) = (Window(VecDeque::new()), range.start, Ok(()));
        loop {
            while result.is_ok() && at < range.end {
                if self.care.is_stopped() {
                    result = Err(IoError::Aborted);
                    break;
                }
                let busy = pace.is_busy(self.ios.get());
                let stretch = self.stretch(at..range.end, if busy { SMALL } else { STEP });
                let room = (WINDOW / self.bytes(stretch.count).max(1) as u64).clamp(1, DEPTH as u64);
                if window.0.len() >= pace.depth.get().min(room as usize) {
                    break;
                }
                let wait = pace.wait();
                if self.care.is_paused() || !wait.is_zero() {
                    if !window.0.is_empty() {
                        break;
                    }
                    self.care.doze(wait).await;
                    self.care.unpaused().await;
                    continue;
                }
                pace.spend(stretch.count.into());
                at += u64::from(stretch.count);
                window
                    .0
                    .push_back((stretch, reactor::now(), Step::Runs(Box::pin(step(stretch)))));
            }
            let Some((stretch, began, done)) = window.next().await else {
                return result;
            };
            match done {
                Ok(differ) if result.is_ok() => {
                    self.care.advance(stretch.count.into(), differ);
                    result = told(stretch, differ).await
                }
                Ok(_) => (),
                Err(error) => result = result.and(Err(error)),
            }
            match pace.is_busy(self.ios.get()) {
                true if window.0.is_empty() => reactor::sleep(reactor::now().since(began)).await,
                true => (),
                false => {
                    pace.depth.set((pace.depth.get() * 2).min(DEPTH));
                    reactor::yield_now().await
                }
            }
        }
    }

    /// The first stretch of a range that one step does, of so many bytes at most: within a chunk, or a stripe.
    fn stretch(&self, range: Range<u64>, bytes: u64) -> BlockRange {
        let most = (bytes / u64::from(self.block_size())).max(1);
        let left = (range.end - range.start).min(most);
        let left = match self.places().chunk() {
            Some(chunk) => left.min(u64::from(chunk) - range.start % u64::from(chunk)),
            None => left,
        };
        // At most a step.
        BlockRange::new(range.start, left as u32)
    }
}
