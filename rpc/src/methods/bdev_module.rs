//! Modules: split, passthru, delay, error.
//!
//! As in SPDK they may be asked for before the disk below is there, and come to life with it: saved configurations of SPDK list modules
//! before leaves.

use std::sync::Arc;
use std::time::Duration;

use bdev::module::delay::Latency;
use bdev::module::error::{Effect, Injection, Ops};
use bdev::{IoError, NodeSpec, Table};
use serde::Deserialize;
use uuid::Uuid;

use super::bdev_leaf::{Name, delete, given};
use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, Split, Waiting, graph_error};
use crate::error::{Errno, INVALID_REQUEST, RpcError, RpcResult};
use crate::method::Complaint;
use crate::split;

const ERROR: &str = "Error Injection Disk";

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Decode;
    vec![
        Line::new("bdev_split_create", Runtime, Change, Complaint::Invalid, split_create),
        Line::new("bdev_split_delete", Runtime, Change, Complaint::Invalid, split_delete),
        Line::new("bdev_passthru_create", Runtime, Change, BAD, passthru_create),
        Line::new("bdev_passthru_delete", Runtime, Change, BAD, |c, p: Name| {
            delete(c, p, "passthru")
        }),
        Line::new("bdev_delay_create", Runtime, Change, BAD, delay_create),
        Line::new("bdev_delay_update_latency", Runtime, Change, BAD, update_latency),
        Line::new("bdev_delay_delete", Runtime, Change, BAD, |c, p: Name| {
            delete(c, p, "delay")
        }),
        Line::new("bdev_error_create", Runtime, Change, BAD, error_create),
        Line::new("bdev_error_inject_error", Runtime, Change, BAD, inject_error),
        Line::new("bdev_error_resume_pending", Runtime, Change, BAD, resume_pending),
        Line::new("bdev_error_delete", Runtime, Change, BAD, |c, p: Name| {
            delete(c, p, ERROR)
        }),
    ]
}

// ---- split

