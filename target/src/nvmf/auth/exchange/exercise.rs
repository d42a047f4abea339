//! A queue that must be authenticated and a host that does as it is told, right or wrong: what the fuzz target
//! `nvme_auth_session` and the replay of its corpus drive.
use super::{super::Lock, host::Challenge, *};
use crate::nvmf::exercise::Model;
use base64::{Engine, engine::general_purpose::STANDARD};
use spec::nvme::{
    Sqe, Status,
    auth::{MAX_LEN, is_ours, length},
    command::{self, Sgl, io},
    fabrics::fctype,
    tcp,
};
use zerocopy::IntoBytes;

const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-1111-4111-8111-111111111111";
const SUBSYSTEM: &str = "nqn.2026-11.io.ashlar:a";
/// Transaction of an honest host.
const TRANSACTION: u16 = 5;
/// Deeds of one input: powers of large numbers take their time.
const DEEDS: usize = 24;

/// The lock of a queue, and what the keyring would say.
pub struct Gate {
    lock: Lock,
    controller_proves: bool,
}

impl Gate {
    fn new(controller_proves: bool, concatenation: Concatenation) -> Self {
        let lock = Lock::new(true, concatenation, HOST, SUBSYSTEM, 0);
        Self {
            lock,
            controller_proves,
        }
    }

    /// The queue may be used.
    pub fn is_open(&self) -> bool {
        self.lock.is_open()
    }

    /// Authentication Send with these data.
    pub fn send(&self, sqe: &Sqe, data: &[u8]) -> Status {
        if !is_ours(sqe) || length(sqe) as usize != data.len() || data.len() > MAX_LEN {
            return Status::INVALID_FIELD;
        }
        let Some(mut exchange) = self.lock.take(HOST, SUBSYSTEM) else {
            return Status::COMMAND_SEQUENCE_ERROR;
        };
        let offer = Offer {
            groups: vec![GroupId::Null, GroupId::Ffdhe2048],
            ..Offer::default()
        };
        exchange.send(data, &offer, || {
            let controller = self.controller_proves.then(|| secret(2));
            controller
                .map_or(Some(None), |s| s.map(Some))
                .zip(secret(1))
                .map(|(controller, host)| Secrets { host, controller })
        });
        if exchange.take_psk().is_some() {
            assert_eq!(
                exchange.progress(),
                Progress::Done,
                "a PSK of an exchange that is not done"
            );
        }
        self.lock.put(exchange);
        Status::SUCCESS
    }

    /// Authentication Receive.
    pub fn receive(&self, sqe: &Sqe) -> Result<Vec<u8>, Status> {
        let room = length(sqe) as usize;
        if !is_ours(sqe) || (sqe.sgl.length.get() as usize) < room {
            return Err(Status::INVALID_FIELD);
        }
        let (message, _) = self.lock.message().ok_or(Status::COMMAND_SEQUENCE_ERROR)?;
        assert!(message.len() <= MAX_LEN, "a message of {} bytes", message.len());
        if message.len() > room {
            Err(Status::INVALID_FIELD)
        } else {
            Ok(message)
        }
    }
}

fn secret(seed: u8) -> Option<Secret> {
    let mut bytes = vec![seed; 32];
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &bytes) as u32;
    bytes.extend_from_slice(&crc.to_le_bytes());
    Secret::parse(&format!("DHHC-1:01:{}:", STANDARD.encode(bytes))).ok()
}

/// The host: what it was last told, and the connection it talks through.
struct Host {
    model: Model,
    /// The last challenge it has fetched.
    challenge: Vec<u8>,
    /// The secure channel that it has last asked for.
    channel: u8,
    /// It has proved who it is since the queue was last shut.
    honest: bool,
    next: u16,
}

