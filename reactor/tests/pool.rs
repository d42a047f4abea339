//! Pools and lines of credit, told in stories on one core.
use reactor::pool::{Base, Compound, Line, Object, Pool, PoolConfig, PoolError, Reservation, Reserve};
use reactor::{Page, testing::*};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

#[derive(Default)]
struct Count(AtomicUsize);
impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
impl Count {
    fn woken(&self) -> usize {
        self.0.swap(0, SeqCst)
    }
}

fn poll(future: &mut Reserve, waker: &Arc<Count>) -> Option<Reservation> {
    match Pin::new(future).poll(&mut Context::from_waker(&Waker::from(waker.clone()))) {
        Poll::Ready(got) => Some(got.unwrap()),
        Poll::Pending => None,
    }
}
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it has to wait"),
    }
}
fn config(deadlock: u32, bottleneck: u32, quota: u32) -> PoolConfig {
    PoolConfig {
        deadlock,
        bottleneck,
        quota: Some(quota),
    }
}

#[test]
fn reserve_allocate_free_unreserve() {
    let base = Base::new("buffers", (0..4).map(|i| vec![i; 3]));
    let pool = base.child("stream", PoolConfig::fixed(4)).unwrap();
    let mut right = now(pool.reserve(3)).unwrap();
    let mut a = pool.allocate(&mut right).unwrap();
    let b = pool.allocate(&mut right).unwrap();
    assert_eq!((a[0], b[0], right.remaining()), (0, 1, 1), "objects are those put in");
    a.push(9);
    drop(right); // the third right is given up; the objects carry theirs
    assert_eq!(pool.rights().reserved_and_idle(), (2, 2));
    let mut again = a.free();
    assert_eq!(again.remaining(), 1);
    let other = pool.allocate(&mut again).unwrap();
    assert!(pool.allocate(&mut again).is_none(), "no object without a right");
    drop((b, other, again));
    assert_eq!(pool.rights().reserved_and_idle(), (0, 4));
    base.check();

    let other = base.child("late", PoolConfig::fixed(1));
    assert_eq!(
        other.err(),
        Some(PoolError::Exhausted { wanted: 1, spare: 0 }),
        "the stream holds all"
    );
    let second = Base::credits("other", 1);
    let stranger = second.child("stranger", PoolConfig::fixed(1)).unwrap();
    let mut foreign = now(stranger.reserve(1)).unwrap();
    assert!(pool.allocate(&mut foreign).is_none(), "a right of another pool");
    drop(pool);
    assert_eq!(base.stats().free, 4, "a pool that ends gives everything back");
}

#[test]
fn a_child_is_made_with_its_guarantee_or_not_at_all() {
    let base = Base::credits("slots", 10);
    let greedy = base.child("greedy", config(4, 10, 10)).unwrap();
    let hold = (0..8).map(|_| greedy.try_reserve(1).unwrap()).collect::<Vec<_>>();
    assert_eq!(
        greedy.rights().reserved_and_idle(),
        (8, 2),
        "over-reserved at once, up to its bottleneck threshold"
    );
    assert_eq!(
        base.child("late", config(3, 3, 3)).err(),
        Some(PoolError::Exhausted { wanted: 3, spare: 2 })
    );
    drop(hold);
    let late = base.child("late", config(3, 3, 3)).unwrap(); // idle rights are taken from the other child
    assert_eq!(late.rights().reserved_and_idle(), (0, 3));
    base.check();
    assert_eq!(
        base.child("odd", config(3, 2, 4)).err(),
        Some(PoolError::Thresholds(config(3, 2, 4)))
    );
    assert!(base.child("none", config(0, 2, 4)).is_err());
}

#[test]
fn waiting_is_in_order_even_for_a_large_one_before_a_small_one() {
    let base = Base::credits("slots", 4);
    let pool = base.child("stream", PoolConfig::fixed(4)).unwrap();
    let first = now(pool.reserve(2)).unwrap();
    let second = now(pool.reserve(1)).unwrap();
    let (big_waker, small_waker) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let (mut big, mut small) = (pool.reserve(4), pool.reserve(1));
    assert!(poll(&mut big, &big_waker).is_none());
    assert!(
        poll(&mut small, &small_waker).is_none(),
        "one is idle, but somebody is before it"
    );
    assert!(pool.try_reserve(1).is_none());
    drop(second);
    assert_eq!((big_waker.woken(), small_waker.woken()), (0, 0));
    drop(first);
    assert_eq!((big_waker.woken(), small_waker.woken()), (1, 0));
    let held = poll(&mut big, &big_waker).unwrap();
    assert!(poll(&mut small, &small_waker).is_none());
    drop(held);
    assert_eq!(small_waker.woken(), 1);
    assert_eq!(poll(&mut small, &small_waker).unwrap().remaining(), 1);
    let too_large = now(pool.reserve(5));
    assert_eq!(too_large.err(), Some(PoolError::TooLarge { wanted: 5, deadlock: 4 }));
}

