//! Both sides of a channel, face to face.
#![cfg(feature = "openssl")]
use tls::{Channel, Psk, Read, Suite};

fn psk(identity: &str, fill: u8, suite: Suite) -> Psk {
    let len = if suite == Suite::Aes128GcmSha256 { 32 } else { 48 };
    Psk {
        identity: identity.into(),
        key: vec![fill; len].into(),
        suite,
    }
}

fn carry(from: &mut Channel, to: &mut Channel) -> usize {
    let n = from.unsent().len();
    to.feed(from.unsent());
    from.sent();
    n
}

/// Handshakes; what the server and then the client said.
fn meet(client: &mut Channel, server: &mut Channel) -> (Result<bool, tls::Failed>, Result<bool, tls::Failed>) {
    let (mut theirs, mut ours) = (Ok(false), Ok(false));
    for _ in 0..4 {
        theirs = client.handshake();
        carry(client, server);
        ours = server.handshake();
        carry(server, client);
        if ours.is_err() || matches!((&theirs, &ours), (Ok(true), Ok(true))) {
            break;
        }
    }
    (ours, theirs)
}

fn read_all(channel: &mut Channel) -> Vec<u8> {
    let (mut all, mut some) = (Vec::new(), [0; 10_000]);
    while let Read::Bytes(n) = channel.read(&mut some).unwrap() {
        all.extend_from_slice(&some[..n]);
    }
    all
}

#[test]
fn a_shared_key_makes_a_channel_with_either_suite() {
    for suite in [Suite::Aes128GcmSha256, Suite::Aes256GcmSha384] {
        let mut client = Channel::client(psk("one", 7, suite)).unwrap();
        let mut server = Channel::server(psk("one", 7, suite)).unwrap();
        let (ours, theirs) = meet(&mut client, &mut server);
        assert!(ours.unwrap() && theirs.unwrap());
        // No tickets: nothing waits to be sent once both are done.
        assert_eq!(server.unsent().len(), 0);
        let sent: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) / 7) as u8).collect();
        server.write(&sent).unwrap();
        let records = sent.len().div_ceil(16 << 10);
        let wire = carry(&mut server, &mut client);
        assert_eq!(wire, sent.len() + records * tls::OVERHEAD);
        assert!(read_all(&mut client) == sent);
        client.write(b"back").unwrap();
        carry(&mut client, &mut server);
        assert_eq!(read_all(&mut server), b"back");
        client.close();
        carry(&mut client, &mut server);
        assert_eq!(server.read(&mut [0; 10]).unwrap(), Read::End);
    }
}

#[test]
fn another_key_another_name_and_another_suite_are_refused_with_an_alert() {
    let suite = Suite::Aes128GcmSha256;
    for client in [
        psk("one", 8, suite),
        psk("two", 7, suite),
        psk("one", 7, Suite::Aes256GcmSha384),
    ] {
        let mut client = Channel::client(client).unwrap();
        let mut server = Channel::server(psk("one", 7, suite)).unwrap();
        let (ours, _) = meet(&mut client, &mut server);
        assert!(ours.is_err());
        assert!(client.handshake().is_err(), "the client has been told");
    }
}

#[test]
fn bytes_changed_on_the_way_end_the_channel() {
    let suite = Suite::Aes128GcmSha256;
    let mut client = Channel::client(psk("one", 7, suite)).unwrap();
    let mut server = Channel::server(psk("one", 7, suite)).unwrap();
    let (ours, _) = meet(&mut client, &mut server);
    assert!(ours.unwrap());
    client.write(b"hello").unwrap();
    let mut record = client.unsent().to_vec();
    record[9] ^= 1;
    server.feed(&record);
    assert!(server.read(&mut [0; 10]).is_err());
    assert!(!server.unsent().is_empty(), "an alert");
}
