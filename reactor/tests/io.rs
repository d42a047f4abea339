//! Sockets and files, every test on io_uring (where there is one) and on the fallback.
use reactor::testing::{CountingAlloc, LoopDevice, Rng, allocations, pattern, skip};
use reactor::{
    Buf, Config, Direct, File, Inbox, IoBackend, Listener, OpenHow, Outbox, PAGE, Poll, Reactor, Reactors, Received,
    Stream, counters,
};
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

const MS: Duration = Duration::from_millis(1);

/// Runs a story on each way to do I/O that this machine has.
fn both<F: Future<Output = ()>>(story: impl Fn() -> F) {
    for io in [IoBackend::IoUring, IoBackend::Epoll] {
        let config = Config {
            io,
            ..Config::default()
        };
        match Reactor::new(config.clone()) {
            Ok(_) => {
                println!("with {io:?}");
                reactor::block_on_with(config, story())
            }
            Err(error) => println!("without {io:?}: {error}"),
        }
    }
}

fn localhost() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn pair() -> (Stream, Stream) {
    let listener = Listener::bind(localhost()).unwrap();
    let client = Rc::new(Cell::new(None));
    let (slot, address) = (client.clone(), listener.local_addr());
    reactor::spawn(async move { slot.set(Some(Stream::connect(address).await.unwrap())) });
    let (server, peer) = listener.accept().await.unwrap();
    loop {
        if let Some(client) = client.take() {
            assert_eq!(client.local_addr().unwrap(), peer);
            assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            return (client, server);
        }
        reactor::yield_now().await
    }
}

async fn send_all(stream: &Stream, outbox: &mut Outbox) -> io::Result<u32> {
    let mut calls = 0;
    while !outbox.is_empty() {
        stream.send(outbox).await?;
        calls += 1
    }
    Ok(calls)
}

/// Headers and pages, gathered, through a small socket buffer: sends are partial, and the reader gets every byte in order.
#[test]
fn a_large_gathered_send_arrives_in_order() {
    both(|| async {
        let seed = 4711;
        println!("seed {seed}");
        let mut random = Rng::new(seed);
        let (client, server) = pair().await;
        client.set_buffer_sizes(16 << 10, 16 << 10).unwrap();
        server.set_buffer_sizes(16 << 10, 16 << 10).unwrap();
        let mut expected = Vec::new();
        let mut outbox = Outbox::with_capacity(64);
        for n in 0..40 {
            let header = random.bytes(1 + n);
            outbox.push_bytes(&header);
            expected.extend(header);
            let len = random.below(100_000) as usize;
            let data = random.bytes(len);
            let buf = Buf::from_slice(&data);
            outbox.push_buf(buf.slice(0..len / 2));
            outbox.push_buf(buf.slice(len / 2..len));
            expected.extend(data)
        }
        let total = expected.len();
        reactor::spawn(async move {
            let calls = send_all(&client, &mut outbox).await.unwrap();
            println!("{total} bytes in {calls} sends");
            assert!(calls > 1);
            client.half_close(std::net::Shutdown::Write);
            // Held until the other side has read everything.
            let mut inbox = Inbox::with_capacity(64);
            assert!(client.recv(&mut inbox, None).await.unwrap().is_end());
        });
        let mut inbox = Inbox::with_capacity(10_000);
        let mut got = Vec::new();
        loop {
            let received = server.recv(&mut inbox, None).await.unwrap();
            if received.is_end() {
                break;
            }
            let n = inbox.unread().len().min(1 + random.below(10_000) as usize);
            got.extend_from_slice(&inbox.unread()[..n]);
            inbox.consume(n);
        }
        got.extend_from_slice(inbox.unread());
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    })
}

