//! RAID volumes as SPDK's clients know them: raid0 (a stripe), concat (one after the other), raid1 and raid5f, and the levels that SPDK has not; and arrays that
//! were found on disks.
//!
//! raid5f here is a RAID-5 that takes writes of any length, with its parity where SPDK has it. As nothing on the members says what may differ, they are
//! compared whenever such an array is made.

use bdev::module::raid::Command;
use bdev::raid::{MemberState, Shape, Work};
use bdev::table::{self, Piece, Segment};
use bdev::{NodeInfo, NodeSpec, Table};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::context::{Context, Raid, RaidLevel, Waiting, engine_error, no_disk};
use crate::error::{Errno, RpcError, RpcResult};

/// The product name.
pub(crate) const PRODUCT: &str = "Raid Volume";

/// Members lose what does not fill a whole strip, as in SPDK, so that a volume made by either has its data in the same places.
fn table(raid: &Raid, members: &[NodeInfo]) -> Result<Table, String> {
    let block_size = members.first().map_or(512, |m| m.geometry.block_size);
    if let Some(other) = members.iter().find(|m| m.geometry.block_size != block_size) {
        return Err(format!(
            "{:?} has blocks of {} bytes, the first {block_size}",
            other.name, other.geometry.block_size
        ));
    }
    let bytes = u64::from(raid.strip_size_kb) * 1024;
    let strip = bytes / u64::from(block_size);
    if strip == 0 && raid.level != RaidLevel::Raid1 {
        return Err(format!("a strip of {bytes} bytes is less than a block of {block_size}"));
    }
    let whole = |m: &NodeInfo| m.geometry.blocks / strip.max(1) * strip.max(1);
    if let Some(small) = members.iter().find(|m| whole(m) == 0) {
        return Err(format!("{:?} is smaller than one strip", small.name));
    }
    let seats = || {
        let seat = |member: &NodeInfo| {
            Some(table::Seat {
                on: member.name.clone(),
                start: 0,
                state: MemberState::InSync,
                write_mostly: false,
                bad: Vec::new(),
                superblock: None,
            })
        };
        members.iter().map(seat).collect::<Vec<_>>()
    };
    let array = |shape: Shape, used: u64| {
        let places = shape.places(members.len(), used)?;
        Ok(Table::Raid {
            shape,
            used,
            on: seats(),
            replacements: Vec::new(),
            bitmap: None,
            differs: vec![(0, places.span())],
            noted: Vec::new(),
            replay: false,
            read_only: false,
        })
    };
    let shortest = |length: &dyn Fn(&NodeInfo) -> u64| members.iter().map(length).min().unwrap_or(0);
    let chunk = u32::try_from(strip).map_err(|_| "the strip is too long".to_owned());
    match raid.level {
        RaidLevel::Raid1 => return array(Shape::Raid1, shortest(&|member| member.geometry.blocks)),
        // Left-asymmetric: parity goes towards the first member, data in order of members.
        RaidLevel::Raid5f => {
            return array(
                Shape::Raid5 {
                    layout: 0,
                    chunk: chunk?,
                },
                shortest(&whole),
            );
        }
        RaidLevel::Raid4 => return array(Shape::Raid4 { chunk: chunk? }, shortest(&whole)),
        RaidLevel::Raid5 => {
            return array(
                Shape::Raid5 {
                    layout: 2,
                    chunk: chunk?,
                },
                shortest(&whole),
            );
        }
        RaidLevel::Raid6 => {
            return array(
                Shape::Raid6 {
                    layout: 2,
                    chunk: chunk?,
                },
                shortest(&whole),
            );
        }
        RaidLevel::Raid10 => {
            return array(
                Shape::Raid10 {
                    layout: 0x102,
                    chunk: chunk?,
                },
                shortest(&whole),
            );
        }
        RaidLevel::Raid0 | RaidLevel::Concat => (),
    }
    if raid.level == RaidLevel::Concat {
        let segments = members
            .iter()
            .map(|m| Segment {
                on: m.name.clone(),
                start: 0,
                blocks: whole(m),
            })
            .collect();
        return Ok(Table::Linear { segments });
    }
    Ok(Table::Stripe {
        on: members.iter().map(|m| m.name.clone()).collect(),
        chunk: chunk?,
    })
}

