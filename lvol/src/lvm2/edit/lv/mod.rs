//! Logical volumes: made, extended, reduced, renamed, removed, changed. Linear and striped ones; what other types a volume has stays as it is.
mod change;
mod create;
mod resize;

pub use change::{LvChange, LvRemove, LvRename};
pub use create::LvCreate;
pub use resize::{LvExtend, LvReduce};

use super::{
    super::{
        space::{Allowed, Policy, Run, Space},
        whole::Whole,
    },
    size::{self, Amount, Of, Sign},
};
use crate::plan::{Code, Disks, Refusal};
use serde_json::Value;
use spec::lvm2::{
    SECTOR,
    text::{Data, Section},
    vg::{LogicalVolume, Segment, Shape, has},
};

/// Bytes of a stripe's chunk unless told otherwise, as LVM2's.
const CHUNK: u64 = 64 << 10;

/// How many extents are meant. `now` is what the volume has.
fn count(
    whole: &Whole,
    space: &Space,
    on: &[Allowed],
    now: u64,
    (sign, amount): (Sign, Amount),
    round: fn(u64, u64) -> u64,
) -> Result<(Sign, u64), Refusal> {
    let vg = &whole.vg;
    let all = |of: Of| match of {
        Of::Group => vg.physical.iter().map(|pv| pv.pe_count).sum(),
        Of::Free => space.extents(),
        Of::Disks => {
            let named =
                |pv: &&spec::lvm2::vg::PhysicalVolume| on.is_empty() || on.iter().any(|(word, _)| *word == pv.name);
            vg.physical.iter().filter(named).map(|pv| pv.pe_count).sum::<u64>()
        }
        Of::Volume => now,
    };
    let extents = match amount {
        Amount::Bytes(bytes) => round(bytes, vg.extent_size * SECTOR),
        Amount::Extents(extents) => extents,
        Amount::Percent(percent, of) => {
            let part = u128::from(all(of)) * u128::from(percent) / 100;
            u64::try_from(part).unwrap_or(u64::MAX)
        }
    };
    // A share of what is free is what is added; a share of the rest is what the volume shall have.
    let sign = match (sign, amount) {
        (Sign::To, Amount::Percent(_, Of::Free)) if now > 0 => Sign::Plus,
        (sign, _) => sign,
    };
    if extents == 0 {
        return Err(Refusal::new(Code::BadOption, "a size of nothing"));
    }
    Ok((sign, extents))
}

/// The option that says how much: one of two.
fn amount(size: &Option<Value>, extents: &Option<Value>) -> Result<(Sign, Amount), Refusal> {
    match (size, extents) {
        (Some(size), None) => size::size(size),
        (None, Some(extents)) => size::extents(extents),
        _ => Err(Refusal::new(
            Code::BadOption,
            "either `size` or `extents` says how much",
        )),
    }
}

fn up(bytes: u64, extent: u64) -> u64 {
    bytes.div_ceil(extent)
}

fn down(bytes: u64, extent: u64) -> u64 {
    bytes / extent
}

/// The section of a segment.
fn segment(start: u64, row: &[Run], chunk: u64) -> Section {
    let mut section = Section::default();
    let number = |n: u64| Data::Integer(n as i64);
    let stripes = row.len() as u64;
    let each = row.first().map_or(0, |run| run.count);
    section.set("start_extent", number(start));
    section.set("extent_count", number(each * stripes));
    section.set("type", Data::Text("striped".into()));
    section.set("stripe_count", number(stripes));
    if stripes > 1 {
        section.set("stripe_size", number(chunk));
    }
    let pairs = row
        .iter()
        .flat_map(|run| [Data::Text(run.on.clone()), number(run.start)]);
    section.set("stripes", Data::List(pairs.collect()));
    section
}

/// Puts rows behind what a volume has. A row that goes on where the last segment ends makes that longer.
fn append(volume: &mut Section, lv: Option<&LogicalVolume>, rows: &[Vec<Run>], chunk: u64) {
    let last = lv.and_then(|lv| lv.segments.last());
    let mut start = lv.map_or(0, LogicalVolume::extents);
    let mut number = lv.map_or(0, |lv| lv.segments.len());
    for (row, first) in rows.iter().zip([true].into_iter().chain(std::iter::repeat(false))) {
        let more = row.iter().map(|run| run.count).sum::<u64>();
        let goes_on = first.then_some(last).flatten().filter(|last| continues(last, row));
        let named = format!("segment{number}");
        match goes_on.and_then(|last| Some((last, volume.get_mut(&named)?.section_mut()?))) {
            Some((last, section)) => section.set("extent_count", Data::Integer((last.count + more) as i64)),
            None => {
                number += 1;
                volume.add(&format!("segment{number}"), segment(start, row, chunk));
            }
        }
        start += more;
    }
    volume.set("segment_count", Data::Integer(number as i64));
}

fn continues(last: &Segment, row: &[Run]) -> bool {
    let Shape::Striped { stripes, .. } = &last.shape else {
        return false;
    };
    let each = last.count / stripes.len().max(1) as u64;
    stripes.len() == row.len()
        && stripes
            .iter()
            .zip(row)
            .all(|(stripe, run)| stripe.on == run.on && stripe.extent + each == run.start)
}

