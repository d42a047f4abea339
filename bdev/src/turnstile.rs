//! Lets one change of the graph through at a time, on the control plane: a mutex that is awaited.
use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

#[derive(Default)]
pub(crate) struct Turnstile(Mutex<State>);

#[derive(Default)]
struct State {
    taken: bool,
    waiting: Vec<Waker>,
}

impl Turnstile {
    fn lock(&self) -> MutexGuard<'_, State> {
        reactor::counters::locked();
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else is inside. May be dropped while waiting.
    pub async fn enter(&self) -> Turn<'_> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if !std::mem::replace(&mut state.taken, true) {
                return Poll::Ready(());
            }
            state.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
        Turn(self)
    }
}

/// Inside until dropped.
pub(crate) struct Turn<'a>(&'a Turnstile);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.lock();
            state.taken = false;
            std::mem::take(&mut state.waiting)
        };
        // All of them: one that was woken may have been dropped since. Changes are few.
        waiting.into_iter().for_each(Waker::wake)
    }
}
