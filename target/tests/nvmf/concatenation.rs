//! Secure channel concatenation: a host authenticates itself on a plain admin queue, and comes again by TLS with the key
//! that has come of it. The host of the `load` crate does what Linux (6.15 and later) does with `nvme connect --concat`.
use super::bench::*;
use load::nvme::{Client, ClientError, Options, client::succeeded};
use spec::nvme::{Sgl, Sqe, Status, auth::AUTH_REQUIRED, auth::secure_channel, command, command::io, fabrics::fctype};
use std::os::unix::fs::PermissionsExt;
use target::nvmf::{
    GroupId, HashId, HostKeys, Offer, Secret, TargetConfig,
    exercise::{
        Generated,
        auth_host::{Challenge, Host, Names},
    },
};

/// A host that must authenticate itself, and its secret.
struct Stranger {
    bench: Bench,
    secret: Secret,
    options: Options,
    _folder: tempfile::TempDir,
}

impl Stranger {
    fn new() -> Self {
        let bench = Bench::new(2);
        let options = Options::default();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let text = "DHHC-1:00:Fx4lLDM6QUhPVl1ka3J5gIeOlZyjqrG4v8bN1Nvi6fA6mMhL:";
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        bench.nvmf.keyring().add("key", &path).unwrap();
        let keys = HostKeys {
            dhchap_key: Some("key".into()),
            ..HostKeys::default()
        };
        bench.nvmf.add_host(NQN, &options.hostnqn, keys).unwrap();
        Self {
            bench,
            secret: Secret::parse(text).unwrap(),
            options,
            _folder: folder,
        }
    }

    fn by(&self, psk: &Generated) -> Options {
        let suite = match psk.identity.hash {
            HashId::Sha384 => tls::Suite::Aes256GcmSha384,
            _ => tls::Suite::Aes128GcmSha256,
        };
        let identity = psk.identity.to_string().into();
        Options {
            psk: Some(tls::Psk {
                identity,
                key: psk.key.clone(),
                suite,
            }),
            ..self.options.clone()
        }
    }

    /// A connected queue, and whether it must be authenticated.
    fn queue(&self, options: &Options, qid: u16, cntlid: u16) -> Result<(Client, bool), ClientError> {
        let mut queue = Client::open(self.bench.address, options)?;
        let cqe = queue.connect(NQN, qid, cntlid, options)?;
        succeeded("Connect", &cqe)?;
        Ok((queue, cqe.result.get() as u32 & AUTH_REQUIRED != 0))
    }

    /// Authenticates a queue. The key of an exchange that ends well; what the controller said last of one that does not.
    fn authenticate(&self, queue: &mut Client, channel: u8) -> Result<Option<Generated>, Vec<u8>> {
        let send = |queue: &mut Client, message: &[u8]| {
            let sqe = Sqe::new(command::FABRICS, 0, fctype::AUTH_SEND.into())
                .with_cdw1(0, 0xe901_0100)
                .with_cdw1(1, message.len() as u32)
                .with_sgl(Sgl::in_capsule(message.len() as u32));
            let status = queue.call_raw(sqe, message).unwrap().cqe.status();
            assert_eq!(status, Status::SUCCESS);
        };
        let receive = |queue: &mut Client| {
            let sqe = Sqe::new(command::FABRICS, 0, fctype::AUTH_RECEIVE.into())
                .with_cdw1(0, 0xe901_0100)
                .with_cdw1(1, 2048)
                .with_sgl(Sgl::transport(2048));
            let done = queue.call_raw(sqe, &[]).unwrap();
            assert_eq!(done.cqe.status(), Status::SUCCESS);
            done.data
        };
        let mut negotiate = vec![0, 0, 0, 0, 5, 0, channel, 1, 1, 0, 3, 3, 1, 2, 3];
        negotiate.resize(72, 0);
        negotiate[42..45].copy_from_slice(&[0, 1, 2]);
        send(queue, &negotiate);
        let challenge = receive(queue);
        let Some(challenge) = Challenge::parse(&challenge).filter(|_| challenge.starts_with(&[1, 1])) else {
            return Err(challenge);
        };
        let names = Names {
            host: self.options.hostnqn.clone(),
            subsystem: NQN.into(),
        };
        let host = Host {
            names: &names,
            secret: &self.secret,
            channel,
            transaction: 5,
        };
        let c2 = vec![0x42; challenge.hash.size()];
        // As Linux does: a challenge for the key only.
        let own = (channel != 0).then_some((&c2[..], 0));
        let answer = host.answer(&challenge, own).unwrap();
        send(queue, &answer.message);
        let said = receive(queue);
        match said.starts_with(&[1, 3]) {
            true => Ok(answer.psk().filter(|_| channel != 0)),
            false => Err(said),
        }
    }

