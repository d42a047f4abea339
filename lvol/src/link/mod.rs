//! Drive links as a format: several disks, one after the other, are one. What a child contributes, and ([`assembly`]) what all of them add up to.
//!
//! The bytes are in [`spec::link`], the rules in docs/formats/link.md.
use crate::{
    format::{Format, Mine, Taste, Tasting},
    group::{Assembly, Enrolled, Given, Member},
    probe::Probe,
};
use spec::link::{COPIES, COPY, Error, Record};
use std::sync::Arc;
use uuid::Uuid;

pub mod assembly;
pub mod edit;

/// The format.
pub struct Link;

impl Format for Link {
    fn name(&self) -> &'static str {
        "link"
    }
    fn signatures(&self) -> &'static [&'static str] {
        &["ashlar_link_member"]
    }
    fn taste<'a>(&'a self, disk: &'a Probe<'a>) -> Tasting<'a> {
        // Both copies lie in what is read of every disk.
        Box::pin(async move {
            for at in COPIES.into_iter().filter(|at| at + COPY <= disk.bytes()) {
                disk.own(at..at + COPY);
            }
            Ok(taste(disk.windows().head))
        })
    }
    fn assemble(&self, members: &[Enrolled<'_>], _: Given<'_>) -> Assembly {
        assembly::assemble(members)
    }
    fn takes_volumes(&self) -> bool {
        true
    }
    fn volumes_are_disks(&self) -> bool {
        true
    }
}

/// A child as its own disk shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Identity of its link.
    pub link: Uuid,
    /// Its own identity.
    pub id: Uuid,
    /// What is in the places of the two copies, if it is sound and of this link.
    pub copies: [Option<Record>; 2],
    /// What else an administrator should know.
    pub notes: Vec<String>,
}

impl Child {
    /// Its record of this change.
    pub fn of(&self, sequence: u64) -> Option<&Record> {
        self.copies.iter().flatten().find(|record| record.sequence == sequence)
    }

    /// The number of the newest change it knows.
    pub fn newest(&self) -> u64 {
        self.copies
            .iter()
            .flatten()
            .map(|record| record.sequence)
            .max()
            .unwrap_or_default()
    }

    /// Both copies are of this change: it was on every child before the second was written.
    fn settled(&self, sequence: u64) -> bool {
        self.copies
            .iter()
            .all(|copy| copy.as_ref().is_some_and(|record| record.sequence == sequence))
    }
}

/// The child that the start of a disk shows. An error tells of a record that cannot be used.
pub fn child(head: &[u8]) -> Result<Option<Child>, Error> {
    let copies = COPIES.map(|at| {
        let bytes = head.get(at as usize..).unwrap_or_default();
        Record::parse(&bytes[..bytes.len().min(COPY as usize)])
    });
    let best = copies.iter().flatten().max_by_key(|record| record.sequence);
    let Some((best, own)) = best.and_then(|best| Some((best, best.own()?))) else {
        let bad = copies
            .into_iter()
            .find_map(|copy| copy.err().filter(|why| *why != Error::Magic));
        return bad.map_or(Ok(None), Err);
    };
    let (link, id, mut notes) = (best.link, own.id, Vec::new());
    let copies = copies.map(|copy| match copy {
        Ok(record) if record.link == link && record.own().is_some_and(|own| own.id == id) => Some(record),
        Ok(record) => {
            notes.push(format!("it has an old record of the drive link {:?} too", record.name));
            None
        }
        Err(why) => {
            notes.push(format!("one of its two records cannot be used: {why}"));
            None
        }
    });
    Ok(Some(Child {
        link,
        id,
        copies,
        notes,
    }))
}

fn taste(head: &[u8]) -> Taste {
    match child(head) {
        Ok(None) => Taste::No,
        Ok(Some(child)) => Taste::Mine(Mine {
            what: "child of a drive link".into(),
            member: Some(Member::Link(Arc::new(child))),
            ..Mine::default()
        }),
        Err(why) => Taste::Traces(format!("a record of a drive link that cannot be used: {why}")),
    }
}
