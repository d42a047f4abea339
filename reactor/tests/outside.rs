//! DESIGN D12: somebody else's loop drives the turns, and somebody else's allocator owns the memory. Alone in its process, as page memory
//! has one source for all.
use reactor::{Buf, CHUNK, Config, Inbox, Listener, Outbox, PAGE, Reactor, Stream, arena};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    cell::Cell,
    net::SocketAddr,
    ptr::NonNull,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Counts what it hands out.
struct Theirs;

fn chunk() -> Layout {
    Layout::from_size_align(CHUNK, CHUNK).unwrap()
}

// SAFETY: whole zeroed chunks, aligned, each to one taker.
unsafe impl arena::PageSource for Theirs {
    fn take_chunk(&self) -> Option<NonNull<u8>> {
        TAKEN.fetch_add(1, SeqCst);
        // SAFETY: not empty.
        NonNull::new(unsafe { alloc_zeroed(chunk()) })
    }
    fn give_chunk(&self, at: NonNull<u8>) {
        TAKEN.fetch_sub(1, SeqCst);
        // SAFETY: made by `take_chunk`.
        unsafe { dealloc(at.as_ptr(), chunk()) }
    }
}

/// An outer loop with work of its own between the turns: a page goes to a socket and comes back, in memory of the outer allocator.
#[test]
fn a_reactor_lives_in_somebody_elses_loop_and_memory() {
    assert!(arena::use_source(Box::new(Theirs)).is_ok());
    let reactor = Reactor::new(Config::default()).unwrap();
    let done = Rc::new(Cell::new(false));
    let said = done.clone();
    reactor.spawn(async move {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr();
        reactor::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            reactor::sleep(std::time::Duration::from_millis(5)).await;
            let (page, mut inbox) = (Buf::alloc(PAGE), Inbox::with_capacity(64));
            let mut at = 0;
            while at < PAGE {
                at += stream
                    .recv(&mut inbox, Some(&page.slice(at..PAGE)))
                    .await
                    .unwrap()
                    .payload
            }
            let mut outbox = Outbox::with_capacity(2);
            outbox.push_buf(page);
            while !outbox.is_empty() {
                stream.send(&mut outbox).await.unwrap();
            }
        });
        let stream = Stream::connect(address).await.unwrap();
        let mut outbox = Outbox::with_capacity(2);
        outbox.push_buf(Buf::from_slice(&[42; PAGE]));
        while !outbox.is_empty() {
            stream.send(&mut outbox).await.unwrap();
        }
        let mut inbox = Inbox::with_capacity(PAGE);
        while inbox.unread().len() < PAGE {
            stream.recv(&mut inbox, None).await.unwrap();
        }
        assert_eq!(inbox.unread(), [42; PAGE]);
        said.set(true)
    });
    let fd = reactor.fd().unwrap();
    let (mut turns, mut own_work, mut waits) = (0u64, 0u64, 0u64);
    while !done.get() {
        let progress = reactor.turn();
        turns += 1;
        own_work += turns % 7;
        if !progress.work && reactor.prepare_to_wait() {
            waits += 1;
            let mut poll = libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            let now = reactor.enter(reactor::now);
            let nap = progress
                .next_timer
                .map_or(60_000, |due| 1 + due.since(now).as_millis() as i32);
            // SAFETY: one pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, nap) };
            assert!(
                ready == 1 || progress.next_timer.is_some(),
                "the descriptor says when there is something to do"
            )
        }
    }
    assert!(waits > 0 && waits < 100);
    println!("{turns} turns, {waits} waits, {own_work} of their own");
    assert!(TAKEN.load(SeqCst) > 0, "the pages are theirs");
    // Inside the reactor from outside of its tasks.
    assert_eq!(reactor.enter(reactor::core), 0);
}
