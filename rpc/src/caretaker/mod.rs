//! Looks after arrays as the configuration says (`arrays`): sets the limits of rebuilds, has members compared when that is due, and gives an array that lacks a member the spare
//! of another. It does nothing that somebody could not do by RPC, by the same ways.
//!
//! It sleeps until something is due, an array has lost a member or has one back, or the configuration was read again.
mod book;
mod schedule;
mod spares;

use crate::audit::Call;
use crate::context::{Context, graph_error};
use bdev::{
    NodeInfo, Table,
    module::raid::{Command, Report},
    raid::{MemberState, Work},
};
use book::Book;
use config::arrays::policy;
use lvol::{Change, ChangeKind};
use schedule::{Now, Past, Running, Step, UnderWay};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Notify, broadcast::error::RecvError};

pub(crate) use schedule::Scrubbed;

/// The longest sleep: the clock may be set meanwhile.
const SLEEP: Duration = Duration::from_secs(60);
/// Much happens at once when a disk comes or goes; one look afterwards is enough.
const PAUSE: Duration = Duration::from_millis(100);

/// The caretaker.
#[derive(Default)]
pub(crate) struct Caretaker {
    known: Mutex<Known>,
    wake: Notify,
}

#[derive(Default)]
struct Known {
    book: Book,
    /// Where that is kept, if it is.
    file: Option<PathBuf>,
    running: BTreeMap<String, Running>,
    /// What arrays were told of how fast they may be rebuilt: bytes a second.
    limits: BTreeMap<String, u64>,
    /// Spares that an array did not take: they are not offered to it again.
    refused: BTreeSet<(String, String)>,
}

/// When an array was scrubbed, and when it will be. Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scrubs {
    pub last: Option<Scrubbed>,
    pub next: Option<u64>,
}

/// An array that runs.
struct Tended {
    node: NodeInfo,
    report: Report,
}

impl Tended {
    fn is_whole(&self) -> bool {
        self.report
            .members
            .iter()
            .all(|member| member.state == MemberState::InSync)
    }

    fn now(&self, free: bool) -> Now {
        let work = self.report.progress.map(|progress| progress.work);
        Now {
            whole: self.is_whole() && work.is_none(),
            free,
            scrubbing: matches!(work, Some(Work::Check | Work::Repair)),
            mismatched_bytes: self.report.mismatches * u64::from(self.node.geometry.block_size),
            unreadable_bytes: self.report.unreadable * u64::from(self.node.geometry.block_size),
        }
    }
}

/// Places without a member.
fn lacks(report: &Report) -> usize {
    let states = report.members.iter().map(|member| member.state);
    states
        .filter(|state| matches!(state, MemberState::Failed | MemberState::Missing))
        .count()
}

