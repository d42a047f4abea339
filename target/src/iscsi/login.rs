//! The login phase: stages, who is who, and every key's negotiation (RFC 7143 sections 6 and 13).
//!
//! Bytes in, bytes out: the look-ups that need the rest of the world are asked of a [`Directory`]. It is asked in two
//! steps: who comes is greeted when it has said its name, which changes nothing, and enters when it has proved that name
//! and everything is agreed. Only then does a session begin, or take the place of an older one.
use super::{
    auth::{Credential, Demand},
    chap::Chap,
    options::Negotiated,
    sequencer::Sequencer,
};
use spec::iscsi::{
    Bhs, LoginStatus, Opcode, Stage,
    bhs::{LoginRequest, LoginResponse, len24},
    chap::Said,
    login,
    text::{self, Gather, Key, Rule, Use},
};
use std::{net::SocketAddr, sync::Arc};

/// Most bytes of keys in one login step, over all its PDUs.
const TEXT_LIMIT: usize = 16 << 10;
/// Most PDUs a login may take.
const STEPS: u32 = 32;
/// The longest data segment before anything is negotiated, either way (13.12).
pub const LOGIN_SEGMENT: usize = 8192;
/// The longest data segment we take in full feature phase.
pub const OUR_SEGMENT: usize = 256 << 10;
/// The longest burst we ask for or send.
const OUR_BURST: u32 = 1 << 20;

/// What is known of a host when it first speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// InitiatorName.
    pub initiator: String,
    /// TargetName; `None` for discovery.
    pub target: Option<String>,
    /// Initiator session identifier.
    pub isid: [u8; 6],
    /// Session to join; 0 makes a new one.
    pub tsih: u16,
    /// Connection number.
    pub cid: u16,
    /// Number of the first command.
    pub cmd_sn: u32,
}

/// What a connection enters.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The session's handle, not 0.
    pub tsih: u16,
    /// If it may have several connections: who counts its commands, and this connection's number there.
    pub order: Option<(Arc<Sequencer>, u64)>,
    /// If it was there before: what its first connection agreed on.
    pub agreed: Option<Agreed>,
}

/// What the rest of the world says to a [`Hello`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// Target portal group tag.
    pub portal_group: u16,
    /// TargetAlias, if there is one.
    pub alias: String,
    /// Commands at once.
    pub depth: u16,
    /// Digests are wanted: header, data.
    pub digests: (bool, bool),
    /// What it must prove.
    pub demand: Demand,
    /// Most connections to a session.
    pub max_connections: u16,
    /// Most R2Ts at once for a command.
    pub max_outstanding_r2t: u16,
    /// Our side of the negotiation.
    pub first_burst: u32,
    /// Data may come with the command.
    pub immediate_data: bool,
    /// Seconds.
    pub time2wait: u32,
    /// Seconds.
    pub time2retain: u32,
}

/// Why a login goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No.
    Status(LoginStatus),
    /// Somewhere else: the address of the other portal.
    Moved {
        /// `TargetAddress`.
        to: String,
        /// For good, so that the host may remember it.
        permanent: bool,
    },
}

/// The rest of the world, as a session sees it.
pub trait Directory {
    /// A host says who it is: may that one come, and what must it prove? Changes nothing, for it may be somebody else.
    fn greet(&mut self, hello: &Hello) -> Result<Welcome, Refusal>;
    /// It is who it says, and everything is agreed: its session begins, or has one connection more.
    fn enter(&mut self, hello: &Hello, agreed: &Agreed) -> Result<Entry, Refusal>;
    /// What is known of a user of an authentication group.
    fn credential(&mut self, group: u32, user: &str) -> Option<Credential>;
    /// Bytes nobody can guess. False: there are none.
    fn random(&mut self, bytes: &mut [u8]) -> bool;
    /// A host asks which targets there are (`SendTargets`): names with addresses and portal group tags.
    fn targets(&mut self, initiator: &str, only: Option<&str>) -> Vec<(String, Vec<(SocketAddr, u32)>)>;
}

