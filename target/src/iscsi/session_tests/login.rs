//! Login: stages, keys, refusals.
use super::*;

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
fn a_half_open_login_is_dropped() {
    let mut host = Host::new();
    host.feed(&[0x43; 20]);
    assert_eq!(host.session.deadline(), Some(Time(15_000_000_000)));
    host.session.tick(Time(15_000_000_000));
    assert!(host.session.is_closed());
}
