//! LVM2's commands and their options, as far as they are about linear and striped volumes.
use clap::{Args, Subcommand};

/// LVM2's commands, on the groups of the running target. Options are LVM2's; `--test` shows every sector first.
#[derive(Debug, Subcommand)]
pub enum LvmCommand {
    /// Report physical volumes.
    Pvs(Report),
    /// Report volume groups.
    Vgs(Report),
    /// Report logical volumes.
    Lvs(Report),
    /// Make disks physical volumes.
    Pvcreate(PvCreate),
    /// Take the labels of physical volumes away that are in no group.
    Pvremove(Disks),
    /// Let physical volumes have what their disks have now.
    Pvresize(PvResize),
    /// Say whether extents may be taken from physical volumes, and tag them.
    Pvchange(PvChange),
    /// Make a volume group.
    Vgcreate(VgCreate),
    /// Take disks into a group.
    Vgextend(VgDisks),
    /// Let disks go from a group, or give up those that are missing.
    Vgreduce(VgReduce),
    /// Give a group another name.
    Vgrename(Rename),
    /// Remove groups.
    Vgremove(Names),
    /// Change a group's tags and policies.
    Vgchange(VgChange),
    /// Mark groups as nobody's, so that their disks can go to another host.
    Vgexport(Names),
    /// Take exported groups in.
    Vgimport(Names),
    /// Make copies of a group's disks a group of their own, with other identities.
    Vgimportclone(VgImportClone),
    /// Make a group of some members of another one.
    Vgsplit(VgSplit),
    /// Take all of a group into another one.
    Vgmerge(VgMerge),
    /// Make a volume.
    Lvcreate(LvCreate),
    /// Make a volume larger.
    Lvextend(LvResize),
    /// Make a volume smaller.
    Lvreduce(LvResize),
    /// Give a volume another size.
    Lvresize(LvResize),
    /// Give a volume another name: `VG/OLD NEW`, or `VG OLD NEW`.
    Lvrename(LvRename),
    /// Remove volumes, or all of a group.
    Lvremove(Names),
    /// Change a volume's permission, tags and policies.
    Lvchange(LvChange),
}

/// What every command takes that changes something.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Change nothing: print what would be written.
    #[arg(short = 't', long)]
    pub test: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Do it even if something is lost; once is enough.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub force: u8,
    /// Make identities from this UUID: the same commands on the same disks write the same bytes.
    #[arg(long, value_name = "UUID")]
    pub seed: Option<uuid::Uuid>,
    /// The time that metadata says it was changed at, in seconds since 1970, instead of now.
    #[arg(long, value_name = "SECONDS")]
    pub time: Option<u64>,
}

/// `pvs`, `vgs`, `lvs`.
#[derive(Clone, Debug, Args)]
pub struct Report {
    /// Only these.
    pub names: Vec<String>,
    /// Fields, separated by commas; with + in front they are added to the usual ones.
    #[arg(short, long, value_name = "[+]FIELDS")]
    pub options: Vec<String>,
    /// Unit of sizes: r and h choose one; b s k m g t p e, in capitals for powers of 1000.
    #[arg(long, default_value = "r", value_name = "UNIT")]
    pub units: String,
    /// No letter behind sizes.
    #[arg(long)]
    pub nosuffix: bool,
    /// No headings.
    #[arg(long)]
    pub noheadings: bool,
    /// Between fields, instead of columns.
    #[arg(long, value_name = "TEXT")]
    pub separator: Option<String>,
    /// `json`, or `basic` columns.
    #[arg(long, value_parser = ["basic", "json"])]
    pub reportformat: Option<String>,
    /// Order by these fields; - in front of one turns it.
    #[arg(short = 'O', long, value_name = "FIELDS", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// With parts of volumes.
    #[arg(short, long)]
    pub all: bool,
    /// A line for each segment.
    #[arg(long)]
    pub segments: bool,
}

