//! Partition tables as something to change: read whole, checked, written in the order that leaves the old table or the new one after a power cut.
//!
//! | table | order |
//! |---|---|
//! | GPT | backup (entries and header), barrier, primary: until the backup lasts the primary counts, and a primary that is half written fails its checksum |
//! | MBR | one sector at a time, see [`spec::mbr::label`] |
//! | the older ones | see `older`: of most there is one sector |
//! | a new label over an old one | block 0 first, so that nobody follows the old one while its places are written; the record of the new one last |
//!
//! A GPT that is damaged, or whose backup is not at the end of the disk, is mended before it is changed, as sfdisk does.
mod create;
mod identify;
mod kind;
pub mod label;
mod older;
pub mod partition;
mod room;
pub mod show;
mod size;

pub use create::PartitionCreate;
pub use identify::DiskIdentify;
pub use kind::attribute_words;

use crate::{
    Verdict,
    plan::{Code, Disks, Draft, Facts, Refusal},
};
use spec::{
    Extent,
    gpt::{self, Header, PRIMARY, Table},
    mbr::{self, label::Role},
};
use std::sync::Arc;

/// Formats whose tables can be changed.
pub const FORMATS: [&str; 8] = ["gpt", "mbr", "sun", "sgi", "apple", "bsd", "amiga", "atari"];

/// Bytes at which partitions start by themselves, as with every tool of today.
const GRAIN: u64 = 1 << 20;

/// A partition table as it is on a disk.
enum Label {
    Gpt(Box<Gpt>),
    Dos(Box<Dos>),
    Older(Box<older::Older>),
}

/// A GUID partition table.
struct Gpt {
    disk: Facts,
    label: gpt::Label,
    /// The copy that counts, as it is on the disk.
    found: Table,
    /// Block 0, if it is a record.
    record: Option<mbr::Record>,
    /// What is wrong with it, in words; mended before anything is changed.
    damage: Vec<String>,
    /// A backup that is not where the label has it now.
    stray: Option<u64>,
    /// Whether the primary and the backup are where nothing sound was: then the whole block of the header is written.
    anew: [bool; 2],
}

/// A master boot record and its chain.
struct Dos {
    disk: Facts,
    label: mbr::Label,
}

impl Facts {
    fn refuse(&self, code: Code, why: &str) -> Refusal {
        Refusal::new(code, format!("{:?} {why}", self.name))
    }

    /// Blocks between places where partitions start.
    fn grain(&self) -> u64 {
        (GRAIN / u64::from(self.block_size.max(1))).max(1)
    }
}

/// The disk an object names, if its table may be changed: nobody uses it as a whole, and it can be read and written.
pub fn disk(draft: &mut Draft<'_>, name: &str) -> Result<Arc<Facts>, Refusal> {
    let facts = draft.facts(name)?;
    if let Some(user) = &facts.user {
        let why = format!("is used as a whole by {user}");
        return Err(facts.refuse(Code::InUse, &why).but("stop serving it first"));
    }
    match facts.verdict {
        Verdict::Unexamined => Err(facts.refuse(Code::InUse, &facts.reason)),
        Verdict::Unreadable | Verdict::Missing | Verdict::Inactive => {
            Err(facts.refuse(Code::Unreadable, &facts.reason))
        }
        _ if facts.read_only => Err(facts.refuse(Code::ReadOnly, "cannot be written to")),
        _ => Ok(facts),
    }
}

/// The partition an object names: its disk, its number, and what is known of it if it is served.
fn target(draft: &Draft<'_>, object: &str) -> Result<(String, u32, Option<Facts>), Refusal> {
    if let Some(facts) = draft.disks.facts(object) {
        return match &facts.partition {
            Some(partition) => Ok((partition.disk().to_owned(), partition.number(), Some(facts))),
            None => Err(facts
                .refuse(Code::WrongKind, "is no partition")
                .but("partitions are named after their disk: disk0p1")),
        };
    }
    let found = unserved(draft.disks, object).map(|(disk, number)| (disk, number, None));
    found.ok_or_else(|| {
        Refusal::new(Code::NotFound, format!("there is no partition {object:?}"))
            .but("`ashlar partition ls` lists them")
    })
}

