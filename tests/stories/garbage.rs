//! Whatever strangers send, the sessions of others go on, memory stays bounded and nothing panics.
use blackbox::config::Config;
use blackbox::iscsi::{Iscsi, Pdu, login_request};
use blackbox::nvme::{self, Nvme};
use blackbox::pattern::{self, Random};
use blackbox::tool::tree;
use blackbox::{Ports, Server, needs, rpc};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What may be resident on top of an idle target, in KiB, while it is being abused.
const ROOM: u64 = 128 * 1024;

/// A target with two memory disks, and the names under which they are served.
struct Stage {
    dir: tempfile::TempDir,
    ports: Ports,
    server: Server,
    live: rpc::Volume,
    bait: rpc::Volume,
}

fn stage() -> Stage {
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let config = Config::new(dir.path(), ports)
        .memory("live", 16)
        .memory("bait", 16)
        .volumes(&["live", "bait"]);
    let server = Server::start(dir.path(), &config.yaml());
    let socket = dir.path().join("rpc.sock");
    let (live, bait) = (rpc::volume(&socket, "live"), rpc::volume(&socket, "bait"));
    Stage {
        dir,
        ports,
        server,
        live,
        bait,
    }
}

impl Stage {
    /// Runs `abuse` while two sessions on the live disk verify what they write; then looks at memory and the log.
    fn endure(mut self, abuse: impl FnOnce(&Stage)) {
        // Touch the whole of both disks first: their memory is not growth.
        let fill = vec![0x5a; 1 << 20];
        for volume in [&self.live, &self.bait] {
            let mut host = Iscsi::login(self.ports.iscsi, volume.iqn().0, volume.iqn().1).expect("log in");
            (0..16).for_each(|n| host.write(n * 2048, &fill).expect("fill"));
        }
        let before = self.server.rss();
        let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        let ports = self.ports;
        std::thread::scope(|scope| {
            let guard = Stop(&stop);
            let (live, stop, rounds) = (self.live.clone(), &stop, &rounds);
            let name = live.clone();
            let first = scope.spawn(move || {
                let mut host = Iscsi::login(ports.iscsi, name.iqn().0, name.iqn().1).expect("log in");
                verify(stop, rounds, 0, |lba, data| {
                    host.write(lba, data).expect("write through the live iSCSI session");
                    host.read(lba, 16).expect("read through the live iSCSI session")
                });
            });
            let second = scope.spawn(move || {
                let mut host = Nvme::connect(ports.nvme, live.nqn().0, live.nqn().1).expect("connect");
                verify(stop, rounds, 16384, |lba, data| {
                    host.write(lba, data).expect("write through the live NVMe session");
                    host.read(lba, 16).expect("read through the live NVMe session")
                });
            });
            abuse(&self);
            let peak = self.server.rss();
            // On a quick machine it is over before they have done anything, on a busy one they have not had their turn.
            let until = Instant::now() + Duration::from_secs(30);
            while rounds.load(Ordering::Relaxed) <= 10 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10))
            }
            drop(guard);
            first.join().expect("the live iSCSI session");
            second.join().expect("the live NVMe session");
            println!(
                "{} verified writes meanwhile, {} MiB before, {} MiB after",
                rounds.load(Ordering::Relaxed),
                before >> 10,
                peak >> 10
            );
            assert!(peak < before + ROOM, "resident memory grew from {before} to {peak} KiB");
        });
        assert!(rounds.into_inner() > 10, "the live sessions hardly moved");
        assert!(self.server.alive());
        // New hosts are welcome.
        Iscsi::login(ports.iscsi, self.bait.iqn().0, self.bait.iqn().1).expect("log in after the abuse");
        Nvme::connect(ports.nvme, self.bait.nqn().0, self.bait.nqn().1).expect("connect after the abuse");
        self.server.assert_no_panic();
        self.server.stop();
        drop(self.dir);
    }

    fn sockets(&self) -> [TcpStream; 2] {
        [self.ports.iscsi, self.ports.nvme].map(|port| {
            let socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            socket
                .set_read_timeout(Some(Duration::from_millis(200)))
                .expect("set a timeout");
            socket
                .set_write_timeout(Some(Duration::from_millis(500)))
                .expect("set a timeout");
            socket
        })
    }
}

