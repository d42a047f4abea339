//! The page list under a `Buf`: a node of one core with a plain count and room for a power of two of pages.
//!
//! ```text
//!   refs │ pages │ bytes │ class ║ page │ page │ … (2^class)
//! ```
//!
//! Nodes come from free lists of this core, one for each class. A node may end on another core than it began (it travels in a
//! `Parcel`), so a core with too many hands a chain of them to a shared lock-free store, and a core with none takes one there: a one-way
//! flow between two cores allocates nothing either.
use crate::{
    arena,
    page::{self, PAGE, RawPage},
};
use crossbeam_queue::ArrayQueue;
use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::Cell,
    ptr::{NonNull, null_mut},
    sync::OnceLock,
};

/// Classes with a free list: up to 2^12 pages (16 MiB). Longer lists go to the allocator.
const CLASSES: usize = 13;

#[repr(C)]
struct Header {
    refs: Cell<u32>,
    pages: u32,
    /// One past the last byte that any handle to this list can reach.
    bytes: u32,
    class: u32,
}

/// A counted handle to a list, or rather what one is made of: counts nothing by itself.
///
/// **\[ONE-CORE\]** A list is touched by one thread only: handles are not `Send`, and a `Parcel` moves a list of which it holds the only
/// handle. No reference into a list or its pages is kept while foreign code runs, so plain reads and writes through it never overlap.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct List(NonNull<Header>);

impl List {
    /// A list with one handle and `pages` slots that hold nothing yet.
    ///
    /// # Safety
    /// The caller fills all slots before it does anything else with the list.
    unsafe fn unfilled(pages: u32, bytes: u32) -> List {
        let class = pages.max(1).next_power_of_two().trailing_zeros();
        let node = NODES
            .try_with(|nodes| nodes.take(class as usize))
            .unwrap_or_else(|_| make(class as usize));
        // SAFETY: a node nobody else knows, with room for a header.
        unsafe {
            node.write(Header {
                refs: Cell::new(1),
                pages,
                bytes,
                class,
            })
        };
        List(node)
    }

    /// A list filled by `next`, which is called once for each slot, in order. None if `next` ever gives none.
    pub fn fill(pages: u32, bytes: u32, mut next: impl FnMut(usize) -> Option<RawPage>) -> Option<List> {
        // SAFETY: every slot is filled below; if `next` ends early the list is cut to what was filled. Should `next` panic, the node leaks.
        let mut list = unsafe { List::unfilled(pages, bytes) };
        for i in 0..pages as usize {
            match next(i) {
                // SAFETY: `i` is within the node; the slot is vacant.
                Some(page) => unsafe { list.slot(i).write(page) },
                None => {
                    // SAFETY: we hold the only handle.
                    unsafe { list.0.as_mut().pages = i as u32 };
                    list.release();
                    return None;
                }
            }
        }
        Some(list)
    }
    /// A list of `pages` fresh pages with unspecified content. `firm` as for the arena.
    pub fn alloc(pages: u32, bytes: u32, firm: bool) -> Option<List> {
        let list = List::fill(pages, bytes, |_| page::take_raw(firm));
        if firm && list.is_none() {
            arena::exhausted()
        }
        list
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: handles keep the node alive, and the header is only read, or set through its cell ([ONE-CORE]).
        unsafe { self.0.as_ref() }
    }
    #[inline]
    pub fn pages(self) -> usize {
        self.header().pages as usize
    }
    /// One past the last byte any handle reaches.
    #[inline]
    pub fn bytes(self) -> usize {
        self.header().bytes as usize
    }
    #[inline]
    fn slot(self, i: usize) -> *mut RawPage {
        // SAFETY: callers stay within the node, whose slots follow the header.
        unsafe { self.0.as_ptr().add(1).cast::<RawPage>().add(i) }
    }
    /// The page in slot `i`, not counted.
    #[inline]
    pub fn get(self, i: usize) -> RawPage {
        assert!(i < self.pages());
        // SAFETY: in bounds, and all slots are filled.
        unsafe { self.slot(i).read() }
    }
    /// Puts `page` with its reference into slot `i` and gives out the one that was there, with its reference.
    #[inline]
    #[must_use]
    pub fn swap(self, i: usize, page: RawPage) -> RawPage {
        assert!(i < self.pages());
        // SAFETY: in bounds, and all slots are filled.
        unsafe { self.slot(i).replace(page) }
    }
    /// Replaces the page in slot `i`.
    #[inline]
    pub fn set(self, i: usize, page: RawPage) {
        let old = self.swap(i, page);
        if old.release() {
            old.recycle()
        }
    }

    #[inline]
    pub fn retain(self) {
        let refs = &self.header().refs;
        // 2^32 handles to one list: memory for them would run out long before.
        refs.set(refs.get() + 1);
    }
    #[inline]
    pub fn is_sole(self) -> bool {
        self.header().refs.get() == 1
    }
    /// One handle fewer; with the last the pages go, and the node to this core's free list.
    #[inline]
    pub fn release(self) {
        let refs = self.header().refs.get() - 1;
        self.header().refs.set(refs);
        if refs == 0 {
            self.end()
        }
    }
    fn end(self) {
        for i in 0..self.pages() {
            let page = self.get(i);
            if page.release() {
                page.recycle()
            }
        }
        let class = self.header().class as usize;
        if NODES.try_with(|nodes| nodes.give(class, self.0)).is_err() {
            // SAFETY: the last handle has gone, and the free lists of this thread too.
            unsafe { unmake(class, self.0) }
        }
    }

