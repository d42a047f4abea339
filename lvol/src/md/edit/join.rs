//! A disk that joins an array: what it has to be, and what is written to it before its superblock.
use super::{BITMAP, disks_of, divide, take, write_bitmap, write_partial};
use crate::{
    group::Group,
    md::Device,
    plan::{Code, Draft, Refusal},
};
use spec::md::{
    Level,
    superblock::{Superblock, Version},
    v1::{Features, Minor, Role, Superblock as V1},
};
use std::collections::BTreeSet;

/// An array that disks join, as its members have it.
pub(super) struct Joined {
    pub group: Group,
    /// The disks that belong to it, and what they say.
    pub present: Vec<(String, Device)>,
    /// What the one that knows best says.
    pub best: V1,
    block: u32,
    /// Numbers that are somebody's.
    numbers: BTreeSet<u32>,
}

impl Joined {
    /// Of an array with redundancy and metadata 1.2.
    pub async fn new(draft: &mut Draft<'_>, group: Group) -> Result<Self, Refusal> {
        let present = disks_of(draft, &group).await?;
        let mut known: Vec<V1> = Vec::new();
        let mut block = 0;
        for (disk, device) in &present {
            block = draft.facts(disk)?.block_size;
            match &device.superblock {
                Superblock::V1(superblock) if device.version == Version::V1(Minor::V2) => {
                    known.push((**superblock).clone())
                }
                _ => {
                    let why = format!(
                        "the array {:?} has metadata {}; disks are added to those with 1.2",
                        group.name, device.version
                    );
                    return Err(Refusal::new(Code::Unsupported, why));
                }
            }
        }
        let Some(best) = known.iter().max_by_key(|superblock| superblock.events).cloned() else {
            return Err(Refusal::new(
                Code::Incomplete,
                format!("the array {:?} has no member", group.name),
            ));
        };
        if best.level == Level::Raid0 || best.level == Level::Linear {
            return Err(Refusal::new(
                Code::Unsupported,
                format!("an array of {} has no use for spares", best.level),
            ));
        }
        let numbers = known.iter().map(|superblock| superblock.number).collect();
        Ok(Self {
            group,
            present,
            best,
            block,
            numbers,
        })
    }

    /// Empties a disk and writes what belongs to a member but its superblock, which is that of a spare and is the caller's to write. The disk's whole name goes with it.
    pub async fn prepare(&mut self, draft: &mut Draft<'_>, disk: &str, force: bool) -> Result<(String, V1), Refusal> {
        let Self { group, best, .. } = &*self;
        if self.present.iter().any(|(member, _)| member == disk) {
            return Err(Refusal::new(
                Code::InUse,
                format!("{disk:?} belongs to the array {:?} already", group.name),
            ));
        }
        let partial = best.ppl().map(|(_, sectors)| sectors);
        let (facts, division) = take(draft, disk, partial, force).await?;
        if facts.block_size != self.block {
            let why = format!(
                "{disk:?} has blocks of {} bytes, the members have {}",
                facts.block_size, self.block
            );
            return Err(Refusal::new(Code::BadOption, why));
        }
        if division.room < best.size {
            let why = format!(
                "{disk:?} has room for {} sectors, and each member gives {}",
                division.room, best.size
            );
            return Err(Refusal::new(Code::NoSpace, why));
        }
        // Behind the first members if there is one: somebody who is away may come back with an old number.
        let free =
            |number: &u32| !self.numbers.contains(number) && best.roles.get(*number as usize) == Some(&Role::Spare);
        let all = best.roles.len() as u32;
        let number = (best.raid_disks..all).chain(0..best.raid_disks.min(all)).find(free);
        let number = number.ok_or_else(|| {
            Refusal::new(
                Code::Unsupported,
                format!("the array {:?} has no number left for another member", group.name),
            )
        })?;
        let mut new = best.clone();
        new.number = number;
        new.device = draft.uuid();
        new.flags = 0;
        new.corrected_reads = 0;
        new.recovery_offset = 0;
        for feature in [
            Features::RECOVERY,
            Features::RECOVERY_BITMAP,
            Features::REPLACEMENT,
            Features::BAD_BLOCKS,
        ] {
            new.features.set(feature, false)
        }
        let unit = u64::from(best.chunk.max(8));
        divide(&mut new, division, unit, best.level);
        if let Some(sectors) = partial {
            new.set_ppl(BITMAP as i16, sectors, best.features.has(Features::MULTIPLE_PPLS));
            write_partial(draft, &facts.name, new.array).await?;
            draft.barrier("write the partial parity log");
        }
        if let Some(offset) = best.bitmap_offset() {
            let at = new
                .relative(offset.into())
                .ok_or_else(|| Refusal::new(Code::Damaged, "its bitmap would lie before its start"))?;
            if let Some(bitmap) = self.present.first().and_then(|(_, device)| device.bitmap.as_ref()) {
                let mut header = bitmap.header.clone();
                header.events = 0;
                write_bitmap(draft, &facts.name, at, division, &header).await?
            }
            draft.barrier("write the bitmap");
        }
        self.numbers.insert(number);
        Ok((facts.name.clone(), new))
    }
}
