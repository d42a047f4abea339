//! One 4 KiB page of the arena.
//!
//! **\[UNIQUE-WRITE\]** The bytes of a page are written only through a handle that is the page's only one, seen by an acquiring load of
//! its count. Whoever needs to write a page that has other handles takes a fresh one and copies. So a page that two cores can see is
//! immutable, and there is no data race however pages travel. Every write to page memory in this crate cites this.
//!
//! **\[KERNEL-WRITE\]** The kernel (or a device) writes into a page only for an operation which holds a *pin*: a counted reference of its
//! own, taken after the page was made the only handle of its list. A pin keeps the memory, and does not count as sharing, so that two
//! operations can fill two halves of one page. Until the operation ends the bytes under it are unspecified; nobody has a use for them
//! before that, and those who look anyhow see old or new bytes.
//!
//! The count of a page is one word: references in the low 48 bits (pins included), pins in the high 16. A free page keeps the count 1 it
//! will be handed out with, so that to allocate is to pop and to free the last reference is to load and push.
use crate::{arena, counters};
use std::{
    cell::Cell,
    mem::ManuallyDrop,
    ptr::NonNull,
    slice,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicI64, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
};

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// Bytes in a chunk, the unit in which page memory is taken from the system.
pub const CHUNK: usize = 2 << 20;
/// Usable pages in a chunk: all but the first.
pub(crate) const CHUNK_PAGES: usize = CHUNK / PAGE - 1;

const PIN_SHIFT: u32 = 48;
const PIN: u64 = 1 << PIN_SHIFT;
const REFS: u64 = PIN - 1;

/// The address of a page; counts nothing by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct RawPage(NonNull<u8>);

// SAFETY: an address; what is done through it is guarded by the page's atomic count and [UNIQUE-WRITE].
unsafe impl Send for RawPage {}
// SAFETY: as for Send.
unsafe impl Sync for RawPage {}

impl RawPage {
    pub fn new(at: NonNull<u8>) -> Self {
        Self(at)
    }
    pub fn ptr(self) -> NonNull<u8> {
        self.0
    }
    pub fn addr(self) -> usize {
        self.0.addr().get()
    }
    pub fn chunk_addr(self) -> usize {
        self.addr() & !(CHUNK - 1)
    }

    #[inline]
    fn count(self) -> &'static AtomicU64 {
        let index = (self.addr() & (CHUNK - 1)) / PAGE;
        let header = self.0.as_ptr().map_addr(|at| at & !(CHUNK - 1)).cast::<AtomicU64>();
        // SAFETY: page pointers are derived from their chunk's, whose first page is an array of 512 counts, set before the page was first
        // handed out. A chunk is unmapped only when none of its pages is in use, so the count outlives every page that can ask for it.
        unsafe { &*header.add(index) }
    }
    /// Before the page is first handed out.
    pub fn init_count(self) {
        self.count().store(1, Relaxed);
    }

    /// One more reference.
    #[inline]
    pub fn retain(self) {
        self.count().fetch_add(1, Relaxed);
    }
    /// One reference fewer; true if it was the last, and then the page is the caller's to recycle.
    #[inline]
    #[must_use]
    pub fn release(self) -> bool {
        let count = self.count();
        // The only reference: nobody else can make another, so the count may stay as it is.
        count.load(Acquire) == 1 || Self::last(count, count.fetch_sub(1, Release), 1)
    }
    /// A reference that is a pin, see [KERNEL-WRITE].
    pub fn pin(self) {
        let was = self.count().fetch_add(PIN | 1, Relaxed);
        // 65,535 operations at once into one page: no ring is that deep.
        assert!(
            was >> PIN_SHIFT < (1 << 16) - 1,
            "too many operations under way into one page"
        );
    }
    /// As `release`, for a pin.
    #[must_use]
    pub fn unpin(self) -> bool {
        let count = self.count();
        Self::last(count, count.fetch_sub(PIN | 1, Release), PIN | 1)
    }
    #[inline]
    fn last(count: &AtomicU64, was: u64, mine: u64) -> bool {
        let last = was == mine;
        if last {
            fence(Acquire); // everything others did with the page is done
            count.store(1, Relaxed); // as it lies in the free list
        }
        last
    }
    /// True if the asking handle is the only one, apart from pins.
    #[inline]
    pub fn is_sole(self) -> bool {
        let count = self.count().load(Acquire);
        count & REFS == 1 + (count >> PIN_SHIFT)
    }
    /// True if the asking handle is the only reference of any kind.
    #[inline]
    fn is_only(self) -> bool {
        self.count().load(Acquire) == 1
    }

    /// Returns a page whose last reference has gone.
    #[inline]
    pub fn recycle(self) {
        if CACHE.try_with(|cache| cache.push(self)).is_err() {
            arena::give(std::iter::once(self)); // the thread is ending
            GONE.fetch_sub(1, Relaxed);
        }
    }
}

