//! The audit log: who has changed what, one line of JSON for each call that changes something, in a file that only its owner may read.
//!
//! ```text
//!   {"time":"2026-11-29T11:52:07.104223Z","method":"bdev_malloc_create","params":{"name":"M",…},"peer":{"uid":0,"gid":0,"pid":4711},"result":"done"}
//!   {…,"method":"ashlar_delete_disk",…,"result":{"code":-16,"message":"Device or resource busy"}}
//! ```
//!
//! A line is written when its call has ended, also if it was refused; calls that only look are not written down. Secrets never are: of methods that take some,
//! only parameters that are known to be none are written as they are, and elsewhere what is called like a secret or looks like one is not. The file is
//! appended to without a flush for each line, opened anew when the configuration is read again (so `logrotate` may move it away), and becomes `FILE.1` at its limit.
use crate::error::{RpcError, RpcResult};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What stands in the place of a secret.
const BLANK: &str = "***";
/// The longest text that is written out: a plan has megabytes of them.
const TEXT: usize = 256;
/// The longest list.
const LIST: usize = 64;
/// The longest line. What is longer loses its parameters.
const LINE: usize = 32 << 10;

/// Methods that take secrets, and of their parameters those that are none.
const OPEN: [(&str, &[&str]); 4] = [
    (
        "accel_crypto_key_create",
        &["cipher", "name", "tweak_mode", "key_file", "random"],
    ),
    (
        "bdev_crypto_create",
        &["base_bdev_name", "name", "key_name", "crypto_pmd", "cipher"],
    ),
    (
        "iscsi_create_auth_group",
        &["tag", "secrets", "user", "muser", "secret_file", "msecret_file"],
    ),
    (
        "iscsi_auth_group_add_secret",
        &["tag", "user", "muser", "secret_file", "msecret_file"],
    ),
];

/// Who has called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The process, if the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

/// A call that changes something, without its secrets.
#[derive(Debug)]
pub struct Call {
    time: SystemTime,
    method: String,
    params: Value,
}

impl Call {
    /// Begins now.
    pub fn new(method: &str, params: &Value) -> Self {
        let open = OPEN.iter().find(|(name, _)| *name == method).map(|(_, open)| *open);
        Self {
            time: SystemTime::now(),
            method: method.to_owned(),
            params: blanked(params, open),
        }
    }
}

/// Parameters without secrets, and of long ones the beginning. `open`: of a method that takes secrets, what is none.
fn blanked(value: &Value, open: Option<&[&str]>) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| {
                let nested = value.is_object() || value.is_array();
                let safe = match open {
                    Some(open) => open.contains(&key.as_str()),
                    None => !is_secret(key),
                };
                let value = match safe {
                    true => blanked(value, open.filter(|_| nested)),
                    false if value.is_null() => Value::Null,
                    false => BLANK.into(),
                };
                (key.clone(), value)
            };
            Value::Object(members.iter().map(member).collect())
        }
        Value::Array(items) => {
            let item = |item: &Value| match (open, item) {
                // Of a method that takes secrets nobody knows what a bare text is.
                (Some(_), Value::String(_) | Value::Number(_)) => BLANK.into(),
                _ => blanked(item, open),
            };
            let mut list: Vec<Value> = items.iter().take(LIST).map(item).collect();
            if let Some(more) = items.len().checked_sub(LIST).filter(|more| *more > 0) {
                list.push(format!("and {more} more").into());
            }
            list.into()
        }
        // Keys of NVMe hosts, where the name of one was expected.
        Value::String(text) if text.contains("NVMeTLSkey-") || text.contains("DHHC-") => BLANK.into(),
        Value::String(text) if text.len() > TEXT => format!("a text of {} bytes", text.len()).into(),
        other => other.clone(),
    }
}

/// True if a parameter is called like a secret. Names and files of keys (`key_name`, `dhchap_key`) are none.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let called = |word: &str| key.contains(word) && !key.ends_with("_file") && !key.ends_with("_name");
    matches!(key.as_str(), "key" | "key2" | "psk_key") || ["secret", "passw", "passphrase"].into_iter().any(called)
}

#[derive(Clone, Serialize)]
struct Line<'a> {
    time: String,
    method: &'a str,
    #[serde(skip_serializing_if = "nothing")]
    params: &'a Value,
    peer: Option<Peer>,
    result: Outcome<'a>,
}

impl Line<'_> {
    fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        if text.len() > LINE {
            let params = &format!("{} bytes of parameters", text.len()).into();
            text = serde_json::to_vec(&Line { params, ..self.clone() })?;
        }
        text.push(b'\n');
        Ok(text)
    }
}

fn nothing(params: &&Value) -> bool {
    params.is_null() || params.as_object().is_some_and(Map::is_empty)
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Done(&'static str),
    /// Without the cause, which may quote what was sent.
    Refused {
        code: i64,
        message: &'a str,
    },
}

impl<'a> From<&'a RpcResult<Value>> for Outcome<'a> {
    fn from(outcome: &'a RpcResult<Value>) -> Self {
        match outcome {
            Ok(_) => Self::Done("done"),
            Err(RpcError { code, message, .. }) => Self::Refused { code: *code, message },
        }
    }
}

/// Where it is written, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Bytes at which it becomes `FILE.1` and a new one is begun.
    pub limit: u64,
}

/// A file that is open, and how long it is.
struct Open {
    place: Place,
    file: File,
    len: u64,
}

