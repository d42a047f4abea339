//! Arrays that have seen much: sectors go bad, members are lost or replaced, the power fails. What is read is what was written, or an error; and what was acknowledged and durable
//! is no error as long as nothing else has gone wrong since.
use super::{
    CHUNK, errors, lost,
    machine::{Keeps, Machine, Versions, rest, stamp},
    scrub, shapes, whole,
};
use bdev::{
    Disk, Io,
    module::raid::{Array, Command},
    raid::{MemberState, Shape},
};
use reactor::{Buf, testing::Rng};
use spec::BlockRange;
use std::{cell::Cell, collections::BTreeSet, rc::Rc, time::Duration};

/// Lives of each array.
const SEEDS: u64 = 120;

/// One of them.
struct Life {
    what: String,
    machine: Machine,
    running: Option<(Array, Disk)>,
    versions: Versions,
    /// Blocks that have to be readable.
    safe: BTreeSet<u64>,
    rng: Rng,
    joined: usize,
    /// Rows that were being written when the power failed are not logged.
    has_hole: bool,
    /// How many errors were seen.
    seen: usize,
}

impl Life {
    fn array(&self) -> &Array {
        &self.running.as_ref().expect("it runs").0
    }

    fn disk(&self) -> &Disk {
        &self.running.as_ref().expect("it runs").1
    }

    /// All that happens, happens here.
    fn spot(&mut self, blocks: u64) -> u64 {
        self.rng.below(blocks.min(u64::from(CHUNK) * 3))
    }

    async fn look(&mut self, when: &str) {
        let what = format!("{}, {when}", self.what);
        let bad = errors(self.disk(), &self.versions, &what).await;
        let lost: Vec<&u64> = bad.intersection(&self.safe).collect();
        assert!(
            lost.is_empty(),
            "{what}: {lost:?} are lost: {:?}",
            self.array().report()
        );
        self.seen += bad.len()
    }

    async fn look_at_safe(&self) {
        for block in &self.safe {
            let data = Buf::alloc(512);
            let done = self.disk().perform(Io::read(BlockRange::new(*block, 1), data.clone()));
            assert_eq!(done.await, Ok(()), "{}: block {block}", self.what);
            let may_be = &self.versions.borrow()[*block as usize];
            assert!(may_be.iter().any(|version| data.to_vec() == stamp(*block, *version)))
        }
    }

    async fn write(&mut self, durable: bool, most: u64) {
        let blocks = self.disk().blocks();
        let start = self.spot(blocks);
        let count = 1 + self.rng.below((blocks - start).min(most));
        let mut bytes = Vec::new();
        for block in start..start + count {
            let known = &mut self.versions.borrow_mut()[block as usize];
            let next = known.last().expect("a version") + 1;
            known.push(next);
            bytes.extend(stamp(block, next))
        }
        let io = Io::write(BlockRange::new(start, count as u32), Buf::from_slice(&bytes));
        let flushes = durable && self.rng.below(2) == 0;
        let io = if durable && !flushes { io.fua() } else { io };
        let mut done = self.disk().perform(io).await;
        if flushes && done.is_ok() {
            done = self.disk().flush().await
        }
        for block in start..start + count {
            let known = &mut self.versions.borrow_mut()[block as usize];
            match done {
                Ok(()) if durable => {
                    known.drain(..known.len() - 1);
                    self.safe.insert(block);
                }
                Ok(()) => (),
                Err(_) => _ = self.safe.remove(&block),
            }
        }
    }

    fn start(&mut self) -> bool {
        self.running = self.machine.try_start(&[]);
        self.running.is_some()
    }

    async fn stop(&mut self) {
        self.array().stop().await;
        self.running = None;
        reactor::sleep(Duration::from_secs(60)).await
    }