/// What both sides agreed on. Defaults are the RFC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// CRC-32C after each header.
    pub header_digest: bool,
    /// CRC-32C after each data segment.
    pub data_digest: bool,
    /// Longest data segment the host takes.
    pub their_segment: u32,
    /// Longest burst of data.
    pub max_burst: u32,
    /// Most unsolicited data.
    pub first_burst: u32,
    /// The host waits for an R2T before it sends separate Data-Out PDUs.
    pub initial_r2t: bool,
    /// Data may come in the command's PDU.
    pub immediate_data: bool,
    /// Connections the session may have.
    pub max_connections: u16,
    /// R2Ts a command may have outstanding.
    pub max_outstanding_r2t: u16,
    /// Seconds the host waits before it comes back.
    pub time2wait: u16,
    /// Seconds after that for which its tasks could be taken up again; at level 0 only the session's name is.
    pub time2retain: u16,
}

impl Agreed {
    /// The same for people.
    pub(super) fn told(&self, queue_depth: u16) -> Negotiated {
        Negotiated {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            initial_r2t: self.initial_r2t,
            immediate_data: self.immediate_data,
            max_burst_length: self.max_burst,
            first_burst_length: self.first_burst,
            max_send_segment: self.their_segment,
            max_connections: self.max_connections,
            max_outstanding_r2t: self.max_outstanding_r2t,
            queue_depth,
        }
    }

    /// The same for one more connection of a session, whose first one agrees on all but these (13: leading only).
    pub fn within(self, session: &Agreed) -> Agreed {
        Agreed {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            their_segment: self.their_segment,
            ..*session
        }
    }
}

impl Default for Agreed {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            their_segment: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            initial_r2t: true,
            immediate_data: true,
            max_connections: 1,
            max_outstanding_r2t: 1,
            time2wait: 2,
            time2retain: 20,
        }
    }
}

/// A login under way.
pub struct Login {
    gather: Gather,
    stage: Option<Stage>,
    hello: Option<Hello>,
    welcome: Welcome,
    method: Method,
    tsih: u16,
    order: Option<(Arc<Sequencer>, u64)>,
    /// What is agreed so far.
    pub agreed: Agreed,
    /// The keys that have come, by their place in [`Key::ALL`]: none comes twice (6.3).
    seen: u64,
    declared: bool,
    steps: u32,
}

/// How the host proves who it is.
enum Method {
    /// Not said yet.
    Open,
    /// Not at all.
    None,
    /// By a secret.
    Chap(Chap),
}

/// What a login request is answered with.
#[derive(Debug)]
pub struct Step {
    /// Header and text of the Login Response; sequence numbers are still to be filled in.
    pub response: LoginResponse,
    /// Its data segment.
    pub text: Vec<u8>,
    /// What happens after it is sent.
    pub then: Then,
}

/// What follows a login response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next login request.
    Continue,
    /// Full feature phase.
    Done,
    /// The end.
    Close,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            gather: Gather::new(TEXT_LIMIT),
            stage: None,
            hello: None,
            welcome: Welcome::default(),
            method: Method::Open,
            tsih: 0,
            order: None,
            agreed: Agreed::default(),
            seen: 0,
            declared: false,
            steps: 0,
        }
    }
}

impl Login {
    /// Who is logging in, once known.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// What was said to it.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Its session's handle, once it has entered.
    pub fn tsih(&self) -> u16 {
        self.tsih
    }

    /// Who counts its session's commands, if there may be other connections.
    pub fn sequencer(&self) -> Option<(Arc<Sequencer>, u64)> {
        self.order.clone()
    }

    /// The name it has proved, if it had to prove one.
    pub fn user(&self) -> Option<&str> {
        match &self.method {
            Method::Chap(chap) => chap.user(),
            _ => None,
        }
    }

