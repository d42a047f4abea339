//! Whole labels: made, mended, taken away.
use super::{
    Gpt, Label, disk,
    identify::{guid, signature},
    load, misused, not_a_member, older,
};
use crate::{
    Verdict,
    plan::{
        Code, Disks, Draft, Facts, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::{Extent, gpt, mbr};

/// Bytes at either end of a disk in which a new label leaves nothing old: all that `blkid` looks at but the second and third copies of file systems.
const ENDS: u64 = 1 << 20;

/// `label-create`.
pub struct LabelCreate;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    scheme: String,
    id: Option<String>,
    #[serde(default)]
    force: bool,
}

impl Verb for LabelCreate {
    fn name(&self) -> &'static str {
        "label-create"
    }
    fn about(&self) -> &'static str {
        "Make an empty partition table on a disk."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[
            Opt::required(
                "scheme",
                Type::Choice(&["gpt", "dos", "sun", "sgi", "mac", "bsd", "amiga", "atari"]),
                "which kind; `dos` is a master boot record",
            ),
            Opt::new(
                "id",
                Type::Text,
                "the disk's GUID, or for `dos` its signature in hexadecimal; fresh by default",
            ),
            Opt::new(
                "force",
                Type::Flag,
                "replace what is on the disk: tables, partitions and signatures at both ends; what is in use stays in the way",
            ),
        ];
        ALL
    }
    fn example(&self, _: &dyn Disks, _: &str) -> Map<String, Value> {
        Map::from_iter([("scheme".to_owned(), Value::from("gpt"))])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(create(draft, request))
    }
}

async fn create(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Create = request.options()?;
    let facts = disk(draft, &request.object)?;
    not_a_member(&facts)?;
    if facts.verdict != Verdict::New && !options.force {
        let why = match facts.verdict {
            Verdict::Claimed => format!("has a {}", facts.reason),
            _ => facts.reason.clone(),
        };
        return Err(facts.refuse(Code::NotBlank, &why).but("`force` replaces it"));
    }
    for part in facts.carried() {
        draft.release(part)?;
    }
    let carried: Vec<&str> = facts.carried().map(String::as_str).collect();
    if !carried.is_empty() {
        draft.warn(format!("What is on {} cannot be reached any more.", carried.join(", ")));
    }
    if facts.verdict != Verdict::New {
        draft.warn(format!(
            "{} {}; that goes.",
            facts.name,
            match facts.verdict {
                Verdict::Claimed => format!("has a {}", facts.reason),
                _ => facts.reason.clone(),
            }
        ));
    }
    if facts.partition.is_some() {
        draft.warn(format!(
            "{} is a partition itself: few systems look into one.",
            facts.name
        ));
    }
    if facts.format == Some("amiga")
        && let Some(older) = older::load(draft, &facts).await?
    {
        // Its first block is not the disk's: it would count while the rest is wiped.
        older.blank(draft).await?;
    }
    match options.scheme.as_str() {
        "gpt" => create_gpt(draft, &facts, options.id.as_deref()).await,
        "dos" => create_dos(draft, &facts, options.id.as_deref()).await,
        other => create_older(draft, &facts, other, options.id.is_some()).await,
    }
}

async fn create_older(draft: &mut Draft<'_>, facts: &Facts, scheme: &str, id: bool) -> Result<(), Refusal> {
    let older = older::fresh(scheme, facts)?;
    if id {
        return Err(misused("id", older.table.what()));
    }
    if facts.verdict != Verdict::New {
        put_front(draft, facts, &[0; mbr::LEN], "what was in block 0").await?;
        draft.barrier("the old table, which nobody follows from here on");
        // A GPT counts as long as one of its copies is there: the backup first.
        for at in backups(draft, facts).await? {
            blank(draft, facts, at, "header of the backup GPT").await?;
        }
        draft.barrier("the backup of the GPT that was there");
        blank_gpt(draft, facts, gpt::PRIMARY, "header of the primary GPT").await?;
        draft.barrier("the GPT that was there");
        wipe(draft, facts, 0, 0).await?;
        draft.barrier("what was at the ends of the disk");
    }
    older.write(draft).await?;
    draft.say(format!("Makes {} on {}.", older.table.what(), facts.name));
    Ok(())
}

async fn create_gpt(draft: &mut Draft<'_>, facts: &Facts, id: Option<&str>) -> Result<(), Refusal> {
    let guid = guid(draft, id)?;
    let label = gpt::Label::fresh(facts.blocks, facts.block_size, guid)
        .ok_or_else(|| facts.refuse(Code::NoSpace, "is too small for a GPT"))?;
    if facts.verdict != Verdict::New {
        put_front(draft, facts, &[0; mbr::LEN], "what was in block 0").await?;
        draft.barrier("the old table, which nobody follows from here on");
    }
    let gpt = Gpt {
        disk: facts.clone(),
        found: label.table().clone(),
        label,
        record: None,
        damage: Vec::new(),
        stray: None,
        anew: [true; 2],
    };
    gpt.write(draft).await?;
    let span = gpt.label.table().header.array().count;
    if facts.verdict != Verdict::New {
        wipe(draft, facts, 2 + span, 1 + span).await?;
        draft.barrier("what was at the ends of the disk");
    }
    let record = mbr::Record::new(0).protective(facts.blocks);
    put_front(draft, facts, &record.to_bytes(), "protective MBR").await?;
    draft.barrier("the MBR that makes it a GPT for everybody");
    draft.say(format!("Makes a GPT on {}, GUID {guid}.", facts.name));
    Ok(())
}

