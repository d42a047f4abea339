//! Changes in general: `ashlar do`, `can`, `plan`, and who knows of them, `plugin`.
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// How a change is made.
#[derive(Clone, Debug, Default, Args)]
pub struct How {
    /// Change nothing: print every sector range that would be written. With --json it is what `ashlar plan apply` takes.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// With --dry-run: print the bytes before and after, too.
    #[arg(long, requires = "dry_run")]
    pub bytes: bool,
    /// Make identities from this UUID: the same commands with the same seeds on the same disks write the same bytes.
    #[arg(long, value_name = "UUID")]
    pub seed: Option<uuid::Uuid>,
    /// The time that metadata says it was changed at, in seconds since 1970, instead of now.
    #[arg(long, value_name = "SECONDS")]
    pub time: Option<u64>,
    /// The machine that metadata says it was changed on, instead of this one.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
}

/// `ashlar do`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Do {
    /// What to do, for example `vg-create`.
    #[arg(required_unless_present = "help")]
    pub verb: Option<String>,
    /// To what: a disk, a partition, a group, a volume as `group/volume`.
    #[arg(required_unless_present = "help")]
    pub object: Option<String>,
    /// Tell what this verb does and which options it takes.
    #[arg(short, long)]
    pub help: bool,
    /// How, as NAME=VALUE. Lists are separated by commas; NAME alone is yes. `ashlar plan verbs VERB` tells what there is.
    #[arg(value_name = "NAME=VALUE", value_parser = pair)]
    pub options: Vec<(String, String)>,
    /// How.
    #[command(flatten)]
    pub how: How,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.is_empty() {
        true => Err("is not NAME=VALUE".into()),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

/// `ashlar can`.
#[derive(Debug, Args)]
pub struct Can {
    /// The object.
    pub object: String,
    /// Only this verb; the exit status is the answer.
    pub verb: Option<String>,
}

/// `ashlar plan`.
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// List what can be done, or what one verb takes.
    Verbs {
        /// Only this verb, with its options.
        name: Option<String>,
    },
    /// List the changes that were made, oldest first.
    #[command(alias = "list")]
    Ls,
    /// One change: every sector range it has written.
    Show {
        /// Its number.
        number: u64,
        /// Print the bytes before and after, too.
        #[arg(long)]
        bytes: bool,
    },
    /// Carry out a plan that `--dry-run --json` has printed, if it would be the same today.
    Apply {
        /// The file, or - for standard input.
        file: PathBuf,
    },
    /// Say in which order things are best stacked, and which stacks are refused by which rule. Without names: all rules.
    #[command(
        after_help = "Names are those of plug-ins, lowest first, separated by commas. A stack that breaks a hard rule leaves data wrong, lost or out of \
                            reach, and is refused; the rest is advice.\n\nExample:\n  ashlar plan stack file,gpt,crypt,stripe"
    )]
    Stack {
        /// What to stack, lowest first.
        #[arg(value_delimiter = ',')]
        features: Vec<String>,
    },
    /// Take back what a change has written, if nothing has changed it since.
    Undo {
        /// Its number.
        number: u64,
    },
}

/// `ashlar plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List plug-ins by class, with number, version of the interface, and how much each has claimed.
    #[command(alias = "list")]
    Ls,
    /// One plug-in: what it is for, the verbs it brings, what it has claimed.
    Show {
        /// Its name or number.
        name: String,
    },
}
