//! A host in memory against a session: no socket, no clock, no disk.
use super::{
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

#[test]
fn login_in_two_stages_negotiates_every_key() {
    let mut host = Host::new();
    host.piece = 11; // as badly cut as TCP may
    let text = format!("InitiatorName=iqn.host\0TargetName={TARGET}\0AuthMethod=CHAP,None\0");
    let request = host.request(0x81, 100);
    host.send(request.as_bytes(), text.as_bytes());
    let (bhs, answer) = host.one();
    let response: &LoginResponse = bhs.view();
    assert_eq!(
        (response.flags, response.status_class, response.tsih.get()),
        (0x81, 0, 0)
    );
    assert_eq!((response.stat_sn.get(), response.exp_cmd_sn.get()), (50, 100));
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        "TargetPortalGroupTag=1\0TargetAlias=the quarry\0AuthMethod=None\0"
    );
    let offers = "HeaderDigest=None,CRC32C\0DataDigest=CRC32C\0MaxConnections=8\0InitialR2T=No\0ImmediateData=Yes\0\
        MaxRecvDataSegmentLength=65536\0MaxBurstLength=16776192\0FirstBurstLength=262144\0DefaultTime2Wait=0\0\
        DefaultTime2Retain=60\0MaxOutstandingR2T=16\0DataPDUInOrder=No\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=2\0\
        IFMarker=Yes\0IFMarkInt=2048\0TaskReporting=FastAbort,RFC3720\0iSCSIProtocolLevel=2\0X-org.example=1\0\
        MaxBurst=1\0";
    let request = host.request(0x87, 100);
    host.send(request.as_bytes(), offers.as_bytes());
    host.lend();
    let (bhs, answer) = host.one();
    let response: &LoginResponse = bhs.view();
    assert_eq!(
        (response.flags, response.tsih.get(), response.stat_sn.get()),
        (0x87, 7, 51)
    );
    assert_eq!(
        String::from_utf8(answer).unwrap(),
        format!(
            "HeaderDigest=None\0DataDigest=CRC32C\0MaxConnections=2\0InitialR2T=No\0ImmediateData=Yes\0\
            MaxBurstLength=1048576\0FirstBurstLength=8192\0DefaultTime2Wait=2\0DefaultTime2Retain=20\0\
            MaxOutstandingR2T=4\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0IFMarker=No\0\
            IFMarkInt=Reject\0TaskReporting=RFC3720\0iSCSIProtocolLevel=1\0X-org.example=NotUnderstood\0\
            MaxBurst=NotUnderstood\0MaxRecvDataSegmentLength={OUR_SEGMENT}\0"
        )
    );
    let agreed = host.session.agreed();
    assert_eq!(
        (agreed.their_segment, agreed.max_burst, agreed.first_burst),
        (65536, 1 << 20, 8192)
    );
    assert!(!agreed.initial_r2t && agreed.immediate_data && !agreed.header_digest && agreed.data_digest);
    // The window is the slots there are.
    assert_eq!(response.max_cmd_sn.get(), 103);
}

#[test]
fn text_may_come_in_pieces() {
    let mut host = Host::new();
    let request = host.request(0x44, 100); // C bit
    host.send(request.as_bytes(), b"InitiatorName=iqn.ho");
    let (bhs, answer) = host.one();
    assert_eq!((bhs.flags, answer.len()), (0x04, 0));
    let request = host.request(0x87, 100);
    host.send(request.as_bytes(), format!("st\0TargetName={TARGET}\0").as_bytes());
    assert_eq!(host.one().0.flags, 0x87);
    assert_eq!(host.session.login().hello().unwrap().initiator, "iqn.host");
}