/// A header, then 128 KiB that go into the pages of a buffer, then the next header into the inbox: no byte of payload is copied by us.
#[test]
fn payload_goes_straight_into_pages() {
    both(|| async {
        const LEN: usize = 128 << 10;
        let (client, server) = pair().await;
        let data = pattern(3, LEN);
        let from = Buf::from_slice(&data);
        let into = Buf::alloc(LEN);
        let mut outbox = Outbox::with_capacity(8);
        let mut inbox = Inbox::with_capacity(64 << 10);
        let before = counters::bytes_copied();
        outbox.push_bytes(b"header 1");
        outbox.push_buf(from.clone());
        outbox.push_bytes(b"header 2");
        let sender = async { send_all(&client, &mut outbox).await.unwrap() };
        let receiver = async {
            // The first receive may take as much as has arrived, so ask for the header only, as a session that knows nothing yet.
            let mut small = Inbox::with_capacity(64);
            while small.unread().len() < 8 {
                server.recv(&mut small, None).await.unwrap();
            }
            let early = small.unread()[8..].to_vec();
            assert_eq!(&small.unread()[..8], b"header 1");
            let mut at = early.len();
            while at < LEN {
                at += server
                    .recv(&mut inbox, Some(&into.slice(at..LEN)))
                    .await
                    .unwrap()
                    .payload
            }
            while inbox.unread().len() < 8 {
                server.recv(&mut inbox, None).await.unwrap();
            }
            assert_eq!(inbox.unread(), b"header 2");
            early
        };
        let (_, early) = zip(sender, receiver).await;
        assert_eq!(counters::bytes_copied(), before, "bytes copied by the CPU");
        into.write_at(0, &early);
        assert!(into.to_vec() == data);
    })
}

/// Both to the end; the parts do not move.
async fn zip<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut left, mut right) = (None, None);
    std::future::poll_fn(|cx| {
        if left.is_none()
            && let std::task::Poll::Ready(value) = a.as_mut().poll(cx)
        {
            left = Some(value)
        }
        if right.is_none()
            && let std::task::Poll::Ready(value) = b.as_mut().poll(cx)
        {
            right = Some(value)
        }
        match left.is_some() && right.is_some() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    (left.unwrap(), right.unwrap())
}

#[test]
fn a_sent_buffer_may_be_overwritten_at_once() {
    both(|| async {
        let (client, server) = pair().await;
        client.set_buffer_sizes(8 << 10, 8 << 10).unwrap();
        let buf = Buf::from_slice(&[7; 64 << 10]);
        let mut outbox = Outbox::with_capacity(8);
        outbox.push_buf(buf.clone());
        let sender = async {
            let mut first = Box::pin(client.send(&mut outbox));
            // Started, not over; then the owner of the buffer goes on with it.
            let sent = std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx))).await;
            buf.fill(9);
            match sent {
                std::task::Poll::Ready(sent) => sent.unwrap(),
                std::task::Poll::Pending => first.as_mut().await.unwrap(),
            };
            drop(first);
            send_all(&client, &mut outbox).await.unwrap();
        };
        let receiver = async {
            let mut inbox = Inbox::with_capacity(100_000);
            while inbox.unread().len() < 64 << 10 {
                assert!(!server.recv(&mut inbox, None).await.unwrap().is_end());
            }
            assert!(inbox.unread().iter().all(|b| *b == 7));
        };
        zip(sender, receiver).await;
    })
}

#[test]
fn shutdown_ends_a_receive_and_a_send_under_way() {
    both(|| async {
        let (client, server) = pair().await;
        client.set_buffer_sizes(8 << 10, 8 << 10).unwrap();
        let client = Rc::new(client);
        let ended = Rc::new(Cell::new(0));
        let (stream, count) = (client.clone(), ended.clone());
        reactor::spawn(async move {
            let mut inbox = Inbox::with_capacity(100);
            assert_eq!(stream.recv(&mut inbox, None).await.unwrap(), Received::default());
            count.set(count.get() + 1)
        });
        let (stream, count) = (client.clone(), ended.clone());
        reactor::spawn(async move {
            let mut outbox = Outbox::with_capacity(8);
            let error = loop {
                outbox.push_buf(Buf::alloc(1 << 20));
                if let Err(error) = stream.send(&mut outbox).await {
                    break error;
                }
            };
            println!("the send ended with: {error}");
            count.set(count.get() + 1)
        });
        reactor::sleep(20 * MS).await;
        assert_eq!(ended.get(), 0, "both wait: nobody sends, and nobody receives");
        client.shutdown();
        reactor::sleep(20 * MS).await;
        assert_eq!(ended.get(), 2);
        drop(server)
    })
}