/// One 4 KiB page, reference-counted. May be sent to another core; its bytes can be written only by who holds the only reference
/// (see the top of this file), so what two cores can see does not change.
#[derive(Debug)]
pub struct Page(RawPage);

impl Page {
    /// A page with unspecified content. Ends the process as `Vec` would if the system has no memory left.
    pub fn alloc() -> Page {
        Page(take_one(true).unwrap_or_else(|| arena::exhausted()))
    }
    /// A page with unspecified content, or none if the arena's bound is reached.
    pub fn try_alloc() -> Option<Page> {
        take_one(false).map(Page)
    }
    /// A reference to this core's page of zeros. It is never written, so this costs no memory.
    pub fn zero() -> Page {
        Page(zero_page())
    }
    /// A page with the bytes of `bytes`, then zeros. Longer input is cut off at the page's end.
    pub fn from_slice(bytes: &[u8]) -> Page {
        let mut page = Page::alloc();
        let all = page.make_mut();
        let n = bytes.len().min(PAGE);
        all[..n].copy_from_slice(&bytes[..n]);
        all[n..].fill(0);
        counters::copied(n);
        page
    }

    /// The page's bytes.
    pub fn bytes(&self) -> &[u8; PAGE] {
        // SAFETY: page memory is initialised, and by [UNIQUE-WRITE] nobody writes it while we hold a reference and lend it out shared:
        // a writer would need `self` mutably.
        unsafe { self.0.ptr().cast().as_ref() }
    }
    /// The page's bytes to write: this very page if nobody else refers to it, else a private copy that takes its place in `self`.
    pub fn make_mut(&mut self) -> &mut [u8; PAGE] {
        if !self.0.is_only() {
            let fresh = Page::alloc();
            copy_page(self.0, fresh.0);
            *self = fresh;
        }
        // SAFETY: [UNIQUE-WRITE]: ours is the only reference, and it is borrowed mutably.
        unsafe { self.0.ptr().cast().as_mut() }
    }
    /// True if both are the same page, not merely equal ones.
    pub fn same(&self, other: &Page) -> bool {
        self.0 == other.0
    }
    /// True if all bytes are zero.
    pub fn is_zero(&self) -> bool {
        is_zero(self.bytes())
    }

    pub(crate) fn into_raw(self) -> RawPage {
        ManuallyDrop::new(self).0
    }
    /// Takes over one counted reference.
    pub(crate) fn from_raw(raw: RawPage) -> Page {
        Page(raw)
    }
}

impl Clone for Page {
    #[inline]
    fn clone(&self) -> Page {
        self.0.retain();
        Page(self.0)
    }
}
impl Drop for Page {
    #[inline]
    fn drop(&mut self) {
        if self.0.release() {
            self.0.recycle()
        }
    }
}

/// Copies one page, which counts.
pub(crate) fn copy_page(from: RawPage, to: RawPage) {
    // SAFETY: two different pages; we hold a reference to `from`, and the only one to `to` ([UNIQUE-WRITE]).
    unsafe { to.ptr().copy_from_nonoverlapping(from.ptr(), PAGE) };
    counters::copied(PAGE);
}

pub(crate) static ZEROS: [u8; PAGE] = [0; PAGE];

/// True if all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|part| *part == ZEROS[..part.len()])
}

// ---- the free pages of one core ----

