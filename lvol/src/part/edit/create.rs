//! `partition-create`.
use super::{
    Dos, GRAIN, Gpt, Label, called, human, kind, load, misfit, misused, older,
    room::{self, Manner, Place, Wish},
    size,
};
use crate::{
    Partition,
    plan::{
        Code, Disks, Draft, Facts, Guess, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::Value;
use spec::{Extent, gpt, magic};
use uuid::Uuid;

/// `partition-create`.
pub struct PartitionCreate;

/// What it takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub(super) number: Option<u32>,
    start: Option<Value>,
    size: Option<Value>,
    end: Option<Value>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) place: Option<String>,
    pub(super) name: Option<String>,
    pub(super) guid: Option<Uuid>,
    pub(super) attributes: Option<Vec<String>>,
    #[serde(default)]
    pub(super) bootable: bool,
    #[serde(default)]
    pub(super) wipe: bool,
}

impl Verb for PartitionCreate {
    fn name(&self) -> &'static str {
        "partition-create"
    }
    fn about(&self) -> &'static str {
        "Make a partition on a disk that has a partition table."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[
            Opt::new("size", Type::Size, "its length; all of the largest gap by default"),
            Opt::new(
                "start",
                Type::Size,
                "where it starts; by default at a whole MiB of the first gap with room",
            ),
            Opt::new("end", Type::Size, "where it ends, instead of a size"),
            Opt::new("number", Type::Number, "its number; the lowest free one by default"),
            Opt::new(
                "type",
                Type::Text,
                "linux (by default), swap, uefi, raid, lvm, home; a GUID on a GPT, two hexadecimal digits on the others",
            ),
            Opt::new(
                "place",
                Type::Choice(&["primary", "extended", "logical"]),
                "on an MBR: in the record, as the container of logical partitions, or inside of that; primary while there is room by default",
            ),
            Opt::new("name", Type::Text, "on a GPT: its name, up to 36 characters"),
            Opt::new("guid", Type::Text, "on a GPT: its GUID; fresh by default"),
            Opt::new(
                "attributes",
                Type::List,
                "on a GPT: RequiredPartition, NoBlockIOProtocol, LegacyBIOSBootable, or bits from 48 to 63",
            ),
            Opt::new(
                "bootable",
                Type::Flag,
                "mark it as the one that old firmware boots from",
            ),
            Opt::new(
                "wipe",
                Type::Flag,
                "wipe signatures of file systems and the like that lie where it starts and ends",
            ),
        ];
        ALL
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let Some(facts) = disks.facts(object) else {
            return Vec::new();
        };
        let block = u64::from(facts.block_size);
        let format = facts.format.unwrap_or_default();
        // An Amiga's are whole cylinders.
        let unit = if format == "amiga" { GRAIN.max(block) } else { block };
        let mut guesses = vec![
            Guess::range("size", unit, facts.bytes(), unit).not_with(&["end"]),
            Guess::words("type", kind::words_of_all()).or("linux"),
        ];
        let parts: Vec<Partition> = facts
            .parts
            .iter()
            .filter_map(|part| disks.facts(part)?.partition)
            .collect();
        let numbers = |last: u32| (1..=u64::from(last)).map(|number| (number, number)).collect::<Vec<_>>();
        guesses.push(Guess::runs(
            "number",
            match format {
                "gpt" => {
                    let taken = parts.iter().map(|part| Extent::new(part.number().into(), 1));
                    let free = room::gaps(Extent::new(1, 128), taken);
                    free.iter().map(|gap| (gap.start, gap.start + gap.count - 1)).collect()
                }
                "mbr" => numbers(4),
                _ => numbers(63),
            },
            1,
        ));
        // Where any block may be the first. The room of an extended partition on an MBR is not told here, and some labels know cylinders only.
        if ["gpt", "sgi", "apple", "bsd", "atari"].contains(&format) {
            let gaps = room::gaps(Extent::new(0, facts.blocks), parts.iter().map(Partition::extent));
            let at = |blocks: u64| blocks.saturating_mul(block);
            let starts = gaps.iter().map(|gap| (at(gap.start), at(gap.start + gap.count - 1)));
            let ends = gaps.iter().map(|gap| (at(gap.start + 1), at(gap.start + gap.count)));
            guesses.push(
                Guess::runs("start", starts, GRAIN)
                    .not_with(&["end"])
                    .with("size", block),
            );
            guesses.push(Guess::runs("end", ends, GRAIN).not_with(&["size"]));
        }
        guesses
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(create(draft, request))
    }
}

