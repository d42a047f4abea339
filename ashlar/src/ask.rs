//! Asking a running target: where its socket is, and how answers are printed.
use crate::cli;
use rpc::client::{Client, ClientError};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

/// Longer than any method takes that is not itself a wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The socket to ask: given, or the default of `ashlar serve`.
pub fn socket(ask: &cli::Ask) -> PathBuf {
    ask.socket().cloned().unwrap_or_else(config::paths::default_socket)
}

/// Connects to the running target.
pub fn connect(ask: &cli::Ask) -> Result<Client, ClientError> {
    Client::connect(&socket(ask), PATIENCE)
}

/// Prints one JSON value and a newline. A reader that has gone (`| head`) ends the program quietly.
pub fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    print_text(&format!("{text}\n"));
}

/// Prints text as it is.
pub fn print_text(text: &str) {
    if io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
        .is_err()
    {
        std::process::exit(0)
    }
}
