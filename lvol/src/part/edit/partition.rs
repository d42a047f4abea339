//! Partitions that are there: taken away, resized, told to be something else.
use super::{
    Dos, Gpt, Label, called, human, kind, load, misfit, misused, not_a_member, older, purpose, room, size, target,
};
use crate::{
    part,
    plan::{
        Code, Disks, Draft, Facts, Guess, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::{Extent, gpt};
use uuid::Uuid;

/// `partition-delete`.
pub struct PartitionDelete;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Verb for PartitionDelete {
    fn name(&self) -> &'static str {
        "partition-delete"
    }
    fn about(&self) -> &'static str {
        "Take a partition out of its table. What is on it stays where it is; `ashlar plan undo` brings it back."
    }
    fn kind(&self) -> Kind {
        Kind::Partition
    }
    fn options(&self) -> &'static [Opt] {
        &[]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(delete(draft, request))
    }
}

/// Lets go of a partition whose place changes. One that is not served is nobody's.
pub(super) fn release(draft: &mut Draft<'_>, disk: &str, number: u32) -> Result<(), Refusal> {
    let name = part::name(disk, number);
    match draft.disks.facts(&name) {
        Some(facts) => {
            not_a_member(&facts)?;
            draft.release(&name)
        }
        None => Ok(()),
    }
}

pub(super) fn missing(disk: &str, number: u32) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no {}", called(disk, number)))
        .but("`ashlar partition ls` lists them")
}

async fn delete(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let _: Nothing = request.options()?;
    let (disk, number, facts) = target(draft, &request.object)?;
    match load(draft, &disk).await? {
        Label::Gpt(mut gpt) => {
            let entry = gpt.label.get(number).ok_or_else(|| missing(&disk, number))?;
            gpt.not_in_hybrid(number)?;
            release(draft, &disk, number)?;
            gpt.mend(draft).await?;
            gpt.label.set(number, None);
            gpt.write(draft).await?;
            let size = u64::from(gpt.disk.block_size);
            let length = entry.extent().map_or(0, |extent| extent.count.saturating_mul(size));
            draft.say(format!(
                "Takes away {} ({}, {}).",
                called(&disk, number),
                human(length),
                purpose(facts.as_ref())
            ));
        }
        Label::Dos(mut dos) => {
            let all = dos.label.partitions();
            let found = all.iter().find(|(n, ..)| *n == number).copied();
            let (_, extent, ..) = found.ok_or_else(|| missing(&disk, number))?;
            let extended = dos.label.extended().is_some_and(|(n, _)| n == number);
            // Logical partitions go with the extended one, and those behind one that goes get other numbers.
            let moved: Vec<u32> = match (extended, number) {
                (true, _) => all.iter().map(|(n, ..)| *n).filter(|n| *n >= 5).collect(),
                (false, 5..) => all.iter().map(|(n, ..)| *n).filter(|n| *n > number).collect(),
                _ => Vec::new(),
            };
            if !extended {
                release(draft, &disk, number)?;
            }
            for number in &moved {
                release(draft, &disk, *number)?;
            }
            let names: Vec<String> = moved.iter().map(|number| part::name(&disk, *number)).collect();
            match (names.is_empty(), extended) {
                (true, _) => {}
                (false, true) => draft.warn(format!("{} go with it.", names.join(", "))),
                (false, false) => draft.warn(format!(
                    "The logical partitions behind it get lower numbers: {} will have other names.",
                    names.join(", ")
                )),
            }
            let steps = match number {
                5.. => dos.label.remove_logical(number),
                _ => dos.label.set_primary(number, None),
            };
            let steps = steps.map_err(|why| misfit(&dos.disk, why))?;
            dos.write(draft, steps).await?;
            let length = extent.count * u64::from(dos.disk.block_size);
            draft.say(format!(
                "Takes away {} ({}, {}).",
                called(&disk, number),
                human(length),
                if extended {
                    "extended".to_owned()
                } else {
                    purpose(facts.as_ref())
                }
            ));
        }
        Label::Older(older) => older::delete(draft, *older, number, facts.as_ref()).await?,
    }
    Ok(())
}

/// `partition-resize`.
pub struct PartitionResize;

/// What it takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    size: Option<Value>,
    end: Option<Value>,
}

