//! The engine for everybody else: the same methods whether it runs here or in a process of its own.
use crate::{
    Activated, Applied, Change, ChangeError, Create, Desired, DiskInfo, Engine, EngineError, Extra, Found, Group,
    Notification, Offers, Past, Plan, Refusal, Request, Settings, Stamp, backup::Copies, border::wire::Call,
    keeper::Keeper, keeper::Whereabouts, plugin::Plugins,
};
use bdev::{Graph, NodeInfo};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::broadcast;

/// A way to the engine. Clones lead to the same one.
#[derive(Clone)]
pub struct Handle {
    graph: Graph,
    at: At,
}

#[derive(Clone)]
enum At {
    Here(Engine),
    There(Arc<Keeper>),
}

type Answer<T> = Result<T, EngineError>;

/// As a client of RPC sees it.
fn shape(what: &impl Serialize) -> Result<Value, ChangeError> {
    serde_json::to_value(what).map_err(|why| EngineError::Lost(why.to_string()).into())
}

impl Handle {
    /// The way to an engine in this process, over this graph.
    pub fn here(graph: Graph, engine: Engine) -> Self {
        let at = At::Here(engine);
        Self { graph, at }
    }

    /// The way to an engine in a process of its own.
    pub fn there(keeper: Arc<Keeper>) -> Self {
        let graph = keeper.graph().clone();
        let at = At::There(keeper);
        Self { graph, at }
    }

    /// The runtime's graph, which is always here.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where the engine is.
    pub fn whereabouts(&self) -> Whereabouts {
        match &self.at {
            At::Here(_) => Whereabouts {
                process: None,
                starts: 1,
            },
            At::There(keeper) => keeper.whereabouts(),
        }
    }

    /// Lets somebody offer volumes by rule. To be called once.
    pub fn offered_by(&self, offers: Arc<dyn Offers>) {
        match &self.at {
            At::Here(engine) => engine.offered_by(offers),
            At::There(keeper) => keeper.offered_by(offers),
        }
    }

    // ---- what is wanted of the engine

    /// [`Engine::adopt`] with other volume groups' settings and another scope; what is logged stays.
    pub async fn adopt(&self, settings: Settings) -> Result<(), ChangeError> {
        match &self.at {
            At::Here(engine) => {
                engine.adopt(settings).await;
                Ok(())
            }
            At::There(keeper) => {
                let adopted = keeper.adopt(|now| {
                    let log = std::mem::take(&mut now.log);
                    *now = Settings { log, ..settings };
                });
                adopted.await
            }
        }
    }

    /// Says what the engine is to log, in the words of a filter. One in this process has the same log as everybody here.
    pub async fn set_log(&self, directive: &str) -> Result<(), ChangeError> {
        match &self.at {
            At::Here(_) => Ok(()),
            At::There(keeper) => keeper.adopt(|now| now.log = directive.to_owned()).await,
        }
    }

    // ---- wishes

    /// [`Engine::create`].
    pub async fn create(&self, wish: Create) -> Answer<NodeInfo> {
        match &self.at {
            At::Here(engine) => engine.create(wish).await,
            At::There(keeper) => ask(keeper, Call::Create { wish }).await,
        }
    }

    /// [`Engine::create_or_wait`].
    pub async fn create_or_wait(&self, wish: Create) -> Answer<Option<NodeInfo>> {
        match &self.at {
            At::Here(engine) => engine.create_or_wait(wish).await,
            At::There(keeper) => ask(keeper, Call::CreateOrWait { wish }).await,
        }
    }

    /// [`Engine::delete`].
    pub async fn delete(&self, name: &str, force: bool) -> Answer<()> {
        let named = name.to_owned();
        match &self.at {
            At::Here(engine) => engine.delete(name, force).await,
            At::There(keeper) => ask(keeper, Call::Delete { name: named, force }).await,
        }
    }

    /// [`Engine::resize`].
    pub async fn resize(&self, name: &str, blocks: u64) -> Answer<()> {
        let named = name.to_owned();
        match &self.at {
            At::Here(engine) => engine.resize(name, blocks).await,
            At::There(keeper) => ask(keeper, Call::Resize { name: named, blocks }).await,
        }
    }

    /// [`Engine::take_whole`].
    pub async fn take_whole(&self, name: &str) -> Answer<NodeInfo> {
        let named = name.to_owned();
        match &self.at {
            At::Here(engine) => engine.take_whole(name).await,
            At::There(keeper) => ask(keeper, Call::TakeWhole { name: named }).await,
        }
    }

