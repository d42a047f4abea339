//! `ashlar lv`: which volumes of groups run.
use crate::{ask, cli, plan};
use lvol::{Activated, Desired};
use rpc::client::Client;
use serde_json::json;
use std::error::Error;

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::LvCommand) -> Result<(), Box<dyn Error>> {
    let mut client = ask::connect(ask)?;
    let (names, desired) = match command {
        cli::LvCommand::Activate {
            names,
            ignoreactivationskip: true,
        } => (names, Desired::Anyway),
        cli::LvCommand::Activate { names, .. } => (names, Desired::Active),
        cli::LvCommand::Deactivate { names } => (names, Desired::Inactive),
    };
    for name in names {
        let done = activate(&mut client, name, desired)?;
        if ask.json {
            ask::print_json(&serde_json::to_value(&done)?);
            continue;
        }
        let mut text = String::new();
        for (word, volumes) in [("active", &done.active), ("inactive", &done.inactive)] {
            text.extend(volumes.iter().map(|volume| format!("{volume} is {word}.\n")));
        }
        text.extend(done.warnings.iter().map(|why| format!("Warning: {why}\n")));
        ask::print_text(&text);
    }
    Ok(())
}

/// Asks the target.
pub fn activate(client: &mut Client, name: &str, desired: Desired) -> Result<Activated, Box<dyn Error>> {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let params = json!({ "name": name, "desired": desired });
    client.call("ashlar_activate", params).map_err(plan::plain)
}
