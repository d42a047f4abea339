//! `ashlar plugin`: who knows what about disks, and what each has claimed.
use crate::{ask, cli, human};
use serde::Deserialize;
use serde_json::Value;
use std::error::Error;

/// What `ashlar_get_plugins` answers.
#[derive(Deserialize)]
struct Plugins {
    classes: Vec<Class>,
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
struct Class {
    class: String,
    api: String,
    plugins: usize,
}

#[derive(Deserialize)]
struct Plugin {
    name: String,
    id: String,
    class: String,
    api: String,
    built_in: bool,
    about: String,
    verbs: Vec<String>,
    active: bool,
    claims: Vec<String>,
}

/// Runs the command.
pub fn run(ask: &cli::Ask, command: &cli::PluginCommand) -> Result<(), Box<dyn Error>> {
    let mut answer: Value = ask::connect(ask)?.call("ashlar_get_plugins", ())?;
    match command {
        cli::PluginCommand::Ls if ask.json => ask::print_json(&answer),
        cli::PluginCommand::Ls => ask::print_text(&list(serde_json::from_value(answer)?)),
        cli::PluginCommand::Show { name } => {
            let all = answer["plugins"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let named = |plugin: &Value| plugin["name"] == name.as_str() || plugin["id"] == name.as_str();
            let one = all.into_iter().find(named);
            let one = one.ok_or_else(|| format!("there is no plug-in {name:?}; `ashlar plugin ls` lists them"))?;
            match ask.json {
                true => ask::print_json(&one),
                false => ask::print_text(&show(serde_json::from_value(one)?)),
            }
        }
    }
    Ok(())
}

fn words(class: &str) -> String {
    class.replace('_', " ")
}

fn state(plugin: &Plugin) -> String {
    if plugin.active { "active" } else { "idle" }.to_owned()
}

fn list(all: Plugins) -> String {
    let mut plugins = all.plugins;
    let place = |plugin: &Plugin| all.classes.iter().position(|class| class.class == plugin.class);
    plugins.sort_by_key(place);
    let rows = plugins.into_iter().map(|plugin| {
        let state = state(&plugin);
        vec![
            plugin.name,
            plugin.id,
            words(&plugin.class),
            plugin.api,
            state,
            plugin.claims.len().to_string(),
            plugin.about,
        ]
    });
    let mut text = human::table(
        &[
            "PLUG-IN",
            "NUMBER",
            "CLASS",
            "API",
            "STATE",
            ">CLAIMS",
            "WHAT IT IS FOR",
        ],
        rows,
    );
    for class in all.classes.iter().filter(|class| class.plugins == 0) {
        text += &format!("No {} is there (API {}).\n", words(&class.class), class.api);
    }
    text
}

fn show(plugin: Plugin) -> String {
    let none = |list: &[String]| match list {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    let origin = if plugin.built_in {
        "built in"
    } else {
        "added by this program"
    };
    format!(
        "{} {}: {}\n  number  {}, {origin}\n  API     {}\n  state   {}\n  verbs   {}\n  claims  {}\n",
        words(&plugin.class),
        plugin.name,
        plugin.about,
        plugin.id,
        plugin.api,
        state(&plugin),
        none(&plugin.verbs),
        none(&plugin.claims),
    )
}
