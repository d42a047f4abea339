//! Backups of the configuration, and what is put back of them on disks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use lvol::backup::DiskCopy;
use lvol::plan::Code;
use lvol::{ChangeError, Plan, Refusal, Request, Stamp};
use serde::{Deserialize, Serialize};

use super::plan::failed;
use super::{Line, Lines, Manner::*, Phases::*};
use crate::backup::{Backup, BackupError, state_of};
use crate::context::{Context, engine_error};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::Complaint;

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("ashlar_backup_config", Runtime, Change, BAD, backup),
        Line::new("ashlar_restore_config", Runtime, Change, BAD, restore),
    ]
}

/// What is wrong with a file: the sentence as the message, a word for programs as the data.
fn refused(why: BackupError) -> RpcError {
    let (errno, word) = match &why {
        BackupError::Io { why: io, .. } => return RpcError::io(io).because(why.to_string()),
        BackupError::Damaged { .. } => (Errno::Inval, Code::Damaged),
        BackupError::Taken { .. } => (Errno::Exist, Code::NotBlank),
    };
    let mut error = RpcError::new(-(errno as i64), why.to_string());
    error.data = serde_json::to_value(word).ok();
    error
}

fn absolute(file: PathBuf) -> RpcResult<PathBuf> {
    match file.is_absolute() {
        true => Ok(file),
        false => Err(RpcError::invalid().because(format!("{}: the path must be absolute", file.display()))),
    }
}

