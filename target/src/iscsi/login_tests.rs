//! Logins word by word: every key's answers, and CHAP in and out of order.
use super::{
    auth::Demand,
    chap,
    exercise::{Anyone, credentials, demand},
    login::{Login, Step, Then},
};
use spec::iscsi::{
    bhs::{LoginRequest, len24},
    chap::Algorithm,
    text,
};
use zerocopy::{FromBytes, IntoBytes};

const WHO: &str = "InitiatorName=iqn.host\0TargetName=iqn.t\0";
const DISCOVERY: &str = "InitiatorName=iqn.host\0SessionType=Discovery\0";
/// In the security stage; and ready to go on to the operational one.
const SECURITY: u8 = 0x00;
const SECURITY_GO: u8 = 0x81;
const OPERATIONAL: u8 = 0x04;
const OPERATIONAL_GO: u8 = 0x87;

struct Host {
    login: Login,
    world: Anyone,
    tsih: u16,
}

impl Host {
    fn new(demand: Demand) -> Self {
        Self {
            login: Login::default(),
            world: Anyone {
                demand,
                ..Anyone::default()
            },
            tsih: 0,
        }
    }

    fn step(&mut self, flags: u8, text: &str) -> Step {
        let request = LoginRequest {
            opcode: 0x43,
            flags,
            tsih: self.tsih.into(),
            data_segment_len: len24(text.len()),
            ..Default::default()
        };
        let bhs = FromBytes::ref_from_bytes(request.as_bytes()).unwrap();
        self.login.step(bhs, text.as_bytes(), &mut self.world).unwrap()
    }

    /// What is answered: flags and pairs.
    #[track_caller]
    fn say(&mut self, flags: u8, text: &str) -> (u8, Vec<(String, String)>) {
        let step = self.step(flags, text);
        let response = &step.response;
        assert_eq!((response.status_class, response.status_detail), (0, 0), "{text:?}");
        let pairs = text::pairs(&step.text).unwrap();
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        (response.flags, pairs)
    }

    /// How it is refused.
    #[track_caller]
    fn refused(&mut self, flags: u8, text: &str) -> u16 {
        let step = self.step(flags, text);
        assert_eq!(step.then, Then::Close, "{text:?}");
        assert!(self.login.user().is_none() || self.login.tsih() == 0);
        u16::from_be_bytes([step.response.status_class, step.response.status_detail])
    }
}

fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(have, _)| have == key)
        .map(|(_, value)| value.as_str())
}

// ---- keys (RFC 7143 section 13)

#[test]
fn every_key_is_answered_by_its_rule() {
    // What is offered, and the answer; "" for none.
    let rows = [
        ("HeaderDigest=None,CRC32C", "None"),
        ("HeaderDigest=CRC32C,None", "CRC32C"),
        ("HeaderDigest=CRC32C", "CRC32C"),
        ("HeaderDigest=CRC-64", "Reject"),
        ("DataDigest=CRC-64,CRC32C", "CRC32C"),
        ("DataDigest=", "Reject"),
        ("MaxConnections=8", "2"),
        ("MaxConnections=0x2", "2"),
        ("MaxConnections=0", "Reject"),
        ("MaxConnections=65536", "Reject"),
        ("InitiatorAlias=somebody", ""),
        ("InitialR2T=Yes", "Yes"),
        ("InitialR2T=No", "No"),
        ("InitialR2T=yes", "Reject"),
        ("ImmediateData=Yes", "Yes"),
        ("ImmediateData=No", "No"),
        ("ImmediateData=1", "Reject"),
        ("MaxRecvDataSegmentLength=512", ""),
        ("MaxRecvDataSegmentLength=16777215", ""),
        ("MaxRecvDataSegmentLength=511", "Reject"),
        ("MaxRecvDataSegmentLength=16777216", "Reject"),
        ("MaxBurstLength=16776192", "1048576"),
        ("MaxBurstLength=512", "512"),
        ("MaxBurstLength=0", "Reject"),
        ("MaxBurstLength=-1", "Reject"),
        ("FirstBurstLength=65536", "8192"),
        ("FirstBurstLength=1024", "1024"),
        ("FirstBurstLength=99999999999999999999", "Reject"),
        ("DefaultTime2Wait=0", "0"),
        ("DefaultTime2Wait=3600", "3600"),
        ("DefaultTime2Wait=3601", "Reject"),
        ("DefaultTime2Retain=60", "0"),
        ("DefaultTime2Retain=x", "Reject"),
        ("MaxOutstandingR2T=16", "4"),
        ("MaxOutstandingR2T=0", "Reject"),
        ("DataPDUInOrder=No", "Yes"),
        ("DataPDUInOrder=Yes", "Yes"),
        ("DataSequenceInOrder=No", "Yes"),
        ("DataSequenceInOrder=?", "Reject"),
        ("ErrorRecoveryLevel=0", "0"),
        ("ErrorRecoveryLevel=2", "0"),
        ("ErrorRecoveryLevel=3", "Reject"),
        ("SessionType=Normal", ""),
        ("TaskReporting=FastAbort,ResponseFence,RFC3720", "RFC3720"),
        ("TaskReporting=FastAbort", "Reject"),
        ("iSCSIProtocolLevel=2", "1"),
        ("iSCSIProtocolLevel=0", "0"),
        ("iSCSIProtocolLevel=32", "Reject"),
        ("IFMarker=Yes", "No"),
        ("OFMarker=No", "No"),
        ("IFMarkInt=2048~8192", "Reject"),
        ("OFMarkInt=2048", "Reject"),
        ("X-com.example.color=blue", "NotUnderstood"),
        ("initialr2t=Yes", "NotUnderstood"),
        ("AuthMethods=None", "NotUnderstood"),
    ];
    for (offer, wanted) in rows {
        let mut host = Host::new(Demand::default());
        let (_, pairs) = host.say(OPERATIONAL, &format!("{WHO}{offer}\0"));
        let (key, _) = offer.split_once('=').unwrap();
        // Ours is told in the same breath, which is no answer.
        let answers: Vec<_> = pairs
            .iter()
            .filter(|(have, value)| have == key && value != "262144")
            .collect();
        let said = answers.first().map_or("", |(_, value)| value.as_str());
        assert_eq!(
            (said, answers.len()),
            (wanted, usize::from(!wanted.is_empty())),
            "{offer}"
        );
    }
}

