//! Exchanges with a host that is written down here, right and wrong. A real one is in the guest's stories.
use super::{host::Challenge, *};
use base64::{Engine, engine::general_purpose::STANDARD};

const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111";
const SUBSYSTEM: &str = "nqn.2026-11.io.ashlar:a";

fn secret(seed: u8, hh: &str) -> Secret {
    let mut bytes = vec![seed; 32];
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &bytes) as u32;
    bytes.extend_from_slice(&crc.to_le_bytes());
    Secret::parse(&format!("DHHC-1:{hh}:{}:", STANDARD.encode(bytes))).unwrap()
}

fn secrets() -> Option<Secrets> {
    Some(Secrets {
        host: secret(1, "01"),
        controller: Some(secret(2, "00")),
    })
}

fn exchange() -> Exchange {
    Exchange::new(names(), Concatenation::Never)
}

fn negotiate(hashes: &[u8], groups: &[u8]) -> Vec<u8> {
    let mut ids = [0; 60];
    ids[..hashes.len()].copy_from_slice(hashes);
    ids[30..30 + groups.len()].copy_from_slice(groups);
    let mut bytes = vec![0, 0, 0, 0, 5, 0, 0, 1, 1, 0, hashes.len() as u8, groups.len() as u8];
    bytes.extend_from_slice(&ids);
    bytes
}

fn names() -> Names {
    Names {
        host: HOST.into(),
        subsystem: SUBSYSTEM.into(),
    }
}

/// What a challenge says: hash, group.
fn challenge_of(bytes: &[u8]) -> (HashId, GroupId) {
    assert_eq!(bytes[..2], [1, 1]);
    let challenge = Challenge::parse(bytes).unwrap();
    assert_eq!(challenge.value.len() * 8, challenge.group.bits() as usize);
    (challenge.hash, challenge.group)
}

/// A host's reply, and the controller's response that it expects.
fn reply(challenge: &[u8], key: &Secret, mutual: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let said = answer(challenge, key, 0, mutual.map(|c2| (c2, 77)));
    let expected = said.expected(&secret(2, "00")).to_vec();
    (said.message, expected)
}

fn answer(challenge: &[u8], secret: &Secret, channel: u8, own: Option<(&[u8], u32)>) -> host::Answer {
    let names = names();
    let host = host::Host {
        names: &names,
        secret,
        channel,
        transaction: 5,
    };
    host.answer(&Challenge::parse(challenge).unwrap(), own).unwrap()
}

fn failed(exchange: &mut Exchange, reason: Reason) {
    assert_eq!(exchange.progress(), Progress::Failed(reason));
    assert_eq!(exchange.receive().unwrap(), failure1(5, reason));
}

#[test]
fn a_host_with_the_right_key_gets_in_with_every_hash_and_group() {
    for hash in HashId::ALL {
        for group in [GroupId::Null, GroupId::Ffdhe2048, GroupId::Ffdhe4096] {
            let mut e = exchange();
            e.send(&negotiate(&[hash as u8], &[group as u8]), &Offer::default(), secrets);
            let challenge = e.receive().unwrap();
            assert_eq!(challenge_of(&challenge), (hash, group));
            let (bytes, _) = reply(&challenge, &secret(1, "01"), None);
            e.send(&bytes, &Offer::default(), secrets);
            assert_eq!(e.receive().unwrap(), success1(5, hash, None));
            assert_eq!(e.progress(), Progress::Done);
        }
    }
}

