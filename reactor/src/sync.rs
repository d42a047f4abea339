//! Waiting for each other on one core: no atomics, no allocation when warm.
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// An event on one core. [`Self::notify_one`] with nobody waiting is remembered, once.
#[derive(Default)]
pub struct Notify {
    /// In the order of their tickets.
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    /// Tickets that `notify_one` chose and that have not been polled since.
    chosen: RefCell<Vec<u64>>,
    /// Every ticket below this was woken by a `notify_all`.
    released: Cell<u64>,
    next: Cell<u64>,
    kept: Cell<bool>,
}

impl Notify {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the next notification. Dropped, it gives up its place; a notification meant for it goes to the next.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            notify: self,
            ticket: None,
        }
    }

    /// Wakes who has waited longest; if nobody waits, the next to wait does not have to.
    pub fn notify_one(&self) {
        let first = self.waiting.borrow_mut().pop_front();
        match first {
            Some((ticket, waker)) => {
                self.chosen.borrow_mut().push(ticket);
                waker.wake()
            }
            None => self.kept.set(true),
        }
    }

    /// Wakes all who wait now.
    pub fn notify_all(&self) {
        self.released.set(self.next.get());
        self.waiting.borrow_mut().drain(..).for_each(|(_, waker)| waker.wake())
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Notify({} waiting)", self.waiting())
    }
}

/// See [`Notify::wait`].
#[must_use = "a wait does nothing until it is awaited"]
pub struct Wait<'a> {
    notify: &'a Notify,
    ticket: Option<u64>,
}

impl Wait<'_> {
    /// Was this ticket chosen? If so, it is used up.
    fn chosen(&self, ticket: u64) -> bool {
        let mut chosen = self.notify.chosen.borrow_mut();
        chosen
            .iter()
            .position(|t| *t == ticket)
            .map(|i| chosen.swap_remove(i))
            .is_some()
    }
}

impl Future for Wait<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        match self.ticket {
            None if notify.kept.replace(false) => return Poll::Ready(()),
            None => {
                let ticket = notify.next.replace(notify.next.get() + 1);
                self.ticket = Some(ticket);
                notify.waiting.borrow_mut().push_back((ticket, cx.waker().clone()));
            }
            Some(ticket) => {
                let mut waiting = notify.waiting.borrow_mut();
                if let Ok(i) = waiting.binary_search_by_key(&ticket, |(t, _)| *t) {
                    waiting[i].1.clone_from(cx.waker());
                    return Poll::Pending;
                }
                drop(waiting);
                // A ticket that waits no more was chosen or released.
                self.chosen(ticket);
                self.ticket = None;
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut waiting = self.notify.waiting.borrow_mut();
        if let Ok(i) = waiting.binary_search_by_key(&ticket, |(t, _)| *t) {
            waiting.remove(i);
            return;
        }
        drop(waiting);
        if self.chosen(ticket) {
            self.notify.notify_one()
        }
    }
}

/// Waits for all its children, which may be up to `N`; the result is the first error, after all have finished. It allocates nothing.
pub struct Join<F: Future, const N: usize> {
    children: [Option<F>; N],
    used: usize,
    failed: Option<F::Output>,
}

impl<F, E, const N: usize> Join<F, N>
where
    F: Future<Output = Result<(), E>> + Unpin,
{
    /// No children yet: done at once.
    pub fn new() -> Self {
        Self {
            children: [const { None }; N],
            used: 0,
            failed: None,
        }
    }

    /// Adds a child. When there is no room, it is given back.
    pub fn push(&mut self, child: F) -> Result<(), F> {
        match self.children.get_mut(self.used) {
            Some(place) => {
                *place = Some(child);
                self.used += 1;
                Ok(())
            }
            None => Err(child),
        }
    }
}

impl<F, E, const N: usize> Default for Join<F, N>
where
    F: Future<Output = Result<(), E>> + Unpin,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<F, E, const N: usize> FromIterator<F> for Join<F, N>
where
    F: Future<Output = Result<(), E>> + Unpin,
{
    /// Panics if there are more than `N`: the caller chose both.
    fn from_iter<I: IntoIterator<Item = F>>(iter: I) -> Self {
        let mut join = Self::new();
        for child in iter {
            if join.push(child).is_err() {
                panic!("more than {N} children to join")
            }
        }
        join
    }
}

// The children are Unpin, and nothing points into the rest.
impl<F: Future + Unpin, const N: usize> Unpin for Join<F, N> {}

