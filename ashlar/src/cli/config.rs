//! `ashlar config`.
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `ashlar config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a file and say what is wrong with it, with line and column. Changes nothing.
    Check {
        /// The YAML file.
        file: PathBuf,
    },
    /// Print the running state in the schema of the configuration file.
    Show,
    /// Write everything that makes this target the one it is to a file: its configuration, reservations, past changes, and the metadata of every disk.
    #[command(
        after_help = "Data and secrets are not in it: secrets are named by their files. Only its owner may read the file; an older backup of that name is \
                            replaced as soon as the new one is on stable storage. The running target writes it, so that is where the path leads.\n\nExample:\n  \
                            ashlar config backup /var/backups/ashlar.backup"
    )]
    Backup {
        /// The file.
        file: PathBuf,
    },
    /// Let the running target read its configuration file again, as SIGHUP does: it takes over `discovery`, `lvm2`, `arrays`, `log` and `audit`. Everything else
    /// counts from the next start on; what is different there is told.
    Reload,
    /// Put back what a backup has: on bare metal first `--state` and `--config`, without a running target; then, on the running one, what was on its disks.
    #[command(
        after_help = "Disks are known by their names. One that is as it was is left alone; one that is blank, of the same blocks and at least as large is \
                            written, by a plan as any other change (`ashlar plan ls|undo`); one that holds something else, is in use or is too small is refused, \
                            and then none is written.\n\nOn bare metal:\n  \
                            ashlar config restore FILE --state /var/lib/ashlar --config ashlar.yaml\n  \
                            ashlar serve ashlar.yaml\n  \
                            ashlar config restore FILE --dry-run      show every sector that would be written\n  \
                            ashlar config restore FILE"
    )]
    Restore(Restore),
}

/// `ashlar config restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The file.
    pub file: PathBuf,
    /// Put reservations and past changes into this state directory, which must have none. No target may be running over it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dry_run", "force", "only"])]
    pub state: Option<PathBuf>,
    /// Write the configuration to this file, which must not be there.
    #[arg(long, value_name = "YAML", conflicts_with_all = ["dry_run", "force", "only"])]
    pub config: Option<PathBuf>,
    /// Change nothing: print every sector range that would be written.
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// With --dry-run: print the bytes before and after, too.
    #[arg(long, requires = "dry_run")]
    pub bytes: bool,
    /// Only these disks.
    #[arg(long, value_name = "DISK", value_delimiter = ',')]
    pub only: Option<Vec<String>>,
    /// Replace what is there instead, on disks that nobody uses.
    #[arg(long)]
    pub force: bool,
}
