//! One subsystem served by two processes with controller ids that do not meet: to Linux it is one disk with two paths.
use blackbox::image::{self, MIB};
use blackbox::serve::Start;
use blackbox::{Guest, Helper, Ports, Result, Server};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NQN: &str = "nqn.2026-11.io.ashlar:shared";

/// One of the two, with a state directory and a socket of its own, and the disk of both.
struct Half {
    dir: PathBuf,
    config: PathBuf,
    server: Option<Server>,
}

impl Half {
    fn new(dir: &Path, name: &str, disk: &Path, port: u16, cntlids: (u16, u16)) -> Half {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).expect("a folder");
        let config = dir.join("ashlar.yaml");
        let text = format!(
            "state: {}\ndisks:\n  - {{name: shared, file: {}}}\ntargets:\n  nvme:\n    listeners: [127.0.0.1:{port}]\n    subsystems:\n\
             \x20     - nqn: {NQN}\n        min_cntlid: {}\n        max_cntlid: {}\n        namespaces: [{{nsid: 1, volume: shared}}]\n",
            dir.display(),
            disk.display(),
            cntlids.0,
            cntlids.1
        );
        std::fs::write(&config, text).expect("write the configuration");
        let mut half = Half {
            dir,
            config,
            server: None,
        };
        half.start();
        half
    }

    fn start(&mut self) {
        self.server = Some(Start::serve(&self.dir, &self.config).serving().spawn());
    }
}

/// The helper's thread keeps both for as long as this process lives; they end with the story, however that ends.
struct Ended(Arc<Mutex<[Half; 2]>>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut halves = self.0.lock().unwrap_or_else(|e| e.into_inner());
        halves.iter_mut().for_each(|half| drop(half.server.take()));
    }
}

#[test]
fn guest_one_subsystem_of_two_processes_survives_the_death_of_either() {
    if !Guest::possible("one subsystem of two processes, with a Linux host") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let disk = dir.path().join("shared.img");
    image::sparse(&disk, 32 * MIB);
    let halves = [
        Half::new(dir.path(), "a", &disk, ports.nvme, (1, 999)),
        Half::new(dir.path(), "b", &disk, ports.iscsi, (1000, 1999)),
    ];
    let halves = Arc::new(Mutex::new(halves));
    let _ended = Ended(halves.clone());
    let answering = halves.clone();
    let helper = Helper::new(move |line| -> Result<String> {
        let mut halves = answering.lock().expect("nobody panicked");
        let (word, which) = line.split_once(' ').unwrap_or((line, ""));
        let half = match which {
            "a" => &mut halves[0],
            "b" => &mut halves[1],
            _ => return Err(format!("there is no process '{which}'").into()),
        };
        match word {
            "kill" => {
                let server = half.server.take().ok_or("it does not run")?;
                server.assert_no_panic();
                server.kill();
            }
            "start" => half.start(),
            _ => return Err(format!("nobody knows how to '{word}'").into()),
        }
        Ok("done".into())
    });
    let variables = [
        ("PORT_A", ports.nvme.to_string()),
        ("PORT_B", ports.iscsi.to_string()),
        ("NQN", NQN.to_string()),
        helper.variable(),
    ];
    let said = Guest::boot("two_processes.sh", Duration::from_secs(240), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    for half in halves.lock().expect("nobody panicked").iter_mut() {
        half.server.take().expect("it runs").stop();
    }
}
