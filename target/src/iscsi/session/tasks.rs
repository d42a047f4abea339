//! Task management: commands that are to end early, and the answer when they have (RFC 7143, 11.5).
use super::requests::{CLEANUP_FAILED, LOGGED_OUT};
use super::*;
use crate::{iscsi::slot::Aborted, scsi::Outcome};
use spec::{
    iscsi::sn_before,
    scsi::{Lun, Status},
};

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

    /// Aborts one command of this connection: the one a host's ABORT TASK names. What the answer to it is, unless the
    /// command has to be waited for.
    pub fn abort_task(&mut self, request: &TaskRequest) {
        let (itt, lun) = (request.referenced_tag.get(), request.lun);
        // One that another host has aborted still has an answer to come, until its own host wants none.
        match self.find(itt, |s| s.aborted != Some(Aborted::Host) && s.lun == lun) {
            Some(id) => self.abort(Then::Task(request.itt), &[id], Aborted::Host),
            None => {
                // One that can still come counts as aborted before it came (11.5.1); all others are over.
                let sn = request.ref_cmd_sn.get();
                let (expected, max) = self.window();
                let may_come = !sn_before(sn, expected) && !sn_before(max, sn) && sn_before(sn, request.cmd_sn.get());
                if may_come {
                    self.consider(sn);
                }
                let outcome = if may_come {
                    TaskOutcome::Complete
                } else {
                    TaskOutcome::NoTask
                };
                self.answer_task(request.itt, outcome);
            }
        }
    }

    /// Aborts every command of this connection to `lun` (`None`: to any), and drops `over` when they are over.
    pub fn abort_all(&mut self, whom: Aborted, lun: Option<Lun>, over: Sender<()>) {
        let slots = self.hit(lun);
        self.abort(Then::Tell(over), &slots, whom);
    }

    /// Every command under way to `lun`.
    fn hit(&self, lun: Option<Lun>) -> Vec<u16> {
        let hit = |s: &Slot| s.state != State::Free && (lun.is_none() || lun == Lun::from_wire(s.lun));
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| hit(slot));
        slots.map(|(id, _)| id as u16).collect()
    }

    /// Ends a task management function.
    pub fn task_done(&mut self, itt: U32, outcome: TaskOutcome) {
        self.answer_task(itt, outcome);
    }

    pub(super) fn abort(&mut self, then: Then, slots: &[u16], whom: Aborted) {
        let mut running = Vec::new();
        for &id in slots {
            let slot = &mut self.slots[usize::from(id)];
            match (slot.state, whom) {
                // It has ended: only its own host can do without the answer.
                (State::Answering, Aborted::Other) => (),
                // Nothing of ours is under way for it.
                (State::Collecting | State::Answering, _) => {
                    self.out
                        .retain(|out| !matches!(out, Out::Slot(s) | Out::R2t(s) if *s == id));
                    match whom {
                        Aborted::Host => self.release(id),
                        Aborted::Other => {
                            slot.state = State::Running;
                            self.complete(id, Outcome::status(Status::TaskAborted));
                        }
                    }
                }
                // D6: it runs to its end; who wants it to end is told then (11.5.1: after the task is gone).
                _ => {
                    // The host itself has the last word.
                    if slot.aborted != Some(Aborted::Host) {
                        slot.aborted = Some(whom);
                    }
                    running.push(id);
                }
            }
        }
        match running.is_empty() {
            true => self.waited(then, true),
            false => {
                let until = Time(self.since.0.saturating_add(ABORT_PATIENCE.as_nanos() as u64));
                self.waiting.push(Waiting {
                    slots: running,
                    until,
                    then,
                });
            }
        }
    }

    /// The command of a slot is over; somebody may have waited for that.
    pub(super) fn over(&mut self, id: u16) {
        for mut one in std::mem::take(&mut self.waiting) {
            one.slots.retain(|slot| *slot != id);
            match one.slots.is_empty() {
                true => self.waited(one.then, true),
                false => self.waiting.push(one),
            }
        }
    }

    /// The waiting is over, because the commands are (`done`) or because nobody waits for ever.
    pub(super) fn waited(&mut self, then: Then, done: bool) {
        match then {
            Then::Task(itt) if done => self.answer_task(itt, TaskOutcome::Complete),
            Then::Task(itt) => self.answer_task(itt, TaskOutcome::Rejected),
            Then::Logout(itt) => self.answer_logout(itt, if done { LOGGED_OUT } else { CLEANUP_FAILED }),
            Then::Tell(over) => drop(over),
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
