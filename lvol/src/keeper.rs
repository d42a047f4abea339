//! Keeps an engine in a process of its own: starts it, serves what it asks of the runtime, passes calls on to it, and starts another when it ends
//! or says nothing any more. Hosts' I/O does not pass through here and goes on whatever the engine does.
use crate::{
    Change, ChangeError, ChangeKind, EngineError, Notification, Offers, Settings,
    border::{
        Side,
        waiting::{Answer, Waiting},
        wire::{self, Call, Down, Frame, Question, Up},
    },
    events::Ring,
};
use bdev::{Event, Graph, GraphError, Subscription};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    process::Child,
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

/// Changes a slow subscriber may leave lying before it is told that it missed some.
const BACKLOG: usize = 4096;
/// How often the engine is asked whether it is alive.
const PULSE: Duration = Duration::from_secs(5);
/// How long it may say nothing. It can be busy for seconds with ten thousand volumes.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a call waits for an engine that is being started.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it takes at most to notice that an engine has ended.
const NOTICE: Duration = Duration::from_secs(5);
/// The longest pause between two starts that came to nothing.
const PAUSE: Duration = Duration::from_secs(10);

/// The program that runs [`process::run`](crate::process::run).
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What it is told; behind it comes `--settings` and what is wanted, in JSON.
    pub args: Vec<OsString>,
}

/// Where the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Whereabouts {
    /// The number of its process, if it has one of its own and is there.
    pub process: Option<u32>,
    /// How often it was started.
    pub starts: u64,
}

/// The keeper.
pub struct Keeper {
    side: Arc<Side>,
    link: watch::Sender<Option<Arc<Link>>>,
    process: AtomicU32,
    starts: AtomicU64,
    told: Mutex<Told>,
    /// What is wanted of it.
    settings: Mutex<Settings>,
    changes: broadcast::Sender<Change>,
}

/// What has happened to nodes, told by the graph.
struct Told {
    events: Subscription,
    ring: Ring,
}

/// One engine's life.
struct Link {
    out: mpsc::UnboundedSender<Frame>,
    waiting: Waiting<ChangeError>,
    graph: Graph,
    /// Events of the graph that the engine has not been told yet.
    events: Mutex<Subscription>,
    /// What it was started with.
    settings: Settings,
}

impl Keeper {
    /// Starts the engine and keeps it for as long as the answer, or the graph, lives. On a runtime of tokio's.
    pub fn start(graph: Graph, program: Program, settings: Settings) -> Arc<Self> {
        let keeper = Arc::new(Self {
            told: Mutex::new(Told {
                events: graph.events(),
                ring: Ring::default(),
            }),
            side: Arc::new(Side::new(graph)),
            link: watch::Sender::new(None),
            process: AtomicU32::new(0),
            starts: AtomicU64::new(0),
            settings: Mutex::new(settings),
            changes: broadcast::Sender::new(BACKLOG),
        });
        tokio::spawn(keep(Arc::downgrade(&keeper), keeper.side.clone(), program));
        tokio::spawn(tell(Arc::downgrade(&keeper), keeper.side.graph().events()));
        keeper
    }

    /// The runtime's graph.
    pub fn graph(&self) -> &Graph {
        self.side.graph()
    }

