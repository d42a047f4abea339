//! What tests and `top` want to know: bytes the CPU copied, locks taken, pages in use.
use crate::page;
use std::cell::Cell;

thread_local! {
    static COPIED: Cell<u64> = const { Cell::new(0) };
    static LOCKS: Cell<u64> = const { Cell::new(0) };
    static LENT: Cell<u64> = const { Cell::new(0) };
}

#[inline]
pub(crate) fn copied(bytes: usize) {
    COPIED.with(|all| all.set(all.get() + bytes as u64));
}

/// Payload bytes which this core has copied with the CPU since it started: every copy that this crate makes into, out of or between
/// pages, un-sharing included (FEATURES S18). What the kernel copies is not ours to count.
pub fn bytes_copied() -> u64 {
    COPIED.with(Cell::get)
}

#[inline]
pub(crate) fn lent() {
    LENT.with(|all| all.set(all.get() + 1));
}

/// Sends of this core whose pages were lent to the kernel instead of copied by it.
pub fn sends_lent() -> u64 {
    LENT.with(Cell::get)
}

/// Locks this thread has taken since it started: in this crate, and wherever [`locked`] is called.
pub fn locks_taken() -> u64 {
    LOCKS.with(Cell::get)
}

/// Counts one lock. Called wherever a mutex is locked that an I/O could meet, so that a test can show that it does not.
#[inline]
pub fn locked() {
    LOCKS.with(|all| all.set(all.get() + 1));
}

/// Pages in use in the whole process; free ones in the stacks of cores do not count.
pub fn pages_in_use() -> usize {
    usize::try_from(page::in_use()).unwrap_or(0) // a page freed while we add up can make the sum short by a few
}

/// Pages taken less pages returned on this thread: what a test compares before and after. Negative where pages of others end.
pub fn pages_taken_here() -> i64 {
    page::balance_here()
}

/// Pages that are in use or lie ready in the stack of some core.
pub fn pages_with_cores() -> usize {
    crate::arena::pages_out()
}
