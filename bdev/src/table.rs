//! What a node is built from: plain data, as it stands in a configuration file. Lower disks are named by node.
use crate::{
    module::error::Injection,
    raid::{MemberState, Shape},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One of these for each kind of leaf and module. `kind` is the tag; unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Table {
    /// A disk in memory: 4 KiB pages by reference, holes read as zeros and take no space.
    Memory {
        /// Length in blocks.
        blocks: u64,
        /// Bytes in a block.
        block_size: u32,
        /// Bytes in a physical block; the block size if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        physical_block_size: Option<u32>,
        /// Preferred size and alignment of I/O in blocks; 0: none.
        #[serde(default)]
        optimal_io: u32,
    },
    /// Takes every write and forgets it; reads as zeros, without touching a byte.
    Null {
        /// Length in blocks.
        blocks: u64,
        /// Bytes in a block.
        block_size: u32,
        /// Bytes in a physical block; the block size if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        physical_block_size: Option<u32>,
    },
    /// A file or a block device of the kernel's.
    File {
        /// Where it is.
        path: PathBuf,
        /// Bytes in a block. If absent: what the kernel says about a block device, 512 for a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        block_size: Option<u32>,
        /// Refuse writes, and open it so that the kernel refuses them too.
        #[serde(default)]
        read_only: bool,
        /// Make the file, sparse and this many bytes long, if it is not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        create_size: Option<u64>,
        /// Past the page cache or through it.
        #[serde(default)]
        direct: Direct,
    },
    /// Segments of other disks, one after the other. One segment is a mere view (a partition).
    Linear {
        /// In order of address; at least one.
        segments: Vec<Segment>,
    },
    /// Pieces one after the other, each a run of blocks of another disk, a stripe over several runs or a gap: what a logical volume is.
    Mapped {
        /// In order of address; at least one.
        pieces: Vec<Piece>,
        /// Refuse writes.
        #[serde(default)]
        read_only: bool,
    },
    /// RAID-0: chunk `n` is chunk `n / members` of member `n % members`.
    Stripe {
        /// The members, in order; at least one.
        on: Vec<String>,
        /// Blocks in a chunk.
        chunk: u32,
    },
    /// Each block on several members, or a sum of several: an array that does without some of its members.
    Raid {
        /// What it does with them.
        shape: Shape,
        /// Blocks that each member gives.
        used: u64,
        /// The members by their places; nobody where one is missing.
        on: Vec<Option<Seat>>,
        /// Those that replace a member, whose place it is.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replacements: Vec<(u16, Seat)>,
        /// The header of the write-intent bitmap, if the members have one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bitmap: Option<Bytes>,
        /// What may differ between members from before: first block and how many, in the space that the bitmap is about.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differs: Vec<(u64, u64)>,
        /// What the bitmap has noted besides: where members that are away have missed something.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        noted: Vec<(u64, u64)>,
        /// The members' log says what was being written when it was stopped.
        #[serde(default)]
        replay: bool,
        /// Refuse writes, and write nothing by itself either.
        #[serde(default)]
        read_only: bool,
    },
    /// Answers late.
    Delay {
        /// The disk below.
        on: String,
        /// Added to nearly every read, in microseconds.
        #[serde(default)]
        avg_read_us: u64,
        /// Added to one read in a hundred.
        #[serde(default)]
        p99_read_us: u64,
        /// Added to nearly every write, flush, unmap and write zeroes.
        #[serde(default)]
        avg_write_us: u64,
        /// Added to one of these in a hundred.
        #[serde(default)]
        p99_write_us: u64,
    },
    /// Answers wrongly, where and when it is told to.
    Error {
        /// The disk below.
        on: String,
        /// What goes wrong from the start; more can be injected later.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        inject: Vec<Injection>,
    },
    /// Counts operations and bytes, and keeps a histogram of latencies for each operation.
    Stats {
        /// The disk below.
        on: String,
    },
    /// AES-XTS, the block's number as tweak.
    Crypt {
        /// The disk below.
        on: String,
        /// The name of its key in [`Keys`](crate::Keys).
        key: String,
    },
    /// Another name for the same disk.
    Passthru {
        /// The disk below.
        on: String,
    },
    /// A device made by a function of somebody else's: [`Graph::build_custom`](crate::graph::Graph::build_custom).
    Custom {
        /// What it is.
        what: String,
        /// The disks below.
        #[serde(default)]
        on: Vec<String>,
    },
}

/// A run of blocks of another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The disk below.
    pub on: String,
    /// First block there.
    pub start: u64,
    /// How many.
    pub blocks: u64,
}

/// A member of a [`Table::Raid`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The disk below.
    pub on: String,
    /// First block of its data there.
    #[serde(default)]
    pub start: u64,
    /// How things stand with it.
    #[serde(default = "in_sync")]
    pub state: MemberState,
    /// Read only if no other member can answer.
    #[serde(default)]
    pub write_mostly: bool,
    /// Blocks of its data that it does not have, as the first and how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<(u64, u64)>,
    /// Where its superblock is, and what it says: it is kept up to date while the array runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superblock: Option<(u64, Bytes)>,
}

