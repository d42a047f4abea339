//! The schema: what a configuration file may say. Every key has one meaning, an unknown key is an error, and what is left out has the default
//! that stands beside it. `docs/configuration.md` and `config/examples/` show it from the user's side.
pub use crate::arrays::{Array, Scrub};
pub use crate::nvme::{Host, Keys, Listener};
use crate::units::{Size, Span};
use bdev::module::error::Injection;
use lvol::{lvm2::Activation, scope::Glob};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use spec::iscsi::chap::Algorithm;
use std::{fmt, net::SocketAddr, ops::Deref, path::PathBuf};
use uuid::Uuid;

/// A value and where in the file it stands. Two are equal if their values are.
#[derive(Clone, Copy, Default)]
pub struct At<T> {
    value: T,
    /// Line, from 1; 0 if it comes from no file.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

impl<T> From<T> for At<T> {
    fn from(value: T) -> Self {
        Self {
            value,
            line: 0,
            column: 0,
        }
    }
}
impl From<&str> for At<String> {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}
impl<T> Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
impl<T: fmt::Debug> fmt::Debug for At<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
            value: spanned.value,
        })
    }
}
impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where files named without a leading `/` are, and what Ashlar keeps itself. Relative to where Ashlar is started.
    /// Default: `$XDG_STATE_HOME/ashlar`, else `~/.local/state/ashlar`, else `./ashlar-state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// How many threads do the work, and how.
    #[serde(skip_serializing_if = "is_default")]
    pub reactors: Reactors,
    /// Where the engine runs, which finds out what is on disks and changes it. Default: process.
    #[serde(skip_serializing_if = "is_default")]
    pub engine: EngineIn,
    /// What is wanted of LVM2's volume groups.
    #[serde(skip_serializing_if = "is_default")]
    pub lvm2: Lvm2,
    /// Which disks are looked into.
    #[serde(skip_serializing_if = "is_default")]
    pub discovery: Discovery,
    /// What is wanted of arrays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<Array>,
    /// How the running target is asked.
    #[serde(skip_serializing_if = "is_default")]
    pub rpc: Rpc,
    /// How much is logged. Default: info.
    #[serde(skip_serializing_if = "is_default")]
    pub log: Log,
    /// Where changes by RPC are written down.
    #[serde(skip_serializing_if = "is_default")]
    pub audit: Audit,
    /// What holds the data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// What stands on disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
    /// What hosts get, the short way: one target node and one subsystem for each volume, named after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What hosts get, the long way, and where they connect.
    #[serde(skip_serializing_if = "is_default")]
    pub targets: Targets,
}

/// Reactors: the threads that move data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reactors {
    /// How many, on no particular core. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<At<usize>>,
    /// One on each of these cores, instead of `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<At<Vec<usize>>>,
    /// What a reactor does when there is nothing to do. Default: adaptive.
    #[serde(skip_serializing_if = "is_default")]
    pub poll: Poll,
    /// The most memory for data in flight and memory disks. Default: half of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<At<Size>>,
    /// Whether to take that memory in huge pages. Default: auto.
    #[serde(skip_serializing_if = "is_default")]
    pub huge_pages: HugePages,
    /// How to reach the kernel. Default: auto.
    #[serde(skip_serializing_if = "is_default")]
    pub io: Io,
}

/// Where the engine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineIn {
    /// In a process of its own: when it fails, hosts do not notice, and another one takes its place.
    #[default]
    Process,
    /// In the process that serves hosts.
    Inside,
}

/// Volume groups of LVM2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lvm2 {
    /// The system id of this machine. Groups that have it are used, and new ones get it. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_id: Option<At<String>>,
    /// What becomes active of a group that lacks physical volumes. Default: degraded.
    #[serde(skip_serializing_if = "is_default")]
    pub activation: Activation,
}

impl From<&Lvm2> for lvol::lvm2::Settings {
    fn from(wanted: &Lvm2) -> Self {
        Self {
            system_id: wanted.system_id.as_deref().cloned(),
            activation: wanted.activation,
        }
    }
}

