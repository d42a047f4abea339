//! A GPT as one thing: one table that is written twice, and where the two copies are.
//!
//! What is not understood survives: bytes of the header behind those that are defined, bytes of an entry behind the first 128, slots beyond 128,
//! arrays that are not where they usually are. Written without a change, both copies are the bytes that were read.
use super::{ENTRY_LEN, Entry, HEADER_LEN, Header, PRIMARY, RawEntry, Table, crc32};
use crate::Extent;
use uuid::Uuid;
use zerocopy::{FromBytes, IntoBytes};

/// Why a label cannot be written as it is, or not be made longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Neither copy can be used.
    #[error("neither copy of the GPT can be used")]
    NoCopy,
    /// There is no room for the array of one copy outside of what partitions may use.
    #[error("there is no room for a copy of the entries at block {0}")]
    NoRoom(u64),
    /// A partition lies where the backup would have to be.
    #[error("partition {0} reaches into the place of the backup")]
    InTheWay(u32),
}

/// One copy as it goes to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The block of the header.
    pub header_at: u64,
    /// The header's bytes. What follows in its block is nobody's.
    pub header: Vec<u8>,
    /// First block of the array.
    pub array_at: u64,
    /// The array's bytes.
    pub array: Vec<u8>,
}

/// A table and the places of its copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// With the header of the primary.
    table: Table,
    backup_at: u64,
    backup_array: u64,
}

impl Label {
    /// From the copies that passed their checks; the primary counts. `blocks` is the length of the disk.
    pub fn new(primary: Option<&Table>, backup: Option<&Table>, blocks: u64) -> Result<Self, Misfit> {
        let counts = primary.or(backup).ok_or(Misfit::NoCopy)?;
        let span = counts.header.array().count;
        let usable = counts.header.usable();
        let backup_at = match (primary, backup) {
            (_, Some(backup)) => backup.header.raw.my_lba.get(),
            (Some(primary), None) => primary.header.alternate(),
            (None, None) => return Err(Misfit::NoCopy),
        };
        let free = |at: u64| {
            let array = Extent::new(at, span);
            at > PRIMARY && array.fits(blocks) && !array.overlaps(usable)
        };
        let primary_array = match primary {
            Some(primary) => primary.header.raw.entries_lba.get(),
            None => PRIMARY + 1,
        };
        // A backup that is gone may have been said to be anywhere.
        let sound = backup_at < blocks && usable.end().is_some_and(|end| backup_at >= end);
        let backup_at = if sound { backup_at } else { blocks.saturating_sub(1) };
        let backup_array = match backup {
            Some(backup) if backup.header.array().count == span => backup.header.raw.entries_lba.get(),
            _ => backup_at.saturating_sub(span),
        };
        for at in [primary_array, backup_array] {
            if !free(at) || Extent::new(at, span).overlaps(Extent::new(backup_at, 1)) {
                return Err(Misfit::NoRoom(at));
            }
        }
        // Where no header tells of a usable place for the backup, the last block may be a partition's.
        if !(PRIMARY + 1..blocks).contains(&backup_at) || Extent::new(backup_at, 1).overlaps(usable) {
            return Err(Misfit::NoRoom(backup_at));
        }
        if Extent::new(primary_array, span).overlaps(Extent::new(backup_array, span)) {
            return Err(Misfit::NoRoom(backup_array));
        }
        let mut label = Self {
            table: counts.clone(),
            backup_at,
            backup_array,
        };
        label.table.header.place(PRIMARY, backup_at, primary_array);
        Ok(label)
    }

