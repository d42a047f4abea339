//! Members that others replace while the array goes on with both: whoever of them fails, wherever the power is cut.
mod machine;

use bdev::{
    Disk, Io,
    module::raid::{Array, Command},
    raid::{MemberState, Shape},
};
use machine::{Keeps, Machine, Versions, check, read_all, rest, stamp, together, writers};
use reactor::{Buf, testing::Rng};
use spec::BlockRange;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

const CHUNK: u32 = 8;
const ONE: Keeps = Keeps::Partial { several: false };

fn five() -> Shape {
    Shape::Raid5 {
        layout: 2,
        chunk: CHUNK,
    }
}

fn six() -> Shape {
    Shape::Raid6 {
        layout: 2,
        chunk: CHUNK,
    }
}

fn ten(layout: u32) -> Shape {
    Shape::Raid10 { layout, chunk: CHUNK }
}

fn shapes() -> Vec<(Shape, usize, Keeps)> {
    vec![
        (Shape::Raid1, 2, Keeps::Bitmap),
        (Shape::Raid1, 3, Keeps::Nothing),
        (Shape::Raid4 { chunk: CHUNK }, 4, Keeps::Bitmap),
        (five(), 4, Keeps::Bitmap),
        (five(), 4, Keeps::Nothing),
        (five(), 4, ONE),
        (five(), 3, Keeps::Partial { several: true }),
        (six(), 5, Keeps::Bitmap),
        (ten(0x102), 4, Keeps::Bitmap),
        (ten(0x201), 3, Keeps::Nothing),
        (ten(0x1_0201), 3, Keeps::Bitmap),
    ]
}

