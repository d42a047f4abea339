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
pub mod testing;

pub use buf::Buf;
pub use checksum::{crc32c, crc32c_append};
pub use future::IoFuture;
pub use page::{CHUNK, PAGE, Page, release_free_pages};
pub use parcel::Parcel;
pub use pin::PinList;

// ---- running ----
