//! An Apple partition map as one thing: its entries, and in which order their blocks are written.
//!
//! The first entry says how many there are, and every other says so, too; readers follow the first. So an entry behind the last can be written without
//! anybody seeing it, and is there as soon as the first one counts it. Free space has entries as well, which follow from the others; they are
//! kept as they are where they still hold, and nobody who looks for partitions minds one that is out of date for a moment. Entries
//! that are over are no longer counted, and then zeroed; one that is left over between others becomes void. All of it is as parted does it.
use super::{ENTRIES_MAX, ENTRY_LEN, Entry};
use crate::extent::Extent;

/// Type of the map's own entry.
pub const MAP: &str = "Apple_partition_map";
/// Type of free space.
pub const FREE: &str = "Apple_Free";
const VOID: &str = "Apple_Void";
/// Entries that a fresh map has room for, which is what every tool leaves.
const ROOM: u32 = 63;
/// Valid, allocated, readable, writable: what parted marks partitions with.
const STATUS: u32 = 0x33;
/// … and in use, with code to boot, as it marks those of HFS.
const STATUS_HFS: u32 = 0x7f;

/// Blocks to write, by number of the entry, in any order. Each step has to last before the next.
pub type Step = (&'static str, Vec<(u32, [u8; ENTRY_LEN])>);

/// What a partition is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// First block.
    pub start: u32,
    /// Blocks.
    pub blocks: u32,
    /// Its name, at most [`TEXT_MAX`] bytes.
    pub name: String,
    /// Its type, at most [`TEXT_MAX`] bytes.
    pub kind: String,
}

/// Longest name or type, in bytes.
pub const TEXT_MAX: usize = 31;

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// As they are to be.
    entries: Vec<Entry>,
    /// As they are on the disk.
    found: Vec<[u8; ENTRY_LEN]>,
    /// Blocks of the disk.
    blocks: u64,
    /// The entry that was changed last.
    changed: Option<u32>,
}

impl Map {
    /// From what was read, in order, on a disk of `blocks` blocks of the map's size. Nothing if the first entry is not the map's own, or counts more entries than
    /// the map has blocks: those behind it may lie in partitions.
    pub fn new(entries: Vec<Entry>, blocks: u64) -> Option<Self> {
        let fits =
            |first: &&Entry| first.kind == MAP && first.start == 1 && entries.len() as u64 <= first.blocks.into();
        entries.first().filter(fits)?;
        Some(Self {
            found: entries.iter().map(Entry::to_bytes).collect(),
            entries,
            blocks,
            changed: None,
        })
    }

    /// A fresh one with nothing but itself and free space. Nothing if there is no room behind it, or more than it can tell of.
    pub fn fresh(blocks: u64) -> Option<Self> {
        u32::try_from(blocks).ok().filter(|blocks| *blocks > ROOM + 1)?;
        let own = Wanted {
            start: 1,
            blocks: ROOM,
            name: "Apple".into(),
            kind: MAP.into(),
        };
        let mut map = Self {
            entries: vec![made(&own, 0)],
            found: Vec::new(),
            blocks,
            changed: None,
        };
        map.fill();
        Some(map)
    }

    /// All entries, in order from 1.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Numbers that a partition may have, lowest first.
    pub fn free(&self) -> Vec<u32> {
        let last = self.entries[0].blocks.min(ENTRIES_MAX);
        (2..=last)
            .filter(|number| self.get(*number).is_none_or(is_space))
            .collect()
    }

    /// Blocks that partitions may have.
    pub fn room(&self) -> Extent {
        let first = u64::from(self.entries[0].start) + u64::from(self.entries[0].blocks);
        let end = self.blocks.min(u32::MAX.into());
        Extent::new(first, end.saturating_sub(first))
    }

    fn get(&self, number: u32) -> Option<&Entry> {
        self.entries.get((number as usize).checked_sub(1)?)
    }

