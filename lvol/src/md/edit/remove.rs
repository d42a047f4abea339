//! `raid-remove`.
use super::{disks_of, find, wipe};
use crate::plan::{
    Code, Draft, Refusal, Request, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;

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
            let present = disks_of(draft, &group).await?;
            for disk in &options.disks {
                let name = draft.facts(disk)?.name.clone();
                let seat = group.members.iter().find(|seat| seat.disk.as_deref() == Some(&*name));
                if let Some(seat) = seat {
                    let why = format!("{name:?} has place {} of the array {:?}", seat.name, group.name);
                    return Err(Refusal::new(Code::InUse, why).but("`ashlar raid fail` gives it up first"));
                }
                let known = present.iter().find(|(member, _)| *member == name);
                let (_, device) = known.ok_or_else(|| {
                    let why = format!("{name:?} does not say that it belongs to the array {:?}", group.name);
                    Refusal::new(Code::NotFound, why)
                })?;
                wipe(draft, &name, device).await?;
                draft.say(format!("{name} belongs to the array {:?} no more.", group.name))
            }
            draft.barrier("wipe the superblocks");
            Ok(())
        })
    }
}
