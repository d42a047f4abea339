//! NVMe subsystems: listeners, hosts, and who is connected.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use target::nvmf::{AnaState, AuthReport, HostKeys, ListenAddress, NvmfError, SubsystemConfig, SubsystemInfo};

use super::nvmf::{AddressParams, address, check_target, no_target, refused};
use super::nvmf_namespace;
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, ignore};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("nvmf_create_subsystem", Runtime, Change, BAD, create).accepting(|params| {
            // Gone in 26.09: limits in KiB instead of blocks. Without the block size they cannot be converted; ours are larger.
            ignore(params, &["max_discard_size_kib", "max_write_zeroes_size_kib"]);
        }),
        Line::new("nvmf_delete_subsystem", Runtime, Change, BAD, delete),
        Line::new("nvmf_get_subsystems", Runtime, Look, BAD, get),
        Line::new("nvmf_subsystem_add_listener", Runtime, Change, BAD, add_listener),
        Line::new("nvmf_subsystem_remove_listener", Runtime, Change, BAD, remove_listener),
        Line::new("nvmf_subsystem_get_listeners", Runtime, Look, BAD, listeners),
        Line::new(
            "nvmf_subsystem_listener_set_ana_state",
            Runtime,
            Change,
            BAD,
            set_ana_state,
        ),
        Line::new("nvmf_subsystem_add_host", Runtime, Change, BAD, add_host),
        Line::new("nvmf_subsystem_set_keys", Runtime, Change, BAD, set_keys),
        Line::new("nvmf_subsystem_remove_host", Runtime, Change, BAD, remove_host),
        Line::new("nvmf_subsystem_allow_any_host", Runtime, Change, BAD, allow_any_host),
        Line::new("nvmf_subsystem_get_controllers", Runtime, Look, BAD, controllers),
        Line::new("nvmf_subsystem_get_qpairs", Runtime, Look, BAD, qpairs),
    ]
}

// ---- subsystems

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    nqn: String,
    tgt_name: Option<String>,
    serial_number: Option<String>,
    model_number: Option<String>,
    max_namespaces: Option<u32>,
    #[serde(default)]
    allow_any_host: bool,
    #[serde(default)]
    ana_reporting: bool,
    min_cntlid: Option<u16>,
    max_cntlid: Option<u16>,
    dmrsl: Option<u32>,
    wzsl: Option<u8>,
    #[serde(default)]
    passthrough: bool,
    #[serde(default)]
    enable_nssr: bool,
    /// Ours: other processes serve it, too.
    #[serde(default)]
    shared: bool,
}

async fn create(context: Arc<Context>, params: Create) -> RpcResult<bool> {
    check_target(&params.tgt_name, || {
        RpcError::internal(format!(
            "Unable to find target {}",
            params.tgt_name.as_deref().unwrap_or_default()
        ))
    })?;
    let unable =
        |cause: String| RpcError::internal(format!("Unable to create subsystem {}", params.nqn)).because(cause);
    if params.passthrough {
        return Err(unable("passthrough needs an NVMe device below".into()));
    }
    let mut config = SubsystemConfig::new(&params.nqn);
    config.serial_number = params.serial_number;
    config.model_number = params.model_number;
    // 0 means "the default" in SPDK.
    config.max_namespaces = params
        .max_namespaces
        .filter(|n| *n > 0)
        .unwrap_or(config.max_namespaces);
    config.allow_any_host = params.allow_any_host;
    config.ana_reporting = params.ana_reporting;
    config.enable_nssr = params.enable_nssr;
    config.shared = params.shared;
    config.min_cntlid = params.min_cntlid.unwrap_or(config.min_cntlid);
    config.max_cntlid = params.max_cntlid.unwrap_or(config.max_cntlid);
    config.dmrsl = params.dmrsl.unwrap_or(config.dmrsl);
    config.wzsl = params.wzsl.unwrap_or(config.wzsl);
    let (min, max) = (config.min_cntlid, config.max_cntlid);
    if min == 0 || min > max || max > 0xffef {
        return Err(RpcError::invalid_params(format!("Invalid cntlid range [{min}-{max}]")));
    }
    context.nvmf.create_subsystem(config).map_err(|error| match error {
        NvmfError::Invalid {
            what: "serial_number" | "model_number",
            ..
        } => refused(error),
        other => unable(other.to_string()),
    })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nqn {
    nqn: String,
    tgt_name: Option<String>,
}

impl Nqn {
    /// The NQN of a method that only asks. Their text for another target has no full stop.
    fn check(self) -> RpcResult<String> {
        check_target(&self.tgt_name, || RpcError::internal("Unable to find a target"))?;
        Ok(self.nqn)
    }
}

async fn delete(context: Arc<Context>, params: Nqn) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context.nvmf.delete_subsystem(&params.nqn).await.map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    nqn: Option<String>,
    tgt_name: Option<String>,
}