    /// A fresh one with 128 slots, with 1 MiB left free at the start as every tool does. Nothing if the disk has no room for it.
    pub fn fresh(blocks: u64, block_size: u32, disk_guid: Uuid) -> Option<Self> {
        let table = Table::new(blocks, block_size, disk_guid, false)?;
        Some(Self {
            backup_at: blocks - 1,
            backup_array: blocks - 1 - table.header.array().count,
            table,
        })
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Block of the backup's header.
    pub fn backup_at(&self) -> u64 {
        self.backup_at
    }

    /// The primary as it goes to the disk.
    pub fn primary(&self) -> Copy {
        self.copy(PRIMARY, self.backup_at, self.table.header.raw.entries_lba.get())
    }

    /// The backup as it goes to the disk.
    pub fn backup(&self) -> Copy {
        self.copy(self.backup_at, PRIMARY, self.backup_array)
    }

    fn copy(&self, at: u64, other: u64, array_at: u64) -> Copy {
        let mut header = self.table.header.clone();
        header.place(at, other, array_at);
        let mut bytes = header.raw.as_bytes().to_vec();
        bytes.extend_from_slice(&header.rest);
        Copy {
            header_at: at,
            header: bytes,
            array_at,
            array: self.table.array.clone(),
        }
    }

    /// Moves the backup to the end of a disk of `blocks` blocks, and lets partitions use what lies before it.
    pub fn move_backup(&mut self, blocks: u64) -> Result<(), Misfit> {
        let span = self.table.header.array().count;
        let (first, array) = (
            self.table.header.usable().start,
            blocks.checked_sub(1 + span).ok_or(Misfit::NoRoom(0))?,
        );
        if array < first {
            return Err(Misfit::NoRoom(array));
        }
        if let Some((number, _)) = self.table.entries().find(|(_, entry)| entry.last >= array) {
            return Err(Misfit::InTheWay(number));
        }
        let primary = self.table.header.raw.entries_lba.get();
        // One that lay between the partitions and the old backup would be among the partitions then.
        let usable = Extent::new(first, array - first);
        if Extent::new(primary, span).overlaps(usable) {
            return Err(Misfit::NoRoom(primary));
        }
        self.table.header.raw.last_usable = (array - 1).into();
        self.table.header.place(PRIMARY, blocks - 1, primary);
        self.backup_at = blocks - 1;
        self.backup_array = array;
        Ok(())
    }

    /// Changes what slot `number` (from 1) says and keeps what this code does not understand of it, or empties it. A name that stays keeps its bytes.
    /// False if there is no such slot.
    pub fn set(&mut self, number: u32, entry: Option<&Entry>) -> bool {
        let step = self.table.header.raw.entry_size.get() as usize;
        let slot = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.table.array.chunks_exact_mut(step).nth(i));
        let Some(slot) = slot else { return false };
        match entry {
            None => slot.fill(0),
            Some(entry) => {
                let Ok((old, _)) = RawEntry::read_from_prefix(slot) else {
                    return false;
                };
                let mut raw = entry.to_raw();
                if old.kind == [0; 16] {
                    slot.fill(0);
                } else if Entry::from_raw(&old).name == entry.name {
                    raw.name = old.name;
                }
                slot[..ENTRY_LEN].copy_from_slice(raw.as_bytes());
            }
        }
        self.table.header.raw.entries_crc = crc32(&self.table.array).into();
        self.table.header.seal();
        true
    }

    /// Gives the disk another GUID.
    pub fn identify(&mut self, disk_guid: Uuid) {
        self.table.header.raw.disk_guid = disk_guid.to_bytes_le();
        self.table.header.seal();
    }

    /// What slot `number` says, if it is used.
    pub fn get(&self, number: u32) -> Option<Entry> {
        self.table.entries().find(|(n, _)| *n == number).map(|(_, entry)| entry)
    }

    /// The lowest slot that is not used.
    pub fn free_slot(&self) -> Option<u32> {
        let used: std::collections::BTreeSet<u32> = self.table.entries().map(|(number, _)| number).collect();
        (1..=self.table.header.slots()).find(|number| !used.contains(number))
    }
}

impl Header {
    fn seal(&mut self) {
        self.raw.header_crc = self.own_crc().into();
    }

    fn place(&mut self, at: u64, other: u64, array: u64) {
        self.raw.my_lba = at.into();
        self.raw.alternate_lba = other.into();
        self.raw.entries_lba = array.into();
        self.seal();
    }

    /// Bytes of it, of its block.
    pub fn size(&self) -> usize {
        HEADER_LEN + self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Error, types};
    use super::*;

    const DISK: Uuid = Uuid::from_u128(0xd15c);
    const BLOCKS: u64 = 20_000;

    fn entry(first: u64, last: u64) -> Entry {
        Entry {
            kind: types::LINUX,
            guid: Uuid::from_u128(first.into()),
            first,
            last,
            attributes: 4,
            name: "größe".into(),
        }
    }

    fn parse(copy: &Copy, block_size: usize, blocks: u64) -> Result<Table, Error> {
        let mut block = copy.header.clone();
        block.resize(block_size, 0);
        Table::parse(Header::parse(&block, copy.header_at, blocks)?, &copy.array)
    }

