//! What concerns two groups, or two times of one: split, merge, restore.
//!
//! Two groups have no commit in common, so a split or a merge is also written down as an intent. Without it, too, no crash leaves a volume twice:
//! as LVM2 does, the group that is to go, or to come, is marked as exported while both texts list the same members, and an exported group is
//! nobody's.
use super::{
    super::whole::{Whole, find},
    flag, name,
    vg::volumes_on,
};
use crate::plan::{
    Code, Disks, Draft, Guess, Refusal, Request, Undo, Verb,
    verb::{Kind, Opt, Planning, Type},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{
    text::{Data, Section},
    vg::{LogicalVolume, Shape, VolumeGroup},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// `vg-split`.
pub struct VgSplit;
/// `vg-merge`.
pub struct VgMerge;
/// `vg-restore`.
pub struct VgRestore;

fn export(whole: &mut Whole, is: bool) -> Result<(), Refusal> {
    flag(whole.group()?, "status", "EXPORTED", Some(is));
    whole.refresh()
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Split {
    name: String,
    disks: Vec<String>,
}

impl Verb for VgSplit {
    fn name(&self) -> &'static str {
        "vg-split"
    }
    fn about(&self) -> &'static str {
        "Make a new volume group of some members of one, with the volumes on them."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::required("name", Type::Text, "The new group."),
            Opt::required(
                "disks",
                Type::Disks,
                "Its members. A volume must be on them whole, or not at all.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let groups = disks.groups();
        let free = super::fresh("vg", |name| groups.iter().any(|group| group.name == name));
        let group = groups.iter().find(|group| group.name == object);
        let seats = group.map(|group| group.members.as_slice()).unwrap_or_default();
        let one: Vec<Value> = seats
            .iter()
            .rev()
            .find_map(|seat| seat.disk.clone())
            .into_iter()
            .map(Value::from)
            .collect();
        Map::from_iter([("name".to_owned(), free.into()), ("disks".to_owned(), one.into())])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Split = request.options()?;
            let to = name(&options.name)?;
            if find(draft, to).is_ok() {
                return Err(Refusal::new(
                    Code::BadName,
                    format!("there is a volume group {to:?} already"),
                ));
            }
            let mut old = Whole::read(draft, &request.object).await?;
            super::vg::resizeable(&old)?;
            let from = old.vg.name.clone();
            let mut going: BTreeSet<String> = BTreeSet::new();
            for disk in &options.disks {
                let disk = draft.facts(disk)?.name.clone();
                let word = old.on(&disk).and_then(|pv| old.word(pv.label.id)).map(str::to_owned);
                going.insert(word.ok_or_else(|| {
                    Refusal::new(
                        Code::NotFound,
                        format!("{disk:?} is no member of the volume group {from:?}"),
                    )
                })?);
            }
            if going.is_empty() || going.len() == old.pvs.len() {
                let why = "a split leaves at least one member in either group";
                return Err(Refusal::new(Code::BadOption, why));
            }
            let volumes = divided(&old.vg, &going)?;
            for volume in old
                .seen
                .volumes
                .iter()
                .filter(|volume| volumes.contains(&volume.what.name))
            {
                draft.release(&volume.disk)?;
            }
            let mut new = Whole::new(to, draft.lvm2_id(), old.vg.extent_size)?;
            new.own(old.vg.system_id.clone().as_deref())?;
            // The sections go over as they are, unknown fields and all.
            for word in &going {
                let (section, id) = {
                    let physical = super::super::whole::section(old.group()?, "physical_volumes")?;
                    let section = physical.section(word).cloned().unwrap_or_default();
                    (
                        section,
                        old.vg.physical.iter().find(|pv| pv.name == *word).map(|pv| pv.id),
                    )
                };
                super::super::whole::section(new.group()?, "physical_volumes")?.add(word, section);
                let disk = old
                    .pvs
                    .iter()
                    .find(|pv| Some(pv.label.id) == id)
                    .map(|pv| pv.disk.name.clone());
                old.leave(&disk.unwrap_or_default())?;
            }
            for name in &volumes {
                let section = old.volumes()?.section(name).cloned().unwrap_or_default();
                new.volumes()?.add(name, section);
                old.volumes()?.remove(name);
            }
            old.refresh()?;
            new.refresh()?;
            new.pvs = old.let_go();
            draft.needs_intent();
            export(&mut new, true)?;
            new.commit(draft, &format!("vg-split {from} {to}")).await?;
            old.commit(draft, &format!("vg-split {from} {to}")).await?;
            export(&mut new, false)?;
            new.forget_text();
            new.commit(draft, &format!("vg-split {from} {to}")).await?;
            draft.say(format!(
                "The volume group {to} is split from {from}: {}.",
                options.disks.join(", ")
            ));
            draft.undo(Undo::Request(Request::new("vg-merge", &from).with("group", to)));
            Ok(())
        })
    }
}

