//! Sun labels as something to change: one sector, eight partitions, of which 3 is the whole disk.
//!
//! A partition starts at a cylinder and has any number of sectors. Nothing new is put at cylinder 0: the label is there, and what a host is given
//! is written to from its first block on. What was put there by others (file systems of old leave the first sectors alone) stays.
use super::{Entry, Put, Rules, Scheme, Tells, byte, number_of, only_in_512};
use crate::plan::{Code, Facts, Refusal};
use spec::{
    Extent,
    sun::{self, Label},
};

const WHAT: &str = "a Sun label";
/// The entry of the whole disk, from 1.
const WHOLE: u32 = 3;

/// Not to be mounted; not to be written to.
const MARKS: [(&str, u16); 2] = [("u", sun::UNMOUNTABLE), ("r", sun::READ_ONLY)];

/// A label, and the length of its disk.
pub struct Sun {
    label: Label,
    blocks: u64,
}

/// The label that a disk has.
pub fn read(disk: &Facts, label: Label) -> Result<Sun, Refusal> {
    only_in_512(disk, WHAT)?;
    if !label.has_vtoc() {
        let why = "has a Sun label without a VTOC, which cannot say what partitions are for";
        return Err(disk.refuse(Code::Unsupported, why));
    }
    Ok(Sun {
        label,
        blocks: disk.blocks,
    })
}

/// A fresh one.
pub fn fresh(disk: &Facts) -> Result<Sun, Refusal> {
    only_in_512(disk, WHAT)?;
    let label = Label::fresh(disk.blocks).ok_or_else(|| {
        disk.refuse(
            Code::NoSpace,
            "is too small or too large for a Sun label, which tells of 2 MiB to 2 TiB",
        )
    })?;
    Ok(Sun {
        label,
        blocks: disk.blocks,
    })
}

impl Scheme for Sun {
    fn label(&self) -> &'static str {
        "sun"
    }
    fn what(&self) -> &'static str {
        WHAT
    }
    fn entries(&self) -> Vec<Entry> {
        let used = (1..).zip(&self.label.entries).filter(|(_, entry)| entry.sectors > 0);
        used.map(|(number, entry)| Entry {
            number,
            extent: Extent::new(u64::from(entry.cylinder) * self.label.cylinder, entry.sectors.into()),
            kind: format!("{:x}", entry.tag),
            name: String::new(),
            marks: MARKS
                .iter()
                .filter(|(_, bit)| entry.flags & bit != 0)
                .map(|(mark, _)| *mark)
                .collect(),
            fixed: (entry.tag == sun::WHOLE).then_some("the whole disk"),
        })
        .collect()
    }
    fn free(&self) -> Vec<u32> {
        let all = (1..).zip(&self.label.entries);
        all.filter(|(number, entry)| *number != WHOLE && entry.sectors == 0)
            .map(|(number, _)| number)
            .collect()
    }
    fn rules(&self) -> Rules {
        let first = self.label.cylinder;
        let end = (self.label.cylinders() * first).min(self.blocks).min(u32::MAX.into());
        Rules {
            room: Extent::new(first, end.saturating_sub(first)),
            step: first,
            cylinder: first,
        }
    }
    fn tells(&self) -> Tells {
        Tells {
            name: false,
            marks: &["u", "r"],
        }
    }
    fn kind(&self, text: Option<&str>) -> Result<String, Refusal> {
        byte(text, "a partition of a Sun label", &[0, sun::WHOLE as u8])
    }
    fn print(&self, marks: &[&'static str]) -> String {
        // Two columns, unless both are empty.
        let column = |mark: &'static str| if marks.contains(&mark) { mark } else { " " };
        match marks.is_empty() {
            true => String::new(),
            false => format!("{}{}", column("u"), column("r")),
        }
    }
    fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), Refusal> {
        let cylinder = self.label.cylinder;
        let place = (number as usize)
            .checked_sub(1)
            .and_then(|at| self.label.entries.get_mut(at));
        let Some(place) = place else { return Ok(()) };
        let old = if place.sectors == 0 { 0 } else { place.flags };
        *place = match entry {
            None => sun::Entry::default(),
            // 32 bits are enough: the caller has chosen it inside of the room.
            Some(entry) => sun::Entry {
                cylinder: (entry.extent.start / cylinder) as u32,
                sectors: entry.extent.count as u32,
                tag: number_of(&entry.kind) as u16,
                flags: MARKS
                    .iter()
                    .fold(old, |flags, (mark, bit)| match entry.marks.contains(mark) {
                        true => flags | bit,
                        false => flags & !bit,
                    }),
            },
        };
        Ok(())
    }
    fn steps(&self) -> Vec<(&'static str, Vec<Put>)> {
        let put = (0, self.label.to_bytes().to_vec(), WHAT);
        vec![("the label, which is one sector", vec![put])]
    }
    fn blanks(&self) -> Vec<(&'static str, Vec<Put>)> {
        vec![("the label, which is one sector", vec![(0, vec![0; 512], WHAT)])]
    }
}