impl Verb for PartitionResize {
    fn name(&self) -> &'static str {
        "partition-resize"
    }
    fn about(&self) -> &'static str {
        "Move the end of a partition. Growing is possible while it is in use."
    }
    fn kind(&self) -> Kind {
        Kind::Partition
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[
            Opt::new(
                "size",
                Type::Size,
                "its new length, or `+1g`, `-1g`; as far as there is room by default",
            ),
            Opt::new("end", Type::Size, "where it ends on its disk, instead of a size"),
        ];
        ALL
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        // In use it can only grow; else there is always something to take from it.
        let facts = disks
            .facts(object)
            .filter(|facts| facts.blocks > 1 && facts.user.is_none());
        let less = facts.map(|facts| (facts.blocks - 1) * u64::from(facts.block_size));
        less.map(|bytes| ("size".to_owned(), json!(bytes)))
            .into_iter()
            .collect()
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let facts = disks.facts(object);
        let on = facts.and_then(|facts| disks.facts(facts.partition?.disk()));
        let Some(disk) = on else {
            return Vec::new();
        };
        let block = u64::from(disk.block_size);
        vec![
            Guess::range("size", block, disk.bytes(), block).not_with(&["end"]),
            Guess::range("end", block, disk.bytes(), block).not_with(&["size"]),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(resize(draft, request))
    }
}

/// The new end of `old`, which may go as far as `limit`, and by itself goes to `natural`.
pub(super) fn wanted(options: &Resize, disk: &Facts, old: Extent, limit: u64, natural: u64) -> Result<Extent, Refusal> {
    let bad = |why: &str| Refusal::new(Code::BadOption, why);
    let count = match (&options.size, &options.end) {
        (Some(_), Some(_)) => return Err(bad("size and end are two words for one thing; give one")),
        (None, None) => natural.max(old.start + old.count) - old.start,
        (Some(value), None) => match size::blocks("size", value, disk.block_size)? {
            (size::Sign::Is, blocks) => blocks,
            (size::Sign::More, blocks) => old.count.saturating_add(blocks),
            (size::Sign::Less, blocks) => old
                .count
                .checked_sub(blocks)
                .ok_or_else(|| bad("size: it has less than that"))?,
        },
        (None, Some(value)) => match size::blocks("end", value, disk.block_size)? {
            (size::Sign::Is, end) => end
                .checked_sub(old.start)
                .ok_or_else(|| bad("end: it would end before it starts"))?,
            _ => return Err(bad("end: a place on the disk, not a difference")),
        },
    };
    if count == 0 {
        return Err(bad("a partition has at least one block"));
    }
    let room = limit - old.start;
    if count > room {
        let size = u64::from(disk.block_size);
        let why = format!("there is room for {} from where it starts", human(room * size));
        return Err(Refusal::new(Code::NoSpace, why));
    }
    if count == old.count {
        return Err(Refusal::new(Code::Nothing, "it has that size already"));
    }
    Ok(Extent::new(old.start, count))
}

/// Says it, and makes sure of what a smaller one needs.
pub(super) fn resized(
    draft: &mut Draft<'_>,
    disk: &Facts,
    number: u32,
    old: Extent,
    new: Extent,
) -> Result<(), Refusal> {
    let size = u64::from(disk.block_size);
    if new.count < old.count {
        release(draft, &disk.name, number)?;
        draft.warn(format!(
            "What is on the last {} of it cannot be reached any more: make its file system smaller first.",
            human((old.count - new.count) * size)
        ));
    }
    draft.say(format!(
        "Resizes {} from {} to {}.",
        called(&disk.name, number),
        human(old.count * size),
        human(new.count * size)
    ));
    Ok(())
}

/// Where the room behind a partition ends. One that overlaps another has none.
pub(super) fn limit(allowed: Extent, taken: &[Extent], old: Extent) -> u64 {
    let gaps = room::gaps(allowed, taken.iter().copied());
    let end = old.start + old.count;
    let behind = gaps.into_iter().find(|gap| gap.start == end);
    behind.map_or(end, |gap| gap.start + gap.count)
}