async fn create(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Options = request.options()?;
    match load(draft, &request.object).await? {
        Label::Gpt(gpt) => on_gpt(draft, *gpt, options).await,
        Label::Dos(dos) => on_dos(draft, *dos, options).await,
        Label::Older(older) => older::create(draft, *older, options).await,
    }
}

pub(super) fn wish(options: &Options, disk: &Facts) -> Result<Wish, Refusal> {
    let blocks = |name: &str, value: &Option<Value>| match value {
        None => Ok(None),
        Some(value) => match size::blocks(name, value, disk.block_size)? {
            (size::Sign::Is, blocks) => Ok(Some(blocks)),
            _ => Err(Refusal::new(
                Code::BadOption,
                format!("{name}: there is nothing yet to add to or to take from"),
            )),
        },
    };
    let wish = Wish {
        start: blocks("start", &options.start)?,
        count: blocks("size", &options.size)?,
        end: blocks("end", &options.end)?,
    };
    if wish.count.is_some() && wish.end.is_some() {
        return Err(Refusal::new(
            Code::BadOption,
            "size and end are two words for one thing; give one",
        ));
    }
    if wish.count == Some(0) {
        return Err(Refusal::new(
            Code::BadOption,
            "size: a partition has at least one block",
        ));
    }
    Ok(wish)
}

async fn on_gpt(draft: &mut Draft<'_>, mut gpt: Gpt, options: Options) -> Result<(), Refusal> {
    if options.place.as_deref().is_some_and(|place| place != "primary") {
        return Err(Refusal::new(
            Code::BadOption,
            "place: on a GPT all partitions are alike",
        ));
    }
    let wish = wish(&options, &gpt.disk)?;
    let kind = match &options.kind {
        None => gpt::types::LINUX,
        Some(text) => kind::guid(text)?,
    };
    let name = options.name.clone().unwrap_or_default();
    kind::name(&name)?;
    let attributes = kind::attributes(options.attributes.as_deref().unwrap_or_default())?;
    let attributes = attributes | if options.bootable { kind::BOOTABLE } else { 0 };
    let guid = match options.guid {
        Some(guid) if guid.is_nil() => return Err(Refusal::new(Code::BadOption, "guid: all zeroes are no identity")),
        Some(guid) => {
            let twin = gpt.label.table().entries().find(|(_, entry)| entry.guid == guid);
            if let Some((number, _)) = twin {
                let why = format!("guid: partition {number} has that already");
                return Err(Refusal::new(Code::BadOption, why));
            }
            guid
        }
        None => draft.uuid(),
    };
    let slots = gpt.label.table().header.slots();
    let number = match options.number {
        None => gpt.label.free_slot().ok_or_else(|| {
            gpt.disk.refuse(
                Code::NoSpace,
                &format!("has a GPT with {slots} slots, and all are in use"),
            )
        })?,
        Some(number) if !(1..=slots).contains(&number) => {
            return Err(Refusal::new(
                Code::BadOption,
                format!("number: the GPT has slots 1 to {slots}"),
            ));
        }
        Some(number) if gpt.label.get(number).is_some() => {
            return Err(Refusal::new(Code::BadName, format!("number: {number} is taken")));
        }
        Some(number) => number,
    };
    let taken: Vec<Extent> = gpt.taken().into_iter().map(|(_, extent)| extent).collect();
    let gaps = room::gaps(gpt.label.table().header.usable(), taken);
    let manner = Manner {
        grain: gpt.disk.grain(),
        align_end: true,
        record: false,
        first: None,
        block_size: gpt.disk.block_size,
    };
    let Place { extent, .. } = room::choose(&gaps, wish, &manner)?;
    gpt.mend(draft).await?;
    old_content(draft, &gpt.disk, extent, options.wipe).await?;
    let entry = gpt::Entry {
        kind,
        guid,
        first: extent.start,
        last: extent.start + extent.count - 1,
        attributes,
        name,
    };
    gpt.label.set(number, Some(&entry));
    gpt.write(draft).await?;
    told(draft, &gpt.disk, number, extent, &entry.to_string());
    Ok(())
}