/// The volumes that are on `going`, all of whose extents must be there, and every part of such a volume.
fn divided(vg: &VolumeGroup, going: &BTreeSet<String>) -> Result<BTreeSet<String>, Refusal> {
    // Volumes that are made of each other go together.
    let mut together: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (part, whole) in vg.parts() {
        together.entry(part).or_default().insert(whole);
        together.entry(whole).or_default().insert(part);
    }
    let (mut moved, mut todo) = (BTreeSet::new(), Vec::new());
    for word in going {
        todo.extend(volumes_on(vg, word));
    }
    while let Some(name) = todo.pop() {
        if moved.insert(name.to_owned()) {
            todo.extend(together.get(name).into_iter().flatten());
        }
    }
    for lv in vg.logical.iter().filter(|lv| moved.contains(&lv.name)) {
        for segment in &lv.segments {
            let on: Vec<&str> = match &segment.shape {
                Shape::Striped { stripes, .. } => stripes.iter().map(|stripe| stripe.on.as_str()).collect(),
                Shape::Other { mentions, .. } => mentions.iter().map(String::as_str).collect(),
            };
            let stays = on
                .iter()
                .find(|word| vg.physical.iter().any(|pv| pv.name == **word) && !going.contains(**word));
            if let Some(word) = stays {
                let why = format!("the volume {:?} is on {word} too, which stays", lv.name);
                return Err(Refusal::new(Code::InUse, why).but("a volume goes whole, or stays whole"));
            }
        }
    }
    Ok(moved)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    group: String,
}

impl Verb for VgMerge {
    fn name(&self) -> &'static str {
        "vg-merge"
    }
    fn about(&self) -> &'static str {
        "Take all members and volumes of another group into this one; the other is no more."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::required(
            "group",
            Type::Text,
            "The group that is taken in. None of its volumes may be in use.",
        )];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let groups = disks.groups();
        let other = groups
            .iter()
            .find(|group| group.name != object && group.format == "lvm2");
        let name = other.map(|group| group.name.clone()).unwrap_or_default();
        Map::from_iter([("group".to_owned(), name.into())])
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let groups = disks.groups().into_iter();
        let others = groups.filter(|group| group.name != object && group.format == "lvm2");
        vec![Guess::among("group", others.map(|group| group.name))]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Merge = request.options()?;
            let mut into = Whole::read(draft, &request.object).await?;
            let mut from = Whole::read(draft, &options.group).await?;
            let (a, b) = (into.vg.name.clone(), from.vg.name.clone());
            if into.vg.id == from.vg.id {
                return Err(Refusal::new(Code::BadOption, format!("{a:?} is one group already")));
            }
            if into.vg.extent_size != from.vg.extent_size {
                let why = format!("the extents of {a:?} and {b:?} differ in size");
                return Err(Refusal::new(Code::Unsupported, why));
            }
            if let Some(lv) = from
                .vg
                .logical
                .iter()
                .find(|lv| into.vg.logical.iter().any(|other| other.name == lv.name))
            {
                let why = format!("both groups have a volume {:?}", lv.name);
                return Err(Refusal::new(Code::BadName, why).but("`lv-rename` gives one another name"));
            }
            for volume in &from.seen.volumes {
                draft.release(&volume.disk)?;
            }
            draft.needs_intent();
            export(&mut from, true)?;
            from.commit(draft, &format!("vg-merge {a} {b}")).await?;
            let words = reworded(&into.vg, &from.vg);
            for pv in &from.vg.physical {
                let section = from
                    .tree
                    .section(&b)
                    .and_then(|group| group.section("physical_volumes"));
                let section = section
                    .and_then(|all| all.section(&pv.name))
                    .cloned()
                    .unwrap_or_default();
                let word = words.get(&pv.name).unwrap_or(&pv.name);
                super::super::whole::section(into.group()?, "physical_volumes")?.add(word, section);
            }
            for lv in &from.vg.logical {
                let section = from.tree.section(&b).and_then(|group| group.section("logical_volumes"));
                let mut section = section
                    .and_then(|all| all.section(&lv.name))
                    .cloned()
                    .unwrap_or_default();
                rename_stripes(&mut section, &words);
                into.volumes()?.add(&lv.name, section);
            }
            let members = std::mem::take(&mut from.pvs);
            into.pvs.extend(members);
            into.refresh()?;
            into.commit(draft, &format!("vg-merge {a} {b}")).await?;
            draft.say(format!("The volume group {b} is merged into {a}."));
            draft.undo(Undo::No("has merged two groups; `vg-split` parts them".into()));
            Ok(())
        })
    }
}

