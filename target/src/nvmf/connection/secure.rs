//! TLS on a connection: its beginning, and the bytes on their way through it. A connection without it pays one look at
//! an empty cell for each receive and send.
//!
//! ```text
//!   socket ─► incoming ─► Channel ─► inbox, payload        outbox ─► plain ─► Channel ─► outgoing ─► socket
//! ```
//!
//! What a channel holds is bounded: it is fed only when it has used up all but part of a record, and it gets no more to send
//! before the last piece has left.
use super::*;
use crate::nvmf::{auth::Generated, off_core, secure};
use reactor::{Inbox, Outbox, Received};
use spec::nvme::tls::{Alert, ClientHello, Identity, alert, begins_tls};
use std::io;
use tls::{Channel, Failed, Read, Suite};

/// Bytes that are received at once: four records.
const INCOMING: usize = 64 << 10;
/// Bytes that are encrypted at once: with what TLS adds they fill 32 KiB.
const OUTGOING: usize = (32 << 10) - 2 * tls::OVERHEAD;
/// Most bytes in a record (RFC 8446, 5.1).
const RECORD: usize = 16 << 10;

/// What a secure connection has on top.
pub(super) struct Secure {
    /// Who the host is.
    pub(super) who: Identity,
    /// How its bytes are encrypted.
    pub(super) suite: Suite,
    /// The key, if an authentication has left it behind: it lives as long as the connections that came by it.
    generated: Option<Arc<Generated>>,
    channel: RefCell<Channel>,
    /// The reader's; `None` while it receives.
    incoming: RefCell<Option<Inbox>>,
    /// The writer's; `None` while it sends.
    outgoing: RefCell<Option<(Box<[u8]>, Outbox)>>,
}

fn failed(why: Failed) -> io::Error {
    io::Error::other(why.to_string())
}

impl Secure {
    /// Plain bytes into `payload` and what is left into `inbox`; `None`: the host has ended the channel.
    fn decrypt(&self, inbox: &mut Inbox, payload: Option<&Buf>) -> Result<Option<Received>, Failed> {
        let mut channel = self.channel.borrow_mut();
        let mut got = Received::default();
        let mut last = Read::Wait;
        if let Some(part) = payload {
            let mut some = [0; RECORD];
            while got.payload < part.len() {
                let room = some.len().min(part.len() - got.payload);
                last = channel.read(&mut some[..room])?;
                let Read::Bytes(n) = last else { break };
                part.write_at(got.payload, &some[..n]);
                got.payload += n;
            }
        }
        if payload.is_none_or(|part| got.payload == part.len()) {
            loop {
                let n = inbox.fill(|free| {
                    if free.is_empty() {
                        return Ok(0);
                    }
                    last = channel.read(free)?;
                    Ok(if let Read::Bytes(n) = last { n } else { 0 })
                })?;
                got.inbox += n;
                if n == 0 {
                    break;
                }
            }
        }
        Ok((last != Read::End || !got.is_end()).then_some(got))
    }
}

impl Connection {
    /// The first bytes say whether it is TLS. False: there is nothing to go on with.
    pub(super) async fn greet(&self, inbox: &mut Inbox, secure_port: bool) -> bool {
        match self.stream.recv(inbox, None).await {
            Ok(got) if got.inbox > 0 => {}
            _ => return false,
        }
        if !begins_tls(inbox.unread()) {
            if secure_port {
                tracing::warn!(peer = %self.peer, local = %self.local, "refused a host without TLS: the port requires it");
            }
            return !secure_port;
        }
        let mut incoming = Inbox::with_capacity(INCOMING);
        // It has room for all that the other has.
        incoming.push(inbox.unread());
        inbox.clear();
        let mut outgoing = Outbox::with_capacity(OUTGOING.div_ceil(64));
        match self.handshake(&mut incoming, &mut outgoing, secure_port).await {
            Ok((who, suite, generated, channel)) => {
                tracing::debug!(peer = %self.peer, identity = %who, suite = suite.name(), "a host has come by TLS");
                let plain = vec![0; OUTGOING].into_boxed_slice();
                // It is set once: a connection begins once.
                let _ = self.secure.set(Secure {
                    who,
                    suite,
                    generated,
                    channel: RefCell::new(channel),
                    incoming: RefCell::new(Some(incoming)),
                    outgoing: RefCell::new(Some((plain, outgoing))),
                });
                true
            }
            Err(why) => {
                tracing::warn!(peer = %self.peer, local = %self.local, "refused a host by TLS: {why}");
                let _ = self.send_all(&mut outgoing).await;
                false
            }
        }
    }

