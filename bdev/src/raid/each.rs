//! Several I/Os of which each may fail by itself.
use crate::{IoError, IoResult, fan::FANOUT};
use reactor::IoFuture;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Sends all of them, a bounded number at a time, and waits for every one. Which failed is told, by the number that the caller gave it.
pub(crate) async fn each(
    parts: impl IntoIterator<Item = (usize, IoFuture<IoResult>)>,
    mut failed: impl FnMut(usize, IoError),
) {
    let mut parts = parts.into_iter().peekable();
    while parts.peek().is_some() {
        let mut join = Join {
            children: [const { None }; FANOUT],
            used: 0,
            failed: &mut failed,
        };
        for (slot, part) in join.children.iter_mut().zip(parts.by_ref().take(FANOUT)) {
            *slot = Some(part);
            join.used += 1
        }
        join.await
    }
}

struct Join<'a, F> {
    children: [Option<(usize, IoFuture<IoResult>)>; FANOUT],
    used: usize,
    failed: &'a mut F,
}

impl<F: FnMut(usize, IoError)> Future for Join<'_, F> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { children, used, failed } = &mut *self;
        let mut pending = false;
        for slot in &mut children[..*used] {
            let Some((at, child)) = slot else { continue };
            match Pin::new(child).poll(cx) {
                Poll::Ready(done) => {
                    if let Err(error) = done {
                        failed(*at, error)
                    }
                    *slot = None
                }
                Poll::Pending => pending = true,
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}
