//! The socket: who may connect, in which order calls run, what bounds them.
//!
//! ```text
//!   accept (at most 64) ─► task per connection: read ─► frame ─► call ─► answer ─► read …
//!                                                        └ a call that waits ─► task of its own (at most 16), same writer
//! ```
//!
//! A connection's calls run one after another, as they do in SPDK, where nearly every method completes before the next is looked at:
//! clients that pipeline `bdev_malloc_create` and `nvmf_subsystem_add_ns` rely on it. Only calls that wait for something to happen
//! are overtaken. A connection that does not read its answers stops being read itself, so its memory is one request, one
//! answer and sixteen waiting calls.
//!
//! Two processes on one path are kept apart by `flock` on `PATH.lock`. Who holds it owns the socket file and may replace a stale one;
//! the new one is made elsewhere, given mode 0600 and only then moved into place, so there is no moment in which others can connect.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::audit::{Call, Peer};
use crate::envelope::{Incoming, Reply, Request};
use crate::error::RpcError;
use crate::method::{Manner, Process, Table};
use crate::wire::{Framer, REQUEST_LIMIT, WireError};

/// Where SPDK's clients look when nobody tells them otherwise.
pub const DEFAULT_PATH: &str = "/var/tmp/spdk.sock";
/// Connections served at a time; more wait in the kernel's backlog.
pub const CONNECTIONS: usize = 64;
/// Calls of one connection that may wait at a time.
const WAITING: usize = 16;
/// The largest answer.
const REPLY_LIMIT: usize = 32 << 20;
const READ_SIZE: usize = 16 * 1024;

/// A socket that is bound and not yet served.
pub struct Server<C> {
    listener: UnixListener,
    table: Arc<Table<C>>,
    context: Arc<C>,
    files: SocketFiles,
}

/// The files of a bound socket; removed when dropped.
struct SocketFiles {
    socket: PathBuf,
    lock: PathBuf,
    /// Holds the flock as long as it is open.
    _held: File,
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        // The socket first: a successor can take it as soon as the lock is gone.
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.lock);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the flock. The file may be removed by its last holder between our open and our lock: then what we hold is a lock on nothing.
fn hold(path: &Path, lock: &Path) -> io::Result<File> {
    loop {
        let held = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock)?;
        held.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("{} is in use: another process holds {}", path.display(), lock.display()),
            ),
            fs::TryLockError::Error(e) => e,
        })?;
        if fs::metadata(lock).is_ok_and(|there| held.metadata().is_ok_and(|ours| there.ino() == ours.ino())) {
            return Ok(held);
        }
    }
}

/// Takes the path: the lock, then the socket in place of a stale one. Must be called inside a tokio runtime.
fn claim(path: &Path) -> io::Result<(UnixListener, SocketFiles)> {
    let lock = beside(path, ".lock");
    let held = hold(path, &lock)?;
    let nursery = beside(path, ".d");
    let _ = fs::remove_dir_all(&nursery);
    fs::DirBuilder::new().mode(0o700).create(&nursery)?;
    let born = nursery.join("s");
    let made = (|| {
        let listener = UnixListener::bind(&born)?;
        fs::set_permissions(&born, fs::Permissions::from_mode(0o600))?;
        if fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("{} is a directory", path.display()),
            ));
        }
        fs::rename(&born, path)?;
        Ok(listener)
    })();
    let _ = fs::remove_dir_all(&nursery);
    let files = SocketFiles {
        socket: path.to_owned(),
        lock,
        _held: held,
    };
    Ok((made?, files))
}

impl<C: Process> Server<C> {
    /// Binds `path`. Must be called inside a tokio runtime; clients can connect from now on and are served by [`Server::run`].
    pub fn bind(path: &Path, table: Arc<Table<C>>, context: Arc<C>) -> io::Result<Self> {
        let (listener, files) = claim(path)?;
        Ok(Server {
            listener,
            table,
            context,
            files,
        })
    }

    /// Where clients find it.
    pub fn path(&self) -> &Path {
        &self.files.socket
    }