#[test]
fn the_controller_proves_itself_when_it_is_challenged() {
    let mut e = exchange();
    e.send(&negotiate(&[1, 2, 3], &[0, 1]), &Offer::default(), secrets);
    let challenge = e.receive().unwrap();
    let (hash, group) = challenge_of(&challenge);
    assert_eq!((hash, group), (HashId::Sha512, GroupId::Ffdhe2048), "the strongest");
    let (bytes, expected) = reply(&challenge, &secret(1, "01"), Some(&[0x42; 64]));
    e.send(&bytes, &Offer::default(), secrets);
    assert_eq!(e.receive().unwrap(), success1(5, hash, Some(&expected)));
    assert_eq!(e.progress(), Progress::Going);
    e.send(
        &[1, 4, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &Offer::default(),
        secrets,
    );
    assert_eq!(e.progress(), Progress::Done);
    // The host may find the controller wanting.
    let mut e = exchange();
    e.send(&negotiate(&[1], &[0]), &Offer::default(), secrets);
    let challenge = e.receive().unwrap();
    e.send(
        &reply(&challenge, &secret(1, "01"), Some(&[1; 32])).0,
        &Offer::default(),
        secrets,
    );
    e.send(&[0, 0xf0, 0, 0, 5, 0, 1, 1], &Offer::default(), secrets);
    assert_eq!((e.progress(), e.receive()), (Progress::Failed(Reason::Failed), None));
}

#[test]
fn a_wrong_key_an_unknown_host_and_a_reflected_challenge_are_refused() {
    let begun = || {
        let mut e = exchange();
        e.send(&negotiate(&[1], &[0]), &Offer::default(), secrets);
        let challenge = e.receive().unwrap();
        (e, challenge)
    };
    let (mut e, challenge) = begun();
    e.send(&reply(&challenge, &secret(9, "01"), None).0, &Offer::default(), secrets);
    failed(&mut e, Reason::Failed);
    let (mut e, challenge) = begun();
    e.send(&reply(&challenge, &secret(1, "01"), None).0, &Offer::default(), || None);
    failed(&mut e, Reason::Failed);
    let (mut e, challenge) = begun();
    let same = challenge[16..].to_vec();
    e.send(
        &reply(&challenge, &secret(1, "01"), Some(&same)).0,
        &Offer::default(),
        secrets,
    );
    failed(&mut e, Reason::IncorrectPayload);
    // A controller without a secret cannot prove anything.
    let (mut e, challenge) = begun();
    let one_way = || secrets().map(|s| Secrets { controller: None, ..s });
    e.send(
        &reply(&challenge, &secret(1, "01"), Some(&[3; 32])).0,
        &Offer::default(),
        one_way,
    );
    failed(&mut e, Reason::Failed);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let only_strong = Offer {
        hashes: vec![HashId::Sha512],
        groups: vec![GroupId::Ffdhe2048],
    };
    let mut secure = negotiate(&[1], &[0]);
    secure[6] = 1;
    for (bytes, reason) in [
        (negotiate(&[1], &[1]), Reason::HashNotUsable),
        (negotiate(&[3], &[0]), Reason::GroupNotUsable),
        (secure, Reason::SecureChannelMismatch),
        (vec![1, 2, 0, 0, 5, 0, 32, 0], Reason::IncorrectPayload),
        (vec![1, 4, 0, 0, 5, 0], Reason::IncorrectMessage),
    ] {
        let mut e = exchange();
        e.send(&bytes, &only_strong, secrets);
        failed(&mut e, reason);
        // It is over: not even the right message helps.
        e.send(&negotiate(&[3], &[1]), &only_strong, secrets);
        failed(&mut e, Reason::IncorrectMessage);
    }
}

/// An exchange on a queue that may be concatenated, after Negotiate: with this SC_C and these groups.
fn concatenating(concatenation: Concatenation, channel: u8, hashes: &[u8], groups: &[u8]) -> Exchange {
    let mut e = Exchange::new(names(), concatenation);
    let mut bytes = negotiate(hashes, groups);
    bytes[6] = channel;
    e.send(&bytes, &Offer::default(), secrets);
    e
}

#[test]
fn a_psk_comes_of_an_exchange_both_ways_and_one_way_and_is_the_hosts() {
    for (concatenation, channel) in [(Concatenation::New, 2), (Concatenation::Replace, 3)] {
        // What the host puts into its response: Linux 6.15 to 6.17 leaves the wish out.
        for said in [channel, 0] {
            for sequence in [0, 77] {
                let mut e = concatenating(concatenation, channel, &[1, 2, 3], &[0, 1]);
                let challenge = e.receive().unwrap();
                assert_eq!(challenge_of(&challenge), (HashId::Sha384, GroupId::Ffdhe2048));
                assert_eq!(e.state(), "reply");
                let said = answer(&challenge, &secret(1, "01"), said, Some((&[0x42; 48], sequence)));
                e.send(&said.message, &Offer::default(), secrets);
                let told = e.receive().unwrap();
                if sequence == 0 {
                    assert_eq!(told, success1(5, HashId::Sha384, None));
                } else {
                    assert_eq!(
                        told,
                        success1(5, HashId::Sha384, Some(&said.expected(&secret(2, "00"))))
                    );
                    assert_eq!((e.progress(), e.state()), (Progress::Going, "success2"));
                    assert!(e.take_psk().is_none(), "before the host is content");
                    e.send(
                        &[1, 4, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                        &Offer::default(),
                        secrets,
                    );
                }
                assert_eq!((e.progress(), e.state()), (Progress::Done, "completed"));
                let (ours, theirs) = (e.take_psk().unwrap(), said.psk().unwrap());
                assert_eq!((&ours.identity, &*ours.key), (&theirs.identity, &*theirs.key));
                assert!(ours.identity.to_string().starts_with("NVMe1G02 "));
                assert!(e.take_psk().is_none(), "once");
            }
        }
    }
}

#[test]
fn a_secure_channel_is_refused_where_there_can_be_none() {
    let mismatch = Reason::SecureChannelMismatch;
    for (concatenation, channel, hashes, groups, reason) in [
        (Concatenation::Never, 2, &[1][..], &[1][..], mismatch),
        (Concatenation::New, 1, &[1], &[1], mismatch),
        (Concatenation::New, 3, &[1], &[1], mismatch),
        (Concatenation::Replace, 2, &[1], &[1], mismatch),
        (Concatenation::New, 2, &[1], &[0], mismatch),
        (Concatenation::New, 2, &[3], &[1], Reason::HashNotUsable),
        (Concatenation::New, 2, &[1], &[9], Reason::GroupNotUsable),
    ] {
        failed(&mut concatenating(concatenation, channel, hashes, groups), reason);
    }
    // A host that challenges nobody, and one that says what the controller said.
    for own in [None, Some(())] {
        let mut e = concatenating(Concatenation::New, 2, &[1], &[1]);
        let challenge = e.receive().unwrap();
        let same = challenge[16..48].to_vec();
        let said = answer(&challenge, &secret(1, "01"), 2, own.map(|()| (&same[..], 0)));
        e.send(&said.message, &Offer::default(), secrets);
        failed(&mut e, Reason::IncorrectPayload);
        assert!(e.take_psk().is_none());
    }
    // A wrong key.
    let mut e = concatenating(Concatenation::New, 2, &[1], &[1]);
    let challenge = e.receive().unwrap();
    let said = answer(&challenge, &secret(9, "01"), 2, Some((&[1; 32], 0)));
    e.send(&said.message, &Offer::default(), secrets);
    failed(&mut e, Reason::Failed);
    assert!(e.take_psk().is_none());
    // A wish that somebody put in on the way.
    let mut e = exchange();
    e.send(&negotiate(&[1], &[1]), &Offer::default(), secrets);
    let challenge = e.receive().unwrap();
    e.send(
        &answer(&challenge, &secret(1, "01"), 2, None).message,
        &Offer::default(),
        secrets,
    );
    failed(&mut e, Reason::Failed);
}