    /// Where the engine is.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            process: Some(self.process.load(Relaxed)).filter(|number| *number != 0),
            starts: self.starts.load(Relaxed),
        }
    }

    /// What is wanted of the engine, of this one and of those that come after it.
    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is wanted, and returns when the engine has done what follows from it. One that is being started begins with it.
    pub(crate) async fn adopt(&self, change: impl FnOnce(&mut Settings)) -> Result<(), ChangeError> {
        let settings = {
            let mut settings = self.settings();
            change(&mut settings);
            Box::new(settings.clone())
        };
        let link = self.link.borrow().clone();
        match link {
            Some(link) => link.call(&Call::Adopt { settings }).await.transpose().map(drop),
            None => Ok(()),
        }
    }

    pub(crate) fn offered_by(&self, offers: Arc<dyn Offers>) {
        self.side.offered_by(offers);
    }

    // ---- what happens

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(crate) fn notifications(&self, id: u64, max: usize) -> Vec<Notification> {
        self.pump();
        self.told().ring.since(id, max)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what the graph has told.
    fn pump(&self) {
        let mut told = self.told();
        while let Some(event) = told.events.try_recv() {
            let (name, kind) = match event {
                Event::Added { name } => (name, ChangeKind::Registered),
                Event::Removed { name } => (name, ChangeKind::Unregistered),
                Event::Resized { name, blocks } => (name, ChangeKind::Resized { blocks }),
                Event::Orphaned { name, reason } => (name, ChangeKind::Orphaned { reason }),
                Event::Rearranged { name, whole } => (name, ChangeKind::Rearranged { whole }),
                Event::Missed { count } => {
                    tracing::warn!(count, "more happened at once than is kept: not every host was told");
                    continue;
                }
                _ => continue,
            };
            let change = Change { name, kind };
            told.ring.push(&change);
            // Nobody may be listening.
            let _ = self.changes.send(change);
        }
    }

    // ---- calls

    /// Asks the engine. What only looks is asked again if the engine is lost before it answers; what changes something is not, and the error says so.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ChangeError> {
        let mut tries = if call.looks() { 3 } else { 1 };
        loop {
            let mut link = self.link.subscribe();
            let there = timeout(PATIENCE, link.wait_for(Option::is_some)).await;
            let Some(link) = there.ok().and_then(Result::ok).and_then(|link| link.clone()) else {
                let why = "it does not start; hosts are served all the same, and the log says why it ends";
                return Err(EngineError::Lost(why.into()).into());
            };
            tries -= 1;
            match link.call(call).await {
                Some(answer) => {
                    let json = answer?;
                    return serde_json::from_slice(&json).map_err(|why| EngineError::Lost(why.to_string()).into());
                }
                None if tries > 0 => {}
                None => {
                    let why = "it ended before it answered and is started again: look what was done, and ask again";
                    return Err(EngineError::Lost(why.into()).into());
                }
            }
            // The keeper is about to notice.
            let _ = timeout(
                NOTICE,
                self.link
                    .subscribe()
                    .wait_for(|now| now.as_ref().is_none_or(|now| !Arc::ptr_eq(now, &link))),
            )
            .await;
        }
    }
}

impl Link {
    /// The answer; nothing if the engine has ended.
    async fn call(&self, call: &Call) -> Option<Answer<ChangeError>> {
        let (number, answer) = self.waiting.begin();
        self.say(
            &Down::Call {
                number,
                call: Box::new(call.clone()),
            },
            Vec::new(),
        );
        answer.await.ok()
    }

    fn say(&self, message: &Down, bytes: Vec<u8>) {
        match wire::frame(message, bytes) {
            // The reader notices that the line has ended.
            Ok(frame) => drop(self.out.send(frame)),
            Err(why) => tracing::error!(%why, "a message could not be sent to the engine"),
        }
    }

    /// Tells the engine what has happened, then `last`: whoever gets an answer knows everything that came of it.
    fn tell(&self, last: Option<(&Down, Vec<u8>)>) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(event) = events.try_recv() {
            let node = match &event {
                Event::Added { name } => self.graph.info(name).map(Box::new),
                _ => None,
            };
            self.say(&Down::Event { event, node }, Vec::new());
        }
        if let Some((message, bytes)) = last {
            self.say(message, bytes);
        }
    }
}

/// Passes events on as they come, for as long as the keeper lives.
async fn tell(keeper: Weak<Keeper>, wake: Subscription) {
    while wake.recv().await.is_some() {
        while wake.try_recv().is_some() {}
        let Some(keeper) = keeper.upgrade() else { return };
        keeper.pump();
        let link = keeper.link.borrow().clone();
        if let Some(link) = link {
            link.tell(None);
        }
    }
}

