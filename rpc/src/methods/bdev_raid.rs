//! RAID as SPDK's clients make it: raid0, concat, raid1 and raid5f, without metadata on the members.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::bdev_leaf::given;
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, Raid, RaidLevel, Waiting};
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
        RaidLevel::Raid1 => 2,
        RaidLevel::Raid5f => 3,
    };
    if params.base_bdevs.len() < least {
        return Err(inval(&format!(
            "{} has at least {least} members",
            params.raid_level.name()
        )));
    }
    if params.superblock {
        return Err(inval(
            "superblock: nothing is written to members of arrays that RPC makes",
        ));
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
    let wish = Raid {
        name: name.clone(),
        uuid: given(params.uuid),
        strip_size_kb: params.strip_size_kb,
        level: params.raid_level,
        base_bdevs: params.base_bdevs.clone(),
    };
    match raid::build(&context, &wish).await {
        Ok(_) => context.grant_waiting().await,
        Err(error) if error.code == -(Errno::NoDev as i64) => context.facts().waiting.push(Waiting::Raid(wish)),
        Err(error) => return Err(failed(error)),
    }
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    name: String,
    /// There is no superblock to clear.
    #[serde(rename = "clear_sb")]
    _clear_sb: Option<bool>,
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
    let info = context
        .graph
        .info(&params.name)
        .filter(|info| raid::shape(&context, info).is_some());
    let info = info.ok_or_else(|| raid::not_found(&params.name))?;
    context.delete(&info.name).await?;
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
    Ok(raid::list(
        &context,
        match params.category {
            Category::All => "all",
            Category::Online => "online",
            Category::Configuring => "configuring",
            Category::Offline => "offline",
        },
    ))
}
