//! A plan that is being made: reads see what it has written so far, and writes are whole blocks with what was there before.
use super::{Archived, Bytes, Code, Disks, Facts, Plan, Refusal, Request, Stamp, Step, Target, Undo, Write};
use crate::{Group, probe::READ_MAX};
use spec::{Extent, lvm2};
use std::{collections::BTreeMap, ops::Deref, sync::Arc};
use uuid::Uuid;

/// Bytes of one block, somewhere in what was read or written at once: a text of megabytes is thousands of blocks.
#[derive(Clone)]
struct Part {
    of: Arc<Vec<u8>>,
    from: usize,
    len: usize,
}

impl Deref for Part {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.of[self.from..self.from + self.len]
    }
}

/// A block that the step under way changes.
struct Block {
    before: Part,
    after: Part,
    what: Arc<[Arc<str>]>,
}

/// A plan in the making.
pub struct Draft<'a> {
    /// What there is.
    pub disks: &'a dyn Disks,
    stamp: Stamp,
    fresh: u32,
    /// A checksum of the disks that were looked at, and of the start of everything that was read and written.
    seen: u32,
    /// Blocks of the step under way, by disk and number.
    now: BTreeMap<(Arc<str>, u64), Block>,
    /// What earlier steps have made of blocks.
    then: BTreeMap<(Arc<str>, u64), Part>,
    /// Disks by every name that they were asked for.
    facts: BTreeMap<String, Arc<Facts>>,
    /// The group that each member is of, once somebody has asked.
    members: Option<BTreeMap<String, String>>,
    plan: Plan,
}

impl<'a> Draft<'a> {
    /// Nothing yet.
    pub fn new(disks: &'a dyn Disks, request: Request, stamp: Stamp) -> Self {
        Self {
            disks,
            fresh: 0,
            seen: 0,
            now: BTreeMap::new(),
            then: BTreeMap::new(),
            facts: BTreeMap::new(),
            members: None,
            plan: Plan {
                request,
                stamp: stamp.clone(),
                summary: Vec::new(),
                warnings: Vec::new(),
                disks: BTreeMap::new(),
                releases: Vec::new(),
                steps: Vec::new(),
                intent: false,
                undo: Undo::Bytes,
                archive: Vec::new(),
            },
            stamp,
        }
    }

    /// Where the time and the host come from.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// A fresh identity; the same one at the same place of the same plan. It follows from the seed, from verb and object, from the disks that were
    /// looked at, and from what was read and written so far, so that a script may use one seed throughout.
    pub fn uuid(&mut self) -> Uuid {
        self.fresh += 1;
        let Request { verb, object, .. } = &self.plan.request;
        let numbers = [self.fresh, self.seen].map(u32::to_le_bytes).concat();
        let from = [&numbers, verb.as_bytes(), b" ", object.as_bytes()].concat();
        let bytes = Uuid::new_v5(&self.stamp.seed, &from);
        uuid::Builder::from_random_bytes(bytes.into_bytes()).into_uuid()
    }

    /// A fresh identity as LVM2 has them.
    pub fn lvm2_id(&mut self) -> lvm2::Id {
        let seed = [self.uuid(), self.uuid()];
        let bytes = seed.iter().flat_map(|uuid| uuid.as_bytes());
        lvm2::Id::from_seed(bytes.copied())
    }

