//! Amiga rigid disk blocks as something to change: a first block, and from it a chain of blocks, each a partition, all at the start of the disk.
//!
//! Every block is one sector with a checksum, so each change comes down to one sector that decides:
//!
//! ```text
//!   new partition:   its block, which nothing leads to │ the link of the last block, or the first partition in the first block
//!   partition goes:  the link that led to it           │ its block is wiped
//!   it changes:      its own block
//! ```
//!
//! A partition's number is its place in the chain, so those behind one that goes get the next lower one. What else is in the room for such
//! blocks, file systems and their code above all, is kept: only blocks of zeros are taken.
use super::{BOOT, Entry, Put, Rules, Scheme, Tells};
use crate::plan::{Code, Draft, Facts, Refusal};
use spec::{
    Extent,
    amiga::{self, BOOTABLE, END, FIRST, NAME_MAX, NO_MOUNT, PARTITIONS_MAX, Partition, Rigid, SCAN},
};
use std::collections::BTreeSet;

const WHAT: &str = "an Amiga rigid disk block";
/// The mark of a partition that is not mounted by itself, as parted calls it.
const HIDDEN: &str = "hidden";
const MARKS: [(&str, u32); 2] = [(BOOT, BOOTABLE), (HIDDEN, NO_MOUNT)];
/// Bytes in a block. Larger ones exist, and tools disagree on them.
const SIZE: u64 = 512;
/// The most blocks at the start of the disk that are looked through for room.
const LOOK_MAX: u64 = 2048;
/// Words for types.
const TYPES: [(&str, &[u8; 4]); 5] = [
    ("linux", b"LNX\0"),
    ("swap", b"SWP\0"),
    ("ofs", b"DOS\0"),
    ("ffs", b"DOS\x01"),
    ("pfs", b"PFS\x03"),
];

/// A partition and the number of its block.
type Link = (u32, Partition);

/// A table on its disk.
pub struct Amiga {
    /// The number of the first block.
    at: u32,
    rigid: Rigid,
    chain: Vec<Link>,
    /// First block and chain as they are on the disk; nothing if the table is new.
    was: Option<(Rigid, Vec<Link>)>,
    /// Blocks that new partitions may have for themselves, lowest first.
    blank: BTreeSet<u32>,
    blocks: u64,
}

/// The table that a disk has, if it has one.
pub async fn read(draft: &mut Draft<'_>, disk: &Facts) -> Result<Option<Amiga>, Refusal> {
    let head = draft.read(&disk.name, 0, disk.bytes().min(SCAN * SIZE)).await?;
    let mut firsts = (0..).zip(head.chunks_exact(SIZE as usize));
    let Some((at, rigid)) = firsts.find_map(|(at, block)| Some((at, Rigid::parse(block).ok()?))) else {
        return Ok(None);
    };
    only_in_512(disk, &rigid)?;
    let damaged = |why: String| disk.refuse(Code::Damaged, &format!("has {WHAT}, and {why}"));
    let mut chain: Vec<Link> = Vec::new();
    let mut next = rigid.partitions;
    while next != END {
        if chain.len() == PARTITIONS_MAX || chain.iter().any(|(block, _)| *block == next) {
            return Err(damaged(format!("its chain of partitions does not end (block {next})")));
        }
        if u64::from(next) >= disk.blocks {
            return Err(damaged(format!(
                "its chain leads to block {next}, beyond the end of the disk"
            )));
        }
        let block = draft.read(&disk.name, u64::from(next) * SIZE, SIZE).await?;
        let one = Partition::parse(&block)
            .map_err(|why| damaged(format!("block {next} should be a partition's and is not: {why}")))?;
        if one.extent().is_none_or(|extent| extent.count == 0) {
            return Err(damaged(format!("the partition of block {next} ends before it begins")));
        }
        let block = std::mem::replace(&mut next, one.next);
        chain.push((block, one));
    }
    let room = rigid.reserved();
    let first = room.start.max(u64::from(at) + 1);
    let end = (room.start + room.count).min(first + LOOK_MAX).min(disk.blocks);
    let mut blank = BTreeSet::new();
    if first < end {
        let bytes = draft.read(&disk.name, first * SIZE, (end - first) * SIZE).await?;
        let blocks = (first as u32..).zip(bytes.chunks_exact(SIZE as usize));
        blank.extend(
            blocks
                .filter(|(_, block)| block.iter().all(|b| *b == 0))
                .map(|(at, _)| at),
        );
    }
    Ok(Some(Amiga {
        at,
        was: Some((rigid.clone(), chain.clone())),
        rigid,
        chain,
        blank,
        blocks: disk.blocks,
    }))
}

