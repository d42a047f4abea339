//! Thousands of visits while somebody works: what a target that forgets nothing it lent looks like from outside.
use crate::Server;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many visits a soak has.
pub const VISITS: u64 = 10_000;
/// After so many everything that grows once has grown.
const WARM: u64 = 1_000;
/// What may be resident on top of that, in KiB: the allocator's own housekeeping.
const ROOM: u64 = 4 * 1024;
/// However slow the machine is; one with nothing else to do takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(150);

/// Has four visitors come and go [`VISITS`] times while `load` works. `load` is asked for one round after another until the visits are over
/// and panics when its data is wrong; `visit` gets the number of the visit.
///
/// Panics if a visit fails, if it takes too long, or if the server's memory has grown.
#[track_caller]
pub fn soak(server: &Server, mut load: impl FnMut(u64) + Send, visit: impl Fn(u64) -> crate::Result<()> + Sync) {
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let (visits, warm) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let (stop, rounds, visits, warm, visit) = (&stop, &rounds, &visits, &warm, &visit);
        let load = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                load(rounds.fetch_add(1, Ordering::Relaxed));
            }
        });
        let visitors: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    loop {
                        let n = visits.fetch_add(1, Ordering::Relaxed);
                        if n >= VISITS || began.elapsed() > LIMIT {
                            return visits.fetch_sub(1, Ordering::Relaxed);
                        }
                        if n == WARM {
                            warm.store(server.rss(), Ordering::Relaxed);
                        }
                        visit(n).unwrap_or_else(|e| panic!("visit {n}: {e}"));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = visitors.into_iter().map(|visitor| visitor.join()).collect();
        stop.store(true, Ordering::Relaxed);
        load.join().expect("the load");
        assert!(ended.iter().all(Result::is_ok), "a visitor failed");
    });
    let (took, done, warm, now) = (began.elapsed(), visits.into_inner(), warm.into_inner(), server.rss());
    let rounds = rounds.into_inner();
    println!(
        "{done} visits in {took:.1?}, {rounds} verified rounds meanwhile, {warm} KiB after {WARM}, {now} KiB at the end"
    );
    assert_eq!(done, VISITS, "not done within {LIMIT:?}");
    assert!(rounds > 100, "the load hardly moved: {rounds} rounds");
    assert!(now < warm + ROOM, "resident memory grew from {warm} to {now} KiB");
}