#[test]
fn logins_that_cannot_be_are_refused_with_their_status() {
    let refused = |text: &str, flags: u8, authenticate: bool| {
        let mut host = Host::new();
        host.world.demand = demand(authenticate, false);
        let request = host.request(flags, 1);
        host.send(request.as_bytes(), text.as_bytes());
        let (bhs, data) = host.one();
        let response: &LoginResponse = bhs.view();
        assert!(host.session.is_closed(), "{text}");
        (
            response.status_class,
            response.status_detail,
            String::from_utf8(data).unwrap(),
        )
    };
    let plain = |a, b| (a, b, String::new());
    assert_eq!(refused("TargetName=x\0", 0x87, false), plain(2, 7));
    assert_eq!(refused("InitiatorName=a\0", 0x87, false), plain(2, 7));
    assert_eq!(
        refused("InitiatorName=a\0TargetName=iqn.nobody\0", 0x87, false),
        plain(2, 3)
    );
    assert_eq!(
        refused("InitiatorName=a\0SessionType=Strange\0", 0x87, false),
        plain(2, 9)
    );
    let known = format!("InitiatorName=a\0TargetName={TARGET}\0");
    assert_eq!(
        refused(&known, 0x87, true),
        plain(2, 1),
        "nobody gets in who has to authenticate"
    );
    assert_eq!(refused(&format!("{known}AuthMethod=KRB5\0"), 0x81, false), plain(2, 1));
    assert_eq!(refused(&format!("{known}nonsense\0"), 0x87, false), plain(2, 0));
    assert_eq!(
        refused(&known, 0x8c, false),
        plain(2, 0),
        "full feature phase is no stage to log in from"
    );
    let moved = refused("InitiatorName=a\0TargetName=iqn.moved:x\0", 0x87, false);
    assert_eq!(moved, (1, 1, "TargetAddress=10.0.0.1:3260\0".into()));
}

#[test]
fn discovery_lists_the_targets() {
    let mut host = Host::new();
    let request = host.request(0x87, 5);
    host.send(request.as_bytes(), b"InitiatorName=iqn.host\0SessionType=Discovery\0");
    host.lend();
    host.recv();
    let text = TextRequest {
        opcode: Opcode::TextRequest as u8,
        flags: FINAL,
        itt: 3.into(),
        ttt: NO_TAG.into(),
        cmd_sn: 5.into(),
        ..Default::default()
    };
    host.send(text.as_bytes(), b"SendTargets=All\0");
    let (bhs, answer) = host.one();
    assert_eq!((bhs.opcode(), bhs.flags), (Some(Opcode::TextResponse), FINAL));
    assert_eq!(bhs.view::<TextResponse>().ttt.get(), NO_TAG);
    let golden = format!("TargetName={TARGET}\0TargetAddress=127.0.0.1:3260,1\0");
    assert_eq!(String::from_utf8(answer).unwrap(), golden);
}

#[test]
fn a_read_comes_back_in_bursts_with_status_in_the_last_pdu() {
    let mut host = Host::new();
    host.login(&["MaxRecvDataSegmentLength=4096", "MaxBurstLength=8192"]);
    let data = pattern(18432);
    host.command(1, R, 20480, &READ, &[]);
    let slot = host.slot();
    let taken = host.session.take(slot).unwrap();
    assert_eq!((taken.room, taken.cdb.opcode()), (20480, 0x28));
    host.session.complete(slot, read_of(&data));
    let pdus = host.recv();
    assert_eq!(pdus.len(), 5);
    let mut got = Vec::new();
    for (i, (bhs, part)) in pdus.iter().enumerate() {
        let pdu: &DataIn = bhs.view();
        assert_eq!(
            (pdu.data_sn.get(), pdu.buffer_offset.get()),
            (i as u32, got.len() as u32)
        );
        let flags = [0, FINAL, 0, FINAL, FINAL | STATUS | UNDERFLOW][i];
        assert_eq!(pdu.flags, flags, "PDU {i}");
        got.extend_from_slice(part);
    }
    assert_eq!(got, data);
    let last: &DataIn = pdus[4].0.view();
    assert_eq!((last.residual.get(), last.stat_sn.get()), (2048, 51));
    // The slot is free again by the time the host hears of it.
    assert_eq!((last.exp_cmd_sn.get(), last.max_cmd_sn.get()), (101, 104));
}

