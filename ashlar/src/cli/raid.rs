//! `ashlar raid`.
use clap::Subcommand;

/// `ashlar raid`.
#[derive(Debug, Subcommand)]
pub enum RaidCommand {
    /// List arrays with level, members, state and what is done to them.
    #[command(alias = "list")]
    Ls,
    /// One array: its members and how things stand with each, its spares, progress, when it was checked and will be, what would be compared after a crash.
    Show {
        /// Its name: `md/NAME` for those of Linux MD.
        name: String,
    },
    /// Compare all members in the background; `show` tells how far it is and what was found.
    Check {
        /// The array.
        name: String,
        /// Make them alike: sums from data, copies from the first.
        #[arg(long)]
        repair: bool,
    },
    /// Stop what is done to an array until `resume`.
    Pause {
        /// The array.
        name: String,
    },
    /// Go on.
    Resume {
        /// The array.
        name: String,
    },
    /// End what is done to an array. A resync or rebuild begins again at the next start.
    Cancel {
        /// The array.
        name: String,
    },
    /// Bound resync, rebuild and check. They give way to hosts by themselves as well.
    Limit {
        /// The array.
        name: String,
        /// MiB a second of each member; 0: no limit.
        mib: u64,
    },
    /// Give up a member, as if it had failed.
    Fail {
        /// The array.
        name: String,
        /// The disk, or its place.
        member: String,
    },
    /// Let members give more of themselves: after all of them were replaced by larger disks, or have grown. The array is longer at once, and in use meanwhile.
    Grow {
        /// The array.
        name: String,
        /// MiB that each member gives; as much as the smallest has if nothing is said.
        #[arg(long, value_name = "MIB")]
        per_member: Option<u64>,
    },
    /// Take an array that nobody uses out of service: it is settled, and its disks may be pulled. It stays so until `assemble`, or the next start.
    Stop {
        /// The array.
        name: String,
    },
    /// Put an array together that was stopped or that waits for members.
    Assemble {
        /// The array.
        name: String,
        /// Also without members that it last ran with: they are not waited for.
        #[arg(long)]
        degraded: bool,
    },
}
