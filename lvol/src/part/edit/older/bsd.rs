//! BSD disk labels as something to change: one sector, partitions a to h or p, of which c is the whole of the disk or of its slice.
//!
//! FreeBSD's own place is the second sector, where a fresh one goes; parted's is byte 64 of the first, behind the start of Alpha's boot block, whose sum
//! at the end of the sector is kept right if it was. In a slice of an MBR addresses count from where its owner counts ([`base`]).
use super::{Entry, Put, Rules, Scheme, Tells, number_of};
use crate::{
    Partition,
    plan::{Code, Draft, Facts, Refusal},
};
use spec::{
    Extent,
    bsd::{self, Label},
};

const WHAT: &str = "a BSD disk label";
/// Partition c, from 1.
const WHOLE: u32 = 3;
/// Bytes at the start that boot blocks and the label have for themselves.
const BOOT_AREA: u64 = 8192;
/// Where parted puts it.
const ALPHA: u64 = 64;
/// Words for types.
const TYPES: [(&str, u8); 8] = [
    ("linux", 17),
    ("ext2", 17),
    ("swap", 1),
    ("ufs", 7),
    ("msdos", 8),
    ("ntfs", 18),
    ("raid", 19),
    ("zfs", 27),
];

/// A label on its disk.
pub struct Bsd {
    label: Label,
    /// Its first byte.
    at: u64,
    /// The first sector, if it is part of that.
    front: Vec<u8>,
    /// Where the disk begins in the label's addresses.
    base: u64,
    blocks: u64,
}

/// Where a disk begins in the addresses of a label on it: FreeBSD's says so in partition c, OpenBSD's and NetBSD's count from the start of the whole disk.
pub fn base(disk: &Facts, label: Option<&Label>) -> u64 {
    match &disk.partition {
        Some(Partition::Mbr { kind: 0xa5, .. }) => label.map_or(0, |label| label.base().into()),
        Some(Partition::Mbr {
            kind: 0xa6 | 0xa9,
            extent,
            ..
        }) => extent.start,
        _ => 0,
    }
}

/// The label that a disk has, if it has one.
pub async fn read(draft: &mut Draft<'_>, disk: &Facts, front: &[u8]) -> Result<Option<Bsd>, Refusal> {
    // An MBR that has partitions is not there for the label's sake.
    let own = spec::mbr::Record::parse(front).is_ok_and(|record| record.entries().next().is_some());
    if own && disk.format.is_none() {
        return Ok(None);
    }
    let head = draft.read(&disk.name, 0, disk.bytes().min(8192)).await?;
    // In the order in which discovery looks.
    for at in [512, u64::from(disk.block_size), ALPHA] {
        let Ok(label) = Label::parse(head.get(at as usize..).unwrap_or_default()) else {
            continue;
        };
        if label.sector_size != disk.block_size {
            let why = format!(
                "has {WHAT} in sectors of {} bytes, which are not the disk's blocks",
                label.sector_size
            );
            return Err(disk.refuse(Code::Unsupported, &why));
        }
        return Ok(Some(Bsd {
            base: base(disk, Some(&label)),
            label,
            at,
            front: if at == ALPHA { front.to_vec() } else { Vec::new() },
            blocks: disk.blocks,
        }));
    }
    Ok(None)
}

/// A fresh one.
pub fn fresh(disk: &Facts) -> Result<Bsd, Refusal> {
    let base = base(disk, None);
    let label = Label::fresh(disk.block_size, disk.blocks, base).ok_or_else(|| {
        let why = "is too small or too large for a BSD disk label, which tells of 32 to 4294967295 blocks";
        disk.refuse(Code::NoSpace, why)
    })?;
    Ok(Bsd {
        label,
        at: disk.block_size.max(512).into(),
        front: Vec::new(),
        base,
        blocks: disk.blocks,
    })
}

