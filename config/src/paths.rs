//! Where things are when nobody says: no root needed, and the same place at the next start.
use crate::schema::Config;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A directory that is there may still be somebody else's. Asked by making a file, for that is what will be done in it.
fn writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".writable-{}", std::process::id()));
    fs::File::create(&probe)?;
    fs::remove_file(&probe)
}

/// The state directory: what the configuration says, else the first of `$XDG_STATE_HOME/ashlar`, `~/.local/state/ashlar` and
/// `./ashlar-state` that can be written to. Makes it if it is not there.
pub fn state_dir(config: &Config) -> io::Result<PathBuf> {
    let said = config.state.clone();
    let usual = [
        variable("XDG_STATE_HOME").map(|home| home.join("ashlar")),
        variable("HOME").map(|home| home.join(".local/state/ashlar")),
        Some(PathBuf::from("ashlar-state")),
    ];
    let places: Vec<PathBuf> = match said {
        Some(dir) => vec![dir],
        None => usual.into_iter().flatten().collect(),
    };
    let mut last = None;
    for dir in places {
        match fs::create_dir_all(&dir).and_then(|()| writable(&dir)) {
            // Absolute, so that what is shown of it still holds in another directory.
            Ok(()) => return fs::canonicalize(dir),
            Err(error) => last = Some(io::Error::new(error.kind(), format!("{}: {error}", dir.display()))),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no place for the state directory")))
}

/// The RPC socket when nobody says: `ashlar.sock` in `$XDG_RUNTIME_DIR`, else in `/tmp`. Server and command line both look here.
pub fn default_socket() -> PathBuf {
    variable("XDG_RUNTIME_DIR")
        .filter(|dir| dir.is_dir())
        .unwrap_or_else(|| PathBuf::from("/tmp"))
        .join("ashlar.sock")
}

/// The RPC socket of a configuration.
pub fn socket(config: &Config, state: &Path) -> PathBuf {
    config
        .rpc
        .socket
        .as_ref()
        .map_or_else(default_socket, |socket| state.join(socket))
}
