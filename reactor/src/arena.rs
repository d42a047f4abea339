//! Where pages come from: 2 MiB chunks, from the system or from somebody else's allocator (DESIGN D8, D12).
//!
//! ```text
//!   chunk, 2 MiB, 2 MiB-aligned
//!   ┌─────────────┬────────┬────────┬─ … ─┬──────────┐
//!   │ page 0      │ page 1 │ page 2 │     │ page 511 │
//!   │ 512 counts  │  4 KiB │        │     │          │
//!   └─────────────┴────────┴────────┴─ … ─┴──────────┘
//!        ▲ address of any page, low 21 bits cleared
//! ```
//!
//! The first page of a chunk holds one 64-bit count for each page of the chunk, so that a page is one pointer and finds its count by
//! masking. Chunks are committed lazily: an ordinary page costs memory when it is first used. With huge pages reserved on the machine
//! (`/proc/sys/vm/nr_hugepages`) a chunk is one of them.
//!
//! Each core keeps a stack of free pages (`page.rs`); the arena behind them is locked briefly, once for a batch of pages.
use crate::page::{CHUNK, CHUNK_PAGES, PAGE, RawPage};
use std::{
    alloc::Layout,
    cell::Cell,
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

/// How much memory pages may take, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bound on page memory in bytes. Whoever may refuse work ([`crate::Page::try_alloc`], [`crate::Buf::try_alloc`]) is refused beyond
    /// it. The others (a page to be un-shared in the middle of a write) get memory as long as the system has any, and a warning is logged.
    pub max_bytes: usize,
    /// Whether to look for huge pages.
    pub huge_pages: HugePages,
}

/// Whether page memory uses huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HugePages {
    /// Reserved huge pages when there are any, else ordinary pages; transparent huge pages once the arena has grown large.
    #[default]
    Auto,
    /// Ordinary pages only.
    Never,
}

impl Default for Config {
    /// Half of the machine's memory, huge pages when there are any. Nothing is committed before it is used.
    fn default() -> Self {
        Self {
            max_bytes: physical_memory() / 2,
            huge_pages: HugePages::Auto,
        }
    }
}

/// Somebody else's allocator of page memory, such as SPDK's environment.
///
/// # Safety
/// A chunk handed out by `take_chunk` is [`CHUNK`] bytes long, aligned to [`CHUNK`], readable and writable, holds initialised bytes
/// (any), and is touched by nobody else until it comes back through `give_chunk`.
pub unsafe trait PageSource: Send + Sync {
    /// One more chunk, or none if there is no more.
    fn take_chunk(&self) -> Option<NonNull<u8>>;
    /// Takes a chunk back; none of its pages is in use.
    fn give_chunk(&self, chunk: NonNull<u8>);
}

/// What the arena holds at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Chunks taken from the system or the outside allocator.
    pub chunks: usize,
    /// Of these, reserved huge pages.
    pub huge_chunks: usize,
    /// Pages which lie in the arena's own store; cores hold more in their stacks.
    pub free_pages: usize,
    /// Bytes in all chunks.
    pub bytes: usize,
    /// The bound in force.
    pub max_bytes: usize,
}

/// The chunks up to this number are kept out of transparent huge pages, so that a small target stays small.
const SMALL_CHUNKS: usize = 16;

struct State {
    config: Option<Config>,
    source: Option<Box<dyn PageSource>>,
    free: Vec<RawPage>,
    chunks: Vec<Chunk>,
    huge_failed: bool,
    said: bool,
    warned: bool,
}

#[derive(Clone, Copy)]
struct Chunk {
    base: RawPage,
    huge: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    config: None,
    source: None,
    free: Vec::new(),
    chunks: Vec::new(),
    huge_failed: false,
    said: false,
    warned: false,
});
/// Pages outside of the arena's own store, for those who only want to know.
static OUT: AtomicUsize = AtomicUsize::new(0);
/// There are more chunks than the bound allows.
static OVERDRAWN: AtomicBool = AtomicBool::new(false);

fn state() -> MutexGuard<'static, State> {
    crate::counters::locked();
    // The state is consistent between any two statements that can panic.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets bound and kind of page memory. May be called again: the new settings hold for what is allocated from then on.
pub fn configure(config: Config) {
    let mut state = state();
    state.config = Some(config);
    state.weigh();
}

