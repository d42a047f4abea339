//! What this process is, what it can do, and its end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, Signal};
use crate::error::RpcResult;
use crate::method::{Complaint, NoParams, Process};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const VERSION: Complaint = Complaint::Text("spdk_get_version method requires no parameters");
    vec![
        Line::new("spdk_get_version", Both, Look, VERSION, version),
        Line::new("rpc_get_methods", Both, Look, Complaint::Invalid, get_methods),
        Line::new("spdk_kill_instance", Runtime, Look, Complaint::Invalid, kill).audited(),
    ]
}

#[derive(Serialize)]
struct Version {
    version: String,
    fields: VersionFields,
}

#[derive(Serialize)]
struct VersionFields {
    major: u32,
    minor: u32,
    patch: u32,
    suffix: String,
}

/// Who we are, and, in the numbers clients compare, which SPDK's RPC surface this is.
async fn version(_: Arc<Context>, _: NoParams) -> RpcResult<Version> {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    Ok(Version {
        version: format!("Ashlar v{OWN}, compatible with SPDK v26.05"),
        fields: VersionFields {
            major: 26,
            minor: 5,
            patch: 0,
            suffix: format!("-ashlar-{OWN}"),
        },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetMethods {
    #[serde(default)]
    current: bool,
    #[serde(default)]
    include_aliases: bool,
}

async fn get_methods(context: Arc<Context>, params: GetMethods) -> RpcResult<Vec<&'static str>> {
    let now = params.current.then(|| context.started());
    Ok(context.catalogue().names(now, params.include_aliases))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kill {
    sig_name: Signal,
}

/// Ends the process as the signal would. The answer is sent first, if the signal leaves time for that.
async fn kill(context: Arc<Context>, params: Kill) -> RpcResult<bool> {
    tracing::info!(signal = ?params.sig_name, "asked to end by RPC");
    context.kill(params.sig_name);
    Ok(true)
}
