//! The older tables as something to change: those that are one sector, or a list of them, and number their partitions from 1.
//!
//! A [`Scheme`] is a table in memory: it says what is in it, where partitions may be, and after a change which bytes go to the disk in which order.
//! What the verbs do with it is the same for all of them and stands here. A sector is written whole or not at all, so a table of one sector is
//! the old or the new one at any time.
mod amiga;
mod apple;
mod atari;
mod bsd;
mod sgi;
mod sun;

use super::{
    called, create, human, kind, misused,
    partition::{Changes, Resize, limit, missing, release, resized, wanted},
    purpose,
    room::{self, Manner, Wish},
};
use crate::{
    part,
    plan::{Code, Draft, Facts, Refusal},
};
use spec::Extent;

/// A partition as a table has it. Places are in blocks of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u32,
    /// Where it is.
    pub extent: Extent,
    /// What it is for, as sfdisk prints it.
    pub kind: String,
    /// Its name, or nothing.
    pub name: String,
    /// Its marks, of those that the table has.
    pub marks: Vec<&'static str>,
    /// What it is, if it is no partition: "the whole disk".
    pub fixed: Option<&'static str>,
}

/// Where partitions may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Blocks that they may have.
    pub room: Extent,
    /// Blocks at whose multiples they start, or the table cannot tell where they are.
    pub step: u64,
    /// Blocks in a cylinder, which old tools count in: where one is whole MiB, partitions go to cylinders by themselves. 1 if there are none.
    pub cylinder: u64,
}

/// What a table can tell of a partition besides its place and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tells {
    /// A name.
    pub name: bool,
    /// Marks, in sfdisk's words. [`BOOT`] may be among them.
    pub marks: &'static [&'static str],
}

/// The mark of the partition to boot from.
pub const BOOT: &str = "boot";

