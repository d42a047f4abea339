//! Running real tools, and saying so when one is not there.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Says that a story was not told, and why; `ci/test` repeats it at its end.
pub fn skip(story: &str, why: &str) {
    eprintln!("SKIPPED: {story}: {why}");
    if let Ok(path) = std::env::var("ASHLAR_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Ok(mut file) = file {
            // A lost note is no reason to fail a test that would only have been skipped.
            let _ = writeln!(file, "{story}: {why}");
        }
    }
}

/// Whether all these commands are there; if not, the story is skipped by name.
pub fn needs(story: &str, commands: &[&str]) -> bool {
    let missing: Vec<_> = commands.iter().copied().filter(|c| find(c).is_none()).collect();
    if !missing.is_empty() {
        skip(
            story,
            &format!("{} not installed (ci/install-packages)", missing.join(", ")),
        );
    }
    missing.is_empty()
}

/// Where a command is, in PATH and the two sbin folders that PATH often lacks.
fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(command))
        .find(|file| file.is_file())
}

/// The top of the tree.
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the tree")
        .to_path_buf()
}

/// A command with a time limit whose output is kept.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    limit: Duration,
    line: String,
}

impl Tool {
    /// A command, found also in the sbin folders.
    pub fn new(command: &str) -> Self {
        let file = find(command).unwrap_or_else(|| PathBuf::from(command));
        Tool {
            command: Command::new(file),
            limit: Duration::from_secs(60),
            line: command.to_string(),
        }
    }

    /// One argument.
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.line.push(' ');
        self.line.push_str(&arg.as_ref().to_string_lossy());
        self.command.arg(arg);
        self
    }

    /// Several arguments.
    pub fn args<A: AsRef<std::ffi::OsStr>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Tool::arg)
    }

    /// A variable for it.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// How long it may take (60 s unless told).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it; its output whatever the status. Panics, as a failed test, when it does not start or does not end.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start `{}`: {e}", self.line));
        // Both pipes must be drained while it runs, or a talkative tool blocks.
        let out = drain(child.stdout.take().expect("piped above"));
        let err = drain(child.stderr.take().expect("piped above"));
        let until = Instant::now() + self.limit;
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for a child") {
                break status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
                panic!(
                    "`{}` took longer than {:?}\n{}{}",
                    self.line,
                    self.limit,
                    String::from_utf8_lossy(&out),
                    String::from_utf8_lossy(&err)
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Output {
            status,
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        }
    }

    /// Runs it and gives what it printed to standard output. Panics with all it said when it fails.
    #[track_caller]
    pub fn ok(self) -> String {
        let line = self.line.clone();
        let output = self.output();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "`{line}` ended with {}\n{out}{err}",
            output.status
        );
        out.into_owned()
    }

    /// Runs it and gives all it said. Panics when it succeeds.
    #[track_caller]
    pub fn fails(self) -> String {
        let line = self.line.clone();
        let output = self.output();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!output.status.success(), "`{line}` should have failed but said\n{said}");
        said
    }
}

fn drain(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        // An end with an error is an end: what was read so far is what there is.
        let _ = from.read_to_end(&mut all);
        all
    })
}