/// True while page memory is beyond its bound: whoever keeps pages for long (a memory disk) should take no more. One load.
#[inline]
pub fn is_overdrawn() -> bool {
    OVERDRAWN.load(Relaxed)
}

/// Lets all page memory come from `source`. Gives it back unused if the arena has taken a chunk already: memory of two origins is not mixed.
pub fn use_source(source: Box<dyn PageSource>) -> Result<(), Box<dyn PageSource>> {
    let mut state = state();
    if !state.chunks.is_empty() {
        return Err(source);
    }
    state.source = Some(source);
    Ok(())
}

/// What the arena holds.
pub fn stats() -> Stats {
    let mut state = state();
    Stats {
        chunks: state.chunks.len(),
        huge_chunks: state.chunks.iter().filter(|c| c.huge).count(),
        free_pages: state.free.len(),
        bytes: state.chunks.len() * CHUNK,
        max_bytes: state.config().max_bytes,
    }
}

/// Gives chunks without a used page back to where they came from, and returns their number. For after a large memory disk has gone;
/// pages in the stacks of cores count as used.
pub fn trim() -> usize {
    let mut state = state();
    let State {
        free, chunks, source, ..
    } = &mut *state;
    free.sort_unstable_by_key(|page| std::cmp::Reverse(page.addr()));
    let mut empty: Vec<usize> = Vec::new();
    for run in free.chunk_by(|a, b| a.chunk_addr() == b.chunk_addr()) {
        if run.len() == CHUNK_PAGES {
            empty.push(run[0].chunk_addr());
        }
    }
    empty.reverse(); // ascending
    free.retain(|page| empty.binary_search(&page.chunk_addr()).is_err());
    chunks.retain(|chunk| {
        let gone = empty.binary_search(&chunk.base.addr()).is_ok();
        if gone {
            match source {
                Some(source) => source.give_chunk(chunk.base.ptr()),
                None => system::unmap(chunk.base.ptr()),
            }
        }
        !gone
    });
    state.weigh();
    empty.len()
}

/// Takes up to `into.len()` free pages, and makes a new chunk if there is none. `firm` goes beyond the configured bound rather than fail.
/// Lower addresses end up later in `into`, because stacks are popped from their end and neighbours make one long segment for the kernel.
pub(crate) fn take(into: &[Cell<Option<RawPage>>], firm: bool) -> usize {
    let mut state = state();
    if state.free.is_empty() && !state.grow(firm) {
        return 0;
    }
    let n = state.free.len().min(into.len());
    for slot in into[..n].iter().rev() {
        slot.set(state.free.pop());
    }
    OUT.fetch_add(n, Relaxed);
    n
}

/// Takes pages back which nobody refers to any more.
pub(crate) fn give(pages: impl Iterator<Item = RawPage>) {
    let mut state = state();
    let before = state.free.len();
    state.free.extend(pages); // never reallocates: `grow` reserves room for every page of every chunk
    OUT.fetch_sub(state.free.len() - before, Relaxed);
}

/// Pages in use or in the stack of some core.
pub(crate) fn pages_out() -> usize {
    OUT.load(Relaxed)
}

impl State {
    fn config(&mut self) -> Config {
        *self.config.get_or_insert_with(Config::default)
    }

