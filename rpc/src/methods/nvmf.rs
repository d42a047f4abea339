//! The NVMe/TCP front end as a whole: target, transport, referrals, statistics.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use target::nvmf::{
    DiscoveryFilter, DupHostPolicy, GroupId, HashId, ListenAddress, NvmfError, Offer, Referral, ReportedOptions,
    TARGET_NAME, TransportOptions,
};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("nvmf_set_config", Startup, Change, BAD, set_config),
        Line::new("ashlar_nvmf_set_dhchap", Runtime, Change, BAD, set_dhchap),
        Line::new("nvmf_set_max_subsystems", Startup, Change, BAD, set_max_subsystems),
        Line::new("nvmf_set_crdt", Startup, Change, BAD, set_crdt),
        Line::new("nvmf_create_target", Runtime, Change, BAD, create_target),
        Line::new("nvmf_delete_target", Runtime, Change, BAD, delete_target),
        Line::new(
            "nvmf_get_targets",
            Runtime,
            Look,
            Complaint::Text("nvmf_get_targets has no parameters."),
            targets,
        ),
        Line::new("nvmf_create_transport", Runtime, Change, BAD, create_transport),
        Line::new("nvmf_get_transports", Runtime, Look, BAD, transports),
        Line::new("nvmf_discovery_add_referral", Runtime, Change, BAD, add_referral),
        Line::new("nvmf_discovery_remove_referral", Runtime, Change, BAD, remove_referral),
        Line::new("nvmf_discovery_get_referrals", Runtime, Look, BAD, referrals),
        Line::new("nvmf_publish_mdns_prr", Runtime, Change, BAD, publish_mdns),
        Line::new("nvmf_stop_mdns_prr", Runtime, Change, BAD, stop_mdns),
        Line::new("nvmf_get_stats", Runtime, Look, BAD, stats),
    ]
}

/// Most refusals are −32602 "Invalid parameters" in SPDK; the words are in `data`.
pub(super) fn refused(error: NvmfError) -> RpcError {
    RpcError::invalid().because(error.to_string())
}

/// There is one target. A name that is not its own is refused, with the text the method has for it.
pub(super) fn check_target(name: &Option<String>, refusal: impl FnOnce() -> RpcError) -> RpcResult<()> {
    match name {
        Some(name) if name != TARGET_NAME => {
            Err(refusal().because(format!("there is no target '{name}', only '{TARGET_NAME}'")))
        }
        _ => Ok(()),
    }
}

/// SPDK's text for a target that is not there, in most methods.
pub(super) fn no_target() -> RpcError {
    RpcError::internal("Unable to find a target.")
}

/// Where a listener is: SPDK's `listen_address`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressParams {
    trtype: String,
    adrfam: Option<String>,
    traddr: String,
    trsvcid: Option<String>,
}

impl AddressParams {
    /// The address, if it is one we can listen on.
    pub(super) fn parse(&self) -> RpcResult<ListenAddress> {
        let bad = |cause: String| RpcError::invalid().because(cause);
        if !self.trtype.eq_ignore_ascii_case("tcp") {
            return Err(bad(format!("trtype {:?} is not supported; TCP is", self.trtype)));
        }
        let port = self
            .trsvcid
            .as_deref()
            .ok_or_else(|| bad("TCP needs a trsvcid, the port".into()))?;
        let address = ListenAddress::parse(self.traddr.trim_matches(['[', ']']), port)
            .ok_or_else(|| bad(format!("{}:{port} is not a numeric address and port", self.traddr)))?;
        match &self.adrfam {
            Some(family) if !family.eq_ignore_ascii_case(address.adrfam()) => {
                Err(bad(format!("{} is not an address of family {family}", self.traddr)))
            }
            _ => Ok(address),
        }
    }
}

/// An address as SPDK shows it. spdk-csi compares the spelling.
pub(crate) fn address(address: &ListenAddress) -> Value {
    json!({"trtype": "TCP", "adrfam": address.adrfam(), "traddr": address.traddr(), "trsvcid": address.trsvcid()})
}

// ---- the target

