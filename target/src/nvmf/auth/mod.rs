//! In-band authentication of a queue (Base 2.0d, 8.13): hosts that have a key must prove it on every queue.
//!
//! | file | subject |
//! |---|---|
//! | this one | a queue's lock, and the two commands that open it |
//! | `exchange` | the messages of one DH-HMAC-CHAP exchange |
//! | `generated` | PSKs for TLS that exchanges leave behind |
//! | `group` | the arithmetic |
//! | `secret` | keys as administrators keep them |
mod exchange;
mod generated;
mod group;
mod secret;

pub use exchange::{Concatenation, Offer, exercise, host};
pub use generated::{Generated, GeneratedPsks};
pub use secret::{NotASecret, Secret};

use super::{
    connection::{Bound, Connection, Reply},
    off_core,
    session::Command,
    shared::Shared,
    subsystem::HostKeys,
};
use exchange::{Exchange, Names, Progress, Secrets};
use spec::nvme::{
    Status,
    auth::{GroupId, HashId, MAX_LEN, is_ours, length},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

/// A queue that is not authenticated after this long is closed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is told of a queue's authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthReport {
    /// The queue may be used.
    pub open: bool,
    /// How far it has come, in SPDK's words.
    pub state: &'static str,
    /// Hash and group, once they are agreed on.
    pub chosen: Option<(HashId, GroupId)>,
}

/// Whether a queue may be used, and the exchange that decides it.
pub struct Lock {
    open: Cell<bool>,
    concatenation: Concatenation,
    /// `None` while a message is being worked on elsewhere.
    exchange: RefCell<Option<Exchange>>,
    since: u64,
}

impl Lock {
    /// A queue of a host that must prove who it is (`locked`) or need not. `now` is the reactor's clock.
    pub fn new(locked: bool, concatenation: Concatenation, host: &str, subsystem: &str, now: u64) -> Self {
        Self {
            open: Cell::new(!locked),
            concatenation,
            exchange: RefCell::new(Some(exchange(host, subsystem, concatenation))),
            since: now,
        }
    }

    /// What is told of it; `None` while a message is being worked on.
    fn report(&self) -> Option<AuthReport> {
        self.exchange.borrow().as_ref().map(|exchange| AuthReport {
            open: self.open.get(),
            state: exchange.state(),
            chosen: exchange.chosen(),
        })
    }

    /// The queue may be used.
    pub fn is_open(&self) -> bool {
        self.open.get()
    }

    /// The exchange for a message from the host: a new one when the last is over, for the host begins anew on a queue that is in
    /// use (reauthentication). `None`: another message is being worked on.
    fn take(&self, host: &str, subsystem: &str) -> Option<Exchange> {
        let going = self.exchange.take()?;
        Some(match going.progress() {
            Progress::Going => going,
            _ => exchange(host, subsystem, self.concatenation),
        })
    }

    /// The exchange after that message. It decides whether the queue may be used.
    fn put(&self, exchange: Exchange) -> Progress {
        let progress = exchange.progress();
        self.exchange.replace(Some(exchange));
        match progress {
            Progress::Done => self.open.set(true),
            Progress::Failed(_) => self.open.set(false),
            Progress::Going => {}
        }
        progress
    }

    /// The message for the host, once, and how far things have come.
    fn message(&self) -> Option<(Vec<u8>, Progress)> {
        let mut exchange = self.exchange.borrow_mut();
        let exchange = exchange.as_mut()?;
        Some((exchange.receive()?, exchange.progress()))
    }

    /// The host has been asked for long enough.
    pub fn is_late(&self, now: u64) -> bool {
        !self.open.get() && now.saturating_sub(self.since) > PATIENCE.as_nanos() as u64
    }
}

fn exchange(host: &str, subsystem: &str, concatenation: Concatenation) -> Exchange {
    let names = Names {
        host: host.into(),
        subsystem: subsystem.into(),
    };
    Exchange::new(names, concatenation)
}

/// Puts what is to be told of a queue's authentication where the control plane finds it.
pub fn publish(connection: &Connection, bound: &Bound) {
    if let Some(report) = bound.lock.report()
        && let Some(queue) = bound.controller.state().queues.get_mut(&bound.qid)
        && queue.connection == connection.id
    {
        queue.auth = Some(report);
    }
}

/// Authentication Send: a message from the host. What it comes to is told by the next Receive.
pub async fn send(connection: &Rc<Connection>, bound: &Bound, slot: u16, command: &Command) -> Reply {
    let buf = connection.buffer_of(slot);
    if !is_ours(&command.sqe) || length(&command.sqe) as usize != buf.len() || buf.len() > MAX_LEN {
        return Reply::fail(Status::INVALID_FIELD);
    }
    let Some(subsystem) = bound.controller.subsystem.clone() else {
        return Reply::fail(Status::INVALID_FIELD);
    };
    let Some(mut exchange) = bound.lock.take(&bound.controller.hostnqn, subsystem.nqn()) else {
        return Reply::fail(Status::COMMAND_SEQUENCE_ERROR);
    };
    let message = buf.to_vec();
    let host = bound.controller.hostnqn.clone();
    let shared = connection.shared.clone();
    let worked = off_core::run(move || {
        let offer = shared.state().config.dhchap.clone();
        let keys = subsystem.inner().hosts.get(&host).cloned();
        exchange.send(&message, &offer, || secrets(&shared, &keys?));
        exchange
    });
    let Some(mut exchange) = worked.await else {
        return Reply::fail(Status::INTERNAL_ERROR);
    };
    if let Some(psk) = exchange.take_psk() {
        tracing::debug!(identity = %psk.identity, peer = %connection.peer, "a host may come by TLS");
        let psks = &connection.shared.generated;
        psks.keep(psk, connection.generated(), reactor::now().0);
    }
    if let Progress::Failed(reason) = bound.lock.put(exchange) {
        tracing::warn!(host = bound.controller.hostnqn, peer = %connection.peer, ?reason, "a host could not be authenticated");
    }
    publish(connection, bound);
    Reply::done()
}

/// Both keys, read where they are kept. `None`: the host has none, or it cannot be read.
fn secrets(shared: &Shared, keys: &HostKeys) -> Option<Secrets> {
    let read = |name: &String| {
        let text = shared.keyring.read(name).map_err(|error| error.to_string());
        let secret = text.and_then(|text| Secret::parse(&text).map_err(|error| error.to_string()));
        secret
            .inspect_err(|error| tracing::warn!(key = %name, %error, "a key cannot be used"))
            .ok()
    };
    Some(Secrets {
        host: read(keys.dhchap_key.as_ref()?)?,
        controller: match &keys.dhchap_ctrlr_key {
            None => None,
            Some(name) => Some(read(name)?),
        },
    })
}

/// Authentication Receive: the message for the host. After a failure, it is the last thing the host hears.
pub async fn receive(connection: &Rc<Connection>, bound: &Bound, slot: u16, command: &Command) -> Reply {
    let room = length(&command.sqe) as usize;
    if !is_ours(&command.sqe) || (command.sqe.sgl.length.get() as usize) < room {
        return Reply::fail(Status::INVALID_FIELD);
    }
    let Some((message, progress)) = bound.lock.message() else {
        return Reply::fail(Status::COMMAND_SEQUENCE_ERROR);
    };
    publish(connection, bound);
    if message.len() > room || message.len() > connection.max_io() {
        return Reply::fail(Status::INVALID_FIELD);
    }
    if matches!(progress, Progress::Failed(_)) {
        connection.shut_soon();
    }
    connection.room(slot, message.len()).await.write_at(0, &message);
    Reply::data(message.len() as u32)
}
