//! Asking a running target by JSON-RPC, in a few lines: one request, one answer.
use crate::Result;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Calls `method` and gives its result; an error answer is an `Err` with its text.
pub fn call(socket: &Path, method: &str, params: Value) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
    if !params.is_null() {
        request["params"] = params;
    }
    stream.write_all(request.to_string().as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16384];
    // The answer is one JSON value without a frame: it is whole when it parses.
    let value: Value = loop {
        let n = match stream.read(&mut piece) {
            // With a time-out the system does not go on by itself after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            got => got?,
        };
        if n == 0 {
            return Err(format!("{method}: the connection ended after {} bytes", answer.len()).into());
        }
        answer.extend_from_slice(&piece[..n]);
        if let Ok(value) = serde_json::from_slice(&answer) {
            break value;
        }
    };
    match value.get("error") {
        Some(error) => Err(format!("{method}: {error}").into()),
        None => Ok(value["result"].clone()),
    }
}

/// How hosts reach one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Name of the bdev.
    pub name: String,
    /// iSCSI target name and LUN.
    pub iscsi: Option<(String, u8)>,
    /// NVMe subsystem name and namespace.
    pub nvme: Option<(String, u32)>,
}

impl Volume {
    /// Target name and LUN; panics if it is not served over iSCSI.
    #[track_caller]
    pub fn iqn(&self) -> (&str, u8) {
        let (iqn, lun) = self
            .iscsi
            .as_ref()
            .unwrap_or_else(|| panic!("{} is not served over iSCSI", self.name));
        (iqn, *lun)
    }

    /// Subsystem name and namespace; panics if it is not served over NVMe/TCP.
    #[track_caller]
    pub fn nqn(&self) -> (&str, u32) {
        let (nqn, nsid) = self
            .nvme
            .as_ref()
            .unwrap_or_else(|| panic!("{} is not served over NVMe/TCP", self.name));
        (nqn, *nsid)
    }
}

/// Everything that is served, as SPDK's own methods tell it.
#[track_caller]
pub fn volumes(socket: &Path) -> Vec<Volume> {
    let mut found: Vec<Volume> = Vec::new();
    let mut volume = |name: &str, edit: &dyn Fn(&mut Volume)| {
        let at = found.iter().position(|v| v.name == name).unwrap_or_else(|| {
            found.push(Volume {
                name: name.to_string(),
                iscsi: None,
                nvme: None,
            });
            found.len() - 1
        });
        edit(&mut found[at]);
    };
    let ask = |method| call(socket, method, Value::Null).unwrap_or_else(|e| panic!("{e}"));
    for subsystem in ask("nvmf_get_subsystems").as_array().into_iter().flatten() {
        for ns in subsystem["namespaces"].as_array().into_iter().flatten() {
            let place = (
                subsystem["nqn"].as_str().unwrap_or_default(),
                ns["nsid"].as_u64().unwrap_or_default() as u32,
            );
            let name = ns["bdev_name"].as_str().or(ns["name"].as_str()).unwrap_or_default();
            volume(name, &|v| v.nvme = Some((place.0.to_string(), place.1)));
        }
    }
    for node in ask("iscsi_get_target_nodes").as_array().into_iter().flatten() {
        for lun in node["luns"].as_array().into_iter().flatten() {
            let place = (
                node["name"].as_str().unwrap_or_default(),
                lun["lun_id"].as_u64().unwrap_or_default() as u8,
            );
            volume(lun["bdev_name"].as_str().unwrap_or_default(), &|v| {
                v.iscsi = Some((place.0.to_string(), place.1))
            });
        }
    }
    found
}

/// The one with this name.
#[track_caller]
pub fn volume(socket: &Path, name: &str) -> Volume {
    let all = volumes(socket);
    all.iter()
        .find(|v| v.name == name)
        .cloned()
        .unwrap_or_else(|| panic!("{name} is not served; served are {all:?}"))
}
