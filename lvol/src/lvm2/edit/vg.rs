//! Volume groups: made, extended, reduced, renamed, removed, changed.
use super::{
    super::whole::{Whole, find},
    flag, fresh, name, recruits,
    size::{self, Amount, Sign},
    tags,
};
use crate::{
    GroupState, Verdict,
    plan::{
        Code, Disks, Draft, Guess, Refusal, Request, Undo, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{
    SECTOR,
    vg::{Shape, VolumeGroup, has},
};

/// Bytes in an extent unless told otherwise.
const EXTENT: u64 = 4 << 20;

/// `vg-create`.
pub struct VgCreate;
/// `vg-extend`.
pub struct VgExtend;
/// `vg-reduce`.
pub struct VgReduce;
/// `vg-rename`.
pub struct VgRename;
/// `vg-remove`.
pub struct VgRemove;
/// `vg-change`.
pub struct VgChange;

/// A disk that could become a member.
fn blank(disks: &dyn Disks) -> Option<String> {
    let free = |name: &String| {
        disks.facts(name).is_some_and(|facts| {
            facts.verdict == Verdict::New && facts.user.is_none() && !facts.read_only && facts.bytes() > 8 << 20
        })
    };
    disks.names().into_iter().find(free)
}

/// Whether disks may join and leave (`vgchange -x`). LVM2 asks where it extends, reduces and splits, and not where it merges.
pub(super) fn resizeable(whole: &Whole) -> Result<(), Refusal> {
    match has(&whole.vg.status, "RESIZEABLE") {
        true => Ok(()),
        false => Err(Refusal::new(
            Code::Unsupported,
            format!("the volume group {:?} is not resizeable", whole.vg.name),
        )
        .but("`vg-change` with `resizeable` lets disks join and leave again")),
    }
}

/// Everything that stands on the extents of this physical volume.
pub(super) fn volumes_on<'a>(vg: &'a VolumeGroup, word: &str) -> Vec<&'a str> {
    let on = |segment: &spec::lvm2::vg::Segment| match &segment.shape {
        Shape::Striped { stripes, .. } => stripes.iter().any(|stripe| stripe.on == word),
        Shape::Other { mentions, .. } => mentions.contains(word),
    };
    let found = vg.logical.iter().filter(|lv| lv.segments.iter().any(on));
    found.map(|lv| lv.name.as_str()).collect()
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Create {
    disks: Vec<String>,
    extent_size: Option<Value>,
    tags: Vec<String>,
    force: bool,
}

impl Verb for VgCreate {
    fn name(&self) -> &'static str {
        "vg-create"
    }
    fn about(&self) -> &'static str {
        "Make a volume group of disks; blank ones become physical volumes."
    }
    fn kind(&self) -> Kind {
        Kind::Name
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::required("disks", Type::Disks, "Its first members."),
            Opt::new("extent_size", Type::Size, "What space is counted in; 4 MiB without it."),
            Opt::new("tags", Type::List, "Tags to give it."),
            Opt::new("force", Type::Flag, "Wipe what is on disks that are not blank."),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        let disks: Vec<Value> = blank(disks).into_iter().map(Value::from).collect();
        Map::from_iter([("disks".to_owned(), disks.into())])
    }
    fn guesses(&self, _: &dyn Disks, _: &str) -> Vec<Guess> {
        vec![Guess::range("extent_size", 128 << 10, 16 << 30, 128 << 10).or(EXTENT)]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Create = request.options()?;
            let vg = name(&request.object)?;
            if options.disks.is_empty() {
                return Err(Refusal::new(Code::BadOption, "a volume group has at least one member"));
            }
            let extent = match options.extent_size.as_ref().map(size::size).transpose()? {
                None => EXTENT,
                Some((Sign::To, Amount::Bytes(bytes))) => bytes,
                Some(_) => return Err(Refusal::new(Code::BadOption, "an extent size has no sign in front")),
            };
            // As LVM2: a power of two of at least one sector, or a multiple of 128 KiB.
            if extent < 1024 || !(extent.is_power_of_two() || extent.is_multiple_of(128 << 10)) || extent > 16 << 30 {
                let why = format!("an extent of {extent} bytes");
                return Err(Refusal::new(Code::BadOption, why)
                    .but("a power of two from 1 KiB on, or a multiple of 128 KiB, up to 16 GiB"));
            }
            // Its identity follows from its members, too: one of this name may have been made of others before, and have another name since.
            let members = recruits(draft, &options.disks, options.force).await?;
            let mut whole = Whole::new(vg, draft.lvm2_id(), extent / SECTOR)?;
            whole.own(draft.disks.lvm2().system_id.as_deref())?;
            for pv in members {
                if !extent.is_multiple_of(pv.disk.block_size.into()) {
                    let why = format!(
                        "an extent of {extent} bytes does not fall on the blocks of {:?}",
                        pv.disk.name
                    );
                    return Err(Refusal::new(Code::BadOption, why));
                }
                whole.join(pv)?;
            }
            tags(whole.group()?, &options.tags, &[])?;
            whole.commit(draft, &format!("vg-create {vg}")).await?;
            let extents: u64 = whole.vg.physical.iter().map(|pv| pv.pe_count).sum();
            draft.say(format!(
                "The volume group {vg} is made of {}: {extents} extents of {extent} bytes.",
                options.disks.join(", ")
            ));
            draft.undo(Undo::Request(Request::new("vg-remove", vg)));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extend {
    disks: Vec<String>,
    force: bool,
}

impl Verb for VgExtend {
    fn name(&self) -> &'static str {
        "vg-extend"
    }
    fn about(&self) -> &'static str {
        "Take more disks into a volume group; blank ones become physical volumes."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::required("disks", Type::Disks, "The new members."),
            Opt::new("force", Type::Flag, "Wipe what is on disks that are not blank."),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        let disks: Vec<Value> = blank(disks).into_iter().map(Value::from).collect();
        Map::from_iter([("disks".to_owned(), disks.into())])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Extend = request.options()?;
            if options.disks.is_empty() {
                return Err(Refusal::new(Code::BadOption, "no disk is named"));
            }
            let mut whole = Whole::read(draft, &request.object).await?;
            resizeable(&whole)?;
            for pv in recruits(draft, &options.disks, options.force).await? {
                whole.join(pv)?;
            }
            let vg = whole.vg.name.clone();
            whole.commit(draft, &format!("vg-extend {vg}")).await?;
            draft.say(format!("{} joins the volume group {vg}.", options.disks.join(", ")));
            let disks: Vec<Value> = options.disks.into_iter().map(Value::from).collect();
            draft.undo(Undo::Request(Request::new("vg-reduce", &vg).with("disks", disks)));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Reduce {
    disks: Vec<String>,
    remove_missing: bool,
    force: bool,
}

impl Verb for VgReduce {
    fn name(&self) -> &'static str {
        "vg-reduce"
    }
    fn about(&self) -> &'static str {
        "Let disks go from a volume group on which no volume is; they stay physical volumes."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new(
                "disks",
                Type::Disks,
                "The members that leave. Either these or `remove_missing`.",
            ),
            Opt::new(
                "remove_missing",
                Type::Flag,
                "Give up the members that are missing, on which no volume is.",
            ),
            Opt::new(
                "force",
                Type::Flag,
                "With `remove_missing`: remove the volumes that need a missing member, too.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let groups = disks.groups();
        let group = groups.iter().find(|group| group.name == object);
        let seats = group.map(|group| group.members.as_slice()).unwrap_or_default();
        let free = seats.iter().find(|seat| seat.used == 0).or(seats.first());
        let disks: Vec<Value> = free
            .and_then(|seat| seat.disk.clone())
            .into_iter()
            .map(Value::from)
            .collect();
        Map::from_iter([("disks".to_owned(), disks.into())])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Reduce = request.options()?;
            if options.remove_missing && options.disks.is_empty() {
                return give_up(draft, request, options.force).await;
            }
            if options.disks.is_empty() || options.remove_missing {
                let why = "either `disks` or `remove_missing` says which members leave";
                return Err(Refusal::new(Code::BadOption, why));
            }
            let mut whole = Whole::read(draft, &request.object).await?;
            resizeable(&whole)?;
            let vg = whole.vg.name.clone();
            for disk in &options.disks {
                let disk = draft.facts(disk)?.name.clone();
                if let Some(word) = whole.on(&disk).and_then(|pv| whole.word(pv.label.id))
                    && let [first, ..] = volumes_on(&whole.vg, word).as_slice()
                {
                    let why = format!("the volume {first:?} is on {disk:?}");
                    return Err(Refusal::new(Code::InUse, why).but("move or remove what is on it first"));
                }
                whole.leave(&disk)?;
            }
            if whole.pvs.is_empty() {
                let why = format!("nothing would be left of the volume group {vg:?}");
                return Err(Refusal::new(Code::InUse, why).but("`vg-remove` removes it"));
            }
            whole.commit(draft, &format!("vg-reduce {vg}")).await?;
            draft.say(format!("{} leaves the volume group {vg}.", options.disks.join(", ")));
            let disks: Vec<Value> = options.disks.into_iter().map(Value::from).collect();
            draft.undo(Undo::Request(Request::new("vg-extend", &vg).with("disks", disks)));
            Ok(())
        })
    }
}

