//! `ashlar top`: two looks at the counters, and what happened between them.
use crate::{ask, cli, human};
use rpc::client::{Client, ClientError};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, io::IsTerminal, thread, time::Duration};

/// The part of `bdev_get_iostat` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct Counters {
    tick_rate: u64,
    ticks: u64,
    bdevs: Vec<Device>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Device {
    name: String,
    bytes_read: u64,
    num_read_ops: u64,
    bytes_written: u64,
    num_write_ops: u64,
    num_unmap_ops: u64,
    read_latency_ticks: u64,
    write_latency_ticks: u64,
}

/// The part of `framework_get_reactors` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct Loads {
    reactors: Vec<Load>,
}

#[derive(Clone, Debug, Deserialize)]
struct Load {
    lcore: u32,
    busy: u64,
    idle: u64,
}

struct Look {
    counters: Counters,
    loads: Loads,
}

/// What one device did in one interval. Rates are per second, latencies in seconds.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    read_iops: f64,
    write_iops: f64,
    unmap_iops: f64,
    read_bytes: f64,
    write_bytes: f64,
    read_latency: f64,
    write_latency: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Core {
    core: u32,
    busy: f64,
}

#[derive(Debug, Serialize)]
struct Interval {
    seconds: f64,
    volumes: Vec<Row>,
    reactors: Vec<Core>,
}

/// Runs until interrupted or `count` intervals are printed.
pub fn run(ask: &cli::Ask, top: &cli::Top) -> Result<(), ClientError> {
    let mut client = ask::connect(ask)?;
    let mut before = look(&mut client)?;
    let clear = std::io::stdout().is_terminal() && !ask.json;
    let mut printed = 0;
    while top.count == 0 || printed < top.count {
        thread::sleep(Duration::from_secs_f64(top.interval));
        let after = look(&mut client)?;
        let interval = between(&before, &after);
        if ask.json {
            ask::print_json(&interval);
        } else {
            if clear {
                ask::print_text("\x1b[2J\x1b[H");
            }
            ask::print_text(&text(&interval));
        }
        before = after;
        printed += 1;
    }
    Ok(())
}

fn look(client: &mut Client) -> Result<Look, ClientError> {
    Ok(Look {
        counters: client.call("bdev_get_iostat", ())?,
        loads: client.call("framework_get_reactors", ())?,
    })
}

fn between(before: &Look, after: &Look) -> Interval {
    let rate = after.counters.tick_rate.max(1) as f64;
    let seconds = (after.counters.ticks.saturating_sub(before.counters.ticks) as f64 / rate).max(1e-9);
    let old: HashMap<&str, &Device> = before
        .counters
        .bdevs
        .iter()
        .map(|device| (&*device.name, device))
        .collect();
    let none = Device::default();
    let volumes = after
        .counters
        .bdevs
        .iter()
        .map(|new| {
            let old = old.get(&*new.name).copied().unwrap_or(&none);
            // Counters may have been reset between the looks.
            let grown = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new) as f64;
            let reads = grown(new.num_read_ops, old.num_read_ops);
            let writes = grown(new.num_write_ops, old.num_write_ops);
            let mean = |ticks: f64, ops: f64| if ops > 0.0 { ticks / rate / ops } else { 0.0 };
            Row {
                name: new.name.clone(),
                read_iops: reads / seconds,
                write_iops: writes / seconds,
                unmap_iops: grown(new.num_unmap_ops, old.num_unmap_ops) / seconds,
                read_bytes: grown(new.bytes_read, old.bytes_read) / seconds,
                write_bytes: grown(new.bytes_written, old.bytes_written) / seconds,
                read_latency: mean(grown(new.read_latency_ticks, old.read_latency_ticks), reads),
                write_latency: mean(grown(new.write_latency_ticks, old.write_latency_ticks), writes),
            }
        })
        .collect();
    let reactors = after
        .loads
        .reactors
        .iter()
        .map(|new| {
            let old = before.loads.reactors.iter().find(|old| old.lcore == new.lcore);
            let (busy, idle) = old.map_or((0, 0), |old| (old.busy, old.idle));
            let busy = new.busy.saturating_sub(busy) as f64;
            let idle = new.idle.saturating_sub(idle) as f64;
            Core {
                core: new.lcore,
                busy: if busy + idle > 0.0 { busy / (busy + idle) } else { 0.0 },
            }
        })
        .collect();
    Interval {
        seconds,
        volumes,
        reactors,
    }
}

fn text(interval: &Interval) -> String {
    let loads: Vec<_> = interval
        .reactors
        .iter()
        .map(|core| format!("{}: {}", core.core, human::percent(core.busy)))
        .collect();
    let bandwidth = |bytes: f64| match bytes {
        b if b < 1.0 => "0".to_string(),
        b => format!("{}/s", human::size(b as u64)),
    };
    let rows = interval.volumes.iter().map(|row| {
        vec![
            row.name.clone(),
            human::rate(row.read_iops),
            bandwidth(row.read_bytes),
            human::latency(row.read_latency),
            human::rate(row.write_iops),
            bandwidth(row.write_bytes),
            human::latency(row.write_latency),
            human::rate(row.unmap_iops),
        ]
    });
    let table = human::table(
        &[
            "DEVICE",
            ">READS/s",
            ">READ",
            ">LATENCY",
            ">WRITES/s",
            ">WRITTEN",
            ">LATENCY",
            ">UNMAPS/s",
        ],
        rows,
    );
    format!("reactors busy  {}\n\n{table}", loads.join("  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64, reads: u64, busy: u64) -> Look {
        let device = Device {
            name: "a".into(),
            num_read_ops: reads,
            bytes_read: reads * 4096,
            read_latency_ticks: reads * 100,
            ..Device::default()
        };
        Look {
            counters: Counters {
                tick_rate: 1_000_000,
                ticks,
                bdevs: vec![device],
            },
            loads: Loads {
                reactors: vec![Load {
                    lcore: 0,
                    busy,
                    idle: ticks - busy,
                }],
            },
        }
    }

    #[test]
    fn rates_are_differences_over_the_time_between_the_looks() {
        let interval = between(&at(1_000_000, 500, 0), &at(3_000_000, 2500, 500_000));
        assert_eq!(interval.seconds, 2.0);
        assert_eq!(interval.volumes[0].read_iops, 1000.0);
        assert_eq!(interval.volumes[0].read_bytes, 4_096_000.0);
        assert_eq!(interval.volumes[0].read_latency, 100e-6);
        assert_eq!(interval.reactors, [Core { core: 0, busy: 0.25 }]);
        assert!(text(&interval).contains("3.9 MiB/s"), "{}", text(&interval));
    }

    #[test]
    fn counters_that_were_reset_do_not_show_as_a_flood() {
        let interval = between(&at(1_000_000, 500, 0), &at(2_000_000, 20, 0));
        assert_eq!(interval.volumes[0].read_iops, 20.0);
    }
}