/// The chunk in sectors.
fn chunk(whole: &Whole, wanted: &Option<Value>) -> Result<u64, Refusal> {
    let bytes = match wanted.as_ref().map(size::size).transpose()? {
        None => CHUNK.min(whole.vg.extent_size * SECTOR),
        Some((Sign::To, Amount::Bytes(bytes))) => bytes,
        Some(_) => return Err(Refusal::new(Code::BadOption, "a stripe size has no sign in front")),
    };
    let block = whole.pvs.first().map_or(512, |pv| u64::from(pv.disk.block_size));
    // As LVM2: a power of two, at least a page, at most an extent.
    let good = bytes.is_power_of_two() && bytes >= 4096.max(block) && bytes <= whole.vg.extent_size * SECTOR;
    match good {
        true => Ok(bytes / SECTOR),
        false => Err(Refusal::new(Code::BadOption, format!("a stripe size of {bytes} bytes"))
            .but("a power of two from 4 KiB up to the extent size")),
    }
}

/// The volume, if it is one that can be changed here.
pub(super) fn plain<'a>(whole: &'a Whole, name: &str) -> Result<&'a LogicalVolume, Refusal> {
    let vg = &whole.vg;
    let lv = vg.logical.iter().find(|lv| lv.name == name);
    let lv = lv.ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            format!("the volume group {:?} has no volume {name:?}", vg.name),
        )
    })?;
    let no = |why: String| Err(Refusal::new(Code::Unsupported, why));
    if let Some(segment) = lv
        .segments
        .iter()
        .find(|segment| matches!(segment.shape, Shape::Other { .. }))
    {
        return no(format!(
            "{:?} has segments of type {}, which LVM2 changes and Ashlar does not",
            lv.name, segment.kind
        ));
    }
    let section = whole
        .tree
        .section(&vg.name)
        .and_then(|group| group.section("logical_volumes")?.section(name));
    for (segment, number) in lv.segments.iter().zip(1..) {
        let there = section.and_then(|section| section.section(&format!("segment{number}")));
        let start = there.and_then(|segment| segment.value("start_extent")?.integer());
        if start != i64::try_from(segment.start).ok() {
            return no(format!("the segments of {:?} are not numbered in their order", lv.name));
        }
    }
    if let Some((_, user)) = vg.parts().into_iter().find(|(part, _)| *part == lv.name) {
        return no(format!("{:?} is a part of {user:?}", lv.name));
    }
    if !lv.is_visible() || has(&lv.status, "LOCKED") {
        return no(format!(
            "{:?} is a part of another volume, or LVM2 is at work on it",
            lv.name
        ));
    }
    Ok(lv)
}

/// `group/volume` taken apart.
fn split(object: &str) -> Result<(&str, &str), Refusal> {
    object
        .split_once('/')
        .ok_or_else(|| Refusal::new(Code::WrongKind, format!("{object:?} is no group/volume")))
}

/// What a group has: bytes in an extent, and extents that nobody has. Nothing if it is not there.
fn room(disks: &dyn Disks, vg: &str) -> Option<(u64, u64)> {
    let group = disks
        .groups_called(vg)
        .into_iter()
        .find(|group| group.format == "lvm2")?;
    let seats = group.members.iter().filter(|seat| seat.allocatable);
    let free = seats.map(|seat| seat.extents.saturating_sub(seat.used)).sum();
    Some((group.extent_bytes, free))
}

/// The disks of a group.
fn members(disks: &dyn Disks, vg: &str) -> Vec<String> {
    let groups = disks
        .groups_called(vg)
        .into_iter()
        .filter(|group| group.format == "lvm2");
    groups
        .flat_map(|group| group.members)
        .filter_map(|seat| seat.disk)
        .collect()
}

/// Powers of two that are sizes of a chunk.
fn chunks(extent: u64) -> Vec<u64> {
    (12..34)
        .map(|shift| 1 << shift)
        .take_while(|bytes| *bytes <= extent)
        .collect()
}

/// How many extents a volume has.
fn length(disks: &dyn Disks, object: &str) -> Option<u64> {
    let vg = object.split('/').next().unwrap_or_default();
    let groups = disks.groups_called(vg);
    let group = groups.iter().find(|group| group.format == "lvm2")?;
    let volume = group.volumes.iter().find(|volume| volume.disk == object)?;
    Some(volume.what.bytes / group.extent_bytes.max(1))
}

fn policy(whole: &Whole, wanted: Option<&str>) -> Result<Policy, Refusal> {
    let own = whole
        .tree
        .section(&whole.vg.name)
        .and_then(|group| group.value("allocation_policy"));
    let word = wanted.or(own.and_then(|value| value.text())).unwrap_or("normal");
    Policy::named(word).ok_or_else(|| {
        Refusal::new(Code::BadOption, format!("{word:?} is no allocation policy"))
            .but("normal, contiguous, cling and anywhere are")
    })
}

/// The disks of rows, in words.
fn places(whole: &Whole, rows: &[Vec<Run>]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for run in rows.iter().flatten() {
        let pv = whole.vg.physical.iter().find(|pv| pv.name == run.on);
        let disk = pv.and_then(|pv| whole.pvs.iter().find(|one| one.label.id == pv.id));
        let name = disk.map_or(run.on.as_str(), |pv| pv.disk.name.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}