impl<F, E, const N: usize> Future for Join<F, N>
where
    F: Future<Output = Result<(), E>> + Unpin,
{
    type Output = Result<(), E>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let this = &mut *self;
        let mut pending = false;
        for place in &mut this.children[..this.used] {
            match place.as_mut().map(|child| Pin::new(child).poll(cx)) {
                Some(Poll::Ready(result)) => {
                    *place = None;
                    if result.is_err() && this.failed.is_none() {
                        this.failed = Some(result)
                    }
                }
                Some(Poll::Pending) => pending = true,
                None => (),
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(this.failed.take().unwrap_or(Ok(()))),
        }
    }
}

/// One lock for each key, for up to a fixed number of keys held at a time: those beyond wait too. First come, first served,
/// for each key.
pub struct KeyLocks {
    held: RefCell<Vec<u64>>,
    waiting: RefCell<VecDeque<Waiter>>,
    most: usize,
    next: Cell<u64>,
}

struct Waiter {
    ticket: u64,
    key: u64,
    granted: bool,
    waker: Waker,
}

impl KeyLocks {
    /// At most `most` keys held at a time. The held keys are searched one by one, so this is meant for tens, not thousands.
    pub fn new(most: usize) -> Self {
        Self {
            held: RefCell::new(Vec::with_capacity(most)),
            waiting: RefCell::new(VecDeque::with_capacity(most)),
            most: most.max(1),
            next: Cell::new(0),
        }
    }

    /// Waits until `key` is free. May be dropped while waiting.
    pub async fn lock(&self, key: u64) -> KeyGuard<'_> {
        Locking {
            locks: self,
            key,
            ticket: None,
        }
        .await;
        KeyGuard { locks: self, key }
    }

    /// Takes `key` if it is free and nobody waits for it.
    pub fn try_lock(&self, key: u64) -> Option<KeyGuard<'_>> {
        let waited_for = self.waiting.borrow().iter().any(|w| w.key == key);
        (!waited_for && self.take(key)).then_some(KeyGuard { locks: self, key })
    }

    fn take(&self, key: u64) -> bool {
        let mut held = self.held.borrow_mut();
        let free = held.len() < self.most && !held.contains(&key);
        if free {
            held.push(key)
        }
        free
    }

    fn release(&self, key: u64) {
        {
            let mut held = self.held.borrow_mut();
            if let Some(i) = held.iter().position(|k| *k == key) {
                held.swap_remove(i);
            }
        }
        // Whoever waited longest for a key that is free now gets it, before a newcomer can.
        for waiter in self.waiting.borrow_mut().iter_mut().filter(|w| !w.granted) {
            if self.take(waiter.key) {
                waiter.granted = true;
                waiter.waker.wake_by_ref()
            }
        }
    }
}

struct Locking<'a> {
    locks: &'a KeyLocks,
    key: u64,
    ticket: Option<u64>,
}

impl Future for Locking<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let locks = self.locks;
        let mut waiting = locks.waiting.borrow_mut();
        match self.ticket {
            None => {
                if !waiting.iter().any(|w| w.key == self.key) && locks.take(self.key) {
                    return Poll::Ready(());
                }
                let ticket = locks.next.replace(locks.next.get() + 1);
                self.ticket = Some(ticket);
                waiting.push_back(Waiter {
                    ticket,
                    key: self.key,
                    granted: false,
                    waker: cx.waker().clone(),
                });
            }
            Some(ticket) => {
                if let Ok(i) = waiting.binary_search_by_key(&ticket, |w| w.ticket) {
                    if waiting[i].granted {
                        waiting.remove(i);
                        self.ticket = None;
                        return Poll::Ready(());
                    }
                    waiting[i].waker.clone_from(cx.waker())
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Locking<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut waiting = self.locks.waiting.borrow_mut();
        let gone = waiting
            .binary_search_by_key(&ticket, |w| w.ticket)
            .ok()
            .and_then(|i| waiting.remove(i));
        drop(waiting);
        if gone.is_some_and(|w| w.granted) {
            self.locks.release(self.key)
        }
    }
}

/// The lock of one key; free again when this is dropped.
#[must_use = "the key is free again when the guard is dropped"]
pub struct KeyGuard<'a> {
    locks: &'a KeyLocks,
    key: u64,
}

impl KeyGuard<'_> {
    /// The key.
    pub fn key(&self) -> u64 {
        self.key
    }
}

impl Drop for KeyGuard<'_> {
    fn drop(&mut self) {
        self.locks.release(self.key)
    }
}