/// How a partition is placed in a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Primary,
    Extended,
    Logical,
}

async fn on_dos(draft: &mut Draft<'_>, mut dos: Dos, options: Options) -> Result<(), Refusal> {
    for (given, name) in [
        (options.name.is_some(), "name"),
        (options.guid.is_some(), "guid"),
        (options.attributes.is_some(), "attributes"),
    ] {
        if given {
            return Err(misused(name, "an MBR"));
        }
    }
    let disk = dos.disk.clone();
    let wish = wish(&options, &disk)?;
    let byte = options.kind.as_deref().map(kind::byte).transpose()?;
    let extended = dos.label.extended();
    let used: Vec<u32> = dos.label.partitions().iter().map(|(number, ..)| *number).collect();
    let free = (1..=4).find(|number| !used.contains(number));
    let container = |kind: u8| matches!(kind, 0x05 | 0x0f | 0x85);
    let inside = |start: u64| extended.is_some_and(|(_, e)| Extent::new(start, 1).inside(e));
    let whereto = match (options.place.as_deref(), options.number) {
        (Some("primary"), _) => Where::Primary,
        (Some("extended"), _) => Where::Extended,
        (Some("logical"), _) => Where::Logical,
        (Some(other), _) => return Err(Refusal::new(Code::BadOption, format!("place: {other:?} is none"))),
        (None, Some(5..)) => Where::Logical,
        (None, _) if byte.is_some_and(container) => Where::Extended,
        (None, Some(_)) => Where::Primary,
        (None, None) if wish.start.is_some_and(inside) => Where::Logical,
        (None, None) if free.is_none() && extended.is_some() => Where::Logical,
        (None, None) => Where::Primary,
    };
    let kind = byte.unwrap_or(if whereto == Where::Extended { 0x05 } else { 0x83 });
    if container(kind) != (whereto == Where::Extended) {
        let why = format!("type: {kind:02x} does not go with that place");
        return Err(Refusal::new(Code::BadOption, why).but("`place` extended and type 05, 0f or 85 belong together"));
    }
    if whereto == Where::Logical {
        return logical(draft, dos, options, wish, kind).await;
    }
    if whereto == Where::Extended && extended.is_some() {
        return Err(disk.refuse(
            Code::Unsupported,
            "has an extended partition already, and an MBR has one at most",
        ));
    }
    let number = match options.number {
        Some(number @ 1..=4) if used.contains(&number) => {
            return Err(Refusal::new(Code::BadName, format!("number: {number} is taken")));
        }
        Some(number @ 1..=4) => number,
        Some(_) => {
            return Err(Refusal::new(
                Code::BadOption,
                "number: 1 to 4 are in the record, the others are logical",
            ));
        }
        None => free.ok_or_else(|| {
            disk.refuse(Code::NoSpace, "has an MBR, and its four entries are in use")
                .but("logical partitions go into an extended one; a GPT has more slots")
        })?,
    };
    // What 32 bits can tell.
    let end = disk.blocks.min(1 << 32);
    let primaries = dos.label.partitions().into_iter().filter(|(number, ..)| *number <= 4);
    let gaps = room::gaps(Extent::new(1, end - 1), primaries.map(|(_, extent, ..)| extent));
    let manner = Manner {
        grain: disk.grain(),
        align_end: false,
        record: false,
        first: None,
        block_size: disk.block_size,
    };
    let Place { extent, .. } = room::choose(&gaps, wish, &manner)?;
    if whereto == Where::Primary {
        old_content(draft, &disk, extent, options.wipe).await?;
    }
    let steps = dos
        .label
        .set_primary(number, Some((extent, kind, options.bootable)))
        .map_err(|why| misfit(&disk, why))?;
    dos.write(draft, steps).await?;
    told(draft, &disk, number, extent, &words(kind));
    Ok(())
}

