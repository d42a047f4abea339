//! The runtime's end of the border: the graph, and what must outlive an engine.
use super::wire::{Command, Question};
use crate::{Offers, engine::Create};
use bdev::{Claim, Graph, GraphError, Table};
use serde::{Deserialize, Serialize};
use spec::BlockRange;
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
    /// Disks that are not to be looked at: [`ENOUGH`] engines have ended while they did.
    pub suspects: BTreeSet<String>,
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
    fn examining(&self, name: Option<String>) {
        let mut kept = self.kept();
        if let Some(before) = std::mem::replace(&mut kept.examining, name) {
            kept.ended.remove(&before);
        }
    }

    /// Carries a command out.
    pub(crate) async fn perform(&self, command: Command, bytes: Vec<u8>) -> Result<Vec<u8>, GraphError> {
        match command {
            Command::Build { wish, under } => self.build(wish, under.as_deref()).await?,
            Command::Replace { name, table } => self.replace(&name, table).await?,
            Command::Remove { name, now } => self.remove(&name, now.as_deref()).await?,
            Command::Resize { name, blocks } => self.graph.resize(&name, blocks).await.map(drop)?,
            Command::Rescan => self.graph.rescan_all().await,
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
            Question::WaitNoMore { name } => {
                self.wait_no_more(&name);
                serde_json::to_vec(&())
            }
            Question::Examining { name } => {
                self.examining(name);
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
