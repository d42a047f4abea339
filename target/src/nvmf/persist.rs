//! Where reservations that outlive a power loss are kept (PTPL; Base 2.0d, 8.19.4): one small file for each namespace.
//!
//! ```text
//!   {state directory}/reservations/nvme-{id}.json     {"version":1,"subsystem":…,"namespace":…,"registrants":[…],"held":…}
//!                                                     crc32c 9a8b7c6d
//! ```
//!
//! `{id}` is made of the subsystem's NQN and the namespace's UUID; whoever adds the namespace may name another file (SPDK's
//! `ptpl_file`). [`crate::keep`] puts it there before the host gets its status. A file that cannot be read was damaged from
//! outside: hosts it kept out must stay out, so the namespace comes up with an exclusive access reservation of all registrants,
//! of whom there are none. Hosts register and go on, and a registered host's Clear lets everybody in.
use super::reservation::{HostId, Reservations};
use crate::keep::{self, Writer};
use serde::{Deserialize, Serialize};
use spec::nvme::reservation::ReservationType;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    subsystem: String,
    namespace: Uuid,
    registrants: Vec<Registrant>,
    held: Option<Holding>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registrant {
    host: Uuid,
    key: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holding {
    by: Uuid,
    kind: u8,
}

/// What is believed of a file that cannot be read; see above.
pub fn closed() -> Reservations {
    Reservations {
        persists: true,
        held: Some((ReservationType::ExclusiveAccessAllRegistrants, HostId::default())),
        ..Reservations::default()
    }
}

/// The folder of a target, and the thread that writes; both come when they are needed.
#[derive(Debug, Default)]
pub struct Keeper {
    folder: OnceLock<PathBuf>,
    writer: OnceLock<Writer>,
}

impl Keeper {
    /// From now on namespaces that are added have a file below this folder.
    pub fn keep_in(&self, state_dir: &Path) -> io::Result<()> {
        // The first folder counts.
        let _ = self.folder.set(keep::folder(state_dir, "reservations")?);
        Ok(())
    }

    /// The file of a namespace: the one that is named, or one in the folder; none without both.
    pub fn file(&self, named: Option<&str>, nqn: &str, namespace: Uuid) -> io::Result<Option<Kept>> {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{nqn} {namespace}").as_bytes()).simple();
        let in_folder = || self.folder.get().map(|folder| folder.join(format!("nvme-{id}.json")));
        let Some(path) = named.map(PathBuf::from).or_else(in_folder) else {
            return Ok(None);
        };
        let writer = match self.writer.get() {
            Some(writer) => writer.clone(),
            None => {
                let new = Writer::start("reservations")?;
                self.writer.get_or_init(|| new).clone()
            }
        };
        Ok(Some(Kept {
            path,
            nqn: nqn.into(),
            namespace,
            writer,
            there: Mutex::new(None),
        }))
    }
}

/// The file of one namespace.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    nqn: String,
    namespace: Uuid,
    writer: Writer,
    /// Whether there is a file; `None` if that is not sure.
    there: Mutex<Option<bool>>,
}

/// Why a file was not read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// It says that it is of another namespace.
    Foreign(String),
    /// It is damaged, or not one of ours.
    Damaged(String),
}

impl Kept {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn note(&self, there: Option<bool>) {
        *self.there.lock().unwrap_or_else(PoisonError::into_inner) = there;
    }

    /// What it says; nothing if there is none. Blocks; for control threads.
    pub fn load(&self) -> Result<Option<Reservations>, Unread> {
        let body = keep::load(&self.path).map_err(Unread::Damaged)?;
        self.note(Some(body.is_some()));
        body.map(|body| self.decode(&body)).transpose()
    }

    /// Makes it say `next`, or be gone, before it returns; nothing is written where nothing of it has changed.
    pub async fn save(&self, before: &Reservations, next: &Reservations) -> io::Result<()> {
        let there = *self.there.lock().unwrap_or_else(PoisonError::into_inner);
        let same = (&before.registrants, &before.held) == (&next.registrants, &next.held);
        if there == Some(next.persists) && (same || !next.persists) {
            return Ok(());
        }
        let body = next.persists.then(|| self.encode(next));
        let saved = self.writer.save(&self.path, body.as_deref()).await;
        self.note(saved.is_ok().then_some(next.persists));
        saved
    }

