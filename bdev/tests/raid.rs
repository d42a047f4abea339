//! Arrays: the suite that every module passes, every loss that a level bears, and power cuts.
use bdev::{
    Disk, Geometry, Io,
    conformance::Subject,
    leaf::sim::Sim,
    module::raid::{self, Array, Command, Plan, Seat},
    raid::{MemberState, Parts, Shape},
};
use reactor::{Buf, testing::Rng};
use spec::{
    BlockRange,
    md::{
        Level, assembly, bitmap,
        superblock::{Standing, Superblock, Update},
        v1,
    },
};
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
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

/// A machine with disks that hold an MD array of version 1.2, put together from what they say.
#[derive(Clone)]
struct Machine {
    sims: Vec<Sim>,
    shape: Shape,
}

/// Where members have what, in blocks of 512 bytes.
const SUPER: u64 = 8;
const BITMAP: u64 = 8;
const DATA: u64 = 32;
const USED: u64 = 96;
/// Blocks that a bit of the bitmap stands for.
const UNIT: u64 = 16;

impl Machine {
    fn new(shape: Shape, members: usize, seed: u64, bitmap: bool) -> Machine {
        let sims: Vec<Sim> = (0..members as u64)
            .map(|at| Sim::able(512, DATA + USED, seed * 10 + at))
            .collect();
        let machine = Machine { sims, shape };
        (0..members).for_each(|at| machine.label(at, 1, bitmap));
        machine
    }

    /// The superblock of a member that is as new as the others.
    fn label(&self, at: usize, events: u64, bitmap: bool) {
        let id = uuid::Uuid::from_u128(0xa5);
        let (level, layout) = match self.shape {
            Shape::Raid1 => (Level::Raid1, 0),
            Shape::Raid4 { .. } => (Level::Raid4, 0),
            Shape::Raid5 { layout, .. } => (Level::Raid5, layout),
            Shape::Raid6 { layout, .. } => (Level::Raid6, layout),
            Shape::Raid10 { layout, .. } => (Level::Raid10, layout),
        };
        let mut new = v1::Superblock::new(id, level);
        new.layout = layout;
        new.chunk = self.shape.chunk().unwrap_or(0);
        new.size = USED;
        new.raid_disks = self.sims.len() as u32;
        new.data_offset = DATA;
        new.data_size = USED;
        new.super_offset = SUPER;
        new.number = at as u32;
        new.device = uuid::Uuid::from_u128(at as u128 + 1);
        new.events = events;
        new.resync_offset = u64::MAX;
        new.roles = (0..self.sims.len() as u16).map(v1::Role::Active).collect();
        if bitmap {
            new.set_bitmap_offset(Some(BITMAP as i32));
            let span = self.shape.places(self.sims.len(), USED).unwrap().span();
            let mut header = bitmap::Header::new(id, span, (UNIT * 512) as u32, 8);
            header.events = events;
            self.sims[at].store(SUPER + BITMAP, &header.to_bytes());
        }
        self.sims[at].store(SUPER, &new.to_bytes().expect("few roles"));
    }

    /// Puts the array together from what its disks say, without those in `away`. Also whether it has to be resynchronised.
    fn start(&self, away: &[usize]) -> (Array, Disk) {
        let bytes: Vec<Vec<u8>> = self.sims.iter().map(Sim::bytes).collect();
        let at = |member: usize, block: u64, count: u64| {
            bytes[member][(block * 512) as usize..][..(count * 512) as usize].to_vec()
        };
        let there: Vec<usize> = (0..self.sims.len()).filter(|at| !away.contains(at)).collect();
        let supers: Vec<Superblock> = there
            .iter()
            .map(|member| Superblock::parse(&at(*member, SUPER, 8)).expect("a superblock"))
            .collect();
        let made = assembly::assemble(&supers.iter().collect::<Vec<_>>()).expect("an array");
        let best = &supers[made.best];
        let places = self.shape.places(self.sims.len(), USED).unwrap();
        let (bitmap, mut differs) = match best.bitmap_offset() {
            Some(_) => {
                let place = at(there[made.best], SUPER + BITMAP, 8);
                let header = bitmap::Header::parse(&place).expect("a bitmap");
                assert!(
                    header.events >= best.events(),
                    "the bitmap is older than its superblock"
                );
                let dirty = bitmap::dirty(&place[bitmap::HEADER..], header.bits());
                let differs = dirty.map(|bit| (bit * UNIT, UNIT)).collect();
                (Some(place[..bitmap::HEADER].to_vec()), differs)
            }
            None => (None, vec![(0, places.span())]),
        };
        if best.in_sync_to() == u64::MAX {
            differs.clear()
        }
        let mut members = vec![None; self.sims.len()];
        let mut parts = vec![None; self.sims.len()];
        for (place, found) in made.places.iter().enumerate() {
            let Some((found, standing)) = found else { continue };
            let sim = there[*found];
            members[place] = Some(Seat {
                state: match standing {
                    Standing::Rebuilding(to) => MemberState::Rebuilding { to: *to },
                    _ => MemberState::InSync,
                },
                write_mostly: false,
                bad: Vec::new(),
                superblock: Some((SUPER, at(sim, SUPER, 8))),
            });
            let whole = Disk::new(self.sims[sim].clone());
            parts[place] = Some(Parts {
                data: whole.view(DATA, USED).expect("room"),
                whole,
            })
        }
        let geometries: Vec<_> = parts
            .iter()
            .map(|parts: &Option<Parts>| parts.as_ref().map(|parts| parts.data.geometry()))
            .collect();
        let geometry = raid::geometry(self.shape, &geometries, USED).expect("a shape");
        let plan = Plan {
            name: "md0".into(),
            shape: self.shape,
            used: USED,
            members,
            bitmap,
            differs,
            noted: Vec::new(),
            read_only: false,
        };
        let array = Array::new(plan, parts.clone(), 512).expect("an array");
        let disk = array.device(parts, geometry);
        array.tend();
        (array, disk)
    }

