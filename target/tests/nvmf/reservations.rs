//! Reservations between two hosts: who is turned away, who is told, and whose commands end.
use super::bench::*;
use bdev::{NodeSpec, Table};
use load::nvme::{Client, Options};
use spec::nvme::{
    Sgl, Sqe, Status,
    command::{admin, io},
    feature::{self, fid},
    identify::{IdentifyNamespace, cns},
    log::page,
    reservation::{Notice, Report, ReservationType},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use target::nvmf::{NamespaceConfig, SubsystemConfig, TransportOptions};
use zerocopy::FromBytes;

pub struct Host {
    pub admin: Client,
    pub io: Client,
    nsid: u32,
}

impl Host {
    pub fn new(bench: &Bench, name: u8, nsid: u32) -> Self {
        let options = Options {
            hostnqn: format!("nqn.2026-11.io.ashlar:host-{name}"),
            host_id: [name; 16],
            ..Options::default()
        };
        let (admin, io) = bench.queues(&options);
        Self { admin, io, nsid }
    }

    fn ask(&mut self, opcode: u8, word: u32, current: u64, other: u64) -> Status {
        let sqe = Sqe::new(opcode, 0, self.nsid).with_cdw1(0, word);
        let keys = [current.to_le_bytes(), other.to_le_bytes()].concat();
        plain(self.io.call(sqe, &keys).unwrap().cqe.status())
    }

    fn register(&mut self, key: u64) -> Status {
        self.ask(io::RESERVATION_REGISTER, 0, 0, key)
    }

    fn acquire(&mut self, key: u64, kind: ReservationType) -> Status {
        self.ask(io::RESERVATION_ACQUIRE, (kind as u32) << 8, key, 0)
    }

    fn preempt_and_abort(&mut self, key: u64, other: u64, kind: ReservationType) -> Status {
        self.ask(io::RESERVATION_ACQUIRE, (kind as u32) << 8 | 2, key, other)
    }

    fn report(&mut self) -> Report {
        let sqe = Sqe::new(io::RESERVATION_REPORT, 0, self.nsid)
            .with_cdw1(0, 1024 / 4 - 1)
            .with_cdw1(1, 1)
            .with_sgl(Sgl::transport(1024));
        Report::parse(&self.io.call(sqe, &[]).unwrap().data).unwrap()
    }

    fn flush(&mut self) -> Status {
        plain(
            self.io
                .call(Sqe::new(io::FLUSH, 0, self.nsid), &[])
                .unwrap()
                .cqe
                .status(),
        )
    }

    fn read(&mut self) -> Status {
        let sqe = Sqe::new(io::READ, 0, self.nsid)
            .with_range(0, 1)
            .with_sgl(Sgl::transport(512));
        plain(self.io.call(sqe, &[]).unwrap().cqe.status())
    }

    /// Waits for the next notice and reads it.
    fn notice(&mut self) -> (u8, u32) {
        self.admin
            .submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[])
            .unwrap();
        self.admin.flush().unwrap();
        let event = self.admin.completion().unwrap().cqe.result.get() as u32;
        assert_eq!(event, feature::EVENT_RESERVATION);
        let log = self.admin.log_page(page::RESERVATION, 0, 64, false).unwrap().data;
        (log[8], log[12].into())
    }
}

