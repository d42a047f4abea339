//! Hosts: who may connect to a subsystem.
use super::*;
use crate::{
    keyring::{KeyError, Keyring},
    nvmf::subsystem::HostKeys,
};
use spec::nvme::tls::ConfiguredPsk;
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

    /// Gives an allowed host other keys; without a key for TLS it keeps the one it has. They count from its next authentication on; queues that are in use stay.
    pub fn set_keys(&self, nqn: &str, host: &str, keys: HostKeys) -> Result<()> {
        let subsystem = self.find(nqn)?;
        self.check_keys(&keys)?;
        let mut inner = subsystem.inner();
        let place = inner.hosts.get_mut(host).ok_or_else(|| NvmfError::NoHost {
            nqn: nqn.into(),
            host: host.into(),
        })?;
        let psk = keys.psk.clone().or(place.psk.take());
        *place = HostKeys { psk, ..keys };
        Ok(())
    }

    fn check_keys(&self, keys: &HostKeys) -> Result<()> {
        if let Some(name) = keys.psk.as_ref().filter(|name| self.shared.keyring.has(name)) {
            let text = self.shared.keyring.read(name).map_err(|error| error.to_string());
            let psk = text.and_then(|text| ConfiguredPsk::parse(&text).map_err(|error| format!("'{name}': {error}")));
            psk.map_err(|why| NvmfError::Invalid { what: "psk", why })?;
        }
        if keys.dhchap_ctrlr_key.is_some() && keys.dhchap_key.is_none() {
            return Err(NvmfError::Invalid {
                what: "dhchap_ctrlr_key",
                why: "the host must have a dhchap_key, too".into(),
            });
        }
        let unknown = [&keys.psk, &keys.dhchap_key, &keys.dhchap_ctrlr_key]
            .into_iter()
            .flatten()
            .find(|name| !self.shared.keyring.has(name));
        match unknown {
            None => Ok(()),
            Some(name) => Err(NvmfError::Invalid {
                what: if keys.psk.as_ref() == Some(name) { "psk" } else { "key" },
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
        let subsystem = self.find(nqn)?;
        {
            let mut inner = subsystem.inner();
            if allow && inner.listeners.iter().any(|listener| listener.secure) {
                return Err(NvmfError::SecureForAny);
            }
            inner.allow_any_host = allow;
        }
        self.shared.discovery_changed();
        Ok(())
    }
}
