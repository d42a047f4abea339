//! How long groups wait for members with which they were used last: an administrator who knows that no disk comes late need not wait, and one whose shelves
//! take a minute to spin up may want to wait longer.
use crate::{Group, scope::Glob};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Times by names of volumes. The first whose glob matches counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patience(Vec<(Glob, Duration)>);

impl Patience {
    /// Where nothing is said. As long as mdadm's timer (`mdadm-last-resort@.timer`).
    pub const USUAL: Duration = Duration::from_secs(30);

    /// These times, by globs of names.
    pub fn new(times: impl IntoIterator<Item = (Glob, Duration)>) -> Self {
        Self(times.into_iter().collect())
    }

    /// How long somebody of these names waits.
    pub fn of<'a>(&self, names: impl IntoIterator<Item = &'a str> + Clone) -> Duration {
        let is_for = |glob: &Glob| names.clone().into_iter().any(|name| glob.matches(name));
        let said = self.0.iter().find(|(glob, _)| is_for(glob));
        said.map_or(Self::USUAL, |(_, time)| *time)
    }

    /// How long a group waits, by the names of its volumes.
    pub(crate) fn of_group(&self, group: &Group) -> Duration {
        self.of(group.volumes.iter().map(|volume| volume.disk.as_str()))
    }
}
