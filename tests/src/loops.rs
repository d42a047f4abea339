//! Loop devices over files, and the real LVM2 that sees nothing else.
use crate::{Tool, skip};
use std::path::{Path, PathBuf};

/// Loop devices over files, for LVM2.
#[derive(Debug)]
pub struct Loops {
    /// Their paths, in the order of the files.
    pub devices: Vec<String>,
    home: tempfile::TempDir,
}

impl Loops {
    /// Nothing, and a word why, where this cannot be done.
    pub fn over(story: &str, files: &[PathBuf]) -> Option<Loops> {
        let mut loops = Loops {
            devices: Vec::new(),
            home: tempfile::tempdir().expect("a folder"),
        };
        let all = files.iter().all(|file| loops.add(story, file, &[]));
        all.then_some(loops)
    }

    /// One more, over these bytes of a file; false, and a word why, where this cannot be done.
    pub fn add_window(&mut self, story: &str, file: &Path, offset: u64, bytes: u64) -> bool {
        let (offset, bytes) = (offset.to_string(), bytes.to_string());
        self.add(story, file, &["--offset", &offset, "--sizelimit", &bytes])
    }

    fn add(&mut self, story: &str, file: &Path, how: &[&str]) -> bool {
        let output = Tool::new("losetup")
            .args(["--find", "--show"])
            .args(how)
            .arg(file)
            .output();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        if !output.status.success() {
            skip(story, &format!("no loop device: {}", text(&output.stderr)));
            return false;
        }
        self.devices.push(text(&output.stdout));
        true
    }

    /// One of LVM2's commands, on these devices only and without a device-mapper.
    #[track_caller]
    pub fn lvm(&self, args: &[&str]) -> String {
        let ours: Vec<String> = self.devices.iter().map(|dev| format!("\"a|^{dev}$|\"")).collect();
        let home = self.home.path().display();
        let config = format!(
            "devices {{ filter=[{}, \"r|.*|\"] use_devicesfile=0 hints=\"none\" obtain_device_list_from_udev=0 external_device_info_source=\"none\" }} \
             global {{ locking_dir=\"{home}/lock\" use_lvmpolld=0 event_activation=0 system_id_source=\"none\" etc=\"{home}\" }} \
             backup {{ backup=0 archive=0 }} activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}",
            ours.join(", ")
        );
        let tool = Tool::new("lvm")
            .arg(args[0])
            .args(["--driverloaded", "n", "--config", &config]);
        tool.args(&args[1..])
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .env("LVM_SYSTEM_DIR", self.home.path())
            .ok()
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for device in &self.devices {
            Tool::new("losetup").args(["-d", device]).output();
        }
    }
}
