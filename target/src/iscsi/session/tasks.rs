//! Task management: commands that are to end early, and the answer when they have (RFC 7143, 11.5).
use super::*;
use crate::iscsi::slot::State;
use spec::iscsi::sn_before;

/// An abort is answered when what it aborted is over, or given up after this long.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

impl Session {
    pub(super) fn task(&mut self, request: &TaskRequest) {
        match request.function() {
            None | Some(Function::ClearAca) => self.answer_task(request.itt, TaskOutcome::NotSupported),
            // Reassignment needs error recovery level 2.
            Some(Function::Reassign) => self.answer_task(request.itt, TaskOutcome::NoReassign),
            Some(_) => self.events.push_back(Event::Task(*request)),
        }
    }

    /// Aborts one command of this session: the one a host's ABORT TASK names. What the answer to it is, unless commands
    /// have to be waited for.
    pub fn abort_task(&mut self, request: &TaskRequest) {
        let (itt, lun) = (request.referenced_tag.get(), request.lun);
        match self.find(itt, |s| !s.aborted && s.lun == lun) {
            Some(id) => self.abort(request.itt, vec![id]),
            None => {
                // One that can still come counts as aborted before it came (11.5.1); all others are over.
                let sn = request.ref_cmd_sn.get();
                let may_come = !sn_before(sn, self.exp_cmd_sn) && !sn_before(self.max_cmd_sn, sn);
                let outcome = if may_come {
                    TaskOutcome::Complete
                } else {
                    TaskOutcome::NoTask
                };
                self.answer_task(request.itt, outcome);
            }
        }
    }

    /// Aborts every command of this session to `lun` (`None`: to any), and answers when they are over.
    pub fn abort_all(&mut self, itt: U32, lun: Option<[u8; 8]>) {
        let hit = |s: &Slot| s.state != State::Free && !s.aborted && lun.is_none_or(|lun| lun == s.lun);
        let slots = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, s)| hit(s))
            .map(|(id, _)| id as u16)
            .collect();
        self.abort(itt, slots);
    }

    /// Ends a task management function.
    pub fn task_done(&mut self, itt: U32, outcome: TaskOutcome) {
        self.answer_task(itt, outcome);
    }

    fn abort(&mut self, itt: U32, slots: Vec<u16>) {
        let mut running = Vec::new();
        for id in slots {
            let slot = &mut self.slots[usize::from(id)];
            slot.aborted = true;
            match slot.state {
                // Nothing of ours is under way for it.
                State::Collecting | State::Answering => {
                    self.out
                        .retain(|out| !matches!(out, Out::Slot(s) | Out::R2t(s) if *s == id));
                    self.release(id);
                }
                // D6: it runs to its end; the host is told then (11.5.1: after the task is gone).
                _ => running.push(id),
            }
        }
        match running.is_empty() {
            true => self.answer_task(itt, TaskOutcome::Complete),
            false => {
                let until = Time(self.since.0 + ABORT_PATIENCE.as_nanos() as u64);
                self.waiting.push(Waiting {
                    itt,
                    slots: running,
                    until,
                });
            }
        }
    }

    pub(super) fn answer_task(&mut self, itt: U32, outcome: TaskOutcome) {
        let answer = TaskResponse {
            opcode: Opcode::TaskResponse as u8,
            flags: FINAL,
            response: outcome as u8,
            itt,
            ..Default::default()
        };
        self.answer(answer.as_bytes(), Buf::empty());
    }
}
