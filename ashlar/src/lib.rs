//! All of the `ashlar` binary: `serve` runs the target, everything else asks a running one through its RPC socket.
//!
//! It is a library so that a program outside this tree can be the same binary with plug-ins of its own: `examples/toy-partitions` is one, and
//! docs/writing-a-format.md tells how to write it.
mod ask;
mod backup;
mod cli;
mod disk;
mod human;
mod link;
mod logging;
mod lv;
mod lvm;
mod mdadm;
mod partition;
mod plan;
mod plugin;
mod raid;
mod script;
mod serve;
mod target_show;
mod targets;
mod top;
mod vg;
mod volume;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, ConfigCommand};
use lvol::{Plugin, Registry};
use serde_json::Value;
use std::{error::Error, io::Read, process::ExitCode};

pub use {bdev, lvol, spec, uuid};

/// Does what the command line says, with these plug-ins besides those that are built in. One that does not fit is told, and ends the program.
pub fn run(plugins: &[Plugin]) -> ExitCode {
    let cli = Cli::parse();
    let mut registry = Registry::default();
    let added = plugins.iter().try_for_each(|plugin| registry.add(*plugin));
    let done = added.map_err(Into::into).and_then(|()| perform(&cli, registry));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if cli.ask.json {
                eprintln!("{}", serde_json::json!({ "error": error.to_string() }));
            } else {
                eprintln!("ashlar: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: &Cli, registry: Registry) -> Result<(), Box<dyn Error>> {
    match &cli.command {
        Command::Serve(args) => serve::run(&cli.ask, args, registry),
        Command::Engine(args) => serve::engine_process(args, registry),
        Command::Config(ConfigCommand::Check { file }) => check(&cli.ask, file),
        Command::Config(ConfigCommand::Show) => show(&cli.ask),
        Command::Config(ConfigCommand::Reload) => reload(&cli.ask),
        Command::Config(ConfigCommand::Backup { file }) => backup::backup(&cli.ask, file),
        Command::Config(ConfigCommand::Restore(args)) => backup::restore(&cli.ask, args),
        Command::Disk(command) => disk::run(&cli.ask, command),
        Command::Volume(command) => Ok(volume::run(&cli.ask, command)?),
        Command::Vg(command) => Ok(vg::run(&cli.ask, command)?),
        Command::Lv(command) => lv::run(&cli.ask, command),
        Command::Lvm(command) => lvm::run(&cli.ask, command),
        Command::Mdadm(args) => mdadm::run(&cli.ask, args),
        Command::Link(command) => Ok(link::run(&cli.ask, command)?),
        Command::Raid(command) => Ok(raid::run(&cli.ask, command)?),
        Command::Label(command) => partition::label(&cli.ask, command),
        Command::Partition(command) => partition::run(&cli.ask, command),
        Command::Sfdisk(args) => partition::sfdisk(&cli.ask, args),
        Command::Do(args) => plan::perform(&cli.ask, args, &registry),
        Command::Can(args) => plan::can(&cli.ask, args),
        Command::Plan(command) => plan::run(&cli.ask, command),
        Command::Plugin(command) => Ok(plugin::run(&cli.ask, command)?),
        Command::Target(command) => targets::run(&cli.ask, command),
        Command::Top(args) => Ok(top::run(&cli.ask, args)?),
        Command::Rpc(args) => call(&cli.ask, args),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "ashlar", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// `ashlar config check`.
fn check(ask: &cli::Ask, file: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let config = config::load(file)?;
    if ask.json {
        ask::print_json(&config);
    } else {
        let (disks, tables) = (config.disks.len(), config.tables.len());
        let volumes = config.volumes.len();
        ask::print_text(&format!(
            "{}: no mistakes found; {disks} disks, {tables} tables, {volumes} volumes\n",
            file.display()
        ));
    }
    Ok(())
}

/// `ashlar config show`.
fn show(ask: &cli::Ask) -> Result<(), Box<dyn Error>> {
    let running: config::Config = ask::connect(ask)?.call("ashlar_get_config", ())?;
    if ask.json {
        ask::print_json(&running);
    } else {
        ask::print_text(&config::to_yaml(&running)?);
    }
    Ok(())
}

/// `ashlar config reload`.
fn reload(ask: &cli::Ask) -> Result<(), Box<dyn Error>> {
    let reloaded: Value = ask::connect(ask)?
        .call("ashlar_reload_config", ())
        .map_err(plan::plain)?;
    if ask.json {
        ask::print_json(&reloaded);
        return Ok(());
    }
    let list = |key: &str| {
        let names: Vec<&str> = reloaded[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        names.join(", ")
    };
    let mut text = match list("taken_over") {
        none if none.is_empty() => "Nothing has changed that can be taken over.\n".to_owned(),
        names => format!("Taken over: {names}.\n"),
    };
    match list("at_next_start") {
        none if none.is_empty() => {}
        names => text += &format!("Different, but not before the next start: {names}.\n"),
    }
    ask::print_text(&text);
    Ok(())
}

/// `ashlar rpc`.
fn call(ask: &cli::Ask, args: &cli::Rpc) -> Result<(), Box<dyn Error>> {
    let text = match args.params.as_deref() {
        None => "{}".into(),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        Some(text) => text.to_owned(),
    };
    let params: Value = serde_json::from_str(&text).map_err(|error| {
        format!("the parameters are not JSON: {error}. Write an object, such as '{{\"name\":\"mem0\"}}'")
    })?;
    let answer: Value = ask::connect(ask)?.call(&args.method, params)?;
    ask::print_json(&answer);
    Ok(())
}
