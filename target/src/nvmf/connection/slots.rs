//! The life of a command slot: woken by the reader, it gets memory and data, runs its command and has it answered.
use super::*;
use crate::nvmf::{admin, auth, io};
use spec::nvme::{Sqe, Status, command, fabrics::fctype};

impl Connection {
    pub(super) fn wake(&self, slot: u16) {
        let slot = self.slot(slot);
        slot.ready.set(true);
        slot.wake.notify_one();
    }

    /// Waits until the reader has something for this slot; false when the connection is closing.
    async fn woken(&self, slot: u16) -> bool {
        let slot = self.slot(slot);
        while !slot.ready.get() {
            if self.closing.get() {
                return false;
            }
            slot.wake.wait().await;
        }
        slot.ready.set(false);
        true
    }

    /// One command slot: take, run, answer, repeat (D5).
    pub(super) async fn serve_slot(self: Rc<Self>, slot: u16) {
        while self.woken(slot).await {
            let mut command = self.session.borrow().command(slot);
            if command.missing > 0 && command.fault.is_success() {
                self.room(slot, command.data as usize).await;
                let now = reactor::now().0;
                self.with_session(|session, out| session.ask(slot, now, out));
                self.flush();
                if !self.woken(slot).await {
                    return;
                }
                command = self.session.borrow().command(slot);
            }
            let reply = self.run(slot, &command).await;
            if !reply.parked {
                self.finish(slot, reply);
            }
        }
    }

    async fn run(self: &Rc<Self>, slot: u16, command: &Command) -> Reply {
        let Some(bound) = self.bound.get() else {
            return Reply::fail(Status::COMMAND_SEQUENCE_ERROR);
        };
        if !command.fault.is_success() {
            return self.failed(bound, &command.sqe, Reply::fail(command.fault));
        }
        let reply = match (bound.qid, command.sqe.opcode) {
            (_, command::FABRICS) if command.sqe.fctype() == fctype::AUTH_SEND => {
                Box::pin(auth::send(self, bound, slot, command)).await
            }
            (_, command::FABRICS) if command.sqe.fctype() == fctype::AUTH_RECEIVE => {
                Box::pin(auth::receive(self, bound, slot, command)).await
            }
            _ if !bound.lock.is_open() => Reply::fail(Status::AUTHENTICATION_REQUIRED),
            _ if command.sqe.fuse() != 0 => Box::pin(self.run_fused(slot)).await,
            (0, _) => admin::run(self, bound, slot, command).await,
            (_, command::FABRICS) => connect::on_io_queue(&command.sqe),
            _ => {
                CORE.with(|core| core.completed.set(core.completed.get() + 1));
                self.commands.set(self.commands.get() + 1);
                io::run(self, slot, command).await
            }
        };
        if reply.status.is_success() {
            reply
        } else {
            self.failed(bound, &command.sqe, reply)
        }
    }

    /// Puts a failure into the error log; the status says so.
    fn failed(&self, bound: &Bound, sqe: &Sqe, reply: Reply) -> Reply {
        if bound.controller.is_discovery() {
            return reply;
        }
        let lba = if bound.qid > 0 && sqe.opcode != command::FABRICS {
            sqe.slba()
        } else {
            0
        };
        bound.controller.log_error(bound.qid, sqe, reply.status, lba);
        Reply {
            status: reply.status.with_more(),
            ..reply
        }
    }

    /// A buffer of `len` bytes for `slot`; waits while memory is short.
    pub async fn room(&self, slot: u16, len: usize) -> Buf {
        let compare = self.session.borrow().command(slot).sqe.opcode == command::io::COMPARE;
        // Dropped first: a command must not hold what it waits for.
        self.slot(slot).held.take();
        self.wanting.set(self.wanting.get() + 1);
        let (buf, right) = memory::buffer(&self.pool, len, if compare { len } else { 0 }).await;
        self.wanting.set(self.wanting.get() - 1);
        self.slot(slot).held.replace(Some((buf.clone(), right)));
        buf
    }

    /// The slot's buffer; empty if the command brought no data.
    pub fn buffer_of(&self, slot: u16) -> Buf {
        self.slot(slot)
            .held
            .borrow()
            .as_ref()
            .map_or_else(Buf::empty, |(buf, _)| buf.clone())
    }
}
