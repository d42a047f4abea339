//! Ping, text, logout, and hosts that do not listen.
use super::*;

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
fn a_host_may_tell_a_shorter_segment_at_any_time() {
    let mut host = Host::new();
    host.login(&["MaxRecvDataSegmentLength=8192"]);
    let text = TextRequest {
        opcode: Opcode::TextRequest as u8 | IMMEDIATE,
        flags: FINAL,
        itt: 3.into(),
        ttt: NO_TAG.into(),
        cmd_sn: host.cmd_sn.into(),
        ..Default::default()
    };
    let say = |host: &mut Host, what: &[u8]| {
        host.send(text.as_bytes(), what);
        String::from_utf8(host.one().1).unwrap()
    };
    assert_eq!(
        say(&mut host, b"MaxRecvDataSegmentLength=1024\0InitiatorAlias=me\0"),
        ""
    );
    host.command(1, R, 4096, &READ, &[]);
    let slot = host.slot();
    host.session.take(slot).unwrap();
    host.session.complete(slot, read_of(&pattern(4096)));
    let lengths: Vec<usize> = host.recv().iter().map(|(_, data)| data.len()).collect();
    assert_eq!(lengths, [1024; 4]);
    // What is no length, and what was agreed for the session, stays as it is.
    assert_eq!(
        say(
            &mut host,
            b"MaxRecvDataSegmentLength=511\0MaxBurstLength=512\0X-com.example=1\0"
        ),
        "MaxRecvDataSegmentLength=Reject\0MaxBurstLength=Reject\0X-com.example=NotUnderstood\0"
    );
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
