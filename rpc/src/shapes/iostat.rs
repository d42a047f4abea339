//! What `bdev_get_iostat` shows: cumulative counters, latencies in ticks.

use bdev::{
    Iostat,
    module::stats::{KINDS, Report},
};
use serde_json::{Map, Value, json};

/// The members of one entry, after its name or thread; with what a stats node has `counted` in the middle of a stack.
pub(crate) fn members(stat: Iostat, counted: Option<Report>) -> Map<String, Value> {
    let s = stat.shown();
    let mut members = Map::new();
    let mut put = |name: &str, value: u64| {
        members.insert(name.to_owned(), value.into());
    };
    put("bytes_read", s.bytes_read);
    put("num_read_ops", s.num_read_ops);
    put("bytes_written", s.bytes_written);
    put("num_write_ops", s.num_write_ops);
    put("bytes_unmapped", s.bytes_unmapped);
    put("num_unmap_ops", s.num_unmap_ops);
    put("bytes_copied", 0);
    put("num_copy_ops", 0);
    put("read_latency_ticks", s.read_latency_ticks);
    put("max_read_latency_ticks", s.max_read_latency_ticks);
    put("min_read_latency_ticks", s.min_read_latency_ticks);
    put("write_latency_ticks", s.write_latency_ticks);
    put("max_write_latency_ticks", s.max_write_latency_ticks);
    put("min_write_latency_ticks", s.min_write_latency_ticks);
    put("unmap_latency_ticks", s.unmap_latency_ticks);
    put("max_unmap_latency_ticks", s.max_unmap_latency_ticks);
    put("min_unmap_latency_ticks", s.min_unmap_latency_ticks);
    put("copy_latency_ticks", 0);
    put("max_copy_latency_ticks", 0);
    put("min_copy_latency_ticks", 0);
    if let Some(counted) = counted {
        let kinds = KINDS.into_iter().zip(counted.0);
        let kinds: Map<String, Value> = kinds.map(|(kind, report)| (kind.to_owned(), json!(report))).collect();
        members.insert("driver_specific".into(), json!({ "stats": kinds }));
    }
    let errors: Map<String, Value> = s
        .io_error
        .into_iter()
        .map(|(name, count)| (name, count.into()))
        .collect();
    members.insert("io_error".into(), Value::Object(errors));
    members
}
