//! The iSCSI front end: options, portal groups, initiator groups, connections.
//!
//! SPDK answers nearly every refusal here with −32602 "Invalid parameters"; the cause is in `data`. The exceptions are kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use target::iscsi::{Auth, InitiatorGroup, IscsiError, Options, Portal, PortalGroup};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{RpcError, RpcResult};
use crate::method::{Complaint, NoParams, ignore};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    const NONE: Complaint = Complaint::NoParams;
    vec![
        Line::new("iscsi_set_options", Startup, Change, BAD, set_options),
        Line::new("iscsi_get_options", Runtime, Look, NONE, get_options),
        Line::new("iscsi_set_discovery_auth", Runtime, Change, BAD, set_discovery_auth),
        Line::new("iscsi_create_portal_group", Runtime, Change, BAD, create_portal_group).accepting(|params| {
            // Until 21.x a portal could name the cores that serve it.
            if let Some(Value::Array(portals)) = params.get_mut("portals") {
                portals
                    .iter_mut()
                    .filter_map(Value::as_object_mut)
                    .for_each(|p| ignore(p, &["cpumask"]));
            }
        }),
        Line::new("iscsi_start_portal_group", Runtime, Change, BAD, start_portal_group),
        Line::new("iscsi_delete_portal_group", Runtime, Change, BAD, delete_portal_group),
        Line::new("iscsi_get_portal_groups", Runtime, Look, NONE, get_portal_groups),
        Line::new(
            "iscsi_portal_group_set_auth",
            Runtime,
            Change,
            BAD,
            set_portal_group_auth,
        ),
        Line::new(
            "iscsi_create_initiator_group",
            Runtime,
            Change,
            BAD,
            create_initiator_group,
        ),
        Line::new(
            "iscsi_delete_initiator_group",
            Runtime,
            Change,
            BAD,
            delete_initiator_group,
        ),
        Line::new(
            "iscsi_initiator_group_add_initiators",
            Runtime,
            Change,
            BAD,
            add_initiators,
        ),
        Line::new(
            "iscsi_initiator_group_remove_initiators",
            Runtime,
            Change,
            BAD,
            remove_initiators,
        ),
        Line::new("iscsi_get_initiator_groups", Runtime, Look, NONE, get_initiator_groups),
        Line::new("iscsi_get_connections", Runtime, Look, NONE, get_connections),
        Line::new("iscsi_get_stats", Runtime, Look, NONE, get_stats),
        Line::new("scsi_get_devices", Runtime, Look, NONE, scsi_devices),
    ]
}

/// SPDK's one answer for everything, with ours beside it.
pub(super) fn refused(error: IscsiError) -> RpcError {
    RpcError::invalid().because(error.to_string())
}

// ---- options

async fn set_options(context: Arc<Context>, changes: Map<String, Value>) -> RpcResult<bool> {
    if context.iscsi_configured.load(Ordering::Relaxed) {
        return Err(RpcError::internal("Must not call more than once"));
    }
    let unread = |e: serde_json::Error| RpcError::invalid().because(e.to_string());
    let mut all = serde_json::to_value(context.iscsi.options()).map_err(unread)?;
    if let Value::Object(all) = &mut all {
        all.extend(changes);
    }
    // Read back as a whole, so that unknown names and wrong types are refused by the struct itself.
    let options: Options = serde_json::from_value(all).map_err(unread)?;
    context.iscsi.set_options(options).map_err(refused)?;
    context.iscsi_configured.store(true, Ordering::Relaxed);
    Ok(true)
}

