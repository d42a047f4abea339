//! Logical volumes: made, extended, reduced, renamed, removed, changed. Linear and striped ones; what other types a volume has stays as it is.
use super::{
    super::{
        space::{Allowed, Policy, Run, Space},
        whole::Whole,
    },
    allowed, flag, fresh,
    size::{self, Amount, Of, Sign},
    tags, volume_name,
};
use crate::plan::{
    Code, Disks, Draft, Guess, Refusal, Request, Undo, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{
    SECTOR,
    text::{Data, Section},
    vg::{LogicalVolume, Segment, Shape, WRITE_LOCKED, has},
};

/// Bytes of a new volume that are zeroed: whatever was there before is not to be taken for what is there now.
const ZEROED: u64 = 128 << 10;
/// Bytes of a stripe's chunk unless told otherwise, as LVM2's.
const CHUNK: u64 = 64 << 10;

/// `lv-create`.
pub struct LvCreate;
/// `lv-extend`.
pub struct LvExtend;
/// `lv-reduce`.
pub struct LvReduce;
/// `lv-rename`.
pub struct LvRename;
/// `lv-remove`.
pub struct LvRemove;
/// `lv-change`.
pub struct LvChange;

/// How many extents are meant. `now` is what the volume has.
fn count(
    whole: &Whole,
    space: &Space,
    on: &[Allowed],
    now: u64,
    (sign, amount): (Sign, Amount),
    round: fn(u64, u64) -> u64,
) -> Result<(Sign, u64), Refusal> {
    let vg = &whole.vg;
    let all = |of: Of| match of {
        Of::Group => vg.physical.iter().map(|pv| pv.pe_count).sum(),
        Of::Free => space.extents(),
        Of::Disks => {
            let named =
                |pv: &&spec::lvm2::vg::PhysicalVolume| on.is_empty() || on.iter().any(|(word, _)| *word == pv.name);
            vg.physical.iter().filter(named).map(|pv| pv.pe_count).sum::<u64>()
        }
        Of::Volume => now,
    };
    let extents = match amount {
        Amount::Bytes(bytes) => round(bytes, vg.extent_size * SECTOR),
        Amount::Extents(extents) => extents,
        Amount::Percent(percent, of) => {
            let part = u128::from(all(of)) * u128::from(percent) / 100;
            u64::try_from(part).unwrap_or(u64::MAX)
        }
    };
    // A share of what is free is what is added; a share of the rest is what the volume shall have.
    let sign = match (sign, amount) {
        (Sign::To, Amount::Percent(_, Of::Free)) if now > 0 => Sign::Plus,
        (sign, _) => sign,
    };
    if extents == 0 {
        return Err(Refusal::new(Code::BadOption, "a size of nothing"));
    }
    Ok((sign, extents))
}

/// The option that says how much: one of two.
fn amount(size: &Option<Value>, extents: &Option<Value>) -> Result<(Sign, Amount), Refusal> {
    match (size, extents) {
        (Some(size), None) => size::size(size),
        (None, Some(extents)) => size::extents(extents),
        _ => Err(Refusal::new(
            Code::BadOption,
            "either `size` or `extents` says how much",
        )),
    }
}

fn up(bytes: u64, extent: u64) -> u64 {
    bytes.div_ceil(extent)
}

fn down(bytes: u64, extent: u64) -> u64 {
    bytes / extent
}

/// The section of a segment.
fn segment(start: u64, row: &[Run], chunk: u64) -> Section {
    let mut section = Section::default();
    let number = |n: u64| Data::Integer(n as i64);
    let stripes = row.len() as u64;
    let each = row.first().map_or(0, |run| run.count);
    section.set("start_extent", number(start));
    section.set("extent_count", number(each * stripes));
    section.set("type", Data::Text("striped".into()));
    section.set("stripe_count", number(stripes));
    if stripes > 1 {
        section.set("stripe_size", number(chunk));
    }
    let pairs = row
        .iter()
        .flat_map(|run| [Data::Text(run.on.clone()), number(run.start)]);
    section.set("stripes", Data::List(pairs.collect()));
    section
}

/// Puts rows behind what a volume has. A row that goes on where the last segment ends makes that longer.
fn append(volume: &mut Section, lv: Option<&LogicalVolume>, rows: &[Vec<Run>], chunk: u64) {
    let last = lv.and_then(|lv| lv.segments.last());
    let mut start = lv.map_or(0, LogicalVolume::extents);
    let mut number = lv.map_or(0, |lv| lv.segments.len());
    for (row, first) in rows.iter().zip([true].into_iter().chain(std::iter::repeat(false))) {
        let more = row.iter().map(|run| run.count).sum::<u64>();
        let goes_on = first.then_some(last).flatten().filter(|last| continues(last, row));
        let named = format!("segment{number}");
        match goes_on.and_then(|last| Some((last, volume.get_mut(&named)?.section_mut()?))) {
            Some((last, section)) => section.set("extent_count", Data::Integer((last.count + more) as i64)),
            None => {
                number += 1;
                volume.add(&format!("segment{number}"), segment(start, row, chunk));
            }
        }
        start += more;
    }
    volume.set("segment_count", Data::Integer(number as i64));
}

fn continues(last: &Segment, row: &[Run]) -> bool {
    let Shape::Striped { stripes, .. } = &last.shape else {
        return false;
    };
    let each = last.count / stripes.len().max(1) as u64;
    stripes.len() == row.len()
        && stripes
            .iter()
            .zip(row)
            .all(|(stripe, run)| stripe.on == run.on && stripe.extent + each == run.start)
}

/// The chunk in sectors.
fn chunk(whole: &Whole, wanted: &Option<Value>) -> Result<u64, Refusal> {
    let bytes = match wanted.as_ref().map(size::size).transpose()? {
        None => CHUNK.min(whole.vg.extent_size * SECTOR),
        Some((Sign::To, Amount::Bytes(bytes))) => bytes,
        Some(_) => return Err(Refusal::new(Code::BadOption, "a stripe size has no sign in front")),
    };
    let block = whole.pvs.first().map_or(512, |pv| u64::from(pv.disk.block_size));
    // As LVM2: a power of two, at least a page, at most an extent.
    let good = bytes.is_power_of_two() && bytes >= 4096.max(block) && bytes <= whole.vg.extent_size * SECTOR;
    match good {
        true => Ok(bytes / SECTOR),
        false => Err(Refusal::new(Code::BadOption, format!("a stripe size of {bytes} bytes"))
            .but("a power of two from 4 KiB up to the extent size")),
    }
}

/// The volume, if it is one that can be changed here.
pub(super) fn plain<'a>(whole: &'a Whole, name: &str) -> Result<&'a LogicalVolume, Refusal> {
    let vg = &whole.vg;
    let lv = vg.logical.iter().find(|lv| lv.name == name);
    let lv = lv.ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            format!("the volume group {:?} has no volume {name:?}", vg.name),
        )
    })?;
    let no = |why: String| Err(Refusal::new(Code::Unsupported, why));
    if let Some(segment) = lv
        .segments
        .iter()
        .find(|segment| matches!(segment.shape, Shape::Other { .. }))
    {
        return no(format!(
            "{:?} has segments of type {}, which LVM2 changes and Ashlar does not",
            lv.name, segment.kind
        ));
    }
    let section = whole
        .tree
        .section(&vg.name)
        .and_then(|group| group.section("logical_volumes")?.section(name));
    for (segment, number) in lv.segments.iter().zip(1..) {
        let there = section.and_then(|section| section.section(&format!("segment{number}")));
        let start = there.and_then(|segment| segment.value("start_extent")?.integer());
        if start != i64::try_from(segment.start).ok() {
            return no(format!("the segments of {:?} are not numbered in their order", lv.name));
        }
    }
    if let Some((_, user)) = vg.parts().into_iter().find(|(part, _)| *part == lv.name) {
        return no(format!("{:?} is a part of {user:?}", lv.name));
    }
    if !lv.is_visible() || has(&lv.status, "LOCKED") {
        return no(format!(
            "{:?} is a part of another volume, or LVM2 is at work on it",
            lv.name
        ));
    }
    Ok(lv)
}

