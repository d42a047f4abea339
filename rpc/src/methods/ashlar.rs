//! What SPDK has no method for: discovery's verdicts, disks from any table, volumes with the ways to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bdev::{NodeSpec, Table};
use lvol::keeper::Whereabouts;
use lvol::{Create, DiskInfo, Origin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::nvmf::address;
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, engine_error, no_disk};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, NoParams};
use crate::reload::{ReloadError, Reloaded};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("ashlar_get_disks", Runtime, Look, BAD, get_disks),
        Line::new("ashlar_get_groups", Runtime, Look, BAD, get_groups),
        Line::new("ashlar_get_engine", Both, Look, Complaint::NoParams, get_engine),
        Line::new("ashlar_get_plugins", Runtime, Look, Complaint::NoParams, get_plugins),
        Line::new("ashlar_create_disk", Runtime, Change, BAD, create_disk),
        Line::new("ashlar_delete_disk", Runtime, Change, BAD, delete_disk),
        Line::new("ashlar_rescan", Runtime, Change, Complaint::NoParams, rescan),
        Line::new("ashlar_get_volumes", Runtime, Look, BAD, get_volumes),
        Line::new("ashlar_get_targets", Runtime, Look, Complaint::NoParams, get_targets),
        Line::new("ashlar_get_config", Runtime, Look, Complaint::NoParams, get_config),
        Line::new(
            "ashlar_reload_config",
            Runtime,
            Change,
            Complaint::NoParams,
            reload_config,
        ),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: Option<String>,
}

/// Every disk with what discovery made of it and why, the missing ones too; or one of them.
async fn get_disks(context: Arc<Context>, params: Named) -> RpcResult<Vec<DiskInfo>> {
    match params.name {
        None => context.engine.disks().await.map_err(engine_error),
        Some(name) => {
            let disk = context.engine.disk(&name).await.map_err(engine_error)?;
            Ok(vec![disk.ok_or_else(|| no_disk(&name))?])
        }
    }
}

