//! Takes over what has changed in the configuration file, as far as that can be done while hosts are served: which disks are looked into, what is wanted of
//! volume groups and of arrays, how much is logged, where changes are written down. The rest, disks, tables and what hosts get, is what RPC is for, and counts at the next start.
use crate::{audit::Place, context::Context};
use config::{Config, ConfigError};
use lvol::{ChangeError, Settings};
use serde::Serialize;
use std::path::PathBuf;

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no file.
    #[error("the target was started without a configuration file, so there is none to read again")]
    NoFile,
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The audit log cannot be written.
    #[error("{place}: the audit log cannot be opened: {why}; it goes on where it was")]
    Audit {
        /// Its file.
        place: String,
        /// Why.
        why: std::io::Error,
    },
    /// The engine did not take it.
    #[error(transparent)]
    Engine(#[from] ChangeError),
    /// It could not be read.
    #[error("the configuration cannot be read: {0}")]
    Read(String),
}

/// What became of a file that was read again: names of its sections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Those that are different, and count from now on.
    pub taken_over: Vec<&'static str>,
    /// Those that are different, and count from the next start on.
    pub at_next_start: Vec<&'static str>,
}

/// Every section, and whether it is taken over.
type Sections = Vec<(&'static str, bool, bool)>;

fn sections(old: &Config, new: &Config) -> Sections {
    vec![
        ("discovery", old.discovery != new.discovery, true),
        ("lvm2", old.lvm2 != new.lvm2, true),
        ("arrays", old.arrays != new.arrays, true),
        ("log", old.log != new.log, true),
        ("audit", old.audit != new.audit, true),
        ("state", old.state != new.state, false),
        ("reactors", old.reactors != new.reactors, false),
        ("engine", old.engine != new.engine, false),
        ("rpc", old.rpc != new.rpc, false),
        ("disks", old.disks != new.disks, false),
        ("tables", old.tables != new.tables, false),
        ("volumes", old.volumes != new.volumes, false),
        ("targets", old.targets != new.targets, false),
    ]
}

impl Context {
    /// The same, with the file that it was configured from.
    pub fn configured_from(mut self, file: PathBuf) -> Self {
        self.file = Some(std::path::absolute(&file).unwrap_or(file));
        self
    }

    /// Writes changes down where the configuration says, from now on.
    pub fn open_audit(&self, wanted: &config::schema::Audit) -> Result<(), ReloadError> {
        let place = wanted.file.as_ref().map(|file| Place {
            file: self.state().map_or_else(|| file.clone(), |state| state.join(file)),
            limit: wanted
                .limit
                .as_deref()
                .map_or(config::schema::Audit::LIMIT, |size| size.0),
        });
        let named = place.as_ref().map(|place| place.file.display().to_string());
        self.audit.open(place).map_err(|why| ReloadError::Audit {
            place: named.unwrap_or_default(),
            why,
        })
    }

    /// Reads the configuration file again and takes over what can be.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let file = self.file.clone().ok_or(ReloadError::NoFile)?;
        // It may take its time.
        let read = tokio::task::spawn_blocking(move || config::load(&file)).await;
        let new = read.map_err(|why| ReloadError::Read(why.to_string()))??;
        let sections = sections(&self.base(), &new);
        let changed = |now: bool| {
            let these = sections.iter().filter(|(_, differs, over)| *differs && *over == now);
            these.map(|(name, ..)| *name).collect()
        };
        let reloaded = Reloaded {
            taken_over: changed(true),
            at_next_start: changed(false),
        };
        // Also if it is the same: whoever moves it away wants a new one.
        self.open_audit(&new.audit)?;
        let settings: Settings = (&new).into();
        {
            let mut base = self.base();
            (base.discovery, base.lvm2, base.audit) = (new.discovery, new.lvm2, new.audit);
            base.arrays = new.arrays;
            if std::mem::replace(&mut base.log, new.log) != new.log {
                self.logs.set_print_level(new.log.into());
            }
        }
        self.engine.set_log(&self.logs.directive()).await?;
        self.engine.adopt(settings).await?;
        self.settle().await;
        self.caretaker.wake();
        Ok(reloaded)
    }

    /// The same for whoever only reads the log.
    pub async fn reload_and_tell(&self) {
        match self.reload().await {
            Ok(reloaded) => {
                let list = |names: &[&str]| match names {
                    [] => "nothing".to_owned(),
                    names => names.join(", "),
                };
                let (now, later) = (list(&reloaded.taken_over), list(&reloaded.at_next_start));
                tracing::info!("configuration read again: taken over: {now}; at the next start: {later}");
            }
            Err(why) => tracing::error!("configuration read again, and nothing taken over: {why}"),
        }
    }
}
