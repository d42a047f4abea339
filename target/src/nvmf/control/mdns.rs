//! Publication by multicast DNS, switched on and off.
use super::*;
use crate::nvmf::mdns::Publisher;

impl Nvmf {
    /// Publishes the addresses of the discovery service from now on, as they come and go.
    pub fn publish_mdns(&self) -> Result<()> {
        let mut publisher = self.shared.publisher();
        if publisher.is_some() {
            return Err(NvmfError::Published);
        }
        if self.shared.state().ports.is_empty() {
            let why = "the discovery service listens nowhere yet; add a listener first".into();
            return Err(NvmfError::Invalid { what: "mdns", why });
        }
        let mut new = Publisher::start().map_err(NvmfError::Publish)?;
        new.update(&self.shared.listening());
        *publisher = Some(new);
        Ok(())
    }

    /// Withdraws what is published. Nothing happens if nothing is.
    pub fn stop_mdns(&self) {
        // Not under the lock: the link is told first.
        let publisher = self.shared.publisher().take();
        publisher.into_iter().for_each(Publisher::stop);
    }

    /// Whether addresses are published.
    pub fn publishes_mdns(&self) -> bool {
        self.shared.publisher().is_some()
    }
}
