//! A machine with simulated disks that hold an MD array, and hosts that write to it: what tests of arrays start, cut off and start again.
#![allow(dead_code, reason = "each test uses what it needs")]
use bdev::{
    Disk, Geometry, Io,
    leaf::sim::Sim,
    module::raid::{self, Array, Plan, Seat},
    raid::{MemberState, Parts, Places, Shape},
};
use reactor::{Buf, testing::Rng};
use spec::{
    BlockRange, Spans,
    md::{
        Level, assembly, bad_blocks, bitmap, redo,
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

/// A machine with disks that hold an MD array of version 1.2, put together from what they say.
#[derive(Clone)]
pub struct Machine {
    pub sims: Vec<Sim>,
    /// So many members the array has; there may be more disks.
    pub places: usize,
    pub shape: Shape,
    pub keeps: Keeps,
}

/// How an array keeps what may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    Bitmap,
    Nothing,
    /// One partial parity log, or several behind each other.
    Partial {
        several: bool,
    },
}

/// Where members have what, in blocks of 512 bytes.
pub const SUPER: u64 = 8;
pub const BITMAP: u64 = 8;
pub const USED: u64 = 96;
/// Blocks that a bit of the bitmap stands for.
pub const UNIT: u64 = 16;

impl Machine {
    pub fn new(shape: Shape, members: usize, seed: u64, keeps: Keeps) -> Machine {
        Self::with_room(shape, members, seed, keeps, USED)
    }

    /// With members that have room for so many blocks of data, of which they give as many as all machines do.
    pub fn with_room(shape: Shape, members: usize, seed: u64, keeps: Keeps, room: u64) -> Machine {
        let mut machine = Machine {
            sims: Vec::new(),
            places: members,
            shape,
            keeps,
        };
        machine.sims = (0..members as u64)
            .map(|at| Sim::able(512, machine.data() + room, seed * 10 + at))
            .collect();
        (0..members).for_each(|at| machine.label(at, 1));
        machine
    }

    /// Where data begin. There is room for a redo log before them, but not much.
    pub fn data(&self) -> u64 {
        match self.keeps {
            Keeps::Partial { several: true } => 640,
            _ => 96,
        }
    }

    /// Where bad-block logs are.
    pub fn log(&self) -> u64 {
        match self.keeps {
            Keeps::Partial { several: true } => 528,
            Keeps::Partial { several: false } => 40,
            Keeps::Bitmap | Keeps::Nothing => 24,
        }
    }

    /// Members have no bad-block logs any more.
    pub fn forget_logs(&self) {
        for (at, sim) in self.sims.iter().enumerate() {
            let Superblock::V1(mut own) = self.superblock(at) else {
                panic!("of version 1")
            };
            own.bad_blocks = v1::BadBlockLog::default();
            sim.store(SUPER, &own.to_bytes().expect("few roles"))
        }
    }

    /// What a member's bad-block log says it lacks, in blocks of its data.
    pub fn lacks(&self, at: usize) -> Spans {
        let Superblock::V1(own) = self.superblock(at) else {
            panic!("of version 1")
        };
        if !own.features.has(v1::Features::BAD_BLOCKS) {
            return Spans::default();
        }
        let bytes = &self.sims[at].bytes()[(self.log() * 512) as usize..][..4096];
        let all = bad_blocks::parse(bytes, own.bad_blocks.shift).expect("a bad-block log");
        let data = self.data();
        all.into_iter()
            .map(|range| range.start - data..range.end - data)
            .collect()
    }

    /// The superblock of a member that is as new as the others.
    pub fn label(&self, at: usize, events: u64) {
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
        new.raid_disks = self.places as u32;
        new.data_offset = self.data();
        new.data_size = USED;
        new.super_offset = SUPER;
        // As mdadm has it where it is empty.
        new.bad_blocks = v1::BadBlockLog {
            offset: (self.log() - SUPER) as i32,
            size: 8,
            shift: 9,
        };
        new.number = at as u32;
        new.device = uuid::Uuid::from_u128(at as u128 + 1);
        new.events = events;
        new.resync_offset = u64::MAX;
        new.roles = (0..self.places as u16).map(v1::Role::Active).collect();
        new.roles.resize(self.places + 2, v1::Role::Spare);
        match self.keeps {
            Keeps::Nothing => (),
            Keeps::Partial { several } => new.set_ppl(BITMAP as i16, if several { 512 } else { 24 }, several),
            Keeps::Bitmap => {
                new.set_bitmap_offset(Some(BITMAP as i32));
                let span = self.shape.places(self.places, USED).unwrap().span();
                let mut header = bitmap::Header::new(id, span, (UNIT * 512) as u32, 8);
                header.events = events;
                self.sims[at].store(SUPER + BITMAP, &header.to_bytes());
            }
        }
        self.sims[at].store(SUPER, &new.to_bytes().expect("few roles"));
    }

    /// What a member says.
    pub fn superblock(&self, at: usize) -> Superblock {
        let bytes = self.sims[at].bytes();
        Superblock::parse(&bytes[(SUPER * 512) as usize..][..4096]).expect("a superblock")
    }

    /// Puts the array together from what its disks say, without those in `away`.
    pub fn start(&self, away: &[usize]) -> (Array, Disk) {
        self.try_start(away).expect("it can be told what was being written")
    }

    /// Nothing if it lacks a member and nobody says what was being written.
    pub fn try_start(&self, away: &[usize]) -> Option<(Array, Disk)> {
        let (plan, parts) = self.plan(away)?;
        let geometry = self.geometry(&parts);
        let array = Array::new(plan, parts.clone(), 512).expect("an array");
        let disk = array.device(parts, geometry);
        array.tend();
        Some((array, disk))
    }

    pub fn geometry(&self, parts: &[Option<Parts>]) -> Geometry {
        let geometries: Vec<_> = parts
            .iter()
            .map(|parts| parts.as_ref().map(|parts| parts.data.geometry()))
            .collect();
        let (members, replacements) = geometries.split_at(self.places);
        let used = parts.iter().flatten().next().map_or(USED, |parts| parts.data.blocks());
        raid::geometry(self.shape, members, replacements, used).expect("a shape")
    }

    /// What its disks say.
    pub fn plan(&self, away: &[usize]) -> Option<(Plan, Vec<Option<Parts>>)> {
        let bytes: Vec<Vec<u8>> = self.sims.iter().map(Sim::bytes).collect();
        let at = |member: usize, block: u64, count: u64| {
            bytes[member][(block * 512) as usize..][..(count * 512) as usize].to_vec()
        };
        let there: Vec<usize> = (0..self.sims.len()).filter(|at| !away.contains(at)).collect();
        let supers: Vec<Superblock> = there.iter().map(|member| self.superblock(*member)).collect();
        let mut made = assembly::assemble(&supers.iter().collect::<Vec<_>>()).expect("an array");
        let best = &supers[made.best];
        let used = best.size();
        let places = self.shape.places(self.places, used).unwrap();
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
                for (back, place) in made.returning.drain(..) {
                    if assembly::may_return(supers[back].events(), Some(&header)).is_ok() {
                        made.places[usize::from(place)] = Some((back, Standing::Returning(0)))
                    }
                }
                (Some(place[..bitmap::HEADER].to_vec()), differs)
            }
            None => (None, vec![(0, places.span())]),
        };
        let clean = best.in_sync_to() == u64::MAX;
        let mut noted = Vec::new();
        if clean {
            std::mem::swap(&mut differs, &mut noted);
            noted.retain(|_| bitmap.is_some())
        }
        // Behind the places those that replace them.
        let mut members = vec![None; self.places * 2];
        let mut parts: Vec<Option<Parts>> = vec![None; self.places * 2];
        let mut logged = false;
        let seats = made.places.iter().enumerate();
        let seats = seats.filter_map(|(place, seat)| seat.map(|(found, standing)| (place, found, standing)));
        let replacing = made.replacing.iter().map(|(found, place, standing)| {
            let to = match standing {
                Standing::Rebuilding(to) => *to,
                _ => used,
            };
            (self.places + usize::from(*place), *found, Standing::Rebuilding(to))
        });
        for (place, found, standing) in seats.chain(replacing) {
            let sim = there[found];
            if standing == Standing::InSync {
                let bitmap = if bitmap.is_some() { 1 } else { 0 };
                let room = redo::room(&supers[found], bitmap);
                let anchor = room.and_then(|room| redo::Anchor::parse(&at(sim, room.start, 1)));
                logged |= anchor.is_some_and(|anchor| anchor.goes_with(&supers[found]))
            }
            members[place] = Some(Seat {
                state: match standing {
                    Standing::Rebuilding(to) => MemberState::Rebuilding { to },
                    Standing::Returning(to) => MemberState::Returning { to },
                    _ => MemberState::InSync,
                },
                write_mostly: false,
                bad: self
                    .lacks(sim)
                    .iter()
                    .map(|lost| (lost.start, lost.end - lost.start))
                    .collect(),
                superblock: Some((SUPER, at(sim, SUPER, 8))),
            });
            let whole = Disk::new(self.sims[sim].clone());
            parts[place] = Some(Parts {
                data: whole.view(self.data(), used).expect("room"),
                whole,
            })
        }
        let mut replacements = members.split_off(self.places);
        let lacks = members.iter().any(|seat| {
            seat.as_ref()
                .is_none_or(|seat: &Seat| seat.state != MemberState::InSync)
        });
        let parity = matches!(places, Places::Parity { .. });
        let partial = matches!(self.keeps, Keeps::Partial { .. });
        let replay = !clean && parity && (partial || lacks && logged);
        if !clean && parity && lacks && !replay {
            return None;
        }
        if replay {
            noted = std::mem::take(&mut differs);
            // Nobody says which of its rows were being written.
            for seat in replacements.iter_mut().flatten() {
                let seat: &mut Seat = seat;
                seat.state = MemberState::Rebuilding { to: 0 }
            }
        }
        let plan = Plan {
            name: "md0".into(),
            shape: self.shape,
            used,
            members,
            replacements,
            bitmap,
            differs,
            noted: if partial { Vec::new() } else { noted },
            replay,
            read_only: false,
        };
        Some((plan, parts))
    }

    /// A member goes away, and what was in its cache is lost.
    pub fn pull(&self, at: usize) {
        self.sims[at].power_cut();
        self.sims[at].vanish()
    }

    /// The power fails at this I/O from now on; tells when it has.
    pub fn cut_at(&self, cut: u64) -> Rc<Cell<bool>> {
        let (count, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        for sim in &self.sims {
            let (count, over, machine) = (count.clone(), over.clone(), self.clone());
            sim.watch(move |_| {
                count.set(count.get() + 1);
                if count.get() == cut {
                    over.set(true);
                    machine.cut()
                }
            })
        }
        over
    }

    /// There is power again.
    pub fn power_up(&self) {
        self.sims.iter().for_each(|sim| {
            sim.mend();
            sim.watch(|_| ())
        })
    }

    /// The power fails, after which nobody who ran on it does anything.
    pub fn cut(&self) {
        self.sims.iter().for_each(|sim| {
            sim.power_cut();
            sim.vanish()
        })
    }
}

