//! A master boot record with its chain, as something to change: each change says which records to write, and what has to last before what.
//!
//! No record has a checksum and no two change at once, so every change commits with one sector:
//!
//! ```text
//! primary, extended   the master record
//! new logical         its own record, which nobody knows yet; then the link of the last one
//! logical goes        the link of the one before; of the first: its record, which stays where it is, takes over the second's entries.
//!                     Then the record that nothing leads to any more is wiped: it would look like a table in whatever comes to lie there
//! logical resized     its own record (and the length in the link to it, which nobody reads)
//! ```
//!
//! Numbers of logical partitions follow the chain: when one goes, those behind it are renumbered, as with every other tool.
use super::{Broken, Entry, LOGICAL_MAX, Reader, Record};
use crate::Extent;

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// New records, which nothing leads to yet. They have their blocks for themselves.
    Prepare,
    /// The change is there with this.
    Commit,
    /// Records that nothing leads to any more.
    Clean,
}

/// Records to write, by block, in any order. Each step has to last before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is for.
    pub role: Role,
    /// The records.
    pub records: Vec<(u64, Record)>,
}

impl Step {
    fn new(role: Role, records: Vec<(u64, Record)>) -> Self {
        Self { role, records }
    }

    fn clean(blocks: impl IntoIterator<Item = u64>) -> Option<Self> {
        let records: Vec<_> = blocks.into_iter().map(|at| (at, Record::blank())).collect();
        (!records.is_empty()).then(|| Self::new(Role::Clean, records))
    }
}

/// The steps of a change.
pub type Steps = Vec<Step>;

/// Why a change cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The chain ends early.
    #[error("the chain of logical partitions is broken: {0}")]
    Broken(#[from] Broken),
    /// A record of the chain has more than one partition, or more than one link.
    #[error("the record at block {0} has more than a partition and a link, as OS/2 wrote them")]
    Unusual(u64),
    /// More blocks than 32 bits can tell.
    #[error("blocks {0} are more than 32 bits can tell")]
    TooFar(Extent),
    /// There is no such partition.
    #[error("there is no partition {0}")]
    Missing(u32),
    /// No more logical partitions.
    #[error("there are {LOGICAL_MAX} logical partitions already")]
    TooMany,
}

/// How many heads and sectors the cylinders have that old firmware believes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Heads: 1 to 255.
    pub heads: u32,
    /// Sectors of a track: 1 to 63.
    pub sectors: u32,
}

impl Default for Geometry {
    /// What everybody uses where nobody says otherwise.
    fn default() -> Self {
        Self {
            heads: 255,
            sectors: 63,
        }
    }
}

impl Geometry {
    /// What the partitions of a record were made with, if they agree and firmware ever had it: where each ends at the end of a cylinder, or is
    /// said to, that shows. Partitions of today end anywhere.
    pub fn of(record: &Record) -> Self {
        let mut found: Option<Self> = None;
        for entry in &record.raw.entries {
            if entry.kind == 0 {
                continue;
            }
            let this = Self {
                heads: u32::from(entry.chs_last[0]) + 1,
                sectors: u32::from(entry.chs_last[1] & 0x3f),
            };
            match found {
                Some(other) if other != this => return Self::default(),
                _ => found = Some(this),
            }
        }
        let sound = |g: &Self| matches!((g.heads, g.sectors), (16 | 32 | 64 | 128 | 240, 63) | (64, 32));
        found.filter(sound).unwrap_or_default()
    }

    /// Head, sector and cylinder of a block, as they lie in an entry. What is beyond cylinder 1023 is the end of that.
    pub fn chs(self, block: u64) -> [u8; 3] {
        let cylinder = u64::from(self.heads * self.sectors);
        let block = match block / cylinder {
            0..=1023 => block,
            _ => cylinder * 1024 - 1,
        };
        let (sector, track) = (block % u64::from(self.sectors) + 1, block / u64::from(self.sectors));
        let (head, cylinder) = (track % u64::from(self.heads), track / u64::from(self.heads));
        // Each is in range: 63, 255, 1023.
        [head as u8, sector as u8 | (cylinder >> 2) as u8 & 0xc0, cylinder as u8]
    }
}

