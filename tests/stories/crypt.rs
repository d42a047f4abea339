//! An encrypted volume from both sides: what hosts see, and what lies on the disk, which somebody else's AES-XTS decrypts; and a key that is
//! forgotten, whenever the process is killed.
use blackbox::image::{self, MIB};
use blackbox::iscsi::Iscsi;
use blackbox::serve::binary;
use blackbox::{Ports, Server, Tool, skip};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const IQN: &str = "iqn.2026-11.io.ashlar:secret";
const SIZE: u64 = 8 * MIB;

/// A Python that has the `cryptography` package, or a skip.
fn python(story: &str) -> Option<PathBuf> {
    let all = ["python3", "/usr/bin/python3"].map(PathBuf::from);
    let has = |python: &PathBuf| {
        let mut import = std::process::Command::new(python);
        import.args(["-c", "import cryptography"]);
        import.output().is_ok_and(|output| output.status.success())
    };
    let found = all.into_iter().find(has);
    if found.is_none() {
        skip(story, "python3-cryptography not installed (ci/install-packages)");
    }
    found
}

/// All blocks of an image, decrypted by OpenSSL's AES-XTS.
fn decrypted(python: &Path, dir: &Path, digits: &str, block_size: usize) -> Vec<u8> {
    const SCRIPT: &str = "
import sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
digits, size, image, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
data, plain = open(image, 'rb').read(), b''
aes = algorithms.AES(bytes.fromhex(digits))
parts = []
for lba in range(len(data) // size):
    xts = Cipher(aes, modes.XTS(lba.to_bytes(16, 'little'))).decryptor()
    parts.append(xts.update(data[lba * size:(lba + 1) * size]) + xts.finalize())
open(out, 'wb').write(b''.join(parts))
";
    let (image, out) = (dir.join("disk.img"), dir.join("plain"));
    let tool = Tool::new(&python.to_string_lossy()).args(["-c", SCRIPT, digits.trim_end()]);
    tool.arg(block_size.to_string()).arg(image).arg(&out).ok();
    std::fs::read(out).expect("what was decrypted")
}

/// A key file made by the command line; its digits.
fn make_key(dir: &Path, bits: &str) -> String {
    let file = dir.join("key");
    let tool = Tool::new(&binary().to_string_lossy()).args(["disk", "key", "--bits", bits]);
    tool.arg(&file).ok();
    std::fs::read_to_string(file).expect("the key")
}

fn start(dir: &Path, ports: Ports, block_size: usize, key: &str) -> Server {
    let (state, iscsi, nvme) = (dir.display(), ports.iscsi, ports.nvme);
    Server::start(
        dir,
        &format!(
            "state: {state}\ndisks: [{{name: raw, file: {state}/disk.img, block_size: {block_size}}}]\n\
             tables: [{{name: secret, crypt: {{on: raw, {key}}}}}]\n\
             targets:\n  nvme: {{listeners: [127.0.0.1:{nvme}]}}\n  iscsi:\n    portals: [127.0.0.1:{iscsi}]\n    \
             nodes: [{{name: {IQN}, luns: [{{lun: 0, volume: secret}}]}}]\n"
        ),
    )
}

fn story(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| ((i * 131) >> 5) as u8 ^ seed).collect()
}

#[test]
fn what_hosts_write_is_on_the_disk_as_openssl_would_have_it() {
    let Some(python) = python("AES-XTS by OpenSSL") else {
        return;
    };
    for (block_size, bits) in [(512, "256"), (4096, "128")] {
        let dir = tempfile::tempdir().expect("a folder");
        image::sparse(&dir.path().join("disk.img"), SIZE);
        let digits = make_key(dir.path(), bits);
        let ports = Ports::free();
        let server = start(dir.path(), ports, block_size, "key_file: key");
        let mut host = Iscsi::login(ports.iscsi, IQN, 0).expect("log in");
        let (blocks, len) = (SIZE as usize / block_size, 300 * block_size);
        let last = (blocks - 300) as u64;
        for (lba, seed) in [(0, 1), (1000, 2), (last, 3)] {
            host.write(lba, &story(len, seed)).expect("write");
        }
        // WRITE SAME (16) of zeros, without data: nothing of the disk's own zeros must be taken for them.
        let mut zeros = [0; 16];
        (zeros[0], zeros[1], zeros[9], zeros[13]) = (0x93, 0x01, 50, 100);
        assert_eq!(host.command(&zeros, 0, &[]).expect("WRITE SAME").0, 0);
        host.flush().expect("flush");
        assert!(host.read(50, 100).expect("read").iter().all(|byte| *byte == 0));
        server.kill();

        let plain = decrypted(&python, dir.path(), &digits, block_size);
        let at = |lba: u64| &plain[lba as usize * block_size..][..len];
        let mut first = story(len, 1);
        first[50 * block_size..150 * block_size].fill(0);
        assert!(
            at(0) == first && at(1000) == story(len, 2) && at(last) == story(len, 3),
            "blocks of {block_size}"
        );
        let raw = std::fs::read(dir.path().join("disk.img")).expect("the disk");
        assert!(
            raw[50 * block_size..150 * block_size]
                .chunks(16)
                .all(|piece| piece != [0; 16])
        );

        // The next process has the same key.
        let server = start(dir.path(), ports, block_size, "key_file: key");
        let mut host = Iscsi::login(ports.iscsi, IQN, 0).expect("log in");
        assert!(host.read(1000, 300).expect("read") == story(len, 2));
        let shown = Tool::new(&binary().to_string_lossy())
            .args(["-s"])
            .arg(dir.path().join("rpc.sock"));
        let shown = shown.args(["config", "show"]).ok();
        assert!(shown.contains("key_file") && !shown.contains(&digits[..16]), "{shown}");
        assert!(!server.log().contains(&digits[..16]));
        server.stop();
    }
}

