//! Where reservations with APTPL = 1 are kept: one small file for each volume, named by its UUID.
//!
//! ```text
//!   {state directory}/reservations/{uuid}.json      {"version":1,"registrants":[…],"held":…}
//!                                                   crc32c 9a8b7c6d
//! ```
//!
//! A file is written beside the old one, synced, renamed over it, and the folder is synced, all before the host gets its
//! status: after a power cut there is the old state or the new one. A file that cannot be read was damaged from outside; what
//! it said is unknown, and hosts it kept out must stay out. So the volume comes up with an exclusive access reservation of all
//! registrants, of whom there are none: cluster nodes register as they always do at start and go on, and anybody can be let
//! in again by a registered host's CLEAR.
use super::state::{Held, State};
use crate::scsi::NexusId;
use serde::{Deserialize, Serialize};
use spec::scsi::{TransportId, reservation::Type};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::mpsc,
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// No file of ours is longer: registrants are bounded, and so are names.
const FILE_MAX: u64 = 8 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    registrants: Vec<Registrant>,
    held: Option<Holding>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registrant {
    initiator: String,
    isid: [u8; 6],
    target: String,
    port: u16,
    key: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holding {
    /// Its place in the list; none: all registrants hold it.
    by: Option<usize>,
    kind: u8,
}

/// The file's content for a state. The generation is not kept (SPC-5 6.15.2: a power loss sets it to zero).
pub fn encode(state: &State) -> Vec<u8> {
    let one = |(nexus, key): (&NexusId, &u64)| Registrant {
        initiator: nexus.initiator.name.clone(),
        isid: nexus.initiator.isid.unwrap_or_default(),
        target: nexus.target.clone(),
        port: nexus.port,
        key: *key,
    };
    let document = Document {
        version: 1,
        registrants: state.registrants.iter().map(one).collect(),
        held: state.held.as_ref().map(|held| Holding {
            by: held
                .by
                .as_ref()
                .and_then(|by| state.registrants.keys().position(|nexus| nexus == by)),
            kind: held.kind as u8,
        }),
    };
    // Numbers and text cannot fail to become JSON.
    let mut out = serde_json::to_vec(&document).unwrap_or_default();
    out.push(b'\n');
    let sum = reactor::crc32c(&out);
    out.extend_from_slice(format!("crc32c {sum:08x}\n").as_bytes());
    out
}

/// Reads what [`encode`] made, or says what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<State, String> {
    const TAIL: usize = "crc32c 00000000\n".len();
    let (body, tail) = bytes
        .len()
        .checked_sub(TAIL)
        .map(|at| bytes.split_at(at))
        .ok_or("it is too short")?;
    if tail != format!("crc32c {:08x}\n", reactor::crc32c(body)).as_bytes() {
        return Err("its checksum is wrong".into());
    }
    let document: Document = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if document.version != 1 {
        return Err(format!("its version is {} and not 1", document.version));
    }
    let nexus = |one: &Registrant| NexusId {
        initiator: TransportId {
            name: one.initiator.clone(),
            isid: Some(one.isid),
        },
        target: one.target.clone(),
        port: one.port,
    };
    let held = match &document.held {
        None => None,
        Some(held) => {
            let kind = Type::from_nibble(held.kind).ok_or_else(|| format!("there is no type {}", held.kind))?;
            let by = match held.by {
                Some(at) => Some(document.registrants.get(at).ok_or("its holder is not registered")?),
                None if kind.is_all_registrants() => None,
                None => return Err("its reservation has no holder".into()),
            };
            Some(Held {
                by: by.map(nexus),
                kind,
            })
        }
    };
    Ok(State {
        generation: 0,
        persist: true,
        registrants: document
            .registrants
            .iter()
            .map(|one| (nexus(one), one.key))
            .collect::<BTreeMap<_, _>>(),
        held,
    })
}

/// What is believed of a file that cannot be read; see above.
pub fn closed() -> State {
    State {
        persist: true,
        held: Some(Held {
            by: None,
            kind: Type::ExclusiveAccessAllRegistrants,
        }),
        ..State::default()
    }
}

/// The steps of a change, in their order. A test cuts the power after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Written,
    Synced,
    Renamed,
    Done,
}