/// `vgreduce --removemissing`: the group goes on without what is not there.
async fn give_up(draft: &mut Draft<'_>, request: &Request, force: bool) -> Result<(), Refusal> {
    let mut whole = Whole::read_if(draft, &request.object, &[GroupState::Complete, GroupState::Partial]).await?;
    let vg = whole.vg.name.clone();
    // A member that was missing when the group was changed is as good as gone: LVM2 does not trust what is on it either.
    let missing: Vec<(String, Option<String>)> = whole
        .vg
        .physical
        .iter()
        .zip(&whole.seen.members)
        .filter(|(pv, seat)| seat.disk.is_none() || has(&pv.status, "MISSING"))
        .map(|(pv, seat)| (pv.name.clone(), seat.disk.clone()))
        .collect();
    if missing.is_empty() {
        let why = format!("the volume group {vg:?} lacks no physical volume");
        return Err(Refusal::new(Code::Nothing, why));
    }
    resizeable(&whole)?;
    let mut lost: Vec<String> = Vec::new();
    for (word, _) in &missing {
        lost.extend(volumes_on(&whole.vg, word).into_iter().map(str::to_owned));
    }
    lost.sort();
    lost.dedup();
    if let [first, ..] = lost.as_slice()
        && !force
    {
        let why = format!("the volume {first:?} needs what is missing");
        return Err(Refusal::new(Code::InUse, why).but("`force` removes such volumes, too"));
    }
    for name in &lost {
        super::lv::plain(&whole, name)?;
        draft.release(&format!("{vg}/{name}"))?;
    }
    for name in &lost {
        whole.remove_volume(name)?;
        draft.warn(format!("The volume {vg}/{name} is lost."));
    }
    for (word, disk) in &missing {
        match disk {
            Some(disk) => whole.leave(disk)?,
            None => whole.forget(word)?,
        }
    }
    if whole.pvs.is_empty() {
        let why = format!("nothing would be left of the volume group {vg:?}");
        return Err(Refusal::new(Code::Incomplete, why));
    }
    whole
        .commit(draft, &format!("vg-reduce {vg} without what is missing"))
        .await?;
    let words: Vec<String> = missing.into_iter().map(|(word, _)| word).collect();
    draft.say(format!(
        "The volume group {vg} goes on without {}, which {} missing.",
        words.join(", "),
        if words.len() == 1 { "was" } else { "were" }
    ));
    draft.undo(Undo::No("has given up physical volumes that were not there".into()));
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    name: String,
}