/// A machine whose array holds version 0 everywhere.
async fn settled(shape: Shape, members: usize, keeps: Keeps, seed: u64) -> (Machine, Array, Disk, Versions) {
    let machine = Machine::new(shape, members, seed, keeps);
    let (array, disk) = machine.start(&[]);
    rest(&array).await;
    let versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
    let bytes: Vec<u8> = (0..disk.blocks()).flat_map(|block| stamp(block, 0)).collect();
    let whole = BlockRange::new(0, disk.blocks() as u32);
    assert_eq!(disk.write(whole, Buf::from_slice(&bytes)).await, Ok(()));
    assert_eq!(disk.flush().await, Ok(()));
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

/// Only the last version counts: all was acknowledged and flushed.
async fn flushed(disk: &Disk, versions: &Versions) {
    assert_eq!(disk.flush().await, Ok(()));
    versions.borrow_mut().iter_mut().for_each(|known| {
        known.drain(..known.len() - 1);
    })
}

/// All is alike, whoever is asked.
async fn judge(array: &Array, disk: &Disk, versions: &Versions, what: &str) {
    let report = array.report();
    let whole =
        |member: &bdev::module::raid::MemberReport| member.state == MemberState::InSync && member.replacement.is_none();
    assert!(report.members.iter().all(whole), "{what}: {report:?}");
    check(&read_all(disk).await, versions, what);
    array
        .command(Command::Scrub { repair: false, from: 0 })
        .await
        .expect("a check");
    rest(array).await;
    assert_eq!(array.report().mismatches, 0, "{what}")
}

/// One is replaced while hosts write, in an array that runs or at its start; then another may fail.
async fn replaced(shape: Shape, members: usize, keeps: Keeps, seed: u64) {
    let what = format!("{shape:?} of {members}, {keeps:?}, seed {seed}");
    let never = Rc::new(Cell::new(false));
    let (mut machine, mut array, mut disk, versions) = settled(shape, members, keeps, seed).await;
    let place = (seed as usize) % members;
    let hot = !seed.is_multiple_of(3);
    if !hot {
        array.stop().await;
        drop((array, disk));
        machine.join(place, seed);
        (array, disk) = machine.start(&[])
    } else {
        machine.join(place, seed);
        disk = again(&machine, &array)
    }
    array.command(Command::Limit(4)).await.expect("a limit");
    let state = array.report().members[place];
    assert_eq!(state.state, MemberState::InSync, "{what}");
    assert!(state.replacement.is_some(), "{what}: {state:?}");
    let reads = Rc::new(Cell::new(0));
    let seen = reads.clone();
    machine.sims[place].watch(move |io| seen.set(seen.get() + u32::from(io.op == bdev::Op::Read)));
    together(writers(&disk, &versions, &never, seed)).await;
    flushed(&disk, &versions).await;
    check(&read_all(&disk).await, &versions, &what);
    array.command(Command::Limit(0)).await.expect("no limit");
    rest(&array).await;
    assert!(reads.get() > 0, "{what}: it was copied from the one that it replaces");
    // Nobody has told the device yet.
    machine.sims[place].vanish();
    judge(&array, &disk, &versions, &what).await;
    let other = (place + 1) % members;
    let disk = again(&machine, &array);
    judge(&array, &disk, &versions, &what).await;
    together(writers(&disk, &versions, &never, seed + 1)).await;
    flushed(&disk, &versions).await;
    array.command(Command::Fail(other as u16)).await.expect("one may fail");
    check(&read_all(&disk).await, &versions, &what);
    array.stop().await;
    drop((array, disk));
    machine.sims[place].mend();
    let (array, disk) = machine.start(&[]);
    let report = array.report();
    assert_eq!(report.members[place].state, MemberState::InSync, "{what}: {report:?}");
    check(&read_all(&disk).await, &versions, &what)
}

#[test]
fn a_member_is_replaced_while_hosts_write() {
    for (shape, members, keeps) in shapes() {
        for seed in 1..7 {
            reactor::sim::run(replaced(shape, members, keeps, seed))
        }
    }
}

/// The member or its replacement goes away, or cannot be written, at some I/O.
async fn either_fails(shape: Shape, members: usize, keeps: Keeps, seed: u64) {
    let mut rng = Rng::new(seed);
    let never = Rc::new(Cell::new(false));
    let (mut machine, array, _, versions) = settled(shape, members, keeps, seed).await;
    let place = rng.below(members as u64) as usize;
    machine.join(place, seed);
    let old = rng.below(2) == 0;
    let victim = if old { place } else { machine.sims.len() - 1 };
    let what = format!("{shape:?} of {members}, {keeps:?}, seed {seed}, old {old}");
    machine.sims[victim].set_latency_us(rng.below(3) * 500);
    let disk = again(&machine, &array);
    array.command(Command::Limit(4)).await.expect("a limit");
    let (count, at, sim) = (Cell::new(0), 1 + rng.below(60), machine.sims[victim].clone());
    machine.sims[victim].watch(move |_| {
        count.set(count.get() + 1);
        if count.get() == at {
            sim.power_cut();
            sim.vanish()
        }
    });
    together(writers(&disk, &versions, &never, seed)).await;
    flushed(&disk, &versions).await;
    check(&read_all(&disk).await, &versions, &what);
    array.command(Command::Limit(0)).await.expect("no limit");
    rest(&array).await;
    machine.sims[victim].watch(|_| ());
    if array.report().members[place].state != MemberState::InSync {
        assert!(!old, "{what}: {:?}", array.report());
        // It had the place already.
        return check(&read_all(&disk).await, &versions, &what);
    }
    // If it was not reached, the member was replaced.
    judge(&array, &disk, &versions, &what).await;
    array.stop().await;
    drop((array, disk));
    let (array, disk) = machine.start(&[]);
    rest(&array).await;
    check(&read_all(&disk).await, &versions, &what);
    let other = (place + 1) % members;
    array.command(Command::Fail(other as u16)).await.expect("one may fail");
    check(&read_all(&disk).await, &versions, &what)
}

#[test]
fn whoever_of_both_fails_nothing_is_lost() {
    for (shape, members, keeps) in shapes() {
        for seed in 1..25 {
            reactor::sim::run(either_fails(shape, members, keeps, seed))
        }
    }
}

/// The power fails at the `cut`-th I/O after the replacement has come; `without` another member, which is gone for good. False if all was done before.
async fn cut(shape: Shape, members: usize, keeps: Keeps, seed: u64, writes: bool, without: bool, cut: u64) -> bool {
    let what =
        format!("{shape:?} of {members}, {keeps:?}, seed {seed}, writes {writes}, without {without}, cut at {cut}");
    let (mut machine, array, disk, versions) = settled(shape, members, keeps, seed).await;
    let place = (seed as usize) % members;
    let away: Vec<usize> = without.then_some((place + 2) % members).into_iter().collect();
    for at in &away {
        array.command(Command::Fail(*at as u16)).await.expect("one may fail")
    }
    array.stop().await;
    drop((array, disk));
    machine.join(place, seed);
    let over = machine.cut_at(cut);
    let (array, disk) = machine.start(&away);
    if writes {
        // Done long after them, among them, or before most of them.
        let limit = [4, 12, 1000][cut as usize % 3];
        array.command(Command::Limit(limit)).await.expect("a limit");
        together(writers(&disk, &versions, &over, seed)).await
    }
    for _ in 0..10_000 {
        reactor::sleep(Duration::from_millis(10)).await;
        if over.get() || array.report().progress.is_none() {
            break;
        }
    }
    let reached = over.get();
    if !reached {
        machine.cut()
    }
    drop((array, disk));
    machine.power_up();
    let (array, disk) = machine.start(&away);
    let found = read_all(&disk).await;
    check(&found, &versions, &format!("{what}, at once"));
    rest(&array).await;
    assert!(read_all(&disk).await == found, "{what}: what was read once changed");
    if without {
        let report = array.report();
        assert_eq!(report.members[place].state, MemberState::InSync, "{what}: {report:?}");
        assert_eq!(report.members[place].replacement, None, "{what}: {report:?}");
        return reached;
    }
    judge(&array, &disk, &versions, &what).await;
    let other = (place + 1) % members;
    array.command(Command::Fail(other as u16)).await.expect("one may fail");
    assert!(
        read_all(&disk).await == found,
        "{what}: the one that has the place holds something else"
    );
    reached
}

fn cut_everywhere(shape: Shape, members: usize, keeps: Keeps, writes: bool, without: bool) {
    for at in 1.. {
        if !reactor::sim::run(cut(shape, members, keeps, 1 + at % 5, writes, without, at)) {
            assert!(at > 10, "there is hardly anything to cut");
            println!("{shape:?}, {keeps:?}: cut at each of {at} I/Os");
            return;
        }
    }
}

#[test]
fn power_fails_while_a_member_of_a_mirror_is_replaced() {
    cut_everywhere(Shape::Raid1, 2, Keeps::Bitmap, true, false);
    cut_everywhere(ten(0x102), 4, Keeps::Nothing, true, false)
}

#[test]
fn power_fails_while_a_member_of_a_raid_5_is_replaced() {
    cut_everywhere(five(), 4, Keeps::Bitmap, true, false);
    cut_everywhere(five(), 3, Keeps::Nothing, false, false)
}

#[test]
fn power_fails_while_a_member_of_a_raid_5_with_logs_is_replaced() {
    cut_everywhere(five(), 3, Keeps::Partial { several: true }, true, false);
    cut_everywhere(five(), 4, ONE, false, false)
}

#[test]
fn power_fails_while_a_member_is_replaced_and_another_is_missing() {
    cut_everywhere(five(), 4, Keeps::Bitmap, true, true);
    cut_everywhere(six(), 5, Keeps::Bitmap, true, true)
}

/// What the member cannot read its replacement gets from the others.
#[test]
fn a_member_that_cannot_be_read_everywhere_is_replaced() {
    for (shape, members, keeps) in shapes() {
        reactor::sim::run(async {
            let what = format!("{shape:?} of {members}, {keeps:?}");
            let (mut machine, array, _, versions) = settled(shape, members, keeps, 3).await;
            machine.join(1, 3);
            machine.sims[1].break_blocks(BlockRange::new(machine.data() + 9, 3));
            let disk = again(&machine, &array);
            rest(&array).await;
            machine.sims[1].vanish();
            judge(&array, &disk, &versions, &what).await;
            let io = Io::read(BlockRange::new(0, 1), Buf::alloc(512));
            assert_eq!(disk.perform(io).await, Ok(()), "{what}")
        })
    }
}