/// Disks.
#[derive(Clone, Debug, Args)]
pub struct Disks {
    /// Disks.
    #[arg(required = true)]
    pub disks: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `pvcreate`.
#[derive(Clone, Debug, Args)]
pub struct PvCreate {
    /// Disks.
    #[arg(required = true)]
    pub disks: Vec<String>,
    /// Metadata areas on each: 0, 1 or 2.
    #[arg(long, alias = "pvmetadatacopies")]
    pub metadatacopies: Option<u64>,
    /// Room for each of them.
    #[arg(long)]
    pub metadatasize: Option<String>,
    /// Extents start at a multiple of it.
    #[arg(long)]
    pub dataalignment: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `pvresize`.
#[derive(Clone, Debug, Args)]
pub struct PvResize {
    /// Disks.
    #[arg(required = true)]
    pub disks: Vec<String>,
    /// So much of the disk.
    #[arg(long)]
    pub setphysicalvolumesize: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `pvchange`.
#[derive(Clone, Debug, Args)]
pub struct PvChange {
    /// Disks.
    #[arg(required = true)]
    pub disks: Vec<String>,
    /// Whether extents may be taken from it.
    #[arg(short = 'x', long, value_parser = ["y", "n"])]
    pub allocatable: Option<String>,
    /// Tags to give.
    #[arg(long)]
    pub addtag: Vec<String>,
    /// Tags to take.
    #[arg(long)]
    pub deltag: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgcreate`.
#[derive(Clone, Debug, Args)]
pub struct VgCreate {
    /// Its name.
    pub name: String,
    /// Its members.
    #[arg(required = true)]
    pub disks: Vec<String>,
    /// Size of an extent; a number without a unit counts MiB.
    #[arg(short = 's', long)]
    pub physicalextentsize: Option<String>,
    /// Tags to give.
    #[arg(long)]
    pub addtag: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgextend`.
#[derive(Clone, Debug, Args)]
pub struct VgDisks {
    /// The group.
    pub name: String,
    /// Disks.
    #[arg(required = true)]
    pub disks: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgreduce`.
#[derive(Clone, Debug, Args)]
pub struct VgReduce {
    /// The group.
    pub name: String,
    /// Disks.
    #[arg(required_unless_present = "removemissing", conflicts_with = "removemissing")]
    pub disks: Vec<String>,
    /// Give up the members that are missing; with --force the volumes on them, too.
    #[arg(long)]
    pub removemissing: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgimportclone`.
#[derive(Clone, Debug, Args)]
pub struct VgImportClone {
    /// The copies: one of each physical volume of the group.
    #[arg(required = true)]
    pub disks: Vec<String>,
    /// What the new group is called.
    #[arg(short = 'n', long)]
    pub basevgname: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgrename`.
#[derive(Clone, Debug, Args)]
pub struct Rename {
    /// Its name or identity.
    pub old: String,
    /// What it shall be called.
    pub new: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgremove`, `vgexport`, `vgimport`, `lvremove`.
#[derive(Clone, Debug, Args)]
pub struct Names {
    /// What is to go.
    #[arg(required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgchange`.
#[derive(Clone, Debug, Args)]
pub struct VgChange {
    /// Groups.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Whether its volumes are active now, until the target ends: `y`, `n`, or `ay`: as the metadata says.
    #[arg(short = 'a', long, value_parser = ["y", "n", "ay", "ey", "sy", "ly", "en", "ln"])]
    pub activate: Option<String>,
    /// With -ay: also if they are marked to be left out.
    #[arg(short = 'K', long)]
    pub ignoreactivationskip: bool,
    /// Tags to give.
    #[arg(long)]
    pub addtag: Vec<String>,
    /// Tags to take.
    #[arg(long)]
    pub deltag: Vec<String>,
    /// Whether disks may join and leave.
    #[arg(short = 'x', long, value_parser = ["y", "n"])]
    pub resizeable: Option<String>,
    /// How volumes get their extents that say nothing else.
    #[arg(long)]
    pub alloc: Option<String>,
    /// Whether its volumes become active by themselves.
    #[arg(long, value_parser = ["y", "n"])]
    pub setautoactivation: Option<String>,
    /// The host it belongs to, nobody if it is empty. A group of another host's is taken over.
    #[arg(long)]
    pub systemid: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgsplit`.
#[derive(Clone, Debug, Args)]
pub struct VgSplit {
    /// The group that is split.
    pub from: String,
    /// The new one.
    pub to: String,
    /// Its members.
    #[arg(required = true)]
    pub disks: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `vgmerge`.
#[derive(Clone, Debug, Args)]
pub struct VgMerge {
    /// The group that takes the other in.
    pub into: String,
    /// The group that is no more.
    pub from: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `lvcreate`.
#[derive(Clone, Debug, Args)]
pub struct LvCreate {
    /// The group.
    pub group: String,
    /// Only on these members; DISK:FIRST-LAST for some extents of one.
    pub disks: Vec<String>,
    /// What it is called.
    #[arg(short, long)]
    pub name: Option<String>,
    /// How large it is; a number without a unit counts MiB.
    #[arg(short = 'L', long, conflicts_with = "extents", required_unless_present = "extents")]
    pub size: Option<String>,
    /// How large it is in extents, or as a share: 100, 50%VG, 100%FREE.
    #[arg(short = 'l', long)]
    pub extents: Option<String>,
    /// On how many disks its chunks lie in turn.
    #[arg(short = 'i', long)]
    pub stripes: Option<u64>,
    /// Size of a chunk; a number without a unit counts KiB.
    #[arg(short = 'I', long)]
    pub stripesize: Option<String>,
    /// `linear` or `striped`.
    #[arg(long = "type", value_parser = ["linear", "striped"])]
    pub kind: Option<String>,
    /// How extents are chosen.
    #[arg(long)]
    pub alloc: Option<String>,
    /// One run of extents.
    #[arg(short = 'C', long, value_parser = ["y", "n"])]
    pub contiguous: Option<String>,
    /// `r` or `rw`.
    #[arg(short, long, value_parser = ["r", "rw"])]
    pub permission: Option<String>,
    /// Whether its first 128 KiB are zeroed.
    #[arg(short = 'Z', long, value_parser = ["y", "n"])]
    pub zero: Option<String>,
    /// Whether signatures on it are wiped; zeroing does.
    #[arg(short = 'W', long, value_parser = ["y", "n"])]
    pub wipesignatures: Option<String>,
    /// Tags to give.
    #[arg(long)]
    pub addtag: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `lvextend`, `lvreduce`, `lvresize`.
#[derive(Clone, Debug, Args)]
pub struct LvResize {
    /// The volume, as GROUP/VOLUME.
    pub volume: String,
    /// Take extents from these members only.
    pub disks: Vec<String>,
    /// How large, or with + or - by how much; a number without a unit counts MiB.
    #[arg(
        short = 'L',
        long,
        conflicts_with = "extents",
        required_unless_present = "extents",
        allow_hyphen_values = true
    )]
    pub size: Option<String>,
    /// The same in extents, or as a share.
    #[arg(short = 'l', long, allow_hyphen_values = true)]
    pub extents: Option<String>,
    /// Stripes of what is added.
    #[arg(short = 'i', long)]
    pub stripes: Option<u64>,
    /// Size of a chunk of what is added; a number without a unit counts KiB.
    #[arg(short = 'I', long)]
    pub stripesize: Option<String>,
    /// How extents are chosen.
    #[arg(long)]
    pub alloc: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `lvrename`.
#[derive(Clone, Debug, Args)]
pub struct LvRename {
    /// `VG/OLD NEW`, or `VG OLD NEW`.
    #[arg(required = true, num_args = 2..=3)]
    pub names: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// `lvchange`.
#[derive(Clone, Debug, Args)]
pub struct LvChange {
    /// Volumes.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// `r` or `rw`.
    #[arg(short, long, value_parser = ["r", "rw"])]
    pub permission: Option<String>,
    /// Whether it is left out when volumes become active.
    #[arg(short = 'k', long, value_parser = ["y", "n"])]
    pub setactivationskip: Option<String>,
    /// Whether it becomes active by itself.
    #[arg(long, value_parser = ["y", "n"])]
    pub setautoactivation: Option<String>,
    /// How it gets more extents.
    #[arg(long)]
    pub alloc: Option<String>,
    /// Whether it is active now, until the target ends: `y`, `n`, or `ay`: as the metadata says.
    #[arg(short = 'a', long, value_parser = ["y", "n", "ay", "ey", "sy", "ly", "en", "ln"])]
    pub activate: Option<String>,
    /// With -ay: also if it is marked to be left out.
    #[arg(short = 'K', long)]
    pub ignoreactivationskip: bool,
    /// Tags to give.
    #[arg(long)]
    pub addtag: Vec<String>,
    /// Tags to take.
    #[arg(long)]
    pub deltag: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}