/// A record of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    at: u64,
    record: Record,
}

impl Link {
    fn data(&self) -> Option<(u32, Entry)> {
        self.record.entries().find(|(_, entry)| !entry.is_extended())
    }
    fn next(&self) -> Option<(u32, Entry)> {
        self.record.entries().find(|(_, entry)| entry.is_extended())
    }
    fn extent(&self) -> Option<Extent> {
        let (_, entry) = self.data()?;
        Some(Extent::new(self.at + u64::from(entry.start), entry.count.into()))
    }
    /// The slot for the partition, or for the link: the one in use, else the usual one, else whichever is free.
    fn slot(&self, used: Option<(u32, Entry)>, usual: u32) -> u32 {
        let taken = |slot: u32| self.record.entries().any(|(number, _)| number == slot);
        match used {
            Some((slot, _)) => slot,
            None if !taken(usual) => usual,
            None => (1..=4).find(|slot| !taken(*slot)).unwrap_or(usual),
        }
    }
    fn put_data(&mut self, entry: Option<(Extent, u8, bool)>, geometry: Geometry) {
        let slot = self.slot(self.data(), 1);
        let (at, entry) = (
            self.at,
            entry.map(|(extent, kind, active)| entry_at(extent, self.at, kind, active)),
        );
        self.record.put(slot, entry, at, geometry);
    }
    fn put_next(&mut self, entry: Option<Entry>, base: u64, geometry: Geometry) {
        let slot = self.slot(self.next(), 2);
        self.record.put(slot, entry, base, geometry);
    }
}

/// An entry for blocks that are counted from `base`. The caller has checked that it fits.
fn entry_at(extent: Extent, base: u64, kind: u8, active: bool) -> Entry {
    Entry {
        active,
        kind,
        start: extent.start.saturating_sub(base) as u32,
        count: extent.count as u32,
    }
}

/// A table that can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Block 0.
    pub master: Record,
    chain: Vec<Link>,
    geometry: Geometry,
}

impl Reader {
    /// What was read, as something to change, if all of it was understood. To be asked when there is nothing more to read.
    pub fn label(&self) -> Result<Label, Misfit> {
        if let Some(why) = self.broken {
            return Err(why.into());
        }
        for (at, record) in &self.chain {
            let links = record.entries().filter(|(_, entry)| entry.is_extended()).count();
            if links > 1 || record.entries().count() - links > 1 {
                return Err(Misfit::Unusual(*at));
            }
        }
        let link = |(at, record): &(u64, Record)| Link {
            at: *at,
            record: record.clone(),
        };
        Ok(Label {
            master: self.master.clone(),
            chain: self.chain.iter().map(link).collect(),
            geometry: Geometry::of(&self.master),
        })
    }
}

impl Label {
    /// An empty one.
    pub fn fresh(disk_id: u32) -> Self {
        Self {
            master: Record::new(disk_id),
            chain: Vec::new(),
            geometry: Geometry::default(),
        }
    }

    /// Every record, by block.
    pub fn records(&self) -> Vec<(u64, Record)> {
        let chain = self.chain.iter().map(|link| (link.at, link.record.clone()));
        std::iter::once((0, self.master.clone())).chain(chain).collect()
    }

    /// The extended partition.
    pub fn extended(&self) -> Option<(u32, Extent)> {
        self.master.extended().map(|(number, entry)| (number, entry.extent()))
    }

    /// Blocks that records of the chain have.
    pub fn chain(&self) -> impl Iterator<Item = u64> {
        self.chain.iter().map(|link| link.at)
    }