#[test]
fn a_reservation_keeps_the_other_host_out_until_it_registers_or_preempts() {
    let bench = Bench::new(2);
    let (mut a, mut b) = (Host::new(&bench, 1, 1), Host::new(&bench, 2, 1));
    let id = a.admin.identify(cns::NAMESPACE, 1).unwrap();
    assert_eq!(IdentifyNamespace::ref_from_bytes(&id).unwrap().rescap, 0xfe);

    assert_eq!(
        a.acquire(1, ReservationType::WriteExclusive),
        Status::RESERVATION_CONFLICT
    );
    assert_eq!((a.register(0x11), b.register(0x22)), (Status::SUCCESS, Status::SUCCESS));
    assert_eq!(a.acquire(0x11, ReservationType::WriteExclusive), Status::SUCCESS);
    assert_eq!((a.flush(), a.read()), (Status::SUCCESS, Status::SUCCESS));
    assert_eq!((b.flush(), b.read()), (Status::RESERVATION_CONFLICT, Status::SUCCESS));
    let report = b.report();
    assert_eq!(
        (report.generation, report.kind),
        (2, Some(ReservationType::WriteExclusive))
    );
    let told: Vec<_> = report
        .registered
        .iter()
        .map(|r| (r.holds, r.key.get(), r.hostid))
        .collect();
    assert_eq!(told, [(1, 0x11, [1; 16]), (0, 0x22, [2; 16])]);

    // B takes it; A hears of that, keeps nothing, and is kept out of reads, too.
    assert_eq!(
        b.preempt_and_abort(0x22, 0x11, ReservationType::ExclusiveAccess),
        Status::SUCCESS
    );
    assert_eq!(a.notice(), (Notice::ReservationPreempted as u8, 1));
    assert_eq!(
        (a.read(), a.flush()),
        (Status::RESERVATION_CONFLICT, Status::RESERVATION_CONFLICT)
    );
    assert_eq!(b.read(), Status::SUCCESS);
    // The short report has no room for 16-byte host identifiers.
    let short = Sqe::new(io::RESERVATION_REPORT, 0, 1)
        .with_cdw1(0, 15)
        .with_sgl(Sgl::transport(64));
    let short = plain(a.io.call(short, &[]).unwrap().cqe.status());
    assert_eq!(short, Status::HOST_ID_INCONSISTENT);

    // A registers again; B clears; A is told and everybody may write.
    assert_eq!(a.register(0x33), Status::SUCCESS);
    assert_eq!(b.ask(io::RESERVATION_RELEASE, 1, 0x22, 0), Status::SUCCESS);
    assert_eq!(a.notice(), (Notice::ReservationPreempted as u8, 1));
    assert_eq!((a.flush(), b.flush()), (Status::SUCCESS, Status::SUCCESS));
    assert!(a.report().registered.is_empty());
}

#[test]
fn notices_can_be_masked_for_a_namespace() {
    let bench = Bench::new(1);
    let (mut a, mut b) = (Host::new(&bench, 1, 1), Host::new(&bench, 2, 1));
    let mask = |host: &mut Host, nsid: u32, value: u32| {
        let sqe = Sqe::new(admin::SET_FEATURES, 0, nsid)
            .with_cdw1(0, fid::RESERVATION_MASK.into())
            .with_cdw1(1, value);
        plain(host.admin.call(sqe, &[]).unwrap().cqe.status())
    };
    assert_eq!(mask(&mut a, 9, 0), Status::INVALID_NAMESPACE);
    assert_eq!(mask(&mut a, 1, Notice::ReservationReleased.mask()), Status::SUCCESS);
    a.register(1);
    b.register(2);
    let kind = ReservationType::WriteExclusiveRegistrantsOnly;
    assert_eq!(b.acquire(2, kind), Status::SUCCESS);
    assert_eq!(
        b.ask(io::RESERVATION_RELEASE, (kind as u32) << 8, 2, 0),
        Status::SUCCESS
    );
    assert_eq!(a.admin.log_page(page::RESERVATION, 0, 64, false).unwrap().data, [0; 64]);
    // Another notice is not masked.
    assert_eq!(b.acquire(2, kind), Status::SUCCESS);
    assert_eq!(b.preempt_and_abort(2, 1, kind), Status::SUCCESS);
    assert_eq!(a.notice(), (Notice::RegistrationPreempted as u8, 1));
}

#[test]
fn preempt_and_abort_ends_what_the_other_host_has_under_way_before_it_is_answered() {
    let bench = Bench::new(2);
    let slow = Table::Delay {
        on: "disk2".into(),
        avg_read_us: 400_000,
        p99_read_us: 400_000,
        avg_write_us: 0,
        p99_write_us: 0,
    };
    wait(bench.graph.build(NodeSpec::new("disk2", memory(64)))).unwrap();
    wait(bench.graph.build(NodeSpec::new("slow", slow))).unwrap();
    let volume = NamespaceConfig {
        volume: "slow".into(),
        ..Default::default()
    };
    let nsid = wait(bench.nvmf.add_namespace(NQN, volume)).unwrap();
    let (mut a, mut b) = (Host::new(&bench, 1, nsid), Host::new(&bench, 2, nsid));
    a.register(1);
    b.register(2);
    a.acquire(1, ReservationType::ExclusiveAccess);
    let sqe = Sqe::new(io::READ, 0, nsid)
        .with_range(0, 1)
        .with_sgl(Sgl::transport(512));
    let cid = a.io.submit(sqe, &[]).unwrap();
    a.io.flush().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    assert_eq!(
        b.preempt_and_abort(2, 1, ReservationType::ExclusiveAccess),
        Status::SUCCESS
    );
    assert!(
        began.elapsed() > Duration::from_millis(200),
        "the disk was not waited for"
    );
    let done = a.io.completion().unwrap().cqe;
    assert_eq!((done.cid.get(), done.status()), (cid, Status::ABORTED_BY_REQUEST));
}

