//! Arrays: the suite that every module passes, every loss that a level bears, and power cuts.
mod machine;

use bdev::{
    Disk, Geometry,
    conformance::Subject,
    leaf::sim::Sim,
    module::raid::{self, Array, Command, Plan, Seat},
    raid::{MemberState, Parts, Shape},
};
use machine::{Machine, Versions, read_all, rest, stamp, together, writers};
use reactor::{Buf, testing::Rng};
use spec::BlockRange;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// An array without metadata over whole disks, all of which are there.
fn array(shape: Shape, sims: &[Sim]) -> (Array, Disk) {
    let disks: Vec<Disk> = sims.iter().cloned().map(Disk::new).collect();
    let used = disks.iter().map(Disk::blocks).min().expect("a disk");
    let seat = Seat {
        state: MemberState::InSync,
        write_mostly: false,
        bad: Vec::new(),
        superblock: None,
    };
    let plan = Plan {
        name: "md0".into(),
        shape,
        used,
        members: vec![Some(seat); disks.len()],
        bitmap: None,
        differs: Vec::new(),
        noted: Vec::new(),
        read_only: false,
    };
    let parts: Vec<Option<Parts>> = disks
        .iter()
        .map(|disk| {
            Some(Parts {
                data: disk.clone(),
                whole: disk.clone(),
            })
        })
        .collect();
    let geometries: Vec<Option<Geometry>> = disks.iter().map(|disk| Some(disk.geometry())).collect();
    let geometry = raid::geometry(shape, &geometries, used).expect("a shape");
    let array = Array::new(plan, parts.clone(), geometry.block_size).expect("an array");
    let disk = array.device(parts, geometry);
    (array, disk)
}

/// Every level and layout, and of how many members.
fn shapes(chunk: u32) -> Vec<(String, Shape, usize)> {
    let mut all = vec![
        ("raid1 of 2".to_owned(), Shape::Raid1, 2),
        ("raid1 of 3".to_owned(), Shape::Raid1, 3),
        ("raid4".to_owned(), Shape::Raid4 { chunk }, 4),
    ];
    all.extend((0..6).map(|layout| (format!("raid5 layout {layout}"), Shape::Raid5 { layout, chunk }, 4)));
    let six = (0..6).chain(8..11).chain(16..21);
    all.extend(six.map(|layout| (format!("raid6 layout {layout}"), Shape::Raid6 { layout, chunk }, 5)));
    for (name, layout, members) in [
        ("near 2", 0x102, 4),
        ("near 2 of an odd number", 0x102, 3),
        ("near 3", 0x103, 4),
        ("far 2", 0x201, 3),
        ("offset 2", 0x1_0201, 3),
        ("near 2 far 2", 0x202, 5),
    ] {
        all.push((format!("raid10 {name}"), Shape::Raid10 { layout, chunk }, members))
    }
    all
}

fn conformance(block_size: u32, chunk: u32, seeds: u64) {
    for (name, shape, members) in shapes(chunk) {
        // Where nothing goes twice to the same place of different members they differ from the start.
        let subject = Subject::over(members, move |sims| array(shape, sims).1)
            .block_size(block_size)
            .mends();
        let subject = match shape {
            Shape::Raid1 => subject.alike(),
            // Copies of unwritten blocks are rubbish of different members: which is read is chance, so they are zeros.
            Shape::Raid10 { .. } => subject.zeroed(),
            _ => subject,
        };
        for seed in 1..=seeds {
            reactor::sim::run(subject.clone().check(&format!("{name}, chunk {chunk}"), seed))
        }
    }
}

#[test]
fn every_level_is_a_device_as_any_other() {
    conformance(512, 8, 2)
}

#[test]
fn every_level_with_an_odd_chunk_and_large_blocks() {
    conformance(4096, 7, 1)
}

