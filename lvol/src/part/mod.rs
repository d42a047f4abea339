//! Partition tables: what the formats have in common.
use crate::{
    format::{Mine, Proposal, Taste},
    probe::Probe,
};
use bdev::{Table, table::Segment};
use serde::{Deserialize, Serialize};
use spec::{Extent, extent::Refusal};
use uuid::Uuid;

pub use edit::attribute_words;

pub mod amiga;
pub mod apple;
pub mod atari;
pub mod bsd;
pub mod edit;
pub mod gpt;
pub mod mbr;
pub mod sgi;
pub mod sun;

/// Partitions of one disk that are made into nodes: what Linux has minor numbers for. A table with more is served up to here, with a note.
pub const SERVED_MAX: usize = 256;

/// What the older tables say of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// The disk it is on.
    pub disk: String,
    /// Its number, from 1.
    pub number: u32,
    /// Where it is, in blocks of the disk.
    pub extent: Extent,
    /// Its type as the table has it.
    pub kind: String,
    /// Its name, or nothing.
    pub name: String,
}

/// What a partition table says of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// From an Apple partition map.
    Apple(Plain),
    /// From a BSD disk label.
    Bsd(Plain),
    /// From a Sun label.
    Sun(Plain),
    /// From an SGI volume header.
    Sgi(Plain),
    /// From Amiga rigid disk blocks.
    Amiga(Plain),
    /// From an Atari table.
    Atari(Plain),
    /// From a table that a plug-in of another tree knows.
    #[serde(untagged)]
    Other {
        /// The plug-in's name.
        scheme: String,
        /// What its table says.
        #[serde(flatten)]
        plain: Plain,
    },
}

impl Partition {
    /// The scheme's short name, and what the older ones have in common.
    pub fn plain(&self) -> Option<(&str, &Plain)> {
        Some(match self {
            Partition::Gpt { .. } | Partition::Mbr { .. } => return None,
            Partition::Apple(plain) => ("apple", plain),
            Partition::Bsd(plain) => ("bsd", plain),
            Partition::Sun(plain) => ("sun", plain),
            Partition::Sgi(plain) => ("sgi", plain),
            Partition::Amiga(plain) => ("amiga", plain),
            Partition::Atari(plain) => ("atari", plain),
            Partition::Other { scheme, plain } => (scheme, plain),
        })
    }

    /// The disk it is on.
    pub fn disk(&self) -> &str {
        match self {
            Partition::Gpt { disk, .. } | Partition::Mbr { disk, .. } => disk,
            other => other.plain().map_or("", |(_, plain)| &plain.disk),
        }
    }

    /// Its number in its table.
    pub fn number(&self) -> u32 {
        match self {
            Partition::Gpt { number, .. } | Partition::Mbr { number, .. } => *number,
            other => other.plain().map_or(0, |(_, plain)| plain.number),
        }
    }

    /// Where it is, in blocks of the disk.
    pub fn extent(&self) -> Extent {
        match self {
            Partition::Gpt { extent, .. } | Partition::Mbr { extent, .. } => *extent,
            other => other.plain().map(|(_, plain)| plain.extent).unwrap_or_default(),
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
            other => other.plain().map_or_else(String::new, |(_, plain)| plain.kind.clone()),
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
            Partition::Apple(_) => "Apple Partition",
            Partition::Bsd(_) => "BSD Partition",
            Partition::Sun(_) => "Sun Partition",
            Partition::Sgi(_) => "SGI Partition",
            Partition::Amiga(_) => "Amiga Partition",
            Partition::Atari(_) => "Atari Partition",
            Partition::Other { .. } => "Partition",
        },
        partition: Some(partition),
        volume: None,
    }
}

/// A partition that a table has, still in units of the table.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number, from 1.
    pub number: u32,
    /// Where it is.
    pub extent: Extent,
    /// Its type, in words.
    pub kind: String,
    /// Its name, or nothing.
    pub name: String,
}

/// What a table that says no more than [`Plain`] makes of a disk: its units have `unit` bytes, `refused` are partitions that cannot be right, with the
/// reason. One without partitions that can be served is traces, not a claim.
pub fn older(
    disk: &Probe<'_>,
    what: &str,
    unit: u32,
    found: Vec<Found>,
    refused: Vec<(u32, Refusal)>,
    make: fn(Plain) -> Partition,
) -> Taste {
    let mut notes: Vec<String> = refused
        .iter()
        .map(|(number, why)| format!("partition {number} is not served: {why}"))
        .collect();
    let block = u64::from(disk.block_size.max(1));
    let mut nodes = Vec::new();
    for one in found.into_iter().take(SERVED_MAX) {
        let bytes = |units: u64| {
            units
                .checked_mul(unit.into())
                .filter(|bytes| bytes.is_multiple_of(block))
        };
        let (Some(start), Some(count)) = (bytes(one.extent.start), bytes(one.extent.count)) else {
            notes.push(format!(
                "partition {} is not served: it does not fall on the disk's blocks of {block} bytes",
                one.number
            ));
            continue;
        };
        let partition = make(Plain {
            disk: disk.name.to_owned(),
            number: one.number,
            extent: Extent::new(start / block, count / block),
            kind: one.kind,
            name: one.name,
        });
        let uuid = Uuid::new_v5(&disk.uuid, format!("p{}", one.number).as_bytes());
        nodes.push(proposal(disk, partition, uuid, Vec::new()));
    }
    if nodes.is_empty() {
        let why = if notes.is_empty() {
            "without partitions".to_owned()
        } else {
            format!("none of whose partitions can be served ({})", notes.join("; "))
        };
        let article = if what.starts_with(['A', 'S']) && !what.starts_with("Sun") {
            "an"
        } else {
            "a"
        };
        return Taste::Traces(format!("{article} {what} {why}"));
    }
    Taste::Mine(Mine {
        what: format!("{what} with {}", count(nodes.len())),
        nodes,
        notes,
        member: None,
        covers: Vec::new(),
    })
}

/// "1 partition", "3 partitions".
pub(crate) fn count(n: usize) -> String {
    match n {
        0 => "no partitions".into(),
        1 => "1 partition".into(),
        n => format!("{n} partitions"),
    }
}
