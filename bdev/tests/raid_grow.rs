//! Arrays whose members give more than before: what was there stays, what is new is made alike, wherever the power is cut.
mod machine;

use bdev::{
    Disk, IoError,
    module::raid::{Array, Command},
    raid::{MemberState, Shape},
};
use machine::{Keeps, Machine, USED, Versions, check, read_all, rest, stamp, together, writers};
use reactor::{Buf, testing::Rng};
use spec::BlockRange;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

const CHUNK: u32 = 8;
const ROOM: u64 = 2 * USED + 5;

fn shapes() -> Vec<(Shape, usize, Keeps)> {
    let (layout, chunk) = (2, CHUNK);
    let ten = |layout| Shape::Raid10 { layout, chunk };
    vec![
        (Shape::Raid1, 2, Keeps::Bitmap),
        (Shape::Raid1, 3, Keeps::Nothing),
        (Shape::Raid4 { chunk }, 3, Keeps::Bitmap),
        (Shape::Raid5 { layout, chunk }, 3, Keeps::Bitmap),
        (Shape::Raid5 { layout, chunk }, 3, Keeps::Nothing),
        (Shape::Raid5 { layout, chunk }, 3, Keeps::Partial { several: true }),
        (Shape::Raid6 { layout, chunk }, 4, Keeps::Bitmap),
        (ten(0x102), 4, Keeps::Bitmap),
        (ten(0x1_0201), 3, Keeps::Bitmap),
    ]
}

async fn fill(disk: &Disk, from: u64) {
    let bytes: Vec<u8> = (from..disk.blocks()).flat_map(|block| stamp(block, 0)).collect();
    let range = BlockRange::new(from, (disk.blocks() - from) as u32);
    assert_eq!(disk.write(range, Buf::from_slice(&bytes)).await, Ok(()));
    assert_eq!(disk.flush().await, Ok(()))
}

async fn settled(shape: Shape, members: usize, keeps: Keeps, seed: u64) -> (Machine, Array, Disk, Versions) {
    let machine = Machine::with_room(shape, members, seed, keeps, ROOM);
    for (at, sim) in machine.sims.iter().enumerate() {
        // Members hold different things where nobody has compared them.
        let rubbish = Rng::new(seed * 100 + at as u64).bytes(((ROOM - USED) * 512) as usize);
        sim.store(machine.data() + USED, &rubbish)
    }
    let (array, disk) = machine.start(&[]);
    rest(&array).await;
    fill(&disk, 0).await;
    let versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
    reactor::sleep(Duration::from_secs(60)).await;
    (machine, array, disk, versions)
}

/// What its disks say by now, while it runs.
fn again(machine: &Machine, array: &Array) -> Disk {
    let (plan, parts) = machine.plan(&[]).expect("nothing is lacking");
    assert!(array.change(&plan), "it is the same array");
    let geometry = machine.geometry(&parts);
    array.device(parts, geometry)
}

async fn judge(array: &Array, what: &str) {
    let report = array.report();
    assert!(
        report.members.iter().all(|member| member.state == MemberState::InSync),
        "{what}: {report:?}"
    );
    array
        .command(Command::Scrub { repair: false, from: 0 })
        .await
        .expect("a check");
    rest(array).await;
    assert_eq!(array.report().mismatches, 0, "{what}")
}

