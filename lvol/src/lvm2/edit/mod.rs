//! LVM2's verbs: what `pvcreate`, `vgextend`, `lvcreate` and the others do, as plans. One file for each kind of object.
pub mod clone;
pub mod lv;
pub mod owner;
pub mod pv;
pub mod size;
pub mod vg;
pub mod vgs;

use super::{
    space::Allowed,
    whole::{Pv, Whole},
};
use crate::{
    Verdict,
    plan::{Code, Draft, Facts, Refusal},
};
use spec::lvm2::{
    text::{Data, Section, Value},
    vg::{is_name, is_system_id},
};
use std::collections::BTreeSet;

/// A name for a group or a volume.
fn name(name: &str) -> Result<&str, Refusal> {
    match is_name(name) {
        true => Ok(name),
        false => Err(
            Refusal::new(Code::BadName, format!("{name:?} is no name that LVM2 takes"))
                .but("letters, digits and + _ . - make one, at most 127 of them, and no - in front"),
        ),
    }
}

/// A system id; nobody's if it is empty.
fn system_id(text: &str) -> Result<Option<&str>, Refusal> {
    match text {
        "" => Ok(None),
        text if is_system_id(text) => Ok(Some(text)),
        _ => Err(
            Refusal::new(Code::BadName, format!("{text:?} is no system id that LVM2 takes"))
                .but("letters, digits and _ . - make one, at most 127 of them, with a letter or digit in front"),
        ),
    }
}

/// LVM2 keeps these for the parts of volumes (`lvm_reserved_names` in `lib/metadata/lv_manip.c`).
fn volume_name(text: &str) -> Result<&str, Refusal> {
    const STARTS: [&str; 3] = ["snapshot", "pvmove", "lvol0_pmspare"];
    const PARTS: [&str; 14] = [
        "_cdata", "_cmeta", "_corig", "_mlog", "_mimage", "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta",
        "_vdata", "_vorigin", "_wcorig", "_imeta",
    ];
    let reserved = STARTS.iter().any(|start| text.starts_with(start)) || PARTS.iter().any(|part| text.contains(part));
    match reserved {
        true => Err(Refusal::new(
            Code::BadName,
            format!("{text:?} is a name that LVM2 keeps for itself"),
        )),
        false => name(text),
    }
}

/// A tag: a name with a few more characters (`validate_tag`).
fn tag(tag: &str) -> Result<&str, Refusal> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_+.-/=!:&#".contains(&b);
    let is = !tag.is_empty() && tag.len() <= 1023 && tag.bytes().all(good) && !tag.starts_with('-');
    match is {
        true => Ok(tag),
        false => Err(Refusal::new(Code::BadName, format!("{tag:?} is no tag"))
            .but("letters, digits and _ + . - / = ! : & # make one")),
    }
}

/// Adds and takes away words of a list: tags, status, flags.
pub(in crate::lvm2) fn words(section: &mut Section, field: &str, add: &[String], remove: &[String]) {
    let had = section.value(field).map(Value::list).unwrap_or_default().to_vec();
    let is = |data: &Data, word: &str| matches!(data, Data::Text(text) if text == word);
    let mut now: Vec<Data> = had
        .iter()
        .filter(|data| !remove.iter().any(|word| is(data, word)))
        .cloned()
        .collect();
    for word in add {
        if !now.iter().any(|data| is(data, word)) {
            now.push(Data::Text(word.clone()));
        }
    }
    if now != had || section.value(field).is_none() && !now.is_empty() {
        section.set(field, Data::List(now));
    }
}

/// Sets or clears a word of a list, if it is asked for.
fn flag(section: &mut Section, field: &str, word: &str, on: Option<bool>) {
    let word = [word.to_owned()];
    match on {
        Some(true) => words(section, field, &word, &[]),
        Some(false) => words(section, field, &[], &word),
        None => {}
    }
}

fn tags(section: &mut Section, add: &[String], remove: &[String]) -> Result<(), Refusal> {
    for one in add {
        tag(one)?;
    }
    words(section, "tags", add, remove);
    Ok(())
}

/// As LVM2 without `scan_lvs`: a physical volume on a volume of a group would not be found again.
fn not_on_a_volume(facts: &Facts) -> Result<(), Refusal> {
    match facts.on_volume {
        true => Err(Refusal::new(
            Code::Unsupported,
            format!(
                "{:?} is on a volume of a group, where nobody looks for physical volumes",
                facts.name
            ),
        )
        .but("give the volume to a host and make the group there, or use its disks")),
        false => Ok(()),
    }
}