/// One life up to the `cut`-th I/O on the members, and what is there afterwards. False if it ended before that. With `fails` a member vanishes some I/Os before,
/// and is there again with what it had.
async fn life(shape: Shape, members: usize, seed: u64, bitmap: bool, cut: u64, fails: bool) -> bool {
    let victim = (seed % members as u64) as usize;
    let what = format!("{shape:?} of {members}, seed {seed}, bitmap {bitmap}, cut at {cut}");
    let machine = Machine::new(shape, members, seed, bitmap);
    let (array, disk) = machine.start(&[]);
    let versions: Versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
    // Version 0 is what is written first and flushed.
    let first: Vec<u8> = (0..disk.blocks()).flat_map(|block| stamp(block, 0)).collect();
    let whole = BlockRange::new(0, disk.blocks() as u32);
    assert_eq!(disk.write(whole, Buf::from_slice(&first)).await, Ok(()));
    assert_eq!(disk.flush().await, Ok(()));
    let (count, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    for sim in &machine.sims {
        let (count, over, machine) = (count.clone(), over.clone(), machine.clone());
        sim.watch(move |_| {
            count.set(count.get() + 1);
            if fails && count.get() == cut / 2 {
                machine.sims[victim].vanish()
            }
            if count.get() == cut {
                over.set(true);
                machine.cut()
            }
        })
    }
    together(writers(&disk, &versions, &over, seed)).await;
    let reached = over.get();
    if !reached {
        machine.cut()
    }
    drop((disk, array));
    machine.sims.iter().for_each(|sim| {
        sim.mend();
        sim.watch(|_| ())
    });
    let (array, disk) = machine.start(&[]);
    let check = |bytes: &[u8], when: &str| {
        for (block, bytes) in bytes.chunks(512).enumerate() {
            let may_be = &versions.borrow()[block];
            let is = |version: &u64| bytes == stamp(block as u64, *version);
            assert!(
                may_be.iter().any(is),
                "{what}: {when}: block {block} is none of {may_be:?}: {:?}",
                &bytes[..8]
            )
        }
    };
    let found = read_all(&disk).await;
    check(&found, "at once");
    rest(&array).await;
    assert!(read_all(&disk).await == found, "{what}: what was read once changed");
    if array
        .report()
        .members
        .iter()
        .any(|member| member.state != MemberState::InSync)
    {
        assert!(fails, "{what}: {:?}", array.report());
        return reached;
    }
    array.command(Command::Scrub { repair: false }).await.expect("a check");
    rest(&array).await;
    assert_eq!(array.report().mismatches, 0, "{what}: after resynchronisation");
    assert!(
        array
            .report()
            .members
            .iter()
            .all(|member| member.state == MemberState::InSync),
        "{what}"
    );
    // Any member can be lost now.
    let lost = (cut % members as u64) as u16;
    array.command(Command::Fail(lost)).await.expect("one may fail");
    check(&read_all(&disk).await, "without a member");
    assert!(read_all(&disk).await == found, "{what}: without a member it is another");
    array.stop().await;
    let (again, disk) = machine.start(&[]);
    assert_eq!(
        again.report().members[usize::from(lost)].state,
        MemberState::Missing,
        "{what}: the others know"
    );
    assert!(read_all(&disk).await == found, "{what}: after a clean stop");
    reached
}

fn cut_everywhere(shape: Shape, members: usize, bitmap: bool, fails: bool) {
    for cut in 1.. {
        let seed = 1 + cut % 5;
        if !reactor::sim::run(life(shape, members, seed, bitmap, cut, fails)) {
            assert!(cut > 20, "there is hardly anything to cut");
            println!("{shape:?}: cut at each of {cut} I/Os");
            return;
        }
    }
}

#[test]
fn power_fails_at_every_io_of_a_mirror() {
    cut_everywhere(Shape::Raid1, 3, true, false)
}

#[test]
fn power_fails_at_every_io_of_a_raid_10() {
    cut_everywhere(
        Shape::Raid10 {
            layout: 0x102,
            chunk: 8,
        },
        4,
        true,
        false,
    )
}

#[test]
fn power_fails_at_every_io_of_a_raid_5() {
    cut_everywhere(Shape::Raid5 { layout: 2, chunk: 8 }, 4, true, false)
}

#[test]
fn power_fails_at_every_io_of_a_raid_6() {
    cut_everywhere(Shape::Raid6 { layout: 2, chunk: 8 }, 5, true, false)
}

#[test]
fn power_fails_at_every_io_of_a_raid_5_without_a_bitmap() {
    cut_everywhere(Shape::Raid5 { layout: 2, chunk: 8 }, 3, false, false)
}

/// Members are lost in the middle of writes, others take their places and are rebuilt in the middle of writes, and are lost in turn.
async fn losses(shape: Shape, members: usize, seed: u64) {
    let what = format!("{shape:?} of {members}, seed {seed}");
    let mut rng = Rng::new(seed);
    let mut machine = Machine::new(shape, members, seed, true);
    let (mut array, mut disk) = machine.start(&[]);
    let versions: Versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
    let first: Vec<u8> = (0..disk.blocks()).flat_map(|block| stamp(block, 0)).collect();
    assert_eq!(
        disk.write(BlockRange::new(0, disk.blocks() as u32), Buf::from_slice(&first))
            .await,
        Ok(())
    );
    let never = Rc::new(Cell::new(false));
    for round in 0..4 {
        let lost = rng.below(members as u64) as usize;
        let (after, count) = (rng.below(60), Cell::new(0));
        for sim in &machine.sims {
            let victim = machine.sims[lost].clone();
            let count = count.clone();
            sim.watch(move |_| {
                count.set(count.get() + 1);
                if count.get() >= after {
                    victim.vanish()
                }
            })
        }
        together(writers(&disk, &versions, &never, seed * 10 + round)).await;
        machine.sims[lost].vanish();
        assert_eq!(disk.flush().await, Ok(()), "{what}: round {round}");
        let check = async |disk: &Disk, when: &str| {
            for (block, bytes) in read_all(disk).await.chunks(512).enumerate() {
                let last = *versions.borrow()[block].last().expect("a version");
                assert!(
                    bytes == stamp(block as u64, last),
                    "{what}: round {round}, {when}: block {block} is not version {last}: {:?}",
                    &bytes[..8]
                )
            }
        };
        check(&disk, "without it").await;
        assert_eq!(array.report().members[lost].state, MemberState::Failed, "{what}");
        array.stop().await;
        drop((array, disk));
        machine.sims.iter().for_each(|sim| sim.watch(|_| ()));
        machine.replace(lost, seed * 100 + round);
        (array, disk) = machine.start(&[]);
        assert!(
            matches!(array.report().members[lost].state, MemberState::Rebuilding { .. }),
            "{what}: {:?}",
            array.report()
        );
        together(writers(&disk, &versions, &never, seed * 10 + round + 5)).await;
        check(&disk, "while it is rebuilt").await;
        rest(&array).await;
        assert!(
            array
                .report()
                .members
                .iter()
                .all(|member| member.state == MemberState::InSync),
            "{what}: {:?}",
            array.report()
        );
        array.command(Command::Scrub { repair: false }).await.expect("a check");
        rest(&array).await;
        assert_eq!(array.report().mismatches, 0, "{what}: round {round}");
        check(&disk, "rebuilt").await
    }
}

#[test]
fn members_are_lost_and_rebuilt_under_load() {
    for (name, shape, members) in shapes(8) {
        for seed in 1..4 {
            println!("{name}, seed {seed}");
            reactor::sim::run(losses(shape, members, seed))
        }
    }
}

/// What the members that are left acknowledged is there, whatever the one that failed still has.
#[test]
fn power_fails_after_a_member_of_a_mirror_did() {
    cut_everywhere(Shape::Raid1, 3, true, true);
    cut_everywhere(Shape::Raid1, 2, false, true)
}

#[test]
fn power_fails_after_a_member_of_a_raid_10_did() {
    let near = Shape::Raid10 {
        layout: 0x102,
        chunk: 8,
    };
    cut_everywhere(near, 4, true, true)
}