/// Starts one engine after another.
async fn keep(keeper: Weak<Keeper>, side: Arc<Side>, program: Program) {
    let mut pause = Duration::ZERO;
    loop {
        let settings = match keeper.upgrade() {
            Some(keeper) => keeper.settings().clone(),
            None => return,
        };
        let (ended, answered) = match launch(&program, &settings) {
            Ok(started) => life(&keeper, &side, started, settings).await,
            Err(why) => (format!("cannot be started: {why}"), false),
        };
        side.bereaved();
        let Some(keeper) = keeper.upgrade() else { return };
        keeper.process.store(0, Relaxed);
        // One that never came as far as answering would not do so the next moment either.
        pause = match answered {
            true => Duration::ZERO,
            false => (pause * 2).clamp(Duration::from_millis(100), PAUSE),
        };
        tracing::error!("the engine {ended}; hosts are served as before, and it is started again");
        drop(keeper);
        tokio::time::sleep(pause).await;
    }
}

/// A process and this end of the two sockets.
type Started = (Child, UnixStream, UnixStream);

/// Starts one. It is in no terminal's foreground: who interrupts the target does not interrupt the engine while it writes.
fn launch(program: &Program, settings: &Settings) -> io::Result<Started> {
    let ((main, its_main), (asking, its_asking)) = (UnixStream::pair()?, UnixStream::pair()?);
    let mut command = std::process::Command::new(&program.path);
    command
        .args(&program.args)
        .arg("--settings")
        .arg(serde_json::to_string(settings)?)
        .stdin(Stdio::from(OwnedFd::from(its_main)))
        .stdout(Stdio::from(OwnedFd::from(its_asking)))
        .process_group(0);
    let mut command = tokio::process::Command::from(command);
    Ok((command.kill_on_drop(true).spawn()?, main, asking))
}

/// Serves one engine until it ends; in words how, and whether it had come as far as answering.
async fn life(
    keeper: &Weak<Keeper>,
    side: &Arc<Side>,
    (mut child, main, asking): Started,
    settings: Settings,
) -> (String, bool) {
    let mut under_way = JoinSet::new();
    let (ended, silent) = oneshot::channel();
    let answering = side.clone();
    // It waits for questions and for nothing else, and ends with the socket.
    let thread = std::thread::Builder::new().name("ashlar-border".into()).spawn(move || {
        answer(&answering, asking);
        // Nobody waits for it when the target ends.
        let _ = ended.send(());
    });
    let served = match thread {
        Ok(_) => serve(keeper, side, (child.id(), settings), main, &mut under_way).await,
        Err(why) => Err(why),
    };
    if let Err(why) = child.start_kill() {
        tracing::debug!(%why, "the engine had ended already");
    }
    // From now on calls wait for the next one.
    let keeper = keeper.upgrade();
    let answered = keeper.is_some_and(|keeper| keeper.link.send_replace(None).is_some());
    let status = child.wait().await;
    // What it wanted last happens, or has failed, before another one looks: a write that came after would be a change that nobody has planned.
    let _ = silent.await;
    while under_way.join_next().await.is_some() {}
    let how = match (served, status) {
        (Err(why), _) => why.to_string(),
        (Ok(()), Ok(status)) => format!("has ended ({status})"),
        (Ok(()), Err(why)) => format!("has ended ({why})"),
    };
    (how, answered)
}