/// Waits until nothing is done to the array any more.
pub async fn rest(array: &Array) {
    for _ in 0..10_000 {
        // What was asked for a moment ago has not begun.
        reactor::sleep(Duration::from_millis(1)).await;
        if array.report().progress.is_none() {
            return;
        }
    }
    panic!("it does not come to rest: {:?}", array.report())
}

/// What each block may be: the last version that must be there, and all that came later.
pub type Versions = Rc<RefCell<Vec<Vec<u64>>>>;

pub fn stamp(block: u64, version: u64) -> Vec<u8> {
    let mut bytes = reactor::testing::pattern(block * 1000 + version, 512);
    bytes[..8].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// Several writers, each with blocks of its own, until the power fails.
pub fn writers(
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

pub async fn together(mut futures: Vec<Pin<Box<dyn Future<Output = ()>>>>) {
    poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        match futures.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await
}

/// Each block is a version that it may be.
pub fn check(bytes: &[u8], versions: &Versions, what: &str) {
    for (block, (bytes, may_be)) in bytes.chunks(512).zip(versions.borrow().iter()).enumerate() {
        assert!(
            may_be.iter().any(|version| bytes == stamp(block as u64, *version)),
            "{what}: block {block} is none of {may_be:?}: {:?}",
            &bytes[..8]
        )
    }
}

pub async fn read_all(disk: &Disk) -> Vec<u8> {
    let data = Buf::alloc(disk.geometry().bytes() as usize);
    let range = BlockRange::new(0, disk.blocks() as u32);
    assert_eq!(disk.perform(Io::read(range, data.clone())).await, Ok(()));
    data.to_vec()
}

impl Machine {
    /// One more disk that is to replace the member in a place, and says so: what an administrator's command leaves behind.
    pub fn join(&mut self, place: usize, seed: u64) {
        let (at, len) = (self.sims.len(), self.data() + USED);
        let sim = Sim::able(512, len, seed * 10 + at as u64);
        sim.store(0, &Rng::new(seed).bytes((len * 512) as usize));
        let Superblock::V1(mut new) = self.superblock(place) else {
            panic!("of version 1")
        };
        new.number = at as u32;
        new.device = uuid::Uuid::from_u128(2000 + u128::from(seed));
        new.roles[at] = v1::Role::Active(place as u16);
        new.features.set(v1::Features::REPLACEMENT, true);
        new.features.set(v1::Features::RECOVERY, true);
        new.features.set(v1::Features::BAD_BLOCKS, false);
        new.recovery_offset = 0;
        sim.store(SUPER, &new.to_bytes().expect("few roles"));
        let partial = spec::md::ppl::Header::new(new.array, 0);
        if self.keeps != Keeps::Nothing {
            let bytes = match self.keeps {
                Keeps::Bitmap => self.sims[place].bytes()[((SUPER + BITMAP) * 512) as usize..][..512].to_vec(),
                _ => partial.to_bytes().expect("no entries").to_vec(),
            };
            sim.store(SUPER + BITMAP, &bytes)
        }
        self.sims.push(sim)
    }

    /// Another disk in the place of one that was lost, and superblocks that say so: what an administrator's command leaves behind.
    pub fn replace(&mut self, lost: usize, seed: u64) {
        self.replace_all(&[lost], seed)
    }

    /// The same for several.
    pub fn replace_all(&mut self, lost: &[usize], seed: u64) {
        for at in lost {
            let seed = seed * 10 + *at as u64;
            self.sims[*at] = Sim::able(512, self.data() + USED, seed);
            // It holds rubbish, not zeros.
            self.sims[*at].store(0, &Rng::new(seed).bytes(((self.data() + USED) * 512) as usize));
        }
        let others: Vec<usize> = (0..self.places).filter(|at| !lost.contains(at)).collect();
        let best = others
            .iter()
            .map(|at| self.superblock(*at))
            .max_by_key(Superblock::events)
            .expect("one");
        let standing = |at: usize| match lost.contains(&at) {
            true => Standing::Rebuilding(0),
            false => Standing::InSync,
        };
        let members: Vec<(Option<u32>, Standing)> =
            (0..self.places).map(|at| (Some(at as u32), standing(at))).collect();
        let events = best.events() + 1;
        let unclean = best.in_sync_to() != u64::MAX;
        for this in 0..self.places {
            let mut new = if lost.contains(&this) {
                best.clone()
            } else {
                self.superblock(this)
            };
            if let (Superblock::V1(new), true) = (&mut new, lost.contains(&this)) {
                new.number = this as u32;
                new.features.set(v1::Features::BAD_BLOCKS, false);
                new.device = uuid::Uuid::from_u128(1000 + u128::from(seed) * 10 + this as u128);
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
            if self.keeps != Keeps::Bitmap {
                continue;
            }
            let bitmap = self.sims[others[0]].bytes()[((SUPER + BITMAP) * 512) as usize..][..4096].to_vec();
            let mut header = bitmap::Header::parse(&bitmap).expect("a bitmap");
            header.events = events;
            let bits = bitmap[bitmap::HEADER..].to_vec();
            self.sims[this].store(SUPER + BITMAP, &[header.to_bytes().to_vec(), bits].concat())
        }
    }
}