    /// Changes what entry `number` says and keeps what this code does not understand of it, or gives its blocks back. False if the map has no room
    /// for it, or it is the map's own.
    pub fn set(&mut self, number: u32, to: Option<&Wanted>) -> bool {
        let last = self.entries[0].blocks.min(ENTRIES_MAX);
        if !(2..=last).contains(&number) {
            return false;
        }
        while (self.entries.len() as u32) < number {
            self.entries.push(void());
        }
        let entry = &mut self.entries[number as usize - 1];
        match to {
            None => *entry = void(),
            Some(to) if is_space(entry) => {
                let hfs = to.kind.starts_with("Apple_HFS");
                *entry = made(to, if hfs { STATUS_HFS } else { STATUS });
            }
            Some(to) => {
                // Its data may be said to begin later; what is said of that stays.
                if entry.word(84) == entry.blocks {
                    entry.raw[84..88].copy_from_slice(&to.blocks.to_be_bytes());
                }
                (entry.start, entry.blocks) = (to.start, to.blocks);
                entry.put_text(16, &to.name);
                entry.put_text(48, &to.kind);
                (entry.name, entry.kind) = (to.name.clone(), to.kind.clone());
            }
        }
        self.changed = Some(number);
        self.fill();
        true
    }

    /// Makes counts and free space what follows from the partitions, as they are after every change.
    pub fn mend(&mut self) {
        self.fill();
    }

    /// Entries for what is free, in the numbers that are left, lowest first; and the count in all of them.
    fn fill(&mut self) {
        let mut taken: Vec<Extent> = self
            .entries
            .iter()
            .filter(|entry| !is_space(entry))
            .map(extent)
            .collect();
        taken.sort_by_key(|extent| extent.start);
        let (mut at, end, mut gaps) = (1u64, self.room().end().unwrap_or(1), Vec::new());
        for extent in taken.into_iter().chain([Extent::new(end, 0)]) {
            let until = extent.start.min(end);
            if until > at {
                gaps.push(Extent::new(at, until - at));
            }
            at = at.max(extent.end().unwrap_or(u64::MAX));
        }
        let last = self.entries[0].blocks.min(ENTRIES_MAX) as usize;
        let mut gaps = gaps.into_iter();
        for at in 1..last {
            if self.entries.get(at).is_some_and(|entry| !is_space(entry)) {
                continue;
            }
            let entry = match gaps.next() {
                Some(gap) => {
                    let same = self
                        .entries
                        .get(at)
                        .filter(|entry| entry.kind == FREE && extent(entry) == gap);
                    same.cloned().unwrap_or_else(|| {
                        // 32 bits are enough: the room ends there.
                        let free = Wanted {
                            start: gap.start as u32,
                            blocks: gap.count as u32,
                            name: "Extra".into(),
                            kind: FREE.into(),
                        };
                        made(&free, 0)
                    })
                }
                None if at < self.entries.len() => void(),
                None => break,
            };
            match self.entries.get_mut(at) {
                Some(there) => *there = entry,
                None => self.entries.push(entry),
            }
        }
        while self
            .entries
            .last()
            .is_some_and(|entry| is_space(entry) && entry.blocks == 0)
        {
            self.entries.pop();
        }
        let count = self.entries.len() as u32;
        self.entries.iter_mut().for_each(|entry| entry.count = count);
    }

    /// The blocks to write after a change, or of a fresh map.
    pub fn steps(&self) -> Vec<Step> {
        let new = || (1u32..).zip(self.entries.iter().map(Entry::to_bytes));
        let (had, has) = (self.found.len() as u32, self.entries.len() as u32);
        let unseen: Vec<_> = new().filter(|(number, _)| *number > had.max(1)).collect();
        // One that is there before and after changes with its own block; others come and go with the count of the first entry.
        let deciding = self.changed.filter(|number| *number <= had.min(has)).unwrap_or(1);
        let commit: Vec<_> = new().filter(|(number, _)| *number == deciding).collect();
        let rest: Vec<_> = new()
            .filter(|(number, _)| *number <= had && *number != deciding)
            .collect();
        let over = (has + 1..=had).map(|number| (number, [0; ENTRY_LEN])).collect();
        vec![
            ("entries that the map does not count yet", unseen),
            ("the entry that decides", commit),
            ("counts and free space", rest),
            ("entries that the map does not count any more", over),
        ]
    }
}

/// Blocks that an entry tells of.
fn extent(entry: &Entry) -> Extent {
    Extent::new(entry.start.into(), entry.blocks.into())
}

/// True for what may be made a partition.
fn is_space(entry: &Entry) -> bool {
    matches!(entry.kind.as_str(), FREE | VOID | "")
}

fn void() -> Entry {
    let nothing = Wanted {
        start: 0,
        blocks: 0,
        name: String::new(),
        kind: VOID.into(),
    };
    made(&nothing, 0)
}