impl Host {
    /// Sends a command with data in its capsule; its status, and the data that came back.
    fn command(&mut self, opcode: u8, cdw1: [u32; 2], fctype: u8, data: &[u8], room: u32) -> (Option<Status>, Vec<u8>) {
        self.next = self.next.wrapping_add(1);
        let mut sqe = Sqe::new(
            opcode,
            self.next,
            if opcode == command::FABRICS { fctype.into() } else { 1 },
        );
        if opcode == command::FABRICS {
            sqe = sqe.with_cdw1(0, cdw1[0]).with_cdw1(1, cdw1[1]);
        }
        let sgl = match data.len() {
            0 => Sgl::transport(room),
            len => Sgl::in_capsule(len as u32),
        };
        sqe = sqe.with_sgl(sgl);
        self.model.out.clear();
        let mut head = [0; tcp::HEAD_MAX];
        let capsule = tcp::CapsuleCmd::new(sqe);
        let len = tcp::seal(
            &mut head,
            capsule.as_bytes(),
            data.len() as u32,
            tcp::Digests::of(0),
            0,
            |_| 0,
        );
        self.model.input(&[&head[..len], data].concat());
        answer(&self.model.out, self.next)
    }

    fn send(&mut self, message: &[u8]) -> Option<Status> {
        let fields = [0xe901_0100, message.len() as u32];
        self.command(command::FABRICS, fields, fctype::AUTH_SEND, message, 0).0
    }

    fn receive(&mut self, room: u32) {
        let (_, data) = self.command(command::FABRICS, [0xe901_0100, room], fctype::AUTH_RECEIVE, &[], room);
        if data.starts_with(&[1, 1]) {
            self.challenge = data;
        }
    }

    /// The reply to the challenge. `how`: bit 0 challenges the controller, 1 takes a wrong key, 2 sends the controller's own
    /// challenge back, 3 leaves the last byte out, 4 changes a byte, 5 responds as if no secure channel were wanted, 6 challenges
    /// for a PSK only.
    fn reply(&self, how: u8, at: u8) -> Option<(Vec<u8>, bool)> {
        let names = Names {
            host: HOST.into(),
            subsystem: SUBSYSTEM.into(),
        };
        let theirs = Challenge::parse(&self.challenge)?;
        let own = match how & 4 {
            0 => vec![0x42; theirs.hash.size()],
            _ => theirs.challenge.clone(),
        };
        let host = host::Host {
            names: &names,
            secret: &secret(if how & 2 != 0 { 9 } else { 1 })?,
            channel: if how & 32 != 0 { 0 } else { self.channel },
            transaction: TRANSACTION,
        };
        let own = (how & 1 != 0).then_some((&own[..], if how & 64 != 0 { 0 } else { 77 }));
        let mut bytes = host.answer(&theirs, own)?.message;
        if how & 8 != 0 {
            bytes.pop();
        }
        if how & 16 != 0 {
            let at = usize::from(at) * 3 % bytes.len();
            bytes[at] ^= 0x10;
        }
        Some((bytes, how & 2 == 0))
    }
}

/// The status of command `id` and its data, read from what went to the host (no digests).
fn answer(out: &[u8], id: u16) -> (Option<Status>, Vec<u8>) {
    let (mut at, mut data) = (0, Vec::new());
    while let Some(head) = out.get(at..at + 8) {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        assert!(
            len >= 8 && at + len <= out.len(),
            "a PDU of {len} bytes in {}",
            out.len() - at
        );
        let pdu = &out[at..at + len];
        match pdu[0] {
            5 if pdu[20..22] == id.to_le_bytes() => {
                return (Some(Status::from_wire(u16::from_le_bytes([pdu[22], pdu[23]]))), data);
            }
            7 => data.extend_from_slice(&pdu[usize::from(pdu[3])..]),
            _ => {}
        }
        at += len;
    }
    (None, data)
}

