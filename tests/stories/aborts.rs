//! Thousands of task management functions in the middle of a verified load: everything aborted is over when the answer comes, nothing
//! else is touched, memory stays flat, and nothing that was lent stays away.
use blackbox::iscsi::{Iscsi, Pdu, login_request};
use blackbox::pattern::Random;
use blackbox::visit::Visit;
use blackbox::{Ports, Result, Server, rpc};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const IQN: &str = "iqn.2026-11.io.ashlar:quarry";
const FUNCTIONS: u64 = 4_000;
/// After so many everything that grows once has grown.
const WARM: u64 = 2_000;
/// What may be resident on top of that, in KiB: the allocator's own housekeeping.
const ROOM: u64 = 4 * 1024;
const LIMIT: Duration = Duration::from_secs(120);
const SESSIONS: u64 = 4;
/// Places that belong to one session, of eight blocks each.
const PLACES: u64 = 64;
const BLOCKS: usize = 8;
const BLOCK: usize = 512;
/// Commands that are sent together.
const AT_ONCE: usize = 8;
/// Sessions at the end, of the 128 there may be.
const CROWD: usize = 120;

/// What a host may ask for (RFC 7143, 11.5.1), and how often in a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    AbortTask = 1,
    AbortTaskSet = 2,
    ClearTaskSet = 4,
    LunReset = 5,
    WarmReset = 6,
}

const KINDS: [(Function, u64); 5] = [
    (Function::AbortTask, 40),
    (Function::AbortTaskSet, 25),
    (Function::ClearTaskSet, 10),
    (Function::LunReset, 15),
    (Function::WarmReset, 10),
];

/// What all sessions count.
#[derive(Default)]
struct Counts {
    /// By kind, as in `KINDS`.
    functions: [AtomicU64; 5],
    begun: AtomicU64,
    verified: AtomicU64,
    aborted_by_others: AtomicU64,
    attentions: AtomicU64,
    warm: AtomicU64,
}

fn number(bhs: &[u8; 48], at: usize) -> u32 {
    u32::from_be_bytes([bhs[at], bhs[at + 1], bhs[at + 2], bhs[at + 3]])
}

fn put(bhs: &mut [u8; 48], at: usize, value: u32) {
    bhs[at..at + 4].copy_from_slice(&value.to_be_bytes())
}

struct Command {
    place: usize,
    /// Of a write, its data's version.
    version: Option<u64>,
    /// Nothing is sent though the target asks.
    withheld: bool,
    read: Vec<u8>,
}

/// A host with several commands under way.
struct Session {
    stream: TcpStream,
    number: u64,
    cmd_sn: u32,
    stat_sn: u32,
    tag: u32,
    random: Random,
    version: u64,
    /// Each block of each place: the versions it may have.
    places: Vec<[Vec<u64>; BLOCKS]>,
    running: BTreeMap<u32, Command>,
}

/// Whose block this is, and which version: every byte of it. Version 0 is what was there before.
fn content(session: u64, place: usize, block: usize, version: u64) -> Vec<u8> {
    if version == 0 {
        return vec![0; BLOCK];
    }
    let head = [session, place as u64, block as u64, version]
        .map(u64::to_le_bytes)
        .concat();
    head.repeat(BLOCK / head.len())
}

