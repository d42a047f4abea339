//! A link as it is on its disks, to be changed.
//!
//! A change is committed in four steps, each behind a barrier:
//!
//! 1. Disks that join get their first copy. Nobody who was a child has it yet, so it does not count.
//! 2. Every other child gets it in the copy that does not hold the change that counts. When the last of them is there, the change counts: each
//!    child it names has it.
//! 3. The other copy of every child: the change is settled, whoever is missing later.
//! 4. Both copies of disks that leave are wiped.
//!
//! A torn write spoils one copy, and the other holds the state before (step 2) or after (step 3).
use super::super::{Child as Seen, assembly, child};
use crate::{
    group::{Group, GroupState},
    plan::{Code, Draft, Facts, Refusal},
};
use spec::link::{CHILDREN_MAX, COPIES, COPY, Child, DATA, Record};
use std::{collections::BTreeSet, sync::Arc};

/// A child, to be written to.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its disk.
    pub disk: Arc<Facts>,
    /// What its disk shows; nothing if it joins.
    shown: Option<Seen>,
}

/// A link, read to be changed.
pub struct Chain {
    /// As it was read; what is changed of it is written by [`commit`](Self::commit).
    pub record: Record,
    /// The disks of its children, in order.
    pub places: Vec<Place>,
    /// Disks that leave.
    leaving: Vec<Arc<Facts>>,
    /// The change that counts.
    current: u64,
    /// The newest change on any child.
    newest: u64,
}

/// The one link of this name, disk or identity.
pub fn find(draft: &Draft<'_>, object: &str) -> Result<Group, Refusal> {
    let mut groups = draft.disks.groups();
    groups.retain(|group| {
        group.format == "link" && (group.name == object || group.id == object || assembly::disk(&group.name) == object)
    });
    let missing = || {
        Refusal::new(Code::NotFound, format!("there is no drive link {object:?}")).but("`ashlar link ls` lists them")
    };
    let group = groups.pop().ok_or_else(missing)?;
    match groups.is_empty() {
        true => Ok(group),
        false => Err(
            Refusal::new(Code::Ambiguous, format!("several drive links are called {object:?}"))
                .but("name one by its identity"),
        ),
    }
}

/// Blocks that a disk can give.
pub fn room(disk: &Facts) -> u64 {
    let unit = DATA / u64::from(disk.block_size.max(1));
    (disk.blocks / unit.max(1)).saturating_sub(1) * unit
}

impl Chain {
    /// A new one without children.
    pub fn new(name: &str, draft: &mut Draft<'_>) -> Self {
        Self {
            record: Record {
                link: draft.uuid(),
                name: name.to_owned(),
                sequence: 0,
                time: 0,
                block_size: 0,
                deleted: false,
                index: 0,
                children: Vec::new(),
            },
            places: Vec::new(),
            leaving: Vec::new(),
            current: 0,
            newest: 0,
        }
    }

    /// Reads the link of this name, disk or identity. Refused if not all of it is there. `twins` lets one be that shares its name.
    pub async fn read(draft: &mut Draft<'_>, object: &str, twins: bool) -> Result<Self, Refusal> {
        let seen = find(draft, object)?;
        let shares = || {
            let groups = draft.disks.groups();
            groups
                .iter()
                .filter(|g| g.format == "link" && g.name == seen.name)
                .count()
                > 1
        };
        let code = match seen.state {
            GroupState::Complete => None,
            GroupState::Ambiguous if twins && shares() && seen.members.iter().all(|seat| seat.disk.is_some()) => None,
            GroupState::Partial | GroupState::Waiting => Some(Code::Incomplete),
            GroupState::Foreign => Some(Code::Foreign),
            GroupState::Ambiguous => Some(Code::Ambiguous),
        };
        if let Some(code) = code {
            let why = format!("the drive link {:?} {}", seen.name, seen.reason);
            return Err(Refusal::new(code, why));
        }
        let (mut places, mut newest, mut record) = (Vec::new(), 0, None);
        for (seat, index) in seen.members.iter().zip(0u16..) {
            let disk = draft.facts(seat.disk.as_deref().unwrap_or_default())?;
            let head = draft.read(&disk.name, 0, (COPIES[1] + COPY).min(disk.bytes())).await?;
            let damaged = |why: String| Refusal::new(Code::Damaged, format!("{:?}: {why}", disk.name));
            let shown = child(&head).map_err(|why| damaged(why.to_string()))?;
            let shown = shown.filter(|shown| shown.id.to_string() == seat.id);
            let shown = shown.ok_or_else(|| damaged("it is no child of the drive link any more".into()))?;
            newest = newest.max(shown.newest());
            if let Some(own) = shown.of(seen.seqno) {
                record = Some(Record {
                    index: 0,
                    ..own.clone()
                });
                if own.index != index {
                    return Err(damaged(format!("it is child {}, not {index}", own.index)));
                }
            }
            places.push(Place {
                disk,
                shown: Some(shown),
            });
        }
        let none = || Refusal::new(Code::Damaged, format!("no sound record of {:?} can be read", seen.name));
        Ok(Self {
            record: record.ok_or_else(none)?,
            places,
            leaving: Vec::new(),
            current: seen.seqno,
            newest,
        })
    }

