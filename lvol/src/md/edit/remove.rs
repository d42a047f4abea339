//! `raid-remove`.
use super::{disks_of, find, wipe};
use crate::plan::{
    Code, Draft, Refusal, Request, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use spec::md::{assembly, superblock::Superblock};

/// The verb.
pub struct RaidRemove;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Remove {
    disks: Vec<String>,
}

impl Verb for RaidRemove {
    fn name(&self) -> &'static str {
        "raid-remove"
    }
    fn about(&self) -> &'static str {
        "Take disks out of an array that have no place in it: spares, and members that failed. They are free again. It may be in use."
    }
    fn kind(&self) -> Kind {
        Kind::Array
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::required(
            "disks",
            Type::Disks,
            "The disks. What says that they belong to the array is wiped.",
        )];
        OPTIONS
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Remove = request.options()?;
            let group = find(draft, &request.object)?;
            if options.disks.is_empty() {
                return Err(Refusal::new(Code::BadOption, "no disk is named"));
            }
            draft.needs_intent();
            let present = disks_of(draft, &group).await?;
            // By what they say now: one may have been given up a moment ago.
            let superblocks: Vec<&Superblock> = present.iter().map(|(_, device)| &device.superblock).collect();
            let damaged = |why: assembly::Refusal| Refusal::new(Code::Damaged, format!("{:?}: {why}", group.name));
            let found = assembly::assemble(&superblocks).map_err(damaged)?;
            for disk in &options.disks {
                let name = draft.facts(disk)?.name.clone();
                let known = present.iter().position(|(member, _)| *member == name);
                let (at, device) = known.map(|at| (at, &present[at].1)).ok_or_else(|| {
                    let why = format!("{name:?} does not say that it belongs to the array {:?}", group.name);
                    Refusal::new(Code::NotFound, why)
                })?;
                let has = |seat: &Option<(usize, _)>| seat.as_ref().is_some_and(|(who, _)| *who == at);
                let behind = found.replacing.iter().find(|(who, ..)| *who == at);
                let why = match (found.places.iter().position(has), behind) {
                    (Some(place), _) => Some(format!("{name:?} has place {place} of the array {:?}", group.name)),
                    (None, Some((_, place, _))) => Some(format!(
                        "{name:?} replaces member {place} of the array {:?}",
                        group.name
                    )),
                    (None, None) => None,
                };
                if let Some(why) = why {
                    return Err(Refusal::new(Code::InUse, why).but("`ashlar raid fail` gives it up first"));
                }
                wipe(draft, &name, device).await?;
                draft.say(format!("{name} belongs to the array {:?} no more.", group.name))
            }
            draft.barrier("wipe the superblocks");
            Ok(())
        })
    }
}
