//! Arrays: the suite that every module passes, and every loss that a level bears.
mod machine;

use bdev::{
    Disk, Geometry,
    conformance::Subject,
    leaf::sim::Sim,
    module::raid::{self, Array, Command, Plan, Seat},
    raid::{MemberState, Parts, Shape},
};
use machine::{Keeps, Machine, USED, Versions, read_all, rest, stamp, together, writers};
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
        replacements: Vec::new(),
        bitmap: None,
        differs: Vec::new(),
        noted: Vec::new(),
        replay: false,
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
    let geometry = raid::geometry(shape, &geometries, &[], used).expect("a shape");
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

/// All members, one or two of them, that an array bears to lose.
fn patterns(shape: Shape, members: usize) -> Vec<Vec<usize>> {
    let places = shape.places(members, USED).expect("a shape");
    let singles = (0..members).map(|one| vec![one]);
    let pairs = (0..members).flat_map(|one| (one + 1..members).map(move |other| vec![one, other]));
    let bears = |lost: &Vec<usize>| places.survives(|member| lost.contains(&usize::from(member)));
    singles.chain(pairs).filter(bears).collect()
}

/// Members are lost in the middle of writes, others take their places and are rebuilt in the middle of writes, and are lost in turn.
async fn losses(shape: Shape, members: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut machine = Machine::new(shape, members, seed, Keeps::Bitmap);
    let (mut array, mut disk) = machine.start(&[]);
    let versions: Versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
    let first: Vec<u8> = (0..disk.blocks()).flat_map(|block| stamp(block, 0)).collect();
    assert_eq!(
        disk.write(BlockRange::new(0, disk.blocks() as u32), Buf::from_slice(&first))
            .await,
        Ok(())
    );
    let never = Rc::new(Cell::new(false));
    for (round, lost) in (0..).zip(patterns(shape, members)) {
        let what = format!("{shape:?} of {members} without {lost:?}, seed {seed}");
        let count = Rc::new(Cell::new(0));
        let after: Vec<u64> = lost.iter().map(|_| rng.below(60)).collect();
        for sim in &machine.sims {
            let victims: Vec<Sim> = lost.iter().map(|at| machine.sims[*at].clone()).collect();
            let (count, after) = (count.clone(), after.clone());
            sim.watch(move |_| {
                count.set(count.get() + 1);
                for (victim, after) in victims.iter().zip(&after) {
                    if count.get() >= *after {
                        victim.vanish()
                    }
                }
            })
        }
        together(writers(&disk, &versions, &never, seed * 100 + round)).await;
        lost.iter().for_each(|at| machine.sims[*at].vanish());
        assert_eq!(disk.flush().await, Ok(()), "{what}");
        let check = async |disk: &Disk, when: &str| {
            for (block, bytes) in read_all(disk).await.chunks(512).enumerate() {
                let last = *versions.borrow()[block].last().expect("a version");
                assert!(
                    bytes == stamp(block as u64, last),
                    "{what}: {when}: block {block} is not version {last}: {:?}",
                    &bytes[..8]
                )
            }
        };
        check(&disk, "without").await;
        let states = |array: &Array| {
            let members = array.report().members;
            lost.iter().map(|at| members[*at].state).collect::<Vec<_>>()
        };
        assert!(
            states(&array).iter().all(|state| *state == MemberState::Failed),
            "{what}"
        );
        array.stop().await;
        drop((array, disk));
        machine.sims.iter().for_each(|sim| sim.watch(|_| ()));
        machine.replace_all(&lost, seed * 100 + round);
        (array, disk) = machine.start(&[]);
        let rebuilds = |state: &MemberState| matches!(state, MemberState::Rebuilding { .. });
        assert!(states(&array).iter().all(rebuilds), "{what}: {:?}", array.report());
        together(writers(&disk, &versions, &never, seed * 100 + round + 50)).await;
        check(&disk, "while they are rebuilt").await;
        rest(&array).await;
        let whole = array.report().members;
        assert!(
            whole.iter().all(|member| member.state == MemberState::InSync),
            "{what}: {whole:?}"
        );
        array
            .command(Command::Scrub { repair: false, from: 0 })
            .await
            .expect("a check");
        rest(&array).await;
        assert_eq!(array.report().mismatches, 0, "{what}");
        check(&disk, "rebuilt").await
    }
}

/// All shapes of a level.
fn lost_under_load(level: &str) {
    let all: Vec<_> = shapes(8)
        .into_iter()
        .filter(|(name, ..)| name.starts_with(level))
        .collect();
    assert!(!all.is_empty());
    for (name, shape, members) in all {
        for seed in 1..4 {
            println!("{name}, seed {seed}");
            reactor::sim::run(losses(shape, members, seed))
        }
    }
}

#[test]
fn members_of_mirrors_are_lost_and_rebuilt_under_load() {
    lost_under_load("raid1 of")
}

#[test]
fn members_of_raid_4_are_lost_and_rebuilt_under_load() {
    lost_under_load("raid4")
}

#[test]
fn members_of_raid_5_are_lost_and_rebuilt_under_load() {
    lost_under_load("raid5")
}

#[test]
fn members_of_raid_6_are_lost_and_rebuilt_under_load() {
    lost_under_load("raid6")
}

#[test]
fn members_of_raid_10_are_lost_and_rebuilt_under_load() {
    lost_under_load("raid10")
}