#[test]
fn who_gives_up_waiting_lets_the_next_one_in() {
    let base = Base::credits("slots", 2);
    let pool = base.child("stream", PoolConfig::fixed(2)).unwrap();
    let waker = Arc::new(Count::default());
    let one = now(pool.reserve(1)).unwrap();
    let (mut big, mut small) = (pool.reserve(2), pool.reserve(1));
    assert!(poll(&mut big, &waker).is_none() && poll(&mut small, &waker).is_none());
    drop(big);
    assert_eq!(waker.woken(), 1);
    drop(small); // granted, but nobody came for it
    assert_eq!(pool.rights().reserved_and_idle(), (1, 1));
    drop(one);
    base.check();
}

#[test]
fn a_starving_child_gets_what_others_can_spare_and_no_more() {
    let base = Base::credits("pages", 10);
    let rich = base.child("rich", config(2, 8, 10)).unwrap();
    let poor = base.child("poor", config(2, 4, 6)).unwrap();
    let mut work: Vec<_> = (0..8).map(|_| now(rich.reserve(1)).unwrap()).collect();
    let mine = now(poor.reserve(2)).unwrap();
    let waker = Arc::new(Count::default());
    let mut more = poor.reserve(2);
    assert!(
        poll(&mut more, &waker).is_none(),
        "the base is empty and the other child is busy"
    );
    assert!(rich.rights().is_called());
    work.pop();
    assert_eq!(waker.woken(), 0, "one is not enough");
    work.pop();
    assert_eq!(waker.woken(), 1, "brought over as soon as two were idle");
    assert!(!rich.rights().is_called());
    let two = poll(&mut more, &waker).unwrap();
    assert_eq!(base.stats().children[0].reclaimed, 2);
    base.check();

    // And so on, down to the other's guarantee and up to one's own quota.
    let mut two_more = poor.reserve(2);
    assert!(poll(&mut two_more, &waker).is_none());
    work.truncate(3);
    let six = poll(&mut two_more, &waker).unwrap();
    let mut seventh = poor.reserve(1);
    assert!(poll(&mut seventh, &waker).is_none(), "beyond the quota");
    assert!(!rich.rights().is_called(), "which is nobody else's business");
    base.check();
    waker.woken();
    drop((two, six, mine));
    assert_eq!(waker.woken(), 1);
    assert!(poll(&mut seventh, &waker).is_some());
}

#[test]
fn over_reservation_bleeds_away_slowly_when_it_is_not_used() {
    let base = Base::credits("pages", 100);
    let pool = base.child("stream", config(4, 64, 100)).unwrap();
    drop((0..5).map(|_| now(pool.reserve(4)).unwrap()).collect::<Vec<_>>());
    let (_, idle) = pool.rights().reserved_and_idle();
    assert_eq!(idle, 64, "taken at once");
    let mut seen = vec![idle];
    for _ in 0..100_000 {
        drop(now(pool.reserve(2)).unwrap());
        let (_, idle) = pool.rights().reserved_and_idle();
        if idle != *seen.last().unwrap() {
            seen.push(idle)
        }
    }
    assert!(
        seen.windows(2).all(|two| two[1] < two[0] && two[0] - two[1] <= 8),
        "bit by bit: {seen:?}"
    );
    assert_eq!(*seen.last().unwrap(), 4, "down to the guarantee");
    base.check();
}

#[test]
fn compounds_are_taken_all_together_and_in_one_order() {
    let (slots, pages) = (Base::credits("slots", 2), Base::made("pages", 16, Page::alloc));
    let (slot_pool, page_pool) = (
        slots.child("s", PoolConfig::fixed(2)).unwrap(),
        pages.child("s", config(8, 8, 8)).unwrap(),
    );
    // Named the other way round; taken in the order of the bases all the same.
    let compound = Compound::new(&[(page_pool.rights(), 8), (slot_pool.rights(), 1)]).unwrap();
    let mut work = now(compound.reserve()).unwrap();
    let page: Object<Page> = page_pool.allocate(work.part(0).unwrap()).unwrap();
    assert_eq!(
        (work.part(0).unwrap().remaining(), work.part(1).unwrap().remaining()),
        (7, 1)
    );
    assert!(work.part(2).is_none());
    assert!(compound.try_reserve().is_none(), "the pages are used up");
    assert_eq!(
        slot_pool.rights().reserved_and_idle(),
        (1, 1),
        "and the slot was given back"
    );

    let mut waiting = Box::pin(compound.reserve());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    drop(work);
    assert!(waiting.as_mut().poll(&mut cx).is_pending(), "one page is still in use");
    drop(page);
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
    let refused = Compound::new(&[(page_pool.rights(), 9)]).err();
    assert_eq!(refused, Some(PoolError::TooLarge { wanted: 9, deadlock: 8 }));
}

