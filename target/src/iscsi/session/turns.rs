//! CmdSN (RFC 7143 4.2.2.1): whose turn it is, and what came before its own. Only a session with several connections keeps
//! anything; with one, what does not come in order is the host's mistake.
use super::*;
use crate::iscsi::{
    login::Directory,
    sequencer::{Arrival, Sequencer},
};
use spec::iscsi::sn_before;
use std::sync::Arc;

/// Requests that came before one that does not come are kept for this long.
const GAP_PATIENCE: Duration = Duration::from_secs(10);

/// One connection's place in a session with several.
pub(super) struct Seat {
    order: Arc<Sequencer>,
    id: u64,
    /// What came before its turn, in order. Bounded: commands by slots, others by [`MISC_LIMIT`].
    kept: Vec<(u32, Kept)>,
    /// Since when nothing of it was due.
    since: Time,
}

enum Kept {
    /// The command in this slot, whose data may still come.
    Slot(u16),
    Other(Incoming),
}

impl Seat {
    pub(super) fn window(&self) -> (u32, u32) {
        self.order.window()
    }

    fn keep(&mut self, sn: u32, what: Kept, now: Time) {
        if self.kept.is_empty() {
            self.since = now;
        }
        let at = self.kept.partition_point(|(other, _)| sn_before(*other, sn));
        self.kept.insert(at, (sn, what));
    }

    /// A command of the window has a slot.
    pub(super) fn took(&mut self, slot: u16, sn: u32, early: bool, now: Time) {
        self.order.taken();
        if early {
            self.keep(sn, Kept::Slot(slot), now);
        }
    }

    /// A slot is free again.
    pub(super) fn left(&mut self, slot: u16, immediate: bool) {
        if !immediate {
            self.order.given_back();
        }
        self.kept
            .retain(|(_, kept)| !matches!(kept, Kept::Slot(one) if *one == slot));
    }
}

impl Session {
    /// This is one of several connections, with this [number](super::super::server).
    pub(super) fn sit_down(&mut self, (order, id): (Arc<Sequencer>, u64)) {
        self.seat = Some(Seat {
            order,
            id,
            kept: Vec::new(),
            since: self.since,
        });
    }

    pub(super) fn stand_up(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.order.leave(seat.id);
            seat.kept.clear();
        }
    }

    /// True for one of several connections; then [`turn`](Self::turn) wants to be called when the sequencer says so.
    pub fn is_one_of_several(&self) -> bool {
        self.seat.is_some()
    }

    /// What a request's number means. Takes the number if it is the expected one.
    pub(super) fn admit(&mut self, bhs: &Bhs) -> Arrival {
        if bhs.opcode() == Some(Opcode::Snack) || bhs.is_immediate() {
            return Arrival::Now;
        }
        let sn = bhs.cmd_sn();
        if let Some(seat) = &self.seat {
            return seat.order.arrive(seat.id, sn);
        }
        if sn_before(sn, self.exp_cmd_sn) || sn_before(self.max_cmd_sn, sn) {
            return Arrival::Never;
        }
        if sn != self.exp_cmd_sn {
            self.close(Some("gap in CmdSN"));
            return Arrival::Never;
        }
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        Arrival::Now
    }

    /// A request that will not be heard of any more counts as here.
    pub(super) fn consider(&mut self, sn: u32) {
        match &self.seat {
            Some(seat) => seat.order.consider(sn),
            None if sn == self.exp_cmd_sn => self.exp_cmd_sn = sn.wrapping_add(1),
            None => (),
        }
    }

    /// Keeps a whole request until its turn.
    pub(super) fn keep(&mut self, pdu: Incoming) {
        let now = self.since;
        let Some(seat) = &mut self.seat else { return };
        let others = seat.kept.iter().filter(|(_, kept)| matches!(kept, Kept::Other(_)));
        if others.count() >= MISC_LIMIT {
            return self.close(Some("too many requests before their turn"));
        }
        seat.keep(pdu.bhs.cmd_sn(), Kept::Other(pdu), now);
    }

    /// Goes on with what is due by now.
    pub fn turn(&mut self, directory: &mut dyn Directory) {
        while let Some(seat) = &mut self.seat
            && let Some((sn, _)) = seat.kept.first()
            && sn_before(*sn, seat.order.expected())
        {
            let (_, kept) = seat.kept.remove(0);
            seat.since = self.since;
            match kept {
                Kept::Other(pdu) => self.deliver(pdu, directory),
                Kept::Slot(id) => {
                    let slot = &mut self.slots[usize::from(id)];
                    slot.early = false;
                    // If all that comes unasked has come, it goes on; else it will when that has.
                    if slot.state == State::Collecting && slot.gathered {
                        let at = slot.asked.0;
                        self.proceed(id, at);
                    }
                }
            }
        }
    }

    /// When what is missing between the connections' numbers is given up.
    pub(super) fn gap_until(&self) -> Option<Time> {
        let seat = self.seat.as_ref().filter(|seat| !seat.kept.is_empty())?;
        Some(Time(seat.since.0.saturating_add(GAP_PATIENCE.as_nanos() as u64)))
    }
}
