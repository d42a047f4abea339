//! The target's session against the host's codec, in memory: no socket, no clock, exact bytes.
use load::nvme::{Event, Wire, crc32c};
use proptest::prelude::*;
use spec::nvme::{
    Cqe, Sgl, Sqe, Status,
    command::io,
    fabrics::{Connect, ConnectData},
    tcp::{self, DataHeader, Digests, Header, Kind},
};
use target::nvmf::{
    exercise::{BLOCK, ENTRIES, LIMITS, Model},
    session::{CONNECT_TIMEOUT, DATA_TIMEOUT},
};
use zerocopy::IntoBytes;

const NONE: Digests = Digests {
    header: false,
    data: false,
};
const BOTH: Digests = Digests {
    header: true,
    data: true,
};

/// A host and a target with nothing between them.
struct Pair {
    wire: Wire,
    target: Model,
}

impl Pair {
    /// After ICReq and Connect of queue 1.
    fn connected(digests: Digests, no_flow_control: bool) -> Self {
        let mut pair = Self {
            wire: Wire::default(),
            target: Model::new(256),
        };
        let mut bytes = Vec::new();
        pair.wire.hello(digests, &mut bytes);
        let events = pair.send(&bytes);
        assert_eq!(
            events,
            [Event::Open {
                digests,
                max_h2c_data: LIMITS.max_io
            }]
        );
        let connect = Connect {
            format: 0,
            qid: 1,
            sqsize: 7,
            no_flow_control,
            keep_alive_ms: 0,
        };
        let data = ConnectData::new([1; 16], 0xffff, "nqn.2026-11.io.ashlar:t", "nqn.2026-11.io.ashlar:h");
        let events = pair.command(connect.sqe(0), data.as_bytes());
        assert!(
            matches!(&events[..], [Event::Response(cqe)] if cqe.status().is_success()),
            "{events:?}"
        );
        pair
    }

    /// Sends bytes; returns what came back. Data comes with its bytes in `data`.
    fn send(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.target.input(bytes);
        self.events().0
    }

    fn events(&mut self) -> (Vec<Event>, Vec<u8>) {
        let out = std::mem::take(&mut self.target.out);
        let (mut events, mut data, mut at) = (Vec::new(), Vec::new(), 0);
        while let Some((used, event)) = self.wire.input(&out[at..]) {
            if let Event::Data { bytes, .. } = &event {
                data.extend_from_slice(&out[at..][bytes.clone()]);
            }
            events.push(event);
            at += used;
        }
        assert_eq!(at, out.len(), "half a PDU");
        (events, data)
    }

    fn command(&mut self, sqe: Sqe, data: &[u8]) -> Vec<Event> {
        let mut bytes = Vec::new();
        self.wire.command(&sqe, data, &mut bytes);
        self.send(&bytes)
    }

