//! `ashlar lvm`: LVM2's commands for the groups of the running target. Each is one or more verbs of the engine (`ashlar plan verbs`); names, options and
//! what is printed are LVM2's.
pub mod cli;
mod fields;
mod report;
mod units;

use crate::{ask, cli as house, lv, plan};
use cli::{Common, LvmCommand};
use lvol::Desired;
use report::Which;
use rpc::client::Client;
use serde_json::{Map, Value, json};
use std::{
    error::Error,
    io::{BufRead, IsTerminal, Write},
};

type Outcome = Result<(), Box<dyn Error>>;

/// A verb that is to be done, and what LVM2 says when it is.
struct Task {
    verb: &'static str,
    object: String,
    options: Map<String, Value>,
    said: String,
}

impl Task {
    fn new(verb: &'static str, object: &str, options: Value, said: String) -> Self {
        let mut options = options.as_object().cloned().unwrap_or_default();
        // What was not given is not asked for.
        options.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        Self {
            verb,
            object: path(object).to_owned(),
            options,
            said,
        }
    }
}

/// `/dev/group/volume` as everybody writes it.
fn path(name: &str) -> &str {
    name.strip_prefix("/dev/").unwrap_or(name)
}

fn yes(letter: &Option<String>) -> Option<bool> {
    letter.as_deref().map(|letter| letter == "y")
}

/// Chunks without a unit count KiB, unlike other sizes.
fn kilobytes(size: &Option<String>) -> Option<String> {
    let bare = |size: &String| size.bytes().all(|byte| byte.is_ascii_digit());
    size.as_ref()
        .map(|size| if bare(size) { format!("{size}k") } else { size.clone() })
}

/// Runs the command.
pub fn run(ask: &house::Ask, command: &LvmCommand) -> Outcome {
    let mut client = ask::connect(ask)?;
    let (mut tasks, common) = match command {
        LvmCommand::Pvs(args) => return report::run(&mut client, Which::Pvs, args),
        LvmCommand::Vgs(args) => return report::run(&mut client, Which::Vgs, args),
        LvmCommand::Lvs(args) => return report::run(&mut client, Which::Lvs, args),
        other => tasks(&mut client, other)?,
    };
    let activation = activation(command);
    if activation.is_some() {
        // It is all that was asked for, as a rule.
        tasks.retain(|task| !task.options.is_empty());
    }
    for task in tasks {
        perform(&mut client, ask, task, common)?;
    }
    match activation {
        Some((names, desired)) => activate(&mut client, ask, names, desired, common),
        None => Ok(()),
    }
}

/// What `-a` asks for, and of what.
fn activation(command: &LvmCommand) -> Option<(&[String], Desired)> {
    let (names, letters, anyway) = match command {
        LvmCommand::Lvchange(args) => (&args.names, args.activate.as_deref()?, args.ignoreactivationskip),
        LvmCommand::Vgchange(args) => (&args.names, args.activate.as_deref()?, args.ignoreactivationskip),
        _ => return None,
    };
    let desired = match letters {
        "n" | "en" | "ln" => Desired::Inactive,
        "ay" => Desired::Auto,
        _ if anyway => Desired::Anyway,
        _ => Desired::Active,
    };
    Some((names, desired))
}

/// Lets volumes run, or not. LVM2 says something of groups only.
fn activate(client: &mut Client, ask: &house::Ask, names: &[String], desired: Desired, common: &Common) -> Outcome {
    for name in names {
        if common.test {
            ask::print_text(&format!(
                "  {}: which volumes run is written to no disk; nothing was done\n",
                path(name)
            ));
            continue;
        }
        let done = lv::activate(client, name, desired)?;
        if ask.json {
            ask::print_json(&serde_json::to_value(&done)?);
            continue;
        }
        done.warnings.iter().for_each(|why| eprintln!("  WARNING: {why}"));
        if !path(name).contains('/') {
            ask::print_text(&format!(
                "  {} logical volume(s) in volume group \"{}\" now active\n",
                done.active.len(),
                path(name)
            ));
        }
    }
    Ok(())
}

