//! `raid-replace`.
use super::{FORCE, find, join::Joined, write_superblock};
use crate::plan::{
    Code, Disks, Draft, Refusal, Request, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::md::{
    assembly,
    superblock::{Standing, Superblock},
    v1::{Features, Role},
};

/// The verb.
pub struct RaidReplace;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Replace {
    disk: String,
    with: String,
    force: bool,
}

impl Verb for RaidReplace {
    fn name(&self) -> &'static str {
        "raid-replace"
    }
    fn about(&self) -> &'static str {
        "Let another disk take the place of a member that still works: it is copied while both are in use, so that the array lacks nothing meanwhile. The member is given up when all is copied."
    }
    fn kind(&self) -> Kind {
        Kind::Array
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::required("disk", Type::Text, "The member."),
            Opt::required(
                "with",
                Type::Text,
                "A spare of the array, or another disk. What is on it is lost.",
            ),
            FORCE,
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let add = super::RaidAdd.example(disks, object);
        let with = add
            .get("disks")
            .and_then(|disks| disks.get(0))
            .cloned()
            .unwrap_or_default();
        let group = super::group_of(disks, object);
        let member = group.and_then(|group| group.members.iter().find_map(|seat| seat.disk.clone()));
        Map::from_iter([
            ("disk".to_owned(), Value::from(member.unwrap_or_default())),
            ("with".to_owned(), with),
        ])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Replace = request.options()?;
            let group = find(draft, &request.object)?;
            let mut array = Joined::new(draft, group).await?;
            draft.needs_intent();
            let (old, with) = (draft.facts(&options.disk)?.name.clone(), draft.facts(&options.with)?);
            let title = array.group.name.clone();
            let superblocks: Vec<&Superblock> = array.present.iter().map(|(_, device)| &device.superblock).collect();
            let damaged = |why: assembly::Refusal| Refusal::new(Code::Damaged, format!("{title:?}: {why}"));
            let found = assembly::assemble(&superblocks).map_err(damaged)?;
            let at = array.present.iter().position(|(member, _)| *member == old);
            let has = |seat: &Option<(usize, Standing)>| seat.is_some_and(|(who, _)| Some(who) == at);
            let Some(place) = found.places.iter().position(has) else {
                let why = format!("{old:?} has no place in the array {title:?}");
                return Err(Refusal::new(Code::NotFound, why).but("`ashlar raid show` lists its members"));
            };
            if found.places[place].is_none_or(|(_, standing)| standing != Standing::InSync) {
                let why = format!("{old:?} does not hold yet what it should: there is nothing to copy");
                return Err(
                    Refusal::new(Code::InUse, why).but("`ashlar raid fail` gives it up, and a spare takes its place")
                );
            }
            // There are at most as many as fit a superblock.
            let place = place as u16;
            if found.replacing.iter().any(|(_, other, _)| *other == place) {
                let why = format!("{old:?} is being replaced already");
                return Err(Refusal::new(Code::InUse, why));
            }
            let spare = found.spares.iter().find(|spare| array.present[**spare].0 == with.name);
            let (name, mut new) = match spare.map(|spare| &array.present[*spare]) {
                Some((name, device)) => {
                    let Superblock::V1(own) = &device.superblock else {
                        return Err(Refusal::new(Code::Unsupported, "metadata 0.90 has no word for it"));
                    };
                    if own.data_size < array.best.size {
                        let why = format!(
                            "{name:?} has room for {} sectors, and each member gives {}",
                            own.data_size, array.best.size
                        );
                        return Err(Refusal::new(Code::NoSpace, why));
                    }
                    let mut new = own.clone();
                    new.adopt(&array.best);
                    (name.clone(), *new)
                }
                None => array.prepare(draft, &with.name, options.force).await?,
            };
            let all = new.roles.len();
            let role = new.roles.get_mut(new.number as usize).ok_or_else(|| {
                let why = format!("{name:?} has number {} of {all}", new.number);
                Refusal::new(Code::Damaged, why)
            })?;
            *role = Role::Active(place);
            new.features.set(Features::REPLACEMENT, true);
            new.features.set(Features::RECOVERY, true);
            new.recovery_offset = 0;
            write_superblock(draft, &name, &new).await?;
            draft.barrier("write the superblock");
            draft.say(format!(
                "{name} replaces {old}, which has place {place} of the array {title:?}, when all is copied."
            ));
            Ok(())
        })
    }
}
