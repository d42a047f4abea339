//! The file that `ashlar config backup` writes: everything that makes this target the one it is, but for data and secrets.
//!
//! ```text
//!   {"ashlar_backup":1,"made":…,"config":{…},"state":[…],"disks":[…],"groups":[…],"blobs":[…]}\n
//!   crc32c 9a8b7c6d\n
//! ```
//!
//! docs/formats/backup.md has every member. Bytes are kept once, in `blobs`: members of a group have the same text.
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use lvol::backup::{Area, Copies, DiskCopy, GroupText};
use lvol::plan::Bytes;
use lvol::plan::journal::{Entry, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use target::keep;

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// The longest file that is read or written.
pub const FILE_MAX: u64 = 512 << 20;
/// Of what was planned and archived the newest is kept, up to this many bytes.
const STATE_MAX: u64 = 16 << 20;
/// No file of the state directory is longer.
const STATE_FILE_MAX: u64 = 8 << 20;
/// How every such file begins.
const START: &[u8] = b"{\"ashlar_backup\":";

/// Why a file cannot be used, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system says no.
    #[error("{path}: {why}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it says.
        why: io::Error,
    },
    /// What it holds is not a backup, or not all of one.
    #[error("{path}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In words.
        why: String,
    },
    /// There is something else in the place where it is to go.
    #[error("{path} {why}")]
    Taken {
        /// The place.
        path: PathBuf,
        /// In words.
        why: String,
    },
}

/// A file of the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// Its path in the state directory.
    pub path: String,
    /// What is in it.
    pub bytes: Bytes,
}

/// A backup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backup {
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// The machine it was made on.
    pub host: String,
    /// The version of the program that has made it.
    pub by: String,
    /// The running state in the schema of the configuration file.
    pub config: config::Config,
    /// Reservations, plans and archived texts.
    pub state: Vec<StateFile>,
    /// What is on disks besides data.
    pub copies: Copies,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ashlar_backup: u32,
    made: u64,
    host: String,
    by: String,
    config: Value,
    state: Vec<StateFile>,
    disks: Vec<Disk>,
    groups: Vec<GroupText>,
    notes: Vec<String>,
    blobs: Vec<Bytes>,
}

#[derive(Serialize, Deserialize)]
struct Disk {
    #[serde(flatten)]
    copy: Value,
    areas: Vec<Place>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    offset: u64,
    length: u64,
    /// Which of the blobs.
    blob: usize,
}

/// What is asked first.
#[derive(Deserialize)]
struct Versioned {
    ashlar_backup: u32,
}