    /// Every partition, the extended one too: number, blocks, type, whether it is the one to boot from.
    pub fn partitions(&self) -> Vec<(u32, Extent, u8, bool)> {
        let primary = self
            .master
            .entries()
            .map(|(number, entry)| (number, entry.extent(), entry.kind, entry.active));
        let logical = self.chain.iter().filter_map(|link| {
            let (_, entry) = link.data()?;
            Some((link.extent()?, entry.kind, entry.active))
        });
        let logical = logical
            .zip(5..)
            .map(|((extent, kind, active), number)| (number, extent, kind, active));
        primary.chain(logical).collect()
    }

    /// The place of a logical partition in the chain.
    fn place(&self, number: u32) -> Option<usize> {
        let with_data = self.chain.iter().enumerate().filter(|(_, link)| link.data().is_some());
        with_data.map(|(at, _)| at).nth(number.checked_sub(5)? as usize)
    }

    /// Puts a primary or the extended partition into slot 1 to 4, or empties it. A new extended partition gets an empty record first: what
    /// was there before might look like one. Without the extended partition there are no logical ones.
    pub fn set_primary(&mut self, number: u32, to: Option<(Extent, u8, bool)>) -> Result<Steps, Misfit> {
        let entry = to.map(|(extent, kind, active)| entry_at(extent, 0, kind, active));
        if let Some((extent, _, _)) = to
            && (extent.start > u32::MAX.into() || extent.count > u32::MAX.into())
        {
            return Err(Misfit::TooFar(extent));
        }
        let had = self.extended();
        if !self.master.put(number, entry, 0, self.geometry) {
            return Err(Misfit::Missing(number));
        }
        let has = self.extended();
        let (mut steps, mut gone) = (Vec::new(), Vec::new());
        if had.map(|(_, extent)| extent.start) != has.map(|(_, extent)| extent.start) {
            gone = self.chain.drain(..).map(|link| link.at).collect();
            if let Some((_, extent)) = has {
                let record = Record::new(0);
                self.chain.push(Link {
                    at: extent.start,
                    record: record.clone(),
                });
                steps.push(Step::new(Role::Prepare, vec![(extent.start, record)]));
            }
        }
        steps.push(Step::new(Role::Commit, vec![(0, self.master.clone())]));
        steps.extend(Step::clean(gone));
        Ok(steps)
    }

    /// Gives the disk another signature.
    pub fn identify(&mut self, disk_id: u32) -> Steps {
        self.master.raw.disk_id = disk_id.into();
        vec![Step::new(Role::Commit, vec![(0, self.master.clone())])]
    }

    /// Adds a logical partition behind the last one; its record goes to block `at`, which is the start of the extended partition for the first.
    pub fn add_logical(&mut self, at: u64, extent: Extent, kind: u8, active: bool) -> Result<(u32, Steps), Misfit> {
        let (_, extended) = self.extended().ok_or(Misfit::Missing(5))?;
        let number = 5 + self.chain.iter().filter(|link| link.data().is_some()).count() as u32;
        if self.chain.len() >= LOGICAL_MAX {
            return Err(Misfit::TooMany);
        }
        let far = extent.end().is_none_or(|end| end - extended.start > u32::MAX.into());
        if far {
            return Err(Misfit::TooFar(extent));
        }
        let mut link = Link {
            at,
            record: Record::new(0),
        };
        // The first record stays at the start even if its partition has gone.
        if at == extended.start {
            if let Some(first) = self.chain.first() {
                link = first.clone();
            }
            link.put_data(Some((extent, kind, active)), self.geometry);
            let steps = vec![Step::new(Role::Commit, vec![(at, link.record.clone())])];
            match self.chain.first_mut() {
                Some(first) => *first = link,
                None => self.chain.push(link),
            }
            return Ok((5, steps));
        }
        link.put_data(Some((extent, kind, active)), self.geometry);
        let mut steps = vec![Step::new(Role::Prepare, vec![(at, link.record.clone())])];
        if self.chain.is_empty() {
            // An extended partition whose first block was blank.
            self.chain.push(Link {
                at: extended.start,
                record: Record::new(0),
            });
        }
        let base = extended.start;
        let to = Extent::new(at, extent.end().unwrap_or(at) - at);
        if let Some(last) = self.chain.last_mut() {
            last.put_next(Some(entry_at(to, base, 0x05, false)), base, self.geometry);
            steps.push(Step::new(Role::Commit, vec![(last.at, last.record.clone())]));
        }
        self.chain.push(link);
        Ok((number, steps))
    }

