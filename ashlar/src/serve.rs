//! `ashlar serve`: brings the house up, says how to reach what it serves, and takes it down in order.
use crate::{ask, cli, logging, volume};
use bdev::Graph;
use config::schema::{self, Config};
use lvol::{
    Engine, Handle, Registry, Settings,
    keeper::{Keeper, Program},
};
use reactor::{IoBackend, Poll, Reactors};
use rpc::{client::Client, context::Context, methods, server::Server};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use target::{iscsi::Iscsi, nvmf::Nvmf};
use tokio::signal::unix::{SignalKind, signal};

/// How long hosts' commands may take to finish after a request to stop.
const PATIENCE: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error>;

/// Serves until told to stop.
pub fn run(ask: &cli::Ask, args: &cli::Serve, registry: Registry) -> Result<(), Failure> {
    let config = match &args.config {
        Some(path) => config::load(path)?,
        None => Config::default(),
    };
    let logs = logging::start(config.log, args.verbose);
    let state = config::paths::state_dir(&config).map_err(|error| format!("no state directory: {error}"))?;
    let socket = ask
        .socket()
        .cloned()
        .unwrap_or_else(|| config::paths::socket(&config, &state));
    memory(&config);
    descriptors();
    let reactors =
        Reactors::start(reactors(&config, args)).map_err(|error| format!("cannot start the reactors: {error}"))?;
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = control.block_on(serve(reactors.clone(), registry, &config, &state, &socket, logs, args));
    reactors.stop();
    served
}

fn memory(config: &Config) {
    let usual = reactor::arena::Config::default();
    reactor::arena::configure(reactor::arena::Config {
        max_bytes: config.reactors.memory.map_or(usual.max_bytes, |size| size.0 as usize),
        huge_pages: match config.reactors.huge_pages {
            schema::HugePages::Auto => reactor::arena::HugePages::Auto,
            schema::HugePages::Never => reactor::arena::HugePages::Never,
        },
    });
}

/// As many connections and files as the system lets us have.
fn descriptors() {
    match reactor::descriptors::raise() {
        Ok(limit) if limit.now > limit.before => tracing::info!(
            "up to {} open files and connections (the soft limit was {})",
            limit.now,
            limit.before
        ),
        Ok(limit) => tracing::info!("up to {} open files and connections", limit.now),
        Err(error) => tracing::warn!("the limit on open files and connections stays as it is: {error}"),
    }
}

/// What the configuration says, and what the command line says instead.
fn reactors(config: &Config, args: &cli::Serve) -> reactor::Config {
    let usual = reactor::Config::default();
    let cores = config.reactors.cores.as_deref().cloned().unwrap_or_default();
    let poll = match (args.poll, config.reactors.poll) {
        (Some(cli::PollArg::Busy), _) | (None, schema::Poll::Busy) => Poll::Busy,
        (Some(cli::PollArg::Adaptive), _) | (None, schema::Poll::Adaptive) => Poll::Adaptive,
        (Some(cli::PollArg::Interrupt), _) | (None, schema::Poll::Interrupt) => Poll::Interrupt,
    };
    let io = match (args.io, config.reactors.io) {
        (Some(cli::IoArg::Auto), _) | (None, schema::Io::Auto) => IoBackend::Auto,
        (Some(cli::IoArg::Uring), _) | (None, schema::Io::Uring) => IoBackend::IoUring,
        (Some(cli::IoArg::Epoll), _) | (None, schema::Io::Epoll) => IoBackend::Epoll,
    };
    reactor::Config {
        cores: if args.reactors.is_some() { Vec::new() } else { cores },
        count: args
            .reactors
            .map_or(config.reactors.count.map_or(usual.count, |count| *count), usize::from),
        poll,
        io,
        ..usual
    }
}