    /// The power fails, after which nobody who ran on it does anything.
    fn cut(&self) {
        self.sims.iter().for_each(|sim| {
            sim.power_cut();
            sim.vanish()
        })
    }
}

/// Waits until nothing is done to the array any more.
async fn rest(array: &Array) {
    for _ in 0..10_000 {
        if array.report().progress.is_none() {
            return;
        }
        reactor::sleep(Duration::from_millis(1)).await
    }
    panic!("it does not come to rest: {:?}", array.report())
}

/// What each block may be: the last version that must be there, and all that came later.
type Versions = Rc<RefCell<Vec<Vec<u64>>>>;

fn stamp(block: u64, version: u64) -> Vec<u8> {
    let mut bytes = reactor::testing::pattern(block * 1000 + version, 512);
    bytes[..8].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// Several writers, each with blocks of its own, until the power fails.
fn writers(
    disk: &Disk,
    versions: &Versions,
    over: &Rc<Cell<bool>>,
    seed: u64,
) -> Vec<Pin<Box<dyn Future<Output = ()>>>> {
    let blocks = disk.blocks();
    let each = blocks / 3;
    (0..3)
        .map(|worker| {
            let (disk, versions, over) = (disk.clone(), versions.clone(), over.clone());
            let mut rng = Rng::new(seed * 7 + worker);
            Box::pin(async move {
                for _ in 0..6 {
                    // Long enough for what was noted to be forgotten.
                    if rng.below(4) == 0 {
                        reactor::sleep(Duration::from_secs(11)).await
                    }
                    let start = worker * each + rng.below(each);
                    let count = 1 + rng.below(((worker + 1) * each - start).min(70));
                    let here = start..start + count;
                    let mut bytes = Vec::new();
                    for block in here.clone() {
                        let mut versions = versions.borrow_mut();
                        let next = versions[block as usize].last().expect("a version") + 1;
                        versions[block as usize].push(next);
                        bytes.extend(stamp(block, next))
                    }
                    let durable = rng.below(3);
                    let io = Io::write(BlockRange::new(start, count as u32), Buf::from_slice(&bytes));
                    let done = disk.perform(if durable == 0 { io.fua() } else { io }).await;
                    if over.get() {
                        return;
                    }
                    assert_eq!(done, Ok(()));
                    if durable == 1 {
                        let done = disk.flush().await;
                        if over.get() {
                            return;
                        }
                        assert_eq!(done, Ok(()))
                    }
                    if durable < 2 {
                        for block in here {
                            let mut versions = versions.borrow_mut();
                            let last = versions[block as usize].len() - 1;
                            versions[block as usize].drain(..last);
                        }
                    }
                }
            }) as Pin<Box<dyn Future<Output = ()>>>
        })
        .collect()
}

async fn together(mut futures: Vec<Pin<Box<dyn Future<Output = ()>>>>) {
    poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        match futures.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await
}

async fn read_all(disk: &Disk) -> Vec<u8> {
    let data = Buf::alloc(disk.geometry().bytes() as usize);
    let range = BlockRange::new(0, disk.blocks() as u32);
    assert_eq!(disk.perform(Io::read(range, data.clone())).await, Ok(()));
    data.to_vec()
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

impl Machine {
    /// Another disk in the place of one that was lost, and superblocks that say so: what an administrator's command leaves behind.
    fn replace(&mut self, lost: usize, seed: u64) {
        self.sims[lost] = Sim::able(512, DATA + USED, seed * 10 + 7);
        // It holds rubbish, not zeros.
        self.sims[lost].store(0, &Rng::new(seed).bytes(((DATA + USED) * 512) as usize));
        let superblock =
            |sim: &Sim| Superblock::parse(&sim.bytes()[(SUPER * 512) as usize..][..4096]).expect("a superblock");
        let others: Vec<usize> = (0..self.sims.len()).filter(|at| *at != lost).collect();
        let best = others
            .iter()
            .map(|at| superblock(&self.sims[*at]))
            .max_by_key(Superblock::events)
            .expect("one");
        let mut members: Vec<(Option<u32>, Standing)> = (0..self.sims.len())
            .map(|at| (Some(at as u32), Standing::InSync))
            .collect();
        members[lost].1 = Standing::Rebuilding(0);
        let events = best.events() + 1;
        let unclean = best.in_sync_to() != u64::MAX;
        for this in 0..self.sims.len() {
            let mut new = if this == lost {
                best.clone()
            } else {
                superblock(&self.sims[this])
            };
            if let (Superblock::V1(new), true) = (&mut new, this == lost) {
                new.number = lost as u32;
                new.device = uuid::Uuid::from_u128(1000 + u128::from(seed));
            }
            new.update(&Update {
                events,
                time: 1,
                dirty: unclean,
                in_sync_to: u64::MAX,
                members: &members,
                this,
                corrected: 0,
            });
            self.sims[this].store(SUPER, &new.to_bytes().expect("few roles"));
            let bitmap = self.sims[others[0]].bytes()[((SUPER + BITMAP) * 512) as usize..][..4096].to_vec();
            let mut header = bitmap::Header::parse(&bitmap).expect("a bitmap");
            header.events = events;
            let bits = bitmap[bitmap::HEADER..].to_vec();
            self.sims[this].store(SUPER + BITMAP, &[header.to_bytes().to_vec(), bits].concat())
        }
    }
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
