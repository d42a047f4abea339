//! Members that go away and come back: what is copied, what is read meanwhile, and what is left when the power fails on the way.
mod machine;

use bdev::{
    Disk, Io, Op,
    module::raid::{Array, Command},
    raid::{MemberState, Shape},
};
use machine::{Keeps, Machine, SUPER, USED, Versions, check, read_all, rest, stamp, together, writers};
use reactor::{Buf, testing::Rng};
use spec::{BlockRange, md::superblock::Superblock};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

const CHUNK: u32 = 8;

fn shapes() -> Vec<(Shape, usize)> {
    let raid10 = |layout| Shape::Raid10 { layout, chunk: CHUNK };
    vec![
        (Shape::Raid1, 2),
        (Shape::Raid1, 3),
        (Shape::Raid4 { chunk: CHUNK }, 4),
        (
            Shape::Raid5 {
                layout: 2,
                chunk: CHUNK,
            },
            4,
        ),
        (
            Shape::Raid6 {
                layout: 2,
                chunk: CHUNK,
            },
            5,
        ),
        (raid10(0x102), 4),
        (raid10(0x201), 3),
        (raid10(0x1_0201), 3),
    ]
}

fn versions(disk: &Disk) -> Versions {
    Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]))
}

/// Writes a new version of some blocks.
async fn write(disk: &Disk, versions: &Versions, start: u64, count: u64) {
    let mut bytes = Vec::new();
    for block in start..start + count {
        let mut versions = versions.borrow_mut();
        let next = versions[block as usize].last().expect("a version") + 1;
        versions[block as usize] = vec![next];
        bytes.extend(stamp(block, next))
    }
    let range = BlockRange::new(start, count as u32);
    assert_eq!(disk.write(range, Buf::from_slice(&bytes)).await, Ok(()))
}

/// All is alike, whoever is asked.
async fn judge(array: &Array, disk: &Disk, versions: &Versions, what: &str) {
    let report = array.report();
    assert!(
        report.members.iter().all(|member| member.state == MemberState::InSync),
        "{what}: {report:?}"
    );
    check(&read_all(disk).await, versions, what);
    array
        .command(Command::Scrub { repair: false, from: 0 })
        .await
        .expect("a check");
    rest(array).await;
    assert_eq!(array.report().mismatches, 0, "{what}")
}

/// A machine whose array holds version 0 everywhere, and has forgotten that it was written.
async fn settled(shape: Shape, members: usize, seed: u64) -> (Machine, Array, Disk, Versions) {
    let machine = Machine::new(shape, members, seed, Keeps::Bitmap);
    let (array, disk) = machine.start(&[]);
    let versions = versions(&disk);
    let blocks = disk.blocks();
    let bytes: Vec<u8> = (0..blocks).flat_map(|block| stamp(block, 0)).collect();
    let whole = BlockRange::new(0, blocks as u32);
    assert_eq!(disk.write(whole, Buf::from_slice(&bytes)).await, Ok(()));
    reactor::sleep(Duration::from_secs(60)).await;
    assert_eq!(array.report().noted, 0, "nothing is forgotten");
    (machine, array, disk, versions)
}

/// The blocks of its data that are written to a member from now on.
fn copied(machine: &Machine, at: usize) -> Rc<RefCell<BTreeSet<u64>>> {
    let blocks = Rc::new(RefCell::new(BTreeSet::new()));
    let (to, data) = (blocks.clone(), machine.data());
    machine.sims[at].watch(move |io| {
        if io.op == Op::Write && io.range.start.0 >= data {
            let start = io.range.start.0;
            to.borrow_mut().extend(start..start + u64::from(io.range.count))
        }
    });
    blocks
}

