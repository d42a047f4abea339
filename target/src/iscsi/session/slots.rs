//! The slots of a session: a task takes a command and completes it, and the host gets its credit back.
use super::*;
use crate::{iscsi::slot::Aborted, scsi::Outcome};
use spec::{iscsi::sn_before, scsi::Status};

impl Session {
    /// The command of a slot whose event said so. `None`: it was aborted meanwhile (and is over by this call).
    pub fn take(&mut self, id: u16) -> Option<Taken> {
        let slot = &mut self.slots[usize::from(id)];
        if slot.state != State::Ready {
            return None;
        }
        slot.state = State::Running;
        if slot.aborted.is_some() {
            self.complete(id, Outcome::good()); // that is not what its host hears, if it hears anything
            return None;
        }
        Some(Taken {
            lun: slot.lun,
            cdb: slot.cdb,
            room: if slot.direction == Direction::Read {
                slot.expected
            } else {
                0
            },
            data: std::mem::take(&mut slot.data),
        })
    }

    /// Nobody waits for the command of a slot any more.
    pub fn is_unwanted(&self, id: u16) -> bool {
        self.slots[usize::from(id)].aborted.is_some() || self.phase == Phase::Closed
    }

    /// A slot's command is over.
    pub fn complete(&mut self, id: u16, outcome: Outcome) {
        let slot = &mut self.slots[usize::from(id)];
        debug_assert_eq!(slot.state, State::Running);
        let aborted = slot.aborted;
        if aborted == Some(Aborted::Host) || self.phase == Phase::Closed {
            self.release(id);
        } else {
            slot.state = State::Answering;
            slot.outcome = Some(match aborted {
                Some(_) => Outcome::status(Status::TaskAborted),
                None => outcome,
            });
            slot.sn = 0;
            self.out.push_back(Out::Slot(id));
        }
        if aborted.is_some() {
            self.over(id);
        }
    }

    /// The slot with this tag that `wanted` wants.
    pub(super) fn find(&self, itt: u32, wanted: impl Fn(&Slot) -> bool) -> Option<u16> {
        let tagged = self.tags.iter().enumerate().filter(|(_, tag)| **tag == itt);
        tagged
            .map(|(id, _)| id as u16)
            .find(|id| wanted(&self.slots[usize::from(*id)]))
    }

    /// The slot is free, and its credit the host's again.
    pub(super) fn release(&mut self, id: u16) {
        let slot = &mut self.slots[usize::from(id)];
        let immediate = slot.immediate;
        self.immediate -= u16::from(immediate);
        *slot = Slot::new();
        self.tags[usize::from(id)] = NO_TAG;
        self.free.push(id);
        if let Some(seat) = &mut self.seat {
            seat.left(id, immediate);
        }
    }

    /// ExpCmdSN and MaxCmdSN. The window we offer never goes backwards (4.2.2.1) and is never more than slots.
    pub(super) fn window(&mut self) -> (u32, u32) {
        if let Some(seat) = &self.seat {
            return seat.window();
        }
        if let Some(line) = &self.line {
            if line.granted() + line.spent() < line.limit() {
                line.grow();
            }
            let offer = self.exp_cmd_sn.wrapping_add(line.granted()).wrapping_sub(1);
            if sn_before(self.max_cmd_sn, offer) {
                self.max_cmd_sn = offer;
            }
        }
        (self.exp_cmd_sn, self.max_cmd_sn)
    }
}
