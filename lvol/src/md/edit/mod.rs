//! What can be done to MD arrays: make one, add spares, delete one. What is on disk of it is what mdadm writes for metadata 1.2.
//!
//! ```text
//!   raid-create   wipe ──► bitmaps ──► superblocks, as one intent: an array is there with all of its members or not at all
//!   raid-add      a spare's superblock; whoever runs the array gives it a place if one is empty, and rebuilds it
//!   raid-replace  a superblock that says whom it replaces; whoever runs the array copies that one, and gives it up at the end
//!   raid-readd    one that failed says that it wants its place back; whoever runs the array copies what it has missed
//!   raid-remove   the superblock of a disk without a place is wiped
//!   raid-delete   superblocks and bitmaps are wiped; what was in the array stays where it was
//! ```
mod add;
mod create;
mod delete;
mod join;
mod readd;
mod remove;
mod replace;

pub use add::RaidAdd;
pub use create::RaidCreate;
pub use delete::RaidDelete;
pub use readd::RaidReadd;
pub use remove::RaidRemove;
pub use replace::RaidReplace;

use super::{Device, Md, assembly};
use crate::{
    format::{Format, Taste},
    group::{Group, Member},
    lvm2::edit::vacate,
    plan::{
        Code, Disks, Draft, Facts, Refusal,
        verb::{Opt, Type},
    },
    probe::{Probe, ReadError, Reading, Source},
};
use spec::{
    magic::HEAD,
    md::{
        Level, SECTOR,
        bitmap::Header,
        ppl,
        v1::{BadBlockLog, Minor, Superblock as V1},
    },
};
use std::sync::Arc;
use uuid::Uuid;

/// Sectors from the superblock to the bitmap.
const BITMAP: u32 = 8;
/// Sectors of the bad-block log.
const LOG: u16 = 8;
/// Sectors of a partial parity log, in the place of a bitmap.
const PARTIAL: u16 = 2048;
/// Roles in the table of an array that we make: members, spares and those that failed.
const ROLES: usize = 128;

const FORCE: Opt = Opt::new("force", Type::Flag, "Wipe what is on the disks if they are not blank.");

/// What of a disk is for what, as mdadm divides it. In sectors.
#[derive(Clone, Copy, Debug)]
struct Division {
    bitmap: u64,
    data: u64,
    room: u64,
}

impl Division {
    /// Of a disk of so many sectors; nothing if it is too small. With so many sectors for a partial parity log, where there is one.
    fn of(sectors: u64, partial: Option<u16>) -> Option<Self> {
        const GIB: u64 = (1 << 30) / SECTOR;
        let bitmap = match (partial, sectors) {
            (Some(log), _) => log.into(),
            (None, large) if large >= 200 * GIB => 256,
            (None, middle) if middle >= 8 * GIB => 128,
            (None, _) => 8,
        };
        // Room before the data, for a reshape one day: 128 MiB, or a thousandth of a small disk.
        let mut spare = (128 << 20) / SECTOR;
        while spare << 10 > sectors && spare > 8 {
            spare >>= 1
        }
        let used = Minor::V2.sector(sectors)? + u64::from(BITMAP) + bitmap + u64::from(LOG);
        let data = (used + spare).next_multiple_of((1 << 20) / SECTOR);
        let room = sectors.checked_sub(data).filter(|room| *room > 0)?;
        Some(Self { bitmap, data, room })
    }

    /// Bytes of an array that a bit of the bitmap stands for: 64 MiB, or as many as it takes for the bits to have room.
    fn unit(&self, span: u64) -> u32 {
        let bits = (self.bitmap * SECTOR - 256) * 8;
        let mut unit: u64 = 64 << 20;
        while (span * SECTOR).div_ceil(unit) > bits && unit < 1 << 31 {
            unit <<= 1
        }
        // At most 2^31.
        unit as u32
    }
}

/// Empties a disk, and says how it is divided.
async fn take(
    draft: &mut Draft<'_>,
    disk: &str,
    partial: Option<u16>,
    force: bool,
) -> Result<(Arc<Facts>, Division), Refusal> {
    let facts = draft.facts(disk)?;
    vacate(draft, &facts.name, force).await?;
    let too_small = || Refusal::new(Code::NoSpace, format!("{disk:?} is too small for a member of an array"));
    let division = Division::of(facts.bytes() / SECTOR, partial).ok_or_else(too_small)?;
    Ok((facts, division))
}

/// Writes a member's bitmap and then its superblock; the caller sets barriers.
async fn write_bitmap(
    draft: &mut Draft<'_>,
    disk: &str,
    at: u64,
    division: Division,
    header: &Header,
) -> Result<(), Refusal> {
    let mut bytes = vec![0; (division.bitmap * SECTOR) as usize];
    let header = header.to_bytes();
    bytes[..header.len()].copy_from_slice(&header);
    draft.put(disk, at * SECTOR, &bytes, "write-intent bitmap").await
}

