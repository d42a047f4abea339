//! The runtime's end of the border: the graph, and what must outlive an engine.
use super::{
    End, Look, Reads,
    wire::{Command, Question},
};
use crate::{Offers, activation::Desires, engine::Create, probe};
use bdev::{Claim, Graph, GraphError, NodeInfo, NodeState, Table};
use serde::{Deserialize, Serialize};
use spec::{BlockRange, Extent};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Under this name the engine claims disks while it writes to them; an engine that ends has stopped writing.
pub(crate) const PLAN: &str = "plan";

/// So many engines may end while they look at the same disk.
const ENOUGH: u32 = 2;

/// The runtime's end.
pub struct Side {
    graph: Graph,
    offers: OnceLock<Arc<dyn Offers>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By the node's name.
    wishes: BTreeMap<String, Create>,
    missing: BTreeMap<String, Create>,
    claims: BTreeMap<u64, Held>,
    next: u64,
    /// The disk that is being looked at.
    examining: Option<String>,
    /// How many engines have ended over a disk.
    ended: BTreeMap<String, u32>,
    /// Which volumes somebody has asked to run, or not to.
    desires: Desires,
}

struct Held {
    name: String,
    by: String,
    _claim: Claim,
}

/// What an engine has left to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recalled {
    /// Nodes that are there, as they were wished for.
    pub wishes: Vec<Create>,
    /// Nodes that are waited for.
    pub missing: Vec<Create>,
    /// Claims: the number, and the disk.
    pub claims: Vec<(u64, String)>,
    /// Disks that are not to be looked at: two engines have ended while they did.
    pub suspects: BTreeSet<String>,
    /// Which volumes somebody has asked to run, or not to.
    #[serde(default)]
    pub desires: Desires,
}