impl Backup {
    /// The bytes of a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut numbers: HashMap<&[u8], usize> = HashMap::new();
        let mut blobs: Vec<Bytes> = Vec::new();
        let mut disks = Vec::with_capacity(self.copies.disks.len());
        for disk in &self.copies.disks {
            let areas = disk.areas.iter().map(|area| Place {
                offset: area.offset,
                length: area.length,
                blob: *numbers.entry(&area.bytes.0).or_insert_with(|| {
                    blobs.push(area.bytes.clone());
                    blobs.len() - 1
                }),
            });
            let areas = areas.collect();
            let bare = DiskCopy {
                areas: Vec::new(),
                ..bare(disk)
            };
            let copy = serde_json::to_value(bare).map_err(|why| why.to_string())?;
            disks.push(Disk { copy, areas });
        }
        let file = File {
            ashlar_backup: VERSION,
            made: self.made,
            host: self.host.clone(),
            by: self.by.clone(),
            config: serde_json::to_value(&self.config).map_err(|why| why.to_string())?,
            state: self.state.clone(),
            disks,
            groups: self.copies.groups.clone(),
            notes: self.copies.notes.clone(),
            blobs,
        };
        let body = serde_json::to_vec(&file).map_err(|why| why.to_string())?;
        Ok(keep::seal(&body))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) made, or says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(START) {
            return Err("this is no backup of Ashlar's".into());
        }
        let body = keep::unseal(bytes).map_err(|why| match bytes.last() {
            // The last line is the checksum, and nothing else of the file is a line.
            Some(b'\n') => format!("{why}: it was changed, or cut short, after it had been written"),
            _ => "it does not end in its checksum: it was cut short".into(),
        })?;
        let bad = |why: serde_json::Error| format!("it cannot be read: {why}");
        let versioned: Versioned = serde_json::from_slice(body).map_err(bad)?;
        if versioned.ashlar_backup != VERSION {
            return Err(format!(
                "its version is {}, and this program reads version {VERSION}",
                versioned.ashlar_backup
            ));
        }
        let file: File = serde_json::from_slice(body).map_err(bad)?;
        let mut left = lvol::backup::BYTES_MAX;
        let mut disks = Vec::with_capacity(file.disks.len());
        for disk in file.disks {
            let mut copy: DiskCopy = serde_json::from_value(disk.copy).map_err(bad)?;
            for place in disk.areas {
                let blob = file.blobs.get(place.blob);
                let blob = blob.ok_or_else(|| format!("{:?} wants bytes that are not in it", copy.name))?;
                // One blob may be meant many times.
                left = left
                    .checked_sub(blob.0.len() as u64)
                    .ok_or("it has more metadata than any machine")?;
                copy.areas.push(Area {
                    offset: place.offset,
                    length: place.length,
                    bytes: blob.clone(),
                });
            }
            disks.push(copy);
        }
        for file in &file.state {
            if !is_state(&file.path) {
                return Err(format!("{:?} is no file of a state directory that is kept", file.path));
            }
        }
        Ok(Self {
            made: file.made,
            host: file.host,
            by: file.by,
            config: serde_json::from_value(file.config).map_err(bad)?,
            state: file.state,
            copies: Copies {
                disks,
                groups: file.groups,
                notes: file.notes,
            },
        })
    }

    /// Reads a file. Blocks.
    pub fn load(path: &Path) -> Result<Self, BackupError> {
        let io = |why| BackupError::Io { path: path.into(), why };
        let damaged = |why: String| BackupError::Damaged { path: path.into(), why };
        let mut file = fs::File::open(path).map_err(io)?;
        let mut start = [0; START.len()];
        let known = file.read_exact(&mut start).is_ok() && start == START;
        if !known {
            return Err(damaged("this is no backup of Ashlar's".into()));
        }
        let length = file.metadata().map_err(io)?.len();
        if length > FILE_MAX {
            return Err(damaged(format!("{length} bytes are more than any backup has")));
        }
        let mut bytes = start.to_vec();
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(io)?;
        Self::parse(&bytes).map_err(damaged)
    }

    /// Writes a file that only its owner may read, in place of an older backup if there is one. It is on stable storage when this returns. Blocks.
    pub fn save(&self, path: &Path) -> Result<u64, BackupError> {
        let io = |why| BackupError::Io { path: path.into(), why };
        let taken = |why: &str| BackupError::Taken {
            path: path.into(),
            why: why.into(),
        };
        match fs::symlink_metadata(path) {
            Err(why) if why.kind() == ErrorKind::NotFound => {}
            Err(why) => return Err(io(why)),
            Ok(there) if !there.is_file() => return Err(taken("is there already and is no file")),
            Ok(_) => {
                let mut start = Vec::new();
                let file = fs::File::open(path).map_err(io)?;
                file.take(START.len() as u64).read_to_end(&mut start).map_err(io)?;
                if start != START {
                    return Err(taken("is there already and is no backup; give it another name"));
                }
            }
        }
        let bytes = self
            .to_bytes()
            .map_err(|why| BackupError::Damaged { path: path.into(), why })?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(taken("would be longer than any backup that is read"));
        }
        keep::put(path, &bytes).map_err(io)?;
        Ok(bytes.len() as u64)
    }

    /// Puts what was kept of the state directory into one that has nothing of the kind. Blocks. No target may be running over it: it would have its
    /// own idea of what is there.
    pub fn restore_state(&self, state: &Path) -> Result<usize, BackupError> {
        for folder in FOLDERS {
            let folder = state.join(folder.0);
            let first = match fs::read_dir(&folder) {
                Ok(mut files) => files.next(),
                Err(why) if why.kind() == ErrorKind::NotFound => None,
                Err(why) => return Err(BackupError::Io { path: folder, why }),
            };
            if first.is_some() {
                return Err(BackupError::Taken {
                    path: folder,
                    why: "is not empty; a target has been at work here, and what it knows counts. Give an empty state directory".into(),
                });
            }
        }
        for file in &self.state {
            let path = state.join(&file.path);
            let put = || {
                if let Some(folder) = file.path.split('/').next() {
                    keep::folder(state, folder)?;
                }
                keep::put(&path, &file.bytes.0)
            };
            fs::create_dir_all(state)
                .and_then(|()| put())
                .map_err(|why| BackupError::Io {
                    path: path.clone(),
                    why,
                })?;
        }
        Ok(self.state.len())
    }
}

