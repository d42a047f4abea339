//! What several disks are together: a volume group, its members and its volumes, in words that do not depend on the format.
//!
//! A format that spans disks proposes a *set* of tables over all its members at once: whether one volume can be had may depend on a disk
//! that came last. So its `taste` only says what one disk contributes ([`Member`]), and [`Format::assemble`](crate::format::Format::assemble)
//! looks at all contributions and says what they add up to. It is asked again whenever one comes, changes or goes.
use crate::{activation::Desires, format::Proposal, judge::Verdict, link, lvm2, md};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{collections::BTreeSet, ops::Deref, sync::Arc};

/// Something that hardly ever changes and that many keep: cheap to clone, and compared only where it is not the very same.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> From<T> for Shared<T> {
    fn from(one: T) -> Self {
        Self(Arc::new(one))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Shared<T> {
    /// One's own, to be changed.
    pub fn make_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }

    /// True if it is the very same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

/// What one disk contributes to a group. Compared to see whether anything has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Member {
    /// An LVM2 physical volume.
    Lvm2(Arc<lvm2::PhysicalVolume>),
    /// A child of a drive link.
    Link(Arc<link::Child>),
    /// A member of an MD array.
    Md(Arc<md::Device>),
    /// What a format of another tree has to say, in its own bytes.
    Other(Arc<[u8]>),
}

/// A disk that has something to contribute.
#[derive(Clone, Copy, Debug)]
pub struct Enrolled<'a> {
    /// Its name.
    pub disk: &'a str,
    /// Its length in blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// What it contributes.
    pub member: &'a Member,
    /// Volumes that were made of it are there already.
    pub carries: bool,
    /// It was there and is gone: what it contributes is what was read then.
    pub gone: bool,
}

/// What assembly is told besides the members.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// What the members added up to the last time. All of it that is the same may be taken from there, and nothing else follows from it.
    pub before: &'a [Group],
    /// Groups that have waited long enough for members that are not there, by the identities their formats give them.
    pub patient: &'a BTreeSet<String>,
    /// What the administrator wants of volume groups.
    pub lvm2: &'a lvm2::Settings,
    /// Which volumes somebody has asked to run, or not to.
    pub desires: &'a Desires,
}

/// How a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupState {
    /// Every member is there.
    Complete,
    /// Members are missing; what does not need them is active.
    Partial,
    /// It belongs to another host, or to nobody for the moment; nothing is touched.
    Foreign,
    /// Members are missing that were there when it was last used: it waits for them for a while.
    Waiting,
    /// Nobody can tell which disk or text is the right one: what is active stays, and nothing else becomes active.
    Ambiguous,
}

/// A place in a group for a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// The group's word for it: `pv0`.
    pub name: String,
    /// The identity the disk must have.
    pub id: String,
    /// The disk, unless it is missing.
    pub disk: Option<String>,
    /// Where it was seen last, by whoever wrote the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// Its extents.
    pub extents: u64,
    /// Those of them that volumes have.
    pub used: u64,
    /// Bytes before its first extent.
    pub start: u64,
    /// New volumes may use it.
    pub allocatable: bool,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Extents of a volume that are alike, as the metadata has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// First extent of the volume.
    pub start: u64,
    /// Extents.
    pub count: u64,
    /// Its type, as the format writes it.
    pub kind: String,
    /// Bytes in a chunk, if it is striped.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub chunk: u64,
    /// Where it lies, if that is known: the member's word and its first extent there, for each stripe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<(String, u64)>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What the metadata says of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogicalVolume {
    /// Its group.
    pub group: String,
    /// Its name in the group.
    pub name: String,
    /// Its identity, as the format writes it.
    pub id: String,
    /// Types of its segments.
    pub kinds: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its length.
    pub bytes: u64,
    /// Nobody may write to it.
    pub read_only: bool,
    /// It is left out when volumes become active.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// How it gets more extents, if it says so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<String>,
    /// Where it lies.
    pub segments: Vec<Stretch>,
}

/// A volume of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// The disk it is, or would be: `vg/lv`.
    pub disk: String,
    /// What the metadata says of it.
    #[serde(flatten)]
    pub what: Shared<LogicalVolume>,
    /// A part of another volume, which nobody uses by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Why it is not active, in a sentence that goes on from its name; nothing if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive: Option<String>,
    /// The node it wants to be.
    #[serde(skip)]
    pub node: Option<Shared<Proposal>>,
    /// If it is LVM2's: what it follows from, together with the group's basis.
    #[serde(skip)]
    pub source: Option<Arc<spec::lvm2::vg::LogicalVolume>>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The format that has made it.
    pub format: String,
    /// Its identity, as the format writes it.
    pub id: String,
    /// How it is.
    pub state: GroupState,
    /// Why, in one sentence that goes on from the name.
    pub reason: String,
    /// Number of the change that its metadata is of.
    pub seqno: u64,
    /// Bytes in an extent.
    pub extent_bytes: u64,
    /// What its metadata says of it in the format's own words: `RESIZEABLE`, `EXPORTED`, …
    pub status: Vec<String>,
    /// How volumes get their extents, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<String>,
    /// The host it belongs to, if it belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its members, the missing ones too.
    pub members: Vec<Seat>,
    /// Its volumes.
    pub volumes: Vec<Shared<Volume>>,
    /// What else an administrator should know.
    pub notes: Vec<String>,
    /// If it is LVM2's: what all its volumes follow from.
    #[serde(skip)]
    pub basis: Option<Shared<lvm2::assembly::Basis>>,
}

/// What assembly makes of one disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// In one word.
    pub verdict: Verdict,
    /// In one sentence, as [`Findings::reason`](crate::Findings::reason).
    pub reason: String,
    /// What else an administrator should know.
    pub notes: Vec<String>,
}

/// What all members of a format add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assembly {
    /// The groups, by name.
    pub groups: Vec<Group>,
    /// What it makes of each disk, by the disk's name.
    pub standings: Vec<(String, Standing)>,
}
