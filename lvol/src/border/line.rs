//! The engine's end of the sockets, for an engine in a process of its own.
//!
//! There are two: commands and calls go back and forth on one, each answer bearing the number of what it answers; on the other the engine asks
//! and waits, which it may, for it never stands in the way of an I/O.
use super::{
    Look, Reads,
    waiting::Waiting,
    wire::{self, Call, Command, Down, Frame, Question, Up},
};
use bdev::{Event, GraphError, NodeInfo};
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{broadcast, mpsc};

/// Events a slow subscriber may leave lying before it is told that it missed some.
const BACKLOG: usize = 4096;

/// Calls, with their numbers.
pub type Calls = mpsc::UnboundedReceiver<(u64, Call)>;

/// What nodes are called, kept by what happens to them, so that looking for a twin costs no way to the other process.
#[derive(Default)]
struct Names {
    /// By name, alias and UUID.
    all: HashMap<String, String>,
    /// The keys of each node in `all`.
    keys: HashMap<String, Vec<String>>,
    /// Added, and nobody has asked about them since.
    fresh: HashMap<String, Box<NodeInfo>>,
}

impl Names {
    fn add(&mut self, node: &NodeInfo) {
        let mut keys = node.aliases.clone();
        keys.push(node.uuid.to_string());
        keys.push(node.name.clone());
        self.all.extend(keys.iter().map(|key| (key.clone(), node.name.clone())));
        self.keys.insert(node.name.clone(), keys);
    }

    fn note(&mut self, event: &Event, node: Option<Box<NodeInfo>>) {
        if let Some(node) = node {
            self.add(&node);
            self.fresh.insert(node.name.clone(), node);
        }
        if let Event::Removed { name } = event {
            self.fresh.remove(name);
            for key in self.keys.remove(name).unwrap_or_default() {
                self.all.remove(&key);
            }
        }
    }
}

/// The engine's end.
pub struct Line {
    out: mpsc::UnboundedSender<Frame>,
    asking: Mutex<UnixStream>,
    waiting: Waiting<GraphError>,
    events: broadcast::Sender<Event>,
    names: Mutex<Names>,
}

impl Line {
    /// The engine's end of these two sockets; calls come out of the second half of the answer, which ends with the line. On a runtime of tokio's.
    pub fn start(main: UnixStream, asking: UnixStream) -> io::Result<(Arc<Line>, Calls)> {
        main.set_nonblocking(true)?;
        let (mut from, mut to) = tokio::net::UnixStream::from_std(main)?.into_split();
        let (out, mut outgoing) = mpsc::unbounded_channel::<Frame>();
        let (call, calls) = mpsc::unbounded_channel();
        let line = Arc::new(Line {
            out,
            asking: Mutex::new(asking),
            waiting: Waiting::default(),
            events: broadcast::Sender::new(BACKLOG),
            names: Mutex::default(),
        });
        tokio::spawn(async move {
            while let Some(frame) = outgoing.recv().await {
                if wire::send(&mut to, &frame).await.is_err() {
                    return;
                }
            }
        });
        let reader = line.clone();
        tokio::spawn(async move {
            // An error is the end of the other process.
            while let Ok((message, bytes)) = wire::receive::<Down>(&mut from).await {
                match message {
                    Down::Event { event, node } => {
                        reader.names().note(&event, node);
                        // Nobody may be listening.
                        let _ = reader.events.send(event);
                    }
                    Down::Done { number, problem } => {
                        reader.waiting.end(number, problem.map_or(Ok(bytes), Err));
                    }
                    Down::Call { number, call: asked } => {
                        let asked = *asked;
                        if call.send((number, asked)).is_err() {
                            break;
                        }
                    }
                }
            }
            reader.waiting.give_up();
        });
        Ok((line, calls))
    }

    /// Sends a message.
    pub fn say(&self, message: &Up, bytes: Vec<u8>) {
        match wire::frame(message, bytes) {
            // The reader notices that the line has ended.
            Ok(frame) => drop(self.out.send(frame)),
            Err(why) => tracing::error!(%why, "a message could not be sent"),
        }
    }

    pub(super) async fn command(&self, command: Command, bytes: Vec<u8>) -> Result<Vec<u8>, GraphError> {
        let (number, answer) = self.waiting.begin();
        let command = Box::new(command);
        self.say(&Up::Command { number, command }, bytes);
        answer.await.unwrap_or(Err(GraphError::Stopped))
    }

    pub(super) fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T, GraphError> {
        let mut socket = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = || -> io::Result<(Option<GraphError>, Vec<u8>)> {
            wire::send_now(&mut *socket, &wire::frame(question, Vec::new())?)?;
            wire::receive_now(&mut *socket)
        };
        match asked() {
            Ok((None, json)) => serde_json::from_slice(&json).map_err(|_| GraphError::Stopped),
            Ok((Some(problem), _)) => Err(problem),
            Err(_) => Err(GraphError::Stopped),
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list(&self) -> Vec<NodeInfo> {
        let list: Vec<NodeInfo> = self.ask(&Question::List).unwrap_or_default();
        let mut names = self.names();
        *names = Names::default();
        list.iter().for_each(|node| names.add(node));
        drop(names);
        list
    }

    pub(super) fn find(&self, name: &str) -> Option<String> {
        self.names().all.get(name).cloned()
    }

    pub(super) fn fresh(&self, name: &str) -> Option<NodeInfo> {
        let noted = self.names().fresh.remove(name);
        noted
            .map(|node| *node)
            .or_else(|| self.ask(&Question::Info { name: name.into() }).ok().flatten())
    }

    pub(super) async fn look(&self, name: &str, reads: Reads) -> Option<Look> {
        let name = name.to_owned();
        let answer = self.command(Command::Look { name, reads }, Vec::new()).await.ok()?;
        super::side::looked(&answer)
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