    /// Serves until dropped; then the connections end and the socket file goes.
    pub async fn run(self) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // Full: whoever connects stays in the backlog until a connection ends. The semaphore is never closed.
            let Ok(place) = room.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (table, context) = (self.table.clone(), self.context.clone());
                    connections.spawn(async move {
                        serve(stream, table, context).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: give the others time to end.
                    tracing::warn!(%error, "cannot accept an RPC connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// What the tasks of one connection share.
struct Connection<C> {
    table: Arc<Table<C>>,
    context: Arc<C>,
    peer: Option<Peer>,
    writer: Mutex<OwnedWriteHalf>,
}

async fn serve<C: Process>(stream: UnixStream, table: Arc<Table<C>>, context: Arc<C>) {
    // Who connected, as the kernel has it: what a process says of itself does not count.
    let peer = stream.peer_cred().map(|who| Peer {
        uid: who.uid(),
        gid: who.gid(),
        pid: who.pid(),
    });
    let (reader, writer) = stream.into_split();
    let connection = Arc::new(Connection {
        table,
        context,
        peer: peer.ok(),
        writer: Mutex::new(writer),
    });
    let mut waiting = JoinSet::new();
    let ended = read_all(&connection, reader, &mut waiting).await;
    if let Err(error) = ended {
        tracing::debug!(%error, "RPC connection ended");
        waiting.abort_all();
    }
    // A client that only closed its sending side still gets what it waits for.
    while waiting.join_next().await.is_some() {}
}

async fn read_all<C: Process>(
    connection: &Arc<Connection<C>>,
    mut reader: OwnedReadHalf,
    waiting: &mut JoinSet<()>,
) -> io::Result<()> {
    let mut framer = Framer::new(REQUEST_LIMIT);
    let mut bytes = vec![0; READ_SIZE];
    loop {
        match framer.next_value() {
            Ok(Some(value)) => connection.handle(Incoming::read(value), waiting).await?,
            Ok(None) => match reader.read(&mut bytes).await? {
                0 => return Ok(()),
                n => framer.push(&bytes[..n]),
            },
            Err(WireError::Syntax) => {
                // What was asked before is still answered; then nothing more can be told apart.
                while waiting.join_next().await.is_some() {}
                let reply = Reply {
                    id: serde_json::Value::Null,
                    outcome: Err(RpcError::parse_error()),
                };
                connection.send(&reply.line()).await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, WireError::Syntax));
            }
            Err(WireError::TooLong) => return Err(io::Error::new(io::ErrorKind::InvalidData, WireError::TooLong)),
        }
        while waiting.try_join_next().is_some() {}
    }
}

impl<C: Process> Connection<C> {
    async fn handle(self: &Arc<Self>, incoming: Incoming, waiting: &mut JoinSet<()>) -> io::Result<()> {
        let waits = match &incoming {
            Incoming::One(request) => self.waits(request),
            Incoming::Batch(requests) => requests.iter().any(|r| self.waits(r)),
        };
        if !waits {
            return self.answer(incoming).await;
        }
        if waiting.len() >= WAITING {
            waiting.join_next().await;
        }
        let own = self.clone();
        waiting.spawn(async move {
            // A peer that is gone is noticed by the reading side.
            let _ = own.answer(incoming).await;
        });
        Ok(())
    }

    fn waits(&self, request: &Request) -> bool {
        request
            .call
            .as_ref()
            .is_ok_and(|(name, _)| self.table.manner(name) == Manner::Wait)
    }

    async fn answer(&self, incoming: Incoming) -> io::Result<()> {
        let line = match incoming {
            Incoming::One(request) => {
                let id = request.id.clone();
                let line = self.call(request).await.map(|reply| reply.line()).unwrap_or_default();
                self.bounded(line, id)
            }
            Incoming::Batch(requests) => {
                let mut replies = Vec::with_capacity(requests.len());
                for request in requests {
                    replies.extend(self.call(request).await);
                }
                self.bounded(Reply::batch_line(&replies), None)
            }
        };
        self.send(&line).await
    }

    async fn call(&self, request: Request) -> Option<Reply> {
        let outcome = match request.call {
            Ok((name, params)) => {
                let audit = self.context.audit().filter(|audit| audit.is_open());
                let audit = audit.filter(|_| self.table.audits(&name));
                let noted = audit.map(|audit| (audit, Call::new(&name, &params)));
                let outcome = self.table.call(&self.context, &name, params).await;
                if let Some((audit, call)) = noted {
                    audit.note(&call, self.peer, &outcome);
                }
                match &outcome {
                    Ok(_) => tracing::debug!(method = name, "RPC"),
                    Err(error) => tracing::debug!(method = name, %error, "RPC refused"),
                }
                outcome
            }
            Err(error) => Err(error),
        };
        Reply::to(request.id, outcome)
    }

    fn bounded(&self, line: Vec<u8>, id: Option<serde_json::Value>) -> Vec<u8> {
        if line.len() <= REPLY_LIMIT {
            return line;
        }
        let error = RpcError::internal("Internal error").because("the answer is larger than 32 MiB");
        Reply {
            id: id.unwrap_or_default(),
            outcome: Err(error),
        }
        .line()
    }

    async fn send(&self, line: &[u8]) -> io::Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        self.writer.lock().await.write_all(line).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::error::RpcResult;
    use crate::method::{Complaint, Method, NoParams, Phases};
    use serde_json::{Value, json};
    use tokio::sync::Notify;

    struct Toy {
        gate: Notify,
    }
    impl Process for Toy {
        fn started(&self) -> bool {
            true
        }
    }
    async fn echo(_: Arc<Toy>, params: Value) -> RpcResult<Value> {
        Ok(params)
    }
    async fn wait(toy: Arc<Toy>, _: NoParams) -> RpcResult<&'static str> {
        toy.gate.notified().await;
        Ok("woken")
    }
    async fn wake(toy: Arc<Toy>, _: NoParams) -> RpcResult<bool> {
        toy.gate.notify_one();
        Ok(true)
    }

    fn toy_server(path: &Path) -> io::Result<Server<Toy>> {
        let table = Table::new(vec![
            Method::new("echo", Phases::Both, Manner::Look, Complaint::Invalid, echo),
            Method::new("wait", Phases::Both, Manner::Wait, Complaint::Invalid, wait),
            Method::new("wake", Phases::Both, Manner::Change, Complaint::Invalid, wake),
        ]);
        Server::bind(path, Arc::new(table), Arc::new(Toy { gate: Notify::new() }))
    }

    fn story<F: Future<Output = ()>>(tell: impl FnOnce(PathBuf) -> F) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let path = dir.path().join("rpc.sock");
        runtime.block_on(async {
            let server = tokio::spawn(toy_server(&path).expect("binds").run());
            tokio::time::timeout(std::time::Duration::from_secs(20), tell(path))
                .await
                .expect("no answer in 20 s");
            server.abort();
        });
    }