/// Waits until the unit is nobody's but the host's again.
fn ready(ports: Ports) -> Iscsi {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let mut host = Iscsi::connect(ports.iscsi, IQN, 0).expect("log in");
        let (_, sense) = host.command(&[0x03, 0, 0, 0, 252, 0], 252, &[]).expect("REQUEST SENSE");
        if sense[2] & 15 != 2 {
            return Iscsi::login(ports.iscsi, IQN, 0).expect("log in");
        }
        assert!(Instant::now() < until, "still being sanitized: {sense:02x?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_erased_key_is_gone_whenever_the_process_is_killed() {
    let Some(python) = python("cryptographic erase") else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    image::sparse(&dir.path().join("disk.img"), SIZE);
    let mut digits = make_key(dir.path(), "256");
    let ports = Ports::free();
    let (mut erased, mut kept) = (0, 0);
    for round in 0..12u8 {
        let server = start(dir.path(), ports, 512, "key_file: key");
        let mut host = ready(ports);
        let data = story(64 * 512, round);
        host.write(77, &data).expect("write");
        host.flush().expect("flush");
        // The first is waited for; the others are cut short sooner or later.
        let erase = [0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0];
        match round {
            0 => assert_eq!(host.command(&erase, 0, &[]).expect("SANITIZE").0, 0),
            _ => {
                let impatient =
                    std::thread::spawn(move || host.command(&erase, 0, &[]).is_ok_and(|answer| answer.0 == 0));
                std::thread::sleep(Duration::from_micros(700 * u64::from(round)));
                server.kill();
                let answered = impatient.join().expect("a host");
                let now = std::fs::read_to_string(dir.path().join("key")).expect("the key file");
                assert!(
                    !answered || now != digits,
                    "round {round}: answered, and the key is there still"
                );
                assert_eq!(now.len(), digits.len(), "round {round}: a key file that is whole");
                match now == digits {
                    true => kept += 1,
                    false => erased += 1,
                }
                // Begun is begun: the next process forgets the key before it lets anybody in.
                // What is written beside is not begun.
                let mut folder = std::fs::read_dir(dir.path().join("sanitize")).expect("a folder");
                let begun = folder.any(|entry| {
                    entry
                        .expect("an entry")
                        .path()
                        .extension()
                        .is_some_and(|end| end == "json")
                });
                let server = start(dir.path(), ports, 512, "key_file: key");
                let mut host = ready(ports);
                let alike = host.read(77, 64).expect("read") == data;
                assert!(
                    alike == (now == digits && !begun),
                    "round {round}: {alike}, {begun}, {}",
                    now == digits
                );
                drop(host);
                server.stop();
                digits = std::fs::read_to_string(dir.path().join("key")).expect("the key file");
                continue;
            }
        }
        assert!(host.read(77, 64).expect("read") != data);
        host.write(7, &[0x77; 512]).expect("write again");
        host.flush().expect("flush");
        server.kill();
        let now = std::fs::read_to_string(dir.path().join("key")).expect("the key file");
        assert_ne!(now, digits);
        // Who had the old key would have the data: it is the key alone that is gone.
        let old = decrypted(&python, dir.path(), &digits, 512);
        let new = decrypted(&python, dir.path(), &now, 512);
        assert!(old[77 * 512..][..64 * 512] == data && new[77 * 512..][..64 * 512] != data);
        assert!(new[7 * 512..8 * 512] == [0x77; 512]);
        digits = now;
    }
    println!("killed in the middle: {erased} times the key was gone already, {kept} times it was not");
}

#[test]
fn a_random_key_does_not_outlive_its_process() {
    let dir = tempfile::tempdir().expect("a folder");
    image::sparse(&dir.path().join("disk.img"), SIZE);
    let ports = Ports::free();
    for round in 0..2 {
        let server = start(dir.path(), ports, 512, "random_key: 128");
        let mut host = Iscsi::login(ports.iscsi, IQN, 0).expect("log in");
        if round == 1 {
            assert!(host.read(3, 64).expect("read") != story(64 * 512, 9));
        }
        host.write(3, &story(64 * 512, 9)).expect("write");
        host.flush().expect("flush");
        assert!(host.read(3, 64).expect("read") == story(64 * 512, 9));
        server.stop();
    }
}
