//! The command line: what can be asked for, and the help that teaches it.
use clap::{Args, Parser, Subcommand, ValueEnum};
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

/// `ashlar serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration (YAML). Without one the target starts empty and waits to be provisioned by RPC.
    pub config: Option<PathBuf>,
    /// Do not initialise the subsystems until `framework_start_init` is called, as SPDK's applications do.
    #[arg(long)]
    pub wait_for_rpc: bool,
    /// How many reactors (polling threads) to run. Overrides the configuration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub reactors: Option<u16>,
    /// What a reactor without work does: `busy` spins, `adaptive` spins a little and then sleeps, `interrupt` sleeps at once.
    #[arg(long, value_enum)]
    pub poll: Option<PollArg>,
    /// How to reach the kernel. `auto` takes io_uring and falls back to epoll with a small thread pool.
    #[arg(long, value_enum, env = "ASHLAR_IO")]
    pub io: Option<IoArg>,
    /// Say more: -v for debug messages of Ashlar, -vv for those of its libraries too. `ASHLAR_LOG` takes full filters.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// `ashlar engine`: its standard input and output are sockets to the process that serves hosts.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// The state directory.
    #[arg(long)]
    pub state: PathBuf,
    /// What is wanted, in JSON: what is logged, of volume groups, and which disks are looked into.
    #[arg(long)]
    pub settings: String,
}

/// Polling discipline as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PollArg {
    /// Spin for ever: lowest latency, one whole CPU a reactor.
    Busy,
    /// Spin while there is work and a little longer, then sleep in the kernel.
    Adaptive,
    /// Sleep as soon as nothing is ready.
    Interrupt,
}

/// I/O back end as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IoArg {
    /// io_uring if the kernel lets us, else epoll.
    Auto,
    /// io_uring or fail.
    Uring,
    /// epoll for sockets, a thread pool for files.
    Epoll,
}

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

/// `ashlar disk`.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// List disks, partitions and what stands on them, with the verdict of discovery.
    #[command(alias = "list")]
    Ls,
    /// One disk: size, blocks, table, partitions, claims, signatures found.
    Show {
        /// Its name, alias or UUID.
        name: String,
    },
    /// Make a file with a fresh random key for an encrypted disk (AES-XTS), readable by its owner only. Nothing is printed but its name.
    /// Name it in `tables[].crypt.key_file`, or in `accel_crypto_key_create`. Without it what is on the disk is lost: keep a copy, but know that
    /// SANITIZE CRYPTOGRAPHIC ERASE puts another key into the file, and is worth nothing where a copy of the old one is kept.
    Key {
        /// The file; it must not be there.
        file: PathBuf,
        /// Length of the key: AES-128 or AES-256.
        #[arg(long, default_value_t = 256, value_parser = key_bits)]
        bits: u16,
    },
}

fn key_bits(text: &str) -> Result<u16, String> {
    match text {
        "128" => Ok(128),
        "256" => Ok(256),
        _ => Err("expected 128 or 256".into()),
    }
}

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

/// `ashlar label`.
#[derive(Debug, Subcommand)]
pub enum LabelCommand {
    /// Make an empty partition table on a disk.
    #[command(
        after_help = "A disk that is not blank is refused unless --force is given; then its table, its partitions and every signature at its \
                            two ends go. Partitions that are in use stay in the way. `ashlar plan undo` takes it back."
    )]
    Create {
        /// The disk.
        disk: String,
        /// Which kind; `dos` is a master boot record.
        #[arg(long, value_parser = ["gpt", "dos", "sun", "sgi", "mac", "bsd", "amiga", "atari"], default_value = "gpt")]
        scheme: String,
        /// The disk's GUID, or for `dos` its signature in hexadecimal; fresh by default.
        #[arg(long)]
        id: Option<String>,
        /// Replace what is on the disk.
        #[arg(long)]
        force: bool,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Give a disk that is a copy of another identities of its own.
    #[command(
        after_help = "On a GPT the disk and all of its partitions get new GUIDs, so none of them may be in use; on an MBR the disk gets a new \
                            signature. What is in the partitions stays as it is, file systems' own identities too."
    )]
    Identify {
        /// The disk.
        disk: String,
        /// The disk's GUID, or on an MBR its signature in hexadecimal; fresh by default.
        #[arg(long)]
        id: Option<String>,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Make both copies of a GPT sound, with the backup at the end of a disk that has grown, and the MBR protect it; or let block 0 lead to an Apple map
    /// again, and make its counts and free space right.
    Repair {
        /// The disk.
        disk: String,
        /// Make a hybrid MBR a plain protective one.
        #[arg(long)]
        protective: bool,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Take the table off a disk. What is in its partitions stays where it is.
    Remove {
        /// The disk.
        disk: String,
        /// How.
        #[command(flatten)]
        how: How,
    },
}

/// `ashlar partition`.
#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// List partitions, of one disk or of all that have a GPT or an MBR. Those that are not served are listed, too.
    #[command(alias = "list")]
    Ls {
        /// Only this disk.
        disk: Option<String>,
    },
    /// Make a partition: by default of all of the largest gap, at a whole MiB.
    #[command(
        after_help = "Sizes have a unit: 512m, 10g, 8192s (sectors of 512 bytes), 4096b.\n\nExamples:\n  \
                            ashlar partition create disk0 --size 100g --type lvm --name data\n  \
                            ashlar partition create disk0 --dry-run                 show every sector that would be written"
    )]
    Create(PartitionCreate),
    /// Take a partition out of its table. What is on it stays where it is, and `ashlar plan undo` brings it back.
    Delete {
        /// The partition, for example disk0p1.
        partition: String,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Move the end of a partition, as far as there is room by default. Growing is possible while hosts use it.
    Resize {
        /// The partition, for example disk0p1.
        partition: String,
        /// Its new length, or a difference: 10g, +1g, -512m.
        #[arg(long, allow_hyphen_values = true)]
        size: Option<String>,
        /// Where it ends on its disk, instead of a size.
        #[arg(long, conflicts_with = "size")]
        end: Option<String>,
        /// How.
        #[command(flatten)]
        how: How,
    },
    /// Change what the table says of a partition.
    Change(PartitionChange),
}