/// A receive whose future is dropped: the inbox and the buffer may be used for other things, or freed, and the kernel writes into neither.
#[test]
fn a_dropped_receive_lets_go_of_the_inbox() {
    both(|| async {
        let (client, server) = pair().await;
        let mut inbox = Inbox::with_capacity(64);
        assert!(inbox.push(b"kept"));
        let payload = Buf::from_slice(&[1; 5000]);
        for _ in 0..20 {
            let waiting = server.recv(&mut inbox, Some(&payload));
            assert!(reactor::timeout(MS / 4, waiting).await.is_err());
            assert_eq!(inbox.unread(), b"kept");
        }
        let mut outbox = Outbox::with_capacity(8);
        outbox.push_bytes(&[2; 5000]);
        send_all(&client, &mut outbox).await.unwrap();
        reactor::sleep(5 * MS).await;
        drop(payload);
        assert_eq!(inbox.unread(), b"kept");
        // An accept and a send, dropped.
        let listener = Listener::bind(localhost()).unwrap();
        assert!(reactor::timeout(MS, listener.accept()).await.is_err());
        let (connected, accepted) = zip(
            Stream::connect(listener.local_addr()),
            reactor::timeout(1000 * MS, listener.accept()),
        )
        .await;
        connected.unwrap();
        accepted
            .expect("the dropped accept did not swallow the connection")
            .unwrap();
        client.set_buffer_sizes(4 << 10, 4 << 10).unwrap();
        loop {
            outbox.push_buf(Buf::alloc(1 << 20));
            if reactor::timeout(5 * MS, client.send(&mut outbox)).await.is_err() {
                break;
            }
        }
        outbox.push_bytes(b"x");
        drop((client, server));
    })
}

