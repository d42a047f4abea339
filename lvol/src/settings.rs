//! What an administrator wants of the engine, whatever is on the disks. It is told at its start, and can be told anew while it runs.
use crate::{Patience, lvm2, scope::Scope};
use serde::{Deserialize, Serialize};

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is logged, in the words of a filter: `info,lvol=debug`. Nothing said: what is logged stays.
    pub log: String,
    /// Volume groups.
    pub lvm2: lvm2::Settings,
    /// Which disks it looks into.
    pub discovery: Scope,
    /// How long arrays wait for members.
    pub patience: Patience,
}
