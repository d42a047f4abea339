//! Configuration files as a user would write them, for the stories that only need disks and what is served.
use crate::Ports;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A configuration in the making.
#[derive(Clone, Debug)]
pub struct Config {
    state: PathBuf,
    ports: Ports,
    portals: String,
    disks: String,
    volumes: String,
}

impl Config {
    /// Both protocols on loopback, state in `dir`.
    pub fn new(dir: &Path, ports: Ports) -> Config {
        Config {
            state: dir.to_path_buf(),
            ports,
            portals: format!("127.0.0.1:{}", ports.iscsi),
            disks: String::new(),
            volumes: String::new(),
        }
    }

    /// One more portal of iSCSI, in the same group.
    pub fn portal(mut self, port: u16) -> Config {
        let _ = write!(self.portals, ", 127.0.0.1:{port}");
        self
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
            portals,
            disks,
            volumes,
        } = self;
        let (state, nvme) = (state.display(), ports.nvme);
        format!(
            "state: {state}\ntargets:\n  iscsi:\n    portals: [{portals}]\n  nvme:\n    listeners: [127.0.0.1:{nvme}]\n\
             disks:\n{disks}volumes:\n{volumes}"
        )
    }
}
