//! What was planned, carried out and taken back: one file for each plan in the state directory, the newest 200.
//!
//! ```text
//!   {state directory}/plans/000017.json        {"version":1,"state":"done","plan":{…}}
//!   {state directory}/archive/GROUP_000041.vg  the group's text before change 42, as LVM2 would have archived it
//! ```
//!
//! A plan that needs an intent is on stable storage as `open` before its first write, and is finished after a crash ([`carry`](super::carry)). A file
//! is written beside the old one, synced and renamed; so is the archive of a text.
use super::{Archived, Plan};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Plans that are kept.
const PLANS_MAX: u64 = 200;
/// Texts of one group that are kept.
const TEXTS_MAX: usize = 100;
/// A plan that needs no intent and writes more than this is kept without its bytes.
const BYTES_MAX: u64 = 1 << 20;

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was begun. After a crash it is finished.
    Open,
    /// It was carried out.
    Done,
    /// It was carried out and taken back since.
    Undone,
    /// It was not carried out, or not whole, and nobody will go on with it: why.
    Failed(String),
}

/// A plan that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    version: u32,
    /// Its number.
    #[serde(default)]
    pub number: u64,
    /// What became of it.
    pub state: State,
    /// Its bytes were too many to keep.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abridged: bool,
    /// The plan.
    pub plan: Plan,
}

/// The folder.
#[derive(Debug)]
pub struct Journal {
    plans: PathBuf,
    texts: PathBuf,
    next: AtomicU64,
    /// Plans that are open, as far as this process knows.
    open: Mutex<BTreeSet<u64>>,
}

impl Journal {
    /// The journal below a state directory.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let (plans, texts) = (state_dir.join("plans"), state_dir.join("archive"));
        fs::create_dir_all(&plans)?;
        fs::create_dir_all(&texts)?;
        let last = numbers(&plans)?.last().copied().unwrap_or_default();
        let journal = Self {
            plans,
            texts,
            next: AtomicU64::new(last + 1),
            open: Mutex::default(),
        };
        let entries = journal.entries().into_iter();
        let open = entries
            .filter(|entry| entry.state == State::Open)
            .map(|entry| entry.number);
        journal.opened().extend(open);
        Ok(journal)
    }

    fn opened(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a plan was begun and not ended.
    pub fn has_open(&self) -> bool {
        !self.opened().is_empty()
    }

    /// Writes a plan down before it begins.
    pub fn begin(&self, plan: &Plan) -> io::Result<Entry> {
        let abridged = !plan.intent && plan.bytes() > BYTES_MAX;
        for text in &plan.archive {
            self.archive(text)?;
        }
        // A plan of many bytes is not copied with them.
        let plan = Plan {
            request: plan.request.clone(),
            stamp: plan.stamp.clone(),
            summary: plan.summary.clone(),
            warnings: plan.warnings.clone(),
            disks: plan.disks.clone(),
            releases: plan.releases.clone(),
            steps: if abridged { Vec::new() } else { plan.steps.clone() },
            intent: plan.intent,
            undo: plan.undo.clone(),
            archive: Vec::new(),
        };
        let entry = Entry {
            version: 1,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            state: State::Open,
            abridged,
            plan,
        };
        self.put(&entry)?;
        self.opened().insert(entry.number);
        Ok(entry)
    }

    /// Writes down what became of it.
    pub fn end(&self, mut entry: Entry, state: State) -> io::Result<()> {
        entry.state = state;
        self.put(&entry)?;
        self.opened().remove(&entry.number);
        let numbers = numbers(&self.plans)?;
        for number in &numbers[..numbers.len().saturating_sub(PLANS_MAX as usize)] {
            // One that is open is not done with.
            if self.entry(*number).is_ok_and(|entry| entry.state != State::Open) {
                fs::remove_file(self.path(*number))?;
            }
        }
        Ok(())
    }

    /// Every plan that is kept, oldest first. A file that cannot be read is left out, with a warning.
    pub fn entries(&self) -> Vec<Entry> {
        let numbers = numbers(&self.plans).unwrap_or_default();
        let read = numbers.into_iter().map(|number| (number, self.entry(number)));
        read.filter_map(|(number, entry)| match entry {
            Ok(entry) => Some(entry),
            Err(why) => {
                tracing::warn!(plan = number, %why, "a plan that was kept cannot be read");
                None
            }
        })
        .collect()
    }

    /// One plan.
    pub fn entry(&self, number: u64) -> io::Result<Entry> {
        let bytes = fs::read(self.path(number))?;
        let mut entry: Entry = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
        entry.number = number;
        Ok(entry)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.plans.join(format!("{number:06}.json"))
    }

    fn put(&self, entry: &Entry) -> io::Result<()> {
        let bytes = serde_json::to_vec(entry).map_err(io::Error::other)?;
        replace(&self.path(entry.number), &bytes)
    }

    fn archive(&self, text: &Archived) -> io::Result<()> {
        replace(&self.text(&text.group, text.seqno), &text.text.0)?;
        let kept = self.archived_of(&text.group)?;
        for seqno in &kept[..kept.len().saturating_sub(TEXTS_MAX)] {
            fs::remove_file(self.text(&text.group, *seqno))?;
        }
        Ok(())
    }

    fn text(&self, group: &str, seqno: u64) -> PathBuf {
        self.texts.join(format!("{group}_{seqno:06}.vg"))
    }

    /// The text of a group at the change of this number, if it was archived.
    pub fn archived(&self, group: &str, seqno: u64) -> Option<Vec<u8>> {
        // A name that leads elsewhere is no group's.
        if !spec::lvm2::vg::is_name(group) {
            return None;
        }
        fs::read(self.text(group, seqno)).ok()
    }

    /// The changes of a group whose texts are kept, oldest first.
    pub fn archived_of(&self, group: &str) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.texts)? {
            let name = file?.file_name();
            let number: Option<u64> = name.to_str().and_then(|name| {
                let rest = name.strip_prefix(group)?.strip_prefix('_')?.strip_suffix(".vg")?;
                rest.parse().ok()
            });
            found.extend(number);
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// Writes a file such that after a power cut there is the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
