//! What is going on: controllers, queue pairs, and what each core serves.
use super::*;
use uuid::Uuid;

impl Nvmf {
    /// Controllers of a subsystem.
    pub fn controllers(&self, nqn: &str) -> Result<Vec<ControllerInfo>> {
        let (controllers, cntrltype) = if nqn == DISCOVERY_NQN {
            (self.shared.state().discoverers.clone(), "discovery")
        } else {
            (self.find(nqn)?.inner().controllers.values().cloned().collect(), "io")
        };
        let info = |c: &Arc<Controller>| ControllerInfo {
            cntlid: c.cntlid,
            cntrltype,
            hostnqn: c.hostnqn.clone(),
            hostid: Uuid::from_bytes(c.hostid),
            num_io_qpairs: c.state().queues.keys().filter(|&&qid| qid > 0).count(),
        };
        Ok(controllers.iter().map(info).collect())
    }

    /// Queue pairs of a subsystem.
    pub fn qpairs(&self, nqn: &str) -> Result<Vec<QpairInfo>> {
        let controllers: Vec<_> = self.find(nqn)?.inner().controllers.values().cloned().collect();
        let mut all = Vec::new();
        for c in controllers {
            let state = c.state();
            all.extend(state.queues.iter().map(|(&qid, queue)| QpairInfo {
                cntlid: c.cntlid,
                qid,
                state: "enabled",
                core: queue.core,
                hostnqn: c.hostnqn.clone(),
                listen_address: queue.local,
                peer_address: queue.peer,
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