/// A fresh one.
pub fn fresh(disk: &Facts) -> Result<Amiga, Refusal> {
    let rigid = Rigid::fresh(disk.blocks).ok_or_else(|| {
        let why = "is too small or too large for an Amiga rigid disk block, which tells of 256 KiB to 256 TiB";
        disk.refuse(Code::NoSpace, why)
    })?;
    only_in_512(disk, &rigid)?;
    Ok(Amiga {
        at: FIRST,
        rigid,
        chain: Vec::new(),
        was: None,
        blank: BTreeSet::new(),
        blocks: disk.blocks,
    })
}

fn only_in_512(disk: &Facts, rigid: &Rigid) -> Result<(), Refusal> {
    super::only_in_512(disk, WHAT)?;
    match rigid.block_size {
        512 => Ok(()),
        size => {
            let why = format!("has {WHAT} in blocks of {size} bytes, which is only read here");
            Err(disk.refuse(Code::Unsupported, &why))
        }
    }
}

impl Amiga {
    /// Blocks of a cylinder of new partitions.
    fn cylinder(&self) -> u64 {
        let (heads, sectors) = self.rigid.geometry();
        (u64::from(heads) * u64::from(sectors)).max(1)
    }

    /// A name that no partition has: DH0, DH1, …
    fn fresh_name(&self) -> String {
        let taken = |name: &String| self.chain.iter().any(|(_, one)| one.name == *name);
        let mut names = (0..=PARTITIONS_MAX).map(|number| format!("DH{number}"));
        // One more name than there may be partitions.
        names.find(|name| !taken(name)).unwrap_or_default()
    }

    /// Links the chain as it is in memory.
    fn link(&mut self) {
        let mut next = END;
        for (block, one) in self.chain.iter_mut().rev() {
            one.next = next;
            next = *block;
        }
        self.rigid.partitions = next;
    }

    fn put(&self, at: u32, bytes: Vec<u8>, what: &'static str) -> Put {
        (u64::from(at) * SIZE, bytes, what)
    }
}