    async fn ask(stream: &mut UnixStream, text: &str) {
        stream.write_all(text.as_bytes()).await.expect("connected");
    }
    async fn lines(stream: &mut UnixStream, count: usize) -> String {
        let mut got = String::new();
        let mut bytes = [0; 4096];
        while got.matches('\n').count() < count {
            let n = stream.read(&mut bytes).await.expect("connected");
            assert!(n > 0, "closed after {got:?}");
            got.push_str(std::str::from_utf8(&bytes[..n]).expect("UTF-8"));
        }
        got
    }

    #[test]
    fn calls_of_a_connection_are_answered_in_order() {
        story(|path| async move {
            let mut stream = UnixStream::connect(path).await.expect("connects");
            let asked = r#"{"method":"echo","params":{"a":1},"id":1}{"method":"echo","params":[]}
                [{"method":"echo","id":2},{"method":"nope","id":3},{"method":"echo"},7]{"method":"nope"}"#;
            ask(&mut stream, asked).await;
            assert_eq!(
                lines(&mut stream, 3).await,
                concat!(
                    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":1}}\n",
                    "[{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}},",
                    "{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{\"code\":-32601,\"message\":\"Method not found\"}},",
                    "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"Invalid request\"}}]\n",
                    "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}\n",
                )
            );
        });
    }

