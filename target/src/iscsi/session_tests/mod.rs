//! A host in memory against a session: no socket, no clock, no disk.
mod data;
mod login;
mod requests;
mod tasks;
mod turns;

use crate::iscsi::{
    auth::{Credential, Demand},
    exercise::{credentials, credit, demand},
    login::{Agreed, Directory, Entry, Hello, OUR_SEGMENT, Refusal, Welcome},
    sequencer::Sequencer,
    session::{Event, MAX_TRANSFER, Patience, Session},
    slot::Aborted,
};
use crate::scsi::{Moved, Outcome};
use reactor::{Buf, Time, channel, crc32c};
use spec::{
    iscsi::{BHS_LEN, Bhs, LoginStatus, Opcode, bhs::*, pad},
    scsi::{Sense, Status},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use zerocopy::IntoBytes;

const TARGET: &str = "iqn.2016-06.io.spdk:quarry";
const LUN0: [u8; 8] = [0; 8];

struct World {
    depth: u16,
    demand: Demand,
    drawn: u8,
    /// With several connections: who counts, and which one this is.
    order: Option<(Arc<Sequencer>, u64)>,
}

impl Directory for World {
    fn greet(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        match hello.target.as_deref() {
            None | Some(TARGET) => Ok(Welcome {
                portal_group: 1,
                alias: "the quarry".into(),
                depth: self.depth,
                digests: (false, false),
                demand: self.demand.clone(),
                max_connections: 2,
                max_outstanding_r2t: 4,
                first_burst: 8192,
                immediate_data: true,
                time2wait: 2,
                time2retain: 20,
            }),
            Some("iqn.moved:x") => Err(Refusal::Moved {
                to: "10.0.0.1:3260".into(),
                permanent: false,
            }),
            Some(_) => Err(Refusal::Status(LoginStatus::NotFound)),
        }
    }
    fn enter(&mut self, _: &Hello, _: &Agreed) -> Result<Entry, Refusal> {
        Ok(Entry {
            tsih: 7,
            order: self.order.clone(),
            agreed: None,
        })
    }
    fn credential(&mut self, group: u32, user: &str) -> Option<Credential> {
        (group == 1).then(|| credentials().into_iter().find(|one| one.user == user))?
    }
    fn random(&mut self, bytes: &mut [u8]) -> bool {
        // Fresh each time, and the same in each run.
        self.drawn += 1;
        bytes.fill(self.drawn);
        true
    }
    fn targets(&mut self, _: &str, only: Option<&str>) -> Vec<(String, Vec<(SocketAddr, u32)>)> {
        match only.is_none_or(|only| only == TARGET) {
            true => vec![(TARGET.into(), vec![("127.0.0.1:3260".parse().unwrap(), 1)])],
            false => Vec::new(),
        }
    }
}

struct Host {
    session: Session,
    world: World,
    now: Time,
    cmd_sn: u32,
    inbox: Vec<u8>,
    digests: (bool, bool),
    /// Bytes are fed in pieces of this size.
    piece: usize,
}

type Pdu = (Bhs, Vec<u8>);

impl Host {
    fn new() -> Self {
        let patience = Patience {
            ping_after: Duration::from_secs(30),
            answer_within: Duration::from_secs(60),
        };
        Self {
            session: Session::new(Time(0), patience),
            world: World {
                depth: 4,
                demand: Demand::default(),
                drawn: 0,
                order: None,
            },
            now: Time(0),
            cmd_sn: 100,
            inbox: Vec::new(),
            digests: (false, false),
            piece: usize::MAX,
        }
    }

    /// Feeds bytes as a socket would: payload where it belongs, the rest through `input`.
    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece.min(bytes.len()).max(1)) {
            let mut piece = piece;
            if self.inbox.is_empty()
                && let Some(place) = self.session.payload()
            {
                let n = place.len().min(piece.len());
                place.write_at(0, &piece[..n]);
                self.session.filled(n);
                piece = &piece[n..];
            }
            self.inbox.extend_from_slice(piece);
            let used = self.session.input(&self.inbox, self.now, &mut self.world);
            self.inbox.drain(..used);
        }
    }

    fn pdu(&self, header: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        bytes[5..8].copy_from_slice(&len24(data.len()));
        if self.digests.0 {
            let crc = crc32c(&bytes).to_le_bytes();
            bytes.extend_from_slice(&crc);
        }
        let padded = [data, &[0; 3][..pad(data.len())]].concat();
        bytes.extend_from_slice(&padded);
        if self.digests.1 && !data.is_empty() {
            bytes.extend_from_slice(&crc32c(&padded).to_le_bytes());
        }
        bytes
    }

    fn send(&mut self, header: &[u8], data: &[u8]) {
        let bytes = self.pdu(header, data);
        self.feed(&bytes);
    }

    fn recv(&mut self) -> Vec<Pdu> {
        let mut bytes = Vec::new();
        self.session.output(&mut bytes);
        let (mut at, mut pdus) = (0, Vec::new());
        while at < bytes.len() {
            let bhs = *Bhs::split(&bytes[at..]).unwrap().0;
            let digests = if bhs.opcode() == Some(Opcode::LoginResponse) {
                (false, false)
            } else {
                self.digests
            };
            at += BHS_LEN;
            if digests.0 {
                assert_eq!(crc32c(bhs.as_bytes()).to_le_bytes(), bytes[at..at + 4], "header digest");
                at += 4;
            }
            let len = bhs.data_len();
            let data = bytes[at..at + len].to_vec();
            let padded = len + pad(len);
            if digests.1 && len > 0 {
                assert_eq!(
                    crc32c(&bytes[at..at + padded]).to_le_bytes(),
                    bytes[at + padded..at + padded + 4]
                );
                at += 4;
            }
            at += padded;
            pdus.push((bhs, data));
        }
        pdus
    }

    fn one(&mut self) -> Pdu {
        let mut pdus = self.recv();
        assert_eq!(pdus.len(), 1, "{pdus:?}");
        pdus.remove(0)
    }

    fn request(&self, flags: u8, cmd_sn: u32) -> LoginRequest {
        LoginRequest {
            opcode: Opcode::LoginRequest as u8 | IMMEDIATE,
            flags,
            isid: [0x80, 1, 2, 3, 4, 5],
            itt: 1.into(),
            cid: 9.into(),
            cmd_sn: cmd_sn.into(),
            exp_stat_sn: 50.into(),
            ..Default::default()
        }
    }

    /// The login is done: the host gets its window.
    fn lend(&mut self) {
        assert_eq!(self.session.event(), Some(Event::LoggedIn));
        self.session.lend(credit(self.world.depth));
    }

    /// Straight to full feature phase with these keys.
    fn login(&mut self, keys: &[&str]) -> String {
        let mut text = format!("InitiatorName=iqn.host\0TargetName={TARGET}\0SessionType=Normal\0");
        keys.iter().for_each(|key| text += &format!("{key}\0"));
        let request = self.request(0x87, self.cmd_sn);
        self.send(request.as_bytes(), text.as_bytes());
        self.lend();
        let (bhs, answer) = self.one();
        let response: &LoginResponse = bhs.view();
        assert_eq!(
            (response.status_class, response.flags, response.tsih.get()),
            (0, 0x87, 7)
        );
        let agreed = *self.session.agreed();
        self.digests = (agreed.header_digest, agreed.data_digest);
        String::from_utf8(answer).unwrap()
    }

    fn command(&mut self, itt: u32, flags: u8, expected: u32, cdb: &[u8], data: &[u8]) {
        let command = ScsiCommand {
            opcode: Opcode::ScsiCommand as u8,
            flags,
            lun: LUN0,
            itt: itt.into(),
            expected_len: expected.into(),
            cmd_sn: self.cmd_sn.into(),
            cdb: spec::scsi::Cdb::new(cdb).0,
            ..Default::default()
        };
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.send(command.as_bytes(), data);
    }

    fn data_out(&mut self, itt: u32, ttt: u32, sn: u32, at: u32, last: bool, data: &[u8]) {
        let pdu = DataOut {
            opcode: Opcode::DataOut as u8,
            flags: if last { FINAL } else { 0 },
            itt: itt.into(),
            ttt: ttt.into(),
            data_sn: sn.into(),
            buffer_offset: at.into(),
            ..Default::default()
        };
        self.send(pdu.as_bytes(), data);
    }

    fn task(&mut self, function: Function, itt: u32, referenced: u32) {
        let request = TaskRequest {
            opcode: Opcode::TaskRequest as u8 | IMMEDIATE,
            flags: FINAL | function as u8,
            itt: itt.into(),
            referenced_tag: referenced.into(),
            cmd_sn: self.cmd_sn.into(),
            ref_cmd_sn: (self.cmd_sn - 1).into(),
            ..Default::default()
        };
        self.send(request.as_bytes(), &[]);
    }

    /// The slot of the next event, which must be a command.
    fn slot(&mut self) -> u16 {
        match self.session.event() {
            Some(Event::Command(slot)) => slot,
            other => panic!("{other:?} instead of a command"),
        }
    }
}

fn read_of(data: &[u8]) -> Outcome {
    Outcome {
        data: Some(Buf::from_slice(data)),
        moved: Moved::In,
        wanted: data.len() as u64,
        ..Outcome::good()
    }
}

fn written(len: usize) -> Outcome {
    Outcome {
        moved: Moved::Out,
        wanted: len as u64,
        ..Outcome::good()
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const R: u8 = FINAL | 0x40;
const W: u8 = FINAL | 0x20;

/// Every sender is gone.
fn is_closed(receiver: &channel::Receiver<()>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    receiver.poll_recv(&mut context) == std::task::Poll::Ready(None)
}
