//! mdadm's options, as far as they are known here.
use clap::Args;

/// `ashlar mdadm`: one mode, or what is to be done to the array that is named first.
#[derive(Debug, Args)]
pub struct MdadmArgs {
    /// What the superblocks of members say.
    #[arg(long, short = 'E', conflicts_with_all = ["create", "detail"])]
    pub examine: bool,
    /// How arrays are.
    #[arg(long, short = 'D', conflicts_with = "create")]
    pub detail: bool,
    /// Make an array: `--create /dev/md/NAME --level=5 --raid-devices=3 DISK...`
    #[arg(long, short = 'C', requires = "level", requires = "raid_devices")]
    pub create: bool,
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
    /// Check, repair, or idle: end what is done.
    #[arg(long, value_parser = ["check", "repair", "idle", "frozen"])]
    pub action: Option<String>,
    /// Wait until nothing is done to the array.
    #[arg(long, short = 'W')]
    pub wait: bool,
    /// Disks, with --examine also files and devices; or the array and what it is made of.
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}
