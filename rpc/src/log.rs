//! SPDK's two log levels and its flags, as one filter for `tracing`.
//!
//! SPDK knows a level for syslog, a *print level* for the console, and flags that switch on one component's debug messages. Ashlar has one
//! log. The print level governs it; the other level is kept and reported. A flag lets one component talk at debug level whatever the
//! level is. What comes out of it is a directive such as `info,target::nvmf=debug`, given to whoever owns the subscriber.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// SPDK's levels, most urgent first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something will be.
    Warning,
    /// What an operator wants to know: our `info`.
    Notice,
    /// The same for us as notice.
    Info,
    /// What a developer wants to know.
    Debug,
}

impl Level {
    /// The level's name in a `tracing` directive.
    pub fn directive(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warn",
            Level::Notice | Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

impl From<config::schema::Log> for Level {
    fn from(said: config::schema::Log) -> Self {
        use config::schema::Log;
        match said {
            Log::Trace | Log::Debug => Level::Debug,
            Log::Info => Level::Notice,
            Log::Warn => Level::Warning,
            Log::Error => Level::Error,
        }
    }
}

/// Flags and the `tracing` targets they open. SPDK's names where it has one for the component, our crates' names beside them.
const FLAGS: [(&str, &str); 16] = [
    ("aio", "bdev::leaf"),
    ("bdev", "bdev"),
    ("bdev_malloc", "bdev::leaf"),
    ("bdev_null", "bdev::leaf"),
    ("bdev_raid", "bdev::module"),
    ("config", "config"),
    ("gpt_parse", "lvol::part"),
    ("iscsi", "target::iscsi"),
    ("lvol", "lvol"),
    ("nvmf", "target::nvmf"),
    ("nvmf_tcp", "target::nvmf"),
    ("reactor", "reactor"),
    ("rpc", "rpc"),
    ("scsi", "target::scsi"),
    ("sock", "reactor::io"),
    ("vbdev_gpt", "lvol::part"),
];

#[derive(Debug)]
struct State {
    level: Level,
    print_level: Level,
    timestamps: bool,
    flags: BTreeSet<&'static str>,
}

impl State {
    fn directive(&self) -> String {
        let mut directive = self.print_level.directive().to_owned();
        for (flag, target) in FLAGS {
            if self.flags.contains(flag) {
                directive.push_str(&format!(",{target}=debug"));
            }
        }
        directive
    }
}

/// The log's settings.
pub struct Logs {
    state: Mutex<State>,
    apply: Box<dyn Fn(&str) + Send + Sync>,
}

impl Logs {
    /// Settings that begin at `level`; `apply` is given the new filter directive whenever they change.
    pub fn new(level: Level, apply: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let state = State {
            level,
            print_level: level,
            timestamps: true,
            flags: BTreeSet::new(),
        };
        Logs {
            state: Mutex::new(state),
            apply: Box::new(apply),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        let directive = state.directive();
        drop(state);
        (self.apply)(&directive);
        result
    }

    /// What is logged, as a filter directive: what the engine is told, which has a log of its own.
    pub fn directive(&self) -> String {
        self.look(State::directive)
    }

    fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The level SPDK sends to syslog.
    pub fn level(&self) -> Level {
        self.look(|s| s.level)
    }

    /// The level of our log.
    pub fn print_level(&self) -> Level {
        self.look(|s| s.print_level)
    }

    /// Keeps the level SPDK sends to syslog.
    pub fn set_level(&self, level: Level) {
        self.change(|s| s.level = level);
    }

    /// Sets the level of our log.
    pub fn set_print_level(&self, level: Level) {
        self.change(|s| s.print_level = level);
    }

    /// Keeps whether lines should carry the time.
    pub fn set_timestamps(&self, enabled: bool) {
        self.change(|s| s.timestamps = enabled);
    }

    /// Sets or clears a flag, or all of them with "all"; `false` for a flag there is not.
    pub fn set_flag(&self, name: &str, on: bool) -> bool {
        let named: Vec<&'static str> = FLAGS
            .iter()
            .map(|f| f.0)
            .filter(|f| *f == name || name == "all")
            .collect();
        self.change(|s| {
            for flag in &named {
                if on {
                    s.flags.insert(flag);
                } else {
                    s.flags.remove(flag);
                }
            }
        });
        !named.is_empty()
    }

    /// Every flag and whether it is set.
    pub fn flags(&self) -> Vec<(&'static str, bool)> {
        self.look(|s| FLAGS.iter().map(|f| (f.0, s.flags.contains(f.0))).collect())
    }
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn levels_and_flags_become_one_directive() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hear = told.clone();
        let logs = Logs::new(Level::Notice, move |d| {
            hear.lock().expect("one thread").push(d.to_owned())
        });
        assert!(logs.set_flag("nvmf", true) && !logs.set_flag("nvmff", true));
        logs.set_print_level(Level::Error);
        logs.set_level(Level::Debug);
        assert!(logs.set_flag("all", false));
        assert_eq!(
            *told.lock().expect("one thread"),
            [
                "info,target::nvmf=debug",
                "info,target::nvmf=debug",
                "error,target::nvmf=debug",
                "error,target::nvmf=debug",
                "error"
            ]
        );
        assert_eq!((logs.level(), logs.print_level()), (Level::Debug, Level::Error));
        assert!(logs.flags().iter().all(|f| !f.1) && logs.flags().len() == 16);
        assert_eq!(serde_json::to_string(&Level::Notice).expect("a word"), "\"NOTICE\"");
    }
}
