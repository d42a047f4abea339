//! What is going on: controllers, queue pairs, and what each core serves.
use super::*;
use crate::nvmf::reservation::{HostId, Reservations};
use spec::nvme::tls::Made;
use uuid::Uuid;

impl Nvmf {
    /// Controllers of a subsystem.
    pub fn controllers(&self, nqn: &str) -> Result<Vec<ControllerInfo>> {
        let (controllers, cntrltype) = if nqn == DISCOVERY_NQN {
            (self.shared.state().discoverers.clone(), "discovery")
        } else {
            (self.find(nqn)?.inner().controllers.values().cloned().collect(), "io")
        };
        let info = |c: &Arc<Controller>| {
            let state = c.state();
            ControllerInfo {
                cntlid: c.cntlid,
                cntrltype,
                hostnqn: c.hostnqn.clone(),
                hostid: Uuid::from_bytes(c.hostid),
                num_io_qpairs: state.queues.keys().filter(|&&qid| qid > 0).count(),
                ready: state.is_ready(),
                keep_alive_ms: state.features.keep_alive_ms,
            }
        };
        Ok(controllers.iter().map(info).collect())
    }

    /// Queue pairs of a subsystem, with what their connections are doing.
    pub async fn queues(&self, nqn: &str) -> Result<Vec<QueueInfo>> {
        let mut doing = BTreeMap::new();
        for core in 0..self.shared.reactors.count() {
            let here = self.shared.reactors.call(core, || async { connection::doing() });
            doing.extend(here.await.into_iter().map(|one| (one.connection, one)));
        }
        let pairs = self.pairs(nqn)?.into_iter();
        let info = |(id, pair)| {
            let one: connection::Doing = doing.get(&id).copied().unwrap_or_default();
            QueueInfo {
                pair,
                depth: one.depth,
                in_flight: one.in_flight,
                header_digest: one.header_digest,
                data_digest: one.data_digest,
            }
        };
        Ok(pairs.map(info).collect())
    }

    /// The reservations of each namespace of a subsystem.
    pub fn reservations(&self, nqn: &str) -> Result<BTreeMap<u32, ReservationInfo>> {
        let subsystem = self.find(nqn)?;
        let inner = subsystem.inner();
        let nqn_of = |host: &HostId| {
            let mut all = inner.controllers.values();
            all.find(|c| c.hostid == *host).map(|c| c.hostnqn.clone())
        };
        let info = |r: &Reservations| ReservationInfo {
            generation: r.generation,
            persist: r.persists,
            kind: r.held.map(|(kind, _)| kind.name()),
            registrants: r
                .registrants
                .iter()
                .map(|(host, &key)| RegistrantInfo {
                    hostid: Uuid::from_bytes(*host),
                    hostnqn: nqn_of(host),
                    key,
                    holder: r.holds(host),
                })
                .collect(),
        };
        Ok(inner
            .namespaces
            .iter()
            .map(|(&nsid, n)| (nsid, n.guard.look(info)))
            .collect())
    }

    /// Queue pairs of a subsystem.
    pub fn qpairs(&self, nqn: &str) -> Result<Vec<QpairInfo>> {
        Ok(self.pairs(nqn)?.into_iter().map(|(_, pair)| pair).collect())
    }

    /// The same with the numbers of their connections.
    fn pairs(&self, nqn: &str) -> Result<Vec<(u64, QpairInfo)>> {
        let controllers: Vec<_> = self.find(nqn)?.inner().controllers.values().cloned().collect();
        let mut all = Vec::new();
        for c in controllers {
            let state = c.state();
            all.extend(state.queues.iter().map(|(&qid, queue)| {
                let pair = QpairInfo {
                    cntlid: c.cntlid,
                    qid,
                    state: match queue.auth {
                        Some(auth) if !auth.open => "authenticating",
                        _ => "enabled",
                    },
                    core: queue.core,
                    hostnqn: c.hostnqn.clone(),
                    listen_address: queue.local,
                    peer_address: queue.peer,
                    tls: queue.suite.map(tls::Suite::name),
                    psk: queue.psk.map(|made| match made {
                        Made::Retained => "configured",
                        Made::Generated => "generated",
                    }),
                    auth: queue.auth,
                };
                (queue.connection, pair)
            }));
        }
        Ok(all)
    }

    /// What each core serves and has served.
    pub async fn stats(&self) -> Vec<PollGroupStats> {
        let mut all = Vec::new();
        for core in 0..self.shared.reactors.count() {
            all.push(self.shared.reactors.call(core, || async { connection::stats() }).await);
        }
        all
    }
}
