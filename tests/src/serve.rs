//! The binary under test: started on free ports, watched, stopped or killed.
use crate::tool::{Tool, tree};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The release binary: `ASHLAR_BIN`, or what cargo builds here and now.
pub fn binary() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("ASHLAR_BIN") {
                return PathBuf::from(path);
            }
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .args(["build", "-q", "--release", "-p", "ashlar"])
                .current_dir(tree())
                .status();
            assert!(
                status.is_ok_and(|s| s.success()),
                "cargo build --release -p ashlar failed"
            );
            tree().join(".build/release/ashlar")
        })
        .clone()
}

/// `ashlar` of the server in `dir`.
pub fn ashlar(dir: &Path, args: &[&str]) -> Tool {
    let tool = Tool::new(&binary().to_string_lossy());
    tool.arg("--socket").arg(dir.join("rpc.sock")).args(args)
}

/// Free ports of this machine's loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For iSCSI.
    pub iscsi: u16,
    /// For NVMe/TCP.
    pub nvme: u16,
}

impl Ports {
    /// Two that nobody listens on now.
    pub fn free() -> Ports {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let port = |l: &TcpListener| l.local_addr().expect("a bound socket").port();
        Ports {
            iscsi: port(&listeners[0]),
            nvme: port(&listeners[1]),
        }
    }
}

/// How to start the binary.
#[derive(Debug)]
pub struct Start {
    command: Command,
    log: PathBuf,
    serving: bool,
    answering: Option<PathBuf>,
    began: Instant,
}

impl Start {
    /// `ashlar serve CONFIG`, with its log, its RPC socket and its working directory in `dir`.
    pub fn serve(dir: &Path, config: &Path) -> Start {
        Start::through(dir, &[], config)
    }

    /// `ashlar serve` without a configuration: empty, to be set up by RPC.
    pub fn unconfigured(dir: &Path) -> Start {
        Start::command(dir, &[])
    }

    /// `serve CONFIG` through a launcher such as `setpriv --reuid nobody`.
    pub fn through(dir: &Path, launcher: &[&str], config: &Path) -> Start {
        Start::command(dir, launcher).arg(&config.to_string_lossy())
    }

    /// `serve` of another program that is `ashlar` and more.
    pub fn of(program: &Path, dir: &Path) -> Start {
        Start::by(dir, Command::new(program))
    }

    fn command(dir: &Path, launcher: &[&str]) -> Start {
        let command = match launcher {
            [] => Command::new(binary()),
            [program, arguments @ ..] => {
                // Whoever it becomes may not reach the tree, which can lie in a home that is closed to others.
                let copy = dir.join("ashlar.copy");
                if !copy.exists() {
                    std::fs::copy(binary(), &copy).expect("copy the binary");
                }
                let mut command = Command::new(program);
                command.args(arguments).arg(copy);
                command
            }
        };
        Start::by(dir, command)
    }

    fn by(dir: &Path, mut command: Command) -> Start {
        command
            .arg("--socket")
            .arg(dir.join("rpc.sock"))
            .arg("serve")
            .current_dir(dir);
        Start {
            command,
            log: dir.join("log"),
            serving: false,
            answering: None,
            began: Instant::now(),
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: &str) -> Start {
        self.command.arg(arg);
        self
    }

    /// A variable.
    pub fn env(mut self, name: &str, value: &str) -> Start {
        self.command.env(name, value);
        self
    }

    /// It must have said what it serves before the start counts as done.
    pub fn serving(mut self) -> Start {
        self.serving = true;
        self
    }

    /// Its RPC socket must answer before the start counts as done.
    pub fn answering(mut self) -> Start {
        self.answering = Some(self.log.with_file_name("rpc.sock"));
        self
    }

    /// Starts it and waits until it listens. The log is appended to, so that a second start is in the same file.
    #[track_caller]
    pub fn spawn(mut self) -> Server {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("open the log");
        let skip = log.metadata().map_or(0, |m| m.len() as usize);
        let err = log.try_clone().expect("clone the log");
        self.began = Instant::now();
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .spawn()
            .expect("start ashlar");
        let mut server = Server {
            child,
            log: self.log,
            skip,
            began: self.began,
            over: false,
        };
        if let Some(socket) = self.answering {
            server.wait_until(&socket.display().to_string(), || UnixStream::connect(&socket).is_ok());
        }
        if self.serving {
            let (log, skip) = (server.log.clone(), server.skip);
            // The last line of what it prints once everything is set up.
            server.wait_until("its announcement", || {
                let all = std::fs::read(&log).unwrap_or_default();
                String::from_utf8_lossy(all.get(skip..).unwrap_or_default()).contains("RPC socket:")
            });
        }
        server
    }
}

/// A running `ashlar serve`; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
    // What earlier starts wrote into the same file.
    skip: usize,
    /// When it was started.
    pub began: Instant,
    over: bool,
}

impl Server {
    /// Starts `ashlar serve` on a configuration text and waits until it says that it serves.
    #[track_caller]
    pub fn start(dir: &Path, config: &str) -> Server {
        let file = dir.join("ashlar.yaml");
        std::fs::write(&file, config).expect("write the configuration");
        Start::serve(dir, &file).serving().spawn()
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, mut listens: impl FnMut() -> bool) {
        while !listens() {
            if let Some(status) = self.child.try_wait().expect("ask for the child") {
                self.over = true;
                panic!(
                    "ashlar ended with {status} before it listened on {what}; its log:\n{}",
                    self.log()
                );
            }
            assert!(
                self.began.elapsed() < Duration::from_secs(60),
                "nobody listens on {what}; log:\n{}",
                self.log()
            );
            // Who looks all the time at a log that grows keeps a core from whom it waits for.
            let soon = self.began.elapsed() < Duration::from_secs(1);
            std::thread::sleep(Duration::from_millis(if soon { 1 } else { 50 }));
        }
    }

    /// What it printed so far, since this start.
    pub fn log(&self) -> String {
        let all = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.skip..).unwrap_or_default()).into_owned()
    }

    /// Waits until its log holds `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "{text:?} is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// User and system time it has used.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("read /proc/PID/stat");
        // Field 2 may hold spaces; utime and stime are fields 14 and 15, in ticks of 1/100 s.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in KiB, now.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("read /proc/PID/status");
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS:"))
            .expect("VmRSS of a live process");
        line.split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number of kB")
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.child.try_wait().expect("ask for the child").is_none()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(status.is_ok_and(|s| s.success()), "kill -s {name}");
    }

    /// Ctrl-C: must end by itself, with success, within ten seconds.
    #[track_caller]
    pub fn stop(mut self) -> Duration {
        let asked = Instant::now();
        self.signal("INT");
        while asked.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait().expect("ask for the child") {
                self.over = true;
                assert!(
                    status.success(),
                    "ashlar ended with {status} after SIGINT; its log:\n{}",
                    self.log()
                );
                self.assert_no_panic();
                return asked.elapsed();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("ashlar did not end within 10 s of SIGINT; its log:\n{}", self.log());
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(mut self) -> ExitStatus {
        self.over = true;
        self.child.kill().expect("kill");
        self.child.wait().expect("wait")
    }

    /// Nobody may panic, whatever came in.
    #[track_caller]
    pub fn assert_no_panic(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "there is a panic in the log:\n{log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.over {
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                let log = self.log();
                let tail: Vec<_> = log.lines().rev().take(40).collect();
                eprintln!("last lines of ashlar's log:");
                tail.iter().rev().for_each(|line| eprintln!("  {line}"));
            }
        }
    }
}

/// Waits until something is so, for a minute.
pub fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
