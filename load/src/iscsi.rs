//! One iSCSI session of one connection (RFC 7143): log in, size the unit, keep commands under way.
//!
//! Written from the layouts of section 11, byte by byte and apart from the target's codecs, so that the two do not share
//! their mistakes.
use crate::{
    plan::{Load, Plan, payload},
    report::Report,
};
use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// What to load.
#[derive(Clone, Debug)]
pub struct Job {
    /// The portal.
    pub address: SocketAddr,
    /// The target's name.
    pub target: String,
    /// The unit, 0 to 255.
    pub lun: u8,
    /// What to do.
    pub load: Load,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum IscsiError {
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The target does not let us in.
    #[error("login refused: status {class:02x}/{detail:02x}")]
    Refused {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
    },
    /// The target broke the protocol, or the unit cannot be used.
    #[error("the target sent {0}")]
    Nonsense(&'static str),
}

type Result<T> = std::result::Result<T, IscsiError>;

const BHS: usize = 48;
const RECEIVE: usize = 1 << 20;
/// The longest data segment we take.
const SEGMENT: usize = 256 << 10;
const NO_TAG: u32 = 0xffff_ffff;

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u32::from_be_bytes(*b))
}

struct Session {
    stream: TcpStream,
    lun: u8,
    cmd_sn: u32,
    stat_sn: u32,
    max_cmd_sn: u32,
    /// Data that may go with a write command.
    immediate: usize,
    /// Data of one Data-Out.
    segment: usize,
    rx: Vec<u8>,
    start: usize,
    end: usize,
    tx: Vec<u8>,
}

/// A PDU in the receive buffer.
struct Pdu {
    at: usize,
    data: usize,
    len: usize,
}