/// A queue opens for nobody who has not proved that he has the key, whatever is said in whatever order; nothing else may be
/// done before; and what a host is told is bounded. The first byte says whether the controller has a secret and which queue
/// this is; each deed after that is a byte and what it needs.
pub fn session(bytes: &[u8]) {
    let Some((&how, mut rest)) = bytes.split_first() else {
        return;
    };
    let mut model = Model::new(64);
    model.input(tcp::IcReq::new(tcp::Digests::of(0), 0, 1).as_bytes());
    model
        .session()
        .connected(u16::from(how >> 1 & 1), crate::nvmf::exercise::ENTRIES, true);
    let concatenation = match how >> 1 & 1 {
        0 => Concatenation::New,
        _ => Concatenation::Never,
    };
    model.gate = Some(Gate::new(how & 1 != 0, concatenation));
    let mut host = Host {
        model,
        challenge: Vec::new(),
        channel: 0,
        honest: false,
        next: 0,
    };
    for _ in 0..DEEDS {
        let Some((&deed, after)) = rest.split_first() else {
            break;
        };
        if host.model.closed {
            break;
        }
        let (one, two) = (after.first().copied().unwrap_or(0), after.get(1).copied().unwrap_or(0));
        let some = |from: usize| {
            after
                .get(from..)
                .map_or(&[][..], |r| &r[..r.len().min(usize::from(one))])
        };
        let mut used = 2;
        match deed % 8 {
            0 => {
                let message = some(1);
                used = 1 + message.len();
                host.send(message);
            }
            1 => {
                host.channel = two;
                let pick =
                    |ids: &[u8], mask: u8| ids.iter().copied().filter(|id| mask >> id & 1 != 0).collect::<Vec<_>>();
                let (hashes, groups) = (pick(&[1, 2, 3], one), pick(&[0, 1, 2], one >> 4));
                let mut message = vec![
                    0,
                    0,
                    0,
                    0,
                    TRANSACTION as u8,
                    0,
                    two,
                    1,
                    1,
                    0,
                    hashes.len() as u8,
                    groups.len() as u8,
                ];
                message.resize(72, 0);
                message[12..12 + hashes.len()].copy_from_slice(&hashes);
                message[42..42 + groups.len()].copy_from_slice(&groups);
                host.send(&message);
            }
            2 => {
                if let Some((message, right)) = host.reply(one, two) {
                    host.honest |= right;
                    host.send(&message);
                }
            }
            3 => drop(host.send(&[1, 4, 0, 0, TRANSACTION as u8 ^ one, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            4 => drop(host.send(&[0, 0xf0, 0, 0, TRANSACTION as u8, 0, 1, one])),
            5 => host.receive(if one == 0 { MAX_LEN as u32 } else { u32::from(one) * 8 }),
            6 => {
                let open = host.model.gate.as_ref().is_some_and(Gate::is_open);
                let (status, _) = host.command(io::FLUSH, [0; 2], 0, &[], 0);
                let refused = status == Some(Status::AUTHENTICATION_REQUIRED);
                assert!(
                    host.model.closed || refused != open,
                    "open {open}, but a flush ends with {status:?}"
                );
            }
            _ => {
                let wire = some(1);
                used = 1 + wire.len();
                host.model.input(wire);
            }
        }
        rest = after.get(used..).unwrap_or_default();
        let open = host.model.gate.as_ref().is_some_and(Gate::is_open);
        assert!(!open || host.honest, "open for somebody who never proved anything");
        assert!(
            host.model.out.len() <= 64 << 10,
            "{} bytes for the host",
            host.model.out.len()
        );
    }
    assert!(host.model.session().busy() <= crate::nvmf::exercise::ENTRIES as usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The queue after these deeds.
    fn opens(deeds: &[u8]) -> bool {
        let mut model = Model::new(64);
        model.input(tcp::IcReq::new(tcp::Digests::of(0), 0, 1).as_bytes());
        model.session().connected(0, 8, true);
        model.gate = Some(Gate::new(true, Concatenation::New));
        let mut host = Host {
            model,
            challenge: Vec::new(),
            channel: 0,
            honest: false,
            next: 0,
        };
        let mut message = vec![0, 0, 0, 0, 5, 0, 0, 1, 1, 0, 1, 1];
        message.resize(72, 0);
        (message[12], message[42]) = (1, 0);
        assert_eq!(host.send(&message), Some(Status::SUCCESS));
        host.receive(MAX_LEN as u32);
        let (reply, _) = host.reply(deeds[0], 0).unwrap();
        assert_eq!(host.send(&reply), Some(Status::SUCCESS));
        if deeds[0] & 1 != 0 {
            host.receive(MAX_LEN as u32);
            host.send(&[1, 4, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        host.model.gate.unwrap().is_open()
    }

    #[test]
    fn the_host_of_the_exercise_gets_in_when_it_is_right_and_only_then() {
        assert_eq!(
            [0, 1, 2, 3, 5, 8, 16].map(|how| opens(&[how])),
            [true, true, false, false, false, false, false]
        );
    }

    #[test]
    fn the_corpus_replays() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/nvme_auth_session");
        let files = std::fs::read_dir(dir)
            .unwrap()
            .map(|file| std::fs::read(file.unwrap().path()).unwrap());
        assert!(files.map(|bytes| session(&bytes)).count() >= 6);
    }
}
