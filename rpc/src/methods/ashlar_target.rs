//! `ashlar_show_targets`: who is connected to which target, from where, with what agreed, and how its units are doing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use target::iscsi::{ConnectionInfo, TargetNode};
use target::nvmf::{QueueInfo, SubsystemInfo};

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
    let mut nvmf = Vec::new();
    for s in context.nvmf.subsystems().into_iter().filter(|s| params.fits(&s.nqn)) {
        nvmf.push(subsystem(&context, s).await);
    }
    match &params.name {
        Some(name) if iscsi.is_empty() && nvmf.is_empty() => {
            let text = format!("no target is called {name:?}; ashlar_get_targets lists them");
            Err(RpcError::invalid_params(text))
        }
        _ => Ok(json!({"iscsi": iscsi, "nvmf": nvmf})),
    }
}

/// Commands that a volume works on now.
async fn in_flight(context: &Context, volume: &str) -> Option<u64> {
    let moved = context.graph.iostat(Some(volume)).await;
    moved.ok().and_then(|all| all.first().map(|(_, stat)| stat.queue_depth))
}

async fn subsystem(context: &Context, s: SubsystemInfo) -> Value {
    let nvmf = &context.nvmf;
    // Whatever goes away meanwhile is shown as empty.
    let controllers = nvmf.controllers(&s.nqn).unwrap_or_default();
    let queues = nvmf.queues(&s.nqn).await.unwrap_or_default();
    let reservations = nvmf.reservations(&s.nqn).unwrap_or_default();
    let listeners = nvmf.listeners(&s.nqn).unwrap_or_default();

    let queue = |q: &QueueInfo| {
        let tls = q.pair.tls.zip(q.pair.psk);
        json!({
            "qid": q.pair.qid, "reactor": q.pair.core, "depth": q.depth, "in_flight": q.in_flight,
            "from": q.pair.peer_address.to_string(), "to": q.pair.listen_address.to_string(),
            "header_digest": q.header_digest, "data_digest": q.data_digest,
            "tls": tls.map(|(cipher, psk)| json!({"cipher": cipher, "psk": psk})),
            "auth": q.pair.auth.as_ref().map(super::nvmf_subsystem::auth),
        })
    };
    let controllers = controllers.iter().map(|c| {
        let own = queues.iter().filter(|q| q.pair.cntlid == c.cntlid);
        json!({
            "cntlid": c.cntlid, "hostnqn": c.hostnqn, "hostid": c.hostid, "ready": c.ready,
            "keep_alive_ms": c.keep_alive_ms, "queues": own.map(queue).collect::<Vec<_>>(),
        })
    });
    let mut namespaces = Vec::new();
    for n in &s.namespaces {
        let geometry = context.graph.info(&n.volume).map(|info| info.geometry);
        let r = reservations.get(&n.nsid).cloned().unwrap_or_default();
        let registrants = r
            .registrants
            .iter()
            .map(|one| json!({"hostid": one.hostid, "hostnqn": one.hostnqn, "key": one.key, "holder": one.holder}));
        namespaces.push(json!({
            "nsid": n.nsid,
            "volume": n.volume,
            "uuid": n.uuid,
            "bytes": geometry.as_ref().map(|g| g.bytes()),
            "block_size": geometry.as_ref().map(|g| g.block_size),
            "read_only": geometry.as_ref().is_some_and(|g| g.read_only),
            "anagrpid": n.anagrpid,
            // Absent: every host that may connect sees it.
            "only_for": n.no_auto_visible.then_some(&n.hosts),
            "in_flight": in_flight(context, &n.volume).await,
            "reservations": {
                "generation": r.generation, "persist": r.persist, "kind": r.kind,
                "registrants": registrants.collect::<Vec<_>>(),
            },
        }));
    }
    let listeners = listeners.iter().map(|l| {
        let mut shown = address(&l.address);
        if l.secure {
            shown["secure_channel"] = true.into();
        }
        if s.ana_reporting {
            // The groups that namespaces are in.
            let used = |group: &u32| s.namespaces.iter().any(|n| n.anagrpid == *group);
            let states = l.ana_states.iter().filter(|(group, _)| used(group));
            let states = states.map(|(group, state)| json!({"ana_group": group, "ana_state": state.name()}));
            shown["ana_states"] = states.collect();
        }
        shown
    });
    let hosts = s.hosts.iter().map(|(nqn, keys)| {
        json!({"nqn": nqn, "authenticates": keys.dhchap_key.is_some(), "is_shown_proof": keys.dhchap_ctrlr_key.is_some()})
    });
    json!({
        "nqn": s.nqn,
        "serial_number": s.serial_number,
        "model_number": s.model_number,
        "ana_reporting": s.ana_reporting,
        "shared": s.shared,
        "allow_any_host": s.allow_any_host,
        "hosts": hosts.collect::<Vec<_>>(),
        "listeners": listeners.collect::<Vec<_>>(),
        "namespaces": namespaces,
        "controllers": controllers.collect::<Vec<_>>(),
    })
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
        let in_flight = in_flight(context, &unit.map.bdev_name).await;
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
