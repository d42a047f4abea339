//! The machine: pinned reactors, pages and buffers, pools and credits, io_uring, sockets, timers, checksums.
//!
//! A reactor is one thread, pinned if you say so, that runs tasks, timers and I/O of its own and shares nothing; other cores and threads reach it
//! by [`channel`]s (data) and [`Reactors::call`] (control). Start them with [`Reactors::start`], use [`block_on`] in tests and tools and
//! [`sim::run`] where time shall be simulated, or let a loop of your own drive a [`Reactor`].
//!
//! ```
//! use reactor::{Config, Reactors};
//! let reactors = Reactors::start(Config { count: 2, ..Config::default() }).unwrap();
//! let there = reactors.clone();
//! let answer = reactors.call(0, move || async move {
//!     reactor::sleep(std::time::Duration::from_millis(1)).await;
//!     there.call(1, async || reactor::core()).await
//! });
//! assert_eq!(answer.wait(), 1);
//! reactors.stop();
//! ```
//!
//! # Why the `unsafe` is sound
//!
//! This is the only crate of the house with `unsafe` code, but for `tls` (docs/adr/0007-tls.md). Each block cites one of these, or says
//! why in its own words:
//! - **\[ONE-CORE\]** What belongs to a core (tasks, timers, operations, lists of free pages) is made, used and dropped by its thread.
//! - **\[CURRENT-CORE\]** The pointer to the core a thread is inside of is set by a guard that keeps the core alive, and unset by its drop.
//! - **\[INTEGER-WAKER\]** A waker's data is a number; nothing dereferences it (`waker.rs`).
//! - **\[WAKER-CELL\]** The place of an atomic waker is touched only by who took it by changing its state from zero (`atomic_waker.rs`).
//! - **\[OP-OWNS-MEMORY\]** All memory that the kernel or a helper thread may touch after a call has returned (segments, pages, inboxes,
//!   outboxes, addresses) and the descriptor belong to the operation's slot until its completion has arrived, even if nobody waits any
//!   more. A slot does not move. What cannot be taken back when a core ends is leaked (`io/ops.rs`).
//! - **\[DURING-CALL\]** Memory given to a system call that is over when it returns, and that nobody else touches meanwhile.
//! - **\[SYSCALL\]** As before, for memory of the calling function's own, of the size the call is documented to read or write.
//! - **\[MEMORY\]** Inboxes and outboxes: ranges inside an allocation of initialised bytes, by whoever holds the only handle (`io/inbox.rs`).
//! - **\[NEW-FD\]** A descriptor the kernel has just made is owned by nobody else.
//! - **\[PLAIN-DATA\]**, **\[SAME-LAYOUT\]**, **\[SOCKADDR\]** Structures of the C library that are valid when zero; atomics that look like their
//!   integers; a socket address is what its family says.
//! - **\[LANE\]**, **\[STRIPS\]** Registers are used where the CPU has them, on bytes that are there: `parity/lane.rs`, `parity/kernel.rs`.
//! - **\[UNIQUE-WRITE\]**, **\[KERNEL-WRITE\]** Pages, see `page.rs`.

// ---- memory ----
pub mod arena;
mod buf;
mod checksum;
pub mod counters;
mod future;
mod list;
mod page;
mod parcel;
pub mod parity;
mod pin;
pub mod pool;
pub mod testing;

pub use buf::Buf;
pub use checksum::{crc32c, crc32c_append};
pub use future::{IoFuture, Serve};
pub use page::{CHUNK, PAGE, Page, release_free_pages};
pub use parcel::Parcel;
pub use pin::PinList;

// ---- running ----
mod atomic;
mod atomic_waker;
pub mod channel;
mod cores;
pub mod descriptors;
mod io;
mod mailbox;
mod reactors;
mod stats;
mod sync;
mod task;
mod time;
mod timer;
mod turn;
mod waker;

pub use io::{Closer, Direct, File, Inbox, Listener, OpenHow, Outbox, Received, Stream};
pub use reactors::{
    Call, Config, Gone, IoBackend, Poll, Reactors, Yield, core, is_stopping, reactors, spawn, spawn_background,
    stopping, try_core, yield_now,
};
pub use stats::CoreStats;
pub use sync::{Join, KeyGuard, KeyLocks, Notify, Wait};
pub use time::{Clock, Elapsed, Sleep, Time, now, sleep, sleep_until, timeout};
pub use turn::{PollerGuard, Progress, Reactor, block_on, block_on_with, poller, sim};
