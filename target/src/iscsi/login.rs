//! The login phase: stages, who is who, and every key's negotiation (RFC 7143 sections 6 and 13).
//!
//! Bytes in, bytes out: the look-ups that need the rest of the world are asked of a [`Directory`].
use spec::iscsi::{
    Bhs, LoginStatus, Opcode, Stage,
    bhs::{LoginRequest, LoginResponse, len24},
    login,
    text::{self, Gather, Key, Rule, number},
};
use std::net::SocketAddr;

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
}

/// What the rest of the world says to a [`Hello`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The new session's handle; not 0.
    pub tsih: u16,
    /// Target portal group tag.
    pub portal_group: u16,
    /// TargetAlias, if there is one.
    pub alias: String,
    /// Commands at once.
    pub depth: u16,
    /// Digests are wanted: header, data.
    pub digests: (bool, bool),
    /// The host must authenticate.
    pub must_authenticate: bool,
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
    /// Somewhere else: `TargetAddress` for a temporary redirection.
    Moved(String),
}

/// The rest of the world, as a session sees it.
pub trait Directory {
    /// A host wants in.
    fn login(&mut self, hello: &Hello) -> Result<Welcome, Refusal>;
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
        }
    }
}

/// A login under way.
pub struct Login {
    gather: Gather,
    stage: Option<Stage>,
    hello: Option<Hello>,
    welcome: Welcome,
    /// What is agreed so far.
    pub agreed: Agreed,
    declared: bool,
    steps: u32,
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
            agreed: Agreed::default(),
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
                    response.tsih = self.welcome.tsih.into();
                }
                response.data_segment_len = len24(text.len());
                let then = if done { Then::Done } else { Then::Continue };
                Some(Step { response, text, then })
            }
            Err(refusal) => {
                let mut text = Vec::new();
                let status = match refusal {
                    Refusal::Status(status) => status,
                    Refusal::Moved(to) => {
                        text::put(&mut text, Key::TargetAddress.name(), to);
                        LoginStatus::MovedTemporarily
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
        for (name, value) in pairs {
            match Key::named(name) {
                Some(key) => self.negotiate(key, value, current, &mut reply)?,
                None => text::put(&mut reply, name, "NotUnderstood"),
            }
        }
        if current == Stage::Operational && !self.declared {
            self.declared = true;
            text::put(&mut reply, Key::MaxRecvDataSegmentLength.name(), OUR_SEGMENT);
        }
        if reply.len() > LOGIN_SEGMENT {
            return Err(refuse);
        }
        let next = if request.transit() { next } else { None };
        if let Some(next) = next {
            self.stage = Some(next);
        }
        if next == Some(Stage::FullFeature) {
            self.agreed.first_burst = self.agreed.first_burst.min(self.agreed.max_burst);
        }
        Ok((reply, next))
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
        self.welcome = directory.login(&hello)?;
        // Authentication is not there yet: who has to authenticate cannot get in, whatever it offers.
        if self.welcome.must_authenticate {
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

    fn negotiate(&mut self, key: Key, value: &str, stage: Stage, reply: &mut Vec<u8>) -> Result<(), Refusal> {
        let welcome = &self.welcome;
        let agreed = &mut self.agreed;
        let name = key.name();
        match key.rule() {
            Rule::Declare => (),
            Rule::Obsolete => {
                let answer = if name.ends_with("Int") { "Irrelevant" } else { "No" };
                text::put(reply, name, answer);
            }
            Rule::List => {
                let wanted = match key {
                    Key::HeaderDigest => welcome.digests.0,
                    _ => welcome.digests.1,
                };
                let ours: &[&str] = match key {
                    Key::AuthMethod => &["None"],
                    Key::TaskReporting => &["RFC3720"],
                    _ if wanted && value.split(',').any(|offer| offer == "CRC32C") => &["CRC32C"],
                    _ => &["None", "CRC32C"],
                };
                match text::negotiate_list(value, ours) {
                    Some(chosen) => {
                        match key {
                            Key::HeaderDigest => agreed.header_digest = chosen == "CRC32C",
                            Key::DataDigest => agreed.data_digest = chosen == "CRC32C",
                            _ => (),
                        }
                        text::put(reply, name, chosen);
                    }
                    None if key == Key::AuthMethod => {
                        return Err(Refusal::Status(LoginStatus::AuthenticationFailure));
                    }
                    None => text::put(reply, name, "Reject"),
                }
            }
            // Only keys of the operational stage from here on; one that comes early is a protocol error (13).
            _ if stage != Stage::Operational => return Err(Refusal::Status(LoginStatus::InvalidDuringLogin)),
            rule @ (Rule::And | Rule::Or) => match text::boolean(value) {
                Some(theirs) => {
                    let ours = match key {
                        Key::InitialR2T => false,
                        Key::ImmediateData => welcome.immediate_data,
                        _ => true, // data comes in order
                    };
                    let result = if rule == Rule::And {
                        theirs && ours
                    } else {
                        theirs || ours
                    };
                    match key {
                        Key::InitialR2T => agreed.initial_r2t = result,
                        Key::ImmediateData => agreed.immediate_data = result,
                        _ => (),
                    }
                    text::put(reply, name, if result { "Yes" } else { "No" });
                }
                None => text::put(reply, name, "Reject"),
            },
            Rule::DeclareNumber(low, high) => match number(value).filter(|n| within(*n, low, high)) {
                Some(n) => agreed.their_segment = n as u32,
                None => text::put(reply, name, "Reject"),
            },
            rule @ (Rule::Min(low, high) | Rule::Max(low, high)) => {
                let ours = match key {
                    Key::MaxBurstLength => OUR_BURST,
                    Key::FirstBurstLength => welcome.first_burst.clamp(512, OUR_BURST),
                    Key::DefaultTime2Wait => welcome.time2wait,
                    Key::DefaultTime2Retain => welcome.time2retain,
                    Key::ErrorRecoveryLevel => 0,
                    // One connection to a session, one R2T to a command, the protocol level of RFC 7143.
                    _ => 1,
                };
                match number(value).filter(|n| within(*n, low, high)) {
                    Some(theirs) => {
                        let theirs = theirs as u32; // within two 32-bit bounds
                        let result = match rule {
                            Rule::Min(..) => theirs.min(ours),
                            _ => theirs.max(ours),
                        };
                        match key {
                            Key::MaxBurstLength => agreed.max_burst = result,
                            Key::FirstBurstLength => agreed.first_burst = result,
                            _ => (),
                        }
                        text::put(reply, name, result);
                    }
                    None => text::put(reply, name, "Reject"),
                }
            }
        }
        Ok(())
    }
}

fn within(n: u64, low: u32, high: u32) -> bool {
    (u64::from(low)..=u64::from(high)).contains(&n)
}
