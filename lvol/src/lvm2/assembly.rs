//! What physical volumes add up to, by LVM2's rules:
//!
//! 1. Texts with the same identity describe one group, and the one with the highest sequence number counts, wherever it lies. Two different
//!    texts of one number mean that two hosts have written: nobody can tell which is right.
//! 2. A disk belongs to the group whose text lists its identity, with a text of its own or without. One whose own text names a group
//!    that lists it no more was removed while it was away.
//! 3. A member that is not there, or that was not there when the text was written (`MISSING`), makes the group partial: volumes that need it
//!    are not active, the others are. The administrator may want none of them ([`Activation::Complete`]), or all with gaps
//!    ([`Activation::Partial`]). A gap is as long as its segment: of a stripe no row is whole without one of its disks.
//! 4. Two disks of one identity are copies. Nothing of their group becomes active until one is gone; what is active stays.
//! 5. A group with a system id that is not ours belongs to that host, an exported one to nobody, one with a lock type or `CLUSTERED` to several who talk to
//!    a lock manager: none is touched.
//! 6. Two groups of one name: neither becomes active, for their volumes would have the same names.
//! 7. A volume is active if all its segments are linear or striped, on extents that exist and that no other volume has, and no other volume is made
//!    of it. The origin of a snapshot is not: writes to it that the snapshot does not see would destroy the snapshot.
use super::{Activation, PhysicalVolume};
use crate::{
    activation::{self, Desired},
    format::Proposal,
    group::{
        Assembly, Enrolled, Given, Group, GroupState, LogicalVolume, Member, Seat, Shared, Standing, Stretch, Volume,
    },
    judge::Verdict,
};
use bdev::{
    Table,
    table::{Piece, Segment},
};
use spec::lvm2::{
    Id, SECTOR,
    vg::{self, Shape, VolumeGroup, has, kind_name},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use uuid::{Uuid, uuid};

/// Namespace of the UUIDs that volumes get, for LVM2's own identities are none.
const NAMESPACE: Uuid = uuid!("5f6a2c7e-0f0d-5d0a-9a55-6c766d320001");
/// What a volume is, for `bdev_get_bdevs`.
pub const PRODUCT: &str = "LVM2 Logical Volume";

/// The name of volume `lv` of group `vg`, as in `/dev`.
pub fn name(vg: &str, lv: &str) -> String {
    format!("{vg}/{lv}")
}

type Disk<'a> = (&'a Enrolled<'a>, &'a PhysicalVolume);

/// What the volumes of a group follow from, besides what the text says of each. While it stays the same, a volume of which the text says the same is
/// the same.
#[derive(Debug, PartialEq)]
pub struct Basis {
    id: Id,
    name: String,
    extent_size: u64,
    status: Vec<String>,
    flags: Vec<String>,
    state: GroupState,
    reason: String,
    activation: Activation,
    spots: Vec<Spot>,
}

/// A physical volume as far as volumes depend on it.
#[derive(Debug, PartialEq)]
struct Spot {
    word: String,
    /// Its disk with blocks and block size, or why there is none.
    disk: Result<(String, u64, u32), String>,
    start: u64,
    count: u64,
}