/// The disk and the number of a partition that has no disk of its own: an extended one, or one that overlaps another. Whether it is in the table
/// only reading tells.
pub(crate) fn unserved(disks: &dyn Disks, object: &str) -> Option<(String, u32)> {
    let (name, number) = object.rsplit_once('p')?;
    let number: u32 = number.parse().ok()?;
    let on = disks.facts(name)?;
    Some((on.name, number))
}

/// Reads the table of a disk.
async fn load(draft: &mut Draft<'_>, name: &str) -> Result<Label, Refusal> {
    let facts = disk(draft, name)?;
    match (facts.verdict, facts.format) {
        (Verdict::Claimed, Some(format)) if FORMATS.contains(&format) => {}
        (Verdict::Claimed, _) => {
            let why = format!("has a {}, which is not a table that can be changed here", facts.reason);
            return Err(facts.refuse(Code::Unsupported, &why));
        }
        (Verdict::Ambiguous, _) => {
            return Err(facts
                .refuse(Code::Ambiguous, &facts.reason)
                .but("wipe what is stale first"));
        }
        (Verdict::New, _) => {
            return Err(facts
                .refuse(Code::NotFound, "has no partition table")
                .but("`ashlar label create` makes one"));
        }
        _ if !facts.signatures.is_empty() => return Err(facts.refuse(Code::NotBlank, &facts.reason)),
        // A table without partitions claims nothing.
        _ => {}
    }
    parse(draft, &facts).await
}

/// Reads the table that is on a disk.
async fn parse(draft: &mut Draft<'_>, facts: &Facts) -> Result<Label, Refusal> {
    if facts.blocks < 4 {
        return Err(facts.refuse(Code::NoSpace, "is too small for a partition table"));
    }
    let front = draft.read(&facts.name, 0, mbr::LEN as u64).await?;
    let record = mbr::Record::parse(&front).ok();
    let older = !matches!(facts.format, Some("gpt" | "mbr"));
    if older && let Some(older) = older::load(draft, facts).await? {
        return Ok(Label::Older(Box::new(older)));
    }
    let ordinary = record
        .as_ref()
        .is_some_and(|record| !record.is_protective() && record.entries().next().is_some());
    if facts.format != Some("mbr")
        && !ordinary
        && let Some(gpt) = load_gpt(draft, facts, record.clone()).await?
    {
        return Ok(Label::Gpt(Box::new(gpt)));
    }
    let record = match record {
        Some(record) if !record.is_protective() => record,
        Some(_) => return Err(facts.refuse(Code::Damaged, &facts.reason)),
        None => {
            return Err(facts
                .refuse(Code::NotFound, "has no partition table")
                .but("`ashlar label create` makes one, with `force` over what is there"));
        }
    };
    let mut reader = mbr::Reader::new(record, facts.blocks);
    while let Some(at) = reader.next() {
        let block = draft
            .read(&facts.name, at * u64::from(facts.block_size), facts.block_size.into())
            .await?;
        reader.give(&block);
    }
    let label = reader.label().map_err(|why| misfit(facts, why))?;
    Ok(Label::Dos(Box::new(Dos {
        disk: facts.clone(),
        label,
    })))
}

fn misfit(facts: &Facts, why: mbr::label::Misfit) -> Refusal {
    use mbr::label::Misfit::*;
    let code = match why {
        Broken(_) => Code::Damaged,
        Unusual(_) => Code::Unsupported,
        TooFar(_) => {
            return facts
                .refuse(Code::NoSpace, &format!("has an MBR, and {why}"))
                .but("a GPT can tell all of it");
        }
        Missing(_) => Code::NotFound,
        TooMany => Code::NoSpace,
    };
    facts.refuse(code, &format!("has an MBR, and {why}"))
}