/// Builds the volume when all members are there; −19 while one is not.
pub(crate) async fn build(context: &Context, raid: &Raid) -> RpcResult<NodeInfo> {
    let members: Vec<NodeInfo> = raid
        .base_bdevs
        .iter()
        .map(|name| context.disk(name))
        .collect::<RpcResult<_>>()?;
    for member in &members {
        context.check_unused(&member.name)?;
    }
    let table = table(raid, &members).map_err(|why| RpcError::errno(Errno::Inval).because(why))?;
    let mut spec = NodeSpec::new(&raid.name, table);
    spec.uuid = raid.uuid;
    spec.product = PRODUCT.into();
    let wish = lvol::Create {
        spec,
        origin: lvol::Origin::Rpc,
        examine: true,
    };
    let info = context.engine.create(wish).await.map_err(engine_error)?;
    context.facts().raids.insert(raid.name.clone(), raid.clone());
    limit(context, &info).await;
    Ok(info)
}

/// The array of this name, or of this name in MD's metadata.
pub(crate) fn find(context: &Context, name: &str) -> Option<NodeInfo> {
    let disk = |name: &str| context.graph.info(name).filter(|info| layout(context, info).is_some());
    disk(name).or_else(|| disk(&format!("md/{name}")))
}

/// True if its members have superblocks.
pub(crate) fn is_recorded(info: &NodeInfo) -> bool {
    match &info.table {
        Table::Raid { on, .. } => on.iter().flatten().any(|seat| seat.superblock.is_some()),
        table => matches!(table, Table::Mapped { .. }),
    }
}

/// Tells an array the limit that the configuration sets for it, or else RPC for all.
pub(crate) async fn limit(context: &Context, info: &NodeInfo) {
    if !matches!(info.table, Table::Raid { .. }) {
        return;
    }
    let bytes = context.rebuild_limit(&info.name).unwrap_or(0);
    let limit = Command::Limit(bytes / u64::from(info.geometry.block_size));
    if let Err(error) = context.graph.command_array(&info.name, limit).await {
        tracing::warn!(%error, "the limit of rebuilds is not set")
    }
}

/// A member's name and how many of its blocks are used.
type Member = (String, u64);

/// What a node is as a RAID volume, if it is one: level, strip in KiB, members.
fn layout(context: &Context, info: &NodeInfo) -> Option<(&'static str, u64, Vec<Member>)> {
    let known = context
        .facts()
        .raids
        .get(&info.name)
        .map(|r| u64::from(r.strip_size_kb));
    let block = u64::from(info.geometry.block_size);
    match &info.table {
        Table::Stripe { on, chunk } => {
            let each = info.geometry.blocks / (on.len() as u64).max(1);
            Some((
                "raid0",
                u64::from(*chunk) * block / 1024,
                on.iter().map(|n| (n.clone(), each)).collect(),
            ))
        }
        Table::Linear { segments } if info.product == PRODUCT => Some((
            "concat",
            known.unwrap_or(0),
            segments.iter().map(|s| (s.on.clone(), s.blocks)).collect(),
        )),
        Table::Mapped { pieces, .. } if info.product == PRODUCT => {
            let mut of: Vec<Member> = Vec::new();
            let (mut level, mut strip) = ("concat", 0);
            for piece in pieces {
                let segments = match piece {
                    Piece::Linear(segment) => std::slice::from_ref(segment),
                    Piece::Stripe { on, chunk } => {
                        (level, strip) = ("raid0", u64::from(*chunk) * block / 1024);
                        on
                    }
                    _ => return None,
                };
                for segment in segments {
                    match of.iter_mut().find(|(name, _)| *name == segment.on) {
                        Some((_, used)) => *used += segment.blocks,
                        None => of.push((segment.on.clone(), segment.blocks)),
                    }
                }
            }
            Some((level, strip, of))
        }
        Table::Raid { shape, used, on, .. } => {
            let level = match known_level(context, &info.name) {
                Some(level) => level.name(),
                None => shape.name(),
            };
            let member = |seat: &Option<table::Seat>| match seat {
                Some(seat) => (seat.on.clone(), *used),
                None => (String::new(), 0),
            };
            let strip = u64::from(shape.chunk().unwrap_or(0)) * block / 1024;
            Some((level, strip, on.iter().map(member).collect()))
        }
        _ => None,
    }
}

fn known_level(context: &Context, name: &str) -> Option<RaidLevel> {
    context.facts().raids.get(name).map(|raid| raid.level)
}

fn members(context: &Context, of: &[Member]) -> Vec<Value> {
    let member = |(name, used): &Member| match context.graph.info(name) {
        _ if name.is_empty() => json!({"name": null, "uuid": Uuid::nil().to_string(), "is_configured": false,
                                       "data_offset": 0, "data_size": used}),
        Some(info) => json!({"name": info.name, "uuid": info.uuid.to_string(), "is_configured": true,
                             "data_offset": 0, "data_size": used}),
        None => json!({"name": name, "uuid": Uuid::nil().to_string(), "is_configured": false,
                       "data_offset": 0, "data_size": 0}),
    };
    of.iter().map(member).collect()
}

