//! The iSCSI front end against real initiators: libiscsi's tools and QEMU's. Needs no root. A tool that is not installed
//! is said so and skipped.
use bdev::{Table, graph::Graph, node::NodeSpec};
use reactor::Reactors;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Output},
    time::{Duration, Instant},
};
use target::iscsi::{Auth, InitiatorGroup, Iscsi, LunMap, LunOptions, Options, PgIgMap, Portal, TargetNode};

const IQN: &str = "iqn.2016-06.io.spdk:quarry";

struct House {
    reactors: Reactors,
    graph: Graph,
    runtime: tokio::runtime::Runtime,
    iscsi: Iscsi,
    at: SocketAddr,
}

impl House {
    /// Two cores, three volumes (512, 4096, null), one target.
    fn new() -> Self {
        let config = reactor::Config {
            count: 2,
            ..Default::default()
        };
        let reactors = Reactors::start(config).expect("reactors start");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let graph = Graph::new(reactors.clone());
        let memory = |blocks, block_size| Table::Memory {
            blocks,
            block_size,
            physical_block_size: None,
            optimal_io: 0,
        };
        runtime.block_on(async {
            graph
                .build(NodeSpec::new("vol0", memory(131072, 512)))
                .await
                .expect("vol0");
            graph
                .build(NodeSpec::new("vol1", memory(8192, 4096)))
                .await
                .expect("vol1");
            let null = Table::Null {
                blocks: 131072,
                block_size: 512,
                physical_block_size: None,
            };
            graph.build(NodeSpec::new("null", null)).await.expect("null");
        });
        let iscsi = Iscsi::new(reactors.clone(), graph.clone());
        let portal = Portal {
            host: "127.0.0.1".into(),
            port: 0,
        };
        iscsi
            .create_portal_group(1, &[portal], false, false)
            .expect("portal group");
        let any = InitiatorGroup {
            tag: 1,
            initiators: vec!["ANY".into()],
            netmasks: vec!["ANY".into()],
        };
        iscsi.create_initiator_group(any).expect("initiator group");
        let luns = ["vol0", "vol1", "null"].iter().enumerate().map(|(i, volume)| LunMap {
            bdev_name: volume.to_string(),
            lun_id: i as u16,
            options: LunOptions::default(),
        });
        iscsi
            .create_target_node(&TargetNode {
                name: "quarry".into(),
                alias_name: "the quarry".into(),
                pg_ig_maps: vec![PgIgMap { pg_tag: 1, ig_tag: 1 }],
                luns: luns.collect(),
                queue_depth: 64,
                auth: Auth::default(),
                header_digest: false,
                data_digest: false,
            })
            .expect("target node");
        let port = iscsi.portal_groups()[0].portals[0].port;
        Self {
            reactors,
            graph,
            iscsi,
            runtime,
            at: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    fn url(&self, lun: u16) -> String {
        format!("iscsi://{}/{IQN}/{lun}", self.at)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let all_gone = self.iscsi.shutdown(Duration::from_secs(10));
        self.reactors.stop();
        assert!(all_gone || std::thread::panicking(), "connections did not end");
    }
}

/// Runs a tool; `None` if it is not there.
fn tool(name: &str, args: &[&str]) -> Option<Output> {
    match Command::new("timeout").arg("120").arg(name).args(args).output() {
        Ok(output) if output.status.code() == Some(127) => {
            reactor::testing::skip(name, "not installed (ci/install-packages)");
            None
        }
        Ok(output) => Some(output),
        Err(_) => {
            reactor::testing::skip(name, "timeout is not installed");
            None
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn discovery_and_inquiry() {
    let house = House::new();
    if let Some(out) = tool("iscsi-ls", &["-s", &format!("iscsi://{}", house.at)]) {
        let text = text(&out);
        assert!(out.status.success(), "{text}");
        assert!(text.contains(&format!("Target:{IQN} Portal:{},1", house.at)), "{text}");
        assert!(
            text.contains("Lun:0") && text.contains("Lun:1") && text.contains("Lun:2"),
            "{text}"
        );
    }
    for args in [vec![], vec!["-e", "1", "-c", "0x83"], vec!["-e", "1", "-c", "0xb0"]] {
        let url = house.url(0);
        let mut all = args.clone();
        all.push(&url);
        if let Some(out) = tool("iscsi-inq", &all) {
            let text = text(&out);
            assert!(out.status.success(), "{args:?}: {text}");
        }
    }
}

#[test]
fn qemu_reads_back_what_it_wrote() {
    let house = House::new();
    for (lun, size) in [(0, "64 MiB"), (1, "32 MiB")] {
        let url = house.url(lun);
        let Some(out) = tool("qemu-img", &["info", &url]) else {
            return;
        };
        let info = text(&out);
        if info.contains("Unknown protocol") {
            reactor::testing::skip(
                "qemu over iSCSI",
                "qemu-block-extra not installed (ci/install-packages)",
            );
            return;
        }
        assert!(info.contains(size), "{info}");
        let script = [
            "-f",
            "raw",
            "-c",
            "write -P 0xa5 4k 1M",
            "-c",
            "write -P 0x5a 1028k 64k",
            "-c",
            "flush",
            "-c",
            "read -P 0xa5 4k 1M",
            "-c",
            "read -P 0x5a 1028k 64k",
            "-c",
            "read -P 0 0 4k",
            "-c",
            "discard 4k 512k",
            "-c",
            "write -z 516k 64k",
            "-c",
            "read -P 0 516k 64k",
            "-c",
            "read -P 0xa5 580k 64k",
        ];
        let mut args = script.to_vec();
        args.push(&url);
        let Some(out) = tool("qemu-io", &args) else { return };
        let text = text(&out);
        assert!(
            out.status.success() && !text.contains("failed") && !text.contains("error"),
            "{text}"
        );
    }
}

#[test]
fn qemu_talks_with_header_digests() {
    let house = House::new();
    let image = format!(
        "driver=iscsi,transport=tcp,portal={},target={IQN},lun=0,header-digest=crc32c,initiator-name=iqn.digest",
        house.at
    );
    let args = [
        "--image-opts",
        &image,
        "-c",
        "write -P 0x77 0 300k",
        "-c",
        "read -P 0x77 0 300k",
    ];
    let Some(out) = tool("qemu-io", &args) else { return };
    let text = text(&out);
    if text.contains("Unknown driver") || text.contains("Unknown protocol") {
        reactor::testing::skip(
            "qemu over iSCSI",
            "qemu-block-extra not installed (ci/install-packages)",
        );
        return;
    }
    assert!(
        out.status.success() && !text.contains("failed") && !text.contains("rror"),
        "{text}"
    );
}

/// The suites of libiscsi's conformance test for the commands this slice has. Tests of other commands skip themselves.
const SUITES: [&str; 39] = [
    "CompareAndWrite",
    "ExtendedCopy",
    "GetLBAStatus",
    "Inquiry",
    "Mandatory",
    "ModeSense6",
    "NoMedia",
    "OrWrite",
    "Prefetch10",
    "Prefetch16",
    "Read10",
    "Read12",
    "Read16",
    "Read6",
    "ReadCapacity10",
    "ReadCapacity16",
    "ReadDefectData10",
    "ReadDefectData12",
    "ReadOnly",
    "ReceiveCopyResults",
    "StartStopUnit",
    "TestUnitReady",
    "Unmap",
    "Verify10",
    "Verify12",
    "Verify16",
    "Write10",
    "Write12",
    "Write16",
    "WriteAtomic16",
    "WriteSame10",
    "WriteSame16",
    "WriteVerify10",
    "WriteVerify12",
    "WriteVerify16",
    "iSCSIcmdsn",
    "iSCSIdatasn",
    "iSCSIResiduals",
    "iSCSITMF",
];

#[test]
fn libiscsi_finds_no_fault() {
    let house = House::new();
    let url = house.url(0);
    let (mut ran, mut faults) = (0, String::new());
    for suite in SUITES {
        let Some(out) = tool("iscsi-test-cu", &["-d", "-n", "-t", &format!("ALL.{suite}"), &url]) else {
            return;
        };
        let text = text(&out);
        // "tests   total ran passed failed inactive"
        let line = text.lines().find(|line| line.trim_start().starts_with("tests "));
        let figures: Vec<u32> = line
            .into_iter()
            .flat_map(|l| l.split_whitespace().filter_map(|w| w.parse().ok()))
            .collect();
        match figures[..] {
            [_, all, passed, 0, _] if all == passed && all > 0 => ran += all,
            _ => faults += &format!("== {suite}\n{text}\n"),
        }
    }
    assert!(faults.is_empty(), "{faults}");
    assert!(ran > 100, "{ran} tests ran");
}

#[test]
fn iscsi_perf_runs_on_every_unit_at_once() {
    let house = House::new();
    let urls: Vec<String> = (0..3).map(|lun| house.url(lun)).collect();
    std::thread::scope(|scope| {
        for url in &urls {
            scope.spawn(move || {
                if let Some(out) = tool("iscsi-perf", &["-t", "2", "-m", "16", "-b", "8", "-r", url]) {
                    assert!(out.status.success(), "{}", text(&out));
                    assert!(text(&out).contains("iops average"), "{}", text(&out));
                }
            });
        }
    });
}

// ---- a host of bytes, to do what no decent host does

struct Host {
    stream: TcpStream,
    cmd_sn: u32,
}

fn header(opcode: u8, flags: u8, itt: u32, cmd_sn: u32, data: usize) -> [u8; 48] {
    let mut h = [0; 48];
    (h[0], h[1]) = (opcode, flags);
    h[5..8].copy_from_slice(&(data as u32).to_be_bytes()[1..]);
    h[16..20].copy_from_slice(&itt.to_be_bytes());
    h[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
    h
}

impl Host {
    fn connect(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, cmd_sn: 1 }
    }

    fn login(at: SocketAddr, name: &str) -> Self {
        let mut host = Self::connect(at);
        let text = format!("InitiatorName={name}\0TargetName={IQN}\0");
        let mut h = header(0x43, 0x87, 1, 1, text.len());
        h[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 1]);
        host.send(&h, text.as_bytes());
        let (h, _) = host.recv().expect("an answer");
        assert_eq!((h[0], h[1], h[36]), (0x23, 0x87, 0), "logged in");
        // Power on is told once for each unit.
        for lun in 0..3 {
            assert_eq!(host.command(lun, &[0; 6], 0).0, 2);
            assert_eq!(host.command(lun, &[0; 6], 0).0, 0);
        }
        host
    }

    fn send(&mut self, header: &[u8], data: &[u8]) {
        let mut bytes = [header, data].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.stream.write_all(&bytes).expect("send");
    }

    /// The next PDU; `None` at the end.
    fn recv(&mut self) -> Option<([u8; 48], Vec<u8>)> {
        let mut h = [0; 48];
        self.stream.read_exact(&mut h).ok()?;
        let len = u32::from_be_bytes([0, h[5], h[6], h[7]]) as usize;
        let mut data = vec![0; len.next_multiple_of(4)];
        self.stream.read_exact(&mut data).ok()?;
        data.truncate(len);
        Some((h, data))
    }

    /// Sends a command that reads `room` bytes; status and data (or sense).
    fn command(&mut self, lun: u8, cdb: &[u8], room: u32) -> (u8, Vec<u8>) {
        let mut h = header(0x01, if room > 0 { 0xc1 } else { 0x81 }, self.cmd_sn, self.cmd_sn, 0);
        h[9] = lun;
        h[20..24].copy_from_slice(&room.to_be_bytes());
        h[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn += 1;
        self.send(&h, &[]);
        let mut data = Vec::new();
        loop {
            let (h, part) = self.recv().expect("an answer");
            data.extend_from_slice(&part);
            // Data-In with status, or a response.
            match (h[0], h[1] & 1) {
                (0x25, 0) => (),
                (0x25 | 0x21, _) => return (h[3], data),
                _ => panic!("PDU {:#x}", h[0]),
            }
        }
    }

    fn reads(&mut self) -> bool {
        let (status, data) = self.command(0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0], 4096);
        status == 0 && data.len() == 4096
    }

    fn is_dropped(&mut self) -> bool {
        let mut byte = [0; 4096];
        loop {
            match self.stream.read(&mut byte) {
                Ok(0) => return true,
                Ok(_) => (),
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}

#[test]
fn garbage_disturbs_nobody_else() {
    let house = House::new();
    let mut witness = Host::login(house.at, "iqn.witness");
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |d| d.as_nanos() as u64)
        | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..60 {
        let mut rude = if round % 3 == 0 {
            Host::connect(house.at)
        } else {
            Host::login(house.at, "iqn.rude")
        };
        let bytes: Vec<u8> = match round % 6 {
            // Noise before and after login; a header that lies about its length; one that is cut.
            0 | 1 => (0..random() % 5000 + 48).map(|_| random() as u8).collect(),
            2 => [header(0x01, 0xa1, 7, rude.cmd_sn, 0xff_ffff).to_vec(), vec![0; 100]].concat(),
            3 => header(0x43, 0x87, 1, 1, 9000).to_vec(),
            4 => {
                let mut all = header(0x05, 0x80, 99, 0, 512).to_vec();
                all.resize(560, 7);
                all.extend_from_slice(&header(0x1f, 0x80, 1, rude.cmd_sn, 0));
                all.extend((0..256).map(|_| random() as u8));
                all
            }
            _ => header(0x01, 0xc1, 7, rude.cmd_sn, 0)[..random() as usize % 48].to_vec(),
        };
        let _ = rude.stream.write_all(&bytes);
        assert!(witness.reads(), "round {round}");
    }
    assert!(witness.reads());
}

#[test]
fn strangers_are_bounded_and_slow_readers_too() {
    let house = House::new();
    let mut witness = Host::login(house.at, "iqn.witness");
    // Many connections that never say a word: the oldest go, the house stays.
    let silent: Vec<Host> = (0..600).map(|_| Host::connect(house.at)).collect();
    assert!(witness.reads());
    let end = Instant::now() + Duration::from_secs(10);
    while house.iscsi.stats().invalid > 257 {
        assert!(Instant::now() < end, "{:?}", house.iscsi.stats());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut late = Host::login(house.at, "iqn.late");
    assert!(late.reads() && witness.reads());
    drop(silent);

    // One that asks for much and reads nothing: 64 commands of 1 MiB would be 64 MiB.
    let mut greedy = Host::login(house.at, "iqn.greedy");
    for _ in 0..64 {
        let mut h = header(0x01, 0xc1, greedy.cmd_sn, greedy.cmd_sn, 0);
        h[9] = 2;
        h[20..24].copy_from_slice(&(1u32 << 20).to_be_bytes());
        h[32..42].copy_from_slice(&[0x28, 0, 0, 0, 0, 0, 0, 8, 0, 0]);
        greedy.cmd_sn += 1;
        greedy.send(&h, &[]);
    }
    for _ in 0..20 {
        assert!(witness.reads() && late.reads());
    }
    // And when it does read, everything is there.
    let mut got = 0;
    while got < 64 << 20 {
        let (h, data) = greedy.recv().expect("its data");
        assert_eq!(h[0], 0x25);
        got += data.len();
    }
}

#[test]
fn the_same_initiator_port_replaces_its_old_session() {
    let house = House::new();
    let mut old = Host::login(house.at, "iqn.twin");
    let mut new = Host::login(house.at, "iqn.twin");
    assert!(old.is_dropped());
    assert!(new.reads());
    let mut other = Host::login(house.at, "iqn.other");
    assert!(other.reads() && new.reads());
    assert_eq!(
        house
            .iscsi
            .connections()
            .iter()
            .filter(|c| c.state == "running")
            .count(),
        2
    );
}

#[test]
fn hosts_hear_of_new_sizes_and_units_once() {
    let house = House::new();
    let (mut a, mut b) = (Host::login(house.at, "iqn.a"), Host::login(house.at, "iqn.b"));
    let ready = [0u8; 6];
    let sense = |(status, data): (u8, Vec<u8>)| {
        if status == 2 {
            (data[2 + 2], data[2 + 12], data[2 + 13])
        } else {
            (0, 0, 0)
        }
    };
    house
        .runtime
        .block_on(house.graph.resize("vol0", 262144))
        .expect("grows");
    house.iscsi.lun_changed("vol0");
    for host in [&mut a, &mut b] {
        assert_eq!(
            sense(host.command(0, &ready, 0)),
            (6, 0x2a, 0x09),
            "capacity data has changed"
        );
        assert_eq!(host.command(0, &ready, 0).0, 0);
        let (_, capacity) = host.command(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8);
        assert_eq!(capacity, [0, 3, 0xff, 0xff, 0, 0, 2, 0]);
    }
    house
        .iscsi
        .add_lun("quarry", "vol1", Some(9), LunOptions::default())
        .expect("a LUN more");
    assert_eq!(
        sense(a.command(0, &ready, 0)),
        (6, 0x3f, 0x0e),
        "reported LUNs data has changed"
    );
    // REPORT LUNS tells it too.
    let (status, luns) = b.command(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256);
    assert_eq!((status, luns[3]), (0, 32));
    assert_eq!(b.command(1, &ready, 0).0, 0);
    house.iscsi.volume_gone("vol1");
    assert_eq!(
        sense(a.command(1, &ready, 0)),
        (5, 0x25, 0),
        "logical unit not supported"
    );
    // An invalid number: INQUIRY says nobody is there, others fail.
    let (status, inquiry) = a.command(77, &[0x12, 0, 0, 0, 96, 0], 96);
    assert_eq!((status, inquiry[0]), (0, 0x7f));
}

#[test]
fn who_must_authenticate_or_may_not_come_is_refused() {
    let house = House::new();
    let status = |at: SocketAddr| {
        let mut host = Host::connect(at);
        let text = format!("InitiatorName=iqn.a\0TargetName={IQN}\0");
        host.send(&header(0x43, 0x87, 1, 1, text.len()), text.as_bytes());
        let (h, _) = host.recv().expect("an answer");
        (h[36], h[37])
    };
    assert_eq!(status(house.at), (0, 0));
    let chap = Auth {
        require_chap: true,
        ..Auth::default()
    };
    house.iscsi.set_target_node_auth("quarry", chap).expect("set");
    assert_eq!(
        status(house.at),
        (2, 1),
        "nobody gets in who has to authenticate, since nobody can"
    );
    house
        .iscsi
        .set_target_node_auth("quarry", Auth::default())
        .expect("set");
    house
        .iscsi
        .add_initiators(1, &["!iqn.a".into()], &[])
        .expect("added behind ANY");
    assert_eq!(status(house.at), (0, 0), "the first match decides");
    house.iscsi.remove_initiators(1, &["ANY".into()], &[]).expect("removed");
    assert_eq!(status(house.at), (2, 2));
    house
        .iscsi
        .set_options(Options {
            max_sessions: 0,
            ..Options::default()
        })
        .expect_err("no sessions at all");
    house.iscsi.delete_target_node("quarry").expect("deleted");
    assert_eq!(status(house.at), (2, 3));
    house.iscsi.delete_portal_group(1).expect("deleted");
    let end = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(house.at).is_ok() {
        assert!(Instant::now() < end, "it still listens");
        std::thread::sleep(Duration::from_millis(10));
    }
}
