//! What children add up to:
//!
//! 1. Of several changes the latest counts that is *whole*: some child has it in both copies, or every child it names is there and has it. A
//!    change with a child missing, and neither, counts if the children that are there all have it and it is not the first, nor the end of the link.
//! 2. A child that has only older changes than the one that counts was away meanwhile: what is on it is out of date, and it is not used.
//! 3. Where a child is missing there is a gap: the link is read-only, and the gap cannot be read.
//! 4. Two disks that are the same child, and two different records of one change: nobody can tell which is right. What is active stays.
//! 5. Two links of one name: neither becomes active, for they would be one disk by name.
use super::Child;
use crate::{
    format::Proposal,
    group::{Assembly, Enrolled, Group, GroupState, LogicalVolume, Member, Seat, Shared, Standing, Stretch, Volume},
    judge::Verdict,
};
use bdev::{
    Table,
    table::{Piece, Segment},
};
use spec::link::{DATA, Record};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What a link is, for `bdev_get_bdevs`.
pub const PRODUCT: &str = "Drive Link";

/// The disk that a link of this name is.
pub fn disk(name: &str) -> String {
    format!("link/{name}")
}

type Disk<'a> = (&'a Enrolled<'a>, &'a Child);
/// The record that counts, and whether there are different ones of that change.
type Choice = (Record, bool);

