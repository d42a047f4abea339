//! Payload memory as credits (DESIGN D7): how many pages of command buffers may be out at once.
//!
//! Queue depth bounds what one host may have under way, but a thousand hosts with deep queues could still ask for more
//! than there is. So the pages of all command buffers of the process are one base pool, each core has a child of it, and
//! a command reserves all its pages in one step before it gets its buffer. It holds nothing while it waits, and its
//! answer's bytes have left when it gives them back: commands cannot wait for each other in a circle, and a slow reader
//! holds no more than its own queue's worth.
use reactor::{
    Buf, PAGE, arena,
    pool::{Base, Pool, PoolConfig, Reservation},
};
use std::{cell::RefCell, sync::OnceLock, time::Duration};

/// Page rights of this process: half of what the arena may hold. Devices and the other front end need some, too.
fn base() -> &'static Base<()> {
    static BASE: OnceLock<Base<()>> = OnceLock::new();
    BASE.get_or_init(|| Base::credits("NVMe/TCP payload pages", arena::stats().max_bytes / PAGE / 2))
}

thread_local! {
    static CORE: RefCell<Option<Pool<()>>> = const { RefCell::new(None) };
}

/// Pages of `len` bytes.
fn pages(len: usize) -> u32 {
    len.div_ceil(PAGE) as u32
}

/// This core's share. Its anti-deadlock threshold is the largest command's need: a Compare of `max_io` bytes reads as many
/// again. `None` if there is not even that.
pub fn core(max_io: u32) -> Option<Pool<()>> {
    let deadlock = 2 * pages(max_io as usize);
    // A busy core has a few dozen middling commands under way.
    let config = PoolConfig {
        deadlock,
        bottleneck: deadlock.max(1024),
        quota: None,
    };
    CORE.with_borrow_mut(|core| {
        match core {
            Some(pool) if pool.rights().config().deadlock >= deadlock => {}
            Some(pool) => pool.rights().tune(config).ok()?,
            None => *core = Some(base().child("core", config).ok()?),
        }
        core.clone()
    })
}

/// A buffer of `len` bytes and the right to it; `scratch` more bytes may be allocated under the same right.
pub async fn buffer(pool: &Pool<()>, len: usize, scratch: usize) -> (Buf, Reservation) {
    let n = pages(len) + pages(scratch);
    let right = match pool.try_reserve(n) {
        Some(right) => right,
        None => wait(pool, n).await,
    };
    loop {
        match Buf::try_alloc(len) {
            Some(buf) => return (buf, right),
            // The right is good, but others have taken more than their half of the arena: they will give some back.
            None => reactor::sleep(Duration::from_micros(100)).await,
        }
    }
}

#[cold]
async fn wait(pool: &Pool<()>, n: u32) -> Reservation {
    loop {
        match pool.reserve(n).await {
            Ok(right) => return right,
            // Beyond the threshold: cannot be, for no command is larger than the transport allows, and the threshold
            // follows the transport. Waiting is the harmless answer.
            Err(_) => reactor::sleep(Duration::from_millis(100)).await,
        }
    }
}