#[test]
fn what_must_not_be_said_ends_the_login() {
    let rows = [
        // Of another phase or stage, of the target's, or an answer where nothing was asked.
        "SendTargets=All",
        "AuthMethod=None",
        "CHAP_A=5",
        "TargetAlias=x",
        "TargetAddress=10.0.0.1",
        "TargetPortalGroupTag=1",
        "HeaderDigest=Irrelevant",
        "MaxConnections=NotUnderstood",
        "InitialR2T=Reject",
        // Twice.
        "InitiatorName=iqn.host",
        "TargetName=iqn.t",
        "SessionType=Normal\0SessionType=Normal",
        "MaxBurstLength=1024\0DataPDUInOrder=Yes\0MaxBurstLength=1024",
        "X-a=1\0=2",
    ];
    for row in rows {
        let mut host = Host::new(Demand::default());
        assert_eq!(host.refused(OPERATIONAL, &format!("{WHO}{row}\0")), 0x0200, "{row}");
    }
    for (first, again) in [
        ("MaxBurstLength=1024\0", "MaxBurstLength=1024\0"),
        ("IFMarker=No\0", "IFMarker=No\0"),
    ] {
        let mut host = Host::new(Demand::default());
        host.say(OPERATIONAL, &format!("{WHO}{first}"));
        assert_eq!(host.refused(OPERATIONAL, again), 0x0200, "renegotiated");
    }
    // Operational keys have no business in the security stage.
    for early in [
        "HeaderDigest=None\0",
        "MaxRecvDataSegmentLength=4096\0",
        "ErrorRecoveryLevel=0\0",
    ] {
        let mut host = Host::new(Demand::default());
        assert_eq!(host.refused(SECURITY, &format!("{WHO}{early}")), 0x0200, "{early:?}");
    }
    // One login is of one connection.
    let mut host = Host::new(Demand::default());
    host.say(OPERATIONAL, WHO);
    host.tsih = 9;
    assert_eq!(host.refused(OPERATIONAL_GO, ""), 0x0200);
}

