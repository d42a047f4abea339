//! Arrays and power cuts: at every I/O of their members, in health and while a member is missing, vanishes or is rebuilt.
mod machine;

use bdev::{
    module::raid::{Array, Command},
    raid::{MemberState, Shape},
};
use machine::{Keeps, Machine, Versions, read_all, rest, stamp, together, writers};
use reactor::Buf;
use spec::{BlockRange, md::v1};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

/// What happens to a member besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    /// It was given up before anything is written, and is there again afterwards, with what it had.
    Before,
    /// It vanishes while there are writes under way, and is there again afterwards.
    Meanwhile,
    /// It vanishes for good.
    Dead,
    /// Another one that was empty is being rebuilt in its place.
    Rebuilt,
}

/// A machine's life.
#[derive(Clone, Copy, Debug)]
struct Life {
    shape: Shape,
    members: usize,
    keeps: Keeps,
    loss: Loss,
}

impl Life {
    /// Up to the `cut`-th I/O on the members, and what is there afterwards. False if it ended before that.
    async fn live(self, seed: u64, cut: u64) -> bool {
        let Life { members, loss, .. } = self;
        let victim = (seed % members as u64) as usize;
        let what = format!("{self:?}, seed {seed}, cut at {cut}");
        let mut machine = Machine::new(self.shape, members, seed, self.keeps);
        let (mut array, mut disk) = machine.start(&[]);
        let versions: Versions = Rc::new(RefCell::new(vec![vec![0]; disk.blocks() as usize]));
        // Version 0 is what is written first and flushed.
        let first: Vec<u8> = (0..disk.blocks()).flat_map(|block| stamp(block, 0)).collect();
        let whole = BlockRange::new(0, disk.blocks() as u32);
        assert_eq!(disk.write(whole, Buf::from_slice(&first)).await, Ok(()));
        if loss == Loss::Rebuilt {
            // In parts as well: logs say more of them.
            for block in (0..disk.blocks()).step_by(3) {
                let part = BlockRange::new(block, 1);
                assert_eq!(disk.write(part, Buf::from_slice(&stamp(block, 0))).await, Ok(()));
            }
        }
        assert_eq!(disk.flush().await, Ok(()));
        if matches!(loss, Loss::Before | Loss::Rebuilt) {
            array.command(Command::Fail(victim as u16)).await.expect("one may fail")
        }
        if loss == Loss::Rebuilt {
            array.stop().await;
            drop((array, disk));
            machine.replace(victim, seed);
            (array, disk) = machine.start(&[])
        }
        let (count, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        for sim in &machine.sims {
            let (count, over, machine) = (count.clone(), over.clone(), machine.clone());
            sim.watch(move |_| {
                count.set(count.get() + 1);
                if matches!(loss, Loss::Meanwhile | Loss::Dead) && count.get() == cut / 2 {
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
        // Whoever was rebuilding finds out that there is nothing left.
        reactor::sleep(Duration::from_secs(1)).await;
        machine.sims.iter().for_each(|sim| {
            sim.mend();
            sim.watch(|_| ())
        });
        let (array, disk) = match loss {
            // It came before anybody noted that it was lost: with it nothing is.
            Loss::Dead => match machine.try_start(&[victim]) {
                Some(started) => started,
                None => {
                    let others = (0..members).filter(|at| *at != victim);
                    for superblock in others.map(|at| machine.superblock(at)) {
                        let role = superblock.role_of(victim as u32);
                        assert_eq!(
                            role,
                            Some(v1::Role::Active(victim as u16)),
                            "{what}: it cannot be told any more"
                        )
                    }
                    machine.start(&[])
                }
            },
            _ => machine.start(&[]),
        };
        // While writes are under way and a member is lost, a block of them that MD's log is about may be anything.
        let torn = matches!(self.keeps, Keeps::Partial { .. }) && matches!(loss, Loss::Meanwhile | Loss::Dead);
        let check = |bytes: &[u8], when: &str| {
            for (block, bytes) in bytes.chunks(512).enumerate() {
                let may_be = &versions.borrow()[block];
                let is = |version: &u64| bytes == stamp(block as u64, *version);
                assert!(
                    may_be.iter().any(is) || torn && may_be.len() > 1,
                    "{what}: {when}: block {block} is none of {may_be:?}: {:?}",
                    &bytes[..8]
                )
            }
        };
        let found = read_all(&disk).await;
        check(&found, "at once");
        rest(&array).await;
        assert!(read_all(&disk).await == found, "{what}: what was read once changed");
        let whole = |array: &Array| {
            let members = array.report().members;
            members.iter().all(|member| member.state == MemberState::InSync)
        };
        if !whole(&array) {
            assert!(
                loss != Loss::None && loss != Loss::Rebuilt,
                "{what}: {:?}",
                array.report()
            );
            if matches!(self.shape, Shape::Raid6 { .. }) {
                // Any other may go as well.
                let lost = (victim + 1 + cut as usize % (members - 1)) % members;
                array
                    .command(Command::Fail(lost as u16))
                    .await
                    .expect("another may fail");
                assert!(
                    read_all(&disk).await == found,
                    "{what}: without two members it is another"
                )
            }
            return reached;
        }
        array
            .command(Command::Scrub { repair: false, from: 0 })
            .await
            .expect("a check");
        rest(&array).await;
        assert_eq!(array.report().mismatches, 0, "{what}: after resynchronisation");
        assert!(whole(&array), "{what}");
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

    /// With a power cut at each of its I/Os.
    fn cut_everywhere(self) {
        for cut in 1.. {
            let seed = 1 + cut % 5;
            if !reactor::sim::run(self.live(seed, cut)) {
                assert!(cut > 20, "there is hardly anything to cut");
                println!("{self:?}: cut at each of {cut} I/Os");
                return;
            }
        }
    }
}

fn cut_everywhere(shape: Shape, members: usize, keeps: Keeps, loss: Loss) {
    let life = Life {
        shape,
        members,
        keeps,
        loss,
    };
    life.cut_everywhere()
}

const FOUR: Shape = Shape::Raid4 { chunk: 8 };
const FIVE: Shape = Shape::Raid5 { layout: 2, chunk: 8 };
const SIX: Shape = Shape::Raid6 { layout: 2, chunk: 8 };
const TEN: Shape = Shape::Raid10 {
    layout: 0x102,
    chunk: 8,
};

#[test]
fn power_fails_at_every_io_of_a_mirror() {
    cut_everywhere(Shape::Raid1, 3, Keeps::Bitmap, Loss::None)
}

#[test]
fn power_fails_at_every_io_of_a_raid_10() {
    cut_everywhere(TEN, 4, Keeps::Bitmap, Loss::None)
}

#[test]
fn power_fails_at_every_io_of_a_raid_5() {
    cut_everywhere(FIVE, 4, Keeps::Bitmap, Loss::None)
}

#[test]
fn power_fails_at_every_io_of_a_raid_4() {
    cut_everywhere(FOUR, 4, Keeps::Bitmap, Loss::None);
    cut_everywhere(FOUR, 3, Keeps::Bitmap, Loss::Before)
}

#[test]
fn power_fails_at_every_io_of_a_raid_6() {
    cut_everywhere(SIX, 5, Keeps::Bitmap, Loss::None)
}

#[test]
fn power_fails_at_every_io_of_a_raid_5_without_a_bitmap() {
    cut_everywhere(FIVE, 3, Keeps::Nothing, Loss::None)
}

#[test]
fn power_fails_at_every_io_of_a_raid_5_with_a_partial_parity_log() {
    for several in [false, true] {
        cut_everywhere(FIVE, 4, Keeps::Partial { several }, Loss::None)
    }
}

#[test]
fn power_fails_while_a_raid_5_with_a_partial_parity_log_lacks_a_member() {
    for loss in [Loss::Before, Loss::Meanwhile, Loss::Dead, Loss::Rebuilt] {
        let several = loss == Loss::Before;
        cut_everywhere(FIVE, 4, Keeps::Partial { several }, loss)
    }
}

/// What a log has from an earlier life counts no more.
#[test]
fn power_fails_after_a_raid_5_with_several_logs_was_stopped_and_started() {
    cut_everywhere(FIVE, 4, Keeps::Partial { several: true }, Loss::Rebuilt)
}

#[test]
fn power_fails_while_a_raid_5_lacks_a_member() {
    for loss in [Loss::Before, Loss::Meanwhile, Loss::Dead] {
        cut_everywhere(FIVE, 4, Keeps::Bitmap, loss)
    }
}

#[test]
fn power_fails_while_a_raid_6_lacks_a_member() {
    for loss in [Loss::Before, Loss::Meanwhile, Loss::Dead] {
        cut_everywhere(SIX, 5, Keeps::Bitmap, loss)
    }
}

#[test]
fn power_fails_while_a_member_is_rebuilt() {
    for (shape, members) in [(Shape::Raid1, 3), (TEN, 4), (FIVE, 4), (SIX, 5), (FOUR, 3)] {
        cut_everywhere(shape, members, Keeps::Bitmap, Loss::Rebuilt)
    }
}

/// What the members that are left acknowledged is there, whatever the one that failed still has.
#[test]
fn power_fails_after_a_member_of_a_mirror_did() {
    cut_everywhere(Shape::Raid1, 3, Keeps::Bitmap, Loss::Meanwhile);
    cut_everywhere(Shape::Raid1, 2, Keeps::Nothing, Loss::Meanwhile)
}

#[test]
fn power_fails_after_a_member_of_a_raid_10_did() {
    cut_everywhere(TEN, 4, Keeps::Bitmap, Loss::Meanwhile)
}
