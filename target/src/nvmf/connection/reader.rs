//! The reader: bytes from the socket to the session, and what the session wants next.
use super::*;
use crate::nvmf::session::Step;
use reactor::Inbox;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// Inbox until Connect: ICReq and a Connect capsule with digests and padding fit.
pub(super) const SMALL_INBOX: usize = 4 << 10;
/// Inbox of a queue.
pub(super) const INBOX: usize = 64 << 10;
/// A sign of life is written down this often, in nanoseconds.
const SIGN_EVERY: u64 = 100_000_000;

/// The connection is over.
struct End;

impl Connection {
    /// Reads until the connection is over, or until it goes to another core: that, and what was read already.
    pub(super) async fn read(self: &Rc<Self>, mut inbox: Inbox) -> Option<(usize, Vec<u8>)> {
        loop {
            let payload = match self.parse(&mut inbox).await {
                Ok(payload) => payload,
                Err(End) => break,
            };
            if inbox.capacity() < INBOX && self.bound.get().is_some() {
                let mut large = Inbox::with_capacity(INBOX);
                // It holds more than the small one ever did.
                large.push(inbox.unread());
                inbox = large;
            }
            if payload.is_none()
                && let Some(core) = self.at_rest().await
            {
                return Some((core, inbox.unread().to_vec()));
            }
            let part = payload.and_then(|p| self.part(p));
            match self.receive(&mut inbox, part.as_ref()).await {
                Ok(got) if got.payload + got.inbox > 0 => {
                    let now = reactor::now().0;
                    if got.payload > 0 {
                        self.session.borrow_mut().received(got.payload, now);
                    }
                    self.sign_of_life(now);
                }
                _ => break,
            }
        }
        // A termination request may still be in the outbox; a host that does not read it is not waited for.
        let drained = async {
            while self.sending.get() || self.has_to_send() {
                self.sent.wait().await;
            }
        };
        let _ = reactor::timeout(Duration::from_secs(1), async {
            drained.await;
            self.close_tls();
            while self.sending.get() || self.has_to_send() {
                self.sent.wait().await;
            }
        })
        .await;
        None
    }

    /// Takes everything out of the inbox that can be taken; returns where the next bytes belong, if they are payload.
    async fn parse(self: &Rc<Self>, inbox: &mut Inbox) -> Result<Option<Payload>, End> {
        loop {
            let now = reactor::now().0;
            let (used, step) = self.with_session(|session, out| session.step(inbox.unread(), now, out));
            inbox.consume(used);
            match step {
                Step::More if used == 0 => {
                    self.flush();
                    return Ok(None);
                }
                Step::More => {}
                Step::Buffer { slot, len } => {
                    self.room(slot, len as usize).await;
                }
                Step::Payload(p) => {
                    let n = inbox.unread().len().min(p.len as usize);
                    if n == 0 {
                        self.flush();
                        return Ok(Some(p));
                    }
                    if let Some(part) = self.part(p) {
                        part.write_at(0, &inbox.unread()[..n]);
                    }
                    inbox.consume(n);
                    self.session.borrow_mut().received(n, now);
                }
                Step::Digest(p) => {
                    let crc = self.part(p).map_or(0, |part| part.crc32c(0));
                    self.session.borrow_mut().digest(crc);
                }
                Step::Command { slot } if self.bound.get().is_none() => self.unbound(slot).await,
                Step::Command { slot } => self.take(slot),
                Step::Data { slot } => self.wake(slot),
                Step::Full => {
                    self.flush();
                    if !self.sending.get() && self.front.borrow().outbox.is_empty() {
                        // Every slot runs a command and no answer is on its way: the host has sent more than its queue holds.
                        tracing::warn!(peer = %self.peer, "a host overran its queue");
                        return Err(End);
                    }
                    self.sent.wait().await;
                }
                Step::Close => {
                    self.flush();
                    return Err(End);
                }
            }
            if self.closing.get() {
                return Err(End);
            }
        }
    }

    /// A command before Connect has succeeded.
    async fn unbound(self: &Rc<Self>, slot: u16) {
        let command = self.session.borrow().command(slot);
        let (reply, bound) = match connect::run(self, slot, &command).await {
            Ok((bound, granted)) => (Reply::word(granted.into()), Some(bound)),
            Err(reply) => (reply, None),
        };
        if let Some((bound, connect)) = bound {
            let entries = u32::from(connect.sqsize) + 1;
            self.bind(bound, entries, !connect.no_flow_control);
        }
        self.finish(slot, reply);
    }

    fn bind(self: &Rc<Self>, bound: Bound, entries: u32, flow_control: bool) {
        let admin = bound.qid == 0;
        self.session.borrow_mut().connected(bound.qid, entries, flow_control);
        self.furnish(bound, entries.max(2) as usize);
        CORE.with(|core| {
            core.waiting.borrow_mut().retain(|id| *id != self.id);
            let counter = if admin { &core.admin_qpairs } else { &core.io_qpairs };
            counter.set(counter.get() + 1);
        });
    }

    /// Makes it a queue with so many slots, and starts their tasks.
    pub(super) fn furnish(self: &Rc<Self>, bound: Bound, count: usize) {
        let slots: Box<[Slot]> = (0..count).map(|_| Slot::default()).collect();
        self.front.borrow_mut().slots.reserve(count);
        // Neither was set: a connection is bound once.
        let _ = self.slots.set(slots);
        if let Some(subsystem) = &bound.controller.subsystem {
            self.masked.set(subsystem.config.masked(&self.shared.transport()));
        }
        let _ = self.bound.set(bound);
        for slot in 0..count {
            self.clone().start(move |connection| connection.serve_slot(slot as u16));
        }
    }

    fn sign_of_life(&self, now: u64) {
        if now - self.last_sign.get() > SIGN_EVERY {
            self.last_sign.set(now);
            if let Some(bound) = self.bound.get() {
                bound.controller.saw(now);
                self.publish(bound);
            }
        }
    }

    /// Adds what this queue has served to the subsystem's counters.
    pub(super) fn publish(&self, bound: &Bound) {
        let Some(subsystem) = &bound.controller.subsystem else {
            return;
        };
        let served = &subsystem.served;
        let all = [&served.units_read, &served.units_written, &served.reads, &served.writes];
        for (sum, here) in all.into_iter().zip(&self.served) {
            sum.fetch_add(here.take(), Relaxed);
        }
    }
}
