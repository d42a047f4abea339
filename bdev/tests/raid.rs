//! Arrays: the suite that every module passes, every loss that a level bears, and power cuts.
use bdev::{
    Disk, Geometry,
    conformance::Subject,
    leaf::sim::Sim,
    module::raid::{self, Array, Plan, Seat},
    raid::{MemberState, Parts, Shape},
};

/// An array without metadata over whole disks, all of which are there.
fn array(shape: Shape, sims: &[Sim]) -> (Array, Disk) {
    let disks: Vec<Disk> = sims.iter().cloned().map(Disk::new).collect();
    let used = disks.iter().map(Disk::blocks).min().expect("a disk");
    let seat = Seat {
        state: MemberState::InSync,
        write_mostly: false,
        superblock: None,
    };
    let plan = Plan {
        name: "md0".into(),
        shape,
        used,
        members: vec![Some(seat); disks.len()],
        bitmap: None,
        differs: Vec::new(),
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