pub(super) fn assemble(members: &[Enrolled<'_>], given: Given<'_>) -> Assembly {
    let disks: Vec<Disk<'_>> = members
        .iter()
        .filter_map(|one| match one.member {
            Member::Lvm2(pv) => Some((one, pv.as_ref())),
            _ => None,
        })
        .collect();
    let mut by_id: BTreeMap<Id, Vec<Disk<'_>>> = BTreeMap::new();
    let mut texts: BTreeMap<Id, Vec<Disk<'_>>> = BTreeMap::new();
    for &disk in &disks {
        by_id.entry(disk.1.id).or_default().push(disk);
        if let Some(text) = &disk.1.text {
            texts.entry(text.vg.id).or_default().push(disk);
        }
    }
    // Rule 1.
    let newest: Vec<(&VolumeGroup, bool)> = texts
        .values()
        .filter_map(|from| {
            let all = || from.iter().filter_map(|(_, pv)| pv.text.as_ref());
            let best = all().max_by_key(|text| text.vg.seqno)?;
            let split = all().any(|text| text.vg.seqno == best.vg.seqno && text.checksum != best.checksum);
            Some((&best.vg, split))
        })
        .collect();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    newest
        .iter()
        .for_each(|(group, _)| *names.entry(&group.name).or_default() += 1);
    let mut standings: BTreeMap<&str, Standing> = BTreeMap::new();
    let mut groups: Vec<Group> = newest
        .iter()
        .map(|(vg, split)| {
            let twins = names.get(vg.name.as_str()).is_some_and(|n| *n > 1);
            let id = vg.id.to_string();
            let before = given.before.iter().find(|group| group.id == id);
            group(vg, (*split, twins), &by_id, &mut standings, given, before)
        })
        .collect();
    groups.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    for (disk, pv) in disks {
        if !standings.contains_key(disk.disk) {
            standings.insert(disk.disk, alone(pv, &newest));
        }
    }
    Assembly {
        groups,
        standings: standings.into_iter().map(|(disk, s)| (disk.to_owned(), s)).collect(),
    }
}

/// What a disk is that no text lists.
fn alone(pv: &PhysicalVolume, newest: &[(&VolumeGroup, bool)]) -> Standing {
    let own = pv.text.as_ref().map(|text| &text.vg);
    let now = own.and_then(|own| newest.iter().find(|(group, _)| group.id == own.id));
    let (verdict, reason) = match (own, now) {
        (Some(own), Some((group, _))) => (
            Verdict::Unclaimed,
            format!(
                "was removed from the LVM2 group {:?} while it was away (its own metadata is of change {}, the group's of {})",
                group.name, own.seqno, group.seqno
            ),
        ),
        _ if !pv.damage.is_empty() && pv.areas == 0 => (
            Verdict::Unclaimed,
            format!("has an LVM2 label, but no usable metadata: {}", pv.damage.join("; ")),
        ),
        _ if pv.used => (
            Verdict::Claimed,
            "LVM2 physical volume of a group whose metadata is on other disks".into(),
        ),
        _ => (Verdict::Claimed, "LVM2 physical volume in no group".into()),
    };
    let mut notes = pv.notes.clone();
    if verdict == Verdict::Claimed {
        notes.extend(pv.damage.iter().cloned());
    }
    Standing { verdict, reason, notes }
}

/// Where a group's physical volume is.
enum Place<'a> {
    /// On this disk.
    Disk(&'a Enrolled<'a>),
    /// Nowhere, and why.
    Missing(String),
}