    /// The disk it is.
    pub fn disk(&self) -> String {
        assembly::disk(&self.record.name)
    }

    /// Takes a disk in, at the end. The caller has made sure that it may be written over.
    pub fn join(&mut self, draft: &mut Draft<'_>, disk: Arc<Facts>) -> Result<(), Refusal> {
        if self.record.children.len() == CHILDREN_MAX {
            let why = format!("a drive link has at most {CHILDREN_MAX} children");
            return Err(Refusal::new(Code::NoSpace, why));
        }
        if self.places.is_empty() {
            self.record.block_size = disk.block_size;
        }
        if disk.block_size != self.record.block_size {
            let why = format!(
                "{:?} has blocks of {} bytes, the drive link {:?} of {}: they must be equal",
                disk.name, disk.block_size, self.record.name, self.record.block_size
            );
            return Err(Refusal::new(Code::Unsupported, why));
        }
        let blocks = room(&disk);
        if blocks == 0 {
            let why = format!(
                "{:?} has {} bytes; a child needs 2 MiB at least",
                disk.name,
                disk.bytes()
            );
            return Err(Refusal::new(Code::NoSpace, why));
        }
        self.record.children.push(Child {
            id: draft.uuid(),
            blocks,
            seen: String::new(),
        });
        self.places.push(Place { disk, shown: None });
        Ok(())
    }

    /// Lets the last child go.
    pub fn leave(&mut self) -> Option<Arc<Facts>> {
        self.record.children.pop()?;
        let place = self.places.pop()?;
        self.leaving.push(place.disk.clone());
        Some(place.disk)
    }

    /// Writes the changed record as the next change.
    pub async fn commit(&mut self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let (name, sequence) = (self.record.name.clone(), self.newest + 1);
        self.record.sequence = sequence;
        self.record.time = draft.stamp().time;
        for (child, place) in self.record.children.iter_mut().zip(&self.places) {
            child.seen = place.disk.name.chars().filter(|c| !c.is_control()).collect();
        }
        let what = format!("record of the drive link {name}, change {sequence}");
        let mut second = Vec::new();
        for joins in [true, false] {
            for (place, index) in self.places.iter().zip(0u16..) {
                if place.shown.is_none() != joins {
                    continue;
                }
                let bytes = Record {
                    index,
                    ..self.record.clone()
                }
                .to_bytes();
                let mut bytes = bytes.ok_or_else(|| {
                    Refusal::new(
                        Code::Unsupported,
                        "the change would make a drive link that cannot be read",
                    )
                })?;
                bytes.resize(bytes.len().next_multiple_of(4096), 0);
                // The copy that holds the change that counts stays as long as the new one is not whole.
                let counts = |copy: &Option<Record>| copy.as_ref().is_some_and(|r| r.sequence == self.current);
                let keep = place
                    .shown
                    .as_ref()
                    .and_then(|shown| shown.copies.iter().position(counts));
                let [first, other] = match keep {
                    Some(0) => [COPIES[1], COPIES[0]],
                    _ => COPIES,
                };
                draft.put(&place.disk.name, first, &bytes, &what).await?;
                second.push((place.disk.name.clone(), other, bytes));
            }
            draft.barrier(match joins {
                true => "tell the disks that join",
                false => "write the change beside the one that counts",
            });
        }
        for (disk, at, bytes) in second {
            draft.put(&disk, at, &bytes, &what).await?;
        }
        draft.barrier(&format!("settle change {sequence} of {name}"));
        let gone: Vec<String> = match self.record.deleted {
            true => self.places.iter().map(|place| place.disk.name.clone()).collect(),
            false => self.leaving.iter().map(|disk| disk.name.clone()).collect(),
        };
        for disk in gone {
            for at in COPIES {
                draft
                    .put(&disk, at, &vec![0; COPY as usize], "no record of a drive link")
                    .await?;
            }
        }
        draft.barrier("wipe what leaves");
        Ok(())
    }
}

/// A disk and everything that discovery made on it.
pub fn reach(draft: &Draft<'_>, disk: &str) -> BTreeSet<String> {
    let (mut all, mut todo) = (BTreeSet::new(), vec![disk.to_owned()]);
    while let Some(name) = todo.pop() {
        if let Some(facts) = draft.disks.facts(&name)
            && all.insert(facts.name.clone())
        {
            todo.extend(facts.carried().cloned());
        }
    }
    all
}

/// A disk and everything that must be there for it: what it is a partition of, and every member of the group that it is a volume of.
pub fn needs(draft: &Draft<'_>, disk: &str) -> BTreeSet<String> {
    let groups = draft.disks.groups();
    let (mut all, mut todo) = (BTreeSet::new(), vec![disk.to_owned()]);
    while let Some(name) = todo.pop() {
        let Some(facts) = draft.disks.facts(&name).filter(|facts| !all.contains(&facts.name)) else {
            continue;
        };
        let of = groups
            .iter()
            .find(|group| group.volumes.iter().any(|volume| volume.disk == facts.name));
        todo.extend(
            of.into_iter()
                .flat_map(|group| &group.members)
                .filter_map(|seat| seat.disk.clone()),
        );
        todo.extend(facts.partition.as_ref().map(|partition| partition.disk().to_owned()));
        all.insert(facts.name);
    }
    all
}
