//! The short form in terms of the long one: each volume becomes a target node with LUN 0 and a subsystem with namespace 1.
use crate::{
    names::{iqn, nqn, volume_name},
    schema::{Config, Lun, Namespace, Node, Protocol, Subsystem},
};
use lvol::{EngineError, Handle};
use std::collections::BTreeMap;

/// What hosts get, in the long form.
pub(crate) struct Lowered {
    pub nodes: Vec<Node>,
    pub subsystems: Vec<Subsystem>,
    /// Volumes that are not offered because hosts would know them by the name of another: the volume, and why.
    pub clashes: BTreeMap<String, String>,
}

/// Names that hosts know volumes by, each with its disk.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    /// Takes a name for a disk. If another one has it already, that is why not.
    fn take(&mut self, name: &str, disk: &str) -> Option<String> {
        match self.0.get(name) {
            Some(other) if other != disk => Some(format!(
                "its name for hosts would be {name}, which is that of {other:?}; rename one of them, or serve it under a `name` of its own"
            )),
            _ => {
                self.0.insert(name.to_owned(), disk.to_owned());
                None
            }
        }
    }
}

/// What the file says in the long form, then the short form's volumes. Partitions and volumes of groups as far as they are found by now.
pub(crate) async fn lower(config: &Config, engine: &Handle) -> Result<Lowered, EngineError> {
    let (mut iqns, mut nqns, mut clashes) = (Names::default(), Names::default(), BTreeMap::new());
    let mut nodes = config.targets.iscsi.nodes.clone();
    let mut subsystems = config.targets.nvme.subsystems.clone();
    for volume in &config.volumes {
        let own = |disk: String| (volume_name(&disk), disk);
        let each: Vec<(String, String)> = match (&volume.partitions_of, &volume.name, &volume.on) {
            _ if volume.lvs_of.is_some() => {
                let group = volume.lvs_of.as_ref().map(|group| group.as_str()).unwrap_or_default();
                engine.volumes_of(group).await?.into_iter().map(own).collect()
            }
            (Some(disk), ..) => parts(engine, disk).await?.into_iter().map(own).collect(),
            (None, name, on) => {
                // Checked: at least one is there, and one stands for the other.
                let Some(on) = on.as_ref().or(name.as_ref()) else {
                    continue;
                };
                let name = name.as_ref().map_or_else(|| volume_name(on), |name| name.to_string());
                vec![(name, on.to_string())]
            }
        };
        for (name, on) in each {
            let (over_iscsi, over_nvme) = (
                volume.over.contains(&Protocol::Iscsi),
                volume.over.contains(&Protocol::Nvme),
            );
            let taken = over_iscsi.then(|| iqns.take(&iqn(&name), &on)).flatten();
            if let Some(why) = taken.or_else(|| over_nvme.then(|| nqns.take(&nqn(&name), &on)).flatten()) {
                clashes.insert(on, why);
                continue;
            }
            if over_iscsi && !nodes.iter().any(|node| *node.name == iqn(&name)) {
                let luns = vec![Lun {
                    lun: 0.into(),
                    volume: on.as_str().into(),
                    options: Default::default(),
                }];
                nodes.push(Node {
                    name: iqn(&name).into(),
                    alias: Some(name.clone()),
                    luns,
                    ..Node::default()
                });
            }
            if over_nvme && !subsystems.iter().any(|s| *s.nqn == nqn(&name)) {
                let namespaces = vec![Namespace {
                    nsid: 1.into(),
                    volume: on.as_str().into(),
                    hosts: None,
                }];
                subsystems.push(Subsystem {
                    nqn: nqn(&name).into(),
                    namespaces,
                    ..Subsystem::default()
                });
            }
        }
    }
    Ok(Lowered {
        nodes,
        subsystems,
        clashes,
    })
}

/// What rules offer now: each volume with its name.
pub(crate) async fn ruled(config: &Config, engine: &Handle) -> Result<Vec<(String, String)>, EngineError> {
    let mut ruled = Vec::new();
    for volume in &config.volumes {
        let disks = match (&volume.lvs_of, &volume.partitions_of) {
            (Some(group), _) => engine.volumes_of(group).await?,
            (None, Some(disk)) => parts(engine, disk).await?,
            (None, None) => Vec::new(),
        };
        ruled.extend(disks.into_iter().map(|disk| (disk.clone(), volume_name(&disk))));
    }
    Ok(ruled)
}

/// The partitions found on a disk, those inside partitions instead of the ones they are in.
async fn parts(engine: &Handle, disk: &str) -> Result<Vec<String>, EngineError> {
    let mut leaves = Vec::new();
    let parts_of =
        async |disk: &str| Ok::<_, EngineError>(engine.disk(disk).await?.map(|found| found.parts).unwrap_or_default());
    let mut todo = parts_of(disk).await?;
    // The next one last.
    todo.reverse();
    while let Some(part) = todo.pop() {
        match parts_of(&part).await? {
            none if none.is_empty() => leaves.push(part),
            inner => todo.extend(inner.into_iter().rev()),
        }
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_volumes_never_have_one_name() {
        let mut names = Names::default();
        let mut take = |disk: &str| names.take(&iqn(&volume_name(disk)), disk);
        assert_eq!(take("vg/my_data"), None);
        assert_eq!(take("vg/my_data"), None, "the same again");
        assert_eq!(take("vg/other"), None);
        for disk in ["vg/my-data", "vg/My_Data"] {
            let why = take(disk).unwrap();
            assert!(why.contains("vg:my-data") && why.contains("vg/my_data"), "{why}");
        }
    }
}