impl Session {
    fn begin(port: u16, number: u64, random: Random) -> Result<Session> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(&login_request(IQN).bytes())?;
        let mut session = Session {
            stream,
            number,
            cmd_sn: 1,
            stat_sn: 0,
            tag: 0,
            random,
            version: 0,
            places: vec![std::array::from_fn(|_| vec![0]); PLACES as usize],
            running: BTreeMap::new(),
        };
        let (bhs, _) = session.receive()?;
        if (bhs[0] & 0x3f, bhs[36], bhs[37]) != (0x23, 0, 0) {
            return Err(format!("login answered by {:02x?}", &bhs[..40]).into());
        }
        Ok(session)
    }

    fn receive(&mut self) -> Result<([u8; 48], Vec<u8>)> {
        let mut bhs = [0; 48];
        self.stream.read_exact(&mut bhs)?;
        let len = number(&bhs, 4) as usize & 0xff_ffff;
        let mut data = vec![0; len.next_multiple_of(4)];
        self.stream.read_exact(&mut data)?;
        data.truncate(len);
        Ok((bhs, data))
    }

    fn send(&mut self, mut pdu: Pdu, lba: bool) -> Result<()> {
        put(&mut pdu.bhs, 24, self.cmd_sn);
        put(&mut pdu.bhs, 28, self.stat_sn);
        self.cmd_sn = self.cmd_sn.wrapping_add(lba.into());
        self.stream.write_all(&pdu.bytes())?;
        Ok(())
    }

    /// READ (10) or WRITE (10) of a place.
    fn command(&mut self, place: usize, write: bool, withheld: bool) -> Result<u32> {
        self.tag += 1;
        let tag = self.tag;
        let mut pdu = Pdu::new(0x01, 0x81 | if write { 0x20 } else { 0x40 });
        put(&mut pdu.bhs, 16, tag);
        put(&mut pdu.bhs, 20, (BLOCKS * BLOCK) as u32);
        let lba = (self.number * PLACES + place as u64) as u32 * BLOCKS as u32;
        pdu.bhs[32] = if write { 0x2a } else { 0x28 };
        put(&mut pdu.bhs, 34, lba);
        pdu.bhs[40] = BLOCKS as u8;
        let version = write.then(|| {
            self.version += 1;
            self.version
        });
        let command = Command {
            place,
            version,
            withheld,
            read: vec![0; BLOCKS * BLOCK],
        };
        self.running.insert(tag, command);
        self.send(pdu, true)?;
        Ok(tag)
    }

    /// A task management function, marked immediate; its tag.
    fn function(&mut self, function: Function, victim: Option<(u32, u32)>) -> Result<u32> {
        self.tag += 1;
        let mut pdu = Pdu::new(0x42, 0x80 | function as u8);
        put(&mut pdu.bhs, 16, self.tag);
        let (tag, sn) = victim.unwrap_or((u32::MAX, 0));
        put(&mut pdu.bhs, 20, tag);
        put(&mut pdu.bhs, 32, sn);
        self.send(pdu, false)?;
        Ok(self.tag)
    }

    /// An aborted write may have happened, if its data was sent.
    fn aborted(&mut self, command: &Command) {
        if let (Some(version), false) = (command.version, command.withheld) {
            self.places[command.place].iter_mut().for_each(|may| may.push(version));
        }
    }

    /// The end of a command, however it ended.
    fn ended(&mut self, tag: u32, status: u8, sense: &[u8], counts: &Counts) -> Result<()> {
        let command = self
            .running
            .remove(&tag)
            .ok_or("answered twice, or after it was aborted")?;
        match (status, command.version) {
            (0, Some(version)) => self.places[command.place] = std::array::from_fn(|_| vec![version]),
            (0, None) => {
                for (at, found) in command.read.chunks(BLOCK).enumerate() {
                    let may = &mut self.places[command.place][at];
                    let version = u64::from_le_bytes(found[24..32].try_into()?);
                    if !may.contains(&version) || found != content(self.number, command.place, at, version) {
                        return Err(format!(
                            "place {} block {at}: {:02x?}, not of versions {may:?}",
                            command.place,
                            &found[..32]
                        )
                        .into());
                    }
                    *may = vec![version];
                    counts.verified.fetch_add(1, Relaxed);
                }
            }
            // TASK ABORTED: by another host (TAS = 1).
            (0x40, _) => {
                counts.aborted_by_others.fetch_add(1, Relaxed);
                self.aborted(&command)
            }
            // A unit attention: the command did not begin.
            (2, _) if sense.get(4).is_some_and(|key| key & 0xf == 6) => {
                counts.attentions.fetch_add(1, Relaxed);
            }
            _ => return Err(format!("status {status:#x}, sense {sense:02x?}").into()),
        }
        Ok(())
    }

    /// Takes what comes until nothing is under way. `asked` is a function, its tag and its victim.
    fn settle(&mut self, mut asked: Option<(Function, u32, Option<u32>)>, counts: &Counts) -> Result<()> {
        while !self.running.is_empty() || asked.is_some() {
            let (bhs, data) = self.receive()?;
            let tag = number(&bhs, 16);
            match bhs[0] & 0x3f {
                0x21 => {
                    self.stat_sn = number(&bhs, 24).wrapping_add(1);
                    self.ended(tag, bhs[3], &data, counts)?;
                }
                0x25 => {
                    let command = self.running.get_mut(&tag).ok_or("data for nobody")?;
                    let at = number(&bhs, 40) as usize;
                    command
                        .read
                        .get_mut(at..at + data.len())
                        .ok_or("data beyond the end")?
                        .copy_from_slice(&data);
                    if bhs[1] & 0x01 != 0 {
                        self.stat_sn = number(&bhs, 24).wrapping_add(1);
                        self.ended(tag, bhs[3], &[], counts)?;
                    }
                }
                0x31 => {
                    let command = self.running.get(&tag).ok_or("an R2T for nobody")?;
                    if command.withheld {
                        continue;
                    }
                    let (at, len) = (number(&bhs, 40) as usize, number(&bhs, 44) as usize);
                    let version = command.version.ok_or("an R2T for a read")?;
                    let all: Vec<u8> = (0..BLOCKS)
                        .flat_map(|block| content(self.number, command.place, block, version))
                        .collect();
                    let mut pdu = Pdu::new(0x05, 0x80);
                    pdu.bhs[8..16].copy_from_slice(&bhs[8..16]);
                    put(&mut pdu.bhs, 16, tag);
                    put(&mut pdu.bhs, 20, number(&bhs, 20));
                    put(&mut pdu.bhs, 28, self.stat_sn);
                    put(&mut pdu.bhs, 40, at as u32);
                    pdu.data = all.get(at..at + len).ok_or("an R2T beyond the end")?.to_vec();
                    self.stream.write_all(&pdu.bytes())?;
                }
                0x22 => {
                    self.stat_sn = number(&bhs, 24).wrapping_add(1);
                    let (function, own, victim) = asked.take().ok_or("a function answered that nobody asked for")?;
                    let gone: Vec<u32> = match (bhs[2], victim) {
                        (0, Some(victim)) => self
                            .running
                            .contains_key(&victim)
                            .then_some(victim)
                            .into_iter()
                            .collect(),
                        (0, None) => self.running.keys().copied().collect(),
                        // It was over when the function came, so its answer has come before.
                        (1, Some(victim)) if !self.running.contains_key(&victim) => Vec::new(),
                        (response, _) => return Err(format!("{function:?} answered by response {response}").into()),
                    };
                    if own != tag {
                        return Err("another function answered".into());
                    }
                    for tag in gone {
                        let command = self.running.remove(&tag).ok_or("gone")?;
                        self.aborted(&command);
                    }
                }
                // NOP-In that wants an answer.
                0x20 if number(&bhs, 20) != u32::MAX => {
                    let mut pong = Pdu::new(0x40, 0x80);
                    put(&mut pong.bhs, 16, u32::MAX);
                    put(&mut pong.bhs, 20, number(&bhs, 20));
                    pong.bhs[8..16].copy_from_slice(&bhs[8..16]);
                    self.send(pong, false)?;
                }
                0x20 => (),
                other => return Err(format!("unexpected opcode {other:#x}").into()),
            }
        }
        Ok(())
    }

    /// Some commands, and perhaps a function in the middle of them.
    fn round(&mut self, server: &Server, counts: &Counts) -> Result<()> {
        let mut kind = None;
        if self.random.below(2) == 0 {
            let mut dice = self.random.below(100);
            kind = KINDS.iter().position(|(_, weight)| {
                let hit = dice < *weight;
                dice = dice.saturating_sub(*weight);
                hit
            });
        }
        let first = self.random.below(PLACES) as usize;
        let mut victim = None;
        for n in 0..AT_ONCE {
            let (place, write) = ((first + n) % PLACES as usize, self.random.below(2) == 0);
            let chosen = n == AT_ONCE / 2 && kind == Some(0);
            let sn = self.cmd_sn;
            let withheld = chosen && write && self.random.below(2) == 0;
            let tag = self.command(place, write, withheld)?;
            if chosen {
                victim = Some((tag, sn));
            }
        }
        // Some are over when the function comes, some run, some wait for data.
        std::thread::sleep(Duration::from_micros(self.random.below(3000)));
        let asked = match kind {
            None => None,
            Some(kind) => {
                let function = KINDS[kind].0;
                if counts.begun.fetch_add(1, Relaxed) == WARM {
                    counts.warm.store(server.rss(), Relaxed);
                }
                counts.functions[kind].fetch_add(1, Relaxed);
                Some((function, self.function(function, victim)?, victim.map(|(tag, _)| tag)))
            }
        };
        self.settle(asked, counts)
    }

    /// Reads everything once more.
    fn check(&mut self, counts: &Counts) -> Result<()> {
        for place in 0..PLACES as usize {
            // The first may be answered by unit attentions.
            loop {
                let before = counts.attentions.load(Relaxed);
                self.command(place, false, false)?;
                self.settle(None, counts)?;
                if counts.attentions.load(Relaxed) == before {
                    break;
                }
            }
        }
        assert!(self.running.is_empty());
        Ok(())
    }
}

