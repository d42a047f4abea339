//! What nobody can read when a member is rebuilt: the rest is rebuilt all the same, what is lost is an error until it is written, and no power cut makes it anything else.
mod life;
#[path = "../machine/mod.rs"]
mod machine;

use bdev::{
    Disk, Io, IoError,
    module::raid::{Array, Command},
    raid::{MemberState, Shape},
};
use machine::{Keeps, Machine, Versions, rest, stamp};
use reactor::{Buf, testing::Rng};
use spec::BlockRange;
use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

const CHUNK: u32 = 16;
/// Shapes, how many members, how what may differ is kept, and how many are lost at once so that nothing is left over.
fn shapes() -> Vec<(Shape, usize, Keeps, usize)> {
    let five = Shape::Raid5 {
        layout: 2,
        chunk: CHUNK,
    };
    let six = Shape::Raid6 {
        layout: 2,
        chunk: CHUNK,
    };
    let ten = |layout| Shape::Raid10 { layout, chunk: CHUNK };
    vec![
        (Shape::Raid1, 2, Keeps::Bitmap, 1),
        (Shape::Raid1, 3, Keeps::Nothing, 2),
        (Shape::Raid4 { chunk: CHUNK }, 4, Keeps::Bitmap, 1),
        (five, 4, Keeps::Bitmap, 1),
        (five, 4, Keeps::Nothing, 1),
        (five, 3, Keeps::Partial { several: false }, 1),
        (five, 4, Keeps::Partial { several: true }, 1),
        (six, 5, Keeps::Bitmap, 2),
        (ten(0x102), 4, Keeps::Bitmap, 1),
        (ten(0x201), 3, Keeps::Bitmap, 1),
        (ten(0x1_0201), 3, Keeps::Nothing, 1),
    ]
}

/// A machine whose array holds version 0 everywhere, and some of whose members are others by now, with rubbish on them.
async fn lost(shape: Shape, members: usize, keeps: Keeps, lost: &[usize], seed: u64) -> Machine {
    let mut machine = Machine::new(shape, members, seed, keeps);
    let (array, disk) = machine.start(&[]);
    rest(&array).await;
    let bytes: Vec<u8> = (0..disk.blocks()).flat_map(|block| stamp(block, 0)).collect();
    let whole = BlockRange::new(0, disk.blocks() as u32);
    assert_eq!(disk.write(whole, Buf::from_slice(&bytes)).await, Ok(()));
    reactor::sleep(Duration::from_secs(60)).await;
    array.stop().await;
    drop((array, disk));
    machine.replace_all(lost, seed);
    machine
}

fn whole(array: &Array) -> bool {
    let states = array.report().members;
    states
        .iter()
        .all(|member| member.state == MemberState::InSync && member.replacement.is_none())
}

/// Which blocks are errors; what can be read is what it should be.
async fn errors(disk: &Disk, versions: &Versions, what: &str) -> BTreeSet<u64> {
    let mut all = BTreeSet::new();
    for block in 0..disk.blocks() {
        let data = Buf::alloc(512);
        match disk.perform(Io::read(BlockRange::new(block, 1), data.clone())).await {
            Ok(()) => {
                let may_be = &versions.borrow()[block as usize];
                assert!(
                    may_be.iter().any(|version| data.to_vec() == stamp(block, *version)),
                    "{what}: block {block} is none of {may_be:?}"
                )
            }
            Err(error) => {
                let expected = matches!(error, IoError::Medium | IoError::Gone);
                assert!(expected, "{what}: block {block}: {error}");
                all.insert(block);
            }
        }
    }
    all
}

async fn write(disk: &Disk, versions: &Versions, start: u64, count: u64) -> Result<(), IoError> {
    let mut bytes = Vec::new();
    for block in start..start + count {
        let mut versions = versions.borrow_mut();
        let next = versions[block as usize].last().expect("a version") + 1;
        versions[block as usize].push(next);
        bytes.extend(stamp(block, next))
    }
    let range = BlockRange::new(start, count as u32);
    let done = disk.perform(Io::write(range, Buf::from_slice(&bytes))).await;
    if done.is_ok() {
        for block in start..start + count {
            let mut versions = versions.borrow_mut();
            let last = versions[block as usize].len() - 1;
            versions[block as usize].drain(..last);
        }
    }
    done
}

async fn scrub(array: &Array, repair: bool) -> (u64, u64) {
    array
        .command(Command::Scrub { repair, from: 0 })
        .await
        .expect("a scrub");
    rest(array).await;
    let report = array.report();
    (report.mismatches, report.unreadable)
}

