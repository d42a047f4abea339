//! A controller: one host's association with a subsystem. Made by the Connect of an admin queue, gone with it.
//!
//! Shared by the cores its queues live on. Nothing here is touched per I/O, except for the time stamp that counts as a
//! sign of life, and that at most ten times a second.
use super::{auth::AuthReport, features::Features, subsystem::Subsystem};
use spec::nvme::{
    Sqe, Status, feature,
    log::ErrorEntry,
    property,
    reservation::{self, Notice},
    tls::Made,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Asynchronous Event Requests a controller keeps (AERL + 1).
pub const AER_LIMIT: usize = 4;
/// Error log entries a controller keeps (ELPE + 1).
pub const ERROR_LOG: usize = 64;
/// Namespaces the changed namespace list names before it gives up and says "all" (Base 2.0d, 5.16.1.5).
const CHANGED_MAX: usize = 1024;
/// Reservation notices a controller keeps; the host is told how many wait in a byte.
const NOTICES: usize = 255;

/// Who a controller is; never changes.
pub struct Controller {
    /// CNTLID, unique in the subsystem.
    pub cntlid: u16,
    /// The subsystem; `None` for a discovery controller.
    pub subsystem: Option<Arc<Subsystem>>,
    /// Host NQN.
    pub hostnqn: String,
    /// Host identifier.
    pub hostid: [u8; 16],
    /// Where the host connected its admin queue.
    pub local: SocketAddr,
    state: Mutex<State>,
    /// Nanoseconds on the reactor's clock when the host was last heard of.
    seen: AtomicU64,
}

/// What a subsystem has served since the process started, for the health log: queues add to it now and then.
#[derive(Default)]
pub struct Served {
    /// 512-byte units read.
    pub units_read: AtomicU64,
    /// 512-byte units written.
    pub units_written: AtomicU64,
    /// Read commands (Compare and Verify count as such).
    pub reads: AtomicU64,
    /// Write commands (Copy counts as one).
    pub writes: AtomicU64,
    /// Commands that failed because the medium did.
    pub media_errors: AtomicU64,
}

/// A queue of a controller: where its connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The reactor.
    pub core: usize,
    /// The connection's number on that reactor.
    pub connection: u64,
    /// This side's address.
    pub local: SocketAddr,
    /// The host's address.
    pub peer: SocketAddr,
    /// How its bytes are encrypted, if it came by TLS.
    pub suite: Option<tls::Suite>,
    /// The kind of key for that.
    pub psk: Option<Made>,
    /// How far its authentication has come, if it must be or has been authenticated.
    pub auth: Option<AuthReport>,
}

/// What changes, under one lock.
pub struct State {
    /// CC.
    pub cc: property::Cc,
    /// CSTS.
    pub csts: u32,
    /// Features in force.
    pub features: Features,
    /// Queues by QID; 0 is the admin queue.
    pub queues: BTreeMap<u16, Queue>,
    errors: VecDeque<ErrorEntry>,
    error_count: u64,
    changed: BTreeSet<u32>,
    /// Reservation notices, oldest first, and how many were read.
    notices: VecDeque<(Notice, u32)>,
    notices_read: u64,
    /// Events that wait for a request, as completion words.
    events: VecDeque<u32>,
    /// Events told and not yet looked into: they are not told again (Base 2.0d, 5.2).
    told: Vec<u32>,
}