#[test]
fn thousands_of_aborts_under_load_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let (state, iscsi, nvme) = (dir.path().display(), ports.iscsi, ports.nvme);
    let server = Server::start(
        dir.path(),
        &format!(
            "state: {state}\nreactors: {{count: 2}}\ndisks:\n  - {{name: ram, memory: 16MiB}}\ntables:\n  - {{name: quarry, delay: {{on: ram, read: \
             1ms, read_p99: 5ms, write: 1ms, write_p99: 8ms}}}}\ntargets:\n  nvme: {{listeners: [127.0.0.1:{nvme}]}}\n  iscsi:\n    \
             portals: [127.0.0.1:{iscsi}]\n    nodes: [{{name: {IQN}, luns: [{{lun: 0, volume: quarry}}]}}]\n"
        ),
    );
    let socket = dir.path().join("rpc.sock");
    let ask = |method| rpc::call(&socket, method, json!({})).unwrap_or_else(|e| panic!("{e}"));
    // The whole disk is touched first: its memory is not growth.
    let mut host = Iscsi::login(iscsi, IQN, 0).expect("log in");
    (0..16).for_each(|n| host.write(n * 2048, &vec![0; 1 << 20]).expect("fill"));
    drop(host);
    let first = Visit::begin(iscsi, IQN).expect("log in");
    let window = first.window;
    first.end().expect("log out");

    let mut random = Random::from_environment();
    rpc::call(&socket, "iscsi_enable_histogram", json!({"name": IQN, "enable": true})).expect("latencies are counted");
    let counts = Counts::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let (server, counts) = (&server, &counts);
        let hosts: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let random = Random::new(random.next_u64());
                scope.spawn(move || -> std::result::Result<(), String> {
                    let tell = |error: Box<dyn std::error::Error + Send + Sync>| format!("session {number}: {error}");
                    let mut session = Session::begin(iscsi, number, random).map_err(|e| tell(e.to_string().into()))?;
                    while counts.begun.load(Relaxed) < FUNCTIONS && began.elapsed() < LIMIT {
                        session.round(server, counts).map_err(|e| tell(e.to_string().into()))?;
                    }
                    session.check(counts).map_err(|e| tell(e.to_string().into()))
                })
            })
            .collect();
        for host in hosts {
            host.join().expect("a host").unwrap_or_else(|error| panic!("{error}"));
        }
    });
    let (took, done, warm, now) = (
        began.elapsed(),
        counts.begun.into_inner(),
        counts.warm.into_inner(),
        server.rss(),
    );
    let each: Vec<_> = KINDS
        .iter()
        .zip(&counts.functions)
        .map(|((kind, _), n)| format!("{kind:?} {}", n.load(Relaxed)))
        .collect();
    println!(
        "{done} functions in {took:.1?} ({}); {} blocks verified, {} commands aborted by other hosts, {} unit attentions; {warm} KiB \
         after {WARM}, {now} KiB at the end",
        each.join(", "),
        counts.verified.load(Relaxed),
        counts.aborted_by_others.load(Relaxed),
        counts.attentions.load(Relaxed)
    );
    assert!(done >= FUNCTIONS, "{done} are not enough, within {LIMIT:?}");
    assert!(
        counts.functions.iter().all(|n| n.load(Relaxed) > 10),
        "every kind: {each:?}"
    );
    assert!(counts.verified.into_inner() > 10_000, "the load hardly moved");
    assert!(counts.aborted_by_others.into_inner() > 0 && counts.attentions.into_inner() > 0);
    assert!(now < warm + ROOM, "resident memory grew from {warm} to {now} KiB");

    // No command is under way, nobody is left, and as many as may come at once get what the very first one got.
    let until = Instant::now() + Duration::from_secs(10);
    while ask("iscsi_get_connections") != json!([]) {
        assert!(Instant::now() < until, "left over: {}", ask("iscsi_get_connections"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let latencies = rpc::call(&socket, "iscsi_get_histogram", json!({"name": IQN})).expect("a histogram");
    let buckets = latencies["histogram"]
        .as_str()
        .unwrap_or_default()
        .trim_end_matches('=');
    assert!(buckets.bytes().any(|digit| digit != b'A'), "nothing was counted");
    let targets = ask("ashlar_show_targets");
    assert_eq!(targets["iscsi"][0]["luns"][0]["in_flight"], 0, "{targets:#}");
    let all: Vec<_> = (0..CROWD)
        .map(|n| Visit::begin(iscsi, IQN).unwrap_or_else(|e| panic!("session {n} at once: {e}")))
        .collect();
    for (n, visit) in all.iter().enumerate() {
        assert_eq!(
            visit.window, window,
            "session {n} of {CROWD} has another window than the first had"
        );
    }
    all.into_iter().for_each(|visit| visit.end().expect("log out"));
    server.assert_no_panic();
    server.stop();
}
