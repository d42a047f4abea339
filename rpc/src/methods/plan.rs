//! Changes to what is on disks: what can be done, what it would write, doing it, and taking it back.

use std::sync::Arc;

use lvol::change::ChangeError;
use lvol::plan::refusal::Code;
use lvol::stack::{Advice, Rules};
use lvol::{Activated, Applied, Desired, Past, Plan, Refusal, Request, Stamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, engine_error};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const BAD: Complaint = Complaint::Invalid;
    vec![
        Line::new("ashlar_get_verbs", Runtime, Look, Complaint::NoParams, get_verbs),
        Line::new("ashlar_can", Runtime, Look, BAD, can),
        Line::new("ashlar_plan", Runtime, Look, BAD, plan),
        Line::new("ashlar_plan_stack", Both, Look, BAD, plan_stack),
        Line::new("ashlar_change", Runtime, Change, BAD, change),
        Line::new("ashlar_apply_plan", Runtime, Change, BAD, apply),
        Line::new("ashlar_get_plans", Runtime, Look, BAD, get_plans),
        Line::new("ashlar_undo", Runtime, Change, BAD, undo),
        Line::new("ashlar_activate", Runtime, Change, BAD, activate),
        Line::new("ashlar_get_archive", Runtime, Look, BAD, get_archive),
        Line::new("ashlar_get_partition_table", Runtime, Look, BAD, get_partition_table),
    ]
}