async fn create_dos(draft: &mut Draft<'_>, facts: &Facts, id: Option<&str>) -> Result<(), Refusal> {
    let id = signature(draft, id)?;
    if facts.blocks < 4 {
        return Err(facts.refuse(Code::NoSpace, "is too small for a partition table"));
    }
    if facts.blocks > 1 << 32 {
        draft.warn(format!(
            "A master boot record can tell {} of the {} blocks of {}; a GPT can tell all.",
            1u64 << 32,
            facts.blocks,
            facts.name
        ));
    }
    put_front(draft, facts, &mbr::Record::new(id).to_bytes(), "master boot record").await?;
    draft.barrier("the record that decides");
    // A GPT counts for us as long as one of its copies is there: the backup first, or a half-written primary would leave it to count.
    for at in backups(draft, facts).await? {
        blank(draft, facts, at, "header of the backup GPT").await?;
    }
    draft.barrier("the backup of the GPT that was there");
    blank_gpt(draft, facts, gpt::PRIMARY, "header of the primary GPT").await?;
    draft.barrier("the GPT that was there");
    if facts.verdict != Verdict::New {
        wipe(draft, facts, 1, 0).await?;
        draft.barrier("what was at the ends of the disk");
    }
    draft.say(format!(
        "Makes a master boot record on {}, signature {id:#010x}.",
        facts.name
    ));
    Ok(())
}

async fn put_front(draft: &mut Draft<'_>, facts: &Facts, bytes: &[u8], what: &str) -> Result<(), Refusal> {
    draft.put(&facts.name, 0, bytes, what).await
}

async fn blank(draft: &mut Draft<'_>, facts: &Facts, at: u64, what: &str) -> Result<(), Refusal> {
    let zero = vec![0; facts.block_size as usize];
    draft
        .put(&facts.name, at * u64::from(facts.block_size), &zero, what)
        .await
}

/// Blanks a block if it starts as a header does.
async fn blank_gpt(draft: &mut Draft<'_>, facts: &Facts, at: u64, what: &str) -> Result<(), Refusal> {
    match is_header(draft, facts, at).await? {
        true => blank(draft, facts, at, what).await,
        false => Ok(()),
    }
}

async fn is_header(draft: &mut Draft<'_>, facts: &Facts, at: u64) -> Result<bool, Refusal> {
    let start = at * u64::from(facts.block_size);
    Ok(draft.read(&facts.name, start, 8).await? == gpt::SIGNATURE)
}

/// Where backups of a GPT are: at the end, and where the primary says.
async fn backups(draft: &mut Draft<'_>, facts: &Facts) -> Result<Vec<u64>, Refusal> {
    let size = u64::from(facts.block_size);
    let block = draft.read(&facts.name, size, size).await?;
    let mut places = vec![facts.blocks - 1];
    if let Ok(header) = gpt::Header::parse(&block, gpt::PRIMARY, facts.blocks) {
        places.push(header.alternate());
    }
    places.dedup();
    let mut found = Vec::new();
    for at in places.into_iter().filter(|at| (2..facts.blocks).contains(at)) {
        if is_header(draft, facts, at).await? {
            found.push(at);
        }
    }
    Ok(found)
}

/// Where the entries of the copies are: where the table has them, and where a backup says that is not at the end. Never where a partition is.
async fn arrays(draft: &mut Draft<'_>, gpt: &Gpt) -> Result<Vec<Extent>, Refusal> {
    let span = gpt.label.table().header.array().count;
    let mut places = vec![Extent::new(gpt.label.primary().array_at, span)];
    match gpt.stray {
        None => places.push(Extent::new(gpt.label.backup().array_at, span)),
        Some(at) => {
            let (size, blocks) = (u64::from(gpt.disk.block_size), gpt.disk.blocks);
            let block = draft.read(gpt.name(), at * size, size).await?;
            places.extend(gpt::Header::parse(&block, at, blocks).map(|header| header.array()));
        }
    }
    let taken = gpt.taken();
    places.retain(|place| place.fits(gpt.disk.blocks) && taken.iter().all(|(_, extent)| !extent.overlaps(*place)));
    Ok(places)
}