/// Files are read and written where they may take their time.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, BackupError> + Send + 'static) -> RpcResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(refused),
        Err(why) => Err(RpcError::internal("Internal error").because(why.to_string())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Into {
    file: PathBuf,
}

/// What was kept.
#[derive(Serialize)]
struct Made {
    file: PathBuf,
    bytes: u64,
    disks: usize,
    groups: usize,
    state: usize,
    notes: Vec<String>,
}

/// Writes a file with everything that makes this target the one it is.
async fn backup(context: Arc<Context>, params: Into) -> RpcResult<Made> {
    let file = absolute(params.file)?;
    let copies = context.engine.copies().await.map_err(failed)?;
    let config = context.configuration().await?;
    let stamp = Stamp::now();
    let state = context.state().map(PathBuf::from);
    let place = file.clone();
    let (backup, bytes) = aside(move || {
        let backup = Backup {
            made: stamp.time,
            host: stamp.host,
            by: env!("CARGO_PKG_VERSION").into(),
            config,
            state: state.as_deref().map(state_of).transpose()?.unwrap_or_default(),
            copies,
        };
        let bytes = backup.save(&place)?;
        Ok((backup, bytes))
    })
    .await?;
    Ok(Made {
        file,
        bytes,
        disks: backup.copies.disks.len(),
        groups: backup.copies.groups.len(),
        state: backup.state.len(),
        notes: backup.copies.notes,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    file: PathBuf,
    /// Only these.
    disks: Option<BTreeSet<String>>,
    /// Write nothing.
    #[serde(default)]
    dry_run: bool,
    /// Replace what is there.
    #[serde(default)]
    force: bool,
}

/// What becomes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// It is as it was.
    Same,
    /// It would be, or is to be, written.
    Planned,
    /// It will be there when what it lies on has been put back.
    Later,
    /// It was put back.
    Restored,
    /// It is not there.
    Missing,
    /// It may not be written.
    Refused,
}

#[derive(Serialize)]
struct Outcome {
    disk: String,
    fate: Fate,
    /// Why, if there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    /// With `dry_run`: to the byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Box<Plan>>,
    /// Its number, by which it can be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
}

impl Outcome {
    fn new(copy: &DiskCopy, fate: Fate) -> Self {
        Self {
            disk: copy.name.clone(),
            fate,
            reason: None,
            code: None,
            plan: None,
            number: None,
        }
    }

    /// What a refusal means.
    fn of(copy: &DiskCopy, why: Refusal) -> Self {
        let fate = match why.code {
            Code::Nothing => Fate::Same,
            Code::NotFound => Fate::Missing,
            _ => Fate::Refused,
        };
        Self {
            reason: Some(why.to_string()),
            code: (fate != Fate::Same).then_some(why.code),
            ..Self::new(copy, fate)
        }
    }
}

#[derive(Serialize)]
struct Report {
    /// When the backup was made, in seconds since 1970.
    made: u64,
    /// Where.
    host: String,
    /// All disks of the backup are as they were.
    complete: bool,
    disks: Vec<Outcome>,
}

fn request(copy: &DiskCopy, force: bool) -> RpcResult<Request> {
    let text = serde_json::to_string(copy).map_err(|why| RpcError::internal(why.to_string()))?;
    let request = Request::new("disk-restore", &copy.name).with("copy", text);
    Ok(match force {
        true => request.with("force", true),
        false => request,
    })
}

/// True if there is a disk to put it back on.
async fn there(context: &Context, copy: &DiskCopy) -> RpcResult<bool> {
    let disk = context.engine.disk(&copy.name).await.map_err(engine_error)?;
    Ok(disk.is_some_and(|disk| disk.node.is_some()))
}

/// Puts back what a backup has of disks, those below before those that stand on them. If any of those that are there may not be written, nothing is.
async fn restore(context: Arc<Context>, params: From) -> RpcResult<Report> {
    let file = absolute(params.file)?;
    let backup = aside(move || Backup::load(&file)).await?;
    let wanted = |copy: &&DiskCopy| params.disks.as_ref().is_none_or(|only| only.contains(&copy.name));
    let copies: Vec<&DiskCopy> = backup.copies.disks.iter().filter(wanted).collect();
    if let Some(only) = &params.disks
        && let Some(name) = only.iter().find(|name| !copies.iter().any(|copy| copy.name == **name))
    {
        return Err(refused(BackupError::Taken {
            path: name.into(),
            why: "is not in the backup".into(),
        }));
    }
    let mut outcomes = Vec::with_capacity(copies.len());
    let mut coming: BTreeSet<&str> = BTreeSet::new();
    for copy in &copies {
        if !there(&context, copy).await? {
            // A volume of a group lies on all of its members, so one that comes is enough to wait for.
            let later = copy.on.iter().any(|on| coming.contains(on.as_str()));
            let missing = Refusal::new(Code::NotFound, format!("there is no disk {:?}", copy.name));
            outcomes.push(match later {
                true => Outcome::new(copy, Fate::Later),
                false => Outcome::of(copy, missing),
            });
            if later {
                coming.insert(&copy.name);
            }
            continue;
        }
        let outcome = match context.engine.plan(&request(copy, params.force)?, &Stamp::now()).await {
            Ok(plan) => Outcome {
                plan: params.dry_run.then(|| Box::new(plan)),
                ..Outcome::new(copy, Fate::Planned)
            },
            Err(ChangeError::Refused(why)) => Outcome::of(copy, why),
            Err(other) => return Err(failed(other)),
        };
        if outcome.fate == Fate::Planned {
            coming.insert(&copy.name);
        }
        outcomes.push(outcome);
    }
    let refused = outcomes.iter().any(|outcome| outcome.fate == Fate::Refused);
    if !params.dry_run && !refused {
        for (copy, outcome) in copies.iter().zip(&mut outcomes) {
            if !matches!(outcome.fate, Fate::Planned | Fate::Later) {
                continue;
            }
            if !there(&context, copy).await? {
                let missing = Refusal::new(Code::NotFound, format!("there is no disk {:?}", copy.name));
                *outcome = Outcome::of(copy, missing);
                continue;
            }
            *outcome = match context
                .engine
                .change(&request(copy, params.force)?, &Stamp::now())
                .await
            {
                Ok(applied) => Outcome {
                    number: applied.number,
                    ..Outcome::new(copy, Fate::Restored)
                },
                Err(ChangeError::Refused(why)) => Outcome::of(copy, why),
                Err(other) => return Err(failed(other)),
            };
        }
        context.engine.wait_for_examine().await.map_err(engine_error)?;
        context.settle().await;
    }
    Ok(Report {
        made: backup.made,
        host: backup.host,
        complete: outcomes
            .iter()
            .all(|outcome| matches!(outcome.fate, Fate::Same | Fate::Restored)),
        disks: outcomes,
    })
}
