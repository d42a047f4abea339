//! What the sockets of one core can do: a server that answers 72-byte requests with a header and a 4 KiB page, as an NVMe/TCP target
//! answers reads, and a client on another core that keeps `depth` requests under way.
//!
//! `cargo run --release -p reactor --example loopback -- [depth] [connections] [seconds] [busy|adaptive] [server CPU] [client CPU]`
use reactor::{Buf, Config, Inbox, IoBackend, Listener, Notify, Outbox, PAGE, Poll, Reactors, Stream};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

const REQUEST: usize = 72;
const HEADER: usize = 24;

fn main() {
    let arg = |n: usize, default: &str| std::env::args().nth(n).unwrap_or(default.to_string());
    let number = |n: usize, default: &str| arg(n, default).parse::<u64>().expect("a number");
    let (depth, connections, seconds) = (number(1, "32"), number(2, "1"), number(3, "3"));
    let poll = if arg(4, "adaptive") == "busy" {
        Poll::Busy
    } else {
        Poll::Adaptive
    };
    let cpus = vec![number(5, "0") as usize, number(6, "1") as usize];
    for io in [IoBackend::IoUring, IoBackend::Epoll] {
        let config = Config {
            cores: cpus.clone(),
            io,
            poll,
            ..Config::default()
        };
        let reactors = match Reactors::start(config) {
            Ok(reactors) => reactors,
            Err(error) => {
                println!("{io:?}: {error}");
                continue;
            }
        };
        let address = reactors.call(0, serve).wait();
        let clients: Vec<_> = (0..connections)
            .map(|_| reactors.call(1, move || ask(address, depth, Duration::from_secs(seconds))))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let before = reactors.stats();
        let cpu = reactors.call(0, async || cpu_time()).wait();
        std::thread::sleep(Duration::from_secs(seconds) - Duration::from_millis(600));
        let cpu = reactors.call(0, async || cpu_time()).wait() - cpu;
        let after = reactors.stats();
        let answers: u64 = clients.into_iter().map(|client| client.wait()).sum();
        let turns = after[0].turns - before[0].turns;
        let window = seconds as f64 - 0.6;
        println!(
            "{io:?}: depth {depth} x {connections}: {} answers/s; server: {:.0} % of a CPU, {:.2} us an answer, {:.0} I/Os, {:.0} calls and {:.0} turns a second",
            answers / seconds,
            cpu / window * 100.0,
            cpu / window * 1e6 / (answers as f64 / seconds as f64),
            (after[0].ios - before[0].ios) as f64 / window,
            (after[0].syscalls - before[0].syscalls) as f64 / window,
            turns as f64 / window
        );
        reactors.stop();
    }
}

fn cpu_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one writable timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

async fn serve() -> SocketAddr {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = listener.local_addr();
    reactor::spawn_background(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let stream = Rc::new(stream);
            let state = Rc::new((
                RefCell::new(Outbox::with_capacity(512)),
                Notify::new(),
                Cell::new(false),
            ));
            let (socket, shared) = (stream.clone(), state.clone());
            reactor::spawn_background(async move {
                let mut under_way = Outbox::with_capacity(512);
                loop {
                    std::mem::swap(&mut under_way, &mut shared.0.borrow_mut());
                    if under_way.is_empty() {
                        if shared.2.get() {
                            return;
                        }
                        shared.1.wait().await;
                        continue;
                    }
                    while !under_way.is_empty() {
                        if socket.send(&mut under_way).await.is_err() {
                            return;
                        }
                    }
                }
            });
            reactor::spawn_background(async move {
                let mut inbox = Inbox::with_capacity(64 << 10);
                let page = Buf::from_slice(&[7; PAGE]);
                while let Ok(received) = stream.recv(&mut inbox, None).await {
                    if received.is_end() {
                        break;
                    }
                    let mut outbox = state.0.borrow_mut();
                    while inbox.unread().len() >= REQUEST {
                        inbox.consume(REQUEST);
                        outbox.push_bytes(&[1; HEADER]);
                        outbox.push_buf(page.clone());
                    }
                    state.1.notify_one()
                }
                state.2.set(true);
                state.1.notify_one()
            })
        }
    });
    address
}

async fn ask(address: SocketAddr, depth: u64, time: Duration) -> u64 {
    let stream = Stream::connect(address).await.expect("connect");
    let _ = stream.set_nodelay(true);
    let (mut inbox, mut outbox) = (Inbox::with_capacity(256 << 10), Outbox::with_capacity(8));
    let (mut answers, mut owed) = (0, 0);
    let end = reactor::now() + time;
    for _ in 0..depth {
        outbox.push_bytes(&[1; REQUEST])
    }
    while reactor::now() < end {
        while !outbox.is_empty() {
            stream.send(&mut outbox).await.expect("send");
        }
        stream.recv(&mut inbox, None).await.expect("recv");
        owed += inbox.unread().len();
        inbox.clear();
        while owed >= HEADER + PAGE {
            owed -= HEADER + PAGE;
            answers += 1;
            outbox.push_bytes(&[1; REQUEST])
        }
    }
    stream.shutdown();
    answers
}
