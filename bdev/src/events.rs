//! What happens to nodes, told to whoever subscribed.
use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

/// Something happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A node was built.
    Added {
        /// Its name.
        name: String,
    },
    /// A node was removed.
    Removed {
        /// The name it had.
        name: String,
    },
    /// A node is built from another table now.
    Replaced {
        /// Its name.
        name: String,
    },
    /// A node has another length.
    Resized {
        /// Its name.
        name: String,
        /// How many blocks now.
        blocks: u64,
    },
    /// A node, or one below it, is gone; its I/O fails.
    Orphaned {
        /// Its name.
        name: String,
        /// What happened, in words.
        reason: String,
    },
    /// A node that was orphaned works again.
    Restored {
        /// Its name.
        name: String,
    },
    /// An array has lost a member, or one has been rebuilt: its members' superblocks say so.
    Rearranged {
        /// Its name.
        name: String,
        /// Every place has a member that holds what it should.
        whole: bool,
    },
    /// The subscriber was too slow: this many events before the next are missing. Look at the nodes themselves.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Events a slow subscriber may leave lying.
const BACKLOG: usize = 4096;

#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn wake(&self) {
        let waker = self.lock().waker.take();
        self.more.notify_all();
        if let Some(waker) = waker {
            waker.wake()
        }
    }
}

impl Waiting {
    fn push(&mut self, event: Event) {
        if self.events.len() >= BACKLOG {
            // The oldest go: the newest say how things stand.
            self.missed += self.events.len() as u64;
            self.events.clear()
        }
        self.events.push_back(event)
    }
    fn next(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.missed) {
            0 => self.events.pop_front(),
            count => Some(Event::Missed { count }),
        }
    }
}

/// The subscribers of one graph.
#[derive(Default)]
pub(crate) struct Events(Mutex<Vec<Weak<Queue>>>);

impl Events {
    fn all(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn subscribe(&self) -> Subscription {
        let queue = Arc::new(Queue::default());
        self.all().push(Arc::downgrade(&queue));
        Subscription(queue)
    }
    pub fn tell(&self, event: Event) {
        tracing::debug!(?event, "graph");
        let mut all = self.all();
        all.retain(|queue| queue.strong_count() > 0);
        let queues: Vec<Arc<Queue>> = all.iter().filter_map(Weak::upgrade).collect();
        // All have it before one of them sees it: who is woken by one subscription goes by what lies in another.
        let mut locked: Vec<_> = queues.iter().map(|queue| queue.lock()).collect();
        locked.iter_mut().for_each(|waiting| waiting.push(event.clone()));
        drop(locked);
        queues.iter().for_each(|queue| queue.wake())
    }
    fn close(&self) {
        for queue in self.all().drain(..).filter_map(|queue| queue.upgrade()) {
            queue.lock().closed = true;
            queue.wake()
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.close()
    }
}

/// The events since it was made, in order. Use it from one place, blocking or asynchronously.
pub struct Subscription(Arc<Queue>);

impl Subscription {
    /// The next event, if there is one.
    pub fn try_recv(&self) -> Option<Event> {
        self.0.lock().next()
    }

    /// The next event, or none if there is none in time or the graph has ended. Blocks: for control threads.
    pub fn recv_timeout(&self, patience: Duration) -> Option<Event> {
        let until = Instant::now() + patience;
        let mut waiting = self.0.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match waiting.next() {
                Some(event) => return Some(event),
                None if waiting.closed || left.is_zero() => return None,
                None => {
                    waiting = self
                        .0
                        .more
                        .wait_timeout(waiting, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            }
        }
    }

    /// Waits for the next event on any executor; none when the graph has ended. May be dropped while waiting.
    pub async fn recv(&self) -> Option<Event> {
        poll_fn(|cx| {
            let mut waiting = self.0.lock();
            match waiting.next() {
                Some(event) => Poll::Ready(Some(event)),
                None if waiting.closed => Poll::Ready(None),
                None => {
                    waiting.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_subscriber_is_told_what_it_missed() {
        let events = Events::default();
        let mine = events.subscribe();
        for n in 0..=BACKLOG {
            events.tell(Event::Added { name: format!("n{n}") })
        }
        assert_eq!(mine.try_recv(), Some(Event::Missed { count: BACKLOG as u64 }));
        assert_eq!(
            mine.try_recv(),
            Some(Event::Added {
                name: format!("n{BACKLOG}")
            })
        );
        assert_eq!(mine.try_recv(), None);
        drop(events);
        assert_eq!(
            mine.recv_timeout(Duration::from_secs(60)),
            None,
            "ended, so no use waiting"
        );
    }
}