    fn grow(&mut self, firm: bool) -> bool {
        let config = self.config();
        let bytes = (self.chunks.len() + 1) * CHUNK;
        if bytes > config.max_bytes {
            if !firm {
                return false;
            }
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(
                    max_bytes = config.max_bytes,
                    "page memory has outgrown its bound; raise it or offer less depth"
                );
            }
        }
        let Some((base, huge)) = self.new_chunk(config) else {
            return false;
        };
        if !std::mem::replace(&mut self.said, true) {
            let kind = match (&self.source, huge) {
                (Some(_), _) => "an outside allocator",
                (None, true) => "2 MiB huge pages",
                (None, false) if config.huge_pages == HugePages::Never => "ordinary pages (huge pages are turned off)",
                (None, false) => "ordinary pages (no huge pages reserved; vm.nr_hugepages would make it faster)",
            };
            tracing::info!(max_mib = config.max_bytes >> 20, "page memory: {kind}");
        }
        self.free.reserve_exact(bytes / PAGE - self.free.len());
        let chunk = RawPage::new(base);
        // Highest address first, so that pages are handed out in ascending order.
        self.free.extend((1..=CHUNK_PAGES).rev().map(|index| {
            // SAFETY: `base` starts a chunk of CHUNK bytes which is ours; page `index` lies inside.
            let page = RawPage::new(unsafe { base.add(index * PAGE) });
            page.init_count();
            page
        }));
        self.chunks.push(Chunk { base: chunk, huge });
        self.weigh();
        true
    }

    fn weigh(&mut self) {
        OVERDRAWN.store(self.chunks.len() * CHUNK > self.config().max_bytes, Relaxed);
    }

    fn new_chunk(&mut self, config: Config) -> Option<(NonNull<u8>, bool)> {
        if let Some(source) = &self.source {
            return Some((source.take_chunk()?, false));
        }
        if config.huge_pages == HugePages::Auto && !self.huge_failed {
            if let Some(base) = system::map_huge() {
                return Some((base, true));
            }
            self.huge_failed = true; // asked once; the pool of huge pages is set up at boot
        }
        let transparent = config.huge_pages == HugePages::Auto && self.chunks.len() >= SMALL_CHUNKS;
        Some((system::map(transparent)?, false))
    }
}

/// No memory: the same end as for any other allocation that cannot fail.
#[cold]
pub(crate) fn exhausted() -> ! {
    std::alloc::handle_alloc_error(Layout::new::<[u8; PAGE]>())
}

fn physical_memory() -> usize {
    // SAFETY: sysconf has no preconditions.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    match (usize::try_from(pages), usize::try_from(size)) {
        (Ok(pages), Ok(size)) => pages.saturating_mul(size),
        _ => 1 << 30,
    }
}

#[cfg(not(miri))]
mod system {
    //! Chunks from the kernel.
    use super::CHUNK;
    use std::ptr::{NonNull, null_mut};

    fn map_bytes(bytes: usize, flags: libc::c_int) -> Option<NonNull<u8>> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no existing memory.
        let at = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                prot,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            None
        } else {
            NonNull::new(at.cast())
        }
    }

    /// One reserved huge page, if there is one.
    pub fn map_huge() -> Option<NonNull<u8>> {
        map_bytes(CHUNK, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB)
    }

    /// Ordinary pages: maps twice as much and returns what lies beside the aligned half.
    pub fn map(transparent_huge: bool) -> Option<NonNull<u8>> {
        let whole = map_bytes(2 * CHUNK, libc::MAP_NORESERVE)?;
        let before = whole.align_offset(CHUNK);
        // SAFETY: all three parts lie inside the fresh mapping, and nobody refers to the two that are unmapped.
        unsafe {
            let base = whole.add(before);
            if before > 0 {
                libc::munmap(whole.as_ptr().cast(), before);
            }
            if before < CHUNK {
                libc::munmap(base.add(CHUNK).as_ptr().cast(), CHUNK - before);
            }
            let advice = if transparent_huge {
                libc::MADV_HUGEPAGE
            } else {
                libc::MADV_NOHUGEPAGE
            };
            libc::madvise(base.as_ptr().cast(), CHUNK, advice); // advice: its failure changes nothing
            Some(base)
        }
    }

    pub fn unmap(chunk: NonNull<u8>) {
        // SAFETY: `trim` gives whole chunks of ours of which no page is in use.
        unsafe { libc::munmap(chunk.as_ptr().cast(), CHUNK) };
    }
}

#[cfg(miri)]
mod system {
    //! Chunks from the global allocator: Miri follows pointers through that.
    use super::CHUNK;
    use std::{
        alloc::{Layout, alloc_zeroed, dealloc},
        ptr::NonNull,
    };

    fn layout() -> Layout {
        Layout::from_size_align(CHUNK, CHUNK).expect("a power of two")
    }
    pub fn map_huge() -> Option<NonNull<u8>> {
        None
    }
    pub fn map(_: bool) -> Option<NonNull<u8>> {
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { alloc_zeroed(layout()) })
    }
    pub fn unmap(chunk: NonNull<u8>) {
        // SAFETY: made by `map`.
        unsafe { dealloc(chunk.as_ptr(), layout()) };
    }
}
