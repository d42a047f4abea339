//! Sessions over real sockets, their connections on two cores: several connections, connections and sessions in the place of
//! others, and task management while commands are under way. The host is made of bytes; section numbers are of RFC 7143.
use bdev::{Table, graph::Graph, node::NodeSpec};
use reactor::Reactors;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use target::iscsi::{Auth, InitiatorGroup, Iscsi, LunMap, LunOptions, Options, PgIgMap, Portal, TargetNode};

const IQN: &str = "iqn.2016-06.io.spdk:quarry";
const DEPTH: u32 = 16;
/// What a write to the slow volume takes.
const SLOW: Duration = Duration::from_millis(400);

struct House {
    reactors: Reactors,
    iscsi: Iscsi,
    at: SocketAddr,
    _graph: Graph,
    _runtime: tokio::runtime::Runtime,
}

impl House {
    /// Two cores, a fast volume at LUN 0 and one with slow writes at LUN 1.
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
        let memory = || Table::Memory {
            blocks: 8192,
            block_size: 512,
            physical_block_size: None,
            optimal_io: 0,
        };
        let delay = Table::Delay {
            on: "below".into(),
            avg_read_us: 0,
            p99_read_us: 0,
            avg_write_us: SLOW.as_micros() as u64,
            p99_write_us: SLOW.as_micros() as u64,
        };
        runtime.block_on(async {
            for (name, table) in [("fast", memory()), ("below", memory()), ("slow", delay)] {
                graph.build(NodeSpec::new(name, table)).await.expect(name);
            }
        });
        let iscsi = Iscsi::new(reactors.clone(), graph.clone());
        let options = Options {
            max_connections_per_session: 2,
            ..Options::default()
        };
        iscsi.set_options(options).expect("options");
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
        let luns = ["fast", "slow"].iter().enumerate().map(|(i, volume)| LunMap {
            bdev_name: volume.to_string(),
            lun_id: i as u16,
            options: LunOptions::default(),
        });
        iscsi
            .create_target_node(&TargetNode {
                name: "quarry".into(),
                alias_name: String::new(),
                pg_ig_maps: vec![PgIgMap { pg_tag: 1, ig_tag: 1 }],
                luns: luns.collect(),
                queue_depth: DEPTH,
                auth: Auth::default(),
                header_digest: false,
                data_digest: false,
            })
            .expect("target node");
        let port = iscsi.portal_groups()[0].portals[0].port;
        Self {
            reactors,
            iscsi,
            at: SocketAddr::from(([127, 0, 0, 1], port)),
            _graph: graph,
            _runtime: runtime,
        }
    }

    /// Waits until there are this many connections.
    fn settles_at(&self, connections: usize) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.iscsi.connections().len() != connections {
            assert!(Instant::now() < end, "{:?}", self.iscsi.connections());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let all_gone = self.iscsi.shutdown(Duration::from_secs(10));
        self.reactors.stop();
        assert!(all_gone || std::thread::panicking(), "connections did not end");
    }
}

type Pdu = ([u8; 48], Vec<u8>);

fn get(header: &[u8; 48], at: usize) -> u32 {
    u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"))
}

/// One connection.
struct Host {
    stream: TcpStream,
    tsih: u16,
    cmd_sn: u32,
    /// Commands there is room for, as told last.
    window: u32,
    itt: u32,
}

