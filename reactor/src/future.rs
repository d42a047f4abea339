//! `IoFuture`: a future of unknown type, whose storage comes from a free list of this core.
//!
//! An I/O that leaves `Disk::submit` unfinished leaves one of these behind (DESIGN D1). Storage comes in powers of two from 128 bytes to
//! 8 KiB and is never given back to the allocator while the thread lives, so a warm core allocates nothing. An answer known at once needs
//! no storage: it lies in the handle itself.
use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    ptr::{NonNull, null_mut},
    task::{Context, Poll},
};

/// log2 of the smallest block.
const SMALLEST: u32 = 7;
/// 128 bytes, … 8 KiB.
const CLASSES: usize = 7;
const LARGEST: usize = 1 << (SMALLEST as usize + CLASSES - 1);
/// A cache line, so that two futures never share one.
const ALIGN: usize = 64;

/// A future that gives a `T`, whatever its type. One core's own: neither `Send` nor `Sync`.
#[must_use = "an operation does nothing unless awaited"]
pub struct IoFuture<T>(State<T>);

enum State<T> {
    /// Owns a block that holds the future.
    Running(NonNull<dyn Future<Output = T>>),
    /// Nothing once it has been given out. With two variants only, a small `T` fits beside the null that tells them apart.
    Ready(Option<T>),
}

// A `T` is moved out when ready and never pinned; the future behind the pointer does not move with us.
impl<T> Unpin for IoFuture<T> {}

impl<T: 'static> IoFuture<T> {
    /// Moves `future` into pooled storage. Any size and alignment will do; beyond 8 KiB or 64 bytes it is the allocator's.
    #[inline]
    pub fn new<F: Future<Output = T> + 'static>(future: F) -> Self {
        let block = take(Layout::new::<F>()).cast::<F>();
        // SAFETY: the block is free, and at least as large and aligned as `F`.
        unsafe { block.write(future) };
        Self(State::Running(block))
    }
}
impl<T> IoFuture<T> {
    /// An answer that is known already. Takes no storage.
    #[inline]
    pub fn ready(value: T) -> Self {
        Self(State::Ready(Some(value)))
    }
    /// True if the next poll will not run anything.
    #[inline]
    pub fn is_ready(&self) -> bool {
        matches!(self.0, State::Ready(Some(_)))
    }
    /// The answer, if it is known already; otherwise the future itself.
    #[inline]
    pub fn now(mut self) -> Result<T, Self> {
        match &mut self.0 {
            State::Ready(value) => value.take().ok_or(self),
            State::Running(_) => Err(self),
        }
    }
}

impl<T> Future for IoFuture<T> {
    type Output = T;
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            // SAFETY: the future was moved into its block once and stays there until we drop it. We hold the only pointer to it.
            State::Running(future) => unsafe { Pin::new_unchecked(future.as_mut()).poll(cx) },
            State::Ready(value) => match value.take() {
                Some(value) => Poll::Ready(value),
                // The contract of `Future`: not to be polled after it was ready. Any `async` block does the same.
                None => panic!("an IoFuture was polled after it was ready"),
            },
        }
    }
}

impl<T> Drop for IoFuture<T> {
    #[inline]
    fn drop(&mut self) {
        if let State::Running(future) = &mut self.0 {
            // SAFETY: the block holds a future until now, and nobody uses either afterwards. Size and alignment, which the vtable knows, name
            // the layout it was taken with.
            unsafe {
                let layout = Layout::for_value(future.as_ref());
                future.drop_in_place();
                give(layout, future.cast());
            }
        }
    }
}

impl<T> fmt::Debug for IoFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Running(_) => "IoFuture(running)",
            State::Ready(Some(_)) => "IoFuture(ready)",
            State::Ready(None) => "IoFuture(done)",
        })
    }
}

// ---- storage ----

struct Blocks([Cell<*mut u8>; CLASSES]);
thread_local! { static FREE: Blocks = const { Blocks([const { Cell::new(null_mut()) }; CLASSES]) } }

/// The class for `layout`, or none if the allocator serves it.
#[inline(always)]
const fn class(layout: Layout) -> Option<usize> {
    if layout.size() > LARGEST || layout.align() > ALIGN {
        return None;
    }
    let size = if layout.size() < 1 << SMALLEST {
        1 << SMALLEST
    } else {
        layout.size()
    };
    // ceil(log2(size)), by counting the bits of size - 1
    Some((usize::BITS - (size - 1).leading_zeros() - SMALLEST) as usize)
}
fn block(class: usize) -> Layout {
    // SAFETY: a power of two for alignment, and at most 8 KiB.
    unsafe { Layout::from_size_align_unchecked(1 << (class + SMALLEST as usize), ALIGN) }
}

#[inline]
fn take(layout: Layout) -> NonNull<u8> {
    let Some(class) = class(layout) else {
        return fresh(outsize(layout));
    };
    let free = FREE.try_with(|free| {
        let block = NonNull::new(free.0[class].get())?;
        // SAFETY: a free block holds the address of the next in its first word.
        free.0[class].set(unsafe { block.cast::<*mut u8>().read() });
        Some(block)
    });
    free.ok().flatten().unwrap_or_else(|| fresh(block(class)))
}

