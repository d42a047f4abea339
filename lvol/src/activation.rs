//! Which volumes of groups run: by themselves as their metadata says, or as somebody has asked since.
//!
//! Arrays of MD are such volumes, too: `raid stop` and `raid assemble`.
//!
//! What is asked for is kept beside the graph and not in any metadata, as with LVM2: it outlives an engine and ends with the process that serves hosts. At the
//! next start what the metadata says counts again (`ACTIVATION_SKIP`, `NOAUTOACTIVATE`); `lv-change` and `vg-change` change that.
use crate::{
    ChangeError, Engine,
    change::View,
    group::{Group, GroupState, Volume},
    plan::{Code, Draft, Refusal, Request, Stamp},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is wanted of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// It runs if its metadata does not say otherwise (`-aay`).
    #[default]
    Auto,
    /// It runs, also if it is not to become active by itself (`-ay`).
    Active,
    /// It runs, also if it is marked to be left out (`-ay -K`).
    Anyway,
    /// It does not run (`-an`).
    Inactive,
}

/// What somebody has asked for, by the identities of group and volume.
pub type Desires = BTreeMap<String, Desired>;

/// Under which key a volume's is.
pub(crate) fn key(group: &str, volume: &str) -> String {
    format!("{group}/{volume}")
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// Volumes that were asked for and run now.
    pub active: Vec<String>,
    /// Volumes that were asked for and do not.
    pub inactive: Vec<String>,
    /// Why some do not that should.
    pub warnings: Vec<String>,
}

impl Engine {
    /// From now on this is wanted of a volume, or of all of a group. All of them or none: a volume that is in use stays, and with it the others. A volume that
    /// cannot run is refused; of a group those run that can.
    pub async fn activate(&self, object: &str, desired: Desired) -> Result<Activated, ChangeError> {
        let _work = self.inner.work.lock().await;
        self.settle().await;
        let (whole, volumes) = self.meant(object)?;
        if desired == Desired::Inactive {
            for (_, disk) in &volumes {
                self.unused(disk)?;
            }
        }
        let before = self.state().desires.clone();
        self.desire(volumes.iter().map(|(key, _)| (key.clone(), desired)));
        if desired == Desired::Inactive {
            for (_, disk) in volumes.iter().filter(|(_, disk)| self.runtime().info(disk).is_some()) {
                if let Err(why) = self.release(disk).await {
                    // Somebody has come meanwhile. What was taken away already comes back.
                    self.desire_again(before).await;
                    return Err(why);
                }
            }
        }
        self.settle().await;
        let mut done = Activated::default();
        for (_, disk) in &volumes {
            if self.runtime().info(disk).is_some() {
                done.active.push(disk.clone());
                continue;
            }
            done.inactive.push(disk.clone());
            let idle = self.disk(disk).filter(|_| desired != Desired::Inactive);
            if let Some(idle) = idle {
                done.warnings.push(format!("{disk} {}", idle.reason));
            }
        }
        match done.warnings.first().filter(|_| !whole) {
            None => Ok(done),
            Some(why) => {
                let refusal = Refusal::new(Code::Incomplete, why.clone());
                self.desire_again(before).await;
                Err(refusal.into())
            }
        }
    }

    /// The volumes that an object means, with their keys; and whether it is a group.
    fn meant(&self, object: &str) -> Result<(bool, Vec<(String, String)>), Refusal> {
        let state = self.state();
        let known = |group: &&Group| group.format == "lvm2";
        let named = |group: &&Group| group.name == object || group.id == object;
        let one = |group: &Group, volume: &Volume| (key(&group.id, &volume.what.id), volume.disk.clone());
        let mut groups = state.groups.iter().filter(known).filter(named);
        if let Some(group) = groups.next() {
            usable(group)?;
            let visible = group.volumes.iter().filter(|volume| !volume.hidden);
            return Ok((true, visible.map(|volume| one(group, volume)).collect()));
        }
        let all = state.groups.iter().filter(|group| known(group) || group.format == "md");
        let mut volumes = all.flat_map(|group| group.volumes.iter().map(move |volume| (group, volume)));
        let (group, volume) = volumes.find(|(_, volume)| volume.disk == object).ok_or_else(|| {
            let why = format!("there is no volume group, no volume of one and no array called {object:?}");
            Refusal::new(Code::NotFound, why).but("`ashlar vg ls`, `ashlar vg show` and `ashlar raid ls` list them")
        })?;
        usable(group)?;
        Ok((false, vec![one(group, volume)]))
    }

    /// Refuses if somebody uses a volume or what lies on it.
    fn unused(&self, disk: &str) -> Result<(), Refusal> {
        let view = View(self);
        let mut draft = Draft::new(&view, Request::new("deactivate", disk), Stamp::now());
        draft.release(disk)
    }

    fn desire(&self, what: impl Iterator<Item = (String, Desired)>) {
        let desires = {
            let mut state = self.state();
            state.desires.extend(what);
            state.reassemble = true;
            state.desires.clone()
        };
        self.runtime().desire(desires);
    }

    async fn desire_again(&self, before: Desires) {
        {
            let mut state = self.state();
            state.desires.clone_from(&before);
            state.reassemble = true;
        }
        self.runtime().desire(before);
        self.settle().await;
    }
}

/// Nobody touches the volumes of a group that is not ours, or of which nobody can tell the truth.
fn usable(group: &Group) -> Result<(), Refusal> {
    let code = match group.state {
        GroupState::Complete | GroupState::Partial | GroupState::Waiting => return Ok(()),
        GroupState::Foreign => Code::Foreign,
        GroupState::Ambiguous => Code::Ambiguous,
    };
    Err(Refusal::new(code, format!("{:?} {}", group.name, group.reason)))
}
