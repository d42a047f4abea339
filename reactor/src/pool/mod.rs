//! Pools of objects and the rights to use them (DESIGN D7, FEATURES S19 and S21).
//!
//! ```text
//!   Base "pages", 4096           one for each kind, shared by all cores
//!     ├── Pool, core 0           child: its own guaranteed share, more when there is more
//!     │     ├── Reservation ×8   the right to 8 objects, before the work starts
//!     │     │     └── Object     one of them, while it is used
//!     │     └── Line             rights lent to a host as credits: MaxCmdSN, queue depth
//!     └── Pool, core 1
//! ```
//!
//! Four verbs: *reserve* (a right; may wait), *allocate* (an object for a right; never fails), *free* (the object), *unreserve* (the right).
//! A work item reserves everything it needs once, before it starts, so overload shows as waiting, or as a smaller window of a line, and never
//! as a failed allocation in the middle of something.
//!
//! Three thresholds for each child ([`PoolConfig`]):
//! - **deadlock**: rights it always holds. The largest single reservation is no larger, so whatever the others do, the child's first waiter is
//!   served when the child's own work ends. A child that cannot get this much is not made.
//! - **bottleneck**: rights a busy child needs to run at full speed. A child that runs short takes so many at once if they are free; what it
//!   does not use it gives back bit by bit.
//! - **quota**: rights it never exceeds.
//!
//! Between them: a child that lacks rights takes from the base what is free, then what others hold idle beyond their deadlock threshold. If that
//! is not enough it starves: it queues at the base, first come first served, and every other child sees a flag in the word it changes anyway
//! when it unreserves, and brings what it can spare.
//!
//! Cost: to reserve and unreserve is one atomic operation each on a word of the child, which other cores touch only when somebody runs short;
//! everything else is under a lock of the base, and rare. Model-checked in `tests/pool_model.rs` and `tests/pool_shuttle.rs`.
mod base;
mod child;
mod compound;
mod ledger;
mod line;
mod view;

/// What the model checkers put in place of the standard library's.
mod sync {
    pub use crate::counters::locked;
    pub use std::sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    };
}

pub use base::{Base, Object, Pool};
pub use child::{Reservation, Reserve, Rights};
pub use compound::{Compound, Held};
pub use ledger::{ChildStats, PoolConfig, PoolError, PoolStats};
pub use line::{Credit, Line};
pub use view::stats;
