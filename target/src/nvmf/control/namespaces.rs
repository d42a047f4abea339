//! Namespaces: volumes a subsystem offers, open on every core, and the hosts that see them.
use super::*;
use crate::nvmf::{
    guard::Guard,
    persist::{self, Unread},
    subsystem::Namespace,
};
use uuid::Uuid;

impl Nvmf {
    /// Offers a volume as a namespace; returns its id. The volume is opened on every core first.
    pub async fn add_namespace(&self, nqn: &str, config: NamespaceConfig) -> Result<u32> {
        let subsystem = self.find(nqn)?;
        let node = self
            .shared
            .graph
            .info(&config.volume)
            .ok_or_else(|| NvmfError::NoVolume(config.volume.clone()))?;
        let nsid = subsystem.choose_nsid(config.nsid)?;
        let groups = 1..=subsystem.config.max_namespaces;
        if let Some(group) = config.anagrpid.filter(|group| !groups.contains(group)) {
            let why = format!("{group} is not one of 1 to {}", groups.end());
            return Err(NvmfError::Invalid { what: "anagrpid", why });
        }
        let uuid = config.uuid.unwrap_or(node.uuid);
        let info = NamespaceInfo {
            nsid,
            volume: node.name.clone(),
            nguid: config.nguid.unwrap_or(*uuid.as_bytes()),
            eui64: config.eui64.filter(|id| *id != [0; 8]),
            uuid,
            anagrpid: config.anagrpid.unwrap_or(nsid),
            no_auto_visible: config.no_auto_visible,
            hosts: Vec::new(),
            ptpl_file: config.ptpl_file,
        };
        let guard = Arc::new(self.guard(nqn, uuid, info.ptpl_file.as_deref())?);
        {
            // Taken before the first await, so that two requests cannot get one id.
            let mut inner = subsystem.inner();
            if inner.namespaces.contains_key(&nsid) {
                return Err(NvmfError::NamespaceExists { nqn: nqn.into(), nsid });
            }
            let same_id = |n: &Namespace| n.info.uuid == uuid && !uuid.is_nil() || n.info.nguid == info.nguid;
            if inner.namespaces.values().any(same_id) {
                let why = format!("a namespace of '{nqn}' has this uuid or nguid already");
                return Err(NvmfError::Invalid { what: "uuid", why });
            }
            let guard = guard.clone();
            inner.namespaces.insert(nsid, Namespace { info, guard });
        }
        if let Err(error) = self
            .open_everywhere(&subsystem, nsid, &node.name, config.no_auto_visible, &guard)
            .await
        {
            subsystem.inner().namespaces.remove(&nsid);
            self.close_everywhere(&subsystem, nsid).await;
            return Err(error);
        }
        // What its group has now; the host that is told of the namespace reads that, too.
        let group = config.anagrpid.unwrap_or(nsid);
        subsystem.ana_changed(&mut subsystem.inner(), [group], |_| false);
        self.shared
            .namespace_changed(&subsystem, nsid, |_| !config.no_auto_visible);
        Ok(nsid)
    }

    /// What stands before a namespace: nobody, or whom the file of its reservations names. Blocks for a moment.
    fn guard(&self, nqn: &str, uuid: Uuid, ptpl_file: Option<&str>) -> Result<Guard> {
        let invalid = |why: String| NvmfError::Invalid { what: "ptpl_file", why };
        if let Some(file) = ptpl_file.filter(|file| self.has_ptpl_file(file)) {
            return Err(invalid(format!("another namespace keeps its reservations in '{file}'")));
        }
        let kept = self.shared.keeper.file(ptpl_file, nqn, uuid);
        let Some(kept) = kept.map_err(|error| invalid(error.to_string()))? else {
            return Ok(Guard::default());
        };
        let reservations = match kept.load() {
            Ok(reservations) => reservations.unwrap_or_default(),
            Err(Unread::Foreign(whose)) => {
                return Err(invalid(format!("'{}' is of {whose}", kept.path().display())));
            }
            Err(Unread::Damaged(why)) => {
                tracing::error!(
                    "namespace {uuid} of '{nqn}': its reservations in {} cannot be read: {why}. Until hosts register, nobody has \
                     access: register (nvme resv-register), then clear (nvme resv-release --rrela=1); or remove the file and \
                     restart",
                    kept.path().display()
                );
                persist::closed()
            }
        };
        Ok(Guard::new(reservations, Some(kept)))
    }

    fn has_ptpl_file(&self, file: &str) -> bool {
        let state = self.shared.state();
        let mut all = state.subsystems.values();
        all.any(|s| {
            let inner = s.inner();
            inner
                .namespaces
                .values()
                .any(|n| n.info.ptpl_file.as_deref() == Some(file))
        })
    }

    async fn open_everywhere(
        &self,
        subsystem: &Subsystem,
        nsid: u32,
        volume: &str,
        hidden: bool,
        guard: &Arc<Guard>,
    ) -> Result<()> {
        for core in 0..self.shared.reactors.count() {
            let (id, graph, volume, guard) = (
                subsystem.id,
                self.shared.graph.clone(),
                volume.to_owned(),
                guard.clone(),
            );
            let open = self
                .shared
                .reactors
                .call(core, move || Spaces::of(id).add(graph, nsid, volume, hidden, guard));
            open.await?;
        }
        Ok(())
    }

