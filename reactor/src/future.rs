//! `IoFuture`: a future of unknown type, whose storage comes from a free list of this core.
//!
//! An I/O that leaves `Disk::submit` unfinished leaves one of these behind (DESIGN D1). Storage comes in powers of two from 128 bytes to
//! 8 KiB and is never given back to the allocator while the thread lives, so a warm core allocates nothing. An answer known at once needs
//! no storage: it lies in the handle itself.
//!
//! **\[LENT\]** A future that borrows from somebody ([`Serve`]) lies in one block with it, in a [`Frame`]. The block is pinned, so what is
//! borrowed does not move; the future is dropped first, and both before the block is used again, so the borrow ends before what it is of.
//! That the future's type says `'static` is nobody's licence: `serve` is written for every lifetime, so it cannot keep the reference
//! anywhere but in the future it returns.
use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::Cell,
    fmt,
    future::Future,
    marker::PhantomPinned,
    mem::{self, MaybeUninit},
    num::NonZero,
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
///
/// Two words that travel in registers: a function that returns one writes no memory which its caller would have to wait for.
#[must_use = "an operation does nothing unless awaited"]
pub struct IoFuture<T> {
    /// The block that holds the future, which is ours; or [`READY`] or [`GIVEN`].
    at: NonNull<()>,
    /// The [`Functions`] of the future; with [`READY`] the answer; then nothing.
    rest: MaybeUninit<*const Functions<T>>,
}

/// There is no future, for the answer is here.
const READY: NonNull<()> = NonNull::without_provenance(NonZero::<usize>::MIN);
/// The answer has been given out. No block has such an address: they are aligned.
const GIVEN: NonNull<()> = NonNull::without_provenance(NonZero::<usize>::MIN.saturating_add(1));

/// What can be done with a future of a type that is forgotten.
///
/// # Safety
/// Both take a block that holds a future of that type; after `end` it holds none and is free.
struct Functions<T> {
    poll: unsafe fn(NonNull<()>, &mut Context<'_>) -> Poll<T>,
    end: unsafe fn(NonNull<()>),
}

impl<T> Functions<T> {
    const fn of<F: Future<Output = T>>() -> &'static Self
    where
        T: 'static,
    {
        const {
            &Self {
                // SAFETY: by contract an `F`. It was moved into its block once and stays there until it is dropped.
                poll: |at, cx| unsafe { Pin::new_unchecked(at.cast::<F>().as_mut()).poll(cx) },
                // SAFETY: by contract an `F`, in a block that was taken for one.
                end: |at| unsafe {
                    at.cast::<F>().drop_in_place();
                    give(Layout::new::<F>(), at.cast());
                },
            }
        }
    }
}

// A `T` is moved out when ready and never pinned; the future in the block does not move with us.
impl<T> Unpin for IoFuture<T> {}

impl<T: 'static> IoFuture<T> {
    /// Moves `future` into pooled storage. Any size and alignment will do; beyond 8 KiB or 64 bytes it is the allocator's.
    #[inline]
    pub fn new<F: Future<Output = T> + 'static>(future: F) -> Self {
        let block = take(Layout::new::<F>()).cast::<F>();
        // SAFETY: the block is free, and at least as large and aligned as `F`.
        unsafe { block.write(future) };
        Self::running(block)
    }

    /// Owns `block`, which holds a future.
    #[inline]
    fn running<F: Future<Output = T>>(block: NonNull<F>) -> Self {
        Self {
            at: block.cast(),
            rest: MaybeUninit::new(Functions::of::<F>()),
        }
    }

    /// Lends `server` to the future that answers `ask`, both in pooled storage. The future is made where it stays: nothing is moved but
    /// `server` and `ask`.
    #[inline]
    pub fn lent<S: Serve<Answer = T>>(server: S, ask: S::Ask) -> Self {
        Self::frame(server, |server| server.serve(ask))
    }

    #[inline(always)]
    fn frame<S: 'static, F: Future<Output = T> + 'static>(server: S, serve: impl FnOnce(&'static S) -> F) -> Self {
        // First of all, so that nothing can fail while the future is on its way into the block.
        let vacant = Vacant(take(Layout::new::<Frame<S, F>>()).cast::<Frame<S, F>>());
        let frame = vacant.0.as_ptr();
        // SAFETY: the block is free, and as large and aligned as the frame. [LENT] by the order of the frame's fields; `Vacant` drops the
        // server if `serve` panics.
        unsafe {
            (&raw mut (*frame).server).write(server);
            (&raw mut (*frame).future).write(serve(&(*frame).server));
        }
        let block = vacant.0;
        mem::forget(vacant);
        Self::running(block)
    }
}