async fn split_create(context: Arc<Context>, mut params: Split) -> RpcResult<Vec<String>> {
    let refused = |params: &Split, error: RpcError| {
        let text = format!(
            "Failed to create {} split bdevs from '{}': {}",
            params.split_count, params.base_bdev, error.message
        );
        RpcError {
            code: crate::error::INVALID_PARAMS,
            message: text,
            data: error.data,
        }
    };
    if params.split_count == 0 {
        return Err(refused(&params, RpcError::errno(Errno::Inval)));
    }
    if let Some(info) = context.graph.info(&params.base_bdev) {
        params.base_bdev = info.name;
    }
    let pending = context
        .facts()
        .waiting
        .iter()
        .any(|w| matches!(w, Waiting::Split(s) if s.base_bdev == params.base_bdev));
    if pending || context.facts().splits.contains_key(&params.base_bdev) {
        return Err(refused(&params, RpcError::errno(Errno::Exist)));
    }
    match split::build(&context, &params).await {
        Ok(names) => {
            context.settle().await;
            Ok(names)
        }
        Err(error) if error.code == -(Errno::NoDev as i64) => {
            context.facts().waiting.push(Waiting::Split(params));
            Ok(Vec::new())
        }
        Err(error) => Err(refused(&params, error)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitDelete {
    base_bdev: String,
}

async fn split_delete(context: Arc<Context>, params: SplitDelete) -> RpcResult<bool> {
    let base = context
        .graph
        .info(&params.base_bdev)
        .map_or(params.base_bdev, |info| info.name);
    let waited = {
        let mut facts = context.facts();
        let before = facts.waiting.len();
        facts
            .waiting
            .retain(|w| !matches!(w, Waiting::Split(s) if s.base_bdev == base));
        facts.waiting.len() < before
    };
    if waited {
        return Ok(true);
    }
    if context.facts().splits.remove(&base).is_none() {
        let none = RpcError::errno(Errno::NoEnt);
        return Err(RpcError::invalid_params(none.message).because(format!("{base:?} has not been split")));
    }
    let pieces = context.disk(&base).map(|info| info.above).unwrap_or_default();
    for piece in pieces {
        context.delete(&piece).await?;
    }
    Ok(true)
}

// ---- passthru

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PassthruCreate {
    name: String,
    base_bdev_name: String,
    uuid: Option<Uuid>,
}

async fn passthru_create(context: Arc<Context>, params: PassthruCreate) -> RpcResult<String> {
    let mut spec = NodeSpec::new(
        &params.name,
        Table::Passthru {
            on: params.base_bdev_name,
        },
    );
    spec.uuid = given(params.uuid);
    context.create_or_wait(spec).await?;
    Ok(params.name)
}

// ---- delay

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelayCreate {
    name: String,
    base_bdev_name: String,
    avg_read_latency: u64,
    p99_read_latency: u64,
    avg_write_latency: u64,
    p99_write_latency: u64,
    uuid: Option<Uuid>,
}

async fn delay_create(context: Arc<Context>, params: DelayCreate) -> RpcResult<String> {
    let table = Table::Delay {
        on: params.base_bdev_name,
        avg_read_us: params.avg_read_latency,
        p99_read_us: params.p99_read_latency,
        avg_write_us: params.avg_write_latency,
        p99_write_us: params.p99_write_latency,
    };
    let mut spec = NodeSpec::new(&params.name, table);
    spec.uuid = given(params.uuid);
    context.create_or_wait(spec).await?;
    Ok(params.name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateLatency {
    delay_bdev_name: String,
    latency_type: String,
    latency_us: u64,
}

async fn update_latency(context: Arc<Context>, params: UpdateLatency) -> RpcResult<bool> {
    let which = match params.latency_type.as_str() {
        "avg_read" => Latency::AvgRead,
        "p99_read" => Latency::P99Read,
        "avg_write" => Latency::AvgWrite,
        "p99_write" => Latency::P99Write,
        other => {
            let cause = format!("latency_type {other:?} is none of avg_read, p99_read, avg_write, p99_write");
            return Err(Complaint::Decode.error("bdev_delay_update_latency", &cause));
        }
    };
    let none = |cause: RpcError| RpcError {
        code: crate::error::INVALID_PARAMS,
        message: "The requested bdev does not exist.".into(),
        data: cause.data,
    };
    let info = context.disk(&params.delay_bdev_name).map_err(none)?;
    context
        .graph
        .set_latency(&info.name, which, Duration::from_micros(params.latency_us))
        .map_err(|error| {
            RpcError::new(INVALID_REQUEST, "The requested bdev is not a delay bdev.").because(error.to_string())
        })?;
    Ok(true)
}

// ---- error

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorCreate {
    base_name: String,
    uuid: Option<Uuid>,
}

async fn error_create(context: Arc<Context>, params: ErrorCreate) -> RpcResult<bool> {
    let table = Table::Error {
        on: params.base_name.clone(),
        inject: Vec::new(),
    };
    let mut spec = NodeSpec::new(format!("EE_{}", params.base_name), table);
    spec.uuid = given(params.uuid);
    spec.product = ERROR.into();
    context.create_or_wait(spec).await?;
    Ok(true)
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InjectError {
    name: String,
    io_type: IoType,
    error_type: ErrorType,
    #[serde(default)]
    nvme_sct: u32,
    #[serde(default)]
    nvme_sc: u32,
    #[serde(default = "one")]
    num: u32,
    #[serde(default)]
    queue_depth: u64,
    #[serde(default)]
    corrupt_offset: u64,
    #[serde(default)]
    corrupt_value: u8,
}

#[derive(Copy, Clone, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum IoType {
    Clear,
    Read,
    Write,
    Unmap,
    Flush,
    All,
}

#[derive(Copy, Clone, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum ErrorType {
    Failure,
    Pending,
    CorruptData,
    Nomem,
    NvmeFailure,
}

async fn inject_error(context: Arc<Context>, params: InjectError) -> RpcResult<bool> {
    let status = params.nvme_sct != 0 || params.nvme_sc != 0;
    if (params.error_type == ErrorType::NvmeFailure) != status {
        let text = "nvme_sct or nvme_sc should be specified for NVMe error injection";
        return Err(RpcError::new(-(Errno::Inval as i64), text));
    }
    let info = context.disk(&params.name)?;
    let inval = |cause: &str| RpcError::errno(Errno::Inval).because(cause);
    let failed = |error| graph_error(&error);
    let on = match params.io_type {
        IoType::Clear => {
            context.graph.clear_injections(&info.name).await.map_err(failed)?;
            return Ok(true);
        }
        IoType::Read => Ops::Read,
        IoType::Write => Ops::Write,
        IoType::Unmap => Ops::Unmap,
        IoType::Flush => Ops::Flush,
        IoType::All => Ops::All,
    };
    let effect = match params.error_type {
        ErrorType::Failure => Effect::Fail { error: IoError::Device },
        ErrorType::Nomem => Effect::NoMemory,
        ErrorType::Pending => Effect::Pending,
        ErrorType::CorruptData if params.corrupt_value == 0 => {
            return Err(inval("corrupt_value 0 changes nothing"));
        }
        ErrorType::CorruptData => Effect::Corrupt {
            offset: params.corrupt_offset,
            value: params.corrupt_value,
        },
        // Media and data integrity errors (status code type 2) are what a disk's own errors look like to a host.
        ErrorType::NvmeFailure if params.nvme_sct == 2 => Effect::Fail { error: IoError::Medium },
        ErrorType::NvmeFailure => Effect::Fail { error: IoError::Device },
    };
    if params.num == 0 {
        return Ok(true);
    }
    let mut injection = Injection::new(effect);
    injection.on = on;
    injection.count = Some(params.num.into());
    injection.queue_depth = u32::try_from(params.queue_depth).map_err(|_| inval("queue_depth is too large"))?;
    context.graph.inject(&info.name, injection).await.map_err(failed)?;
    Ok(true)
}

async fn resume_pending(context: Arc<Context>, params: Name) -> RpcResult<bool> {
    let info = context.disk_of(&params.name, ERROR)?;
    context
        .graph
        .release_pending(&info.name)
        .await
        .map_err(|error| graph_error(&error))?;
    Ok(true)
}
