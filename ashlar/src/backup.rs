//! `ashlar config backup` and `ashlar config restore`.
use crate::{ask, cli, human, plan};
use rpc::backup::Backup;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{error::Error, fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

type Outcome = Result<(), Box<dyn Error>>;

/// `ashlar config backup`.
pub fn backup(ask: &cli::Ask, file: &Path) -> Outcome {
    let file = std::path::absolute(file)?;
    let params = json!({ "file": file });
    let made: Value = ask::connect(ask)?
        .call("ashlar_backup_config", params)
        .map_err(plan::plain)?;
    if ask.json {
        ask::print_json(&made);
        return Ok(());
    }
    let number = |key: &str| made[key].as_u64().unwrap_or_default();
    let mut text = format!(
        "{}: {}; the configuration, {} disks, {} volume groups, {} files of the state directory\n",
        file.display(),
        human::size(number("bytes")),
        number("disks"),
        number("groups"),
        number("state")
    );
    for note in made["notes"].as_array().into_iter().flatten() {
        text += &format!("Warning: {}\n", note.as_str().unwrap_or_default());
    }
    ask::print_text(&text);
    Ok(())
}

/// `ashlar config restore`.
pub fn restore(ask: &cli::Ask, args: &cli::Restore) -> Outcome {
    match args.state.is_some() || args.config.is_some() {
        true => bare_metal(ask, args),
        false => disks(ask, args),
    }
}

/// What comes before the target runs.
fn bare_metal(ask: &cli::Ask, args: &cli::Restore) -> Outcome {
    let backup = Backup::load(&args.file)?;
    let mut lines = Vec::new();
    if let Some(state) = &args.state {
        let count = backup.restore_state(state)?;
        lines.push(format!("{}: {count} files of the state directory", state.display()));
    }
    if let Some(path) = &args.config {
        let text = config::to_yaml(&backup.config)?;
        let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|why| format!("{}: {why}", path.display()))?;
        lines.push(format!("{}: the configuration", path.display()));
    }
    match ask.json {
        true => ask::print_json(&json!({ "made": backup.made, "host": backup.host, "written": lines })),
        false => ask::print_text(&format!("{}\n", lines.join("\n"))),
    }
    Ok(())
}

#[derive(Deserialize)]
struct Report {
    made: u64,
    host: String,
    complete: bool,
    disks: Vec<Disk>,
}

#[derive(Deserialize)]
struct Disk {
    disk: String,
    fate: String,
    reason: Option<String>,
    plan: Option<Value>,
}

/// What was on disks, on the running target.
fn disks(ask: &cli::Ask, args: &cli::Restore) -> Outcome {
    let mut params = json!({
        "file": std::path::absolute(&args.file)?,
        "dry_run": args.dry_run,
        "force": args.force,
    });
    if let Some(only) = &args.only {
        params["disks"] = json!(only);
    }
    let answer: Value = ask::connect(ask)?
        .call("ashlar_restore_config", params)
        .map_err(plan::plain)?;
    let report: Report = serde_json::from_value(answer.clone())?;
    if ask.json {
        ask::print_json(&answer);
    } else {
        let mut text = format!("Backup of {}, {} UTC.\n", report.host, human::utc(report.made));
        for disk in &report.disks {
            let fate = match (disk.fate.as_str(), args.dry_run) {
                ("same", _) => "left alone",
                ("planned", true) => "would be written",
                ("planned", false) => "not written, for another one is refused",
                ("later", true) => "would be written when what it lies on is there",
                ("later", false) => "not written, for another one is refused",
                (other, _) => other,
            };
            let reason = disk.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            text += &format!("{}: {fate}{reason}\n", disk.disk);
            if let Some(plan) = &disk.plan {
                text += &format!("\n{}\n", plan::text(plan, args.bytes)?);
            }
        }
        ask::print_text(&text);
    }
    let bad = |disk: &&Disk| ["refused", "missing"].contains(&disk.fate.as_str());
    match (report.complete || args.dry_run, report.disks.iter().find(bad)) {
        (_, Some(disk)) => Err(format!("{:?} is {}; the rest is above", disk.disk, disk.fate).into()),
        (false, None) => Err("not everything was put back; begin again".into()),
        (true, None) => Ok(()),
    }
}