    // ---- discovery

    /// [`Engine::examine`].
    pub async fn examine(&self, name: &str) -> Answer<DiskInfo> {
        let named = name.to_owned();
        match &self.at {
            At::Here(engine) => engine.examine(name).await,
            At::There(keeper) => ask(keeper, Call::Examine { name: named }).await,
        }
    }

    /// [`Engine::wait_for_examine`].
    pub async fn wait_for_examine(&self) -> Answer<()> {
        match &self.at {
            At::Here(engine) => {
                engine.wait_for_examine().await;
                Ok(())
            }
            At::There(keeper) => ask(keeper, Call::WaitForExamine).await,
        }
    }

    /// [`Engine::rescan`].
    pub async fn rescan(&self) -> Answer<()> {
        match &self.at {
            At::Here(engine) => {
                engine.rescan().await;
                Ok(())
            }
            At::There(keeper) => ask(keeper, Call::Rescan).await,
        }
    }

    /// [`Engine::activate`].
    pub async fn activate(&self, object: &str, desired: Desired) -> Result<Activated, ChangeError> {
        let named = object.to_owned();
        match &self.at {
            At::Here(engine) => engine.activate(object, desired).await,
            At::There(keeper) => {
                let call = Call::Activate { object: named, desired };
                keeper.call(&call).await
            }
        }
    }

