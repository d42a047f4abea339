//! What disks are put together to: `ashlar vg`, `lv`, `link`, and `volume`, which lists what is served.
use clap::Subcommand;

/// `ashlar vg`.
#[derive(Debug, Subcommand)]
pub enum VgCommand {
    /// List groups with state, size and what is missing.
    #[command(alias = "list")]
    Ls,
    /// One group: its physical volumes, its volumes, and the reason for each that is not active.
    Show {
        /// Its name or identity.
        name: String,
    },
    /// The texts of a group that its changes have replaced, or one of them; `ashlar do vg-restore GROUP change=N` makes it count again.
    Archive {
        /// The group's name.
        name: String,
        /// Print the text of this change, as `vgcfgrestore` takes it.
        change: Option<u64>,
    },
}

/// `ashlar lv`.
#[derive(Debug, Subcommand)]
pub enum LvCommand {
    /// Let volumes run, as `lvchange -ay`: also those that are not to become active by themselves. What is asked for counts until the target ends; at the
    /// next start it is as the metadata says (`ashlar lvm lvchange --setactivationskip|--setautoactivation`).
    Activate {
        /// Volumes as GROUP/VOLUME, or groups: all their volumes.
        #[arg(required = true)]
        names: Vec<String>,
        /// Also if they are marked to be left out.
        #[arg(short = 'K', long)]
        ignoreactivationskip: bool,
    },
    /// Let volumes run no more, as `lvchange -an`. Refused while a host is connected to one, or something stands on it; of a group all or none.
    Deactivate {
        /// Volumes as GROUP/VOLUME, or groups: all their volumes.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `ashlar link`.
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// List links with state, size and what is missing. `ashlar do link-create NAME disks=a,b` makes one.
    #[command(alias = "list")]
    Ls,
    /// One link: its children in order, the identity of each, and what of it cannot be read.
    Show {
        /// Its name, disk or identity.
        name: String,
    },
}

/// `ashlar volume`.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// List what is served, with IQN/LUN and NQN/NSID.
    #[command(alias = "list")]
    Ls,
    /// One volume, and the exact commands with which a host uses it.
    Show {
        /// Its name, alias or UUID.
        name: String,
    },
}
