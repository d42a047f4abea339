//! RAID as SPDK's clients make it: without metadata on the members, or, where they ask for superblocks, with those of Linux MD, as `raid-create` writes them. The disk
//! is called `md/NAME` then; these methods know it by either name.

use std::sync::Arc;

use bdev::module::raid::Command;
use bdev::raid::MemberState;
use bdev::table::Seat;
use bdev::{NodeInfo, Table};
use lvol::{Request, Stamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::bdev_leaf::given;
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, Raid, RaidLevel, RaidOptions, Waiting, graph_error};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::Complaint;
use crate::raid;

/// Members one volume may have.
const MEMBERS: usize = 255;
/// SPDK's names fit its superblock.
const NAME: usize = 64;

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Parse;
    vec![
        Line::new("bdev_raid_create", Runtime, Change, BAD, create).accepting(|params| {
            // Until 24.01 the strip size was "strip_size" in KiB.
            crate::method::rename(params, "strip_size", "strip_size_kb");
        }),
        Line::new("bdev_raid_delete", Runtime, Change, BAD, delete),
        Line::new("bdev_raid_get_bdevs", Runtime, Look, BAD, get),
        Line::new("bdev_raid_add_base_bdev", Runtime, Change, BAD, add),
        Line::new("bdev_raid_remove_base_bdev", Runtime, Change, BAD, remove),
        Line::new("bdev_raid_set_options", Both, Change, BAD, set_options),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    strip_size_kb: u32,
    raid_level: RaidLevel,
    base_bdevs: Vec<String>,
    uuid: Option<Uuid>,
    #[serde(default)]
    superblock: bool,
}

async fn create(context: Arc<Context>, params: Create) -> RpcResult<bool> {
    let name = &params.name;
    let failed = |error: RpcError| {
        let text = format!("Failed to create RAID bdev {name}: {}", error.message);
        RpcError { message: text, ..error }
    };
    let inval = |cause: &str| failed(RpcError::errno(Errno::Inval).because(cause));
    if params.base_bdevs.iter().any(String::is_empty) {
        let text = format!(
            "The base bdev name cannot be empty: {}",
            RpcError::errno(Errno::Inval).message
        );
        return Err(RpcError::new(-(Errno::Inval as i64), text));
    }
    if params.base_bdevs.is_empty() || params.base_bdevs.len() > MEMBERS {
        return Err(inval("a volume has 1 to 255 members"));
    }
    if name.len() >= NAME {
        return Err(inval("the name is longer than 63 bytes"));
    }
    let least = match params.raid_level {
        RaidLevel::Raid0 | RaidLevel::Concat => 1,
        RaidLevel::Raid1 | RaidLevel::Raid10 => 2,
        RaidLevel::Raid5f | RaidLevel::Raid4 | RaidLevel::Raid5 => 3,
        RaidLevel::Raid6 => 4,
    };
    if params.base_bdevs.len() < least {
        return Err(inval(&format!(
            "{} has at least {least} members",
            params.raid_level.name()
        )));
    }
    match params.raid_level {
        RaidLevel::Raid1 if params.strip_size_kb != 0 => return Err(inval("raid1 has no strips")),
        RaidLevel::Raid1 => (),
        _ if !params.strip_size_kb.is_power_of_two() => return Err(inval("strip_size_kb is not a power of two")),
        _ => (),
    }
    let waiting = context
        .facts()
        .waiting
        .iter()
        .any(|w| matches!(w, Waiting::Raid(r) if r.name == *name));
    if waiting || context.graph.info(name).is_some() {
        return Err(failed(RpcError::errno(Errno::Exist)));
    }
    if params.superblock {
        return recorded(&context, &params).await.map_err(failed);
    }
    let wish = Raid {
        name: name.clone(),
        uuid: given(params.uuid),
        strip_size_kb: params.strip_size_kb,
        level: params.raid_level,
        base_bdevs: params.base_bdevs.clone(),
    };
    match raid::build(&context, &wish).await {
        Ok(_) => context.settle().await,
        Err(error) if error.code == -(Errno::NoDev as i64) => context.facts().waiting.push(Waiting::Raid(wish)),
        Err(error) => return Err(failed(error)),
    }
    Ok(true)
}

/// One with superblocks.
async fn recorded(context: &Context, params: &Create) -> RpcResult<bool> {
    let level = match params.raid_level {
        RaidLevel::Raid5f => "raid5",
        RaidLevel::Concat => {
            let why =
                "Linux has no metadata for concat that it still reads; make it without superblock, or a volume group";
            return Err(RpcError::errno(Errno::Inval).because(why));
        }
        level => level.name(),
    };
    for disk in &params.base_bdevs {
        context.disk(disk)?;
    }
    let mut options = Map::from_iter([
        ("disks".to_owned(), json!(params.base_bdevs)),
        ("level".to_owned(), json!(level)),
    ]);
    if params.strip_size_kb > 0 {
        options.insert("chunk".into(), json!(format!("{}k", params.strip_size_kb)));
    }
    // Where SPDK has it.
    if params.raid_level == RaidLevel::Raid5f {
        options.insert("layout".into(), json!("left-asymmetric"));
    }
    if let Some(uuid) = given(params.uuid) {
        options.insert("uuid".into(), json!(uuid.to_string()));
    }
    change(context, "raid-create", &params.name, options).await?;
    if let Some(info) = raid::find(context, &params.name) {
        raid::limit(context, &info).await
    }
    Ok(true)
}

