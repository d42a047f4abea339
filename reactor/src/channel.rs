//! Bounded channels between cores, and between cores and other threads: a lock-free ring of fixed size (crossbeam) and a waker.
//! A message costs no allocation, and a receiver that is awake costs the sender no wake.
use crate::{
    atomic::{AtomicUsize, Ordering, fence},
    atomic_waker::AtomicWaker,
};
use crossbeam_queue::ArrayQueue;
use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, atomic::AtomicBool},
    task::{Context, Poll, Waker},
};

/// A channel with room for `capacity` messages (at least one).
pub fn bounded<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let ring = Arc::new(Ring {
        queue: ArrayQueue::new(capacity.max(1)),
        receiver: AtomicWaker::new(),
        senders: AtomicUsize::new(1),
        closed: AtomicBool::new(false),
        blocked: AtomicUsize::new(0),
        blocked_wakers: Mutex::default(),
    });
    (
        Sender(ring.clone()),
        Receiver {
            ring,
            one_user: PhantomData,
        },
    )
}

struct Ring<T> {
    queue: ArrayQueue<T>,
    receiver: AtomicWaker,
    senders: AtomicUsize,
    /// The receiver is gone.
    closed: AtomicBool,
    /// How many senders wait for room: the receiver looks at this, and at the list only if it is not zero.
    blocked: AtomicUsize,
    blocked_wakers: Mutex<VecDeque<Waker>>,
}

impl<T> Ring<T> {
    fn empty(&self) {
        while self.queue.pop().is_some() {}
    }

    fn wake_blocked(&self) {
        // After the pop, before the look: the sender counts itself, then tries again.
        fence(Ordering::SeqCst);
        if self.blocked.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Woken under the lock: a waker only marks its task, and the list keeps its capacity.
        let mut list = self
            .blocked_wakers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        self.blocked.store(0, Ordering::Relaxed);
        list.drain(..).for_each(Waker::wake)
    }
}

/// The side that sends; as many as you like, on any thread.
pub struct Sender<T>(Arc<Ring<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.receiver.wake()
        }
    }
}

impl<T> Sender<T> {
    /// Sends if there is room and somebody to receive; else gives the message back.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(message);
        }
        self.0.queue.push(message)?;
        self.0.receiver.wake();
        // A receiver that went away meanwhile has emptied the queue before or after our push; in the first case this is left to us. Whoever
        // waits for an answer to the message learns from its drop.
        fence(Ordering::SeqCst);
        if self.is_closed() {
            self.0.empty()
        }
        Ok(())
    }

    /// Waits for room. The message comes back when the receiver is gone. Dropped while waiting, the message is not sent.
    pub async fn send(&self, message: T) -> Result<(), T> {
        let mut message = Some(message);
        std::future::poll_fn(|cx| self.poll_send(&mut message, cx)).await
    }

    fn poll_send(&self, message: &mut Option<T>, cx: &mut Context<'_>) -> Poll<Result<(), T>> {
        let mut counted = false;
        loop {
            let Some(it) = message.take() else {
                return Poll::Ready(Ok(()));
            };
            match self.try_send(it) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(it) if self.is_closed() => return Poll::Ready(Err(it)),
                Err(it) => *message = Some(it),
            }
            if std::mem::replace(&mut counted, true) {
                return Poll::Pending;
            }
            crate::counters::locked();
            let mut list = self
                .0
                .blocked_wakers
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            list.push_back(cx.waker().clone());
            self.0.blocked.fetch_add(1, Ordering::Relaxed);
            drop(list);
            // Before the second try, so that a receiver that makes room after it sees us.
            fence(Ordering::SeqCst);
        }
    }

    /// Is nobody left to receive?
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} queued)", self.0.queue.len())
    }
}

/// The side that receives. It may be sent to the core (or thread) that shall use it.
pub struct Receiver<T> {
    ring: Arc<Ring<T>>,
    one_user: PhantomData<Cell<()>>,
}

impl<T> Receiver<T> {
    /// The next message, if there is one.
    pub fn try_recv(&self) -> Option<T> {
        let message = self.ring.queue.pop()?;
        self.ring.wake_blocked();
        Some(message)
    }

    /// The next message; none when all senders are gone and the channel is empty. Dropped while waiting, nothing is lost.
    pub async fn recv(&self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Self::recv`], for hand-written futures.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(Some(message));
        }
        self.ring.receiver.register(cx.waker());
        // Looked at before the queue: what the last sender sent before it left is then seen.
        let ended = self.ring.senders.load(Ordering::Acquire) == 0;
        match self.try_recv() {
            Some(message) => Poll::Ready(Some(message)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Messages that wait to be received.
    pub fn len(&self) -> usize {
        self.ring.queue.len()
    }

    /// Is there no message?
    pub fn is_empty(&self) -> bool {
        self.ring.queue.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.ring.closed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.ring.empty();
        self.ring.wake_blocked()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({} queued)", self.len())
    }
}