#[test]
fn keys_without_meaning_are_irrelevant() {
    let mut host = Host::new(Demand::default());
    let all = "MaxConnections=4\0InitialR2T=No\0ImmediateData=Yes\0MaxBurstLength=512\0FirstBurstLength=512\0\
               MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0TaskReporting=RFC3720\0iSCSIProtocolLevel=1\0";
    let (_, pairs) = host.say(
        OPERATIONAL,
        &format!("{DISCOVERY}{all}ErrorRecoveryLevel=0\0HeaderDigest=None\0"),
    );
    let irrelevant = pairs.iter().filter(|(_, value)| value == "Irrelevant").count();
    assert_eq!(irrelevant, 10, "{pairs:?}");
    assert_eq!(
        (value(&pairs, "ErrorRecoveryLevel"), value(&pairs, "HeaderDigest")),
        (Some("0"), Some("None"))
    );
    // A session's later connections cannot change what its first one agreed on.
    let mut host = Host::new(Demand::default());
    host.tsih = 7;
    let (_, pairs) = host.say(
        OPERATIONAL,
        &format!("{WHO}ErrorRecoveryLevel=0\0HeaderDigest=CRC32C\0InitialR2T=No\0"),
    );
    assert_eq!(value(&pairs, "ErrorRecoveryLevel"), Some("Irrelevant"));
    assert_eq!(value(&pairs, "InitialR2T"), Some("Irrelevant"));
    assert_eq!(
        value(&pairs, "HeaderDigest"),
        Some("CRC32C"),
        "this is each connection's own"
    );
}

// ---- authentication

/// The right response of a user to the challenge in these pairs.
fn solve(pairs: &[(String, String)], user: &str) -> Vec<u8> {
    let algorithm = Algorithm::choose(value(pairs, "CHAP_A").unwrap(), &Algorithm::ALL).unwrap();
    let identifier = value(pairs, "CHAP_I").unwrap().parse().unwrap();
    let challenge = text::binary(value(pairs, "CHAP_C").unwrap(), 1024).unwrap();
    assert!(challenge.len() >= algorithm.size());
    let known = credentials().into_iter().find(|one| one.user == user).unwrap();
    chap::response(algorithm, identifier, &known.secret, &challenge)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::from("0x"), |text, byte| format!("{text}{byte:02x}"))
}

/// A host that has been challenged, and how.
fn challenged(demand: Demand, algorithms: &str) -> (Host, Vec<(String, String)>) {
    let mut host = Host::new(demand);
    // It would go on at once, but may not.
    let (flags, pairs) = host.say(SECURITY_GO, &format!("{WHO}AuthMethod=CHAP,None\0"));
    assert_eq!((flags, value(&pairs, "AuthMethod")), (0, Some("CHAP")));
    let (flags, pairs) = host.say(SECURITY, &format!("CHAP_A={algorithms}\0"));
    assert_eq!(flags, 0);
    (host, pairs)
}

#[test]
fn responses_are_those_of_other_implementations() {
    // Python's hashlib over c9, "open sesame, one", 00 to 1f.
    let challenge: Vec<u8> = (0..32).collect();
    let secret = &credentials()[0].secret;
    for (algorithm, wanted) in [
        (Algorithm::Md5, "b57762f522ce52f763b2bd97f0bfbf70"),
        (Algorithm::Sha1, "896fc2ee760d53d1ca519667d1808ba9c0391432"),
        (
            Algorithm::Sha256,
            "ff753b72d923a24c5e0fea1a3360cc0703ef2a6ee278ef84d52cc2e3da455403",
        ),
        (
            Algorithm::Sha3_256,
            "fc1b2f880fdc43d73ed5bd84c794d0ffe5625b7f0af770904df0ad1680f9ea85",
        ),
    ] {
        assert_eq!(
            hex(&chap::response(algorithm, 0xc9, secret, &challenge)),
            format!("0x{wanted}")
        );
    }
}

#[test]
fn who_knows_the_secret_comes_in() {
    for (offered, chosen) in [("5", "5"), ("6,5", "6"), ("7,5", "7"), ("8", "8"), ("9,8,7", "8")] {
        let (mut host, pairs) = challenged(demand(true, false), offered);
        assert_eq!(value(&pairs, "CHAP_A"), Some(chosen));
        let right = hex(&solve(&pairs, "one"));
        let (flags, pairs) = host.say(SECURITY_GO, &format!("CHAP_N=one\0CHAP_R={right}\0"));
        assert_eq!((flags, pairs.len()), (SECURITY_GO, 0));
        assert_eq!(host.login.user(), Some("one"));
        let step = host.step(OPERATIONAL_GO, "");
        assert_eq!((step.then, step.response.tsih.get()), (Then::Done, 7));
    }
    // Who may choose may choose either.
    for methods in ["None", "None,CHAP", "KRB5,None"] {
        let mut host = Host::new(demand(false, false));
        let (flags, pairs) = host.say(SECURITY_GO, &format!("{WHO}AuthMethod={methods}\0"));
        assert_eq!((flags, value(&pairs, "AuthMethod")), (SECURITY_GO, Some("None")));
    }
    // And who need not prove anything may leave the first stage out, or say nothing in it.
    let mut host = Host::new(Demand::default());
    assert_eq!(host.step(OPERATIONAL_GO, WHO).then, Then::Done);
    let mut host = Host::new(Demand::default());
    assert_eq!(host.step(0x83, WHO).then, Then::Done);
}