    // ---- what happens

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        match &self.at {
            At::Here(engine) => engine.subscribe(),
            At::There(keeper) => keeper.subscribe(),
        }
    }

    /// [`Engine::notifications`].
    pub fn notifications(&self, id: u64, max: usize) -> Vec<Notification> {
        match &self.at {
            At::Here(engine) => engine.notifications(id, max),
            At::There(keeper) => keeper.notifications(id, max),
        }
    }

    // ---- questions

    /// [`Engine::disks`].
    pub async fn disks(&self) -> Answer<Vec<DiskInfo>> {
        match &self.at {
            At::Here(engine) => Ok(engine.disks()),
            At::There(keeper) => ask(keeper, Call::Disks).await,
        }
    }

    /// [`Engine::disk`].
    pub async fn disk(&self, name: &str) -> Answer<Option<DiskInfo>> {
        let named = name.to_owned();
        match &self.at {
            At::Here(engine) => Ok(engine.disk(name)),
            At::There(keeper) => ask(keeper, Call::Disk { name: named }).await,
        }
    }

    /// [`Engine::groups`].
    pub async fn groups(&self) -> Answer<Vec<Group>> {
        match &self.at {
            At::Here(engine) => Ok(engine.groups()),
            At::There(keeper) => ask(keeper, Call::Groups).await,
        }
    }

    /// [`Engine::plugins`].
    pub async fn plugins(&self) -> Answer<Plugins> {
        match &self.at {
            At::Here(engine) => Ok(engine.plugins()),
            At::There(keeper) => ask(keeper, Call::Plugins).await,
        }
    }

    /// [`Engine::verbs`], as JSON.
    pub async fn verbs(&self) -> Result<Value, ChangeError> {
        match &self.at {
            At::Here(engine) => shape(&engine.verbs()),
            At::There(keeper) => keeper.call(&Call::Verbs).await,
        }
    }

    /// [`Engine::volumes_of`].
    pub async fn volumes_of(&self, group: &str) -> Answer<Vec<String>> {
        let named = group.to_owned();
        match &self.at {
            At::Here(engine) => Ok(engine.volumes_of(group)),
            At::There(keeper) => ask(keeper, Call::VolumesOf { group: named }).await,
        }
    }

    /// [`Engine::volumes`].
    pub async fn volumes(&self) -> Answer<Vec<DiskInfo>> {
        match &self.at {
            At::Here(engine) => Ok(engine.volumes()),
            At::There(keeper) => ask(keeper, Call::Volumes).await,
        }
    }

    /// [`Engine::extras`].
    pub async fn extras(&self) -> Answer<Vec<Extra>> {
        match &self.at {
            At::Here(engine) => Ok(engine.extras()),
            At::There(keeper) => ask(keeper, Call::Extras).await,
        }
    }

    /// [`Engine::found`].
    pub async fn found(&self, only: Option<&str>) -> Answer<BTreeMap<String, Found>> {
        let named = only.map(str::to_owned);
        match &self.at {
            At::Here(engine) => Ok(engine.found(only)),
            At::There(keeper) => ask(keeper, Call::Found { only: named }).await,
        }
    }

    /// [`Engine::wishes`].
    pub async fn wishes(&self) -> Answer<Vec<Create>> {
        match &self.at {
            At::Here(engine) => Ok(engine.wishes()),
            At::There(keeper) => ask(keeper, Call::Wishes).await,
        }
    }

    // ---- changes

    /// [`Engine::plan`].
    pub async fn plan(&self, request: &Request, stamp: &Stamp) -> Result<Plan, ChangeError> {
        match &self.at {
            At::Here(engine) => Ok(engine.plan(request, stamp).await?),
            At::There(keeper) => {
                let (request, stamp) = (request.clone(), stamp.clone());
                keeper.call(&Call::Plan { request, stamp }).await
            }
        }
    }

    /// [`Engine::apply`].
    pub async fn apply(&self, plan: &Plan) -> Result<Applied, ChangeError> {
        match &self.at {
            At::Here(engine) => engine.apply(plan).await,
            At::There(keeper) => {
                let plan = Box::new(plan.clone());
                keeper.call(&Call::Apply { plan }).await
            }
        }
    }

    /// [`Engine::change`].
    pub async fn change(&self, request: &Request, stamp: &Stamp) -> Result<Applied, ChangeError> {
        match &self.at {
            At::Here(engine) => engine.change(request, stamp).await,
            At::There(keeper) => {
                let (request, stamp) = (request.clone(), stamp.clone());
                keeper.call(&Call::Change { request, stamp }).await
            }
        }
    }

    /// [`Engine::undo`].
    pub async fn undo(&self, number: u64, stamp: &Stamp) -> Result<Applied, ChangeError> {
        match &self.at {
            At::Here(engine) => engine.undo(number, stamp).await,
            At::There(keeper) => {
                let stamp = stamp.clone();
                keeper.call(&Call::Undo { number, stamp }).await
            }
        }
    }

    /// [`Engine::can`], as JSON.
    pub async fn can(&self, verb: Option<&str>, object: &str) -> Result<Value, ChangeError> {
        match &self.at {
            At::Here(engine) => shape(&engine.can(verb, object).await?),
            At::There(keeper) => {
                let (verb, object) = (verb.map(str::to_owned), object.to_owned());
                keeper.call(&Call::Can { verb, object }).await
            }
        }
    }

    /// [`Engine::partition_table`], as JSON.
    pub async fn partition_table(&self, disk: &str) -> Result<Value, ChangeError> {
        match &self.at {
            At::Here(engine) => shape(&engine.partition_table(disk).await?),
            At::There(keeper) => {
                let disk = disk.to_owned();
                keeper.call(&Call::PartitionTable { disk }).await
            }
        }
    }

    /// [`Engine::copies`].
    pub async fn copies(&self) -> Result<Copies, ChangeError> {
        match &self.at {
            At::Here(engine) => engine.copies().await,
            At::There(keeper) => keeper.call(&Call::Copies).await,
        }
    }

    /// [`Engine::history`].
    pub async fn history(&self) -> Answer<Vec<Past>> {
        match &self.at {
            At::Here(engine) => Ok(engine.history()),
            At::There(keeper) => ask(keeper, Call::History).await,
        }
    }

    /// [`Engine::past`].
    pub async fn past(&self, number: u64) -> Answer<Option<Plan>> {
        match &self.at {
            At::Here(engine) => Ok(engine.past(number)),
            At::There(keeper) => ask(keeper, Call::Past { number }).await,
        }
    }

    /// [`Engine::archive`].
    pub async fn archive(&self, group: &str) -> Answer<Vec<u64>> {
        let named = group.to_owned();
        match &self.at {
            At::Here(engine) => Ok(engine.archive(group)),
            At::There(keeper) => ask(keeper, Call::Archive { group: named }).await,
        }
    }

    /// [`Engine::archived`].
    pub async fn archived(&self, group: &str, change: u64) -> Answer<Option<String>> {
        let named = group.to_owned();
        match &self.at {
            At::Here(engine) => Ok(engine.archived(group, change)),
            At::There(keeper) => ask(keeper, Call::Archived { group: named, change }).await,
        }
    }
}

/// For what only the engine itself can refuse.
async fn ask<T: DeserializeOwned>(keeper: &Keeper, call: Call) -> Answer<T> {
    keeper.call(&call).await.map_err(|why| match why {
        ChangeError::Engine(why) => why,
        ChangeError::Refused(Refusal { reason, .. }) => EngineError::Lost(reason),
        other => EngineError::Lost(other.to_string()),
    })
}