/// Makes sure that a disk may be written over: nothing on it, nobody uses it. With `force` what is on it is wiped.
pub(crate) async fn vacate(draft: &mut Draft<'_>, disk: &str, force: bool) -> Result<(), Refusal> {
    let facts = draft.facts(disk)?;
    if let Some(user) = &facts.user {
        return Err(Refusal::new(Code::InUse, format!("{disk:?} is in use by {user}")));
    }
    if facts.read_only {
        return Err(Refusal::new(Code::ReadOnly, format!("{disk:?} cannot be written to")));
    }
    if facts.verdict == Verdict::New {
        return Ok(());
    }
    if facts.format == Some("lvm2") {
        return Err(Refusal::new(
            Code::NotBlank,
            format!("{disk:?} is an LVM2 physical volume: it {}", facts.reason),
        )
        .but("`vg-reduce` and `pv-remove` make it free"));
    }
    if !force {
        return Err(
            Refusal::new(Code::NotBlank, format!("{disk:?} is not blank: it {}", facts.reason))
                .but("`force` wipes what is on it"),
        );
    }
    for part in facts.carried() {
        draft.release(part)?;
    }
    draft.warn(format!("What is on {disk} is lost: it {}.", facts.reason));
    // Everything that discovery, and blkid, look at.
    let bytes = facts.bytes();
    let (head, tail) = (spec::magic::HEAD.min(bytes), spec::magic::TAIL.min(bytes));
    let zeroes = vec![0; head.max(tail) as usize];
    draft.put(disk, 0, &zeroes[..head as usize], "wipe the start").await?;
    draft
        .put(disk, bytes - tail, &zeroes[..tail as usize], "wipe the end")
        .await?;
    draft.barrier(&format!("wipe what was on {disk}"));
    Ok(())
}

/// The physical volumes on these disks that are in no group; a blank disk becomes one.
async fn recruits(draft: &mut Draft<'_>, disks: &[String], force: bool) -> Result<Vec<Pv>, Refusal> {
    let mut recruits = Vec::new();
    let mut seen = BTreeSet::new();
    for disk in disks {
        let facts = draft.facts(disk)?;
        not_on_a_volume(&facts)?;
        if !seen.insert(facts.name.clone()) {
            return Err(Refusal::new(Code::BadOption, format!("{disk:?} is named twice")));
        }
        if facts.format == Some("lvm2") {
            if let Some(group) = draft.disks.groups().iter().find(|group| {
                let mut seats = group.members.iter().filter_map(|seat| seat.disk.as_deref());
                seats.any(|member| member == facts.name)
            }) {
                let why = format!("{disk:?} is a member of the volume group {:?} already", group.name);
                return Err(Refusal::new(Code::InUse, why).but("`vg-reduce` takes it out"));
            }
            let pv = Pv::read(draft, &facts.name).await?;
            let texts = pv.areas.iter().any(|area| area.committed.offset != 0);
            let used = pv.label.extension.flags & spec::lvm2::label::USED != 0;
            if texts || used {
                let why = format!("{disk:?} is a physical volume of a group that is not here");
                return Err(Refusal::new(Code::Foreign, why).but("`pv-remove` with `force` gives it up for lost"));
            }
            if let Some(user) = &pv.disk.user {
                return Err(Refusal::new(Code::InUse, format!("{disk:?} is in use by {user}")));
            }
            recruits.push(pv);
        } else {
            recruits.push(
                pv::create(
                    draft,
                    &facts.name,
                    &pv::Create {
                        force,
                        ..pv::Create::default()
                    },
                )
                .await?,
            );
        }
    }
    Ok(recruits)
}

/// Which extents are meant by `disk` and `disk:first-last`.
fn allowed(whole: &Whole, disks: &[String]) -> Result<Vec<Allowed>, Refusal> {
    let mut all = Vec::new();
    for text in disks {
        // A disk may have colons in its name; one that is a member counts first.
        let known = |disk: &str| {
            let pv = whole.on(disk).and_then(|pv| whole.word(pv.label.id));
            pv.map(str::to_owned)
        };
        if let Some(tag) = text.strip_prefix('@') {
            let tagged = whole
                .vg
                .physical
                .iter()
                .filter(|pv| pv.tags.iter().any(|have| have == tag));
            all.extend(tagged.map(|pv| (pv.name.clone(), None)));
            continue;
        }
        if let Some(word) = known(text) {
            all.push((word, None));
            continue;
        }
        let mut parts = text.split(':');
        let disk = parts.next().unwrap_or_default();
        let word = known(disk).ok_or_else(|| {
            Refusal::new(
                Code::NotFound,
                format!("{disk:?} is no member of the volume group {:?}", whole.vg.name),
            )
        })?;
        for part in parts {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str, empty: u64| match text {
                "" => Ok(empty),
                text => text
                    .parse()
                    .map_err(|_| Refusal::new(Code::BadOption, format!("{part:?} are no extents"))),
            };
            all.push((word.clone(), Some((number(first, 0)?, number(last, u64::MAX)?))));
        }
    }
    if all.is_empty() && !disks.is_empty() {
        return Err(Refusal::new(
            Code::NotFound,
            format!(
                "no member of the volume group {:?} is meant by {}",
                whole.vg.name,
                disks.join(", ")
            ),
        ));
    }
    Ok(all)
}

/// A name that is free: the word, and a number if it must be.
fn fresh(word: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (0u32..).map(|n| format!("{word}{n}"));
    numbered.into_iter().find(|name| !taken(name)).unwrap_or_default()
}