/// The same without bytes.
fn bare(disk: &DiskCopy) -> DiskCopy {
    DiskCopy {
        name: disk.name.clone(),
        uuid: disk.uuid,
        blocks: disk.blocks,
        block_size: disk.block_size,
        product: disk.product.clone(),
        path: disk.path.clone(),
        wwid: disk.wwid.clone(),
        serial: disk.serial.clone(),
        on: disk.on.clone(),
        format: disk.format.clone(),
        was: disk.was.clone(),
        areas: Vec::new(),
    }
}

/// What is kept of a state directory: folders, and how files in them end. A sanitize that is under way is not: put back, it would begin to wipe a
/// volume that was well meanwhile.
const FOLDERS: [(&str, &str); 3] = [("reservations", ".json"), ("plans", ".json"), ("archive", ".vg")];

/// True for a path that leads into one of these folders and nowhere else.
fn is_state(path: &str) -> bool {
    let Some((folder, name)) = path.split_once('/') else {
        return false;
    };
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']) && name.len() < 256;
    plain
        && FOLDERS
            .iter()
            .any(|(known, end)| *known == folder && name.ends_with(end))
}

/// What is kept of a state directory. Blocks.
pub fn state_of(state: &Path) -> Result<Vec<StateFile>, BackupError> {
    let mut found = Vec::new();
    for (folder, _) in FOLDERS {
        let place = state.join(folder);
        let io = |why| BackupError::Io {
            path: place.clone(),
            why,
        };
        let files = match fs::read_dir(&place) {
            Ok(files) => files,
            Err(why) if why.kind() == ErrorKind::NotFound => continue,
            Err(why) => return Err(io(why)),
        };
        let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
        for file in files {
            let file = file.map_err(io)?;
            if let Ok(name) = file.file_name().into_string() {
                names.insert(format!("{folder}/{name}"), file.path());
            }
        }
        let mut left = STATE_MAX;
        // The newest plans have the highest numbers, and the newest texts of a group too.
        for (path, file) in names.into_iter().rev().filter(|(path, _)| is_state(path)) {
            let bytes = match fs::metadata(&file) {
                Ok(about) if about.len() > STATE_FILE_MAX => continue,
                Ok(_) => fs::read(&file),
                Err(why) => Err(why),
            };
            let bytes = match bytes {
                Ok(bytes) => bytes,
                // Taken away since by whoever it belongs to.
                Err(why) if why.kind() == ErrorKind::NotFound => continue,
                Err(why) => return Err(BackupError::Io { path: file, why }),
            };
            // One that is under way is finished where it was begun, or not at all.
            let open = |entry: Entry| entry.state == State::Open;
            if folder == "plans" && serde_json::from_slice(&bytes).is_ok_and(open) {
                continue;
            }
            let enough = folder != "reservations" && bytes.len() as u64 > left;
            if enough {
                break;
            }
            left = left.saturating_sub(bytes.len() as u64);
            found.push(StateFile {
                path,
                bytes: Bytes(bytes),
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
