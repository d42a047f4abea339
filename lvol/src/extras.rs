//! Disks that belong to an array and have no place in it: spares, and those that failed or were away too long.
use crate::{
    Engine, Verdict,
    engine::{Known, State},
    group::{Group, Member},
};
use serde::{Deserialize, Serialize};
use spec::md::{SECTOR, v1::Role};

/// A disk without a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// The array, as a disk.
    pub array: String,
    /// The disk.
    pub disk: String,
    /// What it is to the array.
    pub kind: ExtraKind,
    /// The version of its superblock: `1.2`.
    pub version: String,
    /// Bytes that it has for data.
    pub room_bytes: u64,
    /// Bytes in a block.
    pub block_size: u32,
}

/// What a disk without a place is to its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtraKind {
    /// It takes the next place that becomes empty.
    Spare,
    /// It had a place, and has lost it.
    Failed,
}

impl Engine {
    /// Every disk that is there, belongs to an array and has no place in it, by arrays and names.
    pub fn extras(&self) -> Vec<Extra> {
        self.pump();
        let state = self.state();
        let mut all: Vec<Extra> = state
            .known
            .iter()
            .filter_map(|(disk, known)| extra(&state, disk, known))
            .collect();
        all.sort_by(|a, b| (&a.array, &a.disk).cmp(&(&b.array, &b.disk)));
        all
    }
}

fn extra(state: &State, disk: &str, known: &Known) -> Option<Extra> {
    let Some(Member::Md(device)) = &known.findings.member else {
        return None;
    };
    let claimed = known.standing.as_ref().is_some_and(|s| s.verdict == Verdict::Claimed);
    // What was read before it was gone counts for nothing here.
    if !claimed || !known.volumes.is_empty() || known.findings.verdict == Verdict::Unreadable {
        return None;
    }
    let superblock = &device.superblock;
    let id = superblock.array().to_string();
    let is_its = |group: &&Group| group.format == "md" && group.id == id;
    let volume = state.groups.iter().find(is_its)?.volumes.first()?;
    // Where nothing runs nobody has lost a place.
    if !state.known.contains_key(&volume.disk) {
        return None;
    }
    let kind = match superblock.role_of(superblock.number()) {
        Some(Role::Spare) => ExtraKind::Spare,
        Some(Role::Journal) => return None,
        _ if superblock.is_replacement() => return None,
        _ => ExtraKind::Failed,
    };
    Some(Extra {
        array: volume.disk.clone(),
        disk: disk.to_owned(),
        kind,
        version: device.version.to_string(),
        room_bytes: device.room() * SECTOR,
        block_size: known.block_size,
    })
}