    /// One request. `None`: this is no login request, or one that deserves no answer.
    pub fn step(&mut self, bhs: &Bhs, data: &[u8], directory: &mut dyn Directory) -> Option<Step> {
        if bhs.opcode() != Some(Opcode::LoginRequest) {
            return None;
        }
        let request: &LoginRequest = bhs.view();
        let mut response = LoginResponse {
            opcode: Opcode::LoginResponse as u8,
            isid: request.isid,
            tsih: request.tsih,
            itt: request.itt,
            ..Default::default()
        };
        match self.answer(request, data, directory) {
            Ok((text, next)) => {
                let current = request.current().unwrap_or(Stage::Security);
                response.flags = login::flags(current, next);
                let done = next == Some(Stage::FullFeature);
                if done {
                    response.tsih = self.tsih.into();
                }
                response.data_segment_len = len24(text.len());
                let then = if done { Then::Done } else { Then::Continue };
                Some(Step { response, text, then })
            }
            Err(refusal) => {
                let mut text = Vec::new();
                let status = match refusal {
                    Refusal::Status(status) => status,
                    Refusal::Moved { to, permanent } => {
                        text::put(&mut text, Key::TargetAddress.name(), to);
                        match permanent {
                            true => LoginStatus::MovedPermanently,
                            false => LoginStatus::MovedTemporarily,
                        }
                    }
                };
                status.set(&mut response);
                response.flags = request.flags & 0x0c;
                response.data_segment_len = len24(text.len());
                Some(Step {
                    response,
                    text,
                    then: Then::Close,
                })
            }
        }
    }

    fn answer(
        &mut self,
        request: &LoginRequest,
        data: &[u8],
        directory: &mut dyn Directory,
    ) -> Result<(Vec<u8>, Option<Stage>), Refusal> {
        use Refusal::Status;
        self.steps += 1;
        if request.version_min > 0 {
            return Err(Status(LoginStatus::UnsupportedVersion));
        }
        let refuse = Status(LoginStatus::InitiatorError);
        let (Some(current), next) = (request.current(), request.next()) else {
            return Err(refuse);
        };
        let forward = !request.transit() || next.is_some_and(|next| next > current);
        // Stages only go forward; text that continues cannot ask to go on (11.12.2).
        if self.steps > STEPS
            || current == Stage::FullFeature
            || self.stage.is_some_and(|stage| stage != current)
            || !forward
            || (request.transit() && request.continues())
        {
            return Err(refuse);
        }
        if let Some(hello) = &self.hello
            && (hello.isid, hello.tsih, hello.cid) != (request.isid, request.tsih.get(), request.cid.get())
        {
            return Err(refuse); // one login is of one connection
        }
        self.stage = Some(current);
        self.gather.push(data).map_err(|_| refuse.clone())?;
        if request.continues() {
            return Ok((Vec::new(), None));
        }
        let said = self.gather.take();
        let pairs = text::pairs(&said).map_err(|_| refuse.clone())?;
        let mut reply = Vec::new();
        if self.hello.is_none() {
            self.meet(request, pairs.clone(), directory, &mut reply)?;
        }
        let mut chap = Said::default();
        for (name, value) in pairs {
            match Key::named(name) {
                Some(key) => self.hear(key, value, current, &mut reply)?,
                None if chap.note(name, value).map_err(|_| refuse.clone())? => (),
                None => text::put(&mut reply, name, "NotUnderstood"),
            }
        }
        match &mut self.method {
            Method::Chap(method) if current == Stage::Security => method
                .step(&chap, &self.welcome.demand, directory, &mut reply)
                .map_err(Status)?,
            _ if !chap.is_empty() => return Err(refuse),
            _ => (),
        }
        if current == Stage::Operational && !self.declared {
            self.declared = true;
            text::put(&mut reply, Key::MaxRecvDataSegmentLength.name(), OUR_SEGMENT);
        }
        if reply.len() > LOGIN_SEGMENT {
            return Err(refuse);
        }
        let next = if request.transit() && self.may_leave(current)? {
            next
        } else {
            None
        };
        if let Some(next) = next {
            self.stage = Some(next);
        }
        if next == Some(Stage::FullFeature) {
            self.agreed.first_burst = self.agreed.first_burst.min(self.agreed.max_burst);
            let hello = self.hello.as_ref().ok_or(refuse)?;
            let entry = directory.enter(hello, &self.agreed)?;
            (self.tsih, self.order) = (entry.tsih, entry.order);
            if let Some(session) = entry.agreed {
                self.agreed = self.agreed.within(&session);
            }
        }
        Ok((reply, next))
    }