/// `nvmf_set_config` as it was last given; all of it is shown again, the discovery filter also has an effect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetConfig {
    admin_cmd_passthru: Option<Map<String, Value>>,
    poll_groups_mask: Option<String>,
    discovery_filter: Option<String>,
    discovery_filters: Option<Vec<String>>,
    dhchap_digests: Option<Vec<String>>,
    dhchap_dhgroups: Option<Vec<String>>,
    dup_host_policy: Option<String>,
}

fn filter(words: &[String]) -> RpcResult<DiscoveryFilter> {
    let mut filter = DiscoveryFilter::default();
    for word in words {
        match word.trim() {
            "match_any" => filter = DiscoveryFilter::default(),
            "transport" => filter.transport = true,
            "address" => filter.address = true,
            "svcid" => filter.svcid = true,
            other => {
                return Err(RpcError::invalid().because(format!(
                    "discovery filter {other:?} is none of match_any, transport, address, svcid"
                )));
            }
        }
    }
    Ok(filter)
}

/// Hashes and groups that hosts may authenticate with; what is absent stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dhchap {
    digests: Option<Vec<String>>,
    dhgroups: Option<Vec<String>>,
}

impl Dhchap {
    fn apply(&self, to: &mut Offer) -> RpcResult<()> {
        if let Some(names) = &self.digests {
            to.hashes = chosen("dhchap_digests", names, &HashId::ALL, HashId::name)?;
        }
        if let Some(names) = &self.dhgroups {
            to.groups = chosen("dhchap_dhgroups", names, &GroupId::ALL, GroupId::name)?;
        }
        Ok(())
    }
}

/// The same as two members of `nvmf_set_config`, for a target that runs: the next authentication goes by it.
async fn set_dhchap(context: Arc<Context>, params: Dhchap) -> RpcResult<bool> {
    let mut config = context.nvmf.config();
    params.apply(&mut config.dhchap)?;
    context.nvmf.set_config(config);
    Ok(true)
}

/// Those of `all` that are named; all names must be known, and there must be one.
fn chosen<T: Copy>(what: &str, names: &[String], all: &[T], name_of: fn(T) -> &'static str) -> RpcResult<Vec<T>> {
    let known = || all.iter().map(|item| name_of(*item)).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        all.iter()
            .copied()
            .find(|item| name_of(*item) == name)
            .ok_or_else(|| RpcError::invalid().because(format!("{what}: {name:?} is none of {}", known())))
    };
    match names {
        [] => Err(RpcError::invalid().because(format!("{what}: name at least one of {}", known()))),
        _ => names.iter().map(find).collect(),
    }
}

async fn set_config(context: Arc<Context>, params: SetConfig) -> RpcResult<bool> {
    const PASSTHRU: [&str; 9] = [
        "identify_ctrlr",
        "identify_uuid_list",
        "get_log_page",
        "get_set_features",
        "sanitize",
        "security_send_recv",
        "fw_update",
        "nvme_mi",
        "vendor_specific",
    ];
    let bad = |cause: String| RpcError::invalid().because(cause);
    let words = match (params.discovery_filter, params.discovery_filters) {
        (Some(text), None) => text.split(',').map(str::to_owned).collect(),
        (None, words) => words.unwrap_or_default(),
        (Some(_), Some(_)) => return Err(bad("discovery_filter and discovery_filters exclude each other".into())),
    };
    for (name, value) in params.admin_cmd_passthru.iter().flatten() {
        if !PASSTHRU.contains(&name.as_str()) || !value.is_boolean() {
            return Err(bad(format!(
                "admin_cmd_passthru: unknown member {name:?} or not a boolean"
            )));
        }
        if value == true {
            return Err(bad(format!(
                "{name}: there is no NVMe device below to pass admin commands to"
            )));
        }
    }
    let filter = filter(&words)?;
    let mut config = context.nvmf.config();
    if let Some(name) = params.dup_host_policy.as_deref() {
        let policy = DupHostPolicy::ALL.into_iter().find(|policy| policy.name() == name);
        config.dup_host_policy = policy.ok_or_else(|| {
            let known = DupHostPolicy::ALL.map(DupHostPolicy::name).join(", ");
            bad(format!("dup_host_policy {name:?} is none of {known}"))
        })?;
    }
    config.discovery_filter = filter;
    config.poll_groups_mask = params.poll_groups_mask;
    let choice = Dhchap {
        digests: params.dhchap_digests,
        dhgroups: params.dhchap_dhgroups,
    };
    choice.apply(&mut config.dhchap)?;
    context.nvmf.set_config(config);
    Ok(true)
}