#[test]
fn a_write_is_collected_from_immediate_unsolicited_and_solicited_data() {
    let mut host = Host::new();
    host.piece = 1000;
    host.login(&[
        "InitialR2T=No",
        "FirstBurstLength=8192",
        "MaxBurstLength=16384",
        "ImmediateData=Yes",
    ]);
    let data = pattern(40960);
    // 4 KiB with the command, 4 KiB unsolicited, then 16 + 16 KiB as asked for.
    host.command(1, 0x20, 40960, &WRITE, &data[..4096]);
    host.data_out(1, NO_TAG, 0, 4096, false, &data[4096..6000]);
    host.data_out(1, NO_TAG, 1, 6000, true, &data[6000..8192]);
    for (n, start) in [8192usize, 24576].into_iter().enumerate() {
        let (bhs, _) = host.one();
        let r2t: &R2t = bhs.view();
        assert_eq!(bhs.opcode(), Some(Opcode::R2t));
        assert_eq!(
            (r2t.r2t_sn.get(), r2t.buffer_offset.get(), r2t.desired_len.get()),
            (n as u32, start as u32, 16384)
        );
        let tag = r2t.ttt.get();
        host.data_out(1, tag, 0, start as u32, false, &data[start..start + 10000]);
        host.data_out(
            1,
            tag,
            1,
            start as u32 + 10000,
            true,
            &data[start + 10000..start + 16384],
        );
    }
    let slot = host.slot();
    let taken = host.session.take(slot).unwrap();
    assert_eq!(taken.data.to_vec(), data);
    host.session.complete(slot, written(40960));
    let (bhs, _) = host.one();
    let response: &ScsiResponse = bhs.view();
    assert_eq!(
        (response.status, response.flags, response.residual.get()),
        (0, FINAL, 0)
    );
}

#[test]
fn with_initial_r2t_nothing_comes_unasked() {
    let mut host = Host::new();
    host.login(&["InitialR2T=Yes", "ImmediateData=No"]);
    let data = pattern(4096);
    host.command(1, W, 4096, &WRITE, &[]);
    let (bhs, _) = host.one();
    let tag = bhs.view::<R2t>().ttt.get();
    host.data_out(1, tag, 0, 0, true, &data);
    let slot = host.slot();
    assert_eq!(host.session.take(slot).unwrap().data.to_vec(), data);
    host.session.complete(slot, written(4096));
    host.recv();
    // Immediate data though we agreed on none: the command fails, the session lives.
    host.command(2, W, 4096, &WRITE, &data);
    let (bhs, sense) = host.one();
    assert_eq!(bhs.view::<ScsiResponse>().status, Status::CheckCondition as u8);
    assert_eq!(Sense::parse(&sense[2..]), Some(Sense::UNSOLICITED));
    assert!(host.session.listens());
}

#[test]
fn wrong_sequences_fail_the_command_when_the_burst_is_over() {
    for (sn, at, expected) in [(1, 0, Sense::CRC), (0, 512, Sense::CRC)] {
        let mut host = Host::new();
        host.login(&[]);
        host.command(1, W, 4096, &WRITE, &[]);
        let (bhs, _) = host.one();
        let tag = bhs.view::<R2t>().ttt.get();
        host.data_out(1, tag, sn, at, false, &pattern(512));
        assert!(host.recv().is_empty(), "not before the burst is over");
        host.data_out(1, tag, sn + 1, at + 512, true, &pattern(512));
        let (bhs, sense) = host.one();
        assert_eq!(bhs.opcode(), Some(Opcode::ScsiResponse));
        assert_eq!(Sense::parse(&sense[2..]), Some(expected));
    }
    // Too much, and too little.
    for len in [4608, 3584] {
        let mut host = Host::new();
        host.login(&[]);
        host.command(1, W, 4096, &WRITE, &[]);
        let tag = host.one().0.view::<R2t>().ttt.get();
        host.data_out(1, tag, 0, 0, true, &pattern(len));
        let (_, sense) = host.one();
        assert_eq!(Sense::parse(&sense[2..]), Some(Sense::DATA_AMOUNT));
    }
}

