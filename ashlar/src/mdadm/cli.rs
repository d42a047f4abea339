//! mdadm's options, as far as they are known here.
use clap::Args;

/// What is shown below the options.
const EXAMPLES: &str = "\
Examples:
  ashlar mdadm --create /dev/md/data --level=5 --raid-devices=3 a b c
  ashlar mdadm --detail /dev/md/data
  ashlar mdadm /dev/md/data --fail a --remove a --add d
  ashlar mdadm /dev/md/data --re-add a
  ashlar mdadm /dev/md/data --remove failed
  ashlar mdadm /dev/md/data --replace a --with d
  ashlar mdadm --grow /dev/md/data --size=max
  ashlar mdadm --stop /dev/md/data
  ashlar mdadm --assemble --run /dev/md/data
  ashlar mdadm --examine /srv/a.img

Arrays are /dev/md/NAME or md/NAME, disks are those of the target (`ashlar disk ls`). What is given is done in this order:
--fail, --remove, --re-add, --add, --replace, --size, --action, --wait.";

/// `ashlar mdadm`: one mode, or what is to be done to the array that is named first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MdadmArgs {
    /// What the superblocks of members say.
    #[arg(long, short = 'E', conflicts_with_all = ["create", "detail", "assemble", "stop", "grow"])]
    pub examine: bool,
    /// What members do not have, by their bad-block logs: sectors of the disk.
    #[arg(long, conflicts_with_all = ["examine", "create", "detail", "assemble", "stop", "grow"])]
    pub examine_badblocks: bool,
    /// How arrays are.
    #[arg(long, short = 'D', conflicts_with_all = ["create", "assemble", "stop", "grow"])]
    pub detail: bool,
    /// Make an array: `--create /dev/md/NAME --level=5 --raid-devices=3 DISK...`
    #[arg(long, short = 'C', requires = "level", requires = "raid_devices", conflicts_with_all = ["assemble", "stop", "grow"])]
    pub create: bool,
    /// Put arrays together that were stopped or wait for members. Their members are found by themselves and not named.
    #[arg(long, short = 'A', conflicts_with_all = ["stop", "grow"])]
    pub assemble: bool,
    /// With --assemble: also without members with which the array last ran.
    #[arg(long, short = 'R', requires = "assemble")]
    pub run: bool,
    /// With --assemble: the array of this UUID, as --detail tells it.
    #[arg(long, short = 'u', requires = "assemble")]
    pub uuid: Option<String>,
    /// Take arrays that nobody uses out of service, until --assemble or the next start.
    #[arg(long, short = 'S', conflicts_with = "grow")]
    pub stop: bool,
    /// With --assemble and --stop: all arrays.
    #[arg(long, short = 's')]
    pub scan: bool,
    /// Change an array: with --size.
    #[arg(long, short = 'G', requires = "size")]
    pub grow: bool,
    /// With --grow: what is used of each member, in KiB or with K, M, G or T behind it; max: as much as the smallest has.
    #[arg(long, short = 'z', requires = "grow", value_name = "SIZE")]
    pub size: Option<String>,
    /// With --create: the level, as a number or a word.
    #[arg(long, short = 'l')]
    pub level: Option<String>,
    /// With --create: how many of the disks are members; the others are spares.
    #[arg(long, short = 'n')]
    pub raid_devices: Option<usize>,
    /// With --create: how many are spares.
    #[arg(long, short = 'x', default_value_t = 0)]
    pub spare_devices: usize,
    /// With --create: the chunk, in KiB or with a unit.
    #[arg(long, short = 'c')]
    pub chunk: Option<String>,
    /// With --create: the layout.
    #[arg(long, short = 'p', visible_alias = "parity")]
    pub layout: Option<String>,
    /// With --create: internal or none.
    #[arg(long, short = 'b', value_parser = ["internal", "none"])]
    pub bitmap: Option<String>,
    /// With --create: members are alike already.
    #[arg(long)]
    pub assume_clean: bool,
    /// With --create and --add: wipe what is on the disks.
    #[arg(long)]
    pub force: bool,
    /// Disks become spares.
    #[arg(long, short = 'a', num_args = 1.., value_name = "DISK")]
    pub add: Vec<String>,
    /// Members are given up.
    #[arg(long, short = 'f', num_args = 1.., value_name = "DISK", visible_alias = "set-faulty")]
    pub fail: Vec<String>,
    /// Disks without a place are free again: spares, members that failed; `failed`: all that have failed; `detached`: those that are gone, which are let go of without
    /// it.
    #[arg(long, short = 'r', num_args = 1.., value_name = "DISK")]
    pub remove: Vec<String>,
    /// Members that failed come back, and get what they have missed.
    #[arg(long, num_args = 1.., value_name = "DISK")]
    pub re_add: Vec<String>,
    /// Members are replaced by the disks of --with, while they serve.
    #[arg(long, num_args = 1.., value_name = "DISK", requires = "with")]
    pub replace: Vec<String>,
    /// With --replace: by which disks, one for each.
    #[arg(long, num_args = 1.., value_name = "DISK", requires = "replace")]
    pub with: Vec<String>,
    /// Check, repair, or idle: end what is done.
    #[arg(long, value_parser = ["check", "repair", "idle", "frozen"])]
    pub action: Option<String>,
    /// Wait until nothing is done to the array.
    #[arg(long, short = 'W')]
    pub wait: bool,
    /// Disks, with --examine and --examine-badblocks also files and devices; or the array and what it is made of.
    #[arg(value_name = "NAME", required_unless_present_any = ["scan", "uuid"])]
    pub names: Vec<String>,
}
