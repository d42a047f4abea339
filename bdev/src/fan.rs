//! Fan-out: one I/O becomes several, a bounded number at a time.
use crate::IoResult;
use reactor::IoFuture;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// How many parts of one I/O are under way at once. More are sent when these are done.
pub const FANOUT: usize = 32;

/// Sends all parts, at most [`FANOUT`] at a time, and waits for every one that was sent. The first error wins; parts not yet
/// sent when it shows are not sent any more.
pub async fn all(parts: impl IntoIterator<Item = IoFuture<IoResult>>) -> IoResult {
    let mut parts = parts.into_iter().peekable();
    while parts.peek().is_some() {
        parts.by_ref().take(FANOUT).collect::<Join>().await?
    }
    Ok(())
}

/// Waits for every child; the result is the first error, after all have finished.
struct Join {
    children: [Option<IoFuture<IoResult>>; FANOUT],
    used: usize,
    result: IoResult,
}

impl FromIterator<IoFuture<IoResult>> for Join {
    fn from_iter<I: IntoIterator<Item = IoFuture<IoResult>>>(parts: I) -> Self {
        let mut join = Self {
            children: [const { None }; FANOUT],
            used: 0,
            result: Ok(()),
        };
        for (slot, part) in join.children.iter_mut().zip(parts) {
            *slot = Some(part);
            join.used += 1
        }
        join
    }
}

impl Future for Join {
    type Output = IoResult;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoResult> {
        let Self { children, used, result } = &mut *self;
        let mut pending = false;
        for slot in &mut children[..*used] {
            match slot.as_mut().map(|child| Pin::new(child).poll(cx)) {
                Some(Poll::Ready(done)) => {
                    *slot = None;
                    *result = result.and(done)
                }
                Some(Poll::Pending) => pending = true,
                None => (),
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(*result),
        }
    }
}
