//! Queues that move from a core that has much to do to one that has little.
use super::bench::*;
use load::nvme::Options;
use spec::nvme::{Status, tcp::Digests};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Connections go to the cores in turn, so that here both admin queues are on one core and both I/O queues on the other. Under load
/// one of those moves, and neither host notices: every block is what was written, by capsule and by R2T, with digests and without.
#[test]
fn a_queue_moves_when_one_core_does_all_the_work_and_no_command_is_lost() {
    let bench = Bench::new(2);
    let options = |bits| Options {
        digests: Digests::of(bits),
        ..Options::default()
    };
    let hosts = [bench.queues(&options(0)), bench.queues(&options(3))];
    let cores = || -> BTreeSet<usize> {
        let pairs = bench.nvmf.qpairs(NQN).unwrap();
        pairs.iter().filter(|q| q.qid > 0).map(|q| q.core).collect()
    };
    assert_eq!(cores().len(), 1, "they are on different cores from the start");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads: Vec<_> = hosts
            .into_iter()
            .enumerate()
            .map(|(n, (admin, mut io))| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        round += 1;
                        let blocks = if round % 8 == 0 { 64 } else { 1 };
                        let (lba, data) = ((n * 4096 + round % 60 * 64) as u64, pattern(blocks * BLOCK, round));
                        assert_eq!(write(&mut io, lba, &data), Status::SUCCESS);
                        assert_eq!(read(&mut io, lba, blocks as u32).unwrap(), data, "round {round}");
                    }
                    (admin, io, round)
                })
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(20);
        while cores().len() == 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        let spread = cores();
        // It goes on where it is now.
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<_> = loads.into_iter().map(|load| load.join()).collect();
        assert_eq!(spread.len(), 2, "no queue moved");
        for (n, host) in ended.into_iter().enumerate() {
            let (mut admin, mut io, rounds) = host.expect("a host saw an error");
            println!("host {n}: {rounds} rounds");
            // The controller still finds its queue: it ends with a reset.
            let disable = spec::nvme::fabrics::Property::set(0, spec::nvme::property::CC, 0);
            assert!(admin.call(disable, &[]).unwrap().cqe.status().is_success());
            assert!(io.completion().is_err());
        }
    });
    let counts = bench.nvmf.controllers(NQN).unwrap();
    assert!(counts.iter().all(|c| c.num_io_qpairs == 0), "{counts:?}");
}
