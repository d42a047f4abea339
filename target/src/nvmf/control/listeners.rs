//! Listeners: the addresses of a subsystem. Subsystems with the same address share its port.
use super::*;
use crate::nvmf::{ana::Ways, subsystem::Listener};
use spec::nvme::ana::AnaState;

impl Nvmf {
    /// Listens at `address`; returns the address with the port that was bound.
    pub async fn add_listener(&self, nqn: &str, address: ListenAddress, ana: AnaState) -> Result<SocketAddr> {
        self.listen(nqn, address, ana, false).await
    }

    /// The same for hosts that come by TLS, with their key, or not at all. All who share a port agree on that.
    pub async fn add_secure_listener(&self, nqn: &str, address: ListenAddress, ana: AnaState) -> Result<SocketAddr> {
        if !tls::BUILT {
            return Err(tls::Failed::NotBuilt.into());
        }
        self.listen(nqn, address, ana, true).await
    }

    async fn listen(&self, nqn: &str, address: ListenAddress, ana: AnaState, secure: bool) -> Result<SocketAddr> {
        let bound = if nqn == DISCOVERY_NQN {
            self.open_port(address.socket, secure)?.0
        } else {
            let subsystem = self.find(nqn)?;
            subsystem.check_listener(&address)?;
            check_reporting(&subsystem, ana)?;
            if secure && subsystem.inner().allow_any_host {
                return Err(NvmfError::SecureForAny);
            }
            // Before the port is open: a host that comes at once is at the right place, and not told never to come again.
            {
                let mut inner = subsystem.inner();
                inner.listeners.push(Listener {
                    address: address.clone(),
                    port_id: 0,
                    ways: Ways::all(ana),
                    secure,
                });
                inner.guard_ways();
            }
            let opened = self.open_port(address.socket, secure);
            let known = {
                let mut inner = subsystem.inner();
                let at = inner.listeners.iter().position(|l| l.address == address);
                match (&opened, at) {
                    (Ok((socket, port_id)), Some(at)) => {
                        let listener = &mut inner.listeners[at];
                        (listener.address.socket, listener.port_id) = (*socket, *port_id);
                    }
                    (Err(_), Some(at)) => {
                        inner.listeners.remove(at);
                        inner.guard_ways();
                    }
                    (_, None) => {}
                }
                at.is_some()
            };
            let (socket, _) = opened?;
            if !known {
                // Taken away again before it was open.
                self.close_port(socket).await;
                let nqn = nqn.into();
                return Err(NvmfError::NoListener { nqn, address: socket });
            }
            socket
        };
        self.shared.discovery_changed();
        Ok(bound)
    }

    fn open_port(&self, address: SocketAddr, secure: bool) -> Result<(SocketAddr, u16)> {
        let mut state = self.shared.state();
        if state.transport.is_none() {
            return Err(NvmfError::NoTransport("TCP".into()));
        }
        if let Some(port) = state.ports.get_mut(&address) {
            match (port.secure, secure) {
                (true, false) => return Err(NvmfError::PortSecure(address)),
                (false, true) => return Err(NvmfError::PortPlain(address)),
                _ => {}
            }
            port.users += 1;
            return Ok((address, port.id));
        }
        let id = state.next_port;
        let (port, bound) = Port::open(&self.shared, id, address, secure)?;
        state.next_port = id.wrapping_add(1).max(1);
        state.ports.insert(bound, port);
        Ok((bound, id))
    }

