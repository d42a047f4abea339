//! Bytes received and not yet used.
use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::NonNull,
    rc::Rc,
};

/// A piece of memory that the kernel may write or read while nobody holds a reference into the same bytes.
pub(crate) struct Memory {
    at: NonNull<u8>,
    size: usize,
}

impl Memory {
    pub(crate) fn new(size: usize) -> Self {
        let layout = Self::layout(size);
        // SAFETY: [MEMORY] the layout is not empty. Zeroed, so that every byte may be looked at.
        match NonNull::new(unsafe { alloc_zeroed(layout) }) {
            Some(at) => Self {
                at,
                size: layout.size(),
            },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(size: usize) -> Layout {
        match Layout::from_size_align(size.max(64), 64) {
            Ok(layout) => layout,
            // A length no machine can hold; the allocator would say the same.
            Err(_) => handle_alloc_error(Layout::new::<[u8; 64]>()),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The address of byte `at`.
    pub(crate) fn at(&self, at: usize) -> *mut u8 {
        debug_assert!(at <= self.size);
        self.at.as_ptr().wrapping_add(at)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: [MEMORY] allocated in `new` with this layout.
        unsafe { dealloc(self.at.as_ptr(), Self::layout(self.size)) }
    }
}

/// What a connection has received: `unread` bytes, and free space behind them into which the next receive goes.
///
/// ```text
///   0      start            end             size
///   │ used │ ── unread ──── │ ── free ───── │
/// ```
///
/// While a receive is under way (or was abandoned), its slot holds the memory too; whoever would move or
/// overwrite bytes then goes on with memory of its own. [OP-OWNS-MEMORY]
pub struct Inbox {
    memory: Rc<Memory>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            memory: Rc::new(Memory::new(capacity)),
            start: 0,
            end: 0,
        }
    }

    /// Room in all.
    pub fn capacity(&self) -> usize {
        self.memory.size()
    }

    /// The bytes received and not consumed.
    pub fn unread(&self) -> &[u8] {
        // SAFETY: [MEMORY] initialised bytes of ours; a receive under way writes behind `end` only.
        unsafe { std::slice::from_raw_parts(self.memory.at(self.start), self.end - self.start) }
    }

    /// Is nothing unread?
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `n` unread bytes (all, if there are fewer).
    pub fn consume(&mut self, n: usize) {
        self.start += n.min(self.end - self.start);
        if self.start == self.end && Rc::strong_count(&self.memory) == 1 {
            self.start = 0;
            self.end = 0
        }
    }

    /// Forgets everything that is unread.
    pub fn clear(&mut self) {
        self.consume(usize::MAX)
    }

    /// Adds bytes, as if they had been received: for tests of what reads from an inbox. False: they do not fit, and none was added.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        self.make_room();
        if self.memory.size() - self.end < bytes.len() {
            return false;
        }
        // SAFETY: [MEMORY] inside the memory, which is ours alone after `make_room`, and `bytes` cannot overlap it.
        unsafe {
            self.memory
                .at(self.end)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        self.end += bytes.len();
        true
    }

    /// Where the next bytes go, after moving the unread ones to the front if there is little room behind them.
    pub(crate) fn free_space(&mut self) -> (*mut u8, usize) {
        self.make_room();
        (self.memory.at(self.end), self.memory.size() - self.end)
    }

    /// Adds what `f` writes to the front of the free space and says the length of: for bytes that come out of something else than
    /// a socket.
    pub fn fill<E>(&mut self, f: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        let (free, room) = self.free_space();
        // SAFETY: [MEMORY] initialised bytes behind `end`, in memory that is ours alone after `make_room`.
        let n = f(unsafe { std::slice::from_raw_parts_mut(free, room) })?.min(room);
        self.received(n);
        Ok(n)
    }

    /// For the slot of a receive, which keeps it until the end.
    pub(crate) fn memory(&self) -> Rc<Memory> {
        self.memory.clone()
    }

    /// `n` bytes have arrived in the free space.
    pub(crate) fn received(&mut self, n: usize) {
        self.end = (self.end + n).min(self.memory.size())
    }

    fn make_room(&mut self) {
        let unread = self.end - self.start;
        if Rc::strong_count(&self.memory) > 1 {
            // A receive was abandoned, and the kernel may still write into the old memory.
            let fresh = Memory::new(self.memory.size());
            // SAFETY: [MEMORY] `unread` initialised bytes to another piece of the same size.
            unsafe { fresh.at(0).copy_from_nonoverlapping(self.memory.at(self.start), unread) };
            self.memory = Rc::new(fresh);
        } else if self.start > 0 && self.memory.size() - self.end < self.memory.size() / 2 {
            // SAFETY: [MEMORY] both ranges lie inside; they may overlap.
            unsafe { self.memory.at(0).copy_from(self.memory.at(self.start), unread) };
        } else {
            return;
        }
        self.start = 0;
        self.end = unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_survive_compaction_and_an_abandoned_receive() {
        let mut inbox = Inbox::with_capacity(128);
        assert!(inbox.push(&[1; 60]) && inbox.push(&[2; 60]));
        assert!(!inbox.push(&[3; 60]), "full");
        inbox.consume(60);
        assert!(inbox.push(&[3; 60]), "there is room after compaction");
        assert_eq!(inbox.unread(), [[2; 60], [3; 60]].concat());
        let held = inbox.memory();
        let (old, _) = (held.at(0), inbox.consume(60));
        let (fresh, room) = inbox.free_space();
        assert!(fresh != old && room == 68 && Rc::strong_count(&held) == 1);
        assert_eq!(inbox.unread(), [3; 60]);
        inbox.clear();
        assert!(inbox.is_empty());
        let filled = inbox.fill(|free| {
            free[..3].copy_from_slice(b"abc");
            Ok::<_, ()>(3)
        });
        assert_eq!((filled, inbox.unread()), (Ok(3), &b"abc"[..]));
        assert_eq!(inbox.fill(|_| Err(7)), Err(7));
        assert_eq!(inbox.fill(|free| Ok::<_, ()>(free.len() + 1)), Ok(125));
    }
}
