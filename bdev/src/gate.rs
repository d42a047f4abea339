//! The place on top of a stack where a live device can be exchanged: close, drain, swap, open.
//!
//! Open, a gate is one more `map` (through a cell). Closed, it keeps what comes, on its upper side, and lets it go where the
//! gate then leads. Each core has a gate of its own for every node; [`graph`](crate::graph) moves them together.
use crate::{BlockDevice, Disk, Geometry, Io, IoResult, Mapped};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// See the [module](self). Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Rc<State>);

struct State {
    disk: RefCell<Disk>,
    closed: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
}

impl Gate {
    /// An open gate that leads to `disk`.
    pub fn new(disk: Disk) -> Self {
        Self(Rc::new(State {
            disk: RefCell::new(disk),
            closed: Cell::new(false),
            waiters: RefCell::default(),
        }))
    }

    /// The disk a user holds: as long as whatever lies behind the gate.
    pub fn disk(&self) -> Disk {
        Disk::growing(self.clone())
    }

    /// Where it leads.
    pub fn behind(&self) -> Disk {
        self.0.disk.borrow().clone()
    }

    /// Nothing passes from now on. What has passed may still be under way: see [`drain`](Self::drain).
    pub fn close(&self) {
        self.0.closed.set(true)
    }

    /// True if nothing passes.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Waits for what has passed. Several gates over common devices: close all of them first, then drain each.
    pub async fn drain(&self) {
        let disk = self.behind();
        disk.drain().await
    }

    /// [`close`](Self::close), then [`drain`](Self::drain).
    pub async fn suspend(&self) {
        self.close();
        self.drain().await
    }

    /// Leads somewhere else from now on; what is under way finishes where it is.
    pub fn swap(&self, disk: Disk) -> Disk {
        self.0.disk.replace(disk)
    }

    /// Everything passes again, first what waited.
    pub fn resume(&self) {
        self.0.closed.set(false);
        self.0.waiters.borrow_mut().drain(..).for_each(Waker::wake)
    }

    async fn opened(&self) {
        poll_fn(|cx| {
            if !self.0.closed.get() {
                return Poll::Ready(());
            }
            self.0.waiters.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl BlockDevice for Gate {
    fn geometry(&self) -> Geometry {
        self.0.disk.borrow().geometry()
    }

    #[inline]
    fn map(&self, _io: &mut Io) -> Mapped<'_> {
        match self.0.closed.get() {
            true => Mapped::Stay,
            false => Mapped::Through(self.0.disk.borrow()),
        }
    }

    async fn submit(&self, io: Io) -> IoResult {
        self.opened().await;
        let passed = self.0.disk.borrow().submit(io);
        passed.await
    }

    fn below(&self, visit: &mut dyn FnMut(&Disk)) {
        visit(&self.0.disk.borrow())
    }
}
