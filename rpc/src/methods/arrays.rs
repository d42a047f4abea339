//! Arrays with redundancy while they run: how they are, and what can be asked of them. SPDK has methods to make and to list them (`bdev_raid`), and none
//! for these.

use std::sync::Arc;
use std::time::Duration;

use bdev::module::raid::{Command, Report};
use bdev::raid::MemberState;
use bdev::{NodeInfo, Table};
use lvol::{ChangeKind, ExtraKind};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use super::{Line, Lines, Manner::*, Phases::*};
use crate::caretaker::Scrubbed;
use crate::context::{Context, no_disk};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::Complaint;

/// How long a list of arrays waits for what the engine has to say of them. It is whole without, but for disks that have no place.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the answer that an array has grown waits for its disk to be longer.
const GROWING: Duration = Duration::from_secs(10);

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("ashlar_get_arrays", Runtime, Look, BAD, get),
        Line::new("ashlar_scrub_array", Runtime, Change, BAD, scrub),
        Line::new("ashlar_pause_array", Runtime, Change, BAD, pause),
        Line::new("ashlar_cancel_array", Runtime, Change, BAD, cancel),
        Line::new("ashlar_limit_array", Runtime, Change, BAD, limit),
        Line::new("ashlar_fail_member", Runtime, Change, BAD, fail),
        Line::new("ashlar_grow_array", Runtime, Change, BAD, grow),
    ]
}

/// An array as `ashlar raid show` tells it.
#[derive(Serialize)]
struct Array {
    name: String,
    uuid: uuid::Uuid,
    level: &'static str,
    /// MD's number of its layout; mirrors and RAID-4 have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<u32>,
    chunk_bytes: u64,
    bytes: u64,
    /// In one word: `whole`, `degraded`, `resync`, `rebuild`, `check`, `repair`.
    state: &'static str,
    read_only: bool,
    /// Its members have superblocks.
    superblocks: bool,
    /// It has a write-intent bitmap on its members.
    bitmap: bool,
    members: Vec<Member>,
    /// Disks that belong to it and have no place.
    extras: Vec<Extra>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    mismatched_bytes: u64,
    /// How much of each member a rebuild or check may take a second; 0: as much as hosts leave.
    limit_bytes_per_second: u64,
    /// What the last check or repair could read from nobody.
    unreadable_bytes: u64,
    /// Where the last check found either, as far as that is kept: first byte and how many, of the array; with parity whole stripes.
    mismatches: Vec<(u64, u64)>,
    /// The last check or repair that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_scrub: Option<LastScrub>,
    /// When the next one is due by the configuration, in seconds since 1970. One that is overdue begins when the array is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_scrub: Option<u64>,
    /// What would be compared after a crash now, and in units of what.
    noted_bytes: u64,
    noted_unit_bytes: u64,
    events: u64,
    stripes_written: u64,
    full_stripes_written: u64,
}

#[derive(Serialize)]
struct Member {
    place: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    /// `in_sync`, `rebuilding`, `returning`, `failed` or `missing`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuilt_bytes: Option<u64>,
    write_mostly: bool,
    corrected_reads: u32,
    /// What it does not have of its data: its bad-block log has it.
    lacking_bytes: u64,
    /// Who replaces it, if somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<Replacement>,
}

#[derive(Serialize)]
struct Replacement {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    copied_bytes: u64,
}

/// Who an array was built from, by [`MemberReport::slot`](bdev::raid::MemberReport).
fn seat<'a>(
    on: &'a [Option<bdev::table::Seat>],
    replacements: &'a [(u16, bdev::table::Seat)],
    slot: usize,
) -> Option<&'a bdev::table::Seat> {
    match slot.checked_sub(on.len()) {
        None => on[slot].as_ref(),
        Some(place) => {
            let known = replacements.iter().find(|(known, _)| usize::from(*known) == place);
            known.map(|(_, seat)| seat)
        }
    }
}

#[derive(Serialize)]
struct Extra {
    disk: String,
    /// `spare` or `failed`.
    state: ExtraKind,
}

#[derive(Serialize)]
struct LastScrub {
    /// When it began, in seconds since 1970.
    time: u64,
    seconds: f64,
    repair: bool,
    mismatched_bytes: u64,
    unreadable_bytes: u64,
    /// Somebody has ended it before it had seen everything.
    cancelled: bool,
}

impl From<Scrubbed> for LastScrub {
    fn from(done: Scrubbed) -> Self {
        Self {
            time: done.began / 1000,
            seconds: done.took as f64 / 1000.0,
            repair: done.repair,
            mismatched_bytes: done.mismatched_bytes,
            unreadable_bytes: done.unreadable_bytes,
            cancelled: done.cancelled,
        }
    }
}