async fn logical(draft: &mut Draft<'_>, mut dos: Dos, options: Options, wish: Wish, kind: u8) -> Result<(), Refusal> {
    let disk = dos.disk.clone();
    let Some((_, extended)) = dos.label.extended() else {
        return Err(disk
            .refuse(Code::NotFound, "has no extended partition for logical ones")
            .but("make one first, with `place` extended"));
    };
    let all = dos.label.partitions();
    let logical: Vec<Extent> = all
        .iter()
        .filter(|(n, ..)| *n >= 5)
        .map(|(_, extent, ..)| *extent)
        .collect();
    let next = 5 + logical.len() as u32;
    if options.number.is_some_and(|number| number != next) {
        let why = format!("number: logical partitions are numbered in order, and the next is {next}");
        return Err(Refusal::new(Code::BadOption, why));
    }
    // The first record stays at the start of the extended partition, with a partition or without.
    let first = logical.is_empty().then_some(extended.start);
    let records = dos
        .label
        .chain()
        .filter(|_| first.is_none())
        .map(|at| Extent::new(at, 1));
    let taken: Vec<Extent> = records.chain(logical).collect();
    let allowed = Extent::new(
        extended.start,
        extended.count.min(disk.blocks.saturating_sub(extended.start)),
    );
    let manner = Manner {
        grain: disk.grain(),
        align_end: false,
        record: true,
        first,
        block_size: disk.block_size,
    };
    let Place { record, extent } = room::choose(&room::gaps(allowed, taken), wish, &manner)?;
    old_content(draft, &disk, extent, options.wipe).await?;
    let (number, steps) = dos
        .label
        .add_logical(record, extent, kind, options.bootable)
        .map_err(|why| misfit(&disk, why))?;
    dos.write(draft, steps).await?;
    told(draft, &disk, number, extent, &words(kind));
    Ok(())
}

fn words(kind: u8) -> String {
    spec::mbr::type_name(kind).map_or_else(|| format!("type {kind:02x}"), str::to_owned)
}

pub(super) fn told(draft: &mut Draft<'_>, disk: &Facts, number: u32, extent: Extent, what: &str) {
    let size = u64::from(disk.block_size);
    draft.say(format!(
        "Makes {}: {what}, {} from block {} to {}.",
        called(&disk.name, number),
        human(extent.count * size),
        extent.start,
        extent.start + extent.count - 1
    ));
    if !(extent.start * size).is_multiple_of(u64::from(disk.physical_block_size.max(1))) {
        draft.warn(format!(
            "It does not start at a whole physical block of {} bytes, which makes writes slow.",
            disk.physical_block_size
        ));
    }
}

/// Says what lies in a new partition already, and wipes it if that is wished: before the partition is there.
pub(super) async fn old_content(
    draft: &mut Draft<'_>,
    disk: &Facts,
    extent: Extent,
    wipe: bool,
) -> Result<(), Refusal> {
    let size = u64::from(disk.block_size);
    let (start, bytes) = (extent.start * size, extent.count * size);
    let (head, tail) = (magic::HEAD.min(bytes), magic::TAIL.min(bytes));
    let windows = (
        draft.read(&disk.name, start, head).await?,
        draft.read(&disk.name, start + bytes - tail, tail).await?,
    );
    let found = magic::find(&magic::Windows {
        head: &windows.0,
        tail: &windows.1,
        size: bytes,
    });
    if wipe {
        draft
            .put(&disk.name, start, &vec![0; head as usize], "what was at its start")
            .await?;
        let at = start + bytes - tail;
        draft
            .put(&disk.name, at, &vec![0; tail as usize], "what was at its end")
            .await?;
        draft.barrier("what was there before the partition");
        return Ok(());
    }
    let mut words: Vec<String> = found.iter().map(ToString::to_string).collect();
    let record = spec::mbr::Record::parse(&windows.0);
    if words.is_empty() && record.is_ok_and(|record| record.entries().next().is_some()) {
        words.push("a partition table".into());
    }
    if !words.is_empty() {
        draft.warn(format!(
            "Where it goes there is {} already; `wipe` takes that away.",
            words.join(" and ")
        ));
    }
    Ok(())
}
