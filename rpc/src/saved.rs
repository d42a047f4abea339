//! The running state as calls: what `framework_get_config` gives and `save_config` writes down.
//!
//! SPDK's configuration file is a list of calls for each subsystem; loading it is making them, in order, in a fresh process. So the
//! order is: options first, lower disks before what stands on them, disks before targets. Partitions are not in it: discovery finds them
//! again. What SPDK has no method for (a disk of many segments, an alias) is saved as a call of our own, `ashlar_create_disk`.

use std::collections::BTreeSet;

use bdev::table::Direct;
use bdev::{NodeSpec, Table};
use lvol::Create;
use serde_json::{Map, Value, json};

use crate::context::{Context, Raid, RaidLevel, Split, Waiting};
use crate::methods::{crypto, iscsi, iscsi_auth, keyring, nvmf, nvmf_subsystem};
use crate::shapes::bdev::URING;
use crate::{raid, split};

/// The subsystems and what each needs, in the order they are started.
pub(crate) const SUBSYSTEMS: [(&str, &[&str]); 9] = [
    ("keyring", &[]),
    ("scheduler", &[]),
    ("iobuf", &[]),
    ("sock", &[]),
    ("accel", &["iobuf"]),
    ("bdev", &["accel", "sock", "iobuf"]),
    ("scsi", &["bdev"]),
    ("nvmf", &["bdev", "keyring", "sock", "iobuf"]),
    ("iscsi", &["scsi", "sock"]),
];