async fn grown(shape: Shape, members: usize, keeps: Keeps, seed: u64) {
    let what = format!("{shape:?} of {members}, {keeps:?}, seed {seed}");
    let never = Rc::new(Cell::new(false));
    let (machine, array, disk, versions) = settled(shape, members, keeps, seed).await;
    let before = disk.blocks();
    let refused = |asked: Option<u64>| {
        let array = array.clone();
        async move { array.command(Command::Grow(asked)).await.expect_err("no room") }
    };
    assert!(refused(Some(ROOM + 8)).await.contains("has room for"), "{what}");
    assert!(refused(Some(USED)).await.contains("only grow"), "{what}");
    // Half of it first, and while hosts write.
    let half = USED + 24;
    let write = writers(&disk, &versions, &never, seed);
    let (asked, all) = (array.clone(), array.clone());
    let mut both = write;
    both.push(Box::pin(async move {
        asked.command(Command::Grow(Some(half))).await.expect("room for it")
    }));
    let tended = array.clone();
    // Meanwhile somebody looks what there is to do, and gives it the table that it had.
    let (old, _) = machine.plan(&[]).expect("nothing is lacking");
    let before_it = old.clone();
    both.push(Box::pin(async move {
        for _ in 0..20 {
            tended.tend();
            assert!(tended.change(&old), "it is the same array");
            reactor::yield_now().await
        }
    }));
    together(both).await;
    assert!(
        all.change(&before_it),
        "a table from before it grew is one of the same array"
    );
    assert_eq!(disk.flush().await, Ok(()));
    versions.borrow_mut().iter_mut().for_each(|known| {
        known.drain(..known.len() - 1);
    });
    drop(disk);
    let disk = again(&machine, &all);
    assert!(disk.blocks() > before, "{what}");
    check(&read_all(&disk).await, &versions, &what);
    // A write to what is new, which nobody has compared yet, counts as any.
    fill(&disk, before).await;
    rest(&all).await;
    judge(&all, &what).await;
    all.command(Command::Grow(None)).await.expect("room");
    rest(&all).await;
    let disk = again(&machine, &all);
    assert!(machine.superblock(0).size() >= ROOM - u64::from(CHUNK), "{what}");
    fill(&disk, before).await;
    judge(&all, &what).await;
    reactor::sleep(Duration::from_secs(60)).await;
    all.command(Command::Fail(1)).await.expect("one may fail");
    let last = BlockRange::new(disk.blocks() - 1, 1);
    let data = Buf::alloc(512);
    assert_eq!(disk.read(last, data.clone()).await, Ok(()));
    assert_eq!(data.to_vec(), stamp(last.start.0, 0), "{what}");
    check(&read_all(&disk).await, &versions, &what);
    assert!(
        all.command(Command::Grow(None)).await.is_err(),
        "{what}: it lacks a member"
    );
    all.stop().await;
    drop((array, all, disk));
    let (_, disk) = machine.start(&[]);
    check(&read_all(&disk).await, &versions, &what);
    assert_ne!(disk.read(last, data.clone()).await, Err(IoError::OutOfRange), "{what}")
}

#[test]
fn what_was_there_stays_and_what_is_new_is_made_alike() {
    for (shape, members, keeps) in shapes() {
        for seed in 1..4 {
            reactor::sim::run(grown(shape, members, keeps, seed))
        }
    }
}

#[test]
fn far_copies_are_not_moved() {
    reactor::sim::run(async {
        let (layout, chunk) = (0x201, CHUNK);
        let (_, array, _, _) = settled(Shape::Raid10 { layout, chunk }, 3, Keeps::Bitmap, 1).await;
        let refused = array.command(Command::Grow(None)).await;
        assert!(refused.is_err_and(|why| why.contains("far")))
    })
}

/// The power fails at the `cut`-th I/O after somebody has asked for it, with hosts that write. False if all was done before.
async fn cut(shape: Shape, members: usize, keeps: Keeps, seed: u64, cut: u64) -> bool {
    let what = format!("{shape:?} of {members}, {keeps:?}, seed {seed}, cut at {cut}");
    let (machine, array, disk, versions) = settled(shape, members, keeps, seed).await;
    let before = disk.blocks();
    let over = machine.cut_at(cut);
    let mut both = writers(&disk, &versions, &over, seed);
    let asked = array.clone();
    let done = Rc::new(Cell::new(false));
    let said = done.clone();
    both.push(Box::pin(async move {
        said.set(asked.command(Command::Grow(None)).await.is_ok())
    }));
    together(both).await;
    for _ in 0..10_000 {
        reactor::sleep(Duration::from_millis(10)).await;
        if over.get() || array.report().progress.is_none() {
            break;
        }
    }
    let (reached, done) = (over.get(), done.get());
    if !reached {
        machine.cut()
    }
    drop((array, disk));
    machine.power_up();
    let (array, disk) = machine.start(&[]);
    let longer = disk.blocks() > before;
    assert!(longer || !done, "{what}: what was promised is gone");
    let found = read_all(&disk).await;
    check(&found, &versions, &format!("{what}, at once"));
    rest(&array).await;
    assert!(
        read_all(&disk).await[..(before * 512) as usize] == found[..(before * 512) as usize],
        "{what}: what was read once changed"
    );
    judge(&array, &format!("{what}, longer {longer}")).await;
    reached
}

#[test]
fn power_fails_while_members_give_more() {
    for (shape, members, keeps) in shapes() {
        for at in 1.. {
            if !reactor::sim::run(cut(shape, members, keeps, 1 + at % 5, at)) {
                assert!(at > 10, "there is hardly anything to cut");
                break;
            }
        }
    }
}
