//! Configuration files as a user would write them, for the stories that only need disks and what is served.
use crate::Ports;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A configuration in the making.
#[derive(Clone, Debug)]
pub struct Config {
    state: PathBuf,
    ports: Ports,
    disks: String,
    volumes: String,
}

impl Config {
    /// Both protocols on loopback, state in `dir`.
    pub fn new(dir: &Path, ports: Ports) -> Config {
        Config {
            state: dir.to_path_buf(),
            ports,
            disks: String::new(),
            volumes: String::new(),
        }
    }

    /// A disk that is a file.
    pub fn file(mut self, name: &str, path: &Path) -> Config {
        let _ = writeln!(self.disks, "  - name: {name}\n    file: {}", path.display());
        self
    }

    /// A disk of memory, in MiB.
    pub fn memory(mut self, name: &str, mib: u64) -> Config {
        let _ = writeln!(self.disks, "  - name: {name}\n    memory: {mib}MiB");
        self
    }

    /// What hosts get.
    pub fn volumes(mut self, names: &[&str]) -> Config {
        for name in names {
            let _ = writeln!(self.volumes, "  - on: {name}");
        }
        self
    }

    /// Hosts get every partition found on a disk.
    pub fn partitions_of(mut self, disk: &str) -> Config {
        let _ = writeln!(self.volumes, "  - partitions_of: {disk}");
        self
    }

    /// The text.
    pub fn yaml(&self) -> String {
        let Config {
            state,
            ports,
            disks,
            volumes,
        } = self;
        let (state, iscsi, nvme) = (state.display(), ports.iscsi, ports.nvme);
        format!(
            "state: {state}\ntargets:\n  iscsi:\n    portals: [127.0.0.1:{iscsi}]\n  nvme:\n    listeners: [127.0.0.1:{nvme}]\n\
             disks:\n{disks}volumes:\n{volumes}"
        )
    }
}