/// One goes away, hosts write, it comes back: at the next start, or while the array runs.
async fn away(shape: Shape, members: usize, seed: u64, hot: bool) {
    let what = format!("{shape:?} of {members}, seed {seed}, hot {hot}");
    let mut rng = Rng::new(seed);
    let (machine, mut array, mut disk, versions) = settled(shape, members, seed).await;
    let lost = rng.below(members as u64) as usize;
    machine.pull(lost);
    for _ in 0..3 {
        let start = rng.below(disk.blocks() / 3);
        write(&disk, &versions, start, 1 + rng.below(12)).await
    }
    check(&read_all(&disk).await, &versions, &what);
    assert_eq!(array.report().members[lost].state, MemberState::Failed, "{what}");
    // Long enough for whatever may be forgotten.
    reactor::sleep(Duration::from_secs(60)).await;
    let noted = array.report().noted;
    assert!(noted > 0 && noted < USED, "{what}: {noted}");
    machine.sims[lost].mend();
    let copied = copied(&machine, lost);
    if hot {
        let (plan, parts) = machine.plan(&[]).expect("nothing is being written");
        assert!(array.change(&plan), "{what}");
        let geometry = machine.geometry(&parts);
        disk = array.device(parts, geometry)
    } else {
        array.stop().await;
        drop((array, disk));
        (array, disk) = machine.start(&[])
    }
    let state = array.report().members[lost].state;
    assert!(matches!(state, MemberState::Returning { .. }), "{what}: {state:?}");
    rest(&array).await;
    let copied = copied.borrow().len() as u64;
    match shape {
        // A member has a part of what the array's addresses are.
        Shape::Raid10 { .. } => assert!(copied > 0 && copied <= noted, "{what}: {copied} of {noted}"),
        _ => assert_eq!(copied, noted, "{what}"),
    }
    judge(&array, &disk, &versions, &what).await;
    let other = (lost + 1) % members;
    array.command(Command::Fail(other as u16)).await.expect("one may fail");
    check(&read_all(&disk).await, &versions, &what);
    // It failed, and did not go away: nobody takes it back without being asked.
    array.stop().await;
    drop((array, disk));
    let (array, disk) = machine.start(&[]);
    assert_eq!(array.report().members[other].state, MemberState::Missing, "{what}");
    write(&disk, &versions, 3, 5).await;
    array.stop().await;
    drop((array, disk));
    let mut superblock = Superblock::parse(&machine.sims[other].bytes()[(SUPER * 512) as usize..]).expect("one");
    superblock.ask();
    machine.sims[other].store(SUPER, &superblock.to_bytes().expect("few roles"));
    let (array, disk) = machine.start(&[]);
    let state = array.report().members[other].state;
    assert!(matches!(state, MemberState::Returning { .. }), "{what}: {state:?}");
    rest(&array).await;
    judge(&array, &disk, &versions, &what).await
}

#[test]
fn who_was_away_gets_what_it_has_missed_and_nothing_else() {
    for (shape, members) in shapes() {
        for seed in 1..6 {
            reactor::sim::run(away(shape, members, seed, seed % 2 == 0))
        }
    }
}

/// Hosts write while it comes back, and more than one member may be away.
async fn busy(shape: Shape, members: usize, seed: u64) {
    let what = format!("{shape:?} of {members}, seed {seed}");
    let mut rng = Rng::new(seed);
    let (machine, mut array, mut disk, versions) = settled(shape, members, seed).await;
    let never = Rc::new(Cell::new(false));
    for round in 0..4 {
        let many = match shape {
            Shape::Raid6 { .. } => 1 + rng.below(2) as usize,
            _ => 1,
        };
        let first = rng.below(members as u64) as usize;
        let lost: Vec<usize> = (0..many).map(|n| (first + n) % members).collect();
        lost.iter().for_each(|at| machine.pull(*at));
        together(writers(&disk, &versions, &never, seed * 10 + round)).await;
        assert_eq!(disk.flush().await, Ok(()), "{what}");
        versions.borrow_mut().iter_mut().for_each(|known| {
            known.drain(..known.len() - 1);
        });
        check(&read_all(&disk).await, &versions, &format!("{what}, without"));
        lost.iter().for_each(|at| machine.sims[*at].mend());
        array.stop().await;
        drop((array, disk));
        (array, disk) = machine.start(&[]);
        for at in &lost {
            let state = array.report().members[*at].state;
            assert!(matches!(state, MemberState::Returning { .. }), "{what}: {state:?}")
        }
        together(writers(&disk, &versions, &never, seed * 10 + round + 5)).await;
        versions.borrow_mut().iter_mut().for_each(|known| {
            known.drain(..known.len() - 1);
        });
        rest(&array).await;
        judge(&array, &disk, &versions, &format!("{what}, round {round}")).await
    }
}

#[test]
fn members_come_and_go_under_load() {
    for (shape, members) in shapes() {
        for seed in 1..4 {
            reactor::sim::run(busy(shape, members, seed))
        }
    }
}

