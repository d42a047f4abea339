//! Resets of a whole subsystem.
use super::bench::*;
use load::nvme::{Client, Options};
use spec::nvme::{
    Sqe, Status,
    command::{admin, io},
    fabrics::Property,
    property::{self, CSTS_SUBSYSTEM_RESET, Cap, Cc},
};
use target::nvmf::{SubsystemConfig, TransportOptions};

fn set(admin: &mut Client, offset: u32, value: u32) -> Status {
    plain(admin.call(Property::set(0, offset, value), &[]).unwrap().cqe.status())
}

#[test]
fn a_subsystem_reset_ends_every_controllers_queues_and_says_so() {
    let config = SubsystemConfig {
        enable_nssr: true,
        ..SubsystemConfig::new(NQN)
    };
    let bench = Bench::keeping(2, TransportOptions::default(), config, None);
    let options = Options::default();
    let (mut one, mut first) = bench.queues(&options);
    let (mut two, mut second) = bench.queues(&options);
    assert!(Cap::from_value(one.property(property::CAP, true).unwrap()).subsystem_reset);
    assert_eq!(write(&mut first, 3, &pattern(BLOCK, 9)), Status::SUCCESS);
    let waiting = two.submit(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0, 0), &[]).unwrap();
    two.flush().unwrap();

    assert_eq!(
        set(&mut one, property::NSSR, 1),
        Status::SUCCESS,
        "another value does nothing"
    );
    assert_eq!(one.property(property::CSTS, false).unwrap(), 1);
    assert_eq!(set(&mut one, property::NSSR, property::NSSR_RESET), Status::SUCCESS);
    assert_eq!(one.property(property::NSSR, false).unwrap(), 0);
    let ended = two.completion().unwrap().cqe;
    assert_eq!(
        (ended.cid.get(), plain(ended.status())),
        (waiting, Status::ABORTED_SQ_DELETION)
    );
    for (admin, io) in [(&mut one, &mut first), (&mut two, &mut second)] {
        assert!(
            io.call(Sqe::new(io::FLUSH, 0, 1), &[]).is_err(),
            "an I/O queue outlived the reset"
        );
        assert_eq!(
            admin.property(property::CSTS, false).unwrap(),
            u64::from(CSTS_SUBSYSTEM_RESET)
        );
        assert_eq!(admin.property(property::CC, false).unwrap(), 0);
        assert_eq!(set(admin, property::CSTS, CSTS_SUBSYSTEM_RESET), Status::SUCCESS);
        assert_eq!(admin.property(property::CSTS, false).unwrap(), 0);
        assert_eq!(set(admin, property::CC, Cc::start().0), Status::SUCCESS);
        let mut io = admin.io_queue(bench.address, NQN, 1, &options).unwrap();
        assert_eq!(read(&mut io, 3, 1).unwrap(), pattern(BLOCK, 9));
    }
}

#[test]
fn where_it_was_not_allowed_nobody_can_reset_the_subsystem() {
    let bench = Bench::new(1);
    let mut admin = bench.admin();
    assert!(!Cap::from_value(admin.property(property::CAP, true).unwrap()).subsystem_reset);
    assert_eq!(
        set(&mut admin, property::NSSR, property::NSSR_RESET),
        Status::INVALID_FIELD
    );
    assert_eq!(
        set(&mut admin, property::CSTS, CSTS_SUBSYSTEM_RESET),
        Status::INVALID_FIELD
    );
    assert_eq!(admin.property(property::CSTS, false).unwrap(), 1);
}
