//! `ashlar mdadm`: mdadm's options for the arrays of the running target. Each is one or more methods and verbs of the house (`ashlar raid`, `ashlar do raid-create`); names, options and
//! what `--examine` and `--detail` print are mdadm's.
pub mod cli;
mod detail;
mod examine;
mod examine0;
mod manage;
mod member;
mod service;

use crate::{ask, cli as house, plan};
use cli::MdadmArgs;
use member::Member;
use rpc::client::Client;
use serde_json::{Map, Value, json};
use std::{error::Error, path::Path};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What mdadm calls `/dev/md/data` is `md/data` here.
fn array(name: &str) -> &str {
    name.strip_prefix("/dev/").unwrap_or(name)
}

/// Runs the command.
pub fn run(ask: &house::Ask, args: &MdadmArgs) -> Outcome {
    if args.scan && !args.assemble && !args.stop {
        return Err("--scan goes with --assemble and --stop; `ashlar raid ls` lists arrays".into());
    }
    if args.examine {
        return args.names.iter().try_for_each(|name| member::examine(ask, name));
    }
    if args.examine_badblocks {
        return args
            .names
            .iter()
            .try_for_each(|name| member::examine_bad_blocks(ask, name));
    }
    let mut client = ask::connect(ask)?;
    if args.detail {
        return args.names.iter().try_for_each(|name| detail(&mut client, name));
    }
    if args.assemble || args.stop {
        return service::run(&mut client, args);
    }
    let (name, disks) = args.names.split_first().ok_or("no array is named")?;
    if args.create {
        return create(&mut client, ask, args, array(name), disks);
    }
    if let Some(disk) = disks.first() {
        let words = "--add, --fail, --remove, --re-add or --replace";
        return Err(format!("{disk:?}: say what is to be done with it: {words}").into());
    }
    manage::run(&mut client, args, array(name))
}

fn create(client: &mut Client, ask: &house::Ask, args: &MdadmArgs, name: &str, disks: &[String]) -> Outcome {
    let count = args.raid_devices.unwrap_or(0);
    if disks.len() != count + args.spare_devices {
        let why = format!(
            "{} disks are named, and --raid-devices and --spare-devices say {}",
            disks.len(),
            count + args.spare_devices
        );
        return Err(why.into());
    }
    let level = args.level.as_deref().unwrap_or_default();
    let level = match level {
        "mirror" => "raid1".to_owned(),
        "stripe" => "raid0".to_owned(),
        number if number.bytes().all(|byte| byte.is_ascii_digit()) => format!("raid{number}"),
        word => word.to_owned(),
    };
    let (members, spares) = disks.split_at(count);
    let mut options = Map::from_iter([
        ("disks".to_owned(), json!(members)),
        ("level".to_owned(), json!(level)),
        ("no_bitmap".to_owned(), json!(args.bitmap.as_deref() == Some("none"))),
        ("clean".to_owned(), json!(args.assume_clean)),
        ("force".to_owned(), json!(args.force)),
    ]);
    if !spares.is_empty() {
        options.insert("spares".into(), json!(spares));
    }
    if let Some(chunk) = &args.chunk {
        let bare = chunk.bytes().all(|byte| byte.is_ascii_digit());
        options.insert(
            "chunk".into(),
            json!(if bare { format!("{chunk}k") } else { chunk.clone() }),
        );
    }
    if let Some(layout) = &args.layout {
        options.insert("layout".into(), json!(layout));
    }
    let title = name.strip_prefix("md/").unwrap_or(name);
    let done = plan::apply(client, "raid-create", title, options, &house::How::default())?;
    match ask.json {
        true => ask::print_json(&done),
        false => ask::print_text(&format!("mdadm: array /dev/md/{title} started.\n")),
    }
    Ok(())
}

fn detail(client: &mut Client, name: &str) -> Outcome {
    let told: Value = client
        .call("ashlar_get_arrays", json!({ "name": array(name) }))
        .map_err(plan::plain)?;
    let mut members = Vec::new();
    for member in told[0]["members"].as_array().into_iter().flatten() {
        let Some(disk) = member["disk"].as_str() else { continue };
        let disk: Value = client
            .call("ashlar_get_disks", json!({ "name": disk }))
            .map_err(plan::plain)?;
        if let Some(path) = disk[0]["node"]["table"]["path"].as_str()
            && member["state"] != "failed"
        {
            members.extend(member::read(Path::new(path), path))
        }
    }
    // Whoever was written last knows best.
    let known = members.into_iter().map(Member::superblock);
    let best = known.max_by_key(|(_, superblock)| superblock.events());
    ask::print_text(&format!("{name}:\n{}", detail::text(&told[0], best.as_ref())));
    Ok(())
}