#[test]
fn connecting_to_nobody_is_refused() {
    both(|| async {
        let address = Listener::bind(localhost()).unwrap().local_addr();
        assert_eq!(
            Stream::connect(address).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    })
}

/// A connection accepted and used on one core, then moved to another.
#[test]
fn a_stream_moves_to_another_core() {
    for io in [IoBackend::IoUring, IoBackend::Epoll] {
        let Ok(reactors) = Reactors::start(Config {
            count: 2,
            io,
            ..Config::default()
        }) else {
            continue;
        };
        let there = reactors.clone();
        let answer = reactors.call(0, move || async move {
            let (client, server) = pair().await;
            let mut outbox = Outbox::with_capacity(4);
            let mut inbox = Inbox::with_capacity(100);
            outbox.push_bytes(b"first");
            client.send(&mut outbox).await.unwrap();
            server.recv(&mut inbox, None).await.unwrap();
            let echo = there.call(1, move || async move {
                let (mut inbox, mut outbox) = (Inbox::with_capacity(100), Outbox::with_capacity(4));
                server.recv(&mut inbox, None).await.unwrap();
                outbox.push_bytes(inbox.unread());
                server.send(&mut outbox).await.unwrap();
                reactor::core()
            });
            outbox.push_bytes(b"second");
            client.send(&mut outbox).await.unwrap();
            assert_eq!(echo.await, 1);
            inbox.clear();
            client.recv(&mut inbox, None).await.unwrap();
            inbox.unread().to_vec()
        });
        assert_eq!(answer.wait(), b"second");
        reactors.stop();
    }
}

/// Sends and receives on a warm connection do not allocate.
#[test]
fn a_warm_round_trip_allocates_nothing() {
    both(|| async {
        let (client, server) = pair().await;
        let (mut to, mut from) = (Outbox::with_capacity(8), Outbox::with_capacity(8));
        let (mut here, mut there) = (Inbox::with_capacity(64 << 10), Inbox::with_capacity(64 << 10));
        let data = Buf::from_slice(&[5; PAGE]);
        let into = Buf::alloc(PAGE);
        let mut used = 0;
        for round in 0..300 {
            let before = allocations();
            to.push_bytes(&[1; 72]);
            while !to.is_empty() {
                client.send(&mut to).await.unwrap();
            }
            while there.unread().len() < 72 {
                server.recv(&mut there, None).await.unwrap();
            }
            there.consume(72);
            from.push_buf(data.clone());
            from.push_bytes(&[2; 24]);
            while !from.is_empty() {
                server.send(&mut from).await.unwrap();
            }
            let mut at = 0;
            while at < PAGE {
                at += client
                    .recv(&mut here, Some(&into.slice(at..PAGE)))
                    .await
                    .unwrap()
                    .payload
            }
            while here.unread().len() < 24 {
                client.recv(&mut here, None).await.unwrap();
            }
            here.consume(24);
            if round >= 100 {
                used += allocations() - before
            }
        }
        assert_eq!(used, 0);
    })
}

/// What this machine does over loopback between two tasks of one core: printed, not judged.
#[test]
fn round_trips_over_loopback() {
    both(|| async {
        const ROUNDS: u32 = 2_000;
        let (client, server) = pair().await;
        reactor::spawn(async move {
            let (mut inbox, mut outbox) = (Inbox::with_capacity(4096), Outbox::with_capacity(8));
            while !server.recv(&mut inbox, None).await.unwrap().is_end() {
                outbox.push_bytes(inbox.unread());
                inbox.clear();
                send_all(&server, &mut outbox).await.unwrap();
            }
        });
        let (mut inbox, mut outbox) = (Inbox::with_capacity(4096), Outbox::with_capacity(8));
        let started = Instant::now();
        for _ in 0..ROUNDS {
            outbox.push_bytes(&[1; 72]);
            send_all(&client, &mut outbox).await.unwrap();
            while inbox.unread().len() < 72 {
                client.recv(&mut inbox, None).await.unwrap();
            }
            inbox.clear()
        }
        println!("round trip: {:?}", started.elapsed() / ROUNDS);
        client.shutdown()
    })
}

/// A reactor with open connections on which nothing happens sleeps.
#[test]
fn waiting_for_sockets_costs_nothing() {
    for io in [IoBackend::IoUring, IoBackend::Epoll] {
        let Ok(reactors) = Reactors::start(Config {
            io,
            poll: Poll::Adaptive,
            ..Config::default()
        }) else {
            continue;
        };
        reactors
            .call(0, || async {
                for _ in 0..10 {
                    let (client, server) = pair().await;
                    reactor::spawn_background(async move {
                        let mut inbox = Inbox::with_capacity(100);
                        let _ = server.recv(&mut inbox, None).await;
                        drop(client)
                    })
                }
            })
            .wait();
        std::thread::sleep(50 * MS);
        let before = reactors.stats()[0];
        std::thread::sleep(300 * MS);
        let after = reactors.stats()[0];
        println!("{io:?}: {} turns in 300 ms", after.turns - before.turns);
        assert!(after.turns - before.turns < 100 && after.asleep);
        reactors.stop();
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ashlar-reactor-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
    /// Where files differ to us: on a disk, and in memory.
    fn everywhere(name: &str) -> Vec<Self> {
        let memory = Path::new("/dev/shm");
        let there = memory
            .is_dir()
            .then(|| Self(memory.join(format!("ashlar-reactor-{}-{name}", std::process::id()))));
        there.into_iter().chain([Self::new(name)]).collect()
    }
    fn create(&self, direct: Direct, size: u64) -> File {
        let how = OpenHow {
            direct,
            create_size: Some(size),
            read_only: false,
        };
        File::open(&self.0, &how).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn what_was_written_is_read() {
    for direct in [Direct::Auto, Direct::Never] {
        both(|| async move {
            for scratch in Scratch::everywhere("written") {
                let file = scratch.create(direct, 4 << 20);
                println!("{file:?}");
                assert_eq!(file.size().unwrap(), 4 << 20);
                let data = pattern(9, 300 << 10);
                let from = Buf::from_slice(&data);
                let before = counters::bytes_copied();
                file.write(1 << 20, from.clone(), false).await.unwrap();
                file.sync_data().await.unwrap();
                let into = Buf::alloc(data.len());
                file.read(1 << 20, into.clone()).await.unwrap();
                assert_eq!(counters::bytes_copied(), before);
                assert!(into.eq_bytes(&from));
                // A part that starts in the middle of a page of the buffer, in the middle of a block of the file.
                let block = file.logical_block_size() as usize;
                file.write(block as u64, from.slice(block..3 * block), true)
                    .await
                    .unwrap();
                let part = Buf::zeroed(8 * PAGE);
                file.read(block as u64, part.slice(3 * block..5 * block)).await.unwrap();
                assert!(part.slice(3 * block..5 * block).to_vec() == data[block..3 * block]);
                assert!(part.slice(0..3 * block).is_zero() && part.slice(5 * block..8 * PAGE).is_zero());
                // One that starts at an odd byte of its page, as data does that came with a header in front of it.
                let odd = Buf::zeroed(2 * PAGE);
                odd.write_at(13, &data[..PAGE]);
                file.write(0, odd.slice(13..13 + PAGE), false).await.unwrap();
                odd.fill(0);
                file.read(0, odd.slice(29..29 + PAGE)).await.unwrap();
                assert!(odd.slice(29..29 + PAGE).to_vec() == data[..PAGE]);
                // On the disk it is what others read.
                drop(file);
                assert!(std::fs::read(&scratch.0).unwrap()[1 << 20..][..data.len()] == data);
            }
        })
    }
}

#[test]
fn many_operations_at_once_keep_apart() {
    both(|| async {
        for scratch in Scratch::everywhere("many") {
            let file = scratch.create(Direct::Auto, 64 << 20);
            let done = Rc::new(Cell::new(0u64));
            // More than the ring's queue is long.
            for n in 0..1500u64 {
                let (file, done) = (file.clone(), done.clone());
                reactor::spawn(async move {
                    let (data, into) = (Buf::from_slice(&pattern(n, PAGE)), Buf::alloc(PAGE));
                    file.write(n * PAGE as u64, data.clone(), false).await.unwrap();
                    file.read(n * PAGE as u64, into.clone()).await.unwrap();
                    assert!(into.eq_bytes(&data));
                    done.set(done.get() + 1)
                })
            }
            while done.get() < 1500 {
                reactor::sleep(MS).await
            }
        }
    })
}

#[test]
fn holes_and_zeros_read_as_zeros() {
    both(|| async {
        let scratch = Scratch::new("holes");
        let file = scratch.create(Direct::Auto, 1 << 20);
        let data = Buf::from_slice(&pattern(1, 1 << 20));
        file.write(0, data.clone(), false).await.unwrap();
        file.punch_hole(64 << 10, 64 << 10).await.unwrap();
        file.zero_range(256 << 10, 64 << 10, true).await.unwrap();
        file.zero_range(512 << 10, 64 << 10, false).await.unwrap();
        let into = Buf::alloc(1 << 20);
        file.read(0, into.clone()).await.unwrap();
        let zeros = [1, 4, 8];
        for piece in 0..16 {
            let range = piece * (64 << 10)..(piece + 1) * (64 << 10);
            match zeros.contains(&piece) {
                true => assert!(into.slice(range).is_zero(), "piece {piece}"),
                false => assert!(into.slice(range.clone()).eq_bytes(&data.slice(range)), "piece {piece}"),
            }
        }
        assert_eq!(file.size().unwrap(), 1 << 20, "no range changed the size");
    })
}

#[test]
fn the_end_of_a_file_moves_and_is_an_error_to_pass() {
    both(|| async {
        for scratch in Scratch::everywhere("end") {
            let file = scratch.create(Direct::Auto, 1 << 20);
            let error = file.read((1 << 20) - 4096, Buf::alloc(8192)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            file.set_size(2 << 20).unwrap();
            assert_eq!(file.size().unwrap(), 2 << 20);
            file.read((1 << 20) - 4096, Buf::alloc(8192)).await.unwrap();
            let read_only = File::open(
                &scratch.0,
                &OpenHow {
                    read_only: true,
                    ..OpenHow::default()
                },
            )
            .unwrap();
            assert!(read_only.write(0, Buf::zeroed(4096), false).await.is_err());
            read_only.read(0, Buf::alloc(4096)).await.unwrap();
            // A second start finds the file as it is.
            assert_eq!(scratch.create(Direct::Auto, 5 << 20).size().unwrap(), 2 << 20);
            let missing = File::open(&scratch.0.with_extension("not"), &OpenHow::default()).unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
            assert!(
                File::open(&std::env::temp_dir(), &OpenHow::default()).is_err(),
                "a directory"
            );
        }
    })
}

/// A read whose future is dropped at once, and its buffer with it; and a reactor that ends in the middle of it.
#[test]
fn a_dropped_read_keeps_its_pages_until_its_end() {
    let scratch = Scratch::new("dropped");
    scratch.create(Direct::Auto, 8 << 20);
    both(|| async {
        let file = scratch.create(Direct::Auto, 8 << 20);
        for n in 0..50 {
            let mut read = Box::pin(file.read(n * 128 * 1024, Buf::alloc(128 << 10)));
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx))).await;
            assert!(first.is_pending());
            drop(read)
        }
        for n in 0..50 {
            let file = file.clone();
            reactor::spawn(async move {
                let _ = file.read(n * 128 * 1024, Buf::alloc(128 << 10)).await;
            })
        }
        reactor::yield_now().await
    });
    assert_eq!(counters::pages_taken_here(), 0, "every page came back");
}

#[test]
fn a_warm_read_and_write_allocate_nothing() {
    both(|| async {
        for scratch in Scratch::everywhere("warm") {
            let file = scratch.create(Direct::Auto, 1 << 20);
            let buf = Buf::from_slice(&pattern(5, PAGE));
            let mut used = 0;
            for round in 0..150 {
                let before = allocations();
                file.write(8192, buf.clone(), false).await.unwrap();
                file.read(8192, buf.clone()).await.unwrap();
                if round >= 50 {
                    used += allocations() - before
                }
            }
            assert_eq!(used, 0);
        }
    })
}

/// Block devices have ioctls where files have calls: size, blocks, discard, zeroes. Needs root and losetup; says so without.
#[test]
fn a_block_device_is_read_written_discarded_and_zeroed() {
    let scratch = Scratch::new("loop");
    scratch.create(Direct::Never, 8 << 20);
    let device = match LoopDevice::over(&scratch.0, 512, &[]) {
        Ok(device) => device,
        Err(why) => return skip("calls to a block device", &why),
    };
    both(|| async {
        let file = File::open(device.path(), &OpenHow::default()).unwrap();
        println!("{file:?}");
        assert!(file.is_block_device() && file.is_direct());
        assert_eq!((file.size().unwrap(), file.logical_block_size()), (8 << 20, 512));
        let data = Buf::from_slice(&pattern(6, 1 << 20));
        file.write(1 << 20, data.clone(), true).await.unwrap();
        file.punch_hole(1 << 20, 256 << 10).await.unwrap();
        file.zero_range((1 << 20) + (512 << 10), 64 << 10, true).await.unwrap();
        file.zero_range((1 << 20) + (768 << 10), 64 << 10, false).await.unwrap();
        file.sync_data().await.unwrap();
        let into = Buf::alloc(1 << 20);
        file.read(1 << 20, into.clone()).await.unwrap();
        for piece in 0..16 {
            let range = piece * (64 << 10)..(piece + 1) * (64 << 10);
            // A discarded range of a loop device is a hole of its file.
            match [0, 1, 2, 3, 8, 12].contains(&piece) {
                true => assert!(into.slice(range).is_zero(), "piece {piece}"),
                false => assert!(into.slice(range.clone()).eq_bytes(&data.slice(range)), "piece {piece}"),
            }
        }
        // The writer sees its own mistakes too: beyond the end, and not a whole block.
        assert!(file.write((8 << 20) - 512, Buf::zeroed(1024), false).await.is_err());
        assert!(file.read(100, Buf::alloc(512)).await.is_err());
    })
}

/// The fallback without anybody's asking, as in a container that forbids io_uring.
#[test]
fn the_environment_can_ask_for_the_fallback() {
    let program = std::env::current_exe().unwrap();
    let run = |with: Option<&str>| {
        let mut command = std::process::Command::new(&program);
        command
            .args(["--exact", "what_this_process_uses", "--nocapture"])
            .env("ASHLAR_TEST_ASK", "1");
        match with {
            Some(io) => command.env("ASHLAR_IO", io),
            None => command.env_remove("ASHLAR_IO"),
        };
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(run(Some("epoll")).contains("io_uring: false"));
    println!("{}", run(None));
}

#[test]
fn what_this_process_uses() {
    let reactors = Reactors::start(Config::default()).unwrap();
    println!("io_uring: {}", reactors.stats()[0].io_uring);
    reactors.stop();
}

/// Pages of a large send belong to the kernel until the peer has them, whatever becomes of the buffer meanwhile; on loopback, where
/// the kernel copies in the end, it is tried only when asked for, and once.
#[test]
fn a_large_send_lends_its_pages() {
    let before = counters::pages_taken_here();
    reactor::block_on(async {
        let (one, two) = pair().await;
        let data = pattern(31, 16 << 20);
        let buf = Buf::from_slice(&data);
        let mut outbox = Outbox::with_capacity(8);
        outbox.push_bytes(b"header");
        outbox.push_buf(buf.clone());
        let lent = counters::sends_lent();
        one.set_lending(true);
        // Nobody receives, so a part of what the kernel has taken waits in our pages.
        let sent = one.send(&mut outbox).await.unwrap();
        if counters::sends_lent() == lent {
            return skip(
                "a large send lends its pages",
                "the kernel cannot (or io_uring is not used)",
            );
        }
        assert!(sent > 6 && !outbox.is_empty(), "{sent} bytes at once");
        buf.fill(0xff);
        drop(buf);
        let rest = outbox.to_vec();
        outbox.clear();
        let mut wanted = b"header".to_vec();
        wanted.extend(&data[..sent - 6]);
        assert!(rest == data[sent - 6..], "the rest is as it was");
        assert!(
            counters::pages_taken_here() > before,
            "what the peer has not got is kept"
        );
        let (mut got, mut inbox) = (Vec::<u8>::new(), Inbox::with_capacity(64 << 10));
        while got.len() < sent {
            two.recv(&mut inbox, None).await.unwrap();
            got.extend(inbox.unread());
            inbox.clear();
        }
        assert!(got == wanted, "as it was when it was sent");
        // The notices are on their way.
        for _ in 0..1000 {
            if counters::pages_taken_here() == before {
                break;
            }
            reactor::sleep(MS).await
        }
        assert_eq!(counters::pages_taken_here(), before);
        // In vain here, so not again.
        outbox.push_buf(Buf::from_slice(&data[..64 << 10]));
        let lent = counters::sends_lent();
        one.send(&mut outbox).await.unwrap();
        assert_eq!(counters::sends_lent(), lent);
    });
    assert_eq!(counters::pages_taken_here(), before);
}

/// A peer that never receives: the pages come back when the connection ends.
#[test]
fn lent_pages_come_back_with_the_connection() {
    let before = counters::pages_taken_here();
    reactor::block_on(async {
        let (one, two) = pair().await;
        let mut outbox = Outbox::with_capacity(8);
        outbox.push_buf(Buf::from_slice(&pattern(32, 16 << 20)));
        one.set_lending(true);
        one.send(&mut outbox).await.unwrap();
        drop((one, two, outbox));
    });
    assert_eq!(counters::pages_taken_here(), before);
}
