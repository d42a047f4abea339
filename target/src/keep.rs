//! Small files that must not be lost: each is replaced whole, and is on stable storage before anybody is told.
//!
//! ```text
//!   body\n                    what is kept: text
//!   crc32c 9a8b7c6d\n         of every byte before
//! ```
//!
//! A file is written beside the old one, synced, renamed over it, and the folder is synced: after a power cut there is the old
//! content or the new one. A file whose checksum is wrong was damaged from outside; its owner says what is believed then.
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
};
use tokio::sync::oneshot;

/// No file of ours is longer: what is kept is bounded by its owners.
const FILE_MAX: u64 = 8 << 20;

const TAIL: usize = "crc32c 00000000\n".len();

/// A file with this body.
pub fn seal(body: &[u8]) -> Vec<u8> {
    let mut out = body.to_vec();
    out.push(b'\n');
    let sum = reactor::crc32c(&out);
    out.extend_from_slice(format!("crc32c {sum:08x}\n").as_bytes());
    out
}

/// The body of a file that [`seal`] made, or what is wrong with it.
pub fn unseal(bytes: &[u8]) -> Result<&[u8], String> {
    let (body, tail) = bytes
        .len()
        .checked_sub(TAIL)
        .map(|at| bytes.split_at(at))
        .ok_or("it is too short")?;
    if tail != format!("crc32c {:08x}\n", reactor::crc32c(body)).as_bytes() {
        return Err("its checksum is wrong".into());
    }
    Ok(body)
}

/// The body of the file at `path`: none if there is no file, or why it cannot be read. Blocks; for control threads.
pub fn load(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(data) if data.len() > FILE_MAX => return Err(format!("it has {} bytes", data.len())),
        Ok(_) => (),
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    unseal(&bytes).map(|body| Some(body.to_vec()))
}

/// The steps of a change, in their order. A test cuts the power after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Written,
    Synced,
    Renamed,
    Done,
}

/// Puts `bytes` in the place of the file, as far as `last`.
pub(crate) fn replace(path: &Path, bytes: &[u8], last: Step) -> io::Result<()> {
    let beside = beside(path);
    // Only its owner may read it: keys of reservations let whoever knows them in.
    let mut file = File::options();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
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

/// Puts `bytes` in the place of the file, or makes it. It is on stable storage when this returns, and only its owner may read it. Blocks; for control threads.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, Step::Done)
}

/// Where a new content is written first.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A folder for such files below `parent`, there on stable storage.
pub fn folder(parent: &Path, name: &str) -> io::Result<PathBuf> {
    let folder = parent.join(name);
    fs::create_dir_all(&folder)?;
    File::open(&folder)?.sync_all()?;
    sync_folder(&folder)?;
    Ok(folder)
}

struct Job {
    path: PathBuf,
    /// `None`: there is to be no file.
    bytes: Option<Vec<u8>>,
    done: oneshot::Sender<io::Result<()>>,
}

/// The thread that writes such files: a reactor must not wait for a disk. It ends with its last handle.
#[derive(Clone, Debug)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Ok(job) = queue.recv() {
                let result = match &job.bytes {
                    Some(bytes) => replace(&job.path, bytes, Step::Done),
                    None => remove(&job.path),
                };
                // Whoever asked may be gone.
                let _ = job.done.send(result);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Makes the file at `path` have this body, or be gone, on stable storage.
    pub async fn save(&self, path: &Path, body: Option<&[u8]>) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let job = Job {
            path: path.to_owned(),
            bytes: body.map(seal),
            done,
        };
        let ended = || io::Error::other("the thread that writes it has ended");
        self.jobs.send(job).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_byte_is_found() {
        let bytes = seal(b"{\"version\":1}");
        assert_eq!(unseal(&bytes), Ok(&b"{\"version\":1}\n"[..]));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(unseal(&damaged).is_err(), "byte {at}");
            assert!(unseal(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    /// After a cut of the power at any step there is the old content or the new one, and the next start finds it.
    #[test]
    fn a_power_cut_leaves_the_old_or_the_new() {
        let (old, new) = (seal(b"the old state"), seal(b"the new state, which is longer"));
        let steps = [Step::Written, Step::Synced, Step::Renamed, Step::Done];
        for step in steps {
            for torn in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("file.json");
                replace(&path, &old, Step::Done).unwrap();
                replace(&path, &new, step).unwrap();
                let beside = beside(&path);
                // What was not synced may be anything, in part or whole.
                if torn && step == Step::Written {
                    let half = new.len() as u64 / 2;
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
                    replace(&path, &old, Step::Done).unwrap();
                }
                let found = load(&path).expect("readable").expect("there");
                let expected = match (step, torn) {
                    (Step::Written | Step::Synced, _) | (Step::Renamed, true) => &old,
                    _ => &new,
                };
                assert_eq!(&seal(found.trim_ascii_end()), expected, "{step:?}, torn: {torn}");
                // What was left beside is in nobody's way.
                replace(&path, &new, Step::Done).unwrap();
                assert_eq!(load(&path).unwrap().as_deref(), unseal(&new).ok());
                remove(&path).unwrap();
                assert_eq!(load(&path), Ok(None));
            }
        }
    }
}
