//! A warm 4 KiB read and write from the PDU to the medium and back: no call to the allocator, no lock, and below the
//! session no byte copied by the CPU.
#[path = "../rig/iscsi.rs"]
#[allow(dead_code)]
mod iscsi;

use iscsi::{Host, LEN, transfer, volumes};
use reactor::{
    counters::{bytes_copied, locks_taken},
    testing::{CountingAlloc, allocations},
};
use spec::scsi::Cdb;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc;

/// Allocations, locks and bytes copied so far.
fn spent() -> (u64, u64, u64) {
    (allocations(), locks_taken(), bytes_copied())
}

#[test]
fn warm_reads_and_writes_cost_no_allocation_no_lock_and_no_copy() {
    for (name, table) in volumes() {
        let (before, after) = Host::tell(name, table, |mut host| async move {
            host.warm_up().await;
            let before = spent();
            for _ in 0..500 {
                let wire = host.io(true).await;
                assert_eq!((wire.header[0], wire.header[3], wire.payload), (0x21, 0, 0));
                let wire = host.io(false).await;
                assert_eq!((wire.header[0], wire.header[3], wire.payload), (0x25, 0, LEN as usize));
            }
            (before, spent())
        });
        assert_eq!(
            before, after,
            "allocations, locks and bytes copied around 1000 I/Os on {name}"
        );
    }
}

/// What the criterion bench of the same name measures allocates nothing either.
#[test]
fn a_ping_and_a_dispatch_allocate_nothing() {
    for (name, table) in volumes() {
        let (before, after) = Host::tell(name, table, |mut host| async move {
            host.warm_up().await;
            host.ping();
            let before = spent();
            for n in 0..500 {
                assert_eq!(host.ping().header[0], 0x20, "NOP-In");
                assert!(host.execute(Cdb([0; 16])).await.sense.is_none());
                let read = host.execute(transfer(false, n)).await;
                assert_eq!(read.data.map(|data| data.len()), Some(LEN as usize));
            }
            (before, spent())
        });
        assert_eq!(before, after, "on {name}");
    }
}