/// An entry as parted makes them.
fn made(what: &Wanted, status: u32) -> Entry {
    let mut entry = Entry {
        count: 0,
        start: what.start,
        blocks: what.blocks,
        name: what.name.clone(),
        kind: what.kind.clone(),
        raw: [0; ENTRY_LEN],
    };
    entry.raw[..2].copy_from_slice(b"PM");
    entry.put_text(16, &what.name);
    entry.put_text(48, &what.kind);
    entry.raw[84..88].copy_from_slice(&what.blocks.to_be_bytes());
    entry.raw[88..92].copy_from_slice(&status.to_be_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(start: u32, blocks: u32, name: &str) -> Wanted {
        Wanted {
            start,
            blocks,
            name: name.into(),
            kind: "Apple_HFS".into(),
        }
    }

    /// What is on the disk after these steps.
    fn read(disk: &mut Vec<[u8; ENTRY_LEN]>, steps: &[Step]) -> Map {
        for (number, bytes) in steps.iter().flat_map(|(_, blocks)| blocks) {
            let at = *number as usize - 1;
            disk.resize(disk.len().max(at + 1), [0; ENTRY_LEN]);
            disk[at] = *bytes;
        }
        let count = Entry::parse(&disk[0], 1).unwrap().count;
        let entries = (1..=count).map(|number| Entry::parse(&disk[number as usize - 1], number).unwrap());
        Map::new(entries.collect(), 10_000).unwrap()
    }

    fn partitions(map: &Map) -> Vec<(u32, u32, u32)> {
        let all = (1..).zip(map.entries());
        all.filter(|(_, entry)| !entry.is_filler())
            .map(|(number, entry)| (number, entry.start, entry.blocks))
            .collect()
    }

    #[test]
    fn counts_and_free_space_are_mended() {
        let mut disk = Vec::new();
        let mut map = read(&mut disk, &Map::fresh(10_000).unwrap().steps());
        assert!(map.set(2, Some(&wanted(100, 900, "a"))));
        let sound = read(&mut disk, &map.steps());
        let good = disk.clone();
        // Another count, and free space that is out of date.
        disk[1][4..8].copy_from_slice(&9u32.to_be_bytes());
        disk[2][12..16].copy_from_slice(&77u32.to_be_bytes());
        let mut map = read(&mut disk, &[]);
        assert_ne!(disk, good);
        map.mend();
        assert_eq!(partitions(&read(&mut disk, &map.steps())), partitions(&sound));
        assert_eq!(disk, good);
    }

    #[test]
    fn every_block_belongs_to_one_entry_and_each_step_leaves_the_old_or_the_new() {
        let mut disk = Vec::new();
        let mut map = read(&mut disk, &Map::fresh(10_000).unwrap().steps());
        assert_eq!(map.steps().iter().map(|(_, blocks)| blocks.len()).sum::<usize>(), 2);
        let changes = [
            (2, Some(wanted(100, 900, "a"))),
            (3, Some(wanted(5000, 1000, "b"))),
            (9, Some(wanted(2000, 10, "far"))),
            (2, None),
            (4, Some(wanted(64, 36, "first"))),
            (3, Some(wanted(5000, 5000, "longer"))),
            (9, None),
            (3, None),
            (4, None),
        ];
        for (number, to) in changes {
            let old = partitions(&map);
            assert!(map.set(number, to.as_ref()));
            let new = partitions(&map);
            let steps = map.steps();
            let mut step_by_step = disk.clone();
            for (at, step) in steps.iter().enumerate() {
                // Any one block of a step alone, too.
                for block in &step.1 {
                    let torn = (step.0, vec![*block]);
                    let seen = partitions(&read(&mut step_by_step.clone(), &[torn]));
                    assert!(
                        seen == if at == 0 { old.clone() } else { new.clone() } || (at == 1 && seen == old),
                        "{number}"
                    );
                }
                read(&mut step_by_step, std::slice::from_ref(step));
            }
            map = read(&mut disk, &steps);
            assert_eq!(partitions(&map), new);
            assert!(disk[map.entries().len()..].iter().all(|block| *block == [0; ENTRY_LEN]));
            let mut all: Vec<Extent> = map.entries().iter().map(extent).filter(|e| e.count > 0).collect();
            all.sort_by_key(|extent| extent.start);
            let mut at = 1;
            for extent in all {
                assert_eq!(extent.start, at);
                at += extent.count;
            }
            assert_eq!(at, 10_000);
        }
        assert!(!map.set(1, None) && !map.set(64, None) && map.free() == (2..=63).collect::<Vec<_>>());
        assert_eq!((Map::fresh(64), Map::fresh(1 << 40)), (None, None));
    }
}