async fn change(context: &Context, verb: &str, object: &str, options: Map<String, Value>) -> RpcResult<()> {
    let request = Request {
        verb: verb.into(),
        object: object.into(),
        options,
    };
    let done = context.engine.change(&request, &Stamp::now()).await;
    done.map_err(super::plan::failed)?;
    context.settle().await;
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    name: String,
    /// Wipe the superblocks as well.
    #[serde(default)]
    clear_sb: bool,
}

async fn delete(context: Arc<Context>, params: Delete) -> RpcResult<bool> {
    let waited = {
        let mut facts = context.facts();
        let before = facts.waiting.len();
        facts
            .waiting
            .retain(|w| !matches!(w, Waiting::Raid(r) if r.name == params.name));
        facts.waiting.len() < before
    };
    if waited {
        return Ok(true);
    }
    let info = raid::find(&context, &params.name).ok_or_else(|| raid::not_found(&params.name))?;
    match (raid::is_recorded(&info), params.clear_sb) {
        (false, _) => context.delete(&info.name).await?,
        (true, true) => change(&context, "raid-delete", &info.name, Map::new()).await?,
        (true, false) => {
            let why = format!(
                "{:?} would be found again at once by its superblocks; clear_sb wipes them",
                info.name
            );
            return Err(RpcError::errno(Errno::Busy).because(why));
        }
    }
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    raid_bdev: String,
    base_bdev: String,
}

/// A disk takes an empty place, and is rebuilt.
async fn add(context: Arc<Context>, params: Add) -> RpcResult<bool> {
    let Add { raid_bdev, base_bdev } = params;
    let info = raid::find(&context, &raid_bdev).ok_or_else(|| raid::not_found(&raid_bdev))?;
    let base = context.disk(&base_bdev)?;
    let inval = |why: String| RpcError::errno(Errno::Inval).because(why);
    if raid::is_recorded(&info) {
        let options = Map::from_iter([("disks".to_owned(), json!([base.name]))]);
        change(&context, "raid-add", &info.name, options).await?;
        return Ok(true);
    }
    let mut table = info.table.clone();
    let Table::Raid { used, on, .. } = &mut table else {
        return Err(inval(format!(
            "{:?} cannot do without any member, and takes none",
            info.name
        )));
    };
    context.check_unused(&base.name)?;
    if base.geometry.blocks < *used || base.geometry.block_size != info.geometry.block_size {
        let why = format!(
            "{:?} has {} blocks of {} bytes; {used} of {} are used of each member",
            base.name, base.geometry.blocks, base.geometry.block_size, info.geometry.block_size
        );
        return Err(inval(why));
    }
    let report = context
        .graph
        .array(&info.name)
        .await
        .map_err(|error| graph_error(&error))?;
    let free = |state| matches!(state, MemberState::Failed | MemberState::Missing);
    let place = report.members.iter().position(|member| free(member.state));
    let place = place.ok_or_else(|| inval(format!("{:?} has all its members", info.name)))?;
    on[place] = Some(Seat {
        on: base.name.clone(),
        start: 0,
        state: MemberState::Rebuilding { to: 0 },
        write_mostly: false,
        bad: Vec::new(),
        superblock: None,
    });
    let done = context.graph.replace(&info.name, table).await;
    done.map_err(|error| graph_error(&error))?;
    if let Some(known) = context.facts().raids.get_mut(&info.name)
        && let Some(name) = known.base_bdevs.get_mut(place)
    {
        *name = base.name
    }
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    name: String,
}

/// A member is given up.
async fn remove(context: Arc<Context>, params: Remove) -> RpcResult<bool> {
    let base = context.disk(&params.name)?;
    let seat_of = |info: &NodeInfo| match &info.table {
        Table::Raid { on, .. } => {
            let is = |seat: &Option<Seat>| seat.as_ref().is_some_and(|seat| seat.on == base.name);
            on.iter().position(is)
        }
        _ => None,
    };
    let found = context
        .graph
        .list()
        .into_iter()
        .find_map(|info| Some((seat_of(&info)?, info)));
    let (place, info) = found.ok_or_else(|| {
        RpcError::errno(Errno::NoDev).because(format!(
            "{:?} is no member of an array that can do without one",
            base.name
        ))
    })?;
    // At most 255, or what MD has.
    let fail = Command::Fail(place as u16);
    let done = context.graph.command_array(&info.name, fail).await;
    done.map_err(|error| graph_error(&error))?;
    let mut table = info.table.clone();
    if let Table::Raid { on, .. } = &mut table
        && !raid::is_recorded(&info)
    {
        // Nobody else would let go of it.
        on[place] = None;
        let done = context.graph.replace(&info.name, table).await;
        done.map_err(|error| graph_error(&error))?;
    }
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetOptions {
    process_window_size_kb: Option<u32>,
    process_max_bandwidth_mb_sec: Option<u32>,
}

/// What is not given stays as it is.
async fn set_options(context: Arc<Context>, params: SetOptions) -> RpcResult<bool> {
    let was: RaidOptions = context.facts().raid_options.unwrap_or_default();
    context.facts().raid_options = Some(RaidOptions {
        process_window_size_kb: params.process_window_size_kb.unwrap_or(was.process_window_size_kb),
        process_max_bandwidth_mb_sec: params
            .process_max_bandwidth_mb_sec
            .unwrap_or(was.process_max_bandwidth_mb_sec),
    });
    for info in context.graph.list() {
        raid::limit(&context, &info).await
    }
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    category: Category,
}

#[derive(Copy, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Category {
    All,
    Online,
    Configuring,
    Offline,
}

async fn get(context: Arc<Context>, params: Get) -> RpcResult<Vec<Value>> {
    let category = match params.category {
        Category::All => "all",
        Category::Online => "online",
        Category::Configuring => "configuring",
        Category::Offline => "offline",
    };
    Ok(raid::list(&context, category).await)
}
