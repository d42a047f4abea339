//! The Linux host that `tests/guest/make` builds: open-iscsi and nvme-tcp of a real kernel.
use crate::Result;
use crate::tool::{needs, skip, tree};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Answers what a guest's script asks of its host (`ask WORD...` in lib.sh): one line in, one line out.
///
/// So that a flow of "do this there, see that here" is one script and not two in step.
#[derive(Debug)]
pub struct Helper {
    port: u16,
}

impl Helper {
    /// Answers until this process ends. The thread's panic, if `answer` does, shows as an answer that never comes.
    pub fn new(mut answer: impl FnMut(&str) -> Result<String> + Send + 'static) -> Helper {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(std::io::Result::ok) {
                let mut line = String::new();
                if BufReader::new(&stream).read_line(&mut line).is_err() {
                    continue;
                }
                let reply = answer(line.trim()).unwrap_or_else(|error| format!("FAIL {error}"));
                println!("   host| {} -> {reply}", line.trim());
                // A guest that has gone misses nothing.
                let _ = writeln!(stream, "{}", reply.replace('\n', " "));
            }
        });
        Helper { port }
    }

    /// The variable by which a script finds it.
    pub fn variable(&self) -> (&'static str, String) {
        ("HELPER_PORT", self.port.to_string())
    }
}

/// A guest that runs a script of `tests/guest/scripts`.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    lines: Receiver<String>,
    said: String,
    until: Instant,
}

impl Guest {
    /// Whether a guest can be booted here; if not, the story is skipped by name.
    pub fn possible(story: &str) -> bool {
        if !needs(story, &["qemu-system-x86_64"]) {
            return false;
        }
        let built = Self::has("recipe");
        if !built {
            skip(story, "no guest (tests/guest/make)");
        }
        built
    }

    /// Whether it was made with this part.
    pub fn has(part: &str) -> bool {
        let dir = std::env::var_os("ASHLAR_GUEST_DIR");
        let dir = dir.map_or_else(|| PathBuf::from("/var/tmp/ashlar-guest"), PathBuf::from);
        dir.join(part).exists()
    }

    /// Boots it with `script`, variables and files (found in /ashlar/files); all must be over within `limit`.
    pub fn boot(script: &str, limit: Duration, variables: &[(&str, String)], files: &[&Path]) -> Guest {
        let mut command = Command::new(tree().join("tests/guest/run"));
        command.arg("--timeout").arg(limit.as_secs().to_string());
        for file in files {
            command.arg("--file").arg(file);
        }
        command
            .arg(script)
            .args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start tests/guest/run");
        let out = child.stdout.take().expect("piped above");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(std::io::Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                println!("  guest| {line}");
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        // run's own limit counts from its start; a little room so that it is the one that speaks.
        Guest {
            child,
            lines,
            said: String::new(),
            until: Instant::now() + limit + Duration::from_secs(15),
        }
    }

    /// Waits until the script prints a line that starts with `mark`, and gives it.
    #[track_caller]
    pub fn wait_for(&mut self, mark: &str) -> String {
        loop {
            match self
                .lines
                .recv_timeout(self.until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                    if line.starts_with(mark) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("the guest never said {mark:?}; it said\n{}", self.said),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the guest ended without {mark:?}; it said\n{}", self.said)
                }
            }
        }
    }

    /// Waits for the end of the script and gives all it said. Panics when it failed.
    #[track_caller]
    pub fn finish(mut self) -> String {
        while let Ok(line) = self
            .lines
            .recv_timeout(self.until.saturating_duration_since(Instant::now()))
        {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        let status = self.child.wait().expect("wait for tests/guest/run");
        assert!(
            status.success(),
            "the guest's script ended with {status}; it said\n{}",
            self.said
        );
        std::mem::take(&mut self.said)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: run ends its QEMU and removes its files.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .stderr(Stdio::null())
            .status();
        let _ = self.child.wait();
    }
}
