//! Atari partition tables as something to change: one sector, four partitions, as parted writes them.
//!
//! Entries in use come first, and a partition's number is its place among them, so those behind one that goes get the next lower one. Tables with a chain of
//! further ones (XGM), or with ICD's eight further entries, are read only: the systems that have them differ in what they mean.
use super::{BOOT, Entry, Put, Rules, Scheme, Tells};
use crate::plan::{Code, Draft, Facts, Refusal};
use spec::{
    Extent,
    atari::{self, BAD_SECTORS, KNOWN, Table, UNUSED},
};

const WHAT: &str = "an Atari partition table";
/// Words for types.
const TYPES: [(&str, &[u8; 3]); 5] = [
    ("linux", b"LNX"),
    ("swap", b"SWP"),
    ("raw", b"RAW"),
    ("minix", b"MIX"),
    ("fat32", b"F32"),
];

/// A table, and the length of its disk.
pub struct Atari {
    table: Table,
    blocks: u64,
    new: bool,
    /// Its list of bad sectors is the empty one that parted makes, where parted makes it.
    empty_list: bool,
}

/// The table that a disk has.
pub async fn read(draft: &mut Draft<'_>, disk: &Facts, table: Table) -> Result<Atari, Refusal> {
    super::only_in_512(disk, WHAT)?;
    let unusable = |why: &str| disk.refuse(Code::Unsupported, &format!("has {WHAT} that is only read here: {why}"));
    if table.entries.iter().any(atari::Entry::is_extended) {
        return Err(unusable("it has a chain of further tables (XGM)"));
    }
    if !table.further().is_empty() {
        return Err(unusable("it has more than four partitions, as ICD's driver makes them"));
    }
    let list = draft.read(&disk.name, u64::from(BAD_SECTORS) * 512, 512).await?;
    let usual = table.bad_sectors() == Extent::new(BAD_SECTORS.into(), 1);
    Ok(Atari {
        table,
        blocks: disk.blocks,
        new: false,
        empty_list: usual && list == atari::no_bad_sectors(),
    })
}

/// A fresh one.
pub fn fresh(disk: &Facts) -> Result<Atari, Refusal> {
    super::only_in_512(disk, WHAT)?;
    let table = Table::fresh(disk.blocks).ok_or_else(|| {
        let why = "is too small or too large for an Atari partition table, which tells of 4 to 2147483647 sectors";
        disk.refuse(Code::NoSpace, why)
    })?;
    Ok(Atari {
        table,
        blocks: disk.blocks,
        new: true,
        empty_list: true,
    })
}

impl Atari {
    fn used(&self) -> Vec<atari::Entry> {
        let used = self.table.entries.iter().filter(|entry| entry.is_used());
        used.copied().collect()
    }
}

fn three(text: &str) -> [u8; 3] {
    text.as_bytes().try_into().unwrap_or_default()
}

impl Scheme for Atari {
    fn label(&self) -> &'static str {
        "atari"
    }
    fn what(&self) -> &'static str {
        WHAT
    }
    fn entries(&self) -> Vec<Entry> {
        let all = (1..).zip(self.used());
        all.map(|(number, entry)| Entry {
            number,
            extent: Extent::new(entry.start.into(), entry.count.into()),
            kind: entry.type_name(),
            name: String::new(),
            marks: entry.is_bootable().then_some(BOOT).into_iter().collect(),
            fixed: None,
        })
        .collect()
    }
    fn free(&self) -> Vec<u32> {
        let next = self.used().len() as u32 + 1;
        (next <= 4).then_some(next).into_iter().collect()
    }
    fn behind(&self, number: u32) -> Vec<u32> {
        (number + 1..=self.used().len() as u32).collect()
    }
    fn rules(&self) -> Rules {
        let bad = self.table.bad_sectors();
        let end = self.blocks.min(self.table.disk.into());
        // A list elsewhere than in front of everything is in nobody's way who leaves the first MiB alone.
        let first = match bad.start {
            1 => bad.start + bad.count,
            _ => 1,
        };
        Rules {
            room: Extent::new(first, end.saturating_sub(first)),
            step: 1,
            cylinder: 1,
        }
    }
    fn tells(&self) -> Tells {
        Tells {
            name: false,
            marks: &[BOOT],
        }
    }
    fn kind(&self, text: Option<&str>) -> Result<String, Refusal> {
        let text = text.unwrap_or("linux");
        let word = TYPES.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        let kind = word.map_or_else(|| three(text), |(_, kind)| **kind);
        // A table without a type that is known is none to anybody.
        match KNOWN.contains(&&kind) && &kind != b"XGM" {
            true => Ok(String::from_utf8_lossy(&kind).into_owned()),
            false => {
                let known = KNOWN.iter().filter(|known| **known != b"XGM");
                let known: Vec<String> = known
                    .map(|known| String::from_utf8_lossy(*known).into_owned())
                    .collect();
                let words: Vec<&str> = TYPES.iter().map(|(word, _)| *word).collect();
                let way_out = format!("{}, or one of {}", known.join(", "), words.join(", "));
                Err(Refusal::new(Code::BadOption, format!("{text:?} is no type of an Atari partition")).but(way_out))
            }
        }
    }
    fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), Refusal> {
        let mut used = self.used();
        let place = number as usize - 1;
        match entry {
            None => {
                used.remove(place);
            }
            Some(entry) => {
                let (kind, boots) = (three(&entry.kind), entry.marks.contains(&BOOT));
                let old = used.get(place).copied();
                let kept = old.filter(|old| old.kind == kind && old.is_bootable() == boots);
                let new = atari::Entry {
                    flags: kept.map_or_else(|| atari::Entry::flags_of(kind, boots), |old| old.flags),
                    kind,
                    // 32 bits are enough: the caller has chosen it inside of the room.
                    start: entry.extent.start as u32,
                    count: entry.extent.count as u32,
                };
                match used.get_mut(place) {
                    Some(there) => *there = new,
                    None => used.push(new),
                }
            }
        }
        let mut used = used.into_iter();
        self.table.entries = std::array::from_fn(|_| used.next().unwrap_or(UNUSED));
        Ok(())
    }
    fn steps(&self) -> Vec<(&'static str, Vec<Put>)> {
        let list = (
            u64::from(BAD_SECTORS) * 512,
            atari::no_bad_sectors().to_vec(),
            "empty list of bad sectors",
        );
        let mut steps = Vec::new();
        if self.new {
            steps.push(("the list of bad sectors, which nothing leads to", vec![list]));
        }
        let put = (0, self.table.to_bytes().to_vec(), WHAT);
        steps.push(("the table, which is one sector", vec![put]));
        steps
    }
    fn blanks(&self) -> Vec<(&'static str, Vec<Put>)> {
        let mut steps = vec![("the table, which is one sector", vec![(0, vec![0; 512], WHAT)])];
        if self.empty_list {
            let at = u64::from(BAD_SECTORS) * 512;
            let list = (at, vec![0; 512], "list of bad sectors");
            steps.push(("its list of bad sectors", vec![list]));
        }
        steps
    }
}
