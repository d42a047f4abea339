//! The verbs.
use super::chain::{Chain, needs, reach, room};
use crate::{
    Verdict,
    lvm2::edit::{
        size::{self, Amount, Sign},
        vacate,
    },
    plan::{
        Code, Disks, Draft, Guess, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::link::{DATA, is_name};

/// `link-create`.
pub struct LinkCreate;
/// `link-add`.
pub struct LinkAdd;
/// `link-expand`.
pub struct LinkExpand;
/// `link-shrink`.
pub struct LinkShrink;
/// `link-rename`.
pub struct LinkRename;
/// `link-delete`.
pub struct LinkDelete;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Recruits {
    disks: Vec<String>,
    force: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Shrink {
    size: Option<Value>,
    force: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rename {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Delete {
    force: bool,
}

const DISKS: Opt = Opt::required(
    "disks",
    Type::Disks,
    "Disks, partitions or volumes, in this order. What is on them is lost.",
);
const FORCE_WIPE: Opt = Opt::new("force", Type::Flag, "Wipe what is on the disks if they are not blank.");
const FORCE_LOSE: Opt = Opt::new("force", Type::Flag, "Even if something is on the link.");

fn name(name: &str) -> Result<&str, Refusal> {
    match is_name(name) {
        true => Ok(name),
        false => Err(
            Refusal::new(Code::BadName, format!("{name:?} is no name for a drive link"))
                .but("letters, digits and + _ . - make one, at most 127 of them, and no - in front"),
        ),
    }
}

/// A blank disk that nobody uses, and that is a child of nothing, as an example.
fn blank(disks: &dyn Disks) -> Map<String, Value> {
    let free = |name: &String| {
        disks
            .facts(name)
            .is_some_and(|facts| facts.verdict == Verdict::New && facts.user.is_none() && room(&facts) > 0)
    };
    let disk = disks.names().into_iter().find(free);
    Map::from_iter([("disks".to_owned(), Value::from(disk.into_iter().collect::<Vec<_>>()))])
}

/// Empties disks and takes them in.
async fn recruit(draft: &mut Draft<'_>, chain: &mut Chain, options: &Recruits) -> Result<(), Refusal> {
    if options.disks.is_empty() {
        return Err(Refusal::new(Code::BadOption, "no disk is named"));
    }
    let own = reach(draft, &chain.disk());
    let mut taken = std::collections::BTreeSet::new();
    for disk in &options.disks {
        let facts = draft.facts(disk)?;
        if own.contains(&facts.name) {
            let why = format!("{disk:?} is the drive link itself, or is on it");
            return Err(Refusal::new(Code::InUse, why));
        }
        let above = reach(draft, &facts.name);
        if above.contains(&chain.disk()) {
            let why = format!("the drive link {:?} stands on {disk:?}", chain.record.name);
            return Err(Refusal::new(Code::InUse, why));
        }
        // Not only the volume itself: a group whose member the link is cannot be put together without the link, nor the link without its volume.
        if needs(draft, &facts.name).iter().any(|one| own.contains(one)) {
            let why = format!(
                "{disk:?} needs the drive link {:?} to be there itself",
                chain.record.name
            );
            return Err(Refusal::new(Code::InUse, why)
                .but("take a disk that does not stand on the link, nor in a group with it"));
        }
        if above.iter().any(|one| !taken.insert(one.clone())) {
            let why = format!("{disk:?} is named twice, or is a part of another disk that is named");
            return Err(Refusal::new(Code::BadOption, why));
        }
        let groups = draft.disks.groups();
        if let Some(group) = groups.iter().find(|group| {
            let mut seats = group.members.iter().filter_map(|seat| seat.disk.as_deref());
            seats.any(|member| member == facts.name)
        }) {
            let (why, way_out) = match group.format.as_str() {
                "link" => (
                    format!("{disk:?} is a child of the drive link {:?}", group.name),
                    "`link-shrink` takes the last child out, `link-delete` frees all",
                ),
                _ => (
                    format!("{disk:?} is a member of the volume group {:?}", group.name),
                    "`vg-reduce` takes it out",
                ),
            };
            return Err(Refusal::new(Code::InUse, why).but(way_out));
        }
        vacate(draft, &facts.name, options.force).await?;
        chain.join(draft, facts)?;
    }
    Ok(())
}

/// Makes sure that what is lost may be lost, and that nobody uses the link.
fn empty(draft: &mut Draft<'_>, chain: &Chain, force: bool) -> Result<(), Refusal> {
    let disk = chain.disk();
    draft.release(&disk)?;
    match draft.disks.facts(&disk) {
        Some(facts) if facts.verdict != Verdict::New && !force => {
            let why = format!("{disk:?} is not known to be blank: it {}", facts.reason);
            Err(Refusal::new(Code::NotBlank, why).but("`force` gives it up for lost"))
        }
        _ => Ok(()),
    }
}

impl Verb for LinkCreate {
    fn name(&self) -> &'static str {
        "link-create"
    }
    fn about(&self) -> &'static str {
        "Link disks: one after the other they are one disk, link/NAME."
    }
    fn kind(&self) -> Kind {
        Kind::Name
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[DISKS, FORCE_WIPE];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        blank(disks)
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Recruits = request.options()?;
            let mut chain = Chain::new(name(&request.object)?, draft);
            let disk = chain.disk();
            if draft.disks.facts(&disk).is_some() {
                return Err(Refusal::new(Code::BadName, format!("there is a disk {disk:?} already")));
            }
            recruit(draft, &mut chain, &options).await?;
            chain.commit(draft).await?;
            draft.say(format!(
                "{} become {disk}, a drive link of {} bytes ({}).",
                options.disks.join(", "),
                chain.record.blocks() * u64::from(chain.record.block_size),
                chain.record.link
            ));
            Ok(())
        })
    }
}

impl Verb for LinkAdd {
    fn name(&self) -> &'static str {
        "link-add"
    }
    fn about(&self) -> &'static str {
        "Let a drive link grow at its end by further disks. It may be in use."
    }
    fn kind(&self) -> Kind {
        Kind::Link
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[DISKS, FORCE_WIPE];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        blank(disks)
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Recruits = request.options()?;
            let mut chain = Chain::read(draft, &request.object, false).await?;
            let was = chain.record.blocks();
            recruit(draft, &mut chain, &options).await?;
            chain.commit(draft).await?;
            say_size(draft, &chain, was);
            Ok(())
        })
    }
}