/// Writes the first unit of a member's partial parity log, which is about nothing.
async fn write_partial(draft: &mut Draft<'_>, disk: &str, array: Uuid) -> Result<(), Refusal> {
    let many = || Refusal::new(Code::Unsupported, "a partial parity log with too many entries");
    let bytes = ppl::Header::new(array, 0).to_bytes().ok_or_else(many)?;
    let at = (u64::from(BITMAP) + 8) * SECTOR;
    draft.put(disk, at, &bytes[..], "partial parity log").await
}

async fn write_superblock(draft: &mut Draft<'_>, disk: &str, new: &V1) -> Result<(), Refusal> {
    let many = || Refusal::new(Code::Unsupported, "an array has at most 128 members and spares");
    let mut bytes = new.to_bytes().ok_or_else(many)?;
    bytes.resize(4096, 0);
    draft.put(disk, new.super_offset * SECTOR, &bytes, "superblock").await
}

/// Wipes what makes a disk a member: its superblock, and the header of its bitmap. Where both lie before the data, all that a look at the disk would find of bitmap
/// and logs as well: it is blank then.
async fn wipe(draft: &mut Draft<'_>, disk: &str, device: &Device) -> Result<(), Refusal> {
    let data = device.superblock.data_offset();
    if device.at < data {
        let end = data.min(HEAD / SECTOR).max(device.at + 8);
        let zeros = vec![0; ((end - device.at) * SECTOR) as usize];
        return draft
            .put(disk, device.at * SECTOR, &zeros, "superblock, bitmap and logs")
            .await;
    }
    let zeros = [0; 4096];
    draft.put(disk, device.at * SECTOR, &zeros, "superblock").await?;
    let bitmap = device.superblock.bitmap_offset();
    if let Some(at) = bitmap.and_then(|offset| device.at.checked_add_signed(offset.into())) {
        let header = &zeros[..SECTOR as usize];
        draft.put(disk, at * SECTOR, header, "write-intent bitmap").await?
    }
    Ok(())
}

/// What a superblock says of its own disk.
fn divide(new: &mut V1, division: Division, unit: u64, level: Level) {
    new.super_offset = 8;
    new.data_offset = division.data;
    new.data_size = if level == Level::Raid0 {
        division.room / unit * unit
    } else {
        division.room
    };
    new.bad_blocks = BadBlockLog {
        offset: BITMAP as i32 + division.bitmap as i32,
        size: LOG,
        shift: 0,
    }
}

/// The array of this name, disk or identity, of which we know everything.
fn find(draft: &Draft<'_>, object: &str) -> Result<Group, Refusal> {
    group_of(draft.disks, object).ok_or_else(|| {
        Refusal::new(Code::NotFound, format!("there is no array {object:?}"))
            .but("`ashlar raid ls` lists those that run")
    })
}

fn group_of(disks: &dyn Disks, object: &str) -> Option<Group> {
    let is_it = |group: &Group| group.name == object || group.id == object || assembly::disk(&group.name) == object;
    let mut groups = disks.groups().into_iter();
    groups.find(|group| group.format == "md" && is_it(group))
}

/// What a disk says of itself as a member.
async fn member(draft: &mut Draft<'_>, disk: &str) -> Result<Device, Refusal> {
    let facts = draft.facts(disk)?;
    let source = Disk(draft.disks, facts.name.clone());
    let unreadable = |why: ReadError| Refusal::new(Code::Unreadable, format!("{disk:?}: {why}"));
    let probe = Probe::new(&facts.name, facts.uuid, facts.blocks, facts.block_size, &source).await;
    match Md.taste(&probe).await.map_err(unreadable)? {
        Taste::Mine(mine) => match mine.member {
            Some(Member::Md(device)) => Ok((*device).clone()),
            _ => Err(Refusal::new(
                Code::Damaged,
                format!("{disk:?} is no member of an array any more"),
            )),
        },
        _ => Err(Refusal::new(
            Code::Damaged,
            format!("{disk:?} is no member of an array any more"),
        )),
    }
}

struct Disk<'a>(&'a dyn Disks, String);

impl Source for Disk<'_> {
    fn read(&self, extent: spec::Extent) -> Reading<'_> {
        self.0.read(&self.1, extent)
    }
}

/// The disks that belong to an array in whatever way, by what they say themselves.
async fn disks_of(draft: &mut Draft<'_>, group: &Group) -> Result<Vec<(String, Device)>, Refusal> {
    let seats: Vec<&String> = group.members.iter().filter_map(|seat| seat.disk.as_ref()).collect();
    let is_md = |name: &String| draft.disks.facts(name).is_some_and(|facts| facts.format == Some("md"));
    let others: Vec<String> = draft
        .disks
        .names()
        .into_iter()
        .filter(|name| is_md(name) && !seats.contains(&name))
        .collect();
    let mut all = Vec::new();
    for name in seats {
        match member(draft, name).await {
            Ok(device) => all.push((name.clone(), device)),
            // One that answers no more belongs to nothing.
            Err(refusal) if refusal.code == Code::Unreadable => (),
            Err(refusal) => return Err(refusal),
        }
    }
    for name in others {
        // One of another array may be as damaged as it likes.
        if let Ok(device) = member(draft, &name).await
            && device.superblock.array().to_string() == group.id
        {
            all.push((name, device))
        }
    }
    Ok(all)
}
