//! Whoever speaks nonsense disturbs nobody.
use super::bench::*;
use load::nvme::Options;
use spec::nvme::{
    Sgl, Sqe, Status,
    command::{admin, io},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};
use target::nvmf::TransportOptions;

#[test]
fn strangers_never_disturb_a_live_host() {
    let options = TransportOptions {
        max_unassociated: 64,
        ..TransportOptions::default()
    };
    let bench = Bench::with(2, options);
    let (_admin, mut io) = bench.queues(&Options::default());
    let data = pattern(16 * BLOCK, 9);
    assert_eq!(write(&mut io, 100, &data), Status::SUCCESS);
    let mut half_open = Vec::new();
    let mut seed = 0x1234_5678_9abc_def1u64;
    for round in 0..200 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut stranger = TcpStream::connect(bench.address).unwrap();
        let garbage: Vec<u8> = (0..seed % 600).map(|i| (seed >> (i % 57)) as u8).collect();
        match round % 4 {
            // Nothing at all; noise; a true beginning and then noise; a hello and half a capsule.
            0 => half_open.push(stranger),
            1 => drop(stranger.write_all(&garbage)),
            2 => {
                let mut hello = vec![0, 0, 128, 0, 128, 0, 0, 0];
                hello.resize(128, 0);
                hello.extend(garbage);
                drop(stranger.write_all(&hello));
            }
            _ => {
                let mut hello = vec![0, 0, 128, 0, 128, 0, 0, 0];
                hello.resize(128, 0);
                hello.extend([4, 0, 72, 72, 0x48, 4, 0, 0, 0x7f, 0x40]);
                drop(stranger.write_all(&hello));
                half_open.push(stranger);
            }
        }
        if round % 10 == 0 {
            assert_eq!(read(&mut io, 100, 16).unwrap(), data, "round {round}");
        }
    }
    // A slow reader: asks for much and reads nothing. What it asked for is bounded by its queue.
    let (_slow_admin, mut slow) = bench.queues(&Options::default());
    for _ in 0..31 {
        let sqe = Sqe::new(io::READ, 0, 1)
            .with_range(0, 256)
            .with_sgl(Sgl::transport(256 * BLOCK as u32));
        slow.submit(sqe, &[]).unwrap();
    }
    slow.flush().unwrap();
    for _ in 0..50 {
        assert_eq!(read(&mut io, 100, 16).unwrap(), data);
    }
    let waiting: u64 = wait(bench.nvmf.stats())
        .iter()
        .map(|s| s.current_unassociated_qpairs)
        .sum();
    assert!(waiting <= 66, "{waiting} half-open connections are kept");
    // And a host that comes now is served at once.
    let mut late = bench.admin();
    assert!(
        late.call(Sqe::new(admin::KEEP_ALIVE, 0, 0), &[])
            .unwrap()
            .cqe
            .status()
            .is_success()
    );
}

#[test]
fn a_lying_pdu_is_answered_with_a_termination_request() {
    let bench = Bench::new(1);
    let mut stranger = TcpStream::connect(bench.address).unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stranger.write_all(&[4, 0, 72, 0, 72, 0, 0, 0]).unwrap();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[..16], [3, 0, 24, 0, 32, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answer[24..], [4, 0, 72, 0, 72, 0, 0, 0]);
}
