//! Hosts that come by TLS with a configured key: they work, and thousands of them leave nothing behind.
use super::bench::*;
use load::nvme::{Client, Options};
use spec::nvme::{Status, auth::HashId, tls::ConfiguredPsk};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};
use target::nvmf::{AnaState, HostKeys, ListenAddress};
use tls::{Psk, Suite};

/// A target with a port for hosts by TLS only, and a host's options.
struct Secure {
    bench: Bench,
    address: SocketAddr,
    options: Options,
    _folder: tempfile::TempDir,
}

impl Secure {
    fn new(hash: HashId) -> Self {
        let bench = Bench::new(2);
        let configured = ConfiguredPsk::new(vec![7; hash.size()].into(), Some(hash)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, configured.text().as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        bench.nvmf.keyring().add("key", &path).unwrap();
        let mut options = Options::default();
        let keys = HostKeys {
            psk: Some("key".into()),
            ..HostKeys::default()
        };
        bench.nvmf.add_host(NQN, &options.hostnqn, keys).unwrap();
        bench.nvmf.allow_any_host(NQN, false).unwrap();
        let any = ListenAddress::parse("127.0.0.1", "0").unwrap();
        let address = wait(bench.nvmf.add_secure_listener(NQN, any, AnaState::Optimized)).unwrap();
        let (identity, key) = configured.for_host(&options.hostnqn, NQN);
        options.psk = Some(Psk {
            identity: identity.to_string().into(),
            key,
            suite: match hash {
                HashId::Sha384 => Suite::Aes256GcmSha384,
                _ => Suite::Aes128GcmSha256,
            },
        });
        Self {
            bench,
            address,
            options,
            _folder: folder,
        }
    }

    fn queues(&self) -> (Client, Client) {
        let mut admin = Client::admin(self.address, NQN, &self.options).unwrap();
        admin.request_queues(1).unwrap();
        let io = admin.io_queue(self.address, NQN, 1, &self.options).unwrap();
        (admin, io)
    }
}

fn built() -> bool {
    if !tls::BUILT {
        eprintln!("SKIPPED: hosts by TLS: built without TLS");
    }
    tls::BUILT
}

#[test]
fn a_host_reads_what_it_wrote_by_either_suite_in_pieces_of_any_size() {
    if !built() {
        return;
    }
    for hash in [HashId::Sha256, HashId::Sha384] {
        let secure = Secure::new(hash);
        let (_admin, mut io) = secure.queues();
        for (i, blocks) in [1, 7, 8, 31, 32, 33, 255, 256].into_iter().enumerate() {
            let data = pattern(blocks * BLOCK, i);
            assert_eq!(write(&mut io, i as u64 * 256, &data), Status::SUCCESS);
            assert_eq!(read(&mut io, i as u64 * 256, blocks as u32).unwrap(), data);
        }
    }
}

/// KiB that this process, target and hosts, has in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4
}

/// `ASHLAR_TLS_VISITS=10000` for the full measure.
#[test]
fn hosts_that_come_and_go_by_tls_leave_nothing_behind() {
    if !built() {
        return;
    }
    let visits: u64 = std::env::var("ASHLAR_TLS_VISITS").map_or(1000, |n| n.parse().expect("a number"));
    let secure = Secure::new(HashId::Sha256);
    let (_worker, mut io) = secure.queues();
    let (mut wrong, mut warm, began) = (secure.options.clone(), 0, Instant::now());
    wrong.psk.as_mut().unwrap().key[0] ^= 1;
    for n in 0..visits {
        match n % 5 {
            // A wrong key; a beginning and no end; somebody who says something else; hosts that go at once, and after work.
            0 => assert!(Client::open(secure.address, &wrong).is_err()),
            1 => {
                let mut stream = TcpStream::connect(secure.address).unwrap();
                stream.write_all(&[22, 3, 1, 0, 200, 1, 0, 0, 196]).unwrap();
            }
            2 => drop(Client::admin(secure.address, NQN, &secure.options).unwrap()),
            _ => {
                let (_admin, mut queue) = secure.queues();
                assert_eq!(read(&mut queue, n % 100, 8).unwrap().len(), 8 * BLOCK);
            }
        }
        let data = pattern(16 * BLOCK, n as usize);
        assert_eq!(write(&mut io, 1000, &data), Status::SUCCESS);
        assert_eq!(read(&mut io, 1000, 16).unwrap(), data);
        if n == visits / 4 {
            warm = resident();
        }
    }
    let until = Instant::now() + Duration::from_secs(15);
    while secure.bench.nvmf.controllers(NQN).unwrap().len() > 1 {
        assert!(Instant::now() < until, "somebody is left");
        std::thread::sleep(Duration::from_millis(20));
    }
    let now = resident();
    println!(
        "{visits} visits in {:.1?}, {warm} KiB after a quarter, {now} KiB at the end",
        began.elapsed()
    );
    assert!(now < warm + (8 << 10), "resident memory grew from {warm} to {now} KiB");
}