/// The options in SPDK's order and without what is not set.
pub(crate) fn options(options: &Options) -> Map<String, Value> {
    const ORDER: [&str; 22] = [
        "auth_file",
        "node_base",
        "max_sessions",
        "max_connections_per_session",
        "max_queue_depth",
        "default_time2wait",
        "default_time2retain",
        "first_burst_length",
        "immediate_data",
        "allow_duplicated_isid",
        "error_recovery_level",
        "nop_timeout",
        "nop_in_interval",
        "disable_chap",
        "require_chap",
        "mutual_chap",
        "chap_group",
        "max_large_datain_per_connection",
        "max_r2t_per_connection",
        "pdu_pool_size",
        "immediate_data_pool_size",
        "data_out_pool_size",
    ];
    let Ok(Value::Object(mut all)) = serde_json::to_value(options) else {
        return Map::new();
    };
    all.retain(|_, value| !value.is_null());
    let mut ordered: Map<String, Value> = ORDER
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), all.remove(*name)?)))
        .collect();
    ordered.extend(all);
    ordered
}

async fn get_options(context: Arc<Context>, _: NoParams) -> RpcResult<Map<String, Value>> {
    Ok(options(&context.iscsi.options()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthParams {
    pub tag: Option<u32>,
    pub name: Option<String>,
    #[serde(default)]
    disable_chap: bool,
    #[serde(default)]
    require_chap: bool,
    #[serde(default)]
    mutual_chap: bool,
    #[serde(default)]
    chap_group: u32,
}

impl AuthParams {
    pub fn auth(&self) -> Auth {
        Auth {
            disable_chap: self.disable_chap,
            require_chap: self.require_chap,
            mutual_chap: self.mutual_chap,
            chap_group: self.chap_group,
        }
    }
}

async fn set_discovery_auth(context: Arc<Context>, params: AuthParams) -> RpcResult<bool> {
    if params.tag.is_some() || params.name.is_some() {
        return Err(RpcError::invalid().because("discovery authentication has neither tag nor name"));
    }
    let wrong = |e: IscsiError| RpcError::invalid_params("Invalid combination of CHAP params").because(e.to_string());
    context.iscsi.set_discovery_auth(params.auth()).map_err(wrong)?;
    Ok(true)
}

// ---- portal groups

/// SPDK's ports are strings; numbers are as clear.
#[derive(Deserialize)]
#[serde(untagged)]
enum Port {
    Number(u16),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortalParams {
    host: String,
    port: Port,
}

impl PortalParams {
    fn portal(self) -> RpcResult<Portal> {
        let port = match self.port {
            Port::Number(port) => port,
            Port::Text(text) => text
                .parse()
                .map_err(|_| RpcError::invalid().because(format!("{text:?} is not a TCP port")))?,
        };
        Ok(Portal { host: self.host, port })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreatePortalGroup {
    tag: u32,
    portals: Vec<PortalParams>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    wait: bool,
}

async fn create_portal_group(context: Arc<Context>, params: CreatePortalGroup) -> RpcResult<bool> {
    let portals: Vec<Portal> = params
        .portals
        .into_iter()
        .map(PortalParams::portal)
        .collect::<RpcResult<_>>()?;
    context
        .iscsi
        .create_portal_group(params.tag, &portals, params.private, params.wait)
        .map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    tag: u32,
}

async fn start_portal_group(context: Arc<Context>, params: Tag) -> RpcResult<bool> {
    context.iscsi.start_portal_group(params.tag).map_err(refused)?;
    Ok(true)
}

async fn delete_portal_group(context: Arc<Context>, params: Tag) -> RpcResult<bool> {
    context.iscsi.delete_portal_group(params.tag).map_err(refused)?;
    Ok(true)
}

/// A portal group as SPDK shows it.
#[derive(Serialize)]
pub(crate) struct PortalGroupShape {
    tag: u32,
    portals: Vec<PortalShape>,
    private: bool,
}

#[derive(Serialize)]
struct PortalShape {
    host: String,
    port: String,
}

impl From<PortalGroup> for PortalGroupShape {
    fn from(group: PortalGroup) -> Self {
        let portals = group
            .portals
            .into_iter()
            .map(|p| PortalShape {
                host: p.host,
                port: p.port.to_string(),
            })
            .collect();
        PortalGroupShape {
            tag: group.tag,
            portals,
            private: group.private,
        }
    }
}

async fn get_portal_groups(context: Arc<Context>, _: NoParams) -> RpcResult<Vec<PortalGroupShape>> {
    Ok(context.iscsi.portal_groups().into_iter().map(Into::into).collect())
}

async fn set_portal_group_auth(context: Arc<Context>, params: AuthParams) -> RpcResult<bool> {
    let (Some(tag), None) = (params.tag, &params.name) else {
        return Err(RpcError::invalid());
    };
    context
        .iscsi
        .set_portal_group_auth(tag, params.auth())
        .map_err(|error| match error {
            IscsiError::NotFound { .. } => RpcError::invalid_params(format!("Could not find portal group {tag}")),
            other => RpcError::invalid_params("Invalid combination of auth params").because(other.to_string()),
        })?;
    Ok(true)
}

// ---- initiator groups

async fn create_initiator_group(context: Arc<Context>, group: InitiatorGroup) -> RpcResult<bool> {
    if group.initiators.is_empty() || group.netmasks.is_empty() {
        return Err(RpcError::invalid().because("an initiator group needs at least one initiator and one netmask"));
    }
    context.iscsi.create_initiator_group(group).map_err(refused)?;
    Ok(true)
}

async fn delete_initiator_group(context: Arc<Context>, params: Tag) -> RpcResult<bool> {
    context.iscsi.delete_initiator_group(params.tag).map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Initiators {
    tag: u32,
    #[serde(default)]
    initiators: Vec<String>,
    #[serde(default)]
    netmasks: Vec<String>,
}

async fn add_initiators(context: Arc<Context>, params: Initiators) -> RpcResult<bool> {
    context
        .iscsi
        .add_initiators(params.tag, &params.initiators, &params.netmasks)
        .map_err(refused)?;
    Ok(true)
}

async fn remove_initiators(context: Arc<Context>, params: Initiators) -> RpcResult<bool> {
    context
        .iscsi
        .remove_initiators(params.tag, &params.initiators, &params.netmasks)
        .map_err(refused)?;
    Ok(true)
}

async fn get_initiator_groups(context: Arc<Context>, _: NoParams) -> RpcResult<Vec<InitiatorGroup>> {
    Ok(context.iscsi.initiator_groups())
}

// ---- what is going on

#[derive(Serialize)]
struct ConnectionShape {
    id: u64,
    cid: u16,
    tsih: u16,
    state: &'static str,
    login_phase: &'static str,
    lcore_id: usize,
    initiator_addr: String,
    initiator_name: String,
    target_addr: String,
    target_node_name: String,
    thread_name: String,
}

async fn get_connections(context: Arc<Context>, _: NoParams) -> RpcResult<Vec<ConnectionShape>> {
    let shape = |c: target::iscsi::ConnectionInfo| ConnectionShape {
        id: c.id,
        cid: c.cid,
        // SPDK writes −1 into 16 bits before there is a session.
        tsih: if c.state == "login" { u16::MAX } else { c.tsih },
        login_phase: if c.state == "login" {
            "security_negotiation_phase"
        } else {
            "full_feature_phase"
        },
        state: c.state,
        lcore_id: c.lcore_id,
        initiator_addr: c.initiator_addr.ip().to_string(),
        initiator_name: c.initiator_name,
        target_addr: c.target_addr.ip().to_string(),
        // The part after the first colon, as SPDK has it.
        target_node_name: c
            .target_node_name
            .split_once(':')
            .map_or(c.target_node_name.clone(), |(_, s)| s.to_owned()),
        thread_name: super::thread::thread_name(c.lcore_id),
    };
    Ok(context.iscsi.connections().into_iter().map(shape).collect())
}

async fn get_stats(context: Arc<Context>, _: NoParams) -> RpcResult<target::iscsi::Stats> {
    Ok(context.iscsi.stats())
}

#[derive(Serialize)]
struct ScsiDevice {
    id: usize,
    device_name: String,
}

async fn scsi_devices(context: Arc<Context>, _: NoParams) -> RpcResult<Vec<ScsiDevice>> {
    let nodes = context.iscsi.target_nodes().into_iter().enumerate();
    Ok(nodes
        .map(|(id, node)| ScsiDevice {
            id,
            device_name: node.name,
        })
        .collect())
}
