//! Formats: set-up knowledge of on-disk metadata. One trait; the list is the [`Registry`](crate::plugin::Registry).
//!
//! A format is asked in the order of [`Registry::formats`](crate::plugin::Registry::formats) and the first that says [`Taste::Mine`] is proposed
//! as the owner; [`judge`](crate::judge) decides whether anything else on the disk speaks against it. Adding one means writing a file, and a line in
//! `plugin/builtin.rs`; or, outside this tree, handing a plug-in to the engine (docs/writing-a-format.md).
use crate::{
    group::{Assembly, Enrolled, Given, LogicalVolume, Member, Shared},
    part::Partition,
    probe::{Probe, ReadError},
};
use bdev::Table;
use std::{future::Future, ops::Range, pin::Pin};
use uuid::Uuid;

/// A node that a format wants to have in the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What it shall be called.
    pub name: String,
    /// Its own identity if the format keeps one, else one derived from the disk's.
    pub uuid: Uuid,
    /// Further names, e.g. the identity of the partition.
    pub aliases: Vec<String>,
    /// What it is made of; mentions only disks the format has claimed.
    pub table: Table,
    /// What it is, for `bdev_get_bdevs`.
    pub product: &'static str,
    /// If it is a partition: what its table says of it.
    pub partition: Option<Partition>,
    /// If it is a volume of a group: what the group's metadata says of it.
    pub volume: Option<Shared<LogicalVolume>>,
}

/// A disk that belongs to a format.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mine {
    /// In a few words: "GPT with 3 partitions".
    pub what: String,
    /// The nodes on it.
    pub nodes: Vec<Proposal>,
    /// What it contributes to a group, if the format spans disks. Then it is [`Format::assemble`] that decides what becomes of it.
    pub member: Option<Member>,
    /// Bytes of the disk that are inside of what it contributes to: what is found there is not the disk's.
    pub covers: Vec<Range<u64>>,
    /// What a careful administrator would want to know: damage that was worked around, entries that are not served.
    pub notes: Vec<String>,
}

/// How a disk tastes to a format.
#[derive(Clone, Debug, PartialEq)]
pub enum Taste {
    /// Nothing of this format.
    No,
    /// Something of this format that cannot or must not be used, and why.
    Traces(String),
    /// A disk of this format.
    Mine(Mine),
}

/// A taste that is on its way.
pub type Tasting<'a> = Pin<Box<dyn Future<Output = Result<Taste, ReadError>> + Send + 'a>>;

/// Places of metadata that are being found.
pub type Locating<'a> = Pin<Box<dyn Future<Output = Result<Vec<Range<u64>>, ReadError>> + Send + 'a>>;

/// Set-up knowledge of one metadata format.
pub trait Format: Send + Sync {
    /// The word under which it claims disks.
    fn name(&self) -> &'static str;
    /// Looks at a disk. Reads only; an error means that the disk could not be read where it mattered.
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a>;
    /// Bytes of a disk of this format that are its metadata, for a copy of them (`backup`): in the order in which they are read, so that what leads to the rest
    /// is first. Unless a format knows better, it is what it reads to know the disk again, less what lies inside of what it proposes.
    fn metadata<'a>(&'a self, disk: &'a Probe<'a>) -> Locating<'a> {
        Box::pin(async move {
            let taste = self.taste(disk).await?;
            let nodes = match &taste {
                Taste::Mine(mine) => mine.nodes.as_slice(),
                _ => &[],
            };
            Ok(disk.trail(nodes))
        })
    }
    /// Kinds of signatures (`spec::magic`) that are its own, and therefore do not speak against it.
    fn signatures(&self) -> &'static [&'static str] {
        &[]
    }
    /// What all disks that contribute something add up to, in the order of their names. Only for formats that span disks.
    fn assemble(&self, members: &[Enrolled<'_>], given: Given<'_>) -> Assembly {
        let _ = (members, given);
        Assembly::default()
    }
    /// Whether it may have its metadata at the end of a disk that begins with what is in the array, so that it has to be asked before all others.
    fn is_beneath(&self) -> bool {
        false
    }
    /// Whether volumes of groups may be its members. Not those of LVM2: what is on them is the business of whoever uses them.
    fn takes_volumes(&self) -> bool {
        false
    }
    /// Whether the volumes it makes are disks like any other, on which members of whatever group may lie.
    fn volumes_are_disks(&self) -> bool {
        false
    }
}