#[test]
fn both_sides_prove_themselves_if_they_are_to() {
    let (mut host, pairs) = challenged(demand(true, true), "7");
    let right = hex(&solve(&pairs, "both"));
    let theirs = [9; 20];
    let text = format!("CHAP_N=both\0CHAP_R={right}\0CHAP_I=3\0CHAP_C={}\0", hex(&theirs));
    let (flags, pairs) = host.say(SECURITY_GO, &text);
    assert_eq!((flags, value(&pairs, "CHAP_N")), (SECURITY_GO, Some("quarry")));
    let (_, ours) = credentials()[1].mutual.clone().unwrap();
    let wanted = hex(&chap::response(Algorithm::Sha256, 3, &ours, &theirs));
    assert_eq!(value(&pairs, "CHAP_R"), Some(wanted.as_str()));
}

#[test]
fn challenges_are_never_the_same() {
    let mut host = challenged(demand(true, false), "5");
    let mut again = Host {
        login: Login::default(),
        world: std::mem::take(&mut host.0.world),
        tsih: 0,
    };
    again.say(SECURITY, &format!("{WHO}AuthMethod=CHAP\0"));
    let (_, pairs) = again.say(SECURITY, "CHAP_A=5\0");
    assert_ne!(value(&pairs, "CHAP_C"), value(&host.1, "CHAP_C"));
    // What was right for the first challenge is wrong for this one.
    let stale = hex(&solve(&host.1, "one"));
    assert_eq!(
        again.refused(SECURITY_GO, &format!("CHAP_N=one\0CHAP_R={stale}\0")),
        0x0201
    );
}

