//! What tests of every crate share: a counting allocator, a small random generator, a pattern for blocks of data, block
//! devices, and a word for what could not be tested.
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
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

/// Says that a test could not be made here, and why; `ci/test` repeats it at its end.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED: {test}: {why}");
    let Some(list) = std::env::var_os("ASHLAR_SKIPPED") else {
        return;
    };
    if let Ok(mut list) = OpenOptions::new().create(true).append(true).open(list) {
        // A lost note is no reason to fail a test that would only have been skipped.
        let _ = writeln!(list, "{test}: {why}");
    }
}

/// A block device of the kernel's over a file, until it is dropped.
#[derive(Debug)]
pub struct LoopDevice(PathBuf);

impl LoopDevice {
    /// A loop device with blocks of this size over `file`. Needs root and losetup; the error says what was missing.
    pub fn over(file: &Path, block_size: u32, more: &[&str]) -> Result<Self, String> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &block_size.to_string()])
            .args(more)
            .arg(file)
            .output()
            .map_err(|error| format!("no losetup: {error}"))?;
        match output.status.success() {
            true => Ok(Self(String::from_utf8_lossy(&output.stdout).trim().into())),
            false => Err(format!(
                "no loop device, which needs root: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// As long as its file has become.
    pub fn grow(&self) {
        let done = Command::new("losetup").arg("--set-capacity").arg(&self.0).status();
        assert!(done.is_ok_and(|status| status.success()), "losetup --set-capacity");
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
