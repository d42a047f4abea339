//! What members add up to. Which of them count is decided in [`spec::md::assembly`]; here:
//!
//! 1. An array runs if its data can be had from the members that count. If some are missing it runs without them.
//! 2. One with parity that lacks members, and was not stopped cleanly, runs if a log says what was being written: a partial parity log, or a redo log that goes
//!    with the superblocks. Without one it does not run by itself: what the missing member had cannot be told from the others. Mirrors run.
//! 3. One that lacks members with which it last ran waits for them for a while: they may be on their way, and know more. It does not if somebody has asked for it as it
//!    is, and does not run at all if somebody has stopped it.
//! 4. A member that was away gets its place back if the bitmap knows what it has missed. Else a spare takes an empty place.
//! 5. What may differ after an unclean stop is what the bitmap has noted, if the bitmap is as new as the superblock; else everything.
//! 6. Arrays of level 0 and linear need all their members, and are tables of runs.
//! 7. Two sides that each went on alone are not guessed; what is active stays.
//! 8. Arrays of one name are told apart by their identities.
use super::{Bitmap, Device};
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
    raid::{MemberState, Shape},
    table::{self, Bytes, Piece, Segment},
};
use spec::md::{
    Level, SECTOR,
    assembly::{self, Refusal, Why},
    bitmap::Header,
    superblock::{Standing as Stands, Superblock},
    zones::{Counting, Zones},
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What an array is, for `bdev_get_bdevs`.
pub const PRODUCT: &str = "Raid Volume";

/// The disk that an array of this name is.
pub fn disk(name: &str) -> String {
    format!("md/{name}")
}

/// An array in a few words, as its members say.
pub fn title(superblock: &Superblock) -> String {
    let (_, name) = superblock.name();
    match name.is_empty() {
        true => superblock.array().to_string(),
        false => format!("{name:?}"),
    }
}

type Disk<'a> = (&'a Enrolled<'a>, &'a Device);

