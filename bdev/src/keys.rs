//! Keys of encrypted disks, by name. No key is ever shown: what is shown and saved is where it comes from.
//!
//! | from | after a restart | can be replaced, so that what was encrypted with it is gone |
//! |---|---|---|
//! | a call | must be given again | no: who gave it has it still |
//! | a file | is read again | yes, if its folder can be written |
//! | chance | another one: what was written is gone | yes |
//!
//! A file holds the data key and the tweak key in hexadecimal digits, one behind the other (64 digits for AES-128, 128 for AES-256; dm-crypt
//! takes them so), and nobody but its owner may read it. A new key is written beside it, synced, and renamed over it, and the folder is synced:
//! a power cut leaves the old key or the new one. Then the blocks that the old one stood in are overwritten. What a file system or a
//! drive has copied elsewhere (snapshots, copy on write, backups, flash that moves blocks) is out of our reach.
use crate::xts::Xts;
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// Longest key file: the digits and an end of line in any convention.
const FILE_MAX: u64 = 130;

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// It was said in a call.
    Given,
    /// This file.
    File(PathBuf),
    /// Drawn when it was made.
    Random,
}

/// Why there is no such key, or none more.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name is taken.
    #[error("there is a key {0:?} already")]
    Exists(String),
    /// It is not.
    #[error("there is no key {0:?}")]
    Unknown(String),
    /// Its disks would be left without.
    #[error("key {0:?} is in use by a disk")]
    Busy(String),
    /// No key for this cipher.
    #[error("{0}")]
    Unfit(String),
    /// Two names for one file: one of them would not hear of a new key.
    #[error("{path} is the file of key {name:?} already")]
    SameFile {
        /// The file.
        path: PathBuf,
        /// The other key.
        name: String,
    },
    /// Others could read it.
    #[error("{path}: others may read or write the file (mode {mode:o}); chmod 600 it")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What the system says.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What the system says when it has no random numbers.
    #[error("there are no random numbers: {0}")]
    NoRandom(String),
}

/// A key as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// Bits of the data key, and of the tweak key.
    pub bits: u16,
    /// Where it comes from.
    pub source: KeySource,
}

/// One of them.
pub(crate) struct Key {
    name: String,
    source: KeySource,
    /// The file as it is called without symbolic links.
    file: Option<PathBuf>,
    replaceable: bool,
    current: Mutex<Arc<Xts>>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.name)
    }
}

/// A key's digits, of 128 or 256 bits twice.
pub fn random_digits(bits: u16) -> Result<Zeroizing<String>, KeyError> {
    Ok(digits(&random(bits)?))
}

fn random(bits: u16) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut keys = Zeroizing::new(vec![0; usize::from(bits) / 4]);
    getrandom::fill(&mut keys).map_err(|error| KeyError::NoRandom(error.to_string()))?;
    Ok(keys)
}

fn digits(keys: &[u8]) -> Zeroizing<String> {
    // Room for all of it at once: a growing text would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * keys.len()));
    for byte in keys {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(half.into(), 16).unwrap_or_default())
        }
    }
    text
}

/// The bytes of hexadecimal digits; `None` if they are none.
pub fn undigits(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
    let mut keys = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    for [high, low] in pairs {
        keys.push(digit(*high)? << 4 | digit(*low)?)
    }
    Some(keys)
}

fn expand(keys: &[u8], what: impl fmt::Display) -> Result<Arc<Xts>, KeyError> {
    let unfit = |why: &str| KeyError::Unfit(format!("{what}: {why}"));
    Xts::new(keys).map(Arc::new).map_err(unfit)
}

/// What is in a key file, and its owner.
fn read(path: &Path) -> Result<Arc<Xts>, KeyError> {
    let failed = |error| KeyError::Io {
        path: path.into(),
        error,
    };
    let unfit = |why: &str| KeyError::Unfit(format!("{}: {why}", path.display()));
    // Looked at before it is opened, for opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unfit("is not a file"));
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open {
            path: path.into(),
            mode,
        });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize + 1));
    file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    let keys =
        undigits(text.trim_ascii_end()).ok_or_else(|| unfit("it holds other than pairs of hexadecimal digits"))?;
    expand(&keys, path.display())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    // No name that anybody would give to a key of theirs: what is found there is removed.
    name.push(".ashlar-new");
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The steps of a replacement, in their order. A test cuts the power after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Synced,
    Renamed,
    Overwritten,
}

/// Puts another key into a file, as far as `last`. The answer tells how far it came.
fn replace(path: &Path, text: &str, last: Step) -> (Option<Step>, io::Result<()>) {
    let mut came = None;
    let mut all = || {
        let mut old = File::options().read(true).write(true).open(path)?;
        let facts = old.metadata()?;
        let beside = beside(path);
        let _ = fs::remove_file(&beside);
        let mut new = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        fchown(&new, Some(facts.uid()), Some(facts.gid()))?;
        new.write_all(text.as_bytes())?;
        new.write_all(b"\n")?;
        new.sync_all()?;
        came = Some(Step::Synced);
        if last == Step::Synced {
            return Ok(());
        }
        fs::rename(&beside, path)?;
        came = Some(Step::Renamed);
        sync_folder(path)?;
        if last == Step::Renamed {
            return Ok(());
        }
        let len = facts.len().min(FILE_MAX) as usize;
        old.write_all(&[0; FILE_MAX as usize][..len])?;
        old.sync_all()?;
        came = Some(Step::Overwritten);
        Ok(())
    };
    let done = all();
    (came, done)
}