/// The call that brings the target's settings about.
pub(crate) fn saved_config(context: &Context) -> Value {
    let config = context.nvmf.config();
    let words: Vec<&str> = [
        (config.discovery_filter.transport, "transport"),
        (config.discovery_filter.address, "address"),
        (config.discovery_filter.svcid, "svcid"),
    ]
    .into_iter()
    .filter_map(|(on, word)| on.then_some(word))
    .collect();
    let filter = if words.is_empty() {
        "match_any".to_owned()
    } else {
        words.join(",")
    };
    let mut params = Map::from_iter([("discovery_filter".to_owned(), Value::from(filter))]);
    if let Some(mask) = config.poll_groups_mask {
        params.insert("poll_groups_mask".into(), mask.into());
    }
    let (hashes, groups) = (&config.dhchap.hashes, &config.dhchap.groups);
    let names: Vec<&str> = hashes.iter().map(|hash| hash.name()).collect();
    params.insert("dhchap_digests".into(), names.into());
    let names: Vec<&str> = groups.iter().map(|group| group.name()).collect();
    params.insert("dhchap_dhgroups".into(), names.into());
    params.insert("dup_host_policy".into(), config.dup_host_policy.name().into());
    Value::Object(params)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetMaxSubsystems {
    max_subsystems: u32,
}

async fn set_max_subsystems(context: Arc<Context>, params: SetMaxSubsystems) -> RpcResult<bool> {
    context
        .nvmf
        .set_max_subsystems(params.max_subsystems as usize)
        .map_err(|error| match error {
            NvmfError::Once => RpcError::internal(error.to_string()),
            other => refused(other),
        })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetCrdt {
    #[serde(default)]
    crdt1: u16,
    #[serde(default)]
    crdt2: u16,
    #[serde(default)]
    crdt3: u16,
}

async fn set_crdt(context: Arc<Context>, params: SetCrdt) -> RpcResult<bool> {
    context.nvmf.set_crdt([params.crdt1, params.crdt2, params.crdt3]);
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateTarget {
    name: String,
    #[serde(rename = "max_subsystems")]
    _max_subsystems: Option<u32>,
    #[serde(rename = "discovery_filter")]
    _discovery_filter: Option<Value>,
    #[serde(rename = "dup_host_policy")]
    _dup_host_policy: Option<String>,
}

async fn create_target(_: Arc<Context>, params: CreateTarget) -> RpcResult<String> {
    Err(if params.name == TARGET_NAME {
        RpcError::invalid_params("Target already exists.")
    } else {
        RpcError::internal("Unable to create the requested target.")
            .because(format!("there is one target, '{TARGET_NAME}'; a process serves one"))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteTarget {
    name: String,
}

async fn delete_target(_: Arc<Context>, params: DeleteTarget) -> RpcResult<bool> {
    Err(if params.name == TARGET_NAME {
        RpcError::errno(Errno::NotSup).because("the one target there is cannot be deleted; delete its subsystems")
    } else {
        RpcError::invalid_params("The specified target doesn't exist, cannot delete it.")
    })
}

async fn targets(_: Arc<Context>, _: NoParams) -> RpcResult<[&'static str; 1]> {
    Ok([TARGET_NAME])
}

// ---- the transport

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // taken for RDMA's and vfio-user's sake, with their types; nothing here depends on them
struct CreateTransport {
    trtype: String,
    tgt_name: Option<String>,
    max_queue_depth: Option<u32>,
    max_io_qpairs_per_ctrlr: Option<u16>,
    /// Until 19.10 the admin queue was counted.
    max_qpairs_per_ctrlr: Option<u16>,
    in_capsule_data_size: Option<u32>,
    max_io_size: Option<u32>,
    io_unit_size: Option<u32>,
    max_aq_depth: Option<u32>,
    num_shared_buffers: Option<u32>,
    buf_cache_size: Option<u32>,
    iobuf_small_cache_size: Option<u32>,
    iobuf_large_cache_size: Option<u32>,
    zcopy: Option<bool>,
    num_cqe: Option<u32>,
    max_srq_depth: Option<u32>,
    no_srq: Option<bool>,
    c2h_success: Option<bool>,
    dif_insert_or_strip: Option<bool>,
    sock_priority: Option<u32>,
    acceptor_backlog: Option<u32>,
    abort_timeout_sec: Option<u32>,
    no_wr_batching: Option<bool>,
    control_msg_num: Option<u32>,
    disable_mappable_bar0: Option<bool>,
    disable_adaptive_irq: Option<bool>,
    disable_shadow_doorbells: Option<bool>,
    acceptor_poll_rate: Option<u32>,
    ack_timeout: Option<u32>,
    data_wr_pool_size: Option<u32>,
    disable_command_passthru: Option<bool>,
    kas: Option<u16>,
    min_kato: Option<u32>,
    masked_oncs: Option<Vec<String>>,
    masked_fuses: Option<Vec<String>>,
}

/// Optional commands and fused operations that can be masked, by SPDK's names.
const ONCS: [(&str, u16); 5] = [
    ("nvmcmps", 1),
    ("nvmdsmsv", 1 << 2),
    ("nvmwzsv", 1 << 3),
    ("reservs", 1 << 5),
    ("nvmcpys", 1 << 8),
];
const FUSES: [(&str, u16); 1] = [("fcws", 1)];

fn mask(what: &str, names: Option<&[String]>, known: &[(&str, u16)]) -> RpcResult<u16> {
    names.unwrap_or_default().iter().try_fold(0, |mask, name| {
        let found = known.iter().find(|(known, _)| known == name);
        let all = || known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        found
            .map(|(_, bit)| mask | bit)
            .ok_or_else(|| RpcError::invalid().because(format!("{what}: {name:?} is none of {}", all())))
    })
}

impl CreateTransport {
    fn options(&self) -> RpcResult<TransportOptions> {
        let bad = |cause: &str| Err(RpcError::invalid().because(cause));
        if self.dif_insert_or_strip == Some(true) {
            return bad("dif_insert_or_strip: disks here have no protection information");
        }
        let default = TransportOptions::default();
        let reported = ReportedOptions::default();
        let qpairs = match (self.max_io_qpairs_per_ctrlr, self.max_qpairs_per_ctrlr) {
            (Some(io), _) => io,
            (None, Some(0)) => return bad("max_qpairs_per_ctrlr counts the admin queue, so it is at least 1"),
            (None, Some(all)) => all - 1,
            (None, None) => default.max_io_qpairs_per_ctrlr,
        };
        Ok(TransportOptions {
            max_queue_depth: self.max_queue_depth.unwrap_or(default.max_queue_depth),
            max_io_qpairs_per_ctrlr: qpairs,
            in_capsule_data_size: self.in_capsule_data_size.unwrap_or(default.in_capsule_data_size),
            max_io_size: self.max_io_size.unwrap_or(default.max_io_size),
            max_aq_depth: self.max_aq_depth.unwrap_or(default.max_aq_depth),
            c2h_success: self.c2h_success.unwrap_or(default.c2h_success),
            kas: self.kas.unwrap_or(default.kas),
            min_kato: self.min_kato.unwrap_or(default.min_kato),
            masked_oncs: mask("masked_oncs", self.masked_oncs.as_deref(), &ONCS)?,
            masked_fuses: mask("masked_fuses", self.masked_fuses.as_deref(), &FUSES)?,
            abort_timeout_sec: self.abort_timeout_sec.unwrap_or(default.abort_timeout_sec),
            reported: ReportedOptions {
                io_unit_size: self.io_unit_size.unwrap_or(reported.io_unit_size),
                num_shared_buffers: self.num_shared_buffers.unwrap_or(reported.num_shared_buffers),
                buf_cache_size: self.buf_cache_size.unwrap_or(reported.buf_cache_size),
                iobuf_small_cache_size: self.iobuf_small_cache_size.unwrap_or(reported.iobuf_small_cache_size),
                iobuf_large_cache_size: self.iobuf_large_cache_size.unwrap_or(reported.iobuf_large_cache_size),
                sock_priority: self.sock_priority.unwrap_or(reported.sock_priority),
                ack_timeout: self.ack_timeout.unwrap_or(reported.ack_timeout),
                data_wr_pool_size: self.data_wr_pool_size.unwrap_or(reported.data_wr_pool_size),
                zcopy: self.zcopy.unwrap_or(reported.zcopy),
                disable_command_passthru: self
                    .disable_command_passthru
                    .unwrap_or(reported.disable_command_passthru),
                ..reported
            },
            ..default
        })
    }
}

async fn create_transport(context: Arc<Context>, params: CreateTransport) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    let trtype = params.trtype.to_ascii_uppercase();
    let options = params.options()?;
    context
        .nvmf
        .create_transport(&trtype, options)
        .map_err(|error| match &error {
            NvmfError::TransportExists(_) => {
                RpcError::internal(format!("Transport type '{}' already exists", params.trtype))
            }
            NvmfError::UnknownTransport(_)
                if ["RDMA", "FC", "PCIE", "VFIOUSER", "CUSTOM"].contains(&trtype.as_str()) =>
            {
                RpcError::internal(format!("Transport type '{}' create failed", params.trtype))
                    .because(error.to_string())
            }
            NvmfError::UnknownTransport(_) => {
                RpcError::invalid_params(format!("Invalid transport type '{}'", params.trtype))
                    .because(error.to_string())
            }
            _ => RpcError::internal(format!("Transport type '{}' create failed", params.trtype))
                .because(error.to_string()),
        })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetTransports {
    trtype: Option<String>,
    tgt_name: Option<String>,
}

async fn transports(context: Arc<Context>, params: GetTransports) -> RpcResult<Vec<Value>> {
    check_target(&params.tgt_name, no_target)?;
    let wanted = params.trtype.as_ref().is_none_or(|t| t.eq_ignore_ascii_case("tcp"));
    let found: Vec<Value> = context
        .nvmf
        .transport()
        .filter(|_| wanted)
        .iter()
        .map(|o| transport(o, true))
        .collect();
    match params.trtype {
        Some(trtype) if found.is_empty() => {
            Err(RpcError::errno(Errno::NoDev).because(format!("there is no transport '{trtype}'")))
        }
        _ => Ok(found),
    }
}

/// A transport as SPDK shows it; `old` adds the members that 25.09 dropped and older clients read.
pub(crate) fn transport(options: &TransportOptions, old: bool) -> Value {
    let r = &options.reported;
    let mut shape = json!({
        "trtype": "TCP",
        "max_queue_depth": options.max_queue_depth,
        "max_io_qpairs_per_ctrlr": options.max_io_qpairs_per_ctrlr,
        "in_capsule_data_size": options.in_capsule_data_size,
        "max_io_size": options.max_io_size,
        "max_aq_depth": options.max_aq_depth,
        "iobuf_small_cache_size": r.iobuf_small_cache_size,
        "iobuf_large_cache_size": r.iobuf_large_cache_size,
        "dif_insert_or_strip": r.dif_insert_or_strip,
        "zcopy": r.zcopy,
        "c2h_success": options.c2h_success,
        "sock_priority": r.sock_priority,
        "abort_timeout_sec": options.abort_timeout_sec,
        "ack_timeout": r.ack_timeout,
        "data_wr_pool_size": r.data_wr_pool_size,
        "disable_command_passthru": r.disable_command_passthru,
        "kas": options.kas,
        "min_kato": options.min_kato,
    });
    for (name, mask, bits) in [
        ("masked_oncs", options.masked_oncs, &ONCS[..]),
        ("masked_fuses", options.masked_fuses, &FUSES[..]),
    ] {
        if mask != 0 {
            let names = bits.iter().filter(|(_, bit)| mask & bit != 0).map(|(name, _)| *name);
            shape[name] = names.collect();
        }
    }
    if old {
        shape["io_unit_size"] = r.io_unit_size.into();
        shape["num_shared_buffers"] = r.num_shared_buffers.into();
        shape["buf_cache_size"] = r.buf_cache_size.into();
    }
    shape
}

// ---- referrals

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferralParams {
    address: AddressParams,
    tgt_name: Option<String>,
    #[serde(default)]
    secure_channel: bool,
    subnqn: Option<String>,
}

const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

impl ReferralParams {
    fn referral(&self) -> RpcResult<Referral> {
        check_target(&self.tgt_name, no_target)?;
        let subnqn = self.subnqn.clone().unwrap_or_else(|| DISCOVERY_NQN.to_owned());
        if !subnqn.starts_with("nqn.") || subnqn.len() > 223 {
            return Err(RpcError::invalid_params("Invalid subsystem NQN"));
        }
        if self.address.trsvcid.is_none() {
            return Err(RpcError::internal("Service ID is required."));
        }
        Ok(Referral {
            address: self.address.parse()?,
            subnqn,
            secure_channel: self.secure_channel,
        })
    }
}

async fn add_referral(context: Arc<Context>, params: ReferralParams) -> RpcResult<bool> {
    let internal = |e: NvmfError| RpcError::internal("Internal error").because(e.to_string());
    context.nvmf.add_referral(params.referral()?).map_err(internal)?;
    Ok(true)
}

async fn remove_referral(context: Arc<Context>, params: ReferralParams) -> RpcResult<bool> {
    let referral = params.referral()?;
    let internal = |e: NvmfError| RpcError::internal("Unable to remove a referral.").because(e.to_string());
    context
        .nvmf
        .remove_referral(&referral.address, params.subnqn.as_deref())
        .map_err(internal)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyTarget {
    tgt_name: Option<String>,
}

/// A referral as SPDK shows it and as it is created again.
pub(crate) fn referral(referral: &Referral) -> Value {
    json!({"address": address(&referral.address), "secure_channel": referral.secure_channel, "subnqn": referral.subnqn})
}

async fn referrals(context: Arc<Context>, params: OnlyTarget) -> RpcResult<Vec<Value>> {
    // Without a full stop, as SPDK has it.
    check_target(&params.tgt_name, || RpcError::internal("Unable to find a target"))?;
    Ok(context.nvmf.referrals().iter().map(referral).collect())
}

// ---- multicast DNS

async fn publish_mdns(context: Arc<Context>, params: OnlyTarget) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context.nvmf.publish_mdns().map_err(|error| {
        let errno = match error {
            NvmfError::Published => Errno::Exist,
            NvmfError::Publish(_) => Errno::NoMem,
            _ => Errno::Inval,
        };
        RpcError::errno(errno).because(error.to_string())
    })?;
    Ok(true)
}

async fn stop_mdns(context: Arc<Context>, params: OnlyTarget) -> RpcResult<bool> {
    check_target(&params.tgt_name, no_target)?;
    context.nvmf.stop_mdns();
    Ok(true)
}

// ---- statistics

#[derive(Serialize)]
struct Stats {
    tick_rate: u64,
    poll_groups: Vec<PollGroup>,
}

#[derive(Serialize)]
struct PollGroup {
    name: String,
    admin_qpairs: u64,
    io_qpairs: u64,
    current_admin_qpairs: u64,
    current_io_qpairs: u64,
    current_unassociated_qpairs: u64,
    pending_bdev_io: u64,
    completed_nvme_io: u64,
    transports: Vec<Value>,
}

async fn stats(context: Arc<Context>, params: OnlyTarget) -> RpcResult<Stats> {
    check_target(&params.tgt_name, no_target)?;
    let transports: Vec<Value> = context
        .nvmf
        .transport()
        .iter()
        .map(|_| json!({"trtype": "TCP"}))
        .collect();
    let groups = context.nvmf.stats().await.into_iter().map(|s| PollGroup {
        name: format!("nvmf_tgt_poll_group_{:03}", s.core),
        admin_qpairs: s.admin_qpairs,
        io_qpairs: s.io_qpairs,
        current_admin_qpairs: s.current_admin_qpairs,
        current_io_qpairs: s.current_io_qpairs,
        current_unassociated_qpairs: s.current_unassociated_qpairs,
        pending_bdev_io: s.pending_bdev_io,
        completed_nvme_io: s.completed_nvme_io,
        transports: transports.clone(),
    });
    Ok(Stats {
        tick_rate: bdev::iostat::TICK_RATE,
        poll_groups: groups.collect(),
    })
}