async fn serve(
    keeper: &Weak<Keeper>,
    side: &Arc<Side>,
    (process, settings): (Option<u32>, Settings),
    main: UnixStream,
    under_way: &mut JoinSet<()>,
) -> io::Result<()> {
    main.set_nonblocking(true)?;
    let (from, mut to) = tokio::net::UnixStream::from_std(main)?.into_split();
    let (out, mut outgoing) = mpsc::unbounded_channel::<Frame>();
    let link = Arc::new(Link {
        out,
        waiting: Waiting::default(),
        events: Mutex::new(side.graph().events()),
        graph: side.graph().clone(),
        settings,
    });
    if let Some(keeper) = keeper.upgrade() {
        keeper.process.store(process.unwrap_or_default(), Relaxed);
        keeper.starts.fetch_add(1, Relaxed);
    }
    let writer = tokio::spawn(async move {
        while let Some(frame) = outgoing.recv().await {
            if wire::send(&mut to, &frame).await.is_err() {
                return;
            }
        }
    });
    let mut pulse = tokio::time::interval(PULSE);
    let mut heard = Instant::now();
    let ping = |link: Arc<Link>| async move { link.call(&Call::Ping).await };
    let (mut pinging, mut answered) = (Box::pin(ping(link.clone())), false);
    let mut receiving = Box::pin(receive(from));
    let ended = loop {
        tokio::select! {
            received = &mut receiving => match received {
                Ok((message, bytes, half)) => {
                    heard = Instant::now();
                    hear(keeper, side, &link, under_way, message, bytes);
                    receiving = Box::pin(receive(half));
                }
                // The end of its process, as a rule.
                Err(_) => break Ok(()),
            },
            // Only so that those that have ended are forgotten.
            Some(_) = under_way.join_next() => {}
            _ = &mut pinging, if !answered => answered = true,
            _ = pulse.tick() => {
                if keeper.upgrade().is_none() {
                    break Ok(());
                }
                if answered {
                    (pinging, answered) = (Box::pin(ping(link.clone())), false);
                } else if heard.elapsed() > SILENCE {
                    break Err(io::Error::other(format!("has said nothing for {} s and is killed", SILENCE.as_secs())));
                }
            }
        }
    };
    writer.abort();
    // Whoever waits for an answer learns that none will come.
    link.waiting.give_up();
    ended
}

type Half = tokio::net::unix::OwnedReadHalf;

async fn receive(mut from: Half) -> io::Result<(Up, Vec<u8>, Half)> {
    let (message, bytes) = wire::receive(&mut from).await?;
    Ok((message, bytes, from))
}

fn hear(
    keeper: &Weak<Keeper>,
    side: &Arc<Side>,
    link: &Arc<Link>,
    under_way: &mut JoinSet<()>,
    message: Up,
    bytes: Vec<u8>,
) {
    match message {
        Up::Ready => {
            if let Some(keeper) = keeper.upgrade() {
                keeper.link.send_replace(Some(link.clone()));
                // Something else may be wanted since it was started.
                let now = keeper.settings().clone();
                if now != link.settings {
                    let (link, settings) = (link.clone(), Box::new(now));
                    tokio::spawn(async move { link.call(&Call::Adopt { settings }).await });
                }
            }
            // What has happened before anybody passed events on.
            link.tell(None);
        }
        Up::Command { number, command } => {
            let (side, link, reads) = (side.clone(), link.clone(), command.reads());
            let done = async move {
                let (problem, bytes) = match side.perform(*command, bytes).await {
                    Ok(bytes) => (None, bytes),
                    Err(why) => (Some(why), Vec::new()),
                };
                link.tell(Some((&Down::Done { number, problem }, bytes)));
            };
            match reads {
                // A disk that does not answer keeps no engine from being replaced.
                true => drop(tokio::spawn(done)),
                false => drop(under_way.spawn(done)),
            }
        }
        Up::Answer { number, problem } => {
            // What came of it is told first, as if it had been done here.
            if let Some(keeper) = keeper.upgrade() {
                keeper.pump();
            }
            link.waiting.end(number, problem.map_or(Ok(bytes), Err));
        }
        Up::Looked => side.examining(None),
        Up::Change(change) => {
            if let Some(keeper) = keeper.upgrade() {
                keeper.pump();
                let _ = keeper.changes.send(change);
            }
        }
    }
}

/// Answers the engine's questions until it ends.
fn answer(side: &Side, mut socket: UnixStream) {
    loop {
        let Ok((question, _)) = wire::receive_now::<Question>(&mut socket) else {
            return;
        };
        let (problem, json): (Option<GraphError>, Vec<u8>) = match side.answer(question) {
            Ok(json) => (None, json),
            Err(why) => (Some(why), Vec::new()),
        };
        let sent = wire::frame(&problem, json).and_then(|frame| wire::send_now(&mut socket, &frame));
        if sent.is_err() {
            return;
        }
    }
}
