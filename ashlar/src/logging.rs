//! The log: one subscriber on standard error whose filter can be changed while the target runs (by RPC).
use rpc::log::{Level, Logs};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, Registry, fmt, prelude::*, reload};

/// Starts logging. `ASHLAR_LOG` takes a full filter (`info,target::iscsi=debug`) and is then the last word at start.
pub fn start(configured: config::schema::Log, verbose: u8) -> Logs {
    let directive = directive(configured, verbose);
    let level = match directive {
        "trace" | "debug" => Level::Debug,
        "info" => Level::Notice,
        "warn" => Level::Warning,
        _ => Level::Error,
    };
    let handle = start_with(directive);
    Logs::new(level, move |directive| change(&handle, directive))
}

/// From now on this is logged.
pub fn change(handle: &reload::Handle<EnvFilter, Registry>, directive: &str) {
    let changed = EnvFilter::try_new(directive).map_err(|error| error.to_string());
    let changed = changed.and_then(|filter| handle.reload(filter).map_err(|error| error.to_string()));
    if let Err(error) = changed {
        tracing::warn!("the log keeps its level: {error}");
    }
}

/// What is logged, in the words of a filter.
pub fn directive(configured: config::schema::Log, verbose: u8) -> &'static str {
    use config::schema::Log;
    match (configured, verbose) {
        (_, 2..) | (Log::Trace, _) => "trace",
        (_, 1) | (Log::Debug, _) => "debug",
        (Log::Info, _) => "info",
        (Log::Warn, _) => "warn",
        (Log::Error, _) => "error",
    }
}

/// Starts logging with a filter, that of `ASHLAR_LOG` if it is set.
pub fn start_with(directive: &str) -> reload::Handle<EnvFilter, Registry> {
    let filter = EnvFilter::try_from_env("ASHLAR_LOG").unwrap_or_else(|_| EnvFilter::new(directive));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // Tests may have a subscriber already; then ours is not needed.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    handle
}