impl Verb for VgRename {
    fn name(&self) -> &'static str {
        "vg-rename"
    }
    fn about(&self) -> &'static str {
        "Give a volume group another name. None of its volumes may be in use."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::required("name", Type::Text, "The new name.")];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        let groups = disks.groups();
        let free = fresh("vg", |name| groups.iter().any(|group| group.name == name));
        Map::from_iter([("name".to_owned(), free.into())])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Rename = request.options()?;
            let to = name(&options.name)?;
            if find(draft, to).is_ok() {
                return Err(Refusal::new(
                    Code::BadName,
                    format!("there is a volume group {to:?} already"),
                ));
            }
            let mut whole = Whole::read(draft, &request.object).await?;
            let from = whole.vg.name.clone();
            for volume in &whole.seen.volumes {
                draft.release(&volume.disk)?;
            }
            // Half-way, LVM2 may believe the members that still have the old name.
            draft.needs_intent();
            whole.tree.rename(&from, to);
            whole.refresh()?;
            whole.commit(draft, &format!("vg-rename {from} {to}")).await?;
            draft.say(format!("The volume group {from} is called {to}."));
            draft.undo(Undo::Request(Request::new("vg-rename", to).with("name", from)));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Remove {
    force: bool,
}

impl Verb for VgRemove {
    fn name(&self) -> &'static str {
        "vg-remove"
    }
    fn about(&self) -> &'static str {
        "Remove a volume group; its members stay physical volumes, in no group."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::new(
            "force",
            Type::Flag,
            "With all its volumes, if none of them is in use.",
        )];
        OPTIONS
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Remove = request.options()?;
            let mut whole = Whole::read(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            let count = whole.vg.logical.len();
            if let Some(lv) = whole.vg.logical.first()
                && !options.force
            {
                let why = format!("{vg:?} has {count} volumes, {:?} among them", lv.name);
                return Err(Refusal::new(Code::InUse, why).but("`lv-remove` removes one, `force` all with the group"));
            }
            for volume in &whole.seen.volumes {
                draft.release(&volume.disk)?;
            }
            if count > 0 {
                draft.warn(format!("The {count} volumes of {vg} are lost."));
            }
            whole.dissolve(draft).await?;
            draft.say(format!("The volume group {vg} is no more."));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Change {
    add_tags: Vec<String>,
    del_tags: Vec<String>,
    resizeable: Option<bool>,
    autoactivation: Option<bool>,
    allocation: Option<String>,
    system_id: Option<String>,
}

impl Verb for VgChange {
    fn name(&self) -> &'static str {
        "vg-change"
    }
    fn about(&self) -> &'static str {
        "Change what a volume group says of itself: tags, policies."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new("add_tags", Type::List, "Tags to give it."),
            Opt::new("del_tags", Type::List, "Tags to take from it."),
            Opt::new("resizeable", Type::Flag, "Whether disks may join and leave."),
            Opt::new(
                "autoactivation",
                Type::Flag,
                "Whether its volumes become active by themselves.",
            ),
            Opt::new(
                "allocation",
                Type::Choice(&["normal", "contiguous", "cling", "anywhere"]),
                "How volumes get their extents that say nothing else.",
            ),
            Opt::new(
                "system_id",
                Type::Text,
                "The host it belongs to from now on; nobody if it is empty.",
            ),
        ];
        OPTIONS
    }
    fn example(&self, _: &dyn Disks, _: &str) -> Map<String, Value> {
        Map::from_iter([("add_tags".to_owned(), Value::from(vec!["tag0"]))])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Change = request.options()?;
            let mut whole = Whole::read(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            let before = whole.tree.clone();
            let had = whole.vg.system_id.clone().unwrap_or_default();
            let host = options.system_id.as_deref().map(super::system_id).transpose()?;
            if let Some(host) = host.filter(|host| host.unwrap_or_default() != had) {
                whole.own(host)?;
            }
            let section = whole.group()?;
            tags(section, &options.add_tags, &options.del_tags)?;
            flag(section, "status", "RESIZEABLE", options.resizeable);
            flag(section, "flags", "NOAUTOACTIVATE", options.autoactivation.map(|on| !on));
            if let Some(policy) = &options.allocation {
                if super::super::space::Policy::named(policy).is_none() {
                    return Err(Refusal::new(
                        Code::BadOption,
                        format!("{policy:?} is no allocation policy"),
                    ));
                }
                section.set("allocation_policy", spec::lvm2::text::Data::Text(policy.clone()));
            }
            if whole.tree == before {
                return Err(Refusal::new(Code::Nothing, "nothing would change"));
            }
            // What is another host's from now on, nobody may use here.
            let given = host
                .flatten()
                .filter(|host| Some(*host) != draft.disks.lvm2().system_id.as_deref());
            if let Some(host) = given {
                for volume in &whole.seen.volumes {
                    draft.release(&volume.disk)?;
                }
                draft.warn(format!(
                    "The volumes of {vg} are the host {host}'s and no longer served here."
                ));
            }
            whole.commit(draft, &format!("vg-change {vg}")).await?;
            draft.say(format!("The volume group {vg} is changed."));
            if given.is_some() {
                draft.undo(Undo::Request(Request::new("vg-adopt", &vg).with("system_id", had)));
            }
            Ok(())
        })
    }
}