// ---- through a power loss

fn keeping(dir: &Path) -> Bench {
    Bench::keeping(2, TransportOptions::default(), SubsystemConfig::new(NQN), Some(dir))
}

const PERSIST: u32 = 3 << 30;
const FORGET: u32 = 2 << 30;

fn persistence(host: &mut Host) -> u64 {
    let sqe = Sqe::new(admin::GET_FEATURES, 0, 1).with_cdw1(0, fid::RESERVATION_PERSISTENCE.into());
    host.admin.call(sqe, &[]).unwrap().cqe.result.get()
}

fn set_persistence(host: &mut Host, nsid: u32, to: u32) -> Status {
    let sqe = Sqe::new(admin::SET_FEATURES, 0, nsid)
        .with_cdw1(0, fid::RESERVATION_PERSISTENCE.into())
        .with_cdw1(1, to);
    plain(host.admin.call(sqe, &[]).unwrap().cqe.status())
}

#[test]
fn a_reservation_outlives_the_target_when_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let kind = ReservationType::ExclusiveAccess;
    {
        let bench = keeping(dir.path());
        let (mut a, mut b) = (Host::new(&bench, 1, 1), Host::new(&bench, 2, 1));
        let id = a.admin.identify(cns::NAMESPACE, 1).unwrap();
        assert_eq!(IdentifyNamespace::ref_from_bytes(&id).unwrap().rescap, 0xff);
        assert_eq!(persistence(&mut a), 0);
        assert_eq!(a.ask(io::RESERVATION_REGISTER, PERSIST, 0, 0x11), Status::SUCCESS);
        assert_eq!(
            (b.register(0x22), a.acquire(0x11, kind)),
            (Status::SUCCESS, Status::SUCCESS)
        );
        assert_eq!((persistence(&mut b), b.report().persists), (1, true));
    }
    {
        let bench = keeping(dir.path());
        let (mut a, mut b) = (Host::new(&bench, 1, 1), Host::new(&bench, 2, 1));
        let report = a.report();
        let told: Vec<_> = report
            .registered
            .iter()
            .map(|r| (r.holds, r.key.get(), r.hostid))
            .collect();
        assert_eq!(told, [(1, 0x11, [1; 16]), (0, 0x22, [2; 16])]);
        assert_eq!((report.generation, report.kind, report.persists), (0, Some(kind), true));
        assert_eq!((a.read(), b.read()), (Status::SUCCESS, Status::RESERVATION_CONFLICT));
        // The last word counts: a Clear is kept as well, and so is the wish not to be kept.
        assert_eq!(b.ask(io::RESERVATION_RELEASE, 1, 0x22, 0), Status::SUCCESS);
        assert_eq!(a.ask(io::RESERVATION_REGISTER, 0, 0, 0x33), Status::SUCCESS);
    }
    {
        let bench = keeping(dir.path());
        let (mut a, mut b) = (Host::new(&bench, 1, 1), Host::new(&bench, 2, 1));
        assert_eq!(
            (b.read(), b.report().registered.len(), persistence(&mut b)),
            (Status::SUCCESS, 1, 1)
        );
        assert_eq!(a.acquire(0x33, kind), Status::SUCCESS);
        assert_eq!(set_persistence(&mut a, 1, 0), Status::SUCCESS);
        assert_eq!(b.read(), Status::RESERVATION_CONFLICT, "it holds on for now");
    }
    let bench = keeping(dir.path());
    let mut b = Host::new(&bench, 2, 1);
    assert_eq!((b.read(), b.report().registered.len()), (Status::SUCCESS, 0));
    assert_eq!(std::fs::read_dir(dir.path().join("reservations")).unwrap().count(), 0);
}

#[test]
fn the_feature_keeps_what_there_is_and_the_register_command_forgets_it() {
    let dir = tempfile::tempdir().unwrap();
    {
        let bench = keeping(dir.path());
        let mut a = Host::new(&bench, 1, 1);
        assert_eq!(a.register(5), Status::SUCCESS);
        assert_eq!(set_persistence(&mut a, 9, 1), Status::INVALID_NAMESPACE);
        assert_eq!(set_persistence(&mut a, spec::nvme::NSID_ALL, 1), Status::SUCCESS);
    }
    {
        let bench = keeping(dir.path());
        let mut a = Host::new(&bench, 1, 1);
        assert_eq!(a.report().registered.len(), 1);
        assert_eq!(a.ask(io::RESERVATION_REGISTER, 2 | FORGET, 5, 6), Status::SUCCESS);
    }
    assert!(Host::new(&keeping(dir.path()), 1, 1).report().registered.is_empty());
}