pub(super) fn assemble(members: &[Enrolled<'_>], given: Given<'_>) -> Assembly {
    let mut arrays: BTreeMap<Uuid, Vec<Disk<'_>>> = BTreeMap::new();
    for one in members {
        if let Member::Md(device) = one.member {
            arrays
                .entry(device.superblock.array())
                .or_default()
                .push((one, device.as_ref()));
        }
    }
    let name = |disks: &[Disk<'_>]| {
        disks
            .first()
            .map(|(_, device)| device.superblock.name().1)
            .unwrap_or_default()
    };
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for disks in arrays.values() {
        *names.entry(name(disks)).or_default() += 1
    }
    let mut assembly = Assembly::default();
    for (id, disks) in &arrays {
        let name = name(disks);
        let short = || id.simple().to_string().chars().take(8).collect::<String>();
        let known = match (name.is_empty(), names.get(&name)) {
            (true, _) => short(),
            // Rule 8. A name of MD's may hold anything.
            (false, Some(1)) => name.replace('/', "_"),
            (false, _) => format!("{}@{}", name.replace('/', "_"), short()),
        };
        let group = group(&known, *id, disks, given, &mut assembly.standings);
        assembly.groups.push(group)
    }
    assembly.groups.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    assembly
}

/// A device that replaces the member in a place, and how it stands with it.
type Replacing = (usize, u16, Stands);

/// What can be made of an array, or why nothing.
struct Made {
    table: Table,
    blocks: u64,
    /// So many places are empty.
    missing: usize,
}

fn group(name: &str, id: Uuid, disks: &[Disk<'_>], given: Given<'_>, standings: &mut Vec<(String, Standing)>) -> Group {
    let superblocks: Vec<&Superblock> = disks.iter().map(|(_, device)| &device.superblock).collect();
    let assembled = assembly::assemble(&superblocks);
    let level = superblocks
        .first()
        .map_or(Level::Other(0), |superblock| superblock.level());
    let stand = |disk: &str, verdict: Verdict, reason: String| {
        let standing = Standing {
            verdict,
            reason,
            notes: Vec::new(),
        };
        (disk.to_owned(), standing)
    };
    let mut group = Group {
        name: name.to_owned(),
        format: "md".into(),
        id: id.to_string(),
        state: GroupState::Complete,
        reason: String::new(),
        seqno: superblocks
            .iter()
            .map(|superblock| superblock.events())
            .max()
            .unwrap_or(0),
        extent_bytes: SECTOR,
        status: Vec::new(),
        allocation: None,
        system_id: None,
        tags: Vec::new(),
        members: Vec::new(),
        volumes: Vec::new(),
        notes: Vec::new(),
        basis: None,
    };
    let mut found = match assembled {
        Ok(found) => found,
        Err(why) => {
            let split = matches!(why, Refusal::SplitBrain { .. });
            group.state = if split {
                GroupState::Ambiguous
            } else {
                GroupState::Partial
            };
            group.reason = format!("cannot be put together: {why}");
            let verdict = if split { Verdict::Ambiguous } else { Verdict::Claimed };
            for (disk, _) in disks {
                let reason = format!("member of the MD array {name:?}, which cannot be put together: {why}");
                standings.push(stand(disk.disk, verdict, reason))
            }
            return group;
        }
    };
    for (at, why) in take_back(disks, &mut found) {
        let (disk, _) = disks[at];
        let reason =
            format!("of the MD array {name:?}, and was away: {why}; `raid-add` with `force` makes a new member of it");
        group.notes.push(format!("{} is not taken back: {why}", disk.disk));
        standings.push(stand(disk.disk, Verdict::Claimed, reason))
    }
    for (place, seat) in found.places.iter().enumerate() {
        if let Some((at, standing)) = seat {
            let (disk, _) = disks[*at];
            let how = match standing {
                Stands::Rebuilding(to) => format!(", rebuilt up to sector {to}"),
                Stands::Returning(_) => ", was away, and gets what it has missed".to_owned(),
                _ => String::new(),
            };
            let reason = format!("member {place} of {} of the MD array {name:?}{how}", found.places.len());
            standings.push(stand(disk.disk, Verdict::Claimed, reason))
        }
    }
    for (at, place, standing) in &found.replacing {
        let (disk, _) = disks[*at];
        let how = match standing {
            Stands::Rebuilding(to) => format!(", and has its first {to} sectors"),
            _ => String::new(),
        };
        let reason = format!("replaces member {place} of the MD array {name:?}{how}");
        standings.push(stand(disk.disk, Verdict::Claimed, reason))
    }
    for at in &found.spares {
        let (disk, _) = disks[*at];
        standings.push(stand(
            disk.disk,
            Verdict::Claimed,
            format!("spare of the MD array {name:?}"),
        ))
    }
    for (at, why) in &found.left_out {
        let (disk, _) = disks[*at];
        let verdict = if matches!(why, Why::Twice { .. }) {
            Verdict::Ambiguous
        } else {
            Verdict::Claimed
        };
        let reason = format!("of the MD array {name:?}, but not used: {why}");
        standings.push(stand(disk.disk, verdict, reason));
        group.notes.push(format!("{} is not used: {why}", disk.disk))
    }
    let copies = found.left_out.iter().any(|(_, why)| matches!(why, Why::Twice { .. }));
    let runs = disks.iter().any(|(disk, _)| disk.carries);
    // Rule 3.
    let asked = given.desires.get(&activation::key(&group.id, &id.to_string()));
    let hurry = asked == Some(&Desired::Anyway) || given.patient.contains(&group.id);
    let stopped = asked == Some(&Desired::Inactive);
    let waits = !found.awaited.is_empty() && !runs && !hurry && !stopped;
    let made = make(disks, &found);
    let whole = made.as_ref().is_ok_and(|made| made.missing == 0);
    let made = match (copies, made) {
        (true, _) => Err("has members that are there twice; take one away".to_owned()),
        (false, Ok(made)) if waits => Err(format!(
            "waits for {} of its {} members, with which it last ran; it runs without them if they do not come",
            made.missing,
            found.places.len()
        )),
        (false, Ok(_)) if stopped => Err("is stopped; `ashlar raid assemble` starts it again".to_owned()),
        (false, made) => made,
    };
    group.members = seats(disks, &found);
    let best = disks[found.best].1;
    let (bytes, node, inactive) = match made {
        Ok(made) => {
            let size = disks.first().map_or(512, |(disk, _)| disk.block_size);
            (group.state, group.reason) = match made.missing {
                0 => (
                    GroupState::Complete,
                    format!("has all of its {} members", found.places.len()),
                ),
                missing => (
                    GroupState::Partial,
                    format!("runs without {missing} of its {} members", found.places.len()),
                ),
            };
            (made.blocks * u64::from(size), Some(made.table), None)
        }
        Err(why) => {
            group.state = match (copies, waits) {
                (true, _) => GroupState::Ambiguous,
                (false, true) => GroupState::Waiting,
                (false, false) if stopped && whole => GroupState::Complete,
                (false, false) => GroupState::Partial,
            };
            group.reason.clone_from(&why);
            (0, None, Some(why))
        }
    };
    let what = Shared::from(LogicalVolume {
        group: name.to_owned(),
        name: name.to_owned(),
        id: id.to_string(),
        kinds: vec![level.to_string()],
        tags: Vec::new(),
        bytes,
        read_only: false,
        skipped: false,
        allocation: None,
        segments: vec![Stretch {
            start: 0,
            count: bytes / SECTOR,
            kind: level.to_string(),
            chunk: u64::from(best.superblock.chunk()) * SECTOR,
            on: (0..found.places.len()).map(|place| (place.to_string(), 0)).collect(),
        }],
    });
    let volume = Volume {
        disk: disk(name),
        hidden: false,
        node: node.map(|table| {
            Shared::from(Proposal {
                name: disk(name),
                uuid: id,
                aliases: Vec::new(),
                table,
                product: PRODUCT,
                partition: None,
                volume: Some(what.clone()),
            })
        }),
        inactive,
        what,
        source: None,
    };
    group.volumes.push(volume.into());
    group
}

/// Rule 4: those that were away are given their places. Those whose places stay empty, and why.
fn take_back(disks: &[Disk<'_>], found: &mut assembly::Assembly) -> Vec<(usize, String)> {
    let best = disks[found.best].1;
    let bitmap = current(best).map(|bitmap| &bitmap.header);
    let mut refused = Vec::new();
    for (at, place) in std::mem::take(&mut found.returning) {
        let (disk, device) = disks[at];
        match assembly::may_return(device.superblock.events(), bitmap) {
            Ok(()) if disk.gone => refused.push((at, "it is not there".to_owned())),
            Ok(()) => found.places[usize::from(place)] = Some((at, Stands::Returning(0))),
            Err(why) => refused.push((at, why.to_string())),
        }
    }
    refused
}

/// The bitmap of a member, if it is as new as its superblock.
fn current(device: &Device) -> Option<&Bitmap> {
    let bitmap = device.bitmap.as_ref();
    bitmap.filter(|bitmap| bitmap.header.events >= device.superblock.events())
}

fn seats(disks: &[Disk<'_>], found: &assembly::Assembly) -> Vec<Seat> {
    let seat = |(place, seat): (usize, &Option<(usize, Stands)>)| {
        let device = seat.map(|(at, _)| disks[at]);
        Seat {
            name: place.to_string(),
            id: device
                .and_then(|(_, device)| device.superblock.device())
                .map(|id| id.to_string())
                .unwrap_or_default(),
            disk: device
                .filter(|(disk, _)| !disk.gone)
                .map(|(disk, _)| disk.disk.to_owned()),
            last_seen: None,
            extents: device.map_or(0, |(_, device)| device.room()),
            used: device.map_or(0, |(_, device)| device.superblock.size()),
            start: device.map_or(0, |(_, device)| device.superblock.data_offset() * SECTOR),
            allocatable: false,
            tags: Vec::new(),
        }
    };
    found.places.iter().enumerate().map(seat).collect()
}

/// An array as a table.
fn make(disks: &[Disk<'_>], found: &assembly::Assembly) -> Result<Made, String> {
    let best = disks[found.best].1;
    let superblock = &best.superblock;
    let block = disks.first().map_or(512, |(disk, _)| disk.block_size);
    if disks.iter().any(|(disk, _)| disk.block_size != block) {
        return Err("has members with blocks of different sizes".into());
    }
    let per = u64::from(block) / SECTOR;
    // One that is gone stays where something runs on it, which bears that or not.
    let seats: Vec<Option<(usize, Stands)>> = found
        .places
        .iter()
        .map(|seat| seat.filter(|(at, _)| !disks[*at].0.gone || disks[*at].0.carries))
        .collect();
    let missing = seats.iter().filter(|seat| seat.is_none()).count();
    let there = |at: usize| !disks[at].0.gone && disks[at].1.room() >= superblock.size();
    let replacing = found.replacing.iter().copied();
    let (behind, instead): (Vec<Replacing>, Vec<Replacing>) = replacing
        .filter(|(at, ..)| there(*at) || disks[*at].0.carries)
        .partition(|(_, place, _)| seats[usize::from(*place)].is_some());
    // Whom it was to replace has gone.
    let mut seats = seats;
    for (at, place, standing) in instead {
        seats[usize::from(place)] = Some((at, standing))
    }
    let mut spares = found.spares.iter().filter(|at| there(**at));
    // Rule 4.
    let take = |seat: Option<(usize, Stands)>| seat.or_else(|| Some((*spares.next()?, Stands::Rebuilding(0))));
    let seats: Vec<Option<(usize, Stands)>> = match superblock.level() {
        Level::Linear | Level::Raid0 => seats,
        _ => seats.into_iter().map(take).collect(),
    };
    let table = match superblock.level() {
        Level::Linear | Level::Raid0 => {
            if missing > 0 {
                return Err(format!(
                    "lacks {missing} of its {} members, and cannot do without any",
                    seats.len()
                ));
            }
            let members: Vec<Disk<'_>> = seats.iter().flatten().map(|(at, _)| disks[*at]).collect();
            runs(superblock, &members, per)?
        }
        _ => array(disks, found, &seats, &behind, per)?,
    };
    let blocks = match &table {
        Table::Raid { shape, used, on, .. } => shape.places(on.len(), *used)?.blocks(),
        Table::Mapped { pieces, .. } => pieces.iter().map(Piece::blocks).sum(),
        _ => 0,
    };
    Ok(Made { table, blocks, missing })
}

/// Sectors as blocks.
fn blocks(sectors: u64, per: u64) -> Result<u64, String> {
    match sectors.is_multiple_of(per) {
        true => Ok(sectors / per),
        false => Err(format!(
            "has {sectors} sectors where whole blocks of {} sectors should be",
            per
        )),
    }
}

/// Linear and RAID-0: all of every member.
fn runs(superblock: &Superblock, members: &[Disk<'_>], per: u64) -> Result<Table, String> {
    let sizes: Vec<u64> = members.iter().map(|(_, device)| device.room()).collect();
    let chunk = superblock.chunk();
    let run = |member: u16, from: u64, count: u64| {
        let (disk, device) = members[usize::from(member)];
        Ok::<_, String>(Segment {
            on: disk.disk.to_owned(),
            start: blocks(device.superblock.data_offset() + from, per)?,
            blocks: blocks(count, per)?,
        })
    };
    let words = |error: spec::md::ShapeError| error.to_string();
    let mut pieces = Vec::new();
    if superblock.level() == Level::Linear {
        let whole = |size: u64| size - size % u64::from(chunk.max(1));
        for (member, size) in (0..).zip(&sizes) {
            pieces.push(Piece::Linear(run(member, 0, whole(*size))?))
        }
        spec::md::linear::Linear::new(&sizes, chunk).map_err(words)?;
    } else {
        let zones = Zones::new(&sizes, chunk, Counting::from_number(superblock.layout())).map_err(words)?;
        for (_, from, rows, order) in zones.stripes() {
            let runs = order.iter().map(|member| run(*member, from, rows * u64::from(chunk)));
            let mut on = runs.collect::<Result<Vec<_>, _>>()?;
            // At most a u32, as sectors are.
            let chunk = blocks(chunk.into(), per)? as u32;
            pieces.push(match on.len() {
                1 => Piece::Linear(on.remove(0)),
                _ => Piece::Stripe { on, chunk },
            })
        }
    }
    Ok(Table::Mapped {
        pieces,
        read_only: false,
    })
}

fn array(
    disks: &[Disk<'_>],
    found: &assembly::Assembly,
    seats: &[Option<(usize, Stands)>],
    replacing: &[Replacing],
    per: u64,
) -> Result<Table, String> {
    let best = disks[found.best].1;
    let superblock = &best.superblock;
    let chunk = || blocks(superblock.chunk().into(), per).map(|chunk| chunk as u32);
    let layout = superblock.layout();
    let shape = match superblock.level() {
        Level::Raid1 => Shape::Raid1,
        Level::Raid4 => Shape::Raid4 { chunk: chunk()? },
        Level::Raid5 => Shape::Raid5 {
            layout,
            chunk: chunk()?,
        },
        Level::Raid6 => Shape::Raid6 {
            layout,
            chunk: chunk()?,
        },
        Level::Raid10 => Shape::Raid10 {
            layout,
            chunk: chunk()?,
        },
        other => return Err(format!("is of {other}, which is not known here")),
    };
    let used = blocks(superblock.size(), per)?;
    let places = shape.places(seats.len(), used)?;
    let holds = |place: u16| matches!(seats[usize::from(place)], Some((_, Stands::InSync)));
    let lacking = (0..places.members()).filter(|place| !holds(*place)).count();
    if !places.survives(|place| !holds(place)) {
        return Err(format!(
            "lacks {lacking} of its {} members, more than it can do without",
            seats.len()
        ));
    }
    let clean = found.in_sync_to == u64::MAX;
    let parity = !matches!(shape, Shape::Raid1 | Shape::Raid10 { .. });
    // Rule 2. One that runs has told us nothing new.
    let runs = disks.iter().any(|(disk, _)| disk.carries);
    let partial = match superblock {
        Superblock::V1(own) => own.ppl().is_some(),
        Superblock::V0(_) => false,
    };
    let redo = lacking > 0
        && seats
            .iter()
            .flatten()
            .any(|(at, stands)| *stands == Stands::InSync && disks[*at].1.redo);
    let replay = !clean && parity && (partial || redo);
    if !runs && parity && lacking > 0 && !clean && !replay {
        return Err(format!(
            "was not stopped cleanly and lacks {lacking} of its {} members: what was being written cannot be told from what was there",
            seats.len()
        ));
    }
    let bitmap = current(best);
    let ranges = |set: &[(u64, u64)]| {
        set.iter()
            .map(|(start, count)| (start / per, count.div_ceil(per)))
            .collect::<Vec<_>>()
    };
    let (differs, noted) = match (clean, bitmap) {
        (true, Some(bitmap)) => (Vec::new(), ranges(&bitmap.set)),
        (true, None) => (Vec::new(), Vec::new()),
        // What differs, the log says.
        (false, bitmap) if replay => (Vec::new(), bitmap.map_or_else(Vec::new, |bitmap| ranges(&bitmap.set))),
        // Rule 5.
        (false, Some(bitmap)) => (ranges(&bitmap.set), Vec::new()),
        (false, None) => {
            let from = found.in_sync_to / per;
            (vec![(from, places.span().saturating_sub(from))], Vec::new())
        }
    };
    let seat = |at: usize, stands: Stands| {
        let (disk, device) = disks[at];
        let bytes = device
            .superblock
            .to_bytes()
            .ok_or("has a superblock that cannot be written")?;
        Ok::<_, String>(table::Seat {
            on: disk.disk.to_owned(),
            start: blocks(device.superblock.data_offset(), per)?,
            state: match stands {
                Stands::Rebuilding(to) => MemberState::Rebuilding { to: to / per },
                Stands::Returning(to) if bitmap.is_some() => MemberState::Returning { to: to / per },
                // Nobody knows any more what it has missed.
                Stands::Returning(_) => MemberState::Rebuilding { to: 0 },
                _ => MemberState::InSync,
            },
            write_mostly: device.superblock.write_mostly(),
            bad: device
                .bad
                .iter()
                .map(|bad| (bad.start / per, bad.end.div_ceil(per) - bad.start / per))
                .collect(),
            superblock: Some((blocks(device.at, per)?, Bytes(bytes))),
        })
    };
    let place = |known: &Option<(usize, Stands)>| known.map(|(at, stands)| seat(at, stands)).transpose();
    let on = seats.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let behind = |(at, place, stands): &Replacing| {
        let stands = match stands {
            // Nobody says which of its rows were being written.
            _ if replay => Stands::Rebuilding(0),
            Stands::Rebuilding(to) => Stands::Rebuilding(*to),
            _ => Stands::Rebuilding(superblock.size()),
        };
        Ok::<_, String>((*place, seat(*at, stands)?))
    };
    let replacements = replacing.iter().map(behind).collect::<Result<Vec<_>, _>>()?;
    // A bitmap that is not up to date is kept as if it had been just made.
    let header = best.bitmap.as_ref().map(|bitmap| {
        let mut header = Header::clone(&bitmap.header);
        if current(best).is_none() {
            header.events_cleared = superblock.events()
        }
        header
    });
    Ok(Table::Raid {
        shape,
        used,
        on,
        replacements,
        bitmap: header.map(|header| Bytes(header.to_bytes().to_vec())),
        differs,
        noted,
        replay,
        read_only: false,
    })
}
