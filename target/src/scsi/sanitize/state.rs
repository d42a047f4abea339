//! How far the sanitize of a volume is, for whoever reaches the volume through whatever unit, and what of it outlives the process.
use super::keep::Kept;
use crate::keep::{self, Writer};
use spec::scsi::Sense;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use uuid::Uuid;

/// The folder of the files, and who writes them.
#[derive(Clone, Debug)]
struct Store {
    folder: PathBuf,
    writer: Writer,
}

impl Store {
    fn path(&self, volume: Uuid) -> PathBuf {
        self.folder.join(format!("{}.json", volume.simple()))
    }
}

/// Whether an operation is under way, or has failed. One word that every command looks at.
#[derive(Debug)]
pub struct Sanitization {
    volume: Uuid,
    word: AtomicU32,
    store: Option<Store>,
    /// What the last process left unfinished.
    unfinished: Mutex<Option<Kept>>,
    /// Beginning and leaving, one at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

pub(super) const IDLE: u32 = 0;
/// With the progress in the lower half: 65,536ths.
const RUNNING: u32 = 1 << 16;
const FAILED: u32 = 2 << 16;
/// Failed, and EXIT FAILURE MODE will do.
const FAILED_UNRESTRICTED: u32 = 3 << 16;
const KIND: u32 = 0xffff_0000;

const fn failed(unrestricted_exit: bool) -> u32 {
    match unrestricted_exit {
        true => FAILED_UNRESTRICTED,
        false => FAILED,
    }
}

impl Sanitization {
    fn new(volume: Uuid, store: Option<Store>, word: u32, unfinished: Option<Kept>) -> Arc<Self> {
        Arc::new(Self {
            volume,
            word: AtomicU32::new(word),
            store,
            unfinished: Mutex::new(unfinished),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Of a volume nobody sanitizes, and of which nothing is kept.
    pub fn volatile(volume: Uuid) -> Arc<Self> {
        Self::new(volume, None, IDLE, None)
    }

    /// As the last process left it. Blocks; for control threads.
    fn kept(volume: Uuid, store: &Store) -> Arc<Self> {
        let found = keep::load(&store.path(volume));
        let (word, unfinished) = match found.and_then(|body| body.as_deref().map(Kept::decode).transpose()) {
            Ok(None) => (IDLE, None),
            Ok(Some(kept)) if kept.failed => (failed(kept.unrestricted_exit), None),
            Ok(Some(kept)) => (RUNNING, Some(kept)),
            Err(why) => {
                let path = store.path(volume);
                tracing::error!(
                    "volume {volume}: {} says that it was being sanitized, but cannot be read: {why}. The unit stays unusable until \
                     it is sanitized (sg_sanitize), or the file is removed and Ashlar restarted",
                    path.display()
                );
                (FAILED, None)
            }
        };
        Self::new(volume, Some(store.clone()), word, unfinished)
    }

    /// Why a unit of the volume does nothing else just now.
    pub fn sense(&self) -> Option<Sense> {
        let now = self.word.load(Relaxed);
        match now & KIND {
            IDLE => None,
            RUNNING => Some(Sense::SANITIZING.with_progress(now as u16)),
            _ => Some(Sense::SANITIZE_FAILED),
        }
    }

    /// An operation is under way.
    pub fn is_running(&self) -> bool {
        self.word.load(Relaxed) & KIND == RUNNING
    }

    /// What is to be gone on with. Whoever takes it does it.
    pub(super) fn take_unfinished(&self) -> Option<Kept> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// From idle or failed to running, and what it was. `None`: it runs already.
    pub(super) fn begin(&self) -> Option<u32> {
        let start = |now| (now & KIND != RUNNING).then_some(RUNNING);
        self.word.fetch_update(Relaxed, Relaxed, start).ok()
    }

    /// It did not begin after all.
    pub(super) fn restore(&self, word: u32) {
        self.word.store(word, Relaxed)
    }

    pub(super) fn progress(&self, done: u64, all: u64) {
        let part = u128::from(done) * 0xffff / u128::from(all.max(1));
        self.word.store(RUNNING | part.min(0xffff) as u32, Relaxed)
    }

    pub(super) fn end(&self, well: bool, unrestricted_exit: bool) {
        self.word
            .store(if well { IDLE } else { failed(unrestricted_exit) }, Relaxed)
    }

    /// It has failed, and the one that failed allowed EXIT FAILURE MODE.
    pub(super) fn may_exit(&self) -> bool {
        matches!(self.word.load(Relaxed), IDLE | FAILED_UNRESTRICTED)
    }

    /// Makes the file say so, or be gone, on stable storage. `Err` has been told already.
    pub(super) async fn keep(&self, kept: Option<&Kept>) -> io::Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let (path, body) = (store.path(self.volume), kept.map(Kept::encode));
        let done = store.writer.save(&path, body.as_deref()).await;
        if let Err(error) = &done {
            tracing::error!(
                "what is to be kept of a sanitize cannot be kept in {}: {error}",
                path.display()
            );
        }
        done
    }
}

/// The sanitizations of all volumes, by UUID.
#[derive(Debug, Default)]
pub struct Registry {
    store: OnceLock<Store>,
    volumes: Mutex<BTreeMap<Uuid, Weak<Sanitization>>>,
}

impl Registry {
    /// From now on what is under way is kept below this folder. To be called before there are units.
    pub fn keep_in(&self, state_dir: &Path) -> io::Result<()> {
        let store = Store {
            folder: keep::folder(state_dir, "sanitize")?,
            writer: Writer::start("sanitize")?,
        };
        // The first folder counts.
        let _ = self.store.set(store);
        Ok(())
    }

    /// That of a volume. Blocks; for control threads.
    pub fn of(&self, volume: Uuid) -> Arc<Sanitization> {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        volumes.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = volumes.get(&volume).and_then(Weak::upgrade) {
            return known;
        }
        let new = match self.store.get() {
            Some(store) => Sanitization::kept(volume, store),
            None => Sanitization::volatile(volume),
        };
        volumes.insert(volume, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Job, *};

    /// The next process.
    fn registry(dir: &Path) -> Registry {
        let registry = Registry::default();
        registry.keep_in(dir).unwrap();
        registry
    }

    fn job() -> Job {
        Job::Overwrite {
            passes: 1,
            invert: false,
            pattern: vec![0],
            done: 0,
        }
    }

    #[tokio::test]
    async fn a_restart_finds_what_was_under_way_what_failed_and_what_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Uuid::from_u128(7);
        let of = || registry(dir.path()).of(volume);
        let first = of();
        assert_eq!((first.sense(), first.begin()), (None, Some(IDLE)));
        let running = Kept::running(job(), true);
        first.keep(Some(&running)).await.unwrap();

        let second = of();
        assert_eq!(second.sense(), Some(Sense::SANITIZING.with_progress(0)));
        assert_eq!(
            (second.take_unfinished(), second.take_unfinished()),
            (Some(running.clone()), None)
        );
        let mut failed = running;
        failed.failed = true;
        second.keep(Some(&failed)).await.unwrap();

        let third = of();
        assert_eq!(
            (third.sense(), third.take_unfinished()),
            (Some(Sense::SANITIZE_FAILED), None)
        );
        assert!(third.may_exit(), "it was begun with AUSE");
        failed.unrestricted_exit = false;
        third.keep(Some(&failed)).await.unwrap();
        assert!(!of().may_exit());

        third.keep(None).await.unwrap();
        assert_eq!(of().sense(), None);
    }

    #[test]
    fn a_damaged_file_closes_the_unit() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Uuid::from_u128(8);
        let path = registry(dir.path()).store.get().unwrap().path(volume);
        std::fs::write(&path, b"{}\ncrc32c 00000000\n").unwrap();
        let found = registry(dir.path()).of(volume);
        assert_eq!((found.sense(), found.may_exit()), (Some(Sense::SANITIZE_FAILED), false));
        assert_eq!(found.take_unfinished(), None);
    }

    #[test]
    fn units_of_one_volume_share_it() {
        let registry = Registry::default();
        let (one, other) = (registry.of(Uuid::from_u128(1)), registry.of(Uuid::from_u128(1)));
        one.begin();
        assert!(other.is_running() && !registry.of(Uuid::from_u128(2)).is_running());
        one.progress(1, 2);
        assert_eq!(other.sense(), Some(Sense::SANITIZING.with_progress(0x7fff)));
    }
}
