//! Options that are kept and reported; see [`crate::kept`].

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::RpcResult;
use crate::kept::OPTIONS;
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    let mut lines = vec![
        Line::new("sock_impl_get_options", Both, Look, BAD, get_socket_options),
        Line::new("sock_impl_set_options", Startup, Change, BAD, set_socket_options),
        Line::new("sock_set_default_impl", Startup, Change, BAD, set_default_socket),
        Line::new(
            "sock_get_default_impl",
            Both,
            Look,
            Complaint::NoParams,
            get_default_socket,
        ),
        Line::new("iobuf_get_stats", Runtime, Look, Complaint::NoParams, iobuf_stats),
    ];
    for option in &OPTIONS {
        let set = move |context: Arc<Context>, params: Map<String, Value>| async move {
            context
                .kept
                .set(option, params)
                .map_err(|cause| option.complaint.error(option.method, &cause))?;
            Ok(true)
        };
        lines.push(Line::new(option.method, option.phases, Change, option.complaint, set));
    }
    lines
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Implementation {
    impl_name: String,
}

async fn get_socket_options(context: Arc<Context>, params: Implementation) -> RpcResult<Value> {
    context.kept.socket_options(&params.impl_name)
}

#[derive(Deserialize)]
struct SocketOptions {
    impl_name: String,
    #[serde(flatten)]
    options: Map<String, Value>,
}

async fn set_socket_options(context: Arc<Context>, params: SocketOptions) -> RpcResult<bool> {
    context.kept.set_socket_options(&params.impl_name, params.options)?;
    Ok(true)
}

async fn set_default_socket(context: Arc<Context>, params: Implementation) -> RpcResult<bool> {
    context.kept.set_socket(&params.impl_name)?;
    Ok(true)
}

#[derive(serde::Serialize)]
struct DefaultSocket {
    impl_name: String,
}

async fn get_default_socket(context: Arc<Context>, _: NoParams) -> RpcResult<DefaultSocket> {
    Ok(DefaultSocket {
        impl_name: context.kept.socket(),
    })
}

/// There are no such pools, so nobody uses them.
async fn iobuf_stats(_: Arc<Context>, _: NoParams) -> RpcResult<[Value; 0]> {
    Ok([])
}