/// A core keeps at most this many free pages (8 MiB): enough for 64 commands of 128 KiB to come and go without the arena's lock.
const CACHE_MAX: usize = 2048;
/// Pages that move between a core and the arena under one lock.
const BATCH: usize = 512;

/// Pages taken less pages returned, by threads that have ended.
static GONE: AtomicI64 = AtomicI64::new(0);
/// The same for each living thread; locked when a thread starts, ends or asks.
static LIVING: Mutex<Vec<Arc<AtomicI64>>> = Mutex::new(Vec::new());

thread_local! { static CACHE: Cache = Cache::new() }

struct Cache {
    free: Box<[Cell<Option<RawPage>>]>,
    len: Cell<usize>,
    zero: Cell<Option<RawPage>>,
    /// Pages taken less pages returned on this thread. Written by this thread only; others read it.
    balance: Arc<AtomicI64>,
}

impl Cache {
    fn new() -> Self {
        let balance = Arc::new(AtomicI64::new(0));
        LIVING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(balance.clone());
        let free = (0..CACHE_MAX).map(|_| Cell::new(None)).collect();
        Self {
            free,
            len: Cell::new(0),
            zero: Cell::new(None),
            balance,
        }
    }
    #[inline]
    fn account(&self, pages: i64) {
        self.balance.store(self.balance.load(Relaxed) + pages, Relaxed);
    }
    #[inline]
    fn push(&self, page: RawPage) {
        if self.len.get() == CACHE_MAX {
            self.spill(BATCH);
        }
        let len = self.len.get();
        self.free[len].set(Some(page));
        self.len.set(len + 1);
        self.account(-1);
    }
    #[inline]
    fn pop(&self, firm: bool) -> Option<RawPage> {
        if self.len.get() == 0 {
            self.len.set(arena::take(&self.free[..BATCH], firm));
        }
        let len = self.len.get().checked_sub(1)?;
        self.len.set(len);
        self.account(1);
        self.free[len].get()
    }
    /// Gives the `n` pages which were returned longest ago to the arena.
    #[cold]
    fn spill(&self, n: usize) {
        arena::give(self.free[..n].iter().filter_map(Cell::take));
        let rest = self.len.get() - n;
        for i in 0..rest {
            self.free[i].set(self.free[i + n].take());
        }
        self.len.set(rest);
    }
    fn zero(&self) -> RawPage {
        let page = self.zero.get().unwrap_or_else(|| {
            let page = self.pop(true).unwrap_or_else(|| arena::exhausted());
            // SAFETY: [UNIQUE-WRITE]: just allocated.
            unsafe { page.ptr().write_bytes(0, PAGE) };
            self.account(-1); // the core's own, nobody's use
            self.zero.set(Some(page));
            page
        });
        page.retain(); // so handles to it are never the only ones, and it is never written
        page
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(zero) = self.zero.take() {
            self.account(1); // others may go on using it
            if zero.release() {
                self.push(zero)
            }
        }
        self.spill(self.len.get());
        let mut living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
        living.retain(|other| !Arc::ptr_eq(other, &self.balance));
        GONE.fetch_add(self.balance.load(Relaxed), Relaxed);
    }
}

#[inline]
fn take_one(firm: bool) -> Option<RawPage> {
    CACHE
        .try_with(|cache| cache.pop(firm))
        .unwrap_or_else(|_| take_unstacked(firm))
}

/// While the thread ends and its stack of pages has gone.
#[cold]
fn take_unstacked(firm: bool) -> Option<RawPage> {
    let one = [const { Cell::new(None) }];
    GONE.fetch_add(arena::take(&one, firm) as i64, Relaxed);
    one[0].get()
}

/// A counted reference to the core's page of zeros.
pub(crate) fn zero_page() -> RawPage {
    CACHE
        .try_with(Cache::zero)
        .unwrap_or_else(|_| Page::from_slice(&[]).into_raw())
}
/// True for the core's own page of zeros.
pub(crate) fn is_zero_page(page: RawPage) -> bool {
    CACHE.try_with(|cache| cache.zero.get() == Some(page)).unwrap_or(false)
}