    /// Takes a logical partition out of the chain.
    pub fn remove_logical(&mut self, number: u32) -> Result<Steps, Misfit> {
        let place = self.place(number).ok_or(Misfit::Missing(number))?;
        let (_, extended) = self.extended().ok_or(Misfit::Missing(number))?;
        let geometry = self.geometry;
        if place > 0 {
            let next = self.chain[place].next().map(|(_, entry)| entry);
            let before = &mut self.chain[place - 1];
            before.put_next(next, extended.start, geometry);
            let mut steps = vec![Step::new(Role::Commit, vec![(before.at, before.record.clone())])];
            let gone = self.chain.remove(place);
            steps.extend(Step::clean([gone.at]));
            return Ok(steps);
        }
        let second = self.chain.get(1).cloned();
        let first = &mut self.chain[0];
        match second {
            None => first.put_data(None, geometry),
            Some(second) => {
                let data = second
                    .data()
                    .zip(second.extent())
                    .map(|((_, entry), extent)| (extent, entry.kind, entry.active));
                first.put_data(data, geometry);
                first.put_next(second.next().map(|(_, entry)| entry), extended.start, geometry);
            }
        }
        let mut steps = vec![Step::new(Role::Commit, vec![(first.at, first.record.clone())])];
        if self.chain.len() > 1 {
            let gone = self.chain.remove(1);
            steps.extend(Step::clean([gone.at]));
        }
        Ok(steps)
    }

