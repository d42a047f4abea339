//! Keys by name: files that the authentication of hosts reads.
use std::{path::PathBuf, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json};
use target::keyring::KeyError;

use super::{Line, Lines};
use crate::{
    context::Context,
    error::{Errno, RpcError, RpcResult},
    method::{
        Complaint,
        Manner::{Change, Look},
        NoParams,
        Phases::Both,
    },
};

/// SPDK's text for parameters that it cannot decode here: strerror(EINVAL).
const BAD: Complaint = Complaint::Text("Invalid argument");

pub(super) fn lines() -> Lines {
    vec![
        Line::new("keyring_file_add_key", Both, Change, BAD, add),
        Line::new("keyring_file_remove_key", Both, Change, BAD, remove),
        Line::new("keyring_get_keys", Both, Look, BAD, list),
    ]
}

fn refused(error: KeyError) -> RpcError {
    let number = match &error {
        KeyError::Exists(_) => Errno::Exist,
        KeyError::Unknown(_) => Errno::NoEnt,
        KeyError::Open { .. } => Errno::Perm,
        KeyError::Relative(_) | KeyError::NotAKey(_) => Errno::Inval,
        KeyError::Io { error: io, .. } => {
            let text = error.to_string();
            return RpcError::io(io).because(text);
        }
    };
    RpcError::errno(number).because(error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    name: String,
    path: PathBuf,
}

async fn add(context: Arc<Context>, params: Add) -> RpcResult<bool> {
    context
        .nvmf
        .keyring()
        .add(&params.name, &params.path)
        .map_err(refused)?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    name: String,
}

async fn remove(context: Arc<Context>, params: Remove) -> RpcResult<bool> {
    context.nvmf.keyring().remove(&params.name).map_err(refused)?;
    Ok(true)
}

async fn list(context: Arc<Context>, _: NoParams) -> RpcResult<Vec<Value>> {
    let shape = |(name, path): (String, PathBuf)| json!({"name": name, "module": "keyring_file", "removed": false, "probed": false, "refcnt": 1, "path": path});
    Ok(context.nvmf.keyring().list().into_iter().map(shape).collect())
}

/// The calls that bring the keys about: names and files, never what is in them.
pub(crate) fn saved(context: &Context) -> Vec<(&'static str, Value)> {
    let keys = context.nvmf.keyring().list().into_iter();
    keys.map(|(name, path)| ("keyring_file_add_key", json!({"name": name, "path": path})))
        .collect()
}