/// Both copies of a GPT, or nothing if there is not a trace of one.
async fn load_gpt(draft: &mut Draft<'_>, facts: &Facts, record: Option<mbr::Record>) -> Result<Option<Gpt>, Refusal> {
    let last = facts.blocks - 1;
    let primary = copy(draft, facts, PRIMARY).await?;
    // Where discovery looks for it, too.
    let backup_at = primary.as_ref().map_or(last, |table| table.header.alternate());
    let backup = match backup_at < facts.blocks {
        true => copy(draft, facts, backup_at).await?,
        false => Err("it would be behind the end of the disk".into()),
    };
    let mut damage = Vec::new();
    if let (Err(first), Err(second)) = (&primary, &backup) {
        let none = gpt::Error::Signature.to_string();
        if *first == none && *second == none {
            return Ok(None);
        }
        let why = format!("has a GPT of which no copy is usable (primary: {first}; backup: {second})");
        return Err(facts
            .refuse(Code::Damaged, &why)
            .but("`ashlar label create` with `force` makes a new one"));
    }
    if let Err(why) = &primary {
        damage.push(format!("the primary is unusable ({why})"));
    }
    match (&primary, &backup) {
        (_, Err(why)) => damage.push(format!("the backup is unusable ({why})")),
        (Ok(first), Ok(second)) if !first.header.agrees_with(&second.header) => {
            damage.push("the copies differ".into());
        }
        _ => {}
    }
    let unfit = |why: gpt::label::Misfit| facts.refuse(Code::Damaged, &format!("has a GPT, and {why}"));
    let mut label = gpt::Label::new(primary.as_ref().ok(), backup.as_ref().ok(), facts.blocks).map_err(unfit)?;
    let found = label.table().clone();
    let mut stray = None;
    if label.backup_at() != last {
        stray = backup.is_ok().then(|| label.backup_at());
        damage.push(format!(
            "the backup is not at the end: the disk has {} blocks more",
            last - label.backup_at()
        ));
        label.move_backup(facts.blocks).map_err(unfit)?;
    }
    match &record {
        None => damage.push("the protective MBR is missing".into()),
        Some(record) if !record.is_protective() => damage.push("the MBR does not protect it".into()),
        Some(record) if !record.covers(facts.blocks) => {
            damage.push("the protective MBR does not cover the disk".into());
        }
        Some(_) => {}
    }
    Ok(Some(Gpt {
        disk: facts.clone(),
        label,
        found,
        record,
        damage,
        anew: [primary.is_err(), backup.is_err() || stray.is_some()],
        stray,
    }))
}

/// One copy, or in words why it cannot be used.
async fn copy(draft: &mut Draft<'_>, facts: &Facts, at: u64) -> Result<Result<Table, String>, Refusal> {
    let size = u64::from(facts.block_size);
    let block = draft.read(&facts.name, at * size, size).await?;
    let header = match Header::parse(&block, at, facts.blocks) {
        Ok(header) => header,
        Err(why) => return Ok(Err(why.to_string())),
    };
    let array = header.array();
    let bytes = draft.read(&facts.name, array.start * size, array.count * size).await?;
    Ok(Table::parse(header, &bytes).map_err(|why| why.to_string()))
}

impl Gpt {
    fn name(&self) -> &str {
        &self.disk.name
    }

    async fn put(
        &self,
        draft: &mut Draft<'_>,
        mut copy: gpt::label::Copy,
        anew: bool,
        what: &str,
    ) -> Result<(), Refusal> {
        if anew {
            copy.header.resize(self.disk.block_size as usize, 0);
        }
        let (name, size) = (self.name(), u64::from(self.disk.block_size));
        let entries = format!("entries of the {what} GPT");
        draft.put(name, copy.array_at * size, &copy.array, &entries).await?;
        let header = format!("header of the {what} GPT");
        draft.put(name, copy.header_at * size, &copy.header, &header).await
    }

    /// Writes the label: the backup, and when that lasts the primary.
    async fn write(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        self.put(draft, self.label.backup(), self.anew[1], "backup").await?;
        draft.barrier("the backup, while the primary counts");
        self.put(draft, self.label.primary(), self.anew[0], "primary").await?;
        draft.barrier("the primary, while the backup counts");
        Ok(())
    }

    /// Makes both copies sound and puts them where they belong, with the partitions as they are.
    async fn mend(&mut self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if self.damage.is_empty() {
            return Ok(());
        }
        self.write(draft).await?;
        let record = match &self.record {
            Some(record) if record.is_protective() && record.covers(self.disk.blocks) => None,
            Some(record) => Some(record.protective(self.disk.blocks)),
            None => Some(mbr::Record::new(0).protective(self.disk.blocks)),
        };
        if let Some(record) = record {
            let name = self.name().to_owned();
            draft.put(&name, 0, &record.to_bytes(), "protective MBR").await?;
            draft.barrier("the MBR that protects it");
            self.record = Some(record);
        }
        if let Some(at) = self.stray.take() {
            self.forget(draft, at).await?;
        }
        let damage = std::mem::take(&mut self.damage);
        draft.say(format!("Mends the GPT of {}: {}.", self.name(), damage.join("; ")));
        Ok(())
    }

