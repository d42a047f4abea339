//! Plans: what a change would write, to the sector, before anything is written.
//!
//! ```text
//!   Request ── Verb::plan ──► Plan ── carry_out ──► disks        re-examined afterwards, so the graph follows
//!      │          reads only    │
//!   verb, object,            steps: writes in any order, then a barrier (flush of every disk that was written)
//!   options, stamp           each write: disk, offset, the bytes before and after
//! ```
//!
//! A plan is a function of its request, its [`Stamp`] (the only source of fresh identities and of the time) and the bytes on the disks. So a plan
//! that somebody read an hour ago is applied by planning again and comparing: if a single byte differs, the disks have changed and nothing is
//! written. Verbs order their steps such that after a power cut at any point, with any part of the step under way on the disk, discovery finds
//! the old state or the new one; where several disks or formats would have to change at once, the plan is written down first
//! ([`journal`]) and finished at the next start.
pub mod carry;
pub mod disks;
pub mod draft;
pub mod journal;
pub mod limit;
pub mod refusal;
pub mod verb;

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use uuid::Uuid;

pub use carry::{Failure, Medium, carry_out};
pub use disks::{Disks, Facts};
pub use draft::Draft;
pub use limit::{Guess, Limit};
pub use refusal::{Code, Refusal};
pub use verb::{Request, Verb};

/// Where a plan's fresh identities and its time come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Identities follow from it: the same request with the same seed on the same disks gives the same bytes.
    pub seed: Uuid,
    /// Seconds since 1970, for formats that write down when they were changed.
    pub time: u64,
    /// The machine, for formats that write down where.
    pub host: String,
}

impl Stamp {
    /// Fresh: a random seed, now, here.
    pub fn now() -> Self {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            seed: Uuid::new_v4(),
            time: time.map(|time| time.as_secs()).unwrap_or_default(),
            host: host.trim().to_owned(),
        }
    }

    /// The same with a given seed, for scripts that want the same bytes each time.
    pub fn seeded(seed: Uuid) -> Self {
        Self { seed, ..Self::now() }
    }
}

/// Bytes that go to a disk, or were there: base64 in JSON.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine;
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A run of whole blocks of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// The disk's name.
    pub disk: String,
    /// First byte; a multiple of the disk's blocks.
    pub offset: u64,
    /// What is written, in words.
    pub what: Vec<String>,
    /// What is there now.
    pub before: Bytes,
    /// What will be.
    pub after: Bytes,
}

impl Write {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.after.0.len() as u64
    }

    /// True if nothing is written.
    pub fn is_empty(&self) -> bool {
        self.after.0.is_empty()
    }
}

/// Writes that may reach the disks in any order. Behind them is a barrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it achieves.
    pub title: String,
    /// By disk and offset.
    pub writes: Vec<Write>,
}

/// A disk that a plan writes to, so that it is known again under another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its identity.
    pub uuid: Uuid,
    /// Bytes in a block.
    pub block_size: u32,
    /// Its length in blocks.
    pub blocks: u64,
}

/// How a plan is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Undo {
    /// By writing what was there before, the last step first, as long as nobody has changed it since.
    Bytes,
    /// By another request.
    Request(Request),
    /// Not at all, and why.
    No(String),
}

/// A text that is to be kept before it is replaced, as LVM2 keeps `/etc/lvm/archive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archived {
    /// The group it describes.
    pub group: String,
    /// Number of the change.
    pub seqno: u64,
    /// The text.
    pub text: Bytes,
}

/// A change, to the byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What was asked for.
    pub request: Request,
    /// Where its identities and its time come from.
    pub stamp: Stamp,
    /// What changes, in sentences.
    pub summary: Vec<String>,
    /// What the user should know before it happens.
    pub warnings: Vec<String>,
    /// The disks that are written to.
    pub disks: BTreeMap<String, Target>,
    /// Disks that nobody may use meanwhile and that are taken away first: what they are made of changes.
    pub releases: Vec<String>,
    /// In order.
    pub steps: Vec<Step>,
    /// More than one format's own rule has to hold at once, so the plan is written down before it begins and finished after a crash.
    pub intent: bool,
    /// How it is taken back.
    pub undo: Undo,
    /// Texts to keep first.
    pub archive: Vec<Archived>,
}

impl Plan {
    /// Bytes it writes.
    pub fn bytes(&self) -> u64 {
        self.steps.iter().flat_map(|step| &step.writes).map(Write::len).sum()
    }

    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl fmt::Display for Plan {
    /// As `--dry-run` prints it: what changes, then each sector range with what is on it before and after.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.summary {
            writeln!(f, "{line}")?;
        }
        for line in &self.warnings {
            writeln!(f, "Warning: {line}")?;
        }
        for name in &self.releases {
            writeln!(
                f,
                "{name} must be unused, and is taken away before anything is written."
            )?;
        }
        for (step, number) in self.steps.iter().zip(1..) {
            writeln!(f, "\nStep {number}: {}, then a barrier", step.title)?;
            for write in &step.writes {
                let size = self
                    .disks
                    .get(&write.disk)
                    .map_or(512, |disk| u64::from(disk.block_size));
                let (first, count) = (write.offset / size, write.len() / size);
                let last = first + count.saturating_sub(1);
                let blocks = if count == 1 {
                    format!("block {first}")
                } else {
                    format!("blocks {first} to {last}")
                };
                let changed = write
                    .before
                    .0
                    .iter()
                    .zip(&write.after.0)
                    .filter(|(a, b)| a != b)
                    .count();
                writeln!(
                    f,
                    "  {}, {blocks} of {size} bytes: {}; {changed} of {} bytes change",
                    write.disk,
                    write.what.join(", "),
                    write.len()
                )?;
            }
        }
        Ok(())
    }
}

/// The lines of two byte runs that differ, sixteen bytes each, as `--dry-run -v` shows them below each range.
pub fn differences(write: &Write) -> Vec<String> {
    let hex = |bytes: &[u8]| {
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(" ")
    };
    let pairs = write.before.0.chunks(16).zip(write.after.0.chunks(16)).zip(0u64..);
    pairs
        .filter(|((before, after), _)| before != after)
        .flat_map(|((before, after), line)| {
            let at = write.offset + line * 16;
            [
                format!("{at:012x} - {}", hex(before)),
                format!("{at:012x} + {}", hex(after)),
            ]
        })
        .collect()
}