impl Bsd {
    fn fixed(&self, number: u32, entry: &bsd::Entry) -> Option<&'static str> {
        let all = u64::from(entry.offset) == self.base && u64::from(entry.size) >= self.blocks;
        match (number, entry.kind) {
            (WHOLE, 0) => Some("the whole"),
            _ if all => Some("the whole"),
            (_, 0) => Some("unused"),
            _ => None,
        }
    }

    /// The label's bytes, and what else of its sector follows from them.
    fn put(&self, bytes: &[u8]) -> Put {
        let sum = |sector: &[u8]| {
            sector[..504].chunks_exact(8).fold(0u64, |sum, word| {
                sum.wrapping_add(u64::from_le_bytes(word.try_into().unwrap_or_default()))
            })
        };
        if self.front.len() != 512 {
            return (self.at, bytes.to_vec(), WHAT);
        }
        let mut sector = self.front.clone();
        let at = self.at as usize;
        sector[at..at + bytes.len()].copy_from_slice(bytes);
        if self.front[504..] == sum(&self.front).to_le_bytes() {
            let sum = sum(&sector).to_le_bytes();
            sector[504..].copy_from_slice(&sum);
        }
        (0, sector, WHAT)
    }
}

impl Scheme for Bsd {
    fn label(&self) -> &'static str {
        "bsd"
    }
    fn what(&self) -> &'static str {
        WHAT
    }
    fn entries(&self) -> Vec<Entry> {
        let used = (1..).zip(&self.label.entries).filter(|(_, entry)| entry.size > 0);
        used.map(|(number, entry)| Entry {
            number,
            // One that begins before its slice is nowhere on it.
            extent: Extent::new(
                u64::from(entry.offset).checked_sub(self.base).unwrap_or(u64::MAX),
                entry.size.into(),
            ),
            kind: format!("{:x}", entry.kind),
            name: String::new(),
            marks: Vec::new(),
            fixed: self.fixed(number, entry),
        })
        .collect()
    }
    fn free(&self) -> Vec<u32> {
        // parted's label has room for those only that there are.
        let last = self.label.entries.len().max(8);
        let used = |number: u32| {
            let entry = self.label.entries.get(number as usize - 1);
            entry.is_some_and(|entry| entry.size > 0)
        };
        (1..=last as u32)
            .filter(|number| *number != WHOLE && !used(*number))
            .collect()
    }
    fn rules(&self) -> Rules {
        let first = BOOT_AREA / u64::from(self.label.sector_size.max(1));
        let end = self.blocks.min(u64::from(u32::MAX).saturating_sub(self.base));
        Rules {
            room: Extent::new(first, end.saturating_sub(first)),
            step: 1,
            cylinder: 1,
        }
    }
    fn tells(&self) -> Tells {
        Tells {
            name: false,
            marks: &[],
        }
    }
    fn kind(&self, text: Option<&str>) -> Result<String, Refusal> {
        let text = text.unwrap_or("linux");
        let word = TYPES.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let hex = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let number = hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten();
        let kind = word.map(|(_, kind)| *kind).or(number).filter(|kind| *kind != 0);
        kind.map(|kind| format!("{kind:x}")).ok_or_else(|| {
            let words: Vec<&str> = TYPES.iter().map(|(word, _)| *word).collect();
            Refusal::new(Code::BadOption, format!("{text:?} is no type of a BSD partition")).but(format!(
                "two hexadecimal digits other than 00, or one of {}",
                words.join(", ")
            ))
        })
    }
    fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), Refusal> {
        let (base, entries) = (self.base, &mut self.label.entries);
        if entries.len() < number as usize && number as usize <= bsd::PARTITIONS_MAX {
            entries.resize(number as usize, bsd::Entry::default());
        }
        let place = (number as usize).checked_sub(1).and_then(|at| entries.get_mut(at));
        let Some(place) = place else { return Ok(()) };
        *place = match entry {
            None => bsd::Entry::default(),
            // 32 bits are enough: the caller has chosen it inside of the room.
            Some(entry) => bsd::Entry {
                size: entry.extent.count as u32,
                offset: (entry.extent.start + base) as u32,
                kind: number_of(&entry.kind) as u8,
            },
        };
        Ok(())
    }
    fn steps(&self) -> Vec<(&'static str, Vec<Put>)> {
        vec![(
            "the label, which is in one sector",
            vec![self.put(&self.label.to_bytes())],
        )]
    }
    fn blanks(&self) -> Vec<(&'static str, Vec<Put>)> {
        let zero = vec![0; self.label.to_bytes().len()];
        vec![("the label, which is in one sector", vec![self.put(&zero)])]
    }
}
