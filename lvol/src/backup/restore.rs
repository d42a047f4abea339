//! Putting a copy back: on the disk it was made of, or on another one that takes its place.
//!
//! What is there already stays, so a restore that was cut short is begun again. What is blank is written. Anything else is somebody's, and is refused.
use super::{AREAS_MAX, BYTES_MAX, DiskCopy};
use crate::{
    Verdict,
    part::edit,
    plan::{
        Code, Draft, Facts, Refusal, Request, Verb,
        verb::{Kind, Opt, Planning, Type},
    },
};
use serde::Deserialize;

/// Bytes that a device writes whole.
const SECTOR: usize = 512;

/// `disk-restore`.
pub struct DiskRestore;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    copy: String,
    #[serde(default)]
    force: bool,
}

impl Verb for DiskRestore {
    fn name(&self) -> &'static str {
        "disk-restore"
    }
    fn about(&self) -> &'static str {
        "Put back what a backup has of a disk: its partition table, its label and text as a physical volume, its record as part of a drive link."
    }
    fn kind(&self) -> Kind {
        Kind::Disk
    }
    fn options(&self) -> &'static [Opt] {
        const ALL: &[Opt] = &[
            Opt::required(
                "copy",
                Type::Text,
                "the disk's part of a backup, as JSON; `ashlar config restore` takes it out of the file",
            ),
            Opt::new(
                "force",
                Type::Flag,
                "replace what is in its places; what is in use stays in the way",
            ),
        ];
        ALL
    }
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a> {
        Box::pin(restore(draft, request))
    }
}

fn refuse(facts: &Facts, code: Code, why: &str) -> Refusal {
    Refusal::new(code, format!("{:?} {why}", facts.name))
}

/// The copy, if it can be one.
fn read(text: &str) -> Result<DiskCopy, Refusal> {
    let bad = |why: String| Refusal::new(Code::BadOption, format!("the copy cannot be used: {why}"));
    let copy: DiskCopy = serde_json::from_str(text).map_err(|why| bad(why.to_string()))?;
    let bytes = copy.blocks.saturating_mul(copy.block_size.into());
    let mut left = BYTES_MAX;
    for area in &copy.areas {
        let fits = area.offset.checked_add(area.length).is_some_and(|end| end <= bytes);
        if !fits || area.bytes.0.len() as u64 > area.length {
            return Err(bad(format!("byte {} and what follows is not on its disk", area.offset)));
        }
        left = left
            .checked_sub(area.length)
            .ok_or_else(|| bad("it is too large".into()))?;
    }
    match copy.areas.len() > AREAS_MAX {
        true => Err(bad(format!("it has more than {AREAS_MAX} areas"))),
        false => Ok(copy),
    }
}

async fn restore(draft: &mut Draft<'_>, request: &Request) -> Result<(), Refusal> {
    let options: Restore = request.options()?;
    let copy = read(&options.copy)?;
    let facts = draft.facts(&request.object)?;
    if facts.block_size != copy.block_size {
        let why = format!(
            "has blocks of {} bytes, and the backup is of a disk with blocks of {}",
            facts.block_size, copy.block_size
        );
        return Err(refuse(&facts, Code::Unsupported, &why));
    }
    if facts.blocks < copy.blocks {
        let why = format!(
            "is too small: it has {} blocks, and the backup is of a disk with {}",
            facts.blocks, copy.blocks
        );
        return Err(refuse(&facts, Code::NoSpace, &why).but("take a disk of at least that size"));
    }
    let (mut same, mut other) = (true, None);
    for area in &copy.areas {
        let there = draft.read(&facts.name, area.offset, area.length).await?;
        let whole = area.whole();
        same &= there == whole;
        // A restore that was cut short has left some sectors blank and some not.
        let mut sectors = there
            .chunks(SECTOR)
            .zip(whole.chunks(SECTOR))
            .zip((area.offset..).step_by(SECTOR));
        let strange = sectors.find(|((there, whole), _)| there != whole && there.iter().any(|byte| *byte != 0));
        other = other.or(strange.map(|(_, at)| at));
    }
    if same {
        let why = match &copy.format {
            Some(_) => format!("is as it was: {}", copy.was),
            None => "had nothing on it that a backup keeps".into(),
        };
        return Err(refuse(&facts, Code::Nothing, &why));
    }
    // Whether anybody uses it, and whether it can be written to.
    let facts = edit::disk(draft, &facts.name)?;
    let way_out = "`force` replaces it, if it is of no use to anybody";
    if !options.force {
        let stranger = match (&facts.format, facts.signatures.is_empty()) {
            (_, false) => Some(facts.reason.clone()),
            (Some(format), true) if Some(*format) != copy.format.as_deref() => Some(match facts.verdict {
                Verdict::Claimed => format!("is in use by {format}: {}", facts.reason),
                _ => facts.reason.clone(),
            }),
            _ => other.map(|at| format!("has something else in the places of the backup, at byte {at}")),
        };
        if let Some(why) = stranger {
            return Err(refuse(&facts, Code::NotBlank, &why).but(way_out));
        }
    }
    for part in facts.carried() {
        draft.release(part)?;
    }
    if facts.uuid != copy.uuid {
        draft.warn(format!(
            "{} is known to hosts by another identity than the disk in the backup.",
            facts.name
        ));
    }
    if facts.blocks > copy.blocks {
        draft.warn(format!(
            "{} has {} blocks more than the disk in the backup; they are not used until its label is told.",
            facts.name,
            facts.blocks - copy.blocks
        ));
    }
    if options.force && !facts.signatures.is_empty() {
        draft.warn(format!(
            "{} {}; what does not lie in the way stays.",
            facts.name, facts.reason
        ));
    }
    let what = copy.format.as_deref().unwrap_or("metadata");
    // What leads to the rest is read first and written last.
    let Some((first, rest)) = copy.areas.split_first() else {
        return Ok(());
    };
    for area in rest.iter().rev() {
        draft
            .put(&facts.name, area.offset, &area.whole(), &format!("{what} metadata"))
            .await?;
    }
    draft.barrier("what its first blocks lead to");
    draft
        .put(
            &facts.name,
            first.offset,
            &first.whole(),
            &format!("start of the {what} metadata"),
        )
        .await?;
    draft.barrier("the blocks by which it is known");
    // It may be cut short where half of it would pass for something else.
    draft.needs_intent();
    draft.say(format!(
        "Puts back what the backup has of {}: {}.",
        facts.name, copy.was
    ));
    Ok(())
}
