//! One session's view of a target: its volumes open on the session's core, and what its host has been told.
use super::{
    NexusId,
    copy::Copies,
    news::{News, SharedNews},
    ports::Ports,
    reservation::Verdict,
    server::sense_of,
    task_set::Tasks,
    unit::{Device, Happening, Table, Unit},
};
use bdev::{
    Io,
    graph::{Graph, Opened},
};
use spec::scsi::{AccessState, Lun, Sense};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

/// A unit, open on this core.
pub struct Open {
    /// What all sessions share of it.
    pub unit: Arc<Unit>,
    /// Its volume.
    pub disk: Opened,
    news: News,
    /// The longest command is this many blocks.
    pub(super) limit: u32,
    pub(super) graph: Graph,
    pub(super) device: Arc<Device>,
    pub(super) nexus: NexusId,
    pub(super) session: u64,
    pub(super) tasks: Rc<Tasks>,
    /// Every command may be done: no reservation is in the way, and the port is active.
    pub(super) free: Cell<bool>,
    verdict: Cell<Verdict>,
    access: Cell<AccessState>,
}

impl Open {
    /// The next thing the host has to be told before anything else is done for it.
    pub fn attention(&self) -> Option<Sense> {
        let changes = self.unit.changes();
        let blocks = self.disk.blocks();
        let behind = self.news.is_behind(changes);
        self.news.with(|told| {
            // The graph's word for a new size counts even if nobody told the front end.
            told.size(blocks);
            let pending = told.pending(changes);
            if pending || behind {
                told.notice(self.look());
            }
            match pending {
                true => told.next(&self.unit, changes),
                false => None,
            }
        })
    }

    /// Nobody can write, whatever hosts set.
    pub(super) fn read_only(&self) -> bool {
        self.unit.options.read_only || self.disk.geometry().read_only
    }

    /// Logical block provisioning management is there (LBPME = 1).
    pub(super) fn thin(&self) -> bool {
        self.unit.options.thin(&self.disk.geometry())
    }

    /// Every write must be on stable storage before its status (WCE = 0).
    pub(super) fn write_through(&self) -> bool {
        !self.unit.settings().write_cache && self.disk.geometry().volatile_cache
    }

    /// What is read next comes from the medium: whatever a volatile cache has of it that is newer is put there first (SBC-4 4.15:
    /// FUA of reads, VERIFY).
    pub(super) async fn reach_medium(&self) -> Result<(), Sense> {
        // Where WCE = 0 nothing newer is in a cache; where nobody can write, neither.
        if self.unit.settings().write_cache && !self.disk.geometry().read_only {
            self.settle().await?
        }
        Ok(())
    }

    /// Puts on stable storage what has been written.
    pub(super) async fn settle(&self) -> Result<(), Sense> {
        let done = self.disk.perform(Io::flush()).await;
        done.map_err(|error| sense_of(error, true))
    }

    /// Finds out what reservations allow now; what this nexus alone is to be told.
    fn look(&self) -> u8 {
        let (verdict, notices) = self.unit.reservations.look(&self.unit, &self.nexus, self.session);
        self.verdict.set(verdict);
        self.judge();
        notices
    }

    fn judge(&self) {
        self.free
            .set(self.verdict.get() == Verdict::All && self.access.get().is_active());
    }

    /// What reservations allow.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict.get()
    }

    /// The state of the port the nexus came through.
    pub(super) fn access(&self) -> AccessState {
        self.access.get()
    }

    fn set_access(&self, state: AccessState) {
        self.access.set(state);
        self.judge();
    }

    /// Relative identifiers of the target's ports.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.device.ports().groups().iter().map(|group| group.tag).collect()
    }

    /// This nexus changed states of ports, and need not be told. `change` says whether others must be.
    pub(super) fn caused_access(&self, change: impl FnOnce(&mut Ports) -> bool) {
        self.device.edit_ports(change);
        self.told(Happening::Access);
    }

    /// This nexus caused it, so it need not be told.
    pub(super) fn caused(&self, what: Happening) {
        self.unit.happened(what);
        self.news.with(|told| told.skip_one(&self.unit, what));
    }

    /// The host has seen it another way.
    pub(super) fn told(&self, what: Happening) {
        self.news.with(|told| told.skip_one(&self.unit, what));
    }
}

/// The end of a nexus.
impl Drop for Open {
    fn drop(&mut self) {
        if self.unit.options.removable {
            self.unit.medium.prevent(self.session, false);
        }
        self.unit.tasks.leave(&self.tasks);
        self.unit.reservations.leave(&self.unit, &self.nexus, self.session);
    }
}

