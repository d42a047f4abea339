//! Logical volumes renamed, removed and changed: what does not move an extent.
use super::{
    super::{
        super::{space::Policy, whole::Whole},
        flag, fresh, tags, volume_name,
    },
    plain, split,
};
use crate::plan::{
    Code, Disks, Draft, Refusal, Request, Undo, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{text::Data, vg::WRITE_LOCKED};

/// `lv-rename`.
pub struct LvRename;
/// `lv-remove`.
pub struct LvRemove;
/// `lv-change`.
pub struct LvChange;

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
