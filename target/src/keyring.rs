//! Keys by name. What is kept is where they are, never what they are: a key is read from its file when it is used.
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// Longest key file.
const MAX_LEN: u64 = 4096;

/// Why a key cannot be added, removed or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A name that is taken.
    #[error("there is a key '{0}' already")]
    Exists(String),
    /// A name that is not.
    #[error("there is no key '{0}'")]
    Unknown(String),
    /// Relative to what?
    #[error("{0}: a key's path must be absolute")]
    Relative(PathBuf),
    /// Others could read it.
    #[error("{path}: others may read or write the file (mode {mode:o}); chmod 600 it")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too long, or not text.
    #[error("{0}: not a key file: longer than {MAX_LEN} bytes, or not text")]
    NotAKey(PathBuf),
    /// What the system says.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Makes a file that only its owner may read, and that must not be there. It is on stable storage when this returns.
pub fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Keyring {
    paths: Mutex<BTreeMap<String, PathBuf>>,
}

impl Keyring {
    /// Names the key in `path`: an absolute path to a file that only its owner can read.
    pub fn add(&self, name: &str, path: &Path) -> Result<(), KeyError> {
        if !path.is_absolute() {
            return Err(KeyError::Relative(path.into()));
        }
        check(path)?;
        let mut paths = self.paths();
        if paths.contains_key(name) {
            return Err(KeyError::Exists(name.into()));
        }
        paths.insert(name.into(), path.into());
        Ok(())
    }

    /// Forgets a key. Who is authenticated by it stays so; who comes next is not let in.
    pub fn remove(&self, name: &str) -> Result<(), KeyError> {
        let removed = self.paths().remove(name);
        removed.map(drop).ok_or_else(|| KeyError::Unknown(name.into()))
    }

    /// True if there is a key of this name.
    pub fn has(&self, name: &str) -> bool {
        self.paths().contains_key(name)
    }

    /// All names with their files.
    pub fn list(&self) -> Vec<(String, PathBuf)> {
        let paths = self.paths();
        paths.iter().map(|(name, path)| (name.clone(), path.clone())).collect()
    }

    /// The key as it is in its file now. Blocks: not for a reactor.
    pub fn read(&self, name: &str) -> Result<Zeroizing<String>, KeyError> {
        let path = self.paths().get(name).cloned();
        let path = path.ok_or_else(|| KeyError::Unknown(name.into()))?;
        check(&path)?;
        let bytes = Zeroizing::new(fs::read(&path).map_err(|error| KeyError::Io {
            path: path.clone(),
            error,
        })?);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            Err(_) => Err(KeyError::NotAKey(path)),
        }
    }

    fn paths(&self) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(path: &Path) -> Result<(), KeyError> {
    let about = fs::metadata(path).map_err(|error| KeyError::Io {
        path: path.into(),
        error,
    })?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open {
            path: path.into(),
            mode,
        });
    }
    match about.is_file() && about.len() <= MAX_LEN {
        true => Ok(()),
        false => Err(KeyError::NotAKey(path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_when_they_are_used_and_must_be_private() {
        let dir = std::env::temp_dir().join(format!("ashlar-keyring-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("key");
        fs::write(&path, "one").unwrap();
        let ring = Keyring::default();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(ring.add("k", &path), Err(KeyError::Open { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        ring.add("k", &path).unwrap();
        assert!(matches!(ring.add("k", &path), Err(KeyError::Exists(_))));
        assert!(matches!(ring.add("r", Path::new("key")), Err(KeyError::Relative(_))));
        assert!(matches!(
            ring.add("d", &dir),
            Err(KeyError::Open { .. } | KeyError::NotAKey(_))
        ));
        assert_eq!(*ring.read("k").unwrap(), "one");
        fs::write(&path, "two").unwrap();
        assert_eq!(*ring.read("k").unwrap(), "two");
        assert!(ring.has("k"));
        ring.remove("k").unwrap();
        assert!(matches!(ring.remove("k"), Err(KeyError::Unknown(_))));
        assert!(matches!(ring.read("k"), Err(KeyError::Unknown(_))));
        fs::remove_dir_all(&dir).unwrap();
    }
}
