//! `raid-delete`.
use super::{disks_of, find, wipe};
use crate::{
    Verdict,
    md::assembly,
    plan::{
        Code, Draft, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;

/// The verb.
pub struct RaidDelete;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Delete {
    force: bool,
}

impl Verb for RaidDelete {
    fn name(&self) -> &'static str {
        "raid-delete"
    }
    fn about(&self) -> &'static str {
        "Delete an array; its disks are free again. What was in it is not wiped, and of a mirror each disk still has it."
    }
    fn kind(&self) -> Kind {
        Kind::Array
    }
    fn options(&self) -> &'static [Opt] {
        const OPTIONS: &[Opt] = &[Opt::new("force", Type::Flag, "Even if something is on the array.")];
        OPTIONS
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(async move {
            let options: Delete = request.options()?;
            let group = find(draft, &request.object)?;
            let disk = assembly::disk(&group.name);
            draft.release(&disk)?;
            match draft.disks.facts(&disk) {
                Some(facts) if facts.verdict != Verdict::New && !options.force => {
                    let why = format!("{disk:?} is not known to be blank: it {}", facts.reason);
                    return Err(Refusal::new(Code::NotBlank, why).but("`force` gives it up for lost"));
                }
                _ => (),
            }
            let disks = disks_of(draft, &group).await?;
            for (member_disk, device) in &disks {
                if device.superblock.in_sync_to() != u64::MAX {
                    let why = format!(
                        "the array {:?} was written to a moment ago, or is being resynchronised",
                        group.name
                    );
                    return Err(Refusal::new(Code::InUse, why)
                        .but("`ashlar raid show` tells when it rests; it takes some ten seconds"));
                }
                wipe(draft, member_disk, device).await?
            }
            draft.needs_intent();
            draft.barrier("wipe the superblocks");
            draft.say(format!(
                "The array {} is no more; {} are free.",
                group.name,
                disks
                    .iter()
                    .map(|(disk, _)| disk.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
            Ok(())
        })
    }
}
