//! A client for the socket: one call at a time, blocking, typed by the caller.
//!
//! It talks to this server and to SPDK's alike.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::envelope::request;
use crate::error::RpcError;
use crate::wire::{Framer, WireError};

/// The longest answer taken: the server's own limit.
const ANSWER_LIMIT: usize = 32 << 20;

/// Why a call did not give a result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the path.
    #[error("cannot connect to {path}: {error}. Is `ashlar serve` running, and with this RPC socket?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The connection broke or the answer took too long.
    #[error("no answer to {method}: {error}")]
    Lost {
        /// The method called.
        method: String,
        /// What the system said.
        error: io::Error,
    },
    /// The method was refused or failed.
    #[error("{method}: {error}")]
    Refused {
        /// The method called.
        method: String,
        /// The server's error. Boxed, so that a result is not as large as the rarest of errors.
        error: Box<RpcError>,
    },
    /// The answer is not what was expected.
    #[error("the answer to {method} cannot be read: {cause}")]
    Answer {
        /// The method called.
        method: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    framer: Framer,
    next_id: u64,
}

impl Client {
    /// Connects to the socket at `path`; calls give up after `timeout`.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Client, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| ClientError::Connect {
            path: path.to_owned(),
            error,
        })?;
        Ok(Client {
            stream,
            framer: Framer::unbounded(ANSWER_LIMIT),
            next_id: 1,
        })
    }

    /// Calls `method` with these parameters (anything that serialises to an object; `()` for none).
    pub fn call<R: DeserializeOwned>(&mut self, method: &str, params: impl Serialize) -> Result<R, ClientError> {
        let unread = |cause: String| ClientError::Answer {
            method: method.to_owned(),
            cause,
        };
        let params = serde_json::to_value(params).map_err(|e| unread(e.to_string()))?;
        let id = self.next_id;
        self.next_id += 1;
        let lost = |error| ClientError::Lost {
            method: method.to_owned(),
            error,
        };
        self.stream.write_all(&request(id, method, params)).map_err(lost)?;
        loop {
            let mut answer = self.answer().map_err(lost)?;
            if answer.get("id").is_some_and(|got| !got.is_null() && *got != json!(id)) {
                continue; // a late answer to a call that was given up
            }
            if let Some(error) = answer.get("error") {
                let error: Box<RpcError> = serde_json::from_value(error.clone()).map_err(|e| unread(e.to_string()))?;
                return Err(ClientError::Refused {
                    method: method.to_owned(),
                    error,
                });
            }
            let result = answer
                .get_mut("result")
                .map(Value::take)
                .ok_or_else(|| unread("neither result nor error".into()))?;
            return serde_json::from_value(result).map_err(|e| unread(e.to_string()));
        }
    }

    fn answer(&mut self) -> io::Result<Value> {
        let broken = |e: WireError| io::Error::new(io::ErrorKind::InvalidData, e);
        let mut bytes = [0; 16 * 1024];
        loop {
            if let Some(value) = self.framer.next_value().map_err(broken)? {
                return Ok(value);
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    ));
                }
                Ok(n) => self.framer.push(&bytes[..n]),
                // With a time-out the system does not go on by itself after a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
    }
}
