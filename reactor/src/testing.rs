//! What tests of every crate share: a counting allocator, a small random generator, and a pattern for blocks of data.
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! { static CALLS: Cell<u64> = const { Cell::new(0) } }

/// The system's allocator, which counts the calls of each thread. Use it so:
///
/// ```
/// use reactor::testing::{CountingAlloc, allocations};
/// #[global_allocator]
/// static ALLOC: CountingAlloc = CountingAlloc;
///
/// let before = allocations();
/// let boxed = Box::new(7);
/// assert_eq!(allocations() - before, 1);
/// drop(boxed);
/// ```
pub struct CountingAlloc;

/// Calls of this thread to allocate or to reallocate so far, if [`CountingAlloc`] is the allocator.
pub fn allocations() -> u64 {
    CALLS.with(Cell::get)
}
fn count() {
    // A thread-local without a destructor: there as long as the thread.
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

/// A small reproducible generator (xorshift64*): print its seed when a test fails.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    /// The next number. It is no iterator: there is always one.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// Random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Bytes that say where they belong: every eight of them name their own place. For a buffer that starts at byte `at` of its disk.
pub fn pattern(at: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (((at + i) / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (8 * ((at + i) % 8))) as u8)
        .collect()
}