type Call = (&'static str, Value);

fn call((method, params): Call) -> Value {
    if params.is_null() {
        json!({"method": method})
    } else {
        json!({"method": method, "params": params})
    }
}

/// The calls that bring a subsystem about; `None` for one there is not. With `batches`, calls that may be made together are
/// an array of their own.
///
/// `wishes` are the engine's.
pub(crate) fn config(context: &Context, wishes: &[Create], subsystem: &str, batches: bool) -> Option<Value> {
    let mut calls: Vec<Value> = context.kept.saved(subsystem).into_iter().map(call).collect();
    match subsystem {
        "iobuf" => {}
        "accel" => calls.extend(crypto::saved(context).into_iter().map(call)),
        "keyring" => calls.extend(keyring::saved(context).into_iter().map(call)),
        "scheduler" => {
            let mut params = json!({"name": "static"});
            if context.scheduler_period() != 0 {
                params["period"] = context.scheduler_period().into();
            }
            calls.push(call(("framework_set_scheduler", params)));
        }
        "sock" => calls.extend(context.kept.saved_sockets().into_iter().map(call)),
        "bdev" => calls.extend(disks(context, wishes).into_iter().map(call)),
        "scsi" => return Some(Value::Null),
        "nvmf" => {
            calls.extend(target(context).into_iter().map(call));
            for group in nvmf_subsystem::saved(context) {
                let group: Vec<Value> = group.into_iter().map(call).collect();
                match batches {
                    true if !group.is_empty() => calls.push(group.into()),
                    _ => calls.extend(group),
                }
            }
            if context.nvmf.publishes_mdns() {
                calls.push(call(("nvmf_publish_mdns_prr", json!({}))));
            }
        }
        "iscsi" => calls.extend(initiators_and_nodes(context).into_iter().map(call)),
        _ => return None,
    }
    Some(calls.into())
}

// ---- disks

fn disks(context: &Context, wishes: &[Create]) -> Vec<Call> {
    let mut calls: Vec<Call> = context
        .facts()
        .examined
        .iter()
        .map(|name| ("bdev_examine", json!({"name": name})))
        .collect();
    if let Some(options) = context.facts().raid_options {
        calls.push(("bdev_raid_set_options", json!(options)))
    }
    let mut done = BTreeSet::new();
    for wish in wishes {
        calls.extend(disk(context, wish, &mut done));
    }
    for waiting in context.facts().waiting.clone() {
        calls.push(match waiting {
            Waiting::Split(wish) => split_call(&wish),
            Waiting::Raid(wish) => {
                let uuid = wish.uuid.unwrap_or_else(|| NodeSpec::uuid_of(&wish.name));
                ("bdev_raid_create", raid::saved(&wish, uuid))
            }
        });
    }
    calls.push(("bdev_wait_for_examine", Value::Null));
    calls
}

fn split_call(wish: &Split) -> Call {
    (
        "bdev_split_create",
        json!({"base_bdev": wish.base_bdev, "split_count": wish.split_count, "split_size_mb": wish.split_size_mb}),
    )
}

/// The call for one disk, or none where another disk's call makes it too.
fn disk(context: &Context, wish: &Create, done: &mut BTreeSet<String>) -> Option<Call> {
    // As it is now: resized, slowed down, under the identity that hosts know.
    let live = context.graph.info(&wish.spec.name);
    let mut spec = wish.spec.clone();
    if let Some(live) = live {
        spec.uuid = Some(live.uuid);
        spec.table = live.table;
    }
    let uuid = spec.uuid.unwrap_or_else(|| NodeSpec::uuid_of(&spec.name));
    let name = spec.name.as_str();
    if spec.product == split::PRODUCT
        && let Some(base) = spec.table.below().first()
        && let Some(whole) = context.facts().splits.get(*base)
    {
        return done.insert((*base).to_owned()).then(|| split_call(whole));
    }
    if let Some(call) = spdk_call(context, &spec, uuid) {
        return Some(call);
    }
    let mut params = json!({"name": name, "uuid": uuid.to_string(), "product": spec.product, "table": spec.table,
                            "examine": wish.examine});
    if !spec.aliases.is_empty() {
        params["aliases"] = spec.aliases.into();
    }
    Some(("ashlar_create_disk", params))
}

/// SPDK's call for a disk, if it can say all there is to say.
fn spdk_call(context: &Context, spec: &NodeSpec, uuid: uuid::Uuid) -> Option<Call> {
    let (name, uuid_text) = (spec.name.as_str(), uuid.to_string());
    if !spec.aliases.is_empty() {
        return None;
    }
    let usual = spec.product == spec.table.product();
    Some(match &spec.table {
        Table::Memory {
            blocks,
            block_size,
            physical_block_size,
            optimal_io,
        } if usual => (
            "bdev_malloc_create",
            json!({"name": name, "num_blocks": blocks, "block_size": block_size,
                   "physical_block_size": physical_block_size.unwrap_or(*block_size), "uuid": uuid_text,
                   "optimal_io_boundary": optimal_io, "md_size": 0, "dif_type": 0, "dif_is_head_of_md": false,
                   "dif_pi_format": 0, "numa_id": -1}),
        ),
        Table::Null {
            blocks,
            block_size,
            physical_block_size,
        } if usual => (
            "bdev_null_create",
            json!({"name": name, "num_blocks": blocks, "block_size": block_size,
                   "physical_block_size": physical_block_size.unwrap_or(*block_size), "md_size": 0, "dif_type": 0,
                   "dif_is_head_of_md": false, "dif_pi_format": 0, "uuid": uuid_text}),
        ),
        Table::File {
            path,
            block_size,
            read_only: false,
            direct: Direct::Auto,
            ..
        } if spec.product == URING => {
            let mut params = json!({"name": name, "filename": path, "uuid": uuid_text});
            if let Some(size) = block_size {
                params["block_size"] = (*size).into();
            }
            ("bdev_uring_create", params)
        }
        // Without a block size SPDK takes another one than we do.
        Table::File {
            path,
            block_size: Some(size),
            read_only,
            direct: Direct::Auto,
            ..
        } if usual => (
            "bdev_aio_create",
            json!({"name": name, "block_size": size, "filename": path, "readonly": read_only,
                   "fallocate": context.facts().aio.get(name).is_none_or(|aio| aio.fallocate), "uuid": uuid_text,
                   "nowait": false}),
        ),
        Table::Delay {
            on,
            avg_read_us,
            p99_read_us,
            avg_write_us,
            p99_write_us,
        } if usual => (
            "bdev_delay_create",
            json!({"name": name, "base_bdev_name": on, "uuid": uuid_text, "avg_read_latency": avg_read_us,
                   "p99_read_latency": p99_read_us, "avg_write_latency": avg_write_us, "p99_write_latency": p99_write_us}),
        ),
        Table::Error { on, inject } if usual && inject.is_empty() && *name == format!("EE_{on}") => {
            ("bdev_error_create", json!({"base_name": on, "uuid": uuid_text}))
        }
        Table::Passthru { on } if usual => (
            "bdev_passthru_create",
            json!({"base_bdev_name": on, "name": name, "uuid": uuid_text}),
        ),
        // SPDK's disk has the UUID that follows from its name.
        Table::Crypt { on, key } if usual && uuid == NodeSpec::uuid_of(name) => (
            "bdev_crypto_create",
            json!({"base_bdev_name": on, "name": name, "key_name": key}),
        ),
        table => ("bdev_raid_create", raid::saved(&as_raid(context, name, table)?, uuid)),
    })
}

fn as_raid(context: &Context, name: &str, table: &Table) -> Option<Raid> {
    if let Some(known) = context.facts().raids.get(name) {
        return Some(known.clone());
    }
    // One from the configuration file: a stripe whose chunk is a power of two of KiB is the same thing.
    let Table::Stripe { on, chunk } = table else {
        return None;
    };
    let bytes = u64::from(*chunk) * u64::from(context.graph.info(name)?.geometry.block_size);
    let strip_size_kb = u32::try_from(bytes / 1024)
        .ok()
        .filter(|kb| bytes % 1024 == 0 && kb.is_power_of_two())?;
    Some(Raid {
        name: name.to_owned(),
        uuid: None,
        strip_size_kb,
        level: RaidLevel::Raid0,
        base_bdevs: on.clone(),
    })
}

// ---- targets

fn target(context: &Context) -> Vec<Call> {
    let [crdt1, crdt2, crdt3] = context.nvmf.crdt();
    let mut calls = vec![
        ("nvmf_set_config", nvmf::saved_config(context)),
        (
            "nvmf_set_max_subsystems",
            json!({"max_subsystems": context.nvmf.max_subsystems()}),
        ),
        ("nvmf_set_crdt", json!({"crdt1": crdt1, "crdt2": crdt2, "crdt3": crdt3})),
    ];
    calls.extend(
        context
            .nvmf
            .transport()
            .iter()
            .map(|options| ("nvmf_create_transport", nvmf::transport(options, false))),
    );
    calls.extend(
        context
            .nvmf
            .referrals()
            .iter()
            .map(|r| ("nvmf_discovery_add_referral", nvmf::referral(r))),
    );
    calls
}

fn initiators_and_nodes(context: &Context) -> Vec<Call> {
    let plain = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
    let mut calls = vec![(
        "iscsi_set_options",
        Value::Object(iscsi::options(&context.iscsi.options())),
    )];
    calls.extend(iscsi_auth::saved(context));
    for group in context.iscsi.portal_groups() {
        let (tag, auth, listening) = (group.tag, group.auth, group.listening);
        let mut params = plain(serde_json::to_value(iscsi::PortalGroupShape::from(group)));
        if !listening {
            params["wait"] = true.into();
        }
        calls.push(("iscsi_create_portal_group", params));
        if let Some(auth) = auth {
            let mut params = Map::from_iter([("tag".to_owned(), tag.into())]);
            params.extend(
                plain(serde_json::to_value(auth))
                    .as_object()
                    .cloned()
                    .unwrap_or_default(),
            );
            calls.push(("iscsi_portal_group_set_auth", Value::Object(params)));
        }
    }
    for group in context.iscsi.initiator_groups() {
        calls.push(("iscsi_create_initiator_group", plain(serde_json::to_value(group))));
    }
    for node in context.iscsi.target_nodes() {
        let name = node.name.clone();
        calls.push(("iscsi_create_target_node", plain(serde_json::to_value(node))));
        for (tag, redirect) in context.iscsi.redirects(&name).unwrap_or_default() {
            let mut params = json!({"name": name, "pg_tag": tag, "redirect_host": redirect.to.ip().to_string(),
                                    "redirect_port": redirect.to.port().to_string()});
            if redirect.permanent {
                params["permanent"] = true.into();
            }
            calls.push(("iscsi_target_node_set_redirect", params));
        }
        let alua = context.iscsi.alua(&name).unwrap_or_default();
        if alua.explicit {
            let params = json!({"name": name, "enable": true});
            calls.push(("iscsi_target_node_set_explicit_alua", params));
        }
        for group in alua.portal_groups.into_iter().filter(|group| !group.is_plain()) {
            let mut params = plain(serde_json::to_value(group));
            params["name"] = name.as_str().into();
            calls.push(("iscsi_target_node_set_alua_state", params));
        }
    }
    calls
}