    fn status(&mut self, sqe: Sqe, data: &[u8]) -> Status {
        match &self.command(sqe, data)[..] {
            [Event::Response(cqe)] => {
                assert_eq!(cqe.cid, sqe.cid);
                cqe.status()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Writes and reads back; returns what was read.
    fn write_and_read(&mut self, lba: u64, data: &[u8], in_capsule: bool) -> Vec<u8> {
        let blocks = (data.len() / BLOCK) as u32;
        let sqe = Sqe::new(io::WRITE, 21, 1).with_range(lba, blocks);
        if in_capsule {
            assert_eq!(
                self.status(sqe.with_sgl(Sgl::in_capsule(data.len() as u32)), data),
                Status::SUCCESS
            );
        } else {
            let events = self.command(sqe.with_sgl(Sgl::transport(data.len() as u32)), &[]);
            let [
                Event::Wanted {
                    cid: 21,
                    tag,
                    offset: 0,
                    len,
                },
            ] = events[..]
            else {
                panic!("{events:?}")
            };
            assert_eq!(len as usize, data.len());
            let mut bytes = Vec::new();
            self.wire.data(21, tag, 0, data, &mut bytes);
            let events = self.send(&bytes);
            assert!(
                matches!(&events[..], [Event::Response(cqe)] if cqe.status().is_success()),
                "{events:?}"
            );
        }
        let sqe = Sqe::new(io::READ, 22, 1)
            .with_range(lba, blocks)
            .with_sgl(Sgl::transport(data.len() as u32));
        let mut bytes = Vec::new();
        self.wire.command(&sqe, &[], &mut bytes);
        self.target.input(&bytes);
        self.events().1
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn data_goes_both_ways_in_capsules_and_by_request_with_and_without_digests() {
    for digests in [
        NONE,
        BOTH,
        Digests {
            header: true,
            data: false,
        },
        Digests {
            header: false,
            data: true,
        },
    ] {
        let mut pair = Pair::connected(digests, true);
        let small = pattern(4096);
        assert_eq!(pair.write_and_read(8, &small, true), small);
        let large = pattern(64 << 10);
        assert_eq!(pair.write_and_read(16, &large, false), large);
        assert_eq!(pair.target.disk[8 * BLOCK..16 * BLOCK], small);
    }
}

#[test]
fn a_read_is_answered_with_these_bytes() {
    let mut pair = Pair::connected(NONE, true);
    pair.target.disk[BLOCK..2 * BLOCK].fill(0x5a);
    let sqe = Sqe::new(io::READ, 0x0102, 1)
        .with_range(1, 1)
        .with_sgl(Sgl::transport(512));
    let mut bytes = Vec::new();
    pair.wire.command(&sqe, &[], &mut bytes);
    pair.target.input(&bytes);
    // One C2HData with LAST and SUCCESS, nothing else: the host gave up flow control.
    assert_eq!(
        pair.target.out[..24],
        [
            7, 12, 24, 24, 24, 2, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0
        ]
    );
    assert_eq!(pair.target.out[24..], [0x5a; 512]);
}

#[test]
fn with_flow_control_every_answer_says_how_far_the_queue_is_read() {
    let mut pair = Pair::connected(NONE, false);
    let mut heads = Vec::new();
    for cid in 0..10 {
        let sqe = Sqe::new(io::READ, cid, 1)
            .with_range(0, 1)
            .with_sgl(Sgl::transport(512));
        match &pair.command(sqe, &[])[..] {
            [Event::Data { success: false, .. }, Event::Response(cqe)] => heads.push(cqe.sq_head.get()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heads, [2, 3, 4, 5, 6, 7, 0, 1, 2, 3]);
}

#[test]
fn many_capsules_in_one_receive_are_all_answered() {
    let mut pair = Pair::connected(NONE, true);
    let mut bytes = Vec::new();
    for cid in 0..100 {
        pair.wire.command(&Sqe::new(io::FLUSH, cid, 1), &[], &mut bytes);
    }
    let cids: Vec<u16> = pair
        .send(&bytes)
        .into_iter()
        .map(|e| match e {
            Event::Response(cqe) => cqe.cid.get(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(cids, (0..100).collect::<Vec<u16>>());
}

#[test]
fn wrong_descriptors_fail_the_command_and_spare_the_connection() {
    let mut pair = Pair::connected(BOTH, true);
    let data = pattern(512);
    let write = Sqe::new(io::WRITE, 5, 1).with_range(0, 1);
    let cases = [
        (
            write.with_sgl(Sgl {
                kind: 0x30,
                ..Sgl::in_capsule(512)
            }),
            &data[..],
            Status::SGL_TYPE_INVALID,
        ),
        (
            write.with_sgl(Sgl {
                address: 8.into(),
                ..Sgl::in_capsule(512)
            }),
            &data[..],
            Status::SGL_OFFSET_INVALID,
        ),
        (
            write.with_sgl(Sgl::in_capsule(1024)),
            &data[..],
            Status::DATA_SGL_LENGTH_INVALID,
        ),
        (write.with_sgl(Sgl::transport(512)), &data[..], Status::INVALID_FIELD),
        (
            write.with_sgl(Sgl::transport(LIMITS.max_io + 1)),
            &[][..],
            Status::INVALID_FIELD,
        ),
        (
            Sqe {
                flags: 0x41,
                ..write.with_sgl(Sgl::in_capsule(512))
            },
            &data[..],
            Status::INVALID_FIELD,
        ),
        (
            Sqe {
                flags: 0,
                ..write.with_sgl(Sgl::in_capsule(512))
            },
            &data[..],
            Status::INVALID_FIELD,
        ),
        (
            Sqe::new(io::READ, 5, 1).with_range(0, 1).with_sgl(Sgl::in_capsule(512)),
            &data[..],
            Status::SGL_TYPE_INVALID,
        ),
        (
            Sqe::new(io::READ, 5, 1).with_range(0, 2).with_sgl(Sgl::transport(512)),
            &[][..],
            Status::DATA_SGL_LENGTH_INVALID,
        ),
    ];
    for (sqe, data, status) in cases {
        assert_eq!(pair.status(sqe, data), status, "{sqe:?}");
    }
    let good = pattern(512);
    assert_eq!(pair.write_and_read(0, &good, true), good);
}

#[test]
fn a_wrong_data_digest_fails_the_command_alone() {
    let mut pair = Pair::connected(BOTH, true);
    let data = pattern(512);
    let sqe = Sqe::new(io::WRITE, 5, 1)
        .with_range(0, 1)
        .with_sgl(Sgl::in_capsule(512));
    let mut bytes = Vec::new();
    pair.wire.command(&sqe, &data, &mut bytes);
    let n = bytes.len();
    bytes[n - 10] ^= 1;
    let events = pair.send(&bytes);
    assert!(
        matches!(&events[..], [Event::Response(cqe)] if cqe.status() == Status::TRANSIENT_TRANSPORT_ERROR),
        "{events:?}"
    );
    assert!(pair.target.disk.iter().all(|&b| b == 0));
    assert_eq!(pair.write_and_read(0, &data, true), data);
}

#[test]
fn what_breaks_the_transport_ends_the_connection_with_the_right_word() {
    let terminated = |digests, bytes: &dyn Fn(&mut Pair) -> Vec<u8>| {
        let mut pair = Pair::connected(digests, true);
        let bytes = bytes(&mut pair);
        let events = pair.send(&bytes);
        assert!(pair.target.closed);
        match events.last() {
            Some(&Event::Terminated { error, info }) => (error, info),
            other => panic!("{other:?}"),
        }
    };
    // An unknown PDU type; a length that is too short; a second ICReq; a type only controllers send.
    assert_eq!(terminated(NONE, &|_| vec![0x0a, 0, 24, 0, 24, 0, 0, 0]), (1, 0));
    assert_eq!(terminated(NONE, &|_| vec![4, 0, 72, 0, 8, 0, 0, 0]), (1, 4));
    assert_eq!(terminated(NONE, &|_| vec![0, 0, 128, 0, 128, 0, 0, 0]), (2, 0));
    assert_eq!(terminated(NONE, &|_| vec![5, 0, 24, 0, 24, 0, 0, 0]), (2, 0));
    // A capsule with more data than agreed is not waited for.
    assert_eq!(terminated(NONE, &|_| vec![4, 0, 72, 72, 0, 0, 1, 0]), (1, 4));
    // A header digest that does not fit.
    let bad_digest = |pair: &mut Pair| {
        let mut bytes = Vec::new();
        pair.wire.command(&Sqe::new(io::FLUSH, 1, 1), &[], &mut bytes);
        bytes[72..76].copy_from_slice(&[1, 2, 3, 4]);
        bytes
    };
    assert_eq!(terminated(BOTH, &bad_digest), (3, 0x0403_0201));
    // Data nobody asked for.
    let h2c = |tag: u16, cid: u16, offset: u32, len: u32, last: bool| {
        let pdu = DataHeader::new(
            Kind::H2cData,
            if last { tcp::FLAG_LAST } else { 0 },
            cid,
            tag,
            offset,
            len,
        );
        let mut head = [0; tcp::HEAD_MAX];
        let n = tcp::seal(&mut head, pdu.as_bytes(), len, NONE, 0, crc32c);
        let mut bytes = head[..n].to_vec();
        bytes.resize(n + len as usize, 0);
        bytes
    };
    assert_eq!(terminated(NONE, &|_| h2c(3, 1, 0, 512, true)), (1, 10));
    assert_eq!(terminated(NONE, &|_| h2c(999, 1, 0, 512, true)), (1, 10));
    // Data that was asked for, but not like this: wrong command, a gap, too much, an end too early.
    let asked = |then: &dyn Fn(u16) -> Vec<u8>| {
        terminated(NONE, &|pair| {
            let sqe = Sqe::new(io::WRITE, 9, 1)
                .with_range(0, 16)
                .with_sgl(Sgl::transport(8192));
            let events = pair.command(sqe, &[]);
            let [Event::Wanted { tag, .. }] = events[..] else {
                panic!("{events:?}")
            };
            then(tag)
        })
    };
    assert_eq!(asked(&|tag| h2c(tag, 8, 0, 8192, true)), (1, 8));
    assert_eq!(asked(&|tag| h2c(tag, 9, 512, 512, false)), (4, 0));
    assert_eq!(asked(&|tag| h2c(tag, 9, 0, 8704, true)), (4, 0));
    assert_eq!(asked(&|tag| h2c(tag, 9, 0, 4096, true)), (1, 1));
    assert_eq!(asked(&|tag| h2c(tag, 9, 0, 8192, false)), (1, 1));
}

#[test]
fn a_bad_hello_is_refused_by_its_field() {
    let hello = |change: &dyn Fn(&mut [u8])| {
        let (mut target, mut wire, mut bytes) = (Model::new(1), Wire::default(), Vec::new());
        wire.hello(NONE, &mut bytes);
        change(&mut bytes);
        target.input(&bytes);
        wire.input(&target.out).map(|(_, event)| event)
    };
    assert_eq!(hello(&|b| b[8] = 1), Some(Event::Terminated { error: 6, info: 8 }));
    assert_eq!(hello(&|b| b[10] = 32), Some(Event::Terminated { error: 1, info: 10 }));
    assert_eq!(hello(&|b| b[0] = 4), Some(Event::Terminated { error: 1, info: 2 }));
    assert_eq!(
        hello(&|b| b[..8].copy_from_slice(&[4, 0, 72, 0, 72, 0, 0, 0])),
        Some(Event::Terminated { error: 2, info: 0 })
    );
    // A host that says goodbye gets no answer.
    assert_eq!(hello(&|b| b[..8].copy_from_slice(&[2, 0, 24, 0, 24, 0, 0, 0])), None);
}

#[test]
fn a_full_queue_holds_back_what_comes_next() {
    let mut pair = Pair::connected(NONE, true);
    pair.target.hold = true;
    let mut bytes = Vec::new();
    for cid in 0..ENTRIES as u16 + 3 {
        pair.wire.command(&Sqe::new(io::FLUSH, cid, 1), &[], &mut bytes);
    }
    assert_eq!(pair.send(&bytes), []);
    assert_eq!(pair.target.held.len(), ENTRIES as usize);
    pair.target.hold = false;
    for slot in std::mem::take(&mut pair.target.held) {
        pair.target.run(slot);
    }
    assert_eq!(pair.send(&[]).len(), ENTRIES as usize + 3);
}

#[test]
fn an_aborted_command_is_answered_once_and_keeps_its_slot_until_it_is_done() {
    let mut pair = Pair::connected(NONE, true);
    pair.target.hold = true;
    assert_eq!(pair.command(Sqe::new(io::FLUSH, 77, 1), &[]), []);
    let slot = pair.target.session().running(77).unwrap();
    struct Bytes(Vec<u8>);
    impl target::nvmf::session::Sink for Bytes {
        fn bytes(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes)
        }
        fn data(&mut self, _: target::nvmf::session::Payload) {}
        fn crc(&mut self, _: target::nvmf::session::Payload) -> u32 {
            0
        }
    }
    let mut out = Bytes(Vec::new());
    pair.target.session().abort(slot, &mut out);
    let (_, event) = pair.wire.input(&out.0).unwrap();
    assert_eq!(event, Event::Response(Cqe::new(77, 0, Status::ABORTED_BY_REQUEST, 0)));
    assert!(
        !pair.target.session().release(slot),
        "the device may still write into its buffer"
    );
    assert_eq!(pair.target.session().busy(), 1);
    pair.target.run(slot);
    assert_eq!(pair.send(&[]), [], "answered already");
    assert_eq!(pair.target.session().busy(), 0);
}

#[test]
fn patience_has_an_end_before_connect_and_while_data_is_owed() {
    let second = 1_000_000_000;
    let mut idle = Model::new(1);
    assert!(!idle.session().expired(CONNECT_TIMEOUT.as_nanos() as u64 - 1));
    assert!(idle.session().expired(CONNECT_TIMEOUT.as_nanos() as u64));
    let mut pair = Pair::connected(NONE, true);
    assert_eq!(pair.target.session().deadline(), None);
    let events = pair.command(
        Sqe::new(io::WRITE, 9, 1)
            .with_range(0, 16)
            .with_sgl(Sgl::transport(8192)),
        &[],
    );
    assert!(matches!(events[..], [Event::Wanted { .. }]));
    assert!(pair.target.session().expired(DATA_TIMEOUT.as_nanos() as u64 + second));
}

#[test]
fn the_corpus_replays() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/nvme_session");
    let mut count = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        target::nvmf::exercise::session(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 5, "{count} files");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However the bytes are cut, and whatever the digests and sizes: what is written is what is read.
    #[test]
    fn any_cut_of_any_traffic_means_the_same(
        digests in 0u8..4,
        writes in prop::collection::vec((0u64..120, 1u32..100), 1..12),
        cuts in prop::collection::vec(1usize..3000, 1..50),
    ) {
        let mut pair = Pair::connected(Digests::of(digests), true);
        let mut expected = vec![0; 256 * BLOCK];
        for (i, &(lba, blocks)) in writes.iter().enumerate() {
            let len = blocks as usize * BLOCK;
            let data: Vec<u8> = (0..len).map(|n| (n + i * 31) as u8).collect();
            expected[lba as usize * BLOCK..][..len].copy_from_slice(&data);
            let sqe = Sqe::new(io::WRITE, i as u16, 1).with_range(lba, blocks);
            let in_capsule = len <= 4096;
            let mut bytes = Vec::new();
            if in_capsule {
                pair.wire.command(&sqe.with_sgl(Sgl::in_capsule(len as u32)), &data, &mut bytes);
            } else {
                pair.wire.command(&sqe.with_sgl(Sgl::transport(len as u32)), &[], &mut bytes);
            }
            let mut done = false;
            while !done {
                let mut rest = &bytes[..];
                let mut events = Vec::new();
                for &cut in cuts.iter().cycle() {
                    if rest.is_empty() { break }
                    let (piece, after) = rest.split_at(cut.min(rest.len()));
                    events.extend(pair.send(piece));
                    rest = after;
                }
                bytes.clear();
                for event in events {
                    match event {
                        Event::Wanted { cid, tag, offset, len } =>
                            pair.wire.data(cid, tag, offset, &data[offset as usize..][..len as usize], &mut bytes),
                        Event::Response(cqe) => { prop_assert!(cqe.status().is_success()); done = true }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        prop_assert!(pair.target.disk == expected);
    }

    /// Whatever a stranger sends.
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        target::nvmf::exercise::session(&bytes);
    }

    /// A true header with lies in it, again and again.
    #[test]
    fn lying_headers_never_panic(
        how in any::<u8>(),
        pdus in prop::collection::vec((0usize..6, 0usize..24, any::<u8>(), 0usize..600), 1..20),
    ) {
        let mut bytes = vec![how];
        for (kind, at, value, data) in pdus {
            let kind = [0u8, 2, 4, 6, 4, 6][kind];
            let hlen = Kind::of(kind).map_or(24, Kind::header_len);
            let plen = (hlen + data) as u32;
            let header = Header { kind, flags: 0, hlen: hlen as u8, pdo: if data > 0 { hlen as u8 } else { 0 }, plen: plen.into() };
            let mut pdu = header.as_bytes().to_vec();
            pdu.resize(plen as usize, value);
            pdu[at % 24] = value;
            bytes.extend(pdu);
        }
        target::nvmf::exercise::session(&bytes);
    }
}