impl Side {
    /// The runtime's end over `graph`.
    pub fn new(graph: Graph) -> Self {
        Self {
            graph,
            offers: OnceLock::new(),
            kept: Mutex::default(),
        }
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offers(&self) -> Option<&Arc<dyn Offers>> {
        self.offers.get()
    }

    /// Lets somebody offer volumes by rule. To be called once.
    pub fn offered_by(&self, offers: Arc<dyn Offers>) {
        // Twice is a mistake of the caller's, and the first one stays.
        let _ = self.offers.set(offers);
    }

    pub(super) async fn withdraw(&self, volume: &str) -> Result<(), String> {
        match self.offers() {
            Some(offers) => offers.withdraw(volume).await,
            None => Ok(()),
        }
    }

    pub(super) fn claim(&self, name: &str, by: &str) -> Result<u64, GraphError> {
        let claim = self.graph.claim(name, by)?;
        let mut kept = self.kept();
        kept.next += 1;
        let number = kept.next;
        let held = Held {
            name: name.to_owned(),
            by: by.to_owned(),
            _claim: claim,
        };
        kept.claims.insert(number, held);
        Ok(number)
    }

    pub(super) fn unclaim(&self, number: u64) {
        // Dropped outside of the lock: the graph has one of its own.
        let held = self.kept().claims.remove(&number);
        drop(held);
    }

    pub(super) async fn build(&self, wish: Create, under: Option<&str>) -> Result<(), GraphError> {
        // Before it is there, so that an engine which dies meanwhile leaves no node that nobody wanted.
        let (name, spec) = (wish.spec.name.clone(), wish.spec.clone());
        let before = self.kept().wishes.insert(name.clone(), wish);
        let built = match under {
            Some(format) => self.graph.build_under(format, spec).await,
            None => self.graph.build(spec).await,
        };
        if built.is_err() {
            let mut kept = self.kept();
            match before {
                Some(before) => kept.wishes.insert(name, before),
                None => kept.wishes.remove(&name),
            };
        }
        built.map(drop)
    }

    pub(super) async fn replace(&self, name: &str, table: Table) -> Result<(), GraphError> {
        let info = self.graph.replace(name, table).await?;
        if let Some(wish) = self.kept().wishes.get_mut(&info.name) {
            wish.spec.table = info.table;
        }
        Ok(())
    }

    pub(super) async fn remove(&self, name: &str, now: Option<&str>) -> Result<(), GraphError> {
        match now {
            Some(reason) => self.graph.remove_now(name, reason).await?,
            None => self.graph.remove(name).await?,
        }
        self.kept().wishes.remove(name);
        Ok(())
    }

    pub(super) fn recall(&self) -> Recalled {
        let kept = self.kept();
        Recalled {
            wishes: kept.wishes.values().cloned().collect(),
            missing: kept.missing.values().cloned().collect(),
            desires: kept.desires.clone(),
            suspects: kept
                .ended
                .iter()
                .filter(|(_, times)| **times >= ENOUGH)
                .map(|(disk, _)| disk.clone())
                .collect(),
            claims: kept
                .claims
                .iter()
                .map(|(number, held)| (*number, held.name.clone()))
                .collect(),
        }
    }

    pub(super) fn remember(&self, wish: Create) {
        self.kept().wishes.insert(wish.spec.name.clone(), wish);
    }

    pub(super) fn wait_for(&self, wish: Create) {
        self.kept().missing.insert(wish.spec.name.clone(), wish);
    }

    pub(super) fn desire(&self, desires: Desires) {
        self.kept().desires = desires;
    }

    pub(super) fn wait_no_more(&self, name: &str) {
        self.kept().missing.remove(name);
    }

    /// The engine has ended: nothing of it is writing any more, and what it had claimed for good stays claimed for the next.
    pub(crate) fn bereaved(&self) {
        let gone: Vec<Held> = {
            let mut kept = self.kept();
            if let Some(disk) = kept.examining.take() {
                *kept.ended.entry(disk).or_default() += 1;
            }
            let numbers: Vec<u64> = kept
                .claims
                .iter()
                .filter(|(_, held)| held.by == PLAN)
                .map(|(n, _)| *n)
                .collect();
            numbers.iter().filter_map(|number| kept.claims.remove(number)).collect()
        };
        drop(gone);
    }

    /// A disk is looked at, or none any more. One that was looked at to the end is above suspicion.
    pub(crate) fn examining(&self, name: Option<String>) {
        let mut kept = self.kept();
        if let Some(before) = std::mem::replace(&mut kept.examining, name) {
            kept.ended.remove(&before);
        }
    }

    pub(super) async fn look(&self, name: &str, reads: Reads) -> Option<Look> {
        let info = self.graph.brief(name)?;
        let unused = info.claimed_by.is_none() && info.pinned_by.is_empty() && info.opens == 0;
        let may = match reads {
            Reads::Nothing => false,
            Reads::Unused => unused,
            Reads::Ours => true,
        };
        let mut ends = Vec::new();
        if may && info.state == NodeState::Active {
            for end in probe::ends(info.geometry.blocks, info.geometry.block_size) {
                // At most what is read of every disk.
                let count = u32::try_from(end.count).unwrap_or(u32::MAX);
                let read = self.graph.read(&info.name, BlockRange::new(end.start, count)).await;
                ends.push((end, read.map_err(|why| why.to_string())));
            }
        }
        Some(Look { info, ends })
    }

    /// Carries a command out.
    pub(crate) async fn perform(&self, command: Command, bytes: Vec<u8>) -> Result<Vec<u8>, GraphError> {
        match command {
            Command::Build { wish, under } => self.build(wish, under.as_deref()).await?,
            Command::Replace { name, table } => self.replace(&name, table).await?,
            Command::Remove { name, now } => self.remove(&name, now.as_deref()).await?,
            Command::Resize { name, blocks } => self.graph.resize(&name, blocks).await.map(drop)?,
            Command::Rescan => self.graph.rescan_all().await,
            Command::Look { name, reads } => {
                let look = self.look(&name, reads).await.ok_or(GraphError::NotFound(name))?;
                if !look.ends.is_empty() {
                    self.examining(Some(look.info.name.clone()));
                }
                return Ok(look_bytes(&look));
            }
            Command::Read { name, start, blocks } => {
                return self.graph.read(&name, BlockRange::new(start, blocks)).await;
            }
            Command::Write { name, start } => self.graph.write(&name, start, bytes, false).await?,
            Command::Flush { name } => self.graph.flush(&name).await?,
            Command::Withdraw { volume } => self
                .withdraw(&volume)
                .await
                .map_err(|reason| GraphError::Invalid { name: volume, reason })?,
        }
        Ok(Vec::new())
    }

    /// Answers a question: JSON.
    pub(crate) fn answer(&self, question: Question) -> Result<Vec<u8>, GraphError> {
        let json = match question {
            Question::Unclaim { number } => {
                self.unclaim(number);
                serde_json::to_vec(&())
            }
            Question::Info { name } => serde_json::to_vec(&self.graph.info(&name)),
            Question::Brief { name } => serde_json::to_vec(&self.graph.brief(&name)),
            Question::List => serde_json::to_vec(&self.graph.list()),
            Question::Claim { name, by } => serde_json::to_vec(&self.claim(&name, &by)?),
            Question::Recall => serde_json::to_vec(&self.recall()),
            Question::Remember { wish } => {
                self.remember(wish);
                serde_json::to_vec(&())
            }
            Question::WaitFor { wish } => {
                self.wait_for(wish);
                serde_json::to_vec(&())
            }
            Question::Desire { desires } => {
                self.desire(desires);
                serde_json::to_vec(&())
            }
            Question::WaitNoMore { name } => {
                self.wait_no_more(&name);
                serde_json::to_vec(&())
            }
            Question::Offers { volume } => {
                serde_json::to_vec(&self.offers().is_some_and(|offers| offers.offers(&volume)))
            }
            Question::Host { volume } => serde_json::to_vec(&self.offers().and_then(|offers| offers.host(&volume))),
        };
        // What is here is made of texts and numbers.
        json.map_err(|_| GraphError::Stopped)
    }
}

/// What of a look is JSON: the node, and for each end where it is and what of it comes behind, or why nothing does.
#[derive(Serialize, Deserialize)]
struct Looked<T> {
    info: T,
    ends: Vec<(Extent, Result<Sent, String>)>,
}

/// What is sent of bytes: not the zeros before and behind. Most of what is read of most disks is zeros, and copying it from process to process
/// would be most of the work of looking at a thousand.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Sent {
    /// How many there are.
    length: usize,
    /// Zeros before what is sent.
    from: usize,
    /// What is sent ends here; zeros behind.
    to: usize,
}

