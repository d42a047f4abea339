//! SIGKILL under a verified write load: whatever was flushed before is there after the next start.
use blackbox::config::Config;
use blackbox::image::{self, MIB};
use blackbox::iscsi::Iscsi;
use blackbox::nvme::Nvme;
use blackbox::pattern::{self, Random};
use blackbox::{Guest, Ports, Result, Server, rpc};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one record; each is written whole and carries its generation.
const RECORD: usize = 8192;
/// How many records a volume has in this story.
const RECORDS: u64 = 512;

/// Either of our hosts.
enum Host {
    Iscsi(Iscsi),
    Nvme(Nvme),
}

impl Host {
    fn write(&mut self, record: u64, data: &[u8]) -> Result<()> {
        match self {
            Host::Iscsi(h) => h.write(record * RECORD as u64 / u64::from(h.block), data),
            Host::Nvme(h) => h.write(record * RECORD as u64 / u64::from(h.block), data),
        }
    }

    fn read(&mut self, record: u64) -> Result<Vec<u8>> {
        match self {
            Host::Iscsi(h) => h.read(record * RECORD as u64 / u64::from(h.block), RECORD as u32 / h.block),
            Host::Nvme(h) => h.read(record * RECORD as u64 / u64::from(h.block), RECORD as u32 / h.block),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Host::Iscsi(h) => h.flush(),
            Host::Nvme(h) => h.flush(),
        }
    }
}

/// What a host knows of one volume: for each record the generation that must not be lost, and the last one it tried.
#[derive(Default)]
struct Memory {
    safe: BTreeMap<u64, u64>,
    tried: BTreeMap<u64, u64>,
    next: u64,
}

impl Memory {
    /// Writes records at random and flushes now and then, until the target dies or `stop` is set.
    fn load(&mut self, mut host: Host, mut random: Random, writes: &AtomicU64, stop: &AtomicBool) {
        let mut acknowledged = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..=random.below(20) {
                let record = random.below(RECORDS);
                self.next += 1;
                self.tried.insert(record, self.next);
                if host.write(record, &pattern::block(record, self.next, RECORD)).is_err() {
                    return;
                }
                acknowledged.insert(record, self.next);
                writes.fetch_add(1, Ordering::Relaxed);
            }
            if host.flush().is_err() {
                return;
            }
            self.safe.append(&mut acknowledged);
        }
    }

    /// Every record is whole in each 512-byte block, and none is older than what was flushed.
    fn check(&self, mut host: Host) {
        for record in 0..RECORDS {
            let data = host.read(record).unwrap_or_else(|e| panic!("record {record}: {e}"));
            let (safe, tried) = (
                self.safe.get(&record).copied().unwrap_or(0),
                self.tried.get(&record).copied().unwrap_or(0),
            );
            let found = pattern::generation(record, &data);
            // A write that was never acknowledged may have come through in part: only then may a record be mixed.
            match found {
                Some(found) => assert!(
                    (safe..=tried).contains(&found),
                    "record {record}: {found}, flushed {safe}, tried {tried}"
                ),
                None => assert!(
                    tried > safe,
                    "record {record} is torn although {safe} was flushed and nothing came after"
                ),
            }
        }
    }
}

fn config(dir: &Path, ports: Ports) -> String {
    Config::new(dir, ports)
        .file("one", &dir.join("one.img"))
        .file("two", &dir.join("two.img"))
        .volumes(&["one", "two"])
        .yaml()
}