pub(super) fn assemble(members: &[Enrolled<'_>]) -> Assembly {
    let mut links: BTreeMap<Uuid, Vec<Disk<'_>>> = BTreeMap::new();
    for one in members {
        if let Member::Link(child) = one.member {
            links.entry(child.link).or_default().push((one, child.as_ref()));
        }
    }
    let chosen: Vec<(Option<Choice>, Vec<Disk<'_>>)> =
        links.into_values().map(|disks| (choose(&disks), disks)).collect();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (record, _) in chosen.iter().filter_map(|(chosen, _)| chosen.as_ref()) {
        if !record.deleted {
            *names.entry(record.name.clone()).or_default() += 1;
        }
    }
    let mut assembly = Assembly::default();
    for (chosen, disks) in &chosen {
        let standings = &mut assembly.standings;
        match chosen {
            Some((record, split)) if !record.deleted => {
                let twins = names.get(&record.name).is_some_and(|n| *n > 1);
                assembly.groups.push(group(record, *split, twins, disks, standings));
            }
            other => {
                let name = disks.iter().flat_map(|(_, child)| child.copies.iter().flatten()).next();
                let name = name.map(|record| record.name.as_str()).unwrap_or_default();
                let reason = match other {
                    Some(_) => format!("was a child of the drive link {name:?}, which was deleted"),
                    None => {
                        format!("has what is left of the drive link {name:?}, which was never finished, or was deleted")
                    }
                };
                for (disk, _) in disks {
                    let standing = Standing {
                        verdict: Verdict::Unclaimed,
                        reason: reason.clone(),
                        notes: Vec::new(),
                    };
                    standings.push((disk.disk.to_owned(), standing));
                }
            }
        }
    }
    assembly.groups.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    assembly
}

/// Rule 1, and whether rule 4 speaks against it.
fn choose(disks: &[Disk<'_>]) -> Option<Choice> {
    let all = disks.iter().flat_map(|(_, child)| child.copies.iter().flatten());
    let changes: BTreeSet<u64> = all.map(|record| record.sequence).collect();
    changes.into_iter().rev().find_map(|sequence| {
        let records = || disks.iter().filter_map(|(_, child)| child.of(sequence));
        let record = records().next()?;
        let split = records().any(|other| !other.agrees(record));
        let settled = disks.iter().any(|(_, child)| child.settled(sequence));
        let there = |id: Uuid| disks.iter().filter(move |(_, child)| child.id == id);
        let missing = record.children.iter().any(|child| there(child.id).next().is_none());
        let lacking = record
            .children
            .iter()
            .flat_map(|child| there(child.id))
            .any(|(_, child)| child.of(sequence).is_none());
        let counts = settled || !lacking && (!missing || sequence > 1 && !record.deleted);
        counts.then(|| (record.clone(), split))
    })
}

fn group(
    record: &Record,
    split: bool,
    twins: bool,
    disks: &[Disk<'_>],
    standings: &mut Vec<(String, Standing)>,
) -> Group {
    let (name, count) = (&record.name, record.children.len());
    let unit = DATA / u64::from(record.block_size);
    let (mut seats, mut pieces, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut copies, mut missing, mut first, mut stretches) = (Vec::new(), 0usize, 0u64, Vec::new());
    for (child, index) in record.children.iter().zip(0usize..) {
        let found: Vec<&Disk<'_>> = disks.iter().filter(|(_, own)| own.id == child.id).collect();
        // Rule 2.
        let (stale, fresh): (Vec<&Disk<'_>>, Vec<&Disk<'_>>) =
            found.into_iter().partition(|(_, own)| own.newest() < record.sequence);
        for (disk, own) in &stale {
            let reason = format!(
                "is out of date: it knows change {} of the drive link {name:?}, which is at {}; it was away meanwhile",
                own.newest(),
                record.sequence
            );
            let standing = Standing {
                verdict: Verdict::Unclaimed,
                reason,
                notes: own.notes.clone(),
            };
            standings.push((disk.disk.to_owned(), standing));
        }
        for (disk, own) in &fresh {
            let twin = fresh.iter().find(|(other, _)| other.disk != disk.disk);
            standings.push((
                disk.disk.to_owned(),
                standing(record, index, own, twin.map(|(d, _)| d.disk)),
            ));
        }
        if fresh.len() > 1 {
            let all: Vec<String> = fresh.iter().map(|(disk, _)| format!("{:?}", disk.disk)).collect();
            copies.push(format!("{} are the same child", all.join(" and ")));
        }
        // Of copies the one counts that something active stands on.
        let one = fresh.iter().find(|(disk, _)| disk.carries).or(fresh.first());
        let place = match one {
            None => match stale.first() {
                Some((disk, _)) => Err(format!("is out of date on {:?}", disk.disk)),
                None => Err(format!("is missing; it was last seen as {:?}", child.seen)),
            },
            Some((disk, _)) if disk.gone => Err(format!("is gone ({:?})", disk.disk)),
            Some((disk, _)) if disk.block_size != record.block_size => Err(format!(
                "is on {:?}, which has blocks of {} bytes instead of {}",
                disk.disk, disk.block_size, record.block_size
            )),
            Some((disk, _)) if disk.blocks < unit.saturating_add(child.blocks) => {
                Err(format!("is on {:?}, which is shorter than it was", disk.disk))
            }
            Some((disk, _)) => Ok(disk.disk),
        };
        // Rule 3.
        match place {
            Ok(on) => pieces.push(Piece::Linear(Segment {
                on: on.to_owned(),
                start: unit,
                blocks: child.blocks,
            })),
            Err(why) => {
                missing += 1;
                let bytes = |blocks: u64| blocks * u64::from(record.block_size);
                notes.push(format!(
                    "child {index} {why}: bytes {} to {} cannot be read",
                    bytes(first),
                    bytes(first + child.blocks) - 1
                ));
                pieces.push(Piece::Gap { blocks: child.blocks });
            }
        }
        stretches.push(Stretch {
            start: first / unit,
            count: child.blocks / unit,
            kind: "link".into(),
            chunk: 0,
            on: vec![(index.to_string(), 0)],
        });
        seats.push(Seat {
            name: index.to_string(),
            id: child.id.to_string(),
            disk: one.filter(|(disk, _)| !disk.gone).map(|(disk, _)| disk.disk.to_owned()),
            last_seen: Some(child.seen.clone()),
            extents: child.blocks / unit,
            used: child.blocks / unit,
            start: DATA,
            allocatable: false,
            tags: Vec::new(),
        });
        first += child.blocks;
    }
    for (disk, own) in disks {
        if !record.children.iter().any(|child| child.id == own.id) {
            let reason = match own.newest() > record.sequence {
                true => format!("was about to join the drive link {name:?}, and is no child of it yet"),
                false => format!("was taken out of the drive link {name:?}"),
            };
            let standing = Standing {
                verdict: Verdict::Unclaimed,
                reason,
                notes: own.notes.clone(),
            };
            standings.push((disk.disk.to_owned(), standing));
        }
    }
    let (state, reason) = match (split, twins, copies.is_empty(), missing) {
        (true, ..) => (
            GroupState::Ambiguous,
            format!(
                "has two different records of change {}: two hosts have written",
                record.sequence
            ),
        ),
        (_, true, ..) => (
            GroupState::Ambiguous,
            format!(
                "shares its name with another drive link; `ashlar do link-rename {} name=NEW` helps",
                record.link
            ),
        ),
        (_, _, false, _) => (
            GroupState::Ambiguous,
            format!(
                "has children that are there twice: {}; take one away",
                copies.join("; ")
            ),
        ),
        (.., 0) => (GroupState::Complete, format!("has all of its {count} children")),
        _ => (
            GroupState::Partial,
            format!("lacks {missing} of its {count} children and is read-only, with gaps"),
        ),
    };
    let what = Shared::from(LogicalVolume {
        group: name.clone(),
        name: name.clone(),
        id: record.link.to_string(),
        kinds: vec!["link".into()],
        tags: Vec::new(),
        bytes: record.blocks().saturating_mul(u64::from(record.block_size)),
        read_only: missing > 0,
        skipped: false,
        allocation: None,
        segments: stretches,
    });
    let inactive = if state == GroupState::Ambiguous {
        Some(reason.clone())
    } else if missing == count {
        Some("has none of its children".into())
    } else {
        None
    };
    let volume = Volume {
        disk: disk(name),
        hidden: false,
        node: inactive.is_none().then(|| {
            Shared::from(Proposal {
                name: disk(name),
                uuid: record.link,
                aliases: Vec::new(),
                table: table(pieces),
                product: PRODUCT,
                partition: None,
                volume: Some(what.clone()),
            })
        }),
        inactive,
        what,
        source: None,
    };
    Group {
        name: name.clone(),
        format: "link".into(),
        id: record.link.to_string(),
        state,
        reason,
        seqno: record.sequence,
        extent_bytes: DATA,
        status: Vec::new(),
        allocation: None,
        system_id: None,
        tags: Vec::new(),
        members: seats,
        volumes: vec![volume.into()],
        notes,
        basis: None,
    }
}

/// Runs alone are a plain linear disk; with a gap it is read-only.
fn table(pieces: Vec<Piece>) -> Table {
    let runs: Option<Vec<Segment>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Linear(run) => Some(run.clone()),
            _ => None,
        })
        .collect();
    match runs {
        Some(segments) => Table::Linear { segments },
        None => Table::Mapped {
            pieces,
            read_only: true,
        },
    }
}

/// What a disk is that the link names.
fn standing(record: &Record, index: usize, own: &Child, twin: Option<&str>) -> Standing {
    let (name, count) = (&record.name, record.children.len());
    let mut notes = own.notes.clone();
    if own.newest() > record.sequence {
        notes.push(format!("it has a change {} that was never finished", own.newest()));
    }
    match twin {
        Some(twin) => Standing {
            verdict: Verdict::Ambiguous,
            reason: format!("is the same child as {twin:?} (child {index} of the drive link {name:?}); take one away"),
            notes,
        },
        None => Standing {
            verdict: Verdict::Claimed,
            reason: format!("child {index} of {count} of the drive link {name:?}"),
            notes,
        },
    }
}