/// Bytes for the disk, in words.
pub type Put = (u64, Vec<u8>, &'static str);

/// A table.
pub trait Scheme: Send + Sync {
    /// sfdisk's word for it, or parted's.
    fn label(&self) -> &'static str;
    /// "a Sun label".
    fn what(&self) -> &'static str;
    /// All entries that are used, by number.
    fn entries(&self) -> Vec<Entry>;
    /// Numbers that a new partition may have, lowest first.
    fn free(&self) -> Vec<u32>;
    /// Where partitions may be.
    fn rules(&self) -> Rules;
    /// Numbers that get the next lower one when this one goes.
    fn behind(&self, number: u32) -> Vec<u32> {
        let _ = number;
        Vec::new()
    }
    /// Blocks of which partition `number`, or a new one, has a multiple.
    fn whole(&self, number: Option<u32>) -> u64 {
        let _ = number;
        1
    }
    /// What it can tell.
    fn tells(&self) -> Tells;
    /// A type as [`Entry::kind`] has it, from words, a letter or what the table has. Without words: for Linux.
    fn kind(&self, text: Option<&str>) -> Result<String, Refusal>;
    /// A name that it can keep.
    fn name(&self, text: &str) -> Result<(), Refusal> {
        let _ = text;
        Ok(())
    }
    /// Marks as sfdisk prints them.
    fn print(&self, marks: &[&'static str]) -> String {
        marks.join(" ")
    }
    /// Changes what it says of partition `number`, or takes it out.
    fn set(&mut self, number: u32, entry: Option<&Entry>) -> Result<(), Refusal>;
    /// Makes right what follows from the rest of it; false if there is nothing of which that can be said.
    fn mend(&mut self) -> bool {
        false
    }
    /// What goes to the disk, each step when the one before lasts.
    fn steps(&self) -> Vec<(&'static str, Vec<Put>)>;
    /// The same for taking the table off the disk.
    fn blanks(&self) -> Vec<(&'static str, Vec<Put>)>;
}

/// A table on its disk.
pub struct Older {
    /// The disk.
    pub disk: Facts,
    /// The table.
    pub table: Box<dyn Scheme>,
}

/// Schemes that can be made on a disk.
pub const SCHEMES: &[&str] = &["sun", "sgi", "mac", "bsd", "amiga", "atari"];

/// An empty table for a disk, by sfdisk's word.
pub fn fresh(scheme: &str, disk: &Facts) -> Result<Older, Refusal> {
    let table: Box<dyn Scheme> = match scheme {
        "sun" => Box::new(sun::fresh(disk)?),
        "sgi" => Box::new(sgi::fresh(disk)?),
        "mac" => Box::new(apple::fresh(disk)?),
        "bsd" => Box::new(bsd::fresh(disk)?),
        "amiga" => Box::new(amiga::fresh(disk)?),
        "atari" => Box::new(atari::fresh(disk)?),
        other => {
            let why = format!("scheme: {other:?} is no partition table that can be made here");
            return Err(Refusal::new(Code::BadOption, why).but(format!("`gpt`, `dos`, {}", SCHEMES.join(", "))));
        }
    };
    Ok(Older {
        disk: disk.clone(),
        table,
    })
}

/// The table that a disk has, if it is one of these. What discovery has claimed decides; without a claim the first that is sound.
pub async fn load(draft: &mut Draft<'_>, disk: &Facts) -> Result<Option<Older>, Refusal> {
    let is = |format: &str| disk.format.is_none_or(|claimed| claimed == format);
    let front = draft.read(&disk.name, 0, disk.bytes().min(512)).await?;
    let mut found: Option<Box<dyn Scheme>> = None;
    if is("sun")
        && let Ok(label) = spec::sun::Label::parse(&front)
    {
        found = Some(Box::new(sun::read(disk, label)?));
    } else if is("sgi")
        && let Ok(header) = spec::sgi::Header::parse(&front)
    {
        found = Some(Box::new(sgi::read(disk, header)?));
    } else if is("apple")
        && let Some(map) = apple::read(draft, disk, &front).await?
    {
        found = Some(Box::new(map));
    } else if is("bsd")
        && let Some(label) = bsd::read(draft, disk, &front).await?
    {
        found = Some(Box::new(label));
    } else if is("amiga")
        && let Some(chain) = amiga::read(draft, disk).await?
    {
        found = Some(Box::new(chain));
    } else if is("atari")
        && disk.block_size == 512
        && let Ok(table) = spec::atari::Table::parse(&front, disk.blocks)
    {
        found = Some(Box::new(atari::read(draft, disk, table).await?));
    }
    Ok(found.map(|table| Older {
        disk: disk.clone(),
        table,
    }))
}

/// A table to which nothing leads any more, but that is still there.
pub async fn lost(draft: &mut Draft<'_>, disk: &Facts) -> Result<Option<Older>, Refusal> {
    let found = apple::lost(draft, disk).await?;
    Ok(found.map(|map| Older {
        disk: disk.clone(),
        table: Box::new(map),
    }))
}

/// Tables whose sectors have 512 bytes whatever the disk has: Linux takes them so, and fdisk does not.
fn only_in_512(disk: &Facts, what: &str) -> Result<(), Refusal> {
    match disk.block_size {
        512 => Ok(()),
        size => {
            let why = format!(
                "has blocks of {size} bytes, and {what} is written in sectors of 512 only: Linux and fdisk disagree on what larger ones mean"
            );
            Err(disk
                .refuse(Code::Unsupported, &why)
                .but("a GPT is the same to everybody"))
        }
    }
}

impl Older {
    fn get(&self, number: u32) -> Result<Entry, Refusal> {
        let found = self.table.entries().into_iter().find(|entry| entry.number == number);
        found.ok_or_else(|| missing(&self.disk.name, number))
    }

    /// … one that is a partition.
    fn partition(&self, number: u32) -> Result<Entry, Refusal> {
        let entry = self.get(number)?;
        match entry.fixed {
            None => Ok(entry),
            Some(what) => {
                let why = format!("has {}, and {number} is {what}", self.table.what());
                Err(self.disk.refuse(Code::WrongKind, &why).but("it stays as it is"))
            }
        }
    }

    fn taken(&self) -> Vec<Extent> {
        let entries = self.table.entries().into_iter();
        entries
            .filter(|entry| entry.fixed.is_none())
            .map(|entry| entry.extent)
            .collect()
    }

    /// Where partitions start by themselves: at whole MiB, if the table can tell such places.
    fn grain(&self) -> u64 {
        let (grain, rules) = (self.disk.grain(), self.table.rules());
        match rules.cylinder.max(1) {
            cylinder if cylinder.is_multiple_of(grain) => cylinder,
            _ if grain.is_multiple_of(rules.step) => grain,
            _ => rules.step,
        }
    }

    /// Writes the table.
    pub async fn write(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        put(draft, &self.disk, self.table.steps()).await
    }

    /// Takes it off the disk.
    pub async fn blank(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        put(draft, &self.disk, self.table.blanks()).await
    }
}

async fn put(draft: &mut Draft<'_>, disk: &Facts, steps: Vec<(&'static str, Vec<Put>)>) -> Result<(), Refusal> {
    for (title, puts) in steps {
        for (offset, bytes, what) in puts {
            draft.put(&disk.name, offset, &bytes, what).await?;
        }
        draft.barrier(title);
    }
    Ok(())
}

/// `partition-create`.
pub async fn create(draft: &mut Draft<'_>, mut older: Older, options: create::Options) -> Result<(), Refusal> {
    let (disk, tells, what) = (older.disk.clone(), older.table.tells(), older.table.what());
    for (given, name) in [
        (options.name.is_some() && !tells.name, "name"),
        (options.guid.is_some(), "guid"),
        (options.attributes.is_some() && tells.marks.is_empty(), "attributes"),
        (options.bootable && !tells.marks.contains(&BOOT), "bootable"),
        (
            options.place.as_deref().is_some_and(|place| place != "primary"),
            "place",
        ),
    ] {
        if given {
            return Err(misused(name, what));
        }
    }
    let wish = create::wish(&options, &disk)?;
    let kind = older.table.kind(options.kind.as_deref())?;
    let name = options.name.clone().unwrap_or_default();
    older.table.name(&name)?;
    let free = older.table.free();
    let number = match options.number {
        None => free
            .first()
            .copied()
            .ok_or_else(|| disk.refuse(Code::NoSpace, &format!("has {what}, and all of its entries are in use")))?,
        Some(number) if free.contains(&number) => number,
        Some(number) if older.get(number).is_ok() => {
            return Err(Refusal::new(Code::BadName, format!("number: {number} is taken")));
        }
        Some(number) => {
            let why = format!("number: {what} has no partition {number}");
            return Err(Refusal::new(Code::BadOption, why));
        }
    };
    let rules = older.table.rules();
    on_step(wish, rules.step, what)?;
    let whole = older.table.whole(None);
    in_whole(wish.count.or(wish.end), whole, what)?;
    let manner = Manner {
        grain: older.grain(),
        align_end: true,
        record: false,
        first: None,
        block_size: disk.block_size,
    };
    let place = room::choose(&room::gaps(rules.room, older.taken()), wish, &manner)?;
    create::old_content(draft, &disk, place.extent, options.wipe).await?;
    let entry = Entry {
        number,
        extent: place.extent,
        kind,
        name,
        marks: marks(
            options.attributes.as_deref().unwrap_or_default(),
            options.bootable.then_some(true),
            tells,
            what,
        )?,
        fixed: None,
    };
    older.table.set(number, Some(&entry))?;
    older.write(draft).await?;
    create::told(draft, &disk, number, place.extent, &format!("type {}", entry.kind));
    Ok(())
}

fn on_step(wish: Wish, step: u64, what: &str) -> Result<(), Refusal> {
    match wish.start {
        Some(start) if !start.is_multiple_of(step) => {
            let why = format!("start: {what} knows partitions at multiples of {step} blocks only");
            Err(Refusal::new(Code::BadOption, why))
        }
        _ => Ok(()),
    }
}

/// Lengths and ends that the table can tell.
fn in_whole(blocks: Option<u64>, whole: u64, what: &str) -> Result<(), Refusal> {
    match blocks {
        Some(blocks) if !blocks.is_multiple_of(whole) => {
            let why = format!("{what} knows partitions of whole cylinders only, which have {whole} blocks");
            Err(Refusal::new(Code::BadOption, why).but(format!(
                "{} blocks, or {}",
                blocks / whole * whole,
                (blocks / whole + 1).saturating_mul(whole)
            )))
        }
        _ => Ok(()),
    }
}

/// `partition-delete`.
pub async fn delete(
    draft: &mut Draft<'_>,
    mut older: Older,
    number: u32,
    facts: Option<&Facts>,
) -> Result<(), Refusal> {
    let (disk, entry) = (older.disk.clone(), older.partition(number)?);
    release(draft, &disk.name, number)?;
    let behind = older.table.behind(number);
    for moved in &behind {
        release(draft, &disk.name, *moved)?;
    }
    if !behind.is_empty() {
        let names: Vec<String> = behind.iter().map(|number| part::name(&disk.name, *number)).collect();
        draft.warn(format!(
            "The partitions behind it get lower numbers: {} will have other names.",
            names.join(", ")
        ));
    }
    older.table.set(number, None)?;
    older.write(draft).await?;
    let length = entry.extent.count * u64::from(disk.block_size);
    draft.say(format!(
        "Takes away {} ({}, {}).",
        called(&disk.name, number),
        human(length),
        purpose(facts)
    ));
    Ok(())
}

/// `partition-resize`.
pub async fn resize(draft: &mut Draft<'_>, mut older: Older, number: u32, options: &Resize) -> Result<(), Refusal> {
    let (disk, entry) = (older.disk.clone(), older.partition(number)?);
    let old = entry.extent;
    let limit = limit(older.table.rules().room, &older.taken(), old);
    let grain = older.grain();
    let new = wanted(options, &disk, old, limit, limit / grain * grain)?;
    in_whole(Some(new.count), older.table.whole(Some(number)), older.table.what())?;
    resized(draft, &disk, number, old, new)?;
    older.table.set(number, Some(&Entry { extent: new, ..entry }))?;
    older.write(draft).await
}

/// `partition-change`.
pub async fn change(draft: &mut Draft<'_>, mut older: Older, number: u32, options: Changes) -> Result<(), Refusal> {
    let (disk, old, tells) = (older.disk.clone(), older.partition(number)?, older.table.tells());
    for (given, name) in [
        (options.name.is_some() && !tells.name, "name"),
        (options.guid.is_some(), "guid"),
        (options.attributes.is_some() && tells.marks.is_empty(), "attributes"),
        (options.bootable.is_some() && !tells.marks.contains(&BOOT), "bootable"),
    ] {
        if given {
            return Err(misused(name, older.table.what()));
        }
    }
    let mut new = old.clone();
    let mut told = Vec::new();
    if let Some(text) = &options.kind {
        new.kind = older.table.kind(Some(text))?;
        told.push(format!("type {}", new.kind));
    }
    if let Some(name) = options.name {
        older.table.name(&name)?;
        told.push(format!("name {name:?}"));
        new.name = name;
    }
    let had: Vec<String> = old.marks.iter().map(|mark| (*mark).to_owned()).collect();
    let list = options.attributes.as_ref().unwrap_or(&had);
    new.marks = marks(list, options.bootable, tells, older.table.what())?;
    if new.marks != old.marks {
        told.push(match new.marks.is_empty() {
            true => "no attributes".into(),
            false => format!("attributes {}", new.marks.join(" ")),
        });
    }
    if new == old {
        return Err(Refusal::new(Code::Nothing, "nothing would change"));
    }
    older.table.set(number, Some(&new))?;
    older.write(draft).await?;
    draft.say(format!("Gives {} {}.", called(&disk.name, number), told.join(", ")));
    Ok(())
}

/// Marks that are asked for, in the order of the table's list.
fn marks(list: &[String], bootable: Option<bool>, tells: Tells, what: &str) -> Result<Vec<&'static str>, Refusal> {
    let words: Vec<&str> = list.iter().flat_map(|text| text.split_whitespace()).collect();
    if let Some(word) = words.iter().find(|word| !tells.marks.contains(word)) {
        let why = format!("attributes: {word:?} is none that {what} has");
        return Err(Refusal::new(Code::BadOption, why).but(format!("it has {}", tells.marks.join(", "))));
    }
    let wanted = |mark: &str| match bootable {
        Some(bootable) if mark == BOOT => bootable,
        _ => words.contains(&mark),
    };
    Ok(tells.marks.iter().copied().filter(|mark| wanted(mark)).collect())
}

/// A type of two hexadecimal digits, or one of sfdisk's words that an MBR has, too.
fn byte(text: Option<&str>, what: &str, not: &[u8]) -> Result<String, Refusal> {
    kind::plain(text.unwrap_or("linux"), what, not).map(|kind| format!("{kind:x}"))
}

/// The number behind [`Entry::kind`].
fn number_of(kind: &str) -> u32 {
    u32::from_str_radix(kind, 16).unwrap_or_default()
}