async fn resize(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Resize = request.options()?;
    let (disk, number, _) = target(draft, &request.object)?;
    match load(draft, &disk).await? {
        Label::Gpt(mut gpt) => {
            let entry = gpt.label.get(number).ok_or_else(|| missing(&disk, number))?;
            let sound = || {
                gpt.disk.refuse(
                    Code::Damaged,
                    &format!("has a partition {number} that ends before it starts"),
                )
            };
            let old = entry.extent().ok_or_else(sound)?;
            gpt.not_in_hybrid(number)?;
            let taken: Vec<Extent> = gpt.taken().into_iter().map(|(_, extent)| extent).collect();
            let limit = limit(gpt.label.table().header.usable(), &taken, old);
            let grain = gpt.disk.grain();
            let new = wanted(&options, &gpt.disk, old, limit, limit / grain * grain)?;
            resized(draft, &gpt.disk, number, old, new)?;
            gpt.mend(draft).await?;
            let entry = gpt::Entry {
                last: new.start + new.count - 1,
                ..entry
            };
            gpt.label.set(number, Some(&entry));
            gpt.write(draft).await
        }
        Label::Dos(mut dos) => {
            let all = dos.label.partitions();
            let found = all.iter().find(|(n, ..)| *n == number).copied();
            let (_, old, kind, active) = found.ok_or_else(|| missing(&disk, number))?;
            let (allowed, taken) = surroundings(&dos, number);
            let limit = limit(allowed, &taken, old);
            let new = wanted(&options, &dos.disk, old, limit, limit)?;
            let extended = dos.label.extended().is_some_and(|(n, _)| n == number);
            if extended {
                let inside = all.iter().filter(|(n, ..)| *n >= 5).map(|(_, extent, ..)| *extent);
                let records = dos.label.chain().map(|at| Extent::new(at, 1));
                if let Some(out) = inside.chain(records).find(|extent| !extent.inside(new)) {
                    let why = format!("a logical partition has blocks {out}");
                    return Err(
                        Refusal::new(Code::NoSpace, why).but("make the extended partition no smaller than that")
                    );
                }
                draft.say(format!(
                    "Resizes {} from {} to {}.",
                    called(&disk, number),
                    human(old.count * u64::from(dos.disk.block_size)),
                    human(new.count * u64::from(dos.disk.block_size))
                ));
            } else {
                resized(draft, &dos.disk, number, old, new)?;
            }
            let steps = match number {
                5.. => dos.label.set_logical(number, new.count, kind, active),
                _ => dos.label.set_primary(number, Some((new, kind, active))),
            };
            let steps = steps.map_err(|why| misfit(&dos.disk, why))?;
            dos.write(draft, steps).await
        }
        Label::Older(older) => older::resize(draft, *older, number, &options).await,
    }
}

/// Where a partition of a record may be, and who else is there.
fn surroundings(dos: &Dos, number: u32) -> (Extent, Vec<Extent>) {
    let all = dos.label.partitions();
    let extended = dos.label.extended().map(|(_, extent)| extent);
    match (number, extended) {
        (5.., Some(extended)) => {
            let logical = all.iter().filter(|(n, ..)| *n >= 5).map(|(_, extent, ..)| *extent);
            let records = dos.label.chain().map(|at| Extent::new(at, 1));
            (extended, logical.chain(records).collect())
        }
        _ => {
            let primary = all.iter().filter(|(n, ..)| *n <= 4).map(|(_, extent, ..)| *extent);
            (Extent::new(1, dos.disk.blocks.min(1 << 32) - 1), primary.collect())
        }
    }
}

/// `partition-change`.
pub struct PartitionChange;

/// What it takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) guid: Option<Uuid>,
    pub(super) attributes: Option<Vec<String>>,
    pub(super) bootable: Option<bool>,
}

impl Verb for PartitionChange {
    fn name(&self) -> &'static str {
        "partition-change"
    }
    fn about(&self) -> &'static str {
        "Change what a table says of a partition: type, name, GUID, attributes, whether to boot from it."
    }
    fn kind(&self) -> Kind {
        Kind::Partition
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[
            Opt::new("type", Type::Text, "as for partition-create"),
            Opt::new("name", Type::Text, "on a GPT: its name"),
            Opt::new(
                "guid",
                Type::Text,
                "on a GPT: its GUID; hosts then take it for another disk",
            ),
            Opt::new(
                "attributes",
                Type::List,
                "on a GPT: all of its attributes; none for an empty list",
            ),
            Opt::new(
                "bootable",
                Type::Flag,
                "mark it, or not, as the one that old firmware boots from",
            ),
        ];
        ALL
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let partition = disks.facts(object).and_then(|facts| facts.partition);
        let bootable = match partition {
            Some(crate::Partition::Gpt { attributes, .. }) => attributes & kind::BOOTABLE != 0,
            Some(crate::Partition::Mbr { active, .. }) => active,
            // The older tables know a type, all of them.
            Some(other) => {
                let linux = ["Linux", "Apple_UNIX_SVR2", "ext2"].contains(&other.purpose().as_str());
                let kind = if linux { "raid" } else { "linux" };
                return Map::from_iter([("type".to_owned(), Value::from(kind))]);
            }
            None => false,
        };
        Map::from_iter([("bootable".to_owned(), Value::from(!bootable))])
    }
    fn guesses(&self, _: &dyn Disks, _: &str) -> Vec<Guess> {
        vec![Guess::words("type", kind::words_of_all())]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(change(draft, request))
    }
}

async fn change(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Changes = request.options()?;
    let (disk, number, _) = target(draft, &request.object)?;
    match load(draft, &disk).await? {
        Label::Gpt(gpt) => change_gpt(draft, *gpt, number, options).await,
        Label::Dos(dos) => change_dos(draft, *dos, number, options).await,
        Label::Older(older) => older::change(draft, *older, number, options).await,
    }
}