#[test]
fn what_cannot_be_kept_is_not_promised() {
    // No folder: the capability is not there.
    let bench = Bench::new(1);
    let mut a = Host::new(&bench, 1, 1);
    assert_eq!(a.ask(io::RESERVATION_REGISTER, PERSIST, 0, 1), Status::INVALID_FIELD);
    assert_eq!(set_persistence(&mut a, 1, 1), Status::INVALID_FIELD);
    assert_eq!(set_persistence(&mut a, spec::nvme::NSID_ALL, 1), Status::INVALID_FIELD);
    assert!(a.report().registered.is_empty());

    // A folder that cannot be written to any more: an error, and everything is as it was.
    let dir = tempfile::tempdir().unwrap();
    let bench = keeping(dir.path());
    let (mut a, mut b) = (Host::new(&bench, 1, 1), Host::new(&bench, 2, 1));
    assert_eq!(a.ask(io::RESERVATION_REGISTER, PERSIST, 0, 1), Status::SUCCESS);
    let (folder, aside) = (dir.path().join("reservations"), dir.path().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    assert_eq!(b.register(2), Status::INTERNAL_ERROR);
    assert_eq!(a.acquire(1, ReservationType::WriteExclusive), Status::INTERNAL_ERROR);
    let report = a.report();
    assert_eq!((report.registered.len(), report.kind), (1, None));
    std::fs::rename(&aside, &folder).unwrap();
    assert_eq!(b.register(2), Status::SUCCESS);
    drop((a, b, bench));
    assert_eq!(Host::new(&keeping(dir.path()), 1, 1).report().registered.len(), 2);
}

#[test]
fn a_damaged_file_lets_nobody_in_until_a_registered_host_clears() {
    let dir = tempfile::tempdir().unwrap();
    {
        let bench = keeping(dir.path());
        let mut a = Host::new(&bench, 1, 1);
        assert_eq!(a.ask(io::RESERVATION_REGISTER, PERSIST, 0, 1), Status::SUCCESS);
    }
    let file = std::fs::read_dir(dir.path().join("reservations"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(&file, b"torn").unwrap();
    let bench = keeping(dir.path());
    let (mut a, mut b) = (Host::new(&bench, 1, 1), Host::new(&bench, 2, 1));
    assert_eq!(
        (a.read(), b.read()),
        (Status::RESERVATION_CONFLICT, Status::RESERVATION_CONFLICT)
    );
    assert_eq!(
        (b.register(7), b.read(), a.read()),
        (Status::SUCCESS, Status::SUCCESS, Status::RESERVATION_CONFLICT)
    );
    assert_eq!(b.ask(io::RESERVATION_RELEASE, 1, 7, 0), Status::SUCCESS);
    assert_eq!(a.read(), Status::SUCCESS);
}

#[test]
fn a_named_file_is_used_and_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ptpl.json");
    let named = || NamespaceConfig {
        volume: "second".into(),
        uuid: Some(uuid::Uuid::from_u128(2)),
        ptpl_file: Some(file.display().to_string()),
        ..Default::default()
    };
    let bench = || {
        let bench = Bench::new(1);
        wait(bench.graph.build(NodeSpec::new("second", memory(64)))).unwrap();
        bench
    };
    {
        let bench = bench();
        let nsid = wait(bench.nvmf.add_namespace(NQN, named())).unwrap();
        let mut a = Host::new(&bench, 1, nsid);
        assert_eq!(a.ask(io::RESERVATION_REGISTER, PERSIST, 0, 1), Status::SUCCESS);
        assert!(file.exists());
        let again = NamespaceConfig { uuid: None, ..named() };
        let refused = wait(bench.nvmf.add_namespace(NQN, again)).unwrap_err().to_string();
        assert!(refused.starts_with("ptpl_file: another namespace"), "{refused}");
    }
    let bench = bench();
    let foreign = NamespaceConfig {
        uuid: Some(uuid::Uuid::from_u128(3)),
        ..named()
    };
    let refused = wait(bench.nvmf.add_namespace(NQN, foreign)).unwrap_err().to_string();
    assert!(refused.contains("is of namespace"), "{refused}");
    let nsid = wait(bench.nvmf.add_namespace(NQN, named())).unwrap();
    assert_eq!(Host::new(&bench, 1, nsid).report().registered.len(), 1);
}
