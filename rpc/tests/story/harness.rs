//! A whole process in a thread: reactors, graph, engine, both targets, and the RPC socket in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use reactor::{Config, Reactors};
use rpc::client::{Client, ClientError};
use rpc::context::Context;
use rpc::log::{Level, Logs};
use rpc::methods::{TableOptions, table};
use rpc::server::Server;
use serde_json::{Value, json};

/// A running process and a client of it.
pub struct Process {
    pub dir: tempfile::TempDir,
    pub client: Client,
    pub context: Arc<Context>,
    reactors: Reactors,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    /// One that is past start-up.
    pub fn started() -> Process {
        let process = Process::waiting(TableOptions::default());
        process.context.start();
        process
    }

    /// One that is past start-up, and writes changes down in the file `audit` of its folder.
    pub fn audited() -> Process {
        let process = Process::started();
        let place = rpc::audit::Place {
            file: process.dir.path().join("audit"),
            limit: 1 << 20,
        };
        process.context.audit.open(Some(place)).expect("an audit log");
        process
    }

    /// One that waits for `framework_start_init`.
    pub fn waiting(options: TableOptions) -> Process {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let reactors = Reactors::start(Config {
            count: 2,
            ..Config::default()
        })
        .expect("reactors start");
        let socket = dir.path().join("rpc.sock");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (send, receive) = mpsc::channel();
        let (own, path) = (reactors.clone(), socket.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let graph = bdev::Graph::new(own.clone());
                let engine = lvol::Engine::new(graph.clone());
                tokio::spawn(engine.watch());
                let engine = lvol::Handle::here(graph.clone(), engine);
                let nvmf = target::nvmf::Nvmf::new(own.clone(), graph.clone());
                let iscsi = target::iscsi::Iscsi::new(own.clone(), graph);
                let logs = Logs::new(Level::Notice, |_| {});
                let context = Arc::new(Context::new(own, engine, nvmf, iscsi, logs));
                let server = Server::bind(&path, table(&context, options), context.clone()).expect("binds");
                tokio::spawn(context.follow());
                let serving = tokio::spawn(server.run());
                send.send(context.clone()).expect("somebody waits");
                let _ = stopped.await;
                serving.abort();
                let _ = serving.await;
                context.nvmf.stop().await;
                context.iscsi.shutdown(Duration::from_secs(2));
            });
        });
        let context = receive.recv().expect("the process starts");
        let client = Client::connect(&socket, Duration::from_secs(30)).expect("connects");
        Process {
            dir,
            client,
            context,
            reactors,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where its socket is.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("rpc.sock")
    }

    /// A call that must succeed.
    #[track_caller]
    pub fn ok(&mut self, method: &str, params: Value) -> Value {
        match self.client.call(method, params) {
            Ok(result) => result,
            Err(error) => panic!("{error}"),
        }
    }

    /// A call that must be refused: code and text.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: Value) -> (i64, String) {
        match self.client.call::<Value>(method, params) {
            Err(ClientError::Refused { error, .. }) => (error.code, error.message),
            other => panic!("{method} should have been refused: {other:?}"),
        }
    }

    /// Names of all disks, in the order they came.
    pub fn disks(&mut self) -> Vec<String> {
        let all = self.ok("bdev_get_bdevs", json!({}));
        all.as_array()
            .expect("a list")
            .iter()
            .map(|d| d["name"].as_str().expect("a name").to_owned())
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.reactors.stop();
    }
}

/// The Python that has SPDK's client from PyPI, or a message that there is none.
pub fn python(story: &str) -> Option<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = std::env::var_os("ASHLAR_SPDK_PYTHON")
        .map_or_else(|| tree.join(".build/spdk-client/bin/python"), PathBuf::from);
    if !python.exists() {
        reactor::testing::skip(story, "SPDK's client is not installed (ci/install-spdk-client)");
        return None;
    }
    Some(python)
}

/// Runs a program that must succeed; what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let done = command.output().expect("it can be started");
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(
        done.status.success(),
        "{command:?} failed: {}\n{out}\n{err}",
        done.status
    );
    out.into_owned()
}