#[test]
fn digests_are_checked_and_made() {
    let mut host = Host::new();
    host.piece = 333;
    host.login(&["HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=No"]);
    let data = pattern(4099); // with padding
    host.command(1, W, 4099, &WRITE, &data);
    let slot = host.slot();
    assert_eq!(host.session.take(slot).unwrap().data.to_vec(), data);
    host.session.complete(slot, written(4099));
    host.one();
    host.command(2, R, 1001, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    host.session.complete(slot, read_of(&data[..1001]));
    assert_eq!(host.one().1, data[..1001]);

    // A wrong data digest: reject, and the command fails; the session lives (ERL 0 at the level of the PDU).
    let command = ScsiCommand {
        opcode: Opcode::ScsiCommand as u8,
        flags: W,
        itt: 3.into(),
        expected_len: 512.into(),
        cmd_sn: host.cmd_sn.into(),
        cdb: spec::scsi::Cdb::new(&WRITE).0,
        ..Default::default()
    };
    let mut bytes = host.pdu(command.as_bytes(), &data[..512]);
    *bytes.last_mut().unwrap() ^= 1;
    host.feed(&bytes);
    host.cmd_sn += 1;
    let pdus = host.recv();
    assert_eq!(pdus[0].0.view::<Reject>().reason, RejectReason::DataDigest as u8);
    assert_eq!(Bhs::split(&pdus[0].1).unwrap().0.itt(), 3);
    assert_eq!(Sense::parse(&pdus[1].1[2..]), Some(Sense::CRC));

    // A wrong header digest: nothing in the stream can be believed any more.
    let mut bytes = host.pdu(command.as_bytes(), &[]);
    bytes[50] ^= 1;
    host.feed(&bytes);
    assert!(host.session.is_closed());
    assert_eq!(host.session.cause(), Some("header digest error"));
}

#[test]
fn the_window_bounds_commands_and_opens_as_answers_leave() {
    let mut host = Host::new();
    host.login(&[]);
    let slots: Vec<u16> = (0..4)
        .map(|i| {
            host.command(i, R, 512, &READ, &[]);
            host.slot()
        })
        .collect();
    // The window is used up: a fifth is silently dropped (4.2.2.1), as is one from the past.
    host.command(9, R, 512, &READ, &[]);
    host.cmd_sn = 100;
    host.command(10, R, 512, &READ, &[]);
    assert_eq!(host.session.event(), None);
    assert!(host.recv().is_empty());
    host.session.take(slots[2]).unwrap();
    host.session.complete(slots[2], read_of(&pattern(512)));
    let (bhs, _) = host.one();
    let pdu: &DataIn = bhs.view();
    assert_eq!((bhs.itt(), pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get()), (2, 104, 104));
    host.cmd_sn = 104;
    host.command(11, R, 512, &READ, &[]);
    assert_eq!(host.slot(), slots[2]);
    // A gap on a single connection is the host's mistake.
    let mut host = Host::new();
    host.login(&[]);
    host.cmd_sn += 1;
    host.command(1, R, 512, &READ, &[]);
    assert_eq!(host.session.cause(), Some("gap in CmdSN"));
}

#[test]
fn a_nop_is_echoed_and_silence_is_pinged() {
    let mut host = Host::new();
    host.login(&[]);
    let nop = NopOut {
        opcode: Opcode::NopOut as u8 | IMMEDIATE,
        flags: FINAL,
        itt: 5.into(),
        ttt: NO_TAG.into(),
        cmd_sn: host.cmd_sn.into(),
        ..Default::default()
    };
    host.send(nop.as_bytes(), b"are you there?");
    let (bhs, data) = host.one();
    assert_eq!(
        (bhs.opcode(), bhs.itt(), &data[..]),
        (Some(Opcode::NopIn), 5, &b"are you there?"[..])
    );
    let seconds = |s: u64| Time(s * 1_000_000_000);
    assert_eq!(host.session.deadline(), Some(seconds(30)));
    host.session.tick(seconds(30));
    let (bhs, _) = host.one();
    let ping: &NopIn = bhs.view();
    assert_eq!(bhs.itt(), NO_TAG);
    assert_ne!(ping.ttt.get(), NO_TAG);
    assert_eq!(host.session.deadline(), Some(seconds(90)));
    host.now = seconds(31);
    let pong = NopOut {
        itt: NO_TAG.into(),
        ttt: ping.ttt,
        ..nop
    };
    host.send(pong.as_bytes(), &[]);
    assert!(host.recv().is_empty());
    assert_eq!(host.session.deadline(), Some(seconds(61)));
    host.session.tick(seconds(61));
    host.one();
    host.session.tick(seconds(121));
    assert_eq!(host.session.cause(), Some("ping not answered"));
}

#[test]
fn a_half_open_login_is_dropped() {
    let mut host = Host::new();
    host.feed(&[0x43; 20]);
    assert_eq!(host.session.deadline(), Some(Time(15_000_000_000)));
    host.session.tick(Time(15_000_000_000));
    assert!(host.session.is_closed());
}

#[test]
fn an_aborted_command_is_not_answered_and_its_abort_waits_for_it() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, R, 512, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    host.task(Function::AbortTask, 2, 1);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    assert!(host.recv().is_empty(), "it still runs");
    host.session.complete(slot, read_of(&pattern(512)));
    let (bhs, _) = host.one();
    assert_eq!((bhs.opcode(), bhs.itt()), (Some(Opcode::TaskResponse), 2));
    assert_eq!(bhs.view::<TaskResponse>().response, TaskOutcome::Complete as u8);

    // One that waits for data is over at once, and its data is read and forgotten.
    host.command(3, W, 4096, &WRITE, &[]);
    let tag = host.one().0.view::<R2t>().ttt.get();
    host.task(Function::AbortTask, 4, 3);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    assert_eq!(
        host.one().0.view::<TaskResponse>().response,
        TaskOutcome::Complete as u8
    );
    host.data_out(3, tag, 0, 0, true, &pattern(4096));
    assert!(host.recv().is_empty() && host.session.event().is_none());

    // One that is long over.
    host.task(Function::AbortTask, 5, 3);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    assert_eq!(host.one().0.view::<TaskResponse>().response, TaskOutcome::NoTask as u8);
}