    /// Stops listening at `address` for this subsystem and disconnects the hosts that came through it.
    pub async fn remove_listener(&self, nqn: &str, address: &ListenAddress) -> Result<()> {
        let socket = address.socket;
        let no_listener = || NvmfError::NoListener {
            nqn: nqn.into(),
            address: socket,
        };
        let subsystem = match nqn {
            DISCOVERY_NQN => None,
            _ => Some(self.find(nqn)?),
        };
        if let Some(subsystem) = &subsystem {
            let mut inner = subsystem.inner();
            let at = inner.listeners.iter().position(|l| l.address == *address);
            inner.listeners.remove(at.ok_or_else(no_listener)?);
        }
        // First, so that a host that is sent away and comes back at once finds nobody, and is not told never to come again.
        if !self.close_port(socket).await {
            return Err(no_listener());
        }
        if let Some(subsystem) = &subsystem {
            let gone = |local: SocketAddr| !subsystem.inner().listens_on(local);
            let queues: Vec<SocketAddr> = subsystem.inner().controllers.values().map(|c| c.local).collect();
            let cut: Vec<SocketAddr> = queues.into_iter().filter(|local| gone(*local)).collect();
            self.disconnect(subsystem, |c| cut.contains(&c.local)).await;
        }
        self.shared.discovery_changed();
        Ok(())
    }

    /// One user of a port less; the last one closes it. False if there is no such port.
    async fn close_port(&self, socket: SocketAddr) -> bool {
        let port = {
            let mut state = self.shared.state();
            let Some(port) = state.ports.get_mut(&socket) else {
                return false;
            };
            port.users -= 1;
            if port.users == 0 {
                state.ports.remove(&socket)
            } else {
                None
            }
        };
        if let Some(port) = port {
            port.close().await;
        }
        true
    }

    /// Listeners of a subsystem.
    pub fn listeners(&self, nqn: &str) -> Result<Vec<ListenerInfo>> {
        if nqn == DISCOVERY_NQN {
            let state = self.shared.state();
            let info = |(&socket, port): (&SocketAddr, &Port)| ListenerInfo {
                address: ListenAddress { socket },
                secure: port.secure,
                ana_states: Vec::new(),
            };
            return Ok(state.ports.iter().map(info).collect());
        }
        Ok(self.find(nqn)?.listeners())
    }

    /// Sets the state of one ANA group, or of all, as seen through a listener, and tells the hosts that came through it.
    pub fn set_listener_ana_state(
        &self,
        nqn: &str,
        address: &ListenAddress,
        anagrpid: Option<u32>,
        state: AnaState,
    ) -> Result<()> {
        let subsystem = self.find(nqn)?;
        let max = subsystem.config.max_namespaces;
        if let Some(group) = anagrpid.filter(|g| *g == 0 || *g > max) {
            return Err(NvmfError::Invalid {
                what: "anagrpid",
                why: format!("{group} is not one of 1 to {max}"),
            });
        }
        check_reporting(&subsystem, state)?;
        let wake = {
            let mut guard = subsystem.inner();
            let inner = &mut *guard;
            let listener = inner.listeners.iter_mut().find(|l| l.address == *address);
            let listener = listener.ok_or_else(|| NvmfError::NoListener {
                nqn: nqn.into(),
                address: address.socket,
            })?;
            listener.ways.set(anagrpid, state);
            let groups = match anagrpid {
                Some(group) => group..=group,
                None => 1..=max,
            };
            let here = |local: &SocketAddr| inner.listener_at(*local).is_some_and(|l| l.address == *address);
            let locals = inner.controllers.values().map(|c| c.local);
            let concerned: Vec<SocketAddr> = locals.filter(here).collect();
            subsystem.ana_changed(inner, groups, |local| concerned.contains(&local))
        };
        self.shared.wake_all(wake);
        Ok(())
    }
}

/// A way is not shut where hosts would not hear of it, and so would not look for another one.
fn check_reporting(subsystem: &Subsystem, state: AnaState) -> Result<()> {
    match subsystem.config.ana_reporting || state.refusal().is_none() {
        true => Ok(()),
        false => Err(NvmfError::Invalid {
            what: "ana_state",
            why: format!(
                "'{}' was created without ana_reporting, so hosts cannot be told",
                subsystem.nqn()
            ),
        }),
    }
}
