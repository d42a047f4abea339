//! What happened to disks, for those who poll.

use std::sync::Arc;

use serde::Deserialize;

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::RpcResult;
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    vec![
        Line::new(
            "notify_get_types",
            Runtime,
            Look,
            Complaint::Text("No parameters required"),
            get_types,
        ),
        Line::new(
            "notify_get_notifications",
            Runtime,
            Look,
            Complaint::Text("Invalid argument"),
            get_notifications,
        ),
    ]
}

async fn get_types(_: Arc<Context>, _: NoParams) -> RpcResult<[&'static str; 5]> {
    Ok(lvol::events::TYPES)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetNotifications {
    #[serde(default)]
    id: u64,
    max: Option<u64>,
}

async fn get_notifications(context: Arc<Context>, params: GetNotifications) -> RpcResult<Vec<lvol::Notification>> {
    let max = params.max.unwrap_or(u64::MAX).try_into().unwrap_or(usize::MAX);
    Ok(context.engine.notifications(params.id, max))
}
