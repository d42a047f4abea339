//! Copies of what formats have written on disks, without the data: enough to put labels, headers, texts and records back where they were.
//!
//! What belongs to the metadata of a disk is said by the format that has claimed it ([`Format::metadata`]): as a rule,
//! just what it reads to know the disk again. A copy is put back by the verb `disk-restore` ([`restore`]), as a plan like any other change.
use crate::{
    ChangeError, Engine, Refusal, Verdict,
    engine::Known,
    format::Format,
    group::Member,
    plan::{Bytes, Code},
    probe::{Probe, READ_MAX, ReadError, Reading, Source},
};
use bdev::{NodeInfo, Table};
use serde::{Deserialize, Serialize};
use spec::{BlockRange, Extent};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::PathBuf,
};
use uuid::Uuid;

pub mod restore;

/// The most bytes that the copies of all disks together may hold.
pub const BYTES_MAX: u64 = 256 << 20;
/// The most areas of one disk: a chain of logical partitions has one for each.
pub const AREAS_MAX: usize = 1 << 16;

/// A run of bytes of a disk. Zeros at its end are left out: arrays of partition entries are zeros but for a few.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// First byte.
    pub offset: u64,
    /// How many, with the zeros.
    pub length: u64,
    /// What is there, without the zeros at the end.
    pub bytes: Bytes,
}

impl Area {
    fn new(offset: u64, bytes: &[u8]) -> Self {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Self {
            offset,
            length: bytes.len() as u64,
            bytes: Bytes(bytes[..used].to_vec()),
        }
    }

    /// All bytes. The caller has checked the length.
    fn whole(&self) -> Vec<u8> {
        let mut bytes = self.bytes.0.clone();
        bytes.resize(self.length as usize, 0);
        bytes
    }
}

/// A disk, and what was on it besides data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskCopy {
    /// Its name.
    pub name: String,
    /// Its identity for hosts.
    pub uuid: Uuid,
    /// Length in blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// What it is in a word or two.
    pub product: String,
    /// The file or device it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The World Wide Name of the device, as the kernel has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwid: Option<String>,
    /// The serial number of the device, as the kernel has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The disks it stands on, directly or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// The format that had claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What it was, in a sentence that goes on from its name.
    pub was: String,
    /// Its metadata, in the order in which it is read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<Area>,
}

/// The text of a volume group, as LVM2's `vgcfgbackup` would have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupText {
    /// The group.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// Number of the change that the text is of.
    pub seqno: u64,
    /// The text.
    pub text: String,
}

/// Copies of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copies {
    /// Disks, those below before those that stand on them.
    pub disks: Vec<DiskCopy>,
    /// Texts of volume groups, by name.
    pub groups: Vec<GroupText>,
    /// Disks of which there is no copy because they were not there, or nobody could tell what they are.
    pub notes: Vec<String>,
}

/// A disk of the runtime as something to read from.
struct Blocks<'a> {
    engine: &'a Engine,
    name: &'a str,
}

impl Source for Blocks<'_> {
    fn read(&self, extent: Extent) -> Reading<'_> {
        Box::pin(async move {
            let count = u32::try_from(extent.count).map_err(|_| "too much at once".to_owned())?;
            let range = BlockRange::new(extent.start, count);
            let read = self.engine.runtime().read(self.name, range).await;
            read.map_err(|why| why.to_string())
        })
    }
}

impl Engine {
    /// Copies of the metadata of every disk. Reads only; nothing is changed meanwhile.
    pub async fn copies(&self) -> Result<Copies, ChangeError> {
        let _work = self.inner.work.lock().await;
        self.settle().await;
        let mut copies = Copies::default();
        let mut left = BYTES_MAX;
        // Nodes come in the order in which they were built: what is below is known when it is asked for.
        let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in self.runtime().list() {
            let mut on: BTreeSet<String> = node.below.iter().cloned().collect();
            on.extend(node.below.iter().filter_map(|on| below.get(on)).flatten().cloned());
            below.insert(node.name.clone(), on.clone());
            let Some(disk) = self.brief(&node.name) else { continue };
            let mut copy = described(&node);
            copy.on = on.into_iter().collect();
            copy.was = disk.reason;
            match disk.verdict {
                Verdict::Claimed => {
                    copy.format = disk.format;
                    copy.areas = self.areas(&node, &mut left).await?;
                }
                Verdict::Unreadable | Verdict::Ambiguous => {
                    copies
                        .notes
                        .push(format!("{:?} {}; nothing of it is kept", node.name, copy.was));
                    continue;
                }
                // What is on it is no business of ours; a volume or a partition is known by what it stands on.
                _ if disk.origin.is_found() => continue,
                _ => {}
            }
            copies.disks.push(copy);
        }
        for (wish, why) in self.state().missing.values() {
            let name = &wish.spec.name;
            copies
                .notes
                .push(format!("{name:?} is missing: {why}; nothing of it is kept"));
        }
        copies.groups = self.texts();
        Ok(copies)
    }