    #[test]
    fn a_waiting_call_is_overtaken_by_the_next() {
        story(|path| async move {
            let mut stream = UnixStream::connect(path).await.expect("connects");
            ask(
                &mut stream,
                r#"{"method":"wait","id":"w"}{"method":"echo","id":1}{"method":"wake","id":2}"#,
            )
            .await;
            let got = lines(&mut stream, 3).await;
            let order: Vec<Value> = got
                .lines()
                .map(|l| serde_json::from_str::<Value>(l).expect("JSON")["id"].clone())
                .collect();
            assert_eq!(order, [json!(1), json!(2), json!("w")]);
        });
    }

    #[test]
    fn after_a_parse_error_the_connection_is_closed_and_others_go_on() {
        story(|path| async move {
            let mut bad = UnixStream::connect(&path).await.expect("connects");
            let mut good = UnixStream::connect(&path).await.expect("connects");
            ask(&mut bad, "{\"method\":\"echo\",\"id\":1} }").await;
            let mut all = String::new();
            bad.read_to_string(&mut all).await.expect("reads to the end");
            assert_eq!(
                all,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\
                 {\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"Parse error\"}}\n"
            );
            let mut long = UnixStream::connect(&path).await.expect("connects");
            let _ = long.write_all(b"[").await;
            let _ = long
                .write_all(&[b"\"".as_slice(), &vec![b'x'; 2 * REQUEST_LIMIT]].concat())
                .await;
            let mut all = Vec::new();
            let _ = long.read_to_end(&mut all).await;
            assert_eq!(all, b"", "a request over the limit is closed without an answer");
            ask(&mut good, "{\"method\":\"echo\",\"id\":9}").await;
            assert_eq!(
                lines(&mut good, 1).await,
                "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}\n"
            );
        });
    }

    #[test]
    fn one_more_than_64_connections_wait_for_a_place() {
        story(|path| async move {
            let mut streams = Vec::new();
            for _ in 0..CONNECTIONS + 1 {
                streams.push(UnixStream::connect(&path).await.expect("connects"));
            }
            for stream in &mut streams[..CONNECTIONS] {
                ask(stream, "{\"method\":\"echo\",\"id\":1}").await;
                lines(stream, 1).await;
            }
            let mut last = streams.pop().expect("the 65th");
            ask(&mut last, "{\"method\":\"echo\",\"id\":65}").await;
            let early = tokio::time::timeout(std::time::Duration::from_millis(50), lines(&mut last, 1)).await;
            assert!(early.is_err(), "served beyond the limit");
            streams.clear();
            assert_eq!(
                lines(&mut last, 1).await,
                "{\"jsonrpc\":\"2.0\",\"id\":65,\"result\":{}}\n"
            );
        });
    }

    #[test]
    fn the_path_belongs_to_one_process_and_a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("rpc.sock");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            drop(std::os::unix::net::UnixListener::bind(&path).expect("leaves a stale socket"));
            let first = toy_server(&path).expect("replaces it");
            let mode = |p: &Path| fs::metadata(p).expect("exists").permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(&beside(&path, ".lock"))), (0o600, 0o600));
            let second = toy_server(&path).err().expect("taken");
            assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
            drop(first);
            assert!(!path.exists() && !beside(&path, ".lock").exists() && !beside(&path, ".d").exists());
            drop(toy_server(&path).expect("free again"));
        });
    }

    #[test]
    fn the_client_tells_results_refusals_and_absence_apart() {
        story(|path| async move {
            let blocking = tokio::task::spawn_blocking(move || {
                let patience = std::time::Duration::from_secs(10);
                let mut client = Client::connect(&path, patience).expect("connects");
                let echoed: std::collections::BTreeMap<String, u32> =
                    client.call("echo", json!({"seven": 7})).expect("echoes");
                assert_eq!(echoed["seven"], 7);
                let refused = client.call::<Value>("nope", ()).expect_err("no such method");
                assert_eq!(refused.to_string(), "nope: Method not found (code -32601)");
                let empty: Value = client.call("echo", ()).expect("no parameters");
                assert_eq!(empty, json!({}));
                Client::connect(&path.with_extension("gone"), patience)
                    .expect_err("nobody there")
                    .to_string()
            });
            let absent = blocking.await.expect("the client does not panic");
            assert!(absent.contains("Is `ashlar serve` running"), "{absent}");
        });
    }
}
