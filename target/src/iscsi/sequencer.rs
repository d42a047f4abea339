//! CmdSN of a session with several connections (RFC 7143 4.2.2.1): one expected number and one window for all of them, on
//! whatever cores they live. A session that agreed on one connection counts for itself and has none of this.
//!
//! ```text
//!   A (core 0): 7 comes ─► arrive(7): it is its turn; 8 is there already, so 9 is expected now, and B is woken
//!   B (core 1): 8 came  ─► arrive(8): early, kept by B ───────────────────────────────────────────► delivered
//! ```
use reactor::channel::Sender;
use spec::iscsi::sn_before;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// What a request's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the next one.
    Now,
    /// Others come before it: to be kept until [`Sequencer::expected`] is beyond it.
    Early,
    /// Outside of the window, or here already: to be ignored.
    Never,
}

/// See the module's description.
#[derive(Debug)]
pub struct Sequencer {
    inner: Mutex<Inner>,
    /// Commands taken from the window and not answered.
    under_way: AtomicU32,
    depth: u32,
}

#[derive(Debug)]
struct Inner {
    expected: u32,
    max: u32,
    /// Numbers that came before their turn, and who keeps what they were of. Bounded by the window.
    early: BTreeMap<u32, Option<u64>>,
    members: Vec<(u64, Sender<()>)>,
}

impl Sequencer {
    /// The first number will be `first`. There are never more than `depth` commands at once, over all connections.
    pub fn new(first: u32, depth: u32) -> Self {
        Self {
            inner: Mutex::new(Inner {
                expected: first,
                max: first.wrapping_add(depth).wrapping_sub(1),
                early: BTreeMap::new(),
                members: Vec::new(),
            }),
            under_way: AtomicU32::new(0),
            depth,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection comes; `turn` tells it that what it keeps may be due.
    pub fn join(&self, id: u64, turn: Sender<()>) {
        self.inner().members.push((id, turn));
    }

    /// A connection ends. What it kept is lost; a number that came is not expected again.
    pub fn leave(&self, id: u64) {
        self.inner().members.retain(|(member, _)| *member != id);
    }

    /// A request with this number has come to connection `id`.
    pub fn arrive(&self, id: u64, sn: u32) -> Arrival {
        self.inner().arrive(Some(id), sn)
    }

    /// The request with this number counts as here, though it will never come (11.5.1: RefCmdSN).
    pub fn consider(&self, sn: u32) {
        self.inner().arrive(None, sn);
    }

    /// ExpCmdSN.
    pub fn expected(&self) -> u32 {
        self.inner().expected
    }

    /// ExpCmdSN and MaxCmdSN, for a PDU that leaves now.
    pub fn window(&self) -> (u32, u32) {
        let mut inner = self.inner();
        let open = self.depth.saturating_sub(self.under_way.load(Relaxed));
        let offer = inner.expected.wrapping_add(open).wrapping_sub(1);
        if sn_before(inner.max, offer) {
            inner.max = offer; // never backwards
        }
        (inner.expected, inner.max)
    }

    /// A command of the window has a slot.
    pub fn taken(&self) {
        self.under_way.fetch_add(1, Relaxed);
    }

    /// It has given it back.
    pub fn given_back(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }

    /// Commands at once.
    pub fn depth(&self) -> u32 {
        self.depth
    }
}

impl Inner {
    fn arrive(&mut self, id: Option<u64>, sn: u32) -> Arrival {
        if sn_before(sn, self.expected) || sn_before(self.max, sn) || self.early.contains_key(&sn) {
            return Arrival::Never;
        }
        if sn != self.expected {
            self.early.insert(sn, id);
            return Arrival::Early;
        }
        self.expected = sn.wrapping_add(1);
        while let Some(keeper) = self.early.remove(&self.expected) {
            self.expected = self.expected.wrapping_add(1);
            // A full channel has a turn in it already.
            let keeper = self.members.iter().find(|(member, _)| Some(*member) == keeper);
            if let Some((_, turn)) = keeper {
                let _ = turn.try_send(());
            }
        }
        Arrival::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor::channel;

    #[test]
    fn commands_are_due_in_order_whatever_connection_they_come_by() {
        let order = Sequencer::new(u32::MAX - 1, 4);
        let (a, a_turn) = channel::bounded(1);
        let (b, b_turn) = channel::bounded(1);
        order.join(1, a);
        order.join(2, b);
        assert_eq!(order.window(), (u32::MAX - 1, 1));
        assert_eq!(order.arrive(2, 0), Arrival::Early);
        assert_eq!(order.arrive(1, u32::MAX), Arrival::Early);
        assert_eq!(
            order.arrive(1, 0),
            Arrival::Never,
            "it is here, by the other connection"
        );
        assert_eq!(order.arrive(1, 2), Arrival::Never, "beyond the window");
        assert_eq!((a_turn.len(), b_turn.len(), order.expected()), (0, 0, u32::MAX - 1));
        assert_eq!(order.arrive(2, u32::MAX - 1), Arrival::Now);
        assert_eq!((a_turn.len(), b_turn.len(), order.expected()), (1, 1, 1));
        assert_eq!(order.arrive(2, u32::MAX - 1), Arrival::Never, "from the past");
    }

    #[test]
    fn the_window_is_what_all_of_them_leave_open_and_never_shrinks() {
        let order = Sequencer::new(10, 4);
        for sn in 10..13 {
            assert_eq!(order.arrive(1, sn), Arrival::Now);
            order.taken();
        }
        assert_eq!(order.window(), (13, 13));
        assert_eq!(order.arrive(2, 13), Arrival::Now);
        order.taken();
        assert_eq!(order.window(), (14, 13), "closed");
        order.given_back();
        assert_eq!(order.window(), (14, 14));
    }

    #[test]
    fn a_number_nobody_will_send_is_passed_over() {
        let order = Sequencer::new(1, 8);
        assert_eq!(order.arrive(1, 3), Arrival::Early);
        order.consider(2);
        assert_eq!(order.arrive(1, 1), Arrival::Now);
        assert_eq!(order.expected(), 4);
        assert_eq!(order.arrive(1, 2), Arrival::Never, "it came too late");
    }
}
