//! The block device object: what `bdev_get_bdevs` shows of a node.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bdev::{Geometry, NodeInfo, NodeState, Table};
use lvol::{Found, Partition};
use serde_json::{Value, json};

use crate::context::Context;
use crate::raid;

/// How long a list of block devices waits for what the engine has to say of them. It is whole without, but for `driver_specific`.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of block devices besides what the graph knows.
pub(crate) struct Around {
    /// The volumes that hosts can see: SPDK's NVMe front end claims its namespaces, and clients look at `claimed`.
    exported: HashSet<String>,
    /// What discovery knows of those it has made.
    found: BTreeMap<String, Found>,
}

/// … of one, or of all.
pub(crate) async fn around(context: &Context, only: Option<&str>) -> Around {
    let subsystems = context.nvmf.subsystems().into_iter();
    let found = tokio::time::timeout(PATIENCE, context.engine.found(only)).await;
    Around {
        exported: subsystems.flat_map(|s| s.namespaces).map(|n| n.volume).collect(),
        found: found.ok().and_then(Result::ok).unwrap_or_default(),
    }
}

/// One object.
pub(crate) fn shape(context: &Context, info: &NodeInfo, around: &Around) -> Value {
    let g = &info.geometry;
    let physical = (g.physical_block_size / g.block_size).max(1);
    let claimed = info.claimed_by.is_some() || !info.above.is_empty() || around.exported.contains(&info.name);
    let mut shape = json!({
        "name": info.name,
        "aliases": info.aliases,
        "product_name": info.product,
        "block_size": g.block_size,
        "num_blocks": g.blocks,
        "preferred_write_alignment": physical,
        "preferred_write_granularity": physical,
        "optimal_write_size": g.optimal_io.max(physical),
        "preferred_unmap_alignment": g.unmap_granularity.max(1),
        "preferred_unmap_granularity": g.unmap_granularity.max(1),
        "uuid": info.uuid.to_string(),
        "assigned_rate_limits": {"rw_ios_per_sec": 0, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 0},
        "claimed": claimed,
    });
    if claimed {
        shape["claim_type"] = "exclusive_write".into();
    }
    shape["zoned"] = false.into();
    shape["supported_io_types"] = io_types(g);
    shape["driver_specific"] = driver_specific(context, info, around.found.get(&info.name));
    shape
}

/// What can be asked of the disk. Write zeroes works everywhere, by writing zeros if need be; hosts' compares are done above the disk.
fn io_types(g: &Geometry) -> Value {
    let writes = !g.read_only;
    json!({
        "read": true,
        "write": writes,
        "unmap": writes && g.unmap,
        "flush": true,
        "reset": true,
        "nvme_admin": false,
        "nvme_io": false,
        "nvme_io_md": false,
        "write_zeroes": writes,
        "zcopy": false,
        "get_zone_info": false,
        "zone_management": false,
        "zone_append": false,
        "compare": false,
        "compare_and_write": false,
        "abort": false,
        "seek_hole": false,
        "seek_data": false,
        "copy": false,
        "nvme_iov_md": false,
        "nvme_nssr": false,
        "write_uncorrectable": false,
    })
}

fn driver_specific(context: &Context, info: &NodeInfo, found: Option<&Found>) -> Value {
    match found {
        Some(Found::Partition(partition)) => return self::partition(partition),
        // SPDK does not read these.
        Some(Found::Volume(volume)) => return json!({"lvm2": volume}),
        None => {}
    }
    let mut shape = match &info.table {
        Table::File { path, .. } if info.product == URING => json!({"uring": {"filename": path}}),
        Table::File {
            path,
            block_size,
            read_only,
            ..
        } => json!({"aio": {
            "filename": path,
            "block_size_override": block_size.is_some(),
            "readonly": read_only,
            "fallocate": context.facts().aio.get(&info.name).map_or(info.geometry.unmap, |aio| aio.fallocate),
            "nowait": false,
        }}),
        Table::Linear { segments } if segments.len() == 1 && info.product != raid::PRODUCT => {
            json!({"split": {"base_bdev": segments[0].on, "offset_blocks": segments[0].start}})
        }
        Table::Delay { .. } => json!({"delay": delay(info)}),
        Table::Error { on, .. } => json!({"error_disk": {"base_bdev": on}}),
        Table::Crypt { on, key } => {
            json!({"crypto": {"base_bdev_name": on, "name": info.name, "key_name": key}})
        }
        Table::Passthru { on } => json!({"passthru": {"name": info.name, "base_bdev_name": on}}),
        _ => match raid::shape(context, info) {
            Some(raid) => json!({"raid": raid}),
            None => json!({}),
        },
    };
    if let NodeState::Orphan { reason } = &info.state {
        // SPDK has no disks that are there and gone; whoever looks here should know.
        shape["ashlar"] = json!({"orphan": reason});
    }
    shape
}

/// The product name of a file driven through io_uring on request. Ashlar drives every file that way where it can.
pub(crate) const URING: &str = "URING bdev";

/// The parameters of `bdev_delay_create`, which SPDK also shows.
pub(crate) fn delay(info: &NodeInfo) -> Value {
    let Table::Delay {
        on,
        avg_read_us,
        p99_read_us,
        avg_write_us,
        p99_write_us,
    } = &info.table
    else {
        return Value::Null;
    };
    json!({
        "name": info.name,
        "base_bdev_name": on,
        "uuid": info.uuid.to_string(),
        "avg_read_latency": avg_read_us,
        "p99_read_latency": p99_read_us,
        "avg_write_latency": avg_write_us,
        "p99_write_latency": p99_write_us,
    })
}

fn partition(partition: &Partition) -> Value {
    let extent = partition.extent();
    match partition {
        Partition::Gpt {
            disk,
            table,
            kind,
            guid,
            name,
            ..
        } => json!({"gpt": {
            "base_bdev": disk,
            "offset_blocks": extent.start,
            "partition_table_guid": table.to_string(),
            "partition_type_guid": kind.to_string(),
            "unique_partition_guid": guid.to_string(),
            "partition_name": name,
        }}),
        // SPDK does not read these.
        Partition::Mbr {
            disk,
            number,
            disk_id,
            kind,
            active,
            ..
        } => json!({"mbr": {
            "base_bdev": disk,
            "offset_blocks": extent.start,
            "partition_number": number,
            "disk_signature": format!("{disk_id:08x}"),
            "partition_type": format!("{kind:02x}"),
            "active": active,
        }}),
        other => match other.plain() {
            Some((scheme, plain)) => json!({scheme: {
                "base_bdev": plain.disk,
                "offset_blocks": extent.start,
                "partition_number": plain.number,
                "partition_type": plain.kind,
                "partition_name": plain.name,
            }}),
            None => Value::Null,
        },
    }
}