impl Sent {
    fn of(bytes: &[u8]) -> Self {
        // A run at a time, which the compiler makes wide.
        const RUN: usize = 4096;
        let some = |run: &[u8]| run.iter().fold(0, |any, byte| any | byte) != 0;
        let length = bytes.len();
        match bytes.chunks(RUN).position(some) {
            Some(first) => {
                let behind = bytes.rchunks(RUN).position(some).unwrap_or_default();
                let (from, to) = (first * RUN, length - behind * RUN);
                Self { length, from, to }
            }
            None => Self { length, from: 0, to: 0 },
        }
    }
}

/// The length of the JSON, the JSON, the bytes.
fn look_bytes(look: &Look) -> Vec<u8> {
    let shape = |(end, read): &End| {
        let sent = read.as_ref().map(|bytes| Sent::of(bytes));
        (*end, sent.map_err(Clone::clone))
    };
    let head = Looked {
        info: &look.info,
        ends: look.ends.iter().map(shape).collect(),
    };
    // What is here is made of texts and numbers.
    let json = serde_json::to_vec(&head).unwrap_or_default();
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json);
    for ((_, read), (_, sent)) in look.ends.iter().zip(&head.ends) {
        if let (Ok(read), Ok(sent)) = (read, sent) {
            bytes.extend_from_slice(&read[sent.from..sent.to]);
        }
    }
    bytes
}

/// … and back.
pub(super) fn looked(bytes: &[u8]) -> Option<Look> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (json, mut rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let head: Looked<NodeInfo> = serde_json::from_slice(json).ok()?;
    let mut ends = Vec::new();
    for (end, read) in head.ends {
        let read = match read {
            Ok(sent) => {
                let (here, behind) = rest.split_at_checked(sent.to.checked_sub(sent.from)?)?;
                rest = behind;
                // Nobody sends more than is read of a disk.
                if sent.length as u64 > probe::READ_MAX {
                    return None;
                }
                let mut bytes = vec![0; sent.length];
                bytes.get_mut(sent.from..sent.to)?.copy_from_slice(here);
                Ok(bytes)
            }
            Err(why) => Err(why),
        };
        ends.push((end, read));
    }
    Some(Look { info: head.info, ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_not_sent_and_come_all_the_same() {
        let blocks = |parts: &[(u8, usize)]| {
            parts
                .iter()
                .flat_map(|(byte, count)| vec![*byte; *count])
                .collect::<Vec<u8>>()
        };
        for (bytes, sent) in [
            (blocks(&[]), 0usize),
            (blocks(&[(0, 73_728)]), 0),
            (blocks(&[(0, 512), (7, 1), (0, 73_215)]), 4096),
            (blocks(&[(0, 100_000), (7, 512)]), 512 + 100_000 % 4096),
            (blocks(&[(1, 10), (0, 100_000), (7, 10)]), 100_020),
        ] {
            let what = Sent::of(&bytes);
            assert!(
                what.to - what.from <= sent.next_multiple_of(4096),
                "{} of {}",
                what.to - what.from,
                bytes.len()
            );
            let mut again = vec![0; what.length];
            again[what.from..what.to].copy_from_slice(&bytes[what.from..what.to]);
            assert_eq!(again, bytes);
        }
    }
}
