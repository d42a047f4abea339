//! Writers that go on where they ended: whether their stripes wait for the rest, so that a stripe is written whole and nothing has to be read.
//!
//! Waiting is given up for a while when nobody came, each time twice as long.
use super::array::State;
use reactor::Notify;
use spec::BlockRange;
use std::{cell::Cell, time::Duration};

/// How long a sequential writer's stripe waits for its rest, while that pays.
const PATIENCE: Duration = Duration::from_micros(500);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Sequel {
    /// Where the last writes ended.
    ends: [Cell<u64>; 8],
    next: Cell<usize>,
    /// So many more writes do not wait, because waiting did not pay.
    off: Cell<u32>,
    /// How long it was off last.
    span: Cell<u32>,
    more: Notify,
}

impl Sequel {
    /// Waits for the rest of a stripe, if a sequential writer is likely to bring it at once.
    pub async fn wait(&self, array: &State, stripe: u64, wide: u64, range: BlockRange) {
        let end = range.start.0 + u64::from(range.count);
        let follows = self
            .ends
            .iter()
            .position(|known| known.get() == range.start.0 && range.start.0 != 0);
        let first = range.start.0.is_multiple_of(wide);
        let slot = follows.unwrap_or_else(|| {
            self.next.set((self.next.get() + 1) % self.ends.len());
            self.next.get()
        });
        self.ends[slot].set(end);
        let whole = || array.gather.blocks(stripe) >= wide;
        if whole() {
            self.more.notify_all();
            return;
        }
        // Only who goes on where somebody ended is waited for, or who begins a stripe.
        if (follows.is_none() && !first) || u64::from(range.count) * 16 < wide {
            return;
        }
        if self.off.get() > 0 {
            self.off.set(self.off.get() - 1);
            return;
        }
        let came = reactor::timeout(PATIENCE, async {
            // Taken meanwhile: somebody else does it.
            while !whole() && array.gather.blocks(stripe) > 0 {
                self.more.wait().await
            }
        });
        match came.await {
            Ok(()) => self.span.set(0),
            Err(_) => {
                self.span.set((self.span.get() * 2 + 1).min(1023));
                self.off.set(self.span.get())
            }
        }
    }
}