impl Scheme for Amiga {
    fn label(&self) -> &'static str {
        "amiga"
    }
    fn what(&self) -> &'static str {
        WHAT
    }
    fn entries(&self) -> Vec<Entry> {
        let all = (1..).zip(&self.chain);
        all.map(|(number, (_, one))| Entry {
            number,
            // Checked when it was read.
            extent: one.extent().unwrap_or_default(),
            kind: one.type_name(),
            name: one.name.clone(),
            marks: MARKS
                .iter()
                .filter(|(_, bit)| one.flags() & bit != 0)
                .map(|(mark, _)| *mark)
                .collect(),
            fixed: None,
        })
        .collect()
    }
    fn free(&self) -> Vec<u32> {
        let room = self.chain.len() < PARTITIONS_MAX && !self.blank.is_empty();
        room.then(|| self.chain.len() as u32 + 1).into_iter().collect()
    }
    fn behind(&self, number: u32) -> Vec<u32> {
        (number + 1..=self.chain.len() as u32).collect()
    }
    fn rules(&self) -> Rules {
        let (room, cylinder) = (self.rigid.room(), self.cylinder());
        let own = self.rigid.reserved();
        let first = room.start.max(own.start + own.count).max(SCAN);
        let first = first.checked_next_multiple_of(cylinder).unwrap_or(u64::MAX);
        let end = room.start.saturating_add(room.count).min(self.blocks) / cylinder * cylinder;
        Rules {
            room: Extent::new(first, end.saturating_sub(first)),
            step: cylinder,
            cylinder,
        }
    }
    fn whole(&self, number: Option<u32>) -> u64 {
        let there = number.and_then(|number| self.chain.get(number as usize - 1));
        there.map_or_else(|| self.cylinder(), |(_, one)| one.cylinder.max(1))
    }
    fn tells(&self) -> Tells {
        Tells {
            name: true,
            marks: &[BOOT, HIDDEN],
        }
    }
    fn kind(&self, text: Option<&str>) -> Result<String, Refusal> {
        let text = text.unwrap_or("linux");
        let word = TYPES.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        let kind = word.map(|(_, kind)| **kind).or_else(|| amiga::kind(text));
        let Some(kind) = kind.filter(|kind| *kind != [0; 4]) else {
            let words: Vec<&str> = TYPES.iter().map(|(word, _)| *word).collect();
            return Err(
                Refusal::new(Code::BadOption, format!("{text:?} is no type of an Amiga partition")).but(format!(
                    "four characters such as DOS\\3, or one of {}",
                    words.join(", ")
                )),
            );
        };
        let mut one = Partition::fresh((1, 1));
        one.kind = kind;
        Ok(one.type_name())
    }
    fn name(&self, text: &str) -> Result<(), Refusal> {
        // It is the name of a device: a colon ends it, a slash goes on from it.
        let plain = text.len() <= NAME_MAX && text.bytes().all(|b| b.is_ascii_graphic() && !b":/\"".contains(&b));
        if !plain {
            let why = format!(
                "{text:?} is no name of an Amiga partition: at most {NAME_MAX} letters of ASCII without blanks, `:` and `/` fit"
            );
            return Err(Refusal::new(Code::BadName, why));
        }
        Ok(())
    }
    fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), Refusal> {
        let place = number as usize - 1;
        let Some(entry) = entry else {
            self.chain.remove(place);
            self.link();
            return Ok(());
        };
        if place == self.chain.len() {
            let block = self.blank.pop_first();
            let block = block.ok_or_else(|| Refusal::new(Code::NoSpace, "the table has no room for a block more"))?;
            self.chain.push((block, Partition::fresh(self.rigid.geometry())));
            if block > self.rigid.highest() || self.rigid.highest() == END {
                self.rigid.set_highest(block);
            }
        }
        let name = match entry.name.is_empty() {
            true => self.fresh_name(),
            false => entry.name.clone(),
        };
        let Some((_, one)) = self.chain.get_mut(place) else {
            return Ok(());
        };
        let cylinder = one.cylinder.max(1);
        // 32 bits are enough: the caller has chosen it inside of the room, in whole cylinders.
        one.low = (entry.extent.start / cylinder) as u32;
        one.high = ((entry.extent.start + entry.extent.count) / cylinder - 1) as u32;
        if one.name != name {
            one.set_name(&name);
        }
        if let Some(kind) = amiga::kind(&entry.kind) {
            one.kind = kind;
        }
        let flags = MARKS.iter().fold(one.flags(), |flags, (mark, bit)| {
            if entry.marks.contains(mark) {
                flags | bit
            } else {
                flags & !bit
            }
        });
        one.set_flags(flags);
        self.link();
        Ok(())
    }
    fn steps(&self) -> Vec<(&'static str, Vec<Put>)> {
        let first = |rigid: &Rigid| self.put(self.at, rigid.to_bytes(), WHAT);
        let Some((rigid, chain)) = &self.was else {
            return vec![("the first block", vec![first(&self.rigid)])];
        };
        let block = |(at, one): &Link| self.put(*at, one.to_bytes(), "block of a partition");
        let had = |link: &&Link| chain.iter().any(|(at, _)| *at == link.0);
        let (there, new): (Vec<&Link>, Vec<&Link>) = self.chain.iter().partition(had);
        let mut unseen: Vec<Put> = new.into_iter().map(block).collect();
        // How far its blocks go may be told too early: nobody is led there.
        let higher = self.rigid.leading_to(rigid.partitions);
        if higher != *rigid {
            unseen.push(first(&higher));
        }
        let changed = there.into_iter().filter(|link| !chain.contains(link));
        let mut deciding: Vec<Put> = changed.map(block).collect();
        if self.rigid.partitions != rigid.partitions {
            deciding.push(first(&self.rigid));
        }
        let gone = chain
            .iter()
            .filter(|(at, _)| self.chain.iter().all(|(kept, _)| kept != at));
        let gone = gone.map(|(at, _)| self.put(*at, vec![0; SIZE as usize], "block of a partition that is no more"));
        vec![
            ("the partition's block, which nothing leads to", unseen),
            ("the sector that decides", deciding),
            ("what nothing leads to any more", gone.collect()),
        ]
    }
    fn blanks(&self) -> Vec<(&'static str, Vec<Put>)> {
        let zero = |at: u32, what| self.put(at, vec![0; SIZE as usize], what);
        let chain = self.chain.iter().map(|(at, _)| zero(*at, "block of a partition"));
        vec![
            (
                "the first block: from here on nobody sees a table",
                vec![zero(self.at, WHAT)],
            ),
            ("the partitions' blocks", chain.collect()),
        ]
    }
}