async fn change_gpt(draft: &mut Draft<'_>, mut gpt: Gpt, number: u32, options: Changes) -> Result<(), Refusal> {
    let disk = gpt.disk.name.clone();
    let old = gpt.label.get(number).ok_or_else(|| missing(&disk, number))?;
    let mut new = old.clone();
    let mut told = Vec::new();
    if let Some(text) = &options.kind {
        new.kind = kind::guid(text)?;
        let words = gpt::types::name(new.kind).map_or_else(|| new.kind.to_string(), str::to_owned);
        told.push(format!("type {words}"));
    }
    if let Some(name) = options.name {
        kind::name(&name)?;
        told.push(format!("name {name:?}"));
        new.name = name;
    }
    if let Some(list) = &options.attributes {
        new.attributes = kind::attributes(list)?;
    }
    match options.bootable {
        Some(true) => new.attributes |= kind::BOOTABLE,
        Some(false) => new.attributes &= !kind::BOOTABLE,
        None => {}
    }
    if new.attributes != old.attributes {
        told.push(match kind::attribute_words(new.attributes) {
            words if words.is_empty() => "no attributes".into(),
            words => format!("attributes {words}"),
        });
    }
    if let Some(guid) = options.guid {
        let twin = gpt
            .label
            .table()
            .entries()
            .find(|(n, entry)| entry.guid == guid && *n != number);
        if let Some((other, _)) = twin {
            return Err(Refusal::new(
                Code::BadOption,
                format!("guid: partition {other} has that already"),
            ));
        }
        if guid.is_nil() {
            return Err(Refusal::new(Code::BadOption, "guid: all zeroes are no identity"));
        }
        if guid != old.guid {
            // The disk that it is gets another identity.
            draft.release(&part::name(&disk, number))?;
        }
        told.push(format!("GUID {guid}"));
        new.guid = guid;
    }
    if new == old {
        return Err(Refusal::new(Code::Nothing, "nothing would change"));
    }
    if new.kind != old.kind {
        gpt.not_in_hybrid(number)?;
    }
    gpt.mend(draft).await?;
    gpt.label.set(number, Some(&new));
    gpt.write(draft).await?;
    draft.say(format!("Gives {} {}.", called(&disk, number), told.join(", ")));
    Ok(())
}

/// Marked to boot from or not, in words.
pub(super) fn mark(bootable: bool) -> &'static str {
    match bootable {
        true => "the mark to boot from",
        false => "no mark to boot from",
    }
}

async fn change_dos(draft: &mut Draft<'_>, mut dos: Dos, number: u32, options: Changes) -> Result<(), Refusal> {
    for (given, name) in [
        (options.name.is_some(), "name"),
        (options.guid.is_some(), "guid"),
        (options.attributes.is_some(), "attributes"),
    ] {
        if given {
            return Err(misused(name, "an MBR"));
        }
    }
    let disk = dos.disk.name.clone();
    let all = dos.label.partitions();
    let found = all.iter().find(|(n, ..)| *n == number).copied();
    let (_, extent, old, active) = found.ok_or_else(|| missing(&disk, number))?;
    let kind = options.kind.as_deref().map(kind::byte).transpose()?.unwrap_or(old);
    let container = |kind: u8| matches!(kind, 0x05 | 0x0f | 0x85);
    if container(kind) != container(old) {
        let why = format!("type: {old:02x} cannot become {kind:02x}: one holds logical partitions, the other data");
        return Err(Refusal::new(Code::BadOption, why));
    }
    let bootable = options.bootable.unwrap_or(active);
    if (kind, bootable) == (old, active) {
        return Err(Refusal::new(Code::Nothing, "nothing would change"));
    }
    if bootable && let Some((other, ..)) = all.iter().find(|(n, _, _, active)| *active && *n != number) {
        draft.warn(format!(
            "Partition {other} is marked to boot from, too; most firmware wants one."
        ));
    }
    let steps = match number {
        5.. => dos.label.set_logical(number, extent.count, kind, bootable),
        _ => dos.label.set_primary(number, Some((extent, kind, bootable))),
    };
    let steps = steps.map_err(|why| misfit(&dos.disk, why))?;
    dos.write(draft, steps).await?;
    let mut told = Vec::new();
    if kind != old {
        told.push(spec::mbr::type_name(kind).map_or_else(
            || format!("type {kind:02x}"),
            |name| format!("type {kind:02x} ({name})"),
        ));
    }
    if bootable != active {
        told.push(mark(bootable).to_owned());
    }
    draft.say(format!("Gives {} {}.", called(&disk, number), told.join(", ")));
    Ok(())
}