/// The power fails at the `cut`-th I/O after one has begun to come back, or after a `fresh` one has come in its place; with `writes` hosts are busy. False if all was
/// done before.
async fn cut(shape: Shape, members: usize, seed: u64, writes: bool, fresh: bool, cut: u64) -> bool {
    let what = format!("{shape:?} of {members}, seed {seed}, writes {writes}, fresh {fresh}, cut at {cut}");
    let mut rng = Rng::new(seed);
    let (mut machine, array, disk, versions) = settled(shape, members, seed).await;
    let lost = rng.below(members as u64) as usize;
    machine.pull(lost);
    for _ in 0..3 {
        let start = rng.below(disk.blocks() - 20);
        write(&disk, &versions, start, 1 + rng.below(20)).await
    }
    assert_eq!(disk.flush().await, Ok(()));
    reactor::sleep(Duration::from_secs(60)).await;
    array.stop().await;
    drop((array, disk));
    match fresh {
        true => machine.replace(lost, seed),
        false => machine.sims[lost].mend(),
    }
    let over = machine.cut_at(cut);
    let (array, disk) = machine.start(&[]);
    if writes {
        // Slow enough for hosts to rest and to go on meanwhile.
        array.command(Command::Limit(4)).await.expect("a limit");
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
    let (array, disk) = machine.start(&[]);
    let found = read_all(&disk).await;
    check(&found, &versions, &format!("{what}, at once"));
    rest(&array).await;
    assert!(read_all(&disk).await == found, "{what}: what was read once changed");
    judge(&array, &disk, &versions, &what).await;
    let other = (lost + 1) % members;
    array.command(Command::Fail(other as u16)).await.expect("one may fail");
    assert!(
        read_all(&disk).await == found,
        "{what}: the one that came back holds something else"
    );
    reached
}

fn cut_everywhere(shape: Shape, members: usize, writes: bool, fresh: bool) {
    for at in 1.. {
        if !reactor::sim::run(cut(shape, members, 1 + at % 5, writes, fresh, at)) {
            assert!(at > 10, "there is hardly anything to cut");
            println!("{shape:?}: cut at each of {at} I/Os");
            return;
        }
    }
}

#[test]
fn power_fails_while_a_member_of_a_mirror_comes_back() {
    cut_everywhere(Shape::Raid1, 2, true, false);
    cut_everywhere(Shape::Raid1, 3, false, false)
}

#[test]
fn power_fails_while_a_member_of_a_raid_10_comes_back() {
    let near = Shape::Raid10 {
        layout: 0x102,
        chunk: CHUNK,
    };
    cut_everywhere(near, 4, true, false)
}

#[test]
fn power_fails_while_a_member_of_a_parity_array_comes_back() {
    let (layout, chunk) = (2, CHUNK);
    cut_everywhere(Shape::Raid5 { layout, chunk }, 4, false, false);
    cut_everywhere(Shape::Raid5 { layout, chunk }, 4, true, false);
    cut_everywhere(Shape::Raid6 { layout, chunk }, 5, false, false)
}

/// What was rebuilt counts once it is on the medium: superblocks that are written for another reason do not say that more is.
#[test]
fn power_fails_while_a_member_is_rebuilt() {
    cut_everywhere(Shape::Raid1, 2, true, true);
    cut_everywhere(
        Shape::Raid5 {
            layout: 2,
            chunk: CHUNK,
        },
        4,
        false,
        true,
    )
}

/// Stretches are rebuilt beside each other, and what is written to one that is done before those in front of it is not lost.
async fn beside(seed: u64) {
    let shape = Shape::Raid6 {
        layout: 2,
        chunk: CHUNK,
    };
    let (mut machine, array, disk, versions) = settled(shape, 7, seed).await;
    let mut rng = Rng::new(seed);
    let lost = rng.below(7) as usize;
    machine.pull(lost);
    write(&disk, &versions, 0, 1).await;
    array.stop().await;
    drop((array, disk));
    machine.replace(lost, seed);
    // Wide enough for a sum to be changed by what is written. Who needs this one is done later than who does not.
    machine.sims[(lost + 1) % 7].set_latency_us(20_000);
    let (array, disk) = machine.start(&[]);
    // Until several are under way.
    reactor::sleep(Duration::from_millis(30)).await;
    for _ in 0..60 {
        reactor::sleep(Duration::from_millis(rng.below(4))).await;
        write(&disk, &versions, rng.below(disk.blocks()), 1).await
    }
    rest(&array).await;
    judge(&array, &disk, &versions, &format!("seed {seed}")).await
}

#[test]
fn a_stripe_that_is_rebuilt_before_those_in_front_of_it_is_written() {
    (1..20).for_each(|seed| reactor::sim::run(beside(seed)))
}

#[test]
fn who_was_away_for_too_long_does_not_come_back() {
    reactor::sim::run(async {
        let (machine, array, disk, versions) = settled(Shape::Raid1, 3, 1).await;
        let old = machine.sims[1].bytes()[(SUPER * 512) as usize..][..4096].to_vec();
        write(&disk, &versions, 5, 9).await;
        // What this was noted for is forgotten.
        reactor::sleep(Duration::from_secs(60)).await;
        machine.pull(1);
        write(&disk, &versions, 50, 9).await;
        array.stop().await;
        drop((array, disk));
        machine.sims[1].mend();
        machine.sims[1].store(SUPER, &old);
        let (array, disk) = machine.start(&[]);
        assert_eq!(array.report().members[1].state, MemberState::Missing);
        check(&read_all(&disk).await, &versions, "without it");
        let range = BlockRange::new(0, 1);
        assert_eq!(disk.perform(Io::read(range, Buf::alloc(512))).await, Ok(()))
    })
}

/// A check that was cut off goes on where it was: what is before that was seen already.
#[test]
fn a_check_begins_where_it_is_told() {
    let (layout, chunk) = (2, CHUNK);
    for (shape, members) in [(Shape::Raid1, 2), (Shape::Raid5 { layout, chunk }, 3)] {
        reactor::sim::run(async {
            let (machine, array, ..) = settled(shape, members, 1).await;
            for block in [3, 70] {
                machine.sims[1].store(machine.data() + block, &[0xee; 512])
            }
            let found = async |from: u64| {
                array
                    .command(Command::Scrub { repair: false, from })
                    .await
                    .expect("a check");
                reactor::sleep(Duration::from_millis(1)).await;
                rest(&array).await;
                array.report().mismatches
            };
            let all = found(0).await;
            assert!(all > 0, "{shape:?}");
            let rest = found(33).await;
            assert!(rest > 0 && rest < all, "{shape:?}: {rest} of {all}");
            assert_eq!(found(u64::MAX).await, 0, "{shape:?}");
            assert_eq!(found(0).await, all, "{shape:?}: the next one is a whole one again")
        })
    }
}

/// One that was half rebuilt comes when others have been written to: what it held by then is not what it should hold now.
#[test]
fn who_was_being_rebuilt_and_comes_late_is_rebuilt_from_the_beginning() {
    let seen = Cell::new(0);
    for (shape, members) in shapes() {
        reactor::sim::run(async {
            let what = format!("{shape:?} of {members}");
            let (mut machine, array, disk, versions) = settled(shape, members, 5).await;
            array.stop().await;
            drop((array, disk));
            machine.replace(1, 5);
            let (array, disk) = machine.start(&[]);
            array.command(Command::Limit(1)).await.expect("a limit");
            // Until it is written down how far it is.
            let half = |machine: &Machine| {
                let (plan, _) = machine.plan(&[]).expect("nothing is lacking");
                plan.members[1].as_ref().and_then(|seat| seat.state.to()).unwrap_or(0)
            };
            for _ in 0..1000 {
                if half(&machine) >= 8 {
                    break;
                }
                reactor::sleep(Duration::from_millis(100)).await
            }
            if half(&machine) < 8 {
                // A mirror as short as this is rebuilt in one step.
                return;
            }
            seen.set(seen.get() + 1);
            array.stop().await;
            drop((array, disk));
            reactor::sleep(Duration::from_secs(60)).await;

            let (array, disk) = machine.start(&[1]);
            // As it was looked at before anybody wrote.
            let (plan, parts) = machine.plan(&[]).expect("nothing is lacking");
            write(&disk, &versions, 0, 8).await;
            assert_eq!(disk.flush().await, Ok(()));
            assert!(array.change(&plan), "{what}");
            let geometry = machine.geometry(&parts);
            let disk = array.device(parts, geometry);
            check(&read_all(&disk).await, &versions, &what);
            rest(&array).await;
            judge(&array, &disk, &versions, &what).await;
            array.command(Command::Fail(0)).await.expect("one may fail");
            check(&read_all(&disk).await, &versions, &what)
        })
    }
    assert!(seen.get() > 2, "only {} were seen halfway", seen.get())
}