    /// What there is to know of a disk.
    pub fn facts(&mut self, disk: &str) -> Result<Arc<Facts>, Refusal> {
        if let Some(facts) = self.facts.get(disk) {
            return Ok(facts.clone());
        }
        let facts = self.disks.facts(disk).map(Arc::new);
        let facts = facts.ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("there is no disk {disk:?}")).but("`ashlar disk ls` lists them")
        })?;
        if let Some(why) = self.disks.left_alone(&facts.name) {
            return Err(left_alone(&facts.name, &why));
        }
        self.seen = lvm2::crc(self.seen, facts.uuid.as_bytes());
        self.facts.insert(facts.name.clone(), facts.clone());
        self.facts.insert(disk.to_owned(), facts.clone());
        Ok(facts)
    }

    /// `len` bytes of a disk as they will be after the steps so far.
    pub async fn read(&mut self, disk: &str, offset: u64, len: u64) -> Result<Vec<u8>, Refusal> {
        let facts = self.facts(disk)?;
        let (first, end) = span(&facts, offset, len)?;
        let bytes = self.blocks(&facts, first, end).await?;
        self.saw(&bytes);
        let skip = (offset - first * u64::from(facts.block_size)) as usize;
        Ok(bytes[skip..skip + len as usize].to_vec())
    }

    /// What would have been read is known already.
    pub fn saw(&mut self, bytes: &[u8]) {
        self.seen = lvm2::crc(self.seen, &bytes[..bytes.len().min(4096)]);
    }

    /// Blocks `first..end`, which are on the disk.
    async fn blocks(&self, facts: &Facts, first: u64, end: u64) -> Result<Vec<u8>, Refusal> {
        let size = u64::from(facts.block_size);
        let mut bytes = Vec::with_capacity(((end - first) * size) as usize);
        let mut at = first;
        while at < end {
            let count = (end - at).min((READ_MAX / size).max(1));
            let read = self.disks.read(&facts.name, Extent::new(at, count)).await;
            let read =
                read.map_err(|why| Refusal::new(Code::Unreadable, format!("{:?} cannot be read: {why}", facts.name)))?;
            if read.len() as u64 != count * size {
                let why = format!("{:?} gave {} bytes instead of {}", facts.name, read.len(), count * size);
                return Err(Refusal::new(Code::Unreadable, why));
            }
            bytes.extend(read);
            at += count;
        }
        let name: Arc<str> = facts.name.as_str().into();
        let range = (name.clone(), first)..(name, end);
        let mut place = |block: u64, with: &[u8]| {
            let from = ((block - first) * size) as usize;
            bytes[from..from + size as usize].copy_from_slice(with);
        };
        self.then
            .range(range.clone())
            .for_each(|((_, block), with)| place(*block, with));
        self.now
            .range(range)
            .for_each(|((_, block), with)| place(*block, &with.after));
        Ok(bytes)
    }

    /// Writes `bytes` in the step under way. A write that changes nothing is none.
    pub async fn put(&mut self, disk: &str, offset: u64, bytes: &[u8], what: &str) -> Result<(), Refusal> {
        let facts = self.facts(disk)?;
        if facts.read_only {
            return Err(Refusal::new(Code::ReadOnly, format!("{disk:?} cannot be written to")));
        }
        let (first, end) = span(&facts, offset, bytes.len() as u64)?;
        let before = self.blocks(&facts, first, end).await?;
        let size = u64::from(facts.block_size) as usize;
        let mut after = before.clone();
        let skip = (offset - first * size as u64) as usize;
        after[skip..skip + bytes.len()].copy_from_slice(bytes);
        self.saw(bytes);
        let (name, what): (Arc<str>, Arc<str>) = (facts.name.as_str().into(), what.into());
        let (before, after, alone) = (Arc::new(before), Arc::new(after), Arc::from([what.clone()]));
        for (block, from) in (first..end).zip((0..).step_by(size)) {
            let part = |of: &Arc<Vec<u8>>| Part {
                of: of.clone(),
                from,
                len: size,
            };
            let key = (name.clone(), block);
            match self.now.get_mut(&key) {
                Some(there) => {
                    there.after = part(&after);
                    if !there.what.contains(&what) {
                        there.what = there.what.iter().chain([&what]).cloned().collect();
                    }
                }
                None if before[from..from + size] == after[from..from + size] => {}
                None => {
                    let block = Block {
                        before: part(&before),
                        after: part(&after),
                        what: Arc::clone(&alone),
                    };
                    self.now.insert(key, block);
                }
            }
        }
        Ok(())
    }

    /// Ends the step under way: what comes is written when this is on the disks.
    pub fn barrier(&mut self, title: &str) {
        let mut writes: Vec<Write> = Vec::new();
        for ((disk, block), with) in std::mem::take(&mut self.now) {
            if *with.before == *with.after {
                continue;
            }
            let size = with.after.len() as u64;
            let offset = block * size;
            match writes.last_mut() {
                Some(last) if *last.disk == *disk && last.offset + last.len() == offset => {
                    last.before.0.extend_from_slice(&with.before);
                    last.after.0.extend_from_slice(&with.after);
                    for what in &*with.what {
                        if !last.what.iter().any(|have| **have == **what) {
                            last.what.push((**what).to_owned());
                        }
                    }
                }
                _ => writes.push(Write {
                    disk: (*disk).to_owned(),
                    offset,
                    what: with.what.iter().map(|what| (**what).to_owned()).collect(),
                    before: Bytes(with.before.to_vec()),
                    after: Bytes(with.after.to_vec()),
                }),
            }
            self.then.insert((disk, block), with.after);
        }
        if !writes.is_empty() {
            self.plan.steps.push(Step {
                title: title.to_owned(),
                writes,
            });
        }
    }

    /// Says what changes.
    pub fn say(&mut self, sentence: impl Into<String>) {
        self.plan.summary.push(sentence.into());
    }

    /// Says what the user should know before.
    pub fn warn(&mut self, sentence: impl Into<String>) {
        self.plan.warnings.push(sentence.into());
    }

    /// Makes sure that nobody uses `disk` when the change happens: it is taken away before. One that is not there is no matter.
    pub fn release(&mut self, disk: &str) -> Result<(), Refusal> {
        let Some(facts) = self.disks.facts(disk) else {
            return Ok(());
        };
        let disks = self.disks;
        let members = self.members.get_or_insert_with(|| {
            let member = |group: Group| {
                group
                    .members
                    .into_iter()
                    .filter_map(move |seat| Some((seat.disk?, group.name.clone())))
            };
            disks.groups().into_iter().flat_map(member).collect()
        });
        let mut all = vec![facts];
        while let Some(facts) = all.pop() {
            // Other disks would lose a member; what lies on this one alone goes with it.
            if let Some(group) = members.get(&facts.name) {
                return Err(
                    Refusal::new(Code::InUse, format!("{:?} is a member of {group:?}", facts.name))
                        .but("take it out of that first"),
                );
            }
            if let Some(user) = &facts.user {
                return Err(
                    Refusal::new(Code::InUse, format!("{:?} is in use by {user}", facts.name))
                        .but("stop serving it, or take away what stands on it, first"),
                );
            }
            all.extend(facts.carried().filter_map(|part| self.disks.facts(part)));
        }
        self.plan.releases.push(disk.to_owned());
        Ok(())
    }

    /// More than one format's own rule has to hold at once.
    pub fn needs_intent(&mut self) {
        self.plan.intent = true;
    }

    /// How it is taken back, unless by writing what was there before.
    pub fn undo(&mut self, how: Undo) {
        self.plan.undo = how;
    }

    /// Keeps a text before it is replaced.
    pub fn archive(&mut self, group: &str, seqno: u64, text: Vec<u8>) {
        self.plan.archive.push(Archived {
            group: group.to_owned(),
            seqno,
            text: Bytes(text),
        });
    }

    /// The plan. The step under way, if there is one, ends as the last.
    pub fn finish(mut self, title: &str) -> Result<Plan, Refusal> {
        self.barrier(title);
        let mut plan = self.plan;
        for write in plan.steps.iter().flat_map(|step| &step.writes) {
            if let Some(facts) = self.facts.get(&write.disk) {
                let target = Target {
                    uuid: facts.uuid,
                    block_size: facts.block_size,
                    blocks: facts.blocks,
                };
                plan.disks.insert(write.disk.clone(), target);
            }
        }
        match plan.is_empty() {
            true => Err(Refusal::new(Code::Nothing, "nothing would change")),
            false => Ok(plan),
        }
    }
}

/// No, because the configuration says that the disk is left alone.
pub(crate) fn left_alone(disk: &str, why: &str) -> Refusal {
    let refusal = Refusal::new(Code::LeftAlone, format!("{disk:?} {why}"));
    refusal.but("`ashlar config reload` takes over another `discovery` from the configuration file")
}

/// The blocks that hold these bytes: first, and one past the last.
fn span(facts: &Facts, offset: u64, len: u64) -> Result<(u64, u64), Refusal> {
    let size = u64::from(facts.block_size.max(1));
    let end = offset.checked_add(len).filter(|end| *end <= facts.bytes());
    let end = end.ok_or_else(|| {
        let why = format!(
            "{:?} has no bytes {offset} to {}",
            facts.name,
            offset.saturating_add(len)
        );
        Refusal::new(Code::NoSpace, why)
    })?;
    Ok((offset / size, end.div_ceil(size)))
}