fn group<'a>(
    vg: &VolumeGroup,
    (split, twins): (bool, bool),
    by_id: &BTreeMap<Id, Vec<Disk<'a>>>,
    standings: &mut BTreeMap<&'a str, Standing>,
    given: Given<'_>,
    before: Option<&Group>,
) -> Group {
    let activation = given.lvm2.activation;
    let mut notes = Vec::new();
    let mut places: BTreeMap<&str, (Place<'a>, &vg::PhysicalVolume)> = BTreeMap::new();
    let (mut seats, mut copies, mut missing) = (Vec::new(), Vec::new(), 0);
    let used = used(vg);
    for pv in &vg.physical {
        let found = by_id.get(&pv.id).map(Vec::as_slice).unwrap_or_default();
        for (disk, own) in found {
            let twin = found.iter().find(|(other, _)| other.disk != disk.disk);
            let standing = member(vg, &pv.name, own, twin.map(|(other, _)| other.disk));
            standings.insert(disk.disk, standing);
        }
        if found.len() > 1 {
            let all: Vec<String> = found.iter().map(|(disk, _)| format!("{:?}", disk.disk)).collect();
            copies.push(format!("{} are the same physical volume", all.join(" and ")));
        }
        // Of copies the one counts that something active stands on.
        let one = found.iter().find(|(disk, _)| disk.carries).or(found.first());
        let last = pv.device.as_deref().map(|at| format!("; it was last seen as {at}"));
        let place = match one {
            // A member that nothing is on is welcome back without ceremony, as in LVM2.
            Some(_) if has(&pv.status, "MISSING") && used.get(pv.name.as_str()).is_some_and(|n| *n > 0) => {
                missing += 1;
                Place::Missing(format!(
                    "needs {}, which was missing when the group was changed; `vgextend --restoremissing` says that it is good",
                    pv.name
                ))
            }
            Some((disk, _)) => Place::Disk(disk),
            None => {
                missing += 1;
                let last = last.unwrap_or_default();
                Place::Missing(format!("needs {} ({}), which is missing{last}", pv.name, pv.id))
            }
        };
        seats.push(Seat {
            name: pv.name.clone(),
            id: pv.id.to_string(),
            disk: one.map(|(disk, _)| disk.disk.to_owned()),
            last_seen: pv.device.clone(),
            extents: pv.pe_count,
            used: used.get(pv.name.as_str()).copied().unwrap_or_default(),
            start: pv.pe_start.saturating_mul(SECTOR),
            allocatable: has(&pv.status, "ALLOCATABLE"),
            tags: pv.tags.clone(),
        });
        if let Some((disk, _)) = one
            && let Some(wanted) = pv.dev_size
            && disk.blocks.saturating_mul(u64::from(disk.block_size) / SECTOR) < wanted
        {
            notes.push(format!(
                "{:?} is smaller than {} was when the group was made ({wanted} sectors)",
                disk.disk, pv.name
            ));
        }
        places.insert(&pv.name, (place, pv));
    }
    let ours = given.lvm2.system_id.as_deref();
    let (state, reason) = state(vg, (split, twins), ours, &copies, missing);
    // Once for all: to ask for each would take the square of the time.
    let cows: BTreeSet<&str> = vg
        .logical
        .iter()
        .flat_map(|lv| &lv.segments)
        .filter_map(|segment| match &segment.shape {
            Shape::Other { cow, .. } => cow.as_deref(),
            Shape::Striped { .. } => None,
        })
        .collect();
    let parts: BTreeMap<&str, &str> = vg.parts().into_iter().collect();
    let kinds: BTreeMap<&str, String> = match parts.is_empty() {
        true => BTreeMap::new(),
        false => vg.logical.iter().map(|lv| (lv.name.as_str(), kinds(lv))).collect(),
    };
    let overlaps: BTreeMap<&str, &str> = vg.overlaps().into_iter().collect();
    let spots = places.iter().map(|(word, (place, pv))| {
        let disk = match place {
            Place::Disk(disk) => Ok((disk.disk.to_owned(), disk.blocks, disk.block_size)),
            Place::Missing(why) => Err(why.clone()),
        };
        Spot {
            word: (*word).to_owned(),
            disk,
            start: pv.pe_start,
            count: pv.pe_count,
        }
    });
    let basis = Basis {
        id: vg.id,
        name: vg.name.clone(),
        extent_size: vg.extent_size,
        status: vg.status.clone(),
        flags: vg.flags.clone(),
        state,
        reason: reason.clone(),
        activation,
        spots: spots.collect(),
    };
    let before = before.filter(|before| before.basis.as_deref() == Some(&basis));
    // By what they were read from: the text that was read has it, as long as it says the same.
    let known: HashMap<*const vg::LogicalVolume, &Shared<Volume>> = before
        .into_iter()
        .flat_map(|before| &before.volumes)
        .filter(|volume| volume.node.is_some())
        .filter_map(|volume| Some((Arc::as_ptr(volume.source.as_ref()?), volume)))
        .collect();
    let at = Group {
        name: vg.name.clone(),
        format: "lvm2".into(),
        id: vg.id.to_string(),
        state,
        reason,
        seqno: vg.seqno,
        extent_bytes: vg.extent_size * SECTOR,
        status: status(vg),
        allocation: vg.allocation.clone(),
        system_id: vg.system_id.clone(),
        tags: vg.tags.clone(),
        members: seats,
        volumes: Vec::new(),
        notes,
        basis: Some(basis.into()),
    };
    let volumes = vg.logical.iter().map(|lv| {
        // Somebody has asked for something: that may be news.
        let asked = given.desires.get(&activation::key(&at.id, &lv.id.to_string()));
        let alone = !parts.contains_key(lv.name.as_str()) && !overlaps.contains_key(lv.name.as_str());
        let alone = alone && asked.is_none();
        if let Some(same) = known.get(&Arc::as_ptr(lv)).filter(|_| alone) {
            let mut same = (*same).clone();
            // Whether it could be built is not for assembly to say.
            if same.inactive.is_some() {
                same.make_mut().inactive = None;
            }
            return same;
        }
        let inactive = if let Some(whole) = parts.get(lv.name.as_str()) {
            let kind = kinds.get(whole).map(String::as_str).unwrap_or_default();
            Some(format!("is a part of {whole:?} ({kind}), which cannot be run here"))
        } else if !lv.is_visible() {
            Some("is a part of another volume".into())
        } else if matches!(state, GroupState::Foreign | GroupState::Ambiguous) {
            Some(format!("belongs to a group that {}", at.reason))
        } else if let Some(other) = overlaps.get(lv.name.as_str()) {
            Some(format!("has extents that {other:?} has too; the metadata is damaged"))
        } else if state == GroupState::Partial && activation == Activation::Complete {
            Some(format!(
                "belongs to a group that {}, and nothing of such a group is to become active (`activation: complete`)",
                at.reason
            ))
        } else {
            idle(vg, lv, asked.copied().unwrap_or_default())
        };
        let node = match &inactive {
            None => node(vg, lv, &places, activation),
            Some(why) => Err(why.clone()),
        };
        let what = Shared::from(LogicalVolume {
            group: vg.name.clone(),
            name: lv.name.clone(),
            id: lv.id.to_string(),
            kinds: lv.kinds().0.into_iter().collect(),
            tags: lv.tags.clone(),
            bytes: lv.extents().saturating_mul(vg.extent_size).saturating_mul(SECTOR),
            read_only: !lv.is_writable(),
            skipped: has(&lv.flags, "ACTIVATION_SKIP"),
            allocation: lv.allocation.clone(),
            segments: lv.segments.iter().map(stretch).collect(),
        });
        Shared::from(Volume {
            disk: name(&vg.name, &lv.name),
            hidden: !lv.is_visible() && !cows.contains(lv.name.as_str()),
            inactive: node.as_ref().err().cloned(),
            node: node.ok().map(|node| {
                Shared::from(Proposal {
                    volume: Some(what.clone()),
                    ..node
                })
            }),
            what,
            source: Some(lv.clone()),
        })
    });
    let volumes: Vec<Shared<Volume>> = volumes.collect();
    let mut notes = at.notes.clone();
    if activation == Activation::Partial && state == GroupState::Partial {
        notes.extend(volumes.iter().filter_map(|volume| gaps(volume)));
    }
    Group { volumes, notes, ..at }
}

/// What the metadata says of the group; that its volumes may be written to in one way, not two.
fn status(vg: &VolumeGroup) -> Vec<String> {
    let mut status = vg.status.clone();
    if vg.is_writable() && !has(&status, "WRITE") {
        status.push("WRITE".into());
    }
    status
}

/// What to know of a volume that has gaps.
fn gaps(volume: &Volume) -> Option<String> {
    let Table::Mapped { pieces, .. } = &volume.node.as_ref()?.table else {
        return None;
    };
    let gap = |piece: &Piece| matches!(piece, Piece::Gap { .. }).then(|| piece.blocks());
    let (all, gone): (u64, u64) = pieces.iter().fold((0, 0), |(all, gone), piece| {
        (all + piece.blocks(), gone + gap(piece).unwrap_or_default())
    });
    (gone > 0).then(|| {
        format!(
            "{} is active with gaps: reads and writes of {gone} of its {all} blocks fail",
            volume.disk
        )
    })
}

fn stretch(segment: &vg::Segment) -> Stretch {
    let (chunk, on) = match &segment.shape {
        Shape::Striped { chunk, stripes } => {
            let on = stripes.iter().map(|stripe| (stripe.on.clone(), stripe.extent));
            (chunk.saturating_mul(SECTOR), on.collect())
        }
        Shape::Other { .. } => (0, Vec::new()),
    };
    Stretch {
        start: segment.start,
        count: segment.count,
        kind: match on.len() {
            1 => "linear".to_owned(),
            _ => segment.kind.clone(),
        },
        chunk,
        on,
    }
}

/// Extents of each physical volume that segments have.
fn used(vg: &VolumeGroup) -> BTreeMap<&str, u64> {
    let mut used: BTreeMap<&str, u64> = BTreeMap::new();
    for segment in vg.logical.iter().flat_map(|lv| &lv.segments) {
        match &segment.shape {
            Shape::Striped { stripes, .. } => {
                for stripe in stripes {
                    *used.entry(&stripe.on).or_default() += segment.count / stripes.len() as u64;
                }
            }
            // How many nobody here can tell; that there are some is enough.
            Shape::Other { mentions, .. } => mentions.iter().for_each(|on| *used.entry(on).or_default() += 1),
        }
    }
    used
}

/// What a disk is that a text lists.
fn member(vg: &VolumeGroup, word: &str, own: &PhysicalVolume, twin: Option<&str>) -> Standing {
    let mut notes = own.notes.clone();
    notes.extend(own.damage.iter().map(|why| format!("{why}; a copy elsewhere counts")));
    match &own.text {
        Some(text) if text.vg.id != vg.id => notes.push(format!(
            "its own metadata is of another group, {:?} ({})",
            text.vg.name, text.vg.id
        )),
        Some(text) if text.vg.seqno < vg.seqno => notes.push(format!(
            "its own metadata is out of date (change {}, the group has {})",
            text.vg.seqno, vg.seqno
        )),
        _ => {}
    }
    match twin {
        Some(twin) => Standing {
            verdict: Verdict::Ambiguous,
            reason: format!(
                "is the same LVM2 physical volume as {twin:?} ({word} of group {:?}); take one away or give it another identity (vgimportclone)",
                vg.name
            ),
            notes,
        },
        None => Standing {
            verdict: Verdict::Claimed,
            reason: format!("LVM2 physical volume {word} of group {:?}", vg.name),
            notes,
        },
    }
}

/// Rules 1 and 3 to 6.
fn state(
    vg: &VolumeGroup,
    (split, twins): (bool, bool),
    ours: Option<&str>,
    copies: &[String],
    missing: usize,
) -> (GroupState, String) {
    let of = vg.physical.len();
    if split {
        let why = format!(
            "has two different texts of change {}; `vgck --updatemetadata` on a host chooses one",
            vg.seqno
        );
        return (GroupState::Ambiguous, why);
    }
    if twins {
        let why = format!(
            "shares its name with another group; `vgrename {} NEWNAME` on a host helps",
            vg.id
        );
        return (GroupState::Ambiguous, why);
    }
    if !copies.is_empty() {
        return (
            GroupState::Ambiguous,
            format!("has members that are there twice: {}; take one away", copies.join("; ")),
        );
    }
    if has(&vg.status, "EXPORTED") {
        return (GroupState::Foreign, "is exported; `vg-import` makes it usable".into());
    }
    if let Some(host) = vg.system_id.as_deref().filter(|host| Some(*host) != ours) {
        let why = format!(
            "belongs to the host {host:?} (its system id); `vgchange --systemid ''` there sets it free, `vg-adopt` takes it"
        );
        return (GroupState::Foreign, why);
    }
    if vg.lock_type.is_some() || has(&vg.status, "CLUSTERED") {
        let by = vg.lock_type.as_deref().unwrap_or("clvmd");
        return (
            GroupState::Foreign,
            format!("is shared among hosts by the lock manager {by}, which does not run here"),
        );
    }
    match missing {
        0 => (GroupState::Complete, format!("has all its {of} physical volumes")),
        n => (GroupState::Partial, format!("lacks {n} of its {of} physical volumes")),
    }
}

fn kinds(lv: &vg::LogicalVolume) -> String {
    lv.kinds().0.into_iter().collect::<Vec<_>>().join(", ")
}

/// Why a volume of a usable group cannot or shall not be active, before its extents are looked at.
fn idle(vg: &VolumeGroup, lv: &vg::LogicalVolume, desired: Desired) -> Option<String> {
    for segment in &lv.segments {
        if let Shape::Other { .. } = segment.shape {
            return Some(match kind_name(&segment.kind) {
                Some(name) => format!(
                    "has segments of type {} ({name}), which cannot be run here",
                    segment.kind
                ),
                None => format!("has segments of the unknown type {:?}", segment.kind),
            });
        }
    }
    if lv.segments.is_empty() {
        return Some("has no extents".into());
    }
    if desired == Desired::Inactive {
        return Some("was deactivated (`lvchange -ay` activates it)".into());
    }
    if has(&lv.flags, "ACTIVATION_SKIP") && desired != Desired::Anyway {
        return Some(
            "is marked to be left out (`lvchange --setactivationskip n` changes that, `-ay -K` does not ask)".into(),
        );
    }
    let auto = !has(&lv.flags, "NOAUTOACTIVATE") && !has(&vg.flags, "NOAUTOACTIVATE");
    if !auto && desired == Desired::Auto {
        return Some("is not to become active by itself (`--setautoactivation y` changes that)".into());
    }
    None
}

/// Rule 7: the volume as a node, or why not.
fn node(
    vg: &VolumeGroup,
    lv: &vg::LogicalVolume,
    places: &BTreeMap<&str, (Place<'_>, &vg::PhysicalVolume)>,
    activation: Activation,
) -> Result<Proposal, String> {
    // Gaps are counted in blocks of the disks that are there.
    let mut gaps: Vec<(usize, u64)> = Vec::new();
    let mut block_sizes = BTreeSet::new();
    let mut pieces = Vec::with_capacity(lv.segments.len());
    'segments: for segment in &lv.segments {
        let Shape::Striped { chunk, stripes } = &segment.shape else {
            return Err("has segments that cannot be run here".into());
        };
        let each = segment.count / stripes.len() as u64;
        let mut runs = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            let (disk, pv) = match places.get(stripe.on.as_str()) {
                None => return Err(format!("stands on {:?}, which is no physical volume", stripe.on)),
                Some((Place::Missing(_), _)) if activation == Activation::Partial => {
                    let sectors = segment.count.saturating_mul(vg.extent_size);
                    gaps.push((pieces.len(), sectors));
                    pieces.push(Piece::Gap { blocks: 0 });
                    continue 'segments;
                }
                Some((Place::Missing(why), _)) => return Err(why.clone()),
                Some((Place::Disk(_), pv)) if stripe.extent + each > pv.pe_count => {
                    return Err(format!("has extents outside of {}", stripe.on));
                }
                Some((Place::Disk(disk), pv)) => (*disk, *pv),
            };
            block_sizes.insert(disk.block_size);
            let start = stripe.extent.checked_mul(vg.extent_size);
            let start = start.and_then(|from| pv.pe_start.checked_add(from));
            let run = start
                .zip(each.checked_mul(vg.extent_size))
                .and_then(|(start, sectors)| {
                    let (start, blocks) = (whole_blocks(start, disk)?, whole_blocks(sectors, disk)?);
                    Some(Segment {
                        on: disk.disk.to_owned(),
                        start,
                        blocks,
                    })
                });
            let Some(run) = run else {
                return Err(format!(
                    "does not fall on the blocks of {} bytes that {:?} has",
                    disk.block_size, disk.disk
                ));
            };
            if run.start.checked_add(run.blocks).is_none_or(|end| end > disk.blocks) {
                return Err(format!(
                    "reaches past the end of {:?}, which has {} blocks",
                    disk.disk, disk.blocks
                ));
            }
            runs.push(run);
        }
        match (runs.len(), block_sizes.first()) {
            (1, _) => pieces.extend(runs.into_iter().map(Piece::Linear)),
            (_, Some(&block)) => {
                let chunk = chunk * SECTOR / u64::from(block.max(1));
                let fits = u32::try_from(chunk)
                    .ok()
                    .filter(|c| *c > 0 && runs.iter().all(|r| r.blocks.is_multiple_of(u64::from(*c))));
                let Some(chunk) = fits else {
                    return Err("has stripes that do not fall on the blocks of the disks".into());
                };
                pieces.push(Piece::Stripe { on: runs, chunk });
            }
            (_, None) => {}
        }
    }
    if block_sizes.len() > 1 {
        return Err("is on disks whose blocks differ in size".into());
    }
    if pieces.iter().all(|piece| matches!(piece, Piece::Gap { .. })) {
        return Err("has no extents that are whole on disks that are there".into());
    }
    let per = block_sizes.first().map(|size| u64::from(*size) / SECTOR);
    for (at, sectors) in gaps {
        let Some(per) = per.filter(|per| sectors.is_multiple_of((*per).max(1))) else {
            return Err("has a gap that does not fall on the blocks of the disks".into());
        };
        pieces[at] = Piece::Gap {
            blocks: sectors / per.max(1),
        };
    }
    let read_only = !lv.is_writable() || !vg.is_writable();
    let linear: Option<Vec<Segment>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Linear(run) => Some(run.clone()),
            _ => None,
        })
        .collect();
    let table = match linear {
        Some(segments) if !read_only => Table::Linear { segments },
        _ => Table::Mapped { pieces, read_only },
    };
    // As device-mapper has it.
    let alias = format!("LVM-{}{}", vg.id.as_str(), lv.id.as_str());
    Ok(Proposal {
        name: name(&vg.name, &lv.name),
        uuid: Uuid::new_v5(&NAMESPACE, alias.as_bytes()),
        aliases: vec![alias],
        table,
        product: PRODUCT,
        partition: None,
        volume: None,
    })
}

/// Sectors in blocks of a disk, if they are whole ones.
fn whole_blocks(sectors: u64, disk: &Enrolled<'_>) -> Option<u64> {
    let per = u64::from(disk.block_size) / SECTOR;
    (per > 0 && sectors.is_multiple_of(per)).then(|| sectors / per)
}