#[derive(Serialize)]
struct Progress {
    work: bdev::raid::Work,
    done_bytes: u64,
    of_bytes: u64,
    mismatched_bytes: u64,
    paused: bool,
    seconds: f64,
    /// If it goes on as it went so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: Option<String>,
}

async fn get(context: Arc<Context>, params: Named) -> RpcResult<Vec<Array>> {
    let nodes = match &params.name {
        Some(name) => vec![context.disk(name)?],
        None => context.graph.list(),
    };
    let extras = tokio::time::timeout(PATIENCE, context.engine.extras()).await;
    let extras = extras.ok().and_then(Result::ok).unwrap_or_default();
    let mut all = Vec::new();
    for node in nodes {
        let Table::Raid {
            shape,
            used,
            on,
            replacements,
            bitmap,
            read_only,
            ..
        } = &node.table
        else {
            continue;
        };
        let Ok(report) = context.graph.array(&node.name).await else {
            continue;
        };
        let block = u64::from(node.geometry.block_size);
        let layout = match shape {
            bdev::raid::Shape::Raid5 { layout, .. }
            | bdev::raid::Shape::Raid6 { layout, .. }
            | bdev::raid::Shape::Raid10 { layout, .. } => Some(*layout),
            bdev::raid::Shape::Raid1 | bdev::raid::Shape::Raid4 { .. } => None,
        };
        let disk = |slot: usize| seat(on, replacements, slot).map(|seat| seat.on.clone());
        let members = report.members.iter().enumerate().map(|(place, member)| Member {
            place,
            disk: disk(member.slot.into()),
            replacement: member.replacement.map(|behind| Replacement {
                disk: disk(place + on.len()),
                copied_bytes: behind.to().unwrap_or(*used) * block,
            }),
            state: word(member.state),
            rebuilt_bytes: member.state.to().map(|to| to * block),
            write_mostly: member.write_mostly,
            corrected_reads: member.corrected,
            lacking_bytes: member.lacking * block,
        });
        let scrubs = context.caretaker.scrubs(&context, &node);
        let its = extras.iter().filter(|extra| extra.array == node.name);
        all.push(Array {
            extras: its
                .map(|extra| Extra {
                    disk: extra.disk.clone(),
                    state: extra.kind,
                })
                .collect(),
            last_scrub: scrubs.last.map(Into::into),
            next_scrub: scrubs.next.map(|time| time / 1000),
            uuid: node.uuid,
            level: shape.name(),
            layout,
            chunk_bytes: u64::from(shape.chunk().unwrap_or(0)) * block,
            bytes: node.geometry.bytes(),
            state: state(&report),
            read_only: *read_only,
            superblocks: on.iter().flatten().any(|seat| seat.superblock.is_some()),
            bitmap: bitmap.is_some(),
            members: members.collect(),
            progress: report.progress.map(|progress| {
                let seconds = progress.for_ms as f64 / 1000.0;
                let left = progress.of.saturating_sub(progress.at) as f64;
                Progress {
                    work: progress.work,
                    done_bytes: progress.at * block,
                    of_bytes: progress.of * block,
                    mismatched_bytes: progress.differ * block,
                    paused: progress.paused,
                    seconds,
                    seconds_left: (progress.at > 0 && !progress.paused).then(|| seconds * left / progress.at as f64),
                }
            }),
            mismatched_bytes: report.mismatches * block,
            limit_bytes_per_second: report.limit * block,
            unreadable_bytes: report.unreadable * block,
            mismatches: report
                .places
                .iter()
                .map(|(start, count)| (start * block, count * block))
                .collect(),
            noted_bytes: report.noted * block,
            noted_unit_bytes: report.unit * block,
            events: report.events,
            stripes_written: report.stripes,
            full_stripes_written: report.full_stripes,
            name: node.name,
        })
    }
    match (params.name, all.is_empty()) {
        (Some(name), true) => Err(no_array(&name)),
        _ => Ok(all),
    }
}

fn word(state: MemberState) -> &'static str {
    match state {
        MemberState::InSync => "in_sync",
        MemberState::Rebuilding { .. } => "rebuilding",
        MemberState::Returning { .. } => "returning",
        MemberState::Failed => "failed",
        MemberState::Missing => "missing",
    }
}

