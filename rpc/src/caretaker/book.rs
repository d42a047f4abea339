//! What the caretaker must not forget: when arrays were scrubbed last and with what result, and which spare was on its way from one array to another.
use super::schedule::Past;
use lvol::Verdict;
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
    /// How long the disk is: another of the same name is left alone.
    #[serde(default)]
    pub blocks: u64,
}

/// What becomes of one that an earlier life has left on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is with an array.
    Over,
    /// It is not what it was, or did not come in time: whoever has replaced it did not mean to give it to an array.
    LeftAlone,
    /// The disk, or an array that could take it, is not there yet.
    Wait,
    /// It goes where it was going.
    Give,
    /// Nothing is lacking there any more: it goes back.
    GiveBack,
}

impl Moving {
    /// What is left to do: `disk` is what discovery says of it and how long it is, then how many members the arrays lack where it goes and where it
    /// comes from, if they run. `late`: whoever is not there by now does not come.
    pub fn rest(&self, disk: Option<(Verdict, u64)>, to: Option<usize>, from: Option<usize>, late: bool) -> Rest {
        let wait = if late { Rest::LeftAlone } else { Rest::Wait };
        match disk {
            None | Some((Verdict::Missing | Verdict::Unreadable | Verdict::Unexamined, _)) => return wait,
            Some((Verdict::New, blocks)) if blocks == self.blocks => (),
            Some((Verdict::Claimed, _)) => return Rest::Over,
            Some(_) => return Rest::LeftAlone,
        }
        match (to, from) {
            (Some(1..), _) => Rest::Give,
            (Some(0), Some(_)) => Rest::GiveBack,
            (None, Some(_)) if late => Rest::GiveBack,
            _ => wait,
        }
    }
}

/// The book.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Book {
    /// Scrubs by the arrays' identities: names may change.
    pub scrubs: BTreeMap<Uuid, Past>,
    /// Spares on their way.
    pub spares: Vec<Moving>,
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
            blocks: 9,
        };
        let book = Book {
            scrubs: BTreeMap::from([(Uuid::from_u128(1), past)]),
            spares: vec![moving],
        };
        book.write(&path).expect("written");
        let read = Book::read(&path).expect("readable");
        assert_eq!(read, book);
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[3] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        assert!(Book::read(&path).is_err_and(|why| why.contains("checksum")));
    }

    #[test]
    fn a_spare_on_its_way_arrives_or_goes_back_and_no_other_disk_is_taken() {
        let moving = Moving {
            disk: "s".into(),
            from: "md/a".into(),
            to: "md/b".into(),
            blocks: 9,
        };
        let (blank, lacks) = (Some((Verdict::New, 9)), Some(1));
        for late in [false, true] {
            let rest = |disk, to, from| moving.rest(disk, to, from, late);
            let wait = if late { Rest::LeftAlone } else { Rest::Wait };
            assert_eq!(rest(blank, lacks, Some(0)), Rest::Give);
            assert_eq!(rest(blank, lacks, None), Rest::Give);
            assert_eq!(rest(blank, Some(0), Some(0)), Rest::GiveBack);
            assert_eq!(rest(blank, Some(0), None), wait);
            assert_eq!(rest(blank, None, None), wait);
            // It may run soon, without members that it waits for.
            let then = if late { Rest::GiveBack } else { Rest::Wait };
            assert_eq!(rest(blank, None, Some(0)), then);
            // It was not taken out yet, or has arrived.
            assert_eq!(rest(Some((Verdict::Claimed, 9)), lacks, Some(0)), Rest::Over);
            for another in [(Verdict::Unclaimed, 9), (Verdict::Ambiguous, 9), (Verdict::New, 10)] {
                assert_eq!(rest(Some(another), lacks, Some(0)), Rest::LeftAlone)
            }
            for unknown in [Verdict::Missing, Verdict::Unreadable, Verdict::Unexamined] {
                assert_eq!(rest(Some((unknown, 9)), lacks, Some(0)), wait)
            }
            assert_eq!(rest(None, lacks, Some(0)), wait)
        }
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