/// Which disks discovery looks into and uses: globs over names, aliases and paths of files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// Disks that one of these matches. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<At<String>>>,
    /// But none that one of these matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<At<String>>,
}

impl From<&Discovery> for lvol::Scope {
    fn from(wanted: &Discovery) -> Self {
        // Checked: each is a glob.
        let globs = |list: &Vec<At<String>>| list.iter().filter_map(|text| Glob::new(text).ok()).collect();
        Self {
            include: wanted.include.as_ref().map(globs),
            exclude: globs(&wanted.exclude),
        }
    }
}

impl From<&Config> for lvol::Settings {
    /// What is logged is said by whoever has the log.
    fn from(wanted: &Config) -> Self {
        Self {
            log: String::new(),
            lvm2: (&wanted.lvm2).into(),
            discovery: (&wanted.discovery).into(),
            patience: crate::arrays::patience(&wanted.arrays),
        }
    }
}

/// What an idle reactor does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Poll {
    /// Spins for ever.
    Busy,
    /// Spins a little, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once.
    Interrupt,
}

/// Whether huge pages are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// When there are any.
    #[default]
    Auto,
    /// Not even then.
    Never,
}

/// The way to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// io_uring where it is allowed, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll, and a few threads for files.
    Epoll,
}

/// The RPC server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rpc {
    /// Its Unix socket. Relative to the state directory. Default: `ashlar.sock` in `$XDG_RUNTIME_DIR`, else in `/tmp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// Levels of logging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// What failed.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what changed.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

/// The audit log: who has changed what by RPC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Its file, relative to the state directory. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The size at which it becomes `FILE.1` and a new one is begun. Default: 64MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<At<Size>>,
}

impl Audit {
    /// The limit without another.
    pub const LIMIT: u64 = 64 << 20;
}

/// A disk: exactly one of `file`, `device`, `memory` and `void`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its name.
    pub name: At<String>,
    /// A file, relative to the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// With `file`: make it, sparse and this long, if it is not there. Never changes a file that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<At<Size>>,
    /// A block device of the kernel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PathBuf>,
    /// Memory of this size; gone when Ashlar stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<At<Size>>,
    /// Nothing of this size: forgets writes and reads as zeroes. For measurements. (`null` would mean something else in YAML.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void: Option<At<Size>>,
    /// 512 or 4096. Default: what the device says, else 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<At<u32>>,
    /// Refuse writes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// With `file` or `device`: past the kernel's page cache or through it. Default: auto.
    #[serde(default, skip_serializing_if = "is_default")]
    pub direct: bdev::table::Direct,
    /// Its identity for hosts. Default: one that follows from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}

/// Something that stands on disks: exactly one of the module names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: At<String>,
    /// Pieces of disks, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear: Option<Vec<Segment>>,
    /// Chunks in turn on each of several disks (RAID-0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe: Option<Stripe>,
    /// Answers late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Answers wrongly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Faulty>,
    /// Counts, and keeps latency histograms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Over>,
    /// Encrypts what is on the disk: AES-XTS, each block with its number as tweak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crypt: Option<Crypt>,
    /// Another name for the same disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passthru: Option<Over>,
    /// Its identity for hosts. Default: one that follows from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}

/// A piece of a disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The disk.
    pub on: At<String>,
    /// Where it starts. Default: at the start of the disk.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: At<Size>,
    /// How long it is. Default: to the end of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<At<Size>>,
}

/// A stripe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stripe {
    /// The members, in order.
    pub on: At<Vec<At<String>>>,
    /// How much goes to one before it is the next one's turn. Default: 64KiB.
    #[serde(default = "chunk")]
    pub chunk: At<Size>,
}

fn chunk() -> At<Size> {
    Size(64 << 10).into()
}

/// A delay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// The disk.
    pub on: At<String>,
    /// Added to a read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read: Span,
    /// Added to one read in a hundred instead. Default: as `read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_p99: Option<Span>,
    /// Added to a write.
    #[serde(default, skip_serializing_if = "is_default")]
    pub write: Span,
    /// Added to one write in a hundred instead. Default: as `write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_p99: Option<Span>,
}