fn tasks<'a>(client: &mut Client, command: &'a LvmCommand) -> Result<(Vec<Task>, &'a Common), Box<dyn Error>> {
    Ok(match command {
        LvmCommand::Pvs(_) | LvmCommand::Vgs(_) | LvmCommand::Lvs(_) => unreachable!("reports change nothing"),
        LvmCommand::Pvcreate(args) => {
            let task = |disk: &String| {
                let options = json!({
                    "force": (args.common.force > 0).then_some(true),
                    "metadata_copies": args.metadatacopies,
                    "metadata_size": args.metadatasize,
                    "data_alignment": args.dataalignment,
                });
                Task::new(
                    "pv-create",
                    disk,
                    options,
                    format!("Physical volume \"{disk}\" successfully created."),
                )
            };
            (args.disks.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Pvremove(args) => {
            let task = |disk: &String| {
                let options = json!({ "force": (args.common.force > 0).then_some(true) });
                Task::new(
                    "pv-remove",
                    disk,
                    options,
                    format!("Labels on physical volume \"{disk}\" successfully wiped."),
                )
            };
            (args.disks.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Pvresize(args) => {
            let task = |disk: &String| {
                let options = json!({ "size": args.setphysicalvolumesize });
                Task::new(
                    "pv-resize",
                    disk,
                    options,
                    format!("Physical volume \"{disk}\" changed"),
                )
            };
            (args.disks.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Pvchange(args) => {
            let task = |disk: &String| {
                let options = json!({
                    "allocatable": yes(&args.allocatable),
                    "add_tags": args.addtag,
                    "del_tags": args.deltag,
                });
                Task::new(
                    "pv-change",
                    disk,
                    options,
                    format!("Physical volume \"{disk}\" changed"),
                )
            };
            (args.disks.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Vgcreate(args) => {
            let options = json!({
                "disks": args.disks,
                "extent_size": args.physicalextentsize,
                "tags": args.addtag,
                "force": (args.common.force > 0).then_some(true),
            });
            let said = format!("Volume group \"{}\" successfully created", args.name);
            (vec![Task::new("vg-create", &args.name, options, said)], &args.common)
        }
        LvmCommand::Vgextend(args) => {
            let options = json!({ "disks": args.disks, "force": (args.common.force > 0).then_some(true) });
            let said = format!("Volume group \"{}\" successfully extended", args.name);
            (vec![Task::new("vg-extend", &args.name, options, said)], &args.common)
        }
        LvmCommand::Vgreduce(args) => {
            let said = args
                .disks
                .iter()
                .map(|disk| format!("Removed \"{disk}\" from volume group \"{}\"", args.name));
            let said = match args.removemissing {
                true => format!("Wrote out consistent volume group {}.", args.name),
                false => said.collect::<Vec<_>>().join("\n  "),
            };
            let options = json!({
                "disks": args.disks,
                "remove_missing": args.removemissing.then_some(true),
                "force": (args.removemissing && args.common.force > 0).then_some(true),
            });
            (vec![Task::new("vg-reduce", &args.name, options, said)], &args.common)
        }
        LvmCommand::Vgrename(args) => {
            let said = format!("Volume group \"{}\" successfully renamed to \"{}\"", args.old, args.new);
            (
                vec![Task::new(
                    "vg-rename",
                    &args.old,
                    json!({ "name": path(&args.new) }),
                    said,
                )],
                &args.common,
            )
        }
        LvmCommand::Vgremove(args) => {
            let sure = args.common.force > 0 || args.common.yes;
            let task = |name: &String| {
                let options = json!({ "force": sure.then_some(true) });
                Task::new(
                    "vg-remove",
                    name,
                    options,
                    format!("Volume group \"{name}\" successfully removed"),
                )
            };
            (args.names.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Vgexport(args) => {
            let task = |name: &String| {
                let said = format!("Volume group \"{name}\" successfully exported");
                Task::new("vg-export", name, json!({}), said)
            };
            (args.names.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Vgimport(args) => {
            let task = |name: &String| {
                let said = format!("Volume group \"{name}\" successfully imported");
                Task::new("vg-import", name, json!({}), said)
            };
            (args.names.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Vgimportclone(args) => {
            let said = format!(
                "Volume group \"{}\" successfully made of {}",
                args.basevgname,
                args.disks.join(", ")
            );
            let options = json!({ "disks": args.disks });
            let task = Task::new("vg-import-clone", &args.basevgname, options, said);
            (vec![task], &args.common)
        }
        LvmCommand::Vgchange(args) => {
            // A group that is another host's takes no other change.
            let others: Vec<String> = match args.systemid {
                None => Vec::new(),
                Some(_) => {
                    let foreign = report::groups(client)?
                        .into_iter()
                        .filter(|group| group.state == "foreign");
                    foreign.map(|group| group.name).collect()
                }
            };
            let task = |name: &String| {
                if others.iter().any(|other| *other == path(name)) {
                    let said = format!("Volume group \"{name}\" successfully changed");
                    return Task::new("vg-adopt", name, json!({ "system_id": args.systemid }), said);
                }
                let options = json!({
                    "system_id": args.systemid,
                    "add_tags": args.addtag,
                    "del_tags": args.deltag,
                    "resizeable": yes(&args.resizeable),
                    "autoactivation": yes(&args.setautoactivation),
                    "allocation": args.alloc,
                });
                Task::new(
                    "vg-change",
                    name,
                    options,
                    format!("Volume group \"{name}\" successfully changed"),
                )
            };
            (args.names.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Vgsplit(args) => {
            let said = format!(
                "New volume group \"{}\" successfully split from \"{}\"",
                args.to, args.from
            );
            let options = json!({ "name": args.to, "disks": args.disks });
            (vec![Task::new("vg-split", &args.from, options, said)], &args.common)
        }
        LvmCommand::Vgmerge(args) => {
            let said = format!(
                "Volume group \"{}\" successfully merged into \"{}\"",
                args.from, args.into
            );
            (
                vec![Task::new(
                    "vg-merge",
                    &args.into,
                    json!({ "group": path(&args.from) }),
                    said,
                )],
                &args.common,
            )
        }
        LvmCommand::Lvcreate(args) => {
            let contiguous = (args.contiguous.as_deref() == Some("y")).then(|| "contiguous".to_owned());
            let stripes = match args.kind.as_deref() {
                Some("linear") => Some(1),
                _ => args.stripes,
            };
            let options = json!({
                "name": args.name,
                "size": args.size,
                "extents": args.extents,
                "stripes": stripes,
                "stripe_size": kilobytes(&args.stripesize),
                "disks": args.disks,
                "allocation": contiguous.or_else(|| args.alloc.clone()),
                "tags": args.addtag,
                "read_only": (args.permission.as_deref() == Some("r")).then_some(true),
                "keep_contents": (args.zero.as_deref() == Some("n")).then_some(true),
            });
            let said = match &args.name {
                Some(name) => format!("Logical volume \"{name}\" created."),
                None => "Logical volume created.".to_owned(),
            };
            (vec![Task::new("lv-create", &args.group, options, said)], &args.common)
        }
        LvmCommand::Lvextend(args) => (vec![resize(args, true)], &args.common),
        LvmCommand::Lvreduce(args) => (vec![resize(args, false)], &args.common),
        LvmCommand::Lvresize(args) => {
            let how = args.size.as_deref().or(args.extents.as_deref()).unwrap_or_default();
            let larger = match how.as_bytes().first() {
                Some(b'+') => true,
                Some(b'-') => false,
                _ => larger(client, args)?,
            };
            (vec![resize(args, larger)], &args.common)
        }
        LvmCommand::Lvrename(args) => {
            let (old, new) = match args.names.as_slice() {
                [group, old, new] if !old.contains('/') => (format!("{}/{old}", path(group)), new),
                [group, old, new] if path(old).starts_with(&format!("{}/", path(group))) => (path(old).to_owned(), new),
                [old, new] => (path(old).to_owned(), new),
                _ => return Err("give VG/OLD NEW, or VG OLD NEW".into()),
            };
            let group = old.split('/').next().unwrap_or_default().to_owned();
            let short = path(new).strip_prefix(&format!("{group}/")).unwrap_or(new).to_owned();
            let name = old.split('/').nth(1).unwrap_or_default();
            let said = format!("Renamed \"{name}\" to \"{short}\" in volume group \"{group}\"");
            (
                vec![Task::new("lv-rename", &old, json!({ "name": short }), said)],
                &args.common,
            )
        }
        LvmCommand::Lvremove(args) => {
            let mut all = Vec::new();
            for name in &args.names {
                match path(name).contains('/') {
                    true => all.push(path(name).to_owned()),
                    // A group: all its volumes.
                    false => {
                        let groups = report::groups(client)?;
                        let group = groups.into_iter().find(|group| group.name == path(name));
                        let group = group.ok_or_else(|| format!("Volume group \"{name}\" not found"))?;
                        all.extend(group.volumes.into_iter().map(|volume| volume.disk));
                    }
                }
            }
            let task = |name: &String| {
                let short = name.split('/').nth(1).unwrap_or_default();
                Task::new(
                    "lv-remove",
                    name,
                    json!({}),
                    format!("Logical volume \"{short}\" successfully removed."),
                )
            };
            (all.iter().map(task).collect(), &args.common)
        }
        LvmCommand::Lvchange(args) => {
            let task = |name: &String| {
                let options = json!({
                    "read_only": args.permission.as_deref().map(|letters| letters == "r"),
                    "activation_skip": yes(&args.setactivationskip),
                    "autoactivation": yes(&args.setautoactivation),
                    "allocation": args.alloc,
                    "add_tags": args.addtag,
                    "del_tags": args.deltag,
                });
                Task::new(
                    "lv-change",
                    name,
                    options,
                    format!("Logical volume {} changed.", path(name)),
                )
            };
            (args.names.iter().map(task).collect(), &args.common)
        }
    })
}

fn resize(args: &cli::LvResize, larger: bool) -> Task {
    let mut options = json!({ "size": args.size, "extents": args.extents });
    if larger {
        options["disks"] = json!(args.disks);
        options["allocation"] = json!(args.alloc);
        options["stripes"] = json!(args.stripes);
        options["stripe_size"] = json!(kilobytes(&args.stripesize));
    }
    let verb = if larger { "lv-extend" } else { "lv-reduce" };
    Task::new(
        verb,
        &args.volume,
        options,
        format!("Logical volume {} successfully resized.", path(&args.volume)),
    )
}

/// Whether a size without a sign is more than the volume has: LVM2 lets `lvresize` be either.
fn larger(client: &mut Client, args: &cli::LvResize) -> Result<bool, Box<dyn Error>> {
    let groups = report::groups(client)?;
    let volumes = groups
        .iter()
        .flat_map(|group| group.volumes.iter().map(move |volume| (group, volume)));
    let mut found = volumes.filter(|(_, volume)| volume.disk == path(&args.volume));
    let (group, volume) = found
        .next()
        .ok_or_else(|| format!("Failed to find logical volume \"{}\"", args.volume))?;
    use lvol::lvm2::edit::size::{Amount, extents, size};
    let amount = match (&args.size, &args.extents) {
        (Some(text), _) => size(&text.as_str().into()),
        (None, text) => extents(&text.clone().unwrap_or_default().into()),
    };
    Ok(match amount.map_err(|why| why.to_string())?.1 {
        Amount::Bytes(bytes) => bytes > volume.bytes,
        Amount::Extents(count) => count * group.extent_bytes > volume.bytes,
        // Shares that say what it shall have are more often for growing.
        Amount::Percent(..) => true,
    })
}

/// Asks where something would be lost, then does it and says what LVM2 says.
fn perform(client: &mut Client, ask: &house::Ask, task: Task, common: &Common) -> Outcome {
    let how = house::How {
        dry_run: common.test,
        bytes: false,
        seed: common.seed,
        time: common.time,
        host: None,
    };
    if common.test {
        return plan::change(client, ask, task.verb, &task.object, task.options, &how);
    }
    if !common.yes && common.force == 0 {
        let warnings = plan::warnings(client, task.verb, &task.object, &task.options, &how)?;
        if !warnings.is_empty() && !confirmed(&warnings)? {
            return Err("nothing was changed".into());
        }
    }
    let applied = plan::apply(client, task.verb, &task.object, task.options, &how)?;
    match ask.json {
        true => ask::print_json(&applied),
        false => ask::print_text(&format!("  {}\n", task.said)),
    }
    Ok(())
}

/// Asks a person; a script has to say `-y`.
fn confirmed(warnings: &[String]) -> Result<bool, Box<dyn Error>> {
    let stdin = std::io::stdin();
    for warning in warnings {
        eprintln!("  WARNING: {warning}");
    }
    if !stdin.is_terminal() {
        return Err("say -y to do it without being asked".into());
    }
    eprint!("  Do you really want that? [y/n]: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