impl Session {
    fn login(job: &Job) -> Result<Self> {
        // A session of the same ISID would take the place of the one before (RFC 7143 6.3.5). Random format, type 10b.
        static SESSIONS: AtomicU16 = AtomicU16::new(0);
        let [high, low] = SESSIONS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let isid = [0x80, 0x61, 0x73, std::process::id() as u8, high, low];
        let patience = Duration::from_secs(20);
        let stream = TcpStream::connect_timeout(&job.address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut session = Self {
            stream,
            lun: job.lun,
            cmd_sn: 1,
            stat_sn: 0,
            max_cmd_sn: 1,
            immediate: 8192,
            segment: 8192,
            rx: vec![0; RECEIVE + SEGMENT],
            start: 0,
            end: 0,
            tx: Vec::with_capacity(64 << 10),
        };
        let mut text = format!(
            "InitiatorName=iqn.2026-11.io.ashlar:load\0TargetName={}\0SessionType=Normal\0HeaderDigest=None\0DataDigest=None\0\
             InitialR2T=No\0ImmediateData=Yes\0MaxRecvDataSegmentLength={SEGMENT}\0MaxBurstLength={SEGMENT}\0\
             FirstBurstLength={SEGMENT}\0MaxOutstandingR2T=1\0MaxConnections=1\0ErrorRecoveryLevel=0\0",
            job.target
        );
        let (mut first_burst, mut immediate, mut segment) = (64 << 10, true, 8192);
        for _ in 0..8 {
            let mut bhs = [0; BHS];
            // Login, immediate; from operational negotiation to full feature.
            bhs[0] = 0x43;
            bhs[1] = 0x80 | 1 << 2 | 3;
            bhs[8..14].copy_from_slice(&isid);
            session.put(bhs, 1, text.as_bytes());
            session.stream.write_all(&session.tx)?;
            session.tx.clear();
            let pdu = session.pdu()?;
            let (bhs, data) = session.parts(&pdu);
            if bhs[0] & 0x3f != 0x23 {
                return Err(IscsiError::Nonsense("something else than a login response"));
            }
            if bhs[36] != 0 {
                return Err(IscsiError::Refused {
                    class: bhs[36],
                    detail: bhs[37],
                });
            }
            let done = bhs[1] & 0x83 == 0x83;
            for (key, value) in data
                .split(|b| *b == 0)
                .filter_map(|p| std::str::from_utf8(p).ok()?.split_once('='))
            {
                match key {
                    "MaxRecvDataSegmentLength" => segment = value.parse().unwrap_or(segment),
                    "FirstBurstLength" => first_burst = value.parse().unwrap_or(first_burst),
                    "ImmediateData" => immediate = value == "Yes",
                    _ => {}
                }
            }
            session.segment = segment;
            session.note(&pdu);
            if done {
                session.immediate = if immediate { first_burst.min(session.segment) } else { 0 };
                return Ok(session);
            }
            text.clear();
        }
        Err(IscsiError::Nonsense("login responses without an end"))
    }

    /// Queues a PDU, with what all of the host's PDUs have in common.
    fn put(&mut self, mut bhs: [u8; BHS], itt: u32, data: &[u8]) {
        bhs[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        bhs[16..20].copy_from_slice(&itt.to_be_bytes());
        if bhs[0] & 0x3f != 5 {
            bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        }
        bhs[28..32].copy_from_slice(&self.stat_sn.to_be_bytes());
        self.tx.extend_from_slice(&bhs);
        self.tx.extend_from_slice(data);
        self.tx.resize(self.tx.len().next_multiple_of(4), 0);
    }

    fn command(&mut self, itt: u32, cdb: [u8; 16], read: usize, write: usize, data: &[u8]) {
        let mut bhs = [0; BHS];
        bhs[0] = 0x01;
        // Final, simple task; R or W.
        bhs[1] = 0x81 | if read > 0 { 0x40 } else { 0 } | if write > 0 { 0x20 } else { 0 };
        bhs[9] = self.lun;
        bhs[20..24].copy_from_slice(&(read.max(write) as u32).to_be_bytes());
        bhs[32..48].copy_from_slice(&cdb);
        self.put(bhs, itt, data);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
    }

    /// May one more command be sent?
    fn window(&self) -> bool {
        (self.max_cmd_sn.wrapping_sub(self.cmd_sn) as i32) >= 0
    }

    /// A whole PDU if there is one in the buffer.
    fn next(&mut self) -> Result<Option<Pdu>> {
        let bytes = &self.rx[self.start..self.end];
        if bytes.len() < BHS {
            return Ok(None);
        }
        let ahs = usize::from(bytes[4]) * 4;
        let data = (be32(bytes, 4) & 0x00ff_ffff) as usize;
        if data > SEGMENT {
            return Err(IscsiError::Nonsense("more data than we said we take"));
        }
        let total = BHS + ahs + data.next_multiple_of(4);
        if bytes.len() < total {
            return Ok(None);
        }
        let pdu = Pdu {
            at: self.start,
            data: self.start + BHS + ahs,
            len: data,
        };
        self.start += total;
        Ok(Some(pdu))
    }

    fn receive(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.rx.len() - self.end < SEGMENT + BHS {
            self.rx.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match crate::receive(&mut self.stream, &mut self.rx[self.end..])? {
            0 => Err(IscsiError::Nonsense("an end in the middle")),
            n => {
                self.end += n;
                Ok(())
            }
        }
    }

    fn pdu(&mut self) -> Result<Pdu> {
        loop {
            if let Some(pdu) = self.next()? {
                return Ok(pdu);
            }
            self.receive()?;
        }
    }

    fn parts(&self, pdu: &Pdu) -> (&[u8], &[u8]) {
        (&self.rx[pdu.at..pdu.at + BHS], &self.rx[pdu.data..pdu.data + pdu.len])
    }

    /// Takes the numbers a PDU of the target carries.
    fn note(&mut self, pdu: &Pdu) {
        let (bhs, _) = self.parts(pdu);
        let (stat_sn, max_cmd_sn) = (be32(bhs, 24), be32(bhs, 32));
        // A Data-In without status and an R2T carry no StatSN that counts; a NOP-In nobody asked for repeats the next.
        let counts = match bhs[0] & 0x3f {
            0x25 => bhs[1] & 1 != 0,
            0x31 => false,
            0x20 => be32(bhs, 16) != NO_TAG,
            _ => true,
        };
        if counts {
            self.stat_sn = stat_sn.wrapping_add(1);
        }
        if (max_cmd_sn.wrapping_sub(self.max_cmd_sn) as i32) > 0 {
            self.max_cmd_sn = max_cmd_sn;
        }
    }

    /// One command and its data, to the end.
    fn call(&mut self, cdb: [u8; 16], read: usize) -> Result<(u8, Vec<u8>)> {
        self.command(1, cdb, read, 0, &[]);
        self.stream.write_all(&self.tx)?;
        self.tx.clear();
        let mut got = Vec::new();
        loop {
            let pdu = self.pdu()?;
            self.note(&pdu);
            let (bhs, data) = self.parts(&pdu);
            match bhs[0] & 0x3f {
                0x25 => {
                    got.extend_from_slice(data);
                    if bhs[1] & 1 != 0 {
                        return Ok((bhs[3], got));
                    }
                }
                0x21 => return Ok((bhs[3], got)),
                _ => {}
            }
        }
    }

    /// Blocks and block size. The first answers may be unit attentions.
    fn capacity(&mut self) -> Result<(u64, u32)> {
        let mut cdb = [0; 16];
        cdb[0] = 0x9e;
        cdb[1] = 0x10;
        cdb[13] = 32;
        for _ in 0..4 {
            let (status, data) = self.call(cdb, 32)?;
            if let (0, Some(last)) = (status, data.first_chunk()) {
                return Ok((u64::from_be_bytes(*last) + 1, be32(&data, 8)));
            }
        }
        Err(IscsiError::Nonsense("no capacity of that unit"))
    }

    /// Answers an R2T out of `payload`.
    fn data_out(&mut self, bhs: [u8; BHS], payload: &[u8]) -> Result<()> {
        let (itt, tag) = (be32(&bhs, 16), be32(&bhs, 20));
        let (mut offset, len) = (be32(&bhs, 40) as usize, be32(&bhs, 44) as usize);
        let end = offset + len;
        let mut number = 0u32;
        while offset < end {
            let n = (end - offset).min(self.segment.max(512));
            let piece = payload
                .get(offset..offset + n)
                .ok_or(IscsiError::Nonsense("a request for data nobody has"))?;
            let mut out = [0; BHS];
            out[0] = 0x05;
            out[1] = if offset + n == end { 0x80 } else { 0 };
            out[9] = self.lun;
            out[20..24].copy_from_slice(&tag.to_be_bytes());
            out[36..40].copy_from_slice(&number.to_be_bytes());
            out[40..44].copy_from_slice(&(offset as u32).to_be_bytes());
            self.put(out, itt, piece);
            offset += n;
            number += 1;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Flight {
    started: Instant,
    got: usize,
    read: bool,
}

/// Logs in and runs the job.
pub fn run(job: &Job) -> Result<Report> {
    let mut session = Session::login(job)?;
    let (blocks, block) = session.capacity()?;
    let load = &job.load;
    let mut plan = Plan::new(load, blocks, block).ok_or(IscsiError::Nonsense(
        "a unit that is too small or has the wrong block size",
    ))?;
    let payload = payload(load.size);
    let size = load.size as usize;
    let mut report = Report::default();
    let begun = Instant::now();
    let mut now = begun;
    let mut flights = vec![
        Flight {
            started: begun,
            got: 0,
            read: true
        };
        usize::from(load.depth)
    ];
    let mut idle: Vec<u32> = (0..u32::from(load.depth)).collect();
    loop {
        while now - begun < load.time && report.failed < 1000 && session.window() {
            let Some(itt) = idle.pop() else { break };
            let (lba, read) = plan.step();
            let mut cdb = [0; 16];
            cdb[0] = if read { 0x88 } else { 0x8a };
            cdb[2..10].copy_from_slice(&lba.to_be_bytes());
            cdb[10..14].copy_from_slice(&plan.blocks().to_be_bytes());
            flights[itt as usize] = Flight {
                started: now,
                got: 0,
                read,
            };
            match read {
                true => session.command(itt, cdb, size, 0, &[]),
                false => {
                    let with = size.min(session.immediate);
                    session.command(itt, cdb, 0, size, &payload[..with]);
                }
            }
        }
        if idle.len() == flights.len() {
            break;
        }
        session.stream.write_all(&session.tx)?;
        session.tx.clear();
        session.receive()?;
        now = Instant::now();
        while let Some(pdu) = session.next()? {
            session.note(&pdu);
            let mut bhs = [0; BHS];
            bhs.copy_from_slice(session.parts(&pdu).0);
            let itt = be32(&bhs, 16);
            let ended = match bhs[0] & 0x3f {
                0x25 => {
                    let flight = flights
                        .get_mut(itt as usize)
                        .ok_or(IscsiError::Nonsense("data for nobody"))?;
                    flight.got += pdu.len;
                    bhs[1] & 1 != 0
                }
                0x21 => true,
                0x31 => {
                    session.data_out(bhs, &payload)?;
                    false
                }
                0x20 => {
                    if be32(&bhs, 20) != NO_TAG {
                        // A ping: NOP-Out, immediate, with its tag.
                        let mut pong = [0; BHS];
                        pong[0] = 0x40;
                        pong[1] = 0x80;
                        pong[20..24].copy_from_slice(&bhs[20..24]);
                        session.put(pong, NO_TAG, &[]);
                    }
                    false
                }
                _ => return Err(IscsiError::Nonsense("a PDU that has no business here")),
            };
            if ended {
                let flight = flights
                    .get(itt as usize)
                    .ok_or(IscsiError::Nonsense("an answer to nobody"))?;
                if bhs[3] != 0 || flight.read && flight.got != size {
                    report.failed += 1;
                } else {
                    report.done += 1;
                    report.bytes += u64::from(load.size);
                }
                report.latency.add((now - flight.started).as_nanos() as u64);
                idle.push(itt);
            }
        }
    }
    report.took = now - begun;
    Ok(report)
}