/// A disk with faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faulty {
    /// The disk.
    pub on: At<String>,
    /// What goes wrong from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inject: Vec<Injection>,
}

/// An encrypted disk: exactly one of `key_file` and `random_key`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crypt {
    /// The disk.
    pub on: At<String>,
    /// The file of its key, relative to the state directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// 128 or 256: a key of so many bits is drawn whenever Ashlar starts. What was written before is gone then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_key: Option<At<u16>>,
}

/// Something over one disk that has no further parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Over {
    /// The disk.
    pub on: At<String>,
}

/// A volume, the short way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name; hosts see `iqn.2026-11.io.ashlar:NAME` and `nqn.2026-11.io.ashlar:NAME`. Default: what `on` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<At<String>>,
    /// The disk or table it is, or a partition of a disk, say `disk-ap2`, or a volume of a volume group, say `vg/lv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<At<String>>,
    /// Instead of `name` and `on`: every partition found on this disk, each as a volume of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions_of: Option<At<String>>,
    /// Likewise: every volume of this LVM2 volume group that can be activated, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lvs_of: Option<At<String>>,
    /// The protocols. Default: both.
    #[serde(default = "both", skip_serializing_if = "is_both")]
    pub over: Vec<Protocol>,
}

fn both() -> Vec<Protocol> {
    vec![Protocol::Iscsi, Protocol::Nvme]
}
fn is_both(over: &[Protocol]) -> bool {
    over == both()
}

/// A protocol hosts speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// iSCSI.
    Iscsi,
    /// NVMe/TCP.
    Nvme,
}

/// The front ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// iSCSI.
    #[serde(skip_serializing_if = "is_default")]
    pub iscsi: Iscsi,
    /// NVMe/TCP.
    #[serde(skip_serializing_if = "is_default")]
    pub nvme: Nvme,
}

/// The iSCSI front end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Iscsi {
    /// Where it listens: portal group 1. Default, if there is anything to serve: 127.0.0.1:3260.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portals: Option<Vec<At<SocketAddr>>>,
    /// Further portal groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub portal_groups: Vec<PortalGroup>,
    /// Hosts and their secrets, for CHAP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub auth_groups: Vec<AuthGroup>,
    /// What a host must prove before it is told which targets there are. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_auth: Option<Auth>,
    /// The hashes hosts may use for CHAP. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chap_algorithms: Option<At<Vec<Algorithm>>>,
    /// Most sessions at once. Default: 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<At<u32>>,
    /// Target nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
}

/// Addresses of the iSCSI front end that belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalGroup {
    /// Its tag, from 2; 1 is `portals`.
    pub tag: At<u32>,
    /// Its addresses.
    pub portals: Vec<At<SocketAddr>>,
    /// Told in discovery only to those who came through it: where others are sent on to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub private: bool,
    /// What discovery through it takes. Default: `discovery_auth` of the front end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery_auth: Option<Auth>,
}

/// Hosts and their secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthGroup {
    /// Its number, from 1.
    pub tag: At<u32>,
    /// Who is in it.
    pub users: Vec<User>,
}

/// A host's name and secret. Secrets are never in this file, but each in a file of its own that only its owner may read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What the host calls itself.
    pub user: At<String>,
    /// The file of its secret, relative to the state directory.
    pub secret_file: PathBuf,
    /// What the target calls itself towards this host, and its own secret's file. Default: it does not prove itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<Mutual>,
}

/// The target's own name and secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutual {
    /// What the target calls itself.
    pub user: At<String>,
    /// The file of its secret, relative to the state directory.
    pub secret_file: PathBuf,
}

/// What a host must prove.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The group its secret is in.
    pub group: At<u32>,
    /// Whether it must. If not, it may come without a name, too.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub require: bool,
    /// Whether the target proves itself as well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mutual: bool,
}

fn yes() -> bool {
    true
}
fn is_yes(value: &bool) -> bool {
    *value
}

/// Where hosts are sent on to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Those that came through this portal group. Default: 1.
    #[serde(default = "group_one")]
    pub portal_group: At<u32>,
    /// The portal they shall use instead.
    pub to: At<SocketAddr>,
    /// For good, so that they may remember it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub permanent: bool,
}