impl Open {
    fn new(place: Place) -> io::Result<Self> {
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&place.file)?;
        let there = file.metadata()?;
        if !there.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file"));
        }
        // One that was there before may be open to others.
        if there.permissions().mode() & 0o777 != 0o600 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        let len = there.len();
        Ok(Self { place, file, len })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.len > 0 && self.len.saturating_add(line.len() as u64) > self.place.limit {
            fs::rename(&self.place.file, aged(&self.place.file))?;
            *self = Self::new(self.place.clone())?;
        }
        self.file.write_all(line)?;
        self.len += line.len() as u64;
        Ok(())
    }
}

fn aged(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The audit log.
#[derive(Default)]
pub struct Audit {
    open: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// The last line could not be written: said once, not for each.
    failing: bool,
}

impl Audit {
    /// Writes to this place from now on, or nowhere. Whatever was open is closed, so a file that has been moved away is let go of.
    pub fn open(&self, place: Option<Place>) -> io::Result<()> {
        let open = place.map(Open::new).transpose()?;
        let mut state = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { open, failing: false };
        Ok(())
    }

    /// True if anything is written down.
    pub fn is_open(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).open.is_some()
    }

    /// Writes down what became of a call; `peer` is nothing if the system does not tell. A log that cannot be written stops nobody; it is said in the other one.
    pub fn note(&self, call: &Call, peer: Option<Peer>, outcome: &RpcResult<Value>) {
        let mut state = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut state.open else { return };
        let line = Line {
            time: utc(call.time),
            method: &call.method,
            params: &call.params,
            peer,
            result: outcome.into(),
        };
        let written = line.text().and_then(|text| open.append(&text));
        match written {
            Ok(()) => state.failing = false,
            Err(why) if !std::mem::replace(&mut state.failing, true) => {
                tracing::error!(%why, "the audit log cannot be written; changes go on without it");
            }
            Err(_) => {}
        }
    }
}

/// As in RFC 3339, to the microsecond.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since 1 March 0000, in eras of 400 years: Hinnant's `civil_from_days`.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds: u64| utc(UNIX_EPOCH + Duration::new(seconds, 104_223_000));
        assert_eq!(at(0), "1970-01-01T00:00:00.104223Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.104223Z");
        assert_eq!(at(1_795_953_127), "2026-11-29T11:52:07.104223Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.104223Z");
    }

    #[test]
    fn secrets_are_blanked_wherever_they_are_and_long_things_are_short() {
        let call = |method: &str, params: Value| Call::new(method, &params).params;
        assert_eq!(
            call(
                "accel_crypto_key_create",
                json!({"name": "k", "key": "00", "kex": "typo", "random": null})
            ),
            json!({"name": "k", "key": BLANK, "kex": BLANK, "random": null})
        );
        assert_eq!(
            call(
                "iscsi_create_auth_group",
                json!({"tag": 1, "secrets": [{"user": "u", "secret": "s", "msecret_file": "/m"}, "bare", 7]})
            ),
            json!({"tag": 1, "secrets": [{"user": "u", "secret": BLANK, "msecret_file": "/m"}, BLANK, BLANK]})
        );
        assert_eq!(call("iscsi_create_auth_group", json!(["s"])), json!([BLANK]));
        let table = json!({"name": "c", "table": {"crypt": {"on": "d", "key": "k"}}, "Password": 1, "key_name": "n"});
        let shown =
            json!({"name": "c", "table": {"crypt": {"on": "d", "key": BLANK}}, "Password": BLANK, "key_name": "n"});
        assert_eq!(call("ashlar_create_disk", table), shown);
        let host = json!({"psk": "NVMeTLSkey-1:01:abc:", "dhchap_key": "DHHC-1:00:abc:", "dhchap_ctrlr_key": "key1"});
        let shown = json!({"psk": BLANK, "dhchap_key": BLANK, "dhchap_ctrlr_key": "key1"});
        assert_eq!(call("nvmf_subsystem_add_host", host), shown);
        let long = call("x", json!({"text": "y".repeat(257), "list": vec![0; 66]}));
        assert_eq!(long["text"], "a text of 257 bytes");
        assert_eq!(
            (long["list"].as_array().map(Vec::len), &long["list"][64]),
            (Some(65), &json!("and 2 more"))
        );
    }

    #[test]
    fn the_file_is_its_owners_and_is_put_aside_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.log");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let audit = Audit::default();
        let call = Call::new("one", &json!({}));
        audit.note(&call, None, &Ok(Value::Null));
        assert!(!audit.is_open());
        let place = Place {
            file: file.clone(),
            limit: 200,
        };
        audit.open(Some(place.clone())).unwrap();
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        let lines = |file: &Path| fs::read_to_string(file).unwrap().lines().count();
        for _ in 0..4 {
            audit.note(&call, None, &Ok(Value::Null));
        }
        assert_eq!((lines(&file), lines(&aged(&file)), mode(&file)), (2, 2, 0o600));
        // Moved away and opened anew.
        let moved = dir.path().join("moved");
        fs::rename(&file, &moved).unwrap();
        audit.note(&call, None, &Err(RpcError::invalid_params("no")));
        audit.open(Some(place)).unwrap();
        audit.note(&call, None, &Err(RpcError::invalid_params("no").because("a cause")));
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.ends_with("\"result\":{\"code\":-32602,\"message\":\"no\"}}\n") && lines(&file) == 1,
            "{text}"
        );
        let long = Call::new("long", &json!({"lists": vec![vec!["z".repeat(200); 60]; 60]}));
        let place = Place {
            file: dir.path().join("other"),
            limit: u64::MAX,
        };
        audit.open(Some(place.clone())).unwrap();
        audit.note(&long, None, &Ok(Value::Null));
        let text = fs::read_to_string(&place.file).unwrap();
        assert!(text.contains(" bytes of parameters\"") && text.len() < 300, "{text}");
        assert!(
            audit
                .open(Some(Place {
                    file: dir.path().into(),
                    limit: 1
                }))
                .is_err()
        );
    }
}