impl Key {
    /// As it is now.
    pub fn current(&self) -> Arc<Xts> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another can take its place for good.
    pub fn is_replaceable(&self) -> bool {
        self.replaceable
    }

    /// Puts a random one in its place: first in its file, on stable storage, then here. Blocks. `Err`: something of the old one may be left; if it
    /// is still in its file, nothing has changed.
    pub fn renew(&self) -> Result<(), KeyError> {
        let keys = random(self.current().bits())?;
        let new = expand(&keys, "random numbers")?;
        let done = match &self.file {
            Some(path) => {
                let (came, done) = replace(path, &digits(&keys), Step::Overwritten);
                if came < Some(Step::Renamed) {
                    let _ = fs::remove_file(beside(path));
                    return done.map_err(|error| KeyError::Io {
                        path: path.clone(),
                        error,
                    });
                }
                done.map_err(|error| KeyError::Io {
                    path: path.clone(),
                    error,
                })
            }
            None => Ok(()),
        };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new;
        done
    }
}

/// All keys of a process. Clones are the same ones. Its functions block: control plane.
#[derive(Clone, Debug, Default)]
pub struct Keys(Arc<Mutex<BTreeMap<String, Arc<Key>>>>);

impl Keys {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Key>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the key that `keys` are, the data key and then the tweak key.
    pub fn give(&self, name: &str, keys: &[u8]) -> Result<(), KeyError> {
        let xts = expand(keys, format_args!("key {name:?}"))?;
        self.add(name, KeySource::Given, None, xts)
    }

    /// Names the key that is in a file.
    pub fn read(&self, name: &str, path: &Path) -> Result<(), KeyError> {
        let xts = read(path)?;
        let file = fs::canonicalize(path).map_err(|error| KeyError::Io {
            path: path.into(),
            error,
        })?;
        self.add(name, KeySource::File(path.into()), Some(file), xts)
    }

    /// Draws a key of 128 or 256 bits twice.
    pub fn draw(&self, name: &str, bits: u16) -> Result<(), KeyError> {
        let xts = expand(&random(bits)?, format_args!("key {name:?}"))?;
        self.add(name, KeySource::Random, None, xts)
    }

    fn add(&self, name: &str, source: KeySource, file: Option<PathBuf>, xts: Arc<Xts>) -> Result<(), KeyError> {
        let mut all = self.all();
        if name.is_empty() || name.len() > 255 {
            return Err(KeyError::Unfit("a key's name has from 1 to 255 bytes".into()));
        }
        if all.contains_key(name) {
            return Err(KeyError::Exists(name.into()));
        }
        if let Some(path) = &file
            && let Some(same) = all.values().find(|key| key.file.as_ref() == Some(path))
        {
            return Err(KeyError::SameFile {
                path: path.clone(),
                name: same.name.clone(),
            });
        }
        let replaceable = match (&source, &file) {
            (KeySource::Given, _) => false,
            (_, Some(path)) => has_room_beside(path),
            (_, None) => true,
        };
        let key = Key {
            name: name.into(),
            source,
            file,
            replaceable,
            current: Mutex::new(xts),
        };
        all.insert(name.into(), Arc::new(key));
        Ok(())
    }

    /// Forgets a key that no disk uses.
    pub fn remove(&self, name: &str) -> Result<(), KeyError> {
        let mut all = self.all();
        match all.get(name) {
            None => Err(KeyError::Unknown(name.into())),
            // A disk has its key in its blueprint.
            Some(key) if Arc::strong_count(key) > 1 => Err(KeyError::Busy(name.into())),
            Some(_) => {
                all.remove(name);
                Ok(())
            }
        }
    }

    /// A key by name.
    pub fn info(&self, name: &str) -> Option<KeyInfo> {
        self.all().get(name).map(|key| info(key))
    }