    async fn close_everywhere(&self, subsystem: &Subsystem, nsid: u32) {
        let id = subsystem.id;
        self.on_all_cores(move || Spaces::of(id).remove(nsid)).await;
    }

    /// Takes a namespace away. Returns when the last command on it is done and its volume is released.
    pub async fn remove_namespace(&self, nqn: &str, nsid: u32) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let removed = subsystem.inner().namespaces.remove(&nsid);
        let namespace = removed.ok_or_else(|| NvmfError::NoNamespace { nqn: nqn.into(), nsid })?;
        self.close_everywhere(&subsystem, nsid).await;
        self.shared
            .namespace_changed(&subsystem, nsid, |host| namespace.visible_to(host));
        Ok(())
    }

    /// Moves a namespace to an ANA group.
    pub fn set_namespace_ana_group(&self, nqn: &str, nsid: u32, anagrpid: u32) -> Result<()> {
        let subsystem = self.find(nqn)?;
        if anagrpid == 0 || anagrpid > subsystem.config.max_namespaces {
            let why = format!("{anagrpid} is not one of 1 to {}", subsystem.config.max_namespaces);
            return Err(NvmfError::Invalid { what: "anagrpid", why });
        }
        let mut inner = subsystem.inner();
        let namespace = inner
            .namespaces
            .get_mut(&nsid)
            .ok_or_else(|| NvmfError::NoNamespace { nqn: nqn.into(), nsid })?;
        let before = std::mem::replace(&mut namespace.info.anagrpid, anagrpid);
        let wake = subsystem.ana_changed(&mut inner, [before, anagrpid], |_| true);
        drop(inner);
        self.shared.wake_all(wake);
        Ok(())
    }

    /// Shows a hidden namespace to `host`.
    pub async fn add_namespace_host(&self, nqn: &str, nsid: u32, host: &str) -> Result<()> {
        if !nqn_is_valid(host) {
            return Err(NvmfError::BadNqn(host.into()));
        }
        self.change_namespace_hosts(nqn, nsid, host, |hosts| {
            if hosts.iter().any(|h| h == host) {
                return Err(NvmfError::HostExists {
                    nqn: nqn.into(),
                    host: host.into(),
                });
            }
            hosts.push(host.into());
            Ok(())
        })
        .await
    }

    /// Hides a namespace from `host` again.
    pub async fn remove_namespace_host(&self, nqn: &str, nsid: u32, host: &str) -> Result<()> {
        self.change_namespace_hosts(nqn, nsid, host, |hosts| {
            let at = hosts.iter().position(|h| h == host);
            let at = at.ok_or_else(|| NvmfError::NoHost {
                nqn: nqn.into(),
                host: host.into(),
            })?;
            hosts.remove(at);
            Ok(())
        })
        .await
    }

    async fn change_namespace_hosts(
        &self,
        nqn: &str,
        nsid: u32,
        host: &str,
        change: impl FnOnce(&mut Vec<String>) -> Result<()>,
    ) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let hosts = {
            let mut inner = subsystem.inner();
            let namespace = inner
                .namespaces
                .get_mut(&nsid)
                .ok_or_else(|| NvmfError::NoNamespace { nqn: nqn.into(), nsid })?;
            if !namespace.info.no_auto_visible {
                let why = format!("namespace {nsid} is visible to every host");
                return Err(NvmfError::Invalid { what: "nsid", why });
            }
            change(&mut namespace.info.hosts)?;
            namespace.info.hosts.clone()
        };
        let id = subsystem.id;
        for core in 0..self.shared.reactors.count() {
            let hosts = hosts.clone();
            self.shared
                .reactors
                .call(core, move || async move { Spaces::of(id).set_hosts(nsid, hosts) })
                .await;
        }
        self.shared.namespace_changed(&subsystem, nsid, |h| h == host);
        Ok(())
    }

    /// A volume has another size or another property: hosts are told to look again.
    pub async fn namespace_changed(&self, volume: &str) {
        for (subsystem, nsid) in self.namespaces_on(volume) {
            let hidden = subsystem.inner().namespaces.get(&nsid).cloned();
            self.shared.namespace_changed(&subsystem, nsid, |host| {
                hidden.as_ref().is_some_and(|n| n.visible_to(host))
            });
        }
    }

    /// A volume is gone for good: its namespaces go, too.
    pub async fn volume_gone(&self, volume: &str) {
        for (subsystem, nsid) in self.namespaces_on(volume) {
            // It may have gone in the meantime.
            let _ = self.remove_namespace(subsystem.nqn(), nsid).await;
        }
    }

    fn namespaces_on(&self, volume: &str) -> Vec<(Arc<Subsystem>, u32)> {
        let state = self.shared.state();
        let mut found = Vec::new();
        for subsystem in state.subsystems.values() {
            let inner = subsystem.inner();
            let on_it = inner.namespaces.values().filter(|n| n.info.volume == volume);
            found.extend(on_it.map(|n| (subsystem.clone(), n.info.nsid)));
        }
        found
    }
}