fn state(report: &Report) -> &'static str {
    let whole = report.members.iter().all(|member| member.state == MemberState::InSync);
    match report.progress.map(|progress| progress.work) {
        Some(bdev::raid::Work::Rebuild) => "rebuild",
        Some(bdev::raid::Work::Resync) => "resync",
        _ if !whole => "degraded",
        Some(bdev::raid::Work::Check) => "check",
        Some(bdev::raid::Work::Repair) => "repair",
        None => "whole",
    }
}

fn no_array(name: &str) -> RpcError {
    RpcError::errno(Errno::Inval).because(format!("{name:?} is no array; `ashlar raid ls` lists them"))
}

async fn command(context: &Context, name: &str, command: Command) -> RpcResult<NodeInfo> {
    let node = context.graph.info(name).ok_or_else(|| no_disk(name))?;
    if !matches!(node.table, Table::Raid { .. }) {
        return Err(no_array(name));
    }
    let done = context.graph.command_array(name, command).await;
    done.map_err(|why| RpcError::errno(Errno::Inval).because(why.to_string()))?;
    Ok(node)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scrub {
    name: String,
    #[serde(default)]
    repair: bool,
}

/// Compares all members; with `repair` makes them alike.
async fn scrub(context: Arc<Context>, params: Scrub) -> RpcResult<bool> {
    let Scrub { name, repair } = params;
    let node = command(&context, &name, Command::Scrub { repair, from: 0 }).await?;
    context.caretaker.began(&node.name, repair);
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    name: String,
    /// False: goes on.
    #[serde(default = "yes")]
    paused: bool,
}

fn yes() -> bool {
    true
}

async fn pause(context: Arc<Context>, params: Pause) -> RpcResult<bool> {
    command(&context, &params.name, Command::Pause(params.paused)).await?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
}

/// Ends what is done to an array. What has to be done is begun again at the next start.
async fn cancel(context: Arc<Context>, params: One) -> RpcResult<bool> {
    let node = command(&context, &params.name, Command::Cancel).await?;
    context.caretaker.cancelled(&node.name);
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    name: String,
    /// Of each member; 0: no limit.
    mb_per_sec: u64,
}

async fn limit(context: Arc<Context>, params: Limit) -> RpcResult<bool> {
    let node = context.disk(&params.name)?;
    let blocks = params.mb_per_sec.saturating_mul(1 << 20) / u64::from(node.geometry.block_size);
    command(&context, &params.name, Command::Limit(blocks)).await?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grow {
    name: String,
    /// What each member gives from now on; as much as all have if nothing is said.
    bytes_per_member: Option<u64>,
}

/// Makes an array longer, whose members have more room than they give. What is new is made alike in the background.
async fn grow(context: Arc<Context>, params: Grow) -> RpcResult<bool> {
    let node = context.disk(&params.name)?;
    let block = u64::from(node.geometry.block_size);
    let blocks = params.bytes_per_member.map(|bytes| bytes / block);
    let mut changes = context.engine.subscribe();
    command(&context, &params.name, Command::Grow(blocks)).await?;
    // The disk is longer when the engine has seen what members say now.
    let longer = async {
        loop {
            match changes.recv().await {
                Ok(change) if change.name == node.name && matches!(change.kind, ChangeKind::Resized { .. }) => return,
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            }
        }
    };
    if tokio::time::timeout(GROWING, longer).await.is_err() {
        tracing::warn!(
            array = node.name,
            "has grown; hosts are told when its members have been looked at"
        );
    }
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    name: String,
    /// The disk, or its place in the array.
    member: String,
}

/// Gives up a member, as if it had failed.
async fn fail(context: Arc<Context>, params: Fail) -> RpcResult<bool> {
    let node = context.disk(&params.name)?;
    let Table::Raid { on, replacements, .. } = &node.table else {
        return Err(no_array(&params.name));
    };
    let report = context.graph.array(&node.name).await;
    let report = report.map_err(|why| RpcError::errno(Errno::Inval).because(why.to_string()))?;
    let is_named = |slot: usize| seat(on, replacements, slot).is_some_and(|seat| seat.on == params.member);
    let place = report.members.iter().position(|member| is_named(member.slot.into()));
    let behind = (0..on.len()).find(|place| report.members[*place].replacement.is_some() && is_named(place + on.len()));
    let asked = match (place, behind) {
        (Some(place), _) => Some(Command::Fail(place as u16)),
        (None, Some(place)) => Some(Command::FailReplacement(place as u16)),
        (None, None) => params.member.parse().ok().map(Command::Fail),
    };
    let asked = asked.ok_or_else(|| {
        RpcError::errno(Errno::Inval).because(format!("{:?} is no member of {:?}", params.member, params.name))
    })?;
    command(&context, &params.name, asked).await?;
    Ok(true)
}
