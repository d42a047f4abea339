//! Start-up, subsystems, reactors, the scheduler.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::{Context, engine_error};
use crate::error::{Errno, RpcError, RpcResult};
use crate::method::{Complaint, NoParams};
use crate::saved::{self, SUBSYSTEMS};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const REACTORS: Complaint = Complaint::Text("`framework_get_reactors` requires no arguments");
    const SUBSYSTEMS: Complaint = Complaint::Text("'framework_get_subsystems' requires no arguments");
    const SCHEDULER: Complaint = Complaint::Text("'rpc_get_scheduler' requires no arguments");
    vec![
        Line::new("framework_start_init", Startup, Change, Complaint::NoParams, start_init),
        Line::new("framework_wait_init", Both, Wait, Complaint::NoParams, wait_init),
        Line::new("framework_get_subsystems", Runtime, Look, SUBSYSTEMS, get_subsystems),
        Line::new(
            "framework_get_config",
            Runtime,
            Look,
            Complaint::Text("Invalid arguments"),
            get_config,
        ),
        Line::new("framework_get_reactors", Runtime, Look, REACTORS, get_reactors),
        Line::new(
            "framework_set_scheduler",
            Both,
            Change,
            Complaint::Invalid,
            set_scheduler,
        ),
        Line::new("framework_get_scheduler", Both, Look, SCHEDULER, get_scheduler),
    ]
}

async fn start_init(context: Arc<Context>, _: NoParams) -> RpcResult<bool> {
    context.start();
    Ok(true)
}

async fn wait_init(context: Arc<Context>, _: NoParams) -> RpcResult<bool> {
    context.wait_started().await;
    Ok(true)
}

#[derive(Serialize)]
struct Subsystem {
    subsystem: &'static str,
    depends_on: &'static [&'static str],
}

async fn get_subsystems(_: Arc<Context>, _: NoParams) -> RpcResult<Vec<Subsystem>> {
    Ok(SUBSYSTEMS
        .iter()
        .map(|(subsystem, depends_on)| Subsystem { subsystem, depends_on })
        .collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetConfig {
    name: String,
    #[serde(default)]
    with_batches: bool,
}

async fn get_config(context: Arc<Context>, params: GetConfig) -> RpcResult<Value> {
    let wishes = context.engine.wishes().await.map_err(engine_error)?;
    saved::config(&context, &wishes, &params.name, params.with_batches)
        .ok_or_else(|| RpcError::invalid_params(format!("Subsystem '{}' not found", params.name)))
}

#[derive(Serialize)]
struct Reactors {
    tick_rate: u64,
    pid: u32,
    reactors: Vec<Reactor>,
}

#[derive(Serialize)]
struct Reactor {
    lcore: usize,
    numa_id: i32,
    tid: u64,
    busy: u64,
    idle: u64,
    in_interrupt: bool,
    irq: u64,
    sys: u64,
    usr: u64,
    lw_threads: [LightThread; 1],
}

#[derive(Serialize)]
struct LightThread {
    name: String,
    id: u64,
    cpumask: String,
    elapsed: u64,
}

/// A tick is a nanosecond. What the kernel does on our cores (irq, sys, usr) is not measured and shown as 0.
async fn get_reactors(context: Arc<Context>, _: NoParams) -> RpcResult<Reactors> {
    let reactors = context.reactors.stats().into_iter().map(|core| {
        let lcore = core.cpu.unwrap_or(core.core);
        Reactor {
            lcore,
            numa_id: -1,
            tid: 0,
            busy: core.busy_ns,
            idle: core.idle_ns,
            in_interrupt: core.in_interrupt,
            irq: 0,
            sys: 0,
            usr: 0,
            lw_threads: [LightThread {
                name: super::thread::thread_name(core.core),
                id: core.core as u64 + 1,
                cpumask: super::thread::cpumask(lcore),
                elapsed: core.busy_ns + core.idle_ns,
            }],
        }
    });
    Ok(Reactors {
        tick_rate: bdev::iostat::TICK_RATE,
        pid: std::process::id(),
        reactors: reactors.collect(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetScheduler {
    name: String,
    period: Option<u64>,
    load_limit: Option<u8>,
    core_limit: Option<u8>,
    core_busy: Option<u8>,
    mappings: Option<String>,
}

/// Work stays on the core it was given: the static scheduler is the only one.
async fn set_scheduler(context: Arc<Context>, params: SetScheduler) -> RpcResult<bool> {
    let refused = |cause: &str| RpcError::internal(RpcError::errno(Errno::Inval).message).because(cause.to_owned());
    if params.name != "static" {
        return Err(refused(
            "connections stay on the reactor that accepted them; only the static scheduler exists",
        ));
    }
    let tuned = params.load_limit.is_some() || params.core_limit.is_some() || params.core_busy.is_some();
    if tuned || params.mappings.is_some_and(|m| !m.is_empty()) {
        return Err(refused("the static scheduler has no limits and no mappings"));
    }
    if let Some(period) = params.period {
        context.set_scheduler_period(period);
    }
    Ok(true)
}

#[derive(Serialize)]
struct Scheduler {
    scheduler_name: &'static str,
    scheduler_period: u64,
    isolated_core_mask: Value,
    scheduling_core: Value,
}

async fn get_scheduler(context: Arc<Context>, _: NoParams) -> RpcResult<Scheduler> {
    let mut options = context.kept.get("scheduler_set_options");
    Ok(Scheduler {
        scheduler_name: "static",
        scheduler_period: context.scheduler_period(),
        isolated_core_mask: options["isolated_core_mask"].take(),
        scheduling_core: options["scheduling_core"].take(),
    })
}