/// The disks that a disk lies on in the end.
fn bottoms(tables: &BTreeMap<&str, &Table>, name: &str) -> BTreeSet<String> {
    match tables.get(name).map(|table| table.below()) {
        Some(below) if !below.is_empty() => below.into_iter().flat_map(|name| bottoms(tables, name)).collect(),
        _ => BTreeSet::from([name.to_owned()]),
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Caretaker {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something else is wanted now.
    pub fn wake(&self) {
        self.wake.notify_one()
    }

    /// A scrub of this array was begun by somebody.
    pub fn began(&self, array: &str, repair: bool) {
        let running = Running::new(now(), repair);
        self.known().running.insert(array.to_owned(), running);
        self.wake()
    }

    /// What was done to this array was ended by somebody.
    pub fn cancelled(&self, array: &str) {
        if let Some(running) = self.known().running.get_mut(array) {
            running.cancelled = true
        }
        self.wake()
    }

    /// When this array was scrubbed, and when it will be.
    pub fn scrubs(&self, context: &Context, array: &NodeInfo) -> Scrubs {
        let past = self.known().book.scrubs.get(&array.uuid).copied();
        let base = context.base();
        let scrub = policy(&base.arrays, &array.name).scrub;
        Scrubs {
            last: past.and_then(|past| past.last),
            next: scrub.zip(past).map(|(scrub, past)| schedule::next(scrub, &past)),
        }
    }
}

impl Context {
    /// How fast an array may be rebuilt, in bytes a second of each member: by the configuration, or by what RPC has said of all.
    pub(crate) fn rebuild_limit(&self, array: &str) -> Option<u64> {
        let said = policy(&self.base().arrays, array).rebuild_limit;
        let of_all = || {
            self.facts()
                .raid_options
                .map(|all| u64::from(all.process_max_bandwidth_mb_sec) << 20)
        };
        said.or_else(of_all)
    }

    /// Takes note of what has happened to a disk. True if that is a reason to look at arrays.
    async fn heard(&self, change: &Change) -> bool {
        match change.kind {
            // It may be there again before the next look: nothing of what was said to it counts any more.
            ChangeKind::Unregistered => {
                let mut known = self.caretaker.known();
                known.limits.remove(&change.name);
                known.running.remove(&change.name);
                true
            }
            // What has to be done to it begins at once, and is bounded from the start.
            ChangeKind::Registered => {
                if !self.base().arrays.is_empty()
                    && let Some(node) = self.graph.info(&change.name)
                {
                    self.limit(&node).await
                }
                true
            }
            ChangeKind::Rearranged { .. } => true,
            ChangeKind::Resized { .. } | ChangeKind::Orphaned { .. } | ChangeKind::Examined => false,
        }
    }

    /// Looks after arrays for as long as the engine lives. Spawn it once.
    pub fn look_after_arrays(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let (context, mut changes) = (self.clone(), self.engine.subscribe());
        async move {
            context.read_book().await;
            loop {
                let next = context.look().await;
                let something = async {
                    loop {
                        match changes.recv().await {
                            Ok(change) => {
                                if context.heard(&change).await {
                                    return true;
                                }
                            }
                            Err(RecvError::Lagged(_)) => return true,
                            Err(RecvError::Closed) => return false,
                        }
                    }
                };
                tokio::select! {
                    alive = something => if !alive { return },
                    () = context.caretaker.wake.notified() => continue,
                    () = tokio::time::sleep(next) => continue,
                }
                let more = async {
                    while let Ok(change) = changes.recv().await {
                        context.heard(&change).await;
                    }
                };
                let _ = tokio::time::timeout(PAUSE, more).await;
            }
        }
    }

    /// Goes on from what an earlier life has written down.
    async fn read_book(&self) {
        let Some(file) = self.state().map(Book::path) else {
            return;
        };
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || Book::read(&path)).await;
        let book = match read.map_err(|why| why.to_string()).and_then(|read| read) {
            Ok(book) => book,
            Err(why) => {
                tracing::error!(file = %file.display(), why, "when arrays were scrubbed is not known any more: it is counted from now on");
                Book::default()
            }
        };
        let mut known = self.caretaker.known();
        known.book = book;
        known.file = Some(file)
    }

    /// Changes the book, and writes it down.
    async fn note(&self, change: impl FnOnce(&mut Book)) {
        let (book, file) = {
            let mut known = self.caretaker.known();
            change(&mut known.book);
            known.book.trim();
            (known.book.clone(), known.file.clone())
        };
        let Some(file) = file else { return };
        let path = file.clone();
        let written = tokio::task::spawn_blocking(move || book.write(&path)).await;
        if let Err(why) = written.map_err(std::io::Error::other).and_then(|written| written) {
            tracing::error!(file = %file.display(), %why, "when arrays were scrubbed cannot be written down; after a restart it is not known")
        }
    }

    /// Does what is due, and says in how long the next look is.
    async fn look(&self) -> Duration {
        let idle = {
            let known = self.caretaker.known();
            let under_way = known.book.scrubs.values().any(|past| past.under_way.is_some());
            known.running.is_empty() && known.limits.is_empty() && !under_way && known.book.spares.is_empty()
        };
        if idle && self.base().arrays.is_empty() {
            return SLEEP;
        }
        let nodes = self.graph.list();
        let tables = nodes.iter().map(|node| (node.name.as_str(), &node.table)).collect();
        let mut arrays = Vec::new();
        for node in nodes.iter().filter(|node| matches!(node.table, Table::Raid { .. })) {
            // One that goes away at this moment is looked at no more.
            if let Ok(report) = self.graph.array(&node.name).await {
                let node = node.clone();
                arrays.push(Tended { node, report })
            }
        }
        // Those on the same disks would only keep each other from reading in a row.
        let works = |array: &&Tended| array.report.progress.is_some_and(|progress| !progress.paused);
        let on = |array: &Tended| bottoms(&tables, &array.node.name);
        let mut busy: BTreeSet<String> = arrays.iter().filter(works).flat_map(on).collect();
        let mut next = SLEEP;
        for array in &arrays {
            self.limit(&array.node).await;
            let disks = on(array);
            next = next.min(self.scrub(array, busy.is_disjoint(&disks)).await);
            if self.caretaker.known().running.contains_key(&array.node.name) {
                busy.extend(disks)
            }
        }
        if self.go_on_moving().await {
            return Duration::ZERO;
        }
        next.min(self.share_spares(&arrays).await)
    }

    /// An array that has come, or of which something else is wanted, is told how fast it may be rebuilt.
    async fn limit(&self, node: &NodeInfo) {
        let wanted = policy(&self.base().arrays, &node.name).rebuild_limit;
        let told = self.caretaker.known().limits.get(&node.name).copied();
        if told == wanted || !matches!(node.table, Table::Raid { .. }) {
            return;
        }
        crate::raid::limit(self, node).await;
        let mut known = self.caretaker.known();
        match wanted {
            Some(limit) => known.limits.insert(node.name.clone(), limit),
            None => known.limits.remove(&node.name),
        };
    }

    /// Has the members of an array compared if that is due, and the disks that it is on are free.
    async fn scrub(&self, array: &Tended, free: bool) -> Duration {
        let (id, name, now) = (array.node.uuid, &array.node.name, now());
        let scrub = policy(&self.base().arrays, name).scrub.cloned();
        let state = array.now(free);
        let (past, running, far) = {
            let mut known = self.caretaker.known();
            let mut far = None;
            if let Some(progress) = array.report.progress.filter(|_| state.scrubbing) {
                let began = now.saturating_sub(progress.for_ms);
                let unknown = Running::new(began, progress.work == Work::Repair);
                let running = known.running.entry(name.clone()).or_insert(unknown);
                running.seen = true;
                if now.saturating_sub(running.noted) >= schedule::NOTED {
                    running.noted = now;
                    far = Some(UnderWay {
                        began: running.began,
                        repair: running.repair,
                        at: progress.at,
                        mismatched_bytes: running.found + progress.differ * u64::from(array.node.geometry.block_size),
                        unreadable_bytes: running.unreadable + state.unreadable_bytes,
                    })
                }
            }
            let past = known.book.scrubs.get(&id).copied();
            (past, known.running.get(name).copied(), far)
        };
        let is_under_way = past.is_some_and(|past| past.under_way.is_some());
        if scrub.is_none() && running.is_none() && !is_under_way {
            return SLEEP;
        }
        let fresh = Past {
            since: now,
            last: None,
            under_way: None,
        };
        if past.is_none() {
            self.note(|book| _ = book.scrubs.insert(id, fresh)).await
        }
        let mut past = past.unwrap_or(fresh);
        if far.is_some() {
            past.under_way = far;
            self.note(|book| _ = book.scrubs.insert(id, past)).await
        }
        match schedule::step(scrub.as_ref(), &past, running.as_ref(), &state, now) {
            Step::Wait(until) => return Duration::from_millis(until.saturating_sub(now)),
            Step::Begin => {
                let repair = scrub.is_some_and(|scrub| scrub.repair);
                tracing::info!(
                    array = name,
                    repair,
                    "its members are compared, as the configuration says"
                );
                let why = "it is due by the configuration";
                return self.compare(array, Running::new(now, repair), 0, why).await;
            }
            Step::GoOn(far) => {
                tracing::info!(
                    array = name,
                    from = far.at,
                    "the comparison of its members goes on where it was"
                );
                let why = "it was under way when the target ended";
                return self.compare(array, Running::going_on(&far, now), far.at, why).await;
            }
            Step::CutOff => {
                tracing::warn!(
                    array = name,
                    "lost a member while its members were compared; that is begun again if it is to be done by the configuration and the array is whole"
                );
                self.caretaker.known().running.remove(name);
                if past.under_way.take().is_some() {
                    self.note(|book| _ = book.scrubs.insert(id, past)).await
                }
            }
            Step::End(done) => {
                self.caretaker.known().running.remove(name);
                if done.mismatched_bytes > 0 && !done.cancelled {
                    tracing::warn!(
                        array = name,
                        bytes = done.mismatched_bytes,
                        repaired = done.repair,
                        "its members differed"
                    )
                }
                if done.unreadable_bytes > 0 {
                    tracing::error!(
                        array = name,
                        bytes = done.unreadable_bytes,
                        "some of it can be read from no member: it is lost until it is written"
                    )
                }
                let past = Past {
                    last: Some(done),
                    under_way: None,
                    ..past
                };
                self.note(|book| _ = book.scrubs.insert(id, past)).await
            }
        }
        Duration::from_millis(schedule::RUNNING)
    }

    /// Tells an array to compare its members from a block on, for a reason that the audit log keeps.
    async fn compare(&self, array: &Tended, running: Running, from: u64, why: &str) -> Duration {
        let (name, repair) = (&array.node.name, running.repair);
        let params = json!({"name": name, "repair": repair, "reason": why});
        let call = Call::new("ashlar_scrub_array", &params);
        let begun = self.graph.command_array(name, Command::Scrub { repair, from }).await;
        let outcome = begun.as_ref().map(|()| Value::Bool(true));
        self.audit.note(&call, None, &outcome.map_err(graph_error));
        if let Err(why) = begun {
            tracing::warn!(array = name, %why, "its members cannot be compared; it is tried again");
            return SLEEP;
        }
        self.caretaker.known().running.insert(name.clone(), running);
        Duration::from_millis(schedule::RUNNING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_share_disks_through_whatever_lies_between() {
        let passthru = |on: &str| Table::Passthru { on: on.into() };
        let stripe = |on: &[&str]| Table::Stripe {
            on: on.iter().map(|name| name.to_string()).collect(),
            chunk: 8,
        };
        let all = [
            ("a1", passthru("a")),
            ("a2", passthru("a")),
            ("one", stripe(&["a1", "b"])),
            ("two", stripe(&["a2", "c"])),
            ("three", stripe(&["d"])),
        ];
        let tables = all.iter().map(|(name, table)| (*name, table)).collect();
        let on = |name| bottoms(&tables, name);
        assert_eq!(on("one"), BTreeSet::from(["a".into(), "b".into()]));
        assert!(!on("one").is_disjoint(&on("two")));
        assert!(on("one").is_disjoint(&on("three")))
    }
}
