//! The harness of the power cuts against plans made by hand: it must find what is wrong with a bad one.
#[path = "crash/mod.rs"]
mod crash;

use crash::{
    Lab,
    image::Image,
    now, stamp,
    sweep::{Swept, sweep},
};
use lvol::plan::{Disks, Draft, Plan, Request};
use spec::mbr::{Entry, Record};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn record(start: u32) -> [u8; 512] {
    let mut record = Record::new(7);
    let entry = |start, count| {
        Some(Entry {
            active: false,
            kind: 0x83,
            start,
            count,
        })
    };
    assert!(record.set(1, entry(start, 100)) && record.set(2, entry(9000, 50)));
    record.to_bytes()
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.add(Image::new("d", 10_000, 512));
    lab.put("d", 0, &record(2048));
    lab.discover();
    assert_eq!(lab.names(), ["d", "dp1", "dp2"]);
    lab
}

fn draft(lab: &Lab, steps: &[&[(u64, [u8; 512])]], intent: bool) -> Plan {
    let mut draft = Draft::new(lab, Request::new("by-hand", "d"), stamp());
    for step in steps {
        for (block, bytes) in *step {
            now(draft.put("d", block * 512, bytes, "a block")).unwrap();
        }
        draft.barrier("a step");
    }
    if intent {
        draft.needs_intent();
    }
    draft.finish("end").unwrap()
}

#[test]
fn a_single_sector_commits() {
    let lab = lab();
    let plan = draft(&lab, &[&[(5, [1; 512]), (6, [2; 512])], &[(0, record(4096))]], false);
    let swept = sweep(&lab, &plan, |found, _| found.summary(), |_, _| {});
    assert!(swept.old > 8 && swept.new == 3, "{swept:?}");
}

#[test]
fn a_change_in_two_places_is_found_out() {
    let lab = lab();
    // A partition vanishes in the first step and comes back in the second: in between is neither.
    let plan = draft(&lab, &[&[(0, Record::new(1).to_bytes())], &[(0, record(4096))]], false);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        sweep(&lab, &plan, |found, _| found.summary(), |_, _| {})
    }));
    let why = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(why.starts_with("neither the old nor the new"), "{why}");
    // With an intent it is finished at the next start.
    let plan = draft(&lab, &[&[(0, Record::new(1).to_bytes())], &[(0, record(4096))]], true);
    let swept = sweep(&lab, &plan, |found, _| found.summary(), |_, _| {});
    assert!(matches!(swept, Swept { finished: 1.., .. }), "{swept:?}");
}

#[test]
fn writes_through_a_partition_reach_its_disk() {
    let lab = lab();
    lab.put("dp1", 512, &[9; 512]);
    assert_eq!(lab.images()["d"].read(2049 * 512, 512), [9; 512]);
    assert_eq!(lab.bytes("dp1")[512..1024], [9; 512]);
}