#[test]
fn an_abort_of_what_never_ends_is_rejected_in_the_end() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, R, 512, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    host.task(Function::AbortTask, 3, 1);
    let Some(Event::Task(request)) = host.session.event() else {
        panic!()
    };
    host.session.abort_task(&request);
    let due = host.session.deadline().unwrap();
    host.session.tick(due);
    assert_eq!(
        host.one().0.view::<TaskResponse>().response,
        TaskOutcome::Rejected as u8
    );
    // When it does end, nobody hears of it, and the slot is good again.
    host.session.complete(slot, read_of(&pattern(512)));
    assert!(host.recv().is_empty());
}

#[test]
fn who_aborts_a_task_set_hears_when_the_last_command_is_over() {
    for whom in [Aborted::Host, Aborted::Other] {
        let mut host = Host::new();
        host.login(&["ImmediateData=No"]);
        host.command(1, R, 512, &READ, &[]);
        host.command(2, R, 512, &READ, &[]);
        let (runs, waits) = (host.slot(), host.slot());
        host.session.take(runs).unwrap();
        host.command(3, W, 4096, &WRITE, &[]);
        let tag = host.one().0.view::<R2t>().ttt.get();
        let (over, ended) = channel::bounded(1);
        host.session.abort_all(whom, spec::scsi::Lun::from_wire(LUN0), over);
        assert!(host.session.take(waits).is_none(), "aborted before its task took it");
        host.data_out(3, tag, 0, 0, true, &pattern(4096));
        assert_eq!(host.session.event(), None, "the data of an aborted write is swallowed");
        assert!(!is_closed(&ended), "one still runs");
        host.session.complete(runs, read_of(&pattern(512)));
        assert!(is_closed(&ended));
        // The host's own aborts end in silence, another one's with a status (TAS = 1).
        let mut told: Vec<_> = host.recv().iter().map(|(bhs, _)| (bhs.itt(), bhs.view::<ScsiResponse>().status)).collect();
        told.sort_unstable();
        let aborted = Status::TaskAborted as u8;
        match whom {
            Aborted::Host => assert_eq!(told, []),
            Aborted::Other => assert_eq!(told, [(1, aborted), (2, aborted), (3, aborted)]),
        }
        // Every slot is free: as many commands as before go in.
        for itt in 10..14 {
            host.command(itt, R, 512, &READ, &[]);
            host.slot();
        }
    }
}

