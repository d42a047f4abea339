//! Copies of disks made a group of their own: `vg-import-clone`, LVM2's `vgimportclone`.
//!
//! A copy of a physical volume, by a snapshot of a storage system or by `dd`, has the identity of the one it was copied from, and while both are there
//! nobody can tell which is the right one. The copies that are named get other identities, and the group on them another identity and another name.
//! The labels change before the texts: in between the copies are of no group, and the group they were copied from is whole.
use super::{
    super::{
        text,
        whole::{Pv, Whole, write_label},
    },
    name,
};
use crate::{
    GroupState,
    plan::{
        Code, Disks, Draft, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::lvm2::{self, text::Data, vg::has};
use std::sync::Arc;

/// `vg-import-clone`.
pub struct VgImportClone;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    disks: Vec<String>,
}

/// The disks as physical volumes, and the newest text on them.
async fn copies(draft: &mut Draft<'_>, disks: &[String]) -> Result<(Vec<Pv>, Arc<text::Text>), Refusal> {
    let mut pvs: Vec<Pv> = Vec::new();
    let mut newest: Option<Arc<text::Text>> = None;
    for disk in disks {
        let pv = Pv::read(draft, disk).await?;
        if let Some(user) = &pv.disk.user {
            return Err(Refusal::new(Code::InUse, format!("{disk:?} is in use by {user}")));
        }
        if let Some(twin) = pvs.iter().find(|other| other.label.id == pv.label.id) {
            let why = format!("{disk:?} and {:?} are the same physical volume", twin.disk.name);
            return Err(Refusal::new(Code::BadOption, why).but("name one copy of each"));
        }
        if let Some(bytes) = pv.text(draft).await? {
            let checksum = lvm2::crc(lvm2::CRC_SEED, &bytes);
            let text = text::read(&bytes, checksum)
                .map_err(|why| Refusal::new(Code::Damaged, format!("{disk:?} has a text that is no group's: {why}")))?;
            if let Some(other) = newest.as_ref().filter(|other| other.vg.id != text.vg.id) {
                let why = format!(
                    "{disk:?} is of the volume group {:?} and others of {:?}",
                    text.vg.name, other.vg.name
                );
                return Err(Refusal::new(Code::BadOption, why).but("name the copies of one group at a time"));
            }
            if newest.as_ref().is_none_or(|other| other.vg.seqno < text.vg.seqno) {
                newest = Some(text);
            }
        }
        pvs.push(pv);
    }
    let newest = newest.ok_or_else(|| {
        let why = format!("no volume group has its metadata on {}", disks.join(", "));
        Refusal::new(Code::WrongKind, why)
    })?;
    Ok((pvs, newest))
}

impl Verb for VgImportClone {
    fn name(&self) -> &'static str {
        "vg-import-clone"
    }
    fn about(&self) -> &'static str {
        "Make copies of a volume group's disks a group of their own: with other identities, under this name."
    }
    fn kind(&self) -> Kind {
        Kind::Name
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::required(
            "disks",
            Type::Disks,
            "The copies: one of each physical volume of the group.",
        )];
        OPTIONS
    }
    fn example(&self, disks: &dyn Disks, _: &str) -> Map<String, Value> {
        let groups = disks.groups();
        let group = groups
            .iter()
            .find(|group| group.format == "lvm2" && group.state == GroupState::Complete);
        let seats = group.map(|group| group.members.as_slice()).unwrap_or_default();
        let all: Vec<Value> = seats
            .iter()
            .filter_map(|seat| seat.disk.clone())
            .map(Value::from)
            .collect();
        Map::from_iter([("disks".to_owned(), all.into())])
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Options = request.options()?;
            let to = name(&request.object)?;
            if options.disks.is_empty() {
                return Err(Refusal::new(Code::BadOption, "no disk is named"));
            }
            let (found, text) = copies(draft, &options.disks).await?;
            let from = text.vg.name.clone();
            if text.vg.lock_type.is_some() || has(&text.vg.status, "CLUSTERED") {
                let why = format!("the volume group {from:?} is shared among hosts by a lock manager");
                return Err(Refusal::new(Code::Unsupported, why));
            }
            let mut pvs = Vec::with_capacity(found.len());
            for pv in found {
                if !text.vg.physical.iter().any(|one| one.id == pv.label.id) {
                    let why = format!("{:?} is no member of the volume group {from:?}", pv.disk.name);
                    return Err(Refusal::new(Code::BadOption, why));
                }
                for part in pv.disk.carried() {
                    draft.release(part)?;
                }
                pvs.push(pv);
            }
            let there = |one: &&lvm2::vg::PhysicalVolume| !pvs.iter().any(|pv| pv.label.id == one.id);
            if let Some(missing) = text.vg.physical.iter().find(there) {
                let why = format!(
                    "the volume group {from:?} has {} ({}) too, and no copy of it is named",
                    missing.name, missing.id
                );
                return Err(Refusal::new(Code::Incomplete, why).but("name a copy of each of its physical volumes"));
            }
            let mut whole = Whole::of_copies(&text, pvs);
            whole.tree.rename(&from, to);
            whole.refresh()?;
            let id = draft.lvm2_id();
            whole.group()?.set("id", Data::Text(id.to_string()));
            for at in 0..whole.pvs.len() {
                let id = draft.lvm2_id();
                let word = whole.word(whole.pvs[at].label.id).unwrap_or_default().to_owned();
                let device = whole.pvs[at].disk.name.clone();
                let section = whole.physical(&word)?;
                section.set("id", Data::Text(id.to_string()));
                section.set("device", Data::Text(device));
                whole.pvs[at].label.id = id;
            }
            whole.own(draft.disks.lvm2().system_id.as_deref())?;
            draft.needs_intent();
            let bytes = whole.seal(draft, &format!("vg-import-clone {from} {to}"))?;
            whole.prepare(draft, &bytes).await?;
            for pv in &whole.pvs {
                write_label(draft, &pv.disk.name, &pv.label, "label: another identity").await?;
            }
            draft.barrier("give the copies identities of their own");
            whole.point(draft, &bytes).await?;
            draft.say(format!(
                "{} are the volume group {to}, a copy of {from} with identities of its own.",
                options.disks.join(", ")
            ));
            Ok(())
        })
    }
}
