//! Exchanges with a host that is written down here, right and wrong. A real one is in the guest's stories.
use super::*;
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
    Exchange::new(Names {
        host: HOST.into(),
        subsystem: SUBSYSTEM.into(),
    })
}

fn negotiate(hashes: &[u8], groups: &[u8]) -> Vec<u8> {
    let mut ids = [0; 60];
    ids[..hashes.len()].copy_from_slice(hashes);
    ids[30..30 + groups.len()].copy_from_slice(groups);
    let mut bytes = vec![0, 0, 0, 0, 5, 0, 0, 1, 1, 0, hashes.len() as u8, groups.len() as u8];
    bytes.extend_from_slice(&ids);
    bytes
}

/// What a challenge says: hash, group, sequence number, challenge, value.
fn challenge_of(bytes: &[u8]) -> (HashId, GroupId, u32, &[u8], &[u8]) {
    assert_eq!(bytes[..2], [1, 1]);
    let (hash, group) = (HashId::of(bytes[8]).unwrap(), GroupId::of(bytes[9]).unwrap());
    let sequence = u32::from_le_bytes(*bytes[12..].first_chunk().unwrap());
    let (challenge, value) = bytes[16..].split_at(hash.size());
    assert_eq!(value.len() * 8, group.bits() as usize);
    (hash, group, sequence, challenge, value)
}

/// A host's reply, and the controller's response that it expects.
fn reply(challenge: &[u8], key: &Secret, mutual: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let (hash, group, sequence, c1, value) = challenge_of(challenge);
    let ephemeral = Ephemeral::new(group);
    let shared = ephemeral.as_ref().map(|e| digest(hash, &e.shared(value).unwrap()));
    let answer = |key: &[u8], challenge: &[u8], sequence, role, parties| {
        let shared = shared.as_deref().map(Vec::as_slice);
        response(Asked {
            hash,
            shared,
            key,
            challenge,
            sequence,
            transaction: 5,
            role,
            parties,
        })
    };
    let said = answer(&key.transformed(HOST), c1, sequence, "HostHost", [HOST, SUBSYSTEM]);
    let ours = ephemeral.map(|e| e.value().unwrap()).unwrap_or_default();
    let c2 = mutual.map_or(vec![0; hash.size()], |c2| c2.to_vec());
    let mut bytes = vec![1, 2, 0, 0, 5, 0, hash.size() as u8, 0, mutual.is_some().into(), 0];
    bytes.extend_from_slice(&(ours.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&77u32.to_le_bytes());
    bytes.extend_from_slice(&said);
    bytes.extend_from_slice(&c2);
    bytes.extend_from_slice(&ours);
    let key = secret(2, "00").transformed(SUBSYSTEM);
    let expected = answer(&key, &c2, 77, "Controller", [SUBSYSTEM, HOST]);
    (bytes, expected.to_vec())
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
            assert_eq!((challenge_of(&challenge).0, challenge_of(&challenge).1), (hash, group));
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
    let (hash, group, ..) = challenge_of(&challenge);
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
