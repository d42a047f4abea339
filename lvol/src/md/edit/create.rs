//! `raid-create`.
use super::{BITMAP, Division, FORCE, PARTIAL, ROLES, divide, take, write_bitmap, write_partial, write_superblock};
use crate::{
    Verdict,
    lvm2::edit::size::{self, Amount, Sign},
    md::assembly,
    plan::{
        Code, Disks, Draft, Facts, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use bdev::raid::Shape;
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::md::{
    Level, SECTOR,
    bitmap::Header,
    parity, raid10,
    v1::{Features, Role, Superblock as V1, Time},
};
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

/// Least and most bytes of a chunk.
const CHUNK: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

const LEVELS: &[&str] = &["raid0", "raid1", "raid4", "raid5", "raid6", "raid10"];

/// The verb.
pub struct RaidCreate;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Create {
    disks: Vec<String>,
    level: String,
    layout: Option<String>,
    chunk: Option<Value>,
    spares: Vec<String>,
    no_bitmap: bool,
    ppl: bool,
    clean: bool,
    uuid: Option<Uuid>,
    force: bool,
}

/// A level and its layout as MD has them.
fn layout(level: &str, name: Option<&str>) -> Result<(Level, u32), Refusal> {
    let unknown = |names: &str| {
        let why = format!("{level} has no layout {:?}", name.unwrap_or_default());
        Err(Refusal::new(Code::BadOption, why).but(format!("it may be {names}")))
    };
    let parity = |level: Level| {
        let Some(name) = name else { return Ok((level, 2)) };
        let known = (0..=20)
            .find(|number| parity::Layout::from_number(level, *number).is_ok_and(|layout| layout.name() == name));
        match known {
            Some(number) => Ok((level, number)),
            None => unknown(
                "left-symmetric, left-asymmetric, right-symmetric, right-asymmetric, parity-first or parity-last, and for raid6 ddf-zero-restart and others",
            ),
        }
    };
    match level {
        "raid0" if name.is_none() => Ok((Level::Raid0, 2)),
        "raid1" if name.is_none() => Ok((Level::Raid1, 0)),
        "raid4" if name.is_none() => Ok((Level::Raid4, 0)),
        "raid0" | "raid1" | "raid4" => unknown("left out"),
        "raid5" => parity(Level::Raid5),
        "raid6" => parity(Level::Raid6),
        "raid10" => {
            let (kind, copies) = name.unwrap_or("n2").split_at_checked(1).unwrap_or_default();
            let copies: u8 = copies.parse().unwrap_or(0);
            let (near, far, offset) = match kind {
                "n" => (copies, 1, false),
                "f" => (1, copies, false),
                "o" => (1, copies, true),
                _ => (0, 0, false),
            };
            match copies {
                1..=16 if near > 0 => Ok((Level::Raid10, raid10::Layout { near, far, offset }.number())),
                _ => unknown("n2, f2, o2 and the like: near, far and offset copies"),
            }
        }
        _ => {
            let why = format!("{level:?} is no level");
            Err(Refusal::new(Code::BadOption, why).but(format!("it may be {}", LEVELS.join(", "))))
        }
    }
}

fn name(name: &str) -> Result<&str, Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte);
    match !name.is_empty() && name.len() <= 32 && name.bytes().all(plain) && !name.starts_with(['-', '.']) {
        true => Ok(name),
        false => Err(Refusal::new(Code::BadName, format!("{name:?} is no name for an array"))
            .but("letters, digits and + _ . - make one, at most 32 of them")),
    }
}