#[test]
fn what_was_flushed_survives_sigkill() {
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    for name in ["one.img", "two.img"] {
        image::sparse(&dir.path().join(name), 64 * MIB);
    }
    let mut random = Random::from_environment();
    let mut memories = [Memory::default(), Memory::default()];
    let hosts = || {
        let socket = dir.path().join("rpc.sock");
        let (one, two) = (rpc::volume(&socket, "one"), rpc::volume(&socket, "two"));
        let iscsi = Iscsi::login(ports.iscsi, one.iqn().0, one.iqn().1).unwrap_or_else(|e| panic!("iSCSI: {e}"));
        let nvme = Nvme::connect(ports.nvme, two.nqn().0, two.nqn().1).unwrap_or_else(|e| panic!("NVMe: {e}"));
        [Host::Iscsi(iscsi), Host::Nvme(nvme)]
    };
    for round in 0..5 {
        let server = Server::start(dir.path(), &config(dir.path(), ports));
        for (memory, host) in memories.iter().zip(hosts()) {
            memory.check(host);
        }
        let (writes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let wait = Duration::from_millis(300 + random.below(700));
        std::thread::scope(|scope| {
            for (memory, host) in memories.iter_mut().zip(hosts()) {
                let (random, writes, stop) = (Random::new(random.next_u64()), &writes, &stop);
                scope.spawn(move || memory.load(host, random, writes, stop));
            }
            std::thread::sleep(wait);
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        let writes = writes.into_inner();
        println!("round {round}: killed after {wait:?} and {writes} acknowledged writes");
        assert!(writes > 20, "only {writes} writes in {wait:?}: this was no load");
    }
    let server = Server::start(dir.path(), &config(dir.path(), ports));
    for (memory, host) in memories.iter().zip(hosts()) {
        memory.check(host);
    }
    server.stop();
}

/// A host changes its key as fast as it can and the target is killed meanwhile: what it has been told is kept, or what it was
/// about to be told.
#[test]
fn kept_nvme_reservations_survive_sigkill() {
    const REGISTER_AND_KEEP: u32 = 3 << 30;
    const REPLACE: u32 = 2;
    const EXCLUSIVE_ACCESS: u32 = 2 << 8;
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    for name in ["one.img", "two.img"] {
        image::sparse(&dir.path().join(name), 8 * MIB);
    }
    let mut random = Random::from_environment();
    let connect = || {
        let volume = rpc::volume(&dir.path().join("rpc.sock"), "one");
        Nvme::connect(ports.nvme, volume.nqn().0, volume.nqn().1).unwrap_or_else(|e| panic!("NVMe: {e}"))
    };
    let (mut told, mut changes) = (1u64, 0);
    for round in 0..6 {
        let server = Server::start(dir.path(), &config(dir.path(), ports));
        let mut host = connect();
        if round == 0 {
            host.reserve(0x0d, REGISTER_AND_KEEP, 0, told).expect("register");
            host.reserve(0x11, EXCLUSIVE_ACCESS, told, 0).expect("acquire");
        }
        let (kind, keys) = host.reservations().expect("a report");
        assert!(
            kind == 2 && (keys == [told] || keys == [told + 1]),
            "round {round}: type {kind}, keys {keys:?}, the last one told {told}"
        );
        told = keys[0];
        let wait = Duration::from_millis(50 + random.below(200));
        std::thread::scope(|scope| {
            let last = scope.spawn(move || {
                let mut key = told;
                while host.reserve(0x0d, REPLACE, key, key + 1).is_ok() {
                    key += 1;
                }
                key
            });
            std::thread::sleep(wait);
            server.kill();
            let last = last.join().expect("the host");
            changes += last - told;
            told = last;
        });
    }
    println!("{changes} acknowledged changes, killed 6 times");
    assert!(changes > 20, "only {changes} changes: this was no load");
    let server = Server::start(dir.path(), &config(dir.path(), ports));
    let (_, keys) = connect().reservations().expect("a report");
    assert!(
        keys == [told] || keys == [told + 1],
        "{keys:?}, the last one told {told}"
    );
    server.stop();
}

#[test]
fn guest_reconnects_after_sigkill_and_verifies() {
    if !Guest::possible("a Linux host survives the target's death") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    for name in ["one.img", "two.img"] {
        image::sparse(&dir.path().join(name), 64 * MIB);
    }
    let config = config(dir.path(), ports);
    let mut server = Server::start(dir.path(), &config);
    let socket = dir.path().join("rpc.sock");
    let (one, two) = (rpc::volume(&socket, "one"), rpc::volume(&socket, "two"));
    let variables = [
        ("NVME_PORT", ports.nvme.to_string()),
        ("ISCSI_PORT", ports.iscsi.to_string()),
        ("IQN", one.iqn().0.to_string()),
        ("LUN", one.iqn().1.to_string()),
        ("NQN", two.nqn().0.to_string()),
        ("NSID", two.nqn().1.to_string()),
        ("SECONDS_EACH", "25".to_string()),
    ];
    let mut guest = Guest::boot("survive.sh", Duration::from_secs(240), &variables, &[]);
    guest.wait_for("LOAD");
    for _ in 0..2 {
        let began = Instant::now();
        server.kill();
        server = Server::start(dir.path(), &config);
        println!("killed and serving again after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_secs(7));
    }
    let said = guest.finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    server.stop();
}
