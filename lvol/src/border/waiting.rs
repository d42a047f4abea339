//! Who waits for which answer: what both ends of the sockets keep.
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::oneshot;

/// Bytes, or why not.
pub(crate) type Answer<E> = Result<Vec<u8>, E>;
/// By number. None at all once no answer will come any more.
type Waiters<E> = Option<HashMap<u64, oneshot::Sender<Answer<E>>>>;

/// Those who wait.
pub(crate) struct Waiting<E> {
    next: AtomicU64,
    waiters: Mutex<Waiters<E>>,
}

impl<E> Default for Waiting<E> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            waiters: Mutex::new(Some(HashMap::new())),
        }
    }
}

impl<E> Waiting<E> {
    fn waiters(&self) -> MutexGuard<'_, Waiters<E>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number, and what will be the answer to what bears it; an error if none will come.
    pub fn begin(&self) -> (u64, oneshot::Receiver<Answer<E>>) {
        let number = self.next.fetch_add(1, Relaxed);
        let (done, answer) = oneshot::channel();
        // Without waiters `done` is dropped, and whoever waits learns at once that he does so in vain.
        if let Some(waiters) = &mut *self.waiters() {
            waiters.insert(number, done);
        }
        (number, answer)
    }

    /// The answer has come.
    pub fn end(&self, number: u64, answer: Answer<E>) {
        let waiter = self.waiters().as_mut().and_then(|waiters| waiters.remove(&number));
        if let Some(waiter) = waiter {
            // Who has waited may have gone.
            let _ = waiter.send(answer);
        }
    }

    /// No answer will come any more, neither to those who wait nor to those who begin to.
    pub fn give_up(&self) {
        *self.waiters() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_begins_to_wait_too_late_learns_it_at_once() {
        let waiting = Waiting::<()>::default();
        let (first, mut answer) = waiting.begin();
        waiting.end(first, Ok(vec![1]));
        assert_eq!(answer.try_recv(), Ok(Ok(vec![1])));
        let (_, mut early) = waiting.begin();
        waiting.give_up();
        let (_, mut late) = waiting.begin();
        for answer in [&mut early, &mut late] {
            assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }
}