impl Verb for RaidCreate {
    fn name(&self) -> &'static str {
        "raid-create"
    }
    fn about(&self) -> &'static str {
        "Make an array of disks, as mdadm --create does: it is the disk md/NAME. Members are made alike in the background."
    }
    fn kind(&self) -> Kind {
        Kind::Name
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::required("disks", Type::Disks, "The members, in order. What is on them is lost."),
            Opt::required("level", Type::Choice(LEVELS), "What the array does with them."),
            Opt::new(
                "layout",
                Type::Text,
                "mdadm's name for how: left-symmetric (raid5, raid6) or n2 (raid10) if nothing is said.",
            ),
            Opt::new(
                "chunk",
                Type::Size,
                "Bytes in a chunk, a power of two: 512 KiB if nothing is said.",
            ),
            Opt::new(
                "spares",
                Type::Disks,
                "Disks that take the places of members that fail.",
            ),
            Opt::new(
                "no_bitmap",
                Type::Flag,
                "No write-intent bitmap: after a crash all of the array is compared.",
            ),
            Opt::new(
                "ppl",
                Type::Flag,
                "A partial parity log in place of the bitmap (raid5): a power cut does no harm while a member is missing.",
            ),
            Opt::new(
                "clean",
                Type::Flag,
                "The disks hold nothing but zeros, or nobody cares: members are taken to be alike.",
            ),
            Opt::new(
                "uuid",
                Type::Text,
                "The identity of the array: a new one if nothing is said.",
            ),
            FORCE,
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        let free = |name: &String| {
            let facts = disks.facts(name)?;
            let usable = facts.verdict == Verdict::New && facts.user.is_none() && !facts.read_only;
            (usable && Division::of(facts.bytes() / SECTOR, None).is_some()).then_some(facts.block_size)
        };
        let mut all: Vec<(u32, String)> = disks
            .names()
            .into_iter()
            .filter_map(|name| Some((free(&name)?, name)))
            .collect();
        all.sort();
        let pair = all.windows(2).find(|pair| pair[0].0 == pair[1].0);
        let names: Vec<String> = pair.into_iter().flatten().map(|(_, name)| name.clone()).collect();
        Map::from_iter([
            ("disks".to_owned(), Value::from(names)),
            ("level".to_owned(), Value::from("raid1")),
            ("clean".to_owned(), Value::from(true)),
        ])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(create(draft, request))
    }
}