    async fn areas(&self, node: &NodeInfo, left: &mut u64) -> Result<Vec<Area>, ChangeError> {
        let (format, partition) = {
            let state = self.state();
            let known = state.known.get(&node.name);
            (
                known.and_then(|known| known.findings.format),
                known.and_then(|known| known.partition.clone()),
            )
        };
        let Some(format) = format.and_then(|name| self.registry().format(name)) else {
            return Ok(Vec::new());
        };
        let source = Blocks {
            engine: self,
            name: &node.name,
        };
        let (blocks, block_size) = (node.geometry.blocks, node.geometry.block_size);
        let probe = Probe::new(&node.name, node.uuid, blocks, block_size, &source).await;
        let read = areas(format, &probe.being(partition.as_ref())).await;
        let areas = read.map_err(|why: ReadError| {
            Refusal::new(Code::Unreadable, format!("{:?} cannot be read: {why}", node.name))
        })?;
        let held: u64 = areas.iter().map(|area| area.bytes.0.len() as u64).sum();
        *left = left.checked_sub(held).ok_or_else(|| {
            let why = format!("the metadata of all disks is more than {} MiB", BYTES_MAX >> 20);
            Refusal::new(Code::Unsupported, why)
        })?;
        Ok(areas)
    }

    /// The texts of all groups of LVM2.
    fn texts(&self) -> Vec<GroupText> {
        let state = self.state();
        let of = |known: &Known, seqno: u64, name: &str| match &known.findings.member {
            Some(Member::Lvm2(pv)) => pv
                .text
                .clone()
                .filter(|text| text.vg.seqno == seqno && text.vg.name == name),
            _ => None,
        };
        let groups = state.groups.iter().filter(|group| group.format == "lvm2");
        let text = groups.filter_map(|group| {
            let disks = group.members.iter().filter_map(|seat| seat.disk.as_ref());
            let text = disks
                .filter_map(|disk| state.known.get(disk))
                .find_map(|known| of(known, group.seqno, &group.name))?;
            let bytes = text.tree.source()?;
            Some(GroupText {
                name: group.name.clone(),
                id: group.id.clone(),
                seqno: group.seqno,
                text: String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned(),
            })
        });
        text.collect()
    }
}

fn described(node: &NodeInfo) -> DiskCopy {
    let path = match &node.table {
        Table::File { path, .. } => Some(path.clone()),
        _ => None,
    };
    // What udev makes of these is not asked: it may not run.
    let told = |files: &[&str]| {
        let device = fs::canonicalize(path.as_ref()?).ok()?;
        let folder = PathBuf::from("/sys/class/block").join(device.file_name()?);
        let text = files
            .iter()
            .find_map(|file| fs::read_to_string(folder.join(file)).ok())?;
        let text = text.trim().to_owned();
        (device.starts_with("/dev") && !text.is_empty()).then_some(text)
    };
    DiskCopy {
        name: node.name.clone(),
        uuid: node.uuid,
        blocks: node.geometry.blocks,
        block_size: node.geometry.block_size,
        product: node.product.clone(),
        wwid: told(&["wwid", "device/wwid"]),
        serial: told(&["serial", "device/serial"]),
        path,
        on: Vec::new(),
        format: None,
        was: String::new(),
        areas: Vec::new(),
    }
}

/// The metadata of a disk of this format, in the order in which it is read.
pub async fn areas(format: &dyn Format, disk: &Probe<'_>) -> Result<Vec<Area>, ReadError> {
    let mut areas = Vec::new();
    let ranges = format.metadata(disk).await?;
    // What cannot be read may be why nothing was found.
    if let (true, Some(why)) = (ranges.is_empty(), disk.lost().first()) {
        return Err(why.clone());
    }
    for range in ranges {
        let bytes = bytes(disk, range.clone()).await?;
        areas.push(Area::new(range.start, &bytes));
    }
    Ok(areas)
}

/// Bytes of a disk, which need not be whole blocks.
async fn bytes(disk: &Probe<'_>, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
    let size = u64::from(disk.block_size.max(1));
    let most = (READ_MAX / size).max(1);
    let (first, end) = (range.start / size, range.end.div_ceil(size));
    let (mut bytes, mut at) = (Vec::new(), first);
    while at < end {
        let count = (end - at).min(most);
        bytes.extend_from_slice(&disk.read(Extent::new(at, count)).await?);
        at += count;
    }
    bytes.truncate((range.end - first * size) as usize);
    bytes.drain(..(range.start - first * size) as usize);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_left_out_and_come_back() {
        for bytes in [&[][..], &[0; 7], &[1, 0, 2, 0, 0], &[0, 0, 3]] {
            let area = Area::new(512, bytes);
            assert_eq!(
                (area.offset, area.length, area.whole()),
                (512, bytes.len() as u64, bytes.to_vec())
            );
            assert_ne!(area.bytes.0.last(), Some(&0));
        }
    }
}
