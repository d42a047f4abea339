//! What plug-ins there are and what each of them has claimed: `ashlar plugin ls`.
use super::{Api, Class, Plugin, What};
use crate::{
    Engine,
    engine::Known,
    plan::{
        Verb,
        verb::{Kind, Opt},
    },
};
use serde::{Deserialize, Serialize};

/// A class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Which.
    pub class: Class,
    /// Its number: bits 12 to 15 of the numbers of its plug-ins.
    pub number: u8,
    /// The version of its interface.
    pub api: Api,
    /// How many plug-ins it has.
    pub plugins: usize,
}

/// A plug-in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginReport {
    /// Its name.
    pub name: String,
    /// Its number, in hexadecimal.
    pub id: String,
    /// The same, for programs.
    pub number: u32,
    /// What it is.
    pub class: Class,
    /// For which version of its class's interface it was written.
    pub api: Api,
    /// True if it comes with Ashlar.
    pub built_in: bool,
    /// What it is for.
    pub about: String,
    /// Verbs it brings.
    pub verbs: Vec<String>,
    /// True if it has claims; one that has none does nothing but wait to be asked.
    pub active: bool,
    /// The disks it has claimed; for one that builds devices these, for a filesystem interface the disks that hold what it knows.
    pub claims: Vec<String>,
}

/// Everything that is registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugins {
    /// Every class, those without plug-ins too.
    pub classes: Vec<ClassReport>,
    /// Every plug-in, in the order of registration.
    pub plugins: Vec<PluginReport>,
}

/// A verb as it describes itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerbReport {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it is done to.
    pub object: Kind,
    /// What it takes.
    pub options: &'static [Opt],
}

impl From<&dyn Verb> for VerbReport {
    fn from(verb: &dyn Verb) -> Self {
        Self {
            name: verb.name(),
            about: verb.about(),
            object: verb.kind(),
            options: verb.options(),
        }
    }
}

impl Engine {
    /// Every verb, as it describes itself.
    pub fn verbs(&self) -> Vec<VerbReport> {
        self.registry().verbs().into_iter().map(VerbReport::from).collect()
    }

    /// What plug-ins there are and what each has claimed.
    pub fn plugins(&self) -> Plugins {
        let plugins = self.registry().plugins();
        let class = |class: Class| ClassReport {
            class,
            number: class as u8,
            api: class.api(),
            plugins: plugins.iter().filter(|plugin| plugin.class == class).count(),
        };
        let state = self.state();
        let report = |plugin: &Plugin| {
            let claimed = state.known.iter().filter(|(_, known)| has(plugin, known));
            let claims: Vec<String> = claimed.map(|(name, _)| name.clone()).collect();
            PluginReport {
                name: plugin.name.to_owned(),
                id: plugin.id.to_string(),
                number: plugin.id.number(),
                class: plugin.class,
                api: plugin.api,
                built_in: plugin.id.vendor() == 0,
                about: plugin.about.to_owned(),
                verbs: plugin.verbs.iter().map(|verb| verb.name().to_owned()).collect(),
                active: !claims.is_empty(),
                claims,
            }
        };
        Plugins {
            classes: Class::ALL.into_iter().map(class).collect(),
            plugins: plugins.iter().map(report).collect(),
        }
    }
}

fn has(plugin: &Plugin, known: &Known) -> bool {
    match plugin.what {
        What::Format(_) => known.claim.is_some() && known.findings.format == Some(plugin.name),
        What::Table => known.spec.table.kind() == plugin.name,
        What::Signatures(kinds) => known.findings.kinds.iter().any(|kind| kinds.contains(kind)),
    }
}
