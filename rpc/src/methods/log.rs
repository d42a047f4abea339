//! The log's levels and flags.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{RpcError, RpcResult};
use crate::log::Level;
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Decode;
    const NONE: Complaint = Complaint::NoParams;
    vec![
        Line::new("log_set_flag", Both, Look, BAD, set_flag).audited(),
        Line::new("log_clear_flag", Both, Look, BAD, clear_flag).audited(),
        Line::new("log_get_flags", Both, Look, NONE, get_flags),
        Line::new("log_set_level", Both, Look, BAD, set_level).audited(),
        Line::new("log_get_level", Both, Look, NONE, get_level),
        Line::new("log_set_print_level", Both, Look, BAD, set_print_level).audited(),
        Line::new("log_get_print_level", Both, Look, NONE, get_print_level),
        Line::new(
            "log_enable_timestamps",
            Both,
            Look,
            Complaint::Text("spdk_json_decode_object failed"),
            enable_timestamps,
        )
        .audited(),
    ]
}

/// Tells the engine, which has a log of its own when it runs in a process of its own.
async fn told(context: &Context) -> RpcResult<bool> {
    let told = context.engine.set_log(&context.logs.directive()).await;
    told.map(|()| true).map_err(super::plan::failed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flag {
    flag: String,
}

async fn flag(context: &Context, name: &str, on: bool) -> RpcResult<bool> {
    let known = || context.logs.flags().iter().map(|f| f.0).collect::<Vec<_>>().join(", ");
    match context.logs.set_flag(name, on) {
        true => told(context).await,
        false => Err(RpcError::invalid_params("invalid log flag").because(format!("there are all, {}", known()))),
    }
}

async fn set_flag(context: Arc<Context>, params: Flag) -> RpcResult<bool> {
    flag(&context, &params.flag, true).await
}

async fn clear_flag(context: Arc<Context>, params: Flag) -> RpcResult<bool> {
    flag(&context, &params.flag, false).await
}

async fn get_flags(context: Arc<Context>, _: NoParams) -> RpcResult<Map<String, Value>> {
    Ok(context
        .logs
        .flags()
        .into_iter()
        .map(|(flag, on)| (flag.to_owned(), on.into()))
        .collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetLevel {
    level: Level,
}

async fn set_level(context: Arc<Context>, params: SetLevel) -> RpcResult<bool> {
    context.logs.set_level(params.level);
    told(&context).await
}

async fn get_level(context: Arc<Context>, _: NoParams) -> RpcResult<Level> {
    Ok(context.logs.level())
}

async fn set_print_level(context: Arc<Context>, params: SetLevel) -> RpcResult<bool> {
    context.logs.set_print_level(params.level);
    told(&context).await
}

async fn get_print_level(context: Arc<Context>, _: NoParams) -> RpcResult<Level> {
    Ok(context.logs.print_level())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timestamps {
    enabled: bool,
}

async fn enable_timestamps(context: Arc<Context>, params: Timestamps) -> RpcResult<bool> {
    context.logs.set_timestamps(params.enabled);
    Ok(true)
}
