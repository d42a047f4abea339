//! The engine in a process of its own: what runs in it. Its end of the two sockets are its standard input and output, which is the way to hand
//! open files to a child that needs no `unsafe`. It ends when the process that serves hosts does.
use crate::{
    ChangeError, ChangeKind, Engine, EngineError, Registry, Settings,
    border::{
        Runtime,
        line::Line,
        wire::{Call, Up},
    },
};
use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::Arc,
};

/// What changes what is logged, to what such a filter says.
pub type Log = Box<dyn Fn(&str) + Send + Sync>;

/// Runs the engine until the line ends. `state` is the state directory, where plans are kept, `settings` what is wanted; `registry` must be that of the
/// process that serves hosts. `log` is called whenever something else is to be logged.
pub fn run(state: &Path, settings: Settings, registry: Registry, log: Log) -> io::Result<()> {
    let socket = |fd: io::Result<OwnedFd>| fd.map(UnixStream::from);
    let main = socket(io::stdin().as_fd().try_clone_to_owned())?;
    let asking = socket(io::stdout().as_fd().try_clone_to_owned())?;
    // What it knows may be half of what it should be: the next one knows better.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::exit(101);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(main, asking, state, settings, registry, log))
}

async fn serve(
    main: UnixStream,
    asking: UnixStream,
    state: &Path,
    settings: Settings,
    registry: Registry,
    log: Log,
) -> io::Result<()> {
    let (line, mut calls) = Line::start(main, asking)?;
    let engine = Engine::over(Runtime::from(line.clone()), registry);
    let engine = engine.with_lvm2(settings.lvm2).with_scope(settings.discovery);
    let engine = engine.with_patience(settings.patience);
    engine.keep_in(state)?;
    // Everything that the engine before this one knew is known again, and what it was writing is finished, before anybody may ask.
    engine.rescan().await;
    tokio::spawn(engine.watch());
    let mut changes = engine.subscribe();
    let told = line.clone();
    tokio::spawn(async move {
        loop {
            match changes.recv().await {
                // What happens to nodes is told by the graph itself, for as long as there is one.
                Ok(change) if change.kind == ChangeKind::Examined => told.say(&Up::Change(change), Vec::new()),
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    line.say(&Up::Ready, Vec::new());
    let mut logged = settings.log;
    while let Some((number, call)) = calls.recv().await {
        // In the order in which it was wanted.
        if let Call::Adopt { settings } = &call
            && settings.log != logged
        {
            log(&settings.log);
            logged.clone_from(&settings.log);
        }
        let (line, engine) = (line.clone(), engine.clone());
        tokio::spawn(async move { reply(&line, number, answer(&engine, call).await) });
    }
    Ok(())
}

fn reply(line: &Arc<Line>, number: u64, answer: Result<Vec<u8>, ChangeError>) {
    match answer {
        Ok(json) => line.say(&Up::Answer { number, problem: None }, json),
        Err(problem) => {
            let problem = Some(problem);
            line.say(&Up::Answer { number, problem }, Vec::new());
        }
    }
}

async fn answer(engine: &Engine, call: Call) -> Result<Vec<u8>, ChangeError> {
    let json = match call {
        Call::Ping => serde_json::to_vec(&()),
        Call::Adopt { settings } => {
            engine.adopt(*settings).await;
            serde_json::to_vec(&())
        }
        Call::Create { wish } => serde_json::to_vec(&engine.create(wish).await?),
        Call::CreateOrWait { wish } => serde_json::to_vec(&engine.create_or_wait(wish).await?),
        Call::Delete { name, force } => {
            engine.delete(&name, force).await?;
            serde_json::to_vec(&())
        }
        Call::Resize { name, blocks } => {
            engine.resize(&name, blocks).await?;
            serde_json::to_vec(&())
        }
        Call::TakeWhole { name } => serde_json::to_vec(&engine.take_whole(&name).await?),
        Call::Examine { name } => serde_json::to_vec(&engine.examine(&name).await?),
        Call::WaitForExamine => {
            engine.wait_for_examine().await;
            serde_json::to_vec(&())
        }
        Call::Rescan => {
            engine.rescan().await;
            serde_json::to_vec(&())
        }
        Call::Disks => serde_json::to_vec(&engine.disks()),
        Call::Disk { name } => serde_json::to_vec(&engine.disk(&name)),
        Call::Groups => serde_json::to_vec(&engine.groups()),
        Call::Plugins => serde_json::to_vec(&engine.plugins()),
        Call::Verbs => serde_json::to_vec(&engine.verbs()),
        Call::VolumesOf { group } => serde_json::to_vec(&engine.volumes_of(&group)),
        Call::Volumes => serde_json::to_vec(&engine.volumes()),
        Call::Extras => serde_json::to_vec(&engine.extras()),
        Call::Found { only } => serde_json::to_vec(&engine.found(only.as_deref())),
        Call::Wishes => serde_json::to_vec(&engine.wishes()),
        Call::Plan { request, stamp } => serde_json::to_vec(&engine.plan(&request, &stamp).await?),
        Call::Apply { plan } => serde_json::to_vec(&engine.apply(&plan).await?),
        Call::Change { request, stamp } => serde_json::to_vec(&engine.change(&request, &stamp).await?),
        Call::Undo { number, stamp } => serde_json::to_vec(&engine.undo(number, &stamp).await?),
        Call::Activate { object, desired } => serde_json::to_vec(&engine.activate(&object, desired).await?),
        Call::Can { verb, object } => serde_json::to_vec(&engine.can(verb.as_deref(), &object).await?),
        Call::PartitionTable { disk } => serde_json::to_vec(&engine.partition_table(&disk).await?),
        Call::History => serde_json::to_vec(&engine.history()),
        Call::Past { number } => serde_json::to_vec(&engine.past(number)),
        Call::Archive { group } => serde_json::to_vec(&engine.archive(&group)),
        Call::Copies => serde_json::to_vec(&engine.copies().await?),
        Call::Archived { group, change } => serde_json::to_vec(&engine.archived(&group, change)),
    };
    json.map_err(|why| EngineError::Lost(why.to_string()).into())
}