async fn serve(
    reactors: Reactors,
    registry: Registry,
    config: &Config,
    state: &Path,
    socket: &Path,
    logs: rpc::log::Logs,
    args: &cli::Serve,
) -> Result<(), Failure> {
    let graph = Graph::new(reactors.clone());
    let engine = engine(&graph, registry, config, state, args)?;
    let iscsi = Iscsi::new(reactors.clone(), graph.clone());
    iscsi
        .keep_state(state)
        .map_err(|error| format!("cannot keep reservations and sanitizes in {}: {error}", state.display()))?;
    let nvmf = Nvmf::new(reactors.clone(), graph);
    nvmf.keep_reservations(state)
        .map_err(|error| format!("cannot keep reservations in {}: {error}", state.display()))?;
    let context = Context::new(reactors, engine.clone(), nvmf.clone(), iscsi.clone(), logs);
    let mut context = context.configured(config.clone()).kept_in(state);
    if let Some(file) = &args.config {
        context = context.configured_from(file.clone());
    }
    context.open_audit(&config.audit).map_err(|error| error.to_string())?;
    let context = Arc::new(context);

    // Listened for before anything is up, so that a stop during a slow start is a stop too.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let table = methods::table(&context, methods::TableOptions::default());
    let server = Server::bind(socket, table, context.clone()).map_err(|error| {
        format!(
            "cannot listen on {}: {error}. Give another RPC socket with --socket PATH",
            socket.display()
        )
    })?;
    let asked = tokio::spawn(server.run());
    tokio::spawn(context.follow());
    tokio::spawn(context.look_after_arrays());
    let mut hangup = signal(SignalKind::hangup())?;
    let reloads = context.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reloads.reload_and_tell().await;
        }
    });

    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => "interrupted",
            _ = terminate.recv() => "terminated",
            _ = context.killed() => "told to stop by RPC",
        }
    };
    tokio::pin!(stop);
    let up = async {
        if args.wait_for_rpc {
            tracing::info!("waiting for framework_start_init on {}", socket.display());
            context.wait_started().await;
        } else {
            context.start();
        }
        let applied = config::apply(config, state, &engine, &iscsi, &nvmf).await?;
        context.settle_by(applied.settling());
        tokio::spawn(applied.keep());
        announce(socket.to_owned()).await
    };
    let why = tokio::select! {
        up = up => match up {
            Ok(()) => stop.await,
            Err(error) => return Err(error),
        },
        why = &mut stop => why,
    };
    tracing::info!("{why}: letting commands finish; Ctrl-C ends at once");
    let mut again = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = down(&iscsi, &nvmf, &engine) => (),
        _ = again.recv() => tracing::warn!("interrupted again: commands were left unfinished"),
    }
    asked.abort();
    let _ = asked.await;
    Ok(())
}

/// The engine: in a process of its own unless the configuration says otherwise.
fn engine(
    graph: &Graph,
    registry: Registry,
    config: &Config,
    state: &Path,
    args: &cli::Serve,
) -> Result<Handle, Failure> {
    // Made here, so that what is wrong with it is said before anything is served.
    lvol::plan::journal::Journal::open(state)
        .map_err(|error| format!("cannot keep plans in {}: {error}", state.display()))?;
    if config.engine == schema::EngineIn::Inside {
        let engine = Engine::with(graph.clone(), registry);
        engine
            .keep_in(state)
            .map_err(|error| format!("cannot keep plans in {}: {error}", state.display()))?;
        let engine = engine.with_lvm2((&config.lvm2).into());
        let engine = engine.with_scope((&config.discovery).into());
        let engine = engine.with_patience(config::arrays::patience(&config.arrays));
        tokio::spawn(engine.watch());
        return Ok(Handle::here(graph.clone(), engine));
    }
    let settings = Settings {
        log: logging::directive(config.log, args.verbose).into(),
        ..config.into()
    };
    // It has the same plug-ins, being the same program. The very file that runs, even if another has taken its place since.
    let program = Program {
        path: "/proc/self/exe".into(),
        args: vec!["engine".into(), "--state".into(), state.into()],
    };
    Ok(Handle::there(Keeper::start(graph.clone(), program, settings)))
}

/// `ashlar engine`: the engine's process.
pub fn engine_process(args: &cli::EngineArgs, registry: Registry) -> Result<(), Failure> {
    let settings: Settings =
        serde_json::from_str(&args.settings).map_err(|error| format!("--settings: {error}; `ashlar serve` says it"))?;
    let log = logging::start_with(&settings.log);
    // What `ps` and `top` show: it was started by /proc/self/exe. Without a name it is as well.
    let _ = std::fs::write("/proc/self/comm", "ashlar-engine");
    let changed = Box::new(move |directive: &str| logging::change(&log, directive));
    lvol::process::run(&args.state, settings, registry, changed)
        .map_err(|error| format!("the engine cannot run: {error}; `ashlar serve` starts it").into())
}

/// Prints what is served and how to reach it.
async fn announce(socket: PathBuf) -> Result<(), Failure> {
    // The client blocks, and its answer comes from this very thread's runtime.
    let text = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&socket, Duration::from_secs(10))?;
        let volumes = volume::announcement(&mut client)?;
        let nothing = "No volumes are served yet: name some in a configuration file, or provision by RPC.\n";
        let volumes = if volumes.is_empty() { nothing.into() } else { volumes };
        Ok::<_, rpc::client::ClientError>(format!("{volumes}RPC socket: {}\n", socket.display()))
    });
    ask::print_text(&text.await??);
    Ok(())
}

/// Front ends first, so that nothing new comes; then what was written and not flushed; then the devices.
async fn down(iscsi: &Iscsi, nvmf: &Nvmf, engine: &Handle) {
    let iscsi = iscsi.clone();
    let drained = tokio::task::spawn_blocking(move || iscsi.shutdown(PATIENCE));
    let stopped = tokio::time::timeout(PATIENCE, nvmf.stop()).await.is_ok();
    if !stopped || !drained.await.unwrap_or(false) {
        tracing::warn!("hosts' commands did not finish within {PATIENCE:?}");
    }
    engine.graph().settle_arrays().await;
    for leaf in engine.graph().list().into_iter().filter(|node| node.below.is_empty()) {
        if let Err(error) = engine.graph().flush(&leaf.name).await {
            tracing::error!("{}: what was not flushed may be lost: {error}", leaf.name);
        }
    }
}
