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
/// By number.
type Waiters<E> = HashMap<u64, oneshot::Sender<Answer<E>>>;

/// Those who wait.
pub(crate) struct Waiting<E> {
    next: AtomicU64,
    waiters: Mutex<Waiters<E>>,
}

impl<E> Default for Waiting<E> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            waiters: Mutex::default(),
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
        self.waiters().insert(number, done);
        (number, answer)
    }

    /// The answer has come.
    pub fn end(&self, number: u64, answer: Answer<E>) {
        let waiter = self.waiters().remove(&number);
        if let Some(waiter) = waiter {
            // Who has waited may have gone.
            let _ = waiter.send(answer);
        }
    }

    /// No answer will come any more.
    pub fn give_up(&self) {
        self.waiters().clear();
    }
}