    /// All of them.
    pub fn list(&self) -> Vec<KeyInfo> {
        self.all().values().map(|key| info(key)).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Key>> {
        self.all().get(name).cloned()
    }
}

fn info(key: &Key) -> KeyInfo {
    KeyInfo {
        name: key.name.clone(),
        bits: key.current().bits(),
        source: key.source.clone(),
    }
}

/// A file can be made where the next key would be. What a power cut has left there was never anybody's key.
fn has_room_beside(path: &Path) -> bool {
    let beside = beside(path);
    let _ = fs::remove_file(&beside);
    let made = File::options().write(true).create_new(true).mode(0o600).open(&beside);
    let writable = File::options().write(true).open(path);
    made.is_ok() && fs::remove_file(&beside).is_ok() && writable.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// What a key makes of a block of zeros.
    fn print(xts: &Xts) -> Vec<u8> {
        let mut block = vec![0; 512];
        xts.from(0, 512).encrypt(&mut block);
        block
    }

    #[test]
    fn a_key_is_what_its_file_holds_and_must_be_private_whole_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::default();
        let text = random_digits(256).unwrap();
        let path = file(dir.path(), "good", &format!("{}\r\n", *text));
        keys.read("good", &path).unwrap();
        let expected = Xts::new(&undigits(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(print(&keys.get("good").unwrap().current()), print(&expected));
        assert_eq!(
            keys.list(),
            [KeyInfo {
                name: "good".into(),
                bits: 256,
                source: KeySource::File(path.clone())
            }]
        );

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(keys.read("again", &link), Err(KeyError::SameFile { .. })));
        assert!(matches!(keys.draw("good", 128), Err(KeyError::Exists(_))));
        for bad in [
            "",
            "00",
            &"00".repeat(64),
            &text[1..],
            &format!("{}00", *text),
            &format!("{}zz", &text[2..]),
        ] {
            let path = file(dir.path(), "bad", bad);
            let said = keys.read("bad", &path).unwrap_err();
            assert!(matches!(said, KeyError::Unfit(_)), "{bad:?}: {said}");
            assert!(bad.len() < 8 || !said.to_string().contains(&bad[..8]), "{said}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Keys::default().read("open", &path),
            Err(KeyError::Open { mode: 0o640, .. })
        ));
        assert!(matches!(
            keys.read("none", &dir.path().join("none")),
            Err(KeyError::Io { .. })
        ));
        assert!(matches!(keys.read("dir", dir.path()), Err(KeyError::Unfit(_))));
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(matches!(keys.read("pipe", &pipe), Err(KeyError::Unfit(_))));
        // A key of somebody's beside it is left alone.
        let beside = file(dir.path(), "good.new", &text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Keys::default().read("good", &path).unwrap();
        assert!(beside.exists());
    }

    #[test]
    fn only_a_key_that_nobody_else_has_can_be_replaced() {
        let keys = Keys::default();
        let given: Vec<u8> = (0..32).collect();
        keys.give("given", &given).unwrap();
        keys.draw("drawn", 128).unwrap();
        let (given, drawn) = (keys.get("given").unwrap(), keys.get("drawn").unwrap());
        assert!(!given.is_replaceable() && drawn.is_replaceable());
        let before = print(&drawn.current());
        drawn.renew().unwrap();
        assert_ne!(print(&drawn.current()), before);
        assert_eq!(keys.info("drawn").unwrap().bits, 128);
        assert!(matches!(keys.remove("drawn"), Err(KeyError::Busy(_))));
        drop(drawn);
        keys.remove("drawn").unwrap();
        assert!(matches!(keys.remove("drawn"), Err(KeyError::Unknown(_))));
    }

    #[test]
    fn a_new_key_is_in_its_file_and_the_old_one_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let old = random_digits(128).unwrap();
        let path = file(dir.path(), "key", &old);
        // Another name for the same blocks shows what becomes of them.
        let other = dir.path().join("other");
        fs::hard_link(&path, &other).unwrap();
        let keys = Keys::default();
        keys.read("key", &path).unwrap();
        keys.get("key").unwrap().renew().unwrap();
        assert_eq!(fs::read(&other).unwrap(), vec![0; old.len()]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let now = print(&keys.get("key").unwrap().current());
        assert_eq!(print(&read(&path).unwrap()), now);
        assert_ne!(now, print(&Xts::new(&undigits(old.as_bytes()).unwrap()).unwrap()));
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    /// After a cut of the power at any step the file holds the old key or the new one, and the next start takes it.
    #[test]
    fn a_power_cut_leaves_the_old_key_or_the_new_one() {
        for step in [Step::Synced, Step::Renamed, Step::Overwritten] {
            let dir = tempfile::tempdir().unwrap();
            let (old, new) = (random_digits(256).unwrap(), random_digits(256).unwrap());
            let path = file(dir.path(), "key", &old);
            let (came, done) = replace(&path, &new, step);
            assert_eq!((came, done.is_ok()), (Some(step), true));
            let expected = if step < Step::Renamed { old } else { new };
            assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), *expected, "{step:?}");
            Keys::default().read("key", &path).unwrap();
            assert!(!beside(&path).exists(), "what was left beside is gone");
        }
    }

    #[test]
    fn a_key_that_cannot_be_written_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "key", &random_digits(128).unwrap());
        let keys = Keys::default();
        keys.read("key", &path).unwrap();
        let key = keys.get("key").unwrap();
        let before = print(&key.current());
        // A folder in the way: nobody, root neither, can make the file beside it.
        fs::create_dir_all(beside(&path).join("x")).unwrap();
        assert!(matches!(key.renew(), Err(KeyError::Io { .. })));
        assert_eq!(print(&key.current()), before);
        assert_eq!(print(&read(&path).unwrap()), before);
        let other = Keys::default();
        other.read("key", &path).unwrap();
        assert!(!other.get("key").unwrap().is_replaceable());
    }
}
