//! SGI volume headers as something to change: one sector, sixteen partitions, of which 9 is the header's own room and 11 the whole disk.
//!
//! Which partition is booted from and which is swapped on is told beside them, by number. A header's own room also holds files for the firmware;
//! they, and their directory in the sector, stay as they are.
use super::{BOOT, Entry, Put, Rules, Scheme, Tells, byte, number_of, only_in_512};
use crate::plan::{Code, Facts, Refusal};
use spec::{
    Extent,
    sgi::{self, Header},
};

const WHAT: &str = "an SGI volume header";
/// The header's own room and the whole disk, from 1.
const FIXED: [u32; 2] = [9, 11];
/// The mark of the partition to swap on.
const SWAP: &str = "swap";
/// Nobody boots from it, or swaps on it.
const NOBODY: u16 = u16::MAX;

/// A header, and the length of its disk.
pub struct Sgi {
    header: Header,
    blocks: u64,
}

/// The header that a disk has.
pub fn read(disk: &Facts, header: Header) -> Result<Sgi, Refusal> {
    only_in_512(disk, WHAT)?;
    Ok(Sgi {
        header,
        blocks: disk.blocks,
    })
}

/// A fresh one.
pub fn fresh(disk: &Facts) -> Result<Sgi, Refusal> {
    only_in_512(disk, WHAT)?;
    let header = Header::fresh(disk.blocks).ok_or_else(|| {
        let why = "is too small or too large for an SGI volume header, which tells of 3 MiB to 2 TiB";
        disk.refuse(Code::NoSpace, why)
    })?;
    Ok(Sgi {
        header,
        blocks: disk.blocks,
    })
}

impl Scheme for Sgi {
    fn label(&self) -> &'static str {
        "sgi"
    }
    fn what(&self) -> &'static str {
        WHAT
    }
    fn entries(&self) -> Vec<Entry> {
        let used = (1..).zip(&self.header.entries).filter(|(_, entry)| entry.blocks > 0);
        used.map(|(number, entry)| {
            let marks = [(BOOT, self.header.root), (SWAP, self.header.swap)];
            Entry {
                number,
                extent: Extent::new(entry.first.into(), entry.blocks.into()),
                kind: format!("{:x}", entry.kind),
                name: String::new(),
                marks: marks
                    .iter()
                    .filter(|(_, at)| is(*at, number))
                    .map(|(mark, _)| *mark)
                    .collect(),
                fixed: match entry.kind {
                    sgi::HEADER => Some("the header's own room"),
                    sgi::WHOLE => Some("the whole disk"),
                    _ => None,
                },
            }
        })
        .collect()
    }
    fn free(&self) -> Vec<u32> {
        let all = (1..).zip(&self.header.entries);
        all.filter(|(number, entry)| !FIXED.contains(number) && entry.blocks == 0)
            .map(|(number, _)| number)
            .collect()
    }
    fn rules(&self) -> Rules {
        let entries = self.header.entries.iter().filter(|entry| entry.blocks > 0);
        let end = |entry: &sgi::Entry| u64::from(entry.first) + u64::from(entry.blocks);
        let first = entries
            .clone()
            .filter(|entry| entry.kind == sgi::HEADER)
            .map(end)
            .max()
            .unwrap_or(1)
            .max(1);
        let whole = entries.filter(|entry| entry.kind == sgi::WHOLE).map(end).max();
        let last = self.blocks.min(u32::MAX.into()).min(whole.unwrap_or(u64::MAX));
        Rules {
            room: Extent::new(first, last.saturating_sub(first)),
            step: 1,
            cylinder: self.header.cylinder(),
        }
    }
    fn tells(&self) -> Tells {
        Tells {
            name: false,
            marks: &[BOOT, SWAP],
        }
    }
    fn kind(&self, text: Option<&str>) -> Result<String, Refusal> {
        let not = [sgi::HEADER as u8, sgi::WHOLE as u8];
        byte(text, "a partition of an SGI volume header", &not)
    }
    fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), Refusal> {
        let place = (number as usize)
            .checked_sub(1)
            .and_then(|at| self.header.entries.get_mut(at));
        let Some(place) = place else { return Ok(()) };
        let was = *place;
        *place = match entry {
            None => sgi::Entry::default(),
            // 32 bits are enough: the caller has chosen it inside of the room.
            Some(entry) => sgi::Entry {
                blocks: entry.extent.count as u32,
                first: entry.extent.start as u32,
                kind: number_of(&entry.kind),
            },
        };
        for (mark, at) in [(BOOT, &mut self.header.root), (SWAP, &mut self.header.swap)] {
            match entry {
                Some(entry) if entry.marks.contains(&mark) => *at = number as u16 - 1,
                // A header names them before they are there: that of one which comes or goes stays.
                Some(_) if was.blocks > 0 && is(*at, number) => *at = NOBODY,
                _ => {}
            }
        }
        Ok(())
    }
    fn steps(&self) -> Vec<(&'static str, Vec<Put>)> {
        let put = (0, self.header.to_bytes().to_vec(), WHAT);
        vec![("the header, which is one sector", vec![put])]
    }
    fn blanks(&self) -> Vec<(&'static str, Vec<Put>)> {
        vec![("the header, which is one sector", vec![(0, vec![0; 512], WHAT)])]
    }
}

fn is(which: u16, number: u32) -> bool {
    u32::from(which) + 1 == number
}