    /// Wipes a header that is not where the backup is any more.
    async fn forget(&self, draft: &mut Draft<'_>, at: u64) -> Result<(), Refusal> {
        let (here, backup) = (Extent::new(at, 1), self.label.backup());
        let span = self.label.table().header.array().count;
        let used = here.overlaps(Extent::new(backup.array_at, span + 1))
            || self
                .label
                .table()
                .entries()
                .any(|(_, entry)| entry.extent().is_some_and(|e| e.overlaps(here)));
        if used {
            return Ok(());
        }
        let size = u64::from(self.disk.block_size);
        let zero = vec![0; self.disk.block_size as usize];
        draft
            .put(self.name(), at * size, &zero, "header of the backup that was here")
            .await?;
        draft.barrier("the old backup, which nobody looks for any more");
        Ok(())
    }

    /// Refuses to leave a hybrid record behind that tells old firmware something else.
    fn not_in_hybrid(&self, number: u32) -> Result<(), Refusal> {
        let (Some(record), Some(entry)) = (&self.record, self.label.get(number)) else {
            return Ok(());
        };
        let Some(extent) = entry.extent().filter(|_| record.is_hybrid()) else {
            return Ok(());
        };
        let twin = record
            .entries()
            .find(|(_, e)| e.kind != mbr::PROTECTIVE && e.extent().overlaps(extent));
        match twin {
            None => Ok(()),
            Some((slot, _)) => {
                let why = format!(
                    "has a hybrid MBR whose entry {slot} is partition {number}, and the two cannot change at once"
                );
                Err(self
                    .disk
                    .refuse(Code::Unsupported, &why)
                    .but("`ashlar label repair --protective` makes it a plain protective one first"))
            }
        }
    }

    /// Blocks that partitions have, with their numbers.
    fn taken(&self) -> Vec<(u32, Extent)> {
        let entries = self.label.table().entries();
        entries
            .filter_map(|(number, entry)| Some((number, entry.extent()?)))
            .collect()
    }
}

impl Dos {
    /// Writes the records of a change, each step when the one before lasts.
    async fn write(&self, draft: &mut Draft<'_>, steps: mbr::label::Steps) -> Result<(), Refusal> {
        let size = u64::from(self.disk.block_size);
        for step in steps {
            for (at, record) in step.records {
                let what = match at {
                    0 => "master boot record",
                    _ => "extended boot record",
                };
                if step.role == Role::Prepare {
                    let zero = vec![0; self.disk.block_size as usize];
                    draft.put(&self.disk.name, at * size, &zero, what).await?;
                }
                draft.put(&self.disk.name, at * size, &record.to_bytes(), what).await?;
            }
            draft.barrier(match step.role {
                Role::Prepare => "a record that nothing leads to yet",
                Role::Commit => "the record that decides",
                Role::Clean => "records that nothing leads to any more",
            });
        }
        Ok(())
    }
}

/// A member of a group loses its place: that is for the group to agree to.
fn not_a_member(facts: &Facts) -> Result<(), Refusal> {
    match facts.format {
        Some(format @ "lvm2") => {
            let why = format!("is {} ({format})", facts.reason);
            Err(facts
                .refuse(Code::InUse, &why)
                .but("take it out of its group first (`vg-reduce`, `pv-remove`)"))
        }
        _ => Ok(()),
    }
}

/// An option for what a table cannot tell. Nothing of it is kept elsewhere: what is said of a partition is on its disk, or nowhere.
fn misused(option: &str, what: &str) -> Refusal {
    Refusal::new(Code::BadOption, format!("{option}: {what} has none")).but("a GPT has")
}

/// "partition 3 of disk0".
fn called(disk: &str, number: u32) -> String {
    format!("partition {number} of {disk}")
}

/// Bytes for people, exactly.
fn human(bytes: u64) -> String {
    const UNITS: [(u32, &str); 5] = [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = UNITS
        .into_iter()
        .find(|(shift, _)| bytes >> shift > 0 && bytes.is_multiple_of(1 << shift));
    match whole {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

/// What a partition is for and what is on it, for words.
fn purpose(facts: Option<&Facts>) -> String {
    match facts.and_then(|facts| Some((facts, facts.partition.as_ref()?))) {
        Some((facts, partition)) => format!("{}, {}", partition.purpose(), facts.reason),
        None => "not served".into(),
    }
}