fn say_size(draft: &mut Draft<'_>, chain: &Chain, was: u64) {
    let size = u64::from(chain.record.block_size);
    let (disk, now) = (chain.disk(), chain.record.blocks());
    draft.say(format!("{disk} has {} bytes instead of {}.", now * size, was * size));
}

impl Verb for LinkExpand {
    fn name(&self) -> &'static str {
        "link-expand"
    }
    fn about(&self) -> &'static str {
        "Let a drive link have what its last child has grown by. It may be in use."
    }
    fn kind(&self) -> Kind {
        Kind::Link
    }
    fn options(&self) -> &'static [Opt] {
        &[]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let mut chain = Chain::read(draft, &request.object, false).await?;
            let was = chain.record.blocks();
            if let (Some(child), Some(place)) = (chain.record.children.last_mut(), chain.places.last()) {
                let now = room(&place.disk);
                if now <= child.blocks {
                    let why = format!("{:?}, the last child, has not grown", place.disk.name);
                    return Err(Refusal::new(Code::Nothing, why).but("`link-add` takes another disk in"));
                }
                child.blocks = now;
            }
            chain.commit(draft).await?;
            say_size(draft, &chain, was);
            Ok(())
        })
    }
}

impl Verb for LinkShrink {
    fn name(&self) -> &'static str {
        "link-shrink"
    }
    fn about(&self) -> &'static str {
        "Take the last child out of a drive link, or make the link shorter at its end."
    }
    fn kind(&self) -> Kind {
        Kind::Link
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[
            Opt::new(
                "size",
                Type::Size,
                "What is left, in whole MiB, or how much goes with - in front. Without it the last child goes.",
            ),
            FORCE_LOSE,
        ];
        OPTIONS
    }
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let groups = disks.groups().into_iter().filter(|group| group.format == "link");
        let mut volumes = groups.flat_map(|group| group.volumes);
        let bytes = volumes
            .find(|volume| volume.disk == object)
            .map(|volume| volume.what.bytes);
        let less = bytes.map(|bytes| bytes.saturating_sub(DATA));
        less.map(|less| Guess::range("size", DATA, less, DATA))
            .into_iter()
            .collect()
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Shrink = request.options()?;
            let mut chain = Chain::read(draft, &request.object, false).await?;
            let size = u64::from(chain.record.block_size);
            let was = chain.record.blocks();
            let last = chain.record.children.last().map_or(0, |child| child.blocks);
            let left = match options.size.as_ref().map(size::size).transpose()? {
                None => was - last,
                Some((Sign::To, Amount::Bytes(bytes))) => bytes.next_multiple_of(DATA) / size,
                Some((Sign::Minus, Amount::Bytes(bytes))) => was.saturating_sub(bytes / DATA * DATA / size),
                _ => {
                    return Err(Refusal::new(
                        Code::BadOption,
                        "a size to shrink to, or by, in bytes is needed",
                    ));
                }
            };
            if left == 0 {
                let why = "nothing would be left of the drive link";
                return Err(Refusal::new(Code::BadOption, why).but("`link-delete` deletes it"));
            }
            if left >= was {
                let why = format!("{:?} has {} bytes already", chain.disk(), was * size);
                return Err(Refusal::new(Code::Nothing, why).but("`link-add` and `link-expand` let it grow"));
            }
            empty(draft, &chain, options.force)?;
            let mut free = Vec::new();
            loop {
                let children = &mut chain.record.children;
                let before: u64 = children.iter().rev().skip(1).map(|child| child.blocks).sum();
                if before < left {
                    if let Some(last) = children.last_mut() {
                        last.blocks = left - before;
                    }
                    break;
                }
                // Something is left, so this ends before the first child.
                free.extend(chain.leave().map(|disk| disk.name.clone()));
            }
            draft.warn(format!(
                "The last {} bytes of {} are lost; what is on it must have been made shorter before.",
                (was - left) * size,
                chain.disk()
            ));
            chain.commit(draft).await?;
            say_size(draft, &chain, was);
            if !free.is_empty() {
                draft.say(format!("{} are free again.", free.join(", ")));
            }
            Ok(())
        })
    }
}