    /// The generation is not kept: it counts since the start.
    fn encode(&self, state: &Reservations) -> Vec<u8> {
        let document = Document {
            version: 1,
            subsystem: self.nqn.clone(),
            namespace: self.namespace,
            registrants: state
                .registrants
                .iter()
                .map(|(host, &key)| Registrant {
                    host: Uuid::from_bytes(*host),
                    key,
                })
                .collect(),
            held: state.held.map(|(kind, by)| Holding {
                by: Uuid::from_bytes(by),
                kind: kind as u8,
            }),
        };
        // Numbers and text cannot fail to become JSON.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    fn decode(&self, body: &[u8]) -> Result<Reservations, Unread> {
        let damaged = |why: String| Unread::Damaged(why);
        let document: Document = serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))?;
        if document.version != 1 {
            return Err(damaged(format!("its version is {} and not 1", document.version)));
        }
        if (&document.subsystem, document.namespace) != (&self.nqn, self.namespace) {
            let whose = format!("namespace {} of '{}'", document.namespace, document.subsystem);
            return Err(Unread::Foreign(whose));
        }
        let mut state = Reservations {
            persists: true,
            ..Reservations::default()
        };
        for one in document.registrants {
            state.registrants.insert(one.host.into_bytes(), one.key);
        }
        if let Some(Holding { by, kind }) = document.held {
            let kind = ReservationType::of(kind).ok_or_else(|| damaged(format!("there is no type {kind}")))?;
            let by = by.into_bytes();
            if !kind.all_registrants() && !state.registrants.contains_key(&by) {
                return Err(damaged("its holder is not registered".into()));
            }
            state.held = Some((kind, by));
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::{Step, beside, replace, seal};

    const NQN: &str = "nqn.2026-11.io.ashlar:t";

    fn kept(dir: &Path) -> Kept {
        let keeper = Keeper::default();
        keeper.keep_in(dir).unwrap();
        keeper.file(None, NQN, Uuid::from_u128(5)).unwrap().unwrap()
    }

    fn state(hosts: u8) -> Reservations {
        Reservations {
            generation: 0,
            registrants: (1..=hosts).map(|n| ([n; 16], u64::MAX - u64::from(n))).collect(),
            held: Some((ReservationType::ExclusiveAccessRegistrantsOnly, [1; 16])),
            persists: true,
        }
    }

    #[test]
    fn a_file_has_its_golden_bytes_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let kept = kept(dir.path());
        let body = kept.encode(&state(1));
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            "{\"version\":1,\"subsystem\":\"nqn.2026-11.io.ashlar:t\",\"namespace\":\"00000000-0000-0000-0000-000000000005\",\
             \"registrants\":[{\"host\":\"01010101-0101-0101-0101-010101010101\",\"key\":18446744073709551614}],\
             \"held\":{\"by\":\"01010101-0101-0101-0101-010101010101\",\"kind\":4}}"
        );
        for kind in ReservationType::ALL {
            let mut state = state(3);
            state.held = Some((kind, [2; 16]));
            assert_eq!(kept.decode(&kept.encode(&state)), Ok(state));
        }
        let other = Keeper::default()
            .file(Some("/nowhere"), NQN, Uuid::from_u128(6))
            .unwrap();
        let foreign = other.unwrap().decode(&body);
        assert!(matches!(foreign, Err(Unread::Foreign(_))), "{foreign:?}");
        let mut lonely = state(1);
        lonely.held = Some((ReservationType::WriteExclusive, [9; 16]));
        assert!(matches!(kept.decode(&kept.encode(&lonely)), Err(Unread::Damaged(_))));
    }

    /// The power is cut at each step of each change of a life: what is found is the state before that change or after it.
    #[test]
    fn power_cuts_leave_the_old_state_or_the_new() {
        let life: Vec<Reservations> = (0..4)
            .map(|n| Reservations { held: None, ..state(n) })
            .chain([state(3), state(2)])
            .collect();
        for (cut, pair) in life.windows(2).enumerate() {
            for step in [Step::Written, Step::Synced, Step::Renamed, Step::Done] {
                let dir = tempfile::tempdir().unwrap();
                let kept = kept(dir.path());
                replace(kept.path(), &seal(&kept.encode(&pair[0])), Step::Done).unwrap();
                replace(kept.path(), &seal(&kept.encode(&pair[1])), step).unwrap();
                if step == Step::Written {
                    // Not synced: anything may be there, or nothing.
                    std::fs::write(beside(kept.path()), [0; 7]).unwrap();
                }
                let found = kept.load().unwrap().unwrap();
                let expected = if step < Step::Renamed { &pair[0] } else { &pair[1] };
                assert_eq!(&found, expected, "change {cut}, {step:?}");
            }
        }
    }

    #[test]
    fn every_damaged_byte_is_found_and_nobody_gets_in() {
        use super::super::reservation::Access;
        let dir = tempfile::tempdir().unwrap();
        let kept = kept(dir.path());
        let bytes = seal(&kept.encode(&state(2)));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            std::fs::write(kept.path(), &damaged).unwrap();
            assert!(matches!(kept.load(), Err(Unread::Damaged(_))), "byte {at}");
        }
        let mut closed = closed();
        let stranger = [7; 16];
        assert!(!closed.allows(&stranger, Access::Read) && !closed.holds(&stranger));
        closed.registrants.insert(stranger, 1);
        assert!(closed.allows(&stranger, Access::Write));
    }
}
