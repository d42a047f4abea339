//! What hosts get by rule (`partitions_of`, `lvs_of`), and how it is taken back when a volume has to go.
use crate::names::{iqn, nqn};
use lvol::{Offers, plan::carry::Doing};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use target::{iscsi::Iscsi, nvmf::Nvmf};

#[derive(Default)]
struct State {
    /// The name of each volume's target and subsystem.
    names: BTreeMap<String, String>,
    /// Taken back since the last look.
    withdrawn: BTreeSet<String>,
}

/// The offers of one configuration.
pub(crate) struct Ruled {
    iscsi: Iscsi,
    nvmf: Nvmf,
    state: Mutex<State>,
}

impl Ruled {
    pub(crate) fn new(iscsi: Iscsi, nvmf: Nvmf) -> Self {
        Self {
            iscsi,
            nvmf,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the rules offer now: volume and name.
    pub(crate) fn note(&self, volumes: impl IntoIterator<Item = (String, String)>) {
        self.state().names.extend(volumes);
    }

    /// The names of what was taken back since the last time: they may be offered again.
    pub(crate) fn withdrawn(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.state().withdrawn)
    }

    fn name(&self, volume: &str) -> Option<String> {
        self.state().names.get(volume).cloned()
    }
}

impl Offers for Ruled {
    fn offers(&self, volume: &str) -> bool {
        self.name(volume).is_some()
    }

    fn host(&self, volume: &str) -> Option<String> {
        let name = self.name(volume)?;
        let (iqn, nqn) = (iqn(&name), nqn(&name));
        let connections = self.iscsi.connections();
        if let Some(connection) = connections.iter().find(|connection| connection.target_node_name == iqn) {
            return Some(format!("the host {} over iSCSI", connection.initiator_name));
        }
        let controllers = self.nvmf.controllers(&nqn).unwrap_or_default();
        let host = controllers.first().map(|controller| &controller.hostnqn);
        host.map(|host| format!("the host {host} over NVMe/TCP"))
    }

    fn withdraw<'a>(&'a self, volume: &'a str) -> Doing<'a> {
        Box::pin(async move {
            let Some(name) = self.name(volume) else { return Ok(()) };
            let (iqn, nqn) = (iqn(&name), nqn(&name));
            let target = self.iscsi.target_nodes().into_iter().find(|node| node.name == iqn);
            if let Some(target) = target {
                // Somebody may have added to it, and what is theirs stays.
                match target.luns.as_slice() {
                    [only] if only.bdev_name == volume => {
                        self.iscsi.delete_target_node(&iqn).map_err(|why| why.to_string())?;
                    }
                    luns => {
                        for lun in luns.iter().filter(|lun| lun.bdev_name == volume) {
                            self.iscsi.remove_lun(&iqn, lun.lun_id).map_err(|why| why.to_string())?;
                        }
                    }
                }
            }
            if let Ok(subsystem) = self.nvmf.subsystem(&nqn) {
                match subsystem.namespaces.as_slice() {
                    [only] if only.volume == volume => {
                        self.nvmf.delete_subsystem(&nqn).await.map_err(|why| why.to_string())?;
                    }
                    namespaces => {
                        for namespace in namespaces.iter().filter(|namespace| namespace.volume == volume) {
                            let removed = self.nvmf.remove_namespace(&nqn, namespace.nsid).await;
                            removed.map_err(|why| why.to_string())?;
                        }
                    }
                }
            }
            let mut state = self.state();
            state.names.remove(volume);
            state.withdrawn.insert(name);
            Ok(())
        })
    }
}
