//! Who holds how many rights to one kind of object. Knows nothing of the objects.
//!
//! A child's `Share` is one word, `called | idle | reserved`: its owner moves rights between idle and reserved with one atomic operation and
//! no lock. Everybody's sum of idle and reserved changes only under the ledger's lock:
//!
//! ```text
//!   free + Σ (idle + reserved) = total          under the lock
//! ```
//!
//! A child that starves sets `called` in every word under the lock and then looks once more for idle rights. An owner that unreserves
//! has either done so before, and the rights are found, or sees the flag in the very word it has changed, and comes to the lock. So no
//! right is freed without notice, with nothing but the order of operations on single words.
use super::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering::*, PoisonError, locked};
use std::{collections::VecDeque, fmt, task::Waker};

/// Thresholds of a child pool, in objects. `0 < deadlock <= bottleneck <= quota`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Always held, and the largest single reservation.
    pub deadlock: u32,
    /// Taken at once by a child that runs short, if free.
    pub bottleneck: u32,
    /// Never exceeded.
    pub quota: Option<u32>,
}

impl PoolConfig {
    /// A child that always holds `n`, and never more.
    pub const fn fixed(n: u32) -> PoolConfig {
        PoolConfig {
            deadlock: n,
            bottleneck: n,
            quota: Some(n),
        }
    }
    fn quota(&self) -> u32 {
        self.quota.unwrap_or(u32::MAX)
    }
    fn valid(&self) -> bool {
        0 < self.deadlock && self.deadlock <= self.bottleneck && self.bottleneck <= self.quota()
    }
}

/// Why a pool refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// The base cannot spare the child's deadlock threshold (or a line's least window).
    Exhausted {
        /// Rights asked for.
        wanted: u32,
        /// Rights that could be had.
        spare: u32,
    },
    /// A reservation larger than the child's deadlock threshold: nobody could promise that it is ever served.
    TooLarge {
        /// Rights asked for.
        wanted: u32,
        /// The child's deadlock threshold.
        deadlock: u32,
    },
    /// Thresholds that contradict each other.
    Thresholds(PoolConfig),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::Exhausted { wanted, spare } => {
                write!(f, "{wanted} objects are wanted and {spare} can be spared")
            }
            PoolError::TooLarge { wanted, deadlock } => {
                write!(
                    f,
                    "a reservation of {wanted} objects is beyond the pool's anti-deadlock threshold of {deadlock}"
                )
            }
            PoolError::Thresholds(c) => write!(
                f,
                "thresholds are not in order: {c:?} (0 < deadlock <= bottleneck <= quota)"
            ),
        }
    }
}
impl std::error::Error for PoolError {}

/// A live view of one base pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Name of the kind.
    pub name: String,
    /// Objects there are.
    pub total: u32,
    /// Rights which no child holds.
    pub free: u32,
    /// Children that wait for rights of others.
    pub starving: u32,
    /// The children.
    pub children: Vec<ChildStats>,
}

/// A live view of one child pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStats {
    /// Name given when it was made.
    pub name: String,
    /// Its thresholds.
    pub config: PoolConfig,
    /// Rights held and not reserved.
    pub idle: u32,
    /// Rights reserved, with or without an object.
    pub reserved: u32,
    /// Times it had to wait for rights of others.
    pub starved: u64,
    /// Rights that others took from it.
    pub reclaimed: u64,
}

// ---- the word ----

const CALLED: u64 = 1 << 63;
const IDLE: u32 = 32;
/// Bound on rights of one kind: they fit beside the flag.
const MOST: u32 = u32::MAX >> 1;

/// Rights of one child, as its owner sees them.
#[repr(align(64))]
pub(super) struct Share(AtomicU64);

#[derive(Clone, Copy)]
pub(super) struct View {
    pub idle: u32,
    pub reserved: u32,
    pub called: bool,
}
impl From<u64> for View {
    fn from(word: u64) -> View {
        View {
            idle: (word >> IDLE) as u32 & MOST,
            reserved: word as u32,
            called: word & CALLED != 0,
        }
    }
}