impl<T> IoFuture<T> {
    /// An answer that is known already. Takes no storage; a `T` is at most a word.
    #[inline]
    pub fn ready(value: T) -> Self {
        const { assert!(size_of::<T>() <= size_of::<usize>() && align_of::<T>() <= align_of::<usize>()) }
        let mut rest = MaybeUninit::<*const Functions<T>>::uninit();
        // SAFETY: a `T` fits into `rest`.
        unsafe { rest.as_mut_ptr().cast::<T>().write(value) };
        Self { at: READY, rest }
    }
    /// True if the next poll will not run anything.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.at == READY
    }
    /// The answer, if it is known already; otherwise the future itself.
    #[inline]
    pub fn now(mut self) -> Result<T, Self> {
        self.give_out().ok_or(self)
    }

    /// The answer, if it is here.
    #[inline]
    fn give_out(&mut self) -> Option<T> {
        if self.at != READY {
            return None;
        }
        self.at = GIVEN;
        // SAFETY: with READY there was a `T` in `rest`, and now it is ours.
        Some(unsafe { self.rest.as_ptr().cast::<T>().read() })
    }

    /// The functions of the future, if there is one.
    #[inline]
    fn functions(&self) -> Option<&Functions<T>> {
        // SAFETY: with neither READY nor GIVEN, `rest` holds a reference to functions, which are constants.
        (self.at != READY && self.at != GIVEN).then(|| unsafe { &*self.rest.assume_init() })
    }
}

impl<T> Future for IoFuture<T> {
    type Output = T;
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(functions) = self.functions() {
            // SAFETY: a block with a future, and the functions for it. We hold the only pointer to it.
            return unsafe { (functions.poll)(self.at, cx) };
        }
        match self.give_out() {
            Some(value) => Poll::Ready(value),
            // The contract of `Future`: not to be polled after it was ready. Any `async` block does the same.
            None => panic!("an IoFuture was polled after it was ready"),
        }
    }
}

impl<T> Drop for IoFuture<T> {
    #[inline]
    fn drop(&mut self) {
        match self.functions() {
            // SAFETY: as for a poll; nobody uses the block afterwards.
            Some(functions) => unsafe { (functions.end)(self.at) },
            None => drop(self.give_out()),
        }
    }
}

impl<T> fmt::Debug for IoFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.at {
            at if at == READY => "IoFuture(ready)",
            at if at == GIVEN => "IoFuture(done)",
            _ => "IoFuture(running)",
        })
    }
}

/// Somebody who answers one question and is needed until it is answered: the device under an I/O.
pub trait Serve: 'static {
    /// What is asked.
    type Ask;
    /// What comes of it.
    type Answer;
    /// Answers. Runs once, where [`IoFuture::lent`] has put this.
    fn serve(&self, ask: Self::Ask) -> impl Future<Output = Self::Answer>;
}

/// A future and whom it borrows from. [LENT]: the fields are dropped in this order.
struct Frame<S, F> {
    future: F,
    server: S,
    /// The future points into `server`.
    _pinned: PhantomPinned,
}

impl<S, F: Future> Future for Frame<S, F> {
    type Output = F::Output;
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the future is pinned as the frame is: it is never moved out.
        unsafe { self.map_unchecked_mut(|frame| &mut frame.future) }.poll(cx)
    }
}

/// A frame with a server and no future yet.
struct Vacant<S, F>(NonNull<Frame<S, F>>);

impl<S, F> Drop for Vacant<S, F> {
    #[cold]
    fn drop(&mut self) {
        // SAFETY: dropped only if `serve` panics, when the server is there and the future is not; the block was taken for a frame.
        unsafe {
            (&raw mut (*self.0.as_ptr()).server).drop_in_place();
            give(Layout::new::<Frame<S, F>>(), self.0.cast());
        }
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
        assert_eq!(size_of::<Option<IoFuture<()>>>(), 2 * size_of::<usize>());
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
        let at = first.at;
        drop(first);
        let mut second = IoFuture::new(second_time([2u64; 40]));
        assert_eq!(at, second.at);
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

    /// Answers with what it holds and what it was asked.
    struct Keeper {
        _alive: Rc<()>,
        holds: u32,
    }
    fn keeper(alive: &Rc<()>) -> Keeper {
        Keeper {
            _alive: alive.clone(),
            holds: 5,
        }
    }
    impl Serve for Keeper {
        type Ask = u32;
        type Answer = (u32, u32);
        fn serve(&self, ask: u32) -> impl Future<Output = (u32, u32)> {
            assert_ne!(ask, 13, "no answer to this");
            async move { (*second_time(&self.holds).await, ask) }
        }
    }

    #[test]
    fn who_is_lent_stays_until_the_future_is_dropped() {
        let alive = Rc::new(());
        let mut future = IoFuture::lent(keeper(&alive), 7);
        assert_eq!(poll(&mut future), Poll::Pending);
        let mut moved = Box::new(future);
        assert_eq!(
            poll(&mut moved),
            Poll::Ready((5, 7)),
            "the handle moves, the frame does not"
        );
        assert_eq!(Rc::strong_count(&alive), 2);
        drop(moved);
        let mut half_way = IoFuture::lent(keeper(&alive), 7);
        assert_eq!(poll(&mut half_way), Poll::Pending);
        drop((half_way, IoFuture::lent(keeper(&alive), 7)));
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn who_panics_before_there_is_a_future_is_dropped_and_its_block_used_again() {
        let alive = Rc::new(());
        let first = IoFuture::lent(keeper(&alive), 1);
        let block = first.at;
        drop(first);
        let server = keeper(&alive);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| IoFuture::lent(server, 13)));
        assert!(broken.is_err());
        assert_eq!(Rc::strong_count(&alive), 1);
        assert_eq!(IoFuture::lent(keeper(&alive), 1).at, block);
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
