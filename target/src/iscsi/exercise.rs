//! Checks that hold for any bytes: what the fuzz targets run, and the ordinary tests over the corpus.
use super::{
    auth::{Credential, Demand, Secret},
    chap,
    login::{Agreed, Directory, Entry, Hello, Login, Refusal, Then, Welcome},
    options::Auth,
    sequencer::Sequencer,
    session::{Event, Patience, Session},
    slot::Aborted,
};
use crate::scsi::{Moved, Outcome};
use reactor::{
    Buf, Time, channel,
    pool::{Base, Line, PoolConfig},
};
use spec::{
    iscsi::{BHS_LEN, Bhs, LoginStatus, bhs::*, chap::Algorithm, pad, text},
    scsi::Status,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use zerocopy::{FromBytes, IntoBytes};

/// A world with one target, `iqn.t`, for everybody who does what is demanded.
#[derive(Default)]
pub struct Anyone {
    /// What is demanded.
    pub demand: Demand,
    /// Times it was asked for random bytes.
    pub drawn: u8,
    /// The session may have several connections.
    pub order: Option<Arc<Sequencer>>,
}

/// Two users: one proves itself, the other one wants proof, too.
pub fn credentials() -> Vec<Credential> {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec().into()).expect("of good length");
    let one = |user: &str, text, mutual: Option<(&str, &str)>| Credential {
        user: user.into(),
        secret: secret(text),
        mutual: mutual.map(|(name, text)| (name.into(), secret(text))),
        files: (None, None),
    };
    vec![
        one("one", "open sesame, one", None),
        one("both", "open sesame, both", Some(("quarry", "this is the quarry"))),
    ]
}

/// What a login demands that has those two in group 1.
pub fn demand(require: bool, mutual: bool) -> Demand {
    let auth = Auth {
        require_chap: require,
        mutual_chap: mutual,
        chap_group: 1,
        ..Auth::default()
    };
    Demand::new(&auth, &Algorithm::ALL)
}

const DEPTH: u16 = 8;