impl Share {
    pub fn view(&self) -> View {
        self.0.load(Acquire).into()
    }
    /// Idle to reserved, if there are as many.
    #[inline]
    pub fn try_reserve(&self, n: u32) -> bool {
        self.change(|view| view.idle >= n, u64::from(n).wrapping_sub(u64::from(n) << IDLE))
    }
    /// Reserved to idle. Gives what was before.
    #[inline]
    pub fn unreserve(&self, n: u32) -> View {
        self.0.fetch_add((u64::from(n) << IDLE) - u64::from(n), AcqRel).into()
    }
    /// Adds `delta` if `may` allows.
    #[inline]
    fn change(&self, may: impl Fn(View) -> bool, delta: u64) -> bool {
        let mut word = self.0.load(Relaxed);
        while may(word.into()) {
            match self
                .0
                .compare_exchange_weak(word, word.wrapping_add(delta), AcqRel, Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }
    /// Under the lock.
    fn add_idle(&self, n: u32) {
        self.0.fetch_add(u64::from(n) << IDLE, AcqRel);
    }
    /// Takes up to `most` idle rights. Under the lock.
    fn take_idle(&self, most: u32) -> u32 {
        loop {
            let n = self.view().idle.min(most);
            if n == 0 || self.change(|view| view.idle >= n, (u64::from(n) << IDLE).wrapping_neg()) {
                return n;
            }
        }
    }
    fn call(&self) {
        self.0.fetch_or(CALLED, AcqRel);
    }
    fn uncall(&self) {
        self.0.fetch_and(!CALLED, AcqRel);
    }
}

// ---- the ledger ----

/// Rights to one kind of object, and the children that hold them.
pub(super) struct Ledger {
    name: String,
    /// Place in the order in which several kinds are reserved (Havender).
    order: u64,
    state: Mutex<State>,
}

struct State {
    total: u32,
    free: u32,
    next_id: u64,
    accounts: Vec<Account>,
    /// Ids of accounts that starve, first come first.
    starving: VecDeque<u64>,
}

struct Account {
    id: u64,
    name: String,
    config: PoolConfig,
    share: Arc<Share>,
    /// Idle and reserved together.
    rights: u32,
    hunger: Hunger,
    starved: u64,
    reclaimed: u64,
}

enum Hunger {
    None,
    /// In the queue: the child's first waiter wants so many at once.
    Starving {
        wants: u32,
        waker: Waker,
    },
    /// Got them, and has not come to take them: nobody takes them away again.
    Served,
}

impl Ledger {
    pub fn new(name: &str, order: u64, total: u32) -> Ledger {
        let total = total.min(MOST);
        let state = State {
            total,
            free: total,
            next_id: 0,
            accounts: Vec::new(),
            starving: VecDeque::new(),
        };
        Ledger {
            name: name.into(),
            order,
            state: Mutex::new(state),
        }
    }
    pub fn order(&self) -> u64 {
        self.order
    }
    fn lock(&self) -> MutexGuard<'_, State> {
        locked();
        // No statement under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new child with its deadlock threshold.
    pub fn open(&self, name: &str, config: PoolConfig) -> Result<(u64, Arc<Share>), PoolError> {
        if !config.valid() {
            return Err(PoolError::Thresholds(config));
        }
        let mut state = self.lock();
        let wanted = config.deadlock;
        if !state.collect(wanted, None) {
            return Err(PoolError::Exhausted {
                wanted,
                spare: state.free,
            });
        }
        state.free -= wanted;
        let share = Arc::new(Share(AtomicU64::new(u64::from(wanted) << IDLE)));
        if !state.starving.is_empty() {
            share.call();
        }
        let id = state.next_id;
        state.next_id += 1;
        let (name, rights) = (name.into(), wanted);
        let account = Account {
            id,
            name,
            config,
            share: share.clone(),
            rights,
            hunger: Hunger::None,
            starved: 0,
            reclaimed: 0,
        };
        state.accounts.push(account);
        Ok((id, share))
    }
    /// The child is gone, and everything it had reserved has come back.
    pub fn close(&self, id: u64) {
        let mut state = self.lock();
        if let Some(i) = state.index(id) {
            state.starving.retain(|other| *other != id);
            let account = state.accounts.swap_remove(i);
            state.free += account.rights;
        }
        drop(state);
        self.settle();
    }
    /// New thresholds; the child gets or keeps at least its new deadlock threshold, or nothing changes.
    pub fn tune(&self, id: u64, config: PoolConfig) -> Result<(), PoolError> {
        if !config.valid() {
            return Err(PoolError::Thresholds(config));
        }
        let mut state = self.lock();
        let Some(i) = state.index(id) else { return Ok(()) };
        let lacks = config.deadlock.saturating_sub(state.accounts[i].rights);
        if !state.collect(lacks, Some(id)) {
            return Err(PoolError::Exhausted {
                wanted: lacks,
                spare: state.free,
            });
        }
        state.hand(i, lacks);
        state.accounts[i].config = config;
        let surplus = state.accounts[i].rights.saturating_sub(config.quota());
        state.take_from(i, surplus);
        drop(state);
        self.settle();
        Ok(())
    }
    /// More objects of this kind.
    pub fn add(&self, n: u32) {
        let mut state = self.lock();
        let n = n.min(MOST - state.total);
        state.total += n;
        state.free += n;
        drop(state);
        self.settle();
    }
    /// Fewer objects of this kind: as many of `n` as nobody has a right to. Gives their number.
    pub fn remove(&self, n: u32) -> u32 {
        let mut state = self.lock();
        let n = n.min(state.free);
        state.total -= n;
        state.free -= n;
        n
    }

    /// Reserves `n` for child `id`, whose idle rights did not suffice. With a waker the child starves if there are not enough: it queues,
    /// and the waker is called when they are its own.
    pub fn reserve(&self, id: u64, n: u32, waker: Option<&Waker>) -> bool {
        let mut state = self.lock();
        let Some(i) = state.index(id) else { return false };
        if state.reserve(i, n) {
            state.calm(i);
            drop(state);
            self.settle(); // some may be left over for who is next
            return true;
        }
        let account = &mut state.accounts[i];
        let Some(waker) = waker else { return false };
        let lacks = n - account.share.view().idle.min(n);
        if account.rights + lacks > account.config.quota() {
            state.calm(i); // waits for its own: no use in asking others
            return false;
        }
        if !matches!(account.hunger, Hunger::Starving { .. }) {
            account.starved += 1;
            state.starving.push_back(id);
        }
        state.accounts[i].hunger = Hunger::Starving {
            wants: n,
            waker: waker.clone(),
        };
        if state.starving.len() == 1 {
            state.accounts.iter().for_each(|account| account.share.call());
        }
        // What came back before the flag was up. If that is enough, it is ours.
        let got = state.reserve(i, n);
        if got {
            state.calm(i);
        }
        drop(state);
        self.settle();
        got
    }
    /// The child no longer waits for others.
    pub fn calm(&self, id: u64) {
        let mut state = self.lock();
        if let Some(i) = state.index(id) {
            state.calm(i);
        }
        drop(state);
        self.settle();
    }
    /// The child gives back up to `n` idle rights beyond its deadlock threshold.
    pub fn bleed(&self, id: u64, n: u32) {
        let mut state = self.lock();
        if let Some(i) = state.index(id) {
            let beyond = state.accounts[i]
                .rights
                .saturating_sub(state.accounts[i].config.deadlock);
            state.take_from(i, n.min(beyond));
        }
        drop(state);
        self.settle();
    }

    /// Serves who starves, in order, as far as free and idle rights go.
    pub fn settle(&self) {
        loop {
            let woken = self.lock().serve_first();
            let Some(waker) = woken else { return };
            waker.wake() // not under the lock: a waker may run anything
        }
    }

    pub fn stats(&self) -> PoolStats {
        let state = self.lock();
        let child = |a: &Account| {
            let view = a.share.view();
            let (idle, reserved) = (view.idle, view.reserved);
            ChildStats {
                name: a.name.clone(),
                config: a.config,
                idle,
                reserved,
                starved: a.starved,
                reclaimed: a.reclaimed,
            }
        };
        PoolStats {
            name: self.name.clone(),
            total: state.total,
            free: state.free,
            starving: state.starving.len() as u32,
            children: state.accounts.iter().map(child).collect(),
        }
    }
    /// What always holds. For tests.
    pub fn check(&self) {
        let state = self.lock();
        let held: u32 = state.accounts.iter().map(|a| a.rights).sum();
        assert_eq!(state.free + held, state.total, "no right is lost or made");
        for a in &state.accounts {
            let view = a.share.view();
            assert_eq!(view.idle + view.reserved, a.rights, "{}", a.name); // one load: true at any time
            assert!(
                a.config.deadlock <= a.rights && a.rights <= a.config.quota(),
                "{}: {} rights",
                a.name,
                a.rights
            );
        }
    }
}

impl State {
    fn index(&self, id: u64) -> Option<usize> {
        self.accounts.iter().position(|a| a.id == id)
    }
    /// Moves free rights to a child.
    fn hand(&mut self, i: usize, n: u32) {
        self.free -= n;
        self.accounts[i].rights += n;
        self.accounts[i].share.add_idle(n);
    }
    /// Moves up to `n` idle rights of a child to the free ones.
    fn take_from(&mut self, i: usize, n: u32) -> u32 {
        let got = self.accounts[i].share.take_idle(n);
        self.accounts[i].rights -= got;
        self.free += got;
        got
    }
    /// Sees to it that `n` rights are free, taking idle ones of children other than `but`: first what is beyond their bottleneck threshold,
    /// then what is beyond their deadlock threshold.
    fn collect(&mut self, n: u32, but: Option<u64>) -> bool {
        for spare_bottleneck in [true, false] {
            for i in 0..self.accounts.len() {
                if self.free >= n {
                    return true;
                }
                let a = &self.accounts[i];
                if Some(a.id) == but || matches!(a.hunger, Hunger::Served) {
                    continue;
                }
                let keep = if spare_bottleneck {
                    a.config.bottleneck
                } else {
                    a.config.deadlock
                };
                let most = a.rights.saturating_sub(keep).min(n - self.free);
                let got = self.take_from(i, most);
                self.accounts[i].reclaimed += u64::from(got);
            }
        }
        self.free >= n
    }
    /// Reserves `n` for a child, with rights of others if it is nobody else's turn.
    fn reserve(&mut self, i: usize, n: u32) -> bool {
        let a = &self.accounts[i];
        let (id, idle) = (a.id, a.share.view().idle);
        if idle < n {
            let (lacks, quota) = (n - idle, a.config.quota());
            let turn = self.starving.front().is_none_or(|first| *first == id);
            if !turn || a.rights + lacks > quota || !self.collect(lacks, Some(id)) {
                return false;
            }
            // Over-reserve: up to the bottleneck threshold, if nobody else waits.
            let alone = self.starving.iter().all(|other| *other == id);
            let a = &self.accounts[i];
            let more = if alone {
                a.config.bottleneck.saturating_sub(a.rights + lacks)
            } else {
                0
            };
            let more = more.min(self.free - lacks);
            self.hand(i, lacks + more);
        }
        // Only the owner, who is in here, takes from a child's idle rights without the lock.
        self.accounts[i].share.try_reserve(n)
    }
    fn calm(&mut self, i: usize) {
        let id = self.accounts[i].id;
        if let Hunger::Starving { .. } = std::mem::replace(&mut self.accounts[i].hunger, Hunger::None) {
            self.starving.retain(|other| *other != id);
            self.uncall();
        }
    }
    fn uncall(&mut self) {
        if self.starving.is_empty() {
            self.accounts.iter().for_each(|account| account.share.uncall());
        }
    }
    /// Gives the first in the queue what its waiter lacks, if there is as much.
    fn serve_first(&mut self) -> Option<Waker> {
        let id = *self.starving.front()?;
        let i = self.index(id)?;
        let a = &self.accounts[i];
        let Hunger::Starving { wants, .. } = a.hunger else {
            return None;
        };
        let lacks = wants - a.share.view().idle.min(wants);
        // Its owner has just served itself, or was given a smaller quota: it shall look again.
        let stale = a.rights + lacks > a.config.quota();
        if !stale {
            if !self.collect(lacks, Some(id)) {
                return None;
            }
            self.hand(i, lacks);
        }
        self.starving.pop_front();
        self.uncall();
        let now = if stale { Hunger::None } else { Hunger::Served };
        match std::mem::replace(&mut self.accounts[i].hunger, now) {
            Hunger::Starving { waker, .. } => Some(waker),
            _ => None,
        }
    }
}