/// Members are lost, one that is left has blocks that cannot be read, and the others are rebuilt.
async fn rebuilt(shape: Shape, members: usize, keeps: Keeps, count: usize, seed: u64) -> usize {
    let what = format!("{shape:?} of {members}, {keeps:?}, seed {seed}");
    let mut rng = Rng::new(seed);
    let first = rng.below(members as u64) as usize;
    let gone: Vec<usize> = (0..count).map(|n| (first + n) % members).collect();
    let machine = lost(shape, members, keeps, &gone, seed).await;
    let source = (first + count) % members;
    let spoiled: Vec<u64> = (0..2).map(|_| rng.below(machine::USED)).collect();
    for block in &spoiled {
        machine.sims[source].spoil_blocks(BlockRange::new(machine.data() + block, 1))
    }
    let (array, disk) = machine.start(&[]);
    let versions: Versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
    rest(&array).await;
    assert!(whole(&array), "{what}: {:?}", array.report());
    let bad = errors(&disk, &versions, &what).await;
    let report = array.report();
    let lacks: u64 = report.members.iter().map(|member| member.lacking).sum();
    // What is lost lies on the member itself, or it was its sum, which nobody misses.
    assert!(
        bad.len() as u64 <= lacks + spoiled.len() as u64,
        "{what}: {bad:?}, {report:?}"
    );
    assert!(lacks <= (spoiled.len() * count) as u64, "{what}: {report:?}");

    // As its logs have it.
    for (at, member) in report.members.iter().enumerate() {
        assert_eq!(machine.lacks(at).count(), member.lacking, "{what}, member {at}")
    }
    array.stop().await;
    drop((array, disk));
    let (array, disk) = machine.start(&[]);
    rest(&array).await;
    assert_eq!(errors(&disk, &versions, &what).await, bad, "{what}");
    for (now, was) in array.report().members.iter().zip(&report.members) {
        assert_eq!((now.state, now.lacking), (was.state, was.lacking), "{what}")
    }

    // A check goes on behind them.
    let (mismatches, unreadable) = scrub(&array, false).await;
    assert_eq!(mismatches, 0, "{what}");
    assert!(unreadable > 0 || bad.is_empty(), "{what}");

    // Everything around can be written, and what was lost as well: then it is there, whoever else is lost.
    for _ in 0..8 {
        let start = rng.below(disk.blocks());
        let count = 1 + rng.below((disk.blocks() - start).min(40));
        assert_eq!(
            write(&disk, &versions, start, count).await,
            Ok(()),
            "{what}, {count} blocks from {start}"
        )
    }
    for block in &bad {
        assert_eq!(
            write(&disk, &versions, *block, 1).await,
            Ok(()),
            "{what}, block {block}"
        )
    }
    assert!(errors(&disk, &versions, &what).await.is_empty(), "{what}");
    assert_eq!(scrub(&array, true).await.1, 0, "{what}");
    assert_eq!(scrub(&array, false).await, (0, 0), "{what}");
    reactor::sleep(Duration::from_secs(60)).await;
    for at in 0..members {
        assert!(machine.lacks(at).is_empty(), "{what}: {:?}", machine.lacks(at))
    }
    array
        .command(Command::Fail(source as u16))
        .await
        .expect("it can do without one");
    assert!(errors(&disk, &versions, &what).await.is_empty(), "{what}");
    array.stop().await;
    bad.len()
}

#[test]
fn a_rebuild_leaves_out_what_nobody_can_read_and_nothing_else() {
    for (shape, members, keeps, count) in shapes() {
        let bad = (0..12).map(|seed| reactor::sim::run(rebuilt(shape, members, keeps, count, seed)));
        assert!(bad.sum::<usize>() > 0, "{shape:?}: nothing was ever lost")
    }
}

