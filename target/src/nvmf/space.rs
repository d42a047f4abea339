//! A subsystem's namespaces as one core sees them: open disks by namespace id. The I/O path looks here and nowhere else.
use super::{error::NvmfError, guard::Guard};
use bdev::graph::{Graph, Opened};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// Longest wait for the commands of a namespace that is taken away.
const HANGS: Duration = Duration::from_secs(5);

/// One namespace on this core.
pub struct Space {
    /// Its namespace id.
    pub nsid: u32,
    /// The volume, open on this core.
    pub disk: Opened,
    /// log2 of the block size.
    pub shift: u32,
    /// An acknowledged write may be lost unless flushed.
    pub volatile: Cell<bool>,
    /// What stands before it.
    pub guard: Arc<Guard>,
    /// Hidden from hosts that are not in `hosts`.
    hidden: bool,
    hosts: RefCell<Vec<String>>,
}

/// All namespaces of a subsystem on this core.
#[derive(Default)]
pub struct Spaces {
    by_id: RefCell<Vec<Option<Rc<Space>>>>,
}

thread_local! {
    static SPACES: RefCell<HashMap<u64, Rc<Spaces>>> = RefCell::new(HashMap::new());
}

impl Space {
    /// True if `host` may use it.
    pub fn visible_to(&self, host: &str) -> bool {
        !self.hidden || self.hosts.borrow().iter().any(|h| h == host)
    }
}

impl Spaces {
    /// The table of subsystem `id` on this core.
    pub fn of(id: u64) -> Rc<Spaces> {
        SPACES.with_borrow_mut(|all| all.entry(id).or_default().clone())
    }

    /// Forgets the table of a deleted subsystem.
    pub fn forget(id: u64) {
        SPACES.with_borrow_mut(|all| all.remove(&id));
    }

    /// The namespace `nsid`.
    pub fn get(&self, nsid: u32) -> Option<Rc<Space>> {
        // 0 wraps to an index nobody has; FFFFFFFFh is one, too.
        self.by_id.borrow().get(nsid.wrapping_sub(1) as usize)?.clone()
    }

    /// All namespaces with their ids.
    pub fn all(&self) -> Vec<(u32, Rc<Space>)> {
        let by_id = self.by_id.borrow();
        by_id
            .iter()
            .zip(1..)
            .filter_map(|(space, nsid)| Some((nsid, space.clone()?)))
            .collect()
    }

    /// Opens `volume` as namespace `nsid` on this core.
    pub async fn add(
        self: Rc<Self>,
        graph: Graph,
        nsid: u32,
        volume: String,
        hidden: bool,
        guard: Arc<Guard>,
    ) -> Result<(), NvmfError> {
        let disk = graph.open(&volume).await.map_err(|e| NvmfError::Volume {
            volume,
            why: e.to_string(),
        })?;
        let geometry = disk.geometry();
        let space = Space {
            shift: geometry.block_shift(),
            volatile: Cell::new(geometry.volatile_cache),
            nsid,
            disk,
            guard,
            hidden,
            hosts: RefCell::default(),
        };
        let mut by_id = self.by_id.borrow_mut();
        let at = nsid.wrapping_sub(1) as usize;
        if by_id.len() <= at {
            by_id.resize_with(at + 1, || None);
        }
        by_id[at] = Some(Rc::new(space));
        Ok(())
    }

    /// Takes a namespace away and waits until its last command here is done. A device that hangs is waited for
    /// [`HANGS`] at most; its commands keep the volume open until it answers.
    pub async fn remove(self: Rc<Self>, nsid: u32) {
        let taken = self
            .by_id
            .borrow_mut()
            .get_mut(nsid.wrapping_sub(1) as usize)
            .and_then(Option::take);
        if let Some(space) = taken {
            let until = reactor::now().0 + HANGS.as_nanos() as u64;
            while Rc::strong_count(&space) > 1 && reactor::now().0 < until {
                reactor::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// The hosts that may see a hidden namespace.
    pub fn set_hosts(&self, nsid: u32, hosts: Vec<String>) {
        if let Some(space) = self.get(nsid) {
            *space.hosts.borrow_mut() = hosts;
        }
    }
}
