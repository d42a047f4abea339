//! `ashlar_show_targets`: who is connected to which target, from where, with what agreed, and how its units are doing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use target::iscsi::{ConnectionInfo, TargetNode};

use super::nvmf::address;
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{RpcError, RpcResult};
use crate::method::Complaint;

/// The lines of the table.
pub(super) fn lines() -> Lines {
    vec![Line::new(
        "ashlar_show_targets",
        Runtime,
        Look,
        Complaint::Invalid,
        show_targets,
    )]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    /// An IQN or NQN, or what follows its last colon; every target without it.
    name: Option<String>,
}

impl Named {
    fn fits(&self, full: &str) -> bool {
        let name = self.name.as_deref();
        name.is_none_or(|name| full == name || full.rsplit_once(':').is_some_and(|(_, last)| last == name))
    }
}

async fn show_targets(context: Arc<Context>, params: Named) -> RpcResult<Value> {
    let mut iscsi = Vec::new();
    for node in context
        .iscsi
        .target_nodes()
        .into_iter()
        .filter(|node| params.fits(&node.name))
    {
        iscsi.push(target(&context, node).await);
    }
    let subsystems = context.nvmf.subsystems().into_iter().filter(|s| params.fits(&s.nqn));
    let nvmf: Vec<Value> = subsystems
        .map(|s| {
            let controllers = context.nvmf.controllers(&s.nqn).unwrap_or_default();
            let qpairs = context.nvmf.qpairs(&s.nqn).unwrap_or_default();
            let controllers = controllers.into_iter().map(|c| {
                let of = |q: &&target::nvmf::QpairInfo| q.cntlid == c.cntlid;
                let queues = qpairs.iter().filter(of).map(|q| {
                    json!({
                        "qid": q.qid, "reactor": q.core, "from": q.peer_address.to_string(), "to": q.listen_address.to_string(),
                    })
                });
                json!({
                    "cntlid": c.cntlid, "hostnqn": c.hostnqn, "hostid": c.hostid, "queues": queues.collect::<Vec<_>>(),
                })
            });
            let namespaces = s.namespaces.iter().map(|n| json!({"nsid": n.nsid, "volume": n.volume}));
            json!({
                "nqn": s.nqn,
                "listeners": s.listen_addresses.iter().map(address).collect::<Vec<_>>(),
                "namespaces": namespaces.collect::<Vec<_>>(),
                "controllers": controllers.collect::<Vec<_>>(),
            })
        })
        .collect();
    match &params.name {
        Some(name) if iscsi.is_empty() && nvmf.is_empty() => {
            let text = format!("no target is called {name:?}; ashlar_get_targets lists them");
            Err(RpcError::invalid_params(text))
        }
        _ => Ok(json!({"iscsi": iscsi, "nvmf": nvmf})),
    }
}

async fn target(context: &Context, node: TargetNode) -> Value {
    let portals: Vec<Value> = context
        .iscsi
        .portal_groups()
        .iter()
        .filter(|group| node.pg_ig_maps.iter().any(|map| map.pg_tag == group.tag))
        .flat_map(|group| {
            group
                .portals
                .iter()
                .map(|p| json!({"tag": group.tag, "host": p.host, "port": p.port}))
        })
        .collect();
    let mut luns = Vec::new();
    for unit in context.iscsi.units(&node.name).unwrap_or_default() {
        let moved = context.graph.iostat(Some(&unit.map.bdev_name)).await;
        let in_flight = moved.ok().and_then(|all| all.first().map(|(_, stat)| stat.queue_depth));
        let geometry = context.graph.info(&unit.map.bdev_name).map(|info| info.geometry);
        luns.push(json!({
            "lun": unit.map.lun_id,
            "volume": unit.map.bdev_name,
            "bytes": geometry.as_ref().map(|g| g.bytes()),
            "block_size": geometry.as_ref().map(|g| g.block_size),
            "options": unit.map.options,
            "read_only": unit.read_only || geometry.as_ref().is_some_and(|g| g.read_only),
            "write_cache": unit.write_cache,
            "medium_present": unit.medium_present,
            "errors": {"write": unit.errors[0], "read": unit.errors[1], "other": unit.errors[2]},
            "in_flight": in_flight,
            "reservations": unit.reservations,
        }));
    }
    json!({
        "iqn": node.name,
        "alias": node.alias_name,
        "queue_depth": node.queue_depth,
        "portals": portals,
        "luns": luns,
        "sessions": sessions(context.iscsi.connections().into_iter().filter(|c| c.target_node_name == node.name)),
    })
}

/// Connections, by the session they are of.
fn sessions(connections: impl Iterator<Item = ConnectionInfo>) -> Vec<Value> {
    let mut by_session: BTreeMap<u16, (String, Vec<Value>)> = BTreeMap::new();
    for c in connections {
        let mut shown = Map::new();
        shown.insert("id".into(), c.id.into());
        shown.insert("cid".into(), c.cid.into());
        shown.insert("from".into(), c.initiator_addr.to_string().into());
        shown.insert("to".into(), c.target_addr.to_string().into());
        shown.insert("portal_group".into(), c.portal_group.into());
        shown.insert("reactor".into(), c.lcore_id.into());
        shown.insert("state".into(), c.state.into());
        shown.insert("negotiated".into(), json!(c.negotiated));
        let session = by_session
            .entry(c.tsih)
            .or_insert_with(|| (c.initiator_name, Vec::new()));
        session.1.push(shown.into());
    }
    let session = |(tsih, (initiator, connections)): (u16, (String, Vec<Value>))| json!({"initiator": initiator, "tsih": tsih, "connections": connections});
    by_session.into_iter().map(session).collect()
}
