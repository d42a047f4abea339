//! SPDK's threads are our reactors: one each, with one poller, the loop itself.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::{Line, Lines, Manner::*, Phases::*};
use crate::context::Context;
use crate::error::RpcResult;
use crate::method::{Complaint, NoParams};

/// The lines of the table.
pub(super) fn lines() -> Lines {
    const STATS: Complaint = Complaint::Text("'thread_get_stats' requires no arguments");
    const POLLERS: Complaint = Complaint::Text("'thread_get_pollers' requires no arguments");
    const CHANNELS: Complaint = Complaint::Text("'thread_get_io_channels' requires no arguments");
    vec![
        Line::new("thread_get_stats", Runtime, Look, STATS, get_stats),
        Line::new("thread_get_pollers", Runtime, Look, POLLERS, get_pollers),
        Line::new("thread_get_io_channels", Runtime, Look, CHANNELS, get_io_channels),
    ]
}

/// The name under which a reactor shows up as a thread.
pub(crate) fn thread_name(core: usize) -> String {
    format!("reactor_{core}")
}

/// A CPU mask with one bit, as SPDK prints it.
pub(super) fn cpumask(cpu: usize) -> String {
    // A hexadecimal digit holds four CPUs.
    let digit = ["1", "2", "4", "8"][cpu % 4];
    format!("{digit}{}", "0".repeat(cpu / 4))
}

#[derive(Serialize)]
struct Threads<T> {
    tick_rate: u64,
    threads: Vec<T>,
}

impl<T> Threads<T> {
    fn of(context: &Context, shape: impl Fn(reactor::CoreStats) -> T) -> Self {
        let threads = context.reactors.stats().into_iter().map(shape).collect();
        Threads {
            tick_rate: bdev::iostat::TICK_RATE,
            threads,
        }
    }
}

#[derive(Serialize)]
struct ThreadStats {
    name: String,
    id: u64,
    cpumask: String,
    busy: u64,
    idle: u64,
    active_pollers_count: u64,
    timed_pollers_count: u64,
    paused_pollers_count: u64,
}

async fn get_stats(context: Arc<Context>, _: NoParams) -> RpcResult<Threads<ThreadStats>> {
    Ok(Threads::of(&context, |core| ThreadStats {
        name: thread_name(core.core),
        id: core.core as u64 + 1,
        cpumask: cpumask(core.cpu.unwrap_or(core.core)),
        busy: core.busy_ns,
        idle: core.idle_ns,
        active_pollers_count: 1,
        timed_pollers_count: 0,
        paused_pollers_count: 0,
    }))
}

#[derive(Serialize)]
struct ThreadPollers {
    name: String,
    id: u64,
    active_pollers: [Poller; 1],
    timed_pollers: [Value; 0],
    paused_pollers: [Value; 0],
}

#[derive(Serialize)]
struct Poller {
    name: &'static str,
    id: u64,
    state: &'static str,
    run_count: u64,
    busy_count: u64,
}

async fn get_pollers(context: Arc<Context>, _: NoParams) -> RpcResult<Threads<ThreadPollers>> {
    Ok(Threads::of(&context, |core| ThreadPollers {
        name: thread_name(core.core),
        id: core.core as u64 + 1,
        active_pollers: [Poller {
            name: "turn",
            id: 1,
            state: if core.asleep { "waiting" } else { "running" },
            run_count: core.turns,
            busy_count: core.polls,
        }],
        timed_pollers: [],
        paused_pollers: [],
    }))
}

#[derive(Serialize)]
struct ThreadChannels {
    name: String,
    io_channels: Vec<Channel>,
}

#[derive(Serialize)]
struct Channel {
    name: String,
    r#ref: u64,
}

/// What is open, as the graph counts it: over all cores, so it is shown with the first.
async fn get_io_channels(context: Arc<Context>, _: NoParams) -> RpcResult<Threads<ThreadChannels>> {
    let open: Vec<(String, u64)> = context
        .graph
        .list()
        .into_iter()
        .map(|n| (n.name, n.opens as u64))
        .filter(|(_, opens)| *opens > 0)
        .collect();
    Ok(Threads::of(&context, |core| ThreadChannels {
        name: thread_name(core.core),
        io_channels: if core.core == 0 {
            open.iter()
                .map(|(name, opens)| Channel {
                    name: name.clone(),
                    r#ref: *opens,
                })
                .collect()
        } else {
            Vec::new()
        },
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn cpu_masks_have_one_bit_and_no_limit() {
        assert_eq!(
            [0, 1, 3, 4, 9, 130].map(super::cpumask),
            ["1", "2", "8", "10", "200", &format!("4{}", "0".repeat(32))]
        );
    }
}