/// `group/volume` taken apart.
fn split(object: &str) -> Result<(&str, &str), Refusal> {
    object
        .split_once('/')
        .ok_or_else(|| Refusal::new(Code::WrongKind, format!("{object:?} is no group/volume")))
}

/// What a group has: bytes in an extent, and extents that nobody has. Nothing if it is not there.
fn room(disks: &dyn Disks, vg: &str) -> Option<(u64, u64)> {
    let group = disks
        .groups_called(vg)
        .into_iter()
        .find(|group| group.format == "lvm2")?;
    let seats = group.members.iter().filter(|seat| seat.allocatable);
    let free = seats.map(|seat| seat.extents.saturating_sub(seat.used)).sum();
    Some((group.extent_bytes, free))
}

/// The disks of a group.
fn members(disks: &dyn Disks, vg: &str) -> Vec<String> {
    let groups = disks
        .groups_called(vg)
        .into_iter()
        .filter(|group| group.format == "lvm2");
    groups
        .flat_map(|group| group.members)
        .filter_map(|seat| seat.disk)
        .collect()
}

/// Powers of two that are sizes of a chunk.
fn chunks(extent: u64) -> Vec<u64> {
    (12..34)
        .map(|shift| 1 << shift)
        .take_while(|bytes| *bytes <= extent)
        .collect()
}

