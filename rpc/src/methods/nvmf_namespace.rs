//! Namespaces of NVMe subsystems, and which hosts see them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use target::nvmf::{NamespaceConfig, NamespaceInfo, NvmfError, SubsystemInfo};
use uuid::Uuid;

use super::nvmf::{check_target, no_target, refused};
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{RpcError, RpcResult};
use crate::method::{Complaint, ignore};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("nvmf_subsystem_add_ns", Runtime, Change, BAD, add_namespace).accepting(|params| {
            if let Some(Value::Object(namespace)) = params.get_mut("namespace") {
                ignore(namespace, &["hide_metadata"]);
            }
        }),
        Line::new("nvmf_subsystem_remove_ns", Runtime, Change, BAD, remove_namespace),
        Line::new("nvmf_subsystem_set_ns_ana_group", Runtime, Change, BAD, set_ana_group),
        Line::new("nvmf_ns_add_host", Runtime, Change, BAD, show_namespace),
        Line::new("nvmf_ns_remove_host", Runtime, Change, BAD, hide_namespace),
        // ceph-nvmeof's fork had one method for both.
        Line::new("nvmf_ns_visible", Runtime, Change, BAD, namespace_visible).alias_of("nvmf_ns_add_host"),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

/// A namespace as SPDK shows it.
pub(super) fn shape(n: &NamespaceInfo, ana: bool) -> Value {
    let mut shape = json!({"nsid": n.nsid, "bdev_name": n.volume, "name": n.volume, "nguid": hex(&n.nguid)});
    if let Some(eui64) = &n.eui64 {
        shape["eui64"] = hex(eui64).into();
    }
    shape["uuid"] = n.uuid.to_string().into();
    if let Some(file) = &n.ptpl_file {
        shape["ptpl_file"] = file.as_str().into();
    }
    if ana {
        shape["anagrpid"] = n.anagrpid.into();
    }
    shape
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddNamespace {
    nqn: String,
    namespace: NamespaceParams,
    tgt_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceParams {
    bdev_name: String,
    nsid: Option<u32>,
    nguid: Option<String>,
    eui64: Option<String>,
    uuid: Option<Uuid>,
    ptpl_file: Option<String>,
    anagrpid: Option<u32>,
    #[serde(default)]
    no_auto_visible: bool,
}

fn unhex<const N: usize>(name: &str, text: &str) -> RpcResult<[u8; N]> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let bytes: Option<Vec<u8>> = digits
        .filter(|d| d.len() == 2 * N)
        .map(|d| d.chunks(2).map(|p| p[0] << 4 | p[1]).collect());
    bytes
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| RpcError::invalid().because(format!("{name} {text:?} is not {} hexadecimal digits", 2 * N)))
}

async fn add_namespace(context: Arc<Context>, params: AddNamespace) -> RpcResult<u32> {
    check_target(&params.tgt_name, no_target)?;
    let ns = params.namespace;
    let config = NamespaceConfig {
        volume: ns.bdev_name,
        // 0 means "the first free one" in SPDK.
        nsid: ns.nsid.filter(|id| *id != 0),
        nguid: ns.nguid.as_deref().map(|text| unhex("nguid", text)).transpose()?,
        eui64: ns.eui64.as_deref().map(|text| unhex("eui64", text)).transpose()?,
        uuid: ns.uuid,
        anagrpid: ns.anagrpid,
        no_auto_visible: ns.no_auto_visible,
        ptpl_file: ns.ptpl_file,
    };
    context.offer_whole(&config.volume).await?;
    context.nvmf.add_namespace(&params.nqn, config).await.map_err(refused)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfNamespace {
    nqn: String,
    nsid: u32,
    tgt_name: Option<String>,
}

async fn remove_namespace(context: Arc<Context>, params: OfNamespace) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context
        .nvmf
        .remove_namespace(&params.nqn, params.nsid)
        .await
        .map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetAnaGroup {
    nqn: String,
    nsid: u32,
    anagrpid: u32,
    tgt_name: Option<String>,
}

async fn set_ana_group(context: Arc<Context>, params: SetAnaGroup) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context
        .nvmf
        .set_namespace_ana_group(&params.nqn, params.nsid, params.anagrpid)
        .map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceHost {
    nqn: String,
    nsid: u32,
    host: String,
    tgt_name: Option<String>,
}

async fn show_namespace(context: Arc<Context>, params: NamespaceHost) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context
        .nvmf
        .add_namespace_host(&params.nqn, params.nsid, &params.host)
        .await
        .or_else(|error| match error {
            // To say it twice does no harm.
            NvmfError::HostExists { .. } => Ok(()),
            other => Err(refused(other)),
        })?;
    Ok(true)
}

async fn hide_namespace(context: Arc<Context>, params: NamespaceHost) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context
        .nvmf
        .remove_namespace_host(&params.nqn, params.nsid, &params.host)
        .await
        .or_else(|error| match error {
            NvmfError::NoHost { .. } => Ok(()),
            other => Err(refused(other)),
        })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceVisible {
    nqn: String,
    nsid: u32,
    host: String,
    visible: bool,
    tgt_name: Option<String>,
}

async fn namespace_visible(context: Arc<Context>, params: NamespaceVisible) -> RpcResult<bool> {
    let NamespaceVisible {
        nqn,
        nsid,
        host,
        visible,
        tgt_name,
    } = params;
    let params = NamespaceHost {
        nqn,
        nsid,
        host,
        tgt_name,
    };
    if visible {
        show_namespace(context, params).await
    } else {
        hide_namespace(context, params).await
    }
}

/// The parameters that make it again.
pub(super) fn saved(n: &NamespaceInfo, s: &SubsystemInfo) -> Map<String, Value> {
    let mut params = Map::from_iter([
        ("nsid".to_owned(), n.nsid.into()),
        ("bdev_name".to_owned(), n.volume.as_str().into()),
        ("nguid".to_owned(), hex(&n.nguid).into()),
        ("uuid".to_owned(), n.uuid.to_string().into()),
    ]);
    if let Some(eui64) = &n.eui64 {
        params.insert("eui64".into(), hex(eui64).into());
    }
    if let Some(file) = &n.ptpl_file {
        params.insert("ptpl_file".into(), file.as_str().into());
    }
    if s.ana_reporting {
        params.insert("anagrpid".into(), n.anagrpid.into());
    }
    params.insert("no_auto_visible".into(), n.no_auto_visible.into());
    params
}
