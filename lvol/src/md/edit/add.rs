//! `raid-add`.
use super::{Division, FORCE, find, group_of, join::Joined, write_superblock};
use crate::{
    Verdict,
    plan::{
        Code, Disks, Draft, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::md::SECTOR;

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
        let group = group_of(disks, object);
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
            let mut array = Joined::new(draft, group).await?;
            draft.needs_intent();
            for disk in &options.disks {
                let (name, new) = array.prepare(draft, disk, options.force).await?;
                write_superblock(draft, &name, &new).await?;
                draft.barrier("write the superblock");
                draft.say(format!("{name} becomes a spare of the array {:?}.", array.group.name))
            }
            Ok(())
        })
    }
}