/// How well a portal group reaches the LUNs of a target node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alua {
    /// Which. Default: 1.
    #[serde(default = "group_one")]
    pub portal_group: At<u32>,
    /// Its asymmetric access state. Default: active_optimized.
    #[serde(default, with = "target::iscsi::StateName", skip_serializing_if = "is_default")]
    pub state: target::iscsi::AccessState,
    /// Hosts should rather use this one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub preferred: bool,
}

/// An iSCSI target node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its IQN.
    pub name: At<String>,
    /// A name for people. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// What hosts find in it.
    pub luns: Vec<Lun>,
    /// Who may use it from where. Default: everybody, through every portal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<Access>>,
    /// What a host must prove. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Where hosts are sent on to. Default: nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect: Vec<Redirect>,
    /// Portal groups that are not simply active. Default: all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alua: Vec<Alua>,
    /// Hosts may set these states themselves (SET TARGET PORT GROUPS).
    #[serde(default, skip_serializing_if = "is_default")]
    pub explicit_alua: bool,
}

/// A logical unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lun {
    /// Its number.
    pub lun: At<u16>,
    /// The disk, table or partition.
    pub volume: At<String>,
    /// How hosts see it.
    #[serde(flatten)]
    pub options: target::iscsi::LunOptions,
}

/// A way to a target node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Through which portal group. Default: 1.
    #[serde(default = "group_one")]
    pub portal_group: At<u32>,
    /// Names of the hosts. Default: any.
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub initiators: Vec<String>,
    /// Addresses of the hosts, as `10.0.0.0/8`. Default: any.
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub netmasks: Vec<String>,
}

fn group_one() -> At<u32> {
    1.into()
}
fn any() -> Vec<String> {
    vec!["ANY".into()]
}
fn is_any(list: &[String]) -> bool {
    list == ["ANY"]
}

/// The NVMe/TCP front end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nvme {
    /// Where it listens. Default, if there is anything to serve: 127.0.0.1:4420.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<At<Listener>>>,
    /// Keys by name, for authentication and TLS. They are never in this file, but each in a file of its own that only its owner may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    /// Hosts on the link find the discovery service by multicast DNS. Default: no.
    #[serde(skip_serializing_if = "is_default")]
    pub mdns: bool,
    /// Hosts that connect to a subsystem twice: `allow`, or `restrict_per_listener`. Default: allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dup_host_policy: Option<At<String>>,
    /// Subsystems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subsystems: Vec<Subsystem>,
}

/// An NVMe subsystem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsystem {
    /// Its NQN.
    pub nqn: At<String>,
    /// Serial number, at most 20 characters. Default: one that follows from the NQN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<At<String>>,
    /// Model, at most 40 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<At<String>>,
    /// What hosts find in it.
    pub namespaces: Vec<Namespace>,
    /// The hosts that may connect: NQNs, or maps with keys. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<At<Host>>>,
    /// Where it can be reached. Default: at every address of `targets.nvme.listeners`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<At<Listener>>>,
    /// Smallest controller id. Processes that serve one subsystem together need ranges that do not meet. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_cntlid: Option<At<u16>>,
    /// Largest controller id, up to 65519. Default: 65519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cntlid: Option<At<u16>>,
    /// Other processes serve it, too: hosts get no reservations and no fused commands. Default: yes if controller ids are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// Hosts may reset the whole subsystem (NSSR). Default: no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub enable_nssr: bool,
}

impl Subsystem {
    /// Whether other processes serve it, too: who limits controller ids does so for them.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
            .unwrap_or(self.min_cntlid.is_some() || self.max_cntlid.is_some())
    }
}

/// A key by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What hosts of subsystems refer to.
    pub name: At<String>,
    /// Its file, relative to the state directory.
    pub file: PathBuf,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its number, from 1.
    pub nsid: At<u32>,
    /// The disk, table or partition.
    pub volume: At<String>,
    /// The hosts that see it, of those that may connect: NQNs. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<At<String>>>,
}
