//! What an administrator wants of volume groups, whatever is on the disks.
use serde::{Deserialize, Serialize};

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The system id of this machine: groups that have it are ours, and new ones get it. Without one, groups of any system id are others'.
    pub system_id: Option<String>,
    /// What becomes active of a group that lacks physical volumes.
    pub activation: Activation,
}

/// What becomes active of a group that lacks physical volumes, after LVM2's `activation_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    Complete,
    /// Volumes all of whose extents are there.
    #[default]
    Degraded,
    /// Other volumes too, with a gap where extents are missing: reads and writes there fail.
    Partial,
}
