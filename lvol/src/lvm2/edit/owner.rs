//! Whose a volume group is: given away for a journey and taken in again, taken over from another host.
use super::{super::whole::Whole, flag, system_id};
use crate::{
    GroupState,
    plan::{
        Code, Draft, Refusal, Request, Undo, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;
use spec::lvm2::vg::has;

/// `vg-export`.
pub struct VgExport;
/// `vg-import`.
pub struct VgImport;
/// `vg-adopt`.
pub struct VgAdopt;

/// Marks the group and all its physical volumes, as LVM2 does.
fn export(whole: &mut Whole, is: bool) -> Result<(), Refusal> {
    flag(whole.group()?, "status", "EXPORTED", Some(is));
    let words: Vec<String> = whole.vg.physical.iter().map(|pv| pv.name.clone()).collect();
    for word in &words {
        flag(whole.physical(word)?, "status", "EXPORTED", Some(is));
    }
    whole.refresh()
}

/// A group that is not ours, all of it there, and nobody's who talks to others about it.
async fn foreign(draft: &mut Draft<'_>, object: &str) -> Result<Whole, Refusal> {
    let whole = Whole::read_if(draft, object, &[GroupState::Foreign]).await?;
    let vg = &whole.vg;
    if vg.lock_type.is_some() || has(&vg.status, "CLUSTERED") {
        let why = format!("the volume group {:?} {}", vg.name, whole.seen.reason);
        return Err(
            Refusal::new(Code::Unsupported, why).but("`vgchange --locktype none` on one of them makes it one host's")
        );
    }
    if let Some(seat) = whole.seen.members.iter().find(|seat| seat.disk.is_none()) {
        let why = format!("the volume group {:?} lacks {} ({})", vg.name, seat.name, seat.id);
        return Err(Refusal::new(Code::Incomplete, why).but("connect all its disks first"));
    }
    Ok(whole)
}

impl Verb for VgExport {
    fn name(&self) -> &'static str {
        "vg-export"
    }
    fn about(&self) -> &'static str {
        "Mark a volume group as nobody's, so that its disks can go to another host. None of its volumes may be in use."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        &[]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let mut whole = Whole::read(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            for volume in &whole.seen.volumes {
                draft.release(&volume.disk)?;
            }
            export(&mut whole, true)?;
            whole.own(None)?;
            whole.commit(draft, &format!("vg-export {vg}")).await?;
            draft.say(format!(
                "The volume group {vg} is exported: it is nobody's until it is imported."
            ));
            draft.undo(Undo::Request(Request::new("vg-import", &vg)));
            Ok(())
        })
    }
}

impl Verb for VgImport {
    fn name(&self) -> &'static str {
        "vg-import"
    }
    fn about(&self) -> &'static str {
        "Take an exported volume group in: it is this machine's, and its volumes become active."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        &[]
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let mut whole = foreign(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            if !has(&whole.vg.status, "EXPORTED") {
                let why = format!("the volume group {vg:?} is not exported: it {}", whole.seen.reason);
                return Err(Refusal::new(Code::Nothing, why));
            }
            export(&mut whole, false)?;
            whole.own(draft.disks.lvm2().system_id.as_deref())?;
            whole.commit(draft, &format!("vg-import {vg}")).await?;
            draft.say(format!("The volume group {vg} is imported."));
            draft.undo(Undo::Request(Request::new("vg-export", &vg)));
            Ok(())
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Adopt {
    system_id: Option<String>,
}

impl Verb for VgAdopt {
    fn name(&self) -> &'static str {
        "vg-adopt"
    }
    fn about(&self) -> &'static str {
        "Take over a volume group that belongs to another host by its system id. That host must not use it any more."
    }
    fn kind(&self) -> Kind {
        Kind::Group
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::new(
            "system_id",
            Type::Text,
            "The host it belongs to from now on, nobody if it is empty; without it this machine, or nobody if that has no system id.",
        )];
        OPTIONS
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Adopt = request.options()?;
            let mut whole = foreign(draft, &request.object).await?;
            let vg = whole.vg.name.clone();
            if has(&whole.vg.status, "EXPORTED") {
                let why = format!("the volume group {vg:?} is exported and nobody's");
                return Err(Refusal::new(Code::Nothing, why).but("`vg-import` takes it in"));
            }
            let Some(from) = whole.vg.system_id.clone() else {
                let why = format!("the volume group {vg:?} belongs to no host");
                return Err(Refusal::new(Code::Nothing, why));
            };
            let ours = draft.disks.lvm2().system_id;
            let to = match &options.system_id {
                Some(text) => system_id(text)?,
                None => ours.as_deref(),
            };
            if to == Some(from.as_str()) {
                return Err(Refusal::new(Code::Nothing, "nothing would change"));
            }
            whole.own(to)?;
            whole.commit(draft, &format!("vg-adopt {vg}")).await?;
            draft.say(match to {
                Some(host) => format!("The volume group {vg} belongs to the host {host} instead of {from}."),
                None => format!("The volume group {vg} belongs to no host any more; it was {from}'s."),
            });
            draft.warn(format!(
                "If the host {from} still uses {vg}, both write to it and what is on it is lost."
            ));
            draft.undo(Undo::Request(Request::new("vg-change", &vg).with("system_id", from)));
            Ok(())
        })
    }
}