#[test]
fn whoever_cannot_prove_it_is_refused() {
    type Case = (&'static str, fn(&str, &str) -> String);
    // User, right response and our challenge, as what is said. All have the same status.
    let cases: &[Case] = &[
        ("a wrong response", |_, c| {
            format!("CHAP_N=both\0CHAP_R=0x{}\0", &c[2..34])
        }),
        ("a short response", |r, _| format!("CHAP_N=both\0CHAP_R={}\0", &r[..20])),
        ("a long response", |r, _| format!("CHAP_N=both\0CHAP_R={r}00\0")),
        ("nobody we know", |r, _| format!("CHAP_N=nobody\0CHAP_R={r}\0")),
        ("another user", |r, _| {
            format!("CHAP_N=one\0CHAP_R={r}\0CHAP_I=1\0CHAP_C=0x1234\0")
        }),
        ("no number", |r, _| format!("CHAP_N=both\0CHAP_R={}\0", &r[2..])),
        ("no challenge for us", |r, _| format!("CHAP_N=both\0CHAP_R={r}\0")),
        ("our own challenge", |r, c| {
            format!("CHAP_N=both\0CHAP_R={r}\0CHAP_I=1\0CHAP_C={c}\0")
        }),
        ("a challenge of nothing", |r, _| {
            format!("CHAP_N=both\0CHAP_R={r}\0CHAP_I=1\0CHAP_C=0x\0")
        }),
        ("a large identifier", |r, _| {
            format!("CHAP_N=both\0CHAP_R={r}\0CHAP_I=256\0CHAP_C=0x12\0")
        }),
    ];
    for (what, case) in cases {
        let (mut host, pairs) = challenged(demand(true, true), "5");
        let right = hex(&solve(&pairs, "both"));
        let text = case(&right, value(&pairs, "CHAP_C").unwrap());
        assert_eq!(host.refused(SECURITY_GO, &text), 0x0201, "{what}");
    }
    // A user without a secret of ours, and one for whom we do not prove ourselves.
    for (mutual, user) in [(true, "one"), (false, "both")] {
        let (mut host, pairs) = challenged(demand(true, mutual), "5");
        let right = hex(&solve(&pairs, user));
        let text = format!("CHAP_N={user}\0CHAP_R={right}\0CHAP_I=1\0CHAP_C=0x1234\0");
        assert_eq!(host.refused(SECURITY_GO, &text), 0x0201, "{user}");
    }
    // Nothing offered that is allowed.
    let weak = |allowed: &[Algorithm]| Demand {
        algorithms: allowed.to_vec(),
        ..demand(true, false)
    };
    let mut host = Host::new(weak(&[Algorithm::Sha256]));
    host.say(SECURITY, &format!("{WHO}AuthMethod=CHAP\0"));
    assert_eq!(host.refused(SECURITY, "CHAP_A=5,6\0"), 0x0201);
    for offer in ["", "56", "5;6", "MD5"] {
        let mut host = Host::new(demand(true, false));
        host.say(SECURITY, &format!("{WHO}AuthMethod=CHAP\0"));
        assert_eq!(host.refused(SECURITY, &format!("CHAP_A={offer}\0")), 0x0201, "{offer}");
    }
    // The first stage left out, or left without a word, or with None.
    for (flags, rest) in [
        (OPERATIONAL_GO, ""),
        (OPERATIONAL, ""),
        (SECURITY_GO, ""),
        (0x83, ""),
        (SECURITY, "AuthMethod=None\0"),
    ] {
        let mut host = Host::new(demand(true, false));
        assert_eq!(
            host.refused(flags, &format!("{WHO}{rest}")),
            0x0201,
            "{flags:#x} {rest}"
        );
    }
    // Nobody is asked for what nobody could answer.
    let mut host = Host::new(Demand::default());
    assert_eq!(host.refused(SECURITY, &format!("{WHO}AuthMethod=CHAP\0")), 0x0201);
}

#[test]
fn keys_of_chap_have_their_order() {
    let right = |pairs: &[(String, String)]| hex(&solve(pairs, "one"));
    // Before there is a method, with the wrong one, with other keys of CHAP.
    for text in ["CHAP_A=5\0", "AuthMethod=None\0CHAP_A=5\0", "CHAP_N=one\0CHAP_R=0x12\0"] {
        let mut host = Host::new(demand(false, false));
        assert_eq!(host.refused(SECURITY, &format!("{WHO}{text}")), 0x0200, "{text:?}");
    }
    for text in [
        "CHAP_A=5\0CHAP_N=one\0",
        "CHAP_N=one\0CHAP_R=0x12\0",
        "CHAP_A=5\0CHAP_A=5\0",
        "CHAP_C=0x12\0",
    ] {
        let mut host = Host::new(demand(true, false));
        host.say(SECURITY, &format!("{WHO}AuthMethod=CHAP\0"));
        assert_eq!(host.refused(SECURITY, text), 0x0200, "{text:?}");
    }
    type Case = fn(&str) -> String;
    let cases: &[Case] = &[
        |_| "CHAP_A=5\0".into(),
        |_| "CHAP_N=one\0".into(),
        |r| format!("CHAP_R={r}\0"),
        |r| format!("CHAP_N=one\0CHAP_N=one\0CHAP_R={r}\0"),
        |r| format!("CHAP_A=5\0CHAP_N=one\0CHAP_R={r}\0"),
        |r| format!("CHAP_N=one\0CHAP_R={r}\0CHAP_I=1\0"),
        |r| format!("CHAP_N=one\0CHAP_R={r}\0CHAP_C=0x1234\0"),
    ];
    for case in cases {
        let (mut host, pairs) = challenged(demand(true, false), "5");
        let text = case(&right(&pairs));
        assert_eq!(host.refused(SECURITY, &text), 0x0200, "{text:?}");
    }
    // Once proved it is proved: more of it is as wrong as going on without it.
    let (mut host, pairs) = challenged(demand(true, false), "5");
    let text = format!("CHAP_N=one\0CHAP_R={}\0", right(&pairs));
    assert_eq!(host.say(SECURITY, &text).0, 0, "the host stays for a while");
    assert_eq!(host.refused(SECURITY, &text), 0x0200);
    let (mut host, _) = challenged(demand(true, false), "5");
    assert_eq!(host.say(SECURITY_GO, "").0, 0, "not yet");
    assert_eq!(
        host.refused(OPERATIONAL_GO, ""),
        0x0200,
        "nor by way of the other stage"
    );
}

#[test]
fn binary_values_may_be_base64_and_texts_in_pieces() {
    let (mut host, pairs) = challenged(demand(true, false), "5");
    let right = base64(&solve(&pairs, "one"));
    let text = format!("CHAP_N=one\0CHAP_R=0b{right}\0");
    let (first, rest) = text.split_at(25);
    assert_eq!(host.say(0x40, first).0, 0, "the C bit");
    assert_eq!(host.say(SECURITY_GO, rest).0, SECURITY_GO);
    assert_eq!(host.login.user(), Some("one"));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= three.len() { digit.into() } else { '=' });
        }
    }
    out
}