/// Every verb with what it is done to and the options it takes.
async fn get_verbs(context: Arc<Context>, _: NoParams) -> RpcResult<Value> {
    context.engine.verbs().await.map_err(failed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CanParams {
    object: String,
    verb: Option<String>,
}

/// Which verbs are possible on an object now, and for those that are not the reason.
async fn can(context: Arc<Context>, params: CanParams) -> RpcResult<Value> {
    let answer = context.engine.can(params.verb.as_deref(), &params.object).await;
    answer.map_err(failed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    verb: String,
    object: String,
    #[serde(default)]
    options: Map<String, Value>,
    /// Fresh identities follow from it; random without.
    seed: Option<Uuid>,
    /// Seconds since 1970, for metadata that says when; now without.
    time: Option<u64>,
    /// The machine, for metadata that says where; this one without.
    host: Option<String>,
}

impl Ask {
    fn split(self) -> (Request, Stamp) {
        let mut stamp = self.seed.map_or_else(Stamp::now, Stamp::seeded);
        stamp.time = self.time.unwrap_or(stamp.time);
        stamp.host = self.host.unwrap_or(stamp.host);
        let request = Request {
            verb: self.verb,
            object: self.object,
            options: self.options,
        };
        (request, stamp)
    }
}

/// What a change would write, to the byte. Reads only.
async fn plan(context: Arc<Context>, params: Ask) -> RpcResult<Plan> {
    let (request, stamp) = params.split();
    context.engine.plan(&request, &stamp).await.map_err(failed)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Stack {
    /// Names of plug-ins, lowest first.
    features: Vec<String>,
}

/// In which order things are best stacked, and which rules this order breaks; without names, all there is.
async fn plan_stack(_: Arc<Context>, params: Stack) -> RpcResult<Advice> {
    let given: Vec<&str> = params.features.iter().map(String::as_str).collect();
    Ok(Rules::default().advice(&given))
}

/// Plans a change and carries it out.
async fn change(context: Arc<Context>, params: Ask) -> RpcResult<Applied> {
    let (request, stamp) = params.split();
    let applied = context.engine.change(&request, &stamp).await;
    // Also if it failed halfway: what was withdrawn for it is there again.
    context.settle().await;
    applied.map_err(failed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    plan: Plan,
}

/// Carries out a plan that `ashlar_plan` made, if it would be the same today.
async fn apply(context: Arc<Context>, params: Whole) -> RpcResult<Applied> {
    let applied = context.engine.apply(&params.plan).await;
    context.settle().await;
    applied.map_err(failed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbered {
    number: Option<u64>,
}

/// Plans that were carried out, oldest first; or one of them, to the byte.
async fn get_plans(context: Arc<Context>, params: Numbered) -> RpcResult<Value> {
    match params.number {
        None => Ok(json!(context.engine.history().await.map_err(engine_error)?)),
        Some(number) => match context.engine.past(number).await.map_err(engine_error)? {
            Some(plan) => Ok(json!(plan)),
            None => Err(RpcError::errno(Errno::NoEnt).because(format!("no plan {number} is kept"))),
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    number: u64,
}

/// Takes back what a plan has changed.
async fn undo(context: Arc<Context>, params: Number) -> RpcResult<Past> {
    let stamp = Stamp::now();
    let undone = context.engine.undo(params.number, &stamp).await;
    context.settle().await;
    undone.map_err(failed)?;
    let kept = context.engine.history().await.map_err(engine_error)?;
    let past = kept.into_iter().find(|past| past.number == params.number);
    past.ok_or_else(|| RpcError::errno(Errno::NoEnt))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Activate {
    /// A volume as `group/volume`, or a group: all its volumes.
    name: String,
    /// `active`, `anyway` (also if it is marked to be left out), `inactive`, `auto` (as its metadata says).
    desired: Desired,
}

/// Lets volumes of groups run, or not, until this process ends.
async fn activate(context: Arc<Context>, params: Activate) -> RpcResult<Activated> {
    let activated = context
        .engine
        .activate(&params.name, params.desired)
        .await
        .map_err(failed)?;
    context.settle().await;
    Ok(activated)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    group: String,
    change: Option<u64>,
}

/// The changes of a group whose texts are kept, oldest first; or the text of one.
async fn get_archive(context: Arc<Context>, params: Archive) -> RpcResult<Value> {
    let Some(change) = params.change else {
        let kept = context.engine.archive(&params.group).await;
        return Ok(json!(kept.map_err(engine_error)?));
    };
    let missing = || {
        let why = format!("no text of {:?} at change {change} is archived", params.group);
        RpcError::errno(Errno::NoEnt).because(why)
    };
    let text = context.engine.archived(&params.group, change).await;
    text.map_err(engine_error)?.map(Value::from).ok_or_else(missing)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfDisk {
    name: String,
}

/// The partition table of a disk, in the shape of `sfdisk --json`.
async fn get_partition_table(context: Arc<Context>, params: OfDisk) -> RpcResult<Value> {
    let table = context.engine.partition_table(&params.name).await.map_err(failed)?;
    Ok(json!({ "partitiontable": table }))
}

/// A refusal: the sentence as the message, the code's word as the data, an error number that is close.
fn refused(why: Refusal) -> RpcError {
    let errno = match why.code {
        Code::NotFound => Errno::NoDev,
        Code::NoSpace => Errno::NoSpc,
        Code::InUse => Errno::Busy,
        Code::Foreign | Code::LeftAlone | Code::ReadOnly | Code::NotBlank => Errno::Perm,
        Code::Unreadable => Errno::Io,
        Code::NoVerb | Code::Unsupported => Errno::NotSup,
        Code::Incomplete | Code::Ambiguous | Code::Damaged => Errno::Again,
        Code::WrongKind | Code::BadOption | Code::BadName | Code::Nothing => Errno::Inval,
    };
    let mut error = RpcError::new(-(errno as i64), why.to_string());
    error.data = serde_json::to_value(why.code).ok();
    error
}

pub(crate) fn failed(why: ChangeError) -> RpcError {
    match why {
        ChangeError::Refused(why) => refused(why),
        ChangeError::Stale => RpcError::new(-(Errno::Again as i64), why.to_string()),
        ChangeError::Engine(why) => engine_error(why),
        ChangeError::Failed(_) | ChangeError::Kept(_) => RpcError::new(-(Errno::Io as i64), why.to_string()),
    }
}