impl Controller {
    /// A controller whose admin queue is `queue`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        cntlid: u16,
        subsystem: Option<Arc<Subsystem>>,
        hostnqn: String,
        hostid: [u8; 16],
        features: Features,
        queue: Queue,
        now: u64,
    ) -> Self {
        Self {
            cntlid,
            subsystem,
            hostnqn,
            hostid,
            local: queue.local,
            state: Mutex::new(State {
                cc: property::Cc::default(),
                csts: 0,
                features,
                queues: BTreeMap::from([(0, queue)]),
                errors: VecDeque::new(),
                error_count: 0,
                changed: BTreeSet::new(),
                notices: VecDeque::new(),
                notices_read: 0,
                events: VecDeque::new(),
                told: Vec::new(),
            }),
            seen: AtomicU64::new(now),
        }
    }

    /// A discovery controller.
    pub fn is_discovery(&self) -> bool {
        self.subsystem.is_none()
    }

    /// The changing part. A panic elsewhere leaves plain values behind, so a poisoned lock is still a good one.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The host gave a sign of life.
    pub fn saw(&self, now: u64) {
        self.seen.store(now, Relaxed);
    }

    /// The keep-alive timer has run out.
    pub fn is_silent(&self, now: u64) -> bool {
        let kato = match self.state().features.keep_alive_ms {
            // A discovery controller without a timer of its own is kept for two minutes (Base 2.0d, 3.9).
            0 if self.is_discovery() => 120_000,
            ms => ms,
        };
        // Signs of life are written down at most every 100 ms, and the judge looks once a second.
        kato > 0 && now.saturating_sub(self.seen.load(Relaxed)) > u64::from(kato) * 1_000_000 + 100_000_000
    }

    /// Writes a failed command into the error log.
    pub fn log_error(&self, qid: u16, sqe: &Sqe, status: Status, lba: u64) {
        if let Some(subsystem) = self.subsystem.as_ref().filter(|_| status.is_of_medium()) {
            subsystem.served.media_errors.fetch_add(1, Relaxed);
        }
        let mut state = self.state();
        state.error_count += 1;
        let entry = ErrorEntry::new(state.error_count, qid, sqe, status, lba);
        if state.errors.len() == ERROR_LOG {
            state.errors.pop_back();
        }
        state.errors.push_front(entry);
    }

    /// A namespace has come, gone or changed. Returns the admin queue to wake if the host wants to know.
    pub fn namespace_changed(&self, nsid: u32) -> Option<Queue> {
        let mut state = self.state();
        if state.changed.len() <= CHANGED_MAX {
            state.changed.insert(nsid);
        }
        state.post(feature::AEN_NAMESPACE_ATTRIBUTE, feature::EVENT_NAMESPACE_CHANGED)
    }

    /// The host lost a registration or a reservation on `nsid`. Returns the admin queue to wake if the host wants to know.
    pub fn reservation_changed(&self, nsid: u32, notice: Notice) -> Option<Queue> {
        let mut state = self.state();
        if state.features.reservation_mask(nsid) & notice.mask() != 0 || state.notices.len() >= NOTICES {
            return None;
        }
        state.notices.push_back((notice, nsid));
        state.post_always(feature::EVENT_RESERVATION)
    }

    /// Asymmetric access has changed. Returns the admin queue to wake if the host wants to know.
    pub fn ana_changed(&self) -> Option<Queue> {
        self.state().post(feature::AEN_ANA, feature::EVENT_ANA_CHANGED)
    }

    /// The discovery log has changed. Returns the admin queue to wake if the host wants to know.
    pub fn discovery_changed(&self) -> Option<Queue> {
        self.state()
            .post(feature::AEN_DISCOVERY_LOG, feature::EVENT_DISCOVERY_CHANGED)
    }
}

impl State {
    /// Ready for I/O queues.
    pub fn is_ready(&self) -> bool {
        self.csts & property::CSTS_READY != 0
    }

    fn post(&mut self, wanted: u32, event: u32) -> Option<Queue> {
        match self.features.async_events & wanted {
            0 => None,
            _ => self.post_always(event),
        }
    }

    /// An event that hosts mask elsewhere, or not at all.
    fn post_always(&mut self, event: u32) -> Option<Queue> {
        if self.told.contains(&event) || self.events.contains(&event) {
            return None;
        }
        self.events.push_back(event);
        self.queues.get(&0).copied()
    }

    /// The next event for a waiting request.
    pub fn take_event(&mut self) -> Option<u32> {
        let event = self.events.pop_front()?;
        self.told.push(event);
        Some(event)
    }

    /// The host has read `page` without asking to keep the event: it may be told again.
    pub fn looked_into(&mut self, page: u8) {
        self.told.retain(|&event| (event >> 16) as u8 != page);
        self.events.retain(|&event| (event >> 16) as u8 != page);
        if page == spec::nvme::log::page::RESERVATION && !self.notices.is_empty() {
            self.post_always(feature::EVENT_RESERVATION);
        }
    }

