//! What Linux does with an iSCSI target beyond reading and writing: several ways to one map, every SCSI command of sg3-utils, file
//! systems on every kind of session, aborts and resets.
use blackbox::image::{self, MIB};
use blackbox::iscsi::Iscsi;
use blackbox::serve::Start;
use blackbox::{Guest, Helper, Ports, Result, Server, rpc, tool};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const IQN: &str = "iqn.2026-11.io.ashlar:linux";

/// A target that a guest's script works with, on sparse files `0.img`, `1.img`, …, which are the disks `disk0`, `disk1`, …
struct Bench {
    dir: tempfile::TempDir,
    server: Arc<Mutex<Option<Server>>>,
    variables: Vec<(&'static str, String)>,
}

/// A port of 127.0.0.2, for portal group 2: an address of its own, which a guest's routes can lose.
fn second() -> u16 {
    let listener = TcpListener::bind("127.0.0.2:0").expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// Files of these sizes in MiB; `tables` on them, and what is LUN 0, LUN 1, …
fn bench(sizes: &[u64], tables: &str, luns: &[&str]) -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let (ports, second) = (Ports::free(), second());
    let mut disks = String::new();
    for (i, mib) in sizes.iter().enumerate() {
        image::sparse(&dir.path().join(format!("{i}.img")), mib * MIB);
        disks += &format!("  - {{name: disk{i}, file: {i}.img}}\n");
    }
    let luns = luns.iter().enumerate();
    let luns: Vec<String> = luns
        .map(|(i, volume)| format!("{{lun: {i}, volume: {volume}}}"))
        .collect();
    let (state, luns) = (dir.path().display(), luns.join(", "));
    let yaml = format!(
        "state: {state}\ndisks:\n{disks}{tables}targets:\n  iscsi:\n    portals: [127.0.0.1:{}]\n\
         \x20   portal_groups: [{{tag: 2, portals: [127.0.0.2:{second}]}}]\n\
         \x20   nodes:\n      - {{name: {IQN}, luns: [{luns}], access: [{{portal_group: 1}}, {{portal_group: 2}}]}}\n",
        ports.iscsi
    );
    let server = Arc::new(Mutex::new(Some(Server::start(dir.path(), &yaml))));
    let helper = helper(dir.path().to_path_buf(), server.clone(), ports.iscsi);
    let variables = vec![
        ("IQN", IQN.to_string()),
        ("FIRST_PORT", ports.iscsi.to_string()),
        ("SECOND_PORT", second.to_string()),
        helper.variable(),
    ];
    Bench { dir, server, variables }
}

/// What a script may ask for:
///
/// | words | answer |
/// |---|---|
/// | `rpc METHOD JSON` | the result |
/// | `restart` | the target is killed and started again |
/// | `grow FILE MIB` | the file is so long now; tell the target of it |
/// | `kib FILE` | what the file takes of the disk |
/// | `busy` | commands in flight at all units |
/// | `stranger read`, `stranger write` | the status of a host that nobody knows, at the first block of LUN 0 and in its last MiB |
fn helper(dir: PathBuf, server: Arc<Mutex<Option<Server>>>, port: u16) -> Helper {
    let socket = dir.join("rpc.sock");
    Helper::new(move |line| {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words[..] {
            ["rpc", method, params] => Ok(rpc::call(&socket, method, serde_json::from_str(params)?)?.to_string()),
            ["rpc", method] => Ok(rpc::call(&socket, method, Value::Null)?.to_string()),
            ["restart"] => {
                let mut server = server.lock().map_err(|_| "the story has failed")?;
                if let Some(server) = server.take() {
                    server.assert_no_panic();
                    server.kill();
                }
                *server = Some(Start::serve(&dir, &dir.join("ashlar.yaml")).serving().spawn());
                Ok("ok".into())
            }
            ["grow", file, mib] => {
                let file = std::fs::File::options().write(true).open(dir.join(file))?;
                file.set_len(mib.parse::<u64>()? * MIB)?;
                Ok("ok".into())
            }
            ["kib", file] => Ok((std::fs::metadata(dir.join(file))?.blocks() / 2).to_string()),
            ["busy"] => Ok(in_flight(&socket)?.to_string()),
            ["stranger", what] => Ok(stranger(port, what)?.to_string()),
            _ => Err("nobody knows how".into()),
        }
    })
}

fn in_flight(socket: &Path) -> Result<u64> {
    let shown = rpc::call(socket, "ashlar_show_targets", json!({"name": IQN}))?;
    let luns = shown["iscsi"][0]["luns"].as_array().ok_or("no LUNs")?;
    luns.iter()
        .map(|lun| lun["in_flight"].as_u64().ok_or_else(|| "no in_flight".into()))
        .sum()
}

fn stranger(port: u16, what: &str) -> Result<u8> {
    let mut host = Iscsi::login(port, IQN, 0)?;
    // READ(10) and WRITE(10) of one block.
    let mut cdb = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let block = vec![0x5a; host.block as usize];
    match what {
        "read" => Ok(host.command(&cdb, block.len(), &[])?.0),
        "write" => {
            cdb[0] = 0x2a;
            cdb[2..6].copy_from_slice(&(host.blocks as u32 - 8).to_be_bytes());
            Ok(host.command(&cdb, 0, &block)?.0)
        }
        _ => Err("read or write".into()),
    }
}

impl Bench {
    fn run(self, script: &str, limit: u64, files: &[&Path]) {
        let said = Guest::boot(script, Duration::from_secs(limit), &self.variables, files).finish();
        assert!(said.ends_with("PASS\n"), "{said}");
        let left = in_flight(&self.dir.path().join("rpc.sock")).expect("the target answers");
        assert_eq!(left, 0, "commands are in flight and their host has gone");
        let server = self.server.lock().expect("nobody panicked").take().expect("it runs");
        server.assert_no_panic();
        server.stop();
    }
}

#[test]
fn guest_multipath_survives_the_loss_of_its_better_way() {
    if Guest::possible("dm-multipath with ALUA") {
        bench(&[64], "", &["disk0"]).run("multipath.sh", 400, &[]);
    }
}

#[test]
fn guest_iscsi_host_uses_every_scsi_command() {
    if Guest::possible("sg3-utils over iSCSI") {
        bench(&[64, 64], "", &["disk0", "disk1"]).run("scsi.sh", 400, &[]);
    }
}

#[test]
fn guest_iscsi_host_keeps_files() {
    if !Guest::possible("file systems over iSCSI") {
        return;
    }
    // The file system exerciser, if ci/test could build it.
    let fsx = tool::tree().join(".build/tools/bin/fsx");
    let files: Vec<&Path> = fsx.exists().then_some(fsx.as_path()).into_iter().collect();
    bench(&[320, 96], "", &["disk0", "disk1"]).run("files.sh", 500, &files);
}

#[test]
fn guest_iscsi_host_recovers_from_commands_that_do_not_end() {
    if !Guest::possible("aborts and resets over iSCSI") {
        return;
    }
    let tables =
        "tables:\n  - {name: late, delay: {on: disk0, read: 0us, write: 0us}}\n  - {name: bad, error: {on: late}}\n";
    bench(&[64], tables, &["bad"]).run("recovery.sh", 400, &[]);
}