impl Verb for LinkRename {
    fn name(&self) -> &'static str {
        "link-rename"
    }
    fn about(&self) -> &'static str {
        "Give a drive link another name. One that shares its name is named by its identity."
    }
    fn kind(&self) -> Kind {
        Kind::Link
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::required("name", Type::Text, "The new name.")];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        let free = (0u32..).map(|n| format!("link{n}"));
        let taken = |name: &String| disks.groups().iter().any(|group| group.name == *name);
        let name = free.into_iter().find(|name| !taken(name)).unwrap_or_default();
        Map::from_iter([("name".to_owned(), Value::from(name))])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Rename = request.options()?;
            let new = name(&options.name)?.to_owned();
            let mut chain = Chain::read(draft, &request.object, true).await?;
            let old = std::mem::replace(&mut chain.record.name, new);
            if old == chain.record.name {
                return Err(Refusal::new(Code::Nothing, "it is called so already"));
            }
            let mut groups = draft.disks.groups().into_iter();
            if groups.any(|group| group.name == chain.record.name) || draft.disks.facts(&chain.disk()).is_some() {
                let why = format!("{:?} is taken", chain.record.name);
                return Err(Refusal::new(Code::BadName, why));
            }
            draft.release(&super::super::assembly::disk(&old))?;
            chain.commit(draft).await?;
            draft.say(format!("The drive link {old} is called {} now.", chain.record.name));
            Ok(())
        })
    }
}

impl Verb for LinkDelete {
    fn name(&self) -> &'static str {
        "link-delete"
    }
    fn about(&self) -> &'static str {
        "Delete a drive link; its children are free again. What was on it is not wiped."
    }
    fn kind(&self) -> Kind {
        Kind::Link
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[FORCE_LOSE];
        OPTIONS
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Delete = request.options()?;
            let mut chain = Chain::read(draft, &request.object, false).await?;
            empty(draft, &chain, options.force)?;
            chain.record.deleted = true;
            chain.commit(draft).await?;
            let disks: Vec<&str> = chain.places.iter().map(|place| place.disk.name.as_str()).collect();
            draft.say(format!(
                "The drive link {} is no more; {} are free.",
                chain.record.name,
                disks.join(", ")
            ));
            Ok(())
        })
    }
}