/// Every sender is gone.
fn is_closed(receiver: &channel::Receiver<()>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    receiver.poll_recv(&mut context) == std::task::Poll::Ready(None)
}

#[test]
fn several_r2ts_are_outstanding_and_answered_in_order() {
    let keys = ["MaxOutstandingR2T=3", "MaxBurstLength=4096", "ImmediateData=No"];
    let mut host = Host::new();
    host.login(&keys);
    let data = pattern(18000);
    host.command(1, W, 18000, &WRITE, &[]);
    let asked = |pdus: Vec<Pdu>| -> Vec<(u32, u32, u32, u32)> {
        let one = |(bhs, _): &Pdu| {
            let r2t: &R2t = bhs.view();
            assert_eq!(bhs.opcode(), Some(Opcode::R2t));
            (r2t.r2t_sn.get(), r2t.buffer_offset.get(), r2t.desired_len.get(), r2t.ttt.get())
        };
        pdus.iter().map(one).collect()
    };
    let mut open = asked(host.recv());
    let places: Vec<_> = open.iter().map(|r| (r.0, r.1, r.2)).collect();
    assert_eq!(places, [(0, 0, 4096), (1, 4096, 4096), (2, 8192, 4096)]);
    let mut answered = 0;
    while !open.is_empty() {
        let (sn, at, len, tag) = open.remove(0);
        assert_eq!((sn, at), (answered, answered * 4096));
        let end = (at + len) as usize;
        host.data_out(1, tag, 0, at, true, &data[at as usize..end]);
        answered += 1;
        open.extend(asked(host.recv()));
        assert!(open.len() <= 3);
    }
    assert_eq!(answered, 5);
    let slot = host.slot();
    assert_eq!(host.session.take(slot).unwrap().data.to_vec(), data);
    host.session.complete(slot, written(18000));
    assert_eq!(host.one().0.view::<ScsiResponse>().exp_data_sn.get(), 0);

    // Data for the second before the first is done: DataSequenceInOrder is broken, and the command fails.
    let mut host = Host::new();
    host.login(&keys);
    host.command(1, W, 8192, &WRITE, &[]);
    let open = asked(host.recv());
    host.data_out(1, open[1].3, 0, 4096, true, &data[4096..8192]);
    let (_, sense) = host.one();
    assert_eq!(Sense::parse(&sense[2..]), Some(Sense::CRC));
    host.data_out(1, open[0].3, 0, 0, true, &data[..4096]);
    assert!(host.recv().is_empty() && host.session.event().is_none());
}

/// Two connections of one session.
fn pair() -> (Host, Host) {
    let order = Arc::new(Sequencer::new(100, 4));
    let one = |id: u64| {
        let mut host = Host::new();
        host.world.order = Some((order.clone(), id));
        host.login(&["MaxConnections=2", "InitialR2T=No"]);
        host
    };
    (one(1), one(2))
}