struct View {
    version: u32,
    table: Arc<Table>,
    open: Vec<Rc<Open>>,
}

/// An initiator, a target and the session between them (I_T nexus), on the session's core.
pub struct Nexus {
    graph: Graph,
    device: Arc<Device>,
    id: NexusId,
    session: u64,
    max_transfer: u32,
    news: Option<SharedNews>,
    view: RefCell<View>,
    pub(super) copies: Copies,
}

impl Nexus {
    /// A new session: everything is still to be told. `session` differs from those of all other sessions. No command moves
    /// more than `max_transfer` bytes.
    pub fn new(graph: Graph, device: Arc<Device>, id: NexusId, session: u64, max_transfer: u32) -> Self {
        let (version, table) = device.table();
        Self {
            graph,
            device,
            id,
            session,
            max_transfer,
            news: None,
            view: RefCell::new(View {
                version,
                table,
                open: Vec::new(),
            }),
            copies: Copies::default(),
        }
    }

    /// The same, as one of several connections that tell their host the news together.
    pub fn sharing(self, news: Option<SharedNews>) -> Self {
        Self { news, ..self }
    }

    /// The target.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The units there are now. Closes those that are gone.
    pub fn refresh(&self) {
        let mut view = self.view.borrow_mut();
        if view.version != self.device.version() {
            let (version, table) = self.device.table();
            view.open.retain(|open| {
                table
                    .get(&open.unit.lun)
                    .is_some_and(|unit| Arc::ptr_eq(unit, &open.unit))
            });
            let access = self.device.ports().access(self.id.port);
            view.open.iter().for_each(|open| open.set_access(access));
            (view.version, view.table) = (version, table);
        }
    }

    /// Numbers of all units, in order.
    pub fn luns(&self) -> Vec<Lun> {
        self.refresh();
        self.view.borrow().table.keys().copied().collect()
    }

    /// The unit at this number, opened at its first use.
    pub async fn open(&self, lun: Lun) -> Result<Rc<Open>, Sense> {
        self.refresh();
        let unit = {
            let view = self.view.borrow();
            if let Some(open) = view.open.iter().find(|open| open.unit.lun == lun) {
                return Ok(open.clone());
            }
            view.table.get(&lun).cloned().ok_or(Sense::NO_LUN)?
        };
        let disk = self.graph.open(&unit.volume).await.map_err(|_| Sense::NOT_READY)?;
        let mut view = self.view.borrow_mut();
        // Another slot may have been faster, or the unit may be gone by now.
        if let Some(open) = view.open.iter().find(|open| Arc::ptr_eq(&open.unit, &unit)) {
            return Ok(open.clone());
        }
        unit.reservations.enter(&unit, &self.id, self.session);
        let open = Rc::new(Open {
            news: News::new(&unit, self.news.as_ref()),
            limit: self.max_transfer / disk.block_size(),
            disk,
            graph: self.graph.clone(),
            device: self.device.clone(),
            nexus: self.id.clone(),
            session: self.session,
            tasks: unit.tasks.join(self.id.clone(), self.session),
            free: Cell::new(false),
            verdict: Cell::default(),
            access: Cell::new(self.device.ports().access(self.id.port)),
            unit,
        });
        let notices = open.look();
        open.news.with(|told| {
            told.notice(notices);
            told.size(open.disk.blocks());
        });
        if view.table.get(&lun).is_some_and(|unit| Arc::ptr_eq(unit, &open.unit)) {
            view.open.push(open.clone());
        }
        Ok(open)
    }

    /// LUN and target resets, and CLEAR TASK SET: every unit of `table` at `lun` (or each) hears of it.
    /// False if there is no such unit.
    pub fn happened(&self, lun: Option<Lun>, what: Happening) -> bool {
        self.refresh();
        let view = self.view.borrow();
        let hit = |unit: &&Arc<Unit>| lun.is_none_or(|lun| lun == unit.lun);
        let mut any = false;
        for unit in view.table.values().filter(hit) {
            any = true;
            unit.happened(what);
            if what == Happening::Reset {
                unit.reset();
            } else if let Some(open) = view.open.iter().find(|open| Arc::ptr_eq(&open.unit, unit)) {
                open.told(what);
            }
        }
        any
    }

    /// True if there is a unit at this number.
    pub fn has(&self, lun: Lun) -> bool {
        self.refresh();
        self.view.borrow().table.contains_key(&lun)
    }

    /// Every unit's news about LUNs count as told: the host has just read the list.
    pub(super) fn told_luns(&self) {
        self.view
            .borrow()
            .open
            .iter()
            .for_each(|open| open.told(Happening::Luns));
    }
}
