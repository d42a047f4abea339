//! What `ranges.rs` is written against. `tests/ranges.rs` compiles the same file against shuttle's.
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};
