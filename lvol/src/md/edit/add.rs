//! `raid-add`.
use super::{BITMAP, Division, FORCE, disks_of, divide, find, take, write_bitmap, write_partial, write_superblock};
use crate::{
    Verdict,
    md::assembly,
    plan::{
        Code, Disks, Draft, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::md::{
    Level, SECTOR,
    superblock::{Superblock, Version},
    v1::{Features, Minor, Role, Superblock as V1},
};
use std::collections::BTreeSet;

/// The verb.
pub struct RaidAdd;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Add {
    disks: Vec<String>,
    force: bool,
}

impl Verb for RaidAdd {
    fn name(&self) -> &'static str {
        "raid-add"
    }
    fn about(&self) -> &'static str {
        "Add spares to an array: one that lacks a member is rebuilt on the first of them at once. It may be in use."
    }
    fn kind(&self) -> Kind {
        Kind::Array
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::required("disks", Type::Disks, "The disks. What is on them is lost."),
            FORCE,
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let group = disks
            .groups()
            .into_iter()
            .find(|group| group.format == "md" && (group.name == object || assembly::disk(&group.name) == object));
        let seats = group.iter().flat_map(|group| &group.members);
        let like = seats
            .filter_map(|seat| Some((disks.facts(seat.disk.as_deref()?)?.block_size, seat.used, seat.start)))
            .max_by_key(|(_, used, _)| *used);
        let fits = |name: &String| {
            let (Some(facts), Some((block, used, _))) = (disks.facts(name), like) else {
                return false;
            };
            let room = Division::of(facts.bytes() / SECTOR, None).map_or(0, |division| division.room);
            facts.verdict == Verdict::New
                && facts.user.is_none()
                && !facts.read_only
                && facts.block_size == block
                && room >= used
                && used > 0
        };
        let disk = disks.names().into_iter().find(fits);
        Map::from_iter([("disks".to_owned(), Value::from(disk.into_iter().collect::<Vec<_>>()))])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Add = request.options()?;
            let group = find(draft, &request.object)?;
            if options.disks.is_empty() {
                return Err(Refusal::new(Code::BadOption, "no disk is named"));
            }
            let present = disks_of(draft, &group).await?;
            let mut known: Vec<V1> = Vec::new();
            let mut block = 0;
            for (disk, device) in &present {
                block = draft.facts(disk)?.block_size;
                match &device.superblock {
                    Superblock::V1(superblock) if device.version == Version::V1(Minor::V2) => {
                        known.push((**superblock).clone())
                    }
                    _ => {
                        let why = format!(
                            "the array {:?} has metadata {}; spares are added to those with 1.2",
                            group.name, device.version
                        );
                        return Err(Refusal::new(Code::Unsupported, why));
                    }
                }
            }
            let Some(best) = known.iter().max_by_key(|superblock| superblock.events).cloned() else {
                return Err(Refusal::new(
                    Code::Incomplete,
                    format!("the array {:?} has no member", group.name),
                ));
            };
            if best.level == Level::Raid0 || best.level == Level::Linear {
                return Err(Refusal::new(
                    Code::Unsupported,
                    format!("an array of {} has no use for spares", best.level),
                ));
            }
            let mut numbers: BTreeSet<u32> = known.iter().map(|superblock| superblock.number).collect();
            for disk in &options.disks {
                if present.iter().any(|(member, _)| member == disk) {
                    return Err(Refusal::new(
                        Code::InUse,
                        format!("{disk:?} belongs to the array {:?} already", group.name),
                    ));
                }
                let partial = best.ppl().map(|(_, sectors)| sectors);
                let (facts, division) = take(draft, disk, partial, options.force).await?;
                if facts.block_size != block {
                    let why = format!(
                        "{disk:?} has blocks of {} bytes, the members have {block}",
                        facts.block_size
                    );
                    return Err(Refusal::new(Code::BadOption, why));
                }
                if division.room < best.size {
                    let why = format!(
                        "{disk:?} has room for {} sectors, and each member gives {}",
                        division.room, best.size
                    );
                    return Err(Refusal::new(Code::NoSpace, why));
                }
                // Behind the first members if there is one: somebody who is away may come back with an old number.
                let free =
                    |number: &u32| !numbers.contains(number) && best.roles.get(*number as usize) == Some(&Role::Spare);
                let all = best.roles.len() as u32;
                let number = (best.raid_disks..all).chain(0..best.raid_disks.min(all)).find(free);
                let number = number.ok_or_else(|| {
                    Refusal::new(
                        Code::Unsupported,
                        format!("the array {:?} has no number left for another member", group.name),
                    )
                })?;
                numbers.insert(number);
                let mut new = best.clone();
                new.number = number;
                new.device = draft.uuid();
                new.flags = 0;
                new.corrected_reads = 0;
                new.recovery_offset = 0;
                new.features.set(Features::RECOVERY, false);
                new.features.set(Features::BAD_BLOCKS, false);
                let unit = u64::from(best.chunk.max(8));
                divide(&mut new, division, unit, best.level);
                if let Some(sectors) = partial {
                    new.set_ppl(BITMAP as i16, sectors, best.features.has(Features::MULTIPLE_PPLS));
                    write_partial(draft, &facts.name, new.array).await?;
                    draft.barrier("write the partial parity log");
                }
                if let Some(offset) = best.bitmap_offset() {
                    let at = new
                        .relative(offset.into())
                        .ok_or_else(|| Refusal::new(Code::Damaged, "its bitmap would lie before its start"))?;
                    if let Some(bitmap) = present.first().and_then(|(_, device)| device.bitmap.as_ref()) {
                        let mut header = bitmap.header.clone();
                        header.events = 0;
                        write_bitmap(draft, &facts.name, at, division, &header).await?
                    }
                    draft.barrier("write the bitmap");
                }
                write_superblock(draft, &facts.name, &new).await?;
                draft.barrier("write the superblock");
                draft.say(format!("{} becomes a spare of the array {:?}.", facts.name, group.name))
            }
            Ok(())
        })
    }
}
