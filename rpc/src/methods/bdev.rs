//! Disks of any kind: looking, waiting, examining, counting.

use std::sync::Arc;
use std::time::Duration;

use bdev::Reset;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, engine_error, graph_error, no_disk};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, NoParams};
use crate::shapes;

/// Disks one `bdev_get_iostat` may name.
const NAMES: usize = 1024;

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Decode;
    const EXAMINE: Complaint = Complaint::Text("spdk_json_decode_object failed");
    vec![
        Line::new("bdev_get_bdevs", Runtime, Wait, BAD, get_bdevs).accepting(|params| {
            // Until 18.x; some clients still send the zero they got from a form.
            if params.get("name").is_some_and(|name| name == "") {
                params.remove("name");
            }
        }),
        Line::new("bdev_examine", Runtime, Change, EXAMINE, examine),
        Line::new(
            "bdev_wait_for_examine",
            Runtime,
            Wait,
            Complaint::NoParams,
            wait_for_examine,
        ),
        Line::new("bdev_get_iostat", Runtime, Look, BAD, get_iostat).accepting(|params| {
            // One name until 25.09: Longhorn, ceph-nvmeof, OPI.
            if let Some(name) = params.remove("name").filter(|name| !name.is_null()) {
                params.entry("names").or_insert(json!([name]));
            }
        }),
        Line::new("bdev_reset_iostat", Runtime, Look, BAD, reset_iostat).audited(),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetBdevs {
    name: Option<String>,
    /// Milliseconds to wait for the disk to appear.
    timeout: Option<u64>,
}

async fn get_bdevs(context: Arc<Context>, params: GetBdevs) -> RpcResult<Vec<Value>> {
    let Some(name) = params.name else {
        let around = shapes::bdev::around(&context, None).await;
        return Ok(context
            .graph
            .list()
            .iter()
            .map(|info| shapes::bdev::shape(&context, info, &around))
            .collect());
    };
    let appeared = async {
        // Subscribed before the first look, so that nothing is missed in between.
        let events = context.graph.events();
        loop {
            match context.graph.info(&name) {
                Some(info) => return Some(info),
                None => events.recv().await?,
            };
        }
    };
    let found = match params.timeout.unwrap_or(0) {
        0 => context.graph.info(&name),
        ms => tokio::time::timeout(Duration::from_millis(ms), appeared)
            .await
            .ok()
            .flatten(),
    };
    let info = found.ok_or_else(|| no_disk(&name))?;
    let around = shapes::bdev::around(&context, Some(&info.name)).await;
    Ok(vec![shapes::bdev::shape(&context, &info, &around)])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

/// A disk that is not there yet is examined when it comes, which it is anyway; so that is no error.
async fn examine(context: Arc<Context>, params: Name) -> RpcResult<bool> {
    if let Some(info) = context.graph.info(&params.name) {
        context.engine.examine(&info.name).await.map_err(engine_error)?;
        context.settle().await;
    }
    let mut facts = context.facts();
    if !facts.examined.contains(&params.name) {
        facts.examined.push(params.name);
    }
    Ok(true)
}

async fn wait_for_examine(context: Arc<Context>, _: NoParams) -> RpcResult<bool> {
    context.engine.wait_for_examine().await.map_err(engine_error)?;
    context.settle().await;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetIostat {
    names: Option<Vec<String>>,
    #[serde(default)]
    per_channel: bool,
    #[serde(default)]
    reset_mode: Reset,
}

async fn get_iostat(context: Arc<Context>, params: GetIostat) -> RpcResult<Value> {
    let names = params.names.as_deref();
    if names.is_some_and(|names| names.len() > NAMES) {
        return Err(RpcError::errno(Errno::Inval).because(format!("more than {NAMES} names")));
    }
    let figures = |cause| graph_error(&cause);
    let mut answer = json!({"tick_rate": bdev::iostat::TICK_RATE, "ticks": context.ticks()});
    if params.per_channel {
        let Some([name]) = names else {
            return Err(RpcError::errno(Errno::Inval).because("per_channel needs exactly one name"));
        };
        let of = context.graph.iostat_per_core(Some(name)).await.map_err(figures)?;
        let (name, cores) = of.into_iter().next().ok_or_else(|| no_disk(name))?;
        let channels = cores.into_iter().enumerate().map(|(core, stat)| {
            let mut members = Map::from_iter([("thread_id".to_owned(), Value::from(core + 1))]);
            members.extend(shapes::iostat::members(stat, None));
            Value::Object(members)
        });
        answer["name"] = name.into();
        answer["channels"] = channels.collect();
    } else {
        let mut all = Vec::new();
        match names {
            None => all = context.graph.iostat(None).await.map_err(figures)?,
            Some(names) => {
                for name in names {
                    all.extend(context.graph.iostat(Some(name)).await.map_err(figures)?);
                }
            }
        }
        let mut entries = Vec::with_capacity(all.len());
        for (name, stat) in all {
            // Only a stats node sees what passes below the top.
            let counts = context
                .graph
                .info(&name)
                .is_some_and(|node| node.table.kind() == "stats");
            let counted = match counts {
                true => context.graph.stats(&name, false).await.ok(),
                false => None,
            };
            let mut members = Map::from_iter([("name".to_owned(), Value::from(name))]);
            members.extend(shapes::iostat::members(stat, counted));
            entries.push(Value::Object(members));
        }
        answer["bdevs"] = entries.into();
    }
    if params.reset_mode != Reset::None {
        match names {
            None => context
                .graph
                .reset_iostat(None, params.reset_mode)
                .await
                .map_err(figures)?,
            Some(names) => {
                for name in names {
                    context
                        .graph
                        .reset_iostat(Some(name), params.reset_mode)
                        .await
                        .map_err(figures)?;
                }
            }
        }
    }
    Ok(answer)
}

fn everything() -> Reset {
    Reset::All
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetIostat {
    name: Option<String>,
    #[serde(default = "everything")]
    mode: Reset,
}

async fn reset_iostat(context: Arc<Context>, params: ResetIostat) -> RpcResult<bool> {
    if params.mode != Reset::None {
        let reset = context.graph.reset_iostat(params.name.as_deref(), params.mode).await;
        reset.map_err(|error| graph_error(&error))?;
    }
    Ok(true)
}