/// Leaves nothing at the ends of a disk but `head` blocks at the start and `tail` at the end.
async fn wipe(draft: &mut Draft<'_>, facts: &Facts, head: u64, tail: u64) -> Result<(), Refusal> {
    let size = u64::from(facts.block_size);
    let (bytes, from, until) = (facts.bytes(), head * size, (facts.blocks - tail) * size);
    let ends = [(from, ENDS.min(until)), (bytes.saturating_sub(ENDS).max(from), until)];
    for (from, until) in ends {
        if from < until {
            let zero = vec![0; (until - from) as usize];
            draft.put(&facts.name, from, &zero, "what was there before").await?;
        }
    }
    Ok(())
}

/// `label-repair`.
pub struct LabelRepair;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Repair {
    #[serde(default)]
    protective: bool,
}

impl Verb for LabelRepair {
    fn name(&self) -> &'static str {
        "label-repair"
    }
    fn about(&self) -> &'static str {
        "Make both copies of a GPT sound, the backup at the end of the disk, and the MBR protect it; or what leads to an Apple map, its counts and its free space."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[Opt::new(
            "protective",
            Type::Flag,
            "make a hybrid MBR a plain protective one; old firmware then sees no partitions",
        )];
        ALL
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(repair(draft, request))
    }
}

async fn repair(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Repair = request.options()?;
    let facts = disk(draft, &request.object)?;
    if let Some(mut older) = older::lost(draft, &facts).await? {
        older.table.mend();
        older.write(draft).await?;
        draft.say(format!("Leads to {} of {} again.", older.table.what(), facts.name));
        return Ok(());
    }
    let mut gpt = match load(draft, &request.object).await? {
        Label::Gpt(gpt) => gpt,
        Label::Dos(dos) => {
            return Err(dos
                .disk
                .refuse(Code::Unsupported, "has an MBR, of which there is one copy only"));
        }
        Label::Older(mut older) => {
            if !older.table.mend() {
                let why = format!("has {}, of which there is one copy only", older.table.what());
                return Err(older.disk.refuse(Code::Unsupported, &why));
            }
            older.write(draft).await?;
            draft.say(format!("Makes counts and free space of {} right.", facts.name));
            return Ok(());
        }
    };
    gpt.mend(draft).await?;
    if let Some(record) = gpt
        .record
        .as_ref()
        .filter(|record| options.protective && record.is_hybrid())
    {
        let record = record.protective(gpt.disk.blocks);
        put_front(draft, &gpt.disk, &record.to_bytes(), "protective MBR").await?;
        draft.barrier("the MBR");
        draft.say(format!("Makes the hybrid MBR of {} a protective one.", gpt.disk.name));
    }
    Ok(())
}

/// `label-remove`.
pub struct LabelRemove;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {}

impl Verb for LabelRemove {
    fn name(&self) -> &'static str {
        "label-remove"
    }
    fn about(&self) -> &'static str {
        "Take the partition table off a disk. What is in the partitions stays where it is."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        &[]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(remove(draft, request))
    }
}

async fn remove(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let _: Remove = request.options()?;
    let label = load(draft, &request.object).await?;
    let facts = match &label {
        Label::Gpt(gpt) => &gpt.disk,
        Label::Dos(dos) => &dos.disk,
        Label::Older(older) => &older.disk,
    };
    for part in facts.carried() {
        if let Some(facts) = draft.disks.facts(part) {
            not_a_member(&facts)?;
        }
        draft.release(part)?;
    }
    let carried: Vec<&str> = facts.carried().map(String::as_str).collect();
    if !carried.is_empty() {
        draft.warn(format!(
            "What is on {} cannot be reached until the same partitions are made again.",
            carried.join(", ")
        ));
    }
    if let Label::Older(older) = &label {
        older.blank(draft).await?;
        draft.say(format!("Takes the partition table off {}.", facts.name));
        return Ok(());
    }
    put_front(draft, facts, &[0; mbr::LEN], "what was in block 0").await?;
    draft.barrier("block 0: from here on other tools see no table");
    if let Label::Gpt(gpt) = &label {
        // Then the backup, for without a primary it would count.
        let arrays = arrays(draft, gpt).await?;
        let mut backups = backups(draft, facts).await?;
        backups.extend(gpt.stray);
        backups.sort_unstable();
        backups.dedup();
        for at in backups {
            blank(draft, facts, at, "header of the backup GPT").await?;
        }
        draft.barrier("the backup, while the primary counts");
        blank_gpt(draft, facts, gpt::PRIMARY, "header of the primary GPT").await?;
        draft.barrier("the primary");
        // Without them nobody would take the disk for blank, and the next label for one over something.
        let size = u64::from(facts.block_size);
        for array in arrays {
            let zero = vec![0; (array.count * size) as usize];
            draft
                .put(&facts.name, array.start * size, &zero, "entries of the GPT")
                .await?;
        }
        draft.barrier("the entries, which no header leads to any more");
    }
    draft.say(format!("Takes the partition table off {}.", facts.name));
    Ok(())
}