/// A free word in `into` for each physical volume of `from`.
fn reworded(into: &VolumeGroup, from: &VolumeGroup) -> BTreeMap<String, String> {
    let mut used: BTreeSet<String> = into.physical.iter().map(|pv| pv.name.clone()).collect();
    // A word that is a volume's name in the text that comes would be taken for it.
    used.extend(into.logical.iter().chain(&from.logical).map(|lv| lv.name.clone()));
    let mut words = BTreeMap::new();
    for pv in &from.physical {
        let word = super::fresh("pv", |word| used.contains(word));
        used.insert(word.clone());
        words.insert(pv.name.clone(), word);
    }
    words
}

/// Segments of type `striped` name physical volumes; those of other types name volumes, which keep their names.
fn rename_stripes(volume: &mut Section, words: &BTreeMap<String, String>) {
    let names: Vec<String> = volume.items().iter().map(|item| item.name().into_owned()).collect();
    for name in names.iter().filter(|name| name.starts_with("segment")) {
        let Some(segment) = volume.get_mut(name).and_then(|item| item.section_mut()) else {
            continue;
        };
        let Some(stripes) = segment.value("stripes").map(|value| value.list().to_vec()) else {
            continue;
        };
        let renamed = stripes.into_iter().map(|data| match data {
            Data::Text(on) => Data::Text(words.get(&on).cloned().unwrap_or(on)),
            other => other,
        });
        segment.set("stripes", Data::List(renamed.collect()));
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Restore {
    change: u64,
    group: Option<String>,
}

impl Verb for VgRestore {
    fn name(&self) -> &'static str {
        "vg-restore"
    }
    fn about(&self) -> &'static str {
        "Make an archived text of a volume group count again, as its next change. Its members must be the same."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::required(
                "change",
                Type::Number,
                "The number of the change that the text is of; `ashlar vg archive` lists them.",
            ),
            Opt::new(
                "group",
                Type::Text,
                "The name that the group had then, if it was another.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let last = disks.archive(object).last().copied();
        last.map(|change| ("change".to_owned(), change.into()))
            .into_iter()
            .collect()
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        vec![Guess::among("change", disks.archive(object))]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Restore = request.options()?;
            let mut whole = Whole::read(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            let then = options.group.as_deref().unwrap_or(&vg);
            let text = draft.disks.archived(then, options.change);
            let text = text.ok_or_else(|| {
                Refusal::new(
                    Code::NotFound,
                    format!(
                        "no text of the volume group {then:?} at change {} is archived",
                        options.change
                    ),
                )
            })?;
            let damaged = |why: String| Refusal::new(Code::Damaged, format!("the archived text cannot be used: {why}"));
            let tree = Section::parse(&text).map_err(|why| damaged(why.to_string()))?;
            let old = VolumeGroup::of(&tree).map_err(|why| damaged(why.to_string()))?;
            if old.id != whole.vg.id {
                return Err(Refusal::new(
                    Code::Foreign,
                    format!("the archived text is of another group, {}", old.id),
                ));
            }
            let ids = |vg: &VolumeGroup| vg.physical.iter().map(|pv| pv.id).collect::<BTreeSet<_>>();
            if ids(&old) != ids(&whole.vg) {
                let why = format!("the members of {vg:?} were others at change {}", options.change);
                return Err(
                    Refusal::new(Code::Incomplete, why).but("`vg-extend` and `vg-reduce` make them the same first")
                );
            }
            for volume in &whole.seen.volumes {
                let same = |lv: &&Arc<LogicalVolume>| lv.name == volume.what.name;
                let (was, is) = (old.logical.iter().find(same), whole.vg.logical.iter().find(same));
                // One that only grows, or stays as it is, may be in use.
                if was != is || old.name != vg {
                    draft.release(&volume.disk)?;
                }
            }
            let seqno = whole.vg.seqno;
            whole.become_again(tree, old);
            whole.group()?.set("seqno", Data::Integer(seqno as i64));
            whole.refresh()?;
            whole
                .commit(draft, &format!("vg-restore {vg} to change {}", options.change))
                .await?;
            draft.say(format!(
                "The volume group {vg} is as it was at change {}.",
                options.change
            ));
            Ok(())
        })
    }
}
