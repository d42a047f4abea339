//! The writer: answers gather in the batch in front while the one behind is being sent.
use super::*;
use crate::nvmf::session::Sink;
use reactor::Outbox;

/// Answers a batch has room for without growing.
pub(super) const SEGMENTS: usize = 32;

/// Bytes to send, and the slots they free.
pub(super) struct Batch {
    pub(super) outbox: Outbox,
    pub(super) slots: Vec<u16>,
}

impl Batch {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            outbox: Outbox::with_capacity(2 * slots),
            slots: Vec::with_capacity(slots),
        }
    }
}

/// The session's bytes go to the batch in front, its payload by reference.
pub(super) struct Out<'a> {
    pub(super) outbox: &'a mut Outbox,
    pub(super) connection: &'a Connection,
}

impl Sink for Out<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.outbox.push_bytes(bytes);
    }
    fn data(&mut self, p: Payload) {
        if let Some(part) = self.connection.part(p) {
            self.outbox.push_buf(part);
        }
    }
    fn crc(&mut self, p: Payload) -> u32 {
        self.connection.part(p).map_or(0, |part| part.crc32c(0))
    }
}

impl Connection {
    /// Runs `f` on the session with a sink that leads to the batch in front.
    pub(super) fn with_session<T>(&self, f: impl FnOnce(&mut Session, &mut Out) -> T) -> T {
        let mut front = self.front.borrow_mut();
        f(
            &mut self.session.borrow_mut(),
            &mut Out {
                outbox: &mut front.outbox,
                connection: self,
            },
        )
    }

    /// Answers the command in `slot`.
    pub(super) fn finish(&self, slot: u16, reply: Reply) {
        let mut front = self.front.borrow_mut();
        let batch = &mut *front;
        let mut out = Out {
            outbox: &mut batch.outbox,
            connection: self,
        };
        let answered = self
            .session
            .borrow_mut()
            .respond(slot, reply.status, reply.result, reply.data, &mut out);
        if answered {
            batch.slots.push(slot);
            drop(front);
            self.flush();
        } else {
            drop(front);
            self.slot(slot).held.take();
        }
    }

    /// Wakes the writer if there is something to send.
    pub(super) fn flush(&self) {
        if !self.sending.get() && !self.front.borrow().outbox.is_empty() {
            self.to_send.notify_one();
        }
    }

    /// There are answers, or TLS itself has something to say.
    pub(super) fn has_to_send(&self) -> bool {
        !self.front.borrow().outbox.is_empty() || self.tls_waits()
    }

    pub(super) async fn write(self: Rc<Self>) {
        let mut back = Batch::new(SEGMENTS);
        loop {
            while !self.has_to_send() {
                if self.closing.get() {
                    return;
                }
                self.to_send.wait().await;
            }
            std::mem::swap(&mut *self.front.borrow_mut(), &mut back);
            self.sending.set(true);
            while !back.outbox.is_empty() || self.tls_waits() {
                if self.transmit(&mut back.outbox).await.is_err() {
                    // The reader will find out, too; what is queued has no destination.
                    self.shut();
                    back.outbox.clear();
                }
            }
            {
                let mut session = self.session.borrow_mut();
                for slot in back.slots.drain(..) {
                    if session.release(slot) {
                        self.slot(slot).held.take();
                    }
                }
            }
            self.sending.set(false);
            self.sent.notify_all();
        }
    }
}