    /// One more thing happens. False if it is over.
    async fn step(&mut self, members: usize, joins: bool) -> bool {
        let whole = whole(self.array());
        match self.rng.below(12) {
            0..3 => {
                let (member, at) = (self.rng.below(members as u64) as usize, self.rng.below(40));
                // Some are lost on two at once.
                let two = self.rng.below(2) == 0;
                for member in [member, (member + 1) % members].into_iter().take(1 + usize::from(two)) {
                    self.machine.sims[member].spoil_blocks(BlockRange::new(self.machine.data() + at, 1))
                }
                self.safe.clear()
            }
            3..7 => {
                let durable = self.rng.below(3) > 0;
                let most = if self.rng.below(2) == 0 { 2 } else { 40 };
                self.write(durable, most).await
            }
            7 => {
                self.array().command(Command::Limit(0)).await.expect("no limit");
                rest(self.array()).await;
                scrub(self.array(), true).await;
            }
            8 => {
                self.stop().await;
                return self.start();
            }
            9 => {
                let machine = self.machine.clone();
                machine.cut();
                // Whoever was at work is told that there is nothing any more, also if he waits for his turn.
                self.array().command(Command::Limit(0)).await.expect("no limit");
                self.running = None;
                reactor::sleep(Duration::from_secs(60)).await;
                machine.power_up();
                if !self.start() {
                    return false;
                }
                if self.has_hole {
                    // Nobody says which rows were being written: what cannot be read is made of what is there, which may be from before and after, as in MD.
                    self.look_at_safe().await;
                    return false;
                }
                self.look("after a power cut").await;
            }
            10 if joins && whole && self.joined < 2 => {
                let place = self.rng.below(members as u64) as usize;
                self.joined += 1;
                self.safe.clear();
                self.machine.join(place, self.rng.below(1000));
                let (plan, parts) = self.machine.plan(&[]).expect("nothing is lacking");
                assert!(self.array().change(&plan), "{}", self.what);
                let (array, geometry) = (self.array().clone(), self.machine.geometry(&parts));
                self.running = Some((array.clone(), array.device(parts, geometry)));
                let limit = [0, 2, 8][self.rng.below(3) as usize];
                array.command(Command::Limit(limit)).await.expect("a limit")
            }
            10 | 11 if !joins && whole => {
                let lost = self.rng.below(members as u64) as usize;
                self.safe.clear();
                if self.rng.below(2) == 0 {
                    let (sim, count, at) = (self.machine.sims[lost].clone(), Cell::new(0), 1 + self.rng.below(6));
                    self.machine.sims[lost].watch(move |_| {
                        count.set(count.get() + 1);
                        if count.get() == at {
                            sim.vanish()
                        }
                    });
                    // One, so that all of it is under way when it goes.
                    self.write(true, 1).await;
                    if self.array().report().members[lost].state == MemberState::InSync {
                        // It is missed later, and may be the only one who had it.
                        self.safe.clear()
                    }
                    self.look("after a member has gone").await;
                    self.machine.sims[lost].watch(|_| ())
                }
                self.stop().await;
                self.machine.sims[lost].mend();
                self.safe.clear();
                let seed = self.rng.below(1000);
                self.machine.replace_all(&[lost], seed);
                if !self.start() {
                    return false;
                }
                let limit = [0, 2, 8][self.rng.below(3) as usize];
                self.array().command(Command::Limit(limit)).await.expect("a limit")
            }
            _ => reactor::sleep(Duration::from_millis(self.rng.below(8000))).await,
        }
        true
    }
}

async fn life(shape: Shape, members: usize, keeps: Keeps, seed: u64, joins: bool) -> usize {
    let machine = lost(shape, members, keeps, &[], seed).await;
    let what = format!("{shape:?} of {members}, {keeps:?}, seed {seed}, joins {joins}");
    let mut life = Life {
        what,
        machine,
        running: None,
        versions: Rc::default(),
        safe: BTreeSet::new(),
        rng: Rng::new(seed),
        joined: 0,
        has_hole: !matches!(keeps, Keeps::Partial { .. }) && !matches!(shape, Shape::Raid1 | Shape::Raid10 { .. }),
        seen: 0,
    };
    assert!(life.start(), "{}", life.what);
    *life.versions.borrow_mut() = vec![vec![0]; life.disk().blocks() as usize];
    for step in 0..40 {
        if !life.step(members, joins).await {
            return life.seen;
        }
        if life.rng.below(3) == 0 {
            life.look(&format!("step {step}")).await
        }
    }
    life.array().command(Command::Limit(0)).await.expect("no limit");
    rest(life.array()).await;
    life.look("at rest").await;
    life.stop().await;
    life.seen
}

#[test]
fn whatever_happens_what_is_read_is_what_was_written_or_an_error() {
    let mut seen = 0;
    for (shape, members, keeps, _) in shapes() {
        for joins in [false, true] {
            let lives = (0..SEEDS).map(|seed| reactor::sim::run(life(shape, members, keeps, seed, joins)));
            seen += lives.sum::<usize>()
        }
    }
    assert!(seen > 1000, "hardly anything was lost: {seen}")
}