impl Host {
    /// A login of session `tsih` (0: a new one) from the port `isid`: its status, if it is answered.
    fn try_login(at: SocketAddr, isid: u8, tsih: u16, cid: u16, cmd_sn: u32) -> Result<Self, u16> {
        let stream = TcpStream::connect(at).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        stream.set_nodelay(true).expect("nodelay");
        let mut host = Self {
            stream,
            tsih,
            cmd_sn,
            window: 0,
            itt: u32::from(cid) << 16,
        };
        let mut text = format!("InitiatorName=iqn.x:host\0TargetName={IQN}\0");
        if tsih == 0 {
            text += "MaxConnections=2\0InitialR2T=No\0ImmediateData=Yes\0";
        }
        let mut header = host.header(0x43, 0x87);
        header[8..13].copy_from_slice(&[0x80, 0, 0, 0, 0]);
        header[13] = isid;
        header[14..16].copy_from_slice(&tsih.to_be_bytes());
        header[20..22].copy_from_slice(&cid.to_be_bytes());
        host.send(header, text.as_bytes());
        let (header, _) = host.recv().expect("an answer to the login");
        assert_eq!(header[0], 0x23);
        let status = u16::from_be_bytes([header[36], header[37]]);
        if status != 0 {
            return Err(status);
        }
        assert_eq!(header[1], 0x87);
        host.tsih = u16::from_be_bytes([header[14], header[15]]);
        Ok(host)
    }

    fn login(at: SocketAddr, isid: u8) -> Self {
        let mut host = Self::try_login(at, isid, 0, 0, 1).expect("it may come");
        // Power on is told once for each unit.
        for lun in 0..2 {
            assert_eq!((host.test(lun), host.test(lun)), (2, 0));
        }
        host
    }

