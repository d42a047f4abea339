//! Partition tables: what the two formats have in common.
use crate::{format::Proposal, probe::Probe};
use bdev::{Table, table::Segment};
use serde::Serialize;
use spec::Extent;
use uuid::Uuid;

pub mod gpt;
pub mod mbr;

/// Partitions of one disk that are made into nodes: what Linux has minor numbers for. A table with more is served up to here, with a note.
pub const SERVED_MAX: usize = 256;

/// What a partition table says of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "scheme", rename_all = "lowercase")]
pub enum Partition {
    /// From a GUID partition table.
    Gpt {
        /// The disk it is on.
        disk: String,
        /// Its number, from 1.
        number: u32,
        /// Where it is, in blocks of the disk.
        extent: Extent,
        /// GUID of the table.
        table: Uuid,
        /// What it is for.
        kind: Uuid,
        /// Its own GUID.
        guid: Uuid,
        /// Its name.
        name: String,
        /// Attribute bits.
        attributes: u64,
    },
    /// From a master boot record or an extended one.
    Mbr {
        /// The disk it is on.
        disk: String,
        /// Its number: primary 1 to 4, logical from 5.
        number: u32,
        /// Where it is, in blocks of the disk.
        extent: Extent,
        /// Signature of the disk.
        disk_id: u32,
        /// Type byte.
        kind: u8,
        /// Marked to boot from.
        active: bool,
    },
}

impl Partition {
    /// The disk it is on.
    pub fn disk(&self) -> &str {
        match self {
            Partition::Gpt { disk, .. } | Partition::Mbr { disk, .. } => disk,
        }
    }

    /// Its number in its table.
    pub fn number(&self) -> u32 {
        match self {
            Partition::Gpt { number, .. } | Partition::Mbr { number, .. } => *number,
        }
    }

    /// Where it is, in blocks of the disk.
    pub fn extent(&self) -> Extent {
        match self {
            Partition::Gpt { extent, .. } | Partition::Mbr { extent, .. } => *extent,
        }
    }

    /// What it is for, in words if we have any.
    pub fn purpose(&self) -> String {
        match self {
            Partition::Gpt { kind, .. } => {
                spec::gpt::types::name(*kind).map_or_else(|| kind.to_string(), str::to_owned)
            }
            Partition::Mbr { kind, .. } => {
                spec::mbr::type_name(*kind).map_or_else(|| format!("type {kind:02x}"), str::to_owned)
            }
        }
    }
}

/// The name of partition `number` of `disk`, as SPDK has it: `disk0` gives `disk0p1`.
pub fn name(disk: &str, number: u32) -> String {
    format!("{disk}p{number}")
}

/// A partition as a node: a window on its disk.
fn proposal(disk: &Probe<'_>, partition: Partition, uuid: Uuid, aliases: Vec<String>) -> Proposal {
    let extent = partition.extent();
    Proposal {
        name: name(disk.name, partition.number()),
        uuid,
        aliases,
        table: Table::Linear {
            segments: vec![Segment {
                on: disk.name.to_owned(),
                start: extent.start,
                blocks: extent.count,
            }],
        },
        product: match partition {
            Partition::Gpt { .. } => "GPT Disk",
            Partition::Mbr { .. } => "MBR Disk",
        },
        partition: Some(partition),
        volume: None,
    }
}

/// "1 partition", "3 partitions".
fn count(n: usize) -> String {
    match n {
        0 => "no partitions".into(),
        1 => "1 partition".into(),
        n => format!("{n} partitions"),
    }
}
