//! What a plan may look at: the disks as discovery sees them, and their bytes. In the running engine that is the graph; a test has images.
use super::verb::Kind;
use crate::{Group, Partition, Verdict, lvm2::Settings, plugin::Registry, probe::Reading};
use spec::Extent;
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

/// What there is to know of a disk before one changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
    /// Length in blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// Bytes that the disk writes at once.
    pub physical_block_size: u32,
    /// True if it cannot be written to.
    pub read_only: bool,
    /// What discovery made of it.
    pub verdict: Verdict,
    /// Why, in one sentence that goes on from the name.
    pub reason: String,
    /// The format that claimed it.
    pub format: Option<&'static str>,
    /// Signatures on it, in plain words.
    pub signatures: Vec<String>,
    /// What discovery made of it: partitions.
    pub parts: Vec<String>,
    /// Volumes of groups that stand on it.
    pub volumes: Arc<BTreeSet<String>>,
    /// If it is a partition: what its table says.
    pub partition: Option<Partition>,
    /// It is, or lies on, a volume of a group: what is on it is the business of whoever uses that.
    pub on_volume: bool,
    /// Who uses it as it is, in words: hosts, a node that somebody built on it. What discovery made of it does not count.
    pub user: Option<String>,
}

impl Facts {
    /// What discovery made on it: its partitions, and volumes that stand on it.
    pub fn carried(&self) -> impl Iterator<Item = &String> {
        self.parts.iter().chain(&*self.volumes)
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }
}

/// The disks.
pub trait Disks: Send + Sync {
    /// Who knows what is on them, and what can be done to it.
    fn registry(&self) -> &Registry {
        Registry::builtin()
    }
    /// Every disk's name.
    fn names(&self) -> Vec<String>;
    /// One disk by name, alias or UUID.
    fn facts(&self, name: &str) -> Option<Facts>;
    /// What an object is besides a disk: a group, a volume of one, a link.
    fn other_kinds(&self, object: &str) -> Vec<Kind> {
        kinds_among(&self.groups(), object)
    }
    /// Every group of disks.
    fn groups(&self) -> Vec<Group>;
    /// Why a disk is left alone, in a sentence that goes on from its name; nothing if it may be changed.
    fn left_alone(&self, disk: &str) -> Option<String> {
        let _ = disk;
        None
    }
    /// The groups of this name or identity.
    fn groups_called(&self, name: &str) -> Vec<Group> {
        let mut groups = self.groups();
        groups.retain(|group| group.name == name || group.id == name);
        groups
    }
    /// Blocks of a disk; the caller has checked that they are there, and asks for at most [`READ_MAX`](crate::probe::READ_MAX) bytes.
    fn read<'a>(&'a self, name: &'a str, extent: Extent) -> Reading<'a>;
    /// What the administrator wants of volume groups.
    fn lvm2(&self) -> Settings {
        Settings::default()
    }
    /// A text that was archived: of this group, before the change of this number.
    fn archived(&self, group: &str, seqno: u64) -> Option<Vec<u8>>;
    /// The changes of a group whose texts are archived, oldest first.
    fn archive(&self, group: &str) -> Vec<u64>;
}

/// What an object is among these groups.
pub(crate) fn kinds_among(groups: &[Group], object: &str) -> Vec<Kind> {
    let mut kinds = BTreeSet::new();
    for group in groups {
        let named = group.name == object || group.id == object;
        let has = || group.volumes.iter().any(|volume| volume.disk == object);
        let kind = match group.format.as_str() {
            // A link, or an array, is its only volume.
            "link" => (named || has()).then_some(Kind::Link),
            "md" => (named || has()).then_some(Kind::Array),
            _ if named => Some(Kind::Group),
            _ => has().then_some(Kind::Volume),
        };
        kinds.extend(kind);
    }
    kinds.into_iter().collect()
}