async fn get(context: Arc<Context>, params: Get) -> RpcResult<Vec<Value>> {
    check_target(&params.tgt_name, no_target)?;
    let wanted = |s: &SubsystemInfo| params.nqn.as_ref().is_none_or(|nqn| *nqn == s.nqn);
    let found: Vec<Value> = context
        .nvmf
        .subsystems()
        .iter()
        .filter(|s| wanted(s))
        .map(subsystem)
        .collect();
    match params.nqn {
        Some(nqn) if found.is_empty() => {
            Err(RpcError::errno(Errno::NoDev).because(NvmfError::NoSubsystem(nqn).to_string()))
        }
        _ => Ok(found),
    }
}

/// A subsystem as SPDK shows it. The discovery subsystem has only the first five members.
fn subsystem(s: &SubsystemInfo) -> Value {
    let mut shape = json!({
        "nqn": s.nqn,
        "subtype": if s.discovery { "Discovery" } else { "NVMe" },
        "listen_addresses": s.listen_addresses.iter().map(address).collect::<Vec<_>>(),
        "allow_any_host": s.allow_any_host,
        "hosts": s.hosts.iter().map(|(nqn, keys)| with_keys(json!({"nqn": nqn}), keys)).collect::<Vec<_>>(),
    });
    if let (false, Some(members)) = (s.discovery, shape.as_object_mut()) {
        let more = json!({
            "serial_number": s.serial_number,
            "model_number": s.model_number,
            "max_namespaces": s.max_namespaces,
            "passthrough": false,
            "min_cntlid": s.min_cntlid,
            "max_cntlid": s.max_cntlid,
            "dmrsl": s.dmrsl,
            "wzsl": s.wzsl,
            "namespaces": s.namespaces.iter().map(|n| nvmf_namespace::shape(n, s.ana_reporting)).collect::<Vec<_>>(),
        });
        members.extend(more.as_object().cloned().unwrap_or_default());
    }
    shape
}

// ---- listeners

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddListener {
    nqn: String,
    tgt_name: Option<String>,
    listen_address: AddressParams,
    #[serde(default)]
    secure_channel: bool,
    ana_state: Option<String>,
    #[serde(rename = "sock_impl")]
    _sock_impl: Option<String>,
    #[serde(rename = "numa_id")]
    _numa_id: Option<i32>,
}

fn ana_state(name: &str) -> RpcResult<AnaState> {
    AnaState::parse(name).ok_or_else(|| {
        RpcError::invalid().because(format!(
            "ana_state {name:?} is none of {}",
            AnaState::ALL.map(AnaState::name).join(", ")
        ))
    })
}

/// SPDK's text for TLS where anybody may come.
fn insecure(error: NvmfError) -> RpcError {
    match error {
        NvmfError::SecureForAny => RpcError::internal(error.to_string()),
        NvmfError::Tls(why) => RpcError::internal("Internal error").because(format!("secure_channel: {why}")),
        other => refused(other),
    }
}

async fn add_listener(context: Arc<Context>, params: AddListener) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    let state = params
        .ana_state
        .as_deref()
        .map(ana_state)
        .transpose()?
        .unwrap_or_default();
    let address = params.listen_address.parse()?;
    let added = match params.secure_channel {
        true => context.nvmf.add_secure_listener(&params.nqn, address, state).await,
        false => context.nvmf.add_listener(&params.nqn, address, state).await,
    };
    added.map_err(insecure)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveListener {
    nqn: String,
    tgt_name: Option<String>,
    listen_address: AddressParams,
}

async fn remove_listener(context: Arc<Context>, params: RemoveListener) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context
        .nvmf
        .remove_listener(&params.nqn, &params.listen_address.parse()?)
        .await
        .map_err(refused)?;
    Ok(true)
}