    #[test]
    fn both_copies_are_sound_and_describe_one_table() {
        for block_size in [512u32, 4096] {
            let mut label = Label::fresh(BLOCKS, block_size, DISK).unwrap();
            assert!(label.set(1, Some(&entry(2048, 4095))) && label.set(128, Some(&entry(5000, 5999))));
            assert!(!label.set(129, None) && !label.set(0, None));
            let (primary, backup) = (label.primary(), label.backup());
            let (one, two) = (
                parse(&primary, block_size as usize, BLOCKS).unwrap(),
                parse(&backup, block_size as usize, BLOCKS).unwrap(),
            );
            assert!(one.header.agrees_with(&two.header));
            assert_eq!((one.header.alternate(), two.header.alternate()), (BLOCKS - 1, 1));
            assert_eq!(
                backup.array_at + two.header.array().count,
                BLOCKS - 1,
                "the array ends before the header"
            );
            // From either copy alone comes the same label.
            for (first, second) in [(Some(&one), Some(&two)), (Some(&one), None), (None, Some(&two))] {
                assert_eq!(Label::new(first, second, BLOCKS).unwrap(), label);
            }
            assert_eq!(Label::new(None, None, BLOCKS), Err(Misfit::NoCopy));
            assert_eq!(label.free_slot(), Some(2));
        }
    }

    #[test]
    fn the_backup_moves_to_the_end_of_a_grown_disk_and_back() {
        let mut label = Label::fresh(BLOCKS, 512, DISK).unwrap();
        let old = label.clone();
        assert!(label.set(1, Some(&entry(2048, BLOCKS - 34))));
        label.move_backup(BLOCKS * 2).unwrap();
        assert_eq!(label.backup_at(), BLOCKS * 2 - 1);
        assert_eq!(label.table().header.usable().end(), Some(BLOCKS * 2 - 33));
        assert!(parse(&label.backup(), 512, BLOCKS * 2).is_ok());
        label.move_backup(BLOCKS).unwrap();
        assert_eq!(label.move_backup(BLOCKS - 1), Err(Misfit::InTheWay(1)));
        assert_eq!(label.move_backup(30), Err(Misfit::NoRoom(0)));
        assert!(label.set(1, None));
        assert_eq!(label, old);
    }

    #[test]
    fn what_is_not_understood_survives_a_change() {
        // 300 slots of 256 bytes, a header of 512 bytes, a name with bytes behind its end.
        let fresh = Label::fresh(BLOCKS, 512, DISK).unwrap();
        let mut label = fresh.clone();
        label.table.header.rest = (0..420u32).map(|i| i as u8).collect();
        label.table.header.raw.header_size = 512.into();
        label.table.header.raw.entry_count = 300.into();
        label.table.header.raw.entry_size = 256.into();
        label.table.array = vec![0; 300 * 256];
        label.table.header.raw.last_usable = (BLOCKS - 2 - 150).into();
        label.backup_array = BLOCKS - 1 - 150;
        assert!(label.set(300, Some(&entry(2048, 4095))));
        let at = 299 * 256;
        label.table.array[at + 56 + 40..at + 56 + 44].fill(0x41);
        label.table.array[at + 128..at + 256].fill(0x5a);
        assert!(label.set(1, None));
        let read = Label::new(
            Some(&parse(&label.primary(), 512, BLOCKS).unwrap()),
            Some(&parse(&label.backup(), 512, BLOCKS).unwrap()),
            BLOCKS,
        );
        assert_eq!(read.as_ref(), Ok(&label));
        let mut changed = read.unwrap();
        let resized = Entry {
            last: 9999,
            ..changed.get(300).unwrap()
        };
        assert!(changed.set(300, Some(&resized)));
        let (was, is) = (&label.table.array[at..], &changed.table.array[at..]);
        assert_eq!((&was[..40], &was[48..]), (&is[..40], &is[48..]));
        assert_eq!(changed.primary().header.len(), 512);
        // Taken back it is what it was.
        let original = label.get(300).unwrap();
        assert!(changed.set(300, Some(&original)));
        assert_eq!(changed, label);
        // A name that changes takes its whole field.
        let named = Entry {
            name: "new".into(),
            ..original
        };
        assert!(changed.set(300, Some(&named)));
        assert!(changed.table.array[at + 62..at + 128].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn arrays_in_unusual_places_stay_there() {
        let mut label = Label::fresh(BLOCKS, 512, DISK).unwrap();
        label.table.header.place(PRIMARY, BLOCKS - 1, 100);
        let read = Label::new(Some(&parse(&label.primary(), 512, BLOCKS).unwrap()), None, BLOCKS).unwrap();
        assert_eq!(read.primary().array_at, 100);
    }
}