    /// May the host go on from this stage? It has to wait while it proves who it is, and is refused when it would rather not.
    fn may_leave(&self, stage: Stage) -> Result<bool, Refusal> {
        match &self.method {
            Method::Chap(chap) => Ok(chap.user().is_some() || stage != Stage::Security),
            Method::None => Ok(true),
            Method::Open if self.welcome.demand.none => Ok(true),
            Method::Open => Err(Refusal::Status(LoginStatus::AuthenticationFailure)),
        }
    }

    /// The first request says who is who (6.3.1).
    fn meet<'a>(
        &mut self,
        request: &LoginRequest,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        directory: &mut dyn Directory,
        reply: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let status = |status| Err(Refusal::Status(status));
        let mut hello = Hello {
            isid: request.isid,
            tsih: request.tsih.get(),
            cid: request.cid.get(),
            cmd_sn: request.cmd_sn.get(),
            ..Default::default()
        };
        let mut discovery = false;
        for (name, value) in pairs {
            match Key::named(name) {
                Some(Key::InitiatorName) => hello.initiator = value.to_ascii_lowercase(),
                Some(Key::TargetName) => hello.target = Some(value.to_ascii_lowercase()),
                Some(Key::SessionType) => match value {
                    "Discovery" => discovery = true,
                    "Normal" => (),
                    _ => return status(LoginStatus::SessionTypeNotSupported),
                },
                _ => (),
            }
        }
        if hello.initiator.is_empty() || hello.initiator.len() > 223 {
            return status(LoginStatus::MissingParameter);
        }
        match discovery {
            true => hello.target = None,
            false if hello.target.is_none() => return status(LoginStatus::MissingParameter),
            false => (),
        }
        self.welcome = directory.greet(&hello)?;
        // Who begins with the second stage has skipped the first (6.3.2).
        if request.current() == Some(Stage::Operational) && !self.welcome.demand.none {
            return status(LoginStatus::AuthenticationFailure);
        }
        if hello.target.is_some() {
            text::put(reply, Key::TargetPortalGroupTag.name(), self.welcome.portal_group);
            if !self.welcome.alias.is_empty() {
                text::put(reply, Key::TargetAlias.name(), &self.welcome.alias);
            }
        }
        self.hello = Some(hello);
        Ok(())
    }

    /// A key has come: is this its time, and what is the answer?
    fn hear(&mut self, key: Key, value: &str, stage: Stage, reply: &mut Vec<u8>) -> Result<(), Refusal> {
        let mistake = Err(Refusal::Status(LoginStatus::InitiatorError));
        let bit = 1 << Key::ALL.iter().position(|one| *one == key).unwrap_or_default();
        let twice = self.seen & bit != 0;
        self.seen |= bit;
        let operational = stage == Stage::Operational;
        let in_time = match key.usage() {
            Use::Login => true,
            Use::Security => stage == Stage::Security,
            Use::Operational | Use::Leading | Use::Always => operational,
            Use::Full | Use::Target => false,
        };
        // Answers to what we have said; we negotiate nothing of our own accord (6.2: reserved words).
        let reserved = matches!(value, "NotUnderstood" | "Irrelevant" | "Reject");
        if twice || !in_time || reserved {
            return mistake;
        }
        let Some(hello) = &self.hello else { return mistake };
        let later = key.usage() == Use::Leading && hello.tsih != 0;
        if later || (hello.target.is_none() && key.irrelevant_in_discovery()) {
            text::put(reply, key.name(), "Irrelevant");
            return Ok(());
        }
        match self.negotiate(key, value)? {
            Answer::Nothing => (),
            Answer::Word(word) => text::put(reply, key.name(), word),
            Answer::Number(number) => text::put(reply, key.name(), number),
        }
        Ok(())
    }

    fn negotiate(&mut self, key: Key, value: &str) -> Result<Answer, Refusal> {
        let welcome = &self.welcome;
        let agreed = &mut self.agreed;
        Ok(match key.rule() {
            Rule::Declare => Answer::Nothing,
            // RFC 7143 13.25: "No" to the markers themselves, which older hosts offer; never NotUnderstood.
            Rule::Obsolete if key.name().ends_with("Int") => REJECT,
            Rule::Obsolete => Answer::Word("No"),
            Rule::List => {
                let wanted = match key {
                    Key::HeaderDigest => welcome.digests.0,
                    _ => welcome.digests.1,
                };
                let ours: &[&str] = match key {
                    Key::AuthMethod => welcome.demand.methods(),
                    Key::TaskReporting => &["RFC3720"],
                    _ if wanted && value.split(',').any(|offer| offer == "CRC32C") => &["CRC32C"],
                    _ => &["None", "CRC32C"],
                };
                let chosen = text::negotiate_list(value, ours);
                match (key, chosen) {
                    (Key::AuthMethod, None) => return Err(Refusal::Status(LoginStatus::AuthenticationFailure)),
                    (Key::AuthMethod, Some("CHAP")) => self.method = Method::Chap(Chap::new()),
                    (Key::AuthMethod, Some(_)) => self.method = Method::None,
                    (Key::HeaderDigest, _) => agreed.header_digest = chosen == Some("CRC32C"),
                    (Key::DataDigest, _) => agreed.data_digest = chosen == Some("CRC32C"),
                    _ => (),
                }
                chosen.map_or(REJECT, Answer::Word)
            }
            rule @ (Rule::And | Rule::Or) => {
                let Some(theirs) = text::boolean(value) else {
                    return Ok(REJECT);
                };
                let ours = match key {
                    Key::InitialR2T => false,
                    Key::ImmediateData => welcome.immediate_data,
                    _ => true, // data comes in order
                };
                let result = match rule {
                    Rule::And => theirs && ours,
                    _ => theirs || ours,
                };
                match key {
                    Key::InitialR2T => agreed.initial_r2t = result,
                    Key::ImmediateData => agreed.immediate_data = result,
                    _ => (),
                }
                Answer::Word(if result { "Yes" } else { "No" })
            }
            rule @ Rule::DeclareNumber(..) => match rule.number(value) {
                Some(n) => {
                    agreed.their_segment = n;
                    Answer::Nothing
                }
                None => REJECT,
            },
            rule @ (Rule::Min(..) | Rule::Max(..)) => {
                let Some(theirs) = rule.number(value) else {
                    return Ok(REJECT);
                };
                let ours = match key {
                    Key::MaxBurstLength => OUR_BURST,
                    Key::FirstBurstLength => welcome.first_burst.clamp(512, OUR_BURST),
                    Key::DefaultTime2Wait => welcome.time2wait,
                    Key::DefaultTime2Retain => welcome.time2retain,
                    Key::ErrorRecoveryLevel => 0,
                    Key::MaxConnections => welcome.max_connections.max(1).into(),
                    Key::MaxOutstandingR2T => welcome.max_outstanding_r2t.max(1).into(),
                    _ => 1, // the protocol level of RFC 7143
                };
                let result = match rule {
                    Rule::Min(..) => theirs.min(ours),
                    _ => theirs.max(ours),
                };
                let short = u16::try_from(result).unwrap_or(u16::MAX); // of the keys below, all fit
                match key {
                    Key::MaxBurstLength => agreed.max_burst = result,
                    Key::FirstBurstLength => agreed.first_burst = result,
                    Key::DefaultTime2Wait => agreed.time2wait = short,
                    Key::DefaultTime2Retain => agreed.time2retain = short,
                    Key::MaxConnections => agreed.max_connections = short,
                    Key::MaxOutstandingR2T => agreed.max_outstanding_r2t = short,
                    _ => (),
                }
                Answer::Number(result)
            }
        })
    }
}

/// What a key is answered with.
enum Answer {
    /// It was told, not asked.
    Nothing,
    Word(&'static str),
    Number(u32),
}

const REJECT: Answer = Answer::Word("Reject");