/// An unknown NQN answers "Invalid parameters": by this text spdk-csi knows that there is nothing there yet.
async fn listeners(context: Arc<Context>, params: Nqn) -> RpcResult<Vec<Value>> {
    let nqn = params.check()?;
    let all = context.nvmf.listeners(&nqn).map_err(refused)?;
    let reporting = context
        .nvmf
        .subsystems()
        .iter()
        .any(|s| s.nqn == nqn && s.ana_reporting);
    let ana = |(group, state): &(u32, AnaState)| json!({"ana_group": group, "ana_state": state.name()});
    let shape = |l: &target::nvmf::ListenerInfo| {
        let mut shape = json!({"address": address(&l.address)});
        if reporting {
            shape["ana_states"] = l.ana_states.iter().map(ana).collect();
        }
        if l.secure {
            shape["secure_channel"] = true.into();
        }
        shape
    };
    Ok(all.iter().map(shape).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetAnaState {
    nqn: String,
    tgt_name: Option<String>,
    listen_address: AddressParams,
    ana_state: String,
    anagrpid: Option<u32>,
}

async fn set_ana_state(context: Arc<Context>, params: SetAnaState) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    let state = ana_state(&params.ana_state)?;
    let address = params.listen_address.parse()?;
    context
        .nvmf
        .set_listener_ana_state(&params.nqn, &address, params.anagrpid, state)
        .map_err(|error| match error {
            NvmfError::NoSubsystem(_) => {
                RpcError::invalid_params(format!("Unable to find subsystem with NQN {}", params.nqn))
            }
            other => RpcError::internal("error setting ANA state: -22").because(other.to_string()),
        })?;
    Ok(true)
}

// ---- hosts

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddHost {
    nqn: String,
    host: String,
    tgt_name: Option<String>,
    psk: Option<String>,
    dhchap_key: Option<String>,
    dhchap_ctrlr_key: Option<String>,
}

async fn add_host(context: Arc<Context>, params: AddHost) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    let keys = HostKeys {
        psk: params.psk,
        dhchap_key: params.dhchap_key,
        dhchap_ctrlr_key: params.dhchap_ctrlr_key,
    };
    context
        .nvmf
        .add_host(&params.nqn, &params.host, keys)
        .map_err(|error| match error {
            NvmfError::NoSubsystem(_) | NvmfError::Invalid { what: "key", .. } => refused(error),
            other => RpcError::internal("Internal error").because(other.to_string()),
        })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetKeys {
    nqn: String,
    host: String,
    tgt_name: Option<String>,
    psk: Option<String>,
    dhchap_key: Option<String>,
    dhchap_ctrlr_key: Option<String>,
}

async fn set_keys(context: Arc<Context>, params: SetKeys) -> RpcResult<bool> {
    check_target(&params.tgt_name, || RpcError::internal("Invalid parameters"))?;
    // Keys of authentication that are not named are gone, as with SPDK; its call does not know of TLS, so that key stays.
    let keys = HostKeys {
        psk: params.psk,
        dhchap_key: params.dhchap_key,
        dhchap_ctrlr_key: params.dhchap_ctrlr_key,
    };
    context
        .nvmf
        .set_keys(&params.nqn, &params.host, keys)
        .map_err(|error| match error {
            NvmfError::NoSubsystem(_) | NvmfError::Invalid { what: "key", .. } => refused(error),
            other => RpcError::errno(Errno::Inval).because(other.to_string()),
        })?;
    Ok(true)
}

/// A host as `nvmf_get_subsystems` tells it and `nvmf_subsystem_add_host` takes it: key names, where there are keys.
fn with_keys(mut shape: Value, keys: &HostKeys) -> Value {
    for (name, key) in [
        ("psk", &keys.psk),
        ("dhchap_key", &keys.dhchap_key),
        ("dhchap_ctrlr_key", &keys.dhchap_ctrlr_key),
    ] {
        if let Some(key) = key {
            shape[name] = key.as_str().into();
        }
    }
    shape
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveHost {
    nqn: String,
    host: String,
    tgt_name: Option<String>,
    #[serde(rename = "timeout_ms")]
    _timeout_ms: Option<u32>,
}

async fn remove_host(context: Arc<Context>, params: RemoveHost) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context
        .nvmf
        .remove_host(&params.nqn, &params.host)
        .await
        .map_err(|error| match error {
            NvmfError::NoHost { .. } => RpcError::internal("Internal error").because(error.to_string()),
            other => refused(other),
        })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowAnyHost {
    nqn: String,
    allow_any_host: bool,
    tgt_name: Option<String>,
}

async fn allow_any_host(context: Arc<Context>, params: AllowAnyHost) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context
        .nvmf
        .allow_any_host(&params.nqn, params.allow_any_host)
        .map_err(insecure)?;
    Ok(true)
}

// ---- who is connected

#[derive(Serialize)]
struct Controller {
    cntlid: u16,
    cntrltype: &'static str,
    hostnqn: String,
    hostid: String,
    num_io_qpairs: usize,
}

async fn controllers(context: Arc<Context>, params: Nqn) -> RpcResult<Vec<Controller>> {
    let all = context.nvmf.controllers(&params.check()?).map_err(refused)?;
    let shape = |c: target::nvmf::ControllerInfo| Controller {
        cntlid: c.cntlid,
        cntrltype: c.cntrltype,
        hostnqn: c.hostnqn,
        hostid: c.hostid.to_string(),
        num_io_qpairs: c.num_io_qpairs,
    };
    Ok(all.into_iter().map(shape).collect())
}

/// How far a queue's authentication has come, as SPDK shows it.
pub(super) fn auth(report: &AuthReport) -> Value {
    let names = report.chosen.map(|(hash, group)| (hash.name(), group.name()));
    let (digest, group) = names.unwrap_or(("unknown", "unknown"));
    json!({"state": report.state, "digest": digest, "dhgroup": group})
}

async fn qpairs(context: Arc<Context>, params: Nqn) -> RpcResult<Vec<Value>> {
    let all = context.nvmf.qpairs(&params.check()?).map_err(refused)?;
    let at = |socket| address(&target::nvmf::ListenAddress { socket });
    let shape = |q: &target::nvmf::QpairInfo| {
        let mut shape = json!({
            "cntlid": q.cntlid,
            "qid": q.qid,
            "state": q.state,
            "thread": super::thread::thread_name(q.core),
            "hostnqn": q.hostnqn,
            "listen_address": at(q.listen_address),
            "peer_address": at(q.peer_address),
        });
        if let Some(report) = &q.auth {
            shape["auth"] = auth(report);
        }
        if let Some((cipher, psk)) = q.tls.zip(q.psk) {
            shape["tls"] = json!({"cipher": cipher, "psk": psk});
        }
        shape
    };
    Ok(all.iter().map(shape).collect())
}

// ---- saving

/// The calls that bring the subsystems about, in SPDK's groups: each group may be sent as one batch.
pub(crate) fn saved(context: &Context) -> [Vec<(&'static str, Value)>; 5] {
    let [mut subsystems, mut hosts, mut namespaces, mut shown, mut listeners] = [const { Vec::new() }; 5];
    let all = context.nvmf.subsystems();
    for s in &all {
        // Discovery answers wherever a subsystem listens; only what it has for itself must be said.
        let implied =
            |at: &ListenAddress| s.discovery && all.iter().any(|o| !o.discovery && o.listen_addresses.contains(at));
        for listener in context.nvmf.listeners(&s.nqn).unwrap_or_default() {
            if implied(&listener.address) {
                continue;
            }
            let mut params =
                json!({"nqn": s.nqn, "listen_address": address(&listener.address), "secure_channel": listener.secure});
            // One state for all groups can be said here; different ones need calls of their own.
            let first = listener.ana_states.first().map(|(_, state)| *state).unwrap_or_default();
            let alike = listener.ana_states.iter().all(|(_, state)| *state == first);
            if alike && first != AnaState::Optimized {
                params["ana_state"] = first.name().into();
            }
            listeners.push(("nvmf_subsystem_add_listener", params));
            for (group, state) in listener
                .ana_states
                .iter()
                .filter(|(_, s)| !alike && *s != AnaState::Optimized)
            {
                let params = json!({"nqn": s.nqn, "listen_address": address(&listener.address),
                                    "ana_state": state.name(), "anagrpid": group});
                listeners.push(("nvmf_subsystem_listener_set_ana_state", params));
            }
        }
        if s.discovery {
            continue;
        }
        let mut params = json!({
            "nqn": s.nqn, "allow_any_host": s.allow_any_host, "serial_number": s.serial_number,
            "model_number": s.model_number, "max_namespaces": s.max_namespaces, "min_cntlid": s.min_cntlid,
            "max_cntlid": s.max_cntlid, "ana_reporting": s.ana_reporting, "dmrsl": s.dmrsl, "wzsl": s.wzsl,
            "passthrough": false, "enable_nssr": s.enable_nssr,
        });
        if s.shared {
            // Only then: SPDK does not know it.
            params["shared"] = true.into();
        }
        subsystems.push(("nvmf_create_subsystem", params));
        hosts.extend(s.hosts.iter().map(|(host, keys)| {
            (
                "nvmf_subsystem_add_host",
                with_keys(json!({"nqn": s.nqn, "host": host}), keys),
            )
        }));
        for n in &s.namespaces {
            namespaces.push((
                "nvmf_subsystem_add_ns",
                json!({"nqn": s.nqn, "namespace": nvmf_namespace::saved(n, s)}),
            ));
            shown.extend(
                n.hosts
                    .iter()
                    .map(|host| ("nvmf_ns_add_host", json!({"nqn": s.nqn, "nsid": n.nsid, "host": host}))),
            );
        }
    }
    [subsystems, hosts, namespaces, shown, listeners]
}