/// Ends the live sessions also when the abuse fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes blocks of 8 KiB and reads them back until told to stop; 512 of them from block `base` on.
fn verify(stop: &AtomicBool, rounds: &AtomicU64, base: u64, mut through: impl FnMut(u64, &[u8]) -> Vec<u8>) {
    let mut generation = 0;
    while !stop.load(Ordering::Relaxed) {
        generation += 1;
        let place = generation % 512;
        let data = pattern::block(place, generation, 8192);
        let began = Instant::now();
        assert!(
            through(base + place * 16, &data) == data,
            "block {place} of generation {generation} came back different"
        );
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "one write and read took {:?}",
            began.elapsed()
        );
        rounds.fetch_add(1, Ordering::Relaxed);
        // The abuse shall have the machine, not the proof.
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn random_bytes() {
    stage().endure(|stage| {
        let mut random = Random::from_environment();
        for _ in 0..150 {
            for mut socket in stage.sockets() {
                let len = 1 + random.below(20_000) as usize;
                // The target may close at any moment: that is an answer.
                let _ = socket.write_all(&random.bytes(len));
                if random.below(4) == 0 {
                    let _ = socket.shutdown(Shutdown::Write);
                    let _ = socket.read(&mut [0; 4096]);
                }
            }
        }
    });
}

#[test]
fn truncated_and_lying_pdus() {
    stage().endure(|stage| {
        let mut random = Random::from_environment();
        let (iqn, nqn) = (stage.bait.iqn().0, stage.bait.nqn().0);
        let login = login_request(iqn).bytes();
        let mut greeting = nvme::ic_request().to_vec();
        greeting.extend_from_slice(&nvme::connect_capsule(nqn, 0, 0xffff));
        for n in 0..200 {
            let [mut iscsi, mut nvme] = stage.sockets();
            for (socket, good) in [(&mut iscsi, &login), (&mut nvme, &greeting)] {
                let mut bytes = good.clone();
                match n % 3 {
                    // Cut anywhere, then closed.
                    0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
                    // A few flipped bits, more often in the header.
                    1 => (0..1 + random.below(4)).for_each(|_| {
                        let within = if random.below(2) == 0 { 48 } else { bytes.len() as u64 };
                        let at = random.below(within) as usize;
                        bytes[at] ^= 1 << random.below(8);
                    }),
                    // Lengths that lie.
                    _ => {
                        let at = 4 + random.below(4) as usize;
                        bytes[at] = 0xff;
                    }
                }
                let _ = socket.write_all(&bytes);
                if n % 2 == 0 {
                    let _ = socket.read(&mut [0; 4096]);
                }
            }
        }
        // The same after a proper login: commands that lie about their data.
        for n in 0..100 {
            let host = Iscsi::login(stage.ports.iscsi, iqn, stage.bait.iqn().1).expect("log in");
            let mut socket = host.into_stream();
            socket
                .set_read_timeout(Some(Duration::from_millis(100)))
                .expect("set a timeout");
            let mut pdu = Pdu::new(if n % 4 == 0 { 0x05 } else { 0x01 }, 0xa1);
            pdu.bhs[16..48].copy_from_slice(&random.bytes(32));
            pdu.bhs[24..28].copy_from_slice(&(3 + n as u32 % 2).to_be_bytes());
            pdu.bhs[32] = [0x8a, 0x2a, 0x88, 0x42, 0x93, 0x5f][n % 6];
            let len = random.below(3000) as usize;
            pdu.data = random.bytes(len);
            let mut bytes = pdu.bytes();
            if n % 5 == 0 {
                bytes[5] = 0xff;
            }
            let _ = socket.write_all(&bytes);
            let _ = socket.read(&mut [0; 4096]);
        }
    });
}

#[test]
fn slow_readers() {
    stage().endure(|stage| {
        let (iqn, lun) = stage.bait.iqn();
        // Hosts that ask for much and never read the answers: 64 KiB a command, as many as the window lets in and more.
        let readers: Vec<_> = (0..24)
            .map(|_| {
                let mut socket = Iscsi::login(stage.ports.iscsi, iqn, lun).expect("log in").into_stream();
                socket
                    .set_write_timeout(Some(Duration::from_millis(50)))
                    .expect("set a timeout");
                for n in 0..200u32 {
                    let mut pdu = Pdu::new(0x01, 0xc1);
                    pdu.bhs[9] = lun;
                    pdu.bhs[16..20].copy_from_slice(&(1000 + n).to_be_bytes());
                    pdu.bhs[20..24].copy_from_slice(&65536u32.to_be_bytes());
                    pdu.bhs[24..28].copy_from_slice(&(3 + n).to_be_bytes());
                    pdu.bhs[32] = 0x88;
                    pdu.bhs[32 + 13] = 128;
                    if socket.write_all(&pdu.bytes()).is_err() {
                        break;
                    }
                }
                socket
            })
            .collect();
        // And one that reads a byte at a time.
        let mut drop_by_drop = &readers[0];
        drop_by_drop
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("set a timeout");
        for _ in 0..300 {
            let _ = drop_by_drop.read(&mut [0; 1]);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(readers);
    });
}

/// Half-open connections the target keeps on one protocol; the oldest go when there are more.
const STRANGERS: u32 = 256;
/// Processes that hold them, so that none needs more descriptors than any system grants.
const HOLDERS: u32 = 10;
const EACH: u32 = 1000;

#[test]
fn ten_thousand_half_open_connections() {
    if !needs("10,000 half-open connections", &["python3"]) {
        return;
    }
    stage().endure(|stage| {
        // Half a basic header of iSCSI, half an ICReq of NVMe/TCP.
        for (port, greeting) in [(stage.ports.iscsi, "430087000000"), (stage.ports.nvme, "00008000")] {
            let began = Instant::now();
            let mut holders: Vec<Holder> = (0..HOLDERS).map(|_| Holder::start(port, greeting)).collect();
            let told: Vec<[u32; 4]> = holders.iter_mut().map(Holder::told).collect();
            let [opened, closed, refused, late] = [0, 1, 2, 3].map(|i| told.iter().map(|t| t[i]).sum::<u32>());
            println!(
                "port {port}: {opened} opened, {closed} of them closed since, {refused} refused, {late} late after {:?}",
                began.elapsed()
            );
            // Every one had an answer: a place, or a clean end.
            assert_eq!((opened + refused, late), (HOLDERS * EACH, 0));
            // And no more of them are kept than there are places for strangers.
            let until = Instant::now() + Duration::from_secs(5);
            loop {
                let open: u32 = holders.iter_mut().map(Holder::open).sum();
                if (1..=STRANGERS).contains(&open) {
                    println!("port {port}: {open} are kept");
                    break;
                }
                assert!(Instant::now() < until, "{open} half-open connections are kept");
                std::thread::sleep(Duration::from_millis(100));
            }
            // With all places taken by strangers a host gets in all the same.
            let (bait, live) = (&stage.bait, stage.ports);
            Iscsi::login(live.iscsi, bait.iqn().0, bait.iqn().1).expect("log in among strangers");
            Nvme::connect(live.nvme, bait.nqn().0, bait.nqn().1).expect("connect among strangers");
            holders.into_iter().for_each(Holder::end);
        }
    });
}

/// A process that holds [`EACH`] half-open connections.
struct Holder {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Holder {
    fn start(port: u16, greeting: &str) -> Holder {
        let mut child = Command::new("python3")
            .arg(tree().join("tests/garbage/hold.py"))
            .args([port.to_string(), EACH.to_string(), greeting.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the holder");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Holder { child, lines }
    }

    /// The numbers of the next line.
    fn numbers<const N: usize>(&mut self) -> [u32; N] {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("read what it holds");
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        numbers.try_into().unwrap_or_else(|_| panic!("{line:?}"))
    }

    /// Opened, closed since, refused, late.
    fn told(&mut self) -> [u32; 4] {
        self.numbers()
    }

    /// Open now.
    fn open(&mut self) -> u32 {
        self.child
            .stdin
            .as_mut()
            .expect("piped")
            .write_all(b"?\n")
            .expect("ask the holder");
        self.numbers::<1>()[0]
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("wait for the holder");
    }
}
