//! What the caretaker must not forget: when arrays were scrubbed last and with what result, and which spare was on its way from one array to another.
use super::schedule::Past;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};
use target::keep;
use uuid::Uuid;

/// Arrays that are remembered. Those that were not scrubbed for the longest time are forgotten first.
const KEPT: usize = 4096;

/// A spare that was taken out of one array for another, and is in neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moving {
    pub disk: String,
    pub from: String,
    pub to: String,
}

impl Moving {
    /// What somebody should know who finds it in the book of an earlier life.
    pub fn lost(&self) -> String {
        let Self { disk, from, to } = self;
        format!(
            "the spare {disk} was on its way from {from} to {to} when the target ended. If it is blank now it is in neither: \
             `ashlar do raid-add {to} disks={disk}` gives it to the one that lacked a member"
        )
    }
}

/// The book.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Book {
    /// Scrubs by the arrays' identities: names may change.
    pub scrubs: BTreeMap<Uuid, Past>,
    /// The spare that is moved.
    pub moving: Option<Moving>,
}

impl Book {
    /// Where it is in a state directory.
    pub fn path(state: &Path) -> PathBuf {
        state.join("arrays")
    }

    /// The one of an earlier life; an empty one if there was none. Says in words why it cannot be read. Blocks.
    pub fn read(path: &Path) -> Result<Self, String> {
        match keep::load(path)? {
            Some(body) => serde_json::from_slice(&body).map_err(|why| why.to_string()),
            None => Ok(Self::default()),
        }
    }

    /// Is on stable storage when this returns. Blocks.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        keep::put(path, &keep::seal(&serde_json::to_vec(self)?))
    }

    /// Keeps it from growing for ever.
    pub fn trim(&mut self) {
        let age = |past: &Past| past.last.map_or(past.since, |last| last.began);
        while self.scrubs.len() > KEPT {
            let oldest = self.scrubs.iter().min_by_key(|(_, past)| age(past)).map(|(id, _)| *id);
            oldest.map(|id| self.scrubs.remove(&id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caretaker::schedule::Scrubbed;

    #[test]
    fn what_is_written_is_read_again_and_what_is_damaged_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Book::path(folder.path());
        assert_eq!(Book::read(&path), Ok(Book::default()));
        let last = Scrubbed {
            began: 5,
            took: 6,
            repair: true,
            mismatched_bytes: 7,
            unreadable_bytes: 8,
            cancelled: false,
        };
        let past = Past {
            since: 1,
            last: Some(last),
            under_way: None,
        };
        let moving = Moving {
            disk: "s".into(),
            from: "md/a".into(),
            to: "md/b".into(),
        };
        let book = Book {
            scrubs: BTreeMap::from([(Uuid::from_u128(1), past)]),
            moving: Some(moving),
        };
        book.write(&path).expect("written");
        let read = Book::read(&path).expect("readable");
        assert_eq!(read, book);
        let told = read.moving.expect("it was on its way").lost();
        assert!(told.contains("`ashlar do raid-add md/b disks=s`"), "{told}");
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(Book::read(&path).is_err_and(|why| why.contains("checksum")));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut book = Book::default();
        for at in 0..KEPT as u64 + 3 {
            let past = Past {
                since: at,
                last: None,
                under_way: None,
            };
            book.scrubs.insert(Uuid::from_u128(u128::MAX - u128::from(at)), past);
        }
        book.trim();
        assert_eq!(book.scrubs.len(), KEPT);
        assert_eq!(book.scrubs.values().map(|past| past.since).min(), Some(3));
    }
}
