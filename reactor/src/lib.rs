//! The machine: pinned reactors, pages and buffers, pools and credits, io_uring, sockets, timers, checksums.

// ---- memory ----
pub mod arena;
mod buf;
mod checksum;
pub mod counters;
mod future;
mod list;
mod page;
mod parcel;
mod pin;
pub mod pool;
pub mod testing;

pub use buf::Buf;
pub use checksum::{crc32c, crc32c_append};
pub use future::IoFuture;
pub use page::{CHUNK, PAGE, Page, release_free_pages};
pub use parcel::Parcel;
pub use pin::PinList;

// ---- running ----
mod atomic;
mod atomic_waker;
pub mod channel;
mod cores;
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

pub use io::{Direct, File, Inbox, Listener, OpenHow, Outbox, Received, Stream};
pub use reactors::{
    Call, Config, Gone, IoBackend, Poll, Reactors, core, is_stopping, reactors, spawn, spawn_background, stopping,
    try_core, yield_now,
};
pub use stats::CoreStats;
pub use sync::{Join, KeyGuard, KeyLocks, Notify, Wait};
pub use time::{Clock, Elapsed, Sleep, Time, now, sleep, sleep_until, timeout};
pub use turn::{PollerGuard, Progress, Reactor, block_on, block_on_with, poller, sim};
