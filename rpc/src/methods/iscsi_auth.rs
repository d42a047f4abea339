//! Authentication groups of the iSCSI front end: users and their CHAP secrets.
//!
//! A secret may be given in the call, as in SPDK, or as the absolute path of a file that holds it, which is ours. No answer and no
//! saved call holds a secret: `iscsi_get_auth_groups` has the files' names in their place. What was given in a call is therefore
//! not saved, and after a restart its user is turned away until it is given again.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use target::iscsi::IscsiError;
use target::iscsi::auth::{AuthGroup, Credential, Secret, Source};

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("iscsi_create_auth_group", Runtime, Change, BAD, create_auth_group),
        Line::new("iscsi_delete_auth_group", Runtime, Change, BAD, delete_auth_group),
        Line::new("iscsi_auth_group_add_secret", Runtime, Change, BAD, add_secret),
        Line::new("iscsi_auth_group_remove_secret", Runtime, Change, BAD, remove_secret),
        Line::new(
            "iscsi_get_auth_groups",
            Runtime,
            Look,
            Complaint::NoParams,
            get_auth_groups,
        ),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserParams {
    user: String,
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    muser: Option<String>,
    msecret: Option<Secret>,
    msecret_file: Option<PathBuf>,
}

impl UserParams {
    fn credential(self) -> Result<Credential, IscsiError> {
        let invalid = |what, why: &str| IscsiError::Invalid { what, why: why.into() };
        let source = |what, said: Option<Secret>, file: Option<PathBuf>| match (said, file) {
            (Some(said), None) => Ok(Some(Source::Said(said))),
            (None, Some(file)) if file.is_absolute() => Ok(Some(Source::File(file))),
            (None, Some(_)) => Err(invalid(what, "the path of its file must be absolute")),
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(invalid(what, "is given twice, here and as a file")),
        };
        let secret = source("secret", self.secret, self.secret_file)?
            .ok_or_else(|| invalid("secret", "`secret` or `secret_file` must be given"))?;
        let mutual = match (self.muser, source("msecret", self.msecret, self.msecret_file)?) {
            (Some(name), Some(source)) => Some((name, source)),
            (None, None) => None,
            _ => return Err(invalid("muser", "a name and a secret for the target go together")),
        };
        Credential::read(self.user, secret, mutual)
    }
}

fn text_of(error: &IscsiError) -> String {
    let errno = match error {
        IscsiError::Exists { .. } => Errno::Exist,
        IscsiError::NotFound { .. } => Errno::NoDev,
        IscsiError::TooMany { .. } => Errno::NoMem,
        _ => Errno::Inval,
    };
    RpcError::errno(errno).message
}

fn no_group(tag: u32) -> RpcError {
    RpcError::invalid_params(format!("Could not find auth group ({tag})"))
}

fn not_added(tag: u32, error: &IscsiError) -> RpcError {
    let text = format!("Could not add secret to auth group ({tag}), {}", text_of(error));
    RpcError::invalid_params(text).because(error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateAuthGroup {
    tag: u32,
    #[serde(default)]
    secrets: Vec<UserParams>,
}

async fn create_auth_group(context: Arc<Context>, params: CreateAuthGroup) -> RpcResult<bool> {
    let tag = params.tag;
    let there = context.iscsi.auth_groups().iter().any(|group| group.tag == tag);
    let credentials = params
        .secrets
        .into_iter()
        .map(UserParams::credential)
        .collect::<Result<_, _>>();
    let group = AuthGroup {
        tag,
        // A group that is there already is what is wrong first.
        credentials: if there {
            Vec::new()
        } else {
            credentials.map_err(|e| not_added(tag, &e))?
        },
        of_auth_file: false,
    };
    context.iscsi.create_auth_group(group).map_err(|error| match &error {
        IscsiError::Exists { what: "auth group", .. } | IscsiError::Invalid { what: "tag", .. } => {
            let text = format!("Could not add auth group ({tag}), {}", text_of(&error));
            RpcError::invalid_params(text).because(error.to_string())
        }
        _ => not_added(tag, &error),
    })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    tag: u32,
}

async fn delete_auth_group(context: Arc<Context>, params: Tag) -> RpcResult<bool> {
    context
        .iscsi
        .delete_auth_group(params.tag)
        .map_err(|_| no_group(params.tag))?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddSecret {
    tag: u32,
    user: String,
    secret: Option<Secret>,
    secret_file: Option<PathBuf>,
    muser: Option<String>,
    msecret: Option<Secret>,
    msecret_file: Option<PathBuf>,
}

async fn add_secret(context: Arc<Context>, params: AddSecret) -> RpcResult<bool> {
    let tag = params.tag;
    let user = UserParams {
        user: params.user,
        secret: params.secret,
        secret_file: params.secret_file,
        muser: params.muser,
        msecret: params.msecret,
        msecret_file: params.msecret_file,
    };
    let added = user
        .credential()
        .and_then(|credential| context.iscsi.add_secret(tag, credential));
    added.map_err(|error| match error {
        IscsiError::NotFound { what: "auth group", .. } => no_group(tag),
        other => not_added(tag, &other),
    })?;
    Ok(true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveSecret {
    tag: u32,
    user: String,
}

async fn remove_secret(context: Arc<Context>, params: RemoveSecret) -> RpcResult<bool> {
    let tag = params.tag;
    context
        .iscsi
        .remove_secret(tag, &params.user)
        .map_err(|error| match &error {
            IscsiError::NotFound { what: "auth group", .. } => no_group(tag),
            other => {
                let text = format!("Could not delete secret from CHAP group ({tag}), {}", text_of(other));
                RpcError::invalid_params(text).because(other.to_string())
            }
        })?;
    Ok(true)
}

#[derive(Serialize)]
struct GroupShape {
    tag: u32,
    secrets: Vec<UserShape>,
}

/// A user without what it knows.
#[derive(Serialize)]
struct UserShape {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    muser: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    msecret_file: Option<PathBuf>,
}

impl From<&Credential> for UserShape {
    fn from(credential: &Credential) -> Self {
        UserShape {
            user: credential.user.clone(),
            secret_file: credential.files.0.clone(),
            muser: credential.mutual.as_ref().map(|(name, _)| name.clone()),
            msecret_file: credential.files.1.clone(),
        }
    }
}

async fn get_auth_groups(context: Arc<Context>, _: NoParams) -> RpcResult<Vec<GroupShape>> {
    let shape = |group: AuthGroup| GroupShape {
        tag: group.tag,
        secrets: group.credentials.iter().map(Into::into).collect(),
    };
    Ok(context.iscsi.auth_groups().into_iter().map(shape).collect())
}

/// The calls that bring the groups about again, as far as their secrets are in files.
pub(crate) fn saved(context: &Context) -> Vec<(&'static str, Value)> {
    let groups = context
        .iscsi
        .auth_groups()
        .into_iter()
        .filter(|group| !group.of_auth_file);
    let call = |group: AuthGroup| {
        let (kept, lost): (Vec<_>, Vec<_>) = group.credentials.iter().partition(|one| one.is_in_files());
        for one in lost {
            let (group, user) = (group.tag, &one.user);
            tracing::warn!(group, user, "is not saved, for its CHAP secret is in no file");
        }
        let kept: Vec<UserShape> = kept.into_iter().map(Into::into).collect();
        ("iscsi_create_auth_group", json!({"tag": group.tag, "secrets": kept}))
    };
    groups.map(call).collect()
}
