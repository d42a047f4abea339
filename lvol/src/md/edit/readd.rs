//! `raid-readd`.
use super::{disks_of, find, write_superblock};
use crate::plan::{
    Code, Draft, Refusal, Request, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use spec::md::{
    assembly,
    superblock::Superblock,
    v1::{Features, Role},
};

/// The verb.
pub struct RaidReadd;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Readd {
    disks: Vec<String>,
}

impl Verb for RaidReadd {
    fn name(&self) -> &'static str {
        "raid-readd"
    }
    fn about(&self) -> &'static str {
        "Take members back that failed: only what they have missed is copied, as the write-intent bitmap has it. Those that went away come back by themselves."
    }
    fn kind(&self) -> Kind {
        Kind::Array
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::required(
            "disks",
            Type::Disks,
            "The members, with what they held when they failed.",
        )];
        OPTIONS
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Readd = request.options()?;
            let group = find(draft, &request.object)?;
            if options.disks.is_empty() {
                return Err(Refusal::new(Code::BadOption, "no disk is named"));
            }
            if options.disks.len() > 1 {
                draft.needs_intent()
            }
            let present = disks_of(draft, &group).await?;
            let seated = |disk: &str| group.members.iter().any(|seat| seat.disk.as_deref() == Some(disk));
            let best = present
                .iter()
                .filter(|(disk, _)| seated(disk))
                .map(|(_, device)| device)
                .max_by_key(|device| device.superblock.events())
                .ok_or_else(|| {
                    let why = format!("the array {:?} has no member that is in use", group.name);
                    Refusal::new(Code::Incomplete, why)
                })?
                .clone();
            let bitmap = best
                .bitmap
                .as_ref()
                .filter(|bitmap| bitmap.header.events >= best.superblock.events());
            for disk in &options.disks {
                let name = draft.facts(disk)?.name.clone();
                if seated(&name) {
                    let why = format!("{name:?} is a member of the array {:?} and in use", group.name);
                    return Err(Refusal::new(Code::InUse, why));
                }
                let known = present.iter().find(|(member, _)| *member == name);
                let device = known.map(|(_, device)| device).ok_or_else(|| {
                    Refusal::new(
                        Code::NotFound,
                        format!("{name:?} does not say that it belongs to the array {:?}", group.name),
                    )
                    .but("`raid-add` makes a member of it")
                })?;
                let too_old = |why: String| {
                    Refusal::new(
                        Code::Unsupported,
                        format!("{name:?} cannot be brought up to date: {why}"),
                    )
                    .but("`raid-add` with `force` makes a new member of it, which gets everything")
                };
                let Superblock::V1(own) = &device.superblock else {
                    return Err(too_old(format!(
                        "metadata {} has no word for a member that comes back",
                        device.version
                    )));
                };
                let Some(Role::Active(place)) = own.role() else {
                    return Err(too_old("it had no place when it was last written".into()));
                };
                if own.features.has(Features::RECOVERY) && !device.superblock.is_returning() {
                    return Err(too_old("it was being rebuilt when it failed".into()));
                }
                let shape =
                    |superblock: &Superblock| (superblock.size(), superblock.raid_disks(), superblock.bitmap_offset());
                if shape(&device.superblock) != shape(&best.superblock) {
                    return Err(too_old("the array has another shape by now".into()));
                }
                assembly::may_return(own.events, bitmap.map(|bitmap| &bitmap.header))
                    .map_err(|why| too_old(why.to_string()))?;
                if let Some(other) = group
                    .members
                    .get(usize::from(place))
                    .and_then(|seat| seat.disk.as_ref())
                {
                    let why = format!("{name:?} had place {place}, which {other:?} has now");
                    return Err(Refusal::new(Code::InUse, why).but("`raid-add` with `force` makes a spare of it"));
                }
                let mut new = device.superblock.clone();
                new.ask();
                if let Superblock::V1(new) = &new {
                    write_superblock(draft, &name, new).await?
                }
                draft.say(format!(
                    "{name} goes back to place {place} of the array {:?}, and gets what it has missed.",
                    group.name
                ))
            }
            draft.barrier("ask for their places");
            Ok(())
        })
    }
}