/// One page, for lists.
#[inline]
pub(crate) fn take_raw(firm: bool) -> Option<RawPage> {
    take_one(firm)
}

/// Gives this core's free pages back to the arena, so that others (and [`arena::trim`]) can have them.
pub fn release_free_pages() {
    let _ = CACHE.try_with(|cache| cache.spill(cache.len.get()));
}

pub(crate) fn in_use() -> i64 {
    let living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
    living.iter().map(|one| one.load(Relaxed)).sum::<i64>() + GONE.load(Relaxed)
}
pub(crate) fn balance_here() -> i64 {
    CACHE.try_with(|cache| cache.balance.load(Relaxed)).unwrap_or(0)
}

/// Reads `n` bytes at `at` of a page we hold a reference to. Private to the crate, and `f` runs none but our own code: nothing in it
/// may write this page.
#[inline]
pub(crate) fn with_bytes<R>(page: RawPage, at: usize, n: usize, f: impl FnOnce(&[u8]) -> R) -> R {
    debug_assert!(at + n <= PAGE);
    // SAFETY: in bounds, initialised; the caller holds a reference, and writes nothing meanwhile ([UNIQUE-WRITE] keeps others off).
    f(unsafe { slice::from_raw_parts(page.ptr().as_ptr().add(at), n) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_in_place_only_by_its_only_handle() {
        let mut one = Page::from_slice(&[1; PAGE]);
        let before = one.bytes().as_ptr();
        one.make_mut()[0] = 2;
        assert_eq!(one.bytes().as_ptr(), before, "nobody else: in place");

        let copied = counters::bytes_copied();
        let mut two = one.clone();
        assert!(two.same(&one));
        two.make_mut()[0] = 3;
        assert!(!two.same(&one));
        assert_eq!(
            (one.bytes()[..2].to_vec(), two.bytes()[..2].to_vec()),
            (vec![2, 1], vec![3, 1])
        );
        assert_eq!(counters::bytes_copied() - copied, PAGE as u64);
        assert_eq!(two.bytes().as_ptr() as usize % PAGE, 0);
    }

    #[test]
    fn zeros_are_shared_and_stay_zeros() {
        let mut zero = Page::zero();
        assert!(zero.same(&Page::zero()) && zero.is_zero());
        zero.make_mut()[7] = 1;
        assert!(Page::zero().is_zero() && !zero.is_zero());
    }

    #[test]
    fn pages_come_back() {
        let before = counters::pages_taken_here();
        let many: Vec<_> = (0..3 * CACHE_MAX).map(|i| Page::from_slice(&i.to_le_bytes())).collect();
        assert_eq!(counters::pages_taken_here() - before, 3 * CACHE_MAX as i64);
        for (i, page) in many.iter().enumerate() {
            assert_eq!(page.bytes()[..8], i.to_le_bytes(), "every page is another one");
        }
        drop(many);
        assert_eq!(counters::pages_taken_here() - before, 0);
    }

    #[test]
    fn a_page_may_end_on_another_core() {
        let before = counters::pages_taken_here();
        let page = Page::from_slice(b"here and there");
        let other = page.clone();
        let there = std::thread::spawn(move || {
            assert_eq!(other.bytes()[..14], *b"here and there");
            let mut other = other;
            other.make_mut()[..4].copy_from_slice(b"away"); // shared, so a copy
            other
        });
        let other = there.join().unwrap();
        assert_eq!((&page.bytes()[..4], &other.bytes()[..4]), (&b"here"[..], &b"away"[..]));
        drop((page, other));
        assert_eq!(
            counters::pages_taken_here() - before,
            -1,
            "one was taken there and returned here"
        );
    }

    #[test]
    fn a_pin_keeps_memory_but_is_no_sharing() {
        let raw = Page::from_slice(&[5; PAGE]).into_raw();
        raw.pin();
        raw.pin();
        assert!(raw.is_sole() && !raw.is_only());
        raw.retain();
        assert!(!raw.is_sole());
        assert!(!raw.release());
        assert!(!raw.release(), "the list has gone, the operations have not");
        assert!(!raw.unpin());
        assert!(raw.unpin(), "the last one out");
        raw.recycle();
    }
}