    /// Changes the length, the type and the mark of a logical partition.
    pub fn set_logical(&mut self, number: u32, count: u64, kind: u8, active: bool) -> Result<Steps, Misfit> {
        let place = self.place(number).ok_or(Misfit::Missing(number))?;
        let (_, extended) = self.extended().ok_or(Misfit::Missing(number))?;
        let geometry = self.geometry;
        let link = &mut self.chain[place];
        let old = link.extent().ok_or(Misfit::Missing(number))?;
        let extent = Extent::new(old.start, count);
        if count > u32::MAX.into() {
            return Err(Misfit::TooFar(extent));
        }
        link.put_data(Some((extent, kind, active)), geometry);
        let mut writes = vec![(link.at, link.record.clone())];
        if place > 0 && count != old.count {
            let (at, base) = (self.chain[place].at, extended.start);
            let before = &mut self.chain[place - 1];
            if let Some((_, entry)) = before.next() {
                let to = Extent::new(at, extent.start + count - at);
                before.put_next(Some(entry_at(to, base, entry.kind, entry.active)), base, geometry);
                writes.push((before.at, before.record.clone()));
            }
        }
        Ok(vec![Step::new(Role::Commit, writes)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbr::{LEN, Table};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const BLOCKS: u64 = 200_000;
    type Disk = BTreeMap<u64, [u8; LEN]>;

    fn read(disk: &Disk) -> (Label, Table) {
        let mut reader = Reader::new(Record::parse(&disk[&0]).unwrap(), BLOCKS);
        while let Some(at) = reader.next() {
            reader.give(disk.get(&at).unwrap_or(&[0; LEN]));
        }
        (reader.label().unwrap(), reader.finish())
    }

    fn seen(disk: &Disk) -> Vec<(u32, Extent, u8)> {
        let (_, table) = read(disk);
        assert_eq!(table.refused, []);
        table.partitions.iter().map(|(n, p)| (*n, p.extent, p.kind)).collect()
    }

    /// Writes the steps, record by record in both orders, and looks after each: only the last step may change what is seen, and at once.
    fn carry(disk: &mut Disk, steps: &Steps) {
        let old = seen(disk);
        let mut done = disk.clone();
        for (at, record) in steps.iter().flat_map(|step| &step.records) {
            done.insert(*at, record.to_bytes());
        }
        let new = seen(&done);
        for step in steps {
            for back in [false, true] {
                let mut writes: Vec<_> = step.records.iter().collect();
                if back {
                    writes.reverse();
                }
                let mut midway = disk.clone();
                for (at, record) in writes {
                    midway.insert(*at, record.to_bytes());
                    let now = seen(&midway);
                    match step.role {
                        Role::Prepare => assert_eq!(now, old),
                        Role::Commit => assert!(now == old || now == new),
                        Role::Clean => assert_eq!(now, new),
                    }
                }
            }
            for (at, record) in &step.records {
                disk.insert(*at, record.to_bytes());
            }
        }
        assert_eq!(*disk, done);
    }

    fn fresh() -> (Disk, Label) {
        let mut label = Label::fresh(0xcafe);
        let mut disk = Disk::from([(0, label.master.to_bytes())]);
        // Something old where the extended partition will start.
        let mut stale = Record::new(0);
        assert!(stale.set(
            1,
            Some(Entry {
                active: false,
                kind: 7,
                start: 10,
                count: 10
            })
        ));
        disk.insert(10_000, stale.to_bytes());
        carry(
            &mut disk,
            &label
                .set_primary(1, Some((Extent::new(2048, 4000), 0x83, true)))
                .unwrap(),
        );
        carry(
            &mut disk,
            &label
                .set_primary(2, Some((Extent::new(10_000, 150_000), 5, false)))
                .unwrap(),
        );
        (disk, label)
    }

    #[test]
    fn logical_partitions_come_grow_and_go() {
        let (mut disk, mut label) = fresh();
        for (number, at) in [(5, 10_000), (6, 40_000), (7, 20_000), (8, 60_000)] {
            let (n, steps) = label
                .add_logical(at, Extent::new(at + 2048, 5000), 0x83, false)
                .unwrap();
            assert_eq!(n, number);
            carry(&mut disk, &steps);
            assert_eq!(read(&disk).0, label);
        }
        let steps = label.set_logical(6, 9000, 0x8e, false).unwrap();
        assert_eq!(steps[0].records.len(), 2, "its own record, and the length in the link");
        carry(&mut disk, &steps);
        assert_eq!(seen(&disk)[2], (6, Extent::new(42_048, 9000), 0x8e));

        // The first goes: its record takes over the second's entries, and the numbers move.
        carry(&mut disk, &label.remove_logical(5).unwrap());
        let at = |start| Extent::new(start, 5000);
        assert_eq!(
            seen(&disk)[1..],
            [
                (5, Extent::new(42_048, 9000), 0x8e),
                (6, at(22_048), 0x83),
                (7, at(62_048), 0x83)
            ]
        );
        carry(&mut disk, &label.remove_logical(6).unwrap());
        carry(&mut disk, &label.remove_logical(6).unwrap());
        carry(&mut disk, &label.remove_logical(5).unwrap());
        assert_eq!(seen(&disk).len(), 1);
        assert_eq!(label.remove_logical(5), Err(Misfit::Missing(5)));
        // The empty first record is used again.
        let (n, steps) = label.add_logical(10_000, at(12_048), 0x83, false).unwrap();
        assert_eq!((n, steps.len()), (5, 1));
        carry(&mut disk, &steps);
        assert_eq!(read(&disk).0, label);
    }

    #[test]
    fn cylinders_heads_and_sectors_are_sfdisks() {
        let g = Geometry::default();
        assert_eq!(g.chs(2048), [0x20, 0x21, 0]);
        assert_eq!(g.chs(0), [0, 1, 0]);
        assert_eq!(g.chs(255 * 63 * 1024 - 1), [0xfe, 0xff, 0xff]);
        assert_eq!(g.chs(u64::MAX), [0xfe, 0xff, 0xff]);
        let small = Geometry { heads: 16, sectors: 63 };
        assert_eq!(small.chs(2048), [0, 33, 2]);
        let mut record = Record::new(1);
        let entry = Entry {
            active: false,
            kind: 0x83,
            start: 63,
            count: 16 * 63 * 4 - 63,
        };
        assert!(record.put(1, Some(entry), 0, small));
        assert_eq!(Geometry::of(&record), small);
        assert!(record.put(
            2,
            Some(Entry {
                start: 10_000,
                count: 7,
                ..entry
            }),
            0,
            small
        ));
        assert_eq!(Geometry::of(&record), g, "entries that disagree say nothing");
        assert_eq!(Geometry::of(&Record::new(1)), g);
    }

    #[test]
    fn what_32_bits_cannot_tell_is_refused() {
        let mut label = Label::fresh(1);
        let far = Extent::new(1 << 32, 10);
        assert_eq!(label.set_primary(1, Some((far, 0x83, false))), Err(Misfit::TooFar(far)));
        let long = Extent::new(2048, 1 << 32);
        assert_eq!(
            label.set_primary(1, Some((long, 0x83, false))),
            Err(Misfit::TooFar(long))
        );
        assert_eq!(label.set_primary(5, None), Err(Misfit::Missing(5)));
        assert_eq!(
            label.add_logical(10, Extent::new(20, 1), 0x83, false),
            Err(Misfit::Missing(5))
        );
    }

    proptest! {
        /// Any sequence of changes, each looked at from every side, against a list of partitions in order of the chain.
        #[test]
        fn any_sequence_of_changes_is_seen_whole(ops in prop::collection::vec((0u32..4, 0usize..12, 1u64..1000), 1..40)) {
            let (mut disk, mut label) = fresh();
            let mut model: Vec<Extent> = Vec::new();
            for (op, which, length) in ops {
                match op {
                    0 | 1 => {
                        let free = (0..12).map(|i| 10_000 + i * 10_000).find(|at| model.iter().all(|e| e.start != at + 2048));
                        let Some(at) = free.filter(|_| op == 0 || model.is_empty()).or_else(|| (0..12).rev().map(|i| 10_000 + i * 10_000)
                            .find(|at| model.iter().all(|e| e.start != at + 2048))) else { continue };
                        // The start of the extended partition is the first record's.
                        let at = if model.is_empty() { 10_000 } else if at == 10_000 { 135_000 } else { at };
                        if model.iter().any(|e| e.start == at + 2048) { continue }
                        let extent = Extent::new(at + 2048, length);
                        let (number, steps) = label.add_logical(at, extent, 0x83, false).unwrap();
                        model.push(extent);
                        prop_assert_eq!(number as usize, 4 + model.len());
                        carry(&mut disk, &steps);
                    }
                    2 if !model.is_empty() => {
                        let at = which % model.len();
                        carry(&mut disk, &label.remove_logical(5 + at as u32).unwrap());
                        model.remove(at);
                    }
                    3 if !model.is_empty() => {
                        let at = which % model.len();
                        carry(&mut disk, &label.set_logical(5 + at as u32, length, 0x83, false).unwrap());
                        model[at].count = length;
                    }
                    _ => continue,
                }
                let logical: Vec<Extent> = seen(&disk).into_iter().filter(|(n, _, _)| *n >= 5).map(|(_, e, _)| e).collect();
                prop_assert_eq!(&logical, &model);
                prop_assert_eq!(&read(&disk).0, &label);
            }
        }
    }
}
