//! The slots of a session: a task takes a command and completes it, and the host gets its credit back.
use super::*;
use crate::{iscsi::slot::State, scsi::Outcome};
use spec::iscsi::sn_before;

impl Session {
    /// The command of a slot whose event said so. `None`: it was aborted meanwhile (and is over by this call).
    pub fn take(&mut self, id: u16) -> Option<Taken> {
        let slot = &mut self.slots[usize::from(id)];
        if slot.state != State::Ready {
            return None;
        }
        slot.state = State::Running;
        if slot.aborted {
            self.complete(id, Outcome::good());
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

    /// A slot's command is over.
    pub fn complete(&mut self, id: u16, outcome: Outcome) {
        let slot = &mut self.slots[usize::from(id)];
        debug_assert_eq!(slot.state, State::Running);
        if slot.aborted || self.phase == Phase::Closed {
            self.release(id);
            let waiting = std::mem::take(&mut self.waiting);
            for mut one in waiting {
                one.slots.retain(|s| *s != id);
                match one.slots.is_empty() {
                    true => self.answer_task(one.itt, TaskOutcome::Complete),
                    false => self.waiting.push(one),
                }
            }
            return;
        }
        slot.state = State::Answering;
        slot.outcome = Some(outcome);
        slot.sn = 0;
        self.out.push_back(Out::Slot(id));
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
        self.immediate -= u16::from(slot.immediate);
        *slot = Slot::new();
        self.tags[usize::from(id)] = NO_TAG;
        self.free.push(id);
    }

    /// The window we offer: never backwards (4.2.2.1), never more than slots.
    pub(super) fn window(&mut self) -> u32 {
        if let Some(line) = &self.line {
            if line.granted() + line.spent() < line.limit() {
                line.grow();
            }
            let offer = self.exp_cmd_sn.wrapping_add(line.granted()).wrapping_sub(1);
            if sn_before(self.max_cmd_sn, offer) {
                self.max_cmd_sn = offer;
            }
        }
        self.max_cmd_sn
    }
}