/// The process of the engine, if it has one of its own and is there, and how often it was started.
async fn get_engine(context: Arc<Context>, _: NoParams) -> RpcResult<Whereabouts> {
    Ok(context.engine.whereabouts())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Groups {
    /// Name or identity of a group, or a volume of it.
    name: Option<String>,
    /// Only those of this format: `lvm2`, `link`.
    format: Option<String>,
}

/// Every volume group and drive link with its members and volumes, and the reason for each volume that is not active; or one of them.
async fn get_groups(context: Arc<Context>, params: Groups) -> RpcResult<Vec<lvol::Group>> {
    let mut groups = context.engine.groups().await.map_err(engine_error)?;
    if let Some(name) = params.name {
        groups.retain(|group| group.name == name || group.id == name || group.volumes.iter().any(|v| v.disk == name));
        if groups.is_empty() {
            return Err(no_disk(&name));
        }
    }
    if let Some(format) = params.format {
        groups.retain(|group| group.format == format);
    }
    Ok(groups)
}

/// Every class of plug-ins and every plug-in, with what it has claimed.
async fn get_plugins(context: Arc<Context>, _: NoParams) -> RpcResult<lvol::plugin::Plugins> {
    context.engine.plugins().await.map_err(engine_error)
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateDisk {
    name: String,
    uuid: Option<Uuid>,
    #[serde(default)]
    aliases: Vec<String>,
    table: Table,
    product: Option<String>,
    /// Whether discovery may look for partitions on it.
    #[serde(default = "yes")]
    examine: bool,
}

/// Builds a disk from any table there is.
async fn create_disk(context: Arc<Context>, params: CreateDisk) -> RpcResult<String> {
    let mut spec = NodeSpec::new(params.name, params.table);
    spec.uuid = params.uuid;
    spec.aliases = params.aliases;
    spec.product = params.product.unwrap_or(spec.product);
    let wish = Create {
        spec,
        origin: Origin::Rpc,
        examine: params.examine,
    };
    let info = context.engine.create(wish).await.map_err(engine_error)?;
    context.settle().await;
    Ok(info.name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteDisk {
    name: String,
    /// Even while hosts have it open.
    #[serde(default)]
    force: bool,
}

/// Removes a disk on which nothing stands. Unlike SPDK's methods it refuses to take something away from under others.
async fn delete_disk(context: Arc<Context>, params: DeleteDisk) -> RpcResult<bool> {
    context
        .engine
        .delete(&params.name, params.force)
        .await
        .map_err(engine_error)?;
    Ok(true)
}

/// Looks for files that have come, grown or gone.
async fn rescan(context: Arc<Context>, _: NoParams) -> RpcResult<bool> {
    context.graph.rescan_all().await;
    context.engine.rescan().await.map_err(engine_error)?;
    context.settle().await;
    Ok(true)
}

/// A volume and the ways hosts have to it.
#[derive(Serialize)]
struct Volume {
    name: String,
    uuid: Uuid,
    aliases: Vec<String>,
    product: String,
    bytes: u64,
    blocks: u64,
    block_size: u32,
    read_only: bool,
    verdict: lvol::Verdict,
    reason: String,
    below: Vec<String>,
    opens: u32,
    /// NVMe namespaces and iSCSI logical units that show it.
    served: Vec<Value>,
}

/// Every way to every volume: `(volume, way)`.
fn ways(context: &Context) -> Vec<(String, Value)> {
    let mut ways = Vec::new();
    for subsystem in context.nvmf.subsystems() {
        let secure = |l: &target::nvmf::ListenerInfo| {
            let mut shape = address(&l.address);
            if l.secure {
                shape["secure_channel"] = true.into();
            }
            shape
        };
        let all = context.nvmf.listeners(&subsystem.nqn).unwrap_or_default();
        let listeners: Vec<Value> = all.iter().map(secure).collect();
        for namespace in subsystem.namespaces {
            let way = json!({"protocol": "nvmf", "nqn": subsystem.nqn, "nsid": namespace.nsid, "listeners": listeners});
            ways.push((namespace.volume, way));
        }
    }
    let groups = context.iscsi.portal_groups();
    for node in context.iscsi.target_nodes() {
        let portals: Vec<Value> = groups
            .iter()
            .filter(|group| node.pg_ig_maps.iter().any(|map| map.pg_tag == group.tag))
            .flat_map(|group| &group.portals)
            .map(|portal| json!({"host": portal.host, "port": portal.port}))
            .collect();
        for lun in node.luns {
            let name = context
                .graph
                .info(&lun.bdev_name)
                .map_or(lun.bdev_name, |info| info.name);
            ways.push((
                name,
                json!({"protocol": "iscsi", "iqn": node.name, "lun": lun.lun_id, "portals": portals}),
            ));
        }
    }
    ways
}

/// What is or could be offered to hosts.
async fn get_volumes(context: Arc<Context>, params: Named) -> RpcResult<Vec<Volume>> {
    let ways = ways(&context);
    let free = context.engine.volumes().await.map_err(engine_error)?;
    let free: BTreeSet<String> = free.into_iter().map(|disk| disk.name).collect();
    let wanted = match &params.name {
        Some(name) => Some(context.disk(name)?.name),
        None => None,
    };
    let offered = |disk: &DiskInfo| match &wanted {
        Some(name) => disk.name == *name,
        None => free.contains(&disk.name) || ways.iter().any(|(name, _)| *name == disk.name),
    };
    let volume = |disk: DiskInfo| {
        let node = disk.node?;
        Some(Volume {
            served: ways
                .iter()
                .filter(|(name, _)| *name == disk.name)
                .map(|(_, way)| way.clone())
                .collect(),
            name: disk.name,
            uuid: node.uuid,
            aliases: node.aliases,
            product: node.product,
            bytes: node.geometry.bytes(),
            blocks: node.geometry.blocks,
            block_size: node.geometry.block_size,
            read_only: node.geometry.read_only,
            verdict: disk.verdict,
            reason: disk.reason,
            below: node.below,
            opens: node.opens,
        })
    };
    let disks = context.engine.disks().await.map_err(engine_error)?;
    Ok(disks.into_iter().filter(offered).filter_map(volume).collect())
}

/// Every target of either protocol, what it shows, where, and how many hosts are there.
async fn get_targets(context: Arc<Context>, _: NoParams) -> RpcResult<Value> {
    let mut subsystems = Vec::new();
    for s in context.nvmf.subsystems() {
        let hosts = context.nvmf.controllers(&s.nqn).map_or(0, |c| c.len());
        let namespaces: Vec<Value> = s
            .namespaces
            .iter()
            .map(|n| json!({"nsid": n.nsid, "volume": n.volume}))
            .collect();
        subsystems.push(json!({
            "nqn": s.nqn,
            "discovery": s.discovery,
            "allow_any_host": s.allow_any_host,
            "allowed_hosts": s.hosts.iter().map(|(nqn, _)| nqn).collect::<Vec<_>>(),
            "listeners": s.listen_addresses.iter().map(address).collect::<Vec<_>>(),
            "namespaces": namespaces,
            "controllers": hosts,
        }));
    }
    let groups = context.iscsi.portal_groups();
    let connections = context.iscsi.connections();
    let nodes = context.iscsi.target_nodes().into_iter().map(|node| {
        let portals: Vec<Value> = groups
            .iter()
            .filter(|group| node.pg_ig_maps.iter().any(|map| map.pg_tag == group.tag))
            .flat_map(|group| &group.portals)
            .map(|portal| json!({"host": portal.host, "port": portal.port}))
            .collect();
        let luns: Vec<Value> = node
            .luns
            .iter()
            .map(|l| json!({"lun": l.lun_id, "volume": l.bdev_name}))
            .collect();
        json!({
            "iqn": node.name,
            "alias": node.alias_name,
            "portals": portals,
            "luns": luns,
            "connections": connections.iter().filter(|c| c.target_node_name == node.name).count(),
        })
    });
    Ok(json!({"nvmf": subsystems, "iscsi": nodes.collect::<Vec<_>>()}))
}

/// Reads the configuration file again and takes over what can be: which disks are looked into, what is wanted of volume groups, the level of the log.
async fn reload_config(context: Arc<Context>, _: NoParams) -> RpcResult<Reloaded> {
    context.reload().await.map_err(|why| {
        let errno = match &why {
            ReloadError::NoFile => Errno::NoEnt,
            ReloadError::Config(_) => Errno::Inval,
            ReloadError::Engine(_) => Errno::Again,
            ReloadError::Read(_) | ReloadError::Audit { .. } => Errno::Io,
        };
        RpcError::new(-(errno as i64), why.to_string())
    })
}

/// The running state in the schema of the configuration file.
async fn get_config(context: Arc<Context>, _: NoParams) -> RpcResult<config::Config> {
    context.configuration().await
}