#[test]
fn a_line_is_a_window_that_grows_shrinks_and_is_never_overdrawn() {
    let base = Base::credits("slots", 12);
    let (host, other) = (
        base.child("host", config(2, 8, 10)).unwrap(),
        base.child("other", config(2, 4, 12)).unwrap(),
    );
    let line = Line::open(host.rights(), 2, 8).unwrap();
    assert_eq!((line.granted(), line.grow(), line.granted()), (2, 6, 8));
    let mut work: Vec<_> = (0..8).map(|_| line.spend().unwrap()).collect();
    assert!(line.spend().is_none(), "a host that sends more than it may");
    work.pop();
    assert_eq!((line.granted(), line.spent()), (1, 7), "done: granted again");

    // Somebody starves: the window shrinks as work ends, down to the floor, and the starving one is served.
    let held = now(other.reserve(2)).unwrap();
    let waker = Arc::new(Count::default());
    let more: Vec<_> = (0..2).map(|_| now(other.reserve(1)).unwrap()).collect();
    let mut starving = other.reserve(2);
    assert!(poll(&mut starving, &waker).is_none());
    assert_eq!(line.grow(), 0, "not now");
    work.pop();
    work.pop();
    assert_eq!(waker.woken(), 1);
    assert_eq!((line.granted(), line.spent()), (1, 5), "two credits went to the other");
    let two = poll(&mut starving, &waker).unwrap();
    drop((two, more, held));
    other.rights().give_back();
    assert_eq!((line.grow(), line.granted(), line.spent()), (2, 3, 5));

    // A recall takes nothing from the host's hands.
    assert_eq!(line.recall(4), 4);
    work.truncate(1);
    assert_eq!((line.granted(), line.spent()), (3, 1));
    assert_eq!(
        line.give_back(9),
        2,
        "unless the host gives it back itself; the floor stays"
    );
    work.clear();
    assert_eq!((line.granted(), line.spent(), line.limit()), (2, 0, 4));
    drop(line);
    assert_eq!(host.rights().reserved_and_idle().0, 0);
    base.check();
}

#[test]
fn credits_may_be_granted_and_recalled_by_somebody_else() {
    let base = Base::credits("window", 0);
    base.grant(2);
    let pool = base.child("sender", config(1, 4, 8)).unwrap();
    let two = (now(pool.reserve(1)).unwrap(), now(pool.reserve(1)).unwrap());
    let waker = Arc::new(Count::default());
    let mut third = pool.reserve(1);
    assert!(poll(&mut third, &waker).is_none());
    base.grant(3);
    assert_eq!(waker.woken(), 1);
    let third = poll(&mut third, &waker).unwrap();
    assert_eq!(base.recall(9), 2, "what nobody holds");
    drop((two, third));
    pool.rights().give_back();
    assert_eq!(base.recall(9), 2, "all but the guarantee");
    base.check();
}

#[test]
fn thresholds_can_be_tuned_alive() {
    let base = Base::credits("tuned", 10);
    let (a, b) = (
        base.child("a", config(2, 4, 8)).unwrap(),
        base.child("b", config(4, 4, 4)).unwrap(),
    );
    let held = now(a.reserve(2)).unwrap();
    assert!(now(a.reserve(5)).is_err());
    a.rights().tune(config(5, 6, 6)).unwrap();
    assert_eq!(
        a.rights().reserved_and_idle(),
        (2, 3),
        "it has its new guarantee at once"
    );
    assert_eq!(
        a.rights().tune(config(7, 7, 7)).err(),
        Some(PoolError::Exhausted { wanted: 2, spare: 1 })
    );
    assert_eq!(
        b.rights().tune(config(5, 4, 4)).err(),
        Some(PoolError::Thresholds(config(5, 4, 4)))
    );
    assert_eq!(a.rights().config(), config(5, 6, 6), "what failed changed nothing");
    drop(held);
    assert_eq!(now(a.reserve(5)).unwrap().remaining(), 5);
    a.rights().tune(config(1, 2, 2)).unwrap();
    assert_eq!(a.rights().reserved_and_idle(), (0, 2), "cut to the new quota");
    base.check();

    let view = reactor::pool::stats()
        .into_iter()
        .find(|pool| pool.name == "tuned")
        .unwrap();
    assert_eq!((view.total, view.free, view.starving), (10, 4, 0));
    let children: Vec<_> = view
        .children
        .iter()
        .map(|c| (c.name.as_str(), c.idle, c.reserved))
        .collect();
    assert_eq!(children, [("a", 2, 0), ("b", 4, 0)]);
}