/// What the allocator is asked for where there is no class. An empty future may want a large alignment.
fn outsize(layout: Layout) -> Layout {
    if layout.size() > 0 {
        return layout;
    }
    // SAFETY: as large as its alignment, which is a power of two and fitted a type.
    unsafe { Layout::from_size_align_unchecked(layout.align(), layout.align()) }
}

/// Storage from the allocator.
#[cold]
fn fresh(layout: Layout) -> NonNull<u8> {
    // SAFETY: not empty: neither a class nor what `outsize` returns.
    NonNull::new(unsafe { alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Safety
/// `block` came from `take(layout)` and nobody uses it any more.
#[inline]
unsafe fn give(layout: Layout, at: NonNull<u8>) {
    let Some(class) = class(layout) else {
        // SAFETY: as above; what has no class came straight from the allocator.
        return unsafe { dealloc(at.as_ptr(), outsize(layout)) };
    };
    let kept = FREE.try_with(|free| {
        // SAFETY: the block is free and longer than a word.
        unsafe { at.cast::<*mut u8>().write(free.0[class].get()) };
        free.0[class].set(at.as_ptr())
    });
    if kept.is_err() {
        // SAFETY: a block of this class; the thread is ending and has no list any more.
        unsafe { dealloc(at.as_ptr(), block(class)) }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for (class, first) in self.0.iter().enumerate() {
            while let Some(at) = NonNull::new(first.get()) {
                // SAFETY: a free block holds the address of the next, and was allocated with the layout of its class.
                unsafe {
                    first.set(at.cast::<*mut u8>().read());
                    dealloc(at.as_ptr(), block(class))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{rc::Rc, task::Waker};

    fn poll<T>(future: &mut IoFuture<T>) -> Poll<T> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
    /// Pending once, then gives `value`.
    async fn second_time<T>(value: T) -> T {
        let mut first = true;
        std::future::poll_fn(|_| {
            if std::mem::take(&mut first) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        value
    }

    #[test]
    fn an_answer_known_at_once_takes_no_storage() {
        assert_eq!(
            size_of::<IoFuture<Result<(), u8>>>(),
            2 * size_of::<usize>(),
            "the answer lies beside the pointer"
        );
        let mut known = IoFuture::ready(Ok::<(), u8>(()));
        assert!(known.is_ready());
        assert_eq!(poll(&mut known), Poll::Ready(Ok(())));
        assert_eq!(IoFuture::ready(5).now().unwrap(), 5);
        assert!(IoFuture::new(async { 5 }).now().is_err(), "not before it is polled");
    }

    #[test]
    fn storage_is_used_again() {
        let mut first = IoFuture::new(second_time([1u64; 40]));
        assert_eq!(poll(&mut first), Poll::Pending);
        let State::Running(at) = &first.0 else { panic!() };
        let at = at.cast::<u8>();
        drop(first);
        let mut second = IoFuture::new(second_time([2u64; 40]));
        let State::Running(again) = &second.0 else { panic!() };
        assert_eq!(at, again.cast());
        assert_eq!(poll(&mut second), Poll::Pending);
        assert_eq!(poll(&mut second), Poll::Ready([2; 40]));
    }

    #[test]
    fn every_size_and_alignment_will_do_and_all_are_dropped() {
        #[repr(align(256))]
        struct Wide<const N: usize>([u8; N]);
        let alive = Rc::new(());
        fn check<T: 'static>(alive: &Rc<()>, value: T) {
            let keep = alive.clone();
            let mut future = IoFuture::new(async move {
                let _keep = keep;
                second_time(value).await;
                7
            });
            assert_eq!(poll(&mut future), Poll::Pending);
            assert_eq!(poll(&mut future), Poll::Ready(7));
        }
        check(&alive, [0u8; 0]);
        check(&alive, [0u8; 100]);
        check(&alive, [0u8; 1000]);
        check(&alive, [0u8; 4000]);
        check(&alive, [0u8; 40_000]);
        check(&alive, Wide([0; 1]));
        check(&alive, Wide([0; 5000]));
        let unpolled = IoFuture::new(second_time(alive.clone()));
        assert_eq!(Rc::strong_count(&alive), 2);
        drop((unpolled, IoFuture::ready(alive.clone())));
        assert_eq!(Rc::strong_count(&alive), 1);

        #[repr(align(4096))]
        struct Empty;
        impl Future for Empty {
            type Output = usize;
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<usize> {
                Poll::Ready(&raw const *self as usize % 4096)
            }
        }
        assert_eq!(poll(&mut IoFuture::new(Empty)), Poll::Ready(0));
    }

    #[test]
    fn classes_are_powers_of_two() {
        let of = |size| class(Layout::from_size_align(size, 8).unwrap());
        assert_eq!(
            [0, 1, 128, 129, 256, 257, 8192].map(of),
            [0, 0, 0, 1, 1, 2, 6].map(Some)
        );
        assert_eq!(of(8193), None);
    }
}