#[test]
fn commands_of_two_connections_begin_in_the_order_of_their_numbers() {
    let (mut a, mut b) = pair();
    // B's come first: they are kept, with their data, and a ping too.
    b.cmd_sn = 101;
    let data = pattern(4096);
    b.command(1, W, 4096, &WRITE, &data);
    let nop = NopOut {
        opcode: Opcode::NopOut as u8,
        flags: FINAL,
        itt: 5.into(),
        ttt: NO_TAG.into(),
        cmd_sn: b.cmd_sn.into(),
        ..Default::default()
    };
    b.cmd_sn += 1;
    b.send(nop.as_bytes(), b"early");
    b.command(2, W, 8192, &WRITE, &[]);
    assert_eq!(b.session.event(), None);
    assert!(b.recv().is_empty(), "neither R2T nor echo before their turn");
    assert!(b.session.deadline().unwrap() < Time(30_000_000_000), "that is not waited for for ever");
    a.command(3, R, 512, &READ, &[]);
    let slot = a.slot();
    b.session.turn(&mut b.world);
    let written_slot = b.slot();
    assert_eq!(b.session.take(written_slot).unwrap().data.to_vec(), data);
    let opcodes: Vec<_> = b.recv().iter().map(|(bhs, _)| bhs.opcode()).collect();
    assert_eq!(opcodes, [Some(Opcode::NopIn), Some(Opcode::R2t)]);
    // One window for both: three commands are under way, so there is room for one more, on either.
    a.session.take(slot).unwrap();
    a.session.complete(slot, read_of(&data[..512]));
    let (bhs, _) = a.one();
    let pdu: &DataIn = bhs.view();
    assert_eq!((pdu.exp_cmd_sn.get(), pdu.max_cmd_sn.get()), (104, 105));
    assert_eq!(pdu.stat_sn.get(), 51, "StatSN is each connection's own");
}

#[test]
fn a_command_that_never_comes_ends_the_session_in_the_end() {
    let (mut a, _b) = pair();
    a.cmd_sn = 101;
    a.command(1, R, 512, &READ, &[]);
    let due = a.session.deadline().unwrap();
    a.session.tick(due);
    assert_eq!(a.session.cause(), Some("a command of the session is missing"));
    assert!(!a.session.is_orderly(), "the other connection goes as well");
}

#[test]
fn an_abort_of_a_command_that_is_still_to_come_counts_it_as_here() {
    let (mut a, mut b) = pair();
    b.cmd_sn = 101;
    b.command(1, R, 512, &READ, &[]);
    assert_eq!(b.session.event(), None);
    // 100 was sent on A and lost; its abort comes on A and names it.
    a.cmd_sn = 101;
    a.task(Function::AbortTask, 2, 77);
    let Some(Event::Task(request)) = a.session.event() else {
        panic!()
    };
    a.session.abort_task(&request);
    assert_eq!(a.one().0.view::<TaskResponse>().response, TaskOutcome::Complete as u8);
    b.session.turn(&mut b.world);
    b.slot();
    // What is neither here nor to come does not exist.
    a.task(Function::AbortTask, 3, 77);
    let Some(Event::Task(request)) = a.session.event() else {
        panic!()
    };
    a.session.abort_task(&request);
    assert_eq!(a.one().0.view::<TaskResponse>().response, TaskOutcome::NoTask as u8);
}

#[test]
fn what_is_aborted_before_its_turn_leaves_its_place() {
    let (mut a, mut b) = pair();
    b.cmd_sn = 101;
    b.command(1, R, 512, &READ, &[]);
    let (over, ended) = channel::bounded(1);
    b.session.abort_all(Aborted::Host, None, over);
    assert!(is_closed(&ended));
    a.command(2, R, 512, &READ, &[]);
    a.slot();
    b.session.turn(&mut b.world);
    assert_eq!(b.session.event(), None);
    b.cmd_sn = 102;
    b.command(3, R, 512, &READ, &[]);
    b.slot();
}

#[test]
fn a_logout_waits_for_the_commands_it_ends() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, R, 512, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    let logout = LogoutRequest {
        opcode: Opcode::LogoutRequest as u8 | IMMEDIATE,
        flags: FINAL,
        itt: 8.into(),
        cid: 9.into(),
        cmd_sn: host.cmd_sn.into(),
        ..Default::default()
    };
    host.send(logout.as_bytes(), &[]);
    assert!(host.recv().is_empty() && !host.session.is_closed());
    host.session.complete(slot, read_of(&pattern(512)));
    assert_eq!(host.one().0.opcode(), Some(Opcode::LogoutResponse));
    assert!(host.session.is_closed() && host.session.is_orderly());
}