#[test]
fn a_warm_pool_allocates_nothing() {
    let base = Base::new("buffers", (0..64).map(|_| [0u8; 64]));
    let (a, b) = (
        base.child("a", config(8, 16, 40)).unwrap(),
        base.child("b", config(8, 16, 40)).unwrap(),
    );
    let line = Line::open(b.rights(), 4, 8).unwrap();
    let compound = Compound::new(&[(a.rights(), 4)]).unwrap();
    let mut held: Vec<Reservation> = Vec::with_capacity(64);
    let mut round = |pool: &Pool<[u8; 64]>| {
        let mut eight = now(pool.reserve(8)).unwrap();
        let one = pool.allocate(&mut eight);
        held.extend((0..20).map_while(|_| pool.try_reserve(1)));
        let mut waiting = pool.reserve(8);
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut waiting).poll(&mut cx);
        held.clear();
        drop((one, eight, waiting, line.spend(), now(compound.reserve())));
        line.grow();
    };
    for _ in 0..10 {
        round(&a);
        round(&b);
    }
    let before = allocations();
    for _ in 0..1000 {
        round(&a);
        round(&b);
    }
    assert_eq!(allocations() - before, 0);
    base.check();
}

/// Threads with a child each, ten times as much wanted as there is. Everybody gets on, nothing is lost.
#[test]
fn under_tenfold_overload_every_stream_progresses() {
    const STREAMS: usize = 4;
    let base = Base::new("buffers", 0..40u32);
    let go = std::sync::Barrier::new(STREAMS);
    let shares: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let streams: Vec<_> = (0..STREAMS as u64)
            .map(|seed| {
                let (base, go) = (&base, &go);
                scope.spawn(move || {
                    let pool = base.child(&format!("stream {seed}"), config(5, 20, 30)).unwrap();
                    go.wait();
                    stream(&pool, seed, std::time::Duration::from_millis(300))
                })
            })
            .collect();
        streams.into_iter().map(|s| s.join().unwrap()).collect()
    });
    base.check();
    assert_eq!(base.stats().free, 40);
    for (seed, (done, wanted)) in shares.iter().enumerate() {
        assert!(*done > 100, "stream {seed} got {done} of {wanted}: {shares:?}");
    }
}

/// 100 tasks that want up to 5 objects each, on one core with an executor of the simplest kind.
fn stream(pool: &Pool<u32>, seed: u64, time: std::time::Duration) -> (u64, u64) {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark()
        }
    }
    let end = std::time::Instant::now() + time;
    let (done, wanted) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let (done, wanted) = (&done, &wanted);
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = (0..100u64)
        .map(|task| {
            Box::pin(async move {
                let mut rng = Rng::new(seed * 1000 + task);
                while std::time::Instant::now() < end {
                    let n = 1 + rng.below(5) as u32;
                    wanted.set(wanted.get() + 1);
                    let mut right = pool.reserve(n).await.unwrap();
                    let objects: Vec<_> = (0..n).map(|_| pool.allocate(&mut right).unwrap()).collect();
                    for _ in 0..rng.below(3) {
                        let mut once = false;
                        std::future::poll_fn(|cx| {
                            cx.waker().wake_by_ref();
                            if std::mem::replace(&mut once, true) {
                                Poll::Ready(())
                            } else {
                                Poll::Pending
                            }
                        })
                        .await
                    }
                    drop(objects);
                    done.set(done.get() + 1);
                }
            }) as Pin<Box<dyn Future<Output = ()> + '_>>
        })
        .collect();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    while !tasks.is_empty() {
        tasks.retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        if !tasks.is_empty() {
            let before = std::time::Instant::now();
            std::thread::park_timeout(std::time::Duration::from_secs(10));
            assert!(
                before.elapsed().as_secs() < 10,
                "nobody woke us: a lost wake-up (seed {seed})"
            );
        }
    }
    (done.get(), wanted.get())
}
