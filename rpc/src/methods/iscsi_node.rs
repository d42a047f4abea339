//! iSCSI target nodes: what hosts log in to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use serde::{Deserialize, Serialize};
use target::iscsi::{AccessState, Alua, Auth, IscsiError, LunMap, LunOptions, PgIgMap, TargetNode};
use target::scsi::latencies;

use super::iscsi::{AuthParams, refused};
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    const NONE: Complaint = Complaint::NoParams;
    vec![
        Line::new("iscsi_create_target_node", Runtime, Change, BAD, create_target_node),
        Line::new("iscsi_delete_target_node", Runtime, Change, BAD, delete_target_node),
        Line::new("iscsi_get_target_nodes", Runtime, Look, NONE, get_target_nodes),
        Line::new("iscsi_target_node_set_auth", Runtime, Change, BAD, set_target_node_auth),
        Line::new("iscsi_target_node_add_pg_ig_maps", Runtime, Change, BAD, add_maps),
        Line::new("iscsi_target_node_remove_pg_ig_maps", Runtime, Change, BAD, remove_maps),
        Line::new("iscsi_target_node_add_lun", Runtime, Change, BAD, add_lun),
        Line::new("iscsi_target_node_set_redirect", Runtime, Change, BAD, set_redirect),
        Line::new("iscsi_target_node_get_alua", Runtime, Look, BAD, get_alua),
        Line::new("iscsi_target_node_set_alua_state", Runtime, Change, BAD, set_alua_state),
        Line::new(
            "iscsi_target_node_set_explicit_alua",
            Runtime,
            Change,
            BAD,
            set_explicit_alua,
        ),
        Line::new("iscsi_target_node_request_logout", Runtime, Change, BAD, request_logout),
        Line::new(
            "iscsi_enable_histogram",
            Runtime,
            Change,
            Complaint::Decode,
            enable_histogram,
        ),
        Line::new("iscsi_get_histogram", Runtime, Look, Complaint::Decode, get_histogram),
    ]
}

/// An answer that names the thing where SPDK has one.
fn missing(error: IscsiError, what: &str, text: String) -> RpcError {
    match error {
        IscsiError::NotFound { what: kind, .. } if kind == what => RpcError::invalid_params(text),
        other => refused(other),
    }
}

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
        context.offer_whole(&lun.bdev_name).await?;
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
    /// Ours: how hosts see it.
    #[serde(flatten)]
    options: LunOptions,
}

async fn add_lun(context: Arc<Context>, params: AddLun) -> RpcResult<bool> {
    let lun = match params.lun_id {
        None | Some(-1) => None,
        Some(id) => Some(u16::try_from(id).map_err(|_| RpcError::invalid().because(format!("there is no LUN {id}")))?),
    };
    context.offer_whole(&params.bdev_name).await?;
    context
        .iscsi
        .add_lun(&params.name, &params.bdev_name, lun, params.options)
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
    /// Not SPDK's: hosts may remember it.
    #[serde(default)]
    permanent: bool,
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
            let permanent = params.permanent;
            let redirect = |(ip, port)| target::iscsi::Redirect {
                to: SocketAddr::new(ip, port),
                permanent,
            };
            Some(address.map(redirect).ok_or_else(|| {
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
                what: "target node", ..
            } => RpcError::invalid_params(format!("Target {} is not found", params.name)),
            other => {
                let text = format!("Failed to redirect target {}, (-22): Invalid argument", params.name);
                RpcError::invalid_params(text).because(other.to_string())
            }
        })?;
    Ok(true)
}

async fn get_alua(context: Arc<Context>, params: Name) -> RpcResult<Alua> {
    context.iscsi.alua(&params.name).map_err(refused)
}

/// Named after `nvmf_subsystem_listener_set_ana_state`; SPDK has none for iSCSI.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetAluaState {
    name: String,
    pg_tag: u32,
    #[serde(with = "target::iscsi::StateName")]
    alua_state: AccessState,
    /// As it was, if nothing is said.
    preferred: Option<bool>,
}

async fn set_alua_state(context: Arc<Context>, params: SetAluaState) -> RpcResult<bool> {
    context
        .iscsi
        .set_alua_state(&params.name, params.pg_tag, params.alua_state, params.preferred)
        .map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    name: String,
    enable: bool,
}

async fn set_explicit_alua(context: Arc<Context>, params: Switch) -> RpcResult<bool> {
    context
        .iscsi
        .set_explicit_alua(&params.name, params.enable)
        .map_err(refused)?;
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

async fn enable_histogram(context: Arc<Context>, params: Switch) -> RpcResult<bool> {
    context
        .iscsi
        .enable_histogram(&params.name, params.enable)
        .map_err(|error| missing(error, "target node", "Invalid parameters".into()))?;
    Ok(true)
}

/// As SPDK tells it: 64-bit counts in the order of this machine, in base64; a tick is a nanosecond.
#[derive(Serialize)]
struct Histogram {
    histogram: String,
    granularity: u32,
    min_range: u32,
    max_range: u32,
    tsc_rate: u64,
}

async fn get_histogram(context: Arc<Context>, params: Name) -> RpcResult<Histogram> {
    let counts = context
        .iscsi
        .histogram(&params.name)
        .map_err(|error| missing(error, "target node", "target not found".into()))?;
    let off = || RpcError::invalid_params("target's histogram function is not enabled");
    let bytes: Vec<u8> = counts.ok_or_else(off)?.into_iter().flat_map(u64::to_ne_bytes).collect();
    Ok(Histogram {
        histogram: base64::engine::general_purpose::STANDARD.encode(bytes),
        granularity: latencies::GRANULARITY,
        min_range: 0,
        max_range: latencies::MAX_RANGE,
        tsc_rate: bdev::iostat::TICK_RATE,
    })
}