#[test]
fn logout_is_answered_and_ends_it() {
    let mut host = Host::new();
    host.login(&[]);
    let logout = LogoutRequest {
        opcode: Opcode::LogoutRequest as u8 | IMMEDIATE,
        flags: FINAL,
        itt: 8.into(),
        cid: 9.into(),
        cmd_sn: host.cmd_sn.into(),
        ..Default::default()
    };
    host.send(logout.as_bytes(), &[]);
    assert!(!host.session.is_closed() && !host.session.listens());
    let (bhs, _) = host.one();
    assert_eq!(
        (bhs.opcode(), bhs.view::<LogoutResponse>().response),
        (Some(Opcode::LogoutResponse), 0)
    );
    assert!(host.session.is_closed());
}

#[test]
fn residuals_are_exact_both_ways() {
    let flags_and_residual = |flags: u8, expected: u32, outcome: Outcome| {
        let mut host = Host::new();
        host.login(&["ImmediateData=Yes", "InitialR2T=No"]);
        let data = if flags & 0x20 != 0 {
            pattern(expected as usize)
        } else {
            Vec::new()
        };
        host.command(
            1,
            flags,
            expected,
            if flags & 0x20 != 0 { &WRITE } else { &READ },
            &data,
        );
        let slot = host.slot();
        host.session.take(slot).unwrap();
        host.session.complete(slot, outcome);
        let (bhs, data) = host.one();
        match bhs.opcode() {
            Some(Opcode::DataIn) => {
                let pdu: &DataIn = bhs.view();
                (pdu.flags & 6, pdu.residual.get(), data.len())
            }
            _ => {
                let pdu: &ScsiResponse = bhs.view();
                (pdu.flags & 6, pdu.residual.get(), 0)
            }
        }
    };
    assert_eq!(flags_and_residual(R, 512, read_of(&[1; 512])), (0, 0, 512));
    assert_eq!(flags_and_residual(R, 200, read_of(&[1; 512])), (OVERFLOW, 312, 200));
    assert_eq!(flags_and_residual(R, 1000, read_of(&[1; 512])), (UNDERFLOW, 488, 512));
    assert_eq!(flags_and_residual(FINAL, 0, read_of(&[1; 512])), (OVERFLOW, 512, 0));
    assert_eq!(flags_and_residual(W, 1024, written(512)), (UNDERFLOW, 512, 0));
    assert_eq!(flags_and_residual(W, 512, written(1024)), (OVERFLOW, 512, 0));
    assert_eq!(
        flags_and_residual(R, 512, Outcome::failed(Sense::OUT_OF_RANGE)),
        (UNDERFLOW, 512, 0)
    );
    assert_eq!(flags_and_residual(FINAL, 0, Outcome::good()), (0, 0, 0));
}

#[test]
fn a_host_that_does_not_read_is_not_listened_to() {
    let mut host = Host::new();
    host.login(&[]);
    let nop = NopOut {
        opcode: Opcode::NopOut as u8 | IMMEDIATE,
        flags: FINAL,
        itt: 5.into(),
        ttt: NO_TAG.into(),
        cmd_sn: host.cmd_sn.into(),
        ..Default::default()
    };
    let flood: Vec<u8> = (0..1000).flat_map(|_| host.pdu(nop.as_bytes(), &[0; 64])).collect();
    host.feed(&flood);
    assert!(!host.session.listens());
    let waiting = host.inbox.len();
    assert!(waiting > 900 * 112, "the rest stays with whoever drives the session");
    assert_eq!(host.recv().len(), 32);
    host.feed(&[]);
    let used = host.session.input(&host.inbox.clone(), host.now, &mut host.world);
    assert!(used > 0 && host.session.listens() == (used == host.inbox.len()));
}

#[test]
fn a_command_longer_than_we_take_fails_without_memory() {
    let mut host = Host::new();
    host.login(&[]);
    host.command(1, W, MAX_TRANSFER + 512, &WRITE, &[]);
    let (bhs, sense) = host.one();
    assert_eq!(bhs.view::<ScsiResponse>().status, 2);
    assert_eq!(Sense::parse(&sense[2..]), Some(Sense::INFORMATION_UNIT));
}