/// How many extents a volume has.
fn length(disks: &dyn Disks, object: &str) -> Option<u64> {
    let vg = object.split('/').next().unwrap_or_default();
    let groups = disks.groups_called(vg);
    let group = groups.iter().find(|group| group.format == "lvm2")?;
    let volume = group.volumes.iter().find(|volume| volume.disk == object)?;
    Some(volume.what.bytes / group.extent_bytes.max(1))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Create {
    name: Option<String>,
    size: Option<Value>,
    extents: Option<Value>,
    stripes: Option<u64>,
    stripe_size: Option<Value>,
    disks: Vec<String>,
    allocation: Option<String>,
    tags: Vec<String>,
    read_only: bool,
    keep_contents: bool,
}

impl Verb for LvCreate {
    fn name(&self) -> &'static str {
        "lv-create"
    }
    fn about(&self) -> &'static str {
        "Make a volume of a group's free extents, linear or striped."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new("name", Type::Text, "What it is called; lvol0, lvol1, … without it."),
            Opt::new(
                "size",
                Type::Size,
                "How large it is; rounded up to whole extents. Either this or `extents`.",
            ),
            Opt::new(
                "extents",
                Type::Extents,
                "How large it is, in extents or as a share: 100, 50%VG, 100%FREE, 100%PVS.",
            ),
            Opt::new(
                "stripes",
                Type::Number,
                "On how many disks its chunks lie in turn; 1 without it.",
            ),
            Opt::new("stripe_size", Type::Size, "The size of a chunk; 64 KiB without it."),
            Opt::new(
                "disks",
                Type::Disks,
                "Only on these members: a disk, disk:first-last for some of its extents, @tag for all of that tag.",
            ),
            Opt::new(
                "allocation",
                Type::Choice(&["normal", "contiguous", "cling", "anywhere"]),
                "How extents are chosen.",
            ),
            Opt::new("tags", Type::List, "Tags to give it."),
            Opt::new("read_only", Type::Flag, "Nobody writes to it."),
            Opt::new(
                "keep_contents",
                Type::Flag,
                "Do not zero its first 128 KiB: whatever lay there before is in it.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, _: &dyn Disks, _: &str) -> Map<String, Value> {
        Map::from_iter([("extents".to_owned(), 1.into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let Some((extent, free)) = room(disks, object) else {
            return Vec::new();
        };
        vec![
            Guess::range("size", extent, extent.saturating_mul(free), extent).not_with(&["extents"]),
            Guess::range("extents", 1, free, 1).not_with(&["size"]),
            Guess::range("stripes", 1, 128, 1).or(1),
            Guess::among("stripe_size", chunks(extent))
                .or(CHUNK.min(extent))
                .with("stripes", 2),
            Guess::among("disks", members(disks, object)),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Create = request.options()?;
            let mut whole = Whole::read(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            let taken = |name: &str| whole.vg.logical.iter().any(|lv| lv.name == name);
            let name = match &options.name {
                None => fresh("lvol", taken),
                Some(name) if taken(name) => {
                    return Err(Refusal::new(
                        Code::BadName,
                        format!("{vg:?} has a volume {name:?} already"),
                    ));
                }
                Some(name) => volume_name(name)?.to_owned(),
            };
            let stripes = options.stripes.unwrap_or(1);
            if stripes == 0 || stripes > 128 {
                return Err(Refusal::new(
                    Code::BadOption,
                    format!("{stripes} stripes; there are 1 to 128"),
                ));
            }
            let policy = policy(&whole, options.allocation.as_deref())?;
            let on = allowed(&whole, &options.disks)?;
            let mut space = Space::of(&whole.vg, &on)?;
            let wanted = amount(&options.size, &options.extents)?;
            let (sign, extents) = count(&whole, &space, &on, 0, wanted, up)?;
            if sign != Sign::To {
                return Err(Refusal::new(Code::BadOption, "a new volume has no size to add to"));
            }
            // Every stripe has as many; a share rounds down, so that 100%FREE is possible.
            let extents = match wanted.1 {
                Amount::Percent(..) => extents / stripes * stripes,
                _ => extents.checked_next_multiple_of(stripes).unwrap_or(u64::MAX),
            };
            let chunk = if stripes > 1 {
                chunk(&whole, &options.stripe_size)?
            } else {
                0
            };
            if extents == 0 || extents > u64::from(u32::MAX) {
                return Err(Refusal::new(
                    Code::NoSpace,
                    format!("{extents} extents are no size for a volume"),
                ));
            }
            let rows = space.choose(extents, stripes as usize, policy, None)?;
            if !options.keep_contents {
                zero(draft, &whole, &rows, chunk).await?;
            }
            let stamp = draft.stamp().clone();
            let mut volume = Section::default();
            let word = |word: &str| Data::Text(word.to_owned());
            volume.set("id", word(&draft.lvm2_id().to_string()));
            let status: &[&str] = if options.read_only {
                &["READ", "VISIBLE"]
            } else {
                &["READ", "WRITE", "VISIBLE"]
            };
            volume.set("status", Data::List(status.iter().map(|one| word(one)).collect()));
            volume.set("flags", Data::List(Vec::new()));
            tags(&mut volume, &options.tags, &[])?;
            volume.set("creation_time", Data::Integer(stamp.time as i64));
            volume.set("creation_host", word(&stamp.host));
            if let Some(policy) = options.allocation.as_deref().filter(|policy| *policy != "normal") {
                volume.set("allocation_policy", word(policy));
            }
            volume.set("segment_count", Data::Integer(0));
            append(&mut volume, None, &rows, chunk);
            whole.volumes()?.add(&name, volume);
            whole.commit(draft, &format!("lv-create {vg}/{name}")).await?;
            let bytes = extents * whole.vg.extent_size * SECTOR;
            let how = if stripes > 1 {
                format!(" in {stripes} stripes")
            } else {
                String::new()
            };
            draft.say(format!(
                "The volume {vg}/{name} is made: {extents} extents, {bytes} bytes{how}, on {}.",
                places(&whole, &rows)
            ));
            draft.undo(Undo::Request(Request::new("lv-remove", &format!("{vg}/{name}"))));
            Ok(())
        })
    }
}

fn policy(whole: &Whole, wanted: Option<&str>) -> Result<Policy, Refusal> {
    let own = whole
        .tree
        .section(&whole.vg.name)
        .and_then(|group| group.value("allocation_policy"));
    let word = wanted.or(own.and_then(|value| value.text())).unwrap_or("normal");
    Policy::named(word).ok_or_else(|| {
        Refusal::new(Code::BadOption, format!("{word:?} is no allocation policy"))
            .but("normal, contiguous, cling and anywhere are")
    })
}

/// The disks of rows, in words.
fn places(whole: &Whole, rows: &[Vec<Run>]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for run in rows.iter().flatten() {
        let pv = whole.vg.physical.iter().find(|pv| pv.name == run.on);
        let disk = pv.and_then(|pv| whole.pvs.iter().find(|one| one.label.id == pv.id));
        let name = disk.map_or(run.on.as_str(), |pv| pv.disk.name.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// Zeroes the start of a new volume, wherever its first chunks lie. Nobody's extents until the commit.
async fn zero(draft: &mut Draft<'_>, whole: &Whole, rows: &[Vec<Run>], chunk: u64) -> Result<(), Refusal> {
    let Some(row) = rows.first() else { return Ok(()) };
    let extent = whole.vg.extent_size * SECTOR;
    let length = row.first().map_or(0, |run| run.count) * extent;
    // The first bytes of each stripe are all of them, or more.
    let each = match row.len() as u64 {
        1 => ZEROED,
        n => ZEROED.div_ceil(chunk * SECTOR * n) * chunk * SECTOR,
    };
    let zeroes = vec![0; each.min(length) as usize];
    for run in row {
        let Some(pv) = whole.vg.physical.iter().find(|pv| pv.name == run.on) else {
            continue;
        };
        let Some(disk) = whole.pvs.iter().find(|one| one.label.id == pv.id) else {
            continue;
        };
        let at = pv.pe_start * SECTOR + run.start * extent;
        draft
            .put(&disk.disk.name, at, &zeroes, "zero the start of the new volume")
            .await?;
    }
    Ok(())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extend {
    size: Option<Value>,
    extents: Option<Value>,
    disks: Vec<String>,
    allocation: Option<String>,
    stripes: Option<u64>,
    stripe_size: Option<Value>,
}

impl Verb for LvExtend {
    fn name(&self) -> &'static str {
        "lv-extend"
    }
    fn about(&self) -> &'static str {
        "Make a volume larger, while hosts use it."
    }
    fn kind(&self) -> Kind {
        Kind::Volume
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new(
                "size",
                Type::Size,
                "How large it shall be, or with + in front by how much larger. Either this or `extents`.",
            ),
            Opt::new(
                "extents",
                Type::Extents,
                "The same in extents or as a share: +10, +100%FREE, 50%VG.",
            ),
            Opt::new("disks", Type::Disks, "Take the extents from these members only."),
            Opt::new(
                "allocation",
                Type::Choice(&["normal", "contiguous", "cling", "anywhere"]),
                "How extents are chosen.",
            ),
            Opt::new(
                "stripes",
                Type::Number,
                "Stripes of what is added; as many as its last segment has without it.",
            ),
            Opt::new(
                "stripe_size",
                Type::Size,
                "The size of a chunk of what is added; that of its last segment without it.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let _ = (disks, object);
        Map::from_iter([("extents".to_owned(), "+1".into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let vg = object.split('/').next().unwrap_or_default();
        let (Some((extent, free)), Some(now)) = (room(disks, vg), length(disks, object)) else {
            return Vec::new();
        };
        vec![
            Guess::range(
                "size",
                extent.saturating_mul(now + 1),
                extent.saturating_mul(now + free),
                extent,
            )
            .not_with(&["extents"]),
            Guess::range("extents", now + 1, now + free, 1).not_with(&["size"]),
            Guess::range("stripes", 1, 128, 1),
            Guess::among("disks", members(disks, vg)),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Extend = request.options()?;
            let (vg, name) = split(&request.object)?;
            let mut whole = Whole::read(draft, vg).await?;
            let lv = plain(&whole, name)?.clone();
            let (now, last) = (lv.extents(), lv.segments.last().cloned());
            let shape = last.as_ref().map(|segment| &segment.shape);
            let (had, old_chunk) = match shape {
                Some(Shape::Striped { stripes, chunk }) => (stripes.len() as u64, *chunk),
                _ => (1, 0),
            };
            let stripes = options.stripes.unwrap_or(had);
            if stripes == 0 || stripes > 128 {
                return Err(Refusal::new(
                    Code::BadOption,
                    format!("{stripes} stripes; there are 1 to 128"),
                ));
            }
            let chunk = match (&options.stripe_size, stripes) {
                (_, 1) => 0,
                (None, n) if n == had => old_chunk,
                (wanted, _) => chunk(&whole, wanted)?,
            };
            let policy = policy(&whole, options.allocation.as_deref())?;
            let on = allowed(&whole, &options.disks)?;
            let mut space = Space::of(&whole.vg, &on)?;
            let wanted = amount(&options.size, &options.extents)?;
            let (sign, extents) = count(&whole, &space, &on, now, wanted, up)?;
            let more = match sign {
                Sign::Plus => extents,
                Sign::To if extents > now => extents - now,
                Sign::To => {
                    let why = format!("{vg}/{name} has {now} extents already");
                    return Err(Refusal::new(Code::Nothing, why).but("`lv-reduce` makes it smaller"));
                }
                Sign::Minus => {
                    return Err(Refusal::new(Code::BadOption, "less is not more").but("`lv-reduce` makes it smaller"));
                }
            };
            let more = match wanted.1 {
                Amount::Percent(..) => more / stripes * stripes,
                _ => more.checked_next_multiple_of(stripes).unwrap_or(u64::MAX),
            };
            if more == 0 || more > u64::from(u32::MAX) - now {
                return Err(Refusal::new(
                    Code::NoSpace,
                    format!("{more} more extents are no size for a volume"),
                ));
            }
            // With another shape a new segment begins.
            let behind = last.as_ref().filter(|_| stripes == had && chunk == old_chunk);
            let rows = space.choose(more, stripes as usize, policy, behind)?;
            append(whole.volume(name)?, Some(&lv), &rows, chunk);
            whole.commit(draft, &format!("lv-extend {vg}/{name}")).await?;
            let total = (now + more) * whole.vg.extent_size * SECTOR;
            draft.say(format!(
                "The volume {vg}/{name} has {} extents instead of {now} ({total} bytes); the new ones are on {}.",
                now + more,
                places(&whole, &rows)
            ));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reduce {
    size: Option<Value>,
    extents: Option<Value>,
}

impl Verb for LvReduce {
    fn name(&self) -> &'static str {
        "lv-reduce"
    }
    fn about(&self) -> &'static str {
        "Make a volume smaller. What is behind the new end is lost; shrink the filesystem first."
    }
    fn kind(&self) -> Kind {
        Kind::Volume
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new(
                "size",
                Type::Size,
                "How large it shall be, or with - in front by how much smaller. Either this or `extents`.",
            ),
            Opt::new(
                "extents",
                Type::Extents,
                "The same in extents or as a share: -10, 50%LV.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let _ = (disks, object);
        Map::from_iter([("extents".to_owned(), "-1".into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let vg = object.split('/').next().unwrap_or_default();
        let (Some((extent, _)), Some(now)) = (room(disks, vg), length(disks, object)) else {
            return Vec::new();
        };
        let less = now.saturating_sub(1);
        vec![
            Guess::range("size", extent, extent.saturating_mul(less), extent).not_with(&["extents"]),
            Guess::range("extents", 1, less, 1).not_with(&["size"]),
        ]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Reduce = request.options()?;
            let (vg, name) = split(&request.object)?;
            let mut whole = Whole::read(draft, vg).await?;
            let lv = plain(&whole, name)?.clone();
            let now = lv.extents();
            let space = Space::of(&whole.vg, &[])?;
            let wanted = amount(&options.size, &options.extents)?;
            // By less than an extent is by nothing; to a part of one is to all of it.
            let round = if wanted.0 == Sign::Minus { down } else { up };
            let (sign, extents) = count(&whole, &space, &[], now, wanted, round)?;
            let left = match sign {
                Sign::Minus => now.saturating_sub(extents),
                Sign::To => extents,
                Sign::Plus => {
                    return Err(Refusal::new(Code::BadOption, "more is not less").but("`lv-extend` makes it larger"));
                }
            };
            if left >= now {
                let why = format!("{vg}/{name} has {now} extents");
                return Err(Refusal::new(Code::Nothing, why).but("`lv-extend` makes it larger"));
            }
            if left == 0 {
                let why = format!("nothing would be left of {vg}/{name}");
                return Err(Refusal::new(Code::BadOption, why).but("`lv-remove` removes it"));
            }
            draft.release(&request.object)?;
            let left = cut(whole.volume(name)?, &lv, left);
            if left == now {
                let why = format!("{vg}/{name} cannot end within a row of its stripes");
                return Err(Refusal::new(Code::Nothing, why));
            }
            whole.commit(draft, &format!("lv-reduce {vg}/{name}")).await?;
            let bytes = left * whole.vg.extent_size * SECTOR;
            draft.say(format!(
                "The volume {vg}/{name} has {left} extents instead of {now} ({bytes} bytes)."
            ));
            draft.warn(format!("What {vg}/{name} has behind its first {bytes} bytes is lost."));
            Ok(())
        })
    }
}

/// Leaves a volume its first extents: as many as asked for, or a few more so that each stripe ends alike. How many.
fn cut(volume: &mut Section, lv: &LogicalVolume, left: u64) -> u64 {
    let mut kept = 0;
    let mut count = 0;
    for (segment, number) in lv.segments.iter().zip(1..) {
        let name = format!("segment{number}");
        if kept >= left {
            volume.remove(&name);
            continue;
        }
        let stripes = match &segment.shape {
            Shape::Striped { stripes, .. } => stripes.len() as u64,
            Shape::Other { .. } => 1,
        };
        let wanted = (left - kept)
            .min(segment.count)
            .next_multiple_of(stripes.max(1))
            .min(segment.count);
        if wanted < segment.count
            && let Some(section) = volume.get_mut(&name).and_then(|item| item.section_mut())
        {
            section.set("extent_count", Data::Integer(wanted as i64));
        }
        kept += wanted;
        count = number;
    }
    volume.set("segment_count", Data::Integer(count));
    kept
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    name: String,
}

impl Verb for LvRename {
    fn name(&self) -> &'static str {
        "lv-rename"
    }
    fn about(&self) -> &'static str {
        "Give a volume another name. It must not be in use."
    }
    fn kind(&self) -> Kind {
        Kind::Volume
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::required("name", Type::Text, "The new name.")];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let vg = object.split('/').next().unwrap_or_default();
        let groups = disks.groups();
        let taken = |name: &str| {
            groups
                .iter()
                .any(|group| group.volumes.iter().any(|volume| volume.disk == format!("{vg}/{name}")))
        };
        Map::from_iter([("name".to_owned(), fresh("lvol", taken).into())])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Rename = request.options()?;
            let (vg, from) = split(&request.object)?;
            let mut whole = Whole::read(draft, vg).await?;
            plain(&whole, from)?;
            let to = volume_name(&options.name)?;
            if whole.vg.logical.iter().any(|lv| lv.name == to) {
                return Err(Refusal::new(
                    Code::BadName,
                    format!("{vg:?} has a volume {to:?} already"),
                ));
            }
            draft.release(&request.object)?;
            whole.volumes()?.rename(from, to);
            whole.commit(draft, &format!("lv-rename {vg}/{from} {to}")).await?;
            draft.say(format!("The volume {vg}/{from} is called {vg}/{to}."));
            draft.undo(Undo::Request(
                Request::new("lv-rename", &format!("{vg}/{to}")).with("name", from),
            ));
            Ok(())
        })
    }
}

impl Verb for LvRemove {
    fn name(&self) -> &'static str {
        "lv-remove"
    }
    fn about(&self) -> &'static str {
        "Remove a volume that is not in use; its extents are free."
    }
    fn kind(&self) -> Kind {
        Kind::Volume
    }
    fn options(&self) -> &'static [Opt] {
        &[]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let (vg, name) = split(&request.object)?;
            let mut whole = Whole::read(draft, vg).await?;
            plain(&whole, name)?;
            draft.release(&request.object)?;
            whole.remove_volume(name)?;
            whole.commit(draft, &format!("lv-remove {vg}/{name}")).await?;
            draft.say(format!("The volume {vg}/{name} is no more."));
            draft.warn(format!(
                "What is on {vg}/{name} can be had back only until its extents are used again."
            ));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Change {
    read_only: Option<bool>,
    autoactivation: Option<bool>,
    activation_skip: Option<bool>,
    allocation: Option<String>,
    add_tags: Vec<String>,
    del_tags: Vec<String>,
}

impl Verb for LvChange {
    fn name(&self) -> &'static str {
        "lv-change"
    }
    fn about(&self) -> &'static str {
        "Change what a volume says of itself: who may write, whether it becomes active, tags."
    }
    fn kind(&self) -> Kind {
        Kind::Volume
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new("read_only", Type::Flag, "Whether nobody may write to it."),
            Opt::new("autoactivation", Type::Flag, "Whether it becomes active by itself."),
            Opt::new(
                "activation_skip",
                Type::Flag,
                "Whether it is left out when volumes become active.",
            ),
            Opt::new(
                "allocation",
                Type::Choice(&["normal", "contiguous", "cling", "anywhere"]),
                "How it gets more extents.",
            ),
            Opt::new("add_tags", Type::List, "Tags to give it."),
            Opt::new("del_tags", Type::List, "Tags to take from it."),
        ];
        OPTIONS
    }
    fn example(&self, _: &dyn Disks, _: &str) -> Map<String, Value> {
        Map::from_iter([("add_tags".to_owned(), Value::from(vec!["tag0"]))])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Change = request.options()?;
            let (vg, name) = split(&request.object)?;
            let mut whole = Whole::read(draft, vg).await?;
            let lv = plain(&whole, name)?.clone();
            let was = whole.tree.clone();
            let volume = whole.volume(name)?;
            if options.read_only.is_some_and(|on| on == lv.is_writable()) {
                // How it is said depends on whose the group is, which is for the commit to see to.
                flag(volume, "flags", WRITE_LOCKED, Some(false));
                flag(volume, "status", "WRITE", options.read_only.map(|on| !on));
            }
            flag(volume, "flags", "NOAUTOACTIVATE", options.autoactivation.map(|on| !on));
            flag(volume, "flags", "ACTIVATION_SKIP", options.activation_skip);
            tags(volume, &options.add_tags, &options.del_tags)?;
            if let Some(word) = &options.allocation {
                let known = Policy::named(word);
                known.ok_or_else(|| Refusal::new(Code::BadOption, format!("{word:?} is no allocation policy")))?;
                volume.set("allocation_policy", Data::Text(word.clone()));
            }
            if whole.tree == was {
                return Err(Refusal::new(Code::Nothing, "nothing would change"));
            }
            // To take away what hosts have, or the right to write to it, is for when they do not use it.
            let writable = lv.is_writable();
            let idle = options.activation_skip == Some(true) || options.autoactivation == Some(false);
            if idle || options.read_only.is_some_and(|on| on == writable) {
                draft.release(&request.object)?;
            }
            whole.commit(draft, &format!("lv-change {vg}/{name}")).await?;
            draft.say(format!("The volume {vg}/{name} is changed."));
            Ok(())
        })
    }
}