/// The same, and the power fails at an I/O of the rebuild, or of what writes it again.
async fn cut(shape: Shape, members: usize, keeps: Keeps, count: usize, at: u64) -> bool {
    let what = format!("{shape:?} of {members}, {keeps:?}, cut at {at}");
    let gone: Vec<usize> = (0..count).collect();
    let machine = lost(shape, members, keeps, &gone, 7).await;
    let block = 37;
    machine.sims[count].spoil_blocks(BlockRange::new(machine.data() + block, 2));
    let over = machine.cut_at(at);
    let versions: Versions = Rc::new(RefCell::new(Vec::new()));
    let life = async {
        let (array, disk) = machine.start(&[]);
        *versions.borrow_mut() = vec![vec![0]; disk.blocks() as usize];
        rest(&array).await;
        if over.get() {
            return;
        }
        for block in 0..disk.blocks() {
            let io = Io::read(BlockRange::new(block, 1), Buf::alloc(512));
            if over.get() || disk.perform(io).await.is_ok() {
                continue;
            }
            // Not flushed: it may be lost again, and then it must be an error again.
            let _ = write(&disk, &versions, block, 1).await;
        }
        reactor::sleep(Duration::from_secs(30)).await;
        array.stop().await
    };
    life.await;
    let was_cut = over.get();
    machine.power_up();
    let Some((array, disk)) = machine.try_start(&[]) else {
        // Nobody says what was being written: only where that was so.
        assert!(was_cut, "{what}");
        return was_cut;
    };
    if versions.borrow().is_empty() {
        *versions.borrow_mut() = vec![vec![0]; disk.blocks() as usize]
    }
    rest(&array).await;
    assert!(whole(&array), "{what}: {:?}", array.report());
    let bad = errors(&disk, &versions, &what).await;
    assert!(bad.len() <= 4, "{what}: {bad:?}");
    let (mismatches, _) = scrub(&array, false).await;
    assert_eq!(mismatches, 0, "{what}");
    // What is there is there on others as well.
    array
        .command(Command::Fail(count as u16))
        .await
        .expect("it can do without one");
    let without = errors(&disk, &versions, &what).await;
    assert!(without.len() <= 4, "{what}: {without:?}");
    array.stop().await;
    was_cut
}

#[test]
fn wherever_the_power_fails_what_is_lost_is_an_error_and_never_rubbish() {
    for (shape, members, keeps, count) in shapes() {
        let mut at = 1;
        loop {
            if !reactor::sim::run(cut(shape, members, keeps, count, at)) {
                break;
            }
            at += 1
        }
        assert!(at > 20, "{shape:?} was never cut")
    }
}

/// Without a log the rebuild ends, and nothing says that the member is rebuilt.
#[test]
fn where_nothing_can_be_left_out_the_rebuild_ends() {
    reactor::sim::run(async {
        let machine = lost(Shape::Raid1, 2, Keeps::Bitmap, &[0], 3).await;
        machine.forget_logs();
        machine.sims[1].spoil_blocks(BlockRange::new(machine.data() + 50, 1));
        let (array, disk) = machine.start(&[]);
        rest(&array).await;
        let report = array.report();
        assert!(
            matches!(report.members[0].state, MemberState::Rebuilding { .. }),
            "{report:?}"
        );
        let versions: Versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
        let bad = errors(&disk, &versions, "no log").await;
        assert_eq!(bad, BTreeSet::from([50]));
        // Once it is written the rebuild goes on, when it is begun again.
        assert_eq!(write(&disk, &versions, 50, 1).await, Ok(()));
        array.stop().await;
        drop((array, disk));
        let (array, disk) = machine.start(&[]);
        rest(&array).await;
        assert!(whole(&array), "{:?}", array.report());
        assert!(errors(&disk, &versions, "no log").await.is_empty())
    })
}

/// Each of some members cannot read something else: all of it is somewhere.
#[test]
fn what_one_cannot_read_another_has_and_the_other_way() {
    for (shape, members, keeps, _) in shapes() {
        reactor::sim::run(async {
            let what = format!("{shape:?} of {members}, {keeps:?}");
            let machine = lost(shape, members, keeps, &[], 5).await;
            for at in 0..members {
                let range = BlockRange::new(machine.data() + 3 + 5 * at as u64, 2);
                machine.sims[at].spoil_blocks(range)
            }
            let (array, disk) = machine.start(&[]);
            let data = Buf::alloc((disk.blocks() * 512) as usize);
            let io = Io::read(BlockRange::new(0, disk.blocks() as u32), data.clone());
            assert_eq!(disk.perform(io).await, Ok(()), "{what}");
            for (block, bytes) in (0..).zip(data.to_vec().chunks(512)) {
                assert!(bytes == stamp(block, 0), "{what}: block {block}")
            }
            assert_eq!(scrub(&array, true).await, (0, 0), "{what}");
            assert!(
                array.report().members.iter().all(|member| member.corrected > 0),
                "{what}: {:?}",
                array.report()
            );
        })
    }
}
