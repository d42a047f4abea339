//! The iSCSI front end: options, portal groups, initiator groups, target nodes, connections.
//!
//! SPDK answers nearly every refusal here with −32602 "Invalid parameters"; the cause is in `data`. The exceptions are kept.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use target::iscsi::{Auth, InitiatorGroup, IscsiError, LunMap, Options, PgIgMap, Portal, PortalGroup, TargetNode};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{Errno, RpcError, RpcResult};
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
        Line::new("iscsi_create_target_node", Runtime, Change, BAD, create_target_node),
        Line::new("iscsi_delete_target_node", Runtime, Change, BAD, delete_target_node),
        Line::new("iscsi_get_target_nodes", Runtime, Look, NONE, get_target_nodes),
        Line::new("iscsi_target_node_set_auth", Runtime, Change, BAD, set_target_node_auth),
        Line::new("iscsi_target_node_add_pg_ig_maps", Runtime, Change, BAD, add_maps),
        Line::new("iscsi_target_node_remove_pg_ig_maps", Runtime, Change, BAD, remove_maps),
        Line::new("iscsi_target_node_add_lun", Runtime, Change, BAD, add_lun),
        Line::new("iscsi_target_node_set_redirect", Runtime, Change, BAD, set_redirect),
        Line::new("iscsi_target_node_request_logout", Runtime, Change, BAD, request_logout),
        Line::new("iscsi_get_connections", Runtime, Look, NONE, get_connections),
        Line::new("iscsi_get_stats", Runtime, Look, NONE, get_stats),
        Line::new("scsi_get_devices", Runtime, Look, NONE, scsi_devices),
    ]
}

/// SPDK's one answer for everything, with ours beside it.
fn refused(error: IscsiError) -> RpcError {
    RpcError::invalid().because(error.to_string())
}

/// An answer that names the thing where SPDK has one.
fn missing(error: IscsiError, what: &str, text: String) -> RpcError {
    match error {
        IscsiError::NotFound { what: kind, .. } if kind == what => RpcError::invalid_params(text),
        other => refused(other),
    }
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
struct AuthParams {
    tag: Option<u32>,
    name: Option<String>,
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
    fn auth(&self) -> Auth {
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

// ---- target nodes

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateTargetNode {
    name: String,
    alias_name: String,
    pg_ig_maps: Vec<PgIgMap>,
    luns: Vec<LunMap>,
    queue_depth: u32,
    #[serde(default)]
    disable_chap: bool,
    #[serde(default)]
    require_chap: bool,
    #[serde(default)]
    mutual_chap: bool,
    #[serde(default)]
    chap_group: u32,
    #[serde(default)]
    header_digest: bool,
    #[serde(default)]
    data_digest: bool,
}

async fn create_target_node(context: Arc<Context>, params: CreateTargetNode) -> RpcResult<bool> {
    let node = TargetNode {
        name: params.name,
        alias_name: params.alias_name,
        pg_ig_maps: params.pg_ig_maps,
        luns: params.luns,
        queue_depth: params.queue_depth,
        auth: Auth {
            disable_chap: params.disable_chap,
            require_chap: params.require_chap,
            mutual_chap: params.mutual_chap,
            chap_group: params.chap_group,
        },
        header_digest: params.header_digest,
        data_digest: params.data_digest,
    };
    for lun in &node.luns {
        context.offer_whole(&lun.bdev_name).await;
    }
    context.iscsi.create_target_node(&node).map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

async fn delete_target_node(context: Arc<Context>, params: Name) -> RpcResult<bool> {
    context
        .iscsi
        .delete_target_node(&params.name)
        .map_err(|error| match error {
            IscsiError::NotFound { .. } => RpcError::errno(Errno::NoEnt).because(error.to_string()),
            other => refused(other),
        })?;
    Ok(true)
}

async fn get_target_nodes(context: Arc<Context>, _: NoParams) -> RpcResult<Vec<TargetNode>> {
    Ok(context.iscsi.target_nodes())
}

async fn set_target_node_auth(context: Arc<Context>, params: AuthParams) -> RpcResult<bool> {
    let (None, Some(name)) = (params.tag, &params.name) else {
        return Err(RpcError::invalid());
    };
    context
        .iscsi
        .set_target_node_auth(name, params.auth())
        .map_err(|error| match error {
            IscsiError::NotFound { .. } => RpcError::invalid_params(format!("Could not find target {name}")),
            other => RpcError::invalid_params("Invalid combination of auth params").because(other.to_string()),
        })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Maps {
    name: String,
    pg_ig_maps: Vec<PgIgMap>,
}

async fn add_maps(context: Arc<Context>, params: Maps) -> RpcResult<bool> {
    context
        .iscsi
        .add_pg_ig_maps(&params.name, &params.pg_ig_maps)
        .map_err(refused)?;
    Ok(true)
}

async fn remove_maps(context: Arc<Context>, params: Maps) -> RpcResult<bool> {
    context
        .iscsi
        .remove_pg_ig_maps(&params.name, &params.pg_ig_maps)
        .map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddLun {
    name: String,
    bdev_name: String,
    /// −1, like no number at all, takes the first that is free.
    lun_id: Option<i32>,
}

async fn add_lun(context: Arc<Context>, params: AddLun) -> RpcResult<bool> {
    let lun = match params.lun_id {
        None | Some(-1) => None,
        Some(id) => Some(u16::try_from(id).map_err(|_| RpcError::invalid().because(format!("there is no LUN {id}")))?),
    };
    context.offer_whole(&params.bdev_name).await;
    context
        .iscsi
        .add_lun(&params.name, &params.bdev_name, lun)
        .map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redirect {
    name: String,
    pg_tag: u32,
    redirect_host: Option<String>,
    redirect_port: Option<String>,
}

async fn set_redirect(context: Arc<Context>, params: Redirect) -> RpcResult<bool> {
    let to = match (&params.redirect_host, &params.redirect_port) {
        (None, None) => None,
        (Some(host), Some(port)) => {
            let address = host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .ok()
                .zip(port.parse::<u16>().ok());
            Some(address.map(|(ip, port)| SocketAddr::new(ip, port)).ok_or_else(|| {
                let text = format!("Failed to redirect target {}, (-22): Invalid argument", params.name);
                RpcError::invalid_params(text).because("the portal must be a numeric address and port")
            })?)
        }
        _ => return Err(RpcError::invalid().because("a redirect needs both host and port, or neither to clear it")),
    };
    context
        .iscsi
        .set_redirect(&params.name, params.pg_tag, to)
        .map_err(|error| match error {
            IscsiError::NotFound {
                what: "portal group", ..
            } => {
                let text = format!("Failed to redirect target {}, (-22): Invalid argument", params.name);
                RpcError::invalid_params(text).because(error.to_string())
            }
            IscsiError::NotFound { .. } => RpcError::invalid_params(format!("Target {} is not found", params.name)),
            other => refused(other),
        })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLogout {
    name: String,
    pg_tag: Option<u32>,
}

async fn request_logout(context: Arc<Context>, params: RequestLogout) -> RpcResult<bool> {
    let text = format!("Target {} is not found", params.name);
    context
        .iscsi
        .request_logout(&params.name, params.pg_tag)
        .map_err(|error| missing(error, "target node", text))?;
    Ok(true)
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