    fn header(&mut self, opcode: u8, flags: u8) -> [u8; 48] {
        self.itt += 1;
        let mut header = [0; 48];
        (header[0], header[1]) = (opcode, flags);
        header[16..20].copy_from_slice(&self.itt.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header
    }

    fn send(&mut self, mut header: [u8; 48], data: &[u8]) {
        header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        let mut bytes = [&header, data].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.stream.write_all(&bytes).expect("send");
    }

    /// The next PDU; `None` at the end.
    fn recv(&mut self) -> Option<Pdu> {
        let mut header = [0; 48];
        self.stream.read_exact(&mut header).ok()?;
        let len = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let mut data = vec![0; len.next_multiple_of(4)];
        self.stream.read_exact(&mut data).ok()?;
        data.truncate(len);
        self.window = get(&header, 32).wrapping_sub(get(&header, 28)).wrapping_add(1);
        Some((header, data))
    }

    /// Sends a command and does not wait; its tag.
    fn start(&mut self, lun: u8, cdb: &[u8], room: u32, data: &[u8]) -> u32 {
        let flags = match (room, data.len()) {
            (0, 0) => 0x81,
            (0, _) => 0xa1,
            _ => 0xc1,
        };
        let mut header = self.header(0x01, flags);
        header[9] = lun;
        header[20..24].copy_from_slice(&room.max(data.len() as u32).to_be_bytes());
        header[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn += 1;
        self.send(header, data);
        self.itt
    }

    /// Waits for an answer to `itt`: status and data.
    fn finish(&mut self, itt: u32) -> (u8, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let (header, part) = self.recv().expect("an answer");
            assert_eq!(get(&header, 16), itt, "PDU {:#x}", header[0]);
            data.extend_from_slice(&part);
            match (header[0], header[1] & 1) {
                (0x25, 0) => (),
                (0x25 | 0x21, _) => return (header[3], data),
                _ => panic!("PDU {:#x}", header[0]),
            }
        }
    }

    fn test(&mut self, lun: u8) -> u8 {
        let itt = self.start(lun, &[0; 6], 0, &[]);
        self.finish(itt).0
    }

    /// Starts writing `fill` to block `lba`.
    fn write(&mut self, lun: u8, lba: u8, fill: u8) -> u32 {
        self.start(lun, &[0x2a, 0, 0, 0, 0, lba, 0, 0, 1, 0], 0, &[fill; 512])
    }

    fn read(&mut self, lun: u8, lba: u8) -> Vec<u8> {
        let itt = self.start(lun, &[0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0], 512, &[]);
        let (status, data) = self.finish(itt);
        assert_eq!(status, 0);
        data
    }

    /// An immediate task management function, without waiting; its tag.
    fn manage(&mut self, function: u8, lun: u8, referenced: u32) -> u32 {
        let mut header = self.header(0x42, 0x80 | function);
        header[9] = lun;
        header[20..24].copy_from_slice(&referenced.to_be_bytes());
        header[32..36].copy_from_slice(&(self.cmd_sn - 1).to_be_bytes());
        self.send(header, &[]);
        self.itt
    }

    /// The response to a task management function, which must be the next PDU.
    fn managed(&mut self, itt: u32) -> u8 {
        let (header, _) = self.recv().expect("an answer");
        assert_eq!((header[0], get(&header, 16)), (0x22, itt));
        header[2]
    }

    fn log_out(&mut self, reason: u8, cid: u16) -> u8 {
        let mut header = self.header(0x46, 0x80 | reason);
        header[20..22].copy_from_slice(&cid.to_be_bytes());
        self.send(header, &[]);
        let (header, _) = self.recv().expect("an answer");
        assert_eq!(header[0], 0x26);
        header[2]
    }
}

/// Two connections of one session, which live on two cores.
fn pair(house: &House) -> (Host, Host) {
    let a = Host::login(house.at, 1);
    let b = Host::try_login(house.at, 1, a.tsih, 1, a.cmd_sn).expect("the second connection");
    let connections = house.iscsi.connections();
    assert_eq!(connections.len(), 2);
    assert_ne!(connections[0].lcore_id, connections[1].lcore_id);
    for one in &connections {
        assert_eq!((one.tsih, one.session_connections), (a.tsih, 2));
        let negotiated = one.negotiated.expect("logged in");
        assert_eq!(
            (negotiated.max_connections, u32::from(negotiated.queue_depth)),
            (2, DEPTH)
        );
    }
    (a, b)
}

#[test]
fn a_session_orders_commands_over_two_cores() {
    let house = House::new();
    let (mut a, mut b) = pair(&house);
    // What was told on A is not told again on B: it is one nexus.
    b.cmd_sn = a.cmd_sn;
    assert_eq!((b.test(0), b.test(1)), (0, 0));
    for round in 0..200u8 {
        // The later number first, on the other core.
        let next = b.cmd_sn;
        let (first, second) = if round % 2 == 0 {
            (&mut a, &mut b)
        } else {
            (&mut b, &mut a)
        };
        second.cmd_sn = next + 1;
        let late = second.start(0, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512, &[]);
        first.cmd_sn = next;
        let early = first.write(0, 0, round);
        assert_eq!(first.finish(early).0, 0);
        assert_eq!(second.finish(late).0, 0);
        (a.cmd_sn, b.cmd_sn) = (next + 2, next + 2);
        assert_eq!(b.read(0, 0), [round; 512]);
    }
    // The window is the session's, and open again.
    assert_eq!(b.test(0), 0);
    assert_eq!(b.window, DEPTH);
    assert_eq!(b.log_out(0, 0), 0);
    assert!(a.recv().is_none(), "a session's logout ends all of its connections");
    house.settles_at(0);
}

#[test]
fn connections_join_leave_and_replace_each_other() {
    let house = House::new();
    let (mut a, mut b) = pair(&house);
    let refused = |tsih, cid| Host::try_login(house.at, 1, tsih, cid, 1).err();
    assert_eq!(refused(a.tsih, 2), Some(0x0206), "too many connections");
    assert_eq!(refused(a.tsih + 1, 2), Some(0x020a), "no such session");
    assert_eq!(
        Host::try_login(house.at, 2, a.tsih, 2, 1).err(),
        Some(0x020a),
        "another port's session"
    );
    // The same CID again: B is over, the session is not.
    let mut again = Host::try_login(house.at, 1, a.tsih, 1, a.cmd_sn).expect("in B's place");
    assert!(b.recv().is_none());
    again.cmd_sn = a.cmd_sn;
    assert_eq!(again.test(0), 0);
    a.cmd_sn = again.cmd_sn;
    assert_eq!(a.log_out(2, 0), 2, "there is no recovery at level 0");
    assert_eq!(a.log_out(1, 7), 1, "no such connection");
    // A sees the other one off, and stays.
    assert_eq!(a.log_out(1, 1), 0);
    assert!(again.recv().is_none());
    assert_eq!(a.test(0), 0);
    house.settles_at(1);
    assert_eq!(a.log_out(1, 0), 0);
    house.settles_at(0);
}

#[test]
fn a_lost_connection_ends_its_session() {
    let house = House::new();
    let (a, mut b) = pair(&house);
    drop(a);
    let (header, _) = b.recv().expect("a last word");
    assert_eq!((header[0], header[36]), (0x32, 3), "the session is dropped (11.9.1)");
    assert!(b.recv().is_none());
    house.settles_at(0);
}

#[test]
fn a_new_session_waits_for_the_old_ones_writes() {
    let house = House::new();
    let mut old = Host::login(house.at, 1);
    let began = Instant::now();
    for lba in 0..8 {
        old.write(1, lba, 0xaa);
    }
    // The commands are there when this is answered.
    let nop = old.header(0x40, 0x80);
    old.send(nop, &[]);
    assert_eq!(old.recv().map(|(header, _)| header[0]), Some(0x20));
    let mut new = Host::login(house.at, 1);
    assert!(
        began.elapsed() >= SLOW,
        "the login was answered before the old writes were over"
    );
    assert!(old.recv().is_none());
    for lba in 0..8 {
        let itt = new.write(1, lba, 0xbb);
        assert_eq!(new.finish(itt).0, 0);
        assert_eq!(new.read(1, lba), [0xbb; 512]);
    }
    house.settles_at(1);
}

#[test]
fn a_reset_ends_everybodys_commands_before_it_is_answered() {
    let house = House::new();
    let mut victim = Host::login(house.at, 1);
    let mut other = Host::login(house.at, 2);
    let slow = victim.write(1, 0, 1);
    // A write whose data does not come is in the task set, too.
    let mut header = victim.header(0x01, 0xa1);
    header[9] = 1;
    header[20..24].copy_from_slice(&4096u32.to_be_bytes());
    header[32..42].copy_from_slice(&[0x2a, 0, 0, 0, 0, 8, 0, 0, 8, 0]);
    victim.cmd_sn += 1;
    victim.send(header, &[]);
    let waits = victim.itt;
    let (r2t, _) = victim.recv().expect("an R2T");
    assert_eq!((r2t[0], get(&r2t, 16)), (0x31, waits));
    let began = Instant::now();
    let reset = other.manage(5, 1, u32::MAX);
    assert_eq!(other.managed(reset), 0);
    assert!(began.elapsed() > SLOW / 2, "it was answered before the write was over");
    // Both end with TASK ABORTED (TAS = 1), and data that comes late goes nowhere.
    let mut ends = [victim.recv(), victim.recv()].map(|pdu| {
        let (header, _) = pdu.expect("an answer");
        (header[0], header[3], get(&header, 16))
    });
    ends.sort_unstable();
    assert_eq!(ends, [(0x21, 0x40, slow), (0x21, 0x40, waits)]);
    let mut data_out = [0; 48];
    (data_out[0], data_out[1]) = (0x05, 0x80);
    data_out[16..24].copy_from_slice(&r2t[16..24]);
    victim.send(data_out, &[9; 4096]);
    // Both hosts are told of the reset, once, for that unit only.
    for host in [&mut victim, &mut other] {
        assert_eq!((host.test(0), host.test(1), host.test(1)), (0, 2, 0));
    }
    assert_eq!(victim.window, DEPTH);
}

#[test]
fn a_session_aborts_on_all_of_its_connections() {
    let house = House::new();
    let (mut a, mut b) = pair(&house);
    b.cmd_sn = a.cmd_sn;
    b.write(1, 0, 1);
    // It is there when this is answered.
    let nop = b.header(0x40, 0x80);
    b.send(nop, &[]);
    assert_eq!(b.recv().map(|(header, _)| header[0]), Some(0x20));
    a.cmd_sn = b.cmd_sn;
    let began = Instant::now();
    let set = a.manage(2, 1, u32::MAX);
    assert_eq!(a.managed(set), 0);
    assert!(began.elapsed() > SLOW / 2);
    b.cmd_sn = a.cmd_sn;
    assert_eq!(
        b.test(1),
        0,
        "no answer to what its own host aborted, and no news either"
    );
    assert_eq!(b.window, DEPTH);
}

#[test]
fn a_thousand_aborts_and_resets_leave_nothing_behind() {
    let house = House::new();
    let mut loaded = Host::login(house.at, 1);
    let mut resetting = Host::login(house.at, 2);
    for round in 0..1000u32 {
        let tags: Vec<u32> = (0..DEPTH as u8).map(|lba| loaded.write(0, lba, round as u8)).collect();
        // ABORT TASK, ABORT TASK SET, CLEAR TASK SET and resets in turn, by the host itself or by another.
        let (itt, other) = match round % 5 {
            0 => (loaded.manage(1, 0, tags[round as usize % tags.len()]), false),
            1 => (loaded.manage(2, 0, u32::MAX), false),
            2 => (loaded.manage(4, 0, u32::MAX), false),
            3 => (loaded.manage(5, 0, u32::MAX), false),
            _ => (resetting.manage(5, 0, u32::MAX), true),
        };
        if other {
            let outcome = resetting.managed(itt);
            assert_eq!(outcome, 0, "round {round}");
        }
        // Answers of those that were faster, and the function's.
        let nop = loaded.header(0x40, 0x80);
        let mark = loaded.itt;
        let mut ended = other;
        if !other {
            while !ended {
                let (header, _) = loaded.recv().expect("an answer");
                if header[0] == 0x22 {
                    assert_eq!(get(&header, 16), itt);
                    // An abort of what is over finds no task.
                    assert!(
                        header[2] == 0 || (round % 5 == 0 && header[2] == 1),
                        "round {round}: {}",
                        header[2]
                    );
                    ended = true;
                }
            }
        }
        loaded.send(nop, &[]);
        while let Some((header, _)) = loaded.recv() {
            if header[0] == 0x20 && get(&header, 16) == mark {
                break;
            }
        }
        // News of resets.
        for host in [&mut loaded, &mut resetting] {
            let end = Instant::now() + Duration::from_secs(5);
            loop {
                let itt = host.start(0, &[0; 6], 0, &[]);
                let status = loop {
                    let (header, _) = host.recv().expect("an answer");
                    if get(&header, 16) == itt {
                        break header[3];
                    }
                };
                if status == 0 {
                    break;
                }
                assert!(Instant::now() < end);
            }
        }
    }
    // Nothing is stuck: the whole window is open, and every slot and credit of it does its work.
    let end = Instant::now() + Duration::from_secs(5);
    while loaded.window != DEPTH {
        assert!(Instant::now() < end, "window {}", loaded.window);
        assert_eq!(loaded.test(0), 0);
    }
    let tags: Vec<u32> = (0..DEPTH as u8).map(|lba| loaded.write(1, lba, 3)).collect();
    let mut ended: Vec<u32> = tags
        .iter()
        .map(|_| {
            let (header, _) = loaded.recv().expect("an answer");
            assert_eq!((header[0], header[3]), (0x21, 0));
            get(&header, 16)
        })
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, tags);
    for mut host in [loaded, resetting] {
        assert_eq!(host.log_out(0, 0), 0);
    }
    house.settles_at(0);
}
