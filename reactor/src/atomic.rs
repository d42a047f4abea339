//! The atomics that the lock-free parts are written against. `tests/handshake.rs` compiles the same files against loom's.

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence};
