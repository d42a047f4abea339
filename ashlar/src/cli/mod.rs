//! The command line: what can be asked for, and the help that teaches it.
mod config;
mod disk;
mod plan;
mod raid;
mod serve;
mod target;
mod volume;

pub use config::{ConfigCommand, Restore};
pub use disk::{DiskCommand, LabelCommand, PartitionCommand, Sfdisk};
pub use plan::{Can, Do, How, PlanCommand, PluginCommand};
pub use raid::RaidCommand;
pub use serve::{EngineArgs, IoArg, PollArg, Serve};
pub use target::{KeyHash, KeyKind, SetAlua, TargetCommand};
pub use volume::{LinkCommand, LvCommand, VgCommand, VolumeCommand};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A user-space storage target: gives the volumes on your disks to hosts over iSCSI and NVMe/TCP.
#[derive(Debug, Parser)]
#[command(
    name = "ashlar",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start here:\n  ashlar serve config/examples/quickstart.yaml   serve at once, on loopback, without root\n  \
                  ashlar volume ls                               what is served, and how hosts reach it\n  \
                  ashlar top                                     live IOPS, bandwidth, latency, load\n\n\
                  Every command but `serve`, `config check`, `config restore --state` and `completions` asks a running `ashlar serve` through its RPC socket."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where and how to ask a running target.
    #[command(flatten)]
    pub ask: Ask,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Ask {
    /// RPC socket of the running target.
    #[arg(
        long,
        global = true,
        env = "ASHLAR_SOCKET",
        value_name = "PATH",
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,
    /// The same, in front of the verb: behind it the letter is LVM2's.
    #[arg(short = 's', value_name = "PATH", conflicts_with = "socket", hide = true)]
    pub short_socket: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
}

impl Ask {
    /// The socket that was given.
    pub fn socket(&self) -> Option<&PathBuf> {
        self.short_socket.as_ref().or(self.socket.as_ref())
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the target in the foreground: find disks, build tables, serve volumes. Ctrl-C drains and stops.
    Serve(Serve),
    /// The engine's process, which `serve` starts.
    #[command(hide = true)]
    Engine(EngineArgs),
    /// Check a configuration file, or print the running state as one.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// What disks there are, what is on them and who has claimed them.
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Volume groups (LVM2): members, volumes, and why one is not active.
    #[command(subcommand)]
    Vg(VgCommand),
    /// Volumes of groups: which of them run.
    #[command(subcommand)]
    Lv(LvCommand),
    /// LVM2's commands for the groups of the running target: pvs, vgs, lvs, vgcreate, lvcreate, …
    #[command(subcommand)]
    Lvm(Box<crate::lvm::cli::LvmCommand>),
    /// mdadm's options for the arrays of the running target: --examine, --detail, --create, --assemble, --stop, --grow, --add, --fail, --remove, …
    Mdadm(Box<crate::mdadm::cli::MdadmArgs>),
    /// Drive links: disks that are one after the other, their children, and where a gap is.
    #[command(subcommand)]
    Link(LinkCommand),
    /// Arrays with redundancy: RAID 1, 4, 5, 6 and 10.
    #[command(subcommand)]
    Raid(RaidCommand),
    /// Partition tables: make one, mend one, take one away.
    #[command(subcommand)]
    Label(LabelCommand),
    /// Partitions: list, create, delete, resize, change.
    #[command(subcommand)]
    Partition(PartitionCommand),
    /// Print a partition table as `sfdisk --json` or `sfdisk --dump` would, or do what a script for sfdisk says.
    #[command(
        after_help = "With neither --json nor --dump a script is read from standard input. One with a `label:` line makes a new table, and is \
                            refused on a disk that is not blank unless --force is given; one without adds partitions to the table that is \
                            there. Each line is a change of its own, and can be taken back by `ashlar plan undo`.\n\nExamples:\n  \
                            ashlar sfdisk --dump disk0 > disk0.table\n  ashlar sfdisk disk1 < disk0.table"
    )]
    Sfdisk(Sfdisk),
    /// Change what is on disks: any verb, by its name. `ashlar plan verbs` lists them, `--dry-run` shows every sector first.
    Do(Do),
    /// Say which verbs are possible on an object now, and why the others are not.
    Can(Can),
    /// Changes that were made: list them, look at one to the byte, apply one that was printed, take one back.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Plug-ins: who knows what about disks, and what each has claimed.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// What is served to hosts and how they reach it.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// The protocol front ends: targets, subsystems, portals, connected hosts.
    #[command(subcommand)]
    Target(TargetCommand),
    /// Live IOPS, bandwidth and latency of every volume, and the load of every reactor.
    Top(Top),
    /// Call any JSON-RPC method of the running target, for example `ashlar rpc bdev_get_iostat '{"name":"mem0"}'`.
    Rpc(Rpc),
    /// Print a completion script: `ashlar completions bash > /etc/bash_completion.d/ashlar`.
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
}

/// `ashlar top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Seconds between two looks.
    #[arg(short, long, default_value_t = 1.0, value_parser = seconds)]
    pub interval: f64,
    /// Stop after this many looks; 0 goes on until interrupted.
    #[arg(short = 'n', long, default_value_t = 0)]
    pub count: u64,
}

/// `ashlar rpc`.
#[derive(Debug, Args)]
pub struct Rpc {
    /// Name of the method; `rpc_get_methods` lists them.
    pub method: String,
    /// Parameters: a JSON object, or `-` to read one from standard input.
    pub params: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.05..=3600.0).contains(&value) => Ok(value),
        Ok(_) => Err("must be from 0.05 to 3600 seconds".into()),
        Err(_) => Err("is not a number of seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_work_behind_the_verb() {
        let cli = Cli::try_parse_from(["ashlar", "volume", "ls", "--json", "--socket", "/run/a.sock"]).unwrap();
        assert!(cli.ask.json);
        assert_eq!(cli.ask.socket().unwrap().to_str(), Some("/run/a.sock"));
        let cli = Cli::try_parse_from(["ashlar", "-s", "/run/b.sock", "volume", "ls"]).unwrap();
        assert_eq!(cli.ask.socket().unwrap().to_str(), Some("/run/b.sock"));
    }

    #[test]
    fn a_zero_interval_is_refused_with_the_range() {
        let refused = Cli::try_parse_from(["ashlar", "top", "-i", "0"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("0.05 to 3600"), "{refused}");
    }
}