    /// The oldest reservation notice, which goes unless it is to be kept. If more wait, the host hears of the next.
    pub fn take_notice(&mut self, keep: bool) -> [u8; 64] {
        let oldest = self.notices.front().copied();
        let left = self.notices.len().saturating_sub(1);
        // The count names the notice: the first is 1, and 0 says there was none yet.
        let log = reservation::notification(self.notices_read + u64::from(oldest.is_some()), oldest, left);
        if !keep && self.notices.pop_front().is_some() {
            self.notices_read += 1;
        }
        log
    }

    /// The changed namespace list; reading it empties it.
    pub fn take_changed(&mut self, keep: bool) -> [u8; 4096] {
        let list = match self.changed.len() > CHANGED_MAX {
            true => {
                let mut all = [0; 4096];
                all[..4].fill(0xff);
                all
            }
            false => spec::nvme::identify::namespace_list(self.changed.iter().copied(), 0),
        };
        if !keep {
            self.changed.clear();
        }
        list
    }

    /// The error log, newest first.
    pub fn errors(&self) -> impl Iterator<Item = &ErrorEntry> {
        self.errors.iter()
    }

    /// Errors since the controller came to be.
    pub fn error_count(&self) -> u64 {
        self.error_count
    }

    /// NVM subsystem reset: disabled, and says so until the host has taken note.
    pub fn subsystem_reset(&mut self, features: Features) {
        self.reset(features);
        self.cc = property::Cc::default();
        self.csts = property::CSTS_SUBSYSTEM_RESET;
    }

    /// Controller level reset: features are as they were at the start; logs stay.
    pub fn reset(&mut self, features: Features) {
        self.csts = 0;
        let keep_alive_ms = self.features.keep_alive_ms;
        self.features = features;
        self.features.keep_alive_ms = keep_alive_ms;
        self.events.clear();
        self.told.clear();
    }

    /// The I/O queues.
    pub fn io_queues(&self) -> Vec<Queue> {
        self.queues.range(1..).map(|(_, queue)| *queue).collect()
    }

    /// The I/O queues, taken out.
    pub fn take_io_queues(&mut self) -> Vec<Queue> {
        let io = self.queues.split_off(&1);
        io.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller() -> Controller {
        let address = SocketAddr::from(([127, 0, 0, 1], 4420));
        let queue = Queue {
            core: 0,
            connection: 1,
            local: address,
            peer: address,
            suite: None,
            psk: None,
            auth: None,
        };
        Controller::new(
            1,
            None,
            "nqn.2026-11.io.ashlar:h".into(),
            [0; 16],
            Features::new(10_000, 127, 0),
            queue,
            0,
        )
    }

    #[test]
    fn an_event_is_told_once_until_its_log_is_read() {
        let c = controller();
        assert_eq!(c.namespace_changed(3), None, "nobody asked");
        c.state().features.async_events = feature::AEN_NAMESPACE_ATTRIBUTE;
        assert!(c.namespace_changed(5).is_some());
        assert_eq!(c.namespace_changed(4), None, "waits already");
        assert_eq!(c.state().take_event(), Some(0x0004_0002));
        assert_eq!(c.namespace_changed(9), None, "told already");
        assert_eq!(c.state().take_event(), None);
        let list = c.state().take_changed(true);
        assert_eq!(list[..20], [3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(c.state().take_changed(false), list);
        c.state().looked_into(spec::nvme::log::page::CHANGED_NAMESPACES);
        assert!(c.namespace_changed(1).is_some());
        assert_eq!(c.state().take_changed(false)[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_error_log_forgets_the_oldest() {
        let c = controller();
        for cid in 0..70 {
            c.log_error(1, &Sqe::new(2, cid, 1), Status::LBA_OUT_OF_RANGE, 5);
        }
        let state = c.state();
        let cids: Vec<u16> = state.errors().map(|e| e.cid.get()).collect();
        assert_eq!((cids.len(), cids[0], cids[63], state.error_count()), (64, 69, 6, 70));
    }

    #[test]
    fn silence_is_measured_from_the_last_sign() {
        let c = controller();
        c.saw(5_000_000_000);
        assert!(!c.is_silent(15_000_000_000) && c.is_silent(15_200_000_000));
        c.state().features.keep_alive_ms = 0;
        assert!(
            !c.is_silent(124_000_000_000) && c.is_silent(126_000_000_000),
            "a discovery controller"
        );
    }
}
