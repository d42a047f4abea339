//! Every state that a power cut can leave behind: what was flushed is there; of what was written since, any sectors may be.
use super::{
    Event, Found, Lab,
    image::{Image, SECTOR},
    now,
};
use lvol::plan::{
    Plan,
    carry::{self, Progress, carry_out},
};
use std::collections::{BTreeMap, BTreeSet};

/// Random subsets of the sectors under way that are tried at each barrier, beside the systematic ones.
const RANDOM: u64 = 24;
/// Sectors under way of which each is tried alone, and alone missing. Of more, this many are taken evenly.
const EACH: usize = 48;

/// What a sweep has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// States in which discovery found the old things.
    pub old: usize,
    /// … the new ones.
    pub new: usize,
    /// States that were finished by the plan that had been written down.
    pub finished: usize,
}

/// Carries `plan` out on a copy of `lab` and then goes through all states. In each, `sees` must be what it was before the plan or what it is after
/// it, and no byte outside the plan's ranges may have changed. A plan with an intent is finished instead, as at the next start, and then
/// it must be what it is after. `also` is shown every state, and whether it is the new one.
pub fn sweep(lab: &Lab, plan: &Plan, sees: impl Fn(&Found, &Lab) -> String, mut also: impl FnMut(&Lab, bool)) -> Swept {
    let before = lab.with(lab.images());
    let old = sees(before.found(), &before);
    let mut after = before.clone();
    after.take_log();
    now(carry_out(plan, &after)).unwrap_or_else(|why| panic!("{why}\n{plan}"));
    let log = after.take_log();
    after.discover();
    let new = sees(after.found(), &after);
    let allowed = ranges(lab, plan);
    let mut swept = Swept::default();
    let mut judge = |images: BTreeMap<String, Image>, what: &str| {
        for (name, image) in &images {
            let changed = image.differing(&before.images()[name]);
            let stray = changed
                .iter()
                .find(|sector| !allowed.contains(&(name.clone(), **sector)));
            assert_eq!(stray, None, "{name} changed outside of the plan, {what}\n{plan}");
        }
        let mut state = lab.with(images);
        let mut saw = sees(state.found(), &state);
        if plan.intent {
            // As the engine does at its next start.
            let progress = now(carry::progress(plan, &state)).unwrap();
            match progress {
                Progress::Untouched => assert_eq!(saw, old, "untouched, and not the old, {what}\n{plan}"),
                Progress::Done => assert_eq!(saw, new, "done, and not the new, {what}\n{plan}"),
                Progress::Foreign => panic!("the plan does not know its own bytes, {what}\n{plan}"),
                Progress::Midway => {
                    now(carry::write_all(plan, &state)).unwrap();
                    state.discover();
                    saw = sees(state.found(), &state);
                    assert_eq!(saw, new, "finished, and not the new, {what}\n{plan}");
                    swept.finished += 1;
                }
            }
        }
        match (saw == new, saw == old) {
            (true, _) => swept.new += 1,
            (_, true) => swept.old += 1,
            _ => panic!("neither the old nor the new, {what}\n{plan}\n--- old\n{old}\n--- new\n{new}\n--- seen\n{saw}"),
        }
        also(&state, saw == new);
    };

    let mut lasting = before.images();
    let mut pending: Vec<(String, u64, Vec<u8>)> = Vec::new();
    let mut barrier = 0;
    let flushes = log.iter().filter(|event| matches!(event, Event::Flush { .. })).count();
    for event in &log {
        match event {
            Event::Write { disk, offset, bytes } => {
                for (chunk, sector) in bytes.chunks(SECTOR as usize).zip(offset / SECTOR..) {
                    pending.push((disk.clone(), sector, chunk.to_vec()));
                }
            }
            Event::Flush { disk } => {
                barrier += 1;
                for (subset, what) in subsets(pending.len(), barrier) {
                    let mut images = lasting.clone();
                    for (at, (disk, sector, bytes)) in pending.iter().enumerate() {
                        if subset.contains(&at) {
                            images.get_mut(disk).unwrap().write(sector * SECTOR, bytes);
                        }
                    }
                    judge(
                        images,
                        &format!(
                            "power cut before flush {barrier} of {flushes}, {what} of {} sectors",
                            pending.len()
                        ),
                    );
                }
                for (_, sector, bytes) in pending.extract_if(.., |(on, _, _)| on == disk) {
                    lasting.get_mut(disk).unwrap().write(sector * SECTOR, &bytes);
                }
            }
        }
    }
    assert!(pending.is_empty(), "the plan ends without a flush: {pending:?}");
    assert_eq!(lasting, after.images(), "the lab lost a write");
    judge(lasting, "power cut after the last flush");
    assert!(swept.old > 0 && swept.new > 0, "{swept:?}\n{plan}");
    swept
}

/// Sectors that a plan may write, on the disks that stand on nothing.
fn ranges(lab: &Lab, plan: &Plan) -> BTreeSet<(String, u64)> {
    let mut all = BTreeSet::new();
    for write in plan.steps.iter().flat_map(|step| &step.writes) {
        let size = u64::from(plan.disks[&write.disk].block_size);
        for block in write.offset / size..(write.offset + write.len()) / size {
            let (disk, at) = lab.found().place(&write.disk, block).unwrap();
            let per = size / SECTOR;
            all.extend((at * per..(at + 1) * per).map(|sector| (disk.clone(), sector)));
        }
    }
    all
}

/// Which of `count` sectors got there: none, all, each alone, each alone not, the first so many, and some at random.
fn subsets(count: usize, seed: u64) -> Vec<(BTreeSet<usize>, String)> {
    let all: BTreeSet<usize> = (0..count).collect();
    let mut list = vec![(BTreeSet::new(), "none".to_owned())];
    let step = count.div_ceil(EACH).max(1);
    for at in (0..count).step_by(step) {
        list.push((BTreeSet::from([at]), format!("only number {at}")));
        list.push((&all - &BTreeSet::from([at]), format!("all but number {at}")));
        list.push(((0..at).collect(), format!("the first {at}")));
    }
    // A xorshift is random enough, and the same every time.
    let mut dice = 0x9e37_79b9_7f4a_7c15u64 ^ (seed << 32) ^ count as u64;
    for number in 0..if count > 2 { RANDOM } else { 0 } {
        let subset = all
            .iter()
            .filter(|_| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice & 1 == 1
            })
            .copied();
        list.push((subset.collect(), format!("random subset {number}")));
    }
    list.push((all, "all".to_owned()));
    list
}
