//! Hosts: who may connect to a subsystem.
use super::*;

impl Nvmf {
    /// Allows `host` to connect.
    pub fn add_host(&self, nqn: &str, host: &str) -> Result<()> {
        if !nqn_is_valid(host) {
            return Err(NvmfError::BadNqn(host.into()));
        }
        let subsystem = self.find(nqn)?;
        if !subsystem.inner().hosts.insert(host.into()) {
            return Err(NvmfError::HostExists {
                nqn: nqn.into(),
                host: host.into(),
            });
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// No longer allows `host`, and disconnects it unless any host is allowed.
    pub async fn remove_host(&self, nqn: &str, host: &str) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let any = {
            let mut inner = subsystem.inner();
            if !inner.hosts.remove(host) {
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