    /// The key of a fresh authentication.
    fn generate(&self) -> Generated {
        let (mut plain, locked) = self.queue(&self.options, 0, 0xffff).unwrap();
        assert!(locked);
        self.authenticate(&mut plain, secure_channel::NEW_TLS_PSK)
            .unwrap()
            .unwrap()
    }
}

fn refused(result: Result<(Client, bool), ClientError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_host_comes_again_by_tls_with_the_key_of_its_authentication() {
    if !tls::BUILT {
        eprintln!("SKIPPED: secure channel concatenation: built without TLS");
        return;
    }
    let stranger = Stranger::new();
    let psk = stranger.generate();
    let by = stranger.by(&psk);
    // The plain queue is gone. Neither the admin queue nor the I/O queue by TLS wants to be authenticated once more.
    let mut admin = Client::admin(stranger.bench.address, NQN, &by).unwrap();
    admin.request_queues(2).unwrap();
    let (mut io_queue, locked) = stranger.queue(&by, 1, admin.cntlid).unwrap();
    assert!(!locked);
    let data = pattern(64 * BLOCK, 5);
    assert_eq!(write(&mut io_queue, 8, &data), Status::SUCCESS);
    assert_eq!(read(&mut io_queue, 8, 64).unwrap(), data);
    let pairs = stranger.bench.nvmf.qpairs(NQN).unwrap();
    let suites: Vec<_> = pairs.iter().map(|pair| pair.tls).collect();
    assert_eq!(suites, [Some("TLS_AES_256_GCM_SHA384"); 2]);
    // A plain queue of the same controller is a stranger as ever.
    let (mut another, locked) = stranger.queue(&stranger.options, 2, admin.cntlid).unwrap();
    assert!(locked);
    let status = another.call(Sqe::new(io::FLUSH, 0, 1), &[]).unwrap().cqe.status();
    assert_eq!(plain(status), plain(Status::AUTHENTICATION_REQUIRED));
    // Nor is there a key to be had on an I/O queue.
    let told = stranger
        .authenticate(&mut another, secure_channel::NEW_TLS_PSK)
        .unwrap_err();
    assert_eq!(told[..8], [0, 0xf1, 0, 0, 5, 0, 1, 3], "secure channel mismatch");
}

#[test]
fn a_key_is_replaced_on_the_queue_that_came_by_it_and_the_old_one_is_forgotten() {
    if !tls::BUILT {
        eprintln!("SKIPPED: secure channel concatenation: built without TLS");
        return;
    }
    let stranger = Stranger::new();
    let by = stranger.by(&stranger.generate());
    let mut admin = Client::admin(stranger.bench.address, NQN, &by).unwrap();
    admin.request_queues(2).unwrap();
    let (mut first, _) = stranger.queue(&by, 1, admin.cntlid).unwrap();
    // "New" is for queues without TLS.
    let told = stranger
        .authenticate(&mut admin, secure_channel::NEW_TLS_PSK)
        .unwrap_err();
    assert_eq!(told[..8], [0, 0xf1, 0, 0, 5, 0, 1, 3]);
    drop((admin, first));

    let by = stranger.by(&stranger.generate());
    let mut admin = Client::admin(stranger.bench.address, NQN, &by).unwrap();
    admin.request_queues(2).unwrap();
    (first, _) = stranger.queue(&by, 1, admin.cntlid).unwrap();
    let psk = stranger
        .authenticate(&mut admin, secure_channel::REPLACE_TLS_PSK)
        .unwrap()
        .unwrap();
    let (mut second, locked) = stranger.queue(&stranger.by(&psk), 2, admin.cntlid).unwrap();
    assert!(!locked);
    let again = refused(stranger.queue(&by, 2, admin.cntlid));
    assert!(again.contains("TLS"), "{again}");
    for queue in [&mut first, &mut second] {
        assert_eq!(write(queue, 0, &pattern(BLOCK, 1)), Status::SUCCESS);
    }
}

#[test]
fn a_key_is_worth_nothing_for_others_and_after_its_host_has_lost_its_right() {
    if !tls::BUILT {
        eprintln!("SKIPPED: secure channel concatenation: built without TLS");
        return;
    }
    let stranger = Stranger::new();
    let psk = stranger.generate();
    let mut wrong = stranger.by(&psk);
    wrong.psk.as_mut().unwrap().key[0] ^= 1;
    assert!(refused(stranger.queue(&wrong, 0, 0xffff)).contains("TLS"));
    let other = Options {
        hostnqn: "nqn.2026-11.io.ashlar:another".into(),
        ..stranger.by(&psk)
    };
    let invalid = refused(stranger.queue(&other, 0, 0xffff));
    assert!(invalid.contains("Connect"), "{invalid}");
    let (by, nvmf) = (stranger.by(&psk), &stranger.bench.nvmf);
    assert!(stranger.queue(&by, 0, 0xffff).is_ok());
    wait(nvmf.remove_host(NQN, &stranger.options.hostnqn)).unwrap();
    assert!(refused(stranger.queue(&by, 0, 0xffff)).contains("TLS"));
}

/// What blktests' nvme/063 asks of a target: both hashes, and another key after a reset of the controller.
#[test]
fn keys_are_made_with_either_hash_and_anew_for_each_association() {
    if !tls::BUILT {
        eprintln!("SKIPPED: secure channel concatenation: built without TLS");
        return;
    }
    let stranger = Stranger::new();
    for (hash, group, suite) in [
        (HashId::Sha256, GroupId::Ffdhe2048, "TLS_AES_128_GCM_SHA256"),
        (HashId::Sha384, GroupId::Ffdhe3072, "TLS_AES_256_GCM_SHA384"),
    ] {
        let offer = Offer {
            hashes: vec![hash],
            groups: vec![group],
        };
        stranger.bench.nvmf.set_config(TargetConfig {
            dhchap: offer,
            ..TargetConfig::default()
        });
        let mut names = Vec::new();
        for _ in 0..2 {
            let psk = stranger.generate();
            let admin = Client::admin(stranger.bench.address, NQN, &stranger.by(&psk)).unwrap();
            let pairs = stranger.bench.nvmf.qpairs(NQN).unwrap();
            let mine = pairs.iter().find(|pair| pair.cntlid == admin.cntlid).unwrap();
            assert_eq!((mine.tls, mine.psk, mine.auth), (Some(suite), Some("generated"), None));
            names.push(psk.identity.to_string());
        }
        assert_ne!(names[0], names[1]);
    }
    // There is no suite for the third.
    stranger.bench.nvmf.set_config(TargetConfig {
        dhchap: Offer {
            hashes: vec![HashId::Sha512],
            ..Offer::default()
        },
        ..TargetConfig::default()
    });
    let (mut plain, _) = stranger.queue(&stranger.options, 0, 0xffff).unwrap();
    let told = stranger
        .authenticate(&mut plain, secure_channel::NEW_TLS_PSK)
        .unwrap_err();
    assert_eq!(told[..8], [0, 0xf1, 0, 0, 5, 0, 1, 4], "hash function not usable");
}

#[test]
fn an_authenticated_queue_says_how_it_was_authenticated() {
    let stranger = Stranger::new();
    let (mut plain, _) = stranger.queue(&stranger.options, 0, 0xffff).unwrap();
    let auth = || stranger.bench.nvmf.qpairs(NQN).unwrap()[0].auth.unwrap();
    let told = auth();
    assert_eq!((told.state, told.chosen), ("negotiate", None));
    assert!(stranger.authenticate(&mut plain, 0).unwrap().is_none());
    let told = auth();
    assert_eq!(told.state, "completed");
    let (hash, group) = told.chosen.unwrap();
    assert_eq!((hash.name(), group.name()), ("sha512", "ffdhe3072"));
}