/// `ashlar partition create`.
#[derive(Debug, Args)]
pub struct PartitionCreate {
    /// The disk.
    pub disk: String,
    /// Its length.
    #[arg(long)]
    pub size: Option<String>,
    /// Where it starts.
    #[arg(long)]
    pub start: Option<String>,
    /// Where it ends, instead of a size.
    #[arg(long, conflicts_with = "size")]
    pub end: Option<String>,
    /// Its number; the lowest free one by default.
    #[arg(long)]
    pub number: Option<u32>,
    /// linux, swap, uefi, raid, lvm, home; a GUID on a GPT, two hexadecimal digits on an MBR.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// On an MBR: in the record, as the container of logical partitions, or inside of that.
    #[arg(long, value_parser = ["primary", "extended", "logical"])]
    pub place: Option<String>,
    /// On a GPT: its name.
    #[arg(long)]
    pub name: Option<String>,
    /// On a GPT: its GUID; fresh by default.
    #[arg(long)]
    pub guid: Option<String>,
    /// On a GPT: RequiredPartition, NoBlockIOProtocol, LegacyBIOSBootable, or bits from 48 to 63.
    #[arg(long, value_delimiter = ',')]
    pub attributes: Option<Vec<String>>,
    /// Mark it as the one that old firmware boots from.
    #[arg(long)]
    pub bootable: bool,
    /// Wipe signatures of file systems and the like that lie where it starts and ends.
    #[arg(long)]
    pub wipe: bool,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// `ashlar partition change`.
#[derive(Debug, Args)]
pub struct PartitionChange {
    /// The partition, for example disk0p1.
    pub partition: String,
    /// Its type, as for `partition create`.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// On a GPT: its name.
    #[arg(long)]
    pub name: Option<String>,
    /// On a GPT: its GUID. Hosts then take it for another disk.
    #[arg(long)]
    pub guid: Option<String>,
    /// On a GPT: all of its attributes; an empty text for none.
    #[arg(long, value_delimiter = ',')]
    pub attributes: Option<Vec<String>>,
    /// Mark it as the one that old firmware boots from, or not.
    #[arg(long, value_name = "BOOL")]
    pub bootable: Option<bool>,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// `ashlar sfdisk`.
#[derive(Debug, Args)]
pub struct Sfdisk {
    /// The disk.
    pub disk: String,
    /// Print what sfdisk takes as a script.
    #[arg(long, short)]
    pub dump: bool,
    /// With a script: replace what is on the disk.
    #[arg(long, short)]
    pub force: bool,
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

/// `ashlar target`.
#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// List iSCSI target nodes and NVMe subsystems with portals, hosts allowed and hosts connected.
    #[command(alias = "list")]
    Ls,
    /// Who is connected, from where and with which parameters; the units, their options and reservations.
    Show {
        /// An IQN or NQN, or what follows its last colon. Default: every target.
        name: Option<String>,
    },
    /// Set how well the portals of a group reach an iSCSI target's LUNs. Hosts with multipath follow within seconds.
    SetAlua(SetAlua),
    /// Make a file with a fresh random secret for CHAP, readable by its owner only. Nothing is printed but its name.
    Secret {
        /// The file; it must not be there.
        file: PathBuf,
        /// How random: 96 bits are 16 characters, the most that Windows takes; 128 bits are 22.
        #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u16).range(96..=256))]
        bits: u16,
    },
    /// Make a file with a fresh random key for NVMe hosts, readable by its owner only, as `nvme gen-tls-key` and `nvme
    /// gen-dhchap-key` make them. Nothing is printed but its name. Give it a name in `targets.nvme.keys`, or by
    /// `keyring_file_add_key`, and the same key to the host.
    Key {
        /// What it is for: a secure channel (the host's `psk`) or in-band authentication (its `dhchap_key`).
        #[arg(value_enum)]
        kind: KeyKind,
        /// The file; it must not be there.
        file: PathBuf,
        /// The hash that it is made for; with TLS, SHA-384 also means AES-256. `none`: 32 bytes that are used as they are.
        #[arg(long, value_enum, default_value_t = KeyHash::Sha256)]
        hash: KeyHash,
    },
}

/// What a key is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum KeyKind {
    Tls,
    Dhchap,
}

/// The hash of a key.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum KeyHash {
    None,
    Sha256,
    Sha384,
    Sha512,
}

/// `ashlar target set-alua`.
#[derive(Debug, Args)]
pub struct SetAlua {
    /// IQN of the target.
    pub name: String,
    /// Tag of the portal group.
    pub portal_group: u32,
    /// The state its ports shall have.
    #[arg(value_parser = ["active_optimized", "active_non_optimized", "standby", "unavailable", "offline", "transitioning"])]
    pub state: String,
    /// Hosts should rather use it (true), or need not (false).
    #[arg(long, value_name = "BOOL")]
    pub preferred: Option<bool>,
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