/// Puts `bytes` in the place of the file, as far as `last`.
fn replace(path: &Path, bytes: &[u8], last: Step) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    if last == Step::Written {
        return Ok(());
    }
    file.sync_all()?;
    if last == Step::Synced {
        return Ok(());
    }
    fs::rename(&beside, path)?;
    if last == Step::Renamed {
        return Ok(());
    }
    sync_folder(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

struct Job {
    path: PathBuf,
    /// `None`: there is to be no file.
    bytes: Option<Vec<u8>>,
    done: oneshot::Sender<io::Result<()>>,
}

/// The folder, and the thread that writes to it: a reactor must not wait for a disk.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Makes the folder under the state directory, and starts the thread, which ends with the store.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("reservations");
        fs::create_dir_all(&folder)?;
        sync_folder(&folder)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("reservations".into()).spawn(move || {
            while let Ok(job) = queue.recv() {
                let result = match &job.bytes {
                    Some(bytes) => replace(&job.path, bytes, Step::Done),
                    None => remove(&job.path),
                };
                // Whoever asked may be gone.
                let _ = job.done.send(result);
            }
        })?;
        Ok(Self { folder, jobs })
    }

    /// The file of a volume.
    pub fn path(&self, volume: Uuid) -> PathBuf {
        self.folder.join(format!("{}.json", volume.simple()))
    }

    /// What is kept for a volume: nothing, a state, or why it cannot be read. Blocks; for control threads.
    pub fn load(&self, volume: Uuid) -> Result<Option<State>, String> {
        let path = self.path(volume);
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(data) if data.len() > FILE_MAX => return Err(format!("it has {} bytes", data.len())),
            Ok(_) => (),
        }
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        decode(&bytes).map(Some)
    }

    /// Makes the file say `state`, or be gone, on stable storage.
    pub async fn save(&self, volume: Uuid, state: Option<&State>) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let job = Job {
            path: self.path(volume),
            bytes: state.map(encode),
            done,
        };
        let ended = || io::Error::other("the thread that writes reservations has ended");
        self.jobs.send(job).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(keys: u64) -> State {
        let nexus = |n: u64| NexusId {
            initiator: TransportId {
                name: format!("iqn.x:host{n}"),
                isid: Some([0, 2, 0x3d, 0, 0, n as u8]),
            },
            target: "iqn.x:t".into(),
            port: 1,
        };
        State {
            generation: 0,
            persist: true,
            registrants: (0..keys).map(|n| (nexus(n), u64::MAX - n)).collect(),
            held: Some(Held {
                by: Some(nexus(0)),
                kind: Type::ExclusiveAccessRegistrantsOnly,
            }),
        }
    }

    #[test]
    fn a_file_has_its_golden_bytes_and_reads_back() {
        let bytes = encode(&state(1));
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!(
            text,
            "{\"version\":1,\"registrants\":[{\"initiator\":\"iqn.x:host0\",\"isid\":[0,2,61,0,0,0],\"target\":\"iqn.x:t\",\
             \"port\":1,\"key\":18446744073709551615}],\"held\":{\"by\":0,\"kind\":6}}\ncrc32c 922efc2b\n"
        );
        assert_eq!(decode(&bytes), Ok(state(1)));
        for kind in Type::ALL {
            let mut state = state(3);
            let by = (!kind.is_all_registrants()).then(|| state.registrants.keys().nth(2).unwrap().clone());
            state.held = Some(Held { by, kind });
            assert_eq!(decode(&encode(&state)), Ok(state));
        }
    }

    #[test]
    fn every_damaged_byte_is_found_and_nobody_gets_in() {
        let bytes = encode(&state(2));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let stranger = state(1).registrants.into_keys().next().unwrap();
        let mut closed = closed();
        assert_eq!(closed.verdict(&stranger), super::super::state::Verdict::Nothing);
        closed.registrants.insert(stranger.clone(), 1);
        assert_eq!(closed.verdict(&stranger), super::super::state::Verdict::All);
    }

    /// After a cut of the power at any step there is the old state or the new one, and the next start finds it.
    #[test]
    fn a_power_cut_leaves_the_old_or_the_new() {
        let (old, new) = (state(1), state(2));
        let steps = [Step::Written, Step::Synced, Step::Renamed, Step::Done];
        for step in steps {
            for torn in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let store = Store::open(dir.path()).unwrap();
                let path = store.path(Uuid::nil());
                replace(&path, &encode(&old), Step::Done).unwrap();
                replace(&path, &encode(&new), step).unwrap();
                let beside = path.with_extension("new");
                // What was not synced may be anything, in part or whole.
                if torn && step == Step::Written {
                    let half = encode(&new).len() as u64 / 2;
                    File::options()
                        .write(true)
                        .open(&beside)
                        .unwrap()
                        .set_len(half)
                        .unwrap();
                }
                // A rename that was not synced may not have happened; what it would have put there was synced.
                if torn && step == Step::Renamed {
                    fs::rename(&path, &beside).unwrap();
                    replace(&path, &encode(&old), Step::Done).unwrap();
                }
                let found = store.load(Uuid::nil()).expect("readable").expect("there");
                let expected = match (step, torn) {
                    (Step::Written | Step::Synced, _) | (Step::Renamed, true) => &old,
                    _ => &new,
                };
                assert_eq!(&found, expected, "{step:?}, torn: {torn}");
                // What was left beside is in nobody's way.
                replace(&path, &encode(&new), Step::Done).unwrap();
                assert_eq!(store.load(Uuid::nil()), Ok(Some(new.clone())));
                remove(&path).unwrap();
                assert_eq!(store.load(Uuid::nil()), Ok(None));
            }
        }
    }
}
