//! What happens to disks: told at once to whoever subscribed, and kept for a while for those who poll (`notify_get_notifications`).
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Notifications that are kept; older ones are lost to pollers, as in SPDK, which keeps 1024 too.
pub const KEPT: usize = 1024;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is there and can be opened.
    Registered,
    /// It is gone. Whoever still has it open sees errors.
    Unregistered,
    /// Its length is another one now.
    Resized {
        /// The new length in blocks.
        blocks: u64,
    },
    /// The device under it has vanished; the node stays as an orphan until somebody deletes it.
    Orphaned {
        /// What the device said last.
        reason: String,
    },
    /// It is an array that has lost a member or has one back.
    Rearranged {
        /// All its members are there and hold what they should.
        whole: bool,
    },
    /// It was looked at again, and the verdict or the reason changed.
    Examined,
}

/// What happened to which disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The node.
    pub name: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// A change as SPDK's `notify_get_notifications` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notification {
    /// Kind: one of [`TYPES`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Name of the disk.
    pub ctx: String,
    /// Counts up from 0, without gaps.
    pub id: u64,
}

/// The kinds of notification there are: SPDK's, and two for arrays, of which SPDK tells nothing.
pub const TYPES: [&str; 5] = [
    "bdev_register",
    "bdev_unregister",
    "bdev_resize",
    "ashlar_array_degraded",
    "ashlar_array_whole",
];

/// The last [`KEPT`] notifications.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    kept: VecDeque<Notification>,
    next: u64,
}

impl Ring {
    pub(crate) fn push(&mut self, change: &Change) {
        let kind = match change.kind {
            ChangeKind::Registered => TYPES[0],
            ChangeKind::Unregistered => TYPES[1],
            ChangeKind::Resized { .. } => TYPES[2],
            ChangeKind::Rearranged { whole: false } => TYPES[3],
            ChangeKind::Rearranged { whole: true } => TYPES[4],
            // SPDK has no word for these.
            ChangeKind::Orphaned { .. } | ChangeKind::Examined => return,
        };
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Notification {
            kind,
            ctx: change.name.clone(),
            id: self.next,
        });
        self.next += 1;
    }

    /// At most `max` notifications with an id of `from` or more, oldest first.
    pub(crate) fn since(&self, from: u64, max: usize) -> Vec<Notification> {
        self.kept.iter().filter(|n| n.id >= from).take(max).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_ids_never_start_again() {
        let mut ring = Ring::default();
        for i in 0..KEPT + 10 {
            ring.push(&Change {
                name: format!("d{i}"),
                kind: ChangeKind::Registered,
            });
            ring.push(&Change {
                name: format!("d{i}"),
                kind: ChangeKind::Examined,
            });
        }
        let first = &ring.since(0, 2);
        assert_eq!((first.len(), first[0].id, first[0].ctx.as_str()), (2, 10, "d10"));
        let last = ring.since(KEPT as u64 + 9, 100);
        assert_eq!(
            last,
            [Notification {
                kind: "bdev_register",
                ctx: format!("d{}", KEPT + 9),
                id: KEPT as u64 + 9
            }]
        );
        assert_eq!(ring.since(KEPT as u64 + 10, 100), []);
    }
}