fn in_sync() -> MemberState {
    MemberState::InSync
}

/// Bytes in a table, which is text: as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes).map_err(serde::de::Error::custom)
    }
}

/// A piece of a [`Table::Mapped`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Piece {
    /// A run of blocks.
    Linear(Segment),
    /// Chunks in turn on each of several runs.
    Stripe {
        /// The runs, in order; at least one, and all of one length that is a whole number of chunks.
        on: Vec<Segment>,
        /// Blocks in a chunk.
        chunk: u32,
    },
    /// Blocks whose disk is not there: reads and writes of them fail with a medium error.
    Gap {
        /// How many.
        blocks: u64,
    },
}

impl Piece {
    /// The runs it is made of.
    pub fn runs(&self) -> &[Segment] {
        match self {
            Piece::Linear(run) => std::slice::from_ref(run),
            Piece::Stripe { on, .. } => on,
            Piece::Gap { .. } => &[],
        }
    }

    /// Its length.
    pub fn blocks(&self) -> u64 {
        match self {
            Piece::Gap { blocks } => *blocks,
            _ => self.runs().iter().fold(0, |sum, run| sum.saturating_add(run.blocks)),
        }
    }
}

/// Whether a file is read and written past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direct {
    /// Past it where the file system allows it with this block size, through it otherwise.
    #[default]
    Auto,
    /// Past it, or not at all.
    Always,
    /// Through it.
    Never,
}

impl Table {
    /// Whether a node that was built from this is what the other asks for. What an array that runs keeps by itself does not count: superblocks, what may
    /// differ, how far a member is rebuilt.
    pub fn suits(&self, other: &Table) -> bool {
        match (self, other) {
            (
                Table::Raid {
                    shape,
                    used,
                    on,
                    replacements,
                    read_only,
                    ..
                },
                Table::Raid {
                    shape: their_shape,
                    used: their_used,
                    on: theirs,
                    replacements: their_replacements,
                    read_only: they_refuse,
                    ..
                },
            ) => {
                let place = |seat: &Option<Seat>| seat.as_ref().map(|seat| (seat.on.clone(), seat.start));
                let whose = |(place, seat): &(u16, Seat)| (*place, seat.on.clone(), seat.start);
                shape == their_shape
                    && used == their_used
                    && read_only == they_refuse
                    && on.iter().map(place).eq(theirs.iter().map(place))
                    && replacements.iter().map(whose).eq(their_replacements.iter().map(whose))
            }
            _ => self == other,
        }
    }

    /// The word for its kind, as in the serialised form.
    pub const fn kind(&self) -> &'static str {
        match self {
            Table::Memory { .. } => "memory",
            Table::Null { .. } => "null",
            Table::File { .. } => "file",
            Table::Linear { .. } => "linear",
            Table::Mapped { .. } => "mapped",
            Table::Stripe { .. } => "stripe",
            Table::Raid { .. } => "raid",
            Table::Delay { .. } => "delay",
            Table::Error { .. } => "error",
            Table::Stats { .. } => "stats",
            Table::Crypt { .. } => "crypt",
            Table::Passthru { .. } => "passthru",
            Table::Custom { .. } => "custom",
        }
    }

    /// What a node of this kind is for people, in the words SPDK's clients know.
    pub const fn product(&self) -> &'static str {
        match self {
            Table::Memory { .. } => "Malloc disk",
            Table::Null { .. } => "Null disk",
            Table::File { .. } => "AIO disk",
            Table::Linear { .. } => "Split Disk",
            Table::Mapped { .. } => "Mapped Disk",
            Table::Stripe { .. } | Table::Raid { .. } => "Raid Volume",
            Table::Delay { .. } => "delay",
            Table::Error { .. } => "Error Injection Disk",
            Table::Stats { .. } => "stats",
            Table::Crypt { .. } => "crypto",
            Table::Passthru { .. } => "passthru",
            Table::Custom { .. } => "custom",
        }
    }

    /// The nodes it stands on, each once, in the order of their first mention.
    pub fn below(&self) -> Vec<&str> {
        let mut all: Vec<&str> = match self {
            Table::Memory { .. } | Table::Null { .. } | Table::File { .. } => Vec::new(),
            Table::Linear { segments } => segments.iter().map(|segment| segment.on.as_str()).collect(),
            Table::Mapped { pieces, .. } => {
                let runs = pieces.iter().flat_map(Piece::runs);
                runs.map(|run| run.on.as_str()).collect()
            }
            Table::Stripe { on, .. } | Table::Custom { on, .. } => on.iter().map(String::as_str).collect(),
            Table::Raid { on, replacements, .. } => {
                let behind = replacements.iter().map(|(_, seat)| seat);
                on.iter().flatten().chain(behind).map(|seat| seat.on.as_str()).collect()
            }
            Table::Delay { on, .. } | Table::Error { on, .. } | Table::Crypt { on, .. } => vec![on],
            Table::Stats { on } | Table::Passthru { on } => vec![on],
        };
        let mut seen = std::collections::HashSet::new();
        all.retain(|name| seen.insert(*name));
        all
    }
}
