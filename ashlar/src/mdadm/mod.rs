//! `ashlar mdadm`: mdadm's options for the arrays of the running target. Each is one or more methods and verbs of the house (`ashlar raid`, `ashlar do raid-create`); names, options and
//! what `--examine` and `--detail` print are mdadm's.
pub mod cli;
mod detail;
mod examine;

use crate::{ask, cli as house, plan};
use cli::MdadmArgs;
use examine::Examined;
use rpc::client::Client;
use serde_json::{Map, Value, json};
use spec::md::{
    SECTOR, bad_blocks,
    bitmap::{self, Header},
    v1::{Features, LEN_MAX, Minor, Superblock},
};
use std::{
    error::Error,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(200);

/// What mdadm calls `/dev/md/data` is `md/data` here.
fn array(name: &str) -> &str {
    name.strip_prefix("/dev/").unwrap_or(name)
}

/// Runs the command.
pub fn run(ask: &house::Ask, args: &MdadmArgs) -> Outcome {
    if args.examine {
        return args.names.iter().try_for_each(|name| examine(ask, name));
    }
    let mut client = ask::connect(ask)?;
    if args.detail {
        return args.names.iter().try_for_each(|name| detail(&mut client, name));
    }
    let (name, disks) = args.names.split_first().ok_or("no array is named")?;
    if args.create {
        return create(&mut client, ask, args, array(name), disks);
    }
    if let Some(disk) = disks.first() {
        return Err(format!("{disk:?}: say what is to be done with it: --add or --fail").into());
    }
    let name = array(name);
    let mut call = |method: &str, params: Value| client.call::<Value>(method, params).map_err(plan::plain);
    for disk in &args.fail {
        call("ashlar_fail_member", json!({"name": name, "member": disk}))?;
        ask::print_text(&format!("mdadm: set {disk} faulty in {name}\n"))
    }
    match args.action.as_deref() {
        Some("idle") => call("ashlar_cancel_array", json!({ "name": name })).map(drop)?,
        Some("frozen") => call("ashlar_pause_array", json!({ "name": name })).map(drop)?,
        Some(word) => call("ashlar_scrub_array", json!({"name": name, "repair": word == "repair"})).map(drop)?,
        None => (),
    }
    if !args.add.is_empty() {
        let options = Map::from_iter([
            ("disks".to_owned(), json!(args.add)),
            ("force".to_owned(), json!(args.force)),
        ]);
        plan::apply(&mut client, "raid-add", name, options, &house::How::default())?;
        for disk in &args.add {
            ask::print_text(&format!("mdadm: added {disk}\n"))
        }
    }
    if args.wait {
        wait(&mut client, name)?
    }
    let asked = !args.fail.is_empty() || !args.add.is_empty() || args.action.is_some() || args.wait;
    match asked {
        true => Ok(()),
        false => Err("nothing is asked: --examine, --detail, --create, --add, --fail, --action or --wait".into()),
    }
}

/// Until nothing is done to it.
fn wait(client: &mut Client, name: &str) -> Outcome {
    loop {
        let told: Value = client
            .call("ashlar_get_arrays", json!({ "name": name }))
            .map_err(plan::plain)?;
        if told[0]["progress"].is_null() {
            return Ok(());
        }
        std::thread::sleep(LOOK)
    }
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

/// The file or device that a name stands for: itself, or what a disk of the target lies on.
fn file_of(ask: &house::Ask, name: &str) -> Outcome<PathBuf> {
    if name.contains('/') && Path::new(name).exists() {
        return Ok(name.into());
    }
    let mut client = ask::connect(ask)?;
    let told: Value = client
        .call("ashlar_get_disks", json!({ "name": name }))
        .map_err(plan::plain)?;
    match told[0]["node"]["table"]["path"].as_str() {
        Some(path) => Ok(path.into()),
        None => {
            Err(format!("{name:?} is no file or device of this machine, and only those can be read from here").into())
        }
    }
}

fn examine(ask: &house::Ask, name: &str) -> Outcome {
    let examined = read(&file_of(ask, name)?, name)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    ask::print_text(&format!("{name}:\n{}", examined.text(Some(host.trim()))));
    Ok(())
}

/// Reads a member's metadata where they are.
fn read(path: &Path, name: &str) -> Outcome<Examined> {
    let failed = |why: io::Error| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(failed)?;
    let sectors = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(failed)? / SECTOR;
    let bytes = |sector: u64, len: usize| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, sector * SECTOR).map(|()| bytes)
    };
    let places = [Minor::V1, Minor::V2, Minor::V0];
    let found = places.into_iter().find_map(|minor| {
        let at = minor.sector(sectors)?;
        let superblock = Superblock::parse(&bytes(at, LEN_MAX).ok()?).ok()?;
        (superblock.super_offset == at).then_some((minor, superblock))
    });
    let Some((minor, superblock)) = found else {
        return Err(format!("No md superblock of version 1 detected on {name}.").into());
    };
    let bitmap = superblock
        .bitmap_offset()
        .and_then(|offset| superblock.relative(offset.into()))
        .and_then(|at| Header::parse(&bytes(at, bitmap::HEADER).ok()?).ok());
    let log = superblock.bad_blocks;
    let listed = superblock
        .relative(log.offset.into())
        .filter(|_| log.size > 0)
        .and_then(|at| bad_blocks::parse(&bytes(at, usize::from(log.size) * 512).ok()?, log.shift).ok());
    let has_bad_blocks =
        superblock.features.has(Features::BAD_BLOCKS) && listed.is_some_and(|listed| !listed.is_empty());
    Ok(Examined {
        minor,
        superblock,
        bitmap,
        has_bad_blocks,
        sectors,
    })
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
            members.extend(read(Path::new(path), path))
        }
    }
    // Whoever was written last knows best.
    let best = members.into_iter().max_by_key(|member| member.superblock.events);
    ask::print_text(&format!("{name}:\n{}", detail::text(&told[0], best.as_ref())));
    Ok(())
}
