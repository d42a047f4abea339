//! Every field of Identify and every log page is the truth or zero.
//!
//! The structures are walked byte by byte against tables: a byte that no row accounts for must be zero, so a field that is new
//! fails here until somebody says what it claims. Each claim is then tried: what is offered works, what is not is refused.
use super::{bench::*, reservations::Host};
use bdev::NodeSpec;
use load::nvme::{Client, Options};
use spec::nvme::{
    NSID_ALL, Sgl, Sqe, Status,
    command::{self, CopyRange, DsmRange, admin, io},
    fabrics::{Property, fctype},
    feature::{self, fid},
    identify::{IdentifyController, IdentifyNamespace, LEN, cns},
    log::{GetLogPage, page},
    property::{self, Cc},
};
use std::time::{Duration, Instant};
use target::nvmf::{AnaState, ListenAddress, NamespaceConfig, SubsystemConfig, TransportOptions};
use zerocopy::{FromBytes, IntoBytes};

/// A row: what it is called, where it is, how long it is, and its value (little-endian).
type Row = (&'static str, usize, usize, u128);

/// Fails at the first byte that is not what the rows say; what they do not mention is zero.
fn walk(what: &str, bytes: &[u8], rows: &[Row], texts: &[(usize, &[u8])]) {
    let mut expected = vec![0; bytes.len()];
    for &(name, at, len, value) in rows {
        assert!(
            expected[at..at + len].iter().all(|b| *b == 0),
            "{what}: {name} overlaps another row"
        );
        assert!(
            len == 16 || value < 1 << (8 * len),
            "{what}: {name} has no room for {value:#x}"
        );
        expected[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    }
    for (at, text) in texts {
        expected[*at..at + text.len()].copy_from_slice(text);
    }
    for (at, (found, wanted)) in bytes.iter().zip(&expected).enumerate() {
        let row = rows.iter().find(|(_, from, len, _)| (*from..from + len).contains(&at));
        let name = row.map_or("a field nobody accounts for", |row| row.0);
        assert_eq!(found, wanted, "{what}, byte {at} ({name})");
    }
}

fn status(queue: &mut Client, sqe: Sqe, data: &[u8]) -> Status {
    plain(queue.call(sqe, data).unwrap().cqe.status())
}

/// One that has all that a subsystem can have.
fn full() -> (Bench, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = SubsystemConfig {
        serial_number: Some("SN-1".into()),
        model_number: Some("Quarry".into()),
        ana_reporting: true,
        enable_nssr: true,
        max_namespaces: 32,
        ..SubsystemConfig::new(NQN)
    };
    let bench = Bench::keeping(2, TransportOptions::default(), config, Some(dir.path()));
    bench.nvmf.set_crdt([1, 2, 3]);
    (bench, dir)
}

const ONCS: u128 = 0x1ed;
const OAES: u128 = 1 << 8 | 1 << 11;
const LPA: u128 = 1 << 1 | 1 << 2 | 1 << 5;
const SGLS: u128 = 1 | 1 << 20 | 1 << 21;

#[test]
fn identify_controller_is_walked() {
    let (bench, _dir) = full();
    let mut admin = bench.admin();
    let bytes = admin.identify(cns::CONTROLLER, 0).unwrap();
    let rows: [Row; 32] = [
        // Several ports, several controllers, asymmetric access.
        ("CMIC", 76, 1, 0b1011),
        ("MDTS", 77, 1, 5),
        ("CNTLID", 78, 2, admin.cntlid.into()),
        ("VER", 80, 4, 0x20000),
        ("OAES", 92, 4, OAES),
        // 128-bit host identifiers, traffic based keep-alive (a_silent_host_is_shut_out_when_its_timer_runs_out).
        ("CTRATT", 96, 4, 1 | 1 << 6),
        ("CNTRLTYPE", 111, 1, 1),
        ("CRDT1", 128, 2, 1),
        ("CRDT2", 130, 2, 2),
        ("CRDT3", 132, 2, 3),
        ("ACL", 258, 1, 3),
        ("AERL", 259, 1, 3),
        // One slot, which cannot be written.
        ("FRMW", 260, 1, 3),
        ("LPA", 261, 1, LPA),
        ("ELPE", 262, 1, 63),
        ("KAS", 320, 2, 100),
        ("ANATT", 342, 1, 10),
        ("ANACAP", 343, 1, 0x1f),
        ("ANAGRPMAX", 344, 4, 32),
        ("NANAGRPID", 348, 4, 32),
        ("SQES", 512, 1, 0x66),
        ("CQES", 513, 1, 0x44),
        ("MAXCMD", 514, 2, 128),
        ("NN", 516, 4, 32),
        ("ONCS", 520, 2, ONCS),
        ("FUSES", 522, 2, 1),
        ("VWC", 525, 1, 7),
        ("OCFS", 534, 2, 1 | 1 << 2),
        ("SGLS", 536, 4, SGLS),
        ("MNAN", 540, 4, 32),
        ("IOCCSZ", 1792, 4, (64 + 4096) / 16),
        ("IORCSZ", 1796, 4, 1),
    ];
    let fixed: [Row; 1] = [("MSDBD", 1803, 1, 1)];
    let (mut serial, mut model) = ([b' '; 20], [b' '; 40]);
    serial[..4].copy_from_slice(b"SN-1");
    model[..6].copy_from_slice(b"Quarry");
    let firmware = format!("{:<8}", env!("CARGO_PKG_VERSION"));
    let texts = [
        (4, &serial[..]),
        (24, &model[..]),
        (64, firmware.as_bytes()),
        (768, NQN.as_bytes()),
    ];
    walk("Identify Controller", &bytes, &[&rows[..], &fixed].concat(), &texts);

    // A discovery controller claims much less.
    let mut discovery = Client::admin(bench.address, spec::nvme::DISCOVERY_NQN, &Options::default()).unwrap();
    let bytes = discovery.identify(cns::CONTROLLER, 0).unwrap();
    let rows: [Row; 14] = [
        ("MDTS", 77, 1, 5),
        ("CNTLID", 78, 2, discovery.cntlid.into()),
        ("VER", 80, 4, 0x20000),
        ("OAES", 92, 4, 1 << 31),
        ("CTRATT", 96, 4, 1 | 1 << 6),
        ("CNTRLTYPE", 111, 1, 2),
        ("AERL", 259, 1, 3),
        ("LPA", 261, 1, 1 << 2 | 1 << 5),
        ("KAS", 320, 2, 100),
        ("MAXCMD", 514, 2, 128),
        ("SGLS", 536, 4, SGLS),
        ("DCTYPE", 1806, 1, 1),
        ("IOCCSZ", 1792, 4, 0),
        ("IORCSZ", 1796, 4, 0),
    ];
    let model = format!("{:<40}", "Ashlar discovery controller");
    let serial = format!("{:<20}", "ASHLAR");
    let texts = [
        (4, serial.as_bytes()),
        (24, model.as_bytes()),
        (64, firmware.as_bytes()),
        (768, spec::nvme::DISCOVERY_NQN.as_bytes()),
    ];
    walk("Identify Controller of discovery", &bytes, &rows, &texts);
}

#[test]
fn properties_are_walked() {
    let (bench, _dir) = full();
    let mut admin = bench.admin();
    // MQES 127, CQR, TO 15 s, NSSRS, CSS: NVM and "one or more sets"; CRMS: ready with media.
    let cap = 127 | 1 << 16 | 30 << 24 | 1 << 36 | 1 << 37 | 1 << 43 | 1 << 59;
    let known = [
        (property::CAP, true, cap),
        (property::VS, false, 0x20000),
        (property::CC, false, u64::from(Cc::start().0)),
        (property::CSTS, false, 1),
        (property::NSSR, false, 0),
        (property::CRTO, false, 30),
    ];
    for offset in (0..0x80).step_by(4) {
        for wide in [false, true] {
            let done = admin.call(Property::get(0, offset, wide), &[]).unwrap().cqe;
            let found = plain(done.status()).is_success().then_some(done.result.get());
            let expected = known.iter().find(|k| (k.0, k.1) == (offset, wide)).map(|k| k.2);
            assert_eq!(found, expected, "property {offset:#x}, wide: {wide}");
            let written = [property::CC, property::CSTS, property::NSSR].contains(&offset);
            if !wide && !written {
                assert_eq!(
                    status(&mut admin, Property::set(0, offset, 0), &[]),
                    Status::INVALID_FIELD,
                    "{offset:#x}"
                );
            }
        }
    }
    // MQES: a queue of 128 entries and no more.
    admin.request_queues(4).unwrap();
    for (qid, entries, fits) in [(1, 128, true), (2, 129, false)] {
        let options = Options {
            entries,
            ..Options::default()
        };
        assert_eq!(
            admin.io_queue(bench.address, NQN, qid, &options).is_ok(),
            fits,
            "{entries}"
        );
    }
    // CSS, MPS, AMS, IOSQES, IOCQES: other values than offered do not make a controller ready.
    for bad in [1 << 4, 1 << 7, 1 << 11, 1 << 16, 1 << 20] {
        assert_eq!(
            status(&mut admin, Property::set(0, property::CC, 0), &[]),
            Status::SUCCESS
        );
        assert_eq!(
            status(&mut admin, Property::set(0, property::CC, Cc::start().0 ^ bad), &[]),
            Status::SUCCESS
        );
        assert_eq!(admin.property(property::CSTS, false).unwrap(), 2, "CC {bad:#x}");
    }
}

#[test]
fn every_opcode_is_there_or_refused_as_the_effects_log_says() {
    let (bench, _dir) = full();
    let (mut admin, mut io) = bench.queues(&Options::default());
    let log = admin.log_page(page::COMMAND_EFFECTS, 0, 4096, false).unwrap().data;
    let told = |at: usize| u32::from_le_bytes(*log[at..].first_chunk().unwrap());
    let mut rows: Vec<Row> = Vec::new();
    for opcode in [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18] {
        rows.push(("an admin command", opcode * 4, 4, 1));
    }
    for opcode in [0x00, 0x02, 0x05, 0x0c, 0x0d, 0x0e, 0x11, 0x15] {
        rows.push(("an I/O command", 1024 + opcode * 4, 4, 1));
    }
    for opcode in [0x01, 0x08, 0x09, 0x19] {
        rows.push(("an I/O command that changes data", 1024 + opcode * 4, 4, 3));
    }
    walk("Commands Supported and Effects", &log, &rows, &[]);
    for opcode in (0..=u8::MAX).filter(|o| *o != command::FABRICS && *o != admin::ASYNC_EVENT_REQUEST) {
        let refused = status(&mut admin, Sqe::new(opcode, 0, 0), &[]) == Status::INVALID_OPCODE;
        assert_eq!(refused, told(usize::from(opcode) * 4) == 0, "admin command {opcode:#x}");
    }
    for opcode in (0..=u8::MAX).filter(|o| *o != command::FABRICS) {
        let refused = status(&mut io, Sqe::new(opcode, 0, 1), &[]) == Status::INVALID_OPCODE;
        assert_eq!(
            refused,
            told(1024 + usize::from(opcode) * 4) == 0,
            "I/O command {opcode:#x}"
        );
    }
    // ONCS says the same in its own bits; bit 4 (save in Set Features) and bit 6 (timestamp) are about features.
    let id = admin.identify(cns::CONTROLLER, 0).unwrap();
    let id = IdentifyController::ref_from_bytes(&id).unwrap();
    let by_bit = [
        (0, io::COMPARE),
        (1, io::WRITE_UNCORRECTABLE),
        (2, io::DATASET_MANAGEMENT),
        (3, io::WRITE_ZEROES),
        (5, io::RESERVATION_REGISTER),
        (5, io::RESERVATION_REPORT),
        (5, io::RESERVATION_ACQUIRE),
        (5, io::RESERVATION_RELEASE),
        (7, io::VERIFY),
        (8, io::COPY),
    ];
    for (bit, opcode) in by_bit {
        let claimed = id.oncs.get() >> bit & 1 == 1;
        assert_eq!(claimed, told(1024 + usize::from(opcode) * 4) != 0, "ONCS bit {bit}");
    }
    let save = Sqe::new(admin::SET_FEATURES, 0, 0).with_cdw1(0, 1 << 31 | 1);
    assert_eq!(status(&mut admin, save, &[]), Status::FEATURE_NOT_SAVEABLE);
    let timestamp = Sqe::new(admin::SET_FEATURES, 0, 0).with_cdw1(0, fid::TIMESTAMP.into());
    assert_eq!(status(&mut admin, timestamp, &[0; 8]), Status::SUCCESS);
    // OACS is zero: none of its commands is there (security, format, firmware, namespaces, self-test, directives, MI,
    // virtualization, doorbell buffer, LBA status).
    for opcode in [
        0x81, 0x82, 0x80, 0x10, 0x11, 0x0d, 0x15, 0x14, 0x19, 0x1a, 0x1d, 0x1e, 0x1c, 0x7c, 0x86, 0x84,
    ] {
        assert_eq!(told(opcode * 4), 0, "{opcode:#x}");
    }
    // OFCS is zero: there is no Disconnect.
    let disconnect = Sqe::new(command::FABRICS, 0, u32::from(fctype::DISCONNECT));
    assert_eq!(status(&mut io, disconnect, &[]), Status::INVALID_FIELD);
}

#[test]
fn what_is_masked_is_neither_announced_nor_done() {
    let options = TransportOptions {
        masked_oncs: 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8,
        masked_fuses: 1,
        ..TransportOptions::default()
    };
    let bench = Bench::with(1, options);
    let (mut admin, mut io) = bench.queues(&Options::default());
    let id = admin.identify(cns::CONTROLLER, 0).unwrap();
    let id = IdentifyController::ref_from_bytes(&id).unwrap();
    assert_eq!((id.oncs.get(), id.ocfs.get(), id.fuses.get()), (1 << 6 | 1 << 7, 0, 0));
    let log = admin.log_page(page::COMMAND_EFFECTS, 0, 4096, false).unwrap().data;
    for opcode in [0x05, 0x09, 0x08, 0x0d, 0x0e, 0x11, 0x15, 0x19] {
        assert_eq!(
            status(&mut io, Sqe::new(opcode, 0, 1), &[]),
            Status::INVALID_OPCODE,
            "{opcode:#x}"
        );
        assert_eq!(log[1024 + usize::from(opcode) * 4], 0, "{opcode:#x}");
    }
    let fused = Sqe {
        flags: 0x41,
        ..Sqe::new(io::COMPARE, 0, 1)
    };
    let cid = io.submit(fused, &pattern(BLOCK, 1)).unwrap();
    let write = Sqe {
        flags: 0x42,
        ..Sqe::new(io::WRITE, 0, 1)
    };
    io.submit(write, &pattern(BLOCK, 1)).unwrap();
    io.flush().unwrap();
    for _ in 0..2 {
        let done = io.completion().unwrap().cqe;
        assert_eq!(plain(done.status()), Status::INVALID_FIELD, "{}", done.cid.get() == cid);
    }
}

#[test]
fn a_subsystem_of_several_processes_promises_nothing_that_one_keeps_to_itself() {
    let config = SubsystemConfig {
        shared: true,
        ..SubsystemConfig::new(NQN)
    };
    let bench = Bench::keeping(1, TransportOptions::default(), config, None);
    let (mut admin, mut io) = bench.queues(&Options::default());
    let id = admin.identify(cns::CONTROLLER, 0).unwrap();
    let id = IdentifyController::ref_from_bytes(&id).unwrap();
    assert_eq!((id.oncs.get() & 1 << 5, id.fuses.get()), (0, 0));
    let ns = admin.identify(cns::NAMESPACE, 1).unwrap();
    assert_eq!(IdentifyNamespace::ref_from_bytes(&ns).unwrap().rescap, 0);
    // Byte 2 of the independent one.
    assert_eq!(admin.identify(cns::NAMESPACE_ANY_COMMAND_SET, 1).unwrap()[2], 0);
    let log = admin.log_page(page::COMMAND_EFFECTS, 0, 4096, false).unwrap().data;
    for opcode in [0x0d, 0x0e, 0x11, 0x15] {
        assert_eq!(status(&mut io, Sqe::new(opcode, 0, 1), &[]), Status::INVALID_OPCODE);
        assert_eq!(log[1024 + usize::from(opcode) * 4], 0, "{opcode:#x}");
    }
    // Compare alone is as true as anybody's.
    assert_eq!(write(&mut io, 0, &pattern(BLOCK, 1)), Status::SUCCESS);
    let compare = Sqe::new(io::COMPARE, 0, 1).with_range(0, 1);
    assert_eq!(status(&mut io, compare, &pattern(BLOCK, 1)), Status::SUCCESS);
}

#[test]
fn limits_are_where_identify_says() {
    let (bench, _dir) = full();
    let (mut admin, mut io) = bench.queues(&Options::default());
    let id = admin.identify(cns::CONTROLLER, 0).unwrap();
    let id = IdentifyController::ref_from_bytes(&id).unwrap();
    let ns = admin.identify(cns::NAMESPACE, 1).unwrap();
    let ns = IdentifyNamespace::ref_from_bytes(&ns).unwrap();
    let block = 1u32 << ns.lbaf[0].block_shift;
    // MDTS, and VSL, which Verify goes by.
    let most = (4096 << id.mdts) / block;
    assert!(read(&mut io, 0, most).is_ok());
    assert_eq!(plain(read(&mut io, 0, most + 1).unwrap_err()), Status::INVALID_FIELD);
    let verify = |blocks| Sqe::new(io::VERIFY, 0, 1).with_range(0, blocks);
    assert_eq!(status(&mut io, verify(most), &[]), Status::SUCCESS);
    assert_eq!(status(&mut io, verify(most + 1), &[]), Status::INVALID_FIELD);
    // NSZE.
    assert!(read(&mut io, ns.nsze.get() - 1, 1).is_ok());
    assert_eq!(
        plain(read(&mut io, ns.nsze.get(), 1).unwrap_err()),
        Status::LBA_OUT_OF_RANGE
    );
    // IOCCSZ: in the capsule up to there, by R2T beyond; both are written whole. A capsule with more ends the connection.
    let in_capsule = (id.ioccsz.get() * 16 - 64) as usize;
    assert_eq!((io.in_capsule, in_capsule), (4096, 4096));
    for len in [in_capsule, in_capsule + BLOCK] {
        let data = pattern(len, len);
        assert_eq!(write(&mut io, 0, &data), Status::SUCCESS);
        assert_eq!(read(&mut io, 0, (len / BLOCK) as u32).unwrap(), data);
    }
    // NN.
    assert_eq!(admin.identify(cns::NAMESPACE, id.nn.get()).unwrap(), [0; LEN]);
    assert!(admin.identify(cns::NAMESPACE, id.nn.get() + 1).is_err());
    let far = NamespaceConfig {
        volume: "disk".into(),
        uuid: Some(uuid::Uuid::from_u128(77)),
        nsid: Some(id.nn.get() + 1),
        ..Default::default()
    };
    assert!(wait(bench.nvmf.add_namespace(NQN, far)).is_err());
    // AERL and ELPE.
    for _ in 0..=id.aerl {
        admin.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
    }
    let beyond = Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0);
    assert_eq!(status(&mut admin, beyond, &[]), Status::AER_LIMIT_EXCEEDED);
    let entries = u32::from(id.elpe) + 1;
    for _ in 0..entries + 6 {
        status(&mut io, Sqe::new(0x44, 0, 1), &[]);
    }
    let log = admin.log_page(page::ERRORS, 0, entries * 64, false).unwrap().data;
    assert!(log.chunks(64).all(|entry| entry[..8] != [0; 8]), "an entry is empty");
    // KAS: timeouts go up in its steps.
    let step = u32::from(id.kas.get()) * 100;
    admin.set_feature(fid::KEEP_ALIVE_TIMER, step + 1).unwrap();
    let sqe = Sqe::new(admin::GET_FEATURES, 0, 0).with_cdw1(0, fid::KEEP_ALIVE_TIMER.into());
    assert_eq!(admin.call(sqe, &[]).unwrap().cqe.result.get(), u64::from(2 * step));
    // SGLS: bit 20, an offset in the capsule (only 0 occurs); bit 21, transport blocks (every read here). No others:
    // bit bucket, keyed, segments, a list of several (MSDBD 1).
    for kind in [0x00, 0x10, 0x20, 0x30, 0x40, 0x4a, 0x4f, 0x5b] {
        let sgl = Sgl {
            kind,
            ..Sgl::transport(BLOCK as u32)
        };
        let sqe = Sqe::new(io::READ, 0, 1).with_range(0, 1).with_sgl(sgl);
        assert_eq!(status(&mut io, sqe, &[]), Status::SGL_TYPE_INVALID, "{kind:#x}");
    }
    // PRPs are not for fabrics.
    let prp = Sqe {
        flags: 0,
        ..Sqe::new(io::READ, 0, 1).with_range(0, 1)
    };
    assert_eq!(status(&mut io, prp, &[]), Status::INVALID_FIELD);
    // VWC: Flush of one and of all.
    for nsid in [1, NSID_ALL] {
        assert_eq!(status(&mut io, Sqe::new(io::FLUSH, 0, nsid), &[]), Status::SUCCESS);
    }
    // FUSES: Compare and Write (fused.rs); every other pair is refused.
    for (first, fuse) in [(io::WRITE, 1), (io::READ, 1), (io::COMPARE, 2), (io::COMPARE, 3)] {
        let sqe = Sqe {
            flags: 0x40 | fuse,
            ..Sqe::new(first, 0, 1)
        };
        assert_eq!(
            status(&mut io, sqe, &[]),
            Status::INVALID_FIELD,
            "{first:#x} with FUSE {fuse}"
        );
    }
    // WZSL, DMRL and what the command set's own Identify says.
    let sqe = Sqe::new(admin::IDENTIFY, 0, 0)
        .with_cdw1(0, cns::CONTROLLER_IN_COMMAND_SET.into())
        .with_sgl(Sgl::transport(4096));
    let nvm = admin.call(sqe, &[]).unwrap().data;
    let rows: [Row; 5] = [
        ("VSL", 0, 1, 5),
        ("WZSL", 1, 1, 12),
        ("DMRL", 3, 1, 255),
        ("DMRSL", 4, 4, 2_097_152),
        ("DMSL", 8, 8, 2_097_152 * 255),
    ];
    walk("Identify Controller, NVM", &nvm, &rows, &[]);
    let ranges = [DsmRange {
        blocks: 1.into(),
        ..DsmRange::default()
    }; 255];
    let dsm = Sqe::new(io::DATASET_MANAGEMENT, 0, 1).with_cdw1(0, 254).with_cdw1(1, 4);
    assert_eq!(status(&mut io, dsm, ranges.as_bytes()), Status::SUCCESS);
    wait(bench.graph.build(NodeSpec::new("large", memory(65_536)))).unwrap();
    let large = NamespaceConfig {
        volume: "large".into(),
        ..Default::default()
    };
    let large = wait(bench.nvmf.add_namespace(NQN, large)).unwrap();
    let zeroes = |blocks| Sqe::new(io::WRITE_ZEROES, 0, large).with_range(0, blocks);
    assert_eq!(status(&mut io, zeroes((4096 << 12) / block), &[]), Status::SUCCESS);
    assert_eq!(
        status(&mut io, zeroes((4096 << 12) / block + 1), &[]),
        Status::INVALID_FIELD
    );
}

#[test]
fn identify_namespace_is_walked() {
    let (bench, _dir) = full();
    let (mut admin, mut io) = bench.queues(&Options::default());
    let bytes = admin.identify(cns::NAMESPACE, 1).unwrap();
    let uuid = 0x6f2d1a34u128;
    let rows: [Row; 17] = [
        ("NSZE", 0, 8, BLOCKS.into()),
        ("NCAP", 8, 8, BLOCKS.into()),
        ("NUSE", 16, 8, BLOCKS.into()),
        // NSABP (atomicity of this namespace), OPTPERF (the hints below).
        ("NSFEAT", 24, 1, 1 << 1 | 1 << 4),
        ("NMIC", 30, 1, 1),
        ("RESCAP", 31, 1, 0xff),
        // Deallocated blocks read zeroes, Write Zeroes may deallocate.
        ("DLFEAT", 33, 1, 1 | 1 << 3),
        ("NACWU", 38, 2, 255),
        ("NVMCAP", 48, 16, u128::from(BLOCKS) * 512),
        ("NPWG", 64, 2, 0),
        ("NPWA", 66, 2, 0),
        ("NPDG", 68, 2, 7),
        ("NPDA", 70, 2, 7),
        ("MSSRL", 74, 2, 256),
        ("MCL", 76, 4, 256 * 128),
        ("MSRC", 80, 1, 127),
        ("ANAGRPID", 92, 4, 1),
    ];
    let more: [Row; 2] = [
        ("NGUID", 104, 16, u128::from_le_bytes(uuid.to_be_bytes())),
        ("LBADS", 130, 1, 9),
    ];
    walk("Identify Namespace", &bytes, &[&rows[..], &more].concat(), &[]);
    let id = IdentifyNamespace::ref_from_bytes(&bytes).unwrap();
    let independent: [Row; 4] = [
        ("NMIC", 1, 1, 1),
        ("RESCAP", 2, 1, 0xff),
        ("ANAGRPID", 4, 4, 1),
        ("NSTAT", 14, 1, 1),
    ];
    let bytes = admin.identify(cns::NAMESPACE_ANY_COMMAND_SET, 1).unwrap();
    walk("Identify Namespace, any set", &bytes, &independent, &[]);
    walk(
        "Identify Namespace, NVM",
        &admin.identify(cns::NAMESPACE_IN_COMMAND_SET, 1).unwrap(),
        &[],
        &[],
    );
    walk(
        "Identify Namespace, all",
        &admin.identify(cns::NAMESPACE, NSID_ALL).unwrap(),
        &[],
        &[],
    );

    // DLFEAT: what is deallocated reads as zeroes, by Dataset Management and by Write Zeroes with DEAC.
    let range = [DsmRange {
        blocks: 8.into(),
        ..DsmRange::default()
    }];
    let by_dsm = Sqe::new(io::DATASET_MANAGEMENT, 0, 1).with_cdw1(1, 4);
    let by_zeroes = Sqe::new(io::WRITE_ZEROES, 0, 1).with_cdw1(2, 1 << 25).with_range(0, 8);
    for (sqe, data) in [(by_dsm, range.as_bytes()), (by_zeroes, &[])] {
        assert_eq!(write(&mut io, 0, &pattern(8 * BLOCK, 4)), Status::SUCCESS);
        assert_eq!(status(&mut io, sqe, data), Status::SUCCESS);
        assert_eq!(read(&mut io, 0, 8).unwrap(), vec![0; 8 * BLOCK]);
    }
    // RESCAP: each type (bits 6:1), persistence (0), IEKEY (7).
    let mut host = Host::new(&bench, 5, 1);
    let mut ask = |opcode: u8, word: u32, current: u64, other: u64| {
        let keys = [current.to_le_bytes(), other.to_le_bytes()].concat();
        status(&mut host.io, Sqe::new(opcode, 0, 1).with_cdw1(0, word), &keys)
    };
    assert_eq!(ask(io::RESERVATION_REGISTER, 3 << 30, 0, 9), Status::SUCCESS);
    for kind in 1..=6 {
        assert_eq!(id.rescap >> kind & 1, 1);
        assert_eq!(
            ask(io::RESERVATION_ACQUIRE, kind << 8, 9, 0),
            Status::SUCCESS,
            "type {kind}"
        );
        assert_eq!(
            ask(io::RESERVATION_RELEASE, kind << 8, 9, 0),
            Status::SUCCESS,
            "type {kind}"
        );
    }
    assert_eq!(ask(io::RESERVATION_ACQUIRE, 7 << 8, 9, 0), Status::INVALID_FIELD);
    assert_eq!(
        ask(io::RESERVATION_ACQUIRE, 1 << 8 | 1 << 3, 9, 0),
        Status::INVALID_FIELD,
        "IEKEY is for Register"
    );
    assert_eq!(ask(io::RESERVATION_REGISTER, 1 | 1 << 3, 77, 0), Status::SUCCESS);
    // MSSRL and MSRC: the most that one copy may be asked for.
    let copy = |ranges: u32| Sqe::new(io::COPY, 0, 1).with_cdw1(0, 4096).with_cdw1(2, ranges - 1);
    let source = |blocks: u16| CopyRange::new(0, 0, blocks.into());
    let most = vec![source(2); usize::from(id.msrc) + 1];
    assert_eq!(
        status(&mut io, copy(most.len() as u32), most.as_bytes()),
        Status::SUCCESS
    );
    let beyond = vec![source(2); most.len() + 1];
    assert_eq!(
        status(&mut io, copy(beyond.len() as u32), beyond.as_bytes()),
        Status::COMMAND_SIZE_LIMIT
    );
    for (blocks, wanted) in [
        (id.mssrl.get(), Status::SUCCESS),
        (id.mssrl.get() + 1, Status::COMMAND_SIZE_LIMIT),
    ] {
        assert_eq!(
            status(&mut io, copy(1), source(blocks).as_bytes()),
            wanted,
            "{blocks} blocks"
        );
    }
    // OCFS: format 0; format 2 for hosts that have said so (copy.rs); no other.
    for format in [1, 3, 4] {
        let sqe = Sqe::new(io::COPY, 0, 1).with_cdw1(0, 4096).with_cdw1(2, format << 8);
        assert_eq!(
            status(&mut io, sqe, source(1).as_bytes()),
            Status::INVALID_FIELD,
            "format {format}"
        );
    }
}

#[test]
fn every_cns_is_answered_or_refused() {
    let (bench, _dir) = full();
    let mut admin = bench.admin();
    let second = bench.admin();
    let known = [0, 1, 2, 3, 5, 6, 7, 8, 0x10, 0x11, 0x12, 0x13, 0x1c];
    for what in 0..=u8::MAX {
        // Lists begin behind a namespace, the rest is about one.
        let nsid = if [2, 7, 0x10].contains(&what) { 0 } else { 1 };
        let answer = admin.identify(what, nsid);
        assert_eq!(answer.is_ok(), known.contains(&what), "CNS {what:#x}: {answer:?}");
    }
    assert_eq!(
        admin.identify(0x11, 1).unwrap(),
        admin.identify(cns::NAMESPACE, 1).unwrap()
    );
    let active: [Row; 1] = [("the namespace", 0, 4, 1)];
    for what in [2, 7, 0x10] {
        walk("a namespace list", &admin.identify(what, 0).unwrap(), &active, &[]);
    }
    let (one, two) = (admin.cntlid.min(second.cntlid), admin.cntlid.max(second.cntlid));
    let both: [Row; 3] = [
        ("how many", 0, 2, 2),
        ("one", 2, 2, one.into()),
        ("two", 4, 2, two.into()),
    ];
    for what in [0x12, 0x13] {
        walk("a controller list", &admin.identify(what, 1).unwrap(), &both, &[]);
    }
    let from_two = Sqe::new(admin::IDENTIFY, 0, 1)
        .with_cdw1(0, u32::from(two) << 16 | 0x13)
        .with_sgl(Sgl::transport(4096));
    let list: [Row; 2] = [("how many", 0, 2, 1), ("two", 2, 2, two.into())];
    walk(
        "a controller list",
        &admin.call(from_two, &[]).unwrap().data,
        &list,
        &[],
    );
    walk(
        "I/O command sets",
        &admin.identify(cns::COMMAND_SETS, 0).unwrap(),
        &[("NVM", 0, 8, 1)],
        &[],
    );
    let mut uuid = vec![2, 16, 0, 0];
    uuid.extend(0x6f2d1a34u128.to_be_bytes());
    uuid.extend([3, 16, 0, 0]);
    uuid.extend(0x6f2d1a34u128.to_be_bytes());
    uuid.extend([4, 1, 0, 0, 0]);
    walk(
        "descriptors",
        &admin.identify(cns::NAMESPACE_DESCRIPTORS, 1).unwrap(),
        &[],
        &[(0, &uuid)],
    );
}

#[test]
fn every_log_page_is_there_or_refused_and_walked() {
    let (bench, _dir) = full();
    let (mut admin, mut io) = bench.queues(&Options::default());
    let known: [usize; 9] = [0, 1, 2, 3, 4, 5, 0x0c, 0x12, 0x80];
    let rows: Vec<Row> = known.iter().map(|page| ("a log page", page * 4, 4, 1)).collect();
    walk(
        "Supported Log Pages",
        &admin.log_page(page::SUPPORTED, 0, 1024, false).unwrap().data,
        &rows,
        &[],
    );
    for page in 0..=u8::MAX {
        let there = plain(admin.log_page(page, 0, 64, true).unwrap().cqe.status());
        let expected = match known.contains(&page.into()) {
            true => Status::SUCCESS,
            false => Status::INVALID_LOG_PAGE,
        };
        assert_eq!(there, expected, "log page {page:#x}");
    }
    // LPA bit 0 is not set: no health of a single namespace.
    let ask = GetLogPage {
        page: page::HEALTH,
        specific: 0,
        retain: false,
        len: 512,
        offset: 0,
        index: false,
        command_set: 0,
    };
    let health = ask
        .put(Sqe::new(admin::GET_LOG_PAGE, 0, 1))
        .with_sgl(Sgl::transport(512));
    assert_eq!(status(&mut admin, health, &[]), Status::INVALID_FIELD);

    // Health: what this host has done, and nothing else.
    for n in 0..10 {
        assert_eq!(write(&mut io, n * 256, &pattern(256 * BLOCK, 1)), Status::SUCCESS);
    }
    for n in 0..3 {
        read(&mut io, n * 256, 256).unwrap();
    }
    assert!(read(&mut io, BLOCKS, 1).is_err());
    let until = Instant::now() + Duration::from_secs(5);
    let errors = admin.log_page(page::HEALTH, 0, 512, false).unwrap().data[176];
    loop {
        let bytes = admin.log_page(page::HEALTH, 0, 512, false).unwrap().data;
        if bytes[64] == 3 && bytes[80] == 10 || Instant::now() > until {
            let rows: [Row; 6] = [
                ("available spare", 3, 1, 100),
                // Thousands of 512 bytes, rounded up: 768 and 2,560.
                ("data units read", 32, 16, 1),
                ("data units written", 48, 16, 3),
                ("host read commands", 64, 16, 3),
                ("host write commands", 80, 16, 10),
                ("error log entries", 176, 16, errors.into()),
            ];
            walk("SMART / Health", &bytes, &rows, &[]);
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let firmware = format!("{:<8}", env!("CARGO_PKG_VERSION"));
    let slot: [Row; 1] = [("AFI", 0, 1, 1)];
    let log = admin.log_page(page::FIRMWARE, 0, 512, false).unwrap().data;
    walk("Firmware Slot", &log, &slot, &[(8, firmware.as_bytes())]);
    walk(
        "Changed Namespaces",
        &admin.log_page(page::CHANGED_NAMESPACES, 0, 4096, false).unwrap().data,
        &[],
        &[],
    );
    walk(
        "Reservation Notification",
        &admin.log_page(page::RESERVATION, 0, 64, false).unwrap().data,
        &[],
        &[],
    );
    let ana: [Row; 6] = [
        ("change count", 0, 8, 1),
        ("groups", 8, 2, 1),
        ("ANAGRPID", 16, 4, 1),
        ("namespaces of it", 20, 4, 1),
        ("its change count", 24, 8, 1),
        ("its state", 32, 1, 1),
    ];
    let namespace: [Row; 1] = [("NSID", 48, 4, 1)];
    let log = admin.log_page(page::ANA, 0, 4096, false).unwrap().data;
    walk("ANA", &log, &[&ana[..], &namespace].concat(), &[]);
}

#[test]
fn every_feature_is_there_or_refused_as_its_log_says() {
    let (bench, _dir) = full();
    let mut admin = bench.admin();
    const CONTROLLER: u128 = 1 | 1 << 21;
    const NAMESPACE: u128 = 1 | 1 << 20;
    let of_controller = [1, 2, 4, 5, 6, 7, 0x0a, 0x0b, 0x0e, 0x0f, 0x16, 0x81];
    let mut rows: Vec<Row> = of_controller
        .iter()
        .map(|id| ("a feature", id * 4, 4, CONTROLLER))
        .collect();
    rows.extend([0x82, 0x83].map(|id| ("a feature of namespaces", id * 4, 4, NAMESPACE)));
    let log = admin.log_page(page::FEATURE_EFFECTS, 0, 1024, false).unwrap().data;
    walk("Feature Identifiers Supported and Effects", &log, &rows, &[]);
    for id in 0..=u8::MAX {
        let room = match id {
            fid::TIMESTAMP => 8,
            fid::HOST_BEHAVIOR => 512,
            fid::HOST_IDENTIFIER => 16,
            _ => 0,
        };
        let sqe = Sqe::new(admin::GET_FEATURES, 0, 1)
            .with_cdw1(0, id.into())
            .with_cdw1(1, u32::from(id == fid::HOST_IDENTIFIER))
            .with_sgl(Sgl::transport(room));
        let there = status(&mut admin, sqe, &[]);
        let expected = match log[usize::from(id) * 4] {
            0 => Status::INVALID_FIELD,
            _ => Status::SUCCESS,
        };
        assert_eq!(there, expected, "feature {id:#x}");
    }
}

#[test]
fn every_event_that_is_announced_comes() {
    let (bench, _dir) = full();
    let mut admin = bench.admin();
    let set = |admin: &mut Client, bits: u32| admin.set_feature(fid::ASYNC_EVENT_CONFIG, bits).unwrap();
    set(&mut admin, feature::AEN_NAMESPACE_ATTRIBUTE | feature::AEN_ANA);
    let next = |admin: &mut Client| {
        admin.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
        admin.flush().unwrap();
        admin.completion().unwrap().cqe.result.get() as u32
    };
    let here = ListenAddress { socket: bench.address };
    for state in AnaState::ALL.into_iter().skip(1).chain([AnaState::Optimized]) {
        bench.nvmf.set_listener_ana_state(NQN, &here, Some(32), state).unwrap();
        assert_eq!(next(&mut admin), feature::EVENT_ANA_CHANGED, "{state:?}");
        admin.log_page(page::ANA, 0, 64, false).unwrap();
    }
    assert!(
        bench
            .nvmf
            .set_listener_ana_state(NQN, &here, Some(33), AnaState::Optimized)
            .is_err()
    );
    wait(bench.graph.build(NodeSpec::new("second", memory(64)))).unwrap();
    let second = |group| NamespaceConfig {
        volume: "second".into(),
        anagrpid: Some(group),
        ..Default::default()
    };
    assert!(
        wait(bench.nvmf.add_namespace(NQN, second(33))).is_err(),
        "more than ANAGRPMAX"
    );
    wait(bench.nvmf.add_namespace(NQN, second(32))).unwrap();
    assert_eq!(next(&mut admin), feature::EVENT_NAMESPACE_CHANGED);
}