impl Directory for Anyone {
    fn greet(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        match hello.target.as_deref() {
            None | Some("iqn.t") => Ok(Welcome {
                portal_group: 1,
                depth: DEPTH,
                demand: self.demand.clone(),
                max_connections: 2,
                max_outstanding_r2t: 4,
                first_burst: 8192,
                immediate_data: true,
                ..Welcome::default()
            }),
            Some(_) => Err(Refusal::Status(LoginStatus::NotFound)),
        }
    }
    fn enter(&mut self, _: &Hello, _: &Agreed) -> Result<Entry, Refusal> {
        Ok(Entry {
            tsih: 7,
            order: self.order.clone().map(|order| (order, 1)),
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
    fn targets(&mut self, _: &str, _: Option<&str>) -> Vec<(String, Vec<(SocketAddr, u32)>)> {
        vec![("iqn.t".into(), vec![(SocketAddr::from(([127, 0, 0, 1], 3260)), 1)])]
    }
}

/// A line of `depth` credits from a pool of its own.
pub fn credit(depth: u16) -> Line {
    let n = u32::from(depth);
    let pool = Base::credits("exercise", depth.into())
        .child("exercise", PoolConfig::fixed(n))
        .expect("a fresh pool");
    Line::open(pool.rights(), n, n).expect("all of it")
}

/// Login requests one after another: a header's first bytes from the input, and text. In it `CHAP_R=!` stands for the
/// right response to the last challenge, `CHAP_C=!` for that challenge. Answers stay within bounds, nobody gets in without
/// a name, and who must prove it not without the right response.
pub fn fuzz_iscsi_login(data: &[u8]) {
    let [how, rest @ ..] = data else { return };
    let mut rest = rest;
    let mut world = Anyone {
        demand: match how & 3 {
            0 => Demand::default(),
            1 => demand(false, false),
            2 => demand(true, false),
            _ => demand(true, true),
        },
        ..Anyone::default()
    };
    let mut login = Login::default();
    let mut puzzle = Puzzle::default();
    while let [flags, version, len, more @ ..] = rest {
        let said = &more[..usize::from(*len).min(more.len())];
        rest = &more[said.len()..];
        let said = puzzle.fill_in(said);
        let request = LoginRequest {
            opcode: 0x43,
            flags: *flags,
            version_min: u8::from(*version > 250),
            data_segment_len: len24(said.len()),
            ..Default::default()
        };
        let Ok(bhs) = Bhs::ref_from_bytes(request.as_bytes()) else {
            return;
        };
        let Some(step) = login.step(bhs, &said, &mut world) else {
            return;
        };
        assert!(step.text.len() <= super::login::LOGIN_SEGMENT);
        puzzle.note(&step.text);
        match step.then {
            Then::Continue => (),
            Then::Close => return,
            Then::Done => {
                let hello = login.hello().expect("logged in with a name");
                assert!(!hello.initiator.is_empty() && login.tsih() == 7);
                assert!((512..=0xff_ffff).contains(&login.agreed.their_segment));
                assert!(login.agreed.first_burst <= login.agreed.max_burst);
                assert!(
                    world.demand.none || login.user().is_some(),
                    "nobody gets in without proof"
                );
                assert!(login.user().is_none() || puzzle.solved, "nor with a wrong one");
                return;
            }
        }
    }
}

/// What a host remembers of CHAP.
#[derive(Default)]
struct Puzzle {
    algorithm: Option<Algorithm>,
    identifier: u8,
    challenge: Vec<u8>,
    solved: bool,
}

impl Puzzle {
    fn note(&mut self, answer: &[u8]) {
        for (key, value) in text::pairs(answer).into_iter().flatten() {
            match key {
                "CHAP_A" => self.algorithm = Algorithm::choose(value, &Algorithm::ALL),
                "CHAP_I" => self.identifier = value.parse().expect("one byte"),
                "CHAP_C" => self.challenge = text::binary(value, 1024).expect("binary"),
                _ => (),
            }
        }
    }

    fn fill_in(&mut self, said: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let user = |pair: &&[u8]| pair.strip_prefix(b"CHAP_N=").map(<[u8]>::to_vec);
        let user = said.split(|b| *b == 0).find_map(|pair| user(&pair)).unwrap_or_default();
        for pair in said.split_inclusive(|b| *b == 0) {
            match (pair, self.algorithm) {
                (b"CHAP_R=!\0", Some(algorithm)) => {
                    let known = credentials().into_iter().find(|one| one.user.as_bytes() == user);
                    let Some(known) = known else { continue };
                    let right = chap::response(algorithm, self.identifier, &known.secret, &self.challenge);
                    text::put_binary(&mut out, "CHAP_R", &right);
                    self.solved = true;
                }
                (b"CHAP_C=!\0", Some(_)) => text::put_binary(&mut out, "CHAP_C", &self.challenge),
                _ => out.extend_from_slice(pair),
            }
        }
        out
    }
}

/// A whole connection: after an optional proper login, records of the input become PDUs (or raw bytes). Commands are
/// answered, output is drained or left, time passes. The window never exceeds the slots, and every slot comes back.
pub fn fuzz_iscsi_session(data: &[u8]) {
    let patience = Patience {
        ping_after: Duration::from_secs(1),
        answer_within: Duration::from_secs(2),
    };
    let mut session = Session::new(Time(0), patience);
    let mut drive = Drive {
        inbox: Vec::new(),
        now: Time(0),
        held: Vec::new(),
        cmd_sn: 1,
        last: None,
        world: Anyone::default(),
    };
    let [how, rest @ ..] = data else { return };
    if how & 4 != 0 {
        drive.world.order = Some(Arc::new(Sequencer::new(drive.cmd_sn, DEPTH.into())));
    }
    if how & 1 != 0 {
        drive.log_in(&mut session, how & 2 != 0);
    }
    let mut rest = rest;
    while let [kind, len, more @ ..] = rest {
        if session.is_closed() {
            break;
        }
        let take = usize::from(*len).min(more.len());
        let (record, after) = more.split_at(take);
        rest = after;
        drive.step(&mut session, *kind, record);
    }
    // Whatever was held is completed, and everything is sent: the slots are all free again or the session is over.
    for slot in std::mem::take(&mut drive.held) {
        session.complete(slot, Outcome::good());
    }
    let mut wire = Vec::new();
    session.output(&mut wire);
    session.close(None);
    assert!(session.is_closed() && !session.has_output() && !session.listens());
}

struct Drive {
    inbox: Vec<u8>,
    now: Time,
    held: Vec<u16>,
    cmd_sn: u32,
    last: Option<R2t>,
    world: Anyone,
}

impl Drive {
    fn log_in(&mut self, session: &mut Session, digests: bool) {
        let text: &[u8] = match digests {
            false => b"InitiatorName=iqn.i\0TargetName=iqn.t\0InitialR2T=No\0MaxOutstandingR2T=3\0MaxBurstLength=512\0",
            true => b"InitiatorName=iqn.i\0TargetName=iqn.t\0DataDigest=CRC32C\0",
        };
        let request = LoginRequest {
            opcode: 0x43,
            flags: 0x87,
            cmd_sn: self.cmd_sn.into(),
            data_segment_len: len24(text.len()),
            ..Default::default()
        };
        let mut bytes = [request.as_bytes(), text].concat();
        bytes.resize(bytes.len() + pad(text.len()), 0);
        self.feed(session, &bytes);
        assert_eq!(session.event(), Some(Event::LoggedIn));
        session.lend(credit(DEPTH));
        let mut wire = Vec::new();
        session.output(&mut wire);
    }

    fn feed(&mut self, session: &mut Session, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.inbox.is_empty()
            && let Some(place) = session.payload()
        {
            let n = place.len().min(bytes.len());
            place.write_at(0, &bytes[..n]);
            session.filled(n);
            bytes = &bytes[n..];
        }
        self.inbox.extend_from_slice(bytes);
        let used = session.input(&self.inbox, self.now, &mut self.world);
        self.inbox.drain(..used);
        assert!(
            !session.listens() || self.inbox.len() < 2048,
            "what is left is less than a header with everything"
        );
    }

    fn step(&mut self, session: &mut Session, kind: u8, record: &[u8]) {
        match kind & 7 {
            // Raw bytes.
            0 => self.feed(session, record),
            // A PDU with plausible numbers: header from the record, then the data it claims, as far as there is any.
            1..=4 => {
                let mut header = [0; BHS_LEN];
                let n = record.len().min(BHS_LEN);
                header[..n].copy_from_slice(&record[..n]);
                let data = &record[n..];
                if kind & 8 != 0 {
                    header[5..8].copy_from_slice(&len24(data.len()));
                    header[4] = 0;
                }
                if kind & 16 != 0 {
                    header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
                }
                if let Some(r2t) = self.last.filter(|_| kind & 32 != 0) {
                    header[0] = 5;
                    header[16..20].copy_from_slice(r2t.itt.as_bytes());
                    header[20..24].copy_from_slice(r2t.ttt.as_bytes());
                    header[40..44].copy_from_slice(r2t.buffer_offset.as_bytes());
                }
                let mut bytes = [&header, data].concat();
                bytes.resize(bytes.len() + pad(data.len()), 0);
                self.feed(session, &bytes);
            }
            // What was held ends.
            5 => {
                for slot in std::mem::take(&mut self.held) {
                    let outcome = Outcome {
                        status: if kind & 8 != 0 { Status::Good } else { Status::Busy },
                        data: Some(Buf::zeroed(usize::from(kind) * 64)),
                        moved: Moved::In,
                        wanted: record.len() as u64,
                        ..Outcome::good()
                    };
                    session.complete(slot, outcome);
                }
            }
            6 => {
                self.now = Time(self.now.0 + (u64::from(kind) << 26));
                session.tick(self.now);
            }
            // The session's other connection has a command, the next one or one that is early; or a TMF says it will not come.
            _ if kind & 8 != 0 => {
                if let Some(order) = &self.world.order {
                    match kind & 16 {
                        0 => _ = order.arrive(2, order.expected().wrapping_add(u32::from(kind >> 6))),
                        _ => order.consider(order.expected()),
                    }
                    session.turn(&mut self.world);
                }
            }
            _ => self.drain(session),
        }
        while let Some(event) = session.event() {
            match event {
                Event::LoggedIn => session.lend(credit(DEPTH)),
                Event::Command(slot) => {
                    assert!(slot < session.depth());
                    if session.take(slot).is_some() {
                        assert!(!self.held.contains(&slot), "a slot has one command");
                        self.held.push(slot);
                    }
                }
                Event::Task(request) => match request.function() {
                    Some(Function::AbortTask) => session.abort_task(&request),
                    Some(Function::LunReset) => {
                        session.abort_all(Aborted::Other, spec::scsi::Lun::from_wire(request.lun), self.over());
                        session.task_done(request.itt, TaskOutcome::Complete);
                    }
                    Some(Function::ColdReset) => {
                        session.abort_all(Aborted::Host, None, self.over());
                        session.task_done(request.itt, TaskOutcome::Complete);
                        session.finish();
                    }
                    _ => session.task_done(request.itt, TaskOutcome::NotSupported),
                },
                Event::Logout(request) => match request.flags & 0x7f {
                    0 => session.log_out(request.itt, true),
                    _ => session.no_connection(request.itt),
                },
            }
        }
    }

    /// Nobody waits for these.
    fn over(&self) -> channel::Sender<()> {
        channel::bounded(1).0
    }

    /// Reads what the session has to say, and checks that it is made of whole PDUs with a sane window.
    fn drain(&mut self, session: &mut Session) {
        let mut wire = Vec::new();
        session.output(&mut wire);
        let digest = if session.agreed().data_digest { 4 } else { 0 };
        let mut at = 0;
        while at < wire.len() {
            let (bhs, _) = Bhs::split(&wire[at..]).expect("whole headers");
            let len = bhs.data_len();
            let login = bhs.opcode() == Some(spec::iscsi::Opcode::LoginResponse);
            at += BHS_LEN + len + pad(len) + if len > 0 && !login { digest } else { 0 };
            let (exp, max) = (
                bhs.exp_stat_sn(),
                u32::from_be_bytes([bhs.rest[12], bhs.rest[13], bhs.rest[14], bhs.rest[15]]),
            );
            if !login {
                assert!(
                    max.wrapping_sub(exp).wrapping_add(1) <= DEPTH.into(),
                    "no more credit than slots"
                );
            }
            if bhs.opcode() == Some(spec::iscsi::Opcode::R2t) {
                self.last = Some(*bhs.view());
            }
            self.cmd_sn = exp;
        }
        assert_eq!(at, wire.len(), "whole PDUs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replay(target: &str, check: fn(&[u8])) {
        let folder = format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
            let path = entry.unwrap().path();
            check(&std::fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 3, "{folder} has too few inputs to be the corpus");
    }

    #[test]
    fn the_corpora_replay() {
        replay("iscsi_login", fuzz_iscsi_login);
        replay("iscsi_session", fuzz_iscsi_session);
        replay("iscsi_bhs", spec::iscsi::fuzz_iscsi_bhs);
        replay("iscsi_text", spec::iscsi::fuzz_iscsi_text);
        replay("scsi_cdb", spec::scsi::fuzz_scsi_cdb);
        replay("scsi_reservation", spec::scsi::fuzz_scsi_reservation);
        replay("scsi_ports", spec::scsi::fuzz_scsi_ports);
        replay("scsi_mode_select", spec::scsi::mode::fuzz_mode_select);
        replay("scsi_log_select", spec::scsi::log::fuzz_log_select);
        replay("scsi_copy", spec::scsi::copy::fuzz_scsi_copy);
    }

    /// Records that are PDUs more often than not.
    fn records() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![
            Just(0x01u8),
            Just(0x05),
            Just(0x41),
            Just(0x42),
            Just(0x40),
            Just(0x04),
            any::<u8>()
        ];
        let pdu = (
            any::<u8>(),
            opcode,
            any::<u8>(),
            proptest::collection::vec(any::<u8>(), 46..120),
        )
            .prop_map(|(kind, opcode, flags, mut rest)| {
                // Small expected lengths and few tags make commands meet.
                rest[14..18].copy_from_slice(&[0, 0, 0, flags & 3]);
                rest[18..22].copy_from_slice(&[0, 0, flags, 0]);
                let mut record = vec![kind, rest.len() as u8 + 2, opcode, flags];
                record.extend_from_slice(&rest);
                record
            });
        (any::<u8>(), proptest::collection::vec(pdu, 0..60)).prop_map(|(how, pdus)| {
            let mut all = vec![how];
            pdus.iter().for_each(|pdu| all.extend_from_slice(pdu));
            all
        })
    }

    /// Texts of a proper login with CHAP, in any order, whole or with something in their place.
    fn logins() -> impl Strategy<Value = Vec<u8>> {
        let piece = proptest::sample::select(vec![
            "InitiatorName=iqn.i\0TargetName=iqn.t\0",
            "InitiatorName=iqn.i\0SessionType=Discovery\0",
            "AuthMethod=CHAP,None\0",
            "AuthMethod=CHAP\0",
            "AuthMethod=None\0",
            "CHAP_A=7,5\0",
            "CHAP_A=9\0",
            "CHAP_N=both\0CHAP_R=!\0",
            "CHAP_N=one\0CHAP_R=!\0",
            "CHAP_N=one\0CHAP_R=0x00\0",
            "CHAP_I=1\0CHAP_C=0x0102030405060708\0",
            "CHAP_I=1\0CHAP_C=!\0",
            "HeaderDigest=None\0",
            "",
        ]);
        let flags = proptest::sample::select(vec![0x00u8, 0x81, 0x83, 0x87, 0x04, 0x40]);
        let text = (flags, proptest::collection::vec(piece, 0..4)).prop_map(|(flags, pieces)| {
            let text = pieces.concat();
            let mut record = vec![flags, 0, text.len() as u8];
            record.extend_from_slice(text.as_bytes());
            record
        });
        (0..4u8, proptest::collection::vec(text, 1..6)).prop_map(|(how, texts)| [vec![how], texts.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_session_panics_or_loses_count(data in records()) {
            fuzz_iscsi_session(&data);
        }

        #[test]
        fn no_login_panics(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            fuzz_iscsi_login(&data);
        }

        #[test]
        fn no_order_of_chap_keys_opens_the_door(data in logins()) {
            fuzz_iscsi_login(&data);
        }
    }
}
