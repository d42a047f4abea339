//! All pools of the process, for `top` and RPC.
use super::ledger::{Ledger, PoolStats};
use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

static ALL: Mutex<Vec<Weak<Ledger>>> = Mutex::new(Vec::new());
static ORDER: AtomicU64 = AtomicU64::new(0);

/// The order in which bases are made is the one in which compound pools reserve.
pub(super) fn next_order() -> u64 {
    ORDER.fetch_add(1, Relaxed)
}

pub(super) fn register(ledger: &Arc<Ledger>) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|one| one.strong_count() > 0);
    all.push(Arc::downgrade(ledger));
}

/// A live view of every base pool and its children, in the order in which they were made.
pub fn stats() -> Vec<PoolStats> {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter()
        .filter_map(Weak::upgrade)
        .map(|ledger| ledger.stats())
        .collect()
}
