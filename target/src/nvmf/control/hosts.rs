//! Hosts: who may connect to a subsystem.
use super::*;
use crate::{
    keyring::{KeyError, Keyring},
    nvmf::subsystem::HostKeys,
};
use std::collections::btree_map::Entry;

impl Nvmf {
    /// Keys by name, which hosts and subsystems are authenticated with.
    pub fn keyring(&self) -> &Keyring {
        &self.shared.keyring
    }

    /// Allows `host` to connect; with a key, once it has proved that it has that.
    pub fn add_host(&self, nqn: &str, host: &str, keys: HostKeys) -> Result<()> {
        if !nqn_is_valid(host) {
            return Err(NvmfError::BadNqn(host.into()));
        }
        let subsystem = self.find(nqn)?;
        self.check_keys(&keys)?;
        match subsystem.inner().hosts.entry(host.into()) {
            Entry::Vacant(place) => drop(place.insert(keys)),
            Entry::Occupied(_) => {
                return Err(NvmfError::HostExists {
                    nqn: nqn.into(),
                    host: host.into(),
                });
            }
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// Gives an allowed host other keys. They count from its next authentication on; queues that are in use stay.
    pub fn set_keys(&self, nqn: &str, host: &str, keys: HostKeys) -> Result<()> {
        let subsystem = self.find(nqn)?;
        self.check_keys(&keys)?;
        let mut inner = subsystem.inner();
        let place = inner.hosts.get_mut(host).ok_or_else(|| NvmfError::NoHost {
            nqn: nqn.into(),
            host: host.into(),
        })?;
        *place = keys;
        Ok(())
    }

    fn check_keys(&self, keys: &HostKeys) -> Result<()> {
        if keys.dhchap_ctrlr_key.is_some() && keys.dhchap_key.is_none() {
            return Err(NvmfError::Invalid {
                what: "dhchap_ctrlr_key",
                why: "the host must have a dhchap_key, too".into(),
            });
        }
        let unknown = [&keys.dhchap_key, &keys.dhchap_ctrlr_key]
            .into_iter()
            .flatten()
            .find(|name| !self.shared.keyring.has(name));
        match unknown {
            None => Ok(()),
            Some(name) => Err(NvmfError::Invalid {
                what: "key",
                why: KeyError::Unknown(name.clone()).to_string(),
            }),
        }
    }

    /// No longer allows `host`, and disconnects it unless any host is allowed.
    pub async fn remove_host(&self, nqn: &str, host: &str) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let any = {
            let mut inner = subsystem.inner();
            if inner.hosts.remove(host).is_none() {
                return Err(NvmfError::NoHost {
                    nqn: nqn.into(),
                    host: host.into(),
                });
            }
            inner.allow_any_host
        };
        if !any {
            self.disconnect(&subsystem, |c| c.hostnqn == host).await;
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// Allows every host, or only those that were added. Connected hosts stay.
    pub fn allow_any_host(&self, nqn: &str, allow: bool) -> Result<()> {
        self.find(nqn)?.inner().allow_any_host = allow;
        self.shared.discovery_changed();
        Ok(())
    }
}