    /// Makes slot `i` the only handle of its page (pins apart), so that its bytes may be written. The bytes survive if `keep`, else they
    /// are unspecified.
    #[inline]
    pub fn own(self, i: usize, keep: bool) -> RawPage {
        let page = self.get(i);
        if page.is_sole() {
            page
        } else {
            self.unshare(i, page, keep)
        }
    }
    #[cold]
    fn unshare(self, i: usize, old: RawPage, keep: bool) -> RawPage {
        let fresh = page::take_raw(true).unwrap_or_else(|| arena::exhausted());
        if keep {
            page::copy_page(old, fresh)
        }
        self.set(i, fresh);
        fresh
    }
    /// True if the bytes `at..end` of the list are all that anybody can reach of page `i`.
    #[inline]
    pub fn covers(self, i: usize, at: usize, end: usize) -> bool {
        at <= i * PAGE && ((i + 1) * PAGE).min(self.bytes()) <= end
    }
}

// ---- free nodes ----

fn layout(class: usize) -> Layout {
    let bytes = size_of::<Header>() + (size_of::<RawPage>() << class);
    // The largest class holds u32::MAX bytes, so this is far from overflow.
    Layout::from_size_align(bytes, 16).unwrap_or_else(|_| unreachable!("a list of 2^{class} pages"))
}
fn make(class: usize) -> NonNull<Header> {
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { alloc(layout(class)) }.cast()).unwrap_or_else(|| handle_alloc_error(layout(class)))
}
/// # Safety
/// `node` was made for `class` and nobody uses it any more.
unsafe fn unmake(class: usize, node: NonNull<Header>) {
    // SAFETY: as above.
    unsafe { dealloc(node.as_ptr().cast(), layout(class)) }
}

/// Nodes in one chain between a core and the shared store. A core keeps up to two chains' worth.
const fn chain(class: usize) -> u32 {
    match class {
        0..=5 => 64,
        6..=9 => 16,
        _ => 2,
    }
}

/// The first node of a chain of free ones; each holds the address of the next in its first word.
struct Chain(*mut Header);
// SAFETY: nobody else knows the nodes of a chain.
unsafe impl Send for Chain {}

/// Chains of each class that cores have left for others. Made when the first core has too many.
static SHARED: OnceLock<[ArrayQueue<Chain>; CLASSES]> = OnceLock::new();
/// Chains of one class in the shared store; beyond that nodes go back to the allocator.
const CHAINS: usize = 256;

struct Nodes {
    first: [Cell<*mut Header>; CLASSES],
    len: [Cell<u32>; CLASSES],
}
thread_local! {
    static NODES: Nodes = const {
        Nodes { first: [const { Cell::new(null_mut()) }; CLASSES], len: [const { Cell::new(0) }; CLASSES] }
    }
}

impl Nodes {
    #[inline]
    fn take(&self, class: usize) -> NonNull<Header> {
        if class >= CLASSES {
            return make(class);
        }
        match self.pop(class).or_else(|| self.refill(class)) {
            Some(node) => node,
            None => make(class),
        }
    }
    #[inline]
    fn pop(&self, class: usize) -> Option<NonNull<Header>> {
        let node = NonNull::new(self.first[class].get())?;
        // SAFETY: a free node holds the address of the next in its first word.
        self.first[class].set(unsafe { node.cast::<*mut Header>().read() });
        self.len[class].set(self.len[class].get() - 1);
        Some(node)
    }
    #[cold]
    fn refill(&self, class: usize) -> Option<NonNull<Header>> {
        let Chain(first) = SHARED.get()?[class].pop()?;
        self.first[class].set(first);
        self.len[class].set(chain(class));
        self.pop(class)
    }
    #[inline]
    fn give(&self, class: usize, node: NonNull<Header>) {
        if class >= CLASSES {
            // SAFETY: the caller has dropped the last handle.
            return unsafe { unmake(class, node) };
        }
        if self.len[class].get() == 2 * chain(class) {
            self.share(class);
        }
        // SAFETY: nobody uses the node, and it is longer than a word.
        unsafe { node.cast::<*mut Header>().write(self.first[class].get()) };
        self.first[class].set(node.as_ptr());
        self.len[class].set(self.len[class].get() + 1);
    }
    /// Cuts one chain off and puts it where other cores find it.
    #[cold]
    fn share(&self, class: usize) {
        let first = self.first[class].get();
        let mut last = first;
        for _ in 1..chain(class) {
            // SAFETY: the list is twice as long as a chain.
            last = unsafe { last.cast::<*mut Header>().read() };
        }
        // SAFETY: as above; `last` is a free node.
        let rest = unsafe { last.cast::<*mut Header>().replace(null_mut()) };
        self.first[class].set(rest);
        self.len[class].set(self.len[class].get() - chain(class));
        let shared = SHARED.get_or_init(|| std::array::from_fn(|_| ArrayQueue::new(CHAINS)));
        if let Err(Chain(mut left)) = shared[class].push(Chain(first)) {
            while let Some(node) = NonNull::new(left) {
                // SAFETY: free nodes of this class, which nobody else knows.
                unsafe {
                    left = node.cast::<*mut Header>().read();
                    unmake(class, node)
                }
            }
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for class in 0..CLASSES {
            while let Some(node) = self.pop(class) {
                // SAFETY: a free node of this class.
                unsafe { unmake(class, node) }
            }
        }
    }
}
