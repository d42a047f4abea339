//! A sanitize does not end with the process: killed or stopped, the next start goes on with it before anybody gets at the data.
use blackbox::image::{self, MIB};
use blackbox::iscsi::Iscsi;
use blackbox::{Ports, Server};
use std::path::Path;
use std::time::{Duration, Instant};

const IQN: &str = "iqn.2026-11.io.ashlar:quarry";
const SIZE: u64 = 32 * MIB;
const PATTERN: [u8; 4] = [0xc0, 0xff, 0xee, 0x11];

/// A disk of 32 MiB whose writes take `write`, so that a pass takes 32 times as long.
fn start(dir: &Path, ports: Ports, write: &str) -> Server {
    let (state, iscsi, nvme) = (dir.display(), ports.iscsi, ports.nvme);
    Server::start(
        dir,
        &format!(
            "state: {state}\ndisks:\n  - {{name: raw, file: {state}/disk.img}}\ntables:\n  - {{name: quarry, delay: {{on: raw, write: {write}}}}}\n\
             targets:\n  nvme: {{listeners: \
             [127.0.0.1:{nvme}]}}\n  iscsi:\n    portals: [127.0.0.1:{iscsi}]\n    nodes: [{{name: {IQN}, luns: [{{lun: 0, volume: \
             quarry}}]}}]\n"
        ),
    )
}

/// Additional sense code, its qualifier, and the progress if there is one, from fixed format sense data.
fn sense(data: &[u8]) -> (u8, u8, Option<u16>) {
    let progress = (data[15] & 0x80 != 0).then(|| u16::from_be_bytes([data[16], data[17]]));
    (data[12], data[13], progress)
}

/// REQUEST SENSE, which is answered whatever goes on.
fn ask(host: &mut Iscsi) -> (u8, u8, Option<u16>) {
    let (status, data) = host.command(&[0x03, 0, 0, 0, 252, 0], 252, &[]).expect("REQUEST SENSE");
    assert_eq!(status, 0);
    sense(&data)
}

/// SANITIZE OVERWRITE in the background: two passes, the first of the complement.
fn overwrite(host: &mut Iscsi) {
    let list = [&[0x82, 0, 0, 4][..], &PATTERN].concat();
    let answer = host.command(&[0x48, 0x81, 0, 0, 0, 0, 0, 0, 8, 0], 0, &list);
    assert_eq!(answer.expect("SANITIZE").0, 0);
}

#[track_caller]
fn wait_until(host: &mut Iscsi, what: &str, mut there: impl FnMut((u8, u8, Option<u16>)) -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let now = ask(host);
        if there(now) {
            return;
        }
        assert!(Instant::now() < until, "{what} does not come: {now:02x?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kept(dir: &Path) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(dir.join("sanitize")).expect("the folder of what is kept");
    folder.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_sanitize_goes_on_after_sigkill_and_after_a_stop() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("disk.img");
    image::sparse(&file, SIZE);
    let ports = Ports::free();
    let server = start(dir.path(), ports, "60ms");
    let mut host = Iscsi::login(ports.iscsi, IQN, 0).expect("log in");
    host.write(40_000, &[0x5a; 4096]).expect("write");
    overwrite(&mut host);
    wait_until(&mut host, "progress", |now| matches!(now, (4, 0x1b, Some(1..))));
    assert_eq!(kept(dir.path()).len(), 1, "it is on disk before the status");
    server.kill();
    assert_eq!(
        std::fs::read(&file).expect("the disk")[40_000 * 512],
        0x5a,
        "not there yet"
    );

    // Nobody gets at what is left of the data, however soon he comes.
    let server = start(dir.path(), ports, "60ms");
    let mut host = Iscsi::connect(ports.iscsi, IQN, 0).expect("log in");
    let (status, data) = host
        .command(&[0x28, 0, 0, 0, 0x9c, 0x40, 0, 0, 1, 0], 512, &[])
        .expect("READ");
    assert_eq!((status, sense(&data).0, sense(&data).1), (2, 4, 0x1b), "{data:02x?}");
    wait_until(&mut host, "the second pass", |now| {
        matches!(now, (4, 0x1b, Some(0x8000..)))
    });
    server.stop();
    let half = std::fs::read(&file).expect("the disk");
    assert!(
        half[SIZE as usize / 2..].iter().any(|byte| *byte == !PATTERN[0]),
        "in the middle of the second pass"
    );

    let server = start(dir.path(), ports, "1ms");
    server.wait_for_log("goes on with a sanitize");
    let mut host = Iscsi::connect(ports.iscsi, IQN, 0).expect("log in");
    wait_until(&mut host, "the end", |now| (now.0, now.1) == (0, 0));
    assert_eq!(
        kept(dir.path()),
        Vec::<std::path::PathBuf>::new(),
        "nothing is left to go on with"
    );
    let found = host.read(0, 2048).expect("read");
    assert!(found.chunks(4).all(|piece| piece == PATTERN));
    host.write(7, &[0x77; 512]).expect("write again");
    host.flush().expect("flush");
    assert_eq!(server.log().matches("goes on with a sanitize").count(), 1);
    server.kill();
    let bytes = std::fs::read(&file).expect("the disk");
    assert!(
        bytes
            .chunks(4)
            .enumerate()
            .all(|(at, piece)| piece == PATTERN || (896..1024).contains(&at)),
        "every block"
    );

    // What has been written since is nobody's business any more.
    let server = start(dir.path(), ports, "1ms");
    let mut host = Iscsi::login(ports.iscsi, IQN, 0).expect("log in");
    assert_eq!(host.read(7, 1).expect("read"), [0x77; 512]);
    server.stop();
}

#[test]
fn a_damaged_file_closes_the_unit_until_it_is_sanitized_again() {
    let dir = tempfile::tempdir().expect("a folder");
    image::sparse(&dir.path().join("disk.img"), SIZE);
    let ports = Ports::free();
    let server = start(dir.path(), ports, "60ms");
    let mut host = Iscsi::login(ports.iscsi, IQN, 0).expect("log in");
    overwrite(&mut host);
    wait_until(&mut host, "progress", |now| matches!(now, (4, 0x1b, Some(1..))));
    server.kill();
    let [file] = &kept(dir.path())[..] else {
        panic!("one file")
    };
    let mut bytes = std::fs::read(file).expect("the file");
    bytes[3] ^= 1;
    std::fs::write(file, &bytes).expect("damage it");

    let server = start(dir.path(), ports, "0ms");
    server.wait_for_log("cannot be read: its checksum is wrong");
    let mut host = Iscsi::connect(ports.iscsi, IQN, 0).expect("log in");
    let (status, data) = host
        .command(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512, &[])
        .expect("READ");
    assert_eq!((status, sense(&data)), (2, (0x31, 0x03, None)), "{data:02x?}");
    overwrite(&mut host);
    wait_until(&mut host, "the end", |now| (now.0, now.1) == (0, 0));
    assert!(host.read(0, 8).expect("read").chunks(4).all(|piece| piece == PATTERN));
    assert_eq!(kept(dir.path()), Vec::<std::path::PathBuf>::new());
    server.stop();
}
