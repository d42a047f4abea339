//! The pool's own source files over loom's primitives instead of the standard library's.
pub mod sync {
    pub use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
    pub use std::sync::PoisonError;
    pub fn locked() {}
}
pub mod base;
#[path = "../../src/pool/child.rs"]
pub mod child;
#[path = "../../src/pool/compound.rs"]
pub mod compound;
#[path = "../../src/pool/ledger.rs"]
pub mod ledger;
#[path = "../../src/pool/line.rs"]
pub mod line;

pub use base::Base;
