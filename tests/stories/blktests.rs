//! What blktests' nvme group asks of a target, asked by a Linux host in the guest: `tests/guest/scripts/blktests.sh`.
use blackbox::image::{self, MIB};
use blackbox::serve::Start;
use blackbox::{Guest, Helper, Ports, Result, Server, rpc};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NQN: &str = "nqn.2026-11.io.ashlar:blk";
const UUID: &str = "6f2d1a34-0000-4000-8000-000000000b1c";

/// The target's machine, and what the guest may ask of it.
struct Bench {
    dir: PathBuf,
    port: u16,
    server: Option<Server>,
}

impl Bench {
    fn call(&self, method: &str, params: Value) -> Result<Value> {
        rpc::call(&self.dir.join("rpc.sock"), method, params)
    }

    fn file(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    /// A fresh process with its disks and the one subsystem that is there all the time.
    fn start(&mut self, queues: u16) -> Result<()> {
        if let Some(server) = self.server.take() {
            server.assert_no_panic();
            server.kill();
        }
        self.server = Some(Start::unconfigured(&self.dir).answering().spawn());
        let transport = json!({"trtype": "TCP", "max_io_qpairs_per_ctrlr": queues, "max_io_size": 1 << 20});
        self.call("nvmf_create_transport", transport)?;
        self.call(
            "bdev_aio_create",
            json!({"name": "disk", "filename": self.file(), "block_size": 512}),
        )?;
        self.call(
            "bdev_null_create",
            json!({"name": "void", "num_blocks": 65536, "block_size": 512}),
        )?;
        for name in ["ram", "bad", "part1", "part2", "part3"] {
            let disk = json!({"name": name, "num_blocks": 4096, "block_size": 512});
            self.call("bdev_malloc_create", disk)?;
        }
        self.subsystem(NQN)?;
        let namespace = json!({"bdev_name": "disk", "nsid": 1, "uuid": UUID});
        self.call("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": namespace}))?;
        self.listen(NQN)
    }

    fn subsystem(&self, nqn: &str) -> Result<()> {
        let params = json!({"nqn": nqn, "allow_any_host": true, "ana_reporting": true, "max_namespaces": 128});
        self.call("nvmf_create_subsystem", params).map(drop)
    }

    fn listen(&self, nqn: &str) -> Result<()> {
        let port = self.port.to_string();
        let address = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port});
        self.call(
            "nvmf_subsystem_add_listener",
            json!({"nqn": nqn, "listen_address": address}),
        )
        .map(drop)
    }

    fn answer(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["rpc", method, ..] => {
                let params = line.splitn(3, ' ').nth(2).unwrap_or("null");
                return Ok(self.call(method, serde_json::from_str(params)?)?.to_string());
            }
            ["many", count] => {
                for n in 0..count.parse()? {
                    self.subsystem(&many(n))?;
                    self.listen(&many(n))?;
                }
            }
            ["none", count] => {
                for n in 0..count.parse()? {
                    self.call("nvmf_delete_subsystem", json!({"nqn": many(n)}))?;
                }
            }
            ["spaces", nqn, count] => {
                for nsid in 1..=count.parse::<u32>()? {
                    let uuid = format!("6f2d1a34-0016-4000-8000-{nsid:012x}");
                    let namespace = json!({"bdev_name": "void", "nsid": nsid, "uuid": uuid});
                    self.call("nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": namespace}))?;
                }
            }
            ["churn", nqn, count] => {
                let count: u32 = count.parse()?;
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            for _ in 0..count {
                                // Whoever comes second is refused; that is the point.
                                let namespace = json!({"bdev_name": "void", "nsid": 5});
                                let _ = self.call("nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": namespace}));
                                let _ = self.call("nvmf_subsystem_remove_ns", json!({"nqn": nqn, "nsid": 5}));
                            }
                        });
                    }
                });
            }
            ["restart", queues] => self.start(queues.parse()?)?,
            ["bytes", offset, length] => return hash(&self.file(), offset.parse()?, length.parse()?),
            _ => return Err(format!("nobody knows how to '{line}'").into()),
        }
        Ok("done".into())
    }
}

fn many(n: u32) -> String {
    format!("nqn.2026-11.io.ashlar:many{n}")
}

/// SHA-256 of a part of a file, in whole MiB, as the guest's own tool would say it.
fn hash(file: &Path, offset: u64, length: u64) -> Result<String> {
    let script = format!(
        "dd if='{}' bs=1M skip={} count={} status=none | sha256sum | cut -d' ' -f1",
        file.display(),
        offset / MIB,
        length / MIB
    );
    let out = Command::new("sh").arg("-c").arg(script).output()?;
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

/// The helper's thread keeps the bench for as long as this process lives; the target ends with the story, however that ends.
struct Ended(Arc<Mutex<Bench>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).server.take();
    }
}

#[test]
fn guest_blktests_nvme_group() {
    if !Guest::possible("blktests' nvme group with a Linux host") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (Ports::free(), Ports::free());
    let mut bench = Bench {
        dir: dir.path().to_owned(),
        port: one.nvme,
        server: None,
    };
    // mkfs.xfs makes nothing smaller than 300 MiB.
    image::sparse(&bench.file(), 320 * MIB);
    bench.start(127).expect("start the target");
    let bench = Arc::new(Mutex::new(bench));
    let _ended = Ended(bench.clone());
    let answering = bench.clone();
    let helper = Helper::new(move |line| answering.lock().expect("nobody panicked").answer(line));
    let variables = [
        ("P1", one.nvme.to_string()),
        ("P2", one.iscsi.to_string()),
        ("P3", two.nvme.to_string()),
        ("P4", two.iscsi.to_string()),
        helper.variable(),
    ];
    let said = Guest::boot("blktests.sh", Duration::from_secs(500), &variables, &[]).finish();
    assert!(said.ends_with("PASS\n"), "{said}");
    let server = bench.lock().expect("nobody panicked").server.take().expect("a target");
    server.assert_no_panic();
    server.stop();
}