async fn create(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Create = request.options()?;
    let title = name(&request.object)?;
    let disk = assembly::disk(title);
    let taken = draft
        .disks
        .groups()
        .iter()
        .any(|group| group.format == "md" && group.name == title);
    if taken || draft.disks.facts(&disk).is_some() {
        return Err(Refusal::new(
            Code::BadName,
            format!("there is an array {title:?} already"),
        ));
    }
    let (level, layout) = layout(&options.level, options.layout.as_deref())?;
    let count = options.disks.len();
    let least = match level {
        Level::Raid6 => 4,
        Level::Raid4 | Level::Raid5 => 3,
        _ => 2,
    };
    if count < least {
        let why = format!("{level} takes at least {least} disks, and {count} are named");
        return Err(Refusal::new(Code::BadOption, why));
    }
    if count + options.spares.len() > ROLES {
        return Err(Refusal::new(
            Code::BadOption,
            format!("an array has at most {ROLES} members and spares"),
        ));
    }
    if level == Level::Raid0 && !options.spares.is_empty() {
        return Err(Refusal::new(
            Code::BadOption,
            "raid0 has no use for spares: it cannot do without any member",
        ));
    }
    if options.ppl && level != Level::Raid5 {
        return Err(Refusal::new(
            Code::BadOption,
            "a partial parity log is for raid5; raid4 and raid6 keep a log by themselves while a member is missing",
        ));
    }
    let chunk = match options.chunk.as_ref().map(size::size).transpose()? {
        None => 512 << 10,
        Some((Sign::To, Amount::Bytes(bytes))) if bytes.is_power_of_two() && CHUNK.contains(&bytes) => bytes,
        Some(_) => {
            return Err(Refusal::new(
                Code::BadOption,
                "a chunk is a power of two from 4 KiB to 1 GiB",
            ));
        }
    };
    let chunked = level != Level::Raid1;
    let mut members: Vec<(Arc<Facts>, Division)> = Vec::new();
    let mut seen = BTreeSet::new();
    for disk in options.disks.iter().chain(&options.spares) {
        let (facts, division) = take(draft, disk, options.ppl.then_some(PARTIAL), options.force).await?;
        if !seen.insert(facts.name.clone()) {
            return Err(Refusal::new(Code::BadOption, format!("{disk:?} is named twice")));
        }
        if facts.block_size != members.first().map_or(facts.block_size, |(first, _)| first.block_size) {
            let why = format!("{disk:?} has blocks of {} bytes, and others have not", facts.block_size);
            return Err(Refusal::new(Code::BadOption, why));
        }
        members.push((facts, division))
    }
    let unit = if chunked { chunk / SECTOR } else { 8 };
    let shortest = members.iter().map(|(_, division)| division.room).min().unwrap_or(0);
    let used = shortest / unit * unit;
    // In sectors, as everything here: the arithmetic is the same.
    let places = match level {
        Level::Raid0 => None,
        Level::Raid1 => Some(Shape::Raid1),
        Level::Raid4 => Some(Shape::Raid4 { chunk: unit as u32 }),
        Level::Raid5 => Some(Shape::Raid5 {
            layout,
            chunk: unit as u32,
        }),
        Level::Raid6 => Some(Shape::Raid6 {
            layout,
            chunk: unit as u32,
        }),
        _ => Some(Shape::Raid10 {
            layout,
            chunk: unit as u32,
        }),
    };
    let bad = |why: String| Refusal::new(Code::BadOption, why);
    let places = places.map(|shape| shape.places(count, used)).transpose().map_err(bad)?;
    if used == 0 {
        return Err(Refusal::new(Code::NoSpace, "the disks have no room for a chunk"));
    }
    let array = match options.uuid {
        Some(uuid) if draft.disks.groups().iter().any(|group| group.id == uuid.to_string()) => {
            let why = format!("there is an array with the identity {uuid} already");
            return Err(Refusal::new(Code::BadOption, why));
        }
        Some(uuid) => uuid,
        None => draft.uuid(),
    };
    let stamp = draft.stamp().clone();
    let mut new = V1::new(array, level);
    new.set_name(Some(stamp.host.trim()), title)
        .ok_or_else(|| Refusal::new(Code::BadName, format!("{title:?} is too long")))?;
    new.ctime = Time::from_seconds(stamp.time);
    new.utime = new.ctime;
    new.layout = layout;
    new.chunk = if chunked { unit as u32 } else { 0 };
    // At most ROLES.
    new.raid_disks = count as u32;
    new.size = if level == Level::Raid0 { 0 } else { used };
    new.features.set(Features::RAID0_LAYOUT, level == Level::Raid0);
    new.events = 1;
    let clean = options.clean || level == Level::Raid0;
    new.resync_offset = if clean { u64::MAX } else { 0 };
    new.roles = (0..ROLES)
        .map(|number| {
            if number < count {
                Role::Active(number as u16)
            } else {
                Role::Spare
            }
        })
        .collect();
    let span = places
        .filter(|_| !options.no_bitmap && !options.ppl)
        .map(|places| places.span());
    new.set_bitmap_offset(span.map(|_| BITMAP as i32));
    if options.ppl {
        new.set_ppl(BITMAP as i16, PARTIAL, true)
    }
    draft.needs_intent();
    for (facts, division) in &members {
        if options.ppl {
            write_partial(draft, &facts.name, array).await?
        }
        if let Some(span) = span {
            let unit = division.unit(span);
            let mut header = Header::new(array, span, unit, division.bitmap as u32);
            // One that is older than the superblock counts for nothing: all is compared.
            header.events = u64::from(clean);
            let at = u64::from(BITMAP) + 8;
            write_bitmap(draft, &facts.name, at, *division, &header).await?;
        }
    }
    draft.barrier(if options.ppl {
        "write the partial parity logs"
    } else {
        "write the bitmaps"
    });
    for (number, (facts, division)) in members.iter().enumerate() {
        new.number = number as u32;
        new.device = draft.uuid();
        divide(&mut new, *division, unit, level);
        write_superblock(draft, &facts.name, &new).await?
    }
    draft.barrier("write the superblocks");
    let bytes = places.map_or_else(
        || {
            members
                .iter()
                .map(|(_, division)| division.room / unit * unit)
                .sum::<u64>()
        },
        |places| places.blocks(),
    ) * SECTOR;
    let names: Vec<&str> = members.iter().map(|(facts, _)| facts.name.as_str()).collect();
    draft.say(format!(
        "{} become {disk}, an array of {level} with {bytes} bytes ({array}).",
        names.join(", ")
    ));
    Ok(())
}