    /// From the ClientHello to the host's Finished. On failure the last words are in `outgoing`. What it waits for is bounded by
    /// the time that a connection has until Connect.
    async fn handshake(
        &self,
        incoming: &mut Inbox,
        outgoing: &mut Outbox,
        secure_port: bool,
    ) -> Result<(Identity, Suite, Option<Arc<Generated>>, Channel), String> {
        let hello = loop {
            match ClientHello::parse(incoming.unread()) {
                Ok(Some(hello)) => break hello,
                Ok(None) => self.more(incoming).await?,
                Err(why) => return Err(self.refuse(secure::Refused::Hello(why), outgoing)),
            }
        };
        let (shared, local) = (self.shared.clone(), self.local);
        let found = off_core::run(move || secure::find(&shared, local, secure_port, &hello));
        let found = match found.await {
            Some(Ok(found)) => found,
            Some(Err(why)) => return Err(self.refuse(why, outgoing)),
            None => {
                outgoing.push_bytes(&alert(Alert::InternalError));
                return Err("keys cannot be looked up".into());
            }
        };
        let secure::Accepted { who, generated, psk } = found;
        let suite = psk.suite;
        let mut channel = Channel::server(psk).map_err(|why| why.to_string())?;
        loop {
            channel.feed(incoming.unread());
            incoming.clear();
            let step = channel.handshake();
            outgoing.push_bytes(channel.unsent());
            channel.sent();
            let done = step.map_err(|why| why.to_string())?;
            let sent = self.send_all(outgoing).await;
            sent.map_err(|why| why.to_string())?;
            if done {
                return Ok((who, suite, generated, channel));
            }
            self.more(incoming).await?;
        }
    }

    fn refuse(&self, why: secure::Refused, outgoing: &mut Outbox) -> String {
        outgoing.push_bytes(&alert(why.alert()));
        why.to_string()
    }

    async fn more(&self, incoming: &mut Inbox) -> Result<(), String> {
        match self.stream.recv(incoming, None).await {
            Ok(got) if got.inbox > 0 => Ok(()),
            Ok(_) => Err("it went away or took too long".into()),
            Err(why) => Err(why.to_string()),
        }
    }

    async fn send_all(&self, outbox: &mut Outbox) -> io::Result<()> {
        while !outbox.is_empty() {
            self.stream.send(outbox).await?;
        }
        Ok(())
    }

    /// As [`Stream::recv`].
    pub(super) async fn receive(&self, inbox: &mut Inbox, payload: Option<&Buf>) -> io::Result<Received> {
        let Some(secure) = self.secure.get() else {
            return self.stream.recv(inbox, payload).await;
        };
        let Some(mut incoming) = secure.incoming.take() else {
            return Err(io::ErrorKind::ResourceBusy.into());
        };
        let got = loop {
            let step = secure.decrypt(inbox, payload);
            if self.tls_waits() {
                // An answer to a key update, or an alert.
                self.to_send.notify_one();
            }
            match step {
                Err(why) => {
                    tracing::warn!(peer = %self.peer, "TLS with a host has failed: {why}");
                    break Err(failed(why));
                }
                Ok(None) => break Ok(Received::default()),
                Ok(Some(got)) if !got.is_end() => break Ok(got),
                Ok(Some(_)) => {}
            }
            match self.stream.recv(&mut incoming, None).await {
                Ok(got) if got.inbox > 0 => {}
                end => break end,
            }
            secure.channel.borrow_mut().feed(incoming.unread());
            incoming.clear();
        };
        secure.incoming.replace(Some(incoming));
        got
    }

    /// As [`Stream::send`], and sends what TLS itself has to say.
    pub(super) async fn transmit(&self, outbox: &mut Outbox) -> io::Result<()> {
        let Some(secure) = self.secure.get() else {
            return self.stream.send(outbox).await.map(drop);
        };
        let Some((mut plain, mut outgoing)) = secure.outgoing.take() else {
            return Err(io::ErrorKind::ResourceBusy.into());
        };
        let written = {
            let mut channel = secure.channel.borrow_mut();
            let n = outbox.take(&mut plain);
            let written = channel.write(&plain[..n]).map_err(failed);
            outgoing.push_bytes(channel.unsent());
            channel.sent();
            written
        };
        let sent = self.send_all(&mut outgoing).await;
        secure.outgoing.replace(Some((plain, outgoing)));
        written.and(sent)
    }

    /// TLS itself has something to say.
    pub(super) fn tls_waits(&self) -> bool {
        let waits = |secure: &Secure| !secure.channel.borrow().unsent().is_empty();
        self.secure.get().is_some_and(waits)
    }

    /// The host hears that nothing more comes.
    pub(super) fn close_tls(&self) {
        if let Some(secure) = self.secure.get() {
            secure.channel.borrow_mut().close();
            self.to_send.notify_one();
        }
    }

    /// Who the host has proved to be, if it came by TLS.
    pub fn proven(&self) -> Option<&Identity> {
        self.secure.get().map(|secure| &secure.who)
    }

    /// The kind of key it came by, if it came by TLS.
    pub fn made(&self) -> Option<Made> {
        self.proven().map(|who| who.made)
    }

    /// The key that an authentication had left behind, if it came by one.
    pub fn generated(&self) -> Option<&Arc<Generated>> {
        self.secure.get()?.generated.as_ref()
    }

    /// How its bytes are encrypted, if they are.
    pub fn suite(&self) -> Option<Suite> {
        self.secure.get().map(|secure| secure.suite)
    }
}