/// What stands under `driver_specific.raid`, if the node is a RAID volume.
pub(crate) fn shape(context: &Context, info: &NodeInfo) -> Option<Value> {
    let (level, strip_size_kb, of) = layout(context, info)?;
    let there = of.iter().filter(|(name, _)| !name.is_empty()).count();
    let online = matches!(info.state, bdev::NodeState::Active | bdev::NodeState::Suspended);
    Some(json!({
        "uuid": info.uuid.to_string(),
        "strip_size_kb": strip_size_kb,
        "state": if online { "online" } else { "offline" },
        "raid_level": level,
        "superblock": is_recorded(info),
        "num_base_bdevs": of.len(),
        "num_base_bdevs_discovered": there,
        "num_base_bdevs_operational": there,
        "base_bdevs_list": members(context, &of),
    }))
}

/// The same as it is at this moment: who has failed is in no list any more, and what is done to the array.
async fn live(context: &Context, info: &NodeInfo) -> Option<Value> {
    let mut shape = shape(context, info)?;
    let Table::Raid { on, .. } = &info.table else {
        return Some(shape);
    };
    let Ok(report) = context.graph.array(&info.name).await else {
        return Some(shape);
    };
    let count = |is: fn(MemberState) -> bool| report.members.iter().filter(|member| is(member.state)).count();
    let used = |state| matches!(state, MemberState::InSync | MemberState::Rebuilding { .. });
    shape["num_base_bdevs_discovered"] = count(used).into();
    shape["num_base_bdevs_operational"] = count(|state| state == MemberState::InSync).into();
    for (place, (seat, member)) in on.iter().zip(&report.members).enumerate() {
        let listed = &mut shape["base_bdevs_list"][place];
        match seat {
            Some(seat) if used(member.state) => listed["data_offset"] = seat.start.into(),
            _ => {
                listed["name"] = Value::Null;
                listed["is_configured"] = false.into()
            }
        }
    }
    let rebuilt = report
        .members
        .iter()
        .zip(on)
        .find_map(|(member, seat)| match member.state {
            MemberState::Rebuilding { to } => Some((to, seat.as_ref()?.on.clone())),
            _ => None,
        });
    if let (Some(progress), Some((to, target))) = (report.progress, rebuilt)
        && progress.work == Work::Rebuild
    {
        let percent = (to * 100).checked_div(progress.of).unwrap_or(0);
        shape["process"] = json!({"type": "rebuild", "target": target, "progress": {"blocks": to, "percent": percent}})
    }
    Some(shape)
}

/// The volumes of a category, as `bdev_raid_get_bdevs` lists them; those that wait for a member are "configuring".
pub(crate) async fn list(context: &Context, category: &str) -> Vec<Value> {
    let named = |name: &str, shape: Value| {
        let mut all = serde_json::Map::from_iter([("name".to_owned(), Value::from(name))]);
        all.extend(shape.as_object().cloned().unwrap_or_default());
        Value::Object(all)
    };
    let mut all: Vec<Value> = Vec::new();
    for info in context.graph.list() {
        if let Some(shape) = live(context, &info).await {
            all.push(named(&info.name, shape))
        }
    }
    let waiting = context.facts().waiting.clone();
    for wish in waiting {
        let Waiting::Raid(raid) = wish else { continue };
        let of: Vec<Member> = raid.base_bdevs.iter().map(|n| (n.clone(), 0)).collect();
        let there = of.iter().filter(|(name, _)| context.graph.info(name).is_some()).count();
        all.push(json!({
            "name": raid.name,
            "uuid": raid.uuid.unwrap_or_else(|| NodeSpec::uuid_of(&raid.name)).to_string(),
            "strip_size_kb": raid.strip_size_kb,
            "state": "configuring",
            "raid_level": raid.level.name(),
            "superblock": false,
            "num_base_bdevs": of.len(),
            "num_base_bdevs_discovered": there,
            "num_base_bdevs_operational": of.len(),
            "base_bdevs_list": members(context, &of),
        }));
    }
    all.retain(|raid| category == "all" || raid["state"] == category);
    all
}

/// The call that makes the volume again.
pub(crate) fn saved(raid: &Raid, uuid: Uuid) -> Value {
    json!({
        "name": raid.name,
        "uuid": uuid.to_string(),
        "strip_size_kb": raid.strip_size_kb,
        "raid_level": raid.level.name(),
        "base_bdevs": raid.base_bdevs,
    })
}

/// −19 with the text `bdev_raid_delete` has for it.
pub(crate) fn not_found(name: &str) -> RpcError {
    RpcError {
        message: format!("raid bdev {name} not found"),
        ..no_disk(name)
    }
}
